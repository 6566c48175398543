"""What a furnisher, or somebody who is none, may put into an inquiry (R20, R21, R24, R31; I1; protocol.md sections 4 and 6).

- Refused by the contract: 0, n, k n, n^2 and more, a wrong width, a second contribution, an outsider, anoved operator.
- Taken by the contract, named by the supervisor: another's ciphertext, one from another inquiry, a seed that does not fit,
  a wrong mask, a figure out of its range. The inquiry is void, the culprit suspended, and the remaining cohort may ask again.

The variant is the product without the supervisor's check of single contributions: the false total stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attackers import SEED, craft, send, total_of, with_disclosure
from eth_account import Account
from fakes import FakeTown, figures
from hypothesis import given
from hypothesis import strategies as st

from mpcredit import paillier, protocol
from mpcredit.chain import ChainSigner
from mpcredit.consent import Consent, Purpose
from mpcredit.errors import InvalidCiphertext, InvalidMessage, MpcreditError, Refused
from mpcredit.events import Call, Stage
from mpcredit.identity import Subject
from mpcredit.inquirer import RequestState
from mpcredit.local import LocalConsortium
from mpcredit.paillier import PrivateKey, PublicKey
from mpcredit.schema import FIGURES_1
from mpcredit.state import Inquiry

LIAR = 3


# --------------------------------------------------------------------- refused by the contract


@pytest.fixture(scope="module")
def open_inquiry(evm: LocalConsortium) -> Iterator[Inquiry]:
    """An open inquiry on the real contracts of which only the inquirer's contribution is there."""
    bank = evm["Bank A"]
    subject = Subject("passport", "BAD00001", country="TW")
    consent = Consent.grant(subject, to=bank, purpose=Purpose.NEW_CREDIT, days=30)
    handle = bank.inquire([subject], consents=[consent], officer="eve")
    bank.work()
    inquiry = bank.desk.state.inquiries[handle.request.inquiry or b""]
    yield inquiry
    handle.wait(timeout=60)


def refused_as(
    evm: LocalConsortium, inquiry: Inquiry, payload: bytes, name: str = "Bank C", member: int | None = None
) -> str:
    """The name of the contract's error for a contribution of this bank."""
    index = evm[name].index if member is None else member
    call = Call(inquiry.joint_credit, "contribute", (inquiry.id, index, payload))
    signer = ChainSigner(evm.chain.web3, evm.accounts[name], evm.deployed.consortium)
    with pytest.raises(Refused) as caught:
        signer.sign(call, signer.nonce())
    return str(caught.value.code)


CASES: dict[str, tuple[Callable[[int], int], str]] = {
    "zero": (lambda n: 0, "CiphertextRange"),
    "n": (lambda n: n, "CiphertextMultipleOfModulus"),
    "k n": (lambda n: 12345 * n, "CiphertextMultipleOfModulus"),
    "(n - 1) n": (lambda n: (n - 1) * n, "CiphertextMultipleOfModulus"),
    "n^2": (lambda n: n * n, "CiphertextRange"),
    "n^2 + 1": (lambda n: n * n + 1, "CiphertextRange"),
    "all bits": (lambda n: 2 ** (2 * n.bit_length()) - 1, "CiphertextRange"),
}


@pytest.mark.parametrize(("make", "code"), CASES.values(), ids=CASES.keys())
def test_contribute__not_a_ciphertext__is_refused_by_the_contract(
    evm: LocalConsortium, open_inquiry: Inquiry, make: Callable[[int], int], code: str
) -> None:
    frame = protocol.frame_of(open_inquiry, evm.ledger.realm)
    bad = make(frame.public.n).to_bytes(frame.public.width, "big")

    assert refused_as(evm, open_inquiry, bytes(80) + bad) == code
    with pytest.raises(InvalidCiphertext):
        paillier.parse_ciphertext(frame.public, bad)


@pytest.mark.parametrize("change", [lambda p: p[:-1], lambda p: p + b"\0", lambda p: p[80:], lambda p: b""])
def test_contribute__wrong_width__is_refused_by_the_contract(
    evm: LocalConsortium, open_inquiry: Inquiry, change: Callable[[bytes], bytes]
) -> None:
    assert refused_as(evm, open_inquiry, change(open_inquiry.opening.payload)) == "PayloadLength"


