"""Corrections over the ledger: a member says what it corrected, the supervisor tells whom it concerns (R41, R42).

    Sender     a member: one message a day, of one width, also when there is nothing to say
    Teller     the supervisor: opens them, finds the inquiries that got a wrong figure, tells their inquirers in a batch
    Listener   a member: reads its slot of each batch, and keeps which of its own inquiries are worth asking again

Everybody sends each day at a moment that does not depend on what is in it, and nobody is told before enough members of the
inquiry's cohort have sent, from the day of the correction on. So neither an outsider nor who is told learns which member
corrected something: it is one of those that sent.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mpcredit import notices
from mpcredit.desk import Desk
from mpcredit.encoding import bytes_to_int, hex_bytes, int_to_bytes, to_hex
from mpcredit.errors import (
    InvalidEncoding,
    InvalidMessage,
    KeyStoreError,
    KeyUnavailable,
    MpcreditError,
    Refused,
    StoreError,
)
from mpcredit.events import Call, Stage
from mpcredit.follower import Follower
from mpcredit.notices import CORRECTIONS, DAY, TOLD, Affected, Corrected
from mpcredit.outbox import ATTEMPTS, Outbox
from mpcredit.ports import Keys, Store
from mpcredit.state import Inquiry, LedgerState, Notice

__all__ = ["LOOK_BACK_SECONDS", "Listener", "Pending", "Sender", "Teller", "named_tags"]

log = logging.getLogger("mpcredit")

LOOK_BACK_SECONDS: Final = 30 * DAY
"""Inquirers are told of corrections of answers that they got within this time (R42)."""
_SPREAD_SECONDS: Final = DAY // 2
"""Daily messages go out in the first half of the day, each member's at a moment of its own."""
_SLOT_LABEL: Final = b"mpcredit/daily-moment/2"
_LISTED: Final = 200


# --------------------------------------------------------------------- a member says


def named_tags(desk: Desk, tag: bytes) -> set[bytes]:
    """The tags of a subject as they stand in others' inquiries that this member answered, and may be told of (R41).

    The supervisor has no tag keys: it finds an inquiry by the tag that the inquiry names.

    Args:
        tag: of the subject, under the newest tag key.
    """
    since = desk.follower.now - LOOK_BACK_SECONDS - DAY
    found = set()
    for seen in desk.remember():
        inquiry = desk.state.inquiries.get(seen.inquiry)
        answered = seen.answered or (inquiry is not None and desk.index in inquiry.contributions)
        if answered and seen.inquirer != desk.index and seen.opened_at > since:
            found |= {named for one, named in zip(seen.tags, seen.named, strict=True) if one == tag}
    return found


