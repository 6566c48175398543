"""mpcredit deploy; the accepted way is the founding of every other test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cli_world import DEPLOYER, DOWN, POOR, URL, refused
from parties import Consortium, Party, founding_text
from web3 import Web3

from mpcredit.chain import tester


@pytest.fixture
def founding(newcomer: Party) -> str:
    owners = {name: tester.deterministic_account(i).address for i, name in enumerate(("A", "B", "C"), start=200)}
    text = founding_text(owners, tester.deterministic_account(500).address, "0x" + 32 * "5d")
    (newcomer.home / "founding.toml").write_text(text)
    return text


def deploy(party: Party, *more: str, key: str = DEPLOYER.key.hex()) -> object:
    return party.run("deploy", "founding.toml", "--account-key-env", "PAYER", *more, environment={"PAYER": key})


def test_deploy__prints_addresses_and_what_each_party_does_next(newcomer: Party, founding: str) -> None:
    done = deploy(newcomer)

    assert done.status == 0, done.err
    assert "Consortium" in done.out
    assert "first_block = " in done.out
    assert "mpcredit member confirm" in done.out
    assert DEPLOYER.key.hex().removeprefix("0x") not in done.out + done.err


def test_deploy__from_a_json_keystore(newcomer: Party, founding: str, fund: Callable[[str], None]) -> None:
    made = newcomer.ok("keys", "owner", "--out", "payer.json")
    fund(made["owner"])

    done = newcomer.run(
        *("deploy", "founding.toml", "--account", "payer.json", "--json"),
        environment={"MPCREDIT_ACCOUNT_PASSPHRASE": newcomer.owner_passphrase},
    )

    assert done.status == 0, done.err
    assert done.value["consortium"].startswith("0x")


def test_deploy__with_a_bad_line__names_it_and_sends_nothing(newcomer: Party, founding: str, chain: Web3) -> None:
    (newcomer.home / "founding.toml").write_text(founding.replace("minimum_cohort = 3", "minimum_cohort = 2"))
    before = chain.eth.block_number

    refused(deploy(newcomer), 2, "founding.toml", "minimum_cohort")

    assert chain.eth.block_number == before


def test_deploy__with_a_line_of_version_1__names_it_and_what_to_do(newcomer: Party, founding: str) -> None:
    old = founding.replace('name = "B"', 'name = "B"\noperator = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"')
    (newcomer.home / "founding.toml").write_text(old)

    refused(deploy(newcomer), 2, "founding.toml, [[founder]] 2", "as version 1 did", "mpcredit member confirm")


def test_deploy__without_a_founding_file__is_refused(newcomer: Party) -> None:
    refused(deploy(newcomer), 2, "founding.toml", "no such file")


def test_deploy__account_without_funds__sends_nothing(newcomer: Party, founding: str, chain: Web3) -> None:
    before = chain.eth.block_number

    refused(deploy(newcomer, key=POOR.key.hex()), 6, POOR.address, "no funds")

    assert chain.eth.block_number == before


def test_deploy__no_account_or_two__is_refused(newcomer: Party, founding: str) -> None:
    refused(newcomer.run("deploy", "founding.toml"), 3, "no account")
    refused(deploy(newcomer, "--account", "x.json"), 3, "no account")


def test_deploy__key_that_is_none__is_not_repeated(newcomer: Party, founding: str) -> None:
    done = deploy(newcomer, key="0xsecret-that-is-malformed")

    refused(done, 7, "PAYER", "no private key")
    assert "malformed" not in done.out + done.err


def test_deploy__another_chain__is_refused(newcomer: Party, founding: str) -> None:
    refused(deploy(newcomer, "--url", URL, "--chain-id", "1"), 6, "chain 1")


def test_deploy__endpoint_down__is_refused(newcomer: Party, founding: str) -> None:
    refused(deploy(newcomer, "--url", DOWN), 6, "127.0.0.1:9", "start the node")


def test_deployed_consortium__has_its_founders(consortium: Consortium) -> None:
    listed = consortium["Bank D"].ok("member", "list")

    assert [member["name"] for member in listed["members"]] == list(consortium.institutions)
    assert listed["consortium"] == "Process consortium"
