"""Imports of the loan book that a person or a system starts at the server: one at a time, told as they go.

The import itself is `bookimport`'s work, in a thread of its own: the worker goes on, and answers from the book before until
the new one is whole. An upload lies on the disk beside the database, never in memory, and is deleted after its import. What
a crash leaves of either is cleared away at the next start; the book before stays in use.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mpcredit.errors import MpcreditError, Refused, StoreError
from mpcredit.institution import Institution
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import (
    CsvFile,
    Progress,
    Snapshot,
    Source,
    SqlQuery,
    _exclusive,
    current_snapshots,
    import_book,
)
from mpcredit.server.database import Database
from mpcredit.server.logs import get_logger
from mpcredit.server.node import Node
from mpcredit.server.settings import ServerSettings

__all__ = ["BookDesk", "ImportStatus", "Upload"]

TELL_SECONDS: Final = 0.5
"""Pages are told of progress no more often."""
LONGEST_NAME: Final = 60
"""Characters of a file's name: four bytes each are below what a directory holds."""
STAGES: Final = ("upload", "read", "sort", "write")
log = get_logger("mpcredit.server.bookdesk")


@dataclass(frozen=True)
class ImportStatus:
    """The last import of this process, or the one that runs."""

    state: str = "none"
    """none, running, done or failed."""
    stage: str = ""
    """upload, read, sort or write."""
    rows: int = 0
    rejected: int = 0
    share: float | None = None
    """Of the stage, 0 to 1; None where it is not known."""
    source: str = ""
    by: str = ""
    """Actor, as in the audit log."""
    started_at: float = 0.0
    ended_at: float = 0.0
    error: str = ""
    remedy: str = ""

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.state == "running"

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.ended_at - self.started_at)

    def document(self) -> dict[str, Any]:
        """For a JSON document."""
        return {**vars(self), "seconds": round(self.seconds, 3) if self.ended_at else None}


