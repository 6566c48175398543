"""The canonical identity (R3, without the check digits) and the tags that are made from it (R4)."""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Sequence

from .encodings import sha256, unsigned

# Space, hyphen, dot, slash and middle dot in the forms that NFKC leaves apart.
SEPARATORS = frozenset(" \t-\u2010\u2011\u2012\u2013\u2014\u2015\u2212./\u00b7\u2027\u30fb\u3002")
FIFTEEN_DIGITS_TO_EIGHTEEN = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def normal_form(text: str) -> str:
    """NFKC, upper case, without separators."""
    return "".join(sign for sign in unicodedata.normalize("NFKC", text).upper() if sign not in SEPARATORS)


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
