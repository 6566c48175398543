"""What stands between the network and the routes: transport, host name, size, rates, foreign pages, headers; who is asking.

For every request, in this order; each refusal is a small JSON answer with the remedy:

1. Plain HTTP is refused unless it comes from this machine, or a trusted proxy says that it came by https (426).
2. The Host header names this server (421): a foreign name that resolves here must not make a browser talk to us.
3. The body is not larger than allowed (413), and the address does not ask too often (429).
4. What changes something comes from our own pages: Sec-Fetch-Site says same-origin, or else Origin is ours (403). SameSite
   alone would not do, since all ports of a host are one site. A bearer token is proof enough: browsers never add it alone.
5. Answers carry the security headers; nothing but our own scripts and styles runs, nobody frames us, nothing is cached.

Who is asking is found in the server's own sessions and tokens at each request, so that who is disabled is out at once.
"""

from __future__ import annotations

import ipaddress
import json
import math
import time
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request, Response
from limits import RateLimitItem
from limits import parse as parse_limit
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpcredit.server.people import SCOPES, ApiToken, People, Principal, Role, User
from mpcredit.server.settings import ServerSettings, is_loopback

__all__ = [
    "CSP",
    "EVENTS",
    "UNATTENDED_HEADER",
    "NotAllowed",
    "NotSignedIn",
    "SecurityMiddleware",
    "TooMany",
    "allow",
    "clear_session",
    "clear_sign_in",
    "client_address",
    "current_user",
    "install",
    "limit_sign_in",
    "require",
    "set_session",
    "set_sign_in",
    "sign_in_cookie",
    "signed_in",
]

CSP: Final = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = (
    ("content-security-policy", CSP),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    # Not no-referrer: with that, browsers send "Origin: null" with our own forms.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_HSTS: Final = "max-age=31536000"
EVENTS: Final = "/events"
"""The stream of server-sent events, which an open page holds by itself."""
UNATTENDED_HEADER: Final = "mpcredit-unattended"
"""mpcredit.js adds it to requests that no person caused; they do not keep a session from being idle."""
_LARGE: Final = frozenset({"/book/upload", "/api/book"})
"""Where a loan book is uploaded: streamed to the disk, after who sends it was found to be allowed to."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class NotSignedIn(HTTPException):
    """Nobody is signed in."""

    def __init__(self) -> None:
        super().__init__(401, "sign in first", headers={"WWW-Authenticate": "Bearer"})


class NotAllowed(HTTPException):
    """Who is signed in may not do this.

    Args:
        needed: the roles or the scope that may.
    """

    def __init__(self, needed: str) -> None:
        super().__init__(403, f"this needs {needed}")
        self.needed = needed


class TooMany(HTTPException):
    """Too many attempts.

    Args:
        seconds: when to try again.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(
            429, f"too many attempts; try again in {seconds} seconds", headers={"Retry-After": str(seconds)}
        )
        self.seconds = seconds


class _Refusal(Exception):
    def __init__(self, status: int, error: str, remedy: str, **headers: str) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, "remedy": remedy}
        self.headers = headers


class _Guard:
    """What the middleware and the dependencies share, one for each app."""

    def __init__(self, settings: ServerSettings, people: People) -> None:
        self.settings = settings
        self.people = people
        self.limiter = MovingWindowRateLimiter(MemoryStorage())
        self.requests = parse_limit(settings.limit_requests)
        self.writes = parse_limit(settings.limit_writes)
        self.sign_ins = parse_limit(settings.limit_sign_in)
        self.proxies = [ipaddress.ip_network(network, strict=False) for network in settings.trusted_proxies]
        own = urlsplit(settings.origin)
        self.hosts = {own.netloc, *(host.lower() for host in settings.hosts)}
        if is_loopback(own.hostname or ""):
            port = f":{own.port}" if own.port else ""
            self.hosts |= {f"{name}{port}" for name in ("localhost", "127.0.0.1", "[::1]")}

    def trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.proxies)

    def peer(self, scope: Scope) -> str:
        """Who opened the connection; a Unix socket is this machine."""
        client = scope.get("client")
        return str(client[0]) if client else "127.0.0.1"

    def client(self, scope: Scope) -> str:
        """Whose request it is: behind trusted proxies, the last address that none of them is."""
        found = self.peer(scope)
        if self.trusted(found):
            forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
            for part in reversed([part.strip() for part in forwarded if part.strip()]):
                try:
                    found = str(ipaddress.ip_address(part.strip("[]")))
                except ValueError:
                    break
                if not self.trusted(found):
                    break
        return found

    def hit(self, limit: RateLimitItem, *key: str) -> int:
        """Count; returns after how many seconds it would be permitted, 0 if it is."""
        if self.limiter.hit(limit, *key):
            return 0
        until = self.limiter.get_window_stats(limit, *key).reset_time
        return min(max(1, math.ceil(until - time.time())), limit.get_expiry())


