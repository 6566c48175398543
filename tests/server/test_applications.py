"""Applications: entered, asked about, decided, confirmed; who may do what, and that nothing is asked twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from web_world import EVIDENCE, World, world

from mpcredit.amounts import Money
from mpcredit.errors import InvalidConsent
from mpcredit.inquirer import Inquirer
from mpcredit.policy import Outcome
from mpcredit.server.applications import Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.casefile import Step
from mpcredit.server.database import Database
from mpcredit.server.drafts import BATCH_ROWS, Draft, read_batch
from mpcredit.server.refusals import InvalidForm, NotAllowed, NotFound

ANNA, BEN, REVIEWER = "user:anna", "user:ben", "user:rosa"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A consortium for all tests of this file; each takes customers of its own."""
    with world(tmp_path_factory.mktemp("applications")) as found:
        yield found


@pytest.fixture
def desk(there: World) -> Applications:
    """The bank's applications."""
    return there.bank.applications


def fields(there: World, **changes: str) -> dict[str, str]:
    """A form that is right."""
    subject = there.take()
    given = {"kind": subject.kind, "country": subject.country, "number": subject.number}
    return {**given, "amount": "200000", "purpose": "new_credit", "evidence": EVIDENCE, **changes}


def draft(there: World, **changes: str) -> Draft:
    """A right application."""
    return Draft.parse(fields(there, **changes), currency="TWD")


# --------------------------------------------------------------------- entering


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("number", "A123456788"),
        ("number", ""),
        ("kind", "nickname"),
        ("country", "XX"),
        ("amount", ""),
        ("amount", "1.5e3"),
        ("amount", "-1"),
        ("amount", "nan"),
        ("amount", "0.001"),
        ("amount", "99999999999999"),
        ("months", "0"),
        ("months", "601"),
        ("months", "²"),
        ("income", "much"),
        ("purpose", "curiosity"),
        ("currency", "USD"),
        ("evidence", "abc"),
        ("reference", "x" * 101),
    ],
)
def test_draft__one_field_wrong__is_refused_by_its_name(field: str, value: str) -> None:
    right = {"kind": "national_id", "country": "TW", "number": "A123456789", "amount": "1", "purpose": "review"}

    with pytest.raises(InvalidForm) as error:
        Draft.parse({**right, "evidence": EVIDENCE, field: value}, currency="TWD")

    assert set(error.value.problems) == {field}


def test_draft__right__is_exact_and_hides_the_number() -> None:
    given = {"kind": "national_id", "country": "tw", "number": "a 123-456-789", "amount": "1,234.50", "months": "24"}

    made = Draft.parse({**given, "purpose": "new_credit", "evidence": EVIDENCE}, currency="TWD")

    assert made.requested == Money("1234.50", "TWD")
    assert made.label == "TW …789"
    assert "A123456789" not in repr(made.subject)


def test_create__without_evidence__asks_nobody(there: World, desk: Applications) -> None:
    before = len(desk.newest())

    with pytest.raises(InvalidForm, match="evidence"):
        desk.create(draft(there, evidence=""), officer=ANNA)

    assert len(desk.newest()) == before


def test_create__keeps_no_number(there: World, desk: Applications) -> None:
    given = fields(there)

    made = desk.create(Draft.parse(given, currency="TWD"), officer=ANNA)

    with there.bank.database.read() as connection:
        everything = "\n".join(
            str(tuple(row))
            for table in ("application", "application_consent", "audit")
            for row in connection.exec_driver_sql(f"SELECT * FROM {table}")
        )
    assert made.id in everything
    assert given["number"] not in everything


def test_create__same_key_and_content__is_the_first_application(there: World, desk: Applications) -> None:
    same = draft(there)

    first = desk.create(same, officer=ANNA, idempotency_key="anna/key-1")
    again = desk.create(same, officer=ANNA, idempotency_key="anna/key-1")

    assert again.id == first.id
    with there.bank.node.locked() as party:
        assert sum(request.id == first.request_id for request in party.inquirer.requests()) == 1


