"""Steps that are not mined at once: many under way, fees raised, transactions dropped, nonces taken, blocks replaced."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from fakes import START, FakeChain, FakeSigner, FakeTown, Transaction, deterministic, found_town

from mpcredit.errors import LedgerError, StoreError, TooLarge
from mpcredit.events import Call
from mpcredit.outbox import Outbox, Patience
from mpcredit.store import MemoryStore


@pytest.fixture
def town() -> FakeTown:
    return found_town(4)


@pytest.fixture
def chain(town: FakeTown) -> FakeChain:
    """Mines when it is told to."""
    town.chain.held = True
    return town.chain


@pytest.fixture
def outbox(town: FakeTown, chain: FakeChain) -> Outbox:
    made = town[0].desk.outbox
    made.patience = Patience(seconds=60, blocks=3)
    made.drive()
    return made


def ready(number: int) -> Call:
    """Some step of Bank A, told apart by a number."""
    return Call("consortium", "anchor", (deterministic("owner 0").address, (START + number).to_bytes(32, "big")))


def states(outbox: Outbox) -> list[str]:
    store: Any = outbox.store
    return [row.state for row in store.outbox_rows() if "step" in row.key]


def versions(outbox: Outbox, key: str = "step") -> list[Transaction]:
    return [pickle.loads(version.raw) for version in outbox.store.outbox_versions(key)]


def wait(outbox: Outbox, seconds: int = 30, blocks: int = 4) -> None:
    """Blocks go by without our transactions, and the outbox looks after each."""
    for _ in range(blocks):
        outbox.drive()
        outbox.ledger.advance(seconds)  # type: ignore[attr-defined]
    outbox.drive()


# --------------------------------------------------------------------- many under way


def test_several_posted__are_under_way_together_and_mined_in_order(chain: FakeChain, outbox: Outbox) -> None:
    rows = [outbox.post(f"step {i}", ready(i)) for i in range(5)]
    assert [row.nonce for row in rows] == list(range(rows[0].nonce, rows[0].nonce + 5))
    assert states(outbox) == ["sent"] * 5

    chain.mine()
    outbox.drive()

    assert states(outbox) == ["mined"] * 5


def test_under_way_and_known_to_the_node__nothing_is_sent_again(chain: FakeChain, outbox: Outbox) -> None:
    for i in range(3):
        outbox.post(f"step {i}", ready(i))
    sent = len(chain.seen)

    for _ in range(5):
        outbox.drive()

    assert len(chain.seen) == sent


def test_node_dropped_some__only_those_are_sent_again_unchanged(chain: FakeChain, outbox: Outbox) -> None:
    rows = [outbox.post(f"step {i}", ready(i)) for i in range(3)]
    del chain.mempool[1:]
    sent = len(chain.seen)

    outbox.drive()

    assert [t.raw for t in chain.seen[sent:]] == [row.raw for row in rows[1:]]


def test_call_has_become_useless__its_nonce_is_used_and_those_behind_are_mined(
    town: FakeTown, chain: FakeChain, outbox: Outbox
) -> None:
    chain.held = False
    inquiry = town.inquiry(_opened(town), by=1)
    chain.held = True
    outbox.post("step a", town.call("refuse", inquiry.id, 0, 2, b""))
    outbox.post("step b", ready(7))
    chain.mine(
        [Transaction(town.accounts[2].address, town.call("refuse", inquiry.id, 2, 2, b""), town.signer(2).nonce())]
    )

    chain.mine()
    outbox.drive()

    assert states(outbox) == ["failed", "mined"]


def _opened(town: FakeTown) -> str:
    request = town.ask(1, by=1)
    town[1].work()
    return request


# --------------------------------------------------------------------- fees


def test_unmined_for_long__is_signed_anew_with_the_same_call_and_nonce(chain: FakeChain, outbox: Outbox) -> None:
    chain.fee = 1
    row = outbox.post("step", ready(1))

    wait(outbox)
    chain.mine()
    outbox.drive()

    first, second = versions(outbox)
    assert (first.call, first.nonce, first.fee) == (second.call, second.nonce, 0)
    assert second.fee == 1
    settled = outbox.store.outbox_by_key("step")
    assert settled is not None
    assert (settled.state, settled.tx_hash) == ("mined", second.hash)
    assert settled.tx_hash != row.tx_hash


@pytest.mark.parametrize(("seconds", "blocks"), [(1, 10), (60, 2)])
def test_unmined__not_for_so_many_seconds_and_blocks__is_left_alone(
    chain: FakeChain, outbox: Outbox, seconds: int, blocks: int
) -> None:
    chain.fee = 1
    outbox.post("step", ready(1))

    wait(outbox, seconds, blocks)

    assert len(versions(outbox)) == 1


def test_queue_moves_on__those_behind_are_left_alone(chain: FakeChain, outbox: Outbox) -> None:
    for i in range(4):
        outbox.post(f"step {i}", ready(i))
    chain.fee = 0
    for _ in range(4):  # one in each block
        chain.mine([chain.mempool.pop(0)])
        chain.advance(60)
        outbox.drive()

    assert states(outbox) == ["mined"] * 4
    assert [len(versions(outbox, f"step {i}")) for i in range(4)] == [1] * 4


def test_earlier_version_is_mined__it_counts_and_the_step_was_done_once(chain: FakeChain, outbox: Outbox) -> None:
    chain.fee = 1
    row = outbox.post("step", ready(1))
    wait(outbox)
    chain.fee = 0
    chain.mine([versions(outbox)[0]])  # by a miner that had kept it

    outbox.drive()

    settled = outbox.store.outbox_by_key("step")
    assert settled is not None
    assert (settled.state, settled.tx_hash, settled.raw) == ("mined", row.tx_hash, row.raw)


def test_new_version_is_in_the_store_before_it_is_sent(
    chain: FakeChain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.fee = 1
    outbox.post("step", ready(1))
    send, known = outbox.signer.broadcast, []

    def broadcast(raw: bytes) -> None:
        known.append(raw in [version.raw for version in outbox.store.outbox_versions("step")])
        send(raw)

    monkeypatch.setattr(outbox.signer, "broadcast", broadcast)
    wait(outbox)

    assert known == [True]


def test_crash_after_signing_anew__the_stored_version_is_sent_by_the_next_process(
    chain: FakeChain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.fee = 1
    outbox.post("step", ready(1))

    class Killed(BaseException):
        pass

    def killed(_raw: bytes) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(outbox.signer, "broadcast", killed)
        with pytest.raises(Killed):
            wait(outbox)
    chain.mempool.clear()  # and the node was restarted too
    Outbox(outbox.store, outbox.signer, outbox.ledger).drive()
    chain.mine()
    again = Outbox(outbox.store, outbox.signer, outbox.ledger)
    again.drive()

    assert len(versions(outbox)) == 2
    assert states(again) == ["mined"]


def test_node_asks_for_more_at_once__is_signed_anew_without_waiting(chain: FakeChain, outbox: Outbox) -> None:
    chain.floor = 1

    row = outbox.post("step", ready(1))

    assert row.state == "sent"
    assert [made.fee for made in versions(outbox)] == [0, 1]


def test_ceiling__is_told_and_the_step_waits_until_fees_fall(chain: FakeChain, outbox: Outbox) -> None:
    signer: Any = outbox.signer
    signer.ceiling = 2
    chain.floor = 5
    outbox.post("step", ready(1))

    outbox.drive()
    outbox.drive()
    assert any("ceiling" in text for text in outbox.alarms)
    assert states(outbox) == ["prepared"]
    assert max(made.fee for made in versions(outbox)) == 2

    chain.floor = 0
    outbox.drive()
    chain.mine()
    outbox.drive()
    assert states(outbox) == ["mined"]
    assert outbox.alarms == ()


def test_ledger_without_fees__is_never_signed_anew_and_the_wait_is_told(chain: FakeChain, outbox: Outbox) -> None:
    outbox.post("step", ready(1))
    wait(outbox)

    assert len(versions(outbox)) == 1
    assert "waits since block" in outbox.alarms[0]


# --------------------------------------------------------------------- gaps, and other programs


def test_nonce_that_nobody_uses__is_filled_when_the_wait_is_long(town: FakeTown, chain: FakeChain) -> None:
    # Another program's transaction was in the mempool when this store was made, and was dropped.
    signer = town.signer(0)
    chain.mempool.append(Transaction(signer.address, ready(3), signer.mined()))
    outbox = Outbox(MemoryStore(), signer, chain)
    outbox.adopt()
    chain.mempool.clear()
    row = outbox.post("step", ready(1))
    assert row.nonce == signer.mined() + 1

    wait(outbox)
    chain.mine()
    outbox.drive()
    chain.mine()
    outbox.drive()

    assert states(outbox) == ["mined"]
    assert [row.state for row in outbox.store.outbox_rows() if row.key.startswith("fill/")] == ["mined"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("confirmations", [0, 3])
def test_nonce_taken_by_another_program__stops_the_store_at_once_and_fails_the_step_once_final(
    chain: FakeChain, outbox: Outbox, confirmations: int
) -> None:
    outbox.confirmations = confirmations
    row = outbox.post("step 1", ready(1))
    behind = outbox.post("step 2", ready(2))
    chain.mempool.clear()
    taker = Transaction(outbox.signer.address, ready(9), row.nonce)
    chain.mine([taker])

    outbox.drive()
    assert taker.hash.hex() in outbox.foreign
    if confirmations:
        assert states(outbox) == ["sent", "sent"]
        chain.advance(1)
        chain.advance(1)
        chain.advance(1)
        outbox.drive()

    assert taker.hash.hex() in outbox.alarms[0]
    assert states(outbox)[0] == "failed"
    with pytest.raises(StoreError, match=taker.hash.hex()):
        outbox.post("step 3", ready(3))
    chain.mine()
    outbox.drive()
    assert states(outbox)[1] == "mined"
    assert behind.nonce == row.nonce + 1


def test_nonce_taken__new_tenure_and_restart__is_over(chain: FakeChain, outbox: Outbox) -> None:
    row = outbox.post("step", ready(1))
    chain.mempool.clear()
    chain.mine([Transaction(outbox.signer.address, ready(9), row.nonce)])
    outbox.adopt()  # before it was looked at
    chain.advance(100)

    again = Outbox(outbox.store, outbox.signer, outbox.ledger)
    again.drive()

    assert states(again) == ["failed"]
    assert again.foreign == ""
    assert again.post("step 2", ready(2)).nonce == row.nonce + 1


def test_nonce_used_and_nothing_shown__is_told_and_waits(
    chain: FakeChain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = outbox.post("step", ready(1))
    chain.mempool.clear()
    chain.mine([Transaction(outbox.signer.address, ready(9), row.nonce)])
    monkeypatch.setattr(outbox.signer, "taker", lambda _nonce: None)

    outbox.drive()

    assert states(outbox) == ["sent"]
    assert "does not show" in outbox.alarms[0]


def test_account_signs_through_another_signer__first_version_stays_ours(chain: FakeChain, outbox: Outbox) -> None:
    """A receipt that lags behind the account's count: the taker is our own transaction."""
    row = outbox.post("step", ready(1))
    chain.mine()
    with pytest.MonkeyPatch.context() as late:
        late.setattr(outbox.ledger, "outcome", lambda _hash: None)
        outbox.drive()
        assert states(outbox) == ["sent"]
    outbox.drive()

    assert states(outbox) == ["mined"]
    assert row.tx_hash == FakeSigner(chain, outbox.signer.address).taker(row.nonce).hash  # type: ignore[union-attr]


