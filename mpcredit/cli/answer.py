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
from mpcredit.institution import wind_down
from mpcredit.tenure import member_index

PAUSE_SECONDS = 0.5
MOST_ROUNDS = 200
"""Of --once: a party that never comes to rest would keep it for ever."""


class Stop(threading.Event):
    """Set by the first signal to stop; `again` is set by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.again = threading.Event()

    def told(self, _signal: int, _frame: object) -> None:
        """Handle a signal."""
        (self.again if self.is_set() else self).set()


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """An event that SIGTERM and Ctrl-C set, so that a round is finished before the process leaves."""
    stop = Stop()
    before = {number: signal.signal(number, stop.told) for number in (signal.SIGTERM, signal.SIGINT)}
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

    Stopped by SIGTERM or Ctrl-C it switches itself off and answers what was opened over it until then, for at most 150
    seconds; a second signal ends it at once.

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
            if new_tenure:
                at.institution.start(new_tenure=new_tenure)
                out.say("a new tenure has begun; nothing is answered until the owner names it: mpcredit member appoint")
            _greet(at, say)
            service = _Service(at, say, once)
            rhythm = Rhythm(once, until_idle, stop)
            while not rhythm.over(service.round()):
                pass
            if stop.is_set() and not once:
                pause = stop.again.wait
                wind_down(
                    at.institution,
                    end=stop.again.is_set,
                    say=say,
                    work=lambda: service.round() or pause(PAUSE_SECONDS),
                )
        finally:
            at.store.close()
    out.document({"done": lines})


def _greet(at: Station, say: Callable[[str], None]) -> None:
    assert at.institution is not None
    publics, index = at.keys.institution_versions().values(), member_index(at.store)
    member = member_of_account(at.follower.state, at.outbox.signer.address, publics, index)
    name = f"{member.name} (member {member.index})" if member is not None else "no member yet"
    say(f"service of {name} on {at.ledger.name!r}, block {at.follower.head.number if at.follower.head else 0}")


class _Service:
    """Rounds of the service; a trouble is said once, not in every round.

    Args:
        once: a trouble ends it.
    """

    def __init__(self, at: Station, say: Callable[[str], None], once: bool) -> None:
        self._at = at
        self._say = say
        self._once = once
        self._book = _Book(at.config.book)
        self._trouble = ""

    def round(self) -> bool:
        """Do what is due now; returns whether there was anything."""
        done: list[str] = []
        found = ""
        try:
            done = _refresh(self._at, self._book)
        except MpcreditError as error:  # it goes on with the book and the tag key that it has
            found = f"held up: {error}"
        try:
            done += self._at.work()
        except MpcreditError as error:
            if self._once:
                raise
            word = "waiting for the ledger" if isinstance(error, LedgerError) else "held up"
            found = f"{word}: {error}"
        if found and found != self._trouble:
            self._say(found)
        elif self._trouble and not found:
            self._say("that is over")
        self._trouble = found
        for line in done:
            self._say(line)
        return bool(done)


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
