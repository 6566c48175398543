"""What the package makes of the inputs of tests/vectors/protocol2.json, by item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils.address import to_checksum_address
from second import story

from mpcredit import keyproof, paillier, pairkeys, protocol, sealing
from mpcredit.consent import Consent, Purpose
from mpcredit.correcting import Sender
from mpcredit.encoding import abi_encode, keccak
from mpcredit.events import Change, Opening
from mpcredit.identity import Subject
from mpcredit.ledger.roster import account_statement, key_statement, roster_link, roster_start
from mpcredit.paillier import PrivateKey, PublicKey
from mpcredit.pairkeys import InstitutionKey, KeyRef, PeriodRef, Realm
from mpcredit.schema import FIGURES_1, Field, Schema
from mpcredit.sealing import SubjectEntry, SubjectList
from mpcredit.tags import HmacTagger, TagKey
from mpcredit.versions import Release

Input = Mapping[str, Any]


def raw(text: str) -> bytes:
    """Bytes of the file."""
    return bytes.fromhex(text)


def big(text: str) -> int:
    """A large number of the file."""
    return int(text, 16)


def modulus(name: str) -> int:
    """A published modulus, or a number."""
    return big(name) if name.startswith("0x") else story.modulus(name)


def private_key(name: str) -> PrivateKey:
    """The private key of a published modulus."""
    return PrivateKey.from_primes(*story.factors(name))


def realm(given: Input) -> Realm:
    """The consortium of a case."""
    return Realm(given["chain_id"], to_checksum_address(given["consortium"]))


def key_ref(given: Input) -> KeyRef:
    """A member's key of a case."""
    return KeyRef(given["member"], given["version"], raw(given["key"]))


def agreement_key(text: str) -> InstitutionKey:
    """A private X25519 key of a case."""
    return InstitutionKey.from_bytes(raw(text))


def opening_of(given: Input) -> tuple[bytes, Opening]:
    """q0 and the opening of a case, as far as ids depend on it."""
    fields = given["opening"]
    n = modulus(fields["modulus"])
    opening = Opening(
        nonce=big(fields["nonce"]),
        group=fields["group"],
        repeats=fields["repeats"],
        schema=fields["schema"],
        blocks=fields["blocks"],
        currency=raw(fields["currency"]).decode("ascii"),
        roster=raw(fields["roster"]),
        cohort=big(fields["cohort"]),
        n=PublicKey(n).modulus,
        key_proof=b"",
        consents=tuple(raw(consent) for consent in fields["consents"]),
        sealed_subject=raw(fields["sealed_subject"]),
        subject_commitment=raw(fields["subject_commitment"]),
        payload=b"",
    )
    at = Realm(given["chain_id"], to_checksum_address("0x" + "11" * 20))
    joint_credit = to_checksum_address(given["joint_credit"])
    q0 = protocol.inquiry_q0(at, joint_credit, fields["inquirer"], opening.n, opening.roster, opening.nonce)
    return q0, opening


def context_of(given: Input) -> bytes:
    """ctx of a case."""
    q0, opening = opening_of(given)
    at = Realm(given["chain_id"], to_checksum_address("0x" + "11" * 20))
    schema = Schema.parse(given["definition"].encode())
    inquiry = protocol.inquiry_id(q0, opening)
    return protocol.context(at, to_checksum_address(given["joint_credit"]), inquiry, opening, schema)


def tagger(keys: Sequence[str]) -> HmacTagger:
    """The tag keys of a case."""
    return HmacTagger(*(TagKey(version, raw(key)) for version, key in enumerate(keys, 1)))


def tag(given: Input) -> bytes:
    """The newest tag of an identity."""
    _, kind, country, number = given["identity"].split("|")
    return tagger(given["keys"]).tag(Subject(kind, number, country))


def packed(given: Input) -> list[str]:
    """Figures in blocks."""
    fields = tuple(Field(name, "count", value, slot, "-") for name, value, slot in given["fields"])
    records = [
        {field.name: figure for field, figure in zip(fields, record, strict=True)} for record in given["subjects"]
    ]
    blocks = Schema(1, "figures", fields).pack(records, modulus(given["modulus"]).bit_length())
    return [hex(block) for block in blocks]


def pair_key(given: Input) -> bytes:
    """What two members share for one use."""
    period = PeriodRef(given["period"]["version"], raw(given["period"]["key"]))
    private, own, other = agreement_key(given["private"]), key_ref(given["own"]), key_ref(given["other"])
    return bytes(getattr(pairkeys.derive(private, own, other, realm(given), period), given["use"]))


def masked(given: Input) -> str:
    """Figures with their masks."""
    keys = {int(other): raw(key) for other, key in given["pair_keys"].items()}
    n = modulus(given["modulus"])
    masks = pairkeys.mask_sum(given["member"], keys, raw(given["context"]), given["block"], n)
    return hex((big(given["packed"]) + masks) % n)


def randomness(given: Input) -> str:
    """r of one block."""
    public = PublicKey(modulus(given["modulus"]))
    arguments = raw(given["seed"]), raw(given["context"]), given["member"], given["block"] + 1, public
    return hex(sealing.derived_roots(*arguments)[-1])


def ciphertext(given: Input) -> bytes:
    """A ciphertext as the ledger has it."""
    public = PublicKey(modulus(given["modulus"]))
    return paillier.ciphertext_bytes(public, paillier.encrypt(public, big(given["m"]), r=big(given["r"])))


def split(data: bytes, width: int) -> list[int]:
    """Numbers of one width."""
    return [int.from_bytes(data[at : at + width], "big") for at in range(0, len(data), width)]


