"""What the ledger says, folded from its events alone: the roster, the terms and every inquiry.

Each reader (institution, supervisor, `explain`, `evidence`) folds the same events with `LedgerState.apply` and needs no
storage slot of the contracts. The roster is `ledger.roster`'s; here are inquiries, proposals and notices. The fold believes
an event only if the roster names its account for its party at that point. Judging an inquiry is left to `protocol`,
deciding on an answer to `disclosure`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from mpcredit import events as ev
from mpcredit.encoding import keccak
from mpcredit.errors import InvalidMessage, WrongLedger
from mpcredit.events import Stage, members_of
from mpcredit.ledger.roster import PeriodKey, Pins, Roster
from mpcredit.pairkeys import KeyRef, Realm
from mpcredit.schema import Schema
from mpcredit.versions import FIRST, Release, is_announcement, read_announcement

__all__ = ["Inquiry", "LedgerState", "Notice", "ProposalRecord", "votes_needed", "votes_needed_unapproved"]

NOTICES_A_DAY = {"member": 4, "supervisor": 32}
"""A member sends one daily notice, a supervisor at most 18 parts of a batch; readers keep no more in memory."""
SEALS_A_DAY = 256
"""A member seals once for each new pair; 216 newcomers in a day would still fit."""
DAY = 86_400


@dataclass
class Inquiry:
    """Everything the ledger says of one inquiry."""

    opened: ev.Opened
    schema: Schema
    parameters: ev.Parameters
    """As they were when it opened."""
    keys: Mapping[int, KeyRef]
    """Institution keys of the cohort when it opened."""
    period_key: PeriodKey
    tenures: Mapping[int, bytes]
    """Of the cohort's stores, as named when it opened."""
    names: Mapping[int, str]
    """Of the members when it opened."""
    absent: tuple[int, ...]
    """Members (confirmed, not removed) that were not in the cohort."""
    outside: tuple[int, ...]
    """Those of them that are not of the group that was asked."""
    unpinned: tuple[int, ...]
    """Members of the cohort (or SUPERVISOR) whose owner or period key this reader has not accepted."""
    ready: int
    """Members of the group that served and were ready, as this reader computes it; the cohort unless it repeats one."""
    contributions: dict[int, ev.Contributed | ev.Opened] = field(default_factory=dict)
    stage: Stage = Stage.OPEN
    refusal: ev.Refusal | None = None
    expired: ev.Expired | None = None
    completed_at: ev.Position | None = None
    aggregate: bytes | None = None
    report: ev.Reported | None = None
    verdict: ev.Attested | None = None

    @property
    def id(self) -> bytes:
        """q, 32 bytes."""
        return self.opened.inquiry

    @property
    def inquirer(self) -> int:
        """Member index."""
        return self.opened.inquirer

    @property
    def joint_credit(self) -> str:
        """The contract it runs on."""
        return self.opened.at.contract

    @property
    def opening(self) -> ev.Opening:
        """What the inquirer published."""
        return self.opened.opening

    @property
    def cohort(self) -> tuple[int, ...]:
        """Member indices, ascending."""
        return members_of(self.opening.cohort)

    @property
    def left_out(self) -> tuple[int, ...]:
        """Members that were ready and are left out, since the cohort repeats an earlier one (R14.1)."""
        return tuple(i for i in self.absent if self.opening.repeats and self.ready >> i & 1)

    @property
    def absence(self) -> str:
        """Who was not asked, in words: "; not ready: Bank C"; empty if all were."""
        kinds = {
            "not ready": [i for i in self.absent if i not in self.outside and i not in self.left_out],
            "not in the group": self.outside,
            "left out, as the cohort repeats an earlier one": self.left_out,
        }
        return "".join(f"; {kind}: {', '.join(self.names[i] for i in who)}" for kind, who in kinds.items() if who)

    @property
    def awaited(self) -> tuple[int, ...]:
        """Members whose contribution is missing."""
        return tuple(member for member in self.cohort if member not in self.contributions)

    @property
    def culprits(self) -> tuple[int, ...]:
        """Members that the supervisor named."""
        return members_of(self.verdict.culprits) if self.verdict else ()

    def payload(self, member: int) -> bytes:
        """A member's contribution."""
        event = self.contributions[member]
        return event.opening.payload if isinstance(event, ev.Opened) else event.payload


@dataclass(frozen=True)
class Notice:
    """A sealed message, and what its sender was when it was sent; what it says is `notices`' matter."""

    sent: ev.Noticed
    member: int | None
    """Index of the member that sent it; None: a supervisor did."""

    @property
    def supervisor(self) -> bool:
        """Whether a supervisor sent it."""
        return self.member is None