def test_create__same_key_other_content__is_refused(there: World, desk: Applications) -> None:
    desk.create(draft(there), officer=ANNA, idempotency_key="anna/key-2")

    with pytest.raises(InvalidForm, match="another application"):
        desk.create(draft(there), officer=ANNA, idempotency_key="anna/key-2")


def test_inquiry_that_had_ended_goes_on__its_application_is_followed_to_its_totals(
    there: World, desk: Applications
) -> None:
    application = desk.create(draft(there), officer=ANNA)
    there.bank.node.round()
    request = str(desk.get(application.id).request_id)
    with there.bank.node.locked() as party:  # as if the end was on the ledger that a reorganisation has replaced
        store = party.desk.store
        store.put("request", request, {**(store.get("request", request) or {}), "state": "expired"})
        assert desk.follow(party) == [f"application {application.number} ended without totals"]
    assert desk.get(application.id).step is Step.STOPPED

    there.settle()

    assert desk.get(application.id).step is Step.READY


def test_batch__is_packed_into_one_inquiry_per_purpose(there: World, desk: Applications) -> None:
    rows = [fields(there), fields(there), fields(there, purpose="credit_line")]
    names = list(rows[0])
    text = "\n".join([",".join(names), *(",".join(row[name] for name in names) for row in rows)])

    made = desk.create_many(read_batch(text.encode(), currency="TWD"), officer=ANNA)

    assert made[0].request_id == made[1].request_id != made[2].request_id


def test_batch__customers_of_different_earlier_cohorts__are_asked_about_apart(
    there: World, desk: Applications, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [fields(there) for _ in range(4)]
    names = list(rows[0])
    text = "\n".join([",".join(names), *(",".join(row[name] for name in names) for row in rows)])
    monkeypatch.setattr(Inquirer, "earlier_cohorts", lambda _self, _consents: [0, 0b0111, 0, 0b0111])

    made = desk.create_many(read_batch(text.encode(), currency="TWD"), officer=ANNA)

    requests = [application.request_id for application in made]
    assert requests[0] == requests[2] != requests[1] == requests[3]


def test_batch__more_than_one_inquiry_takes__is_split_in_its_order(
    there: World, desk: Applications, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [fields(there) for _ in range(5)]
    names = list(rows[0])
    text = "\n".join([",".join(names), *(",".join(row[name] for name in names) for row in rows)])
    monkeypatch.setattr(Inquirer, "capacity", lambda _self, consents, **_: min(2, len(consents)))

    made = desk.create_many(read_batch(text.encode(), currency="TWD"), officer=ANNA)

    requests = [application.request_id for application in made]
    assert requests[0] == requests[1] != requests[2] == requests[3] != requests[4]
    assert len(set(requests)) == 3


def test_batch__too_many_rows__says_to_split_the_file(there: World) -> None:
    row = fields(there)
    text = "\n".join([",".join(row), *[",".join(row.values())] * (BATCH_ROWS + 1)])

    with pytest.raises(InvalidForm) as error:
        read_batch(text.encode(), currency="TWD")

    assert error.value.problems == {"file": "has 1001 rows; split the file: at most 1000 at once"}


def test_batch__page_tells_how_many_one_inquiry_takes(desk: Applications) -> None:
    # 16 blocks of 7 subjects under keys of 2,048 bits: docs/spec.md section 9.
    assert desk.largest() == 112


def test_batch__one_wrong_row__names_it_and_enters_none(there: World) -> None:
    rows = [fields(there), fields(there, amount="much")]
    names = list(rows[0])
    text = "\n".join([",".join(names), *(",".join(row[name] for name in names) for row in rows)])

    with pytest.raises(InvalidForm) as error:
        read_batch(text.encode(), currency="TWD")

    assert set(error.value.problems) == {"row 3, amount"}


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"kind,country\nnational_id,TW\n", b'kind\n"x'])
def test_batch__no_csv__is_refused(data: bytes) -> None:
    with pytest.raises(InvalidForm):
        read_batch(data, currency="TWD")


# --------------------------------------------------------------------- the whole way


