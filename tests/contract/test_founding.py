"""The constructor, and what the deployer may do afterwards: nothing.

constructor
├── a name, founders, supervisors, schemas or the period are missing, or founders are fewer than the minimum cohort:
│   BadParameter
├── a parameter is out of its range, by itself or next to another one: BadParameter, by name
├── an owner account plays two parts, or is zero: AccountInUse, ZeroAccount
├── more founders than one transaction holds: the node refuses it
└── else the founders are invited, nobody is a member yet and no service account is named, and every part is on the
    event log (the hash chain over it: test_roster.py)
deployer
├── each call that belongs to a proposal: OnlyByProposal
├── each call of an owner: NotOwner, NotMember; of a supervisor's owner: NotSupervisor
└── each call of a service account: NotAccount
openingTerms before the founding is complete, or before opensFrom: NotFounded, TooEarly
"""

from __future__ import annotations

import pytest
from eth_tester.exceptions import TransactionFailed
from eth_utils import keccak
from governance import (
    DAY,
    HOUR,
    PARAMETERS,
    SCHEMA_1,
    ZERO,
    ZERO_32,
    Council,
    bitmap,
    founded_council,
    invited_council,
)
from nodes import CAP, AnvilChain
from onchain import PERIOD, Chain

from mpcredit.schema import FIGURES_1


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
    assert {m["account"] for m in members} == {ZERO}
    assert council.read("memberCount") == 6
    assert council.read("memberSets") == (0, 0, 0)
    assert council.read("name") == "River valley"
    assert council.read("parameters") == PARAMETERS
    assert council.read("schemaHash", 1) == keccak(SCHEMA_1)
    assert council.read("isSupervisor", council.supervisor)
    assert council.read("supervisorAccount", council.supervisor) == ZERO
    assert council.read("opensFrom") == 0
    assert council.read("periodSeconds") == PERIOD
    assert council.read("periodKeys") == ({"key": ZERO_32, "holder": ZERO, "version": 0, "announcedAt": 0},) * 2
    assert council.read("jointCredit") == ZERO
    assert council.read("approvedInitCodeHash") == keccak(council.joint_credit_code)


def test_constructor__complete_founding__puts_every_part_on_the_event_log(council):
    events = council.events(council.receipt)

    assert council.changes(council.receipt) == [
        ("Founded", 0, PERIOD),
        ("TermsChanged", *PARAMETERS.values()),
        ("SupervisorAdded", council.supervisor),
        *[("MemberInvited", b.index, b.owner, b.name) for b in council.banks[:6]],
        ("SchemaSet", 1, keccak(SCHEMA_1)),
        ("TagKeySet", 1, keccak(b"tag key 1")),
        ("JointCreditApproved", keccak(council.joint_credit_code)),
    ]
    assert [e for e in events if e[0] != "RosterChanged"] == [
        ("TermsSet", tuple(PARAMETERS.values())),
        ("SchemaRegistered", 1, SCHEMA_1),
    ]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"name": ""}, "name"),
        ({"supervisors": []}, "supervisors"),
        ({"schemas": []}, "schemas"),
        ({"schemas": [(1, b"")]}, "definition"),
        ({"founders": []}, "founders"),
        ({"periodSeconds": 0}, "periodSeconds"),
        ({"jointCreditInitCodeHash": ZERO_32}, "jointCreditInitCodeHash"),
        ({"tagKeyCommitment": ZERO_32}, "tagKeyCommitment"),
    ],
)
def test_constructor__part_missing__reverts_with_bad_parameter(changes, cause):
    chain = Chain()

    assert Council(chain, **changes).refusal_to_found() == ("BadParameter", cause)
    assert Council(chain).refusal_to_found() is None


@pytest.mark.parametrize("seconds", [1, 2, 255])
def test_constructor__period_of_readiness_in_one_byte__is_accepted(seconds):
    council = Council(Chain(), periodSeconds=seconds).deploy()

    assert council.read("periodSeconds") == seconds
    assert council.changes(council.receipt)[0] == ("Founded", 0, seconds)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("minimumCohort", 2, 3),
        ("minimumCohort", 217, 6),
        ("minimumModulusBits", 2047, 2048),
        ("minimumModulusBits", 2304 + 8, 2304),
        ("minimumModulusBits", 4096 + 256, 4096),
        # Between the shortest silence and the longest life of a consent.
        ("answerSeconds", 59, 60),
        ("answerSeconds", 601, 600),
        ("reportSeconds", 59, 60),
        ("reportSeconds", 30 * DAY + 1, 30 * DAY),
        ("silenceSeconds", 0, 1),
        ("silenceSeconds", 601, 600),
        ("repeatSeconds", 599, 600),
        ("repeatSeconds", DAY + 1, DAY),
        ("cooldownSeconds", 599, 600),
        ("delaySeconds", HOUR - 1, HOUR),
        ("delaySeconds", 30 * DAY + 1, 30 * DAY),
        ("subjectsPerDay", 0, 1),
        ("bookAgeSeconds", 0, 1),
    ],
)
def test_constructor__parameter_out_of_range__reverts_and_its_neighbour_is_accepted(name, value, accepted):
    chain = Chain()
    # 217 members can never be: the founders are counted first, and there are not that many. What two terms must be to
    # each other is named by the second.
    cause = {("minimumCohort", 217): "founders", ("answerSeconds", 601): "repeatSeconds"}.get((name, value), name)
    if name == "cooldownSeconds":
        cause = "repeatSeconds"

    assert Council(chain, parameters={name: value}).refusal_to_found() == ("BadParameter", cause)
    assert Council(chain, parameters={name: accepted}).refusal_to_found() is None


