"""The web application of one party: pages for people, a JSON API for systems, health and metrics for operators.

Errors of the library become pages or JSON with what is wrong and who must do what; a programming mistake becomes a plain
"something went wrong" and a log entry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from mpcredit import __version__
from mpcredit.errors import InvalidFile, InvalidMessage, LedgerError, MpcreditError, NotYet, Refused, StoreError
from mpcredit.server import security
from mpcredit.server.anchoring import DailyAnchor
from mpcredit.server.applications import Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookdesk import BookDesk
from mpcredit.server.contractcode import Shelf
from mpcredit.server.corrections import Corrections
from mpcredit.server.logs import get_logger
from mpcredit.server.looks import Looks
from mpcredit.server.node import Node, NodeBusy
from mpcredit.server.oidc import Provider
from mpcredit.server.orders import APPROVAL, VOTE, Orders
from mpcredit.server.people import People
from mpcredit.server.refusals import InvalidForm, NotAllowed, NotFound, TooMuch
from mpcredit.server.retention import Retention
from mpcredit.server.routes import (
    account,
    administration,
    api,
    applications,
    auditing,
    book,
    corrections,
    events,
    footprints,
    furnishing,
    health,
    inquiries,
    listing,
    looks,
    oidc,
    proposals,
    retention,
    reviews,
    supervision,
    tellings,
)
from mpcredit.server.settings import ServerSettings
from mpcredit.server.telling import Telling
from mpcredit.server.web import Parts, page, wants_json

__all__ = ["create_app"]

HERE: Final = Path(__file__).parent
log = get_logger("mpcredit.server.app")

_STATUS: Final[tuple[tuple[type[MpcreditError], int], ...]] = (
    (InvalidForm, 422),
    (NotFound, 404),
    (TooMuch, 429),
    (NotAllowed, 409),
    (NodeBusy, 503),
    (NotYet, 409),
    (Refused, 409),
    (LedgerError, 503),
    (StoreError, 503),
    (InvalidFile, 422),
    (InvalidMessage, 422),
)


def create_app(
    settings: ServerSettings,
    node: Node,
    people: People,
    audit: AuditLog,
    applications_: Applications | None,
    provider: Provider | None = None,
) -> FastAPI:
    """Put the parts of one party behind its pages and its API.

    Args:
        applications_: left out at the supervisor, which takes none.
        provider: signs people in beside local accounts.
    """
    if node.role == "supervisor":
        applications_ = None
    if applications_ is not None:
        node.each_round(applications_.follow)
        if applications_.misuse is not None:
            applications_.misuse.attach()
            node.each_round(applications_.misuse.round)
    retention_ = Retention(settings.retention, node, audit, applications_)
    node.each_round(retention_.daily)
    app = FastAPI(
        title="mpcredit",
        version=__version__,
        summary="Joint credit inquiries of one institution",
        docs_url=None,  # its page would load scripts from another host
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.retention = retention_
    node.each_round(DailyAnchor(audit))
    if applications_ is None:
        app.state.telling = Telling(node, audit, sends=settings.corrections)
        node.each_round(app.state.telling.follow)
    else:
        app.state.corrections = Corrections(node, audit, applications_, sends=settings.corrections)
        node.each_round(app.state.corrections.follow)
    app.state.parts = Parts(settings, node, people, audit, applications_, provider)
    security.install(app, settings, people)

    for module in (account, oidc, events, health, auditing, administration, reviews, retention, footprints, proposals):
        app.include_router(module.router)
    app.state.shelf = Shelf(audit, settings.solc)
    kind = VOTE if node.role == "institution" else APPROVAL
    app.state.orders = Orders(audit, kind, tell=lambda number: node.publish("order", str(number)))
    node.each_round(app.state.orders.follow)
    if applications_ is None:
        app.state.looks = Looks(audit, minutes=settings.drill_down_minutes)
        node.each_round(app.state.shelf.keep_own)
        for module in (tellings, supervision, looks):
            app.include_router(module.router)
    else:
        app.state.book = BookDesk(settings, applications_.database, node, audit)
        for module in (listing, applications, corrections, inquiries, furnishing, book, api):
            app.include_router(module.router)
    app.mount("/static", _Static(directory=HERE / "static"), name="static")

    app.add_exception_handler(MpcreditError, _library_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _mistake)
    return app


class _Static(StaticFiles):
    """Files that change with the release only."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response


def _answer(
    request: Request, status: int, problem: str, remedy: str = "", *, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    if wants_json(request):
        return JSONResponse({"error": problem, "remedy": remedy, **more}, status, headers=headers)
    response = page(request, "problem.html", status_code=status, status=status, problem=problem, remedy=remedy)
    response.headers.update(headers or {})
    return response


async def _library_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MpcreditError)
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": "5"} if status == 503 else None
    if isinstance(error, TooMuch):
        headers = {"Retry-After": str(error.seconds)}
    more = {"problems": error.problems} if isinstance(error, InvalidForm) else {}
    if status >= 500:
        log.warning("request failed", path=request.url.path, error=str(error))
    return _answer(request, status, error.message, error.remedy, headers=headers, **more)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 401 and not wants_json(request):
        there = "/sign-in"
        if request.method == "GET" and request.url.path != "/":
            there += "?next=" + quote(request.url.path, safe="/")
        if request.headers.get("hx-request"):
            return Response(status_code=401, headers={"HX-Redirect": there})
        return RedirectResponse(there, status_code=303)
    detail: object = error.detail  # Starlette says text; FastAPI's may be any JSON
    if isinstance(detail, dict):
        problem, remedy = str(detail.get("error", "")), str(detail.get("remedy", ""))
    else:
        problem, remedy = _PLAIN.get(error.status_code, str(error.detail)), ""
    return _answer(request, error.status_code, problem, remedy, headers=headers)


_PLAIN: Final = {
    403: "Your roles do not include this.",
    404: "There is no such page.",
    405: "That cannot be done here.",
}


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = {".".join(str(part) for part in e["loc"][1:]) or "body": str(e["msg"]) for e in error.errors()}
    text = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
    return _answer(request, 422, text, "correct it and send it again", problems=problems)


async def _mistake(request: Request, error: Exception) -> Response:
    log.error("a mistake in mpcredit", path=request.url.path, exc_info=error)
    return _answer(request, 500, "Something went wrong in this server.", "tell its operator; the log says what")
