"""What people order about proposals: an institution's votes and a supervisor's approvals, each by two people.

    asked -> confirmed -> started -> done         one person asks, a reviewer confirms; `mpcredit vote` or `mpcredit approve`,
      |          |           |                    where the owner key is, starts and sends; the ledger shows it
      `-> refused / cancelled `-> confirmed       the contract said no: nothing was sent

The ledger alone says what was done: the n-th step of this party on a proposal, given or taken back, belongs to the n-th order
of that proposal that is done. So the console finds an order again whose sending it did not note because it was killed, and
does not send it twice. A step that nobody ordered here is written down as such.

Each step is an entry of the audit log in the transaction that it tells of. The owner key, and sending, are left to the console
(`cli.vote`, `cli.approve`); what a proposal would do to `mpcredit.proposals`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from mpcredit.encoding import to_hex
from mpcredit.errors import Refused
from mpcredit.events import Approved, Voted
from mpcredit.follower import Follower
from mpcredit.institution import Institution
from mpcredit.proposals import standing_of
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import proposal_order_table as table
from mpcredit.server.node import Party, own_member, own_owner
from mpcredit.server.people import Role, User

__all__ = ["APPROVAL", "OPEN", "SHORTEST_REASON", "VOTE", "Kind", "Order", "OrderRefused", "Orders", "own_steps"]

SHORTEST_REASON: Final = 5
OPEN: Final = ("asked", "confirmed", "started")
"""States that something can follow."""
CONSOLE: Final = "console"
LEDGER: Final = "ledger"
"""Who "asked" for a step that nobody ordered here."""


class OrderRefused(Refused):
    """Something was ordered, confirmed or carried out in a way that is not permitted."""


@dataclass(frozen=True)
class Kind:
    """What a party does with proposals, and the words for it."""

    name: str
    """In the audit log."""
    article: str
    """The same, with its article."""
    asks: Role
    """Who may ask for it; a reviewer confirms."""
    asker: str
    """The same person, for messages."""
    give: str
    withdraw: str
    given: str
    """What the ledger shows when nothing is to be given."""
    missing: str
    """And when nothing is to be taken back."""
    overtaken: str
    """Why an order is cancelled when the ledger shows another step."""


VOTE: Final = Kind(
    "vote",
    "a vote",
    Role.ADMINISTRATOR,
    "an administrator",
    "vote for it",
    "take the vote back",
    "this institution has voted for it already",
    "this institution has no vote on it",
    "overtaken by a vote",
)
"""An institution's."""
APPROVAL: Final = Kind(
    "approval",
    "an approval",
    Role.SUPERVISOR,
    "a supervisor",
    "approve it",
    "take the approval back",
    "this supervisor has approved it already",
    "this supervisor has not approved it",
    "overtaken by an approval",
)
"""A supervisor's."""


@dataclass(frozen=True)
class Order:
    """One order to vote for a proposal or to approve it, or to take that back."""

    id: int
    proposal: int
    calls_hash: bytes
    given: bool
    """False: taken back."""
    asked_by: str
    """Who, as in the audit log; "console" without a review; "ledger": nobody ordered it here."""
    reason: str
    asked_at: int
    state: str
    """asked, confirmed, refused, cancelled, started or done."""
    decided_by: str | None
    """Who confirmed, refused or cancelled."""
    decided_at: int | None
    why: str | None
    """Why it was refused or cancelled."""
    block: int | None
    """Of the ledger, where it was done."""

    @property
    def reviewed(self) -> bool:
        """Whether two people are behind it."""
        return self.asked_by not in (CONSOLE, LEDGER)


def own_steps(follower: Follower, party: int | str, proposal: int | None = None) -> dict[int, list[tuple[bool, int]]]:
    """By proposal, in order: what the ledger shows of a party, given (True) or taken back, with their blocks.

    Args:
        party: index of a member, for its votes; owner account of a supervisor, for its approvals.
    """
    found: dict[int, list[tuple[bool, int]]] = {}
    for event in follower.events:
        if isinstance(event, Voted) and event.member == party and proposal in (None, event.proposal):
            found.setdefault(event.proposal, []).append((event.in_favour, event.at.block))
        elif isinstance(event, Approved) and event.supervisor == party and proposal in (None, event.proposal):
            found.setdefault(event.proposal, []).append((event.given, event.at.block))
    return found


