"""An endpoint lies to the institution that reads through it (R9, R12, R14, R15, R39; protocol.md sections 3 and 4).

It swaps an institution key, makes members up, leaves a change of the roster out, forges a change of owner, shrinks the
cohort, shows a false period key, other terms, another schema, another contract. `Lying` wraps the ledger port; `rechain`
lets it compute the roster's hash chain over its made-up history, as a clever one would. The answer is WrongLedger or a
refusal; nothing is sealed to it and nothing answered. The variants are a reader without pins, to which the made-up member
reads the subject, and one that believes terms outside the roster: it answers a second cohort within the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, replace
from typing import Any

import pytest
from attackers import open_crafted
from eth_account.signers.local import LocalAccount
from fakes import (
    DAY,
    JOINT_CREDIT,
    REALM,
    TERMS,
    FakeChain,
    FakeTown,
    deterministic,
    found_town,
    sign_statement,
    subject,
)

from mpcredit import events as ev
from mpcredit import protocol
from mpcredit.disclosure import RefusalCode
from mpcredit.encoding import abi_encode, to_hex
from mpcredit.errors import EndpointsDisagree, WrongLedger
from mpcredit.events import Change, Event, Position
from mpcredit.inquirer import RequestState
from mpcredit.ledger.roster import CHANGE_TYPES, SUPERVISOR, Pins, roster_link, roster_start
from mpcredit.pairkeys import InstitutionKey, KeyRef, derive
from mpcredit.ports import Block
from mpcredit.schema import FIGURES_1, Schema
from mpcredit.sealing import open_subjects_member
from mpcredit.state import LedgerState

EVE = deterministic("eve")
EVES_KEY = InstitutionKey.from_bytes(b"e" * 32)
Lie = Callable[[list[Event]], Iterable[Event]]


class Lying:
    """A ledger port that changes what it passes on."""

    def __init__(self, chain: FakeChain, lie: Lie) -> None:
        self.chain = chain
        self.lie = lie

    def events(self, first: int, last: int) -> Sequence[Event]:
        told = list(self.lie(list(self.chain.events(0, len(self.chain.blocks)))))
        return [event for event in told if first <= event.at.block <= last]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.chain, name)


def listen_to(town: FakeTown, index: int, lie: Lie) -> None:
    """From now on this bank reads through a lying endpoint, from the first block on."""
    follower = town[index].follower
    follower.ledger = Lying(town.chain, lie)  # type: ignore[assignment]  # by its shape
    follower._start_over()


def rechain(events: Iterable[Event]) -> list[Event]:
    """Compute the roster anew over a changed history, and let the openings name it."""
    roster, told, renamed = roster_start(REALM), [], {}
    for event in events:
        if isinstance(event, ev.RosterChanged):
            roster = roster_link(roster, event.kind, event.data)
            renamed[event.roster] = roster
            event = replace(event, roster=roster)
        elif isinstance(event, ev.Opened):
            opening = replace(event.opening, roster=renamed.get(event.opening.roster, roster))
            event = replace(event, opening=opening)
        told.append(event)
    return told


def change(at: Position, kind: Change, *values: Any) -> ev.RosterChanged:
    return ev.RosterChanged(at, bytes(32), kind, abi_encode(CHANGE_TYPES[kind], list(values)))


def is_key_of(event: Event, member: int) -> bool:
    return isinstance(event, ev.RosterChanged) and event.kind is Change.KEY_SET and event.data[31] == member


def last_change(events: list[Event]) -> int:
    return max(i for i, e in enumerate(events) if isinstance(e, ev.RosterChanged))


# --------------------------------------------------------------------- the lies


def swap_key(events: list[Event], owner: LocalAccount = EVE, member: int = 1) -> list[Event]:
    data = abi_encode(
        CHANGE_TYPES[Change.KEY_SET],
        [member, 1, EVES_KEY.public, False, sign_statement(owner, member, 1, EVES_KEY.public)],
    )
    return [replace(e, data=data) if is_key_of(e, member) else e for e in events]  # type: ignore[call-arg]


def forge_owner(events: list[Event], member: int = 1) -> list[Event]:
    """Replace an owner by Eve, who then rotates the key."""
    place = last_change(events)
    at = events[place].at
    state_key = next(e for e in events if is_key_of(e, member))
    previous = state_key.data[64:96]  # type: ignore[attr-defined]
    signature = sign_statement(EVE, member, 2, EVES_KEY.public, previous)
    made = [
        change(at, Change.OWNER_REPLACED, member, EVE.address),
        change(at, Change.KEY_SET, member, 2, EVES_KEY.public, False, signature),
        change(at, Change.MEMBER_AUDITED, member, 2, 1),
    ]
    return [*events[: place + 1], *made, *events[place + 1 :]]


def add_member(events: list[Event]) -> list[Event]:
    place = last_change(events)
    at = events[place].at
    made = [
        change(at, Change.MEMBER_INVITED, 5, EVE.address, "Bank Z"),
        change(at, Change.MEMBER_CONFIRMED, 5),
        change(at, Change.KEY_SET, 5, 1, EVES_KEY.public, False, sign_statement(EVE, 5, 1, EVES_KEY.public)),
        change(at, Change.MEMBER_AUDITED, 5, 1, 1),
        ev.ReadinessSet(at, 5, True),
    ]
    return [*events[: place + 1], *made, *events[place + 1 :]]


def false_supervisor(events: list[Event], *, added: bool = True) -> list[Event]:
    place = last_change(events)
    at = events[place].at
    first = next(e for e in events if isinstance(e, ev.RosterChanged) and e.kind is Change.PERIOD_KEY_ANNOUNCED)
    signature = sign_statement(EVE, SUPERVISOR, 2, EVES_KEY.public, first.data[32:64])
    made = [
        *([change(at, Change.SUPERVISOR_ADDED, EVE.address)] if added else []),
        change(at, Change.PERIOD_KEY_ANNOUNCED, 2, EVES_KEY.public, EVE.address, signature),
        *[change(at, Change.MEMBER_AUDITED, member, 1, 2) for member in range(5)],
        change(at, Change.PERIOD_KEY_IN_FORCE, 2),
    ]
    return [*events[: place + 1], *made, *events[place + 1 :]]


def other_terms(events: list[Event], *, in_roster: bool = True, **changes: int) -> list[Event]:
    """The same history under other terms, in the roster's change too, if asked."""
    shown = replace(TERMS, **changes)
    data = abi_encode(CHANGE_TYPES[Change.TERMS_CHANGED], list(astuple(shown)))
    told: list[Event] = []
    for event in events:
        if isinstance(event, ev.TermsSet):
            event = replace(event, parameters=shown)
        elif in_roster and isinstance(event, ev.RosterChanged) and event.kind is Change.TERMS_CHANGED:
            event = replace(event, data=data)
        told.append(event)
    return told


