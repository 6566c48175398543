"""One file that proves an inquiry to somebody without a ledger node (R40).

It holds the signed transactions as their senders made them, the roster's history, and the openings of the aggregate.
The verdict names the report's commitment, which fixes q and the openings, and so the aggregate: no other totals fit it.
`verify_evidence` needs nothing else: it recovers who signed what, recomputes the ids, the product and the totals, and names
who lied. What it cannot prove is inclusion in a block: compare with the ledger (`mpcredit verify --ledger`) for that.

The history of a roster is signed by nobody, so anybody can write one under any consortium's address, with parties of their
own. A reader who does not trust the giver of the file must know a value of the roster itself (`Consortium.roster()` on any
node, at the opening or later), which fixes members, accounts, terms, schemas and contracts; or have the founding file, since
owners sign their keys and service accounts. What a file was compared with is in `VerifiedEvidence.compared`; with neither, it
is only consistent in itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes

from mpcredit import paillier, protocol
from mpcredit.encoding import abi_decode, hex_bytes, keccak, to_hex
from mpcredit.errors import (
    InvalidEncoding,
    InvalidFile,
    InvalidMessage,
    InvalidProof,
    MpcreditError,
    ProtocolViolation,
    WrongLedger,
)
from mpcredit.events import Change, Event, Opening, Position, RosterChanged, members_of
from mpcredit.keyproof import check_key
from mpcredit.ledger.roster import SUPERVISOR, Pins, roster_link, roster_start
from mpcredit.pairkeys import Realm
from mpcredit.schema import Schema
from mpcredit.sealing import report_commitment
from mpcredit.state import Inquiry, LedgerState

__all__ = ["Evidence", "VerifiedEvidence", "collect", "verify_evidence"]

FORMAT = "mpcredit/evidence"
_VERSION: Final = 2
OPENING_TYPE = "(uint64,uint8,bool,uint16,uint8,bytes3,bytes32,uint256,bytes,bytes,bytes32[],bytes,bytes32,bytes)"
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "open": ("uint8", OPENING_TYPE),
    "contribute": ("bytes32", "uint8", "bytes"),
    "report": ("bytes32", "bytes32", "bytes", "bytes32"),
    "attest": ("bytes32", "address", "bool", "uint256", "bytes32", "bytes32"),
}
"""Of JointCredit, with the types of their arguments."""


@dataclass(frozen=True)
class Evidence:
    """The contents of the file, as a JSON object."""

    value: Mapping[str, Any]

    def save(self, path: str | Path) -> Path:
        """Write the file; it contains totals, so only its owner may read it."""
        target = Path(path)
        temporary = target.with_name(target.name + ".tmp")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(self.value, indent=1) + "\n", encoding="utf-8")
        temporary.replace(target)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Evidence:
        """Read a file.

        Raises:
            InvalidFile: there is none, or it is no evidence of a version this program knows.
        """
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InvalidFile(
                str(path), f"cannot be read: {error}", "give the file that `mpcredit evidence` wrote"
            ) from error
        if not isinstance(value, dict) or value.get("format") != FORMAT or value.get("version") != _VERSION:
            raise InvalidFile(str(path), "is no evidence of version 2", "give the file that `mpcredit evidence` wrote")
        return cls(value)


@dataclass(frozen=True)
class VerifiedEvidence:
    """What the file proves."""

    realm: Realm
    inquiry: bytes
    inquirer: str
    institutions: tuple[str, ...]
    """Names of the cohort."""
    currency: str
    totals: list[dict[str, int]]
    """One record of sums per subject, in minor units."""
    attested: bool
    """Whether the supervisor's signed verdict `valid` on this very report is in the file."""
    verdict_stood: tuple[bytes, bytes | None] | None
    """Rosters between which the account that signed the verdict stood; the second is None if it stands at the end of the
    history. When the verdict was signed is unproven: `mpcredit verify` with a node looks into its block."""
    roster: bytes
    """Of the opening; whoever knows no roster must compare it with the ledger."""
    schema_hash: bytes
    """Of the definition that gives the figures their names, as the roster names it."""
    compared: tuple[str, ...]
    """What of the reader's own it was compared with: "consortium", "roster", "founding", "schema"."""

    @property
    def authentic(self) -> bool:
        """Whether it was compared with something that a forger cannot write: a roster, or the founding file."""
        return "roster" in self.compared or "founding" in self.compared


