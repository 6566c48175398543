"""A furnisher's steps in bad weather, on Anvil: many under way, dropped, too cheap, taken by others, taken off the ledger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flow_world import BITS, Customers, ask, return_all, rows_of, terms

from mpcredit.chain import ChainSigner
from mpcredit.chain.anvil import Anvil
from mpcredit.chain.transactions import parse_signed
from mpcredit.encoding import to_hex
from mpcredit.errors import LedgerError, StoreError
from mpcredit.events import Call
from mpcredit.inquirer import RequestState
from mpcredit.local import LocalConsortium, local_consortium
from mpcredit.outbox import Patience
from mpcredit.ports import OutboxRow

pytestmark = pytest.mark.anvil

GWEI = 10**9
FURNISHER = "Bank B"


@pytest.fixture(scope="module")
def founded() -> Iterator[LocalConsortium]:
    """Four institutions on Anvil."""
    with local_consortium(institutions=4, bits=BITS, chain="anvil", parameters=terms(minimum_cohort=3)) as made:
        yield made


@pytest.fixture(scope="module")
def customers(founded: LocalConsortium) -> Customers:
    """Each is asked about once."""
    return Customers(founded)


@pytest.fixture
def consortium(founded: LocalConsortium) -> Iterator[LocalConsortium]:
    """All asleep; the chain mines at once in the end, and everybody is at rest again."""
    founded.asleep.update(founded.institutions)
    yield founded
    anvil_of(founded).do("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    anvil_of(founded).mine(1)
    still(founded, False)
    return_all(founded)


def anvil_of(consortium: LocalConsortium) -> Anvil:
    assert consortium.chain.anvil is not None
    return consortium.chain.anvil


def still(consortium: LocalConsortium, on: bool = True) -> None:
    """Whether the chain mines only when it is told to."""
    anvil_of(consortium).do("evm_setAutomine", not on)


def opened(consortium: LocalConsortium, customers: Customers, count: int = 1) -> list[str]:
    """Inquiries of Bank A that nobody has answered yet, as keys of the store."""
    bank = consortium["Bank A"]
    handles = [ask(bank, customers.take()) for _ in range(count)]
    for _ in range(50):
        bank.work()
        if all(handle.request.state is RequestState.OPEN for handle in handles):
            return [to_hex(handle.request.inquiry) for handle in handles if handle.request.inquiry]
    raise AssertionError("it is not opened")


def answers(consortium: LocalConsortium, *inquiries: str) -> list[OutboxRow]:
    """The furnisher's steps of its answers."""
    return [row for key in inquiries for row in rows_of(consortium.stores[FURNISHER], f"answer/{key}")]


def test_many_inquiries_at_once__answers_are_under_way_together_and_mined_in_one_block(
    consortium: LocalConsortium, customers: Customers
) -> None:
    inquiries, bank = opened(consortium, customers, 6), consortium[FURNISHER]
    still(consortium)

    bank.work()
    under_way = answers(consortium, *inquiries)
    anvil_of(consortium).mine(1)
    bank.work()

    assert [row.state for row in under_way] == ["sent"] * 6
    assert {row.state for row in answers(consortium, *inquiries)} == {"mined"}
    assert len({row.block for row in answers(consortium, *inquiries)}) == 1


def test_node_drops_one_of_several__it_is_sent_again_and_all_are_mined(
    consortium: LocalConsortium, customers: Customers
) -> None:
    inquiries, bank = opened(consortium, customers, 3), consortium[FURNISHER]
    still(consortium)
    bank.work()
    middle = answers(consortium, *inquiries)[1]

    anvil_of(consortium).do("anvil_dropTransaction", to_hex(middle.tx_hash))
    bank.work()
    anvil_of(consortium).mine(1)
    bank.work()

    assert [row.state for row in answers(consortium, *inquiries)] == ["mined"] * 3
    assert answers(consortium, *inquiries)[1].raw == middle.raw


def test_base_fee_rises_above_the_offer__the_answers_are_signed_anew_with_the_same_content(
    consortium: LocalConsortium, customers: Customers
) -> None:
    inquiries, bank = opened(consortium, customers, 3), consortium[FURNISHER]
    anvil = anvil_of(consortium)
    still(consortium)
    bank.desk.outbox.patience = Patience(seconds=1, blocks=2)
    bank.work()
    before = answers(consortium, *inquiries)

    for _ in range(4):  # half of it goes with each empty block
        anvil.do("anvil_setNextBlockBaseFeePerGas", hex(300 * GWEI))
        anvil.advance(2)
        bank.work()
    anvil.mine(1)
    bank.work()
    bank.desk.outbox.patience = Patience()

    after = answers(consortium, *inquiries)
    assert [row.state for row in after] == ["mined"] * 3
    for old, new in zip(before, after, strict=True):
        one, two = parse_signed(old.raw), parse_signed(new.raw)
        assert (one.nonce, one.to, one.data, one.gas) == (two.nonce, two.to, two.data, two.gas)
        assert two.max_fee > one.max_fee


