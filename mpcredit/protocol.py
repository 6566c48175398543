"""The messages of one inquiry and their checks, as pure functions: ids, masked contributions, aggregate, totals.

One contribution, from figures to bytes (R18 to R21):

    records --pack--> plaintexts --add pair masks mod n--> m_i --Paillier, randomness from the seed--> ciphertexts
    payload = disclosure (the seed, sealed to the supervisor) || ciphertexts

Over the cohort the masks cancel, so the product of the ciphertexts encrypts the packed sums. Who may answer is left to
`disclosure`, when and in what order to the roles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpcredit import keyproof, paillier
from mpcredit.encoding import abi_encode, bytes_to_int, int_to_bytes, keccak
from mpcredit.errors import InvalidKey, InvalidMessage, ProtocolViolation, ValueOutOfRange
from mpcredit.events import Opening
from mpcredit.paillier import PrivateKey, PublicKey
from mpcredit.pairkeys import AgreementKey, Realm, mask_sum
from mpcredit.schema import Schema
from mpcredit.sealing import derived_roots, open_disclosure, seal_disclosure
from mpcredit.state import Inquiry

__all__ = [
    "DISCLOSURE_BYTES",
    "MAXIMUM_BLOCKS",
    "SPEC_VERSION",
    "Frame",
    "aggregate_bytes",
    "check_cohort",
    "check_key",
    "context",
    "contribution",
    "frame_of",
    "inquiry_id",
    "inquiry_q0",
    "join_payload",
    "make_frame",
    "open_aggregate",
    "parse_aggregate",
    "product",
    "read_contribution",
    "split_payload",
    "totals",
]

SPEC_VERSION = "2"
"""Of docs/spec.md, of `JointCredit.version()` and of every encoding here."""
DISCLOSURE_BYTES = 80
"""HPKE encapsulated key (32), seed (32), AEAD tag (16)."""
MAXIMUM_BLOCKS = 16
"""Ciphertexts in one contribution, as in the contract; `limits` has the bounds of the transaction around them."""


def _label(text: str) -> bytes:
    return text.encode("ascii").ljust(32, b"\0")


def inquiry_q0(realm: Realm, joint_credit: str, inquirer: int, n: bytes, roster: bytes, nonce: int) -> bytes:
    """The id that keys the wraps of the sealed subject (R15), 32 bytes."""
    return keccak(
        abi_encode(
            ["bytes32", "uint256", "address", "uint8", "bytes32", "bytes32", "uint64"],
            [_label("mpcredit/q0/2"), realm.chain_id, joint_credit, inquirer, keccak(n), roster, nonce],
        )
    )


def inquiry_id(q0: bytes, opening: Opening) -> bytes:
    """The id q of the inquiry (R15), 32 bytes."""
    return keccak(
        abi_encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "uint8", "bool", "uint16", "bytes3", "uint8", "bytes32"],
            [
                q0,
                keccak(opening.sealed_subject),
                opening.subject_commitment,
                opening.cohort,
                opening.group,
                opening.repeats,
                opening.schema,
                opening.currency.encode("ascii"),
                opening.blocks,
                keccak(abi_encode(["bytes32[]"], [list(opening.consents)])),
            ],
        )
    )


def context(realm: Realm, joint_credit: str, inquiry: bytes, opening: Opening, schema: Schema) -> bytes:
    """The hash of everything the contributors must agree on (R15), 32 bytes; it keys masks, randomness and disclosure."""
    return keccak(
        abi_encode(
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
                _label("mpcredit/ctx/2"),
                realm.chain_id,
                joint_credit,
                inquiry,
                opening.cohort,
                opening.roster,
                keccak(opening.n),
                schema.hash,
                opening.blocks,
                opening.subject_commitment,
            ],
        )
    )


@dataclass(frozen=True)
class Frame:
    """What a contributor needs to know of an inquiry; the same for all of them."""

    inquiry: bytes
    ctx: bytes
    public: PublicKey
    schema: Schema
    subjects: int
    blocks: int
    cohort: tuple[int, ...]

    @property
    def payload_bytes(self) -> int:
        """Length of every contribution."""
        return DISCLOSURE_BYTES + self.blocks * self.public.width


def make_frame(
    realm: Realm, joint_credit: str, inquirer: int, opening: Opening, schema: Schema, cohort: tuple[int, ...]
) -> Frame:
    """Compute ids and context of an opening.

    Raises:
        InvalidMessage: the schema is another, or the number of blocks is not the one that the subjects need.
        InvalidKey: n has not the form of a modulus.
    """
    if schema.id != opening.schema:
        raise InvalidMessage(
            f"the definition registered as schema {opening.schema} is not that of schema {opening.schema}",
            remedy="use another schema",
        )
    public = PublicKey.from_bytes(opening.n)
    subjects = len(opening.consents)
    blocks = schema.blocks(subjects, public.bits)
    if opening.blocks != blocks or blocks > MAXIMUM_BLOCKS:
        raise InvalidMessage(
            f"{subjects} subjects need {blocks} ciphertext blocks (at most {MAXIMUM_BLOCKS}), not {opening.blocks}",
            remedy="the inquirer must open the inquiry anew with the right number",
        )
    q0 = inquiry_q0(realm, joint_credit, inquirer, opening.n, opening.roster, opening.nonce)
    inquiry = inquiry_id(q0, opening)
    ctx = context(realm, joint_credit, inquiry, opening, schema)
    return Frame(inquiry, ctx, public, schema, subjects, blocks, cohort)


def frame_of(inquiry: Inquiry, realm: Realm) -> Frame:
    """The frame of an inquiry on the ledger, with its ids recomputed (R15).

    Raises:
        InvalidMessage: the ids on this endpoint do not follow from what was published.
    """
    frame = make_frame(realm, inquiry.joint_credit, inquiry.inquirer, inquiry.opening, inquiry.schema, inquiry.cohort)
    q0 = inquiry_q0(
        realm,
        inquiry.joint_credit,
        inquiry.inquirer,
        inquiry.opening.n,
        inquiry.opening.roster,
        inquiry.opening.nonce,
    )
    if frame.inquiry != inquiry.id or q0 != inquiry.opened.q0:
        raise InvalidMessage(
            "the inquiry's id does not follow from what was published",
            remedy="use another endpoint; this one shows a changed inquiry",
        )
    return frame


def check_key(inquiry: Inquiry) -> None:
    """Check the inquirer's modulus and its proof (R6, R7); answers are cached by `keyproof`.

    Raises:
        InvalidKey: the modulus is malformed.
        InvalidProof: the proof does not verify.
    """
    n = bytes_to_int(inquiry.opening.n)
    keyproof.check_key(n, inquiry.opening.key_proof, inquiry.parameters.minimum_modulus_bits)
    if len(inquiry.opening.n) * 8 != n.bit_length():
        raise InvalidKey("the modulus is written with leading zeros", remedy="the inquirer must publish it as it is")


def check_cohort(inquiry: Inquiry, minimum: int) -> None:
    """Check that the cohort is one that the ledger would freeze, of accepted members, and large enough (R14).

    Whether a cohort that repeats an earlier one may be answered is the answer policy's to say.

    Args:
        minimum: this reader's own least cohort; never below 3 whatever the endpoint says.

    Raises:
        InvalidMessage: an endpoint shows a false cohort or members that this reader has not accepted.
    """
    floor = max(3, minimum, inquiry.parameters.minimum_cohort)
    if len(inquiry.cohort) < floor:
        raise InvalidMessage(f"the cohort has {len(inquiry.cohort)} members, fewer than {floor}")
    cohort, ready = inquiry.opening.cohort, inquiry.ready
    if inquiry.opening.repeats:
        if cohort & ~ready or 3 * len(inquiry.cohort) < 2 * ready.bit_count():
            raise InvalidMessage(
                "the cohort repeats an earlier one without two thirds of the ready members, or with others",
                remedy="use another endpoint",
            )
    elif cohort != ready:
        raise InvalidMessage("the cohort is not the set of members that were ready", remedy="use another endpoint")
    if inquiry.unpinned:
        who = ", ".join(inquiry.names.get(i, "the supervisor") for i in inquiry.unpinned)
        raise InvalidMessage(
            f"the owner account behind the key of {who} is not one that this institution has accepted",
            remedy="compare it with them by another channel, then `mpcredit member pin`",
        )


def join_payload(disclosure: bytes, ciphertexts: Sequence[int], public: PublicKey) -> bytes:
    """Disclosure, then the ciphertexts at fixed width."""
    return disclosure + b"".join(paillier.ciphertext_bytes(public, c) for c in ciphertexts)


def split_payload(frame: Frame, payload: bytes) -> tuple[bytes, tuple[int, ...]]:
    """Take a payload apart and check each ciphertext (R21).

    Raises:
        InvalidMessage: the length is wrong.
        InvalidCiphertext: a block is not a ciphertext of the key.
    """
    if len(payload) != frame.payload_bytes:
        raise InvalidMessage(f"a contribution has {frame.payload_bytes} bytes here, not {len(payload)}")
    width = frame.public.width
    body = payload[DISCLOSURE_BYTES:]
    ciphertexts = tuple(
        paillier.parse_ciphertext(frame.public, body[start : start + width]) for start in range(0, len(body), width)
    )
    return payload[:DISCLOSURE_BYTES], ciphertexts


def contribution(
    frame: Frame,
    member: int,
    records: Sequence[Mapping[str, int]],
    mask_keys: Mapping[int, bytes],
    *,
    seed: bytes,
    supervisor_public: bytes,
) -> bytes:
    """Make a member's contribution. Call it once per inquiry and store the result before it leaves the process (R24).

    Args:
        records: one per subject, in the order of the sealed list; zeros for who is not a customer.
        mask_keys: the pair mask key with every other member of the cohort.
        seed: 32 fresh random bytes; all randomness of the contribution follows from it.

    Raises:
        ValueOutOfRange: a figure does not fit its slot.
        InvalidMessage: records or mask keys do not fit the inquiry.
    """
    if len(records) != frame.subjects:
        raise InvalidMessage(f"the inquiry has {frame.subjects} subjects, not {len(records)}")
    if set(mask_keys) != set(frame.cohort) - {member} or member not in frame.cohort:
        raise InvalidMessage("a contribution needs one mask key for every other member of the cohort")

    # (1) pack the figures: R5.
    plaintexts = frame.schema.pack(records, frame.public.bits)

    # (2) add the masks: uniform in Z_n, whatever n is: R18.
    n = frame.public.n
    masked = [(m + mask_sum(member, mask_keys, frame.ctx, block, n)) % n for block, m in enumerate(plaintexts)]

    # (3) encrypt with randomness from the seed: R19.
    roots = derived_roots(seed, frame.ctx, member, frame.blocks, frame.public)
    ciphertexts = [paillier.encrypt(frame.public, m, r=r) for m, r in zip(masked, roots, strict=True)]

    # (4) seal the seed to the supervisor, bound to context, member and ciphertexts: R20.
    body = join_payload(b"", ciphertexts, frame.public)
    return seal_disclosure(seed, supervisor_public, frame.ctx, member, body) + body


def read_contribution(
    frame: Frame, member: int, payload: bytes, mask_keys: Mapping[int, bytes], *, supervisor_private: AgreementKey
) -> list[dict[str, int]]:
    """Recompute one member's figures from its disclosure: the supervisor's check of a contribution (R20, R31).

    Args:
        mask_keys: the audited pair mask key of the member with every other member of the cohort.
        supervisor_private: the supervisor's X25519 key of the inquiry's period.

    Raises:
        ProtocolViolation: naming the member: the disclosure does not open or does not fit, a mask is off, a figure is out
            of its range.
    """
    n = frame.public.n
    try:
        disclosure, ciphertexts = split_payload(frame, payload)
        body = payload[DISCLOSURE_BYTES:]
        seed = open_disclosure(supervisor_private, disclosure, frame.ctx, member, body)
        roots = derived_roots(seed, frame.ctx, member, frame.blocks, frame.public)
        masked = [paillier.open_with_root(frame.public, c, r).m for c, r in zip(ciphertexts, roots, strict=True)]
        plaintexts = [(m - mask_sum(member, mask_keys, frame.ctx, block, n)) % n for block, m in enumerate(masked)]
        return frame.schema.unpack(plaintexts, frame.subjects, frame.public.bits, 1)
    except (InvalidMessage, ValueOutOfRange) as error:
        raise ProtocolViolation(
            f"the contribution of member {member} is not what its disclosure says: {error.message}",
            culprits=[member],
            remedy="the supervisor voids the inquiry and asks the member to explain",
        ) from error


def product(frame: Frame, payloads: Sequence[bytes]) -> tuple[int, ...]:
    """Multiply contributions block by block: the aggregate (R22).

    Raises:
        InvalidMessage: a payload is malformed.
    """
    columns = [split_payload(frame, payload)[1] for payload in payloads]
    return tuple(paillier.add(frame.public, *column) for column in zip(*columns, strict=True))


def aggregate_bytes(frame: Frame, aggregate: Sequence[int]) -> bytes:
    """The aggregate as the ledger writes it."""
    return b"".join(int_to_bytes(c, frame.public.width) for c in aggregate)


def parse_aggregate(frame: Frame, data: bytes) -> tuple[int, ...]:
    """Read an aggregate from the ledger."""
    width = frame.public.width
    if len(data) != frame.blocks * width:
        raise InvalidMessage("the aggregate has the wrong length")
    return tuple(bytes_to_int(data[start : start + width]) for start in range(0, len(data), width))


def totals(frame: Frame, plaintexts: Sequence[int]) -> list[dict[str, int]]:
    """Unpack the opened aggregate into one record of sums per subject, with the checks of R29.

    Raises:
        ValueOutOfRange: a bit outside the slots, or a slot above what the cohort could sum to: somebody set the total.
    """
    return frame.schema.unpack(list(plaintexts), frame.subjects, frame.public.bits, len(frame.cohort))


def open_aggregate(frame: Frame, private: PrivateKey, aggregate: Sequence[int]) -> tuple[paillier.Opening, ...]:
    """Open each block to (m, r) and check the openings (R29).

    Raises:
        InvalidCiphertext: the aggregate is not a ciphertext of the key.
    """
    openings = tuple(paillier.open_ciphertext(private, c) for c in aggregate)
    for c, opening in zip(aggregate, openings, strict=True):
        paillier.verify_opening(frame.public, c, opening)
    return openings