def test_constructor__longest_answer_time__needs_a_consent_and_a_cooldown_as_long():
    chain = Chain()

    def refusal(answer):
        terms = {"answerSeconds": answer, "repeatSeconds": answer, "cooldownSeconds": answer}
        return Council(chain, parameters=terms).refusal_to_found()

    assert refusal(30 * DAY) is None
    assert refusal(30 * DAY + 1) == ("BadParameter", "answerSeconds")


def test_constructor__fewer_founders_than_the_minimum_cohort__reverts(council):
    chain = Chain()

    assert Council(chain, invited=3).refusal_to_found() == ("BadParameter", "founders")
    assert Council(chain, invited=4).refusal_to_found() is None


def test_constructor__owner_in_two_parts_or_zero__reverts():
    chain = Chain()
    plain = Council(chain)
    first, second, *others = plain.founding["founders"]

    def refusal(*changed, **changes):
        return Council(chain, **({"founders": [*changed, *others]} if changed else changes)).refusal_to_found()

    assert refusal(first, (first[0], "Bank B")) == ("AccountInUse", first[0])
    assert refusal(first, (plain.supervisor, "Bank B")) == ("AccountInUse", plain.supervisor)
    assert refusal(supervisors=[plain.supervisor, plain.supervisor]) == ("AccountInUse", plain.supervisor)
    assert refusal(first, (ZERO, "Bank B")) == ("ZeroAccount",)
    assert refusal(supervisors=[ZERO]) == ("ZeroAccount",)
    assert refusal(first, (second[0], "")) == ("BadParameter", "name")
    assert refusal(first, (second[0], "B" * 65)) == ("BadParameter", "name")
    assert refusal(first, (second[0], "B" * 64)) is None
    assert refusal(supervisors=[plain.supervisor, plain.second_supervisor]) is None


@pytest.mark.anvil
@pytest.mark.parametrize(("length", "fits", "too_many"), [(64, 85, 91), (32, 100, 109)])
def test_constructor__large_founding__fits_one_transaction_under_osaka(length, fits, too_many):
    """Exactly, today: 90 founders with names of 64 bytes (16,748,628 gas) and 108 with names of 32 (16,462,995 gas).

    The size of init code (EIP-3860) binds a little before the gas of one transaction (EIP-7825) does. Later members come
    in by proposals.
    """

    def founding(chain, members):
        founders = [(f"0xa{i:039x}", f"{i:03d}".ljust(length, "x")) for i in range(members)]
        return Council(chain, founders=founders, schemas=[(1, FIGURES_1.definition)])

    with AnvilChain("osaka") as chain:
        council = founding(chain, fits).deploy()
        assert council.read("memberCount") == fits
        assert council.receipt["gas_used"] < CAP
        with pytest.raises(TransactionFailed, match="initcode"):
            founding(chain, too_many).deploy()


def test_constructor__same_schema_twice__reverts(council):
    assert Council(Chain(), schemas=[(1, b"{}"), (1, b"[]")]).refusal_to_found() == ("SchemaExists", 1)
    assert Council(Chain(), schemas=[(1, b"{}"), (2, b"[]")]).refusal_to_found() is None


