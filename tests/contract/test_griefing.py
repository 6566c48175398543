"""G2: how often one party alone can make everybody's `open` fail, and what that costs each side.

An `open` fails if the roster or the cohort has moved since the inquirer computed them. In version 1 any member did that
with one cheap transaction a block, as often as it liked. Now, by one account alone, with the gas of one transaction in
thousands (Prague, a consortium of five):

account                       what it can move                                                              gas
member's owner                confirm, once                                                                 227
                              rotateKey, once in 24 hours                                                    93
                              nameAccount, once in 24 hours                                                  84
                              takeAccount, once after each naming                                            55
member's service account      setReady: no link; the cohort moves at the boundary of a period only           38
supervisor's owner            announcePeriodKey, once in 24 hours                                           123
                              suspend and reinstate, in turn, without limit                           60 and 35
supervisor's service account  suspend, once a member, until the owner reinstates it                          60
                              auditOk, once for each member, key and period key                              52
                              putPeriodKeyInForce and endPeriodKey, once for each period key          53 and 36
                              attest with culprits, as suspend
anyone                        execute and createJointCredit, once for each proposal that was agreed to

The victim pays for the calldata of the `open` that fails, under 2048 bits in thousands: 200 for 1 subject, 518 for 10,
3,718 for 100 (one that succeeds: 488, 767, 3,836). A node that estimates the gas at the new state sends nothing.

So one member alone makes at most 4 links in any 24 hours, and 3 a day in the long run. Each spoils only the openings on
their way in that block; the inquirer sends again in the next one.
"""

from __future__ import annotations

import json

import pytest
from governance import DAY, HOUR, Council, bitmap, founded_council, period_key
from inquiries import credit_of_five
from onchain import PERIOD, ROOT

# In thousands, as in the table above.
COSTS = {
    "rotateKey": 93,
    "nameAccount": 84,
    "takeAccount": 55,
    "setReady": 38,
    "announcePeriodKey": 123,
    "suspend": 60,
    "reinstate": 35,
    "auditOk": 52,
    "confirm": 227,
    "putPeriodKeyInForce": 53,
    "endPeriodKey": 36,
}
FAILED = {1: 200, 10: 518, 100: 3718}


def floor(length, zeros):
    """The least that a transaction with such calldata costs (EIP-7623)."""
    return 21_000 + 10 * (zeros + 4 * (length - zeros))


@pytest.fixture
def council():
    """Two days after the founding, when no pause holds anybody back."""
    with founded_council() as council:
        council.chain.travel(2 * DAY)
        council.chain.next_period()
        yield council


@pytest.fixture
def credit():
    """The same with the real JointCredit."""
    with credit_of_five() as credit:
        credit.chain.travel(2 * DAY)
        credit.chain.next_period()
        yield credit


class Nuisance:
    """Bank E, whose owner sends everything that the contract lets it send, and counts the links."""

    def __init__(self, council: Council) -> None:
        self.council = council
        self.bank = council.banks[4]
        self.namings = council.read("member", 4)["namings"]
        self.version = council.read("member", 4)["keyVersion"]
        self.links: list[tuple[int, str]] = []

    def try_all(self) -> None:
        """Each call of an owner once, the taking first."""
        bank, council = self.bank, self.council
        self.sent("takeAccount", 4)
        naming = council.naming(bank, bank.account, self.namings + 1, bank.tenure(self.namings + 1))
        if self.sent("nameAccount", *naming):
            self.namings += 1
        key, previous = bank.key(self.version + 1), bank.key(self.version)
        signature = council.signed_key(bank.owner, 4, self.version + 1, key, previous)
        if self.sent("rotateKey", 4, key, True, signature):
            self.version += 1
        self.sent("takeAccount", 4)
        self.sent("confirm", *council.confirmation(bank))

    def sent(self, function, *arguments):
        """Whether the contract took it; every call that it takes is to move the roster."""
        council = self.council
        if council.refusal(self.bank.owner, function, *arguments) is not None:
            return False
        before = council.read("roster")
        council.send(self.bank.owner, function, *arguments)
        assert council.read("roster") != before
        self.links.append((council.chain.now(), function))
        return True


# ---------------------------------------------------------------- one member


def test_one_members_owner__tries_everything_every_hour__makes_three_links_a_day(council):
    nuisance = Nuisance(council)

    for _ in range(3 * 24):
        nuisance.try_all()
        council.chain.travel(HOUR)

    names = [name for _, name in nuisance.links]
    assert {name: names.count(name) for name in set(names)} == {"rotateKey": 3, "nameAccount": 3, "takeAccount": 4}
    times = [time for time, _ in nuisance.links]
    assert max(sum(start <= time < start + DAY for time in times) for start in times) == 4


def test_one_members_service_account__switches_all_the_time__moves_the_cohort_at_the_end_of_a_period_only(credit):
    council, account = credit.council, credit.bank(4).account
    roster, everybody = council.read("roster"), bitmap(0, 1, 2, 3, 4)

    for turn in range(6):
        opening = credit.opening()
        # On and off as often as blocks permit, with an opening on its way.
        for ready in (False, True) * 5 if turn % 2 == 0 else (True, False) * 5:
            if council.refusal(account, "setReady", 4, ready) is None:
                council.send(account, "setReady", 4, ready)
        assert council.chain.now() % PERIOD < PERIOD - 2
        credit.send(credit.bank(0).account, "open", 0, tuple(opening.values()))
        council.chain.next_period()

    assert council.read("roster") == roster
    assert council.read("cohortOf", 0) | bitmap(4) == everybody


