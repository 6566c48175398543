"""Period keys: a supervisor's owner announces one, audits bring it in force, and any supervisor can end it.

announcePeriodKey
├── not a supervisor's owner account: NotSupervisor
├── within 24 hours of this supervisor's last one: TooEarly
├── key of low order, used before, signature for another version, key, key before, index or account: BadKey, ...
└── else announced, in the place of one that was announced before, whoever announced that
auditOk
├── a period key that is neither announced nor in force, or another supervisor's: UnknownPeriodKey
├── not the service account, not a member, another key version, again: NotAccount, UnknownMember, KeyVersion, ...
└── else the member counts for that period key, with this key
putPeriodKeyInForce
├── not announced, another supervisor's, not the service account: UnknownPeriodKey, NotAccount
├── a member that is not suspended lacks the audit: PeriodKeyNotAccepted; after 7 days only the minimum cohort counts
└── else in force; members without the audit do not serve
endPeriodKey
├── neither announced nor in force, no account of a supervisor: UnknownPeriodKey, NotSupervisor, NotAccount
└── else ended at once: without a key in force nobody serves and nothing opens
removeSupervisor ends its keys
"""

from __future__ import annotations

import pytest
from governance import DAY, SUPERVISOR, ZERO, ZERO_32, Council, bitmap, founded_council, invited_council, period_key

NOBODY = {"key": ZERO_32, "holder": ZERO, "version": 0, "announcedAt": 0}
EVERYBODY = bitmap(0, 1, 2, 3, 4)


@pytest.fixture
def council():
    """A day after period key 1 was announced; it is in force."""
    with founded_council() as council:
        council.chain.travel(DAY)
        yield council


@pytest.fixture
def invited():
    with invited_council() as council:
        yield council


@pytest.fixture
def two(council):
    """With a second supervisor."""
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    council.name_supervisor_account(council.second_supervisor, council.service[council.second_supervisor])
    return council


def to_put_in_force(council: Council, version=2, owner=None, account=None):
    """The refusal of bringing a key in force."""
    owner = owner or council.supervisor
    return council.refusal(account or council.service[owner], "putPeriodKeyInForce", owner, version)


# ---------------------------------------------------------------- announcePeriodKey


def test_announce__first_key__is_announced_and_not_in_force(invited):
    receipt = invited.announce(1)

    signature = invited.signed_key(invited.supervisor, SUPERVISOR, 1, period_key(1))
    assert invited.changes(receipt) == [("PeriodKeyAnnounced", 1, period_key(1), invited.supervisor, signature)]
    announced = {
        "key": period_key(1),
        "holder": invited.supervisor,
        "version": 1,
        "announcedAt": invited.chain.now(),
    }
    assert invited.read("periodKeys") == (NOBODY, announced)


def test_announce__next_key__leaves_the_one_in_force(council):
    council.ready(range(5))

    council.announce(2)

    in_force, announced = council.read("periodKeys")
    assert (in_force["key"], in_force["version"]) == (period_key(1), 1)
    assert (announced["key"], announced["version"], announced["announcedAt"]) == (period_key(2), 2, council.chain.now())
    assert council.terms()["ready"] == EVERYBODY


def test_announce__again_within_a_day__reverts(council):
    council.announce(2)
    permitted = council.chain.now() + DAY
    signature = council.signed_key(council.supervisor, SUPERVISOR, 3, period_key(3), period_key(2))

    def refusal():
        return council.refusal(council.supervisor, "announcePeriodKey", period_key(3), signature)

    assert refusal() == ("TooEarly", permitted)
    council.chain.travel(DAY - 1)
    assert refusal() == ("TooEarly", permitted)
    council.chain.travel(1)
    assert refusal() is None


def test_announce__over_one_that_waits__takes_its_place(two):
    two.announce(2)
    two.audit(range(5), period=2)

    two.announce(3, two.second_supervisor)

    assert two.read("periodKeys")[1]["holder"] == two.second_supervisor
    assert to_put_in_force(two, 2) == ("UnknownPeriodKey", 2)
    # The audits were for key 2.
    assert to_put_in_force(two, 3, two.second_supervisor) == ("PeriodKeyNotAccepted", EVERYBODY, 0)


