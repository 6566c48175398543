"""A new tag key must not make a customer a stranger to the rules (R4, R17, R26, R27; row T1 of the attacks on version 1).

Version 1 computed each tag from the identity and one key. Under the next key the same customer had another tag, so that
window and cool-down saw nobody: 386,687.00 over five banks, a rotation, 278,336.00 over four of them three hours later.
The difference is the fifth bank's row. The documents advised that rotation when a member leaves.

The variant is this code with such tags (`unchained`): the books are indexed anew by identity, and no tag can be raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from attackers import ANSWERED, open_crafted, refusals
from fakes import DAY, TERMS, FakeTown, figures, found_town, subject, two_keys

from mpcredit import disclosure, inquirer
from mpcredit.consent import Consent
from mpcredit.disclosure import RefusalCode
from mpcredit.events import Stage
from mpcredit.identity import Subject
from mpcredit.inquirer import RequestState
from mpcredit.schema import FIGURES_1
from mpcredit.tags import HmacTagger, TagKey

VICTIM = 4
OUTSTANDING = (9_000_000, 7_500_000, 6_333_600, 5_000_000, 10_835_100)
"""Minor units: 386,687.00 over all five, 278,336.00 without the last."""

Succession = Callable[[FakeTown], None]


class Unchained(HmacTagger):
    """Tags as version 1 made them: each key stands alone."""

    def tags(self, subject: Subject) -> tuple[bytes, ...]:
        return tuple(HmacTagger(TagKey(1, key.key)).tag(subject) for key in self._keys)

    def raised(self, tag: bytes, version: int) -> bytes:
        return tag


def chained(town: FakeTown) -> None:
    """Put the next tag key in force as it is."""
    town.succeed_tag_key()


def unchained(town: FakeTown) -> None:
    """The variant: every bank imports its book again, under tags that have nothing to do with those before."""
    before = town.tagger
    town.succeed_tag_key()
    after = Unchained(*town.tagger._keys)
    for bank, book in zip(town.banks, town.books, strict=True):
        book.figures = {
            after.tag(subject(n)): book.record(FIGURES_1, town.tagger.raised(before.tag(subject(n)), before.version))
            for n in range(1, 6)
        }
        bank.use_tagger(after, book)
    town.tagger = after


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    with two_keys(monkeypatch):
        made = found_town(5, terms=replace(TERMS, cooldown_seconds=0))
        for book, amount in zip(made.books, OUTSTANDING, strict=True):
            book.figures[made.tagger.tag(subject(1))] |= {"outstanding": amount}
        yield made


@pytest.fixture
def cheating_inquirer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inquirer's own service does not hold back; the furnishers keep the rule."""
    monkeypatch.setattr(inquirer, "window_conflict", lambda *_: None)


def outstanding(town: FakeTown, request: str) -> int:
    (record,) = town[0].inquirer.get(request).totals or []
    return record["outstanding"]


def all_five_then_four(town: FakeTown, succeed: Succession) -> tuple[str, str]:
    """The attack: five banks, a new tag key, three hours, four banks. Returns the two requests."""
    first = town.ask(1)
    town.settle()
    assert outstanding(town, first) == 38_668_700
    succeed(town)
    town.sleep(VICTIM)
    town.chain.advance(3 * 3_600)
    second = town.ask(1)
    town.settle()
    return first, second


# --------------------------------------------------------------------- the window (R27)


def test_new_tag_key__unchained_tags__the_difference_is_one_banks_row(town: FakeTown) -> None:
    first, second = all_five_then_four(town, unchained)

    assert outstanding(town, second) == 27_833_600
    assert outstanding(town, first) - outstanding(town, second) == OUTSTANDING[VICTIM]


def test_new_tag_key__honest_inquirer__holds_back_and_says_why(town: FakeTown) -> None:
    _, second = all_five_then_four(town, chained)

    request = town[0].inquirer.get(second)
    assert request.state is RequestState.WANTED
    assert "Bank E" in request.note
    assert len(town[0].desk.state.inquiries) == 1


@pytest.mark.usefixtures("cheating_inquirer")
def test_new_tag_key__cheating_inquirer__is_refused_by_the_window_rule(town: FakeTown) -> None:
    _, second = all_five_then_four(town, chained)

    assert refusals(town, second)[1] == RefusalCode.WINDOW
    assert set(town.inquiry(second).contributions) == {0}


@pytest.mark.usefixtures("cheating_inquirer")
@pytest.mark.parametrize("successions", [1, 2])
def test_consent_of_an_earlier_key__in_the_second_inquiry__is_raised_and_refused(
    town: FakeTown, successions: int
) -> None:
    old = town.consent(1)
    town.ask(1)
    town.settle()
    for _ in range(successions):
        town.succeed_tag_key()
    town.sleep(VICTIM)

    second = town[0].inquirer.request(["x"], [old], officer="o").id
    town.settle()

    assert old.tag_key_version == 1
    assert refusals(town, second)[1] == RefusalCode.WINDOW


@pytest.mark.usefixtures("cheating_inquirer")
def test_consent_of_an_earlier_key__in_the_first_inquiry__is_raised_too(town: FakeTown) -> None:
    old = town.consent(1)
    town.succeed_tag_key()
    first = town[0].inquirer.request(["x"], [old], officer="o").id
    town.settle()
    assert outstanding(town, first) == 38_668_700
    town.sleep(VICTIM)

    second = town.ask(1)
    town.settle()

    assert refusals(town, second)[1] == RefusalCode.WINDOW


