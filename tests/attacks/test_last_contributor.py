"""Whoever contributes last sets the total, by dividing out the others, and needs to know no figure (R29, R31, R32).

c = Enc(wished total) / product of the others. In the variant without a verdict the decision rests on that total. Here
totals are provisional until attested, the credit policy refers, and the supervisor names the last contributor. An endpoint
that makes up the verdict changes nothing: a verdict counts only under the signature of a pinned supervisor's account, and on
the own report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attackers import send, with_disclosure
from eth_account.signers.local import LocalAccount
from fakes import JOINT_CREDIT, FakeTown, Transaction, deterministic, sign_naming

from mpcredit import paillier, protocol
from mpcredit.amounts import Money
from mpcredit.errors import WrongLedger
from mpcredit.events import Attested, Call, Change, Stage
from mpcredit.inquirer import Inquirer, RequestState
from mpcredit.institution import InquiryResult
from mpcredit.ledger.roster import SUPERVISOR
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


# --------------------------------------------------------------------- a verdict that no supervisor gave (E2)


def made_up(town: FakeTown, request: str, signer: LocalAccount | None = None, **changes: Any) -> None:
    """The endpoint of Bank A shows a verdict on its total; `signer` sent such a call, else nobody did."""
    report = town.inquiry(request).report
    assert report is not None
    values: dict[str, Any] = {
        "inquiry": report.inquiry,
        "supervisor": town.supervisor_owner.address,
        "account": town.supervisor_account.address,
        "valid": True,
        "culprits": 0,
        "commitment": report.commitment,
        "anchor": bytes(32),
        **changes,
    }
    arguments = [value for name, value in values.items() if name != "account"]
    sent = Transaction(signer.address if signer else "nobody", town.call("attest", *arguments), 0)
    if signer:
        town.chain.seen.append(sent)
    town.chain.mine([])
    town.chain.emit(town.chain.blocks[-1], [(JOINT_CREDIT, Attested, values)], sent)


def add_a_supervisor(town: FakeTown, owner: LocalAccount) -> None:
    """The endpoint shows that the members made this account's holder a supervisor; it names the same account."""
    state = town.chain.fold()
    naming = (SUPERVISOR, owner.address, owner.address, 1, bytes(32), sign_naming(owner, SUPERVISOR, owner.address))
    added = town.chain.change(state, Change.SUPERVISOR_ADDED, owner.address)
    effects = [added, town.chain.change(state, Change.ACCOUNT_NAMED, *naming)]
    town.chain.mine([])
    town.chain.emit(town.chain.blocks[-1], effects, Transaction("nobody", Call("consortium", "execute"), 0))


def shown(town: FakeTown, how: str) -> str:
    """A total that its last contributor set, and a made-up verdict on it."""
    request = run(town, FIGURES_1.pack([WISH], 2048)[0], supervised=False)
    mallory = deterministic("mallory")
    if how == "of an added supervisor":
        add_a_supervisor(town, mallory)
        made_up(town, request, mallory, supervisor=mallory.address, account=mallory.address)
    elif how == "signed by another":
        made_up(town, request, mallory)
    elif how == "on another report":
        made_up(town, request, town.supervisor_account, commitment=b"x" * 32)
    else:
        made_up(town, request)
    return request


MADE_UP = ["of an added supervisor", "signed by another", "on another report", "signed by nobody"]


@pytest.mark.parametrize("how", MADE_UP)
def test_made_up_verdict__believed_as_the_ledger_shows_it__approves(
    town: FakeTown, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believe(self: Inquirer, request: Any, _inquiry: Inquiry) -> list[str]:
        self._update(request, state=RequestState.ATTESTED)
        return []

    monkeypatch.setattr(Inquirer, "_believe", believe)
    request = shown(town, how)
    town[0].work()

    assert decision(town, request) is Outcome.APPROVE


@pytest.mark.parametrize("how", MADE_UP)
def test_made_up_verdict__total_stays_provisional(town: FakeTown, how: str) -> None:
    request = shown(town, how)
    town[0].work()

    found = town[0].inquirer.get(request)
    assert (found.state, found.attested) == (RequestState.REPORTED, False)
    assert "not signed by a supervisor that it has accepted" in found.note
    assert decision(town, request) is Outcome.REFER


def test_made_up_verdict__of_an_account_that_no_owner_named__is_the_wrong_ledger(town: FakeTown) -> None:
    request = run(town, FIGURES_1.pack([WISH], 2048)[0], supervised=False)
    stranger = deterministic("stranger")

    made_up(town, request, stranger, account=stranger.address)

    with pytest.raises(WrongLedger, match="a verdict of an account"):
        town[0].work()
    assert town[0].inquirer.get(request).state is RequestState.REPORTED


def test_true_verdict__with_its_signature__counts(town: FakeTown) -> None:
    request = run(town, FIGURES_1.pack([WISH], 2048)[0], supervised=False)

    made_up(town, request, town.supervisor_account)
    town[0].work()

    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


def made_up_void(town: FakeTown) -> str:
    """The endpoint of Bank A shows that the supervisor named Bank B; later Bank A reads the ledger as it is."""
    request = run(town, FIGURES_1.pack([WISH], 2048)[0], supervised=False)
    height = len(town.chain.blocks)
    made_up(town, request, valid=False, culprits=0b10)
    town[0].work()
    town.chain.reorganise(height)
    town.supervised = True
    town.settle()
    return request


def test_made_up_void__believed__ends_the_request_and_names_an_honest_member(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inquirer, "_is_signed", lambda *_: True)

    found = town[0].inquirer.get(made_up_void(town))

    assert found.state is RequestState.VOID
    assert "named: Bank B" in found.note


def test_made_up_void__ends_nothing_and_the_true_verdict_counts(town: FakeTown) -> None:
    found = town[0].inquirer.get(made_up_void(town))

    assert found.state is RequestState.VOID
    assert "named: Bank E" in found.note
