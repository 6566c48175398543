"""The credit policy: from joint totals and what the customer asks for to approve, refer or decline, with reasons.

Pure and exact: integers, `Decimal` from the file, and `Fraction`. The policy is a TOML file (docs/credit-policy.md) and
stays at the institution. Totals that the supervisor has not attested are provisional: the answer is "refer" until then,
whatever they say (R32).

    instalment = ceil(P * i / (1 - (1 + i)^-k))       P requested amount, i = yearly_rate / 12, k months; P / k if i = 0
    burden     = (instalment + ceil(existing_share * outstanding)) / income
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from mpcredit.amounts import CURRENCIES, Money
from mpcredit.errors import InvalidFile, ValueOutOfRange

__all__ = ["DEFAULT_POLICY", "CreditPolicy", "Decision", "Exposure", "Instalments", "Limit", "Outcome", "Reason"]

DEFAULT_POLICY: Final = Path(__file__).parent / "data" / "policy.toml"
"""The example that comes with the package."""

_FORMAT: Final = "mpcredit/policy"
_VERSION: Final = 1
_MAX_MONTHS: Final = 600  # ours: fifty years
_MAX_RATE: Final = Fraction(10)  # ours: 1,000 percent a year is a typing error
_MAX_COUNT: Final = 10**6


class Outcome(StrEnum):
    """What the institution does with the application."""

    APPROVE = "approve"
    REFER = "refer"
    """A person decides."""
    DECLINE = "decline"


@dataclass(frozen=True)
class Exposure:
    """The totals of one subject over the cohort, as the policy reads them."""

    subject_label: str
    """How the institution calls the customer; never enters a reason."""
    currency: str
    """ISO 4217 code of the amounts."""
    outstanding: Money
    """Sum owed."""
    credit_limit: Money
    """Granted limits."""
    overdue: Money
    """Amount past due."""
    loans: int
    """Active loans."""
    pending: int
    """Applications in the last 30 days."""
    lenders: int
    """Institutions with any exposure."""
    institutions: int
    """Institutions in the cohort, the inquirer among them."""
    active: int
    """Active institutions of the consortium at that time."""
    attested: bool
    """Whether the supervisor has attested the total."""

    def __post_init__(self) -> None:
        for money in (self.outstanding, self.credit_limit, self.overdue):
            if money.currency != self.currency:
                raise ValueError(f"{money.currency} in an exposure in {self.currency}")
            if money.minor < 0:
                raise ValueOutOfRange("a total is negative", remedy="take the totals from the result of the inquiry")
        if not 0 < self.institutions <= self.active or min(self.loans, self.pending, self.lenders) < 0:
            raise ValueOutOfRange("counts do not fit", remedy="take the totals from the result of the inquiry")

    @property
    def coverage(self) -> Fraction:
        """Share of the active institutions whose figures are in the totals."""
        return Fraction(self.institutions, self.active)

    @property
    def coverage_text(self) -> str:
        """For people: "7 of 8"."""
        return f"{self.institutions} of {self.active}"


@dataclass(frozen=True)
class Reason:
    """One reason for not simply approving, in words fit for a letter to the customer."""

    code: str
    """Stable word: exposure, overdue, lenders, pending, coverage, instalments, income_missing or not_attested."""
    text: str
    """A sentence or two, which name no institution."""
    field: str
    """The figure that it is about."""
    value: str
    """The figure, for people; empty where there is none."""
    limit: str
    """The limit that it passes, for people; empty where there is none."""
    outcome: Outcome
    """What this reason alone asks for."""


@dataclass(frozen=True)
class Decision:
    """What the policy says, and why."""

    outcome: Outcome
    """The answer."""
    reasons: tuple[Reason, ...]
    """In the order of the policy's sections; empty when approved."""
    notes: tuple[str, ...]
    """What was not looked at, for the officer."""
    provisional: bool
    """The totals are not attested yet; the other reasons may change."""
    policy: str
    """Name and fingerprint of the policy, for the record."""

    def to_json_object(self) -> dict[str, Any]:
        """Return a JSON object for API and audit log."""
        return {
            "notes": list(self.notes),
            "outcome": self.outcome.value,
            "policy": self.policy,
            "provisional": self.provisional,
            "reasons": [
                {
                    "code": reason.code,
                    "field": reason.field,
                    "limit": reason.limit,
                    "outcome": reason.outcome.value,
                    "text": reason.text,
                    "value": reason.value,
                }
                for reason in self.reasons
            ],
        }


