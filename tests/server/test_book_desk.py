"""The page and the API of the loan book: uploads go to the disk and become the book, or leave the one before as it is.

Branches: a person's upload - strict, with wrong rows left out, broken off; two at once; a system - by token, its scopes, by
the configured query; what a killed process left; memory; metrics; a tag key that changed - the page, readiness, cohort.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asgi import LocalClient
from test_api import system, token
from web_world import Site, World, world

from mpcredit.errors import InvalidFile, Refused
from mpcredit.follower import Follower
from mpcredit.identity import Subject
from mpcredit.schema import FIGURES_1
from mpcredit.server.bookdesk import BookDesk
from mpcredit.server.bookimport import SnapshotBook, _exclusive
from mpcredit.server.settings import ServerSettings

HEAD = "kind,country,number,currency,outstanding,credit_limit,overdue,loans,pending\n"
ALICE, BOB = "A123456789", "A800000014"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A consortium for all tests of this file."""
    with world(tmp_path_factory.mktemp("book"), 3) as found:
        yield found


@pytest.fixture
def bank(there: World) -> Site:
    """The institution that is looked at."""
    return there.bank


def desk_of(bank: Site) -> BookDesk:
    found: BookDesk = bank.app.state.book
    return found


def csv_of(*rows: str, ago: int = 0) -> bytes:
    """A book of now, or of some seconds ago."""
    as_of = datetime.fromtimestamp(int(time.time()) - ago, UTC).isoformat()
    return f"# as_of: {as_of}\n{HEAD}{''.join(rows)}".encode()


def row(number: str, outstanding: str = "10") -> str:
    return f"national_id,TW,{number},TWD,{outstanding},0,0,1,0\n"


def send(bank: Site, content: bytes, who: str = "administrator", **fields: str) -> Any:
    return bank.sign_in(who).post(
        "/book/upload", files={"file": ("books/../the book.csv", content, "text/csv")}, data=fields
    )


def record(bank: Site, number: str) -> int:
    """What is owed, by the book in the database."""
    book = SnapshotBook(bank.database, desk_of(bank).snapshots())
    tag = bank.node.party.tagger.tag(Subject("national_id", number, country="TW"))
    return book.record(FIGURES_1, tag)["outstanding"]


def leftovers(bank: Site) -> list[Path]:
    assert bank.database.path is not None
    return [p for p in bank.database.path.parent.iterdir() if p.name.startswith((".mpcredit-upload", ".mpcredit-book"))]


def test_upload__by_the_administrator__is_the_book_and_the_page_says_so(bank: Site) -> None:
    answer = send(bank, csv_of(row(ALICE, "10.50"), row(BOB)))

    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == "/book?said=importing"
    assert desk_of(bank).wait(20)
    assert desk_of(bank).status().state == "done", desk_of(bank).status()
    assert record(bank, ALICE) == 1050
    text = bank.sign_in("auditor").get("/book").text
    assert "Inquiries are answered from this book" in text
    assert "of 40 days permitted" in text
    assert "2 new, 0 changed, 0 gone" in text
    assert "the book.csv" in text
    assert '<form method="post" action="/book/upload"' not in text  # an auditor looks
    entry = bank.audit.search(action="book.imported")[0]
    assert entry.actor == bank.people.get("administrator").actor  # type: ignore[union-attr]
    assert leftovers(bank) == []


