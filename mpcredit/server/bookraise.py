"""The imported loan book under a newer tag key: raised from its own tags, without the identity numbers (R4).

Each book becomes a new snapshot, as an import would make it: its rows are read in batches, their tags raised, sorted in a
spool and written invisibly; one transaction swaps it in. So a run that is cut off at any point leaves the book before,
under the version that its snapshot names, and the next run does the rest. A million customers take minutes, so that a
server raises in a thread of its own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import select

from mpcredit.errors import StoreError
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import (
    BATCH,
    Snapshot,
    _abandon,
    _clean,
    _directory,
    _exclusive,
    _Loading,
    _Spool,
    _visible,
    current_snapshots,
)
from mpcredit.server.database import Database
from mpcredit.server.database import book_row_table as rows_table
from mpcredit.tags import Tagger

__all__ = ["BookRaiser", "raise_books"]


def raise_books(
    database: Database,
    audit: AuditLog,
    tagger: Tagger,
    *,
    spool: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> tuple[Snapshot, ...]:
    """Bring the books in use to the newest tag key; those that are there already stay as they are.

    Args:
        spool: directory for the rows on their way, as of `import_book`.

    Returns:
        The books in use afterwards.

    Raises:
        StoreError: the database failed, or an import runs; the book before stays.
    """
    with _exclusive(database):
        for present in current_snapshots(database):
            if present.tag_key_version < tagger.version:
                _clean(database, present.schema)
                with _directory(database, spool) as directory:
                    _raise(database, audit, present, tagger, directory, clock)
    return current_snapshots(database)


def _raise(
    database: Database,
    audit: AuditLog,
    present: Snapshot,
    tagger: Tagger,
    directory: Path,
    clock: Callable[[], float],
) -> None:
    spool = _Spool(directory, present.schema.hash)
    try:
        for number, (tag, figures) in enumerate(_rows(database, present)):
            spool.add(number, tagger.raised(tag, present.tag_key_version), figures)
        spool.sort()
        loading = _Loading(database, present.number, _facts(present, tagger.version, int(clock())))
        try:
            loading.write(spool.merged(), lambda _done: None)
            # Every tag is another one, and no figure: people are told how the import changed the book.
            loading.count(
                customers=present.customers, added=present.added, changed=present.changed, removed=present.removed
            )
            loading.swap(audit, "node", int(clock()), action="book.raised")
        except BaseException:
            with contextlib.suppress(StoreError):
                _abandon(database, present.schema.id, loading.number)
            raise
    finally:
        spool.close()


def _facts(present: Snapshot, version: int, started: int) -> dict[str, Any]:
    return {
        "schema": present.schema.id,
        "definition": present.schema.definition,
        "as_of": present.as_of,
        "currency": present.currency,
        "institution": present.institution,
        "tag_key_version": version,
        "source": present.source,
        "started_at": started,
        "rejected": present.rejected,
    }


def _rows(database: Database, present: Snapshot) -> Iterator[tuple[bytes, bytes]]:
    """Tag and figures of a snapshot. Nobody else writes rows meanwhile (`_exclusive`)."""
    after = b""
    while True:
        with database.read() as connection:
            found = connection.execute(
                select(rows_table.c.tag, rows_table.c.figures)
                .where(rows_table.c.schema == present.schema.id, rows_table.c.tag > after, _visible(present.number))
                .order_by(rows_table.c.tag)
                .limit(BATCH)
            ).all()
        for tag, figures in found:
            yield bytes(tag), bytes(figures)
        if len(found) < BATCH:
            return
        after = bytes(found[-1][0])


class BookRaiser:
    """Raises the imported books in a thread, so that the worker goes on.

    Args:
        database, audit: the server's.
    """

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def advance(self, tagger: Tagger, patience: float) -> None:
        """Start if nothing runs, and look whether it has ended. The caller looks at the snapshots then.

        Args:
            patience: seconds for which a start waits for the end.

        Raises:
            StoreError: the run that ended last failed; the next call starts again.
        """
        if self._thread is None:
            self._error = None
            self._thread = threading.Thread(target=self._run, args=(tagger,), name="mpcredit-raise", daemon=True)
            self._thread.start()
            self._thread.join(patience)
        if self._thread.is_alive():
            return
        self._thread = None
        if self._error is not None:
            raise self._error

    def _run(self, tagger: Tagger) -> None:
        try:
            raise_books(self._database, self._audit, tagger)
        except Exception as error:  # told by the worker
            self._error = error