def collect(
    state: LedgerState,
    events: Sequence[Event],
    inquiry: Inquiry,
    transaction: Callable[[bytes], bytes],
    *,
    openings: Sequence[tuple[int, int]],
    salt: bytes,
) -> Evidence:
    """Put the evidence of a reported inquiry together.

    Args:
        transaction: fetches a signed transaction by its hash.
        openings: (m, r) of each block of the aggregate.
        salt: of the report's commitment.
    """
    assert inquiry.report is not None

    def raw(at: Position) -> str:
        return to_hex(transaction(at.transaction))

    return Evidence(
        {
            "format": FORMAT,
            "version": _VERSION,
            "chain_id": state.realm.chain_id,
            "consortium": state.realm.consortium,
            "joint_credit": inquiry.joint_credit,
            "inquiry": to_hex(inquiry.id),
            "schema": inquiry.schema.definition.decode("utf-8"),
            "roster": [{"kind": int(change.kind), "data": to_hex(change.data)} for change in state.roster_history],
            "transactions": {
                "open": raw(inquiry.opened.at),
                "contribute": [
                    raw(event.at)
                    for member, event in sorted(inquiry.contributions.items())
                    if member != inquiry.inquirer
                ],
                "report": raw(inquiry.report.at),
                "attest": raw(inquiry.verdict.at) if inquiry.verdict else None,
            },
            "verdict_block": inquiry.verdict.at.block if inquiry.verdict else None,
            "openings": [[hex(m), hex(r)] for m, r in openings],
            "salt": to_hex(salt),
        }
    )


# --------------------------------------------------------------------- verification


@dataclass(frozen=True)
class _SignedCall:
    sender: str
    arguments: tuple[Any, ...]


def _parse_call(raw: bytes, function: str, joint_credit: str, chain_id: int) -> _SignedCall:
    """Recover the sender of a signed transaction and decode the call it makes."""
    try:
        sender = str(Account.recover_transaction(HexBytes(raw)))
        if raw[0] <= 0x7F:
            fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
            to, data, chain = bytes(fields["to"]), bytes(fields["data"]), int(fields["chainId"])
        else:
            parts = rlp.decode(raw)
            to, data, v = parts[3], parts[5], int.from_bytes(parts[6], "big")
            chain = (v - 35) // 2 if v >= 35 else chain_id
    except Exception as error:  # rlp, eth_keys and eth_account raise many kinds for malformed bytes
        raise InvalidEncoding(f"the {function} transaction in the file is malformed") from error
    types = FUNCTIONS[function]
    selector = keccak(f"{function}({','.join(types)})".encode())[:4]
    if to_checksum_address(to) != joint_credit or chain != chain_id or data[:4] != selector:
        raise InvalidMessage(f"the {function} transaction in the file is not a call of this contract on this chain")
    return _SignedCall(sender, abi_decode(types, data[4:]))


@dataclass(frozen=True)
class _Moment:
    """Which account acts for which party, and on which contract, after one change of the roster."""

    roster: bytes
    accounts: Mapping[int, str]
    """Service account by member."""
    supervisors: Mapping[str, str]
    """Service account by owner account."""
    joint_credit: str | None
    unpinned: tuple[int, ...]


