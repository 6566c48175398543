"""Corrections at the server: entered and confirmed by two, in the loan book, told, marked, asked again (R41, R42).

Branches: one row of the book in the database - changed, added, no book, an import runs, killed; a correction - wrong form, too
many, own, refused, a book in a file, in the database, a third figure, an import that has it wrong again; the inquirer - marked,
asked again, somebody else's, another customer, cool-down; the supervisor's page. Messages: tests/attacks/test_corrections.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import delete, select
from test_bookimport import TAGGER, Bank, bank, person, row
from test_footprint import ask
from test_webhook import SECRET
from web_world import EVIDENCE, World, second_tag_key, world

from mpcredit.correcting import Listener, Sender
from mpcredit.encoding import to_hex
from mpcredit.errors import StoreError
from mpcredit.identity import Subject
from mpcredit.notices import DAY, Corrected
from mpcredit.schema import FIGURES_1
from mpcredit.server import bookimport, corrections
from mpcredit.server.bookimport import CsvFile, SnapshotBook, correct_row, current_snapshots, import_book
from mpcredit.server.corrections import Correction, Corrections, correction_table
from mpcredit.server.refusals import InvalidForm, NotAllowed
from mpcredit.server.serve import BookKeeper
from mpcredit.server.telling import Telling
from mpcredit.server.webhook import Webhook, webhook_table

__all__ = ["bank"]

# --------------------------------------------------------------------- one row of the book in the database


def figures(outstanding: int, lenders: int = 1) -> dict[str, int]:
    return {
        "outstanding": outstanding,
        "credit_limit": 100_000,
        "overdue": 0,
        "loans": 1,
        "pending": 0,
        "lenders": lenders,
    }


def test_row__corrected__is_alone_different_and_until_the_next_import(bank: Bank) -> None:
    bank.take(bank.file(row(1), row(2), row(3)))
    before = bank.book()

    snapshot = correct_row(bank.database, bank.audit, FIGURES_1, TAGGER.tag(person(2)), figures(7_700))

    assert [bank.owed(number) for number in (1, 2, 3)] == [10_050, 7_700, 10_050]
    assert [bank.owed(number, before) for number in (1, 2, 3)] == [10_050] * 3
    assert (snapshot.customers, snapshot.added, snapshot.changed) == (3, 0, 1)
    assert snapshot.as_of == before.as_of
    correct_row(bank.database, bank.audit, FIGURES_1, TAGGER.tag(person(3)), figures(1))
    assert [bank.owed(number) for number in (1, 2, 3)] == [10_050, 7_700, 1]
    done = bank.take(bank.file(row(1), row(2, "77"), row(3)))
    assert [bank.owed(number) for number in (1, 2, 3)] == [10_050, 7_700, 10_050]
    assert done.snapshot.changed >= 1


def test_row__corrected__does_not_sweep_the_book_before(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker corrects with the party locked: millions of rows of an earlier book would stop every page and answer."""
    bank.take(bank.file(row(1), row(2)))
    bank.take(bank.file(row(1, "1"), row(2, "2")))
    monkeypatch.setattr(bookimport, "sweep", lambda *_: pytest.fail("it sweeps"))

    correct_row(bank.database, bank.audit, FIGURES_1, TAGGER.tag(person(2)), figures(7))
    correct_row(bank.database, bank.audit, FIGURES_1, TAGGER.tag(person(2)), figures(8))

    assert [bank.owed(number) for number in (1, 2)] == [100, 8]
    monkeypatch.undo()
    bookimport.retire(bank.database)
    while bookimport.sweep(bank.database):
        pass
    assert [bank.owed(number) for number in (1, 2)] == [100, 8]


def test_row__of_who_is_no_customer__is_added(bank: Bank) -> None:
    bank.take(bank.file(row(1)))

    snapshot = correct_row(bank.database, bank.audit, FIGURES_1, TAGGER.tag(person(9)), figures(500))

    assert (bank.owed(9), bank.owed(1)) == (500, 10_050)
    assert (snapshot.customers, snapshot.added, snapshot.changed) == (2, 1, 0)


