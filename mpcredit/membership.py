"""A member's standing duties: seal the pair mask keys to the supervisor, switch readiness on and off (R11, R28)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mpcredit.desk import Desk
from mpcredit.encoding import to_hex
from mpcredit.errors import NodeRefused, Refused
from mpcredit.events import Call, Stage
from mpcredit.ledger.roster import PeriodKey
from mpcredit.pairkeys import KeyRef
from mpcredit.sealing import MaskKeyEntry, seal_mask_keys

__all__ = ["Membership"]

log = logging.getLogger("mpcredit")


class Membership:
    """Keeps this institution able to serve.

    Args:
        desk: the institution's working place.
        ready: switch readiness on and off by itself; False leaves that to people.
        book_trouble: says why the loan book cannot be answered from now; empty if it can.
    """

    def __init__(self, desk: Desk, *, ready: bool = True, book_trouble: Callable[[], str] = lambda: "") -> None:
        self.desk = desk
        self.ready = ready
        self.hindrance = ""
        """Why this institution could only refuse now; set by the service. Meanwhile it is switched off."""
        self.leaving = False
        """The service is about to end: it is switched off, whoever switches it otherwise."""
        self._book_trouble = book_trouble

    @property
    def why_not(self) -> str:
        """Why it is not ready: the service's reason, a tag key that is missing, or the loan book."""
        return self.hindrance or self.desk.displaced or self.desk.tag_key_hindrance or self._book_trouble()

    def step(self) -> list[str]:
        """Do what is due; safe to call at any time."""
        if not self.desk.member.confirmed:
            return []
        return [*self._seal(), *self._announce(), *self._ready()]

    def _seal(self) -> list[str]:
        """Seal the mask key of every pair whose versions have not been sealed yet, in one transaction (R11)."""
        state, lines = self.desk.state, list[str]()
        for version in (state.in_force, state.announced_key):
            if version is not None and state.pins.accepts_period_key(state.period_keys[version]):
                lines += self._seal_under(state.period_keys[version])
        return lines

    def _seal_under(self, period: PeriodKey) -> list[str]:
        member, lines = self.desk.member, []
        for own in dict.fromkeys((member.key, member.key_under(period.version) or member.key)):
            lines += self._seal_key(own, period)
        return lines

    def _partners(self, period: PeriodKey) -> list[KeyRef]:
        """Keys of the other accepted members that are in cohorts of the period, or will be."""
        state = self.desk.state
        others = [state.members[i] for i in state.active() if i != self.desk.index]
        keys = [key for m in others for key in dict.fromkeys((m.key, m.key_under(period.version) or m.key))]
        return [k for k in keys if state.pins.accepts_owner(k.member, state.members[k.member].signed_by[k.version])]

    def _seal_key(self, own: KeyRef, period: PeriodKey) -> list[str]:
        desk = self.desk
        missing = []
        for other in self._partners(period):
            place = f"{own.version}/{other.member}/{other.version}/{period.version}"
            if desk.store.get("sealed", place) is None:
                mask = desk.pair_keys(own, other, period.ref).mask
                missing.append((place, MaskKeyEntry(other.member, other.version, mask)))
        missing = _once_a_member(missing)
        if not missing:
            return []
        sealed = seal_mask_keys(
            [entry for _, entry in missing],
            realm=desk.realm,
            sender=own,
            supervisor_public=period.public,
            supervisor_key_version=period.version,
        )
        # Named by what it holds, so that a restart between sending and noting sends the same step, not a second one.
        step = "seal/" + ",".join(place for place, _ in missing)
        try:
            row = desk.post(step, Call("consortium", "sealMaskKeys", (desk.index, own.version, period.version, sealed)))
        except (Refused, NodeRefused) as error:
            log.warning("the ledger did not take the mask keys: %s", error)
            return []
        if row.state != "mined":
            return []
        with desk.store.transaction():
            for place, _ in missing:
                desk.store.put("sealed", place, {})
        return [f"sealed {len(missing)} mask keys to the supervisor"]

    def _announced(self) -> bool:
        """Whether the ledger shows what this release reads."""
        own, known = self.desk.release, self.desk.state.release_of(self.desk.index)
        return (known.lowest, known.highest) == (own.lowest, own.highest)

    def _announce(self) -> list[str]:
        """Say what this release reads, where the ledger shows something else: after an upgrade, once."""
        desk = self.desk
        if self._announced():
            return []
        release = desk.release
        number = len(desk.state.announced.get(desk.index, []))
        step = f"announce/{release.lowest}-{release.highest}/{number}"
        try:
            row = desk.post(step, Call("consortium", "sealMaskKeys", (desk.index, 0, 0, release.announcement())))
        except (Refused, NodeRefused) as error:
            log.warning("the ledger did not take the announcement of the release: %s", error)
            return []
        return (
            [f"announced that this release reads messages of version {release.reads}"] if row.state == "mined" else []
        )

    @property
    def is_ready(self) -> bool:
        """Whether this member is ready from the next full period on."""
        return bool(self.desk.state.ready_next() >> self.desk.index & 1)

    def _ready(self) -> list[str]:
        choice = self.desk.store.get("meta", "readiness")
        by_hand = not self.ready or bool(choice and choice["held"])  # a person switches it on and off
        if by_hand and not self.leaving:
            return []
        serves = self.desk.state.is_serving(self.desk.index) and not self.why_not and not self.leaving
        if serves == self.is_ready or (serves and (self._owes() or not self._announced())):
            return []
        if any(row.key.startswith("ready/") for row in self.desk.store.outbox_pending()):
            return []  # one is under way
        try:
            return self.switch(serves)
        except (Refused, NodeRefused):  # logged; it is tried again, and the rest of the service goes on
            return []

    def _owes(self) -> bool:
        """Whether an open inquiry waits for this member: one that comes back answers that first."""
        index, outbox_row = self.desk.index, self.desk.store.outbox_by_key
        # A step that is in the outbox is mined before every later one of this account.
        return any(
            inquiry.stage is Stage.OPEN
            and index in inquiry.awaited
            and not any(outbox_row(f"{step}/{to_hex(inquiry.id)}/1") for step in ("answer", "refuse"))
            for inquiry in self.desk.state.inquiries.values()
        )

    def switch(self, ready: bool) -> list[str]:
        """Be in cohorts or not, from the next full period on.

        Raises:
            Refused: nothing would change.
        """
        call = Call("consortium", "setReady", (self.desk.index, ready))
        try:
            row = self.desk.post(f"ready/{ready}/{self.desk.outbox.next_nonce()}", call)
        except (Refused, NodeRefused) as error:
            log.warning("the ledger did not take the readiness: %s", error)
            raise
        return ["switched readiness " + ("on" if ready else "off")] if row.state == "mined" else []


def _once_a_member(missing: list[tuple[str, MaskKeyEntry]]) -> list[tuple[str, MaskKeyEntry]]:
    """One sealed list names each member once; a second key of a member goes into the next one."""
    first: dict[int, tuple[str, MaskKeyEntry]] = {}
    for place, entry in missing:
        first.setdefault(entry.other, (place, entry))
    return list(first.values())
