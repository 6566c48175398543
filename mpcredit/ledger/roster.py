"""The roster, folded from its hash chain: members, supervisors, their accounts and keys, readiness and terms (R39).

The fold trusts the endpoint that delivered the events as little as it can: it recomputes the chain and the owners'
signatures of keys and accounts (R9), and compares owners with the pins. Inquiries, proposals and notices are `state`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from eth_account import Account
from eth_account.messages import encode_defunct

from mpcredit import events as ev
from mpcredit.encoding import abi_decode, abi_encode, keccak
from mpcredit.errors import InvalidMessage, WrongLedger
from mpcredit.events import Change, members_of
from mpcredit.pairkeys import KeyRef, PeriodRef, Realm, check_public

__all__ = [
    "CHANGE_TYPES",
    "SUPERVISOR",
    "Member",
    "Naming",
    "PeriodKey",
    "Pins",
    "Roster",
    "Supervisor",
    "account_statement",
    "key_statement",
    "roster_link",
    "roster_start",
]

SUPERVISOR = 255
"""Stands for the supervisor where a member index is asked for, in statements and disclosures."""

CHANGE_TYPES: Mapping[Change, tuple[str, ...]] = {
    Change.FOUNDED: ("uint64", "uint8"),
    Change.MEMBER_INVITED: ("uint8", "address", "string"),
    Change.MEMBER_CONFIRMED: ("uint8",),
    Change.MEMBER_REMOVED: ("uint8",),
    Change.OWNER_REPLACED: ("uint8", "address"),
    Change.ACCOUNT_NAMED: ("uint8", "address", "address", "uint16", "bytes32", "bytes"),
    Change.ACCOUNT_TAKEN: ("uint8", "address"),
    Change.KEY_SET: ("uint8", "uint32", "bytes32", "bool", "bytes"),
    Change.MEMBER_AUDITED: ("uint8", "uint32", "uint32"),
    Change.MEMBER_SUSPENDED: ("uint8",),
    Change.MEMBER_REINSTATED: ("uint8",),
    Change.GROUP_SET: ("uint8", "uint256"),
    Change.SUPERVISOR_ADDED: ("address",),
    Change.SUPERVISOR_REMOVED: ("address",),
    Change.PERIOD_KEY_ANNOUNCED: ("uint32", "bytes32", "address", "bytes"),
    Change.PERIOD_KEY_IN_FORCE: ("uint32",),
    Change.PERIOD_KEY_ENDED: ("uint32",),
    Change.TAG_KEY_SET: ("uint32", "bytes32"),
    Change.TERMS_CHANGED: ("uint8", "uint16", *["uint32"] * 9),
    Change.SCHEMA_SET: ("uint16", "bytes32"),
    Change.JOINT_CREDIT_APPROVED: ("bytes32",),
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
    """The 32 bytes that an owner signs (EIP-191) for an institution key or a period key (R9, R12)."""
    return keccak(
        abi_encode(
            ["bytes32", "uint256", "address", "uint8", "uint32", "bytes32", "bytes32"],
            [_label("mpcredit/key/2"), realm.chain_id, realm.consortium, member, version, key, previous],
        )
    )


def account_statement(realm: Realm, party: int, owner: str, account: str, number: int, tenure: bytes) -> bytes:
    """The 32 bytes that an owner signs (EIP-191) for a naming of its service account (R9).

    Args:
        party: member index, or SUPERVISOR.
        number: of the naming, from 1.
        tenure: of the member's store; zeros for a supervisor.
    """
    return keccak(
        abi_encode(
            ["bytes32", "uint256", "address", "uint8", "address", "address", "uint16", "bytes32"],
            [_label("mpcredit/account/2"), realm.chain_id, realm.consortium, party, owner, account, number, tenure],
        )
    )


@dataclass(frozen=True)
class Pins:
    """What this party accepts: owner accounts and period keys, from the founding file or confirmed by its people."""

    owners: Mapping[int, frozenset[str]] | None = None
    """By member index; None accepts what the ledger shows (only for a reader who stakes nothing on it)."""
    supervisors: frozenset[str] | None = None
    """Owner accounts of supervisors; None as above."""
    founding_supervisors: frozenset[str] = frozenset()
    """Those that the founding file names: period key 1 of one of them needs no person."""
    period_keys: frozenset[bytes] | None = None
    """Public period keys that a person has compared; None as above."""

    def accepts_owner(self, member: int, owner: str) -> bool:
        """Whether keys signed by this owner may be used for this member."""
        return self.owners is None or owner in self.owners.get(member, frozenset())

    def accepts_supervisor(self, owner: str) -> bool:
        """Whether this party accepts the owner account of a supervisor."""
        return self.supervisors is None or owner in self.supervisors

    def accepts_period_key(self, key: PeriodKey) -> bool:
        """Whether anything may be sealed to this period key (R12)."""
        if not self.accepts_supervisor(key.supervisor):
            return False
        first = key.version == 1 and key.supervisor in self.founding_supervisors
        return self.period_keys is None or first or key.public in self.period_keys


@dataclass(frozen=True)
class Naming:
    """A service account, as its owner named it."""

    account: str
    number: int
    """From 1."""
    tenure: bytes
    """Of the member's store, 32 bytes; zeros for a supervisor."""
    at: ev.Position
    roster: bytes
    """The roster from this naming on."""


