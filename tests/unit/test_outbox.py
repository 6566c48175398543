"""Every ledger step once, stored before it is sent, sent again unchanged, also after blocks were replaced (R24, R25)."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fakes import START, FakeTown, deterministic, found_town

from mpcredit.errors import LedgerError, Refused, StoreError
from mpcredit.events import Call
from mpcredit.outbox import Outbox
from mpcredit.store import MemoryStore


@pytest.fixture
def town() -> FakeTown:
    return found_town(4)


@pytest.fixture
def outbox(town: FakeTown) -> Outbox:
    """Of Bank A; looked after once."""
    made = town[0].desk.outbox
    made.drive()
    return made


def ready(number: int) -> Call:
    """Some step of Bank A, told apart by a number."""
    return Call("consortium", "anchor", (deterministic("owner 0").address, (START + number).to_bytes(32, "big")))


def states(outbox: Outbox) -> dict[str, str]:
    """State by key."""
    store: Any = outbox.store
    return {row.key: row.state for row in store.outbox_rows()}


def test_post__signs_stores_and_sends_once_for_a_key(town: FakeTown, outbox: Outbox) -> None:
    before = len(town.chain.blocks)

    first = outbox.post("step", ready(1))
    second = outbox.post("step", ready(2))

    assert first == second
    assert first.state == "mined"
    assert len(town.chain.blocks) == before + 1


def test_post__is_in_the_store_before_it_is_sent(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(outbox.signer, "broadcast", lambda raw: seen.append(states(outbox)["step"]))

    outbox.post("step", ready(1))

    assert seen == ["prepared"]


def test_contract_would_refuse__nothing_is_stored_and_the_nonce_is_free(outbox: Outbox) -> None:
    nonce = outbox.next_nonce()

    with pytest.raises(Refused):
        outbox.post("step", Call("consortium", "suspend", (deterministic("supervisor owner").address, 0)))

    assert "step" not in states(outbox)
    assert outbox.next_nonce() == nonce


def test_node_fails_while_it_is_sent__drive_sends_the_same_bytes(
    town: FakeTown, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_raw: bytes) -> None:
        raise LedgerError("the connection broke")

    with monkeypatch.context() as broken:
        broken.setattr(outbox.signer, "broadcast", fails)
        with pytest.raises(LedgerError):
            outbox.post("step", ready(1))
        outbox.drive()  # still broken: kept, and no error of the others' steps
    assert states(outbox)["step"] == "prepared"
    row = outbox.store.outbox_by_key("step")
    assert row is not None

    outbox.drive()

    assert states(outbox)["step"] == "mined"
    assert town.chain.outcome(row.tx_hash) is not None
    assert [outcome.succeeded for outcome in [outbox.outcome("step")] if outcome] == [True]


def test_outcome__none_while_it_is_under_way_or_unknown(town: FakeTown, outbox: Outbox) -> None:
    town.chain.held = True
    outbox.post("step", ready(1))

    assert outbox.outcome("step") is None
    assert outbox.outcome("never posted") is None


@pytest.mark.parametrize("known_by", ["a reader", "a restart"])
def test_blocks_replaced__what_was_mined_is_sent_again_unchanged(
    town: FakeTown, outbox: Outbox, known_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    height = len(town.chain.blocks)
    rows = [outbox.post(f"step {i}", ready(i)) for i in range(3)]
    gone = town.chain.reorganise(height + 1)
    assert len(gone) == 2

    with caplog.at_level(logging.WARNING):
        if known_by == "a reader":
            outbox.drive(1)
        else:
            Outbox(outbox.store, outbox.signer, outbox.ledger).drive()

    again = [outbox.store.outbox_by_key(row.key) for row in rows]
    assert [row.state for row in again if row] == ["mined"] * 3
    assert [row.raw for row in again if row] == [row.raw for row in rows]
    assert caplog.text.count("is sent again") == 2
    assert town.chain.nonce(outbox.signer.address) == outbox.next_nonce()


def test_blocks_replaced__what_was_mined_elsewhere_is_noted_and_not_sent(town: FakeTown, outbox: Outbox) -> None:
    height = len(town.chain.blocks)
    row = outbox.post("step", ready(1))
    gone = town.chain.reorganise(height)
    town.chain.mine(gone)
    sent = len(town.chain.seen)

    outbox.drive(1)

    noted = outbox.store.outbox_by_key("step")
    assert noted is not None
    assert (noted.state, noted.block) == ("mined", height + 1)
    assert row.block == height
    assert len(town.chain.seen) == sent


def test_generation_unchanged__nothing_mined_is_looked_at_again(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.post("step", ready(1))
    outbox.drive(4)
    asked: list[bytes] = []
    monkeypatch.setattr(outbox.ledger, "outcome", asked.append)

    outbox.drive(4)

    assert asked == []


def test_look_again__stops_at_the_first_step_that_stands(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        outbox.post(f"step {i}", ready(i))
    asked: list[bytes] = []
    read = outbox.ledger.outcome

    def outcome(transaction: bytes) -> Any:
        asked.append(transaction)
        return read(transaction)

    monkeypatch.setattr(outbox.ledger, "outcome", outcome)
    outbox.drive(1)

    assert len(asked) == 1


def test_account_sent_more_than_the_store_knows__stops_it_until_a_person_goes_on_above(town: FakeTown) -> None:
    outbox = town[0].desk.outbox
    outbox.compare()
    assert outbox.foreign == ""
    made = town.signer(0).sign(ready(9), outbox.next_nonce())
    town.signer(0).broadcast(made.raw)

    with pytest.raises(StoreError, match=made.hash.hex()):
        outbox.post("step", ready(1))

    assert outbox.store.outbox_by_key("step") is None
    assert "--new-tenure" in outbox.foreign
    outbox.adopt()
    assert outbox.post("step", ready(1)).nonce == made.nonce + 1
    assert outbox.foreign == ""


def test_account_sent_more_on_the_word_of_a_node__stops_it_and_raises_no_nonce(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = town[0].desk.outbox
    known = outbox.next_nonce()
    with monkeypatch.context() as lie:
        lie.setattr(outbox.signer, "nonce", lambda: known + 5)
        outbox.compare()

    with pytest.raises(StoreError, match="the node says"):
        outbox.post("step", ready(1))
    assert outbox.next_nonce() == known

    made = town.signer(0).sign(ready(9), known)  # then it is true, and proven
    town.signer(0).broadcast(made.raw)
    outbox.compare()
    monkeypatch.setattr(outbox.signer, "taker", lambda _nonce: None)
    outbox.compare()
    assert made.hash.hex() in outbox.foreign


def test_supervisor_account_sent_more_than_the_store_knows__goes_on_above(town: FakeTown) -> None:
    outbox = Outbox(MemoryStore(), town.signer(0), town.chain, adopts=True)

    row = outbox.post("step", ready(1))

    assert (row.nonce, outbox.foreign) == (town.chain.nonce(outbox.signer.address) - 1, "")
