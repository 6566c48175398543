"""What the pure tests share: vector files, PUBLIC test keys, and HKDF written out."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent.parent / "vectors"


def vectors(name: str) -> list[dict[str, Any]]:
    """The cases of a vector file."""
    cases: list[dict[str, Any]] = json.loads((VECTORS / name).read_text(encoding="utf-8"))["cases"]
    return cases


PUBLIC_TEST_KEYS = {
    case["name"]: (int(case["p"], 16), int(case["q"], 16)) for case in vectors("paillier_test_keys.json")
}


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 section 2.3, SHA-256."""
    okm, block = b"", b""
    while len(okm) < length:
        block = hmac.digest(prk, block + info + bytes([len(okm) // 32 + 1]), "sha256")
        okm += block
    return okm[:length]


def hkdf_sha256(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, written out."""
    return hkdf_expand(hmac.digest(salt or bytes(32), ikm, "sha256"), info, length)
