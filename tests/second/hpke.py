"""HKDF-SHA-256 (RFC 5869) and HPKE (RFC 9180): base mode, X25519, HKDF-SHA-256, ChaCha20-Poly1305 (R10, R20)."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEM_ID = 0x0020
KDF_ID = 0x0001
AEAD_ID = 0x0003
KEM_SUITE = b"KEM" + KEM_ID.to_bytes(2, "big")
HPKE_SUITE = b"HPKE" + KEM_ID.to_bytes(2, "big") + KDF_ID.to_bytes(2, "big") + AEAD_ID.to_bytes(2, "big")
BASE_MODE = b"\0"


def hkdf_extract(salt: bytes, material: bytes) -> bytes:
    """HKDF-Extract; an empty salt stands for 32 zeros."""
    return hmac.digest(salt or bytes(32), material, "sha256")


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand."""
    output, last, counter = b"", b"", 1
    while len(output) < length:
        last = hmac.digest(key, last + info + bytes([counter]), hashlib.sha256)
        output, counter = output + last, counter + 1
    return output[:length]


def hkdf(material: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF: extract, then expand."""
    return hkdf_expand(hkdf_extract(salt, material), info, length)


def public_key(private: bytes) -> bytes:
    """The X25519 public key, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def agree(private: bytes, public: bytes) -> bytes:
    """The X25519 shared secret, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def _labelled_extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite + label + material)


def _labelled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return hkdf_expand(key, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def _shared_secret(agreed: bytes, encapsulated: bytes, recipient: bytes) -> bytes:
    extracted = _labelled_extract(KEM_SUITE, b"", b"eae_prk", agreed)
    return _labelled_expand(KEM_SUITE, extracted, b"shared_secret", encapsulated + recipient, 32)


def _key_and_nonce(shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    psk_id_hash = _labelled_extract(HPKE_SUITE, b"", b"psk_id_hash", b"")
    info_hash = _labelled_extract(HPKE_SUITE, b"", b"info_hash", info)
    schedule = BASE_MODE + psk_id_hash + info_hash
    secret = _labelled_extract(HPKE_SUITE, shared, b"secret", b"")
    key = _labelled_expand(HPKE_SUITE, secret, b"key", schedule, 32)
    return key, _labelled_expand(HPKE_SUITE, secret, b"base_nonce", schedule, 12)


def seal(recipient: bytes, info: bytes, content: bytes, ephemeral: bytes) -> bytes:
    """Return enc || ct for one content without associated data; `ephemeral` is the sender's fresh private key."""
    encapsulated = public_key(ephemeral)
    shared = _shared_secret(agree(ephemeral, recipient), encapsulated, recipient)
    key, nonce = _key_and_nonce(shared, info)
    return encapsulated + ChaCha20Poly1305(key).encrypt(nonce, content, None)


def unseal(private: bytes, info: bytes, sealed: bytes) -> bytes:
    """Open what `seal` made."""
    encapsulated, ciphertext = sealed[:32], sealed[32:]
    shared = _shared_secret(agree(private, encapsulated), encapsulated, public_key(private))
    key, nonce = _key_and_nonce(shared, info)
    return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, None)
