"""The tenure of a store: the 32 random bytes that tell one store of a member from every other (R25)."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.ports import Store

__all__ = ["tenure_of"]


def tenure_of(store: Store, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """The tenure of a store; an empty store begins one."""
    known = store.get("meta", "tenure")
    if known is None:
        known = {"tenure": to_hex(random_bytes(32))}
        store.insert("meta", "tenure", known)
    return hex_bytes(known["tenure"], 32)
