"""The auditor's page: the log, its check, and its lines for the bank's own monitoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from mpcredit.server.anchoring import own_anchors
from mpcredit.server.audit import Anchor, AuditBroken
from mpcredit.server.node import Node
from mpcredit.server.people import Principal, Role, User
from mpcredit.server.security import allow, require
from mpcredit.server.web import page, parts

router = APIRouter()

Auditor = Annotated[User, Depends(require(Role.AUDITOR))]
READERS = allow(Role.AUDITOR, scope="audit:read")


@router.get("/audit", include_in_schema=False)
def log(
    request: Request,
    user: Auditor,
    actor: Annotated[str, Query(max_length=200)] = "",
    action: Annotated[str, Query(max_length=100)] = "",
    about: Annotated[str, Query(max_length=200)] = "",
    before: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """Who did what, when and why; the newest first."""
    return _log(request, actor, action, about, before, None)


def _log(
    request: Request, actor: str, action: str, about: str, before: int | None, checked: tuple[bool, str, int] | None
) -> Response:
    audit = parts(request).audit
    entries = audit.search(actor=actor or None, action=action or None, about=about or None, before=before, limit=100)
    seq, head = audit.head()
    return page(
        request,
        "audit.html",
        entries=entries,
        head=head,
        seq=seq,
        checked=checked,
        filters={"actor": actor, "action": action, "about": about},
    )


@router.post("/audit/verify", include_in_schema=False)
def verify(request: Request, user: Auditor) -> Response:
    """Check every entry, the chain of hashes, and the heads that this party put on the ledger."""
    the = parts(request)
    audit = the.audit
    try:
        checked = (True, "", audit.check(_anchors(the.node)).entries)
    except AuditBroken as error:
        checked = (False, error.problem, error.seq)
    audit.append(user.actor, "audit.verified", "audit", facts_whole=checked[0], entries=checked[2])
    return _log(request, "", "", "", None, checked)


def _anchors(node: Node) -> Sequence[Anchor]:
    with node.locked() as party:
        return own_anchors(party)


@router.get("/api/audit", tags=["audit"], response_class=StreamingResponse)
def stream(
    request: Request,
    who: Annotated[Principal, Depends(READERS)],
    since: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000,
) -> StreamingResponse:
    """Entries after one, as JSON lines: what `mpcredit audit verify` reads."""
    audit = parts(request).audit

    def lines() -> Iterator[bytes]:
        for entry in audit.stream(since, limit):
            yield entry.line + b"\n"

    headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)
