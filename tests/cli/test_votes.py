"""mpcredit vote beside a server: it carries out what two people ordered, once, and refuses without; on a real EVM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli_world import OrderDesk, refused
from parties import Consortium, Party

from mpcredit.cli._owner import Owner
from mpcredit.errors import Refused, StoreError
from mpcredit.server.orders import VOTE


@pytest.fixture(scope="module")
def party(consortium: Consortium) -> Party:
    """Bank D has a server."""
    found = consortium["Bank D"]
    found.config.write_text(found.config.read_text() + '[server]\ndatabase = "sqlite:///server.sqlite"\n')
    return found


@pytest.fixture(scope="module")
def desk(party: Party) -> Iterator[OrderDesk]:
    made = OrderDesk(party.home / "server.sqlite", VOTE)
    yield made
    made.database.close()


@pytest.fixture
def proposal(bank: Party, desk: OrderDesk) -> tuple[int, str]:
    """A new proposal, of a bank without a server: its number and the hash of its calls."""
    made = bank.ok("propose", "remove", "Microfinance C")
    return int(made["proposal"]), str(made["calls_hash"])


def votes(bank: Party, number: int) -> list[int]:
    return list(bank.ok("propose", "show", str(number))["votes"])


def test_vote__without_a_confirmed_order__is_refused_and_says_who_must_do_what(
    bank: Party, party: Party, desk: OrderDesk, proposal: tuple[int, str]
) -> None:
    number, calls_hash = proposal
    refused(party.run("vote", str(number), "--yes"), 5, "nobody has ordered", "an administrator", "/proposals/")
    id = desk.ask(number, calls_hash)
    refused(party.run("vote", str(number), "--yes"), 5, "user:wang.jun", "a reviewer, another person")
    desk.orders.refuse(id, "not this one", by=desk.two)
    refused(party.run("vote", str(number), "--yes"), 5, "user:li.na refused", "not this one", party=party)
    refused(party.run("vote", str(number), "--yes", "--without-review", " "), 5, "needs a reason")

    assert votes(bank, number) == []
    assert [action for _, action in desk.told(number)] == ["vote.asked", "vote.refused"]


def test_vote__confirmed__is_sent_once_and_taken_back_by_its_own_order(
    bank: Party, party: Party, desk: OrderDesk, proposal: tuple[int, str]
) -> None:
    number, calls_hash = proposal
    desk.order(number, calls_hash)
    done = party.run("vote", str(number), "--yes")
    assert done.status == 0, done.err
    assert "user:wang.jun asked (read it), user:li.na confirmed" in " ".join((done.out + done.err).split())
    assert votes(bank, number) == [3]

    refused(party.run("vote", str(number), "--yes"), 5, "nobody has ordered")
    refused(party.run("vote", str(number), "--withdraw", "--yes"), 5, "nobody has ordered")
    desk.order(number, calls_hash, given=False)
    assert party.ok("vote", str(number), "--withdraw", "--yes")["votes"] == []

    console = [("console", "vote.started"), ("console", "vote.done")]
    back = [("console", "vote_back.started"), ("console", "vote_back.done")]
    told = desk.told(number)
    assert (told[2:4], told[6:]) == (console, back)
    assert desk.audit.verify() > 8


@pytest.mark.parametrize("sent", [False, True], ids=["before-it-was-sent", "after-it-was-sent"])
def test_vote__killed_between_its_steps__is_sent_once(
    bank: Party,
    party: Party,
    desk: OrderDesk,
    proposal: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
    sent: bool,
) -> None:
    number, calls_hash = proposal
    id = desk.order(number, calls_hash)
    real = Owner.send

    def killed(self: Owner, *arguments: object) -> int:
        if sent:
            real(self, *arguments)  # type: ignore[arg-type]
        raise StoreError("killed here", remedy="none")

    with monkeypatch.context() as patch:
        patch.setattr(Owner, "send", killed)
        assert party.run("vote", str(number), "--yes").status != 0
    assert (desk.orders.get(id).state, votes(bank, number)) == ("started", [3] if sent else [])

    assert party.ok("vote", str(number), "--yes")["votes"] == [3]

    assert desk.orders.get(id).state == "done"
    assert [action for _, action in desk.told(number)].count("vote.done") == 1


def test_vote__that_the_contract_refuses__leaves_the_order_open(
    party: Party, desk: OrderDesk, proposal: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    number, calls_hash = proposal
    id = desk.order(number, calls_hash)

    def no(*_arguments: object) -> int:
        raise Refused("the contract said no", remedy="none")

    with monkeypatch.context() as patch:
        patch.setattr(Owner, "send", no)
        refused(party.run("vote", str(number), "--yes"), 5, "said no")

    assert desk.orders.get(id).state == "confirmed"
    assert desk.told(number)[-1] == ("console", "vote.not_sent")


def test_vote__without_review__is_an_entry_by_the_console(
    bank: Party, party: Party, desk: OrderDesk, proposal: tuple[int, str]
) -> None:
    number, _ = proposal
    party.ok("vote", str(number), "--yes", "--without-review", "both reviewers are ill")

    assert votes(bank, number) == [3]
    assert desk.told(number) == [("console", "vote.without_review"), ("console", "vote.done")]
    assert desk.audit.search(about=f"proposal/{number}")[-1].why == "both reviewers are ill"
    refused(bank.run("vote", str(number), "--yes", "--without-review", "any reason"), 3, "no server")
    bank.ok("vote", str(number), "--yes")  # as ever, where there is no server
