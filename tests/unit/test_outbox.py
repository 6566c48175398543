"""R24, R25: every step is stored before it is sent, once per key, and sent again unchanged."""

from __future__ import annotations

import pytest
from fakes import FakeChain, FakeSigner, found_town

from mpcredit.errors import LedgerError, Refused
from mpcredit.events import Call
from mpcredit.outbox import Outbox
from mpcredit.store import MemoryStore


@pytest.fixture(scope="module")
def founded() -> FakeChain:
    return found_town(5).chain


@pytest.fixture
def chain(founded: FakeChain) -> FakeChain:
    """A founded consortium; each test has blocks of its own."""
    made = FakeChain()
    made.blocks = list(founded.blocks)
    made.time = founded.time
    return made


@pytest.fixture
def outbox(chain: FakeChain) -> Outbox:
    from fakes import deterministic

    box = Outbox(MemoryStore(), FakeSigner(chain, deterministic("operator 1").address), chain)
    # The account has founded the town with another store; this one starts where that ended.
    box.check_restored()
    return box


def ready(seconds: int = 100) -> Call:
    return Call("consortium", "declareReady", (1_700_000_000 + seconds,))


def test_post__new_key__is_stored_sent_and_mined(outbox: Outbox, chain: FakeChain) -> None:
    row = outbox.post("a", ready())

    assert (row.state, row.block) == ("mined", chain.head().number)
    assert chain.seen[-1].hash == row.tx_hash
    found = outbox.outcome("a")
    assert found is not None
    assert found.succeeded


def test_post__same_key_again__sends_nothing(outbox: Outbox, chain: FakeChain) -> None:
    first = outbox.post("a", ready(1))
    blocks = len(chain.blocks)

    assert outbox.post("a", ready(2)) == first
    assert len(chain.blocks) == blocks


def test_post__contract_would_refuse__stores_nothing(outbox: Outbox) -> None:
    nonce = outbox.next_nonce()

    with pytest.raises(Refused):
        outbox.post("a", Call("consortium", "auditOk", (1, 1)))

    assert outbox.store.outbox_by_key("a") is None
    assert outbox.next_nonce() == nonce
    assert outbox.outcome("a") is None


class Breaking(FakeSigner):
    """Signs, and then the node is gone."""

    def broadcast(self, signed: bytes) -> None:
        raise LedgerError("gone")


def test_post__node_gone_after_signing__is_stored_and_sent_unchanged_later(outbox: Outbox, chain: FakeChain) -> None:
    honest = outbox.signer
    outbox.signer = Breaking(chain, honest.address)
    with pytest.raises(LedgerError):
        outbox.post("a", ready())
    row = outbox.store.outbox_by_key("a")
    assert row is not None
    assert row.state == "prepared"
    outbox.drive()  # still gone: no error, no loss

    outbox.signer = honest
    outbox.drive()

    again = outbox.store.outbox_by_key("a")
    assert again is not None
    assert (again.state, again.raw) == ("mined", row.raw)


def test_drive__held_in_a_mempool__is_sent_again_and_noted_when_mined(outbox: Outbox, chain: FakeChain) -> None:
    chain.held = True
    outbox.post("a", ready(1))
    outbox.post("b", ready(2))
    chain.mempool.clear()  # a node that forgot them

    outbox.drive()
    assert [t.nonce for t in chain.mempool] == sorted(t.nonce for t in chain.mempool)
    chain.mine()
    outbox.drive()

    rows = [outbox.store.outbox_by_key(key) for key in "ab"]
    assert [row.state for row in rows if row] == ["mined", "mined"]


def test_drive__mined_but_failed__is_noted_as_failed(outbox: Outbox, chain: FakeChain) -> None:
    chain.held = True
    outbox.post("a", ready())
    transaction = chain.mempool[0]
    chain.execute = lambda *_: (_ for _ in ()).throw(Refused("no", code="no"))  # type: ignore[method-assign]
    chain.mine()
    outbox.drive()

    row = outbox.store.outbox_by_key("a")
    assert row is not None
    assert (row.state, row.tx_hash) == ("failed", transaction.hash)
    found = outbox.outcome("a")
    assert found is not None
    assert not found.succeeded


def test_drive__reorganised_away__is_sent_again_unchanged(outbox: Outbox, chain: FakeChain) -> None:
    height = len(chain.blocks)
    rows = [outbox.post(key, ready(place)) for place, key in enumerate("ab")]
    outbox.drive(0)
    chain.reorganise(height)

    outbox.drive(1)
    outbox.drive(1)

    again = [outbox.store.outbox_by_key(key) for key in "ab"]
    assert [row.raw for row in again if row] == [row.raw for row in rows]
    assert all(row and row.state == "mined" and chain.outcome(row.tx_hash) for row in again)


# ---------------------------------------------------------------- restores


def test_check_restored__store_knows_all__is_not_marked(outbox: Outbox) -> None:
    at = outbox.restored_at
    outbox.post("a", ready())

    assert not outbox.check_restored()
    assert outbox.restored_at == at


def test_check_restored__account_sent_more_than_the_store_knows__is_marked_and_nonces_go_on(
    outbox: Outbox, chain: FakeChain
) -> None:
    outbox.post("a", ready(1))
    fresh = Outbox(MemoryStore(), outbox.signer, chain)

    assert fresh.check_restored()
    assert fresh.restored_at == chain.head().number
    assert fresh.next_nonce() == outbox.next_nonce()
    assert fresh.post("b", ready(2)).state == "mined"
    assert not fresh.check_restored()


def test_check_restored__declared__is_marked_though_the_nonces_agree(outbox: Outbox, chain: FakeChain) -> None:
    chain.mine([])
    assert outbox.check_restored(declared=True)
    assert outbox.restored_at == chain.head().number


def test_restored_at__never__is_before_every_block(chain: FakeChain) -> None:
    from fakes import deterministic

    assert Outbox(MemoryStore(), FakeSigner(chain, deterministic("new").address), chain).restored_at == -1
