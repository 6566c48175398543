"""The head of the audit log on the ledger: put there by reports and verdicts, found again by `mpcredit audit`."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clock import Clock
from parties import Done, here
from sqlalchemy import delete, select, text, update
from web_world import Site, World, world

from mpcredit.cli import audit as command
from mpcredit.encoding import abi_encode
from mpcredit.events import Anchored, Change, Position, RosterChanged
from mpcredit.ledger.roster import CHANGE_TYPES
from mpcredit.pairkeys import Realm
from mpcredit.server.anchoring import DailyAnchor, own_anchors
from mpcredit.server.audit import AuditLog, ledger_anchors
from mpcredit.server.database import Database, audit_head_table, audit_table
from mpcredit.state import LedgerState


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bank that has finished one inquiry, whose log goes on after that; the supervisor too."""
    with world(tmp_path_factory.mktemp("anchors")) as found:
        found.consortium["Bank A"].inquirer.anchor = lambda: found.bank.audit.head()[1]
        found.consortium.supervisor.supervisor.anchor = lambda: found.supervisor.audit.head()[1]
        found.enter()
        found.settle()
        for site in (found.bank, found.supervisor):
            site.audit.append("console", "thing.done")
        yield found


@pytest.fixture
def run(there: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`mpcredit audit …` of a party, beside its server, with the embedded ledger in place of a node."""
    monkeypatch.setattr(command, "ledger_of", lambda _config: there.consortium.ledger)

    def run_it(*arguments: str, site: Site | None = None, database: str | None = None) -> Done:
        found = site or there.bank
        account = (
            there.consortium.supervisor_account if found is there.supervisor else there.consortium.accounts["Bank A"]
        ).address
        config = tmp_path / "party.toml"
        config.write_text(
            f"""role = "{"supervisor" if found is there.supervisor else "institution"}"
            [ledger]
            url = "http://127.0.0.1:1"
            chain_id = 1
            consortium = "{there.consortium.deployed.consortium}"
            signer = "http://127.0.0.1:2"
            account = "{account}"
            [book]
            path = "book.csv"
            [server]
            database = "{database or found.settings.database}"
            """
        )
        return here(["audit", *arguments, "--config", str(config)], {}, tmp_path)

    return run_it


def _copy(there: World, place: Path) -> Database:
    """The bank's database as somebody who owns it can change it."""
    assert there.bank.database.path is not None
    with contextlib.closing(sqlite3.connect(there.bank.database.path)) as connection:
        connection.execute("VACUUM INTO ?", (str(place),))
    place.chmod(0o600)
    return Database(f"sqlite:///{place}")


def test_verify__beside_the_server__says_up_to_where_the_ledger_binds(there: World, run: Any) -> None:
    for site in (there.bank, there.supervisor):
        done = run("verify", "--json", site=site)

        assert done.status == 0, done.err
        found = done.value
        assert found["entries"] == site.audit.head()[0]
        (anchor,) = found["anchors"]
        line = next(entry for entry in site.audit.stream() if entry.hash.hex() == anchor["head"][2:])
        assert found["anchored"] == line.seq < found["entries"]


def test_verify__of_another__must_be_named_and_does_not_fit(there: World, run: Any) -> None:
    assert run("verify", "--of", "Bank B").status == 0  # it has not asked: no head of it is on the ledger
    assert run("verify", "--of", "Bank Z").status != 0
    assert run("verify", "--of", "supervisor", site=there.supervisor).status != 0
    assert run("verify", "--of", there.consortium.supervisor_owner.address.lower(), site=there.supervisor).status == 0


def test_verify__end_written_anew__is_found_by_the_ledger_alone(there: World, run: Any, tmp_path: Path) -> None:
    database = _copy(there, tmp_path / "copy.sqlite")
    with database.transaction() as connection:
        connection.execute(text("DROP TRIGGER audit_no_update"))
        connection.execute(text("DROP TRIGGER audit_no_delete"))
        previous = connection.scalar(select(audit_table.c.hash).where(audit_table.c.seq == 3))
        connection.execute(delete(audit_table).where(audit_table.c.seq > 3))
        connection.execute(update(audit_head_table).values(seq=3, hash=previous))
    for _ in range(40):
        AuditLog(database).append("user:eve", "another.story")
    database.close()
    url = f"sqlite:///{tmp_path / 'copy.sqlite'}"

    alone, against = run("verify", "--no-ledger", database=url), run("verify", database=url)

    assert alone.status == 0, alone.err
    assert "not looked up" in alone.out
    assert against.status == 8, against.out
    assert "audit log, entry 1:" in against.err
    assert "is not of this log" in against.err


def test_verify__one_byte_changed__is_found(there: World, run: Any, tmp_path: Path) -> None:
    database = _copy(there, tmp_path / "copy.sqlite")
    with database.transaction() as connection:
        connection.execute(text("DROP TRIGGER audit_no_update"))
        line = str(connection.scalar(select(audit_table.c.line).where(audit_table.c.seq == 2)))
        connection.execute(
            update(audit_table).where(audit_table.c.seq == 2).values(line=line.replace('"at":1', '"at":2'))
        )
    database.close()

    done = run("verify", database=f"sqlite:///{tmp_path / 'copy.sqlite'}")

    assert done.status != 0
    assert "audit log, entry 2:" in done.err or "audit log, entry 3:" in done.err


def test_export__lines_and_file__are_what_verify_reads(there: World, run: Any, tmp_path: Path) -> None:
    everything = run("export").out.splitlines()
    part = run("export", "--since", "2").out.splitlines()

    assert part == everything[2:]
    assert json.loads(part[0])["seq"] == 3
    assert {(json.loads(line)["format"], json.loads(line)["version"]) for line in everything} == {("mpcredit/audit", 1)}
    assert run("export", "--to", "log.jsonl", "--json").value["entries"] == len(everything)
    assert (tmp_path / "log.jsonl").stat().st_mode & 0o777 == 0o600
    assert run("verify", "--file", "log.jsonl").status == 0
    (tmp_path / "short.jsonl").write_text("\n".join(everything[:3]) + "\n")
    cut = run("verify", "--file", "short.jsonl")
    assert cut.status != 0
    assert "cut off" in cut.err
    assert run("verify", "--file", "nothing.jsonl").status == 2
    assert run("export", "--to", "log.jsonl").status == 2  # nothing is written over


def test_page__check__compares_with_the_ledger(there: World) -> None:
    for site in (there.bank, there.supervisor):
        answer = site.sign_in("auditor").post("/audit/verify")

        assert answer.status_code == 200
        assert "entries are whole" in answer.text


# --------------------------------------------------------------------- the daily anchor


def test_daily_anchor__binds_what_waited_for_a_day_and_nothing_sooner(there: World, run: Any) -> None:
    for site in (there.bank, there.supervisor):
        party = site.node.party
        clock = Clock(int(time.time()))
        task = DailyAnchor(site.audit, clock=clock)

        assert task(party) == []  # entries wait, but not for long
        clock.now += 86_400 - 600
        assert task(party) == []
        seq = site.audit.head()[0]
        clock.now += 900
        (line,) = task(party)
        assert f"{seq} entries" in line
        site.node.round()
        clock.now += 86_400
        assert task(party) == []  # all of it is bound: nothing is written to say so again

        found = run("verify", "--json", site=site).value
        assert found["anchored"] == seq
        assert found["anchors"][-1]["inquiry"] is None
        site.audit.append("console", "thing.done")
        clock.now += 2 * 86_400
        assert task(party) != []


def test_daily_anchor__is_among_the_work_of_every_server(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for site in (there.bank, there.supervisor):
        (task,) = (one for one in site.node._after if isinstance(one, DailyAnchor))
        site.node.round()  # what others put there before
        site.audit.append("console", "thing.done")
        monkeypatch.setattr(task, "_clock", lambda: time.time() + 2 * 86_400)
        monkeypatch.setattr(task, "_next", 0.0)
        before = len(own_anchors(site.node.party))

        site.node.round()
        site.node.round()

        assert len(own_anchors(site.node.party)) == before + 1


def test_daily_anchor__of_another_party__binds_nothing_here(there: World) -> None:
    events, state = there.bank.node.party.follower.events, there.bank.node.party.follower.state
    bank = {anchor.hash for anchor in ledger_anchors(state, events, member=0)}
    supervisor = {
        anchor.hash for anchor in ledger_anchors(state, events, supervisor=there.consortium.supervisor_owner.address)
    }

    assert bank
    assert supervisor
    assert not bank & supervisor
    assert ledger_anchors(state, events, member=1) == []
    assert ledger_anchors(state, events) == []


def test_daily_anchor__by_an_owner_that_was_replaced__binds_for_its_own_time() -> None:
    realm, owner, head = "0x" + "11" * 20, "0x" + "22" * 20, b"\x05" * 32

    def at(block: int) -> Position:
        return Position(block, bytes(32), 0, block, bytes(32), realm)

    def changed(block: int, kind: Change, *values: object) -> RosterChanged:
        return RosterChanged(at(block), bytes(32), kind, abi_encode(CHANGE_TYPES[kind], list(values)))

    events = [
        Anchored(at(1), owner, b"\x04" * 32),
        changed(2, Change.MEMBER_INVITED, 3, owner, "Bank D"),
        Anchored(at(3), owner, head),
        changed(4, Change.OWNER_REPLACED, 3, "0x" + "33" * 20),
        Anchored(at(5), owner, b"\x06" * 32),
        changed(6, Change.MEMBER_INVITED, 2, owner, "Bank C"),
        Anchored(at(7), owner, b"\x07" * 32),
        changed(8, Change.OWNER_REPLACED, 2, "0x" + "44" * 20),
        changed(9, Change.SUPERVISOR_ADDED, owner),
        Anchored(at(10), owner, b"\x08" * 32),
    ]
    state = LedgerState(Realm(1, realm))

    assert [anchor.hash for anchor in ledger_anchors(state, events, member=3)] == [head]
    assert [anchor.hash for anchor in ledger_anchors(state, events, member=2)] == [b"\x07" * 32]
