"""One party's server as a process: everything is built from its configuration, runs until it is told to stop, and is put away.

It knows its configuration, its database and the URL of a node, and no other party. What is stopped or killed at any point
goes on when it is started again: every ledger step is in the database before it is sent (R24).
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from mpcredit.books import LoanBook
from mpcredit.config import (
    Config,
    book_adapter,
    book_under,
    institution_from_config,
    read_config,
    supervisor_from_config,
)
from mpcredit.errors import InvalidFile, KeyStoreError, LedgerError, MpcreditError, StoreError, WrongLedger
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.ports import Book
from mpcredit.server.app import create_app
from mpcredit.server.applications import Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import SnapshotBook, current_snapshots, retire, sweep
from mpcredit.server.bookraise import BookRaiser, raise_books
from mpcredit.server.database import Database, open_database
from mpcredit.server.logs import configure_logging, get_logger
from mpcredit.server.misuse import Misuse
from mpcredit.server.node import Node, Party
from mpcredit.server.notices import Notices
from mpcredit.server.oidc import provider_of
from mpcredit.server.people import People
from mpcredit.server.rpc import stop_with_parent
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import SqlStore
from mpcredit.server.webhook import Webhook
from mpcredit.tags import Tagger

__all__ = ["BookFile", "BookKeeper", "main", "serve_party"]

LEDGER_PAUSE: Final = 2.0
"""Seconds between attempts to reach the ledger at start."""
RAISE_SECONDS: Final = 5.0
"""For so long the first round waits for the loan book to be raised to a new tag key; most books take less."""
SWEPT: Final = 2_000
"""Rows of old loan books that are deleted in one round."""
STOP_SECONDS: Final = 10
"""How long open connections may take at the end; after that they are cut."""


class BookFile:
    """The loan book's file: read again when it changes, and raised when another tag key comes into force.

    Args:
        config: of the institution.
    """

    def __init__(self, config: Config) -> None:
        assert config.book is not None
        self._config = config
        self._path = config.book
        self._mark = self._look()

    def __call__(self, institution: Institution, tagger: Tagger) -> list[str]:
        """Do what is due.

        Args:
            tagger: of the newest tag key that is at hand.

        Raises:
            InvalidFile: the new file is not right; the book in memory stays in use.
        """
        if tagger.version > institution.tagger.version:
            institution.use_tagger(tagger, book_under(tagger, institution.furnisher.book, self._config))
            return [f"tag key {tagger.version} is in force; the loan book is raised to it"]
        mark = self._look()
        if mark is None or mark == self._mark:
            return []
        self._mark = mark
        try:
            book = LoanBook.read_csv(self._path, collect=True)
        except InvalidFile as error:
            raise InvalidFile(
                error.place, error.problem, f"{error.remedy}; until then the book from before is used"
            ) from error
        institution.use_book(book.index(tagger))
        return [f"read the loan book anew: {len(book)} customers"]

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None  # being exchanged; the book in memory is used
        return found.st_mtime_ns, found.st_size, found.st_ino


class BookKeeper:
    """Where an institution's figures come from: its own adapter, the loan book's file, or what was imported.

    Args:
        config: of the institution.
        mode: "file", "database", or "auto": the file until the first import.
        database, audit: of the server.

    Raises:
        InvalidFile: there is no book.
    """

    def __init__(self, config: Config, mode: str, database: Database, audit: AuditLog) -> None:
        self._adapter = book_adapter(config)
        self._mode = "file" if self._adapter is not None else mode
        self._database = database
        self._audit = audit
        self._used = () if self._mode == "file" else current_snapshots(database)
        if not self._used and self._adapter is None:
            if mode == "database":
                raise InvalidFile(
                    f"{config.path}, [server] book",
                    "is the database, and no loan book was imported into it",
                    "run `mpcredit book import`, or name a file in [book] path",
                )
            if config.book is None:
                raise InvalidFile(
                    f"{config.path}, [book] path", "is missing", "name the loan book, or run `mpcredit book import`"
                )
        self._file = BookFile(config) if config.book is not None and self._adapter is None else None
        self._raiser = BookRaiser(database, audit)
        self._sweeping = True
        self._told = ""

    @property
    def book(self) -> Callable[[Tagger], Book] | None:
        """Gives the book for a tag key; None: the file is the book."""
        return self._adapter or (self._at_start if self._used else None)

    def __call__(self, institution: Institution) -> list[str]:
        """Do what is due: use the newest book, under the newest tag key.

        Raises:
            InvalidFile, StoreError: the newer book cannot be had; the one before stays in use.
        """
        tagger, lines = self._newest(institution)
        found = () if self._mode == "file" else current_snapshots(self._database)
        if self._adapter is not None:
            return lines + self._adapted(institution, self._adapter, tagger)
        if not found:
            return lines if self._file is None else lines + self._file(institution, tagger)
        # (1) a book under an earlier tag key is raised first; the institution judges and opens nothing meanwhile.
        if any(one.tag_key_version < tagger.version for one in found):
            self._raiser.advance(tagger, RAISE_SECONDS)
            found = current_snapshots(self._database)
        if any(one.tag_key_version != tagger.version for one in found):
            return lines  # not raised yet, or imported by a command that has read the ledger further than this node
        # (2) a newer import, or the raised one.
        if tagger.version != institution.tagger.version or found != self._used:
            self._used, self._sweeping = found, True
            institution.use_tagger(tagger, SnapshotBook(self._database, found))
            lines.append(
                f"loan book {max(one.number for one in found)} is in use: {max(one.customers for one in found)} "
                f"customers, tag key {tagger.version}"
            )
        # (3) rows of books that nobody reads any more, some in each round.
        if self._sweeping:
            retire(self._database, [one.number for one in found])
            self._sweeping = sweep(self._database, SWEPT) > 0
        return lines

    def _newest(self, institution: Institution) -> tuple[Tagger, list[str]]:
        """The tagger of the newest tag key that is at hand, and what to tell of one that is not, once."""
        try:
            found, trouble = institution.desk.next_tagger(), ""
        except KeyStoreError as error:  # the rest of the service goes on; it is not ready (`Membership.why_not`)
            found, trouble = None, str(error)
        before, self._told = self._told, trouble
        return found or institution.tagger, [trouble] if trouble and trouble != before else []

    @staticmethod
    def _adapted(institution: Institution, adapter: Callable[[Tagger], Book], tagger: Tagger) -> list[str]:
        """An own adapter keeps its figures fresh by itself; another tag key is told to it."""
        if tagger.version == institution.tagger.version:
            return []
        institution.use_tagger(tagger, adapter(tagger))
        return [f"tag key {tagger.version} is in force; the book's adapter was asked for the book under it"]

    def _at_start(self, tagger: Tagger) -> Book:
        """The imported book, raised if a tag key came into force while the server did not run.

        Raises:
            LedgerError: the book is under a tag key that the node does not know yet.
            StoreError: it cannot be raised now.
        """
        if any(one.tag_key_version > tagger.version for one in self._used):
            raise LedgerError(
                "the loan book is under a tag key that this node has not heard of",
                remedy="see to the node: it is behind",
            )
        if any(one.tag_key_version < tagger.version for one in self._used):
            self._used = raise_books(self._database, self._audit, tagger)
        return SnapshotBook(self._database, self._used)


class _Server(uvicorn.Server):
    """uvicorn, told from outside when to stop, and telling the listeners of events first.

    Without that it would wait for connections that never end by themselves.
    """

    def __init__(self, config: uvicorn.Config, node: Node, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._node = node
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `serve_party`, which waits for more than connections."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    async def shutdown(self, sockets: Any = None) -> None:
        """End the streams of events, then close."""
        self._node.end_subscriptions()
        await super().shutdown(sockets)


def serve_party(
    path: Path,
    *,
    attest: bool = True,
    new_tenure: str = "",
    with_parent: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the party of a configuration until SIGTERM or Ctrl-C; a second one ends it without waiting for answers.

    Args:
        path: the configuration file.
        attest: a supervisor puts its verdicts on the ledger.
        new_tenure: why a person begins a new tenure of the database; empty if nobody does. The owner must name it.
        with_parent: stop when standard input ends.
        say: takes lines for whoever started it.

    Raises:
        InvalidFile, KeyStoreError, StoreError, LedgerError: what is wrong, where, and the remedy.
    """
    stop, hurry = threading.Event(), threading.Event()
    server: list[_Server] = []

    def told(_signal: int = 0, _frame: FrameType | None = None) -> None:
        if stop.is_set():
            hurry.set()  # told twice: at once
        stop.set()
        for running in server:
            running.should_exit = True

    def orphaned() -> None:
        hurry.set()
        told()

    # (1) everything that can be wrong without touching the database.
    config = read_config(path)
    _one_store(config)
    settings = ServerSettings.load(path)
    configure_logging(settings.log_level)
    listening = _listen(settings)
    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    if with_parent:
        stop_with_parent(orphaned)
    with contextlib.ExitStack() as stack:
        stack.callback(listening.close)
        stack.callback(lambda: [signal.signal(number, handler) for number, handler in before.items()])
        # (2) the database, of which this process is the one writer from here on.
        database = open_database(settings)
        stack.callback(database.close)
        store = SqlStore(database)
        stack.callback(store.close)
        audit = AuditLog(database)
        people = People(
            database,
            audit,
            session_hours=settings.session_hours,
            session_idle_minutes=settings.session_idle_minutes,
            sign_in_minutes=settings.sign_in_minutes,
        )
        # (3) the party; a ledger that is down is waited for.
        keeper = BookKeeper(config, settings.book, database, audit) if config.role == "institution" else None
        party = _party(config, store, audit, keeper, attest, new_tenure, stop)
        if party is None:
            return
        if isinstance(party, SupervisorNode):
            party.supervisor.by_hand = settings.verdicts == "by_hand"
        upkeep = [keeper] if keeper is not None else []
        node = Node(party, upkeep=upkeep, say=_logger(config))
        # (4) the pages, and the worker behind them.
        webhook = _webhook(settings, database, audit) if isinstance(party, Institution) else None
        app = _application(settings, database, node, people, audit, webhook)
        notices = _notices(settings, database, audit) if isinstance(party, Institution) else None
        if notices is not None:
            node.each_round(notices.follow)
            app.state.notices = notices
        uvicorn_config = uvicorn.Config(app, **settings.uvicorn(), timeout_graceful_shutdown=STOP_SECONDS)
        server.append(_Server(uvicorn_config, node, lambda: say(f"{node.name} serves at {settings.origin}")))
        node.start()
        stack.callback(node.leave, hurry)
        if webhook is not None:
            webhook.start()
            stack.callback(webhook.stop)
        if notices is not None:
            notices.webhook.start()
            stack.callback(notices.webhook.stop)
        if not stop.is_set():
            server[0].run(sockets=[listening])


