"""The customer's footprint: who identified him makes a one-time link, and whoever has one sees who asked about him.

The same pages at an institution and at the supervisor, which sees every inquiry of the consortium.
"""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import JSONResponse, Response

from mpcredit.identity import COUNTRIES, KINDS
from mpcredit.server.footprint import Footprints
from mpcredit.server.people import Role, User
from mpcredit.server.refusals import InvalidForm
from mpcredit.server.security import require
from mpcredit.server.web import page, parts

router = APIRouter(include_in_schema=False)

Officer = Annotated[User, Depends(require(Role.OFFICER, Role.SUPERVISOR))]
Reader = Annotated[User, Depends(require(Role.OFFICER, Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR))]
Token = Annotated[str, Form(max_length=200)]


def _footprints(request: Request) -> Footprints:
    the = parts(request)
    clock = the.applications.clock if the.applications is not None else time.time
    return Footprints(the.audit.database, the.node, the.audit, clock=clock)


def _links(
    request: Request, fields: dict[str, str], problems: dict[str, str], *, link: str = "", status: int = 200
) -> Response:
    return page(
        request,
        "footprint_links.html",
        status_code=status,
        links=_footprints(request).links(),
        fields={"kind": "national_id", "country": "TW", "number": "", "identified": "", **fields},
        problems=problems,
        link=link,
        kinds=KINDS,
        countries=sorted(COUNTRIES),
    )


@router.get("/footprints")
def links(request: Request, user: Reader) -> Response:
    """What was made for whom, and the form for who identifies customers."""
    return _links(request, {}, {})


@router.post("/footprints")
def issue(
    request: Request,
    user: Officer,
    kind: Annotated[str, Form(max_length=40)] = "",
    country: Annotated[str, Form(max_length=10)] = "",
    number: Annotated[str, Form(max_length=100)] = "",
    identified: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Make a link and show it, this once."""
    fields = {"kind": kind, "country": country, "number": number, "identified": identified}
    try:
        token = _footprints(request).issue(**fields, officer=user.actor)
    except InvalidForm as error:
        return _links(request, fields, error.problems, status=422)
    return _links(request, {}, {}, link=f"{parts(request).settings.origin}/footprint?token={token}")


@router.get("/footprint")
def offer(request: Request, token: Annotated[str, Query(max_length=200)] = "") -> Response:
    """A button, so that a preview of the link does not use it up."""
    holds = bool(token) and _footprints(request).holds(token)
    return page(request, "footprint.html", status_code=200 if holds else 404, token=token if holds else "", shown=None)


@router.post("/footprint")
def show(request: Request, token: Token = "") -> Response:
    """Who asked, when, why and by which consent; once."""
    found = _footprints(request).redeem(token)
    if found is None:
        return page(request, "footprint.html", status_code=404, token="", shown=None)
    footprint, following = found
    return page(request, "footprint.html", token=following, shown=footprint.document)


@router.post("/footprint/document")
def document(request: Request, token: Token = "") -> Response:
    """The same as a JSON document, to keep or to hand on."""
    found = _footprints(request).redeem(token, kind="document")
    if found is None:
        return page(request, "footprint.html", status_code=404, token="", shown=None)
    return JSONResponse(
        found[0].document, headers={"Content-Disposition": 'attachment; filename="credit-inquiries.json"'}
    )