def test_upload__one_wrong_row__leaves_the_book_before_and_lists_it(bank: Site) -> None:
    assert send(bank, csv_of(row(ALICE, "1"))).status_code == 303
    assert desk_of(bank).wait(20)

    send(bank, csv_of(row(ALICE, "2"), row("A123456788", "3"), row(BOB, "1,000")))
    assert desk_of(bank).wait(20)

    assert desk_of(bank).status().state == "failed"
    assert record(bank, ALICE) == 100
    page = bank.sign_in("administrator").get("/book").text
    assert "The last import was not taken; the book before stays" in page
    assert "/book/rejects.csv" in page
    listed = bank.sign_in("auditor").get("/book/rejects.csv")
    assert listed.headers["content-type"].startswith("text/csv")
    assert listed.text.splitlines()[0] == "row,field,reason"
    assert [line.split(",")[0] for line in listed.text.splitlines()[1:]] == ["4", "5"]
    assert desk_of(bank).rejects.stat().st_mode & 0o077 == 0
    assert bank.audit.search(action="book.import_failed")[0].facts["rejected"] == 2

    # The same file, its wrong rows left out.
    send(bank, csv_of(row(ALICE, "2"), row("A123456788", "3"), row(BOB, "7")), lenient="yes")
    assert desk_of(bank).wait(20)
    assert (record(bank, ALICE), record(bank, BOB)) == (200, 700)
    assert desk_of(bank).snapshots()[0].rejected == 1


def test_upload__older_figures__need_to_be_meant(bank: Site) -> None:
    send(bank, csv_of(row(ALICE, "5")))
    assert desk_of(bank).wait(20)

    send(bank, csv_of(row(ALICE, "4"), ago=86_400))
    assert desk_of(bank).wait(20)
    assert "is before that of the book in use" in desk_of(bank).status().error

    send(bank, csv_of(row(ALICE, "4"), ago=86_400), older="yes")
    assert desk_of(bank).wait(20)
    assert record(bank, ALICE) == 400


def test_upload__two_at_once__the_second_is_refused_clearly(bank: Site) -> None:
    first = desk_of(bank).receive("first.csv", "console")
    answer = send(bank, csv_of(row(ALICE)))
    first.drop()

    assert answer.status_code == 409
    assert (
        "another import of a loan book runs" in answer.text.lower()
        or "Another import of a loan book runs" in answer.text
    )
    # One of another process, such as `mpcredit book import`.
    with _exclusive(bank.database):
        assert send(bank, csv_of(row(ALICE))).status_code == 409
    assert send(bank, csv_of(row(ALICE), ago=-5)).status_code == 303
    assert desk_of(bank).wait(20)
    assert desk_of(bank).status().state == "done"


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"", "multipart/form-data; boundary=x", "choose a CSV file"),
        (b"file=1", "application/x-www-form-urlencoded", "choose a CSV file"),
        (b"--y\r\nnot a form", "multipart/form-data; boundary=x", "damaged"),
    ],
)
def test_upload__no_file_in_it__is_told(bank: Site, content: bytes, kind: str, says: str) -> None:
    answer = bank.sign_in("administrator").post("/book/upload", content=content, headers={"Content-Type": kind})

    assert answer.status_code == 422
    assert says in answer.text
    assert not desk_of(bank).status().running


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 21 + b"--x--", "too many fields"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"1" * 9_000 + b"\r\n--x--", "too many fields"),
        (b"--x\r\nContent-Disposition: " + b"a" * 99_000 + b"\r\n\r\n1\r\n--x--", "damaged"),
    ],
    ids=["fields", "field", "header"],
)
def test_upload__form_that_would_fill_the_memory__is_refused(bank: Site, form: bytes, says: str) -> None:
    """A body here may be as large as a loan book; only the file's bytes go to the disk."""
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = bank.sign_in("administrator").post("/book/upload", content=form, headers=kind)

    assert (answer.status_code, says in answer.text) == (422, True)
    assert not desk_of(bank).status().running


@pytest.mark.parametrize(
    "name", ["帳" * 200 + ".csv", "..", "." * 300, "a/../../b\0\n"], ids=["long", "up", "dots", "nul"]
)
def test_upload__name_of_the_file__is_one_that_a_disk_takes(bank: Site, name: str) -> None:
    upload = desk_of(bank).receive(name, "user:administrator")
    upload.path.write_bytes(b"")

    assert upload.path.parent.parent == bank.database.path.parent  # type: ignore[union-attr]
    upload.drop()
    assert leftovers(bank) == []


