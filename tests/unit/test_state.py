"""R9, R12, R14, R27, R39: the fold of the events, over the fake ledger (the real one is compared in tests/model)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from fakes import (
    DAY,
    JOINT_CREDIT,
    PERIOD,
    REALM,
    START,
    TERMS,
    FakeTown,
    deterministic,
    found_town,
    sign_naming,
    sign_statement,
    two_keys,
)

from mpcredit import events as ev
from mpcredit.encoding import abi_encode
from mpcredit.errors import InvalidMessage, WrongLedger
from mpcredit.events import Change, Position, Stage
from mpcredit.ledger.roster import CHANGE_TYPES, SUPERVISOR, PeriodKey, Pins, key_statement, roster_link, roster_start
from mpcredit.pairkeys import InstitutionKey
from mpcredit.schema import GUARANTEES_2
from mpcredit.state import LedgerState


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    with two_keys(monkeypatch):
        yield found_town(5)


NOW = START + 1_002
"""After `at`, in a later period."""


def at(block: int = 100, index: int = 0, contract: str = REALM.consortium) -> Position:
    return Position(block, bytes(32), index, START + 1000, bytes(32), contract)


def change(state: LedgerState, kind: Change, *values: Any) -> None:
    data = abi_encode(CHANGE_TYPES[kind], list(values))
    state.apply(ev.RosterChanged(at(), roster_link(state.roster, kind, data), kind, data))


def test_roster__computed_with_eth_abi__agrees() -> None:
    start = keccak(
        encode(
            ["bytes32", "uint256", "address"],
            [b"mpcredit/roster/2".ljust(32, b"\0"), 31337, REALM.consortium],
        )
    )
    data = encode(["uint8"], [3])

    assert roster_start(REALM) == start
    assert roster_link(start, Change.MEMBER_CONFIRMED, data) == keccak(
        encode(["bytes32", "uint8", "bytes"], [start, 2, data])
    )


def test_key_statement__computed_with_eth_abi__agrees() -> None:
    expected = keccak(
        encode(
            ["bytes32", "uint256", "address", "uint8", "uint32", "bytes32", "bytes32"],
            [b"mpcredit/key/2".ljust(32, b"\0"), 31337, REALM.consortium, 2, 1, b"k" * 32, bytes(32)],
        )
    )

    assert key_statement(REALM, 2, 1, b"k" * 32, bytes(32)) == expected


def test_fold__founded_town__has_members_keys_terms_and_readiness(town: FakeTown) -> None:
    state = town.chain.fold()

    assert state.active() == (0, 1, 2, 3, 4)
    assert state.serving() == 0b11111
    assert state.cohort(0, town.chain.time) == 0b11111
    assert state.parameters == TERMS
    assert state.joint_credit == JOINT_CREDIT
    assert state.by_account(town.accounts[2].address) == (state.members[2],)
    assert state.by_account(deterministic("nobody").address) == ()
    assert state.by_owner(town.owners[2].address) is state.members[2]
    assert state.by_name("Bank C") is state.members[2]
    assert state.by_name("Bank Z") is None


def test_cohort__switched_off_or_lapsed__is_without_the_member_from_the_next_period_on(town: FakeTown) -> None:
    state = town.chain.fold()
    now = at().timestamp
    state.apply(ev.ReadinessLapsed(at(), 0b100))
    state.apply(ev.ReadinessSet(at(), 3, False))

    last = now // PERIOD * PERIOD + PERIOD - 1
    assert state.cohort(0, last) == 0b11111
    assert state.cohort(0, last + 1) == 0b10011
    state.apply(ev.ReadinessSet(replace(at(), timestamp=last + 1), 3, True))
    assert state.cohort(0, last + 1) == 0b10011
    assert state.cohort(0, last + 1 + PERIOD) == 0b11011


def test_cohort__suspended_compromised_removed_or_without_account__is_without_the_member_at_once(
    town: FakeTown,
) -> None:
    state = town.chain.fold()
    key = InstitutionKey.from_bytes(b"n" * 32).public
    change(state, Change.MEMBER_SUSPENDED, 0)
    change(state, Change.MEMBER_REMOVED, 1)
    previous = state.members[2].key.public
    change(state, Change.KEY_SET, 2, 2, key, True, sign_statement(town.owners[2], 2, 2, key, previous))
    change(state, Change.ACCOUNT_TAKEN, 3, town.owners[3].address)

    assert state.cohort(0, NOW) == 0b10000
    assert state.members[1].account is None
    assert state.members[3].account is None
    assert state.members[2].compromised == {1}
    change(state, Change.MEMBER_REINSTATED, 0)
    change(state, Change.MEMBER_AUDITED, 2, 2, 1)
    assert state.cohort(0, NOW) == 0b10101


def test_key__rotated_and_not_compromised__serves_until_the_new_one_is_audited(town: FakeTown) -> None:
    state = town.chain.fold()
    old = state.members[2].key
    key = InstitutionKey.from_bytes(b"n" * 32).public
    change(state, Change.KEY_SET, 2, 2, key, False, sign_statement(town.owners[2], 2, 2, key, old.public))

    assert state.serving_key(2) == old
    assert state.cohort(0, NOW) == 0b11111
    change(state, Change.MEMBER_AUDITED, 2, 2, 1)
    assert state.serving_key(2) == state.members[2].key


def test_cohort__of_a_group__is_the_intersection(town: FakeTown) -> None:
    state = town.chain.fold()
    change(state, Change.GROUP_SET, 3, 0b10110)

    assert state.cohort(3, NOW) == 0b10110
    assert state.cohort(4, NOW) == 0


# ---------------------------------------------------------------- keys and signatures


def test_key__rotated_by_its_owner__is_current_and_the_old_one_stays(town: FakeTown) -> None:
    state = town.chain.fold()
    old = state.members[2].key
    key = InstitutionKey.from_bytes(b"n" * 32).public

    change(state, Change.KEY_SET, 2, 2, key, False, sign_statement(town.owners[2], 2, 2, key, old.public))

    assert state.members[2].key.public == key
    assert state.members[2].keys[1] == old


@pytest.mark.parametrize(
    "how", ["another owner", "another member", "another version", "another previous key", "garbage"]
)
def test_key__statement_that_does_not_fit__is_the_wrong_ledger(town: FakeTown, how: str) -> None:
    state = town.chain.fold()
    key = InstitutionKey.from_bytes(b"n" * 32).public
    previous = state.members[2].key.public
    signature = {
        "another owner": sign_statement(town.owners[3], 2, 2, key, previous),
        "another member": sign_statement(town.owners[2], 3, 2, key, previous),
        "another version": sign_statement(town.owners[2], 2, 3, key, previous),
        "another previous key": sign_statement(town.owners[2], 2, 2, key),
        "garbage": b"\1" * 65,
    }[how]

    with pytest.raises(WrongLedger):
        change(state, Change.KEY_SET, 2, 2, key, False, signature)


def test_key__low_order__is_the_wrong_ledger(town: FakeTown) -> None:
    state = town.chain.fold()
    previous = state.members[2].key.public

    with pytest.raises(WrongLedger):
        change(state, Change.KEY_SET, 2, 2, bytes(32), False, sign_statement(town.owners[2], 2, 2, bytes(32), previous))


def announce(state: LedgerState, supervisor: LocalAccount, version: int, seed: bytes, previous: bytes) -> bytes:
    """A period key announced by an account."""
    key = InstitutionKey.from_bytes(seed * 32).public
    signature = sign_statement(supervisor, SUPERVISOR, version, key, previous)
    change(state, Change.PERIOD_KEY_ANNOUNCED, version, key, supervisor.address, signature)
    return key


def test_period_key__of_nobody__is_the_wrong_ledger(town: FakeTown) -> None:
    state = town.chain.fold()
    assert state.period_key is not None

    with pytest.raises(WrongLedger):
        announce(state, deterministic("stranger"), 2, b"n", state.period_key.public)


def test_period_key__announced_audited_in_force_ended__cohorts_follow(town: FakeTown) -> None:
    state = town.chain.fold()
    first = state.period_key
    assert first is not None
    announce(state, town.supervisor_owner, 2, b"n", first.public)

    assert (state.in_force, state.announced_key) == (1, 2)
    for member in range(4):
        change(state, Change.MEMBER_AUDITED, member, 1, 2)
    assert state.cohort(0, NOW) == 0b11111
    change(state, Change.PERIOD_KEY_IN_FORCE, 2)
    assert (state.in_force, state.announced_key, state.ended_keys) == (2, None, set())
    assert state.cohort(0, NOW) == 0b01111
    change(state, Change.PERIOD_KEY_ENDED, 2)
    assert state.period_key is None
    assert state.ended_keys == {2}
    assert state.cohort(0, NOW) == 0


def test_period_key__number_and_previous_key_go_on_from_the_newest_ever(town: FakeTown) -> None:
    state = town.chain.fold()
    first = state.period_key
    assert first is not None
    change(state, Change.SUPERVISOR_ADDED, deterministic("second").address)
    change(state, Change.PERIOD_KEY_ENDED, 1)
    change(state, Change.SUPERVISOR_REMOVED, town.supervisor_owner.address)

    with pytest.raises(WrongLedger):
        announce(state, deterministic("second"), 2, b"n", bytes(32))
    state = town.chain.fold()
    change(state, Change.SUPERVISOR_ADDED, deterministic("second").address)
    announce(state, deterministic("second"), 2, b"n", first.public)
    assert state.announced_key == 2


def test_naming__not_signed_by_the_owner_or_out_of_order__is_the_wrong_ledger(town: FakeTown) -> None:
    for signer, number in ((3, 2), (2, 3), (2, 1)):
        state = town.chain.fold()
        account, tenure = deterministic("new").address, b"t" * 32
        signature = sign_naming(town.owners[signer], 2, account, number, tenure)
        with pytest.raises(WrongLedger):
            change(state, Change.ACCOUNT_NAMED, 2, town.owners[2].address, account, number, tenure, signature)


def test_naming__with_another_tenure__moves_since_and_with_the_same_does_not(town: FakeTown) -> None:
    state = town.chain.fold()
    since, tenure = state.members[2].since, state.members[2].tenure
    assert tenure is not None
    account, owner = deterministic("new").address, town.owners[2]

    signature = sign_naming(owner, 2, account, 2, tenure)
    change(state, Change.ACCOUNT_NAMED, 2, owner.address, account, 2, tenure, signature)
    assert (state.members[2].account, state.members[2].since) == (account, since)
    signature = sign_naming(owner, 2, account, 3, b"u" * 32)
    change(state, Change.ACCOUNT_NAMED, 2, owner.address, account, 3, b"u" * 32, signature)
    assert state.members[2].since == at().timestamp > since
    assert [naming.number for naming in state.members[2].namings] == [1, 2, 3]


def test_supervisor__removed_and_added_again__has_no_account_and_its_namings_count_on(town: FakeTown) -> None:
    state = town.chain.fold()
    owner = town.supervisor_owner.address
    change(state, Change.PERIOD_KEY_ENDED, 1)
    change(state, Change.SUPERVISOR_REMOVED, owner)
    change(state, Change.SUPERVISOR_ADDED, owner)

    assert state.supervisors[owner].account is None
    signature = sign_naming(town.supervisor_owner, SUPERVISOR, owner, 2)
    change(state, Change.ACCOUNT_NAMED, SUPERVISOR, owner, owner, 2, bytes(32), signature)
    assert state.supervisors[owner].account == owner


def test_pins__period_key__needs_a_person_unless_it_is_the_founding_supervisors_first() -> None:
    supervisor, second = deterministic("supervisor").address, deterministic("second").address
    accepted = InstitutionKey.from_bytes(b"n" * 32).public
    pins = Pins(
        supervisors=frozenset({supervisor, second}),
        founding_supervisors=frozenset({supervisor}),
        period_keys=frozenset({accepted}),
    )
    other = InstitutionKey.from_bytes(b"m" * 32).public

    assert pins.accepts_period_key(PeriodKey(1, other, supervisor, 0))
    assert pins.accepts_period_key(PeriodKey(2, accepted, supervisor, 0))
    assert not pins.accepts_period_key(PeriodKey(2, other, supervisor, 0))
    assert not pins.accepts_period_key(PeriodKey(1, other, second, 0))
    assert not pins.accepts_period_key(PeriodKey(2, accepted, deterministic("stranger").address, 0))
    assert Pins().accepts_period_key(PeriodKey(7, other, second, 0))


def test_messages__more_than_a_party_may_send_in_a_day__are_not_kept(town: FakeTown) -> None:
    state = town.chain.fold()
    owner = town.owners[1].address
    for place in range(20):
        state.apply(ev.Noticed(at(index=place), owner, b"x"))
    sealed = sum(event.member != 1 for event in state.mask_keys)
    for place in range(400):
        state.apply(ev.MaskKeysSealed(at(index=place), 1, 1, 1, b"x"))

    assert len(state.notices) == 4
    assert len(state.mask_keys) == sealed + 256
    state.apply(ev.Noticed(replace(at(), timestamp=at().timestamp + DAY), owner, b"x"))
    assert len(state.notices) == 5
    with pytest.raises(WrongLedger):
        state.apply(ev.Noticed(at(), deterministic("stranger").address, b"x"))


def test_unpinned__pins_of_some__names_the_others(town: FakeTown) -> None:
    owners = {0: frozenset({town.owners[0].address}), 1: frozenset({deterministic("x").address})}
    state = LedgerState(REALM, Pins(owners=owners, supervisors=frozenset()))
    for block in town.chain.blocks:
        for event in block.events:
            state.apply(event)

    assert state.unpinned(0b11) == (1, SUPERVISOR)
    assert state.unpinned(0b100) == (2, SUPERVISOR)
    assert LedgerState(REALM).pins.accepts_owner(9, "anybody")
    assert town.chain.fold().unpinned(0b11111) == ()


# ---------------------------------------------------------------- contradictions


def test_roster__link_that_does_not_follow__is_the_wrong_ledger(town: FakeTown) -> None:
    state = town.chain.fold()
    data = abi_encode(["uint8"], [3])

    with pytest.raises(WrongLedger):
        state.apply(ev.RosterChanged(at(), b"\1" * 32, Change.MEMBER_SUSPENDED, data))


@pytest.mark.parametrize(
    "event",
    [
        ev.ReadinessSet(at(), 77, True),
        ev.ReadinessLapsed(at(), 1 << 77),
        ev.Voted(at(), 5, 1, True),
        ev.Executed(at(), 5),
        ev.Contributed(at(contract=JOINT_CREDIT), b"q" * 32, 1, b""),
        ev.Reported(at(contract=JOINT_CREDIT), b"q" * 32, bytes(32), b"", bytes(32)),
        ev.Attested(at(contract=JOINT_CREDIT), b"q" * 32, "0x", "0x", True, 0, bytes(32), bytes(32)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_event__of_something_never_shown__is_the_wrong_ledger(town: FakeTown, event: ev.Event) -> None:
    with pytest.raises(WrongLedger):
        town.chain.fold().apply(event)


def test_terms_schemas_and_contract__are_those_of_the_roster(town: FakeTown) -> None:
    state = town.chain.fold()
    lower, other = replace(TERMS, minimum_cohort=3), "0x" + "11" * 20

    change(state, Change.TERMS_CHANGED, *astuple(lower))
    change(state, Change.SCHEMA_SET, 2, GUARANTEES_2.hash)
    change(state, Change.JOINT_CREDIT_SET, other)

    assert (state.parameters, state.joint_credit) == (lower, other)
    assert 2 not in state.schemas
    for event in (
        ev.TermsSet(at(), lower),
        ev.SchemaRegistered(at(), 2, GUARANTEES_2.definition),
        ev.JointCreditReplaced(at(), JOINT_CREDIT, other),
    ):
        state.apply(event)
    assert state.schemas[2] == GUARANTEES_2


@pytest.mark.parametrize(
    "event",
    [
        ev.TermsSet(at(), replace(TERMS, window_seconds=0)),
        ev.SchemaRegistered(at(), 1, GUARANTEES_2.definition),
        ev.SchemaRegistered(at(), 2, GUARANTEES_2.definition),
        ev.JointCreditReplaced(at(), JOINT_CREDIT, "0x" + "11" * 20),
    ],
    ids=["terms", "another definition", "a schema more", "a contract"],
)
def test_event__that_the_roster_does_not_name__is_the_wrong_ledger(town: FakeTown, event: ev.Event) -> None:
    with pytest.raises(WrongLedger):
        town.chain.fold().apply(event)


def test_opened__on_a_contract_that_is_not_the_current_one__is_the_wrong_ledger(town: FakeTown) -> None:
    town.ask(1)
    town[0].work()
    (opened,) = (e for block in town.chain.blocks for e in block.events if isinstance(e, ev.Opened))

    with pytest.raises(WrongLedger, match="contract that the roster does not name"):
        town.chain.fold().apply(replace(opened, at=replace(opened.at, contract="0x" + "11" * 20)))


def test_opened__other_roster_schema_or_members__is_the_wrong_ledger(town: FakeTown) -> None:
    town.ask(1)
    town[0].work()
    (opened,) = (e for block in town.chain.blocks for e in block.events if isinstance(e, ev.Opened))
    state = town.chain.fold()

    for changes in ({"roster": bytes(32)}, {"schema": 9}, {"cohort": 1 << 9 | 1}, {"cohort": 0b11110}):
        with pytest.raises(WrongLedger):
            state.apply(replace(opened, opening=replace(opened.opening, **changes)))  # type: ignore[arg-type]


def test_inquiry__event_of_another_contract__is_the_wrong_ledger(town: FakeTown) -> None:
    request = town.ask(1)
    town[0].work()
    inquiry = town.inquiry(request)

    with pytest.raises(WrongLedger):
        town.chain.fold().apply(ev.Contributed(at(contract=REALM.consortium), inquiry.id, 1, b""))


# ---------------------------------------------------------------- an inquiry


def test_inquiry__keeps_what_held_when_it_opened(town: FakeTown) -> None:
    town.sleep(4)
    request = town.ask(1)
    town[0].work()
    inquiry = town.inquiry(request)
    key = InstitutionKey.from_bytes(b"n" * 32).public
    state = town[0].desk.state
    old = state.members[2].key
    change(state, Change.KEY_SET, 2, 2, key, False, sign_statement(town.owners[2], 2, 2, key, old.public))
    change(state, Change.TERMS_CHANGED, *astuple(replace(TERMS, minimum_cohort=3)))

    assert inquiry.keys[2] == old
    assert inquiry.parameters == TERMS
    assert inquiry.cohort == (0, 1, 2, 3)
    assert inquiry.awaited == (1, 2, 3)
    assert inquiry.absent == (4,)
    assert inquiry.ready == inquiry.opening.cohort == 0b1111


def test_inquiry__runs_to_its_end__stages_follow(town: FakeTown) -> None:
    request = town.ask(1)
    stages = []
    for _ in range(20):
        town.work()
        found = town[0].inquirer.get(request).inquiry
        if found:
            stages.append(town.inquiry(request).stage)
    inquiry = town.inquiry(request)

    assert stages == sorted(stages)
    assert stages[-1] is Stage.VALID
    assert inquiry.completed_at is not None
    assert set(inquiry.contributions) == set(inquiry.cohort)
    assert inquiry.payload(0) == inquiry.opening.payload
    assert not inquiry.stage.failed


def test_member__without_a_key__has_none_to_give(town: FakeTown) -> None:
    state = town.chain.fold()
    change(state, Change.MEMBER_INVITED, 5, deterministic("o").address, "Bank F")

    assert not state.is_serving(5)
    assert 5 not in state.active()
    with pytest.raises(InvalidMessage):
        _ = state.members[5].key


def test_consent_revoked__by_several__is_kept_by_member(town: FakeTown) -> None:
    state = town.chain.fold()
    for member in (1, 2):
        state.apply(ev.ConsentRevoked(at(contract=JOINT_CREDIT), b"c" * 32, member))

    assert state.revoked == {b"c" * 32: {1, 2}}
