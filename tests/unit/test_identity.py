"""R3: one canonical form of each identity; vectors in tests/vectors/identity.json."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pure_support import vectors
from stdnum.cn import ric

from mpcredit.errors import InvalidSubject
from mpcredit.identity import COUNTRIES, Subject

CASES = vectors("identity.json")


@pytest.mark.parametrize("case", [c for c in CASES if c["canonical"]], ids=lambda c: c["cause"])
def test_subject__valid_vector__is_canonical(case: dict[str, Any]) -> None:
    subject = Subject(case["kind"], case["number"], country=case["country"])

    assert subject.number == case["canonical"]
    assert Subject(case["kind"], subject.number, subject.country) == subject
    assert subject.canonical == f"mpcredit/identity/2|{case['kind']}|{subject.country}|{case['canonical']}".encode()


@pytest.mark.parametrize("case", [c for c in CASES if not c["canonical"]], ids=lambda c: c["cause"])
def test_subject__invalid_vector__is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidSubject):
        Subject(case["kind"], case["number"], country=case["country"])


@given(st.from_regex(r"[A-Z][12][0-9]{7}", fullmatch=True))
def test_taiwan_person__each_number__has_exactly_one_check_digit(start: str) -> None:
    valid = []
    for digit in "0123456789":
        try:
            valid.append(Subject("national_id", start + digit, "TW"))
        except InvalidSubject:
            continue

    assert len(valid) == 1


@given(st.dates(), st.integers(0, 995))
def test_china_person__15_digits__become_the_18_of_the_same_person(date: Any, sequence: int) -> None:
    if not 1900 <= date.year <= 1999:
        date = date.replace(year=1904)
    long = f"110105{date:%Y%m%d}{sequence:03d}"
    long += ric.calc_check_digit(long + "0")

    short = Subject("national_id", long[:6] + long[8:17], "CN")

    assert short == Subject("national_id", long, "CN")


@given(st.text(max_size=24), st.sampled_from(["TW", "CN", "US"]), st.sampled_from(["national_id", "company"]))
def test_subject__any_text__is_canonical_or_refused(text: str, country: str, kind: str) -> None:
    try:
        subject = Subject(kind, text, country)
    except InvalidSubject:
        return
    assert subject.number.isascii()
    assert subject.number.isalnum()
    assert subject.number == subject.number.upper()
    assert subject.canonical.count(b"|") == 3


@pytest.mark.parametrize("number", [123456789, None, b"A123456789", 1.0])
def test_subject__number_that_is_not_text__is_refused(number: object) -> None:
    with pytest.raises(InvalidSubject):
        Subject("national_id", number, "TW")  # type: ignore[arg-type]


def test_countries__of_iso_3166__are_249() -> None:
    assert len(COUNTRIES) == 249
    assert {"TW", "CN", "GB"} <= COUNTRIES
    assert COUNTRIES.isdisjoint({"UK", "EU", "XX"})


def test_repr__of_a_subject__shows_three_characters_only() -> None:
    subject = Subject("national_id", "A123456789", "TW")

    for text in (repr(subject), str(subject), f"{subject}"):
        assert "789" in text
        assert "6789" not in text
        assert "A1" not in text


def test_error__for_a_wrong_number__does_not_repeat_it() -> None:
    with pytest.raises(InvalidSubject) as caught:
        Subject("national_id", "A123456788", "TW")

    assert "456788" not in str(caught.value) + repr(caught.value)
