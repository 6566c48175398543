#!/usr/bin/env python3
"""How long a second inquiry on a customer waits, by the number of institutions and how often they are down.

    python benchmarks/window.py

Two members ask about one customer, the second between 1 and 72 hours later. Each institution is up with a given probability,
and an outage lasts for a given mean time. Two rules are compared: version 1 wanted the identical set of ready members; version
2 repeats the first cohort as soon as all its members are up (R14.1, R27). The choice of W: longer protects figures for longer,
and a customer waits at most for W; where institutions are up as here, hardly anybody waits so long.
"""

from __future__ import annotations

import argparse
import math
import random
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

STEP = 0.1
"""Hours."""


@dataclass(frozen=True)
class World:
    """Institutions that fail and come back, each by itself."""

    institutions: int
    up: float
    """Probability that one is up."""
    outage: float
    """Mean hours of an outage."""

    @property
    def rates(self) -> tuple[float, float]:
        """Failures and repairs an hour."""
        repair = 1 / self.outage
        return (1 - self.up) / self.up * repair, repair

    def later(self, state: list[bool], hours: float, source: random.Random) -> list[bool]:
        """The state some hours later: the exact transition of two states."""
        decay = math.exp(-sum(self.rates) * hours)
        return [source.random() < (self.up + (1 - self.up) * decay if one else self.up * (1 - decay)) for one in state]


def waits(world: World, window: float, source: random.Random) -> tuple[float | None, float | None]:
    """Hours that one second inquiry waits, by the rule of version 1 and by that of version 2; None: not within W."""
    n = world.institutions
    first, second = source.sample(range(n), 2)
    cohort = [source.random() < world.up for _ in range(n)]
    cohort[first] = True
    asked = now = source.uniform(1, 72)
    state, identical, repeated = world.later(cohort, now, source), None, None
    while now < window and (identical is None or repeated is None):
        state[second] = True
        if identical is None and state == cohort:
            identical = now - asked
        if repeated is None and all(up or not was for up, was in zip(state, cohort, strict=True)):
            repeated = now - asked
        state, now = world.later(state, STEP, source), now + STEP
    return identical, repeated


def told(found: list[float | None]) -> tuple[str, str, str]:
    """Answered at once, never within W, and the time in which nine of ten are answered."""
    answered = sorted(wait for wait in found if wait is not None)
    late = f"{answered[int(len(answered) * 0.9)]:.1f} h" if answered else "-"
    return (
        f"{sum(wait == 0 for wait in found) / len(found):.0%}",
        f"{sum(wait is None for wait in found) / len(found):.0%}",
        late,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--window-days", type=float, default=7.0)
    given = parser.parse_args()
    table = Table(title=f"second inquiries within W = {given.window_days:g} days")
    for head in ("institutions", "up", "outage", "rule", "at once", "never", "9 of 10 within"):
        table.add_column(head, justify="right")
    for institutions in (5, 20, 50, 200):
        for up, outage in ((0.999, 0.5), (0.995, 1.0)):
            world, source = World(institutions, up, outage), random.Random(f"{institutions}/{up}")
            both = [waits(world, 24 * given.window_days, source) for _ in range(given.trials)]
            for rule, place in (("version 1", 0), ("version 2", 1)):
                cells = told([pair[place] for pair in both])
                table.add_row(str(institutions), f"{up:.1%}", f"{outage:g} h", rule, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
