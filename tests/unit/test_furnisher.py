"""R14, R23 to R28: one answer per inquiry, made once, stored before it is sent, decided before the book is read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import TERMS, FakeTown, figures, found_town, subject, two_keys

from mpcredit.disclosure import RefusalCode
from mpcredit.encoding import to_hex
from mpcredit.errors import LedgerError, Refused
from mpcredit.schema import FIGURES_1
from mpcredit.state import Inquiry


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    with two_keys(monkeypatch):
        yield found_town(5)


@pytest.fixture
def opened(town: FakeTown) -> Inquiry:
    """An open inquiry; everybody but its inquirer is still to answer."""
    request = town.ask(1)
    town[0].work()
    for bank in town.banks:
        bank.sync()
    return town.inquiry(request)


def calls(town: FakeTown, index: int) -> list[str]:
    return [t.call.function for t in town.chain.seen if t.sender == town.accounts[index].address]


def test_step__open_inquiry__answers_it_once(town: FakeTown, opened: Inquiry) -> None:
    town[2].work()
    town[2].work()

    assert calls(town, 2).count("contribute") == 2  # the gas estimate, and the transaction
    assert 2 in town[2].desk.state.inquiries[opened.id].contributions
    assert town.books[2].reads == [town.tagger.tag(subject(1))]


def test_step__own_inquiry_or_foreign_cohort__does_nothing(town: FakeTown, opened: Inquiry) -> None:
    assert town[0].furnisher.step() == []

    town.settle()
    town.sleep(4)
    town.ask(2)
    town[0].work()
    town[4].sync()

    assert town[4].furnisher.step() == []


def test_step__not_final_yet__waits_for_confirmations(monkeypatch: pytest.MonkeyPatch) -> None:
    with two_keys(monkeypatch):
        town = found_town(5)
        town.ask(1)
        town[0].work()
    town[2].follower.confirmations = 3

    town[2].work()
    assert "contribute" not in calls(town, 2)
    for _ in range(3):
        town.chain.mine([])
    town[2].work()
    assert "contribute" in calls(town, 2)


def test_answer__is_in_the_store_before_a_gas_estimate_leaves(town: FakeTown, opened: Inquiry) -> None:
    desk = town[2].desk
    found = []

    def sign(*_: object) -> object:
        found.append(desk.store.get("answer", to_hex(opened.id)))
        raise LedgerError("gone")

    desk.outbox.signer.sign = sign  # type: ignore[method-assign,assignment]
    with pytest.raises(LedgerError):
        town[2].furnisher.step()

    assert found[0]
    assert "payload" in found[0]


def test_answer__node_gone_in_between__is_sent_unchanged_whatever_the_book_says(
    town: FakeTown, opened: Inquiry
) -> None:
    town.chain.held = True
    town[2].work()
    stored = town[2].desk.store.get("answer", to_hex(opened.id))
    town.books[2].figures.clear()
    town.chain.held = False
    town.chain.mine()
    town.settle()

    assert stored is not None
    assert to_hex(town[2].desk.state.inquiries[opened.id].payload(2)) == stored["payload"]
    assert town.supervisor.supervisor.verified[opened.id].records[2] == [figures(4)]


def test_answer__contract_refuses_it__stays_and_is_no_error(
    town: FakeTown, opened: Inquiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise Refused("WrongStage", code="WrongStage")

    monkeypatch.setattr(town[2].desk.outbox.signer, "sign", refuse)

    assert town[2].furnisher.step() == []
    assert town[2].desk.store.get("answer", to_hex(opened.id))


def test_refusal__is_stored_and_never_becomes_an_answer(town: FakeTown, opened: Inquiry) -> None:
    town.books[2].as_of -= TERMS.book_age_seconds + 1000
    town.chain.held = True
    town[2].work()
    town.books[2].as_of += 10**8
    town.chain.held = False
    town.chain.mine()
    town.settle()

    refusal = town[0].desk.state.inquiries[opened.id].refusal
    assert refusal is not None
    assert (refusal.member, refusal.code) == (2, RefusalCode.BOOK)
    assert "contribute" not in calls(town, 2)
    assert town.books[2].reads == []


def test_judge__cohort_too_small_for_this_institution__is_refused(town: FakeTown, opened: Inquiry) -> None:
    for minimum, code in ((5, None), (6, RefusalCode.COHORT)):
        town[2].desk.minimum_cohort = minimum
        refusal = town[2].furnisher.judge(town[2].desk.state.inquiries[opened.id])
        assert (refusal.code if refusal else None) == code


def test_judge__opened_before_the_new_tenure__is_refused_first_of_all(town: FakeTown, opened: Inquiry) -> None:
    town[2].desk.minimum_cohort = 99
    town[2].desk.tenure.begin("the store was lost")

    refusal = town[2].furnisher.judge(town[2].desk.state.inquiries[opened.id])

    assert refusal is not None
    assert refusal.code == RefusalCode.RESTORED


def test_figures__book_without_the_schema__is_refused_whoever_is_asked_about(
    town: FakeTown, opened: Inquiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: object) -> object:
        raise Refused("no figures of schema 1", code="unknown_schema")

    monkeypatch.setattr(town.books[2], "record", no)
    town[2].work()

    refusal = town[2].desk.state.inquiries[opened.id].refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.ENCODING


# ---------------------------------------------------------------- tag keys (R4)


def test_step__without_the_newest_tag_key__waits_and_answers_when_it_is_here(town: FakeTown, opened: Inquiry) -> None:
    # What it would decide or look up meanwhile could miss a subject that it knows under the newest key.
    book = town.books[2].figures
    town.succeed_tag_key(2)
    town[2].sync()
    assert town[2].furnisher.step() == []
    assert town[2].desk.store.get("answer", to_hex(opened.id)) is None

    town.books[2].figures = {town.tagger.raised(tag, 1): found for tag, found in book.items()}
    town[2].use_tagger(town.tagger, town.books[2])
    town.settle()

    assert 2 in town[2].desk.state.inquiries[opened.id].contributions
    assert town.books[2].reads == [town.tagger.tag(subject(1))]


def test_step__answer_stored_before_a_new_tag_key__is_sent_without_it(town: FakeTown, opened: Inquiry) -> None:
    town.chain.held = True
    town[2].work()
    stored = town[2].desk.store.get("answer", to_hex(opened.id))
    town.chain.mempool.clear()
    town.chain.held = False
    town.succeed_tag_key(2)
    town.settle()

    assert town[2].desk.store.get("answer", to_hex(opened.id)) == stored
    assert 2 in town[2].desk.state.inquiries[opened.id].contributions


def test_remember__over_new_tag_keys__has_the_newest_tags_and_those_that_were_named(
    town: FakeTown, opened: Inquiry
) -> None:
    first = town.tagger.tag(subject(1))
    town[2].desk.remember()
    town.succeed_tag_key()
    town.succeed_tag_key()

    (seen,) = town[2].desk.remember()

    assert seen.tags == (town.tagger.tag(subject(1)),)
    assert seen.named == (first,)


def test_remember__a_tag_under_a_key_that_never_was__equals_nobodys(town: FakeTown) -> None:
    consent = town.consent(1, tag_key_version=7)
    assert town[2].desk.newest_tag(consent) == consent.tag
    assert town[2].desk.newest_tag(town.consent(1)) == town.tagger.tag(subject(1))


# ---------------------------------------------------------------- memory


def test_remember__every_readable_inquiry__is_kept_in_the_store(town: FakeTown, opened: Inquiry) -> None:
    (seen,) = town[2].desk.remember()

    assert seen.inquiry == opened.id
    assert seen.tags == (town.tagger.tag(subject(1)),)
    assert seen.cohort == 0b11111
    assert not seen.answered
    town[2].work()
    assert town[2].desk.remember()[0].answered
    assert FIGURES_1.id == 1


def test_remember__reorganised_away__is_remembered(town: FakeTown, opened: Inquiry) -> None:
    town[2].desk.remember()
    town.asleep = {0}
    town.chain.reorganise(opened.opened.at.block)
    town[2].sync()

    (seen,) = town[2].desk.remember()

    assert opened.id not in town[2].desk.state.inquiries
    assert seen.order == (opened.opened.at.block, opened.opened.at.log_index)
