"""R14 to R17, R27, R29, R30: requests, attempts, totals and reports, through every state and every crash point."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes import DAY, TERMS, FakeSigner, FakeTown, Transaction, figures, found_town, public_key_pair, subject, two_keys

from mpcredit import limits, paillier
from mpcredit.consent import Purpose
from mpcredit.errors import InvalidConsent, InvalidMessage, KeyStoreError, LedgerError, MpcreditError, NotYet, Refused
from mpcredit.events import Call, Opening, Stage
from mpcredit.inquirer import ASIDE_SECONDS, Inquirer, RequestState
from mpcredit.outbox import ATTEMPTS


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    with two_keys(monkeypatch):
        yield found_town(5)


def tags(town: FakeTown, *numbers: int) -> list[bytes]:
    return [town.tagger.tag(subject(n)) for n in numbers]


def opens(town: FakeTown) -> int:
    return len({t.hash for block in town.chain.blocks for t in block.transactions if t.call.function == "open"})


def test_request__to_its_end__has_the_sums(town: FakeTown) -> None:
    request = town.ask(1)
    town.settle()

    found = town[0].inquirer.await_final(request)
    assert found.state is RequestState.ATTESTED
    assert found.totals == [figures(31) | {"lenders": 5}]
    assert found.state.final
    assert [consent.tag for consent in found.consents] == tags(town, 1)


def test_request__of_many__keeps_their_order(town: FakeTown) -> None:
    bank = town[0]
    bank.sync()
    town.books[0].figures[tags(town, 3)[0]] = figures(100)
    wanted = [3, 9, 1]
    request = bank.inquirer.request(["c", "z", "a"], [town.consent(n) for n in wanted], officer="o")
    town.settle()

    totals = bank.inquirer.get(request.id).totals
    assert totals == [figures(130) | {"lenders": 5}, figures(0) | {"lenders": 0}, figures(31) | {"lenders": 5}]


@pytest.mark.parametrize(
    "how",
    [
        "none",
        "twice",
        "no consent",
        "foreign consent",
        "of a key to come",
        "two purposes",
        "unknown schema",
        "too many",
    ],
)
def test_request__that_cannot_be__is_refused_and_stores_nothing(town: FakeTown, how: str) -> None:
    bank = town[0]
    bank.sync()
    consent = town.consent(1)
    given: dict[str, tuple[int, Any, dict[str, Any]]] = {
        "none": (0, [], {}),
        "twice": (2, [consent, town.consent(1)], {}),
        "no consent": (1, [], {}),
        "foreign consent": (1, [town.consent(1, to=1)], {}),
        "of a key to come": (1, [town.consent(1, tag_key_version=2)], {}),
        "two purposes": (2, [consent, town.consent(2, purpose=Purpose.REVIEW)], {}),
        "unknown schema": (1, [consent], {"schema": 9}),
        "too many": (200, [town.consent(n) for n in range(200)], {}),
    }
    subjects, consents, options = given[how]

    with pytest.raises((InvalidMessage, InvalidConsent)):
        bank.inquirer.request(["x"] * subjects, consents, officer="o", **options)
    assert bank.inquirer.requests() == []


def test_request__of_more_than_a_node_takes__names_the_most_and_that_many_are_taken(town: FakeTown) -> None:
    bank = town[0]
    bank.sync()
    bank.inquirer.bits = 3072
    customers = [Ed25519PrivateKey.from_private_bytes(n.to_bytes(32, "big")) for n in range(160)]
    signed = [town.consent(n).sign(customers[n]) for n in range(160)]
    unsigned = [town.consent(n) for n in range(160)]

    with pytest.raises(InvalidMessage) as caught:
        bank.inquirer.request(["x"] * 160, signed, officer="o")

    assert caught.value.remedy == "ask for at most 130"
    assert bank.inquirer.requests() == []
    bank.inquirer.request(["x"] * 130, signed[:130], officer="o")
    bank.inquirer.request(["x"] * 160, unsigned, officer="o")


def test_open__no_longer_fits_a_transaction__ends_with_the_most_that_would(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = town.ask(1)
    monkeypatch.setattr(limits, "TRANSACTION_BYTES", 1_000)  # as if [inquiry] bits had grown meanwhile

    town.settle()

    found = town[0].inquirer.get(request)
    assert found.state is RequestState.FAILED
    assert "at most 0" in found.note
    assert opens(town) == 0


def test_get__unknown__is_refused(town: FakeTown) -> None:
    with pytest.raises(InvalidMessage):
        town[0].inquirer.get("nothing")


# ---------------------------------------------------------------- tag keys (R4)


def test_request__without_the_newest_tag_key__waits_and_opens_when_it_is_here(town: FakeTown) -> None:
    request = town.ask(1)
    town.succeed_tag_key(0)
    town.settle()
    found = town[0].inquirer.get(request)
    assert found.state is RequestState.WANTED
    assert "tag key of version 2 is not at hand" in found.note
    assert opens(town) == 0

    town[0].use_tagger(town.tagger, town.books[0])
    town.settle()
    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


def test_request__waiting_over_a_new_tag_key__is_opened_as_its_consent_names_it(town: FakeTown) -> None:
    request, named = town.ask(1), town.tagger.tag(subject(1))
    town.succeed_tag_key()
    town.settle()

    found = town[0].inquirer.get(request)
    assert found.totals == [figures(31) | {"lenders": 5}]
    assert town.supervisor.supervisor.tags(town.inquiry(request)) == (named,)


def test_inquire__consent_of_an_earlier_tag_key__is_of_this_subject_and_of_no_other(town: FakeTown) -> None:
    bank, old = town[0], town.consent(1)
    town.succeed_tag_key()

    with pytest.raises(InvalidConsent, match="tag is not that of the inquiry"):
        bank.inquire([subject(2)], consents=[old], officer="o")
    handle = bank.inquire([subject(1)], consents=[old], officer="o")
    town.settle()

    assert bank.result(handle.id)[subject(1)].lenders == 5


# ---------------------------------------------------------------- waiting


def test_open__not_ready_itself_or_too_few__waits_and_says_so(town: FakeTown) -> None:
    request = town.ask(1)
    town.sleep(2, 3)
    town[0].work()
    assert "only 3 institutions are ready; at least 4" in town[0].inquirer.get(request).note

    town.wake(2, 3)
    town.settle()
    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


def test_open__held_back_by_the_house__waits_and_what_is_on_the_ledger_goes_on(town: FakeTown) -> None:
    under_way = town.ask(1)
    town[0].work()
    held = town.ask(2)
    town[0].inquirer.hold = lambda request: "held back" if request.value["officer"] else ""

    town.settle()

    assert town[0].inquirer.get(under_way).state is RequestState.ATTESTED
    found = town[0].inquirer.get(held)
    assert (found.state, found.note) == (RequestState.WANTED, "held back")
    assert opens(town) == 1
    town[0].inquirer.hold = lambda request: ""
    town.settle()
    assert town[0].inquirer.get(held).state is RequestState.ATTESTED


def test_open__other_cohort_within_the_window__waits_and_goes_by_itself(town: FakeTown) -> None:
    town.ask(1)
    town.settle()
    town.sleep(4)
    town.chain.advance(DAY)
    town.settle()
    request = town.ask(1)
    town.settle()
    assert "Bank E" in town[0].inquirer.get(request).note
    assert opens(town) == 1

    town.wake(4)
    town.settle()
    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


def test_await_final__not_there_yet_or_never__says_which(town: FakeTown) -> None:
    request = town.ask(1)
    with pytest.raises(NotYet):
        town[0].inquirer.await_final(request)
    town.books[3].as_of = 0
    town.settle()

    assert town[0].inquirer.get(request).state is RequestState.REFUSED
    with pytest.raises(MpcreditError, match="Bank D refused \\(code 10\\)"):
        town[0].inquirer.await_final(request)


def test_expire__after_the_deadline_and_not_before(town: FakeTown) -> None:
    request = town.ask(1)
    town.asleep = {4}
    town.settle()
    assert "waiting for Bank E" in town[0].inquirer.get(request).note
    town.chain.advance(TERMS.answer_seconds - 20)
    town.settle()
    assert town.inquiry(request).stage is Stage.OPEN
    town.chain.advance(100)
    town.settle()

    assert town[0].inquirer.get(request).state is RequestState.EXPIRED
    assert "Bank E" in town[0].inquirer.get(request).note


# ---------------------------------------------------------------- openings that no node takes


def is_open(transaction: Any) -> bool:
    return bool(transaction.call.function == "open")


def test_open__no_node_takes_it__later_steps_go_on_and_the_request_ends_when_its_filler_is_final(
    town: FakeTown,
) -> None:
    bank, confirmations = town[0], 3
    for one in town.banks:
        one.follower.confirmations = one.desk.outbox.confirmations = confirmations
    town.chain.too_large = is_open
    large = town.ask(1)
    bank.work()
    assert "oversized data" in bank.inquirer.get(large).note
    theirs = town.ask(2, by=1)
    town.chain.too_large = lambda transaction: is_open(transaction) and transaction.sender == town.accounts[0].address
    for _ in range(confirmations + 1):
        town[1].work()
        town.chain.advance(1)

    bank.work()  # answers; the opening holds that up
    bank.work()  # and makes way
    bank.work()
    assert bank.inquirer.get(large).state is RequestState.OPENING
    assert "final" in bank.inquirer.get(large).note
    for _ in range(confirmations + 1):
        town.chain.advance(1)
    bank.work()

    assert bank.inquirer.get(large).state is RequestState.FAILED
    assert "fewer customers" in bank.inquirer.get(large).note
    assert 0 in town.inquiry(theirs, by=1).contributions
    assert opens(town) == 1
    assert bank.desk.outbox.foreign == ""


def test_open__mined_in_place_of_its_filler_after_a_reorganisation__goes_on_to_its_end(town: FakeTown) -> None:
    bank = town[0]
    town.chain.too_large = is_open
    request = town.ask(1)
    bank.work()
    [row] = bank.desk.store.outbox_pending()
    bank.desk.outbox.post("behind", Call("consortium", "nothing"))
    height = len(town.chain.blocks)
    for _ in range(3):
        bank.work()
    assert bank.inquirer.get(request).state is RequestState.FAILED
    town.chain.too_large = lambda _transaction: False

    town.chain.reorganise(height)
    town.chain.mempool.clear()
    town.chain.mine([pickle.loads(row.raw)])  # some node had it all the time
    town.settle()

    assert bank.inquirer.get(request).state is RequestState.ATTESTED
    assert bank.inquirer.get(request).totals == [figures(31) | {"lenders": 5}]
    assert [seen.inquirer for seen in bank.desk.remember()] == [0]


# ---------------------------------------------------------------- openings that are refused at the estimate


def many(town: FakeTown, *numbers: int) -> str:
    """A request about several subjects, stored."""
    bank = town[0]
    bank.sync()
    consents = [town.consent(n) for n in numbers]
    return bank.inquirer.request(["x"] * len(numbers), consents, officer="o").id


def estimated(town: FakeTown) -> list[Opening]:
    """What the node has seen of openings, in order."""
    return [Opening(*t.call.arguments[1]) for t in town.chain.seen if t.call.function == "open"]


def kept(town: FakeTown) -> tuple[str, ...]:
    keys: Any = town[0].desk.keys
    found: tuple[str, ...] = keys.inquiry_keys()
    return found


def test_open__refused_at_the_estimate__waits_longer_each_time_with_one_key_and_holds_up_nobody(
    town: FakeTown,
) -> None:
    bank = town[0]
    town.chain.too_dear = lambda call: call.function == "open" and len(call.arguments[1][10]) > 2
    large, small = many(town, 10, 11, 12), town.ask(1)

    town.settle()
    assert bank.inquirer.get(small).state is RequestState.ATTESTED
    tried = [town.chain.time]
    for _ in range(2_000):
        before = len(estimated(town))
        bank.work()
        if len(estimated(town)) > before:
            tried.append(town.chain.time)
        town.chain.advance(9)

    found = bank.inquirer.get(large)
    assert found.state is RequestState.WANTED
    assert "gas required exceeds allowance" in found.note
    assert "tried again at 20" in found.note
    assert found.value["attempts"] == []
    assert len(found.keys) == 1
    assert len({opening.n for opening in estimated(town) if len(opening.consents) == 3}) == 1
    assert len(kept(town)) == 2  # of the small one too
    gaps = [after - before for before, after in itertools.pairwise(tried)][1:]
    waits = [60, 120, 240, 480, 960, 1_920, *[3_600] * (len(gaps) - 6)]
    assert len(gaps) > 8
    assert all(wait <= gap <= wait + 11 for gap, wait in zip(gaps, waits, strict=True))  # at most one round more

    town.chain.too_dear = lambda _call: False
    town.chain.advance(3_600)
    town.settle()
    assert bank.inquirer.get(large).state is RequestState.ATTESTED
    assert bank.inquirer.get(large).value["wait"] is None


def test_open__refused_wait__survives_a_restart(town: FakeTown) -> None:
    bank = town[0]
    town.chain.too_dear = lambda call: call.function == "open"
    request = town.ask(1)
    bank.work()
    seen = len(estimated(town))
    bank.inquirer = Inquirer(bank.desk, bank.furnisher.book, bits=2048)

    bank.work()

    assert len(estimated(town)) == seen == 1
    assert bank.inquirer.get(request).value["wait"] == {"times": 1, "until": pytest.approx(town.chain.time + 30, abs=5)}


def test_open__cohort_moved_since_the_estimate__same_key_and_nothing_else_of_the_first_attempt(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = town[0]
    request = town.ask(1)
    sign = bank.desk.outbox.signer.sign

    def moved(call: Call, nonce: int) -> Any:
        if call.function == "open":
            supervisor = FakeSigner(town.chain, town.supervisor_account.address)
            supervisor.transact(Call("consortium", "suspend", (town.supervisor_owner.address, 4)))
        return sign(call, nonce)

    with monkeypatch.context() as patch:
        patch.setattr(bank.desk.outbox.signer, "sign", moved)
        bank.work()
    assert "RosterMoved" in bank.inquirer.get(request).note
    assert bank.inquirer.get(request).value["attempts"] == []
    assert list(bank.desk.store.items("seen")) == []
    town.asleep = {4}

    town.settle()

    assert bank.inquirer.get(request).state is RequestState.ATTESTED
    first, second = estimated(town)[0], estimated(town)[-1]
    assert first.n == second.n
    assert first.cohort != second.cohort
    assert first.nonce != second.nonce
    assert first.subject_commitment != second.subject_commitment
    assert first.payload != second.payload
    assert len(kept(town)) == 1


def test_open__signed_and_then_reverted__the_next_attempt_has_a_key_of_its_own(town: FakeTown) -> None:
    bank = town[0]
    town.chain.held = True
    request = town.ask(1)
    bank.work()
    [row] = [row for row in bank.desk.store.outbox_pending() if row.call["function"] == "open"]
    # A change of the roster is mined before the opening, which then reverts.
    town.chain.mine(
        [
            Transaction(
                town.supervisor_account.address,
                Call("consortium", "suspend", (town.supervisor_owner.address, 4)),
                10**6,
            )
        ]
    )
    town.chain.held = False
    town.chain.mine()
    town.settle()

    assert bank.desk.outbox.outcome(row.key) is not None
    found = bank.inquirer.get(request)
    assert found.state is RequestState.ATTESTED
    assert len({opening.n for opening in estimated(town)}) == 2
    assert len(set(found.keys)) == len(found.value["attempts"]) == 2


def test_open__keys_have_another_size_since__the_one_that_waited_is_destroyed(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = town[0]
    town.chain.too_dear = lambda call: call.function == "open"
    request = town.ask(1)
    bank.work()
    [old] = bank.inquirer.get(request).keys
    town.chain.too_dear = lambda _call: False
    town.chain.advance(60)
    bank.inquirer.bits = 2304
    with monkeypatch.context() as patch:
        patch.setattr(paillier, "generate", lambda bits: public_key_pair("public-test-2048-b"))
        bank.work()

    assert old not in kept(town)
    assert len(kept(town)) == 1


def test_open__key_was_not_kept_before_a_crash__another_is_made(town: FakeTown) -> None:
    bank = town[0]
    request = town.ask(1)
    value = bank.inquirer.get(request).value
    bank.desk.store.put("request", request, {**value, "key": "0" * 16})

    town.settle()

    assert bank.inquirer.get(request).state is RequestState.ATTESTED


def test_nonce__is_drawn_and_not_counted(town: FakeTown) -> None:
    """N1: one opening with the highest nonce, by a thief of the account, ended the inquirer's inquiries for ever."""
    bank = town[0]
    bank.inquirer.random_bytes = lambda count: b"\xff" * count
    town.ask(1)
    town.settle()
    assert estimated(town)[0].nonce == 2**64 - 1
    bank.inquirer.random_bytes = secrets.token_bytes

    request = town.ask(2)
    town.settle()

    assert bank.inquirer.get(request).state is RequestState.ATTESTED


