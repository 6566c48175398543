"""Terms change by the fields that a proposal names (`setTerms`), and anyone can try calls out first (`tryOut`).

setTerms: only by proposal
├── a bit above the fields, or a value in a field that is not named: BadParameter("named")
├── no field named, or each with the value that it has: NothingChanges
├── a value out of its range, by itself or next to the others: BadParameter, by name
├── a minimum cohort that members or groups do not meet: CohortTooSmall, GroupsTooClose
└── else exactly the named fields change, so two proposals do not undo each other
tryOut: by anyone
├── a call fails: CallFailed with its reason, as `execute` would
├── what must hold afterwards does not: CohortTooSmall, GroupsTooClose, LastSupervisor, as `execute` would
└── else WouldPass; nothing has changed in any case
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import DAY, HOUR, PARAMETERS, bitmap, founded_council

FIELDS = list(PARAMETERS)
DELAY = PARAMETERS["delaySeconds"]
ANOTHER = {
    "minimumCohort": 5,
    "minimumModulusBits": 3072,
    "answerSeconds": 300,
    "reportSeconds": 7200,
    "silenceSeconds": 61,
    "windowSeconds": 31 * DAY,
    "cooldownSeconds": DAY // 2,
    "repeatSeconds": 4 * HOUR,
    "delaySeconds": HOUR,
    "subjectsPerDay": 1001,
    "bookAgeSeconds": DAY,
}


@pytest.fixture
def council():
    with founded_council() as council:
        yield council


def terms(council, named=None, **values):
    """The call that sets these terms; `named` in place of the bits of these fields."""
    bits = bitmap(*[FIELDS.index(name) for name in values]) if named is None else named
    return council.encoded("setTerms", bits, tuple(values.get(name, 0) for name in FIELDS))


# ---------------------------------------------------------------- setTerms


@pytest.mark.parametrize("name", FIELDS)
def test_set_terms__one_field__changes_that_field_and_no_other(council, name):
    receipt = council.decide(terms(council, **{name: ANOTHER[name]}))

    expected = {**PARAMETERS, name: ANOTHER[name]}
    assert ANOTHER[name] != PARAMETERS[name]
    assert council.read("parameters") == expected
    assert council.changes(receipt) == [("TermsChanged", *expected.values())]
    assert council.event(receipt, "TermsSet") == (tuple(expected.values()),)


def test_set_terms__all_fields__changes_all(council):
    council.decide(terms(council, **ANOTHER))

    assert council.read("parameters") == ANOTHER


def test_set_terms__a_bit_above_the_fields__reverts(council):
    assert len(FIELDS) == 11
    for bit in (11, 15):
        call = terms(council, named=1 << bit | 1, minimumCohort=5)
        assert council.refusal_to_decide(call) == ("BadParameter", "named")
    assert council.refusal_to_decide(terms(council, named=1, minimumCohort=5)) is None


@pytest.mark.parametrize("name", FIELDS[1:])
def test_set_terms__value_in_a_field_that_is_not_named__reverts(council, name):
    call = terms(council, named=1, **{"minimumCohort": 5, name: PARAMETERS[name]})

    assert council.refusal_to_decide(call) == ("BadParameter", "named")


def test_set_terms__nothing_named_or_nothing_different__reverts(council):
    assert council.refusal_to_decide(terms(council)) == ("NothingChanges",)
    assert council.refusal_to_decide(terms(council, **PARAMETERS)) == ("NothingChanges",)
    assert council.refusal_to_decide(terms(council, minimumCohort=4)) == ("NothingChanges",)
    # One that differs is enough.
    assert council.refusal_to_decide(terms(council, **{**PARAMETERS, "subjectsPerDay": 1})) is None


@pytest.mark.parametrize(
    ("values", "cause", "accepted"),
    [
        ({"minimumCohort": 2}, "minimumCohort", {"minimumCohort": 3}),
        ({"minimumModulusBits": 2304 + 8}, "minimumModulusBits", {"minimumModulusBits": 2304}),
        ({"answerSeconds": 59}, "answerSeconds", {"answerSeconds": 60}),
        ({"answerSeconds": 601}, "repeatSeconds", {"answerSeconds": 601, "repeatSeconds": 601}),
        ({"answerSeconds": 60, "silenceSeconds": 61}, "silenceSeconds", {"silenceSeconds": 600}),
        ({"repeatSeconds": DAY + 1}, "repeatSeconds", {"repeatSeconds": DAY + 1, "cooldownSeconds": DAY + 1}),
        ({"cooldownSeconds": 599}, "repeatSeconds", {"cooldownSeconds": 600}),
        ({"delaySeconds": HOUR - 1}, "delaySeconds", {"delaySeconds": HOUR}),
        # Zero that is named is a value, and no "stay as it is".
        ({"subjectsPerDay": 0}, "subjectsPerDay", {"subjectsPerDay": 1}),
        ({"bookAgeSeconds": 0}, "bookAgeSeconds", {"bookAgeSeconds": 1}),
    ],
)
def test_set_terms__out_of_range__reverts_and_its_neighbour_is_accepted(council, values, cause, accepted):
    assert council.refusal_to_decide(terms(council, **values)) == ("BadParameter", cause)
    assert council.refusal_to_decide(terms(council, **accepted)) is None


def test_set_terms__window_zero__is_accepted(council):
    council.decide(terms(council, windowSeconds=0))

    assert council.read("parameters")["windowSeconds"] == 0


def test_set_terms__minimum_cohort_above_the_members__reverts(council):
    assert council.refusal_to_decide(terms(council, minimumCohort=6)) == ("CohortTooSmall", 5, 6)
    assert council.refusal_to_decide(terms(council, minimumCohort=5)) is None


def test_set_terms__minimum_cohort_that_groups_do_not_meet__reverts_unless_they_change_too(council):
    # A group of five, and nine members: four apart.
    council.decide(*[council.encoded("inviteMember", b.owner, b.name) for b in council.banks[6:9]])
    for bank in council.banks[5:9]:
        council.confirm(bank)
    apart = council.encoded("setGroup", 1, bitmap(0, 1, 2, 3, 4))
    council.decide(apart, voters=range(6))
    larger = terms(council, minimumCohort=5)

    assert council.refusal(council.outsider, "tryOut", [larger]) == ("GroupsTooClose", 0, 1, 4)
    dissolved = council.encoded("setGroup", 1, 0)
    assert council.refusal(council.outsider, "tryOut", [larger, dissolved]) == ("WouldPass",)
    too_small = terms(council, minimumCohort=6)
    assert council.refusal(council.outsider, "tryOut", [too_small]) == ("CohortTooSmall", 5, 6)
    assert council.refusal_to_decide(larger, voters=range(6)) == ("GroupsTooClose", 0, 1, 4)


def test_set_terms__two_proposals_at_once__do_not_undo_each_other(council):
    calls = [terms(council, answerSeconds=300), terms(council, subjectsPerDay=7)]
    proposals = [council.settled(call) for call in calls]

    for proposal, call in zip(proposals, calls, strict=True):
        council.send(council.outsider, "execute", proposal, [call], council.supervisor)

    assert council.read("parameters") == {**PARAMETERS, "answerSeconds": 300, "subjectsPerDay": 7}


def test_set_terms__shorter_delay__counts_for_the_next_proposal_only(council):
    shorter = terms(council, delaySeconds=HOUR)
    proposal, digest = council.propose(shorter)
    council.agree(proposal, digest, range(4))
    council.send(council.supervisor, "approve", proposal, digest)
    permitted = council.chain.now() + DELAY
    attempt = (council.outsider, "execute", proposal, [shorter], council.supervisor)

    council.chain.travel(HOUR)
    assert council.refusal(*attempt) == ("TooEarly", permitted)
    council.chain.travel(HOUR)
    council.send(*attempt)
    call = council.encoded("setTagKey", 2, keccak(b"2"))
    proposal, digest = council.propose(call)
    council.agree(proposal, digest, range(4))
    council.send(council.supervisor, "approve", proposal, digest)
    council.chain.travel(HOUR)
    assert council.refusal(council.outsider, "execute", proposal, [call], council.supervisor) is None


def test_set_terms__decided__hold_for_the_next_opening(council):
    council.ready(range(5))
    changed = {
        "minimumCohort": 5,
        "minimumModulusBits": 3072,
        "answerSeconds": 300,
        "reportSeconds": 7200,
        "silenceSeconds": 61,
    }
    before = council.terms()

    council.decide(terms(council, **changed))

    after = council.terms()
    assert {name: before[name] for name in changed} == {name: PARAMETERS[name] for name in changed}
    assert {name: after[name] for name in changed} == changed


# ---------------------------------------------------------------- tryOut


def test_try_out__calls_that_would_pass__says_so_to_anyone_and_changes_nothing(council):
    calls = [
        council.encoded("setTagKey", 2, keccak(b"2")),
        council.encoded("removeMember", 4),
        terms(council, subjectsPerDay=7),
    ]
    roster = council.read("roster")

    for account in (council.banks[0].owner, council.supervisor_account, council.deployer, council.outsider):
        assert council.refusal(account, "tryOut", calls) == ("WouldPass",)
    with pytest.raises(AssertionError, match="WouldPass"):
        council.send(council.outsider, "tryOut", calls)

    assert council.read("roster") == roster
    assert council.read("parameters") == PARAMETERS
    assert not council.read("member", 4)["removed"]


@pytest.mark.parametrize("function", ["tryOut", "execute"])
@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([("setTagKey", 2, keccak(b"2")), ("removeMember", 9)], ("CallFailed", 1, "UnknownMember")),
        ([("registerSchema", 1, b"{}")], ("CallFailed", 0, "SchemaExists")),
        ([("removeMember", 3), ("removeMember", 4)], ("CohortTooSmall", 3, 4)),
        ([("setGroup", 1, bitmap(0, 1, 2, 3))], ("GroupsTooClose", 0, 1, 1)),
        ([("setGroup", 1, bitmap(0, 1, 2))], ("CohortTooSmall", 3, 4)),
    ],
)
def test_try_out__calls_that_would_fail__gives_the_reason_that_execute_gives(council, function, calls, expected):
    encoded = [council.encoded(*call) for call in calls]
    if function == "tryOut":
        refused = council.refusal(council.outsider, "tryOut", encoded)
    else:
        proposal = council.settled(*encoded)
        refused = council.refusal(council.outsider, "execute", proposal, encoded, council.supervisor)

    if refused[0] == "CallFailed":
        refused = (*refused[:2], council.error(refused[2])[0])
    assert refused == expected


def test_try_out__last_supervisor__reverts_and_its_replacement_would_pass(council):
    removal = council.encoded("removeSupervisor", council.supervisor)
    replacement = council.encoded("addSupervisor", council.second_supervisor)

    assert council.refusal(council.outsider, "tryOut", [removal]) == ("LastSupervisor",)
    assert council.refusal(council.outsider, "tryOut", [removal, replacement]) == ("WouldPass",)


def test_try_out__calls_that_belong_to_people__fail(council):
    calls = [
        ("takeAccount", 0),
        ("setReady", 0, True),
        ("suspend", council.supervisor, 0),
        ("lapse", 1),
        ("vote", 1, keccak(b"")),
    ]

    for call in calls:
        assert council.refusal(council.outsider, "tryOut", [council.encoded(*call)])[:2] == ("CallFailed", 0)


def test_try_out__inside_a_proposal__fails_so_it_carries_nothing_through(council):
    inner = council.encoded("tryOut", [council.encoded("setTagKey", 2, keccak(b"2"))])

    assert council.refusal_to_decide(inner) == ("WouldPass",)