def test_announce__refused_twins(council):
    own, bank = council.supervisor, council.banks[0]

    def refusal(key, *, index=SUPERVISOR, version=2, previous=None, signer=own, sender=own):
        previous = period_key(1) if previous is None else previous
        signature = council.signed_key(signer, index, version, key, previous)
        return council.refusal(sender, "announcePeriodKey", key, signature)

    key = period_key(2)
    assert refusal(key) is None
    for account in (council.supervisor_account, bank.owner, bank.account, council.second_supervisor, council.deployer):
        assert refusal(key, sender=account, signer=account) == ("NotSupervisor", account)
    assert refusal(period_key(1)) == ("KeyInUse", period_key(1))
    assert refusal(bank.key()) == ("KeyInUse", bank.key())
    assert refusal(ZERO_32) == ("BadKey",)
    assert refusal(key, signer=council.supervisor_account) == ("BadSignature", council.supervisor_account, own)
    assert refusal(key, index=0)[0] == "BadSignature"
    assert refusal(key, version=1)[0] == "BadSignature"
    assert refusal(key, previous=ZERO_32)[0] == "BadSignature"


def test_announce__after_an_end__counts_on_and_names_the_ended_key(council):
    council.send(council.supervisor, "endPeriodKey", council.supervisor, 1)

    council.announce(2)

    signature = council.signed_key(council.supervisor, SUPERVISOR, 3, period_key(3), ZERO_32)
    council.chain.travel(DAY)
    assert council.read("periodKeys")[1]["version"] == 2
    assert council.refusal(council.supervisor, "announcePeriodKey", period_key(3), signature)[0] == "BadSignature"
    council.announce(3)


# ---------------------------------------------------------------- auditOk


def test_audit_ok__under_the_key_in_force__the_member_serves(council):
    council.confirm(council.banks[5])
    before = council.read("memberSets")

    receipt = council.send(council.supervisor_account, "auditOk", council.supervisor, 5, 1, 1)

    assert before == (EVERYBODY | bitmap(5), EVERYBODY, 0)
    assert council.changes(receipt) == [("MemberAudited", 5, 1, 1)]
    assert council.read("memberSets")[1] == EVERYBODY | bitmap(5)
    assert council.read("member", 5)["auditedVersion"] == 1


def test_audit_ok__under_the_announced_key__serves_when_that_comes_in_force(council):
    council.confirm(council.banks[5])
    council.announce(2)

    council.audit(range(6), period=2)
    before = council.read("memberSets")[1]
    council.put_in_force(2)

    assert before == EVERYBODY
    assert council.read("memberSets")[1] == EVERYBODY | bitmap(5)


def test_audit_ok__refused_twins(council):
    council.rotate(council.banks[1], 2)
    council.announce(2)
    own, account = council.supervisor, council.supervisor_account

    def refusal(index=1, version=2, period=1, *, owner=own, sender=account):
        return council.refusal(sender, "auditOk", owner, index, version, period)

    assert refusal() is None
    assert refusal(period=2) is None
    assert refusal(version=1) == ("KeyVersion", 1, 2)
    assert refusal(version=3) == ("KeyVersion", 3, 2)
    assert refusal(5, 0) == ("UnknownMember", 5)
    assert refusal(9, 0) == ("UnknownMember", 9)
    for period in (0, 3):
        assert refusal(period=period) == ("UnknownPeriodKey", period)
    for owner in (council.second_supervisor, council.banks[0].owner):
        assert refusal(owner=owner) == ("UnknownPeriodKey", 1)
    # The supervisor's owner account stays cold.
    for sender in (own, council.banks[1].owner, council.banks[1].account, council.outsider):
        assert refusal(sender=sender) == ("NotAccount", sender, account)


def test_audit_ok__second_time__reverts(council):
    council.announce(2)
    for period in (1, 2):
        council.rotate(council.banks[period], 2)
        council.audit([period], 2, period)

        again = ("auditOk", council.supervisor, period, 2, period)
        assert council.refusal(council.supervisor_account, *again) == ("NothingChanges",)
    # Under the other key it is a change.
    assert council.refusal(council.supervisor_account, "auditOk", council.supervisor, 1, 2, 2) is None


