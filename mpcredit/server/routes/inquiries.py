"""Inquiries on the ledger as this institution sees them, each with its time line; the same as `mpcredit explain`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from mpcredit.encoding import hex_bytes
from mpcredit.institution import coverage_of
from mpcredit.server.people import Role, User
from mpcredit.server.refusals import NotFound
from mpcredit.server.security import require
from mpcredit.server.web import page, parts
from mpcredit.timeline import timeline

router = APIRouter(include_in_schema=False)

Reader = Annotated[User, Depends(require(Role.OFFICER, Role.REVIEWER, Role.AUDITOR))]


@router.get("/inquiries")
def inquiries(request: Request, user: Reader) -> Response:
    """All of them, the newest first."""
    the = parts(request)
    with the.node.locked() as party:
        now, own = party.follower.next_time, party.index
        rows = [
            {
                "id": "0x" + inquiry.id.hex(),
                "opened_at": inquiry.opened.at.timestamp,
                "inquirer": inquiry.names[inquiry.inquirer],
                "own": inquiry.inquirer == own,
                "stage": inquiry.stage.name.lower(),
                "answered": len(inquiry.contributions),
                "cohort": len(inquiry.cohort),
                "subjects": len(inquiry.opening.consents),
                "turn": (line := timeline(inquiry, now=now)).turn,
                "since": line.since,
            }
            for inquiry in reversed(party.desk.state.inquiries.values())
        ]
    return page(request, "inquiries.html", inquiries=rows[:500])


@router.get("/inquiries/{inquiry}")
def inquiry(request: Request, user: Reader, inquiry: Annotated[str, Path(pattern="^0x[0-9a-f]{64}$")]) -> Response:
    """What happened, whose move it is, since when, and what would help."""
    the = parts(request)
    with the.node.locked() as party:
        found = party.desk.state.inquiries.get(hex_bytes(inquiry, 32))
        if found is None:
            raise NotFound("this inquiry is not on the ledger", remedy="look for it in the list")
        line = timeline(found, now=party.follower.next_time)
        facts = {
            "id": inquiry,
            "inquirer": found.names[found.inquirer],
            "coverage": coverage_of(found),
            "subjects": len(found.opening.consents),
            "deadline": found.opened.deadline,
            "bits": len(found.opening.n) * 8,
            "answered": {found.names[i]: i in found.contributions for i in found.cohort},
        }
    own = [a for a in the.desk.newest() if a.seen.get("inquiry") == inquiry]
    mine = own if {Role.REVIEWER, Role.AUDITOR} & user.roles else [a for a in own if the.desk.may_decide(a, user.actor)]
    return page(request, "inquiry.html", line=line, facts=facts, applications=mine)
