"""Requests, totals and decisions: found in the store, told for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpcredit.amounts import Money
from mpcredit.cli._access import View
from mpcredit.cli._shared import Output, moment
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage, MpcreditError, NotYet, ValueOutOfRange
from mpcredit.inquirer import Request, RequestState
from mpcredit.institution import coverage_of, exposure_of
from mpcredit.policy import CreditPolicy, Decision, Exposure
from mpcredit.state import Inquiry

OUTCOME_STYLES = {"approve": "bold green", "refer": "bold yellow", "decline": "bold red"}


def find_request(read: View, text: str) -> Request:
    """A request of this institution: by the start of its id or of its inquiry's, or "last".

    Raises:
        InvalidMessage: there is none, or more than one.
    """
    known = [Request(key, value) for key, value in read.store.items("request")]
    if text == "last":
        found = known[-1:]
    else:
        start = text.lower()
        found = [
            request
            for request in known
            if request.id.startswith(start)
            or (request.inquiry is not None and to_hex(request.inquiry).startswith(start))
        ]
    if len(found) != 1:
        some = ", ".join(f"{request.id} ({request.state})" for request in known[-5:]) or "none"
        problem = "there is no request" if not found else "more than one request starts with"
        raise InvalidMessage(f"{problem} {text}", remedy=f"the latest are: {some}")
    return found[0]


def inquiry_of(read: View, request: Request) -> Inquiry:
    """What the ledger says of a request.

    Raises:
        NotYet: it is not on the ledger (yet, or any more).
    """
    inquiry = read.follower.state.inquiries.get(request.inquiry) if request.inquiry is not None else None
    if inquiry is None:
        raise NotYet(request.note or f"the request is {request.state}", remedy=f"see `mpcredit explain {request.id}`")
    return inquiry


def waiting_for(read: View, request: Request) -> str:
    """What stands between a request and its totals, in words."""
    inquiry = read.follower.state.inquiries.get(request.inquiry) if request.inquiry else None
    if inquiry is None:
        return request.note or "opening the inquiry"
    if inquiry.awaited:
        there = len(inquiry.cohort) - len(inquiry.awaited)
        return (
            f"{there} of {len(inquiry.cohort)} answers; missing: {', '.join(inquiry.names[i] for i in inquiry.awaited)}"
        )
    if inquiry.report is None:
        return "all answers are there; opening the totals"
    return "the totals are reported; waiting for the supervisor's verdict"


def opened_totals(read: View, request: Request) -> tuple[Inquiry, list[dict[str, int]]]:
    """Inquiry and totals of a request.

    Raises:
        NotYet: the totals are not open. MpcreditError: they never will be.
    """
    if request.state.final and request.state is not RequestState.ATTESTED:
        raise MpcreditError(
            f"the inquiry ended without totals that count: {request.note}",
            remedy=f"see `mpcredit explain {request.id}`",
        )
    totals = request.totals
    if totals is None:
        raise NotYet(
            f"the totals are not open: {waiting_for(read, request)}", remedy=f"see `mpcredit explain {request.id}`"
        )
    return inquiry_of(read, request), totals


def exposures(read: View, request: Request) -> list[Exposure]:
    """Exposures of a request, one for each subject (schema 1).

    Raises:
        NotYet, MpcreditError: as `opened_totals`.
        InvalidMessage: figures of another schema have no exposure.
    """
    inquiry, totals = opened_totals(read, request)
    if inquiry.schema.id != 1:
        raise InvalidMessage(f"schema {inquiry.schema.id} has no exposure to decide on", remedy="ask with schema 1")
    labels = [entry["label"] for entry in request.value["subjects"]]
    currency = inquiry.opening.currency
    return [
        exposure_of(record, label, currency, inquiry, attested=request.attested)
        for record, label in zip(totals, labels, strict=True)
    ]


def result_document(read: View, request: Request) -> dict[str, Any]:
    """A request with its totals, for programs; amounts in minor units."""
    inquiry, totals = opened_totals(read, request)
    return {
        "request": request.id,
        "inquiry": to_hex(inquiry.id),
        "state": request.state.value,
        "attested": request.state is RequestState.ATTESTED,
        "currency": inquiry.opening.currency,
        "schema": inquiry.schema.id,
        "coverage": coverage_of(inquiry),
        "institutions": len(inquiry.cohort),
        "active": len(inquiry.cohort) + len(inquiry.absent),
        "opened_at": inquiry.opened.at.timestamp,
        "officer": request.value["officer"],
        "purpose": request.value["purpose"],
        "subjects": [
            {"label": entry["label"], "totals": record}
            for entry, record in zip(request.value["subjects"], totals, strict=True)
        ],
    }


def show_result(out: Output, read: View, request: Request) -> None:
    """Print the totals of a request."""
    inquiry, totals = opened_totals(read, request)
    currency = inquiry.opening.currency
    fields = inquiry.schema.fields
    out.table(
        f"Totals of inquiry {to_hex(inquiry.id)[:14]}… at {moment(inquiry.opened.at.timestamp)}",
        ["subject", *(field.name.replace("_", " ") for field in fields)],
        [
            (
                entry["label"],
                *(
                    str(Money.of_minor(record[field.name], currency)).removesuffix(f" {currency}")
                    if field.kind == "amount"
                    else record[field.name]
                    for field in fields
                ),
            )
            for entry, record in zip(request.value["subjects"], totals, strict=True)
        ],
        right=[field.name.replace("_", " ") for field in fields],
    )
    attested = request.state is RequestState.ATTESTED
    out.facts(
        "",
        [
            ("amounts in", currency),
            ("coverage", coverage_of(inquiry)),
            ("attested", "yes, by the supervisor" if attested else "not yet: the totals are provisional"),
            ("request", request.id),
        ],
    )


def money(text: str, currency: str, what: str) -> Money:
    """An amount of the command line.

    Raises:
        InvalidMessage: it is none.
    """
    try:
        amount = Money.typed(text, currency)
    except ValueOutOfRange as error:
        raise InvalidMessage(f"{what}: {error.message}", remedy=error.remedy) from error
    if amount.minor < 0:
        raise InvalidMessage(f"{what} is negative", remedy="write 0 or more")
    return amount


def decide_all(
    read: View,
    request: Request,
    policy_file: Path | None,
    *,
    amount: str,
    currency: str | None,
    income: str | None,
    months: int | None,
) -> list[tuple[Exposure, Decision, dict[str, Any]]]:
    """Apply the credit policy to each subject of a request.

    Returns:
        Exposure, decision, and what is to be stored of it.

    Raises:
        InvalidMessage: an argument does not fit. InvalidFile: the policy does not.
    """
    policy = CreditPolicy.from_toml(policy_file) if policy_file else CreditPolicy.from_toml()
    decided = []
    for exposure in exposures(read, request):
        unit = currency or exposure.currency
        if unit != exposure.currency:
            raise InvalidMessage(
                f"the totals are in {exposure.currency}, the amount in {unit}",
                remedy=f"give the amount in {exposure.currency}",
            )
        if months is not None and not 1 <= months <= 600:
            raise InvalidMessage(f"a term of {months} months", remedy="give 1 to 600")
        requested = money(amount, unit, "the amount")
        earned = money(income, unit, "the income") if income is not None else None
        decision = policy.decide(exposure, requested=requested, income=earned, months=months)
        value = {
            "request": request.id,
            "subject": exposure.subject_label,
            "requested": str(requested.minor),
            "currency": unit,
            "income": str(earned.minor) if earned else None,
            "months": months,
            "decided_at": read.follower.now,
            **decision.to_json_object(),
        }
        decided.append((exposure, decision, value))
    return decided


def show_decision(out: Output, exposure: Exposure, decision: Decision) -> None:
    """Print a decision with its reasons, fit to be told to the customer."""
    out.say()
    out.say(f"{exposure.subject_label}: {decision.outcome.value}", OUTCOME_STYLES[decision.outcome.value])
    if decision.reasons:
        out.table(
            "",
            ["reason", "figure", "limit", "asks for"],
            [(reason.text, reason.value, reason.limit, reason.outcome.value) for reason in decision.reasons],
            right=["figure", "limit"],
            styles=OUTCOME_STYLES,
        )
    for note in decision.notes:
        out.say(f"  note: {note}", "dim")
    provisional = "; provisional, until the supervisor has attested" if decision.provisional else ""
    out.say(f"  by policy {decision.policy}{provisional}", "dim")
