"""mpcredit approve beside a server: it carries out what two people ordered, once, and refuses without; on a real EVM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli_world import OrderDesk, refused
from parties import Consortium, Party

from mpcredit.server.orders import APPROVAL


@pytest.fixture(scope="module")
def party(consortium: Consortium) -> Party:
    """The supervisor has a server."""
    found = consortium.supervisor
    found.config.write_text(found.config.read_text() + '[server]\ndatabase = "sqlite:///server.sqlite"\n')
    return found


@pytest.fixture(scope="module")
def desk(party: Party) -> Iterator[OrderDesk]:
    """Its database, and two of its people."""
    made = OrderDesk(party.home / "server.sqlite", APPROVAL)
    yield made
    made.database.close()


@pytest.fixture
def proposal(consortium: Consortium, bank: Party, desk: OrderDesk) -> tuple[int, str]:
    """A new proposal with its votes: its number and the hash of its calls."""
    made = bank.ok("propose", "remove", "Microfinance C")
    for name in list(consortium.institutions)[:3]:
        consortium[name].ok("vote", str(made["proposal"]), "--yes")
    return int(made["proposal"]), str(made["calls_hash"])


def approvals(bank: Party, number: int) -> int:
    return len(bank.ok("propose", "show", str(number))["approvals"])


def test_approve__without_a_confirmed_order__is_refused_and_says_who_must_do_what(
    bank: Party, party: Party, desk: OrderDesk, proposal: tuple[int, str]
) -> None:
    number, calls_hash = proposal
    page = f"/proposals/{number}"
    refused(party.run("approve", str(number), "--yes"), 5, "nobody has ordered to approve it", "a supervisor", page)
    id = desk.ask(number, calls_hash)
    refused(party.run("approve", str(number), "--yes"), 5, "user:wang.jun", "a reviewer, another person", party=party)
    desk.orders.refuse(id, "not this one", by=desk.two)
    refused(party.run("approve", str(number), "--yes"), 5, "user:li.na refused", "not this one")

    assert approvals(bank, number) == 0
    assert [action for _, action in desk.told(number)] == ["approval.asked", "approval.refused"]


def test_approve__confirmed__is_sent_once_and_taken_back_by_its_own_order(
    bank: Party, party: Party, desk: OrderDesk, proposal: tuple[int, str]
) -> None:
    number, calls_hash = proposal
    desk.order(number, calls_hash)
    refused(party.run("approve", str(number), "--withdraw", "--yes"), 5, "nobody has ordered to take the approval back")

    done = party.ok("approve", str(number), "--yes")

    assert len(done["approvals"]) == approvals(bank, number) == 1
    refused(party.run("approve", str(number), "--yes"), 5, "nobody has ordered")
    desk.order(number, calls_hash, given=False)
    assert party.ok("approve", str(number), "--withdraw", "--yes")["approvals"] == []
    assert desk.told(number) == [
        ("user:wang.jun", "approval.asked"),
        ("user:li.na", "approval.confirmed"),
        ("console", "approval.started"),
        ("console", "approval.done"),
        ("user:wang.jun", "approval_back.asked"),
        ("user:li.na", "approval_back.confirmed"),
        ("console", "approval_back.started"),
        ("console", "approval_back.done"),
    ]


def test_approve__confirmed_for_other_calls__is_refused(
    bank: Party, party: Party, desk: OrderDesk, proposal: tuple[int, str]
) -> None:
    number, _ = proposal
    desk.order(number, "0x" + "11" * 32)

    refused(party.run("approve", str(number), "--yes"), 5, "are not those that were confirmed")
    assert approvals(bank, number) == 0


def test_approve__without_review__is_an_entry_by_the_console(
    bank: Party, party: Party, desk: OrderDesk, proposal: tuple[int, str]
) -> None:
    number, _ = proposal
    refused(party.run("approve", str(number), "--yes", "--without-review", " "), 5, "needs a reason")
    assert desk.told(number) == []

    party.ok("approve", str(number), "--yes", "--without-review", "the server is down")

    assert approvals(bank, number) == 1
    assert desk.told(number) == [("console", "approval.without_review"), ("console", "approval.done")]
    assert desk.audit.search(about=f"proposal/{number}")[-1].why == "the server is down"


def test_approve__where_there_is_no_server__takes_no_review(consortium: Consortium, party: Party) -> None:
    text = party.config.read_text()
    number = str(consortium["Bank A"].ok("propose", "remove", "Bank D")["proposal"])
    party.config.write_text(text.replace('[server]\ndatabase = "sqlite:///server.sqlite"\n', ""))
    try:
        refused(party.run("approve", number, "--yes", "--without-review", "any reason"), 3, "no server")
        refused(party.run("approve", number, "--yes"), 5, "0 of the 3 votes")
    finally:
        party.config.write_text(text)
