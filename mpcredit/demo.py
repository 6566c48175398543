"""One joint inquiry from beginning to end, to look at and to check: what `mpcredit demo` runs, without a word printed.

    1  customers apply at the first institution (the inquirer) and consent
    2  it opens an inquiry: a fresh key pair, its own figures encrypted
    3  every other institution answers with ciphertexts
    4  the contract multiplies them as they arrive
    5  the inquirer decrypts the totals and reports them, sealed, to the supervisor
    6  the supervisor verifies and attests; the inquirer decides by its credit policy

Everything is real: contracts on an EVM, keys, loan books read from CSV files, the shipped policy. Two things are there
for the comparison alone. The totals are computed once more in the clear, by `clear_sums`, which shares no code with the
rest. And the inquirer turns its private key on a single institution's ciphertext, once made by the naive scheme (no
masks) and once as it stands on the ledger. Showing all that is left to `cli.demo`.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mpcredit import bookmaker, limits, paillier, protocol
from mpcredit.amounts import Money
from mpcredit.books import LoanBook
from mpcredit.clear_sums import clear_sums
from mpcredit.consent import Consent, Purpose
from mpcredit.encoding import bytes_to_int, hex_bytes, to_hex
from mpcredit.errors import (
    InvalidFile,
    InvalidKey,
    InvalidMessage,
    InvalidSubject,
    LedgerError,
    MpcreditError,
    NotYet,
    ValueOutOfRange,
)
from mpcredit.events import Attested, Contributed, Event, Expired, Opened, Refusal, Reported, Stage
from mpcredit.follower import Follower
from mpcredit.identity import Subject
from mpcredit.inquirer import Request
from mpcredit.institution import exposure_of
from mpcredit.local import DAY, DEFAULT_PARAMETERS, LocalConsortium, bank_names, local_consortium
from mpcredit.policy import DEFAULT_POLICY, CreditPolicy, Decision
from mpcredit.schema import FIGURES_1
from mpcredit.state import Inquiry

__all__ = [
    "DEFAULT_AMOUNT",
    "DEFAULT_INSTITUTIONS",
    "DEFAULT_SUBJECTS",
    "FAILED",
    "GAS_STEPS",
    "Applicant",
    "Heart",
    "Progress",
    "Result",
    "Settings",
    "identity_text",
    "parse_subject",
    "run",
]

DEFAULT_INSTITUTIONS: Final = 8
DEFAULT_SUBJECTS: Final = 4
DEFAULT_AMOUNT: Final = "300000"
"""In major units. With the default books and policy one application is declined, one referred, the others approved."""
GAS_STEPS: Final = ("set_up", "open", "contribute", "report", "attest")
"""Keys of `Result.gas`, in order."""
FAILED: Final = "invalid"
_ATTEMPT: Final = 2  # index of the institution whose upload the inquirer tries to open: Bank C
_LEAST_INSTITUTIONS: Final = 3  # R14
_MOST_INSTITUTIONS: Final = 216  # section 9 of the spec
_LONGEST_NAME: Final = 64  # bytes, contracts/Consortium.sol
_PATIENCE_SECONDS: Final = 900.0
_IDLE_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Settings:
    """What to run."""

    institutions: int = DEFAULT_INSTITUTIONS
    """How many, when the books are made here."""
    subjects: int = DEFAULT_SUBJECTS
    """How many to ask about, when none are named."""
    named: tuple[Subject, ...] = ()
    """Whom to ask about; else `bookmaker.pick_subjects` chooses."""
    bits: int = paillier.DEFAULT_MODULUS_BITS
    """Size of n."""
    chain: str = "tester"
    """"tester", "anvil", or the URL of a node."""
    data: Path | None = None
    """Accounts to make the books of, in the form of mpcredit/data/accounts.csv; else the shipped ones."""
    books: Path | None = None
    """Directory with one loan book for each institution; else they are made."""
    write_books: Path | None = None
    """Empty or new directory for the books that were made."""
    amount: str = DEFAULT_AMOUNT
    """What each customer asks for, in major units of the books' currency."""


