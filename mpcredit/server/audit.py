"""The audit log: who did what, about what, why and when. It only grows, and each entry holds the hash of the one before.

An entry is written in the transaction of the change it tells of: `append` joins the `Database.transaction` of its thread.
Entry n is one line of canonical JSON (RFC 8785); with H = SHA-256,

    hash_n = H("mpcredit/audit/2" || line_n),      line_n holds n and hash_(n-1),      hash_0 = 32 zero bytes.

So any changed, missing, added or reordered entry breaks the chain. That the end was cut off, or that all of it was written
anew, shows only against a head that is elsewhere: on the ledger (`ledger_anchors`), or in the bank's monitoring, which
reads the same lines. What entries mean, and that they name nobody's identity number, is left to the callers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from mpcredit.encoding import abi_decode, canonical_json, hex_bytes, parse_canonical_json, to_hex
from mpcredit.errors import InvalidEncoding, StoreError
from mpcredit.events import Anchored, Attested, Change, Event, Reported, RosterChanged
from mpcredit.ledger.roster import CHANGE_TYPES
from mpcredit.server.database import Database, audit_head_table, audit_table
from mpcredit.state import LedgerState

__all__ = [
    "FORMAT",
    "VERSION",
    "Anchor",
    "AuditBroken",
    "AuditLog",
    "Checked",
    "Entry",
    "check_lines",
    "ledger_anchors",
    "verify_lines",
]

FORMAT: Final = "mpcredit/audit"
VERSION: Final = 1
"""Of the lines; raised with every change of their form."""
_LABEL: Final = b"mpcredit/audit/2"
_START: Final = bytes(32)
_PAGE: Final = 1000
_NAMES: Final = {"about", "action", "actor", "at", "facts", "format", "previous", "seq", "version", "why"}


class AuditBroken(StoreError):
    """The audit log is not what it was.

    Args:
        seq: the first entry that does not fit.
        problem: what is wrong with it.
    """

    def __init__(self, seq: int, problem: str) -> None:
        super().__init__(
            f"audit log, entry {seq}: {problem}",
            remedy="keep the database as it is, compare it with a backup and the bank's monitoring, and tell the auditor",
        )
        self.seq = seq
        self.problem = problem


@dataclass(frozen=True)
class Anchor:
    """A head of the log that is on the ledger."""

    hash: bytes
    inquiry: bytes | None
    """Whose report or verdict put it there; None: a daily anchor."""
    block: int
    at: int
    """Unix seconds of the block."""


def ledger_anchors(
    state: LedgerState, events: Iterable[Event], *, member: int | None = None, supervisor: str | None = None
) -> list[Anchor]:
    """Heads that one party put on the ledger, in the ledger's order.

    Args:
        state, events: as a `Follower` has them.
        member: index of an institution: its reports and daily anchors.
        supervisor: owner account of a supervisor: its verdicts and daily anchors.
    """
    found = []
    owners: dict[str, int] = {}
    """By owner account the member that it governed at that time."""
    for event in events:
        about, head = None, _START
        if isinstance(event, RosterChanged):
            _follow_owners(owners, event)
        elif isinstance(event, Reported):
            inquiry = state.inquiries.get(event.inquiry)
            if inquiry is not None and inquiry.inquirer == member:
                about, head = event.inquiry, event.anchor
        elif isinstance(event, Attested):
            if event.supervisor == supervisor:
                about, head = event.inquiry, event.anchor
        elif isinstance(event, Anchored) and (event.owner == supervisor or owners.get(event.owner, -1) == member):
            head = event.head
        # Zeros: sent before there was a log, or without a server.
        if head != _START:
            found.append(Anchor(head, about, event.at.block, event.at.timestamp))
    return found


def _follow_owners(owners: dict[str, int], event: RosterChanged) -> None:
    """A replaced owner account may govern another party later."""
    if event.kind in (Change.MEMBER_INVITED, Change.OWNER_REPLACED):
        index, owner, *_name = abi_decode(CHANGE_TYPES[event.kind], event.data)
        for former in [account for account, member in owners.items() if member == index]:
            del owners[former]
        owners[str(owner)] = int(index)
    elif event.kind is Change.SUPERVISOR_ADDED:
        owners.pop(str(abi_decode(CHANGE_TYPES[event.kind], event.data)[0]), None)


def _source(anchor: Anchor) -> str:
    return "a daily anchor" if anchor.inquiry is None else f"inquiry {to_hex(anchor.inquiry)}"


@dataclass(frozen=True)
class Checked:
    """A log that is whole."""

    entries: int
    head: bytes
    """Hash of the last entry."""
    anchored: int
    """Up to this entry its own database, however it was changed, could not have told another story; 0 without anchors."""


@dataclass(frozen=True)
class Entry:
    """One entry."""

    seq: int
    """Its place, from 1 without gaps."""
    at: int
    """Unix seconds by the server's clock."""
    actor: str
    """Who: "user:NAME", "token:ID", "console", "customer" or "node"."""
    action: str
    """What, in the past, for example "application.created"."""
    about: str
    """Of what, for example "inquiry/0x…"."""
    why: str
    """The reason that a person gave, or the rule that applied."""
    facts: Mapping[str, Any]
    """What else belongs to it."""
    previous: bytes
    """Hash of the entry before."""
    hash: bytes
    """Hash of this one."""

    @property
    def line(self) -> bytes:
        """The entry with its hash as one line of canonical JSON, without the line's end: what is streamed and exported."""
        return canonical_json(self._body() | {"hash": to_hex(self.hash)})

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "seq": self.seq,
            "at": self.at,
            "actor": self.actor,
            "action": self.action,
            "about": self.about,
            "why": self.why,
            "facts": dict(self.facts),
            "previous": to_hex(self.previous),
        }


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(_LABEL + body).digest()


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return to_hex(value)
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _parse(body: bytes) -> Entry:
    """Read an entry's canonical JSON.

    Raises:
        InvalidEncoding: it is not one of this version.
    """
    value = parse_canonical_json(body)
    if not isinstance(value, dict) or set(value) != _NAMES or (value["format"], value["version"]) != (FORMAT, VERSION):
        raise InvalidEncoding("not an audit entry of this version")
    seq, at, actor, action, about, why = (value[name] for name in ("seq", "at", "actor", "action", "about", "why"))
    if type(seq) is not int or type(at) is not int or not all(type(x) is str for x in (actor, action, about, why)):
        raise InvalidEncoding("not an audit entry of this version")
    if not isinstance(value["facts"], dict):
        raise InvalidEncoding("not an audit entry of this version")
    return Entry(seq, at, actor, action, about, why, value["facts"], hex_bytes(value["previous"], 32), _hash(body))


