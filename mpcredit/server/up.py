"""A local consortium in one go: a chain, several institutions and a supervisor, each a process of its own.

    DIRECTORY/
      consortium.json       what this consortium is, for starting it again; written when it is founded
      chain.sqlite          the embedded chain (anvil.json: Anvil's)
      bank-a/               all that the process of Bank A is given
        bank.toml  founding.toml  keys/  passphrase  owner-account.json  owner-passphrase  book.csv  server.sqlite  server.log
      supervisor/           the same, with supervisor.toml

For trying and for demonstrations: the passphrases lie beside the keys that they open, and are stretched cheaply. A real
founding is docs/founding.md; each party then runs `mpcredit serve` by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import logging
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy
from eth_account import Account
from eth_account.signers.local import LocalAccount

from mpcredit import bookmaker
from mpcredit.chain import ChainLedger, ChainSigner, deploy
from mpcredit.chain.anvil import Anvil
from mpcredit.chain.client import Endpoint
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidFile, LedgerError, MpcreditError, StoreError
from mpcredit.events import Call, Parameters
from mpcredit.founding import read_founding
from mpcredit.keystore import KdfCost, KeyStore
from mpcredit.local import DEFAULT_PARAMETERS, bank_names, fund_from_key, sign_key
from mpcredit.outbox import Outbox
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import open_database
from mpcredit.server.people import People
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import SqlStore
from mpcredit.state import SUPERVISOR
from mpcredit.tags import TagKey

__all__ = ["INSTITUTION_PEOPLE", "SUPERVISOR_PEOPLE", "Link", "Party", "Plan", "Running", "up"]

DEFAULT_INSTITUTIONS: Final = 5
DEFAULT_BITS: Final = 3072
DEFAULT_PORT: Final = 8600
START_SECONDS: Final = 180.0
"""Within which all parties must be ready; a small machine with many institutions takes its time."""
CHAIN_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
KEY_SECONDS: Final = 300.0
"""How long the chain may take for the one step of the setting up that is waited for."""
READY_SECONDS: Final = 300
"""Short, so that the others soon do without an institution that was killed."""
TERMS: Final = replace(DEFAULT_PARAMETERS, minimum_cohort=3, answer_seconds=300)
"""Three suffice, so that a consortium of five works on without two."""
RECORD: Final = "consortium.json"
FORMAT: Final = "mpcredit/up"
VERSION: Final = 1

INSTITUTION_PEOPLE: Final = (
    ("officer", "Lin Mei"),
    ("reviewer", "Chen Yu"),
    ("administrator", "Wang Jun"),
    ("auditor", "Zhao Ning"),
)
"""Roles, which are also the names to sign in with, and names for people."""
SUPERVISOR_PEOPLE: Final = (
    ("supervisor", "Huang Rui"),
    ("reviewer", "Wu Jia"),
    ("administrator", "Xu Lan"),
    ("auditor", "Sun Bo"),
)


# --------------------------------------------------------------------- what is to be run


@dataclass(frozen=True)
class Party:
    """One process to be."""

    name: str
    role: str
    """institution or supervisor."""
    directory: Path
    port: int
    database: str
    """SQLAlchemy URL, without a password."""

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.directory / ("bank.toml" if self.role == "institution" else "supervisor.toml")

    @property
    def passphrase(self) -> Path:
        """The file with the passphrase of its keys."""
        return self.directory / "passphrase"

    @property
    def log(self) -> Path:
        """What its process writes."""
        return self.directory / "server.log"

    @property
    def url(self) -> str:
        """Of its pages."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def people(self) -> tuple[tuple[str, str], ...]:
        """Its roles and people."""
        return INSTITUTION_PEOPLE if self.role == "institution" else SUPERVISOR_PEOPLE

    @property
    def command(self) -> str:
        """How to start it by hand."""
        return (
            f"MPCREDIT_PASSPHRASE_FILE={shlex.quote(str(self.passphrase))} "
            f"mpcredit serve --config {shlex.quote(str(self.config))}"
        )


@dataclass(frozen=True)
class Link:
    """A way in."""

    party: Party
    role: str
    person: str
    url: str
    """Works once."""


