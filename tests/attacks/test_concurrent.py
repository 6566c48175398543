"""Two inquiries at one time on one subject, and attempts that are repeated (R15, R24, R27; protocol.md section 3).

- Two inquirers open over different cohorts before anybody has answered: every furnisher answers the one that is earlier on
  the ledger and refuses the other, whatever order it works in. Without the rule both are answered.
- An opening that failed is made anew: another nonce, modulus, content key, seed and mask context, also after a restart and
  with a store that forgot the attempt.
- An opening that was only estimated keeps its modulus (R24.2): the node that estimated it twice learns nothing from that.
  Had the two the same randomness too, it would read the change of the inquirer's own figures without any key.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from fakes import DAY, FakeSigner, FakeTown, figures, subject

from mpcredit import disclosure, inquirer, paillier
from mpcredit.disclosure import RefusalCode
from mpcredit.events import Call, Opening, Stage
from mpcredit.inquirer import RequestState
from mpcredit.institution import Institution
from mpcredit.policy import CreditPolicy
from mpcredit.sealing import seal_subjects

VICTIM = 4


@pytest.fixture
def cheating_inquirer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquirer, "window_conflict", lambda *_: None)


def two_open(town: FakeTown) -> tuple[str, str]:
    """Bank A opens over five, the victim withdraws its readiness, Bank B opens over four; nobody has answered yet."""
    town.asleep, town.supervised = {1, 2, 3, VICTIM}, False
    first = town.ask(1, by=0)
    town.work()
    town.sleep(VICTIM)
    second = town.ask(1, by=1)
    town[1].sync()
    town[1].inquirer.step()
    assert len(town.chain.fold().inquiries) == 2
    town.asleep = set()
    return first, second


@pytest.mark.usefixtures("cheating_inquirer")
@pytest.mark.parametrize("backwards", [False, True])
def test_two_inquiries_at_one_time__the_earlier_is_answered_and_the_other_refused(
    town: FakeTown, backwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_open(town)
    if backwards:  # a furnisher that works through them in another order must come to the same
        for bank in town.banks:
            bank.sync()
            inquiries = bank.desk.state.inquiries
            for key in list(inquiries)[:1]:
                inquiries[key] = inquiries.pop(key)

    town.settle()

    assert town.inquiry(first).stage in (Stage.COMPLETE, Stage.REPORTED)
    refusal = town.inquiry(second, by=1).refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.WINDOW
    assert not town.inquiry(second, by=1).awaited == ()


@pytest.mark.usefixtures("cheating_inquirer")
def test_two_inquiries_at_one_time__without_the_rule__differ_by_the_victim(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disclosure, "window_conflict", lambda *_: None)
    first, second = two_open(town)
    town.settle()

    (one,), (two,) = town[0].inquirer.get(first).totals or [], town[1].inquirer.get(second).totals or []
    assert {name: one[name] - two[name] for name in one} == figures(2**VICTIM)


# --------------------------------------------------------------------- repeated attempts


def openings(town: FakeTown) -> list[Opening]:
    """Every opening that was broadcast, also those that failed."""
    made = {t.hash: t for t in town.chain.seen if t.call.function == "open"}
    return [Opening(*t.call.arguments[1]) for t in made.values()]


def failed_attempt(town: FakeTown) -> str:
    """An opening that is overtaken by a change of the cohort: it is mined, and fails."""
    request = town.ask(1)
    town.asleep = {1, 2, 3, VICTIM}
    town.chain.held = True
    town.work()
    town.chain.held = False
    supervisor = FakeSigner(town.chain, town.supervisor_account.address)
    signed = supervisor.sign(Call("consortium", "suspend", (town.supervisor_owner.address, VICTIM)), supervisor.nonce())
    town.chain.mine([pickle.loads(signed.raw)])
    town.chain.mine()
    assert town[0].inquirer.get(request).state is RequestState.OPENING
    assert not town.chain.fold().inquiries
    return request


def restarted(town: FakeTown) -> Institution:
    """Bank A in a new process, with its store."""
    old = town[0]
    return Institution(
        ledger=town.chain,
        signer=FakeSigner(town.chain, town.accounts[0].address),
        store=old.desk.store,
        keys=town.keys[0],
        tagger=town.tagger,
        book=town.books[0],
        policy=CreditPolicy.from_toml(),
        pins=town.pins,
        bits=2048,
        clock=lambda: 0,
    )


@pytest.mark.parametrize("restart", [False, True])
def test_opening__repeated__shares_nothing_with_the_failed_one(town: FakeTown, restart: bool) -> None:
    request = failed_attempt(town)
    if restart:
        town.banks[0] = restarted(town)
    for _ in range(3):
        town[0].work()

    first, second = openings(town)
    assert town[0].inquirer.get(request).state is RequestState.OPEN
    assert second.nonce != first.nonce
    for name in ("n", "sealed_subject", "subject_commitment"):
        assert getattr(first, name) != getattr(second, name), name
    # Disclosure and ciphertexts, in pieces of 16 bytes: no piece comes twice.
    pieces = [{o.payload[i : i + 16] for i in range(0, len(o.payload), 16)} for o in (first, second)]
    assert not pieces[0] & pieces[1]
    wraps = [{o.sealed_subject[i : i + 16] for i in range(2, len(o.sealed_subject))} for o in (first, second)]
    assert not wraps[0] & wraps[1]


def test_opening__failed__does_not_bind_the_customer_to_its_cohort(town: FakeTown) -> None:
    # It was never on the ledger, so nobody can have answered it: the next attempt goes out over today's cohort.
    request = failed_attempt(town)

    town.asleep = {VICTIM}
    town.work()  # notices the failure
    town.settle()

    assert town[0].inquirer.get(request).state is RequestState.ATTESTED
    assert town.inquiry(request).cohort == (0, 1, 2, 3)


def test_nonce__store_forgot_the_attempts__no_inquiry_comes_twice(town: FakeTown) -> None:
    town.ask(1)
    town.settle()
    store = town[0].desk.store
    for key, _ in list(store.items("request")):
        store.delete("request", key)
    town.chain.advance(2 * DAY)
    town.settle()

    town.ask(2)
    town.settle()

    assert len({i.opening.nonce for i in town[0].desk.state.inquiries.values()}) == 2


def estimated_twice(town: FakeTown) -> tuple[int, int, paillier.PublicKey]:
    """The node refuses an estimate, the inquirer's figures change by 77, and it asks again: both ciphertexts, and the key."""
    town.chain.too_dear = lambda call: call.function == "open"
    request = town.ask(1)
    town[0].work()
    mine = town.books[0].figures[town.tagger.tag(subject(1))]
    town.books[0].figures[town.tagger.tag(subject(1))] = {**mine, "outstanding": mine["outstanding"] + 77}
    town.chain.advance(60)
    town[0].work()
    assert town[0].inquirer.get(request).state is RequestState.WANTED

    first, second = openings(town)
    assert first.n == second.n
    public = paillier.PublicKey.from_bytes(first.n)
    one, two = (int.from_bytes(opening.payload[80 : 80 + public.width], "big") for opening in (first, second))
    return one, two, public


