"""Sign-in through the bank's identity provider: going there, and coming back."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from mpcredit.server.logs import get_logger
from mpcredit.server.oidc import BEGUN_SECONDS, CALLBACK, Provider, ProviderDown, SignInRefused, Vouched
from mpcredit.server.people import NO_ROLE_REMEDY, Forbidden, PeopleError, User
from mpcredit.server.security import clear_sign_in, limit_sign_in, set_session, set_sign_in, sign_in_cookie
from mpcredit.server.web import back, page, parts

router = APIRouter(include_in_schema=False)
log = get_logger("mpcredit.server.oidc")


def _provider(request: Request) -> Provider:
    found = parts(request).provider
    if found is None:
        raise HTTPException(404)
    return found


@router.get("/sign-in/provider")
def go_there(
    request: Request,
    next: Annotated[str, Query(max_length=500)] = "",
    moved: Annotated[str, Query(max_length=1)] = "",
) -> Response:
    """Send the browser to the provider; only from our own page, so that no other site signs people in behind their backs."""
    provider = _provider(request)
    there = quote(back(next), safe="/")
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return RedirectResponse(f"/sign-in?next={there}", status_code=303)
    own = parts(request).settings.origin
    if not moved and request.headers.get("host", "").lower() != urlsplit(own).netloc:
        # The provider sends the browser to `public_url`, and a cookie of another name would not be there. Once: a proxy
        # may rewrite the name.
        return RedirectResponse(f"{own}/sign-in/provider?next={there}&moved=1", status_code=303)
    try:
        begun = provider.begin(back(next))
    except SignInRefused as refused:
        return _refused(request, refused)
    response = RedirectResponse(begun.url, status_code=303)
    set_sign_in(response, request, begun.cookie, BEGUN_SECONDS)
    return response


@router.get(CALLBACK)
def come_back(request: Request) -> Response:
    """Where the provider sends the browser: sign in, or say why not.

    The answer is a page that goes on by itself, not a redirection: the session's cookie is strict, and a browser that comes
    from another site would not send it along.
    """
    provider, the = _provider(request), parts(request)
    cookie = request.cookies.get(sign_in_cookie(the.settings), "")
    limit_sign_in(request, f"provider:{cookie[:40]}")
    try:
        vouched = provider.finish(cookie, dict(request.query_params))
        user = _account(request, vouched, confirm=provider.settings.confirm_roles)
        token = the.people.start_session(user, method="oidc", minutes=provider.settings.session_minutes)
    except SignInRefused as refused:
        return _refused(request, refused)
    if former := request.cookies.get(the.settings.cookie_name):
        the.people.end_session(former)
    request.state.principal = user
    response = page(request, "signed_in.html", path="/sign-in", next=back(vouched.next), who=user)
    set_session(response, request, token)
    return _left(request, response)


def _account(request: Request, vouched: Vouched, *, confirm: bool) -> User:
    try:
        user = parts(request).people.external(
            vouched.issuer,
            vouched.subject,
            name=vouched.name,
            display=vouched.display,
            roles=vouched.roles,
            confirm=confirm,
        )
    except (PeopleError, Forbidden) as error:
        raise SignInRefused(error.message, remedy=error.remedy, subject=vouched.subject) from error
    if user is None:
        raise SignInRefused(
            "your account here is disabled",
            remedy="an administrator or a reviewer must enable it",
            subject=vouched.subject,
        )
    if not vouched.roles:
        raise SignInRefused(
            "nothing that the identity provider states about you gives a role here",
            remedy=NO_ROLE_REMEDY,
            subject=vouched.subject,
        )
    return user


def _refused(request: Request, refused: SignInRefused) -> Response:
    if not isinstance(refused, ProviderDown):  # that is nobody's attempt, and anybody could fill the audit log with it
        facts = {"issuer": _provider(request).settings.issuer, "subject": refused.subject} if refused.subject else {}
        parts(request).audit.append("node", "sign-in.failed", "account", refused.message, **facts)
    log.warning("nobody was signed in", why=refused.message)
    return _left(
        request,
        page(
            request,
            "problem.html",
            status_code=refused.status,
            status=refused.status,
            problem=refused.message,
            remedy=refused.remedy,
            path="/sign-in",
            again="/sign-in?at=provider" if refused.subject else "/sign-in",
        ),
    )


def _left(request: Request, response: Response) -> Response:
    """The address of this page holds the provider's code: used up, and still nobody else's business."""
    clear_sign_in(response, request)
    response.headers["Referrer-Policy"] = "origin"
    return response