@dataclass(frozen=True)
class Plan:
    """What a consortium is: kept in its directory, so that it can be started again."""

    institutions: int = DEFAULT_INSTITUTIONS
    bits: int = DEFAULT_BITS
    chain: str = "embedded"
    """embedded, anvil, anvil:HARDFORK or the URL of a node."""
    database: str = "sqlite"
    """sqlite, or the URL of a PostgreSQL server, without a password."""
    port: int = DEFAULT_PORT
    """Of the first institution; the others, the supervisor and the chain follow."""
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    """In the names of PostgreSQL databases."""
    chain_id: int = 0
    consortium: str = ""
    first_block: int = 0

    def check(self) -> None:
        """Refuse what cannot be run.

        Raises:
            MpcreditError: with what is wrong.
        """
        if not 3 <= self.institutions <= 26:
            raise MpcreditError(
                f"{self.institutions} institutions cannot be run here", remedy="choose 3 to 26 with --institutions"
            )
        if self.bits % 256 or not 2048 <= self.bits <= 4096:
            raise MpcreditError(f"--bits is {self.bits}", remedy="choose 2048 to 4096 in steps of 256")
        if not 1024 <= self.port <= 65_535 - self.institutions - 2:
            raise MpcreditError(
                f"--port is {self.port}", remedy="choose one from 1024 on with room for a port for each party"
            )
        if self.database != "sqlite" and not self.database.startswith("postgresql"):
            raise MpcreditError(
                f"--database is {self.database.partition(':')[0]}", remedy="choose sqlite or postgresql://USER@HOST"
            )
        if self.chain.partition(":")[0] not in ("embedded", "anvil", "http", "https"):
            raise MpcreditError(f"--chain is {self.chain!r}", remedy="choose embedded, anvil or the URL of a node")

    @property
    def chain_port(self) -> int:
        """Of the chain, where it is ours."""
        return self.port + self.institutions + 1

    def parties(self, directory: Path) -> list[Party]:
        """Institutions, then the supervisor."""
        names = [*bank_names(self.institutions), "Supervisor"]
        return [
            Party(
                name=name,
                role="institution" if place < self.institutions else "supervisor",
                directory=directory / _slug(name),
                port=self.port + place,
                database=self._database_of(name),
            )
            for place, name in enumerate(names)
        ]

    def _database_of(self, name: str) -> str:
        if self.database == "sqlite":
            return "sqlite:///server.sqlite"
        url = sqlalchemy.make_url(self.database).set(drivername="postgresql+psycopg")
        return url.set(database=self.database_name(name)).render_as_string(hide_password=False)

    def database_name(self, name: str) -> str:
        """Of a party's database on a PostgreSQL server."""
        return f"mpcredit_{self.token}_{_slug(name).replace('-', '_')}"


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _read_plan(directory: Path) -> Plan | None:
    path = directory / RECORD
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("format") != FORMAT or value.pop("version") != VERSION:
            raise ValueError("another format")
        return Plan(**value)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidFile(
            str(path), f"is not what this version wrote: {error}", "name another directory, or an empty one"
        ) from error


def _make_plan(directory: Path, wishes: dict[str, Any]) -> tuple[Plan, bool]:
    """What to run, and whether it is founded already."""
    kept = _read_plan(directory)
    if kept is None:
        if any(entry.name != "lock" for entry in directory.iterdir()):
            raise InvalidFile(
                str(directory),
                "is not empty, and no consortium was founded in it",
                "name an empty or a new directory; if a founding was interrupted, delete what it left",
            )
        plan = Plan(**wishes)
        plan.check()
        return plan, False
    for name, wish in wishes.items():
        if name != "database" and wish != getattr(kept, name):
            raise InvalidFile(
                str(directory / RECORD),
                f"says {name} {getattr(kept, name)}, not {wish}",
                f"leave --{name} away to start this consortium again, or name another directory",
            )
    return kept, True


# --------------------------------------------------------------------- files


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner reads: whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # what JSON writes in quotes, TOML reads as the same text


