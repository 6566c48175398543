"""Every ledger step is in the store before it is sent, once per key, and sent again until it is mined (R24).

Steps wait side by side: their nonces are consecutive and come from the store. A step that stays unmined is signed again
with higher fees, the same call under the same nonce; each version is in the store before it is sent, and whichever is
mined counts. A step that no node takes makes way for a filler (docs/adr/0021). Also notices what the account has sent and the
store lacks: that stops an institution's store, until a person begins a new tenure (R25).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mpcredit.encoding import to_hex
from mpcredit.errors import FeeTooLow, LedgerError, StoreError, TooLarge
from mpcredit.events import Call
from mpcredit.ports import Block, Ledger, OutboxRow, Outcome, Signed, Signer, Store, Taken, Version

__all__ = ["ATTEMPTS", "A_PERSON_MUST_ACT", "REPLACEABLE", "Outbox", "Patience"]

ATTEMPTS = 5
"""How often a step that was mined but failed is made anew, by who posts it."""
REPLACEABLE: Final = frozenset({"open", "sealMaskKeys", "propose", "execute", "createJointCredit"})
"""Calls whose size nothing bounds, and whose loss costs a repetition. An answer, a refusal and a report are never replaced:
an endpoint that says "too large" of them would silence a member that believes it has spoken."""
A_PERSON_MUST_ACT: Final = 'docs/operations.md says what to do: section "Backup and restore"'
LARGEST_GAP: Final = 64
"""So many unused nonces before a step are filled; more is a mistake that a person must look at."""

log = logging.getLogger("mpcredit")


@dataclass(frozen=True)
class Patience:
    """How long the first step under way may stay unmined before its fees are raised; both must have passed."""

    seconds: int = 60
    """By the ledger's clock."""
    blocks: int = 3
    """A chain that makes no blocks is not waiting for higher fees."""


