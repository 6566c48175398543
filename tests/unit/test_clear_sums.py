"""The totals in the clear, against pandas; and that the module stands alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from mpcredit import clear_sums as module
from mpcredit.bookmaker import make_books, pick_subjects, read_accounts
from mpcredit.books import LoanBook
from mpcredit.clear_sums import clear_sums, main

BOOKS = make_books(read_accounts()[:400])
HEADER = "# as_of: 2026-11-01\nkind,country,number,currency,outstanding,credit_limit,overdue,loans,pending\n"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("books")
    found = [directory / f"{number}.csv" for number in range(len(BOOKS))]
    for path, book in zip(found, BOOKS, strict=True):
        book.write_csv(path)
    return found


def test_clear_sums__all_customers__are_what_pandas_sums(paths: list[Path]) -> None:
    amounts = ["outstanding", "credit_limit", "overdue"]
    frame = pandas.concat(pandas.read_csv(path, comment="#", dtype={"number": str}) for path in paths)
    frame["lenders"] = (frame[[*amounts, "loans"]] > 0).any(axis=1).astype(int)
    frame[amounts] = (frame[amounts] * 100).round().astype("int64")
    expected = frame.groupby(["kind", "country", "number"])[[*amounts, "loans", "pending", "lenders"]].sum()
    subjects = [(str(kind), str(country), str(number)) for kind, country, number in expected.index]

    assert clear_sums(paths, subjects) == expected.to_dict("records")


def test_clear_sums__picked_subjects__are_what_the_books_add_up_to(paths: list[Path]) -> None:
    """The two implementations against each other."""
    for pick in pick_subjects(BOOKS, 6):
        subject = pick.subject
        expected = {name: sum(book.lookup(subject)[name] for book in BOOKS) for name in BOOKS[0].lookup(subject)}

        assert clear_sums(paths, [(subject.kind, subject.country, subject.number)]) == [expected]


def test_clear_sums__other_spelling_and_currency(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeff" + HEADER + "passport,JP,TK-123 4567,KWD,0.001,2,0.25,0,3\n", encoding="utf-8")

    assert clear_sums([path, path], [("passport", "jp", "ｔｋ1234567"), ("passport", "JP", "TK0000000")]) == [
        {"outstanding": 2, "credit_limit": 4000, "overdue": 500, "loans": 0, "pending": 6, "lenders": 2},
        {"outstanding": 0, "credit_limit": 0, "overdue": 0, "loans": 0, "pending": 0, "lenders": 0},
    ]


def test_clear_sums__only_an_application__is_no_lender(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "passport,JP,TK1234567,JPY,0,0,0,0,3\n")

    assert clear_sums([path], [("passport", "JP", "TK1234567")])[0]["lenders"] == 0


def test_clear_sums__two_currencies__are_refused(tmp_path: Path) -> None:
    for name, currency in (("a.csv", "TWD"), ("b.csv", "USD")):
        (tmp_path / name).write_text(HEADER + f"passport,JP,TK1234567,{currency},1,1,0,1,0\n")

    with pytest.raises(ValueError, match="TWD, USD"):
        clear_sums(sorted(tmp_path.glob("*.csv")), [("passport", "JP", "TK1234567")])


def test_main__directory_and_subjects__prints_json(paths: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    subject = next(BOOKS[0].subjects())
    name = f"{subject.kind}:{subject.country}:{subject.number}"

    assert main([str(paths[0].parent), name]) == 0

    (printed,) = json.loads(capsys.readouterr().out)
    assert printed.pop("subject") == name
    assert [printed] == clear_sums(paths, [(subject.kind, subject.country, subject.number)])


@pytest.mark.parametrize("arguments", [[], ["/nowhere", "passport:JP:X"], ["{}"], ["{}", "X"]])
def test_main__wrong_arguments__prints_usage(
    paths: list[Path], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(paths[0].parent) for argument in arguments]) == 2

    assert "usage" in capsys.readouterr().err


def test_module__imports__the_standard_library_only() -> None:
    source = Path(module.__file__).read_text()

    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }

    assert imported <= set(sys.stdlib_module_names)


def test_currency_digits__are_those_of_the_package() -> None:
    from mpcredit.amounts import CURRENCIES

    assert {name for name, digits in CURRENCIES.items() if digits == 0} == set(module.NO_DIGITS)
    assert {name for name, digits in CURRENCIES.items() if digits == 3} == set(module.THREE_DIGITS)


def test_run_as_a_file__needs_nothing_of_the_package(paths: list[Path]) -> None:
    """In an isolated interpreter, which does not see mpcredit."""
    command = [sys.executable, "-I", "-S", module.__file__, str(paths[0].parent), "passport:JP:TK0000000"]

    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)

    assert json.loads(result.stdout)[0]["lenders"] == 0


def test_read_csv__books_of_the_test__are_valid(paths: list[Path]) -> None:
    assert [LoanBook.read_csv(path) for path in paths] == BOOKS
