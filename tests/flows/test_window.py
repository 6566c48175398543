"""When institutions may not answer, or may not be there: held back, refused, silent, rotated, new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from flow_world import (
    BITS,
    DAY,
    HOUR,
    Customers,
    accept,
    ask,
    begin_period,
    carry,
    encoded,
    restart,
    return_all,
    rotate_key,
    rows_of,
    sums,
    switch_off,
    terms,
)

from mpcredit.chain import ChainSigner
from mpcredit.consent import Consent, Purpose
from mpcredit.disclosure import ADVICE, RefusalCode
from mpcredit.encoding import parse_canonical_json, to_hex
from mpcredit.errors import InvalidConsent, MpcreditError
from mpcredit.events import Call, Stage
from mpcredit.inquirer import RequestState
from mpcredit.institution import InquiryHandle, Institution
from mpcredit.keystore import MemoryKeyStore
from mpcredit.local import LocalConsortium, local_consortium, sign_account, sign_key
from mpcredit.policy import CreditPolicy
from mpcredit.state import Inquiry
from mpcredit.store import SqliteStore
from mpcredit.tenure import tenure_of
from mpcredit.timeline import timeline

NAMES = ("Bank A", "Bank B", "Bank C", "Bank D", "Bank E")
WINDOW = 30 * DAY
TERMS = terms(minimum_cohort=3, window_seconds=WINDOW, cooldown_seconds=DAY, subjects_per_day=8, answer_seconds=HOUR)


@pytest.fixture(scope="module")
def founded() -> Iterator[LocalConsortium]:
    """Five institutions whose books are of today."""
    with local_consortium(institutions=5, bits=BITS, parameters=TERMS) as made:
        yield made


@pytest.fixture(scope="module")
def customers(founded: LocalConsortium) -> Customers:
    """Each is asked about in one test only."""
    return Customers(founded)


@pytest.fixture
def consortium(founded: LocalConsortium) -> Iterator[LocalConsortium]:
    """A day later than the test before, so that its subjects do not count for the rate; whole again afterwards."""
    founded.advance(DAY)
    founded.settle()
    renew_books(founded)
    yield founded
    return_all(founded)


def renew_books(consortium: LocalConsortium) -> None:
    """All import a loan book of today."""
    for name, bank in consortium.institutions.items():
        book = replace(consortium.books[name], as_of=bank.follower.now)
        bank.use_book(book.index(consortium.tagger))


def inquiry_of(handle: InquiryHandle) -> Inquiry:
    """The inquiry of a request, as its inquirer sees it."""
    assert handle.request.inquiry is not None
    handle.institution.sync()
    return handle.institution.desk.state.inquiries[handle.request.inquiry]


def refused_with(consortium: LocalConsortium, handle: InquiryHandle, code: RefusalCode) -> None:
    """The request was refused with this code; inquirer and time line say what would help."""
    inquiry = inquiry_of(handle)
    assert handle.request.state is RequestState.REFUSED
    assert inquiry.refusal is not None
    assert inquiry.refusal.code == code
    who = inquiry.names[inquiry.refusal.member]
    assert handle.request.note == f"{who} refused (code {int(code)}): {ADVICE[code]}"
    assert timeline(inquiry, now=handle.institution.follower.now).advice == ADVICE[code]
    with pytest.raises(MpcreditError, match="ended without totals"):
        handle.wait(1)


# --------------------------------------------------------------------- the window rule


def test_other_cohort_within_the_window__waits_with_a_reason_and_opens_when_the_cohort_is_the_same(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    ask(consortium["Bank A"], subjects).wait(60)
    switch_off(consortium, "Bank C")

    handle = ask(consortium["Bank B"], subjects)
    consortium.settle()

    assert handle.request.state is RequestState.WANTED
    assert handle.request.inquiry is None
    assert "waits for Bank C" in handle.request.note
    assert "Asked again by itself when that changes" in handle.request.note

    return_all(consortium)
    assert handle.request.state is RequestState.ATTESTED
    assert handle.wait(1).totals == sums(consortium.books.values(), subjects)


def test_earlier_cohorts__tell_which_customers_cannot_stand_in_one_inquiry(
    consortium: LocalConsortium, customers: Customers
) -> None:
    [asked, never] = customers.take(2)
    switch_off(consortium, "Bank E")
    ask(consortium["Bank A"], [asked]).wait(60)
    return_all(consortium)
    bank = consortium["Bank A"]
    consents = [Consent.grant(who, to=bank, purpose=Purpose.NEW_CREDIT, days=60) for who in (asked, never)]

    assert bank.inquirer.earlier_cohorts(consents) == [0b01111, 0]
    consortium.advance(WINDOW)
    consortium.settle()
    assert bank.inquirer.earlier_cohorts(consents) == [0, 0]


def test_other_cohort__opens_by_itself_when_the_window_has_passed(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    ask(consortium["Bank A"], subjects).wait(60)
    switch_off(consortium, "Bank C")
    handle = ask(consortium["Bank B"], subjects)
    consortium.settle()
    assert handle.request.state is RequestState.WANTED

    consortium.advance(WINDOW)
    renew_books(consortium)
    consortium.settle()

    assert handle.request.state is RequestState.ATTESTED
    assert inquiry_of(handle).cohort == (0, 1, 3, 4)


def test_other_cohort__window_passes_after_the_consent__the_request_ends(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    ask(consortium["Bank A"], subjects).wait(60)
    switch_off(consortium, "Bank C")
    handle = ask(consortium["Bank B"], subjects, days=20)
    consortium.settle()

    consortium.advance(WINDOW)
    consortium.settle()

    assert handle.request.state is RequestState.FAILED
    assert "valid_until has passed" in handle.request.note


def test_inquirer_that_knows_nothing_of_it__is_refused_with_window(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    switch_off(consortium, "Bank D")
    switch_off(consortium, "Bank E")
    ask(consortium["Bank A"], subjects).wait(60)
    return_all(consortium)

    handle = ask(consortium["Bank E"], subjects)  # it was not of the first cohort
    consortium.settle()

    refusal = inquiry_of(handle).refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.WINDOW  # the cohorts differ by Bank D
    assert (
        handle.request.state is RequestState.WANTED
    )  # Bank E cannot ask over a cohort without itself before the window ends


def test_inquirer_that_was_not_of_the_first_cohort__is_answered_if_they_differ_by_nobody_else(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    switch_off(consortium, "Bank E")
    ask(consortium["Bank A"], subjects).wait(60)
    return_all(consortium)

    result = ask(consortium["Bank E"], subjects).wait(60)

    assert result.inquiry.cohort == (0, 1, 2, 3, 4)
    assert result.totals == sums(consortium.books.values(), subjects)


# --------------------------------------------------------------------- the other refusals


def test_same_inquirer_within_the_cooldown__refused_and_answered_after_it(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    bank = consortium["Bank A"]
    ask(bank, subjects).wait(60)

    second = ask(bank, subjects)
    consortium.settle()
    refused_with(consortium, second, RefusalCode.COOLDOWN)

    consortium.advance(DAY)
    assert ask(bank, subjects).wait(60).attested


def test_too_many_subjects_in_a_day__refused_and_answered_the_day_after(
    consortium: LocalConsortium, customers: Customers
) -> None:
    bank, more = consortium["Bank B"], customers.take(4)
    ask(bank, customers.take(5)).wait(60)

    handle = ask(bank, more)
    consortium.settle()
    refused_with(consortium, handle, RefusalCode.RATE)

    consortium.advance(DAY)
    assert ask(bank, more).wait(60).attested


def test_old_book__refused_until_a_newer_one_is_imported(consortium: LocalConsortium, customers: Customers) -> None:
    subjects, bank = customers.take(), consortium["Bank D"]
    old = replace(consortium.books["Bank D"], as_of=bank.follower.now - TERMS.book_age_seconds - HOUR)
    bank.use_book(old.index(consortium.tagger))

    handle = ask(consortium["Bank A"], subjects)
    consortium.settle()
    refused_with(consortium, handle, RefusalCode.BOOK)
    assert inquiry_of(handle).refusal.member == 3

    renew_books(consortium)
    assert ask(consortium["Bank A"], customers.take()).wait(60).attested


def test_woken_just_before_the_deadline__refused_with_late(consortium: LocalConsortium, customers: Customers) -> None:
    consortium.asleep.add("Bank D")
    handle = ask(consortium["Bank A"], customers.take())
    consortium.settle()
    inquiry = inquiry_of(handle)
    consortium.advance(inquiry.opened.deadline - consortium["Bank A"].follower.now - 30)

    consortium.asleep.clear()
    consortium.settle()

    refused_with(consortium, handle, RefusalCode.LATE)


def test_consent_of_an_answered_inquiry__cannot_be_used_again(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects, bank = customers.take(), consortium["Bank A"]
    first = ask(bank, subjects)
    first.wait(60)
    consortium.advance(DAY)
    bank.sync()

    used = bank.inquirer.get(first.id)
    consent = Consent.from_json_object(parse_canonical_json(used.value["subjects"][0]["consent"].encode()))
    with pytest.raises(InvalidConsent, match="used for an earlier inquiry"):
        bank.inquire(subjects, consents=[consent], officer="li.wei")


# --------------------------------------------------------------------- a silent member


def test_silent_member__is_switched_off_and_the_inquiry_stays_open_until_it_is_back(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects, bank = customers.take(), consortium["Bank A"]
    consortium.asleep.add("Bank C")
    first = ask(bank, subjects)
    consortium.settle()
    assert bank.desk.state.ready_next() == 0b11111

    # (1) silence_seconds after the opening the inquirer's service switches it off, once.
    consortium.advance(TERMS.silence_seconds)
    consortium.settle()
    assert bank.desk.state.ready_next() == 0b11011
    assert len(rows_of(consortium.stores["Bank A"], f"lapse/{to_hex(inquiry_of(first).id)}")) == 1
    assert first.request.state is RequestState.OPEN
    assert first.request.note.startswith("waiting for Bank C, until ")

    # (2) the next inquiries go on without it.
    others = customers.take()
    assert ask(consortium["Bank B"], others).wait(60).coverage == "4 of 5 institutions; not ready: Bank C"

    # (3) it comes back: it answers first, then it switches itself on.
    returned = restart(consortium, "Bank C")
    consortium.asleep.clear()
    consortium.settle()
    assert first.wait(1).totals == sums(consortium.books.values(), subjects)
    steps = sorted(consortium.stores["Bank C"].outbox_rows(), key=lambda row: row.nonce)
    assert [row.key.partition("/")[0] for row in steps[-2:]] == ["answer", "ready"]
    assert returned.membership.is_ready
    assert inquiry_of(first).stage is Stage.VALID


def test_members_that_have_answered__are_not_switched_off(consortium: LocalConsortium, customers: Customers) -> None:
    bank = consortium["Bank A"]
    consortium.asleep.add("Bank C")
    first = ask(bank, customers.take())
    consortium.settle()
    switch_off(consortium, "Bank C")  # the only silent one is off already

    consortium.advance(TERMS.silence_seconds)
    consortium.settle()

    assert rows_of(consortium.stores["Bank A"], f"lapse/{to_hex(inquiry_of(first).id)}") == []
    assert bank.desk.state.ready_next() == 0b11011


def test_silent_until_the_deadline__asked_again_without_it_waits_until_it_is_back(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects, bank = customers.take(), consortium["Bank A"]
    consortium.asleep.add("Bank C")
    first = ask(bank, subjects)
    consortium.settle()

    # (1) the deadline: it is on record, and out of the next cohort.
    consortium.advance(HOUR)
    consortium.settle()
    assert first.request.state is RequestState.EXPIRED
    assert first.request.note == "no answer from Bank C before the deadline"
    assert not bank.desk.state.ready_next() >> 2 & 1

    # (2) asked again without it: held back, since the others have answered over a cohort with it.
    second = ask(consortium["Bank B"], subjects)
    consortium.settle()
    assert second.request.state is RequestState.WANTED
    assert "waits for Bank C" in second.request.note

    # (3) its process starts anew and switches itself on, and the retry opens by itself.
    returned = restart(consortium, "Bank C")
    consortium.asleep.clear()
    consortium.settle()
    assert returned.membership.is_ready
    assert second.request.state is RequestState.ATTESTED
    assert second.wait(1).totals == sums(consortium.books.values(), subjects)
    assert inquiry_of(first).stage is Stage.EXPIRED


# --------------------------------------------------------------------- keys and members


def test_key_rotated_during_an_inquiry__ends_with_the_old_key_and_the_next_uses_the_new(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects, more = customers.take(), customers.take()
    consortium.asleep.update(("Bank C", "Bank D"))
    running = ask(consortium["Bank A"], subjects)
    consortium.settle()

    rotate_key(consortium, "Bank C")
    consortium.settle()
    state = consortium["Bank A"].desk.state
    assert state.members[2].key.version == 2
    assert state.serving_key(2) == state.members[2].keys[1]  # the new one is not audited yet
    consortium.asleep.clear()
    consortium.settle()

    assert running.wait(1).totals == sums(consortium.books.values(), subjects)
    assert inquiry_of(running).keys[2].version == 1
    assert consortium["Bank A"].desk.state.serving_key(2) == state.members[2].keys[2]
    following = ask(consortium["Bank B"], more).wait(60)
    assert following.totals == sums(consortium.books.values(), more)
    assert following.inquiry.keys[2].version == 2
    assert following.attested


def test_compromised_key__leaves_the_cohorts_at_once_and_serves_again_when_the_new_one_is_audited(
    consortium: LocalConsortium, customers: Customers
) -> None:
    consortium.advance(DAY)  # a key is replaced once in 24 hours
    consortium.supervised = False
    rotate_key(consortium, "Bank D", compromised=True)
    consortium.settle()
    assert consortium["Bank A"].desk.state.serving_key(3) is None
    without = ask(consortium["Bank A"], customers.take()).wait(60, attested=False)
    assert without.inquiry.cohort == (0, 1, 2, 4)

    consortium.supervised = True
    consortium.settle()
    again = ask(consortium["Bank A"], customers.take()).wait(60)

    assert again.inquiry.cohort == (0, 1, 2, 3, 4)
    assert again.inquiry.keys[3].version == 2


def test_new_period_during_an_inquiry__both_periods_are_attested(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects, more = customers.take(), customers.take()
    consortium.asleep.add("Bank D")
    running = ask(consortium["Bank A"], subjects)
    consortium.settle()

    begin_period(consortium, 2)
    consortium.settle()
    assert consortium["Bank A"].desk.state.in_force == 1  # Bank D has not sealed to the announced one
    consortium.asleep.clear()
    consortium.settle()

    assert running.request.state is RequestState.ATTESTED
    assert inquiry_of(running).period_key.version == 1
    following = ask(consortium["Bank B"], more).wait(60)
    assert following.inquiry.period_key.version == 2
    assert following.totals == sums(consortium.books.values(), more)
    assert following.attested


def test_new_member__is_invited_confirmed_audited_and_serves(consortium: LocalConsortium, customers: Customers) -> None:
    owner, service = Account.create(), Account.create()
    for account in (owner, service):
        consortium.chain.fund(account.address)
    index, before = len(NAMES), customers.take()
    ask(consortium["Bank A"], before).wait(60)

    # (1) by proposal; the others accept its owner account by hand.
    carry(consortium, encoded("inviteMember", owner.address, "Bank F"))
    newcomer = join(consortium, index, owner, service)
    consortium.settle()
    assert newcomer.desk.state.serving_key(index) is None  # nobody has pinned it, so nobody sealed a key for the pair

    owners = {**(consortium.pins.owners or {}), index: frozenset({owner.address})}
    accept(consortium, replace(consortium.pins, owners=owners))

    # (2) pairs sealed on both ends, audited, ready.
    consortium.settle()
    assert newcomer.desk.state.serving_key(index) is not None
    assert newcomer.membership.is_ready

    # (3) it furnishes, and it inquires.
    subjects = customers.take(2)
    books = [*consortium.books.values(), consortium.books["Bank A"]]
    result = ask(consortium["Bank A"], subjects).wait(60)
    assert result.inquiry.cohort == (0, 1, 2, 3, 4, 5)
    assert result.totals == sums(books, subjects)
    consortium.advance(DAY)
    assert ask(newcomer, subjects).wait(60).totals == sums(books, subjects)

    # (4) a customer that was asked about without it is asked about without it within the window: R27.
    again = ask(consortium["Bank B"], before).wait(60)
    assert again.inquiry.cohort == (0, 1, 2, 3, 4)


def join(consortium: LocalConsortium, index: int, owner: LocalAccount, service: LocalAccount) -> Institution:
    """An invited institution confirms its record and starts its service; its book is a copy of Bank A's."""
    realm, keys = consortium.ledger.realm, MemoryKeyStore()
    web3, address = consortium.ledger.web3, consortium.deployed.consortium
    store = SqliteStore(consortium.stores["Bank A"].path.with_name("newcomer.sqlite"))
    own, tenure = keys.create_institution_key(1), tenure_of(store)
    signature = sign_key(owner, realm, index, 1, own.public)
    naming = sign_account(owner, realm, index, service.address, 1, tenure)
    confirmed = (index, own.public, signature, service.address, tenure, naming)
    ChainSigner(web3, owner, address).transact(Call("consortium", "confirm", confirmed))
    consortium.stores["Bank F"] = store
    consortium.institutions["Bank F"] = Institution(
        ledger=consortium.ledger,
        signer=ChainSigner(web3, service, address),
        store=store,
        keys=keys,
        tagger=consortium.tagger,
        book=consortium["Bank A"].furnisher.book,
        policy=CreditPolicy.from_toml(),
        pins=replace(consortium.pins, owners={**(consortium.pins.owners or {}), index: frozenset({owner.address})}),
        bits=BITS,
    )
    consortium["Bank F"].idle = lambda: consortium.settle()
    return consortium["Bank F"]
