"""Fees on real nodes: what is offered, how it is raised, what the node says, and ledgers without fees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chain_world import DEPLOYER, OUTSIDER

from mpcredit.chain import Wallet, tester
from mpcredit.chain.anvil import Anvil
from mpcredit.chain.transactions import SignedTransaction, parse_signed
from mpcredit.errors import FeeTooLow, LedgerError
from mpcredit.ports import Signed

GWEI = 10**9


@pytest.fixture
def still() -> Iterator[Anvil]:
    """Mines when it is told to."""
    with Anvil(arguments=("--no-mining",)) as running:
        running.fund(OUTSIDER.address)
        yield running


def said(signed: Signed) -> SignedTransaction:
    return parse_signed(signed.raw)


def base_fee(anvil: Anvil) -> int:
    return int(anvil.web3.eth.get_block("latest")["baseFeePerGas"])


@pytest.mark.anvil
def test_raised__same_call_and_nonce_an_eighth_more_is_taken_in_place_of_the_first(still: Anvil) -> None:
    wallet = Wallet(still.web3, OUTSIDER)
    first = wallet.prepare(DEPLOYER.address, b"call", 0)
    wallet.broadcast(first.raw)

    second = wallet.raised(first.raw)
    assert second is not None
    wallet.broadcast(second.raw)
    with pytest.raises(FeeTooLow):
        wallet.broadcast(first.raw)
    still.mine()

    one, two = said(first), said(second)
    assert (one.nonce, one.to, one.data, one.gas, one.value) == (two.nonce, two.to, two.data, two.gas, two.value)
    assert two.max_fee * 8 >= one.max_fee * 9
    assert two.tip * 8 >= one.tip * 9
    assert wallet.wait(second.hash, timeout=5).succeeded
    with pytest.raises(LedgerError, match="not mined"):
        wallet.wait(first.hash, timeout=0.1)


@pytest.mark.anvil
def test_raised__base_fee_has_risen__offers_what_is_asked_for_now(still: Anvil) -> None:
    wallet = Wallet(still.web3, OUTSIDER)
    first = wallet.prepare(DEPLOYER.address, b"", 0)
    still.do("anvil_setNextBlockBaseFeePerGas", hex(100 * GWEI))
    still.mine()

    with pytest.raises(FeeTooLow) as caught:
        wallet.broadcast(first.raw)
    second = wallet.raised(first.raw)
    assert second is not None
    wallet.broadcast(second.raw)
    still.mine()

    assert "raised by itself" in caught.value.remedy
    assert said(second).max_fee > base_fee(still)
    assert wallet.wait(second.hash, timeout=5).succeeded


@pytest.mark.anvil
def test_ceiling__nothing_above_it_is_signed_and_raising_says_so(still: Anvil) -> None:
    ceiling = 3 * GWEI
    wallet = Wallet(still.web3, OUTSIDER, max_fee=ceiling)
    first = wallet.prepare(DEPLOYER.address, b"", 0)
    still.do("anvil_setNextBlockBaseFeePerGas", hex(100 * GWEI))
    still.mine()

    with pytest.raises(FeeTooLow, match="ceiling is 3") as caught:
        wallet.raised(first.raw)
    capped = wallet.prepare(DEPLOYER.address, b"", 0)

    assert said(first).max_fee <= ceiling
    assert said(capped).max_fee == ceiling
    assert "max_fee_gwei" in caught.value.remedy


@pytest.mark.anvil
@pytest.mark.parametrize("hardfork", ["london", "berlin"])
def test_ledger_without_fees__an_account_without_money_can_write(hardfork: str) -> None:
    free = ("--gas-price", "0", "--block-base-fee-per-gas", "0")
    with Anvil(hardfork=hardfork, arguments=free[:2] if hardfork == "berlin" else free) as running:
        wallet = Wallet(running.web3, OUTSIDER)
        signed, outcome = wallet.send(DEPLOYER.address, b"")

        assert outcome.succeeded
        assert wallet.balance() == 0
        assert (said(signed).max_fee, said(signed).tip) == (0, 0)
        assert wallet.raised(signed.raw) is None


@pytest.mark.anvil
def test_legacy_gas_price__is_raised_too() -> None:
    with Anvil(hardfork="berlin", arguments=("--no-mining",)) as running:
        running.fund(OUTSIDER.address)
        wallet = Wallet(running.web3, OUTSIDER)
        first = wallet.prepare(DEPLOYER.address, b"", 0)
        wallet.broadcast(first.raw)
        second = wallet.raised(first.raw)
        assert second is not None
        wallet.broadcast(second.raw)
        running.mine()

        assert (said(first).kind, said(second).kind) == (0, 0)
        assert said(second).max_fee * 8 >= said(first).max_fee * 9
        assert wallet.wait(second.hash, timeout=5).succeeded


@pytest.mark.anvil
def test_tip__follows_what_others_paid(still: Anvil) -> None:
    payer = Wallet(still.web3, still.web3.eth.accounts[0], signing=still.web3, priority_fee=7 * GWEI)
    payer.broadcast(payer.prepare(DEPLOYER.address, b"", 0).raw)
    still.mine()

    assert said(Wallet(still.web3, OUTSIDER).prepare(DEPLOYER.address, b"", 0)).tip == 7 * GWEI


@pytest.mark.anvil
def test_taker__is_the_mined_transaction_with_that_nonce(still: Anvil) -> None:
    wallet = Wallet(still.web3, OUTSIDER)
    made = [wallet.prepare(DEPLOYER.address, bytes([i]), i) for i in range(3)]
    for signed in made:
        wallet.broadcast(signed.raw)
        still.mine(2)

    found = [wallet.taker(i) for i in range(4)]

    assert [taken and taken.hash for taken in found] == [*(signed.hash for signed in made), None]
    assert [taken.block for taken in found if taken] == [1, 3, 5]


@pytest.mark.anvil
def test_taker__of_another_chain__proves_nothing(still: Anvil, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same account on another chain signs the same nonce: an endpoint that shows that transaction here must not make
    # a step fail, and the store count as restored.
    wallet = Wallet(still.web3, OUTSIDER)
    nonce = wallet.nonce()
    wallet.broadcast(wallet.prepare(DEPLOYER.address, b"", nonce).raw)
    still.mine(1)
    assert wallet.taker(nonce) is not None
    monkeypatch.setattr(wallet, "chain_id", 1)

    assert wallet.taker(nonce) is None


def test_embedded_chain__fees_are_raised_where_there_is_no_history() -> None:
    web3 = tester.embedded_chain([OUTSIDER.address])
    wallet = Wallet(web3, OUTSIDER)
    first = wallet.prepare(DEPLOYER.address, b"", 0)

    second = wallet.raised(first.raw)

    assert second is not None
    assert said(second).tip > said(first).tip > 0
    wallet.broadcast(second.raw)
    taken = wallet.taker(0)
    assert taken is not None
    assert taken.hash == second.hash
    assert wallet.taker(1) is None
