"""R4: tags, and the chain of their keys."""

from __future__ import annotations

import hashlib

import pytest

from mpcredit.errors import InvalidKey, KeyStoreError
from mpcredit.identity import Subject
from mpcredit.keystore import MemoryKeyStore
from mpcredit.tags import HmacTagger, TagKey, tagger_of

SUBJECT = Subject("national_id", "A123456789", "TW")


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104, written out."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def test_tag__of_a_subject__is_hmac_of_its_canonical_form() -> None:
    key = TagKey(1, bytes(range(32)))

    expected = hmac_sha256(key.key, b"mpcredit/tag/2mpcredit/identity/2|national_id|TW|A123456789")

    assert HmacTagger(key).tag(SUBJECT) == expected


CHAIN = tuple(TagKey(version, bytes([version]) * 32) for version in (1, 2, 3))


def test_tag__under_a_later_key__is_hmac_of_the_tag_before() -> None:
    first = hmac_sha256(b"\1" * 32, b"mpcredit/tag/2mpcredit/identity/2|national_id|TW|A123456789")
    second = hmac_sha256(b"\2" * 32, b"mpcredit/tag/2" + first)
    third = hmac_sha256(b"\3" * 32, b"mpcredit/tag/2" + second)

    assert HmacTagger(*CHAIN).tags(SUBJECT) == (first, second, third)
    assert HmacTagger(*CHAIN).tag(SUBJECT) == third
    assert HmacTagger(*CHAIN[:2]).tag(SUBJECT) == second


@pytest.mark.parametrize("version", [1, 2, 3])
def test_raised__a_tag_of_any_version__is_the_newest_tag_without_the_identity(version: int) -> None:
    newest = HmacTagger(*CHAIN)

    assert newest.raised(HmacTagger(*CHAIN[:version]).tag(SUBJECT), version) == newest.tag(SUBJECT)


def test_raised__as_if_it_were_of_another_version__is_nobodys_tag() -> None:
    newest, first = HmacTagger(*CHAIN), HmacTagger(*CHAIN[:1]).tag(SUBJECT)

    assert newest.raised(first, 2) not in newest.tags(SUBJECT)


@pytest.mark.parametrize("version", [-1, 0, 3])
def test_raised__a_version_that_is_not_at_hand__is_refused(version: int) -> None:
    # A member that left has no key 3: it learns nothing of a tag under it, nor can it raise its own to it.
    with pytest.raises(InvalidKey, match=f"tag key {version} cannot be raised to tag key 2"):
        HmacTagger(*CHAIN[:2]).raised(bytes(32), version)


@pytest.mark.parametrize("keys", [(), CHAIN[1:], (CHAIN[0], CHAIN[2]), CHAIN[::-1], (CHAIN[0], CHAIN[0])])
def test_tagger__a_key_missing_doubled_or_out_of_order__is_refused(keys: tuple[TagKey, ...]) -> None:
    with pytest.raises(InvalidKey, match="all versions"):
        HmacTagger(*keys)


def test_later__from_the_middle_of_the_chain__is_the_rest_of_it() -> None:
    tagger = HmacTagger(*CHAIN)
    first, second, third = tagger.tags(SUBJECT)

    assert tagger.later(first, 1) == (first, second, third)
    assert tagger.later(second, 2) == (second, third)
    assert tagger.later(third, 3) == (third,)


def keys_of(*keys: TagKey) -> MemoryKeyStore:
    store = MemoryKeyStore()
    for key in keys:
        store.save_tag_key(key)
    return store


IN_FORCE = {key.version: key.commitment for key in CHAIN[:2]}


@pytest.mark.parametrize("at_hand", [CHAIN[:2], CHAIN])
def test_tagger_of__all_keys_in_force_are_here__is_of_the_newest_in_force(at_hand: tuple[TagKey, ...]) -> None:
    assert tagger_of(keys_of(*at_hand), IN_FORCE).tags(SUBJECT) == HmacTagger(*CHAIN[:2]).tags(SUBJECT)


@pytest.mark.parametrize(
    ("at_hand", "words"),
    [
        ((), "version 1 and 2 is not at hand"),
        (CHAIN[:1], "version 2 is not at hand"),
        (CHAIN[1:], "version 1 is not at hand"),
        ((CHAIN[0], TagKey(2, b"x" * 32)), "tag key of version 2 is not the consortium's"),
        ((TagKey(1, b"x" * 32), CHAIN[1]), "tag key of version 1 is not the consortium's"),
    ],
)
def test_tagger_of__a_key_missing_or_another_one__is_refused(at_hand: tuple[TagKey, ...], words: str) -> None:
    with pytest.raises(KeyStoreError, match=words) as caught:
        tagger_of(keys_of(*at_hand), IN_FORCE)

    assert caught.value.remedy


def test_tagger_of__before_there_is_a_ledger__is_of_what_is_here() -> None:
    assert tagger_of(keys_of(*CHAIN), {}).version == 3
    with pytest.raises(KeyStoreError, match="version 1 is not at hand"):
        tagger_of(keys_of(), {})


def test_tag__two_spellings__are_one_subject() -> None:
    tagger = HmacTagger(TagKey.generate())

    assert tagger.tag(SUBJECT) == tagger.tag(Subject("national_id", "ａ123-456-789", "tw"))


def test_tag__other_key_kind_country_or_number__differs() -> None:
    key = TagKey(1, b"a" * 32)
    others = [
        Subject("passport", "A123456789", "TW"),
        Subject("passport", "A123456789", "JP"),
        Subject("passport", "A123456780", "JP"),
        SUBJECT,
    ]

    tags = [HmacTagger(key).tag(subject) for subject in others] + [HmacTagger(TagKey(1, b"b" * 32)).tag(SUBJECT)]

    assert len(set(tags)) == len(tags)
    assert {len(tag) for tag in tags} == {32}


def test_commitment__of_a_key__covers_version_and_key() -> None:
    key = TagKey(7, b"a" * 32)

    assert key.commitment == hashlib.sha256(b"mpcredit/tagkey/2" + bytes([0, 0, 0, 7]) + b"a" * 32).digest()
    assert len({key.commitment, TagKey(8, b"a" * 32).commitment, TagKey(7, b"b" * 32).commitment}) == 3


@pytest.mark.parametrize(("version", "data"), [(0, b"a" * 32), (2**32, b"a" * 32), (1, b"a" * 31), (1, "a" * 32)])
def test_tag_key__not_well_formed__is_refused(version: int, data: bytes) -> None:
    with pytest.raises(InvalidKey):
        TagKey(version, data)


def test_generate__twice__gives_two_keys() -> None:
    assert TagKey.generate().key != TagKey.generate().key
    assert TagKey.generate(3).version == 3


def test_repr__of_key_and_tagger__shows_no_secret() -> None:
    key = TagKey(1, b"SECRET" + bytes(26))

    for thing in (key, HmacTagger(key)):
        assert "SECRET" not in repr(thing) + str(thing)
