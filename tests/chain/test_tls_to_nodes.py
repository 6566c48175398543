"""TLS to the ledger's nodes, for real: an authority of our own, with and without a client certificate."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import certificates
from relay import Relay

from mpcredit.chain import Tls, connect, is_private, several
from mpcredit.chain.anvil import Anvil
from mpcredit.chain.client import Endpoint
from mpcredit.errors import LedgerError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    certificates(made)
    return made


@pytest.fixture(scope="module", params=["one side", "mutual"])
def node(request: pytest.FixtureRequest, place: Path) -> Iterator[tuple[str, bool]]:
    """A node's https URL, and whether it asks for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "server.pem", place / "server.key")
    mutual = request.param == "mutual"
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(place / "authority.pem")
    with Anvil(chain_id=77) as anvil, Relay(anvil.url, context) as relay:
        yield relay.url, mutual


def clients(url: str, tls: Tls | None) -> list[Endpoint]:
    return [Endpoint(connect(url, tls=tls)), Endpoint(several([url], chain_id=77, tls=tls))]


def test_node_of_our_authority__is_read_with_what_it_asks_for(node: tuple[str, bool], place: Path) -> None:
    url, mutual = node
    ours = Tls(place / "authority.pem", *((place / "client.pem", place / "client.key") if mutual else ()))

    assert url.startswith("https://")
    for endpoint in clients(url, ours):
        assert endpoint.chain_id(77) == 77


def test_node_that_is_not_trusted__or_does_not_trust_us__is_said_so(node: tuple[str, bool], place: Path) -> None:
    url, mutual = node
    for tls in [None, *([Tls(place / "authority.pem")] if mutual else [])]:
        for endpoint in clients(url, tls):
            with pytest.raises(LedgerError, match=r"not trusted|client certificate|cannot be reached|fails") as caught:
                endpoint.chain_id(77)
            assert tls is not None or "not trusted" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://node.bank.example", True),
        ("http://127.0.0.1:8545", True),
        ("http://[::1]:8545", True),
        ("http://localhost:8545/key", True),
        ("http://node.bank.example", False),
        ("http://10.0.0.1:8545", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", False),
        ("ws://node", False),
    ],
)
def test_is_private__https_or_this_machine(url: str, private: bool) -> None:
    assert is_private(url) is private
