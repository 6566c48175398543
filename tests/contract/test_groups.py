"""Groups (R38): named sets of members over which an inquiry may run (R14 with the rule of distance).

setGroup
├── number 0 or above 16, unknown or removed members, the set that it has: UnknownGroup, BadParameter, NothingChanges
├── fewer members than the minimum cohort: CohortTooSmall
├── another group, or the whole, differs by some but fewer than the minimum cohort: GroupsTooClose
└── else set, replaced, or dissolved by the empty set
a change of the members or of the minimum that brings sets too close: GroupsTooClose, at the proposal or at confirm
cohortOf, groupMembers, openingTerms for a group that is not set: UnknownGroup
"""

from __future__ import annotations

import pytest
from governance import PARAMETERS, bitmap, founded_council

ALL_FIVE = bitmap(0, 1, 2, 3, 4)
MINIMUM = PARAMETERS["minimumCohort"]


@pytest.fixture
def council():
    """Five members; groups differ enough only if they are the same."""
    with founded_council() as council:
        yield council


@pytest.fixture
def large():
    """Twelve members with indices 0 to 11."""
    with founded_council() as council:
        council.decide(*[council.encoded("inviteMember", b.owner, b.name) for b in council.banks[6:12]])
        for bank in council.banks[5:12]:
            council.confirm(bank)
        yield council


def groups(council, *sets):
    return [council.encoded("setGroup", number, members) for number, members in enumerate(sets, start=1)]


def decided(council, *calls):
    return council.decide(*calls, voters=range(council.read("memberSets")[0].bit_count()))


def refused(council, *calls):
    return council.refusal_to_decide(*calls, voters=range(council.read("memberSets")[0].bit_count()))


def test_set_group__apart_from_each_other_and_the_whole__is_set(large):
    first, second = bitmap(0, 1, 2, 3, 4, 5), bitmap(4, 5, 6, 7, 8, 9)

    receipt = decided(large, *groups(large, first, second))

    assert large.changes(receipt) == [("GroupSet", 1, first), ("GroupSet", 2, second)]
    assert [large.read("groupMembers", g) for g in (0, 1, 2)] == [2**12 - 1, first, second]


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        (bitmap(0, 1, 2, 3, 4, 5), bitmap(0, 1, 2, 3, 4), 1),
        (bitmap(0, 1, 2, 3, 4, 5), bitmap(0, 1, 2, 3, 4, 6), 2),
        (bitmap(0, 1, 2, 3, 4, 5), bitmap(0, 1, 2, 3, 4, 6, 7), 3),
    ],
)
def test_set_group__two_that_differ_by_too_few__reverts(large, first, second, difference):
    assert refused(large, *groups(large, first, second)) == ("GroupsTooClose", 1, 2, difference)


def test_set_group__two_that_differ_by_the_minimum_or_not_at_all__are_set(large):
    first = bitmap(0, 1, 2, 3, 4, 5)

    assert refused(large, *groups(large, first, bitmap(0, 1, 2, 3, 6, 7))) is None
    assert refused(large, *groups(large, first, first)) is None


def test_set_group__too_close_to_the_whole__reverts(large):
    whole = 2**12 - 1

    assert refused(large, *groups(large, whole ^ bitmap(11))) == ("GroupsTooClose", 0, 1, 1)
    assert refused(large, *groups(large, whole ^ bitmap(9, 10, 11))) == ("GroupsTooClose", 0, 1, 3)
    assert refused(large, *groups(large, whole ^ bitmap(8, 9, 10, 11))) is None
    assert refused(large, *groups(large, whole)) is None


def test_set_group__smaller_than_the_minimum_cohort__reverts(large):
    assert refused(large, *groups(large, bitmap(0, 1, 2))) == ("CohortTooSmall", 3, 4)
    assert refused(large, *groups(large, bitmap(0, 1, 2, 3))) is None


def test_set_group__bad_number_or_members__reverts(council):
    def refusal(number, members):
        return council.refusal_to_decide(council.encoded("setGroup", number, members))

    assert refusal(0, ALL_FIVE) == ("UnknownGroup", 0)
    assert refusal(17, ALL_FIVE) == ("UnknownGroup", 17)
    assert refusal(16, ALL_FIVE) is None
    assert refusal(1, ALL_FIVE | bitmap(6)) == ("BadParameter", "members")
    assert refusal(1, ALL_FIVE | bitmap(5)) is None
    council.decide(council.encoded("removeMember", 5))
    assert refusal(1, ALL_FIVE | bitmap(5)) == ("BadParameter", "members")


