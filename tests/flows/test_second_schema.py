"""A second schema: registered by proposal, run without a change of code, refused by who keeps no such figures (R5, R26)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flow_world import BITS, STRANGER, Customers, approve, ask, carry, encoded, propose, sums

from mpcredit.books import LoanBook, TaggedBook
from mpcredit.chain import ChainSigner
from mpcredit.disclosure import ADVICE, RefusalCode
from mpcredit.errors import InvalidMessage, NotYet, Refused
from mpcredit.events import Call
from mpcredit.identity import Subject
from mpcredit.inquirer import RequestState
from mpcredit.local import LocalConsortium, local_consortium
from mpcredit.schema import FIGURES_1, GUARANTEES_2


@pytest.fixture(scope="module")
def customers(consortium: LocalConsortium) -> Customers:
    """Each is asked about once."""
    return Customers(consortium)


@pytest.fixture(scope="module")
def consortium() -> Iterator[LocalConsortium]:
    """Five institutions, founded with the first schema only."""
    with local_consortium(institutions=5, bits=BITS) as made:
        yield made


@pytest.fixture(scope="module")
def guarantees(consortium: LocalConsortium, customers: Customers) -> dict[str, LoanBook]:
    """Made-up books of the second schema about the same few subjects, by institution."""
    subjects = customers.take(8)
    return {
        name: LoanBook(
            as_of=consortium[name].follower.now,
            currency="TWD",
            records={
                subject.canonical: {
                    "guarantees": 10_000_00 * (1 + place) + number,
                    "guarantors": place % 3,
                    "aml_flag": int(place == number),
                }
                for number, subject in enumerate(subjects)
                if (number + place) % 3
            },
            institution=name,
            schema=GUARANTEES_2,
        )
        for place, name in enumerate(consortium.books)
    }


def test_unregistered_schema__nobody_can_ask(consortium: LocalConsortium) -> None:
    with pytest.raises(InvalidMessage, match="has no schema 2"):
        ask(consortium["Bank A"], [STRANGER], schema=2)


def test_proposal_without_votes__registers_nothing(consortium: LocalConsortium) -> None:
    call = encoded("registerSchema", 2, GUARANTEES_2.definition)
    number, calls_hash = propose(consortium, call, reason="too early")
    with pytest.raises(Refused) as unapproved:
        approve(consortium, number, calls_hash)
    consortium.advance(3_600)

    with pytest.raises(Refused) as refused:
        execute_as_anybody(consortium, number, call)

    assert unapproved.value.code == "VotesMissing"
    assert refused.value.code == "ApprovalMissing"
    assert 2 not in consortium["Bank A"].desk.state.schemas


def test_registered_by_proposal__totals_are_the_plain_sums(
    consortium: LocalConsortium, guarantees: dict[str, LoanBook]
) -> None:
    carry(consortium, encoded("registerSchema", 2, GUARANTEES_2.definition), reason="guarantees too")
    subjects = [*next(iter(guarantees.values())).subjects(), STRANGER]
    for name, bank in consortium.institutions.items():
        figures = consortium.books[name].index(consortium.tagger)
        bank.use_book(TaggedBook.joined([figures, guarantees[name].index(consortium.tagger)]))

    result = ask(consortium["Bank B"], subjects, schema=2).wait(60)

    assert result.inquiry.schema == GUARANTEES_2
    assert result.totals == sums(guarantees.values(), subjects)
    assert any(record["aml_flag"] for record in result.totals)
    assert result.attested


def test_first_schema_beside_the_second__goes_on(consortium: LocalConsortium, customers: Customers) -> None:
    subjects = customers.take(2)

    result = ask(consortium["Bank A"], subjects).wait(60)

    assert result.inquiry.schema == FIGURES_1
    assert result.totals == sums(consortium.books.values(), subjects)


@pytest.mark.parametrize("who", ["a customer", "a stranger"])
def test_institution_without_such_a_book__refuses_for_everyone_alike(
    consortium: LocalConsortium, customers: Customers, who: str
) -> None:
    [subject] = customers.take() if who == "a customer" else [Subject("national_id", "B123456780", country="TW")]
    consortium["Bank C"].use_book(consortium.books["Bank C"].index(consortium.tagger))

    handle = ask(consortium["Bank A"], [subject], schema=2)
    consortium.settle()

    request = handle.request
    assert request.state is RequestState.REFUSED
    assert request.note == f"Bank C refused (code 4): {ADVICE[RefusalCode.ENCODING]}"
    assert request.inquiry is not None
    refusal = consortium["Bank A"].desk.state.inquiries[request.inquiry].refusal
    assert refusal is not None
    assert (refusal.member, refusal.code) == (2, RefusalCode.ENCODING)


def test_inquirer_without_such_a_book__is_told_and_opens_nothing(
    consortium: LocalConsortium, customers: Customers
) -> None:
    handle = ask(consortium["Bank C"], customers.take(), schema=2)
    consortium["Bank C"].work()

    assert handle.request.inquiry is None
    assert "keeps no figures of schema 2" in handle.request.note
    with pytest.raises(NotYet, match="import a loan book of this schema"):
        handle.wait(0)


def execute_as_anybody(consortium: LocalConsortium, number: int, call: bytes) -> None:
    """Execution needs no right of its own."""
    anybody = ChainSigner(consortium.ledger.web3, consortium.accounts["Bank A"], consortium.deployed.consortium)
    anybody.sign(Call("consortium", "execute", (number, [call], consortium.supervisor_owner.address)), 0)
