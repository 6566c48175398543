"""open, the cohort: all ready members of the group, or a part of them that repeats an earlier cohort.

cohort
├── repeats not set
│   ├── all members of the group that serve and are ready: accepted
│   └── one fewer, one more, one of another group, after a change of readiness: CohortMoved
└── repeats set
    ├── a member that is not ready, suspended, outside the group, no member at all: NotRepeatable
    ├── the inquirer is not in it: NotRepeatable
    ├── below the minimum: NotRepeatable                                                     the minimum: accepted
    ├── fewer than two thirds of the ready members of the group: NotRepeatable               two thirds: accepted
    └── else: accepted, also the whole; only its members are awaited
"""

from __future__ import annotations

import pytest
from governance import PARAMETERS, bitmap
from inquiries import Stage, credit_of

NINE = bitmap(*range(9))


@pytest.fixture
def credit():
    """Nine institutions, Banks A to I, all ready; the minimum cohort is four."""
    with credit_of(9) as credit:
        yield credit


def set_group(credit, number, members):
    """The members decide on a group."""
    council = credit.council
    council.decide(council.encoded("setGroup", number, bitmap(*members)), voters=range(6))


def refusal(credit, members, **changes):
    """The error with which a repetition over these members is refused."""
    return credit.refusal_to_open(repeats=True, cohort=bitmap(*members), **changes)


# ---------------------------------------------------------------- all ready members


def test_open__after_the_cohort_moved__reverts_with_cohort_moved(credit):
    opening = credit.opening()
    credit.council.ready([8], False)

    refused = credit.refusal(credit.bank(0).account, "open", 0, tuple(opening.values()))

    assert refused == ("CohortMoved", bitmap(*range(8)))
    assert credit.refusal_to_open() is None


def test_open__over_a_cohort_of_its_choice__reverts_with_cohort_moved(credit):
    for chosen in (bitmap(*range(8)), NINE | 1 << 9, NINE | 1 << 230, bitmap(*range(1, 9)), 0):
        assert credit.refusal_to_open(cohort=chosen) == ("CohortMoved", NINE)
    assert credit.refusal_to_open(cohort=NINE) is None


def test_open__in_a_group__takes_its_ready_members_and_no_others(credit):
    set_group(credit, 1, range(5))

    assert credit.refusal_to_open(group=1, cohort=NINE) == ("CohortMoved", bitmap(*range(5)))
    inquiry = credit.inquiry(group=1, cohort=bitmap(*range(5)))

    assert inquiry.status["awaited"] == bitmap(1, 2, 3, 4)


# ---------------------------------------------------------------- a repetition


def test_open__of_a_repetition__awaits_the_members_of_the_earlier_cohort_alone(credit):
    earlier = credit.inquiry(cohort=NINE & ~bitmap(8), repeats=True)
    assert earlier.status["cohort"] == bitmap(*range(8))
    assert earlier.status["awaited"] == bitmap(*range(1, 8))

    assert earlier.refusal_to_contribute(8) == ("NotInCohort", 8)
    assert earlier.complete().stage == Stage.COMPLETE
    assert credit.read("aggregate", earlier.id) == earlier.encoded_product


def test_open__of_a_repetition_over_all_ready_members__opens(credit):
    assert refusal(credit, range(9)) is None


def test_open__of_a_repetition_with_a_member_that_is_not_ready__reverts_with_not_repeatable(credit):
    credit.council.ready([8], False)

    assert refusal(credit, range(9)) == ("NotRepeatable", NINE, bitmap(*range(8)))
    assert refusal(credit, [0, 1, 2, 3, 4, 5, 8]) == ("NotRepeatable", bitmap(0, 1, 2, 3, 4, 5, 8), bitmap(*range(8)))
    assert refusal(credit, range(8)) is None


def test_open__of_a_repetition_with_a_suspended_member__reverts_with_not_repeatable(credit):
    council = credit.council
    council.send(council.supervisor, "suspend", council.supervisor, 8)

    assert refusal(credit, range(9)) == ("NotRepeatable", NINE, bitmap(*range(8)))
    assert refusal(credit, range(8)) is None


def test_open__of_a_repetition_with_nobody_known__reverts_with_not_repeatable(credit):
    for stranger in (9, 215, 216, 255):
        assert refusal(credit, [*range(8), stranger]) == ("NotRepeatable", bitmap(*range(8), stranger), NINE)


def test_open__of_a_repetition_without_its_inquirer__reverts_with_not_repeatable(credit):
    assert refusal(credit, range(1, 9)) == ("NotRepeatable", bitmap(*range(1, 9)), NINE)
    assert credit.refusal_to_open(1, repeats=True, cohort=bitmap(*range(1, 9))) is None


def test_open__of_a_repetition_below_the_minimum__reverts_with_not_repeatable(credit):
    # Four are ready: three are more than two thirds of them, and one fewer than the minimum.
    credit.council.ready(range(4, 9), False)

    assert PARAMETERS["minimumCohort"] == 4
    assert refusal(credit, [0, 1, 2]) == ("NotRepeatable", bitmap(0, 1, 2), bitmap(0, 1, 2, 3))
    assert refusal(credit, [0, 1, 2, 3]) is None


# Two thirds are 6 of 9 and 4 of 6 exactly; of 8, 7 and 5 they are 5.33, 4.67 and 3.33, rounded up.
@pytest.mark.parametrize(("ready", "least"), [(9, 6), (8, 6), (7, 5), (6, 4), (5, 4)])
def test_open__of_a_repetition_over_less_than_two_thirds_of_the_ready__reverts_with_not_repeatable(
    credit, ready, least
):
    if ready < 9:
        credit.council.ready(range(ready, 9), False)

    assert refusal(credit, range(least - 1)) == ("NotRepeatable", bitmap(*range(least - 1)), bitmap(*range(ready)))
    assert refusal(credit, range(least)) is None


def test_open__of_a_repetition_in_a_group__counts_the_ready_members_of_that_group(credit):
    set_group(credit, 1, range(5))

    # Four of five in the group, though not of nine.
    assert refusal(credit, range(4), group=1) is None
    assert refusal(credit, range(4)) == ("NotRepeatable", bitmap(*range(4)), NINE)
    # Not with a member of the whole that is outside the group.
    assert refusal(credit, [0, 1, 2, 3, 8], group=1) == (
        "NotRepeatable",
        bitmap(0, 1, 2, 3, 8),
        bitmap(*range(5)),
    )


def test_open__of_a_repetition_by_a_member_outside_the_group__reverts_with_not_serving(credit):
    set_group(credit, 1, range(5))

    assert credit.refusal_to_open(8, group=1, repeats=True, cohort=bitmap(*range(5))) == ("NotServing", 8)


def test_open__of_a_repetition_in_the_period_before_readiness_counts__reverts_with_not_repeatable(credit):
    council = credit.council
    council.ready([8], False)
    council.send(credit.bank(8).account, "setReady", 8, True)

    assert refusal(credit, range(9)) == ("NotRepeatable", NINE, bitmap(*range(8)))
    council.chain.next_period()
    assert refusal(credit, range(9)) is None


def test_open__of_the_same_cohort_repeated_or_not__has_two_ids(credit):
    plain = credit.inquiry(nonce=1)

    repeated = credit.inquiry(**{**plain.opening, "repeats": True})

    assert repeated.id != plain.id
    assert credit.event(repeated.receipt, "Opened")[0] == repeated.id