def _replay_roster(
    realm: Realm, pins: Pins | None, changes: Sequence[tuple[Change, bytes]]
) -> tuple[LedgerState, list[_Moment]]:
    """Fold the roster's history; the owners' signatures of keys and accounts are checked on the way."""
    state = LedgerState(realm, pins)
    moments = []
    for number, (kind, data) in enumerate(changes):
        at = Position(0, bytes(32), number, 0, bytes(32), realm.consortium)
        state.apply(RosterChanged(at, roster_link(state.roster, kind, data), kind, data))
        keyed = sum(1 << member.index for member in state.members.values() if member.keys)
        accounts = {i: m.account for i, m in state.members.items() if m.account is not None}
        supervisors = {owner: s.account for owner, s in state.supervisors.items() if s.account is not None}
        moments.append(_Moment(state.roster, accounts, supervisors, state.joint_credit, state.unpinned(keyed)))
    return state, moments


def _check_sender(what: str, sender: str, accounts: Sequence[str | None]) -> None:
    """The party's service account signed the call, at some moment from the opening on."""
    if sender not in accounts:
        raise InvalidMessage(
            f"the {what} was signed by {sender}, which its party never named as its service account",
            remedy="the file is made up, or its history is older than the inquiry: ask for the file again",
        )


def _stood(moments: Sequence[_Moment], supervisor: str, account: str) -> tuple[bytes, bytes | None]:
    """The rosters between which an account stood for a supervisor, the last time."""
    standing = [place for place, moment in enumerate(moments) if moment.supervisors.get(supervisor) == account]
    last = standing[-1]
    first = next(p for p in range(last, -1, -1) if p == 0 or moments[p - 1].supervisors.get(supervisor) != account)
    return moments[first].roster, moments[last + 1].roster if last + 1 < len(moments) else None


def _known_part(
    realm: Realm, changes: Sequence[tuple[Change, bytes]], known: Collection[bytes]
) -> Sequence[tuple[Change, bytes]]:
    """The history up to the last roster that the reader knows: what comes after it could be made up."""
    roster, end = roster_start(realm), 0
    for number, (kind, data) in enumerate(changes, start=1):
        roster = roster_link(roster, kind, data)
        if roster in known:
            end = number
    return changes[:end]


def verify_evidence(
    evidence: Evidence,
    *,
    consortium: str | None = None,
    roster: bytes | Collection[bytes] | None = None,
    schema_hash: bytes | None = None,
    pins: Pins | None = None,
) -> VerifiedEvidence:
    """Check everything that the file claims.

    With neither `roster` nor `pins` that is its consistency alone: anybody can write such a file.

    Args:
        consortium: the address that the reader knows by another channel; None skips that comparison.
        roster: a value of the roster that the reader knows from the ledger, at the opening or later, or all values that
            the ledger has had; the file's history counts up to the last of them. None believes all of it.
        schema_hash: of the schema's definition, as the ledger has it; None leaves it to the roster.
        pins: what the reader accepts, from the founding file: the owners of the cohort, whose signatures stand under its keys
            and service accounts, and the supervisor.

    Raises:
        ProtocolViolation: somebody lied; `culprits` and the message name whom.
        InvalidMessage: the file is malformed, incomplete or not of the reader's consortium.
    """
    known = None if roster is None else frozenset([roster] if isinstance(roster, bytes) else roster)
    try:
        return _verify(evidence.value, consortium, known, schema_hash, pins)
    except WrongLedger as error:
        raise InvalidMessage(
            f"the history of members in the file contradicts itself: {error.message}", remedy="ask for the file again"
        ) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InvalidEncoding(f"the evidence is malformed: {error!r}", remedy="ask for the file again") from error


