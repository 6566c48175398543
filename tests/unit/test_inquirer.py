"""R14 to R17, R27, R29, R30: requests, attempts, totals and reports, through every state and every crash point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes import DAY, TERMS, FakeTown, figures, found_town, subject, two_keys

from mpcredit import limits
from mpcredit.consent import Purpose
from mpcredit.errors import InvalidConsent, InvalidMessage, LedgerError, MpcreditError, NotYet
from mpcredit.events import Stage
from mpcredit.inquirer import Inquirer, RequestState


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    with two_keys(monkeypatch):
        yield found_town(5)


def tags(town: FakeTown, *numbers: int) -> list[bytes]:
    return [town.tagger.tag(subject(n)) for n in numbers]


def opens(town: FakeTown) -> int:
    return len({t.hash for block in town.chain.blocks for t in block.transactions if t.call.function == "open"})


def test_request__to_its_end__has_the_sums(town: FakeTown) -> None:
    request = town.ask(1)
    town.settle()

    found = town[0].inquirer.await_final(request)
    assert found.state is RequestState.ATTESTED
    assert found.totals == [figures(31) | {"lenders": 5}]
    assert found.state.final
    assert found.tags == tags(town, 1)


def test_request__of_many__keeps_their_order(town: FakeTown) -> None:
    bank = town[0]
    bank.sync()
    town.books[0].figures[tags(town, 3)[0]] = figures(100)
    wanted = [3, 9, 1]
    request = bank.inquirer.request(
        tags(town, *wanted), ["c", "z", "a"], [town.consent(n) for n in wanted], officer="o"
    )
    town.settle()

    totals = bank.inquirer.get(request.id).totals
    assert totals == [figures(130) | {"lenders": 5}, figures(0) | {"lenders": 0}, figures(31) | {"lenders": 5}]


@pytest.mark.parametrize(
    "how", ["none", "twice", "no consent", "foreign consent", "two purposes", "unknown schema", "too many"]
)
def test_request__that_cannot_be__is_refused_and_stores_nothing(town: FakeTown, how: str) -> None:
    bank = town[0]
    bank.sync()
    one, consent = tags(town, 1), town.consent(1)
    given: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "none": ([], [], {}),
        "twice": (one * 2, [consent] * 2, {}),
        "no consent": (one, [], {}),
        "foreign consent": (one, [town.consent(1, to=1)], {}),
        "two purposes": (tags(town, 1, 2), [consent, town.consent(2, purpose=Purpose.REVIEW)], {}),
        "unknown schema": (one, [consent], {"schema": 9}),
        "too many": (
            tags(town, *range(200)),
            [town.consent(n) for n in range(200)],
            {},
        ),
    }
    wanted, consents, options = given[how]

    with pytest.raises((InvalidMessage, InvalidConsent)):
        bank.inquirer.request(wanted, ["x"] * len(wanted), consents, officer="o", **options)
    assert bank.inquirer.requests() == []


def test_request__of_more_than_a_node_takes__names_the_most_and_that_many_are_taken(town: FakeTown) -> None:
    bank = town[0]
    bank.sync()
    bank.inquirer.bits = 3072
    customers = [Ed25519PrivateKey.from_private_bytes(n.to_bytes(32, "big")) for n in range(160)]
    signed = [town.consent(n).sign(customers[n]) for n in range(160)]
    unsigned = [town.consent(n) for n in range(160)]

    with pytest.raises(InvalidMessage) as caught:
        bank.inquirer.request(tags(town, *range(160)), ["x"] * 160, signed, officer="o")

    assert caught.value.remedy == "ask for at most 130"
    assert bank.inquirer.requests() == []
    bank.inquirer.request(tags(town, *range(130)), ["x"] * 130, signed[:130], officer="o")
    bank.inquirer.request(tags(town, *range(160)), ["x"] * 160, unsigned, officer="o")


def test_open__no_longer_fits_a_transaction__ends_with_the_most_that_would(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = town.ask(1)
    monkeypatch.setattr(limits, "TRANSACTION_BYTES", 1_000)  # as if [inquiry] bits had grown meanwhile

    town.settle()

    found = town[0].inquirer.get(request)
    assert found.state is RequestState.FAILED
    assert "at most 0" in found.note
    assert opens(town) == 0


def test_get__unknown__is_refused(town: FakeTown) -> None:
    with pytest.raises(InvalidMessage):
        town[0].inquirer.get("nothing")


# ---------------------------------------------------------------- waiting


def test_open__not_ready_itself_or_too_few__waits_and_says_so(town: FakeTown) -> None:
    request = town.ask(1)
    town.sleep(2, 3)
    town[0].work()
    assert "only 3 institutions are ready; at least 4" in town[0].inquirer.get(request).note

    town.wake(2, 3)
    town.settle()
    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


def test_open__held_back_by_the_house__waits_and_what_is_on_the_ledger_goes_on(town: FakeTown) -> None:
    under_way = town.ask(1)
    town[0].work()
    held = town.ask(2)
    town[0].inquirer.hold = lambda request: "held back" if request.value["officer"] else ""

    town.settle()

    assert town[0].inquirer.get(under_way).state is RequestState.ATTESTED
    found = town[0].inquirer.get(held)
    assert (found.state, found.note) == (RequestState.WANTED, "held back")
    assert opens(town) == 1
    town[0].inquirer.hold = lambda request: ""
    town.settle()
    assert town[0].inquirer.get(held).state is RequestState.ATTESTED


def test_open__other_cohort_within_the_window__waits_and_goes_by_itself(town: FakeTown) -> None:
    town.ask(1)
    town.settle()
    town.sleep(4)
    town.chain.advance(DAY)
    town.settle()
    request = town.ask(1)
    town.settle()
    assert "Bank E" in town[0].inquirer.get(request).note
    assert opens(town) == 1

    town.wake(4)
    town.settle()
    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


def test_await_final__not_there_yet_or_never__says_which(town: FakeTown) -> None:
    request = town.ask(1)
    with pytest.raises(NotYet):
        town[0].inquirer.await_final(request)
    town.books[3].as_of = 0
    town.settle()

    assert town[0].inquirer.get(request).state is RequestState.REFUSED
    with pytest.raises(MpcreditError, match="Bank D refused \\(code 10\\)"):
        town[0].inquirer.await_final(request)


def test_expire__after_the_deadline_and_not_before(town: FakeTown) -> None:
    request = town.ask(1)
    town.asleep = {4}
    town.settle()
    assert "waiting for Bank E" in town[0].inquirer.get(request).note
    town.chain.advance(TERMS.answer_seconds - 20)
    town.settle()
    assert town.inquiry(request).stage is Stage.OPEN
    town.chain.advance(100)
    town.settle()

    assert town[0].inquirer.get(request).state is RequestState.EXPIRED
    assert "Bank E" in town[0].inquirer.get(request).note


# ---------------------------------------------------------------- crashes


POINTS = ["sign", "broadcast", "settle"]


@pytest.mark.parametrize("point", POINTS)
def test_open__crash_in_the_middle__is_opened_once(town: FakeTown, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = town[0]
    request = town.ask(1)

    def crash(*_: Any) -> Any:
        raise LedgerError("crash")

    with monkeypatch.context() as patch:
        if point == "settle":
            patch.setattr(bank.desk.outbox, "_settle", crash)
        else:
            patch.setattr(bank.desk.outbox.signer, point, crash)
        with pytest.raises(LedgerError):
            bank.inquirer.step()
    bank.inquirer = Inquirer(bank.desk, bank.furnisher.book, bits=2048)
    for _ in range(3):
        town.settle()

    assert bank.inquirer.get(request).state is RequestState.ATTESTED
    assert opens(town) == 1
    # An attempt that was signed is kept to; one that never was is made anew.
    assert len(bank.inquirer.get(request).value["attempts"]) == (2 if point == "sign" else 1)


def test_report__crash_before_it_is_sent__is_the_same_afterwards(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = town.ask(1)
    town[0].work()
    town.asleep = {0}
    town.settle()
    town.asleep = set()
    bank = town[0]
    bank.sync()

    def crash(*_: Any) -> Any:
        raise LedgerError("crash")

    with monkeypatch.context() as patch:
        patch.setattr(bank.desk.outbox.signer, "sign", crash)
        with pytest.raises(LedgerError):
            bank.inquirer.step()
    (stored,) = (value for _, value in bank.desk.store.items("report"))
    assert bank.inquirer.get(request).state is RequestState.COMPLETE
    town.settle()

    report = town.inquiry(request).report
    assert report is not None
    assert "0x" + report.commitment.hex() == stored["commitment"]
    assert town.inquiry(request).stage is Stage.VALID


def test_totals__of_an_inquiry_that_ended_void__are_shown_as_what_they_are(town: FakeTown) -> None:
    request = town.ask(1)
    town.supervised = False
    town.settle()
    found = town[0].inquirer.get(request)
    assert (found.state, found.totals is None) == (RequestState.REPORTED, False)
    report = town.inquiry(request).report
    assert report is not None
    verdict = (town.supervisor_owner.address, False, 0b10, report.commitment, bytes(32))
    void = town.call("attest", town.inquiry(request).id, *verdict)
    town.supervisor.outbox.post("void", void)
    town.settle()

    assert town[0].inquirer.get(request).state is RequestState.VOID
    assert "Bank B" in town[0].inquirer.get(request).note
    with pytest.raises(MpcreditError):
        town[0].inquirer.await_final(request)


def test_report__puts_the_head_of_the_audit_log_on_the_ledger(town: FakeTown) -> None:
    town[0].inquirer.anchor = lambda: b"\x01" * 32
    request = town.ask(1)
    town.settle()

    found = town.inquiry(request)

    assert found.report is not None
    assert found.report.anchor == b"\x01" * 32


def test_verdict__puts_the_head_of_the_supervisors_audit_log_on_the_ledger(town: FakeTown) -> None:
    town.supervisor.supervisor.anchor = lambda: b"\x05" * 32
    request = town.ask(1)
    town.settle()

    found = town.inquiry(request)

    assert found.verdict is not None
    assert found.report is not None
    assert found.verdict.anchor == b"\x05" * 32
    assert found.report.anchor == bytes(32)
