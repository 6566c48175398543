"""mpcredit member, propose, vote, approve, execute, ready; accounts and their namings are in test_owner_accounts.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_world import refused
from eth_utils.address import to_checksum_address
from parties import Consortium, Party

from mpcredit.chain import joint_credit_init_code_hash, tester
from mpcredit.encoding import to_hex

DAY = 86_400
STRANGER = tester.deterministic_account(600).address
OTHER = tester.deterministic_account(601).address
THIRD = tester.deterministic_account(602).address


def owner_of(party: Party) -> str:
    """The owner account, from its file."""
    return str(to_checksum_address(json.loads((party.home / "owner-account.json").read_text())["address"]))


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
    proposed = bank.ok("propose", "invite", "--name", "Bank E", "--owner", STRANGER, "--reason", "grows")
    assert proposed["calls"] == [f"inviteMember: owner {STRANGER}; memberName Bank E"]
    number = str(proposed["proposal"])
    refused(bank.run("execute", number), 5, "approv")
    refused(consortium.supervisor.run("approve", number, "--yes"), 5, "0 of the 3 votes", party=consortium.supervisor)
    bank.ok("vote", number, "--yes")
    refused(bank.run("vote", number, "--yes"), 5, "voted", party=bank)
    withdrawn = bank.ok("vote", number, "--withdraw", "--yes")
    assert withdrawn["votes"] == []

    for name in list(consortium.institutions)[:3]:
        consortium[name].ok("vote", number, "--yes")
    approved = consortium.supervisor.ok("approve", number, "--yes")
    assert [one["supervisor"] for one in approved["approvals"]] == [owner_of(consortium.supervisor)]
    refused(consortium.supervisor.run("approve", number, "--yes"), 3, "approved proposal", "already")
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


def test_terms__only_what_is_named_changes(consortium: Consortium, bank: Party, advance: Callable[[int], None]) -> None:
    proposed = bank.ok("propose", "terms", "--subjects-per-day", "77")
    later = bank.ok("propose", "terms", "--subjects-per-day", "78", "--silence-seconds", "90")
    assert proposed["calls"] == ["setTerms: subjects_per_day 1000 -> 77"]
    assert later["calls"] == ["setTerms: silence_seconds 60 -> 90; subjects_per_day 1000 -> 78"]
    carry(consortium, proposed["proposal"], advance)

    refused(bank.run("propose", "terms", "--subjects-per-day", "77"), 5, "would change nothing", "nothing was proposed")
    refused(bank.run("propose", "terms"), 3, "no term")
    refused(bank.run("propose", "terms", "--delay-seconds", "-1"), 3, "out of range")
    refused(bank.run("propose", "terms", "--minimum-cohort", "256"), 3, "out of range", "255")
    refused(bank.run("propose", "terms", "--delay-seconds", "3599"), 5, "delaySeconds", "permitted range")
    assert bank.ok("propose", "show", str(later["proposal"]))["calls"] == [
        "setTerms: silence_seconds 60 -> 90; subjects_per_day 77 -> 78"
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("remove", "Bank D"), ()),
        (("group", "1", "Bank A", "1", "2"), ("groups 0 and 1 differ by 1 members",)),
        (("supervisor", "remove", "SUPERVISOR"), ("the only supervisor cannot be removed",)),
        (("invite", "--name", "Bank B2", "--owner", "OWNER"), ("call 0 of the proposal fails", "owns a party already")),
    ],
    ids=["that-passes", "groups-too-close", "last-supervisor", "account-in-use"],
)
def test_propose__what_fails_today__is_refused_with_its_reason_and_not_proposed(
    consortium: Consortium, bank: Party, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    named = {"SUPERVISOR": owner_of(consortium.supervisor), "OWNER": owner_of(bank)}
    before = len(bank.ok("propose", "list")["proposals"])

    done = bank.run("propose", *(named.get(argument, argument) for argument in arguments))

    if words:
        refused(done, 5, *words, "nothing was proposed")
    else:
        assert done.status == 0, done.err
    assert len(bank.ok("propose", "list")["proposals"]) == before + (not words)


def test_propose__withdrawn_by_its_member__is_over(consortium: Consortium, bank: Party) -> None:
    number = str(bank.ok("propose", "remove", "Bank B")["proposal"])
    refused(
        consortium["Bank B"].run("propose", "withdraw", number, "--yes"), 5, "member 0 made this proposal, not member 1"
    )

    withdrawn = bank.ok("propose", "withdraw", number, "--yes")

    assert (withdrawn["state"], withdrawn["next"]) == ("withdrawn", "propose it again")
    refused(bank.run("vote", number, "--yes"), 5, "was withdrawn")
    refused(bank.run("propose", "withdraw", number, "--yes"), 5, "was withdrawn")
    refused(bank.run("propose", "withdraw", "99", "--yes"), 3, "no proposal 99")


def test_approval__of_code_that_is_not_the_packages__warns(consortium: Consortium, bank: Party, tmp_path: Path) -> None:
    calls = tmp_path / "calls.toml"
    calls.write_text(f'[[call]]\nfunction = "approveJointCredit"\narguments = ["0x{"ab" * 32}"]\n')
    foreign = bank.ok("propose", "calls", str(calls))["proposal"]
    own = bank.ok("propose", "joint-credit")["proposal"]
    for number in (foreign, own):
        for name in list(consortium.institutions)[:3]:
            consortium[name].ok("vote", str(number), "--yes")

    warned = consortium.supervisor.run("approve", str(foreign), "--yes")
    quiet = consortium.supervisor.run("approve", str(own), "--yes")

    assert (warned.status, quiet.status) == (0, 0)
    assert "rebuild it from its sources" in " ".join(warned.err.split())
    assert "rebuild it" not in quiet.err
    taken = consortium.supervisor.ok("approve", str(own), "--withdraw", "--yes")
    assert taken["approvals"] == []
    refused(consortium.supervisor.run("approve", str(own), "--withdraw", "--yes"), 5, "has not approved")


def test_other_proposals__say_what_they_do(consortium: Consortium, bank: Party, tmp_path: Path) -> None:
    def call(*arguments: str) -> str:
        return str(bank.ok("propose", *arguments)["calls"][0])

    schema = tmp_path / "schema.json"
    schema.write_text(
        '{"format": "mpcredit/schema", "version": 2, "id": 9, "name": "flags", "fields": '
        '[{"name": "flags", "kind": "count", "value_bits": 8, "slot_bits": 16, "text": "Flags."}]}'
    )
    calls = tmp_path / "calls.toml"
    calls.write_text(
        f'reason = "both"\n[[call]]\nfunction = "addSupervisor"\narguments = ["{THIRD}"]\n'
        '[[call]]\nfunction = "setGroup"\narguments = [2, 15]\n'
    )

    assert call("remove", "Bank D") == "removeMember: index 3 (Bank D)"
    assert call("invite", "--name", "Bank F", "--owner", OTHER).endswith("memberName Bank F")
    assert "Bank A, Bank B, Microfinance C, Bank D" in call("group", "1", "Bank A", "1", "2", "3")
    assert call("supervisor", "add", THIRD) == f"addSupervisor: supervisor {THIRD}"
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
    assert first["calls"] == [f"setTagKey: version 2; commitment {made['commitment']}"]
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
        (("propose", "invite", "--name", "X", "--owner", "12"), 3, ("--owner",)),
        (("propose", "remove", "Nobody"), 3, ("there is no member", "Bank A")),
        (("propose", "supervisor", "praise", STRANGER), 3, ("add or remove",)),
        (("propose", "schema", "none.json"), 2, ("none.json",)),
        (("propose", "calls", "none.toml"), 2, ("none.toml",)),
        (("propose", "tag-key", "0x12"), 3, ("commitment",)),
        (("propose", "show", "99"), 3, ("no proposal 99",)),
        (("vote", "99", "--yes"), 3, ("no proposal 99",)),
        (("execute", "99"), 3, ("no proposal 99",)),
        (("propose", "create-joint-credit"), 5, ("init code",)),
        (("ready",), 3, ("--on, --off",)),
        (("ready", "--on", "--off"), 3, ("--on, --off",)),
        (("member", "accept-period-key", "9", "--yes"), 3, ("no period key 9", "there are: 1")),
        (("member", "accept-period-key", "1", "--yes"), 3, ("accepted already",)),
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


def test_supervisor__suspends_reinstates_and_audits(consortium: Consortium) -> None:
    supervisor, bank = consortium.supervisor, consortium["Bank A"]

    supervisor.ok("member", "suspend", "Microfinance C")
    suspended = bank.ok("member", "list")["members"][2]
    refused(supervisor.run("member", "suspend", "Microfinance C"), 5, "would change nothing")
    supervisor.ok("member", "reinstate", "2")
    listed = bank.ok("member", "list")["members"][2]

    assert (suspended["suspended"], suspended["serving"]) == (True, False)
    assert (listed["suspended"], listed["serving"]) == (False, True)
    refused(supervisor.run("member", "audit", "Microfinance C"), 3, "audited already")
    consortium["Microfinance C"].ok("keys", "rotate")
    assert supervisor.ok("member", "audit", "Microfinance C")["periods"] == [1]
    audited = bank.ok("member", "list")["members"][2]
    assert (audited["audited"], audited["serving_version"]) == (True, 2)
    refused(supervisor.run("member", "suspend", "Bank Z"), 3, "there is no member")


def test_period_key__announced_compared_accepted_and_put_in_force(
    consortium: Consortium, advance: Callable[[int], None]
) -> None:
    supervisor, bank = consortium.supervisor, consortium["Bank A"]
    assert bank.ok("member", "list")["period_keys"]["in_force"]["version"] == 1
    refused(supervisor.run("member", "period-key"), 5, "permitted from", party=supervisor)
    advance(DAY)
    made = supervisor.ok("member", "period-key")
    listed = bank.ok("member", "list")["period_keys"]
    assert (listed["in_force"]["version"], listed["announced"]["version"]) == (1, made["version"])
    assert listed["announced"]["fingerprint"] == made["fingerprint"]
    assert not listed["announced"]["accepted"]
    doctor = {check["name"]: check for check in bank.run("doctor", "--json").value["checks"]}
    assert doctor["period key"]["state"] == "look"
    assert f"accept-period-key {made['version']}" in doctor["period key"]["remedy"]

    # (1) nobody seals to it before a person at each member has accepted it.
    consortium.turn()
    assert bank.ok("member", "list")["period_keys"]["in_force"]["version"] == 1
    for name, party in consortium.institutions.items():
        accepted = party.ok("member", "accept-period-key", str(made["version"]), "--yes")
        assert accepted["fingerprint"] == made["fingerprint"], name
    consortium.turn()
    consortium.turn()

    listed = bank.ok("member", "list")
    assert listed["period_keys"]["in_force"]["version"] == made["version"]
    assert listed["period_keys"]["in_force"]["accepted"]
    assert listed["period_keys"]["announced"] is None
    assert all(member["serving"] for member in listed["members"] if member["confirmed"])
    refused(bank.run("member", "accept-period-key", "1", "--yes"), 3, "neither in force nor announced")


def test_accept_period_key__without_a_yes__accepts_nothing(
    consortium: Consortium, bank: Party, advance: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    advance(DAY)
    made = consortium.supervisor.ok("member", "period-key")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    done = bank.run("member", "accept-period-key", str(made["version"]))

    refused(done, 3, "add --yes", party=bank)
    assert made["fingerprint"] in done.out
    assert not bank.ok("member", "list")["period_keys"]["announced"]["accepted"]


def test_end_period_key__by_the_service_account_and_by_the_owner__ends_it_at_once(consortium: Consortium) -> None:
    supervisor, bank = consortium.supervisor, consortium["Bank A"]
    keys = bank.ok("member", "list")["period_keys"]
    announced, in_force = str(keys["announced"]["version"]), str(keys["in_force"]["version"])

    supervisor.ok("member", "end-period-key", announced)
    left = bank.ok("member", "list")["period_keys"]
    assert (left["announced"], left["in_force"]["version"]) == (None, int(in_force))
    supervisor.ok("member", "end-period-key", in_force, "--owner-account", "owner-account.json")

    assert bank.ok("member", "list")["period_keys"] == {"in_force": None, "announced": None}
    refused(supervisor.run("member", "end-period-key", in_force), 5, f"{in_force} is no period key")
    refused(bank.run("member", "end-period-key", "1"), 2, "role", "supervisor")
    assert "no period key is in force" in bank.run("member", "list").out


def test_ready__off__holds_over_the_services_round_until_it_is_on(bank: Party) -> None:
    off = bank.ok("ready", "--off")
    bank.ok("answer", "--once")
    held = bank.ok("member", "list")["members"][0]["ready_next"]
    again = bank.ok("ready", "--off")
    on = bank.ok("ready", "--on")

    assert not off["ready"]
    assert off["from"] > 0
    assert not held
    assert (again["ready"], again["block"], again["from"]) == (False, None, None)
    assert on["ready"]
    assert bank.ok("member", "list")["members"][0]["ready_next"]
