"""The ledger port over a node: where blocks, outcomes and transactions are, and what if the node is no help."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from chain_world import DEPLOYER, OUTSIDER, World, everybody, make_world
from web3.exceptions import Web3RPCError

from mpcredit.chain import ChainLedger, artifacts, connect, joint_credit_init_code
from mpcredit.chain.anvil import Anvil
from mpcredit.encoding import keccak
from mpcredit.errors import LedgerError, MpcreditError, WrongLedger
from mpcredit.events import Call, Contributed, Event, Opened, ReadinessSet

# --------------------------------------------------------------------- who is there


def test_realm_and_name__are_those_of_chain_and_contract(world: World) -> None:
    assert world.ledger.realm.chain_id == world.web3.eth.chain_id
    assert world.ledger.realm.consortium == world.deployed.consortium
    assert world.ledger.name == "Taiwan test consortium"


def test_connect__other_chain_id__is_the_wrong_ledger(world: World) -> None:
    with pytest.raises(WrongLedger, match="belongs to chain") as caught:
        ChainLedger(world.web3, world.deployed.consortium, chain_id=5)

    assert "chain id" in caught.value.remedy


def test_connect__address_without_code__is_the_wrong_ledger(world: World) -> None:
    with pytest.raises(WrongLedger, match="no contract at"):
        ChainLedger.connect(world.web3, OUTSIDER.address)


def test_connect__other_contract__is_the_wrong_ledger(world: World) -> None:
    with pytest.raises(WrongLedger, match="not a Consortium"):
        ChainLedger(world.web3, world.deployed.joint_credit)


def test_connect__no_address__is_the_wrong_ledger(world: World) -> None:
    with pytest.raises(WrongLedger, match="not an Ethereum address"):
        ChainLedger(world.web3, "0x1234")


def test_connect__address_in_lower_case__is_taken_with_its_checksum(world: World) -> None:
    ledger = ChainLedger(world.web3, world.deployed.consortium.lower())

    assert ledger.realm == world.ledger.realm


# --------------------------------------------------------------------- blocks and transactions


def test_block__at_head_below_and_above(world: World) -> None:
    head = world.ledger.head()

    assert world.ledger.block(head.number) == head
    below = world.ledger.block(head.number - 1)
    assert below is not None
    assert below.timestamp <= head.timestamp
    assert world.ledger.block(head.number + 1) is None


def test_first_block__is_that_of_the_creation(world: World) -> None:
    assert ChainLedger(world.web3, world.deployed.consortium).first_block() == world.deployed.creation.block


def test_first_block__node_without_old_state__is_the_first_of_the_chain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ChainLedger(world.web3, world.deployed.consortium)

    def pruned(*_: Any) -> bytes:
        raise Web3RPCError("missing trie node")

    monkeypatch.setattr(ledger.web3.eth, "get_code", pruned)

    assert ledger.first_block() == 0


def test_outcome__unknown_transaction__is_none(world: World) -> None:
    assert world.ledger.outcome(b"\x01" * 32) is None


def test_outcome__names_block_and_gas(world: World) -> None:
    outcome = world.do(world.service(1), "setReady", 1, False)
    (event,) = world.ledger.events(outcome.block, outcome.block)
    world.ready(1)

    assert isinstance(event, ReadinessSet)
    assert outcome.succeeded
    assert 21_000 < outcome.gas_used < 100_000
    assert world.ledger.outcome(event.at.transaction) == outcome


@pytest.mark.parametrize("kind", ["legacy", "access list", "dynamic fee"])
def test_transaction__of_each_type__has_its_hash(world: World, kind: str) -> None:
    fees = {
        "legacy": {"gasPrice": 10 * 10**9},
        "access list": {
            "gasPrice": 10 * 10**9,
            "accessList": [{"address": world.deployed.consortium, "storageKeys": [7]}],
        },
        "dynamic fee": {"maxFeePerGas": 10 * 10**9, "maxPriorityFeePerGas": 10**9},
    }[kind]
    if kind == "access list":
        fees["accessList"] = ({"address": world.deployed.consortium, "storageKeys": ("0x" + "07" * 32,)},)
    fields = {
        "chainId": world.ledger.realm.chain_id,
        "nonce": world.signer(OUTSIDER).nonce(),
        "to": DEPLOYER.address,
        "value": 3,
        "gas": 100_000,
        "data": b"",
        **fees,
    }
    raw = bytes(OUTSIDER.sign_transaction(fields).raw_transaction)
    world.signer(OUTSIDER).broadcast(raw)

    assert world.ledger.transaction(keccak(raw)) == raw


def test_transaction__creation_and_call__have_their_hashes(world: World) -> None:
    for event in world.all_events():
        assert keccak(world.ledger.transaction(event.at.transaction)) == event.at.transaction


def test_transaction__unknown__is_a_ledger_error(world: World) -> None:
    with pytest.raises(LedgerError, match="does not have"):
        world.ledger.transaction(b"\x01" * 32)


def test_transaction__node_returns_another__is_a_ledger_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = world.web3.eth.get_transaction(world.all_events()[0].at.transaction)
    monkeypatch.setattr(world.web3.eth, "get_transaction", lambda _hash: other)

    with pytest.raises(LedgerError, match="another transaction"):
        world.ledger.transaction(world.all_events()[-1].at.transaction)


def test_signed_by__the_call_on_this_chain__names_who_signed_it_and_nothing_else(world: World) -> None:
    signer = world.signer(OUTSIDER)
    target = world.deployed.joint_credit
    call = Call(target, "refuse", (b"\x07" * 32, 1, 3, b""))
    data = artifacts.joint_credit().call_data("refuse", (b"\x07" * 32, 1, 3, b""))
    fields = {"nonce": signer.nonce(), "to": target, "value": 0, "gas": 100_000, "data": data, "gasPrice": 10 * 10**9}
    raw = bytes(OUTSIDER.sign_transaction({**fields, "chainId": world.ledger.realm.chain_id}).raw_transaction)
    signer.broadcast(raw)

    # It was mined and failed: the signature is what is looked at.
    assert world.ledger.signed_by(keccak(raw), call) == OUTSIDER.address
    assert world.ledger.signed_by(keccak(raw), Call(target, "refuse", (b"\x08" * 32, 1, 3, b""))) is None
    assert world.ledger.signed_by(keccak(raw), Call(target, "contribute", (b"\x07" * 32, 1, b""))) is None
    assert world.ledger.signed_by(keccak(raw), Call(OUTSIDER.address, "refuse", (b"\x07" * 32, 1, 3, b""))) is None
    assert world.ledger.signed_by(b"\x01" * 32, call) is None


def test_signed_by__node_returns_another_transaction__is_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    events = world.all_events()
    other = world.web3.eth.get_transaction(events[0].at.transaction)
    monkeypatch.setattr(world.web3.eth, "get_transaction", lambda _hash: other)

    call = Call(world.deployed.joint_credit, "refuse", (b"\x07" * 32, 1, 3, b""))
    assert world.ledger.signed_by(events[-1].at.transaction, call) is None


# --------------------------------------------------------------------- events


def test_events__any_split_of_the_range__gives_the_same(world: World) -> None:
    first, last = world.deployed.first_block, world.ledger.head().number
    whole = world.ledger.events(first, last)

    pieces: list[Event] = []
    for start in range(first, last + 1, 3):
        pieces += world.ledger.events(start, min(start + 2, last))

    assert tuple(pieces) == whole
    assert world.ledger.events(first, last + 100) == whole
    assert world.ledger.events(last + 1, last + 100) == ()
    assert world.ledger.events(last, first) == ()


def test_events__node_that_takes_three_blocks_at_a_time__gives_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ChainLedger(world.web3, world.deployed.consortium)
    honest, asked = world.web3.eth.get_logs, []

    def picky(wanted: Any) -> Any:
        asked.append(wanted["toBlock"] - wanted["fromBlock"] + 1)
        if asked[-1] > 3:
            raise Web3RPCError("query returned more than 10000 results")
        return honest(wanted)

    monkeypatch.setattr(world.web3.eth, "get_logs", picky)
    found = ledger.events(world.deployed.first_block, ledger.head().number)

    monkeypatch.undo()
    assert min(asked) <= 3 < max(asked)
    assert found == world.all_events()


def test_events__node_that_refuses_even_one_block__is_a_ledger_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(_: Any) -> Any:
        raise Web3RPCError("logs are switched off")

    monkeypatch.setattr(world.web3.eth, "get_logs", refusing)

    with pytest.raises(LedgerError, match="logs are switched off"):
        world.all_events()


def lying(change: Callable[[list[dict[str, Any]]], Any], honest: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def get_logs(wanted: Any) -> Any:
        logs = [dict(log) for log in honest(wanted)]
        return logs if "topics" in wanted else change(logs)

    return get_logs


def test_events__duplicates_removed_and_unordered__come_once_in_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = world.all_events()
    change = lying(
        lambda logs: [*reversed(logs), *logs, {**logs[0], "removed": True, "logIndex": 99}], world.web3.eth.get_logs
    )
    monkeypatch.setattr(world.web3.eth, "get_logs", change)

    assert world.all_events() == expected


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda logs: [*logs, {**logs[-1], "data": bytes(32)}], id="two logs at one place"),
        pytest.param(lambda logs: [{**logs[0], "address": OUTSIDER.address}], id="of a stranger"),
        pytest.param(lambda logs: [{**logs[0], "blockNumber": 10**9}], id="of a block not asked for"),
        pytest.param(lambda logs: [*logs, {**logs[-1], "blockHash": bytes(32), "logIndex": 77}], id="of two forks"),
        pytest.param(lambda logs: [{**logs[0], "blockHash": b"\x01" * 32}], id="of an unknown block"),
        pytest.param(lambda logs: [{**logs[0], "topics": []}], id="without a topic"),
        pytest.param(lambda _: [{}], id="without fields"),
        pytest.param(lambda _: None, id="none at all"),
    ],
)
def test_events__logs_that_cannot_be_right__are_a_ledger_error(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[list[dict[str, Any]]], Any]
) -> None:
    monkeypatch.setattr(world.web3.eth, "get_logs", lying(change, world.web3.eth.get_logs))

    with pytest.raises(LedgerError) as caught:
        world.all_events()
    assert caught.value.remedy


def test_call__view_that_reverts__is_refused(world: World) -> None:
    with pytest.raises(MpcreditError) as caught:
        world.ledger.call(Call("consortium", "member", (99,)))

    assert getattr(caught.value, "code", None) == "UnknownMember"


# --------------------------------------------------------------------- reorganisations (Anvil can make them)


@pytest.fixture
def reorganised() -> Iterator[World]:
    with Anvil() as running:
        for address in everybody():
            running.fund(address)
        yield make_world(running.web3, running.advance, running)


@pytest.mark.anvil
def test_reorganisation__changes_the_hash_and_takes_events_away(reorganised: World) -> None:
    world = reorganised
    assert world.anvil is not None
    opened = world.open()
    world.anvil.mine()
    before = world.ledger.block(opened.at.block)

    world.anvil.reorganise(2)

    after = world.ledger.block(opened.at.block)
    assert before is not None
    assert after is not None
    assert after.number == before.number
    assert after.hash != before.hash
    assert world.ledger.events(opened.at.block, world.ledger.head().number) == ()
    assert world.ledger.outcome(opened.at.transaction) is None


@pytest.mark.anvil
def test_reorganisation__of_a_joint_credit__is_forgotten_and_found_again(reorganised: World) -> None:
    world = reorganised
    assert world.anvil is not None
    code = joint_credit_init_code() + b"\x01"
    approval = artifacts.consortium().call_data("approveJointCredit", (keccak(code),))
    world.carry(approval)
    world.do(world.signer(DEPLOYER), "createJointCredit", code)
    both = world.ledger.joint_credits()

    world.anvil.reorganise(1)
    after = world.ledger.joint_credits()
    world.anvil.mine(3)
    world.ready(0, 1, 2, 3)
    world.do(world.signer(DEPLOYER), "createJointCredit", code)
    new = world.view("jointCredit")
    opened = world.open(on=new)

    assert len(both) == 2
    assert after == {world.deployed.joint_credit}
    assert world.ledger.joint_credits() == {world.deployed.joint_credit, new}
    found = world.all_events()
    assert [event.at.contract for event in found if isinstance(event, Opened)] == [new]
    assert opened in found
    assert not [event for event in found if isinstance(event, Contributed)]


# --------------------------------------------------------------------- nodes that are no help


def test_down_endpoint__is_a_ledger_error_with_advice() -> None:
    with pytest.raises(LedgerError, match=r"http://127\.0\.0\.1:1 cannot be reached") as caught:
        ChainLedger("http://user:secret@127.0.0.1:1/path?key=secret", OUTSIDER.address)

    assert "start the node" in caught.value.remedy
    assert "secret" not in str(caught.value)


def test_endpoint__that_is_no_http_url__is_a_ledger_error() -> None:
    with pytest.raises(LedgerError, match="no http"):
        connect("ws://127.0.0.1:8546")


@pytest.fixture
def answering() -> Iterator[Callable[[Any, int], str]]:
    """An HTTP server that answers everything with one body."""
    answer: dict[str, Any] = {"body": b"", "status": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if answer["status"] == 0:
                stalled.wait(5)
                return
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(answer["body"])))
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *_: Any) -> None:
            pass

    stalled = threading.Event()
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def answer_with(body: Any, status: int = 200) -> str:
        answer.update(body=body if isinstance(body, bytes) else json.dumps(body).encode(), status=status)
        return f"http://127.0.0.1:{server.server_port}"

    yield answer_with
    stalled.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"<html>", 200, "makes no sense|cannot be reached"),
        (b"", 500, "cannot be reached"),
        (b"[]", 200, "makes no sense"),
        (b"null", 200, "makes no sense"),
        ({"jsonrpc": "2.0", "id": 0}, 200, "refused|makes no sense"),
        ({"jsonrpc": "2.0", "id": 0, "result": "no number"}, 200, "makes no sense"),
        ({"jsonrpc": "2.0", "id": 0, "result": None}, 200, "no usable chain id|makes no sense"),
        ({"jsonrpc": "2.0", "id": 0, "error": {"code": -32601, "message": "no such method"}}, 200, "no such method"),
    ],
)
def test_endpoint__that_answers_nonsense__is_a_ledger_error(
    answering: Callable[[Any, int], str], body: Any, status: int, message: str
) -> None:
    with pytest.raises(LedgerError, match=message) as caught:
        ChainLedger(answering(body, status), OUTSIDER.address)

    assert caught.value.remedy


def test_endpoint__that_does_not_answer__is_a_ledger_error(answering: Callable[[Any, int], str]) -> None:
    web3 = connect(answering(b"", 0), timeout=0.2)

    with pytest.raises(LedgerError, match="did not answer in time"):
        ChainLedger(web3, OUTSIDER.address)
