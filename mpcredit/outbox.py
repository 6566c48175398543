"""Every ledger step is in the store before it is sent, once per key, and sent again unchanged until it is mined (R24).

Also notices that the store is older than the ledger knows this institution to be (R25).
"""

from __future__ import annotations

import logging

from mpcredit.errors import LedgerError
from mpcredit.events import Call
from mpcredit.ports import Ledger, OutboxRow, Outcome, Signer, Store

__all__ = ["ATTEMPTS", "Outbox"]

ATTEMPTS = 5
"""How often a step that was mined but failed is made anew, by who posts it."""

log = logging.getLogger("mpcredit")


class Outbox:
    """The one way by which an institution writes to the ledger.

    Args:
        store: where steps are kept.
        signer: the ledger account; used by this outbox alone.
        ledger: where outcomes are read.
    """

    def __init__(self, store: Store, signer: Signer, ledger: Ledger) -> None:
        self.store = store
        self.signer = signer
        self.ledger = ledger
        self._generation: int | None = None

    def next_nonce(self) -> int:
        """The nonce of the next new transaction."""
        floor = self.store.get("meta", "nonce_floor")
        return max(self.store.next_nonce(), int(floor["nonce"]) if floor else 0)

    @property
    def restored_at(self) -> int:
        """Inquiries opened in or before this block are refused, since an answer may have been sent; -1: never restored."""
        mark = self.store.get("meta", "restored")
        return int(mark["block"]) if mark else -1

    def check_restored(self, *, declared: bool = False) -> bool:
        """Compare store and ledger at start; mark the store as restored if the account has sent more than it knows (R25).

        Args:
            declared: the operator says that the store was restored from a backup.

        Returns:
            Whether it was marked now.
        """
        known = self.next_nonce()
        on_ledger = self.signer.nonce()
        if on_ledger <= known and not declared:
            return False
        head = self.ledger.head()
        with self.store.transaction():
            self.store.put("meta", "restored", {"block": head.number})
            self.store.put("meta", "nonce_floor", {"nonce": max(on_ledger, known)})
        log.warning(
            "store is older than the ledger (account nonce %d, store %d): inquiries up to block %d are refused",
            on_ledger,
            known,
            head.number,
        )
        return True

    def post(self, key: str, call: Call) -> OutboxRow:
        """Sign, store and send a step, once per key; a second call with the same key returns the first's row.

        Raises:
            Refused: the contract would refuse it now; nothing was stored.
            LedgerError: the node is not to be had; what was stored is sent by `drive`.
        """
        row = self.store.outbox_by_key(key)
        if row is None:
            signed = self.signer.sign(call, self.next_nonce())
            row = self.store.outbox_add(key, signed.nonce, call.describe(), signed.raw, signed.hash)
            self.signer.broadcast(signed.raw)
            self.store.outbox_update(key, state="sent")
            row = self._settle(key)
        return row

    def drive(self, generation: int = 0) -> None:
        """Look after what is under way: note what was mined, send the rest again.

        Args:
            generation: how often blocks were replaced (`Follower.replays`); when it has changed, and the first time,
                what was mined is looked at again.

        Raises:
            LedgerError: the node is not to be had.
        """
        if generation != self._generation:
            self._look_again()
            self._generation = generation
        for row in self.store.outbox_pending():
            if self._settle(row.key).state in ("mined", "failed"):
                continue
            try:
                self.signer.broadcast(row.raw)
            except LedgerError as error:
                log.warning("step %s was not taken by the node: %s", row.key, error)
                continue
            self._settle(row.key)

    def _look_again(self) -> None:
        """Whatever a reorganisation took off the ledger is under way again, and sent again unchanged.

        From the newest step down to the first that stands where it stood: an account's steps are mined in their order.
        """
        row = self.store.outbox_below(self.store.next_nonce())
        while row is not None:
            outcome = self.ledger.outcome(row.tx_hash)
            if outcome is not None and self._note(row, outcome):
                return
            if outcome is None and row.state in ("mined", "failed"):
                log.warning("step %s is not on the ledger any more and is sent again", row.key)
                self.store.outbox_update(row.key, state="sent")
            row = self.store.outbox_below(row.nonce)

    def outcome(self, key: str) -> Outcome | None:
        """What became of a step, None while it is under way or unknown."""
        row = self.store.outbox_by_key(key)
        if row is None or row.state not in ("mined", "failed"):
            return None
        return Outcome(row.state == "mined", row.block or 0, row.gas_used or 0)

    def _settle(self, key: str) -> OutboxRow:
        row = self.store.outbox_by_key(key)
        assert row is not None
        outcome = self.ledger.outcome(row.tx_hash)
        if outcome is None:
            return row
        self._note(row, outcome)
        found = self.store.outbox_by_key(key)
        assert found is not None
        return found

    def _note(self, row: OutboxRow, outcome: Outcome) -> bool:
        """Note what became of a step; returns whether that was known."""
        state = "mined" if outcome.succeeded else "failed"
        if (row.state, row.block) == (state, outcome.block):
            return True
        self.store.outbox_update(row.key, state=state, block=outcome.block, gas_used=outcome.gas_used)
        return False
