"""`mpcredit demo`: every figure against pandas, the books' round trip, what people see, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest

from mpcredit import demo, paillier, schema
from mpcredit.bookmaker import SHIPPED_ACCOUNTS
from mpcredit.cli import main
from mpcredit.desk import Desk
from mpcredit.errors import (
    InvalidFile,
    InvalidKey,
    InvalidMessage,
    InvalidSubject,
    LedgerError,
    MpcreditError,
    ValueOutOfRange,
)

AMOUNTS = ["outstanding", "credit_limit", "overdue"]
COUNTS = ["loans", "pending"]
FIGURES = [*AMOUNTS, *COUNTS, "lenders"]
LARGEST_AMOUNT = 2**48 - 1
LARGEST_COUNT = 2**16 - 1
HEADER = "kind,country,number,currency,outstanding,credit_limit,overdue,loans,pending"
QUICK = ("--institutions", "3", "--bits", "2048")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`mpcredit demo` in a process of its own, as from a pipe."""
    program = "import sys; from mpcredit.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, "demo", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def pandas_sums(directory: Path, minor_digits: int) -> tuple[pandas.DataFrame, int]:
    """Sums over the CSV files of a directory by "kind:country:number", and the number of files."""
    files = sorted(directory.glob("*.csv"))
    rows = pandas.concat([pandas.read_csv(path, comment="#", dtype=str) for path in files])
    table = pandas.DataFrame({"subject": rows["kind"] + ":" + rows["country"] + ":" + rows["number"]})
    for name in AMOUNTS:
        whole = rows[name].str.partition(".")[0]
        digits = rows[name].str.partition(".")[2].str.ljust(minor_digits, "0")
        table[name] = (whole + digits).astype("int64")
    for name in COUNTS:
        table[name] = rows[name].astype("int64")
    table["lenders"] = (table[[*AMOUNTS, "loans"]] > 0).any(axis=1).astype("int64")
    return table.groupby("subject").sum(), len(files)


def write_book(directory: Path, name: str, currency: str, rows: Sequence[str], *, as_of: str = "2026-11-01") -> Path:
    """A loan book of one's own."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}.csv"
    path.write_text("\n".join([f"# as_of: {as_of}", f"# currency: {currency}", HEADER, *rows, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The document of a run over eight institutions, and the books it wrote."""
    books = tmp_path_factory.mktemp("demo") / "made" / "books"
    ended = run(
        *("--json", "--institutions", "8", "--subjects", "9", "--bits", "2048"),
        *("--chain", "tester", "--write-books", str(books)),
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout), books


# --------------------------------------------------------------------- figures


def test_json__every_figure__is_the_sum_that_pandas_finds_in_the_written_books(made: Any) -> None:
    document, books = made
    sums, files = pandas_sums(books, 2)

    assert files == 8
    assert len(document["subjects"]) == 9
    for entry in document["subjects"]:
        expected = dict.fromkeys(FIGURES, 0)
        if entry["subject"] in sums.index:
            expected = {name: int(value) for name, value in sums.loc[entry["subject"]].items()}
        assert entry["totals"] == expected
        assert entry["expected"] == expected
        assert list(entry["totals"]) == FIGURES


def test_json__document__tells_institutions_gas_verdict_and_decisions(made: Any) -> None:
    document, _books = made

    assert document["institutions"] == [f"Bank {letter}" for letter in "ABCDEFGH"]
    assert (document["currency"], document["bits"], document["chain"]) == ("TWD", 2048, "tester")
    assert document["supervisor"] == {"verdict": "valid", "culprits": []}
    assert {step: len(used) for step, used in document["gas"].items() if step != "set_up"} == {
        "open": 1,
        "contribute": 7,
        "report": 1,
        "attest": 1,
    }
    assert all(gas > 21_000 for used in document["gas"].values() for gas in used)
    assert {entry["decision"] for entry in document["subjects"]} == {"approve", "refer", "decline"}
    for entry in document["subjects"]:
        assert entry["coverage"] == "8 of 8 institutions"
        assert bool(entry["reasons"]) == (entry["decision"] != "approve")
    assert document["right"] is True


def test_default_settings__the_first_customers__show_all_three_decisions(made: Any) -> None:
    document, _books = made

    first = document["subjects"][: demo.DEFAULT_SUBJECTS]

    assert {entry["decision"] for entry in first} == {"approve", "refer", "decline"}
    assert document["requested"] == int(demo.DEFAULT_AMOUNT) * 100


