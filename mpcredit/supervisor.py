"""The supervisor's part: audit the mask keys, check every contribution and report, put the verdict on the ledger.

Reads the ledger alone, takes no part in the computation, and can name who deviated at once: from a contribution's
disclosure and the audited mask keys it recomputes the figures themselves (R11, R20, R31).

A verdict that a person orders is kept in the store; `step` carries it out on the same path as what the supervisor does by
itself: once, and again until it is on the ledger. Who may order is left to the caller. Proposals are approved by the owner
account, which no service has.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mpcredit import protocol
from mpcredit.encoding import to_hex
from mpcredit.errors import (
    ConsentNotInForce,
    InvalidConsent,
    InvalidMessage,
    KeyStoreError,
    KeyUnavailable,
    LedgerError,
    MpcreditError,
    NotYet,
    ProtocolViolation,
    Refused,
    StoreError,
)
from mpcredit.events import Call, Contributed, Event, Opened, Reported, Stage
from mpcredit.follower import Follower
from mpcredit.ledger.roster import PeriodKey
from mpcredit.outbox import ATTEMPTS, Outbox
from mpcredit.paillier import verify_opening
from mpcredit.ports import Keys, Store
from mpcredit.roles.mask_audit import MaskAudit, step_of
from mpcredit.sealing import SubjectList, open_report, open_subjects_supervisor, sealed_version
from mpcredit.state import Inquiry, LedgerState
from mpcredit.versions import FIRST, THIS_RELEASE, Release

__all__ = ["PERIOD_KEY_WAIT", "Finding", "Supervisor", "Verified"]

log = logging.getLogger("mpcredit")

ZERO = bytes(32)
JUDGED = (Stage.OPEN, Stage.COMPLETE, Stage.REPORTED)
"""Stages in which a verdict can void an inquiry."""
PERIOD_KEY_WAIT = 7 * 86_400
"""Seconds that an announced period key waits for members that are not audited for it, as in the contract."""


@dataclass(frozen=True)
class Finding:
    """Something the supervisor found out."""

    inquiry: bytes | None
    culprits: tuple[int, ...]
    text: str
    event: Event | None = None
    """The event under which the culprits stand; its transaction must have their accounts' signature."""


