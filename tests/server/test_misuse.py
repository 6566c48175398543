"""Limits against misuse: each trips at its number and not one below, once, and a reviewer lifts it.

Branches: the rule - each limit, its twin, the edges of its window, what counts no more; settled customers; an officer -
out with his next request, what he asked for held, lifted by whom, again after; a crash; a system - rates, other limits; who
is told: page, audit stream, metrics, webhook.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from clock import Clock
from web_world import EVIDENCE, Site, World, second_tag_key, world

from mpcredit.identity import Subject
from mpcredit.policy import Outcome
from mpcredit.server.applications import Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.casefile import Step, applications_table
from mpcredit.server.database import Database
from mpcredit.server.drafts import Draft
from mpcredit.server.misuse import DAY, HELD, HOUR, Look, Misuse, Past, Rule, closed, judge
from mpcredit.server.people import Forbidden, People, PeopleError
from mpcredit.server.refusals import NotAllowed, TooMuch
from mpcredit.server.settings import MisuseSettings
from mpcredit.server.webhook import Webhook, webhook_table

NOON = 1_800_014_400  # Friday, 2027-01-15 12:00 UTC
SMALL = MisuseSettings(
    per_hour=3,
    per_day=5,
    system_per_hour=4,
    system_per_day=6,
    undecided=2,
    system_undecided=3,
    out_of_hours=2,
    settled=2,
    time_zone="UTC",
)
ANNA, LOANS = "user:anna", "token:7"

# --------------------------------------------------------------------- the rule


def looks(actor: str, times: list[int], **facts: Any) -> list[Look]:
    return [Look(f"{number:016x}", number, actor, at, **facts) for number, at in enumerate(times, start=1)]


CASES: dict[str, tuple[str, Rule, list[int], dict[str, Any], int]] = {
    # actor, rule, times of as many as the limit, further facts, now
    "hour": (ANNA, Rule.PER_HOUR, [NOON - HOUR + 1, NOON - 60, NOON], {}, NOON),
    "day": (ANNA, Rule.PER_DAY, [NOON - DAY + 1, *(NOON - n * 2 * HOUR for n in (4, 3, 2, 1))], {}, NOON),
    "undecided": (ANNA, Rule.UNDECIDED, [NOON - 9 * DAY] * 2, {"undecided_since": NOON - 72 * HOUR}, NOON),
    "night": (ANNA, Rule.OUT_OF_HOURS, [NOON + 10 * HOUR + 1, NOON + 10 * HOUR + 60], {}, NOON + 11 * HOUR),
    "settled": (ANNA, Rule.SETTLED, [NOON - 30 * DAY + 1, NOON - 2 * DAY], {"settled": "ended"}, NOON),
    "system, hour": (LOANS, Rule.PER_HOUR, [NOON - HOUR + 1, NOON - 9, NOON - 8, NOON], {}, NOON),
    "system, day": (LOANS, Rule.PER_DAY, [NOON - DAY + 1, *(NOON - n * 2 * HOUR for n in range(1, 6))], {}, NOON),
    "system, undecided": (LOANS, Rule.UNDECIDED, [NOON - 9 * DAY] * 3, {"undecided_since": NOON - 72 * HOUR}, NOON),
    "system, settled": (LOANS, Rule.SETTLED, [NOON - 3 * DAY, NOON - 2 * DAY], {"settled": "ended"}, NOON),
}


@pytest.mark.parametrize("case", CASES)
def test_judge__at_the_limit__finds_it_and_one_below_nothing(case: str) -> None:
    actor, rule, times, facts, now = CASES[case]
    all_of_them = looks(actor, times, **facts)

    (found,) = judge(all_of_them, SMALL, now=now)

    assert (found.rule, found.actor, found.count, found.limit) == (rule, actor, len(times), len(times))
    assert set(found.applications) == {look.application for look in all_of_them}
    assert found.numbers == tuple(range(1, len(times) + 1))
    for left_out in range(len(times)):
        assert judge(all_of_them[:left_out] + all_of_them[left_out + 1 :], SMALL, now=now) == []


@pytest.mark.parametrize("case", CASES)
def test_judge__the_first_a_second_outside_of_the_window__finds_nothing(case: str) -> None:
    actor, rule, times, facts, now = CASES[case]
    if rule is Rule.UNDECIDED:
        facts = {"undecided_since": facts["undecided_since"] + 1}  # the decision is not overdue yet
    else:
        edge = {Rule.PER_HOUR: HOUR, Rule.PER_DAY: DAY, Rule.OUT_OF_HOURS: HOUR, Rule.SETTLED: 30 * DAY}[rule]
        times = [now - edge, *times[1:]]

    assert judge(looks(actor, times, **facts), SMALL, now=now) == []


def test_judge__others_looks_and_daytime__do_not_add_up() -> None:
    mixed = looks(ANNA, [NOON, NOON]) + looks("user:ben", [NOON, NOON]) + looks(LOANS, [NOON] * 3)
    night = looks(LOANS, [NOON + 11 * HOUR] * 3)  # a system may work at night

    assert judge(mixed, SMALL, now=NOON) == []
    assert judge(night, SMALL, now=NOON + 11 * HOUR) == []
    assert judge(looks(ANNA, [NOON] * 500), MisuseSettings(per_hour=0, per_day=0), now=NOON) == []


def test_judge__what_was_counted__counts_no_more_and_new_ones_count_anew() -> None:
    old = looks(ANNA, [NOON - 9, NOON - 8, NOON - 7])
    past = Past({(ANNA, Rule.PER_HOUR): frozenset(look.application for look in old)}, {ANNA: NOON - 5})
    new = [Look(f"new{n}", 9 + n, ANNA, NOON) for n in range(3)]

    assert judge(old, SMALL, now=NOON, past=past) == []
    assert judge(old + new[:1], SMALL, now=NOON, past=past) == []
    found = judge(old + new, MisuseSettings(per_hour=3, per_day=0), now=NOON, past=past)
    assert [one.count for one in found] == [3]


def test_judge__undecided_while_suspended__is_counted_from_the_lift_on() -> None:
    waiting = looks(ANNA, [NOON - 9 * DAY] * 2, undecided_since=NOON - 8 * DAY)

    lifted = Past({}, {ANNA: NOON - DAY})

    assert judge(waiting, SMALL, now=NOON, past=lifted) == []
    assert len(judge(waiting, SMALL, now=NOON + 2 * DAY, past=lifted)) == 1


@pytest.mark.parametrize(
    ("hour", "zone", "expected"),
    [
        ("05:59", "UTC", True),
        ("06:00", "UTC", False),
        ("21:59", "UTC", False),
        ("22:00", "UTC", True),
        ("21:59", "Asia/Taipei", True),  # 05:59 there
        ("22:00", "Asia/Taipei", False),  # 06:00 there, on Saturday
    ],
)
def test_closed__by_the_clock_of_the_zone(hour: str, zone: str, expected: bool) -> None:
    at = NOON - 12 * HOUR + int(hour[:2]) * HOUR + int(hour[3:]) * 60

    assert closed(at, MisuseSettings(time_zone=zone)) is expected
    assert closed(at, MisuseSettings(time_zone=zone, closed_days=("fri", "sat")))


@pytest.mark.parametrize(
    "wrong",
    [{"per_hour": -1}, {"opens": "25:00"}, {"opens": "22:00", "closes": "06:00"}, {"time_zone": "Atlantis"}, {"x": 1}],
)
def test_settings__wrong__are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MisuseSettings(**wrong)


# --------------------------------------------------------------------- applied


class Bank:
    """The bank of a world, with small limits and a clock that the test turns."""

    def __init__(self, there: World, limits: MisuseSettings, webhook: Webhook | None = None) -> None:
        self.there = there
        self.site: Site = there.bank
        self.clock = Clock(int(time.time()))
        self.desk: Applications = self.site.applications
        assert self.desk.misuse is not None
        self.misuse: Misuse = self.desk.misuse
        self.misuse.limits = limits
        self.misuse.webhook = webhook
        self.desk.clock = self.misuse.clock = self.clock

    def draft(self, subject: Subject | None = None, **changes: str) -> Draft:
        who = subject or self.there.take()
        fields = {"kind": who.kind, "country": who.country, "number": who.number, "amount": "1000"}
        return Draft.parse({**fields, "purpose": "new_credit", "evidence": EVIDENCE, **changes}, currency="TWD")

    def work(self) -> None:
        for _ in range(12):
            self.there.consortium.work(but="Bank A")
            self.site.node.round()
            self.there.supervisor.node.round()

    def disabled(self, name: str) -> bool:
        user = self.site.people.get(name)
        assert user is not None
        return user.disabled


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("misuse")) as found:
        yield found


@pytest.fixture
def there(consortium: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world, with limits, clock and webhook as they were after the test."""
    desk = consortium.bank.applications
    for part, name in ((desk.misuse, "limits"), (desk.misuse, "webhook"), (desk.misuse, "clock"), (desk, "clock")):
        monkeypatch.setattr(part, name, getattr(part, name))
    return consortium


