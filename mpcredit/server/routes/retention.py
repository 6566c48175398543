"""Who can still read what, until when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from mpcredit.server.people import Role, User
from mpcredit.server.retention import Retention
from mpcredit.server.security import require
from mpcredit.server.web import page, parts

router = APIRouter(include_in_schema=False)


@router.get("/retention")
def retention(request: Request, user: Annotated[User, Depends(require(Role.AUDITOR, Role.ADMINISTRATOR))]) -> Response:
    """What is kept, who can read it, and what ends that."""
    found: Retention = request.app.state.retention
    with parts(request).node.locked() as party:
        overview = found.overview(party)
    return page(
        request,
        "retention.html",
        has=overview,
        days=found.settings,
        destroyed=parts(request).audit.search(action="retention.", limit=20),
    )