# ---------------------------------------------------------------- what had ended and goes on (R30.1)


def answer_held_back(town: FakeTown, member: int = 4) -> tuple[str, list[Transaction]]:
    """Everybody has answered, and one answer hangs in the mempool."""
    request = town.ask(1)
    town.asleep = {member}
    town.settle()
    town[member].sync()
    town.chain.held = True
    town[member].furnisher.step()
    late = [t for t in town.chain.mempool if t.call.function == "contribute"]
    assert len(late) == 1
    town.chain.mempool.clear()
    return request, late


def ends(town: FakeTown, request: str, how: str) -> int:
    """The inquiry ends without the late answer; the height of the block in which it does."""
    town.chain.held = False
    if how == "expired":
        town.chain.advance(TERMS.answer_seconds + 100)
        height = len(town.chain.blocks)
    else:
        height = len(town.chain.blocks)
        town.rogue(4, town.call("refuse", town.inquiry(request).id, 4, 2, b""))
    for _ in range(4):
        town[0].work()
    assert town[0].inquirer.get(request).state == how
    return height


@pytest.mark.parametrize("how", ["expired", "refused"])
def test_end_is_replaced_by_the_last_answer__totals_are_opened_and_reported(town: FakeTown, how: str) -> None:
    request, late = answer_held_back(town)
    height = ends(town, request, how)

    town.chain.reorganise(height)
    town.chain.mempool.clear()
    town.chain.mine(late)  # the other fork had the answer first
    town.asleep = set()
    town.settle()

    found = town[0].inquirer.get(request)
    assert (found.state, found.totals) == (RequestState.ATTESTED, [figures(31) | {"lenders": 5}])
    assert town[0].inquirer.resumed == 1


