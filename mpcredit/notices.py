"""The two sealed messages of `Consortium.notify`: what was corrected, and whom it concerns (R41, R42).

    daily   a member to the supervisor, each day, of one width whether or not there is anything to say
            u8 1 || u8 version || u32 supervisor key version || u32 day || sealed
            sealed body: u8 count || count x (tag 32 || u64 since || u64 until), ascending || zeros
    batch   the supervisor to all members, at most once a day; one slot of one width for each, whether or not it is told
            u8 2 || u8 version || u32 day || u8 part || u8 parts || u8 slots || slots x (u8 member || u32 key version || sealed)
            sealed body: u8 count || count x (inquiry 32 || u16 place), ascending || zeros

A daily message names tags and times, no figure; a slot names inquiries and places of subjects in them, neither furnisher nor
amount. HPKE does not authenticate its sender: the ledger does, by the account that sent it, and `info` binds realm, sender
or recipient, key and day. Who may send what, and what follows from it, is `correcting`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mpcredit.encoding import bytes_to_int, int_to_bytes
from mpcredit.errors import InvalidEncoding, InvalidKey
from mpcredit.pairkeys import MAXIMUM_MEMBERS, AgreementKey, KeyRef, Realm
from mpcredit.sealing import hpke_open, hpke_seal

__all__ = [
    "BATCH",
    "CORRECTIONS",
    "DAILY",
    "DAILY_BYTES",
    "DAY",
    "MAXIMUM_NOTICE",
    "TOLD",
    "Affected",
    "Corrected",
    "Daily",
    "Part",
    "kind_of",
    "open_daily",
    "open_slot",
    "parse_batch",
    "parse_daily",
    "seal_batch",
    "seal_daily",
]

DAY: Final = 86_400
DAILY: Final = 1
BATCH: Final = 2
MAXIMUM_NOTICE: Final = 4_096
"""Bytes; as `Consortium.MAXIMUM_NOTICE`."""
CORRECTIONS: Final = 16
"""Most entries of one daily message; more wait for the next day."""
TOLD: Final = 8
"""Most entries of one slot; more wait for the next batch."""
_VERSION: Final = 2
_OVERHEAD: Final = 32 + 16  # of HPKE
_TAG_BYTES: Final = 32
_CORRECTED_BYTES: Final = _TAG_BYTES + 8 + 8
_AFFECTED_BYTES: Final = 32 + 2
_DAILY_HEAD: Final = 1 + 1 + 4 + 4
_DAILY_BODY: Final = 1 + CORRECTIONS * _CORRECTED_BYTES
DAILY_BYTES: Final = _DAILY_HEAD + _DAILY_BODY + _OVERHEAD
"""Width of every daily message."""
_BATCH_HEAD: Final = 1 + 1 + 4 + 1 + 1 + 1
_SLOT_BODY: Final = 1 + TOLD * _AFFECTED_BYTES
_SLOT_BYTES: Final = 1 + 4 + _SLOT_BODY + _OVERHEAD
_SLOTS: Final = (MAXIMUM_NOTICE - _BATCH_HEAD) // _SLOT_BYTES
_DAILY_LABEL: Final = b"mpcredit/daily/2"
_SLOT_LABEL: Final = b"mpcredit/told/2"


def kind_of(message: bytes) -> int:
    """DAILY or BATCH.

    Raises:
        InvalidEncoding: another kind, or a version that this release does not know.
    """
    if len(message) < 2 or message[0] not in (DAILY, BATCH):
        raise InvalidEncoding("not a notice of a known kind")
    if message[1] != _VERSION:
        raise InvalidEncoding(f"a notice of version {message[1]}", remedy="bring this party to the newest release")
    return message[0]


# --------------------------------------------------------------------- daily (R41)


@dataclass(frozen=True, order=True)
class Corrected:
    """A figure of a subject was wrong at this member."""

    tag: bytes = field(repr=False)
    """Of the subject, 32 bytes."""
    since: int
    """Unix seconds from which the wrong figure was given."""
    until: int
    """Unix seconds from which the right one is."""

    def __post_init__(self) -> None:
        if len(self.tag) != _TAG_BYTES:
            raise InvalidEncoding("a tag has 32 bytes")
        if not 0 <= self.since < self.until < 2**64:
            raise InvalidEncoding("a correction ends after it begins")

    @property
    def encoded(self) -> bytes:
        """tag || u64 since || u64 until."""
        return self.tag + int_to_bytes(self.since, 8) + int_to_bytes(self.until, 8)


@dataclass(frozen=True)
class Daily:
    """A daily message, not opened."""

    supervisor_key_version: int
    day: int
    """Unix seconds of the ledger's clock, divided by 86,400."""
    sealed: bytes = field(repr=False)


