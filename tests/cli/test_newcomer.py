"""An institution that joins later: invited, confirmed with the founding file, pinned by the others, in a cohort (R9, R37)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from cli_world import URL, refused
from parties import Consortium, Party, here
from web3 import Web3

from mpcredit.books import LoanBook

DAY = 86_400


@pytest.fixture(scope="module")
def joined(consortium: Consortium, chain: Web3, fund: Callable[[str], None], advance: Callable[[int], None]) -> Party:
    """Bank E, invited, with its keys, the tag key and a book."""
    bank = consortium["Bank A"]
    home = bank.home.parent / "bank-e"
    home.mkdir(mode=0o700)
    party = Party("Bank E", "institution", home, here, URL, chain.eth.chain_id)
    party.write_config()
    owner = party.ok("keys", "owner")["owner"]
    for address in (owner, party.ok("keys", "new")["ledger_account"]):
        fund(address)
    bank.ok("keys", "tag", "--export", "for-bank-e.json")
    party.ok("keys", "tag", "--import", str(bank.home / "for-bank-e.json"))
    book = LoanBook.read_csv(bank.home / "book.csv")
    replace(book, institution="Bank E").write_csv(home / "book.csv")
    number = str(bank.ok("propose", "invite", "--name", "Bank E", "--owner", owner)["proposal"])
    for name in list(consortium.institutions)[:3]:
        consortium[name].ok("vote", number, "--yes")
    consortium.supervisor.ok("approve", number, "--yes")
    advance(3_700)
    bank.ok("execute", number)
    party.ledger = {
        "consortium": consortium.deployed["consortium"],
        "first_block": consortium.deployed["first_block"],
    }
    return party


def test_newcomer__without_the_founding_file__is_refused_and_names_nothing(
    consortium: Consortium, joined: Party
) -> None:
    joined.write_config()
    text = joined.config.read_text()
    joined.config.write_text(text.replace('founding = "founding.toml"\n', ""))
    try:
        refused(joined.run("member", "confirm", "--yes"), 2, "founding", "get the founding file from a member")
    finally:
        joined.config.write_text(text)

    listed = consortium["Bank A"].ok("member", "list")["members"][4]
    assert (listed["confirmed"], listed["account"], listed["tenure"]) == (False, None, None)


def test_newcomer__confirmed_and_pinned__is_in_the_next_cohort(
    consortium: Consortium, joined: Party, subjects: Iterator[str]
) -> None:
    joined.write_config()
    (joined.home / "founding.toml").write_text((consortium["Bank A"].home / "founding.toml").read_text())

    confirmed = joined.run("member", "confirm", "--yes", "--json")

    assert confirmed.status == 0, confirmed.err
    assert "no earlier consortium" in confirmed.err
    owner = consortium["Bank A"].ok("member", "list")["members"][4]["owner"]
    for party in consortium.institutions.values():
        party.ok("member", "pin", "Bank E", owner)
    consortium.supervisor.ok("member", "pin", "Bank E", owner)
    for _ in range(3):
        joined.ok("answer", "--once")
        consortium.turn()
    listed = joined.ok("member", "list")["members"][4]
    assert (listed["pinned"], listed["serving"], listed["ready_next"]) == (True, True, True)

    bank = consortium["Bank A"]
    request = bank.ok("inquire", "-s", next(subjects), "--grant-days", "3", "--no-wait")["request"]
    for _ in range(2):
        joined.ok("answer", "--once")
        consortium.turn()
    joined.ok("answer", "--once")
    consortium.turn()
    done = bank.ok("inquire", "--resume", request, "--timeout", "5")
    assert done["attested"]
    assert done["coverage"] == "5 of 5 institutions"