def test_another_program_with_the_account__stops_the_service_until_a_new_tenure(
    consortium: LocalConsortium, customers: Customers
) -> None:
    [inquiry], bank, anvil = opened(consortium, customers), consortium[FURNISHER], anvil_of(consortium)
    still(consortium)
    bank.work()
    [row] = answers(consortium, inquiry)
    stored = consortium.stores[FURNISHER].get("answer", inquiry)

    anvil.do("anvil_dropTransaction", to_hex(row.tx_hash))
    other = ChainSigner(anvil.web3, consortium.accounts[FURNISHER], consortium.deployed.consortium)
    taker = other.sign(Call("consortium", "anchor", (consortium.owners[FURNISHER].address, b"\x01" * 32)), row.nonce)
    other.broadcast(taker.raw)
    anvil.mine(1)
    still(consortium, False)
    for _ in range(3):
        with pytest.raises(StoreError, match=to_hex(taker.hash)):
            bank.work()

    [first] = answers(consortium, inquiry)
    assert first.state == "failed"
    assert to_hex(taker.hash) in consortium.stores[FURNISHER].get("taken", first.key)["hash"]  # type: ignore[index]
    assert consortium.stores[FURNISHER].get("answer", inquiry) == stored

    bank.desk.outbox.adopt()  # without a new tenure, which would need a day here: the stored answer goes out, unchanged
    for _ in range(3):
        bank.work()
    first, second = answers(consortium, inquiry)
    assert (first.state, second.state) == ("failed", "mined")
    assert second.nonce > row.nonce
    assert parse_signed(second.raw).data == parse_signed(row.raw).data


def test_opening_that_the_node_never_takes__makes_way_for_an_answer_and_its_request_ends(
    consortium: LocalConsortium, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, anvil = consortium[FURNISHER], anvil_of(consortium)
    [inquiry] = opened(consortium, customers)
    handle = ask(bank, customers.take())
    bank.sync()

    def away(_raw: bytes) -> None:
        raise LedgerError("the connection broke")

    with monkeypatch.context() as broken:  # it is signed, and the node is away when it is sent
        broken.setattr(bank.desk.outbox.signer, "broadcast", away)
        with pytest.raises(LedgerError):
            bank.inquirer.step()
    anvil.do("evm_setBlockGasLimit", hex(400_000))  # less than `open` needs, and enough for an answer
    anvil.mine(1)
    for _ in range(20):
        bank.work()
        if handle.request.state.final and answers(consortium, inquiry)[0].state == "mined":
            break
    anvil.do("evm_setBlockGasLimit", hex(30_000_000))
    anvil.mine(1)

    [row] = rows_of(consortium.stores[FURNISHER], f"open/{handle.id}")
    versions = consortium.stores[FURNISHER].outbox_versions(row.key)
    assert [version.kind for version in versions] == ["step", "filler"]
    step, filler = (parse_signed(version.raw) for version in versions)
    assert (filler.nonce, filler.to, filler.data) == (step.nonce, bank.desk.outbox.signer.address, b"")
    assert (row.state, row.tx_hash) == ("failed", versions[1].tx_hash)
    assert handle.request.state is RequestState.FAILED
    assert answers(consortium, inquiry)[0].nonce == row.nonce + 1
    assert bank.desk.stopped == ""


def test_block_with_the_answer_is_replaced_before_a_reader_saw_it__the_answer_is_sent_again(
    consortium: LocalConsortium, customers: Customers
) -> None:
    bank = consortium[FURNISHER]
    [inquiry] = opened(consortium, customers)
    bank.sync()
    replays = bank.follower.replays
    for _ in range(20):
        bank.furnisher.step()
        bank.desk.outbox.drive(replays)
        if answers(consortium, inquiry)[0].state == "mined":
            break
    [row] = answers(consortium, inquiry)
    assert row.state == "mined"

    anvil_of(consortium).reorganise(1)
    bank.sync()
    assert bank.follower.replays == replays  # its own head stands
    for _ in range(20):
        bank.work()
        if answers(consortium, inquiry)[0].state == "mined":
            break

    assert bank.index not in bank.desk.state.inquiries[bytes.fromhex(inquiry[2:])].awaited
    assert answers(consortium, inquiry)[0].raw == row.raw
