"""The two roles as whole parties: an institution that inquires and furnishes, and the supervisor.

Compose the use cases over given ports. Building the ports from a configuration is `config`'s work, a whole consortium in
one process is `local`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpcredit import evidence
from mpcredit.amounts import Money
from mpcredit.consent import Consent
from mpcredit.desk import Desk
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidConsent, InvalidMessage, LedgerError, MpcreditError, NotYet, Refused, StoreError
from mpcredit.follower import Follower
from mpcredit.furnisher import Furnisher
from mpcredit.identity import Subject
from mpcredit.inquirer import Inquirer, Request, RequestState
from mpcredit.ledger.roster import Pins
from mpcredit.membership import Membership
from mpcredit.outbox import A_PERSON_MUST_ACT, Outbox
from mpcredit.pairkeys import Realm
from mpcredit.policy import CreditPolicy, Exposure
from mpcredit.ports import Book, Keys, Ledger, Signer, Store
from mpcredit.roles.leaving import LONGEST_SECONDS, Leaving
from mpcredit.state import Inquiry
from mpcredit.supervisor import Supervisor
from mpcredit.tags import Tagger
from mpcredit.tenure import Marks
from mpcredit.versions import THIS_RELEASE, Release

__all__ = [
    "InquiryHandle",
    "InquiryResult",
    "Institution",
    "SupervisorNode",
    "coverage_of",
    "exposure_of",
    "run",
    "wind_down",
]


def exposure_of(record: dict[str, int], label: str, currency: str, inquiry: Inquiry, *, attested: bool) -> Exposure:
    """The opened totals of one subject, with what is known about their coverage and verdict.

    Args:
        attested: whether this institution believes a verdict on its own report (R31), as `Request.attested` says.
    """
    return Exposure(
        subject_label=label,
        currency=currency,
        outstanding=Money.of_minor(record["outstanding"], currency),
        credit_limit=Money.of_minor(record["credit_limit"], currency),
        overdue=Money.of_minor(record["overdue"], currency),
        loans=record["loans"],
        pending=record["pending"],
        lenders=record["lenders"],
        institutions=len(inquiry.cohort),
        active=len(inquiry.cohort) + len(inquiry.absent),
        attested=attested,
    )


def coverage_of(inquiry: Inquiry) -> str:
    """In words: "7 of 8 institutions; not ready: Bank C"."""
    present = len(inquiry.cohort)
    return f"{present} of {present + len(inquiry.absent)} institutions{inquiry.absence}"


@dataclass
class InquiryResult:
    """The totals of an inquiry. `result[subject]` is the exposure of one subject."""

    institution: Institution = field(repr=False)
    request: Request
    inquiry: Inquiry = field(repr=False)

    @property
    def totals(self) -> list[dict[str, int]]:
        """One record of sums per subject, in minor units, in the order of the request."""
        found = self.request.totals
        if found is None:
            raise NotYet(self.request.note or "the totals are not open")
        return found

    @property
    def currency(self) -> str:
        """ISO 4217."""
        return self.inquiry.opening.currency

    @property
    def attested(self) -> bool:
        """Whether the supervisor found the inquiry valid, by its own signature on this report (R31)."""
        return self.request.attested

    @property
    def coverage(self) -> str:
        """In words: "7 of 8 institutions; not ready: Bank C"."""
        return coverage_of(self.inquiry)

    def exposures(self) -> list[Exposure]:
        """One for each subject, in the order of the request (schema 1)."""
        labels = [entry["label"] for entry in self.request.value["subjects"]]
        return [
            exposure_of(record, label, self.currency, self.inquiry, attested=self.attested)
            for record, label in zip(self.totals, labels, strict=True)
        ]

    def __getitem__(self, subject: Subject) -> Exposure:
        desk = self.institution.desk
        tags = [desk.newest_tag(consent) for consent in self.request.consents]
        try:
            return self.exposures()[tags.index(desk.tagger.tag(subject))]
        except ValueError:
            raise KeyError(f"{subject!r} was not asked about in this inquiry") from None

    def __iter__(self) -> Iterator[Exposure]:
        return iter(self.exposures())

    def evidence(self) -> evidence.Evidence:
        """What proves this inquiry to somebody without a ledger node, totals included: hand it only to who may know them.

        Raises:
            NotYet: it has not been reported yet.
            Refused: its openings were destroyed after their retention.
        """
        report = self.institution.desk.store.get("report", to_hex(self.inquiry.id))
        if report is None or self.inquiry.report is None:
            raise NotYet("the inquiry has not been reported yet", remedy="wait for it, then ask again")
        if "openings" not in report:
            raise Refused(
                "the openings of this inquiry were destroyed after their retention",
                remedy="use the evidence that was made before, or ask the supervisor",
            )
        return evidence.collect(
            self.institution.desk.state,
            self.institution.follower.events,
            self.inquiry,
            self.institution.follower.ledger.transaction,
            openings=[(int(m, 16), int(r, 16)) for m, r in report["openings"]],
            salt=hex_bytes(report["salt"], 32),
        )


class InquiryHandle:
    """An inquiry under way."""

    def __init__(self, institution: Institution, request_id: str) -> None:
        self.institution = institution
        self.id = request_id

    @property
    def request(self) -> Request:
        """Where it stands."""
        return self.institution.inquirer.get(self.id)

    def wait(self, timeout: float = 600.0, *, attested: bool = True) -> InquiryResult:
        """Work on it until its totals are attested.

        Args:
            timeout: seconds; when they are over and the totals are open, the result is returned unattested.
            attested: False returns as soon as the totals are open and reported.

        Raises:
            NotYet: no totals within the time; the message says what it waits for. It goes on by itself.
            MpcreditError: the inquiry ended without totals, with the reason and what would help.
        """
        until = time.monotonic() + timeout
        while True:
            progress = self.institution.work()
            request = self.request
            if request.state is RequestState.ATTESTED:
                return self._result(request)
            if request.state.final:
                raise MpcreditError(f"the inquiry ended without totals that count: {request.note}")
            if request.state is RequestState.REPORTED and not attested:
                return self._result(request)
            if time.monotonic() >= until:
                if request.totals is not None and request.state is RequestState.REPORTED:
                    return self._result(request)
                raise NotYet(request.note or f"the request is {request.state}", remedy="see `mpcredit explain`")
            if not progress:
                self.institution.idle()

    def _result(self, request: Request) -> InquiryResult:
        assert request.inquiry is not None
        return InquiryResult(self.institution, request, self.institution.desk.state.inquiries[request.inquiry])


class Institution:
    """A member of the consortium: it furnishes, and may inquire.

    Args:
        ledger, signer, store, keys, tagger, book: its ports.
        policy: its own credit policy.
        pins: accounts it accepts as owners and supervisors.
        follower: reads the ledger; by default a new one of `ledger`, `pins` and `confirmations`.
        bits: size of n of its own inquiries.
        confirmations: blocks before an event counts as final.
        minimum_cohort, minimum_window: its own floors under the terms: members; seconds.
        ready: switch its readiness on and off by itself; False leaves that to people.
        idle: called while there is nothing to do; by default sleeps for half a second.
        clock: unix seconds.
        anchor: head of the audit log at this moment, which each report puts on the ledger; zeros without a log.
        marks: where the mark of the store is kept, outside the store and its backups (R25); None keeps none.
        release: what it reads and writes; another one than this package's is for tests of neighbouring releases.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        signer: Signer,
        store: Store,
        keys: Keys,
        tagger: Tagger,
        book: Book,
        policy: CreditPolicy,
        pins: Pins | None = None,
        follower: Follower | None = None,
        bits: int = 3072,
        confirmations: int = 0,
        minimum_cohort: int = 3,
        minimum_window: int = 0,
        ready: bool = True,
        idle: Callable[[], None] = lambda: time.sleep(0.5),
        clock: Callable[[], float] = lambda: time.time(),
        anchor: Callable[[], bytes] = lambda: bytes(32),
        marks: Marks | None = None,
        release: Release = THIS_RELEASE,
    ) -> None:
        self.follower = follower or Follower(ledger, pins, confirmations)
        self.follower.clock = clock
        outbox = Outbox(store, signer, ledger, confirmations=self.follower.confirmations)
        self.desk = Desk(self.follower, outbox, store, keys, tagger, minimum_cohort, minimum_window, marks, release)
        outbox.hindrance = lambda: self.desk.stopped
        self.policy = policy
        self.furnisher = Furnisher(self.desk, book)
        self.inquirer = Inquirer(self.desk, book, bits=bits, anchor=anchor)
        self.membership = Membership(self.desk, ready=ready, book_trouble=self._book_trouble)
        self.idle = idle
        self._started = False

    @property
    def realm(self) -> Realm:
        """Chain id and Consortium."""
        return self.follower.ledger.realm

    @property
    def tagger(self) -> Tagger:
        """What turns a subject into the consortium's tag."""
        return self.desk.tagger

    @property
    def index(self) -> int:
        """Member index."""
        return self.desk.index

    @property
    def now(self) -> int:
        """The time of its ledger's head, Unix seconds."""
        return self.follower.now

    @property
    def name(self) -> str:
        """As registered."""
        return self.desk.member.name

    def start(self, *, new_tenure: str = "") -> None:
        """Compare store and ledger once per process (R25).

        Args:
            new_tenure: why a person begins a new tenure of the store; empty if nobody does. The owner must name it.
        """
        if new_tenure:
            with self.desk.store.transaction():
                self.desk.outbox.adopt()
                self.desk.tenure.begin(new_tenure)
        elif not self._started:
            self.desk.outbox.compare()
        self._started = True

    def _book_trouble(self) -> str:
        """Why the loan book in use cannot be answered from; empty if it can."""
        book, terms = self.furnisher.book, self.desk.state.parameters
        if found := getattr(book, "hindrance", ""):
            return str(found)
        if terms is not None and book.as_of + terms.book_age_seconds < self.follower.next_time:
            return "the loan book is older than the terms permit: every inquiry would be refused until a newer one is given"
        return ""

    def use_book(self, book: Book) -> None:
        """Answer from a newer loan book from now on; answers that were made stay as they are (R24)."""
        self.furnisher.book = book
        self.inquirer.book = book

    def use_tagger(self, tagger: Tagger, book: Book) -> None:
        """Use the tag key that has come into force, and the loan book under its tags, both at once (R4)."""
        self.desk.tagger = tagger
        self.use_book(book)

    def sync(self) -> None:
        """Read the ledger up to its head."""
        self.start()
        self.follower.sync()

    def work(self) -> list[str]:
        """One round of everything that is due: standing duties, answers, own inquiries.

        Returns:
            One line for each thing done; empty when there was nothing to do.

        Raises:
            StoreError: the store must take no new nonce, until a person begins a new tenure (R25).
        """
        self.sync()
        self.desk.outbox.drive(self.follower.replays)
        if why := self.desk.stopped:
            raise StoreError(f"nothing is answered: {why}", remedy=A_PERSON_MUST_ACT)
        self.desk.look_back()
        done = [*self.membership.step(), *self.furnisher.step()]
        self.sync()
        done += self.inquirer.step()
        self.sync()
        return done

    def leave(self, clock: Callable[[], float] = time.monotonic) -> Leaving:
        """Begin the orderly end of the service: switch off with the next round, and open nothing more.

        Returns:
            What says when the rounds may end, and which inquiries are left then.
        """
        self.membership.leaving = True
        self.inquirer.hold = lambda _request: "the service is stopping; it is opened after the next start"
        return Leaving(self.desk, clock)

    def inquire(
        self,
        subjects: Sequence[Subject],
        *,
        consents: Sequence[Consent],
        officer: str,
        group: int = 0,
        schema: int = 1,
        labels: Sequence[str] | None = None,
    ) -> InquiryHandle:
        """Ask for the totals of one or many subjects.

        Args:
            subjects: distinct.
            consents: one receipt for each, in the same order, all for one purpose.
            officer: who asks; stays here.
            labels: how to call them in results; by default the masked identity.

        Raises:
            InvalidConsent: a receipt does not permit this.
            InvalidMessage: no subject, one twice, or too many.
        """
        self.sync()
        for subject, consent in zip(subjects, consents, strict=False):
            if self.desk.newest_tag(consent) != self.tagger.tag(subject):
                raise InvalidConsent(
                    "the consent's tag is not that of the inquiry", remedy="give the receipt of this subject"
                )
        request = self.inquirer.request(
            list(labels) if labels is not None else [repr(subject) for subject in subjects],
            consents,
            officer=officer,
            group=group,
            schema=schema,
        )
        return InquiryHandle(self, request.id)

    def result(self, request_id: str) -> InquiryResult:
        """The totals of an earlier request.

        Raises:
            NotYet, MpcreditError: as `InquiryHandle.wait`.
        """
        self.sync()
        request = self.inquirer.await_final(request_id)
        if request.inquiry is None or request.inquiry not in self.desk.state.inquiries:
            raise InvalidMessage("the inquiry is not on this ledger any more", remedy="see `mpcredit doctor`")
        return InquiryResult(self, request, self.desk.state.inquiries[request.inquiry])


