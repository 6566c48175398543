"""One institution answers one inquiry twice under one mask (R24, R25): the difference of the two is in the clear.

M1: two services with a store each. M2: a store that was set back while its answer was broadcast and not mined. The variants
have no tenure, and no mark, or write the mark only when an answer is made, so that a crash before it leaves it out.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attackers import inquiry_key
from fakes import (
    REALM,
    FakeBook,
    FakeSigner,
    FakeTown,
    figures,
    found_town,
    subject,
    two_keys,
)

from mpcredit import paillier, protocol
from mpcredit.desk import Desk
from mpcredit.errors import StoreError
from mpcredit.institution import Institution
from mpcredit.policy import CreditPolicy
from mpcredit.state import Inquiry
from mpcredit.storage.mark import FileMark
from mpcredit.store import MemoryStore
from mpcredit.tenure import Mark, Tenure

VICTIM = 1


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    with two_keys(monkeypatch):
        made = found_town(5)
        made.supervised = False
        yield made


def service(town: FakeTown, store: Any, book: FakeBook, marks: FileMark | None = None) -> Institution:
    """A process of the victim with a store and a book."""
    return Institution(
        ledger=town.chain,
        signer=FakeSigner(town.chain, town.accounts[VICTIM].address),
        store=store,
        keys=town.keys[VICTIM],
        tagger=town.tagger,
        book=book,
        policy=CreditPolicy.from_toml(),
        pins=town.pins,
        clock=lambda: 0,
        bits=2048,
        ready=False,
        marks=marks,
    )


def opened(town: FakeTown) -> Inquiry:
    """An inquiry that nobody has answered yet."""
    request = town.ask(1)
    town.asleep = {1, 2, 3, 4}
    town[0].work()
    town[0].work()
    return town.inquiry(request)


def payloads(town: FakeTown, inquiry: Inquiry) -> list[bytes]:
    """All answers of the victim that a node has seen."""
    return list(
        dict.fromkeys(
            t.call.arguments[2]
            for t in town.chain.seen
            if t.call.function == "contribute" and t.call.arguments[:2] == (inquiry.id, VICTIM)
        )
    )


def difference(town: FakeTown, inquiry: Inquiry, later_first: bool = False) -> dict[str, int]:
    """What the inquirer reads from two answers under one mask."""
    frame, private = protocol.frame_of(inquiry, REALM), inquiry_key(town[0], inquiry)
    one, two = (paillier.decrypt(private, protocol.split_payload(frame, p)[1][0]) for p in payloads(town, inquiry))
    one, two = (two, one) if later_first else (one, two)
    return dict(frame.schema.unpack([(one - two) % frame.public.n], 1, frame.public.bits, 1)[0])


def two_services(town: FakeTown) -> Inquiry:
    """A stand-by without a loan book beside the victim's service; both see an inquiry within one block."""
    standby = service(town, MemoryStore(), FakeBook())
    inquiry = opened(town)
    town.chain.held = True
    town[VICTIM].work()
    with contextlib.suppress(StoreError):  # it finds that the account has sent what it lacks
        standby.work()
    return inquiry


def test_two_services__without_tenure__give_the_whole_record_away(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tenure, "trouble", lambda _self, _member: "")
    monkeypatch.setattr(Tenure, "value", town[VICTIM].desk.tenure.value)
    monkeypatch.setattr("mpcredit.outbox.Outbox.compare", lambda _self: None)

    inquiry = two_services(town)

    assert difference(town, inquiry) == figures(2**VICTIM)


def test_two_services__only_the_named_store_answers(town: FakeTown) -> None:
    inquiry = two_services(town)

    assert len(payloads(town, inquiry)) == 1


def go_on_from(town: FakeTown, snapshot: dict[str, object], marks: FileMark) -> None:
    """The mempool is lost, the victim's store is set back, its book has changed, and its service starts."""
    store, book = town[VICTIM].desk.store, town.books[VICTIM]
    town.chain.mempool.clear()
    town.chain.held = False
    vars(store).update(snapshot)
    book.figures[town.tagger.tag(subject(1))] = figures(7)
    with contextlib.suppress(StoreError):
        service(town, store, book, marks).work()


def set_back(town: FakeTown, marks: FileMark) -> Inquiry:
    """The victim answers; its answer is kept by the inquirer's node alone; its store is set back, and its book has changed."""
    store, book = town[VICTIM].desk.store, town.books[VICTIM]
    first = service(town, store, book, marks)
    first.desk.tenure.seal()
    inquiry = opened(town)
    snapshot = copy.deepcopy({name: part for name, part in vars(store).items() if name != "_mutex"})
    town.chain.held = True
    first.work()
    go_on_from(town, snapshot, marks)
    return inquiry


def test_store_set_back__without_a_mark__answers_a_second_time(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Tenure, "_mark_trouble", lambda _self: "")

    inquiry = set_back(town, FileMark(tmp_path / "mark.json"))

    assert difference(town, inquiry, later_first=True) == {n: figures(7)[n] - figures(2**VICTIM)[n] for n in figures(7)}