def test_row__no_book_or_an_import_under_way__is_refused(bank: Bank) -> None:
    tag = TAGGER.tag(person(1))
    with pytest.raises(StoreError, match="no loan book"):
        correct_row(bank.database, bank.audit, FIGURES_1, tag, figures(1))

    bank.take(bank.file(row(1)))
    with bookimport._exclusive(bank.database), pytest.raises(StoreError, match="another import"):
        correct_row(bank.database, bank.audit, FIGURES_1, tag, figures(1))
    assert bank.owed(1) == 10_050


def test_row__killed_before_the_swap__leaves_nothing_that_counts(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    bank.take(bank.file(row(1), row(2)))
    tag = TAGGER.tag(person(1))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bookimport._Loading, "swap", killed)
        patch.setattr(bookimport, "_abandon", lambda *_: None)  # as after kill -9
        with pytest.raises(KeyboardInterrupt):
            correct_row(bank.database, bank.audit, FIGURES_1, tag, figures(1))
    assert bank.owed(1) == 10_050

    correct_row(bank.database, bank.audit, FIGURES_1, TAGGER.tag(person(2)), figures(2))

    assert [bank.owed(number) for number in (1, 2)] == [10_050, 2]


# --------------------------------------------------------------------- a consortium


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("corrections")) as found:
        next_day(found)
        yield found


def desk_of(there: World) -> Corrections:
    found = there.bank.app.state.corrections
    assert isinstance(found, Corrections)
    return found