@dataclass
class Member:
    """One institution, as the roster has it now."""

    index: int
    owner: str
    name: str
    account: str | None = None
    """Service account; None while none is named."""
    namings: list[Naming] = field(default_factory=list)
    """Oldest first."""
    since: int = 0
    """Time of the last naming with another tenure, unix seconds: nothing opened until then is answered."""
    keys: dict[int, KeyRef] = field(default_factory=dict)
    """By version; the newest is current."""
    signed_by: dict[int, str] = field(default_factory=dict)
    """Owner account that signed the key, by version."""
    compromised: set[int] = field(default_factory=set)
    """Versions that the member has called compromised."""
    audited: dict[int, int] = field(default_factory=dict)
    """By period key version: the key version that passed its mask audit."""
    confirmed: bool = False
    suspended: bool = False
    removed: bool = False

    @property
    def key(self) -> KeyRef:
        """The newest institution key.

        Raises:
            InvalidMessage: the member has not confirmed yet.
        """
        if not self.keys:
            raise InvalidMessage(f"{self.name} has no institution key", remedy=f"{self.name} must confirm its record")
        return self.keys[max(self.keys)]

    @property
    def active(self) -> bool:
        """Whether it is confirmed and not removed."""
        return self.confirmed and not self.removed

    def account_at(self, at: ev.Position) -> str | None:
        """The service account that was named last before a place on the ledger; None before the first."""
        named = [one for one in self.namings if (one.at.block, one.at.log_index) < (at.block, at.log_index)]
        return named[-1].account if named else None

    @property
    def tenure(self) -> bytes | None:
        """The tenure that was named last; None before the first."""
        return self.namings[-1].tenure if self.namings else None

    def key_under(self, period: int) -> KeyRef | None:
        """The key that cohorts use under a period key: the audited one; None while there is none."""
        version = self.audited.get(period)
        return None if version is None else self.keys[version]


@dataclass
class Supervisor:
    """One supervisor, as the roster has it now."""

    owner: str
    account: str | None = None
    """Service account; None while none is named."""
    namings: list[Naming] = field(default_factory=list)
    since: int = 0
    """When it was added last, unix seconds: approvals that it gave before do not count."""


@dataclass(frozen=True)
class PeriodKey:
    """A key of a supervisor for a period (R12)."""

    version: int
    public: bytes
    supervisor: str
    """Owner account of the supervisor that announced it."""
    announced_at: int
    """Unix seconds."""

    @property
    def ref(self) -> PeriodRef:
        """What keys of the period are derived with."""
        return PeriodRef(self.version, self.public)