def seal_daily(
    corrected: Sequence[Corrected],
    *,
    realm: Realm,
    member: int,
    day: int,
    supervisor_public: bytes,
    supervisor_key_version: int,
) -> bytes:
    """Seal what a member has corrected, or nothing, to the supervisor.

    Args:
        corrected: at most CORRECTIONS, all different.
        member: who sends it.
        day: of the ledger's clock; each member's grows.
    """
    body = _padded([entry.encoded for entry in sorted(corrected)], CORRECTIONS, _DAILY_BODY)
    sealed = hpke_seal(supervisor_public, body, _daily_info(realm, member, supervisor_key_version, day))
    head = bytes((DAILY, _VERSION)) + int_to_bytes(supervisor_key_version, 4) + int_to_bytes(day, 4)
    return head + sealed


def parse_daily(message: bytes) -> Daily:
    """Read the head.

    Raises:
        InvalidEncoding: another kind, version or width.
    """
    if kind_of(message) != DAILY or len(message) != DAILY_BYTES:
        raise InvalidEncoding(f"a daily notice has {DAILY_BYTES} bytes")
    return Daily(bytes_to_int(message[2:6]), bytes_to_int(message[6:10]), message[_DAILY_HEAD:])


def open_daily(daily: Daily, *, realm: Realm, member: int, supervisor: AgreementKey) -> tuple[Corrected, ...]:
    """Open a daily message as the supervisor.

    Args:
        member: for whom the account acts that sent it, as the ledger says.

    Raises:
        InvalidMessage: it does not open: made for another consortium, member, day or key.
        InvalidEncoding: its body is not the one canonical form.
    """
    info = _daily_info(realm, member, daily.supervisor_key_version, daily.day)
    rows = _rows(hpke_open(supervisor, daily.sealed, info), CORRECTIONS, _CORRECTED_BYTES)
    return tuple(Corrected(row[:32], bytes_to_int(row[32:40]), bytes_to_int(row[40:48])) for row in rows)


def _daily_info(realm: Realm, member: int, supervisor_key_version: int, day: int) -> bytes:
    return (
        _DAILY_LABEL
        + realm.salt
        + int_to_bytes(member, 1)
        + int_to_bytes(supervisor_key_version, 4)
        + int_to_bytes(day, 4)
    )


# --------------------------------------------------------------------- batch (R42)


@dataclass(frozen=True, order=True)
class Affected:
    """A subject of an inquiry whose total contains a figure that has been corrected since."""

    inquiry: bytes
    """q, 32 bytes."""
    place: int
    """Of the subject in it, from 0."""

    def __post_init__(self) -> None:
        if len(self.inquiry) != 32 or not 0 <= self.place < 2**16:
            raise InvalidEncoding("not a place in an inquiry")

    @property
    def encoded(self) -> bytes:
        """inquiry || u16 place."""
        return self.inquiry + int_to_bytes(self.place, 2)


@dataclass(frozen=True)
class Part:
    """One message of a batch, no slot opened."""

    day: int
    part: int
    parts: int
    slots: Mapping[int, tuple[int, bytes]] = field(repr=False)
    """By member: version of the key it is sealed to, and the sealed slot."""


