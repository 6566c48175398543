"""What stands between network and routes: each check of mpcredit/server/security.py, let through and refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from argon2 import PasswordHasher
from asgi import LocalClient
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.people import ApiToken, People, Principal, User
from mpcredit.server.security import (
    allow,
    client_address,
    current_user,
    install,
    limit_sign_in,
    require,
    set_session,
    signed_in,
)
from mpcredit.server.settings import ServerSettings

officer = require("officer")
system = allow("officer", scope="applications:write")


def make_app(settings: ServerSettings, people: People) -> FastAPI:
    """A small app with one route of each kind."""
    app = FastAPI()
    install(app, settings, people)

    @app.get("/")
    def home() -> str:
        return "home"

    @app.post("/write")
    async def write(request: Request) -> int:
        return len(await request.body())

    @app.post("/sign-in")
    def sign_in(request: Request, response: Response, name: str) -> None:
        limit_sign_in(request, name)
        user = people.get(name)
        assert user is not None
        set_session(response, request, people.start_session(user, method="link"))

    @app.get("/me")
    def me(user: Annotated[User, Depends(current_user)]) -> str:
        return user.name

    @app.get("/officer")
    def only_officer(user: Annotated[User, Depends(officer)]) -> str:
        return user.name

    @app.post("/applications")
    def applications(who: Annotated[Principal, Depends(system)]) -> str:
        return who.actor

    @app.get("/who")
    def who(found: Annotated[Principal | None, Depends(signed_in)], request: Request) -> list[str | None]:
        return [found.actor if found else None, client_address(request), request.url.scheme]

    @app.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]), headers={"cache-control": "no-cache"})

    return app


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    database = Database(f"sqlite:///{tmp_path / 'server.sqlite'}")
    database.upgrade()
    people = People(database, AuditLog(database), hasher=PasswordHasher(1, 8, 1))
    people.install([("anna", "Anna", ["officer"]), ("rita", "Rita", ["reviewer"]), ("adam", "Adam", ["administrator"])])
    yield people
    database.close()


Client = Callable[..., LocalClient]


@pytest.fixture
def client(people: People) -> Client:
    def make(
        *, peer: str = "127.0.0.1", origin: str | None = "own", base: str | None = None, **given: Any
    ) -> LocalClient:
        settings = ServerSettings(**given)
        made = LocalClient(make_app(settings, people), base_url=base or settings.origin, client=(peer, 50000))
        if origin is not None:
            made.headers["origin"] = settings.origin if origin == "own" else origin
        return made

    return make


TLS = {"tls_certificate": "c", "tls_key": "k", "host": "0.0.0.0", "public_url": "https://bank.example"}
PROXY = {"trusted_proxies": ("10.0.0.0/24",), "host": "10.0.0.9", "public_url": "https://bank.example"}


# --- (1) transport


def test_plain_http__from_this_machine__is_served(client: Client) -> None:
    assert client().get("/").json() == "home"


def test_plain_http__from_elsewhere__is_refused(client: Client) -> None:
    answer = client(peer="192.0.2.7").get("/")

    assert answer.status_code == 426
    assert answer.json()["error"] == "plain HTTP is refused"


def test_plain_http__where_the_server_is_https__is_refused_even_from_this_machine(client: Client) -> None:
    assert client(**TLS, base="http://bank.example").get("/").status_code == 426
    assert client(**TLS, peer="192.0.2.7").get("/").status_code == 200


def test_proxy__trusted__says_scheme_and_client(client: Client) -> None:
    through = client(**PROXY, peer="10.0.0.1", base="http://bank.example")
    through.headers.update({"x-forwarded-proto": "https", "x-forwarded-for": "6.6.6.6, 192.0.2.7, 10.0.0.2"})

    assert through.get("/who").json() == [None, "192.0.2.7", "https"]
    through.headers["x-forwarded-proto"] = "http"
    assert through.get("/who").status_code == 426


def test_proxy__not_trusted__is_not_believed(client: Client) -> None:
    forged = client(**PROXY, peer="192.0.2.9", base="http://bank.example")
    forged.headers.update({"x-forwarded-proto": "https", "x-forwarded-for": "127.0.0.1"})
    assert forged.get("/who").status_code == 426

    local = client()
    local.headers.update({"x-forwarded-proto": "https", "x-forwarded-for": "6.6.6.6"})
    assert local.get("/who").json() == [None, "127.0.0.1", "http"]


# --- (2) host


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8440", "127.0.0.1", "127.0.0.1:9999", ""])
def test_host__foreign__is_refused(client: Client, host: str) -> None:
    assert client().get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8440", "localhost:8440", "LOCALHOST:8440", "[::1]:8440"])
def test_host__own__is_served(client: Client, host: str) -> None:
    assert client().get("/", headers={"host": host}).status_code == 200


def test_host__added_by_settings__is_served(client: Client) -> None:
    assert client(hosts=("bank.local",)).get("/", headers={"host": "bank.local"}).status_code == 200


# --- (3) size and rate


def test_body__too_large__is_refused_declared_or_not(client: Client) -> None:
    small = client(max_body_bytes=2000)

    assert small.post("/write", content=b"x" * 2000).json() == 2000
    assert small.post("/write", content=b"x" * 2001).status_code == 413
    assert small.post("/write", content=(b"x" * 500 for _ in range(5))).status_code == 413
    assert small.post("/write", content=b"", headers={"content-length": "-1"}).status_code == 413


def test_rate__too_many__is_refused_with_the_time_to_wait(client: Client) -> None:
    limited = client(limit_requests="5/minute", limit_writes="2/minute")

    assert [limited.post("/write").status_code for _ in range(3)] == [200, 200, 429]
    assert [limited.get("/").status_code for _ in range(3)] == [200, 200, 429]
    assert 1 <= int(limited.get("/").headers["retry-after"]) <= 60


def test_rate__ipv6__counts_a_whole_network(client: Client) -> None:
    limited = client(**PROXY, peer="10.0.0.1", base="http://bank.example", limit_requests="2/minute")
    limited.headers["x-forwarded-proto"] = "https"

    def ask(address: str) -> int:
        return limited.get("/", headers={"x-forwarded-for": address}).status_code

    assert [ask("2001:db8::1"), ask("2001:db8::2"), ask("2001:db8::3")] == [200, 200, 429]
    assert ask("2001:db8:0:1::1") == 200


def test_sign_in__too_often__for_the_account_from_anywhere(client: Client) -> None:
    through = client(
        **PROXY, peer="10.0.0.1", base="http://bank.example", limit_sign_in="2/minute", origin="https://bank.example"
    )
    through.headers["x-forwarded-proto"] = "https"

    def attempt(name: str, address: str) -> int:
        return through.post("/sign-in", params={"name": name}, headers={"x-forwarded-for": address}).status_code

    assert [attempt("anna", f"192.0.2.{n}") for n in range(3)] == [200, 200, 429]
    assert [attempt(name, "192.0.2.99") for name in ("rita", "adam", "rita")] == [200, 200, 429]


# --- (4) foreign pages


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8440"}, 200),
        ({"origin": "http://127.0.0.1:8440", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8441"}, 403),  # another party's server on this machine
        ({"origin": "http://localhost:8440"}, 403),
        ({"origin": "http://127.0.0.1:8440", "sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://127.0.0.1:8440", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"authorization": "Basic eDp5", "origin": "https://evil.example"}, 403),
        ({"authorization": "Bearer ", "origin": "https://evil.example"}, 403),
    ],
)
def test_write__only_from_own_pages(client: Client, headers: dict[str, str], status: int) -> None:
    assert client(origin=None).post("/write", headers=headers).status_code == status
    assert client(origin=None).request("DELETE", "/write", headers=headers).status_code == (
        405 if status == 200 else 403
    )


def test_write__own_page_under_another_own_name__is_served(client: Client) -> None:
    headers = {"host": "localhost:8440", "origin": "http://localhost:8440"}

    assert client(origin=None).post("/write", headers=headers).status_code == 200


def test_read__from_a_foreign_page__is_served(client: Client) -> None:
    assert client(origin="https://evil.example").get("/").status_code == 200


# --- (5) headers and cookie


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/nowhere", 404), ("/me", 401)])
def test_headers__on_every_answer(client: Client, path: str, status: int) -> None:
    answer = client().get(path)

    assert answer.status_code == status
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in answer.headers


def test_headers__on_refusals_and_streams(client: Client) -> None:
    refused = client().get("/", headers={"host": "evil.example"})
    assert refused.headers["cache-control"] == "no-store"
    assert "content-security-policy" in refused.headers

    streamed = client().get("/stream")
    assert (streamed.text, streamed.headers["cache-control"]) == ("ab", "no-cache")
    assert "strict-transport-security" in client(**TLS).get("/").headers


def test_cookie__attributes(client: Client) -> None:
    plain = client().post("/sign-in", params={"name": "anna"}).headers["set-cookie"]
    assert plain.startswith("mpcredit-8440=")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(plain.split("; "))
    assert "Secure" not in plain

    secure = client(**TLS).post("/sign-in", params={"name": "anna"}).headers["set-cookie"]
    assert secure.startswith("__Host-mpcredit-443=")
    assert "Secure" in secure
    assert "Domain" not in secure


def test_websocket__is_closed(people: People) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/", "headers": [], "client": ("127.0.0.1", 1)}
    asyncio.run(make_app(ServerSettings(), people)(scope, receive, send))

    assert sent == [{"type": "websocket.close", "code": 1008}]


# --- who is asking


def test_roles__officer_in__others_and_nobody_out(client: Client) -> None:
    assert client().get("/officer").status_code == 401
    for name, status in (("anna", 200), ("rita", 403), ("adam", 403)):
        own = client()
        own.post("/sign-in", params={"name": name})
        assert own.get("/me").json() == name
        assert own.get("/officer").status_code == status
        assert own.post("/applications").status_code == status


def test_disabled__is_out_with_the_next_request(client: Client, people: People) -> None:
    own = client()
    own.post("/sign-in", params={"name": "anna"})
    assert own.get("/officer").status_code == 200

    people.disable("anna", by=None, why="left")

    assert own.get("/officer").status_code == 401


def test_cookie__of_another_port__is_not_looked_at(client: Client) -> None:
    own = client()
    own.post("/sign-in", params={"name": "anna"})
    value = own.cookies["mpcredit-8440"]

    assert client().get("/me", headers={"cookie": f"mpcredit-8441={value}"}).status_code == 401
    assert client().get("/me", headers={"cookie": f"mpcredit-8440={value}x"}).status_code == 401


def test_token__by_its_scope__without_an_origin(client: Client, people: People) -> None:
    _, writer = people.create_token("loans", ["applications:write"], by=None, why="x")
    made, reader = people.create_token("monitor", ["audit:read"], by=None, why="x")
    assert isinstance(made, ApiToken)
    asking = client(origin=None)

    def post(secret: str) -> int:
        return asking.post("/applications", headers={"authorization": f"Bearer {secret}"}).status_code

    assert [post(writer), post(reader), post("mpc_made_up")] == [200, 403, 401]
    # A token is no person, and with one the cookie counts for nothing.
    assert asking.get("/me", headers={"authorization": f"Bearer {writer}"}).status_code == 401


def test_token__wrong_one_beside_a_good_cookie__is_refused(client: Client) -> None:
    own = client()
    own.post("/sign-in", params={"name": "anna"})
    own.headers["origin"] = "https://evil.example"

    assert own.post("/applications", headers={"authorization": "Bearer made-up"}).status_code == 401


def test_require__nothing__is_a_mistake() -> None:
    with pytest.raises(ValueError, match="roles"):
        require()
    with pytest.raises(ValueError, match="scope"):
        allow("officer", scope="everything")
