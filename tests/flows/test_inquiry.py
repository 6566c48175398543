"""A whole inquiry, from the request to the verdict, on the embedded chain and on Anvil."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flow_world import (
    BITS,
    DAY,
    HOUR,
    STRANGER,
    Customers,
    ask,
    carry,
    encoded,
    return_all,
    sent_by,
    sums,
    switch_off,
    terms,
)

import mpcredit
from mpcredit.amounts import Money
from mpcredit.consent import Consent, Purpose
from mpcredit.events import Stage
from mpcredit.inquirer import RequestState
from mpcredit.institution import InquiryHandle
from mpcredit.local import LocalConsortium, local_consortium
from mpcredit.policy import Outcome

CHAINS = [
    pytest.param("tester", id="embedded"),
    pytest.param("anvil:prague", id="prague", marks=pytest.mark.anvil),
    pytest.param("anvil:london", id="london", marks=pytest.mark.anvil),
]


@pytest.fixture(scope="module", params=CHAINS)
def founded(request: pytest.FixtureRequest) -> Iterator[LocalConsortium]:
    """Five institutions, ready."""
    with local_consortium(institutions=5, bits=BITS, chain=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def customers(founded: LocalConsortium) -> Customers:
    """Shared by the tests of a chain: each is asked about once."""
    return Customers(founded)


@pytest.fixture
def consortium(founded: LocalConsortium) -> Iterator[LocalConsortium]:
    """Whatever a test stops runs again after it."""
    yield founded
    return_all(founded)


def test_batch_over_several_blocks__totals_are_the_plain_sums(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = [*customers.take(15), STRANGER]
    bank = consortium["Bank A"]

    result = ask(bank, subjects).wait(60)

    assert result.inquiry.opening.blocks == 3
    assert result.totals == sums(consortium.books.values(), subjects)
    assert result[STRANGER].outstanding == Money("0", "TWD")
    assert result[subjects[0]].lenders == 5
    assert result.attested
    assert result.coverage == "5 of 5 institutions"


def test_undisturbed_inquiry__every_furnisher_sends_exactly_one_transaction(
    consortium: LocalConsortium, customers: Customers
) -> None:
    bank = consortium["Bank B"]
    before = consortium.ledger.head().number

    ask(bank, customers.take(2)).wait(60)
    consortium.settle()

    sent = sent_by(consortium, before)
    assert sent.pop("Bank B") == ["joint credit", "joint credit"]  # open, report
    assert sent.pop("supervisor") == ["joint credit"]  # attest
    assert set(sent) == {"Bank A", "Bank C", "Bank D", "Bank E"}
    assert all(calls == ["joint credit"] for calls in sent.values())


def test_supervisor_stopped__completes_provisionally_and_is_attested_when_it_is_back(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    bank = consortium["Bank A"]
    consortium.supervised = False

    handle = ask(bank, subjects)
    result = handle.wait(60, attested=False)

    assert result.inquiry.stage is Stage.REPORTED
    assert result.totals == sums(consortium.books.values(), subjects)
    assert not result.attested
    provisional = bank.policy.decide(result[subjects[0]], requested=Money("1000", "TWD"))
    assert provisional.outcome is Outcome.REFER
    assert any(reason.code == "not_attested" for reason in provisional.reasons)

    consortium.supervised = True
    final = handle.wait(60)

    assert final.attested
    assert final.totals == result.totals
    decided = bank.policy.decide(final[subjects[0]], requested=Money("1000", "TWD"))
    assert all(reason.code != "not_attested" for reason in decided.reasons)


def test_one_bank_not_ready__coverage_names_it_and_its_figures_are_left_out(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    switch_off(consortium, "Bank C")

    result = ask(consortium["Bank A"], subjects).wait(60)

    assert result.coverage == "4 of 5 institutions; not ready: Bank C"
    others = [book for name, book in consortium.books.items() if name != "Bank C"]
    assert result.totals == sums(others, subjects)


def deadline_of(handle: InquiryHandle) -> datetime:
    assert handle.request.inquiry is not None
    return datetime.fromtimestamp(handle.institution.desk.state.inquiries[handle.request.inquiry].opened.deadline, UTC)


def test_one_bank_asleep_though_ready__the_request_says_whom_it_waits_for(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    consortium.asleep.add("Bank D")
    handle = ask(consortium["Bank A"], subjects)

    consortium.settle()

    assert handle.request.state is RequestState.OPEN
    assert handle.request.note == f"waiting for Bank D, until {deadline_of(handle):%Y-%m-%d %H:%M:%S} UTC"
    with pytest.raises(mpcredit.MpcreditError, match="waiting for Bank D"):
        handle.wait(0.1)

    consortium.asleep.clear()
    assert handle.wait(60).totals == sums(consortium.books.values(), subjects)


def test_group_inquiry__only_the_group_answers() -> None:
    with local_consortium(institutions=6, bits=BITS, parameters=terms(minimum_cohort=3)) as consortium:
        carry(consortium, encoded("setGroup", 1, 0b000111))
        consortium.settle()
        subjects = Customers(consortium).take(2)
        before = consortium.ledger.head().number

        result = ask(consortium["Bank A"], subjects, group=1).wait(60)

        assert result.totals == sums(list(consortium.books.values())[:3], subjects)
        assert result.coverage == "3 of 6 institutions; not in the group: Bank D, Bank E, Bank F"
        sent = sent_by(consortium, before)
        assert [len(sent[name]) for name in consortium.books] == [2, 1, 1, 0, 0, 0]


def test_chain_that_stood_still__consent_of_now_holds_and_readiness_is_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with local_consortium(institutions=4, bits=BITS) as consortium:
        provider: Any = consortium.ledger.web3.provider
        later = time.time() + 5 * DAY + HOUR  # all have ceased to be ready, and no block says so
        provider.ethereum_tester.backend.clock = lambda: later
        monkeypatch.setattr(time, "time", lambda: later)
        bank = consortium["Bank A"]
        assert bank.follower.now < later - 5 * DAY
        [subject] = Customers(consortium).take()
        consent = Consent.grant(subject, to=bank, purpose=Purpose.NEW_CREDIT, days=30)

        result = bank.inquire([subject], consents=[consent], officer="li.wei").wait(60)

        assert result.totals == sums(consortium.books.values(), [subject])


def test_deadline_while_the_chain_stood_still__the_inquiry_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_consortium(institutions=4, bits=BITS) as consortium:
        consortium.asleep.add("Bank B")
        handle = ask(consortium["Bank A"], Customers(consortium).take())
        consortium.settle()
        provider: Any = consortium.ledger.web3.provider
        later = time.time() + 2 * HOUR
        provider.ethereum_tester.backend.clock = lambda: later
        monkeypatch.setattr(time, "time", lambda: later)

        consortium.settle()

        assert handle.request.state is RequestState.EXPIRED


def test_example_of_the_package__runs_as_written(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("example"))
    assert mpcredit.__doc__ is not None
    _title, example = mpcredit.__doc__.split("\n\n", 1)
    known = {name: getattr(mpcredit, name) for name in mpcredit.__all__} | {"mpcredit": mpcredit}

    exec(compile(textwrap.dedent(example), "<example>", "exec"), known)

    assert known["exposure"].attested
    assert known["decision"].outcome in Outcome
    verified = mpcredit.verify("inquiry.json", consortium=known["consortium"].deployed.consortium)
    assert verified.totals == known["result"].totals
    assert verified.attested