class Sender:
    """Sends this member's daily message (R41).

    Args:
        desk: the member's working place.
        pending: what was corrected and not said yet, by any name that `said` understands.
        said: called, in the transaction that stores the message, with the names that it holds and its day.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        pending: Callable[[], Sequence[tuple[str, Sequence[Corrected]]]] = lambda: (),
        said: Callable[[list[str], int], None] = lambda _names, _day: None,
    ) -> None:
        self.desk = desk
        self.pending = pending
        self.said = said
        self._held = 0
        self._read = 0
        self._generation = -1
        self._ledger_day = -1

    def moment(self, day: int) -> int:
        """Unix seconds from which the message of a day goes out: nobody's choice, and the same if there is news or not."""
        digest = hashlib.sha256(
            _SLOT_LABEL + self.desk.realm.salt + int_to_bytes(self.desk.index, 1) + int_to_bytes(day, 4)
        ).digest()
        return day * DAY + bytes_to_int(digest[:4]) % _SPREAD_SECONDS

    def step(self) -> list[str]:
        """Do what is due; safe to call at any time and after any crash.

        Returns:
            One line for what was sent.
        """
        desk = self.desk
        supervisor, now = desk.state.period_key, desk.follower.next_time
        if not desk.member.confirmed or supervisor is None or now < self._held:
            return []
        if not desk.state.pins.accepts_period_key(supervisor):
            return []
        day = now // DAY
        last = desk.store.get("daily-notice", "last")
        # (1) one message for each day, stored before anything of it leaves the process.
        free = last is None or (day > int(last["day"]) and self._sent(last))
        if free and day > self._on_ledger() and now >= self.moment(day):
            names: list[str] = []
            corrected: set[Corrected] = set()
            for name, entries in self.pending():
                if len(corrected | set(entries)) > CORRECTIONS:
                    break
                names.append(name)
                corrected |= set(entries)
            message = notices.seal_daily(
                sorted(corrected),
                realm=desk.realm,
                member=desk.index,
                day=day,
                supervisor_public=supervisor.public,
                supervisor_key_version=supervisor.version,
            )
            last = {"day": day, "message": to_hex(message)}
            with desk.store.transaction():
                desk.store.put("daily-notice", "last", last)
                self.said(names, day)
        # (2) the stored message goes through the outbox; one that could not be sent yet goes before a newer one.
        if last is None or self._sent(last):
            return []
        try:
            call = Call("consortium", "notify", (desk.member.owner, hex_bytes(last["message"])))
            row = desk.post(f"daily-notice/{last['day']}", call)
        except Refused as error:
            log.warning("the ledger did not take the daily notice: %s", error)
            self._held = now + 600
            return []
        return [f"sent the notice of day {last['day']} to the supervisor"] if row.state in ("sent", "mined") else []

    def _on_ledger(self) -> int:
        """The newest day of this member's messages on the ledger: a store that was set back does not know them (R25)."""
        desk = self.desk
        if self._generation != desk.follower.replays:
            self._generation, self._read, self._ledger_day = desk.follower.replays, 0, -1
        for notice in desk.state.notices[self._read :]:
            self._read += 1
            if notice.member != desk.index:
                continue
            try:
                self._ledger_day = max(self._ledger_day, notices.parse_daily(notice.sent.message).day)
            except InvalidEncoding:
                continue
        return self._ledger_day

    def _sent(self, last: dict[str, Any]) -> bool:
        rows = (
            self.desk.store.outbox_by_key(f"daily-notice/{last['day']}/{attempt}") for attempt in range(1, ATTEMPTS + 1)
        )
        states = [row.state for row in rows if row is not None]
        return bool(states) and (states[-1] != "failed" or len(states) == ATTEMPTS)


# --------------------------------------------------------------------- the supervisor tells


@dataclass(frozen=True)
class _Said:
    """An accepted daily message."""

    member: int
    day: int
    at: int
    """Timestamp of its block."""
    corrected: tuple[Corrected, ...] = field(repr=False)


@dataclass(frozen=True)
class Pending:
    """An inquirer is to be told about a subject of its inquiry."""

    key: str
    """Names it in the store."""
    inquirer: int
    affected: Affected
    furnisher: int
    """For the supervisor's own eyes."""
    day: int
    """Of the furnisher's message."""
    held: str
    """Why it does not go out now; empty if it does."""


class Watched(Protocol):
    """What the teller needs of `supervisor.Supervisor`."""

    follower: Follower
    outbox: Outbox
    store: Store
    keys: Keys

    @property
    def owner(self) -> str:
        """The supervisor's owner account."""

    def tags(self, inquiry: Inquiry) -> tuple[bytes, ...]:
        """Tags of the subjects of an inquiry."""
        ...


