"""Whether the subject is a customer must not show in what a furnisher publishes (R26; I14; protocol.md section 3).

Two towns differ only in whether the subject is in the loan books. For every outcome of the policy the transactions have the
same senders, functions, order and lengths, and the same refusal codes; the loan book is not read before the decision, and
afterwards each subject is looked up once. Variants that look first are told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from attackers import open_crafted
from fakes import DAY, TERMS, FakeTown, found_town, subject, two_keys
from hypothesis import given
from hypothesis import strategies as st

from mpcredit import disclosure
from mpcredit.disclosure import Refusal, RefusalCode, Seen
from mpcredit.events import Parameters
from mpcredit.furnisher import Furnisher
from mpcredit.state import Inquiry

Shape = list[tuple[int, str, tuple[object, ...]]]


def shape(town: FakeTown, since: int) -> Shape:
    """What anybody sees of the transactions, but for uniformly random bytes."""

    def look(value: object) -> object:
        return len(value) if isinstance(value, bytes) else type(value).__name__ if isinstance(value, tuple) else value

    senders = {account.address: index for index, account in enumerate(town.accounts)}
    return [
        (senders.get(t.sender, -1), t.call.function, tuple(look(a) for a in t.call.arguments))
        for t in town.chain.seen[since:]
    ]


def nothing_special(town: FakeTown) -> Parameters:
    return TERMS


def asked_before_by_the_same(town: FakeTown) -> None:
    town.ask(1)
    town.settle()


def other_cohort_before(town: FakeTown) -> None:
    town.sleep(4)
    town.ask(1, by=1)
    town.settle()
    town.wake(4)


def old_book(town: FakeTown) -> None:
    for book in town.books:
        book.as_of -= 60 * DAY


def late(town: FakeTown) -> None:
    town.asleep = {1, 2, 3, 4}


def restored(town: FakeTown) -> None:
    for bank in town.banks:
        for member in bank.desk.state.members.values():
            member.since = 10**12


SITUATIONS: dict[str, tuple[Callable[[FakeTown], None], RefusalCode | None]] = {
    "answered": (lambda town: None, None),
    "consent": (lambda town: None, RefusalCode.CONSENT),
    "window": (other_cohort_before, RefusalCode.WINDOW),
    "cool-down": (asked_before_by_the_same, RefusalCode.COOLDOWN),
    "old book": (old_book, RefusalCode.BOOK),
    "restored": (restored, RefusalCode.RESTORED),
}


def run(situation: str, customer: bool) -> tuple[Shape, int | None, list[list[bytes]]]:
    prepare, _ = SITUATIONS[situation]
    town = found_town(5)
    tag = town.tagger.tag(subject(1))
    for book in town.books:
        if not customer:
            book.figures.pop(tag)
    prepare(town)
    town.supervised = False
    since = len(town.chain.seen)
    consent = town.consent(1)
    if situation == "consent":
        consent = replace(consent, valid_until=town.chain.time)
    for book in town.books:
        book.reads.clear()
    _, q = open_crafted(town[0], [(tag, consent)])
    town.asleep = {0}
    for book in town.books:
        book.reads.clear()
    town.settle()
    town[0].sync()
    inquiry = town[0].desk.state.inquiries[q]
    code = inquiry.refusal.code if inquiry.refusal else None
    return shape(town, since), code, [book.reads for book in town.books[1:]]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_furnisher__customer_or_stranger__publishes_the_same(situation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with two_keys(monkeypatch):
        known, unknown = run(situation, True), run(situation, False)

    assert known == unknown
    assert known[1] == SITUATIONS[situation][1]
    # Not read before a refusal, and read once for an answer. Two of those answered nothing before.
    judges = known[2][1:3] if situation == "window" else known[2]
    assert {len(reads) for reads in judges} == ({1} if known[1] is None else {0})


class LooksFirst(Furnisher):
    """The variant: a furnisher that saves itself the work for strangers."""

    def judge(self, inquiry: Inquiry) -> Refusal | None:
        subjects = self.desk.subjects(inquiry)
        if not any(self.book.record(inquiry.schema, entry.tag)["loans"] for entry in subjects.entries):
            return Refusal(RefusalCode.SUBJECT, "no customer of ours")
        return super().judge(inquiry)


def test_furnisher__that_looks_first__is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcredit.institution.Furnisher", LooksFirst)
    with two_keys(monkeypatch):
        known, unknown = run("answered", True), run("answered", False)

    assert known[:2] != unknown[:2]


# --------------------------------------------------------------------- the policy alone


@pytest.fixture(scope="module")
def judged() -> tuple[FakeTown, Inquiry]:
    """A town and an open inquiry, to be judged again and again."""
    town = found_town(5)
    town.asleep = {1, 2, 3, 4}
    _, q = open_crafted(town[0], [(town.tagger.tag(subject(1)), town.consent(1))])
    town[2].sync()
    return town, town[2].desk.state.inquiries[q]


seen_lists = st.lists(
    st.builds(
        Seen,
        inquiry=st.binary(min_size=32, max_size=32),
        inquirer=st.integers(0, 4),
        tags=st.sampled_from([1, 2]).map(lambda n: (bytes([n]) * 32,)),
        consents=st.just(()),
        cohort=st.sampled_from([0b11111, 0b1111, 0b11011]),
        opened_at=st.integers(-40 * DAY, 100),
        order=st.tuples(st.integers(0, 40), st.integers(0, 3)),
        answered=st.booleans(),
    ),
    max_size=4,
)


@given(memory=seen_lists, age=st.integers(0, 60 * DAY), later=st.integers(0, 4000), rate=st.integers(1, 3))
def test_decide__any_memory__is_a_function_of_what_all_members_know(
    judged: tuple[FakeTown, Inquiry], memory: list[Seen], age: int, later: int, rate: int
) -> None:
    town, inquiry = judged
    at = inquiry.opened.at.timestamp
    desk = town[2].desk
    tag = town.tagger.tag(subject(1))
    told = [replace(s, opened_at=at + s.opened_at, tags=(tag,) if s.tags[0][0] == 1 else s.tags) for s in memory]
    inquiry = replace(inquiry, parameters=replace(TERMS, subjects_per_day=rate))

    def decided() -> int | None:
        refusal = disclosure.decide(
            inquiry,
            desk.subjects(inquiry),
            state=desk.state,
            memory=told,
            tags=(tag,),
            tag_key_version=1,
            currency="TWD",
            book_as_of=at - age,
            now=at + later,
            consents={},
        )
        return None if refusal is None else int(refusal.code)

    code = decided()

    # An oracle of R17, R26 and R27 in its own words: only what this member has answered counts.
    own = [s for s in told if s.answered]
    same = [s for s in own if tag in s.tags]
    recent = [s for s in same if s.opened_at + TERMS.window_seconds > at]
    if later >= TERMS.repeat_seconds:
        expected: int | None = RefusalCode.CONSENT
    elif any((s.cohort ^ inquiry.opening.cohort) & ~(1 | 1 << s.inquirer) for s in recent):
        expected = RefusalCode.WINDOW
    elif any(s.inquirer == 0 and s.opened_at + TERMS.cooldown_seconds > at for s in same):
        expected = RefusalCode.COOLDOWN
    elif sum(s.inquirer == 0 and s.opened_at + DAY > at for s in own) + 1 > rate:
        expected = RefusalCode.RATE
    elif age > TERMS.book_age_seconds:
        expected = RefusalCode.BOOK
    elif later + 60 >= TERMS.answer_seconds:
        expected = RefusalCode.LATE
    else:
        expected = None
    assert code == expected
    assert code == decided()
