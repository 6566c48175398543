"""The loan book in the server's database: imported from a CSV file or a SQL query, by tag, and answered from there.

An import is a stream, so that it takes the same memory for a thousand customers and a million: below 256 MiB for the
whole process (benchmarks/bookimport.py measures it).

    1. read     each row is checked (docs/loan-book.md) and turned into tag, content hash and figures, in a spool file
    2. sort     the spool, by tag; a second row of one customer is found here
    3. write    spool and present snapshot are merged in the order of tags: rows that are the same stay as they are,
                new and changed ones are added for the new snapshot, changed and missing ones end with it
    4. swap     one transaction makes the new snapshot the current one, with its entry in the audit log

A row says from which snapshot on, and before which one, it holds. So what an import writes is invisible until the swap,
whoever has the snapshot before still reads that one whole, and an import that fails or is killed leaves nothing behind
that counts. Only tags and figures are stored, never identity numbers; `bookraise` brings them to a newer tag key.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import itertools
import os
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from sqlalchemy import (
    Connection,
    CursorResult,
    LargeBinary,
    bindparam,
    create_engine,
    delete,
    func,
    insert,
    literal,
    make_url,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from mpcredit.books import _again, _Problem, _Reader, columns
from mpcredit.domain.book_text import foreign_text
from mpcredit.errors import InvalidFile, Refused, StoreError
from mpcredit.identity import Subject
from mpcredit.schema import FIGURES_1, Record, Schema
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.database import book_row_table as rows_table
from mpcredit.server.database import book_snapshot_table as snapshots_table
from mpcredit.tags import Tagger

__all__ = [
    "CsvFile",
    "Imported",
    "Progress",
    "Snapshot",
    "SnapshotBook",
    "Source",
    "SqlQuery",
    "correct_row",
    "current_snapshots",
    "import_book",
    "retire",
    "sweep",
]

BATCH: Final = 5_000
"""Rows of one transaction: the server, which writes to the same database, waits for no more than that."""
_LISTED_PROBLEMS: Final = 20
_LONGEST_LINE: Final = 1 << 20
_MOST_REMARKS: Final = 100
_SPOOL_CACHE_KIB: Final = 32 << 10
_HASH_BYTES: Final = 16
_AHEAD_SECONDS: Final = 86_400  # a date is read as UTC, and clocks differ
_IMPORT_LOCK: Final = 0x6D70_6372_6564_0003
_LISTED: Final = [column for column in snapshots_table.c if column.name != "state"]


# --- what is known of a snapshot


@dataclass(frozen=True)
class Snapshot:
    """One import that is, or was, the book."""

    number: int
    """Ascending."""
    schema: Schema
    as_of: int
    """Unix seconds as of which the figures hold."""
    currency: str
    institution: str
    tag_key_version: int
    """Version of the tag key under which the tags were made."""
    source: str
    """Name of the file, or URL of the bank's database without its password."""
    started_at: int
    finished_at: int
    customers: int
    added: int
    changed: int
    removed: int
    rejected: int

    @property
    def kept(self) -> int:
        """Rows that stayed as they were."""
        return self.customers - self.added - self.changed


def current_snapshots(database: Database) -> tuple[Snapshot, ...]:
    """The snapshots in use: none before the first import, otherwise one for each schema."""
    with database.read() as connection:
        found = connection.execute(
            select(*_LISTED).where(snapshots_table.c.state == "current").order_by(snapshots_table.c.schema)
        )
        return tuple(_snapshot(row._mapping) for row in found)


def _snapshot(row: Mapping[Any, Any]) -> Snapshot:
    values = {name: value for name, value in row.items() if name not in ("schema", "definition")}
    return Snapshot(schema=Schema.parse(bytes(row["definition"])), **values)


# --- answering from it


