"""Several endpoints of one ledger: real nodes, reached through relays that fail, lag and lie.

A second node of the same chain is a fork of the first (`anvil --fork-url`): up to the fork its blocks are the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chain_world import DEPLOYER, World, account, everybody, founding, make_world, step
from relay import Relay

from mpcredit.chain import ChainLedger, ChainSigner, Endpoints, Web3, deploy, several
from mpcredit.chain.anvil import Anvil
from mpcredit.cli._examination import Examination
from mpcredit.cli.doctor import _endpoints
from mpcredit.config import read_config
from mpcredit.errors import EndpointsDisagree, LedgerError, WrongLedger
from mpcredit.follower import Follower

pytestmark = pytest.mark.anvil
SELECTOR = "0x" + Web3.keccak(text="roster()")[:4].hex()


class Clock:
    """Real time, and as much more as a test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture(scope="module")
def node() -> Iterator[Anvil]:
    with Anvil() as running:
        for address in everybody():
            running.fund(address)
        yield running


@pytest.fixture(scope="module")
def town(node: Anvil) -> World:
    return make_world(node.web3, node.advance, node)


@pytest.fixture
def first(node: Anvil) -> Iterator[Relay]:
    with Relay(node.url) as relay:
        yield relay


@pytest.fixture
def second(node: Anvil) -> Iterator[Relay]:
    with Relay(node.url) as relay:
        yield relay


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client(town: World, *relays: Any, **options: Any) -> Web3:
    return several(
        [relay.url for relay in relays],
        chain_id=31337,
        consortium=town.deployed.consortium,
        **{"timeout": 1.0, **options},
    )


def ledger_of(town: World, *relays: Any, **options: Any) -> ChainLedger:
    return ChainLedger(
        client(town, *relays, **options), town.deployed.consortium, first_block=town.deployed.first_block
    )


def states(ledger: ChainLedger) -> list[str]:
    return [one.state for one in ledger.endpoints()]


# --------------------------------------------------------------------- failing