@dataclass(frozen=True)
class Progress:
    """Something began or was done."""

    step: int
    """0 for what precedes the six steps."""
    text: str
    """In words."""
    done: bool = False
    """False: this is under way."""
    block: int | None = None
    """Of the ledger."""
    gas: int | None = None


Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class Applicant:
    """One subject and what came of its application."""

    subject: Subject
    why: str
    """Why this one was chosen, for people; empty if it was named."""
    totals: dict[str, int] | None
    """Of the joint inquiry, amounts in minor units; None if the inquiry gave none."""
    expected: dict[str, int]
    """The same in the clear."""
    decision: Decision | None
    """None without totals."""

    @property
    def agrees(self) -> bool:
        """Whether the joint totals are the clear ones."""
        return self.totals == self.expected


@dataclass(frozen=True)
class Heart:
    """What the inquirer's private key makes of one institution's ciphertext, without and with masks."""

    institution: str
    """Whose figures they are."""
    subject: Subject
    """Whose record is read out of the plaintext."""
    figures: dict[str, int] = field(repr=False)
    """As in that institution's loan book."""
    naive: dict[str, int] = field(repr=False)
    """Read from the plaintext of a ciphertext without masks."""
    number: int = field(repr=False)
    """The plaintext of the ciphertext that is on the ledger."""
    misread: dict[str, int] = field(repr=False)
    """What its slots would say if it were figures."""
    figure_bits: int
    """Bits that the figures of all subjects in the block occupy."""
    complaint: str
    """Why that number is no figures; empty if it were some."""

    @property
    def holds(self) -> bool:
        """Whether the naive scheme gave the figures away and this one did not."""
        return self.naive == self.figures and bool(self.complaint) and self.misread != self.figures


@dataclass(frozen=True)
class Result:
    """A run."""

    institutions: tuple[str, ...]
    """Names; the first is the inquirer."""
    currency: str
    bits: int
    chain: str
    """"tester", "anvil", or scheme, host and port of the node."""
    inquiry: bytes
    """q, 32 bytes."""
    requested: Money
    coverage: str
    """In words: "8 of 8 institutions"."""
    applicants: tuple[Applicant, ...]
    gas: dict[str, tuple[int, ...]]
    """Gas of each transaction, by `GAS_STEPS`."""
    verdict: str
    """"valid" or "invalid"."""
    culprits: tuple[str, ...]
    """Institutions that the supervisor named."""
    findings: tuple[str, ...]
    """What the supervisor found."""
    contract_agrees: bool
    """Whether the contract's product is the one computed from the events."""
    heart: Heart
    notes: tuple[str, ...]
    """What a reader should know of the terms of this run."""
    seconds: float
    """How long it took."""

    @property
    def right(self) -> bool:
        """Whether all is as it must be."""
        return (
            self.verdict == "valid"
            and self.contract_agrees
            and self.heart.holds
            and all(applicant.agrees for applicant in self.applicants)
        )

    def to_json_object(self) -> dict[str, Any]:
        """The document that docs/demo.md describes. It holds identities and totals."""
        heart = self.heart
        return {
            "institutions": list(self.institutions),
            "currency": self.currency,
            "bits": self.bits,
            "chain": self.chain,
            "requested": self.requested.minor,
            "subjects": [
                {
                    "subject": identity_text(applicant.subject),
                    "totals": applicant.totals,
                    "expected": applicant.expected,
                    "coverage": self.coverage,
                    "decision": applicant.decision.outcome.value if applicant.decision else None,
                    "reasons": applicant.decision.to_json_object()["reasons"] if applicant.decision else [],
                }
                for applicant in self.applicants
            ],
            "gas": {step: list(used) for step, used in self.gas.items()},
            "supervisor": {"verdict": self.verdict, "culprits": list(self.culprits)},
            "single_upload": {
                "institution": heart.institution,
                "subject": identity_text(heart.subject),
                "figures": heart.figures,
                "naive": heart.naive,
                "masked": hex(heart.number),
                "masked_reads_as_figures": not heart.complaint,
            },
            "notes": list(self.notes),
            "right": self.right,
        }


def identity_text(subject: Subject) -> str:
    """ "kind:country:number", in full."""
    return f"{subject.kind}:{subject.country}:{subject.number}"


def parse_subject(text: str) -> Subject:
    """Read "kind:country:number".

    Raises:
        InvalidSubject: it is not of that form, or the identity is not one.
    """
    parts = text.split(":")
    if len(parts) != 3:
        raise InvalidSubject("a subject is written kind:country:number", remedy="for example national_id:TW:A123456789")
    return Subject(parts[0].strip(), parts[2], country=parts[1])


