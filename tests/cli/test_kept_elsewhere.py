"""Keys that are not in key files: in a token (SoftHSM) and in an external signer, through the command line.

One consortium on a real EVM: Bank B and the supervisor have their X25519 keys in tokens, Microfinance C its ledger account
in a signer that is a process of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_world import DEPLOYER, URL, listing, refused
from eth_account import Account
from parties import Consortium, Done, Party, found, here, process
from signer_process import Signer
from softhsm import SoftHsm, Token, why_missing
from web3 import Web3

import mpcredit
from mpcredit.chain import tester
from mpcredit.config import read_config
from mpcredit.identity import Subject
from mpcredit.store import SqliteStore

ROOT = Path(__file__).resolve().parents[2]
SIGNS = "Microfinance C"


def give(party: Party, token: Token) -> None:
    """Let a party make its keys in a token from now on."""
    party.extra = token.table
    party.variables = {**token.variables, "PYTHONPATH": str(Path(mpcredit.__file__).parents[1])}


@pytest.fixture(scope="module")
def tokens(request: pytest.FixtureRequest) -> dict[str, Token]:
    """By party; none where there is no SoftHSM, so that the signer is tested there as well."""
    if why_missing():
        return {}
    softhsm: SoftHsm = request.getfixturevalue("softhsm")
    return {name: softhsm.token(f"{name} {time.time_ns()}"[:32]) for name in ("Bank B", "Supervisor")}


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(Account.create(), tmp_path_factory.mktemp("signer") / "signed.txt")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def consortium(
    chain: Web3, tmp_path_factory: pytest.TempPathFactory, tokens: dict[str, Token], external: Signer
) -> Consortium:
    def prepare(party: Party) -> None:
        if party.name in tokens:
            give(party, tokens[party.name])
        if party.name == SIGNS:
            party.ledger = {"signer": external.url, "account": external.account.address}

    now = int(chain.eth.get_block("latest")["timestamp"])
    made = found(
        tmp_path_factory.mktemp("elsewhere"),
        runner=here,
        url=URL,
        chain_id=chain.eth.chain_id,
        fund=lambda address: tester.fund(chain, address),
        now=max(now, int(time.time())) - 60,
        deployer_key=DEPLOYER.key.hex(),
        prepare=prepare,
    )
    made.turn()
    made.turn()
    assert all(member["ready"] for member in made["Bank A"].ok("member", "list")["members"])
    return made


def asked(consortium: Consortium, name: str, subject: str) -> dict[str, object]:
    """An inquiry from the request to the verdict, each service taking its turn."""
    bank = consortium[name]
    request = bank.ok("inquire", "-s", subject, "--grant-days", "30", "--officer", "li.wei", "--no-wait")["request"]
    bank.ok("answer", "--once")
    consortium.turn(but=[name], supervisor=False)
    bank.ok("answer", "--once")
    consortium.supervisor.ok("watch", "--once")
    result: dict[str, object] = bank.ok("inquire", "--resume", str(request), "--timeout", "5")
    return result


def clear(consortium: Consortium, subject: str) -> dict[str, int]:
    kind, country, number = subject.split(":")
    return consortium.clear_sums(Subject(kind, number, country=country))


def no_pin(done: Done, *tokens: Token) -> None:
    for token in tokens:
        assert token.pin not in done.out + done.err


# --- a token


def test_new__makes_the_key_in_the_token__in_a_process_with_the_pin_in_a_file(
    softhsm: SoftHsm, newcomer: Party, tmp_path: Path
) -> None:
    token = softhsm.token()
    give(newcomer, token)
    newcomer.runner = process
    newcomer.write_config()
    secret = tmp_path / "pin"
    secret.write_text(token.pin + "\n")
    newcomer.variables["MPCREDIT_TOKEN_PIN_FILE"] = str(secret)
    del newcomer.variables["MPCREDIT_TOKEN_PIN"]

    made = newcomer.ok("keys", "new")
    shown = newcomer.ok("keys", "show", "--check")
    people = newcomer.run("keys", "show")

    assert made["made"] == ["ledger account", "institution key 1"]
    assert made["token"] == f"token '{token.label}'"
    (key,) = shown["institution_keys"]
    assert key["in"] == "token"
    assert {path.name for path in (newcomer.home / "keys").iterdir()} == {"keystore.json", "ledger-account.json"}
    assert "the token" in people.out
    no_pin(people, token)
    refused(newcomer.run("keys", "new"), 7, "there already", party=newcomer)


def test_new__without_a_pin_with_a_wrong_one_or_without_the_token__makes_nothing(
    softhsm: SoftHsm, newcomer: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    token = softhsm.token()
    give(newcomer, token)
    newcomer.write_config()
    newcomer.ok("keys", "owner")  # something that needs no token
    before = listing(newcomer.home)

    none = newcomer.run("keys", "new", MPCREDIT_TOKEN_PIN=None)
    wrong = newcomer.run("keys", "new", MPCREDIT_TOKEN_PIN="wrong~71~pin")
    newcomer.config.write_text(newcomer.config.read_text().replace(token.label, "elsewhere"))
    away = newcomer.run("keys", "new")

    refused(none, 7, "a PIN is needed to open the token", "MPCREDIT_TOKEN_PIN_FILE", party=newcomer)
    refused(wrong, 7, "the PIN is wrong", party=newcomer)
    assert "wrong~71~pin" not in wrong.out + wrong.err
    refused(away, 10, "'elsewhere' is not there", token.label, "[keys.pkcs11] token", party=newcomer)
    after = {name: size for name, size in listing(newcomer.home).items() if not name.startswith(("keys/", "mpcredit."))}
    assert after == {name: size for name, size in before.items() if not name.startswith("mpcredit.")}
    assert token.keys().versions("institution") == {}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('module = "/x.so"', ["[keys.pkcs11] token", "is missing"]),
        ('token = "x"', ["[keys.pkcs11] module", "is missing"]),
        ('module = "/x.so"\ntoken = "x"\npin = "1234"', ["pin", "does not belong here", "MPCREDIT_TOKEN_PIN_FILE"]),
        ('module = "/x.so"\ntoken = "x"\nslot = "1"', ["slot", "is unknown", "serial"]),
        ('module = "/x.so"\ntoken = 7', ["token", "must be a str"]),
        ('module = "/x.so"\ntoken = "x"\nprefix = "Ü"', ["prefix"]),
    ],
)
def test_configuration__wrong_table__is_refused_with_its_line(newcomer: Party, lines: str, words: list[str]) -> None:
    newcomer.extra = f"[keys.pkcs11]\n{lines}\n"
    newcomer.write_config()

    refused(newcomer.run("keys", "show"), 2, *words)


@pytest.mark.parametrize("name", ["bank", "supervisor"])
def test_configuration__example_that_ships__is_read_with_its_token(name: str, tmp_path: Path) -> None:
    text = (ROOT / "deploy" / f"{name}.toml").read_text(encoding="utf-8")
    assert read_config(ROOT / "deploy" / f"{name}.toml").token is None
    text = re.sub(r"^# ( *\w+ = |\[keys\.pkcs11\])", r"\1", text.split("\n[server]\n")[0], flags=re.MULTILINE)
    (tmp_path / "here.toml").write_text(text)

    token = read_config(tmp_path / "here.toml").token

    assert token is not None
    assert (token.module, token.prefix) == (Path("/usr/lib/softhsm/libsofthsm2.so"), "mpcredit")


def test_configuration__example_of_the_document__is_read_with_all_its_lines(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "keys.md").read_text(encoding="utf-8"), re.DOTALL)
    head = 'role = "institution"\n[ledger]\nurl = "http://127.0.0.1:8545"\nchain_id = 1\n'
    (tmp_path / "here.toml").write_text(head + example.replace("# serial", "serial").replace("# prefix", "prefix"))

    token = read_config(tmp_path / "here.toml").token

    assert str(token) == "token 'bank-a' (4c433513d0a63f88)"


def test_configuration__library_that_is_not_there__is_said(newcomer: Party) -> None:
    pytest.importorskip("PyKCS11")
    newcomer.extra = '[keys.pkcs11]\nmodule = "/nowhere/lib.so"\ntoken = "x"\n'
    newcomer.write_config()

    refused(newcomer.run("keys", "new"), 7, "/nowhere/lib.so", "[keys.pkcs11] module")


@pytest.mark.usefixtures("softhsm")
def test_inquiry__with_a_furnisher_and_the_supervisor_on_tokens__equals_the_plain_sums(
    consortium: Consortium, subjects: Iterator[str], tokens: dict[str, Token]
) -> None:
    subject = next(subjects)

    result = asked(consortium, "Bank A", subject)

    assert result["attested"]
    assert result["subjects"][0]["totals"] == clear(consortium, subject)  # type: ignore[index]
    for name, kind in (("Bank B", "institution"), ("Supervisor", "supervisor")):
        party = consortium.supervisor if name == "Supervisor" else consortium[name]
        assert not list((party.home / "keys").glob(f"{kind}-*"))
        assert list(tokens[name].keys().versions(kind)) == [1]


def doctor(party: Party, *arguments: str, status: int, **changed: str | None) -> dict[str, dict[str, str]]:
    done = party.run("doctor", "--json", *arguments, **changed)
    assert done.status == status, done.err
    return {check["name"]: check for check in json.loads(done.out)["checks"]}


@pytest.mark.usefixtures("softhsm")
def test_doctor__looks_at_the_token(consortium: Consortium, tokens: dict[str, Token], tmp_path: Path) -> None:
    bank, token = consortium["Bank B"], tokens["Bank B"]

    well = doctor(bank, status=0)["token"]
    skipped = doctor(bank, "--no-passphrase", status=0, MPCREDIT_TOKEN_PIN=None)["token"]
    wrong = doctor(bank, status=1, MPCREDIT_TOKEN_PIN="wrong~71~pin")
    place = token.home.place_of(token.label)
    shutil.move(place, tmp_path / "pulled out")
    token.home.restart()
    away = doctor(bank, status=1)
    shutil.move(tmp_path / "pulled out", place)

    assert well["state"] == "ok"
    assert "SoftHSM" in well["detail"]
    assert "cannot leave it" in well["detail"]
    assert skipped["state"] == "skipped"
    assert (wrong["token"]["state"], wrong["ledger"]["state"]) == ("WRONG", "ok")
    assert "PIN is wrong" in wrong["token"]["detail"]
    assert "is not there" in away["token"]["detail"]
    assert "plug it in" in away["token"]["remedy"]
    assert doctor(bank, status=0)["token"]["state"] == "ok"


@pytest.mark.usefixtures("softhsm")
def test_answer__while_the_token_is_away__answers_nothing_and_does_it_afterwards(
    consortium: Consortium, subjects: Iterator[str], tokens: dict[str, Token], tmp_path: Path
) -> None:
    bank, token, subject = consortium["Bank B"], tokens["Bank B"], next(subjects)
    asker = consortium["Bank A"]
    request = asker.ok("inquire", "-s", subject, "--grant-days", "30", "--officer", "li.wei", "--no-wait")["request"]
    asker.ok("answer", "--once")
    place = token.home.place_of(token.label)
    shutil.move(place, tmp_path / "pulled out")
    token.home.restart()

    refused(bank.run("answer", "--once"), 10, "is not there", party=bank)

    shutil.move(tmp_path / "pulled out", place)
    consortium.turn(but=["Bank A"], supervisor=False)
    asker.ok("answer", "--once")
    consortium.supervisor.ok("watch", "--once")
    result = asker.ok("inquire", "--resume", request, "--timeout", "5")
    assert result["subjects"][0]["totals"] == clear(consortium, subject)


# --- an external signer


def test_signer__signs_all_that_its_bank_sends__and_no_key_of_the_account_is_here(
    consortium: Consortium, chain: Web3, external: Signer, subjects: Iterator[str]
) -> None:
    bank, subject = consortium[SIGNS], next(subjects)
    assert asked(consortium, SIGNS, subject)["subjects"][0]["totals"] == clear(consortium, subject)  # type: ignore[index]

    sent = chain.eth.get_transaction_count(external.account.address)

    assert sent >= 4  # sealed mask keys, readiness, the opening, the report
    assert len(external.signed) == sent
    for hash_ in external.signed:
        assert chain.eth.get_transaction(hash_)["from"] == external.account.address
    assert not (bank.home / "keys" / "ledger-account.json").exists()
    assert bank.ok("keys", "show", "--check")["ledger_account"] == external.account.address
    assert "signer" not in {check["name"] for check in bank.ok("doctor")["checks"] if check["state"] == "WRONG"}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("down", ["the external signer of", "cannot be reached", "[ledger] signer"]),
        ("another account", ["the external signer of", "no key for this account", "holds that account"]),
        ("blind", ["signed something else than it was asked to", "which key it holds"]),
    ],
)
def test_signer__down_or_with_another_key__sends_nothing_and_works_when_it_is_back(
    consortium: Consortium, chain: Web3, external: Signer, how: str, words: list[str]
) -> None:
    bank = consortium[SIGNS]
    change = "--off" if bank.ok("member", "list")["members"][2]["ready_next"] else "--on"
    before = chain.eth.get_transaction_count(external.account.address)
    external.stop()
    if how != "down":
        external.start(Account.create(), blind=how == "blind")
    try:
        done = bank.run("ready", change)
    finally:
        if how != "down":
            external.stop()
        external.start()

    refused(done, 6, *words, party=bank)
    assert chain.eth.get_transaction_count(external.account.address) == before
    store = SqliteStore(bank.home / "store.sqlite")
    assert store.outbox_pending() == []
    store.close()
    bank.ok("ready", change)
    assert chain.eth.get_transaction_count(external.account.address) == before + 1


# --- last, since it lets days pass on the ledger


@pytest.mark.usefixtures("softhsm")
def test_rotated_keys__are_made_in_the_token__and_the_old_ones_are_destroyed_there(
    consortium: Consortium, subjects: Iterator[str], tokens: dict[str, Token], advance: Callable[[int], None]
) -> None:
    bank, supervisor = consortium["Bank B"], consortium.supervisor
    advance(86_400)
    bank.ok("keys", "rotate")
    version = supervisor.ok("member", "period-key")["version"]
    for party in consortium.institutions.values():
        party.ok("member", "accept-period-key", str(version), "--yes")
    for _ in range(3):
        consortium.turn()
    subject = next(subjects)

    result = asked(consortium, "Bank B", subject)

    assert result["attested"]
    assert result["subjects"][0]["totals"] == clear(consortium, subject)  # type: ignore[index]
    assert list(tokens["Bank B"].keys().versions("institution")) == [1, 2]
    refused(bank.run("keys", "destroy", "institution", "2", "--yes"), 7, "it is a key in force")
    assert bank.ok("keys", "destroy", "institution", "1", "--yes")["destroyed"]
    assert supervisor.ok("keys", "destroy", "supervisor", "1", "--yes")["destroyed"]
    assert list(tokens["Bank B"].keys().versions("institution")) == [2]
    assert list(tokens["Supervisor"].keys().versions("supervisor")) == [2]
    assert {key["version"] for key in bank.ok("keys", "show")["institution_keys"]} == {2}
