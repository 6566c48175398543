"""The store in the server's database, SQLite and PostgreSQL: the port's tests, then writer, crash and full disk (R24)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres import Cluster
from sqlalchemy import text
from store_port import StorePortTests

from mpcredit.errors import StoreError
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database, DatabaseInUse
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import OwnSqlStore, ReadSqlStore, SqlStore
from mpcredit.store import SqliteStore, StorePort

Opened = Callable[[str], Database]


class TestPort(StorePortTests):
    """All of tests/store_port.py, which tests/unit/test_store.py runs on SqliteStore and MemoryStore."""

    @pytest.fixture
    def store(self, database: Database) -> Iterator[StorePort]:
        with SqlStore(database) as opened:
            yield opened


# --- with the audit log


def test_transaction__with_audit_entry__both_or_neither(database: Database) -> None:
    store, audit = SqlStore(database), AuditLog(database)

    def attempt() -> None:
        with store.transaction():
            store.insert("application", "1", {})
            audit.append("user:anna", "application.created", "application/1")
            store.outbox_add("open/1", 0, {}, b"raw", b"hash")
            raise KeyError

    with pytest.raises(KeyError):
        attempt()

    assert store.get("application", "1") is None
    assert store.outbox_rows() == []
    assert audit.head() == (0, bytes(32))
    with store.transaction():
        store.insert("application", "1", {})
        audit.append("user:anna", "application.created", "application/1")
    assert audit.verify() == 1


def test_transaction__entry_cannot_be_written__change_is_undone(database: Database) -> None:
    store, audit = SqlStore(database), AuditLog(database)

    def attempt() -> None:
        with store.transaction():
            store.insert("application", "1", {})
            audit.append("user:anna", "application.created", score=0.5)

    with pytest.raises(Exception, match="JSON"):
        attempt()

    assert store.get("application", "1") is None


# --- one writer


_SECOND = """
import sys
from mpcredit.errors import StoreError
from mpcredit.server.database import Database
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import OwnSqlStore, ReadSqlStore, SqlStore
database = Database(sys.argv[1])
try:
    SqlStore(database)
except StoreError as error:
    print(error)
else:
    print("opened")
database.close()
"""


def _second(url: str) -> str:
    done = subprocess.run([sys.executable, "-c", _SECOND, url], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_open__other_process_has_it__is_refused_and_named(url: str, database: Database) -> None:
    store = SqlStore(database)
    assert f"another process has this store open (process {os.getpid()}" in _second(url)

    store.close()
    assert _second(url) == "opened\n"


def test_open__other_database_object_of_this_process__is_refused(url: str, database: Database, opened: Opened) -> None:
    SqlStore(database)
    other = opened(url)

    with pytest.raises(DatabaseInUse):
        SqlStore(other)
    SqlStore(other, claim=False)

    database.close()
    SqlStore(other)


def test_open__file_of_the_other_kind_of_store__is_refused(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "store.sqlite").close()
    database = Database(f"sqlite:///{tmp_path / 'store.sqlite'}")

    with pytest.raises(StoreError, match="something else"):
        database.upgrade()
    database.close()


def _terminate(cluster: Cluster, name: str, where: str) -> None:
    with cluster.connect() as connection:
        connection.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND {where}".encode(), (name,)
        )
    time.sleep(0.2)


_HAS_LOCK = "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"


def test_postgresql__lock_lost_and_taken_by_another__first_writer_stops(cluster: Cluster, opened: Opened) -> None:
    name = cluster.create()
    first, second = opened(cluster.url(name)), opened(cluster.url(name))
    store = SqlStore(first)
    store.insert("answer", "a", {})
    _terminate(cluster, name, _HAS_LOCK)
    SqlStore(second)

    with pytest.raises(DatabaseInUse, match="took over"):
        store.insert("answer", "b", {})

    assert [key for key, _ in SqlStore(second).items("answer")] == ["a"]


def test_postgresql__lock_lost_and_free__is_taken_again(cluster: Cluster, opened: Opened) -> None:
    name = cluster.create()
    first, second = opened(cluster.url(name)), opened(cluster.url(name))
    store = SqlStore(first)
    _terminate(cluster, name, _HAS_LOCK)

    store.insert("answer", "a", {})

    with pytest.raises(DatabaseInUse):
        SqlStore(second)


def test_postgresql__connection_lost_within_a_transaction__leaves_nothing(cluster: Cluster, opened: Opened) -> None:
    name = cluster.create()
    store = SqlStore(opened(cluster.url(name)))

    def attempt() -> None:
        with store.transaction():
            store.insert("answer", "a", {})
            with store.transaction():
                _terminate(cluster, name, "pid <> pg_backend_pid()")
                store.insert("answer", "b", {})

    with pytest.raises(StoreError, match="see to the database"):
        attempt()

    assert list(store.items("answer")) == []
    store.insert("answer", "c", {})
    assert [key for key, _ in store.items("answer")] == ["c"]


# --- durability


def test_durability__is_set(database: Database) -> None:
    with database.transaction() as connection:
        if database.dialect == "sqlite":
            assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
            assert connection.scalar(text("PRAGMA synchronous")) == 2
            assert connection.scalar(text("PRAGMA foreign_keys")) == 1
        else:
            assert connection.scalar(text("SHOW synchronous_commit")) == "on"


def test_sqlite__full_disk__is_reported_and_undone(tmp_path: Path, opened: Opened) -> None:
    database = opened(f"sqlite:///{tmp_path / 'server.sqlite'}")
    store = SqlStore(database)
    store.insert("seen", "a", {})

    def limit(pages: int | None) -> None:
        with database.read() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            found = driver.execute("PRAGMA page_count").fetchone()[0] if pages is None else pages
        with database.transaction() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute(f"PRAGMA max_page_count = {found}")

    def attempt() -> None:
        with store.transaction():
            store.insert("seen", "b", {})
            with store.transaction():
                store.insert("seen", "c", {"long": "x" * 100_000})

    limit(None)
    with pytest.raises(StoreError, match="full"):
        attempt()

    limit(100_000)
    store.insert("seen", "d", {})
    assert [key for key, _ in store.items("seen")] == ["a", "d"]


def test_sqlite__rolled_back_within__what_follows_is_refused(tmp_path: Path, opened: Opened) -> None:
    store = SqlStore(opened(f"sqlite:///{tmp_path / 'server.sqlite'}"))

    def attempt() -> None:
        with store.database.transaction() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("ROLLBACK")  # as SQLite itself does after some errors
            store.insert("seen", "a", {})

    with pytest.raises(StoreError, match="rolled back"):
        attempt()

    assert list(store.items("seen")) == []


# --- crashes

_WRITER = """
import sys
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import OwnSqlStore, ReadSqlStore, SqlStore
database = Database(sys.argv[1])
store, audit = SqlStore(database), AuditLog(database)
n = store.next_nonce()
while True:
    with store.transaction():
        store.insert("answer", str(n), {"n": n, "body": "x" * 3000})
        print("first half", n, flush=True)
        with store.transaction():
            store.outbox_add(f"step/{n}", n, {"n": n}, b"raw" * 500, b"hash")
        audit.append("node", "answered", f"answer/{n}")
    print("stored", n, flush=True)
    store.outbox_update(f"step/{n}", state="sent")
    print("sent", n, flush=True)
    n += 1
