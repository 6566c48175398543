"""A local devnet of several processes: Anvil, started on a free loopback port and stopped with the `with` block."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from web3 import Web3

from mpcredit.chain.client import Endpoint
from mpcredit.errors import LedgerError

__all__ = ["Anvil", "find_anvil"]

READY_SECONDS = 20.0
STOP_SECONDS = 10.0
GAS_LIMIT = 30_000_000
ENVIRONMENT_VARIABLE = "MPCREDIT_ANVIL"
_IN_NODE_MODULES = Path("node_modules", "@foundry-rs", "anvil-linux-amd64", "bin", "anvil")


def find_anvil() -> str:
    """Find the program: `$MPCREDIT_ANVIL`, PATH, then node_modules of the working directory, the checkout or above.

    Raises:
        LedgerError: it is nowhere.
    """
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        if Path(named).is_file() and os.access(named, os.X_OK):
            return named
        raise LedgerError(
            f"{ENVIRONMENT_VARIABLE} does not name a program that can be run",
            remedy=f"set {ENVIRONMENT_VARIABLE} to the path of anvil, or unset it",
        )
    if found := shutil.which("anvil"):
        return found
    here, package = Path.cwd(), Path(__file__).resolve()
    for folder in (here, *here.parents, *package.parents):
        candidate = folder / _IN_NODE_MODULES
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    raise LedgerError(
        "anvil is not installed",
        remedy="in a checkout run: npm ci; elsewhere install Foundry, or use the embedded chain, which needs nothing",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Anvil:
    """A running Anvil.

    Args:
        hardfork: rules of the chain, for example "london", "prague", "osaka".
        accounts: how many of Anvil's own unlocked accounts to make.
        block_time: seconds between blocks; None mines one for each transaction.
        gas_limit: of a block.
        chain_id: of the chain.
        arguments: further arguments of the program.

    Raises:
        LedgerError: there is no anvil, or it does not start.
    """

    def __init__(
        self,
        *,
        hardfork: str = "prague",
        accounts: int = 1,
        block_time: int | None = None,
        gas_limit: int = GAS_LIMIT,
        chain_id: int = 31337,
        port: int | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self._command = [find_anvil(), "--silent", "--host", "127.0.0.1", "--hardfork", hardfork]
        self._command += ["--accounts", str(accounts), "--gas-limit", str(gas_limit), "--chain-id", str(chain_id)]
        if block_time is not None:
            self._command += ["--block-time", str(block_time)]
        self._command += arguments
        self.port = _free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None
        self._endpoint: Endpoint | None = None

    @property
    def url(self) -> str:
        """Of its JSON-RPC."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        """To ask it."""
        if self._endpoint is None:
            self._endpoint = Endpoint(self.url)
        return self._endpoint

    @property
    def web3(self) -> Web3:
        """A client of it."""
        return self.endpoint.web3

    def start(self) -> None:
        """Start it and wait until it answers."""
        # Its own session: Ctrl-C at the terminal is for us, and we stop it.
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        end = time.monotonic() + READY_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > end:
                said = self._last_words()
                self.stop()
                raise LedgerError(
                    f"anvil did not start: {said or 'it said nothing'}", remedy="run the command by hand and see why"
                )
            time.sleep(0.02)
        self.endpoint.chain_id(None)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _last_words(self) -> str:
        process = self._process
        if process is None or process.poll() is None or process.stderr is None:
            return ""
        return process.stderr.read().decode(errors="replace").strip()[-500:]

    def stop(self) -> None:
        """Stop it; harmless if it has stopped."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stderr is not None:
            process.stderr.close()

    def __enter__(self) -> Anvil:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def do(self, method: str, *parameters: Any) -> Any:
        """Call one of Anvil's own JSON-RPC methods."""
        return self.endpoint.raw(f"call {method}", method, list(parameters))

    def fund(self, address: str, wei: int = 10**24) -> None:
        """Set the balance of an account."""
        self.do("anvil_setBalance", address, hex(wei))

    def advance(self, seconds: int) -> None:
        """Let time pass: one empty block, so much later."""
        self.do("evm_increaseTime", seconds)
        self.do("evm_mine")

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks."""
        self.do("anvil_mine", hex(blocks))

    def reorganise(self, depth: int) -> None:
        """Replace the newest blocks by as many empty ones."""
        self.do("anvil_reorg", depth, [])
