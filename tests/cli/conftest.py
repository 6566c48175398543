"""A founded consortium on the embedded chain, and parties that run `mpcredit` in this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_world import DEPLOYER, URL
from parties import Consortium, Party, found, here
from web3 import Web3

from mpcredit import bookmaker, config
from mpcredit.chain import connect, tester


@pytest.fixture(scope="module")
def chain() -> Iterator[Web3]:
    """The embedded chain, which the command line reaches under `URL`; one for each file, since some move its clock."""
    web3 = tester.embedded_chain([DEPLOYER.address])
    deploy = sys.modules["mpcredit.cli.deploy"]

    def connected(endpoint: str | Web3, **options: Any) -> Web3:
        return web3 if endpoint == URL else connect(endpoint, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "connect", connected)
        patch.setattr(deploy, "connect", connected)
        yield web3


@pytest.fixture(scope="module")
def advance(chain: Web3) -> Callable[[int], None]:
    """Let time pass on the ledger."""
    return lambda seconds: tester.advance(chain, seconds)


@pytest.fixture(scope="module")
def fund(chain: Web3) -> Callable[[str], None]:
    return lambda address: tester.fund(chain, address)


def make_consortium(chain: Web3, place: Path) -> Consortium:
    now = int(chain.eth.get_block("latest")["timestamp"])
    return found(
        place,
        runner=here,
        url=URL,
        chain_id=chain.eth.chain_id,
        fund=lambda address: tester.fund(chain, address),
        now=max(now, int(time.time())) - 60,
        deployer_key=DEPLOYER.key.hex(),
    )


@pytest.fixture(scope="module")
def consortium(chain: Web3, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Founded, audited, ready; one for each file of tests."""
    made = make_consortium(chain, tmp_path_factory.mktemp("consortium"))
    made.turn()
    made.turn()
    assert all(member["ready"] for member in made["Bank A"].ok("member", "list")["members"])
    return made


@pytest.fixture(scope="module")
def bank(consortium: Consortium) -> Party:
    return consortium["Bank A"]


@pytest.fixture(scope="module")
def subjects(consortium: Consortium) -> Iterator[str]:
    """Customers as arguments, each once."""
    picks = bookmaker.pick_subjects(list(consortium.books.values()), 40)
    return iter([f"{pick.subject.kind}:{pick.subject.country}:{pick.subject.number}" for pick in picks])


@pytest.fixture
def newcomer(chain: Web3, tmp_path: Path) -> Party:
    """An institution with a configuration and nothing else; its consortium is not deployed yet."""
    party = Party("Newcomer", "institution", tmp_path, here, URL, chain.eth.chain_id)
    party.write_config()
    return party
