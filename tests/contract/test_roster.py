"""The roster (R39): one hash chain over everything that happened to membership, keys, accounts, terms and contracts.

roster
├── begins with the label, the chain and the contract
├── goes on with each change of each kind, in the order in which they happened
└── stays as it is at readiness, seals, notices, anchors, votes, and at each call that reverts

What each link is made of is written here a second time, from what the test did and not from the events.
"""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_utils import keccak
from governance import (
    CHANGE_TYPES,
    CHANGES,
    DAY,
    PARAMETERS,
    SCHEMA_1,
    SUPERVISOR,
    ZERO_32,
    Council,
    bitmap,
    founded_council,
    invited_council,
    period_key,
    stand_in_code,
)
from onchain import PERIOD


class Chronicle:
    """The chain that the roster should be."""

    def __init__(self, council: Council) -> None:
        self.council = council
        self.kinds: set[str] = set()
        label = b"mpcredit/roster/2".ljust(32, b"\0")
        chain_id = council.chain.backend.chain.chain_id
        self.head = keccak(encode(["bytes32", "uint256", "address"], [label, chain_id, council.address]))

    def expect(self, kind, *values):
        """One link more."""
        data = encode(CHANGE_TYPES[kind].split(), values)
        self.head = keccak(encode(["bytes32", "uint8", "bytes"], [self.head, CHANGES.index(kind), data]))
        self.kinds.add(kind)

    def check(self):
        """The contract has the same chain."""
        assert self.council.read("roster") == self.head


@pytest.fixture
def council():
    with invited_council() as council:
        yield council


@pytest.fixture
def founded():
    with founded_council() as council:
        yield council


def tell_founding(chronicle: Chronicle) -> None:
    """The links of the constructor."""
    council = chronicle.council
    chronicle.expect("Founded", 0, PERIOD)
    chronicle.expect("TermsChanged", *PARAMETERS.values())
    chronicle.expect("SupervisorAdded", council.supervisor)
    for bank in council.banks[:6]:
        chronicle.expect("MemberInvited", bank.index, bank.owner, bank.name)
    chronicle.expect("SchemaSet", 1, keccak(SCHEMA_1))
    chronicle.expect("TagKeySet", 1, keccak(b"tag key 1"))
    chronicle.expect("JointCreditApproved", keccak(council.joint_credit_code))
    chronicle.check()


def tell_beginning(chronicle: Chronicle) -> None:
    """Five banks confirm; period key 1 comes in force; JointCredit is created."""
    council = chronicle.council
    for bank in council.banks[:5]:
        council.confirm(bank)
        _, key, key_signature, account, tenure, signature = council.confirmation(bank)
        chronicle.expect("MemberConfirmed", bank.index)
        chronicle.expect("KeySet", bank.index, 1, key, False, key_signature)
        chronicle.expect("AccountNamed", bank.index, bank.owner, account, 1, tenure, signature)
        chronicle.check()
    own, account = council.supervisor, council.supervisor_account
    council.name_supervisor_account(own, account)
    signature = council.signed_account(own, SUPERVISOR, account)
    chronicle.expect("AccountNamed", SUPERVISOR, own, account, 1, ZERO_32, signature)
    council.announce(1)
    signature = council.signed_key(own, SUPERVISOR, 1, period_key(1))
    chronicle.expect("PeriodKeyAnnounced", 1, period_key(1), own, signature)
    council.audit(range(5))
    for index in range(5):
        chronicle.expect("MemberAudited", index, 1, 1)
    council.put_in_force(1)
    chronicle.expect("PeriodKeyInForce", 1)
    council.send(council.outsider, "createJointCredit", council.joint_credit_code)
    chronicle.expect("JointCreditSet", council.read("jointCredit"))
    chronicle.check()


def tell_people(chronicle: Chronicle) -> None:
    """What one party alone can change."""
    council, bank = chronicle.council, chronicle.council.banks[1]
    council.rotate(bank, 2, compromised=True)
    signature = council.signed_key(bank.owner, 1, 2, bank.key(2), bank.key(1))
    chronicle.expect("KeySet", 1, 2, bank.key(2), True, signature)
    council.send(bank.owner, "takeAccount", 1)
    chronicle.expect("AccountTaken", 1, bank.owner)
    council.chain.travel(DAY)
    council.name_account(bank, council.spare[0], 2, bank.tenure(2))
    signature = council.signed_account(bank.owner, 1, council.spare[0], 2, bank.tenure(2))
    chronicle.expect("AccountNamed", 1, bank.owner, council.spare[0], 2, bank.tenure(2), signature)
    council.send(council.supervisor_account, "suspend", council.supervisor, 2)
    chronicle.expect("MemberSuspended", 2)
    council.send(council.supervisor, "reinstate", 2)
    chronicle.expect("MemberReinstated", 2)
    council.from_joint_credit("suspendCulprits", bitmap(0, 3))
    chronicle.expect("MemberSuspended", 0)
    chronicle.expect("MemberSuspended", 3)
    council.send(council.supervisor, "takeAccount", SUPERVISOR)
    chronicle.expect("AccountTaken", SUPERVISOR, council.supervisor)
    chronicle.check()


