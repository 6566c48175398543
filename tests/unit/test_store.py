"""The store: one set of port tests for file and fake, then what only the file has: disk, lock, crash."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpcredit.errors import StoreError
from mpcredit.store import SCHEMA_VERSION, AlreadyStored, MemoryStore, SqliteStore, StorePort


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorePort]:
    opened = SqliteStore(tmp_path / "store.sqlite") if request.param == "sqlite" else MemoryStore()
    yield opened
    opened.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


# --- the port


def test_insert__twice__keeps_the_first(store: StorePort) -> None:
    store.insert("answer", "0x01", {"bytes": b"\x01\xff", "big": 2**4096, "list": [1, None, True]})

    with pytest.raises(AlreadyStored) as caught:
        store.insert("answer", "0x01", {"bytes": "other"})

    assert store.get("answer", "0x01") == {"bytes": "0x01ff", "big": 2**4096, "list": [1, None, True]}
    assert isinstance(caught.value, StoreError)
    assert (caught.value.kind, caught.value.key) == ("answer", "0x01")


def test_get__other_kind_or_key__is_none(store: StorePort) -> None:
    store.insert("answer", "a", {"x": 1})

    assert store.get("answer", "b") is None
    assert store.get("seen", "a") is None


def test_items__after_put_and_delete__keep_the_order_of_first_insertion(store: StorePort) -> None:
    for key in ("c", "a", "b"):
        store.insert("seen", key, {"n": 1})
    store.insert("other", "z", {})
    store.put("seen", "c", {"n": 2})
    store.put("seen", "d", {"n": 3})
    store.delete("seen", "a")
    store.delete("seen", "never there")

    assert list(store.items("seen")) == [("c", {"n": 2}), ("b", {"n": 1}), ("d", {"n": 3})]


def test_items__store_changes_meanwhile__is_a_snapshot(store: StorePort) -> None:
    store.insert("seen", "a", {})
    snapshot = store.items("seen")
    store.insert("seen", "b", {})

    assert [key for key, _ in snapshot] == ["a"]


def test_transaction__raises__leaves_nothing(store: StorePort) -> None:
    store.put("seen", "kept", {"n": 1})

    def attempt() -> None:
        with store.transaction():
            store.put("seen", "kept", {"n": 2})
            store.insert("seen", "new", {})
            store.outbox_add("step", 0, {}, b"raw", b"hash")
            raise KeyError

    with pytest.raises(KeyError):
        attempt()

    assert list(store.items("seen")) == [("kept", {"n": 1})]
    assert store.outbox_pending() == []
    assert store.next_nonce() == 0


def test_transaction__nested__joins_the_outermost(store: StorePort) -> None:
    def attempt() -> None:
        with store.transaction():
            with store.transaction():
                store.insert("seen", "inner", {})
            raise KeyError

    with pytest.raises(KeyError):
        attempt()

    assert store.get("seen", "inner") is None


def test_transaction__nested_one_fails_and_is_caught__undoes_only_that(store: StorePort) -> None:
    def attempt() -> None:
        with store.transaction():
            store.insert("seen", "inner", {})
            raise KeyError

    with store.transaction():
        store.insert("seen", "before", {})
        with pytest.raises(KeyError):
            attempt()
        store.insert("seen", "after", {})

    assert [key for key, _ in store.items("seen")] == ["before", "after"]


def test_transaction__already_stored_is_caught_inside__goes_on(store: StorePort) -> None:
    store.insert("answer", "a", {"n": 1})

    with store.transaction():
        with pytest.raises(AlreadyStored):
            store.insert("answer", "a", {"n": 2})
        store.insert("answer", "b", {"n": 3})

    assert list(store.items("answer")) == [("a", {"n": 1}), ("b", {"n": 3})]


@pytest.mark.parametrize("value", [{"x": 0.5}, {"x": [{"y": 1.0}]}, {1: "x"}, {"x": {2}}, [1]])
def test_put__no_json_object_without_floats__is_refused(store: StorePort, value: object) -> None:
    with pytest.raises(TypeError):
        store.put("seen", "a", value)  # type: ignore[arg-type]

    assert store.get("seen", "a") is None


def test_get__result_changed_by_the_caller__does_not_change_the_store(store: StorePort) -> None:
    store.put("seen", "a", {"list": []})
    value = store.get("seen", "a")
    assert value is not None
    value["list"].append(1)

    assert store.get("seen", "a") == {"list": []}


def test_outbox__life_of_a_step(store: StorePort) -> None:
    added = store.outbox_add("answer/1", 7, {"function": "contribute"}, b"\x02raw", b"\x11" * 32)
    assert (added.key, added.nonce, added.state, added.block, added.gas_used) == ("answer/1", 7, "prepared", None, None)
    assert (added.call, added.raw, added.tx_hash) == ({"function": "contribute"}, b"\x02raw", b"\x11" * 32)

    store.outbox_update("answer/1", state="sent")
    assert [row.state for row in store.outbox_pending()] == ["sent"]

    store.outbox_update("answer/1", state="mined", block=12, gas_used=90_000)
    row = store.outbox_by_key("answer/1")
    assert row is not None
    assert (row.state, row.block, row.gas_used, row.raw) == ("mined", 12, 90_000, b"\x02raw")
    assert store.outbox_pending() == []
    assert store.outbox_rows() == [row]

    store.outbox_update("answer/1", state="sent")  # its block was reorganised away
    row = store.outbox_by_key("answer/1")
    assert row is not None
    assert (row.state, row.block, row.gas_used) == ("sent", None, None)


def test_outbox__same_key_or_nonce__is_refused(store: StorePort) -> None:
    store.outbox_add("a", 0, {}, b"1", b"h")

    with pytest.raises(AlreadyStored):
        store.outbox_add("a", 1, {}, b"2", b"h")
    with pytest.raises(AlreadyStored):
        store.outbox_add("b", 0, {}, b"2", b"h")

    assert [row.raw for row in store.outbox_rows()] == [b"1"]


def test_outbox__pending__comes_by_nonce_and_next_nonce_counts_all(store: StorePort) -> None:
    assert store.next_nonce() == 0
    for key, nonce in (("c", 5), ("a", 3), ("b", 4)):
        store.outbox_add(key, nonce, {}, b"", b"")
    store.outbox_update("c", state="failed")

    assert [row.key for row in store.outbox_pending()] == ["a", "b"]
    assert [row.key for row in store.outbox_rows()] == ["c", "a", "b"]
    assert store.next_nonce() == 6


def test_outbox__wrong_use__is_refused(store: StorePort) -> None:
    store.outbox_add("a", 0, {}, b"", b"")

    with pytest.raises(ValueError, match="state"):
        store.outbox_update("a", state="lost")
    with pytest.raises(ValueError, match="block"):
        store.outbox_update("a", state="mined")
    with pytest.raises(StoreError):
        store.outbox_update("unknown", state="sent")
    with pytest.raises(ValueError, match="nonce"):
        store.outbox_add("b", -1, {}, b"", b"")
    assert store.outbox_by_key("unknown") is None


def test_transaction__other_thread__waits_for_its_end(store: StorePort) -> None:
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(store.get("seen", "a")))

    with store.transaction():
        store.put("seen", "a", {"n": 1})
        thread.start()
        thread.join(0.05)
        store.put("seen", "a", {"n": 2})
    thread.join(5)

    assert seen == [{"n": 2}]


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
            said, _, number = line.strip().rpartition(" ")
            told[said].add(int(number))
            if said == word and len(told[word]) >= 5 * (turn + 1):
                process.send_signal(signal.SIGKILL)
        process.stdout.close()
        assert process.wait(10) == -signal.SIGKILL

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
