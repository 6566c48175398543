"""The bank's own applications as rows of a file.

An export of applications says what was asked and decided. The totals of other institutions are not in it: who needs one
looks at the application, each look for itself.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fastapi.responses import Response

from mpcredit.amounts import Money
from mpcredit.server.casefile import Application
from mpcredit.server.refusals import InvalidForm
from mpcredit.server.tables import plain_cell

__all__ = ["APPLICATION_COLUMNS", "application_row", "csv_response", "days"]


APPLICATION_COLUMNS: Final = (
    "number",
    "id",
    "reference",
    "customer",
    "officer",
    "entered",
    "step",
    "purpose",
    "currency",
    "requested",
    "income",
    "months",
    "consent",
    "inquiry",
    "coverage",
    "attested",
    "policy",
    "decision",
    "reason",
    "decided_by",
    "decided",
    "against_policy",
    "confirmed_by",
)


def csv_response(name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> Response:
    """A file to download.

    Args:
        columns: in their order; by default those of the first row.
    """
    out = io.StringIO()
    names = list(columns or (rows[0] if rows else ()))
    if names:
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows({column: plain_cell(value) for column, value in row.items()} for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def application_row(application: Application) -> dict[str, Any]:
    """One line of the export; times in UTC, amounts in major units."""
    decision = application.decision or {}
    answer = application.answer if application.attested else None
    return {
        "number": application.number,
        "id": application.id,
        "reference": application.reference,
        "customer": application.label,
        "officer": application.officer,
        "entered": _iso(application.created_at),
        "step": application.step.value,
        "purpose": application.purpose,
        "currency": application.currency,
        "requested": _amount(application.requested),
        "income": _amount(application.income),
        "months": application.months,
        "consent": application.consent,
        "inquiry": application.seen.get("inquiry") or "",
        "coverage": application.seen.get("coverage") or "",
        "attested": "yes" if application.attested else "no",
        "policy": answer["outcome"] if answer else "",
        "decision": decision.get("outcome", ""),
        "reason": decision.get("reason", ""),
        "decided_by": decision.get("by", ""),
        "decided": _iso(decision.get("at")),
        "against_policy": "" if not decision else "yes" if decision["against"] else "no",
        "confirmed_by": decision.get("confirmed_by", ""),
    }


def _iso(at: int | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _amount(money: Money | None) -> str:
    return "" if money is None else str(money).rsplit(" ", 1)[0]


def days(first: str, last: str) -> tuple[int | None, int | None]:
    """From the first day's beginning to before the day after the last, unix seconds, in the machine's time zone.

    Raises:
        InvalidForm: one is no day, written 2027-01-31.
    """
    problems: dict[str, str] = {}
    found: list[int | None] = []
    for name, text, more in (("first", first, 0), ("last", last, 1)):
        try:
            day = datetime.strptime(text.strip(), "%Y-%m-%d").timetuple() if text.strip() else None
            at = None if day is None else time.mktime((day[0], day[1], day[2] + more, 0, 0, 0, 0, 0, -1))
            found.append(None if at is None else int(at))
        except (ValueError, OverflowError):
            problems[name] = "write a day as 2027-01-31"
            found.append(None)
    if problems:
        raise InvalidForm(problems)
    return found[0], found[1]
