"""A new member's rehearsal: the candidate's own installation among reference institutions, on a ledger that is thrown away.

    1. scratch      a chain process, keys, a founding with the candidate's terms; nothing of the candidate's is written to
    2. the others   four reference institutions and a supervisor, in this process, with figures that are known
    3. candidate    a process of its own (`server.candidate`) with the candidate's configuration, code and loan book
    4. checks       in the order of `certificate.CHECKS`; the others know the totals to be expected, so what the candidate
                    gave is the difference
    5. certificate  if all passed, signed by the candidate's real ledger account; that account sends nothing

Everything lies in a private directory that is deleted at the end, loan book included.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

import mpcredit
from mpcredit.books import LoanBook
from mpcredit.certificate import CHECKS, FORMAT, VERSION, Certificate
from mpcredit.chain import ChainLedger, ChainSigner, connect, deploy
from mpcredit.chain.artifacts import consortium, joint_credit
from mpcredit.chain.client import Endpoint
from mpcredit.config import Config, open_keystore, passphrase, pins_of, read_config
from mpcredit.consent import Consent, Purpose
from mpcredit.desk import Desk
from mpcredit.disclosure import RefusalCode, Seen
from mpcredit.encoding import hex_bytes, keccak, to_hex
from mpcredit.errors import InvalidFile, KeyStoreError, MpcreditError
from mpcredit.events import Call, Contributed, Parameters
from mpcredit.founding import read_founding
from mpcredit.identity import Subject
from mpcredit.inquirer import Inquirer
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.keystore import KdfCost, KeyStore, MemoryKeyStore
from mpcredit.local import DEFAULT_PARAMETERS
from mpcredit.policy import CreditPolicy
from mpcredit.protocol import SPEC_VERSION
from mpcredit.schema import FIGURES_1
from mpcredit.server.candidate import ADAPTER, SQL, book_kind
from mpcredit.server.founders import begin_supervision, begin_tenure, confirm_member
from mpcredit.server.plan import Plan, quoted, write_private
from mpcredit.server.processes import quiet, run_chain
from mpcredit.server.settings import ServerSettings
from mpcredit.state import Inquiry
from mpcredit.store import SqliteStore
from mpcredit.tags import HmacTagger, TagKey
from mpcredit.tenure import tenure_of

__all__ = ["Check", "Outcome", "certify"]

BLOCK_SECONDS: Final = 12.0
"""Within which an answer must be on the ledger: a block of Ethereum's, and long for most consortium chains."""
START_SECONDS: Final = 900.0
"""A loan book of a million customers takes minutes to import."""
STEP_SECONDS: Final = 180.0
"""After which an answer that does not come counts as missing."""
LEAST_MINIMUM: Final = 4
PERIOD_SECONDS: Final = 1
"""Of readiness, on the chain of the rehearsal."""
POLL_SECONDS: Final = 0.1
SINGLES: Final = 3
CHECKED_SCHEMA: Final = FIGURES_1
_ASKS_NOTHING: Final = frozenset({"start", "book_age", "identities", "unit", "figures", "time_pack"})
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class Check:
    """What came of one check."""

    name: str
    """One of `certificate.CHECKS`."""
    outcome: str
    """passed, failed or not run."""
    detail: str
    """What was seen."""
    remedy: str = ""

    @property
    def title(self) -> str:
        """For people."""
        return CHECKS[self.name]


@dataclass
class Outcome:
    """What came of a rehearsal."""

    checks: list[Check]
    """All of `certificate.CHECKS`, in their order."""
    times: dict[str, Any]
    """Milliseconds."""
    facts: dict[str, Any]
    """The statement, without its signature."""
    certificate: Certificate | None = None
    """Only if every check was passed."""

    @property
    def failed(self) -> list[Check]:
        """What must be mended."""
        return [check for check in self.checks if check.outcome == FAILED]

    @property
    def passed(self) -> bool:
        """Whether every check was run and passed."""
        return all(check.outcome == PASSED for check in self.checks)


class _Failure(Exception):  # not an error of ours: it ends one check, and becomes its line
    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.detail, self.remedy = detail, remedy


# --------------------------------------------------------------------- the candidate's process


