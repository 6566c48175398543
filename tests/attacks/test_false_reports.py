"""The inquirer tells the supervisor another total than the ledger's (R29, R30, R31).

Variant: a supervisor that believes what the report says. Here the openings are proven against the product of the
contributions, and their totals compared with the recomputed sums; the inquirer is named. What a reader of the evidence
sees of the same lie is in test_evidence.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from attackers import craft, inquiry_key
from fakes import FakeChain, FakeTown, figures

from mpcredit import paillier, protocol
from mpcredit.events import Stage
from mpcredit.paillier import Opening
from mpcredit.sealing import report_commitment, seal_report
from mpcredit.state import Inquiry

SALT = b"s" * 32


def complete(town: FakeTown) -> tuple[str, Inquiry]:
    """An inquiry that is complete; the inquirer's own service sleeps from then on."""
    request = town.ask(1)
    town[0].work()
    town.asleep = {0}
    town.settle()
    inquiry = town.inquiry(request)
    assert inquiry.stage is Stage.COMPLETE
    return request, inquiry


def sealed(
    town: FakeTown, inquiry: Inquiry, openings: list[Opening], committed: list[Opening] | None = None
) -> tuple[bytes, bytes]:
    """A report of these openings whose commitment is to others."""
    frame = protocol.frame_of(inquiry, town.chain.realm)
    width = frame.public.modulus_bytes
    body, _ = seal_report(
        openings,
        inquiry=inquiry.id,
        ctx=frame.ctx,
        modulus_bytes=width,
        supervisor_public=inquiry.period_key.public,
        salt=SALT,
    )
    return body, report_commitment(inquiry.id, SALT, committed or openings, width)


def truth(town: FakeTown, inquiry: Inquiry) -> list[Opening]:
    frame = protocol.frame_of(inquiry, town.chain.realm)
    aggregate = protocol.product(frame, [inquiry.payload(i) for i in inquiry.cohort])
    return list(protocol.open_aggregate(frame, inquiry_key(town[0], inquiry), aggregate))


def false_total(town: FakeTown, inquiry: Inquiry) -> tuple[bytes, bytes]:
    (opening,) = truth(town, inquiry)
    return sealed(town, inquiry, [opening], [Opening(opening.m - 1000, opening.r)])


def false_root(town: FakeTown, inquiry: Inquiry) -> tuple[bytes, bytes]:
    (opening,) = truth(town, inquiry)
    return sealed(town, inquiry, [Opening(opening.m, opening.r + 1)])


def of_one_contribution(town: FakeTown, inquiry: Inquiry) -> tuple[bytes, bytes]:
    frame = protocol.frame_of(inquiry, town.chain.realm)
    (c,) = protocol.split_payload(frame, inquiry.payload(0))[1]
    return sealed(town, inquiry, [paillier.open_ciphertext(inquiry_key(town[0], inquiry), c)])


def nothing(town: FakeTown, inquiry: Inquiry) -> tuple[bytes, bytes]:
    return b"\1" * 300, bytes(32)


def two_blocks(town: FakeTown, inquiry: Inquiry) -> tuple[bytes, bytes]:
    return sealed(town, inquiry, truth(town, inquiry) * 2)


LIES = [false_total, false_root, of_one_contribution, nothing, two_blocks]


def report(town: FakeTown, inquiry: Inquiry, how: Callable[[FakeTown, Inquiry], tuple[bytes, bytes]]) -> Inquiry:
    body, commitment = how(town, inquiry)
    town[0].desk.outbox.post("false report", town.call("report", inquiry.id, commitment, body, bytes(32)))
    town.settle()
    town[0].sync()
    return town[0].desk.state.inquiries[inquiry.id]


@pytest.mark.parametrize("how", LIES, ids=[lie.__name__ for lie in LIES])
def test_report__false__supervisor_names_the_inquirer_and_voids(
    town: FakeTown, how: Callable[[FakeTown, Inquiry], tuple[bytes, bytes]]
) -> None:
    _, inquiry = complete(town)

    found = report(town, inquiry, how)

    assert (found.stage, found.culprits) == (Stage.VOID, (0,))
    assert town[0].desk.state.members[0].suspended