@dataclass
class Verified:
    """What the supervisor knows of an inquiry after its checks."""

    records: dict[int, list[dict[str, int]]] = field(default_factory=dict)
    """Figures of each member, one record per subject, in minor units."""
    totals: list[dict[str, int]] | None = None
    """As reported, once the report verified."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def culprits(self) -> tuple[int, ...]:
        """Members that deviated, ascending."""
        return tuple(sorted({member for finding in self.findings for member in finding.culprits}))


class Supervisor:
    """Watches, verifies and attests.

    Args:
        follower: reads the supervisor's own node.
        outbox: its ledger account.
        store: keeps its ledger steps.
        keys: holds its period keys.
        attest: put audits and verdicts on the ledger by itself; False only watches.
        anchor: head of the audit log at this moment, 32 bytes that each verdict puts on the ledger; zeros without a log.
    """

    def __init__(
        self,
        follower: Follower,
        outbox: Outbox,
        store: Store,
        keys: Keys,
        *,
        attest: bool = True,
        anchor: Callable[[], bytes] = lambda: ZERO,
        release: Release = THIS_RELEASE,
    ) -> None:
        self.follower = follower
        self.outbox = outbox
        self.store = store
        self.keys = keys
        self.attests = attest
        self.by_hand = False
        """Verdicts wait for `order_verdict`; audits of mask keys go on by themselves."""
        self.anchor = anchor
        self.release = release
        self.verified: dict[bytes, Verified] = {}
        self.findings: list[Finding] = []
        """In the order in which they were found, since this process started."""
        self._checked: dict[bytes, set[int]] = {}
        self._tags: dict[bytes, tuple[bytes, ...]] = {}
        self.audit = MaskAudit(store, keys, lambda members, text: self._find(None, members, text))
        self._newer: set[bytes] = set()
        """Inquiries in messages that this release does not read yet."""
        self._generation = 0

    @property
    def state(self) -> LedgerState:
        """The fold, as of the last sync."""
        return self.follower.state

    def step(self) -> list[str]:
        """Do what is due; safe to call at any time and after any crash.

        Returns:
            One line for each thing done or found.
        """
        if self._generation != self.follower.replays:
            self._generation = self.follower.replays
            self.audit.forget()
            self.verified.clear()
            self._checked.clear()
            self._newer.clear()
        before = len(self.findings)
        done = self._audit()
        for inquiry in list(self.state.inquiries.values()):
            try:
                self.check(inquiry)
                done.extend(self._attest(inquiry))
            except (LedgerError, StoreError, KeyUnavailable):
                raise
            except MpcreditError as error:  # one inquiry must not hold up the others
                log.warning("inquiry %s cannot be checked now: %s", to_hex(inquiry.id)[:12], error)
        return [finding.text for finding in self.findings[before:]] + done

    # ----------------------------------------------------------------- mask audit

    @property
    def owner(self) -> str:
        """This supervisor's owner account.

        Raises:
            NotYet: no supervisor has named its ledger account.
        """
        address = self.outbox.signer.address
        for owner, supervisor in self.state.supervisors.items():
            if supervisor.account == address:
                return owner
        raise NotYet(
            f"account {address} is no supervisor's service account",
            remedy="the supervisor's owner account must name it (`mpcredit member appoint`)",
        )

    def _own_periods(self) -> list[PeriodKey]:
        """This supervisor's period keys that are in force or announced."""
        state = self.state
        versions = (state.in_force, state.announced_key)
        keys = [state.period_keys[version] for version in versions if version is not None]
        return [key for key in keys if (s := state.supervisors.get(key.supervisor)) and s.account == self._account]

    @property
    def _account(self) -> str:
        return self.outbox.signer.address

    def _audit(self) -> list[str]:
        """Read sealed mask keys and let members serve whose pairs agree (R11)."""
        state, done = self.state, list[str]()
        self.audit.read(state)
        for period in self._own_periods():
            keys = self.audit.judge(state, period, self.follower.now)
            if not self.attests:
                continue
            for key in keys:
                call = Call("consortium", "auditOk", (period.supervisor, key.member, key.version, period.version))
                if self._post(step_of(key, period.version), call):
                    name = state.members[key.member].name
                    done.append(f"mask keys of {name} (key {key.version}) agree on both ends")
            done += self._put_in_force(period)
        return done

    def _put_in_force(self, period: PeriodKey) -> list[str]:
        """Put an announced key in force when every member that is not suspended is audited for it, or after a week."""
        state = self.state
        if state.announced_key != period.version or state.parameters is None:
            return []
        wanted = [state.members[i] for i in state.active() if not state.members[i].suspended]
        audited = [member for member in wanted if member.key_under(period.version) is not None]
        waited = self.follower.now >= period.announced_at + PERIOD_KEY_WAIT
        if len(audited) < state.parameters.minimum_cohort or (len(audited) < len(wanted) and not waited):
            return []
        call = Call("consortium", "putPeriodKeyInForce", (period.supervisor, period.version))
        if self._post(f"period-key/{period.version}", call):
            return [f"period key {period.version} is in force"]
        return []

    # ----------------------------------------------------------------- checking an inquiry

    def check(self, inquiry: Inquiry) -> Verified:
        """Check what is new of an inquiry; each thing once.

        Returns:
            All that is known of it.

        Raises:
            KeyStoreError: this period's key is not to be had. Nothing counts as checked then that was not: a token that
                fails half way must leave neither a finding nor a gap in the sums.
        """
        known = self.verified.setdefault(inquiry.id, Verified())
        checked = self._checked.setdefault(inquiry.id, set())
        private = self.keys.institution_key(inquiry.period_key.public)
        try:
            frame = protocol.frame_of(inquiry, self.state.realm)
        except InvalidMessage as error:
            if -1 not in checked:
                checked.add(-1)
                text = f"the opening is malformed: {error.message}"
                self._find(inquiry, (inquiry.inquirer,), text, inquiry.opened)
            return known

        # (0) messages newer than this release: nobody's fault, and judged when the supervisor has upgraded. docs/adr/0019.
        version = sealed_version(inquiry.opening.sealed_subject)
        if version > self.release.highest:
            if inquiry.id not in self._newer:
                self._newer.add(inquiry.id)
                text = (
                    f"inquiry {to_hex(inquiry.id)[:12]}: its messages are of version {version}, this release reads up to "
                    f"{self.release.highest}: the supervisor must upgrade, and judges it then"
                )
                self.findings.append(Finding(inquiry.id, (), text))  # not of what was verified: nothing was
                log.warning("%s", text)
            return known

        # (1) the inquirer's opening: key, sealed subjects, consents.
        if -1 not in checked:
            with _once(checked, -1):
                self._check_opening(inquiry)

        # (2) each contribution by itself: R20, R31.
        for member in inquiry.contributions:
            if member in checked:
                continue
            try:
                masks = self._masks_of(inquiry, member)
            except NotYet as error:  # nobody's fault that shows here, and the others can be checked
                log.warning("inquiry %s: %s", to_hex(inquiry.id)[:12], error)
                continue
            with _once(checked, member):
                try:
                    known.records[member] = protocol.read_contribution(
                        frame, member, inquiry.payload(member), masks, supervisor_private=private
                    )
                except ProtocolViolation as error:
                    text = f"{inquiry.names[member]}: {error.message}"
                    self._find(inquiry, error.culprits, text, inquiry.contributions[member])

        # (3) the report, when all contributions have been checked: R30.
        if inquiry.report is not None and -2 not in checked and checked.issuperset(inquiry.cohort):
            with _once(checked, -2):
                self._check_report(inquiry, frame, known)
        return known

    def _masks_of(self, inquiry: Inquiry, member: int) -> Mapping[int, bytes]:
        own = inquiry.keys[member]
        masks = {}
        for other, key in inquiry.keys.items():
            if other == member:
                continue
            mask = self.audit.mask(own, key, inquiry.period_key.version)
            if mask is None:
                raise NotYet(
                    f"there is no audited mask key for members {member} and {other}",
                    remedy="both must seal it; it is tried again by itself",
                )
            masks[other] = mask
        return masks

    def subjects(self, inquiry: Inquiry) -> SubjectList:
        """Open the sealed subjects of an inquiry.

        Raises:
            InvalidSubject: they do not open or do not fit the commitment.
        """
        return open_subjects_supervisor(
            inquiry.opening.sealed_subject,
            inquiry.opening.subject_commitment,
            inquiry.opened.q0,
            self.keys.institution_key(inquiry.period_key.public),
            versions=range(FIRST.lowest, self.release.highest + 1),  # all of history
        )

    def tags(self, inquiry: Inquiry) -> tuple[bytes, ...]:
        """Tags of the subjects of an inquiry, opened once and kept in memory.

        Raises:
            InvalidSubject, KeyStoreError: as `subjects`.
        """
        known = self._tags.get(inquiry.id)
        if known is None:
            known = self._tags[inquiry.id] = tuple(entry.tag for entry in self.subjects(inquiry).entries)
        return known

    def _check_opening(self, inquiry: Inquiry) -> None:
        inquirer = (inquiry.inquirer,)
        name = inquiry.names[inquiry.inquirer]
        subjects: SubjectList | InvalidMessage
        try:  # first what needs the private key: where that is not to be had, nothing is found twice
            subjects = self.subjects(inquiry)
        except InvalidMessage as error:
            subjects = error
        try:
            protocol.check_key(inquiry)
        except InvalidMessage as error:
            self._find(inquiry, inquirer, f"{name}: the Paillier key is malformed: {error.message}", inquiry.opened)
        if isinstance(subjects, InvalidMessage):
            self._find(
                inquiry, inquirer, f"{name}: the sealed subject does not open: {subjects.message}", inquiry.opened
            )
            return
        if tuple(entry.consent.hash for entry in subjects.entries) != inquiry.opening.consents:
            text = f"{name}: the consents are not those whose hashes are on the ledger"
            self._find(inquiry, inquirer, text, inquiry.opened)
        for entry in subjects.entries:
            try:
                entry.consent.check(
                    realm=self.state.realm,
                    inquirer=inquiry.inquirer,
                    tag=entry.tag,
                    tag_key_version=entry.consent.tag_key_version,
                    purpose=subjects.purpose,
                    at=inquiry.opened.at.timestamp,
                )
            except ConsentNotInForce as error:  # furnishers refuse it; a clock that is ahead is no lie
                self._find(inquiry, (), f"{name}: {error.message}")
            except InvalidConsent as error:
                self._find(inquiry, inquirer, f"{name}: {error.message}", inquiry.opened)

    def _check_report(self, inquiry: Inquiry, frame: protocol.Frame, known: Verified) -> None:
        assert inquiry.report is not None
        inquirer = (inquiry.inquirer,)
        name = inquiry.names[inquiry.inquirer]
        try:
            aggregate = protocol.product(frame, [inquiry.payload(member) for member in inquiry.cohort])
        except InvalidMessage:
            return  # a contribution is malformed; whose, was found above
        if inquiry.aggregate is not None and inquiry.aggregate != protocol.aggregate_bytes(frame, aggregate):
            self._find(inquiry, (), "the aggregate on the ledger is not the product of the contributions")
        try:
            openings = open_report(
                inquiry.report.sealed_report,
                inquiry.report.commitment,
                inquiry=inquiry.id,
                ctx=frame.ctx,
                public=frame.public,
                aggregate=aggregate,
                supervisor=self.keys.institution_key(inquiry.period_key.public),
            )
            for c, opening in zip(aggregate, openings, strict=True):
                verify_opening(frame.public, c, opening)
        except InvalidMessage as error:
            self._find(inquiry, inquirer, f"{name}: the report is false: {error.message}", inquiry.report)
            return
        if known.findings:
            return  # the totals are those of a liar, who is known, or not those of the ledger
        expected = _sum_records(known.records.values())
        try:
            reported = protocol.totals(frame, [opening.m for opening in openings])
        except MpcreditError as error:
            self._find(inquiry, inquirer, f"{name}: the reported totals are not sums: {error.message}", inquiry.report)
            return
        if reported != expected:
            text = f"{name}: the reported totals are not the sums of the figures"
            self._find(inquiry, inquirer, text, inquiry.report)
            return
        known.totals = reported

    # ----------------------------------------------------------------- verdict

    @property
    def gives_verdicts(self) -> bool:
        """Whether verdicts go onto the ledger by themselves."""
        return self.attests and not self.by_hand

    def verdict_of(self, inquiry: Inquiry) -> tuple[bool, tuple[int, ...]] | None:
        """The verdict that the checks bear out now, with the culprits; None while there is none to give."""
        known = self.verified.get(inquiry.id)
        if known is None or inquiry.verdict is not None:
            return None
        if known.culprits and inquiry.stage in JUDGED:
            return False, known.culprits
        if inquiry.stage is Stage.REPORTED and known.totals is not None:
            return True, ()
        return None

    def order_verdict(self, inquiry: Inquiry, *, valid: bool, culprits: Sequence[int] = ()) -> None:
        """Have a verdict given by hand: the one that the checks bear out, and no other.

        Raises:
            NotYet: the checks do not bear it out; nothing was ordered.
        """
        borne = self.verdict_of(inquiry)
        if borne is None:
            raise NotYet("there is no verdict to give on this inquiry", remedy="wait until its checks are through")
        if borne != (valid, tuple(sorted(culprits))):
            raise NotYet(
                "the checks of this inquiry say something else than that verdict",
                remedy="look at the page again; the verdict follows the checks",
            )
        self.store.put(
            "verdict-order", to_hex(inquiry.id), {"valid": valid, "culprits": [int(i) for i in sorted(culprits)]}
        )

    def order_void(self, inquiry: Inquiry) -> None:
        """Have an inquiry voided that names nobody, by a person's order (R31.3); nobody is suspended for it.

        Raises:
            NotYet: it has a verdict, or has ended without totals; nothing was ordered.
        """
        if inquiry.verdict is not None or inquiry.stage not in JUDGED:
            raise NotYet("this inquiry cannot be voided any more", remedy="nothing is left to do: it has ended")
        self.store.put("verdict-order", to_hex(inquiry.id), {"valid": False, "culprits": [], "unnamed": True})

    def is_verdict_ordered(self, inquiry: Inquiry) -> bool:
        """Whether somebody ordered the verdict that the checks bear out, or one that names nobody."""
        return inquiry.verdict is None and self._ordered(inquiry) is not None

    def _ordered(self, inquiry: Inquiry) -> tuple[bool, tuple[int, ...]] | None:
        """The verdict that a person ordered; None while none holds."""
        order = self.store.get("verdict-order", to_hex(inquiry.id))
        if order is None:
            return None
        if order.get("unnamed"):
            return (False, ()) if inquiry.stage in JUDGED else None
        ordered = (order["valid"], tuple(order["culprits"]))
        return ordered if ordered == self.verdict_of(inquiry) else None

    def _attest(self, inquiry: Inquiry) -> list[str]:
        verdict = self._ordered(inquiry) or (self.verdict_of(inquiry) if self.gives_verdicts else None)
        if verdict is None or inquiry.verdict is not None or not self._is_final(inquiry):
            return []
        valid, culprits = verdict
        if self._unsigned(inquiry, culprits):
            return []
        bitmap = sum(1 << member for member in culprits)
        if not self._post(f"attest/{to_hex(inquiry.id)}", self._verdict_call(inquiry, valid, bitmap)):
            return []
        if valid:
            return [f"attested {to_hex(inquiry.id)[:12]}"]
        names = ", ".join(inquiry.names[member] for member in culprits) or "nobody"
        return [f"voided {to_hex(inquiry.id)[:12]}; named: {names}"]

    def _is_final(self, inquiry: Inquiry) -> bool:
        """Whether no reorganisation can replace what was judged (R31.2)."""
        events = [inquiry.opened, *inquiry.contributions.values(), *([inquiry.report] if inquiry.report else [])]
        return max(event.at.block for event in events) <= self.follower.final_block

    def _unsigned(self, inquiry: Inquiry, culprits: Sequence[int]) -> bool:
        """Whether a culprit's service account has not signed the transaction under which it would be named (R31.2)."""
        known = self.verified.get(inquiry.id, Verified())
        for member in culprits:
            events = [f.event for f in known.findings if member in f.culprits and f.event is not None]
            if any(self._has_signed(inquiry, member, event) for event in events):
                continue
            text = (
                f"inquiry {to_hex(inquiry.id)[:12]}: {inquiry.names[member]} is not named, since the endpoint shows no "
                "transaction with the signature of its service account; compare with another endpoint"
            )
            if all(finding.text != text for finding in self.findings):
                self.findings.append(Finding(inquiry.id, (), text))
                log.warning("%s", text)
            return True
        return False

    def _has_signed(self, inquiry: Inquiry, member: int, event: Event) -> bool:
        match event:
            case Opened():
                call = Call(inquiry.joint_credit, "open", (member, event.opening.arguments()))
            case Contributed():
                call = Call(inquiry.joint_credit, "contribute", (inquiry.id, member, event.payload))
            case Reported():
                arguments = (inquiry.id, event.commitment, event.sealed_report, event.anchor)
                call = Call(inquiry.joint_credit, "report", arguments)
            case _:
                return False
        account = self.state.members[member].account_at(event.at)
        return account is not None and self.follower.ledger.signed_by(event.at.transaction, call) == account

    def _verdict_call(self, inquiry: Inquiry, valid: bool, culprits: int) -> Call:
        """A verdict is on the report that was judged: the contract refuses it for another one."""
        commitment = inquiry.report.commitment if inquiry.report else ZERO
        arguments = (inquiry.id, self.owner, valid, culprits, commitment, self.anchor())
        return Call(inquiry.joint_credit, "attest", arguments)

    def _post(self, key: str, call: Call) -> bool:
        """Post once, and anew if it was mined but failed (at most ATTEMPTS times); True if it was new and mined."""
        try:
            return self._post_or_raise(key, call)
        except Refused as error:
            log.warning("the ledger did not take %s: %s", key, error)
            return False

    def _post_or_raise(self, key: str, call: Call) -> bool:
        """The same, but what the contract refuses is told.

        Raises:
            Refused: the contract would refuse it now; nothing was stored.
        """
        for attempt in range(1, ATTEMPTS + 1):
            step = key if attempt == 1 else f"{key}/{attempt}"
            row = self.store.outbox_by_key(step)
            if row is None:
                return self.outbox.post(step, call).state == "mined"
            if row.state != "failed":
                return False
        return False

    def _find(self, inquiry: Inquiry | None, culprits: Sequence[int], text: str, event: Event | None = None) -> None:
        finding = Finding(inquiry.id if inquiry else None, tuple(culprits), text, event)
        self.findings.append(finding)
        if inquiry is not None:
            self.verified.setdefault(inquiry.id, Verified()).findings.append(finding)
        log.warning("%s", text)


@contextlib.contextmanager
def _once(checked: set[int], what: int) -> Iterator[None]:
    """Check something once, whatever comes of it, but for a private key that was not to be had."""
    checked.add(what)
    try:
        yield
    except KeyStoreError:
        checked.discard(what)
        raise


def _sum_records(records: Iterable[list[dict[str, int]]]) -> list[dict[str, int]]:
    """Add figures member by member, subject by subject: plain integers."""
    sums: list[dict[str, int]] = []
    for member in records:
        for place, record in enumerate(member):
            if len(sums) <= place:
                sums.append(dict.fromkeys(record, 0))
            for name, value in record.items():
                sums[place][name] += value
    return sums
