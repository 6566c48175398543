"""What a contract says when it reverts, as our exceptions: which rule refused, and who must do what about it.

`revert_data` finds the revert data in what web3, eth-tester and the usual nodes raise; `fault` makes it an exception:

- a rule of the contracts said no: `ContractRefused`, a `Refused` whose `code` is the name of the contract's error;
- the chain or the contracts are not what they should be, or the revert says nothing: `TransactionFailed`.

`FAULTS` has an entry for every error of both contracts and no other; a test holds it to the ABIs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from mpcredit.chain.artifacts import abi_type, consortium, joint_credit
from mpcredit.encoding import abi_decode, to_hex
from mpcredit.errors import InvalidEncoding, MpcreditError, Refused, TransactionFailed
from mpcredit.events import Stage, members_of

__all__ = ["FAULTS", "ContractRefused", "Fault", "Revert", "decode_revert", "fault", "revert_data"]


class ContractRefused(Refused):
    """A rule of the contracts said no.

    Args:
        code: name of the contract's error, for example "WrongStage".
        arguments: its arguments by name.
    """

    def __init__(self, message: str, *, code: str, arguments: Mapping[str, object], remedy: str = "") -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.arguments = dict(arguments)


@dataclass(frozen=True)
class Fault:
    """What to tell somebody about a contract's error. `{name}` stands for an argument."""

    problem: str
    remedy: str
    rule: bool = True
    """Whether a rule refused what was asked; else the chain or the contracts are to blame."""


