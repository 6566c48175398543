"""One sealed subject that opens to two contents, and the rule that stops it (R16).

ChaCha20Poly1305 does not commit to its key. The inquirer picks two content keys and one ciphertext whose tag is right
under both: it solves one 16-byte block of the ciphertext from

    (poly_r1(C) mod P) + s1 = (poly_r2(C) mod P) + s2   mod 2^128,      P = 2^130 - 5.

It wraps the first key for one bank and the second for all others. One bank reads the customer; the others read a
subject that nobody knows and answer zeros; the total is then that one bank's figure.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets

import pytest
from attackers import inquiry_key, open_crafted, total_of
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from fakes import FakeTown, figures, subject

from mpcredit import protocol, sealing
from mpcredit.disclosure import RefusalCode
from mpcredit.errors import InvalidSubject
from mpcredit.pairkeys import InstitutionKey

P = 2**130 - 5
NONCE = bytes(12)
Q0 = hashlib.sha256(b"q0").digest()


def keystream(key: bytes, counter: int, length: int) -> bytes:
    """ChaCha20 as RFC 8439 runs it, from a block counter on."""
    return Cipher(ChaCha20(key, counter.to_bytes(4, "little") + NONCE), None).encryptor().update(bytes(length))


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def poly1305_parts(key: bytes) -> tuple[int, int]:
    block = keystream(key, 0, 32)
    r = int.from_bytes(block[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    return r, int.from_bytes(block[16:], "little")


def seal_for_two(first: bytes, second: bytes, content: bytes, aad: bytes) -> bytes:
    """Make one ciphertext that opens under both keys: under `first` to `content` except for its last 16 bytes.

    Args:
        first: a key.
        second: another key.
        content: what the first key shows, a multiple of 16 bytes; the last block is the free one.
        aad: associated data, a multiple of 16 bytes.
    """
    ciphertext = xor(content, keystream(first, 1, len(content)))[:-16]
    lengths = len(aad).to_bytes(8, "little") + len(content).to_bytes(8, "little")
    (r1, s1), (r2, s2) = poly1305_parts(first), poly1305_parts(second)

    def evaluate(r: int, free: int) -> int:
        # RFC 8439 2.8: aad, ciphertext, lengths; each 16-byte block with the byte 1 after it, Horner's rule.
        total = 0
        for start in range(0, len(aad + ciphertext), 16):
            total = (total + int.from_bytes((aad + ciphertext)[start : start + 16], "little") + 2**128) * r % P
        total = (total + free) * r % P
        return (total + int.from_bytes(lengths, "little") + 2**128) * r % P

    # The free block enters both polynomials as free * r^2; the tags agree if the values differ by s2 - s1 plus some
    # multiple of 2^128 that the reductions hide.
    for multiple in itertools.chain(range(8), range(-1, -8, -1)):
        target = (s2 - s1 + multiple * 2**128) - (evaluate(r1, 0) - evaluate(r2, 0))
        free = target * pow(r1 * r1 - r2 * r2, -1, P) % P
        if not 2**128 <= free < 2**129:
            continue
        tags = [(evaluate(r, free) + s) % 2**128 for r, s in ((r1, s1), (r2, s2))]
        if tags[0] == tags[1]:
            return ciphertext + (free - 2**128).to_bytes(16, "little") + tags[0].to_bytes(16, "little")
    raise LookupError("no free block for these two keys: try others")


def two_keys(content: bytes, aad: bytes) -> tuple[bytes, bytes, bytes]:
    """Draw pairs of keys until a free block exists: a few tries."""
    while True:
        first, second = secrets.token_bytes(32), secrets.token_bytes(32)
        try:
            return first, second, seal_for_two(first, second, content, aad)
        except LookupError:
            continue


def test_two_contents__one_ciphertext__opens_under_both_keys() -> None:
    content = b"the customer".ljust(496, b".")

    first, second, sealed = two_keys(content + bytes(16), Q0)

    one = ChaCha20Poly1305(first).decrypt(NONCE, sealed, Q0)
    two = ChaCha20Poly1305(second).decrypt(NONCE, sealed, Q0)
    assert one[:-16] == content
    assert one != two


def test_two_contents__without_the_commitment__the_total_is_one_banks_figure() -> None:
    # A scheme that seals a tag and some spare bytes, with no commitment: the form that one would write first.
    customer = hashlib.sha256(b"tag of the customer").digest()
    books = {1: {customer: 111_000}, 2: {customer: 222_000}, 3: {customer: 333_000}}
    first, second, sealed = two_keys(customer + bytes(32), Q0)
    wrapped = {1: first, 2: second, 3: second}

    def answer(bank: int) -> int:
        tag = ChaCha20Poly1305(wrapped[bank]).decrypt(NONCE, sealed, Q0)[:32]
        return books[bank].get(tag, 0)

    assert sum(answer(bank) for bank in books) == 111_000


def sealed_with_two_keys(
    content: bytes, commit_to_first: bool, wraps: dict[int, bytes], supervisor: InstitutionKey
) -> tuple[bytes, bytes, bytes, bytes]:
    """The attack in this product's own form: member 1 gets the first key, all others and the supervisor the second."""
    first, second, body = two_keys(content, Q0)
    shown = ChaCha20Poly1305(first if commit_to_first else second).decrypt(NONCE, body, Q0)
    commitment = hashlib.sha256(b"mpcredit/subject/2" + (first if commit_to_first else second) + shown).digest()
    sealed = bytes([2, len(wraps)])
    for member, wrap in sorted(wraps.items()):
        cipher = ChaCha20Poly1305(sealing._wrap_key(wrap, Q0, 0, member, commitment))
        sealed += bytes([member]) + cipher.encrypt(NONCE, first if member == 1 else second, commitment)
    info = b"mpcredit/wrap-supervisor/2" + Q0 + commitment
    return sealed + sealing.hpke_seal(supervisor.public, second, info) + body, commitment, first, second


