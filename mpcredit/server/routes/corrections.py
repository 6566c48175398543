"""Corrections: enter a wrong figure, confirm it as another person, and ask again where one was corrected elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Path, Request, UploadFile
from fastapi.responses import Response

from mpcredit.books import written_fields
from mpcredit.identity import COUNTRIES, KINDS
from mpcredit.schema import FIGURES_1
from mpcredit.server.corrections import Corrections
from mpcredit.server.people import Role, User
from mpcredit.server.refusals import InvalidForm
from mpcredit.server.routes.applications import _attach, currency_of
from mpcredit.server.security import require
from mpcredit.server.web import go, page, parts

router = APIRouter(include_in_schema=False)

Officer = Annotated[User, Depends(require(Role.OFFICER))]
Reviewer = Annotated[User, Depends(require(Role.REVIEWER))]
Reader = Annotated[User, Depends(require(Role.OFFICER, Role.REVIEWER, Role.AUDITOR))]
Id = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
FIELDS = [part.name for part in written_fields(FIGURES_1)]
EMPTY = {"kind": "national_id", "country": "TW", "number": "", "field": "", "was": "", "should_be": "", "since": ""}


def _corrections(request: Request) -> Corrections:
    found = request.app.state.corrections
    assert isinstance(found, Corrections)
    return found


def _page(
    request: Request, user: User, fields: dict[str, str], problems: dict[str, str], status: int = 200
) -> Response:
    corrections = _corrections(request)
    return page(
        request,
        "corrections.html",
        status_code=status,
        corrections=sorted(corrections.newest(), key=lambda one: one.state != "entered"),
        in_database=corrections.in_database(),
        sends=corrections.sends,
        fields={**EMPTY, "reason": "", **fields},
        problems=problems,
        figures=FIELDS,
        kinds=KINDS,
        countries=sorted(COUNTRIES),
        currency=currency_of(request),
        own=user.actor,
    )


@router.get("/corrections")
def corrections(request: Request, user: Reader) -> Response:
    """What was corrected and what waits, and the form for officers."""
    return _page(request, user, {}, {})


@router.post("/corrections")
def enter(
    request: Request,
    user: Officer,
    kind: Annotated[str, Form(max_length=40)] = "",
    country: Annotated[str, Form(max_length=10)] = "",
    number: Annotated[str, Form(max_length=100)] = "",
    field: Annotated[str, Form(max_length=64)] = "",
    was: Annotated[str, Form(max_length=40)] = "",
    should_be: Annotated[str, Form(max_length=40)] = "",
    since: Annotated[str, Form(max_length=20)] = "",
    reason: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Enter one, for a reviewer to confirm."""
    fields: dict[str, Any] = {
        "kind": kind,
        "country": country,
        "number": number,
        "field": field,
        "was": was,
        "should_be": should_be,
        "since": since,
        "reason": reason,
    }
    try:
        _corrections(request).enter(**fields, officer=user.actor)
    except InvalidForm as error:
        return _page(request, user, fields, error.problems, 422)
    return go("/corrections", "asked")


@router.post("/corrections/{correction}/decide")
def decide(
    request: Request,
    user: Reviewer,
    correction: Id,
    agree: Annotated[str, Form(max_length=5)] = "",
    remark: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Confirm or refuse what another person entered."""
    if agree not in ("yes", "no"):
        raise InvalidForm({"agree": "choose one"})
    try:
        _corrections(request).decide(correction, reviewer=user.actor, agree=agree == "yes", remark=remark)
    except InvalidForm as error:
        return _page(request, user, {}, error.problems, 422)
    return go("/corrections", "saved")


@router.get("/applications/{application_id}/corrected")
def corrected(request: Request, user: Officer, application_id: Id) -> Response:
    """The form to ask again: the customer's number and new consent, the rest is known."""
    return _again(request, user, application_id, {}, {})


def _again(
    request: Request,
    user: User,
    application_id: str,
    fields: dict[str, str],
    problems: dict[str, str],
    status: int = 200,
) -> Response:
    application = parts(request).desk.get(application_id)
    _corrections(request).may_ask_again(application, user.actor)
    return page(
        request,
        "corrected.html",
        status_code=status,
        application=application,
        fields={
            "kind": application.value["kind"],
            "country": application.label[:2],
            "number": "",
            "evidence": "",
            **fields,
        },
        problems=problems,
        kinds=KINDS,
        countries=sorted(COUNTRIES),
    )


@router.post("/applications/{application_id}/corrected")
def ask(
    request: Request,
    user: Officer,
    application_id: Id,
    kind: Annotated[str, Form(max_length=40)] = "",
    country: Annotated[str, Form(max_length=10)] = "",
    number: Annotated[str, Form(max_length=100)] = "",
    evidence: Annotated[str, Form(max_length=100)] = "",
    document: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Ask again, as a new application."""
    fields = {"kind": kind, "country": country, "number": number, "evidence": evidence}
    try:
        made = _corrections(request).again(
            application_id, fields, officer=user.actor, attach=lambda draft: _attach(draft, document)
        )
    except InvalidForm as error:
        return _again(request, user, application_id, fields, error.problems, 422)
    return go(f"/applications/{made.id}", "created")