def seal_batch(
    told: Mapping[int, Sequence[Affected]], *, realm: Realm, keys: Mapping[int, KeyRef], day: int
) -> list[bytes]:
    """Seal a batch: a slot for every member, in as many messages as it takes.

    Args:
        told: by member, at most TOLD each; who is not in it gets an empty slot of the same width.
        keys: the present institution key of every member.
        day: of the ledger's clock.
    """
    if not set(told) <= set(keys):
        raise ValueError("somebody is told who is no member")
    members = sorted(keys)
    shares = [members[start : start + _SLOTS] for start in range(0, len(members), _SLOTS)]
    messages = []
    for part, share in enumerate(shares):
        message = bytes((BATCH, _VERSION)) + int_to_bytes(day, 4) + bytes((part, len(shares), len(share)))
        for member in share:
            key = keys[member]
            body = _padded([entry.encoded for entry in sorted(told.get(member, ()))], TOLD, _SLOT_BODY)
            sealed = hpke_seal(key.public, body, _slot_info(realm, key, day, part))
            message += int_to_bytes(member, 1) + int_to_bytes(key.version, 4) + sealed
        messages.append(message)
    return messages


def parse_batch(message: bytes) -> Part:
    """Read one message of a batch.

    Raises:
        InvalidEncoding: another kind, version or width, or members not in ascending order.
    """
    if kind_of(message) != BATCH or len(message) < _BATCH_HEAD:
        raise InvalidEncoding("not a batch")
    day, part, parts, count = bytes_to_int(message[2:6]), message[6], message[7], message[8]
    if part >= parts or not count or len(message) != _BATCH_HEAD + count * _SLOT_BYTES:
        raise InvalidEncoding("a batch whose length does not fit its number of slots")
    slots = {}
    members = []
    for start in range(_BATCH_HEAD, len(message), _SLOT_BYTES):
        slot = message[start : start + _SLOT_BYTES]
        members.append(slot[0])
        slots[slot[0]] = (bytes_to_int(slot[1:5]), slot[5:])
    if members != sorted(set(members)) or members[-1] >= MAXIMUM_MEMBERS:
        raise InvalidEncoding("the slots of a batch are not in ascending order of members, each once")
    return Part(day, part, parts, slots)


def open_slot(part: Part, *, realm: Realm, own: KeyRef, private: AgreementKey) -> tuple[Affected, ...]:
    """Open this member's slot.

    Args:
        own: its institution key of the version that the slot names.

    Raises:
        InvalidMessage: there is none, or it does not open.
        InvalidEncoding: its body is not the one canonical form.
    """
    version, sealed = part.slots.get(own.member, (0, b""))
    if version != own.version:
        raise InvalidKey("the batch has no slot for this key")
    rows = _rows(hpke_open(private, sealed, _slot_info(realm, own, part.day, part.part)), TOLD, _AFFECTED_BYTES)
    return tuple(Affected(row[:32], bytes_to_int(row[32:])) for row in rows)


def _slot_info(realm: Realm, key: KeyRef, day: int, part: int) -> bytes:
    return _SLOT_LABEL + realm.salt + key.encoded + int_to_bytes(day, 4) + int_to_bytes(part, 1)


# --------------------------------------------------------------------- bodies


def _padded(rows: Sequence[bytes], most: int, width: int) -> bytes:
    if len(rows) > most or len(set(rows)) != len(rows):
        raise ValueError(f"at most {most} entries, each once")
    body = int_to_bytes(len(rows), 1) + b"".join(rows)
    return body + bytes(width - len(body))


def _rows(body: bytes, most: int, width: int) -> list[bytes]:
    count = body[0] if body else 0
    end = 1 + count * width
    if len(body) != 1 + most * width or count > most or any(body[end:]):
        raise InvalidEncoding("a list that is not padded as it must be")
    rows = [body[start : start + width] for start in range(1, end, width)]
    if rows != sorted(set(rows)):
        raise InvalidEncoding("a list that is not in ascending order, each entry once")
    return rows
