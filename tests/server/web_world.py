"""One bank and the supervisor of a consortium in this process, behind their web applications; no worker runs by itself."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from fastapi import FastAPI

from mpcredit import bookmaker
from mpcredit.books import TaggedBook
from mpcredit.chain import ChainSigner
from mpcredit.chain.artifacts import consortium as consortium_artifact
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.events import Call
from mpcredit.identity import Subject
from mpcredit.local import LocalConsortium, local_consortium
from mpcredit.proposals import calls_hash_of
from mpcredit.server.app import create_app
from mpcredit.server.applications import Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import SnapshotBook
from mpcredit.server.bookraise import raise_books
from mpcredit.server.casefile import Step
from mpcredit.server.database import Database
from mpcredit.server.misuse import Misuse
from mpcredit.server.node import Node
from mpcredit.server.people import People
from mpcredit.server.settings import MisuseSettings, ServerSettings
from mpcredit.tags import HmacTagger, TagKey

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette asks for httpx2 in place of httpx; both work
    from fastapi.testclient import TestClient

EVIDENCE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
LOOPBACK = ("127.0.0.1", 50_000)
INSTITUTION_ROLES = ("officer", "reviewer", "administrator", "auditor")
SUPERVISOR_ROLES = ("supervisor", "reviewer", "administrator", "auditor")
MOVING = (Step.WAITING, Step.ASKING, Step.CHECKING)


@dataclass
class Site:
    """A party's server."""

    settings: ServerSettings
    database: Database
    audit: AuditLog
    people: People
    node: Node
    applications: Applications
    app: FastAPI
    clients: dict[str, TestClient] = field(default_factory=dict)

    def anonymous(self) -> TestClient:
        """A browser that nobody is signed in with."""
        return TestClient(
            self.app,
            base_url=self.settings.origin,
            headers={"Origin": self.settings.origin, "Accept-Language": "en"},
            follow_redirects=False,
            client=LOOPBACK,
        )

    def sign_in(self, name: str) -> TestClient:
        """A browser of this person."""
        if name not in self.clients:
            client = self.anonymous()
            token = self.people.issue_sign_in(name, by=None)
            answer = client.post("/sign-in", data={"token": token})
            assert answer.status_code == 303, answer.text
            self.clients[name] = client
        return self.clients[name]


@dataclass
class World:
    """The consortium, the bank that is looked at, the supervisor."""

    consortium: LocalConsortium
    bank: Site
    supervisor: Site
    subjects: list[Subject]

    def settle(self) -> None:
        """Let everybody work until nothing is left to do."""
        for _ in range(40):
            moved = self.consortium.work(but="Bank A")
            self.bank.node.round()
            self.supervisor.node.round()
            if not moved and not self.bank.applications.newest(steps=MOVING):
                return
        raise AssertionError("it does not come to rest")

    def take(self) -> Subject:
        """A customer nobody has asked about yet."""
        return self.subjects.pop()

    def enter(self, name: str = "officer", *, subject: Subject | None = None, **fields: str) -> str:
        """Enter an application as a person does; its id."""
        who = subject or self.take()
        form = {
            "kind": who.kind,
            "country": who.country,
            "number": who.number,
            "amount": "200000",
            "months": "24",
            "income": "60000",
            "purpose": "new_credit",
            "evidence": EVIDENCE,
            **fields,
        }
        answer = self.bank.sign_in(name).post("/applications", data=form)
        assert answer.status_code == 303, answer.text
        found = re.match(r"/applications/([0-9a-f]{16})\?", answer.headers["location"])
        assert found
        return found[1]


@contextlib.contextmanager
def second_tag_key(there: World) -> Iterator[HmacTagger]:
    """Every bank uses the next tag key, with its book raised to it; afterwards the one before again."""
    banks = [there.consortium[name] for name in there.consortium.books]
    before = [(bank, bank.tagger, bank.furnisher.book) for bank in banks]
    tagger = HmacTagger(*there.consortium.tagger._keys, TagKey(2, bytes(range(32))))
    try:
        for bank, _, book in before:
            if isinstance(book, TaggedBook):
                bank.use_tagger(tagger, book.raised(tagger))
            else:  # the looked at bank's, in its database
                found = raise_books(there.bank.database, there.bank.audit, tagger)
                bank.use_tagger(tagger, SnapshotBook(there.bank.database, found))
        yield tagger
    finally:
        for bank, first, book in before:
            bank.use_tagger(first, book)


def _site(directory: Path, port: int, party: object, roles: tuple[str, ...], stack: contextlib.ExitStack) -> Site:
    settings = ServerSettings(
        port=port,
        database=f"sqlite:///{directory / f'{port}.sqlite'}",
        session_secret_file=directory / f"{port}.secret",
        limit_requests="100000/minute",
        limit_writes="100000/minute",
        limit_sign_in="100000/minute",
        misuse=MisuseSettings(out_of_hours=0),  # tests run at any hour
    )
    database = Database(settings.database)
    stack.callback(database.close)
    database.upgrade()
    audit = AuditLog(database)
    people = People(database, audit, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    people.install([(role, f"The {role}", [role]) for role in roles])
    node = Node(party)  # type: ignore[arg-type]
    applications = Applications(database, node, audit, misuse=Misuse(database, node, audit, people, settings.misuse))
    app = create_app(settings, node, people, audit, applications)
    node.round()
    return Site(settings, database, audit, people, node, applications, app)


@contextlib.contextmanager
def world(directory: Path, institutions: int = 4) -> Iterator[World]:
    """Found it; closed at the end."""
    with contextlib.ExitStack() as stack:
        consortium = stack.enter_context(local_consortium(institutions, bits=2048))
        bank = _site(directory, 18_440, consortium["Bank A"], INSTITUTION_ROLES, stack)
        consortium.supervised = False
        supervisor = _site(directory, 18_441, consortium.supervisor, SUPERVISOR_ROLES, stack)
        people = bank.people
        people.create("officer2", "Another officer", ["officer"], by=None, why="test")
        people.create("both", "Officer and reviewer", ["officer", "reviewer"], by=None, why="test")
        books = list(consortium.books.values())
        picks = [pick.subject for pick in bookmaker.pick_subjects(books, 40)]
        yield World(consortium, bank, supervisor, picks)


# --------------------------------------------------------------------- proposals


def owner(consortium: LocalConsortium, name: str) -> ChainSigner:
    """The owner account of an institution, able to send."""
    return ChainSigner(consortium.chain.web3, consortium.owners[name], consortium.deployed.consortium)


def call(function: str, *arguments: Any) -> bytes:
    """A call that a proposal carries."""
    return consortium_artifact().call_data(function, list(arguments))


def propose(there: World, *calls: bytes, reason: str = "a test") -> tuple[int, str]:
    """A proposal of Bank A that the supervisor's server knows: its number, and the hash of its calls."""
    owner(there.consortium, "Bank A").transact(Call("consortium", "propose", (list(calls), reason)))
    there.supervisor.node.round()
    with there.supervisor.node.locked() as node:
        number = max(node.supervisor.state.proposals)
    return number, to_hex(calls_hash_of(calls))


def vote(there: World, number: int, calls_hash: str, *names: str) -> None:
    """Votes of institutions for a proposal, which the supervisor's server knows then."""
    for name in names:
        owner(there.consortium, name).transact(Call("consortium", "vote", (number, hex_bytes(calls_hash, 32))))
    there.supervisor.node.round()
