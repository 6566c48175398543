"""mpcredit approve beside a server: it carries out what was ordered on its page, and refuses without; on a real EVM."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cli_world import refused
from parties import Consortium, Party

from mpcredit.config import read_config, supervisor_from_config
from mpcredit.encoding import hex_bytes
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import open_database
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import OwnSqlStore


@pytest.fixture(scope="module")
def party(consortium: Consortium) -> Party:
    """The supervisor has a server."""
    found = consortium.supervisor
    found.config.write_text(found.config.read_text() + '[server]\ndatabase = "sqlite:///server.sqlite"\n')
    with OwnSqlStore(ServerSettings.load(found.config)) as store:
        store.put("meta", "nonce_floor", {"nonce": 100})
    return found


@pytest.fixture
def order(party: Party) -> Callable[[int, str, bool], None]:
    """What the server does when a person orders an approval on its page."""

    def ordered(proposal: int, calls_hash: str, given: bool) -> None:
        assert read_config(party.config).served
        with OwnSqlStore(ServerSettings.load(party.config)) as store:
            node = supervisor_from_config(party.config, ask=lambda _purpose: party.passphrase, store=store)
            node.work()
            node.supervisor.order_approval(proposal, hex_bytes(calls_hash, 32), given=given)

    return ordered


@pytest.fixture
def proposal(consortium: Consortium, bank: Party) -> tuple[int, str]:
    """A new proposal with its votes: its number and the hash of its calls."""
    made = bank.ok("propose", "remove", "Microfinance C")
    for name in list(consortium.institutions)[:3]:
        consortium[name].ok("vote", str(made["proposal"]), "--yes")
    return int(made["proposal"]), str(made["calls_hash"])


@pytest.fixture
def log(party: Party) -> Iterator[AuditLog]:
    database = open_database(ServerSettings.load(party.config), create=False)
    yield AuditLog(database)
    database.close()


def approvals(bank: Party, number: int) -> int:
    return len(bank.ok("propose", "show", str(number))["approvals"])


def test_approve__that_nobody_ordered__is_refused_and_says_who_must_do_what(
    bank: Party, party: Party, proposal: tuple[int, str]
) -> None:
    number, _ = proposal

    refused(
        party.run("approve", str(number), "--yes"),
        5,
        "nobody has ordered the approval",
        f"/supervision/proposals/{number}",
        "--without-review",
        party=party,
    )
    assert approvals(bank, number) == 0


def test_approve__as_ordered__is_sent_once_and_noted_by_the_server(
    bank: Party, party: Party, proposal: tuple[int, str], order: Callable[[int, str, bool], None]
) -> None:
    number, calls_hash = proposal
    order(number, calls_hash, True)
    refused(party.run("approve", str(number), "--withdraw", "--yes"), 5, "nobody has ordered taking back")

    done = party.ok("approve", str(number), "--yes")

    assert len(done["approvals"]) == approvals(bank, number) == 1
    refused(party.run("approve", str(number), "--yes"), 3, "already")
    order(number, calls_hash, False)  # which notes the first one as done
    with OwnSqlStore(ServerSettings.load(party.config)) as store:
        states = [value["state"] for _, value in store.items("approval-order") if value["proposal"] == number]
    assert states == ["done", "ordered"]
    assert party.ok("approve", str(number), "--withdraw", "--yes")["approvals"] == []


def test_approve__ordered_for_other_calls__is_refused(
    bank: Party, party: Party, proposal: tuple[int, str], order: Callable[[int, str, bool], None]
) -> None:
    number, calls_hash = proposal
    order(number, calls_hash, True)
    with OwnSqlStore(ServerSettings.load(party.config)) as store:
        (key, value) = next((k, v) for k, v in store.items("approval-order") if v["proposal"] == number)
        store.put("approval-order", key, {**value, "calls_hash": "0x" + "11" * 32})

    refused(party.run("approve", str(number), "--yes"), 5, "not those that were approved on its page")
    assert approvals(bank, number) == 0


def test_approve__without_review__is_an_entry_by_the_console(
    bank: Party, party: Party, proposal: tuple[int, str], log: AuditLog
) -> None:
    number, _ = proposal
    refused(party.run("approve", str(number), "--yes", "--without-review", " "), 5, "needs a reason")
    assert list(log.search(about=f"proposal/{number}")) == []

    party.ok("approve", str(number), "--yes", "--without-review", "the server is down")

    assert approvals(bank, number) == 1
    (entry,) = log.search(about=f"proposal/{number}")
    assert (entry.actor, entry.action, entry.why) == ("console", "proposal.approved", "the server is down")
    assert entry.facts["reviewed"] is False


def test_approve__where_there_is_no_server__takes_no_review(consortium: Consortium, party: Party) -> None:
    text = party.config.read_text()
    number = str(consortium["Bank A"].ok("propose", "remove", "Bank D")["proposal"])
    party.config.write_text(text.replace('[server]\ndatabase = "sqlite:///server.sqlite"\n', ""))
    try:
        refused(party.run("approve", number, "--yes", "--without-review", "any reason"), 3, "no server")
        refused(party.run("approve", number, "--yes"), 5, "0 of the 3 votes")
    finally:
        party.config.write_text(text)
