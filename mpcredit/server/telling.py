"""The supervisor's server around `correcting.Teller`: after each round, and the page that shows what waits and why (R42)."""

from __future__ import annotations

import time
from typing import Any

from mpcredit.correcting import Teller
from mpcredit.encoding import to_hex
from mpcredit.errors import Refused
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.server.audit import AuditLog
from mpcredit.server.node import Node
from mpcredit.server.refusals import InvalidForm, NotAllowed

__all__ = ["Telling"]


def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86_400))


class Telling:
    """Tells inquirers of corrected figures.

    Args:
        node, audit: the server's.
        sends: whether batches go out by themselves.
    """

    def __init__(self, node: Node, audit: AuditLog, *, sends: bool = True) -> None:
        self.node = node
        self.audit = audit
        self.sends = sends
        self._teller: Teller | None = None

    def teller(self, party: Any) -> Teller:
        """The teller of this party; with the party locked."""
        if self._teller is None or self._teller.supervisor is not party.supervisor:
            self._teller = Teller(party.supervisor, sends=self.sends)
        return self._teller

    def follow(self, party: Institution | SupervisorNode) -> list[str]:
        """Do what is due; with the party locked, after each round (`Node.each_round`)."""
        if not isinstance(party, SupervisorNode):
            return []
        lines = self.teller(party).step()
        if lines:
            self.audit.append("node", "correction.told", "corrections", lines[0])
        return lines

    def overview(self) -> dict[str, Any]:
        """What waits, who has sent a notice lately, and what was not accepted."""
        with self.node.locked() as party:
            teller = self.teller(party)
            teller.read()
            members = party.supervisor.state.members
            inquiries = party.supervisor.state.inquiries
            waiting = [
                {
                    "inquiry": to_hex(pending.affected.inquiry),
                    "place": pending.affected.place + 1,
                    "subjects": len(inquiries[pending.affected.inquiry].opening.consents),
                    "inquirer": members[pending.inquirer].name,
                    "furnisher": members[pending.furnisher].name,
                    "day": _day(pending.day),
                    "held": pending.held,
                }
                for pending in teller.pending()
            ]
            last = teller.last_days()
            return {
                "waiting": waiting,
                "senders": [
                    {"name": members[index].name, "day": _day(last[index]) if index in last else None}
                    for index in party.supervisor.state.active()
                ],
                "refused": [{"name": members[index].name, "why": why} for index, why in teller.refused],
                "sends": self.sends,
            }

    def send_now(self, *, by: str, why: str) -> None:
        """Send today's batch by hand, also what is held back.

        Raises:
            InvalidForm: no reason given.
            NotAllowed: nothing waits, or today's batch has gone.
        """
        if len(why.strip()) < 5:
            raise InvalidForm({"reason": "write why it does not wait"})
        with self.node.locked() as party:
            try:
                lines = self.teller(party).send_now()
            except Refused as error:
                raise NotAllowed(error.message, remedy=error.remedy) from error
            self.audit.append(by, "correction.told_by_hand", "corrections", why.strip(), messages=len(lines))
        self.node.wake()
