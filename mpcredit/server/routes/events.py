"""Changes pushed to open pages: each says only that something of a kind changed; the page then asks for its part anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sse_starlette import EventSourceResponse, ServerSentEvent

from mpcredit.server.people import User
from mpcredit.server.security import EVENTS, current_user
from mpcredit.server.web import Parts, parts

router = APIRouter(include_in_schema=False)

KINDS = frozenset(
    {
        *("request", "inquiry", "member", "proposal", "finding", "health", "lagged", "application"),
        *("book", "people", "look", "order"),
    }
)
CHECK_SECONDS = 15.0
"""How often an open stream asks whether its person may still be here."""


async def _changes(request: Request, the: Parts, user: User) -> AsyncIterator[ServerSentEvent]:
    token = request.cookies.get(the.settings.cookie_name, "")
    async with the.node.subscribe(KINDS) as changes:
        waiting = aiter(changes)
        yield ServerSentEvent(event="hello", data="{}", retry=3_000)
        following = asyncio.ensure_future(anext(waiting))
        try:
            while True:
                done, _ = await asyncio.wait({following}, timeout=CHECK_SECONDS)
                known = await asyncio.to_thread(the.people.session, token, attended=False)
                if known is None or known.id != user.id:
                    yield ServerSentEvent(event="ended", data="{}")  # the page goes to sign in; nothing stays on show
                    return
                if not done:
                    continue
                change = following.result()
                yield ServerSentEvent(
                    event="change", id=str(change.number), data=json.dumps({"kind": change.kind, "id": change.id})
                )
                following = asyncio.ensure_future(anext(waiting))
        except StopAsyncIteration:
            return
        finally:
            following.cancel()


@router.get(EVENTS)
async def events(request: Request, user: Annotated[User, Depends(current_user)]) -> EventSourceResponse:
    """Server-sent events, for as long as the page is open and its person is welcome."""
    return EventSourceResponse(_changes(request, parts(request), user), ping=20)