def test_contribute__by_an_outsider_or_for_another_member__is_refused(
    evm: LocalConsortium, open_inquiry: Inquiry
) -> None:
    payload = open_inquiry.opening.payload
    outsider = Account.create()
    evm.chain.fund(outsider.address)
    evm.accounts["outsider"] = outsider  # type: ignore[index]  # a plain dict in truth

    assert refused_as(evm, open_inquiry, payload, "outsider", 2) == "NotAccount"
    assert refused_as(evm, open_inquiry, payload, "Bank B", 2) == "NotAccount"
    owner = ChainSigner(evm.chain.web3, evm.owners["Bank C"], evm.deployed.consortium)
    with pytest.raises(Refused) as caught:
        owner.sign(Call(open_inquiry.joint_credit, "contribute", (open_inquiry.id, 2, payload)), 99)
    assert caught.value.code == "NotAccount"


def test_contribute__twice__is_refused_by_the_contract(evm: LocalConsortium, open_inquiry: Inquiry) -> None:
    bank = evm["Bank E"]
    bank.work()
    assert refused_as(evm, open_inquiry, open_inquiry.opening.payload, "Bank E") == "NotAwaited"
    assert refused_as(evm, open_inquiry, open_inquiry.opening.payload, "Bank A") == "NotAwaited"


# --------------------------------------------------------------------- named by the supervisor


def put(town: FakeTown, make: Callable[[Inquiry], bytes], number: int = 1) -> str:
    """Run an inquiry in which the liar contributes what `make` gives."""
    request = town.ask(number)
    town.asleep = {LIAR}
    town[0].work()
    town[LIAR].sync()
    send(town[LIAR], town.inquiry(request), make(town.inquiry(request)))
    town.settle()
    return request


def other_payload(town: FakeTown, inquiry: Inquiry) -> bytes:
    """The payload of an honest member in the same inquiry, mined before."""
    town[1].work()
    town[LIAR].sync()
    return town[LIAR].desk.state.inquiries[inquiry.id].payload(1)


def copied(town: FakeTown) -> Callable[[Inquiry], bytes]:
    return lambda inquiry: other_payload(town, inquiry)


def copied_ciphertext(town: FakeTown, rerandomise: bool) -> Callable[[Inquiry], bytes]:
    def make(inquiry: Inquiry) -> bytes:
        frame = protocol.frame_of(inquiry, town.chain.realm)
        _, ciphertexts = protocol.split_payload(frame, other_payload(town, inquiry))
        if rerandomise:
            ciphertexts = tuple(paillier.rerandomise(frame.public, c, r=77) for c in ciphertexts)
        return with_disclosure(inquiry, frame, LIAR, ciphertexts)

    return make


def from_another_inquiry(town: FakeTown) -> Callable[[Inquiry], bytes]:
    earlier = town.ask(2)
    town.settle()
    old = town.inquiry(earlier).payload(LIAR)
    return lambda inquiry: old


def crafted(town: FakeTown, **how: Any) -> Callable[[Inquiry], bytes]:
    return lambda inquiry: craft(town[LIAR], inquiry, **how)


DEVIATIONS: dict[str, Callable[[FakeTown], Callable[[Inquiry], bytes]]] = {
    "another's payload": copied,
    "another's ciphertext": lambda town: copied_ciphertext(town, False),
    "another's ciphertext, rerandomised": lambda town: copied_ciphertext(town, True),
    "one from another inquiry": from_another_inquiry,
    "a seed that does not fit": lambda town: crafted(town, disclosed=b"\7" * 32),
    "no mask": lambda town: crafted(town, masks=lambda keys: {}),
    "one mask left out": lambda town: crafted(town, masks=lambda keys: {i: k for i, k in keys.items() if i != 1}),
    "a wrong mask key": lambda town: crafted(town, masks=lambda keys: {**keys, 1: bytes(32)}),
    "a figure above its value bits": lambda town: crafted(town, blocks=lambda b: [b[0] + (1 << 50)]),
    "lenders: 2": lambda town: crafted(town, blocks=lambda b: [2 << 256]),
    "a bit outside the slots": lambda town: crafted(town, blocks=lambda b: [b[0] + (1 << 1500)]),
    "a negative figure": lambda town: crafted(town, blocks=lambda b: [-5]),
    "random bytes": lambda town: lambda inquiry: bytes(80) + b"\1" * 512,
}


@pytest.mark.parametrize("deviation", DEVIATIONS.values(), ids=DEVIATIONS.keys())
def test_contribution__deviates__supervisor_names_suspends_and_voids(
    town: FakeTown, deviation: Callable[[FakeTown], Callable[[Inquiry], bytes]]
) -> None:
    request = put(town, deviation(town))

    inquiry = town.inquiry(request)
    assert inquiry.stage is Stage.VOID
    assert inquiry.culprits == (LIAR,)
    assert town[0].desk.state.members[LIAR].suspended
    assert town[0].inquirer.get(request).state is RequestState.VOID