def test_audit_ok__of_another_supervisors_key__reverts(two):
    two.announce(2, two.second_supervisor)
    second, account = two.second_supervisor, two.service[two.second_supervisor]

    assert two.refusal(two.supervisor_account, "auditOk", two.supervisor, 0, 1, 2) == ("UnknownPeriodKey", 2)
    assert two.refusal(two.supervisor_account, "auditOk", second, 0, 1, 2) == (
        "NotAccount",
        two.supervisor_account,
        account,
    )
    assert two.refusal(account, "auditOk", second, 0, 1, 1) == ("UnknownPeriodKey", 1)
    assert two.refusal(account, "auditOk", second, 0, 1, 2) is None


# ---------------------------------------------------------------- putPeriodKeyInForce


def test_put_in_force__all_audited__succeeds_the_old_key(council):
    council.ready(range(5))
    council.announce(2)
    announced = council.read("periodKeys")[1]
    council.audit(range(5), period=2)

    receipt = council.put_in_force(2)

    assert council.changes(receipt) == [("PeriodKeyInForce", 2)]
    assert council.read("periodKeys") == (announced, NOBODY)
    assert council.terms()["ready"] == EVERYBODY


def test_put_in_force__one_is_missing__reverts_for_seven_days(council):
    council.announce(2)
    announced = council.chain.now()
    council.audit(range(4), period=2)

    council.chain.travel(announced + 7 * DAY - 1 - council.chain.now())
    early = to_put_in_force(council)
    council.chain.travel(1)
    council.put_in_force(2)

    assert early == ("PeriodKeyNotAccepted", bitmap(4), bitmap(0, 1, 2, 3))
    assert council.read("memberSets")[1] == bitmap(0, 1, 2, 3)
    # The one that is late enters with its audit.
    council.audit([4], period=2)
    assert council.read("memberSets")[1] == EVERYBODY


def test_put_in_force__fewer_than_the_minimum_cohort__reverts_for_ever(council):
    council.announce(2)
    council.audit(range(3), period=2)
    council.chain.travel(60 * DAY)

    assert to_put_in_force(council) == ("PeriodKeyNotAccepted", bitmap(3, 4), bitmap(0, 1, 2))
    council.audit([3], period=2)
    assert to_put_in_force(council) is None


def test_put_in_force__the_missing_one_is_suspended__is_not_waited_for(council):
    council.announce(2)
    council.audit(range(4), period=2)
    before = to_put_in_force(council)

    council.send(council.supervisor_account, "suspend", council.supervisor, 4)

    assert before == ("PeriodKeyNotAccepted", bitmap(4), bitmap(0, 1, 2, 3))
    council.put_in_force(2)
    council.send(council.supervisor, "reinstate", 4)
    assert council.read("memberSets")[1] == bitmap(0, 1, 2, 3)


def test_put_in_force__audited_member_is_suspended__counts_for_nothing(council):
    council.announce(2)
    council.audit(range(5), period=2)
    for index in (3, 4):
        council.send(council.supervisor_account, "suspend", council.supervisor, index)

    assert to_put_in_force(council) == ("PeriodKeyNotAccepted", 0, bitmap(0, 1, 2))
    council.send(council.supervisor, "reinstate", 3)
    assert to_put_in_force(council) is None


def test_put_in_force__refused_twins(two):
    two.announce(2)
    two.audit(range(5), period=2)

    assert to_put_in_force(two) is None
    for version in (0, 1, 3):
        assert to_put_in_force(two, version) == ("UnknownPeriodKey", version)
    assert to_put_in_force(two, owner=two.second_supervisor) == ("UnknownPeriodKey", 2)
    for account in (two.supervisor, two.service[two.second_supervisor], two.banks[0].account, two.outsider):
        assert to_put_in_force(two, account=account) == ("NotAccount", account, two.supervisor_account)
    two.put_in_force(2)
    assert to_put_in_force(two) == ("UnknownPeriodKey", 2)
    assert to_put_in_force(two, 0) == ("UnknownPeriodKey", 0)


