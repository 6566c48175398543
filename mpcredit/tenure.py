"""The tenure of a store: the 32 random bytes that tell one store of a member from every other, and its mark (R25).

One member has one store that answers. Every naming of its service account carries the tenure of that store, so a second
store, or a store that was lost and made anew, answers nothing until the owner names its tenure. The mark lies outside the
database and names the newest answer: a database that was set back does not fit it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.ledger.roster import Member
from mpcredit.ports import Store

__all__ = ["Mark", "Marks", "Tenure", "member_index", "note_member", "tenure_of"]

log = logging.getLogger("mpcredit")


@dataclass(frozen=True)
class Mark:
    """What lies outside the database."""

    tenure: bytes
    """32 bytes."""
    answer: tuple[bytes, bytes] | None
    """q and payload hash of the newest answer; None before the first."""


class Marks(Protocol):
    """Where the mark of a store is kept."""

    def read(self) -> Mark | None:
        """The mark that was written last; None if there is none."""

    def write(self, mark: Mark) -> None:
        """Replace the mark, and return when it cannot be lost any more."""


def tenure_of(
    store: Store, marks: Marks | None = None, random_bytes: Callable[[int], bytes] = secrets.token_bytes
) -> bytes:
    """The tenure of a store; an empty store begins one, and writes its mark first."""
    known = store.get("meta", "tenure")
    if known is None:
        tenure = random_bytes(32)
        if marks is not None:
            marks.write(Mark(tenure, None))
        known = {"tenure": to_hex(tenure)}
        store.insert("meta", "tenure", known)
    return hex_bytes(known["tenure"], 32)


def member_index(store: Store) -> int | None:
    """Index of the member that a store has worked for; None in its first round. A new tenure begins without it."""
    known = store.get("meta", "member")
    return None if known is None else int(known["index"])


def note_member(store: Store, index: int) -> None:
    """Keep the index of the member that a store works for (`Roster.member_of`)."""
    store.put("meta", "member", {"index": index})


class Tenure:
    """The tenure of one institution's store.

    Args:
        store: the institution's store.
        marks: where the mark is kept; None keeps none, for rehearsals and tests.
    """

    def __init__(self, store: Store, marks: Marks | None = None) -> None:
        self.store = store
        self.marks = marks
        self._told = ""

    @property
    def value(self) -> bytes:
        """32 bytes."""
        return tenure_of(self.store, self.marks)

    def begin(self, reason: str) -> bytes:
        """Begin a new tenure by order of a person; the owner must name it before anything is answered.

        Args:
            reason: why, for the log.

        Returns:
            The new tenure.
        """
        tenure = secrets.token_bytes(32)
        if self.marks is not None:
            self.marks.write(Mark(tenure, None))
        with self.store.transaction():
            self.store.put("meta", "tenure", {"tenure": to_hex(tenure), "reason": reason})
            self.store.delete("meta", "newest_answer")
            self.store.delete("meta", "member")
        log.warning("a new tenure of this store has begun: %s", reason)
        return tenure

    def note(self, inquiry: bytes, payload: bytes) -> None:
        """Note an answer as the newest, in the transaction that stores it."""
        before = self.store.get("meta", "newest_answer")
        made = {"inquiry": to_hex(inquiry), "hash": to_hex(hashlib.sha256(payload).digest())}
        self.store.put("meta", "newest_answer", {**made, "before": _without_before(before)})

    def seal(self) -> None:
        """Write the mark for the newest answer; call it before anything of the answer leaves."""
        if self.marks is not None:
            self.marks.write(Mark(self.value, _named(self.store.get("meta", "newest_answer"))))

    def trouble(self, member: Member | None) -> str:
        """Why this store must answer nothing; empty if it may.

        Args:
            member: this institution as the roster has it.
        """
        found = self.stopped(member) or self._naming_trouble(member)
        if found and found != self._told:
            log.warning("nothing is answered: %s", found)
        self._told = found
        return found

    def stopped(self, member: Member | None) -> str:
        """Why this store must not even take a new nonce: it is an older copy, or another one was named since."""
        if found := self._mark_trouble():
            return found
        if member is not None and member.tenure != self.value and self.value in [n.tenure for n in member.namings]:
            return (
                "the owner has named another store of this institution since: only that one answers; "
                "to use this one instead, begin a new tenure: `--new-tenure REASON`"
            )
        return ""

    def _naming_trouble(self, member: Member | None) -> str:
        if member is None or member.tenure is None or member.tenure == self.value:
            return ""
        return "the owner has not named the tenure of this store (`mpcredit member appoint`)"

    def _mark_trouble(self) -> str:
        if self.marks is None:
            return ""
        tenure, mark = self.value, self.marks.read()
        if mark is None:
            return "the mark of this store is gone: the store may be an older copy (begin a new tenure: `--new-tenure REASON`)"
        newest = self.store.get("meta", "newest_answer")
        fitting = (_named(newest), _named(newest["before"]) if newest else None)
        if mark.tenure != tenure or mark.answer not in fitting:
            return (
                "the mark beside this store names another answer or another store: the store was set back or replaced "
                "(begin a new tenure: `--new-tenure REASON`)"
            )
        return ""


def _without_before(value: dict[str, object] | None) -> dict[str, object] | None:
    return None if value is None else {name: part for name, part in value.items() if name != "before"}


def _named(value: object) -> tuple[bytes, bytes] | None:
    if not isinstance(value, dict):
        return None
    return hex_bytes(value["inquiry"], 32), hex_bytes(value["hash"], 32)
