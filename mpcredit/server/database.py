"""The server's one database: SQLite or PostgreSQL, its tables, their migrations, and who may write when.

Store, people, audit log and applications share it, and share its transactions: within `with database.transaction():`
whatever the same thread writes is kept together or not at all. So an audit entry cannot be without its change, nor a
change without its entry. A commit has reached the disk when it returns (R24): SQLite runs with synchronous=FULL, and
PostgreSQL with fsync off is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import alembic.command
import alembic.config
import alembic.script
import alembic.util
from alembic.runtime.migration import MigrationContext
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from mpcredit.errors import StoreError
from mpcredit.server.settings import ServerSettings
from mpcredit.store import FirstVersion

__all__ = ["Database", "DatabaseInUse", "metadata", "open_database"]

VERSION_TABLE: Final = "mpcredit_version"
_VERSION_1: Final = "00"
"""So began the numbers of the tables that version 1 wrote."""
_BUSY_SECONDS: Final = 30
"""How long a writer waits for another one before it gives up."""
_UPGRADE_LOCK: Final = 0x6D70_6372_6564_0001
_WRITER_LOCK: Final = 0x6D70_6372_6564_0002
"""Advisory locks of PostgreSQL, "mpcred" and a number; they hold within one database."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""All tables of the server. A change of them comes with a migration; a test compares the two."""

Number = BigInteger().with_variant(Integer, "sqlite")
"""A primary key that counts: SQLite counts only columns of type INTEGER."""

# --- the store (mpcredit.ports.Store)

meta_table = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

item_table = Table(
    "item",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    UniqueConstraint("kind", "key"),
    sqlite_autoincrement=True,
)