def test_totals__are_the_clear_sums_and_the_policy_answers(there: World, desk: Applications) -> None:
    subject = there.subjects[-1]
    made = desk.create(draft(there, amount="100000"), officer=ANNA)
    assert made.step is Step.WAITING

    there.settle()

    done = desk.get(made.id)
    expected = [0, 0, 0]
    for book in there.consortium.books.values():
        record = book.lookup(subject)
        for place, name in enumerate(("outstanding", "credit_limit", "overdue")):
            expected[place] += record[name]
    assert done.step is Step.READY
    assert done.attested
    assert done.totals is not None
    assert [done.totals[name] for name in ("outstanding", "credit_limit", "overdue")] == expected
    assert done.with_requested.minor == expected[0] + 10_000_000
    assert done.seen["coverage"] == "4 of 4 institutions"
    assert done.answer is not None
    assert done.answer["outcome"] in list(Outcome)


@pytest.fixture
def ready(there: World, desk: Applications) -> str:
    """An application whose policy answer is approve, and which Anna may decide."""
    made = desk.create(draft(there, amount="1"), officer=ANNA)
    there.settle()
    current = desk.get(made.id)
    assert current.step is Step.READY
    with there.bank.database.transaction():
        desk._save(current, Step.READY, answer={**(current.answer or {}), "outcome": "approve", "reasons": []})
    return made.id


def test_decide__with_the_policy__needs_neither_reason_nor_reviewer(desk: Applications, ready: str) -> None:
    decided = desk.decide(ready, officer=ANNA, outcome=Outcome.APPROVE, reason="")

    assert decided.step is Step.DECIDED
    assert decided.decision is not None
    assert not decided.decision["against"]


def test_decide__against_the_policy__needs_a_reason(desk: Applications, ready: str) -> None:
    with pytest.raises(InvalidForm) as error:
        desk.decide(ready, officer=ANNA, outcome=Outcome.DECLINE, reason="  ")

    assert set(error.value.problems) == {"reason"}
    assert desk.get(ready).step is Step.READY


def test_decide__against_the_policy__waits_for_another_person(desk: Applications, ready: str) -> None:
    assert desk.decide(ready, officer=ANNA, outcome=Outcome.DECLINE, reason="lost his job").step is Step.REVIEW

    with pytest.raises(NotAllowed, match="nobody confirms his own"):
        desk.review(ready, reviewer=ANNA, agree=True, reason="")
    confirmed = desk.review(ready, reviewer=REVIEWER, agree=True, reason="")

    assert confirmed.step is Step.DECIDED
    assert confirmed.decision is not None
    assert confirmed.decision["confirmed_by"] == REVIEWER


def test_review__sent_back__is_the_officers_again(desk: Applications, ready: str) -> None:
    desk.decide(ready, officer=ANNA, outcome=Outcome.DECLINE, reason="lost his job")

    with pytest.raises(InvalidForm):
        desk.review(ready, reviewer=REVIEWER, agree=False, reason="")
    back = desk.review(ready, reviewer=REVIEWER, agree=False, reason="ask for his papers")

    assert back.step is Step.READY
    assert back.decision is None
    assert back.returned is not None
    assert back.returned["reason"] == "ask for his papers"


def test_decide__by_another_officer__is_refused(desk: Applications, ready: str) -> None:
    with pytest.raises(NotAllowed):
        desk.decide(ready, officer=BEN, outcome=Outcome.APPROVE, reason="mine now")


def test_decide__twice__is_refused(desk: Applications, ready: str) -> None:
    desk.decide(ready, officer=ANNA, outcome=Outcome.APPROVE, reason="")

    with pytest.raises(NotAllowed):
        desk.decide(ready, officer=ANNA, outcome=Outcome.DECLINE, reason="changed my mind")


def test_decide__while_under_way__is_refused(there: World, desk: Applications) -> None:
    made = desk.create(draft(there), officer=ANNA)

    with pytest.raises(NotAllowed):
        desk.decide(made.id, officer=ANNA, outcome=Outcome.APPROVE, reason="in a hurry")


def test_get__unknown__is_not_found(desk: Applications) -> None:
    with pytest.raises(NotFound):
        desk.get("0" * 16)


# --------------------------------------------------------------------- ends without totals


