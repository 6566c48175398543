"""What `mpcredit up` is to run: the plan that is kept in its directory, the parties, and the files that each is given.

What is written can be read by hand; docs/configuration.md explains each line. Starting anything is `up`'s.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import sqlalchemy

from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidFile, MpcreditError
from mpcredit.local import DEFAULT_PARAMETERS, bank_names
from mpcredit.tags import TagKey

__all__ = [
    "INSTITUTION_PEOPLE",
    "RECORD",
    "SUPERVISOR_PEOPLE",
    "Link",
    "Party",
    "Plan",
    "configuration",
    "founding_text",
    "make_plan",
    "quoted",
    "save_plan",
    "write_private",
]

DEFAULT_INSTITUTIONS: Final = 5
DEFAULT_BITS: Final = 3072
DEFAULT_PORT: Final = 8600
PERIOD_SECONDS: Final = 2
"""Of readiness: people who try it should not wait a minute until an institution is in cohorts."""
TERMS: Final = replace(DEFAULT_PARAMETERS, minimum_cohort=3, answer_seconds=300)
"""Three suffice, so that a consortium of five works on without two."""
RECORD: Final = "consortium.json"
FORMAT: Final = "mpcredit/up"
VERSION: Final = 2

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


def save_plan(plan: Plan, directory: Path) -> None:
    """From here on it can be started again."""
    write_private(
        directory / RECORD, json.dumps({"format": FORMAT, "version": VERSION, **asdict(plan)}, indent=2) + "\n"
    )


def make_plan(directory: Path, wishes: dict[str, Any]) -> tuple[Plan, bool]:
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


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads: whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)


def quoted(value: str) -> str:
    """A text as TOML has it: what JSON writes in quotes, TOML reads as the same text."""
    return json.dumps(value, ensure_ascii=False)


def configuration(party: Party, plan: Plan, url: str, *, password: bool) -> str:
    """The configuration file of a party; `url` is the chain's."""
    lines = [
        f"# {party.name} of a local consortium, made by `mpcredit up`; docs/configuration.md explains each line.",
        f'role = "{party.role}"',
        'founding = "founding.toml"',
        "",
        "[ledger]",
        f"url = {quoted(url)}",
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
        f"database = {quoted(party.database)}",
    ]
    if password:
        lines.append('database_password_file = "database-password"')
    if party.role == "institution":
        lines += ["", "[book]", 'path = "book.csv"', "", "[inquiry]", f"bits = {plan.bits}"]
        lines += [f"minimum_cohort = {TERMS.minimum_cohort}", f"minimum_window_days = {TERMS.window_seconds // 86_400}"]
    return "\n".join(lines) + "\n"


def founding_text(parties: Sequence[Party], owners: dict[str, str], supervisor: str, tag_key: TagKey) -> str:
    """The founding file: owner accounts by name of the institution, the supervisor's owner account."""
    lines = [
        'name = "Local consortium"',
        f'supervisors = ["{supervisor}"]',
        f'tag_key_commitment = "{to_hex(tag_key.commitment)}"',
        "opens_from = 0",
        f"period_seconds = {PERIOD_SECONDS}",
        "",
        "[parameters]",
        *(f"{name} = {value}" for name, value in vars(TERMS).items()),
        "",
        "[[schema]]",
        "id = 1",
    ]
    for party in parties:
        lines += ["", "[[founder]]", f"name = {quoted(party.name)}"]
        lines.append(f'owner = "{owners[party.name]}"')
    return "\n".join(lines) + "\n"
