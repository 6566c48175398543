"""mpcredit book: import into the server's database, and what the institution then answers from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_world import refused
from parties import Consortium, Party
from sqlalchemy import create_engine, text

from mpcredit.books import LoanBook
from mpcredit.config import institution_from_config, read_config
from mpcredit.errors import InvalidFile, InvalidMessage
from mpcredit.schema import FIGURES_1
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import SnapshotBook
from mpcredit.server.database import open_database
from mpcredit.server.serve import BookKeeper
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import SqlStore


@pytest.fixture
def served(consortium: Consortium) -> Iterator[Party]:
    """Bank D with the configuration of a server that never ran."""
    party = consortium["Bank D"]
    before = party.config.read_text()
    party.config.write_text(before + '[server]\ndatabase = "sqlite:///server.sqlite"\n')
    yield party
    party.config.write_text(before)
    for path in party.home.glob("server.sqlite*"):
        path.unlink()


def test_book__imported_from_file_then_query__is_shown_and_answered_from(served: Party, tmp_path: Path) -> None:
    path = read_config(served.config).book
    assert path is not None
    plain = LoanBook.read_csv(path)

    first = served.ok("book", "import", "--csv", str(path))
    shown = served.ok("book", "show")

    assert first["customers"] == first["added"] == len(plain)
    assert shown["books"][0]["as_of"] == plain.as_of
    assert served.run("book", "show").out.count(f"{len(plain):,}") == 2
    # (1) a query of the same rows but one, which is wrong.
    engine = create_engine(f"sqlite:///{tmp_path / 'core.sqlite'}")
    lines = [line.split(",") for line in path.read_text().splitlines() if not line.startswith("#")]
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE client ({', '.join(lines[0])})"))
        connection.execute(
            text(f"INSERT INTO client VALUES ({', '.join(f':{name}' for name in lines[0])})"),
            [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]],
        )
        connection.execute(text("UPDATE client SET loans = 'many' WHERE rowid = 3"))
    engine.dispose()
    (tmp_path / "book.sql").write_text("SELECT * FROM client")
    later = datetime.fromtimestamp(plain.as_of + 60, UTC).isoformat()
    query = ("book", "import", "--query", f"@{tmp_path / 'book.sql'}", "--as-of", later)
    url = {"MPCREDIT_BOOK_SQL_URL": f"sqlite:///{tmp_path / 'core.sqlite'}"}
    strict = served.run(*query, "--json", environment=url)
    assert strict.status == InvalidFile.exit_code
    assert "row 3, loans: 'xxxx' is not a number" in strict.err
    done = served.run(*query, "--rejects", str(tmp_path / "rejects.csv"), "--json", environment=url)
    assert done.status == 0, done.err
    assert (done.value["kept"], done.value["removed"], done.value["rejected"]) == (len(plain) - 1, 1, 1)
    assert "1 row rejected" in done.err
    # (2) what the server does with it.
    config = read_config(served.config)
    database = open_database(ServerSettings.load(served.config))
    keeper = BookKeeper(config, "auto", database, AuditLog(database))
    with SqlStore(database) as store:
        bank = institution_from_config(
            served.config, ask=lambda _purpose: served.passphrase, store=store, book=keeper.book
        )
        book = bank.furnisher.book
        assert isinstance(book, SnapshotBook)
        for subject in list(plain.subjects())[:20]:
            if subject.number != lines[3][2]:
                assert book.record(FIGURES_1, bank.tagger.tag(subject)) == plain.lookup(subject)
        assert keeper(bank) == []
    database.close()


def test_book__nothing_or_too_much_to_import__is_told(served: Party) -> None:
    for arguments in (
        (),
        ("--csv", "a.csv", "--query", "SELECT 1"),
        ("--csv", "a.csv", "--as-of", "2026-11-01"),
        ("--query", "SELECT 1"),
        ("--query", "SELECT 1", "--sql-url", "sqlite:///x", "--as-of", "yesterday"),
    ):
        refused(served.run("book", "import", *arguments), InvalidMessage.exit_code, party=served)


def test_book__without_a_server__is_refused(consortium: Consortium) -> None:
    bank = consortium["Bank A"]
    refused(bank.run("book", "show"), InvalidFile.exit_code, "[server]", party=bank)