def _verify(
    value: Mapping[str, Any],
    consortium: str | None,
    known: frozenset[bytes] | None,
    schema_hash: bytes | None,
    pins: Pins | None,
) -> VerifiedEvidence:
    realm = Realm(int(value["chain_id"]), to_checksum_address(value["consortium"]))
    if consortium is not None and to_checksum_address(consortium) != realm.consortium:
        raise InvalidMessage(
            f"the evidence is of consortium {realm.consortium}, not of {consortium}",
            remedy="ask for evidence of the consortium that you know",
        )
    joint_credit = to_checksum_address(value["joint_credit"])
    transactions = value["transactions"]

    block = value["verdict_block"]
    if block is not None and (type(block) is not int or block < 0):
        raise InvalidEncoding("the evidence is malformed: the block of the verdict", remedy="ask for the file again")

    # (1) the roster: who is who, under which accounts and keys, on which terms: R39.
    changes = [(Change(change["kind"]), hex_bytes(change["data"], None)) for change in value["roster"]]
    state, moments = _replay_roster(realm, pins, changes if known is None else _known_part(realm, changes, known))

    # (2) the opening, signed by the service account of the inquirer: R15, R6, R7.
    opened = _parse_call(hex_bytes(transactions["open"], None), "open", joint_credit, realm.chain_id)
    inquirer, fields = opened.arguments
    opening = Opening(**dict(zip(Opening.__dataclass_fields__, fields, strict=True)))
    opening = replace(opening, currency=opening.currency.decode("ascii"), consents=tuple(opening.consents))  # type: ignore[attr-defined]
    begun = next((place for place, moment in enumerate(moments) if moment.roster == opening.roster), None)
    if begun is None and known is not None:
        raise InvalidMessage(
            "the history of members in the file does not lead from the opening to the roster on the ledger",
            remedy="it is made up, or one of the two is older than the other: give a roster of the opening or later",
        )
    if begun is None:
        raise InvalidMessage("the opening names a roster that is not in the history given")
    if moments[begun].joint_credit != joint_credit:
        raise InvalidMessage("the inquiry ran on a contract that the roster does not name")
    _check_sender("opening", opened.sender, [moments[begun].accounts.get(inquirer)])
    name = state.members[inquirer].name
    schema = Schema.parse(str(value["schema"]).encode())
    cohort = members_of(opening.cohort)
    if schema.id != opening.schema or not set(cohort) <= set(state.members) or inquirer not in cohort:
        raise InvalidMessage("schema or cohort of the opening do not fit the history given")
    if state.schema_hashes.get(schema.id) != schema.hash:
        raise InvalidMessage("the schema in the file is not the one that the roster names")
    unpinned = [i for i in moments[begun].unpinned if i in cohort or i == SUPERVISOR]
    if unpinned:
        whose = ", ".join("the supervisor" if i == SUPERVISOR else state.members[i].name for i in unpinned)
        raise InvalidMessage(
            f"keys of the inquiry are signed by accounts that you have not accepted: {whose}",
            remedy="the history of members is made up, or they changed since: compare the accounts with their owners",
        )
    if schema_hash is not None and schema.hash != schema_hash:
        raise InvalidMessage("the schema in the file is not the one on the ledger", remedy="ask for the file again")
    frame = protocol.make_frame(realm, joint_credit, inquirer, opening, schema, cohort)
    if frame.inquiry != hex_bytes(value["inquiry"], 32):
        raise InvalidMessage("the inquiry's id does not follow from its opening")
    try:
        check_key(frame.public.n, opening.key_proof)
    except InvalidMessage as error:
        raise ProtocolViolation(f"{name} published a malformed key: {error.message}", culprits=[inquirer]) from error

    # (3) one signed contribution from every other member of the cohort: R21.
    payloads = {inquirer: opening.payload}
    for raw in transactions["contribute"]:
        call = _parse_call(hex_bytes(raw, None), "contribute", joint_credit, realm.chain_id)
        _inquiry, member, payload = call.arguments
        _check_sender("contribution", call.sender, [moment.accounts.get(member) for moment in moments[begun:]])
        if call.arguments[0] != frame.inquiry or member not in cohort or member in payloads:
            raise InvalidMessage(f"a contribution of {state.members[member].name} does not belong to this inquiry")
        try:
            protocol.split_payload(frame, payload)
        except InvalidMessage as error:
            raise ProtocolViolation(
                f"{state.members[member].name} signed a malformed contribution: {error.message}", culprits=[member]
            ) from error
        payloads[member] = payload
    missing = [state.members[i].name for i in cohort if i not in payloads]
    if missing:
        raise InvalidMessage(f"the contribution of {', '.join(missing)} is not in the file")

    # (4) the report that the inquirer signed is of these openings: R30.
    openings = tuple(paillier.Opening(int(m, 16), int(r, 16)) for m, r in value["openings"])
    if len(openings) != frame.blocks or any(o.m < 0 or o.r < 0 for o in openings):
        raise InvalidProof("the openings do not cover all blocks")
    report = _parse_call(hex_bytes(transactions["report"], None), "report", joint_credit, realm.chain_id)
    commitment = report_commitment(frame.inquiry, hex_bytes(value["salt"], 32), openings, frame.public.modulus_bytes)
    _check_sender("report", report.sender, [moment.accounts.get(inquirer) for moment in moments[begun:]])
    if report.arguments[0] != frame.inquiry:
        raise InvalidMessage("the report in the file is not the inquirer's on this inquiry")
    if report.arguments[1] != commitment:
        # Openings and salt are signed by nobody, so this names nobody.
        raise InvalidProof(
            f"the openings in the file are not those that {name} (the inquirer) reported to the supervisor: whoever gave "
            "the file has changed them, or reported others",
            remedy="ask the supervisor",
        )

    # (5) the aggregate opens to what was reported: R22, R29.
    try:
        aggregate = protocol.product(frame, [payloads[member] for member in cohort])
        for c, opened_block in zip(aggregate, openings, strict=True):
            paillier.verify_opening(frame.public, c, opened_block)
    except InvalidMessage as error:
        # Names nobody: whoever has the file and a furnisher's service account can put a second contribution into it, with a
        # signature that is good and a transaction that was never mined.
        raise InvalidProof(
            f"the contributions in the file do not give the totals that {name} (the inquirer) reported: {error.message}",
            remedy="compare the transactions with the ledger (`mpcredit verify --ledger`); the supervisor's verdict decides",
        ) from error

    # (6) the verdict: R31.
    stood = None
    if transactions.get("attest"):
        verdict = _parse_call(hex_bytes(transactions["attest"], None), "attest", joint_credit, realm.chain_id)
        judged, supervisor, valid, named, of_report, _anchor = verdict.arguments
        supervisor = to_checksum_address(supervisor)
        _check_sender("verdict", verdict.sender, [moment.supervisors.get(supervisor) for moment in moments[begun:]])
        if judged != frame.inquiry or of_report != commitment:
            raise InvalidMessage(
                "the verdict in the file is on another inquiry or on another report",
                remedy="ask for the evidence of the report that was judged",
            )
        if pins is not None and not pins.accepts_supervisor(supervisor):
            raise InvalidMessage(
                f"the verdict is of {supervisor}, a supervisor that you have not accepted",
                remedy="compare the account with the supervisor by another channel, then pin it",
            )
        if not valid:
            culprits = members_of(named)
            names = ", ".join(state.members[i].name for i in culprits) or "nobody"
            raise ProtocolViolation(f"the supervisor voided this inquiry and named {names}", culprits=culprits)
        stood = _stood(moments, supervisor, verdict.sender)
    try:
        totals = protocol.totals(frame, [opened_block.m for opened_block in openings])
    except MpcreditError as error:
        raise ProtocolViolation(
            f"the totals are not sums of figures ({error.message}); only the supervisor can tell who set them"
        ) from error
    return VerifiedEvidence(
        realm=realm,
        inquiry=frame.inquiry,
        inquirer=name,
        institutions=tuple(state.members[i].name for i in cohort),
        currency=opening.currency,
        totals=totals,
        attested=stood is not None,
        verdict_stood=stood,
        roster=opening.roster,
        schema_hash=schema.hash,
        compared=tuple(
            name
            for name, given in (
                ("consortium", consortium),
                ("roster", known),
                ("founding", pins),
                ("schema", schema_hash),
            )
            if given is not None
        ),
    )