def test_set_group__again__replaces_and_the_empty_set_dissolves(large):
    first, second = bitmap(0, 1, 2, 3), bitmap(4, 5, 6, 7)
    decided(large, *groups(large, first))

    assert refused(large, *groups(large, first)) == ("NothingChanges",)
    decided(large, *groups(large, second))
    replaced = large.read("groupMembers", 1)
    decided(large, *groups(large, 0))

    assert replaced == second
    assert refused(large, *groups(large, 0)) == ("NothingChanges",)
    assert large.refusal(large.outsider, "groupMembers", 1) == ("UnknownGroup", 1)


def test_set_group__all_sixteen__are_set_in_one_transaction(large):
    receipt = decided(large, *groups(large, *[bitmap(0, 1, 2, 3, 4, 5)] * 16))

    assert len(large.changes(receipt)) == 16
    assert refused(large, large.encoded("setGroup", 16, bitmap(0, 1, 2, 3, 4))) == ("GroupsTooClose", 1, 16, 1)


def test_confirm__member_more_than_the_group_of_all__reverts_until_it_is_in_the_group(council):
    council.decide(*groups(council, ALL_FIVE))
    bank = council.banks[5]
    attempt = (bank.owner, "confirm", *council.confirmation(bank))

    before = council.refusal(*attempt)
    council.decide(*groups(council, ALL_FIVE | bitmap(5)))

    assert before == ("GroupsTooClose", 0, 1, 1)
    assert council.read("groupMembers", 1) == ALL_FIVE
    council.send(*attempt)
    assert council.read("groupMembers", 1) == ALL_FIVE | bitmap(5)


def test_remove_member__that_brings_groups_too_close__reverts_unless_the_group_changes_too(large):
    decided(large, *groups(large, 2**12 - 1 ^ bitmap(8, 9, 10, 11)))
    removal = large.encoded("removeMember", 11)

    assert refused(large, removal) == ("GroupsTooClose", 0, 1, 3)
    assert refused(large, removal, *groups(large, 0)) is None


def test_remove_member__that_leaves_a_group_too_small__reverts(large):
    decided(large, *groups(large, bitmap(0, 1, 2, 3)))

    assert refused(large, large.encoded("removeMember", 3)) == ("CohortTooSmall", 3, 4)
    assert refused(large, large.encoded("removeMember", 4)) is None


def test_remove_member__stays_out_of_its_groups(large):
    decided(large, *groups(large, bitmap(0, 1, 2, 3, 4)))

    decided(large, large.encoded("removeMember", 4))

    assert large.read("groupMembers", 1) == bitmap(0, 1, 2, 3)


def test_set_terms__larger_minimum_that_groups_do_not_meet__reverts(large):
    decided(large, *groups(large, bitmap(0, 1, 2, 3)))
    larger = large.encoded("setTerms", 1, (MINIMUM + 1, *[0] * 10))

    assert refused(large, larger) == ("CohortTooSmall", 4, 5)
    assert refused(large, larger, *groups(large, bitmap(0, 1, 2, 3, 4))) is None


def test_cohort_of__group__is_its_ready_part(large):
    decided(large, *groups(large, bitmap(0, 1, 2, 3, 4, 5)))
    large.audit(range(5, 12))
    large.ready([0, 1, 2, 3, 7, 8])

    assert large.read("cohortOf", 1) == bitmap(0, 1, 2, 3)
    assert large.read("cohortOf", 0) == bitmap(0, 1, 2, 3, 7, 8)
    for view in ("cohortOf", "groupMembers"):
        assert large.refusal(large.outsider, view, 2) == ("UnknownGroup", 2)
    assert large.terms(group=1)["ready"] == bitmap(0, 1, 2, 3)
    assert large.terms(group=2) == ("UnknownGroup", 2)
    assert large.terms(bank=7, group=1) == ("NotServing", 7)
    assert large.terms(bank=7)["ready"] == bitmap(0, 1, 2, 3, 7, 8)
