"""What the ledger says, folded from its events alone: the roster, the terms and every inquiry.

Each reader (institution, supervisor, `explain`, `evidence`) folds the same events with `LedgerState.apply` and needs no
storage slot of the contracts. The fold trusts the endpoint that delivered the events as little as it can: the roster's
hash chain (R39) and the owners' signatures of keys (R9) are recomputed, terms, schemas and the current JointCredit are
those of that chain, and owners are compared with the pins. Judging an inquiry is left to `protocol`, deciding on an answer
to `disclosure`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from eth_account import Account
from eth_account.messages import encode_defunct

from mpcredit import events as ev
from mpcredit.encoding import abi_decode, abi_encode, keccak
from mpcredit.errors import InvalidMessage, WrongLedger
from mpcredit.events import Change, Stage, members_of
from mpcredit.pairkeys import KeyRef, Realm, check_public
from mpcredit.schema import Schema
from mpcredit.versions import FIRST, Release, is_announcement, read_announcement

__all__ = [
    "SUPERVISOR",
    "Inquiry",
    "LedgerState",
    "Member",
    "Notice",
    "Pins",
    "ProposalRecord",
    "SupervisorKey",
    "key_statement",
    "roster_link",
    "roster_start",
]

SUPERVISOR = 255
"""Stands for the supervisor where a member index is asked for, in key statements and disclosures."""

CHANGE_TYPES: Mapping[Change, tuple[str, ...]] = {
    Change.MEMBER_INVITED: ("uint8", "address", "address", "string"),
    Change.MEMBER_CONFIRMED: ("uint8",),
    Change.MEMBER_REMOVED: ("uint8",),
    Change.OWNER_REPLACED: ("uint8", "address"),
    Change.OPERATOR_SET: ("uint8", "address", "bool"),
    Change.KEY_SET: ("uint8", "uint32", "bytes32", "bytes"),
    Change.MEMBER_AUDITED: ("uint8", "uint32"),
    Change.MEMBER_SUSPENDED: ("uint8",),
    Change.MEMBER_REINSTATED: ("uint8",),
    Change.GROUP_SET: ("uint8", "uint256"),
    Change.SUPERVISOR_ADDED: ("address",),
    Change.SUPERVISOR_REMOVED: ("address",),
    Change.SUPERVISOR_KEY_SET: ("uint32", "bytes32", "address", "bytes"),
    Change.TAG_KEY_SET: ("uint32", "bytes32"),
    Change.TERMS_SET: ("uint8", "uint16", *["uint32"] * 7),
    Change.SCHEMA_SET: ("uint16", "bytes32"),
    Change.JOINT_CREDIT_SET: ("address",),
}


def _label(text: str) -> bytes:
    return text.encode("ascii").ljust(32, b"\0")


def roster_start(realm: Realm) -> bytes:
    """The value of the roster before its first change (R39)."""
    return keccak(
        abi_encode(["bytes32", "uint256", "address"], [_label("mpcredit/roster/2"), realm.chain_id, realm.consortium])
    )


def roster_link(roster: bytes, kind: Change, data: bytes) -> bytes:
    """The roster after one more change (R39)."""
    return keccak(abi_encode(["bytes32", "uint8", "bytes"], [roster, int(kind), data]))


def key_statement(realm: Realm, member: int, version: int, key: bytes, previous: bytes) -> bytes:
    """The 32 bytes that an owner signs (EIP-191) for an institution key (R9)."""
    return keccak(
        abi_encode(
            ["bytes32", "uint256", "address", "uint8", "uint32", "bytes32", "bytes32"],
            [_label("mpcredit/key/2"), realm.chain_id, realm.consortium, member, version, key, previous],
        )
    )


@dataclass(frozen=True)
class Pins:
    """Accounts that this party accepts as owners and supervisors, from the founding file or confirmed by its operator."""

    owners: Mapping[int, frozenset[str]] | None = None
    """By member index; None accepts what the ledger shows (only for a reader who stakes nothing on it)."""
    supervisors: frozenset[str] | None = None
    operators: Mapping[int, frozenset[str]] | None = None
    """As founded, by member index: for a reader of evidence that knows no roster; on the ledger they change."""

    def accepts_owner(self, member: int, owner: str) -> bool:
        """Whether keys signed by this owner may be used for this member."""
        return self.owners is None or owner in self.owners.get(member, frozenset())

    def accepts_supervisor(self, account: str) -> bool:
        """Whether keys signed by this account may be used for the supervisor."""
        return self.supervisors is None or account in self.supervisors


@dataclass
class Member:
    """One institution, as the roster has it now."""

    index: int
    owner: str
    name: str
    operators: set[str] = field(default_factory=set)
    last_operators: frozenset[str] = frozenset()
    """Of a member that was removed: who acted for it until then."""
    keys: dict[int, KeyRef] = field(default_factory=dict)
    """By version; the newest is current."""
    signed_by: dict[int, str] = field(default_factory=dict)
    """Owner account that signed the key, by version."""
    audited_version: int = 0
    ready_until: int = 0
    confirmed: bool = False
    suspended: bool = False
    removed: bool = False

    @property
    def key(self) -> KeyRef:
        """The current institution key.

        Raises:
            InvalidMessage: the member has not confirmed yet.
        """
        if not self.keys:
            raise InvalidMessage(f"{self.name} has no institution key", remedy=f"{self.name} must confirm its record")
        return self.keys[max(self.keys)]

    @property
    def serving(self) -> bool:
        """Whether it may be in a cohort when ready."""
        return (
            self.confirmed
            and not self.removed
            and not self.suspended
            and bool(self.keys)
            and self.audited_version == self.key.version
        )


@dataclass(frozen=True)
class SupervisorKey:
    """A period key of the supervisor."""

    version: int
    public: bytes
    account: str


@dataclass
class Inquiry:
    """Everything the ledger says of one inquiry."""

    opened: ev.Opened
    schema: Schema
    parameters: ev.Parameters
    """As they were when it opened."""
    keys: Mapping[int, KeyRef]
    """Institution keys of the cohort when it opened."""
    supervisor_key: SupervisorKey
    names: Mapping[int, str]
    """Of the members when it opened."""
    absent: tuple[int, ...]
    """Members (confirmed, not removed) that were not in the cohort."""
    outside: tuple[int, ...]
    """Those of them that are not of the group that was asked."""
    unpinned: tuple[int, ...]
    """Members of the cohort (or SUPERVISOR) whose owner this reader has not pinned."""
    cohort_as_folded: int
    """The cohort that this reader computes for the same moment; differs if an endpoint lies."""
    contributions: dict[int, ev.Contributed | ev.Opened] = field(default_factory=dict)
    stage: Stage = Stage.OPEN
    refusal: ev.Refusal | None = None
    expired: ev.Expired | None = None
    completed_at: ev.Position | None = None
    aggregate: bytes | None = None
    report: ev.Reported | None = None
    verdict: ev.Attested | None = None
    not_sent: set[int] = field(default_factory=set)
    statements: dict[int, bytes] = field(default_factory=dict)
    """By member the transaction in which it stated that it had sent nothing."""

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
    def absence(self) -> str:
        """Who was not asked, in words: "; not ready: Bank C"; empty if all were."""
        kinds = {
            "not ready": [i for i in self.absent if i not in self.outside],
            "not in the group": self.outside,
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
    """Index of the member for which the account acted; None: of no member."""
    supervisor: bool
    """Whether the account was a supervisor's."""


