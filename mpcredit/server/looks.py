"""Who of the supervisor's people may see the figures of an inquiry, when it takes two of them.

1. One asks, for one inquiry, and says why.
2. Another one confirms or refuses; he sees the reason, not the figures. Nobody confirms his own.
3. The figures are then open to who asked, for some minutes, for that inquiry. After that he asks again.

Each step is an entry of the audit log in the transaction that it tells of. That each look itself is logged too, and that a
reason is enough where one person may look alone, is left to the routes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, insert, select, update

from mpcredit.errors import Refused
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import look_table
from mpcredit.server.people import User

__all__ = ["Look", "LookRefused", "Looks"]

WAIT_SECONDS: Final = 86_400
"""After this time a request that nobody confirmed has lapsed: why it was asked may be over."""
SHORTEST_REASON: Final = 5


class LookRefused(Refused):
    """A look was asked for, confirmed or taken in a way that is not permitted."""


@dataclass(frozen=True)
class Look:
    """One request to see the figures of an inquiry."""

    id: int
    inquiry: str
    asked_by: str
    """Who, as in the audit log."""
    reason: str
    asked_at: int
    state: str
    """asked, lapsed, refused, open or over."""
    decided_by: str | None
    decided_at: int | None
    why: str | None
    """Why it was refused."""
    until: int | None
    """Until when the figures are, or were, open."""


class Looks:
    """The requests, in the database of the audit log.

    Args:
        minutes: how long figures are open.
        clock: unix seconds.
    """

    def __init__(self, audit: AuditLog, *, minutes: int, clock: Callable[[], float] = time.time) -> None:
        self._audit = audit
        self._seconds = minutes * 60
        self._clock = clock

    # ----------------------------------------------------------------- asking and confirming

    def ask(self, inquiry: str, reason: str, *, by: User) -> Look:
        """Ask for a look.

        Raises:
            LookRefused: no reason, or a request of this person for this inquiry waits or is open.
        """
        reason = reason.strip()
        if len(reason) < SHORTEST_REASON:
            raise LookRefused("Write why you need to see the figures.", remedy="another person reads it and confirms")
        with self._audit.database.transaction() as connection:
            # (1) the audit log's head is locked first, so that two requests at once come one after the other.
            self._audit.append(by.actor, "look.asked", f"inquiry/{inquiry}", reason)
            if any(look.state in ("asked", "open") for look in self.of(inquiry, by)):
                raise LookRefused("you have asked for these figures already", remedy="wait for the other person")
            row = connection.execute(
                insert(look_table)
                .values(inquiry=inquiry, asked_by=by.actor, reason=reason, asked_at=self._now(), state="asked")
                .returning(*look_table.c)
            ).one()
            return self._look(row)

    def confirm(self, id: int, *, by: User) -> Look:
        """Let the one who asked look; the minutes begin now.

        Raises:
            LookRefused: it is the own request, or it waits no more.
        """
        return self._decide(id, by, "confirmed", "")

    def refuse(self, id: int, why: str, *, by: User) -> Look:
        """Do not let him.

        Raises:
            LookRefused: it is the own request, or it waits no more.
        """
        return self._decide(id, by, "refused", why.strip())

    def _decide(self, id: int, by: User, state: str, why: str) -> Look:
        with self._audit.database.transaction() as connection:
            row = connection.execute(select(look_table).where(look_table.c.id == id).with_for_update()).one_or_none()
            if row is None:
                raise LookRefused(f"there is no request {id}", remedy="look at the list again")
            look = self._look(row)
            if look.asked_by == by.actor:
                raise LookRefused("nobody confirms his own request", remedy="another supervisor must")
            if look.state != "asked":
                raise LookRefused("this request waits no more", remedy="who still needs the figures asks again")
            values = {"state": state, "decided_by": by.actor, "decided_at": self._now(), "why": why}
            statement = update(look_table).where(look_table.c.id == id).values(values).returning(*look_table.c)
            decided = self._look(connection.execute(statement).one())
            self._audit.append(
                by.actor, f"look.{state}", f"inquiry/{look.inquiry}", why, asked_by=look.asked_by, look=id
            )
            return decided

    # ----------------------------------------------------------------- reading

    def need_open(self, inquiry: str, by: User) -> Look:
        """The request that lets a person see the figures of an inquiry now.

        Raises:
            LookRefused: there is none; who must do what.
        """
        newest = self.newest(inquiry, by)
        if newest is not None and newest.state == "open":
            return newest
        problem = {
            None: "two people are needed to see figures, and you have not asked for these",
            "asked": "another person has not confirmed your request yet",
            "refused": "another person refused your request",
        }.get(newest.state if newest else None, "the time for which these figures were open to you is over")
        raise LookRefused(problem, remedy="ask on the inquiry's page; another supervisor confirms")

    def newest(self, inquiry: str, by: User) -> Look | None:
        """The newest request of a person for an inquiry."""
        return next(iter(self.of(inquiry, by)), None)

    def of(self, inquiry: str, by: User) -> list[Look]:
        """A person's requests for an inquiry, the newest first."""
        statement = select(look_table).where(look_table.c.inquiry == inquiry, look_table.c.asked_by == by.actor)
        return self._read(statement.order_by(look_table.c.id.desc()))

    def waiting(self) -> list[Look]:
        """Requests that wait for a second person, the oldest first."""
        statement = select(look_table).where(look_table.c.state == "asked").order_by(look_table.c.id)
        return [look for look in self._read(statement) if look.state == "asked"]

    def recent(self, limit: int = 100) -> list[Look]:
        """All requests, the newest first."""
        return self._read(select(look_table).order_by(look_table.c.id.desc()).limit(limit))

    def _read(self, statement: Any) -> list[Look]:
        with self._audit.database.read() as connection:
            return [self._look(row) for row in connection.execute(statement).all()]

    def _look(self, row: Row[Any]) -> Look:
        now, state, until = self._now(), str(row.state), None
        if state == "asked" and row.asked_at + WAIT_SECONDS <= now:
            state = "lapsed"
        elif state == "confirmed":
            until = row.decided_at + self._seconds
            state = "open" if now < until else "over"
        return Look(
            row.id,
            row.inquiry,
            row.asked_by,
            row.reason,
            row.asked_at,
            state,
            row.decided_by,
            row.decided_at,
            row.why,
            until,
        )

    def _now(self) -> int:
        return int(self._clock())
