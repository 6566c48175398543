"""A member's standing duties: seal the pair mask keys to the supervisor, declare readiness (R11, R28)."""

from __future__ import annotations

import logging

from mpcredit.desk import Desk
from mpcredit.errors import Refused
from mpcredit.events import Call
from mpcredit.sealing import MaskKeyEntry, seal_mask_keys

__all__ = ["Membership"]

log = logging.getLogger("mpcredit")


class Membership:
    """Keeps this institution able to serve.

    Args:
        desk: the institution's working place.
        ready_seconds: how far ahead it declares itself ready, renewed at half of it; 0 leaves readiness to the operator.
    """

    def __init__(self, desk: Desk, *, ready_seconds: int = 86_400) -> None:
        self.desk = desk
        self.ready_seconds = ready_seconds
        self.hindrance = ""
        """Why this institution could only refuse now; set by the service."""

    @property
    def why_not(self) -> str:
        """Why it is not declared ready, so that others ask without it: the service's reason, or a tag key that is missing."""
        return self.hindrance or self.desk.tag_key_hindrance

    def step(self) -> list[str]:
        """Do what is due; safe to call at any time."""
        if not self.desk.member.confirmed:
            return []
        return [*self._seal(), *self._announce(), *self._ready()]

    def _seal(self) -> list[str]:
        """Seal the mask key of every pair whose versions have not been sealed yet, in one transaction (R11)."""
        desk, state = self.desk, self.desk.state
        supervisor = state.supervisor_key
        if supervisor is None:
            return []
        own = desk.member.key
        missing = []
        for index in state.active():
            other = state.members[index].key
            if index == desk.index:
                continue
            if not desk.follower.pins.accepts_owner(index, state.members[index].signed_by[other.version]):
                continue  # not accepted by this institution's operator yet
            place = f"{own.version}/{index}/{other.version}/{supervisor.version}"
            if desk.store.get("sealed", place) is None:
                missing.append((place, MaskKeyEntry(index, other.version, desk.pair_keys(own, other).mask)))
        if not missing or not desk.follower.pins.accepts_supervisor(supervisor.account):
            return []
        sealed = seal_mask_keys(
            [entry for _, entry in missing],
            realm=desk.realm,
            sender=own,
            supervisor_public=supervisor.public,
            supervisor_key_version=supervisor.version,
        )
        # Named by what it holds, so that a restart between sending and noting sends the same step, not a second one.
        step = "seal/" + ",".join(place for place, _ in missing)
        try:
            row = desk.post(step, Call("consortium", "sealMaskKeys", (sealed,)))
        except Refused as error:
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
        if self._announced() or desk.state.supervisor_key is None:
            return []
        release = desk.release
        number = len(desk.state.announced.get(desk.index, []))
        step = f"announce/{release.lowest}-{release.highest}/{number}"
        try:
            row = desk.post(step, Call("consortium", "sealMaskKeys", (release.announcement(),)))
        except Refused as error:
            log.warning("the ledger did not take the announcement of the release: %s", error)
            return []
        return (
            [f"announced that this release reads messages of version {release.reads}"] if row.state == "mined" else []
        )

    def _ready(self) -> list[str]:
        member, now = self.desk.member, self.desk.follower.next_time
        choice = self.desk.store.get("meta", "readiness")
        if choice and choice["held"]:
            return []  # withdrawn by the operator, until the operator declares it again
        if self.why_not:
            return self._withdraw()
        if not self._announced():
            return []  # who is ready is asked in what it reads
        if not self.ready_seconds or not member.serving or member.ready_until > now + self.ready_seconds // 2:
            return []
        if any(row.key.startswith("ready/") for row in self.desk.store.outbox_pending()):
            return []  # one is under way
        try:
            return self.declare(now + self.ready_seconds)
        except Refused:  # logged; the rest of the service goes on
            return []

    def _withdraw(self) -> list[str]:
        """A cohort with a member that refuses everything would keep all others waiting for nothing."""
        member = self.desk.member
        under_way = any(row.key.startswith("ready/") for row in self.desk.store.outbox_pending())
        if member.ready_until <= self.desk.follower.next_time or under_way or not self.ready_seconds:
            return []
        try:
            return self.declare(0)
        except Refused:  # logged; it is tried again
            return []

    def declare(self, until: int) -> list[str]:
        """Declare this institution ready until a time (unix seconds); 0 withdraws it.

        Raises:
            Refused: too far ahead, or not a member.
        """
        try:
            row = self.desk.post(
                f"ready/{until}/{self.desk.outbox.next_nonce()}", Call("consortium", "declareReady", (until,))
            )
        except Refused as error:
            log.warning("the ledger did not take the readiness: %s", error)
            raise
        return ["declared ready" if until else "withdrew readiness"] if row.state == "mined" else []
