"""Money as an integer of minor units of one currency (R2). A float never enters."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from mpcredit.errors import ValueOutOfRange

__all__ = ["CURRENCIES", "Money", "exponent"]

# Digits after the point, from ISO 4217 list one. A currency that is missing here is refused rather than guessed.
CURRENCIES: Final[dict[str, int]] = {
    "AED": 2,
    "AUD": 2,
    "BDT": 2,
    "BHD": 3,
    "BRL": 2,
    "CAD": 2,
    "CHF": 2,
    "CLP": 0,
    "CNY": 2,
    "COP": 2,
    "CZK": 2,
    "DKK": 2,
    "EGP": 2,
    "ETB": 2,
    "EUR": 2,
    "GBP": 2,
    "GHS": 2,
    "HKD": 2,
    "HUF": 2,
    "IDR": 2,
    "ILS": 2,
    "INR": 2,
    "IQD": 3,
    "ISK": 0,
    "JOD": 3,
    "JPY": 0,
    "KES": 2,
    "KHR": 2,
    "KRW": 0,
    "KWD": 3,
    "LAK": 2,
    "LKR": 2,
    "MAD": 2,
    "MMK": 2,
    "MNT": 2,
    "MOP": 2,
    "MXN": 2,
    "MYR": 2,
    "NGN": 2,
    "NOK": 2,
    "NPR": 2,
    "NZD": 2,
    "OMR": 3,
    "PEN": 2,
    "PHP": 2,
    "PKR": 2,
    "PLN": 2,
    "PYG": 0,
    "QAR": 2,
    "RON": 2,
    "RUB": 2,
    "RWF": 0,
    "SAR": 2,
    "SEK": 2,
    "SGD": 2,
    "THB": 2,
    "TND": 3,
    "TRY": 2,
    "TWD": 2,
    "TZS": 2,
    "UAH": 2,
    "UGX": 0,
    "USD": 2,
    "UYU": 2,
    "VND": 0,
    "XAF": 0,
    "XOF": 0,
    "ZAR": 2,
    "ZMW": 2,
}

_MAJOR = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?", re.ASCII)
# What people type: one kind of separator, in groups of exactly three digits throughout.
_GROUPED = re.compile(
    r"-?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?|-?[1-9][0-9]{0,2}(?:[ _'][0-9]{3})+(?:\.[0-9]+)?", re.ASCII
)


def exponent(currency: str) -> int:
    """Return the number of digits after the point.

    Raises:
        ValueOutOfRange: a currency code that is not in `CURRENCIES`.
    """
    try:
        return CURRENCIES[currency]
    except (KeyError, TypeError):
        raise ValueOutOfRange(
            f"{currency!r} is not a currency code known here", remedy="write an ISO 4217 code such as TWD or USD"
        ) from None


@dataclass(frozen=True, init=False)
class Money:
    """An amount of one currency."""

    minor: int
    """The amount in minor units (cents, fen); may be negative after a subtraction."""
    currency: str
    """ISO 4217 code, for example "TWD"."""

    def __init__(self, major: str | int | Decimal, currency: str) -> None:
        """Read an amount in major units: `Money("200000.50", "TWD")`.

        Raises:
            ValueOutOfRange: a float, grouping commas, more digits after the point than the currency has, or an
                unknown currency.
        """
        object.__setattr__(self, "minor", _minor_units(major, exponent(currency)))
        object.__setattr__(self, "currency", currency)

    @classmethod
    def typed(cls, text: str, currency: str) -> Money:
        """Read an amount as a person types it: `Money.typed("200,000.50", "TWD")`.

        Commas, spaces, apostrophes or underscores may separate groups of exactly three digits. A currency with three digits
        after the point takes no separator, since 1,234 could mean 1.234 there. Books and programs use the constructor, which
        takes none.

        Raises:
            ValueOutOfRange: anything else, a decimal comma among it.
        """
        plain = unicodedata.normalize("NFKC", text).strip().replace("\u2019", "'")
        if re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?", plain, re.ASCII):
            return cls(plain, currency)
        digits, separated = exponent(currency), re.search(r"[0-9][, _'][0-9]", plain, re.ASCII)
        if separated and digits == 3:
            raise ValueOutOfRange(
                f"an amount in {currency} is written without separators", remedy="write 200000.500, with a point"
            )
        if _GROUPED.fullmatch(plain) and len(set(plain) & set(", _'")) == 1:
            return cls(re.sub(r"[, _']", "", plain), currency)
        if "," in plain and re.fullmatch(r"[-0-9., _']+", plain, re.ASCII):
            raise ValueOutOfRange(
                "a comma stands only before groups of exactly three digits, and is no decimal point",
                remedy="write 200000.50" if digits else "write 200000",
            )
        return cls(plain, currency)

    @classmethod
    def of_minor(cls, minor: int, currency: str) -> Money:
        """Make an amount from minor units (cents, fen)."""
        exponent(currency)
        if isinstance(minor, bool) or not isinstance(minor, int):
            raise ValueOutOfRange("minor units must be an integer", remedy="never use a float for money")
        money = object.__new__(cls)
        object.__setattr__(money, "minor", minor)
        object.__setattr__(money, "currency", currency)
        return money

    def __str__(self) -> str:
        digits = exponent(self.currency)
        sign = "-" if self.minor < 0 else ""
        whole, rest = divmod(abs(self.minor), 10**digits)
        fraction = f".{rest:0{digits}d}" if digits else ""
        return f"{sign}{whole:,}{fraction} {self.currency}"

    def __add__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money.of_minor(self.minor + other.minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money.of_minor(self.minor - other.minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        self._same_currency(other)
        return self.minor < other.minor

    def __le__(self, other: Money) -> bool:
        self._same_currency(other)
        return self.minor <= other.minor

    def __gt__(self, other: Money) -> bool:
        self._same_currency(other)
        return self.minor > other.minor

    def __ge__(self, other: Money) -> bool:
        self._same_currency(other)
        return self.minor >= other.minor

    def _same_currency(self, other: Money) -> None:
        if not isinstance(other, Money):
            raise TypeError(f"money and {type(other).__name__} do not mix")
        if self.currency != other.currency:
            raise ValueError(f"{self.currency} and {other.currency} do not mix")


def _minor_units(major: str | int | Decimal, digits: int) -> int:
    if isinstance(major, int) and not isinstance(major, bool):
        return major * int(10**digits)
    if isinstance(major, Decimal):
        if not major.is_finite():
            raise ValueOutOfRange("an amount must be a finite number")
        text = format(major, "f")
    elif isinstance(major, str):
        text = major.strip()
    else:
        raise ValueOutOfRange(
            f"an amount cannot be a {type(major).__name__}", remedy='write it as text or Decimal: Money("0.10", "TWD")'
        )
    match = _MAJOR.fullmatch(text)
    if match is None:
        raise ValueOutOfRange(
            "an amount is digits with at most one decimal point", remedy="write 200000.50, without commas or symbols"
        )
    sign, whole, fraction = match.group(1), match.group(2), match.group(3) or ""
    if len(fraction) > digits:
        raise ValueOutOfRange(
            f"an amount with {len(fraction)} digits after the point, but the currency has {digits}",
            remedy="round it in the books, not here",
        )
    minor = int(whole + fraction.ljust(digits, "0"))
    return -minor if sign else minor