def _one_store(config: Config) -> None:
    """The server's database is the party's only store: a second one could answer an inquiry twice (R24, R25).

    Raises:
        InvalidFile: other commands would use another store.
        StoreError: the store of `mpcredit answer` or `mpcredit watch` is still there.
    """
    if not config.served:
        raise InvalidFile(
            f"{config.path}, [server]",
            "is missing",
            "add the table, with a database: it tells every command that the store is the server's (deploy/bank.toml)",
        )
    if config.store.exists():
        then = " with --new-tenure REASON" if config.role == "institution" else ""
        raise StoreError(
            f"{config.store}: is this party's store from before there was a server, and knows what the server does not",
            remedy=f"finish with it and move it away for good, then start{then} (deploy/README.md)",
        )


def _listen(settings: ServerSettings) -> socket.socket:
    """A socket bound to the server's address; nobody can connect before the server runs.

    Raises:
        InvalidFile: the address is not this machine's, or is in use.
    """
    try:
        (family, kind, protocol, _name, address), *_rest = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise InvalidFile(
            f"[server] host and port, {settings.host}:{settings.port}",
            f"cannot be listened on: {error.strerror}",
            "stop the other server, or choose another port",
        ) from error
    return made


def _party(
    config: Config,
    store: SqlStore,
    audit: AuditLog,
    keeper: BookKeeper | None,
    attest: bool,
    new_tenure: str,
    stop: threading.Event,
) -> Party | None:
    """The party, as soon as the ledger answers; None when told to stop before."""
    log, told = get_logger(), ""

    def anchor() -> bytes:
        return audit.head()[1]

    while not stop.is_set():
        try:
            party: Party = (
                institution_from_config(config.path, store=store, anchor=anchor, book=keeper.book)
                if keeper is not None
                else supervisor_from_config(config.path, attest=attest, store=store, anchor=anchor)
            )
            _compare(party, new_tenure)
            return party
        except WrongLedger:
            raise
        except LedgerError as error:
            if str(error) != told:
                log.warning("waiting for the ledger", trouble=str(error))
                told = str(error)
            stop.wait(LEDGER_PAUSE)
    return None