HOURLY = MisuseSettings(per_hour=3, out_of_hours=0)


def test_officer__at_the_limit__is_out_and_what_he_asked_for_is_held_until_a_reviewer_lifts_it(there: World) -> None:
    bank = Bank(there, HOURLY)
    bank.site.people.create("pat", "Pat", ["officer"], by=None, why="test")
    browser = bank.site.sign_in("pat")
    first = there.enter("pat")
    bank.work()
    second = there.enter("pat")
    assert browser.get("/applications").status_code == 200
    assert not bank.disabled("pat")

    third = there.enter("pat")  # the third

    # (1) out with the next request, by every door.
    assert browser.get("/applications").headers["location"].startswith("/sign-in")
    assert bank.site.people.get("pat").suspended  # type: ignore[union-attr]
    with pytest.raises(PeopleError, match="suspended"):
        bank.site.people.issue_sign_in("pat", by=None)
    with pytest.raises(NotAllowed, match="suspended"):  # a request that was under way
        bank.desk.create(bank.draft(), officer="user:pat")
    # (2) what is on the ledger is there; what was not sent is held.
    bank.work()
    assert bank.desk.get(first).step is Step.READY
    for held in (second, third):
        assert (bank.desk.get(held).step, bank.desk.get(held).note) == (Step.WAITING, HELD)
    # (3) nobody but a reviewer lifts it, with a reason.
    (row,) = bank.misuse.open()
    assert (row.actor, row.kind, row.findings[0]["rule"], row.findings[0]["count"]) == (
        "user:pat",
        "suspended",
        "per_hour",
        3,
    )
    people, place = bank.site.people, f"/suspensions/{row.id}/lift"
    assert bank.site.sign_in("administrator").post(place, data={"reason": "x"}).status_code == 403
    assert bank.site.sign_in("administrator").post("/people/pat/enable", data={"why": "x"}).status_code == 409
    administrator = people.get("administrator")
    with pytest.raises(Forbidden, match="reviewer"):
        bank.misuse.lift(row.id, by=administrator, why="x")
    assert bank.site.sign_in("reviewer").post(place, data={"reason": " "}).status_code == 409
    assert bank.disabled("pat")
    assert bank.site.sign_in("reviewer").post(place, data={"reason": "a fair, all were there"}).status_code == 303
    # (4) what was held goes on; the same facts suspend nobody again.
    bank.work()
    assert [bank.desk.get(one).step for one in (second, third)] == [Step.READY] * 2
    assert bank.misuse.apply() == []
    del bank.site.clients["pat"]
    there.enter("pat")
    there.enter("pat")
    assert not bank.disabled("pat")
    # (5) three new ones do.
    there.enter("pat")
    assert bank.disabled("pat")
    entries = bank.site.audit.search(about="account/pat", action="account.")
    assert [entry.action for entry in reversed(entries)] == [
        "account.created",
        "account.suspended",
        "account.resumed",
        "account.suspended",
    ]
    assert bank.site.audit.verify() > 0