def test_new_tag_key__the_same_cohort__is_answered_from_the_books_as_they_are(town: FakeTown) -> None:
    # The accepted twin: nobody has imported anything.
    town.ask(1)
    town.settle()
    town.succeed_tag_key()

    requests = [town.ask(1), town[0].inquirer.request(["x"], [town.consent(1)], officer="o").id]
    town.settle()

    assert [outstanding(town, request) for request in requests] == [38_668_700] * 2
    assert town[0].inquirer.get(requests[0]).state is RequestState.ATTESTED


# --------------------------------------------------------------------- cool-down and consents (R17, R26)


def asked_twice(town: FakeTown, succeed: Succession, consents: Sequence[Consent]) -> bytes:
    """Two inquiries with a new tag key in between; returns q of the second."""
    entries = [[(consent.tag, consent)] for consent in consents]
    open_crafted(town[0], entries[0])
    town.settle()
    succeed(town)
    _, q = open_crafted(town[0], entries[1])
    town.settle()
    return q


def test_cooldown__unchained_tags__does_not_see_the_first_inquiry(monkeypatch: pytest.MonkeyPatch) -> None:
    with two_keys(monkeypatch):
        town = found_town(5)
        first = town.ask(1)
        town.settle()
        unchained(town)
        second = town.ask(1)
        town.settle()

    assert [town.inquiry(request).stage for request in (first, second)] == [Stage.VALID] * 2


@pytest.mark.parametrize("named", ["the earlier key", "the newest key"])
def test_cooldown__over_a_new_tag_key__holds(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    with two_keys(monkeypatch):
        town = found_town(5)
        old = town.consent(1)
        town.ask(1)
        town.settle()
        town.succeed_tag_key()
        consent = old if named == "the earlier key" else town.consent(1)
        second = town[0].inquirer.request(["x"], [consent], officer="o").id
        town.settle()

        assert refusals(town, second)[1] == RefusalCode.COOLDOWN
        town.chain.advance(DAY)
        third = town.ask(1)
        town.settle()

    assert town.inquiry(third).stage is Stage.VALID


def test_used_consent__over_a_new_tag_key__stays_used(town: FakeTown) -> None:
    consent = town.consent(1)

    q = asked_twice(town, chained, [consent, consent])

    refusal = town[0].desk.state.inquiries[q].refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.CONSENT


def test_used_consent__nobody_asks_whether_it_was_used__is_answered_over_a_new_tag_key(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    consent = town.consent(1)
    monkeypatch.setattr(disclosure, "_consent_problem", lambda *_: None)

    q = asked_twice(town, chained, [consent, consent])

    assert town[0].desk.state.inquiries[q].stage in ANSWERED


def test_unused_consent__of_an_earlier_key__holds_until_its_own_end(town: FakeTown) -> None:
    q = asked_twice(town, chained, [town.consent(1), town.consent(1)])

    assert town[0].desk.state.inquiries[q].stage in ANSWERED


# --------------------------------------------------------------------- names of a subject


def two_subjects(town: FakeTown, second: int) -> bytes:
    """One inquiry whose first entry names its subject under key 1 and its second under key 2; returns q."""
    old = town.consent(1)
    town.succeed_tag_key()
    new = town.consent(second)
    _, q = open_crafted(town[0], [(old.tag, old), (new.tag, new)])
    town.settle()
    return q


def test_subject_twice__under_two_tag_keys__is_refused(town: FakeTown) -> None:
    q = two_subjects(town, second=1)

    refusal = town[0].desk.state.inquiries[q].refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.SUBJECT


def test_two_subjects__under_two_tag_keys__are_answered(town: FakeTown) -> None:
    q = two_subjects(town, second=2)

    assert town[0].desk.state.inquiries[q].stage in ANSWERED
    assert town.books[1].reads == [town.tagger.tag(subject(n)) for n in (1, 2)]
    assert figures(2) == town.books[1].record(FIGURES_1, town.tagger.tag(subject(2)))


def test_tag_of_an_earlier_key__said_to_be_of_the_newest__is_nobodys(town: FakeTown) -> None:
    # A lie about the version names a stranger: all zero, as for any tag that somebody makes up.
    old = town.consent(1)
    town.succeed_tag_key()
    lie = replace(old, tag_key_version=2)

    _, q = open_crafted(town[0], [(lie.tag, lie)])
    town.settle()

    assert town[0].desk.state.inquiries[q].stage in ANSWERED
    assert town.books[1].record(FIGURES_1, town.books[1].reads[-1]) == FIGURES_1.zero


def test_member_that_left__with_its_old_keys_and_all_identities__recognises_no_new_tag(town: FakeTown) -> None:
    left = town.tagger
    known = {tag for n in range(1, 6) for tag in left.tags(subject(n))}
    assert town.consent(1).tag in known  # before the succession it does
    town.succeed_tag_key()

    named = {town.consent(n).tag for n in range(1, 6)}

    assert known.isdisjoint(named)
    assert known.isdisjoint(left.raised(tag, 1) for tag in named)
