"""The loan book in the database: import from CSV and SQL, rejects, increments, the swap, equal work, and what is kept."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from postgres import PASSWORD, Cluster
from sqlalchemy import create_engine, event, func, select, text

from mpcredit.books import LoanBook
from mpcredit.config import Config
from mpcredit.errors import InvalidFile, KeyStoreError, LedgerError, Refused, StoreError
from mpcredit.identity import Subject
from mpcredit.schema import FIGURES_1, GUARANTEES_2
from mpcredit.server import bookimport
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import (
    CsvFile,
    Imported,
    Progress,
    SnapshotBook,
    Source,
    SqlQuery,
    current_snapshots,
    import_book,
    retire,
    sweep,
)
from mpcredit.server.bookraise import raise_books
from mpcredit.server.database import Database, book_row_table, book_snapshot_table
from mpcredit.server.serve import BookKeeper
from mpcredit.tags import HmacTagger, TagKey

HEAD = "kind,country,number,currency,outstanding,credit_limit,overdue,loans,pending\n"
TAGGER = HmacTagger(TagKey(1, b"k" * 32))
NEXT = HmacTagger(TagKey(1, b"k" * 32), TagKey(2, b"n" * 32))
NOW = 1_795_000_000  # 2026-11-18
PEAK_MIB = 256
"""What bookimport.py promises of any import, for the whole process."""
CUSTOMERS = int(os.environ.get("MPCREDIT_TEST_CUSTOMERS", "50000"))


def person(number: int) -> Subject:
    return Subject("passport", f"TK{number:07}", country="JP")


def row(number: int, outstanding: str = "100.50", *, currency: str = "TWD", loans: str = "1") -> str:
    return f"passport,JP,TK{number:07},{currency},{outstanding},1000,0,{loans},0\n"


@dataclass
class Bank:
    """A database and files beside it."""

    database: Database
    audit: AuditLog
    home: Path

    def file(self, *rows: str, as_of: str = "2026-11-01", head: str = HEAD) -> CsvFile:
        path = self.home / "book.csv"
        path.write_text(f"# as_of: {as_of}\n# institution: Bank A\n# currency: TWD\n{head}{''.join(rows)}")
        return CsvFile(path)

    def take(self, source: Source, tagger: HmacTagger = TAGGER, **options: Any) -> Imported:
        return import_book(self.database, self.audit, source, tagger, spool=self.home, clock=lambda: NOW, **options)

    def book(self) -> SnapshotBook:
        return SnapshotBook(self.database, current_snapshots(self.database))

    def owed(self, number: int, book: SnapshotBook | None = None) -> int:
        return (book or self.book()).record(FIGURES_1, TAGGER.tag(person(number)))["outstanding"]

    def rows(self) -> list[tuple[int, int | None]]:
        with self.database.read() as connection:
            found = connection.execute(select(book_row_table.c.first, book_row_table.c.until)).all()
        return sorted(((first, until) for first, until in found), key=str)

    def states(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.scalars(select(book_snapshot_table.c.state).order_by(book_snapshot_table.c.number)))


@pytest.fixture
def bank(database: Database, audit: AuditLog, tmp_path: Path) -> Bank:
    return Bank(database, audit, tmp_path)


# --- from a file


def test_csv__imported__is_what_the_file_in_memory_gives(bank: Bank) -> None:
    source = bank.file(
        *(row(number, f"{number}.25") for number in range(50)),
        "national_id,TW,A123456789,TWD,182500.50,300000,0,2,0\n",
        "company,TW,04595257,TWD,2500000,2500000,120000,1,1\n",
    )
    done = bank.take(source)

    plain, book = LoanBook.read_csv(source.path), bank.book()
    assert len(plain) == book.customers == done.snapshot.customers == done.snapshot.added == 52
    assert (book.as_of, book.currency, book.tag_key_version) == (plain.as_of, "TWD", 1)
    assert done.snapshot.institution == "Bank A"
    for subject in plain.subjects():
        assert book.record(FIGURES_1, TAGGER.tag(subject)) == plain.lookup(subject)
    assert book.record(FIGURES_1, TAGGER.tag(person(999))) == FIGURES_1.zero


def test_csv__quoted_cells_with_bom_crlf_and_empty_lines__are_read(bank: Bank) -> None:
    path = bank.home / "book.csv"
    path.write_bytes(
        f'\ufeff# as_of: 2026-11-01,,,\r\n{HEAD.strip()}\r\n\r\n passport ,jp,"TK 000-0001",TWD,1.5,0,0,1,0'.encode()
    )

    assert bank.take(CsvFile(path)).snapshot.customers == 1
    assert bank.owed(1) == 150


def test_import__no_identity_number_is_anywhere_in_the_database(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'server.sqlite'}")
    database.upgrade()
    bank = Bank(database, AuditLog(database), tmp_path)
    bank.take(bank.file(*(row(number) for number in range(100, 120)), row(121, "wrong")), rejects=tmp_path / "rejects")
    database.close()

    for path in [*tmp_path.glob("server.sqlite*"), tmp_path / "rejects"]:
        assert b"TK00001" not in path.read_bytes()
    assert sorted(path.name for path in tmp_path.glob(".mpcredit-book*")) == []
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("server.sqlite*")} == {0o600}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"kind,country\n", "as_of: is missing"),
        (b"# as_of: 2026-11-01\nkind,country\n", "header: lacks the column"),
        (b"# as_of: 2026-11-01\n" + HEAD.encode(), "has no rows"),
        (b"# as_of: 2026-11-01\n" + HEAD.encode() + b"passport,JP,\xff\n", "row 3: is not UTF-8"),
        (b"# as_of: 2026-11-01\n" + HEAD.encode() + b"a\0b\n", "row 3: is not a text file"),
        (b"# as_of: 2026-11-01\n" + HEAD.encode() + b'"passport,JP\n' * 20_000, "is not CSV"),
        (b"# as_of: 2026-11-01\n" + HEAD.encode() + b"x" * (2 << 20), "is not a line of text"),
        (b"# as_of: 2026-11-01\n" * 200, "a second time"),
    ],
)
def test_csv__no_loan_book__is_refused_also_where_rejects_go_to_a_file(
    bank: Bank, content: bytes, problem: str
) -> None:
    path = bank.home / "bad.csv"
    path.write_bytes(content)

    with pytest.raises(InvalidFile, match=problem):
        bank.take(CsvFile(path), rejects=bank.home / "rejects.csv")

    assert current_snapshots(bank.database) == ()
    assert bank.rows() == []


def test_csv__missing_file__is_told(bank: Bank) -> None:
    with pytest.raises(InvalidFile, match="cannot be read"):
        bank.take(CsvFile(bank.home / "none.csv"))


# --- rejects


def test_strict__wrong_rows__are_listed_and_nothing_changes(bank: Bank) -> None:
    bank.take(bank.file(row(1)))

    with pytest.raises(InvalidFile, match=r"(?s)has 27 problems:.*row 6, outstanding.*and 7 more"):
        bank.take(bank.file(row(1, "7"), *(row(number, '"1,000"') for number in range(2, 28)), row(1)))

    assert bank.owed(1) == 10_050
    assert bank.states() == ["current"]


def test_rejects__wrong_rows__go_to_a_file_and_the_others_in(bank: Bank) -> None:
    rejects = bank.home / "rejects.csv"
    done = bank.take(
        bank.file(
            row(1),
            row(2, '"1,000"'),
            row(3, currency="USD"),
            row(1, "5"),
            "passport,JP,TK0000004,TWD\n",
            "ticket,JP,TK0000004,TWD,0,0,0,0,0\n",
            row(5, ""),
            row(6, "300000000000000"),
            row(7, loans="1.5"),
            row(8),
        ),
        rejects=rejects,
    )

    with rejects.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [(int(one["row"]), one["field"]) for one in found] == [
        (6, "outstanding"), (7, "currency"), (8, "number"), (9, "cells"), (10, "kind"), (11, "outstanding"),
        (12, "outstanding"), (13, "loans"),
    ]  # fmt: skip
    assert found[0]["reason"] == "has thousands separators (write 1234.50)"
    assert found[2]["reason"].startswith("is the customer of row 5 again")
    assert rejects.stat().st_mode & 0o777 == 0o600
    assert (done.snapshot.customers, done.snapshot.rejected, done.rejects) == (2, 8, rejects)
    assert [bank.owed(number) for number in (1, 2, 8)] == [10_050, 0, 10_050]


def test_rejects__none__is_a_file_without_rows(bank: Bank) -> None:
    rejects = bank.home / "rejects.csv"
    rejects.write_text("of the day before")

    bank.take(bank.file(row(1)), rejects=rejects)

    assert rejects.read_text() == "row,field,reason\n"


def test_rejects__every_row__is_refused_and_listed(bank: Bank) -> None:
    bank.take(bank.file(row(1)))

    with pytest.raises(InvalidFile, match="has no good row"):
        bank.take(bank.file(row(1, "x"), row(2, "x")), rejects=bank.home / "rejects.csv")

    assert len((bank.home / "rejects.csv").read_text().splitlines()) == 3
    assert bank.owed(1) == 10_050


# --- from a query


@pytest.fixture
def core_url(url: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A bank's own database: of the same kind as the server's, but another one."""
    if not url.startswith("sqlite"):
        cluster: Cluster = request.getfixturevalue("cluster")
        found = cluster.url(cluster.create())
    else:
        found = f"sqlite:///{tmp_path / 'core.sqlite'}"
    engine = create_engine(found)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE client (doc TEXT, code CHAR(12), debt NUMERIC(18, 4), n INTEGER)"))
        connection.execute(
            text("INSERT INTO client VALUES (:doc, :code, :debt, :n)"),
            [{"doc": "passport", "code": f"TK{n:07}", "debt": n + 0.25, "n": n % 3} for n in range(3_000)],
        )
    engine.dispose()
    return found


