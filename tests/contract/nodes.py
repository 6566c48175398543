"""Anvil as an `onchain.Chain`: the same calls under the rules of any fork, for tests and for `tools/gas.py`."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from types import SimpleNamespace
from typing import Any

from eth_account import Account
from eth_tester.exceptions import TransactionFailed
from eth_utils import to_checksum_address
from onchain import ACCOUNTS, PUBLIC_TEST_MNEMONIC, ROOT, Chain, Deployed, artifact

# Of the first block: results are the same in every run.
GENESIS_TIME = 1_790_000_000
CAP = 16_777_216
"""Most gas of one transaction since Osaka (EIP-7825)."""


def anvil() -> str | None:
    """The executable, if there is one."""
    own = ROOT / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
    return str(own) if own.exists() else shutil.which("anvil")


class AnvilChain(Chain):
    """A node of its own, that ends with the context. Revert data comes back as with eth-tester."""

    def __init__(self, fork: str) -> None:
        self.fork = fork
        self._ids = itertools.count()

    def __enter__(self) -> AnvilChain:
        executable = anvil()
        if executable is None:
            raise FileNotFoundError("anvil is missing (run: npm ci)")
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        given = {
            "--hardfork": self.fork,
            "--port": str(port),
            "--accounts": str(ACCOUNTS),
            "--mnemonic": PUBLIC_TEST_MNEMONIC,
            "--timestamp": str(GENESIS_TIME),
        }
        options = [word for option in given.items() for word in option]
        cap = ["--enable-tx-gas-limit"] if self.fork == "osaka" else []
        self._process = subprocess.Popen([executable, "--silent", *options, *cap])
        self._url = f"http://127.0.0.1:{port}"
        for _ in range(200):
            try:
                chain_id = int(self.rpc("eth_chainId"), 16)
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise TimeoutError("anvil does not answer")
        self.backend = SimpleNamespace(chain=SimpleNamespace(chain_id=chain_id))
        Account.enable_unaudited_hdwallet_features()
        keys = [
            Account.from_mnemonic(PUBLIC_TEST_MNEMONIC, account_path=f"m/44'/60'/0'/0/{i}") for i in range(ACCOUNTS)
        ]
        self.accounts = [k.address for k in keys]
        self.keys = {k.address: SimpleNamespace(to_bytes=lambda k=k: bytes(k.key)) for k in keys}
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def rpc(self, method: str, *parameters: Any) -> Any:
        """One JSON-RPC call."""
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        if "error" in found:
            data = found["error"].get("data")
            raise TransactionFailed(repr(bytes.fromhex(data[2:])) if data else found["error"]["message"])
        return found["result"]

    def now(self) -> int:
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def travel(self, seconds: int) -> None:
        self.rpc("evm_setNextBlockTimestamp", self.now() + seconds)
        self.rpc("evm_mine")

    def transact(self, account: str, to: str, data: bytes) -> dict[str, Any]:
        request = {"from": account, "data": "0x" + data.hex(), "gas": hex(CAP)}
        if to:
            request["to"] = to
        # One second later than the block before, not when the clock says so.
        self.rpc("evm_setNextBlockTimestamp", self.now() + 1)
        receipt = self.receipt(self.rpc("eth_sendTransaction", request))
        if int(receipt["status"], 16) != 1:
            raise AssertionError("the transaction failed")
        return {
            "gas_used": int(receipt["gasUsed"], 16),
            "logs": receipt["logs"],
            "contract_address": receipt["contractAddress"],
        }

    def receipt(self, transaction: str) -> dict[str, Any]:
        """The receipt as the node gives it, which it may not have at once."""
        while not (found := self.rpc("eth_getTransactionReceipt", transaction)):
            time.sleep(0.002)
        receipt: dict[str, Any] = found
        return receipt

    def call(self, account: str, to: str, data: bytes) -> bytes:
        request = {"from": account, "to": to, "data": "0x" + data.hex(), "gas": hex(CAP)}
        return bytes.fromhex(self.rpc("eth_call", request, "latest")[2:])

    def deploy(self, name: str) -> Deployed:
        """Create a contract whose constructor takes no arguments."""
        made = artifact(name)
        receipt = self.transact(self.accounts[0], "", bytes.fromhex(made["bytecode"][2:]))
        return Deployed(self, made["abi"], to_checksum_address(receipt["contract_address"]))
