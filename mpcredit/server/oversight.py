"""What the supervisor's pages show, computed from its own node: stages, checks, response times, silences, alarms.

Pure reading of a `SupervisorNode` that the caller has locked. Nothing here shows a figure; `figures` does, and its caller
has written into the audit log who looks and why.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from mpcredit.disclosure import RefusalCode
from mpcredit.encoding import to_hex
from mpcredit.errors import MpcreditError
from mpcredit.events import Stage
from mpcredit.institution import SupervisorNode, coverage_of
from mpcredit.server.tables import FIGURE, FLAG, INTEGER, TEXT, TIME, Table
from mpcredit.state import Inquiry
from mpcredit.supervisor import PERIOD_KEY_WAIT
from mpcredit.timeline import timeline

__all__ = [
    "Alarm",
    "alarms",
    "detail",
    "figure_table",
    "figures",
    "inquiry_table",
    "institution_table",
    "institutions",
    "overview",
    "period_keys",
    "supervisors",
    "verdicts_due",
]

DAY: Final = 86_400
REPEATED: Final = 3
"""So many inquiries on one subject within the window are an alarm."""
SLOW: Final = 2
"""An institution is slow whose median is more than so many times the median of the medians…"""
SLOW_SECONDS: Final = 10
"""…and more than so many seconds."""


@dataclass(frozen=True)
class Alarm:
    """Something a supervisor should look into."""

    kind: str
    """invalid, overdue, repeated, silent, one_sided, no_period_key."""
    text: str
    inquiry: str
    """Id, or empty."""
    at: int


def _checks(node: SupervisorNode, inquiry: Inquiry) -> tuple[int, int, bool | None]:
    """Contributions found right, found wrong, and the report: True right, False wrong, None not yet."""
    known = node.supervisor.verified.get(inquiry.id)
    if known is None:
        return 0, 0, None
    right = sum(member in known.records for member in inquiry.contributions)
    wrong = len({member for finding in known.findings for member in finding.culprits})
    report: bool | None = None
    if known.totals is not None:
        report = True
    elif inquiry.report is not None and inquiry.inquirer in known.culprits:
        report = False  # a report that rests on another's wrong contribution is judged by nobody
    return right, wrong, report


def overview(node: SupervisorNode) -> list[dict[str, Any]]:
    """Every inquiry, the newest first."""
    now = node.follower.next_time
    rows = []
    for inquiry in reversed(node.supervisor.state.inquiries.values()):
        line = timeline(inquiry, now=now)
        right, wrong, report = _checks(node, inquiry)
        rows.append(
            {
                "id": to_hex(inquiry.id),
                "opened_at": inquiry.opened.at.timestamp,
                "inquirer": inquiry.names[inquiry.inquirer],
                "stage": inquiry.stage.name.lower(),
                "answered": len(inquiry.contributions),
                "cohort": len(inquiry.cohort),
                "subjects": len(inquiry.opening.consents),
                "right": right,
                "wrong": wrong,
                "report": report,
                "turn": line.turn,
                "since": line.since,
                "ended": inquiry.stage is Stage.VALID or inquiry.stage.failed,
            }
        )
    return rows


def detail(node: SupervisorNode, inquiry: Inquiry) -> dict[str, Any]:
    """One inquiry: its time line and what was checked of it, without a figure."""
    known = node.supervisor.verified.get(inquiry.id)
    findings = known.findings if known else []
    culprits = {member for finding in findings for member in finding.culprits}
    contributions = []
    for member in inquiry.cohort:
        event = inquiry.contributions.get(member)
        if member in culprits:
            state = "wrong"
        elif known is not None and member in known.records:
            state = "right"
        else:
            state = "unchecked" if event is not None else "awaited"
        contributions.append(
            {
                "member": member,
                "name": inquiry.names[member],
                "inquirer": member == inquiry.inquirer,
                "at": event.at.timestamp if event else None,
                "seconds": event.at.timestamp - inquiry.opened.at.timestamp if event else None,
                "transaction": to_hex(event.at.transaction) if event else "",
                "state": state,
                "key": inquiry.keys[member].version,
            }
        )
    return {
        "id": to_hex(inquiry.id),
        "inquirer": inquiry.names[inquiry.inquirer],
        "coverage": coverage_of(inquiry),
        "stage": inquiry.stage.name.lower(),
        "opened_at": inquiry.opened.at.timestamp,
        "deadline": inquiry.opened.deadline,
        "subjects": len(inquiry.opening.consents),
        "currency": inquiry.opening.currency,
        "bits": len(inquiry.opening.n) * 8,
        "line": timeline(inquiry, now=node.follower.next_time),
        "contributions": contributions,
        "report": _checks(node, inquiry)[2],
        "reported_at": inquiry.report.at.timestamp if inquiry.report else None,
        "findings": [finding.text for finding in findings],
        "verdict": inquiry.verdict.valid if inquiry.verdict else None,
        "culprits": [inquiry.names[i] for i in inquiry.culprits],
        "purpose": _purpose(node, inquiry),
        "verdict_due": _verdict_due(node, inquiry),
        "verdict_ordered": node.supervisor.is_verdict_ordered(inquiry),
    }


def _verdict_due(node: SupervisorNode, inquiry: Inquiry) -> dict[str, Any] | None:
    """The verdict that the checks bear out and that is not on the ledger yet."""
    due = node.supervisor.verdict_of(inquiry)
    if due is None:
        return None
    valid, culprits = due
    return {"valid": valid, "culprits": list(culprits), "names": [inquiry.names[i] for i in culprits]}


def verdicts_due(node: SupervisorNode) -> list[str]:
    """Ids of the inquiries whose verdict waits for a person; none where the node gives them by itself."""
    supervisor = node.supervisor
    if supervisor.gives_verdicts:
        return []
    return [
        to_hex(inquiry.id)
        for inquiry in supervisor.state.inquiries.values()
        if supervisor.verdict_of(inquiry) is not None and not supervisor.is_verdict_ordered(inquiry)
    ]


def _purpose(node: SupervisorNode, inquiry: Inquiry) -> str:
    try:
        return node.supervisor.subjects(inquiry).purpose.value
    except MpcreditError:
        return ""


def figures(node: SupervisorNode, inquiry: Inquiry) -> list[dict[str, Any]]:
    """The lowest level: each subject's record at each institution, and the sums; only behind a stated reason."""
    known = node.supervisor.verified.get(inquiry.id)
    if known is None:
        return []
    try:
        tags = [to_hex(tag) for tag in node.supervisor.tags(inquiry)]
    except MpcreditError:
        tags = []
    found = []
    for place in range(len(inquiry.opening.consents)):
        records = {
            inquiry.names[m]: records[place] for m, records in sorted(known.records.items()) if place < len(records)
        }
        sums: dict[str, int] = {}
        for record in records.values():
            for name, value in record.items():
                sums[name] = sums.get(name, 0) + value
        found.append(
            {
                "tag": tags[place] if place < len(tags) else "",
                "records": records,
                "sums": sums,
                "reported": known.totals[place] if known.totals and place < len(known.totals) else None,
            }
        )
    return found


