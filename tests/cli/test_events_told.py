"""The watcher's words for events: every kind of roster change has some, and accounts and keys are named in full."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import FakeTown, deterministic, found_town

from mpcredit import events as ev
from mpcredit.cli._events import tell
from mpcredit.encoding import abi_encode
from mpcredit.events import Change
from mpcredit.ledger.roster import CHANGE_TYPES

OTHER = deterministic("another").address
AT = ev.Position(1, bytes(32), 0, 1_800_000_000, bytes(32), OTHER)
SAMPLES: dict[str, Any] = {"address": OTHER, "bytes32": b"\x22" * 32, "bytes": b"", "string": "Bank Z", "bool": True}


@pytest.fixture(scope="module")
def town() -> FakeTown:
    return found_town(4)


def change(kind: Change, *values: Any) -> ev.RosterChanged:
    return ev.RosterChanged(AT, bytes(32), kind, abi_encode(list(CHANGE_TYPES[kind]), list(values)))


@pytest.mark.parametrize("kind", list(Change), ids=lambda kind: kind.name)
def test_tell__every_kind_of_change__has_words_of_its_own(town: FakeTown, kind: Change) -> None:
    values = [SAMPLES.get(given, 1) for given in CHANGE_TYPES[kind]]

    said = tell(change(kind, *values), town.chain.fold())

    assert said
    assert said != kind.name.lower()


def test_tell__founding_of_a_town__names_accounts_keys_and_readiness(town: FakeTown) -> None:
    town.chain.fold()
    state = town[0].desk.state
    said = [tell(event, state) for event in town[0].follower.events]

    for words in (
        "founded, with periods of readiness of 2 s",
        "Bank B was invited as member 1, owner account " + town.owners[1].address,
        f"the owner named the service account of supervisor {town.supervisor_owner.address}: "
        f"{town.supervisor_account.address}, naming 1",
        f"supervisor {town.supervisor_owner.address} announced period key 1",
        "period key 1 is in force",
        "Bank B may serve with key 1 under period key 1",
        "Bank B switched its readiness on, from the next full period on",
    ):
        assert words in said, words
    named = next(text for text in said if text.startswith("the owner named the service account of Bank B"))
    assert f"{town.accounts[1].address}, naming 1, tenure 0x" in named


def test_tell__compromised_key_taken_account_and_withdrawn_proposal__are_said(town: FakeTown) -> None:
    state = town.chain.fold()

    compromised = tell(change(Change.KEY_SET, 1, 2, b"\x22" * 32, True, b""), state)
    rotated = tell(change(Change.KEY_SET, 1, 2, b"\x22" * 32, False, b""), state)
    taken = tell(change(Change.ACCOUNT_TAKEN, 1, town.owners[1].address), state)

    assert compromised == "Bank B registered institution key 2 and called the one before compromised"
    assert rotated == "Bank B registered institution key 2"
    assert taken == "the owner took the service account of Bank B away"
    assert tell(ev.Withdrawn(AT, 3), state) == "proposal 3 was withdrawn"
    assert tell(ev.ReadinessSet(AT, 1, False), state).startswith("Bank B switched its readiness off")
    assert tell(ev.Anchored(AT, town.owners[1].address, b"\x22" * 32), state).startswith("Bank B anchored")
    assert tell(ev.Noticed(AT, town.supervisor_owner.address, b"x"), state).startswith("supervisor 0x")