def test_upload__by_others__is_refused(bank: Site) -> None:
    for who in ("officer", "reviewer", "auditor"):
        assert send(bank, csv_of(row(ALICE)), who).status_code == 403
    assert bank.sign_in("officer").get("/book").status_code == 403
    assert bank.sign_in("auditor").post("/book/query").status_code == 403


def test_system__with_its_scope__imports_and_reads_how_it_went(there: World, bank: Site) -> None:
    client = system(there, token(there, "book:write"))

    made = client.post("/api/book?name=nightly.csv", content=csv_of(row(ALICE, "9"), ago=-9), headers=CSV)
    assert made.status_code == 202, made.text
    assert desk_of(bank).wait(20)

    found = client.get("/api/book").json()
    assert found["last_import"]["state"] == "done"
    assert found["last_import"]["by"].startswith("token:")
    assert found["usable"] is True
    assert found["limit_seconds"] == 40 * 86_400
    assert (found["books"][0]["source"], found["books"][0]["customers"]) == ("nightly.csv", 1)
    assert client.get("/api/book/rejects").text == "row,field,reason\n"
    # Its rejected twins.
    other = system(there, token(there, "applications:write"))
    assert other.post("/api/book", content=csv_of(row(ALICE)), headers=CSV).status_code == 403
    assert client.post("/api/book", json={"x": 1}).status_code == 415
    query = client.post("/api/book/query")
    assert query.status_code == 409
    assert "book_sql_query" in query.json()["remedy"]
    assert "usable" in client.get("/api/book").json()


CSV = {"Content-Type": "text/csv"}


def test_system__configured_query__is_imported(bank: Site, tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "core.sqlite") as core:
        core.execute("CREATE TABLE c (number TEXT)")
        core.execute("INSERT INTO c VALUES (?)", (ALICE,))
    core.close()
    (tmp_path / "book.sql").write_text(
        "SELECT 'national_id' AS kind, 'TW' AS country, number, 'TWD' AS currency, 3 AS outstanding, 0 AS credit_limit, "
        "0 AS overdue, 1 AS loans, 0 AS pending FROM c"
    )
    (tmp_path / "bank.toml").write_text(
        f'[server]\nbook_sql_url = "sqlite:///{tmp_path / "core.sqlite"}"\nbook_sql_query = "book.sql"\n'
    )
    desk = BookDesk(ServerSettings.load(tmp_path / "bank.toml"), bank.database, bank.node, bank.audit)

    desk.start_query("console", strict=True, older=True)
    assert desk.wait(20)

    assert desk.status().state == "done", desk.status()
    assert record(bank, ALICE) == 300
    (tmp_path / "book.sql").write_text("SELECT nonsense")
    desk.start_query("console", strict=True, older=True)
    assert desk.wait(20)
    assert "the query failed" in desk.status().error
    (tmp_path / "book.sql").unlink()
    with pytest.raises(InvalidFile, match="cannot be read"):
        desk.start_query("console", strict=True, older=True)
    with pytest.raises(InvalidFile, match="come together"):
        ServerSettings.load(tmp_path / "bank.toml", book_sql_url="")
    from_file = BookDesk(ServerSettings(book="file"), bank.database, bank.node, bank.audit)
    with pytest.raises(Refused, match="answers from a file"):
        from_file.receive("x.csv", "console")


def test_upload__large__is_on_the_disk_and_not_in_memory(there: World, bank: Site) -> None:
    pieces, size = 400, 64 << 10
    seen: list[int] = []

    def content() -> Iterator[bytes]:
        yield csv_of(ago=-20)
        for number in range(pieces):
            # Spaces around a cell mean nothing: a file of any size, of few customers.
            line = f"passport,TW,P{number:07},TWD,1,0,0,1,0"
            yield (line + " " * (size - len(line) - 1) + "\n").encode()
            seen.append(sum(path.stat().st_size for place in leftovers(bank) for path in place.glob("the.csv")))

    client = LocalClient(bank.app, bank.settings.origin)
    client.headers["Authorization"] = f"Bearer {token(there, 'book:write')}"
    tracemalloc.start()
    answer = client.post("/api/book?name=the.csv", content=content(), headers=CSV)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert answer.status_code == 202, answer.text
    assert desk_of(bank).wait(60)
    assert desk_of(bank).status().state == "done", desk_of(bank).status()
    assert desk_of(bank).snapshots()[0].customers == pieces
    assert seen[-1] > 20 << 20
    assert peak < 8 << 20


