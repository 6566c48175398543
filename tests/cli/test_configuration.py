"""What is wrong with a configuration, a ledger or a store: named with its place, and nothing half done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import DOWN, listing, refused
from parties import Consortium, Party

import mpcredit
from mpcredit.chain import Endpoints
from mpcredit.config import client_of, read_config
from mpcredit.errors import InvalidFile
from mpcredit.store import SqliteStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def configured(bank: Party) -> Iterator[Party]:
    """Bank A; its configuration is put back afterwards."""
    text = bank.config.read_text()
    yield bank
    bank.config.write_text(text)


def change(party: Party, old: str, new: str) -> None:
    text = party.config.read_text()
    assert re.search(old, text)
    party.config.write_text(re.sub(old, new, text))


COMMANDS = [
    ("member", "list"),
    ("explain",),
    ("answer", "--once"),
    ("ready", "--on"),
    ("inquire", "--resume", "last"),
]


def test_institution_from_config__is_the_one_that_the_file_describes(bank: Party) -> None:
    institution = mpcredit.Institution.from_config(bank.config, ask=lambda _purpose: bank.passphrase)

    institution.sync()

    assert institution.name == "Bank A"
    institution.desk.store.close()  # type: ignore[attr-defined]


def test_institution_from_config__own_floors__are_those_of_the_file(configured: Party) -> None:
    change(configured, r"\[inquiry\]", "[inquiry]\nminimum_cohort = 5\nminimum_window_days = 9")

    institution = mpcredit.Institution.from_config(configured.config, ask=lambda _purpose: configured.passphrase)

    assert (institution.desk.minimum_cohort, institution.desk.minimum_window) == (5, 9 * 86_400)
    institution.desk.store.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("line", "itself"), [("", True), ("ready = true", True), ("ready = false", False)])
def test_institution_from_config__readiness__is_switched_by_itself_unless_the_file_says_otherwise(
    configured: Party, line: str, itself: bool
) -> None:
    change(configured, r"\[inquiry\]", f"[inquiry]\n{line}")

    institution = mpcredit.Institution.from_config(configured.config, ask=lambda _purpose: configured.passphrase)

    assert institution.membership.ready is itself
    institution.desk.store.close()  # type: ignore[attr-defined]


def test_institution_from_config__of_no_file__is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="there is no such file"):
        mpcredit.Institution.from_config(tmp_path / "bank.toml")


@pytest.mark.parametrize("command", COMMANDS)
def test_endpoint_down__every_command_says_so(configured: Party, command: tuple[str, ...]) -> None:
    change(configured, r'url = "[^"]*"', f'url = "{DOWN}"')

    refused(configured.run(*command), 6, "127.0.0.1:9", "start the node", party=configured)


@pytest.mark.parametrize("command", COMMANDS)
def test_another_chain__every_command_says_so(configured: Party, command: tuple[str, ...]) -> None:
    change(configured, r"chain_id = \d+", "chain_id = 5")

    refused(configured.run(*command), 6, "chain 5", party=configured)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_contract_there__every_command_says_so(configured: Party, command: tuple[str, ...]) -> None:
    change(configured, r'consortium = "[^"]*"', f'consortium = "0x{"12" * 20}"')

    refused(configured.run(*command), 6, "no contract", party=configured)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (r"chain_id = \d+\n", "", ("[ledger] chain_id", "is missing")),
        (r'url = "[^"]*"\n', "", ("[ledger] url", "is missing")),
        (r"\[ledger\]\n(?:[^\[].*\n)*", "", ("[ledger] url", "is missing")),
        (r'consortium = "[^"]*"\n', "", ("[ledger] consortium", "is missing", "deploy")),
        (r'consortium = "[^"]*"', 'consortium = "0x12"', ("[ledger] consortium", "is no address")),
        (r'role = "institution"', 'role = "bank"', ("role", "institution")),
        (r"bits = 2048", "bits = 2000", ("[inquiry] bits", "2048")),
        (r"bits = 2048", "bits = 2050", ("[inquiry] bits", "steps of 256")),
        (r"bits = 2048", "bit = 2048", ("[inquiry] bit", "is unknown")),
        (r'path = "book.csv"', 'path = "no.csv"', ("no.csv", "cannot be read")),
        (r'path = "book.csv"\n', "", ("[book] path", "is missing")),
        (r'founding = "[^"]*"', 'founding = "no.toml"', ("no.toml", "no such file")),
        (r"chain_id = \d+", "chain_id = true", ("[ledger] chain_id", "int")),
        (r"bits = 2048", "ready_seconds = 900", ("[inquiry] ready_seconds", "version 1", "write ready = true")),
        (r"bits = 2048", "ready = 900", ("[inquiry] ready", "true or false")),
        (r"\[ledger\]", "[ledger", ("cannot be read", "TOML")),
        (r"\[book\]", '[policy]\npath = "none.toml"\n[book]', ("none.toml",)),
        (r"chain_id", 'signer = "http://127.0.0.1:1"\nchain_id', ("[ledger] account", "is missing")),
        (
            r"chain_id",
            f'signer = "http://10.0.0.9:1"\naccount = "0x{"12" * 20}"\nchain_id',
            ("[ledger] signer", "plain HTTP"),
        ),
        (r'url = "[^"]*"', 'url = "http://node.bank.example:8545/key"', ("[ledger] url", "plain HTTP", "https")),
        (
            r'url = "[^"]*"',
            'endpoints = ["http://127.0.0.1:1", "http://10.0.0.1:1"]',
            ("[ledger] endpoints", "10.0.0.1"),
        ),
        (r"chain_id", 'ca = "none.pem"\nchain_id', ("[ledger] ca", "cannot be read")),
        (r"chain_id", 'client_key = "book.csv"\nchain_id', ("[ledger] client_key", "stands alone")),
    ],
)
def test_bad_line__is_named_and_nothing_is_written(
    configured: Party, old: str, new: str, words: tuple[str, ...]
) -> None:
    change(configured, old, new)
    before = listing(configured.home)

    refused(configured.run("answer", "--once"), 2, *words, party=configured)

    assert listing(configured.home) == before


def test_no_configuration__is_refused(newcomer: Party) -> None:
    refused(newcomer.run("explain", "--config", "nowhere.toml"), 2, "nowhere.toml", "--config FILE")


@pytest.mark.parametrize("command", [("watch", "--once"), ("member", "suspend", "Bank B"), ("approve", "1", "--yes")])
def test_supervisors_command__of_an_institution__is_refused(bank: Party, command: tuple[str, ...]) -> None:
    refused(bank.run(*command), 2, "role", "supervisor")


@pytest.mark.parametrize("command", [("answer", "--once"), ("inquire", "--resume", "last"), ("vote", "1", "--yes")])
def test_institutions_command__of_the_supervisor__is_refused(consortium: Consortium, command: tuple[str, ...]) -> None:
    refused(consortium.supervisor.run(*command), 2, "role", "institution")


def test_store_of_another_process__a_service_is_refused(bank: Party) -> None:
    with SqliteStore(bank.home / "store.sqlite"):
        refused(bank.run("answer", "--once"), 8, "store.sqlite", "another process", "stop it first")


def test_store_of_a_process_that_takes_nothing__the_task_is_taken_back(
    bank: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcredit.cli._access.HAND_OVER_SECONDS", 0.5)
    with SqliteStore(bank.home / "store.sqlite"):
        refused(bank.run("ready", "--off"), 8, "takes nothing from its inbox", "nothing was done")

    assert not list((bank.home / "store.sqlite.inbox").iterdir())


def test_store_that_others_can_read__is_refused(bank: Party) -> None:
    store = bank.home / "store.sqlite"
    store.chmod(0o644)
    try:
        refused(bank.run("answer", "--once"), 8, "store.sqlite", "chmod 600")
    finally:
        store.chmod(0o600)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (r"TWD,(\d)", r"TWD,-\1", ("outstanding",)),
        (r",TW,([A-Z])", r",TW,9\1", ("number",)),
        (r"# as_of:.*\n", "", ("as_of", "missing")),
    ],
)
def test_bad_loan_book_row__is_named_and_nothing_is_answered(
    bank: Party, old: str, new: str, words: tuple[str, ...]
) -> None:
    book = bank.home / "book.csv"
    text = book.read_text()
    book.write_text(re.sub(old, new, text, count=1))
    try:
        done = bank.run("answer", "--once")
    finally:
        book.write_text(text)

    refused(done, 2, "book.csv", *words, party=bank)


def test_tag_key_of_another_consortium__is_refused_before_anything_is_answered(bank: Party, tmp_path: Path) -> None:
    nowhere = tmp_path / "of-no-consortium.toml"
    ledger = f'[ledger]\nurl = "{bank.url}"\nchain_id = {bank.chain_id}\n'
    nowhere.write_text(f'role = "institution"\n{ledger}[keys]\ndirectory = "{bank.home / "keys"}"\n')
    path = bank.home / "keys" / "tag-1.json"
    content = path.read_bytes()
    path.unlink()
    try:
        refused(bank.run("answer", "--once"), 7, "tag key of version 1 is not at hand", "--import")
        refused(bank.run("keys", "tag", "--new"), 7, "tag key of version 1 is not at hand", "--import")
        bank.ok("keys", "tag", "--new", "--config", str(nowhere))
        refused(bank.run("answer", "--once"), 7, "not the consortium's")
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)


def test_error__with_json__is_a_document_too(newcomer: Party) -> None:
    done = newcomer.run("keys", "show", "--json")

    assert done.value["error"]["kind"] == "KeyStoreError"
    assert done.value["error"]["exit_code"] == done.status == 7
    assert done.value["error"]["remedy"]


def _examples() -> list[str]:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    return re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("example", _examples())
def test_configuration_of_the_documents__is_read(example: str, tmp_path: Path) -> None:
    path = tmp_path / "mpcredit.toml"
    path.write_text(example)

    assert read_config(path).chain_id > 0


def test_every_key_of_the_configuration__is_explained() -> None:
    from mpcredit.config import _KNOWN

    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    for table, names in _KNOWN.items():
        for name in names - (set(_KNOWN) | {"server"}):
            assert f"`{table}.{name}`" in text or f"`{name}`" in text, (table, name)


# --------------------------------------------------------------------- several endpoints


def test_several_endpoints__are_read_in_their_order(configured: Party) -> None:
    change(configured, r'url = "[^"]*"', f'endpoints = ["{DOWN}", "https://b:1"]')

    config = read_config(configured.config)

    assert (config.url, config.endpoints) == (DOWN, (DOWN, "https://b:1"))
    assert isinstance(client_of(config).provider, Endpoints)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("endpoints = []", "is no list of different"),
        ('endpoints = ["http://a:1", "http://a:1"]', "is no list of different"),
        ('endpoints = ["ws://a:1"]', "is no list of different"),
        ("endpoints = [1]", "is no list of different"),
        ('url = "http://a:1"\nendpoints = ["http://b:1"]', "stands beside"),
        ('url = "https://a:1"\ngenesis = "0x12"', "is no block hash"),
        ('url = "https://a:1"\nmax_fee_gwei = -1', "at least 0"),
        ('url = "https://a:1"\nbehind_blocks = 0', "at least 1"),
    ],
)
def test_endpoints_and_fees__that_are_wrong_are_named(configured: Party, new: str, words: str) -> None:
    change(configured, r'url = "[^"]*"', new)

    with pytest.raises(InvalidFile, match=words):
        read_config(configured.config)