FAULTS: dict[str, Fault] = {
    # ------------------------------------------------ who may act
    "NotMember": Fault(
        "the account {account} owns no confirmed member of the consortium",
        "send this from the owner account of a member; an invited institution must confirm its record first",
    ),
    "NotOwner": Fault(
        "the account {account} is not the owner of member {member}",
        "send this from the owner account of member {member}; if that is lost, the others propose replaceOwner",
    ),
    "NotAccount": Fault(
        "the account {sender} is not the service account of that party, which is {account}",
        "correct [ledger] account, or let the owner account name {sender} (`mpcredit member appoint`)",
    ),
    "NotPlainAccount": Fault(
        "the service account {sender} has code, or a contract sends for it",
        "take the account's delegation (EIP-7702) back, or let the owner name a plain account (`mpcredit member appoint`)",
    ),
    "NotSupervisor": Fault(
        "the account {account} is not the owner account of a supervisor",
        "send this from a supervisor's owner account; a new supervisor is added by proposal (addSupervisor)",
    ),
    "NotJointCredit": Fault(
        "{account} is not a JointCredit that this consortium created",
        "nobody but a JointCredit of the consortium calls this; call JointCredit instead",
    ),
    "NotCurrentJointCredit": Fault(
        "the JointCredit at {account} opens no inquiries any more: {current} has taken its place",
        "open the inquiry at {current}; running inquiries end where they began",
    ),
    "OnlyByProposal": Fault(
        "this changes the consortium and so needs a proposal",
        "propose the call, let members vote and a supervisor approve it, then execute the proposal",
    ),
    "NotFounded": Fault(
        "the consortium is not founded yet: {confirmed} of the needed {needed} members have confirmed their records",
        "the remaining founders must confirm their records from their owner accounts",
    ),
    "AccountInUse": Fault(
        "the account {account} owns a party already",
        "use another owner account: each owns one institution, or one supervisor",
    ),
    "ZeroAccount": Fault("the zero address cannot have a part", "give the account's real address"),
    "ZeroTenure": Fault(
        "a naming of a member's account carries the tenure of its store, and that of a supervisor none",
        "name the account with `mpcredit member appoint`, which reads the tenure from the store",
    ),
    "TenureUsed": Fault(
        "the tenure {tenure} was named before, and another one since: that store was displaced",
        "begin a new tenure in the store that is to answer, then name it (`mpcredit member appoint`)",
    ),
    "NothingChanges": Fault("this would change nothing", "nothing is left to do"),
    # ------------------------------------------------ members and keys
    "UnknownMember": Fault(
        "there is no member {member}, or it has been removed or has not confirmed its record",
        "look up the index in the list of members; an invited institution must confirm its record first",
    ),
    "AlreadyConfirmed": Fault(
        "member {member} has confirmed its record already", "to change the institution key, rotate it (rotateKey)"
    ),
    "TooManyMembers": Fault(
        "the consortium has given out all 216 member indices",
        "indices are never used again: the members must found a successor consortium",
    ),
    "BadKey": Fault("the X25519 public key is zero or of low order", "make a new key and give its 32-byte public key"),
    "KeyInUse": Fault("the key {key} is or was in use", "make a new key: none may be used twice or shared"),
    "BadSignature": Fault(
        "the statement is signed by {signer}, not by {owner}",
        "sign it with the owner account {owner}, over what the ledger shows now",
    ),
    "KeyVersion": Fault(
        "key version {given} was given where {expected} is due",
        "read the key version from the ledger again and repeat the step for version {expected}; a proposal of a tag key for "
        "another version can only be withdrawn",
    ),
    "NotServing": Fault(
        "member {member} does not serve in cohorts now",
        "it may be switched off (its service switches it on), lack the mask audit of its key (the supervisor's service "
        "does it), or be suspended (the supervisor's owner reinstates it)",
    ),
    # ------------------------------------------------ cohorts, schemas, groups, parameters
    "CohortTooSmall": Fault(
        "{size} institutions are ready, the consortium asks for at least {minimum}",
        "wait until more institutions are ready, or ask those that are not to start their services",
    ),
    "UnknownGroup": Fault(
        "there is no group {group}", "choose a group that the consortium has set, or 0 for all members"
    ),
    "UnknownSchema": Fault(
        "schema {schema} is not registered",
        "choose a registered schema; a new one is registered by proposal (registerSchema)",
    ),
    "SchemaExists": Fault(
        "schema {schema} is registered already and cannot change", "register the new definition under a new number"
    ),
    "GroupsTooClose": Fault(
        "groups {first} and {second} differ by {difference} members only: two totals would give away few institutions",
        "propose a group that equals each other one (and the set of all members), or differs from it by at least the "
        "minimum cohort",
    ),
    "BadParameter": Fault(
        "the parameter {name} is outside its permitted range", "propose a value within the range that the spec gives"
    ),
    "LastSupervisor": Fault(
        "the only supervisor cannot be removed", "add the successor first, in the same proposal if need be"
    ),
    "NoPeriodKey": Fault(
        "no period key is in force",
        "the supervisor announces one (`mpcredit member period-key`), and puts it in force when the members are audited",
    ),
    "UnknownPeriodKey": Fault(
        "{version} is no period key of that supervisor that is in force or announced",
        "read the period keys from the ledger again (`mpcredit member list`)",
    ),
    "PeriodKeyNotAccepted": Fault(
        "the period key waits for the mask audit of {missing}; audited: {audited}",
        "they accept the key and let their services seal; 7 days after the announcement those that are left out hold up "
        "nobody",
    ),
    "NoticeLength": Fault(
        "a notice has 1 to {most} bytes, this one {length}", "send what is longer in several notices, and nothing empty"
    ),
    # ------------------------------------------------ proposals
    "UnknownProposal": Fault("there is no proposal {proposal}", "look up the number in the list of proposals"),
    "CallsDiffer": Fault(
        "the calls given hash to {given}, the proposal's to {proposed}",
        "read the proposal's calls from the ledger again and decide about those",
    ),
    "NotInElectorate": Fault(
        "member {member} was no member when proposal {proposal} was made",
        "members of that time decide; make a new proposal if yours should count",
    ),
    "AlreadyVoted": Fault(
        "member {member} has voted for proposal {proposal} already", "nothing is left to do; a vote can be withdrawn"
    ),
    "NotVoted": Fault(
        "member {member} has not voted for proposal {proposal}", "nothing is left to do: there is no vote to withdraw"
    ),
    "ProposalExpired": Fault("proposal {proposal} has expired", "make the proposal again"),
    "ProposalWithdrawn": Fault("proposal {proposal} was withdrawn", "make the proposal again, if it is still wanted"),
    "NotProposer": Fault(
        "member {proposer} made this proposal, not member {member}", "the owner of member {proposer} can withdraw it"
    ),
    "AlreadyExecuted": Fault("proposal {proposal} has been executed", "nothing is left to do"),
    "VotesMissing": Fault("the proposal has {votes} of the {needed} votes it needs", "more members must vote for it"),
    "ApprovalMissing": Fault(
        "supervisor {supervisor} has not approved proposal {proposal}",
        "that supervisor must approve it, or name one who has",
    ),
    "TooEarly": Fault("this is permitted from {permittedAt} on", "wait until then and repeat it"),
    "OnlySupervisorChanges": Fault(
        "without a supervisor's approval only a proposal that adds or removes supervisors, and does nothing else, can be "
        "executed",
        "have a supervisor approve it, or propose the other calls apart",
    ),
    "CallFailed": Fault(
        "call {index} of the proposal fails: {reason}", "propose calls that can all be carried out now, in their order"
    ),
    "WouldPass": Fault("the calls could be carried out now, and nothing was changed", "nothing is left to do"),
    "InitCodeDiffers": Fault(
        "the JointCredit init code hashes to {given}, the approved one to {approved}",
        "use the version of mpcredit whose JointCredit the consortium has approved, or propose approveJointCredit for "
        "this one",
    ),
    "CreationFailed": Fault(
        "the approved JointCredit init code does not create a contract on this chain",
        "the chain's operators must tell whether it has the rules of London and code of 24,576 bytes is permitted",
        rule=False,
    ),
    # ------------------------------------------------ inquiries
    "WrongStage": Fault(
        "the inquiry's stage is {actual}, which does not permit this",
        "look at the inquiry's timeline; what should be done next depends on its stage",
    ),
    "NotInCohort": Fault(
        "member {member} is not in the inquiry's cohort", "only the institutions of the cohort take part; do nothing"
    ),
    "NotAwaited": Fault(
        "member {member} is not awaited: it has answered already, or is the inquirer",
        "nothing is left to do: an institution answers once",
    ),
    "RosterMoved": Fault(
        "members, keys, accounts, groups or terms have changed since the masks were made; the roster is now {current}",
        "read the ledger again and open the inquiry anew for the present roster",
    ),
    "CohortMoved": Fault(
        "the institutions ready have changed since the masks were made; they are now {current}",
        "read the ledger again and open the inquiry anew for the present cohort",
    ),
    "NotRepeatable": Fault(
        "the cohort ({cohort}) cannot be repeated over those that are ready now ({ready})",
        "repeat a cohort whose members are all ready, with the inquirer in it, of at least the minimum and two thirds of "
        "those that are ready",
    ),
    "InquiryExists": Fault("the inquiry {inquiry} exists already", "open it with another nonce"),
    "OpenedBeforeTenure": Fault(
        "the inquiry was opened at {opened}, and the store of this member began its tenure at {since}",
        "do not answer it: the store before may have; the inquirer asks again",
    ),
    "ReportOverdue": Fault(
        "a report of this inquirer has been due since {due}",
        "the inquirer must report its completed inquiries, or expire the overdue ones, before it opens another",
    ),
    "TooManyOpen": Fault(
        "this inquirer has 32 inquiries open, the most permitted",
        "wait until some have ended, or expire the overdue ones",
    ),
    "BlocksOutOfRange": Fault(
        "an inquiry has 1 to 16 ciphertext blocks, not {blocks}", "the inquirer must split the batch of subjects"
    ),
    "ModulusWidth": Fault(
        "the Paillier modulus has {length} bytes; it needs at least {minimum}, in steps of 32, and at most 512",
        "the inquirer must make a key of a permitted size (3072 bits is the default)",
    ),
    "ModulusForm": Fault("the Paillier modulus is even, or its first bit is zero", "the inquirer must make a new key"),
    "PayloadLength": Fault(
        "the contribution has {length} bytes where {expected} are due",
        "the sender must send a disclosure of 80 bytes and one ciphertext of fixed width for each block",
    ),
    "CiphertextRange": Fault(
        "ciphertext {block_} is zero or not below n^2", "the sender must encrypt under the inquiry's key"
    ),
    "CiphertextMultipleOfModulus": Fault(
        "ciphertext {block_} is a multiple of n, so no ciphertext", "the sender must encrypt under the inquiry's key"
    ),
    "ConsentsMissing": Fault(
        "the inquiry names no consent receipt",
        "the inquirer must give the hash of the customer's consent for each subject",
    ),
    "RefusalCode": Fault("this is no refusal code", "refuse with one of the codes that the spec lists"),
    "SealedLength": Fault(
        "the sealed cohort of a refusal has {length} bytes, and at most 64 are permitted",
        "refuse with code WINDOW and the sealed cohort, or with another code and nothing",
    ),
    "CommitmentDiffers": Fault(
        "the verdict names the report {given}, the ledger has {stored}",
        "read the ledger again and judge the report that is there",
    ),
    "CulpritsNamed": Fault(
        "a verdict of valid names culprits", "the supervisor must name none, or find the inquiry invalid"
    ),
    "CulpritsOutsideCohort": Fault(
        "the verdict names culprits ({culprits}) outside the cohort",
        "the supervisor must name members of the cohort only",
    ),
    "AggregateGone": Fault(
        "the inquiry has ended and its aggregate has left the contract's storage (hash {aggregateHash})",
        "read it from the event AggregateClosed",
    ),
    "DataNotStored": Fault(
        "the inquiry's data contract could not be created",
        "the inquirer must send it again with more gas; if it persists, the chain's operators must look",
        rule=False,
    ),
    "PrecompileFailed": Fault(
        "the chain's MODEXP precompile failed",
        "the chain's operators must check that its clients have MODEXP (EIP-198) with operands of 1,024 bytes",
        rule=False,
    ),
}

