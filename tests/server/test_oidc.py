"""Sign-in through the bank's identity provider: against a real one, with a real browser, and against forged tokens.

The provider is panva's oidc-provider in a process of its own (oidc_provider.mjs), on `localhost`; the server is on 127.0.0.1,
which browsers take for another site. What a certified provider never sends comes from a forger of ours.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import html
import io
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
import uvicorn
from argon2 import PasswordHasher
from certificates import certificates
from clock import Clock
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from web_world import world

from mpcredit.server.app import create_app
from mpcredit.server.applications import Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.logs import configure_logging
from mpcredit.server.node import Node
from mpcredit.server.oidc import BEGUN_SECONDS, CALLBACK, Provider, ProviderDown, SignInRefused
from mpcredit.server.people import Forbidden, People, PeopleError, Role
from mpcredit.server.settings import OidcSettings, ServerSettings
from mpcredit.server.web import Words

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
INSTALLED = (ROOT / "node_modules/oidc-provider").exists()
CHROMIUM = os.environ.get("MPCREDIT_CHROMIUM") or shutil.which("chromium") or ""
SCREENSHOTS = ROOT / ".build" / "screenshots"
CLIENT_SECRET = "a secret: with/odd+signs & more"
GROUPS = {"Credit": "officer", "Four Eyes": "reviewer", "IT": "administrator", "Revision": ("auditor", "reviewer")}
WITH_PROVIDER = pytest.mark.skipif(not (NODE and INSTALLED), reason="no oidc-provider: npm ci")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(issuer: str, directory: Path, **given: Any) -> OidcSettings:
    """The table [server.oidc] of these tests."""
    secret = directory / "client.secret"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(CLIENT_SECRET + "\n")
    values: dict[str, Any] = {
        "issuer": issuer,
        "client_id": "mpcredit",
        "client_secret_file": secret,
        "name": "Bank ID",
        "roles": GROUPS,
    }
    return OidcSettings(**(values | given))


class Ticks:
    """Seconds that grow when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


# --------------------------------------------------------------------- a real provider


@dataclass
class Real:
    """A bank's server, the provider, and what they wrote."""

    issuer: str
    origin: str
    people: People
    audit: AuditLog
    provider: Provider
    node: Node
    clock: Clock
    ticks: Ticks
    log: io.StringIO
    keys: list[RSAKey]
    process: subprocess.Popen[str]
    addresses: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    clients: list[httpx.Client] = field(default_factory=list)

    def state(self, path: str, value: Any) -> None:
        """Tell the provider something."""
        httpx.put(f"{self.issuer}/test/{path}", json=value).raise_for_status()

    def account(self, name: str, *groups: str, **more: Any) -> None:
        """An account at the provider."""
        claims = {"preferred_username": name, "name": f"{name.capitalize()} of the bank", "roles": list(groups)}
        self.state(f"accounts/{name}", {one: value for one, value in (claims | more).items() if value is not None})

    def rotate(self, key: RSAKey) -> None:
        """Sign with another key from now on."""
        self.state("keys", {"keys": [key.as_dict(private=True)]})
        self.keys.insert(0, key)

    def browser(self) -> Browsing:
        """A browser that nobody is signed in with."""
        self.clients.append(httpx.Client(timeout=20, headers={"Accept-Language": "en"}))
        return Browsing(self, self.clients[-1])

    def sign_in(self, name: str) -> Browsing:
        """Somebody's browser, signed in."""
        browser = self.browser()
        answer = browser.get(browser.there(name))
        assert (answer.status_code, "Welcome" in answer.text) == (200, True), answer.text
        return browser

    def cookie(self, browser: Browsing) -> str | None:
        """The session of a browser."""
        return browser.client.cookies.get(f"mpcredit-{urlsplit(self.origin).port}")


@dataclass
class Browsing:
    """A browser without a window. It follows redirections one by one, and stops before it is back at the bank."""

    real: Real
    client: httpx.Client

    def get(self, url: str, **given: Any) -> httpx.Response:
        """Ask, and note what was asked and shown by the bank."""
        answer = self.client.get(url, **given)
        if url.startswith(self.real.origin):
            self.real.texts.append(answer.text)
            self.real.addresses.append(answer.headers.get("location", ""))
        return answer

    def begin(self, next: str = "") -> str:
        """Press the button; where the bank sends the browser."""
        answer = self.get(f"{self.real.origin}/sign-in/provider?{urlencode({'next': next})}")
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def there(self, name: str, next: str = "", *, deny: bool = False) -> str:
        """Sign in at the provider; the address with which it sends the browser back."""
        return self.through(self.begin(next), name, deny=deny)

    def through(self, url: str, name: str, *, deny: bool = False) -> str:
        """From the provider's first page to its last redirection."""
        for _ in range(20):
            if url.startswith(self.real.origin):
                return url
            answer = self.client.get(url)
            if answer.status_code == 200:
                action = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
                assert action, answer.text
                if deny:
                    url = action[1] + "/abort"
                    continue
                login = 'value="login"' in answer.text
                form = {"prompt": "login", "login": name, "password": "any"} if login else {"prompt": "consent"}
                answer = self.client.post(action[1], data=form)
            url = str(answer.url.join(answer.headers["location"]))
        raise AssertionError("the provider sends round and round")

    def who(self) -> str:
        """Whose account page the bank shows."""
        answer = self.get(f"{self.real.origin}/account")
        found = re.search(r"Sign-in name</dt><dd>([^<]*)<", answer.text)
        return found[1] if answer.status_code == 200 and found else ""


