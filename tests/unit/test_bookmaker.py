"""Loan books from real accounts: the rules for figures, and that nothing is lost when accounts are handed out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas
import pytest

from mpcredit.bookmaker import COLUMNS, SHIPPED_ACCOUNTS, Account, make_books, pick_subjects, read_accounts
from mpcredit.books import LoanBook
from mpcredit.errors import InvalidFile
from mpcredit.schema import FIGURES_1

ACCOUNTS = read_accounts()
BOOKS = make_books(ACCOUNTS)


def line(**cells: str) -> str:
    values = dict.fromkeys(COLUMNS, "0") | {"LIMIT_BAL": "20000.0"} | cells
    return ",".join(values[name] for name in COLUMNS) + "\n"


def lenders_of(books: list[LoanBook]) -> Counter[bytes]:
    counts: Counter[bytes] = Counter()
    for book in books:
        for canonical, record in book.records.items():
            counts[canonical] += record["lenders"]
    return counts


def test_shipped_accounts__figures__are_those_that_pandas_computes() -> None:
    frame = pandas.read_csv(SHIPPED_ACCOUNTS)
    outstanding = frame["BILL_AMT1"].clip(lower=0)
    unpaid = (frame["BILL_AMT2"] - frame["PAY_AMT1"]).clip(lower=0)
    overdue = unpaid.where(unpaid < outstanding, outstanding)
    overdue = overdue.where(overdue > 0, outstanding).where(frame["PAY_0"] >= 1, 0)

    assert len(ACCOUNTS) == len(frame) == 2000
    assert [account.credit_limit for account in ACCOUNTS] == [int(x * 100) for x in frame["LIMIT_BAL"]]
    assert [account.outstanding for account in ACCOUNTS] == [int(x * 100) for x in outstanding]
    assert [account.overdue for account in ACCOUNTS] == [int(x * 100) for x in overdue]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"BILL_AMT1": "-5", "PAY_0": "2", "BILL_AMT2": "9"}, Account(2_000_000, 0, 0)),
        ({"BILL_AMT1": "100", "PAY_0": "0", "BILL_AMT2": "90"}, Account(2_000_000, 10_000, 0)),
        ({"BILL_AMT1": "100", "PAY_0": "1", "BILL_AMT2": "90", "PAY_AMT1": "30"}, Account(2_000_000, 10_000, 6_000)),
        ({"BILL_AMT1": "100", "PAY_0": "3", "BILL_AMT2": "500"}, Account(2_000_000, 10_000, 10_000)),
        ({"BILL_AMT1": "100", "PAY_0": "1", "BILL_AMT2": "90", "PAY_AMT1": "90"}, Account(2_000_000, 10_000, 10_000)),
    ],
)
def test_read_accounts__overdue_rule(tmp_path: Path, cells: dict[str, str], expected: Account) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text(",".join(COLUMNS) + "\n" + line(**cells))

    assert read_accounts(path) == [expected]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "header"),
        ("a,b\n1,2\n", "header"),
        (",".join(COLUMNS) + "\n", "no rows"),
        (",".join(COLUMNS) + "\n1,2\n", "row 2: has 2 cells"),
        (",".join(COLUMNS) + "\n" + line() + line(BILL_AMT1="x"), "row 3, BILL_AMT1: 'x' is not an amount"),
        (",".join(COLUMNS) + "\n" + line(BILL_AMT1="nan"), "BILL_AMT1"),
        (",".join(COLUMNS) + "\n" + line(LIMIT_BAL="-1"), "LIMIT_BAL: is negative"),
    ],
)
def test_read_accounts__wrong_file__is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text(text)

    with pytest.raises(InvalidFile, match=problem):
        read_accounts(path)
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_accounts(tmp_path / "none.csv")


def test_make_books__totals__are_those_of_the_accounts() -> None:
    for name in ("credit_limit", "outstanding", "overdue"):
        handed_out = sum(record[name] for book in BOOKS for record in book.records.values())
        assert handed_out == sum(getattr(account, name) for account in ACCOUNTS)
    assert sum(record["loans"] for book in BOOKS for record in book.records.values()) == 2000


def test_make_books__records__fit_the_schema_and_the_file_form(tmp_path: Path) -> None:
    for number, book in enumerate(BOOKS):
        for record in book.records.values():
            FIGURES_1.check_record(record)
        book.write_csv(tmp_path / f"{number}.csv")
        assert LoanBook.read_csv(tmp_path / f"{number}.csv") == book
    assert [book.institution for book in BOOKS] == [f"Bank {letter}" for letter in "ABCDEFGH"]


def test_make_books__tail__is_realistic() -> None:
    """Most people at one or two institutions, a few at eight or more."""
    counts = Counter(lenders_of(make_books(ACCOUNTS, institutions=12)).values())
    people = sum(number for lenders, number in counts.items() if lenders)

    assert people == 1000
    assert counts[1] + counts[2] > people * 0.7
    assert 1 <= sum(number for lenders, number in counts.items() if lenders >= 8) <= people * 0.03
    assert counts[0] > 0  # people who have only applied


def test_make_books__same_arguments__same_books_and_another_seed__others() -> None:
    assert make_books(ACCOUNTS[:200], seed=7) == make_books(ACCOUNTS[:200], seed=7)
    assert make_books(ACCOUNTS[:200], seed=7) != make_books(ACCOUNTS[:200], seed=8)


def test_make_books__arguments__count() -> None:
    books = make_books(ACCOUNTS[:50], institutions=3, people=10, as_of=5, names=["X", "Y", "Z"])

    assert [book.institution for book in books] == ["X", "Y", "Z"]
    assert {book.as_of for book in books} == {5}
    assert sum(1 for lenders in lenders_of(books).values() if lenders) == 10
    assert make_books(ACCOUNTS[:1], institutions=30)[29].institution == "Bank AD"
    for wrong in ({"institutions": 0}, {"people": 51}, {"people": 0}, {"names": ["X"]}):
        with pytest.raises(ValueError, match="there is at least one"):
            make_books(ACCOUNTS[:50], **wrong)


def test_pick_subjects__interesting_ones__are_what_they_say() -> None:
    counts = lenders_of(BOOKS)

    picks = pick_subjects(BOOKS, 12)
    most, overdue, single, unknown, *rest = picks

    assert most.lenders == max(counts.values()) == 8
    assert overdue.lenders >= 2
    assert sum(book.lookup(overdue.subject)["overdue"] for book in BOOKS) > 0
    assert single.lenders == 1
    assert all(not any(book.lookup(unknown.subject).values()) for book in BOOKS)
    assert [pick.lenders for pick in picks] == [counts[pick.subject.canonical] for pick in picks]
    assert {pick.lenders for pick in rest} >= {2, 3, 4}
    assert len({pick.subject for pick in picks}) == 12
    assert pick_subjects(BOOKS, 4) == picks[:4]


def test_pick_subjects__small_books__returns_what_there_is() -> None:
    picks = pick_subjects(make_books(ACCOUNTS[:3], institutions=2, people=2), 10)

    assert {pick.lenders for pick in picks} >= {0, 1}
    assert len(picks) <= 10
