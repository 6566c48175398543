"""What the server's use cases say no with; the edges make a page or an answer with a status of it."""

from __future__ import annotations

from collections.abc import Mapping

from mpcredit.errors import MpcreditError

__all__ = ["InvalidForm", "NotAllowed", "NotFound", "TooMuch"]


class InvalidForm(MpcreditError):
    """Fields that a person or a system must correct.

    Args:
        problems: by field, one sentence each.
    """

    exit_code = 2

    def __init__(self, problems: Mapping[str, str], *, place: str = "") -> None:
        text = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        super().__init__(f"{place}: {text}" if place else text, remedy="correct it and send it again")
        self.problems = dict(problems)
        self.place = place


class NotAllowed(MpcreditError):
    """The rules of the house do not let this person do this now."""

    exit_code = 5


class NotFound(MpcreditError):
    """There is nothing of that name here."""


class TooMuch(NotAllowed):
    """A limit is reached that time alone opens again.

    Args:
        seconds: after how many it is worth trying again.
    """

    def __init__(self, message: str, *, remedy: str, seconds: int) -> None:
        super().__init__(message, remedy=remedy)
        self.seconds = seconds
