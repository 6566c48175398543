"""The credit officer's pages: what to do next, a new application, one application, a batch, consents."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Path, Query, Request, UploadFile
from fastapi.responses import Response

from mpcredit.amounts import Money
from mpcredit.consent import Purpose
from mpcredit.errors import ValueOutOfRange
from mpcredit.identity import COUNTRIES, KINDS
from mpcredit.policy import Outcome
from mpcredit.server.casefile import Application, Step
from mpcredit.server.drafts import BATCH_COLUMNS, EVIDENCE_BYTES, Draft, read_batch
from mpcredit.server.people import Role, User
from mpcredit.server.refusals import InvalidForm, NotAllowed
from mpcredit.server.security import require
from mpcredit.server.web import Parts, go, page, parts

router = APIRouter(include_in_schema=False)

Officer = Annotated[User, Depends(require(Role.OFFICER))]
Reader = Annotated[User, Depends(require(Role.OFFICER, Role.REVIEWER, Role.AUDITOR))]
Id = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]


def currency_of(request: Request) -> str:
    """The one currency of this institution's figures."""
    return parts(request).desk.terms()[0]


@router.get("/applications")
def home(request: Request, user: Officer) -> Response:
    """The officer's first page: what waits for him, then everything else."""
    desk = parts(request).desk
    mine = [a for a in desk.newest() if desk.may_decide(a, user.actor)]
    return page(
        request,
        "applications.html",
        ready=[a for a in mine if a.step is Step.READY],
        stopped=[a for a in mine if a.step is Step.STOPPED],
        moving=[a for a in mine if a.step in (Step.WAITING, Step.ASKING, Step.CHECKING)],
        review=[a for a in mine if a.step is Step.REVIEW],
        decided=[a for a in mine if a.step is Step.DECIDED],
    )