def _configuration(party: Party, plan: Plan, url: str, *, password: bool) -> str:
    lines = [
        f"# {party.name} of a local consortium, made by `mpcredit up`; docs/configuration.md explains each line.",
        f'role = "{party.role}"',
        'founding = "founding.toml"',
        "",
        "[ledger]",
        f"url = {_text(url)}",
        f"chain_id = {plan.chain_id}",
        f'consortium = "{plan.consortium}"',
        f"first_block = {plan.first_block}",
        "",
        "[keys]",
        'directory = "keys"',
        "",
        "[server]",
        'host = "127.0.0.1"',
        f"port = {party.port}",
        f"database = {_text(party.database)}",
    ]
    if password:
        lines.append('database_password_file = "database-password"')
    if party.role == "institution":
        lines += ["", "[book]", 'path = "book.csv"', "", "[inquiry]", f"bits = {plan.bits}"]
        lines += [f"minimum_cohort = {TERMS.minimum_cohort}", f"minimum_window_days = {TERMS.window_seconds // 86_400}"]
        lines += [f"ready_seconds = {READY_SECONDS}"]
    return "\n".join(lines) + "\n"


def _founding_text(
    parties: Sequence[Party], owners: dict[str, str], operators: dict[str, str], supervisor: str, tag_key: TagKey
) -> str:
    lines = [
        'name = "Local consortium"',
        f'supervisors = ["{supervisor}"]',
        f'tag_key_commitment = "{to_hex(tag_key.commitment)}"',
        "",
        "[parameters]",
        *(f"{name} = {value}" for name, value in _terms(TERMS).items()),
        "",
        "[[schema]]",
        "id = 1",
    ]
    for party in parties:
        lines += ["", "[[founder]]", f"name = {_text(party.name)}"]
        lines += [f'owner = "{owners[party.name]}"', f'operator = "{operators[party.name]}"']
    return "\n".join(lines) + "\n"


def _terms(parameters: Parameters) -> dict[str, int]:
    return dict(vars(parameters))


# --------------------------------------------------------------------- processes


class _Process:
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


