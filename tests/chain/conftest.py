"""The chains of these tests: the embedded one, and Anvil. Each test that asks for `world` runs on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from chain_world import World, everybody, make_world
from web3 import Web3

from mpcredit.chain import connect, tester
from mpcredit.chain.anvil import Anvil


@pytest.fixture(scope="session")
def anvil() -> Iterator[Anvil]:
    with Anvil() as running:
        for address in everybody():
            running.fund(address)
        yield running


CHAINS = [pytest.param("embedded", id="embedded"), pytest.param("anvil", id="anvil", marks=pytest.mark.anvil)]


@pytest.fixture(scope="module", params=CHAINS)
def chain(request: pytest.FixtureRequest) -> tuple[Web3, Callable[[int], None], Anvil | None]:
    """A running chain whose accounts have funds: client, time travel, the Anvil if it is one."""
    if request.param == "anvil":
        running: Anvil = request.getfixturevalue("anvil")
        return connect(running.url), running.advance, running
    web3 = tester.embedded_chain(everybody())
    return web3, lambda seconds: tester.advance(web3, seconds), None


@pytest.fixture(scope="module")
def world(chain: tuple[Web3, Callable[[int], None], Anvil | None]) -> World:
    return make_world(*chain)
