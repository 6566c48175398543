"""The chains for demos and tests, the shipped artifacts, and the founding of a consortium on a chain."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from chain_world import DEPLOYER, MEMBERS, OUTSIDER, everybody, founding, parameters
from web3 import Web3

from mpcredit.chain import ChainLedger, Wallet, artifacts, deploy, joint_credit_init_code, tester
from mpcredit.chain import anvil as anvil_module
from mpcredit.chain.anvil import Anvil, find_anvil
from mpcredit.encoding import keccak
from mpcredit.errors import LedgerError, MpcreditError, Refused
from mpcredit.events import Call

# --------------------------------------------------------------------- embedded chain


def test_embedded_chain__has_the_rules_gas_limit_and_funds_asked_for() -> None:
    web3 = tester.embedded_chain([OUTSIDER.address], balance=12345)

    block = web3.eth.get_block("latest")
    assert block["gasLimit"] == tester.GAS_LIMIT == 30_000_000
    assert "requestsHash" in block  # Prague's
    assert web3.eth.get_balance(OUTSIDER.address) == 12345


def test_embedded_chain__number_of_accounts__funds_the_deterministic_ones() -> None:
    web3 = tester.embedded_chain(2)

    balances = [web3.eth.get_balance(tester.deterministic_account(index).address) for index in range(3)]
    assert balances == [tester.BALANCE, tester.BALANCE, 0]


def test_fund__adds_to_the_balance() -> None:
    web3 = tester.embedded_chain()

    tester.fund(web3, OUTSIDER.address, 7)
    tester.fund(web3, OUTSIDER.address, 7)

    assert web3.eth.get_balance(OUTSIDER.address) == 14


def test_embedded_clock__blocks_follow_it_and_never_stand_still() -> None:
    now = [1_800_000_000.5]
    web3 = tester.embedded_chain([DEPLOYER.address], clock=lambda: now[0])
    wallet = Wallet(web3, DEPLOYER)

    def mined_at() -> int:
        _signed, outcome = wallet.send(OUTSIDER.address, b"")
        return int(web3.eth.get_block(outcome.block)["timestamp"])

    times = [int(web3.eth.get_block("latest")["timestamp"]), mined_at(), mined_at()]
    now[0] += 1000
    times.append(mined_at())
    tester.advance(web3, 500)
    times += [int(web3.eth.get_block("latest")["timestamp"]), mined_at()]
    now[0] += 10
    times.append(mined_at())

    start = 1_800_000_000
    assert times[:4] == [start, start + 1, start + 2, start + 1000]
    assert times[4] == start + 1501
    assert times[5] == times[4] + 1
    assert times[6] == times[4] + 10


def test_advance__on_another_client__is_a_mistake() -> None:
    with pytest.raises(TypeError, match="embedded"):
        tester.advance(Web3(), 5)


def test_embedded_chain__shared_by_threads__loses_nothing() -> None:
    accounts = [tester.deterministic_account(index) for index in range(6)]
    web3 = tester.embedded_chain(6)
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            wallet = Wallet(web3, accounts[index])
            for _ in range(10):
                wallet.send(OUTSIDER.address, b"")
        except BaseException as error:  # whatever it is, the test must see it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert web3.eth.block_number == 60
    assert [Wallet(web3, account).nonce() for account in accounts] == [10] * 6


def test_embedded_chain__rising_base_fee__does_not_stop_estimates() -> None:
    web3 = tester.embedded_chain(everybody())
    deployed = deploy(web3, DEPLOYER, founding())
    tester._provider(web3).ethereum_tester.backend.chain.header = (  # type: ignore[union-attr]
        tester._provider(web3).ethereum_tester.backend.chain.header.copy(base_fee_per_gas=5 * 10**9)  # type: ignore[union-attr]
    )

    with pytest.raises(Refused):
        Wallet(web3, OUTSIDER).prepare(deployed.consortium, artifacts.consortium().call_data("setReady", (0, True)), 0)


# --------------------------------------------------------------------- Anvil


@pytest.mark.anvil
def test_anvil__starts_funds_advances_and_stops() -> None:
    with Anvil(chain_id=4711, hardfork="london") as running:
        before = running.web3.eth.get_block("latest")["timestamp"]
        running.fund(OUTSIDER.address, 5)
        running.advance(1000)

        assert running.web3.eth.chain_id == 4711
        assert running.web3.eth.get_balance(OUTSIDER.address) == 5
        assert running.web3.eth.get_block("latest")["timestamp"] >= before + 1000
        url = running.url
        process = running._process
    assert process is not None
    assert process.poll() is not None
    with pytest.raises(LedgerError, match="cannot be reached"):
        Wallet(url, OUTSIDER)
    running.stop()


@pytest.mark.anvil
def test_anvil__that_cannot_start__says_why() -> None:
    with pytest.raises(LedgerError, match="anvil did not start"), Anvil(hardfork="atlantis"):
        pass


def test_find_anvil__nowhere__is_a_ledger_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(anvil_module.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(anvil_module, "_IN_NODE_MODULES", Path("nowhere"))

    with pytest.raises(LedgerError, match="not installed") as caught:
        find_anvil()
    assert "npm ci" in caught.value.remedy


def test_find_anvil__named_or_on_path_or_in_node_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "anvil"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(anvil_module.ENVIRONMENT_VARIABLE, raising=False)
    assert find_anvil() == str(program)

    named = tmp_path / "other"
    monkeypatch.setenv(anvil_module.ENVIRONMENT_VARIABLE, str(named))
    with pytest.raises(LedgerError, match="MPCREDIT_ANVIL"):
        find_anvil()
    program.rename(named)
    assert find_anvil() == str(named)

    monkeypatch.delenv(anvil_module.ENVIRONMENT_VARIABLE)
    place = tmp_path / "project" / anvil_module._IN_NODE_MODULES
    place.parent.mkdir(parents=True)
    named.rename(place)
    (tmp_path / "project" / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "project" / "deep")
    assert find_anvil() == str(place)


# --------------------------------------------------------------------- founding


def test_deploy__returns_addresses_gas_and_first_block(chain: Any) -> None:
    web3 = chain[0]
    deployed = deploy(web3, DEPLOYER, founding(), chain_id=web3.eth.chain_id)

    ledger = ChainLedger(web3, deployed.consortium)
    assert deployed.chain_id == web3.eth.chain_id
    assert ledger.call(Call("consortium", "jointCredit")) == deployed.joint_credit
    assert ledger.call(Call("consortium", "memberCount")) == MEMBERS
    assert ledger.call(Call(deployed.joint_credit, "version")) == "2"
    assert deployed.first_block == deployed.creation.block == ledger.first_block()
    assert 2_000_000 < deployed.gas_used < 12_000_000
    assert bytes(web3.eth.get_code(deployed.joint_credit))


def test_deploy__founding_that_approved_other_code__is_refused_before_anything_is_sent(chain: Any) -> None:
    web3 = chain[0]
    before = Wallet(web3, DEPLOYER).nonce()

    with pytest.raises(Refused) as caught:
        deploy(web3, DEPLOYER, founding(init_code_hash=b"\x01" * 32))
    with pytest.raises(Refused):
        deploy(web3, DEPLOYER, founding(), init_code=joint_credit_init_code() + b"\x01")

    assert caught.value.code == "InitCodeDiffers"
    assert Wallet(web3, DEPLOYER).nonce() == before


def test_deploy__other_code_that_the_founding_approved__is_created(chain: Any) -> None:
    code = joint_credit_init_code() + b"\x01"

    deployed = deploy(chain[0], DEPLOYER, founding(init_code_hash=keccak(code)), init_code=code)

    assert deployed.first_joint_credit.succeeded


def test_deploy__terms_out_of_range__is_refused_by_the_constructor(chain: Any) -> None:
    with pytest.raises(Refused) as caught:
        deploy(chain[0], DEPLOYER, founding(parameters=parameters(delay_seconds=1)))

    assert caught.value.code == "BadParameter"


def test_artifact__that_is_missing__says_what_to_do() -> None:
    with pytest.raises(MpcreditError, match="lacks the compiled contract Nothing") as caught:
        artifacts.load("Nothing")

    assert "tools/compile.py" in caught.value.remedy