class Teller:
    """The supervisor's part (R42).

    Args:
        supervisor: whose node, store and keys are used.
        sends: whether batches go out by themselves.
    """

    def __init__(self, supervisor: Watched, *, sends: bool = True) -> None:
        self.supervisor = supervisor
        self.sends = sends
        self.refused: deque[tuple[int, str]] = deque(maxlen=_LISTED)
        """Members whose messages were not accepted, and why, since this process started; the last ones."""
        self._said: list[_Said] = []
        self._days: dict[int, int] = {}
        self._batch_day = -1
        self._read = 0
        self._generation = -1
        self._tags: dict[bytes, tuple[bytes, ...]] = {}
        self._asked: dict[bytes, list[bytes]] = {}
        """Tag to inquiries."""
        self._looked: tuple[int, int, int] | None = None

    @property
    def state(self) -> LedgerState:
        """The fold, as of the last sync."""
        return self.supervisor.follower.state

    def step(self) -> list[str]:
        """Do what is due; safe to call at any time and after any crash.

        Returns:
            One line for each batch that was sent.
        """
        self.read()
        return [*self._deliver(), *(self._make(by_hand=False) if self.sends else [])]

    # ----------------------------------------------------------------- reading

    def read(self) -> None:
        """Open what is new and final."""
        follower = self.supervisor.follower
        if self._generation != follower.replays:
            self._generation = follower.replays
            self._said, self._days, self._batch_day, self._read = [], {}, -1, 0
            self._tags.clear()
            self._asked.clear()
        while self._read < len(self.state.notices):
            notice = self.state.notices[self._read]
            if notice.sent.at.block > follower.final_block:
                break
            try:
                self._read_one(notice)
            except KeyUnavailable:
                raise  # read it again in the next round
            except KeyStoreError as error:
                log.warning("a notice cannot be read any more: %s", error)
            except InvalidMessage as error:
                if notice.member is not None:
                    name = self.state.members[notice.member].name
                    self.refused.append((notice.member, error.message))
                    log.warning("a notice of %s is not accepted: %s", name, error.message)
            self._read += 1
        old = follower.next_time - LOOK_BACK_SECONDS - DAY
        self._said = [said for said in self._said if said.at > old]
        if self._batch_day >= 0 and self.supervisor.store.get("teller", "known") is None:
            self._catch_up()

    def _read_one(self, notice: Notice) -> None:
        message, at = notice.sent.message, notice.sent.at.timestamp
        if notices.kind_of(message) == notices.BATCH:
            if not notice.supervisor:
                raise InvalidMessage("only the supervisor sends batches")
            batch = notices.parse_batch(message)
            if batch.day > at // DAY + 1:
                raise InvalidMessage("it is of a day that has not come")
            self._batch_day = max(self._batch_day, batch.day)
            return
        if notice.member is None:
            raise InvalidMessage("only members send daily notices")
        daily = notices.parse_daily(message)
        if daily.day > at // DAY + 1 or daily.day <= self._days.get(notice.member, -1):
            raise InvalidMessage(
                "it is of a day that was told before, or that has not come: a replay, or a wrong clock"
            )
        key = self.state.period_keys.get(daily.supervisor_key_version)
        if key is None:
            raise InvalidMessage("it is sealed to a key that the supervisor never had")
        corrected = notices.open_daily(
            daily,
            realm=self.state.realm,
            member=notice.member,
            supervisor=self.supervisor.keys.institution_key(key.public),
        )
        self._days[notice.member] = daily.day
        self._said.append(_Said(notice.member, daily.day, at, corrected))

    def _catch_up(self) -> None:
        """The store is new, but a batch is on the ledger: what was said before it is taken as told."""
        store = self.supervisor.store
        with store.transaction():
            for pending in self._found():
                if pending.day < self._batch_day:
                    store.put("told", pending.key, {"day": self._batch_day})
            store.put("teller", "known", {})

    # ----------------------------------------------------------------- what is to be told

    def pending(self) -> list[Pending]:
        """Whom the next batch tells, and what is held back and why."""
        today = self.supervisor.follower.next_time // DAY
        terms = self.state.parameters
        needed = max(3, terms.minimum_cohort if terms else 0)
        found = []
        count: dict[int, int] = {}
        for pending in self._found():
            cohort = set(self.state.inquiries[pending.affected.inquiry].cohort) - {pending.inquirer}
            # Not who sent before that day: had it been one of them, a batch would have gone out earlier.
            covered = len(cohort & {said.member for said in self._said if pending.day <= said.day < today})
            held = ""
            if pending.day >= today or today <= self._batch_day:
                held = "it goes out tomorrow: there is one batch a day"
            elif covered < needed - 1:
                held = (
                    f"only {covered} institutions of its cohort have sent a notice since; "
                    f"{needed - 1} are needed, so that none is betrayed"
                )
            elif count.get(pending.inquirer, 0) == TOLD:
                held = "it goes out with the next batch: this one is full"
            else:
                count[pending.inquirer] = count.get(pending.inquirer, 0) + 1
            found.append(Pending(**{**vars(pending), "held": held}))
        return found

    def last_days(self) -> dict[int, int]:
        """Day of the last accepted notice of each member that sent one."""
        return dict(self._days)

    def _found(self) -> Iterable[Pending]:
        """Every subject of an inquiry that got a wrong figure from who says so, and was not told; each once."""
        store, seen = self.supervisor.store, set()
        for said in self._said:
            for correction in said.corrected:
                for inquiry, place in self._matches(said, correction):
                    key = f"{to_hex(inquiry.id)}/{place}/{said.member}/{said.day}"
                    if (inquiry.id, place) in seen or store.get("told", key) is not None:
                        continue
                    seen.add((inquiry.id, place))
                    yield Pending(key, inquiry.inquirer, Affected(inquiry.id, place), said.member, said.day, "")

    def _matches(self, said: _Said, correction: Corrected) -> Iterable[tuple[Inquiry, int]]:
        for place, inquiry in self._on(correction.tag):
            # (1) within the time, with totals that count, asked by another member that is still there.
            if inquiry.opened.at.timestamp < said.at - LOOK_BACK_SECONDS or inquiry.inquirer == said.member:
                continue
            if inquiry.stage not in (Stage.COMPLETE, Stage.REPORTED, Stage.VALID):
                continue
            if inquiry.inquirer not in self.state.active():
                continue
            # (2) who says so has itself answered, with the wrong figure: nobody can have others told of foreign answers.
            answer = inquiry.contributions.get(said.member)
            if answer is None or not correction.since <= answer.at.timestamp <= min(correction.until, said.at):
                continue
            yield inquiry, place

    def _on(self, tag: bytes) -> Iterable[tuple[int, Inquiry]]:
        """The inquiries about a subject, with its place in each; each is opened once."""
        for inquiry in self.state.inquiries.values():
            if inquiry.id in self._tags:
                continue
            try:
                tags = self.supervisor.tags(inquiry)
            except (StoreError, KeyStoreError):
                continue  # a key that is not at hand now
            except MpcreditError:
                tags = ()
            self._tags[inquiry.id] = tags
            for one in tags:
                self._asked.setdefault(one, []).append(inquiry.id)
        for inquiry_id in self._asked.get(tag, ()):
            yield self._tags[inquiry_id].index(tag), self.state.inquiries[inquiry_id]

    # ----------------------------------------------------------------- telling

    def send_now(self) -> list[str]:
        """Send what waits by hand, also what too few notices cover; still one batch a day.

        Raises:
            Refused: nothing waits, or today's batch has gone.
        """
        self.read()
        lines = self._make(by_hand=True)
        if not lines:
            raise Refused("there is nothing to tell today", remedy="one batch a day goes out: see what waits and why")
        return lines

    def _make(self, *, by_hand: bool) -> list[str]:
        """Store a batch, then send it."""
        store, today = self.supervisor.store, self.supervisor.follower.next_time // DAY
        if today <= self._batch_day or store.get("batch", str(today)) is not None:
            return []
        follower = self.supervisor.follower
        looked = (follower.replays, len(follower.events), today)
        if looked == self._looked and not by_hand:
            return []
        self._looked = looked
        told: dict[int, list[Affected]] = {}
        keys = []
        for pending in self.pending():
            share = told.setdefault(pending.inquirer, [])
            if (pending.held and not by_hand) or len(share) == TOLD:
                continue
            share.append(pending.affected)
            keys.append(pending.key)
        if not keys:
            return []
        members = {index: self.state.members[index].key for index in self.state.active()}
        messages = notices.seal_batch(told, realm=self.state.realm, keys=members, day=today)
        with store.transaction():
            store.put("teller", "known", {})
            store.insert(
                "batch", str(today), {"messages": [to_hex(message) for message in messages], "told": len(keys)}
            )
            for key in keys:
                store.put("told", key, {"day": today})
        return self._deliver()

    def _deliver(self) -> list[str]:
        """Post what is stored and was not posted."""
        store, lines = self.supervisor.store, list[str]()
        for day, value in list(store.items("batch")):
            messages = value.get("messages", ())
            rows = [store.outbox_by_key(f"batch/{day}/{part}") for part in range(len(messages))]
            if messages and all(row is not None and row.state == "mined" for row in rows):
                store.put("batch", day, {"told": value["told"]})  # it is on the ledger
                continue
            for part, message in enumerate(messages):
                if rows[part] is not None:
                    continue
                key = f"batch/{day}/{part}"
                try:
                    self.supervisor.outbox.post(
                        key, Call("consortium", "notify", (self.supervisor.owner, hex_bytes(message)))
                    )
                except Refused as error:
                    log.warning("the ledger did not take the batch: %s", error)
                    return lines
                lines.append(f"told inquirers of {value['told']} corrected figures (part {part + 1} of the batch)")
        return lines


