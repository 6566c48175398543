"""Yesterday's store is put back in the middle of an inquiry (R24, R25; protocol.md section 3).

The restored service does not know that it answered. If it answers again, from a newer loan book, two ciphertexts carry the
same masks: the inquirer decrypts both and subtracts, and has the change of this one bank's figures. If it only refuses what
was open, it has forgotten consents: the inquirer repeats one, and two totals differ by this bank's change alone. The variant
is this code without the comparison of store and ledger. The stores are real SQLite files, copied and put back; the mark lies
beside them, and a snapshot of the whole machine has it too.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from attackers import inquiry_key, open_crafted, plaintexts, public_key_pair, total_of
from fakes import PERIOD, TERMS, FakeSigner, FakeTown, figures, found_town, subject, two_keys

from mpcredit import protocol
from mpcredit.consent import Consent
from mpcredit.desk import Desk
from mpcredit.disclosure import RefusalCode
from mpcredit.encoding import to_hex
from mpcredit.errors import KeyStoreError, StoreError
from mpcredit.events import Call
from mpcredit.furnisher import Furnisher
from mpcredit.institution import Institution
from mpcredit.outbox import Outbox
from mpcredit.policy import CreditPolicy
from mpcredit.schema import FIGURES_1
from mpcredit.sealing import SubjectList
from mpcredit.state import Inquiry
from mpcredit.storage.mark import FileMark
from mpcredit.store import SqliteStore
from mpcredit.tenure import Marks, Tenure

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
    process(town, SqliteStore(place), old.desk.marks)


def process(town: FakeTown, store: SqliteStore, marks: Marks | None) -> None:
    """A process of the bank with a store and a mark."""
    town.banks[BANK] = Institution(
        ledger=town.chain,
        signer=FakeSigner(town.chain, town.accounts[BANK].address),
        store=store,
        keys=town.keys[BANK],
        tagger=town.tagger,
        book=town.books[BANK],
        policy=CreditPolicy.from_toml(),
        pins=town.pins,
        bits=2048,
        clock=lambda: 0,
        marks=marks,
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


def with_mark(town: FakeTown, tmp_path: Path) -> FileMark:
    """The bank's store gets its mark, beside it."""
    marks = FileMark(tmp_path / "mark.json")
    process(town, town[BANK].desk.store, marks)  # type: ignore[arg-type]  # a SqliteStore
    town[BANK].desk.tenure.seal()
    return marks


def no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variant: a store goes on above what it lacks, as if that said nothing of consents, cool-down and window."""
    monkeypatch.setattr(Outbox, "compare", Outbox.adopt)
    monkeypatch.setattr(Furnisher, "_notice_forgotten", lambda self, index: None)


def test_restored_store__without_the_rule__two_answers_give_the_change_away(
    town: FakeTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_mark(town, tmp_path)
    monkeypatch.setattr(Tenure, "_mark_trouble", lambda self: "")
    request = answered_then_restored(town, tmp_path, orphaned=True)

    town[BANK].work()

    inquiry = town.inquiry(request)
    frame = protocol.frame_of(inquiry, town.chain.realm)
    private = inquiry_key(town[0], inquiry)
    answers = {t.call.arguments[2] for t in town.chain.seen if t.call.function == "contribute"}
    (one,), (two,) = sorted(plaintexts(private, frame, payload) for payload in answers)
    change = {(one - two) % frame.public.n, (two - one) % frame.public.n}
    assert min(change) == 77  # the slot of `outstanding` is the lowest


def test_restored_store__answer_went_away_with_its_block__does_not_fit_its_mark(town: FakeTown, tmp_path: Path) -> None:
    with_mark(town, tmp_path)
    answered_then_restored(town, tmp_path, orphaned=True)

    with pytest.raises(StoreError, match="the mark beside this store"):
        town[BANK].work()

    assert len({t.call.arguments[2] for t in town.chain.seen if t.call.function == "contribute"}) == 1


def test_restored_store__answer_is_mined__is_stopped_until_a_new_tenure_is_named(
    town: FakeTown, tmp_path: Path
) -> None:
    request = answered_then_restored(town, tmp_path, orphaned=False)
    bank = town[BANK]
    other = town.ask(2)
    town[0].work()
    sent = len(town.chain.seen)

    for _ in range(3):
        with pytest.raises(StoreError, match=r"which this store lacks.*--new-tenure"):
            bank.work()

    # (1) no answer, no refusal, no other step, and it says so.
    assert list(bank.desk.store.items("answer")) == []
    assert len(town.chain.seen) == sent
    assert "which this store lacks" in bank.membership.why_not

    # (2) a person begins a new tenure; nothing is answered until the owner has named it.
    bank.start(new_tenure="the disk was lost")
    bank.work()
    assert "has not named" in bank.membership.why_not
    assert list(bank.desk.store.items("answer")) == []

    # (3) what was opened before is refused, what is opened later is answered.
    town.appoint(BANK, bank.desk.tenure.value)
    bank.work()
    refusal = town.inquiry(other).refusal
    assert refusal is not None
    assert (refusal.member, refusal.code) == (BANK, RefusalCode.RESTORED)
    assert town.inquiry(request).awaited == (1, 2, 4)
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

    with contextlib.suppress(StoreError):
        town[BANK].work()

    assert "the store was set back" in town[BANK].desk.stopped
    assert BANK in town.inquiry(request).awaited
    assert town.books[BANK].reads == []


def test_own_answer_on_the_ledger_that_the_store_lacks__stops_it(town: FakeTown, tmp_path: Path) -> None:
    # The nonce says nothing when the institution moved to another service account in between.
    town.ask(1)
    town.settle()
    desk: Desk = town[BANK].desk
    key = to_hex(next(iter(desk.state.inquiries)))
    desk.store.delete("answer", key)
    assert desk.stopped == ""

    town[BANK].work()

    assert key in desk.stopped
    assert key in desk.displaced


# --------------------------------------------------------------------- the snapshot has the mark too


def asked_with(town: FakeTown, consent: Consent) -> Inquiry:
    """The inquirer opens under a consent; everybody does what is due."""
    _, q = open_crafted(town[0], [(consent.tag, consent)], own=[figures(1)])
    for _ in range(3):
        for bank in town.banks:
            with contextlib.suppress(StoreError):
                bank.work()
    town[0].sync()
    return town[0].desk.state.inquiries[q]


def set_back_between(town: FakeTown, tmp_path: Path) -> tuple[Consent, Inquiry]:
    """Snapshot of the bank's machine, one inquiry, the snapshot is put back with its mark; the bank notices its own steps."""
    town.supervised = False
    marks = with_mark(town, tmp_path)
    copy, mark = backup(town, tmp_path), marks.path.read_bytes()
    consent = town.consent(1)
    first = asked_with(town, consent)
    assert BANK in first.contributions
    restore(town, tmp_path, copy)
    marks.path.write_bytes(mark)
    new_figures(town)
    with contextlib.suppress(StoreError):
        town[BANK].work()
    town.chain.advance(60)
    return consent, first