def aggregate(given: Input) -> bytes:
    """The product of one block."""
    public = PublicKey(modulus(given["modulus"]))
    product = paillier.add(public, *(int(each, 16) for each in given["contributions"]))
    return paillier.ciphertext_bytes(public, product)


def opened(given: Input) -> list[list[str]]:
    """The openings of an aggregate."""
    private = private_key(given["modulus"])
    blocks = split(raw(given["aggregate"]), private.public.width)
    return [[hex(each.m), hex(each.r)] for each in (paillier.open_ciphertext(private, block) for block in blocks)]


def openings(given: Input) -> list[paillier.Opening]:
    """The openings that a case gives."""
    return [paillier.Opening(big(m), big(r)) for m, r in given["openings"]]


def totals(given: Input) -> list[list[int]]:
    """Sums of four members out of an opened aggregate."""
    bits = modulus(given["modulus"]).bit_length()
    records = FIGURES_1.unpack([big(block) for block in given["blocks"]], given["subjects"], bits, 4)
    return [[record[field.name] for field in FIGURES_1.fields] for record in records]


def padded_list(given: Input) -> bytes:
    """The subject list with its padding."""
    receipts = [Consent.parse(text.encode()) for text in given["receipts"]]
    entries = tuple(SubjectEntry(consent.tag, consent) for consent in receipts)
    return SubjectList(given["schema"], given["currency"], Purpose(given["purpose"]), entries).plaintext


def subject_commitment(given: Input) -> bytes:
    """What the ledger holds of a sealed subject: the same, whoever it is sealed to."""
    subjects = SubjectList.parse(raw(given["padded_list"]))
    return sealing.seal_subjects(
        subjects,
        q0=bytes(32),
        inquirer=0,
        wraps={1: bytes(32)},
        supervisor_public=story.PERIOD.key,
        content_key=raw(given["content_key"]),
    )[1]


def signature(given: Input) -> bytes:
    """The owner's signature of a statement."""
    signed = Account.sign_message(encode_defunct(primitive=raw(given["statement"])), raw(given["private"]))
    return bytes(signed.signature)


def moment(given: Input) -> int:
    """When a member's daily notice goes out; the sender needs no more of its desk for it."""

    class Desk:
        def __init__(self) -> None:
            self.realm = realm(given)
            self.index = given["member"]

    return Sender(Desk()).moment(given["day"])  # type: ignore[arg-type]


def schema(given: Input) -> str:
    """The definition of a schema."""
    return Schema(given["id"], given["name"], tuple(Field(**field) for field in given["fields"])).definition.decode()


def calls_hash(given: Input) -> bytes:
    """The package reads this hash from the ledger alone; its ABI encoder gives the second opinion."""
    return keccak(abi_encode(["bytes[]"], [[raw(call) for call in given["calls"]]]))


MADE: Mapping[str, Callable[[Input], object]] = {
    "identity": lambda i: Subject(i["kind"], i["number"], i["country"]).canonical.decode(),
    "tag": tag,
    "raised tag": lambda i: tagger(i["keys"][: i["newest"]]).raised(raw(i["tag"]), i["version"]),
    "tag key commitment": lambda i: TagKey(i["version"], raw(i["key"])).commitment,
    "figures": packed,
    "schema": schema,
    "records per block": lambda i: FIGURES_1.records_per_block(i["modulus_bits"]),
    "key proof challenge": lambda i: hex(keyproof.challenge(modulus(i["modulus"]), i["place"])),
    "key proof": lambda i: keyproof.prove(private_key(i["modulus"])),
    "key statement": lambda i: key_statement(realm(i), i["member"], i["version"], raw(i["key"]), raw(i["previous"])),
    "account statement": lambda i: account_statement(
        realm(i),
        i["party"],
        to_checksum_address(i["owner"]),
        to_checksum_address(i["account"]),
        i["number"],
        raw(i["tenure"]),
    ),
    "signature": signature,
    "realm": lambda i: realm(i).salt,
    "pair key": pair_key,
    "first roster": lambda i: roster_start(realm(i)),
    "next roster": lambda i: roster_link(raw(i["roster"]), Change(i["kind"]), raw(i["data"])),
    "calls hash": calls_hash,
    "q0": lambda i: opening_of(i)[0],
    "q": lambda i: protocol.inquiry_id(*opening_of(i)),
    "ctx": context_of,
    "consent hash": lambda i: Consent.parse(i["receipt"].encode()).hash,
    "signed consent": lambda i: Consent.parse(i["receipt"].encode()).signed_bytes,
    "padded list": padded_list,
    "subject commitment": subject_commitment,
    "mask": lambda i: hex(pairkeys.mask(raw(i["pair_key"]), raw(i["context"]), i["block"], modulus(i["modulus"]))),
    "masked figures": masked,
    "randomness": randomness,
    "ciphertext": ciphertext,
    "aggregate": aggregate,
    "aggregate hash": lambda i: keccak(raw(i["aggregate"])),
    "sealed cohort": lambda i: sealing.seal_repeat(
        raw(i["wrap_key"]), raw(i["inquiry"]), i["furnisher"], big(i["cohort"])
    ),
    "opening": opened,
    "totals": totals,
    "report salt": lambda i: sealing.report_salt(private_key(i["modulus"]), raw(i["inquiry"]), raw(i["aggregate"])),
    "report commitment": lambda i: sealing.report_commitment(
        raw(i["inquiry"]), raw(i["salt"]), openings(i), PublicKey(modulus(i["modulus"])).modulus_bytes
    ),
    "versions": lambda i: Release(i["package"], i["lowest"], i["highest"]).announcement(),
    "moment": moment,
}
"""Items whose bytes follow from the inputs."""
