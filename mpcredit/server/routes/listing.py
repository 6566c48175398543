"""The bank's own applications as a list with filters, and as CSV: reviewers and auditors all, an officer or system its own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from mpcredit.server.casefile import Application, Step
from mpcredit.server.exports import APPLICATION_COLUMNS, application_row, csv_response, days
from mpcredit.server.people import Principal, Role, User
from mpcredit.server.refusals import InvalidForm, NotAllowed
from mpcredit.server.security import require
from mpcredit.server.web import page, parts

router = APIRouter(include_in_schema=False)

Reader = Annotated[User, Depends(require(Role.OFFICER, Role.REVIEWER, Role.AUDITOR))]
SHOWN = 500
"""Lines of the page; a file has all."""
EXPORTED = 1_000_000


def _found(
    request: Request, who: Principal, step: Step | None, officer: str, first: str, last: str, limit: int
) -> list[Application]:
    officer = officer.strip()
    if officer and ":" not in officer:
        officer = f"user:{officer}"
    if not {Role.REVIEWER, Role.AUDITOR} & who.roles:
        if officer not in ("", who.actor):
            raise NotAllowed("these applications are another's", remedy="leave the officer out")
        officer = who.actor
    since, before = days(first, last)
    return parts(request).desk.newest(
        steps=None if step is None else [step], officer=officer or None, since=since, before=before, limit=limit
    )


def _step(text: str) -> Step | None:
    try:
        return Step(text) if text else None
    except ValueError:
        raise InvalidForm({"step": f"choose one of {', '.join(Step)}"}) from None


def export_of(request: Request, who: Principal, step: Step | None, officer: str, first: str, last: str) -> Response:
    """The file for whoever asks; that he took it is in the audit log before he has it."""
    found = _found(request, who, step, officer, first, last, EXPORTED)
    filters = {"step": step.value if step else "", "officer": officer, "first": first, "last": last}
    parts(request).audit.append(
        who.actor,
        "subject.looked",
        "applications",
        "export",
        subjects=len(found),
        filters={name: value for name, value in filters.items() if value},
    )
    return csv_response("applications.csv", [application_row(one) for one in found], APPLICATION_COLUMNS)


@router.get("/applications/list")
def listing(
    request: Request,
    user: Reader,
    step: Annotated[str, Query(max_length=20)] = "",
    officer: Annotated[str, Query(max_length=200)] = "",
    first: Annotated[str, Query(max_length=10)] = "",
    last: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """Applications by step, officer and day."""
    everything = bool({Role.REVIEWER, Role.AUDITOR} & user.roles)
    problems: dict[str, str] = {}
    found: list[Application] = []
    try:
        found = _found(request, user, _step(step), officer, first, last, SHOWN + 1)
    except InvalidForm as error:
        problems = error.problems
    return page(
        request,
        "listing.html",
        status_code=422 if problems else 200,
        applications=found[:SHOWN],
        more=len(found) > SHOWN,
        problems=problems,
        steps=[one.value for one in Step],
        filters={"step": step, "officer": officer, "first": first, "last": last},
        everything=everything,
        people=[one for one in parts(request).people.users() if Role.OFFICER in one.roles] if everything else [],
    )


@router.get("/applications/export.csv")
def export(
    request: Request,
    user: Reader,
    step: Annotated[str, Query(max_length=20)] = "",
    officer: Annotated[str, Query(max_length=200)] = "",
    first: Annotated[str, Query(max_length=10)] = "",
    last: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """The same as a file, without the totals."""
    return export_of(request, user, _step(step), officer, first, last)
