"""Answers to the bank's loan system, and notices to its notice system: posted, signed, tried again until they are taken.

An answer is queued in the transaction of the change that it tells of, with its final bytes, so that neither a crash nor a
restart loses one or makes two of it. It may arrive twice, under one delivery id, and those of one application arrive in
their order. What was taken is no longer kept here. docs/api.md describes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, String, Table, Text, func, select

from mpcredit import __version__
from mpcredit.errors import InvalidFile, MpcreditError
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database, Number, metadata
from mpcredit.server.logs import get_logger

__all__ = ["GIVE_UP_SECONDS", "SIGNATURE_HEADER", "Webhook", "sign", "webhook_table"]

SIGNATURE_HEADER: Final = "Mpcredit-Signature"
DELIVERY_HEADER: Final = "Mpcredit-Delivery"
EVENT_HEADER: Final = "Mpcredit-Event"
FIRST_WAIT: Final = 5
"""Seconds until the second attempt; doubled after each."""
LONGEST_WAIT: Final = 3_600
GIVE_UP_SECONDS: Final = 3 * 86_400
"""After so long an answer is not tried any more; the system can still read it at /api/applications."""
TIMEOUT: Final = 10.0
"""Seconds for one attempt's connection and each of its reads."""
PAUSE: Final = 2.0
"""Seconds between looks at the queue."""
ROUND: Final = 200

