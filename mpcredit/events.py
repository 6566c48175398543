"""What the two contracts say, as typed events, and what they can be told, as calls.

The words of `contracts/interfaces/`, in Python. Decoding logs is the chain adapter's work; what the events mean together
is `state`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from mpcredit.encoding import to_hex

__all__ = [
    "AggregateClosed",
    "Anchored",
    "Approved",
    "Attested",
    "Call",
    "Change",
    "ConsentRevoked",
    "Contributed",
    "Event",
    "Executed",
    "Expired",
    "JointCreditReplaced",
    "MaskKeysSealed",
    "Noticed",
    "Opened",
    "Opening",
    "Parameters",
    "Position",
    "Proposed",
    "ReadinessLapsed",
    "ReadinessSet",
    "Refusal",
    "Reported",
    "RosterChanged",
    "SchemaRegistered",
    "Stage",
    "TermsSet",
    "Voted",
    "Withdrawn",
    "members_of",
]


def members_of(bitmap: int) -> tuple[int, ...]:
    """List the member indices whose bit is set, ascending."""
    return tuple(index for index in range(bitmap.bit_length()) if bitmap >> index & 1)


class Stage(IntEnum):
    """Stages of an inquiry, as in `IJointCredit.Stage`."""

    NONE = 0
    OPEN = 1
    COMPLETE = 2
    REPORTED = 3
    VALID = 4
    VOID = 5
    REFUSED = 6
    EXPIRED = 7

    @property
    def ended(self) -> bool:
        """Whether no contribution can be accepted any more and nothing is awaited but a verdict."""
        return self >= Stage.REPORTED

    @property
    def failed(self) -> bool:
        """Whether the inquiry ended without a total that counts."""
        return self in (Stage.VOID, Stage.REFUSED, Stage.EXPIRED)


class Change(IntEnum):
    """Kinds of roster change, as in `IConsortium.Change`; ABI types of their data in `CHANGE_TYPES`."""

    FOUNDED = 0
    MEMBER_INVITED = 1
    MEMBER_CONFIRMED = 2
    MEMBER_REMOVED = 3
    OWNER_REPLACED = 4
    ACCOUNT_NAMED = 5
    ACCOUNT_TAKEN = 6
    KEY_SET = 7
    MEMBER_AUDITED = 8
    MEMBER_SUSPENDED = 9
    MEMBER_REINSTATED = 10
    GROUP_SET = 11
    SUPERVISOR_ADDED = 12
    SUPERVISOR_REMOVED = 13
    PERIOD_KEY_ANNOUNCED = 14
    PERIOD_KEY_IN_FORCE = 15
    PERIOD_KEY_ENDED = 16
    TAG_KEY_SET = 17
    TERMS_CHANGED = 18
    SCHEMA_SET = 19
    JOINT_CREDIT_APPROVED = 20
    JOINT_CREDIT_SET = 21


@dataclass(frozen=True)
class Position:
    """Where on the ledger an event stands."""

    block: int
    block_hash: bytes
    log_index: int
    """Index of the log in its block."""
    timestamp: int
    """Of the block, unix seconds."""
    transaction: bytes
    """Hash of the transaction, 32 bytes."""
    contract: str
    """Checksum address of the contract that emitted it."""


@dataclass(frozen=True)
class Event:
    """Any event of the two contracts."""

    at: Position


# --------------------------------------------------------------------- Consortium


@dataclass(frozen=True)
class Parameters:
    """Terms of the consortium, as in `IConsortium.Parameters`; times in seconds."""

    minimum_cohort: int
    minimum_modulus_bits: int
    answer_seconds: int
    report_seconds: int
    silence_seconds: int
    window_seconds: int
    cooldown_seconds: int
    repeat_seconds: int
    delay_seconds: int
    subjects_per_day: int
    book_age_seconds: int


@dataclass(frozen=True)
class RosterChanged(Event):
    """A link of the roster's hash chain (R39)."""

    roster: bytes
    kind: Change
    data: bytes
    """ABI-encoded, by kind."""


@dataclass(frozen=True)
class SchemaRegistered(Event):
    """A figure schema; immutable once registered."""

    schema: int
    definition: bytes


@dataclass(frozen=True)
class TermsSet(Event):
    """New terms, from the next inquiry on."""

    parameters: Parameters


@dataclass(frozen=True)
class ReadinessSet(Event):
    """A member will be in cohorts, or not, from the next full period of readiness on."""

    member: int
    ready: bool


@dataclass(frozen=True)
class ReadinessLapsed(Event):
    """Members that stayed silent are switched off from the next full period on."""

    members: int
    """Bitmap."""


@dataclass(frozen=True)
class MaskKeysSealed(Event):
    """A member's pair mask keys, sealed to a period key (R11)."""

    member: int
    key_version: int
    """Of the sender's own key, as the sender states it: the seal is bound to it."""
    period: int
    """Version of the period key, as the sender states it."""
    sealed_keys: bytes


@dataclass(frozen=True)
class Anchored(Event):
    """The head of a party's audit log, on days without a report or verdict."""

    owner: str
    """Owner account of the party."""
    head: bytes