def institutions(node: SupervisorNode) -> list[dict[str, Any]]:
    """Each institution: how fast it answers, what it refuses, when it was silent, what it asks, which accounts it has."""
    state, now = node.supervisor.state, node.follower.next_time
    ready, ready_next = state.ready(now) & state.serving(), state.ready_next() & state.serving()
    rows: list[dict[str, Any]] = []
    for index in state.active():
        member = state.members[index]
        times: list[int] = []
        refused: dict[str, int] = {}
        silent = asked = overdue = answered = 0
        for inquiry in state.inquiries.values():
            if inquiry.inquirer == index:
                asked += 1
                overdue += _overdue(inquiry, now)
                continue
            event = inquiry.contributions.get(index)
            if event is not None:
                answered += 1
                times.append(event.at.timestamp - inquiry.opened.at.timestamp)
            if inquiry.refusal is not None and inquiry.refusal.member == index:
                name = _code(inquiry.refusal.code)
                refused[name] = refused.get(name, 0) + 1
            elif event is None and _silent(inquiry, index, now):
                silent += 1
        rows.append(
            {
                "index": index,
                "name": member.name,
                "asked": asked,
                "answered": answered,
                "median": round(statistics.median(times)) if times else None,
                "slowest": max(times) if times else None,
                "refused": refused,
                "silent": silent,
                "overdue": overdue,
                "ready": bool(ready >> index & 1),
                "ready_next": bool(ready_next >> index & 1),
                "suspended": member.suspended,
                "key": member.key.version if member.keys else 0,
                "audited": state.in_force is not None and member.key_under(state.in_force) == member.key,
                "owner": member.owner,
                "account": member.account,
            }
        )
    medians = [row["median"] for row in rows if row["median"] is not None]
    usual = statistics.median(medians) if medians else 0
    for row in rows:
        row["slow"] = row["median"] is not None and row["median"] > max(SLOW * usual, SLOW_SECONDS)
    return rows