def test_upload__larger_than_permitted__is_refused(there: World, bank: Site) -> None:
    client = system(there, token(there, "book:write"))
    before = desk_of(bank).snapshots()

    answer = client.post("/api/book", content=b"x", headers={**CSV, "Content-Length": str((1 << 30) + 1)})

    assert answer.status_code == 413
    assert "book_upload_bytes" in answer.json()["remedy"]
    assert desk_of(bank).snapshots() == before
    # Elsewhere the small limit stays.
    assert client.post("/api/applications", content=b"x", headers={"Content-Length": str(65 << 20)}).status_code == 413


def test_upload__broken_off__leaves_the_book_before_and_no_file(there: World, bank: Site) -> None:
    before = desk_of(bank).snapshots()
    client = LocalClient(bank.app, bank.settings.origin)
    client.headers["Authorization"] = f"Bearer {token(there, 'book:write')}"

    def content() -> Iterator[bytes]:
        yield csv_of(row(ALICE, "6"), ago=-30)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        client.post("/api/book", content=content(), headers=CSV)

    assert desk_of(bank).status().error == "the upload was broken off"
    assert desk_of(bank).snapshots() == before
    assert leftovers(bank) == []


def test_desk__after_a_kill__clears_what_was_left_and_keeps_the_book(bank: Site) -> None:
    before = desk_of(bank).snapshots()
    left = desk_of(bank).receive("left.csv", "console")
    left.path.write_bytes(csv_of(row(ALICE, "8")))
    assert leftovers(bank)

    again = BookDesk(bank.settings, bank.database, bank.node, bank.audit)

    assert leftovers(bank) == []
    assert again.snapshots() == before
    assert not again.status().running
    left.drop()


def test_metrics__say_duration_rows_rejects_as_of_and_age(there: World, bank: Site) -> None:
    send(bank, csv_of(row(ALICE), row("A123456788"), ago=-40), lenient="yes")
    assert desk_of(bank).wait(20)

    text = system(there, token(there, "metrics:read")).get("/metrics").text

    found = {
        line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")
    }
    assert found["mpcredit_book_import_rows"] == 1
    assert found["mpcredit_book_import_rejected"] == 1
    assert found["mpcredit_book_import_seconds"] >= 0
    assert found["mpcredit_book_import_as_of_seconds"] == desk_of(bank).snapshots()[0].as_of
    assert 0 <= found["mpcredit_book_age_seconds"] < 86_400
    assert found["mpcredit_book_age_limit_seconds"] == 40 * 86_400
    assert found["mpcredit_book_importing"] == 0
    assert 'mpcredit_book_imports_total{outcome="failed"' in text


def test_tag_key__the_newest_is_missing__the_page_says_so_and_nobody_asks_this_institution(
    there: World, bank: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(bank, csv_of(row(ALICE), ago=-50))
    assert desk_of(bank).wait(20)
    there.settle()
    party = bank.node.party
    with monkeypatch.context() as patch:
        patch.setattr(Follower, "tag_keys", property(lambda self: {**self.state.tag_keys, 2: b"2" * 32}))
        there.settle()
        text = bank.sign_in("administrator").get("/book").text
        assert "The newest tag key is not in use yet: this institution is not ready" in text
        assert "tag key of version 2 is not at hand" in text

        assert not party.follower.state.cohort(0, party.follower.next_time) >> party.index & 1
        assert "tag key of version 2 is not at hand" in bank.node.status().why
        assert bank.anonymous().get("/readyz").status_code == 503
    there.settle()
    assert party.follower.state.cohort(0, party.follower.next_time) >> party.index & 1
    assert bank.anonymous().get("/readyz").status_code == 200