class Roster:
    """The fold of the roster's chain and of readiness.

    Args:
        realm: chain id and Consortium.
        pins: what this reader accepts.
    """

    def __init__(self, realm: Realm, pins: Pins | None = None) -> None:
        self.realm = realm
        self.pins = pins or Pins()
        self.roster = roster_start(realm)
        self.roster_history: list[ev.RosterChanged] = []
        self.opens_from = 0
        """Unix seconds before which nothing opens."""
        self.period_seconds = 60
        """Length of the periods of readiness."""
        self.members: dict[int, Member] = {}
        self.supervisors: dict[str, Supervisor] = {}
        """By owner account."""
        self.former_supervisors: dict[str, Supervisor] = {}
        """Removed, by owner account: their namings count on where they are added again."""
        self.period_keys: dict[int, PeriodKey] = {}
        """All that were ever announced, by version."""
        self.in_force: int | None = None
        """Version of the period key in force."""
        self.announced_key: int | None = None
        """Version of the period key that waits to be put in force."""
        self.ended_keys: set[int] = set()
        """Versions that a supervisor ended, or whose supervisor was removed: nothing is answered under them."""
        self.groups: dict[int, int] = {}
        self.tag_keys: dict[int, bytes] = {}
        self.schema_hashes: dict[int, bytes] = {}
        """Of the definitions, as the roster names them."""
        self.parameters: ev.Parameters | None = None
        self.joint_credit: str | None = None
        self.joint_credit_code: bytes | None = None
        """Hash of the init code from which the current JointCredit was created."""
        self._approved_code: bytes | None = None
        self._ready = 0
        """Bitmap of the members that are ready in the period `_period`."""
        self._period = 0
        self._ready_next = 0
        """From the period after that on."""

    # ----------------------------------------------------------------- reading

    @property
    def period_key(self) -> PeriodKey | None:
        """The one in force; None while there is none."""
        return None if self.in_force is None else self.period_keys[self.in_force]

    def active(self) -> tuple[int, ...]:
        """Members that are confirmed and not removed."""
        return tuple(i for i, member in sorted(self.members.items()) if member.active)

    def serving_key(self, member: int) -> KeyRef | None:
        """The key with which a member is in cohorts now; None while it does not serve."""
        found = self.members.get(member)
        if found is None or self.in_force is None or not found.active or found.suspended:
            return None
        return found.key_under(self.in_force)

    def is_serving(self, member: int) -> bool:
        """Whether a member may be in a cohort when ready."""
        return self.serving_key(member) is not None

    def serving(self) -> int:
        """Bitmap of the members that may be in a cohort when ready."""
        return sum(1 << index for index in self.members if self.is_serving(index))

    def ready(self, at: int) -> int:
        """Bitmap of the members that are ready at a time (unix seconds), whether they serve or not."""
        return self._ready_next if at // self.period_seconds > self._period else self._ready

    def ready_next(self) -> int:
        """Bitmap of the members that are ready from the next full period on."""
        return self._ready_next

    def cohort(self, group: int, at: int) -> int:
        """The bitmap that `open` would freeze at a time (R14), whoever asks."""
        bitmap = self.ready(at) & self.serving()
        return bitmap if group == 0 else bitmap & self.groups.get(group, 0)

    def unpinned(self, cohort: int) -> tuple[int, ...]:
        """Members of a cohort (or SUPERVISOR) whose serving key, or period key, this reader does not accept."""
        found = []
        for index in members_of(cohort):
            key = self.serving_key(index) or self.members[index].key
            if not self.pins.accepts_owner(index, self.members[index].signed_by[key.version]):
                found.append(index)
        if self.period_key is not None and not self.pins.accepts_period_key(self.period_key):
            found.append(SUPERVISOR)
        return tuple(found)

    def member_of(self, account: str, has_key: Callable[[Member], bool], index: int | None = None) -> Member | None:
        """The member that an institution is, whose service account this is.

        Args:
            has_key: whether the institution has a member's key. Another member can name the account, but has no such key.
            index: of the member that the institution's store has worked for. Another member could name the account, and
                register the institution's next key before it does.
        """
        found = [m for m in self.by_account(account) if index is None or m.index == index]
        if len(found) > 1:
            found = [m for m in found if m.keys and has_key(m)]
        return found[0] if found else None

    def by_account(self, account: str) -> tuple[Member, ...]:
        """The members whose service account this is; accounts need not be unique."""
        return tuple(member for member in self.members.values() if member.account == account)

    def by_owner(self, owner: str) -> Member | None:
        """The member that an account owns."""
        return next((m for m in self.members.values() if m.owner == owner and not m.removed), None)

    def by_name(self, name: str) -> Member | None:
        """The member of that name."""
        return next((m for m in self.members.values() if m.name == name and not m.removed), None)

    # ----------------------------------------------------------------- folding

    def _set_ready(self, at: int, bitmap: int) -> None:
        """Change readiness from the period after that of a time on."""
        period = at // self.period_seconds
        if period > self._period:
            self._ready, self._period = self._ready_next, period
        self._ready_next = bitmap

    def _switch_off(self, member: int) -> None:
        """Not ready any more, at once."""
        self._ready &= ~(1 << member)
        self._ready_next &= ~(1 << member)

    def _readiness(self, event: ev.ReadinessSet | ev.ReadinessLapsed) -> None:
        match event:
            case ev.ReadinessSet(member=member, ready=ready):
                bit = 1 << self.members[member].index
                self._set_ready(event.at.timestamp, self._ready_next | bit if ready else self._ready_next & ~bit)
            case ev.ReadinessLapsed(members=members):
                for index in members_of(members):
                    _ = self.members[index]  # a member that was never shown is a contradiction
                self._set_ready(event.at.timestamp, self._ready_next & ~members)

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
        if event.kind in _OF_SUPERVISORS:
            self._supervisors_changed(event, *values)
        elif event.kind in _OF_MEMBERS:
            self._members_changed(event, *values)
        else:
            self._terms_changed(event, *values)

    def _members_changed(self, event: ev.RosterChanged, index: int, *values: object) -> None:
        match event.kind, values:
            case Change.MEMBER_INVITED, (str(owner), str(name)):
                self.members[index] = Member(index, owner, name)
            case Change.MEMBER_CONFIRMED, _:
                self.members[index].confirmed = True
            case Change.MEMBER_REMOVED, _:
                self.members[index].removed = True
                self.members[index].account = None
                self._switch_off(index)
            case Change.OWNER_REPLACED, (str(owner),):
                self.members[index].owner = owner
            case Change.ACCOUNT_NAMED, (str(owner), str(account), int(number), bytes(tenure), bytes(signature)):
                self._account_named(event, index, owner, account, number, tenure, signature)
            case Change.ACCOUNT_TAKEN, (str(owner),):
                self._party(index, owner).account = None
                if index != SUPERVISOR:
                    self._switch_off(index)
            case Change.KEY_SET, (int(version), bytes(key), bool(compromised), bytes(signature)):
                self._key_set(index, version, key, compromised, signature)
            case Change.MEMBER_AUDITED, (int(version), int(period)):
                self.members[index].audited[period] = self.members[index].keys[version].version
            case Change.MEMBER_SUSPENDED, _:
                self.members[index].suspended = True
            case Change.MEMBER_REINSTATED, _:
                self.members[index].suspended = False

    def _party(self, index: int, owner: str) -> Member | Supervisor:
        return self.supervisors[owner] if index == SUPERVISOR else self.members[index]

    def _account_named(
        self,
        event: ev.RosterChanged,
        index: int,
        owner: str,
        account: str,
        number: int,
        tenure: bytes,
        signature: bytes,
    ) -> None:
        party = self._party(index, owner)
        statement = account_statement(self.realm, index, owner, account, number, tenure)
        self._check_signature(statement, signature, party.owner, "a service account")
        if number != len(party.namings) + 1:
            raise WrongLedger(
                "the ledger shows namings of a service account that do not follow one another",
                remedy="use another endpoint; this one leaves changes out or makes them up",
            )
        if isinstance(party, Member) and tenure != party.tenure:
            party.since = event.at.timestamp
        party.account = account
        party.namings.append(Naming(account, number, tenure, event.at, event.roster))

    def _key_set(self, index: int, version: int, key: bytes, compromised: bool, signature: bytes) -> None:
        member = self.members[index]
        previous = member.key.public if member.keys else bytes(32)
        check_public(key)
        statement = key_statement(self.realm, index, version, key, previous)
        self._check_signature(statement, signature, member.owner, f"a key of {member.name}")
        if compromised:
            member.compromised |= set(member.keys)
            for period in (self.in_force, self.announced_key):
                if period is not None:
                    member.audited.pop(period, None)
        member.keys[version] = KeyRef(index, version, key)
        member.signed_by[version] = member.owner

    def _supervisors_changed(self, event: ev.RosterChanged, *values: object) -> None:
        match event.kind, values:
            case Change.SUPERVISOR_ADDED, (str(owner),):
                earlier = self.former_supervisors.pop(owner, None)
                self.supervisors[owner] = earlier or Supervisor(owner)
                self.supervisors[owner].since = event.at.timestamp
            case Change.SUPERVISOR_REMOVED, (str(owner),):
                self.former_supervisors[owner] = self.supervisors.pop(owner)
                self.former_supervisors[owner].account = None
            case Change.PERIOD_KEY_ANNOUNCED, (int(version), bytes(key), str(owner), bytes(signature)):
                if owner not in self.supervisors:
                    raise WrongLedger(
                        f"the ledger shows a period key of {owner}, which is no supervisor",
                        remedy="use another endpoint; this one makes keys up",
                    )
                previous = self.period_keys[max(self.period_keys)].public if self.period_keys else bytes(32)
                statement = key_statement(self.realm, SUPERVISOR, version, key, previous)
                self._check_signature(statement, signature, owner, "a period key")
                self.period_keys[version] = PeriodKey(version, key, owner, event.at.timestamp)
                self.announced_key = version
            case Change.PERIOD_KEY_IN_FORCE, (int(version),):
                self.in_force, self.announced_key = self.period_keys[version].version, None
            case Change.PERIOD_KEY_ENDED, (int(version),):
                self.ended_keys.add(version)
                if version == self.in_force:
                    self.in_force = None
                if version == self.announced_key:
                    self.announced_key = None

    def _terms_changed(self, event: ev.RosterChanged, *values: object) -> None:
        match event.kind, values:
            case Change.FOUNDED, (int(opens_from), int(period_seconds)):
                self.opens_from, self.period_seconds = opens_from, max(1, period_seconds)
            case Change.GROUP_SET, (int(group), int(members)):
                self.groups[group] = members
            case Change.TAG_KEY_SET, (int(version), bytes(commitment)):
                self.tag_keys[version] = commitment
            case Change.TERMS_CHANGED, _:
                self.parameters = ev.Parameters(*(int(str(value)) for value in values))
            case Change.SCHEMA_SET, (int(schema), bytes(definition)):
                self.schema_hashes[schema] = definition
            case Change.JOINT_CREDIT_APPROVED, (bytes(code),):
                self._approved_code = code
            case Change.JOINT_CREDIT_SET, (str(contract),):
                self.joint_credit = contract
                self.joint_credit_code, self._approved_code = self._approved_code, None

    def _check_signature(self, statement: bytes, signature: bytes, expected: str, what: str) -> None:
        try:
            signer = Account.recover_message(encode_defunct(primitive=statement), signature=signature)
        except Exception as error:  # eth_account raises several kinds for a malformed signature
            raise WrongLedger(f"the ledger shows {what} with a malformed signature") from error
        if signer != expected:
            raise WrongLedger(
                f"the ledger shows {what} that its owner {expected} has not signed",
                remedy="use another endpoint; this one makes it up",
            )


_OF_SUPERVISORS = frozenset(
    {
        Change.SUPERVISOR_ADDED,
        Change.SUPERVISOR_REMOVED,
        Change.PERIOD_KEY_ANNOUNCED,
        Change.PERIOD_KEY_IN_FORCE,
        Change.PERIOD_KEY_ENDED,
    }
)
_OF_MEMBERS = frozenset(
    {
        Change.MEMBER_INVITED,
        Change.MEMBER_CONFIRMED,
        Change.MEMBER_REMOVED,
        Change.OWNER_REPLACED,
        Change.ACCOUNT_NAMED,
        Change.ACCOUNT_TAKEN,
        Change.KEY_SET,
        Change.MEMBER_AUDITED,
        Change.MEMBER_SUSPENDED,
        Change.MEMBER_REINSTATED,
    }
)