_TIMES = {"opened", "since", "permittedAt", "due"}
_BITMAPS = {"culprits", "missing", "audited", "cohort", "ready"}
_PANICS = {
    0x01: "an assertion does not hold",
    0x11: "an overflow",
    0x12: "a division by zero",
    0x21: "a value outside its enum",
    0x32: "an index out of range",
    0x41: "too much memory",
}


@dataclass(frozen=True)
class Revert:
    """Revert data, decoded. `error` is "" when the contract gave no reason that its ABI describes."""

    error: str
    arguments: dict[str, object]
    data: bytes


@cache
def _selectors() -> dict[bytes, Mapping[str, Any]]:
    return {**consortium().error_selectors(), **joint_credit().error_selectors()}


def decode_revert(data: bytes) -> Revert:
    """Decode revert data; data that no error of the contracts explains comes back with `error` empty."""
    entry = _selectors().get(data[:4])
    if entry is None:
        return Revert("", {}, data)
    try:
        values = abi_decode([abi_type(given) for given in entry["inputs"]], data[4:])
    except (InvalidEncoding, ValueError):
        return Revert("", {}, data)
    return Revert(
        entry["name"], {given["name"]: value for given, value in zip(entry["inputs"], values, strict=True)}, data
    )


def _shown(error: str, name: str, value: object) -> str:
    """Write an argument for people."""
    if isinstance(value, int) and name in _TIMES:
        try:
            return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        except (ValueError, OverflowError, OSError):
            return f"second {value}"
    if isinstance(value, int) and (name in _BITMAPS or (error, name) == ("CohortMoved", "current")):
        return "members " + ", ".join(map(str, members_of(value))) if value else "none"
    if (error, name) == ("WrongStage", "actual") and value in set(Stage):
        return Stage(int(str(value))).name.lower()
    if (error, name) == ("CallFailed", "reason") and isinstance(value, bytes):
        return fault(value).message
    return to_hex(value) if isinstance(value, bytes) else str(value)


