"""The constructor, and what the deployer may do afterwards: nothing.

constructor
├── a name, founders, supervisors or schemas are missing, or founders are fewer than the minimum cohort: BadParameter
├── a parameter is out of its range: BadParameter, by name
├── an account plays two parts, or is zero: AccountInUse, ZeroAccount
└── else the founders are invited, nobody is a member yet, every part is on the event log, and the roster is the hash
    chain over its changes (R39)
deployer
├── each call that belongs to a proposal: OnlyByProposal
├── each call of a member: NotOwner, NotMember
└── each call of a supervisor: NotSupervisor
openingTerms before the founding is complete: NotFounded
"""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_utils import keccak
from governance import (
    HOUR,
    PARAMETERS,
    SCHEMA_1,
    ZERO,
    ZERO_32,
    Chain,
    Council,
    bitmap,
    founded_council,
    invited_council,
)


@pytest.fixture
def council():
    with invited_council() as council:
        yield council


@pytest.fixture
def founded():
    with founded_council() as council:
        yield council


def test_constructor__complete_founding__invites_and_confirms_nobody(council):
    members = [council.read("member", i) for i in range(6)]

    assert [m["owner"] for m in members] == [b.owner for b in council.banks[:6]]
    assert [m["name"] for m in members] == ["Bank A", "Bank B", "Bank C", "Bank D", "Bank E", "Bank F"]
    assert not any(m["confirmed"] or m["suspended"] or m["removed"] for m in members)
    assert [council.read("memberOf", b.operator) for b in council.banks[:6]] == list(range(6))
    assert council.read("memberCount") == 6
    assert council.read("memberSets") == (0, 0, 0)
    assert council.read("name") == "River valley"
    assert council.read("parameters") == PARAMETERS
    assert council.read("schemaHash", 1) == keccak(SCHEMA_1)
    assert council.read("isSupervisor", council.supervisor)
    assert council.read("supervisorKey") == (ZERO_32, 0)
    assert council.read("jointCredit") == ZERO
    assert council.read("approvedInitCodeHash") == keccak(council.joint_credit_code)


def test_constructor__complete_founding__puts_every_part_on_the_event_log(council):
    events = council.events(council.receipt)

    assert council.changes(council.receipt) == [
        ("TermsSet", *PARAMETERS.values()),
        ("SupervisorAdded", council.supervisor),
        *[("MemberInvited", b.index, b.owner, b.operator, b.name) for b in council.banks[:6]],
        ("SchemaSet", 1, keccak(SCHEMA_1)),
        ("TagKeySet", 1, keccak(b"tag key 1")),
    ]
    assert [e for e in events if e[0] != "RosterChanged"] == [
        ("ParametersSet", tuple(PARAMETERS.values())),
        ("SchemaRegistered", 1, SCHEMA_1),
        ("JointCreditApproved", keccak(council.joint_credit_code)),
    ]


def test_roster__any_change__is_the_hash_chain_over_all_of_them(council):
    receipts = [council.receipt, council.confirm(council.banks[0]), council.confirm(council.banks[1])]
    chain_id = council.chain.backend.chain.chain_id
    label = b"mpcredit/roster/2".ljust(32, b"\0")

    expected = keccak(encode(["bytes32", "uint256", "address"], [label, chain_id, council.address]))
    for receipt in receipts:
        for name, *values in council.events(receipt):
            if name == "RosterChanged":
                expected = keccak(encode(["bytes32", "uint8", "bytes"], [expected, *values[1:]]))
                assert values[0] == expected

    assert council.read("roster") == expected


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"name": ""}, "name"),
        ({"supervisors": []}, "supervisors"),
        ({"schemas": []}, "schemas"),
        ({"schemas": [(1, b"")]}, "definition"),
        ({"founders": []}, "founders"),
        ({"jointCreditInitCodeHash": ZERO_32}, "jointCreditInitCodeHash"),
        ({"tagKeyCommitment": ZERO_32}, "tagKeyCommitment"),
    ],
)
def test_constructor__part_missing__reverts_with_bad_parameter(changes, cause):
    assert Council(Chain(), **changes).refusal_to_found() == ("BadParameter", cause)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("minimumCohort", 2, 3),
        ("minimumCohort", 217, 6),
        ("minimumModulusBits", 2047, 2048),
        ("minimumModulusBits", 2304 + 8, 2304),
        ("minimumModulusBits", 4096 + 256, 4096),
        ("answerSeconds", 59, 60),
        ("answerSeconds", 30 * 24 * HOUR + 1, 30 * 24 * HOUR),
        ("reportSeconds", 59, 60),
        ("reportSeconds", 30 * 24 * HOUR + 1, 30 * 24 * HOUR),
        ("delaySeconds", HOUR - 1, HOUR),
        ("delaySeconds", 30 * 24 * HOUR + 1, 30 * 24 * HOUR),
        ("subjectsPerDay", 0, 1),
        ("bookAgeSeconds", 0, 1),
    ],
)
def test_constructor__parameter_out_of_range__reverts_and_its_neighbour_is_accepted(name, value, accepted):
    chain = Chain()
    # 217 members can never be: the founders are counted first, and there are not that many.
    cause = "founders" if value == 217 else name

    assert Council(chain, parameters={name: value}).refusal_to_found() == ("BadParameter", cause)
    assert Council(chain, parameters={name: accepted}).refusal_to_found() is None


def test_constructor__fewer_founders_than_the_minimum_cohort__reverts(council):
    chain = Chain()

    assert Council(chain, invited=3).refusal_to_found() == ("BadParameter", "founders")
    assert Council(chain, invited=4).refusal_to_found() is None


