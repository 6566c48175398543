"""Gas of a call that was made for a later time than that of the newest block."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from chain_world import World, account, everybody, make_world, payload
from web3.exceptions import Web3RPCError

from mpcredit.chain.anvil import Anvil
from mpcredit.chain.gas import gas_bound
from mpcredit.chain.transactions import parse_signed
from mpcredit.errors import Refused, TooLarge
from mpcredit.events import Call

pytestmark = pytest.mark.anvil
COHORT = 0b0111


@pytest.fixture
def world() -> Iterator[World]:
    """A chain that mines for transactions only; in its newest block member 3 has switched itself off."""
    with Anvil() as running:
        for address in everybody():
            running.fund(address)
        made = make_world(running.web3, running.advance, running)
        made.do(made.service(3), "setReady", 3, False)
        time.sleep(1.1)  # the next period has begun, and no block shows it
        yield made


def opening(world: World, judged_at: int, **changed: Any) -> Call:
    """An opening over the cohort of the next period."""
    arguments = (0, world.opening(**{"cohort": COHORT, **changed}).arguments())
    return Call(world.deployed.joint_credit, "open", arguments, judged_at)


def sign(world: World, call: Call) -> Any:
    return world.service(0).sign(call, world.service(0).nonce())


def next_second(world: World) -> int:
    return world.ledger.head().timestamp + 1


def stale(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node takes its newest block for the pending one."""
    eth: Any = world.web3.eth
    estimate, block = eth.estimate_gas, eth.get_block
    monkeypatch.setattr(eth, "estimate_gas", lambda call, place=None: estimate(call))
    monkeypatch.setattr(eth, "get_block", lambda place, *more: block("latest" if place == "pending" else place, *more))


def test_made_for_any_block__is_judged_on_the_newest(world: World) -> None:
    with pytest.raises(Refused) as refused:
        sign(world, opening(world, 0))

    assert refused.value.code == "CohortMoved"


def test_made_for_the_next_block__is_judged_there(world: World) -> None:
    signed = sign(world, opening(world, next_second(world)))

    world.service(0).broadcast(signed.raw)
    assert world.service(0).wallet.wait(signed.hash).succeeded


def test_node_that_judges_the_newest__the_bound_is_the_limit_and_it_is_mined(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = opening(world, next_second(world))
    stale(world, monkeypatch)

    signed = sign(world, call)

    said = parse_signed(signed.raw)
    bound = gas_bound(call, said.data)
    assert bound is not None
    assert bound <= said.gas < 1.2 * bound
    world.service(0).broadcast(signed.raw)
    assert world.service(0).wallet.wait(signed.hash).succeeded


def test_node_that_judges_the_newest__a_refusal_that_lasts_is_raised(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.advance(1)
    judged_at = next_second(world)
    stale(world, monkeypatch)

    for changed, code in (({"roster": bytes(32)}, "RosterMoved"), ({"consents": ()}, "ConsentsMissing")):
        with pytest.raises(Refused) as refused:
            sign(world, opening(world, judged_at, **changed))
        assert refused.value.code == code


def test_pending_block_is_late_enough__its_refusal_is_raised(world: World) -> None:
    with pytest.raises(Refused) as refused:
        sign(world, opening(world, next_second(world), cohort=0b1111))

    assert refused.value.code == "CohortMoved"


def test_call_whose_gas_is_not_known__its_refusal_is_raised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.advance(1)
    opened = world.open(cohort=COHORT)
    stale(world, monkeypatch)
    call = Call(world.deployed.joint_credit, "contribute", (opened.inquiry, 3, payload(4)), next_second(world))

    with pytest.raises(Refused) as refused:
        world.service(3).sign(call, world.service(3).nonce())

    assert refused.value.code == "NotInCohort"


def test_too_large_for_the_node__is_raised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_call: Any, _place: Any = None) -> int:
        told = {"error": {"code": -32000, "message": "gas required exceeds allowance (30000000)"}}
        raise Web3RPCError("x", rpc_response=told)  # type: ignore[arg-type]

    call = opening(world, next_second(world))
    monkeypatch.setattr(world.web3.eth, "estimate_gas", refuse)

    with pytest.raises(TooLarge):
        sign(world, call)


@pytest.mark.parametrize("function", ["lapse", "expire"])
def test_what_the_ledger_takes_from_a_time_on__is_signed_before_a_block_shows_that_time(
    world: World, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    world.advance(1)
    opened = world.open(cohort=COHORT)
    due = opened.at.timestamp + (60 if function == "lapse" else 600)
    stale(world, monkeypatch)
    signer = world.signer(account(902))

    signed = signer.sign(Call(world.deployed.joint_credit, function, (opened.inquiry,), due), signer.nonce())

    assert world.anvil is not None
    world.anvil.do("evm_setNextBlockTimestamp", due)
    signer.broadcast(signed.raw)
    assert signer.wallet.wait(signed.hash).succeeded
