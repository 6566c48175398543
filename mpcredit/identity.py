"""Subjects, and the one canonical form of each identity number (R3).

Two institutions that write one number in two ways would see zero exposure where there is some, so everything that may
differ between two clerks is removed: Unicode compatibility forms, case and separators, the 15-digit form of a Chinese
number. An invalid number is refused and never hashed. No rule here depends on tables that change between versions of a
library (places of birth, for example): then two institutions would disagree.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from stdnum.cn import ric, uscc
from stdnum.exceptions import ValidationError

from mpcredit.errors import InvalidSubject

__all__ = ["COUNTRIES", "KINDS", "Subject"]

KINDS: Final = ("national_id", "passport", "company")

# ISO 3166-1 alpha-2. "UK" is not a code: GB is, and two spellings of one country would make two subjects.
_COUNTRY_CODES: Final = """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO
    JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR
    MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO
    RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV
    TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
COUNTRIES: Final = frozenset(_COUNTRY_CODES.split())

_LABEL: Final = b"mpcredit/identity/2"
# Besides all Unicode spaces and dashes: full stop, slash, and the middle dots that East Asian input methods produce.
_SEPARATORS: Final = frozenset("./·•‧∙⋅・")
_GENERIC = re.compile(r"[A-Z0-9]{4,32}", re.ASCII)
# A spreadsheet writes a number that it took for an amount as 1000014.0 or 1.0E+06. Without its point or sign it would read
# as another number.
_SPREADSHEET = re.compile(r"[0-9]+\.0+|[0-9]{1,3}(?:\.[0-9]+)?[eE][+-]?[0-9]{1,3}|[0-9.]+[eE][+-][0-9]+", re.ASCII)
_DIGITS: Final[dict[tuple[str, str], int]] = {
    ("national_id", "BR"): 11,
    ("national_id", "ID"): 16,
    ("national_id", "JP"): 12,
    ("national_id", "KR"): 13,
    ("national_id", "MO"): 8,
    ("national_id", "PL"): 11,
    ("national_id", "TH"): 13,
    ("national_id", "TR"): 11,
    ("company", "KR"): 10,
}
"""Numbers that have digits alone and one length: a shorter one has lost its zeros."""
_HK_PERSON = re.compile(r"([A-Z]{1,2})([0-9]{6})([0-9A])", re.ASCII)
_BRACKETS = re.compile(r"\(([0-9A-Za-z])\)$", re.ASCII)
_TW_PERSON = re.compile(r"[A-Z][1289][0-9]{8}", re.ASCII)
_TW_COMPANY = re.compile(r"[0-9]{8}", re.ASCII)
_CN_PERSON_15 = re.compile(r"[0-9]{15}", re.ASCII)
_CN_PERSON_18 = re.compile(r"[0-9]{17}[0-9X]", re.ASCII)
# The code of each first letter of a Taiwanese number, A = 10 and so on in the order in which they were given out.
_TW_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVXYWZIO"


@dataclass(frozen=True)
class Subject:
    """A person or company whose exposure can be asked for; canonical from construction on."""

    kind: str
    """One of `KINDS`."""
    number: str
    """The number on the document, canonical: upper case, no separators."""
    country: str
    """ISO 3166-1 alpha-2 code of the country that issued it."""

    def __post_init__(self) -> None:
        # 1. The kind is one of three words, as written.
        if self.kind not in KINDS:
            raise InvalidSubject("unknown kind of identity", remedy=f"use one of {', '.join(KINDS)}")
        # 2. The country is an ISO code.
        country = _compact(self.country, "country")
        if country not in COUNTRIES:
            raise InvalidSubject("unknown country", remedy="use an ISO 3166-1 code of two letters such as TW or CN")
        # 3. The number is compacted, then checked by the rule of its kind and country.
        number = _compact(_unbracketed(self.number, self.kind, country), "number")
        rule = {
            ("national_id", "TW"): _taiwan_person,
            ("national_id", "CN"): _china_person,
            ("company", "TW"): _taiwan_company,
            ("company", "CN"): _china_company,
            ("national_id", "HK"): _hong_kong_person,
        }.get((self.kind, country), _generic)
        length = _DIGITS.get((self.kind, country))
        object.__setattr__(self, "country", country)
        object.__setattr__(self, "number", rule(number) if length is None else _of_length(number, length))

    def __repr__(self) -> str:
        return f"<Subject {self.kind} {self.country} …{self.number[-3:]}>"

    __str__ = __repr__

    @property
    def canonical(self) -> bytes:
        """The bytes that a tag is computed over: label|kind|COUNTRY|NUMBER; no part can contain the bar."""
        return _LABEL + f"|{self.kind}|{self.country}|{self.number}".encode("ascii")


def _unbracketed(text: str, kind: str, country: str) -> str:
    """Cards of Hong Kong and Macau print the check digit in brackets."""
    if not isinstance(text, str) or (kind, country) not in (("national_id", "HK"), ("national_id", "MO")):
        return text
    return _BRACKETS.sub(r"\1", unicodedata.normalize("NFKC", text).strip())


