"""The audit log: whatever is changed, missing, added or moved is found, on both databases and in an exported file."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Callable

import pytest
from clock import Clock
from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from mpcredit.errors import InvalidEncoding
from mpcredit.server.audit import Anchor, AuditBroken, AuditLog, check_lines, verify_lines
from mpcredit.server.database import Database, audit_head_table, audit_table


def _fill(audit: AuditLog, count: int = 5) -> None:
    for n in range(count):
        audit.append("user:anna", f"thing.done{n}", f"thing/{n}", "because 因为", number=n, raw=b"\x01")


def _force(database: Database, connection: Connection) -> None:
    """What the owner of a database can do: take the triggers away."""
    if database.dialect == "sqlite":
        connection.execute(text("DROP TRIGGER IF EXISTS audit_no_update"))
        connection.execute(text("DROP TRIGGER IF EXISTS audit_no_delete"))
    else:
        connection.execute(text("DROP TRIGGER IF EXISTS audit_no_change ON audit"))


def test_append__entry__is_what_the_format_says(audit: AuditLog, clock: Clock) -> None:
    first = audit.append("user:anna", "subject.looked", "inquiry/0x01", "the customer asked", stage="open", raw=b"\x01")
    clock.now += 5
    second = audit.append("console", "account.disabled")

    value = json.loads(first.line)
    stated = value.pop("hash")
    # The chain computed with the standard library alone.
    body = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    assert stated == "0x" + hashlib.sha256(b"mpcredit/audit/2" + body).hexdigest()
    assert value == {
        "format": "mpcredit/audit",
        "version": 1,
        "seq": 1,
        "at": 1_800_000_000,
        "actor": "user:anna",
        "action": "subject.looked",
        "about": "inquiry/0x01",
        "why": "the customer asked",
        "facts": {"stage": "open", "raw": "0x01"},
        "previous": "0x" + "00" * 32,
    }
    assert (second.seq, second.at, second.previous) == (2, 1_800_000_005, first.hash)
    assert audit.head() == (2, second.hash)


def test_append__float_or_no_actor__is_refused(audit: AuditLog) -> None:
    with pytest.raises(InvalidEncoding):
        audit.append("node", "x", score=0.5)
    with pytest.raises(ValueError, match="who did what"):
        audit.append("", "x")

    assert audit.verify() == 0


def test_append__many_threads__no_place_twice(audit: AuditLog) -> None:
    threads = [threading.Thread(target=_fill, args=(audit, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert audit.verify() == 40


def test_append__two_connections__no_place_twice(url: str, opened: Callable[[str], Database]) -> None:
    logs = [AuditLog(opened(url)) for _ in range(2)]
    threads = [threading.Thread(target=_fill, args=(log, 15)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert logs[0].verify() == 30


def test_stream_and_search(audit: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcredit.server.audit._PAGE", 3)
    _fill(audit, 8)
    audit.append("node", "other_thing.done", "thing/0")

    assert [entry.seq for entry in audit.stream()] == list(range(1, 10))
    assert [entry.seq for entry in audit.stream(since=2, limit=4)] == [3, 4, 5, 6]
    assert [entry.seq for entry in audit.search(action="thing.", limit=3)] == [8, 7, 6]
    assert [entry.seq for entry in audit.search(action="thing.", before=6, limit=2)] == [5, 4]
    assert [entry.seq for entry in audit.search(about="thing/0")] == [9, 1]
    assert [entry.seq for entry in audit.search(actor="node")] == [9]
    assert [entry.seq for entry in audit.search(action="other%thing")] == []
    assert audit.verify() == 9


@pytest.mark.parametrize("change", ["UPDATE audit SET line = 'x'", "DELETE FROM audit"])
def test_table__change__is_refused_by_the_database(database: Database, audit: AuditLog, change: str) -> None:
    _fill(audit)

    def attempt() -> None:
        with database.transaction() as connection:
            connection.execute(text(change))

    with pytest.raises(DBAPIError, match="can only grow"):
        attempt()

    assert audit.verify() == 5


def test_verify__any_one_byte_changed__is_found_and_named(database: Database, audit: AuditLog) -> None:
    _fill(audit, 4)
    with database.read() as connection:
        lines = {row.seq: row.line for row in connection.execute(select(audit_table))}
    choose = random.Random(4)
    with database.transaction() as connection:
        _force(database, connection)
    for seq, line in lines.items():
        for place in sorted(choose.sample(range(len(line)), 15)):
            other = chr(ord(line[place]) ^ 1)
            with database.transaction() as connection:
                changed = line[:place] + other + line[place + 1 :]
                connection.execute(update(audit_table).where(audit_table.c.seq == seq).values(line=changed))
            with pytest.raises(AuditBroken) as caught:
                audit.verify()
            assert caught.value.seq in (seq, seq + 1)
        with database.transaction() as connection:
            connection.execute(update(audit_table).where(audit_table.c.seq == seq).values(line=line))
    assert audit.verify() == 4


def _change_hash(c: Connection) -> None:
    c.execute(update(audit_table).where(audit_table.c.seq == 3).values(hash=b"\0" * 32))


def _change_column(c: Connection) -> None:
    c.execute(update(audit_table).where(audit_table.c.seq == 3).values(actor="user:eve"))


def _first_missing(c: Connection) -> None:
    c.execute(delete(audit_table).where(audit_table.c.seq == 1))


def _middle_missing(c: Connection) -> None:
    c.execute(delete(audit_table).where(audit_table.c.seq == 3))


def _last_missing(c: Connection) -> None:
    c.execute(delete(audit_table).where(audit_table.c.seq == 5))


def _all_missing(c: Connection) -> None:
    c.execute(delete(audit_table))


def _reordered(c: Connection) -> None:
    for seq, to in ((2, 99), (3, 2), (99, 3)):
        c.execute(update(audit_table).where(audit_table.c.seq == seq).values(seq=to))


def _added(c: Connection) -> None:
    c.execute(insert(audit_table).from_select(
        ["seq", "at", "actor", "action", "about", "line", "hash"],
        select(text("6"), *[audit_table.c[n] for n in ("at", "actor", "action", "about", "line", "hash")]).where(
            audit_table.c.seq == 5
        ),
    ))  # fmt: skip


def _added_before(c: Connection) -> None:
    c.execute(update(audit_table).where(audit_table.c.seq == 1).values(seq=0))


def _head_deleted(c: Connection) -> None:
    c.execute(delete(audit_head_table))


def _head_moved(c: Connection) -> None:
    c.execute(update(audit_head_table).values(seq=4))


@pytest.mark.parametrize(
    ("tamper", "seq"),
    [
        (_change_hash, 3),
        (_change_column, 3),
        (_first_missing, 1),
        (_middle_missing, 3),
        (_last_missing, 5),
        (_all_missing, 1),
        (_reordered, 2),
        (_added, 6),
        (_added_before, 1),
        (_head_deleted, 0),
        (_head_moved, 4),
    ],
)
def test_verify__tampered__is_found_and_named(
    database: Database, audit: AuditLog, tamper: Callable[[Connection], None], seq: int
) -> None:
    _fill(audit)
    with database.transaction() as connection:
        _force(database, connection)
        tamper(connection)

    with pytest.raises(AuditBroken) as caught:
        audit.verify()

    assert caught.value.seq == seq


def test_verify__written_anew_from_the_start__only_an_anchor_finds_it(database: Database, audit: AuditLog) -> None:
    _fill(audit)
    anchors = [audit.head()]
    assert audit.verify(anchors) == 5
    with database.transaction() as connection:
        _force(database, connection)
        connection.execute(delete(audit_table))
        connection.execute(update(audit_head_table).values(seq=0, hash=bytes(32)))

    with pytest.raises(AuditBroken, match="anchored") as caught:
        audit.verify(anchors)
    assert caught.value.seq == 5

    for n in range(6):
        audit.append("user:anna", "another.story", f"thing/{n}")
    assert audit.verify() == 6
    with pytest.raises(AuditBroken, match="anchored") as caught:
        audit.verify(anchors)
    assert caught.value.seq == 5


def test_verify_lines__exported__needs_no_database(audit: AuditLog) -> None:
    _fill(audit)
    lines = [entry.line for entry in audit.stream()]

    assert verify_lines(lines) == audit.head()
    assert verify_lines([line.decode() + "\n" for line in lines], [audit.head()]) == audit.head()
    for broken, seq in (
        (lines[1:], 1),
        (lines[:2] + lines[3:], 3),
        ([lines[1], lines[0], *lines[2:]], 1),
        ([lines[0], lines[1].replace(b"anna", b"anno"), *lines[2:]], 2),
        ([lines[0], b"{}"], 2),
        ([lines[0], b"no json"], 2),
        ([lines[0], b"[]"], 2),
    ):
        with pytest.raises(AuditBroken) as caught:
            verify_lines(broken)
        assert caught.value.seq == seq
    with pytest.raises(AuditBroken, match="anchored"):
        verify_lines(lines[:4], [audit.head()])


# --------------------------------------------------------------------- heads on the ledger


def _anchor(audit: AuditLog, block: int) -> Anchor:
    return Anchor(audit.head()[1], bytes([block]) * 32, block, 1_800_000_000 + block)


def _write_anew(database: Database, since: int) -> None:
    """Entries from a number on, with a chain that is right in itself, and the head too."""
    with database.transaction() as connection:
        _force(database, connection)
        previous = connection.scalar(select(audit_table.c.hash).where(audit_table.c.seq == since - 1))
        connection.execute(delete(audit_table).where(audit_table.c.seq >= since))
        connection.execute(update(audit_head_table).values(seq=since - 1, hash=previous))
    _fill(AuditLog(database, clock=Clock()), 10)


def test_check__heads_on_the_ledger__bind_all_before_them(audit: AuditLog) -> None:
    anchors = []
    for block in (7, 8):
        _fill(audit, 3)
        anchors.append(_anchor(audit, block))
    _fill(audit, 2)

    checked = audit.check([anchors[0], *anchors])  # two reports without an entry between them have one head

    assert (checked.entries, checked.head, checked.anchored) == (8, audit.head()[1], 6)
    assert check_lines([entry.line for entry in audit.stream()], anchors) == checked
    assert audit.check().anchored == 0


def test_check__end_written_anew_or_cut_off__is_found_behind_the_last_anchor_that_fits(
    database: Database, audit: AuditLog
) -> None:
    anchors = []
    for block in (7, 8):
        _fill(audit, 3)
        anchors.append(_anchor(audit, block))
    lines = [entry.line for entry in audit.stream()]
    _write_anew(database, 5)
    assert audit.verify() == 14  # the chain alone is whole

    for attempt in (lambda: audit.check(anchors), lambda: check_lines(lines[:5], anchors)):
        with pytest.raises(AuditBroken, match=r"inquiry 0x0808.* block 8") as caught:
            attempt()
        assert caught.value.seq == 4

    assert audit.check(anchors[:1]).anchored == 3
