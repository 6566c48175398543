"""A TCP endpoint in front of a real node, in bad weather: down, stalled, behind, or lying. For tests."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.request import Request, urlopen

__all__ = ["Relay"]

Lie = Callable[[str, list[Any], Any], Any]


class Relay:
    """An endpoint of its own URL that passes on to a node what the weather lets through.

    Args:
        url: of the node.
        tls: speak https, so.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.node = url
        self.down = False
        """Connections are cut before an answer."""
        self.status = 200
        """Another one is answered with it."""
        self.stall = threading.Event()
        self.stall.set()
        """Cleared: answers are held back."""
        self.ends_at: int | None = None
        """It knows no block above: a node that lags, or a history that is cut off."""
        self.lie: Lie = lambda method, parameters, result: result
        """Makes what is answered of method, parameters and the node's result."""
        self.asked: list[str] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                relay.stall.wait(20)
                if relay.down:
                    self.close_connection = True
                    self.connection.close()
                    return
                told = b"{}" if relay.status != 200 else relay.answer(body)
                self.send_response(relay.status)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # a connection that we cut, or that was not waited for
                    super().handle()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            # The handshake is the handler's, in its own thread: one that fails must not end the server.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def answer(self, body: bytes) -> bytes:
        given = json.loads(body)
        method, parameters = given["method"], given.get("params", [])
        self.asked.append(method)
        if self.ends_at is not None:
            end = hex(self.ends_at)
            parameters = [end if one == "latest" else one for one in parameters]
            if method == "eth_getBlockByNumber" and int(parameters[0], 16) > self.ends_at:
                return json.dumps({"jsonrpc": "2.0", "id": given["id"], "result": None}).encode()
            if method == "eth_getLogs":
                last = min(int(parameters[0]["toBlock"], 16), self.ends_at)
                parameters = [{**parameters[0], "toBlock": hex(last)}]
        passed = json.dumps({**given, "params": parameters}).encode()
        request = Request(self.node, data=passed, headers={"Content-Type": "application/json"})
        with urlopen(request, timeout=20) as response:
            told = json.loads(response.read())
        if "result" in told:
            told["result"] = self.lie(method, parameters, told["result"])
        return json.dumps(told).encode()

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stall.set()
        self._server.shutdown()
        self._server.server_close()
