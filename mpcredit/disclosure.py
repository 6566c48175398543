"""The consortium's disclosure policy: may this inquiry be answered? (R26, R27)

Deterministic, the same for every member, and decided before the loan book is looked at. Nothing here knows whether a
subject is a customer: the inputs are the inquiry, the tags this member has seen before, and the terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from mpcredit.errors import InvalidConsent
from mpcredit.events import Parameters, members_of
from mpcredit.pairkeys import Realm
from mpcredit.sealing import SubjectList
from mpcredit.state import Inquiry, LedgerState

__all__ = ["ADVICE", "Refusal", "RefusalCode", "Seen", "UsedConsent", "decide", "differing", "window_conflict"]


class RefusalCode(IntEnum):
    """Codes of `JointCredit.refuse` (R26), in the order in which they are decided."""

    RESTORED = 1
    COHORT = 2
    KEY = 3
    ENCODING = 4
    SUBJECT = 5
    CONSENT = 6
    WINDOW = 7
    COOLDOWN = 8
    RATE = 9
    BOOK = 10
    LATE = 11


ADVICE: dict[int, str] = {
    RefusalCode.RESTORED: "the furnisher began a new tenure of its store and refuses inquiries opened before; ask again",
    RefusalCode.COHORT: "the furnisher has not accepted the cohort or a member's key; it must compare and pin them",
    RefusalCode.KEY: "the inquirer's Paillier key or its proof is malformed; the inquirer must make a new one",
    RefusalCode.ENCODING: "the inquiry's form, schema or version is not one the furnisher knows; compare versions",
    RefusalCode.SUBJECT: "the sealed subject does not open or does not fit its commitment; the inquirer must seal it anew",
    RefusalCode.CONSENT: "a consent is expired, used, revoked or made for another inquirer; the inquirer needs a new one",
    RefusalCode.WINDOW: "the subject was asked about over another cohort within the window; ask again over the same "
    "cohort, or after the window",
    RefusalCode.COOLDOWN: "the same inquirer asked about the subject a short while ago; wait",
    RefusalCode.RATE: "the inquirer has asked about too many subjects in 24 hours; wait",
    RefusalCode.BOOK: "the furnisher's loan book is older than the consortium permits; it must import a newer one",
    RefusalCode.LATE: "the inquiry's deadline is too close; ask again",
}


@dataclass(frozen=True)
class Seen:
    """What a member remembers of an inquiry whose subjects it could read."""

    inquiry: bytes
    inquirer: int
    tags: tuple[bytes, ...]
    """Of its subjects, under the newest tag key."""
    consents: tuple[bytes, ...]
    cohort: int
    opened_at: int
    order: tuple[int, int]
    """Block number and log index of `Opened`."""
    answered: bool = False
    """Whether figures of this member were put into a contribution to it, be that mined or not."""
    answered_at: int = 0
    """When, by this member's own clock, unix seconds; 0 if it did not, or is not known."""
    repeats: bool = False
    """Whether its cohort repeated an earlier one."""
    named: tuple[bytes, ...] = ()
    """The tags as the inquiry names them, in the same order."""
    earlier: bool = False
    """Whether it is of an earlier tenure of this member: another store may have answered, so it counts as answered (R25)."""


@dataclass(frozen=True)
class Refusal:
    """A refusal and what it rests on; the text stays with the refusing institution, the ledger gets the code."""

    code: RefusalCode
    text: str
    repeat: int = 0
    """With WINDOW: the cohort over which the inquirer can ask instead, bitmap; else 0."""


@dataclass(frozen=True)
class UsedConsent:
    """A consent under which this member has answered (R17)."""

    cohort: int
    """Bitmap, of the first answer."""
    schema: int
    currency: str
    has_figures: bool
    """Whether the figures of the first answer are still stored."""


def _before(order: tuple[int, int], memory: Iterable[Seen], state: LedgerState) -> Iterator[Seen]:
    """Earlier inquiries, and those that a reorganisation removed or moved behind: their openings and answers were public."""
    return (s for s in memory if s.order < order or s.answered or s.inquiry not in state.inquiries)