def run(settings: Settings, listener: Listener = lambda progress: None) -> Result:
    """Run the six steps.

    Args:
        listener: told what begins and what was done, while it runs.

    Raises:
        InvalidFile: data or books are wrong, or `write_books` is not empty; nothing was sent or written.
        MpcreditError: a setting is not possible, the chain is not to be had, or the inquiry ended without a verdict.
    """
    started = time.monotonic()
    # (1) everything that can be refused is refused before anything is sent.
    _check(settings)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpcredit-demo-")))
        paths, books = _books(settings, scratch)
        picks = _picks(settings, books)
        requested = _requested(settings.amount, books[0].currency)
        policy, notes = _policy(books[0].currency)
        parameters, remark = _parameters(books)

        # (2) a consortium of these institutions, ready to answer.
        listener(Progress(0, "founding the consortium"))
        consortium = stack.enter_context(
            local_consortium(
                bits=settings.bits,
                chain=settings.chain,
                books=books,
                parameters=parameters,
                listener=lambda who, what: listener(Progress(0, f"founding the consortium: {who} {what}")),
            )
        )
        watch = _Watch(consortium, listener)
        _await_ready(consortium, watch)
        watch.founded()

        # (3) the inquiry: steps 1 to 6.
        subjects = [subject for subject, _why in picks]
        request = _inquire(consortium, watch, subjects, requested)
        inquiry = watch.inquiry(hex_bytes(request.value["inquiry"], 32))
        coverage = f"{len(inquiry.cohort)} of {len(inquiry.cohort) + len(inquiry.absent)} institutions"

        # (4) the decisions, and the same totals in the clear.
        expected = [_in_the_clear(paths, subject) for subject in subjects]
        names = [part.name for part in FIGURES_1.fields]
        totals: list[dict[str, int] | None] = [None] * len(subjects)
        if request.totals is not None:
            totals = [{name: record[name] for name in names} for record in request.totals]
        applicants = tuple(
            Applicant(subject, why, got, want, _decide(policy, got, requested, inquiry))
            for (subject, why), got, want in zip(picks, totals, expected, strict=True)
        )
        watch.decided(applicants)

        # (5) the attempt on one institution's upload.
        listener(Progress(6, "trying to open a single institution's upload"))
        heart = _attempt(consortium, request, inquiry, subjects)
        frame = protocol.frame_of(inquiry, consortium.ledger.realm)
        product = protocol.product(frame, [inquiry.payload(member) for member in inquiry.cohort])
        result = Result(
            institutions=tuple(consortium.institutions),
            currency=books[0].currency,
            bits=settings.bits,
            chain=_chain_name(settings.chain),
            inquiry=inquiry.id,
            requested=requested,
            coverage=coverage,
            applicants=applicants,
            gas={step: tuple(watch.gas[step]) for step in GAS_STEPS},
            verdict="valid" if inquiry.stage is Stage.VALID else FAILED,
            culprits=tuple(inquiry.names[member] for member in inquiry.culprits),
            findings=tuple(f.text for f in consortium.supervisor.supervisor.findings if f.inquiry == inquiry.id),
            contract_agrees=inquiry.aggregate == protocol.aggregate_bytes(frame, product),
            heart=heart,
            notes=(*notes, *remark),
            seconds=time.monotonic() - started,
        )
        # (6) the books, if they are wanted: last, so that a run that fails leaves nothing behind.
        if settings.write_books is not None:
            _publish(books, settings.write_books)
        return result


# --------------------------------------------------------------------- before the run


