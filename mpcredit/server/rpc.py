"""The embedded chain as a node of its own: a process that answers JSON-RPC 2.0 over HTTP, on loopback only.

For demos and tests: `mpcredit up` starts it, and every institution reaches it by its URL as it would any other node.
One request at a time; a refusal comes back with the code and the revert data that Anvil gives. With a file the chain
outlives its process: whatever a request changed is in the file, whole, before its answer goes out.

    python -m mpcredit.server.rpc --port 8545 --path chain.sqlite

Besides the usual methods there are `mpcredit_advance(seconds)` and `mpcredit_fund(address, wei)`; `eth_sendTransaction`
is not there, since no account of this chain is unlocked.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import logging
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from eth_utils.address import is_address
from web3.exceptions import BlockNotFound, TransactionNotFound
from web3.middleware import combine_middleware
from web3.middleware.base import Middleware
from web3.types import RPCEndpoint

from mpcredit.chain import tester
from mpcredit.encoding import to_hex
from mpcredit.errors import LedgerError, StoreError

__all__ = ["ChainFile", "ChainServer", "EmbeddedNode", "main", "serve_chain", "stop_with_parent"]

log = logging.getLogger("mpcredit")

LARGEST_BODY: Final = 8 * 1024 * 1024
"""Bytes of one HTTP request. A contribution of 16 ciphertexts is about 20 kB, twice that in hexadecimal digits."""
LARGEST_BATCH: Final = 1_000
MOST_BRACKETS: Final = 5 * LARGEST_BATCH
"""In one body. py-evm raises Python's recursion limit so far that deeply nested JSON would overflow the stack."""
LONGEST_JUMP: Final = 400 * 86_400
"""Seconds that `mpcredit_advance` accepts: windows and retention are told in days."""
PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMETERS, SERVER_ERROR = -32700, -32600, -32601, -32602, -32000

_METHODS: Final = frozenset(
    {
        "eth_blockNumber",
        "eth_call",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getCode",
        "eth_getLogs",
        "eth_getStorageAt",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
        "eth_sendRawTransaction",
        "eth_syncing",
        "web3_clientVersion",
        "web3_sha3",
    }
)
_WRITES: Final = frozenset({"eth_sendRawTransaction", "mpcredit_advance", "mpcredit_fund"})


# --------------------------------------------------------------------- the chain in a file


class ChainFile(dict[bytes, bytes]):
    """The key-value store of py-evm, in memory and, from one `flush` to the next, in an SQLite file.

    Args:
        path: the file; made if it is not there, readable by its owner alone.

    Raises:
        StoreError: it cannot be used.
    """

    OFFSET: Final = b"mpcredit/clock-offset"
    """By how much the chain's clock is ahead of this machine's."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._changed: dict[bytes, bytes | None] = {}
        try:
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS node (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
            self.update(self._connection.execute("SELECT key, value FROM node"))
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{path}: the chain cannot be read: {error}",
                remedy="stop the other process that has it open, or begin with a new file",
            ) from error
        self._changed.clear()

    def __setitem__(self, key: bytes, value: bytes) -> None:
        super().__setitem__(key, value)
        self._changed[key] = value

    def __delitem__(self, key: bytes) -> None:
        super().__delitem__(key)
        self._changed[key] = None

    def flush(self) -> None:
        """Write what changed: all of it or nothing."""
        with self._transaction() as connection:
            for key, value in self._changed.items():
                if value is None:
                    connection.execute("DELETE FROM node WHERE key = ?", (key,))
                else:
                    connection.execute("INSERT OR REPLACE INTO node VALUES (?, ?)", (key, value))
        self._changed.clear()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class _Places(dict[bytes, int]):
    """Block number by transaction: of this process's blocks from memory, of earlier ones from the chain."""

    def __init__(self, backend: Any) -> None:
        super().__init__()
        self._backend = backend

    def get(self, key: bytes, default: Any = None) -> Any:
        found = super().get(key)
        if found is not None:
            return found
        try:
            number, _index = self._backend.chain.chaindb.get_transaction_index(key)
        except Exception:  # py-evm raises its own TransactionNotFound, which we do not import for one line
            return default
        return number


# --------------------------------------------------------------------- the node