@dataclass(frozen=True)
class Limit:
    """Two thresholds of one figure. A figure at the threshold is within it."""

    refer: Fraction
    """Passed: a person decides."""
    decline: Fraction
    """Passed: declined."""

    def above(self, value: Fraction | int) -> tuple[Outcome, Fraction]:
        """Return what a figure that should be low asks for, and the threshold that says so."""
        if value > self.decline:
            return Outcome.DECLINE, self.decline
        return (Outcome.REFER if value > self.refer else Outcome.APPROVE), self.refer

    def below(self, value: Fraction | int) -> tuple[Outcome, Fraction]:
        """Return what a figure that should be high asks for, and the threshold that says so."""
        if value < self.decline:
            return Outcome.DECLINE, self.decline
        return (Outcome.REFER if value < self.refer else Outcome.APPROVE), self.refer


@dataclass(frozen=True)
class Instalments:
    """How instalments are estimated and held against income."""

    limit: Limit
    """Shares of monthly income."""
    required: bool
    """Refer when income or term is not given, instead of leaving this out."""
    yearly_rate: Fraction
    """Interest of the new loan: 0.12 is 12 percent a year."""
    existing_share: Fraction
    """Monthly instalments of the existing debt, estimated as this share of what is outstanding."""


@dataclass(frozen=True)
class CreditPolicy:
    """One institution's limits. A section that the file leaves out is None and not looked at."""

    name: str
    """For people."""
    currency: str
    """ISO 4217 code of its amounts."""
    exposure: Limit | None
    """Minor units: outstanding plus requested."""
    overdue: Limit | None
    """Minor units."""
    lenders: Limit | None
    """Institutions with exposure."""
    pending: Limit | None
    """Applications under way."""
    coverage: Limit | None
    """Share of active institutions, a lower bound."""
    instalments: Instalments | None
    """Against income."""
    fingerprint: str
    """First 16 hexadecimal digits of the SHA-256 of the file."""

    @classmethod
    def from_toml(cls, path: Path = DEFAULT_POLICY) -> CreditPolicy:
        """Read a policy file.

        Raises:
            InvalidFile: unreadable, an unknown or missing key, a wrong type, a negative limit, or limits out of order.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidFile(str(path), f"cannot be read: {error.strerror}", "name an existing policy file") from error
        return cls.parse(data, place=path.name)

    @classmethod
    def parse(cls, data: bytes, *, place: str) -> CreditPolicy:
        """Read the bytes of a policy file; `place` names it in errors."""
        return _Parser(place).parse(data)

    def decide(
        self, exposure: Exposure, *, requested: Money, income: Money | None = None, months: int | None = None
    ) -> Decision:
        """Apply the policy.

        Args:
            exposure: the totals.
            requested: what the customer asks for; zero in a review of existing credit.
            income: monthly net income.
            months: term of the loan.

        Raises:
            InvalidFile: the policy is in another currency than the totals.
            ValueOutOfRange: a negative amount, or a term that is not from 1 to 600 months.
            ValueError: `requested` or `income` is in another currency than the totals.
        """
        self._check(exposure, requested, income, months)
        reasons: list[Reason] = []
        notes: list[str] = []
        # (1) R32: not before the supervisor has attested the total.
        if not exposure.attested:
            reasons.append(_NOT_ATTESTED)
        # (2) the sections of the policy, in the order of the file.
        reasons += self._amounts(exposure, requested) + self._counts(exposure)
        if self.instalments is not None:
            reasons += self._burden(self.instalments, exposure, requested, income, months, notes)
        # (3) the gravest reason decides, but a provisional total declines nobody.
        outcomes = {reason.outcome for reason in reasons}
        outcome = Outcome.APPROVE
        if outcomes:
            outcome = Outcome.DECLINE if Outcome.DECLINE in outcomes and exposure.attested else Outcome.REFER
        label = f"{self.name} ({self.fingerprint})"
        return Decision(outcome, tuple(reasons), tuple(notes), not exposure.attested, label)

    def _check(self, exposure: Exposure, requested: Money, income: Money | None, months: int | None) -> None:
        if exposure.currency != self.currency:
            raise InvalidFile(
                f"credit policy {self.name!r}, currency",
                f"is {self.currency}, the totals are in {exposure.currency}",
                f"use a policy in {exposure.currency}",
            )
        for money in (requested, income):
            if money is None:
                continue
            if money.currency != exposure.currency:
                raise ValueError(f"{money.currency} against totals in {exposure.currency}")
            if money.minor < 0:
                raise ValueOutOfRange("the requested amount and the income cannot be negative", remedy="correct them")
        if months is not None and not 1 <= months <= _MAX_MONTHS:
            raise ValueOutOfRange(f"the term must be from 1 to {_MAX_MONTHS} months", remedy="correct the term")

    def _amounts(self, exposure: Exposure, requested: Money) -> list[Reason]:
        reasons = []
        if self.exposure is not None:
            total = exposure.outstanding + requested
            outcome, limit = self.exposure.above(total.minor)
            most = _money(limit, self.currency)
            text = (
                f"Your debt with all institutions, together with the amount that you ask for, would be {total}. "
                f"{_up_to(outcome, most)}"
            )
            reasons.append(Reason("exposure", text, "outstanding", str(total), most, outcome))
        if self.overdue is not None:
            outcome, limit = self.overdue.above(exposure.overdue.minor)
            most = _money(limit, self.currency)
            text = f"Payments of {exposure.overdue} on your existing debt are overdue. {_up_to(outcome, most)}"
            reasons.append(Reason("overdue", text, "overdue", str(exposure.overdue), most, outcome))
        return [reason for reason in reasons if reason.outcome is not Outcome.APPROVE]

    def _counts(self, exposure: Exposure) -> list[Reason]:
        reasons = []
        if self.lenders is not None:
            outcome, limit = self.lenders.above(exposure.lenders)
            text = f"You have credit with {_many(exposure.lenders, 'institution')}. {_up_to(outcome, str(limit))}"
            reasons.append(Reason("lenders", text, "lenders", str(exposure.lenders), str(limit), outcome))
        if self.pending is not None:
            outcome, limit = self.pending.above(exposure.pending)
            text = (
                f"{_many(exposure.pending, 'application')} of yours for credit from the last 30 days "
                f"{'is' if exposure.pending == 1 else 'are'} known. {_up_to(outcome, str(limit))}"
            )
            reasons.append(Reason("pending", text, "pending", str(exposure.pending), str(limit), outcome))
        if self.coverage is not None:
            outcome, limit = self.coverage.below(exposure.coverage)
            text = (
                f"Only {exposure.coverage_text} institutions could be asked about existing credit, which is less than "
                f"the {_percent(limit)} that we need {_to_do(outcome)}."
            )
            reasons.append(Reason("coverage", text, "institutions", exposure.coverage_text, _percent(limit), outcome))
        return [reason for reason in reasons if reason.outcome is not Outcome.APPROVE]

    def _burden(
        self,
        rule: Instalments,
        exposure: Exposure,
        requested: Money,
        income: Money | None,
        months: int | None,
        notes: list[str],
    ) -> list[Reason]:
        if income is None or months is None:
            missing = " and ".join(
                word for word, value in (("monthly income", income), ("term", months)) if value is None
            )
            if rule.required:
                text = f"We cannot decide before we know your {missing}."
                return [Reason("income_missing", text, "income", "", "", Outcome.REFER)]
            notes.append(f"instalments were not held against income: {missing} not given")
            return []
        new = instalment(requested, rule.yearly_rate, months)
        old = Money.of_minor(math.ceil(rule.existing_share * exposure.outstanding.minor), self.currency)
        monthly = new + old
        if income.minor == 0:
            outcome, limit = (Outcome.DECLINE, rule.limit.decline) if monthly.minor else (Outcome.APPROVE, Fraction(0))
        else:
            outcome, limit = rule.limit.above(Fraction(monthly.minor, income.minor))
        if outcome is Outcome.APPROVE:
            return []
        share = _percent(Fraction(monthly.minor, income.minor), up=True) if income.minor else "more than all"
        text = (
            f"The monthly instalments of the new loan ({new}) and of your existing debt (estimated at {old}) would "
            f"take {share} of your monthly income of {income}. {_up_to(outcome, _percent(limit))}"
        )
        return [Reason("instalments", text, "outstanding", share, _percent(limit), outcome)]


def instalment(amount: Money, yearly_rate: Fraction, months: int) -> Money:
    """Return the monthly instalment of an annuity loan paid at the end of each month, rounded up to a minor unit."""
    monthly = yearly_rate / 12
    if monthly == 0:
        return Money.of_minor(math.ceil(Fraction(amount.minor, months)), amount.currency)
    growth = (1 + monthly) ** months
    return Money.of_minor(math.ceil(amount.minor * monthly * growth / (growth - 1)), amount.currency)


_NOT_ATTESTED: Final = Reason(
    "not_attested",
    "The check of the figures from the other institutions is not finished. We decide when it is.",
    "attested",
    "no",
    "",
    Outcome.REFER,
)


def _to_do(outcome: Outcome) -> str:
    return "to consider an application" if outcome is Outcome.DECLINE else "to decide without a further look"


def _up_to(outcome: Outcome, limit: str) -> str:
    if outcome is Outcome.DECLINE:
        return f"Above {limit} we grant no credit."
    return f"Up to {limit} we decide at once; above that, a member of our staff takes a closer look."


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _money(minor: Fraction, currency: str) -> str:
    return str(Money.of_minor(int(minor), currency))


def _percent(share: Fraction, *, up: bool = False) -> str:
    """Write a share with at most one decimal; `up` keeps a figure above its limit visibly above it."""
    tenths = math.ceil(share * 1000) if up else math.floor(share * 1000)
    whole, rest = divmod(tenths, 10)
    return f"{whole}.{rest} %" if rest else f"{whole} %"


class _Parser:
    """Reads one policy file; everything that is not documented is refused."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.currency = ""

    def error(self, where: str, problem: str, remedy: str) -> InvalidFile:
        return InvalidFile(f"{self.place}, {where}" if where else self.place, problem, remedy)

    def parse(self, data: bytes) -> CreditPolicy:
        try:
            # A TOML float arrives as the Decimal that is written, so no figure is ever rounded to binary.
            value = tomllib.loads(data.decode("utf-8"), parse_float=Decimal)
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise self.error("", f"is not TOML: {error}", "see docs/credit-policy.md") from error
        self.check_keys(
            "top level",
            value,
            {"format", "version", "name", "currency"},
            {"exposure", "overdue", "lenders", "pending", "coverage", "instalments"},
        )
        if value["format"] != _FORMAT:
            raise self.error("format", "is not a credit policy", f'write format = "{_FORMAT}"')
        if type(value["version"]) is not int or value["version"] != _VERSION:
            raise self.error("version", f"is not {_VERSION}", f"write version = {_VERSION}, or upgrade mpcredit")
        name = value["name"]
        if not isinstance(name, str) or not 1 <= len(name) <= 100 or not name.isprintable():
            raise self.error("name", "is not a name", "write one line of up to 100 characters in quotes")
        self.currency = value["currency"]
        if not isinstance(self.currency, str) or self.currency not in CURRENCIES:
            raise self.error("currency", "is not a known currency", 'write its ISO 4217 code, such as "TWD"')
        coverage = self.limit(value, "coverage", self.share)
        if coverage is not None and not coverage.decline <= coverage.refer <= 1:
            raise self.error("coverage", "is out of order", "decline <= refer <= 1: coverage is a lower bound")
        return CreditPolicy(
            name,
            self.currency,
            self.rising(value, "exposure", self.amount),
            self.rising(value, "overdue", self.amount),
            self.rising(value, "lenders", self.count),
            self.rising(value, "pending", self.count),
            coverage,
            self.instalments(value),
            hashlib.sha256(data).hexdigest()[:16],
        )

    def check_keys(self, where: str, value: object, required: set[str], optional: set[str]) -> None:
        if not isinstance(value, dict):
            raise self.error(where, "is not a section", f"write [{where}] on a line of its own")
        missing = sorted(required - set(value))
        unknown = sorted(set(value) - required - optional)
        if unknown:
            known = ", ".join(sorted(required | optional))
            raise self.error(where, f"has the unknown key {unknown[0]!r}", f"known are {known}")
        if missing:
            raise self.error(where, f"lacks {missing[0]!r}", "write it; docs/credit-policy.md says what it means")

    def limit(self, policy: Mapping[str, Any], section: str, read: Any, *more: str) -> Limit | None:
        if section not in policy:
            return None
        self.check_keys(section, policy[section], {"refer", "decline", *more}, set())
        values = policy[section]
        return Limit(read(f"{section}.refer", values["refer"]), read(f"{section}.decline", values["decline"]))

    def rising(self, policy: Mapping[str, Any], section: str, read: Any, *more: str) -> Limit | None:
        limit = self.limit(policy, section, read, *more)
        if limit is not None and limit.refer > limit.decline:
            raise self.error(section, "declines before it refers", "refer <= decline: both are upper bounds")
        return limit

    def instalments(self, policy: Mapping[str, Any]) -> Instalments | None:
        section = "instalments"
        limit = self.rising(policy, section, self.share, "required", "yearly_rate", "existing_share")
        if limit is None:
            return None
        values = policy[section]
        if not isinstance(values["required"], bool):
            raise self.error(f"{section}.required", "is neither true nor false", "write true or false")
        rate = self.share(f"{section}.yearly_rate", values["yearly_rate"])
        existing = self.share(f"{section}.existing_share", values["existing_share"])
        if existing > 1:
            raise self.error(f"{section}.existing_share", "is above 1", "write 3 percent a month as 0.03")
        return Instalments(limit, values["required"], rate, existing)

    def number(self, where: str, value: object) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or not Decimal(value).is_finite():
            raise self.error(where, "is not a number", "write a plain number without quotes")
        if value < 0:
            raise self.error(where, "is negative", "write 0 or more")
        return Decimal(value)

    def amount(self, where: str, value: object) -> Fraction:
        try:
            return Fraction(Money(self.number(where, value), self.currency).minor)
        except ValueOutOfRange as error:
            raise self.error(
                where, error.message, f"write {self.currency} in major units, such as 1_000_000"
            ) from error

    def count(self, where: str, value: object) -> Fraction:
        number = self.number(where, value)
        if not isinstance(value, int) or number > _MAX_COUNT:
            raise self.error(where, "is not a count", "write a whole number")
        return Fraction(value)

    def share(self, where: str, value: object) -> Fraction:
        number = Fraction(self.number(where, value))
        if number > _MAX_RATE:
            raise self.error(where, "is too large", "write a share: 40 percent is 0.40")
        return number
