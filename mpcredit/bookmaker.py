"""Make loan books of several institutions from real credit-card accounts.

The amounts are real (mpcredit/data/README.md names the source). Synthetic, and assigned from a seed, are: which
accounts belong to one person, which institution holds them, the identity numbers and the pending applications.

Accounts to people: every person gets one account, and each further account goes to a person with a probability in
proportion to the accounts it has already ("who has, is given"). With two accounts a person on average, half of the
people have one, a quarter two, and about one in a hundred eight or more.

Accounts to institutions: large institutions are drawn more often; one further account in ten is a second one where the
person is a customer already, all others are at an institution that is new to it, while there is one.

Figures of an account:
    outstanding  = max(BILL_AMT1, 0): a credit balance is no debt
    credit_limit = LIMIT_BAL
    overdue      = 0 unless PAY_0 >= 1 (a month or more past due at the latest statement), else what of the previous
                   balance is unpaid, max(0, BILL_AMT2 - PAY_AMT1), and at most outstanding. Where that is 0 (5 in 100
                   of these accounts) the statement calls the account past due and does not say by how much: then all
                   that is outstanding counts, so that nothing overdue is hidden.
    loans        = 1
    pending      = 1 with probability 1/32
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from mpcredit.amounts import Money
from mpcredit.books import LoanBook
from mpcredit.errors import InvalidFile, ValueOutOfRange
from mpcredit.identity import Subject

__all__ = ["COLUMNS", "SHIPPED_ACCOUNTS", "Account", "Pick", "make_books", "pick_subjects", "read_accounts"]

COLUMNS: Final = (
    *("LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE", "PAY_0"),
    *(f"PAY_{month}" for month in range(2, 7)),
    *(f"BILL_AMT{month}" for month in range(1, 7)),
    *(f"PAY_AMT{month}" for month in range(1, 7)),
    "default",
)
"""Header of the data set."""

SHIPPED_ACCOUNTS: Final = Path(__file__).parent / "data" / "accounts.csv"
"""2,000 accounts that come with the package."""

CURRENCY: Final = "TWD"
_AS_OF: Final = 1128038400  # 2005-09-30, the month of the latest statement in the data set
_SECOND_ACCOUNT: Final = 0.1
_PENDING: Final = 1 / 32
_APPLICANTS: Final = 1 / 64  # people of each book who have applied there and have no account
# Codes of the letters in Taiwanese identity numbers (Ministry of the Interior): tens digit + 9 * units digit, mod 10.
_LETTERS: Final = dict(zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", range(10, 36), strict=True))


@dataclass(frozen=True)
class Account:
    """What is used of one row of the data set; amounts in minor units."""

    credit_limit: int
    """LIMIT_BAL."""
    outstanding: int
    """max(BILL_AMT1, 0)."""
    overdue: int
    """By the rule of the module's docstring."""


@dataclass(frozen=True)
class Pick:
    """A subject worth an inquiry."""

    subject: Subject
    """Who."""
    why: str
    """What is interesting, for people."""
    lenders: int
    """Number of institutions with exposure."""