class EmbeddedNode:
    """Answers JSON-RPC from an embedded chain, as a node would. Threads may share it.

    Args:
        path: file of the chain; None keeps it in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._file = ChainFile(path) if path is not None else None
        self.web3 = tester.embedded_chain()
        provider: Any = self.web3.provider
        if self._file is not None:
            self._attach(provider.ethereum_tester.backend, self._file)
        # The provider's own middleware makes a node's words of eth-tester's; none of the client's is wanted here.
        middleware: tuple[Middleware, ...] = provider._middleware
        self._ask = combine_middleware(middleware, self.web3, provider.make_request)
        self._chain_id = int(self.web3.eth.chain_id)

    @staticmethod
    def _attach(backend: Any, file: ChainFile) -> None:
        """Go on with the chain in the file; a new file begins with this chain's genesis."""
        from eth.db.atomic import AtomicDB
        from eth.db.backends.memory import MemoryDB

        if not file:
            for key, value in backend.chain.chaindb.db.wrapped_db.kv_store.items():
                file[key] = value
            file.flush()
        backend.chain = type(backend.chain)(AtomicDB(MemoryDB(file)))
        backend.offset = int(file.get(ChainFile.OFFSET, b"0"))
        backend.places = _Places(backend)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()

    # ----------------------------------------------------------------- answering

    def answer(self, body: bytes) -> bytes | None:
        """Answer one HTTP body: a request or a batch. None if there is nothing to answer (notifications only)."""
        if body.count(b"[") + body.count(b"{") > MOST_BRACKETS:
            return _dump(_error(None, PARSE_ERROR, "the request is nested too deeply, or too large"))
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            return _dump(_error(None, PARSE_ERROR, "the request is not JSON"))
        if not isinstance(given, list):
            single = self._one(given)
            return None if single is None else _dump(single)
        if not 0 < len(given) <= LARGEST_BATCH:
            return _dump(_error(None, INVALID_REQUEST, f"a batch has 1 to {LARGEST_BATCH} requests"))
        answers = [told for told in map(self._one, given) if told is not None]
        return _dump(answers) if answers else None

    def _one(self, given: Any) -> dict[str, Any] | None:
        if not isinstance(given, dict):
            return _error(None, INVALID_REQUEST, "a request is a JSON object")
        number, method, parameters = given.get("id"), given.get("method"), given.get("params", [])
        if given.get("jsonrpc") != "2.0" or not isinstance(method, str) or isinstance(number, (dict, list, bool)):
            return _error(None, INVALID_REQUEST, "a request has jsonrpc 2.0, a method and an id")
        if not isinstance(parameters, list):
            return _error(number, INVALID_PARAMETERS, "params is a list")
        told = self._call(method, parameters)
        return {"jsonrpc": "2.0", "id": number, **told} if "id" in given else None

    def _call(self, method: str, parameters: list[Any]) -> dict[str, Any]:
        with self._lock:
            try:
                if method in ("eth_chainId", "net_version"):
                    return {"result": hex(self._chain_id) if method == "eth_chainId" else str(self._chain_id)}
                if method == "mpcredit_advance":
                    return {"result": self._advance(*parameters)}
                if method == "mpcredit_fund":
                    return {"result": self._fund(*parameters)}
                if method not in _METHODS:
                    return _fault(NO_METHOD, f"the embedded chain has no method {method[:60]}")
                response: Any = self._ask(RPCEndpoint(method), parameters)
            except (BlockNotFound, TransactionNotFound):
                return {"result": None}
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                # The parameters come from outside, and eth-tester checks them by failing.
                return _fault(INVALID_PARAMETERS, f"invalid parameters: {error}"[:300])
            except Exception as error:  # eth-tester and py-evm raise dozens of types; a node tells them as an error
                return _fault(SERVER_ERROR, f"{error}"[:300] or type(error).__name__)
            finally:
                if self._file is not None and method in _WRITES:
                    self._file.flush()
        if response.get("error") is not None:
            return {"error": response["error"]}
        return {"result": _jsonable(response.get("result"))}

    def _advance(self, seconds: Any) -> bool:
        if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 < seconds <= LONGEST_JUMP:
            raise ValueError(f"seconds must be 1 to {LONGEST_JUMP}")
        tester.advance(self.web3, seconds)
        if self._file is not None:
            backend: Any = self.web3.provider
            self._file[ChainFile.OFFSET] = str(backend.ethereum_tester.backend.offset).encode()
        return True

    def _fund(self, address: Any, wei: Any = None) -> bool:
        if not isinstance(address, str) or not is_address(address):
            raise ValueError("the address is 0x and 40 hexadecimal digits")
        amount = tester.BALANCE if wei is None else int(wei, 16) if isinstance(wei, str) else int(wei)
        if not 0 < amount <= tester.BALANCE:
            raise ValueError(f"an amount is 1 to {tester.BALANCE} wei")
        tester.fund(self.web3, address, amount)
        return True