def test_lift__of_his_own__is_refused_to_an_officer_who_is_a_reviewer_too(there: World) -> None:
    bank = Bank(there, HOURLY)
    both = bank.site.people.get("both")
    assert both is not None
    bank.desk.create_many([bank.draft() for _ in range(3)], officer="user:both")
    (row,) = [row for row in bank.misuse.open() if row.actor == "user:both"]

    for refused in (both, bank.site.people.get("officer2")):
        with pytest.raises(Forbidden):
            bank.misuse.lift(row.id, by=refused, why="it was me")
    bank.misuse.lift(row.id, by=bank.site.people.get("reviewer"), why="a fair")

    assert not bank.disabled("both")
    with pytest.raises(PeopleError, match="already"):
        bank.misuse.lift(row.id, by=None, why="again")


def test_batch__above_a_limit__is_refused_as_a_whole_and_suspends_nobody(there: World) -> None:
    bank = Bank(there, HOURLY)
    before = len(bank.desk.newest())

    with pytest.raises(TooMuch, match="at most 3"):
        bank.desk.create_many([bank.draft(there.subjects[n]) for n in range(4)], officer="user:officer2")

    assert len(bank.desk.newest()) == before
    assert not bank.disabled("officer2")


def test_undecided__when_the_decisions_are_overdue__the_worker_suspends_once(there: World) -> None:
    bank = Bank(there, MisuseSettings(undecided=2, out_of_hours=0))
    bank.site.people.create("uma", "Uma", ["officer"], by=None, why="test")
    one, two, decided = (bank.desk.create(bank.draft(), officer="user:uma").id for _ in range(3))
    bank.work()
    outcome = Outcome(bank.desk.get(decided).answer["outcome"])  # type: ignore[index]
    bank.desk.decide(decided, officer="user:uma", outcome=max(outcome, Outcome.APPROVE), reason="as usual")
    since = bank.clock.now
    bank.clock.now = since + 72 * HOUR - 1
    assert bank.misuse.apply() == []

    bank.clock.now += 1
    with there.bank.node.locked() as party:
        lines = bank.misuse.round(party)
        again = bank.misuse.round(party)

    assert ([line for line in lines if "user:uma" in line], again) == (
        ["user:uma is suspended: limit undecided against misuse"],
        [],
    )
    (row,) = [row for row in bank.misuse.open() if row.actor == "user:uma"]
    assert set(row.findings[0]["applications"]) == {one, two}
    assert bank.disabled("uma")
    # Disabled by an administrator besides: a reviewer's lift does not undo that.
    bank.site.people.disable("uma", by=bank.site.people.get("administrator"), why="has left")
    bank.misuse.lift(row.id, by=bank.site.people.get("reviewer"), why="was ill")
    assert bank.disabled("uma")
    bank.site.people.enable("uma", by=bank.site.people.get("administrator"), why="is back")
    assert not bank.disabled("uma")
    assert bank.misuse.apply() == []


