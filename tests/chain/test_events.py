"""Every event of both contracts comes back from a real chain with the values that were put in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from chain_world import (
    DEPLOYER,
    MEMBERS,
    OUTSIDER,
    PERIOD,
    SUPERVISOR,
    TENURE,
    WATCHER,
    WIDTH,
    World,
    account,
    parameters,
    payload,
)

from mpcredit import events as e
from mpcredit.chain import ChainLedger, artifacts, joint_credit_init_code
from mpcredit.chain.decode import EVENT_CLASSES, Log, decode_log
from mpcredit.encoding import abi_decode, abi_encode, keccak
from mpcredit.errors import LedgerError
from mpcredit.events import Change, Stage
from mpcredit.ledger.roster import CHANGE_TYPES
from mpcredit.state import LedgerState

ALL = frozenset(range(MEMBERS))
ROOT = Path(__file__).resolve().parents[2]


def since(world: World, block: int, kind: type[Any]) -> list[Any]:
    return [event for event in world.ledger.events(block, world.ledger.head().number) if type(event) is kind]


def encoded(function: str, *arguments: Any) -> bytes:
    return artifacts.consortium().call_data(function, arguments)


@pytest.fixture
def start(world: World) -> int:
    world.ready(*range(MEMBERS))
    return world.ledger.head().number + 1


def test_event_classes__have_the_names_and_fields_of_the_abi() -> None:
    entries = {**artifacts.consortium().entries("event"), **artifacts.joint_credit().entries("event")}

    assert entries.keys() == EVENT_CLASSES.keys()
    for name, entry in entries.items():
        fields = [field.replace("_", "") for field in EVENT_CLASSES[name].__dataclass_fields__ if field != "at"]
        assert fields == [given["name"].lower() for given in entry["inputs"]], name


def test_founding__emits_the_roster_schema_terms_and_first_contract(world: World) -> None:
    found = world.ledger.events(world.deployed.first_block, world.deployed.first_joint_credit.block)

    assert {event.at.block for event in found} == {
        world.deployed.creation.block,
        world.deployed.first_joint_credit.block,
    }
    changes = [event for event in found if isinstance(event, e.RosterChanged)]
    assert [change.kind for change in changes] == [
        Change.FOUNDED,
        Change.TERMS_CHANGED,
        Change.SUPERVISOR_ADDED,
        *[Change.MEMBER_INVITED] * MEMBERS,
        Change.SCHEMA_SET,
        Change.TAG_KEY_SET,
        Change.JOINT_CREDIT_APPROVED,
        Change.JOINT_CREDIT_SET,
    ]
    assert changes[0].data == abi_encode(["uint64", "uint8"], [0, PERIOD])
    assert abi_decode(CHANGE_TYPES[Change.TERMS_CHANGED], changes[1].data) == parameters()
    assert changes[2].data == abi_encode(["address"], [SUPERVISOR.address])
    assert changes[-2].data == keccak(joint_credit_init_code())
    assert abi_decode(CHANGE_TYPES[Change.JOINT_CREDIT_SET], changes[-1].data) == (world.deployed.joint_credit,)
    (schema,) = [event for event in found if isinstance(event, e.SchemaRegistered)]
    assert (schema.schema, schema.definition) == (1, b'{"format":"mpcredit/schema"}')
    (terms,) = [event for event in found if isinstance(event, e.TermsSet)]
    assert terms.parameters == e.Parameters(*parameters())
    (replaced,) = [event for event in found if isinstance(event, e.JointCreditReplaced)]
    assert int(replaced.previous, 16) == 0
    assert replaced.current == world.deployed.joint_credit


def test_change__kinds_are_those_of_the_contract_and_the_fold_follows_them(world: World) -> None:
    source = (ROOT / "contracts" / "interfaces" / "IConsortium.sol").read_text(encoding="utf-8")
    body = source.partition("enum Change {")[2].partition("}")[0]
    names = re.findall(r"^\s+([A-Z]\w+),?$", body, re.MULTILINE)
    state = LedgerState(world.ledger.realm)
    for event in world.all_events():
        state.apply(event)

    assert [name.lower() for name in names] == [kind.name.replace("_", "").lower() for kind in Change]
    assert CHANGE_TYPES.keys() == set(Change)
    assert state.roster == world.view("roster")
    assert state.joint_credit == world.view("jointCredit")


def test_position__is_that_of_block_transaction_and_contract(world: World) -> None:
    for event in world.all_events():
        block = world.ledger.block(event.at.block)
        assert block is not None
        assert (event.at.block_hash, event.at.timestamp) == (block.hash, block.timestamp)
        outcome = world.ledger.outcome(event.at.transaction)
        assert outcome is not None
        assert outcome.block == event.at.block
    places = [(event.at.block, event.at.log_index) for event in world.all_events()]
    assert places == sorted(set(places))


def test_members_own_steps__come_back(world: World, start: int) -> None:
    message = b"\x01" * 50
    world.do(world.service(2), "setReady", 2, False)
    world.do(world.service(2), "sealMaskKeys", 2, 7, 9, b"sealed keys")
    world.do(world.service(2), "anchor", account(4).address, b"\x05" * 32)
    world.do(world.watcher, "notify", SUPERVISOR.address, message)

    (switched,) = since(world, start, e.ReadinessSet)
    assert (switched.member, switched.ready) == (2, False)
    (sealed,) = since(world, start, e.MaskKeysSealed)
    assert (sealed.member, sealed.key_version, sealed.period, sealed.sealed_keys) == (2, 7, 9, b"sealed keys")
    (anchored,) = since(world, start, e.Anchored)
    assert (anchored.owner, anchored.head) == (account(4).address, b"\x05" * 32)
    (noticed,) = since(world, start, e.Noticed)
    assert (noticed.owner, noticed.message) == (SUPERVISOR.address, message)
    assert since(world, start, e.RosterChanged) == []  # none of these is a link


def test_founders_confirmations__are_three_links_each(world: World) -> None:
    owner, service = account(2), account(3).address
    key_signature = world.signed(owner, "keyStatement", 1, 1, world.key(1), bytes(32))
    naming = world.signed(owner, "accountStatement", 1, owner.address, service, 1, TENURE)

    links = [
        (event.kind, event.data)
        for event in world.all_events()
        if isinstance(event, e.RosterChanged)
        and event.kind in (Change.MEMBER_CONFIRMED, Change.KEY_SET, Change.ACCOUNT_NAMED)
        and event.data[:32] == abi_encode(["uint8"], [1])
    ]

    assert links[:3] == [
        (Change.MEMBER_CONFIRMED, abi_encode(["uint8"], [1])),
        (
            Change.KEY_SET,
            abi_encode(["uint8", "uint32", "bytes32", "bool", "bytes"], [1, 1, world.key(1), False, key_signature]),
        ),
        (
            Change.ACCOUNT_NAMED,
            abi_encode(
                ["uint8", "address", "address", "uint16", "bytes32", "bytes"],
                [1, owner.address, service, 1, TENURE, naming],
            ),
        ),
    ]


def test_links_of_one_member_and_of_the_supervisor__come_back(world: World, start: int) -> None:
    owner, other, key, public = account(6), account(11).address, world.key(3, 2), b"\x07" + bytes(30) + b"\x01"
    world.advance(86_400)  # a naming and a rotation each come a day after the last
    naming = world.signed(owner, "accountStatement", 3, owner.address, other, 2, TENURE)
    world.do(world.owner(3), "nameAccount", 3, other, TENURE, naming)
    signature = world.signed(owner, "keyStatement", 3, 2, key, world.key(3))
    world.do(world.owner(3), "rotateKey", 3, key, False, signature)
    world.do(world.owner(3), "takeAccount", 3)
    world.do(world.watcher, "suspend", SUPERVISOR.address, 3)
    world.do(world.supervisor, "reinstate", 3)
    previous = bytes([8]) + bytes(30) + b"\x01"
    announced = world.signed(SUPERVISOR, "keyStatement", 255, 2, public, previous)
    world.do(world.supervisor, "announcePeriodKey", public, announced)
    world.do(world.watcher, "endPeriodKey", SUPERVISOR.address, 2)

    changes = since(world, start, e.RosterChanged)
    named = ["uint8", "address", "address", "uint16", "bytes32", "bytes"]
    assert [(change.kind, change.data) for change in changes] == [
        (Change.ACCOUNT_NAMED, abi_encode(named, [3, owner.address, other, 2, TENURE, naming])),
        (Change.KEY_SET, abi_encode(["uint8", "uint32", "bytes32", "bool", "bytes"], [3, 2, key, False, signature])),
        (Change.ACCOUNT_TAKEN, abi_encode(["uint8", "address"], [3, owner.address])),
        (Change.MEMBER_SUSPENDED, abi_encode(["uint8"], [3])),
        (Change.MEMBER_REINSTATED, abi_encode(["uint8"], [3])),
        (
            Change.PERIOD_KEY_ANNOUNCED,
            abi_encode(["uint32", "bytes32", "address", "bytes"], [2, public, SUPERVISOR.address, announced]),
        ),
        (Change.PERIOD_KEY_ENDED, abi_encode(["uint32"], [2])),
    ]
    assert changes[-1].roster == world.view("roster")
    world.advance(86_400)
    again = world.signed(owner, "accountStatement", 3, owner.address, account(7).address, 3, TENURE)
    world.do(world.owner(3), "nameAccount", 3, account(7).address, TENURE, again)


def test_proposal__comes_back_with_votes_withdrawals_and_approvals(world: World, start: int) -> None:
    calls = [encoded("registerSchema", 7, b"{}"), encoded("setTerms", 1 << 9, (*[0] * 9, 50, 0))]
    world.do(world.owner(0), "propose", calls, "schema 7, für später")
    (proposed,) = since(world, start, e.Proposed)
    number, calls_hash = proposed.proposal, proposed.calls_hash
    for member in (0, 1, 2):
        world.do(world.owner(member), "vote", number, calls_hash)
    world.do(world.owner(2), "withdrawVote", number)
    world.do(world.owner(2), "vote", number, calls_hash)
    world.do(world.supervisor, "approve", number, calls_hash)
    world.do(world.supervisor, "withdrawApproval", number)
    world.do(world.supervisor, "approve", number, calls_hash)
    world.advance(3601)
    world.do(world.owner(3), "execute", number, calls, SUPERVISOR.address)

    assert proposed.proposer == 0
    assert proposed.calls == tuple(calls)
    assert proposed.reason == "schema 7, für später"
    assert calls_hash == keccak(abi_encode(["bytes[]"], [calls]))
    votes = since(world, start, e.Voted)
    assert [(v.proposal, v.member, v.in_favour) for v in votes[2:]] == [
        (number, 2, True),
        (number, 2, False),
        (number, 2, True),
    ]
    approvals = since(world, start, e.Approved)
    assert [(a.supervisor, a.given) for a in approvals] == [
        (SUPERVISOR.address, True),
        (SUPERVISOR.address, False),
        (SUPERVISOR.address, True),
    ]
    (schema,) = since(world, start, e.SchemaRegistered)
    assert (schema.schema, schema.definition) == (7, b"{}")
    (terms,) = since(world, start, e.TermsSet)
    assert terms.parameters == e.Parameters(*parameters(subjects_per_day=50))
    (executed,) = since(world, start, e.Executed)
    assert executed.proposal == number


def test_withdrawn_proposal__comes_back(world: World, start: int) -> None:
    world.do(world.owner(1), "propose", [encoded("setTagKey", 2, b"\x08" * 32)], "a mistake")
    (proposed,) = since(world, start, e.Proposed)
    world.do(world.owner(1), "withdrawProposal", proposed.proposal)

    assert proposed.proposer == 1
    (withdrawn,) = since(world, start, e.Withdrawn)
    assert withdrawn.proposal == proposed.proposal


def test_complete_inquiry__comes_back_from_opening_to_verdict(world: World, start: int) -> None:
    opened = world.open(blocks=2, payload=payload(1, 2), consents=(b"\x01" * 32, b"\x03" * 32))
    for member in (1, 2, 3):
        world.do(
            world.service(member),
            "contribute",
            opened.inquiry,
            member,
            payload(member + 1, 2),
            on=world.deployed.joint_credit,
        )
    jc = world.deployed.joint_credit
    world.do(world.service(0), "report", opened.inquiry, b"\x04" * 32, b"sealed report", b"\x05" * 32, on=jc)
    verdict = (opened.inquiry, SUPERVISOR.address, True, 0, b"\x04" * 32, b"\x06" * 32)
    world.do(world.watcher, "attest", *verdict, on=jc)

    assert (opened.inquirer, opened.account) == (0, account(1).address)
    assert opened.deadline == opened.at.timestamp + 600
    assert opened.at.contract == jc
    contributed = since(world, start, e.Contributed)
    assert [(c.inquiry, c.member, c.payload) for c in contributed] == [
        (opened.inquiry, member, payload(member + 1, 2)) for member in (1, 2, 3)
    ]
    (closed,) = since(world, start, e.AggregateClosed)
    # The ciphertexts are the seed plus the block plus one; their products stay far below n^2.
    assert closed.aggregate == (2 * 3 * 4 * 5).to_bytes(WIDTH, "big") + (3 * 4 * 5 * 6).to_bytes(WIDTH, "big")
    (reported,) = since(world, start, e.Reported)
    assert (reported.commitment, reported.sealed_report, reported.anchor) == (
        b"\x04" * 32,
        b"sealed report",
        b"\x05" * 32,
    )
    (attested,) = since(world, start, e.Attested)
    assert attested == e.Attested(
        attested.at, opened.inquiry, SUPERVISOR.address, WATCHER.address, True, 0, b"\x04" * 32, b"\x06" * 32
    )
    assert world.view("status", opened.inquiry, on=jc)[0] == Stage.VALID


def test_refused_inquiry__comes_back_with_code_and_cohort(world: World, start: int) -> None:
    opened = world.open()
    jc = world.deployed.joint_credit
    world.do(world.service(1), "refuse", opened.inquiry, 1, 7, b"sealed cohort", on=jc)
    world.do(world.service(0), "revokeConsent", 0, b"\x01" * 32, on=jc)

    (refusal,) = since(world, start, e.Refusal)
    assert (refusal.inquiry, refusal.member, refusal.code) == (opened.inquiry, 1, 7)
    assert refusal.sealed_cohort == b"sealed cohort"
    (revoked,) = since(world, start, e.ConsentRevoked)
    assert (revoked.consent, revoked.member) == (b"\x01" * 32, 0)


def test_expired_inquiry__comes_back_with_the_silent(world: World, start: int) -> None:
    opened = world.open()
    world.contribute(opened.inquiry, 1)
    world.advance(601)
    world.do(world.signer(OUTSIDER), "expire", opened.inquiry, on=world.deployed.joint_credit)

    (expired,) = since(world, start, e.Expired)
    assert e.members_of(expired.silent) == (2, 3)
    (lapsed,) = since(world, start, e.ReadinessLapsed)
    assert lapsed.members == expired.silent


def test_second_joint_credit__events_of_both_are_read_in_order(world: World, start: int) -> None:
    old = world.deployed.joint_credit
    running = world.open()
    # What stands behind the code changes its hash and nothing else.
    init_code = joint_credit_init_code() + b"\x01"
    world.carry(encoded("approveJointCredit", keccak(init_code)))
    world.do(world.signer(DEPLOYER), "createJointCredit", init_code)
    new = world.view("jointCredit")
    world.ready(*range(MEMBERS))
    fresh = world.open(on=new)
    world.contribute(running.inquiry, 1, on=old)
    world.contribute(fresh.inquiry, 2, on=new)

    late = ChainLedger(world.web3, world.deployed.consortium)  # starts after both exist
    assert late.joint_credits() == {old, new}
    for ledger in (world.ledger, late):
        found = ledger.events(start, ledger.head().number)
        inquiries = [x for x in found if isinstance(x, (e.Opened, e.Contributed))]
        assert [(type(x).__name__, x.at.contract) for x in inquiries] == [
            ("Opened", old),
            ("Opened", new),
            ("Contributed", old),
            ("Contributed", new),
        ]
    head = late.head().number
    fresh_ledger = ChainLedger(world.web3, world.deployed.consortium)  # and one that never saw the creations
    assert [x.at.contract for x in fresh_ledger.events(head, head)] == [new]
    (replaced,) = since(world, start, e.JointCreditReplaced)
    assert (replaced.previous, replaced.current) == (old, new)
    world.deployed = type(world.deployed)(**{**world.deployed.__dict__, "joint_credit": new})


def test_void_inquiry__suspends_the_culprits(world: World, start: int) -> None:
    opened = world.open()
    jc = world.deployed.joint_credit
    world.do(world.watcher, "attest", opened.inquiry, SUPERVISOR.address, False, 0b1000, bytes(32), bytes(32), on=jc)

    (attested,) = since(world, start, e.Attested)
    assert (attested.valid, attested.culprits) == (False, 0b1000)
    assert [c.kind for c in since(world, start, e.RosterChanged)] == [Change.MEMBER_SUSPENDED]
    world.do(world.supervisor, "reinstate", 3)


def test_logs_of_other_contracts__are_left_out(world: World, start: int) -> None:
    other = artifacts.joint_credit().init_code()  # a JointCredit that the consortium has not created
    signed, outcome = world.signer(DEPLOYER).wallet.send(None, other)

    assert outcome.succeeded
    assert signed.hash
    assert len(world.ledger.joint_credits()) <= 2
    assert world.ledger.events(start, world.ledger.head().number) == ()


def test_hostile_bytes_in_events__are_read_without_raising(world: World, start: int) -> None:
    jc = world.deployed.joint_credit
    opening = world.opening()
    arguments = list(opening.arguments())
    arguments[5] = b"\xffA\x00"
    world.do(world.service(0), "open", 0, tuple(arguments), on=jc)
    data = artifacts.consortium().call_data("propose", ([], "reason!"))
    world.owner(0).wallet.send(world.deployed.consortium, data.replace(b"reason!", b"\xff\xfe\x80son!"))

    (opened,) = since(world, start, e.Opened)
    assert opened.opening.currency == "?A\x00"
    (proposed,) = since(world, start, e.Proposed)
    assert proposed.reason.endswith("son!")
    assert "\ufffd" in proposed.reason


def test_decode_log__unknown_event_or_wrong_data__is_a_ledger_error() -> None:
    at = e.Position(1, b"\x01" * 32, 0, 1, b"\x02" * 32, "0x" + "11" * 20)
    topic = next(t for t, entry in artifacts.joint_credit().topics().items() if entry["name"] == "AggregateClosed")

    for log in (
        Log(at, (b"\x99" * 32,), b""),
        Log(at, (), b""),
        Log(at, (topic,), b""),
        Log(at, (keccak(b"Expired(bytes32,uint256)"), bytes(32)), b"\x01"),
    ):
        with pytest.raises(LedgerError, match="not an event"):
            decode_log(artifacts.joint_credit(), log)
