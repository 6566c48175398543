"""The daily anchor: puts the head of the audit log on the ledger on days on which no report or verdict does.

An entry of the log is bound by the ledger a day after it was written at the latest, as long as the node reaches a ledger.
What an anchor proves is `audit`'s matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from mpcredit.encoding import to_hex
from mpcredit.events import Call
from mpcredit.institution import Institution
from mpcredit.server.audit import Anchor, AuditLog, ledger_anchors
from mpcredit.server.node import Party, own_member, own_owner

__all__ = ["DailyAnchor", "own_anchors"]

DAY: Final = 86_400
LOOK: Final = 300.0
"""Seconds between two looks at the log."""


def own_anchors(party: Party) -> list[Anchor]:
    """Heads that this party put on the ledger, in the ledger's order; the caller has the party."""
    state, events = party.follower.state, party.follower.events
    if isinstance(party, Institution):
        member = own_member(party)
        return [] if member is None else ledger_anchors(state, events, member=member.index)
    owner = own_owner(party)
    return ledger_anchors(state, events, supervisor=owner) if owner else []


class DailyAnchor:
    """Work for `Node.each_round`.

    Args:
        audit: the log.
        clock: unix seconds, of the same clock as the log's.
    """

    def __init__(self, audit: AuditLog, *, clock: Callable[[], float] = time.time) -> None:
        self._audit = audit
        self._clock = clock
        self._next = 0.0
        self._bound = (bytes(32), 0)
        """Head on the ledger, and the number of its entry."""

    def __call__(self, party: Party) -> Sequence[str]:
        """Post an anchor if an entry has waited for a day; returns a line if it did.

        Raises:
            LedgerError, Refused: the ledger is down, or does not take it; it is tried again in a few minutes.
        """
        now = self._clock()
        if now < self._next:
            return []
        self._next = now + LOOK
        anchors = own_anchors(party)
        if anchors and anchors[-1].hash != self._bound[0]:
            self._bound = (anchors[-1].hash, self._audit.place(anchors[-1].hash))
        oldest = next(self._audit.stream(self._bound[1], 1), None)
        if oldest is None or now - oldest.at < DAY:
            return []
        owner = own_owner(party)
        if not owner:
            return []  # the round itself has said why
        outbox = party.desk.outbox if isinstance(party, Institution) else party.outbox
        if any(row.key.startswith("anchor/") for row in outbox.store.outbox_pending()):
            return []
        seq, head = self._audit.head()
        outbox.post(f"anchor/{seq}/{int(now)}", Call("consortium", "anchor", (owner, head)))
        return [f"anchored the audit log on the ledger: {seq} entries, {to_hex(head)[:14]}…"]
