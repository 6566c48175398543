"""Limits against misuse: who asks about too many customers, at odd hours, without deciding, or about settled ones, is stopped.

`judge` is the rule, pure: looks at customers in, findings out. `Misuse` applies it in the transaction of each application,
so that what reaches a limit is not sent, and after the rounds of the worker, for what only time brings about.

An officer who reaches a limit is suspended in that transaction: account out, sessions ended, audit entry, row and webhook
event, all or nothing. His requests that no ledger step was made for are held, and go on when a reviewer lifts the
suspension; what is on the ledger goes on by itself. A system is only kept from posting: for rates until the hour or day is
over, for the other limits until a reviewer lifts it. What a finding counted never counts again for its rule.

A settled customer is one who gives no reason to ask, and it is one who is asked about with nothing new. An application counts

    same_consent   where it rests on a consent document on which a decided application of this customer rested already;
    nothing_owed   where it asks for no amount, and he owes this institution nothing, by its own loan book;
    ended          where it asks for no amount, and an application of his was decided less than `ended_days` ago.

Whether it does is judged as it is entered and kept with it. Applications are compared by tag, under the newest tag key.
"""

from __future__ import annotations

import json
import time
import zoneinfo
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Index,
    String,
    Table,
    Text,
    func,
    select,
    text,
    union,
)

from mpcredit.encoding import to_hex
from mpcredit.errors import Refused
from mpcredit.inquirer import Request
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.server.audit import AuditLog
from mpcredit.server.casefile import Step, applications_table
from mpcredit.server.consents import consents_table
from mpcredit.server.database import Database, Number, metadata
from mpcredit.server.drafts import Draft
from mpcredit.server.node import Node
from mpcredit.server.people import People, PeopleError, User
from mpcredit.server.refusals import NotAllowed, NotFound, TooMuch
from mpcredit.server.settings import MisuseSettings
from mpcredit.server.tagtables import raise_tags
from mpcredit.server.webhook import Webhook

__all__ = ["Finding", "Look", "Misuse", "Rule", "Suspension", "judge", "suspension_table"]

HOUR: Final = 3_600
DAY: Final = 86_400
LOOK_SECONDS: Final = 20
"""The worker judges at most so often; what is entered is judged at once."""
REPEATED: Final = 3
"""Applications on one customer within 30 days that are an alarm."""
ALARMS: Final = 200
"""The newest are shown."""
SOON: Final = (3, 4)
"""From this part of a limit on there is an alarm."""
HELD: Final = "held back: who asked is suspended; it goes on by itself when a reviewer lifts that"

