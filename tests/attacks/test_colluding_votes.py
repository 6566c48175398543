"""Members that collude in votes: a tag key under a version that it was not made for.

Each attack runs on a variant of the Consortium without the rule, where it works, and on the one that ships, where it fails.

C1 vote for two tag keys between which the honest members are split: the variant does not look at the version (R4.5)
"""

from __future__ import annotations

from typing import Any

import pytest
from eth_utils import keccak
from governance import DAY, Council
from onchain import Chain, variant

ANY_VERSION = (
    "        require(version == next, KeyVersion(version, next));\n",
    "        require(version != 0, KeyVersion(version, next));\n",
)


def founded(members: int, *changes: tuple[str, str]) -> Council:
    """A consortium of so many members, a day old: the one that ships, or a variant."""
    made = variant("Consortium", *changes) if changes else None
    council = Council(Chain(), invited=members, made=made).deploy().found(members)
    council.chain.travel(DAY)
    return council


# ---------------------------------------------------------------- C1


def tag_keys_in_force(council: Council) -> list[tuple[Any, ...]]:
    """Of nine members three collude; of the others, each half holds another next key. Both proposals are approved."""
    halves = {keccak(b"one half's"): [0, 1, 2], keccak(b"the other half's"): [3, 4, 5]}
    in_force: list[tuple[Any, ...]] = []
    for commitment, honest in halves.items():
        call = council.encoded("setTagKey", 2, commitment)
        proposal = council.settled(call, voters=[*honest, 6, 7, 8])
        attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
        if council.refusal(*attempt) is None:
            in_force += council.changes(council.send(*attempt))
    return in_force


@pytest.mark.parametrize(("changes", "versions"), [([ANY_VERSION], [2, 3]), ([], [2])])
def test_split_over_two_tag_keys__with_and_without_the_version(
    changes: list[tuple[str, str]], versions: list[int]
) -> None:
    in_force = tag_keys_in_force(founded(9, *changes))

    assert [version for _, version, _ in in_force] == versions
    assert in_force[0] == ("TagKeySet", 2, keccak(b"one half's"))
