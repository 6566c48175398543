"""Commitments to subject (R16) and report (R30), what is sealed to the supervisor (R20, R30)."""

from __future__ import annotations

from collections.abc import Sequence

from .encodings import sha256, unsigned
from .paillier import ciphertext_bytes, width


def subject_commitment(content_key: bytes, padded_list: bytes) -> bytes:
    """SHA-256(`mpcredit/subject/2` || K || padded list) (R16)."""
    return sha256(b"mpcredit/subject/2", content_key, padded_list)


def disclosure_info(context: bytes, member: int, ciphertexts: bytes) -> bytes:
    """The HPKE info of a disclosure (R20)."""
    return b"mpcredit/disclosure/2" + context + unsigned(member, 8) + sha256(ciphertexts)


def report_salt(p: int, other: int, inquiry: bytes, aggregate: Sequence[int]) -> bytes:
    """The salt of a report: the smaller prime factor is its secret (R30)."""
    n = p * other
    smaller = min(p, other).to_bytes(width(n) // 2, "big")
    blocks = b"".join(ciphertext_bytes(n, c) for c in aggregate)
    return sha256(b"mpcredit/report-salt/2", smaller, inquiry, blocks)


def report_commitment(modulus: int, inquiry: bytes, salt: bytes, openings: Sequence[tuple[int, int]]) -> bytes:
    """SHA-256(`mpcredit/report/2` || q || salt || m_1 || r_1 || ...) (R30)."""
    size = width(modulus)
    numbers = b"".join(m.to_bytes(size, "big") + r.to_bytes(size, "big") for m, r in openings)
    return sha256(b"mpcredit/report/2", inquiry, salt, numbers)


def report_body(modulus: int, salt: bytes, openings: Sequence[tuple[int, int]]) -> bytes:
    """What the event of a report holds, before it is sealed: u8 2 || u8 blocks || salt || r_1 || ... (R30)."""
    roots = b"".join(r.to_bytes(width(modulus), "big") for _, r in openings)
    return unsigned(2, 8) + unsigned(len(openings), 8) + salt + roots


def report_info(inquiry: bytes, context: bytes) -> bytes:
    """The HPKE info of a report (R30)."""
    return b"mpcredit/report-seal/2" + inquiry + context
