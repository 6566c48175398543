"""Import a loan book of a million customers, again with one in a hundred changed, and raise it to a new tag key: rows a
second and peak memory.

    python benchmarks/bookimport.py --customers 1000000 [--database postgresql+psycopg://USER@HOST/EMPTY]

Each import is a process of its own, so that its peak memory (resident, of the whole process) is its own. The file has
Taiwanese identity numbers, whose check digit is tested, and the spool lies beside it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mpcredit.schema import FIGURES_1
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import CsvFile, SnapshotBook, current_snapshots, import_book
from mpcredit.server.bookraise import raise_books
from mpcredit.server.database import Database
from mpcredit.tags import HmacTagger, TagKey

BOUND_MIB = 256
LETTERS = dict(zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", range(10, 36), strict=True))
FIRST = TagKey(1, b"benchmark" + bytes(23))
TAGGER, NEXT = HmacTagger(FIRST), HmacTagger(FIRST, TagKey(2, bytes(32)))


def identity(number: int) -> str:
    """A Taiwanese identity number with its check digit."""
    letter = "ABCDEFGHJK"[number // 10**7 % 10]
    digits = f"{1 + number % 2}{number % 10**7:07}"
    code = LETTERS[letter]
    total = (
        code // 10 + 9 * (code % 10) + sum(int(d) * w for d, w in zip(digits, (8, 7, 6, 5, 4, 3, 2, 1), strict=True))
    )
    return f"{letter}{digits}{-total % 10}"


def write(path: Path, customers: int, changed: bool) -> None:
    """A book; the second one has every hundredth customer changed, and every thousandth missing."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(f"# as_of: 2026-11-0{2 if changed else 1}\n")
        stream.write("kind,country,number,currency,outstanding,credit_limit,overdue,loans,pending\n")
        for number in range(customers):
            if changed and number % 1000 == 500:
                continue
            owed = number * 37 % 10**7 + (changed and number % 100 == 0)
            stream.write(f"national_id,TW,{identity(number)},TWD,{owed}.50,{owed + 5000},0,{number % 4},{number % 2}\n")


def _peak() -> float:
    """MiB resident at most; Linux. getrusage would count what the parent process had."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


def run(url: str, path: Path) -> None:
    """One import, in this process."""
    database = Database(url)
    database.upgrade()
    done = import_book(database, AuditLog(database), CsvFile(path), TAGGER, spool=path.parent)
    one, peak = done.snapshot, _peak()
    started = time.perf_counter()
    book = SnapshotBook(database, current_snapshots(database))
    for number in range(1000):
        book.record(FIGURES_1, number.to_bytes(32, "big"))
    look = time.perf_counter() - started
    print(
        f"{one.customers:>10,} customers  {done.seconds:7.1f} s  {one.customers / done.seconds:9,.0f} rows/s  "
        f"peak {peak:5.0f} MiB  ({one.added:,} new, {one.changed:,} changed, {one.kept:,} unchanged, {one.removed:,} gone; "
        f"a look takes {look:.3f} ms)",
        flush=True,
    )
    database.close()
    _check(peak)


def rise(url: str, spool: Path) -> None:
    """Raise the book to another tag key (R4), in this process."""
    database = Database(url)
    started = time.perf_counter()
    (one,) = raise_books(database, AuditLog(database), NEXT, spool=spool)
    seconds, peak = time.perf_counter() - started, _peak()
    print(
        f"{one.customers:>10,} customers  {seconds:7.1f} s  {one.customers / seconds:9,.0f} rows/s  peak {peak:5.0f} MiB  "
        f"(raised to tag key {one.tag_key_version})",
        flush=True,
    )
    database.close()
    _check(peak)


def _check(peak: float) -> None:
    if peak > BOUND_MIB:
        raise SystemExit(f"more than the stated {BOUND_MIB} MiB")


def main() -> int:
    """Make the files and import them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--database", default="")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        (run if given.run.is_file() else rise)(given.database, given.run)
        return 0
    with tempfile.TemporaryDirectory(dir=given.directory) as place:
        path = Path(place) / "book.csv"
        url = given.database or f"sqlite:///{place}/server.sqlite"
        for changed in (False, True):
            write(path, given.customers, changed)
            subprocess.run([sys.executable, __file__, "--database", url, "--run", path], check=True)
        subprocess.run([sys.executable, __file__, "--database", url, "--run", place], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