def no_window(events: list[Event]) -> list[Event]:
    return other_terms(events, in_roster=False, window_seconds=0)


def other_schema(events: list[Event]) -> list[Event]:
    one, two, *rest = FIGURES_1.fields
    definition = Schema(1, "figures", (two, one, *rest)).definition
    return [replace(e, definition=definition) if isinstance(e, ev.SchemaRegistered) else e for e in events]


def other_contract(events: list[Event]) -> list[Event]:
    return [replace(e, at=replace(e.at, contract=EVE.address)) if isinstance(e, ev.Opened) else e for e in events]


def drop(number: int) -> Lie:
    def lie(events: list[Event]) -> list[Event]:
        changes = [e for e in events if isinstance(e, ev.RosterChanged)]
        return [e for e in events if e is not changes[number]]

    return lie


CONTRADICTIONS: dict[str, Lie] = {
    "a swapped key": swap_key,
    "a swapped key, chained anew": lambda events: rechain(swap_key(events)),
    "a forged owner": forge_owner,
    "a member made up": add_member,
    "terms that the roster does not name": no_window,
    "terms changed in the roster": lambda events: other_terms(events, window_seconds=0),
    "terms left out of the roster": drop(1),
    "a schema with two names swapped": other_schema,
    "a schema left out": lambda events: [e for e in events if not isinstance(e, ev.SchemaRegistered)],
    "an inquiry on another contract": other_contract,
    "a JointCredit that the roster does not name": lambda events: other_contract(
        [replace(e, current=EVE.address) if isinstance(e, ev.JointCreditReplaced) else e for e in events]
    ),
    "a change left out": drop(4),
    "the newest change left out": drop(-1),
    "a supervisor made up": false_supervisor,
    "a supervisor key of no supervisor": lambda events: rechain(false_supervisor(events, added=False)),
    "an inquiry that was never opened": lambda events: [e for e in events if not isinstance(e, ev.Opened)],
    "a roster forgotten": lambda events: [e for e in events if not isinstance(e, ev.RosterChanged)],
}