class SupervisorNode:
    """The supervisor: reads its own node, audits, verifies, attests; `anchor` as of an `Institution`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        signer: Signer,
        store: Store,
        keys: Keys,
        pins: Pins | None = None,
        confirmations: int = 0,
        attest: bool = True,
        idle: Callable[[], None] = lambda: time.sleep(0.5),
        anchor: Callable[[], bytes] = lambda: bytes(32),
        release: Release = THIS_RELEASE,
    ) -> None:
        self.follower = Follower(ledger, pins, confirmations)
        self.outbox = Outbox(store, signer, ledger, confirmations=confirmations, adopts=True)
        self.supervisor = Supervisor(
            self.follower, self.outbox, store, keys, attest=attest, anchor=anchor, release=release
        )
        self.idle = idle
        self._started = False

    def work(self) -> list[str]:
        """One round of everything that is due.

        Returns:
            One line for each thing done or found.
        """
        if not self._started:
            self.outbox.compare()
            self._started = True
        self.follower.sync()
        self.outbox.drive(self.follower.replays)
        done = self.supervisor.step()
        self.follower.sync()
        return done


def run(
    party: Any,
    *,
    stop: Callable[[], bool] = lambda: False,
    end: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> None:
    """Work until told to stop, then end in order; a ledger that is down is waited for.

    Args:
        party: an `Institution` or a `SupervisorNode`.
        stop: asked between rounds.
        end: asked between the rounds after that; True ends at once.
        say: takes one line for each thing done.
    """
    rounds = _Rounds(party, say)
    while not stop():
        rounds.next()
    wind_down(party, end=end, say=say, work=rounds.next)


def wind_down(
    party: Any,
    *,
    end: Callable[[], bool],
    say: Callable[[str], None],
    work: Callable[[], object],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """End a service in order (R28.3): an institution switches itself off and answers what was opened over it until then.

    Takes at most `LONGEST_SECONDS`, and says which inquiries are left. A supervisor has nothing to wind down.

    Args:
        end: asked between rounds; True ends at once, for example at a second signal.
        work: one round of the service, which also pauses if there was nothing to do.
        clock: seconds that only grow.
    """
    if not isinstance(party, Institution) or end():
        return
    leaving = party.leave(clock)
    say(f"stopping: switched off first, answering for at most {LONGEST_SECONDS} s more")
    while True:
        work()
        if leaving.over or end():
            break
    for line in leaving.last_words():
        say(line)


class _Rounds:
    """Rounds of a party; a ledger that is down is told once and waited for."""

    def __init__(self, party: Any, say: Callable[[str], None]) -> None:
        self._party = party
        self._say = say
        self._down = False

    def next(self) -> None:
        """One round; pauses if there was nothing to do."""
        lines: list[str] = []
        try:
            lines = self._party.work()
            if self._down:
                self._say("the ledger is back")
                self._down = False
        except LedgerError as error:
            if not self._down:
                self._say(f"waiting for the ledger: {error}")
                self._down = True
        for line in lines:
            self._say(line)
        if not lines:
            self._party.idle()