class _Process:
    """The candidate, however often it is killed and started again."""

    def __init__(self, config: Path, environment: Mapping[str, str], log: Path) -> None:
        self._config = config
        self._environment = dict(environment)
        self._log = log
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._popen: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, Any]:
        """Start it, and wait until it has read its book.

        Raises:
            _Failure: it did not start.
        """
        lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._lines = lines
        with self._log.open("ab") as log:
            self._popen = popen = subprocess.Popen(
                [sys.executable, "-m", "mpcredit.server.candidate", "--config", str(self._config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
                start_new_session=True,
            )

        def read() -> None:
            assert popen.stdout is not None
            for line in popen.stdout:
                with contextlib.suppress(ValueError):  # an adapter that prints
                    value = json.loads(line)
                    if isinstance(value, dict):
                        lines.put(value)
            lines.put(None)

        threading.Thread(target=read, name="candidate", daemon=True).start()
        return self.expect("started", START_SECONDS)

    def expect(self, word: str, seconds: float = STEP_SECONDS) -> dict[str, Any]:
        """Wait for a line with this member.

        Raises:
            _Failure: it ended, said what is wrong, or time is over.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.05, end - time.monotonic()))
            except queue.Empty:
                raise _Failure(
                    f"the candidate's process did not answer within {seconds:.0f} s", "see why it is so slow"
                ) from None
            if line is None:
                raise _Failure(f"the candidate's process ended: {self._last_words()}", "correct that, then try again")
            if "error" in line:
                raise _Failure(line["error"], line.get("remedy", ""))
            if word in line:
                return line

    def ask(self, word: str, **command: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        assert self._popen is not None
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: `expect` says so
            self._popen.stdin.write(json.dumps(command) + "\n")
            self._popen.stdin.flush()
        return self.expect(word)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            for stream in (self._popen.stdin, self._popen.stdout):
                assert stream is not None
                with contextlib.suppress(OSError):
                    stream.close()
            self._popen = None

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


# --------------------------------------------------------------------- an inquirer that breaks rules


class _Forgetful(Desk):
    """Remembers nothing, so that its inquirer does not see that the window rule holds it back."""

    def remember(self) -> list[Seen]:
        return []


class _Rogue(Inquirer):
    """Opens whatever it is given: the candidate, and not this code, is to say no."""

    def _check_request(self, consents: Sequence[Consent]) -> Purpose:
        return consents[0].purpose


def _make_rogue(institution: Institution) -> None:
    desk, inquirer = institution.desk, institution.inquirer
    forgetful = _Forgetful(desk.follower, desk.outbox, desk.store, desk.keys, desk.tagger, desk.minimum_cohort)
    institution.inquirer = _Rogue(forgetful, inquirer.book, bits=inquirer.bits)


# --------------------------------------------------------------------- what is known


def _shipped(name: str) -> str:
    return (resources.files("mpcredit") / "data" / name).read_text(encoding="utf-8")


def _of_now(text: str) -> str:
    _old, _newline, rest = text.partition("\n")
    return f"# as_of: {datetime.fromtimestamp(int(time.time()), UTC).isoformat().replace('+00:00', 'Z')}\n{rest}"


def _as_json(subject: Subject) -> dict[str, str]:
    return {"kind": subject.kind, "country": subject.country, "number": subject.number}


def _reference_books(names: Sequence[str], known: LoanBook) -> list[LoanBook]:
    """Figures of the others, so that no total is the candidate's alone. Each is its own, and known to us."""
    books = []
    for place, name in enumerate(names):
        records = {}
        for number, canonical in enumerate(known.records):
            if (number + place) % 3 == 0:
                continue
            figures = {part.name: 0 for part in CHECKED_SCHEMA.fields}
            figures |= {"outstanding": 100_003 * (place + 1) + number, "credit_limit": 7_001 * (number + 1), "loans": 1}
            figures["lenders"] = 1
            records[canonical] = figures
        books.append(LoanBook(int(time.time()), known.currency, records, name))
    return books


# --------------------------------------------------------------------- the rehearsal


@dataclass
class _Stage:
    """The scratch consortium."""

    candidate: _Process
    index: int
    """Of the candidate."""
    others: list[Institution]
    supervisor: SupervisorNode
    names: list[str]
    books: list[LoanBook]
    known: LoanBook
    parameters: Parameters
    bits: int
    advance: Callable[[int], None]
    say: Callable[[str], None]
    limit: float
    times: dict[str, list[float]] = field(default_factory=lambda: {"one": [], "pack": []})
    opened_at: float = 0.0
    """When the last inquiry was opened, by the monotonic clock."""
    absent: set[int] = field(default_factory=set)

    @property
    def subjects(self) -> list[Subject]:
        """Of the known answers."""
        return list(self.known.subjects())

    def expected_of_others(self, subject: Subject) -> dict[str, int]:
        """What everybody but the candidate gives."""
        total = dict.fromkeys((part.name for part in CHECKED_SCHEMA.fields), 0)
        for book in self.books:
            for name, value in book.lookup(subject).items():
                total[name] += value
        return total

    def expected(self, subject: Subject) -> dict[str, int]:
        """The right total."""
        others, own = self.expected_of_others(subject), self.known.lookup(subject)
        return {name: others[name] + own[name] for name in others}

    # ------------------------------------------------------------- moving

    def work(self, *, furnish: bool = True) -> None:
        """One round of the others, of whom nobody answers if the candidate is to be waited for."""
        for institution in self.others:
            institution.sync()
            institution.desk.outbox.drive(institution.follower.replays)
            institution.membership.step()
            if furnish:
                institution.furnisher.step()
            institution.sync()
            institution.inquirer.step()
        self.supervisor.work()

    def until(
        self,
        done: Callable[[], bool],
        what: str,
        *,
        furnish: bool = True,
        seconds: float = STEP_SECONDS,
        remedy: str = "",
    ) -> None:
        """Work until something holds.

        Raises:
            _Failure: it does not within the time.
        """
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise _Failure(
                    f"{what} within {seconds:.0f} s",
                    remedy or "look at the candidate's book and at this machine's load",
                )
            self.work(furnish=furnish)
            time.sleep(POLL_SECONDS)

    def ready(self, count: int) -> None:
        """Wait until so many are ready."""
        follower = self.others[0].follower

        def enough() -> bool:
            for institution in self.others:
                institution.sync()
            return follower.state.cohort(0, follower.next_time).bit_count() == count

        self.until(
            enough, f"not {count} institutions were ready", seconds=STEP_SECONDS, remedy="see [ledger] and [keys]"
        )

    def open(
        self, who: int, subjects: Sequence[Subject], consents: Sequence[Consent] | None = None
    ) -> tuple[str, Inquiry]:
        """Open an inquiry of one of the others.

        Returns:
            The request, and the inquiry as it stands on the ledger; nobody but its inquirer has answered.
        """
        bank = self.others[who]
        bank.sync()
        given = consents or [self.consent(who, subject) for subject in subjects]
        handle = bank.inquire(subjects, consents=given, officer="rehearsal")

        def opened() -> bool:
            # The block is there as soon as the step returns, and the answer's time runs from then.
            bank.desk.outbox.drive(bank.follower.replays)
            bank.inquirer.step()
            self.opened_at = time.monotonic()
            bank.sync()
            request = handle.request
            return request.inquiry is not None and request.inquiry in bank.desk.state.inquiries

        self.until(opened, f"the inquiry did not open ({handle.request.note})", furnish=False)
        assert handle.request.inquiry is not None
        return handle.id, bank.desk.state.inquiries[handle.request.inquiry]

    def consent(self, who: int, subject: Subject, *, days: int = 7, now: int | None = None) -> Consent:
        """A customer's consent to one of the others."""
        bank = self.others[who]
        start = bank.follower.now if now is None else now
        return Consent.grant(subject, to=bank, purpose=Purpose.NEW_CREDIT, days=days, now=start)

    def current(self, who: int, inquiry: Inquiry) -> Inquiry:
        """As it stands now."""
        self.others[who].sync()
        return self.others[who].desk.state.inquiries[inquiry.id]

    def answered(self, who: int, inquiry: Inquiry) -> float:
        """Wait for the candidate's answer.

        Returns:
            Seconds that it took.

        Raises:
            _Failure: it refused, or did not answer.
        """
        begun = self.opened_at
        while True:
            found = self.current(who, inquiry)
            if self.index in found.contributions:
                return time.monotonic() - begun
            if found.refusal is not None:
                code = RefusalCode(found.refusal.code)
                raise _Failure(f"it refused with code {code} ({code.name.lower()})", _WHY_REFUSED.get(code, ""))
            if time.monotonic() - begun > max(STEP_SECONDS, 2 * self.limit):
                raise _Failure("it did not answer", "see its log above; every inquiry must be answered or refused")
            time.sleep(POLL_SECONDS / 2)

    def totals(self, who: int, request: str) -> list[dict[str, int]]:
        """Let everybody finish an inquiry, and read its totals."""
        bank = self.others[who]

        def final() -> bool:
            return bank.inquirer.get(request).state.final

        self.until(final, "the inquiry did not end")
        found = bank.inquirer.get(request)
        if found.totals is None or found.state != "attested":
            raise _Failure(
                f"the inquiry ended as {found.state}: {found.note}",
                "the supervisor names who deviates from the protocol",
            )
        return found.totals

    def refused(self, who: int, inquiry: Inquiry, code: RefusalCode, looks: int) -> str:
        """Wait for a refusal.

        Raises:
            _Failure: it did not refuse, with another code, or looked into its book first.
        """
        end = time.monotonic() + STEP_SECONDS
        while True:
            found = self.current(who, inquiry)
            if self.index in found.contributions:
                raise _Failure(
                    f"it answered where it had to refuse with code {int(code)}", "its disclosure policy is not R26's"
                )
            if found.refusal is not None:
                break
            if time.monotonic() > end:
                raise _Failure("it neither refused nor answered", "every inquiry must be answered or refused")
            time.sleep(POLL_SECONDS)
        if found.refusal.code != code:
            raise _Failure(
                f"it refused with code {found.refusal.code}, not {int(code)}", "its disclosure policy is not R26's"
            )
        more = int(self.candidate.ask("looks", do="looks")["looks"]) - looks
        if more:
            raise _Failure(
                f"it looked into its book {more} times before it refused",
                "the policy is decided before the loan book is looked at (R26)",
            )
        return f"refused with code {int(code)}, no look into the book"

    def looks(self) -> int:
        """How often the candidate looked into its book."""
        return int(self.candidate.ask("looks", do="looks")["looks"])


_WHY_REFUSED: Final = {
    RefusalCode.BOOK: "its loan book is older than the terms permit: export a newer one",
    RefusalCode.ENCODING: "its currency, schema or version is another: compare versions, and the currency of --known",
    RefusalCode.COHORT: "its [inquiry] minimum_cohort is above what the consortium has",
    RefusalCode.RESTORED: "its store began a new tenure; the rehearsal begins with an empty one",
}


# ----- checks, in their order


def _start(stage: _Stage) -> str:
    stage.say("starting the candidate, which reads its loan book")
    begun = time.monotonic()
    told = stage.candidate.start()
    if told["currency"] != stage.known.currency:
        raise _Failure(
            f"its book is in {told['currency']}, the known answers in {stage.known.currency}",
            "give known answers in the book's currency",
        )
    stage.times["start"] = [time.monotonic() - begun]
    stage.times["as_of"] = [float(told["as_of"])]
    return f"in {time.monotonic() - begun:.1f} s; its book holds as of {_moment(int(told['as_of']))}"


def _book_age(stage: _Stage) -> str:
    age = int(time.time()) - int(stage.times["as_of"][0])
    limit = stage.parameters.book_age_seconds
    text = f"{max(0, age) / 86_400:.1f} days old, {limit / 86_400:.1f} are permitted"
    if age > limit:
        raise _Failure(
            text, "export a newer one, and see to it that it is exported regularly: until then it refuses all"
        )
    return text


def _identities(stage: _Stage) -> str:
    cases = json.loads(_shipped("identities.json"))["cases"]
    answer = stage.candidate.ask("tags", do="tags", identities=cases)
    by_identity: dict[tuple[str, ...], str] = {}
    for case, tag, why in zip(cases, answer["tags"], answer["why"], strict=True):
        where = f"{case['kind']} {case['country']} ({case['cause']})"
        if case["canonical"] is None:
            if tag is not None:
                raise _Failure(f"an invalid number was accepted: {where}", _SAME_IDENTITY)
            continue
        if tag is None:
            raise _Failure(f"a valid number was refused: {where}: {why}", _SAME_IDENTITY)
        canonical = Subject(case["kind"], case["canonical"], country=case["country"])
        key = (canonical.kind, canonical.country, canonical.number)
        if by_identity.setdefault(key, tag) != tag or tag != to_hex(stage.others[0].tagger.tag(canonical)):
            raise _Failure(f"another tag than that of the other members: {where}", _SAME_IDENTITY)
    invalid = sum(case["canonical"] is None for case in cases)
    return f"{len(cases) - invalid} spellings of {len(by_identity)} identities, {invalid} invalid ones refused (InvalidSubject)"


_SAME_IDENTITY: Final = "install the same release as the other members; identities must be canonical by rule R3"


def _ask_pack(stage: _Stage, compare: dict[str, Any]) -> None:
    """One inquiry about everybody, on which the checks of figures and of time rest."""
    stage.say(f"asking about all {len(stage.subjects)} known subjects")
    gave: list[tuple[Subject, dict[str, int]]] = []
    waiting = [(subject, stage.consent(0, subject)) for subject in stage.subjects]
    while waiting:
        fit = stage.others[0].inquirer.capacity([consent for _, consent in waiting])
        part, consents = [s for s, _ in waiting[:fit]], [c for _, c in waiting[:fit]]
        waiting = waiting[fit:]
        request, inquiry = stage.open(0, part, consents)
        stage.times["pack"].append(stage.answered(0, inquiry))
        for subject, total in zip(part, stage.totals(0, request), strict=True):
            others = stage.expected_of_others(subject)
            gave.append((subject, {name: total[name] - others[name] for name in total}))
    compare["gave"] = gave


def _wrong(stage: _Stage, compare: dict[str, Any]) -> list[tuple[Subject, dict[str, int], dict[str, int]]]:
    gave: list[tuple[Subject, dict[str, int]]] = compare["gave"]
    return [(s, found, stage.known.lookup(s)) for s, found in gave if found != stage.known.lookup(s)]


def _customers(stage: _Stage, compare: dict[str, Any]) -> str:
    _ask_pack(stage, compare)
    missing, strangers = [], []
    for subject, found, right in _wrong(stage, compare):
        if any(right.values()) and not any(found.values()):
            missing.append(subject)
        elif any(found.values()) and not any(right.values()):
            strangers.append(subject)
    compare["missing"] = set(missing)
    if missing:
        raise _Failure(
            f"{len(missing)} known customers have no figures: {_some(missing)}",
            "see whether the export leaves them out, or spells identity numbers in a way that the adapter takes for "
            "another number: the tag is made of the canonical number (R3)",
        )
    if strangers:
        raise _Failure(
            f"{len(strangers)} who are no customers have figures: {_some(strangers)}", "see whose figures those are"
        )
    return f"{len(compare['gave'])} known subjects"


def _amounts() -> list[str]:
    return [part.name for part in CHECKED_SCHEMA.fields if part.kind == "amount"]


def _unit(stage: _Stage, compare: dict[str, Any]) -> str:
    ratios = set()
    count = 0
    for subject, found, right in ((s, f, stage.known.lookup(s)) for s, f in compare["gave"]):
        for name in _amounts():
            if subject not in compare["missing"] and right[name]:
                count += 1
                ratios.add(found[name] / right[name])
    factor = next(iter(ratios)) if len(ratios) == 1 else max(ratios, key=lambda r: (r != 1, r), default=1.0)
    powers = [10**n for n in range(1, 7)]
    if 1 not in ratios and any(
        all(abs(r - p) < 0.02 * p or abs(r - 1 / p) < 0.02 / p or r < 0.02 / p for r in ratios) for p in powers
    ):
        raise _Failure(
            f"all amounts differ by one factor, about {factor:g}",
            "an amount is in major units with a decimal point: 1234.50 dollars, not 123450 cents or 1.2345 thousand",
        )
    return f"{count} amounts"


def _figures(stage: _Stage, compare: dict[str, Any]) -> str:
    wrong = [(s, f, r) for s, f, r in _wrong(stage, compare) if s not in compare["missing"]]
    if wrong:
        subject, found, right = wrong[0]
        name = next(name for name in right if found[name] != right[name])
        raise _Failure(
            f"{len(wrong)} subjects have other figures than known; the first: {subject!r}, {name} is {found[name]}, "
            f"known is {right[name]} (minor units)",
            "correct the export or the adapter, or the known answers",
        )
    return f"{len(compare['gave']) - len(compare['missing'])} subjects, {len(CHECKED_SCHEMA.fields)} figures each"


def _time_one(stage: _Stage) -> str:
    stage.say("asking about single subjects")
    for subject in stage.subjects[:SINGLES]:
        request, inquiry = stage.open(1, [subject])
        stage.times["one"].append(stage.answered(1, inquiry))
        stage.totals(1, request)
    return _in_time(stage, "one")


def _time_pack(stage: _Stage) -> str:
    return _in_time(stage, "pack")


def _in_time(stage: _Stage, what: str) -> str:
    found = stage.times[what]
    text = f"median {statistics.median(found):.1f} s, worst {max(found):.1f} s, limit {stage.limit:.0f} s"
    if max(found) > stage.limit:
        raise _Failure(text, "make the look into the book quicker: index it by tag, or import it into the database")
    return text


def _restart(stage: _Stage, place: str, subject: Subject) -> str:
    stage.say(f"killing the candidate ({place}) and starting it again")
    candidate = stage.candidate
    candidate.ask("holding", do="hold", at=place)
    request, inquiry = stage.open(2, [subject])
    try:
        candidate.expect("held")
    finally:
        candidate.kill()
        candidate.start()
    stage.opened_at = time.monotonic()
    seconds = stage.answered(2, inquiry)
    (total,) = stage.totals(2, request)
    events = stage.others[2].follower.events
    count = sum(
        isinstance(event, Contributed) and (event.inquiry, event.member) == (inquiry.id, stage.index)
        for event in events
    )
    if count != 1:
        raise _Failure(f"it answered {count} times", "every ledger step must be in the store before it is sent (R24)")
    if total != stage.expected(subject):
        raise _Failure("after the restart the figures were others", "answers must not depend on the process's memory")
    return f"answered once, {seconds:.1f} s after it was started again"


def _inquirer(stage: _Stage) -> str:
    stage.say("letting the candidate ask")
    subject = stage.subjects[0]
    request = stage.candidate.ask("request", do="inquire", subjects=[_as_json(subject)])["request"]
    last: dict[str, Any] = {}

    def done() -> bool:
        last.update(stage.candidate.ask("state", do="request", id=request))
        return last["state"] in ("attested", "void", "refused", "expired", "failed")

    stage.until(done, "its inquiry did not end")
    if last["state"] != "attested":
        raise _Failure(f"its inquiry ended as {last['state']}: {last['note']}", "see docs/operations.md")
    if last["totals"] != [stage.expected(subject)]:
        raise _Failure(
            "the totals that it opened are not the right ones", "compare its release with that of the others"
        )
    return "opened, decrypted, reported, attested; the totals are right"


def _expired(stage: _Stage) -> str:
    stage.say("asking what it must refuse")
    subject = stage.subjects[0]
    old = stage.consent(3, subject, days=1, now=stage.others[3].follower.now - 3 * 86_400)
    return _refuse(stage, 3, subject, old, RefusalCode.CONSENT)


def _revoked(stage: _Stage) -> str:
    subject, bank = stage.subjects[0], stage.others[3]
    consent = stage.consent(3, subject)
    row = bank.desk.post(
        f"revoke/{to_hex(consent.hash)}",
        Call(str(bank.desk.state.joint_credit), "revokeConsent", (bank.index, consent.hash)),
    )
    stage.until(lambda: _mined(bank, row.key), "the revocation was not mined", furnish=False)
    return _refuse(stage, 3, subject, consent, RefusalCode.CONSENT)


def _mined(bank: Institution, key: str) -> bool:
    row = bank.desk.store.outbox_by_key(key)
    return row is not None and row.state == "mined"


def _foreign(stage: _Stage) -> str:
    subject = stage.subjects[0]
    return _refuse(stage, 3, subject, stage.consent(0, subject), RefusalCode.CONSENT)


def _cooldown(stage: _Stage) -> str:
    subject = stage.subjects[0]
    return _refuse(stage, 1, subject, stage.consent(1, subject), RefusalCode.COOLDOWN)


def _refuse(stage: _Stage, who: int, subject: Subject, consent: Consent, code: RefusalCode) -> str:
    looks = stage.looks()
    _request, inquiry = stage.open(who, [subject], [consent])
    return stage.refused(who, inquiry, code, looks)


def _leave(stage: _Stage, who: int) -> None:
    """One of the others switches off."""
    bank = stage.others[who]
    bank.desk.store.put("meta", "readiness", {"held": True})
    bank.membership.switch(False)
    stage.absent.add(who)
    stage.ready(len(stage.others) + 1 - len(stage.absent))


def _window(stage: _Stage) -> str:
    if stage.parameters.window_seconds == 0:
        return "the terms have no window"
    _leave(stage, len(stage.others) - 1 if len(stage.others) > 4 else 2)
    subject = stage.subjects[0]
    return _refuse(stage, 3, subject, stage.consent(3, subject), RefusalCode.WINDOW)


def _small_cohort(stage: _Stage) -> str:
    _leave(stage, next(who for who in range(len(stage.others)) if who != 3 and who not in stage.absent and who != 0))
    subject = stage.subjects[1]
    return _refuse(stage, 3, subject, stage.consent(3, subject), RefusalCode.COHORT)


def _old_book(stage: _Stage) -> str:
    stage.say("letting time pass, until its book is too old")
    looks = stage.looks()
    stage.advance(stage.parameters.book_age_seconds + 86_400)
    observer = stage.others[0]

    def off() -> bool:
        observer.sync()
        return not observer.desk.state.ready_next() >> stage.index & 1

    stage.until(
        off,
        "it stayed ready with a loan book that is older than the terms permit",
        remedy="the adapter's as_of must say of when the figures are; then it switches itself off",
    )
    if stage.looks() != looks:
        raise _Failure("it looked into its book, which is too old", "the book is not read when it is too old (R26)")
    return "switched off by itself"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _some(subjects: Sequence[Subject]) -> str:
    return ", ".join(repr(subject) for subject in subjects[:5]) + (" and others" if len(subjects) > 5 else "")


# ----- all together


def certify(
    path: Path,
    *,
    known: Path | None = None,
    block_seconds: float = BLOCK_SECONDS,
    fail_fast: bool = False,
    only: Collection[str] = (),
    ask: Callable[[str], str] = passphrase,
    say: Callable[[str], None] = lambda text: None,
    tell: Callable[[Check], None] = lambda check: None,
) -> Outcome:
    """Rehearse an institution, and certify it if it passes.

    Args:
        path: its configuration. Nothing that it names is written to; its ledger is not looked at.
        known: subjects whose figures the institution knows, as a loan book; by default a book and answers that ship.
        block_seconds: within which an answer must be on the ledger.
        fail_fast: stop at the first check that fails.
        only: names of the checks to run, while something is being mended; there is no certificate then.
        ask: for the passphrase of its keys.
        say: told what is going on.
        tell: told of each check.

    Raises:
        InvalidFile, KeyStoreError: the configuration, the known answers or the keys are not right.
        LedgerError: the scratch chain did not start.
    """
    unknown = set(only) - set(CHECKS)
    if unknown:
        raise MpcreditError(f"there is no check {min(unknown)}", remedy=f"choose of {', '.join(CHECKS)}")
    # (1) what can be wrong before anything is made; the account, so that nobody waits in vain for its passphrase.
    config = read_config(path)
    if config.role != "institution":
        raise InvalidFile(f"{config.path}, role", f"is {config.role!r}", "only institutions are rehearsed")
    settings = ServerSettings.load(path)
    kind = book_kind(config, settings)
    if kind == SQL and known is None:
        raise InvalidFile(
            f"{path}, [server] book_sql_url",
            "the shipped known answers cannot be put into that database",
            "give --known FILE with some customers whose figures you know (docs/operations.md)",
        )
    if kind != ADAPTER and kind != SQL and known is not None and config.book is None:
        raise InvalidFile(f"{path}, [book] path", "is missing", "name the loan book that --known is about")
    answers = LoanBook.read_csv(known, collect=True) if known is not None else _shipped_answers()
    if len(answers) < 3:
        raise InvalidFile(str(known), f"has {len(answers)} subjects", "give at least 3, and some who are no customers")
    CreditPolicy.from_toml(config.policy) if config.policy else CreditPolicy.from_toml()
    account, signing = _account(config, ask)
    begun = int(time.time())
    with quiet(), contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpcredit-certify-")))
        stage = _scratch(config, settings, kind, answers, known is None, block_seconds, place, say, stack)
        checks = _run(stage, fail_fast, only, tell)
    facts: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "account": account,
        "package": {"name": "mpcredit", "version": mpcredit.__version__, "python": platform.python_version()},
        "specification": SPEC_VERSION,
        "contracts": {
            "Consortium": to_hex(keccak(consortium().bytecode)),
            "JointCredit": to_hex(keccak(joint_credit().bytecode)),
        },
        "schema": {"id": CHECKED_SCHEMA.id, "name": CHECKED_SCHEMA.name, "hash": to_hex(CHECKED_SCHEMA.hash)},
        "chain": {"kind": "embedded", "rules": "prague", "institutions": len(stage.names), "bits": stage.bits},
        "terms": dict(vars(stage.parameters)),
        "book": {
            "adapter": kind,
            "currency": answers.currency,
            "known_subjects": len(answers),
            "known": "shipped" if known is None else "given",
        },
        "times": _milliseconds(stage),
        "checks": [{"name": check.name, "outcome": check.outcome, "detail": check.detail} for check in checks],
        "started_at": begun,
        "finished_at": int(time.time()),
    }
    outcome = Outcome(checks, _milliseconds(stage), facts)
    if outcome.passed:
        outcome.certificate = Certificate.sign(facts, signing)
    return outcome


def _shipped_answers() -> LoanBook:
    with tempfile.TemporaryDirectory(prefix="mpcredit-known-") as place:
        file = Path(place) / "known_answers.csv"
        file.write_text(_shipped("known_answers.csv"), encoding="utf-8")
        return LoanBook.read_csv(file)


def _milliseconds(stage: _Stage) -> dict[str, Any]:
    found: dict[str, Any] = {"limit": round(1_000 * stage.limit)}
    for name in ("one", "pack"):
        taken = [round(1_000 * seconds) for seconds in stage.times[name]]
        if taken:
            found[name] = {"runs": len(taken), "median": round(statistics.median(taken)), "worst": max(taken)}
    return found


def _run(stage: _Stage, fail_fast: bool, only: Collection[str], tell: Callable[[Check], None]) -> list[Check]:
    compare: dict[str, Any] = {}
    restart = {"look": stage.subjects[0], "send": stage.subjects[1]}
    steps: dict[str, Callable[[], str]] = {
        "start": lambda: _start(stage),
        "book_age": lambda: _book_age(stage),
        "identities": lambda: _identities(stage),
        "customers": lambda: _customers(stage, compare),
        "unit": lambda: _unit(stage, compare),
        "figures": lambda: _figures(stage, compare),
        "time_one": lambda: _time_one(stage),
        "time_pack": lambda: _time_pack(stage),
        "restart_look": lambda: _restart(stage, "look", restart["look"]),
        "restart_send": lambda: _restart(stage, "send", restart["send"]),
        "inquirer": lambda: _inquirer(stage),
        "refuses_expired_consent": lambda: _expired(stage),
        "refuses_revoked_consent": lambda: _revoked(stage),
        "refuses_foreign_consent": lambda: _foreign(stage),
        "refuses_cooldown": lambda: _cooldown(stage),
        "refuses_window": lambda: _window(stage),
        "refuses_small_cohort": lambda: _small_cohort(stage),
        "old_book": lambda: _old_book(stage),
    }
    assert list(steps) == list(CHECKS)
    checks: list[Check] = []
    blocked = ""
    for name, step in steps.items():
        needs_pack = name in ("unit", "figures", "time_pack") and "gave" not in compare
        if only and name not in {*only, "start"}:
            check = Check(name, NOT_RUN, "left out")
        elif blocked or needs_pack:
            check = Check(name, NOT_RUN, f"because this failed: {blocked or 'the inquiry about all known subjects'}")
        else:
            try:
                if name not in _ASKS_NOTHING:
                    stage.ready(len(stage.others) + 1 - len(stage.absent))
                check = Check(name, PASSED, step())
            except _Failure as failure:
                check = Check(name, FAILED, failure.detail, failure.remedy)
            except MpcreditError as error:
                check = Check(name, FAILED, error.message, error.remedy)
            if check.outcome == FAILED and (
                fail_fast or name in ("start", "book_age") or ("gave" not in compare and name == "customers")
            ):
                blocked = check.title
        checks.append(check)
        tell(check)
    stage.candidate.kill()
    return checks


def _account(config: Config, ask: Callable[[str], str]) -> tuple[str, Callable[[bytes], bytes]]:
    """The candidate's real ledger account, which signs the certificate and nothing else."""
    if config.signer is not None:
        address = str(config.account)
        endpoint = Endpoint(connect(config.signer, tls=config.tls))

        def external(data: bytes) -> bytes:
            found = endpoint.raw("sign the certificate", "eth_sign", [address, to_hex(data)])
            return hex_bytes(found if isinstance(found, str) else to_hex(bytes(found)), 65)

        return address, external
    if not config.keys.is_dir():
        raise KeyStoreError(f"{config.keys}: there are no keys", remedy="make them with `mpcredit keys new`")
    account = open_keystore(config, ask).account()
    return account.address, lambda data: bytes(account.sign_message(encode_defunct(primitive=data)).signature)


# ----- scratch


def _terms(config: Config) -> Parameters:
    """The consortium's terms, if the configuration names its founding; a cohort that the rehearsal can make smaller."""
    found = DEFAULT_PARAMETERS
    if config.founding is not None and config.founding.exists():
        found = read_founding(config.founding).parameters
    answer = max(found.answer_seconds, 3_600)
    repeat = max(found.repeat_seconds, answer)
    return replace(
        found,
        minimum_cohort=3,
        subjects_per_day=max(found.subjects_per_day, 10_000),
        answer_seconds=answer,
        repeat_seconds=repeat,
        cooldown_seconds=max(found.cooldown_seconds, repeat),
        report_seconds=max(found.report_seconds, 3_600),
        minimum_modulus_bits=min(found.minimum_modulus_bits, config.bits),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _scratch(
    config: Config,
    settings: ServerSettings,
    kind: str,
    known: LoanBook,
    shipped: bool,
    limit: float,
    place: Path,
    say: Callable[[str], None],
    stack: contextlib.ExitStack,
) -> _Stage:
    # (1) the chain.
    say("starting a chain of its own")
    minimum = max(config.minimum_cohort, LEAST_MINIMUM)
    names = [*(f"Reference {number + 1}" for number in range(minimum)), "Candidate"]
    plan = Plan(institutions=len(names), port=_free_port() - len(names) - 1)
    chain = stack.enter_context(run_chain(plan, place, keep=False))
    endpoint = Endpoint(chain.url)

    # (2) keys and accounts, all of them new.
    say("founding a consortium on it")
    tag_key = TagKey.generate()
    owners: list[LocalAccount] = [Account.create() for _ in names]
    accounts: list[LocalAccount] = [Account.create() for _ in names]
    supervisor_owner: LocalAccount = Account.create()
    supervisor_account: LocalAccount = Account.create()
    deployer: LocalAccount = Account.create()
    here = place / "candidate"
    here.mkdir(mode=0o700)
    secret = secrets.token_urlsafe(24)
    write_private(here / "passphrase", secret + "\n")
    with quiet():
        keys = KeyStore(here / "keys", lambda _purpose: secret, cost=KdfCost.unsafe_light())
        accounts[-1] = keys.create_account()
        own_key = keys.create_institution_key(1)
        keys.save_tag_key(tag_key)
    for account in (deployer, supervisor_owner, supervisor_account, *owners, *accounts):
        chain.fund(account.address)

    # (3) the contracts.
    parameters = _terms(config)
    write_private(here / "founding.toml", _founding_text(names, owners, supervisor_owner.address, tag_key, parameters))
    founding = read_founding(here / "founding.toml")
    deployed = deploy(chain.url, deployer, founding.constructor_argument())
    ledger = ChainLedger(chain.url, deployed.consortium, chain_id=deployed.chain_id, first_block=deployed.first_block)
    scratch = _configuration(config, settings, kind, shipped, here, chain.url, deployed.chain_id, deployed.consortium)
    pins = pins_of(read_config(scratch))

    # (4) the supervisor and the others, in this process.
    supervisor_keys = MemoryKeyStore()
    supervisor_key = supervisor_keys.create_supervisor_key(1)
    supervisor = SupervisorNode(
        ledger=ledger,
        signer=ChainSigner(ledger.web3, supervisor_account, deployed.consortium),
        store=stack.enter_context(SqliteStore(place / "supervisor.sqlite")),
        keys=supervisor_keys,
        pins=pins,
    )
    begin_supervision(ledger, supervisor_owner, supervisor_account.address, supervisor_key.public)
    books = _reference_books(names[:-1], known)
    others = []
    for index in range(minimum):
        member_keys, store = MemoryKeyStore(), stack.enter_context(SqliteStore(place / f"{index}.sqlite"))
        public, named = member_keys.create_institution_key(1).public, accounts[index].address
        confirm_member(ledger, owners[index], index, public, named, tenure_of(store))
        others.append(
            Institution(
                ledger=ledger,
                signer=ChainSigner(ledger.web3, accounts[index], deployed.consortium),
                store=store,
                keys=member_keys,
                tagger=HmacTagger(tag_key),
                book=books[index].index(HmacTagger(tag_key)),
                policy=CreditPolicy.from_toml(),
                pins=pins,
                bits=config.bits,
            )
        )
    _make_rogue(others[3])

    # (5) the candidate, to be started.
    tenure = begin_tenure(scratch)
    confirm_member(ledger, owners[-1], len(names) - 1, own_key.public, accounts[-1].address, tenure)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MPCREDIT_")}
    environment["MPCREDIT_PASSPHRASE_FILE"] = str(here / "passphrase")
    environment["MPCREDIT_LOG"] = "error"
    asked = settings.book_query() if kind == SQL else None
    if asked is not None:
        environment["MPCREDIT_SERVER_BOOK_SQL_URL"] = asked[0]
    candidate = _Process(scratch, environment, place / "candidate.log")
    stack.callback(candidate.kill)
    return _Stage(
        candidate=candidate,
        index=len(names) - 1,
        others=others,
        supervisor=supervisor,
        names=names,
        books=books,
        known=known,
        parameters=parameters,
        bits=config.bits,
        advance=lambda seconds: _advance(endpoint, seconds),
        say=say,
        limit=limit,
    )


def _advance(endpoint: Endpoint, seconds: int) -> None:
    endpoint.raw("let time pass", "mpcredit_advance", [seconds])


def _founding_text(
    names: Sequence[str],
    owners: Sequence[LocalAccount],
    supervisor: str,
    tag_key: TagKey,
    parameters: Parameters,
) -> str:
    lines = [
        'name = "Rehearsal"',
        f'supervisors = ["{supervisor}"]',
        f'tag_key_commitment = "{to_hex(tag_key.commitment)}"',
        "opens_from = 0",
        f"period_seconds = {PERIOD_SECONDS}",
        "",
        "[parameters]",
        *(f"{name} = {value}" for name, value in vars(parameters).items()),
        "",
        "[[schema]]",
        f"id = {CHECKED_SCHEMA.id}",
    ]
    for name, owner in zip(names, owners, strict=True):
        lines += ["", "[[founder]]", f"name = {quoted(name)}", f'owner = "{owner.address}"']
    return "\n".join(lines) + "\n"


def _configuration(
    config: Config,
    settings: ServerSettings,
    kind: str,
    shipped: bool,
    here: Path,
    url: str,
    chain_id: int,
    consortium_address: str,
) -> Path:
    """The candidate's configuration with another store, ledger and keys; book, policy and inquiry are its own."""
    book = config.book.absolute() if config.book is not None else None
    if shipped and kind != SQL:
        book = here / "book.csv"
        write_private(book, _of_now(_shipped("known_book.csv")))
    lines = [
        'role = "institution"',
        'founding = "founding.toml"',
        "[ledger]",
        f"url = {quoted(url)}",
        f"chain_id = {chain_id}",
        f'consortium = "{consortium_address}"',
        "[keys]",
        'directory = "keys"',
        "[inquiry]",
        f"bits = {config.bits}",
        f"minimum_cohort = {max(config.minimum_cohort, LEAST_MINIMUM)}",
        "[book]",
    ]
    if book is not None:
        lines.append(f"path = {quoted(str(book))}")
    if config.book_adapter is not None:
        lines.append(f"adapter = {quoted(config.book_adapter)}")
    if config.policy is not None:
        lines += ["[policy]", f"path = {quoted(str(config.policy.absolute()))}"]
    lines += ["[server]", 'database = "sqlite:///server.sqlite"', f"book = {quoted(settings.book)}"]
    if kind == SQL and settings.book_sql_query is not None:
        # The URL with its password comes by the environment of the process, not by a file.
        lines.append(f"book_sql_query = {quoted(str(settings.book_sql_query.absolute()))}")
        lines.append('book_sql_url = "sqlite://"')
    path = here / "bank.toml"
    write_private(path, "\n".join(lines) + "\n")
    return path