def test_json__single_upload__gives_the_figures_away_only_without_masks(made: Any) -> None:
    document, books = made
    tried = document["single_upload"]
    kind, country, number = tried["subject"].split(":")
    book = pandas.read_csv(books / "bank_c.csv", comment="#", dtype={"number": str})
    row = book[(book["kind"] == kind) & (book["country"] == country) & (book["number"] == number)].iloc[0]

    assert tried["institution"] == "Bank C"
    assert tried["naive"]["outstanding"] == round(row["outstanding"] * 100) > 0
    assert tried["naive"]["loans"] == row["loans"]
    assert tried["naive"] == tried["figures"]
    assert tried["masked_reads_as_figures"] is False
    # Uniform below n: that it has 100 leading zeros more than n happens once in 2^100 runs.
    assert int(tried["masked"], 16).bit_length() > 2048 - 100


def test_written_books__are_private_and_run_again_to_the_same_totals(made: Any) -> None:
    document, books = made

    assert {path.stat().st_mode & 0o777 for path in books.iterdir()} == {0o600}
    again = demo.run(
        demo.Settings(
            books=books, bits=2048, named=tuple(demo.parse_subject(e["subject"]) for e in document["subjects"][:3])
        )
    )

    assert again.right
    assert [a.totals for a in again.applicants] == [entry["totals"] for entry in document["subjects"][:3]]
    assert again.institutions == tuple(document["institutions"])


def test_books__own_figures_at_both_ends_in_a_currency_without_minor_units__are_summed(tmp_path: Path) -> None:
    most = f"{LARGEST_AMOUNT},{LARGEST_AMOUNT},{LARGEST_AMOUNT},{LARGEST_COUNT},{LARGEST_COUNT}"
    for name in ("north", "south", "west", "east"):
        rows = [f"passport,JP,TK1234567,JPY,{most}", "company,JP,0104-01-089998,JPY,0,0,0,0,1"]
        if name == "west":
            rows.append("national_id,CN,130503670401001,JPY,7,0,0,1,0")  # the form with 15 digits
        write_book(tmp_path / "own", name, "JPY", rows)

    ended = run(
        *("--json", "--bits", "2048", "--books", str(tmp_path / "own"), "--amount", "1000"),
        *("--subject", "passport:JP:tk 1234567", "--subject", "company:JP:010401089998"),
        *("--subject", "national_id:CN:130503196704010016", "--subject", "passport:JP:NOBODY1"),
    )

    document = json.loads(ended.stdout)
    assert ended.returncode == 0, ended.stderr
    assert document["institutions"] == ["east", "north", "south", "west"]
    assert (document["currency"], document["requested"]) == ("JPY", 1000)
    assert document["subjects"][0]["subject"] == "passport:JP:TK1234567"
    assert [list(entry["totals"].values()) for entry in document["subjects"]] == [
        [4 * LARGEST_AMOUNT] * 3 + [4 * LARGEST_COUNT] * 2 + [4],
        [0, 0, 0, 0, 4, 0],
        [7, 0, 0, 1, 0, 1],
        [0, 0, 0, 0, 0, 0],
    ]
    assert any("JPY" in note for note in document["notes"])