@dataclass(frozen=True)
class Noticed(Event):
    """A sealed message of one party to others."""

    owner: str
    """Owner account of the party."""
    message: bytes


@dataclass(frozen=True)
class JointCreditReplaced(Event):
    """The current contract for new inquiries."""

    previous: str
    current: str


@dataclass(frozen=True)
class Proposed(Event):
    """A proposal to change the consortium."""

    proposal: int
    proposer: int
    """Member index."""
    calls_hash: bytes
    calls: tuple[bytes, ...]
    reason: str


@dataclass(frozen=True)
class Voted(Event):
    """A member's vote, or its withdrawal."""

    proposal: int
    member: int
    in_favour: bool


@dataclass(frozen=True)
class Approved(Event):
    """A supervisor's approval, or its withdrawal."""

    proposal: int
    supervisor: str
    """Owner account."""
    given: bool


@dataclass(frozen=True)
class Withdrawn(Event):
    """The proposing member withdrew a proposal."""

    proposal: int


@dataclass(frozen=True)
class Executed(Event):
    """The calls of a proposal were carried out."""

    proposal: int


# --------------------------------------------------------------------- JointCredit


@dataclass(frozen=True)
class Opening:
    """What an inquirer publishes at `open`, as in `IJointCredit.Opening`."""

    nonce: int
    group: int
    repeats: bool
    """Whether the cohort repeats an earlier one (R14)."""
    schema: int
    blocks: int
    currency: str
    """ISO 4217, three letters."""
    roster: bytes
    cohort: int
    """Bitmap of members."""
    n: bytes
    """Paillier modulus, big-endian."""
    key_proof: bytes
    consents: tuple[bytes, ...]
    sealed_subject: bytes
    subject_commitment: bytes
    payload: bytes
    """The inquirer's own contribution: disclosure, then ciphertexts."""

    def arguments(self) -> tuple[Any, ...]:
        """The struct in the order of the contract."""
        return (
            self.nonce,
            self.group,
            self.repeats,
            self.schema,
            self.blocks,
            self.currency.encode("ascii"),
            self.roster,
            self.cohort,
            self.n,
            self.key_proof,
            list(self.consents),
            self.sealed_subject,
            self.subject_commitment,
            self.payload,
        )


@dataclass(frozen=True)
class Opened(Event):
    """An inquiry began."""

    inquiry: bytes
    inquirer: int
    q0: bytes
    account: str
    """Service account that opened it."""
    deadline: int
    """Unix seconds from which `expire` is permitted."""
    opening: Opening


@dataclass(frozen=True)
class Contributed(Event):
    """A furnisher answered with ciphertexts; the last one awaited completes the inquiry."""

    inquiry: bytes
    member: int
    payload: bytes


@dataclass(frozen=True)
class Refusal(Event):
    """A furnisher refused (event `Refused`); the inquiry has ended."""

    inquiry: bytes
    member: int
    code: int
    sealed_cohort: bytes
    """With code WINDOW the cohort to repeat, sealed to the inquirer."""


@dataclass(frozen=True)
class Expired(Event):
    """The inquiry ended at its deadline."""

    inquiry: bytes
    silent: int
    """Bitmap of those that did not answer."""


@dataclass(frozen=True)
class AggregateClosed(Event):
    """The final product of all contributions, all blocks."""

    inquiry: bytes
    aggregate: bytes


@dataclass(frozen=True)
class Reported(Event):
    """The inquirer's report to the supervisor."""

    inquiry: bytes
    commitment: bytes
    sealed_report: bytes
    anchor: bytes


@dataclass(frozen=True)
class Attested(Event):
    """The supervisor's verdict."""

    inquiry: bytes
    supervisor: str
    """Owner account."""
    account: str
    """Service account that gave the verdict."""
    valid: bool
    culprits: int
    """Bitmap."""
    commitment: bytes
    """Of the report that was judged; zeros where there was none."""
    anchor: bytes


@dataclass(frozen=True)
class ConsentRevoked(Event):
    """A member says that a consent was revoked."""

    consent: bytes
    member: int


# --------------------------------------------------------------------- calls


@dataclass(frozen=True)
class Call:
    """One call of a contract, not yet a transaction."""

    contract: str
    """"consortium", or the checksum address of a JointCredit."""
    function: str
    """Name in the contract's ABI."""
    arguments: tuple[Any, ...] = field(default=())
    judged_at: int = field(default=0, compare=False)
    """Least time, unix seconds, of the block for which the sender made it; 0: any block. The newest block can be older, and
    its gas must not be estimated there."""

    def describe(self) -> dict[str, Any]:
        """A JSON form for the outbox and for people; long bytes are cut."""

        def short(value: Any) -> Any:
            if isinstance(value, bytes):
                return to_hex(value) if len(value) <= 32 else f"{to_hex(value[:8])}… ({len(value)} bytes)"
            if isinstance(value, (list, tuple)):
                return [short(item) for item in value]
            return value

        return {"contract": self.contract, "function": self.function, "arguments": short(self.arguments)}