def _check(settings: Settings) -> None:
    if settings.bits not in range(paillier.MINIMUM_MODULUS_BITS, paillier.MAXIMUM_MODULUS_BITS + 1, 256):
        raise InvalidKey(
            f"keys of {settings.bits} bits are not permitted",
            remedy=f"take {paillier.MINIMUM_MODULUS_BITS} to {paillier.MAXIMUM_MODULUS_BITS} in steps of 256",
        )
    if settings.books is None and not _LEAST_INSTITUTIONS <= settings.institutions <= _MOST_INSTITUTIONS:
        raise MpcreditError(
            f"a consortium of {settings.institutions} institutions is not possible: with fewer than "
            f"{_LEAST_INSTITUTIONS} a total gives away a single institution, and {_MOST_INSTITUTIONS} are the most",
            remedy=f"take {_LEAST_INSTITUTIONS} to {_MOST_INSTITUTIONS}",
        )
    if settings.books is not None and (settings.data is not None or settings.write_books is not None):
        raise MpcreditError(
            "books that are there already are neither made from data nor written", remedy="leave one of the two out"
        )
    count = len(settings.named) or settings.subjects
    entries = [limits.UNSIGNED_ENTRY_BYTES] * (FIGURES_1.records_per_block(settings.bits) * protocol.MAXIMUM_BLOCKS)
    per_inquiry = limits.capacity(FIGURES_1, settings.bits, entries, settings.institutions)
    if not 1 <= count <= per_inquiry:
        raise MpcreditError(
            f"an inquiry about {count} subjects is not possible with keys of {settings.bits} bits",
            remedy=f"ask about 1 to {per_inquiry}",
        )
    if len(set(settings.named)) != len(settings.named):
        raise InvalidMessage("a subject is named twice", remedy="name each once, however it is spelled")
    if settings.chain.partition(":")[0] not in ("tester", "anvil") and urlsplit(settings.chain).scheme not in (
        "http",
        "https",
    ):
        raise LedgerError(
            f"there is no chain {settings.chain!r}",
            remedy="take tester, anvil, or the URL of a node such as http://127.0.0.1:8545",
        )
    if settings.write_books is not None:
        _check_vacant(settings.write_books)


def _chain_name(chain: str) -> str:
    """Without user, password and path: they may be secret."""
    parts = urlsplit(chain)
    if not parts.hostname:
        return chain
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _books(settings: Settings, scratch: Path) -> tuple[list[Path], list[LoanBook]]:
    """Files and books: the user's, or made, written to files and read back, so that both sums start from one file."""
    if settings.books is not None:
        return _given_books(settings.books)
    source = settings.data or bookmaker.SHIPPED_ACCOUNTS
    made = bookmaker.make_books(
        bookmaker.read_accounts(source),
        institutions=settings.institutions,
        names=bank_names(settings.institutions),
        as_of=int(time.time()),
    )
    paths = [_path(book, scratch) for book in made]
    for book, path in zip(made, paths, strict=True):
        book.write_csv(path)
    try:
        return paths, [LoanBook.read_csv(path) for path in paths]
    except InvalidFile as error:
        raise InvalidFile(
            source.name, f"makes a loan book that cannot be ({error.place}: {error.problem})", error.remedy
        ) from error


def _given_books(directory: Path) -> tuple[list[Path], list[LoanBook]]:
    remedy = "name a directory with one CSV file for each institution (docs/loan-book.md)"
    if not directory.is_dir():
        raise InvalidFile(str(directory), "is not a directory", remedy)
    paths = sorted(path for path in directory.glob("*.csv") if not path.name.startswith("."))
    if not _LEAST_INSTITUTIONS <= len(paths) <= _MOST_INSTITUTIONS:
        raise InvalidFile(
            str(directory),
            f"has {len(paths)} CSV files; a consortium has {_LEAST_INSTITUTIONS} to {_MOST_INSTITUTIONS} institutions",
            remedy,
        )
    books: list[LoanBook] = []
    names: dict[str, Path] = {}
    for path in paths:
        book = LoanBook.read_csv(path, collect=True)
        name = book.institution or path.stem
        if len(name.encode()) > _LONGEST_NAME or not name.isprintable():
            raise InvalidFile(
                f"{path.name}, institution",
                "is no name for the ledger",
                f"write at most {_LONGEST_NAME} bytes of printable text",
            )
        if name in names:
            raise InvalidFile(
                f"{path.name}, institution", f"is that of {names[name].name} too", "give each book a name of its own"
            )
        if books and book.currency != books[0].currency:
            raise InvalidFile(
                f"{path.name}, currency",
                f"is {book.currency}, that of {paths[0].name} is {books[0].currency}",
                "an inquiry has one currency: keep the books of each currency in a directory of their own",
            )
        names[name] = path
        books.append(replace(book, institution=name))
    return paths, books


