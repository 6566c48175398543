"""Write tests/vectors/protocol2.json anew (from tests/: `python -m second.make_vectors`). It is the same file each time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from . import cases_of_inquiries, cases_of_keys, cases_of_messages
from .case import Case
from .story import VECTORS

FILE = VECTORS / "protocol2.json"
ORIGIN = (
    "Written by tests/second, a second implementation of docs/spec.md that does not use the package. Bytes are hexadecimal, "
    "numbers that may be larger than 2^53 are strings with 0x. A modulus is named as in paillier_test_keys.json. A string that "
    "begins with @ is the name of an entry of `shared`. All keys are public."
)
LONG = 200


def document() -> dict[str, Any]:
    """The whole file."""
    cases = [*cases_of_keys.cases(), *cases_of_inquiries.cases(), *cases_of_messages.cases()]
    return {"version": 1, "origin": ORIGIN, "shared": _share(cases), "cases": cases}


def _share(cases: list[Case]) -> dict[str, str]:
    """Put long strings that occur more than once into a table, and their names into the cases."""
    seen = Counter(part for each in cases for part in _strings(each) if len(part) >= LONG)
    names = {content: f"@{place}" for place, content in enumerate(text for text, times in seen.items() if times > 1)}
    cases[:] = [_replaced(each, names) for each in cases]
    return {name: content for content, name in names.items()}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _replaced(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def text() -> str:
    """The file as it is written: one case a line."""
    content = document()
    lines = ",\n".join("    " + json.dumps(case, ensure_ascii=False) for case in content.pop("cases"))
    head = json.dumps(content, indent=2, ensure_ascii=False).removesuffix("\n}")
    return f'{head},\n  "cases": [\n{lines}\n  ]\n}}\n'


def main() -> None:
    """Write the file."""
    FILE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