def supervisors(node: SupervisorNode) -> list[dict[str, Any]]:
    """Each supervisor with its accounts."""
    found = node.supervisor.state.supervisors.values()
    own = node.outbox.signer.address
    return [{"owner": one.owner, "account": one.account, "own": one.account == own} for one in found]


def period_keys(node: SupervisorNode) -> list[dict[str, Any]]:
    """Each key that a supervisor announced, the newest first, and which members are not audited for an announced one."""
    state = node.supervisor.state
    rows = []
    for version, key in sorted(state.period_keys.items(), reverse=True):
        missing = [
            state.members[i].name
            for i in state.active()
            if not state.members[i].suspended and version not in state.members[i].audited
        ]
        rows.append(
            {
                "version": version,
                "public": to_hex(key.public),
                "supervisor": key.supervisor,
                "announced_at": key.announced_at,
                "state": _period_state(node, version),
                "missing": missing if version == state.announced_key else [],
                "at_the_latest": key.announced_at + PERIOD_KEY_WAIT if version == state.announced_key else None,
            }
        )
    return rows


def _period_state(node: SupervisorNode, version: int) -> str:
    """announced, in_force, ended, or over: another one has taken its place."""
    state = node.supervisor.state
    if version == state.in_force:
        return "in_force"
    if version == state.announced_key:
        return "announced"
    return "ended" if version in state.ended_keys else "over"


def _code(code: int) -> str:
    return RefusalCode(code).name if code in list(RefusalCode) else str(code)


def _overdue(inquiry: Inquiry, now: int) -> bool:
    completed = inquiry.completed_at
    return (
        inquiry.stage is Stage.COMPLETE
        and completed is not None
        and completed.timestamp + inquiry.parameters.report_seconds < now
    )


def _silent(inquiry: Inquiry, member: int, now: int) -> bool:
    if member not in inquiry.awaited:
        return False
    return inquiry.expired is not None or (inquiry.stage is Stage.OPEN and inquiry.opened.deadline < now)


def alarms(node: SupervisorNode) -> list[Alarm]:
    """What needs a look, the newest first."""
    return sorted(_alarms(node), key=lambda alarm: -alarm.at)


