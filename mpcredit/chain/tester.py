"""An Ethereum chain inside this process (eth-tester over py-evm): the embedded default of demos and tests.

It keeps to the rules of Prague, mines one block for each transaction, and its blocks carry the time of the clock, plus
what `advance` has added; where blocks come faster than seconds, each is one second after the one before. It answers
like a node: a refusal comes back as a JSON-RPC error, a revert with its data. Threads may share it.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_canonical_address, to_checksum_address
from web3 import Web3
from web3.exceptions import BlockNotFound, TransactionNotFound
from web3.providers.eth_tester import EthereumTesterProvider
from web3.providers.eth_tester.middleware import transaction_result_formatter, transaction_result_remapper
from web3.types import RPCEndpoint, RPCResponse

from mpcredit.chain.client import connect
from mpcredit.chain.faults import revert_data
from mpcredit.encoding import keccak, to_hex

__all__ = ["GAS_LIMIT", "advance", "deterministic_account", "embedded_chain", "fund"]

GAS_LIMIT = 30_000_000
"""Of a block. Sixteen ciphertexts of 4096-bit keys stay below it."""
ETHER = 10**18
BALANCE = 1_000_000 * ETHER
FLOOR_BASE, FLOOR_PER_TOKEN = 21_000, 10
"""Least gas of a transaction by its data (EIP-7623): a zero byte is one token, any other four."""


def deterministic_account(index: int) -> LocalAccount:
    """A key that everybody knows, for demos and tests: always the same for an index."""
    made: LocalAccount = Account.from_key(keccak(b"mpcredit public test key %d" % index))
    return made


def _account_state(balance: int) -> dict[str, Any]:
    return {"balance": balance, "nonce": 0, "code": b"", "storage": {}}


class _Reverted(Exception):  # not an error of ours: the provider turns it into a node's answer
    """A call reverted with this data; web3's provider would keep only what looks like text in it."""


@contextmanager
def _reverting() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        data = revert_data(error)
        if data is None:
            raise
        raise _Reverted(data) from error