def test_books__older_than_usual__are_answered_from_with_a_note(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write_book(tmp_path, name, "TWD", ["company,TW,04595257,TWD,1.05,0,0,1,0"], as_of="2001-02-03")

    result = demo.run(demo.Settings(books=tmp_path, bits=2048, subjects=1))

    assert result.right
    assert result.applicants[0].totals == {**dict.fromkeys(FIGURES, 0), "outstanding": 315, "loans": 3, "lenders": 3}
    assert any("days old" in note for note in result.notes)


def test_data__accounts_of_ones_own__make_the_books(tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("".join(SHIPPED_ACCOUNTS.read_text(encoding="utf-8").splitlines(keepends=True)[:4]))

    result = demo.run(demo.Settings(data=few, institutions=3, bits=2048, subjects=2, write_books=tmp_path / "books"))

    sums, files = pandas_sums(tmp_path / "books", 2)
    assert (result.right, files) == (True, 3)
    assert sums["loans"].sum() == 3
    assert result.applicants[0].totals is not None
    assert (
        result.applicants[0].totals["credit_limit"]
        == sums.loc[demo.identity_text(result.applicants[0].subject)]["credit_limit"]
    )


@pytest.mark.anvil
def test_anvil__the_same_run__is_right() -> None:
    ended = run("--json", "--institutions", "4", "--bits", "2048", "--chain", "anvil")

    document = json.loads(ended.stdout)
    assert ended.returncode == 0, ended.stderr
    assert document["chain"] == "anvil"
    assert document["right"] is True
    assert len(document["gas"]["contribute"]) == 3


# --------------------------------------------------------------------- for people


def test_human_output__shows_steps_totals_decisions_heart_verdict_and_next_command() -> None:
    ended = run(*QUICK)

    lines = [line.rstrip() for line in ended.stdout.splitlines()]
    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout
    assert max(map(len, lines)) <= 100
    steps = [line for line in lines if re.match(r"step [1-6] ", line)]
    assert [line[5] for line in steps] == list("123345" + "66")
    assert [bool(re.search(r"block \d+ +[\d,]+ gas$", line)) for line in steps] == [
        *(False, True, True, True, False, True, True, False)
    ]
    assert sum(line.endswith(" equal") for line in lines) == 4
    assert "All joint totals equal the sums in the clear" in ended.stdout
    assert re.search(r"TW …\d{4} +3 of 3 +DECLINE ", ended.stdout)
    assert "Bank A tries to see Bank C alone" in ended.stdout
    assert re.search(r"naive, without masks: +outstanding [\d,.]+, credit limit", ended.stdout)
    assert re.search(r"here, with masks: +0x[0-9a-f]{24}…[0-9a-f]{24}", ended.stdout)
    assert "Supervisor: VALID." in ended.stdout
    assert lines[-1].endswith("Next, try: mpcredit demo --write-books my-books")


def test_institutions_names_with_markup__are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two", "three"):
        path = write_book(tmp_path, name, "TWD", ["company,TW,04595257,TWD,1,0,0,1,0"])
        path.write_text(f"# institution: [red]{name}[/red] 銀行\n" + path.read_text(encoding="utf-8"), encoding="utf-8")

    status = main(["demo", "--books", str(tmp_path), "--bits", "2048", "--subjects", "1"])

    assert status == 0
    assert "[red]one[/red] 銀行 opens the inquiry" in capsys.readouterr().out


# --------------------------------------------------------------------- when something is wrong


def test_mask_that_does_not_cancel__supervisor_names_who__and_the_run_fails_loudly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = Desk.mask_keys

    def false_masks(desk: Desk, keys: Any, period: Any) -> dict[int, bytes]:
        made = honest(desk, keys, period)
        return {i: bytes(32) for i in made} if desk.member.name == "Bank B" else made

    monkeypatch.setattr(Desk, "mask_keys", false_masks)

    status = main(["demo", *QUICK])
    told = capsys.readouterr().out
    status_json = main(["demo", "--json", *QUICK])
    document = json.loads(capsys.readouterr().out)

    assert (status, status_json) == (1, 1)
    assert "Supervisor: INVALID." in told
    assert "THIS RUN FAILED" in told
    assert "Next, try" not in told
    assert document["supervisor"] == {"verdict": "invalid", "culprits": ["Bank B"]}
    assert document["right"] is False
    assert {(entry["totals"], entry["decision"]) for entry in document["subjects"]} == {(None, None)}


def test_totals_that_differ_from_the_clear_sums__the_run_fails_loudly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = demo.clear_sums
    monkeypatch.setattr(
        demo, "clear_sums", lambda *given: [{**sums, "overdue": sums["overdue"] + 1} for sums in right(*given)]
    )

    status = main(["demo", *QUICK])

    told = capsys.readouterr().out
    assert status == 1
    assert "DIFFERENT" in told
    assert "THIS RUN FAILED" in told


def test_masks_left_out__the_attempt_on_a_single_upload_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcredit.protocol.mask_sum", lambda *given: 0)

    result = demo.run(demo.Settings(institutions=3, bits=2048))

    assert result.verdict == "valid"
    assert all(applicant.agrees for applicant in result.applicants)
    assert not result.heart.holds
    assert not result.right


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"institutions": 2}, MpcreditError, "3 to 216"),
        ({"institutions": 217}, MpcreditError, "3 to 216"),
        ({"bits": 2049}, InvalidKey, "steps of 256"),
        ({"bits": 1792}, InvalidKey, "2048"),
        ({"bits": 4352}, InvalidKey, "4096"),
        ({"subjects": 0}, MpcreditError, "1 to 160"),
        ({"subjects": 161}, MpcreditError, "1 to 160"),
        ({"chain": "mainnet"}, LedgerError, "tester, anvil, or the URL"),
        ({"chain": "http://user:secret@127.0.0.1:9"}, LedgerError, "cannot be reached"),
        ({"amount": "-1"}, ValueOutOfRange, "0 or more"),
        ({"amount": "1.005"}, ValueOutOfRange, "digits after the point"),
        ({"amount": "many"}, ValueOutOfRange, "digits"),
        ({"data": Path("absent.csv")}, InvalidFile, "absent.csv"),
        ({"books": Path("absent")}, InvalidFile, "is not a directory"),
        ({"books": Path(), "write_books": Path("new")}, MpcreditError, "neither"),
        ({"books": Path(), "data": SHIPPED_ACCOUNTS}, MpcreditError, "neither"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_impossible_settings__are_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], error: type[MpcreditError], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = demo.Settings(**{"write_books": None if "books" in changed else Path("books"), **changed})

    with pytest.raises(error, match=re.escape(words)) as caught:
        demo.run(settings)

    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_subjects__malformed_or_named_twice__are_refused() -> None:
    with pytest.raises(InvalidSubject, match="kind:country:number"):
        demo.parse_subject("national_id:A123456789")
    with pytest.raises(InvalidSubject, match="check digit"):
        demo.parse_subject("national_id:TW:A123456788")

    one, same = demo.parse_subject("national_id:TW:A123456789"), demo.parse_subject("national_id:tw:a123-456-789")
    with pytest.raises(InvalidMessage, match="twice"):
        demo.run(demo.Settings(named=(one, same)))