QUERY = """
SELECT code AS number, doc AS "KIND", 'JP' AS country, 'TWD' AS currency, debt AS outstanding,
       CAST(0 AS NUMERIC(18, 2)) AS overdue, n > 1 AS pending, n AS loans, 1000000 AS credit_limit -- 100 %, '12:30'
FROM client;
"""


def _query(core_url: str) -> str:
    return QUERY.replace("n > 1 AS", "CASE WHEN n > 1 THEN 1 ELSE 0 END AS")


def test_sql__imported__has_the_rows_of_the_query(bank: Bank, core_url: str) -> None:
    done = bank.take(SqlQuery(core_url, _query(core_url), as_of=1_790_000_000))

    assert (done.snapshot.customers, done.snapshot.as_of) == (3_000, 1_790_000_000)
    assert bank.book().record(FIGURES_1, TAGGER.tag(person(2))) == {
        "outstanding": 225, "credit_limit": 100_000_000, "overdue": 0, "loans": 2, "pending": 1, "lenders": 1,
    }  # fmt: skip
    assert PASSWORD not in done.snapshot.source
    assert PASSWORD.replace(" ", "%20") not in done.snapshot.source
    again = bank.take(SqlQuery(core_url, _query(core_url), as_of=NOW))
    assert (again.snapshot.kept, again.snapshot.added) == (3_000, 0)


