"""Daily notices (R41) and the supervisor's batches (R42)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .encodings import Realm, number, sha256, unsigned
from .hpke import seal
from .pairs import MemberKey, PeriodKey

NOTICE_ENTRIES, NOTICE_BODY = 16, 769
TOLD_ENTRIES, TOLD_BODY = 8, 273


@dataclass(frozen=True, order=True)
class Corrected:
    """One entry of a daily notice."""

    tag: bytes
    since: int
    until: int


@dataclass(frozen=True)
class Slot:
    """What a batch tells one member."""

    recipient: MemberKey
    entries: Sequence[tuple[bytes, int]]
    """Inquiry and place of the subject."""


def _body(entries: Sequence[bytes], most: int, size: int) -> bytes:
    if len(entries) > most or len(set(entries)) != len(entries):
        raise ValueError("too many entries, or one twice")
    return (unsigned(len(entries), 8) + b"".join(sorted(entries))).ljust(size, b"\0")


def moment(realm: Realm, member: int, day: int) -> int:
    """Unix seconds from which a member's notice of a day goes out (section 11)."""
    digest = sha256(b"mpcredit/daily-moment/2", realm.digest(), unsigned(member, 8), unsigned(day, 32))
    return 86_400 * day + number(digest[:4]) % 43_200


def notice_body(entries: Sequence[Corrected]) -> bytes:
    """u8 count || count x (tag || u64 since || u64 until) || zeros (R41)."""
    encoded = [entry.tag + unsigned(entry.since, 64) + unsigned(entry.until, 64) for entry in entries]
    return _body(encoded, NOTICE_ENTRIES, NOTICE_BODY)


def notice_info(realm: Realm, member: int, period: PeriodKey, day: int) -> bytes:
    """The HPKE info of a daily notice (R41)."""
    return b"mpcredit/daily/2" + realm.digest() + unsigned(member, 8) + unsigned(period.version, 32) + unsigned(day, 32)


def notice(
    realm: Realm, member: int, period: PeriodKey, day: int, entries: Sequence[Corrected], ephemeral: bytes
) -> bytes:
    """The 827 bytes of a daily notice (R41)."""
    sealed = seal(period.key, notice_info(realm, member, period, day), notice_body(entries), ephemeral)
    return unsigned(1, 8) + unsigned(2, 8) + unsigned(period.version, 32) + unsigned(day, 32) + sealed


def told_body(entries: Sequence[tuple[bytes, int]]) -> bytes:
    """u8 count || count x (inquiry || u16 place of the subject) || zeros (R42)."""
    return _body([inquiry + unsigned(place, 16) for inquiry, place in entries], TOLD_ENTRIES, TOLD_BODY)


def told_info(realm: Realm, recipient: MemberKey, day: int, part: int) -> bytes:
    """The HPKE info of a slot (R42)."""
    return b"mpcredit/told/2" + realm.digest() + recipient.encoded() + unsigned(day, 32) + unsigned(part, 8)


def batch_message(
    realm: Realm, day: int, part: int, parts: int, slots: Sequence[Slot], ephemerals: Sequence[bytes]
) -> bytes:
    """One message of a batch, with a slot of 326 bytes for each of at most 12 members (R42)."""
    head = unsigned(2, 8) + unsigned(2, 8) + unsigned(day, 32) + unsigned(part, 8) + unsigned(parts, 8)
    message = head + unsigned(len(slots), 8)
    for slot, ephemeral in zip(slots, ephemerals, strict=True):
        to = slot.recipient
        sealed = seal(to.key, told_info(realm, to, day, part), told_body(slot.entries), ephemeral)
        message += unsigned(to.member, 8) + unsigned(to.version, 32) + sealed
    return message