@pytest.mark.parametrize("how", ["expired", "refused"])
def test_end_stands__nothing_goes_on(town: FakeTown, how: str) -> None:
    request, _late = answer_held_back(town)
    ends(town, request, how)

    town.asleep = set()
    town.chain.advance(2 * DAY)
    town.settle()

    assert town[0].inquirer.get(request).state == how
    assert town[0].inquirer.resumed == 0


def test_request_failed_after_a_refusal__stays_failed_with_its_reason(town: FakeTown) -> None:
    request, _late = answer_held_back(town)
    ends(town, request, "refused")
    # As after a repetition that it waited for until its consent had ended.
    value = town[0].inquirer.get(request).value | {"state": "failed", "note": "the consent has ended"}
    town[0].desk.store.put("request", request, value)

    town[0].work()

    assert town[0].inquirer.get(request).note == "the consent has ended"
    assert town[0].inquirer.resumed == 0


def test_opening_and_its_end_are_taken_off_the_ledger__goes_on_from_its_opening(town: FakeTown) -> None:
    height = len(town.chain.blocks)
    request, _late = answer_held_back(town)
    ends(town, request, "expired")

    town.chain.reorganise(height)
    town.asleep = set()
    for _ in range(3):  # the first round only sends again
        town.settle()

    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


