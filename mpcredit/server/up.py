"""A local consortium in one go: a chain, several institutions and a supervisor, each a process of its own.

    DIRECTORY/
      consortium.json       what this consortium is, for starting it again; written when it is founded
      chain.sqlite          the embedded chain (anvil.json: Anvil's)
      bank-a/               all that the process of Bank A is given
        bank.toml  founding.toml  keys/  passphrase  owner-account.json  owner-passphrase  book.csv  server.sqlite  server.log
      supervisor/           the same, with supervisor.toml and without a book

For trying and for demonstrations: the passphrases lie beside the keys that they open, and are stretched cheaply. A real
founding is docs/founding.md; each party then runs `mpcredit serve` by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy
from eth_account import Account
from eth_account.signers.local import LocalAccount

from mpcredit import bookmaker
from mpcredit.chain import ChainLedger, deploy
from mpcredit.errors import InvalidFile, MpcreditError, StoreError
from mpcredit.founding import read_founding
from mpcredit.keystore import KdfCost, KeyStore
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import open_database
from mpcredit.server.founders import begin_supervision, begin_tenure, confirm_member
from mpcredit.server.people import People
from mpcredit.server.plan import (
    Link,
    Party,
    Plan,
    configuration,
    founding_text,
    make_plan,
    save_plan,
    write_private,
)
from mpcredit.server.processes import (
    STOP_SECONDS,
    Chain,
    Process,
    check_ports,
    databases,
    environment,
    quiet,
    run_chain,
)
from mpcredit.server.settings import ServerSettings
from mpcredit.tags import TagKey

__all__ = ["Link", "Party", "Plan", "Running", "up"]

START_SECONDS: Final = 180.0
"""Within which all parties must be ready; a small machine with many institutions takes its time."""


# --------------------------------------------------------------------- founding


@dataclass
class _Founder:
    party: Party
    account: LocalAccount
    """Service account."""
    public: bytes
    """Institution key, or the supervisor's period key."""
    owner: LocalAccount


def _make_party(party: Party, tag_key: TagKey, password: str | None) -> _Founder:
    """Directory, passphrases, keys and accounts of one party, which in a real consortium it makes by itself."""
    party.directory.mkdir(mode=0o700)
    secret = secrets.token_urlsafe(24)
    write_private(party.passphrase, secret + "\n")
    if password is not None:
        write_private(party.directory / "database-password", password + "\n")
    keys = KeyStore(party.directory / "keys", lambda _purpose: secret, cost=KdfCost.unsafe_light())
    account = keys.create_account()
    keys.save_tag_key(tag_key)
    supervises = party.role == "supervisor"
    public = (keys.create_supervisor_key(1) if supervises else keys.create_institution_key(1)).public
    owner: LocalAccount = Account.create()
    owner_secret = secrets.token_urlsafe(24)
    write_private(party.directory / "owner-passphrase", owner_secret + "\n")
    sealed = Account.encrypt(owner.key, owner_secret, kdf="scrypt", iterations=KdfCost.unsafe_light().account_n)
    write_private(party.directory / "owner-account.json", json.dumps(sealed, indent=2) + "\n")
    return _Founder(party, account, public, owner)


def _found(
    plan: Plan,
    parties: Sequence[Party],
    directory: Path,
    chain: Chain,
    password: str | None,
    say: Callable[[str], None],
) -> Plan:
    """Bring a consortium into being; returns the plan with where it is."""
    # (1) keys and accounts of each party.
    say("making keys and loan books")
    tag_key = TagKey.generate()
    with quiet():
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
    owners = {member.party.name: str(member.owner.address) for member in members}
    text = founding_text([member.party for member in members], owners, supervisor.owner.address, tag_key)
    for founder in founders:
        write_private(founder.party.directory / "founding.toml", text)
    founding = read_founding(supervisor.party.directory / "founding.toml")
    deployer: LocalAccount = Account.create()
    chain.fund(deployer.address)
    for founder in founders:
        chain.fund(founder.owner.address)
        chain.fund(founder.account.address)
    deployed = deploy(chain.url, deployer, founding.constructor_argument())
    plan = replace(plan, chain_id=deployed.chain_id, consortium=deployed.consortium, first_block=deployed.first_block)

    # (3) everybody's configuration.
    for party in parties:
        write_private(party.config, configuration(party, plan, chain.url, password=password is not None))

    # (4) the supervisor's service account and first period key: R9, R12.
    ledger = ChainLedger(chain.url, plan.consortium, chain_id=plan.chain_id, first_block=plan.first_block)
    begin_supervision(ledger, supervisor.owner, supervisor.account.address, supervisor.public)

    # (5) each founder's confirmation, with its institution key, its service account and the tenure of its store: R9.
    for index, member in enumerate(members):
        tenure = begin_tenure(member.party.config)
        confirm_member(ledger, member.owner, index, member.public, member.account.address, tenure)

    # (6) from here on it can be started again.
    save_plan(plan, directory)
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

    def __init__(self, plan: Plan, directory: Path, parties: Sequence[Party], chain: Chain, *, keep: bool) -> None:
        self.plan = plan
        self.directory = directory
        self.keep = keep
        self.parties = list(parties)
        self.chain_url = chain.url
        self.links: list[Link] = []
        self._chain_process = chain.process
        self._processes: dict[str, Process] = {}

    def party(self, name: str) -> Party:
        """A party by its name."""
        return next(party for party in self.parties if party.name == name)

    def start(self, party: Party) -> None:
        """Start the process of a party."""
        old = self._processes.pop(party.name, None)
        if old is not None:
            old.wait(time.monotonic() + STOP_SECONDS)
        arguments = ["--config", str(party.config)]
        self._processes[party.name] = Process(
            party.name, "mpcredit.server.serve", arguments, party.log, environment(party)
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
        """Stop all parties, together and at once: nobody is left whom an orderly stop would serve."""
        for process in self._processes.values():
            process.end_input()
        end = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            process.wait(end)
        self._processes.clear()


def _end(process: Process) -> str:
    code = process.popen.returncode
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def _is_ready(party: Party) -> tuple[bool, str]:
    connection = http.client.HTTPConnection("127.0.0.1", party.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        with connection.getresponse() as answer:
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
        plan, founded = make_plan(place, wishes)
        parties = plan.parties(place)
        own_chain = not plan.chain.startswith("http")
        check_ports([*(party.port for party in parties), *([plan.chain_port] if own_chain else [])])
        if plan.database == "sqlite":
            password = None
        elif founded and password is None:
            password = _kept_password(parties[0])
        # (2) chain and databases.
        keep = directory is not None
        say("starting the chain" if own_chain else "looking at the chain")
        opened = stack.enter_context(run_chain(plan, place, keep=keep))
        stack.enter_context(databases(plan, parties, password, new=not founded, keep=keep))
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
