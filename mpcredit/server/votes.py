"""This institution's votes on proposals, by two people: one orders, another one confirms, the console carries it out.

    asked -> confirmed -> started -> done         an administrator asks, a reviewer confirms (nobody his own); `mpcredit vote`,
      |          |           |                    where the owner key is, starts and sends; the ledger shows it
      `-> refused / cancelled `-> confirmed       the contract said no: nothing was sent

The ledger alone says what was done: the n-th vote of this member on a proposal, given or taken back, belongs to the n-th order
of that proposal that is done. So an order whose sending was not noted, since the console was killed, is found again, and
is not sent twice. A vote that nobody ordered here is written down as one.

Each step is an entry of the audit log in the transaction that it tells of. The owner key, and sending, are left to the console
(`cli.vote`); what a proposal would do to `mpcredit.proposals`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from mpcredit.encoding import to_hex
from mpcredit.errors import Refused
from mpcredit.events import Voted
from mpcredit.follower import Follower
from mpcredit.institution import Institution
from mpcredit.proposals import standing_of
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import proposal_order_table as table
from mpcredit.server.people import User

__all__ = ["OPEN", "SHORTEST_REASON", "VoteOrder", "VoteOrders", "VoteRefused", "own_votes"]

SHORTEST_REASON: Final = 5
OPEN: Final = ("asked", "confirmed", "started")
"""States that something can follow."""
CONSOLE: Final = "console"
LEDGER: Final = "ledger"
"""Who "asked" for a vote that nobody ordered here."""


class VoteRefused(Refused):
    """A vote was asked for, confirmed or carried out in a way that is not permitted."""


@dataclass(frozen=True)
class VoteOrder:
    """One order to vote for a proposal, or to take the vote back."""

    id: int
    proposal: int
    calls_hash: bytes
    in_favour: bool
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

    @property
    def word(self) -> str:
        """What is ordered, for messages."""
        return "vote for it" if self.in_favour else "take the vote back"


def own_votes(follower: Follower, member: int, proposal: int | None = None) -> dict[int, list[tuple[bool, int]]]:
    """By proposal, in order: the votes of a member that the ledger shows, given (True) or taken back, with their blocks."""
    found: dict[int, list[tuple[bool, int]]] = {}
    for event in follower.events:
        if isinstance(event, Voted) and event.member == member and proposal in (None, event.proposal):
            found.setdefault(event.proposal, []).append((event.in_favour, event.at.block))
    return found


class VoteOrders:
    """The orders, in the database of the audit log.

    Args:
        clock: unix seconds.
        tell: takes the number of a proposal after `follow` has noted a vote on it.
    """

    def __init__(
        self,
        audit: AuditLog,
        *,
        clock: Callable[[], float] = time.time,
        tell: Callable[[int], None] = lambda _number: None,
    ) -> None:
        self._audit = audit
        self._clock = clock
        self._tell_page = tell
        self._seen = (-1, 0)
        """How often the ledger was replayed, and how many events were looked at."""

    # ----------------------------------------------------------------- people

    def ask(
        self, proposal: int, calls_hash: bytes, in_favour: bool, reason: str, *, voted: bool, by: User
    ) -> VoteOrder:
        """Ask for a vote, or to take it back; a reviewer confirms.

        Args:
            calls_hash: of the calls that were read.
            voted: whether the ledger shows this member's vote now.

        Raises:
            VoteRefused: no reason, nothing would change, or an order for this proposal is open.
        """
        reason = reason.strip()
        if len(reason) < SHORTEST_REASON:
            raise VoteRefused("Write why this institution should do so.", remedy="a reviewer reads it and confirms")
        if voted == in_favour:
            raise VoteRefused(
                "this institution has voted for it already" if voted else "this institution has no vote on it",
                remedy="nothing is to be done",
            )
        with self._audit.database.transaction() as connection:
            # (1) the audit log's head is locked first, so that two orders at once come one after the other.
            self._tell(by.actor, "asked", proposal, in_favour, reason, calls_hash=calls_hash)
            if (found := self._open(proposal)) is not None:
                raise VoteRefused(
                    f"an order to {found.word} is open", remedy="let it be carried out, or cancel it on this page"
                )
            return self._insert(connection, proposal, calls_hash, in_favour, by.actor, reason, "asked")

    def confirm(self, id: int, calls_hash: bytes, *, by: User) -> VoteOrder:
        """Confirm an order; the console may carry it out from now on.

        Args:
            calls_hash: of the calls that the reviewer read.

        Raises:
            VoteRefused: it is the own order, it waits no more, or other calls were read than the order is about.
        """
        return self._second(id, "confirmed", "", by, calls_hash)

    def refuse(self, id: int, why: str, *, by: User) -> VoteOrder:
        """Refuse an order.

        Raises:
            VoteRefused: it is the own order, or it waits no more.
        """
        return self._second(id, "refused", why.strip(), by, None)

    def _second(self, id: int, state: str, why: str, by: User, calls_hash: bytes | None) -> VoteOrder:
        with self._audit.database.transaction() as connection:
            order = self._locked(connection, id)
            if order.asked_by == by.actor:
                raise VoteRefused("nobody confirms his own order", remedy="another reviewer must")
            if order.state != "asked":
                raise VoteRefused("this order waits no more", remedy="look at the proposal again")
            if calls_hash is not None and calls_hash != order.calls_hash:
                raise VoteRefused("the proposal has changed since this was asked", remedy="refuse it, and ask anew")
            return self._move(connection, order, state, by.actor, why, decided_by=by.actor)

    def cancel(self, id: int, why: str, *, by: User) -> VoteOrder:
        """Take back an order that was not carried out; one person is enough to do nothing.

        Raises:
            VoteRefused: it is being carried out, or over.
        """
        with self._audit.database.transaction() as connection:
            order = self._locked(connection, id)
            if order.state == "started":
                raise VoteRefused("this order is being carried out", remedy="ask for the opposite when it is done")
            if order.state not in OPEN:
                raise VoteRefused("this order is over", remedy="look at the proposal again")
            return self._move(connection, order, "cancelled", by.actor, why.strip(), decided_by=by.actor)

    # ----------------------------------------------------------------- the console

    def permitted(self, proposal: int, calls_hash: bytes, in_favour: bool) -> VoteOrder:
        """The order that lets the console vote.

        Raises:
            VoteRefused: there is none; who must do what.
        """
        order, word = self._open(proposal), "a vote" if in_favour else "taking the vote back"
        page = f"the server's page /proposals/{proposal}"
        if order is None or order.in_favour != in_favour:
            newest = next((one for one in self.of(proposal) if one.in_favour == in_favour), None)
            if newest is not None and newest.state in ("refused", "cancelled"):
                problem = (
                    f"{newest.decided_by} {newest.state} the order of {newest.asked_by}: {newest.why or 'no reason'}"
                )
            else:
                problem = f"nobody has ordered {word} on proposal {proposal}"
            raise VoteRefused(
                problem,
                remedy=f"an administrator asks for it on {page}, a reviewer other than he confirms; "
                "or give --without-review REASON, which the audit log tells",
            )
        if order.state == "asked":
            raise VoteRefused(
                f"{order.asked_by} asked for {word} on proposal {proposal}, and nobody has confirmed it",
                remedy=f"a reviewer other than he confirms on {page}",
            )
        if order.calls_hash != calls_hash:
            raise VoteRefused(
                f"the calls of proposal {proposal} are not those that were confirmed",
                remedy=f"cancel the order on {page}, read the calls, and ask anew",
            )
        return order

    def start(self, order: VoteOrder) -> VoteOrder:
        """Note that the console sends it now, before it does.

        Raises:
            VoteRefused: it was cancelled or done meanwhile.
        """
        with self._audit.database.transaction() as connection:
            now = self._locked(connection, order.id)
            if now.state == "started":
                return now
            if now.state != "confirmed":
                raise VoteRefused("this order was cancelled or carried out meanwhile", remedy="look at its page")
            return self._move(connection, now, "started", CONSOLE, "")

    def start_without_review(self, proposal: int, calls_hash: bytes, in_favour: bool, reason: str) -> VoteOrder:
        """Note that the console votes without a second person, before it does.

        Raises:
            VoteRefused: no reason.
        """
        reason = reason.strip()
        if len(reason) < SHORTEST_REASON:
            raise VoteRefused("a vote without review needs a reason", remedy="write it after --without-review")
        with self._audit.database.transaction() as connection:
            self._tell(CONSOLE, "without_review", proposal, in_favour, reason, calls_hash=calls_hash)
            return self._insert(connection, proposal, calls_hash, in_favour, CONSOLE, reason, "started")

    def not_sent(self, order: VoteOrder, why: str) -> None:
        """Note that the contract said no, so that nothing reached the ledger."""
        with self._audit.database.transaction() as connection:
            now = self._locked(connection, order.id)
            if now.state == "started":
                self._move(connection, now, "confirmed" if now.reviewed else "cancelled", CONSOLE, why, word="not_sent")

    # ----------------------------------------------------------------- the ledger

    def follow(self, party: Any) -> list[str]:
        """Note what the ledger shows of this member's votes; called after a round (`Node.each_round`).

        Returns:
            One line for each vote that is noted.
        """
        if not isinstance(party, Institution):
            return []
        follower, own = party.follower, party.desk.state.by_operator(party.desk.outbox.signer.address)
        if own is None:  # not invited yet, or its account is replaced
            return []
        replays, seen = self._seen
        new = follower.events[seen:] if replays == follower.replays else follower.events
        voted = any(isinstance(event, Voted) for event in new)
        lines = []
        for proposal, votes in own_votes(follower, own.index).items() if voted else ():
            hash_ = party.desk.state.proposals[proposal].proposed.calls_hash
            for order in self.catch_up(proposal, hash_, votes, by="node"):
                how = "as ordered" if order.reviewed else "without a second person"
                lines.append(f"proposal {proposal}: {order.word}: on the ledger, {how}")
                self._tell_page(proposal)
        self._seen = (follower.replays, len(follower.events))
        self._close(party)
        return lines

    def _close(self, party: Institution) -> None:
        """Cancel what can be carried out no more, so that it waits for nobody."""
        state, now = party.desk.state, party.follower.next_time
        for found in self._read(select(table).where(table.c.state.in_(("asked", "confirmed")))):
            record = state.proposals.get(found.proposal)
            if record is None or standing_of(record, state, now).state == "open":
                continue
            with self._audit.database.transaction() as connection:
                order = self._locked(connection, found.id)
                if order.state in ("asked", "confirmed"):
                    self._move(connection, order, "cancelled", "node", "the proposal is over", decided_by="node")
            self._tell_page(found.proposal)

    def catch_up(
        self, proposal: int, calls_hash: bytes, votes: Sequence[tuple[bool, int]], *, by: str
    ) -> list[VoteOrder]:
        """Note what the ledger shows of this member's votes on a proposal, of `own_votes`.

        Returns:
            What was not noted before, in order; a vote that nobody ordered here among it.
        """
        if len(votes) <= self._done(proposal):
            return []
        noted = []
        with self._audit.database.transaction() as connection:
            # (1) the audit log's head is locked, so that console and server do not note one vote twice.
            self._audit.lock()
            for in_favour, block in votes[self._done(proposal) :]:
                # (2) an order that was started is nearer than one that was only confirmed or asked.
                fitting = [o for o in self.of(proposal) if o.state in OPEN and o.in_favour == in_favour]
                order = next((o for state in ("started", "confirmed") for o in fitting if o.state == state), None)
                if order is None:
                    self._tell(LEDGER, "unordered", proposal, in_favour, block=block)
                    order = self._insert(connection, proposal, calls_hash, in_favour, LEDGER, "", "done", block)
                else:
                    order = self._move(connection, order, "done", by, "", block=block)
                noted.append(order)
                # (3) what else was open was asked before this vote.
                for other in self.of(proposal):
                    if other.state in OPEN:
                        self._move(connection, other, "cancelled", by, "overtaken by a vote", decided_by=by)
        return noted

    def _done(self, proposal: int) -> int:
        statement = select(func.count()).where(table.c.proposal == proposal, table.c.state == "done")
        with self._audit.database.read() as connection:
            return connection.scalar(statement) or 0

    # ----------------------------------------------------------------- reading

    def of(self, proposal: int) -> list[VoteOrder]:
        """The orders about a proposal, the newest first."""
        return self._read(select(table).where(table.c.proposal == proposal).order_by(table.c.id.desc()))

    def waiting(self) -> list[VoteOrder]:
        """Orders that wait for a reviewer, the oldest first."""
        return self._read(select(table).where(table.c.state == "asked").order_by(table.c.id))

    def get(self, id: int) -> VoteOrder:
        """One order.

        Raises:
            VoteRefused: there is none.
        """
        found = self._read(select(table).where(table.c.id == id))
        if not found:
            raise VoteRefused(f"there is no order {id}", remedy="look at the proposal again")
        return found[0]

    def _open(self, proposal: int) -> VoteOrder | None:
        return next((order for order in self.of(proposal) if order.state in OPEN), None)

    def _read(self, statement: Any) -> list[VoteOrder]:
        with self._audit.database.read() as connection:
            return [_order(row) for row in connection.execute(statement).all()]

    def _locked(self, connection: Connection, id: int) -> VoteOrder:
        self._audit.lock()  # in the order of `catch_up`
        return self.get(id)

    # ----------------------------------------------------------------- writing

    def _insert(
        self,
        connection: Connection,
        proposal: int,
        calls_hash: bytes,
        in_favour: bool,
        asked_by: str,
        reason: str,
        state: str,
        block: int | None = None,
    ) -> VoteOrder:
        statement = insert(table).values(
            proposal=proposal,
            calls_hash=calls_hash,
            kind="give" if in_favour else "withdraw",
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
        order: VoteOrder,
        state: str,
        by: str,
        why: str,
        *,
        word: str = "",
        decided_by: str | None = None,
        block: int | None = None,
    ) -> VoteOrder:
        values: dict[str, Any] = {"state": state, "block": block}
        if decided_by is not None:
            values |= {"decided_by": decided_by, "decided_at": int(self._clock()), "why": why}
        statement = update(table).where(table.c.id == order.id).values(values).returning(*table.c)
        moved = _order(connection.execute(statement).one())
        facts = {"order": order.id, "asked_by": order.asked_by} | ({} if block is None else {"block": block})
        self._tell(by, word or state, order.proposal, order.in_favour, why, **facts)
        return moved

    def _tell(self, by: str, word: str, proposal: int, in_favour: bool, why: str = "", **facts: Any) -> None:
        if isinstance(facts.get("calls_hash"), bytes):
            facts["calls_hash"] = to_hex(facts["calls_hash"])
        action = f"{'vote' if in_favour else 'vote_back'}.{word}"
        self._audit.append(by, action, f"proposal/{proposal}", why, **facts)


def _order(row: Row[Any]) -> VoteOrder:
    return VoteOrder(
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