@pytest.mark.parametrize("commit_to_first", [True, False])
def test_two_contents__with_the_commitment__all_but_one_side_refuse(commit_to_first: bool) -> None:
    supervisor = InstitutionKey.generate()
    wraps = {member: bytes([member]) * 32 for member in (1, 2, 3)}
    sealed, commitment, _, _ = sealed_with_two_keys(bytes(1024), commit_to_first, wraps, supervisor)

    def outcome(member: int) -> str:
        with pytest.raises(InvalidSubject) as caught:
            sealing.open_subjects_member(sealed, commitment, Q0, 0, member, wraps[member])
        return caught.value.message

    refused = [member for member in wraps if "commitment" in outcome(member)]

    # The side that the commitment is for gets past it (and, the free block being no proper padding, no further).
    assert refused == ([2, 3] if commit_to_first else [1])
    with pytest.raises(InvalidSubject, match="commitment" if commit_to_first else "padded"):
        sealing.open_subjects_supervisor(sealed, commitment, Q0, supervisor)


def test_two_contents__with_the_rule_taken_out__nobody_notices_the_other_key(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same blob, with the one line of the rule disarmed and the parser replaced by one that takes any content: each
    # member gets its own content. So it is the rule that refuses above, not something else.
    supervisor = InstitutionKey.generate()
    wraps = {member: bytes([member]) * 32 for member in (1, 2, 3)}
    sealed, commitment, first, second = sealed_with_two_keys(bytes(1024), True, wraps, supervisor)
    monkeypatch.setattr(sealing, "_subject_commitment", lambda key, plaintext: commitment)
    monkeypatch.setattr(sealing.SubjectList, "parse", staticmethod(lambda plaintext: plaintext))

    shown = {member: sealing.open_subjects_member(sealed, commitment, Q0, 0, member, wraps[member]) for member in wraps}

    body = sealed[-1040:]
    assert shown[1] == ChaCha20Poly1305(first).decrypt(NONCE, body, Q0)
    assert shown[2] == shown[3] == ChaCha20Poly1305(second).decrypt(NONCE, body, Q0) != shown[1]


# --------------------------------------------------------------------- through the whole protocol


def seal_two_contents(
    subjects: sealing.SubjectList, *, q0: bytes, inquirer: int, wraps: dict[int, bytes], supervisor_public: bytes
) -> tuple[bytes, bytes]:
    """`sealing.seal_subjects` as the attacker does it: member 1 gets the customer, all others something else."""
    first, second, body = two_keys(subjects.plaintext, q0)
    shown = ChaCha20Poly1305(first).decrypt(NONCE, body, q0)
    commitment = sealing._subject_commitment(first, shown)
    sealed = bytes([2, len(wraps)])
    for member, wrap in sorted(wraps.items()):
        cipher = ChaCha20Poly1305(sealing._wrap_key(wrap, q0, inquirer, member, commitment))
        sealed += bytes([member]) + cipher.encrypt(NONCE, first if member == 1 else second, commitment)
    info = b"mpcredit/wrap-supervisor/2" + q0 + commitment
    return sealed + sealing.hpke_seal(supervisor_public, second, info) + body, commitment


def test_two_contents__on_the_ledger__every_furnisher_refuses_with_subject(town: FakeTown) -> None:
    town.asleep, town.supervised = {1, 2, 3, 4}, False
    _, q = open_crafted(town[0], [(town.tagger.tag(subject(1)), town.consent(1))], seal=seal_two_contents)

    judged = {}
    for index in (1, 2, 3, 4):
        town[index].sync()
        refusal = town[index].furnisher.judge(town[index].desk.state.inquiries[q])
        assert refusal is not None
        judged[index] = refusal.code
    town.asleep = {0}
    town.supervised = True
    town.settle()

    assert set(judged.values()) == {RefusalCode.SUBJECT}
    assert set(town[1].desk.state.inquiries[q].contributions) == {0}
    assert town.supervisor.supervisor.verified[q].culprits == (0,)


def test_two_contents__without_rule_and_parser__the_total_is_one_banks_figure(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same blob against this code with the commitment disarmed, and a parser that reads for the customer what opens to
    # the customer's list and for all others a list about nobody: the total is the figure of member 1 alone.
    town.supervised = False
    town.books[0].figures.clear()  # the inquirer's own
    consent = town.consent(1)
    nobody = town.consent(99)
    customer = sealing.SubjectList(1, "TWD", consent.purpose, (sealing.SubjectEntry(consent.tag, consent),))
    stranger = sealing.SubjectList(1, "TWD", nobody.purpose, (sealing.SubjectEntry(nobody.tag, nobody),))
    monkeypatch.setattr("mpcredit.disclosure._consent_problem", lambda *_: None)
    monkeypatch.setattr(
        sealing, "_open_content", lambda parts, key, commitment, q0: _read(parts, key, q0, customer, stranger)
    )
    _, q = open_crafted(town[0], [(consent.tag, consent)], seal=seal_two_contents)

    town.settle()

    inquiry = town[0].desk.state.inquiries[q]
    frame = protocol.frame_of(inquiry, town.chain.realm)
    total = total_of(inquiry_key(town[0], inquiry), frame, [inquiry.payload(i) for i in inquiry.cohort])
    assert frame.schema.unpack(total, 1, 2048, 5) == [figures(2)]


def _read(
    parts: sealing._Sealed, key: bytes, q0: bytes, customer: sealing.SubjectList, stranger: sealing.SubjectList
) -> sealing.SubjectList:
    shown = ChaCha20Poly1305(key).decrypt(NONCE, parts.body, q0)
    return customer if shown[:256] == customer.plaintext[:256] else stranger