def test_settled__a_customer_with_nothing_new__counts_and_each_twin_does_not(there: World) -> None:
    bank = Bank(there, MisuseSettings(settled=0, per_hour=0, per_day=0, out_of_hours=0))
    book = there.consortium.books["Bank A"]
    customer, other = [subject for subject in book.subjects() if any(book.lookup(subject).values())][-2:]
    stranger = Subject("passport", "P7654321", country="US")

    def reason(subject: Subject, **changes: str) -> str:
        made = bank.desk.create(bank.draft(subject, **changes), officer="user:officer")
        with bank.site.database.read() as connection:
            c = applications_table.c
            return str(
                connection.scalar(applications_table.select().with_only_columns(c.settled).where(c.id == made.id)) or ""
            )

    review = {"amount": "0", "purpose": "review"}
    # Nothing is owed here and nothing asked for; asking for an amount, or owing, is a reason.
    assert reason(stranger, **review, evidence="01" * 32) == "nothing_owed"
    assert reason(stranger, evidence="02" * 32) == ""
    assert reason(other, **review, evidence="03" * 32) == ""
    # Decided: the same consent, or a review right after it; a new consent for an amount is a reason.
    first = bank.desk.create(bank.draft(customer, evidence="04" * 32), officer="user:officer")
    assert reason(customer, evidence="04" * 32) == ""  # it is not decided yet
    bank.work()
    for _ in range(3):
        if bank.desk.get(first.id).step is Step.WAITING:
            there.consortium.advance(3_600)
            bank.work()
    found = bank.desk.get(first.id)
    bank.desk.decide(first.id, officer="user:officer", outcome=Outcome.DECLINE, reason="withdrawn")
    if bank.desk.get(first.id).step is Step.REVIEW:
        bank.desk.review(first.id, reviewer="user:reviewer", agree=True, reason="")
    assert bank.desk.get(first.id).step is Step.DECIDED, found.note
    assert reason(customer, evidence="04" * 32) == "same_consent"
    assert reason(customer, evidence="05" * 32) == ""
    assert reason(customer, **review, evidence="06" * 32) == "ended"
    with second_tag_key(there):  # the same customer under another tag
        assert reason(customer, evidence="04" * 32) == "same_consent"
        assert reason(other, evidence="04" * 32) == ""
        bank.misuse.round(there.bank.node.party)
    bank.clock.now += 91 * DAY
    bank.desk.clock = lambda: time.time()  # the consent is judged by today's clock
    assert reason(customer, **review, evidence="07" * 32) == ""


