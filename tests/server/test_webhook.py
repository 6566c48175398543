"""Answers to the bank's loan system: signed, in order, tried again, once in the queue, and to nobody else.

Branches: what is queued - with its change or not at all, of systems' applications alone; an attempt - taken, refused,
redirected, nobody there, another's certificate; what follows - back-off, order, giving up, a crash in between; the thread.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from certificates import certificates
from clock import Clock
from sqlalchemy import select
from web_world import EVIDENCE, LOOPBACK, TestClient, world

from mpcredit.errors import InvalidFile
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.settings import ServerSettings
from mpcredit.server.webhook import GIVE_UP_SECONDS, Webhook, webhook_table

SECRET = bytes(range(32))


@dataclass
class Receiver:
    """The loan system."""

    url: str = ""
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def values(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.status)
            if found.status == 307:
                self.send_header("Location", found.url + "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A connection that the client broke off is what some tests want."""

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/answers?from=mpcredit"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def webhook(database: Database, audit: AuditLog, receiver: Receiver, clock: Clock) -> Webhook:
    return Webhook(database, audit, url=receiver.url, secret=SECRET, clock=clock)


def row(database: Database) -> Any:
    with database.read() as connection:
        return connection.execute(select(webhook_table).order_by(webhook_table.c.id)).first()