def next_day(there: World, days: int = 1) -> None:
    """Let days pass, each in its second half, everybody at work and every bank with its daily notice."""
    for _ in range(days):
        now = there.consortium.ledger.head().timestamp
        there.consortium.advance(DAY - now % DAY + DAY * 3 // 4)
        for name in ("Bank B", "Bank C", "Bank D"):
            there.consortium[name].sync()
            Sender(there.consortium[name].desk).step()
        for _ in range(3):
            there.bank.node.round()
            there.supervisor.node.round()
            there.consortium.work(but="Bank A")


def customer(there: World) -> tuple[Subject, int]:
    """A customer of Bank A, and what he owes there."""
    book = there.consortium["Bank A"].furnisher.book
    for subject in there.subjects:
        record = book.record(FIGURES_1, there.consortium.tagger.tag(subject))
        if record["outstanding"]:
            there.subjects.remove(subject)
            return subject, record["outstanding"]
    raise AssertionError("no customer left")


def form(subject: Subject, was: int, should_be: int, changes: dict[str, str] | None = None) -> dict[str, str]:
    return {
        "kind": subject.kind,
        "country": subject.country,
        "number": subject.number,
        "field": "outstanding",
        "was": f"{was / 100:.2f}",
        "should_be": f"{should_be / 100:.2f}",
        "since": "2024-01-01",
        "reason": "two accounts were added up",
    } | (changes or {})


def confirmed(there: World, subject: Subject, was: int, should_be: int) -> Correction:
    made = desk_of(there).enter(**form(subject, was, should_be), officer="user:officer")
    return desk_of(there).decide(made.id, reviewer="user:reviewer", agree=True, remark="")


def import_into(there: World, path: Path, as_of: int, **owed: int) -> None:
    """Import Bank A's book into its database, some customers with other sums, and use it."""
    party, site = there.consortium["Bank A"], there.bank
    when = datetime.fromtimestamp(as_of, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [
        f"# as_of: {when}\n# currency: TWD\n",
        "kind,country,number,currency,outstanding,credit_limit,overdue,loans,pending\n",
    ]
    for subject in [*there.subjects, *EXTRA]:
        record = dict(there.consortium.books["Bank A"].index(party.tagger).record(FIGURES_1, party.tagger.tag(subject)))
        record["outstanding"] = owed.get(subject.number, record["outstanding"])
        lines.append(
            f"{subject.kind},{subject.country},{subject.number},TWD,{record['outstanding'] / 100:.2f},"
            f"{record['credit_limit'] / 100:.2f},{record['overdue'] / 100:.2f},{record['loans']},{record['pending']}\n"
        )
    path.write_text("".join(lines), encoding="utf-8")
    import_book(
        site.database, site.audit, CsvFile(path), party.tagger, spool=path.parent, clock=lambda: party.follower.now
    )
    use_newest(there)


EXTRA: list[Subject] = []


def use_newest(there: World) -> None:
    """What `serve.BookKeeper` does before each round."""
    party = there.consortium["Bank A"]
    party.use_book(SnapshotBook(there.bank.database, current_snapshots(there.bank.database)))


@pytest.fixture
def in_database(there: World, tmp_path: Path) -> Iterator[tuple[Subject, int]]:
    """Bank A's book is in its database; a customer and what he owes."""
    party = there.consortium["Bank A"]
    before = party.furnisher.book
    subject, owed = customer(there)
    EXTRA.append(subject)
    import_into(there, tmp_path / "book.csv", party.follower.now - DAY)
    yield subject, owed
    EXTRA.clear()
    party.use_book(before)
    with there.bank.database.transaction() as connection:
        connection.execute(delete(bookimport.snapshots_table))
        connection.execute(delete(bookimport.rows_table))
        connection.execute(delete(correction_table))


# --------------------------------------------------------------------- entering and confirming


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"number": "A123456788"}, {"number"}),
        ({"field": "lenders"}, {"field"}),
        ({"field": "moon"}, {"field"}),
        ({"was": "12.345"}, {"was"}),
        ({"was": "1"}, {"was"}),
        ({"should_be": "-1"}, {"should_be"}),
        ({"should_be": "9" * 20}, {"should_be"}),
        ({"field": "loans", "was": "x", "should_be": "1.5"}, {"was", "should_be"}),
        ({"since": "yesterday"}, {"since"}),
        ({"since": "2999-01-01"}, {"since"}),
        ({"reason": " x "}, {"reason"}),
        ({"number": "A123456788", "since": "", "reason": ""}, {"number", "since", "reason"}),
    ],
)
def test_enter__wrong_form__is_refused_by_field(there: World, changes: dict[str, str], wrong: set[str]) -> None:
    subject, owed = Subject("national_id", "A123456789", country="TW"), 0
    fields = form(subject, owed, 700, changes)

    with pytest.raises(InvalidForm) as error:
        desk_of(there).enter(**fields, officer="user:officer")

    assert set(error.value.problems) == wrong
    answer = there.bank.sign_in("officer").post("/corrections", data=fields)
    assert answer.status_code == 422
    for name in wrong:
        assert f'href="#{name}"' in answer.text
    if changes == {"was": "1"}:  # every look at a subject is in the audit log
        assert len(there.bank.audit.search(action="correction.did_not_fit", limit=9)) == 2


def test_enter__the_same_figure__is_refused(there: World) -> None:
    subject = Subject("national_id", "A123456789", country="TW")

    with pytest.raises(InvalidForm, match="figure that it was"):
        desk_of(there).enter(**form(subject, 0, 0), officer="user:officer")


def test_enter__too_many_by_one_officer__are_refused(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "PER_DAY", 1)
    subject = Subject("national_id", "A123456789", country="TW")
    desk_of(there).enter(**form(subject, 0, 1), officer="user:eager")

    with pytest.raises(NotAllowed, match="1 corrections"):
        desk_of(there).enter(**form(subject, 0, 1), officer="user:eager")
    desk_of(there).enter(**form(subject, 0, 1), officer="user:other")


def test_enter__figures_tried_until_one_fits__is_stopped(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "TRIES_PER_DAY", 3)
    subject = Subject("national_id", "A123456789", country="TW")
    for guess in (1, 2, 3):
        with pytest.raises(InvalidForm, match="not what the loan book"):
            desk_of(there).enter(**form(subject, guess, 9), officer="user:curious")

    with pytest.raises(NotAllowed, match="3 figures"):  # also the right one: the answer would tell
        desk_of(there).enter(**form(subject, 0, 9), officer="user:curious")
    assert len(there.bank.audit.search(actor="user:curious", limit=9)) == 3
    desk_of(there).enter(**form(subject, 0, 9), officer="user:careful")


