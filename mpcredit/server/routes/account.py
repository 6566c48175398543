"""Signing in and out, the first page, the reader's language."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from mpcredit.server.people import Role, User
from mpcredit.server.security import clear_session, current_user, limit_sign_in, set_session, signed_in
from mpcredit.server.web import LANGUAGE_COOKIE, LANGUAGES, back, go, page, parts

router = APIRouter(include_in_schema=False)

FIRST_PAGES = (
    (Role.OFFICER, "/applications"),
    (Role.SUPERVISOR, "/supervision"),
    (Role.REVIEWER, "/reviews"),
    (Role.AUDITOR, "/audit"),
    (Role.ADMINISTRATOR, "/people"),
)


@router.get("/")
def first(request: Request) -> Response:
    """Send everybody to where their work is."""
    user = signed_in(request)
    if not isinstance(user, User):
        return RedirectResponse("/sign-in", status_code=303)
    for role, path in FIRST_PAGES:
        if role in user.roles:
            return RedirectResponse(path, status_code=303)
    return page(request, "no_role.html")


@router.get("/sign-in")
def sign_in(
    request: Request,
    token: Annotated[str, Query(max_length=200)] = "",
    next: Annotated[str, Query(max_length=500)] = "",
    at: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """The form; with a one-time link, a button, so that a preview of the link does not use it up."""
    if token:
        who = parts(request).people.peek_sign_in(token)
        return _form(request, token=token, who=who, wrong="" if who else "link", next=next)
    if isinstance(signed_in(request), User):
        return RedirectResponse(back(next), status_code=303)
    provider = parts(request).provider
    out = provider.sign_out_url(f"{parts(request).settings.origin}/sign-in") if provider and at == "provider" else None
    return _form(request, next=next, out=out)


def _form(
    request: Request,
    *,
    status_code: int = 200,
    token: str = "",
    who: User | None = None,
    wrong: str = "",
    next: str = "",
    name: str = "",
    out: str | None = None,
) -> Response:
    provider = parts(request).provider
    return page(
        request,
        "sign_in.html",
        status_code=status_code,
        token=token,
        who=who,
        wrong=wrong,
        next=back(next),
        name=name,
        out=out,
        provider=None if provider is None else provider.settings.label,
    )


@router.post("/sign-in")
def sign_in_now(
    request: Request,
    token: Annotated[str, Form(max_length=200)] = "",
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Check the password, or use up the one-time link."""
    people = parts(request).people
    limit_sign_in(request, name)
    user = people.redeem_sign_in(token) if token else people.check_password(name, password)
    if user is None:
        return _form(request, status_code=401, wrong="link" if token else "password", next=next, name=name)
    response = go(back(next))
    set_session(response, request, people.start_session(user, method="link" if token else "password"))
    return response


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End this session; whom the identity provider signed in is offered to end his session there too."""
    the = parts(request)
    token = request.cookies.get(the.settings.cookie_name)
    method = the.people.end_session(token) if token else None
    response = go("/sign-in?at=provider" if method == "oidc" else "/sign-in", "signed_out")
    clear_session(response, request)
    return response


@router.post("/language")
def language(
    request: Request,
    language: Annotated[str, Form(max_length=10)],
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Choose a language, for this browser and for the account."""
    response = go(back(next))
    if language in LANGUAGES:
        the = parts(request)
        user = signed_in(request)
        if isinstance(user, User):
            the.people.set_language(user.name, language)
        response.set_cookie(
            LANGUAGE_COOKIE, language, max_age=31_536_000, httponly=True, samesite="strict", secure=the.settings.secure
        )
    return response


@router.get("/account")
def account(request: Request, user: Annotated[User, Depends(current_user)]) -> Response:
    """What this person may do, and the password."""
    return page(request, "account.html", wrong="")


@router.post("/account/active", status_code=204)
def active(user: Annotated[User, Depends(current_user)]) -> Response:
    """A person works on an open page and has not sent it yet: that is no idleness."""
    return Response(status_code=204)


@router.post("/account/password")
def password(
    request: Request,
    user: Annotated[User, Depends(current_user)],
    new: Annotated[str, Form(max_length=1000)],
    again: Annotated[str, Form(max_length=1000)],
    old: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Set the own password."""
    people = parts(request).people
    limit_sign_in(request, user.name)
    if new != again:
        return page(request, "account.html", status_code=422, wrong="The two new passwords differ.")
    if user.has_password and people.check_password(user.name, old) is None:
        return page(request, "account.html", status_code=422, wrong="The present password is not right.")
    people.set_password(user.name, new, by=user)
    return go("/account", "saved")