def test_constructor__account_in_two_parts_or_zero__reverts():
    chain = Chain()
    plain = Council(chain)
    founders = plain.founding["founders"]
    first, second, *others = founders

    def refusal(*changed, **changes):
        return Council(chain, **({"founders": [*changed, *others]} if changed else changes)).refusal_to_found()

    assert refusal(first, (first[0], second[1], "Bank B")) == ("AccountInUse", first[0])
    assert refusal(first, (second[0], first[1], "Bank B")) == ("AccountInUse", first[1])
    assert refusal(first, (first[1], second[1], "Bank B")) == ("AccountInUse", first[1])
    assert refusal(first, (second[0], first[0], "Bank B")) == ("AccountInUse", first[0])
    assert refusal(first, (plain.supervisor, second[1], "Bank B")) == ("AccountInUse", plain.supervisor)
    assert refusal(supervisors=[plain.supervisor, plain.supervisor]) == ("AccountInUse", plain.supervisor)
    assert refusal(first, (ZERO, second[1], "Bank B")) == ("ZeroAccount",)
    assert refusal(first, (second[0], ZERO, "Bank B")) == ("ZeroAccount",)
    assert refusal(supervisors=[ZERO]) == ("ZeroAccount",)
    assert refusal(first, (second[0], second[1], "")) == ("BadParameter", "name")
    assert refusal(first, (second[0], second[1], "B" * 65)) == ("BadParameter", "name")
    assert refusal(first, (second[0], second[1], "B" * 64)) is None
    # One account may own a member and act for the same member.
    assert refusal(first, (second[0], second[0], "Bank B")) is None


def test_constructor__same_schema_twice__reverts(council):
    assert Council(Chain(), schemas=[(1, b"{}"), (1, b"[]")]).refusal_to_found() == ("SchemaExists", 1)
    assert Council(Chain(), schemas=[(1, b"{}"), (2, b"[]")]).refusal_to_found() is None


def test_deployer__after_the_founding__can_do_nothing(founded):
    deployer = founded.deployer
    digest = keccak(b"")
    by_proposal = {
        "inviteMember": (deployer, deployer, "Bank Z"),
        "removeMember": (0,),
        "replaceOwner": (0, deployer),
        "addSupervisor": (deployer,),
        "removeSupervisor": (founded.supervisor,),
        "setParameters": (tuple(PARAMETERS.values()),),
        "registerSchema": (2, b"{}"),
        "setGroup": (1, bitmap(0, 1, 2, 3)),
        "setTagKey": (digest,),
        "approveJointCredit": (digest,),
    }
    by_supervisor = {
        "rotateSupervisorKey": (digest, b""),
        "auditOk": (0, 1),
        "suspend": (0,),
        "reinstate": (0,),
        "approve": (1, digest),
    }
    by_owner = {
        "confirm": (5, digest, b""),
        "rotateKey": (0, digest, b""),
        "setOperator": (0, deployer, True),
    }
    by_member = {
        "declareReady": (0,),
        "sealMaskKeys": (b"",),
        "anchor": (digest,),
        "notify": (b"x",),
        "propose": ([], ""),
        "vote": (1, digest),
        "withdrawVote": (1,),
    }

    for function, arguments in by_proposal.items():
        assert founded.refusal(deployer, function, *arguments) == ("OnlyByProposal",)
    for function, arguments in by_supervisor.items():
        assert founded.refusal(deployer, function, *arguments) == ("NotSupervisor", deployer)
    for function, arguments in by_owner.items():
        assert founded.refusal(deployer, function, *arguments) == ("NotOwner", deployer, arguments[0])
    for function, arguments in by_member.items():
        assert founded.refusal(deployer, function, *arguments) == ("NotMember", deployer)
    assert founded.refusal(deployer, "withdrawApproval", 1) == ("ApprovalMissing", 1, deployer)
    assert founded.refusal(deployer, "lapse", 1) == ("NotJointCredit", deployer)
    assert founded.refusal(deployer, "suspendCulprits", 1) == ("NotJointCredit", deployer)
    assert founded.refusal(deployer, "execute", 1, [], ZERO) == ("UnknownProposal", 1)
    assert founded.refusal(deployer, "createJointCredit", b"") == ("InitCodeDiffers", keccak(b""), ZERO_32)
    # This is every function of the interface that is no view: none was forgotten.
    tried = {*by_proposal, *by_supervisor, *by_owner, *by_member, "withdrawApproval", "lapse", "suspendCulprits"}
    writing = {n for n, e in founded.functions.items() if e["stateMutability"] not in ("view", "pure")}
    assert writing == tried | {"execute", "createJointCredit"}


def test_opening_terms__before_the_minimum_has_confirmed__reverts_with_not_founded(council):
    council.send(council.outsider, "createJointCredit", council.joint_credit_code)
    council.set_supervisor_key(council.supervisor, 1)
    for bank in council.banks[:3]:
        council.confirm(bank)
        council.send(council.supervisor, "auditOk", bank.index, 1)
    council.ready(range(3))

    assert council.terms() == ("NotFounded", 3, 4)
    council.confirm(council.banks[3])
    assert council.terms() == ("CohortTooSmall", 3, 4)
    council.send(council.supervisor, "auditOk", 3, 1)
    council.ready([3])
    assert council.terms()["cohort"] == bitmap(0, 1, 2, 3)


def test_propose__before_the_minimum_has_confirmed__reverts_with_not_founded(council):
    for bank in council.banks[:3]:
        council.confirm(bank)
    call = council.encoded("setTagKey", keccak(b"tag key 2"))
    owner = council.banks[0].owner

    assert council.refusal(owner, "propose", [call], "") == ("NotFounded", 3, 4)
    council.confirm(council.banks[3])
    assert council.refusal(owner, "propose", [call], "") is None