# --------------------------------------------------------------------- blocks replaced


def test_block_that_no_reader_saw_is_replaced__the_step_is_sent_again(chain: FakeChain, outbox: Outbox) -> None:
    """The reader's head stands; only the outbox had looked further. Without the account's count this waited for ever."""
    outbox.post("step", ready(1))
    height = len(chain.blocks)
    chain.mine()
    outbox.drive(7)
    assert states(outbox) == ["mined"]

    chain.reorganise(height)
    outbox.drive(7)  # the same generation

    assert states(outbox) == ["sent"]
    chain.mine()
    outbox.drive(7)
    assert states(outbox) == ["mined"]


def test_node_is_down__nothing_is_changed(chain: FakeChain, outbox: Outbox) -> None:
    outbox.post("step", ready(1))
    chain.down = True

    with pytest.raises(LedgerError):
        outbox.drive()

    assert states(outbox) == ["sent"]


# --------------------------------------------------------------------- what no node takes


def opening(outbox: Outbox) -> Call:
    """A step of unbounded size."""
    return Call("consortium", "sealMaskKeys", (0, 1, 1, b"large"))


def mine_both(chain: FakeChain) -> None:
    """The fake's mempool is in the order of arrival: the filler came after the step behind it."""
    chain.mine()
    chain.mine()


