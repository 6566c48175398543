"""Credit policy: thresholds, the annuity, provisional totals (R32), and files that must be refused."""

from __future__ import annotations

import dataclasses
from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest

from mpcredit.amounts import Money
from mpcredit.errors import InvalidFile, ValueOutOfRange
from mpcredit.policy import CreditPolicy, Exposure, Outcome, instalment

HEAD = 'format = "mpcredit/policy"\nversion = 1\nname = "test"\ncurrency = "TWD"\n'
INSTALMENTS = "[instalments]\nrefer = 0.40\ndecline = 0.60\nrequired = {}\nyearly_rate = 0.12\nexisting_share = 0.03\n"


def twd(major: str | int) -> Money:
    return Money(major, "TWD")


def policy(text: str) -> CreditPolicy:
    return CreditPolicy.parse((HEAD + text).encode(), place="policy.toml")


CALM = Exposure("A…789", "TWD", twd(100_000), twd(200_000), twd(0), 1, 0, 1, 8, 8, True)


def exposure(**changes: object) -> Exposure:
    return dataclasses.replace(CALM, **changes)  # type: ignore[arg-type]


def outcomes(text: str, totals: Exposure, requested: Money | None = None) -> tuple[Outcome, list[str]]:
    decision = policy(text).decide(totals, requested=requested or twd(0))
    return decision.outcome, [reason.code for reason in decision.reasons]


def test_default_policy__calm_customer__approves() -> None:
    decision = CreditPolicy.from_toml().decide(exposure(), requested=twd(200_000), income=twd(60_000), months=24)

    assert decision.outcome is Outcome.APPROVE
    assert decision.reasons == ()
    assert decision.notes == ()
    assert not decision.provisional


@pytest.mark.parametrize(
    ("section", "changes", "expected"),
    [
        ("[overdue]\nrefer = 0\ndecline = 50", {"overdue": twd(0)}, Outcome.APPROVE),
        ("[overdue]\nrefer = 0\ndecline = 50", {"overdue": twd("0.01")}, Outcome.REFER),
        ("[overdue]\nrefer = 0\ndecline = 50", {"overdue": twd("50")}, Outcome.REFER),
        ("[overdue]\nrefer = 0\ndecline = 50", {"overdue": twd("50.01")}, Outcome.DECLINE),
        ("[lenders]\nrefer = 4\ndecline = 8", {"lenders": 4}, Outcome.APPROVE),
        ("[lenders]\nrefer = 4\ndecline = 8", {"lenders": 5}, Outcome.REFER),
        ("[lenders]\nrefer = 4\ndecline = 8", {"lenders": 9, "institutions": 9, "active": 9}, Outcome.DECLINE),
        ("[pending]\nrefer = 0\ndecline = 1", {"pending": 1}, Outcome.REFER),
        ("[pending]\nrefer = 0\ndecline = 1", {"pending": 2}, Outcome.DECLINE),
        ("[coverage]\nrefer = 0.875\ndecline = 0.5", {"institutions": 7}, Outcome.APPROVE),
        ("[coverage]\nrefer = 0.876\ndecline = 0.5", {"institutions": 7}, Outcome.REFER),
        ("[coverage]\nrefer = 0.875\ndecline = 0.5", {"institutions": 4}, Outcome.REFER),
        ("[coverage]\nrefer = 0.875\ndecline = 0.5", {"institutions": 3}, Outcome.DECLINE),
    ],
)
def test_decide__at_and_past_each_threshold__changes_only_past_it(
    section: str, changes: dict[str, object], expected: Outcome
) -> None:
    outcome, codes = outcomes(section, exposure(**changes))

    assert outcome is expected
    assert codes == ([] if expected is Outcome.APPROVE else [section[1 : section.index("]")]])


