"""An external signer for the tests: a process of its own that holds one key and answers `eth_signTransaction` over HTTP.

    python tests/signer_process.py KEY PORT [blind]

It signs for its own account alone; told to be blind, whatever the account asked for, as a misconfigured signer would. What
it signed it writes to standard output, one hash a line; the first line is its port.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount


class _Handler(BaseHTTPRequestHandler):
    account: LocalAccount
    blind: bool

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            answer["result"] = self._result(request["method"], request.get("params", []))
        except ValueError as error:
            answer["error"] = {"code": -32000, "message": str(error)}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _result(self, method: str, params: list[Any]) -> str:
        if method != "eth_signTransaction":
            raise ValueError(f"the method {method} does not exist")
        fields = dict(params[0])
        if fields.pop("from") != self.account.address and not self.blind:
            raise ValueError("no key for this account")
        signed = self.account.sign_transaction(fields)
        print("0x" + bytes(signed.hash).hex(), flush=True)
        return "0x" + bytes(signed.raw_transaction).hex()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Signer:
    """A signer that can be stopped and started again on its port.

    Args:
        log: where the hashes of what it signed are written.
    """

    def __init__(self, account: LocalAccount, log: Path) -> None:
        self.account, self.log, self.port = account, log, 0
        self._running: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def signed(self) -> list[str]:
        """Hashes of the transactions that it signed."""
        return [line for line in self.log.read_text(encoding="utf-8").split() if line.startswith("0x")]

    def start(self, account: LocalAccount | None = None, *, blind: bool = False) -> None:
        """Start it, perhaps with another key."""
        key = (account or self.account).key.hex()
        with self.log.open("ab") as out:
            start = out.tell()
            arguments = [sys.executable, __file__, key, str(self.port), *(["blind"] if blind else [])]
            self._running = subprocess.Popen(arguments, stdout=out)
        for _ in range(200):
            told = self.log.read_bytes()[start:].splitlines()
            if told:
                self.port = int(told[0])
                return
            time.sleep(0.05)
        raise RuntimeError("the signer does not start")

    def stop(self) -> None:
        """Stop it."""
        assert self._running is not None
        self._running.terminate()
        self._running.wait(10)


if __name__ == "__main__":
    _Handler.account, _Handler.blind = Account.from_key(sys.argv[1]), "blind" in sys.argv[3:]
    server = HTTPServer(("127.0.0.1", int(sys.argv[2])), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