webhook_table = Table(
    "webhook",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("delivery", String(32), nullable=False, unique=True),
    Column("application", String(32), nullable=False, index=True),
    Column("event", String(64), nullable=False),
    Column("body", Text, nullable=True),
    Column("created_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("problem", Text, nullable=False),
    Column("ended_at", BigInteger, nullable=True),
    CheckConstraint("state IN ('pending', 'delivered', 'given_up')", name="state"),
    sqlite_autoincrement=True,
)

log = get_logger("mpcredit.server.webhook")


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """The signature's header: t=TIMESTAMP,v1=HMAC-SHA-256(secret, TIMESTAMP || "." || body)."""
    mac = hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={mac}"


class Webhook:
    """Queues answers and delivers them, in a thread of its own.

    Args:
        database: the server's.
        audit: told what was delivered, and what was given up.
        url: where to; https, or http on this machine (`ServerSettings` checks it).
        secret: shared with the receiver.
        ca: certificates that the receiver's must rest on, PEM; by default those that the machine trusts.
        family: "application" for answers, "notice" for notices: the two share a table, and may go to two places.
        clock: unix seconds.

    Raises:
        InvalidFile: `ca` cannot be read.
    """

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        *,
        url: str,
        secret: bytes,
        ca: Path | None = None,
        family: str = "application",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.audit = audit
        self.url = url
        self.before: Callable[[], object] = lambda: None
        """Called before each look at the queue, in the thread that delivers."""
        self._family = family
        notices = webhook_table.c.event.startswith("notice.")
        self._mine = notices if family == "notice" else ~notices
        self._secret = secret
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        if url.startswith("https:"):
            try:
                self._context = ssl.create_default_context(cafile=None if ca is None else str(ca))
            except (OSError, ssl.SSLError) as error:
                raise InvalidFile(str(ca), f"cannot be read: {error}", "correct [server] webhook_ca") from error
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # ----------------------------------------------------------------- queueing

    def queue(self, event: str, document: Mapping[str, Any], *, what: str = "application") -> None:
        """Queue an answer, in the transaction of this thread.

        Args:
            event: "application.ready", "application.stopped" or "application.decided"; others of another kind of thing.
            document: what it tells of, with its id; an application as the API shows it.
            what: kind of thing, and the name of the document in the body.
        """
        order = str(document["id"]) if what == "application" else f"{what}/{document['id']}"
        self._queue("mpcredit/webhook", event, order, {what: dict(document)})

    def queue_notice(self, event: str, notice: Mapping[str, Any]) -> None:
        """Queue a notice about a customer, in the transaction of this thread; no notice waits for another.

        Args:
            event: "notice.asked" or "notice.answered".
            notice: customer, application, inquiry, asked_by, asked_at, purpose.
        """
        self._queue("mpcredit/notice", event, secrets.token_hex(16), {"notice": dict(notice)})

    def _queue(self, form: str, event: str, order: str, content: Mapping[str, Any]) -> None:
        now, delivery = int(self._clock()), secrets.token_hex(16)
        body = json.dumps(
            {"format": form, "version": 1, "delivery": delivery, "event": event, "at": now, **content},
            ensure_ascii=False,
            separators=(",", ":"),
        )
        with self.database.transaction() as connection:
            connection.execute(
                webhook_table.insert().values(
                    delivery=delivery,
                    application=order,
                    event=event,
                    body=body,
                    created_at=now,
                    attempts=0,
                    next_at=now,
                    state="pending",
                    problem="",
                )
            )

    def status(self) -> tuple[int, int, str]:
        """How many wait, how many were given up, and the last problem of those that wait."""
        c = webhook_table.c
        with self.database.read() as connection:
            query = select(c.state, func.count()).where(self._mine).group_by(c.state)
            counts = {state: int(n) for state, n in connection.execute(query)}
            problem = connection.scalar(
                select(c.problem)
                .where(self._mine, c.state == "pending", c.problem != "")
                .order_by(c.id.desc())
                .limit(1)
            )
        return counts.get("pending", 0), counts.get("given_up", 0), str(problem or "")

    # ----------------------------------------------------------------- delivering

    def start(self) -> None:
        """Start to deliver."""
        self._thread = threading.Thread(target=self._run, name="mpcredit-webhook", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the attempt that is under way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2 * TIMEOUT)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.before()
                self.deliver()
            except MpcreditError as error:
                log.warning("answers are not delivered", trouble=str(error))
            except Exception:  # a mistake must be seen, and must not end the deliveries
                log.exception("answers are not delivered")
            self._stopping.wait(PAUSE)

    def deliver(self) -> int:
        """Try everything that is due, once.

        Returns:
            How many answers were taken.
        """
        c = webhook_table.c
        now = int(self._clock())
        # (1) what is due, the oldest first; of each application only the first that waits, so that order is kept.
        first = select(func.min(c.id)).where(self._mine, c.state == "pending").group_by(c.application)
        query = select(webhook_table).where(c.id.in_(first), c.next_at <= now).order_by(c.id).limit(ROUND)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        taken = 0
        for row in rows:
            if self._stopping.is_set():
                break
            # (2) no transaction is held while the other side takes its time.
            reached, problem = self._post(row)
            taken += not problem
            self._note(row, problem)
            if not reached:
                break  # nobody is there: the others need not try as well
        return taken

    def _post(self, row: Any) -> tuple[bool, str]:
        """One attempt: whether anybody answered, and what is wrong, nothing if it was taken."""
        body = str(row.body).encode()
        parts = urlsplit(self.url)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": f"mpcredit/{__version__}",
            DELIVERY_HEADER: row.delivery,
            EVENT_HEADER: row.event,
            SIGNATURE_HEADER: sign(self._secret, int(self._clock()), body),
        }
        host = parts.hostname or ""
        connection = (
            http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT)
            if self._context is None
            else http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT, context=self._context)
        )
        with contextlib.closing(connection):
            try:
                connection.request(
                    "POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers
                )
                with connection.getresponse() as response:  # a redirection is not followed: it could lead anywhere
                    status = response.status
            except (OSError, http.client.HTTPException, ValueError) as error:
                return False, f"cannot be reached: {str(error) or type(error).__name__}"
        return True, "" if 200 <= status < 300 else f"answered with status {status}"

    def _note(self, row: Any, problem: str) -> None:
        now, attempts = int(self._clock()), int(row.attempts) + 1
        about = row.application if "/" in row.application else f"{self._family}/{row.application}"
        word = "answer" if self._family == "application" else self._family
        values: dict[str, Any] = {"attempts": attempts, "problem": problem}
        with self.database.transaction() as connection:
            if not problem:
                values |= {"state": "delivered", "body": None, "ended_at": now}
                self.audit.append(
                    "node", f"{word}.delivered", about, event=row.event, delivery=row.delivery, attempts=attempts
                )
            elif now - int(row.created_at) >= GIVE_UP_SECONDS:
                values |= {"state": "given_up", "body": None, "ended_at": now}
                self.audit.append(
                    "node",
                    f"{word}.given_up",
                    about,
                    problem,
                    event=row.event,
                    delivery=row.delivery,
                    attempts=attempts,
                )
            else:
                values["next_at"] = now + min(LONGEST_WAIT, FIRST_WAIT << min(attempts - 1, 16))
            connection.execute(webhook_table.update().where(webhook_table.c.id == row.id).values(**values))
        if problem:
            log.warning(f"{word} not taken", about=about, attempts=attempts, problem=problem)
