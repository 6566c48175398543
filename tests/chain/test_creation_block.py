"""The creation of a Consortium, read from the full block of its first event (R37.1), on each chain; unhelpful nodes too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from chain_world import World, founding
from web3.exceptions import BlockNotFound, Web3RPCError

from mpcredit.chain import artifacts
from mpcredit.chain.creation import read_block
from mpcredit.encoding import keccak
from mpcredit.errors import HistoryMissing, LedgerError
from mpcredit.events import Position
from mpcredit.ledger.creation import BlockTransaction

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def first(world: World) -> Position:
    return world.all_events()[0].at


@pytest.fixture
def shown(world: World, first: Position, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], Any]:
    """Read the block as a node shows it that changes something in it."""
    eth, true = world.ledger.web3.eth, world.ledger.web3.eth.get_block(first.block, full_transactions=True)

    def read(change: Change) -> tuple[BlockTransaction, ...]:
        block = {**true, "transactions": [dict(one) for one in true["transactions"]]}
        monkeypatch.setattr(eth, "get_block", lambda number, full_transactions=False: change(block))
        return read_block(world.ledger, first)

    return read


def test_block__of_the_first_event__has_the_creation_with_code_and_arguments(world: World, first: Position) -> None:
    (creation,) = [one for one in read_block(world.ledger, first) if one.creates == world.deployed.consortium]

    assert creation.hash == first.transaction
    assert first.block == world.deployed.first_block
    assert creation.data == artifacts.consortium().init_code(founding())


def test_releases__the_last_one__is_what_this_package_deploys() -> None:
    last = artifacts.init_codes()[-1]

    assert last.consortium == keccak(artifacts.consortium().bytecode)
    assert last.consortium_bytes == len(artifacts.consortium().bytecode)
    assert last.joint_credit == keccak(artifacts.joint_credit().bytecode)


def test_block__pruned__is_said_with_what_helps(world: World, shown: Callable[[Change], Any]) -> None:
    def unknown(block: dict[str, Any]) -> Any:
        raise BlockNotFound("pruned")

    def refused(block: dict[str, Any]) -> Any:
        raise Web3RPCError("pruned", rpc_response={"error": {"code": 4444, "message": "pruned history unavailable"}})  # type: ignore[typeddict-item]

    def hashes(block: dict[str, Any]) -> Any:
        return {**block, "transactions": [one["hash"] for one in block["transactions"]]}

    for change in (unknown, refused, hashes):
        with pytest.raises(HistoryMissing, match="does not show block") as caught:
            shown(change)
        assert "endpoint that keeps the transactions of all blocks" in caught.value.remedy


def test_block__replaced_meanwhile__is_read_again(shown: Callable[[Change], Any]) -> None:
    with pytest.raises(LedgerError, match="was replaced"):
        shown(lambda block: {**block, "hash": b"\x07" * 32})


def test_creation__that_nobody_signed__creates_nothing(shown: Callable[[Change], Any]) -> None:
    """The node gives the deployer's transaction another input, or a nonce or form of its own."""

    def with_input(block: dict[str, Any]) -> Any:
        block["transactions"][0]["input"] = b"\x60\x80"
        return block

    def with_nonce(block: dict[str, Any]) -> Any:
        block["transactions"][0]["nonce"] += 1
        return block

    def with_form(block: dict[str, Any]) -> Any:
        block["transactions"][0]["type"] = 126  # a rollup's deposit: no account signs it
        return block

    for change in (with_input, with_nonce, with_form):
        assert [one.creates for one in shown(change)] == [None]


def test_creation__without_a_hash__makes_no_sense(shown: Callable[[Change], Any]) -> None:
    def without(block: dict[str, Any]) -> Any:
        del block["transactions"][0]["hash"]
        return block

    with pytest.raises(LedgerError, match="makes no sense"):
        shown(without)
