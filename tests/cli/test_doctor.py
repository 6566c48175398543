"""mpcredit doctor: what is wrong is found, with its remedy and exit status 1."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from cli_world import DOWN
from parties import Consortium, Party

from mpcredit.store import SqliteStore


def look(party: Party, *arguments: str, status: int, **changed: str | None) -> dict[str, dict[str, str]]:
    """Run the doctor; checks by name, the last where there are several."""
    done = party.run("doctor", "--json", *arguments, **changed)
    assert done.status == status, done.err
    assert "Traceback" not in done.err
    assert party.passphrase not in done.out + done.err
    return {check["name"]: check for check in done.value["checks"]}


@pytest.fixture
def sick(bank: Party) -> Iterator[Party]:
    """Bank A; configuration and loan book are put back afterwards."""
    kept = {path: path.read_bytes() for path in (bank.config, bank.home / "book.csv", bank.home / "founding.toml")}
    yield bank
    for path, content in kept.items():
        path.write_bytes(content)


def test_healthy__nothing_is_wrong(consortium: Consortium) -> None:
    checks = look(consortium["Bank A"], status=0)
    supervisor = look(consortium.supervisor, status=0)

    assert set(checks) == {
        *(
            "keys",
            "credit policy",
            "ledger",
            "contracts",
            "founding",
            "clock",
            "balance",
            "membership",
            "tenure",
            "registered key",
            "tag keys",
        ),
        *("pins", "period key", "own floors", "releases", "loan book", "store"),
    }
    assert "own floors" not in supervisor
    assert {check["state"] for check in supervisor.values()} == {"ok"}
    assert checks["contracts"]["detail"].startswith("Consortium and JointCredit are byte for byte")


def test_own_floors__below_the_terms__are_said_with_what_to_write(sick: Party) -> None:
    text = sick.config.read_text()
    days = 7  # the consortium's founding.toml

    low = look(sick, status=0)["own floors"]
    assert low["state"] == "look"
    assert f"minimum_window_days is 0, the consortium's {days}" in low["detail"]
    assert f"minimum_window_days = {days}" in low["remedy"]

    sick.config.write_text(text.replace("[inquiry]", f"[inquiry]\nminimum_window_days = {days}\nminimum_cohort = 9"))
    assert look(sick, status=0)["own floors"]["state"] == "ok"
    sick.config.write_text(text.replace("[inquiry]", "[inquiry]\nminimum_window_days = -1"))
    assert "minimum_window_days" in sick.run("doctor", "--json").err


def test_endpoint_down__is_said_once(sick: Party) -> None:
    sick.config.write_text(re.sub(r'url = "[^"]*"', f'url = "{DOWN}"', sick.config.read_text()))

    checks = look(sick, status=1)

    assert checks["ledger"]["state"] == "WRONG"
    assert "start the node" in checks["ledger"]["remedy"]
    assert checks["keys"]["state"] == "ok"


def test_wrong_passphrase__is_found(bank: Party) -> None:
    assert "does not open" in look(bank, status=1, MPCREDIT_PASSPHRASE="wrong")["keys"]["detail"]
    assert look(bank, "--no-passphrase", status=0, MPCREDIT_PASSPHRASE=None)["keys"]["state"] == "skipped"


def test_owner_that_is_not_pinned__is_found(sick: Party) -> None:
    founding = sick.home / "founding.toml"
    owner = re.findall(r'owner = "(0x[0-9a-fA-F]{40})"', founding.read_text())[3]
    founding.write_text(founding.read_text().replace(owner, "0x" + "77" * 20))

    pins = look(sick, status=1)["pins"]

    assert pins["state"] == "WRONG"
    assert owner in pins["detail"]
    assert "member pin" in pins["remedy"]


def test_old_loan_book_and_bad_loan_book__are_found(sick: Party) -> None:
    book = sick.home / "book.csv"
    text = book.read_text()
    book.write_text(re.sub(r"as_of: .*", "as_of: 2020-01-01", text))
    old = look(sick, status=1)["loan book"]
    book.write_text(text.replace(",TWD,", ",XXX,", 1))
    bad = look(sick, status=1)["loan book"]

    assert "are permitted" in old["detail"]
    assert "row" in bad["detail"]


def test_store_behind_the_ledger__is_found(bank: Party, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = bank.home / "store.sqlite"
    kept = store.rename(store.with_name("kept.sqlite"))
    SqliteStore(store).close()
    try:
        checks = look(bank, status=1)
    finally:
        store.unlink()
        kept.rename(store)

    assert "older than the ledger" in checks["store"]["detail"]
    assert "R25" in checks["store"]["remedy"]


def test_other_code_on_the_ledger__is_found(bank: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["mpcredit.cli.doctor"], "_code_of", lambda name: b"\x60" * 100)

    contracts = look(bank, status=1)["contracts"]

    assert contracts["state"] == "WRONG"
    assert "Consortium at" in contracts["detail"]


def test_lost_institution_key__is_found(bank: Party) -> None:
    path = bank.home / "keys" / "institution-1.json"
    kept = path.rename(bank.home / "institution-1.kept")
    try:
        checks = look(bank, status=1)
    finally:
        kept.rename(path)

    assert "institution key is missing" in checks["keys"]["detail"]
    assert "is not here" in checks["registered key"]["detail"]


def test_readiness_off__is_something_to_look_at(bank: Party) -> None:
    bank.ok("ready", "--off")
    checks = look(bank, status=0)
    bank.ok("ready", "--on")

    assert checks["membership"]["state"] == "look"
    assert "ready --on" in checks["membership"]["remedy"]
    assert look(bank, status=0)["membership"]["state"] == "ok"


def test_store_that_the_owner_has_not_named__is_found(bank: Party) -> None:
    with SqliteStore(bank.home / "store.sqlite") as store:
        named = store.get("meta", "tenure")
        assert named is not None
        store.put("meta", "tenure", {"tenure": "0x" + "77" * 32})
    try:
        tenure = look(bank, status=1)["tenure"]
    finally:
        with SqliteStore(bank.home / "store.sqlite") as store:
            store.put("meta", "tenure", named)

    assert tenure["state"] == "WRONG"
    assert "0x777777777777" in tenure["detail"]
    assert named["tenure"][:14] in tenure["detail"]
    assert "member appoint" in tenure["remedy"]


def test_period_key_of_a_supervisor_that_the_founding_file_does_not_name__is_found(sick: Party) -> None:
    founding = sick.home / "founding.toml"
    (owner,) = re.findall(r'supervisors = \["(0x[0-9a-fA-F]{40})"\]', founding.read_text())
    founding.write_text(founding.read_text().replace(owner, "0x" + "77" * 20))

    checks = look(sick, status=1)

    assert checks["period key"]["state"] == "WRONG"
    assert f"member pin supervisor {owner}" in checks["period key"]["remedy"]
    assert f"the supervisor ({owner})" in checks["pins"]["detail"]


def test_ledger_account_that_nobody_named__is_found(consortium: Consortium) -> None:
    for party, name in ((consortium["Bank B"], "membership"), (consortium.supervisor, "supervisor")):
        text = party.config.read_text()
        stranger = '\nsigner = "http://127.0.0.1:9"\naccount = "0x' + "12" * 20 + '"'
        party.config.write_text(text.replace("[ledger]", "[ledger]" + stranger))
        try:
            found = look(party, status=1)[name]
        finally:
            party.config.write_text(text)

        assert found["state"] == "WRONG"
        assert "0x" + "12" * 20 in found["detail"].lower()
        assert "member appoint" in found["remedy"]