@pytest.mark.parametrize(
    ("requested", "expected"),
    [("900000", Outcome.APPROVE), ("900000.01", Outcome.REFER), ("1900000.01", Outcome.DECLINE)],
)
def test_decide__requested_amount__counts_on_top_of_what_is_owed(requested: str, expected: Outcome) -> None:
    outcome, _ = outcomes("[exposure]\nrefer = 1_000_000\ndecline = 2_000_000", exposure(), twd(requested))

    assert outcome is expected


def test_decide__not_attested__refers_and_keeps_the_other_reasons_as_provisional() -> None:
    """R32."""
    bad = exposure(overdue=twd(100), attested=False)

    decision = policy("[overdue]\nrefer = 0\ndecline = 50").decide(bad, requested=twd(0))

    assert decision.outcome is Outcome.REFER
    assert decision.provisional
    assert [(reason.code, reason.outcome) for reason in decision.reasons] == [
        ("not_attested", Outcome.REFER),
        ("overdue", Outcome.DECLINE),
    ]


def test_decide__not_attested_and_calm__refers() -> None:
    assert outcomes("", exposure(attested=False)) == (Outcome.REFER, ["not_attested"])


def test_reasons__for_a_letter__have_figures_and_limits_and_no_name() -> None:
    decision = policy("[exposure]\nrefer = 1\ndecline = 200_000").decide(exposure(), requested=twd(150_000))

    (reason,) = decision.reasons
    assert "250,000.00 TWD" in reason.text
    assert "200,000.00 TWD" in reason.text
    assert "A…789" not in reason.text
    assert (reason.field, reason.value, reason.limit) == ("outstanding", "250,000.00 TWD", "200,000.00 TWD")
    assert decision.to_json_object()["reasons"][0]["outcome"] == "decline"


# --- instalments


def schedule_rest(amount: int, rate: Decimal, months: int, payment: int) -> Decimal:
    """What is owed after the last payment, by keeping the account month by month."""
    with localcontext() as context:
        context.prec = 60
        owed = Decimal(amount)
        for _ in range(months):
            owed = owed * (1 + rate / 12) - payment
        return owed


@pytest.mark.parametrize(
    ("amount", "rate", "months"),
    [(20_000_000, "0.12", 24), (1, "0.05", 1), (999_999, "0.199", 7), (10**12, "0.02", 600)],
)
def test_instalment__kept_as_an_account__is_the_least_that_pays_it_off(amount: int, rate: str, months: int) -> None:
    payment = instalment(Money.of_minor(amount, "TWD"), Fraction(rate), months).minor

    assert schedule_rest(amount, Decimal(rate), months, payment) <= 0
    assert schedule_rest(amount, Decimal(rate), months, payment - 1) > 0


def test_instalment__published_example__agrees() -> None:
    """100,000 at 6 % over 30 years: 599.55 a month, as in any table of mortgage payments."""
    exact = instalment(Money("100000", "USD"), Fraction("0.06"), 360)

    assert exact.minor == int(Decimal("599.5505").quantize(Decimal("0.01"), ROUND_CEILING) * 100)


def test_instalment__no_interest__is_divided_and_rounded_up() -> None:
    assert instalment(twd("100"), Fraction(0), 3) == twd("33.34")


def test_decide__burden__adds_estimated_old_instalments() -> None:
    # 3 % of 100,000 is 3,000; 12,000 without interest over 12 months is 1,000; together 40 % of 10,000.
    rule = policy(INSTALMENTS.format("false").replace("0.12", "0"))

    at = rule.decide(exposure(), requested=twd(12_000), income=twd(10_000), months=12)
    past = rule.decide(exposure(), requested=twd("12000.12"), income=twd(10_000), months=12)
    far = rule.decide(exposure(), requested=twd(12_000), income=twd("6666.66"), months=12)

    assert (at.outcome, past.outcome, far.outcome) == (Outcome.APPROVE, Outcome.REFER, Outcome.DECLINE)
    assert past.reasons[0].value == "40.1 %"
    assert past.reasons[0].limit == "40 %"