def _compare(party: Party, new_tenure: str) -> None:
    """Compare store and ledger before anything is done (R25); the outbox logs what it finds."""
    if isinstance(party, Institution):
        party.start(new_tenure=new_tenure)
    elif new_tenure:
        raise StoreError("a supervisor has no tenure", remedy="start it without --new-tenure")
    else:
        party.outbox.compare()


def _logger(config: Config) -> Callable[[str], None]:
    log = get_logger()

    def say(line: str) -> None:
        log.info("done", line=line, role=config.role)

    return say


def _webhook(settings: ServerSettings, database: Database, audit: AuditLog) -> Webhook | None:
    if not settings.webhook_url:
        return None
    return Webhook(database, audit, url=settings.webhook_url, secret=settings.webhook_secret(), ca=settings.webhook_ca)


def _notices(settings: ServerSettings, database: Database, audit: AuditLog) -> Notices | None:
    if not settings.notice_url:
        return None
    secret, ca = settings.webhook_secret(), settings.webhook_ca
    return Notices(database, Webhook(database, audit, url=settings.notice_url, secret=secret, ca=ca, family="notice"))


def _application(
    settings: ServerSettings, database: Database, node: Node, people: People, audit: AuditLog, webhook: Webhook | None
) -> Any:
    misuse = Misuse(database, node, audit, people, settings.misuse, webhook=webhook)
    applications = Applications(database, node, audit, webhook=webhook, misuse=misuse)
    return create_app(settings, node, people, audit, applications, provider_of(settings))


def main(arguments: list[str] | None = None) -> int:
    """`mpcredit serve` without the rest of the command line, which a process of `mpcredit up` does not need."""
    parser = argparse.ArgumentParser(prog="python -m mpcredit.server.serve")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--no-attest", action="store_true")
    parser.add_argument("--with-parent", action="store_true")
    given = parser.parse_args(arguments)
    try:
        serve_party(given.config, attest=not given.no_attest, with_parent=given.with_parent, say=_print)
    except MpcreditError as error:
        print(f"error: {error.message}\nremedy: {error.remedy}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