class Outbox:
    """The one way by which an institution writes to the ledger.

    Args:
        store: where steps are kept.
        signer: the ledger account; used by this outbox alone.
        ledger: where outcomes are read.
        confirmations: blocks on top of a block before it counts as final.
        adopts: a supervisor's. Its store is rebuilt from the ledger, so it goes on above whatever the account has sent.
    """

    def __init__(
        self, store: Store, signer: Signer, ledger: Ledger, *, confirmations: int = 0, adopts: bool = False
    ) -> None:
        self.store = store
        self.signer = signer
        self.ledger = ledger
        self.confirmations = confirmations
        self.adopts = adopts
        self.hindrance: Callable[[], str] = lambda: self.foreign
        """Why no new nonce may be taken; empty if one may. An institution's adds the mark and the naming of its store."""
        self.patience = Patience()
        self._generation: int | None = None
        self._front: tuple[bytes, Block] | None = None
        """The version that is to be mined next, and the head when that began."""
        self._alarms: dict[str, str] = {}
        self._told: dict[str, str] = {}

    @property
    def alarms(self) -> tuple[str, ...]:
        """What keeps steps from being mined and a person must look at, as of the last `drive`."""
        return tuple(dict.fromkeys(self._alarms.values()))

    def next_nonce(self) -> int:
        """The nonce of the next new transaction."""
        return max(self.store.next_nonce(), self._floor())

    def _floor(self) -> int:
        floor = self.store.get("meta", "nonce_floor")
        return int(floor["nonce"]) if floor else 0

    @property
    def foreign(self) -> str:
        """What the account has sent and this store lacks (R25), in words; empty if nothing was found."""
        found = self.store.get("meta", "foreign")
        return str(found["text"]) if found else ""

    def compare(self) -> None:
        """Compare store and account (R25); call it at each start, and before each answer and each new nonce."""
        known, count = self.next_nonce(), self.signer.nonce()
        if count <= known:
            return
        if self.adopts:
            log.warning("the account has sent %d steps, the store knows %d: it goes on above them", count, known)
            self.adopt()
            return
        taken = self.signer.taker(known)
        if taken is not None:
            self.note_foreign(_sent_by_another(taken, known))
        elif not self.foreign:  # never in the place of a proof
            self.note_foreign(f"the node says that the ledger account has sent {count} steps, this store knows {known}")

    def note_foreign(self, what: str) -> None:
        """Stop the store for good: a copy of it, or its own forgotten past, may have answered under the same masks (R25)."""
        text = f"{what}: the store was set back, or another one uses the account (begin a new tenure: `--new-tenure REASON`)"
        if self.foreign != text:
            self.store.put("meta", "foreign", {"text": text})
            log.warning("nothing is answered: %s", text)

    def adopt(self) -> None:
        """Go on above whatever the account has sent: a person has begun a new tenure, or a supervisor's store is younger."""
        floor = max(self.next_nonce(), self.signer.nonce())
        with self.store.transaction():
            self.store.put("meta", "nonce_floor", {"nonce": floor})
            self.store.delete("meta", "foreign")

    def post(self, key: str, call: Call) -> OutboxRow:
        """Sign, store and send a step, once per key; a second call with the same key returns the first's row.

        Waits for nothing: several steps may be under way.

        Raises:
            Refused: the contract would refuse it now; nothing was stored.
            StoreError: this store may take no new nonce; nothing was stored.
            LedgerError: the node is not to be had; what was stored is sent by `drive`.
        """
        row = self.store.outbox_by_key(key)
        if row is None:
            self.compare()  # a step under a nonce that was used would hide that it was: R25
            if why := self.hindrance():
                raise StoreError(f"no new ledger step is made: {why}", remedy=A_PERSON_MUST_ACT)
            row = self._add(key, self.signer.sign(call, self.next_nonce()), call.describe())
            row = self._send(row)
        return row

    def drive(self, generation: int = 0) -> None:
        """Look after what is under way: note what was mined, send what the node does not have, raise fees in time.

        Args:
            generation: how often blocks were replaced (`Follower.replays`); when it has changed, and the first time,
                what was mined is looked at again.

        Raises:
            LedgerError: the node is not to be had.
        """
        self._alarms.clear()
        mined = self.signer.mined()
        # (1) What a reorganisation took away. The account's own count shows it also where no reader saw the block.
        if generation != self._generation or self._settled() > mined:
            self._look_again()
            self._generation = generation
        # (2) What has been mined meanwhile: by us, or under one of our nonces by somebody else.
        for row in self.store.outbox_pending():
            if row.nonce < mined and self._settle(row).state not in ("mined", "failed"):
                self._look_for_taker(row)
        # (3) What the node does not have: never sent, or dropped.
        waiting = [row for row in self.store.outbox_pending() if row.nonce >= mined]
        if waiting:
            known = self.signer.nonce()
            for row in waiting:
                if row.state == "prepared" or row.nonce >= known:
                    self._try_to_send(row, holds_others=row.nonce < waiting[-1].nonce)
            # (4) What has waited too long.
            self._hurry(known)
        self._told = {key: text for key, text in self._told.items() if key in self._alarms}

    def outcome(self, key: str) -> Outcome | None:
        """What became of a step, None while it is under way or unknown."""
        row = self.store.outbox_by_key(key)
        if row is None or row.state not in ("mined", "failed"):
            return None
        return Outcome(row.state == "mined", row.block or 0, row.gas_used or 0)

    def filled_at(self, key: str) -> int | None:
        """The block in which a filler was mined in place of a step, None if none was."""
        row = self.store.outbox_by_key(key)
        return row.block if row is not None and row.state == "failed" and self._kind(row) == "filler" else None

    # ----------------------------------------------------------------- sending

    def _add(self, key: str, signed: Signed, call: dict[str, object]) -> OutboxRow:
        return self.store.outbox_add(key, signed.nonce, call, signed.raw, signed.hash)

    def _send(self, row: OutboxRow) -> OutboxRow:
        """Hand a step to the node, with a higher fee at once if that is what it asks for.

        Raises:
            LedgerError: the node does not take it for another reason.
        """
        self._alarms.pop(row.key, None)
        for attempt in (1, 2):
            try:
                self.signer.broadcast(row.raw)
            except FeeTooLow as error:
                raised = self._raise_fee(row) if attempt == 1 else None
                if raised is None:
                    if row.key not in self._alarms:
                        self._alarm(row.key, f"step {row.key} waits: {error.message}", error.remedy)
                    return row
                row = raised
                continue
            break
        self.store.outbox_update(row.key, state="sent")
        return self._settle(row)

    def _try_to_send(self, row: OutboxRow, *, holds_others: bool = False) -> None:
        """One step that is not taken must not hold up the others."""
        try:
            try:
                self._send(row)
            except TooLarge as error:
                if not holds_others or row.call["function"] not in REPLACEABLE or self._kind(row) == "filler":
                    raise
                self._send(self._make_way(row, error))
        except LedgerError as error:
            self._alarm(row.key, f"step {row.key} was not taken by the node: {error.message}", error.remedy)

    def _make_way(self, row: OutboxRow, error: TooLarge) -> OutboxRow:
        """Sign a transaction of nothing under the nonce of a step that no node takes, and store it as a version of it."""
        log.warning("step %s makes way for those behind it, it is lost: %s", row.key, error.message)
        signed = self.signer.filler(row.nonce)
        return self.store.outbox_replace(row.key, signed.raw, signed.hash, kind="filler")

    def _kind(self, row: OutboxRow) -> str:
        """Of the version that was signed last, or mined."""
        return next(v.kind for v in self.store.outbox_versions(row.key) if v.tx_hash == row.tx_hash)

    def _alarm(self, key: str, text: str, remedy: str = "") -> None:
        """Tell once, and show while it lasts."""
        text = f"{text} ({remedy})" if remedy else text
        self._alarms[key] = text
        if self._told.get(key) != text:
            self._told[key] = text
            log.warning("%s", text)

    # ----------------------------------------------------------------- outcomes

    def _settled(self) -> int:
        """One above the nonce of the newest step that was seen on the ledger, 0 if there is none."""
        pending = self.store.outbox_pending()
        row = self.store.outbox_below(pending[0].nonce if pending else self.store.next_nonce())
        return row.nonce + 1 if row is not None and row.state in ("mined", "failed") else 0

    def _look_again(self) -> None:
        """Whatever a reorganisation took off the ledger is under way again, and sent again unchanged.

        From the newest step down to the first that stands where it stood: an account's steps are mined in their order.
        """
        row = self.store.outbox_below(self.store.next_nonce())
        while row is not None:
            found = self._find(row)
            if found is not None and self._note(row, *found):
                return
            if found is None and row.state in ("mined", "failed") and not self._still_taken(row):
                log.warning("step %s is not on the ledger any more and is sent again", row.key)
                self.store.outbox_update(row.key, state="sent")
            row = self.store.outbox_below(row.nonce)

    def _settle(self, row: OutboxRow) -> OutboxRow:
        found = self._find(row)
        if found is not None:
            self._note(row, *found)
        settled = self.store.outbox_by_key(row.key)
        assert settled is not None
        return settled

    def _find(self, row: OutboxRow) -> tuple[Version, Outcome] | None:
        """Which signed version of a step is on the ledger, and what became of it."""
        for version in reversed(self.store.outbox_versions(row.key)):
            outcome = self.ledger.outcome(version.tx_hash)
            if outcome is not None:
                return version, outcome
        return None

    def _note(self, row: OutboxRow, version: Version, outcome: Outcome) -> bool:
        """Note what became of a step; returns whether that was known."""
        state = "mined" if outcome.succeeded and version.kind == "step" else "failed"
        if (row.state, row.block, row.tx_hash) == (state, outcome.block, version.tx_hash):
            return True
        self.store.outbox_update(
            row.key, state=state, block=outcome.block, gas_used=outcome.gas_used, tx_hash=version.tx_hash
        )
        return False

    # ----------------------------------------------------------------- another program with the same account

    def _look_for_taker(self, row: OutboxRow) -> None:
        """The ledger has used a step's nonce, and not for the step: tell, and let it be made anew once that is final.

        The step fails only on proof: a transaction with this account's signature, as deep as events must be to count.
        """
        taken = self.signer.taker(row.nonce)
        if taken is None:
            self._alarm(
                row.key,
                f"nonce {row.nonce} of step {row.key} is used, and the node does not show by which transaction",
                "wait until the node has caught up; if it persists, ask one that keeps old states",
            )
            return
        if taken.hash in [version.tx_hash for version in self.store.outbox_versions(row.key)]:
            return  # ours: its receipt follows
        text = f"another program uses the account {self.signer.address}: transaction {to_hex(taken.hash)} took nonce "
        remedy = "one program at a time may use an account: stop the other"
        self._alarm(f"taken/{row.nonce}", f"{text}{row.nonce} of step {row.key}", remedy)
        if row.nonce >= self._floor() and not self.adopts:  # below it a person has begun a new tenure since
            self.note_foreign(_sent_by_another(taken, row.nonce))
        if self.ledger.head().number - taken.block < self.confirmations:
            return
        with self.store.transaction():
            self.store.put("taken", row.key, {"hash": to_hex(taken.hash), "block": taken.block})
            self.store.outbox_update(row.key, state="failed", block=taken.block, gas_used=0)

    def _still_taken(self, row: OutboxRow) -> bool:
        """Whether a step failed because another transaction has its nonce, and that one is on the ledger still."""
        mark = self.store.get("taken", row.key)
        return mark is not None and self.ledger.outcome(bytes.fromhex(str(mark["hash"])[2:])) is not None

    # ----------------------------------------------------------------- waiting

    def _hurry(self, known: int) -> None:
        """If the step that is due next has waited too long, find out why: a gap before it, or its fee.

        Args:
            known: the account's transactions, mined or known to the node.
        """
        waiting = self.store.outbox_pending()
        if not waiting:
            return
        first, head = waiting[0], self.ledger.head()
        if self._front is None or self._front[0] != first.tx_hash:
            self._front = (first.tx_hash, head)
        since = self._front[1]
        late = head.number - since.number >= self.patience.blocks
        if not late or head.timestamp - since.timestamp < self.patience.seconds:
            return
        if known < first.nonce:
            if not self.hindrance():
                self._fill(known, first)
            return
        # All that wait have the fees of their time: raised one by one, each would wait its turn again.
        for row in waiting:
            if row.nonce < known:
                raised = self._raise_fee(row)
                if raised is not None:
                    self._try_to_send(raised)
                elif row.key == first.key:
                    if row.key not in self._alarms:
                        self._alarm(
                            row.key, f"step {row.key} waits since block {since.number}", "look at the node's log"
                        )
                    break

    def _fill(self, known: int, first: OutboxRow) -> None:
        """Use up nonces that nobody uses, for example of a transaction that the node knew of once and has dropped."""
        if first.nonce - known > LARGEST_GAP:
            self._alarm(
                first.key,
                f"step {first.key} has nonce {first.nonce}, the account's next one is {known}",
                "check that the store belongs to this account and ledger (`mpcredit doctor`)",
            )
            return
        for nonce in range(known, first.nonce):
            log.warning("nonce %d before step %s is used by nothing; it is filled", nonce, first.key)
            self._try_to_send(self._add(f"fill/{nonce}", self.signer.filler(nonce), {"function": "fill"}))

    def _raise_fee(self, row: OutboxRow) -> OutboxRow | None:
        """Sign a step anew with higher fees and store that; None if that is not possible, or helps nothing."""
        try:
            signed = self.signer.raised(row.raw)
        except LedgerError as error:  # the ceiling, or a signer that does not answer
            self._alarm(row.key, f"step {row.key} waits: {error.message}", error.remedy)
            return None
        if signed is None:
            return None
        assert signed.nonce == row.nonce
        log.info("step %s is signed anew with higher fees", row.key)
        return self.store.outbox_replace(row.key, signed.raw, signed.hash, kind=self._kind(row))


def _sent_by_another(taken: Taken, nonce: int) -> str:
    return f"the ledger account sent transaction {to_hex(taken.hash)} under nonce {nonce}, which this store lacks"