def votes_needed(members: int) -> int:
    """Votes that a proposal takes with a supervisor's approval: two thirds of the members (R34)."""
    return -(-members * 2 // 3)


def votes_needed_unapproved(members: int) -> int:
    """Votes that it takes without an approval: five sixths of the members, or all but one where that is fewer (R35)."""
    return min(-(-members * 5 // 6), members - 1)


@dataclass
class ProposalRecord:
    """One proposal to change the consortium."""

    proposed: ev.Proposed
    votes: set[int] = field(default_factory=set)
    approvals: dict[str, int] = field(default_factory=dict)
    """Owner account of the supervisor to unix seconds; without those that are void (R34.1)."""
    unapproved_since: int = 0
    """Unix seconds from which the thirty days without an approval count (R34.1); 0: nobody has voted."""
    executed: bool = False
    withdrawn: bool = False
    electorate: tuple[int, ...] = ()
    """Members when it was proposed: only they may vote."""

    def move_vote(self, event: ev.Voted, members: Collection[int]) -> None:
        """Count a vote, or count it no more, and let the delays begin anew if too few were there without it (R34.1).

        Args:
            members: the present members; votes of others do not count.
        """
        with_it = len((self.votes | {event.member}) & set(members))
        (self.votes.add if event.in_favour else self.votes.discard)(event.member)
        if with_it <= votes_needed(len(members)):
            self.approvals.clear()
        if with_it <= votes_needed_unapproved(len(members)):
            self.unapproved_since = event.at.timestamp


class LedgerState(Roster):
    """The fold. Not thread-safe; after a reorganisation make a new one and replay.

    Args:
        realm: chain id and Consortium.
        pins: accounts and keys this reader accepts.
    """

    def __init__(self, realm: Realm, pins: Pins | None = None) -> None:
        super().__init__(realm, pins)
        self.schemas: dict[int, Schema] = {}
        self.unreadable_schemas: set[int] = set()
        """Registered, but not in a form that this version knows; inquiries under them are left alone."""
        self.left_alone: set[bytes] = set()
        """Inquiries under such a schema."""
        self.proposals: dict[int, ProposalRecord] = {}
        self.mask_keys: list[ev.MaskKeysSealed] = []
        self.voided_unnamed: Counter[str] = Counter()
        """Inquiries that a supervisor voided without naming anybody, by its owner account."""
        self.notices: list[Notice] = []
        self.announced: dict[int, list[Release]] = {}
        """What each member has said that its release reads, in ledger order."""
        self.inquiries: dict[bytes, Inquiry] = {}
        self.revoked: dict[bytes, set[int]] = {}
        """Consent hash to the members that said so."""
        self.first_named: dict[tuple[int, bytes], int] = {}
        """By inquirer and consent hash: when its first inquiry that names the consent opened, unix seconds (R17)."""
        self._kept: Counter[tuple[str, object, int]] = Counter()
        """What was kept of a party's messages, by kind, party and day."""

    # ----------------------------------------------------------------- reading

    def release_of(self, member: int) -> Release:
        """What a member's release reads, by its newest announcement; without one, `FIRST`."""
        said = self.announced.get(member)
        return said[-1] if said else FIRST

    # ----------------------------------------------------------------- folding

    def apply(self, event: ev.Event) -> None:
        """Fold one event.

        Raises:
            WrongLedger: the event contradicts the roster's hash chain, an owner's signature, or what came before: the
                endpoint, or the chain behind it, is not the consortium's.
        """
        try:
            self._apply(event)
        except (KeyError, InvalidMessage) as error:
            raise WrongLedger(
                "the ledger speaks of a member, key or proposal that it has not shown, or that cannot be one",
                remedy="use another endpoint; this one leaves events out or makes them up",
            ) from error

    def _apply(self, event: ev.Event) -> None:
        if getattr(event, "inquiry", None) in self.left_alone:
            return
        match event:
            case ev.RosterChanged():
                self._roster_changed(event)
            case ev.SchemaRegistered():
                self._check_named(keccak(event.definition) == self.schema_hashes[event.schema], "a schema")
                try:
                    self.schemas[event.schema] = Schema.parse(event.definition)
                except InvalidMessage:
                    self.unreadable_schemas.add(event.schema)
            case ev.TermsSet():
                self._check_named(event.parameters == self.parameters, "terms")
            case ev.ReadinessSet() | ev.ReadinessLapsed():
                self._readiness(event)
            case ev.MaskKeysSealed():
                self._mask_keys_sealed(event)
            case ev.Noticed():
                self._noticed(event)
            case ev.JointCreditReplaced():
                self._check_named(event.current == self.joint_credit, "a JointCredit")
            case ev.Proposed():
                self.proposals[event.proposal] = ProposalRecord(event, electorate=self.active())
            case ev.Voted():
                self.proposals[event.proposal].move_vote(event, self.active())
            case ev.Approved():
                approvals = self.proposals[event.proposal].approvals
                if event.given:
                    approvals[event.supervisor] = event.at.timestamp
                else:
                    approvals.pop(event.supervisor, None)
            case ev.Withdrawn():
                self.proposals[event.proposal].withdrawn = True
            case ev.Executed():
                self.proposals[event.proposal].executed = True
            case ev.ConsentRevoked():
                self.revoked.setdefault(event.consent, set()).add(event.member)
            case ev.Opened():
                self._opened(event)
            case ev.Contributed() | ev.Refusal() | ev.Expired() | ev.AggregateClosed():
                self._moved(event)
            case ev.Reported():
                inquiry = self._inquiry(event, event.inquiry)
                inquiry.report = event
                inquiry.stage = Stage.REPORTED
            case ev.Attested():
                inquiry = self._inquiry(event, event.inquiry)
                supervisor = self.supervisors[event.supervisor]
                self._check_named(event.account == supervisor.account, "a verdict of an account")
                inquiry.verdict = event
                inquiry.stage = Stage.VALID if event.valid else Stage.VOID
                self.voided_unnamed[event.supervisor] += not event.valid and event.culprits == 0
            case _:
                pass

    def _check_named(self, named: bool, what: str) -> None:
        if not named:
            raise WrongLedger(
                f"the ledger shows {what} that the roster does not name",
                remedy="use another endpoint; this one leaves changes out or makes them up",
            )

    def _keep(self, kind: str, party: object, event: ev.Event, most: int) -> bool:
        """Whether a message is one of the first of its party's day: nobody can fill the memory of all readers."""
        day = (kind, party, event.at.timestamp // DAY)
        self._kept[day] += 1
        return self._kept[day] <= most

    def _mask_keys_sealed(self, event: ev.MaskKeysSealed) -> None:
        if not self._keep("seal", event.member, event, SEALS_A_DAY):
            return
        if is_announcement(event.sealed_keys):
            with contextlib.suppress(InvalidMessage):  # bytes that nobody understands say nothing
                self.announced.setdefault(event.member, []).append(read_announcement(event.sealed_keys))
        else:
            self.mask_keys.append(event)

    def _noticed(self, event: ev.Noticed) -> None:
        member = self.by_owner(event.owner)
        self._check_named(member is not None or event.owner in self.supervisors, "a notice of an account")
        kind = "supervisor" if member is None else "member"
        if self._keep(kind, event.owner, event, NOTICES_A_DAY[kind]):
            self.notices.append(Notice(event, None if member is None else member.index))

    def _inquiry(self, event: ev.Event, inquiry: bytes) -> Inquiry:
        found = self.inquiries.get(inquiry)
        if found is None or found.joint_credit != event.at.contract:
            raise WrongLedger(
                f"the ledger speaks of an inquiry 0x{inquiry.hex()[:12]} that was never opened",
                remedy="use another endpoint; this one leaves events out or makes them up",
            )
        return found

    def _moved(self, event: ev.Contributed | ev.Refusal | ev.Expired | ev.AggregateClosed) -> None:
        inquiry = self._inquiry(event, event.inquiry)
        match event:
            case ev.Contributed():
                inquiry.contributions[event.member] = event
                if not inquiry.awaited:
                    inquiry.stage = Stage.COMPLETE
                    inquiry.completed_at = event.at
            case ev.Refusal():
                inquiry.refusal = event
                inquiry.stage = Stage.REFUSED
            case ev.Expired():
                inquiry.expired = event
                inquiry.stage = Stage.EXPIRED
            case ev.AggregateClosed():
                inquiry.aggregate = event.aggregate

    def _opened(self, event: ev.Opened) -> None:
        opening = event.opening
        self._check_named(event.at.contract == self.joint_credit, "an inquiry on a contract")
        if opening.schema in self.unreadable_schemas:
            self.left_alone.add(event.inquiry)
            return
        schema, period_key = self.schemas.get(opening.schema), self.period_key
        cohort = members_of(opening.cohort)
        if schema is None or period_key is None or self.parameters is None or opening.roster != self.roster:
            raise WrongLedger(
                "an inquiry opened under a roster or schema that this ledger has not shown",
                remedy="use another endpoint; this one leaves events out",
            )
        keys = {index: key for index in cohort if (key := self.serving_key(index)) is not None}
        if len(keys) != len(cohort) or event.inquirer not in cohort:
            raise WrongLedger(
                "an inquiry has members in its cohort that do not serve by the roster", remedy="use another endpoint"
            )
        self._check_named(event.account == self.members[event.inquirer].account, "an inquiry of an account")
        for consent in opening.consents:
            self.first_named.setdefault((event.inquirer, consent), event.at.timestamp)
        absent = tuple(index for index in self.active() if index not in cohort)
        self.inquiries[event.inquiry] = Inquiry(
            opened=event,
            schema=schema,
            parameters=self.parameters,
            keys=keys,
            period_key=period_key,
            tenures={index: self.members[index].tenure or bytes(32) for index in cohort},
            names={index: member.name for index, member in self.members.items()},
            absent=absent,
            outside=tuple(i for i in absent if opening.group and not self.groups.get(opening.group, 0) >> i & 1),
            unpinned=self.unpinned(opening.cohort),
            ready=self.cohort(opening.group, event.at.timestamp),
            contributions={event.inquirer: event},
        )
