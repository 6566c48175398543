"""What the attackers of this folder have in common: opening ciphertexts, crafting answers, the naive schemes.

An attacker gets all that the design allows it: its private keys, all blocks, logs and storage, and copies of everything
that was ever broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fakes import FakeTown, public_key_pair

from mpcredit import keyproof, paillier, protocol
from mpcredit.consent import Consent, Purpose
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidMessage
from mpcredit.events import Call, Opening, Stage, members_of
from mpcredit.institution import Institution
from mpcredit.paillier import PrivateKey
from mpcredit.schema import FIGURES_1
from mpcredit.sealing import SubjectEntry, SubjectList, derived_roots, seal_disclosure, seal_subjects
from mpcredit.state import Inquiry

SEED = bytes(range(32))


def inquiry_key(bank: Institution, inquiry: Inquiry) -> PrivateKey:
    """The inquirer's private key of an inquiry."""
    public = paillier.PublicKey.from_bytes(inquiry.opening.n)
    return bank.desk.keys.inquiry_key(public.fingerprint)


def plaintexts(private: PrivateKey, frame: protocol.Frame, payload: bytes) -> list[int]:
    """What the inquirer's key makes of one contribution."""
    return [paillier.decrypt(private, c) for c in protocol.split_payload(frame, payload)[1]]


def total_of(private: PrivateKey, frame: protocol.Frame, payloads: Sequence[bytes]) -> list[int]:
    """What the inquirer's key makes of the product of contributions."""
    return [paillier.decrypt(private, c) for c in protocol.product(frame, payloads)]


def reads_as_figures(frame: protocol.Frame, blocks: Sequence[int], members: int = 1) -> list[dict[str, int]] | None:
    """The records, if the plaintexts look like packed figures at all."""
    try:
        return frame.schema.unpack(blocks, frame.subjects, frame.public.bits, members)
    except Exception:
        return None


def craft(
    bank: Institution,
    inquiry: Inquiry,
    *,
    figures: Sequence[Mapping[str, int]] | None = None,
    blocks: Callable[[list[int]], list[int]] = lambda plain: plain,
    masks: Callable[[dict[int, bytes]], dict[int, bytes]] = lambda keys: keys,
    disclosed: bytes | None = None,
    seed: bytes = SEED,
) -> bytes:
    """A contribution of a furnisher that deviates in the ways given, and else does what R18 to R20 say.

    Args:
        figures: instead of those of its book; the inquirer, which has no wrap of the subjects, gives them.
        blocks: what to make of the packed plaintexts.
        masks: what to make of its pair mask keys.
        disclosed: the seed to seal to the supervisor, instead of the one used.
    """
    from mpcredit.pairkeys import mask_sum

    desk = bank.desk
    frame = protocol.frame_of(inquiry, desk.realm)
    own = desk.index
    records = figures or [
        bank.furnisher.book.record(inquiry.schema, entry.tag) for entry in desk.subjects(inquiry).entries
    ]
    keys = masks(desk.mask_keys(inquiry.keys, inquiry.period_key.ref))
    n = frame.public.n
    plain = blocks(frame.schema.pack(records, frame.public.bits))
    masked = [(m + mask_sum(own, keys, frame.ctx, b, n)) % n for b, m in enumerate(plain)]
    roots = derived_roots(seed, frame.ctx, own, frame.blocks, frame.public)
    ciphertexts = [paillier.encrypt(frame.public, m, r=r) for m, r in zip(masked, roots, strict=True)]
    return with_disclosure(inquiry, frame, own, ciphertexts, seed if disclosed is None else disclosed)


def with_disclosure(
    inquiry: Inquiry, frame: protocol.Frame, member: int, ciphertexts: Sequence[int], seed: bytes = SEED
) -> bytes:
    """A payload of these ciphertexts with a disclosure that opens (to whatever seed)."""
    return with_disclosure_of_bytes(inquiry, frame, member, protocol.join_payload(b"", ciphertexts, frame.public), seed)


def with_disclosure_of_bytes(inquiry: Inquiry, frame: protocol.Frame, member: int, body: bytes, seed: bytes) -> bytes:
    """The same, of bytes that need not be ciphertexts."""
    return seal_disclosure(seed, inquiry.period_key.public, frame.ctx, member, body) + body


def send(bank: Institution, inquiry: Inquiry, payload: bytes) -> None:
    """Contribute a crafted payload from a bank whose own service will not answer any more."""
    bank.desk.store.insert("answer", to_hex(inquiry.id), {"payload": to_hex(payload), "cohort": "0x0"})
    bank.desk.post(
        f"answer/{to_hex(inquiry.id)}", Call(inquiry.joint_credit, "contribute", (inquiry.id, bank.desk.index, payload))
    )


def stored_payload(bank: Institution, inquiry: Inquiry) -> bytes:
    """The answer that a bank has made, be it mined or not."""
    answer = bank.desk.store.get("answer", to_hex(inquiry.id))
    assert answer is not None
    return hex_bytes(answer["payload"], None)