def test_deployer__after_the_founding__can_do_nothing(founded):
    deployer, supervisor = founded.deployer, founded.supervisor
    digest = keccak(b"")
    by_proposal = {
        "inviteMember": (deployer, "Bank Z"),
        "removeMember": (0,),
        "replaceOwner": (0, deployer),
        "addSupervisor": (deployer,),
        "removeSupervisor": (supervisor,),
        "setTerms": (1, tuple(PARAMETERS.values())),
        "registerSchema": (2, b"{}"),
        "setGroup": (1, bitmap(0, 1, 2, 3)),
        "setTagKey": (2, digest),
        "approveJointCredit": (digest,),
    }
    by_owner = {
        "confirm": founded.confirmation(founded.banks[5]),
        "rotateKey": (0, digest, False, b""),
        "nameAccount": (0, deployer, digest, b""),
        "takeAccount": (0,),
    }
    by_member = {"propose": ([], ""), "vote": (1, digest), "withdrawVote": (1,), "withdrawProposal": (1,)}
    by_supervisor = {"announcePeriodKey": (digest, b""), "reinstate": (0,), "approve": (1, digest)}
    by_account = {
        "setReady": (0, True),
        "sealMaskKeys": (0, 1, 1, b""),
        "anchor": (founded.banks[0].owner, digest),
        "notify": (founded.banks[0].owner, b"x"),
        "auditOk": (supervisor, 0, 1, 1),
        "suspend": (supervisor, 0),
        "endPeriodKey": (supervisor, 1),
    }

    for function, arguments in by_proposal.items():
        assert founded.refusal(deployer, function, *arguments) == ("OnlyByProposal",)
    for function, arguments in by_owner.items():
        assert founded.refusal(deployer, function, *arguments) == ("NotOwner", deployer, arguments[0])
    for function, arguments in by_member.items():
        assert founded.refusal(deployer, function, *arguments) == ("NotMember", deployer)
    for function, arguments in by_supervisor.items():
        assert founded.refusal(deployer, function, *arguments) == ("NotSupervisor", deployer)
    for function, arguments in by_account.items():
        account = founded.supervisor_account if supervisor in arguments else founded.banks[0].account
        assert founded.refusal(deployer, function, *arguments) == ("NotAccount", deployer, account)
    founded.chain.travel(DAY)
    founded.announce(2)
    attempt = (deployer, "putPeriodKeyInForce", supervisor, 2)
    assert founded.refusal(*attempt) == ("NotAccount", deployer, founded.supervisor_account)
    assert founded.refusal(deployer, "withdrawApproval", 1) == ("UnknownProposal", 1)
    assert founded.refusal(deployer, "lapse", 1) == ("NotJointCredit", deployer)
    assert founded.refusal(deployer, "suspendCulprits", 1) == ("NotJointCredit", deployer)
    assert founded.refusal(deployer, "execute", 1, [], ZERO) == ("UnknownProposal", 1)
    assert founded.refusal(deployer, "tryOut", []) == ("WouldPass",)
    assert founded.refusal(deployer, "createJointCredit", b"") == ("InitCodeDiffers", keccak(b""), ZERO_32)
    # This is every function of the interface that is no view: none was forgotten.
    tried = {*by_proposal, *by_owner, *by_member, *by_supervisor, *by_account, "putPeriodKeyInForce"}
    others = {"withdrawApproval", "lapse", "suspendCulprits", "execute", "tryOut", "createJointCredit"}
    writing = {n for n, e in founded.functions.items() if e["stateMutability"] not in ("view", "pure")}
    assert writing == tried | others


def test_opening_terms__before_the_minimum_has_confirmed__reverts_with_not_founded(council):
    council.send(council.outsider, "createJointCredit", council.joint_credit_code)
    for bank in council.banks[:3]:
        council.confirm(bank)
    council.name_supervisor_account(council.supervisor, council.supervisor_account)
    council.announce(1)
    council.audit(range(3))
    council.ready(range(3))

    assert council.terms() == ("NotFounded", 3, 4)
    council.confirm(council.banks[3])
    assert council.terms() == ("NoPeriodKey",)
    council.audit([3])
    council.put_in_force(1)
    assert council.terms() == ("CohortTooSmall", 3, 4)
    council.ready([3])
    assert council.terms()["ready"] == bitmap(0, 1, 2, 3)


def test_opening_terms__before_opens_from__reverts_with_too_early():
    chain = Chain()
    opens_from = chain.now() + DAY
    council = Council(chain, opensFrom=opens_from).deploy().found(5)
    council.ready(range(5))

    assert council.read("opensFrom") == opens_from
    assert council.changes(council.receipt)[0] == ("Founded", opens_from, PERIOD)
    council.chain.travel(opens_from - 1 - chain.now())
    assert council.terms() == ("TooEarly", opens_from)
    council.chain.travel(1)
    assert council.terms()["ready"] == bitmap(0, 1, 2, 3, 4)


def test_propose__before_the_minimum_has_confirmed__reverts_with_not_founded(council):
    for bank in council.banks[:3]:
        council.confirm(bank)
    call = council.encoded("setTagKey", 2, keccak(b"tag key 2"))
    owner = council.banks[0].owner

    assert council.refusal(owner, "propose", [call], "") == ("NotFounded", 3, 4)
    council.confirm(council.banks[3])
    assert council.refusal(owner, "propose", [call], "") is None