def test_contribution__deviates__its_customer_waits_and_others_are_asked_about_without_the_liar(town: FakeTown) -> None:
    # The others have answered over the cohort with the liar: a total without it would differ by the liar's figures (R27).
    put(town, crafted(town, blocks=lambda b: [b[0] + (1 << 50)]))

    again, other = town.ask(1), town.ask(2)
    town.settle()

    assert town[0].inquirer.get(again).state is RequestState.WANTED
    assert "Bank D" in town[0].inquirer.get(again).note
    assert town.inquiry(other).cohort == (0, 1, 2, 4)
    assert town[0].inquirer.get(other).state is RequestState.ATTESTED


def test_contribution__deviates_and_nobody_recomputes__false_total_stands(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The variant: a supervisor that only compares the report with the ledger's product.
    def believes(
        frame: Any, member: int, payload: bytes, masks: Any, *, supervisor_private: Any
    ) -> list[dict[str, int]]:
        return [figures(0) | {"lenders": 0}]

    monkeypatch.setattr(protocol, "read_contribution", believes)
    monkeypatch.setattr("mpcredit.supervisor._sum_records", lambda records: town[0].inquirer.requests()[-1].totals)
    # A debt of -1,000 at the liar hides the debts at the others.
    request = put(town, crafted(town, blocks=lambda b: [b[0] - 2 * b[0] % 2**64]))

    assert town[0].inquirer.get(request).state is RequestState.ATTESTED
    total = (town[0].inquirer.get(request).totals or [{}])[0]["outstanding"]
    assert total != figures(31)["outstanding"]


def test_contribution__honest__is_not_named(town: FakeTown) -> None:
    request = put(town, crafted(town))

    assert town.inquiry(request).stage is Stage.VALID
    assert not town.supervisor.supervisor.findings


@given(data=st.binary(min_size=592, max_size=592))
def test_read_contribution__any_bytes__name_the_member_and_raise_nothing_else(key: PrivateKey, data: bytes) -> None:
    # Whatever passes the contract's check of the width, the supervisor must come to a verdict.
    from mpcredit.errors import ProtocolViolation
    from mpcredit.pairkeys import InstitutionKey

    frame = protocol.Frame(b"q" * 32, b"c" * 32, key.public, FIGURES_1, 1, 1, (0, 1, 2))
    masks = {0: b"0" * 32, 2: b"2" * 32}
    private = InstitutionKey.from_bytes(b"s" * 32)

    with pytest.raises(ProtocolViolation) as caught:
        protocol.read_contribution(frame, 1, data, masks, supervisor_private=private)
    assert caught.value.culprits == (1,)


def test_read_contribution__coprime_to_nothing_under_a_hostile_key__names_the_member(key: PrivateKey) -> None:
    # Whoever knows p can make c = k p, which the contract's one squaring does not see (R21: supervisor and inquirer do).
    from mpcredit.errors import ProtocolViolation
    from mpcredit.pairkeys import InstitutionKey

    frame = protocol.Frame(b"q" * 32, b"c" * 32, key.public, FIGURES_1, 1, 1, (0, 1, 2))
    hostile = (key.p * 3).to_bytes(frame.public.width, "big")
    private = InstitutionKey.from_bytes(b"s" * 32)

    with pytest.raises(ProtocolViolation, match="factor"):
        protocol.read_contribution(
            frame, 1, bytes(80) + hostile, {0: b"0" * 32, 2: b"2" * 32}, supervisor_private=private
        )
    with pytest.raises(InvalidMessage):
        protocol.product(frame, [bytes(80) + hostile])


def test_frame__one_bit_of_ctx_differs__garbage_and_never_a_partial_opening(town: FakeTown) -> None:
    # Whoever was shown something else than the others masks under another ctx; nothing of the total is left.
    request = town.ask(1)
    town.settle()
    inquiry = town.inquiry(request)
    frame = protocol.frame_of(inquiry, town.chain.realm)
    other = protocol.Frame(
        frame.inquiry, bytes([frame.ctx[0] ^ 1]) + frame.ctx[1:], frame.public, FIGURES_1, 1, 1, frame.cohort
    )
    odd = protocol.contribution(
        other,
        LIAR,
        [figures(8)],
        town[LIAR].desk.mask_keys(inquiry.keys, inquiry.period_key.ref),
        seed=SEED,
        supervisor_public=inquiry.period_key.public,
    )
    payloads = [odd if i == LIAR else inquiry.payload(i) for i in inquiry.cohort]

    private = town[0].desk.keys.inquiry_key(PublicKey.from_bytes(inquiry.opening.n).fingerprint)
    with pytest.raises(MpcreditError):
        protocol.totals(frame, total_of(private, frame, payloads))
