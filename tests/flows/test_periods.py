"""Openings at the end of a period of readiness, and on chains that make no empty blocks (R14, R28)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import fakes
import pytest
from fakes import FakeTown, found_town, two_keys
from flow_world import BITS, Customers, ask, sums, switch_off, terms
from web3.exceptions import Web3RPCError

from mpcredit.events import Call
from mpcredit.inquirer import MINING_SECONDS, RequestState
from mpcredit.local import LocalConsortium, local_consortium

PERIOD = 60


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    """Five institutions, ready, early in a period of a minute; everybody but Bank A is stopped."""
    monkeypatch.setattr(fakes, "PERIOD", PERIOD)
    with two_keys(monkeypatch):
        made = found_town(5)
        go_to(made, 5)
        made.asleep = {1, 2, 3, 4}
        yield made


def go_to(town: FakeTown, second: int) -> None:
    """Let time pass until so many seconds of a period are over in the block that comes next."""
    town.chain.advance((second - 2 - town.chain.time) % PERIOD)
    assert (town.chain.time + 1) % PERIOD == second


def switch(town: FakeTown, index: int, ready: bool) -> None:
    """A member switches itself on or off."""
    town.rogue(index, Call("consortium", "setReady", (index, ready)))


def test_cohort_changes_early_in_the_period__the_inquiry_opens_over_the_one_of_now(town: FakeTown) -> None:
    switch(town, 4, False)
    request = town.ask(1)

    town.settle()

    assert town.inquiry(request).cohort == (0, 1, 2, 3, 4)


def test_cohort_changes_in_the_last_seconds__waits_and_opens_over_the_next(town: FakeTown) -> None:
    switch(town, 4, False)
    go_to(town, PERIOD - MINING_SECONDS)
    request = town.ask(1)

    town.work()
    held = town[0].inquirer.get(request)
    assert held.state is RequestState.WANTED
    assert "waits for that, which begins at 2023-11-1" in held.note
    assert not held.value["attempts"]

    go_to(town, 1)
    town.settle()
    assert town.inquiry(request).cohort == (0, 1, 2, 3)


def test_one_second_before_the_last_seconds__opens(town: FakeTown) -> None:
    switch(town, 4, False)
    go_to(town, PERIOD - MINING_SECONDS - 1)
    request = town.ask(1)

    town.settle()

    assert town.inquiry(request).cohort == (0, 1, 2, 3, 4)


def test_cohort_stays_in_the_last_seconds__opens_at_once(town: FakeTown) -> None:
    go_to(town, PERIOD - 1)
    request = town.ask(1)

    town.settle()

    assert town.inquiry(request).cohort == (0, 1, 2, 3, 4)


def test_inquirer_is_ready_from_the_next_period_on__says_so_and_waits(town: FakeTown) -> None:
    switch(town, 0, False)
    go_to(town, 5)
    town.work()  # its service switches it on again
    request = town.ask(1)

    town.work()
    assert "it waits for that" in town[0].inquirer.get(request).note

    go_to(town, 5)
    town.settle()
    assert town.inquiry(request).cohort == (0, 1, 2, 3, 4)


def test_finality_takes_longer_than_the_silence__nobody_is_switched_off_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Furnishers begin when the opening is final to them: 8 blocks of 30 seconds, and silence_seconds is 60.
    with two_keys(monkeypatch):
        town = found_town(5, confirmations=8)
        for _ in range(10):
            town.chain.advance(30)
            town.work()
        request = town.ask(1)
        town.asleep = {4}
        opened = None
        while opened is None or town.chain.time < opened + 240:
            town.chain.advance(30)
            town[0].work()
            if opened is None and town[0].inquirer.get(request).inquiry is not None:
                opened = town.inquiry(request).opened.at.timestamp
        assert town.chain.fold().ready_next() == 0b11111

        for _ in range(6):
            town.chain.advance(30)
            town.work()
        assert town.chain.fold().ready_next() == 0b01111


# --------------------------------------------------------------------- chains that make no empty blocks


@pytest.fixture
def still() -> Iterator[LocalConsortium]:
    """Four institutions on Anvil, which mines a block for each transaction and no others."""
    with local_consortium(institutions=4, bits=BITS, chain="anvil", parameters=terms(minimum_cohort=3)) as made:
        yield made


def pending_is_latest(web3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that takes its newest block for the pending one."""
    estimate, block = web3.eth.estimate_gas, web3.eth.get_block

    def latest(place: Any) -> Any:
        return "latest" if place == "pending" else place

    monkeypatch.setattr(web3.eth, "estimate_gas", lambda call, place=None: estimate(call, latest(place)))
    monkeypatch.setattr(web3.eth, "get_block", lambda place, *more, **named: block(latest(place), *more, **named))


