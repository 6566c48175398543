"""TLS for real: uvicorn with the arguments of the settings, an authority of our own, with and without client certificates."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from argon2 import PasswordHasher
from certificates import certificates
from fastapi import FastAPI

from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.people import People
from mpcredit.server.security import install
from mpcredit.server.settings import ServerSettings


@contextmanager
def _serving(directory: Path, *lines: str) -> Iterator[str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    path = directory / "bank.toml"
    path.write_text(
        "\n".join(["[server]", f"port = {port}", 'tls_certificate = "server.pem"', 'tls_key = "server.key"', *lines])
    )
    settings = ServerSettings.load(path)
    database = Database(settings.database)
    database.upgrade()
    app = FastAPI()
    install(app, settings, People(database, AuditLog(database), hasher=PasswordHasher(1, 8, 1)))
    app.get("/")(lambda: "home")
    server = uvicorn.Server(uvicorn.Config(app, **settings.uvicorn()))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(200):
            if server.started:
                break
            time.sleep(0.05)
        yield settings.origin
    finally:
        server.should_exit = True
        thread.join(20)
        database.close()


def _trusting(directory: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(directory / "authority.pem"))


def test_tls__serves_https_and_no_plain_http(tmp_path: Path) -> None:
    certificates(tmp_path)
    with _serving(tmp_path) as origin:
        answer = httpx.get(origin, verify=_trusting(tmp_path))
        assert (answer.status_code, answer.json()) == (200, "home")
        assert "strict-transport-security" in answer.headers
        assert "server" not in answer.headers
        with pytest.raises(httpx.HTTPError):
            httpx.get(origin.replace("https", "http"))


def test_tls__mutual__refuses_who_has_no_certificate(tmp_path: Path) -> None:
    certificates(tmp_path)
    with _serving(tmp_path, 'tls_client_ca = "authority.pem"') as origin:
        with pytest.raises(httpx.HTTPError):
            httpx.get(origin, verify=_trusting(tmp_path))
        context = _trusting(tmp_path)
        context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        assert httpx.get(origin, verify=context).json() == "home"
