"""member confirm, pin, accept-period-key and doctor compare the Consortium's creation with the founding file (R37)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli_world import refused
from parties import Consortium, Party
from test_doctor import look
from web3 import Web3
from web3.exceptions import BlockNotFound

from mpcredit.chain import tester

COMMANDS = (
    ("member", "confirm", "--yes"),
    ("member", "pin", "Bank B", tester.deterministic_account(611).address),
    ("member", "accept-period-key", "1", "--yes"),
)
NOTHING = "does not show block"


@pytest.fixture
def file(bank: Party) -> Iterator[Callable[[str, str], None]]:
    """Bank A has another founding file."""
    path = bank.home / "founding.toml"
    kept = path.read_text(encoding="utf-8")

    def change(old: str, new: str) -> None:
        text, count = re.subn(old, new, kept)
        assert count == 1
        path.write_text(text, encoding="utf-8")

    yield change
    path.write_text(kept, encoding="utf-8")


@pytest.fixture
def pruned(chain: Web3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node shows blocks, and none of them with its transactions."""
    shown = chain.eth.get_block

    def get_block(place: Any, full_transactions: bool = False) -> Any:
        if full_transactions:
            raise BlockNotFound(f"block {place} is pruned")
        return shown(place)

    monkeypatch.setattr(chain.eth, "get_block", get_block)


def test_doctor__created_as_the_file_says__is_ok(consortium: Consortium, bank: Party) -> None:
    for party in (bank, consortium.supervisor):
        found = look(party, status=0)["founding"]

        assert found["state"] == "ok"
        assert f"created in block {consortium.deployed['first_block']} by one transaction" in found["detail"]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("period_seconds = 1", "period_seconds = 2", "periodSeconds"),
        ("window_seconds = 604800", "window_seconds = 604801", "parameters"),
        ('name = "Bank D"', 'name = "Bank Z"', "founders"),
        (r'supervisors = \["0x[0-9a-fA-F]{40}"\]', f'supervisors = ["0x{"77" * 20}"]', "supervisors"),
        (r"\[parameters\]", f'joint_credit_init_code_hash = "0x{"ab" * 32}"\n[parameters]', "jointCreditInitCodeHash"),
    ],
)
def test_another_founding_file__is_refused_and_the_difference_named(
    bank: Party, file: Callable[[str, str], None], old: str, new: str, named: str
) -> None:
    file(old, new)

    for command in COMMANDS:
        refused(bank.run(*command), 6, "was not founded with this founding file", named, "SHA-256", party=bank)
    found = look(bank, status=1)["founding"]
    assert found["state"] == "WRONG"
    assert f"these differ: {named}" in found["detail"]


def test_pruned_block__is_said_and_nothing_is_accepted(consortium: Consortium, bank: Party, pruned: None) -> None:
    for command in COMMANDS:
        refused(bank.run(*command), 6, NOTHING, "endpoint that keeps the transactions of all blocks", party=bank)
    found = look(bank, status=0)["founding"]
    assert found["state"] == "look"
    assert found["detail"].startswith("not compared: ")
    assert NOTHING in found["detail"]


def test_without_the_founding_file__doctor_says_what_cannot_be_told(bank: Party) -> None:
    text = bank.config.read_text()
    bank.config.write_text(text.replace('founding = "founding.toml"\n', ""))
    try:
        found = look(bank, status=1)["founding"]
    finally:
        bank.config.write_text(text)

    assert found["state"] == "look"
    assert "get the founding file from a member" in found["remedy"]


def test_export_of_tag_keys__names_the_founding_file_that_a_newcomer_needs(bank: Party) -> None:
    done = bank.run("keys", "tag", "--export", "for-a-newcomer.json")

    assert done.status == 0, done.err
    assert re.search(r"newcomer needs the founding file.*founding\.toml, SHA-256\s+[0-9a-f]{64}", done.out, re.DOTALL)