def naive_contribution(
    frame: protocol.Frame, records: Sequence[Mapping[str, int]], root: Callable[[], int] | None = None
) -> tuple[int, ...]:
    """The scheme that one would write first: everybody encrypts under the inquirer's key, and nothing else."""
    return tuple(
        paillier.encrypt(frame.public, m, r=root() if root else paillier.random_root(frame.public))
        for m in frame.schema.pack(records, frame.public.bits)
    )


def silent(town: FakeTown, *members: int) -> None:
    """Stop services without a word: they stay in the next cohort."""
    town.asleep |= set(members)


ANSWERED = (Stage.COMPLETE, Stage.REPORTED, Stage.VALID)
"""All have contributed; what comes after depends on who works."""


def first_attempt(town: FakeTown, request: str, *, by: int = 0) -> Inquiry:
    """A request's first inquiry; after a refusal WINDOW its service opens another."""
    town.banks[by].sync()
    attempts = town.banks[by].inquirer.get(request).value["attempts"]
    return town.banks[by].desk.state.inquiries[hex_bytes(attempts[0]["inquiry"], 32)]


def refusals(town: FakeTown, request: str, *, by: int = 0) -> tuple[int, int]:
    """Who refused a request's inquiry, and with which code."""
    refusal = town.inquiry(request, by=by).refusal
    assert refusal is not None
    return refusal.member, refusal.code


def open_crafted(
    bank: Institution,
    entries: Sequence[tuple[bytes, Consent]],
    *,
    n: int | None = None,
    key_proof: bytes | None = None,
    purpose: Purpose | None = None,
    currency: str = "TWD",
    listed_currency: str | None = None,
    listed_schema: int = 1,
    consents: Sequence[bytes] | None = None,
    blocks: int | None = None,
    seal: Callable[..., tuple[bytes, bytes]] = seal_subjects,
    own: Sequence[Mapping[str, int]] | None = None,
    post: bool = True,
) -> tuple[Opening, bytes]:
    """Open an inquiry as an inquirer that deviates in the ways given, and else does what R14 to R20 say.

    Args:
        n: a modulus that need not be one; by default the public test key.
        own: its own figures.
        post: False only makes it.

    Returns:
        The opening and q.
    """
    desk = bank.desk
    bank.sync()
    state = desk.state
    private = public_key_pair()
    modulus = private.public.n if n is None else n
    width = (modulus.bit_length() + 7) // 8
    bitmap = state.cohort(0, desk.follower.next_time)
    cohort = {i: key for i in members_of(bitmap) if (key := state.serving_key(i)) is not None}
    assert state.period_key is not None
    assert state.joint_credit is not None
    supervisor, period = state.period_key.public, state.period_key.ref
    nonce = 1 + len(state.inquiries)
    n_bytes = modulus.to_bytes(width, "big")
    q0 = protocol.inquiry_q0(desk.realm, state.joint_credit, desk.index, n_bytes, state.roster, nonce)
    subjects = SubjectList(
        listed_schema,
        listed_currency or currency,
        purpose or entries[0][1].purpose,
        tuple(SubjectEntry(tag, consent) for tag, consent in entries),
    )
    wraps = {i: desk.pair_keys(cohort[desk.index], key, period).wrap for i, key in cohort.items() if i != desk.index}
    sealed, commitment = seal(subjects, q0=q0, inquirer=desk.index, wraps=wraps, supervisor_public=supervisor)
    opening = Opening(
        nonce=nonce,
        group=0,
        repeats=False,
        schema=1,
        blocks=blocks or FIGURES_1.blocks(len(entries), max(2048, modulus.bit_length())),
        currency=currency,
        roster=state.roster,
        cohort=bitmap,
        n=n_bytes,
        key_proof=keyproof.prove(private) if key_proof is None else key_proof,
        consents=tuple(consent.hash for _, consent in entries) if consents is None else tuple(consents),
        sealed_subject=sealed,
        subject_commitment=commitment,
        payload=bytes(80 + 2 * width),
    )
    try:
        frame = protocol.make_frame(
            desk.realm, state.joint_credit, desk.index, opening, FIGURES_1, tuple(sorted(cohort))
        )
        records = own or [bank.furnisher.book.record(FIGURES_1, tag) for tag, _ in entries]
        payload = protocol.contribution(
            frame, desk.index, records, desk.mask_keys(cohort, period), seed=SEED, supervisor_public=supervisor
        )
        opening = replace(opening, payload=payload)
    except InvalidMessage:
        pass  # a modulus under which nothing can be encrypted: the payload stays empty
    desk.keys.keep_inquiry_key(private)
    if post:
        desk.outbox.post(f"open/crafted/{nonce}", Call(state.joint_credit, "open", (desk.index, opening.arguments())))
        bank.sync()
    return opening, protocol.inquiry_id(q0, opening)
