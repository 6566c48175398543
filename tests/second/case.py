"""One case of the vectors file."""

from __future__ import annotations

from typing import Any

Case = dict[str, Any]


def case(item: str, rule: str, name: str, output: object, /, **inputs: object) -> Case:
    """One case: what the item is, the rule that says it, the inputs and the output."""
    return {"item": item, "rule": rule, "name": name, "input": _plain(inputs), "output": _plain(output)}


def big(value: int) -> str:
    """A number that may be larger than 2^53."""
    return hex(value)


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
