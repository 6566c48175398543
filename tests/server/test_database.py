"""The server's database: opening, migrations, and transactions that several parts of the server share."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from postgres import PASSWORD, Cluster
from sqlalchemy import inspect, text

from mpcredit.errors import StoreError
from mpcredit.server.database import VERSION_TABLE, Database, metadata, open_database
from mpcredit.server.settings import ServerSettings

Opened = Callable[[str], Database]


# --- opening


def test_open__files__belong_to_the_owner_only(tmp_path: Path, opened: Opened) -> None:
    old = os.umask(0)
    try:
        database = opened(f"sqlite:///{tmp_path / 'deep' / 'server.sqlite'}")
        database.claim()
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "deep").iterdir()}
    finally:
        os.umask(old)

    assert set(modes) >= {"server.sqlite", "server.sqlite-wal", "server.sqlite.lock"}
    assert set(modes.values()) == {0o600}


def test_open__readable_by_others__is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.sqlite"
    Database(f"sqlite:///{path}").close()
    path.chmod(0o640)

    with pytest.raises(StoreError, match="chmod 600"):
        Database(f"sqlite:///{path}")


def test_open__missing_and_not_to_be_created__is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        Database(f"sqlite:///{tmp_path / 'server.sqlite'}", create=False)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["mysql://host/name", "sqlite://", "sqlite:///:memory:", "no url", "postgresql+pg8000://x"]
)
def test_open__no_database_that_keeps__is_refused(url: str) -> None:
    with pytest.raises(StoreError):
        Database(url)


def test_open__no_database_file__is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.sqlite"
    path.write_text("this is no database, whatever its name says " * 40)
    path.chmod(0o600)

    with pytest.raises(StoreError, match="not a database"):
        Database(f"sqlite:///{path}")


def test_postgresql__wrong_password__is_a_store_error_without_the_password(cluster: Cluster) -> None:
    with pytest.raises(StoreError) as caught:
        Database(cluster.url("postgres", "wrong word"))

    assert "wrong word" not in str(caught.value)


def test_open_database__password_from_a_file(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(PASSWORD + "\n")
    (tmp_path / "bank.toml").write_text(
        f'[server]\ndatabase = "{cluster.url(cluster.create(), None)}"\ndatabase_password_file = "secret"\n'
    )

    database = open_database(ServerSettings.load(tmp_path / "bank.toml"))

    assert PASSWORD not in repr(database)
    assert PASSWORD not in database.url_safe
    database.close()


# --- migrations


def test_upgrade__tables__are_those_of_the_metadata(database: Database) -> None:
    for part in (
        "applications",
        "corrections",
        "database",
        "footprint",
        "notices",
        "webhook",
    ):  # the modules that describe tables
        importlib.import_module(f"mpcredit.server.{part}")
    database.upgrade()  # a second time does nothing

    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("version", ["0001", "0005", "0012"])
def test_upgrade__database_of_version_1__is_refused_and_unchanged(url: str, opened: Opened, version: str) -> None:
    database = opened(url)
    with database.transaction() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))

    with pytest.raises(StoreError, match="version 1 of mpcredit") as caught:
        database.upgrade()

    assert (caught.value.exit_code, "keep this one for the auditor" in caught.value.remedy) == (8, True)
    with database.read() as connection:
        assert connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) == version


def test_upgrade__newer_version__is_refused_and_unchanged(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))

    with pytest.raises(StoreError, match="another mpcredit"):
        database.upgrade()

    with database.read() as connection:
        assert connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) == "9999"


def test_upgrade__database_of_something_else__is_refused_and_unchanged(url: str) -> None:
    database = Database(url)
    with database.transaction() as connection:
        connection.execute(text("CREATE TABLE customers (name TEXT)"))

    with pytest.raises(StoreError, match="something else"):
        database.upgrade()

    with database.read() as connection:
        assert inspect(connection).get_table_names() == ["customers"]
    database.close()


def test_upgrade__several_at_once__all_succeed(url: str) -> None:
    databases = [Database(url) for _ in range(3)]
    failed: list[BaseException] = []

    def upgrade(database: Database) -> None:
        try:
            database.upgrade()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=upgrade, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for database in databases:
        database.close()

    assert failed == []


# --- transactions

_PUT = text("INSERT INTO meta (name, value) VALUES (:name, 'x')")
_NAMES = text("SELECT name FROM meta ORDER BY name")


def test_transaction__other_thread__reads_what_is_committed_without_waiting(database: Database) -> None:
    seen: list[object] = []

    def look() -> None:
        with database.read() as connection:
            seen.append(connection.scalars(_NAMES).all())

    with database.transaction() as connection:
        connection.execute(_PUT, {"name": "a"})
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(20)
        with database.read() as joined:
            assert joined.scalars(_NAMES).all() == ["a"]

    assert seen == [[]]


def test_transaction__many_threads__one_after_another(database: Database) -> None:
    def count() -> None:
        for _ in range(10):
            with database.transaction() as connection:
                found = connection.scalar(text("SELECT value FROM meta WHERE name = 'n'"))
                connection.execute(
                    text("UPDATE meta SET value = :value WHERE name = 'n'"), {"value": str(int(found) + 1)}
                )

    with database.transaction() as connection:
        connection.execute(text("INSERT INTO meta VALUES ('n', '0')"))
    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    with database.read() as connection:
        assert connection.scalar(text("SELECT value FROM meta WHERE name = 'n'")) == "40"


def test_transaction__held_across_an_await__is_a_mistake_that_shows(database: Database) -> None:
    async def hold() -> None:
        with database.transaction():
            await asyncio.sleep(0.2)

    async def both() -> tuple[BaseException | None, BaseException | None]:
        return await asyncio.gather(hold(), hold(), return_exceptions=True)

    first, second = asyncio.run(both())

    assert first is None
    assert isinstance(second, RuntimeError)


def test_transaction__context_copied_into_a_thread__does_not_join(database: Database) -> None:
    async def outer() -> list[str]:
        def look() -> list[str]:
            with database.read() as connection:
                return list(connection.scalars(_NAMES))

        with database.transaction() as connection:
            connection.execute(_PUT, {"name": "a"})
            return await asyncio.to_thread(look)

    assert asyncio.run(outer()) == []


def test_close__twice__is_no_error(database: Database) -> None:
    database.claim()
    database.close()
    database.close()