suspension_table = Table(
    "suspension",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("actor", String(200), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("findings", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("ended_by", String(200), nullable=True),
    Column("ended_at", BigInteger, nullable=True),
    Column("why", Text, nullable=False),
    CheckConstraint("kind IN ('suspended', 'held_back')", name="kind"),
    CheckConstraint("state IN ('open', 'lifted', 'over')", name="state"),
    sqlite_autoincrement=True,
)
Index(
    "ix_suspension_open",
    suspension_table.c.actor,
    suspension_table.c.kind,
    unique=True,
    sqlite_where=text("state = 'open'"),
    postgresql_where=text("state = 'open'"),
)


class Rule(StrEnum):
    """What is counted, of one officer or one system."""

    PER_HOUR = "per_hour"
    PER_DAY = "per_day"
    UNDECIDED = "undecided"
    OUT_OF_HOURS = "out_of_hours"
    SETTLED = "settled"

    @property
    def rate(self) -> bool:
        """Whether time alone ends it."""
        return self in (Rule.PER_HOUR, Rule.PER_DAY)


# --------------------------------------------------------------------- the rule


@dataclass(frozen=True)
class Look:
    """An application, as far as the limits see it."""

    application: str
    number: int
    actor: str
    """user:NAME or token:ID."""
    at: int
    """When it was entered, unix seconds."""
    undecided_since: int | None = None
    """Since when its totals are attested and wait for a decision."""
    settled: str = ""
    """Why the customer is a settled one; empty: he is not."""


@dataclass(frozen=True)
class Finding:
    """A limit that somebody reached."""

    rule: Rule
    actor: str
    count: int
    limit: int
    first: int
    """When the first of those that were counted was entered, unix seconds."""
    applications: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    """Of these, for people."""

    @property
    def text(self) -> str:
        """For the audit log."""
        return f"{self.count} {_TOLD[self.rule]}; the limit is {self.limit}"

    def document(self) -> dict[str, Any]:
        """For a JSON document."""
        return {
            **vars(self),
            "rule": self.rule.value,
            "applications": list(self.applications),
            "numbers": list(self.numbers),
        }


_TOLD: Final[Mapping[Rule, str]] = {
    Rule.PER_HOUR: "applications within an hour",
    Rule.PER_DAY: "applications within 24 hours",
    Rule.UNDECIDED: "applications with totals and without a decision in time",
    Rule.OUT_OF_HOURS: "applications in a row outside of the working hours",
    Rule.SETTLED: "inquiries on settled customers",
}


@dataclass(frozen=True)
class Past:
    """What was dealt with before."""

    counted: Mapping[tuple[str, Rule], frozenset[str]] = field(default_factory=dict)
    """By actor and rule, applications of earlier findings: they do not count again."""
    lifted: Mapping[str, int] = field(default_factory=dict)
    """By actor, when his last suspension was lifted: he could decide nothing before."""


def limit_of(rule: Rule, actor: str, limits: MisuseSettings) -> int:
    """The number at which a rule holds for somebody; 0: never."""
    person = actor.startswith("user:")
    return {
        Rule.PER_HOUR: limits.per_hour if person else limits.system_per_hour,
        Rule.PER_DAY: limits.per_day if person else limits.system_per_day,
        Rule.UNDECIDED: limits.undecided if person else limits.system_undecided,
        Rule.OUT_OF_HOURS: limits.out_of_hours if person else 0,
        Rule.SETTLED: limits.settled,
    }[rule]


def closed(at: int, limits: MisuseSettings) -> bool:
    """Whether a time, in unix seconds, is outside of the working hours."""
    zone = zoneinfo.ZoneInfo(limits.time_zone) if limits.time_zone else None
    local = datetime.fromtimestamp(at, UTC).astimezone(zone)
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[local.weekday()]
    return day in limits.closed_days or not limits.opens <= local.strftime("%H:%M") < limits.closes


def counted(rule: Rule, looks: Iterable[Look], limits: MisuseSettings, *, now: int, past: Past) -> list[Look]:
    """Those of one actor's looks that a rule counts now."""

    def counts(look: Look) -> bool:
        if look.application in past.counted.get((look.actor, rule), frozenset()):
            return False
        match rule:
            case Rule.PER_HOUR:
                return look.at > now - HOUR
            case Rule.PER_DAY:
                return look.at > now - DAY
            case Rule.UNDECIDED:
                since = look.undecided_since
                return since is not None and max(since, past.lifted.get(look.actor, 0)) <= now - (
                    limits.undecided_hours * HOUR
                )
            case Rule.OUT_OF_HOURS:
                return look.at > now - 60 * limits.out_of_hours_minutes and closed(look.at, limits)
            case Rule.SETTLED:
                return bool(look.settled) and look.at > now - limits.settled_days * DAY

    return [look for look in looks if counts(look)]


def judge(looks: Iterable[Look], limits: MisuseSettings, *, now: int, past: Past | None = None) -> list[Finding]:
    """Find who reached which limit.

    Args:
        looks: of any number of actors.
        now: unix seconds.
        past: what counts no more.
    """
    found = []
    for actor, theirs in _by_actor(looks).items():
        for rule in Rule:
            limit = limit_of(rule, actor, limits)
            those = counted(rule, theirs, limits, now=now, past=past or Past()) if limit else []
            if limit and len(those) >= limit:
                first, numbers = min(look.at for look in those), tuple(look.number for look in those)
                which = tuple(look.application for look in those)
                found.append(Finding(rule, actor, len(those), limit, first, which, numbers))
    return found


def _by_actor(looks: Iterable[Look]) -> dict[str, list[Look]]:
    found: dict[str, list[Look]] = defaultdict(list)
    for look in looks:
        found[look.actor].append(look)
    return found


# --------------------------------------------------------------------- what is done


@dataclass(frozen=True)
class Suspension:
    """Somebody who was stopped."""

    id: int
    actor: str
    kind: str
    """suspended: until a reviewer lifts it; held_back: until time does."""
    at: int
    """Unix seconds."""
    findings: tuple[dict[str, Any], ...]
    """`Finding` as JSON."""
    state: str
    """open, lifted or over."""
    ended_by: str | None
    ended_at: int | None
    why: str
    """Why it was lifted."""

    def document(self) -> dict[str, Any]:
        """What a webhook tells."""
        return {**vars(self), "findings": list(self.findings)}


def _suspension(row: Any) -> Suspension:
    return Suspension(
        id=int(row.id),
        actor=str(row.actor),
        kind=str(row.kind),
        at=int(row.at),
        findings=tuple(json.loads(row.findings)),
        state=str(row.state),
        ended_by=row.ended_by,
        ended_at=row.ended_at,
        why=str(row.why),
    )


class Misuse:
    """Keeps the limits.

    Args:
        database, node, audit, people: the server's.
        limits: as set.
        clock: unix seconds.
        webhook: told of each suspension and its end, if there is one.
    """

    def __init__(
        self,
        database: Database,
        node: Node,
        audit: AuditLog,
        people: People,
        limits: MisuseSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        webhook: Webhook | None = None,
    ) -> None:
        self.database = database
        self.node = node
        self.audit = audit
        self.people = people
        self.limits = limits or MisuseSettings()
        self.clock = clock
        self.webhook = webhook
        self._last = 0
        self._raised = 0

    def attach(self) -> None:
        """Have the party's inquirer hold back what suspended people asked for."""
        if isinstance(self.node.party, Institution):
            self.node.party.inquirer.hold = self.why_held

    def why_held(self, request: Request) -> str:
        """Why a request must not be opened now; empty: it may."""
        return HELD if self._open_of(str(request.value.get("officer", "")), "suspended") else ""

    # ----------------------------------------------------------------- entering

    def check(self, actor: str, more: int) -> None:
        """Check that somebody may enter so many applications now.

        Raises:
            NotAllowed: he is suspended.
            TooMuch: they are more than a rate allows.
        """
        if self._open_of(actor, "suspended"):
            raise NotAllowed("you are suspended by a limit against misuse", remedy="a reviewer must look at it first")
        now, looks, past = self._now(), self._looks(actor), self._past(actor)
        for rule, span, words in ((Rule.PER_HOUR, HOUR, "an hour"), (Rule.PER_DAY, DAY, "24 hours")):
            limit = limit_of(rule, actor, self.limits)
            those = counted(rule, looks, self.limits, now=now, past=past)
            if limit and len(those) + more > limit:
                # So many of the oldest must be over that there is room; a batch above the limit never fits.
                over = sorted(look.at for look in those)[: len(those) + more - limit]
                seconds = max(1, over[-1] + span - now) if over else span
                raise TooMuch(
                    f"you have asked about {len(those)} customers in {words}; at most {limit} are allowed",
                    remedy="wait, or ask a reviewer, who sees an alarm",
                    seconds=seconds,
                )

    def settled(self, connection: Connection, draft: Draft, tag: bytes, party: Institution) -> str:
        """Why the customer of an application that is entered now is a settled one; empty: he is not."""
        # (1) decided applications of his, with the consent documents that they rested on.
        if party.tagger.version != self._raised:  # not noted as done: an error takes the whole transaction back
            raise_tags(self.database, applications_table, party.tagger)
        query = (
            select(applications_table.c.value, consents_table.c.receipt)
            .join_from(applications_table, consents_table, consents_table.c.hash == applications_table.c.consent)
            .where(applications_table.c.tag == to_hex(tag), applications_table.c.step == Step.DECIDED.value)
        )
        earlier = connection.execute(query).all()
        if any(json.loads(row.receipt)["evidence"] == to_hex(draft.evidence) for row in earlier):
            return "same_consent"
        if draft.requested.minor:
            return ""  # an amount is asked for, on a consent of its own: there is a reason
        # (2) nothing asked for: what is there to review?
        if not self._owes(party, tag):
            return "nothing_owed"
        since = self._now() - self.limits.ended_days * DAY
        decisions = [json.loads(row.value).get("decision") or {} for row in earlier]
        return "ended" if any(int(d.get("confirmed_at") or d.get("at") or 0) > since for d in decisions) else ""

    @staticmethod
    def _owes(party: Institution, tag: bytes) -> bool:
        schema = party.desk.state.schemas.get(1)
        try:
            return schema is None or any(party.furnisher.book.record(schema, tag).values())
        except Refused:  # there is no book to look into: nobody is held guilty for that
            return True

    def held_back(self, actor: str) -> Suspension | None:
        """Note that a system was refused by a rate, once until that is over; in a transaction of its own."""
        if not actor.startswith("token:"):
            return None
        with self.database.transaction() as connection:
            if self._open_of(actor, "held_back"):
                return None
            now, looks, past = self._now(), self._looks(actor), self._past(actor)
            findings = []
            for rule in (Rule.PER_HOUR, Rule.PER_DAY):
                those, limit = counted(rule, looks, self.limits, now=now, past=past), limit_of(rule, actor, self.limits)
                if limit:
                    findings.append(
                        Finding(rule, actor, len(those), limit, min((x.at for x in those), default=now), ())
                    )
            nearest = max(findings, key=lambda finding: finding.count / finding.limit)
            facts = {"findings": [nearest.document()]}
            self.audit.append("node", "token.held_back", f"token/{actor[6:]}", nearest.text, **facts)
            return self._insert(connection, actor, "held_back", [nearest])

    # ----------------------------------------------------------------- judging

    def apply(self, actor: str | None = None) -> list[Suspension]:
        """Suspend who has reached a limit, each in one transaction with its audit entry.

        Args:
            actor: look at him only.

        Returns:
            Those who were suspended now; tell the pages of them when the transaction is over (`tell`).
        """
        findings = judge(self._looks(actor), self.limits, now=self._now(), past=self._past(actor))
        done = []
        for who in dict.fromkeys(finding.actor for finding in findings):
            theirs = [f for f in findings if f.actor == who and not (f.rule.rate and who.startswith("token:"))]
            if theirs and (made := self._suspend(who, theirs)) is not None:
                done.append(made)
        return done

    def _suspend(self, actor: str, findings: Sequence[Finding]) -> Suspension | None:
        kind, _, name = actor.partition(":")
        why = "; ".join(finding.text for finding in findings)
        facts = {"findings": [finding.document() for finding in findings]}
        with self.database.transaction() as connection:
            if self._open_of(actor, "suspended"):
                return None
            # (1) the account, with its sessions and the entry; who is out already does nothing that could be misuse.
            if kind == "user" and self.people.get(name) is not None:
                if not self.people.suspend(name, why=why, **facts):
                    return None
            else:
                self.audit.append("node", f"{kind}.suspended", f"{kind}/{name}", why, **facts)
            # (2) the row that a reviewer lifts, and that holds back what was asked for.
            return self._insert(connection, actor, "suspended", findings)

    def _insert(self, connection: Connection, actor: str, kind: str, findings: Sequence[Finding]) -> Suspension:
        statement = suspension_table.insert().values(
            actor=actor,
            kind=kind,
            at=self._now(),
            findings=json.dumps([finding.document() for finding in findings]),
            state="open",
            why="",
        )
        made = self._get(connection, int(connection.scalar(statement.returning(suspension_table.c.id)) or 0))
        self._tell_system(f"misuse.{kind}", made)
        return made

    def _tell_system(self, event: str, suspension: Suspension) -> None:
        if self.webhook is not None:
            self.webhook.queue(event, suspension.document(), what="suspension")

    def tell(self, suspensions: Iterable[Suspension]) -> list[str]:
        """Tell the pages, after the transaction; returns a line each."""
        lines = []
        for suspension in suspensions:
            self.node.publish("people", str(suspension.id), suspension=suspension.state)
            how = suspension.kind.replace("_", " ")
            lines.append(f"{suspension.actor} is {how}: limit {suspension.findings[0]['rule']} against misuse")
        return lines

    def round(self, party: Institution | SupervisorNode) -> list[str]:
        """Judge what time brought about; called after each round of the worker (`Node.each_round`)."""
        if isinstance(party, Institution) and party.tagger.version != self._raised:
            raise_tags(self.database, applications_table, party.tagger)
            self._raised = party.tagger.version
        now = self._now()
        if self._last <= now < self._last + LOOK_SECONDS:
            return []
        lines = self.tell(self.apply())
        lines += self._end_rates()
        self._last = now
        return lines

    def _end_rates(self) -> list[str]:
        lines = []
        for one in [one for one in self.open() if one.kind == "held_back"]:
            looks, past = self._looks(one.actor), self._past(one.actor)
            rule = Rule(one.findings[0]["rule"])
            limit = limit_of(rule, one.actor, self.limits)
            if limit and len(counted(rule, looks, self.limits, now=self._now(), past=past)) >= limit:
                continue
            with self.database.transaction() as connection:
                self.audit.append(
                    "node", "token.resumed", f"token/{one.actor[6:]}", "the rate is below its limit again"
                )
                self._end(connection, one, "over", "node", "")
            self.node.publish("people", str(one.id), suspension="over")
            lines.append(f"{one.actor} may post again")
        return lines

    # ----------------------------------------------------------------- lifting

    def lift(self, suspension_id: int, *, by: User | None, why: str) -> Suspension:
        """Let somebody go on. What was counted does not count again; what was held goes on by itself.

        Args:
            by: a reviewer, never who is suspended; None is the console.

        Raises:
            PeopleError: no reason is given, it is lifted already, or time lifts it.
            Forbidden: `by` is no reviewer, or it is about himself.
        """
        with self.database.transaction() as connection:
            found = self._get(connection, suspension_id)
            self.people.check_lift(found.actor, by=by, why=why)
            if found.state != "open":
                raise PeopleError("that is lifted already", remedy="look at the list again")
            if found.kind == "held_back":
                raise PeopleError("time lifts a rate", remedy="wait, or have the limit raised in the configuration")
            kind, _, name = found.actor.partition(":")
            facts = {"suspension": found.id}
            if kind == "user" and self.people.get(name) is not None:
                self.people.resume(name, by=by, why=why, **facts)
            else:
                actor = "console" if by is None else by.actor
                self.audit.append(actor, f"{kind}.resumed", f"{kind}/{name}", why.strip(), **facts)
            made = self._end(connection, found, "lifted", "console" if by is None else by.actor, why.strip())
        self.node.publish("people", str(suspension_id), suspension="lifted")
        self.node.wake()
        return made

    def _end(self, connection: Connection, one: Suspension, state: str, by: str, why: str) -> Suspension:
        connection.execute(
            suspension_table.update()
            .where(suspension_table.c.id == one.id)
            .values(state=state, ended_by=by, ended_at=self._now(), why=why)
        )
        made = self._get(connection, one.id)
        self._tell_system(f"misuse.{state}", made)
        return made

    # ----------------------------------------------------------------- reading

    def open(self) -> list[Suspension]:
        """Who is stopped now, the newest first."""
        c = suspension_table.c
        with self.database.read() as connection:
            query = select(suspension_table).where(c.state == "open").order_by(c.id.desc())
            return [_suspension(row) for row in connection.execute(query)]

    def lately(self, limit: int = 20) -> list[Suspension]:
        """Those that ended, the newest first."""
        c = suspension_table.c
        with self.database.read() as connection:
            query = select(suspension_table).where(c.state != "open").order_by(c.ended_at.desc(), c.id.desc())
            return [_suspension(row) for row in connection.execute(query.limit(limit))]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many there ever were, by kind and state."""
        c = suspension_table.c
        with self.database.read() as connection:
            query = select(c.kind, c.state, func.count()).group_by(c.kind, c.state)
            return {(kind, state): int(count) for kind, state, count in connection.execute(query)}

    def alarms(self) -> list[dict[str, Any]]:
        """What a reviewer should look into before it is a limit: kind, officer, application and number (or None), at, count."""
        now, found = self._now(), []
        stopped = {one.actor for one in self.open()}
        for actor, theirs in _by_actor(self._looks(None)).items():
            past = self._past(actor)
            for rule in Rule:
                limit = limit_of(rule, actor, self.limits)
                those = counted(rule, theirs, self.limits, now=now, past=past)
                if not those:
                    continue
                if rule in (Rule.UNDECIDED, Rule.SETTLED):  # each of them is worth a look
                    found += [_alarm(rule.value, look, 1, look) for look in those]
                elif actor not in stopped and limit and len(those) >= max(2, limit * SOON[0] // SOON[1]):
                    found.append(_alarm(rule.value, those[0], len(those), None))
        c = applications_table.c
        query = (
            select(c.tag, func.count().label("times"), func.max(c.number).label("newest"))
            .where(c.created_at > now - 30 * DAY, c.tag.is_not(None))
            .group_by(c.tag)
            .having(func.count() >= REPEATED)
        )
        with self.database.read() as connection:
            for row in connection.execute(query).all():
                newest = connection.execute(select(c.id, c.officer, c.created_at).where(c.number == row.newest)).one()
                look = Look(newest.id, int(row.newest), newest.officer, int(newest.created_at))
                found.append(_alarm("repeated", look, int(row.times), look))
        return sorted(found, key=lambda alarm: -alarm["at"])[:ALARMS]

    def _now(self) -> int:
        return int(self.clock())

    def _looks(self, actor: str | None) -> list[Look]:
        """What can still count."""
        c, now = applications_table.c, self._now()
        columns = select(c.id, c.number, c.officer, c.created_at, c.step, c.ready_at, c.settled)
        if actor is not None:
            columns = columns.where(c.officer == actor)
        # Three questions, each with an index of its own: one with "or" would read every application there ever was.
        query = union(
            columns.where(c.created_at > now - DAY),
            columns.where(c.settled.is_not(None), c.created_at > now - self.limits.settled_days * DAY),
            columns.where(c.step == Step.READY.value),
        )
        with self.database.read() as connection:
            return [
                Look(
                    application=row.id,
                    number=int(row.number),
                    actor=row.officer,
                    at=int(row.created_at),
                    undecided_since=row.ready_at if row.step == Step.READY.value else None,
                    settled=row.settled or "",
                )
                for row in sorted(connection.execute(query), key=lambda row: int(row.number))
            ]

    def _past(self, actor: str | None) -> Past:
        c = suspension_table.c
        query = select(suspension_table).where(c.state == "lifted")
        if actor is not None:
            query = query.where(c.actor == actor)
        before: dict[tuple[str, Rule], frozenset[str]] = defaultdict(frozenset)
        lifted: dict[str, int] = {}
        with self.database.read() as connection:
            for one in map(_suspension, connection.execute(query.order_by(c.id))):
                lifted[one.actor] = max(lifted.get(one.actor, 0), one.ended_at or 0)
                for finding in one.findings:
                    before[one.actor, Rule(finding["rule"])] |= frozenset(finding["applications"])
        return Past(dict(before), lifted)

    def _open_of(self, actor: str, kind: str) -> bool:
        c = suspension_table.c
        with self.database.read() as connection:
            query = select(c.id).where(c.actor == actor, c.kind == kind, c.state == "open")
            return connection.execute(query).first() is not None

    @staticmethod
    def _get(connection: Connection, suspension_id: int) -> Suspension:
        row = connection.execute(select(suspension_table).where(suspension_table.c.id == suspension_id)).one_or_none()
        if row is None:
            raise NotFound("there is no such suspension", remedy="look at the list again")
        return _suspension(row)


def _alarm(kind: str, look: Look, count: int, of: Look | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "officer": look.actor,
        "application": None if of is None else of.application,
        "number": None if of is None else of.number,
        "at": look.at,
        "count": count,
    }
