"""Parties with a home, a configuration and passphrases of their own, for tests of the command line.

A party runs `mpcredit` in this process (`here`) or as a process of its own (`process`). Parties share the
ledger's URL; what founders exchange (founding file, exported tag key) the test carries from one to the other as files.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mpcredit import bookmaker
from mpcredit.books import LoanBook
from mpcredit.cli import main

BANKS = ("Bank A", "Bank B", "Microfinance C", "Bank D")
EXPORT_PASSPHRASE = "exchanged by telephone"


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The JSON document on standard output."""
        return json.loads(self.out)


class Runner(Protocol):
    """Runs `mpcredit` with arguments and an environment."""

    def __call__(self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path) -> Done: ...


def here(arguments: Sequence[str], environment: Mapping[str, str], directory: Path) -> Done:
    """Run in this process: quick, and the embedded chain can be used."""
    before = dict(os.environ)
    place = Path.cwd()
    out, err = io.StringIO(), io.StringIO()
    try:
        for name in [name for name in os.environ if name.startswith("MPCREDIT_")]:
            del os.environ[name]
        os.environ.update(environment)
        os.chdir(directory)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(arguments))
    finally:
        os.chdir(place)
        os.environ.clear()
        os.environ.update(before)
    return Done(status, out.getvalue(), err.getvalue())


PROGRAM = (sys.executable, "-c", "import sys; from mpcredit.cli import main; sys.exit(main())")


def process_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of a party: nothing of this one's but the path."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONWARNINGS": "ignore", **environment}