def test_confirm__on_the_page__needs_another_person(there: World) -> None:
    subject, owed = customer(there)
    fields = form(subject, owed, owed + 100)
    assert there.bank.sign_in("both").post("/corrections", data=fields).status_code == 303
    made = next(one for one in desk_of(there).newest() if one.entered_by == "user:both")

    own = there.bank.sign_in("both").post(f"/corrections/{made.id}/decide", data={"agree": "yes"})
    assert "obody confirms his own correction" in own.text
    assert desk_of(there).get(made.id).state == "entered"
    reviewer = there.bank.sign_in("reviewer")
    assert made.label in reviewer.get("/reviews").text
    mark = re.search(r'aria-hidden="true">(\d+)<', reviewer.get("/reviews/waiting").text)
    assert mark
    assert int(mark[1]) == len(desk_of(there).todo())
    mute = reviewer.post(f"/corrections/{made.id}/decide", data={"agree": "no"})
    assert (mute.status_code, "for who entered it" in mute.text) == (422, True)
    assert reviewer.post(f"/corrections/{made.id}/decide", data={"agree": "no", "remark": "not so"}).status_code == 303

    assert desk_of(there).get(made.id).state == "refused"
    with pytest.raises(NotAllowed, match="nothing to confirm"):
        desk_of(there).decide(made.id, reviewer="user:reviewer", agree=True, remark="")
    (entry,) = there.bank.audit.search(action="correction.entered", about=f"correction/{made.id}", limit=9)
    assert subject.number not in entry.line.decode()
    assert f"{(owed + 100) / 100:.2f}" not in entry.line.decode()


# --------------------------------------------------------------------- the loan book


