"""The inquirer asks with a consent that does not permit it (R17, R26; protocol.md section 5).

Of another inquirer, used, revoked, expired, not yet valid, for another purpose, subject, consortium or tag key, with a
forged signature of the customer, or not the one whose hash is on the ledger. The variant is the same furnisher without the
check. Not an attack on the customer but on the inquirer: another member writes the hash of its receipt into his own
inquiry first, so that it looks used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from attackers import ANSWERED, open_crafted
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes import DAY, TERMS, FakeTown, figures, found_town, subject, two_keys

from mpcredit import disclosure
from mpcredit.consent import Consent, Purpose
from mpcredit.disclosure import RefusalCode
from mpcredit.furnisher import Furnisher
from mpcredit.inquirer import RequestState
from mpcredit.state import Inquiry

CUSTOMER = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
OTHER_CONSORTIUM = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    with two_keys(monkeypatch):
        yield found_town(5, terms=replace(TERMS, cooldown_seconds=TERMS.repeat_seconds))


def used(town: FakeTown) -> Consent:
    consent = town.consent(1)
    open_crafted(town[0], [(consent.tag, consent)])
    town.settle()
    town.chain.advance(TERMS.repeat_seconds)  # its time is over
    return consent


def revoked(town: FakeTown) -> Consent:
    consent = town.consent(1)
    town[0].desk.outbox.post("revoke", town.call("revokeConsent", 0, consent.hash))
    return consent


def signed(consent: Consent) -> Consent:
    return consent.sign(CUSTOMER)


CONSENTS: dict[str, Callable[[FakeTown], Consent]] = {
    "of another inquirer": lambda town: town.consent(1, to=1),
    "used": used,
    "revoked": revoked,
    "expired": lambda town: town.consent(1, valid_from=town.chain.time - DAY, valid_until=town.chain.time),
    "not yet valid": lambda town: town.consent(1, valid_from=town.chain.time + DAY),
    "for another purpose": lambda town: town.consent(1, purpose=Purpose.REVIEW),
    "of another subject": lambda town: town.consent(2),
    "of another consortium": lambda town: town.consent(1, consortium=OTHER_CONSORTIUM),
    "of another chain": lambda town: town.consent(1, chain_id=1),
    "of another tag key": lambda town: town.consent(1, tag_key_version=2),
    "with a forged signature": lambda town: replace(signed(town.consent(1)), signature=b"\1" * 64),
    "signed for other terms": lambda town: replace(signed(town.consent(1)), valid_until=town.chain.time + 900 * DAY),
    "with a key but no signature": lambda town: replace(signed(town.consent(1)), signature=None),
}


def ask(town: FakeTown, make: Callable[[FakeTown], Consent]) -> bytes:
    consent = make(town)
    town.chain.advance(10)
    _, q = open_crafted(town[0], [(town.tagger.tag(subject(1)), consent)], purpose=Purpose.NEW_CREDIT)
    town.supervised = False
    town.settle()
    return q


@pytest.mark.parametrize("make", CONSENTS.values(), ids=CONSENTS.keys())
def test_consent__does_not_permit_it__is_refused(town: FakeTown, make: Callable[[FakeTown], Consent]) -> None:
    q = ask(town, make)

    refusal = town[0].desk.state.inquiries[q].refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.CONSENT
    assert not town.books[1].reads or make is used


@pytest.mark.parametrize("make", CONSENTS.values(), ids=CONSENTS.keys())
def test_consent__not_checked__is_answered(
    town: FakeTown, make: Callable[[FakeTown], Consent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disclosure, "_consent_problem", lambda *_: None)
    monkeypatch.setattr(Furnisher, "_record", lambda self, inquiry, tag, _used: self.book.record(inquiry.schema, tag))

    q = ask(town, make)

    assert town[0].desk.state.inquiries[q].stage in ANSWERED


@pytest.mark.parametrize("make", [lambda town: town.consent(1), lambda town: signed(town.consent(1))])
def test_consent__permits_it__is_answered(town: FakeTown, make: Callable[[FakeTown], Consent]) -> None:
    q = ask(town, make)

    assert town[0].desk.state.inquiries[q].stage in ANSWERED


def test_consent__another_receipt_than_the_hash_on_the_ledger__is_refused_and_named(town: FakeTown) -> None:
    one, two = town.consent(1), town.consent(1)
    _, q = open_crafted(town[0], [(one.tag, one)], consents=[two.hash])
    town.settle()

    inquiry = town[0].desk.state.inquiries[q]
    assert inquiry.refusal is not None
    assert inquiry.refusal.code == RefusalCode.CONSENT
    assert town.supervisor.supervisor.verified[q].culprits == (0,)


def asked_again(town: FakeTown) -> tuple[Inquiry, Inquiry]:
    """One consent twice within its time: the first inquiry lacks an answer, and every book has changed since."""
    consent = town.consent(1)
    town.asleep, town.supervised = {4}, False
    _, first = open_crafted(town[0], [(consent.tag, consent)])
    town.settle()
    town.chain.advance(TERMS.answer_seconds)
    town[0].desk.outbox.post("expire", town.call("expire", first))
    for book in town.books:
        book.figures[consent.tag] = figures(64)
    town.asleep = set()
    town.settle()
    _, second = open_crafted(town[0], [(consent.tag, consent)])
    town.settle()
    inquiries = town[0].desk.state.inquiries
    return inquiries[first], inquiries[second]


def given(town: FakeTown, inquiry: Inquiry, member: int) -> dict[str, int]:
    """What a member put in, as the supervisor recomputes it."""
    town.supervisor.follower.sync()
    town.supervisor.supervisor.step()
    return town.supervisor.supervisor.verified[inquiry.id].records[member][0]


def test_one_consent__asked_again_within_its_time__gives_the_same_figures_under_new_masks(town: FakeTown) -> None:
    # D1: a change at one bank between two answers under one consent would be that bank's figure.
    first, second = asked_again(town)

    assert second.stage in ANSWERED
    for member in (1, 2, 3):
        assert first.payload(member) != second.payload(member)
        assert given(town, second, member) == figures(2**member)
    assert given(town, second, 4) == figures(64)  # it had not answered before


def test_one_consent__without_the_rule__shows_what_changed_in_between(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Furnisher, "_used_consents", lambda _self, _memory: {})
    monkeypatch.setattr(Furnisher, "_record", lambda self, inquiry, tag, _used: self.book.record(inquiry.schema, tag))
    real = disclosure.decide
    monkeypatch.setattr(
        "mpcredit.furnisher.decide", lambda *a, **k: None if (r := real(*a, **k)) and r.code == 8 else r
    )

    _first, second = asked_again(town)

    assert given(town, second, 1) == figures(64)


def squat(town: FakeTown) -> tuple[bytes, bytes]:
    """Bank B sees the hash of Bank A's receipt in a mempool and writes it into an inquiry of its own, first."""
    town.asleep, town.supervised = {2, 3, 4}, False
    consent = town.consent(1)
    own = town.consent(7, to=1)
    _, squatting = open_crafted(town[1], [(own.tag, own)], consents=[consent.hash])
    _, q = open_crafted(town[0], [(consent.tag, consent)])
    town.asleep = {0, 1}
    town.settle()
    return squatting, q