def _whose(address: str) -> str:
    """Whom to count: one household or company has a whole /64 of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)


class SecurityMiddleware:
    """The checks of the module's list around an ASGI app; streams, such as server-sent events, pass unbuffered."""

    def __init__(self, app: ASGIApp, guard: _Guard) -> None:
        self.app = app
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # we have none; none is let by unchecked
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._dress(MutableHeaders(scope=message))
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, self._counted(scope, receive), sending)
        except _Refusal as refusal:
            if started:
                raise
            await _answer(refusal, sending)

    def _check(self, scope: Scope) -> None:
        guard, headers = self.guard, Headers(scope=scope)
        # (1) transport
        peer, scheme = guard.peer(scope), scope.get("scheme", "http")
        proxied = guard.trusted(peer)
        if proxied:
            scheme = headers.get("x-forwarded-proto", scheme).rpartition(",")[2].strip().lower()
            scope["scheme"] = scheme
        if scheme != "https" and (guard.settings.secure or not is_loopback(peer)):
            raise _Refusal(426, "plain HTTP is refused", f"use {guard.settings.origin}", upgrade="TLS/1.2")
        # (2) host
        if headers.get("host", "").lower() not in guard.hosts:
            raise _Refusal(
                421, "this host name is not served here", f"use {guard.settings.origin}, or add it to `hosts`"
            )
        # (3) size and rate
        length = headers.get("content-length", "0")
        most, name = self._most(scope)
        if not length.isdecimal() or int(length) > most:
            raise _Refusal(413, "the request is too large", f"send less at once, or raise {name}")
        client = _whose(guard.client(scope))
        unsafe = scope["method"] not in _SAFE
        wait = guard.hit(guard.requests, "requests", client) or (
            guard.hit(guard.writes, "writes", client) if unsafe else 0
        )
        if wait:
            raise _Refusal(429, "too many requests", f"try again in {wait} seconds", **{"retry-after": str(wait)})
        # (4) foreign pages
        if unsafe and _bearer(headers) is None and not self._own(headers):
            raise _Refusal(403, "the request does not come from this server's own pages", "open the page anew")

    def _most(self, scope: Scope) -> tuple[int, str]:
        """How large a body may be, and the setting that says so."""
        settings = self.guard.settings
        if scope["method"] == "POST" and scope["path"] in _LARGE:
            return max(settings.book_upload_bytes, settings.max_body_bytes), "book_upload_bytes"
        return settings.max_body_bytes, "max_body_bytes"

    def _own(self, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site is not None and site != "same-origin":
            return False
        if origin is None:
            return site is not None
        # The Host header was checked: an Origin that equals it is this server under one of its names.
        scheme = "https" if self.guard.settings.secure else "http"
        return origin in (self.guard.settings.origin, f"{scheme}://{headers.get('host', '').lower()}")

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        left, name = self._most(scope)

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    raise _Refusal(413, "the request is too large", f"send less at once, or raise {name}")
            return message

        return counted

    def _dress(self, headers: MutableHeaders) -> None:
        for name, value in _HEADERS:
            headers.setdefault(name, value)
        headers.setdefault("cache-control", "no-store")
        if self.guard.settings.secure:
            headers.setdefault("strict-transport-security", _HSTS)


async def _answer(refusal: _Refusal, send: Send) -> None:
    body = json.dumps(refusal.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    pairs = [(name.encode(), value.encode()) for name, value in (headers | refusal.headers).items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def install(app: FastAPI, settings: ServerSettings, people: People) -> None:
    """Put the checks around an app, and let its routes find who is asking."""
    guard = _Guard(settings, people)
    app.state.security = guard
    app.add_middleware(SecurityMiddleware, guard=guard)


def _guard(request: Request) -> _Guard:
    return cast("_Guard", request.app.state.security)


def _bearer(headers: Headers) -> str | None:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" and value.strip() else None


def client_address(request: Request) -> str:
    """The address of the person or system that asks."""
    return _guard(request).client(request.scope)


def _by_itself(request: Request) -> bool:
    """Whether the open page asks, not the person before it: the stream of events, and what mpcredit.js marks."""
    return request.url.path == EVENTS or UNATTENDED_HEADER in request.headers


def signed_in(request: Request) -> Principal | None:
    """Who is asking: a system by its token, a person by the session's cookie, or None. A dependency; looked up once."""
    if not hasattr(request.state, "principal"):
        guard = _guard(request)
        secret = _bearer(request.headers)
        found: Principal | None
        if secret is not None:
            # A request with a token was not checked for foreign pages, so its cookies count for nothing.
            found = guard.people.token(secret)
        else:
            cookie = request.cookies.get(guard.settings.cookie_name)
            found = guard.people.session(cookie, attended=not _by_itself(request)) if cookie else None
        request.state.principal = found
    return cast("Principal | None", request.state.principal)


def current_user(request: Request) -> User:
    """The person who is signed in. A dependency.

    Raises:
        NotSignedIn: nobody is, or it is a system.
    """
    found = signed_in(request)
    if not isinstance(found, User):
        raise NotSignedIn
    return found


def require(*roles: Role | str) -> Callable[[Request], User]:
    """A dependency: the person who is signed in and has one of the roles.

    Raises:
        NotSignedIn, NotAllowed: when it is used.
    """
    wanted = frozenset(Role(role) for role in roles)
    if not wanted:
        raise ValueError("name the roles that may; whoever is signed in: current_user")

    def required(request: Request) -> User:
        user = current_user(request)
        if not user.roles & wanted:
            raise NotAllowed(f"the role {' or '.join(sorted(wanted))}")
        return user

    return required


def allow(*roles: Role | str, scope: str) -> Callable[[Request], Principal]:
    """A dependency: a person with one of the roles, or a system whose token has the scope.

    Raises:
        NotSignedIn, NotAllowed: when it is used.
    """
    wanted = frozenset(Role(role) for role in roles)
    if scope not in SCOPES:
        raise ValueError(f"there is no scope {scope}")

    def allowed(request: Request) -> Principal:
        found = signed_in(request)
        if found is None:
            raise NotSignedIn
        if isinstance(found, ApiToken):
            if scope not in found.scopes:
                raise NotAllowed(f"a token with the scope {scope}")
        elif not found.roles & wanted:
            raise NotAllowed(f"the role {' or '.join(sorted(wanted))}")
        return found

    return allowed


def set_session(response: Response, request: Request, token: str) -> None:
    """Give the browser the session's cookie. Without an age: it goes when the browser is closed."""
    settings = _guard(request).settings
    response.set_cookie(settings.cookie_name, token, path="/", httponly=True, samesite="strict", secure=settings.secure)


def clear_session(response: Response, request: Request) -> None:
    """Take the session's cookie back, and what the browser kept of our pages."""
    settings = _guard(request).settings
    response.delete_cookie(settings.cookie_name, path="/", httponly=True, samesite="strict", secure=settings.secure)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'


def limit_sign_in(request: Request, name: str) -> None:
    """Count an attempt to sign in, by address and by account; call it before the attempt is looked at.

    Raises:
        TooMany: try later. The right password helps nothing until then.
    """
    guard = _guard(request)
    wait = max(
        guard.hit(guard.sign_ins, "sign-in", "address", _whose(client_address(request))),
        guard.hit(guard.sign_ins, "sign-in", "account", name.lower()[:64]),
    )
    if wait:
        raise TooMany(wait)


def set_sign_in(response: Response, request: Request, value: str, seconds: int) -> None:
    """Give the browser the cookie of a sign-in in progress, which comes back with it from the identity provider.

    Lax: the provider's page, another site, sends the browser back, and a strict cookie would stay behind.
    """
    settings = _guard(request).settings
    response.set_cookie(
        sign_in_cookie(settings),
        value,
        max_age=seconds,
        path="/",
        httponly=True,
        samesite="lax",
        secure=settings.secure,
    )


def clear_sign_in(response: Response, request: Request) -> None:
    """Take the cookie of a sign-in in progress back."""
    settings = _guard(request).settings
    response.delete_cookie(sign_in_cookie(settings), path="/", httponly=True, samesite="lax", secure=settings.secure)


def sign_in_cookie(settings: ServerSettings) -> str:
    """Name of the cookie of a sign-in in progress."""
    return f"{settings.cookie_name}-sign-in"
