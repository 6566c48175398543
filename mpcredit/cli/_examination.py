"""What `mpcredit doctor` has looked at so far, one check after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpcredit.errors import MpcreditError

OK, LOOK, WRONG, SKIPPED = "ok", "look", "WRONG", "skipped"
STYLES = {OK: "green", LOOK: "yellow", WRONG: "bold red", SKIPPED: "dim"}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    state: str
    detail: str
    remedy: str = ""


class Examination:
    """Runs checks one after the other; one that cannot be made does not keep the others from being made."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def add(self, name: str, state: str, detail: str, remedy: str = "") -> None:
        self.checks.append(Check(name, state, detail, remedy))

    def run(self, name: str, look: Callable[[], Any]) -> Any:
        """Make a check that adds its own findings; an error of ours becomes one."""
        try:
            return look()
        except MpcreditError as error:
            self.add(name, WRONG, error.message, error.remedy)
            return None
