"""The receiver's half of HPKE (RFC 9180), from the raw X25519 secret: for private keys that agree, and show nothing.

One suite, base mode, one message: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, sequence number 0. The
cryptography package opens only with a private key in this process; a key in a token gives no more than its X25519 with a
public key. Sealing needs no private key of ours and stays with the package (`sealing.hpke_seal`); the published cases of
the RFC hold for what is here, and the package's ciphertexts open with it. Whose key, and for what, is said above.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from mpcredit.encoding import int_to_bytes

__all__ = ["key_and_nonce", "open_from_secret"]

_VERSION: Final = b"HPKE-v1"
_KEM: Final = b"KEM" + bytes.fromhex("0020")
"""suite_id of the KEM: DHKEM(X25519, HKDF-SHA256) is 0x0020."""
_SUITE: Final = b"HPKE" + bytes.fromhex("0020" + "0001" + "0003")
"""suite_id of the whole: that KEM, HKDF-SHA256 and ChaCha20Poly1305."""
_MODE_BASE: Final = b"\0"
_HASH_BYTES: Final = 32
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


def key_and_nonce(dh: bytes, enc: bytes, public: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Derive the key and the nonce of the one message: Decap and KeySchedule (sections 4.1 and 5.1).

    Args:
        dh: X25519 of the receiver's private key with `enc`, 32 bytes.
        enc: the sender's encapsulated key, as sent.
        public: the receiver's public key.
        info: what the message is bound to.
    """
    # (1) Decap: ExtractAndExpand(dh, enc || pkRm).
    shared = _expand(_KEM, _extract(_KEM, b"", b"eae_prk", dh), b"shared_secret", enc + public, _HASH_BYTES)
    # (2) KeySchedule in base mode: no psk, no psk_id.
    context = _MODE_BASE + _extract(_SUITE, b"", b"psk_id_hash", b"") + _extract(_SUITE, b"", b"info_hash", info)
    secret = _extract(_SUITE, shared, b"secret", b"")
    # (3) The nonce of sequence number 0 is base_nonce itself.
    return (
        _expand(_SUITE, secret, b"key", context, _KEY_BYTES),
        _expand(_SUITE, secret, b"base_nonce", context, _NONCE_BYTES),
    )


def open_from_secret(dh: bytes, sealed: bytes, public: bytes, info: bytes, aad: bytes = b"") -> bytes:
    """Open enc (32 bytes) || ciphertext.

    Raises:
        cryptography.exceptions.InvalidTag: another key, other `info` or `aad`, or altered.
    """
    key, nonce = key_and_nonce(dh, sealed[:_KEY_BYTES], public, info)
    return ChaCha20Poly1305(key).decrypt(nonce, sealed[_KEY_BYTES:], aad)


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    # HKDF-Extract of RFC 5869 is one HMAC; an absent salt is a block of zeros, which HMAC makes of the empty key.
    return hmac.digest(salt, _VERSION + suite + label + ikm, "sha256")


def _expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = int_to_bytes(length, 2) + _VERSION + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, labelled).derive(key)