def _picks(settings: Settings, books: Sequence[LoanBook]) -> list[tuple[Subject, str]]:
    if settings.named:
        return [(subject, "") for subject in settings.named]
    return [(pick.subject, pick.why) for pick in bookmaker.pick_subjects(books, settings.subjects)]


def _requested(amount: str, currency: str) -> Money:
    requested = Money.typed(amount, currency)
    if requested.minor < 0:
        raise ValueOutOfRange("the amount asked for is negative", remedy="write 0 or more")
    return requested


def _policy(currency: str) -> tuple[CreditPolicy, tuple[str, ...]]:
    """The shipped policy; for another currency the same numbers in that one."""
    shipped = CreditPolicy.from_toml()
    if currency == shipped.currency:
        return shipped, ()
    text = DEFAULT_POLICY.read_bytes()
    line = re.compile(rb'^currency = "[A-Z]{3}"', re.MULTILINE)
    policy = CreditPolicy.parse(line.sub(f'currency = "{currency}"'.encode(), text), place=DEFAULT_POLICY.name)
    return policy, (f"The example policy is made for {shipped.currency}; here its limits are read as {currency}.",)


def _parameters(books: Sequence[LoanBook]) -> tuple[Any, tuple[str, ...]]:
    """Terms of the consortium: the defaults, but books of any age, so that old ones can be tried."""
    age = max(int(time.time()) - min(book.as_of for book in books), 0) + DAY
    terms = replace(DEFAULT_PARAMETERS, minimum_cohort=min(DEFAULT_PARAMETERS.minimum_cohort, len(books)))
    usual = terms.book_age_seconds
    if age <= usual:
        return terms, ()
    oldest = min(books, key=lambda book: book.as_of).institution
    note = (
        f"The book of {oldest} is {age // DAY - 1} days old. Usually institutions refuse to answer from books older "
        f"than {usual // DAY} days; the terms of this demo permit it."
    )
    return replace(terms, book_age_seconds=age), (note,)


# --------------------------------------------------------------------- books as files


def _path(book: LoanBook, directory: Path) -> Path:
    return directory / f"{book.institution.lower().replace(' ', '_')}.csv"


def _check_vacant(directory: Path) -> None:
    try:
        occupied = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    except OSError as error:
        raise InvalidFile(str(directory), f"cannot be read: {error.strerror}", "see to path and permissions") from error
    if occupied:
        raise InvalidFile(str(directory), "is not an empty directory", "name a new or empty one")


def _publish(books: Sequence[LoanBook], directory: Path) -> None:
    """Write all books, or none."""
    _check_vacant(directory)
    with contextlib.ExitStack() as undo:
        if not directory.exists():
            try:
                directory.mkdir(parents=True, mode=0o700)
            except OSError as error:
                raise InvalidFile(
                    str(directory), f"cannot be made: {error.strerror}", "see to path and permissions"
                ) from error
            undo.callback(directory.rmdir)
        for book in books:
            path = _path(book, directory)
            undo.callback(path.unlink, missing_ok=True)
            book.write_csv(path)
        undo.pop_all()


def _in_the_clear(paths: list[Path], subject: Subject) -> dict[str, int]:
    """The sums by code that shares nothing with the protocol."""
    sums = clear_sums(paths, [(subject.kind, subject.country, spelling) for spelling in _spellings(subject)])
    return {name: sum(record[name] for record in sums) for name in sums[0]}


def _spellings(subject: Subject) -> Iterator[str]:
    """`clear_sums` compares numbers as they are written and does not know the 15-digit form of a Chinese one."""
    yield subject.number
    if (subject.kind, subject.country) == ("national_id", "CN") and subject.number[6:8] == "19":
        yield subject.number[:6] + subject.number[8:17]


# --------------------------------------------------------------------- the run