def test_one_member__readiness_for_the_next_period__is_known_before_it_begins(credit):
    council = credit.council
    council.send(credit.bank(4).account, "setReady", 4, False)

    # Computed in this period, for a block of the next one.
    opening = credit.opening(cohort=bitmap(0, 1, 2, 3))

    early = credit.refusal(credit.bank(0).account, "open", 0, tuple(opening.values()))
    council.chain.next_period()
    assert early == ("CohortMoved", bitmap(0, 1, 2, 3, 4))
    credit.send(credit.bank(0).account, "open", 0, tuple(opening.values()))


@pytest.mark.parametrize("function", ["rotateKey", "nameAccount", "takeAccount"])
def test_one_members_link__spoils_the_openings_on_their_way_and_none_after_it(credit, function):
    council, bank = credit.council, credit.bank(4)
    opening = credit.opening()
    before = credit.refusal(credit.bank(0).account, "open", 0, tuple(opening.values()))

    if function == "rotateKey":
        council.rotate(bank, 2)
    if function == "nameAccount":
        council.name_account(bank, bank.account, 2, bank.tenure(2))
    if function == "takeAccount":
        council.send(bank.owner, "takeAccount", 4)

    spoilt = credit.refusal(credit.bank(0).account, "open", 0, tuple(opening.values()))
    assert before is None
    assert spoilt == ("RosterMoved", council.read("roster"))
    credit.inquiry()


# ---------------------------------------------------------------- a supervisor


def test_supervisors_service_account__tries_everything__comes_to_an_end(council):
    own, account = council.supervisor, council.supervisor_account
    council.announce(2)
    members = range(5)
    tries = [
        *[("auditOk", own, index, 1, period) for period in (1, 2) for index in members],
        ("putPeriodKeyInForce", own, 2),
        *[("suspend", own, index) for index in members],
        *[("endPeriodKey", own, version) for version in (1, 2)],
    ]
    links = []

    for _ in range(3):
        for call in tries:
            if council.refusal(account, *call) is None:
                council.send(account, *call)
                links.append(call[0])
        council.chain.travel(DAY)

    # All were audited under key 1 already.
    counted = {name: links.count(name) for name in set(links)}
    assert counted == {"auditOk": 5, "putPeriodKeyInForce": 1, "suspend": 5, "endPeriodKey": 1}


def test_supervisors_owner__suspends_and_reinstates__has_no_limit_and_the_documents_say_so(council):
    roster = council.read("roster")

    for _ in range(5):
        council.send(council.supervisor, "suspend", council.supervisor, 4)
        council.send(council.supervisor, "reinstate", 4)
        assert council.read("roster") != roster
        roster = council.read("roster")


# ---------------------------------------------------------------- anyone


def test_anyone__can_time_what_was_agreed_to_once(council):
    call = council.encoded("setTagKey", 2, period_key(9))
    proposal = council.settled(call)
    roster = council.read("roster")

    council.send(council.outsider, "execute", proposal, [call], council.supervisor)

    assert council.read("roster") != roster
    assert council.refusal(council.outsider, "execute", proposal, [call], council.supervisor)[0] == "AlreadyExecuted"


# ---------------------------------------------------------------- what it costs


def test_gas__of_each_link(credit):
    council, bank = credit.council, credit.bank(4)
    own, account = council.supervisor, council.supervisor_account

    receipts = {
        "setReady": council.send(credit.bank(3).account, "setReady", 3, False),
        "rotateKey": council.rotate(bank, 2, compromised=True),
        "auditOk": council.send(account, "auditOk", own, 4, 2, 1),
        "takeAccount": council.send(bank.owner, "takeAccount", 4),
        "nameAccount": council.name_account(bank, bank.account, 2, bank.tenure(2)),
        "suspend": council.send(account, "suspend", own, 4),
        "reinstate": council.send(own, "reinstate", 4),
        "announcePeriodKey": council.announce(2),
        "confirm": council.confirm(credit.bank(5)),
    }
    council.audit([0, 1, 2, 3, 5], period=2)
    council.audit([4], version=2, period=2)
    receipts["putPeriodKeyInForce"] = council.put_in_force(2)
    receipts["endPeriodKey"] = council.send(account, "endPeriodKey", own, 2)

    assert {name: round(receipts[name]["gas_used"] / 1000) for name in COSTS} == COSTS


def test_gas__of_an_opening_that_a_link_spoilt__is_that_of_its_calldata(credit):
    data = credit.encoded("open", 0, tuple(credit.opening().values()))
    credit.council.rotate(credit.bank(4), 2)

    receipt = credit.chain.mined(credit.bank(0).account, credit.address, data)

    assert receipt["status"] == 0
    assert receipt["gas_used"] == floor(len(data), data.count(0))
    # With bodies as mpcredit makes them, whose lengths tools/gas.py has measured.
    calldata = json.loads((ROOT / "tests" / "gas.json").read_text(encoding="utf-8"))["calldata"]["2048"]
    real = {n: calldata[f"open_{n}"] for n in FAILED}
    assert {n: round(floor(c["bytes"], c["zeros"]) / 1000) for n, c in real.items()} == FAILED