def test_sql__bad_rows__are_numbered_from_one(bank: Bank, core_url: str) -> None:
    rejects = bank.home / "rejects.csv"
    query = _query(core_url).replace("debt AS outstanding", "CASE WHEN n = 1 THEN NULL ELSE debt END AS outstanding")
    done = bank.take(SqlQuery(core_url, query, as_of=NOW), rejects=rejects)

    assert (done.snapshot.customers, done.snapshot.rejected) == (2_000, 1_000)
    assert rejects.read_text().splitlines()[1].startswith("2,outstanding,is empty")


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("SELECT 1 AS kind", "lacks the column"),
        ("SELECT * FROM nothing_there", "the query failed"),
        ("DELETE FROM client", "the query"),
    ],
)
def test_sql__wrong_query__is_told_and_changes_nothing(bank: Bank, core_url: str, query: str, problem: str) -> None:
    with pytest.raises(InvalidFile, match=problem) as caught:
        bank.take(SqlQuery(core_url, query))

    assert PASSWORD not in str(caught.value)
    engine = create_engine(core_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM client")) == 3_000
    engine.dispose()


@pytest.mark.parametrize("url", ["no url geheim", "nosuch://me:geheim@host/db", "oracle+nosuch://me:geheim@host/db"])
def test_sql__url_that_cannot_be_used__is_told_without_the_password(tmp_path: Path, url: str) -> None:
    database = Database(f"sqlite:///{tmp_path / 'server.sqlite'}")
    database.upgrade()
    source = SqlQuery(url, "SELECT 1")

    with pytest.raises(InvalidFile) as caught:
        import_book(database, AuditLog(database), source, TAGGER)

    assert "geheim" not in str(caught.value) + repr(source)
    database.close()


# --- increments


def test_second_import__unchanged_rows_stay__changed_and_new_and_gone_are_counted(bank: Bank) -> None:
    bank.take(bank.file(*(row(number) for number in range(10))))
    done = bank.take(bank.file(*(row(number) for number in range(3, 10)), row(0, "7"), row(50), as_of="2026-11-02"))

    one = done.snapshot
    assert (one.customers, one.added, one.changed, one.kept, one.removed) == (9, 1, 1, 7, 2)
    assert bank.rows() == sorted([*[(1, None)] * 7, *[(1, 2)] * 3, *[(2, None)] * 2], key=str)
    assert [bank.owed(number) for number in (0, 1, 2, 3, 50)] == [700, 0, 0, 10_050, 10_050]
    assert bank.book().as_of == LoanBook.read_csv(bank.home / "book.csv").as_of

    retire(bank.database)
    assert sweep(bank.database, 2) == 2
    assert sweep(bank.database, 2) == 1
    assert sweep(bank.database, 2) == 0
    assert len(bank.rows()) == 9


def test_import__many_times_with_changes__always_equals_the_file(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookimport, "BATCH", 7)
    for turn in range(1, 7):
        chosen = [number for number in range(120) if (number * turn) % 5]
        source = bank.file(*(row(number, str(number // 40 * turn + 1)) for number in chosen))
        bank.take(source)
        plain, book = LoanBook.read_csv(source.path), bank.book()
        assert book.customers == len(plain)
        for number in range(120):
            assert book.record(FIGURES_1, TAGGER.tag(person(number))) == plain.lookup(person(number))
    current = current_snapshots(bank.database)[0].number
    assert sum(first <= current and (until is None or until > current) for first, until in bank.rows()) == 96


def test_import__another_schema__lies_beside(bank: Bank) -> None:
    head = f"kind,country,number,currency,{','.join(part.name for part in GUARANTEES_2.fields)}\n"
    bank.take(bank.file(row(1)))
    bank.take(
        bank.file(f"passport,JP,TK0000001,TWD{',1' * len(GUARANTEES_2.fields)}\n", head=head), schema=GUARANTEES_2
    )

    assert [one.schema for one in current_snapshots(bank.database)] == [FIGURES_1, GUARANTEES_2]
    assert set(bank.book().record(GUARANTEES_2, TAGGER.tag(person(1)))) == {part.name for part in GUARANTEES_2.fields}
    assert bank.owed(1) == 10_050


def test_import__older_figures__are_refused_unless_meant(bank: Bank) -> None:
    bank.take(bank.file(row(1), as_of="2026-11-02"))
    source = bank.file(row(1, "1"), as_of="2026-11-01")

    with pytest.raises(InvalidFile, match="before that of the book in use"):
        bank.take(source)
    assert bank.owed(1) == 10_050

    bank.take(source, older=True)
    assert bank.owed(1) == 100


def test_import__figures_of_the_future__are_refused(bank: Bank) -> None:
    with pytest.raises(InvalidFile, match="in the future"):
        bank.take(bank.file(row(1), as_of="2027-11-01"))

    bank.take(bank.file(row(1), as_of="2026-11-18"))


def test_import__is_in_the_audit_log_without_figures(bank: Bank) -> None:
    bank.take(bank.file(row(1)), actor="user:anna")

    (entry,) = bank.audit.search(action="book.imported")
    assert (entry.actor, entry.about) == ("user:anna", "book/1")
    assert entry.facts["customers"] == 1
    assert "TK00" not in json.dumps(entry.facts)


def test_progress__tells_of_every_stage(bank: Bank) -> None:
    told: list[Progress] = []
    bank.take(bank.file(*(row(number) for number in range(20))), progress=told.append)

    assert [stage for stage in ("read", "sort", "write") if any(one.stage == stage for one in told)] == [
        "read", "sort", "write",
    ]  # fmt: skip
    assert (told[-1].rows, told[-1].share) == (20, 1.0)


# --- the swap


def test_swap__whoever_has_the_old_book_reads_it_whole__then_is_told(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookimport, "BATCH", 3)
    bank.take(bank.file(*(row(number, "1") for number in range(10))))
    old = bank.book()
    seen: list[Sequence[int]] = []

    def look(_now: Progress) -> None:
        seen.append([bank.owed(number, old) for number in range(11)])
        seen.append([bank.owed(number) for number in range(11)])

    bank.take(bank.file(*(row(number, "2") for number in range(1, 11)), as_of="2026-11-02"), progress=look)

    before, after = [100] * 10 + [0], [0] + [200] * 10
    assert len(seen) > 8
    assert all(figures == before for figures in seen)
    assert [bank.owed(number, old) for number in range(11)] == before
    assert [bank.owed(number) for number in range(11)] == after
    bank.take(bank.file(row(1)), older=True)
    with pytest.raises(StoreError, match="replaced twice"):
        bank.owed(1, old)


_KILLED = """
import os, sys
from pathlib import Path
from mpcredit.server import bookimport
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.tags import HmacTagger, TagKey
database = Database(sys.argv[1])
bookimport.BATCH = 3
left = [int(sys.argv[3])]
def tell(now):
    if now.stage == "write":
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)
bookimport.import_book(database, AuditLog(database), bookimport.CsvFile(Path(sys.argv[2])),
                       HmacTagger(TagKey(1, b"k" * 32)), spool=Path(sys.argv[2]).parent, progress=tell)
"""


@pytest.mark.parametrize("steps", [1, 3])
def test_import__killed_while_it_writes__leaves_the_old_book_and_the_next_one_works(
    bank: Bank, url: str, steps: int
) -> None:
    bank.take(bank.file(*(row(number, "1") for number in range(30))))
    source = bank.file(*(row(number, "2") for number in range(5, 40)), as_of="2026-11-02")
    done = subprocess.run([sys.executable, "-c", _KILLED, url, str(source.path), str(steps)], check=False, timeout=60)

    assert done.returncode == 9
    assert bank.states() == ["current", "loading"]
    assert list(bank.home.glob(".mpcredit-book*"))
    assert [bank.owed(number) for number in (0, 10, 39)] == [100, 100, 0]
    done_again = bank.take(source).snapshot
    assert (done_again.added, done_again.changed, done_again.removed) == (10, 25, 5)
    assert [bank.owed(number) for number in (0, 10, 39)] == [0, 200, 200]
    assert bank.states() == ["previous", "current"]
    assert not list(bank.home.glob(".mpcredit-book*"))


def test_import__fails_while_it_writes__is_undone_at_once(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookimport, "BATCH", 3)
    bank.take(bank.file(*(row(number, "1") for number in range(10))))

    def stop(now: Progress) -> None:
        if now.stage == "write" and now.rows >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bank.take(bank.file(*(row(number, "2") for number in range(10))), progress=stop)

    assert bank.states() == ["current"]
    assert bank.rows() == [(1, None)] * 10


def test_import__while_another_runs__is_refused(bank: Bank) -> None:
    caught: list[str] = []

    def second(_now: Progress) -> None:
        with pytest.raises(StoreError) as error:
            bank.take(CsvFile(bank.home / "book.csv"))
        caught.append(str(error.value))

    bank.take(bank.file(row(1)), progress=second)

    assert caught
    assert all("another import" in one for one in caught)


# --- answering


def test_record__customer_and_stranger__cost_the_same_statements_and_bytes(bank: Bank) -> None:
    bank.take(bank.file(*(row(number) for number in range(100))))
    book = bank.book()
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(bank.database.engine, "before_cursor_execute", note)
    customer = book.record(FIGURES_1, TAGGER.tag(person(1)))
    first, statements[:] = list(statements), []
    stranger = book.record(FIGURES_1, TAGGER.tag(person(999)))
    event.remove(bank.database.engine, "before_cursor_execute", note)

    assert statements == first
    assert [one for one in first if one.startswith("SELECT")] == first
    assert list(customer) == list(stranger) == [part.name for part in FIGURES_1.fields]
    with bank.database.read() as connection:
        lengths = connection.scalars(select(func.length(book_row_table.c.figures)).distinct()).all()
    assert lengths == [len(bookimport._encode(FIGURES_1, FIGURES_1.zero))]


def test_record__unknown_schema__is_refused_whoever_is_asked_about(bank: Bank) -> None:
    bank.take(bank.file(row(1)))

    for number in (1, 2):
        with pytest.raises(Refused, match="no figures of schema"):
            bank.book().record(GUARANTEES_2, TAGGER.tag(person(number)))


# --- in the server


class _Institution:
    """As much of an institution as the keeper of books touches."""

    def __init__(self) -> None:
        self.tagger: Any = TAGGER
        self.newest: Any = TAGGER
        """Of the newest tag key; None: it is not at hand."""
        self.desk = SimpleNamespace(next_tagger=self._next)
        self.used: Any = None
        self.furnisher = SimpleNamespace(book=None)

    def _next(self) -> HmacTagger | None:
        if self.newest is None:
            raise KeyStoreError("the consortium's tag key of version 2 is not at hand")
        return self.newest if self.newest.version > self.tagger.version else None

    def use_book(self, book: Any) -> None:
        self.used = self.furnisher.book = book

    def use_tagger(self, tagger: Any, book: Any) -> None:
        self.tagger = tagger
        self.use_book(book)


def _config(path: Path | None) -> Config:
    return cast("Config", SimpleNamespace(book=path, book_adapter=None, path=Path("bank.toml")))


def test_keeper__auto__is_the_file_until_the_first_import_then_the_database(bank: Bank) -> None:
    source = bank.file(row(1, "1"))
    keeper = BookKeeper(_config(source.path), "auto", bank.database, bank.audit)
    institution: Any = _Institution()

    assert keeper.book is None
    assert keeper(institution) == []
    bank.take(source)
    (line,) = keeper(institution)
    assert "loan book 1 is in use: 1 customers" in line
    assert institution.used.record(FIGURES_1, TAGGER.tag(person(1)))["outstanding"] == 100
    assert keeper(institution) == []

    bank.take(bank.file(row(2, "2"), as_of="2026-11-03"))
    assert len(keeper(institution)) == 1
    assert bank.states() == ["current"]
    assert len(bank.rows()) == 1
    assert institution.used.as_of == bank.book().as_of
    started = BookKeeper(_config(None), "database", bank.database, bank.audit)
    assert started.book is not None
    assert isinstance(started.book(TAGGER), SnapshotBook)


def test_keeper__no_book_at_all__is_told(bank: Bank) -> None:
    for path, mode in ((None, "auto"), (None, "file"), (bank.home / "book.csv", "database")):
        with pytest.raises(InvalidFile, match="book"):
            BookKeeper(_config(path), mode, bank.database, bank.audit)


# --- another tag key (R4)


def started(bank: Bank) -> tuple[BookKeeper, Any]:
    """A keeper and an institution that answers from what was imported, as `serve` has them."""
    keeper = BookKeeper(_config(None), "database", bank.database, bank.audit)
    institution: Any = _Institution()
    assert keeper.book is not None
    institution.use_book(keeper.book(TAGGER))
    return keeper, institution


def outstanding(book: Any, tagger: HmacTagger, *numbers: int) -> list[int]:
    return [int(book.record(FIGURES_1, tagger.tag(person(number)))["outstanding"]) for number in numbers]


def test_keeper__another_tag_key__raises_the_book_without_an_import(bank: Bank) -> None:
    bank.take(bank.file(row(1), row(2, "7"), row(3, "8")))
    keeper, institution = started(bank)
    first = current_snapshots(bank.database)[0]
    institution.newest = NEXT

    assert "loan book 2 is in use: 3 customers, tag key 2" in keeper(institution)[0]
    assert institution.tagger is NEXT
    assert outstanding(institution.used, NEXT, 1, 2, 3, 4) == [10_050, 700, 800, 0]
    (now,) = current_snapshots(bank.database)
    told = ("as_of", "currency", "source", "customers", "added", "changed", "removed", "rejected")
    assert [getattr(now, name) for name in told] == [getattr(first, name) for name in told]
    assert now.tag_key_version == 2
    assert [entry.actor for entry in bank.audit.search(action="book.raised", limit=9)] == ["node"]
    # The rows of the version before are swept, and nothing more is done.
    assert keeper(institution) == []
    assert len(bank.rows()) == 3


def test_keeper__another_tag_key_that_is_not_at_hand__is_told_once_and_the_book_stays(bank: Bank) -> None:
    bank.take(bank.file(row(1)))
    keeper, institution = started(bank)
    institution.newest = None

    assert keeper(institution) == ["the consortium's tag key of version 2 is not at hand"]
    assert keeper(institution) == []
    assert outstanding(institution.used, TAGGER, 1) == [10_050]
    bank.take(bank.file(row(1, "9"), as_of="2026-11-03"))
    assert "loan book 2 is in use" in keeper(institution)[0]


def test_keeper__import_under_the_key_before__is_raised_and_the_book_in_use_stays_until_then(bank: Bank) -> None:
    # The import began before the new tag key came into force, and ended after.
    bank.take(bank.file(row(1)))
    keeper, institution = started(bank)
    institution.newest = NEXT
    keeper(institution)
    bank.take(bank.file(row(1, "9"), row(2, "7"), as_of="2026-11-03"))

    assert len(keeper(institution)) == 1
    assert outstanding(institution.used, NEXT, 1, 2) == [900, 700]


def test_keeper__import_under_a_key_that_the_node_does_not_show_yet__waits(bank: Bank) -> None:
    bank.take(bank.file(row(1)))
    keeper, institution = started(bank)
    bank.take(bank.file(row(1, "9"), as_of="2026-11-03"), NEXT)

    assert keeper(institution) == []
    assert outstanding(institution.used, TAGGER, 1) == [10_050]
    institution.newest = NEXT
    assert len(keeper(institution)) == 1
    assert outstanding(institution.used, NEXT, 1) == [900]


def test_keeper__an_import_runs_meanwhile__is_told_and_raised_after_it(bank: Bank) -> None:
    bank.take(bank.file(row(1)))
    keeper, institution = started(bank)
    institution.newest = NEXT
    with bookimport._exclusive(bank.database), pytest.raises(StoreError, match="another import"):
        keeper(institution)

    assert institution.tagger is TAGGER
    assert len(keeper(institution)) == 1
    assert institution.tagger is NEXT


def test_keeper__started_under_another_tag_key__raises_at_the_start(bank: Bank) -> None:
    bank.take(bank.file(row(1)))
    keeper = BookKeeper(_config(None), "database", bank.database, bank.audit)

    assert keeper.book is not None
    assert outstanding(keeper.book(NEXT), NEXT, 1) == [10_050]
    behind = BookKeeper(_config(None), "database", bank.database, bank.audit)
    assert behind.book is not None
    with pytest.raises(LedgerError, match="has not heard of"):
        behind.book(TAGGER)


def test_keeper__file__is_raised_in_memory(bank: Bank) -> None:
    source = bank.file(row(1), row(2, "7"))
    keeper = BookKeeper(_config(source.path), "file", bank.database, bank.audit)
    institution: Any = _Institution()
    institution.use_book(LoanBook.read_csv(source.path).index(TAGGER))
    source.path.unlink()  # it is not needed
    institution.newest = NEXT

    assert keeper(institution) == ["tag key 2 is in force; the loan book is raised to it"]
    assert outstanding(institution.used, NEXT, 1, 2, 3) == [10_050, 700, 0]
    assert institution.used.tag_key_version == 2


def test_raise__cut_off_in_the_middle__leaves_the_book_before_and_is_done_again(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.take(bank.file(row(1), row(2, "7")))
    before = bank.rows()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bookimport._Loading, "swap", killed)
        with pytest.raises(KeyboardInterrupt):
            raise_books(bank.database, bank.audit, NEXT, spool=bank.home)
    assert bank.rows() == before
    assert outstanding(bank.book(), TAGGER, 1, 2) == [10_050, 700]

    (done,) = raise_books(bank.database, bank.audit, NEXT, spool=bank.home)
    (again,) = raise_books(bank.database, bank.audit, NEXT, spool=bank.home)
    assert again == done  # there was nothing left to do
    assert done.tag_key_version == 2
    assert outstanding(bank.book(), NEXT, 1, 2) == [10_050, 700]


# --- many


_SCALE = """
import re, sys
from pathlib import Path
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import CsvFile, import_book
from mpcredit.server.database import Database
from mpcredit.tags import HmacTagger, TagKey
database = Database(sys.argv[1])
done = import_book(database, AuditLog(database), CsvFile(Path(sys.argv[2])), HmacTagger(TagKey(1, b"k" * 32)))
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())  # ru_maxrss counts the parent's too
print(done.snapshot.customers, int(peak[1]) // 1024)
"""


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "large.csv"
    with path.open("w") as stream:
        stream.write(f"# as_of: 2026-11-01\n{HEAD}")
        stream.writelines(row(number, f"{number}.5") for number in range(CUSTOMERS))
    yield path
    path.unlink()


def test_scale__many_customers__stay_below_the_stated_memory(bank: Bank, url: str, large: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCALE, url, str(large)], check=True, timeout=600, capture_output=True, text=True
    )

    customers, peak = map(int, done.stdout.split())
    assert customers == CUSTOMERS
    assert peak < PEAK_MIB
    assert bank.owed(CUSTOMERS - 1) == (CUSTOMERS - 1) * 100 + 50
