"""The institution's own memory: what it answered, what it has seen, and every ledger step before it is sent.

One SQLite file (write-ahead log, synchronous=FULL, so that a commit has reached the disk when it returns), readable by
its owner only, with one writer at a time. Values are JSON objects under (kind, key). What they mean is left to the use
cases; that an answer exists once is kept here, by `insert`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

from mpcredit.encoding import to_hex
from mpcredit.errors import StoreError
from mpcredit.ports import OutboxRow, Version

__all__ = ["SCHEMA_VERSION", "AlreadyStored", "FirstVersion", "MemoryStore", "SqliteStore", "StoreInUse", "StorePort"]

SCHEMA_VERSION: Final = 3
"""Version of the tables below; raised with every change of them. Version 1 of mpcredit wrote 1 and 2."""

_STATES = ("prepared", "sent", "mined", "failed")

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE item (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (kind, key)
) STRICT;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    nonce INTEGER NOT NULL UNIQUE CHECK (nonce >= 0),
    call TEXT NOT NULL,
    raw BLOB NOT NULL,
    tx_hash BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'sent', 'mined', 'failed')),
    block INTEGER,
    gas_used INTEGER
) STRICT;
CREATE INDEX outbox_open ON outbox (nonce) WHERE state IN ('prepared', 'sent');
CREATE TABLE outbox_version (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    raw BLOB NOT NULL,
    tx_hash BLOB NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('step', 'filler')),
    UNIQUE (key, tx_hash)
) STRICT;
"""
"""`outbox_version`: the signed versions of a step that was signed more than once."""

_COLUMNS = "key, nonce, call, raw, tx_hash, state, block, gas_used"


class AlreadyStored(StoreError):
    """There is a value under this kind and key already; it was not touched."""

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"there is a {kind} under {key} already", remedy="use the stored one; it is never replaced")
        self.kind = kind
        self.key = key


class StoreInUse(StoreError):
    """Another process has the store."""

    def __init__(self, path: Path, process: str) -> None:
        super().__init__(
            f"{path}: another process has this store open (process {process})",
            remedy="stop it first; two writers could answer one inquiry twice",
        )
        self.process = process


