"""Keys and vectors for the pure tests. The Paillier keys are PUBLIC test keys; toy ones are marked as such."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from pure_support import PUBLIC_TEST_KEYS

from mpcredit.paillier import PrivateKey
from mpcredit.pairkeys import InstitutionKey, KeyRef, Realm
from mpcredit.tags import HmacTagger, TagKey

settings.register_profile(
    "mpcredit", deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "mpcredit"))


@pytest.fixture(scope="session")
def key() -> PrivateKey:
    return PrivateKey.from_primes(*PUBLIC_TEST_KEYS["public-test-2048-a"])


@pytest.fixture(scope="session")
def other_key() -> PrivateKey:
    return PrivateKey.from_primes(*PUBLIC_TEST_KEYS["public-test-2048-b"])


@pytest.fixture(scope="session")
def big_key() -> PrivateKey:
    return PrivateKey.from_primes(*PUBLIC_TEST_KEYS["public-test-3072-a"])


@pytest.fixture(scope="session")
def toy() -> PrivateKey:
    """A key of 256 bits, too small for anything but tests."""
    return PrivateKey.from_primes(*PUBLIC_TEST_KEYS["toy-256"])


@pytest.fixture(scope="session")
def realm() -> Realm:
    # The checksum address is the first example of EIP-55.
    return Realm(31337, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")


@pytest.fixture(scope="session")
def privates() -> list[InstitutionKey]:
    return [InstitutionKey.from_bytes(bytes([index + 1]) * 32) for index in range(5)]


@pytest.fixture(scope="session")
def refs(privates: list[InstitutionKey]) -> list[KeyRef]:
    return [KeyRef(index, 1, private.public) for index, private in enumerate(privates)]


@pytest.fixture(scope="session")
def supervisor() -> InstitutionKey:
    return InstitutionKey.from_bytes(b"s" * 32)


@pytest.fixture
def bank(realm: Realm) -> SimpleNamespace:
    """What `Consent.grant` needs of an institution."""
    return SimpleNamespace(realm=realm, index=0, now=2**40, tagger=HmacTagger(TagKey(1, b"k" * 32)))