def tell_proposals(chronicle: Chronicle) -> None:
    """What a proposal can change, all in one."""
    council, code = chronicle.council, stand_in_code(b"next")
    second, bank = council.second_supervisor, council.banks[6]
    council.decide(
        council.encoded("inviteMember", bank.owner, bank.name),
        council.encoded("replaceOwner", 0, council.outsider),
        council.encoded("addSupervisor", second),
        council.encoded("setTerms", 2, (0, 3072, *[0] * 9)),
        council.encoded("registerSchema", 2, b"{}"),
        council.encoded("removeMember", 4),
        council.encoded("setGroup", 3, bitmap(0, 1, 2, 3)),
        council.encoded("setTagKey", 2, keccak(b"tag key 2")),
        council.encoded("approveJointCredit", keccak(code)),
    )
    chronicle.expect("MemberInvited", 6, bank.owner, bank.name)
    chronicle.expect("OwnerReplaced", 0, council.outsider)
    chronicle.expect("SupervisorAdded", second)
    chronicle.expect("TermsChanged", *{**PARAMETERS, "minimumModulusBits": 3072}.values())
    chronicle.expect("SchemaSet", 2, keccak(b"{}"))
    chronicle.expect("MemberRemoved", 4)
    chronicle.expect("GroupSet", 3, bitmap(0, 1, 2, 3))
    chronicle.expect("TagKeySet", 2, keccak(b"tag key 2"))
    chronicle.expect("JointCreditApproved", keccak(code))
    chronicle.check()


def tell_end_of_keys(chronicle: Chronicle) -> None:
    """A key ends by a supervisor, and others with the supervisor that holds them."""
    council, own, second = chronicle.council, chronicle.council.supervisor, chronicle.council.second_supervisor
    council.chain.travel(DAY)
    council.announce(2)
    signature = council.signed_key(own, SUPERVISOR, 2, period_key(2), period_key(1))
    chronicle.expect("PeriodKeyAnnounced", 2, period_key(2), own, signature)
    removal = council.encoded("removeSupervisor", own)
    proposal, digest = council.propose(removal, by=1)
    council.agree(proposal, digest, [1, 2, 3])
    council.send(second, "approve", proposal, digest)
    council.chain.travel(PARAMETERS["delaySeconds"])
    council.send(second, "endPeriodKey", second, 1)
    chronicle.expect("PeriodKeyEnded", 1)
    council.send(council.outsider, "execute", proposal, [removal], second)
    chronicle.expect("PeriodKeyEnded", 2)
    chronicle.expect("SupervisorRemoved", own)
    chronicle.check()


def test_roster__every_kind_of_change__is_the_hash_chain_over_all_of_them(council):
    chronicle = Chronicle(council)

    tell_founding(chronicle)
    tell_beginning(chronicle)
    tell_people(chronicle)
    tell_proposals(chronicle)
    tell_end_of_keys(chronicle)

    assert chronicle.kinds == set(CHANGES)


def test_roster__event_of_each_link__names_the_head_after_it(founded):
    receipts = [founded.rotate(founded.banks[1], 2), founded.decide(founded.encoded("removeMember", 4))]
    links = [values for r in receipts for name, *values in founded.events(r) if name == "RosterChanged"]

    assert len(links) == 2
    after_first = links[0][0]
    assert links[1][0] == keccak(encode(["bytes32", "uint8", "bytes"], [after_first, links[1][1], links[1][2]]))
    assert founded.read("roster") == links[1][0]


def test_roster__calls_that_are_no_change__leave_it(founded):
    founded.chain.next_period()
    bank, call = founded.banks[0], founded.encoded("setTagKey", 2, keccak(b"2"))
    roster = founded.read("roster")

    founded.ready(range(5))
    founded.send(bank.account, "sealMaskKeys", 0, 1, 1, b"sealed")
    founded.send(bank.account, "anchor", bank.owner, ZERO_32)
    founded.send(bank.account, "notify", bank.owner, b"x")
    founded.from_joint_credit("lapse", bitmap(3))
    founded.from_joint_credit("suspendCulprits", 0)
    proposal = founded.settled(call)
    founded.send(founded.supervisor, "withdrawApproval", proposal)
    founded.send(bank.owner, "withdrawVote", proposal)
    founded.send(bank.owner, "withdrawProposal", proposal)

    assert founded.read("roster") == roster
    founded.decide(call)
    assert founded.read("roster") != roster


def test_roster__execution_itself__adds_only_the_links_of_its_calls(founded):
    receipt = founded.decide(founded.encoded("setTagKey", 2, keccak(b"2")))

    assert founded.changes(receipt) == [("TagKeySet", 2, keccak(b"2"))]


def test_roster__two_consortia_with_the_same_history__differ(founded):
    twin = Council(founded.chain).deploy()
    first = Chronicle(twin)

    tell_founding(first)

    assert Chronicle(founded).head != Chronicle(twin).head
