"""A PostgreSQL of our own for the tests: a cluster in a temporary directory, reached through a Unix socket only.

`python tests/server/postgres.py` installs Debian's package where it is missing and can be had (root; `make test` calls it).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

__all__ = ["PASSWORD", "Cluster", "binaries"]

PASSWORD = "public test password"
HOW = "run `apt-get update && apt-get install postgresql` as root"


def binaries() -> Path | None:
    """The directory of initdb and pg_ctl: Debian's newest, or the one on PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    found = str(places[-1]) if places else shutil.which("initdb")
    return None if found is None else Path(found).parent


class Cluster:
    """A running cluster.

    Raises:
        RuntimeError: it cannot be had; the message says why.
    """

    def __init__(self) -> None:
        found = binaries()
        if found is None:
            raise RuntimeError(f"PostgreSQL is not installed: {HOW}")
        self._binaries = found
        self._as: dict[str, object] = {}
        self.directory = Path(tempfile.mkdtemp(prefix="mpcredit-pg-"))
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            try:
                account = pwd.getpwnam("postgres")
            except KeyError as error:
                shutil.rmtree(self.directory)
                raise RuntimeError(f"there is no account postgres: {HOW}") from error
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        secret = self.directory / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o644)
        self._run(
            "initdb", "-D", "data", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-A", "scram-sha-256",
            f"--pwfile={secret}",
        )  # fmt: skip
        self._databases = 0
        self.start()

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / name, *arguments],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            **self._as,  # type: ignore[call-overload]
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr.strip()}")

    def start(self, *options: str) -> None:
        """Start it."""
        extra = "".join(f" -c {option}" for option in options)
        self._run(
            "pg_ctl", "-D", "data", "-w", "-s", "-l", "log", "-o",
            f"-c listen_addresses= -c unix_socket_directories={self.directory} -c shared_buffers=16MB{extra}", "start",
        )  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stop it; mode immediate is a crash."""
        self._run("pg_ctl", "-D", "data", "-w", "-s", "-m", mode, "stop")

    def close(self) -> None:
        """Stop it and delete all of it."""
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str, password: str | None = PASSWORD) -> str:
        """SQLAlchemy URL of a database."""
        secret = "" if password is None else ":" + password.replace(" ", "%20")
        return f"postgresql+psycopg://postgres{secret}@/{database}?host={self.directory}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of its own, which commits each statement."""
        return psycopg.connect(
            dbname=database, host=str(self.directory), user="postgres", password=PASSWORD, autocommit=True
        )

    def create(self) -> str:
        """Make an empty database; returns its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name

    def empty(self) -> str:
        """The same database each time, emptied, which takes less than making one; returns its name."""
        name = "emptied"
        with self.connect() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'emptied'").fetchone()
            if found is None:
                connection.execute("CREATE DATABASE emptied")
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'emptied'")
        with self.connect(name) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return name


def _install() -> int:
    if binaries() is not None:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"PostgreSQL is missing, so its tests are skipped; {HOW}")
        return 0
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "postgresql"]):
        if subprocess.run(command, check=False).returncode:
            print(f"PostgreSQL could not be installed, so its tests are skipped; {HOW}")
            break
    return 0


if __name__ == "__main__":
    sys.exit(_install())