class _Watch:
    """Reads the ledger by itself, like any outsider, and tells the listener what stands there."""

    def __init__(self, consortium: LocalConsortium, listener: Listener) -> None:
        self.follower = Follower(consortium.ledger, consortium.pins)
        self.ledger = consortium.ledger
        self._consortium = consortium
        self.deployed = consortium.deployed
        self.names = list(consortium.institutions)
        self.tell = listener
        self.gas: dict[str, list[int]] = {step: [] for step in GAS_STEPS}
        self._told: set[tuple[bytes, int]] = set()

    def founded(self) -> None:
        """Sum up what it took to get here."""
        first = self.deployed.first_joint_credit.block
        self.follower.sync()
        events = [event for event in self.follower.events if event.at.block > first]
        self._told.update((event.at.transaction, event.at.log_index) for event in events)
        used = [self._cost(transaction) for transaction in dict.fromkeys(event.at.transaction for event in events)]
        self.gas["set_up"] = [self.deployed.creation.gas_used, self.deployed.first_joint_credit.gas_used, *used]
        head = self.follower.head
        self._consortium.listener = lambda who, what: self.look()
        self.tell(
            Progress(
                0,
                f"consortium founded: {len(self.names)} institutions, keys audited by the supervisor",
                done=True,
                block=head.number if head else None,
                gas=sum(self.gas["set_up"]),
            )
        )

    def look(self) -> None:
        """Tell what is new, once the consortium is founded."""
        for event in self.follower.sync():
            place = (event.at.transaction, event.at.log_index)
            if place not in self._told:
                self._told.add(place)
                self._told_of(event)

    def inquiry(self, inquiry: bytes) -> Inquiry:
        """As it stands on the ledger."""
        self.look()
        return self.follower.state.inquiries[inquiry]

    def _cost(self, transaction: bytes) -> int:
        outcome = self.ledger.outcome(transaction)
        if outcome is None:
            raise LedgerError(
                f"the receipt of {to_hex(transaction)} is gone", remedy="the chain was reorganised: run it again"
            )
        return outcome.gas_used

    def _told_of(self, event: Event) -> None:
        names, first = self.names, self.names[0]
        match event:
            case Opened():
                cohort = event.opening.cohort.bit_count()
                self._step(2, "open", event, f"{first} opens the inquiry: fresh key, cohort of {cohort} institutions")
                self.tell(Progress(3, "the other institutions look the customers up, mask and encrypt"))
            case Contributed():
                self._step(3, "contribute", event, f"{names[event.member]} answers with masked, encrypted figures")
                inquiry = self.follower.state.inquiries[event.inquiry]
                if inquiry.completed_at == event.at:
                    text = f"the contract has multiplied all {len(inquiry.cohort)}: the sums, encrypted"
                    self.tell(Progress(4, text, done=True, block=event.at.block))
                    self.tell(Progress(5, f"{first} decrypts the totals"))
            case Reported():
                self._step(5, "report", event, f"{first} decrypts the totals, reports them sealed to the supervisor")
                self.tell(Progress(6, "the supervisor recomputes every contribution"))
            case Attested():
                found = "valid" if event.valid else "INVALID"
                self._step(6, "attest", event, f"the supervisor recomputes every contribution, attests: {found}")
            case Refusal():
                self.tell(Progress(3, f"{names[event.member]} refuses", done=True, block=event.at.block))
            case Expired():
                self.tell(Progress(3, "the inquiry has expired", done=True, block=event.at.block))
            case _:
                pass

    def _step(self, step: int, kind: str, event: Event, text: str) -> None:
        gas = self._cost(event.at.transaction)
        self.gas[kind].append(gas)
        self.tell(Progress(step, text, done=True, block=event.at.block, gas=gas))

    def decided(self, applicants: Sequence[Applicant]) -> None:
        """Tell that the inquirer has decided; that stays with it."""
        outcomes = [applicant.decision.outcome.value for applicant in applicants if applicant.decision]
        counts = ", ".join(f"{word} {outcomes.count(word)}" for word in dict.fromkeys(outcomes))
        self.tell(Progress(6, f"{self.names[0]} decides by its credit policy: {counts or 'not'}", done=True))


