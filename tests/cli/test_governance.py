"""mpcredit member, propose, vote, approve, execute, ready."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_world import refused
from parties import Consortium, Party

from mpcredit.chain import joint_credit_init_code_hash, tester
from mpcredit.encoding import to_hex

STRANGER = tester.deterministic_account(600).address
OTHER = tester.deterministic_account(601).address


def carry(consortium: Consortium, number: int, advance: Callable[[int], None]) -> dict[str, object]:
    """Vote, approve, wait, execute."""
    for name in list(consortium.institutions)[:3]:
        consortium[name].ok("vote", str(number), "--yes")
    consortium.supervisor.ok("approve", str(number), "--yes")
    advance(3_700)
    done: dict[str, object] = consortium["Bank A"].ok("execute", str(number))
    assert done["state"] == "executed"
    return done


def test_invitation__voted_approved_executed__then_pinned_by_hand(
    consortium: Consortium, bank: Party, advance: Callable[[int], None]
) -> None:
    proposed = bank.ok(
        "propose", "invite", "--name", "Bank E", "--owner", STRANGER, "--operator", OTHER, "--reason", "grows"
    )
    number = str(proposed["proposal"])
    refused(bank.run("execute", number), 5, "approv")
    bank.ok("vote", number, "--yes")
    refused(bank.run("vote", number, "--yes"), 5, "voted", party=bank)
    withdrawn = bank.ok("vote", number, "--withdraw", "--yes")
    assert withdrawn["votes"] == []

    for name in list(consortium.institutions)[:3]:
        consortium[name].ok("vote", number, "--yes")
    consortium.supervisor.ok("approve", number, "--yes")
    refused(bank.run("execute", number), 5, "permitted from")
    advance(3_700)
    bank.ok("execute", number)

    listed = bank.ok("member", "list")["members"][-1]
    assert (listed["name"], listed["owner"], listed["pinned"]) == ("Bank E", STRANGER, False)
    refused(bank.run("member", "pin", "Bank E", OTHER), 3, STRANGER, "ask the institution itself")
    refused(bank.run("member", "pin", "Bank Z", OTHER), 3, "there is no member")
    refused(bank.run("member", "pin", "Bank E", "0x1"), 3, "is no account")
    bank.ok("member", "pin", "Bank E", STRANGER)
    assert bank.ok("member", "list")["members"][-1]["pinned"]
    refused(bank.run("execute", number), 5, "executed")


def test_parameters__only_what_is_named_changes(
    consortium: Consortium, bank: Party, advance: Callable[[int], None]
) -> None:
    proposed = bank.ok("propose", "parameters", "--subjects-per-day", "77")
    assert proposed["calls"] == ["setParameters: subjects_per_day 1000 -> 77"]
    carry(consortium, proposed["proposal"], advance)

    again = bank.ok("propose", "parameters", "--subjects-per-day", "77")
    assert again["calls"] == ["setParameters: nothing changes"]
    refused(bank.run("propose", "parameters"), 3, "no parameter")
    refused(bank.run("propose", "parameters", "--delay-seconds", "-1"), 3, "out of range")


def test_approval__of_code_that_is_not_the_packages__warns(consortium: Consortium, bank: Party, tmp_path: Path) -> None:
    calls = tmp_path / "calls.toml"
    calls.write_text(f'[[call]]\nfunction = "approveJointCredit"\narguments = ["0x{"ab" * 32}"]\n')
    foreign = bank.ok("propose", "calls", str(calls))["proposal"]
    own = bank.ok("propose", "joint-credit")["proposal"]

    warned = consortium.supervisor.run("approve", str(foreign), "--yes")
    quiet = consortium.supervisor.run("approve", str(own), "--yes")

    assert (warned.status, quiet.status) == (0, 0)
    assert "rebuild it from its sources" in " ".join(warned.err.split())
    assert "rebuild it" not in quiet.err


def test_other_proposals__say_what_they_do(consortium: Consortium, bank: Party, tmp_path: Path) -> None:
    def call(*arguments: str) -> str:
        return str(bank.ok("propose", *arguments)["calls"][0])

    schema = tmp_path / "schema.json"
    schema.write_text(
        '{"format": "mpcredit/schema", "version": 1, "id": 9, "name": "flags", "fields": '
        '[{"name": "flags", "kind": "count", "value_bits": 8, "slot_bits": 16, "text": "Flags."}]}'
    )
    calls = tmp_path / "calls.toml"
    calls.write_text(
        f'reason = "both"\n[[call]]\nfunction = "addSupervisor"\narguments = ["{STRANGER}"]\n'
        '[[call]]\nfunction = "setGroup"\narguments = [2, 15]\n'
    )

    assert call("remove", "Bank D") == "removeMember: index 3 (Bank D)"
    assert "Bank A, Bank B, Microfinance C" in call("group", "1", "Bank A", "1", "2")
    assert call("supervisor", "add", STRANGER) == f"addSupervisor: supervisor {STRANGER}"
    assert to_hex(joint_credit_init_code_hash()) in call("joint-credit")
    assert call("replace-owner", "Bank B", OTHER).startswith("replaceOwner: index 1 (Bank B)")
    assert len(bank.ok("propose", "calls", str(calls))["calls"]) == 2
    listed = bank.ok("propose", "list")["proposals"]
    shown = bank.ok("propose", "show", str(listed[-1]["proposal"]))
    assert shown["reason"] == "both"
    assert shown["next"].startswith("3 more votes")

    schema_done = bank.run("propose", "schema", str(schema))
    assert schema_done.status in (0, 2), schema_done.err


def test_tag_key__that_a_member_lacks_or_has_voted_for_already__is_not_voted_for(
    consortium: Consortium, bank: Party, tmp_path: Path
) -> None:
    other, file = consortium["Bank B"], str(tmp_path / "tags.json")
    commitment = bank.ok("keys", "show")["tag_keys"][0]["commitment"]
    refused(bank.run("propose", "tag-key", "0x" + "ab" * 32), 5, "version 2", "no tag key that is here")
    refused(bank.run("propose", "tag-key", commitment), 5, "version 2", "your tag key 1")

    made = bank.ok("keys", "tag", "--new")
    first = bank.ok("propose", "tag-key", made["commitment"])
    second = str(bank.ok("propose", "tag-key", made["commitment"])["proposal"])
    assert first["calls"] == [f"setTagKey: commitment {made['commitment']}"]
    number = str(first["proposal"])
    refused(other.run("vote", number, "--yes"), 5, "no tag key that is here", "--import")
    bank.ok("keys", "tag", "--export", file)
    other.ok("keys", "tag", "--import", file)
    try:
        assert other.ok("vote", number, "--yes")["votes"] == [1]
        refused(other.run("vote", second, "--yes"), 5, f"proposal {number} is open", "--withdraw")
        other.ok("vote", number, "--withdraw", "--yes")
        assert other.ok("vote", second, "--yes")["votes"] == [1]
        other.ok("vote", second, "--withdraw", "--yes")
    finally:
        for party in (bank, other):
            party.ok("keys", "destroy", "tag", "2", "--yes")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("propose", "invite", "--name", "X", "--owner", "12", "--operator", OTHER), 3, ("--owner",)),
        (("propose", "remove", "Nobody"), 3, ("there is no member", "Bank A")),
        (("propose", "supervisor", "praise", STRANGER), 3, ("add or remove",)),
        (("propose", "schema", "none.json"), 2, ("none.json",)),
        (("propose", "calls", "none.toml"), 2, ("none.toml",)),
        (("propose", "tag-key", "0x12"), 3, ("commitment",)),
        (("propose", "show", "99"), 3, ("no proposal 99",)),
        (("vote", "99", "--yes"), 3, ("no proposal 99",)),
        (("execute", "99"), 3, ("no proposal 99",)),
        (("member", "operator", "0x12"), 3, ("is no account",)),
        (("member", "confirm"), 3, ("confirmed its record already",)),
        (("propose", "create-joint-credit"), 5, ("init code",)),
        (("ready",), 3, ("--days",)),
        (("ready", "--until", "tomorrow"), 3, ("tomorrow",)),
        (("ready", "--until", "2020-01-01"), 3, ("within the next 7 days",)),
    ],
)
def test_refused__with_place_and_remedy(
    bank: Party, arguments: tuple[str, ...], status: int, words: tuple[str, ...]
) -> None:
    refused(bank.run(*arguments), status, *words, party=bank)


def test_vote__without_terminal_and_yes__sends_nothing(bank: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    number = str(bank.ok("propose", "remove", "Bank B")["proposal"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    refused(bank.run("vote", number), 3, "add --yes")

    assert bank.ok("propose", "show", number)["votes"] == []


def test_upgrade__approved_code_makes_the_next_joint_credit(
    consortium: Consortium, bank: Party, advance: Callable[[int], None]
) -> None:
    number = bank.ok("propose", "joint-credit")["proposal"]
    carry(consortium, number, advance)

    made = bank.ok("propose", "create-joint-credit")

    assert made["joint_credit"] != consortium.deployed["joint_credit"]
    assert bank.run("doctor").out.count("byte for byte") == 1


def test_operator__allowed_and_forbidden(bank: Party) -> None:
    account = tester.deterministic_account(610).address

    bank.ok("member", "operator", account)
    allowed = bank.ok("member", "list")["members"][0]["operators"]
    bank.ok("member", "operator", account, "--forbid")

    assert account in allowed
    assert account not in bank.ok("member", "list")["members"][0]["operators"]


def test_supervisor__suspends_reinstates_audits_and_rotates_its_key(consortium: Consortium) -> None:
    supervisor, bank = consortium.supervisor, consortium["Bank A"]

    supervisor.ok("member", "suspend", "Microfinance C")
    suspended = bank.ok("member", "list")["members"][2]
    supervisor.ok("member", "reinstate", "2")
    supervisor.ok("member", "audit", "Microfinance C")
    made = supervisor.ok("member", "supervisor-key")

    listed = bank.ok("member", "list")
    assert suspended["suspended"]
    assert listed["members"][2]["serving"]
    assert made["version"] == listed["supervisor_key"]["version"] == 2
    refused(supervisor.run("member", "suspend", "Bank Z"), 3, "there is no member")


def test_ready__withdrawn__holds_over_the_services_round_until_declared(bank: Party) -> None:
    bank.ok("ready", "--withdraw")
    bank.ok("answer", "--once")
    held = bank.ok("member", "list")["members"][0]["ready"]
    bank.ok("ready", "--days", "3")

    assert not held
    assert bank.ok("member", "list")["members"][0]["ready"]
