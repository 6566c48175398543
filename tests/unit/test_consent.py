"""R17: consent receipts."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcredit.consent import Consent, Purpose
from mpcredit.encoding import canonical_json
from mpcredit.errors import InvalidConsent, InvalidEncoding
from mpcredit.identity import Subject
from mpcredit.pairkeys import Realm

SUBJECT = Subject("national_id", "A123456789", "TW")
NOW = 1_800_000_000
CUSTOMER = Ed25519PrivateKey.from_private_bytes(b"c" * 32)


@pytest.fixture
def consent(bank: SimpleNamespace) -> Consent:
    return Consent.grant(SUBJECT, to=bank, purpose=Purpose.NEW_CREDIT, days=30, now=NOW)


def facts(bank: SimpleNamespace, **changes: Any) -> dict[str, Any]:
    """What an inquiry states that this consent permits."""
    return {
        "realm": bank.realm,
        "inquirer": 0,
        "tag": bank.tagger.tag(SUBJECT),
        "tag_key_version": 1,
        "purpose": Purpose.NEW_CREDIT,
        "at": NOW,
    } | changes


def test_grant__for_a_bank__permits_its_inquiry(bank: SimpleNamespace, consent: Consent) -> None:
    consent.check(**facts(bank))
    consent.check(**facts(bank, at=NOW + 30 * 86_400 - 1))

    assert (consent.valid_from, consent.valid_until) == (NOW, NOW + 30 * 86_400)


def test_grant__twice__gives_two_hashes(bank: SimpleNamespace, consent: Consent) -> None:
    again = Consent.grant(SUBJECT, to=bank, purpose=Purpose.NEW_CREDIT, days=30, now=NOW)

    assert again.salt != consent.salt
    assert again.hash != consent.hash


def test_grant__without_a_time__begins_now(bank: SimpleNamespace) -> None:
    assert Consent.grant(SUBJECT, to=bank, purpose=Purpose.REVIEW, days=1).valid_from > 1_700_000_000


def test_grant__on_a_ledger_that_is_behind__begins_at_its_head(bank: SimpleNamespace) -> None:
    bank.now = NOW - 12

    assert Consent.grant(SUBJECT, to=bank, purpose=Purpose.REVIEW, days=1).valid_from <= NOW - 12


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"realm": Realm(1, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")}, "chain_id"),
        ({"realm": Realm(31337, "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359")}, "consortium"),
        ({"inquirer": 1}, "inquirer"),
        ({"tag": bytes(32)}, "tag"),
        ({"tag_key_version": 0}, "tag_key_version"),
        ({"purpose": Purpose.REVIEW}, "purpose"),
        ({"at": NOW - 1}, "valid_from"),
        ({"at": NOW + 30 * 86_400}, "valid_until"),
    ],
)
def test_check__other_fact__is_refused_by_name(
    changes: dict[str, Any], field: str, bank: SimpleNamespace, consent: Consent
) -> None:
    with pytest.raises(InvalidConsent, match=rf"consent's {field} ") as caught:
        consent.check(**facts(bank, **changes))

    assert caught.value.remedy


def test_receipt__there_and_back__is_the_consent(consent: Consent) -> None:
    for one in (consent, consent.sign(CUSTOMER)):
        assert Consent.parse(one.receipt) == one
        assert Consent.from_json_object(one.to_json_object()) == one
        assert one.receipt == canonical_json(one.to_json_object())
        assert one.hash == hashlib.sha256(b"mpcredit/consent/2" + one.receipt).digest()


def test_receipt__of_a_subject__names_it_by_tag_only(consent: Consent) -> None:
    assert b"A123456789" not in consent.receipt
    assert consent.tag.hex().encode() in consent.receipt


def test_signature__of_the_customer__verifies(bank: SimpleNamespace, consent: Consent) -> None:
    signed = consent.sign(CUSTOMER)

    signed.check(**facts(bank))
    assert signed.hash != consent.hash
    assert signed.sign(CUSTOMER) == signed


@pytest.mark.parametrize(
    "changes",
    [
        {"salt": b"x" * 32},
        {"valid_until": NOW + 99 * 86_400},
        {"evidence": b"e" * 32},
        {"signature": bytes(64)},
        {"signature": None},
        {"customer_key": Ed25519PrivateKey.from_private_bytes(b"d" * 32).public_key().public_bytes_raw()},
        {"customer_key": b"\xff" * 32},
    ],
    ids=lambda c: next(iter(c)),
)
def test_signature__of_another_receipt_or_key__is_refused(
    changes: dict[str, Any], bank: SimpleNamespace, consent: Consent
) -> None:
    changed = replace(consent.sign(CUSTOMER), **changes)

    with pytest.raises(InvalidConsent, match="signature"):
        changed.check(**facts(bank))


def test_signature__taken_off_with_its_key__is_another_receipt(consent: Consent) -> None:
    signed = consent.sign(CUSTOMER)

    assert replace(signed, signature=None, customer_key=None).hash != signed.hash


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chain_id", 0),
        ("chain_id", True),
        ("chain_id", 2**53),
        ("consortium", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"),
        ("inquirer", -1),
        ("inquirer", 216),
        ("tag", b"t" * 31),
        ("tag", "t" * 32),
        ("tag_key_version", 0),
        ("purpose", "new_credit"),
        ("scope", "records"),
        ("valid_from", -1),
        ("valid_from", 1.5),
        ("valid_until", NOW),
        ("evidence", b""),
        ("salt", bytes(33)),
        ("customer_key", b"k"),
        ("signature", bytes(64)),
        ("signature", b"s"),
    ],
)
def test_consent__field_that_is_not_well_formed__is_refused(name: str, value: object, consent: Consent) -> None:
    with pytest.raises(InvalidConsent):
        replace(consent, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": 3},
        {"version": True},
        {"format": "mpcredit/other"},
        {"extra": 1},
        {"purpose": "holiday"},
        {"purpose": None},
        {"tag": "0x00"},
        {"tag": None},
        {"salt": "00" * 32},
        {"evidence": "0x" + "AA" * 32},
        {"customer_key": "0x"},
        {"signature": 5},
        {"inquirer": "0"},
        {"consortium": None},
        {"valid_from": None},
    ],
    ids=str,
)
def test_from_json_object__anything_else__is_refused(change: dict[str, Any], consent: Consent) -> None:
    with pytest.raises(InvalidConsent):
        Consent.from_json_object(consent.to_json_object() | change)


@pytest.mark.parametrize("name", ["chain_id", "salt", "signature", "version"])
def test_from_json_object__member_missing__is_refused(name: str, consent: Consent) -> None:
    value = consent.to_json_object()
    del value[name]

    with pytest.raises(InvalidConsent):
        Consent.from_json_object(value)


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_from_json_object__not_an_object__is_refused(value: object) -> None:
    with pytest.raises(InvalidConsent):
        Consent.from_json_object(value)


@pytest.mark.parametrize("change", [lambda b: b + b" ", lambda b: b.replace(b",", b", ", 1), lambda b: b[:-1]])
def test_parse__bytes_that_are_not_canonical__are_refused(change: Any, consent: Consent) -> None:
    with pytest.raises(InvalidEncoding):
        Consent.parse(change(consent.receipt))


def test_repr__of_a_consent__shows_neither_tag_nor_salt(consent: Consent) -> None:
    signed = consent.sign(CUSTOMER)

    for secret in (signed.tag, signed.salt, signed.customer_key):
        assert repr(secret) not in repr(signed)