def _environment(party: Party | None = None) -> dict[str, str]:
    """What a child is told: nothing that belongs to another party or to whoever started us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MPCREDIT_")}
    for name in ("MPCREDIT_ANVIL",):
        if name in os.environ:
            kept[name] = os.environ[name]
    if party is not None:
        kept["MPCREDIT_PASSPHRASE_FILE"] = str(party.passphrase)
    return kept


def _check_ports(ports: Sequence[int]) -> None:
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
class _Chain:
    url: str
    fund: Callable[[str], None]
    process: _Process | None = None


@contextlib.contextmanager
def _chain(plan: Plan, directory: Path, *, keep: bool) -> Iterator[_Chain]:
    """The chain, running while the `with` block does if it is ours."""
    kind, _, rest = plan.chain.partition(":")
    if kind == "embedded":
        arguments = ["--port", str(plan.chain_port)]
        if keep:
            arguments += ["--path", str(directory / "chain.sqlite")]
        process = _Process("chain", "mpcredit.server.rpc", arguments, directory / "chain.log", _environment())
        try:
            url = f"http://127.0.0.1:{plan.chain_port}"
            _await_chain(process, url)
            endpoint = Endpoint(url)
            yield _Chain(url, lambda address: endpoint.raw("fund", "mpcredit_fund", [address]), process)
        finally:
            process.ask_to_stop()
            process.wait(time.monotonic() + STOP_SECONDS)
    elif kind == "anvil":
        # Anvil writes its state when it ends and now and then before: what a kill loses is sent again by the parties.
        state = ("--state", str(directory / "anvil.json"), "--state-interval", "5") if keep else ()
        node = Anvil(port=plan.chain_port, arguments=state, hardfork=rest or "prague")
        with node:
            yield _Chain(node.url, node.fund)
    else:
        endpoint = Endpoint(plan.chain)
        endpoint.chain_id(None)  # a node that is down is noticed before anything is made
        yield _Chain(plan.chain, lambda address: fund_from_key(endpoint, address))


def _await_chain(process: _Process, url: str) -> None:
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
def _databases(plan: Plan, parties: Sequence[Party], password: str | None, *, new: bool, keep: bool) -> Iterator[None]:
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


# --------------------------------------------------------------------- founding


@dataclass
class _Founder:
    party: Party
    keys: KeyStore
    account: LocalAccount
    public: bytes
    owner: LocalAccount | None


def _make_party(party: Party, tag_key: TagKey, password: str | None) -> _Founder:
    """Directory, passphrases, keys and accounts of one party, which in a real consortium it makes by itself."""
    party.directory.mkdir(mode=0o700)
    secret = secrets.token_urlsafe(24)
    _write(party.passphrase, secret + "\n")
    if password is not None:
        _write(party.directory / "database-password", password + "\n")
    keys = KeyStore(party.directory / "keys", lambda _purpose: secret, cost=KdfCost.unsafe_light())
    account = keys.create_account()
    keys.save_tag_key(tag_key)
    if party.role == "supervisor":
        return _Founder(party, keys, account, keys.create_supervisor_key(1).public, None)
    owner: LocalAccount = Account.create()
    owner_secret = secrets.token_urlsafe(24)
    _write(party.directory / "owner-passphrase", owner_secret + "\n")
    sealed = Account.encrypt(owner.key, owner_secret, kdf="scrypt", iterations=KdfCost.unsafe_light().account_n)
    _write(party.directory / "owner-account.json", json.dumps(sealed, indent=2) + "\n")
    return _Founder(party, keys, account, keys.create_institution_key(1).public, owner)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keystores warn of light parameters, once for each; here they are meant, and the documents say so."""
    log = logging.getLogger("mpcredit")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _found(
    plan: Plan,
    parties: Sequence[Party],
    directory: Path,
    chain: _Chain,
    password: str | None,
    say: Callable[[str], None],
) -> Plan:
    """Bring a consortium into being; returns the plan with where it is."""
    # (1) keys and accounts of each party.
    say("making keys and loan books")
    tag_key = TagKey.generate()
    with _quiet():
        founders = [_make_party(party, tag_key, password) for party in parties]
    members, supervisor = founders[:-1], founders[-1]
    made = bookmaker.make_books(
        bookmaker.read_accounts(),
        institutions=len(members),
        names=[member.party.name for member in members],
        as_of=int(time.time()),
    )
    for member, book in zip(members, made, strict=True):
        book.write_csv(member.party.directory / "book.csv")

    # (2) the founding file, of which each has its copy, and the contracts: R37.
    say("founding the consortium")
    owners = {m.party.name: str(m.owner.address) for m in members if m.owner is not None}
    operators = {m.party.name: str(m.account.address) for m in members}
    text = _founding_text([m.party for m in members], owners, operators, supervisor.account.address, tag_key)
    for founder in founders:
        _write(founder.party.directory / "founding.toml", text)
    founding = read_founding(supervisor.party.directory / "founding.toml")
    deployer: LocalAccount = Account.create()
    for address in (deployer.address, supervisor.account.address, *owners.values(), *operators.values()):
        chain.fund(address)
    deployed = deploy(chain.url, deployer, founding.constructor_argument())
    plan = replace(plan, chain_id=deployed.chain_id, consortium=deployed.consortium, first_block=deployed.first_block)

    # (3) everybody's configuration.
    for party in parties:
        _write(party.config, _configuration(party, plan, chain.url, password=password is not None))

    # (4) the supervisor's key, by way of its outbox: its account has one writer. R12.
    ledger = ChainLedger(chain.url, plan.consortium, chain_id=plan.chain_id, first_block=plan.first_block)
    database = open_database(ServerSettings.load(supervisor.party.config))
    try:
        store = SqlStore(database)
        signer = ChainSigner(ledger.web3, supervisor.account, plan.consortium, chain_id=plan.chain_id)
        signature = sign_key(supervisor.account, ledger.realm, SUPERVISOR, 1, supervisor.public)
        call = Call("consortium", "rotateSupervisorKey", (supervisor.public, signature))
        outbox = Outbox(store, signer, ledger)
        row = outbox.post("supervisor-key/1", call)
        end = time.monotonic() + KEY_SECONDS
        while row.state != "mined":
            if time.monotonic() > end:
                raise LedgerError(
                    f"the supervisor's key was not mined within {KEY_SECONDS:.0f} seconds",
                    remedy="see whether the chain makes blocks, delete the directory, try again",
                )
            if row.state == "failed":
                raise LedgerError("the supervisor's key was not registered", remedy="delete the directory, try again")
            time.sleep(0.2)
            outbox.drive()
            row = store.outbox_by_key(row.key) or row
        store.close()
    finally:
        database.close()

    # (5) each founder's confirmation, with its institution key: R9.
    for index, member in enumerate(members):
        assert member.owner is not None
        signature = sign_key(member.owner, ledger.realm, index, 1, member.public)
        ChainSigner(ledger.web3, member.owner, plan.consortium, chain_id=plan.chain_id).transact(
            Call("consortium", "confirm", (index, member.public, signature))
        )

    # (6) from here on it can be started again.
    record = {"format": FORMAT, "version": VERSION, **asdict(plan)}
    _write(directory / RECORD, json.dumps(record, indent=2) + "\n")
    return plan


