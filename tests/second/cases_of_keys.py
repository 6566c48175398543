"""Cases of sections 2 and 3 of the specification: identities, tags, figures, key proofs, statements, pair keys, the roster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from . import hpke, ids, keyproof, packing, pairs, sealed, secp256k1, story, tags
from .case import Case, big, case
from .encodings import Realm, word_of_address, word_of_number

IDENTITIES = (
    ("a Taiwanese citizen, as people write it", "national_id", "tw", " a123 456-789 "),
    ("full-width forms", "national_id", "ＴＷ", "Ａ１２３４５６７８９"),
    ("a Chinese id of 15 digits", "national_id", "CN", "360426910101007"),
)


def cases() -> list[Case]:
    """All of them, in the order of the rules."""
    return [
        *_identities_and_tags(),
        *_figures(),
        *_key_proof(),
        *_statements(),
        *_pair_keys(),
        *_mask_keys(),
        *_roster(),
        *_calls(),
    ]


def realm_input(realm: Realm = story.REALM) -> dict[str, object]:
    """A realm as an input."""
    return {"chain_id": realm.chain_id, "consortium": realm.consortium}


def _identities_and_tags() -> Iterator[Case]:
    keys = [story.seed(f"tag key {version}") for version in (1, 2, 3)]
    for name, kind, country, number in IDENTITIES:
        identity = tags.canonical_identity(kind, country, number)
        yield case("identity", "R3", name, identity.decode(), kind=kind, country=country, number=number)
        made = tags.tag(keys[:1], identity)
        yield case("tag", "R4", f"{name}, version 1", made, keys=keys[:1], identity=identity.decode())
    first = tags.tag(keys[:1], tags.canonical_identity(*IDENTITIES[0][1:]))
    for newest in (1, 3):
        raised = tags.raise_tag(keys[1:newest], first)
        yield case("raised tag", "R4.1", f"from 1 to {newest}", raised, keys=keys, tag=first, version=1, newest=newest)
    for version in (1, 65537):
        commitment = tags.tag_key_commitment(version, keys[0])
        yield case("tag key commitment", "R4", f"version {version}", commitment, version=version, key=keys[0])


def _figures() -> Iterator[Case]:
    n = story.modulus(story.MODULUS_NAME)
    odd = (packing.Field("one", 1, 3), packing.Field("two", 7, 11), packing.Field("three", 20, 27))
    for name, fields, subjects in (
        ("schema 1, two blocks", packing.FIGURES_1, story.figures(200)),
        ("slots that are no bytes", odd, [[1, 127, 2**20 - 1], [0, 1, 2], [1, 0, 524289]]),
    ):
        packed = [big(block) for block in packing.pack(fields, n, subjects)]
        listed = [[field.name, field.value_bits, field.slot_bits] for field in fields]
        yield case("figures", "R5", name, packed, fields=listed, modulus=story.MODULUS_NAME, subjects=subjects)
    listed_fields = [asdict(field) for field in packing.FIGURES_1]
    yield case("schema", "R5", "schema 1", story.DEFINITION.decode(), id=1, name="figures", fields=listed_fields)
    for bits in (2048, 3072, 4096):
        each = (bits - 1) // packing.record_bits(packing.FIGURES_1)
        yield case("records per block", "R5", f"schema 1 at {bits} bits", each, modulus_bits=bits)


def _key_proof() -> Iterator[Case]:
    for name in (story.MODULUS_NAME, "public-test-3072-a"):
        challenge = keyproof.challenge(story.modulus(name), 7)
        yield case("key proof challenge", "R7", f"7 of {name}", big(challenge), modulus=name, place=7)
    yield case("key proof", "R7", story.MODULUS_NAME, story.key_proof(), modulus=story.MODULUS_NAME)


def _statements() -> Iterator[Case]:
    owner = story.seed("owner")
    address, account, tenure = secp256k1.address_of(owner), story.seed("account", 20), story.seed("tenure")
    for name, member, version, key, previous in (
        ("first key of a member", 2, 1, story.member_key(2).key, bytes(32)),
        ("a later key", 5, 3, story.member_key(5).key, story.seed("previous key")),
        ("a period key", ids.SUPERVISOR, 4, story.PERIOD.key, bytes(32)),
    ):
        statement = ids.key_statement(story.REALM, member, version, key, previous)
        yield case(
            "key statement", "R9", name, statement,
            **realm_input(), member=member, version=version, key=key, previous=previous,
        )  # fmt: skip
    for name, party, number, mark in (
        ("of a member", 200, 2, tenure),
        ("of a supervisor", ids.SUPERVISOR, 1, bytes(32)),
    ):
        statement = ids.account_statement(story.REALM, party, address, account, number, mark)
        signed = secp256k1.sign(owner, ids.eip191_digest(statement))
        yield case("signature", "R9", f"naming {name}", signed, statement=statement, private=owner, owner=address)
        yield case(
            "account statement", "R9.5", name, statement,
            **realm_input(), party=party, owner=address, account=account, number=number, tenure=mark,
        )  # fmt: skip


def _pair_keys() -> Iterator[Case]:
    yield case("realm", "R10", "the salt", story.REALM.digest(), **realm_input())
    for member, other, use in ((2, 5, "mask"), (5, 2, "mask"), (5, 200, "wrap"), (200, 2, "range")):
        own, theirs = story.member_key(member), story.member_key(other)
        yield case(
            "pair key", "R10", f"{use} of {member} with {other}", story.pair(use, member, other),
            **realm_input(), use=use, private=story.private_key(member), own=end(own), other=end(theirs),
            period={"version": story.PERIOD.version, "key": story.PERIOD.key},
        )  # fmt: skip


def _mask_keys() -> Iterator[Case]:
    sender = story.member_key(5)
    entries = [sealed.MaskKey(other, story.VERSIONS[other], story.pair("mask", 5, other)) for other in (200, 2)]
    ephemeral = story.seed("ephemeral of the mask keys")
    info = sealed.mask_keys_info(story.REALM, sender, story.PERIOD.version)
    made = hpke.seal(story.PERIOD.key, info, sealed.mask_keys_body(entries), ephemeral)
    yield case(
        "sealed mask keys", "R11", "of two pairs", made,
        **realm_input(), sender=end(sender), entries=[asdict(entry) for entry in entries], ephemeral=ephemeral,
        version=story.PERIOD.version, supervisor=story.PERIOD.key, private=story.PERIOD_PRIVATE,
    )  # fmt: skip


def end(key: pairs.MemberKey) -> dict[str, object]:
    """A member's public key as an input."""
    return {"member": key.member, "version": key.version, "key": key.key}


def _roster() -> Iterator[Case]:
    roster = ids.first_roster(story.REALM)
    yield case("first roster", "R39", "before the first link", roster, **realm_input())
    for name, kind, data in (
        ("Founded", 0, word_of_number(1_800_000_000) + word_of_number(60)),
        ("AccountTaken", 6, word_of_number(5) + word_of_address(story.seed("account", 20))),
        ("data that is no whole number of words", 21, story.seed("data", 41)),
    ):
        following = ids.next_roster(roster, kind, data)
        yield case("next roster", "R39", name, following, roster=roster, kind=kind, data=data)
        roster = following


def _calls() -> Iterator[Case]:
    calls = [story.seed("call 1", 36), story.seed("call 2", 64), b""]
    for count in (1, 3):
        yield case("calls hash", "R33", f"{count} calls", ids.calls_hash(calls[:count]), calls=calls[:count])
