"""Whoever contributes last sets the total, by dividing out the others, and needs to know no figure (R29, R31, R32).

c = Enc(wished total) / product of the others. In the variant without a verdict the decision rests on that total. Here
totals are provisional until attested, the credit policy refers, and the supervisor names the last contributor.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attackers import send, with_disclosure
from fakes import FakeTown

from mpcredit import paillier, protocol
from mpcredit.amounts import Money
from mpcredit.events import Stage
from mpcredit.inquirer import RequestState
from mpcredit.institution import InquiryResult
from mpcredit.policy import Outcome
from mpcredit.schema import FIGURES_1
from mpcredit.state import Inquiry

LAST = 4
WISH = {"outstanding": 3, "credit_limit": 2, "overdue": 0, "loans": 1, "pending": 0, "lenders": 1}


def set_the_total(town: FakeTown, inquiry: Inquiry, wish: int) -> bytes:
    frame = protocol.frame_of(inquiry, town.chain.realm)
    others = protocol.product(frame, [inquiry.payload(i) for i in inquiry.cohort if i != LAST])
    square = frame.public.n_squared
    c = paillier.encrypt(frame.public, wish, r=4711) * pow(others[0], -1, square) % square
    return with_disclosure(inquiry, frame, LAST, [c])


def run(town: FakeTown, wish: int, *, supervised: bool) -> str:
    request = town.ask(1)
    town.asleep, town.supervised = {LAST}, False
    town.settle()
    town[LAST].sync()
    inquiry = town.inquiry(request)
    assert inquiry.awaited == (LAST,)
    send(town[LAST], inquiry, set_the_total(town, inquiry, wish))
    town.settle()
    town.supervised = supervised
    town.settle()
    return request


def decision(town: FakeTown, request: str, *, believe: bool = False) -> Outcome:
    """The inquirer's decision about 100 TWD; `believe` is the variant that takes a total as it comes."""
    result = InquiryResult(town[0], town[0].inquirer.get(request), town.inquiry(request))
    (exposure,) = result.exposures()
    if believe:
        object.__setattr__(exposure, "attested", True)
    return town[0].policy.decide(exposure, requested=Money("100", "TWD")).outcome


def test_last_contributor__without_a_verdict__decides_alone(town: FakeTown) -> None:
    request = run(town, FIGURES_1.pack([WISH], 2048)[0], supervised=False)

    assert town[0].inquirer.get(request).totals == [WISH]
    assert decision(town, request, believe=True) is Outcome.APPROVE


def test_last_contributor__before_the_verdict__policy_refers(town: FakeTown) -> None:
    request = run(town, FIGURES_1.pack([WISH], 2048)[0], supervised=False)

    assert town[0].inquirer.get(request).state is RequestState.REPORTED
    assert decision(town, request) is Outcome.REFER


def test_last_contributor__with_the_supervisor__is_named_alone_and_the_inquiry_void(town: FakeTown) -> None:
    request = run(town, FIGURES_1.pack([WISH], 2048)[0], supervised=True)

    inquiry = town.inquiry(request)
    assert (inquiry.stage, inquiry.culprits) == (Stage.VOID, (LAST,))


@pytest.mark.parametrize(
    "wish",
    [
        lambda: 1 << 2040,
        lambda: 1 << 300,
        lambda: FIGURES_1.pack([WISH], 2048)[0] + (6 << 256),
        lambda: 5 * (2**48 - 1) + 1,
    ],
    ids=["a bit far outside", "a bit behind the record", "7 lenders of 5", "a slot one above the most"],
)
def test_last_contributor__a_total_that_no_cohort_has__is_no_total_for_the_inquirer(
    town: FakeTown, wish: Callable[[], int]
) -> None:
    request = run(town, wish(), supervised=False)

    found = town[0].inquirer.get(request)
    assert found.totals is None
    assert "not sums" in found.note or found.state is RequestState.REPORTED

    town.supervised = True
    town.settle()
    assert town.inquiry(request).culprits == (LAST,)
