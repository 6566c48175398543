"""Loan books from files: read and checked as a whole at import, then looked up by tag (docs/loan-book.md).

A figure that the schema cannot hold, an identity that is not one and a customer that appears twice are refused here, by
row and field, so that an answer can never fail, or take another time, because of who the customer is. How old a book
may be is for the disclosure policy; who may ask is not known here.
"""

from __future__ import annotations

import csv
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mpcredit.amounts import CURRENCIES, Money, exponent
from mpcredit.domain.book_text import foreign_text, separator_of, shape
from mpcredit.errors import InvalidFile, InvalidSubject, Refused, ValueOutOfRange
from mpcredit.identity import KINDS, Subject
from mpcredit.schema import FIGURES_1, Field, Record, Schema
from mpcredit.tags import Tagger

__all__ = ["LoanBook", "TaggedBook", "columns", "completed", "written_fields"]

_IDENTITY: Final = ("kind", "country", "number", "currency")
_DERIVED: Final = "lenders"
_EXPOSURE: Final = ("outstanding", "credit_limit", "overdue", "loans")
_PLAIN: Final = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_INTEGER: Final = re.compile(r"[0-9]+", re.ASCII)
_REMARKS: Final = ("as_of", "institution", "currency")
_LISTED_PROBLEMS: Final = 20
_HEAD_BYTES: Final = 4_096
_LONGEST_NUMBER: Final = 100  # ours: a slot of at most 256 bits has 78 digits, and Python reads no integer above 4,300


def columns(schema: Schema) -> tuple[str, ...]:
    """Return the header of a loan book of a schema. `lenders` is not a column of FIGURES_1: it is derived."""
    return (*_IDENTITY, *(part.name for part in _written_fields(schema)))


def _written_fields(schema: Schema) -> tuple[Field, ...]:
    return tuple(part for part in schema.fields if not (schema == FIGURES_1 and part.name == _DERIVED))


def completed(schema: Schema, figures: Record) -> dict[str, int]:
    """A record with what is derived computed anew, after one of its figures was changed."""
    return _complete(schema, dict(figures))


def written_fields(schema: Schema) -> tuple[Field, ...]:
    """The fields of a schema that a book says; the others are derived."""
    return _written_fields(schema)


def _complete(schema: Schema, figures: dict[str, int]) -> dict[str, int]:
    """Add what is derived. An application alone is no exposure, so `pending` does not make a lender."""
    if schema == FIGURES_1:
        figures[_DERIVED] = int(any(figures[name] > 0 for name in _EXPOSURE))
    return figures


class _Problem(Exception):
    """One thing that is wrong in one row."""

    def __init__(self, where: str, what: str, remedy: str) -> None:
        super().__init__(where, what, remedy)
        self.where, self.what, self.remedy = where, what, remedy