def _await_ready(consortium: LocalConsortium, watch: _Watch) -> None:
    """On a chain that takes its time for a block, the last steps of the founding are still under way."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        watch.follower.sync()
        if watch.follower.state.cohort(0, watch.follower.next_time).bit_count() == len(watch.names):
            return
        _pause(consortium.work(), until, "the institutions are not ready yet")


def _pause(progress: bool, until: float, note: str) -> None:
    """Wait a little if there was nothing to do, but not for ever."""
    if progress:
        return
    if time.monotonic() > until:
        raise NotYet(note, remedy="see whether the chain makes blocks")
    time.sleep(_IDLE_SECONDS)


def _inquire(consortium: LocalConsortium, watch: _Watch, subjects: Sequence[Subject], requested: Money) -> Request:
    """Steps 1 to 6, every party doing what is due to it until the inquiry has ended."""
    bank = consortium[watch.names[0]]
    bank.sync()
    consents = [
        Consent.grant(subject, to=bank, purpose=Purpose.NEW_CREDIT, days=30, now=bank.follower.now)
        for subject in subjects
    ]
    who = "a customer applies" if len(subjects) == 1 else f"{len(subjects)} customers apply"
    watch.tell(
        Progress(
            1,
            f"{who} at {bank.name} for {requested}{' each' if len(subjects) > 1 else ''} and consent",
            done=True,
        )
    )
    watch.tell(Progress(2, f"{bank.name} makes a fresh key of {bank.inquirer.bits} bits"))
    handle = bank.inquire(subjects, consents=consents, officer="demo")
    until = time.monotonic() + _PATIENCE_SECONDS
    while not handle.request.state.final:
        progress = consortium.work()
        watch.look()
        _pause(progress, until, handle.request.note or f"the inquiry is {handle.request.state}")
    request = handle.request
    inquiry = watch.inquiry(hex_bytes(request.value["inquiry"], 32)) if request.inquiry else None
    if inquiry is None or inquiry.verdict is None:
        raise MpcreditError(f"the inquiry ended without totals: {request.note}")
    return request


def _decide(policy: CreditPolicy, totals: dict[str, int] | None, requested: Money, inquiry: Inquiry) -> Decision | None:
    if totals is None:
        return None
    return policy.decide(
        exposure_of(totals, "", requested.currency, inquiry, attested=inquiry.stage is Stage.VALID), requested=requested
    )


def _attempt(consortium: LocalConsortium, request: Request, inquiry: Inquiry, subjects: Sequence[Subject]) -> Heart:
    """Turn the inquirer's private key on one institution's ciphertext, without and with masks."""
    frame = protocol.frame_of(inquiry, consortium.ledger.realm)
    schema, public = frame.schema, frame.public
    fingerprint = next(a["key"] for a in request.value["attempts"] if a["inquiry"] == request.value["inquiry"])
    private = consortium.keys[inquiry.names[inquiry.inquirer]].inquiry_key(fingerprint)
    assert bytes_to_int(inquiry.opening.n) == private.public.n

    # (1) whom and what to look at: Bank C, else another, and the first subject that it has figures of.
    others = sorted((i for i in inquiry.cohort if i != inquiry.inquirer), key=lambda i: (i != _ATTEMPT, i))
    customers = (
        (other, index)
        for other in others
        for index, subject in enumerate(subjects)
        if any(consortium.books[inquiry.names[other]].lookup(subject).values())
    )
    member, index = next(customers, (others[0], 0))
    name = inquiry.names[member]
    records = [consortium.books[name].lookup(subject) for subject in subjects]
    per_block = schema.records_per_block(public.bits)
    block, place = divmod(index, per_block)
    count = min(per_block, len(subjects) - block * per_block)

    def slots(number: int) -> dict[str, int]:
        number >>= place * schema.record_bits
        figures = {}
        for part in schema.fields:
            figures[part.name] = number & (2**part.slot_bits - 1)
            number >>= part.slot_bits
        return figures

    # (2) the naive scheme: the same figures, packed and encrypted under the same key, without masks.
    packed = schema.pack(records, public.bits)[block]
    unmasked = paillier.encrypt(public, packed, r=paillier.random_root(public))
    naive = slots(paillier.decrypt(private, unmasked))

    # (3) here: the ciphertext that is on the ledger.
    _disclosure, ciphertexts = protocol.split_payload(frame, inquiry.payload(member))
    number = paillier.decrypt(private, ciphertexts[block])
    complaint = ""
    try:
        schema.unpack([number], count, public.bits, 1)
    except ValueOutOfRange as error:
        complaint = error.message
    return Heart(
        institution=name,
        subject=subjects[index],
        figures=records[index],
        naive=naive,
        number=number,
        misread=slots(number),
        figure_bits=count * schema.record_bits,
        complaint=complaint,
    )
