"""When institutions may not answer, or may not be there: held back, refused, silent, rotated, new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from eth_account import Account
from flow_world import (
    BITS,
    DAY,
    HOUR,
    Customers,
    ask,
    carry,
    encoded,
    restart,
    return_all,
    rotate_key,
    rotate_supervisor_key,
    sums,
    terms,
    withdraw,
)

from mpcredit.chain import ChainSigner
from mpcredit.consent import Consent
from mpcredit.disclosure import ADVICE, RefusalCode
from mpcredit.encoding import parse_canonical_json, to_hex
from mpcredit.errors import InvalidConsent, MpcreditError
from mpcredit.events import Call, Stage
from mpcredit.inquirer import RequestState
from mpcredit.institution import InquiryHandle, Institution
from mpcredit.keystore import MemoryKeyStore
from mpcredit.local import LocalConsortium, local_consortium, sign_key
from mpcredit.policy import CreditPolicy
from mpcredit.ledger.roster import Pins
from mpcredit.state import Inquiry
from mpcredit.store import SqliteStore
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
    withdraw(consortium, "Bank C")

    handle = ask(consortium["Bank B"], subjects)
    consortium.settle()

    assert handle.request.state is RequestState.WANTED
    assert handle.request.inquiry is None
    assert "differs from today's by Bank C" in handle.request.note
    assert "would give away a single institution's figure" in handle.request.note

    return_all(consortium)
    assert handle.request.state is RequestState.ATTESTED
    assert handle.wait(1).totals == sums(consortium.books.values(), subjects)


def test_other_cohort__opens_by_itself_when_the_window_has_passed(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    ask(consortium["Bank A"], subjects).wait(60)
    withdraw(consortium, "Bank C")
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
    withdraw(consortium, "Bank C")
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
    withdraw(consortium, "Bank E")
    ask(consortium["Bank A"], subjects).wait(60)
    return_all(consortium)

    handle = ask(consortium["Bank E"], subjects)  # it was not of the first cohort
    consortium.settle()

    refused_with(consortium, handle, RefusalCode.WINDOW)


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
    assert ask(consortium["Bank A"], subjects).wait(60).attested


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


def test_silent_member__loses_readiness_states_not_sent_after_its_return_and_the_retry_works(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    bank = consortium["Bank A"]
    consortium.asleep.add("Bank C")
    first = ask(bank, subjects)
    consortium.settle()

    # (1) the deadline: it is on record, and out of the next cohort.
    consortium.advance(HOUR)
    consortium.settle()
    assert first.request.state is RequestState.EXPIRED
    assert first.request.note == "no answer from Bank C before the deadline"
    assert bank.desk.state.members[2].ready_until == 0

    # (2) asked again without it: held back, since it may have sent its answer.
    second = ask(bank, subjects)
    consortium.settle()
    assert second.request.state is RequestState.WANTED
    assert "differs from today's by Bank C" in second.request.note

    # (3) its process starts anew: it states that nothing was sent, and is ready again.
    returned = restart(consortium, "Bank C")
    consortium.asleep.clear()
    consortium.settle()
    assert inquiry_of(first).not_sent == {2}
    assert returned.desk.member.ready_until > returned.follower.now

    # (4) the retry has opened by itself.
    assert second.request.state is RequestState.ATTESTED
    assert second.wait(1).totals == sums(consortium.books.values(), subjects)
    assert inquiry_of(first).stage is Stage.EXPIRED


def test_silent_member_that_had_sent__states_nothing(consortium: LocalConsortium, customers: Customers) -> None:
    subjects = customers.take()
    bank, silent = consortium["Bank A"], consortium["Bank C"]
    consortium.asleep.add("Bank C")
    handle = ask(bank, subjects)
    consortium.settle()
    inquiry = inquiry_of(handle)
    silent.sync()
    answer = silent.furnisher._figures(silent.desk.state.inquiries[inquiry.id])
    silent.desk.store.insert("answer", to_hex(inquiry.id), answer)  # stored, and perhaps sent, when its power failed

    consortium.advance(HOUR)
    consortium.settle()
    restart(consortium, "Bank C")
    consortium.asleep.clear()
    consortium.settle()

    assert inquiry_of(handle).stage is Stage.EXPIRED
    assert inquiry_of(handle).not_sent == set()


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
    serving = consortium["Bank A"].desk.state.members[2]
    assert (serving.key.version, serving.serving) == (2, False)
    consortium.asleep.clear()
    consortium.settle()

    assert running.wait(1).totals == sums(consortium.books.values(), subjects)
    assert inquiry_of(running).keys[2].version == 1
    assert consortium["Bank A"].desk.state.members[2].audited_version == 2
    following = ask(consortium["Bank B"], more).wait(60)
    assert following.totals == sums(consortium.books.values(), more)
    assert following.inquiry.keys[2].version == 2
    assert following.attested


def test_supervisor_key_rotated_during_an_inquiry__both_periods_are_attested(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects, more = customers.take(), customers.take()
    consortium.asleep.add("Bank D")
    running = ask(consortium["Bank A"], subjects)
    consortium.settle()

    rotate_supervisor_key(consortium, 2)
    consortium.settle()
    consortium.asleep.clear()
    consortium.settle()

    assert running.request.state is RequestState.ATTESTED
    assert inquiry_of(running).supervisor_key.version == 1
    following = ask(consortium["Bank B"], more).wait(60)
    assert following.inquiry.supervisor_key.version == 2
    assert following.totals == sums(consortium.books.values(), more)
    assert following.attested


def test_new_member__is_invited_confirmed_audited_and_serves(consortium: LocalConsortium, customers: Customers) -> None:
    owner, operator = Account.create(), Account.create()
    for account in (owner, operator):
        consortium.chain.fund(account.address)
    index, before = len(NAMES), customers.take()
    ask(consortium["Bank A"], before).wait(60)

    # (1) by proposal; the others accept its owner account by hand.
    carry(consortium, encoded("inviteMember", owner.address, operator.address, "Bank F"))
    newcomer = join(consortium, index, owner, operator)
    consortium.settle()
    assert not newcomer.desk.member.serving  # nobody has pinned it, so nobody sealed a key for the pair

    pins = Pins({**(consortium.pins.owners or {}), index: frozenset({owner.address})}, consortium.pins.supervisors)
    consortium.pins = pins
    for bank in consortium.institutions.values():
        bank.follower.use_pins(pins)
    consortium.supervisor.follower.use_pins(pins)

    # (2) pairs sealed on both ends, audited, ready.
    consortium.settle()
    assert newcomer.desk.member.serving
    assert newcomer.desk.member.ready_until > newcomer.follower.now

    # (3) it furnishes, and it inquires.
    subjects = customers.take(2)
    books = [*consortium.books.values(), consortium.books["Bank A"]]
    result = ask(consortium["Bank A"], subjects).wait(60)
    assert result.inquiry.cohort == (0, 1, 2, 3, 4, 5)
    assert result.totals == sums(books, subjects)
    consortium.advance(DAY)
    assert ask(newcomer, subjects).wait(60).totals == sums(books, subjects)

    # (4) whoever was asked about without it is not asked about with it within the window: R27.
    held = ask(consortium["Bank B"], before)
    consortium.settle()
    assert held.request.state is RequestState.WANTED
    assert "differs from today's by Bank F" in held.request.note


def join(consortium: LocalConsortium, index: int, owner: Account, operator: Account) -> Institution:
    """An invited institution confirms its record and starts its service; its book is a copy of Bank A's."""
    keys = MemoryKeyStore()
    own = keys.create_institution_key(1)
    signature = sign_key(owner, consortium.ledger.realm, index, 1, own.public)
    web3, address = consortium.ledger.web3, consortium.deployed.consortium
    ChainSigner(web3, owner, address).transact(Call("consortium", "confirm", (index, own.public, signature)))
    store = SqliteStore(consortium.stores["Bank A"].path.with_name("newcomer.sqlite"))
    consortium.stores["Bank F"] = store
    consortium.institutions["Bank F"] = Institution(
        ledger=consortium.ledger,
        signer=ChainSigner(web3, operator, address),
        store=store,
        keys=keys,
        tagger=consortium.tagger,
        book=consortium["Bank A"].furnisher.book,
        policy=CreditPolicy.from_toml(),
        pins=Pins({**(consortium.pins.owners or {}), index: frozenset({owner.address})}, consortium.pins.supervisors),
        bits=BITS,
        ready_seconds=5 * DAY,
    )
    consortium["Bank F"].idle = lambda: consortium.settle()
    return consortium["Bank F"]