class SnapshotBook:
    """The book that `current_snapshots` returned, for ever: a newer one is another object. Implements `ports.Book`.

    Args:
        database: read at each look.
        snapshots: of one currency and tag key, each for another schema.
    """

    def __init__(self, database: Database, snapshots: Sequence[Snapshot]) -> None:
        if not snapshots or len({(found.currency, found.tag_key_version) for found in snapshots}) != 1:
            raise ValueError("the snapshots of a book have one currency and one tag key")
        self._database = database
        self._snapshots = {found.schema.id: found for found in snapshots}
        self.as_of = min(found.as_of for found in snapshots)
        """Unix seconds as of which the figures hold; of several schemas, the oldest."""
        self.currency = snapshots[0].currency
        """ISO 4217 code of all amounts."""
        self.tag_key_version = snapshots[0].tag_key_version
        """Version of the tag key under which the tags were made."""
        self.customers = max(found.customers for found in snapshots)
        """How many customers there are."""

    def record(self, schema: Schema, tag: bytes) -> Mapping[str, int]:
        """The figures of a subject, all zero for who is not a customer.

        Equal work: the one statement gives one row of the same size for both, and that is decoded in the same way.

        Raises:
            Refused: this institution keeps no figures of this schema, whoever is asked about.
            StoreError: the database failed, or the snapshot has been replaced twice.
        """
        snapshot = self._snapshots.get(schema.id)
        if snapshot is None or snapshot.schema != schema:
            raise _unknown_schema(schema)
        figures = select(rows_table.c.figures).where(
            rows_table.c.schema == schema.id, rows_table.c.tag == tag, _visible(snapshot.number)
        )
        nothing = literal(_encode(schema, schema.zero), LargeBinary)
        with self._database.read() as connection:
            found = connection.scalar(
                select(func.coalesce(figures.scalar_subquery(), nothing)).where(
                    snapshots_table.c.number == snapshot.number
                )
            )
        if found is None:
            raise StoreError(f"loan book {snapshot.number} has been replaced twice", remedy="try again")
        return _decode(schema, bytes(found))


def _unknown_schema(schema: Schema) -> Refused:
    return Refused(
        f"this institution keeps no figures of schema {schema.id}",
        code="unknown_schema",
        remedy="import a loan book of this schema",
    )


def _visible(number: int) -> Any:
    return (rows_table.c.first <= number) & or_(rows_table.c.until.is_(None), rows_table.c.until > number)