@router.get("/amount")
def amount(
    request: Request,
    user: Officer,
    amount: Annotated[str, Query(max_length=40)] = "",
    income: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """An amount of the form as the server reads it, so that the officer sees it before it is sent."""
    text, problem, money = amount or income, "", None
    try:
        money = Money.typed(text, currency_of(request)) if text else None
    except ValueOutOfRange as error:
        problem = str(error)
    return page(request, "_amount.html", money=money, problem=problem)


@router.get("/applications/new")
def new(request: Request, user: Officer) -> Response:
    """The form."""
    return _form(request, {}, {})


def _form(request: Request, fields: dict[str, str], problems: dict[str, str], status: int = 200) -> Response:
    return page(
        request,
        "application_new.html",
        status_code=status,
        fields={**dict.fromkeys(BATCH_COLUMNS, ""), "kind": "national_id", "country": "TW", **fields},
        problems=problems,
        currency=currency_of(request),
        kinds=KINDS,
        countries=sorted(COUNTRIES),
        purposes=[purpose.value for purpose in Purpose],
    )


@router.post("/applications")
def create(
    request: Request,
    user: Officer,
    kind: Annotated[str, Form(max_length=40)] = "",
    country: Annotated[str, Form(max_length=10)] = "",
    number: Annotated[str, Form(max_length=100)] = "",
    amount: Annotated[str, Form(max_length=40)] = "",
    months: Annotated[str, Form(max_length=10)] = "",
    income: Annotated[str, Form(max_length=40)] = "",
    purpose: Annotated[str, Form(max_length=40)] = "",
    evidence: Annotated[str, Form(max_length=100)] = "",
    reference: Annotated[str, Form(max_length=200)] = "",
    document: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Enter an application; the inquiry opens by itself."""
    fields = {
        "kind": kind,
        "country": country,
        "number": number,
        "amount": amount,
        "months": months,
        "income": income,
        "purpose": purpose,
        "evidence": evidence,
        "reference": reference,
    }
    try:
        draft = Draft.parse(fields, currency=currency_of(request))
        draft = _attach(draft, document)
        application = parts(request).desk.create(draft, officer=user.actor)
    except InvalidForm as error:
        return _form(request, fields, error.problems, 422)
    return go(f"/applications/{application.id}", "created")


def _attach(draft: Draft, document: UploadFile | None) -> Draft:
    if document is None or not document.filename:
        return draft
    data = document.file.read(EVIDENCE_BYTES + 1)
    if not data or len(data) > EVIDENCE_BYTES:
        raise InvalidForm({"document": f"attach a file of up to {EVIDENCE_BYTES // 1_000_000} MB that is not empty"})
    digest = hashlib.sha256(data).digest()
    if any(draft.evidence) and draft.evidence != digest:
        raise InvalidForm({"evidence": "is not the SHA-256 of the attached file"})
    name = "".join(c for c in document.filename if c.isprintable() and c not in '/\\"')[-100:] or "consent"
    return replace(draft, evidence=digest, evidence_name=name, document=data)


@router.get("/applications/batch")
def batch(request: Request, user: Officer) -> Response:
    """The form for a file."""
    return _batch(request, {})


def _batch(request: Request, problems: Mapping[str, str], status_code: int = 200) -> Response:
    return page(
        request,
        "batch.html",
        status_code=status_code,
        problems=problems,
        columns=BATCH_COLUMNS,
        currency=currency_of(request),
        largest=parts(request).desk.largest(),
    )


@router.post("/applications/batch")
def batch_upload(request: Request, user: Officer, file: Annotated[UploadFile, File()]) -> Response:
    """Read a file of applications, all or none."""
    try:
        drafts = read_batch(file.file.read(4_000_001)[:4_000_000], currency=currency_of(request))
        parts(request).desk.create_many(drafts, officer=user.actor)
    except InvalidForm as error:
        return _batch(request, error.problems, 422)
    return go("/applications", "created")


def _visible(request: Request, user: User, application_id: str) -> Application:
    """An application that this person may see; every look of a person is in the audit log."""
    the = parts(request)
    application = the.desk.get(application_id)
    others = {Role.REVIEWER, Role.AUDITOR} & user.roles
    if not others and not the.desk.may_decide(application, user.actor):
        raise NotAllowed("this application is another officer's")
    about = f"application/{application.id}"
    if application.step is not Step.WAITING and not (
        request.headers.get("hx-request") and _looked_lately(the, user.actor, about)
    ):
        why = application.purpose if application.officer == user.actor else ", ".join(sorted(others)) or "decision"
        the.audit.append(user.actor, "subject.looked", about, why)
    return application


def _looked_lately(the: Parts, actor: str, about: str) -> bool:
    """Whether the look of somebody whose open page asks anew is written down: the header alone, anybody can send."""
    found = the.audit.search(actor=actor, action="subject.looked", about=about, limit=1)
    return bool(found) and found[0].at > time.time() - 3_600 * the.settings.session_hours


@router.get("/applications/{application_id}")
def show(request: Request, user: Reader, application_id: Id) -> Response:
    """One application: where it stands, totals, the policy's answer, the decision."""
    return _show(request, user, _visible(request, user, application_id), {}, {})


def _show(
    request: Request,
    user: User,
    application: Application,
    problems: dict[str, str],
    fields: dict[str, str],
    status: int = 200,
) -> Response:
    the = parts(request)
    may_decide = Role.OFFICER in user.roles and the.desk.may_decide(application, user.actor)
    decision = application.decision
    may_review = (
        Role.REVIEWER in user.roles
        and application.step is Step.REVIEW
        and decision is not None
        and user.actor not in (decision["by"], application.officer)
    )
    return page(
        request,
        "application.html",
        status_code=status,
        application=application,
        may_decide=may_decide and application.step in (Step.READY, Step.STOPPED),
        may_review=may_review,
        problems=problems,
        fields={"outcome": "", "reason": "", **fields},
        limits=_limits(request, application),
        Step=Step,
    )


def show_with(request: Request, user: User, application_id: str, problems: dict[str, str]) -> Response:
    """The page of an application with what must be corrected on it."""
    return _show(request, user, _visible(request, user, application_id), problems, {}, 422)


def _limits(request: Request, application: Application) -> dict[str, Any]:
    """The policy's limits beside the totals: figure to (refer, decline) in minor units or as a count."""
    policy = parts(request).desk.terms()[1]
    if policy.currency != application.currency:
        return {}
    found = {
        "exposure": policy.exposure,
        "overdue": policy.overdue,
        "lenders": policy.lenders,
        "pending": policy.pending,
    }
    return {name: (int(limit.refer), int(limit.decline)) for name, limit in found.items() if limit is not None}


@router.post("/applications/{application_id}/decide")
def decide(
    request: Request,
    user: Officer,
    application_id: Id,
    outcome: Annotated[str, Form(max_length=20)] = "",
    reason: Annotated[str, Form(max_length=4000)] = "",
) -> Response:
    """Take the decision."""
    desk = parts(request).desk
    try:
        if outcome not in (Outcome.APPROVE, Outcome.DECLINE):
            raise InvalidForm({"outcome": "choose approve or decline"})
        application = desk.decide(application_id, officer=user.actor, outcome=Outcome(outcome), reason=reason)
    except InvalidForm as error:
        fields = {"outcome": outcome, "reason": reason}
        return _show(request, user, _visible(request, user, application_id), error.problems, fields, 422)
    said = "review" if application.step is Step.REVIEW else "decided"
    return go(f"/applications/{application_id}", said)


@router.post("/applications/{application_id}/ask-again")
def ask_again(request: Request, user: Officer, application_id: Id) -> Response:
    """Ask anew after an inquiry without totals."""
    parts(request).desk.ask_again(application_id, officer=user.actor)
    return go(f"/applications/{application_id}", "again")


@router.get("/applications/{application_id}/letter")
def letter(request: Request, user: Reader, application_id: Id) -> Response:
    """The reasons in words for the customer, to print."""
    application = _visible(request, user, application_id)
    if application.step is not Step.DECIDED:
        raise NotAllowed("there is no decision to tell the customer yet")
    return page(request, "letter.html", application=application)


@router.get("/consents")
def consents(request: Request, user: Reader) -> Response:
    """The consents that were recorded, and which still hold."""
    return page(request, "consents.html", consents=parts(request).desk.consents.all())


@router.get("/consents/{consent}/document")
def document(request: Request, user: Reader, consent: Annotated[str, Path(pattern="^0x[0-9a-f]{64}$")]) -> Response:
    """The document that was attached; always downloaded, never shown by the browser."""
    the = parts(request)
    name, data = the.desk.consents.document(consent)
    the.audit.append(user.actor, "consent.document_read", f"consent/{consent}")
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{plain}"', "X-Content-Type-Options": "nosniff"},
    )


@router.post("/consents/{consent}/revoke")
def revoke(
    request: Request,
    user: Annotated[User, Depends(require(Role.OFFICER, Role.REVIEWER))],
    consent: Annotated[str, Path(pattern="^0x[0-9a-f]{64}$")],
    reason: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """State on the ledger that the customer revoked it."""
    parts(request).desk.consents.revoke(consent, by=user.actor, why=reason)
    return go("/consents", "revoked")
