"""A clock for the tests of the server."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """A clock that the test turns."""

    def __init__(self, now: int = 1_800_000_000) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now + 0.5