def total(town: FakeTown, inquiry: Inquiry) -> int:
    """What the inquirer reads from all contributions."""
    frame = protocol.frame_of(inquiry, town.chain.realm)
    (found,) = total_of(public_key_pair(), frame, [inquiry.payload(index) for index in inquiry.cohort])
    return found


def test_machine_snapshot_with_mark__without_the_rule__a_repeated_consent_gives_the_change_away(
    town: FakeTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_comparison(monkeypatch)
    consent, first = set_back_between(town, tmp_path)

    second = asked_with(town, consent)

    assert total(town, second) - total(town, first) == 77


def test_machine_snapshot_with_mark__a_repeated_consent__is_not_answered(town: FakeTown, tmp_path: Path) -> None:
    consent, _first = set_back_between(town, tmp_path)

    second = asked_with(town, consent)

    assert second.awaited == (BANK,)
    assert list(town[BANK].desk.store.items("answer")) == []


@pytest.mark.parametrize("again", ["the same consent", "another consent"])
def test_new_tenure__after_the_snapshot__what_was_before_counts_as_answered(
    town: FakeTown, tmp_path: Path, again: str
) -> None:
    consent, _first = set_back_between(town, tmp_path)
    bank = town[BANK]
    bank.start(new_tenure="the machine was set back")
    town.appoint(BANK, bank.desk.tenure.value)
    for _ in range(3):
        town.work()
        town.chain.advance(PERIOD)

    if again == "another consent":
        consent = town.consent(1)
    _, q = open_crafted(town[0], [(consent.tag, consent)], own=[figures(1)])
    bank.sync()
    refusal = bank.furnisher.judge(bank.desk.state.inquiries[q])

    assert refusal is not None
    assert refusal.code == (RefusalCode.CONSENT if again == "the same consent" else RefusalCode.COOLDOWN)
    (seen,) = [seen for seen in bank.desk.remember() if seen.inquiry != q]
    assert seen.answered, "the window counts from it"


def test_new_tenure__the_key_of_before_is_lost__answers_nothing_until_the_window_is_over(
    town: FakeTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The store and the institution key are lost: nobody here knows about whom the store of before has answered.
    first = asked_with(town, town.consent(1))
    town.supervised = False
    process(town, SqliteStore(tmp_path / "empty.sqlite"), None)
    bank = town[BANK]
    bank.start(new_tenure="the disk was lost")
    town.appoint(BANK, bank.desk.tenure.value)
    read = Desk.subjects

    def subjects(self: Desk, inquiry: Inquiry) -> SubjectList:
        if (self.index, inquiry.id) == (BANK, first.id):
            raise KeyStoreError("no such key")
        return read(self, inquiry)

    monkeypatch.setattr(Desk, "subjects", subjects)
    second = asked_with(town, town.consent(2))
    assert BANK in second.awaited
    assert "is lost" in bank.membership.why_not
    assert not bank.membership.is_ready

    town.chain.advance(first.opened.at.timestamp + TERMS.window_seconds - town.chain.time)
    for book in town.books:
        book.as_of = town.chain.time
    bank.sync()

    assert bank.membership.why_not == ""


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
        with pytest.raises(StoreError, match="the node says"):
            town[BANK].desk.outbox.post("another", step)
        town.chain.mempool.clear()  # it is dropped: others may have it all the same
    else:
        with monkeypatch.context() as before:
            before.setattr(Outbox, "compare", lambda self: None)
            town[BANK].desk.outbox.post("another", step)
    for _ in range(3):
        with contextlib.suppress(StoreError):
            town[BANK].work()

    payloads = {t.call.arguments[2] for t in town.chain.seen if t.call.function == "contribute"}
    assert len(payloads) == (1 if looks else 2)
    assert BANK in town.inquiry(request).awaited
