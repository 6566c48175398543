"""The store: one set of port tests for file and fake, then what only the file has: disk, lock, crash."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_port import StorePortTests

from mpcredit.errors import StoreError
from mpcredit.store import SCHEMA_VERSION, MemoryStore, SqliteStore, StorePort


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorePort]:
    opened = SqliteStore(tmp_path / "store.sqlite") if request.param == "sqlite" else MemoryStore()
    yield opened
    opened.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


# --- the port


class TestPort(StorePortTests):
    """All of tests/store_port.py; tests/server/test_sql_store.py runs it on PostgreSQL too."""


# --- the file


def test_reopen__finds_everything(path: Path) -> None:
    with SqliteStore(path) as store:
        store.insert("answer", "a", {"n": 1})
        store.outbox_add("step", 0, {"f": "open"}, b"raw", b"hash")

    with SqliteStore(path, create=False) as store:
        assert store.get("answer", "a") == {"n": 1}
        assert store.outbox_by_key("step") is not None


def test_files__belong_to_the_owner_only(path: Path) -> None:
    old = os.umask(0)
    try:
        with SqliteStore(path) as store:
            store.insert("answer", "a", {})
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(old)

    assert set(modes) >= {"store.sqlite", "store.sqlite-wal", "store.sqlite.lock"}
    assert set(modes.values()) == {0o600}


def test_open__durability__is_set(path: Path) -> None:
    with SqliteStore(path) as store:
        pragma = store._connection.execute
        assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)
        assert pragma("PRAGMA synchronous").fetchone() == (2,)
        assert pragma("PRAGMA foreign_keys").fetchone() == (1,)


def test_open__readable_by_others__is_refused(path: Path) -> None:
    SqliteStore(path).close()
    path.chmod(0o640)

    with pytest.raises(StoreError, match="chmod 600"):
        SqliteStore(path)


def test_open__already_open__names_the_process(path: Path) -> None:
    with SqliteStore(path), pytest.raises(StoreError, match=f"another process .*{os.getpid()}"):
        SqliteStore(path)

    SqliteStore(path).close()


def test_open__missing_and_not_to_be_created__is_refused(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        SqliteStore(path, create=False)

    assert list(path.parent.iterdir()) == []


def test_open__newer_version__is_refused_and_unchanged(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = ?", (str(SCHEMA_VERSION + 1),))
    connection.close()

    with pytest.raises(StoreError, match="newer mpcredit") as caught:
        SqliteStore(path)

    assert "upgrade" in caught.value.remedy


@pytest.mark.parametrize("version", ["1", "2"])
def test_open__store_of_version_1__is_refused_and_unchanged(path: Path, version: str) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = ?", (version,))
    connection.close()

    with pytest.raises(StoreError, match="version 1 of mpcredit") as caught:
        SqliteStore(path)

    assert (caught.value.exit_code, caught.value.remedy) == (
        8,
        "begin an empty one under another name, and keep this one for the auditor",
    )
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT value FROM meta").fetchall() == [(version,)]
    connection.close()


def _text(path: Path) -> None:
    path.write_text("this is no database, whatever its name says " * 40)


def _other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (name)")
    connection.close()


def _no_version(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM meta")
    connection.close()


@pytest.mark.parametrize("make", [_text, _other_database, _no_version])
def test_open__no_store__is_refused_and_let_go(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    path.chmod(0o600)
    before = path.read_bytes()

    for _ in range(2):  # the second time would say "another process" if the first had kept the lock
        with pytest.raises(StoreError) as caught:
            SqliteStore(path)
        assert "another process" not in str(caught.value)

    assert before == path.read_bytes() or make is not _text


def test_disk_full__is_reported_and_undone(path: Path) -> None:
    with SqliteStore(path) as store:
        store.insert("seen", "a", {})
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")

        def attempt() -> None:
            with store.transaction():
                store.insert("seen", "b", {})
                store.insert("seen", "c", {"long": "x" * 100_000})

        with pytest.raises(StoreError, match="full"):
            attempt()

        store._connection.execute("PRAGMA max_page_count = 100000")
        store.insert("seen", "d", {})
        assert [key for key, _ in store.items("seen")] == ["a", "d"]


# --- crashes

_WRITER = """
import sys
from pathlib import Path
from mpcredit.store import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
n = store.next_nonce()
while True:
    with store.transaction():
        store.insert("answer", str(n), {"n": n, "body": "x" * 3000})
        print("first half", n, flush=True)
        with store.transaction():
            store.outbox_add(f"step/{n}", n, {"n": n}, b"raw" * 500, b"hash")
        store.put("meta", "last", {"n": n})
    print("stored", n, flush=True)
    store.outbox_update(f"step/{n}", state="sent")
    print("sent", n, flush=True)
    n += 1
"""


@pytest.mark.parametrize("word", ["first half", "stored", "sent"])
def test_kill_9__between_steps__loses_nothing_and_halves_nothing(path: Path, word: str) -> None:
    told: dict[str, set[int]] = {"first half": set(), "stored": set(), "sent": set()}
    for turn in range(3):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):  # cut off by the kill
                continue
            said, _, number = line.strip().rpartition(" ")
            told[said].add(int(number))
            if said == word and len(told[word]) >= 5 * (turn + 1):
                process.send_signal(signal.SIGKILL)
        process.stdout.close()
        assert process.wait(60) == -signal.SIGKILL

        with SqliteStore(path, create=False) as store:
            answers = [value["n"] for _, value in store.items("answer")]
            rows = store.outbox_rows()
            last = store.get("meta", "last")
            assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        # Each step is there whole or not at all; none that the writer called stored is missing, at most one is more.
        assert answers == [row.nonce for row in rows] == list(range(len(rows)))
        assert last == {"n": len(rows) - 1}
        assert max(told["stored"]) < len(rows) <= max(told["stored"]) + 2
        assert all(row.state == "sent" for row in rows if row.nonce in told["sent"])
