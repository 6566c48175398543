"""The candidate of a rehearsal as a process of its own: its book, its code, its ledger steps; told what to do by lines.

`server.certify` starts it with a copy of the institution's configuration that has a scratch store and a scratch ledger. It
works as `mpcredit serve` does, without pages, and counts every look into its book. Commands come as JSON lines on standard
input, answers go as JSON lines to standard output; the end of the input ends it.

    {"do": "tags", "identities": […]}     -> {"tags": ["0x…" or null, …], "why": ["…", …]}
    {"do": "looks"}                       -> {"looks": 14}
    {"do": "hold", "at": "look"|"send"}   -> {"holding": …}, and at that point {"held": …}, after which it stands still
    {"do": "inquire", "subjects": […]}    -> {"request": "…"}
    {"do": "request", "id": "…"}          -> {"state": "…", "note": "…", "totals": […]}
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mpcredit.books import LoanBook
from mpcredit.config import Config, book_adapter, institution_from_config, read_config
from mpcredit.consent import Consent, Purpose
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidFile, InvalidSubject, LedgerError, MpcreditError
from mpcredit.identity import Subject
from mpcredit.institution import Institution
from mpcredit.ports import Book, Signed, Signer, Taken
from mpcredit.schema import Schema
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import CsvFile, SnapshotBook, SqlQuery, current_snapshots, import_book
from mpcredit.server.database import Database, open_database
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import SqlStore
from mpcredit.tags import Tagger

__all__ = ["ADAPTER", "CSV", "CSV_IMPORT", "SQL", "book_kind", "main"]

ADAPTER: Final = "own adapter"
SQL: Final = "SQL query, imported into the database"
CSV_IMPORT: Final = "CSV file, imported into the database"
CSV: Final = "CSV file"
IDLE_SECONDS: Final = 0.1


def book_kind(config: Config, settings: ServerSettings) -> str:
    """How an institution's figures get in, by its configuration."""
    if config.book_adapter is not None:
        return ADAPTER
    if settings.book != "file" and settings.book_sql_url:
        return SQL
    return CSV_IMPORT if settings.book == "database" else CSV


class _Holds:
    """Where the process is to stand still, so that it can be killed right there."""

    def __init__(self) -> None:
        self.at = ""

    def pass_by(self, place: str) -> None:
        if self.at == place:
            _tell({"held": place})
            while True:
                time.sleep(60)


class _Watched:
    """The candidate's book, every look counted. Implements `ports.Book`."""

    def __init__(self, book: Book, holds: _Holds) -> None:
        self._book = book
        self._holds = holds
        self.looks = 0

    @property
    def as_of(self) -> int:
        return self._book.as_of

    @property
    def currency(self) -> str:
        return self._book.currency

    def record(self, schema: Schema, tag: bytes) -> Mapping[str, int]:
        self.looks += 1
        self._holds.pass_by("look")
        return self._book.record(schema, tag)


class _HeldSigner:
    """The candidate's signer. Implements `ports.Signer`."""

    def __init__(self, signer: Signer, holds: _Holds) -> None:
        self._signer = signer
        self._holds = holds

    @property
    def address(self) -> str:
        return self._signer.address

    def nonce(self) -> int:
        return self._signer.nonce()

    def mined(self) -> int:
        return self._signer.mined()

    def sign(self, call: Any, nonce: int) -> Signed:
        return self._signer.sign(call, nonce)

    def filler(self, nonce: int) -> Signed:
        return self._signer.filler(nonce)

    def raised(self, signed: bytes) -> Signed | None:
        return self._signer.raised(signed)

    def taker(self, nonce: int) -> Taken | None:
        return self._signer.taker(nonce)

    def broadcast(self, signed: bytes) -> None:
        self._holds.pass_by("send")
        self._signer.broadcast(signed)


