"""Yesterday's store is put back in the middle of an inquiry (R24, R25; protocol.md section 3).

The restored service does not know that it answered. If it answers again, from a newer loan book, two ciphertexts carry the
same masks: the inquirer decrypts both and subtracts, and has the change of this one bank's figures. The variant is this
code without the comparison of store and ledger. The stores are real SQLite files, copied and put back.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from attackers import inquiry_key, plaintexts
from fakes import FakeSigner, FakeTown, figures, found_town, subject, two_keys

from mpcredit import protocol
from mpcredit.desk import Desk
from mpcredit.disclosure import RefusalCode
from mpcredit.encoding import to_hex
from mpcredit.events import Call
from mpcredit.furnisher import Furnisher
from mpcredit.institution import Institution
from mpcredit.outbox import Outbox
from mpcredit.policy import CreditPolicy
from mpcredit.schema import FIGURES_1
from mpcredit.store import SqliteStore

BANK = 3


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeTown]:
    with two_keys(monkeypatch):
        made = found_town(5, stores=lambda index: SqliteStore(tmp_path / f"{index}.sqlite"))
        yield made
        for bank in made.banks:
            bank.desk.store.close()  # type: ignore[attr-defined]  # a SqliteStore


def backup(town: FakeTown, tmp_path: Path) -> Path:
    """Stop, copy, start: yesterday's backup."""
    store = town[BANK].desk.store
    store._run("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]  # a SqliteStore
    copy = tmp_path / "backup.sqlite"
    shutil.copy(tmp_path / f"{BANK}.sqlite", copy)
    return copy


def restore(town: FakeTown, tmp_path: Path, copy: Path) -> None:
    """A new process with the old file."""
    old = town[BANK]
    old.desk.store.close()  # type: ignore[attr-defined]  # a SqliteStore
    place = tmp_path / f"{BANK}.sqlite"
    for name in (place, place.with_name(place.name + "-wal"), place.with_name(place.name + "-shm")):
        name.unlink(missing_ok=True)
    shutil.copy(copy, place)
    place.chmod(0o600)
    town.banks[BANK] = Institution(
        ledger=town.chain,
        signer=FakeSigner(town.chain, town.accounts[BANK].address),
        store=SqliteStore(place),
        keys=town.keys[BANK],
        tagger=town.tagger,
        book=town.books[BANK],
        policy=CreditPolicy.from_toml(),
        pins=town.pins,
        bits=2048,
        clock=lambda: 0,
    )


def new_figures(town: FakeTown) -> None:
    town.books[BANK].figures[town.tagger.tag(subject(1))] = {
        **figures(8),
        "outstanding": figures(8)["outstanding"] + 77,
    }


def answered_then_restored(town: FakeTown, tmp_path: Path, *, orphaned: bool) -> str:
    """One bank answers, its store is put back, its book moves on; `orphaned`: a reorganisation took its answer away."""
    copy = backup(town, tmp_path)
    request = town.ask(1)
    town.asleep = {1, 2, 4}
    town.supervised = False
    town[0].work()
    height = len(town.chain.blocks)
    town[BANK].work()
    assert BANK in town.inquiry(request).contributions
    if orphaned:
        town.chain.reorganise(height)
    restore(town, tmp_path, copy)
    new_figures(town)
    return request


def test_restored_store__without_the_rule__two_answers_give_the_change_away(
    town: FakeTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = answered_then_restored(town, tmp_path, orphaned=True)
    monkeypatch.setattr(Outbox, "check_restored", lambda self, **_: False)
    monkeypatch.setattr(Furnisher, "_notice_restore", lambda self, index: None)

    town[BANK].work()

    inquiry = town.inquiry(request)
    frame = protocol.frame_of(inquiry, town.chain.realm)
    private = inquiry_key(town[0], inquiry)
    answers = {t.call.arguments[2] for t in town.chain.seen if t.call.function == "contribute"}
    (one,), (two,) = sorted(plaintexts(private, frame, payload) for payload in answers)
    change = {(one - two) % frame.public.n, (two - one) % frame.public.n}
    assert min(change) == 77  # the slot of `outstanding` is the lowest


def test_restored_store__answer_is_mined__nonce_shows_it_and_everything_open_is_refused(
    town: FakeTown, tmp_path: Path
) -> None:
    request = answered_then_restored(town, tmp_path, orphaned=False)
    other = town.ask(2)
    town[0].work()

    town[BANK].work()

    (answer,) = (value for _, value in town[BANK].desk.store.items("answer"))
    assert answer["refused"] == RefusalCode.RESTORED
    assert len({t.call.arguments[2] for t in town.chain.seen if t.call.function == "contribute"}) == 1
    refusal = town.inquiry(other).refusal
    assert refusal is not None
    assert (refusal.member, refusal.code) == (BANK, RefusalCode.RESTORED)
    assert town.inquiry(request).awaited == (1, 2, 4)


def test_restored_store__declared_by_the_operator__refuses(town: FakeTown, tmp_path: Path) -> None:
    # The answer's transaction is nowhere on the ledger (a reorganisation took it): only a person can know.
    request = answered_then_restored(town, tmp_path, orphaned=True)

    town[BANK].start(restored=True)
    town[BANK].work()

    refusal = town.inquiry(request).refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.RESTORED
    assert len({t.call.arguments[2] for t in town.chain.seen if t.call.function == "contribute"}) == 1


def test_restored_store__new_inquiries__are_answered_again(town: FakeTown, tmp_path: Path) -> None:
    answered_then_restored(town, tmp_path, orphaned=False)
    town.asleep = set()
    town.settle()

    later = town.ask(3)
    town.settle()

    assert BANK in town.inquiry(later).contributions


def test_machine_snapshot__set_back_without_a_start__is_noticed_before_an_answer(
    town: FakeTown, tmp_path: Path
) -> None:
    # A virtual machine set back to a snapshot goes on in the middle: `start` has run already.
    copy = backup(town, tmp_path)
    town.ask(2)
    town.settle()
    restore(town, tmp_path, copy)
    town[BANK]._started = True
    town.books[BANK].reads.clear()
    request = town.ask(1)
    town.asleep = {1, 2, 4}
    town[0].work()

    town[BANK].work()

    refusal = town.inquiry(request).refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.RESTORED
    assert town.books[BANK].reads == []


def test_own_answer_on_the_ledger_that_the_store_lacks__marks_the_store(town: FakeTown, tmp_path: Path) -> None:
    # The nonce says nothing when the institution moved to another service account in between.
    town.ask(1)
    town.settle()
    desk: Desk = town[BANK].desk
    key = to_hex(next(iter(desk.state.inquiries)))
    desk.store.delete("answer", key)
    assert desk.outbox.restored_at == -1

    town[BANK].work()

    assert desk.outbox.restored_at == town.chain.head().number


def test_crash__between_store_and_sending__the_stored_answer_is_sent_whatever_the_book_says(
    town: FakeTown, tmp_path: Path
) -> None:
    request = town.ask(1)
    town.asleep = {1, 2, BANK, 4}
    town[0].work()
    town[BANK].sync()
    inquiry = town[BANK].desk.state.inquiries[town.inquiry(request).id]
    made = town[BANK].furnisher._figures(inquiry)
    town[BANK].desk.store.insert("answer", to_hex(inquiry.id), made)
    new_figures(town)

    town.asleep = set()
    town.settle()

    assert to_hex(town.inquiry(request).payload(BANK)) == made["payload"]
    (totals,) = town[0].inquirer.get(request).totals or []
    assert totals == FIGURES_1.unpack(FIGURES_1.pack([{**figures(31), "lenders": 1}], 2048), 1, 2048, 5)[0] | {
        "lenders": 5
    }


@pytest.mark.parametrize("looks", [False, True], ids=["looked at before answers only", "looked at before each step"])
def test_machine_snapshot__answer_waits_and_another_step_comes_first__is_not_replaced_and_not_made_twice(
    town: FakeTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    # The forgotten answer waits in the mempool. Another step under its nonce, with a higher fee, takes its place: then store
    # and node count alike, and nothing shows any more that there was an answer.
    copy = backup(town, tmp_path)
    request = town.ask(1)
    town.asleep = {1, 2, 4}
    town.supervised = False
    town[0].work()
    town.chain.held = True
    town[BANK].work()
    restore(town, tmp_path, copy)
    town[BANK]._started = True
    new_figures(town)
    step = Call("consortium", "anchor", (town.owners[BANK].address, bytes(32)))

    if looks:
        town[BANK].desk.outbox.post("another", step)
    else:
        with monkeypatch.context() as before:
            before.setattr(Outbox, "check_restored", lambda self, **_: False)
            town[BANK].desk.outbox.post("another", step)
    for _ in range(3):
        town[BANK].work()
    town.chain.held = False
    town.chain.mine()
    town[BANK].work()

    payloads = {t.call.arguments[2] for t in town.chain.seen if t.call.function == "contribute"}
    assert len(payloads) == (1 if looks else 2)
    (answer,) = (value for _, value in town[BANK].desk.store.items("answer"))
    assert answer.get("refused") == (RefusalCode.RESTORED if looks else None)
    if looks:
        assert to_hex(town.inquiry(request).payload(BANK)) == to_hex(payloads.pop())
