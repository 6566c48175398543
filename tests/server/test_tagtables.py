"""R4: tables that are looked into by tag are brought to the newest tag key, all rows or none, as often as one likes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select

from mpcredit.encoding import to_hex
from mpcredit.identity import Subject
from mpcredit.server import tagtables
from mpcredit.server.casefile import applications_table
from mpcredit.server.database import Database
from mpcredit.server.notices import notice_customer_table
from mpcredit.server.tagtables import raise_tags
from mpcredit.tags import HmacTagger, TagKey

KEYS = tuple(TagKey(version, bytes([version]) * 32) for version in (1, 2, 3))
FIRST, SECOND, THIRD = (HmacTagger(*KEYS[:count]) for count in (1, 2, 3))
PEOPLE = [Subject("passport", f"TK{number:07}", country="JP") for number in range(7)]


def customers(database: Database) -> dict[str, tuple[bytes, int]]:
    with database.read() as connection:
        found = connection.execute(select(notice_customer_table)).all()
    return {row.reference: (bytes(row.tag), int(row.tag_key_version)) for row in found}


@pytest.fixture
def listed(database: Database) -> Database:
    """Seven customers: those with an even number under key 1, the others under key 2."""
    rows = [
        {"tag": tagger.tag(one), "reference": str(number), "tag_key_version": tagger.version, "given": 1}
        for number, one in enumerate(PEOPLE)
        for tagger in [SECOND if number % 2 else FIRST]
    ]
    with database.transaction() as connection:
        connection.execute(insert(notice_customer_table), rows)
    return database


def test_raise__rows_of_several_versions__are_all_of_the_newest(
    listed: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagtables, "BATCH", 3)  # more than one turn

    assert [raise_tags(listed, notice_customer_table, THIRD) for _ in range(2)] == [7, 0]
    assert customers(listed) == {str(number): (THIRD.tag(one), 3) for number, one in enumerate(PEOPLE)}


def test_raise__to_a_version_that_some_are_at__leaves_those(listed: Database) -> None:
    assert raise_tags(listed, notice_customer_table, SECOND) == 4
    assert raise_tags(listed, notice_customer_table, FIRST) == 0
    assert customers(listed) == {str(number): (SECOND.tag(one), 2) for number, one in enumerate(PEOPLE)}


def test_raise__cut_off_in_the_middle__changes_nothing_and_is_done_again(
    listed: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagtables, "BATCH", 3)
    before, calls = customers(listed), []

    class CutOff:
        version = 3

        def raised(self, tag: bytes, version: int) -> bytes:
            calls.append(tag)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return THIRD.raised(tag, version)

    tagger: Any = CutOff()
    with pytest.raises(KeyboardInterrupt):
        raise_tags(listed, notice_customer_table, tagger)

    assert customers(listed) == before
    assert raise_tags(listed, notice_customer_table, THIRD) == 7


def test_raise__one_customer_in_several_rows__follows_in_all(database: Database) -> None:
    tags = [FIRST.tag(PEOPLE[0]), FIRST.tag(PEOPLE[1]), FIRST.tag(PEOPLE[0]), None]
    rows = [
        {
            "id": f"{number}",
            "officer": "user:officer",
            "created_at": 1,
            "step": "decided",
            "fingerprint": "x",
            "consent": f"{number}",
            "value": "{}",
            "tag": None if tag is None else to_hex(tag),
            "tag_key_version": None if tag is None else 1,
        }
        for number, tag in enumerate(tags)
    ]
    with database.transaction() as connection:
        connection.execute(insert(applications_table), rows)

    assert raise_tags(database, applications_table, SECOND) == 2

    with database.read() as connection:
        c = applications_table.c
        found = connection.execute(select(c.tag, c.tag_key_version).order_by(c.id)).all()
    expected = [to_hex(SECOND.tag(PEOPLE[number])) for number in (0, 1, 0)]
    assert [tuple(row) for row in found] == [*((tag, 2) for tag in expected), (None, None)]