def test_book__in_a_file__waits_until_the_file_shows_it(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, owed = customer(there)
    made = confirmed(there, subject, owed, owed + 100)
    there.bank.node.round()
    assert desk_of(there).get(made.id).state == "confirmed"
    assert "is a file, which this server does not change" in there.bank.sign_in("officer").get("/corrections").text

    book, tag = there.consortium["Bank A"].furnisher.book, there.consortium.tagger.tag(subject)
    real = type(book).record

    def mended(self: Any, schema: Any, wanted: bytes) -> dict[str, int]:
        found = dict(real(self, schema, wanted))
        return {**found, "outstanding": owed + 100} if wanted == tag else found

    monkeypatch.setattr(type(book), "record", mended)
    there.bank.node.round()

    assert desk_of(there).get(made.id).state == "applied"


def test_book__in_the_database__is_corrected_and_derived_figures_with_it(
    there: World, in_database: tuple[Subject, int]
) -> None:
    subject, owed = in_database
    tag, party = there.consortium.tagger.tag(subject), there.consortium["Bank A"]
    others = [there.consortium.tagger.tag(one) for one in there.subjects]
    before = [party.furnisher.book.record(FIGURES_1, one) for one in others]
    nothing: Any = SimpleNamespace(path=None, book=None, book_adapter=None)
    keeper = BookKeeper(nothing, "database", there.bank.database, there.bank.audit)  # as `serve` has it
    made = confirmed(there, subject, owed, owed + 12_300)
    there.bank.node._upkeep.append(keeper)
    try:
        there.bank.node.round()  # writes
        there.bank.node.round()  # uses, and sees
    finally:
        there.bank.node._upkeep.remove(keeper)

    assert party.furnisher.book.record(FIGURES_1, tag)["outstanding"] == owed + 12_300
    assert [party.furnisher.book.record(FIGURES_1, one) for one in others] == before
    assert desk_of(there).get(made.id).state == "applied"
    actions = [entry.action for entry in there.bank.audit.search(about=f"correction/{made.id}", limit=10)]
    assert actions == ["correction.applied", "correction.confirmed", "correction.entered"]


def test_book__killed_after_the_row_was_written__writes_no_second(
    there: World, in_database: tuple[Subject, int]
) -> None:
    subject, owed = in_database
    confirmed(there, subject, owed, owed + 1)
    there.bank.node.round()
    number = current_snapshots(there.bank.database)[0].number

    there.bank.node.round()  # the keeper has not changed the book yet
    there.bank.node.round()

    assert current_snapshots(there.bank.database)[0].number == number


def test_book__import_with_the_wrong_figure_again__warns_and_holds(
    there: World, in_database: tuple[Subject, int], tmp_path: Path
) -> None:
    subject, owed = in_database
    made = confirmed(there, subject, owed, owed + 5_000)
    there.bank.node.round()
    use_newest(there)
    there.bank.node.round()
    party = there.consortium["Bank A"]

    import_into(there, tmp_path / "again.csv", party.follower.now)
    there.bank.node.round()

    assert desk_of(there).get(made.id).watch == "wrong"
    assert any("has the wrong figure again" in line for _, line in there.bank.node.lines())
    assert party.furnisher.book.record(FIGURES_1, party.tagger.tag(subject))["outstanding"] == owed
    assert "wrong again" in there.bank.sign_in("reviewer").get("/reviews").text
    there.bank.node.round()
    assert len(there.bank.audit.search(action="correction.undone", about=f"correction/{made.id}", limit=9)) == 1
    # the twin: one that carries the right figure
    import_into(there, tmp_path / "right.csv", party.follower.now, **{subject.number: owed + 5_000})
    there.bank.node.round()
    assert desk_of(there).get(made.id).watch == "right"
    assert desk_of(there).todo() == [one for one in desk_of(there).todo() if one.state == "entered"]


def test_book__third_figure_meanwhile__is_left_alone(
    there: World, in_database: tuple[Subject, int], tmp_path: Path
) -> None:
    subject, owed = in_database
    made = desk_of(there).enter(**form(subject, owed, owed + 5_000), officer="user:officer")
    import_into(there, tmp_path / "third.csv", there.bank.node.party.follower.now, **{subject.number: 700})
    desk_of(there).decide(made.id, reviewer="user:reviewer", agree=True, remark="")

    there.bank.node.round()

    assert desk_of(there).get(made.id).state == "stale"
    assert "third figure" in there.bank.sign_in("officer").get("/corrections").text
    party = there.consortium["Bank A"]
    assert party.furnisher.book.record(FIGURES_1, party.tagger.tag(subject))["outstanding"] == 700


def test_book__an_import_runs__waits_for_its_end(there: World, in_database: tuple[Subject, int]) -> None:
    subject, owed = in_database
    made = confirmed(there, subject, owed, owed + 1)
    with bookimport._exclusive(there.bank.database):
        there.bank.node.round()
        assert desk_of(there).get(made.id).state == "confirmed"

    there.bank.node.round()
    use_newest(there)
    there.bank.node.round()
    assert desk_of(there).get(made.id).state == "applied"


# --------------------------------------------------------------------- told


def test_correction__after_an_answer__reaches_the_inquirer(there: World, in_database: tuple[Subject, int]) -> None:
    subject, owed = in_database
    asked = ask(there, "Bank B", subject)
    inquirer = there.consortium["Bank B"]
    made = confirmed(there, subject, owed, owed + 5_000)
    there.bank.node.round()
    use_newest(there)

    next_day(there, 2)

    correction = desk_of(there).get(made.id)
    assert (correction.state, correction.told_day is not None) == ("applied", True)
    listener = Listener(inquirer.desk)
    inquirer.sync()
    assert len(listener.step()) == 1
    assert [key for key, _ in inquirer.desk.store.items("corrected")] == [f"{asked}/0"]
    mine = there.consortium["Bank A"].desk.store.get("daily-notice", "last")
    assert mine is not None
    assert "Told to the supervisor." in there.bank.sign_in("auditor").get("/corrections").text
    assert there.supervisor.audit.search(action="correction.told", limit=1)


def test_correction__entered_before_a_new_tag_key__is_applied_and_told_under_both_keys(
    there: World, in_database: tuple[Subject, int]
) -> None:
    subject, owed = in_database
    asked = {"Bank B": ask(there, "Bank B", subject)}
    made = desk_of(there).enter(**form(subject, owed, owed + 5_000), officer="user:officer")
    with second_tag_key(there) as tagger:
        asked["Bank C"] = ask(there, "Bank C", subject)
        desk_of(there).decide(made.id, reviewer="user:reviewer", agree=True, remark="")
        there.bank.node.round()
        use_newest(there)

        next_day(there, 2)

        book = there.consortium["Bank A"].furnisher.book
        assert book.record(FIGURES_1, tagger.tag(subject))["outstanding"] == owed + 5_000
        correction = desk_of(there).get(made.id)
        assert (correction.state, correction.told_day is not None) == ("applied", True)
        for name, inquiry in asked.items():
            inquirer = there.consortium[name]
            inquirer.sync()
            Listener(inquirer.desk).step()
            assert inquirer.desk.store.get("corrected", f"{inquiry}/0"), name


def correct_elsewhere(there: World, subject: Subject) -> None:
    """Bank C says that it gave a wrong figure until now."""
    bank = there.consortium["Bank C"]
    bank.sync()
    now = bank.follower.now
    there.consortium.advance(DAY - now % DAY + DAY * 3 // 4)
    bank.sync()
    waits = [("c", [Corrected(bank.tagger.tag(subject), 0, now + 1)])]
    assert Sender(bank.desk, pending=lambda: waits).step()


def test_application__of_which_a_figure_was_corrected__is_marked_and_asked_again(there: World) -> None:
    subject, officer = there.take(), there.bank.sign_in("officer")
    first = there.enter(subject=subject, reference="K-7")
    there.settle()
    told = Webhook(there.bank.database, there.bank.audit, url="http://127.0.0.1:1/", secret=SECRET)
    desk_of(there).applications.webhook = told
    try:
        correct_elsewhere(there, subject)
        next_day(there, 2)
    finally:
        desk_of(there).applications.webhook = None

    assert "a figure was corrected" in officer.get("/applications").text
    text = officer.get(f"/applications/{first}").text
    assert "A figure behind these totals has been corrected since" in text
    assert "Bank C" not in text.split('id="t-corrected"')[1].split("</section>")[0]
    with there.bank.database.read() as connection:
        assert list(connection.scalars(select(webhook_table.c.event))) == []  # an officer entered it, no system
    address = f"/applications/{first}/corrected"
    assert officer.get(address).status_code == 200
    fields = {"kind": subject.kind, "country": subject.country, "number": subject.number, "evidence": EVIDENCE}

    other = there.take()
    foreign = officer.post(
        address, data={**fields, "kind": other.kind, "country": other.country, "number": other.number}
    )
    without = officer.post(address, data={**fields, "evidence": ""})
    stranger = there.bank.sign_in("officer2").post(address, data=fields)
    assert (foreign.status_code, without.status_code, stranger.status_code) == (422, 422, 409)
    assert "another customer" in foreign.text
    answer = officer.post(address, data=fields)

    assert answer.status_code == 303
    second = there.bank.applications.get(answer.headers["location"].split("/")[2].split("?")[0])
    there.settle()
    second = there.bank.applications.get(second.id)
    assert second.step.value == "ready"
    assert (second.requested, second.reference) == (there.bank.applications.get(first).requested, "K-7")
    assert second.consent != there.bank.applications.get(first).consent
    assert f"/applications/{second.id}" in officer.get(f"/applications/{first}").text
    assert f"/applications/{first}" in officer.get(f"/applications/{second.id}").text
    assert officer.post(address, data=fields).status_code == 409  # once


def test_application__within_the_cool_down__waits(there: World) -> None:
    subject, officer = there.take(), there.bank.sign_in("officer")
    first = there.enter(subject=subject)
    there.settle()
    application = there.bank.applications.get(first)
    store = there.consortium["Bank A"].desk.store
    store.put("corrected", f"{application.seen['inquiry']}/0", {"day": 1, "at": 86_400})
    there.bank.node.round()
    fields = {"kind": subject.kind, "country": subject.country, "number": subject.number, "evidence": EVIDENCE}

    answer = officer.post(f"/applications/{first}/corrected", data=fields)

    assert answer.status_code == 409
    assert "cool-down" in answer.text
    assert not there.bank.applications.get(first).value["corrected"].get("again")


def test_application__not_corrected__is_not_asked_again(there: World) -> None:
    first = there.enter()

    answer = there.bank.sign_in("officer").get(f"/applications/{first}/corrected")

    assert answer.status_code == 409
    there.settle()


def test_application__of_a_system__is_told_by_webhook(there: World) -> None:
    first = there.enter()
    there.settle()
    application = there.bank.applications.get(first)
    applications = desk_of(there).applications
    applications.webhook = Webhook(there.bank.database, there.bank.audit, url="http://127.0.0.1:1/", secret=SECRET)
    with there.bank.database.transaction() as connection:
        connection.execute(
            corrections.applications_table.update()
            .where(corrections.applications_table.c.id == first)
            .values(officer="token:1")
        )
    store = there.consortium["Bank A"].desk.store
    store.put("corrected", f"{application.seen['inquiry']}/0", {"day": 2, "at": 2 * 86_400})
    try:
        there.bank.node.round()
    finally:
        applications.webhook = None

    with there.bank.database.read() as connection:
        (found,) = connection.execute(select(webhook_table.c.event, webhook_table.c.body)).all()
    assert found.event == "application.corrected"
    assert json.loads(found.body)["application"]["corrected"] == {"day": 2, "at": 2 * 86_400}


# --------------------------------------------------------------------- the supervisor's page


def test_supervisors_page__shows_what_waits_and_sends_by_hand_for_a_reason(there: World) -> None:
    subject = there.take()
    asked = ask(there, "Bank B", subject)
    correct_elsewhere(there, subject)  # Bank C alone has sent today
    there.supervisor.node.round()
    client, auditor = there.supervisor.sign_in("supervisor"), there.supervisor.sign_in("auditor")

    text = client.get("/supervision/corrections").text
    assert "1 corrected figure is to be told" in text
    assert "held back" in text
    assert asked[:12] in text
    assert auditor.get("/supervision/corrections").status_code == 403
    there.consortium.advance(DAY)
    there.supervisor.node.round()
    text = client.get("/supervision/corrections").text
    assert "only 1 institutions of its cohort" in text.replace("Only", "only")

    assert client.post("/supervision/corrections/send", data={"reason": " "}).status_code == 422
    done = client.post("/supervision/corrections/send", data={"reason": "the others are down"})

    assert done.status_code == 303
    there.supervisor.node.round()
    assert client.post("/supervision/corrections/send", data={"reason": "once more"}).status_code == 409
    entry = there.supervisor.audit.search(action="correction.told_by_hand", limit=1)[0]
    assert (entry.actor, entry.why) == ("user:supervisor", "the others are down")
    there.consortium["Bank B"].sync()
    Listener(there.consortium["Bank B"].desk).step()
    assert to_hex(bytes.fromhex(asked[2:])) + "/0" in [
        key for key, _ in there.consortium["Bank B"].desk.store.items("corrected")
    ]


def test_page__daily_notices_switched_off__says_so(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = there.bank.sign_in("officer")
    assert "are switched off" not in client.get("/corrections").text

    monkeypatch.setattr(desk_of(there), "sends", False)

    assert "are switched off" in client.get("/corrections").text


def test_supervisors_server__batches_by_hand__sends_none_by_itself(there: World) -> None:
    by_hand = Telling(there.supervisor.node, there.supervisor.audit, sends=False)

    assert by_hand.follow(there.consortium.supervisor) == []
    assert by_hand.overview()["sends"] is False
