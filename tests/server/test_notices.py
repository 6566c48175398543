"""Notices to customers: each inquiry once, to whom it is about, with nothing that the customer may not know.

Branches: what is told - this bank asked, it answered, a refusal, a stranger, from before; the list of customers - whole or
not at all, replaced, under an older tag key; crash and start anew; delivery is tests/server/test_webhook.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select
from test_footprint import ask
from test_webhook import SECRET, Receiver, receiving
from web_world import World, second_tag_key, world

from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidFile
from mpcredit.identity import Subject
from mpcredit.server import serve
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.notices import Notices, import_customers, notice_customer_table, notice_table
from mpcredit.server.settings import ServerSettings
from mpcredit.server.webhook import Webhook, webhook_table
from mpcredit.tags import HmacTagger, TagKey


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("notices")) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def notices(there: World, receiver: Receiver) -> Iterator[Notices]:
    """Switched on now; what the worker noted is told by `tell`."""
    bank = there.bank
    made = notices_of(there, receiver)
    made.follow(bank.node.party)
    yield made
    bank.node.party.desk.store.delete("notices", "since")
    with bank.database.transaction() as connection:
        for table in (notice_table, notice_customer_table, webhook_table):
            connection.execute(delete(table))


def notices_of(there: World, receiver: Receiver) -> Notices:
    bank = there.bank
    return Notices(bank.database, Webhook(bank.database, bank.audit, url=receiver.url, secret=SECRET, family="notice"))


def tell(there: World, notices: Notices) -> int:
    """What worker and thread do."""
    there.bank.node.party.sync()
    notices.follow(there.bank.node.party)
    notices.webhook.before()
    return notices.webhook.deliver()


def row(subject: Subject, reference: str) -> str:
    return f"{subject.kind},{subject.country},{subject.number},{reference}"


def give(there: World, path: Path, *rows: str) -> int:
    path.write_text("\n".join(["kind,country,number,reference", *rows]) + "\n", encoding="utf-8")
    return import_customers(there.bank.database, there.bank.audit, path, there.consortium.tagger)


def test_notice__this_bank_asked__tells_who_when_why(there: World, notices: Notices, receiver: Receiver) -> None:
    application = there.enter(reference="K-1")
    there.settle()

    assert tell(there, notices) == 1

    (value,) = receiver.values
    state = there.consortium["Bank A"].desk.state
    inquiry = state.inquiries[bytes.fromhex(value["notice"]["inquiry"][2:])]
    assert (value["format"], value["version"], value["event"]) == ("mpcredit/notice", 1, "notice.asked")
    assert value["notice"] == {
        "customer": None,
        "application": application,
        "inquiry": to_hex(inquiry.id),
        "asked_by": "Bank A",
        "asked_at": inquiry.opened.at.timestamp,
        "purpose": "new_credit",
    }
    assert receiver.got[0][0]["mpcredit-event"] == "notice.asked"
    (entry,) = there.bank.audit.search(action="notice.delivered", limit=1)
    assert entry.about.startswith("notice/")


def test_notice__this_bank_answered__tells_its_customer_and_no_figure(
    there: World, notices: Notices, receiver: Receiver, tmp_path: Path
) -> None:
    subject, stranger = there.take(), there.take()
    assert give(there, tmp_path / "list.csv", row(subject, "K-100 陳")) == 1
    asked = ask(there, "Bank B", subject)
    ask(there, "Bank C", stranger)

    assert tell(there, notices) == 1

    (value,) = receiver.values
    assert value["event"] == "notice.answered"
    assert set(value["notice"]) == {"customer", "application", "inquiry", "asked_by", "asked_at", "purpose"}
    assert value["notice"]["customer"] == "K-100 陳"
    assert (value["notice"]["inquiry"], value["notice"]["asked_by"]) == (asked, "Bank B")
    assert (value["notice"]["purpose"], value["notice"]["application"]) == ("review", None)
    body = receiver.got[0][1].decode()
    assert subject.number not in body
    assert to_hex(there.consortium.tagger.tag(subject))[2:] not in body
    # equal work: the stranger's was noted like the customer's (I14)
    with there.bank.database.read() as connection:
        states = sorted(connection.scalars(select(notice_table.c.state)))
    assert states == ["nobody", "queued"]


def test_notice__told_again_after_a_start_or_a_replay__is_one(
    there: World, notices: Notices, receiver: Receiver, tmp_path: Path
) -> None:
    subject = there.take()
    give(there, tmp_path / "list.csv", row(subject, "K-1"))
    ask(there, "Bank B", subject)
    party = there.bank.node.party
    party.sync()
    notices.follow(party)  # noted, then killed

    anew = notices_of(there, receiver)
    assert tell(there, anew) == 1
    for other in (anew, notices_of(there, receiver)):
        party.follower.replays += 1
        assert tell(there, other) == 0
    assert len(receiver.got) == 1


def test_notice__killed_between_queue_and_state__is_one(
    there: World, notices: Notices, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = there.take()
    give(there, tmp_path / "list.csv", row(subject, "K-1"))
    ask(there, "Bank B", subject)
    there.bank.node.party.sync()
    notices.follow(there.bank.node.party)
    real = notices._queue

    def killed(*given: Any) -> None:
        real(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(notices, "_queue", killed)
        with pytest.raises(KeyboardInterrupt):
            notices.resolve()

    assert notices.resolve() == 1
    assert notices.resolve() == 0
    assert notices.webhook.deliver() == 1


def test_notice__refused_or_from_before__is_not_told(there: World, receiver: Receiver, tmp_path: Path) -> None:
    subject, bank = there.take(), there.consortium["Bank A"]
    ask(there, "Bank B", subject)
    late = notices_of(there, receiver)
    give(there, tmp_path / "list.csv", row(subject, "K-1"))
    try:
        assert tell(there, late) == 0  # from before it was switched on

        ask(there, "Bank B", subject)  # within the cool-down: refused
        inquiry = list(bank.desk.state.inquiries.values())[-1]
        assert inquiry.refusal is not None
        assert tell(there, late) == 0
        assert receiver.got == []
    finally:
        bank.desk.store.delete("notices", "since")


def test_answers_and_notices__two_queues__do_not_mix(there: World, notices: Notices, receiver: Receiver) -> None:
    bank = there.bank
    with receiving() as loans:
        answers = Webhook(bank.database, bank.audit, url=loans.url, secret=SECRET)
        answers.queue("application.ready", {"id": "a1"})
        notices.webhook.queue_notice("notice.asked", {"customer": "K-1"})

        assert (answers.status()[0], notices.webhook.status()[0]) == (1, 1)
        assert (answers.deliver(), notices.webhook.deliver()) == (1, 1)

        assert [json.loads(body)["event"] for _, body in loans.got] == ["application.ready"]
        assert [json.loads(body)["event"] for _, body in receiver.got] == ["notice.asked"]


def test_thread__of_the_server__looks_and_delivers(
    there: World, notices: Notices, receiver: Receiver, tmp_path: Path
) -> None:
    subject = there.take()
    give(there, tmp_path / "list.csv", row(subject, "K-1"))
    ask(there, "Bank B", subject)
    there.bank.node.party.sync()
    notices.follow(there.bank.node.party)

    notices.webhook.start()
    try:
        for _ in range(200):
            if receiver.got:
                break
            time.sleep(0.02)
    finally:
        notices.webhook.stop()

    assert [value["event"] for value in receiver.values] == ["notice.answered"]


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:8088/notices", "https://notices.bank.example/in"])
def test_settings__notice_url__makes_the_notices_of_a_server(there: World, tmp_path: Path, url: str) -> None:
    settings = ServerSettings(notice_url=url, webhook_secret_file=tmp_path / "secret")

    made = serve._notices(settings, there.bank.database, there.bank.audit)

    assert (made.webhook.url if made else "") == url
    with pytest.raises(ValueError, match="plain HTTP is refused"):
        ServerSettings(notice_url="http://notices.bank.example/in")


# --------------------------------------------------------------------- the list of customers


def test_list__given_again__replaces_the_one_before(there: World, notices: Notices, tmp_path: Path) -> None:
    one, other = there.take(), there.take()
    path = tmp_path / "list.csv"
    assert give(there, path, row(one, "K-1"), row(other, "K-2")) == 2

    assert give(there, path, row(other, "K-3"), row(other, "K-4")) == 1

    with there.bank.database.read() as connection:
        found = connection.execute(select(notice_customer_table.c.tag, notice_customer_table.c.reference)).all()
    assert [(bytes(tag), reference) for tag, reference in found] == [(there.consortium.tagger.tag(other), "K-4")]
    entry = there.bank.audit.search(action="notices.customers_given", limit=1)[0]
    assert (entry.facts["customers"], entry.facts["removed"]) == (1, 1)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["national_id,TW,A123456788,K-9"], "row 3, number"),
        (["national_id,TW,A123456789,"], "row 3, reference"),
        (["national_id,TW,A123456789"], "row 3: has 3 cells"),
        (["national_id,TW,A123456788,K-9", "moon,TW,1,K-1"], "has wrong rows"),
    ],
)
def test_list__wrong_row__changes_nothing(
    there: World, notices: Notices, tmp_path: Path, rows: list[str], problem: str
) -> None:
    good = row(there.subjects[0], "K-1")
    give(there, tmp_path / "list.csv", good)

    with pytest.raises(InvalidFile, match=problem):
        give(there, tmp_path / "wrong.csv", row(there.subjects[1], "K-2"), *rows)

    with there.bank.database.read() as connection:
        assert list(connection.scalars(select(notice_customer_table.c.reference))) == ["K-1"]


def test_list__other_columns_or_no_file__is_refused(there: World, notices: Notices, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("number,reference\n1,2\n")

    with pytest.raises(InvalidFile, match="has not the columns"):
        import_customers(there.bank.database, there.bank.audit, path, there.consortium.tagger)
    with pytest.raises(InvalidFile, match="cannot be read"):
        import_customers(there.bank.database, there.bank.audit, tmp_path / "none.csv", there.consortium.tagger)


def test_list__over_a_new_tag_key__is_raised_and_not_asked_for_again(
    there: World, notices: Notices, receiver: Receiver, tmp_path: Path
) -> None:
    first, second, stranger = (there.take() for _ in range(3))
    give(there, tmp_path / "list.csv", row(first, "K-1"), row(second, "K-2"))
    asked = [ask(there, "Bank B", first)]
    notices.follow(there.bank.node.party)  # noted under the first key, not looked up yet
    with second_tag_key(there) as tagger:
        asked.append(ask(there, "Bank C", second))
        ask(there, "Bank D", stranger)
        assert tell(there, notices) == 2

    told = {value["notice"]["customer"]: value["notice"]["inquiry"] for value in receiver.values}
    assert told == {"K-1": asked[0], "K-2": asked[1]}
    with there.bank.database.read() as connection:
        kept = connection.execute(select(notice_customer_table)).all()
    assert {bytes(one.tag) for one in kept} == {tagger.tag(subject) for subject in (first, second)}
    assert {one.tag_key_version for one in kept} == {2}


def test_list__under_a_key_that_the_worker_does_not_use_yet__waits(
    there: World, notices: Notices, receiver: Receiver, tmp_path: Path
) -> None:
    subject = there.take()
    path = tmp_path / "list.csv"
    path.write_text(f"kind,country,number,reference\n{row(subject, 'K-1')}\n", encoding="utf-8")
    ask(there, "Bank B", subject)
    with second_tag_key(there) as tagger:
        pass
    import_customers(there.bank.database, there.bank.audit, path, tagger)  # a command that has read the ledger further

    assert tell(there, notices) == 0
    with second_tag_key(there):
        assert tell(there, notices) == 1
    assert receiver.values[0]["notice"]["customer"] == "K-1"


def test_list__on_every_database__is_kept_by_tag(database: Database, audit: AuditLog, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    tagger = HmacTagger(TagKey(1, bytes(32)))
    people = [Subject("passport", f"TK{number:07}", country="JP") for number in range(6_000)]
    lines = [row(person, f"K-{place}") for place, person in enumerate(people)]
    path.write_text("\n".join(["kind,country,number,reference", *lines]) + "\n", encoding="utf-8")

    assert import_customers(database, audit, path, tagger) == 6_000
    path.write_text("\n".join(["kind,country,number,reference", lines[7]]) + "\n", encoding="utf-8")
    assert import_customers(database, audit, path, tagger) == 1

    with database.read() as connection:
        found = connection.execute(select(notice_customer_table)).one()
    assert (bytes(found.tag), found.reference) == (tagger.tag(people[7]), "K-7")
    assert people[7].number not in str(found)
