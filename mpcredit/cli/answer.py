"""mpcredit answer: the institution's service, which answers others, finishes its own inquiries and does its duties."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mpcredit.books import LoanBook
from mpcredit.cli._access import Station, refuse_beside_server, station
from mpcredit.cli._parties import member_of_account
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load, require_role
from mpcredit.config import book_under
from mpcredit.errors import InvalidFile, LedgerError, MpcreditError

PAUSE_SECONDS = 0.5
MOST_ROUNDS = 200
"""Of --once: a party that never comes to rest would keep it for ever."""


@contextlib.contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, so that a round is finished before the process leaves."""
    stop = threading.Event()

    def told(_signal: int, _frame: object) -> None:
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Rhythm:
    """When a service goes on, waits or leaves.

    Args:
        once: leave when there is nothing to do.
        until_idle: leave when there was nothing to do for so many seconds; None never.
        stop: set when the service is told to stop.
    """

    def __init__(self, once: bool, until_idle: float | None, stop: threading.Event) -> None:
        self._once = once
        self._until_idle = until_idle
        self._stop = stop
        self._rounds = 0
        self._last = time.monotonic()

    def over(self, progress: bool) -> bool:
        """Whether to leave after a round; waits a little if it did nothing."""
        self._rounds += 1
        if self._stop.is_set():
            return True
        if progress:
            self._last = time.monotonic()
            return self._once and self._rounds >= MOST_ROUNDS
        if self._once:
            return True
        if self._until_idle is not None and time.monotonic() - self._last >= self._until_idle:
            return True
        return self._stop.wait(PAUSE_SECONDS)


def stamped(line: str) -> str:
    """A line of a service's output, with the time."""
    return f"{datetime.now(UTC).strftime('%H:%M:%S')}  {line}"


def answer(
    once: Annotated[bool, typer.Option("--once", metavar="", help="Do what is due now, then leave.")] = False,
    until_idle: Annotated[
        float | None,
        typer.Option("--until-idle", metavar="SECONDS", help="Leave after so long without work.", show_default=False),
    ] = None,
    restored: Annotated[
        bool,
        typer.Option(
            "--restored", metavar="", help="The store comes from a backup: refuse every inquiry opened until now (R25)."
        ),
    ] = False,
    new_tenure: Annotated[
        str,
        typer.Option(
            "--new-tenure",
            metavar="REASON",
            help="Begin a new tenure of the store: it was replaced, or set back to a copy. The owner then names it "
            "(mpcredit member appoint).",
        ),
    ] = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Run this institution's service until it is stopped.

    It seals the mask keys to the supervisor, switches readiness, answers others' inquiries or refuses them by the
    consortium's policy, finishes this institution's own inquiries, and does what other commands hand over. A newer loan
    book is read as soon as its file changes. One service at a time; a ledger that is down is waited for.

    Example: mpcredit answer --config /etc/mpcredit/mpcredit.toml
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    refuse_beside_server(settings, "answer")
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        out.say(stamped(line))

    with stoppable() as stop:
        at = station(settings, full=True)
        try:
            assert at.institution is not None
            if new_tenure and at.institution is not None:
                at.institution.start(new_tenure=new_tenure)
                out.say("a new tenure has begun; nothing is answered until the owner names it: mpcredit member appoint")
            if restored:
                at.restored = at.institution.start(restored=True)
            if at.restored:
                say(
                    f"this store is older than the ledger: inquiries up to block {at.outbox.restored_at} are refused (R25); "
                    "later ones are answered"
                )
            _greet(at, say)
            _serve(at, Rhythm(once, until_idle, stop), say, once)
        finally:
            at.store.close()
    out.document({"done": lines})


def _greet(at: Station, say: Callable[[str], None]) -> None:
    assert at.institution is not None
    member = member_of_account(at.follower.state, at.outbox.signer.address, at.keys.institution_versions().values())
    name = f"{member.name} (member {member.index})" if member is not None else "no member yet"
    say(f"service of {name} on {at.ledger.name!r}, block {at.follower.head.number if at.follower.head else 0}")


def _serve(at: Station, rhythm: Rhythm, say: Callable[[str], None], once: bool) -> None:
    """Work until told to stop; a trouble is said once, not in every round."""
    book = _Book(at.config.book)
    trouble = ""
    while True:
        done: list[str] = []
        found = ""
        try:
            done = _refresh(at, book)
        except MpcreditError as error:  # it goes on with the book and the tag key that it has
            found = f"held up: {error}"
        try:
            done += at.work()
        except MpcreditError as error:
            if once:
                raise
            word = "waiting for the ledger" if isinstance(error, LedgerError) else "held up"
            found = f"{word}: {error}"
        if found and found != trouble:
            say(found)
        elif trouble and not found:
            say("that is over")
        trouble = found
        for line in done:
            say(line)
        if rhythm.over(bool(done)):
            return


def _refresh(at: Station, book: _Book) -> list[str]:
    """Use a newer loan book, and the tag key that has come into force.

    Raises:
        InvalidFile: the book's file is not right.
        KeyStoreError: the newest tag key is not at hand; until it is, the institution is not ready.
    """
    institution = at.institution
    assert institution is not None
    tagger = institution.desk.next_tagger()
    if tagger is not None:
        institution.use_tagger(tagger, book_under(tagger, institution.furnisher.book, at.config))
        return [f"tag key {tagger.version} is in force; the loan book is raised to it"]
    if book.changed():
        newer = book.read()
        institution.use_book(newer.index(institution.tagger))
        return [f"read the loan book anew: {len(newer)} customers"]
    return []


class _Book:
    """The loan book's file, read again when it changes."""

    def __init__(self, path: Path | None) -> None:
        assert path is not None
        self._path = path
        self._mark = self._look()

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None  # being exchanged; the book in memory is used
        return found.st_mtime_ns, found.st_size, found.st_ino

    def changed(self) -> bool:
        """Whether the file is another than the one read last."""
        mark = self._look()
        return mark is not None and mark != self._mark

    def read(self) -> LoanBook:
        """The book as the file has it now.

        Raises:
            InvalidFile: it is not right; the one in memory is used.
        """
        mark = self._look()
        try:
            found = LoanBook.read_csv(self._path, collect=True)
        except InvalidFile as error:
            raise InvalidFile(
                error.place, error.problem, f"{error.remedy}; until then the book from before is used"
            ) from error
        self._mark = mark
        return found
