"""The bank's applications as a list and as CSV: who gets which, filtered, without totals, safe in a spreadsheet, logged."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from web_world import EVIDENCE, World, world

from mpcredit.policy import Outcome
from mpcredit.server.casefile import Step, applications_table
from mpcredit.server.drafts import Draft
from mpcredit.server.exports import APPLICATION_COLUMNS, days
from mpcredit.server.refusals import InvalidForm
from mpcredit.server.tables import plain_cell

HOSTILE = '=HYPERLINK("http://evil.example","click")'
OLD = 1_700_000_000  # 2023-11-14


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Four applications: decided and ready of officer, an old one of officer2, one of a system."""
    with world(tmp_path_factory.mktemp("exports")) as found:
        decided = found.enter(reference=HOSTILE)
        found.enter(reference='Miller, "A"')
        old = found.enter("officer2")
        desk, people = found.bank.applications, found.bank.people
        people.create_token("loans", ["applications:write", "applications:read"], by=None, why="test")
        who = found.take()
        fields = {"kind": who.kind, "country": who.country, "number": who.number, "amount": "5", "purpose": "review"}
        desk.create(Draft.parse({**fields, "evidence": EVIDENCE}, currency="TWD"), officer="token:1")
        found.settle()
        desk.decide(decided, officer="user:officer", outcome=Outcome.DECLINE, reason="-1+1, as he said")
        with found.bank.database.transaction() as connection:
            c = applications_table.c
            connection.execute(applications_table.update().where(c.id == old).values(created_at=OLD))
        yield found


def rows(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="applications.csv"'
    found = csv.DictReader(io.StringIO(answer.text), strict=True)
    assert tuple(found.fieldnames or ()) == APPLICATION_COLUMNS
    return list(found)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", "＠x"])
def test_cell__that_a_spreadsheet_would_run__is_quoted(text: str) -> None:
    assert plain_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["", "TW …123", "a=1", "'x", 5, -5, None])
def test_cell__that_it_would_not_run__stays(value: object) -> None:
    assert plain_cell(value) == value


def test_export__officer__gets_his_own_and_reviewer_and_auditor_all(there: World) -> None:
    bank = there.bank

    own = rows(bank.sign_in("officer").get("/applications/export.csv"))
    others = rows(bank.sign_in("officer2").get("/api/applications.csv"))
    everything = [rows(bank.sign_in(name).get("/applications/export.csv")) for name in ("reviewer", "auditor")]

    assert [row["officer"] for row in own] == ["user:officer"] * 2
    assert [row["officer"] for row in others] == ["user:officer2"]
    assert [len(found) for found in everything] == [4, 4]
    for name in ("user:officer2", "officer2", "token:1"):
        answer = bank.sign_in("officer").get("/applications/export.csv", params={"officer": name})
        assert answer.status_code == 409
    assert bank.sign_in("administrator").get("/applications/export.csv").status_code == 403


def test_export__holds_what_was_decided_no_totals_and_no_formula(there: World) -> None:
    found = {row["number"]: row for row in rows(there.bank.sign_in("auditor").get("/api/applications.csv"))}

    for application in there.bank.applications.newest():
        row = found[str(application.number)]
        assert (row["id"], row["step"], row["requested"]) == (
            application.id,
            application.step.value,
            str(application.requested).removesuffix(" TWD"),
        )
        totals = application.totals or {}
        assert application.step is Step.WAITING or totals
        assert not {str(amount) for amount in totals.values() if amount > 10} & set(row.values())
    hostile = next(row for row in found.values() if "HYPERLINK" in row["reference"])
    assert hostile["reference"] == f"'{HOSTILE}"
    assert (hostile["decision"], hostile["reason"]) == ("decline", "'-1+1, as he said")
    assert any(row["reference"] == 'Miller, "A"' for row in found.values())


def test_export__filters__by_step_officer_and_day(there: World) -> None:
    reviewer = there.bank.sign_in("reviewer")

    def numbers(**filters: str) -> int:
        return len(rows(reviewer.get("/applications/export.csv", params=filters)))

    day = time.strftime("%Y-%m-%d", time.localtime(OLD))
    before = time.strftime("%Y-%m-%d", time.localtime(OLD - 86_400))
    after = time.strftime("%Y-%m-%d", time.localtime(OLD + 86_400))
    assert numbers(officer="officer2") == numbers(officer="user:officer2") == numbers(officer="token:1") == 1
    assert numbers(step="ready") + numbers(step="decided") + numbers(step="review") == 4
    assert (numbers(last=day), numbers(last=before)) == (1, 0)
    assert (numbers(first=day), numbers(first=after)) == (4, 3)
    assert numbers(first=day, last=day) == 1
    assert reviewer.get("/applications/export.csv", params={"step": "gone"}).status_code == 422
    assert reviewer.get("/applications/list", params={"first": "yesterday"}).status_code == 422
    assert "No application fits." in reviewer.get("/applications/list", params={"last": before}).text
    page = reviewer.get("/applications/list", params={"officer": "officer2"}).text
    assert "Another officer" in page
    assert page.count('scope="row"') == 1


def test_days__of_a_month__end_with_it() -> None:
    first, before = days("2024-02-28", "2024-02-29")

    assert first is not None
    assert before is not None
    assert time.localtime(before)[:6] == (2024, 3, 1, 0, 0, 0)
    assert days("", "") == (None, None)
    for wrong in ("2023-02-29", "1.2.2024", "0000-01-01"):
        with pytest.raises(InvalidForm, match="2027-01-31"):
            days(wrong, "")


def test_system__with_the_scope__exports_its_own_only(there: World) -> None:
    people, browser = there.bank.people, there.bank.anonymous()
    _, reading = people.create_token("reads", ["applications:read"], by=None, why="test")
    _, writing = people.create_token("writes", ["applications:write"], by=None, why="test")

    def get(secret: str, **filters: str) -> Any:
        headers = {"Authorization": f"Bearer {secret}"}
        return browser.get("/api/applications.csv", params=filters, headers=headers)

    assert rows(get(reading)) == []
    assert get(reading, officer="token:1").status_code == 409
    assert get(reading, step="gone").status_code == 422
    assert get(writing).status_code == 403
    assert browser.get("/api/applications.csv").status_code == 401


def test_export__is_a_look_in_the_audit_log(there: World) -> None:
    bank = there.bank

    rows(bank.sign_in("reviewer").get("/applications/export.csv", params={"officer": "officer"}))
    taken = bank.audit.search(action="subject.looked", limit=1)[0]
    bank.sign_in("auditor").get("/api/applications")
    listed = bank.audit.search(action="subject.looked", limit=1)[0]

    assert (taken.actor, taken.about, taken.why) == ("user:reviewer", "applications", "export")
    assert json.loads(json.dumps(dict(taken.facts))) == {"subjects": 2, "filters": {"officer": "officer"}}
    assert (listed.actor, listed.about, listed.facts["subjects"]) == ("user:auditor", "applications", 4)
    assert bank.audit.verify() > 0
