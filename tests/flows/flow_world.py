"""What the flows ask of a consortium: inquiries, plain sums, proposals, restarts, and transactions counted on the chain."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from eth_utils.address import to_checksum_address

from mpcredit.books import LoanBook
from mpcredit.chain import ChainSigner
from mpcredit.chain.artifacts import consortium as consortium_artifact
from mpcredit.consent import Consent, Purpose
from mpcredit.events import Call, Executed, Parameters
from mpcredit.identity import Subject
from mpcredit.institution import InquiryHandle, Institution
from mpcredit.ledger.roster import SUPERVISOR, Pins
from mpcredit.local import DEFAULT_PARAMETERS, LocalConsortium, sign_key

HOUR = 3_600
DAY = 86_400
BITS = 2048


def terms(**changed: int) -> Parameters:
    """The terms of a local consortium, some of them changed."""
    return Parameters(**{**vars(DEFAULT_PARAMETERS), **changed})


class Customers:
    """Hands out customers, each once, so that no test meets the window rule of another."""

    def __init__(self, consortium: LocalConsortium) -> None:
        held: dict[bytes, int] = {}
        for book in consortium.books.values():
            for canonical in book.records:
                held[canonical] = held.get(canonical, 0) + 1
        self._books = list(consortium.books.values())
        self._waiting = sorted(held, key=lambda canonical: (-held[canonical], canonical))

    def take(self, count: int = 1) -> list[Subject]:
        """Customers of as many institutions as there are left."""
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        subjects = {s.canonical: s for book in self._books for s in book.subjects() if s.canonical in taken}
        return [subjects[canonical] for canonical in taken]


STRANGER = Subject("national_id", "A123456789", country="TW")
"""In none of the books."""


def ask(
    bank: Institution,
    subjects: Sequence[Subject],
    *,
    days: int = 90,
    purpose: Purpose = Purpose.NEW_CREDIT,
    **more: int,
) -> InquiryHandle:
    """Request the totals of subjects that consented just now."""
    bank.sync()
    now = bank.follower.now
    consents = [Consent.grant(subject, to=bank, purpose=purpose, days=days, now=now) for subject in subjects]
    return bank.inquire(subjects, consents=consents, officer="li.wei", **more)


def sums(books: Iterable[LoanBook], subjects: Sequence[Subject]) -> list[dict[str, int]]:
    """The totals, added up from the books in the clear."""
    found: list[dict[str, int]] = []
    records = [[book.lookup(subject) for subject in subjects] for book in books]
    for place in range(len(subjects)):
        total: dict[str, int] = {}
        for record in records:
            for name, value in record[place].items():
                total[name] = total.get(name, 0) + value
        found.append(total)
    return found


def sent_by(consortium: LocalConsortium, since: int) -> dict[str, list[str]]:
    """Functions called after a block, by name of the party: read from the blocks themselves."""
    parties = {account.address: name for name, account in consortium.accounts.items()}
    parties[consortium.supervisor_account.address] = "supervisor"
    selectors = {consortium.deployed.consortium: "consortium"}
    found: dict[str, list[str]] = {name: [] for name in parties.values()}
    web3 = consortium.ledger.web3
    for number in range(since + 1, consortium.ledger.head().number + 1):
        block: Any = web3.eth.get_block(number, full_transactions=True)
        for transaction in block["transactions"]:
            name = parties.get(to_checksum_address(transaction["from"]))
            if name is not None:
                to = to_checksum_address(transaction["to"])
                found[name].append(selectors.get(to, "joint credit"))
    return found


# --------------------------------------------------------------------- governance


def owner(consortium: LocalConsortium, name: str) -> ChainSigner:
    """The signer of an institution's owner account."""
    return ChainSigner(consortium.ledger.web3, consortium.owners[name], consortium.deployed.consortium)


def supervisor_owner(consortium: LocalConsortium) -> ChainSigner:
    """The signer of the supervisor's owner account."""
    return ChainSigner(consortium.ledger.web3, consortium.supervisor_owner, consortium.deployed.consortium)


def encoded(function: str, *arguments: Any) -> bytes:
    """A call that a proposal carries."""
    return consortium_artifact().call_data(function, arguments)


def propose(consortium: LocalConsortium, *calls: bytes, reason: str = "") -> tuple[int, bytes]:
    """Propose calls from the owner of the first institution: number and hash."""
    owner(consortium, next(iter(consortium.owners))).transact(Call("consortium", "propose", (list(calls), reason)))
    consortium.institutions[next(iter(consortium.institutions))].sync()
    number, record = max(_proposals(consortium).items())
    return number, record.proposed.calls_hash


def _proposals(consortium: LocalConsortium) -> dict[int, Any]:
    return next(iter(consortium.institutions.values())).desk.state.proposals


