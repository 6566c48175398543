"""Readiness and the cohort: who takes part in an inquiry that opens now.

declareReady
├── not an operator, not confirmed, more than 7 days ahead: NotMember, UnknownMember, ReadyTooLong
└── else ready until then; 0 or a time that has passed: not ready
openingTerms
├── not the current JointCredit, not an operator, unknown schema or group, no supervisor key: each its error
├── cohort below the minimum, inquirer not in it: CohortTooSmall, NotServing
└── else the terms, over exactly the members that are confirmed, audited, not suspended, ready and of the group
lapse: only a JointCredit; the silent are not ready until they say so again
suspendCulprits: only a JointCredit; the culprits that are members, once each
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import DAY, SCHEMA_1, bitmap, founded_council, stand_in_code

EVERYBODY = bitmap(0, 1, 2, 3, 4)


@pytest.fixture
def council():
    with founded_council() as council:
        yield council


# ---------------------------------------------------------------- declareReady


def test_declare_ready__by_an_operator__until_that_time(council):
    until = council.chain.now() + 100

    receipt = council.send(council.banks[2].operator, "declareReady", until)

    assert council.events(receipt) == [("ReadinessDeclared", 2, until)]
    assert council.read("member", 2)["readyUntil"] == until
    council.chain.travel(until - 1 - council.chain.now())
    assert council.read("memberSets")[2] == bitmap(2)
    council.chain.travel(1)
    assert council.read("memberSets")[2] == 0


def test_declare_ready__zero_or_past__is_not_ready(council):
    council.ready(range(5))

    council.send(council.banks[1].operator, "declareReady", 0)
    council.send(council.banks[3].operator, "declareReady", council.chain.now() - 1)

    assert council.read("cohortOf", 0) == bitmap(0, 2, 4)


def test_declare_ready__more_than_seven_days_ahead__reverts(council):
    operator, latest = council.banks[0].operator, council.chain.now() + 7 * DAY

    assert council.refusal(operator, "declareReady", latest) is None
    assert council.refusal(operator, "declareReady", latest + 1) == ("ReadyTooLong", latest + 1, latest)
    assert council.refusal(operator, "declareReady", 2**32 - 1) == ("ReadyTooLong", 2**32 - 1, latest)


def test_declare_ready__by_another_account__reverts(council):
    for account in (council.banks[0].owner, council.supervisor, council.outsider):
        assert council.refusal(account, "declareReady", 0) == ("NotMember", account)
    assert council.refusal(council.banks[5].operator, "declareReady", 0) == ("UnknownMember", 5)


def test_declare_ready__members_in_one_word__do_not_touch_each_other(council):
    until = council.chain.now() + DAY
    for index in (4, 0, 2):
        council.ready([index], until + index)

    assert [council.read("member", i)["readyUntil"] for i in range(6)] == [until, 0, until + 2, 0, until + 4, 0]


def test_declare_ready__before_the_audit__counts_from_the_audit_on(council):
    council.confirm(council.banks[5])
    council.ready(range(6))
    before = council.read("cohortOf", 0)

    council.send(council.supervisor, "auditOk", 5, 1)

    assert before == EVERYBODY
    assert council.read("cohortOf", 0) == EVERYBODY | bitmap(5)


# ---------------------------------------------------------------- openingTerms


def test_opening_terms__ready_members__are_the_cohort(council):
    council.ready(range(5))

    assert council.terms(bank=3) == {
        "member": 3,
        "cohort": EVERYBODY,
        "roster": council.read("roster"),
        "schemaHash": keccak(SCHEMA_1),
        "minimumModulusBits": 2048,
        "answerSeconds": 600,
        "reportSeconds": 3600,
    }


@pytest.mark.parametrize("missing", ["not ready", "suspended", "rotated", "removed"])
def test_opening_terms__member_that_does_not_serve__is_not_in_the_cohort(council, missing):
    if missing == "removed":
        council.decide(council.encoded("removeMember", 4))
    council.ready(range(4) if missing in ("not ready", "removed") else range(5))
    if missing == "suspended":
        council.send(council.supervisor, "suspend", 4)
    if missing == "rotated":
        council.rotate(council.banks[4], 2)

    assert council.terms()["cohort"] == bitmap(0, 1, 2, 3)
    if missing == "removed":
        assert council.terms(bank=4) == ("NotMember", council.banks[4].operator)
    else:
        assert council.terms(bank=4) == ("NotServing", 4)


def test_opening_terms__too_few_ready__reverts(council):
    council.ready(range(3))

    assert council.terms() == ("CohortTooSmall", 3, 4)
    council.ready([4])
    assert council.terms()["cohort"] == bitmap(0, 1, 2, 4)


def test_opening_terms__unknown_schema_or_operator__reverts(council):
    council.ready(range(5))

    assert council.terms(schema=2) == ("UnknownSchema", 2)
    assert council.terms(group=1) == ("UnknownGroup", 1)
    assert council.terms(bank=6) == ("NotMember", council.banks[6].operator)
    assert council.terms(bank=5) == ("NotServing", 5)


def test_opening_terms__any_other_caller__reverts(council):
    council.ready(range(5))
    current = council.read("jointCredit")

    for account in (council.banks[0].operator, council.supervisor, council.deployer):
        refusal = council.refusal(account, "openingTerms", council.banks[0].operator, 0, 1)
        assert refusal == ("NotCurrentJointCredit", account, current)


# ---------------------------------------------------------------- lapse, suspendCulprits


def test_lapse__by_the_joint_credit__takes_readiness_until_declared_again(council):
    council.ready(range(5))

    council.from_joint_credit("lapse", bitmap(1, 3))
    lapsed = council.read("cohortOf", 0)
    council.ready([3])

    assert lapsed == bitmap(0, 2, 4)
    assert council.read("cohortOf", 0) == bitmap(0, 2, 3, 4)
    assert council.read("member", 1)["readyUntil"] == 0


def test_lapse__names_the_silent_in_its_event(council):
    receipt = council.from_joint_credit("lapse", bitmap(1, 9, 215))

    assert council.events(receipt) == [("ReadinessLapsed", bitmap(1, 9, 215))]


def test_lapse__by_a_replaced_joint_credit__still_counts(council):
    council.ready(range(5))
    old, code = council.read("jointCredit"), stand_in_code(b"next")
    council.decide(council.encoded("approveJointCredit", keccak(code)))
    council.send(council.outsider, "createJointCredit", code)

    council.ready(range(5))
    council.chain.transact(council.outsider, old, council.encoded("lapse", bitmap(0)))

    assert council.read("jointCredit") != old
    assert council.read("cohortOf", 0) == bitmap(1, 2, 3, 4)


def test_lapse__by_anyone_else__reverts(council):
    for account in (council.supervisor, council.banks[0].owner, council.banks[0].operator, council.outsider):
        assert council.refusal(account, "lapse", bitmap(1)) == ("NotJointCredit", account)
        assert council.refusal(account, "suspendCulprits", bitmap(1)) == ("NotJointCredit", account)


def test_suspend_culprits__members__once_each(council):
    council.send(council.supervisor, "suspend", 1)

    receipt = council.from_joint_credit("suspendCulprits", bitmap(1, 3, 5, 200))

    assert council.changes(receipt) == [("MemberSuspended", 3)]
    assert council.read("memberSets")[1] == bitmap(0, 2, 4)
    assert [council.read("member", i)["suspended"] for i in range(6)] == [False, True, False, True, False, False]


def test_suspend_culprits__nobody__changes_nothing(council):
    assert council.events(council.from_joint_credit("suspendCulprits", 0)) == []
