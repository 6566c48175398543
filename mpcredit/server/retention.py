"""Retention: what is destroyed after its period, and who can still read what until when.

The ledger keeps its ciphertexts for ever, so keys are what can be destroyed. Once a day, and at each start:

- the Paillier keys of own inquiries that ended so long ago (with them, sums and single contributions could be opened), and
  the openings of their totals (m and r of each block, with which anybody could be shown what the ledger's bytes hold);
- applications that were decided so long ago, with consent, document, request, totals, openings and keys; and requests that
  ended so long ago and belong to no application. Until then the totals themselves stay, with the decision that rests on them.

Without its openings no evidence file of an inquiry can be made any more: make it before, where a dispute is to be expected.

- X25519 keys: old institution keys, and period keys that are over, so long after the last inquiry under them, if none of those
  is open. A period key that is announced or in force stays. What a destroyed key sealed cannot be read or checked again.

Every entry of the audit log is written before what it tells of: cut off in between, the
next run does it, and says so, again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from mpcredit.encoding import bytes_to_int, to_hex
from mpcredit.inquirer import Request
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.paillier import PublicKey
from mpcredit.server.applications import Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.casefile import Application, Step
from mpcredit.server.footprint import Footprints
from mpcredit.server.node import Node
from mpcredit.server.settings import RetentionSettings
from mpcredit.state import Inquiry

__all__ = ["KeptKey", "Overview", "Retention"]

DAY: Final = 86_400
LINK_DAYS: Final = 30
"""How long the list of a customer's links keeps one that is over."""


_Secret = tuple[str, str, str]
"""A request, "" where none is known; the fingerprint of a Paillier key; the inquiry under it, "" where none was signed."""


@dataclass(frozen=True)
class KeptKey:
    """A period key of this supervisor, or an institution key of this institution."""

    version: int
    public: bytes
    in_use: bool
    """Whether new inquiries rest on it, or will: it stays, whatever its age."""
    inquiries: int
    """How many rest on it."""
    last: int | None
    """Unix seconds of the last of them."""
    due: int | None
    """When its retention period is over; None if none is set, or it is in use."""


@dataclass(frozen=True)
class Overview:
    """What there is to read, and until when."""

    inquiry_keys: int
    """Own inquiries whose key is at hand."""
    next_key: int | None
    """When the next of them is destroyed."""
    openings: int
    """Own inquiries whose totals' openings are at hand."""
    orphans: int
    """Keys at hand that no request names."""
    decided: int
    next_application: int | None
    institution_keys: tuple[KeptKey, ...]
    period_keys: tuple[KeptKey, ...]
    tag_keys: tuple[int, ...]

    @property
    def next_institution_key(self) -> int | None:
        """When the next of this institution's old keys is destroyed."""
        return min((key.due for key in self.institution_keys if key.due is not None), default=None)