def _fault(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _error(number: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, **_fault(code, message)}


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _jsonable(value: Any) -> Any:
    """JSON-RPC writes quantities and bytes as hexadecimal text."""
    if value is None or isinstance(value, (str, bool, float)):
        return value
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, (bytes, bytearray)):
        return to_hex(bytes(value))
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(name): _jsonable(part) for name, part in value.items()}
    return [_jsonable(part) for part in value]


# --------------------------------------------------------------------- HTTP


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "mpcredit"
    sys_version = ""
    disable_nagle_algorithm = True  # headers and body are two writes: Nagle would hold the second for 40 ms
    timeout = 300.0
    server: ChainServer

    def do_POST(self) -> None:
        if not self._trusted():
            self._send(403, _dump(_error(None, INVALID_REQUEST, "browsers and other hosts are not served")))
            return
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= LARGEST_BODY:
            self.close_connection = True
            self._send(413, _dump(_error(None, INVALID_REQUEST, f"a request has up to {LARGEST_BODY} bytes")))
            return
        body = self.rfile.read(length)
        answer = self.server.node.answer(body)
        self._send(204 if answer is None else 200, answer or b"")

    def do_GET(self) -> None:
        self.close_connection = True
        self._send(405, b"")

    def _trusted(self) -> bool:
        """Keep out web pages: a browser names the page's origin, and a rebound name shows in Host."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        return self.headers.get("Origin") is None and (host == "localhost" or _is_loopback(host))

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 405:
            self.send_header("Allow", "POST")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        log.debug(format, *arguments)


class ChainServer(ThreadingHTTPServer):
    """The HTTP server of one embedded node.

    Args:
        host, port: where to listen; port 0 takes a free one.
        path: file of the chain; None keeps it in memory.

    Raises:
        LedgerError: the host is not loopback, or the port is taken.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, path: Path | None = None) -> None:
        if not _is_loopback(host):
            raise LedgerError(
                f"the embedded chain does not listen on {host}: it has no protection of any kind",
                remedy="use a loopback address such as 127.0.0.1; for more than one machine run a real node",
            )
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler, bind_and_activate=True)
        except OSError as error:
            raise LedgerError(
                f"the embedded chain cannot listen on {host}:{port}: {error.strerror}",
                remedy="choose another port, or stop what uses it",
            ) from error
        try:
            self.node = EmbeddedNode(path)
        except BaseException:
            self.server_close()
            raise

    @property
    def url(self) -> str:
        """Of its JSON-RPC."""
        host, port = self.server_address[:2]
        name = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{name}:{port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve from a thread of this process; yields the URL."""
        worker = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        worker.start()
        try:
            yield self.url
        finally:
            self.shutdown()
            worker.join()
            self.server_close()
            self.node.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event; anything else is logged."""
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("the embedded chain failed on a request")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def stop_with_parent(stop: Callable[[], object]) -> None:
    """Call `stop`, from a thread, when standard input ends: whoever started this process held the other end, and is gone."""

    def watch() -> None:
        # Not through sys.stdin: its lock, held by a thread that waits, would break the interpreter's end.
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        stop()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def serve_chain(host: str = "127.0.0.1", port: int = 0, *, path: Path | None = None, with_parent: bool = False) -> None:
    """Run the embedded chain until SIGTERM or Ctrl-C; prints its URL on a line of its own once it answers.

    Args:
        host, port: where to listen; port 0 takes a free one.
        path: file of the chain; None keeps it in memory.
        with_parent: stop when standard input ends.

    Raises:
        LedgerError, StoreError: it cannot listen, or the file cannot be used.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: stop.set())
    if with_parent:
        stop_with_parent(stop.set)
    with ChainServer(host, port, path=path).running() as url:
        print(url, flush=True)
        stop.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run `serve_chain` from the command line."""
    parser = argparse.ArgumentParser(prog="python -m mpcredit.server.rpc", description="The embedded chain as a node.")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--path", type=Path, help="file of the chain; by default in memory")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    given = parser.parse_args(arguments)
    try:
        serve_chain(given.host, given.port, path=given.path, with_parent=given.with_parent)
    except (LedgerError, StoreError) as error:
        print(f"error: {error.message}\nremedy: {error.remedy}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