class FirstVersion(StoreError):
    """A store of version 1 of mpcredit, whose consortium has ended."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place}: was written by version 1 of mpcredit, which has ended",
            remedy="begin an empty one under another name, and keep this one for the auditor",
        )


class StorePort(Protocol):
    """What the use cases ask of a store. Values are JSON objects without floats; all may raise `StoreError`."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing. A nested one joins: it is undone alone when it raises, and kept when the outermost one is."""

    def insert(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store once.

        Raises:
            AlreadyStored: there is a value under (kind, key).
        """

    def put(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store or replace; a replaced value keeps its place in the order."""

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Read one value."""

    def items(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """All values of a kind at this moment, in the order of their first insertion."""

    def delete(self, kind: str, key: str) -> None:
        """Forget one value; forgetting what is not there is no error."""

    def next_nonce(self) -> int:
        """One above the highest nonce in the outbox, 0 if it is empty."""

    def outbox_add(self, key: str, nonce: int, call: Mapping[str, Any], raw: bytes, tx_hash: bytes) -> OutboxRow:
        """Add a step in state prepared.

        Raises:
            AlreadyStored: there is a step under this key or nonce.
        """

    def outbox_by_key(self, key: str) -> OutboxRow | None:
        """Read one step."""

    def outbox_rows(self) -> list[OutboxRow]:
        """All steps in the order in which they were added."""

    def outbox_pending(self) -> list[OutboxRow]:
        """Steps that are neither mined nor failed, by nonce."""

    def outbox_below(self, nonce: int) -> OutboxRow | None:
        """The step with the highest nonce below one, None if there is none."""

    def outbox_update(
        self,
        key: str,
        *,
        state: str,
        block: int | None = None,
        gas_used: int | None = None,
        tx_hash: bytes | None = None,
    ) -> None:
        """Note what became of a step; what was signed stays as it is.

        Args:
            tx_hash: which of its signed versions that is; by default the row's.

        Raises:
            StoreError: there is no such step, or no such version of it.
        """

    def outbox_replace(self, key: str, raw: bytes, tx_hash: bytes, *, kind: str = "step") -> OutboxRow:
        """Keep another signed version of a step and make it the row's; earlier ones are kept too.

        Args:
            kind: "step", or "filler" for one that does nothing but use the step's nonce.

        Raises:
            StoreError: there is no such step.
        """

    def outbox_versions(self, key: str) -> list[Version]:
        """All signed versions of a step, oldest first; empty if there is no such step."""


def _encode_bytes(value: object) -> str:
    if isinstance(value, bytes):
        return to_hex(value)
    raise TypeError(f"a {type(value).__name__} cannot be stored")


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise TypeError("a float cannot be stored")
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not isinstance(name, str):
                raise TypeError("the names in a stored object are text")
            _refuse_floats(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_floats(part)


def _dump(value: Mapping[str, Any]) -> str:
    """Write a value; bytes become 0x text and stay text when read. Floats are a mistake of the caller."""
    if not isinstance(value, Mapping):
        raise TypeError("a stored value is an object with named parts")
    _refuse_floats(value)
    return json.dumps(dict(value), default=_encode_bytes, separators=(",", ":"), sort_keys=True, allow_nan=False)


def _load(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(text)
    return value


def _check_state(state: str, block: int | None) -> None:
    if state not in _STATES:
        raise ValueError(f"{state!r} is not a state of an outbox row")
    if state == "mined" and block is None:
        raise ValueError("a mined transaction is in a block")


def _check_kind(kind: str) -> None:
    if kind not in ("step", "filler"):
        raise ValueError(f"{kind!r} is not a kind of version")


def _version_of(versions: list[Version], key: str, tx_hash: bytes) -> Version:
    for version in versions:
        if version.tx_hash == tx_hash:
            return version
    raise _no_step(f"{key} with transaction {to_hex(tx_hash)}")


def _no_step(key: str) -> StoreError:
    return StoreError(f"there is no step {key} in the outbox", remedy="this is a mistake in mpcredit: please report it")


class SqliteStore:
    """The store in one SQLite file. Methods may be called from several threads of the process that opened it.

    Args:
        path: the file; `<path>.lock` beside it keeps other processes out, `<path>-wal` belongs to it.
        create: make the file if there is none. Say False where a missing store means a lost one.

    Raises:
        StoreError: another process has it, others can read it, it is no store, or a newer mpcredit wrote it.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self._mutex = threading.RLock()
        self._depth = 0
        self._lock = -1
        try:
            self._lock = self._take_lock(create)
            self._connection = self._connect(create)
        except BaseException:
            self._drop_lock()
            raise

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path}>"

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let the next process in. Calling it twice is no error."""
        with self._mutex:
            self._connection.close()
            self._drop_lock()

    # --- opening

    def _take_lock(self, create: bool) -> int:
        try:
            if create:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not self.path.exists():
                raise StoreError(
                    f"{self.path}: there is no store",
                    remedy="name the right file; if it was lost, restore the latest backup and tell mpcredit so",
                )
            name = self.path.with_name(self.path.name + ".lock")
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be opened: {error.strerror}", remedy="see to path, space and permissions"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreInUse(self.path, owner or "unknown") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def _drop_lock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _connect(self, create: bool) -> sqlite3.Connection:
        try:
            # (1) SQLite would create the file with the mode of the umask, and gives its -wal file the same mode.
            if create:
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            mode = self.path.stat().st_mode
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be opened: {error.strerror}", remedy="see to path, space and permissions"
            ) from error
        if mode & 0o077:
            raise StoreError(
                f"{self.path}: other accounts of this machine can read it (mode {mode & 0o777:o})",
                remedy=f"run: chmod 600 {self.path}",
            )
        connection = None
        try:
            # (2) isolation_level None: this module begins and ends transactions itself.
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA fullfsync=ON")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA secure_delete=ON")
            # (3) tables and their version appear together, or not at all.
            connection.execute("BEGIN IMMEDIATE")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not tables:
                for statement in _TABLES.strip().split(";\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
            elif not {"meta", "item", "outbox"} <= tables:
                raise StoreError(f"{self.path}: is a database of something else", remedy="name the store's own file")
            row = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
            self._check_version(row)
            connection.execute("COMMIT")
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise self._translate(error) from error
            raise
        return connection

    def _check_version(self, row: tuple[str] | None) -> None:
        version = int(row[0]) if row is not None and row[0].isdecimal() else 0
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: was written by a newer mpcredit (store version {version}, known here: {SCHEMA_VERSION})",
                remedy="upgrade mpcredit; do not go back to an older backup",
            )
        if version in (1, 2):
            raise FirstVersion(str(self.path))
        if version < SCHEMA_VERSION:
            raise StoreError(f"{self.path}: has no valid store version", remedy="restore it from a backup")

    def _translate(self, error: sqlite3.Error) -> StoreError:
        return StoreError(
            f"{self.path}: {error}", remedy="see to disk space and permissions; if it is damaged, restore a backup"
        )

    # --- statements

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. A nested one joins: it is undone alone when it raises, and kept when the outermost one is."""
        with self._mutex:
            name = f"level_{self._depth}"
            self._run("BEGIN IMMEDIATE" if self._depth == 0 else f"SAVEPOINT {name}")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                self._undo(name)
                raise
            self._depth -= 1
            try:
                self._run("COMMIT" if self._depth == 0 else f"RELEASE {name}")
            except StoreError:
                self._undo(name)
                raise

    def _undo(self, name: str) -> None:
        """Roll back to where a transaction began; after some errors, such as a full disk, SQLite has done so itself."""
        if self._connection.in_transaction:
            for statement in ["ROLLBACK"] if self._depth == 0 else [f"ROLLBACK TO {name}", f"RELEASE {name}"]:
                with contextlib.suppress(sqlite3.OperationalError):
                    self._connection.execute(statement)

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._mutex:
            if self._depth > 0 and not self._connection.in_transaction:
                raise StoreError(f"{self.path}: the transaction was rolled back", remedy="see to disk space; try again")
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as error:
                raise self._translate(error) from error

    def insert(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store once."""
        try:
            self._run("INSERT INTO item (kind, key, value) VALUES (?, ?, ?)", (kind, key, _dump(value)))
        except sqlite3.IntegrityError as error:
            raise AlreadyStored(kind, key) from error

    def put(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store or replace; a replaced value keeps its place in the order."""
        self._run(
            "INSERT INTO item (kind, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (kind, key, _dump(value)),
        )

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Read one value."""
        rows = self._run("SELECT value FROM item WHERE kind = ? AND key = ?", (kind, key))
        return _load(rows[0][0]) if rows else None

    def items(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """All values of a kind at this moment, in the order of their first insertion."""
        rows = self._run("SELECT key, value FROM item WHERE kind = ? ORDER BY seq", (kind,))
        return ((key, _load(text)) for key, text in rows)

    def delete(self, kind: str, key: str) -> None:
        """Forget one value; forgetting what is not there is no error."""
        self._run("DELETE FROM item WHERE kind = ? AND key = ?", (kind, key))

    # --- outbox

    def next_nonce(self) -> int:
        """One above the highest nonce in the outbox, 0 if it is empty."""
        return int(self._run("SELECT coalesce(max(nonce) + 1, 0) FROM outbox")[0][0])

    def outbox_add(self, key: str, nonce: int, call: Mapping[str, Any], raw: bytes, tx_hash: bytes) -> OutboxRow:
        """Add a step in state prepared."""
        if nonce < 0:
            raise ValueError("a nonce is not negative")
        try:
            self._run(
                f"INSERT INTO outbox ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, 'prepared', NULL, NULL)",
                (key, nonce, _dump(call), raw, tx_hash),
            )
        except sqlite3.IntegrityError as error:
            raise AlreadyStored("ledger step", f"{key} or nonce {nonce}") from error
        row = self.outbox_by_key(key)
        assert row is not None
        return row

    def outbox_by_key(self, key: str) -> OutboxRow | None:
        """Read one step."""
        rows = self._run(f"SELECT {_COLUMNS} FROM outbox WHERE key = ?", (key,))
        return _row(rows[0]) if rows else None

    def outbox_rows(self) -> list[OutboxRow]:
        """All steps in the order in which they were added."""
        return [_row(row) for row in self._run(f"SELECT {_COLUMNS} FROM outbox ORDER BY id")]

    def outbox_pending(self) -> list[OutboxRow]:
        """Steps that are neither mined nor failed, by nonce."""
        where = "state IN ('prepared', 'sent')"
        return [_row(row) for row in self._run(f"SELECT {_COLUMNS} FROM outbox WHERE {where} ORDER BY nonce")]

    def outbox_below(self, nonce: int) -> OutboxRow | None:
        """The step with the highest nonce below one, None if there is none."""
        rows = self._run(f"SELECT {_COLUMNS} FROM outbox WHERE nonce < ? ORDER BY nonce DESC LIMIT 1", (nonce,))
        return _row(rows[0]) if rows else None

    def outbox_update(
        self,
        key: str,
        *,
        state: str,
        block: int | None = None,
        gas_used: int | None = None,
        tx_hash: bytes | None = None,
    ) -> None:
        """Note what became of a step; what was signed stays as it is."""
        _check_state(state, block)
        with self.transaction():
            rows = self._run(
                "UPDATE outbox SET state = ?, block = ?, gas_used = ? WHERE key = ? RETURNING tx_hash",
                (state, block, gas_used, key),
            )
            if not rows:
                raise _no_step(key)
            if tx_hash not in (None, rows[0][0]):
                version = _version_of(self.outbox_versions(key), key, tx_hash)
                self._run("UPDATE outbox SET raw = ?, tx_hash = ? WHERE key = ?", (*version[:2], key))

    def outbox_replace(self, key: str, raw: bytes, tx_hash: bytes, *, kind: str = "step") -> OutboxRow:
        """Keep another signed version of a step and make it the row's; earlier ones are kept too."""
        _check_kind(kind)
        with self.transaction():
            row = self.outbox_by_key(key)
            if row is None:
                raise _no_step(key)
            for version in (*self.outbox_versions(key), Version(raw, tx_hash, kind)):
                self._run(
                    "INSERT INTO outbox_version (key, raw, tx_hash, kind) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (key, *version),
                )
            self._run("UPDATE outbox SET raw = ?, tx_hash = ? WHERE key = ?", (raw, tx_hash, key))
        return replace(row, raw=raw, tx_hash=tx_hash)

    def outbox_versions(self, key: str) -> list[Version]:
        """All signed versions of a step, oldest first."""
        rows = self._run("SELECT raw, tx_hash, kind FROM outbox_version WHERE key = ? ORDER BY id", (key,))
        rows = rows or self._run("SELECT raw, tx_hash FROM outbox WHERE key = ?", (key,))
        return [Version(*row) for row in rows]


def _row(columns: tuple[Any, ...]) -> OutboxRow:
    key, nonce, call, raw, tx_hash, state, block, gas_used = columns
    return OutboxRow(key, nonce, _load(call), raw, tx_hash, state, block, gas_used)


class MemoryStore:
    """The same interface without a file, for tests and dry runs: it lives as long as the object."""

    def __init__(self) -> None:
        self._mutex = threading.RLock()
        self._items: dict[str, dict[str, str]] = {}
        self._outbox: dict[str, tuple[Any, ...]] = {}
        self._versions: dict[str, list[Version]] = {}

    def __repr__(self) -> str:
        return "<MemoryStore>"

    def close(self) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; a nested one joins."""
        with self._mutex:
            items = {kind: dict(values) for kind, values in self._items.items()}
            outbox = dict(self._outbox)
            versions = {key: list(values) for key, values in self._versions.items()}
            try:
                yield
            except BaseException:
                self._items, self._outbox, self._versions = items, outbox, versions
                raise

    def insert(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store once."""
        text = _dump(value)
        with self._mutex:
            if key in self._items.setdefault(kind, {}):
                raise AlreadyStored(kind, key)
            self._items[kind][key] = text

    def put(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store or replace; a replaced value keeps its place in the order."""
        text = _dump(value)
        with self._mutex:
            self._items.setdefault(kind, {})[key] = text

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Read one value."""
        with self._mutex:
            text = self._items.get(kind, {}).get(key)
        return None if text is None else _load(text)

    def items(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """All values of a kind at this moment, in the order of their first insertion."""
        with self._mutex:
            rows = list(self._items.get(kind, {}).items())
        return ((key, _load(text)) for key, text in rows)

    def delete(self, kind: str, key: str) -> None:
        """Forget one value; forgetting what is not there is no error."""
        with self._mutex:
            self._items.get(kind, {}).pop(key, None)

    def next_nonce(self) -> int:
        """One above the highest nonce in the outbox, 0 if it is empty."""
        with self._mutex:
            return max((row[1] + 1 for row in self._outbox.values()), default=0)

    def outbox_add(self, key: str, nonce: int, call: Mapping[str, Any], raw: bytes, tx_hash: bytes) -> OutboxRow:
        """Add a step in state prepared."""
        if nonce < 0:
            raise ValueError("a nonce is not negative")
        text = _dump(call)
        with self._mutex:
            if key in self._outbox or any(row[1] == nonce for row in self._outbox.values()):
                raise AlreadyStored("ledger step", f"{key} or nonce {nonce}")
            self._outbox[key] = (key, nonce, text, raw, tx_hash, "prepared", None, None)
            return _row(self._outbox[key])

    def outbox_by_key(self, key: str) -> OutboxRow | None:
        """Read one step."""
        with self._mutex:
            return _row(self._outbox[key]) if key in self._outbox else None

    def outbox_rows(self) -> list[OutboxRow]:
        """All steps in the order in which they were added."""
        with self._mutex:
            return [_row(row) for row in self._outbox.values()]

    def outbox_pending(self) -> list[OutboxRow]:
        """Steps that are neither mined nor failed, by nonce."""
        rows = [row for row in self.outbox_rows() if row.state in ("prepared", "sent")]
        return sorted(rows, key=lambda row: row.nonce)

    def outbox_below(self, nonce: int) -> OutboxRow | None:
        """The step with the highest nonce below one, None if there is none."""
        return max((row for row in self.outbox_rows() if row.nonce < nonce), key=lambda row: row.nonce, default=None)

    def outbox_update(
        self,
        key: str,
        *,
        state: str,
        block: int | None = None,
        gas_used: int | None = None,
        tx_hash: bytes | None = None,
    ) -> None:
        """Note what became of a step; what was signed stays as it is."""
        _check_state(state, block)
        with self._mutex:
            if key not in self._outbox:
                raise _no_step(key)
            _key, nonce, call, *version = self._outbox[key][:5]
            if tx_hash is not None:
                version = list(_version_of(self.outbox_versions(key), key, tx_hash)[:2])
            self._outbox[key] = (key, nonce, call, *version, state, block, gas_used)

    def outbox_replace(self, key: str, raw: bytes, tx_hash: bytes, *, kind: str = "step") -> OutboxRow:
        """Keep another signed version of a step and make it the row's; earlier ones are kept too."""
        _check_kind(kind)
        with self._mutex:
            if key not in self._outbox:
                raise _no_step(key)
            versions = self.outbox_versions(key)
            known = any(version.tx_hash == tx_hash for version in versions)
            self._versions[key] = versions if known else [*versions, Version(raw, tx_hash, kind)]
            self._outbox[key] = (*self._outbox[key][:3], raw, tx_hash, *self._outbox[key][5:])
            return _row(self._outbox[key])

    def outbox_versions(self, key: str) -> list[Version]:
        """All signed versions of a step, oldest first."""
        with self._mutex:
            if key not in self._outbox:
                return []
            return list(self._versions.get(key, [Version(*self._outbox[key][3:5])]))
