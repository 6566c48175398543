"""What the parties of `mpcredit up` and `mpcredit certify` run on: child processes, the chain, databases of their own."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy

from mpcredit.chain.anvil import Anvil
from mpcredit.chain.client import Endpoint
from mpcredit.errors import LedgerError, MpcreditError, StoreError
from mpcredit.local import fund_from_key
from mpcredit.server.plan import Party, Plan

__all__ = ["STOP_SECONDS", "Chain", "Process", "check_ports", "databases", "environment", "quiet", "run_chain"]

CHAIN_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0


class Process:
    """A child with its log. It ends when we do: its standard input is a pipe of ours."""

    def __init__(
        self, name: str, module: str, arguments: Sequence[str], log: Path, environment: dict[str, str]
    ) -> None:
        self.name = name
        self.log = log
        self._stream = log.open("ab")
        self.started_at = self._stream.tell()
        # A session of its own: Ctrl-C at the terminal is for us, and we stop the children in their order.
        self.popen = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, "--with-parent"],
            stdin=subprocess.PIPE,
            stdout=self._stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.popen.poll() is None

    def last_words(self, most: int = 800) -> str:
        """What it said at the end."""
        with self.log.open("rb") as stream:
            stream.seek(self.started_at)
            return stream.read().decode(errors="replace").strip()[-most:]

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self.alive:
            self.popen.terminate()

    def end_input(self) -> None:
        """Let it see that we are gone, at which it ends at once."""
        if self.popen.stdin is not None:
            self.popen.stdin.close()

    def wait(self, until: float) -> None:
        """Wait for its end until a time of the monotonic clock, then kill it."""
        try:
            self.popen.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        self._stream.close()


def environment(party: Party | None = None) -> dict[str, str]:
    """What a child is told: nothing that belongs to another party or to whoever started us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MPCREDIT_")}
    for name in ("MPCREDIT_ANVIL",):
        if name in os.environ:
            kept[name] = os.environ[name]
    if party is not None:
        kept["MPCREDIT_PASSPHRASE_FILE"] = str(party.passphrase)
    return kept


def check_ports(ports: Sequence[int]) -> None:
    """Refuse ports that something listens on."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise MpcreditError(
                    f"port {port} is in use", remedy="stop what uses it, or choose others with --port"
                ) from error


# --------------------------------------------------------------------- the chain


@dataclass
class Chain:
    """A chain to work on."""

    url: str
    fund: Callable[[str], None]
    """Gives an account what it needs for fees."""
    process: Process | None = None
    """The embedded chain's."""


@contextlib.contextmanager
def run_chain(plan: Plan, directory: Path, *, keep: bool) -> Iterator[Chain]:
    """The chain, running while the `with` block does if it is ours."""
    kind, _, rest = plan.chain.partition(":")
    if kind == "embedded":
        arguments = ["--port", str(plan.chain_port)]
        if keep:
            arguments += ["--path", str(directory / "chain.sqlite")]
        process = Process("chain", "mpcredit.server.rpc", arguments, directory / "chain.log", environment())
        try:
            url = f"http://127.0.0.1:{plan.chain_port}"
            _await_chain(process, url)
            endpoint = Endpoint(url)
            yield Chain(url, lambda address: endpoint.raw("fund", "mpcredit_fund", [address]), process)
        finally:
            process.ask_to_stop()
            process.wait(time.monotonic() + STOP_SECONDS)
    elif kind == "anvil":
        # Anvil writes its state when it ends and now and then before: what a kill loses is sent again by the parties.
        state = ("--state", str(directory / "anvil.json"), "--state-interval", "5") if keep else ()
        node = Anvil(port=plan.chain_port, arguments=state, hardfork=rest or "prague")
        with node:
            yield Chain(node.url, node.fund)
    else:
        endpoint = Endpoint(plan.chain)
        endpoint.chain_id(None)  # a node that is down is noticed before anything is made
        yield Chain(plan.chain, lambda address: fund_from_key(endpoint, address))


def _await_chain(process: Process, url: str) -> None:
    end, endpoint = time.monotonic() + CHAIN_SECONDS, Endpoint(url)
    while process.alive and time.monotonic() < end:
        if url in process.last_words():
            endpoint.chain_id(None)
            return
        time.sleep(0.05)
    raise LedgerError(
        f"the embedded chain did not start: {process.last_words() or 'it said nothing'}",
        remedy=f"see {process.log}",
    )


# --------------------------------------------------------------------- databases


@contextlib.contextmanager
def databases(plan: Plan, parties: Sequence[Party], password: str | None, *, new: bool, keep: bool) -> Iterator[None]:
    """On a PostgreSQL server a database for each party: none sees another's, and locks do not meet."""
    if plan.database == "sqlite":
        yield
        return
    url = sqlalchemy.make_url(plan.database).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(
        url.set(password=password, database=url.database or "postgres"), isolation_level="AUTOCOMMIT"
    )
    names = [plan.database_name(party.name) for party in parties]
    try:
        if new:
            _execute(engine, [f'CREATE DATABASE "{name}"' for name in names])
        yield
    finally:
        if not keep:
            with contextlib.suppress(StoreError):
                _execute(engine, [f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)' for name in names])
        engine.dispose()


def _execute(engine: sqlalchemy.Engine, statements: Sequence[str]) -> None:
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(sqlalchemy.text(statement))
    except sqlalchemy.exc.SQLAlchemyError as error:
        # Not chained: the error may hold the password.
        reason = str(getattr(error, "orig", error)).strip().splitlines()
        raise StoreError(
            f"the PostgreSQL server did not do what was needed: {reason[0] if reason else type(error).__name__}",
            remedy="give the URL of a server and an account that may create databases: postgresql://USER@HOST/postgres",
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keystores warn of light parameters, once for each; here they are meant, and the documents say so."""
    log = logging.getLogger("mpcredit")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