class Retention:
    """The daily job and its page.

    Args:
        settings: days; 0 keeps for ever.
        node, audit: the server's.
        applications: None at the supervisor.
        clock: unix seconds.
    """

    def __init__(
        self,
        settings: RetentionSettings,
        node: Node,
        audit: AuditLog,
        applications: Applications | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.node = node
        self.audit = audit
        self.applications = applications
        self._clock = clock
        self._next = 0.0

    # ----------------------------------------------------------------- the job

    def daily(self, party: Institution | SupervisorNode) -> list[str]:
        """Destroy what is due, once a day; called with the party locked, after each round (`Node.each_round`).

        Returns:
            One line for each thing done.
        """
        now = self._clock()
        if now < self._next:
            return []
        self._next = now + 3_600  # if it fails
        lines = self.run(party)
        self._next = now + DAY
        return lines

    def run(self, party: Institution | SupervisorNode) -> list[str]:
        """Destroy what is due now.

        Raises:
            KeyStoreError, StoreError: something could not be destroyed; the next run tries again.
        """
        Footprints(self.audit.database, self.node, self.audit).prune(int(self._clock()) - LINK_DAYS * DAY)
        if isinstance(party, SupervisorNode):
            return self._destroy_keys_in_turn(
                party, "period", self._period_keys(party), party.supervisor.keys, self.settings.disclosures
            )
        lines = self._destroy_keys_in_turn(
            party, "institution", self._institution_keys(party), party.desk.keys, self.settings.institution_keys
        )
        destroyed = self._destroy_keys(party)
        if destroyed:
            lines.append(f"destroyed {destroyed} inquiry keys after {self.settings.inquiry_keys} days")
        erased = self._erase_applications(party)
        if erased:
            lines.append(f"erased {erased} decided applications after {self.settings.applications} days")
        forgotten = self._erase_requests(party)
        if forgotten:
            lines.append(f"erased {forgotten} requests of no application after {self.settings.applications} days")
        return lines

    def _limit(self, party: Institution | SupervisorNode, days: int) -> int:
        """What was over before this is due: by the machine's clock and the ledger's, so that one wrong one does nothing."""
        return min(int(self._clock()), party.follower.now) - days * DAY

    def _destroy_keys(self, party: Institution) -> int:
        if not self.settings.inquiry_keys:
            return 0
        limit = self._limit(party, self.settings.inquiry_keys)
        due = [request for request in party.inquirer.requests() if request.state.final and _end(party, request) < limit]
        secrets = [*_secrets(due), *_secrets_without_request(party, limit)]
        return self._destroy_secrets(party, secrets, self.settings.inquiry_keys)

    def _destroy_secrets(self, party: Institution, secrets: Iterable[_Secret], days: int) -> int:
        keys: Any = party.desk.keys  # the port of the use cases does not list keys
        store, present = party.desk.store, set(keys.inquiry_keys())
        count = 0
        for request, fingerprint, inquiry in secrets:
            report = store.get("report", inquiry)
            openings = report is not None and "openings" in report
            if fingerprint not in present and not openings:
                continue
            # (1) the openings go with the entry; the key, which is a file, after it: cut off, the next run finds it.
            with store.transaction():
                self.audit.append(
                    "node",
                    "retention.inquiry_key_destroyed",
                    f"inquiry/{inquiry}" if inquiry else f"request/{request}",
                    f"{days} days are over",
                    key=fingerprint,
                    request=request,
                    openings=openings,
                )
                if report is not None:
                    # The commitment is on the ledger; its salt would let somebody prove openings that he found.
                    kept = {name: report[name] for name in ("commitment",) if name in report}
                    store.put("report", inquiry, kept)
            # (2) the key.
            if fingerprint in present:
                keys.destroy_inquiry_key(fingerprint)
                present.discard(fingerprint)
            count += 1
        return count

    def _erase_requests(self, party: Institution) -> int:
        """Requests that no application names: asked at the command line, or asked again since."""
        desk = self.applications
        if not self.settings.applications or desk is None:
            return 0
        limit = self._limit(party, self.settings.applications)
        named = {application.request_id for application in desk.newest(limit=1_000_000)}
        requests = party.inquirer.requests()
        due = [r for r in requests if r.id not in named and r.state.final and _end(party, r) < limit]
        self._destroy_secrets(party, _secrets(due), self.settings.applications)
        for request in due:
            with desk.database.transaction():
                self.audit.append(
                    "node",
                    "retention.request_erased",
                    f"request/{request.id}",
                    f"{self.settings.applications} days are over",
                )
                _forget(party, request)
        return len(due)

    def _erase_applications(self, party: Institution) -> int:
        desk = self.applications
        if not self.settings.applications or desk is None:
            return 0
        limit = self._limit(party, self.settings.applications)
        days = self.settings.applications
        everything = desk.newest(limit=1_000_000)
        due = [a for a in everything if a.step is Step.DECIDED and _decided_at(a) < limit]
        sharing = Counter(application.request_id for application in everything)
        erased = 0
        for application in due:
            request = self._request(party, application)
            if request is not None and not request.state.final:
                continue
            # A packed inquiry goes with the last of its applications.
            going = [request] if request is not None and sharing[request.id] == 1 else []
            self._destroy_secrets(party, _secrets(going), days)
            with desk.database.transaction():
                self.audit.append(
                    "node", "retention.application_erased", f"application/{application.id}", f"{days} days are over"
                )
                desk.erase(application)
                for last in going:
                    _forget(party, last)
            sharing[application.request_id] -= 1
            erased += 1
        return erased

    @staticmethod
    def _request(party: Institution, application: Application) -> Request | None:
        value = None if application.request_id is None else party.desk.store.get("request", application.request_id)
        return None if value is None else Request(str(application.request_id), value)

    def _destroy_keys_in_turn(
        self, party: Institution | SupervisorNode, kind: str, found: Iterable[KeptKey], keys: Any, days: int
    ) -> list[str]:
        now = min(int(self._clock()), party.follower.now)
        lines = []
        for key in found:
            if key.due is None or key.due > now:
                continue
            self.audit.append(
                "node",
                f"retention.{kind}_key_destroyed",
                f"{kind}_key/{key.version}",
                f"{days} days are over",
                inquiries=key.inquiries,
            )
            keys.destroy_institution_key(key.public)
            lines.append(f"destroyed {kind} key {key.version} after {days} days")
        return lines

    # ----------------------------------------------------------------- the page

    def overview(self, party: Institution | SupervisorNode) -> Overview:
        """Who can still read what until when; with the party locked."""
        keys: Any = party.desk.keys if isinstance(party, Institution) else party.supervisor.keys
        if isinstance(party, SupervisorNode):
            held = tuple(keys.tag_versions())  # that members handed over, for customers' footprints
            return Overview(0, None, 0, 0, 0, None, (), self._period_keys(party), held)
        present = set(keys.inquiry_keys())
        ends, named = [], set()
        for request in party.inquirer.requests():
            own = set(request.keys) & present
            named |= own
            if own and request.state.final:
                ends.append(_end(party, request))
        decided = [
            _decided_at(a)
            for a in (self.applications.newest(steps=[Step.DECIDED], limit=1_000_000) if self.applications else [])
        ]
        return Overview(
            inquiry_keys=len(named),
            next_key=_due(ends, self.settings.inquiry_keys),
            openings=sum("openings" in report for _, report in party.desk.store.items("report")),
            orphans=len(present - named),
            decided=len(decided),
            next_application=_due(decided, self.settings.applications),
            institution_keys=self._institution_keys(party),
            period_keys=(),
            tag_keys=tuple(keys.tag_versions()),
        )

    def _period_keys(self, party: SupervisorNode) -> tuple[KeptKey, ...]:
        keys: Any = party.supervisor.keys
        state = party.follower.state
        in_use = {state.period_keys[v].public for v in (state.in_force, state.announced_key) if v is not None}
        return tuple(
            self._kept(version, public, public in in_use, under, self.settings.disclosures)
            for version, public in keys.supervisor_versions().items()
            for under in [[i for i in state.inquiries.values() if i.period_key.public == public]]
        )

    def _institution_keys(self, party: Institution) -> tuple[KeptKey, ...]:
        keys: Any = party.desk.keys
        state, own = party.desk.state, party.index
        member = state.members[own]
        newest = max(member.keys, default=0)
        # Cohorts keep to the key that was audited until the newer one is: R10.
        audited = {member.audited.get(v) for v in (state.in_force, state.announced_key) if v is not None}
        return tuple(
            self._kept(version, public, version >= newest or version in audited, under, self.settings.institution_keys)
            for version, public in keys.institution_versions().items()
            for under in [[i for i in state.inquiries.values() if own in i.keys and i.keys[own].public == public]]
        )

    @staticmethod
    def _kept(version: int, public: bytes, in_use: bool, under: list[Inquiry], days: int) -> KeptKey:
        last = max((i.opened.at.timestamp for i in under), default=None)
        pending = any(i.verdict is None and not i.stage.failed for i in under)
        due = None if in_use or pending or last is None or not days else last + days * DAY
        return KeptKey(version, public, in_use, len(under), last, due)


def _secrets(requests: Iterable[Request]) -> Iterator[_Secret]:
    """The keys of requests, each with its inquiry; none for a key that no opening was signed under."""
    for request in requests:
        inquiries = [attempt["inquiry"] for attempt in request.value["attempts"]]
        yield from ((request.id, key, q) for key, q in zip_longest(request.keys, inquiries, fillvalue=""))


def _secrets_without_request(party: Institution, limit: int) -> Iterator[_Secret]:
    """The keys of own inquiries that ended before a time and that no request names, as after a restore."""
    named = {attempt["inquiry"] for request in party.inquirer.requests() for attempt in request.value["attempts"]}
    for inquiry in party.desk.state.inquiries.values():
        end = inquiry.verdict or inquiry.expired or inquiry.refusal
        own = inquiry.inquirer == party.index and to_hex(inquiry.id) not in named
        if own and end is not None and end.at.timestamp < limit:
            yield "", PublicKey(bytes_to_int(inquiry.opening.n)).fingerprint, to_hex(inquiry.id)


def _forget(party: Institution, request: Request) -> None:
    """Delete a request with the reports of its attempts, in the transaction of its entry."""
    party.desk.store.delete("request", request.id)
    for attempt in request.value["attempts"]:
        party.desk.store.delete("report", attempt["inquiry"])


def _due(times: list[int], days: int) -> int | None:
    return min(times) + days * DAY if times and days else None


def _end(party: Institution, request: Request) -> int:
    """When a request that has ended did, as far as is known."""
    inquiry = party.desk.state.inquiries.get(request.inquiry) if request.inquiry else None
    times = [int(request.value["requested_at"])]
    if inquiry is not None:
        last = inquiry.verdict or inquiry.expired or inquiry.refusal or inquiry.report or inquiry.opened
        times.append(last.at.timestamp)
    return max(times)


def _decided_at(application: Application) -> int:
    decision = application.decision or {}
    return int(decision.get("confirmed_at") or decision.get("at") or application.created_at)
