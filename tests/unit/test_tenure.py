"""R25: the tenure of a store and its mark: when a store may answer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from fakes import FakeTown, found_town

from mpcredit.errors import StoreError
from mpcredit.storage.mark import FileMark
from mpcredit.store import MemoryStore
from mpcredit.tenure import Mark, Tenure


def answer(tenure: Tenure, inquiry: bytes, payload: bytes) -> None:
    """What a furnisher does for each answer."""
    with tenure.store.transaction():
        tenure.note(inquiry, payload)
    tenure.seal()


def test_file__there_and_back__is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    marks = FileMark(tmp_path / "mark" / "store.json")
    assert marks.read() is None

    for mark in (Mark(b"t" * 32, None), Mark(b"t" * 32, (b"q" * 32, b"h" * 32))):
        marks.write(mark)
        assert marks.read() == mark
    assert marks.path.stat().st_mode & 0o777 == 0o600
    assert marks.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tenure": "0x00", "answer": null}'])
def test_file__no_mark__is_told_with_the_way_out(tmp_path: Path, text: str) -> None:
    marks = FileMark(tmp_path / "store.json")
    marks.path.write_text(text)

    with pytest.raises(StoreError, match="no mark") as caught:
        marks.read()
    assert "--new-tenure" in caught.value.remedy


def test_empty_store__begins_a_tenure_with_its_mark_first(tmp_path: Path) -> None:
    marks = FileMark(tmp_path / "store.json")
    tenure = Tenure(MemoryStore(), marks)

    assert len(tenure.value) == 32
    assert marks.read() == Mark(tenure.value, None)
    assert tenure.trouble(None) == ""


def test_answers__mark_names_the_newest_or_the_one_before__fits(tmp_path: Path) -> None:
    marks = FileMark(tmp_path / "store.json")
    tenure = Tenure(MemoryStore(), marks)
    _ = tenure.value

    answer(tenure, b"1" * 32, b"one")
    assert marks.read() == Mark(tenure.value, (b"1" * 32, hashlib.sha256(b"one").digest()))
    with tenure.store.transaction():
        tenure.note(b"2" * 32, b"two")  # a crash before the mark is written
    assert tenure.trouble(None) == ""
    tenure.seal()
    assert tenure.trouble(None) == ""


def test_store__set_back_to_a_copy__answers_nothing(tmp_path: Path) -> None:
    marks = FileMark(tmp_path / "store.json")
    tenure = Tenure(MemoryStore(), marks)
    answer(tenure, b"1" * 32, b"one")
    copied = tenure.store.get("meta", "newest_answer")
    answer(tenure, b"2" * 32, b"two")
    assert copied is not None

    tenure.store.put("meta", "newest_answer", copied)

    assert "set back or replaced" in tenure.trouble(None)


@pytest.mark.parametrize("how", ["gone", "of another store"])
def test_mark__gone_or_of_another_store__answers_nothing(tmp_path: Path, how: str) -> None:
    marks = FileMark(tmp_path / "store.json")
    tenure = Tenure(MemoryStore(), marks)
    _ = tenure.value

    if how == "gone":
        marks.path.unlink()
    else:
        marks.write(Mark(b"x" * 32, None))

    assert "--new-tenure" in tenure.trouble(None)


def test_new_tenure__by_order_of_a_person__has_a_mark_that_names_no_answer(tmp_path: Path) -> None:
    marks = FileMark(tmp_path / "store.json")
    tenure = Tenure(MemoryStore(), marks)
    answer(tenure, b"1" * 32, b"one")
    marks.path.unlink()
    old = tenure.value

    new = tenure.begin("the disk was replaced")

    assert new != old
    assert marks.read() == Mark(new, None)
    assert tenure.trouble(None) == ""


def test_naming__of_another_tenure__answers_nothing_and_says_which(town: FakeTown) -> None:
    member = town[1].desk.member
    own = town[1].desk.tenure
    assert own.trouble(member) == ""

    other = Tenure(MemoryStore())
    assert "has not named" in other.trouble(member)
    own.begin("moved")
    assert "has not named" in own.trouble(member)


@pytest.fixture
def town() -> FakeTown:
    return found_town(4)
