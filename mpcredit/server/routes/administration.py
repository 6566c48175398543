"""The administrator's pages: people, their roles, API tokens. Roles that are added hold when a reviewer has confirmed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.responses import Response

from mpcredit.server.people import SCOPES, Role, User
from mpcredit.server.security import require
from mpcredit.server.web import go, page, parts

router = APIRouter(include_in_schema=False)

Administrator = Annotated[User, Depends(require(Role.ADMINISTRATOR))]
Name = Annotated[str, Path(max_length=100)]
Why = Annotated[str, Form(max_length=1000)]


def _roles(request: Request) -> list[Role]:
    """The roles that exist at this party."""
    if parts(request).applications is None:
        return [Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR, Role.ADMINISTRATOR]
    return [Role.OFFICER, Role.REVIEWER, Role.AUDITOR, Role.ADMINISTRATOR]


def _people(request: Request, *, who: str = "", link: str = "", link_for: str = "", secret: str = "") -> Response:
    people = parts(request).people
    return page(
        request,
        "people.html",
        people=people.users(),
        changes=people.changes("pending"),
        tokens=people.tokens(),
        chosen=people.get(who) if who else None,
        roles=_roles(request),
        scopes=sorted(SCOPES),
        link=link,
        link_for=link_for,
        secret=secret,
    )


@router.get("/people")
def people(request: Request, user: Administrator, who: Annotated[str, Query(max_length=100)] = "") -> Response:
    """Who may do what; `who` opens one account to change it."""
    return _people(request, who=who)


@router.post("/people")
def create(
    request: Request,
    user: Administrator,
    name: Annotated[str, Form(max_length=100)],
    display: Annotated[str, Form(max_length=200)],
    why: Why = "",
    roles: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """A new account; its roles wait for a reviewer."""
    wanted = [role for role in _roles(request) if role.value in (roles or [])]
    parts(request).people.create(name.strip(), display.strip(), wanted, by=user, why=why)
    return go("/people", "asked" if wanted else "saved")


@router.post("/people/{name}/roles")
def ask_roles(
    request: Request, user: Administrator, name: Name, why: Why = "", roles: Annotated[list[str] | None, Form()] = None
) -> Response:
    """Other roles: taken away at once, given when a reviewer has confirmed."""
    wanted = [role for role in _roles(request) if role.value in (roles or [])]
    parts(request).people.ask_roles(name, wanted, by=user, why=why)
    return go("/people", "asked")


@router.post("/people/{name}/disable")
def disable(request: Request, user: Administrator, name: Name, why: Why = "") -> Response:
    """Out at once, with every session."""
    parts(request).people.disable(name, by=user, why=why)
    return go("/people", "saved")


@router.post("/people/{name}/enable")
def enable(request: Request, user: Administrator, name: Name, why: Why = "") -> Response:
    """Let somebody in again; the roles wait for a reviewer."""
    people = parts(request).people
    waits = bool((found := people.get(name)) and found.roles)
    people.enable(name, by=user, why=why)
    return go("/people", "asked" if waits else "saved")


@router.post("/people/{name}/link")
def link(request: Request, user: Administrator, name: Name, why: Why = "") -> Response:
    """A one-time link to sign in, shown once."""
    the = parts(request)
    token = the.people.issue_sign_in(name, by=user, why=why)
    return _people(request, link=f"{the.settings.origin}/sign-in?token={token}", link_for=name)


@router.post("/tokens")
def create_token(
    request: Request,
    user: Administrator,
    name: Annotated[str, Form(max_length=100)],
    why: Why = "",
    scopes: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """An API token for a system; shown once, usable when a reviewer has confirmed."""
    wanted = [scope for scope in sorted(SCOPES) if scope in (scopes or [])]
    _, secret = parts(request).people.create_token(name.strip(), wanted, by=user, why=why)
    return _people(request, secret=secret)


@router.post("/tokens/{token}/revoke")
def revoke_token(request: Request, user: Administrator, token: int, why: Why = "") -> Response:
    """Refuse a system from now on."""
    parts(request).people.revoke_token(token, by=user, why=why)
    return go("/people", "saved")