def test_data__with_a_wrong_row__is_refused_by_row_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = SHIPPED_ACCOUNTS.read_text(encoding="utf-8").splitlines(keepends=True)[:4]
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("".join([*rows[:2], rows[2].replace("120000.0", "plenty"), rows[3]]), encoding="utf-8")

    status = main(["demo", "--data", str(wrong)])

    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert "wrong.csv, row 3, LIMIT_BAL" in told.err


def test_data__with_an_amount_that_no_slot_holds__is_refused(tmp_path: Path) -> None:
    rows = SHIPPED_ACCOUNTS.read_text(encoding="utf-8").splitlines(keepends=True)[:2]
    large = tmp_path / "large.csv"
    large.write_text("".join([rows[0], rows[1].replace("20000.0", f"{2**48}.0", 1)]), encoding="utf-8")

    with pytest.raises(InvalidFile, match=r"large\.csv.*credit_limit.*too large"):
        demo.run(demo.Settings(data=large))


@pytest.mark.parametrize("inside", ["file.txt", ".hidden"])
def test_write_books__into_a_directory_with_something_in_it__is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).write_text("mine")

    with pytest.raises(InvalidFile, match="not an empty directory"):
        demo.run(demo.Settings(write_books=tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == [inside]


def test_write_books__that_cannot_be_finished__leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "books"
    write = demo.LoanBook.write_csv

    def disk_full(book: Any, path: Path) -> None:
        if path == target / "bank_c.csv":
            raise InvalidFile(str(path), "cannot be written: No space left on device", "see to path and permissions")
        write(book, path)

    monkeypatch.setattr(demo.LoanBook, "write_csv", disk_full)

    with pytest.raises(InvalidFile, match="No space left"):
        demo.run(demo.Settings(institutions=3, bits=2048, write_books=target))

    assert list(tmp_path.iterdir()) == []


def test_books__that_do_not_fit_together__are_refused_by_file(tmp_path: Path) -> None:
    settings = demo.Settings(books=tmp_path, bits=2048)
    row = "company,TW,04595257,TWD,1,0,0,1,0"
    write_book(tmp_path, "a", "TWD", [row])
    write_book(tmp_path, "b", "TWD", [row])
    with pytest.raises(InvalidFile, match="has 2 CSV files"):
        demo.run(settings)

    write_book(tmp_path, "c", "USD", [row.replace("TWD", "USD")])
    with pytest.raises(InvalidFile, match=r"c\.csv, currency: is USD, that of a\.csv is TWD"):
        demo.run(settings)

    write_book(tmp_path, "c", "TWD", [row.replace(",1,0,0,1,0", ",1e6,0,0,1,0")])
    with pytest.raises(InvalidFile, match=r"c\.csv, row 4, outstanding"):
        demo.run(settings)

    path = write_book(tmp_path, "c", "TWD", [row])
    path.write_text("# institution: a\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(InvalidFile, match=r"c\.csv, institution: is that of a\.csv too"):
        demo.run(settings)


@pytest.mark.parametrize(
    "arguments",
    [("--books", "x", "--institutions", "8"), ("--subject", "a:b:c", "--subjects", "2"), ("--bits", "many")],
)
def test_options_that_exclude_each_other__are_refused(arguments: tuple[str, ...]) -> None:
    assert main(["demo", *arguments]) == 2


def test_limits_of_the_demo__are_those_of_the_schema() -> None:
    assert schema.FIGURES_1.records_per_block(paillier.DEFAULT_MODULUS_BITS) * 16 == 160