@pytest.mark.parametrize("lie", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_endpoint__contradicts_itself__is_the_wrong_ledger_and_nothing_is_answered(town: FakeTown, lie: Lie) -> None:
    town.asleep = {2, 3, 4}
    town.ask(1)
    town.work()
    town.work()
    before = len(town.chain.seen)
    listen_to(town, 2, lie)

    with pytest.raises(WrongLedger):
        town[2].sync()

    assert len(town.chain.seen) == before
    assert not list(town[2].desk.store.items("answer"))
    listen_to(town, 2, lambda events: events)  # an honest one again: it goes on
    town[2].work()
    assert list(town[2].desk.store.items("answer"))


CONSISTENT: dict[str, Lie] = {
    "a forged owner with a key of his": lambda events: rechain(forge_owner(events)),
    "a member made up": lambda events: rechain(add_member(events)),
    "a supervisor made up": lambda events: rechain(false_supervisor(events)),
}


@pytest.mark.parametrize("lie", CONSISTENT.values(), ids=CONSISTENT.keys())
def test_endpoint__consistent_lie_to_a_furnisher__is_refused_with_cohort(town: FakeTown, lie: Lie) -> None:
    town.asleep = {1, 2, 3, 4}
    town.ask(1)
    town.work()
    listen_to(town, 2, lambda events: with_true_opening_last(lie, events))

    town[2].sync()
    (inquiry,) = town[2].desk.state.inquiries.values()
    refusal = town[2].furnisher.judge(inquiry)

    assert refusal is not None
    assert refusal.code == RefusalCode.COHORT


def with_true_opening_last(lie: Lie, events: list[Event]) -> list[Event]:
    """The inquiry in the made-up history, its cohort as that history has it: a lie that hangs together."""
    told = list(lie(events))
    state, out = LedgerState(REALM), []
    for event in told:
        if isinstance(event, ev.Opened):
            opening = replace(event.opening, cohort=state.cohort(0, event.at.timestamp), roster=state.roster)
            event = replace(event, opening=opening)
        state.apply(event)
        out.append(event)
    return out


@pytest.mark.parametrize("lie", CONSISTENT.values(), ids=CONSISTENT.keys())
def test_endpoint__consistent_lie_to_the_inquirer__nothing_is_sealed(town: FakeTown, lie: Lie) -> None:
    before = len(town.chain.seen)
    listen_to(town, 0, lie)
    request = town.ask(1)

    town[0].work()

    found = town[0].inquirer.get(request)
    assert found.state is RequestState.WANTED
    assert "not one that this institution has accepted" in found.note
    assert not [t for t in town.chain.seen[before:] if t.call.function in ("open", "sealMaskKeys")]


def test_endpoint__forged_owner_and_a_reader_without_pins__eve_reads_the_subject(town: FakeTown) -> None:
    # The variant: whoever the ledger shows is believed.
    town[0].follower.pins = Pins()
    listen_to(town, 0, lambda events: rechain(forge_owner(events)))
    town[0].sync()

    opening, _ = open_crafted(town[0], [(town.tagger.tag(subject(1)), town.consent(1))], post=False)

    state = town[0].desk.state
    own = KeyRef(1, 2, EVES_KEY.public)
    wrap = derive(EVES_KEY, own, state.members[0].key, REALM, state.period_keys[1].ref).wrap
    q0 = protocol.inquiry_q0(REALM, JOINT_CREDIT, 0, opening.n, opening.roster, opening.nonce)
    read = open_subjects_member(opening.sealed_subject, opening.subject_commitment, q0, 0, 1, wrap)
    assert read.entries[0].tag == town.tagger.tag(subject(1))


def test_mask_keys__false_supervisor__are_not_sealed_to_it() -> None:
    town = found_town(5, settle=False)
    for index in range(5):
        listen_to(town, index, lambda events: rechain(false_supervisor(events)))

    for bank in town.banks:
        bank.work()

    assert not [t for t in town.chain.seen if t.call.function == "sealMaskKeys"]


def test_mask_keys__member_made_up__gets_none(town: FakeTown) -> None:
    before = len(town.chain.seen)
    listen_to(town, 2, lambda events: rechain(add_member(events)))

    town[2].work()

    assert not [t for t in town.chain.seen[before:] if t.call.function == "sealMaskKeys"]


# --------------------------------------------------------------------- the terms


class Believing(LedgerState):
    """The variant: terms are what the last event says, whatever the roster names."""

    def _apply(self, event: Event) -> None:
        if isinstance(event, ev.TermsSet):
            self.parameters = event.parameters
        else:
            super()._apply(event)


def second_cohort(town: FakeTown) -> bytes:
    """All were asked about a subject; within the window another inquirer asks the cohort without Bank E."""
    town.ask(1)
    town.settle()
    town.sleep(4)
    _, q = open_crafted(town[1], [(town.tagger.tag(subject(1)), town.consent(1, to=1))])
    return q


def test_endpoint__shows_no_window_to_a_reader_that_believes_it__second_cohort_is_answered(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = second_cohort(town)
    monkeypatch.setattr("mpcredit.follower.LedgerState", Believing)
    listen_to(town, 2, no_window)

    town[2].work()

    assert "payload" in (town[2].desk.store.get("answer", to_hex(q)) or {})  # the totals' difference is Bank E's record


@pytest.mark.parametrize(
    "lie",
    [no_window, lambda events: other_terms(events, window_seconds=0)],
    ids=["beside the roster", "in the roster"],
)
def test_endpoint__shows_no_window__is_the_wrong_ledger_and_the_true_window_refuses(town: FakeTown, lie: Lie) -> None:
    q = second_cohort(town)
    listen_to(town, 2, lie)

    with pytest.raises(WrongLedger):
        town[2].work()

    assert town[2].desk.store.get("answer", to_hex(q)) is None
    listen_to(town, 2, lambda events: events)
    town[2].work()
    assert (town[2].desk.store.get("answer", to_hex(q)) or {})["refused"] == RefusalCode.WINDOW


def test_endpoint__shows_no_window_and_chains_it_anew__id_does_not_follow_and_is_refused(town: FakeTown) -> None:
    # The roster is in the inquiry's id: under another one it is another inquiry, whose masks cancel with nobody's.
    q = second_cohort(town)
    listen_to(town, 2, lambda events: rechain(other_terms(events, window_seconds=0)))

    town[2].sync()
    refusal = town[2].furnisher.judge(town[2].desk.state.inquiries[q])

    assert refusal is not None
    assert refusal.code == RefusalCode.ENCODING


# --------------------------------------------------------------------- the cohort


def not_ready(*members: int) -> Lie:
    def lie(events: list[Event]) -> list[Event]:
        return [e for e in events if not (isinstance(e, ev.ReadinessSet) and e.member in members)]

    return lie


def test_endpoint__hides_a_members_readiness__the_true_cohort_is_refused(town: FakeTown) -> None:
    town.asleep = {1, 2, 3, 4}
    town.ask(1)
    town.work()
    listen_to(town, 2, not_ready(3))

    town[2].work()

    (answer,) = (value for _, value in town[2].desk.store.items("answer"))
    assert answer["refused"] == RefusalCode.COHORT


def a_made_up_inquiry_over_three(
    town: FakeTown, terms_too: bool, *, inquiries: int = 0, later: int = 0, **terms: int
) -> Lie:
    """An endpoint and two members (0 and 1) make up an inquiry of which member 2 is the only honest one; `later`: seconds."""

    def lie(events: list[Event]) -> list[Event]:
        told = list(not_ready(3, 4)(events))
        return rechain(other_terms(told, minimum_cohort=3, **terms)) if terms_too else told

    listen_to(town, 0, lie)
    town[0].sync()
    opening, q = open_crafted(town[0], [(town.tagger.tag(subject(1)), town.consent(1, days=60))], post=False)
    state = town[0].desk.state
    q0 = protocol.inquiry_q0(REALM, JOINT_CREDIT, 0, opening.n, opening.roster, opening.nonce)
    head = town.chain.head()
    at = Position(head.number, head.hash, 99, head.timestamp + later, bytes(32), JOINT_CREDIT)
    assert ev.members_of(opening.cohort) == (0, 1, 2)
    assert len(state.inquiries) == inquiries
    made = ev.Opened(at, q, 0, q0, town.accounts[0].address, head.timestamp + 3600, opening)
    return lambda events: [*lie(events), made]


def test_endpoint__shrinks_the_cohort_below_the_terms__is_refused(town: FakeTown) -> None:
    listen_to(town, 2, a_made_up_inquiry_over_three(town, terms_too=False))

    town[2].work()

    (answer,) = (value for _, value in town[2].desk.store.items("answer"))
    assert answer["refused"] == RefusalCode.COHORT


def test_endpoint__shrinks_cohort_and_terms__own_minimum_refuses(town: FakeTown) -> None:
    # Nobody signs terms: an endpoint that makes the whole history up can chain others into it, and with them an inquiry of
    # colluders under a roster that nobody else knows. The institution's own minimum does not move.
    town[2].desk.minimum_cohort = 4
    listen_to(town, 2, a_made_up_inquiry_over_three(town, terms_too=True))

    town[2].work()

    (answer,) = (value for _, value in town[2].desk.store.items("answer"))
    assert answer["refused"] == RefusalCode.COHORT


def test_endpoint__shrinks_cohort_and_terms_and_no_own_minimum__is_answered(town: FakeTown) -> None:
    # The variant, and the reason for that setting: with the least minimum of 3, two colluding members and the endpoint
    # through which the third reads get its figures.
    town[2].desk.minimum_cohort = 3
    listen_to(town, 2, a_made_up_inquiry_over_three(town, terms_too=True))

    town[2].work()

    (answer,) = (value for _, value in town[2].desk.store.items("answer"))
    assert "payload" in answer


@pytest.mark.parametrize("own", [0, 30 * DAY], ids=["no own window", "own window"])
def test_endpoint__shrinks_cohort_and_window__only_an_own_window_refuses(town: FakeTown, own: int) -> None:
    # As above, after a true inquiry on the same subject over all five: its total and the made-up one differ by the figures of
    # 3 and 4. Without an own window (the variant) it is answered.
    town.ask(1)
    town.settle()
    town[2].desk.minimum_window = own
    lie = a_made_up_inquiry_over_three(town, True, inquiries=1, window_seconds=0, cooldown_seconds=0)
    listen_to(town, 2, lie)

    town[2].work()

    *_, answer = (value for _, value in town[2].desk.store.items("answer") if value.get("cohort") != hex(0b11111))
    assert answer.get("refused") == (RefusalCode.WINDOW if own else None)


@pytest.mark.parametrize("clocked", [False, True], ids=["no own clock", "own clock"])
@pytest.mark.parametrize("false_time", ["the new one is of later", "the old one was earlier"])
def test_endpoint__lies_about_the_time__own_window_goes_by_the_own_clock(
    town: FakeTown, clocked: bool, false_time: str
) -> None:
    # As above, with an own window; the endpoint says that it is over. Nothing signs the time of a block. Without the own
    # clock (the variant) it is answered.
    bank = town[2]
    if clocked:
        bank.follower.clock = lambda: town.chain.time
    town.ask(1)
    town.settle()
    bank.desk.minimum_window = 30 * DAY
    later = 31 * DAY if false_time.startswith("the new") else 0
    made_up = a_made_up_inquiry_over_three(
        town, True, inquiries=1, later=later, window_seconds=0, cooldown_seconds=0, subjects_per_day=1000
    )

    def lie(events: list[Event]) -> list[Event]:
        told: list[Event] = []
        for event in made_up(events):
            if isinstance(event, ev.Opened) and not later and ev.members_of(event.opening.cohort) != (0, 1, 2):
                event = replace(event, at=replace(event.at, timestamp=event.at.timestamp - 31 * DAY))
            told.append(event)
        return told

    listen_to(town, 2, lie)
    bank.work()

    *_, answer = (value for _, value in bank.desk.store.items("answer") if value.get("cohort") != hex(0b11111))
    assert answer.get("refused") == (RefusalCode.WINDOW if clocked else None)


def test_endpoint__changes_what_was_published__id_does_not_follow_and_is_refused(town: FakeTown) -> None:
    town.asleep = {1, 2, 3, 4}
    town.ask(1)
    town.work()

    for changes in (
        {"currency": "USD"},
        {"subject_commitment": bytes(32)},
        {"sealed_subject": b"\1" * 900},
        {"nonce": 9},
    ):

        def lie(events: list[Event], changes: dict[str, Any] = changes) -> list[Event]:
            return [
                replace(e, opening=replace(e.opening, **changes)) if isinstance(e, ev.Opened) else e for e in events
            ]

        listen_to(town, 2, lie)
        town[2].sync()
        (inquiry,) = town[2].desk.state.inquiries.values()
        refusal = town[2].furnisher.judge(inquiry)
        assert refusal is not None, changes
        assert refusal.code == RefusalCode.ENCODING


@pytest.mark.parametrize("asked", [False, True], ids=["not compared", "compared"])
def test_endpoint__is_contradicted_by_another__before_an_answer_is_made(
    town: FakeTown, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between two comparisons an endpoint could show any terms and an inquiry under them.
    town.ask(1)
    town[0].work()
    bank = town[2]
    bank.sync()

    def contradict(head: Block, roster: bytes, *, at_once: bool = False) -> None:
        if at_once:
            raise EndpointsDisagree("the endpoints show different rosters")

    monkeypatch.setattr(town.chain, "witness", contradict)
    if not asked:  # the variant
        monkeypatch.setattr("mpcredit.follower.Follower.bear_out", lambda self: None)

    if asked:
        with pytest.raises(EndpointsDisagree):
            bank.work()
    else:
        bank.work()

    assert bool(list(bank.desk.store.items("answer"))) is not asked
