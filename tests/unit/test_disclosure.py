"""R26, R27: the order of the codes, each with its twin that is answered; and the excuses of the window rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import DAY, TERMS, FakeTown, found_town, subject, two_keys

from mpcredit import events as ev
from mpcredit.consent import Purpose
from mpcredit.disclosure import ADVICE, Refusal, RefusalCode, Seen, decide, window_conflict
from mpcredit.events import Position, Stage
from mpcredit.sealing import SubjectEntry, SubjectList
from mpcredit.state import Inquiry, LedgerState


@pytest.fixture(scope="module")
def world() -> tuple[FakeTown, Inquiry]:
    with pytest.MonkeyPatch.context() as patch, two_keys(patch):
        town = found_town(5)
        town.asleep = {1, 2, 3, 4}
        request = town.ask(1)
        town[0].work()
        town[2].sync()
        return town, town[2].desk.state.inquiries[town.inquiry(request).id]


def seen(world: tuple[FakeTown, Inquiry], **changes: Any) -> Seen:
    """An earlier inquiry of another inquirer on the same subject, over the same cohort, a day and an hour before."""
    town, inquiry = world
    made = Seen(
        inquiry=b"e" * 32,
        inquirer=1,
        tags=(town.tagger.tag(subject(1)),),
        consents=(b"c" * 32,),
        cohort=inquiry.opening.cohort,
        opened_at=inquiry.opened.at.timestamp - DAY - 3600,
        order=(1, 0),
    )
    return replace(made, **changes)


def decided(
    world: tuple[FakeTown, Inquiry], memory: list[Seen], subjects: SubjectList | None = None, **changes: Any
) -> Refusal | None:
    town, inquiry = world
    desk = town[2].desk
    at = inquiry.opened.at.timestamp
    given: dict[str, Any] = {
        "state": desk.state,
        "memory": memory,
        "tags": tuple(entry.tag for entry in (subjects or desk.subjects(inquiry)).entries),
        "tag_key_version": 1,
        "currency": "TWD",
        "book_as_of": at,
        "now": at,
        **changes,
    }
    return decide(inquiry, subjects or desk.subjects(inquiry), **given)


def code(refusal: Refusal | None) -> int | None:
    return None if refusal is None else int(refusal.code)


def test_codes__have_their_order_numbers_and_advice() -> None:
    names = [
        "RESTORED",
        "COHORT",
        "KEY",
        "ENCODING",
        "SUBJECT",
        "CONSENT",
        "WINDOW",
        "COOLDOWN",
        "RATE",
        "BOOK",
        "LATE",
    ]

    assert [(c.name, int(c)) for c in RefusalCode] == [(name, i + 1) for i, name in enumerate(names)]
    assert set(ADVICE) == set(RefusalCode)


def test_decide__nothing_against_it__is_answered(world: tuple[FakeTown, Inquiry]) -> None:
    assert decided(world, []) is None
    assert decided(world, [seen(world)]) is None


def test_decide__sealed_part_names_other_terms__is_encoding(world: tuple[FakeTown, Inquiry]) -> None:
    town, inquiry = world
    listed = town[2].desk.subjects(inquiry)
    other = town.consent(2)
    two = (*listed.entries, SubjectEntry(other.tag, other))

    assert code(decided(world, [], replace(listed, schema=2))) == RefusalCode.ENCODING
    assert code(decided(world, [], replace(listed, currency="USD"))) == RefusalCode.ENCODING
    assert code(decided(world, [], replace(listed, entries=two))) == RefusalCode.ENCODING
    assert code(decided(world, [], currency="USD")) == RefusalCode.ENCODING


def test_decide__consent_that_does_not_fit__is_consent(world: tuple[FakeTown, Inquiry]) -> None:
    town, inquiry = world
    listed = town[2].desk.subjects(inquiry)
    other = town.consent(1)

    assert code(decided(world, [], replace(listed, purpose=Purpose.REVIEW))) == RefusalCode.CONSENT
    swapped = replace(listed, entries=(SubjectEntry(other.tag, other),))
    assert code(decided(world, [], swapped)) == RefusalCode.CONSENT
    assert code(decided(world, [], tag_key_version=0)) == RefusalCode.CONSENT
    assert decided(world, [], tag_key_version=2) is None  # it names an earlier one


def test_decide__consent_used_by_the_same_inquirer__is_consent_and_by_another_not(
    world: tuple[FakeTown, Inquiry],
) -> None:
    _, inquiry = world
    used = inquiry.opening.consents
    long_ago = {"opened_at": 0, "consents": used}

    assert code(decided(world, [seen(world, inquirer=0, **long_ago)])) == RefusalCode.CONSENT
    assert decided(world, [seen(world, inquirer=1, **long_ago)]) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cohort": 0b01111}, RefusalCode.WINDOW),
        ({"cohort": 0b01111, "opened_at": 0}, None),
        ({"cohort": 0b01111, "tags": (b"x" * 32,)}, None),
        (
            {"cohort": 0b01111, "order": (10**6, 0)},
            RefusalCode.WINDOW,
        ),  # not on the ledger any more: public all the same
        ({"inquirer": 0}, None),
        ({"inquirer": 0, "opened_at": None}, RefusalCode.COOLDOWN),
        ({"inquirer": 1, "opened_at": None}, None),
        ({"inquirer": 0, "opened_at": None, "tags": (b"x" * 32,)}, None),
    ],
)
def test_decide__window_and_cooldown(
    world: tuple[FakeTown, Inquiry], changes: dict[str, Any], expected: RefusalCode | None
) -> None:
    if changes.get("opened_at", 0) is None:
        changes = {**changes, "opened_at": world[1].opened.at.timestamp - DAY + 1}

    assert code(decided(world, [seen(world, **changes)])) == expected


def test_decide__rate__counts_the_inquirers_subjects_of_a_day(world: tuple[FakeTown, Inquiry]) -> None:
    town, inquiry = world
    at = inquiry.opened.at.timestamp
    many = tuple(bytes([i]) * 32 for i in range(9))
    limited = (town, replace(inquiry, parameters=replace(TERMS, subjects_per_day=9)))

    assert code(decided(limited, [seen(world, inquirer=0, tags=many, opened_at=at - 5)])) == RefusalCode.RATE
    assert decided(limited, [seen(world, inquirer=0, tags=many[:8], opened_at=at - 5)]) is None
    assert decided(limited, [seen(world, inquirer=0, tags=many, opened_at=at - DAY)]) is None
    assert decided(limited, [seen(world, inquirer=1, tags=many, opened_at=at - 5)]) is None


def test_decide__book_and_deadline__at_their_edges(world: tuple[FakeTown, Inquiry]) -> None:
    inquiry = world[1]
    at, deadline = inquiry.opened.at.timestamp, inquiry.opened.deadline

    assert code(decided(world, [], book_as_of=at - TERMS.book_age_seconds - 1)) == RefusalCode.BOOK
    assert decided(world, [], book_as_of=at - TERMS.book_age_seconds) is None
    assert code(decided(world, [], now=deadline - 60)) == RefusalCode.LATE
    assert decided(world, [], now=deadline - 61) is None


def test_decide__several_reasons__the_first_of_the_list_is_given(world: tuple[FakeTown, Inquiry]) -> None:
    inquiry = world[1]
    at = inquiry.opened.at.timestamp
    bad = [seen(world, inquirer=0, cohort=0b1111, opened_at=at - 5)]
    reasons = {"book_as_of": 0, "now": at + 10**6}

    assert code(decided(world, bad, **reasons, currency="USD")) == RefusalCode.ENCODING
    assert code(decided(world, bad, **reasons, tag_key_version=0)) == RefusalCode.CONSENT
    assert code(decided(world, bad, **reasons)) == RefusalCode.WINDOW
    assert code(decided(world, [replace(bad[0], cohort=inquiry.opening.cohort)], **reasons)) == RefusalCode.COOLDOWN
    assert code(decided(world, [], **reasons)) == RefusalCode.BOOK


# ---------------------------------------------------------------- excuses


def excuse(world: tuple[FakeTown, Inquiry], how: str) -> LedgerState:
    """The ledger with the inquiry ended in some way as far as member 4 goes."""
    town, inquiry = world
    state = town.chain.fold()
    found = state.inquiries[inquiry.id]
    at = Position(99, bytes(32), 0, 0, bytes(32), inquiry.joint_credit)
    if how == "stated":
        found.stage = Stage.EXPIRED
        found.not_sent = {4}
    elif how == "stated, but it did not fail":
        found.not_sent = {4}
    elif how in ("refused", "refused after a restore"):
        found.stage = Stage.REFUSED
        found.refusal = ev.Refusal(at, inquiry.id, 4, RefusalCode.BOOK if how == "refused" else RefusalCode.RESTORED)
    elif how == "another refused":
        found.stage = Stage.REFUSED
        found.refusal = ev.Refusal(at, inquiry.id, 3, RefusalCode.BOOK)
    elif how == "named":
        found.stage = Stage.VOID
        found.verdict = ev.Attested(at, inquiry.id, "0x", False, 0b10000, bytes(32))
    elif how == "silent":
        found.stage = Stage.EXPIRED
    return state


EXCUSED = {
    "stated": True,
    "refused": True,
    "named": True,
    "silent": False,
    "stated, but it did not fail": False,
    "refused after a restore": False,
    "another refused": False,
}


@pytest.mark.parametrize("how", EXCUSED)
def test_window_conflict__member_missing_from_the_second_cohort__only_if_it_has_put_nothing_in(
    world: tuple[FakeTown, Inquiry], how: str
) -> None:
    inquiry = world[1]
    memory = [seen(world, inquiry=inquiry.id, opened_at=inquiry.opened.at.timestamp)]
    state = excuse(world, how)
    arguments = (memory[0].tags, 0b01111, memory[0].opened_at + 10, (99, 0), memory, state)

    conflict = window_conflict(*arguments)

    assert (conflict is None) == EXCUSED[how]
    if conflict:
        assert conflict[1] == (4,)


def test_window_conflict__one_excused_and_one_not__names_the_other(world: tuple[FakeTown, Inquiry]) -> None:
    inquiry = world[1]
    memory = [seen(world, inquiry=inquiry.id, opened_at=inquiry.opened.at.timestamp)]
    state = excuse(world, "stated")

    conflict = window_conflict(memory[0].tags, 0b00111, memory[0].opened_at + 10, (99, 0), memory, state)

    assert conflict is not None
    assert conflict[1] == (3,)


def test_window_conflict__member_added__is_never_excused(world: tuple[FakeTown, Inquiry]) -> None:
    inquiry = world[1]
    memory = [seen(world, inquiry=inquiry.id, cohort=0b01111, opened_at=inquiry.opened.at.timestamp)]

    conflict = window_conflict(
        memory[0].tags, 0b11111, memory[0].opened_at + 10, (99, 0), memory, excuse(world, "stated")
    )

    assert conflict is not None
    assert conflict[1] == (4,)


@pytest.mark.parametrize(("answered", "counts"), [(False, False), (True, True)])
def test_window_conflict__later_on_the_ledger__counts_only_if_answered(
    world: tuple[FakeTown, Inquiry], answered: bool, counts: bool
) -> None:
    inquiry = world[1]
    state = world[0].chain.fold()
    order = (inquiry.opened.at.block, inquiry.opened.at.log_index)
    memory = [seen(world, inquiry=inquiry.id, opened_at=inquiry.opened.at.timestamp, order=order, answered=answered)]

    conflict = window_conflict(memory[0].tags, 0b01111, memory[0].opened_at, (order[0] - 1, 0), memory, state)

    assert (conflict is not None) == counts
