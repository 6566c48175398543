"""A browser-like client that talks to an app in this process. (Starlette's own wants a package that we do not have.)"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
from fastapi import FastAPI

__all__ = ["LocalClient"]


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> Any:
        for chunk in self._chunks:
            yield chunk


class LocalClient:
    """Keeps headers and cookies between requests.

    Args:
        app: what answers.
        base_url: what the Host header is made of.
        client: address and port from which the requests come.
    """

    def __init__(self, app: FastAPI, base_url: str, client: tuple[str, int] = ("127.0.0.1", 50000)) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app, client=client), base_url=base_url)
        self.headers = self._client.headers
        self.cookies = self._client.cookies

    def request(
        self, method: str, path: str, *, content: bytes | Iterator[bytes] = b"", **given: Any
    ) -> httpx.Response:
        """Send one request."""
        stream = content if isinstance(content, bytes) else _Chunks(content)
        return asyncio.run(self._client.request(method, path, content=stream, **given))

    def get(self, path: str, **given: Any) -> httpx.Response:
        """Send a GET."""
        return self.request("GET", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        """Send a POST."""
        return self.request("POST", path, **given)