# --------------------------------------------------------------------- an inquirer listens


class Listener:
    """Reads this member's slot of each batch; what it was told is in the store under "corrected" (R42)."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._read = 0
        self._generation = -1

    def step(self) -> list[str]:
        """Read what is new and final.

        Returns:
            One line for each inquiry that is worth asking again.
        """
        desk, lines = self.desk, []
        if self._generation != desk.follower.replays:
            self._generation, self._read = desk.follower.replays, 0
        while self._read < len(desk.state.notices):
            notice = desk.state.notices[self._read]
            if notice.sent.at.block > desk.follower.final_block:
                break
            try:
                lines += self._read_one(notice)
            except KeyUnavailable:
                raise  # read it again in the next round
            except KeyStoreError as error:  # destroyed after its retention: what it opened was read in its time
                log.info("a notice of the supervisor cannot be read any more: %s", error)
            except InvalidMessage as error:
                if notice.supervisor:
                    log.warning("a notice of the supervisor is not accepted: %s", error.message)
            self._read += 1
        return lines

    def _read_one(self, notice: Notice) -> list[str]:
        desk = self.desk
        if notices.kind_of(notice.sent.message) != notices.BATCH:
            return []
        if not notice.supervisor or not desk.state.pins.accepts_supervisor(notice.sent.owner):
            raise InvalidMessage("only the supervisor sends batches")
        part = notices.parse_batch(notice.sent.message)
        if part.day > notice.sent.at.timestamp // DAY + 1:
            raise InvalidMessage("it is of a day that has not come")
        version, _ = part.slots.get(desk.index, (0, b""))
        own = desk.member.keys.get(version)
        if own is None:
            return []
        told = notices.open_slot(part, realm=desk.realm, own=own, private=desk.keys.institution_key(own.public))
        lines = []
        for affected in told:
            inquiry = desk.state.inquiries.get(affected.inquiry)
            if inquiry is None or inquiry.inquirer != desk.index or affected.place >= len(inquiry.opening.consents):
                log.warning("the supervisor told of an inquiry that is not this member's")
                continue
            key = f"{to_hex(affected.inquiry)}/{affected.place}"
            known = desk.store.get("corrected", key)
            if known is not None and int(known["day"]) >= part.day:
                continue
            desk.store.put("corrected", key, {"day": part.day, "at": notice.sent.at.timestamp})
            lines.append(f"a figure behind the totals of {to_hex(affected.inquiry)[:12]} has been corrected since")
        return lines
