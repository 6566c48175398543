"""The totals of a joint inquiry in the clear, straight from the loan books: the answer to compare the protocol's with.

Stand-alone on purpose: it imports nothing of mpcredit and shares no code with it, so a mistake in one is not repeated
in the other. It sees every figure of every institution, and is therefore for tests, demos and the founding rehearsal on
made-up books only. It trusts that the books are well formed (`mpcredit` checks them at import), and compares identities
after NFKC, in upper case and without separators; it does not know the 15-digit form of Chinese numbers.

    python -m mpcredit.clear_sums BOOKS_DIRECTORY national_id:TW:A123456789 [...]
"""

from __future__ import annotations

import csv
import json
import sys
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

__all__ = ["clear_sums", "main"]

AMOUNTS = ("outstanding", "credit_limit", "overdue")
COUNTS = ("loans", "pending")
# ISO 4217: all other currencies that mpcredit knows have two digits after the point.
NO_DIGITS = ("CLP", "ISK", "JPY", "KRW", "PYG", "RWF", "UGX", "VND", "XAF", "XOF")
THREE_DIGITS = ("BHD", "IQD", "JOD", "KWD", "OMR", "TND")


def _spelling(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text) if c.isalnum()).upper()


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(line for line in stream if not line.startswith("#")):
            yield {name.strip(): cell for name, cell in row.items()}


def clear_sums(paths: list[Path], subjects: list[tuple[str, str, str]]) -> list[dict[str, int]]:
    """Add up the figures of subjects over loan books.

    Args:
        paths: CSV files of the form of docs/loan-book.md, all in one currency.
        subjects: (kind, country, number) of each subject.

    Returns:
        One dict for each subject: amounts in minor units, counts, and the number of lenders. Zeros for a stranger.

    Raises:
        ValueError: the books have different currencies.
    """
    wanted = [(kind.strip(), _spelling(country), _spelling(number)) for kind, country, number in subjects]
    totals = [dict.fromkeys([*AMOUNTS, *COUNTS, "lenders"], 0) for _ in subjects]
    currencies = set()
    for path in paths:
        for row in _rows(path):
            currency = row["currency"].strip()
            currencies.add(currency)
            digits = 0 if currency in NO_DIGITS else 3 if currency in THREE_DIGITS else 2
            customer = (row["kind"].strip(), _spelling(row["country"]), _spelling(row["number"]))
            for subject, total in zip(wanted, totals, strict=True):
                if subject != customer:
                    continue
                for name in AMOUNTS:
                    total[name] += int(Decimal(row[name]) * 10**digits)
                for name in COUNTS:
                    total[name] += int(row[name])
                total["lenders"] += any(Decimal(row[name]) > 0 for name in [*AMOUNTS, "loans"])
    if len(currencies) > 1:
        raise ValueError(f"the books have different currencies: {', '.join(sorted(currencies))}")
    return totals


def main(arguments: list[str]) -> int:
    """Print the totals of the named subjects over all CSV files of a directory as JSON."""
    subjects = [tuple(argument.split(":")) for argument in arguments[1:]]
    paths = sorted(Path(arguments[0]).glob("*.csv")) if arguments else []
    if not subjects or not paths or any(len(subject) != 3 for subject in subjects):
        print("usage: python -m mpcredit.clear_sums BOOKS_DIRECTORY kind:country:number [...]", file=sys.stderr)
        return 2
    totals = clear_sums(paths, [(kind, country, number) for kind, country, number in subjects])
    listing = [{"subject": name, **total} for name, total in zip(arguments[1:], totals, strict=True)]
    print(json.dumps(listing, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