@pytest.mark.parametrize("weather", ["down", "HTTP 503", "stalled", "nonsense"])
def test_first_fails__the_next_answers_and_it_is_told_once(
    town: World, first: Relay, second: Relay, weather: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = ledger_of(town, first, second)
    before = ledger.head()

    first.down = weather == "down"
    first.status = 503 if weather == "HTTP 503" else 200
    if weather == "stalled":
        first.stall.clear()
    if weather == "nonsense":
        first.lie = lambda method, parameters, result: {"number": "x"} if method == "eth_getBlockByNumber" else result
    with caplog.at_level(logging.WARNING, "mpcredit"):
        heads = [ledger.head() for _ in range(3)]

    assert heads == [before] * 3
    assert states(ledger) == ["unfit", "in use"]
    assert caplog.text.count("the ledger is read from") == 1
    assert second.url in caplog.text


def test_first_works_again__is_used_again_after_a_while(
    town: World, first: Relay, second: Relay, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = ledger_of(town, first, second, clock=clock)
    first.down = True
    ledger.head()
    first.down = False

    ledger.head()
    assert states(ledger) == ["unfit", "in use"]  # not at once
    clock.ahead += 10
    with caplog.at_level(logging.WARNING, "mpcredit"):
        ledger.head()

    assert states(ledger) == ["in use", "fit"]
    assert "fit again" in caplog.text


def test_it_fails_again_and_again__is_tried_less_and_less_often(
    town: World, first: Relay, second: Relay, clock: Clock
) -> None:
    ledger = ledger_of(town, first, second, clock=clock)
    first.down = True
    provider: Any = ledger.web3.provider
    pauses = []
    for _ in range(9):
        ledger.head()
        pauses.append(round(provider._places[0].retry_at - clock()))
        clock.ahead += pauses[-1] + 1

    assert pauses == sorted(pauses)
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == 300


def test_all_are_down__says_which_and_why_and_goes_on_when_one_is_back(
    town: World, first: Relay, second: Relay, clock: Clock
) -> None:
    ledger = ledger_of(town, first, second, clock=clock)
    first.down = second.down = True

    with pytest.raises(LedgerError, match="no endpoint of the ledger is fit") as caught:
        ledger.head()
    assert first.url in caught.value.message
    assert second.url in caught.value.message
    second.down = False
    clock.ahead += 3

    assert ledger.head().number > 0


def test_transaction_is_sent__while_the_first_fails(town: World, first: Relay, second: Relay) -> None:
    web3 = client(town, first, second)
    signer = ChainSigner(web3, account(3), town.deployed.consortium)
    signed = signer.sign(step(1), signer.nonce())

    def dies(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_sendRawTransaction":  # it has handed it on
            first.down = True
            raise OSError
        return result

    first.lie = dies
    signer.broadcast(signed.raw)
    signer.broadcast(signed.raw)

    assert first.down
    assert signer.wallet.wait(signed.hash, timeout=5).succeeded


# --------------------------------------------------------------------- another ledger


def test_other_chain_id__is_never_gone_over_to(town: World, first: Relay, second: Relay) -> None:
    second.lie = lambda method, parameters, result: "0x1" if method == "eth_chainId" else result
    ledger = ledger_of(town, first, second)
    first.down = True

    with pytest.raises(LedgerError, match="belongs to chain 1, not 31337"):
        ledger.head()


def test_other_first_block__is_never_gone_over_to(town: World, first: Relay) -> None:
    with Anvil() as other:  # the same chain id
        other.fund(DEPLOYER.address)
        deploy(other.web3, DEPLOYER, founding())
        ledger = ledger_of(town, first, other)
        ledger.head()
        first.down = True

        with pytest.raises(LedgerError, match="another first block"):
            ledger.head()


def test_configured_first_block__holds_also_for_the_first_that_answers(town: World, node: Anvil, first: Relay) -> None:
    genesis = "0x" + bytes(node.web3.eth.get_block(0)["hash"]).hex()
    assert ledger_of(town, first, genesis=genesis).head().number > 0

    with pytest.raises(WrongLedger, match="another first block"):
        ledger_of(town, first, genesis="0x" + "11" * 32)


def test_no_consortium_there__is_never_gone_over_to(town: World, first: Relay, second: Relay) -> None:
    second.lie = lambda method, parameters, result: "0x" if method == "eth_getCode" else result
    ledger = ledger_of(town, first, second)
    first.down = True

    with pytest.raises(LedgerError, match="no contract at the Consortium's address"):
        ledger.head()


def test_all_belong_to_another_ledger__is_the_wrong_ledger(town: World, first: Relay, second: Relay) -> None:
    for relay in (first, second):
        relay.lie = lambda method, parameters, result: "0x1" if method == "eth_chainId" else result

    with pytest.raises(WrongLedger, match="no endpoint belongs"):
        ledger_of(town, first, second)


# --------------------------------------------------------------------- behind


def test_first_falls_behind__the_next_is_used(town: World, node: Anvil, first: Relay, second: Relay) -> None:
    ledger = ledger_of(town, first, second, behind_blocks=3)
    ledger.head()
    node.mine(10)
    seen = ledger.head().number

    first.ends_at = seen - 4
    assert ledger.head().number == seen

    assert states(ledger) == ["unfit", "in use"]
    assert "4 behind" in ledger.endpoints()[0].trouble


def test_next_is_a_little_behind__is_waited_for(
    town: World, node: Anvil, first: Relay, second: Relay, clock: Clock
) -> None:
    ledger = ledger_of(town, first, second, behind_blocks=3, clock=clock)
    node.mine(5)
    seen = ledger.head().number
    first.down, second.ends_at = True, seen - 2

    with pytest.raises(LedgerError, match="waited for"):
        ledger.head()
    second.ends_at = None

    assert ledger.head().number == seen


def test_next_shows_a_history_that_is_cut_off__is_never_accepted(
    town: World, node: Anvil, first: Relay, second: Relay, clock: Clock
) -> None:
    ledger = ledger_of(town, first, second, behind_blocks=3, clock=clock)
    node.mine(20)
    seen = ledger.head().number
    first.down, second.ends_at = True, seen - 15

    for _ in range(3):
        clock.ahead += 1000
        with pytest.raises(LedgerError, match="15 behind"):
            ledger.head()


def test_endpoint_changes_between_head_and_events__nothing_is_left_out(
    town: World, node: Anvil, first: Relay, second: Relay
) -> None:
    ledger = ledger_of(town, first, second)
    town.ready(0)
    head = ledger.head()
    second.ends_at = head.number - 1

    def logs_fail(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_getLogs":
            first.down = True
        return result

    first.lie = logs_fail
    with pytest.raises(LedgerError):
        ledger.events(0, head.number)


# --------------------------------------------------------------------- two histories


def test_forked_history__is_noticed_at_the_start_and_nothing_is_read(town: World, node: Anvil, first: Relay) -> None:
    with Anvil(arguments=("--fork-url", node.url)) as fork:
        node.mine(12)
        fork.mine(12)
        follower = Follower(ledger_of(town, first, fork))

        for _ in range(2):  # not only once
            with pytest.raises(EndpointsDisagree, match="show different ledgers") as caught:
                follower.sync()

        assert first.url in caught.value.message
        assert fork.url in caught.value.message
        assert "take the other one out" in caught.value.remedy


def test_forked_history__in_place_of_what_was_seen_is_not_gone_over_to(
    town: World, node: Anvil, first: Relay, clock: Clock
) -> None:
    with Anvil(arguments=("--fork-url", node.url)) as fork:
        ledger = ledger_of(town, first, fork, clock=clock)
        node.mine(4)
        for _ in range(12):
            node.mine()
            ledger.head()
        fork.mine(20)
        first.down = True

        with pytest.raises(LedgerError, match=r"another block \d+ than was seen"):
            ledger.head()


def test_other_roster_at_the_same_block__is_noticed(town: World, node: Anvil, first: Relay, second: Relay) -> None:
    node.mine(1)
    roster = "0x" + "77" * 32
    lie = lambda method, parameters, result: roster if _asks_roster(method, parameters) else result  # noqa: E731
    second.lie = lie

    with pytest.raises(EndpointsDisagree, match="different rosters or terms") as caught:
        Follower(ledger_of(town, first, second)).sync()

    assert roster in caught.value.message


def test_events_left_out_by_the_first__are_noticed_by_the_seconds_roster(
    town: World, node: Anvil, first: Relay, second: Relay
) -> None:
    """The last change of the roster is hidden: consistent in itself, and the node shows the true block hashes."""
    logs = [log for log in town.all_events() if type(log).__name__ == "RosterChanged"]
    hidden = logs[-1].at

    def hide(method: str, parameters: list[Any], result: Any) -> Any:
        if method != "eth_getLogs":
            return result
        return [log for log in result if int(log["blockNumber"], 16) != hidden.block]

    first.lie = hide
    with pytest.raises(EndpointsDisagree, match="rosters or terms"):
        Follower(ledger_of(town, first, second)).sync()


def _asks_roster(method: str, parameters: list[Any]) -> bool:
    return method == "eth_call" and (parameters[0].get("data") or parameters[0].get("input")) == SELECTOR


def test_disagreement_ends__work_goes_on(
    town: World, node: Anvil, first: Relay, second: Relay, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    second.lie = lambda method, parameters, result: "0x" + "77" * 32 if method == "eth_call" else result
    follower = Follower(ledger_of(town, first, second, clock=clock))
    with pytest.raises(EndpointsDisagree):
        follower.sync()
    second.lie = lambda method, parameters, result: result
    with pytest.raises(EndpointsDisagree):
        follower.sync()  # not looked at again yet

    clock.ahead += 20
    with caplog.at_level(logging.WARNING, "mpcredit"):
        follower.sync()

    assert "agree again" in caplog.text
    assert follower.head is not None


def test_agreement__is_looked_at_again_after_so_many_seconds(
    town: World, node: Anvil, first: Relay, second: Relay, clock: Clock
) -> None:
    follower = Follower(ledger_of(town, first, second, clock=clock, compare_seconds=600))
    follower.sync()
    second.lie = lambda method, parameters, result: "0x" + "77" * 32 if method == "eth_call" else result
    follower.sync()

    clock.ahead += 601
    with pytest.raises(EndpointsDisagree):
        follower.sync()


def test_second_is_down__the_first_alone_is_told_and_used(
    town: World, first: Relay, second: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    second.down = True
    follower = Follower(ledger_of(town, first, second))

    with caplog.at_level(logging.WARNING, "mpcredit"):
        follower.sync()
        follower.sync()

    assert caplog.text.count("nothing bears out the history") == 1


def test_first_is_cut_off_from_the_start__the_longer_one_is_used(
    town: World, node: Anvil, first: Relay, second: Relay
) -> None:
    node.mine(20)
    first.ends_at = node.web3.eth.block_number - 15
    follower = Follower(ledger_of(town, first, second, wall=lambda: time.time() + 3600))  # its newest block is old

    with pytest.raises(LedgerError, match="15 blocks less"):
        follower.sync()
    follower.sync()

    assert follower.head is not None
    assert follower.head.number == node.web3.eth.block_number
    assert states(follower.ledger) == ["unfit", "in use"]  # type: ignore[arg-type]


def test_first_contradicts_itself__the_next_is_used(town: World, first: Relay, second: Relay) -> None:
    changes = [event for event in town.all_events() if type(event).__name__ == "RosterChanged"]

    def hide(method: str, parameters: list[Any], result: Any) -> Any:
        if method != "eth_getLogs":
            return result
        return [log for log in result if int(log["logIndex"], 16) != changes[2].at.log_index]

    first.lie = hide
    follower = Follower(ledger_of(town, first, second))

    with pytest.raises(WrongLedger):
        follower.sync()
    follower.sync()

    assert len(follower.state.active()) == 4


def test_urls__that_are_none_or_twice_are_refused() -> None:
    with pytest.raises(LedgerError, match="no http"):
        Endpoints(["ws://127.0.0.1:1", "http://127.0.0.1:2"], chain_id=1)
    with pytest.raises(LedgerError, match="twice"):
        Endpoints(["http://127.0.0.1:2", "http://127.0.0.1:2"], chain_id=1)


def test_names__show_no_key_of_a_providers_url() -> None:
    endpoints = Endpoints(["https://user:secret@node.example/v3/key", "http://127.0.0.1:2"], chain_id=1)

    assert [one.name for one in endpoints.states()] == ["https://node.example", "http://127.0.0.1:2"]


def test_doctor__shows_each_endpoint(town: World, first: Relay, second: Relay, tmp_path: Path) -> None:
    second.lie = lambda method, parameters, result: "0x1" if method == "eth_chainId" else result
    place = tmp_path / "bank.toml"
    place.write_text(
        f'''role = "institution"
[ledger]
endpoints = ["{first.url}", "{second.url}"]
chain_id = 31337
consortium = "{town.deployed.consortium}"
'''
    )
    examination = Examination()

    _endpoints(examination, read_config(place))

    assert [(check.name, check.state) for check in examination.checks] == [("endpoint", "ok"), ("endpoint", "WRONG")]
    assert f"{second.url} belongs to chain 1" in examination.checks[1].detail
    assert "take it out" in examination.checks[1].remedy


# --------------------------------------------------------------------- blocks made up on top


def _made_up(blocks: int) -> Any:
    """An endpoint that passes on the true history, and says that it goes on: there it could show any terms."""

    def lie(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_getBlockByNumber" and parameters[0] == "latest":
            return {**result, "number": hex(int(result["number"], 16) + blocks), "hash": "0x" + "66" * 32}
        return result

    return lie


@pytest.mark.parametrize("liar", [0, 1], ids=["the first lies", "the second lies"])
def test_blocks_made_up_on_top__are_not_believed_and_the_true_one_is_not_called_behind(
    town: World, node: Anvil, first: Relay, second: Relay, clock: Clock, liar: int
) -> None:
    node.mine(2)
    newest = node.web3.eth.get_block("latest")
    (first, second)[liar].lie = _made_up(50)
    there = client(town, first, second, clock=clock, wall=lambda: newest["timestamp"] + 5)
    endpoints: Any = there.provider
    head = endpoints._block(endpoints._places[endpoints._current], "latest")

    for _ in range(3):
        with pytest.raises(EndpointsDisagree, match="50 blocks more"):
            endpoints.witness(head, bytes(32))
        clock.ahead += 20

    assert endpoints.endpoint_uri == first.url


def test_blocks_made_up_on_top__the_true_one_that_was_called_behind_is_a_witness_at_once(
    town: World, node: Anvil, first: Relay, second: Relay, clock: Clock
) -> None:
    # The liar serves while the true one is down; that comes back, and is asked although it is called unfit.
    node.mine(2)
    newest = node.web3.eth.get_block("latest")
    first.down, second.lie = True, _made_up(50)
    there = client(town, first, second, clock=clock, wall=lambda: newest["timestamp"] + 5)
    there.eth.get_block("latest")
    first.down = False
    endpoints: Any = there.provider
    clock.ahead += 5
    endpoints.tend()
    assert [one.state for one in endpoints.states()] == ["unfit", "in use"]

    with pytest.raises(EndpointsDisagree, match="50 blocks more"):
        endpoints.witness(endpoints._block(endpoints._places[1], "latest"), bytes(32))


def test_comparison_at_once__is_made_before_it_is_time(town: World, first: Relay, second: Relay) -> None:
    follower = Follower(ledger_of(town, first, second))
    follower.sync()

    def other_roster(method: str, parameters: list[Any], result: Any) -> Any:
        return "0x" + "11" * 32 if _asks_roster(method, parameters) else result

    second.lie = other_roster
    follower.sync()
    with pytest.raises(EndpointsDisagree, match="different rosters"):
        follower.bear_out()