def _unexplained(data: bytes) -> tuple[str, str]:
    """Say what can be said of revert data that is none of the contracts' errors."""
    try:
        if data[:4] == bytes.fromhex("08c379a0"):
            return f"the contract reverted: {abi_decode(['string'], data[4:])[0]}", ""
        if data[:4] == bytes.fromhex("4e487b71"):
            code = abi_decode(["uint256"], data[4:])[0]
            return (
                f"the contract stopped at an internal error ({_PANICS.get(code, f'panic 0x{code:02x}')})",
                "report this to the developers with the call that caused it",
            )
    except (InvalidEncoding, ValueError):
        pass
    if not data:
        return (
            "the contract reverted without a reason",
            "check that the address is that of the right contract and version, and that the gas sufficed",
        )
    return (
        f"the contract reverted with {to_hex(data[:68])}, which this version of mpcredit does not know",
        "ask the consortium which version its contracts need",
    )


def fault(data: bytes) -> ContractRefused | TransactionFailed:
    """Turn revert data into the exception to raise."""
    revert = decode_revert(data)
    entry = FAULTS.get(revert.error)
    if entry is None:
        message, remedy = _unexplained(data)
        return TransactionFailed(message, error=revert.error, arguments=revert.arguments, remedy=remedy)
    shown = {name: _shown(revert.error, name, value) for name, value in revert.arguments.items()}
    problem, remedy = entry.problem.format_map(shown), entry.remedy.format_map(shown)
    if entry.rule:
        return ContractRefused(problem, code=revert.error, arguments=revert.arguments, remedy=remedy)
    return TransactionFailed(problem, error=revert.error, arguments=revert.arguments, remedy=remedy)


