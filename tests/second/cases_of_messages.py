"""Cases of the other messages: the announcement of versions (R1), daily notices and batches (section 10)."""

from __future__ import annotations

from collections.abc import Iterator

from . import documents, notices, story
from .case import Case, case
from .cases_of_keys import end, realm_input

DAY = 20_500


def cases() -> list[Case]:
    """All of them, in the order of the rules."""
    return [*_versions(), *_notices(), *_batches()]


def _versions() -> Iterator[Case]:
    made = documents.announcement("0.2.0", 2, 3)
    yield case("versions", "R1", "reads 2 and 3", made, package="0.2.0", lowest=2, highest=3)


def _notices() -> Iterator[Case]:
    entries = [
        notices.Corrected(story.seed(f"tag {place}"), 1_790_000_000 + place, 1_790_009_000) for place in range(3)
    ]
    due = notices.moment(story.REALM, 200, DAY)
    yield case("moment", "R41", "of member 200", due, **realm_input(), member=200, day=DAY)
    ephemeral = story.seed("ephemeral of the notice")
    yield case(
        "notice", "R41", "three entries", notices.notice(story.REALM, 200, story.PERIOD, DAY, entries, ephemeral),
        **realm_input(), member=200, version=story.PERIOD.version, day=DAY, ephemeral=ephemeral,
        entries=[[entry.tag, entry.since, entry.until] for entry in entries],
        supervisor=story.PERIOD.key, private=story.PERIOD_PRIVATE,
    )  # fmt: skip


def _batches() -> Iterator[Case]:
    told = [(story.INQUIRY, 7), (story.seed("another inquiry"), 0)]
    recipients = [story.member_key(member) for member in (5, 7)]
    slots = [notices.Slot(recipients[0], told), notices.Slot(recipients[1], [])]
    ephemerals = [story.seed(f"ephemeral of slot {place}") for place in range(2)]
    yield case(
        "batch message", "R42", "part 1 of 2, one slot with news",
        notices.batch_message(story.REALM, DAY, 1, 2, slots, ephemerals),
        **realm_input(), day=DAY, part=1, parts=2, ephemerals=ephemerals,
        slots=[{"recipient": end(slot.recipient), "entries": [list(entry) for entry in slot.entries]} for slot in slots],
        privates=[story.private_key(member) for member in (5, 7)],
    )  # fmt: skip