def change_without_a_key(one: int, two: int, public: paillier.PublicKey) -> int | None:
    """What a node computes: with equal r the quotient of two ciphertexts is 1 + (m2 - m1) n, and with others it is not."""
    quotient = two * pow(one, -1, public.n_squared) % public.n_squared
    change, rest = divmod(quotient - 1, public.n)
    return change if rest == 0 else None


def test_estimated_twice__with_the_randomness_of_the_first__the_node_reads_the_change(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    town[0].inquirer.random_bytes = lambda count: bytes(count)
    sealed: list[tuple[bytes, bytes]] = []

    def once(*given: Any, **options: Any) -> tuple[bytes, bytes]:  # HPKE draws randomness of its own
        sealed.append(sealed[0] if sealed else seal_subjects(*given, **options))
        return sealed[0]

    monkeypatch.setattr(inquirer, "seal_subjects", once)

    assert change_without_a_key(*estimated_twice(town)) == 77


def test_estimated_twice__one_modulus_and_nothing_else__the_node_reads_nothing(town: FakeTown) -> None:
    one, two, public = estimated_twice(town)

    assert change_without_a_key(one, two, public) is None
    # The inquirer's own key shows that the masks differ too: the plaintexts' difference is no figure.
    private = town[0].desk.keys.inquiry_key(public.fingerprint)
    change = (paillier.decrypt(private, two) - paillier.decrypt(private, one)) % public.n
    assert min(change, public.n - change).bit_length() > 1_900


def test_answer__gas_estimated_but_refused__is_the_same_when_it_is_sent_later(town: FakeTown) -> None:
    # A gas estimate shows the payload to the node; what is sent later must be those very bytes (R24).
    request = town.ask(1)
    town.asleep = {1, 2, 3, VICTIM}
    town.work()
    town.chain.held = True
    town[1].work()
    town[1].furnisher.book.figures.clear()  # type: ignore[attr-defined]  # a FakeBook
    town[1].work()
    town.chain.held = False
    town.chain.mempool.clear()
    town[1].work()

    sent = [t for t in town.chain.seen if t.sender == town.accounts[1].address and t.call.function == "contribute"]
    assert len({t.call.arguments[1] for t in sent}) == 1
    assert town.inquiry(request).payload(1) == sent[0].call.arguments[1]
