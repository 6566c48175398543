"""mpcredit keys: new, show, owner, rotate, tag, destroy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_world import listing, refused
from parties import Consortium, Party


def test_new__makes_account_and_key__and_show_prints_no_private_key(newcomer: Party) -> None:
    made = newcomer.ok("keys", "new")
    shown = newcomer.ok("keys", "show", "--check")

    assert made["made"] == ["ledger account", "institution key 1"]
    assert shown["ledger_account"] == made["ledger_account"]
    assert shown["institution_keys"][0]["version"] == 1
    assert {path.name for path in (newcomer.home / "keys").iterdir()} == {
        "keystore.json",
        "ledger-account.json",
        "institution-1.json",
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in (newcomer.home / "keys").iterdir())


def test_new__twice__is_refused_and_changes_nothing(newcomer: Party) -> None:
    newcomer.ok("keys", "new")
    before = {path: path.read_bytes() for path in (newcomer.home / "keys").iterdir()}

    refused(newcomer.run("keys", "new"), 7, "there already", "keys rotate", party=newcomer)

    assert {path: path.read_bytes() for path in (newcomer.home / "keys").iterdir()} == before


def test_new__cut_off_after_the_account__is_completed(newcomer: Party) -> None:
    first = newcomer.ok("keys", "new")
    (newcomer.home / "keys" / "institution-1.json").unlink()

    second = newcomer.ok("keys", "new")

    assert second["made"] == ["institution key 1"]
    assert second["ledger_account"] == first["ledger_account"]


def test_new__without_a_passphrase_and_a_terminal__writes_nothing(
    newcomer: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    refused(newcomer.run("keys", "new", MPCREDIT_PASSPHRASE=None), 7, "passphrase", "MPCREDIT_PASSPHRASE_FILE")

    assert not list((newcomer.home / "keys").glob("*.json"))


def test_show__before_new__is_refused(newcomer: Party) -> None:
    refused(newcomer.run("keys", "show"), 7, "there are no keys", "keys new")


def test_show__with_a_wrong_passphrase__is_refused(newcomer: Party) -> None:
    newcomer.ok("keys", "new")

    done = newcomer.run("keys", "show", "--check", MPCREDIT_PASSPHRASE="wrong-one")

    refused(done, 7, "does not open this keystore", party=newcomer)
    assert "wrong-one" not in done.out + done.err


@pytest.mark.parametrize(("version", "remedy"), [(1, "new keys"), (3, "upgrade")])
def test_show__key_file_of_another_version__is_refused(newcomer: Party, version: int, remedy: str) -> None:
    newcomer.ok("keys", "new")
    path = newcomer.home / "keys" / "institution-1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": version}))

    refused(newcomer.run("keys", "show"), 7, "institution-1.json", f"version {version}", remedy)


def test_show__key_file_that_others_can_read__is_refused(newcomer: Party) -> None:
    newcomer.ok("keys", "new")
    (newcomer.home / "keys" / "institution-1.json").chmod(0o644)

    refused(newcomer.run("keys", "show"), 7, "institution-1.json", "chmod 600")


def test_owner__is_an_ethereum_keystore_of_its_own__and_is_not_overwritten(newcomer: Party) -> None:
    made = newcomer.ok("keys", "owner")
    path = newcomer.home / "owner-account.json"

    value = json.loads(path.read_text())
    assert value["version"] == 3
    assert value["address"].lower().removeprefix("0x") == made["owner"].lower().removeprefix("0x")
    assert path.stat().st_mode & 0o077 == 0
    refused(newcomer.run("keys", "owner"), 2, "owner-account.json", "never overwritten")
    assert json.loads(path.read_text()) == value


def test_owner__of_the_supervisor__is_made_in_the_same_way(newcomer: Party) -> None:
    newcomer.config.write_text(newcomer.config.read_text().replace('"institution"', '"supervisor"'))

    made = newcomer.ok("keys", "owner")

    assert made["owner"] != newcomer.ok("keys", "new")["ledger_account"]
    assert (newcomer.home / "owner-account.json").exists()


def test_tag__exported_and_imported__is_the_same_key_and_none_is_made_over_it(newcomer: Party, tmp_path: Path) -> None:
    newcomer.ok("keys", "new")
    made = newcomer.ok("keys", "tag", "--new")
    refused(newcomer.run("keys", "tag", "--new"), 7, "here already")
    newcomer.ok("keys", "tag", "--export", "for-b.json")
    other = Party("Other", "institution", tmp_path / "other", newcomer.runner, newcomer.url, newcomer.chain_id)
    other.home.mkdir(mode=0o700)
    other.write_config()
    other.ok("keys", "new")

    kept = other.ok("keys", "tag", "--import", str(newcomer.home / "for-b.json"))

    assert (kept["version"], kept["commitment"]) == (1, made["commitment"])
    assert "key" not in json.dumps(kept).replace("tag_key", "")


@pytest.mark.parametrize("arguments", [(), ("--new", "--export", "x.json"), ("--export", "x.json")])
def test_tag__without_one_clear_task_or_a_key__is_refused(newcomer: Party, arguments: tuple[str, ...]) -> None:
    newcomer.ok("keys", "new")

    done = newcomer.run("keys", "tag", *arguments)

    assert done.status in (3, 7)
    refused(done, done.status, "--new")
    assert not (newcomer.home / "x.json").exists()


def test_tag__import_with_a_wrong_passphrase__keeps_nothing(newcomer: Party) -> None:
    newcomer.ok("keys", "new")
    newcomer.ok("keys", "tag", "--new")
    newcomer.ok("keys", "tag", "--export", "out.json")
    (newcomer.home / "keys" / "tag-1.json").unlink()
    before = listing(newcomer.home)

    done = newcomer.run("keys", "tag", "--import", "out.json", MPCREDIT_EXPORT_PASSPHRASE="another")

    refused(done, 7, "out.json", "passphrase", party=newcomer)
    assert listing(newcomer.home) == before


def test_rotate__registers_the_next_key__and_the_old_one_serves_until_its_audit(consortium: Consortium) -> None:
    bank = consortium["Bank B"]
    before = bank.ok("member", "list")["members"][1]

    made = bank.ok("keys", "rotate")
    during = bank.ok("member", "list")["members"][1]
    refused(bank.run("keys", "destroy", "institution", "1", "--yes"), 7, "it is a key in force")
    consortium.turn()
    consortium.turn()
    after = bank.ok("member", "list")["members"][1]

    assert made["version"] == before["key_version"] + 1
    assert (during["serving"], during["serving_version"], during["audited"]) == (True, 1, False)
    assert (after["serving"], after["serving_version"], after["audited"]) == (True, 2, True)
    assert after["fingerprint"] == made["fingerprint"]
    assert {key["version"] for key in bank.ok("keys", "show")["institution_keys"]} == {1, 2}


def test_rotate__of_a_compromised_key__leaves_the_cohorts_at_once(consortium: Consortium) -> None:
    bank = consortium["Bank D"]

    made = bank.ok("keys", "rotate", "--compromised")
    during = bank.ok("member", "list")["members"][3]
    consortium.turn()
    consortium.turn()

    assert made["compromised"]
    assert (during["serving"], during["serving_version"]) == (False, 0)
    assert bank.ok("member", "list")["members"][3]["serving_version"] == 2


def test_rotate__twice_in_a_day__is_refused(consortium: Consortium) -> None:
    bank = consortium["Bank B"]

    refused(bank.run("keys", "rotate"), 5, "permitted from", party=bank)
    assert bank.ok("member", "list")["members"][1]["key_version"] == 2


def test_rotate__with_a_wrong_owner_passphrase__sends_nothing(consortium: Consortium) -> None:
    bank = consortium["Bank A"]

    done = bank.run("keys", "rotate", MPCREDIT_OWNER_PASSPHRASE="no")

    refused(done, 7, "owner-account.json", "does not open", party=bank)
    assert bank.ok("member", "list")["members"][0]["key_version"] == 1
    assert {key["version"] for key in bank.ok("keys", "show")["institution_keys"]} == {1}


def test_rotate__by_the_account_of_another__is_refused(consortium: Consortium) -> None:
    stranger = consortium["Bank A"].home / "stranger.json"
    consortium["Bank A"].ok("keys", "owner", "--out", "stranger.json")

    done = consortium["Bank A"].run("keys", "rotate", "--owner-account", str(stranger))

    refused(done, 3, "owns no member")


def test_destroy__a_key_in_force__is_refused_and_an_old_one_goes(consortium: Consortium) -> None:
    bank = consortium["Bank B"]
    refused(bank.run("keys", "destroy", "institution", "2", "--yes"), 7, "it is a key in force")
    refused(bank.run("keys", "destroy", "tag", "1", "--yes"), 7, "all versions")
    refused(bank.run("keys", "destroy", "passport", "1", "--yes"), 3, "no keys of kind")
    asked = bank.ok("keys", "destroy", "institution", "1")
    done = bank.ok("keys", "destroy", "institution", "1", "--yes")

    assert not asked["destroyed"]
    assert done["destroyed"]
    assert not (bank.home / "keys" / "institution-1.json").exists()


def test_tag__next_one_made_in_vain__is_passed_on_with_all_before_it_and_may_be_destroyed(
    consortium: Consortium, tmp_path: Path
) -> None:
    bank, file = consortium["Bank B"], str(tmp_path / "tags.json")
    first = {key["version"]: key["commitment"] for key in bank.ok("keys", "show")["tag_keys"]}
    made = bank.ok("keys", "tag", "--new")
    bank.ok("keys", "tag", "--export", file)
    other = Party("Other", "institution", tmp_path / "other", bank.runner, bank.url, bank.chain_id)
    other.home.mkdir(mode=0o700)
    other.write_config()
    other.ok("keys", "new")
    other.ok("keys", "tag", "--import", file)

    shown = {key["version"]: key["commitment"] for key in other.ok("keys", "show", "--check")["tag_keys"]}
    assert shown == {**first, 2: made["commitment"]}
    assert set(first) == {1}
    assert bank.ok("keys", "destroy", "tag", "2", "--yes")["destroyed"]
    assert not (bank.home / "keys" / "tag-2.json").exists()


def test_tag__handed_to_the_supervisor__is_kept_and_can_be_given_up(consortium: Consortium) -> None:
    bank, supervisor = consortium["Bank A"], consortium.supervisor
    exported = bank.ok("keys", "tag", "--export", "for-the-supervisor.json")

    kept = supervisor.ok("keys", "tag", "--import", str(bank.home / "for-the-supervisor.json"))

    assert kept["commitment"] == exported["commitment"]
    refused(supervisor.run("keys", "tag", "--new"), 2, "role")
    refused(supervisor.run("keys", "tag", "--export", "x.json"), 2, "role")
    assert supervisor.ok("keys", "destroy", "tag", "1", "--yes")["destroyed"]  # it needs none in force, a member does