"""


@pytest.mark.parametrize("word", ["first half", "stored", "sent"])
def test_kill_9__between_steps__loses_nothing_and_halves_nothing(url: str, database: Database, word: str) -> None:
    told: dict[str, set[int]] = {"first half": set(), "stored": set(), "sent": set()}
    for turn in range(2):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            said, _, number = line.strip().rpartition(" ")
            told[said].add(int(number))
            if said == word and len(told[word]) >= 5 * (turn + 1):
                process.send_signal(signal.SIGKILL)
        process.stdout.close()
        assert process.wait(60) == -signal.SIGKILL

        # PostgreSQL notices the lost client, and lets go of its lock, when it next writes to it.
        for _ in range(100):
            try:
                store = SqlStore(database)
                break
            except DatabaseInUse:
                time.sleep(0.1)
        with store:
            answers = [value["n"] for _, value in store.items("answer")]
            rows = store.outbox_rows()
        # Each step is there whole or not at all, with its audit entry; none that the writer called stored is missing.
        assert answers == [row.nonce for row in rows] == list(range(len(rows)))
        assert AuditLog(database).verify() == len(rows)
        assert max(told["stored"]) < len(rows) <= max(told["stored"]) + 2
        assert all(row.state == "sent" for row in rows if row.nonce in told["sent"])


def test_postgresql__crash_of_the_database__loses_nothing_that_was_stored(opened: Opened) -> None:
    try:
        cluster = Cluster()
    except (RuntimeError, OSError) as error:
        pytest.skip(f"no PostgreSQL: {error}")
    try:
        name = cluster.create()
        store = SqlStore(opened(cluster.url(name)))
        for n in range(20):
            store.insert("answer", str(n), {"n": n})
        cluster.stop("immediate")

        with pytest.raises(StoreError):
            store.insert("answer", "20", {"n": 20})

        cluster.start()
        store.insert("answer", "21", {"n": 21})
        assert [value["n"] for _, value in store.items("answer")] == [*range(20), 21]
        store.database.close()

        cluster.stop()
        cluster.start("fsync=off")
        with pytest.raises(StoreError, match="fsync"):
            Database(cluster.url(name))
    finally:
        cluster.close()


def test_store_read_beside_the_writer__sees_what_is_committed_and_takes_no_lock(url: str) -> None:
    settings = ServerSettings(database=url)
    with OwnSqlStore(settings) as writer, ReadSqlStore(settings) as reader:
        writer.put("request", "1", {"n": 1})
        writer.outbox_add("a", 0, {}, b"raw", bytes(32))

        assert reader.get("request", "1") == {"n": 1}
        assert [row.key for row in reader.outbox_rows()] == ["a"]
        with pytest.raises(StoreError, match="reading only"):
            reader.put("request", "1", {"n": 2})
        with pytest.raises(DatabaseInUse):
            OwnSqlStore(settings)
        assert writer.get("request", "1") == {"n": 1}
    with OwnSqlStore(settings) as writer:
        assert writer.next_nonce() == 1


def test_store_read__from_an_empty_database__says_that_the_server_makes_it(url: str) -> None:
    Database(url).close()

    with pytest.raises(StoreError, match="no version"):
        ReadSqlStore(ServerSettings(database=url))