def differing(cohort: int, inquirer: int, earlier: Seen) -> tuple[int, ...]:
    """Members by which two cohorts differ, the two inquirers apart: their own figures are known to them (R27)."""
    apart = (1 << inquirer) | (1 << earlier.inquirer)
    return members_of((cohort ^ earlier.cohort) & ~apart)


def window_conflict(
    tags: Sequence[bytes],
    cohort: int,
    inquirer: int,
    opened_at: int,
    memory: Iterable[Seen],
    window: int,
    least: int = 0,
    clock: int = 0,
) -> tuple[Seen, tuple[int, ...]] | None:
    """Find an own answer on one of the tags, within the window, over a cohort that differs (R27).

    Args:
        cohort, inquirer, opened_at: of the inquiry to be judged.
        window: W of the terms, seconds.
        least: this member's own least window, seconds: terms that a false endpoint made up do not shorten it.
        clock: this member's own, unix seconds: times that a false endpoint made up do not let the least window pass; 0: none.

    Returns:
        The earlier inquiry and the members by which the cohorts differ, or None.
    """
    here = min(opened_at, clock) if clock else opened_at
    wanted = set(tags)
    for seen in memory:
        if not seen.answered or wanted.isdisjoint(seen.tags):
            continue
        own = not least or max(seen.opened_at, seen.answered_at) + least <= here
        if own and seen.opened_at + window <= opened_at:
            continue
        members = differing(cohort, inquirer, seen)
        if members:
            return seen, members
    return None


def _consent_problem(
    inquiry: Inquiry,
    subjects: SubjectList,
    realm: Realm,
    tag_key_version: int,
    consents: Mapping[bytes, UsedConsent],
    state: LedgerState,
    now: int,
) -> str | None:
    opened = inquiry.opened
    hashes = tuple(entry.consent.hash for entry in subjects.entries)
    if hashes != opened.opening.consents:
        return "the consent receipts are not those whose hashes are on the ledger"
    for entry in subjects.entries:
        consent = entry.consent
        try:
            consent.check(
                realm=realm,
                inquirer=inquiry.inquirer,
                tag=entry.tag,
                tag_key_version=tag_key_version,
                purpose=subjects.purpose,
                at=opened.at.timestamp,
            )
        except InvalidConsent as error:
            return error.message
        if inquiry.inquirer in state.revoked.get(consent.hash, set()):
            return "the consent was revoked"
        began = state.first_named.get((inquiry.inquirer, consent.hash), opened.at.timestamp)
        if max(now, opened.at.timestamp) >= began + inquiry.parameters.repeat_seconds:
            return "the time of the consent is over: it began with the first inquiry that named it"
        used = consents.get(consent.hash)
        same = used is not None and (used.cohort, used.schema, used.currency) == (
            opened.opening.cohort,
            opened.opening.schema,
            opened.opening.currency,
        )
        if used is not None and not (same and used.has_figures):
            return "the consent was used, and this inquiry does not repeat that answer"
    return None


def _unknown_repetition(inquiry: Inquiry, tags: Sequence[bytes], memory: Sequence[Seen], state: LedgerState) -> bool:
    """Whether the cohort repeats one that this member cannot check, for a tag that it has not answered (R27.3).

    Only an opening that is still on the ledger counts, over the members that were ready then as this reader folds it: else
    one that an endpoint made up once, or that a reorganisation took away, would permit a chosen cohort for W.
    """
    opened, window = inquiry.opened, inquiry.parameters.window_seconds
    recent = [seen for seen in memory if seen.opened_at + window > opened.at.timestamp]
    for tag in tags:
        of_tag = [seen for seen in recent if tag in seen.tags]
        if any(seen.answered for seen in of_tag):
            continue  # the window rule judges
        over_all = [
            seen.cohort
            for seen in of_tag
            if not seen.repeats and (found := state.inquiries.get(seen.inquiry)) and found.ready == seen.cohort
        ]
        if not any(cohort | 1 << inquiry.inquirer == opened.opening.cohort for cohort in over_all):
            return True
    return False