def forget(town: FakeTown, request: str) -> None:
    """What a store of before the opening lacks; the key store is a place of its own."""
    store = town[0].desk.store
    inquiry = town[0].inquirer.get(request).value["inquiry"]
    for kind, key in (("request", request), ("report", inquiry), ("seen", inquiry)):
        store.delete(kind, key)


def answered(town: FakeTown) -> str:
    """An inquiry that everybody has answered while its inquirer is away."""
    request = town.ask(1)
    town[0].work()
    town.asleep = {0}
    town.settle()
    town.asleep = set()
    assert town.inquiry(request).stage is Stage.COMPLETE
    return request


def test_inquiry_without_a_request__is_reported_and_later_ones_open(town: FakeTown) -> None:
    request = answered(town)
    inquiry = town.inquiry(request).id
    forget(town, request)

    town.settle()

    assert town[0].desk.state.inquiries[inquiry].stage is Stage.VALID
    assert town[0].inquirer.requests() == []
    town.chain.advance(TERMS.answer_seconds + TERMS.report_seconds)
    later = town.ask(2)
    town.settle()
    assert town[0].inquirer.get(later).state is RequestState.ATTESTED


def test_inquiry_without_a_request__nobody_answered__is_expired_and_later_ones_open(town: FakeTown) -> None:
    request = town.ask(1)
    town[0].work()
    inquiry = town.inquiry(request).id
    forget(town, request)
    town.asleep, town.supervised = {1, 2, 3, 4}, False
    town.work()
    assert town[0].desk.state.inquiries[inquiry].stage is Stage.OPEN

    town.chain.advance(TERMS.answer_seconds)
    town.settle()

    assert town[0].desk.state.inquiries[inquiry].stage is Stage.EXPIRED


