"""The canonical identity (R3, without the check digits) and the tags that are made from it (R4)."""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Sequence

from .encodings import sha256, unsigned

SEPARATORS = frozenset("./·•‧∙⋅・")
"""Beside white space and dashes."""
FIFTEEN_DIGITS_TO_EIGHTEEN = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def normal_form(text: str) -> str:
    """NFKC, without separators, upper case."""
    kept = [sign for sign in unicodedata.normalize("NFKC", text) if not _separates(sign)]
    if not all(sign.isascii() for sign in kept):
        raise ValueError("a sign that no such number has")
    return "".join(kept).upper()


def _separates(sign: str) -> bool:
    return sign.isspace() or sign in SEPARATORS or unicodedata.category(sign) == "Pd"


def eighteen_digits(number: str) -> str:
    """A Chinese id of 15 digits (born 19xx) with 18: GB 11643-1999."""
    seventeen = number[:6] + "19" + number[6:]
    total = sum(weight * int(digit) for weight, digit in zip(FIFTEEN_DIGITS_TO_EIGHTEEN, seventeen, strict=True))
    return seventeen + "10X98765432"[total % 11]


def canonical_identity(kind: str, country: str, number: str) -> bytes:
    """`mpcredit/identity/2|kind|COUNTRY|NUMBER` (R3)."""
    country, number = normal_form(country), normal_form(number)
    if (kind, country, len(number)) == ("national_id", "CN", 15):
        number = eighteen_digits(number)
    return f"mpcredit/identity/2|{kind}|{country}|{number}".encode()


def tag(keys: Sequence[bytes], identity: bytes) -> bytes:
    """The tag of an identity under the version len(keys); keys[0] is the one of version 1."""
    raised = identity
    for key in keys:
        raised = hmac.digest(key, b"mpcredit/tag/2" + raised, "sha256")
    return raised


def raise_tag(later_keys: Sequence[bytes], earlier: bytes) -> bytes:
    """Raise a tag by the keys of the versions that follow its own (R4.1)."""
    return tag(later_keys, earlier)


def tag_key_commitment(version: int, key: bytes) -> bytes:
    """What the ledger holds of a tag key."""
    return sha256(b"mpcredit/tagkey/2", unsigned(version, 32), key)
