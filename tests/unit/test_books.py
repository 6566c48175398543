"""Loan book files: what is read, and what is refused, by row and field (docs/loan-book.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcredit.books import LoanBook, TaggedBook, columns
from mpcredit.errors import InvalidFile, Refused
from mpcredit.identity import Subject
from mpcredit.schema import FIGURES_1, GUARANTEES_2
from mpcredit.tags import HmacTagger, TagKey

HEADER = "kind,country,number,currency,outstanding,credit_limit,overdue,loans,pending\n"
ROW = "national_id,TW,A123456789,TWD,182500.50,300000,0,2,1\n"
A = Subject("national_id", "A123456789", country="TW")
STRANGER = Subject("passport", "TK7654321", country="JP")
TAGGER = HmacTagger(TagKey(1, b"k" * 32))


def read(tmp_path: Path, text: str | bytes, **arguments: object) -> LoanBook:
    path = tmp_path / "bank_a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return LoanBook.read_csv(path, **arguments)  # type: ignore[arg-type]


def row(**cells: str) -> str:
    names = HEADER.strip().split(",")
    return ",".join(cells.get(name, cell) for name, cell in zip(names, ROW.strip().split(","), strict=True)) + "\n"


def test_columns__figures_1__are_the_documented_ones() -> None:
    assert ",".join(columns(FIGURES_1)) + "\n" == HEADER


def test_read_csv__documented_example__is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "loan-book.md").read_text()
    example = text.split("```csv\n")[1].split("```")[0]

    book = read(tmp_path, example)

    assert (book.institution, book.currency, len(book)) == ("Bank A", "TWD", 3)
    # 2026-11-01T00:00:00Z, by `date -u -d 2026-11-01 +%s`.
    assert book.as_of == 1793491200
    assert book.lookup(A) == {
        "outstanding": 18_250_050,
        "credit_limit": 30_000_000,
        "overdue": 0,
        "loans": 2,
        "pending": 0,
        "lenders": 1,
    }
    assert book.lookup(Subject("passport", "tk-1234567", country="JP"))["lenders"] == 0


@pytest.mark.parametrize(
    ("cells", "lenders"),
    [
        ({"outstanding": "0", "credit_limit": "0", "overdue": "0", "loans": "0", "pending": "3"}, 0),
        ({"outstanding": "0.01", "credit_limit": "0", "loans": "0"}, 1),
        ({"outstanding": "0", "credit_limit": "0.01", "loans": "0"}, 1),
        ({"outstanding": "0", "credit_limit": "0", "overdue": "0.01", "loans": "0"}, 1),
        ({"outstanding": "0", "credit_limit": "0", "loans": "1"}, 1),
    ],
)
def test_read_csv__lenders__is_derived_from_any_exposure(tmp_path: Path, cells: dict[str, str], lenders: int) -> None:
    book = read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{row(**cells)}")

    assert book.lookup(A)["lenders"] == lenders


def test_read_csv__spreadsheet_habits__are_accepted(tmp_path: Path) -> None:
    text = '\ufeff# as_of: 2026-11-01,,,,\r\n# institution: "Bank, A",,\r\n' + HEADER.replace("\n", "\r\n")
    text += '"national_id", tw ,a12345-6789, TWD,"0.5",1.00,000,2,1\r\n\r\n'

    book = read(tmp_path, text)

    assert book.institution == '"Bank, A"'
    assert (book.lookup(A)["outstanding"], book.lookup(A)["credit_limit"]) == (50, 100)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-01T18:30:00", 1793557800),
        ("2026-11-01T18:30:00Z", 1793557800),
        ("2026-11-02T02:30:00+08:00", 1793557800),
        ("2026-11-01 18:30", 1793557800),
    ],
)
def test_read_csv__as_of_with_a_time__is_utc_unless_told(tmp_path: Path, text: str, seconds: int) -> None:
    assert read(tmp_path, f"# as_of: {text}\n{HEADER}{ROW}").as_of == seconds


@pytest.mark.parametrize(
    ("currency", "text", "minor"),
    [("JPY", "1234", 1234), ("KWD", "1.234", 1234), ("TWD", "2814749767106.55", 2**48 - 1)],
)
def test_read_csv__currency__decides_the_minor_unit(tmp_path: Path, currency: str, text: str, minor: int) -> None:
    rows = row(currency=currency, outstanding=text, credit_limit="0")

    assert read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{rows}").lookup(A)["outstanding"] == minor


@pytest.mark.parametrize(
    ("cells", "field", "problem"),
    [
        ({"outstanding": ""}, "outstanding", "empty"),
        ({"loans": " "}, "loans", "empty"),
        ({"outstanding": "-1"}, "outstanding", "negative"),
        ({"loans": "-1"}, "loans", "negative"),
        ({"outstanding": "-0.00"}, "outstanding", "negative"),
        ({"outstanding": "1e5"}, "outstanding", "exponent"),
        ({"loans": "1E1"}, "loans", "exponent"),
        ({"outstanding": '"1,000"'}, "outstanding", "thousands"),
        ({"outstanding": "1 000.50"}, "outstanding", "thousands"),
        ({"outstanding": "1'000"}, "outstanding", "thousands"),
        ({"outstanding": "1.001"}, "outstanding", "more than 2 digits"),
        ({"outstanding": "1.000"}, "outstanding", "more than 2 digits"),
        ({"outstanding": "1."}, "outstanding", "not a number"),
        ({"outstanding": ".5"}, "outstanding", "not a number"),
        ({"outstanding": "+5"}, "outstanding", "not a number"),
        ({"outstanding": "$5"}, "outstanding", "not a number"),
        ({"outstanding": "1_000"}, "outstanding", "thousands"),
        ({"outstanding": "NaN"}, "outstanding", "not a number"),
        ({"outstanding": "inf"}, "outstanding", "not a number"),
        ({"outstanding": "１２"}, "outstanding", "not a number"),  # full-width digits
        ({"outstanding": "2814749767106.56"}, "outstanding", "too large"),
        ({"overdue": "9" * 5000}, "overdue", "too large"),
        ({"loans": "65536"}, "loans", "too large"),
        ({"pending": "9" * 5000}, "pending", "too large"),
        ({"loans": "1.0"}, "loans", "not a whole number"),
        ({"currency": "USD"}, "currency", "this book is in TWD"),
        ({"currency": "twd"}, "currency", "not a known currency"),
        ({"number": "A123456788"}, "number", "check digit"),
        ({"number": "A12345678"}, "number", "letter"),
        ({"country": "XX"}, "country", "unknown country"),
        ({"kind": "person"}, "kind", "unknown"),
        ({"number": "a-123-456-789"}, "number", "customer of row 3 again"),
        ({"pending": "1,9"}, "cells", "10 cells"),
    ],
)
def test_read_csv__bad_row__names_row_field_problem_and_remedy(
    tmp_path: Path, cells: dict[str, str], field: str, problem: str
) -> None:
    other = row(number="A100000001") if "number" not in cells else row()
    bad = row(**{"number": "A123456789", **cells})

    with pytest.raises(InvalidFile, match=problem) as caught:
        read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{other}{bad}")

    assert caught.value.place == f"bank_a.csv, row 4, {field}"
    assert caught.value.remedy
    assert "A12345678" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEADER + ROW, "as_of: is missing"),
        (f"# as_of: yesterday\n{HEADER}{ROW}", "not an ISO 8601"),
        (f"# as_of: 1969-12-31\n{HEADER}{ROW}", "before 1970"),
        (f"# as_of: 2026-02-30\n{HEADER}{ROW}", "not an ISO 8601"),
        (f"# as_of: 2026-11-01\n# as_of: 2026-11-02\n{HEADER}{ROW}", "row 2: gives as_of a second time"),
        (f"# as_of: 2026-11-01\n# asof: 2026-11-01\n{HEADER}{ROW}", "row 2: is not a known remark"),
        (f"# as_of: 2026-11-01\n# hello\n{HEADER}{ROW}", "row 2: is not a known remark"),
        (f"# as_of: 2026-11-01\n# currency: EUR\n{HEADER}{ROW}", "is TWD, this book is in EUR"),
        (f"# as_of: 2026-11-01\n# currency: Euro\n{HEADER}{ROW}", "not a known currency"),
        (f"# as_of: 2026-11-01\n{HEADER}", "no rows"),
        ("# as_of: 2026-11-01\n", "row 2, header: lacks the column kind"),
        (f"# as_of: 2026-11-01\n{ROW}", "row 2, header: lacks"),
        (f"# as_of: 2026-11-01\n{HEADER.replace('overdue', 'late')}{ROW}", "lacks the column overdue"),
        (f"# as_of: 2026-11-01\n{HEADER.strip()},lenders\n{ROW}", "has an unknown column, the 10th"),
        (f"# as_of: 2026-11-01\n{HEADER.replace('kind,country', 'country,kind')}{ROW}", "another order"),
        (f"# as_of: 2026-11-01\n{HEADER.strip()},kind\n{ROW}", "or twice"),
        (f'# as_of: 2026-11-01\n{HEADER}"national_id,TW', "not CSV"),
        (f'# as_of: 2026-11-01\n{HEADER}"a"b,TW', "not CSV"),
        (f"# as_of: 2026-11-01\n{HEADER}{ROW}".encode("utf-16"), "is UTF-16 text"),
        (f"# as_of: 2026-11-01\n# institution: 甲银行\n{HEADER}{ROW}".encode("gb18030"), "it may be GBK"),
        (f"# as_of: 2026-11-01\n# institution: 甲銀行\n{HEADER}{ROW}".encode("big5"), "Big5"),
        (b"PK\x03\x04" + bytes(60), "is a workbook of a spreadsheet"),
        (f"sep=|\n# as_of: 2026-11-01\n{HEADER}{ROW}", "as_of"),
        (f"# as_of: 2026-11-01\n{HEADER}{ROW}".encode() + b"\xff", "not UTF-8"),
        (f"# as_of: 2026-11-01\n{HEADER}{ROW}\0", "not a text file"),
        ("", "as_of"),
    ],
)
def test_read_csv__bad_file__is_refused(tmp_path: Path, text: str | bytes, problem: str) -> None:
    with pytest.raises(InvalidFile, match=problem) as caught:
        read(tmp_path, text)

    assert caught.value.place.startswith("bank_a.csv")
    assert caught.value.remedy


SPREADSHEETS = {
    "carriage returns": lambda text: text.replace("\n", "\r"),
    "both": lambda text: text.replace("\n", "\r\n"),
    "semicolons": lambda text: text.replace(",", ";"),
    "tabs": lambda text: text.replace(",", "\t"),
    "sep= line": lambda text: text.replace(HEADER, "sep=;\n" + HEADER).replace(",", ";"),
    "padded remarks": lambda text: text.replace("2026-11-01\n", "2026-11-01;;;;;;;;\n", 1).replace(",", ";"),
}


@pytest.mark.parametrize("written", SPREADSHEETS.values(), ids=SPREADSHEETS.keys())
def test_read_csv__as_a_spreadsheet_writes_it__is_the_same_book(tmp_path: Path, written: Callable[[str], str]) -> None:
    text = f"# as_of: 2026-11-01\n{HEADER}{ROW}"

    assert read(tmp_path, written(text)) == read(tmp_path, text)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("national_id", "A123456789 Wang"),
        lambda text: text.replace("TWD", "A123456789"),
        lambda text: re.sub(r"TWD,[0-9.]+", "TWD,A123456789", text),
        lambda text: text.replace("# as_of: 2026-11-01", "# as_of: A123456789"),
        lambda text: text.replace(HEADER, ""),
        lambda text: text.replace("\n", " "),
        lambda text: text.replace("\n", ","),
    ],
)
def test_read_csv__whatever_is_wrong__the_error_shows_no_cell(tmp_path: Path, change: Callable[[str], str]) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(tmp_path, change(f"# as_of: 2026-11-01\n{HEADER}{ROW}{ROW}"))

    assert "A123456789" not in str(caught.value)
    assert "Wang" not in str(caught.value)
    assert "182500" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_read_csv__missing_file__is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"none\.csv.*No such file"):
        LoanBook.read_csv(tmp_path / "none.csv")


def test_read_csv__other_currency_than_asked__is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="is TWD, this book is in USD"):
        read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{ROW}", currency="USD")


def test_read_csv__collect__lists_twenty_and_counts_all(tmp_path: Path) -> None:
    bad = "".join(row(number=f"P{number:06}", kind="passport", loans="x") for number in range(25))

    with pytest.raises(InvalidFile) as caught:
        read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{ROW}{bad}", collect=True)

    text = str(caught.value)
    assert "25 problems" in text
    assert text.count("not a number") == 20
    assert "row 4, loans" in text
    assert "row 23, loans" in text
    assert "row 24" not in text
    assert "and 5 more" in text


def test_read_csv__collect_and_one_problem__is_that_problem(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{ROW}{row(number='A100000001', loans='x')}", collect=True)

    assert caught.value.place == "bank_a.csv, row 4, loans"


# --- other schemas


def test_read_csv__other_schema__has_its_fields_and_derives_none(tmp_path: Path) -> None:
    header = "kind,country,number,currency,guarantees,guarantors,aml_flag\n"

    book = read(
        tmp_path, f"# as_of: 2026-11-01\n{header}national_id,TW,A123456789,TWD,1000.10,2,1\n", schema=GUARANTEES_2
    )

    assert book.lookup(A) == {"guarantees": 100_010, "guarantors": 2, "aml_flag": 1}
    with pytest.raises(InvalidFile, match="aml_flag: is too large"):
        read(tmp_path, f"# as_of: 2026-11-01\n{header}national_id,TW,A123456789,TWD,1,2,2\n", schema=GUARANTEES_2)


# --- tags


def test_index__by_tag__finds_the_customer_and_zeros_for_a_stranger(tmp_path: Path) -> None:
    book = read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{ROW}")

    tagged = book.index(TAGGER)

    assert tagged.record(FIGURES_1, TAGGER.tag(A)) == book.lookup(A)
    assert tagged.record(FIGURES_1, TAGGER.tag(STRANGER)) == FIGURES_1.zero
    assert tagged.record(FIGURES_1, HmacTagger(TagKey(1, b"x" * 32)).tag(A)) == FIGURES_1.zero
    assert (tagged.as_of, tagged.currency, tagged.customers, tagged.tag_key_version) == (book.as_of, "TWD", 1, 1)


def test_record__changed_by_the_caller__does_not_change_the_book(tmp_path: Path) -> None:
    tagged = read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{ROW}").index(TAGGER)
    for subject in (A, STRANGER):
        tagged.record(FIGURES_1, TAGGER.tag(subject))["loans"] = 99

    assert tagged.record(FIGURES_1, TAGGER.tag(A))["loans"] == 2
    assert tagged.record(FIGURES_1, TAGGER.tag(STRANGER))["loans"] == 0


def test_record__schema_that_is_not_kept__is_refused_for_everybody(tmp_path: Path) -> None:
    tagged = read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{ROW}").index(TAGGER)

    for subject in (A, STRANGER):
        with pytest.raises(Refused, match="schema 2"):
            tagged.record(GUARANTEES_2, TAGGER.tag(subject))


def test_joined__one_book_for_each_schema__answers_both(tmp_path: Path) -> None:
    figures = read(tmp_path, f"# as_of: 2026-11-01\n{HEADER}{ROW}").index(TAGGER)
    other = LoanBook(5, "TWD", {A.canonical: {"guarantees": 1, "guarantors": 1, "aml_flag": 0}}, "", GUARANTEES_2)

    both = TaggedBook.joined([figures, other.index(TAGGER)])

    assert both.record(FIGURES_1, TAGGER.tag(A))["loans"] == 2
    assert both.record(GUARANTEES_2, TAGGER.tag(A))["guarantees"] == 1
    assert both.as_of == 5
    with pytest.raises(ValueError, match="one schema"):
        TaggedBook.joined([figures, figures])
    with pytest.raises(ValueError, match="one currency"):
        TaggedBook.joined([figures, LoanBook(5, "USD", {}, "", GUARANTEES_2).index(TAGGER)])


# --- writing

FIGURE = st.fixed_dictionaries(
    {
        "outstanding": st.integers(0, 2**48 - 1),
        "credit_limit": st.integers(0, 2**48 - 1),
        "overdue": st.integers(0, 2**48 - 1),
        "loans": st.integers(0, 2**16 - 1),
        "pending": st.integers(0, 2**16 - 1),
    }
)


@given(
    figures=st.lists(FIGURE, max_size=5),
    currency=st.sampled_from(["TWD", "JPY", "KWD"]),
    as_of=st.integers(0, 4_000_000_000),
)
def test_write_csv__read_again__is_the_same(
    tmp_path_factory: pytest.TempPathFactory, figures: list[dict[str, int]], currency: str, as_of: int
) -> None:
    records = {
        Subject("passport", f"P{number:05}", country="JP").canonical: {
            **record,
            "lenders": int(any(record[name] for name in ("outstanding", "credit_limit", "overdue", "loans"))),
        }
        for number, record in enumerate(figures)
    }
    book = LoanBook(as_of, currency, records, "Bank Ä, North")
    path = tmp_path_factory.mktemp("books") / "book.csv"

    book.write_csv(path)

    assert LoanBook.read_csv(path) == book
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["book.csv"]
    # Another reader sees the same figures.
    frame = pandas.read_csv(path, comment="#", dtype=str)
    assert [int(cell.replace(".", "")) for cell in frame["outstanding"]] == [f["outstanding"] for f in figures]


def test_write_csv__missing_directory__is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="cannot be written"):
        LoanBook(0, "TWD", {}).write_csv(tmp_path / "none" / "book.csv")
