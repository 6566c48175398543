"""Databases for the tests of the server: each test that asks for `database` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from clock import Clock
from postgres import Cluster

from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.people import People


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real PostgreSQL."""
    try:
        found = Cluster()
    except (RuntimeError, OSError) as error:
        pytest.skip(f"no PostgreSQL: {error}")
    yield found
    found.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'server.sqlite'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.url(cluster.empty())


@pytest.fixture
def opened() -> Iterator[Callable[[str], Database]]:
    """Open databases that are closed after the test."""
    all_opened: list[Database] = []

    def open_it(url: str) -> Database:
        database = Database(url)
        all_opened.append(database)
        database.upgrade()
        return database

    yield open_it
    for database in all_opened:
        database.close()


@pytest.fixture
def database(url: str, opened: Callable[[str], Database]) -> Database:
    """An opened and upgraded database."""
    return opened(url)


@pytest.fixture
def clock() -> Clock:
    """A clock that the test turns."""
    return Clock()


@pytest.fixture
def audit(database: Database, clock: Clock) -> AuditLog:
    """The audit log of `database`."""
    return AuditLog(database, clock=clock)


@pytest.fixture
def people(database: Database, audit: AuditLog, clock: Clock) -> People:
    """The accounts of `database`, with passwords that cost little."""
    return People(database, audit, clock=clock, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
