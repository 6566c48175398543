"""The reader's view of the ledger: folded once, anew after a reorganisation, never half."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import JOINT_CREDIT, REALM, FakeChain, FakeTown, Transaction, found_town

from mpcredit import events as ev
from mpcredit.errors import LedgerError, WrongLedger
from mpcredit.events import Call
from mpcredit.follower import Follower
from mpcredit.ledger.roster import Pins
from mpcredit.ports import Block


@pytest.fixture
def town() -> FakeTown:
    return found_town(4)


def seals(follower: Follower) -> int:
    """How many seals the fold has counted: an event folded twice shows here."""
    return len(follower.state.mask_keys)


def test_sync__folds_what_is_new_once(town: FakeTown) -> None:
    follower = Follower(town.chain, town.pins)

    first = follower.sync()
    again = follower.sync()
    town.chain.advance(5)
    empty = follower.sync()

    assert len(first) == len(follower.events) > 20
    assert (again, empty) == ([], [])
    assert seals(follower) == 4
    assert follower.replays == 0
    assert follower.state.roster == town[0].desk.state.roster


def test_sync_piece_by_piece__ends_where_one_sync_ends(town: FakeTown) -> None:
    whole = Follower(town.chain, town.pins)
    whole.sync()
    pieces = Follower(town.chain, town.pins)

    blocks = town.chain.blocks
    for height in range(1, len(blocks) + 1):
        town.chain.blocks = blocks[:height]
        pieces.sync()

    assert pieces.events == whole.events
    assert pieces.state.roster == whole.state.roster
    assert vars(pieces.state.members[0]) == vars(whole.state.members[0])


def test_tag_keys__a_new_one__counts_when_its_block_is_final(town: FakeTown) -> None:
    # What was raised to a key cannot be lowered: a key that a reorganisation can take away is not used yet.
    follower = Follower(town.chain, town.pins, confirmations=2)
    follower.sync()
    assert list(follower.tag_keys) == [1]
    key = town.succeed_tag_key()
    for expected in ([1], [1], [1, 2]):
        follower.sync()
        assert list(follower.tag_keys) == expected
        town.chain.advance(1)

    assert follower.tag_keys[2] == key.commitment
    assert list(Follower(town.chain, town.pins).tag_keys) == []


def test_tag_keys__of_the_founding__counts_at_once() -> None:
    follower = Follower(found_town(4, settle=False).chain, confirmations=50)
    follower.sync()

    assert list(follower.tag_keys) == [1]


def test_block_replaced__starts_over_and_forgets_what_was_taken_away(town: FakeTown) -> None:
    follower = Follower(town.chain, town.pins)
    FakeTown.signer(town, 0).transact(Call("consortium", "setReady", (0, False)))
    follower.sync()
    assert follower.state.ready_next() == 0b1110

    town.chain.reorganise(len(town.chain.blocks) - 1)
    new = follower.sync()

    assert follower.replays == 1
    assert follower.state.ready_next() == 0b1111
    assert new == follower.events
    assert seals(follower) == 4


def test_chain_shorter_than_before__starts_over(town: FakeTown) -> None:
    town.chain.advance(1)
    town.chain.advance(1)
    follower = Follower(town.chain, town.pins)
    follower.sync()

    town.chain.blocks = town.chain.blocks[:-2]
    follower.sync()

    assert follower.replays == 1
    assert follower.head == town.chain.head()


def test_block_replaced_while_it_is_read__leaves_the_view_as_it_was(town: FakeTown) -> None:
    follower = Follower(town.chain, town.pins)
    follower.sync()
    events, head = list(follower.events), follower.head
    town.signer(1).transact(Call("consortium", "setReady", (1, False)))
    read = town.chain.events

    def replaced_meanwhile(first: int, last: int) -> Any:
        found = read(first, last)
        town.chain.reorganise(last)
        return found

    town.chain.events = replaced_meanwhile  # type: ignore[method-assign]
    with pytest.raises(LedgerError, match="replaced while they were read"):
        follower.sync()

    assert (follower.events, follower.head) == (events, head)
    town.chain.events = read  # type: ignore[method-assign]
    follower.sync()
    assert follower.head == town.chain.head()


def test_event_that_contradicts_the_roster__nothing_is_kept_of_the_fold(town: FakeTown) -> None:
    follower = Follower(town.chain, town.pins)
    follower.sync()
    made_up = {"roster": bytes(32), "kind": ev.Change.MEMBER_REMOVED, "data": (1).to_bytes(32, "big")}
    town.chain.advance(1)
    by = Transaction("liar", Call("consortium", "removeMember"), 0)
    town.chain.emit(town.chain.blocks[-1], [(REALM.consortium, ev.RosterChanged, made_up)], by)

    for _ in range(2):  # it stays wrong, however often it is read
        with pytest.raises(WrongLedger, match="does not hash to the roster"):
            follower.sync()

    assert follower.events == []
    assert follower.head is None


def test_node_down__the_view_stays(town: FakeTown) -> None:
    follower = Follower(town.chain, town.pins)
    follower.sync()
    events = list(follower.events)
    town.chain.down = True

    with pytest.raises(LedgerError):
        follower.sync()

    assert follower.events == events
    town.chain.down = False
    assert follower.sync() == []


@pytest.mark.parametrize(("confirmations", "final"), [(0, 7), (1, 6), (7, 0), (9, -2)])
def test_final_block__lies_so_many_below_the_head(confirmations: int, final: int) -> None:
    chain = FakeChain()
    for _ in range(7):
        chain.advance(1)
    follower = Follower(chain, confirmations=confirmations)
    assert follower.final_block < 0

    follower.sync()

    assert follower.final_block == final


def test_next_time__is_the_later_of_head_and_clock() -> None:
    chain = FakeChain()
    follower = Follower(chain)
    assert (follower.now, follower.next_time) == (0, 1)
    follower.sync()
    assert follower.next_time == follower.now + 1 == chain.head().timestamp + 1

    follower.clock = lambda: follower.now + 90.7
    assert follower.next_time == follower.now + 90
    follower.clock = lambda: follower.now - 90
    assert follower.next_time == follower.now + 1


def test_use_pins__folds_anew_with_them(town: FakeTown) -> None:
    follower = Follower(town.chain, Pins(owners={}))
    follower.sync()
    assert follower.state.unpinned(0b1111) == (0, 1, 2, 3)

    follower.use_pins(town.pins)
    follower.sync()

    assert follower.state.unpinned(0b1111) == ()
    assert follower.replays == 1
    assert seals(follower) == 4


def test_head__is_asked_for_once_when_nothing_changed(town: FakeTown) -> None:
    follower = Follower(town.chain, town.pins)
    follower.sync()
    asked: list[str] = []
    for name in ("block", "events"):
        setattr(town.chain, name, lambda *arguments, name=name: asked.append(name))

    follower.sync()

    assert asked == []
    assert isinstance(follower.head, Block)
    assert follower.state.joint_credit == JOINT_CREDIT
