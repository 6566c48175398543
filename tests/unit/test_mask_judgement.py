"""The procedure of the mask audit on all small cases (R11.2 to R11.6), against a reading of the rules without keys."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from mpcredit.pairkeys import KeyRef
from mpcredit.roles.mask_audit import Candidate, Judgement, Named, judge

MINIMUM = 3
PERIOD = 1


def key(member: int, version: int = 1) -> KeyRef:
    return KeyRef(member, version, bytes([member + 1, version]) + bytes(29) + b"\x07")


def judged(
    members: int,
    differing: set[tuple[int, int]],
    *,
    named: dict[int, Named] | None = None,
    silent: frozenset[int] = frozenset(),
    serving: frozenset[int] = frozenset(),
) -> Judgement:
    """The judgement where these pairs differ, and these members seal nothing."""
    candidates = [Candidate(m, key(m), key(m) if m in serving else None) for m in range(members)]

    def end(one: KeyRef, other: KeyRef) -> bytes | None:
        if one.member in silent:
            return None
        pair = (min(one.member, other.member), max(one.member, other.member))
        return b"true" if pair not in differing or one.member == pair[0] else b"false"

    return judge(candidates, end, named or {}, PERIOD, MINIMUM)


def pairs(members: int) -> list[tuple[int, int]]:
    return list(combinations(range(members), 2))


@pytest.mark.parametrize("members", [3, 4, 5])
def test_every_set_of_differing_pairs__none_that_differ_serve_together_and_the_others_do(members: int) -> None:
    possible = pairs(members)
    for differing in chain.from_iterable(combinations(possible, n) for n in range(len(possible) + 1)):
        found = judged(members, set(differing))

        out = set(found.alone) | set(chain.from_iterable(found.both))
        assert out | set(found.admitted) == set(range(members))
        assert not out & set(found.admitted)
        assert not [pair for pair in differing if set(pair) <= set(found.admitted)]
        assert len(set(chain.from_iterable(found.both))) == 2 * len(found.both)  # each member in one pair at most
        for member in found.both and chain.from_iterable(found.both):
            assert any(member in pair for pair in differing)
        assert not found.second + found.undecided + found.owing


def test_liars_and_honest__each_liar_takes_out_one_honest_member_at_most() -> None:
    for members in (4, 5, 6):
        for liar in range(members):
            honest = [m for m in range(members) if m != liar]
            for victims in chain.from_iterable(combinations(honest, n) for n in range(len(honest) + 1)):
                found = judged(members, {(min(liar, v), max(liar, v)) for v in victims})

                left_out = [m for m in honest if m not in found.admitted]
                assert len(left_out) <= 1
                if len(victims) == len(honest):
                    assert (found.alone, left_out) == ((liar,), [])


def test_fewer_than_the_minimum_or_two_thirds__nobody_is_left_out_alone() -> None:
    assert judged(2, {(0, 1)}).both == ((0, 1),)
    assert judged(3, {(0, 1), (0, 2)}, silent=frozenset({2})).alone == ()
    # Three colluders and one honest member have sealed first, of eight.
    found = judged(8, {(0, 3), (1, 3), (2, 3)}, silent=frozenset({4, 5, 6, 7}))
    assert (found.alone, found.both) == ((), ((0, 3),))


def test_missing_seals__count_against_the_silent_alone() -> None:
    found = judged(4, set(), silent=frozenset({2}))

    assert found.admitted == (0, 1, 3)
    assert found.owing == (2,)


def test_missing_seals__of_a_member_that_serves__hold_up_the_newcomer() -> None:
    found = judged(4, set(), silent=frozenset({2}), serving=frozenset({0, 1, 2}))

    assert (found.admitted, found.owing) == ((), (2,))


OLD = Named(frozenset({(0, 1)}))


def test_one_was_named_before__is_out_alone_and_the_partner_enters() -> None:
    for pair in ((1, 3), (3, 1)):
        found = judged(4, {(1, 3)}, named={pair[0]: OLD})

        assert found.second == (pair,)
        assert sorted(found.admitted) == sorted({0, 1, 2, 3} - {pair[0]})


def test_a_liar_that_was_never_named__expels_one_named_member_and_not_the_next() -> None:
    found = judged(6, {(1, 3), (1, 4), (1, 5)}, named={3: OLD, 4: OLD, 5: OLD})

    assert found.second == ((3, 1),)
    assert found.undecided == ((1, 4),)
    assert found.admitted == (0, 2, 5)


def test_a_few_seal_to_each_other_alone__they_do_not_serve_before_they_have_sealed_to_all() -> None:
    few, candidates = {0, 1, 2}, [Candidate(m, key(m), None) for m in range(6)]

    def end(one: KeyRef, other: KeyRef) -> bytes | None:
        return None if one.member in few and other.member not in few else b"true"

    found = judge(candidates, end, {}, PERIOD, MINIMUM)

    assert found.admitted == (3, 4, 5)
    assert found.owing == (0, 1, 2)


def test_newcomer_that_was_never_audited__holds_up_nobody() -> None:
    candidates = [Candidate(m, key(m), None, established=m < 4) for m in range(5)]

    def end(one: KeyRef, other: KeyRef) -> bytes | None:
        return None if other.member == 4 else b"true"

    assert judge(candidates, end, {}, PERIOD, MINIMUM).admitted[:4] == (0, 1, 2, 3)


def test_both_were_named_before__neither_enters() -> None:
    found = judged(4, {(1, 3)}, named={1: OLD, 3: OLD})

    assert (found.undecided, found.admitted) == (((1, 3),), (0, 2))


def test_named_key__counts_no_more_and_does_not_serve() -> None:
    named = {1: Named(frozenset({(1, PERIOD)}))}

    found = judged(4, {(1, 3)}, named=named)

    assert (found.both, found.second, found.admitted) == ((), (), (0, 2, 3))


def test_left_out_until_a_person_decides__agrees_with_all__does_not_serve() -> None:
    assert judged(4, set(), named={1: Named(frozenset(), out=True)}).admitted == (0, 2, 3)