def pending_is_unknown(web3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that knows no pending block."""

    def wrapped(ask: Callable[..., Any], position: int) -> Callable[..., Any]:
        def asked(*arguments: Any, **named: Any) -> Any:
            if len(arguments) > position and arguments[position] == "pending":
                raise Web3RPCError("pending block is not available")
            return ask(*arguments, **named)

        return asked

    monkeypatch.setattr(web3.eth, "estimate_gas", wrapped(web3.eth.estimate_gas, 1))
    monkeypatch.setattr(web3.eth, "get_block", wrapped(web3.eth.get_block, 0))


@pytest.mark.anvil
@pytest.mark.parametrize(
    "node",
    [lambda _web3, _monkeypatch: None, pending_is_latest, pending_is_unknown],
    ids=["judges the pending block", "takes the newest for it", "knows none"],
)
def test_switched_on_with_no_block_in_between__the_inquiry_goes_on(
    still: LocalConsortium, monkeypatch: pytest.MonkeyPatch, node: Callable[[Any, pytest.MonkeyPatch], None]
) -> None:
    [subject] = Customers(still).take()
    switch_off(still, "Bank D")
    still.stores["Bank D"].delete("meta", "readiness")
    node(still.chain.web3, monkeypatch)
    still.settle()
    head = still.ledger.head()
    bank = still["Bank A"]
    bank.sync()
    # The newest block is the one in which Bank D has switched itself on: judged there, it is not in the cohort.
    assert bank.desk.state.cohort(0, head.timestamp) == 0b0111
    assert bank.desk.state.ready_next() == 0b1111

    while time.time() < head.timestamp + 1:  # Anvil gives the blocks of one second one time; other nodes do not
        time.sleep(0.02)
    result = ask(bank, [subject]).wait(60)

    assert result.inquiry.opened.at.block == head.number + 1
    assert result.inquiry.cohort == (0, 1, 2, 3)
    assert result.totals == sums(still.books.values(), [subject])


@pytest.mark.anvil
@pytest.mark.parametrize("node", [lambda _web3, _monkeypatch: None, pending_is_latest], ids=["pending", "newest"])
def test_deadline_passes_with_no_block_in_between__the_inquiry_ends_and_the_silent_are_off(
    monkeypatch: pytest.MonkeyPatch, node: Callable[[Any, pytest.MonkeyPatch], None]
) -> None:
    short = terms(minimum_cohort=3, answer_seconds=60, silence_seconds=1, repeat_seconds=60)
    with local_consortium(institutions=4, bits=BITS, chain="anvil", parameters=short) as consortium:
        consortium.asleep.add("Bank D")
        bank = consortium["Bank A"]
        handle = ask(bank, Customers(consortium).take())
        consortium.settle()
        node(consortium.chain.web3, monkeypatch)
        opened = consortium.ledger.head()
        consortium.chain.anvil.do("evm_increaseTime", 61)  # type: ignore[union-attr]
        clock = bank.follower.clock
        bank.follower.clock = lambda: clock() + 61

        consortium.settle()

        assert handle.request.state is RequestState.EXPIRED
        assert not bank.desk.state.ready_next() >> 3 & 1
        assert consortium.ledger.head().number > opened.number
