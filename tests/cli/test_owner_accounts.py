"""mpcredit member confirm and appoint, keys rotate: what owner accounts do for their service accounts and keys (R9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cli_world import refused
from parties import Consortium, Party

from mpcredit.chain import tester
from mpcredit.storage.mark import FileMark
from mpcredit.store import SqliteStore
from mpcredit.tenure import Mark

DAY = 86_400
OTHER = tester.deterministic_account(611).address


def tenure(party: Party) -> str:
    with SqliteStore(party.home / "store.sqlite") as store:
        known = store.get("meta", "tenure")
    assert known is not None
    return str(known["tenure"])


def member(party: Party, index: int) -> dict[str, object]:
    found: dict[str, object] = party.ok("member", "list")["members"][index]
    return found


@pytest.fixture
def renewed(consortium: Consortium) -> Iterator[Party]:
    """Bank D, whose store is put back afterwards."""
    party = consortium["Bank D"]
    store = party.home / "store.sqlite"
    kept = store.read_bytes()
    yield party
    for path in party.home.glob("store.sqlite*"):
        if path.is_file():
            path.unlink()
    store.write_bytes(kept)
    store.chmod(0o600)


def test_confirm__named_the_ledger_account_with_the_tenure_of_the_store(consortium: Consortium) -> None:
    for index, party in enumerate(consortium.institutions.values()):
        found = member(party, index)

        assert found["account"] == party.ok("keys", "show")["ledger_account"]
        assert found["tenure"] == tenure(party)
        assert found["namings"] == 1
    listed = consortium["Bank A"].ok("member", "list")["supervisors"]
    assert listed[0]["account"] == consortium.supervisor.ok("keys", "show")["ledger_account"]


def test_confirm__without_the_founding_file__is_refused_and_so_are_pins(bank: Party) -> None:
    text = bank.config.read_text()
    bank.config.write_text(text.replace('founding = "founding.toml"\n', ""))
    try:
        for command in (("confirm", "--yes"), ("pin", "Bank B", OTHER), ("accept-period-key", "1", "--yes")):
            refused(bank.run("member", *command), 2, "founding", f"mpcredit member {command[0]}", "SHA-256", party=bank)
    finally:
        bank.config.write_text(text)


def test_confirm__a_second_time__is_refused(bank: Party) -> None:
    refused(bank.run("member", "confirm", "--yes"), 3, "confirmed its record already", party=bank)


def test_appoint__the_same_account_and_tenure__is_refused(bank: Party, consortium: Consortium) -> None:
    refused(bank.run("member", "appoint", "--yes"), 3, "is named already", party=bank)
    refused(consortium.supervisor.run("member", "appoint", "--yes"), 3, "is the service account already")
    assert member(bank, 0)["namings"] == 1


def test_appoint__the_owner_account_or_no_account__is_refused(bank: Party) -> None:
    owner = str(member(bank, 0)["owner"])

    refused(bank.run("member", "appoint", owner, "--yes"), 3, "is the owner account", "offline", party=bank)
    refused(bank.run("member", "appoint", "0x12", "--yes"), 3, "is no account")
    refused(bank.run("member", "appoint", OTHER, "--take", "--yes"), 3, "--take names no account")


def test_appoint__within_a_day__is_refused_and_switches_nothing_off(bank: Party) -> None:
    refused(bank.run("member", "appoint", OTHER, "--yes"), 5, "permitted from", party=bank)

    assert member(bank, 0)["ready_next"]


def test_appoint__by_the_account_of_another__is_refused(consortium: Consortium, bank: Party) -> None:
    theirs = str(consortium["Bank B"].home / "owner-account.json")
    stranger = bank.ok("keys", "owner", "--out", "stranger.json")["file"]
    supervisors = consortium.supervisor

    refused(bank.run("member", "appoint", OTHER, "--owner-account", stranger, "--yes"), 3, "owns no member", party=bank)
    refused(
        supervisors.run(
            *("member", "appoint", OTHER, "--owner-account", theirs, "--yes"),
            MPCREDIT_OWNER_PASSPHRASE=consortium["Bank B"].owner_passphrase,
        ),
        3,
        "not the owner account of a supervisor",
    )


def test_appoint__another_store__says_which_inquiries_would_fail_and_switches_off_before(
    consortium: Consortium, renewed: Party, subjects: Iterator[str], advance: Callable[[int], None]
) -> None:
    bank = consortium["Bank A"]
    bank.ok("inquire", "-s", next(subjects), "--grant-days", "3", "--no-wait")
    bank.ok("answer", "--once")
    assert bank.ok("explain", "last")["inquiries"][0]["state"] == "open"
    before = tenure(renewed)
    advance(DAY)
    with SqliteStore(renewed.home / "store.sqlite") as store:
        store.put("meta", "tenure", {"tenure": "0x" + "77" * 32})
    FileMark(renewed.home / "mark" / "store.json").write(Mark(bytes([0x77]) * 32, None))

    done = renewed.run("member", "appoint", "--yes", "--json")

    assert done.status == 0, done.err
    assert (done.value["tenure"], done.value["number"], done.value["failing"]) == ("0x" + "77" * 32, 2, 1)
    assert "1 open inquiry would fail" in " ".join(done.err.split())
    found = member(bank, 3)
    assert (found["tenure"], found["ready_next"]) == ("0x" + "77" * 32, False)
    assert before != found["tenure"]
    refused(bank.run("ready"), 3, "--on, --off")


def test_appoint__a_tenure_that_was_displaced__is_refused(
    consortium: Consortium, advance: Callable[[int], None]
) -> None:
    party = consortium["Bank D"]
    assert tenure(party) != member(party, 3)["tenure"], "the store of before is back"
    advance(DAY)

    refused(party.run("member", "appoint", "--yes"), 5, tenure(party), "displaced", "new tenure", party=party)


def test_appoint__another_account_of_the_same_store__keeps_the_tenure(
    consortium: Consortium, advance: Callable[[int], None]
) -> None:
    party = consortium["Bank B"]
    before = member(party, 1)
    advance(DAY)

    done = party.run("member", "appoint", OTHER, "--yes", "--json")

    assert done.status == 0, done.err
    assert done.value["failing"] == 0
    assert "The tenure stays" in done.err
    found = member(party, 1)
    assert (found["account"], found["tenure"], found["since"]) == (OTHER, before["tenure"], before["since"])
    assert "[ledger] account" in done.err
    refused(party.run("ready", "--on"), 9, "no member's service account", "member appoint", party=party)


def test_take__leaves_no_account_at_once__and_a_new_one_is_named_a_day_after_the_last(
    consortium: Consortium, bank: Party, advance: Callable[[int], None]
) -> None:
    assert member(bank, 0)["ready_next"]

    taken = bank.ok("member", "appoint", "--take", "--yes")
    found = member(bank, 0)

    assert taken["account"] is None
    assert (found["account"], found["ready"], found["ready_next"]) == (None, False, False)
    refused(bank.run("member", "appoint", "--take", "--yes"), 3, "no service account")
    refused(bank.run("ready", "--on"), 9, "no member's service account")
    advance(DAY)
    bank.ok("member", "appoint", "--yes")
    assert member(bank, 0)["account"] == bank.ok("keys", "show")["ledger_account"]
    bank.ok("ready", "--on")


def test_take__without_a_yes__sends_nothing(consortium: Consortium, monkeypatch: pytest.MonkeyPatch) -> None:
    party = consortium.supervisor
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    refused(party.run("member", "appoint", "--take"), 3, "add --yes")

    assert consortium["Bank A"].ok("member", "list")["supervisors"][0]["account"] is not None


def test_supervisor__names_another_account_and_takes_it_away(
    consortium: Consortium, advance: Callable[[int], None]
) -> None:
    party = consortium.supervisor
    advance(DAY)

    named = party.ok("member", "appoint", OTHER, "--yes")

    assert (named["party"], named["account"], named["number"], named["tenure"]) == (255, OTHER, 2, None)
    refused(party.run("member", "suspend", "Bank B"), 9, "no supervisor's service account", "member appoint")
    party.ok("member", "suspend", "Bank B", "--owner-account", "owner-account.json")
    assert member(consortium["Bank A"], 1)["suspended"]
    party.ok("member", "appoint", "--take", "--yes")
    assert consortium["Bank A"].ok("member", "list")["supervisors"][0]["account"] is None