def process(arguments: Sequence[str], environment: Mapping[str, str], directory: Path) -> Done:
    """Run as a process of its own."""
    found = subprocess.run(
        [*PROGRAM, *arguments],
        env=process_environment(environment),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(found.returncode, found.stdout, found.stderr)


@dataclass
class Party:
    """One party: an institution, or the supervisor."""

    name: str
    role: str
    home: Path
    """Its own directory; nothing else is shared but the ledger."""
    runner: Runner
    url: str
    chain_id: int
    ledger: dict[str, Any] = field(default_factory=dict)
    """What the deployment added to [ledger]."""
    extra: str = ""
    """Further lines of the configuration."""
    variables: dict[str, str] = field(default_factory=dict)
    """Further variables of its processes."""

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.home / "mpcredit.toml"

    @property
    def passphrase(self) -> str:
        """Of its key files; unlike any word in an output."""
        return f"Zq7#{self.name}#pass"

    @property
    def owner_passphrase(self) -> str:
        """Of its owner account."""
        return f"Xv9#{self.name}#owner"

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes."""
        return {
            "HOME": str(self.home),
            "COLUMNS": "140",
            "MPCREDIT_CONFIG": str(self.config),
            "MPCREDIT_UNSAFE_LIGHT_KDF": "1",
            "MPCREDIT_PASSPHRASE": self.passphrase,
            "MPCREDIT_OWNER_PASSPHRASE": self.owner_passphrase,
            "MPCREDIT_EXPORT_PASSPHRASE": EXPORT_PASSPHRASE,
            **self.variables,
        }

    def write_config(self) -> None:
        """Write the configuration as it is now."""
        lines = [f'role = "{self.role}"']
        if "consortium" in self.ledger:
            lines.append('founding = "founding.toml"')
        lines += ["[ledger]", f'url = "{self.url}"', f"chain_id = {self.chain_id}"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in self.ledger.items()]
        if self.role == "institution":
            lines += ["[book]", 'path = "book.csv"', "[inquiry]", "bits = 2048"]
        self.config.write_text("\n".join(lines) + "\n" + self.extra, encoding="utf-8")

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None, **changed: str | None) -> Done:
        """Run a command; a changed variable of the environment that is None is taken away."""
        given = {**self.environment, **(environment or {}), **{k: v for k, v in changed.items() if v is not None}}
        for name, value in changed.items():
            if value is None:
                given.pop(name, None)
        return self.runner(arguments, given, self.home)

    def ok(self, *arguments: str) -> Any:
        """Run a command with --json that must succeed, and return its document."""
        done = self.run(*arguments, "--json")
        assert done.status == 0, f"{self.name}: mpcredit {' '.join(arguments)}\n{done.out}\n{done.err}"
        return done.value


@dataclass
class Consortium:
    """Founded parties."""

    institutions: dict[str, Party]
    supervisor: Party
    books: dict[str, LoanBook]
    deployed: dict[str, Any]
    services: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    """Background processes, by party."""
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Stops them when it is closed."""

    def start(self, name: str) -> None:
        """Start the service of a party, to run until it is killed or the stack is closed."""
        party = self.supervisor if name == self.supervisor.name else self.institutions[name]
        arguments = ("watch", "--export", "watch.jsonl") if party is self.supervisor else ("answer",)
        self.services[name] = self.stack.enter_context(service(party, *arguments))

    def __getitem__(self, name: str) -> Party:
        return self.institutions[name]

    @property
    def parties(self) -> list[Party]:
        """All of them."""
        return [*self.institutions.values(), self.supervisor]

    def turn(self, *, supervisor: bool = True, but: Sequence[str] = ()) -> None:
        """Let every service do what is due, once."""
        for name, party in self.institutions.items():
            if name not in but:
                party.ok("answer", "--once")
        if supervisor:
            self.supervisor.ok("watch", "--once")

    def clear_sums(self, subject: Any) -> dict[str, int]:
        """What the totals must be, from the books."""
        records = [book.lookup(subject) for book in self.books.values()]
        return {name: sum(record[name] for record in records) for name in records[0]}


def founding_text(owners: Mapping[str, str], supervisor: str, commitment: str, *, period_seconds: int = 1) -> str:
    """A founding file for the owner accounts that the parties have made."""
    lines = ['name = "Process consortium"', f'supervisors = ["{supervisor}"]', f'tag_key_commitment = "{commitment}"']
    lines += ["opens_from = 0", f"period_seconds = {period_seconds}"]
    lines += ["[parameters]", "minimum_cohort = 3", "minimum_modulus_bits = 2048", "answer_seconds = 3600"]
    lines += ["report_seconds = 86400", "silence_seconds = 60", "window_seconds = 604800", "cooldown_seconds = 3600"]
    lines += ["repeat_seconds = 3600", "subjects_per_day = 1000", "book_age_seconds = 3456000", "delay_seconds = 3600"]
    lines += ["[[schema]]", "id = 1"]
    for name, owner in owners.items():
        lines += ["[[founder]]", f'name = "{name}"', f'owner = "{owner}"']
    return "\n".join(lines) + "\n"


def found(
    place: Path,
    *,
    runner: Runner,
    url: str,
    chain_id: int,
    fund: Callable[[str], None],
    now: int,
    deployer_key: str,
    names: Sequence[str] = BANKS,
    prepare: Callable[[Party], None] = lambda party: None,
) -> Consortium:
    """The founding ceremony of docs/operations.md, through the command line alone.

    Args:
        prepare: changes a party before it makes its keys; its configuration is written afterwards.
    """
    books = bookmaker.make_books(bookmaker.read_accounts()[:400], institutions=len(names), names=names, as_of=now)
    parties = {}
    accounts: dict[str, dict[str, str]] = {}
    # (1) each party makes its keys.
    for name, book in zip(names, books, strict=True):
        parties[name] = _party(place, name, "institution", runner, url, chain_id)
        book.write_csv(parties[name].home / "book.csv")
    supervisor = _party(place, "Supervisor", "supervisor", runner, url, chain_id)
    for party in (*parties.values(), supervisor):
        prepare(party)
        party.write_config()
    with ThreadPoolExecutor(1 if runner is here else 2) as pool:
        for name, made in zip(names, pool.map(_make_keys, parties.values()), strict=True):
            accounts[name] = made
    accounts[supervisor.name] = _make_keys(supervisor)
    for address in (address for pair in accounts.values() for address in pair.values()):
        fund(address)
    # (2) one makes the tag key; the others get it as a file.
    first = parties[names[0]]
    commitment = first.ok("keys", "tag", "--new")["commitment"]
    first.ok("keys", "tag", "--export", "tag-for-others.json")
    for name in names[1:]:
        carried = parties[name].home / "tag.json"
        carried.write_bytes((first.home / "tag-for-others.json").read_bytes())
        carried.chmod(0o600)
        assert parties[name].ok("keys", "tag", "--import", "tag.json")["commitment"] == commitment
        carried.unlink()
    # (3) everybody has the same founding file; one deploys.
    owners = {name: pair["owner"] for name, pair in accounts.items()}
    overseer = owners.pop(supervisor.name)
    text = founding_text(owners, overseer, commitment, period_seconds=1 if runner is here else 2)
    for party in (*parties.values(), supervisor):
        (party.home / "founding.toml").write_text(text, encoding="utf-8")
    done = first.run(
        *("deploy", "founding.toml", "--account-key-env", "DEPLOYER_KEY", "--json"),
        environment={"DEPLOYER_KEY": deployer_key},
    )
    assert done.status == 0, done.err
    deployed = done.value
    for party in (*parties.values(), supervisor):
        party.ledger = {**party.ledger, "consortium": deployed["consortium"], "first_block": deployed["first_block"]}
        party.write_config()
    # (4) the supervisor's service account and period key, and each founder's confirmation.
    supervisor.ok("member", "appoint", "--yes")
    supervisor.ok("member", "period-key")
    for party in parties.values():
        party.ok("member", "confirm", "--yes")
    return Consortium(parties, supervisor, dict(zip(names, books, strict=True)), deployed)


def _make_keys(party: Party) -> dict[str, str]:
    return {"service": party.ok("keys", "new")["ledger_account"], "owner": party.ok("keys", "owner")["owner"]}


def _party(place: Path, name: str, role: str, runner: Runner, url: str, chain_id: int) -> Party:
    home = place / name.replace(" ", "-").lower()
    home.mkdir(mode=0o700)
    party = Party(name, role, home, runner, url, chain_id)
    party.write_config()
    return party


@contextlib.contextmanager
def service(party: Party, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A background process of a party; stopped at the end."""
    with (party.home / f"{arguments[0]}.log").open("a") as log:
        running = subprocess.Popen(
            [*PROGRAM, *arguments],
            env=process_environment(party.environment),
            cwd=party.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
        )
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()  # nobody is left who would be served by an orderly stop
                running.wait(30)
