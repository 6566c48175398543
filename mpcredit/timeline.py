"""The time line of an inquiry: what happened, whose move it is, since when, and what would help.

The same from every party's view of the ledger; `mpcredit explain` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpcredit.disclosure import ADVICE
from mpcredit.events import Position, Stage
from mpcredit.state import Inquiry

__all__ = ["Entry", "Timeline", "timeline"]


@dataclass(frozen=True)
class Entry:
    """One thing that happened."""

    timestamp: int
    """Unix seconds, of the block."""
    block: int
    who: str
    what: str


@dataclass(frozen=True)
class Timeline:
    """An inquiry told in order."""

    stage: Stage
    entries: tuple[Entry, ...]
    turn: str
    """Whose move it is; empty when it is over."""
    since: int
    """Unix seconds."""
    advice: str
    """What would help."""


def timeline(inquiry: Inquiry, *, now: int) -> Timeline:
    """Tell an inquiry.

    Args:
        now: timestamp of the ledger's head.
    """
    names = inquiry.names
    inquirer = names[inquiry.inquirer]
    entries: list[tuple[Position, str, str]] = []
    over = f"{len(inquiry.cohort)} institutions{inquiry.absence}"
    entries.append((inquiry.opened.at, inquirer, f"opened the inquiry over {over}"))
    for member, event in inquiry.contributions.items():
        if member != inquiry.inquirer:
            entries.append(
                (event.at, names[member], f"answered, {event.at.timestamp - inquiry.opened.at.timestamp} s later")
            )
    if inquiry.refusal:
        code = inquiry.refusal.code
        entries.append((inquiry.refusal.at, names[inquiry.refusal.member], f"refused with code {code}"))
    if inquiry.expired:
        silent = ", ".join(names[i] for i in inquiry.awaited)
        entries.append((inquiry.expired.at, "the ledger", f"ended it at its deadline; silent: {silent}"))
    if inquiry.report:
        entries.append((inquiry.report.at, inquirer, "opened the totals and reported them to the supervisor"))
    if inquiry.verdict:
        named = ", ".join(names[i] for i in inquiry.culprits) or "nobody"
        verdict = "valid" if inquiry.verdict.valid else f"void; named: {named}"
        entries.append((inquiry.verdict.at, "the supervisor", f"found it {verdict}"))
    entries.sort(key=lambda entry: (entry[0].block, entry[0].log_index))
    last = entries[-1][0].timestamp
    turn, advice = _turn(inquiry, now)
    return Timeline(
        stage=inquiry.stage,
        entries=tuple(Entry(at.timestamp, at.block, who, what) for at, who, what in entries),
        turn=turn,
        since=last,
        advice=advice,
    )


def _turn(inquiry: Inquiry, now: int) -> tuple[str, str]:
    names = inquiry.names
    inquirer = names[inquiry.inquirer]
    if inquiry.stage is Stage.OPEN:
        waiting = ", ".join(names[i] for i in inquiry.awaited)
        if now >= inquiry.opened.deadline:
            return (
                inquirer,
                f"the deadline has passed without {waiting}: {inquirer} may expire it, or they still answer",
            )
        left = inquiry.opened.deadline - now
        return waiting, f"they answer by themselves while their service runs (`mpcredit answer`); {left} s are left"
    if inquiry.stage is Stage.COMPLETE:
        return inquirer, f"{inquirer} reads the aggregate and reports (`mpcredit inquire --resume last`)"
    if inquiry.stage is Stage.REPORTED:
        return "the supervisor", "it verifies and attests by itself while its watcher runs (`mpcredit watch`)"
    if inquiry.stage is Stage.REFUSED and inquiry.refusal:
        return "", ADVICE.get(
            inquiry.refusal.code, "ask the institution what this code means; it may run a newer version"
        )
    if inquiry.stage is Stage.EXPIRED:
        silent = ", ".join(names[i] for i in inquiry.awaited)
        answered = len(inquiry.contributions) > 1
        told = "ask again then: those that answered do so again only over a cohort with it" if answered else "ask again"
        return "", f"{silent} must start its service, which switches itself on; {told}"
    if inquiry.stage is Stage.VOID:
        culprits = ", ".join(names[i] for i in inquiry.culprits)
        if not culprits:
            return "", "it names nobody: the supervisor can say why; then ask again"
        return "", f"{culprits} are suspended; ask again over the remaining institutions"
    return "", "nothing: it is complete and verified"