@contextlib.contextmanager
def served(app: Any, settings: ServerSettings) -> Iterator[None]:
    """The app behind a real port."""
    server = uvicorn.Server(uvicorn.Config(app, **settings.uvicorn(), timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(200):
            if server.started:
                break
            time.sleep(0.05)
        yield
    finally:
        server.should_exit = True
        thread.join(20)


@contextlib.contextmanager
def provider_process(port: int, origin: str) -> Iterator[subprocess.Popen[str]]:
    """The provider, listening."""
    assert NODE is not None
    command = [
        NODE,
        str(Path(__file__).with_name("oidc_provider.mjs")),
        str(port),
        origin + CALLBACK,
        f"{origin}/sign-in",
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == f"http://localhost:{port}"
            yield process
        finally:
            process.stdin.close()
            process.wait(10)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """Bank A's server and a provider that it trusts."""
    directory = tmp_path_factory.mktemp("oidc")
    log = io.StringIO()
    with contextlib.ExitStack() as stack:
        configure_logging("debug", stream=log)
        stack.callback(configure_logging)
        there = stack.enter_context(world(directory))
        server = ServerSettings(
            port=free_port(),
            database=f"sqlite:///{directory / 'oidc.sqlite'}",
            session_secret_file=directory / "session.secret",
            limit_sign_in="1000/minute",
        )
        port = free_port()
        process = stack.enter_context(provider_process(port, server.origin))
        issuer = f"http://localhost:{port}"
        database = Database(server.database)
        stack.callback(database.close)
        database.upgrade()
        clock, ticks = Clock(int(time.time())), Ticks()
        audit = AuditLog(database, clock=clock)
        people = People(database, audit, clock=clock, hasher=PasswordHasher(1, 8, 1))
        people.install([("rita", "Rita", ["reviewer"]), ("adam", "Adam", ["administrator"])])
        provider = Provider(
            settings(issuer, directory),
            redirect_uri=server.origin + CALLBACK,
            secret=server.session_secret(),
            ticks=ticks,
        )
        node = there.bank.node
        app = create_app(server, node, people, audit, Applications(database, node, audit), provider)
        stack.callback(node.end_subscriptions)
        stack.enter_context(served(app, server))
        stack.callback(node.end_subscriptions)
        found = Real(issuer, server.origin, people, audit, provider, node, clock, ticks, log, [], process)
        found.rotate(RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": "first"}, private=True))
        found.account("anna", "Credit", "Canteen")
        found.account("mallory", "Credit")
        yield found
        for client in found.clients:
            client.close()


def confirm(real: Real) -> None:
    """The reviewer confirms what waits."""
    for change in real.people.changes():
        real.people.confirm(change.id, by=real.people.get("rita"))


@WITH_PROVIDER
def test_sign_in__first_time__makes_an_account_whose_roles_wait_for_a_reviewer(real: Real) -> None:
    browser = real.sign_in("anna")

    assert browser.who() == "anna"
    anna = real.people.get("anna")
    assert anna is not None
    assert (anna.display, anna.provided, anna.roles) == ("Anna of the bank", True, frozenset())
    [change] = real.people.changes()
    assert (change.user, change.roles, change.asked_by) == ("anna", {Role.OFFICER}, f"provider:{real.issuer}")
    assert browser.get(f"{real.origin}/applications").status_code == 403

    confirm(real)

    assert browser.get(f"{real.origin}/applications").status_code == 200
    again = real.sign_in("anna")
    assert again.get(f"{real.origin}/applications").status_code == 200
    assert real.people.changes() == []
    actions = [entry.action for entry in reversed(real.audit.search(about="account/anna"))]
    assert actions == ["account.created", "roles.asked", "session.started", "roles.confirmed", "session.started"]


@WITH_PROVIDER
def test_sign_in__role_no_longer_stated__is_gone_also_in_older_sessions(real: Real) -> None:
    real.account("berta", "Credit", "Revision")
    older = real.sign_in("berta")
    confirm(real)
    assert older.get(f"{real.origin}/audit").status_code == 200

    real.account("berta", "Credit")
    newer = real.sign_in("berta")

    for browser in (older, newer):
        assert browser.get(f"{real.origin}/audit").status_code == 403
        assert browser.get(f"{real.origin}/applications").status_code == 200
    [entry] = real.audit.search(action="roles.provided", about="account/berta")
    assert (entry.facts["before"], entry.facts["after"]) == (["auditor", "officer", "reviewer"], ["officer"])


@WITH_PROVIDER
def test_sign_in__session__ends_after_session_minutes_and_no_later(real: Real) -> None:
    browser = real.sign_in("anna")
    try:
        for _ in range(4):
            real.clock.now += 29 * 60
            assert browser.who() == "anna"
        real.clock.now += 29 * 60  # 145 minutes; a local session would have 480
        assert browser.who() == ""
    finally:
        real.clock.now = int(time.time())


REFUSED = {
    "no claim": ({"roles": None}, "does not state the claim roles"),
    "no list": ({"roles": {"a": 1}}, "does not state the claim roles"),
    "no group of ours": ({"roles": ["Canteen"]}, "nothing that the identity provider states about you gives a role"),
    "administrator and officer": ({"roles": ["IT", "Credit"]}, "administrator and officer at once"),
    "no login name": ({"preferred_username": "Über uns"}, "no login name that can be used here"),
    "name of a local account": ({"preferred_username": "adam"}, "the name adam belongs to another account"),
}


@WITH_PROVIDER
@pytest.mark.parametrize("case", REFUSED)
def test_sign_in__claims_that_give_nobody__are_refused_with_a_remedy(real: Real, case: str) -> None:
    claims, said = REFUSED[case]
    before = len(real.people.users())
    real.account("stranger", **({"roles": ["Credit"]} | claims))
    browser = real.browser()

    answer = browser.get(browser.there("stranger"))

    assert answer.status_code == 403
    text = html.unescape(answer.text)
    assert said[1:] in text  # a sentence has a capital there
    assert "What helps:" in text
    if case == "administrator and officer":
        assert "take one away from you: IT or Credit" in text
    assert real.cookie(browser) is None
    assert len(real.people.users()) == before
    assert said in real.audit.search(action="sign-in.failed")[0].why


@WITH_PROVIDER
def test_sign_in__disabled__stays_out_until_enabled(real: Real) -> None:
    real.account("dora", "Credit")
    real.sign_in("dora")
    real.people.disable("dora", by=real.people.get("rita"), why="misuse")
    browser = real.browser()

    answer = browser.get(browser.there("dora"))

    assert (answer.status_code, real.cookie(browser)) == (403, None)
    assert "your account here is disabled" in answer.text.lower()
    real.people.enable("dora", by=None, why="cleared")
    assert real.sign_in("dora").who() == "dora"


@WITH_PROVIDER
def test_sign_in__local_account__only_after_the_console_bound_it(real: Real) -> None:
    made = real.people.create("emil", "Emil", ["auditor"], by=None, why="test")
    real.people.set_password("emil", "correct horse battery staple", by=made)
    real.account("emil", "Revision")
    browser = real.browser()
    assert browser.get(browser.there("emil")).status_code == 403
    subject = real.audit.search(action="sign-in.failed")[0].facts["subject"]

    real.people.bind("emil", real.issuer, subject, why="moves to Bank ID")

    assert real.sign_in("emil").who() == "emil"
    emil = real.people.get("emil")
    assert emil is not None
    assert emil.roles == {Role.AUDITOR}  # it had that; reviewer is new, and waits
    assert [change.roles for change in real.people.changes() if change.user == "emil"] == [
        {Role.AUDITOR, Role.REVIEWER}
    ]
    assert real.people.check_password("emil", "correct horse battery staple") is None
    adam = real.people.get("adam")
    with pytest.raises(Forbidden, match="identity provider"):
        real.people.set_password("emil", "another horse battery staple", by=emil)
    with pytest.raises(Forbidden, match="identity provider"):
        real.people.issue_sign_in("emil", by=adam)
    with pytest.raises(PeopleError, match="identity provider"):
        real.people.ask_roles("emil", ["officer"], by=adam, why="x")
    for name in ("adam", "emil"):
        with pytest.raises(PeopleError, match="already"):
            real.people.bind(name, real.issuer, subject, why="x")


# --- attacks with a real provider


@WITH_PROVIDER
def test_callback__twice__counts_once(real: Real) -> None:
    browser = real.browser()
    back = browser.there("anna")
    name = f"mpcredit-{urlsplit(real.origin).port}-sign-in"
    kept = browser.client.cookies[name]

    assert browser.get(back).status_code == 200
    thief = real.browser()
    thief.client.cookies.set(name, kept)
    answer = thief.get(back)

    assert (answer.status_code, real.cookie(thief)) == (400, None)
    assert "finished already" in answer.text


@WITH_PROVIDER
def test_callback__of_an_attacker__signs_no_victim_in(real: Real) -> None:
    attacker, victim, busy = real.browser(), real.browser(), real.browser()
    back = attacker.there("mallory")
    busy.begin()  # has a sign-in of its own under way

    for browser in (victim, busy):
        answer = browser.get(back)
        assert (answer.status_code, real.cookie(browser)) == (400, None)
        assert "not begun in this browser" in answer.text
    assert attacker.get(back).status_code == 200  # the twin: whose it is


@WITH_PROVIDER
def test_callback__forged_state_or_cookie__is_refused(real: Real) -> None:
    name = f"mpcredit-{urlsplit(real.origin).port}-sign-in"
    browser = real.browser()
    back = browser.there("anna")
    query = dict(parse_qsl(urlsplit(back).query))
    good = browser.client.cookies[name]
    payload, _, mac = good.partition(".")

    for cookie, state in (
        (good, ""),
        (good, "x" * 43),
        (good, "ünïcode"),
        (payload, query["state"]),
        (f"{payload}A.{mac}", query["state"]),
        (f"{payload}.{query['state']}", query["state"]),
    ):
        forger = real.browser()
        forger.client.cookies.set(name, cookie)
        answer = forger.get(f"{real.origin}{CALLBACK}?{urlencode(query | {'state': state})}")
        assert (answer.status_code, real.cookie(forger)) == (400, None)
    assert browser.get(back).status_code == 200


@WITH_PROVIDER
def test_callback__code_of_another_sign_in__is_refused_by_pkce(real: Real) -> None:
    victim, attacker = real.browser(), real.browser()
    stolen = dict(parse_qsl(urlsplit(victim.there("anna")).query))["code"]
    own = dict(parse_qsl(urlsplit(attacker.there("mallory")).query))

    answer = attacker.get(f"{real.origin}{CALLBACK}?{urlencode(own | {'code': stolen})}")

    assert (answer.status_code, real.cookie(attacker)) == (400, None)
    assert "does not accept the answer" in answer.text


@WITH_PROVIDER
def test_callback__too_late__is_refused(real: Real) -> None:
    late = Provider(
        real.provider.settings,
        redirect_uri=real.provider.redirect_uri,
        secret=real.provider._secret,
        clock=lambda: time.time() + BEGUN_SECONDS + 1,
    )
    begun = real.provider.begin("/")
    state = parse_qs(urlsplit(begun.url).query)["state"][0]

    with pytest.raises(SignInRefused, match="10 minutes"):
        late.finish(begun.cookie, {"state": state, "code": "x"})


@WITH_PROVIDER
def test_callback__declined_at_the_provider__says_so(real: Real) -> None:
    browser = real.browser()

    answer = browser.get(browser.there("anna", deny=True))

    assert (answer.status_code, real.cookie(browser)) == (403, None)
    assert "did not let you in, or you declined there" in answer.text


@WITH_PROVIDER
@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("/account", "/account"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ('/"><script>', "/"),
    ],
)
def test_sign_in__goes_on_only_within_the_server(real: Real, asked: str, got: str) -> None:
    browser = real.browser()

    answer = browser.get(browser.there("anna", asked))

    assert f'http-equiv="refresh" content="0;url={got}"' in answer.text
    assert "evil" not in answer.text
    assert "location" not in answer.headers


@WITH_PROVIDER
def test_sign_in__session_that_was_planted__is_not_used(real: Real) -> None:
    name = f"mpcredit-{urlsplit(real.origin).port}"
    mallory = real.sign_in("mallory")
    planted = real.cookie(mallory)
    assert planted
    victim = real.browser()
    victim.client.cookies.set(name, planted, domain="127.0.0.1", path="/")

    victim.get(victim.there("anna"))

    assert real.people.session(planted) is None  # the planted one is over
    assert victim.client.get(f"{real.origin}/account").status_code == 200
    assert "anna" in {real.people.session(c.value).name for c in victim.client.cookies.jar if c.name == name}  # type: ignore[union-attr]


@WITH_PROVIDER
def test_begin__from_another_site__shows_the_sign_in_page_instead(real: Real) -> None:
    browser = real.browser()

    answer = browser.get(f"{real.origin}/sign-in/provider?next=/account", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.headers["location"] == "/sign-in?next=/account"
    answer = browser.get(f"{real.origin}/sign-in/provider", headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.headers["location"].startswith(f"{real.issuer}/auth?")


@WITH_PROVIDER
def test_begin__under_another_name_of_the_server__goes_to_its_own_first(real: Real) -> None:
    other = real.origin.replace("127.0.0.1", "localhost")

    answer = httpx.get(f"{other}/sign-in/provider?next=/account")

    assert answer.headers["location"] == f"{real.origin}/sign-in/provider?next=/account&moved=1"
    answer = httpx.get(f"{other}/sign-in/provider?next=/account&moved=1")  # a proxy that rewrites the name: no circle
    assert answer.headers["location"].startswith(f"{real.issuer}/auth?")


@WITH_PROVIDER
def test_keys__rotated_by_the_provider__are_accepted(real: Real) -> None:
    real.sign_in("anna")
    real.rotate(RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": "second"}, private=True))
    browser = real.browser()

    answer = browser.get(browser.there("anna"))
    assert answer.status_code == 403  # the keys were read a moment ago
    assert "a key that the provider does not publish" in answer.text
    real.ticks.now += 31
    assert real.sign_in("anna").who() == "anna"


@WITH_PROVIDER
def test_sign_out__ends_the_session_and_offers_to_end_the_providers(real: Real) -> None:
    browser = real.sign_in("anna")
    token = real.cookie(browser)
    assert token

    answer = browser.client.post(f"{real.origin}/sign-out", headers={"Origin": real.origin})

    assert real.people.session(token) is None
    text = html.unescape(browser.get(real.origin + answer.headers["location"]).text)
    link = re.search(r'href="([^"]+/session/end[^"]*)"', text)
    assert link
    assert parse_qs(urlsplit(link[1]).query) == {
        "client_id": ["mpcredit"],
        "post_logout_redirect_uri": [f"{real.origin}/sign-in"],
    }
    local = real.browser()
    made = real.people.issue_sign_in("rita", by=None)
    local.client.post(f"{real.origin}/sign-in", data={"token": made}, headers={"Origin": real.origin})
    answer = local.client.post(f"{real.origin}/sign-out", headers={"Origin": real.origin})
    assert "session/end" not in local.get(real.origin + answer.headers["location"]).text


# --- with a real browser


@contextlib.contextmanager
def changing(real: Real) -> Iterator[None]:
    """Something changes again and again, so that a page hears of it as soon as it listens."""
    over = threading.Event()

    def publish() -> None:
        while not over.wait(0.2):
            real.node.publish("people")

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@WITH_PROVIDER
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")
def test_browser__button_to_page_and_out_again__and_an_unattended_page_ends(real: Real) -> None:
    from playwright.sync_api import expect, sync_playwright

    real.account("olga", "Four Eyes")
    asked: list[Any] = []
    complaints: list[str] = []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 860}).new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append(request))
        page.on(
            "console",
            lambda told: (
                complaints.append(told.text) if told.type == "error" and page.url.startswith(real.origin) else None
            ),
        )
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)

        # (1) there and back: another site, so the strict cookie must arrive with the page after the next.
        page.goto(f"{real.origin}/sign-in?next=/account")
        page.screenshot(path=SCREENSHOTS / "oidc-sign-in.png", full_page=True)
        page.set_viewport_size({"width": 390, "height": 800})
        page.screenshot(path=SCREENSHOTS / "oidc-sign-in-narrow.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 860})
        page.get_by_role("link", name="Sign in with Bank ID").click()
        page.locator("[name=login]").fill("olga")
        page.locator("[name=password]").fill("any")
        page.locator("[type=submit]").click()
        page.locator("[type=submit]").click()
        page.wait_for_url(f"{real.origin}/account")
        expect(page.get_by_role("heading", name="Olga of the bank")).to_be_visible()
        page.screenshot(path=SCREENSHOTS / "oidc-account.png", full_page=True)
        confirm(real)

        # (2) what the page asks by itself is marked; what a person asks is not.
        page.goto(f"{real.origin}/reviews")
        asked.clear()
        with changing(real), page.expect_request(lambda request: "hx-request" in request.headers) as found:
            pass
        assert found.value.headers["mpcredit-unattended"] == "1"
        page.get_by_role("link", name="Consents").click()
        page.wait_for_url(f"{real.origin}/consents")
        clicked = [request for request in asked if request.url.endswith("/consents")]
        assert ["mpcredit-unattended" in request.headers for request in clicked] == [False]

        writing = page.context.new_page()
        writing.clock.install()
        writing.goto(f"{real.origin}/consents")
        writing.on("request", lambda request: asked.append(request))
        writing.keyboard.press("a")  # the page was asked for a moment ago
        assert not any(request.url.endswith("/active") for request in asked)
        writing.clock.fast_forward(61_000)
        with writing.expect_response(f"{real.origin}/account/active") as said:
            writing.keyboard.press("b")
        assert said.value.status == 204
        assert "mpcredit-unattended" not in said.value.request.headers
        writing.close()

        # (3) nobody before an open page: it goes to the sign-in page by itself.
        with page.expect_response(f"{real.origin}/events"):
            page.goto(f"{real.origin}/reviews")
        real.clock.now += 31 * 60
        with changing(real):
            page.wait_for_url(re.compile(r"/sign-in\?next=(%2F|/)reviews$"))
        real.clock.now = int(time.time())

        # (4) in again, which asks nothing any more, and out, here and there.
        page.get_by_role("link", name="Sign in with Bank ID").click()
        page.wait_for_url(f"{real.origin}/reviews")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_text("You are signed out.")).to_be_visible()
        page.screenshot(path=SCREENSHOTS / "oidc-signed-out.png", full_page=True)
        page.get_by_role("link", name="Sign out there too").click()
        page.get_by_role("button", name=re.compile("yes", re.IGNORECASE)).click()
        page.wait_for_url(f"{real.origin}/sign-in")

        # (5) a refusal.
        real.account("paul", "IT", "Credit")
        page.get_by_role("link", name="Sign in with Bank ID").click()
        page.locator("[name=login]").fill("paul")
        page.locator("[name=password]").fill("any")
        page.locator("[type=submit]").click()
        page.locator("[type=submit]").click()
        expect(page.get_by_text("administrator and officer at once")).to_be_visible()
        page.screenshot(path=SCREENSHOTS / "oidc-refused.png", full_page=True)
        assert page.locator("input[name=next]").get_attribute("value") == "/sign-in"  # not the address with the code
        page.get_by_role("link", name="To the sign-in page").click()
        expect(page.get_by_role("link", name="Sign out there too")).to_be_visible()  # and come back as somebody else
        browser.close()
    assert [text for text in complaints if "status of 4" not in text] == []


@WITH_PROVIDER
def test_nothing_secret__is_in_addresses_pages_logs_or_the_audit_log(real: Real) -> None:
    browser = real.browser()
    back = browser.there("anna")
    code = dict(parse_qsl(urlsplit(back).query))["code"]
    cookie = browser.client.cookies[f"mpcredit-{urlsplit(real.origin).port}-sign-in"]
    verifier = real.provider._derive("verifier", cookie.partition(".")[0])
    browser.get(back)

    refused = real.browser()
    refused.get(f"{real.origin}{CALLBACK}?{urlencode({'code': code, 'state': 'x'})}")
    everything = "\n".join(
        [*real.addresses, *real.texts, real.log.getvalue(), *(str(entry) for entry in real.audit.search(limit=1000))]
    )
    for secret in (CLIENT_SECRET, CLIENT_SECRET.replace(" ", "%20"), code, verifier, cookie, str(real.cookie(browser))):
        assert secret not in everything
    assert not re.search(r"eyJ[\w-]{20,}\.", everything)  # no token
    assert "nobody was signed in" in real.log.getvalue()


@WITH_PROVIDER
def test_provider__stopped__page_says_so_and_local_accounts_sign_in(real: Real) -> None:
    real.people.external(real.issuer, "zoe", name="zoe", display="Zoe", roles=["officer"])
    real.process.terminate()
    real.process.wait(10)
    real.ticks.now += 3601  # what it described is no longer taken for granted
    entries = len(real.audit.search(limit=1000))
    browser = real.browser()

    answer = browser.get(f"{real.origin}/sign-in/provider")

    assert answer.status_code == 503
    assert "cannot be reached" in answer.text
    assert "Local accounts still sign in" in answer.text
    assert len(real.audit.search(limit=1000)) == entries
    made = real.people.issue_sign_in("adam", by=None)
    answer = browser.client.post(f"{real.origin}/sign-in", data={"token": made}, headers={"Origin": real.origin})
    assert answer.status_code == 303
    assert browser.who() == "adam"
    text = browser.get(f"{real.origin}/health").text
    assert "Identity provider" in text
    assert "cannot be reached" in text
    assert "through the identity provider" in browser.get(f"{real.origin}/people?who=zoe").text


# --------------------------------------------------------------------- a forger

KEY = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": "first"}, private=True)
FOREIGN = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": "first"}, private=True)


@dataclass
class Forger:
    """A provider that says whatever a test wants."""

    issuer: str
    description: dict[str, Any]
    keys: list[Any]
    token: str = ""
    status: int = 200
    asked: list[tuple[str, str]] = field(default_factory=list)
    raw: bytes | None = None


class Quiet(ThreadingHTTPServer):
    """Says nothing about clients that hang up."""

    daemon_threads = False

    def handle_error(self, *_: Any) -> None:
        """The client's test looks at it."""


@contextlib.contextmanager
def forging(context: ssl.SSLContext | None = None) -> Iterator[Forger]:
    """Run it."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            there.asked.append((self.path, self.headers.get("authorization", "")))
            found: Any = {"keys": there.keys} if self.path == "/keys" else there.description
            self._send(found)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            there.asked.append((self.path, body))
            self._send({"id_token": there.token, "access_token": "x", "token_type": "Bearer"})

        def _send(self, found: Any) -> None:
            body = there.raw if there.raw is not None else json.dumps(found).encode()
            self.send_response(there.status)
            if there.status == 302:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    server = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        # The handshake is left to each connection's thread, which also closes what came to nothing.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    issuer = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
    description = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/auth",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/keys",
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
    }
    there = Forger(issuer, description, [KEY.as_dict(private=False)])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield there
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def forger() -> Iterator[Forger]:
    """A forger without TLS."""
    with forging() as found:
        yield found


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., Provider]:
    """Makes the bank's side."""

    def make(issuer: str, *, ticks: Ticks | None = None, **given: Any) -> Provider:
        return Provider(
            settings(issuer, tmp_path, **given),
            redirect_uri=f"http://127.0.0.1:1{CALLBACK}",
            secret=bytes(32),
            ticks=ticks or Ticks(),
        )

    return make


def claims(forger: Forger, nonce: str) -> dict[str, Any]:
    """What is right."""
    now = int(time.time())
    return {
        "iss": forger.issuer,
        "sub": "s-1",
        "aud": "mpcredit",
        "nonce": nonce,
        "iat": now,
        "exp": now + 300,
        "preferred_username": "Anna",
        "roles": ["Credit"],
    }


def signed(value: dict[str, Any], key: Any = KEY, **header: Any) -> str:
    """A token."""
    algorithm = header.setdefault("alg", "RS256")
    return jwt.encode({"kid": "first", **header}, value, key, [algorithm])


def come_back(forger: Forger, provider: Provider, make: Callable[[dict[str, Any]], str], **query: Any) -> Any:
    """One sign-in with the token that `make` makes of the right claims."""
    begun = provider.begin("/account")
    asked = {name: value[0] for name, value in parse_qs(urlsplit(begun.url).query).items()}
    forger.token = make(claims(forger, asked["nonce"]))
    answer = {"code": "c", "state": asked["state"], **query}
    return provider.finish(begun.cookie, {name: value for name, value in answer.items() if value is not None})


def test_token__as_it_should_be__is_accepted(forger: Forger, client: Callable[..., Provider]) -> None:
    found = come_back(forger, client(forger.issuer), signed)

    assert (found.issuer, found.subject, found.name, found.next) == (forger.issuer, "s-1", "anna", "/account")
    assert found.roles == {"officer"}
    client(forger.issuer).check()  # what `mpcredit doctor` asks
    _path, body = next(asked for asked in forger.asked if asked[0] == "/token")
    sent = dict(parse_qsl(body))
    assert (sent["client_secret"], sent["redirect_uri"]) == (CLIENT_SECRET, f"http://127.0.0.1:1{CALLBACK}")


def by_hand(value: dict[str, Any], sign: Callable[[bytes], bytes] | None = None, **header: Any) -> str:
    """A token that the library would not make."""

    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    body = f"{text(json.dumps({'kid': 'first', **header}).encode())}.{text(json.dumps(value).encode())}"
    return f"{body}.{text(sign(body.encode())) if sign else ''}"


def by_key(data: bytes) -> bytes:
    """The provider's own signature."""
    private: Any = KEY.raw_value
    signature: bytes = private.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return signature


def by_public_key(data: bytes) -> bytes:
    """The provider's public key taken for a shared secret: the classical confusion of RS256 and HS256."""
    return hmac.digest(KEY.as_pem(private=False), data, "sha256")


NOW = time.time
SIGNATURE = "signature does not hold"
FORGED: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "other audience": (lambda c: signed(c | {"aud": "another-application"}), "aud is not"),
    "several audiences, no azp": (lambda c: signed(c | {"aud": ["mpcredit", "another-application"]}), "missing"),
    "for another by azp": (lambda c: signed(c | {"aud": ["mpcredit", "x"], "azp": "x"}), "azp is not"),
    "other issuer": (lambda c: signed(c | {"iss": "https://id.evil.example"}), "iss is not"),
    "issuer with a slash": (lambda c: signed(c | {"iss": c["iss"] + "/"}), "iss is not"),
    "other nonce": (lambda c: signed(c | {"nonce": "x" * 43}), "nonce is not"),
    "no nonce": (lambda c: signed({k: v for k, v in c.items() if k != "nonce"}), "missing"),
    "no subject": (lambda c: signed({k: v for k, v in c.items() if k != "sub"}), "missing"),
    "empty subject": (lambda c: signed(c | {"sub": ""}), "sub is not"),
    "subject too long": (lambda c: signed(c | {"sub": "s" * 256}), "sub is not"),
    "run out": (lambda c: signed(c | {"exp": int(NOW()) - 61}), "not of this time"),
    "never runs out": (lambda c: signed({k: v for k, v in c.items() if k != "exp"}), "missing"),
    "from the future": (lambda c: signed(c | {"iat": int(NOW()) + 70}), "not of this time"),
    "older than the sign-in": (lambda c: signed(c | {"iat": int(NOW()) - 70}), "not of this time"),
    "not yet": (lambda c: signed(c | {"nbf": int(NOW()) + 70}), "not of this time"),
    "unsigned, in other letters": (lambda c: by_hand(c, alg="nOnE"), SIGNATURE),
    "unsigned, and says RS256": (lambda c: by_hand(c, alg="RS256"), SIGNATURE),
    "unsigned": (lambda c: by_hand(c, alg="none"), SIGNATURE),
    "HS256 with the client's secret": (lambda c: signed(c, OctKey.import_key(CLIENT_SECRET), alg="HS256"), SIGNATURE),
    "HS256 with the public key": (lambda c: by_hand(c, by_public_key, alg="HS256"), SIGNATURE),
    "foreign key of the same name": (lambda c: signed(c, FOREIGN), SIGNATURE),
    "foreign key of another name": (lambda c: signed(c, FOREIGN, kid="other"), "does not publish"),
    "changed after signing": (lambda c: signed(c)[:-6] + "AAAAAA", SIGNATURE),
    "no token": (lambda c: "", SIGNATURE),
    "unknown critical header": (lambda c: by_hand(c, by_key, alg="RS256", crit=["x"], x=1), SIGNATURE),
    "deep": (lambda c: by_hand(c | {"x": json.loads("[" * 40 + "]" * 40)}, by_key, alg="RS256"), SIGNATURE),
}
ACCEPTED: dict[str, Callable[[dict[str, Any]], str]] = {
    "several audiences with azp": lambda c: signed(c | {"aud": ["mpcredit", "x"], "azp": "mpcredit"}),
    "clock a little ahead": lambda c: signed(c | {"iat": int(NOW()) + 50}),
    "clock a little behind": lambda c: signed(c | {"iat": int(NOW()) - 50}),
    "just run out, within the leeway": lambda c: signed(c | {"exp": int(NOW()) - 50}),
    "made by hand, with an unknown header": lambda c: by_hand(c, by_key, alg="RS256", x_extra="1"),
    "PS256": lambda c: signed(c, RSAKey.import_key(KEY.as_dict(private=True, alg="PS256")), alg="PS256"),
}


@pytest.mark.parametrize("case", FORGED)
def test_token__forged__is_refused(forger: Forger, client: Callable[..., Provider], case: str) -> None:
    make, said = FORGED[case]

    with pytest.raises(SignInRefused, match=said) as caught:
        come_back(forger, client(forger.issuer), make)

    assert caught.value.remedy
    assert forger.token not in f"{caught.value}" or not forger.token


@pytest.mark.parametrize("case", ACCEPTED)
def test_token__unusual_and_right__is_accepted(forger: Forger, client: Callable[..., Provider], case: str) -> None:
    if case == "PS256":
        key = {name: value for name, value in KEY.as_dict(private=False).items() if name != "alg"}
        forger.keys = [key]

    assert come_back(forger, client(forger.issuer), ACCEPTED[case]).subject == "s-1"


def test_keys__unknown_one__are_read_again_now_and_then(forger: Forger, client: Callable[..., Provider]) -> None:
    ticks = Ticks()
    provider = client(forger.issuer, ticks=ticks)
    come_back(forger, provider, signed)

    def reads() -> int:
        return sum(path == "/keys" for path, _ in forger.asked)

    assert reads() == 1
    for _ in range(3):
        with pytest.raises(SignInRefused, match="does not publish"):
            come_back(forger, provider, lambda c: signed(c, FOREIGN, kid="made up"))
    assert reads() == 1  # nobody makes us ask the provider again and again
    ticks.now += 31
    for _ in range(3):
        with pytest.raises(SignInRefused, match="does not publish"):
            come_back(forger, provider, lambda c: signed(c, FOREIGN, kid="made up"))
    assert reads() == 2


def test_keys__withdrawn__are_accepted_for_an_hour_at_most(forger: Forger, client: Callable[..., Provider]) -> None:
    ticks = Ticks()
    provider = client(forger.issuer, ticks=ticks)
    come_back(forger, provider, signed)
    forger.keys = [FOREIGN.as_dict(private=False) | {"kid": "second"}]

    come_back(forger, provider, signed)
    ticks.now += 3601
    with pytest.raises(SignInRefused, match="does not publish"):
        come_back(forger, provider, signed)


def test_keys__odd_ones__are_passed_over(forger: Forger, client: Callable[..., Provider]) -> None:
    secret = {"kty": "oct", "kid": "first", "k": "c2VjcmV0" * 5}
    forger.keys = [7, {"kty": "AKP", "kid": "pq"}, secret, {"kty": "RSA", "kid": "x", "n": 1}, *forger.keys]

    assert come_back(forger, client(forger.issuer), signed).subject == "s-1"
    with pytest.raises(SignInRefused, match=SIGNATURE):
        come_back(forger, client(forger.issuer), lambda c: signed(c, OctKey.import_key(secret), alg="HS256"))


def test_answer__of_another_issuer__is_refused(forger: Forger, client: Callable[..., Provider]) -> None:
    with pytest.raises(SignInRefused, match="another provider"):
        come_back(forger, client(forger.issuer), signed, iss="https://id.evil.example")
    come_back(forger, client(forger.issuer), signed, iss=forger.issuer)
    forger.description["authorization_response_iss_parameter_supported"] = True
    with pytest.raises(SignInRefused, match="another provider"):
        come_back(forger, client(forger.issuer), signed)


def test_answer__error__only_known_ones_are_repeated(forger: Forger, client: Callable[..., Provider]) -> None:
    for error, said in (("login_required", "login_required"), ("<script>", "unknown error")):
        with pytest.raises(SignInRefused) as caught:
            come_back(forger, client(forger.issuer), signed, error=error, error_description="<b>call 0800")
        assert said in caught.value.message
        assert "0800" not in str(caught.value)


WRONG: dict[str, tuple[Callable[[Forger], None], str]] = {
    "other issuer": (lambda f: f.description.update(issuer="https://id.evil.example"), "another issuer"),
    "plain http off this machine": (
        lambda f: f.description.update(token_endpoint="http://id.bank.example/token"),
        "token_endpoint is no https",
    ),
    "no keys": (lambda f: f.description.pop("jwks_uri"), "jwks_uri is no https"),
    "script": (
        lambda f: f.description.update(end_session_endpoint="javascript:alert(1)"),
        "end_session_endpoint is no",
    ),
    "no PKCE": (lambda f: f.description.update(code_challenge_methods_supported=["plain"]), "PKCE"),
    "redirection": (lambda f: setattr(f, "status", 302), "status 302"),
    "no JSON": (lambda f: setattr(f, "raw", b"<html>"), "another issuer"),
    "deep JSON": (lambda f: setattr(f, "raw", b"[" * 100_000), "another issuer"),
    "endless": (lambda f: setattr(f, "raw", b" " * (1 << 21)), "too long"),
}


@pytest.mark.parametrize("case", WRONG)
def test_description__that_does_not_fit__is_refused(forger: Forger, client: Callable[..., Provider], case: str) -> None:
    change, said = WRONG[case]
    change(forger)
    provider = client(forger.issuer)

    with pytest.raises(ProviderDown, match=said):
        provider.begin("/")

    assert said in provider.trouble
    assert not any("elsewhere" in path for path, _ in forger.asked)


def test_provider__down__is_said_and_asked_again_later(client: Callable[..., Provider]) -> None:
    ticks = Ticks()
    provider = client(f"http://127.0.0.1:{free_port()}", ticks=ticks)

    for _ in range(2):
        with pytest.raises(ProviderDown, match="cannot be reached") as caught:
            provider.begin("/")
    assert caught.value.status == 503
    assert "Local accounts still sign in" in caught.value.remedy
    assert provider.sign_out_url("http://127.0.0.1:1/sign-in") is None
    ticks.now += 6
    with pytest.raises(ProviderDown, match="cannot be reached"):
        provider.check()


def test_provider__over_tls__with_the_configured_authority_only(
    client: Callable[..., Provider], tmp_path: Path
) -> None:
    certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with forging(context) as forger:
        with pytest.raises(ProviderDown, match="certificate does not rest on a trusted authority"):
            client(forger.issuer).begin("/")
        assert come_back(forger, client(forger.issuer, ca=tmp_path / "authority.pem"), signed).subject == "s-1"


def test_roles__from_an_object_or_a_single_text(forger: Forger, client: Callable[..., Provider]) -> None:
    nested = {"realm_access": {"roles": ["Revision"]}, "roles": None}
    provider = client(forger.issuer, roles_claim="realm_access.roles")
    assert come_back(forger, provider, lambda c: signed(c | nested)).roles == {"auditor", "reviewer"}
    single = client(forger.issuer)
    assert come_back(forger, single, lambda c: signed(c | {"roles": "Credit"})).roles == {"officer"}
    dotted = client(forger.issuer, roles_claim="https://bank.example/roles")
    assert come_back(forger, dotted, lambda c: signed(c | {"https://bank.example/roles": ["IT"]})).roles == {
        "administrator"
    }


def test_refusal__in_chinese__is_translated_with_its_remedy(forger: Forger, client: Callable[..., Provider]) -> None:
    words = Words("zh-CN")
    told = []
    for make, _said in FORGED.values():
        with pytest.raises(SignInRefused) as caught:
            come_back(forger, client(forger.issuer), make)
        told.append(caught.value)
    for value in ({"a": 1}, ["IT", "Credit"]):
        with pytest.raises(SignInRefused) as caught:
            come_back(forger, client(forger.issuer), lambda c, value=value: signed(c | {"roles": value}))  # type: ignore[misc]
        told.append(caught.value)
    for error in ("access_denied", "server_error", "odd"):
        with pytest.raises(SignInRefused) as caught:
            come_back(forger, client(forger.issuer), signed, error=error)
        told.append(caught.value)
    for change, _said in WRONG.values():
        before = dict(forger.description)
        change(forger)
        with pytest.raises(SignInRefused) as caught:
            client(forger.issuer).begin("/")
        told.append(caught.value)
        forger.description, forger.status, forger.raw = before, 200, None

    for refused in told:
        for text in (refused.message, refused.remedy):
            assert re.search("[一-鿿]", words.sentence(text)), text
            left = re.sub(r"\[server\.oidc[^\]]*\]|`[^`]*`|ID|PKCE|S256|Cookie", "", words.sentence(text))
            assert not re.search(r"[a-z]+ [a-z]+", left), left