# --------------------------------------------------------------------- a system


def test_system__above_its_rate__is_held_back_and_told_once_and_goes_on_by_itself(there: World) -> None:
    bank = Bank(there, MisuseSettings(system_per_hour=2, out_of_hours=0))
    token, secret = bank.site.people.create_token(
        "loans", ["applications:write", "applications:read"], by=None, why="x"
    )
    api = bank.site.anonymous()
    subjects = [there.take() for _ in range(3)]

    def post(number: int) -> Any:
        who = subjects[number]
        body = {
            "customer": {"kind": who.kind, "country": who.country, "number": who.number},
            "amount": "1",
            "currency": "TWD",
            "purpose": "new_credit",
            "consent_evidence": EVIDENCE,
        }
        headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": f"case-{number}-x"}
        return api.post("/api/applications", json=body, headers=headers)

    assert [post(0).status_code, post(1).status_code] == [201, 201]
    assert not [row for row in bank.misuse.open() if row.actor == token.actor]
    bank.clock.now += 600
    refused = [post(2), post(2)]

    assert [answer.status_code for answer in refused] == [429, 429]
    assert 0 < int(refused[0].headers["retry-after"]) <= HOUR - 600
    assert "at most 2" in refused[0].json()["error"]
    assert post(0).status_code == 201  # the same key: the first answer
    (row,) = [row for row in bank.misuse.open() if row.actor == token.actor]
    assert (row.kind, row.findings[0]["rule"]) == ("held_back", "per_hour")
    assert len(bank.site.audit.search(action="token.held_back", about=f"token/{token.id}")) == 1
    assert "held back" in bank.site.sign_in("reviewer").get("/reviews").text
    with pytest.raises(PeopleError, match="time"):
        bank.misuse.lift(row.id, by=bank.site.people.get("reviewer"), why="go on")
    bank.clock.now += int(refused[0].headers["retry-after"])
    with there.bank.node.locked() as party:
        bank.misuse.round(party)
    assert not [row for row in bank.misuse.open() if row.actor == token.actor]
    assert post(2).status_code == 201


def test_system__at_another_limit__cannot_post_until_a_reviewer_lifts_it(there: World) -> None:
    bank = Bank(there, MisuseSettings(settled=2, out_of_hours=0))
    token, _ = bank.site.people.create_token("loans", ["applications:write"], by=None, why="x")
    review = {"amount": "0", "purpose": "review"}
    strangers = [Subject("passport", f"P765432{n}", country="US") for n in (2, 3)]

    bank.desk.create(bank.draft(strangers[0], **review), officer=token.actor)
    assert bank.misuse.open() == [] or all(row.actor != token.actor for row in bank.misuse.open())
    last = bank.desk.create(bank.draft(strangers[1], **review), officer=token.actor)

    (row,) = [row for row in bank.misuse.open() if row.actor == token.actor]
    with pytest.raises(NotAllowed, match="suspended"):
        bank.desk.create(bank.draft(), officer=token.actor)
    there.bank.node.round()
    with there.bank.node.locked() as party:
        bank.desk.follow(party)
    assert bank.desk.get(last.id).note == HELD
    bank.misuse.lift(row.id, by=bank.site.people.get("reviewer"), why="the yearly review")
    bank.desk.create(bank.draft(), officer=token.actor)
    assert bank.misuse.apply(token.actor) == []


# --------------------------------------------------------------------- who is told