def test_no_node_takes_it_and_nothing_waits_behind__it_waits_and_is_told(chain: FakeChain, outbox: Outbox) -> None:
    chain.too_large = lambda transaction: transaction.call.function == "sealMaskKeys"
    with pytest.raises(TooLarge):
        outbox.post("step", opening(outbox))

    wait(outbox)

    assert states(outbox) == ["prepared"]
    assert [version.kind for version in outbox.store.outbox_versions("step")] == ["step"]
    assert "oversized data" in outbox.alarms[0]


def test_no_node_takes_it_and_others_wait__a_filler_takes_its_nonce_and_they_are_mined(
    chain: FakeChain, outbox: Outbox
) -> None:
    chain.too_large = lambda transaction: transaction.call.function == "sealMaskKeys"
    with pytest.raises(TooLarge):
        outbox.post("step 1", opening(outbox))
    nonce = outbox.next_nonce() - 1
    outbox.post("step 2", ready(1))

    outbox.drive()
    mine_both(chain)
    outbox.drive()

    assert states(outbox) == ["failed", "mined"]
    assert [(made.call.function, made.nonce) for made in versions(outbox, "step 1")] == [
        ("sealMaskKeys", nonce),
        ("nothing", nonce),
    ]
    assert outbox.filled_at("step 1") == chain.blocks[-2].block.number
    assert outbox.filled_at("step 2") is None
    assert outbox.alarms == ()


