"""R26, R27: the order of the codes, each with its twin that is answered; used consents and repeated cohorts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import DAY, TERMS, FakeTown, found_town, subject, two_keys

from mpcredit.consent import Purpose
from mpcredit.disclosure import ADVICE, Refusal, RefusalCode, Seen, UsedConsent, decide, window_conflict
from mpcredit.sealing import SubjectEntry, SubjectList
from mpcredit.state import Inquiry


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
        answered=True,
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
        "consents": {},
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
    of_schema_2 = replace(inquiry, opened=replace(inquiry.opened, opening=replace(inquiry.opening, schema=2)))
    assert code(decided((town, of_schema_2), [], listed)) == RefusalCode.ENCODING
    assert code(decided(world, [], replace(listed, currency="USD"))) == RefusalCode.ENCODING
    assert code(decided(world, [], replace(listed, currency="USD"), currency="USD")) == RefusalCode.ENCODING
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


def used(inquiry: Inquiry, **changes: Any) -> dict[bytes, UsedConsent]:
    """This member has answered under the consent of an inquiry, as the inquiry asks."""
    made = UsedConsent(inquiry.opening.cohort, inquiry.opening.schema, inquiry.opening.currency, True)
    return {inquiry.opening.consents[0]: replace(made, **changes)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"cohort": 0b01111}, RefusalCode.CONSENT),
        ({"schema": 2}, RefusalCode.CONSENT),
        ({"currency": "USD"}, RefusalCode.CONSENT),
        ({"has_figures": False}, RefusalCode.CONSENT),
    ],
)
def test_decide__used_consent__only_the_same_answer_is_given_again(
    world: tuple[FakeTown, Inquiry], changes: dict[str, Any], expected: RefusalCode | None
) -> None:
    assert code(decided(world, [], consents=used(world[1], **changes))) == expected


def test_decide__used_consent__neither_cooldown_nor_book_is_asked_and_the_rate_is(
    world: tuple[FakeTown, Inquiry],
) -> None:
    town, inquiry = world
    earlier = [seen(world, inquirer=0, opened_at=inquiry.opened.at.timestamp - 60)]
    again = used(inquiry)

    assert code(decided(world, earlier)) == RefusalCode.COOLDOWN
    assert decided(world, earlier, consents=again) is None
    assert code(decided(world, [], book_as_of=0)) == RefusalCode.BOOK
    assert decided(world, earlier, consents=again, book_as_of=0) is None
    limited = (town, replace(inquiry, parameters=replace(TERMS, subjects_per_day=1)))
    assert code(decided(limited, earlier, consents=again)) == RefusalCode.RATE


def test_decide__time_of_a_consent__begins_with_the_first_opening_that_names_it_and_ends(
    world: tuple[FakeTown, Inquiry],
) -> None:
    town, inquiry = world
    state, at = town.chain.fold(), inquiry.opened.at.timestamp
    (consent,) = inquiry.opening.consents
    state.first_named[(0, consent)] = at - TERMS.repeat_seconds + 100

    assert decided(world, [], state=state, now=at + 99) is None
    assert code(decided(world, [], state=state, now=at + 100)) == RefusalCode.CONSENT
    assert code(decided(world, [], state=state, now=at + 100, consents=used(inquiry))) == RefusalCode.CONSENT
    del state.first_named[(0, consent)]
    state.first_named[(1, consent)] = 0  # another member has written the hash into an inquiry of its own
    assert decided(world, [], state=state) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cohort": 0b01111}, RefusalCode.WINDOW),
        ({"cohort": 0b01111, "opened_at": 0}, None),
        ({"cohort": 0b01111, "tags": (b"x" * 32,)}, None),
        ({"cohort": 0b01111, "answered": False}, None),  # only own answers count
        ({"cohort": 0b11110}, None),  # without the inquirer, whose figures are known to it
        ({"cohort": 0b11101}, None),  # without the earlier inquirer
        ({"cohort": 0b01111, "order": (10**6, 0)}, RefusalCode.WINDOW),  # wherever a reorganisation puts it
        ({"inquirer": 0, "opened_at": None, "answered": False}, None),
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


def test_decide__cooldown__ends_to_the_second(world: tuple[FakeTown, Inquiry]) -> None:
    end = world[1].opened.at.timestamp - TERMS.cooldown_seconds

    assert code(decided(world, [seen(world, inquirer=0, opened_at=end + 1)])) == RefusalCode.COOLDOWN
    assert decided(world, [seen(world, inquirer=0, opened_at=end)]) is None


@pytest.mark.parametrize(
    ("opened_at", "clock", "changes", "conflicts"),
    [
        (1_599, 1_599, {}, True),
        (1_600, 1_600, {}, False),
        (1_600, 1_599, {}, True),  # the endpoint's blocks are ahead of the own clock
        (1_599, 1_600, {}, True),
        (1_600, 0, {}, False),  # without a clock the blocks count
        (1_599, 0, {}, True),
        (1_499, 1_499, {"answered_at": 0}, True),  # a store that does not know when it answered
        (1_500, 1_500, {"answered_at": 0}, False),
        (1_600, 1_600, {"opened_at": 1_200}, True),  # an opening of after the answer: its time counts
        (1_700, 1_700, {"opened_at": 1_200}, False),
        (1_600, 1_600, {"window": 601}, True),  # the terms' own window is the longer one
        (1_600, 1_600, {"window": 600}, False),
        (1_050, 1, {"least": 0}, False),  # without an own least window the clock is not asked
        (1_049, 1, {"least": 0}, True),
    ],
)
def test_window_conflict__own_least_window__by_the_own_clock_from_the_own_answer(
    world: tuple[FakeTown, Inquiry], opened_at: int, clock: int, changes: dict[str, int], conflicts: bool
) -> None:
    given = {"opened_at": 1_000, "answered_at": 1_100, "window": 50, "least": 500, **changes}
    window, least = given.pop("window"), given.pop("least")
    earlier = seen(world, cohort=0b01111, **given)

    found = window_conflict(earlier.tags, 0b11111, 0, opened_at, [earlier], window, least, clock)

    assert found == ((earlier, (4,)) if conflicts else None)


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
    reasons = {"book_as_of": 0, "now": inquiry.opened.deadline}

    assert code(decided(world, bad, **reasons, currency="USD")) == RefusalCode.ENCODING
    assert code(decided(world, bad, **reasons, tag_key_version=0)) == RefusalCode.CONSENT
    assert code(decided(world, bad, **reasons)) == RefusalCode.WINDOW
    assert code(decided(world, [replace(bad[0], cohort=inquiry.opening.cohort)], **reasons)) == RefusalCode.COOLDOWN
    assert code(decided(world, [], **reasons)) == RefusalCode.BOOK


# ---------------------------------------------------------------- repeated cohorts (R27.3)


def repeating(world: tuple[FakeTown, Inquiry]) -> tuple[FakeTown, Inquiry]:
    """The inquiry, if its cohort were one that it repeats."""
    town, inquiry = world
    opened = replace(inquiry.opened, opening=replace(inquiry.opening, repeats=True))
    return town, replace(inquiry, opened=opened)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"cohort": 0b11110}, None),  # with the inquirer added it is this one
        ({"cohort": 0b01111}, RefusalCode.COHORT),
        ({"repeats": True}, RefusalCode.COHORT),
        ({"opened_at": 0}, RefusalCode.COHORT),
        ({"tags": (b"x" * 32,)}, RefusalCode.COHORT),
        ({"answered": True}, None),  # the window rule judges
        ({"answered": True, "cohort": 0b01111}, RefusalCode.WINDOW),
    ],
)
def test_decide__repetition__needs_an_opening_of_the_subject_over_all_that_were_ready(
    world: tuple[FakeTown, Inquiry],
    changes: dict[str, Any],
    expected: RefusalCode | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = seen(world, **{"answered": False, **changes})
    on_ledger(world, earlier, monkeypatch)

    assert code(decided(repeating(world), [earlier])) == expected


def on_ledger(
    world: tuple[FakeTown, Inquiry], earlier: Seen, monkeypatch: pytest.MonkeyPatch, ready: int | None = None
) -> None:
    """The ledger shows an inquiry that the member remembers, over all members that were ready."""
    town, inquiry = world
    shown = replace(inquiry, ready=earlier.cohort if ready is None else ready)
    monkeypatch.setitem(town[2].desk.state.inquiries, earlier.inquiry, shown)


def test_decide__repetition_of_an_opening_that_a_reorganisation_took_away__is_cohort(
    world: tuple[FakeTown, Inquiry],
) -> None:
    assert code(decided(repeating(world), [seen(world, answered=False)])) == RefusalCode.COHORT


def test_decide__repetition_of_an_opening_over_fewer_than_were_ready__is_cohort(
    world: tuple[FakeTown, Inquiry], monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = seen(world, answered=False)
    on_ledger(world, earlier, monkeypatch, ready=earlier.cohort | 1 << 7)

    assert code(decided(repeating(world), [earlier])) == RefusalCode.COHORT


def test_decide__repetition_without_any_opening__is_cohort(world: tuple[FakeTown, Inquiry]) -> None:
    assert code(decided(repeating(world), [])) == RefusalCode.COHORT


def test_decide__window__names_the_cohort_to_repeat(world: tuple[FakeTown, Inquiry]) -> None:
    refusal = decided(world, [seen(world, cohort=0b00110)])

    assert refusal is not None
    assert refusal.repeat == 0b00111