def test_report__replayed_from_another_inquiry__names_the_inquirer(town: FakeTown) -> None:
    town.ask(2)
    town.settle()
    (old,) = town[0].desk.state.inquiries.values()
    assert old.report is not None
    body, commitment = old.report.sealed_report, old.report.commitment
    town.chain.advance(10)
    _, inquiry = complete(town)

    found = report(town, inquiry, lambda *_: (body, commitment))

    assert found.culprits == (0,)


def test_report__true__is_attested(town: FakeTown) -> None:
    _, inquiry = complete(town)

    found = report(town, inquiry, lambda t, i: sealed(t, i, truth(t, i)))

    assert (found.stage, found.culprits) == (Stage.VALID, ())


def test_report__false_and_believed__is_attested(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    # The variant: a report is a sealed number, and the supervisor takes it as it comes.
    def believe(self: Any, inquiry: Inquiry, frame: protocol.Frame, known: Any) -> None:
        known.totals = [{"outstanding": 0}]

    monkeypatch.setattr("mpcredit.supervisor.Supervisor._check_report", believe)
    _, inquiry = complete(town)

    assert report(town, inquiry, false_total).stage is Stage.VALID


def test_aggregate__on_the_ledger_is_not_the_product__nobody_attests(town: FakeTown) -> None:
    # A contract that multiplies wrongly, or a node that shows another event: no culprit, and no verdict either.
    _, inquiry = complete(town)
    town.supervised = False
    town.asleep = set()
    town.settle()
    found = town.supervisor
    found.follower.sync()
    there = found.supervisor.state.inquiries[inquiry.id]
    there.aggregate = b"\1" * 512

    assert not found.supervisor.check(there).culprits
    assert found.supervisor.check(there).totals is None
    assert "not the product" in found.supervisor.findings[-1].text


# --------------------------------------------------------------------- a verdict on another report (E3)


def replayed_verdict(town: FakeTown) -> Inquiry:
    """After a verdict a reorganisation begins anew at the opening; the inquirer has another total under the same id.

    q does not cover the inquirer's own payload. It opens with 30,000 less of its own and reports that total; the answers and
    the verdict of the others are sent again as they were.
    """
    request = town.ask(1)
    town.settle()
    first = town.inquiry(request)
    frame = protocol.frame_of(first, town.chain.realm)
    (less,) = frame.schema.pack([figures(30) | {"lenders": 0}], frame.public.bits)
    own = craft(town[0], first, figures=[figures(1)], blocks=lambda plain: [plain[0] - less])
    others = [first.payload(member) for member in first.cohort if member != 0]
    aggregate = protocol.product(frame, [own, *others])
    openings = protocol.open_aggregate(frame, inquiry_key(town[0], first), aggregate)
    body, commitment = sealed(town, first, list(openings))
    calls = {
        "open": town.call("open", 0, replace(first.opening, payload=own).arguments()),
        "report": town.call("report", first.id, commitment, body, bytes(32)),
    }

    town.asleep = {0}
    gone = town.chain.reorganise(first.opened.at.block)
    again = [replace(t, call=calls.get(t.call.function, t.call)) for t in gone]
    town.chain.seen.extend(again)
    town.chain.mine(again)
    second = town.chain.fold().inquiries[first.id]
    assert second.report is not None
    assert second.report.commitment == commitment
    assert protocol.totals(frame, [opening.m for opening in openings]) == [figures(1) | {"lenders": 5}]
    return second


def test_verdict__replayed_onto_another_report__that_names_none__attests_the_false_total(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The variant: a verdict is on whatever report stands.
    attests = FakeChain._attest

    def on_any_report(self: FakeChain, state: Any, sender: str, inquiry: bytes, *rest: Any) -> Any:
        owner, valid, culprits, _commitment, anchor = rest
        report = state.inquiries[inquiry].report
        standing = report.commitment if report else bytes(32)
        return attests(self, state, sender, inquiry, owner, valid, culprits, standing, anchor)

    monkeypatch.setattr(FakeChain, "_attest", on_any_report)

    second = replayed_verdict(town)
    town.settle()

    assert second.stage is Stage.VALID
    assert town.chain.fold().inquiries[second.id].stage is Stage.VALID


def test_verdict__replayed_onto_another_report__is_not_taken_and_the_inquirer_is_named(town: FakeTown) -> None:
    second = replayed_verdict(town)
    assert (second.stage, second.verdict) == (Stage.REPORTED, None)

    town.settle()

    judged = town.chain.fold().inquiries[second.id]
    assert (judged.stage, judged.culprits) == (Stage.VOID, (0,))