def test_filler_is_mined__is_no_sign_of_a_restore(
    chain: FakeChain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.too_large = lambda transaction: transaction.call.function == "sealMaskKeys"
    with pytest.raises(TooLarge):
        outbox.post("step 1", opening(outbox))
    outbox.post("step 2", ready(1))
    outbox.drive()
    mine_both(chain)
    with monkeypatch.context() as late:  # the account's count is there before the receipts
        late.setattr(outbox.ledger, "outcome", lambda _hash: None)
        outbox.drive()
    outbox.drive()

    outbox.compare()
    assert outbox.foreign == ""
    # The rejected twin: a transaction of the account that is none of the step's versions.
    row = outbox.post("step 3", ready(2))
    chain.mempool.clear()
    chain.mine([Transaction(outbox.signer.address, ready(9), row.nonce)])
    outbox.drive()
    assert outbox.foreign


@pytest.mark.parametrize("function", ["contribute", "refuse", "report"])
def test_answer_or_report_that_the_node_calls_too_large__is_never_replaced(
    chain: FakeChain, outbox: Outbox, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "execute", lambda *_: [])  # the name of the call is all that counts here
    chain.too_large = lambda transaction: transaction.call.function == function
    with pytest.raises(TooLarge):
        outbox.post("step 1", Call("consortium", function))
    outbox.post("step 2", ready(1))

    wait(outbox)

    assert [version.kind for version in outbox.store.outbox_versions("step 1")] == ["step"]
    assert "step 1 was not taken" in outbox.alarms[0]


def test_filler__its_fee_is_raised_like_a_steps_and_it_stays_a_filler(chain: FakeChain, outbox: Outbox) -> None:
    chain.too_large = lambda transaction: transaction.call.function == "sealMaskKeys"
    with pytest.raises(TooLarge):
        outbox.post("step 1", opening(outbox))
    outbox.post("step 2", ready(1))
    chain.fee = 1

    wait(outbox)
    mine_both(chain)
    outbox.drive()

    kinds = [(version.kind, pickle.loads(version.raw).fee) for version in outbox.store.outbox_versions("step 1")]
    assert kinds == [("step", 0), ("filler", 0), ("filler", 1)]
    assert states(outbox) == ["failed", "mined"]


def test_filler_is_replaced_by_its_step_in_a_reorganisation__the_step_counts(chain: FakeChain, outbox: Outbox) -> None:
    chain.too_large = lambda transaction: transaction.call.function == "sealMaskKeys"
    with pytest.raises(TooLarge):
        outbox.post("step 1", opening(outbox))
    outbox.post("step 2", ready(1))
    outbox.drive()
    height = len(chain.blocks)
    mine_both(chain)
    outbox.drive(1)
    assert states(outbox) == ["failed", "mined"]

    chain.reorganise(height)
    chain.mine([versions(outbox, "step 1")[0], *versions(outbox, "step 2")])  # some miner had it
    outbox.drive(2)

    assert states(outbox) == ["mined", "mined"]
    assert outbox.filled_at("step 1") is None


def test_crash_between_storing_the_filler_and_sending_it__the_next_process_sends_it(
    chain: FakeChain, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.too_large = lambda transaction: transaction.call.function == "sealMaskKeys"
    with pytest.raises(TooLarge):
        outbox.post("step 1", opening(outbox))
    outbox.post("step 2", ready(1))

    class Killed(BaseException):
        pass

    def broadcast(raw: bytes) -> None:
        if pickle.loads(raw).call.function == "nothing":
            raise Killed
        FakeSigner.broadcast(outbox.signer, raw)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(outbox.signer, "broadcast", broadcast)
        with pytest.raises(Killed):
            outbox.drive()
    again = Outbox(outbox.store, outbox.signer, outbox.ledger)
    again.drive()
    mine_both(chain)
    again.drive()

    assert states(again) == ["failed", "mined"]
    assert len(versions(again, "step 1")) == 2