class AuditLog:
    """The audit log in the server's database.

    Args:
        database: opened and upgraded.
        clock: the time in Unix seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self._clock = clock

    def append(self, actor: str, action: str, about: str = "", why: str = "", **facts: Any) -> Entry:
        """Add an entry, in the transaction of this thread if there is one.

        Raises:
            InvalidEncoding: facts that JSON cannot hold, or a float.
            StoreError: the database failed; the change that the entry tells of must not be kept then.
        """
        if not actor or not action:
            raise ValueError("an entry says who did what")
        with self.database.transaction() as connection:
            # (1) the head's row is locked until the transaction ends, so that two processes cannot write one place.
            seq, previous = _head(connection, lock=True)
            # (2) the hash is over the bytes that are stored.
            body = canonical_json(
                Entry(seq + 1, int(self._clock()), actor, action, about, why, _plain(facts), previous, _START)._body()
            )
            entry = _parse(body)
            connection.execute(
                insert(audit_table).values(
                    seq=entry.seq,
                    at=entry.at,
                    actor=entry.actor,
                    action=entry.action,
                    about=entry.about,
                    line=body.decode(),
                    hash=entry.hash,
                )
            )
            connection.execute(update(audit_head_table).values(seq=entry.seq, hash=entry.hash))
        return entry

    def lock(self) -> None:
        """Let nobody append until the transaction of this thread ends: what is decided in it then holds."""
        with self.database.transaction() as connection:
            _head(connection, lock=True)

    def head(self) -> tuple[int, bytes]:
        """Number of entries and hash of the last one, (0, zeros) of an empty log: what is anchored on the ledger."""
        with self.database.read() as connection:
            return _head(connection)

    def place(self, head: bytes) -> int:
        """Number of the entry with this hash, 0 if none has it."""
        with self.database.read() as connection:
            return connection.scalar(select(audit_table.c.seq).where(audit_table.c.hash == head)) or 0

    def stream(self, since: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """Entries after number `since`, in order; no connection is held between them.

        Raises:
            AuditBroken: an entry cannot be read.
        """
        last, left = since, limit
        while left is None or left > 0:
            page = _PAGE if left is None else min(_PAGE, left)
            statement = select(audit_table.c.seq, audit_table.c.line).where(audit_table.c.seq > last)
            with self.database.read() as connection:
                rows = connection.execute(statement.order_by(audit_table.c.seq).limit(page)).all()
            for row in rows:
                yield _read(row.seq, row.line)
            if len(rows) < page:
                return
            last = rows[-1].seq
            left = None if left is None else left - page

    def search(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        about: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """Entries for people, newest first.

        Args:
            actor: only of this actor.
            action: only of actions that begin so.
            about: only about this.
            before: only with a lower number.
            limit: at most so many.
        """
        columns = audit_table.c
        statement = select(columns.seq, columns.line)
        if actor is not None:
            statement = statement.where(columns.actor == actor)
        if action is not None:
            statement = statement.where(columns.action.startswith(action, autoescape=True))
        if about is not None:
            statement = statement.where(columns.about == about)
        if before is not None:
            statement = statement.where(columns.seq < before)
        with self.database.read() as connection:
            rows = connection.execute(statement.order_by(columns.seq.desc()).limit(limit)).all()
        return [_read(row.seq, row.line) for row in rows]

    def verify(self, anchors: Iterable[tuple[int, bytes]] = ()) -> int:
        """Check every entry.

        Args:
            anchors: heads that were kept elsewhere, such as in the bank's monitoring: number and hash.

        Returns:
            How many entries there are.

        Raises:
            AuditBroken: the first entry that was changed, is missing, was added or moved.
        """
        return self._check(_Chain(anchors)).entries

    def check(self, ledger: Sequence[Anchor] = ()) -> Checked:
        """Check every entry, and that every head on the ledger is one of this log.

        Args:
            ledger: of `ledger_anchors`, read before.

        Raises:
            AuditBroken: the first entry that was changed, is missing, was added or moved; where the end was written anew or
                cut off, the first one behind the last anchor that still fits.
        """
        return self._check(_Chain((), ledger))

    def _check(self, chain: _Chain) -> Checked:
        columns = audit_table.c
        # (1) up to the head as it is now; entries written meanwhile are not looked at.
        seq, expected = self.head()
        last = None
        while True:
            statement = select(audit_table).where(columns.seq <= seq).order_by(columns.seq).limit(_PAGE)
            with self.database.read() as connection:
                rows = connection.execute(statement if last is None else statement.where(columns.seq > last)).all()
            for row in rows:
                entry = chain.take(row.line.encode(), row.seq)
                if bytes(row.hash) != entry.hash:
                    raise AuditBroken(entry.seq, "its stored hash is not that of its content")
                if (row.at, row.actor, row.action, row.about) != (entry.at, entry.actor, entry.action, entry.about):
                    raise AuditBroken(entry.seq, "its search columns say something else than its content")
            if len(rows) < _PAGE:
                break
            last = rows[-1].seq
        if chain.seq < seq:
            raise AuditBroken(chain.seq + 1, f"is missing; the log has had {seq} entries")
        if chain.hash != expected:
            raise AuditBroken(seq, "is not the last one that was written")
        # (2) an entry above the head is none that `append` wrote.
        extra = self._extra()
        if extra is not None:
            raise AuditBroken(extra, "was added behind the last one")
        return chain.end()

    def _extra(self) -> int | None:
        with self.database.transaction() as connection:  # alone, so that head and entries belong together
            seq, _ = _head(connection, lock=True)
            statement = select(audit_table.c.seq).where(audit_table.c.seq > seq)
            found = connection.scalar(statement.order_by(audit_table.c.seq).limit(1))
        return None if found is None else int(found)


def _head(connection: Connection, *, lock: bool = False) -> tuple[int, bytes]:
    statement = select(audit_head_table.c.seq, audit_head_table.c.hash)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:  # the first migration wrote it
        raise AuditBroken(0, "the head of the log was deleted")
    return int(row.seq), bytes(row.hash)


def _read(seq: int, line: str) -> Entry:
    try:
        return _parse(line.encode())
    except (InvalidEncoding, UnicodeError) as error:
        raise AuditBroken(seq, "is not in its canonical form") from error


class _Chain:
    def __init__(self, anchors: Iterable[tuple[int, bytes]], ledger: Sequence[Anchor] = ()) -> None:
        self.ledger = ledger
        self.places: dict[bytes, int] = {anchor.hash: 0 for anchor in ledger}
        """By anchored head, the entry that has it; 0 for none yet."""
        self.anchors: dict[int, set[bytes]] = {}
        for seq, head in anchors:
            self.anchors.setdefault(seq, set()).add(head)
        self.seq = 0
        self.hash = _START

    def take(self, body: bytes, place: int | None = None) -> Entry:
        wanted = self.seq + 1
        if place is not None and place != wanted:
            raise AuditBroken(wanted, "is missing" if place > wanted else f"comes after an entry {place}")
        try:
            entry = _parse(body)
        except (InvalidEncoding, UnicodeError) as error:
            raise AuditBroken(wanted, "is not in its canonical form") from error
        if entry.seq != wanted:
            raise AuditBroken(wanted, f"is missing or out of order; entry {entry.seq} is in its place")
        if entry.previous != self.hash:
            raise AuditBroken(wanted, "does not follow the entry before it: one of the two was changed")
        if self.anchors.pop(wanted, {entry.hash}) != {entry.hash}:
            raise AuditBroken(wanted, "is not the one whose hash was anchored")
        self.seq, self.hash = wanted, entry.hash
        if entry.hash in self.places:
            self.places[entry.hash] = wanted
        return entry

    def end(self) -> Checked:
        self.anchors.pop(0, None)
        if self.anchors:
            raise AuditBroken(min(self.anchors), f"is missing; it was anchored, and the log ends with {self.seq}")
        fitting = 0
        for anchor in self.ledger:
            place = self.places[anchor.hash]
            if not place:
                raise AuditBroken(
                    fitting + 1,
                    f"or one behind it was changed or cut off: the head that {_source(anchor)} put on the "
                    f"ledger in block {anchor.block} is not of this log, which ends with {self.seq}",
                )
            fitting = max(fitting, place)
        return Checked(self.seq, self.hash, fitting)


def verify_lines(lines: Iterable[bytes | str], anchors: Iterable[tuple[int, bytes]] = ()) -> tuple[int, bytes]:
    """Check an exported log, the lines of `Entry.line` from the first on.

    Returns:
        Number of entries and hash of the last.

    Raises:
        AuditBroken: the first entry that does not fit.
    """
    checked = _check_lines(lines, _Chain(anchors))
    return checked.entries, checked.head


def check_lines(lines: Iterable[bytes | str], ledger: Sequence[Anchor] = ()) -> Checked:
    """The same, against the heads on the ledger."""
    return _check_lines(lines, _Chain((), ledger))


def _check_lines(lines: Iterable[bytes | str], chain: _Chain) -> Checked:
    for line in lines:
        data = line.encode() if isinstance(line, str) else bytes(line)
        try:
            value = parse_canonical_json(data.rstrip(b"\r\n"))
            stated = hex_bytes(value.pop("hash"), 32)
        except (InvalidEncoding, KeyError, AttributeError, TypeError) as error:
            raise AuditBroken(chain.seq + 1, "is not in its canonical form") from error
        entry = chain.take(canonical_json(value))
        if entry.hash != stated:
            raise AuditBroken(entry.seq, "its hash is not that of its content")
    return chain.end()