def test_told__reviewer_monitoring_metrics_and_webhook(there: World) -> None:
    hook = Webhook(there.bank.database, there.bank.audit, url="http://127.0.0.1:9/hook", secret=b"k" * 32)
    bank = Bank(there, HOURLY, hook)
    bank.site.people.create("nora", "Nora <b>", ["officer"], by=None, why="test")
    before = bank.site.audit.head()[0]
    reviewer = bank.site.sign_in("reviewer")
    mark = re.search(r'aria-hidden="true">(\d+)<', reviewer.get("/reviews/waiting").text)
    was = int(mark[1]) if mark else 0

    made = bank.desk.create_many([bank.draft() for _ in range(3)], officer="user:nora")

    # (1) the page, escaped, with the mark in the navigation.
    page = reviewer.get("/reviews").text
    assert "Nora &lt;b&gt;" in page
    assert "3 applications within an hour; the limit is 3." in page
    mark = re.search(r'aria-hidden="true">(\d+)<', reviewer.get("/reviews/waiting").text)
    assert mark is not None
    assert int(mark[1]) == was + 1
    assert "suspended" in bank.site.sign_in("administrator").get("/people").text
    # (2) the stream of the audit log.
    lines = bank.site.sign_in("auditor").get("/api/audit", params={"since": before}).text.splitlines()
    (told,) = [entry for entry in map(json.loads, lines) if entry["action"] == "account.suspended"]
    assert (told["actor"], told["about"], told["why"]) == (
        "node",
        "account/nora",
        "3 applications within an hour; the limit is 3",
    )
    assert set(told["facts"]["findings"][0]["applications"]) == {one.id for one in made}
    # (3) metrics.
    metrics = bank.site.sign_in("auditor").get("/metrics").text
    assert re.search(r'mpcredit_suspended\{kind="suspended",party="Bank A"\} [1-9]', metrics)
    assert re.search(r'mpcredit_suspensions_total\{kind="suspended",party="Bank A"\} [1-9]', metrics)
    # (4) the webhook's queue, which signs what it sends.
    (row,) = [row for row in bank.misuse.open() if row.actor == "user:nora"]
    with bank.site.database.read() as connection:
        query = webhook_table.select().where(webhook_table.c.application == f"suspension/{row.id}")
        (queued,) = connection.execute(query).all()
    body = json.loads(queued.body)
    assert (queued.event, body["event"]) == ("misuse.suspended", "misuse.suspended")
    assert (body["suspension"]["actor"], body["suspension"]["findings"][0]["rule"]) == ("user:nora", "per_hour")


# --------------------------------------------------------------------- crashes, databases


def _fill(database: Database, officer: str, number: int, at: int) -> None:
    with database.transaction() as connection:
        for place in range(number):
            name = f"{officer}{place}"
            row = {"officer": officer, "created_at": at, "step": "waiting", "fingerprint": "", "value": "{}"}
            connection.execute(applications_table.insert().values(id=name, consent=name, **row))


CRASH = """
    import os, sys
    from argon2 import PasswordHasher
    from mpcredit.server.audit import AuditLog
    from mpcredit.server.database import Database, _scripts_config
    from mpcredit.server.misuse import Misuse
    from mpcredit.server.people import People
    from mpcredit.server.settings import MisuseSettings

    class Dying(AuditLog):
        def append(self, *arguments, **facts):
            if sys.argv[2] == "after":
                super().append(*arguments, **facts)
            os.kill(os.getpid(), 9)

    database = Database(sys.argv[1])
    audit = Dying(database)
    people = People(database, audit, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    Misuse(database, None, audit, people, MisuseSettings(per_hour=3, out_of_hours=0)).apply()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_crash__between_finding_and_entry__is_done_once_by_the_next_start(
    url: str, database: Database, audit: AuditLog, when: str
) -> None:
    people = People(database, audit, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    people.install([("anna", "Anna", ["officer"])])
    user = people.get("anna")
    assert user is not None
    session = people.start_session(user, method="link")
    _fill(database, ANNA, 3, int(time.time()))
    program = textwrap.dedent(CRASH)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    done = subprocess.run([sys.executable, "-c", program, url, when], env=environment, check=False, timeout=60)

    assert done.returncode == -9
    assert people.session(session) is not None  # nothing of it was kept
    misuse = Misuse(database, None, audit, people, HOURLY)  # type: ignore[arg-type]
    assert misuse.open() == []
    (made,) = misuse.apply()
    assert misuse.apply() == []
    assert people.session(session) is None
    assert [row.id for row in misuse.open()] == [made.id]
    assert len(audit.search(action="account.suspended")) == 1
    assert audit.verify() > 0


def test_below_the_limit__in_the_database__suspends_nobody(database: Database, audit: AuditLog, people: People) -> None:
    people.install([("anna", "Anna", ["officer"])])
    _fill(database, ANNA, 2, int(time.time()))

    assert Misuse(database, None, audit, people, HOURLY).apply() == []  # type: ignore[arg-type]
    assert not people.get("anna").disabled  # type: ignore[union-attr]
