"""What it takes to name a member (R31.2, R31.3): its account's signature, a final block, and a fault that is its own.

- An endpoint that makes up a contribution gets an honest member suspended, where the supervisor believes the event alone.
- A verdict on what a reorganisation can still replace names a member for a transaction that is not on the ledger any more.
- A node that holds an opening back until its consent has ended gets the honest inquirer suspended.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from attackers import craft, send, silent
from fakes import FakeTown, found_town

from mpcredit.errors import NotYet
from mpcredit.events import Call, Stage
from mpcredit.inquirer import RequestState
from mpcredit.state import Inquiry
from mpcredit.supervisor import Supervisor

VICTIM = 3


def deviate(town: FakeTown) -> Inquiry:
    """A contribution above its value bits stands on the ledger as Bank D's; the supervisor has not looked yet."""
    town.supervised = False
    silent(town, VICTIM)
    request = town.ask(1)
    town.settle()
    inquiry = town.inquiry(request)
    send(town[VICTIM], inquiry, craft(town[VICTIM], inquiry, blocks=lambda b: [b[0] + (1 << 50)]))
    town.supervised = True
    return inquiry


def suspended(town: FakeTown) -> list[int]:
    return [i for i, member in sorted(town.chain.fold().members.items()) if member.suspended]


def makes_it_up(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor's endpoint shows a contribution that Bank D's account has not signed."""
    ledger = town.supervisor.supervisor.follower.ledger
    true = ledger.signed_by

    def forged(transaction: bytes, call: Call) -> str | None:
        return None if call.function == "contribute" and call.arguments[1] == VICTIM else true(transaction, call)

    monkeypatch.setattr(ledger, "signed_by", forged)


def test_event_without_a_signed_transaction__believed__the_honest_member_is_suspended(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "_unsigned", lambda *_: False)
    deviate(town)
    makes_it_up(town, monkeypatch)
    town.settle()

    assert suspended(town) == [VICTIM]


def test_event_without_a_signed_transaction__nobody_is_named_and_it_says_so(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    inquiry = deviate(town)
    makes_it_up(town, monkeypatch)
    town.settle()

    assert suspended(town) == []
    assert town.chain.fold().inquiries[inquiry.id].verdict is None
    (told,) = [f for f in town.supervisor.supervisor.findings if "is not named" in f.text]
    assert "compare with another endpoint" in told.text
    assert told.culprits == ()


def test_signed_by_its_account__is_named(town: FakeTown) -> None:
    deviate(town)
    town.settle()

    assert suspended(town) == [VICTIM]


def test_not_final_yet__nothing_is_attested_and_nobody_named() -> None:
    town = found_town(5, confirmations=3)
    inquiry = deviate(town)
    town.supervisor.work()
    assert suspended(town) == []

    for _ in range(8):
        town.chain.mine([])
        town.settle()
    assert suspended(town) == [VICTIM]
    assert town.chain.fold().inquiries[inquiry.id].stage is Stage.VOID


def test_consent_out_of_time_at_the_opening__names_nobody(town: FakeTown) -> None:
    town.asleep = {1, 2, 3, 4}
    request = town.ask(1)
    town.work()
    inquiry = town.inquiry(request)
    supervisor = town.supervisor.supervisor
    late = replace(
        inquiry,
        opened=replace(
            inquiry.opened, at=replace(inquiry.opened.at, timestamp=inquiry.opened.at.timestamp + 86_400 * 99)
        ),
    )

    supervisor.verified.clear()
    supervisor._checked.clear()
    known = supervisor.check(late)

    (finding,) = known.findings
    assert "valid_until has passed" in finding.text
    assert known.culprits == ()
    assert supervisor.verdict_of(late) is None


# --------------------------------------------------------------------- void, by a person's order


def test_void_without_names__by_order__ends_it_and_suspends_nobody(town: FakeTown) -> None:
    town.asleep = {4}
    request = town.ask(1)
    town.settle()
    supervisor = town.supervisor.supervisor
    supervisor.order_void(supervisor.state.inquiries[town.inquiry(request).id])
    town.settle()

    assert town.inquiry(request).stage is Stage.VOID
    ended = town[0].inquirer.get(request)
    assert ended.state is RequestState.VOID
    assert "named nobody" in ended.note
    assert suspended(town) == []
    assert town[1].desk.state.voided_unnamed[supervisor.owner] == 1


def test_void_without_names__of_an_ended_inquiry__is_refused(town: FakeTown) -> None:
    request = town.ask(1)
    town.settle()
    supervisor = town.supervisor.supervisor

    with pytest.raises(NotYet, match="cannot be voided any more"):
        supervisor.order_void(supervisor.state.inquiries[town.inquiry(request).id])


def test_no_order__nothing_is_voided_without_names(town: FakeTown) -> None:
    town.asleep = {4}
    request = town.ask(1)
    town.settle()

    assert town.inquiry(request).stage is Stage.OPEN
