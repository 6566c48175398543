"""R15, R18 to R22, R29: ids, contributions, aggregate and totals. Ids are recomputed with eth_abi and plain keccak."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from fakes import JOINT_CREDIT, REALM, TERMS, figures, public_key_pair
from hypothesis import given
from hypothesis import strategies as st

from mpcredit import keyproof, paillier, protocol
from mpcredit.errors import (
    InvalidCiphertext,
    InvalidKey,
    InvalidMessage,
    InvalidProof,
    ProtocolViolation,
    ValueOutOfRange,
)
from mpcredit.events import Opened, Opening, Position
from mpcredit.pairkeys import InstitutionKey
from mpcredit.protocol import Frame
from mpcredit.schema import FIGURES_1, GUARANTEES_2, Schema
from mpcredit.state import Inquiry, PeriodKey

KEY = public_key_pair()
SUPERVISOR = InstitutionKey.from_bytes(b"s" * 32)
OPENING = Opening(
    nonce=7,
    group=0,
    repeats=False,
    schema=1,
    blocks=1,
    currency="TWD",
    roster=b"r" * 32,
    cohort=0b1011,
    n=KEY.public.modulus,
    key_proof=b"",
    consents=(b"1" * 32, b"2" * 32),
    sealed_subject=b"sealed",
    subject_commitment=b"c" * 32,
    payload=b"",
)
COHORT = (0, 1, 3)
PAIRS = {frozenset(pair): bytes([min(pair), max(pair)]) * 16 for pair in itertools.combinations(range(6), 2)}


def frame(opening: Opening = OPENING, schema: Schema = FIGURES_1) -> Frame:
    return protocol.make_frame(REALM, JOINT_CREDIT, 1, opening, schema, COHORT)


def keys_of(member: int, cohort: tuple[int, ...] = COHORT) -> dict[int, bytes]:
    return {other: PAIRS[frozenset((member, other))] for other in cohort if other != member}


def contribute(f: Frame, member: int, records: list[dict[str, int]], **how: Any) -> bytes:
    return protocol.contribution(
        f,
        member,
        records,
        keys_of(member),
        **{"seed": bytes([member]) * 32, "supervisor_public": SUPERVISOR.public, **how},
    )


# ---------------------------------------------------------------- ids


def test_ids__computed_with_eth_abi__agree() -> None:
    def label(text: str) -> bytes:
        return text.encode().ljust(32, b"\0")

    q0 = keccak(
        encode(
            ["bytes32", "uint256", "address", "uint8", "bytes32", "bytes32", "uint64"],
            [label("mpcredit/q0/2"), 31337, JOINT_CREDIT, 1, keccak(OPENING.n), b"r" * 32, 7],
        )
    )
    q = keccak(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "uint8", "bool", "uint16", "bytes3", "uint8", "bytes32"],
            [
                *(q0, keccak(b"sealed"), b"c" * 32, 0b1011, 0, False, 1, b"TWD", 1),
                keccak(encode(["bytes32[]"], [[b"1" * 32, b"2" * 32]])),
            ],
        )
    )
    ctx = keccak(
        encode(
            [
                "bytes32",
                "uint256",
                "address",
                "bytes32",
                "uint256",
                "bytes32",
                "bytes32",
                "bytes32",
                "uint8",
                "bytes32",
            ],
            [
                *(label("mpcredit/ctx/2"), 31337, JOINT_CREDIT, q, 0b1011, b"r" * 32, keccak(OPENING.n)),
                *(keccak(FIGURES_1.definition), 1, b"c" * 32),
            ],
        )
    )

    assert (frame().inquiry, frame().ctx) == (q, ctx)


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": 8},
        {"currency": "USD"},
        {"roster": b"R" * 32},
        {"cohort": 0b1111},
        {"consents": (b"2" * 32, b"1" * 32)},
        {"sealed_subject": b"Sealed"},
        {"subject_commitment": b"C" * 32},
        {"n": public_key_pair("public-test-2048-b").public.modulus},
    ],
    ids=lambda change: next(iter(change)),
)
def test_ids__anything_the_parties_must_agree_on_differs__q_and_ctx_differ(change: dict[str, Any]) -> None:
    other = frame(replace(OPENING, **change))

    assert other.inquiry != frame().inquiry
    assert other.ctx != frame().ctx


def test_ids__other_contract_chain_or_inquirer__differ() -> None:
    elsewhere = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    found = {
        protocol.make_frame(realm, contract, inquirer, OPENING, FIGURES_1, COHORT).ctx
        for realm in (REALM, replace(REALM, chain_id=1))
        for contract in (JOINT_CREDIT, elsewhere)
        for inquirer in (0, 1)
    }

    assert len(found) == 8


def test_frame__wrong_number_of_blocks_schema_or_modulus__is_refused() -> None:
    for change, kind in (
        ({"blocks": 2}, InvalidMessage),
        ({"schema": 2}, InvalidMessage),
        ({"consents": tuple(bytes([i]) * 32 for i in range(200))}, InvalidMessage),
        ({"n": b"\0" + KEY.public.modulus}, InvalidKey),
        ({"n": KEY.public.modulus[:-1] + b"\0"}, InvalidKey),
        ({"n": KEY.public.modulus[:128]}, InvalidKey),
    ):
        with pytest.raises(kind):
            frame(replace(OPENING, **change))  # type: ignore[arg-type]  # one of several fields


def test_frame__number_of_blocks__is_the_one_that_the_subjects_need_and_at_most_16() -> None:
    # 2,048 bits hold 7 subjects of schema 1 in a block.
    for subjects, blocks in ((7, 1), (8, 2), (105, 15), (106, 16), (112, 16)):
        consents = tuple(bytes([i]) * 32 for i in range(subjects))
        assert frame(replace(OPENING, consents=consents, blocks=blocks)).blocks == blocks
        for wrong in (blocks - 1, blocks + 1):
            with pytest.raises(InvalidMessage, match=f"need {blocks} ciphertext blocks"):
                frame(replace(OPENING, consents=consents, blocks=wrong))
    with pytest.raises(InvalidMessage, match="at most 16"):
        frame(replace(OPENING, consents=tuple(bytes([i]) * 32 for i in range(113)), blocks=17))


def test_frame__definition_of_another_schema__is_refused() -> None:
    with pytest.raises(InvalidMessage):
        frame(OPENING, GUARANTEES_2)


# ---------------------------------------------------------------- an inquiry on the ledger


def shown(opening: Opening = OPENING, *, inquiry: bytes | None = None, q0: bytes | None = None) -> Inquiry:
    """The inquiry of member 1 as an endpoint shows it, with ids that follow or those given."""
    true = protocol.inquiry_q0(REALM, JOINT_CREDIT, 1, opening.n, opening.roster, opening.nonce)
    q = inquiry or protocol.inquiry_id(true, opening)
    at = Position(1, bytes(32), 0, 0, bytes(32), JOINT_CREDIT)
    opened = Opened(at, q, 1, q0 or true, JOINT_CREDIT, 0, opening)
    period = PeriodKey(1, SUPERVISOR.public, JOINT_CREDIT, 0)
    return Inquiry(opened, FIGURES_1, TERMS, {}, period, {}, {}, (), (), (), opening.cohort)


def test_frame_of__ids_that_follow__is_that_of_the_opening() -> None:
    found = protocol.frame_of(shown(), REALM)

    assert (found.inquiry, found.ctx) == (frame().inquiry, frame().ctx)


@pytest.mark.parametrize("wrong", [shown(inquiry=b"x" * 32), shown(q0=b"x" * 32)], ids=["q", "q0"])
def test_frame_of__one_id_that_does_not_follow__is_refused(wrong: Inquiry) -> None:
    # q0 opens the sealed subject and q names the masks: each is compared by itself.
    with pytest.raises(InvalidMessage, match="does not follow"):
        protocol.frame_of(wrong, REALM)


def test_check_key__leading_zeros__are_refused() -> None:
    proof = keyproof.prove(KEY)
    protocol.check_key(shown(replace(OPENING, key_proof=proof)))

    for zeros in (1, 32):
        padded = replace(OPENING, key_proof=proof, n=bytes(zeros) + OPENING.n)
        with pytest.raises(InvalidKey, match="leading zeros"):
            protocol.check_key(shown(padded))


# ---------------------------------------------------------------- contributions


def test_contributions__of_a_cohort__sum_to_the_sums_of_the_figures() -> None:
    f = frame()
    records = {member: [figures(member + 1), figures(2 * member + 1)] for member in COHORT}
    payloads = [contribute(f, member, records[member]) for member in COHORT]

    aggregate = protocol.product(f, payloads)
    openings = protocol.open_aggregate(f, KEY, aggregate)

    expected = [{name: sum(records[m][s][name] for m in COHORT) for name in FIGURES_1.zero} for s in (0, 1)]
    assert protocol.totals(f, [o.m for o in openings]) == expected
    assert protocol.parse_aggregate(f, protocol.aggregate_bytes(f, aggregate)) == aggregate
    assert {len(p) for p in payloads} == {f.payload_bytes} == {80 + 512}


@given(st.lists(st.integers(0, 2**48 - 1), min_size=3, max_size=3), st.permutations(range(3)))
def test_contributions__any_figures_in_any_order__sum_up(amounts: list[int], order: list[int]) -> None:
    f = frame(replace(OPENING, consents=(b"1" * 32,)))
    payloads = [contribute(f, m, [{**FIGURES_1.zero, "outstanding": a}]) for m, a in zip(COHORT, amounts, strict=True)]

    opened = protocol.open_aggregate(f, KEY, protocol.product(f, [payloads[i] for i in order]))

    assert protocol.totals(f, [o.m for o in opened])[0]["outstanding"] == sum(amounts)


def test_contribution__same_inputs__same_bytes_but_for_the_seal() -> None:
    f, records = frame(), [figures(1), figures(2)]

    one, two = contribute(f, 0, records), contribute(f, 0, records)

    assert one[80:] == two[80:]
    assert one[:80] != two[:80]
    assert contribute(f, 0, records, seed=b"\7" * 32)[80:] != one[80:]


def test_contribution__keys_records_or_figures_that_do_not_fit__are_refused() -> None:
    f, records = frame(), [figures(1), figures(2)]
    public = SUPERVISOR.public
    for member, given_records, keys, kind in (
        (0, records[:1], keys_of(0), InvalidMessage),
        (0, records, {1: b"k" * 32}, InvalidMessage),
        (0, records, {**keys_of(0), 2: b"k" * 32}, InvalidMessage),
        (2, records, {0: b"k" * 32, 1: b"k" * 32, 3: b"k" * 32}, InvalidMessage),
        (0, [figures(1), {**figures(1), "outstanding": 2**48}], keys_of(0), ValueOutOfRange),
        (0, [figures(1), {**figures(1), "outstanding": -1}], keys_of(0), ValueOutOfRange),
        (0, [figures(1), {**figures(1), "lenders": 2}], keys_of(0), ValueOutOfRange),
    ):
        with pytest.raises(kind):
            protocol.contribution(f, member, given_records, keys, seed=bytes(32), supervisor_public=public)


def test_read_contribution__honest__gives_the_figures_back() -> None:
    f, records = frame(), [figures(3), figures(4)]

    read = protocol.read_contribution(f, 3, contribute(f, 3, records), keys_of(3), supervisor_private=SUPERVISOR)

    assert read == records


@pytest.mark.parametrize(
    "how",
    ["other member", "other supervisor", "other masks", "other context", "altered seal", "altered ciphertext", "short"],
)
def test_read_contribution__anything_off__names_the_member(how: str) -> None:
    f = frame()
    payload = contribute(f, 3, [figures(3), figures(4)])
    member, keys, private = 3, keys_of(3), SUPERVISOR
    if how == "other member":
        member, keys = 1, keys_of(1)
    elif how == "other supervisor":
        private = InstitutionKey.from_bytes(b"x" * 32)
    elif how == "other masks":
        keys = {**keys, 0: b"\1" * 32}
    elif how == "other context":
        f = frame(replace(OPENING, nonce=8))
    elif how == "altered seal":
        payload = b"\1" + payload[1:]
    elif how == "altered ciphertext":
        payload = payload[:-1] + bytes([payload[-1] ^ 2])
    else:
        payload = payload[:-1]

    with pytest.raises(ProtocolViolation) as caught:
        protocol.read_contribution(f, member, payload, keys, supervisor_private=private)
    assert caught.value.culprits == (member,)


def test_split_payload__wrong_width_or_no_ciphertext__is_refused() -> None:
    f = frame()
    width = f.public.width
    block = contribute(f, 0, [figures(1), figures(2)])[80:]
    for wrong in (b"", block[:-1], block + b"\0", block + block):  # without a block, and with one too many
        with pytest.raises(InvalidMessage, match=f"has {80 + width} bytes here"):
            protocol.split_payload(f, bytes(80) + wrong)
    assert len(protocol.split_payload(f, bytes(80) + block)[1]) == 1
    for bad in (0, f.public.n, f.public.n_squared, KEY.p):
        with pytest.raises(InvalidCiphertext):
            protocol.split_payload(f, bytes(80) + bad.to_bytes(width, "big"))


# ---------------------------------------------------------------- totals


def test_totals__at_and_above_what_the_cohort_can_sum_to(monkeypatch: pytest.MonkeyPatch) -> None:
    f = frame(replace(OPENING, consents=(b"1" * 32,)))
    most = 3 * (2**48 - 1)

    assert protocol.totals(f, [most])[0]["outstanding"] == most
    for wrong in (most + 1, 4 << 256, 1 << 288, 1 << 2000):
        with pytest.raises(ValueOutOfRange):
            protocol.totals(f, [wrong])
    with pytest.raises(ValueOutOfRange):
        protocol.totals(f, [1, 1])


def test_open_aggregate__no_ciphertext__is_refused() -> None:
    for bad in (0, KEY.public.n, KEY.p):
        with pytest.raises(InvalidCiphertext):
            protocol.open_aggregate(frame(), KEY, [bad])


def test_open_aggregate__with_the_key_of_another_inquiry__is_no_opening() -> None:
    # Each number is a ciphertext under many keys: only the inquiry's own modulus tells.
    other = public_key_pair("public-test-2048-b")
    low, high = sorted((KEY, other), key=lambda pair: pair.public.n)
    f = frame(replace(OPENING, n=low.public.modulus))
    c = paillier.encrypt(low.public, 5, r=7)

    assert [opening.m for opening in protocol.open_aggregate(f, low, [c])] == [5]
    with pytest.raises(InvalidProof):
        protocol.open_aggregate(f, high, [c])


def test_parse_aggregate__other_length__is_refused() -> None:
    with pytest.raises(InvalidMessage):
        protocol.parse_aggregate(frame(), bytes(511))


def test_spec_version__is_a_digit() -> None:
    assert protocol.SPEC_VERSION == "2"
    assert paillier.MINIMUM_MODULUS_BITS == 2048
