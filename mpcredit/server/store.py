"""`mpcredit.ports.Store` in the server's database, SQLite or PostgreSQL.

What a step needs from the store and what the audit log says of it are one transaction, because both use the same
`Database`. That one process writes is kept by `Database.claim`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

from sqlalchemy import Row, delete, func, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from mpcredit.errors import StoreError
from mpcredit.ports import OutboxRow, Version
from mpcredit.server.database import (
    Database,
    item_table,
    open_database,
    outbox_table,
    version_table,
)
from mpcredit.server.settings import ServerSettings
from mpcredit.store import AlreadyStored, _check_kind, _check_state, _dump, _load, _no_step, _row, _version_of

__all__ = ["OwnSqlStore", "ReadSqlStore", "SqlStore"]

_OUTBOX = [outbox_table.c[name] for name in ("key", "nonce", "call", "raw", "tx_hash", "state", "block", "gas_used")]


class SqlStore:
    """The store in an opened and upgraded database.

    Args:
        database: shared with people and audit log.
        claim: become the one writer; False only to look at what is there.

    Raises:
        DatabaseInUse: another process is the writer.
    """

    def __init__(self, database: Database, *, claim: bool = True) -> None:
        self.database = database
        self._insert = sqlite.insert if database.dialect == "sqlite" else postgresql.insert
        self._claimed = claim
        if claim:
            database.claim()

    def __repr__(self) -> str:
        return f"<SqlStore {self.database.url_safe}>"

    def __enter__(self) -> SqlStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the next writer in; the database stays open. Calling it twice is no error."""
        if self._claimed:
            self._claimed = False
            self.database.release()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. A nested one joins: it is undone alone when it raises, and kept when the outermost one is."""
        with self.database.transaction():
            yield

    def _write(self, statement: Any) -> Sequence[Row[Any]]:
        with self.database.transaction() as connection:
            result = connection.execute(statement)
            return result.all() if result.returns_rows else ()

    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        with self.database.alone() as connection:
            return connection.execute(statement).all()

    def insert(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store once.

        Raises:
            AlreadyStored: there is a value under (kind, key).
        """
        # A conflict is no error of the database: in PostgreSQL an error would end the transaction around it.
        statement = self._insert(item_table).values(kind=kind, key=key, value=_dump(value))
        if not self._write(statement.on_conflict_do_nothing().returning(item_table.c.seq)):
            raise AlreadyStored(kind, key)

    def put(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store or replace; a replaced value keeps its place in the order."""
        statement = self._insert(item_table).values(kind=kind, key=key, value=_dump(value))
        self._write(
            statement.on_conflict_do_update(index_elements=["kind", "key"], set_={"value": statement.excluded.value})
        )

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Read one value."""
        rows = self._read(select(item_table.c.value).where(item_table.c.kind == kind, item_table.c.key == key))
        return _load(rows[0].value) if rows else None

    def items(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """All values of a kind at this moment, in the order of their first insertion."""
        columns = item_table.c
        rows = self._read(select(columns.key, columns.value).where(columns.kind == kind).order_by(columns.seq))
        return ((row.key, _load(row.value)) for row in rows)

    def delete(self, kind: str, key: str) -> None:
        """Forget one value; forgetting what is not there is no error."""
        self._write(delete(item_table).where(item_table.c.kind == kind, item_table.c.key == key))

    # --- outbox

    def next_nonce(self) -> int:
        """One above the highest nonce in the outbox, 0 if it is empty."""
        [(nonce,)] = self._read(select(func.coalesce(func.max(outbox_table.c.nonce) + 1, 0)))
        return int(nonce)

    def outbox_add(self, key: str, nonce: int, call: Mapping[str, Any], raw: bytes, tx_hash: bytes) -> OutboxRow:
        """Add a step in state prepared.

        Raises:
            AlreadyStored: there is a step under this key or nonce.
        """
        if nonce < 0:
            raise ValueError("a nonce is not negative")
        statement = self._insert(outbox_table).values(
            key=key, nonce=nonce, call=_dump(call), raw=raw, tx_hash=tx_hash, state="prepared"
        )
        rows = self._write(statement.on_conflict_do_nothing().returning(*_OUTBOX))
        if not rows:
            raise AlreadyStored("ledger step", f"{key} or nonce {nonce}")
        return _row(tuple(rows[0]))

    def outbox_by_key(self, key: str) -> OutboxRow | None:
        """Read one step."""
        rows = self._read(select(*_OUTBOX).where(outbox_table.c.key == key))
        return _row(tuple(rows[0])) if rows else None

    def outbox_rows(self) -> list[OutboxRow]:
        """All steps in the order in which they were added."""
        return [_row(tuple(row)) for row in self._read(select(*_OUTBOX).order_by(outbox_table.c.id))]

    def outbox_pending(self) -> list[OutboxRow]:
        """Steps that are neither mined nor failed, by nonce."""
        statement = select(*_OUTBOX).where(outbox_table.c.state.in_(("prepared", "sent")))
        return [_row(tuple(row)) for row in self._read(statement.order_by(outbox_table.c.nonce))]

    def outbox_below(self, nonce: int) -> OutboxRow | None:
        """The step with the highest nonce below one, None if there is none."""
        statement = select(*_OUTBOX).where(outbox_table.c.nonce < nonce)
        rows = self._read(statement.order_by(outbox_table.c.nonce.desc()).limit(1))
        return _row(tuple(rows[0])) if rows else None

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
        _check_state(state, block)
        statement = update(outbox_table).where(outbox_table.c.key == key)
        changed = statement.values(state=state, block=block, gas_used=gas_used).returning(outbox_table.c.tx_hash)
        with self.transaction():
            rows = self._write(changed)
            if not rows:
                raise _no_step(key)
            if tx_hash is not None and tx_hash != bytes(rows[0].tx_hash):
                raw = _version_of(self.outbox_versions(key), key, tx_hash).raw
                self._write(statement.values(raw=raw, tx_hash=tx_hash))

    def outbox_replace(self, key: str, raw: bytes, tx_hash: bytes, *, kind: str = "step") -> OutboxRow:
        """Keep another signed version of a step and make it the row's; earlier ones are kept too.

        Args:
            kind: "step", or "filler" for one that does nothing but use the step's nonce.

        Raises:
            StoreError: there is no such step.
        """
        _check_kind(kind)
        with self.transaction():
            row = self.outbox_by_key(key)
            if row is None:
                raise _no_step(key)
            for version in (*self.outbox_versions(key), Version(raw, tx_hash, kind)):
                kept = self._insert(version_table).values(key=key, **version._asdict())
                self._write(kept.on_conflict_do_nothing())
            self._write(update(outbox_table).where(outbox_table.c.key == key).values(raw=raw, tx_hash=tx_hash))
        return replace(row, raw=raw, tx_hash=tx_hash)

    def outbox_versions(self, key: str) -> list[Version]:
        """All signed versions of a step, oldest first."""
        columns, first = version_table.c, outbox_table.c
        rows = self._read(
            select(columns.raw, columns.tx_hash, columns.kind).where(columns.key == key).order_by(columns.id)
        ) or self._read(select(first.raw, first.tx_hash, literal("step").label("kind")).where(first.key == key))
        return [Version(bytes(row.raw), bytes(row.tx_hash), row.kind) for row in rows]


class OwnSqlStore(SqlStore):
    """The store of a server that does not run, with its database: for the command that takes its place meanwhile.

    Raises:
        DatabaseInUse: the server runs.
        StoreError: the database cannot be had.
    """

    def __init__(self, settings: ServerSettings) -> None:
        database = open_database(settings)
        try:
            super().__init__(database)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close the database too."""
        super().close()
        self.database.close()


class ReadSqlStore(SqlStore):
    """The store of a server that runs or not, only to be read: no lock, no change of tables, and writing is an error.

    Raises:
        StoreError: there is no database, it cannot be had, or another release wrote its tables.
    """

    def __init__(self, settings: ServerSettings) -> None:
        database = Database(settings.database, create=False, password=settings.database_password())
        try:
            with database.read() as connection:
                present = database.version(connection)
            if present != database.newest_version():
                raise StoreError(
                    f"{database.url_safe}: has tables of {present or 'no version'}, not of this release's",
                    remedy="start the server of this release once (`mpcredit serve`); it upgrades them",
                )
            super().__init__(database, claim=False)
        except BaseException:
            database.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Refused."""
        self._refuse()
        yield

    def _write(self, statement: Any) -> Sequence[Row[Any]]:
        self._refuse()
        return ()

    def _refuse(self) -> None:
        raise StoreError(
            f"{self.database.url_safe}: is open for reading only", remedy="use the server's pages or its API"
        )

    def close(self) -> None:
        """Close the database."""
        super().close()
        self.database.close()
