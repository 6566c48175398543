"""Places of the attacks: a town without an EVM for most, a real one where the contracts matter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import FakeTown, found_town, public_key_pair, two_keys
from hypothesis import HealthCheck, settings

from mpcredit.local import LocalConsortium, local_consortium
from mpcredit.paillier import PrivateKey

settings.register_profile(
    "attacks", deadline=None, derandomize=True, max_examples=25, suppress_health_check=list(HealthCheck)
)
settings.load_profile("attacks")


@pytest.fixture(scope="session")
def evm() -> Iterator[LocalConsortium]:
    """Five institutions on the real contracts. Tests take subjects that no other test asks about."""
    with local_consortium(institutions=5, bits=2048) as consortium:
        yield consortium


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    """Five institutions over the fake ledger, with the public test keys."""
    with two_keys(monkeypatch):
        yield found_town(5)


@pytest.fixture(scope="session")
def key() -> PrivateKey:
    """A PUBLIC Paillier key of 2048 bits."""
    return public_key_pair()
