"""The two sealed messages (R41, R42): one form each, one width, bound to realm, sender or recipient, key and day."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import REALM
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcredit import notices
from mpcredit.errors import InvalidEncoding, InvalidMessage
from mpcredit.notices import Affected, Corrected
from mpcredit.pairkeys import InstitutionKey, KeyRef, Realm
from mpcredit.sealing import hpke_seal

SUPERVISOR = InstitutionKey.from_bytes(bytes(range(32)))
PRIVATE = {index: InstitutionKey.from_bytes(bytes([index + 1]) * 32) for index in range(40)}
KEYS = {index: KeyRef(index, 1, key.public) for index, key in PRIVATE.items()}
ELSEWHERE = Realm(REALM.chain_id + 1, REALM.consortium)
ONE = Corrected(b"t" * 32, 100, 200)
TWO = Corrected(b"u" * 32, 0, 2**64 - 1)


def daily(*corrected: Corrected, **changes: Any) -> bytes:
    given: dict[str, Any] = {
        "realm": REALM,
        "member": 3,
        "day": 20_000,
        "supervisor_public": SUPERVISOR.public,
        "supervisor_key_version": 1,
        **changes,
    }
    return notices.seal_daily(list(corrected), **given)


def opened(message: bytes, realm: Realm = REALM, member: int = 3) -> tuple[Corrected, ...]:
    return notices.open_daily(notices.parse_daily(message), realm=realm, member=member, supervisor=SUPERVISOR)


def body(*rows: bytes, count: int | None = None, most: int = 16, width: int = 48) -> bytes:
    """A body as the document writes it, by hand."""
    return (bytes([len(rows) if count is None else count]) + b"".join(rows)).ljust(1 + most * width, b"\0")


def sealed(plain: bytes) -> bytes:
    info = b"mpcredit/daily/2" + REALM.salt + b"\3" + (1).to_bytes(4, "big") + (20_000).to_bytes(4, "big")
    head = b"\1\2" + (1).to_bytes(4, "big") + (20_000).to_bytes(4, "big")
    return head + hpke_seal(SUPERVISOR.public, plain, info)


@settings(deadline=None, max_examples=25)
@given(
    st.sets(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**63), st.integers(1, 2**40)), max_size=16)
)
def test_daily__any_content__opens_to_it_and_has_one_width(rows: set[tuple[bytes, int, int]]) -> None:
    corrected = [Corrected(tag, since, since + more) for tag, since, more in rows]

    message = daily(*corrected)

    assert opened(message) == tuple(sorted(corrected))
    assert len(message) == notices.DAILY_BYTES == 10 + 1 + 16 * 48 + 48


def test_daily__written_by_hand_as_the_spec_says__opens() -> None:
    row = b"t" * 32 + (100).to_bytes(8, "big") + (200).to_bytes(8, "big")

    assert opened(sealed(body(row))) == (ONE,)
    assert opened(sealed(body())) == ()


@pytest.mark.parametrize(
    "plain",
    [
        body(ONE.encoded)[:-1],
        body(ONE.encoded) + b"\0",
        body(ONE.encoded)[:-1] + b"\1",
        body(TWO.encoded, ONE.encoded),
        body(ONE.encoded, ONE.encoded),
        body(ONE.encoded, count=17),
        body(ONE.encoded, count=0),
        body(b"t" * 32 + bytes(8) + bytes(8)),
        b"",
    ],
    ids=["short", "long", "padding", "order", "twice", "too many", "hidden", "ends before it begins", "empty"],
)
def test_daily__body_that_is_not_canonical__is_refused(plain: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        opened(sealed(plain))


def test_daily__another_realm_member_day_or_key__does_not_open() -> None:
    message = daily(ONE)

    with pytest.raises(InvalidMessage, match="does not open"):
        opened(message, realm=ELSEWHERE)
    with pytest.raises(InvalidMessage, match="does not open"):
        opened(message, member=4)
    for place in (5, 9):  # the last byte of key version and of day
        changed = bytearray(message)
        changed[place] ^= 1
        with pytest.raises(InvalidMessage, match="does not open"):
            opened(bytes(changed))
    with pytest.raises(InvalidMessage, match="does not open"):
        opened(daily(ONE, supervisor_public=PRIVATE[0].public))


@pytest.mark.parametrize(
    "message",
    [b"", b"\1", b"\1\2", b"\3\2" + bytes(859), daily()[:-1], daily() + b"\0"],
    ids=["empty", "no version", "no body", "unknown kind", "short", "long"],
)
def test_daily__another_form__is_refused(message: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        notices.parse_daily(message)


@pytest.mark.parametrize("version", [0, 1, 3])
def test_version__unknown__says_to_upgrade(version: int) -> None:
    with pytest.raises(InvalidEncoding, match=f"version {version}"):
        notices.kind_of(bytes([1, version]) + daily()[2:])


def test_daily__too_much_at_once__is_a_mistake() -> None:
    many = [Corrected(bytes([i]) * 32, 0, 1) for i in range(17)]

    with pytest.raises(ValueError, match="at most 16"):
        daily(*many)
    with pytest.raises(ValueError, match="each once"):
        daily(ONE, ONE)


# --------------------------------------------------------------------- batch


def test_batch__every_member__has_a_slot_of_one_width_and_opens_its_own() -> None:
    told = {3: [Affected(b"q" * 32, 7), Affected(b"p" * 32, 0)], 39: [Affected(b"r" * 32, 65_535)]}

    messages = notices.seal_batch(told, realm=REALM, keys=KEYS, day=20_001)

    assert len(messages) == 4
    assert all(len(message) <= notices.MAXIMUM_NOTICE for message in messages)
    parts = [notices.parse_batch(message) for message in messages]
    assert [(part.day, part.part, part.parts) for part in parts] == [(20_001, i, 4) for i in range(4)]
    assert sorted(member for part in parts for member in part.slots) == list(range(40))
    assert len({len(slot) for part in parts for _, slot in part.slots.values()}) == 1
    for part in parts:
        for member in part.slots:
            found = notices.open_slot(part, realm=REALM, own=KEYS[member], private=PRIVATE[member])
            assert found == tuple(sorted(told.get(member, ())))
    empty = notices.seal_batch({}, realm=REALM, keys=KEYS, day=20_001)
    assert [len(message) for message in empty] == [len(message) for message in messages]


def test_slot__anothers_or_of_another_key_day_part_or_realm__does_not_open() -> None:
    few = {index: KEYS[index] for index in range(2)}
    (message,) = notices.seal_batch({0: [Affected(b"q" * 32, 0)]}, realm=REALM, keys=few, day=1)
    part = notices.parse_batch(message)
    moved = notices.Part(2, part.part, part.parts, part.slots)
    swapped = notices.Part(1, 0, 1, {0: part.slots[1], 1: part.slots[0]})

    for tried, realm, own, private in [
        (part, REALM, KEYS[0], PRIVATE[1]),
        (part, ELSEWHERE, KEYS[0], PRIVATE[0]),
        (moved, REALM, KEYS[0], PRIVATE[0]),
        (swapped, REALM, KEYS[1], PRIVATE[1]),
        (part, REALM, KeyRef(0, 2, KEYS[0].public), PRIVATE[0]),
        (part, REALM, KEYS[5], PRIVATE[5]),
    ]:
        with pytest.raises(InvalidMessage):
            notices.open_slot(tried, realm=realm, own=own, private=private)


def test_batch__another_form__is_refused() -> None:
    few = {index: KEYS[index] for index in range(3)}
    (message,) = notices.seal_batch({}, realm=REALM, keys=few, day=1)
    slot = (len(message) - 9) // 3
    first, second = message[9 : 9 + slot], message[9 + slot : 9 + 2 * slot]

    for wrong in (
        message[:-1],
        message + b"\0",
        message[:8] + b"\2" + message[9:],
        message[:8] + b"\0",
        message[:6] + b"\1\1" + message[8:],
        message[:9] + second + first + message[9 + 2 * slot :],
        message[:9] + first + first + message[9 + 2 * slot :],
        message[:9] + first + second + b"\xd8" + message[9 + 2 * slot + 1 :],
        daily(),
    ):
        with pytest.raises(InvalidEncoding):
            notices.parse_batch(wrong)
    with pytest.raises(ValueError, match="no member"):
        notices.seal_batch({9: []}, realm=REALM, keys=few, day=1)
