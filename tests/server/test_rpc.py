"""The embedded chain as a node: as JSON-RPC says, as Anvil answers, and the same after its process was started again.

Branches: a request - a batch - a notification - what is no request; a refusal with its revert data; the private methods;
who is kept out; the chain in a file.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "chain"))
from chain_world import DEPLOYER, OUTSIDER, World, everybody, make_world

from mpcredit.chain import Wallet, connect, faults, tester
from mpcredit.chain.client import Endpoint
from mpcredit.errors import LedgerError, MpcreditError, StoreError
from mpcredit.events import Call, Opened
from mpcredit.server.rpc import LARGEST_BODY, ChainServer, EmbeddedNode


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A running chain whose accounts have funds."""
    with ChainServer().running() as found:
        endpoint = Endpoint(found)
        for address in everybody():
            endpoint.raw("fund", "mpcredit_fund", [address])
        yield found


@pytest.fixture(scope="module")
def world(url: str) -> World:
    """A consortium on it, founded over the URL."""
    endpoint = Endpoint(url)
    return make_world(connect(url), lambda seconds: endpoint.raw("advance", "mpcredit_advance", [seconds]))


def post(url: str, body: bytes, **headers: str) -> tuple[int, Any]:
    """Send bytes; status and JSON that come back."""
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", "/", body, {"Content-Type": "application/json", **names})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def ask(url: str, method: str, *parameters: Any) -> dict[str, Any]:
    """One request."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
    status, answer = post(url, body)
    assert status == 200
    assert isinstance(answer, dict)
    return answer


# --------------------------------------------------------------------- what it answers


def test_request__has_the_form_of_json_rpc_with_quantities_in_hexadecimal(url: str) -> None:
    block = ask(url, "eth_getBlockByNumber", "latest", False)

    assert block["jsonrpc"] == "2.0"
    assert block["id"] == 1
    assert block["result"]["number"].startswith("0x")
    assert int(block["result"]["gasLimit"], 16) == tester.GAS_LIMIT
    assert ask(url, "eth_chainId")["result"] == hex(int(ask(url, "net_version")["result"]))


def test_batch__is_answered_in_order_without_the_notifications(url: str) -> None:
    calls = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 2, "method": "eth_nothing"},
        5,
    ]

    status, answers = post(url, json.dumps(calls).encode())

    assert status == 200
    assert [answer["id"] for answer in answers] == ["a", 2, None]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, -32601, -32600]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"[" * 100_000, -32700),
        (b"[" * 5_000, -32700),
        (b"[]", -32600),
        (b'"eth_chainId"', -32600),
        (b'{"id": 1, "method": "eth_chainId"}', -32600),
        (b'{"jsonrpc": "2.0", "id": [], "method": "eth_chainId"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": {}}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": ["0x12", "latest"]}', None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": []}', None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x00"]}', None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [7, "latest"]}', None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "mpcredit_advance", "params": [-1]}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "mpcredit_fund", "params": ["x"]}', -32602),
    ],
)
def test_what_is_no_request__is_an_error_and_the_node_goes_on(url: str, body: bytes, code: int | None) -> None:
    status, answer = post(url, body)

    assert status == 200
    assert answer["error"]["code"] == code if code is not None else answer["error"]["code"] < 0
    assert ask(url, "eth_chainId")["result"]


def test_notification_alone__has_no_answer(url: str) -> None:
    assert post(url, b'{"jsonrpc": "2.0", "method": "eth_chainId"}') == (204, None)


def test_what_is_not_there__is_null(url: str) -> None:
    nobody = "0x" + "11" * 32

    for method in ("eth_getTransactionByHash", "eth_getTransactionReceipt"):
        assert ask(url, method, nobody)["result"] is None
    assert ask(url, "eth_getBlockByNumber", "0xffffff", False)["result"] is None


@pytest.mark.parametrize("method", ["eth_sendTransaction", "eth_accounts", "evm_revert", "testing_timeTravel"])
def test_methods_of_the_tester__are_not_offered(url: str, method: str) -> None:
    assert ask(url, method, {})["error"]["code"] == -32601


# --------------------------------------------------------------------- the adapter over it


def test_consortium__is_founded_and_an_inquiry_opened_over_the_url(world: World) -> None:
    opened = world.open()

    outcome = world.contribute(opened.inquiry, 1)

    assert outcome.succeeded
    events = world.all_events()
    assert [event for event in events if isinstance(event, Opened)] == [opened]
    assert world.ledger.transaction(opened.at.transaction)[:1] == b"\x02"


def test_refusal__comes_with_the_code_and_revert_data_of_a_node(world: World, url: str) -> None:
    data = "0x" + world.web3.keccak(text="nothing()")[:4].hex()
    told = ask(url, "eth_call", {"to": world.deployed.consortium, "data": data}, "latest")
    assert told["error"]["code"] == 3

    with pytest.raises(faults.ContractRefused) as caught:
        world.signer(OUTSIDER).sign(Call("consortium", "setReady", (0, True)), 0)

    assert caught.value.code == "NotAccount"


def test_threads__are_served_one_after_the_other(url: str) -> None:
    found: list[int] = []

    def ask_often() -> None:
        web3 = connect(url)
        found.extend(web3.eth.get_block("latest")["number"] for _ in range(20))

    threads = [threading.Thread(target=ask_often) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 120


def test_advance__moves_the_time_of_the_next_blocks(url: str) -> None:
    def time_of_head() -> int:
        return int(ask(url, "eth_getBlockByNumber", "latest", False)["result"]["timestamp"], 16)

    before = time_of_head()

    assert ask(url, "mpcredit_advance", 86_400)["result"] is True

    assert time_of_head() >= before + 86_400


# --------------------------------------------------------------------- who is kept out


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])
def test_host_beyond_loopback__is_refused(host: str) -> None:
    with pytest.raises(LedgerError, match="no protection"):
        ChainServer(host)


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example:8545"}])
def test_browser__is_not_served(url: str, headers: dict[str, str]) -> None:
    status, answer = post(url, b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}', **headers)

    assert status == 403
    assert "browsers" in answer["error"]["message"]


def test_body_too_large__is_refused_unread(url: str) -> None:
    status, _answer = post(url, b"", Content_Length=str(LARGEST_BODY + 1))

    assert status == 413


def test_port_in_use__is_told(url: str) -> None:
    with pytest.raises(LedgerError, match="cannot listen"):
        ChainServer(port=int(url.rsplit(":", 1)[1]))


# --------------------------------------------------------------------- the chain in a file


def send(url: str) -> bytes:
    """One transaction; its hash."""
    Endpoint(url).raw("fund", "mpcredit_fund", [DEPLOYER.address])
    signed, _outcome = Wallet(url, DEPLOYER).send(OUTSIDER.address, b"")
    return signed.hash


def test_file__chain_goes_on_where_it_was_with_its_clock(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    with ChainServer(path=path).running() as url:
        transaction = send(url)
        Endpoint(url).raw("advance", "mpcredit_advance", [5_000])
        head = dict(connect(url).eth.get_block("latest"))

    with ChainServer(path=path).running() as url:
        web3 = connect(url)
        again = dict(web3.eth.get_block("latest"))
        receipt = web3.eth.get_transaction_receipt(transaction)  # type: ignore[arg-type]
        later = web3.eth.get_transaction_receipt(send(url))  # type: ignore[arg-type]
        moved = web3.eth.get_block(later["blockNumber"])

    assert again == head
    assert receipt["status"] == 1
    assert moved["parentHash"] != head["hash"]  # the funding is between
    assert moved["number"] == head["number"] + 2
    assert head["timestamp"] <= moved["timestamp"] <= head["timestamp"] + 60
    assert path.stat().st_mode & 0o077 == 0


def test_file__killed_process_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    command = [sys.executable, "-m", "mpcredit.server.rpc", "--path", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        transaction = send(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)

    node = EmbeddedNode(path)

    assert node.web3.eth.get_transaction_receipt(transaction)["status"] == 1  # type: ignore[arg-type]
    node.close()


def test_file__of_another_kind__is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    path.write_text("this is not a database, but it is long enough to be looked at" * 20)

    with pytest.raises(StoreError, match="cannot be read"):
        ChainServer(path=path)


def test_file__in_use__is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    with ChainServer(path=path).running(), pytest.raises(MpcreditError, match="cannot be read"):
        ChainServer(path=path)


# --------------------------------------------------------------------- the process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process__stops_cleanly(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mpcredit.server.rpc"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(number)
        _out, errors = process.communicate(timeout=20)

    assert (process.returncode, errors) == (0, "")


def test_process_with_parent__ends_when_the_pipe_does() -> None:
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "mpcredit.server.rpc", "--with-parent"],
        stdin=read,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(read)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        os.close(write)
        _out, errors = process.communicate(timeout=20)

    assert (process.returncode, errors) == (0, "")


def test_process__that_cannot_listen__says_why() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mpcredit.server.rpc", "--host", "192.0.2.1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == LedgerError.exit_code
    assert done.stderr.startswith("error: the embedded chain does not listen on 192.0.2.1")
    assert "remedy: " in done.stderr