def test_decide__no_income__notes_it_or_refers_if_required() -> None:
    free = policy(INSTALMENTS.format("false")).decide(exposure(), requested=twd(1), months=12)
    bound = policy(INSTALMENTS.format("true")).decide(exposure(), requested=twd(1))

    assert free.outcome is Outcome.APPROVE
    assert free.notes == ("instalments were not held against income: monthly income not given",)
    assert bound.outcome is Outcome.REFER
    assert bound.reasons[0].code == "income_missing"
    assert "monthly income and term" in bound.reasons[0].text


def test_decide__income_of_zero__declines() -> None:
    decision = policy(INSTALMENTS.format("true")).decide(exposure(), requested=twd(1), income=twd(0), months=1)

    assert decision.outcome is Outcome.DECLINE


# --- wrong arguments and files


def test_decide__wrong_arguments__are_refused() -> None:
    rule = policy("")

    with pytest.raises(ValueOutOfRange):
        rule.decide(exposure(), requested=twd(-1))
    with pytest.raises(ValueOutOfRange):
        rule.decide(exposure(), requested=twd(1), months=0)
    with pytest.raises(ValueError, match="USD"):
        rule.decide(exposure(), requested=Money(1, "USD"))
    with pytest.raises(ValueOutOfRange):
        exposure(institutions=9)
    usd = dataclasses.replace(
        CALM, currency="USD", outstanding=Money(0, "USD"), credit_limit=Money(0, "USD"), overdue=Money(0, "USD")
    )
    with pytest.raises(InvalidFile, match="TWD"):
        rule.decide(usd, requested=Money(1, "USD"))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[exposures]\nrefer = 1\ndecline = 2", "top level"),
        ("surprise = 1", "top level"),
        ("exposure = 3", "exposure"),
        ("[exposure]\nrefer = 1", "exposure"),
        ("[exposure]\nrefer = 1\ndecline = 2\nmaybe = 3", "exposure"),
        ("[exposure]\nrefer = -1\ndecline = 2", "exposure.refer"),
        ('[exposure]\nrefer = "1"\ndecline = 2', "exposure.refer"),
        ("[exposure]\nrefer = 1.005\ndecline = 2", "exposure.refer"),
        ("[exposure]\nrefer = nan\ndecline = 2", "exposure.refer"),
        ("[exposure]\nrefer = 1\ndecline = inf", "exposure.decline"),
        ("[exposure]\nrefer = true\ndecline = 2", "exposure.refer"),
        ("[exposure]\nrefer = 3\ndecline = 2", "exposure"),
        ("[lenders]\nrefer = 1.5\ndecline = 2", "lenders.refer"),
        ("[coverage]\nrefer = 0.5\ndecline = 0.8", "coverage"),
        ("[coverage]\nrefer = 80\ndecline = 0", "coverage"),
        (INSTALMENTS.format("1"), "instalments.required"),
        (INSTALMENTS.format("true").replace("0.12", "12"), "instalments.yearly_rate"),
        (INSTALMENTS.format("true").replace("0.03", "3"), "instalments.existing_share"),
        ("[exposure", "is not TOML"),
    ],
)
def test_parse__wrong_file__names_place_and_remedy(text: str, place: str) -> None:
    with pytest.raises(InvalidFile, match=place) as caught:
        policy(text)

    assert caught.value.remedy


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mpcredit/policy", "other"),
        ("version = 1", "version = 2"),
        ('"test"', "7"),
        ('"TWD"', '"XXX"'),
        ('"TWD"', "[]"),
        ("version = 1\n", ""),
    ],
)
def test_parse__wrong_head__is_refused(old: str, new: str) -> None:
    with pytest.raises(InvalidFile):
        CreditPolicy.parse(HEAD.replace(old, new).encode(), place="policy.toml")


def test_from_toml__missing_file__names_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"none\.toml"):
        CreditPolicy.from_toml(tmp_path / "none.toml")


def test_documented_example__is_valid() -> None:
    text = (Path(__file__).parents[2] / "docs" / "credit-policy.md").read_text()

    CreditPolicy.parse(text.split("```toml\n")[1].split("```")[0].encode(), place="docs")