@dataclass(frozen=True)
class LoanBook:
    """The figures of one institution's customers at one time, in minor units."""

    as_of: int
    """Unix seconds as of which the figures hold."""
    currency: str
    """ISO 4217 code of all amounts."""
    records: Mapping[bytes, Record] = field(repr=False)
    """Canonical identity (R3) to figures, in the order of the file."""
    institution: str = ""
    """Name for people; may be empty."""
    schema: Schema = FIGURES_1
    """The fields of every record."""

    @classmethod
    def read_csv(
        cls, path: Path, *, schema: Schema = FIGURES_1, currency: str | None = None, collect: bool = False
    ) -> LoanBook:
        """Read and check a file of the form of docs/loan-book.md.

        Args:
            path: the file.
            schema: the fields that it has.
            currency: refuse a book of another currency.
            collect: go on after a bad row and raise one error that lists the first 20 problems and counts all.

        Raises:
            InvalidFile: anything that is not as documented.
        """
        return _Reader(path, schema, currency, collect).read()

    def __post_init__(self) -> None:
        exponent(self.currency)

    def __len__(self) -> int:
        return len(self.records)

    def subjects(self) -> Iterator[Subject]:
        """The customers, in the order of the file."""
        return (_subject(canonical) for canonical in self.records)

    def lookup(self, subject: Subject) -> dict[str, int]:
        """Return the figures of a subject, all zero for who is not a customer."""
        return dict(self.records.get(subject.canonical, self.schema.zero))

    def index(self, tagger: Tagger) -> TaggedBook:
        """Compute the tag of every customer, for answering inquiries."""
        table = {tagger.tag(_subject(canonical)): record for canonical, record in self.records.items()}
        return TaggedBook(self.as_of, self.currency, tagger.version, {self.schema.id: (self.schema, table)})

    def write_csv(self, path: Path) -> None:
        """Write the book in the form that `read_csv` reads. The file appears whole; only its owner can read it.

        Raises:
            InvalidFile: the file cannot be written.
        """
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
                stream.write(f"# as_of: {datetime.fromtimestamp(self.as_of, UTC).isoformat().replace('+00:00', 'Z')}\n")
                if self.institution:
                    stream.write(f"# institution: {' '.join(self.institution.split())}\n")
                stream.write(f"# currency: {self.currency}\n")
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(columns(self.schema))
                writer.writerows(self._rows())
                stream.flush()
                os.fsync(stream.fileno())
            temporary.rename(path)
        except OSError as error:
            raise InvalidFile(
                str(path), f"cannot be written: {error.strerror}", "see to path and permissions"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _rows(self) -> Iterator[list[str]]:
        fields = _written_fields(self.schema)
        for canonical, record in self.records.items():
            subject = _subject(canonical)
            figures = [
                _major(record[part.name], self.currency) if part.kind == "amount" else str(record[part.name])
                for part in fields
            ]
            yield [subject.kind, subject.country, subject.number, self.currency, *figures]


def _subject(canonical: bytes) -> Subject:
    """Read a canonical identity, which is label|kind|COUNTRY|NUMBER, back."""
    _, kind, country, number = canonical.decode("ascii").split("|")
    return Subject(kind, number, country=country)


def _major(minor: int, currency: str) -> str:
    return str(Money.of_minor(minor, currency)).removesuffix(f" {currency}").replace(",", "")


@dataclass(frozen=True)
class TaggedBook:
    """A loan book by tag: what a furnisher answers from. Implements `ports.Book`."""

    as_of: int
    """Unix seconds as of which the figures hold; of several joined books, the oldest."""
    currency: str
    """ISO 4217 code of all amounts."""
    tag_key_version: int
    """Version of the tag key under which the tags were made."""
    tables: Mapping[int, tuple[Schema, Mapping[bytes, Record]]] = field(repr=False)
    """Schema id to schema and table."""

    @classmethod
    def joined(cls, books: Iterable[TaggedBook]) -> TaggedBook:
        """Make one book of several, each for another schema.

        Raises:
            ValueError: no book, two for one schema, or books of different currencies or tag keys.
        """
        parts = list(books)
        tables = {number: table for part in parts for number, table in part.tables.items()}
        if len(tables) != sum(len(part.tables) for part in parts):
            raise ValueError("two books of one schema")
        if len({(part.currency, part.tag_key_version) for part in parts}) != 1:
            raise ValueError("books of one institution have one currency and one tag key")
        return cls(min(part.as_of for part in parts), parts[0].currency, parts[0].tag_key_version, tables)

    @property
    def customers(self) -> int:
        """Number of customers in the largest of the tables."""
        return max(len(table) for _, table in self.tables.values())

    def raised(self, tagger: Tagger) -> TaggedBook:
        """The same figures under the tags of a newer tag key (R4); no identity is needed for it."""
        version = self.tag_key_version
        tables = {
            number: (schema, {tagger.raised(tag, version): record for tag, record in table.items()})
            for number, (schema, table) in self.tables.items()
        }
        return TaggedBook(self.as_of, self.currency, tagger.version, tables)

    def record(self, schema: Schema, tag: bytes) -> dict[str, int]:
        """Return the figures behind a tag, all zero for who is not a customer. One look-up either way.

        Raises:
            Refused: the institution keeps no figures of this schema, whoever is asked about.
        """
        known, table = self.tables.get(schema.id, (None, {}))
        if known != schema:
            raise Refused(
                f"this institution keeps no figures of schema {schema.id}",
                code="unknown_schema",
                remedy="import a loan book of this schema",
            )
        return dict(table.get(tag, schema.zero))


class _Reader:
    """Reads one file. Rows are numbered as spreadsheets number them: the first line of the file is row 1."""

    def __init__(self, path: Path, schema: Schema, currency: str | None, collect: bool) -> None:
        self.path = path
        self.schema = schema
        self.fields = _written_fields(schema)
        self.currency = currency
        self.collect = collect
        self.problems: list[InvalidFile] = []
        self.rows: dict[bytes, int] = {}
        self.records: dict[bytes, Record] = {}

    def read(self) -> LoanBook:
        # (1) text and remark lines.
        lines = self._lines()
        remarks, start = self._remarks(lines)
        as_of = self._as_of(remarks)
        start, separator = self._separator(lines, start)
        if "currency" in remarks:
            self._check_currency(remarks["currency"], "remark currency")
        # (2) header, then one customer a row.
        reader = csv.reader(lines[start:], strict=True, delimiter=separator)
        try:
            self._check_header(next(reader, []), start + 1)
            for cells in reader:
                if cells:
                    self._row(cells, start + reader.line_num)
        except csv.Error as error:
            raise self._error(
                f"row {start + reader.line_num}", f"is not CSV: {error}", "close quotes, separate by commas"
            ) from error
        # (3) one error for all rows, if rows were wrong.
        if self.problems:
            raise self._all_problems()
        if self.currency is None:
            raise self._error("", "has no rows, so its currency is not known", "add the line: # currency: TWD")
        return LoanBook(as_of, self.currency, self.records, remarks.get("institution", ""), self.schema)

    def _error(self, where: str, problem: str, remedy: str) -> InvalidFile:
        return InvalidFile(f"{self.path.name}, {where}" if where else self.path.name, problem, remedy)

    def _all_problems(self) -> InvalidFile:
        if len(self.problems) == 1:
            return self.problems[0]
        shown = self.problems[:_LISTED_PROBLEMS]
        listing = "".join(f"\n  {problem}" for problem in shown)
        more = len(self.problems) - len(shown)
        rest = f"\n  and {more} more" if more else ""
        return self._error("", f"has {len(self.problems)} problems:{listing}{rest}\n", "mend these rows, import again")

    def _lines(self) -> list[str]:
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise InvalidFile(
                str(self.path), f"cannot be read: {error.strerror}", "name an existing, readable CSV file"
            ) from error
        except UnicodeDecodeError as error:
            problem = foreign_text(error.object) or ("is not UTF-8 text", "save it as CSV UTF-8")
            raise self._error("", *problem) from error
        if foreign := foreign_text(text.encode()[:_HEAD_BYTES]):
            raise self._error("", *foreign)
        if "\0" in text:
            raise self._error("", "is not a text file", "save it as CSV UTF-8")
        return re.split(r"(?<=\n)", text.replace("\r\n", "\n").replace("\r", "\n"))

    def _separator(self, lines: Sequence[str], start: int) -> tuple[int, str]:
        """Where the header is, and what separates its cells: a comma, or what a spreadsheet has made of it."""
        names = columns(self.schema)
        line = lines[start] if start < len(lines) else ""
        found = separator_of(line, names) or ","
        return (start + 1 if line.lower().startswith("sep=") else start), found

    def _remarks(self, lines: list[str]) -> tuple[dict[str, str], int]:
        found: dict[str, str] = {}
        for number, line in enumerate(lines):
            if not line.startswith("#"):
                return found, number
            name, colon, value = line[1:].partition(":")
            name = name.strip()
            if not colon or name not in _REMARKS:
                raise self._error(
                    f"row {number + 1}", "is not a known remark", f"write # name: value, name being {_either(_REMARKS)}"
                )
            if name in found:
                raise self._error(f"row {number + 1}", f"gives {name} a second time", "keep one of the two")
            # A spreadsheet pads short lines with its separator.
            found[name] = value.strip().rstrip(",;\t").rstrip()
        return found, len(lines)

    def _as_of(self, remarks: Mapping[str, str]) -> int:
        remedy = "write # as_of: 2026-11-01, or with a time: # as_of: 2026-11-01T18:00:00Z"
        if "as_of" not in remarks:
            raise self._error("as_of", "is missing: nobody could tell how old the figures are", remedy)
        try:
            moment = datetime.fromisoformat(remarks["as_of"])
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            seconds = int(moment.timestamp())
        except (ValueError, OverflowError) as error:
            raise self._error("as_of", f"{shape(remarks['as_of'])} is not an ISO 8601 date or time", remedy) from error
        if seconds < 0:
            raise self._error("as_of", "lies before 1970", remedy)
        return seconds

    def _check_currency(self, currency: str, where: str) -> None:
        if currency not in CURRENCIES:
            raise self._error(
                where, f"{shape(currency)} is not a known currency", "write its ISO 4217 code, such as TWD"
            )
        if self.currency is None:
            self.currency = currency
        elif currency != self.currency:
            raise self._error(
                where, f"is {currency}, this book is in {self.currency}", "one book has one currency: split the file"
            )

    def _check_header(self, header: list[str], number: int) -> None:
        expected = columns(self.schema)
        names = [cell.strip() for cell in header]
        if tuple(names) == expected:
            return
        missing = [name for name in expected if name not in names]
        unknown = [name for name in names if name not in expected]
        if missing:
            problem = f"lacks the column {_either(missing)}"
        elif unknown:
            problem = f"has an unknown column, the {_ordinal(names.index(unknown[0]) + 1)}"
        else:
            problem = "has its columns in another order, or twice"
        raise self._error(f"row {number}, header", problem, f"the header is exactly {','.join(expected)}")

    def _row(self, cells: list[str], number: int) -> None:
        try:
            self._customer([cell.strip() for cell in cells], number)
        except _Problem as problem:
            error = self._error(f"row {number}, {problem.where}", problem.what, problem.remedy)
        except InvalidFile as invalid:
            error = invalid
        else:
            return
        if not self.collect:
            raise error
        self.problems.append(error)

    def _customer(self, cells: list[str], number: int) -> None:
        names = columns(self.schema)
        if len(cells) != len(names):
            raise _Problem(
                "cells",
                f"has {len(cells)} cells, the header {len(names)}",
                "write every cell; an amount has no commas in it",
            )
        row = dict(zip(names, cells, strict=True))
        for name, cell in row.items():
            if not cell:
                raise _Problem(name, "is empty", "write the value; 0 where there is none")
        if row["kind"] not in KINDS:
            raise _Problem("kind", f"{shape(row['kind'])} is unknown", f"write {_either(KINDS)}")
        try:
            subject = Subject(row["kind"], row["number"], country=row["country"])
        except InvalidSubject as error:
            where = "country" if "country" in error.message else "number"
            raise _Problem(where, error.message, error.remedy or "correct it from the customer's document") from error
        self._first_of(subject, number)
        self._check_currency(row["currency"], f"row {number}, currency")
        figures = {part.name: self._figure(part, row[part.name], row["currency"]) for part in self.fields}
        self._keep(subject, number, _complete(self.schema, figures))

    def _first_of(self, subject: Subject, number: int) -> None:
        first = self.rows.setdefault(subject.canonical, number)
        if first != number:
            raise _again(first)

    def _keep(self, subject: Subject, _number: int, record: Record) -> None:
        self.records[subject.canonical] = record

    def _figure(self, part: Field, text: str, currency: str) -> int:
        if text.startswith("-"):
            raise _Problem(part.name, "is negative", "write 0; a credit balance is no debt")
        grammar = _PLAIN if part.kind == "amount" else _INTEGER
        if not grammar.fullmatch(text):
            raise _Problem(part.name, *_malformed(part, text))
        if len(text) > _LONGEST_NUMBER:
            value = part.maximum + 1
        elif part.kind == "amount":
            try:
                value = Money(text, currency).minor
            except ValueOutOfRange as error:
                digits = exponent(currency)
                raise _Problem(
                    part.name,
                    f"has more than {digits} digits after the point",
                    f"{currency} has {digits}: round it in the books",
                ) from error
        else:
            value = int(text)
        if value > part.maximum:
            largest = _major(part.maximum, currency) if part.kind == "amount" else str(part.maximum)
            raise _Problem(part.name, "is too large", f"the schema holds at most {largest}")
        return value


def _again(first: int) -> _Problem:
    return _Problem("number", f"is the customer of row {first} again", "one row for each customer: add up its accounts")


def _malformed(part: Field, text: str) -> tuple[str, str]:
    """Say what is wrong with a number that is not written as it must be."""
    example = "1234.50" if part.kind == "amount" else "3"
    if re.fullmatch(r"[0-9.]+[eE][+-]?[0-9]+", text):
        return "is in exponent notation", f"write all digits, as in {example}; a spreadsheet has shortened it"
    if re.fullmatch(r"[0-9]{1,3}([,' _][0-9]{3})+(\.[0-9]+)?", text):
        return "has thousands separators", f"write {example}"
    if part.kind != "amount" and _PLAIN.fullmatch(text):
        return "is not a whole number", f"write {example}"
    return f"{shape(text)} is not a number", f"write digits with at most one decimal point, as in {example}"


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _either(names: Iterable[str]) -> str:
    *head, last = names
    return f"{', '.join(head)} or {last}" if head else last
