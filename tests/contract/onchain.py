"""An in-process chain, and a contract on it that is spoken to by the names in its ABI.

Errors and events are decoded from the ABI alone.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.exceptions import TransactionFailed
from eth_utils import event_abi_to_log_topic, function_abi_to_4byte_selector, is_address, to_checksum_address
from eth_utils.abi import get_abi_input_types

ROOT = Path(__file__).resolve().parents[2]
_specification = importlib.util.spec_from_file_location("compile_tool", ROOT / "tools" / "compile.py")
assert _specification is not None
assert _specification.loader is not None
compile_tool = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(compile_tool)

# The well-known mnemonic of test chains: every key below is public.
PUBLIC_TEST_MNEMONIC = "test test test test test test test test test test test junk"
ACCOUNTS = 40
GAS = 15_000_000
# Of the first block a test sees: years ahead of the clock, so that the clock never moves a block; a multiple of PERIOD.
START = 2_000_000_040
PERIOD = 60
"""Seconds of one period of readiness."""


@cache
def artifact(name: str) -> dict[str, Any]:
    """A contract that ships, or a harness; compiled here if the sources are newer than what was written."""
    for folder in (compile_tool.SHIPPED, compile_tool.HARNESSES):
        place = folder / f"{name}.json"
        if place.exists():
            found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            if compile_tool.is_fresh(found):
                return found
    made, _ = compile_tool.compile_contracts([name])
    # What ships is written by `make artifacts` alone, so that a check can find it stale.
    compile_tool.write({source: a for source, a in made.items() if source.startswith("test/")})
    return next(a for a in made.values() if a["contractName"] == name)


@cache
def variant(name: str, *changes: tuple[str, str]) -> dict[str, Any]:
    """A contract that ships with something else in the place of a piece of its source: for attacks that a rule stops."""
    source = f"contracts/{name}.sol"
    text = (ROOT / source).read_text(encoding="utf-8")
    for piece, other in changes:
        assert text.count(piece) == 1, f"{source} has {text.count(piece)} times: {piece}"
        text = text.replace(piece, other)
    solc = compile_tool.provide_solc()
    import solcx

    request = {
        "language": "Solidity",
        "sources": {source: {"content": text}},
        "settings": {**compile_tool.SETTINGS, "outputSelection": {source: {name: ["abi", "evm.bytecode.object"]}}},
    }
    made = solcx.compile_standard(request, base_path=ROOT, solc_binary=solc)["contracts"][source][name]
    return {"abi": made["abi"], "bytecode": "0x" + made["evm"]["bytecode"]["object"]}


def stand_in_code(salt: bytes = b"") -> bytes:
    """Init code of a stand-in for JointCredit, which forwards what it is sent; `salt` only changes its hash."""
    return bytes.fromhex(artifact("JointCreditStandIn")["bytecode"][2:]) + salt


class Chain:
    """An in-process chain with accounts whose keys are public."""

    def __init__(self) -> None:
        self.backend = PyEVMBackend.from_mnemonic(PUBLIC_TEST_MNEMONIC, num_accounts=ACCOUNTS)
        self.tester = EthereumTester(self.backend)
        self.accounts = [to_checksum_address(a) for a in self.tester.get_accounts()]
        self.keys = {key.public_key.to_checksum_address(): key for key in self.backend.account_keys}
        self.tester.time_travel(START)

    def now(self) -> int:
        """Time of the newest block."""
        return int(self.tester.get_block_by_number("latest")["timestamp"])

    def travel(self, seconds: int) -> None:
        """Mine a block that much later. A call is answered as of it, a transaction comes one second after it."""
        # eth-tester mines a block one second before the time it is given.
        self.tester.time_travel(self.now() + seconds + 1)

    def transact(self, account: str, to: str, data: bytes) -> dict[str, Any]:
        """Mine a transaction and return its receipt; raises if it failed."""
        receipt = self.mined(account, to, data)
        if receipt["status"] != 1:
            raise AssertionError("the transaction failed")
        return receipt

    def mined(self, account: str, to: str, data: bytes) -> dict[str, Any]:
        """Mine a transaction and return its receipt, also if it failed."""
        request = {"from": account, "data": "0x" + data.hex(), "gas": GAS, "gas_price": 10**9}
        if to:
            request["to"] = to
        receipt: dict[str, Any] = self.tester.get_transaction_receipt(self.tester.send_transaction(request))
        return receipt

    def call(self, account: str, to: str, data: bytes) -> bytes:
        """Call without a transaction; raises TransactionFailed with the revert data."""
        request = {"from": account, "to": to, "data": "0x" + data.hex(), "gas": GAS, "gas_price": 10**9}
        return bytes.fromhex(self.tester.call(request)[2:])

    def next_period(self, seconds: int = PERIOD) -> None:
        """Travel to the start of the next period of readiness, of that many seconds."""
        self.travel(seconds - self.now() % seconds)

    def delegate(self, account: str, code: str) -> None:
        """The account runs another's code from now on (EIP-7702), or none again, if `code` is zero."""
        key, chain_id = self.keys[account].to_bytes(), self.backend.chain.chain_id
        nonce = self.tester.get_nonce(account)
        # The account pays for the transaction itself, which takes the nonce before the authorization does.
        authorization = {"chainId": chain_id, "address": code, "nonce": nonce + 1}
        transaction = {
            "type": 4,
            "chainId": chain_id,
            "nonce": nonce,
            "gas": 100_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 1,
            "to": account,
            "value": 0,
            "data": b"",
            "authorizationList": [Account.sign_authorization(authorization, key)],
        }
        self.tester.send_raw_transaction(Account.sign_transaction(transaction, key).raw_transaction.hex())

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Whatever happens inside has not happened afterwards."""
        snapshot = self.tester.take_snapshot()
        try:
            yield
        finally:
            self.tester.revert_to_snapshot(snapshot)

    def sign(self, account: str, statement: bytes) -> bytes:
        """EIP-191 signature of 32 bytes."""
        return bytes(Account.sign_message(encode_defunct(primitive=statement), self.keys[account].to_bytes()).signature)


class Deployed:
    """A contract at an address, spoken to by the names in its ABI."""

    def __init__(self, chain: Chain, abi: Sequence[dict[str, Any]], address: str) -> None:
        self.chain = chain
        self.address = address
        self.functions = {e["name"]: e for e in abi if e["type"] == "function"}
        self._errors = {function_abi_to_4byte_selector(e): e for e in abi if e["type"] == "error"}
        self._events = {event_abi_to_log_topic(e): e for e in abi if e["type"] == "event"}

    def encoded(self, function: str, *arguments: Any) -> bytes:
        """Calldata."""
        abi = self.functions[function]
        return function_abi_to_4byte_selector(abi) + encode(get_abi_input_types(abi), arguments)

    def send(self, account: str, function: str, *arguments: Any) -> dict[str, Any]:
        """Mine a transaction; raises AssertionError with the reason if it fails."""
        data = self.encoded(function, *arguments)
        try:
            return self.chain.transact(account, self.address, data)
        except AssertionError:
            raise AssertionError(f"{function} failed: {self.refusal_of(account, data)}") from None

    def read(self, function: str, *arguments: Any, account: str | None = None) -> Any:
        """What a view (or the transaction, without sending it) returns: one value, a tuple, or a dict for a struct."""
        abi = self.functions[function]
        data = self.chain.call(account or self.chain.accounts[0], self.address, self.encoded(function, *arguments))
        return self._decoded(abi["outputs"], data)

    def refusal(self, account: str, function: str, *arguments: Any) -> tuple[Any, ...] | None:
        """The error by which the contract refuses this, with its arguments; None if it does not."""
        return self.refusal_of(account, self.encoded(function, *arguments))

    def refusal_of(self, account: str, data: bytes, *, through: str | None = None) -> tuple[Any, ...] | None:
        """The same for calldata, sent to another contract that passes this one's errors on, if `through` names one."""
        try:
            self.chain.call(account, through or self.address, data)
        except TransactionFailed as failure:
            return self.error(revert_data(failure))
        return None

    def error(self, data: bytes) -> tuple[Any, ...]:
        """An error by its revert data."""
        if data[:4] not in self._errors:
            return ("", data)
        abi = self._errors[data[:4]]
        return (abi["name"], *shown(decode(get_abi_input_types(abi), data[4:])))

    def events(self, receipt: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The events of this contract in a receipt: (name, *values in the order of the ABI)."""
        found = []
        for log in receipt["logs"]:
            topics = [bytes.fromhex(t[2:]) for t in log["topics"]]
            if to_checksum_address(log["address"]) != self.address or topics[0] not in self._events:
                continue
            abi = self._events[topics[0]]
            types = get_abi_input_types(abi)
            inputs = list(zip(types, abi["inputs"], strict=True))
            indexed = iter(topics[1:])
            plain = iter(decode([t for t, i in inputs if not i["indexed"]], bytes.fromhex(log["data"][2:])))
            values = [decode([t], next(indexed))[0] if i["indexed"] else next(plain) for t, i in inputs]
            found.append((abi["name"], *shown(values)))
        return found

    def event(self, receipt: dict[str, Any], name: str) -> tuple[Any, ...]:
        """The one event of this name in a receipt, without its name."""
        [values] = [values for found, *values in self.events(receipt) if found == name]
        return tuple(values)

    def _decoded(self, outputs: list[dict[str, Any]], data: bytes) -> Any:
        values = decode(get_abi_input_types({"type": "function", "name": "", "inputs": outputs}), data)
        named = [
            dict(zip([c["name"] for c in output["components"]], shown(value), strict=True))
            if "components" in output
            else value
            for output, value in zip(outputs, shown(values), strict=True)
        ]
        return named[0] if len(named) == 1 else tuple(named)


def shown(values: Sequence[Any]) -> tuple[Any, ...]:
    """The values, with addresses in checksum form."""
    return tuple(to_checksum_address(v) if isinstance(v, str) and is_address(v) else v for v in values)


def revert_data(failure: TransactionFailed) -> bytes:
    """eth-tester shows revert data as the repr of bytes, in the message."""
    message = str(failure)
    return ast.literal_eval(message) if message.startswith(("b'", 'b"')) else message.encode()
