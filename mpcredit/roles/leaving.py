"""The orderly end of an institution's service (R28.3): it switches itself off first, and goes on answering for a while.

Until the period of readiness is over, others still open inquiries over this institution. A service that ended at once would
leave them waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mpcredit.desk import Desk
from mpcredit.encoding import to_hex
from mpcredit.errors import NotYet
from mpcredit.events import Stage

__all__ = ["LONGEST_SECONDS", "Leaving"]

LONGEST_SECONDS: Final = 150
"""An orderly end takes no longer; a unit of systemd must allow for it before it kills the service."""
BLOCK_SECONDS: Final = 12
"""Time of one confirmation, on the slowest ledgers that are usual."""
MINING_SECONDS: Final = 15
"""A block of the period that is over can still arrive for so long, or for a period if that is shorter."""


class Leaving:
    """A service on its way out. Its rounds go on until `over`.

    Args:
        desk: the institution's working place.
        clock: seconds that only grow.
    """

    def __init__(self, desk: Desk, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._clock = clock
        terms = desk.state.parameters
        answer = terms.answer_seconds if terms else 0
        wanted = desk.state.period_seconds + desk.follower.confirmations * BLOCK_SECONDS + answer
        self._until = clock() + min(wanted, LONGEST_SECONDS)

    @property
    def left(self) -> tuple[bytes, ...]:
        """Open inquiries that still wait for this institution."""
        index = self._index
        return tuple(
            inquiry.id
            for inquiry in self._desk.state.inquiries.values()
            if inquiry.stage is Stage.OPEN and index in inquiry.awaited
        )

    @property
    def over(self) -> bool:
        """Whether to end now: no inquiry waits for this institution and none can come, or it has taken long enough."""
        return self._clock() >= self._until or not (self.left or self._reachable())

    def last_words(self) -> list[str]:
        """One line for each inquiry that is left."""
        return [f"inquiry {to_hex(inquiry)[:12]} still waits for this institution" for inquiry in self.left]

    @property
    def _index(self) -> int:
        """This institution's member index; -1 while it is no member."""
        try:
            return self._desk.index
        except NotYet:
            return -1

    def _reachable(self) -> bool:
        """Whether an inquiry can still be opened over this institution."""
        index, state, follower = self._index, self._desk.state, self._desk.follower
        at = max(follower.now, follower.next_time - min(MINING_SECONDS, state.period_seconds))
        return index >= 0 and bool((state.ready(at) | state.ready_next()) >> index & 1)
