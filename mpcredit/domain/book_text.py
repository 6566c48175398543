"""How the text of a loan book is written: encoding, line ends, separator; and what may be said of a cell in an error.

A file and an import read by the same rules. What is not read is refused by its own name, because "nine columns are missing"
tells nobody that a spreadsheet wrote semicolons.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["SEPARATORS", "foreign_text", "separator_of", "shape"]

SEPARATORS: Final = (",", ";", "\t")
_MOST_SHOWN: Final = 24
_SEP_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)


def shape(text: str) -> str:
    """The form of a cell for an error: digits as #, letters as x, cut. Never its contents: a cell can be a customer's.

    >>> shape("NT$182500.50")
    "'xx$######.##'"
    """
    plain = "".join("#" if c.isdigit() else "x" if c.isalnum() else c if c.isprintable() else "?" for c in text)
    cut = plain if len(plain) <= _MOST_SHOWN else plain[: _MOST_SHOWN - 1] + "…"
    return f"'{cut}'"


def foreign_text(head: bytes) -> tuple[str, str] | None:
    """What a file that is not UTF-8 text seems to be.

    Args:
        head: its first bytes, or the line that is not UTF-8.

    Returns:
        The problem and the remedy; None for UTF-8.
    """
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return "is a workbook of a spreadsheet, not a CSV file", "save it as CSV UTF-8"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16 text", "save it as CSV UTF-8"
    if b"\0" in head:
        return "is not a text file", "save it as CSV UTF-8"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return None
        names = [name for name, codec in (("GBK", "gb18030"), ("Big5", "big5")) if _reads_as(head, codec)]
        guess = f"; it may be {' or '.join(names)}" if names else ""
        return f"is not UTF-8 text (byte {error.start}){guess}", "save it as CSV UTF-8"
    return None


def _reads_as(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError as error:
        return error.reason.startswith("incomplete")
    return True


def separator_of(line: str, names: Sequence[str]) -> str | None:
    """The separator of a header, or of a line `sep=;` as spreadsheets write it.

    Args:
        names: the columns that a header has.

    Returns:
        One of `SEPARATORS`; None if the line is neither.
    """
    told = _SEP_LINE.fullmatch(line)
    if told:
        return told[1] if told[1] in SEPARATORS else None
    found = max(SEPARATORS, key=line.count)
    cells = [cell.strip().strip('"') for cell in line.strip().split(found)]
    return found if found in line and set(cells) & set(names) else None