def test_inquiry_without_request_and_key__is_told_once_and_reported_when_the_key_is_back(
    town: FakeTown, caplog: pytest.LogCaptureFixture
) -> None:
    request = answered(town)
    inquiry = town.inquiry(request).id
    [fingerprint] = town[0].inquirer.get(request).keys
    private = town.keys[0].inquiry_key(fingerprint)
    town.keys[0].destroy_inquiry_key(fingerprint)
    forget(town, request)
    other = town.ask(2)

    for _ in range(3):
        town.settle()
        town.chain.advance(ASIDE_SECONDS + 1)

    assert town[0].inquirer.get(other).state is RequestState.ATTESTED  # its report is not due yet
    assert caplog.text.count("is not closed") == 1
    with pytest.raises(KeyStoreError):
        town[0].inquirer.report(inquiry)
    town.keys[0].keep_inquiry_key(private)
    town.settle()
    assert town[0].desk.state.inquiries[inquiry].stage is Stage.VALID


def test_report_by_hand__after_all_reports_failed__is_given(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    request = answered(town)
    inquiry = town.inquiry(request).id
    forget(town, request)

    def reverts(*_: Any) -> Any:
        raise Refused("no", code="OutOfGas")

    for _ in range(ATTEMPTS):
        town.chain.held = True
        town[0].work()
        with monkeypatch.context() as failing:
            failing.setattr(town.chain, "execute", reverts)
            town.chain.mine()
    town.chain.held = False
    town.settle()
    assert town[0].desk.state.inquiries[inquiry].stage is Stage.COMPLETE
    rows = [row for row in town[0].desk.store.outbox_rows() if row.key.startswith("report/")]  # type: ignore[attr-defined]
    assert [row.state for row in rows] == ["failed"] * ATTEMPTS

    town[0].inquirer.report(inquiry)
    town.settle()

    assert town[0].desk.state.inquiries[inquiry].stage is Stage.VALID


def test_report_by_hand__of_what_is_none_or_anothers_or_not_complete__is_refused(town: FakeTown) -> None:
    theirs, open_ = town.ask(1, by=1), town.ask(2)
    town[1].work()
    town[0].work()
    town[0].sync()

    for inquiry, why in (
        (bytes(32), "not on this ledger"),
        (town.inquiry(theirs, by=1).id, "not this institution's own"),
        (town.inquiry(open_).id, "it is open"),
    ):
        with pytest.raises(InvalidMessage, match=why):
            town[0].inquirer.report(inquiry)


# ---------------------------------------------------------------- crashes


POINTS = ["sign", "broadcast", "settle"]


@pytest.mark.parametrize("point", POINTS)
def test_open__crash_in_the_middle__is_opened_once(town: FakeTown, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = town[0]
    request = town.ask(1)

    def crash(*_: Any) -> Any:
        raise LedgerError("crash")

    with monkeypatch.context() as patch:
        if point == "settle":
            patch.setattr(bank.desk.outbox, "_settle", crash)
        else:
            patch.setattr(bank.desk.outbox.signer, point, crash)
        with pytest.raises(LedgerError):
            bank.inquirer.step()
    bank.inquirer = Inquirer(bank.desk, bank.furnisher.book, bits=2048)
    for _ in range(3):
        town.settle()

    assert bank.inquirer.get(request).state is RequestState.ATTESTED
    assert opens(town) == 1
    # An attempt that was signed is kept to; one that never was is made anew, under the same key.
    assert len(bank.inquirer.get(request).value["attempts"]) == 1
    assert len(bank.desk.keys.inquiry_keys()) == 1  # type: ignore[attr-defined]  # a MemoryKeyStore


def test_report__crash_before_it_is_sent__is_the_same_afterwards(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = town.ask(1)
    town[0].work()
    town.asleep = {0}
    town.settle()
    town.asleep = set()
    bank = town[0]
    bank.sync()

    def crash(*_: Any) -> Any:
        raise LedgerError("crash")

    with monkeypatch.context() as patch:
        patch.setattr(bank.desk.outbox.signer, "sign", crash)
        with pytest.raises(LedgerError):
            bank.inquirer.step()
    (stored,) = (value for _, value in bank.desk.store.items("report"))
    assert bank.inquirer.get(request).state is RequestState.COMPLETE
    town.settle()

    report = town.inquiry(request).report
    assert report is not None
    assert "0x" + report.commitment.hex() == stored["commitment"]
    assert town.inquiry(request).stage is Stage.VALID


def reported(town: FakeTown) -> str:
    """A request whose report is on the ledger and not judged."""
    request = town.ask(1)
    town.supervised = False
    town.settle()
    assert town[0].inquirer.get(request).state is RequestState.REPORTED
    return request


def stored_report(town: FakeTown, request: str) -> dict[str, Any]:
    found = town[0].desk.store.get("report", "0x" + town.inquiry(request).id.hex())
    assert found is not None
    return found


def ledger_commitment(town: FakeTown, request: str) -> str:
    report = town.inquiry(request).report
    assert report is not None
    return "0x" + report.commitment.hex()


def salt_by_the_definition(town: FakeTown, request: str) -> str:
    """R30, written out with nothing but SHA-256 and a product."""
    inquiry = town.inquiry(request)
    n = int.from_bytes(inquiry.opening.n, "big")
    product = 1
    for member in inquiry.cohort:
        product = product * int.from_bytes(inquiry.payload(member)[80:], "big") % n**2
    private = next(key for key in (public_key_pair(), public_key_pair("public-test-2048-b")) if n % key.p == 0)
    smaller = min(private.p, private.q).to_bytes(128, "big")
    data = b"mpcredit/report-salt/2" + smaller + inquiry.id + product.to_bytes(512, "big")
    return "0x" + hashlib.sha256(data).hexdigest()


def test_report__its_salt__follows_from_key_inquiry_and_aggregate(town: FakeTown) -> None:
    request = reported(town)

    assert stored_report(town, request)["salt"] == salt_by_the_definition(town, request)
    assert stored_report(town, request)["commitment"] == ledger_commitment(town, request)


def test_report__store_of_before_it__opens_the_totals_again_to_the_commitment_on_the_ledger(town: FakeTown) -> None:
    request = town.ask(1)
    town[0].work()
    before = dict(town[0].inquirer.get(request).value)
    town.supervised = False
    town.settle()
    lost = stored_report(town, request)
    inquiry = town.inquiry(request)
    # What a backup of before the report has: the key and an open request.
    town[0].desk.store.delete("report", "0x" + inquiry.id.hex())
    town[0].desk.store.put("request", request, before)
    town.supervised = True
    town.settle()

    again = stored_report(town, request)
    found = town[0].inquirer.await_final(request)
    assert again == lost | {"sealed": again["sealed"]}
    assert again["commitment"] == ledger_commitment(town, request)
    assert (found.state, found.totals) == (RequestState.ATTESTED, [figures(31) | {"lenders": 5}])


def test_report__reorganisation_with_another_contribution__is_replaced_by_that_of_the_new_aggregate(
    town: FakeTown,
) -> None:
    request = reported(town)
    first, inquiry = stored_report(town, request), town.inquiry(request)
    last = max(inquiry.contributions.values(), key=lambda event: event.at.block)
    member = next(i for i, event in inquiry.contributions.items() if event is last)
    town[member].sync()
    other = town[member].furnisher._figures(town[member].desk.state.inquiries[inquiry.id])["payload"]
    town.chain.reorganise(last.at.block)
    town[0].work()
    assert town.inquiry(request).awaited == (member,)

    # The same figures with another seed: a second store of the member, say.
    town.rogue(member, town.call("contribute", inquiry.id, member, bytes.fromhex(other[2:])))
    town.supervised = True
    town.settle()

    second = stored_report(town, request)
    assert second["commitment"] != first["commitment"]
    assert second["commitment"] == ledger_commitment(town, request)
    assert second["salt"] == salt_by_the_definition(town, request)
    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


def test_report__of_somebody_else_with_the_account__leaves_the_true_totals_in_the_store(town: FakeTown) -> None:
    request = town.ask(1)
    town[0].work()
    town.asleep, town.supervised = {0}, False
    town.settle()
    inquiry = town.inquiry(request)
    town[0].desk.outbox.post("false report", town.call("report", inquiry.id, b"f" * 32, b"sealed", bytes(32)))
    town.asleep = set()
    town.settle()

    found = town[0].inquirer.get(request)
    assert (found.state, found.totals) == (RequestState.REPORTED, [figures(31) | {"lenders": 5}])
    assert stored_report(town, request)["salt"] == salt_by_the_definition(town, request)
    assert ledger_commitment(town, request) == "0x" + (b"f" * 32).hex()


def test_report__last_contribution_not_final__waits(town: FakeTown) -> None:
    request = town.ask(1)
    town[0].work()
    town[0].follower.confirmations = 2
    for bank in town.banks[1:]:
        bank.work()
    town[0].work()
    town[0].work()
    assert town.inquiry(request).stage is Stage.COMPLETE
    assert town[0].inquirer.get(request).totals is None

    town.chain.mine([])
    town.chain.mine([])
    town[0].work()

    assert town.inquiry(request).stage is Stage.REPORTED


def test_totals__of_an_inquiry_that_ended_void__are_shown_as_what_they_are(town: FakeTown) -> None:
    request = town.ask(1)
    town.supervised = False
    town.settle()
    found = town[0].inquirer.get(request)
    assert (found.state, found.totals is None) == (RequestState.REPORTED, False)
    report = town.inquiry(request).report
    assert report is not None
    verdict = (town.supervisor_owner.address, False, 0b10, report.commitment, bytes(32))
    void = town.call("attest", town.inquiry(request).id, *verdict)
    town.supervisor.outbox.post("void", void)
    town.settle()

    assert town[0].inquirer.get(request).state is RequestState.VOID
    assert "Bank B" in town[0].inquirer.get(request).note
    with pytest.raises(MpcreditError):
        town[0].inquirer.await_final(request)


def test_report__puts_the_head_of_the_audit_log_on_the_ledger(town: FakeTown) -> None:
    town[0].inquirer.anchor = lambda: b"\x01" * 32
    request = town.ask(1)
    town.settle()

    found = town.inquiry(request)

    assert found.report is not None
    assert found.report.anchor == b"\x01" * 32


def test_verdict__puts_the_head_of_the_supervisors_audit_log_on_the_ledger(town: FakeTown) -> None:
    town.supervisor.supervisor.anchor = lambda: b"\x05" * 32
    request = town.ask(1)
    town.settle()

    found = town.inquiry(request)

    assert found.verdict is not None
    assert found.report is not None
    assert found.verdict.anchor == b"\x05" * 32
    assert found.report.anchor == bytes(32)