def test_deliver__signed_answer__is_what_the_document_says(
    webhook: Webhook, receiver: Receiver, database: Database, audit: AuditLog, clock: Clock
) -> None:
    webhook.queue("application.ready", {"id": "a1", "customer": "TW …789 陳"})
    clock.now += 7

    assert webhook.deliver() == 1
    assert webhook.deliver() == 0

    ((headers, body),) = receiver.got
    # as a receiver does it, with the standard library alone
    stamp, mac = (part.split("=")[1] for part in headers["mpcredit-signature"].split(","))
    assert mac == hmac.new(SECRET, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert int(stamp) == clock.now
    value = json.loads(body)
    assert value["application"] == {"id": "a1", "customer": "TW …789 陳"}
    assert (value["format"], value["version"], value["event"]) == ("mpcredit/webhook", 1, "application.ready")
    assert headers["mpcredit-delivery"] == value["delivery"]
    assert headers["mpcredit-event"] == value["event"]
    assert headers["content-type"] == "application/json; charset=utf-8"
    entry = audit.search(action="answer.delivered")[0]
    assert (entry.about, entry.facts["delivery"]) == ("application/a1", value["delivery"])
    assert row(database).body is None  # what was taken is not kept a second time
    assert webhook.status() == (0, 0, "")


def test_queue__with_a_change_that_is_undone__is_undone(webhook: Webhook, database: Database) -> None:
    def attempt() -> None:
        with database.transaction():
            webhook.queue("application.ready", {"id": "a1"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        attempt()

    assert webhook.deliver() == 0
    assert row(database) is None


@pytest.mark.parametrize("status", [307, 400, 404, 500, 503])
def test_deliver__not_taken__waits_longer_each_time_and_sends_the_same_bytes(
    webhook: Webhook, receiver: Receiver, clock: Clock, status: int
) -> None:
    receiver.status = status
    webhook.queue("application.ready", {"id": "a1"})
    waits, last = [], clock.now
    for _ in range(clock.now, clock.now + 200):
        before = len(receiver.got)
        webhook.deliver()
        if len(receiver.got) > before:
            waits.append(clock.now - last)
            last = clock.now
        clock.now += 1

    assert waits == [0, 5, 10, 20, 40, 80]
    assert webhook.status() == (1, 0, f"answered with status {status}")
    receiver.status = 200
    clock.now += 3_600
    assert webhook.deliver() == 1
    assert len({body for _, body in receiver.got}) == 1
    assert len({headers["mpcredit-delivery"] for headers, _ in receiver.got}) == 1
    assert len({headers["mpcredit-signature"] for headers, _ in receiver.got}) == 7  # each of its own time


def test_deliver__of_one_application__in_order_and_others_do_not_wait(
    webhook: Webhook, receiver: Receiver, clock: Clock
) -> None:
    receiver.status = 500
    webhook.queue("application.stopped", {"id": "a1"})
    webhook.deliver()
    receiver.status = 200
    webhook.queue("application.ready", {"id": "a1"})
    webhook.queue("application.ready", {"id": "a2"})

    assert webhook.deliver() == 1
    clock.now += 5
    assert webhook.deliver() == 1
    assert webhook.deliver() == 1
    told = [(value["application"]["id"], value["event"]) for value in receiver.values[1:]]
    assert told == [("a2", "application.ready"), ("a1", "application.stopped"), ("a1", "application.ready")]


def test_deliver__crash_after_it_was_taken__comes_again_under_one_id(
    database: Database, audit: AuditLog, webhook: Webhook, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    webhook.queue("application.ready", {"id": "a1"})
    monkeypatch.setattr(Webhook, "_note", crash)
    with pytest.raises(KeyboardInterrupt):
        webhook.deliver()
    monkeypatch.undo()

    again = Webhook(database, audit, url=receiver.url, secret=SECRET, clock=Clock(1_800_000_001))

    assert again.deliver() == 1
    first, second = receiver.got
    assert first[1] == second[1]
    assert first[0]["mpcredit-delivery"] == second[0]["mpcredit-delivery"]


def test_deliver__nobody_there__one_attempt_in_a_round_and_given_up_after_days(
    database: Database, audit: AuditLog, clock: Clock
) -> None:
    webhook = Webhook(database, audit, url="http://127.0.0.1:9/", secret=SECRET, clock=clock)
    webhook.queue("application.ready", {"id": "a1"})
    webhook.queue("application.ready", {"id": "a2"})

    webhook.deliver()

    with database.read() as connection:
        assert list(connection.scalars(select(webhook_table.c.attempts).order_by(webhook_table.c.id))) == [1, 0]
    clock.now += GIVE_UP_SECONDS
    webhook.deliver()
    webhook.deliver()
    assert webhook.status() == (0, 2, "")
    assert [entry.about for entry in audit.search(action="answer.given_up")] == ["application/a2", "application/a1"]
    assert row(database).body is None


def test_deliver__https__only_to_whom_the_certificates_vouch_for(
    database: Database, audit: AuditLog, clock: Clock, tmp_path: Path
) -> None:
    certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with receiving(context) as receiver:
        unknown = Webhook(database, audit, url=receiver.url, secret=SECRET, clock=clock)
        known = Webhook(database, audit, url=receiver.url, secret=SECRET, ca=tmp_path / "authority.pem", clock=clock)
        unknown.queue("application.ready", {"id": "a1"})

        assert unknown.deliver() == 0
        assert receiver.got == []
        assert "CERTIFICATE_VERIFY_FAILED" in unknown.status()[2]
        clock.now += 5
        assert known.deliver() == 1
    with pytest.raises(InvalidFile, match="webhook_ca"):
        Webhook(database, audit, url=receiver.url, secret=SECRET, ca=tmp_path / "nothing.pem")


def test_thread__delivers_by_itself_and_stops(
    database: Database, audit: AuditLog, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcredit.server.webhook.PAUSE", 0.01)
    webhook = Webhook(database, audit, url=receiver.url, secret=SECRET)
    webhook.start()
    try:
        webhook.queue("application.ready", {"id": "a1"})
        end = time.monotonic() + 10
        while webhook.status()[0] and time.monotonic() < end:
            time.sleep(0.01)
        assert len(receiver.got) == 1
    finally:
        webhook.stop()
    assert threading.active_count() < 20
    assert not any(thread.name == "mpcredit-webhook" for thread in threading.enumerate())


def test_application__posted_by_a_system__is_answered_and_an_officers_is_not(
    tmp_path: Path, receiver: Receiver
) -> None:
    with world(tmp_path) as there:
        bank = there.bank
        webhook = Webhook(bank.database, bank.audit, url=receiver.url, secret=SECRET)
        bank.applications.webhook = webhook
        administrator, reviewer = bank.people.get("administrator"), bank.people.get("reviewer")
        made, secret = bank.people.create_token("loans", ["applications:write"], by=administrator, why="test")
        change = next(change for change in bank.people.changes() if change.token == made.id)
        bank.people.confirm(change.id, by=reviewer)
        client = TestClient(bank.app, base_url=bank.settings.origin, client=LOOPBACK)
        client.headers["Authorization"] = f"Bearer {secret}"
        subject = there.take()
        sent = {
            "customer": {"kind": subject.kind, "country": subject.country, "number": subject.number},
            "amount": "200000",
            "currency": "TWD",
            "purpose": "new_credit",
            "consent_evidence": EVIDENCE,
            "reference": "LOS-7",
        }
        posted = [
            client.post("/api/applications", json=sent, headers={"Idempotency-Key": "los-0000001"}) for _ in range(2)
        ]
        assert posted[0].json()["id"] == posted[1].json()["id"]
        there.enter()
        there.settle()
        webhook.deliver()

        (value,) = receiver.values
        assert value["event"] == "application.ready"
        assert value["application"]["reference"] == "LOS-7"
        assert value["application"]["attested"] is True
        assert value["application"]["totals"]
        assert subject.number not in json.dumps(value)

        outcome = value["application"]["policy"]["outcome"]
        answer = bank.sign_in("officer").post(
            f"/applications/{value['application']['id']}/decide",
            data={"outcome": "decline" if outcome == "decline" else "approve", "reason": "as the policy says"},
        )
        assert answer.status_code == 303, answer.text
        webhook.deliver()
        events = [value["event"] for value in receiver.values]
        assert events in (["application.ready", "application.decided"], ["application.ready"])
        decided = bank.applications.get(value["application"]["id"]).step.value == "decided"
        assert (events[-1] == "application.decided") is decided
        page = bank.sign_in("administrator").get("/health").text
        assert "0 wait, 0 given up" in page
        metrics = bank.sign_in("administrator").get("/metrics").text
        assert 'mpcredit_answers{party="Bank A",state="pending"} 0.0' in metrics


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("", True),
        ("https://loans.bank.example/answers?x=1", True),
        ("http://127.0.0.1:9000/answers", True),
        ("http://localhost/answers", True),
        ("http://loans.bank.example/answers", False),
        ("http://127.0.0.1.evil.example/", False),
        ("ftp://loans.bank.example/", False),
        ("https://user:pass@loans.bank.example/", False),
        ("https://loans.bank.example/#part", False),
        ("https://loans.bank.example/a b", False),
        ("https://loans.bank.example/a\r\nX-Y: z", False),
        ("https://loans.bank.example:port/", False),
        ("https:///answers", False),
    ],
)
def test_settings__webhook_url__is_https_or_this_machine(url: str, fine: bool, tmp_path: Path) -> None:
    path = tmp_path / "bank.toml"
    path.write_text("[server]\n")
    if fine:
        assert ServerSettings.load(path, webhook_url=url).webhook_url == url
    else:
        with pytest.raises(InvalidFile, match="webhook_url"):
            ServerSettings.load(path, webhook_url=url)


def test_settings__webhook_secret__is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "bank.toml"
    path.write_text("[server]\n")
    settings = ServerSettings.load(path)

    secret = settings.webhook_secret()

    assert len(secret) == 32
    assert settings.webhook_secret() == secret != settings.session_secret()
    assert (tmp_path / "webhook.secret").read_text().strip() == secret.hex()
    assert (tmp_path / "webhook.secret").stat().st_mode & 0o777 == 0o600
