"""Cases of the other messages: the announcement of versions (R1), daily notices and batches (section 10)."""

from __future__ import annotations

from collections.abc import Iterator

from . import commitments, notices, story
from .case import Case, case
from .cases_of_keys import end, realm_input

DAY = 20_500


def cases() -> list[Case]:
    """All of them, in the order of the rules."""
    return [*_versions(), *_notices(), *_batches()]


def _versions() -> Iterator[Case]:
    made = commitments.versions_announcement("0.2.0", 2, 3)
    yield case("versions", "R1", "reads 2 and 3", made, package="0.2.0", lowest=2, highest=3)


def _notices() -> Iterator[Case]:
    entries = [
        notices.Corrected(story.seed(f"tag {place}"), 1_790_000_000 + place, 1_790_009_000) for place in range(3)
    ]
    info = notices.notice_info(story.REALM, 200, story.PERIOD, DAY)
    yield case(
        "notice info", "R41", "member 200", info, **realm_input(), member=200, version=story.PERIOD.version, day=DAY
    )
    for name, listed in (("three entries", entries),):
        given = [[entry.tag, entry.since, entry.until] for entry in listed]
        yield case("notice body", "R41", name, notices.notice_body(listed), entries=given)
    ephemeral = story.seed("ephemeral of the notice")
    yield case(
        "notice", "R41", "nothing to say", notices.notice(story.REALM, 200, story.PERIOD, DAY, [], ephemeral),
        **realm_input(), member=200, version=story.PERIOD.version, day=DAY, entries=[], ephemeral=ephemeral,
        supervisor=story.PERIOD.key, private=story.PERIOD_PRIVATE,
    )  # fmt: skip


def _batches() -> Iterator[Case]:
    told = [(story.INQUIRY, 7), (story.seed("another inquiry"), 0)]
    yield case(
        "told body",
        "R42",
        "two subjects",
        notices.told_body(told),
        entries=[[inquiry, place] for inquiry, place in told],
    )
    recipients = [story.member_key(member) for member in (5, 7)]
    slots = [notices.Slot(recipients[0], told), notices.Slot(recipients[1], [])]
    ephemerals = [story.seed(f"ephemeral of slot {place}") for place in range(2)]
    info = notices.told_info(story.REALM, recipients[0], DAY, 1)
    yield case("told info", "R42", "member 5", info, **realm_input(), recipient=end(recipients[0]), day=DAY, part=1)
    yield case(
        "batch message", "R42", "part 1 of 2, one slot with news",
        notices.batch_message(story.REALM, DAY, 1, 2, slots, ephemerals),
        **realm_input(), day=DAY, part=1, parts=2, ephemerals=ephemerals,
        slots=[{"recipient": end(slot.recipient), "entries": [list(entry) for entry in slot.entries]} for slot in slots],
        privates=[story.private_key(member) for member in (5, 7)],
    )  # fmt: skip