def read_accounts(path: Path = SHIPPED_ACCOUNTS) -> list[Account]:
    """Read a file with the columns of `credit_card_clients.csv`.

    Raises:
        InvalidFile: another header, a cell that is no number, or no rows.
    """
    remedy = "give the UCI file 'Default of Credit Card Clients' as CSV, with the columns of mpcredit/data/README.md"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            if tuple(next(reader, ())) != COLUMNS:
                raise InvalidFile(f"{path.name}, row 1, header", f"is not {','.join(COLUMNS)}", remedy)
            accounts = [_account(path.name, reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise InvalidFile(str(path), f"cannot be read: {error.strerror}", "name an existing file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidFile(path.name, "is not a CSV file", remedy) from error
    if not accounts:
        raise InvalidFile(path.name, "has no rows", remedy)
    return accounts


def _account(name: str, row: int, cells: Sequence[str]) -> Account:
    if len(cells) != len(COLUMNS):
        raise InvalidFile(
            f"{name}, row {row}",
            f"has {len(cells)} cells, the header {len(COLUMNS)}",
            "restore the row from the source",
        )
    values = {}
    for column, cell in zip(COLUMNS, cells, strict=True):
        # All amounts are New Taiwan dollars; Money refuses what is not a finite number of at most two decimals.
        try:
            values[column] = Money(Decimal(cell), CURRENCY).minor
        except (InvalidOperation, ValueOutOfRange) as error:
            raise InvalidFile(
                f"{name}, row {row}, {column}", f"{cell[:40]!r} is not an amount", "restore the row from the source"
            ) from error
    for column in ("LIMIT_BAL", "PAY_AMT1"):
        if values[column] < 0:
            raise InvalidFile(f"{name}, row {row}, {column}", "is negative", "restore the row from the source")
    outstanding = max(values["BILL_AMT1"], 0)
    overdue = 0
    if values["PAY_0"] >= 100:
        unpaid = max(values["BILL_AMT2"] - values["PAY_AMT1"], 0)
        overdue = min(unpaid, outstanding) or outstanding
    return Account(values["LIMIT_BAL"], outstanding, overdue)


def make_books(
    accounts: Sequence[Account],
    *,
    institutions: int = 8,
    people: int | None = None,
    seed: int = 1,
    as_of: int = _AS_OF,
    names: Sequence[str] | None = None,
) -> list[LoanBook]:
    """Assign accounts to people and institutions, the same way for the same arguments.

    Args:
        accounts: from `read_accounts`.
        institutions: number of books.
        people: number of people with accounts; half as many as accounts unless told.
        seed: of all that is synthetic.
        as_of: Unix seconds as of which the books say that they hold; by default the date of the data set.
        names: of the institutions; "Bank A", "Bank B", … unless told.

    Raises:
        ValueError: no institution, fewer accounts than people, or another number of names than institutions.
    """
    people = max(1, len(accounts) // 2) if people is None else people
    names = [f"Bank {_letters(number)}" for number in range(institutions)] if names is None else names
    if institutions < 1 or len(names) != institutions:
        raise ValueError("there is at least one institution, and each has a name")
    if not 1 <= people <= len(accounts):
        raise ValueError("there is at least one person, and an account for each")
    rng = random.Random(seed)
    # 1. People, and whose each account is. `owners` holds one entry for each account, so a uniform draw from it is in
    #    proportion to the accounts that a person has already.
    identities = _identities(rng, people + institutions * (people // 64 + 1))
    owners = list(range(people))
    while len(owners) < len(accounts):
        owners.append(rng.choice(owners))
    shuffled = rng.sample(list(accounts), len(accounts))
    # 2. Where each account is. Weights fall with the number: the first institution is the largest.
    weights = [1 / (number + 2) for number in range(institutions)]
    figures: list[dict[Subject, dict[str, int]]] = [{} for _ in range(institutions)]
    for owner, account in zip(owners, shuffled, strict=True):
        subject = identities[owner]
        known = [number for number in range(institutions) if subject in figures[number]]
        new = [number for number in range(institutions) if number not in known]
        if known and (not new or rng.random() < _SECOND_ACCOUNT):
            place = rng.choice(known)
        else:
            place = rng.choices(new, [weights[number] for number in new])[0]
        record = figures[place].setdefault(subject, _no_figures())
        record["outstanding"] += account.outstanding
        record["credit_limit"] += account.credit_limit
        record["overdue"] += account.overdue
        record["loans"] += 1
        record["lenders"] = 1
        record["pending"] = max(record["pending"], int(rng.random() < _PENDING))
    # 3. Applicants without an account there: new people, and some who have accounts elsewhere.
    strangers = iter(identities[people:])
    for book in figures:
        for _ in range(round(len(book) * _APPLICANTS)):
            applicant = next(strangers) if rng.random() < 0.5 else identities[rng.randrange(people)]
            book.setdefault(applicant, {**_no_figures(), "pending": 1})
    # 4. Rows in the order of the numbers, which says nothing about the accounts.
    return [
        LoanBook(as_of, CURRENCY, {s.canonical: book[s] for s in sorted(book, key=lambda s: s.canonical)}, name)
        for name, book in zip(names, figures, strict=True)
    ]


def pick_subjects(books: Sequence[LoanBook], count: int = 4, *, seed: int = 1) -> list[Pick]:
    """Choose subjects worth an inquiry: the one with most lenders, the most overdue, one with one lender, one unknown.

    Further ones have as many different numbers of lenders as there are, two first. Fewer are returned when the books
    have fewer customers.
    """
    totals: dict[bytes, dict[str, int]] = {}
    subjects: dict[bytes, Subject] = {}
    for book in books:
        for subject in book.subjects():
            subjects[subject.canonical] = subject
            total = totals.setdefault(subject.canonical, _no_figures())
            for name, value in book.lookup(subject).items():
                total[name] += value
    picks: dict[bytes, Pick] = {}

    def add(candidates: Iterable[bytes], why: str) -> None:
        for canonical in candidates:
            if canonical not in picks:
                lenders = totals[canonical]["lenders"]
                picks[canonical] = Pick(subjects[canonical], why.format(lenders), lenders)
                return

    ranked = sorted(totals, key=lambda c: (-totals[c]["lenders"], -totals[c]["outstanding"], c))
    add(ranked, "customer of most institutions: {}")
    overdue = [c for c in ranked if totals[c]["overdue"] > 0 and totals[c]["lenders"] > 1]
    add(sorted(overdue, key=lambda c: (-totals[c]["overdue"], c)), "most overdue, with {} lenders")
    add((c for c in ranked if totals[c]["lenders"] == 1 and totals[c]["overdue"] == 0), "in order, with {} lender")
    rng = random.Random(seed)
    unknown = next(s for s in _identities(rng, len(subjects) + 1) if s.canonical not in subjects)
    picks[unknown.canonical] = Pick(unknown, "known to no institution", 0)
    add((c for c in ranked if totals[c]["lenders"] == 0), "has only applied, {} lenders")
    order = sorted({total["lenders"] for total in totals.values() if total["lenders"] > 0}, key=lambda n: (n != 2, n))
    while order and len(picks) < count:
        before = len(picks)
        for lenders in order:
            add((c for c in ranked if totals[c]["lenders"] == lenders), "with {} lenders")
        if len(picks) == before:
            break
    return list(picks.values())[:count]


def _no_figures() -> dict[str, int]:
    return {"outstanding": 0, "credit_limit": 0, "overdue": 0, "loans": 0, "pending": 0, "lenders": 0}


def _letters(number: int) -> str:
    """0 is A, 25 is Z, 26 is AA."""
    head, last = divmod(number, 26)
    return (_letters(head - 1) if head else "") + chr(ord("A") + last)


def _identities(rng: random.Random, count: int) -> list[Subject]:
    """Draw distinct synthetic Taiwanese national identity numbers with the right check digit."""
    found: dict[str, None] = {}
    while len(found) < count:
        letter = rng.choice("ABCDEFGHIJKMNOPQTUVWXZ")  # the letters still given out; L, R, S and Y are not
        digits = [rng.choice((1, 2)), *(rng.randrange(10) for _ in range(7))]
        tens, units = divmod(_LETTERS[letter], 10)
        total = tens + 9 * units + sum(d * w for d, w in zip(digits, range(8, 0, -1), strict=True))
        found[f"{letter}{''.join(map(str, digits))}{-total % 10}"] = None
    return [Subject("national_id", number, country="TW") for number in found]