@dataclass
class ProposalRecord:
    """One proposal to change the consortium."""

    proposed: ev.Proposed
    votes: set[int] = field(default_factory=set)
    approvals: dict[str, int] = field(default_factory=dict)
    """Supervisor account to unix seconds."""
    executed: bool = False
    electorate: tuple[int, ...] = ()
    """Members when it was proposed: only they may vote."""


class LedgerState:
    """The fold. Not thread-safe; after a reorganisation make a new one and replay.

    Args:
        realm: chain id and Consortium.
        pins: accounts this reader accepts.
    """

    def __init__(self, realm: Realm, pins: Pins | None = None) -> None:
        self.realm = realm
        self.pins = pins or Pins()
        self.roster = roster_start(realm)
        self.members: dict[int, Member] = {}
        self.supervisors: set[str] = set()
        self.supervisor_keys: dict[int, SupervisorKey] = {}
        self.groups: dict[int, int] = {}
        self.tag_keys: dict[int, bytes] = {}
        self.schema_hashes: dict[int, bytes] = {}
        """Of the definitions, as the roster names them."""
        self.schemas: dict[int, Schema] = {}
        self.unreadable_schemas: set[int] = set()
        """Registered, but not in a form that this version knows; inquiries under them are left alone."""
        self.left_alone: set[bytes] = set()
        """Inquiries under such a schema."""
        self.parameters: ev.Parameters | None = None
        self.joint_credit: str | None = None
        self.joint_credit_code: bytes | None = None
        """Hash of the init code from which the current JointCredit was created."""
        self._approved_code: bytes | None = None
        self.proposals: dict[int, ProposalRecord] = {}
        self.mask_keys: list[ev.MaskKeysSealed] = []
        self.notices: list[Notice] = []
        self.announced: dict[int, list[Release]] = {}
        """What each member has said that its release reads, in ledger order."""
        self.inquiries: dict[bytes, Inquiry] = {}
        self.revoked: dict[bytes, set[int]] = {}
        """Consent hash to the members that said so."""
        self.roster_history: list[ev.RosterChanged] = []

    # ----------------------------------------------------------------- reading

    @property
    def supervisor_key(self) -> SupervisorKey | None:
        """The current one; None before the first, and while the newest is of an account that was removed (R35)."""
        newest = self.supervisor_keys[max(self.supervisor_keys)] if self.supervisor_keys else None
        return newest if newest is not None and newest.account in self.supervisors else None

    def active(self) -> tuple[int, ...]:
        """Members that are confirmed and not removed."""
        return tuple(i for i, member in sorted(self.members.items()) if member.confirmed and not member.removed)

    def cohort(self, group: int, at: int) -> int:
        """The bitmap that `open` would freeze at a time (R14), whoever asks."""
        bitmap = sum(1 << index for index, member in self.members.items() if member.serving and member.ready_until > at)
        return bitmap if group == 0 else bitmap & self.groups.get(group, 0)

    def unpinned(self, cohort: int) -> tuple[int, ...]:
        """Members of a cohort (or SUPERVISOR) whose present key was signed by an account that this reader does not accept."""
        found = []
        for index in members_of(cohort):
            member = self.members[index]
            if not self.pins.accepts_owner(index, member.signed_by[member.key.version]):
                found.append(index)
        if self.supervisor_key is not None and not self.pins.accepts_supervisor(self.supervisor_key.account):
            found.append(SUPERVISOR)
        return tuple(found)

    def release_of(self, member: int) -> Release:
        """What a member's release reads, by its newest announcement; without one, version 2."""
        said = self.announced.get(member)
        return said[-1] if said else FIRST

    def by_operator(self, account: str) -> Member | None:
        """The member for which an account acts."""
        return next((m for m in self.members.values() if account in m.operators and not m.removed), None)

    def by_name(self, name: str) -> Member | None:
        """The member of that name."""
        return next((m for m in self.members.values() if m.name == name and not m.removed), None)

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
            case ev.ParametersSet():
                self._check_named(event.parameters == self.parameters, "terms")
            case ev.ReadinessDeclared():
                self.members[event.member].ready_until = event.until
            case ev.ReadinessLapsed():
                for index in members_of(event.members):
                    self.members[index].ready_until = 0
            case ev.MaskKeysSealed():
                if is_announcement(event.sealed_keys):
                    with contextlib.suppress(InvalidMessage):  # whoever cannot be understood has said nothing
                        self.announced.setdefault(event.member, []).append(read_announcement(event.sealed_keys))
                else:
                    self.mask_keys.append(event)
            case ev.Noticed():
                sender = self.by_operator(event.by)
                self.notices.append(Notice(event, sender.index if sender else None, event.by in self.supervisors))
            case ev.JointCreditReplaced():
                self._check_named(event.current == self.joint_credit, "a JointCredit")
                self.joint_credit_code, self._approved_code = self._approved_code, None
            case ev.JointCreditApproved():
                self._approved_code = event.init_code_hash
            case ev.Proposed():
                self.proposals[event.proposal] = ProposalRecord(event, electorate=self.active())
            case ev.Voted():
                votes = self.proposals[event.proposal].votes
                (votes.add if event.in_favour else votes.discard)(event.member)
            case ev.Approved():
                approvals = self.proposals[event.proposal].approvals
                if event.given:
                    approvals[event.supervisor] = event.at.timestamp
                else:
                    approvals.pop(event.supervisor, None)
            case ev.Executed():
                self.proposals[event.proposal].executed = True
            case ev.ConsentRevoked():
                self.revoked.setdefault(event.consent, set()).add(event.member)
            case ev.Opened():
                self._opened(event)
            case ev.Contributed() | ev.Refusal() | ev.Expired() | ev.AggregateClosed():
                self._moved(event)
            case ev.NotSent():
                inquiry = self._inquiry(event, event.inquiry)
                inquiry.not_sent.add(event.member)
                inquiry.statements[event.member] = event.at.transaction
            case ev.Reported():
                inquiry = self._inquiry(event, event.inquiry)
                inquiry.report = event
                inquiry.stage = Stage.REPORTED
            case ev.Attested():
                inquiry = self._inquiry(event, event.inquiry)
                inquiry.verdict = event
                inquiry.stage = Stage.VALID if event.valid else Stage.VOID
            case _:
                pass

    def _check_named(self, named: bool, what: str) -> None:
        if not named:
            raise WrongLedger(
                f"the ledger shows {what} that the roster does not name",
                remedy="use another endpoint; this one leaves changes out or makes them up",
            )

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
        schema = self.schemas.get(opening.schema)
        supervisor_key = self.supervisor_key
        cohort = members_of(opening.cohort)
        if schema is None or supervisor_key is None or self.parameters is None or opening.roster != self.roster:
            raise WrongLedger(
                "an inquiry opened under a roster or schema that this ledger has not shown",
                remedy="use another endpoint; this one leaves events out",
            )
        if any(i not in self.members or not self.members[i].keys for i in cohort) or event.inquirer not in cohort:
            raise WrongLedger(
                "an inquiry has members in its cohort that are not in the roster", remedy="use another endpoint"
            )
        absent = tuple(index for index in self.active() if index not in cohort)
        self.inquiries[event.inquiry] = Inquiry(
            opened=event,
            schema=schema,
            parameters=self.parameters,
            keys={index: self.members[index].key for index in cohort},
            supervisor_key=supervisor_key,
            names={index: member.name for index, member in self.members.items()},
            absent=absent,
            outside=tuple(i for i in absent if opening.group and not self.groups.get(opening.group, 0) >> i & 1),
            unpinned=self.unpinned(opening.cohort),
            cohort_as_folded=self.cohort(opening.group, event.at.timestamp),
            contributions={event.inquirer: event},
        )

    def _roster_changed(self, event: ev.RosterChanged) -> None:
        # (1) the chain: a left-out or made-up change shows here.
        self.roster = roster_link(self.roster, event.kind, event.data)
        if self.roster != event.roster:
            raise WrongLedger(
                "the roster's history on this endpoint does not hash to the roster it names",
                remedy="use another endpoint; this one leaves membership changes out or makes them up",
            )
        self.roster_history.append(event)

        # (2) the change itself.
        values = abi_decode(CHANGE_TYPES[event.kind], event.data)
        match event.kind:
            case Change.MEMBER_INVITED:
                index, owner, operator, name = values
                self.members[index] = Member(index, owner, name, {operator})
            case Change.MEMBER_CONFIRMED:
                self.members[values[0]].confirmed = True
            case Change.MEMBER_REMOVED:
                self.members[values[0]].removed = True
                self.members[values[0]].last_operators = frozenset(self.members[values[0]].operators)
                self.members[values[0]].operators.clear()
            case Change.OWNER_REPLACED:
                self.members[values[0]].owner = values[1]
            case Change.OPERATOR_SET:
                index, account, allowed = values
                operators = self.members[index].operators
                (operators.add if allowed else operators.discard)(account)
            case Change.KEY_SET:
                self._key_set(*values)
            case Change.MEMBER_AUDITED:
                self.members[values[0]].audited_version = values[1]
            case Change.MEMBER_SUSPENDED:
                self.members[values[0]].suspended = True
            case Change.MEMBER_REINSTATED:
                self.members[values[0]].suspended = False
            case Change.GROUP_SET:
                self.groups[values[0]] = values[1]
            case Change.SUPERVISOR_ADDED:
                self.supervisors.add(values[0])
            case Change.SUPERVISOR_REMOVED:
                self.supervisors.discard(values[0])
            case Change.SUPERVISOR_KEY_SET:
                version, key, account, signature = values
                if account not in self.supervisors:
                    raise WrongLedger(
                        f"the ledger shows a supervisor key of {account}, which is no supervisor",
                        remedy="use another endpoint; this one makes keys up",
                    )
                newest = self.supervisor_keys[max(self.supervisor_keys)] if self.supervisor_keys else None
                previous = newest.public if newest else bytes(32)
                self._check_statement(SUPERVISOR, version, key, previous, signature, account)
                self.supervisor_keys[version] = SupervisorKey(version, key, account)
            case Change.TAG_KEY_SET:
                self.tag_keys[values[0]] = values[1]
            case Change.TERMS_SET:
                self.parameters = ev.Parameters(*values)
            case Change.SCHEMA_SET:
                self.schema_hashes[values[0]] = values[1]
            case Change.JOINT_CREDIT_SET:
                self.joint_credit = values[0]

    def _key_set(self, index: int, version: int, key: bytes, signature: bytes) -> None:
        member = self.members[index]
        previous = member.key.public if member.keys else bytes(32)
        check_public(key)
        self._check_statement(index, version, key, previous, signature, member.owner)
        member.keys[version] = KeyRef(index, version, key)
        member.signed_by[version] = member.owner

    def _check_statement(
        self, member: int, version: int, key: bytes, previous: bytes, signature: bytes, expected: str
    ) -> None:
        statement = key_statement(self.realm, member, version, key, previous)
        try:
            signer = Account.recover_message(encode_defunct(primitive=statement), signature=signature)
        except Exception as error:  # eth_account raises several kinds for a malformed signature
            raise WrongLedger("the ledger shows a key with a malformed signature") from error
        if signer != expected:
            raise WrongLedger(
                f"the ledger shows a key of member {member} that its owner {expected} has not signed",
                remedy="use another endpoint; this one makes keys up",
            )