def _own(party: Party) -> int | str | None:
    """As whom a party votes or approves; None while it has not named its service account."""
    if isinstance(party, Institution):
        member = own_member(party)
        return None if member is None else member.index
    return own_owner(party) or None


class Orders:
    """The orders of one party, in the database of its audit log.

    Args:
        kind: VOTE or APPROVAL.
        clock: unix seconds.
        tell: takes the number of a proposal after `follow` has noted a step on it.
    """

    def __init__(
        self,
        audit: AuditLog,
        kind: Kind,
        *,
        clock: Callable[[], float] = time.time,
        tell: Callable[[int], None] = lambda _number: None,
    ) -> None:
        self.kind = kind
        self._audit = audit
        self._clock = clock
        self._tell_page = tell
        self._seen = (-1, 0)
        """How often the ledger was replayed, and how many events were looked at."""

    def word(self, order: Order) -> str:
        """What is ordered, for messages."""
        return self._word(order.given)

    def _word(self, given: bool) -> str:
        return self.kind.give if given else self.kind.withdraw

    # ----------------------------------------------------------------- people

    def ask(self, proposal: int, calls_hash: bytes, given: bool, reason: str, *, stands: bool, by: User) -> Order:
        """Ask for a vote or an approval, or to take it back; a reviewer confirms.

        Args:
            calls_hash: of the calls that were read.
            stands: whether the ledger shows it as given now.

        Raises:
            OrderRefused: no reason, nothing would change, or an order for this proposal is open.
        """
        reason = reason.strip()
        if len(reason) < SHORTEST_REASON:
            raise OrderRefused("Write what you have checked, and why.", remedy="a reviewer reads it and confirms")
        if stands == given:
            raise OrderRefused(self.kind.given if stands else self.kind.missing, remedy="nothing is to be done")
        with self._audit.database.transaction() as connection:
            # (1) the audit log's head is locked first, so that two orders at once come one after the other.
            self._tell(by.actor, "asked", proposal, given, reason, calls_hash=calls_hash)
            if (found := self._open(proposal)) is not None:
                raise OrderRefused(
                    f"an order to {self.word(found)} is open", remedy="let it be carried out, or cancel it on this page"
                )
            return self._insert(connection, proposal, calls_hash, given, by.actor, reason, "asked")

    def confirm(self, id: int, calls_hash: bytes, *, by: User) -> Order:
        """Confirm an order; the console may carry it out from now on.

        Args:
            calls_hash: of the calls that the reviewer read.

        Raises:
            OrderRefused: it is the own order, it waits no more, or other calls were read than the order is about.
        """
        return self._second(id, "confirmed", "", by, calls_hash)

    def refuse(self, id: int, why: str, *, by: User) -> Order:
        """Refuse an order.

        Raises:
            OrderRefused: it is the own order, or it waits no more.
        """
        return self._second(id, "refused", why.strip(), by, None)

    def _second(self, id: int, state: str, why: str, by: User, calls_hash: bytes | None) -> Order:
        with self._audit.database.transaction() as connection:
            order = self._locked(connection, id)
            if order.asked_by == by.actor:
                raise OrderRefused("you cannot confirm or refuse your own order", remedy="another reviewer must")
            if order.state != "asked":
                raise OrderRefused("this order waits no more", remedy="look at the proposal again")
            if calls_hash is not None and calls_hash != order.calls_hash:
                raise OrderRefused("the proposal has changed since this was asked", remedy="refuse it, and ask anew")
            return self._move(connection, order, state, by.actor, why, decided_by=by.actor)

    def cancel(self, id: int, why: str, *, by: User) -> Order:
        """Take back an order that was not carried out; one person is enough to do nothing.

        Raises:
            OrderRefused: it is being carried out, or over.
        """
        with self._audit.database.transaction() as connection:
            order = self._locked(connection, id)
            if order.state == "started":
                raise OrderRefused("this order is being carried out", remedy="ask for the opposite when it is done")
            if order.state not in OPEN:
                raise OrderRefused("this order is over", remedy="look at the proposal again")
            return self._move(connection, order, "cancelled", by.actor, why.strip(), decided_by=by.actor)

    # ----------------------------------------------------------------- the console

    def permitted(self, proposal: int, calls_hash: bytes, given: bool) -> Order:
        """The order that lets the console send it.

        Raises:
            OrderRefused: there is none; who must do what.
        """
        order, word, page = self._open(proposal), self._word(given), f"the server's page /proposals/{proposal}"
        if order is None or order.given != given:
            newest = next((one for one in self.of(proposal) if one.given == given), None)
            problem = f"nobody has ordered to {word} (proposal {proposal})"
            if newest is not None and newest.state in ("refused", "cancelled"):
                problem = (
                    f"{newest.decided_by} {newest.state} the order of {newest.asked_by}: {newest.why or 'no reason'}"
                )
            raise OrderRefused(
                problem,
                remedy=f"{self.kind.asker} asks for it on {page}, and a reviewer, another person, confirms it; "
                "or give --without-review REASON, which the audit log tells",
            )
        if order.state == "asked":
            raise OrderRefused(
                f"{order.asked_by} asked to {word} (proposal {proposal}), and nobody has confirmed it",
                remedy=f"a reviewer, another person, confirms it on {page}",
            )
        if order.calls_hash != calls_hash:
            raise OrderRefused(
                f"the calls of proposal {proposal} are not those that were confirmed",
                remedy=f"cancel the order on {page}, read the calls, and ask anew",
            )
        return order

    def start(self, order: Order) -> Order:
        """Note that the console sends it now, before it does.

        Raises:
            OrderRefused: it was cancelled or done meanwhile.
        """
        with self._audit.database.transaction() as connection:
            now = self._locked(connection, order.id)
            if now.state == "started":
                return now
            if now.state != "confirmed":
                raise OrderRefused("this order was cancelled or carried out meanwhile", remedy="look at its page")
            return self._move(connection, now, "started", CONSOLE, "")

    def start_without_review(self, proposal: int, calls_hash: bytes, given: bool, reason: str) -> Order:
        """Note that the console sends it without a second person, before it does.

        Raises:
            OrderRefused: no reason.
        """
        reason = reason.strip()
        if len(reason) < SHORTEST_REASON:
            raise OrderRefused(
                f"{self.kind.article} without review needs a reason", remedy="write it after --without-review"
            )
        with self._audit.database.transaction() as connection:
            self._tell(CONSOLE, "without_review", proposal, given, reason, calls_hash=calls_hash)
            return self._insert(connection, proposal, calls_hash, given, CONSOLE, reason, "started")

    def not_sent(self, order: Order, why: str) -> None:
        """Note that the contract said no, so that nothing reached the ledger."""
        with self._audit.database.transaction() as connection:
            now = self._locked(connection, order.id)
            if now.state == "started":
                self._move(connection, now, "confirmed" if now.reviewed else "cancelled", CONSOLE, why, word="not_sent")

    # ----------------------------------------------------------------- the ledger

    def follow(self, party: Party) -> list[str]:
        """Note what the ledger shows of this party; called after a round (`Node.each_round`).

        Returns:
            One line for each step that is noted.
        """
        follower, own = party.follower, _own(party)
        if own is None:  # the round itself has said so
            return []
        replays, seen = self._seen
        new = follower.events[seen:] if replays == follower.replays else follower.events
        moved = any(isinstance(event, Voted | Approved) for event in new)
        lines = []
        for proposal, steps in own_steps(follower, own).items() if moved else ():
            hash_ = follower.state.proposals[proposal].proposed.calls_hash
            for order in self.catch_up(proposal, hash_, steps, by="node"):
                how = "as ordered" if order.reviewed else "without a second person"
                lines.append(f"proposal {proposal}: {self.word(order)}: on the ledger, {how}")
                self._tell_page(proposal)
        self._seen = (follower.replays, len(follower.events))
        self._close(follower)
        return lines

    def _close(self, follower: Follower) -> None:
        """Cancel what can be carried out no more, so that it waits for nobody."""
        state, now = follower.state, follower.next_time
        for found in self._read(select(table).where(table.c.state.in_(("asked", "confirmed")))):
            record = state.proposals.get(found.proposal)
            if record is None or standing_of(record, state, now).state == "open":
                continue
            with self._audit.database.transaction() as connection:
                order = self._locked(connection, found.id)
                if order.state in ("asked", "confirmed"):
                    self._move(connection, order, "cancelled", "node", "the proposal is over", decided_by="node")
            self._tell_page(found.proposal)

    def catch_up(self, proposal: int, calls_hash: bytes, steps: Sequence[tuple[bool, int]], *, by: str) -> list[Order]:
        """Note what the ledger shows of this party on a proposal, of `own_steps`.

        Returns:
            What was not noted before, in order; a step that nobody ordered here among it.
        """
        if len(steps) <= self._done(proposal):
            return []
        noted = []
        with self._audit.database.transaction() as connection:
            # (1) the audit log's head is locked, so that console and server do not note one step twice.
            self._audit.lock()
            for given, block in steps[self._done(proposal) :]:
                # (2) an order that was started is nearer than one that was only confirmed or asked.
                fitting = [o for o in self.of(proposal) if o.state in OPEN and o.given == given]
                order = next((o for state in ("started", "confirmed") for o in fitting if o.state == state), None)
                if order is None:
                    self._tell(LEDGER, "unordered", proposal, given, block=block)
                    order = self._insert(connection, proposal, calls_hash, given, LEDGER, "", "done", block)
                else:
                    order = self._move(connection, order, "done", by, "", block=block)
                noted.append(order)
                # (3) what else was open was asked before this step.
                for other in self.of(proposal):
                    if other.state in OPEN:
                        self._move(connection, other, "cancelled", by, self.kind.overtaken, decided_by=by)
        return noted

    def _done(self, proposal: int) -> int:
        statement = select(func.count()).where(table.c.proposal == proposal, table.c.state == "done")
        with self._audit.database.read() as connection:
            return connection.scalar(statement) or 0

    # ----------------------------------------------------------------- reading

    def of(self, proposal: int) -> list[Order]:
        """The orders about a proposal, the newest first."""
        return self._read(select(table).where(table.c.proposal == proposal).order_by(table.c.id.desc()))

    def waiting(self) -> list[Order]:
        """Orders that wait for a reviewer, the oldest first."""
        return self._read(select(table).where(table.c.state == "asked").order_by(table.c.id))

    def get(self, id: int) -> Order:
        """One order.

        Raises:
            OrderRefused: there is none.
        """
        found = self._read(select(table).where(table.c.id == id))
        if not found:
            raise OrderRefused(f"there is no order {id}", remedy="look at the proposal again")
        return found[0]

    def _open(self, proposal: int) -> Order | None:
        return next((order for order in self.of(proposal) if order.state in OPEN), None)

    def _read(self, statement: Any) -> list[Order]:
        with self._audit.database.read() as connection:
            return [_order(row) for row in connection.execute(statement).all()]

    def _locked(self, connection: Connection, id: int) -> Order:
        self._audit.lock()  # in the order of `catch_up`
        return self.get(id)

    # ----------------------------------------------------------------- writing

    def _insert(
        self,
        connection: Connection,
        proposal: int,
        calls_hash: bytes,
        given: bool,
        asked_by: str,
        reason: str,
        state: str,
        block: int | None = None,
    ) -> Order:
        statement = insert(table).values(
            proposal=proposal,
            calls_hash=calls_hash,
            kind="give" if given else "withdraw",
            asked_by=asked_by,
            reason=reason,
            asked_at=int(self._clock()),
            state=state,
            block=block,
        )
        return _order(connection.execute(statement.returning(*table.c)).one())

    def _move(
        self,
        connection: Connection,
        order: Order,
        state: str,
        by: str,
        why: str,
        *,
        word: str = "",
        decided_by: str | None = None,
        block: int | None = None,
    ) -> Order:
        values: dict[str, Any] = {"state": state, "block": block}
        if decided_by is not None:
            values |= {"decided_by": decided_by, "decided_at": int(self._clock()), "why": why}
        statement = update(table).where(table.c.id == order.id).values(values).returning(*table.c)
        moved = _order(connection.execute(statement).one())
        facts = {"order": order.id, "asked_by": order.asked_by} | ({} if block is None else {"block": block})
        self._tell(by, word or state, order.proposal, order.given, why, **facts)
        return moved

    def _tell(self, by: str, word: str, proposal: int, given: bool, why: str = "", **facts: Any) -> None:
        if isinstance(facts.get("calls_hash"), bytes):
            facts["calls_hash"] = to_hex(facts["calls_hash"])
        action = f"{self.kind.name if given else self.kind.name + '_back'}.{word}"
        self._audit.append(by, action, f"proposal/{proposal}", why, **facts)


def _order(row: Row[Any]) -> Order:
    return Order(
        row.id,
        row.proposal,
        row.calls_hash,
        row.kind == "give",
        row.asked_by,
        row.reason,
        row.asked_at,
        row.state,
        row.decided_by,
        row.decided_at,
        row.why,
        row.block,
    )
