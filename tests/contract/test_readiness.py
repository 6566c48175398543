"""Readiness and the cohort: which members take part in an inquiry that opens now.

setReady
├── not the member's service account: NotAccount; as it is already: NothingChanges
├── on or off: counts from the next full period of block time on
└── no link of the roster
suspension, removal, a missing account, a compromised key: at once
openingTerms
├── not the current JointCredit, not the service account: NotCurrentJointCredit, NotAccount
├── unknown schema or group, no period key: UnknownSchema, UnknownGroup, NoPeriodKey
├── fewer ready than the minimum, the inquirer not among them: CohortTooSmall, NotServing
└── else the terms, over exactly the members that are confirmed, audited, not suspended, ready and of the group
lapse: only a JointCredit; the silent are off from the next period on, until they say so again
suspendCulprits: only a JointCredit; the culprits that are members, once each
Before the founding is complete, or before opensFrom: test_founding.py
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import DAY, SCHEMA_1, Council, bitmap, founded_council, stand_in_code
from onchain import PERIOD, Chain

EVERYBODY = bitmap(0, 1, 2, 3, 4)


@pytest.fixture
def council():
    """At the start of a period."""
    with founded_council() as council:
        council.chain.next_period()
        yield council


def left(council):
    """Seconds until the last one of the present period."""
    return PERIOD - 1 - council.chain.now() % PERIOD


# ---------------------------------------------------------------- setReady


def test_set_ready__on_and_off__each_counts_from_the_next_full_period_on(council):
    account = council.banks[2].account

    on = council.send(account, "setReady", 2, True)
    council.chain.travel(left(council))
    last_second_before = council.read("cohortOf", 0)
    council.chain.travel(1)
    first_second = council.read("cohortOf", 0)
    off = council.send(account, "setReady", 2, False)
    council.chain.travel(left(council))
    last_second = council.read("cohortOf", 0)
    council.chain.travel(1)

    assert council.events(on) == [("ReadinessSet", 2, True)]
    assert council.events(off) == [("ReadinessSet", 2, False)]
    assert (last_second_before, first_second, last_second) == (0, bitmap(2), bitmap(2))
    assert council.read("cohortOf", 0) == 0


def test_set_ready__in_the_last_second_of_a_period__counts_a_second_later(council):
    council.chain.travel(left(council) - 1)

    council.send(council.banks[2].account, "setReady", 2, True)

    assert council.chain.now() % PERIOD == PERIOD - 1
    before = council.read("cohortOf", 0)
    council.chain.travel(1)
    assert (before, council.read("cohortOf", 0)) == (0, bitmap(2))


def test_set_ready__on_and_off_within_a_period__changes_no_cohort(council):
    council.ready([0, 1])
    council.send(council.banks[2].account, "setReady", 2, True)
    council.send(council.banks[1].account, "setReady", 1, False)
    council.send(council.banks[2].account, "setReady", 2, False)
    council.send(council.banks[1].account, "setReady", 1, True)

    before = council.read("cohortOf", 0)
    council.chain.next_period()

    assert (before, council.read("cohortOf", 0)) == (bitmap(0, 1), bitmap(0, 1))


@pytest.mark.parametrize("periods", [1, 2, 1000])
def test_set_ready__change_after_idle_periods__what_was_due_holds_until_the_change_counts(council, periods):
    council.send(council.banks[0].account, "setReady", 0, True)
    council.chain.travel(periods * PERIOD)

    council.send(council.banks[1].account, "setReady", 1, True)

    before = council.read("cohortOf", 0)
    council.chain.next_period()
    assert (before, council.read("cohortOf", 0)) == (bitmap(0), bitmap(0, 1))


def test_set_ready__never_changed_again__stays_ready_for_ever(council):
    council.ready(range(5))

    council.chain.travel(400 * DAY)

    assert council.terms()["ready"] == EVERYBODY


def test_set_ready__as_it_is__reverts(council):
    account = council.banks[0].account

    assert council.refusal(account, "setReady", 0, False) == ("NothingChanges",)
    council.send(account, "setReady", 0, True)
    # Before it counts, and after.
    assert council.refusal(account, "setReady", 0, True) == ("NothingChanges",)
    council.chain.next_period()
    assert council.refusal(account, "setReady", 0, True) == ("NothingChanges",)
    assert council.refusal(account, "setReady", 0, False) is None


def test_set_ready__by_another_account__reverts(council):
    account = council.banks[0].account

    for sender in (council.banks[0].owner, council.banks[1].account, council.supervisor_account, council.outsider):
        assert council.refusal(sender, "setReady", 0, True) == ("NotAccount", sender, account)
    unconfirmed = council.banks[5].account
    assert council.refusal(unconfirmed, "setReady", 5, True)[0] == "NotAccount"
    assert council.refusal(account, "setReady", 0, True) is None


def test_set_ready__before_the_audit__counts_from_the_audit_on(council):
    council.confirm(council.banks[5])
    council.ready(range(6))
    before = council.read("cohortOf", 0)

    council.audit([5])

    assert before == EVERYBODY
    assert council.read("cohortOf", 0) == EVERYBODY | bitmap(5)


def test_set_ready__any__is_no_link_of_the_roster(council):
    roster = council.read("roster")

    council.ready(range(5))
    council.from_joint_credit("lapse", bitmap(1))

    assert council.read("roster") == roster


@pytest.mark.parametrize("seconds", [1, 2, 255])
def test_set_ready__founding_with_another_period__counts_from_that_period_on(seconds):
    council = Council(Chain(), periodSeconds=seconds).deploy().found(5)
    council.chain.next_period(seconds)

    council.send(council.banks[0].account, "setReady", 0, True)

    sent = council.chain.now()
    council.chain.travel(seconds - 1 - sent % seconds)
    before = council.read("member", 0)["ready"]
    council.chain.travel(1)
    # A transaction comes a second after the block before it: with periods of one second, in a period of its own.
    assert before is False
    assert council.read("member", 0)["ready"] is True


# ---------------------------------------------------------------- at once


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("missing", ["suspended", "compromised", "removed", "account taken"])
def test_opening_terms__member_that_drops_out__is_out_of_the_cohort_within_the_period(council, missing, changed):
    call = council.encoded("removeMember", 4)
    removal = council.settled(call) if missing == "removed" else 0
    council.ready(range(5))
    if changed:
        # The contract then keeps two sets, of this period and of the next.
        council.send(council.banks[3].account, "setReady", 3, False)
    before = council.terms()["ready"]

    if missing == "suspended":
        council.send(council.supervisor_account, "suspend", council.supervisor, 4)
    if missing == "compromised":
        council.rotate(council.banks[4], 2, compromised=True)
    if missing == "removed":
        council.send(council.outsider, "execute", removal, [call], council.supervisor)
    if missing == "account taken":
        council.send(council.banks[4].owner, "takeAccount", 4)

    assert council.chain.now() % PERIOD < PERIOD - 1
    assert before == EVERYBODY
    assert council.terms()["ready"] == bitmap(0, 1, 2, 3)
    refusal = council.terms(bank=4)
    assert refusal[0] == ("NotAccount" if missing in ("removed", "account taken") else "NotServing")


def test_removed_and_taken__ready_for_the_next_period_only__are_not_ready_then_either(council):
    council.ready(range(3))
    council.send(council.banks[3].account, "setReady", 3, True)

    council.send(council.banks[3].owner, "takeAccount", 3)

    council.chain.next_period()
    assert council.read("cohortOf", 0) == bitmap(0, 1, 2)


# ---------------------------------------------------------------- openingTerms


def test_opening_terms__ready_members__are_those_to_ask(council):
    council.ready(range(5))

    assert council.terms(bank=3) == {
        "ready": EVERYBODY,
        "roster": council.read("roster"),
        "schemaHash": keccak(SCHEMA_1),
        "minimumCohort": 4,
        "minimumModulusBits": 2048,
        "answerSeconds": 600,
        "reportSeconds": 3600,
        "silenceSeconds": 60,
    }
    assert council.read("cohortOf", 0) == EVERYBODY
    assert council.read("memberSets") == (EVERYBODY,) * 3


def test_opening_terms__too_few_ready__reverts(council):
    council.ready(range(3))

    assert council.terms() == ("CohortTooSmall", 3, 4)
    council.ready([4])
    assert council.terms()["ready"] == bitmap(0, 1, 2, 4)


def test_opening_terms__inquirer_is_not_ready__reverts(council):
    council.ready(range(4))

    assert council.terms(bank=4) == ("NotServing", 4)
    council.ready([4])
    assert council.terms(bank=4)["ready"] == EVERYBODY


def test_opening_terms__unknown_schema_group_or_account__reverts(council):
    council.ready(range(5))
    first, second = council.banks[0], council.banks[1]

    def refusal(index, sender):
        data = council.encoded("openingTerms", index, sender, 0, 1)
        return council.refusal_of(council.outsider, data, through=council.read("jointCredit"))

    assert council.terms(schema=2) == ("UnknownSchema", 2)
    assert council.terms(group=1) == ("UnknownGroup", 1)
    assert council.terms(bank=5)[0] == "NotAccount"
    assert council.terms(bank=6)[0] == "NotAccount"
    assert refusal(0, first.account) is None
    for sender in (first.owner, second.account, council.supervisor_account):
        assert refusal(0, sender) == ("NotAccount", sender, first.account)


def test_opening_terms__any_other_caller__reverts(council):
    council.ready(range(5))
    current = council.read("jointCredit")

    for account in (council.banks[0].account, council.supervisor, council.deployer):
        refusal = council.refusal(account, "openingTerms", 0, council.banks[0].account, 0, 1)
        assert refusal == ("NotCurrentJointCredit", account, current)


# ---------------------------------------------------------------- lapse, suspendCulprits


def test_lapse__by_the_joint_credit__counts_from_the_next_period_on_until_they_are_ready_again(council):
    council.ready(range(5))

    receipt = council.from_joint_credit("lapse", bitmap(1, 3, 9, 215))
    before = council.read("cohortOf", 0)
    council.chain.next_period()
    lapsed = council.read("cohortOf", 0)
    council.ready([3])

    assert council.events(receipt) == [("ReadinessLapsed", bitmap(1, 3))]
    assert (before, lapsed) == (EVERYBODY, bitmap(0, 2, 4))
    assert council.read("cohortOf", 0) == bitmap(0, 2, 3, 4)


def test_lapse__readiness_that_does_not_count_yet__goes_too(council):
    council.ready(range(4))
    council.send(council.banks[4].account, "setReady", 4, True)

    council.from_joint_credit("lapse", bitmap(4))

    council.chain.next_period()
    assert council.read("cohortOf", 0) == bitmap(0, 1, 2, 3)


def test_lapse__nobody_that_is_ready__changes_nothing(council):
    council.ready(range(4))
    data = council.encoded("lapse", bitmap(4, 5))

    answer = council.chain.call(council.outsider, council.read("jointCredit"), data)
    receipt = council.from_joint_credit("lapse", bitmap(4, 5))

    assert int.from_bytes(answer, "big") == 0
    assert council.events(receipt) == []
    answer = council.chain.call(council.outsider, council.read("jointCredit"), council.encoded("lapse", bitmap(3, 4)))
    assert int.from_bytes(answer, "big") == bitmap(3)


def test_lapse__by_a_replaced_joint_credit__still_counts(council):
    council.ready(range(5))
    old, code = council.read("jointCredit"), stand_in_code(b"next")
    council.decide(council.encoded("approveJointCredit", keccak(code)))
    council.send(council.outsider, "createJointCredit", code)

    council.chain.transact(council.outsider, old, council.encoded("lapse", bitmap(0)))

    council.chain.next_period()
    assert council.read("jointCredit") != old
    assert council.read("cohortOf", 0) == bitmap(1, 2, 3, 4)


def test_lapse_and_suspend_culprits__by_anyone_else__revert(council):
    for account in (council.supervisor, council.supervisor_account, council.banks[0].owner, council.banks[0].account):
        assert council.refusal(account, "lapse", bitmap(1)) == ("NotJointCredit", account)
        assert council.refusal(account, "suspendCulprits", bitmap(1)) == ("NotJointCredit", account)


def test_suspend_culprits__members__once_each(council):
    council.send(council.supervisor_account, "suspend", council.supervisor, 1)

    receipt = council.from_joint_credit("suspendCulprits", bitmap(1, 3, 5, 200))

    assert council.changes(receipt) == [("MemberSuspended", 3)]
    assert council.read("memberSets")[1] == bitmap(0, 2, 4)
    assert [council.read("member", i)["suspended"] for i in range(6)] == [False, True, False, True, False, False]


def test_suspend_culprits__nobody__changes_nothing(council):
    assert council.events(council.from_joint_credit("suspendCulprits", 0)) == []
