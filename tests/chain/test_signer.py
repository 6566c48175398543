"""The signer port over a node: what is signed, what the node makes of it, and what the contract says."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from chain_world import DEPLOYER, OUTSIDER, SUPERVISOR, World, account, everybody, founding, make_world, step
from eth_account import Account

from mpcredit.chain import ChainLedger, ChainSigner, ContractRefused, Wallet, deploy, tester
from mpcredit.chain import client as client_module
from mpcredit.chain.anvil import Anvil
from mpcredit.chain.transactions import parse_signed
from mpcredit.encoding import keccak
from mpcredit.errors import LedgerError, Refused, TransactionFailed, WrongLedger
from mpcredit.events import Call, Contributed, Opened


@pytest.fixture
def ready(world: World) -> World:
    world.ready(0, 1, 2, 3)
    return world


# --------------------------------------------------------------------- signing


def test_sign__says_everything_explicitly(ready: World) -> None:
    signer = ready.service(1)
    signed = signer.sign(step(1), 77)

    said = parse_signed(signed.raw)
    assert signed.hash == keccak(signed.raw)
    assert signed.nonce == said.nonce == 77
    assert said.kind == 2
    assert said.chain_id == ready.ledger.realm.chain_id
    assert said.sender == signer.address == account(3).address
    assert said.to == ready.deployed.consortium
    assert said.value == 0
    assert said.data == client_module.consortium().call_data("anchor", step(1).arguments)


def test_sign__other_chain_than_expected__is_the_wrong_ledger(world: World) -> None:
    with pytest.raises(WrongLedger):
        ChainSigner(world.web3, OUTSIDER, world.deployed.consortium, chain_id=5)


def test_sign__contract_address_that_is_none__is_the_wrong_ledger(world: World) -> None:
    with pytest.raises(WrongLedger, match="not an Ethereum address"):
        world.service(0).sign(Call("joint credit", "expire", (bytes(32),)), 0)


def test_gas__has_a_margin_over_what_is_used(ready: World) -> None:
    opened = ready.open()
    call = Call(ready.deployed.joint_credit, "contribute", (opened.inquiry, 1, ready.opening().payload))
    signer = ready.service(1)
    signed = signer.sign(call, signer.nonce())
    signer.broadcast(signed.raw)
    outcome = signer.wallet.wait(signed.hash)

    sent = ready.web3.eth.get_transaction(signed.hash)
    assert outcome.succeeded
    assert outcome.gas_used * 1.1 + 4_000 < sent["gas"] < outcome.gas_used * 1.5 + 50_000


# --------------------------------------------------------------------- what the contract says


def test_sign__call_that_would_revert__is_refused_with_code_and_arguments(ready: World) -> None:
    signer = ready.service(1)
    call = Call(ready.deployed.joint_credit, "contribute", (b"\x42" * 32, 1, b""))

    with pytest.raises(Refused) as caught:
        signer.sign(call, signer.nonce())

    assert isinstance(caught.value, ContractRefused)
    assert caught.value.code == "WrongStage"
    assert caught.value.arguments == {"actual": 0}
    assert "none" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("who", "call", "code"),
    [
        (OUTSIDER, Call("consortium", "setReady", (0, False)), "NotAccount"),
        (OUTSIDER, Call("consortium", "suspend", (OUTSIDER.address, 0)), "NotSupervisor"),
        (OUTSIDER, Call("consortium", "removeMember", (0,)), "OnlyByProposal"),
        (OUTSIDER, Call("consortium", "rotateKey", (0, b"\x01" * 32, False, b"")), "NotOwner"),
        (SUPERVISOR, Call("consortium", "approve", (99, bytes(32))), "UnknownProposal"),
        (account(1), Call("consortium", "setReady", (0, True)), "NothingChanges"),
    ],
)
def test_transact__refused_by_a_rule__names_it(ready: World, who: Any, call: Call, code: str) -> None:
    with pytest.raises(Refused) as caught:
        ready.signer(who).transact(call)

    assert caught.value.code == code


def test_transaction_mined_too_late__failed_with_the_contracts_reason(ready: World) -> None:
    opened = ready.open()
    first, second = ready.service(1), ready.service(2)
    late = second.sign(Call(ready.deployed.joint_credit, "refuse", (opened.inquiry, 2, 3, b"")), second.nonce())
    first.transact(Call(ready.deployed.joint_credit, "refuse", (opened.inquiry, 1, 3, b"")))

    second.broadcast(late.raw)
    with pytest.raises(Refused) as caught:
        second.wallet.wait(late.hash)

    assert caught.value.code == "WrongStage"
    assert "refused" in caught.value.message
    outcome = ready.ledger.outcome(late.hash)
    assert outcome is not None
    assert not outcome.succeeded
    failure = ready.ledger.failure(late.hash)
    assert isinstance(failure, ContractRefused)
    assert failure.code == "WrongStage"
    assert keccak(ready.ledger.transaction(late.hash)) == late.hash


def test_failure__of_a_success_or_an_unknown_transaction__is_none(ready: World) -> None:
    event = ready.all_events()[-1]

    assert ready.ledger.failure(event.at.transaction) is None
    assert ready.ledger.failure(b"\x01" * 32) is None


def test_transaction_without_enough_gas__failed(ready: World) -> None:
    signer = ready.service(0)
    signed = signer.sign(step(0), signer.nonce())
    fields = dict(ready.web3.eth.get_block("latest"))
    raw = bytes(
        account(1)
        .sign_transaction(
            {
                "chainId": ready.ledger.realm.chain_id,
                "nonce": signed.nonce,
                "to": ready.deployed.consortium,
                "value": 0,
                "gas": 23_000,
                "data": parse_signed(signed.raw).data,
                "maxFeePerGas": 4 * fields["baseFeePerGas"] + 10**9,
                "maxPriorityFeePerGas": 10**9,
            }
        )
        .raw_transaction
    )
    signer.broadcast(raw)

    with pytest.raises(TransactionFailed):
        signer.wallet.wait(keccak(raw))


# --------------------------------------------------------------------- nonces and sending again


def test_nonce__counts_what_is_mined(ready: World) -> None:
    signer = ready.service(2)
    before = signer.nonce()
    signer.transact(step(2))

    assert signer.nonce() == before + 1
    assert ready.signer(Account.create()).nonce() == 0


def test_broadcast__again_unchanged__is_no_error(ready: World) -> None:
    signer = ready.service(2)
    signed = signer.sign(step(2), signer.nonce())

    for _ in range(3):
        signer.broadcast(signed.raw)

    assert signer.wallet.wait(signed.hash).succeeded
    signer.broadcast(signed.raw)
    assert signer.nonce() == signed.nonce + 1


def test_broadcast__other_transaction_with_a_used_nonce__is_a_ledger_error(ready: World) -> None:
    signer = ready.service(2)
    used = signer.nonce()
    signed = signer.sign(step(2, 1), used)
    other = signer.sign(step(2, 2), used)
    signer.broadcast(signed.raw)
    signer.wallet.wait(signed.hash)

    with pytest.raises(LedgerError, match=r"(?i)nonce") as caught:
        signer.broadcast(other.raw)
    assert "one program" in caught.value.remedy
    assert ready.ledger.outcome(other.hash) is None


def test_broadcast__account_without_funds__is_a_ledger_error(ready: World) -> None:
    poor = Account.create()
    wallet = Wallet(ready.web3, poor)
    fields = {
        "chainId": wallet.chain_id,
        "nonce": 0,
        "to": OUTSIDER.address,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": 10**10,
        "maxPriorityFeePerGas": 10**9,
    }

    with pytest.raises(LedgerError) as caught:
        wallet.broadcast(bytes(poor.sign_transaction(fields).raw_transaction))
    assert "fund the account" in caught.value.remedy


def test_broadcast__node_returns_another_hash__is_a_ledger_error(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = ready.service(2)
    signed = signer.sign(step(2), signer.nonce())
    monkeypatch.setattr(ready.web3.eth, "send_raw_transaction", lambda _: b"\x01" * 32)

    with pytest.raises(LedgerError, match="another hash"):
        signer.broadcast(signed.raw)


def test_broadcast__bytes_that_are_no_transaction__is_a_ledger_error(ready: World) -> None:
    with pytest.raises(LedgerError):
        ready.service(2).broadcast(b"\x02\x01\x02")


def test_wait__not_mined__is_a_ledger_error(ready: World) -> None:
    with pytest.raises(LedgerError, match="not mined within"):
        ready.service(2).wallet.wait(b"\x01" * 32, timeout=0.1)


def test_transact__from_several_threads__each_is_mined(ready: World) -> None:
    opened = ready.open()
    failures: list[BaseException] = []

    def work(member: int) -> None:
        try:
            ready.contribute(opened.inquiry, member)
            for number in range(3):
                ready.service(member).transact(step(member, number + 1))
                ready.ledger.events(opened.at.block, ready.ledger.head().number)
        except BaseException as error:  # whatever it is, the test must see it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(member,)) for member in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    found = ready.ledger.events(opened.at.block, ready.ledger.head().number)
    assert {event.member for event in found if isinstance(event, Contributed)} == {1, 2, 3}


@pytest.mark.anvil
def test_nonces__sent_out_of_order__are_mined_in_order() -> None:
    with Anvil(arguments=("--no-mining",)) as running:
        running.fund(OUTSIDER.address)
        wallet = Wallet(running.web3, OUTSIDER)
        made = [wallet.prepare(DEPLOYER.address, b"", nonce) for nonce in range(3)]
        for signed in reversed(made):
            wallet.broadcast(signed.raw)
            wallet.broadcast(signed.raw)

        assert wallet.nonce() == 0
        assert wallet.nonce(pending=True) == 3
        with pytest.raises(LedgerError, match="not mined"):
            wallet.wait(made[0].hash, timeout=0.1)
        running.mine()
        assert [wallet.wait(signed.hash).succeeded for signed in made] == [True] * 3
        assert wallet.nonce() == 3


# --------------------------------------------------------------------- external signers, other rules


@pytest.mark.anvil
def test_external_signer__deploys_and_acts(anvil: Anvil) -> None:
    holder = anvil.web3.eth.accounts[0]
    deployed = deploy(anvil.url, holder, founding(), chain_id=31337)

    signer = ChainSigner(anvil.url, holder, deployed.consortium, signing=anvil.url)
    with pytest.raises(Refused) as caught:
        signer.transact(Call("consortium", "suspend", (holder, 0)))
    signed = signer.wallet.prepare(DEPLOYER.address, b"", signer.nonce())

    assert caught.value.code == "NotSupervisor"
    assert parse_signed(signed.raw).sender == holder


@pytest.mark.anvil
def test_external_signer__without_the_key_or_dishonest__is_a_ledger_error(
    anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LedgerError):
        Wallet(anvil.url, OUTSIDER.address).prepare(DEPLOYER.address, b"", 0)

    wallet = Wallet(anvil.url, anvil.web3.eth.accounts[0])
    good = wallet.prepare(DEPLOYER.address, b"", 5).raw
    honest = wallet.endpoint.raw
    for answer in (
        good,  # for another nonce
        Wallet(anvil.url, OUTSIDER).prepare(DEPLOYER.address, b"", 6).raw,
        wallet.prepare(SUPERVISOR.address, b"", 6).raw,
        wallet.prepare(DEPLOYER.address, b"\x01", 6).raw,
        Wallet(anvil.url, wallet.address, priority_fee=10**12).prepare(DEPLOYER.address, b"", 6).raw,  # dearer
        b"",
        {"raw": "0x02"},
    ):

        def lie(doing: str, method: str, parameters: list[Any], answer: Any = answer) -> Any:
            return answer if method == "eth_signTransaction" else honest(doing, method, parameters)

        monkeypatch.setattr(wallet._signing, "raw", lie)
        with pytest.raises(LedgerError, match="external signer"):
            wallet.prepare(DEPLOYER.address, b"", 6)
        monkeypatch.undo()


@pytest.mark.anvil
@pytest.mark.parametrize(("hardfork", "kind"), [("berlin", 0), ("london", 2), ("osaka", 2)])
def test_other_rules__an_inquiry_runs_and_the_transaction_has_their_type(hardfork: str, kind: int) -> None:
    with Anvil(hardfork=hardfork) as running:
        for address in everybody():
            running.fund(address)
        world = make_world(running.web3, running.advance, running)
        opened = world.open()
        for member in (1, 2, 3):
            world.contribute(opened.inquiry, member)
        raw = world.ledger.transaction(opened.at.transaction)

        assert parse_signed(raw).kind == kind
        assert isinstance(opened, Opened)
        assert world.view("status", opened.inquiry, on=world.deployed.joint_credit)[0] == 2


def test_signer_and_ledger__on_a_client_each__see_the_same() -> None:
    web3 = tester.embedded_chain(everybody())
    deployed = deploy(web3, DEPLOYER, founding())

    assert ChainLedger(web3, deployed.consortium).name == "Taiwan test consortium"
    assert Wallet(web3, DEPLOYER).balance() > 0