@cache
def _backend_class() -> type[Any]:
    """The py-evm backend, with a clock and an index of transactions. Imported when first used: it takes time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from eth.estimators.gas import binary_gas_search_1000_tolerance
        from eth.vm.spoof import SpoofTransaction
        from eth_tester.backends.pyevm import main as pyevm
        from eth_tester.backends.pyevm.serializers import serialize_transaction, serialize_transaction_receipt

    def estimate(state: Any, transaction: Any) -> int:
        """Gas of a call in two runs; py-evm's search makes a dozen, and a contribution is costly to run."""

        def run(gas: int) -> Any:
            snapshot = state.snapshot()
            try:
                return state.apply_transaction(SpoofTransaction(transaction, gas=gas, gas_price=0))
            finally:
                state.revert(snapshot)

        computation = run(state.gas_limit)
        if computation.is_error:
            raise computation.error
        used = state.gas_limit - computation.get_gas_remaining()
        zeros = transaction.data.count(0)
        floor = FLOOR_BASE + FLOOR_PER_TOKEN * (zeros + 4 * (len(transaction.data) - zeros))
        # A caller keeps a 64th of what it has from a call (EIP-150), so a little more than what is used must be there.
        enough = max(used + used // 63, floor, transaction.intrinsic_gas)
        if not run(enough).is_error:
            return int(enough)
        return int(binary_gas_search_1000_tolerance(state, transaction))

    class Backend(pyevm.PyEVMBackend):  # type: ignore[misc]
        clock: Callable[[], float] = staticmethod(time.time)
        offset = 0

        def __init__(self, **arguments: Any) -> None:
            self.places: dict[bytes, int] = {}
            super().__init__(**arguments)
            self.chain.gas_estimator = self.estimate

        # -- time: py-evm would date each block one second after the last, whatever the clock says

        def tick(self) -> None:
            header = self.chain.header
            now = int(self.clock()) + self.offset
            if now > header.timestamp and not self.chain.get_block().transactions:
                self.chain.header = header.copy(timestamp=now)

        def estimate(self, state: Any, transaction: Any) -> int:
            # py-evm would judge it one second after the newest block, however long ago that was.
            state.execution_context._timestamp = self.chain.header.timestamp
            return estimate(state, transaction)

        def send_raw_transaction(self, raw_transaction: bytes) -> bytes:
            self.tick()
            return bytes(super().send_raw_transaction(raw_transaction))

        def send_transaction(self, transaction: Any) -> bytes:
            self.tick()
            return bytes(super().send_transaction(transaction))

        def estimate_gas(self, transaction: Any, block_number: Any = "latest") -> int:
            # The newest block's state at the time of the next block is what others call pending.
            self.tick()
            place = "latest" if block_number == "pending" else block_number
            with _reverting():
                return int(super().estimate_gas(transaction, place))

        def call(self, transaction: Any, block_number: Any = "latest") -> Any:
            with _reverting():
                return super().call(transaction, block_number)

        def time_travel(self, to_timestamp: int) -> int:
            self.offset = to_timestamp - int(self.clock())
            self.chain.header = self.chain.header.copy(timestamp=to_timestamp)
            self.mine_blocks()
            return to_timestamp

        # -- transactions by hash: py-evm would look through all blocks for each

        def mine_blocks(self, *arguments: Any, **named: Any) -> Any:
            hashes = super().mine_blocks(*arguments, **named)
            for block_hash in hashes:
                block = self.chain.get_block_by_hash(block_hash)
                self.places.update((transaction.hash, block.number) for transaction in block.transactions)
            return hashes

        def find(self, transaction_hash: bytes) -> tuple[Any, Any, int, bool]:
            number = self.places.get(transaction_hash)
            if number is not None and number < self.chain.get_block().number:
                block = self.chain.get_canonical_block_by_number(number)
                for index, transaction in enumerate(block.transactions):
                    if transaction.hash == transaction_hash:
                        return block, transaction, index, False
            pending = self.chain.get_block()
            for index, transaction in enumerate(pending.transactions):
                if transaction.hash == transaction_hash:
                    return pending, transaction, index, True
            raise pyevm.TransactionNotFound(f"No transaction found for transaction hash: {to_hex(transaction_hash)}")

        def get_transaction_by_hash(self, transaction_hash: bytes) -> Any:
            return serialize_transaction(*self.find(transaction_hash))

        def get_transaction_receipt(self, transaction_hash: bytes) -> Any:
            block, transaction, index, pending = self.find(transaction_hash)
            receipts = block.get_receipts(self.chain.chaindb)
            return serialize_transaction_receipt(block, receipts, transaction, index, pending, self.chain.get_vm())

        # -- fees: a call or an estimate that names none must not fail because the base fee has risen

        def _normalize_transaction(self, transaction: Any, block_number: Any = "latest") -> Any:
            made = super()._normalize_transaction(transaction, block_number)
            named = ("gas_price", "max_fee_per_gas", "max_priority_fee_per_gas")
            if not any(name in transaction for name in named) and "max_fee_per_gas" in made:
                made["max_fee_per_gas"] = max(made["max_fee_per_gas"], self.chain.header.base_fee_per_gas)
                made["max_priority_fee_per_gas"] = min(made["max_priority_fee_per_gas"], made["max_fee_per_gas"])
            return made

    return Backend


_BLOCKS = ("eth_getBlockByHash", "eth_getBlockByNumber")


def _with_transactions(answer: RPCResponse) -> RPCResponse:
    """A block with its transactions in full; web3 gives them a node's names in `eth_getTransactionByHash` alone."""
    block: Any = answer.get("result")
    if not block:
        return answer
    named = [transaction_result_remapper(transaction_result_formatter(one)) for one in block["transactions"]]
    made: Any = {**answer, "result": {**block, "transactions": named}}
    return cast(RPCResponse, made)


class _Provider(EthereumTesterProvider):
    """One request at a time, and failures as a node would tell them."""

    def __init__(self, tester: Any) -> None:
        super().__init__(tester)
        self.lock = threading.RLock()

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        with self.lock:
            try:
                answer = super().make_request(method, params)
                return _with_transactions(answer) if method in _BLOCKS and params[1] else answer
            except (BlockNotFound, TransactionNotFound):
                raise
            except Exception as error:
                data = error.args[0] if isinstance(error, _Reverted) else revert_data(error)
                message = f"{error}"[:300] or type(error).__name__
                told: Any = (
                    {"code": -32000, "message": message}
                    if data is None
                    else {"code": 3, "message": "execution reverted", "data": to_hex(data)}
                )
                return {"id": 0, "jsonrpc": "2.0", "error": told}


def embedded_chain(
    accounts: int | Sequence[str] = 0,
    *,
    balance: int = BALANCE,
    gas_limit: int = GAS_LIMIT,
    clock: Callable[[], float] = time.time,
) -> Web3:
    """Start a chain in this process, gone when the client is.

    Args:
        accounts: addresses to give funds, or how many of the `deterministic_account`s.
        balance: of each, in wei.
        gas_limit: of a block.
        clock: unix seconds; the blocks follow it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from eth.vm.forks.prague import PragueVM
        from eth_tester import EthereumTester

    funded = (
        [deterministic_account(index).address for index in range(accounts)] if isinstance(accounts, int) else accounts
    )
    backend_class = _backend_class()
    faucet = next(iter(backend_class.generate_genesis_state(num_accounts=1)))
    state = {faucet: _account_state(10**9 * BALANCE)}
    state.update({to_canonical_address(address): _account_state(balance) for address in funded})
    parameters = backend_class.generate_genesis_params({"gas_limit": gas_limit, "timestamp": int(clock())})
    backend = backend_class(genesis_parameters=parameters, genesis_state=state, vm_configuration=((0, PragueVM),))
    backend.clock = clock
    # py-evm makes a key for each account of the genesis; the first is the faucet's, the others nobody's.
    return connect(Web3(_Provider(EthereumTester(backend))))


def _provider(web3: Web3) -> _Provider:
    if not isinstance(web3.provider, _Provider):
        raise TypeError("not an embedded chain")
    return web3.provider


def fund(web3: Web3, address: str, wei: int = BALANCE) -> None:
    """Give an account of an embedded chain more funds."""
    with _provider(web3).lock:
        faucet = web3.eth.accounts[0]
        web3.eth.send_transaction(
            {"from": faucet, "to": to_checksum_address(address), "value": Web3.to_wei(wei, "wei")}
        )


def advance(web3: Web3, seconds: int) -> None:
    """Let time pass on an embedded chain: one empty block, later by so much than the clock or the last block is."""
    provider = _provider(web3)
    with provider.lock:
        tester: Any = provider.ethereum_tester
        tester.backend.tick()
        tester.time_travel(tester.get_block_by_number("pending")["timestamp"] + seconds)