def approve(consortium: LocalConsortium, number: int, calls_hash: bytes) -> None:
    """The supervisor's owner approves."""
    supervisor_owner(consortium).transact(Call("consortium", "approve", (number, calls_hash)))


def execute(consortium: LocalConsortium, number: int, *calls: bytes) -> None:
    """Execute a proposal from an owner's account; anyone may."""
    call = Call("consortium", "execute", (number, list(calls), consortium.supervisor_owner.address))
    owner(consortium, next(iter(consortium.owners))).transact(call)


def carry(consortium: LocalConsortium, *calls: bytes, reason: str = "a test") -> None:
    """Carry calls through a whole proposal: votes of all, approval, delay, execution."""
    number, calls_hash = propose(consortium, *calls, reason=reason)
    for name in consortium.owners:
        owner(consortium, name).transact(Call("consortium", "vote", (number, calls_hash)))
    approve(consortium, number, calls_hash)
    consortium.advance(DEFAULT_PARAMETERS.delay_seconds)
    execute(consortium, number, *calls)
    first = next(iter(consortium.institutions.values()))
    first.sync()
    assert any(isinstance(event, Executed) and event.proposal == number for event in first.follower.events)


def rotate_key(consortium: LocalConsortium, name: str, *, compromised: bool = False) -> None:
    """An institution replaces its key; the old private key stays."""
    bank = consortium[name]
    bank.sync()
    old = bank.desk.member.key
    new = consortium.keys[name].create_institution_key(old.version + 1)
    signature = sign_key(
        consortium.owners[name], consortium.ledger.realm, old.member, old.version + 1, new.public, old.public
    )
    call = Call("consortium", "rotateKey", (old.member, new.public, compromised, signature))
    owner(consortium, name).transact(call)


def begin_period(consortium: LocalConsortium, version: int) -> None:
    """The supervisor's owner announces the key of a new period, and a person at each member accepts it."""
    old = consortium.supervisor_keys.supervisor_versions()[version - 1]
    new = consortium.supervisor_keys.create_supervisor_key(version)
    signature = sign_key(consortium.supervisor_owner, consortium.ledger.realm, SUPERVISOR, version, new.public, old)
    supervisor_owner(consortium).transact(Call("consortium", "announcePeriodKey", (new.public, signature)))
    accept(
        consortium, replace(consortium.pins, period_keys=(consortium.pins.period_keys or frozenset()) | {new.public})
    )


def accept(consortium: LocalConsortium, pins: Pins) -> None:
    """Every party accepts these accounts and keys from now on."""
    consortium.pins = pins
    for bank in consortium.institutions.values():
        bank.follower.use_pins(pins)
    consortium.supervisor.follower.use_pins(pins)


# --------------------------------------------------------------------- readiness


def switch_off(consortium: LocalConsortium, name: str) -> None:
    """A person switches an institution off, as `mpcredit ready --off` does: its service does not switch it on again."""
    bank = consortium[name]
    consortium.stores[name].put("meta", "readiness", {"held": True})
    bank.sync()
    bank.membership.switch(False)
    while consortium.stores[name].outbox_pending():  # Anvil mines a moment after it has taken a transaction
        time.sleep(0.02)
        bank.desk.outbox.drive()
    consortium.advance(1)  # it counts from the next period on


def return_all(consortium: LocalConsortium) -> None:
    """Everybody is awake and switched on again."""
    for store in consortium.stores.values():
        store.delete("meta", "readiness")
    consortium.asleep.clear()
    consortium.supervised = True
    consortium.settle()


# --------------------------------------------------------------------- processes


def restart(consortium: LocalConsortium, name: str) -> Institution:
    """End an institution's process, wherever it is, and start it anew from its store file and keystore."""
    old = consortium.institutions[name]
    stores: Any = consortium.stores
    stores[name].close()
    # The object is used again, so that the consortium closes it at its end: this opens the same file anew.
    stores[name].__init__(stores[name].path, create=False)
    made = Institution(
        ledger=consortium.ledger,
        signer=ChainSigner(consortium.ledger.web3, consortium.accounts[name], consortium.deployed.consortium),
        store=stores[name],
        keys=consortium.keys[name],
        tagger=consortium.tagger,
        book=old.furnisher.book,
        policy=old.policy,
        pins=consortium.pins,
        bits=old.inquirer.bits,
        confirmations=old.follower.confirmations,
        ready=old.membership.ready,
        idle=old.idle,
    )
    consortium.institutions[name] = made
    return made


def rows_of(store: Any, beginning: str) -> list[Any]:
    """Outbox rows whose key begins so."""
    return [row for row in store.outbox_rows() if row.key.startswith(beginning)]