def _alarms(node: SupervisorNode) -> Iterator[Alarm]:
    state, now = node.supervisor.state, node.follower.next_time
    if state.in_force is None and state.active():
        text = "no period key is in force: no inquiry can be opened, and none answered under a key that was ended"
        yield Alarm("no_period_key", text, "", node.follower.now)
    for finding in node.supervisor.findings:
        inquiry = state.inquiries.get(finding.inquiry) if finding.inquiry else None
        at = inquiry.opened.at.timestamp if inquiry else node.follower.now
        yield Alarm("invalid", finding.text, to_hex(finding.inquiry) if finding.inquiry else "", at)
    subjects: dict[bytes, list[Inquiry]] = {}
    for inquiry in state.inquiries.values():
        key, opened = to_hex(inquiry.id), inquiry.opened.at.timestamp
        if _overdue(inquiry, now):
            yield Alarm(
                "overdue", f"{inquiry.names[inquiry.inquirer]} has not reported its totals in time", key, opened
            )
        silent = [inquiry.names[i] for i in inquiry.cohort if _silent(inquiry, i, now)]
        if silent:
            yield Alarm("silent", f"no answer from {', '.join(silent)} before the deadline", key, opened)
        if opened + inquiry.parameters.window_seconds > now:
            try:
                tags = node.supervisor.tags(inquiry)
            except MpcreditError:
                continue
            for tag in tags:
                subjects.setdefault(tag, []).append(inquiry)
    for theirs in subjects.values():
        if len(theirs) >= REPEATED:
            names = ", ".join(sorted({i.names[i.inquirer] for i in theirs}))
            text = f"{len(theirs)} inquiries on one subject within the window, by {names}"
            yield Alarm("repeated", text, to_hex(theirs[-1].id), theirs[-1].opened.at.timestamp)
    for row in institutions(node):
        missed = row["silent"] + sum(row["refused"].values())
        if row["asked"] and missed > row["answered"] and missed >= REPEATED:
            text = (
                f"{row['name']} inquires, but answered only {row['answered']} of {row['answered'] + missed} inquiries"
            )
            yield Alarm("one_sided", text, "", node.follower.now)


# --------------------------------------------------------------------- for other programs


def inquiry_table(node: SupervisorNode) -> Table:
    """The list of inquiries: no subject, no figure."""
    columns = {
        "id": TEXT,
        "opened_at": TIME,
        "inquirer": TEXT,
        "stage": TEXT,
        "answered": INTEGER,
        "cohort": INTEGER,
        "subjects": INTEGER,
        "right": INTEGER,
        "wrong": INTEGER,
        "report": FLAG,
        "turn": TEXT,
        "since": TIME,
        "ended": FLAG,
    }
    return Table("inquiries", columns, overview(node))


def institution_table(node: SupervisorNode) -> Table:
    """Response times in seconds, refusals and silences."""
    columns = {
        "index": INTEGER,
        "name": TEXT,
        "asked": INTEGER,
        "answered": INTEGER,
        "median": INTEGER,
        "slowest": INTEGER,
        "refused": TEXT,
        "silent": INTEGER,
        "overdue": INTEGER,
        "ready": FLAG,
        "ready_next": FLAG,
        "suspended": FLAG,
        "key": INTEGER,
        "audited": FLAG,
        "owner": TEXT,
        "account": TEXT,
    }
    rows = institutions(node)
    for row in rows:
        row["refused"] = " ".join(f"{name}:{count}" for name, count in sorted(row["refused"].items()))
    return Table("institutions", columns, rows)


def figure_table(node: SupervisorNode, inquiry: Inquiry) -> Table:
    """The lowest level: one row for each subject and institution, for their sum, and for what was reported; minor units."""
    fields = {field.name: FIGURE for field in inquiry.schema.fields}
    columns = {
        "inquiry": TEXT,
        "opened_at": TIME,
        "subject": INTEGER,
        "tag": TEXT,
        "row": TEXT,
        "member": INTEGER,
        "institution": TEXT,
        "answered_at": TIME,
        "currency": TEXT,
        **fields,
    }
    names = {inquiry.names[i]: i for i in inquiry.cohort}
    rows: list[dict[str, Any]] = []
    for place, subject in enumerate(figures(node, inquiry), start=1):
        common = {
            "inquiry": to_hex(inquiry.id),
            "opened_at": inquiry.opened.at.timestamp,
            "subject": place,
            "tag": subject["tag"],
            "currency": inquiry.opening.currency,
        }
        for name, record in subject["records"].items():
            answered = inquiry.contributions[names[name]].at.timestamp
            where = {"row": "institution", "member": names[name], "institution": name, "answered_at": answered}
            rows.append({**common, **where, **record})
        for kind, record in (("sum", subject["sums"]), ("reported", subject["reported"])):
            if record:
                where = {"row": kind, "member": None, "institution": None, "answered_at": None}
                rows.append({**common, **where, **record})
    return Table(f"figures-{to_hex(inquiry.id)[2:14]}", columns, rows)
