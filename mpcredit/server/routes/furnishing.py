"""What this institution answered, what it refused and why, and whether it can answer at all."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from mpcredit.disclosure import ADVICE, RefusalCode
from mpcredit.encoding import hex_bytes
from mpcredit.server.people import Role, User
from mpcredit.server.security import require
from mpcredit.server.web import page, parts

router = APIRouter(include_in_schema=False)


@router.get("/furnishing")
def furnishing(
    request: Request, user: Annotated[User, Depends(require(Role.AUDITOR, Role.REVIEWER, Role.ADMINISTRATOR))]
) -> Response:
    """The bank's own auditor reads here what left the house."""
    the = parts(request)
    with the.node.locked() as party:
        state = party.desk.state
        rows = [
            _row(key, answer, state.inquiries.get(hex_bytes(key, 32)), party.index)
            for key, answer in party.desk.store.items("answer")
        ]
        terms = state.parameters
        book_limit = terms.book_age_seconds if terms else 0
    rows.reverse()
    return page(
        request,
        "furnishing.html",
        rows=rows[:500],
        answered=sum(row["code"] is None for row in rows),
        refused=sum(bool(row["code"]) for row in rows),
        book_limit=book_limit,
    )


def _row(key: str, answer: dict[str, Any], inquiry: Any, own: int) -> dict[str, Any]:
    code = int(answer["refused"]) if "refused" in answer else None
    sent = inquiry.contributions.get(own) if inquiry is not None else None
    return {
        "id": key,
        "inquirer": inquiry.names[inquiry.inquirer] if inquiry is not None else "–",
        "opened_at": inquiry.opened.at.timestamp if inquiry is not None else None,
        "seconds": sent.at.timestamp - inquiry.opened.at.timestamp if sent is not None else None,
        "subjects": len(inquiry.opening.consents) if inquiry is not None else 0,
        "stage": inquiry.stage.name.lower() if inquiry is not None else "none",
        "code": code,
        "name": RefusalCode(code).name if code in list(RefusalCode) else "",
        "text": str(answer.get("text", "")),
        "advice": ADVICE.get(code, "") if code else "",
    }
