"""Applications for credit: entered by an officer or the bank's own system, asked about, decided, confirmed.

An application, its consent, the inquirer's request and the audit entry are one transaction, so nothing is asked twice and
nothing without a trace. `follow` copies what the party knows into the application after each round of work, so that a page
needs no lock on the party. The customer's number is not kept: only its last characters and its tag, which follows the
newest tag key (`misuse`).

    waiting -> asking -> checking -> ready -> [review ->] decided          waiting: also while the window rule holds it back
                  `---------------> stopped -> waiting (asked again)   stopped -> asking: a reorganisation changed the end

Who may do what: an officer enters and decides; a decision against the policy needs a reason and another person, a
reviewer, who confirms it or sends it back. Nobody confirms his own.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select

from mpcredit import limits
from mpcredit.consent import NO_EVIDENCE, Consent
from mpcredit.encoding import parse_canonical_json, to_hex
from mpcredit.inquirer import Request, RequestState
from mpcredit.institution import Institution, SupervisorNode, coverage_of, exposure_of
from mpcredit.policy import CreditPolicy, Decision, Outcome
from mpcredit.server.audit import AuditLog
from mpcredit.server.casefile import Application, Step, application_of, applications_table
from mpcredit.server.consents import Consents
from mpcredit.server.database import Database
from mpcredit.server.drafts import BATCH_ROWS, Draft
from mpcredit.server.misuse import Misuse, Suspension
from mpcredit.server.node import Node
from mpcredit.server.refusals import InvalidForm, NotAllowed, NotFound, TooMuch
from mpcredit.server.webhook import Webhook
from mpcredit.state import Inquiry

__all__ = ["Application", "Applications", "Draft", "InvalidForm", "NotAllowed", "NotFound", "Step"]

CONSENT_DAYS: Final = 30
"""How long a consent that an application brings holds; the inquiry may wait for the window rule."""
_STEPS: Final[Mapping[RequestState, Step]] = {
    RequestState.WANTED: Step.WAITING,
    RequestState.OPENING: Step.WAITING,
    RequestState.OPEN: Step.ASKING,
    RequestState.COMPLETE: Step.CHECKING,
    RequestState.REPORTED: Step.CHECKING,
    RequestState.ATTESTED: Step.READY,
}
_TOLD: Final[Mapping[Step, str]] = {
    Step.WAITING: "waits",
    Step.ASKING: "is being answered",
    Step.CHECKING: "has provisional totals",
    Step.READY: "has attested totals",
    Step.STOPPED: "ended without totals",
}


class Applications:
    """Keeps applications and consents.

    Args:
        database: the server's; the party's store is in it too.
        node: gives the party.
        audit: who did what, and why.
        clock: unix seconds.
        webhook: takes answers to applications that a system posted; None: it must ask.
        misuse: keeps the limits against misuse; None: there are none.
    """

    def __init__(
        self,
        database: Database,
        node: Node,
        audit: AuditLog,
        *,
        clock: Callable[[], float] = time.time,
        webhook: Webhook | None = None,
        misuse: Misuse | None = None,
    ) -> None:
        self.database = database
        self.node = node
        self.audit = audit
        self.clock = clock
        self.webhook = webhook
        self.misuse = misuse
        self.consents = Consents(database, node, audit, clock=clock)
        self._known: tuple[str, CreditPolicy, int] | None = None
        self._resumed: int | None = None
        """`Inquirer.resumed` as of the last round; None before the first."""

    def terms(self) -> tuple[str, CreditPolicy]:
        """The currency of this institution's figures and its credit policy, as of the last round."""
        return self._facts()[:2]

    def largest(self) -> int:
        """Most customers that one inquiry takes, as of the last round."""
        return self._facts()[2]

    def _facts(self) -> tuple[str, CreditPolicy, int]:
        if self._known is None:
            with self.node.locked() as party:
                self._known = _facts_of(_institution(party))
        return self._known

    # ----------------------------------------------------------------- entering

    def create(self, draft: Draft, *, officer: str, idempotency_key: str | None = None) -> Application:
        """Store an application with its consent, and ask.

        Args:
            idempotency_key: the caller's name of this application; the same key with the same content gives the first one.

        Raises:
            InvalidForm: the key was used with another content, or a consent document is missing.
            NotAllowed: whoever asks is suspended, or held back by a limit against misuse.
        """
        return self.create_many([draft], officer=officer, idempotency_key=idempotency_key)[0]

    def create_many(
        self, drafts: Sequence[Draft], *, officer: str, idempotency_key: str | None = None
    ) -> list[Application]:
        """Store applications, and ask about all of one purpose and one earlier cohort in as few inquiries as they fit in.

        Who reaches a limit against misuse with them is suspended in the same transaction, and they wait.
        """
        try:
            return self._create_many(drafts, officer, idempotency_key)
        except TooMuch:
            if self.misuse is not None and (made := self.misuse.held_back(officer)) is not None:
                self.misuse.tell([made])
            raise

    def _create_many(self, drafts: Sequence[Draft], officer: str, idempotency_key: str | None) -> list[Application]:
        suspended: list[Suspension] = []
        with self.node.locked() as party, self.database.transaction() as connection:
            institution = _institution(party)
            if idempotency_key is not None:
                known = self._by_key(idempotency_key, drafts)
                if known is not None:
                    return known
            if self.misuse is not None:
                self.misuse.check(officer, len(drafts))
            stored: list[tuple[Application, Consent]] = []
            for place, draft in enumerate(drafts):
                key = None if idempotency_key is None else f"{idempotency_key}#{place}"
                consent = self._grant(institution, draft)
                settled = self.misuse.settled(connection, draft, consent.tag, institution) if self.misuse else ""
                application = self._insert(connection, draft, consent, officer, key, settled)
                stored.append((application, consent))
                self.audit.append(
                    officer,
                    "application.created",
                    f"application/{application.id}",
                    application.purpose,
                    customer=application.label,
                    consent=application.consent,
                    requested=str(application.requested),
                )
            cohorts = institution.inquirer.earlier_cohorts([consent for _, consent in stored])
            together: dict[tuple[str, int], list[tuple[Application, Consent]]] = {}
            for pair, cohort in zip(stored, cohorts, strict=True):
                together.setdefault((pair[0].purpose, cohort), []).append(pair)
            for members in together.values():
                for pack in _packs(members, institution.inquirer.capacity):
                    self._request(institution, officer, pack)
            identifiers = [application.id for application, _ in stored]
            if self.misuse is not None:
                suspended = self.misuse.apply(officer)
        if self.misuse is not None:
            self.misuse.tell(suspended)
        self.node.wake()
        return [self.get(identifier) for identifier in identifiers]

    def _by_key(self, key: str, drafts: Sequence[Draft]) -> list[Application] | None:
        found = []
        with self.database.read() as connection:
            for place, draft in enumerate(drafts):
                row = connection.execute(
                    select(applications_table).where(applications_table.c.idempotency_key == f"{key}#{place}")
                ).one_or_none()
                if row is None:
                    break
                if row.fingerprint != draft.fingerprint:
                    raise InvalidForm({"idempotency_key": "was used for another application"})
                found.append(application_of(row))
        if not found:
            return None
        if len(found) != len(drafts):
            raise InvalidForm({"idempotency_key": "was used for another application"})
        return found

    def _grant(self, party: Institution, draft: Draft) -> Consent:
        if party.furnisher.book.currency != draft.requested.currency:
            raise InvalidForm({"currency": f"figures are kept in {party.furnisher.book.currency}: convert the amount"})
        if draft.evidence == NO_EVIDENCE:
            raise InvalidForm({"evidence": "attach the customer's consent, or write the SHA-256 of the document"})
        # Judged by the ledger's clock, which may be behind this machine's.
        now = min(int(self.clock()), party.follower.now) if party.follower.now else int(self.clock())
        return Consent.grant(
            draft.subject, to=party, purpose=draft.purpose, days=CONSENT_DAYS, evidence=draft.evidence, now=now
        )

    def _insert(
        self, connection: Connection, draft: Draft, consent: Consent, officer: str, key: str | None, settled: str
    ) -> Application:
        now = int(self.clock())
        value = {
            "label": draft.label,
            "kind": draft.subject.kind,
            "reference": draft.reference,
            "currency": draft.requested.currency,
            "requested": str(draft.requested.minor),
            "income": None if draft.income is None else str(draft.income.minor),
            "months": draft.months,
            "purpose": draft.purpose.value,
        }
        identifier = secrets.token_hex(8)
        self.consents.record(connection, consent, draft, by=officer)
        connection.execute(
            applications_table.insert().values(
                id=identifier,
                officer=officer,
                created_at=now,
                step=Step.WAITING.value,
                idempotency_key=key,
                fingerprint=draft.fingerprint,
                consent=to_hex(consent.hash),
                value=json.dumps(value),
                tag=to_hex(consent.tag),
                tag_key_version=consent.tag_key_version,
                settled=settled or None,
            )
        )
        return self._get(connection, identifier)

    # ----------------------------------------------------------------- following the party

    def follow(self, party: Institution | SupervisorNode) -> list[str]:
        """Copy what the party knows; called with the party locked, after each round (`Node.each_round`).

        Returns:
            One line for each application that changed its step.
        """
        lines = []
        institution = _institution(party)
        self._known = _facts_of(institution)
        steps = [Step.WAITING, Step.ASKING, Step.CHECKING]
        if (
            institution.inquirer.resumed != self._resumed
        ):  # an inquiry that had ended goes on; in the first round, perhaps
            steps.append(Step.STOPPED)
            self._resumed = institution.inquirer.resumed
        for application in self.newest(steps=steps, limit=100_000):
            if application.request_id is None:
                continue
            request = institution.inquirer.get(application.request_id)
            inquiry = institution.desk.state.inquiries.get(request.inquiry) if request.inquiry else None
            step = _STEPS.get(request.state, Step.STOPPED)
            seen = _seen(request, inquiry, int(application.value["place"]))
            answer = self._policy_answer(institution.policy, application, seen, inquiry, request)
            if step is application.step and seen == application.seen and answer == application.answer:
                continue
            with self.database.transaction():
                self._save(application, step, seen=seen, answer=answer)
                if step is not application.step and step in (Step.READY, Step.STOPPED):
                    self.audit.append(
                        "node",
                        f"application.{'totals_received' if step is Step.READY else 'stopped'}",
                        f"application/{application.id}",
                        application.purpose,
                        inquiry=seen["inquiry"],
                        note=seen["note"],
                    )
                    self._tell_system(application.id)
            self.node.publish("application", application.id, step=step.value)
            if step is not application.step:
                lines.append(f"application {application.number} {_TOLD[step]}")
        return lines

    def _request(self, institution: Institution, officer: str, pack: Sequence[tuple[Application, Consent]]) -> None:
        request = institution.inquirer.request(
            [application.label for application, _ in pack],
            [consent for _, consent in pack],
            officer=officer,
        )
        for place, (application, _) in enumerate(pack):
            self._save(application, application.step, request=request.id, place=place)

    def _policy_answer(
        self,
        policy: CreditPolicy,
        application: Application,
        seen: Mapping[str, Any],
        inquiry: Inquiry | None,
        request: Request,
    ) -> dict[str, Any] | None:
        if seen.get("totals") is None or inquiry is None or request.state is RequestState.VOID:
            return None
        record = {name: int(amount) for name, amount in seen["totals"].items()}
        exposure = exposure_of(record, application.label, application.currency, inquiry, attested=request.attested)
        decision: Decision = policy.decide(
            exposure, requested=application.requested, income=application.income, months=application.months
        )
        return decision.to_json_object()

    def ask_again(self, application_id: str, *, officer: str) -> Application:
        """Ask anew about an application whose inquiry ended without totals; the consent was not used up by it.

        Raises:
            NotAllowed: it has not ended so, or is another officer's.
            InvalidConsent: the consent no longer holds.
        """
        with self.node.locked() as party, self.database.transaction():
            if self.misuse is not None:
                self.misuse.check(officer, 0)
            application = self.get(application_id)
            if application.step is not Step.STOPPED or not self.may_decide(application, officer):
                raise NotAllowed("only its own officer asks again, after the inquiry ended without totals")
            consent = Consent.from_json_object(
                parse_canonical_json(self.consents.receipt(application.consent).encode())
            )
            institution = _institution(party)
            request = institution.inquirer.request([application.label], [consent], officer=officer)
            self._save(application, Step.WAITING, request=request.id, place=0, seen={}, answer=None)
            self.audit.append(officer, "application.asked_again", f"application/{application.id}", application.purpose)
        self.node.wake()
        self.node.publish("application", application_id, step=Step.WAITING.value)
        return self.get(application_id)

    def _tell_system(self, application_id: str) -> None:
        """Queue the answer for the system that posted the application, in the transaction of the change."""
        if self.webhook is None:
            return
        application = self.get(application_id)
        if application.officer.startswith("token:") and application.step in (Step.READY, Step.STOPPED, Step.DECIDED):
            self.webhook.queue(f"application.{application.step.value}", application.to_json_object())

    def may_decide(self, application: Application, officer: str) -> bool:
        """Whether this officer may decide: who entered it, and any officer what a system entered."""
        return application.officer == officer or application.officer.startswith("token:")

    # ----------------------------------------------------------------- deciding

    def departs(self, application: Application, outcome: Outcome) -> bool:
        """Whether a decision needs a second person: against the policy's answer, or without attested totals."""
        if not application.attested or application.answer is None:
            return True
        advised = application.answer["outcome"]
        return bool(advised != Outcome.REFER and advised != outcome)

    def decide(self, application_id: str, *, officer: str, outcome: Outcome, reason: str) -> Application:
        """Take the decision.

        Args:
            outcome: approve or decline.
            reason: required unless the decision follows the policy's approve or decline.

        Raises:
            InvalidForm: a reason is missing.
            NotAllowed: decided already, not by its officer, or the inquiry is still under way.
        """
        with self.database.transaction():
            application = self._decide(self.get(application_id), officer, outcome, reason.strip())
        self.node.publish("application", application_id, step=application.step.value)
        return application

    def _decide(self, application: Application, officer: str, outcome: Outcome, reason: str) -> Application:
        if not self.may_decide(application, officer):
            raise NotAllowed("only the officer who entered an application decides it")
        if application.step not in (Step.READY, Step.STOPPED):
            raise NotAllowed("this application cannot be decided now", remedy="see where it stands")
        if outcome is Outcome.REFER:
            raise InvalidForm({"outcome": "choose approve or decline"})
        against = self.departs(application, outcome)
        follows = application.answer is not None and application.answer["outcome"] == outcome
        if not reason and not follows:
            raise InvalidForm({"reason": "write why, for whoever reads this later"})
        decision = {
            "outcome": outcome.value,
            "reason": reason,
            "by": officer,
            "at": int(self.clock()),
            "against": against,
        }
        self._save(application, Step.REVIEW if against else Step.DECIDED, decision=decision)
        policy = application.answer["policy"] if application.answer else ""
        self.audit.append(
            officer,
            "application.decided",
            f"application/{application.id}",
            reason,
            outcome=outcome.value,
            against=against,
            policy=policy,
        )
        self._tell_system(application.id)
        return self.get(application.id)

    def review(self, application_id: str, *, reviewer: str, agree: bool, reason: str) -> Application:
        """Confirm a decision against the policy, or send it back to its officer.

        Raises:
            InvalidForm: sent back without a reason.
            NotAllowed: nothing to confirm, or his own.
        """
        with self.database.transaction():
            application = self._review(self.get(application_id), reviewer, agree, reason.strip())
        self.node.publish("application", application_id, step=application.step.value)
        return application

    def _review(self, application: Application, reviewer: str, agree: bool, reason: str) -> Application:
        decision = application.decision
        if application.step is not Step.REVIEW or decision is None:
            raise NotAllowed("there is nothing to confirm here")
        if reviewer in (decision["by"], application.officer):
            raise NotAllowed("nobody confirms his own decision", remedy="another reviewer must do it")
        if not agree and not reason:
            raise InvalidForm({"reason": "write what the officer should look at again"})
        now = int(self.clock())
        if agree:
            confirmed = {**decision, "confirmed_by": reviewer, "confirmed_at": now, "remark": reason}
            self._save(application, Step.DECIDED, decision=confirmed)
        else:
            back = {"by": reviewer, "at": now, "reason": reason, "outcome": decision["outcome"]}
            step = Step.READY if application.attested else Step.STOPPED
            self._save(application, step, decision=None, returned=back)
        action = "application.confirmed" if agree else "application.sent_back"
        self.audit.append(
            reviewer,
            action,
            f"application/{application.id}",
            reason,
            outcome=decision["outcome"],
            officer=decision["by"],
        )
        self._tell_system(application.id)
        return self.get(application.id)

    # ----------------------------------------------------------------- reading

    def get(self, application_id: str) -> Application:
        """Read one.

        Raises:
            NotFound: there is none of that id.
        """
        with self.database.read() as connection:
            return self._get(connection, application_id)

    def newest(
        self,
        *,
        steps: Iterable[Step] | None = None,
        officer: str | None = None,
        since: int | None = None,
        before: int | None = None,
        limit: int = 1_000,
    ) -> list[Application]:
        """The newest first; of some steps, of one officer, entered from `since` on and `before`, unix seconds."""
        query = select(applications_table).order_by(applications_table.c.number.desc()).limit(limit)
        if steps is not None:
            query = query.where(applications_table.c.step.in_([step.value for step in steps]))
        if officer is not None:
            query = query.where(applications_table.c.officer == officer)
        if since is not None:
            query = query.where(applications_table.c.created_at >= since)
        if before is not None:
            query = query.where(applications_table.c.created_at < before)
        with self.database.read() as connection:
            return [application_of(row) for row in connection.execute(query)]

    def counts(self) -> dict[str, int]:
        """How many applications stand at each step."""
        with self.database.read() as connection:
            query = select(applications_table.c.step, func.count()).group_by(applications_table.c.step)
            found = {step: int(count) for step, count in connection.execute(query)}
        return {step.value: found.get(step.value, 0) for step in Step}

    @staticmethod
    def _get(connection: Connection, application_id: str) -> Application:
        row = connection.execute(
            select(applications_table).where(applications_table.c.id == application_id)
        ).one_or_none()
        if row is None:
            raise NotFound(f"there is no application {application_id}", remedy="look for it in the list")
        return application_of(row)

    def _save(self, application: Application, step: Step, **changes: Any) -> None:
        with self.database.transaction() as connection:
            stored = self._get(connection, application.id)
            values: dict[str, Any] = {"step": step.value, "value": json.dumps({**stored.value, **changes})}
            if step is Step.READY and application.step is not Step.READY:
                values["ready_at"] = int(self.clock())
            connection.execute(
                applications_table.update()
                .where(applications_table.c.id == application.id, applications_table.c.step == application.step.value)
                .values(**values)
            )

    def erase(self, application: Application) -> None:
        """Forget a decided application with its consent and document; the audit log still has who decided what."""
        with self.database.transaction() as connection:
            connection.execute(
                applications_table.delete().where(
                    applications_table.c.id == application.id, applications_table.c.step == Step.DECIDED.value
                )
            )
            self.consents.erase(connection, application.consent)