def decide(
    inquiry: Inquiry,
    subjects: SubjectList,
    *,
    state: LedgerState,
    memory: Sequence[Seen],
    tags: Sequence[bytes],
    tag_key_version: int,
    currency: str,
    book_as_of: int,
    now: int,
    consents: Mapping[bytes, UsedConsent],
    minimum_window: int = 0,
    clock: int = 0,
) -> Refusal | None:
    """Decide whether to answer, after the checks of cohort, key, form and seal have passed.

    Args:
        subjects: the opened list of subjects.
        memory: what this member has seen of other inquiries, and of this one.
        tags: of the subjects, in their order, under the newest tag key, as those of `memory` are.
        tag_key_version: the newest.
        currency: of this member's loan book.
        book_as_of: unix seconds of its snapshot.
        now: timestamp of the ledger's head.
        consents: under which this member has answered, by their hashes.
        minimum_window: this member's own least window, seconds.
        clock: this member's own, unix seconds; 0: none.

    Returns:
        A refusal, or None to answer.
    """
    parameters: Parameters = inquiry.parameters
    opened = inquiry.opened
    order = (opened.at.block, opened.at.log_index)
    earlier = [seen for seen in _before(order, memory, state) if seen.inquiry != inquiry.id]

    if subjects.schema != opened.opening.schema or subjects.currency != opened.opening.currency:
        return Refusal(RefusalCode.ENCODING, "the sealed part names another schema or currency than the ledger")
    if subjects.currency != currency:
        return Refusal(RefusalCode.ENCODING, f"this institution keeps its figures in {currency}")
    if len(subjects.entries) != len(opened.opening.consents):
        return Refusal(RefusalCode.ENCODING, "the sealed part has another number of subjects than the ledger")

    if opened.opening.repeats and _unknown_repetition(inquiry, tags, earlier, state):
        return Refusal(
            RefusalCode.COHORT,
            "the cohort is not that of an inquiry on the subject over all members that were ready then",
        )

    problem = _consent_problem(inquiry, subjects, state.realm, tag_key_version, consents, state, now)
    if problem:
        return Refusal(RefusalCode.CONSENT, problem)

    conflict = window_conflict(
        tags,
        opened.opening.cohort,
        opened.inquirer,
        opened.at.timestamp,
        earlier,
        parameters.window_seconds,
        minimum_window,
        clock,
    )
    if conflict:
        names = ", ".join(inquiry.names.get(index, str(index)) for index in conflict[1])
        return Refusal(
            RefusalCode.WINDOW,
            f"this institution answered about a subject within the window, over a cohort that differs by {names}",
            conflict[0].cohort | 1 << opened.inquirer,
        )

    # What one consent gave once is given again as it was: neither the book nor the cool-down is asked (R17).
    fresh = {tag for tag, entry in zip(tags, subjects.entries, strict=True) if entry.consent.hash not in consents}
    asked = [seen for seen in earlier if seen.answered and seen.inquirer == inquiry.inquirer]
    for seen in asked:
        recent = seen.opened_at + parameters.cooldown_seconds > opened.at.timestamp
        if recent and not fresh.isdisjoint(seen.tags):
            return Refusal(RefusalCode.COOLDOWN, "the inquirer asked about a subject within the cool-down")

    day = [seen for seen in asked if seen.opened_at + 86_400 > opened.at.timestamp]
    if sum(len(seen.tags) for seen in day) + len(tags) > parameters.subjects_per_day:
        return Refusal(RefusalCode.RATE, "the inquirer has asked about too many subjects in 24 hours")

    if fresh and book_as_of + parameters.book_age_seconds < opened.at.timestamp:
        return Refusal(RefusalCode.BOOK, "this institution's loan book is too old")

    if now + min(60, parameters.answer_seconds // 10) >= opened.deadline:
        return Refusal(
            RefusalCode.LATE, "the deadline is too close: an answer that comes after `expire` is public and wasted"
        )
    return None