def test_squatted_consent__counted_for_anybody__stops_the_honest_inquirer(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The variant: a hash on the ledger is used, whoever wrote it there.
    real = disclosure._consent_problem

    def anybodys(inquiry, subjects, realm, version, consents, state, now):  # type: ignore[no-untyped-def]
        for other in state.inquiries.values():
            if other.id != inquiry.id and set(other.opening.consents) & set(inquiry.opening.consents):
                return "the consent was used before"
        return real(inquiry, subjects, realm, version, consents, state, now)

    monkeypatch.setattr(disclosure, "_consent_problem", anybodys)
    _, q = squat(town)

    refusal = town[2].desk.state.inquiries[q].refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.CONSENT


def test_squatted_consent__counted_for_its_inquirer_alone__stops_the_squatter_only(town: FakeTown) -> None:
    squatting, q = squat(town)

    inquiries = town[2].desk.state.inquiries
    assert inquiries[squatting].refusal is not None
    assert inquiries[q].refusal is None
    assert set(inquiries[q].contributions) == {0, 2, 3, 4}


def test_own_request__hash_squatted_by_another__is_still_accepted(town: FakeTown) -> None:
    consent = town.consent(1)
    own = town.consent(7, to=1)
    open_crafted(town[1], [(own.tag, own)], consents=[consent.hash])
    bank = town[0]
    bank.sync()

    assert bank.inquirer.request(["x"], [consent], officer="o").state is RequestState.WANTED


def test_own_request__consent_expires_or_is_revoked_while_it_waits__ends_without_asking(town: FakeTown) -> None:
    town.sleep(2, 3)  # too few are ready: the request waits
    bank = town[0]
    short, other = town.consent(1, days=1), town.consent(2)
    bank.sync()
    waits = [bank.inquirer.request(["x"], [c], officer="o").id for c in (short, other)]
    town.settle()
    bank.desk.outbox.post("revoke", town.call("revokeConsent", 0, other.hash))
    town.chain.advance(DAY)
    town.wake(2, 3)
    town.settle()

    assert [bank.inquirer.get(w).state for w in waits] == [RequestState.FAILED] * 2
    assert not bank.desk.state.inquiries
