"""The supervisor's page of corrections: whom the next batch tells, what is held back, and sending by hand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from mpcredit.server.people import Role, User
from mpcredit.server.refusals import InvalidForm
from mpcredit.server.security import require
from mpcredit.server.telling import Telling
from mpcredit.server.web import go, page

router = APIRouter(include_in_schema=False)

Supervisor = Annotated[User, Depends(require(Role.SUPERVISOR))]


def _telling(request: Request) -> Telling:
    found = request.app.state.telling
    assert isinstance(found, Telling)
    return found


@router.get("/supervision/corrections")
def corrections(request: Request, user: Supervisor) -> Response:
    """What waits, who sent a notice lately."""
    return page(request, "tellings.html", **_telling(request).overview(), problems={})


@router.post("/supervision/corrections/send")
def send(request: Request, user: Supervisor, reason: Annotated[str, Form(max_length=1000)] = "") -> Response:
    """Send today's batch by hand."""
    try:
        _telling(request).send_now(by=user.actor, why=reason)
    except InvalidForm as error:
        return page(request, "tellings.html", status_code=422, **_telling(request).overview(), problems=error.problems)
    return go("/supervision/corrections", "told")