def _links(party: Party) -> list[Link]:
    """The party's accounts, if there are none yet, and a one-time link for each role."""
    database = open_database(ServerSettings.load(party.config))
    try:
        people = People(database, AuditLog(database))
        if not people.users():
            people.install([(role, person, [role]) for role, person in party.people])
        known = {user.name for user in people.users() if not user.disabled}
        links = []
        for role, person in party.people:
            if role in known:
                token = people.issue_sign_in(role, by=None, why="mpcredit up")
                links.append(Link(party, role, person, f"{party.url}/sign-in?token={quote(token)}"))
        return links
    finally:
        database.close()


# --------------------------------------------------------------------- running


class Running:
    """A consortium that runs.

    Args:
        plan: what it is.
        directory: where its files are.
        parties: institutions, then the supervisor.
        chain: where its ledger is.
    """

    def __init__(self, plan: Plan, directory: Path, parties: Sequence[Party], chain: _Chain, *, keep: bool) -> None:
        self.plan = plan
        self.directory = directory
        self.keep = keep
        self.parties = list(parties)
        self.chain_url = chain.url
        self.links: list[Link] = []
        self._chain_process = chain.process
        self._processes: dict[str, _Process] = {}

    def party(self, name: str) -> Party:
        """A party by its name."""
        return next(party for party in self.parties if party.name == name)

    def start(self, party: Party) -> None:
        """Start the process of a party."""
        old = self._processes.pop(party.name, None)
        if old is not None:
            old.wait(time.monotonic() + STOP_SECONDS)
        arguments = ["--config", str(party.config)]
        self._processes[party.name] = _Process(
            party.name, "mpcredit.server.serve", arguments, party.log, _environment(party)
        )

    def pid(self, party: Party) -> int:
        """Process id of a party."""
        return self._processes[party.name].popen.pid

    def kill(self, party: Party, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process of a party and, if that ends it, wait for the end."""
        process = self._processes[party.name]
        process.popen.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.popen.wait(STOP_SECONDS)

    def alive(self, party: Party) -> bool:
        """Whether its process runs."""
        return party.name in self._processes and self._processes[party.name].alive

    def await_ready(
        self, *parties: Party, timeout: float = START_SECONDS, say: Callable[[str], None] = lambda text: None
    ) -> None:
        """Wait until parties (by default all) say that they are ready.

        Raises:
            MpcreditError: one of them ended, or time is over; with what it said last.
        """
        waiting = list(parties or self.parties)
        end = time.monotonic() + timeout
        why: dict[str, str] = {}
        while waiting:
            for party in list(waiting):
                ready, why[party.name] = _is_ready(party)
                if ready:
                    waiting.remove(party)
                elif not self.alive(party):
                    raise MpcreditError(
                        f"{party.name} did not start: {self._processes[party.name].last_words() or 'it said nothing'}",
                        remedy=f"see {party.log}",
                    )
            if waiting:
                say("waiting for " + ", ".join(party.name for party in waiting))
                if time.monotonic() > end:
                    told = "; ".join(f"{party.name}: {why[party.name]}" for party in waiting)
                    raise MpcreditError(
                        f"not ready after {timeout:.0f} seconds: {told}", remedy=f"see server.log in {self.directory}"
                    )
                time.sleep(0.2)

    def ended(self) -> list[tuple[Party | None, str]]:
        """Processes that have ended since this was asked last, with how; None is the chain."""
        found: list[tuple[Party | None, str]] = []
        if self._chain_process is not None and not self._chain_process.alive:
            found.append((None, _end(self._chain_process)))
            self._chain_process = None
        for party in self.parties:
            process = self._processes.get(party.name)
            if process is not None and not process.alive:
                found.append((party, _end(process)))
                process.wait(time.monotonic())
                del self._processes[party.name]
        return found

    def stop(self) -> None:
        """Stop all parties, together."""
        for process in self._processes.values():
            process.ask_to_stop()
        end = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            process.wait(end)
        self._processes.clear()


def _end(process: _Process) -> str:
    code = process.popen.returncode
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def _is_ready(party: Party) -> tuple[bool, str]:
    connection = http.client.HTTPConnection("127.0.0.1", party.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status == 200, answer.read(400).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"its page does not answer ({type(error).__name__})"
    finally:
        connection.close()


@contextlib.contextmanager
def up(
    *,
    institutions: int | None = None,
    bits: int | None = None,
    chain: str | None = None,
    database: str | None = None,
    directory: Path | None = None,
    port: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Running]:
    """Run a local consortium while the `with` block does; it begins when all parties are ready.

    Args:
        institutions, bits, chain, database, port: as `Plan` has them; None: the default, or what the directory says.
        directory: where it is kept, and started again from; None: a temporary one, deleted at the end.
        say: told what is going on.

    Raises:
        MpcreditError: something is not to be had, and what would help.
    """
    wishes: dict[str, Any] = {
        "institutions": institutions,
        "bits": bits,
        "chain": chain,
        "database": database,
        "port": port,
    }
    wishes = {name: wish for name, wish in wishes.items() if wish is not None}
    password = _take_password(wishes)
    with contextlib.ExitStack() as stack:
        # (1) the place, for us alone.
        place = _place(directory, stack)
        plan, founded = _make_plan(place, wishes)
        parties = plan.parties(place)
        own_chain = not plan.chain.startswith("http")
        _check_ports([*(party.port for party in parties), *([plan.chain_port] if own_chain else [])])
        if plan.database == "sqlite":
            password = None
        elif founded and password is None:
            password = _kept_password(parties[0])
        # (2) chain and databases.
        keep = directory is not None
        say("starting the chain" if own_chain else "looking at the chain")
        opened = stack.enter_context(_chain(plan, place, keep=keep))
        stack.enter_context(_databases(plan, parties, password, new=not founded, keep=keep))
        # (3) the consortium.
        if not founded:
            plan = _found(plan, parties, place, opened, password, say)
        # (4) a process for each party, as soon as its accounts are there.
        running = Running(plan, place, parties, opened, keep=keep)
        stack.callback(running.stop)
        say("starting the servers")
        for party in parties:
            running.links.extend(_links(party))
            running.start(party)
        running.await_ready(say=say)
        yield running


def _place(directory: Path | None, stack: contextlib.ExitStack) -> Path:
    if directory is None:
        place = Path(tempfile.mkdtemp(prefix="mpcredit-up-"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        return place
    place = directory.absolute()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = stack.enter_context((place / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(
            f"{place}: this consortium runs already", remedy="stop the other `mpcredit up`, or name another directory"
        ) from error
    except OSError as error:
        raise InvalidFile(str(place), f"cannot be used: {error.strerror}", "see to path and permissions") from error
    return place


def _take_password(wishes: dict[str, Any]) -> str | None:
    """Take the password out of the database's URL: it goes into a file that only its owner reads."""
    if not str(wishes.get("database", "sqlite")).startswith("postgresql"):
        return os.environ.get("PGPASSWORD")
    try:
        url = sqlalchemy.make_url(str(wishes["database"]))
    except sqlalchemy.exc.ArgumentError:
        raise MpcreditError("--database is no URL", remedy="write it as postgresql://USER@HOST:PORT/postgres") from None
    bare = sqlalchemy.URL.create(  # `set` takes None for "as it is"
        url.drivername, url.username, None, url.host, url.port, url.database, url.query
    )
    wishes["database"] = bare.render_as_string(hide_password=False)
    return str(url.password) if url.password is not None else os.environ.get("PGPASSWORD")


def _kept_password(party: Party) -> str | None:
    path = party.directory / "database-password"
    return path.read_text(encoding="utf-8").rstrip("\n") if path.exists() else None
