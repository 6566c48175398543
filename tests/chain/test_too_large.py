"""What a node will not take later either: told apart from everything else that it refuses (docs/adr/0021)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chain_world import DEPLOYER, OUTSIDER
from web3.exceptions import Web3RPCError

from mpcredit.chain import Wallet, client
from mpcredit.chain.anvil import Anvil
from mpcredit.chain.transactions import parse_signed
from mpcredit.errors import LedgerError, NodeRefused, TooLarge


def translated(message: str) -> Exception:
    """What becomes of a node's error message."""
    error = Web3RPCError("x", rpc_response={"error": {"code": -32000, "message": message}})  # type: ignore[typeddict-item]
    return client.Endpoint("http://127.0.0.1:9")._translate("send a transaction", error)


@pytest.mark.parametrize(
    "message",
    [
        "oversized data: transaction size 149437, limit 131072",
        "MaxTxSizeExceeded, Transaction size: 149437, Maximum size: 131072",
        "exceeds block gas limit",
        "Transaction gas limit of 20000000 exceeds block gas limit of 8000000",
        "GasLimitExceeded, Gas limit: 8000000, gas limit of rejected tx: 20000000",
        "intrinsic gas too high -- tx.gas_limit > env.cfg.tx_gas_limit_cap",
        "transaction gas limit too high (cap: 16777216, tx: 20000000)",
        "gas required exceeds allowance (8000000)",
    ],
)
def test_refused_for_its_size__by_any_client__is_too_large(message: str) -> None:
    error = translated(message)

    assert isinstance(error, TooLarge)
    assert "fewer subjects" in error.remedy


@pytest.mark.parametrize(
    "message",
    ["nonce too low", "insufficient funds for gas * price + value", "missing trie node", "intrinsic gas too low"],
)
def test_refused_for_another_reason__is_not_too_large(message: str) -> None:
    error = translated(message)

    assert isinstance(error, NodeRefused)
    assert not isinstance(error, TooLarge)


def test_node_is_away__is_not_its_refusal() -> None:
    with pytest.raises(LedgerError) as caught:
        Wallet("http://127.0.0.1:9", OUTSIDER)

    assert not isinstance(caught.value, NodeRefused)


@pytest.fixture
def osaka() -> Iterator[Anvil]:
    """A node with the cap of EIP-7825."""
    with Anvil(hardfork="osaka", arguments=("--enable-tx-gas-limit",)) as running:
        running.fund(OUTSIDER.address)
        yield running


@pytest.mark.anvil
def test_block_has_less_gas_than_when_it_was_signed__the_node_refuses_it_for_good(osaka: Anvil) -> None:
    wallet = Wallet(osaka.web3, OUTSIDER)
    signed = wallet.prepare(DEPLOYER.address, b"\x01" * 20_000, 0)
    osaka.do("evm_setBlockGasLimit", hex(500_000))
    osaka.mine()

    with pytest.raises(TooLarge):
        wallet.broadcast(signed.raw)
    with pytest.raises(TooLarge):
        wallet.prepare(DEPLOYER.address, b"\x01" * 20_000, 0)

    osaka.do("evm_setBlockGasLimit", hex(30_000_000))
    osaka.mine()
    wallet.broadcast(signed.raw)
    assert wallet.wait(signed.hash, timeout=5).succeeded


@pytest.mark.anvil
def test_margin__does_not_take_a_transaction_above_the_cap(osaka: Anvil, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = Wallet(osaka.web3, OUTSIDER)
    data = b"\x01" * 400_000  # 16.0 million gas, and 17.6 with the margin

    monkeypatch.setattr(client, "TRANSACTION_GAS", 2**63)
    with pytest.raises(TooLarge):
        wallet.broadcast(wallet.prepare(DEPLOYER.address, data, 0).raw)
    monkeypatch.undo()
    signed = wallet.prepare(DEPLOYER.address, data, 0)
    wallet.broadcast(signed.raw)

    assert parse_signed(signed.raw).gas == 16_777_216
    assert wallet.wait(signed.hash, timeout=5).succeeded