def _compact(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise InvalidSubject(f"the {what} must be text", remedy="a spreadsheet may have turned it into a number")
    normal = unicodedata.normalize("NFKC", text)
    if _SPREADSHEET.fullmatch(normal.strip()):
        raise InvalidSubject(
            f"the {what} is written as a spreadsheet writes amounts, with a point or an exponent",
            remedy="make the column text in the spreadsheet, then export it again",
        )
    kept = "".join(
        c for c in normal if not (c.isspace() or c in _SEPARATORS or unicodedata.category(c) in ("Pd", "Zs"))
    )
    # Before the change of case: "ß" and the dotless "ı" would turn into ASCII letters.
    strange = next((c for c in kept if not c.isascii()), None)
    if strange is not None:
        raise InvalidSubject(f"the {what} contains {_shown(strange)}, which no such number has")
    return kept.upper()


def _shown(letter: str) -> str:
    """A letter with its name: many look like a Latin one, or like nothing."""
    name = unicodedata.name(letter, "")
    seen = f"'{letter}'" if letter.isprintable() else f"U+{ord(letter):04X}"
    return f"{seen} ({name.lower()})" if name else seen


def _generic(number: str) -> str:
    strange = re.search(r"[^A-Z0-9]", number, re.ASCII)
    if strange is not None:
        raise InvalidSubject(f"the number contains {_shown(strange[0])}, which no such number has")
    if _GENERIC.fullmatch(number) is None:
        raise InvalidSubject("the number must be 4 to 32 letters and digits")
    return number


def _of_length(number: str, length: int) -> str:
    number = _generic(number)
    if not number.isdecimal() or len(number) != length:
        raise InvalidSubject(
            f"such a number has {length} digits",
            remedy="a spreadsheet may have taken away zeros: make the column text, then export it again",
        )
    return number


def _hong_kong_person(number: str) -> str:
    match = _HK_PERSON.fullmatch(number)
    if match is None:
        raise InvalidSubject(
            "a Hong Kong number is one or two letters, six digits and the check digit in brackets",
            remedy="write the check digit too, as A123456(3)",
        )
    letters, digits, check = match.groups()
    values = [36 if letter == " " else ord(letter) - 55 for letter in letters.rjust(2)]
    values += [*map(int, digits), 10 if check == "A" else int(check)]
    if sum(value * weight for value, weight in zip(values, (9, 8, 7, 6, 5, 4, 3, 2, 1), strict=True)) % 11:
        raise InvalidSubject("the check digit of the Hong Kong number does not fit", remedy="look for a mistyped digit")
    return number


def _taiwan_person(number: str) -> str:
    if _TW_PERSON.fullmatch(number) is None:
        raise InvalidSubject(
            "a Taiwanese number is a letter, then 1, 2, 8 or 9, then eight digits",
            remedy="a resident certificate with two letters has been replaced by a number of the new form: use that",
        )
    code = _TW_LETTERS.index(number[0]) + 10
    total = code // 10 + 9 * (code % 10)
    total += sum(int(digit) * weight for digit, weight in zip(number[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True))
    if total % 10:
        raise InvalidSubject("the check digit of the Taiwanese number does not fit", remedy="look for a mistyped digit")
    return number


def _taiwan_company(number: str) -> str:
    # The Ministry of Finance relaxed the rule on 2023-04-01 from "divisible by 10" to "divisible by 5";
    # python-stdnum 2.2 has the old one and would refuse newer companies.
    if _TW_COMPANY.fullmatch(number) is None:
        raise InvalidSubject("a Taiwanese unified business number is eight digits")
    products = [int(digit) * weight for digit, weight in zip(number, (1, 2, 1, 2, 1, 2, 4, 1), strict=True)]
    total = sum(product // 10 + product % 10 for product in products)
    # 7 x 4 = 28 gives 2 + 8 = 10, which may count as 1 or as 0: so the total, 10 included, or one more.
    if total % 5 and not (number[6] == "7" and (total + 1) % 5 == 0):
        raise InvalidSubject("the check digit of the unified business number does not fit")
    return number


def _china_person(number: str) -> str:
    if _CN_PERSON_15.fullmatch(number):
        # GB 11643-1989 gave the sequence numbers 996 to 999 to people born before 1900.
        if number[12:] in ("996", "997", "998", "999"):
            raise InvalidSubject("a 15-digit number of a person born before 1900 has no single 18-digit form")
        number = number[:6] + "19" + number[6:]
        number += ric.calc_check_digit(number + "0")
    if _CN_PERSON_18.fullmatch(number) is None:
        raise InvalidSubject("a Chinese number is 18 digits (the last may be X), or 15 in its old form")
    if number[-1] != ric.calc_check_digit(number):
        raise InvalidSubject("the check digit of the Chinese number does not fit", remedy="look for a mistyped digit")
    try:
        ric.get_birth_date(number)
    except ValidationError:
        raise InvalidSubject("the date of birth in the Chinese number does not exist") from None
    return number


def _china_company(number: str) -> str:
    try:
        return str(uscc.validate(number))
    except ValidationError:
        raise InvalidSubject("not a valid unified social credit code of 18 characters") from None