class Upload:
    """The place of one upload, and the right to import: nobody else may until `start` or `drop`."""

    def __init__(self, desk: BookDesk, directory: Path, name: str) -> None:
        self._desk = desk
        self._directory = directory
        self.path = directory / name
        """Where the file's bytes go."""

    def start(self, *, strict: bool, older: bool) -> None:
        """Import it."""
        self._desk._run(CsvFile(self.path), strict=strict, older=older, done=self._delete)

    def drop(self) -> None:
        """It did not arrive."""
        self._delete()
        self._desk._end(error="the upload was broken off", remedy="send the file again")

    def tell(self, received: int, expected: int | None) -> None:
        """Say how much of it is here, in bytes."""
        self._desk._progress("upload", 0, 0, None if not expected else min(1.0, received / expected))

    def _delete(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


class BookDesk:
    """Starts imports, and knows how they went.

    Args:
        settings: which import by SQL is configured.
        database: of the server.
        node: told to take the new book, and tells the pages.
        audit: gets what failed; what was imported is written by the import itself.
    """

    def __init__(
        self,
        settings: ServerSettings,
        database: Database,
        node: Node,
        audit: AuditLog,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.database = database
        self.node = node
        self.audit = audit
        self._clock = clock
        self._lock = threading.Lock()
        self._status = ImportStatus()
        self._told = 0.0
        self._thread: threading.Thread | None = None
        self.ended = {"done": 0, "failed": 0}
        """Imports since the start, by how they ended."""
        name = hashlib.sha256(database.url_safe.encode()).hexdigest()[:16]
        self._parent = database.path.parent if database.path is not None else Path("/var/tmp")
        self._prefix = f".mpcredit-upload-{name}-"
        self.rejects = self._parent / f".mpcredit-rejects-{name}.csv"
        """Row, field and reason of the rows that the last import rejected; only the server's account can read it."""
        for left in self._parent.glob(f"{self._prefix}*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)

    # ----------------------------------------------------------------- what is there

    def status(self) -> ImportStatus:
        """How the last import went, or goes."""
        return self._status

    def snapshots(self) -> tuple[Snapshot, ...]:
        """The books in use, one for each schema."""
        return current_snapshots(self.database)

    def terms(self) -> tuple[int, int, str]:
        """How old a book may be, in seconds; the newest version of the tag key; and why that is not in use here, if so.

        The numbers are 0 where the ledger was not read yet.
        """
        with self.node.locked() as party:
            state = party.follower.state
            limit = state.parameters.book_age_seconds if state.parameters else 0
            return limit, max(party.follower.tag_keys, default=0), party.desk.tag_key_hindrance

    @property
    def some_rejected(self) -> bool:
        """Whether the list of the last import has rows."""
        return self.rejects.exists() and self.rejects.stat().st_size > len("row,field,reason\n")

    @property
    def query(self) -> bool:
        """Whether an import by SQL is configured."""
        return bool(self.settings.book_sql_url)

    @property
    def why_not(self) -> str:
        """Why imports would not be used here; empty if they would."""
        if self.settings.book == "file":
            return "this server answers from a file ([server] book)"
        return ""

    # ----------------------------------------------------------------- starting

    def receive(self, name: str, by: str) -> Upload:
        """Make room for an upload.

        Raises:
            Refused: another import runs, or the server answers from a file.
            StoreError: there is no place for it.
        """
        plain = (
            "".join(c for c in name if c.isprintable() and c not in '/\\"')[-LONGEST_NAME:].lstrip(".") or "book.csv"
        )
        self._begin(plain, by, "upload")
        try:
            return Upload(self, Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._parent)), plain)
        except OSError as error:
            self._end(error="there is no place for an upload", remedy="see to permissions and space")
            raise StoreError(
                f"{self._parent}: no directory can be made there: {error.strerror}",
                remedy="see to permissions and space",
            ) from error

    def start_query(self, by: str, *, strict: bool, older: bool) -> None:
        """Import what the configured query gives.

        Raises:
            Refused: another import runs, or none is configured.
            InvalidFile: the query or the password cannot be read.
        """
        asked = self.settings.book_query()
        if asked is None:
            raise Refused(
                "no import by SQL is configured",
                code="no_query",
                remedy="the operator sets book_sql_url and book_sql_query (docs/server.md)",
            )
        source = SqlQuery(*asked)
        self._begin(source.name, by, "read")
        self._run(source, strict=strict, older=older)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the import; returns whether it has ended."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return not self._status.running

    # ----------------------------------------------------------------- going on

    def _begin(self, source: str, by: str, stage: str) -> None:
        if self.why_not:
            raise Refused(self.why_not, code="book", remedy='set book = "auto" or "database" and restart it')
        running = Refused(
            "another import of a loan book runs",
            code="importing",
            remedy="wait for its end; the page shows how far it is",
        )
        with self._lock:
            if self._status.running:
                raise running
            try:
                with _exclusive(self.database):  # of another process, such as `mpcredit book import`
                    pass
            except StoreError as error:
                raise running from error
            self._status = ImportStatus(state="running", stage=stage, source=source, by=by, started_at=self._clock())
        self._publish()

    def _run(self, source: Source, *, strict: bool, older: bool, done: Callable[[], None] = lambda: None) -> None:
        by = self._status.by

        def work() -> None:
            try:
                self.rejects.unlink(missing_ok=True)
                with self.node.locked() as party:
                    assert isinstance(party, Institution)
                    tagger = party.tagger
                import_book(
                    self.database,
                    self.audit,
                    source,
                    tagger,
                    rejects=self.rejects,
                    strict=strict,
                    older=older,
                    actor=by,
                    progress=lambda now: self._tell(now),
                )
            except MpcreditError as error:
                self._end(error=error.message, remedy=error.remedy)
                with contextlib.suppress(MpcreditError):
                    # Not the message: it may quote a row.
                    self.audit.append(
                        by, "book.import_failed", "book", kind=type(error).__name__, rejected=self._status.rejected
                    )
            except Exception as error:
                log.error("a mistake in mpcredit", exc_info=error)
                self._end(error="something went wrong in this server", remedy="tell its operator; the log says what")
            else:
                self._end()
                self.node.wake()
            finally:
                done()

        self._thread = threading.Thread(target=work, name="mpcredit-book", daemon=True)
        self._thread.start()

    def _tell(self, now: Progress) -> None:
        self._progress(now.stage, now.rows, now.rejected, now.share)

    def _progress(self, stage: str, rows: int, rejected: int, share: float | None) -> None:
        before = self._status
        self._status = replace(before, stage=stage, rows=rows, rejected=rejected, share=share)
        at = time.monotonic()
        if stage != before.stage or at - self._told >= TELL_SECONDS:
            self._told = at
            self._publish()

    def _end(self, *, error: str = "", remedy: str = "") -> None:
        state = "failed" if error else "done"
        self.ended[state] += 1
        self._status = replace(
            self._status, state=state, share=None, ended_at=self._clock(), error=error, remedy=remedy
        )
        self._publish()

    def _publish(self) -> None:
        status = self._status
        self.node.publish("book", state=status.state, stage=status.stage, rows=status.rows, rejected=status.rejected)