# ---------------------------------------------------------------- endPeriodKey


def test_end__key_in_force__nobody_serves_and_nothing_opens_at_once(council):
    council.ready(range(5))

    receipt = council.send(council.supervisor_account, "endPeriodKey", council.supervisor, 1)

    assert council.changes(receipt) == [("PeriodKeyEnded", 1)]
    assert council.read("periodKeys") == (NOBODY, NOBODY)
    assert council.read("memberSets") == (EVERYBODY, 0, 0)
    assert council.terms() == ("NoPeriodKey",)
    assert council.refusal(council.supervisor_account, "auditOk", council.supervisor, 0, 1, 1)[0] == "UnknownPeriodKey"


def test_end__announced_key__leaves_the_one_in_force(council):
    council.ready(range(5))
    council.announce(2)
    council.audit(range(5), period=2)

    receipt = council.send(council.supervisor_account, "endPeriodKey", council.supervisor, 2)

    assert council.changes(receipt) == [("PeriodKeyEnded", 2)]
    assert council.read("periodKeys")[1] == NOBODY
    assert to_put_in_force(council) == ("UnknownPeriodKey", 2)
    assert council.terms()["ready"] == EVERYBODY


def test_end__by_any_account_of_any_supervisor__also_of_one_that_holds_no_key(two):
    second = two.second_supervisor
    senders = [
        (two.supervisor, two.supervisor),
        (two.supervisor_account, two.supervisor),
        (second, second),
        (two.service[second], second),
    ]
    two.announce(2)

    for sender, owner in senders:
        for version in (1, 2):
            assert two.refusal(sender, "endPeriodKey", owner, version) is None


def test_end__refused_twins(two):
    second = two.second_supervisor

    def refusal(sender, owner, version=1):
        return two.refusal(sender, "endPeriodKey", owner, version)

    for version in (0, 2):
        assert refusal(two.supervisor, two.supervisor, version) == ("UnknownPeriodKey", version)
    two.announce(2)
    two.send(two.supervisor, "endPeriodKey", two.supervisor, 1)
    for version in (0, 1, 3):
        assert refusal(two.supervisor, two.supervisor, version) == ("UnknownPeriodKey", version)
    for owner in (two.third_supervisor, two.banks[0].owner, two.outsider):
        assert refusal(owner, owner, 2) == ("NotSupervisor", owner)
    for sender in (two.banks[0].owner, two.banks[0].account, two.service[second], second):
        assert refusal(sender, two.supervisor, 2) == ("NotAccount", sender, two.supervisor_account)


# ---------------------------------------------------------------- a supervisor goes


def test_remove_supervisor__holder_of_both_keys__ends_them_and_another_one_goes_on(two):
    two.ready(range(5))
    two.announce(2)
    two.audit(range(5), period=2)
    removal = two.encoded("removeSupervisor", two.supervisor)
    proposal = two.settled(removal, supervisor=two.second_supervisor)
    before = two.terms()["ready"]

    receipt = two.send(two.outsider, "execute", proposal, [removal], two.second_supervisor)

    assert before == EVERYBODY
    assert two.changes(receipt) == [
        ("PeriodKeyEnded", 2),
        ("PeriodKeyEnded", 1),
        ("SupervisorRemoved", two.supervisor),
    ]
    assert two.read("periodKeys") == (NOBODY, NOBODY)
    assert two.terms() == ("NoPeriodKey",)
    second = two.second_supervisor
    two.announce(3, second)
    two.audit(range(5), period=3, owner=second)
    two.put_in_force(3, second)
    assert two.terms()["ready"] == EVERYBODY


def test_remove_supervisor__holder_of_no_key__leaves_the_keys(two):
    two.announce(2)
    keys = two.read("periodKeys")

    receipt = two.decide(two.encoded("removeSupervisor", two.second_supervisor))

    assert two.changes(receipt) == [("SupervisorRemoved", two.second_supervisor)]
    assert two.read("periodKeys") == keys
