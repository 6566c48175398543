"""One file that proves an inquiry to somebody without a ledger node (R40).

It holds the signed transactions as their senders made them, the roster's history, and the openings of the aggregate.
`verify_evidence` needs nothing else: it recovers who signed what, recomputes the ids, the product and the totals, and names
who lied. What it cannot prove is inclusion in a block: compare with the ledger (`mpcredit verify --ledger`) for that.

The history of a roster is signed by nobody, so anybody can write one under any consortium's address, with members or
operators of his own. A reader who does not trust the giver of the file must know a value of the roster itself
(`Consortium.roster()` on any node, at the opening or later), which fixes members, accounts, terms, schemas and contracts;
or have the founding file, which holds for members and operators that are still those of the founding. What a file was
compared with is in `VerifiedEvidence.compared`; with neither, it is only consistent in itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
FROM_LEDGER = (
    "the file is made up, or the account changed since: give a roster of the ledger, or look it up on your node"
)
OPENING_TYPE = "(uint64,uint8,uint16,uint8,bytes3,bytes32,uint256,bytes,bytes,bytes32[],bytes,bytes32,bytes)"
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "open": (OPENING_TYPE,),
    "contribute": ("bytes32", "bytes"),
    "report": ("bytes32", "bytes32", "bytes", "bytes32"),
    "attest": ("bytes32", "bool", "uint256", "bytes32"),
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
        if not isinstance(value, dict) or value.get("format") != FORMAT or value.get("version") != 1:
            raise InvalidFile(str(path), "is no evidence of version 1", "give the file that `mpcredit evidence` wrote")
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
    """Whether the supervisor's signed verdict `valid` is in the file."""
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
            "version": 1,
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
    """Who acted for whom, and on which contract, after one change of the roster."""

    roster: bytes
    operators: frozenset[tuple[str, int]]
    supervisors: frozenset[str]
    joint_credit: str | None
    unpinned: tuple[int, ...]


def _replay_roster(
    realm: Realm, pins: Pins | None, changes: Sequence[tuple[Change, bytes]]
) -> tuple[LedgerState, list[_Moment]]:
    """Fold the roster's history; key signatures are checked on the way."""
    state = LedgerState(realm, pins)
    moments = []
    for number, (kind, data) in enumerate(changes):
        at = Position(0, bytes(32), number, 0, bytes(32), realm.consortium)
        state.apply(RosterChanged(at, roster_link(state.roster, kind, data), kind, data))
        operators = frozenset((account, m.index) for m in state.members.values() for account in m.operators)
        keyed = sum(1 << member.index for member in state.members.values() if member.keys)
        moments.append(
            _Moment(state.roster, operators, frozenset(state.supervisors), state.joint_credit, state.unpinned(keyed))
        )
    return state, moments


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
        pins: accounts that the reader accepts, from the founding file: keys of the cohort must be signed by them, and
            without `roster` its operators (if pinned) and the supervisor must be those too.

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

    # (1) the roster: who is who, under which accounts and keys, on which terms: R39.
    changes = [(Change(change["kind"]), hex_bytes(change["data"], None)) for change in value["roster"]]
    state, moments = _replay_roster(realm, pins, changes if known is None else _known_part(realm, changes, known))

    # (2) the opening, signed by an operator of the inquirer: R15, R6, R7.
    opened = _parse_call(hex_bytes(transactions["open"], None), "open", joint_credit, realm.chain_id)
    (fields,) = opened.arguments
    opening = Opening(**dict(zip(Opening.__dataclass_fields__, fields, strict=True)))
    opening = replace(opening, currency=fields[4].decode("ascii"), consents=tuple(fields[9]))
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
    founders = pins.operators if pins is not None and known is None else None

    def acting(account: str, what: str, moments: Sequence[_Moment]) -> list[int]:
        # An account may act for one member after another while an inquiry runs, so there can be several.
        found = sorted({index for moment in moments for other, index in moment.operators if other == account})
        if not found:
            raise InvalidMessage(f"the {what} was signed by {account}, which is no operator of a member")
        # No signature of an owner names its operators: without a roster only the founding file does.
        if founders is not None:
            found = [index for index in found if account in founders.get(index, ())]
        if not found:
            raise InvalidMessage(
                f"the {what} was signed by {account}, which the founding file does not name as an operator",
                remedy=FROM_LEDGER,
            )
        return found

    (inquirer,) = acting(opened.sender, "opening", moments[begun : begun + 1])
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
        senders = acting(call.sender, "contribution", moments[begun:])
        places = [index for index in senders if index in cohort and index not in payloads]
        if call.arguments[0] != frame.inquiry or not places:
            who = state.members[senders[0]].name
            raise InvalidMessage(f"a contribution of {who} does not belong to this inquiry")
        try:
            protocol.split_payload(frame, call.arguments[1])
        except InvalidMessage as error:
            raise ProtocolViolation(
                f"{state.members[places[0]].name} signed a malformed contribution: {error.message}",
                culprits=[places[0]],
            ) from error
        payloads[places[0]] = call.arguments[1]
    missing = [state.members[i].name for i in cohort if i not in payloads]
    if missing:
        raise InvalidMessage(f"the contribution of {', '.join(missing)} is not in the file")

    # (4) the report that the inquirer signed is of these openings: R30.
    openings = tuple(paillier.Opening(int(m, 16), int(r, 16)) for m, r in value["openings"])
    if len(openings) != frame.blocks or any(o.m < 0 or o.r < 0 for o in openings):
        raise InvalidProof("the openings do not cover all blocks")
    report = _parse_call(hex_bytes(transactions["report"], None), "report", joint_credit, realm.chain_id)
    commitment = report_commitment(frame.inquiry, hex_bytes(value["salt"], 32), openings, frame.public.modulus_bytes)
    if inquirer not in acting(report.sender, "report", moments[begun:]) or report.arguments[0] != frame.inquiry:
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
        raise ProtocolViolation(
            f"{name} (the inquirer) reported totals that are not those of the ledger: {error.message}",
            culprits=[inquirer],
        ) from error

    # (6) the verdict: R31.
    attested = False
    if transactions.get("attest"):
        verdict = _parse_call(hex_bytes(transactions["attest"], None), "attest", joint_credit, realm.chain_id)
        supervisors = frozenset[str]().union(*(moment.supervisors for moment in moments[begun:]))
        if verdict.sender not in supervisors or verdict.arguments[0] != frame.inquiry:
            raise InvalidMessage("the verdict in the file is not a supervisor's on this inquiry")
        if pins is not None and known is None and not pins.accepts_supervisor(verdict.sender):
            raise InvalidMessage(
                f"the verdict was signed by {verdict.sender}, a supervisor that you have not accepted",
                remedy=FROM_LEDGER,
            )
        culprits = members_of(verdict.arguments[2])
        if not verdict.arguments[1]:
            names = ", ".join(state.members[i].name for i in culprits)
            raise ProtocolViolation(f"the supervisor voided this inquiry and named {names}", culprits=culprits)
        attested = True
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
        attested=attested,
        roster=opening.roster,
        schema_hash=schema.hash,
        compared=tuple(
            name
            for name, given in (
                ("consortium", consortium),
                ("roster", known),
                ("founding", pins.operators if pins is not None else None),
                ("schema", schema_hash),
            )
            if given is not None
        ),
    )
