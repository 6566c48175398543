"""R27: no set of known totals isolates an honest member, by a search over small consortia.

Members, inquiries on one tag, every inquirer, every cohort, every set of colluders and every set of honest members that
answer: what the rule of the product permits is walked through completely. Totals are linear: a member is isolated if some
combination of the totals that the colluders know has fewer honest members in it than the smallest of these totals. The rule
under test is `disclosure.window_conflict` itself; the variants leave a part of it out, and the search finds the leak at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache

import pytest

from mpcredit import disclosure
from mpcredit.disclosure import Seen
from mpcredit.events import members_of

Question = tuple[int, int]
"""Inquirer and cohort."""
Rule = Callable[[Question, Question], bool]
"""Whether a member that has answered the second answers the first."""
TAG = b"t" * 32


def ours(new: Question, old: Question) -> bool:
    """The rule of the product, within the window."""
    seen = Seen(b"", old[0], (TAG,), (), old[1], 0, (0, 0), answered=True)
    return disclosure.window_conflict([TAG], new[1], new[0], 1, [seen], 10) is None


def nothing(_new: Question, _old: Question) -> bool:
    """The variant without a window."""
    return True


def a_member_may_be_missing(new: Question, old: Question) -> bool:
    """The variant of version 1: one silent member is excused."""
    return len(members_of((new[1] ^ old[1]) & ~(1 << new[0] | 1 << old[0]))) <= 1


def rank(rows: list[list[Fraction]]) -> int:
    """Rank over the rationals, by elimination."""
    rows, found = [list(row) for row in rows], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((row for row in rows if row[column]), None)
        if pivot is None:
            continue
        rows.remove(pivot)
        rows = [[a - row[column] / pivot[column] * b for a, b in zip(row, pivot, strict=True)] for row in rows]
        found += 1
    return found


@cache
def isolates(totals: frozenset[int], members: int) -> bool:
    """Whether a combination of totals has fewer members in it than the smallest one."""
    rows = [[Fraction(total >> i & 1) for i in range(members)] for total in sorted(totals)]
    full, least = rank(rows), min(total.bit_count() for total in totals)
    for size in range(1, least):
        for inside in itertools.combinations(range(members), size):
            if rank([[v for i, v in enumerate(row) if i not in inside] for row in rows]) < full:
                return True
    return False


def answers(permitted: int) -> Iterator[int]:
    """Every set of members that answer, of those that may; none answer last."""
    subset = permitted
    while subset:
        yield subset
        subset = (subset - 1) & permitted


def leak(members: int, least: int, inquiries: int, rule: Rule) -> bool:
    """Whether some course of so many inquiries isolates an honest member."""
    everybody = (1 << members) - 1
    questions = [
        (inquirer, cohort)
        for cohort in range(1 << members)
        if cohort.bit_count() >= least
        for inquirer in members_of(cohort)
    ]
    table = [[rule(new, old) for old in questions] for new in questions]
    for colluding in range(1, members - 1):
        if _walk(questions, table, (1 << colluding) - 1, everybody, members, inquiries):
            return True
    return False


def _walk(
    questions: list[Question], table: list[list[bool]], colluders: int, everybody: int, members: int, inquiries: int
) -> bool:
    honest = everybody & ~colluders

    def go(first: int, left: int, answered: tuple[frozenset[int], ...], known: frozenset[int]) -> bool:
        if len(known) > 1 and isolates(known, members):
            return True
        if not left:
            return False
        for place in range(first, len(questions)):
            inquirer, cohort = questions[place]
            asked = cohort & honest
            permitted = sum(1 << m for m in members_of(asked) if all(table[place][old] for old in answered[m]))
            for given in answers(permitted):
                total = {asked} if given == asked and colluders >> inquirer & 1 else set()
                after = tuple(had | {place} if given >> m & 1 else had for m, had in enumerate(answered))
                if go(place, left - 1, after, known | total):
                    return True
        return False

    return go(0, inquiries, tuple(frozenset() for _ in range(members)), frozenset())


@pytest.mark.parametrize(("members", "least", "inquiries"), [(4, 3, 4), (5, 4, 3), (5, 3, 2)])
def test_window__every_course_of_inquiries__isolates_nobody(members: int, least: int, inquiries: int) -> None:
    assert not leak(members, least, inquiries, ours)


@pytest.mark.parametrize("variant", [nothing, a_member_may_be_missing])
def test_window__a_part_left_out__the_search_finds_the_leak(variant: Rule) -> None:
    assert leak(4, 3, 2, variant)