def _widths(schema: Schema) -> list[tuple[str, int]]:
    return [(part.name, (part.value_bits + 7) // 8) for part in schema.fields]


def _encode(schema: Schema, record: Record) -> bytes:
    """Fields in their order, each of as many bytes as its largest value needs: the same length for every record."""
    return b"".join(record[name].to_bytes(width, "big") for name, width in _widths(schema))


def _decode(schema: Schema, figures: bytes) -> dict[str, int]:
    found, place = {}, 0
    for name, width in _widths(schema):
        found[name] = int.from_bytes(figures[place : place + width], "big")
        place += width
    return found


# --- where rows come from


@dataclass(frozen=True)
class Progress:
    """How far an import is."""

    stage: str
    """"read", "sort" or "write"."""
    rows: int
    """Rows read, or written."""
    rejected: int
    share: float | None
    """Of the stage, 0 to 1; None where it is not known, as with a query."""


@dataclass(frozen=True)
class _Head:
    as_of: int
    institution: str


class Source(Protocol):
    """Something that gives rows."""

    @property
    def name(self) -> str:
        """For people; without secrets."""

    def read(self, checker: _Checker, tell: Callable[[float | None], None]) -> _Head:
        """Hand each row to `checker`, and say how far it is.

        Raises:
            InvalidFile: it is not a loan book, or cannot be read.
        """


@dataclass(frozen=True)
class CsvFile:
    """A file of the form of docs/loan-book.md."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    def read(self, checker: _Checker, tell: Callable[[float | None], None]) -> _Head:
        """See `Source`."""
        try:
            with self.path.open("rb") as stream:
                before = os.fstat(stream.fileno())
                head = self._rows(stream, checker, lambda: tell(stream.tell() / max(1, before.st_size)))
                after = os.fstat(stream.fileno())
        except OSError as error:
            raise InvalidFile(
                str(self.path), f"cannot be read: {error.strerror}", "name an existing, readable CSV file"
            ) from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise InvalidFile(
                self.name, "was changed while it was read", "write it under another name and rename it, import again"
            )
        return head

    def _rows(self, stream: BinaryIO, checker: _Checker, tell: Callable[[], None]) -> _Head:
        lines = _lines(stream, checker)
        # (1) remarks, and the line behind them.
        head: list[str] = []
        for line in lines:
            head.append(line)
            if not line.startswith("#") or len(head) > _MOST_REMARKS:
                break
        remarks, start = checker._remarks(head)
        found = _Head(checker._as_of(remarks), remarks.get("institution", ""))
        if "currency" in remarks:
            checker._check_currency(remarks["currency"], "remark currency")
        # (2) header, then one customer a row.
        start, separator = checker._separator(head, start)
        reader = csv.reader(itertools.chain(head[start:], lines), strict=True, delimiter=separator)
        try:
            checker._check_header(next(reader, []), start + 1)
            for count, cells in enumerate(reader):
                if cells:
                    checker._row(cells, start + reader.line_num)
                if count % BATCH == 0:
                    tell()
        except csv.Error as error:
            raise checker._error(
                f"row {start + reader.line_num}", f"is not CSV: {error}", "close quotes, separate by commas"
            ) from error
        return found


def _lines(stream: BinaryIO, checker: _Checker) -> Iterator[str]:
    text = _LineEnds(stream)
    for number in itertools.count(1):
        raw = text.readline()
        if not raw:
            return
        problem = foreign_text(raw)
        if problem is None and len(raw) > _LONGEST_LINE:
            problem = ("is not a line of text", "save the file as CSV UTF-8")
        if problem is not None:
            raise checker._error(f"row {number}", *problem)
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        yield raw.decode("utf-8")


class _LineEnds:
    """Lines of a file, each with its end as a line feed: also of a file whose lines end with a carriage return alone."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._rest: list[bytes] = []

    def readline(self) -> bytes:
        """The next line, cut where it is too long; empty at the end."""
        if not self._rest:
            raw = self._stream.readline(_LONGEST_LINE + 1)
            self._rest = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").splitlines(keepends=True)[::-1]
        return self._rest.pop() if self._rest else b""


@dataclass(frozen=True)
class SqlQuery:
    """What a query of the bank's own database gives: the columns of docs/loan-book.md, in any order.

    It is one statement, so that the figures are those of one moment, and is sent as it is, in a transaction that only
    reads where the database has such (PostgreSQL, SQLite).
    """

    url: str = field(repr=False)
    """SQLAlchemy URL, with the password where it needs one."""
    query: str
    as_of: int | None = None
    """When the figures held, if that is not now."""
    institution: str = ""

    @property
    def name(self) -> str:
        """The URL without its password."""
        try:
            return make_url(self.url).render_as_string(hide_password=True)
        except ArgumentError:
            return "the database's URL"

    def read(self, checker: _Checker, tell: Callable[[float | None], None]) -> _Head:
        """See `Source`."""
        as_of = int(time.time()) if self.as_of is None else self.as_of
        try:
            engine = create_engine(self.url, poolclass=NullPool)
        except ArgumentError:  # not chained: its text has the URL
            raise InvalidFile(self.name, "cannot be read", "write DIALECT+DRIVER://USER:PASSWORD@HOST/NAME") from None
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise InvalidFile(
                self.name, f"has no driver here: {error}", "install its driver beside mpcredit"
            ) from error
        options: dict[str, Any] = {"stream_results": True, "max_row_buffer": 1_000, "no_parameters": True}
        if engine.dialect.name == "postgresql":
            options["postgresql_readonly"] = True
        try:
            with engine.connect() as connection:
                connection.execution_options(**options)
                if engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("PRAGMA query_only=ON")
                self._rows(connection, checker, tell)
        except SQLAlchemyError as error:
            # Only the driver's own sentence: SQLAlchemy's has the query.
            why = str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
            raise InvalidFile(
                self.name, f"the query failed: {' '.join(why.split())}", "correct the URL or the query"
            ) from error.__cause__
        finally:
            engine.dispose()
        return _Head(as_of, self.institution)

    def _rows(self, connection: Connection, checker: _Checker, tell: Callable[[float | None], None]) -> None:
        with contextlib.closing(connection.exec_driver_sql(self.query.strip().rstrip(";"))) as result:
            self._result(result, checker, tell)

    def _result(self, result: CursorResult[Any], checker: _Checker, tell: Callable[[float | None], None]) -> None:
        if not result.returns_rows:
            raise InvalidFile(self.name, "the query gives no rows", "write a SELECT")
        names = [str(name).lower() for name in result.keys()]  # noqa: SIM118 (a Result, not a mapping)
        expected = columns(checker.schema)
        if sorted(names) == sorted(expected):
            order = [names.index(name) for name in expected]
        else:
            checker._check_header(names, 0)
            raise AssertionError("a header that is refused")
        number = 0
        for part in result.partitions(1_000):
            for row in part:
                number += 1
                checker._row([_cell(row[place]) for place in order], number)
            tell(None)


def _cell(value: object) -> str:
    """A value as a file has it. NUMERIC(18, 4) of an amount of cents has zeros behind it, and says nothing by them."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        # The shortest text that means this float has at most 17 digits; amounts of a schema of 2^48 need 15.
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        written = format(value, "f")
        return written.rstrip("0").rstrip(".") if "." in written else written
    return str(value)


# --- checking and spooling


class _Checker(_Reader):
    """Checks row by row and keeps none of them."""

    def __init__(self, name: str, schema: Schema, currency: str | None, tagger: Tagger, spool: _Spool) -> None:
        super().__init__(Path(name), schema, currency, True)
        self._name = name
        self._tagger = tagger
        self._spool = spool

    def _error(self, where: str, problem: str, remedy: str) -> InvalidFile:
        return InvalidFile(f"{self._name}, {where}" if where else self._name, problem, remedy)

    def _row(self, cells: list[str], number: int) -> None:
        try:
            self._customer([cell.strip() for cell in cells], number)
        except _Problem as problem:
            self._spool.reject(number, problem.where, problem.what, problem.remedy)
        except InvalidFile as error:
            self._spool.reject(number, "currency", error.problem, error.remedy)

    def _first_of(self, _subject: Subject, _number: int) -> None:
        """A second row of one customer is found after sorting."""

    def _keep(self, subject: Subject, number: int, record: Record) -> None:
        self._spool.add(number, self._tagger.tag(subject), _encode(self.schema, record))


class _Spool:
    """Rows on their way, in a private SQLite file: it sorts any number of them in bounded memory."""

    def __init__(self, directory: Path, seal: bytes) -> None:
        self._seal = seal
        self._waiting: list[tuple[int, bytes, bytes]] = []
        self._rejects: list[tuple[int, str, str, str]] = []
        self.rows = 0
        """How many were good when read."""
        self.rejected = 0
        self.currency = ""
        self._db = sqlite3.connect(directory / "rows.sqlite", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            f"PRAGMA cache_size=-{_SPOOL_CACHE_KIB}",
            "CREATE TABLE raw (number INTEGER PRIMARY KEY, tag BLOB, figures BLOB)",
            "CREATE TABLE sorted (tag BLOB PRIMARY KEY, number INTEGER, figures BLOB) WITHOUT ROWID",
            "CREATE TABLE rejected (number INTEGER, field TEXT, problem TEXT, remedy TEXT)",
            "BEGIN",
        ):
            self._db.execute(statement)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def add(self, number: int, tag: bytes, figures: bytes) -> None:
        """Put a good row in."""
        self.rows += 1
        self._waiting.append((number, tag, figures))
        if len(self._waiting) >= BATCH:
            self._flush()

    def reject(self, number: int, where: str, problem: str, remedy: str) -> None:
        """Note a bad row."""
        self.rejected += 1
        self._rejects.append((number, where, problem, remedy))
        if len(self._rejects) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        self._db.executemany("INSERT INTO raw VALUES (?, ?, ?)", self._waiting)
        self._db.executemany("INSERT INTO rejected VALUES (?, ?, ?, ?)", self._rejects)
        self._waiting, self._rejects = [], []

    def sort(self) -> None:
        """Order by tag; of several rows of one customer the first stays."""
        self._flush()
        self._db.execute("INSERT OR IGNORE INTO sorted SELECT tag, number, figures FROM raw ORDER BY tag, number")
        (kept,) = self._db.execute("SELECT count(*) FROM sorted").fetchone()
        if kept != self.rows:
            again = self._db.execute(
                "SELECT raw.number, sorted.number FROM raw JOIN sorted USING (tag) WHERE raw.number <> sorted.number"
            )
            for number, first in again:
                problem = _again(first)
                self.reject(number, problem.where, problem.what, problem.remedy)
            self._flush()
        self.rows = kept
        self._db.execute("DROP TABLE raw")

    def merged(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Tag, content hash and figures, by tag."""
        for tag, figures in self._db.execute("SELECT tag, figures FROM sorted ORDER BY tag"):
            yield tag, hashlib.blake2b(self._seal + figures, digest_size=_HASH_BYTES).digest(), figures

    def problems(self, limit: int = -1) -> Iterator[tuple[int, str, str, str]]:
        """Row, field, problem and remedy of the rejected, by row."""
        return iter(self._db.execute("SELECT * FROM rejected ORDER BY number, rowid LIMIT ?", (limit,)))


# --- importing


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    snapshot: Snapshot
    seconds: float
    rejects: Path | None
    """File of the rejected rows, if it was asked for."""


def import_book(
    database: Database,
    audit: AuditLog,
    source: Source,
    tagger: Tagger,
    *,
    schema: Schema = FIGURES_1,
    currency: str | None = None,
    rejects: Path | None = None,
    strict: bool | None = None,
    older: bool = False,
    actor: str = "console",
    spool: Path | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    clock: Callable[[], float] = time.time,
) -> Imported:
    """Make the rows of a source the book. Until it returns, and if it raises, the book from before is used.

    Args:
        tagger: of the tag key in force.
        currency: refuse rows of another currency; needed for a book without rows.
        rejects: leave bad rows out and write row, field and reason of each to this file. None: strict, one bad row
            and nothing is imported.
        strict: one bad row and nothing is imported, also where `rejects` takes the list of bad rows.
        older: accept figures that are older than those in use.
        actor: for the audit log.
        spool: directory for the rows on their way, at least 150 bytes for each; by default beside the database's file.
        progress: called now and then.

    Raises:
        InvalidFile: the source is wrong (strict: or one of its rows), is older than the book in use, or has no good row
            beside its bad ones.
        StoreError: the database failed, or another import runs.
    """
    begun = time.monotonic()
    with _exclusive(database), _directory(database, spool) as directory:
        # (1) what an import that was killed left behind, and what no reader needs any more.
        _clean(database, schema)
        started = int(clock())
        rows = _Spool(directory, schema.hash)
        try:
            # (2) read, check and sort.
            checker = _Checker(source.name, schema, currency, tagger, rows)
            read = source.read(
                checker, lambda share: progress(Progress("read", rows.rows + rows.rejected, rows.rejected, share))
            )
            progress(Progress("sort", rows.rows + rows.rejected, rows.rejected, None))
            rows.sort()
            _judge(checker, rows, rejects, rejects is None if strict is None else strict)
            if rejects is not None:
                _write_rejects(rejects, rows.problems())
            assert checker.currency is not None
            present = next((found for found in current_snapshots(database) if found.schema.id == schema.id), None)
            if read.as_of > started + _AHEAD_SECONDS:
                raise checker._error(
                    "as_of", "lies in the future, where no book is too old", "correct it, or the clock"
                )
            if present is not None and read.as_of < present.as_of and not older:
                raise checker._error(
                    "as_of",
                    "is before that of the book in use",
                    "import newer figures, or say that older ones are meant",
                )
            # (3) write, invisibly; (4) swap.
            loading = _Loading(
                database,
                present.number if present else 0,
                {
                    "schema": schema.id,
                    "definition": schema.definition,
                    "as_of": read.as_of,
                    "currency": checker.currency,
                    "institution": read.institution,
                    "tag_key_version": tagger.version,
                    "source": source.name,
                    "started_at": started,
                    "rejected": rows.rejected,
                },
            )
            try:
                loading.write(
                    rows.merged(),
                    lambda done: progress(Progress("write", done, rows.rejected, done / max(1, rows.rows))),
                )
                snapshot = loading.swap(audit, actor, int(clock()))
            except BaseException:
                with contextlib.suppress(StoreError):
                    _abandon(database, schema.id, loading.number)
                raise
        finally:
            rows.close()
    return Imported(snapshot, time.monotonic() - begun, rejects)


def _judge(checker: _Checker, rows: _Spool, rejects: Path | None, strict: bool) -> None:
    """Whether what was read may become the book."""
    if rows.rejected and strict:
        if rejects is not None:
            _write_rejects(rejects, rows.problems())
        raise _all_problems(checker, rows)
    if rows.rejected and not rows.rows:
        assert rejects is not None
        _write_rejects(rejects, rows.problems())
        raise checker._error("", "has no good row", f"mend the rows that {rejects} lists, import again")
    if checker.currency is None:
        raise checker._error("", "has no rows, so its currency is not known", "name the currency, if none are meant")


def _all_problems(checker: _Checker, rows: _Spool) -> InvalidFile:
    shown = [
        checker._error(f"row {number}, {where}", problem, remedy)
        for number, where, problem, remedy in rows.problems(_LISTED_PROBLEMS)
    ]
    if rows.rejected == 1:
        return shown[0]
    listing = "".join(f"\n  {problem}" for problem in shown)
    more = rows.rejected - len(shown)
    rest = f"\n  and {more} more" if more else ""
    return checker._error("", f"has {rows.rejected} problems:{listing}{rest}\n", "mend these rows, import again")


def _write_rejects(path: Path, problems: Iterable[tuple[int, str, str, str]]) -> None:
    """Row, field and reason as CSV. The file appears whole; only its owner can read it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("row", "field", "reason"))
            for number, where, problem, remedy in problems:
                writer.writerow((number, where, f"{problem} ({remedy})"))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
    except OSError as error:
        raise InvalidFile(str(path), f"cannot be written: {error.strerror}", "see to path and permissions") from error
    finally:
        temporary.unlink(missing_ok=True)


class _Loading:
    """A snapshot that is being written. `before` is the number of the present one, 0 if there is none."""

    def __init__(self, database: Database, before: int, facts: Mapping[str, Any]) -> None:
        self._database = database
        self._before = before
        self._schema = int(facts["schema"])
        self._counts = {"customers": 0, "added": 0, "changed": 0, "removed": 0}
        with database.transaction() as connection:
            made = connection.execute(insert(snapshots_table).values(state="loading", **facts, **self._counts))
            assert made.inserted_primary_key is not None
            self.number = int(made.inserted_primary_key[0])

    def write(self, rows: Iterable[tuple[bytes, bytes, bytes]], tell: Callable[[int], None]) -> None:
        """Merge new rows and present ones, both in the order of their tags."""
        counts = self._counts
        present = self._present()
        old = next(present, None)
        ends: list[bytes] = []
        starts: list[dict[str, Any]] = []
        for tag, content, figures in rows:
            while old is not None and old[0] < tag:
                counts["removed"] += 1
                ends.append(old[0])
                old = next(present, None)
            counts["customers"] += 1
            same = old is not None and old == (tag, content)
            if old is not None and old[0] == tag:
                if not same:
                    counts["changed"] += 1
                    ends.append(tag)
                old = next(present, None)
            else:
                counts["added"] += 1
            if not same:
                starts.append(
                    {"schema": self._schema, "tag": tag, "first": self.number, "hash": content, "figures": figures}
                )
            if len(starts) + len(ends) >= BATCH:
                self._flush(ends, starts)
                ends, starts = [], []
            if counts["customers"] % BATCH == 0:
                tell(counts["customers"])
        while old is not None:
            counts["removed"] += 1
            ends.append(old[0])
            if len(ends) >= BATCH:
                self._flush(ends, starts)
                ends, starts = [], []
            old = next(present, None)
        self._flush(ends, starts)
        tell(counts["customers"])

    def write_one(self, tag: bytes, seal: bytes, figures: bytes, customers: int) -> None:
        """Change one row, or add it; the others stay."""
        with self._database.read() as connection:
            known = connection.scalar(
                select(rows_table.c.hash).where(
                    rows_table.c.schema == self._schema, rows_table.c.tag == tag, _visible(self._before)
                )
            )
        new = known is None
        self._counts |= {"customers": customers + new, "added": int(new), "changed": int(not new)}
        content = hashlib.blake2b(seal + figures, digest_size=_HASH_BYTES).digest()
        row = {"schema": self._schema, "tag": tag, "first": self.number, "hash": content, "figures": figures}
        self._flush([] if new else [tag], [row])

    def count(self, **counts: int) -> None:
        """State how many customers there are, and how many of them were added, changed and removed."""
        self._counts |= counts

    def _present(self) -> Iterator[tuple[bytes, bytes]]:
        """Tag and hash of the present snapshot's rows. Nobody else writes rows meanwhile (`_exclusive`)."""
        after = b""
        while self._before:
            with self._database.read() as connection:
                found = connection.execute(
                    select(rows_table.c.tag, rows_table.c.hash)
                    .where(rows_table.c.schema == self._schema, rows_table.c.tag > after, _visible(self._before))
                    .order_by(rows_table.c.tag)
                    .limit(BATCH)
                ).all()
            for tag, content in found:
                yield bytes(tag), bytes(content)
            if len(found) < BATCH:
                return
            after = bytes(found[-1][0])

    def _flush(self, ends: Sequence[bytes], starts: Sequence[Mapping[str, Any]]) -> None:
        with self._database.transaction() as connection:
            self._still_ours(connection)
            if ends:
                connection.execute(
                    update(rows_table)
                    .where(
                        rows_table.c.schema == self._schema,
                        rows_table.c.tag == bindparam("ended"),
                        _visible(self._before),
                    )
                    .values(until=self.number),
                    [{"ended": tag} for tag in ends],
                )
            if starts:
                connection.execute(insert(rows_table), list(starts))

    def _still_ours(self, connection: Connection) -> None:
        """An import that lost its lock (PostgreSQL, a lost connection) was cleaned away by the next one."""
        done = connection.execute(
            update(snapshots_table)
            .where(snapshots_table.c.number == self.number, snapshots_table.c.state == "loading")
            .values(self._counts)
        )
        if done.rowcount != 1:
            raise StoreError("another import took over", remedy="import again")

    def swap(self, audit: AuditLog, actor: str, now: int, *, action: str = "book.imported") -> Snapshot:
        """Make this snapshot the current one.

        Args:
            action: for the audit log.
        """
        table = snapshots_table
        with self._database.transaction() as connection:
            self._still_ours(connection)
            connection.execute(
                update(table).where(table.c.schema == self._schema, table.c.state == "current").values(state="previous")
            )
            connection.execute(
                update(table).where(table.c.number == self.number).values(state="current", finished_at=now)
            )
            row = connection.execute(select(*_LISTED).where(table.c.number == self.number)).one()
            snapshot = _snapshot(row._mapping)
            audit.append(
                actor,
                action,
                f"book/{self.number}",
                source=snapshot.source,
                schema=self._schema,
                as_of=snapshot.as_of,
                currency=snapshot.currency,
                tag_key_version=snapshot.tag_key_version,
                customers=snapshot.customers,
                added=snapshot.added,
                changed=snapshot.changed,
                removed=snapshot.removed,
                rejected=snapshot.rejected,
            )
        return snapshot


def correct_row(
    database: Database,
    audit: AuditLog,
    schema: Schema,
    tag: bytes,
    figures: Record,
    *,
    actor: str = "node",
    clock: Callable[[], float] = time.time,
) -> Snapshot:
    """Replace the figures of one customer: a snapshot of its own, of which every other row is that of the present one.

    Its time is the present one's: the rest is as old as before. It holds until the next import.

    Raises:
        StoreError: there is no book of this schema, an import runs, or the database failed; nothing is changed.
    """
    with _exclusive(database):
        # Not the rows of earlier books, which may be millions: the worker, who has the party, sweeps them in small parts.
        _clean_loading(database, schema)
        present = next((found for found in current_snapshots(database) if found.schema.id == schema.id), None)
        if present is None or present.schema != schema:
            raise StoreError("no loan book of this schema was imported", remedy="import it: mpcredit book import")
        started = int(clock())
        loading = _Loading(
            database,
            present.number,
            {
                "schema": schema.id,
                "definition": schema.definition,
                "as_of": present.as_of,
                "currency": present.currency,
                "institution": present.institution,
                "tag_key_version": present.tag_key_version,
                "source": present.source,
                "started_at": started,
                "rejected": present.rejected,
            },
        )
        try:
            loading.write_one(tag, schema.hash, _encode(schema, figures), present.customers)
            return loading.swap(audit, actor, int(clock()))
        except BaseException:
            with contextlib.suppress(StoreError):
                _abandon(database, schema.id, loading.number)
            raise


# --- clearing away


def retire(database: Database, used: Iterable[int] = ()) -> None:
    """Say that nobody reads the snapshots before the current ones any more, except those numbered here."""
    table = snapshots_table
    which = (table.c.state == "previous") & table.c.number.not_in(list(used))
    with database.read() as connection:
        if connection.scalar(select(func.count()).select_from(table).where(which)) == 0:
            return
    with database.transaction() as connection:
        connection.execute(delete(table).where(which))


def sweep(database: Database, limit: int = BATCH) -> int:
    """Delete some rows that belong to no snapshot any more.

    Returns:
        How many; 0 when all is done.
    """
    table = snapshots_table
    floors = select(table.c.schema, func.min(table.c.number)).where(table.c.state != "loading").group_by(table.c.schema)
    keys = ("schema", "tag", "first")
    with database.read() as connection:
        doomed: list[dict[str, Any]] = []
        for schema, floor in connection.execute(floors).all():
            found = connection.execute(
                select(*(rows_table.c[name] for name in keys))
                .where(rows_table.c.schema == schema, rows_table.c.until <= floor)
                .limit(limit)
            )
            doomed += [{f"the_{name}": row[name] for name in keys} for row in found.mappings()]
    if doomed:
        with database.transaction() as connection:
            connection.execute(
                delete(rows_table).where(*(rows_table.c[name] == bindparam(f"the_{name}") for name in keys)), doomed
            )
    return len(doomed)


def _abandon(database: Database, schema: int, number: int) -> None:
    """Delete the rows of an import that did not end, and take back what it ended."""
    with database.transaction() as connection:
        connection.execute(delete(rows_table).where(rows_table.c.schema == schema, rows_table.c.first == number))
        connection.execute(
            update(rows_table).where(rows_table.c.schema == schema, rows_table.c.until == number).values(until=None)
        )
        connection.execute(delete(snapshots_table).where(snapshots_table.c.number == number))


def _clean(database: Database, schema: Schema) -> None:
    _clean_loading(database, schema)
    # (2) the snapshot before the current one, which the server has left by now.
    retire(database)
    while sweep(database):
        pass


def _clean_loading(database: Database, schema: Schema) -> None:
    """Clear away (1) imports that did not end."""
    table = snapshots_table
    with database.read() as connection:
        left = connection.scalars(
            select(table.c.number).where(table.c.schema == schema.id, table.c.state == "loading")
        ).all()
    for number in left:
        _abandon(database, schema.id, number)


@contextlib.contextmanager
def _directory(database: Database, given: Path | None) -> Iterator[Path]:
    """A private directory, which is gone afterwards. Not in memory, which /tmp often is."""
    parent = given or (database.path.parent if database.path is not None else Path("/var/tmp"))
    prefix = f".mpcredit-book-{hashlib.sha256(database.url_safe.encode()).hexdigest()[:16]}-"
    try:
        for left in parent.glob(f"{prefix}*"):  # of an import that was killed: we have the lock
            shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent if parent.is_dir() else None))
    except OSError as error:
        raise StoreError(
            f"{parent}: no directory can be made there: {error.strerror}", remedy="see to permissions and space"
        ) from error
    try:
        yield made
    except sqlite3.Error as error:
        raise StoreError(f"{made}: {error}", remedy="see to the space on that disk") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def _exclusive(database: Database) -> Iterator[None]:
    """One import at a time.

    Raises:
        StoreError: another one runs.
    """
    running = StoreError("another import of a loan book runs", remedy="wait for its end")
    if database.path is not None:
        descriptor = os.open(database.path.with_name(database.path.name + ".book.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise running from error
            yield
        finally:
            os.close(descriptor)
        return
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _IMPORT_LOCK}):
            raise running
        try:
            yield
        finally:
            with contextlib.suppress(SQLAlchemyError):
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _IMPORT_LOCK})
            connection.invalidate()  # closes it, whatever became of the lock