# --------------------------------------------------------------------- finding the data

_HEX_DATA = re.compile(r"(?:Reverted )?0x((?:[0-9a-fA-F]{2})*)")
_BYTES_LITERAL = re.compile(r"(b'.*'|b\".*\")$", re.DOTALL)


def _from_text(text: str) -> bytes | None:
    text = text.strip()
    if match := _HEX_DATA.fullmatch(text):  # geth, Anvil, Besu; "Reverted 0x…" is Nethermind's
        return bytes.fromhex(match[1])
    if match := _BYTES_LITERAL.search(text):  # eth-tester prints the bytes
        try:
            literal = ast.literal_eval(match[1])
        except (ValueError, SyntaxError):
            return None
        return literal if isinstance(literal, bytes) else None
    return None


def _candidates(value: object) -> Iterator[bytes | None]:
    if isinstance(value, bytes):
        yield bytes(value)
    elif isinstance(value, str):
        yield _from_text(value)
    elif isinstance(value, BaseException):  # py-evm's own, inside of eth-tester's
        for inner in value.args:
            yield from _candidates(inner)
    elif isinstance(value, Mapping):
        for key in ("data", "error", "return", "result", "output"):
            if key in value:
                yield from _candidates(value[key])
        for inner in value.values():  # some nodes put the answer under the transaction's hash
            if isinstance(inner, Mapping):
                yield from _candidates(inner)


def revert_data(error: BaseException) -> bytes | None:
    """Find the revert data in what web3 or eth-tester raised for a call, an estimate or a transaction.

    Returns:
        The data, empty if the contract gave none; None if the error is not a revert at all.
    """
    if isinstance(error, MpcreditError):
        return None
    response = getattr(error, "rpc_response", None)
    sources = [getattr(error, "data", None), response, *error.args]
    found = [data for source in sources for data in _candidates(source) if data is not None]
    if any(found):
        return max(found, key=len)
    names = {kind.__name__ for kind in type(error).__mro__}
    # ContractLogicError is web3's word for a revert, TransactionFailed eth-tester's.
    if names & {"ContractLogicError", "TransactionFailed"} or "revert" in str(error).lower():
        return b""
    return None