def _tell(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def _book(config: Config, settings: ServerSettings, database: Database, audit: AuditLog) -> Callable[[Tagger], Book]:
    """The book by the very parts that `mpcredit serve` and `mpcredit book import` use."""
    kind = book_kind(config, settings)
    adapter = book_adapter(config)
    if adapter is not None:
        return adapter
    if kind != SQL and config.book is None:
        raise InvalidFile(f"{config.path}, [book] path", "is missing", "name the loan book (docs/loan-book.md)")
    if kind == CSV:
        assert config.book is not None
        return LoanBook.read_csv(config.book, collect=True).index

    def imported(tagger: Tagger) -> Book:
        if not current_snapshots(database):
            asked = settings.book_query()
            source = SqlQuery(*asked) if asked is not None and kind == SQL else CsvFile(config.book or Path())
            import_book(database, audit, source, tagger, actor="rehearsal")
        return SnapshotBook(database, current_snapshots(database))

    return imported


def _identity(value: Mapping[str, Any]) -> Subject:
    return Subject(value["kind"], value["number"], country=value["country"])


class _Candidate:
    def __init__(self, institution: Institution, book: _Watched, holds: _Holds) -> None:
        self.institution = institution
        self.book = book
        self.holds = holds

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        match command["do"]:
            case "tags":
                return self._tags(command["identities"])
            case "looks":
                return {"looks": self.book.looks}
            case "hold":
                self.holds.at = command["at"]
                return {"holding": self.holds.at}
            case "inquire":
                return {"request": self._inquire([_identity(value) for value in command["subjects"]])}
            case "request":
                request = self.institution.inquirer.get(command["id"])
                return {"state": str(request.state), "note": request.note, "totals": request.totals}
        raise ValueError(f"an unknown command: {command['do']!r}")

    def _tags(self, identities: list[Mapping[str, Any]]) -> dict[str, Any]:
        tags: list[str | None] = []
        why: list[str] = []
        for value in identities:
            try:
                tags.append(to_hex(self.institution.tagger.tag(_identity(value))))
                why.append("")
            except InvalidSubject as error:
                tags.append(None)
                why.append(error.message)
        return {"tags": tags, "why": why}

    def _inquire(self, subjects: list[Subject]) -> str:
        self.institution.sync()
        now = self.institution.follower.now
        consents = [
            Consent.grant(subject, to=self.institution, purpose=Purpose.NEW_CREDIT, days=7, now=now)
            for subject in subjects
        ]
        return self.institution.inquire(subjects, consents=consents, officer="rehearsal").id


def _commands() -> queue.Queue[dict[str, Any] | None]:
    found: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in sys.stdin:
                found.put(json.loads(line))
        found.put(None)

    threading.Thread(target=read, name="commands", daemon=True).start()
    return found


def _run(path: Path) -> None:
    config, settings = read_config(path), ServerSettings.load(path)
    holds = _Holds()
    watched: list[_Watched] = []
    with contextlib.ExitStack() as stack:
        database = open_database(settings)
        stack.callback(database.close)
        store = SqlStore(database)
        stack.callback(store.close)
        audit = AuditLog(database)
        source = _book(config, settings, database, audit)

        def book(tagger: Tagger) -> Book:
            watched.append(_Watched(source(tagger), holds))
            return watched[-1]

        institution = institution_from_config(path, store=store, anchor=lambda: audit.head()[1], book=book)
        outbox = institution.desk.outbox
        outbox.signer = _HeldSigner(outbox.signer, holds)
        institution.start()
        candidate = _Candidate(institution, watched[-1], holds)
        commands = _commands()
        _tell({"started": True, "as_of": watched[-1].as_of, "currency": watched[-1].currency})
        while True:
            try:
                command = commands.get(timeout=IDLE_SECONDS)
                if command is None:
                    return
                _tell(candidate.answer(command))
            except queue.Empty:
                pass
            with contextlib.suppress(LedgerError):
                institution.work()


def main(arguments: list[str] | None = None) -> int:
    """Run the candidate until its input ends."""
    parser = argparse.ArgumentParser(prog="python -m mpcredit.server.candidate")
    parser.add_argument("--config", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        _run(given.config)
    except MpcreditError as error:
        _tell({"error": error.message, "remedy": error.remedy})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