def _institution(party: Institution | SupervisorNode) -> Institution:
    if not isinstance(party, Institution):
        raise NotAllowed("the supervisor takes no applications")
    return party


def _facts_of(party: Institution) -> tuple[str, CreditPolicy, int]:
    bits, state = party.inquirer.bits, party.desk.state
    schema = state.schemas.get(1)
    entries = [limits.UNSIGNED_ENTRY_BYTES] * BATCH_ROWS
    largest = limits.capacity(schema, bits, entries, len(state.active())) if schema else 1
    return party.furnisher.book.currency, party.policy, largest


def _packs(
    members: Sequence[tuple[Application, Consent]], fit: Callable[[Sequence[Consent]], int]
) -> Iterator[list[tuple[Application, Consent]]]:
    """Split into packs that one inquiry takes (`fit` of the consents do), in which no customer comes twice."""
    waiting = sorted(members, key=lambda m: m[0].number)
    while waiting:
        tags = [consent.tag for _, consent in waiting]
        distinct = next((i for i, tag in enumerate(tags) if tag in tags[:i]), len(tags))
        count = min(distinct, max(1, fit([consent for _, consent in waiting])))
        yield waiting[:count]
        waiting = waiting[count:]


def _seen(request: Request, inquiry: Inquiry | None, place: int) -> dict[str, Any]:
    totals = request.totals
    seen: dict[str, Any] = {
        "state": request.state.value,
        "note": request.note,
        "inquiry": to_hex(request.inquiry) if request.inquiry else None,
        "totals": None if totals is None else {name: str(amount) for name, amount in totals[place].items()},
        "attested": request.state is RequestState.ATTESTED,
        "subjects": len(request.value["subjects"]),
    }
    if inquiry is not None:
        seen |= {
            "coverage": coverage_of(inquiry),
            "institutions": len(inquiry.cohort),
            "active": len(inquiry.cohort) + len(inquiry.absent),
            "missing": [inquiry.names[i] for i in inquiry.absent],
            "left_out": [inquiry.names[i] for i in inquiry.left_out],
            "left_out_until": inquiry.opened.at.timestamp + inquiry.parameters.window_seconds,
            "cohort": [inquiry.names[i] for i in inquiry.cohort],
            "answered": [inquiry.names[i] for i in inquiry.cohort if i in inquiry.contributions],
            "opened_at": inquiry.opened.at.timestamp,
            "deadline": inquiry.opened.deadline,
        }
    return seen
