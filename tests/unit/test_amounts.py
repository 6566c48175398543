"""R2: money is an integer of minor units, and never a float."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcredit.amounts import CURRENCIES, Money, exponent
from mpcredit.errors import ValueOutOfRange


@pytest.mark.parametrize(
    ("major", "currency", "minor"),
    [
        ("200000", "TWD", 20_000_000),
        (200000, "TWD", 20_000_000),
        ("0.1", "USD", 10),
        (Decimal("0.10"), "USD", 10),
        (Decimal("1E+3"), "USD", 100_000),
        ("-0.05", "EUR", -5),
        ("7", "JPY", 7),
        ("1.234", "KWD", 1234),
        (" 12.30 ", "CNY", 1230),
    ],
)
def test_money__in_major_units__is_counted_in_minor_ones(major: str, currency: str, minor: int) -> None:
    assert Money(major, currency) == Money.of_minor(minor, currency)


@pytest.mark.parametrize(
    ("major", "currency"),
    [
        (0.1, "USD"),
        (True, "USD"),
        (None, "USD"),
        ("1,000", "USD"),
        ("1.001", "USD"),
        ("0.5", "JPY"),
        ("1e3", "USD"),
        ("１", "USD"),
        ("", "USD"),
        (".5", "USD"),
        ("5.", "USD"),
        ("NaN", "USD"),
        (Decimal("NaN"), "USD"),
        (Decimal("Infinity"), "USD"),
        ("1", "usd"),
        ("1", "XXX"),
        ("1", None),
    ],
)
def test_money__anything_else__is_refused(major: object, currency: str) -> None:
    with pytest.raises(ValueOutOfRange):
        Money(major, currency)  # type: ignore[arg-type]


@pytest.mark.parametrize("minor", [1.0, "1", True, None])
def test_of_minor__not_an_integer__is_refused(minor: object) -> None:
    with pytest.raises(ValueOutOfRange):
        Money.of_minor(minor, "USD")  # type: ignore[arg-type]


@given(st.integers(-(10**15), 10**15), st.sampled_from(sorted(CURRENCIES)))
def test_str__without_its_commas__is_read_back(minor: int, currency: str) -> None:
    money = Money.of_minor(minor, currency)

    text, code = str(money).split(" ")

    assert Money(text.replace(",", ""), code) == money


def test_str__of_a_large_amount__is_grouped() -> None:
    assert str(Money("200000", "TWD")) == "200,000.00 TWD"
    assert str(Money("-1234567", "JPY")) == "-1,234,567 JPY"


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_arithmetic__in_one_currency__is_that_of_integers(a: int, b: int) -> None:
    x, y = Money.of_minor(a, "USD"), Money.of_minor(b, "USD")

    assert ((x + y).minor, (x - y).minor) == (a + b, a - b)
    assert (x < y, x <= y, x > y, x >= y) == (a < b, a <= b, a > b, a >= b)


@pytest.mark.parametrize("operation", ["__add__", "__sub__", "__lt__", "__le__", "__gt__", "__ge__"])
def test_arithmetic__two_currencies__is_refused(operation: str) -> None:
    with pytest.raises(ValueError, match="do not mix"):
        getattr(Money("1", "USD"), operation)(Money("1", "EUR"))
    with pytest.raises(TypeError):
        getattr(Money("1", "USD"), operation)(1)


def test_exponent__of_iso_4217__fits_a_sample() -> None:
    assert {code: exponent(code) for code in ("TWD", "CNY", "USD", "EUR", "JPY", "KRW", "VND", "KWD", "BHD")} == {
        "TWD": 2,
        "CNY": 2,
        "USD": 2,
        "EUR": 2,
        "JPY": 0,
        "KRW": 0,
        "VND": 0,
        "KWD": 3,
        "BHD": 3,
    }


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("200000", "TWD", 20_000_000),
        ("200000.5", "TWD", 20_000_050),
        ("200,000.50", "TWD", 20_000_050),
        ("1,234,567", "TWD", 123_456_700),
        ("200 000.50", "TWD", 20_000_050),
        ("200\u00a0000", "TWD", 20_000_000),
        ("200\u202f000", "EUR", 20_000_000),
        ("200'000.50", "CHF", 20_000_050),
        ("200\u2019000", "CHF", 20_000_000),
        ("200_000", "TWD", 20_000_000),
        (" 200000 ", "TWD", 20_000_000),
        ("２００，０００", "TWD", 20_000_000),
        ("1,234", "JPY", 1_234),
        ("1234.567", "KWD", 1_234_567),
        ("0.50", "TWD", 50),
    ],
)
def test_typed__as_people_write_it__is_that_amount(text: str, currency: str, minor: int) -> None:
    assert Money.typed(text, currency) == Money.of_minor(minor, currency)


@pytest.mark.parametrize(
    ("text", "currency", "remedy"),
    [
        ("200000,50", "TWD", "write 200000.50"),
        ("1234,5", "TWD", "write 200000.50"),
        ("1,5", "TWD", "write 200000.50"),
        ("200,00", "TWD", "write 200000.50"),
        ("12,34,567.00", "TWD", "write 200000.50"),
        ("1 000,00", "TWD", "write 200000.50"),
        ("1.000,00", "TWD", "write 200000.50"),
        ("1,000 000", "TWD", "write 200000.50"),
        ("0,500", "TWD", "write 200000.50"),
        ("1234,567", "TWD", "write 200000.50"),
        ("1,2345", "TWD", "write 200000.50"),
        (",500", "TWD", "write 200000.50"),
        ("1,234,", "TWD", "write 200000.50"),
        ("1,234", "KWD", "without separators"),
        ("1 234", "BHD", "without separators"),
        ("1,234.567", "TND", "without separators"),
        ("1,5", "JPY", "write 200000"),
        ("1.000", "TWD", "3 digits after the point"),
        ("1.000.000", "TWD", "at most one decimal point"),
        ("1 00", "TWD", "at most one decimal point"),
        ("1e6", "TWD", "at most one decimal point"),
        ("NT$200000", "TWD", "at most one decimal point"),
        ("", "TWD", "at most one decimal point"),
    ],
)
def test_typed__what_could_mean_something_else__is_refused(text: str, currency: str, remedy: str) -> None:
    with pytest.raises(ValueOutOfRange) as caught:
        Money.typed(text, currency)
    assert remedy in str(caught.value)


@given(st.integers(0, 2**60), st.sampled_from(["TWD", "JPY", "EUR"]))
def test_typed__the_written_form_of_any_amount__is_read_back(minor: int, currency: str) -> None:
    money = Money.of_minor(minor, currency)

    assert Money.typed(str(money).removesuffix(f" {currency}"), currency) == money