def test_asked_again_at_once__is_refused_and_says_why(there: World, desk: Applications) -> None:
    given = fields(there)
    first = desk.create(Draft.parse(given, currency="TWD"), officer=ANNA)
    there.settle()

    second = desk.create(Draft.parse(given, currency="TWD"), officer=ANNA)
    there.settle()

    assert desk.get(first.id).step is Step.READY
    stopped = desk.get(second.id)
    assert stopped.step is Step.STOPPED
    assert "refused (code 8)" in stopped.note
    assert stopped.totals is None


def test_silent_institution__expires__and_asking_again_gives_totals(there: World, desk: Applications) -> None:
    there.consortium.asleep.add("Bank D")
    made = desk.create(draft(there), officer=ANNA)
    for _ in range(4):
        there.consortium.work(but="Bank A")
        there.bank.node.round()
    waiting = desk.get(made.id)
    assert waiting.step is Step.ASKING
    assert waiting.note.startswith("waiting for Bank D, until ")
    there.consortium.advance(3_601)
    there.settle()
    assert desk.get(made.id).step is Step.STOPPED
    assert "no answer from Bank D" in desk.get(made.id).note
    there.consortium.asleep.discard("Bank D")
    for _ in range(4):
        there.consortium.work(but="Bank A")
        there.bank.node.round()

    desk.ask_again(made.id, officer=ANNA)
    there.settle()

    assert desk.get(made.id).step is Step.READY


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_store__any_database__keeps_the_same(there: World, kind: str, request: pytest.FixtureRequest) -> None:
    site = there.bank
    if kind == "postgresql":
        cluster = request.getfixturevalue("cluster")
        database = Database(cluster.url(cluster.create()))
        request.addfinalizer(database.close)
        database.upgrade()
    else:
        database = site.database
    desk = Applications(database, site.node, AuditLog(database))

    made = desk.create(draft(there), officer=ANNA, idempotency_key=f"{kind}/1")
    for _ in range(12):
        there.consortium.work(but="Bank A")
        site.node.round()
        there.supervisor.node.round()
        with site.node.locked() as party:
            desk.follow(party)
    decided = desk.decide(made.id, officer=ANNA, outcome=Outcome.APPROVE, reason="known well")

    assert decided.decision is not None
    assert desk.get(made.id).totals == decided.totals
    assert desk.consents.all()[0]["hash"] == made.consent
    assert sum(desk.counts().values()) == len(desk.newest())


# --------------------------------------------------------------------- consents


def test_revoke__before_the_inquiry_opens__stops_it_and_asking_again(there: World, desk: Applications) -> None:
    made = desk.create(draft(there), officer=ANNA)

    desk.consents.revoke(made.consent, by=ANNA, why="customer called")
    there.settle()

    stopped = desk.get(made.id)
    assert stopped.step is Step.STOPPED
    assert "revoked" in stopped.note
    with pytest.raises(InvalidConsent, match="revoked"):
        desk.ask_again(made.id, officer=ANNA)
    assert desk.get(made.id).step is Step.STOPPED


def test_revoke__without_a_reason__is_refused(there: World, desk: Applications) -> None:
    made = desk.create(draft(there), officer=ANNA)

    with pytest.raises(InvalidForm):
        desk.consents.revoke(made.consent, by=ANNA, why=" ")


def test_stopped__decided_without_totals__needs_another_person(there: World, desk: Applications) -> None:
    made = desk.create(draft(there), officer=ANNA)
    desk.consents.revoke(made.consent, by=ANNA, why="customer called")
    there.settle()

    decided = desk.decide(made.id, officer=ANNA, outcome=Outcome.DECLINE, reason="withdrawn by the customer")

    assert decided.step is Step.REVIEW


def test_audit__holds_every_step_and_is_whole(there: World, desk: Applications, ready: str) -> None:
    desk.decide(ready, officer=ANNA, outcome=Outcome.APPROVE, reason="")

    actions = [entry.action for entry in there.bank.audit.search(about=f"application/{ready}")]

    assert actions == ["application.decided", "application.totals_received", "application.created"]
    assert there.bank.audit.verify() > 0