def test_store_set_back__does_not_fit_its_mark_and_answers_nothing(town: FakeTown, tmp_path: Path) -> None:
    inquiry = set_back(town, FileMark(tmp_path / "mark.json"))

    assert len(payloads(town, inquiry)) == 1


class Killed(BaseException):
    """The process ends here."""


def set_back_after_a_crash(town: FakeTown, marks: FileMark, monkeypatch: pytest.MonkeyPatch) -> Inquiry:
    """The victim is killed between its answer's storage and its mark, and sends it after a start; then all as above."""
    store, book = town[VICTIM].desk.store, town.books[VICTIM]
    service(town, store, book, marks).desk.tenure.seal()
    inquiry = opened(town)
    snapshot = copy.deepcopy({name: part for name, part in vars(store).items() if name != "_mutex"})
    town.chain.held = True
    killed = service(town, store, book, marks)
    with monkeypatch.context() as patch:
        patch.setattr(FileMark, "write", _kill)
        with pytest.raises(Killed):
            killed.work()
    assert payloads(town, inquiry) == []
    service(town, store, book, marks).work()
    assert len(payloads(town, inquiry)) == 1
    go_on_from(town, snapshot, marks)
    return inquiry


def _kill(_self: FileMark, _mark: Mark) -> None:
    raise Killed


def test_store_set_back__after_a_crash_before_its_mark__without_the_rule__answers_a_second_time(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The variant writes the mark when an answer was made, and not before a stored one is sent.
    note, seal, fresh = Tenure.note, Tenure.seal, [True]

    def noted(self: Tenure, inquiry: bytes, payload: bytes) -> None:
        note(self, inquiry, payload)
        fresh.append(True)

    monkeypatch.setattr(Tenure, "note", noted)
    monkeypatch.setattr(Tenure, "seal", lambda self: seal(self) if fresh and fresh.pop() else None)

    inquiry = set_back_after_a_crash(town, FileMark(tmp_path / "mark.json"), monkeypatch)

    assert difference(town, inquiry, later_first=True) == {n: figures(7)[n] - figures(2**VICTIM)[n] for n in figures(7)}


def test_store_set_back__after_a_crash_before_its_mark__answers_nothing(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inquiry = set_back_after_a_crash(town, FileMark(tmp_path / "mark.json"), monkeypatch)

    assert len(payloads(town, inquiry)) == 1


def set_back_with_an_unsent_answer(town: FakeTown, marks: FileMark, monkeypatch: pytest.MonkeyPatch) -> Inquiry:
    """Two inquiries wait. The snapshot has the answer to the first, unsent; both were answered since, and neither is mined."""
    store, book = town[VICTIM].desk.store, town.books[VICTIM]
    service(town, store, book, marks).desk.tenure.seal()
    opened(town)
    later = town.ask(2)
    town[0].work()
    town.chain.held = True
    killed = service(town, store, book, marks)
    with monkeypatch.context() as patch:
        patch.setattr(FileMark, "write", _kill)
        with pytest.raises(Killed):
            killed.work()
    snapshot = copy.deepcopy({name: part for name, part in vars(store).items() if name != "_mutex"})
    service(town, store, book, marks).work()
    town.chain.mempool.clear()
    vars(store).update(snapshot)
    book.figures[town.tagger.tag(subject(2))] = figures(7)
    with contextlib.suppress(StoreError):
        service(town, store, book, marks).work()
    return town.inquiry(later)


def test_store_set_back__with_an_unsent_answer__mark_not_compared_in_each_round__answers_a_second_time(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The variant does not compare the mark in each round, but before it makes an answer alone.
    monkeypatch.setattr(Desk, "stopped", "")

    inquiry = set_back_with_an_unsent_answer(town, FileMark(tmp_path / "mark.json"), monkeypatch)

    assert len(payloads(town, inquiry)) == 2


def test_store_set_back__with_an_unsent_answer__sends_nothing_and_leaves_the_mark(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inquiry = set_back_with_an_unsent_answer(town, FileMark(tmp_path / "mark.json"), monkeypatch)

    mark = FileMark(tmp_path / "mark.json").read()
    assert len(payloads(town, inquiry)) == 1
    assert mark is not None
    assert mark.answer is not None
    assert mark.answer[0] == inquiry.id


def test_inquiry_opened_before_the_naming__is_refused_by_the_new_store(town: FakeTown) -> None:
    # RESTORED from the furnisher, and the contract takes no answer of the new tenure: the old store may have answered.
    inquiry = opened(town)
    fresh = service(town, MemoryStore(), town.books[VICTIM])
    fresh.start(new_tenure="the store was lost")
    town.appoint(VICTIM, fresh.desk.tenure.value)
    fresh.work()

    refusal = town.chain.fold().inquiries[inquiry.id].refusal
    assert refusal is not None
    assert (refusal.member, refusal.code) == (VICTIM, 1)
    assert payloads(town, inquiry) == []