outbox_table = Table(
    "outbox",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, unique=True),
    Column("nonce", BigInteger, nullable=False, unique=True),
    Column("call", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("tx_hash", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("block", BigInteger),
    Column("gas_used", BigInteger),
    CheckConstraint("nonce >= 0", name="nonce"),
    CheckConstraint("state IN ('prepared', 'sent', 'mined', 'failed')", name="state"),
    sqlite_autoincrement=True,
)
Index(
    "ix_outbox_open",
    outbox_table.c.nonce,
    sqlite_where=text("state IN ('prepared', 'sent')"),
    postgresql_where=text("state IN ('prepared', 'sent')"),
)

version_table = Table(
    "outbox_version",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("tx_hash", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    UniqueConstraint("key", "tx_hash"),
    CheckConstraint("kind IN ('step', 'filler')", name="kind"),
    sqlite_autoincrement=True,
)
"""The signed versions of a step that was signed more than once: with rising fees, or to do nothing in its place."""

# --- the audit log

audit_table = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False, index=True),
    Column("actor", Text, nullable=False, index=True),
    Column("action", Text, nullable=False, index=True),
    Column("about", Text, nullable=False, index=True),
    Column("line", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
audit_head_table = Table(
    "audit_head",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("one = 1", name="one"),
)

# --- people

user_table = Table(
    "person",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
    Column("display", Text, nullable=False),
    Column("password", Text),
    Column("language", Text),
    Column("disabled_at", BigInteger),
    Column("suspended_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
role_table = Table(
    "person_role",
    metadata,
    Column("person", ForeignKey("person.id"), primary_key=True),
    Column("role", Text, primary_key=True),
)
identity_table = Table(
    "person_identity",
    metadata,
    Column("issuer", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("person", ForeignKey("person.id"), nullable=False),
)
session_table = Table(
    "session",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("person", ForeignKey("person.id"), nullable=False, index=True),
    Column("method", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
sign_in_table = Table(
    "sign_in_link",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("person", ForeignKey("person.id"), nullable=False, index=True),
    Column("expires_at", BigInteger, nullable=False),
)
api_token_table = Table(
    "api_token",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    CheckConstraint("state IN ('pending', 'active', 'revoked')", name="state"),
    sqlite_autoincrement=True,
)
change_table = Table(
    "pending_change",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("person", ForeignKey("person.id")),
    Column("roles", Text),
    Column("token", ForeignKey("api_token.id")),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("why", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("decided_by", Text),
    Column("decided_at", BigInteger),
    CheckConstraint("kind IN ('roles', 'token')", name="kind"),
    CheckConstraint("state IN ('pending', 'confirmed', 'refused')", name="state"),
    sqlite_autoincrement=True,
)

# --- the supervisor's people: looks at figures, and the sources of contracts (mpcredit.server.looks, .contractcode)

look_table = Table(
    "look",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("inquiry", Text, nullable=False, index=True),
    Column("asked_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("decided_by", Text),
    Column("decided_at", BigInteger),
    Column("why", Text),
    CheckConstraint("state IN ('asked', 'confirmed', 'refused')", name="state"),
    sqlite_autoincrement=True,
)
contract_source_table = Table(
    "contract_source",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("state", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("compiler", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("sources", Text, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    CheckConstraint("state IN ('shipped', 'rebuilt')", name="state"),
)

# --- votes and approvals that people ordered (mpcredit.server.orders)

proposal_order_table = Table(
    "proposal_order",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("proposal", BigInteger, nullable=False, index=True),
    Column("calls_hash", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("decided_by", Text),
    Column("decided_at", BigInteger),
    Column("why", Text),
    Column("block", BigInteger),
    CheckConstraint("kind IN ('give', 'withdraw')", name="kind"),
    CheckConstraint("state IN ('asked', 'confirmed', 'refused', 'cancelled', 'started', 'done')", name="state"),
    sqlite_autoincrement=True,
)

# --- the loan book, by tag: no identity number is here (mpcredit.server.bookimport)

book_snapshot_table = Table(
    "book_snapshot",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("schema", BigInteger, nullable=False),
    Column("definition", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("as_of", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("institution", Text, nullable=False),
    Column("tag_key_version", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("customers", BigInteger, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    CheckConstraint("state IN ('loading', 'current', 'previous')", name="state"),
    sqlite_autoincrement=True,
)
Index(
    "ix_book_snapshot_current",
    book_snapshot_table.c.schema,
    unique=True,
    sqlite_where=text("state = 'current'"),
    postgresql_where=text("state = 'current'"),
)
book_row_table = Table(
    "book_row",
    metadata,
    Column("schema", BigInteger, primary_key=True, autoincrement=False),
    Column("tag", LargeBinary, primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("until", BigInteger),
    Column("hash", LargeBinary, nullable=False),
    Column("figures", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""A row belongs to the snapshots from `first` on, and before `until`."""
Index(
    "ix_book_row_until",
    book_row_table.c.schema,
    book_row_table.c.until,
    sqlite_where=text("until IS NOT NULL"),
    postgresql_where=text("until IS NOT NULL"),
)


class DatabaseInUse(StoreError):
    """Another process is the writer of this store."""

    def __init__(self, place: str, process: str) -> None:
        super().__init__(
            f"{place}: another process has this store open (process {process})",
            remedy="stop it first; two writers could answer one inquiry twice",
        )
        self.process = process


@dataclass
class _Open:
    connection: Connection
    thread: int
    depth: int = 1


class Database:
    """One database. Its methods may be called from several threads of the process that opened it.

    Args:
        url: SQLAlchemy URL of SQLite (a file) or PostgreSQL (psycopg).
        create: make the SQLite file if there is none. Say False where a missing file means a lost one.
        password: of the database, where the URL has none.

    Raises:
        StoreError: it cannot be opened, others can read the file, or it would lose what was committed.
    """

    def __init__(self, url: str, *, create: bool = True, password: str | None = None) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise StoreError("the database's URL cannot be read", remedy="write sqlite:///FILE, for example") from error
        if password is not None:
            parsed = parsed.set(password=password)
        if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
            raise StoreError(
                f"databases of type {parsed.drivername} are not supported", remedy="use sqlite or postgresql+psycopg"
            )
        self.url_safe = parsed.render_as_string(hide_password=True)
        """The URL without its password."""
        self.path = Path(parsed.database or "") if parsed.drivername.startswith("sqlite") else None
        """The SQLite file; None with PostgreSQL."""
        self._mutex = threading.RLock()
        self._current: ContextVar[_Open | None] = ContextVar("mpcredit_transaction", default=None)
        self._writing = False
        self._lock = -1
        self._claim: Connection | None = None
        self._claimed = 0
        self._epoch = ""
        if self.path is not None:
            self._prepare_file(self.path, create)
            self.engine: Engine = create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS}, pool_size=10)
            event.listen(self.engine, "connect", _connect_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            event.listen(self.engine, "before_cursor_execute", _still_in_transaction)
        else:
            arguments = {"application_name": f"mpcredit {os.getpid()}", "connect_timeout": 10}
            self.engine = create_engine(parsed, pool_pre_ping=True, connect_args=arguments, pool_size=10)
            event.listen(self.engine, "connect", _connect_postgresql)
        try:
            with self.read() as connection:
                if self.path is None and connection.scalar(text("SHOW fsync")) != "on":
                    raise StoreError(
                        f"{self.url_safe}: runs with fsync off, so that it can lose what was committed",
                        remedy="set fsync = on in postgresql.conf; a lost answer could be given twice",
                    )
        except BaseException:
            self.engine.dispose()
            raise

    def __repr__(self) -> str:
        return f"<Database {self.url_safe}>"

    @property
    def dialect(self) -> str:
        """Sqlite or postgresql, in lower case."""
        return "postgresql" if self.path is None else "sqlite"

    def close(self) -> None:
        """Close all connections and let the next process in. Calling it twice is no error."""
        with self._mutex:
            self._claimed = min(self._claimed, 1)
            self.release()
            self.engine.dispose()

    def _prepare_file(self, path: Path, create: bool) -> None:
        if str(path) in ("", ":memory:"):
            raise StoreError("a database in memory is lost with the process", remedy="write sqlite:///FILE")
        try:
            if create:
                # SQLite would create the file with the mode of the umask, and gives its -wal file the same mode.
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            elif not path.exists():
                raise StoreError(
                    f"{path}: there is no store",
                    remedy="name the right file; if it was lost, restore the latest backup and tell mpcredit so",
                )
            mode = path.stat().st_mode
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be opened: {error.strerror}", remedy="see to path, space and permissions"
            ) from error
        if mode & 0o077:
            raise StoreError(
                f"{path}: other accounts of this machine can read it (mode {mode & 0o777:o})",
                remedy=f"run: chmod 600 {path}",
            )

    # --- transactions

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Write: all or nothing, one at a time in this process, and never held across an `await`.

        A nested one in the same thread joins: it is undone alone when it raises, and kept when the outermost one is.

        Raises:
            StoreError: the database failed, or another process is the writer now.
        """
        joined = self._joined()
        if joined is not None:
            with self._nested(joined):
                yield joined.connection
            return
        with self._mutex:
            if self._writing:
                raise RuntimeError("a transaction was held across an await, or left open by a generator")
            with self._translated(), self.engine.connect() as connection:
                connection.execution_options(mpcredit_write=True)
                self._writing = True
                mark = None
                try:
                    with connection.begin():
                        self._check_claim(connection)
                        mark = self._current.set(_Open(connection, threading.get_ident()))
                        yield connection
                finally:
                    self._writing = False
                    if mark is not None:
                        self._current.reset(mark)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Read: joins this thread's transaction if there is one; otherwise what is committed, waiting for nobody.

        Raises:
            StoreError: the database failed.
        """
        joined = self._joined()
        if joined is not None:
            with self._translated():
                yield joined.connection
            return
        with self._translated(), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def alone(self) -> Iterator[Connection]:
        """Read, after every transaction of other threads has ended: what the store promises its users."""
        with self._mutex, self.read() as connection:
            yield connection

    def _joined(self) -> _Open | None:
        found = self._current.get()
        # A context is copied into worker threads; a connection must not be.
        return found if found is not None and found.thread == threading.get_ident() else None

    @contextlib.contextmanager
    def _nested(self, joined: _Open) -> Iterator[None]:
        name = f"level_{joined.depth}"
        with self._translated():
            joined.connection.exec_driver_sql(f"SAVEPOINT {name}")
            joined.depth += 1
            try:
                yield
            except BaseException:
                joined.depth -= 1
                # After some errors, such as a full disk or a lost connection, all is rolled back already; the
                # outermost transaction then fails too.
                with contextlib.suppress(SQLAlchemyError, StoreError):
                    joined.connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {name}")
                    joined.connection.exec_driver_sql(f"RELEASE SAVEPOINT {name}")
                raise
            joined.depth -= 1
            joined.connection.exec_driver_sql(f"RELEASE SAVEPOINT {name}")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (IntegrityError, ProgrammingError, ArgumentError):
            raise  # mistakes of the program
        except DBAPIError as error:
            # Only the driver's own sentence: SQLAlchemy's has the values that were to be written.
            raise self._failed(str(error.orig)) from error.orig
        except SQLAlchemyError as error:
            raise self._failed(type(error).__name__) from error
        except sqlite3.Error as error:
            raise self._failed(str(error)) from error

    def _failed(self, why: str) -> StoreError:
        return StoreError(
            f"{self.url_safe}: {' '.join(why.split())}",
            remedy="see to the database, its disk space and permissions; if it is damaged, restore a backup",
        )

    # --- the one writer

    def claim(self) -> None:
        """Become the one process that writes the store, until `release` as often, or `close`.

        SQLite: a lock on the file `<path>.lock`. PostgreSQL: an advisory lock, and a mark in the database that each
        transaction looks at, so that a writer that lost its connection, and with it the lock, to another writer stops.

        Raises:
            DatabaseInUse: another process, or another `Database` of this process, is.
        """
        with self._mutex:
            if self._claimed == 0:
                if self.path is not None:
                    self._lock_file(self.path)
                else:
                    self._lock_postgresql()
                    epoch = os.urandom(16).hex()
                    with self.transaction() as connection:
                        connection.execute(
                            text(
                                "INSERT INTO meta (name, value) VALUES ('writer', :epoch) "
                                "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
                            ),
                            {"epoch": epoch},
                        )
                    self._epoch = epoch
            self._claimed += 1

    def release(self) -> None:
        """Let the next writer in."""
        with self._mutex:
            if self._claimed > 0:
                self._claimed -= 1
            if self._claimed > 0:
                return
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1
            self._epoch = ""
            self._drop_claim()

    def _drop_claim(self) -> None:
        if self._claim is not None:
            with contextlib.suppress(SQLAlchemyError):  # PostgreSQL notices the end of a connection only after a while
                self._claim.exec_driver_sql("SELECT pg_advisory_unlock_all()")
            with contextlib.suppress(SQLAlchemyError):
                self._claim.invalidate()  # closes the connection itself and with it the lock, instead of pooling it
            with contextlib.suppress(SQLAlchemyError):
                self._claim.close()
            self._claim = None

    def _lock_file(self, path: Path) -> None:
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DatabaseInUse(str(path), owner or "unknown") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def _lock_postgresql(self) -> None:
        with self._translated():
            claim = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            try:
                taken = claim.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _WRITER_LOCK})
                if not taken:
                    owner = claim.scalar(
                        text(
                            "SELECT a.application_name || coalesce(' at ' || host(a.client_addr), '') "
                            "FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' "
                            "AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = "
                            "current_database()) AND (l.classid::bigint << 32) | l.objid::bigint = :lock"
                        ),
                        {"lock": _WRITER_LOCK},
                    )
                    raise DatabaseInUse(self.url_safe, str(owner or "unknown").removeprefix("mpcredit "))
            except BaseException:
                claim.close()
                raise
            self._claim = claim

    def _check_claim(self, connection: Connection) -> None:
        """The first statement of each transaction of a writer: is it still the one? (R24, PostgreSQL)"""
        if not self._epoch:
            return
        # (1) somebody else has been the writer since: what he did is not known here. FOR UPDATE: he cannot become it
        #     before this transaction has ended, since becoming it writes this row.
        epoch = connection.scalar(text("SELECT value FROM meta WHERE name = 'writer' FOR UPDATE"))
        if epoch != self._epoch:
            raise DatabaseInUse(self.url_safe, "unknown: it took over while the connection was lost")
        # (2) the connection that holds the lock was lost, for example as PostgreSQL was restarted: take the lock again.
        assert self._claim is not None
        try:
            self._claim.exec_driver_sql("SELECT 1")
        except SQLAlchemyError:
            self._drop_claim()
            self._lock_postgresql()

    # --- tables

    @staticmethod
    def newest_version() -> str:
        """The version of this release's tables."""
        return alembic.script.ScriptDirectory.from_config(_scripts_config()).get_current_head() or ""

    def version(self, connection: Connection) -> str:
        """The version of the tables; empty where there is none.

        Raises:
            FirstVersion: version 1 of mpcredit wrote them.
        """
        heads = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_heads()
        if any(head.startswith(_VERSION_1) for head in heads):
            raise FirstVersion(self.url_safe)
        return ", ".join(heads)

    def upgrade(self) -> None:
        """Bring the tables to this release's version; several processes may try at once.

        Raises:
            StoreError: version 1 or a newer mpcredit wrote them, or the database is something else's.
        """
        config = _scripts_config()
        scripts = alembic.script.ScriptDirectory.from_config(config)
        with self.transaction() as connection:
            if self.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _UPGRADE_LOCK})
            # (1) is it ours, and do we know its version?
            tables = set(inspect(connection).get_table_names())
            if tables and VERSION_TABLE not in tables:
                raise StoreError(
                    f"{self.url_safe}: is a database of something else",
                    remedy="name an empty database, or the server's own",
                )
            present = self.version(connection)
            if present == self.newest_version():
                return
            try:
                known = not present or scripts.get_revision(present) is not None
            except alembic.util.CommandError:
                known = False
            if not known or (tables and not present):
                raise StoreError(
                    f"{self.url_safe}: was written by another mpcredit (tables {present or 'of no version'})",
                    remedy="upgrade mpcredit; do not go back to an older backup",
                )
            # (2) all steps in this one transaction: SQLite and PostgreSQL can take back changes of tables.
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")


def _scripts_config() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def open_database(settings: ServerSettings, *, create: bool = True) -> Database:
    """Open the database that the settings name, and bring its tables to this release's version.

    Raises:
        StoreError: it cannot be had.
    """
    database = Database(settings.database, create=create, password=settings.database_password())
    try:
        database.upgrade()
    except BaseException:
        database.close()
        raise
    return database


# --- drivers


def _connect_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # this module begins and ends transactions itself
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("BEGIN IMMEDIATE" if connection.get_execution_options().get("mpcredit_write") else "BEGIN")


def _still_in_transaction(connection: Connection, cursor: sqlite3.Cursor, statement: str, *_rest: Any) -> None:
    """After some errors SQLite rolls back by itself; what follows must not be written outside of the transaction."""
    if not cursor.connection.in_transaction and not statement.startswith(("PRAGMA", "ROLLBACK", "RELEASE")):
        raise StoreError("the transaction was rolled back", remedy="see to disk space; try again")


def _connect_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
        cursor.execute(f"SET lock_timeout TO '{_BUSY_SECONDS}s'")
    connection.commit()
