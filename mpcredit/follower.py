"""Follows the ledger: reads new events, folds them, and starts over when blocks were replaced.

After a reorganisation the whole fold is made anew from the first block: simple, and right by construction.
"""

from __future__ import annotations

from collections.abc import Callable

from mpcredit.errors import LedgerError, WrongLedger
from mpcredit.events import Change, Event
from mpcredit.ledger.roster import Pins
from mpcredit.ports import Block, Ledger
from mpcredit.state import LedgerState

__all__ = ["Follower"]


class Follower:
    """A reader's view of the ledger, up to date after each `sync`.

    Args:
        ledger: where to read.
        pins: accounts this reader accepts.
        confirmations: blocks on top of an event's block before it counts as final; 0 on chains that never reorganise.
        clock: unix seconds, for chains whose head stands still while nobody sends anything; by default none.
    """

    def __init__(
        self,
        ledger: Ledger,
        pins: Pins | None = None,
        confirmations: int = 0,
        clock: Callable[[], float] = lambda: 0,
    ) -> None:
        self.ledger = ledger
        self.pins = pins or Pins()
        self.confirmations = confirmations
        self.clock = clock
        self.state = LedgerState(ledger.realm, self.pins)
        self.events: list[Event] = []
        """All events folded so far, in order."""
        self.replays = 0
        """How often a reorganisation made it start over."""
        self.head: Block | None = None

    @property
    def final_block(self) -> int:
        """Number of the newest block whose events are final."""
        return (self.head.number if self.head else -1) - self.confirmations

    @property
    def now(self) -> int:
        """Timestamp of the head, unix seconds; the ledger's clock, which all members share."""
        return self.head.timestamp if self.head else 0

    @property
    def next_time(self) -> int:
        """Least timestamp of the next block, as far as one can tell: what is sent now is judged at that time.

        On a chain that makes no empty blocks, deadlines and readiness pass while `now` stands still.
        """
        return max(self.now + 1, int(self.clock()))

    @property
    def tag_keys(self) -> dict[int, bytes]:
        """Commitments of the consortium's tag keys by version: those that are final, and the first one.

        A tag that was raised cannot be lowered, so nobody raises to a key that a reorganisation could still replace.
        """
        final = self.final_block
        waiting = sum(e.kind is Change.TAG_KEY_SET and e.at.block > final for e in self.state.roster_history)
        newest = max(1, len(self.state.tag_keys) - waiting)
        return {version: made for version, made in self.state.tag_keys.items() if version <= newest}

    def sync(self) -> list[Event]:
        """Fold what is new.

        Returns:
            The new events; all of them after a reorganisation.

        Raises:
            LedgerError: the endpoint fails or contradicts itself; the view is left as it was.
            EndpointsDisagree: another endpoint shows another ledger; what was read is not to be acted on.
        """
        head = self.ledger.head()
        if self.head is not None:
            if head.hash == self.head.hash:
                self.ledger.witness(self.head, self.state.roster)
                return []
            seen = self.ledger.block(self.head.number)
            if seen is None or seen.hash != self.head.hash:
                self._start_over()
        first = self.ledger.first_block() if self.head is None else self.head.number + 1
        new = list(self.ledger.events(first, head.number))
        after = self.ledger.block(head.number)
        if after is None or after.hash != head.hash:
            raise LedgerError("blocks were replaced while they were read", remedy="it is tried again by itself")
        try:
            for event in new:
                self.state.apply(event)
        except Exception as error:
            self._start_over()  # half a fold is none
            if isinstance(error, WrongLedger):
                self.ledger.doubt(f"contradicts itself: {error.message}")
            raise
        self.events.extend(new)
        self.head = head
        self.ledger.witness(head, self.state.roster)
        return new

    def bear_out(self) -> None:
        """Have another endpoint, where there is one, bear out what was read, before something that cannot be taken back.

        Raises:
            EndpointsDisagree: it shows another ledger.
        """
        if self.head is not None:
            self.ledger.witness(self.head, self.state.roster, at_once=True)

    def use_pins(self, pins: Pins) -> None:
        """Accept other accounts from now on; the next `sync` folds everything anew."""
        self.pins = pins
        self._start_over()

    def _start_over(self) -> None:
        self.replays += 1
        self.head = None
        self.state = LedgerState(self.ledger.realm, self.pins)
        self.events = []
