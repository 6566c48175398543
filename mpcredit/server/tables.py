"""Tables for other programs, as CSV and as Apache Parquet: the same rows and names in both.

Integers stay exact. Figures (amounts in minor units, counts, and their sums) are decimal128(38, 0) in Parquet and plain digits
in CSV: a double would lose them from 2^53 on, and int64 could not hold the sums of every schema. One beyond 38 digits is
refused, never rounded. Counts and seconds are int64; times are timestamps in UTC, in CSV Unix seconds. Parquet needs the extra
`mpcredit[parquet]`. Which rows anybody may have is left to the routes.
"""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from fastapi.responses import Response

from mpcredit.errors import InvalidMessage

__all__ = [
    "FIGURE",
    "FLAG",
    "FORMATS",
    "INTEGER",
    "TEXT",
    "TIME",
    "NoParquet",
    "Table",
    "download",
    "has_parquet",
    "plain_cell",
]

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)."""

TEXT: Final = "text"
INTEGER: Final = "integer"
"""A count or a number of seconds, below 2^63."""
FIGURE: Final = "figure"
TIME: Final = "time"
"""Unix seconds."""
FLAG: Final = "flag"
FORMATS: Final = ("csv", "parquet")
FIGURE_DIGITS: Final = 38
"""What decimal128 holds."""


class NoParquet(InvalidMessage):
    """Parquet cannot be written here, or cannot hold a value."""


@dataclass(frozen=True)
class Table:
    """Rows to hand out."""

    name: str
    """Of the file, without its ending."""
    columns: Mapping[str, str]
    """Name to kind, in the order of the file."""
    rows: Sequence[Mapping[str, Any]]
    """None where there is no value."""


def has_parquet() -> bool:
    """Whether Parquet can be written here."""
    return importlib.util.find_spec("polars") is not None


def download(table: Table, kind: str) -> Response:
    """A table as a file.

    Raises:
        NoParquet: see `parquet_bytes`.
    """
    content = parquet_bytes(table) if kind == "parquet" else csv_bytes(table)
    media = "application/vnd.apache.parquet" if kind == "parquet" else "text/csv; charset=utf-8"
    headers = {"Content-Disposition": f'attachment; filename="{table.name}.{kind}"'}
    return Response(content, media_type=media, headers=headers)


def csv_bytes(table: Table) -> bytes:
    """A table as CSV, with its header even if there is no row."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow([plain_cell(row[name]) for name in table.columns])
    return out.getvalue().encode()


def plain_cell(value: Any) -> Any:
    """A cell that no spreadsheet runs: text that looks like a formula gets an apostrophe, since others wrote it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def parquet_bytes(table: Table) -> bytes:
    """A table as Parquet.

    Raises:
        NoParquet: polars is not installed, or a figure has more than 38 digits.
    """
    if not has_parquet():
        raise NoParquet(
            "this server cannot write Parquet",
            remedy="take CSV, or have its operator install the extra: pip install 'mpcredit[parquet]'",
        )
    import polars

    types = {
        TEXT: polars.String(),
        INTEGER: polars.Int64(),
        FIGURE: polars.Decimal(FIGURE_DIGITS, 0),
        TIME: polars.Datetime("ms", "UTC"),
        FLAG: polars.Boolean(),
    }
    columns = [
        polars.Series(name, [_typed(row[name], kind, name) for row in table.rows], types[kind], strict=True)
        for name, kind in table.columns.items()
    ]
    out = io.BytesIO()
    polars.DataFrame(columns).write_parquet(out, compression="zstd")
    return out.getvalue()


def _typed(value: Any, kind: str, name: str) -> Any:
    if value is None:
        return None
    if kind == FIGURE:
        if abs(value) >= 10**FIGURE_DIGITS:
            raise NoParquet(f"a figure in {name} has more than {FIGURE_DIGITS} digits", remedy="take CSV for this one")
        return Decimal(value)
    if kind == TIME:
        return datetime.fromtimestamp(value, UTC)
    return value
