"""Key files (R13): one set of port tests for files, files with a token, and the fake; then what only files have.

That is passphrase, mode, damage and crash. What only a token has is in test_pkcs11keys.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_account import Account
from pure_support import vectors

from mpcredit import paillier, sealing
from mpcredit.errors import InvalidKey, InvalidMessage, KeyStoreError, WrongPassphrase
from mpcredit.keystore import KdfCost, KeyStore, KeyStorePort, MemoryKeyStore
from mpcredit.pairkeys import BASE_POINT, InstitutionKey, KeyRef, PeriodRef, Realm, derive
from mpcredit.tags import TagKey

TOY = paillier.unsafe_generate_toy(256)


def light(directory: Path, passphrase: str = "correct horse", asked: list[str] | None = None) -> KeyStore:
    def ask(purpose: str) -> str:
        if asked is not None:
            asked.append(purpose)
        return passphrase

    return KeyStore(directory, ask, cost=KdfCost.unsafe_light())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture(params=["files", "token", "memory"])
def keys(request: pytest.FixtureRequest, directory: Path) -> KeyStorePort:
    if request.param == "token":
        token = request.getfixturevalue("softhsm").token()
        return KeyStore(directory, lambda _: "pass", cost=KdfCost.unsafe_light(), token=token.keys())
    return light(directory) if request.param == "files" else MemoryKeyStore()


# --- the port


def test_account__created__is_found_and_never_replaced(keys: KeyStorePort) -> None:
    account = keys.create_account()

    assert keys.account().key == account.key
    with pytest.raises(KeyStoreError, match="exists already"):
        keys.create_account()


def test_account__given_key__is_kept(keys: KeyStorePort) -> None:
    keys.create_account(b"\x01" * 32)

    # Address of the private key 0x0101…01, as published for this well-known key.
    assert keys.account().address == "0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1"


def test_account__none__is_an_error(keys: KeyStorePort) -> None:
    keys.create_institution_key(1)

    with pytest.raises(KeyStoreError, match="no such key"):
        keys.account()


def test_x25519__several_versions__are_found_by_public_key(keys: KeyStorePort) -> None:
    old, new, other = keys.create_institution_key(1), keys.create_institution_key(10), keys.create_institution_key(2)
    supervisor = keys.create_supervisor_key(1)

    assert keys.institution_versions() == {1: old.public, 2: other.public, 10: new.public}
    assert list(keys.institution_versions()) == [1, 2, 10]
    assert keys.supervisor_versions() == {1: supervisor.public}
    peer = InstitutionKey.generate()
    secrets = [peer.exchange(key.public) for key in (old, new, other, supervisor)]
    assert len(set(secrets)) == 4
    for key, secret in zip((old, new, other, supervisor), secrets, strict=True):
        assert keys.institution_key(key.public).exchange(peer.public) == secret


def test_x25519__same_version__is_refused(keys: KeyStorePort) -> None:
    key = keys.create_institution_key(1)

    with pytest.raises(KeyStoreError, match="exists already"):
        keys.create_institution_key(1)
    assert keys.institution_versions() == {1: key.public}


@pytest.mark.parametrize("case", vectors("x25519_rfc7748.json"), ids=lambda case: case["name"])
def test_x25519__with_a_published_key__is_what_openssl_says_from_the_other_end(
    keys: KeyStorePort, case: dict[str, str]
) -> None:
    published = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["private"]))
    key = keys.create_institution_key(1)

    expected = published.exchange(X25519PublicKey.from_public_bytes(key.public))

    assert key.exchange(published.public_key().public_bytes_raw()) == expected
    assert key.exchange(BASE_POINT) == key.public


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, bytes(31)])
def test_x25519__with_a_key_that_is_none__is_refused(keys: KeyStorePort, public: bytes) -> None:
    key = keys.create_supervisor_key(1)

    with pytest.raises(InvalidKey):
        key.exchange(public)


def test_x25519__printed_pickled_or_changed__shows_and_permits_nothing(keys: KeyStorePort) -> None:
    key = keys.create_institution_key(1)

    assert repr(key).endswith(f"Key {key.public.hex()[:16]}>")
    with pytest.raises(TypeError, match="keystore"):
        pickle.dumps(key)
    with pytest.raises(AttributeError):
        key.public = bytes(32)  # type: ignore[misc]


def test_x25519__opens_what_is_sealed_to_it(keys: KeyStorePort) -> None:
    key = keys.create_supervisor_key(1)
    sealed = sealing.hpke_seal(key.public, b"message", b"info")

    assert sealing.hpke_open(key, sealed, b"info") == b"message"
    for altered, info in ((sealed, b"other"), (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"info"), (bytes(80), b"info")):
        with pytest.raises(InvalidMessage):
            sealing.hpke_open(key, altered, info)


def test_x25519__derives_the_pair_keys_that_the_other_end_derives(keys: KeyStorePort, realm: Realm) -> None:
    key, other = keys.create_institution_key(1), InstitutionKey.generate()
    own_ref, other_ref = KeyRef(0, 1, key.public), KeyRef(1, 1, other.public)

    period = PeriodRef(1, b"p" * 32)
    assert derive(key, own_ref, other_ref, realm, period) == derive(other, other_ref, own_ref, realm, period)


def test_x25519__destroyed__is_gone_and_the_others_stay(keys: KeyStorePort) -> None:
    gone, stays = keys.create_institution_key(1), keys.create_supervisor_key(1)
    keys.institution_key(gone.public)

    keys.destroy_institution_key(gone.public)

    with pytest.raises(KeyStoreError):
        keys.institution_key(gone.public)
    with pytest.raises(KeyStoreError):
        keys.destroy_institution_key(gone.public)
    assert keys.institution_versions() == {}
    assert keys.institution_key(stays.public).public == stays.public


def test_inquiry_key__kept_twice__is_found_until_destroyed(keys: KeyStorePort) -> None:
    fingerprint = TOY.public.fingerprint
    keys.keep_inquiry_key(TOY)
    keys.keep_inquiry_key(TOY)

    assert keys.inquiry_keys() == (fingerprint,)
    assert keys.inquiry_key(fingerprint) == TOY
    keys.destroy_inquiry_key(fingerprint)
    assert keys.inquiry_keys() == ()
    with pytest.raises(KeyStoreError):
        keys.inquiry_key(fingerprint)
    with pytest.raises(KeyStoreError):
        keys.destroy_inquiry_key(fingerprint)


def test_tag_key__versions__are_kept_apart(keys: KeyStorePort) -> None:
    first, second = TagKey.generate(1), TagKey.generate(2)
    keys.save_tag_key(second)
    keys.save_tag_key(first)

    assert keys.tag_versions() == (1, 2)
    assert (keys.tag_key(1), keys.tag_key(2)) == (first, second)
    with pytest.raises(KeyStoreError, match="exists already"):
        keys.save_tag_key(TagKey.generate(1))
    keys.destroy_tag_key(1)
    assert keys.tag_versions() == (2,)
    with pytest.raises(KeyStoreError):
        keys.tag_key(1)


# --- passphrase


def filled(directory: Path) -> tuple[KeyStore, InstitutionKey, TagKey]:
    store, tag = light(directory), TagKey.generate(3)
    store.create_account()
    key = store.create_institution_key(1)
    store.create_supervisor_key(1)
    store.keep_inquiry_key(TOY)
    store.save_tag_key(tag)
    return store, key, tag


def test_reopen__right_passphrase__is_asked_once_and_finds_all(directory: Path) -> None:
    store, key, tag = filled(directory)
    asked: list[str] = []

    again = light(directory, asked=asked)

    assert again.account().key == store.account().key
    assert again.institution_key(key.public).private_bytes() == key.private_bytes()
    assert again.inquiry_key(TOY.public.fingerprint) == TOY
    assert again.tag_key(3) == tag
    again.create_institution_key(2)
    assert asked == [f"open the keystore {directory}"]


def test_create__first_key__asks_for_a_new_passphrase_once(directory: Path) -> None:
    asked: list[str] = []
    store = light(directory, asked=asked)

    store.create_institution_key(1)
    store.create_account()

    assert asked == [f"choose a passphrase for the new keystore {directory}"]


def test_reopen__wrong_passphrase__is_refused_and_nothing_written(directory: Path) -> None:
    _, key, _ = filled(directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    wrong = light(directory, "incorrect horse")

    attempts: list[Callable[[], object]] = [
        wrong.unlock,
        wrong.account,
        lambda: wrong.institution_key(key.public),
        lambda: wrong.inquiry_key(TOY.public.fingerprint),
        lambda: wrong.create_institution_key(2),
        lambda: wrong.save_tag_key(TagKey.generate(4)),
    ]
    for attempt in attempts:
        with pytest.raises(WrongPassphrase):
            attempt()

    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_lock__asks_again(directory: Path) -> None:
    asked: list[str] = []
    store = light(directory, asked=asked)
    key = store.create_institution_key(1)

    store.lock()
    store.institution_key(key.public)

    assert asked[1:] == [f"open the keystore {directory}"]


def test_create__empty_passphrase__is_refused_and_nothing_written(directory: Path) -> None:
    with pytest.raises(KeyStoreError, match="empty"):
        light(directory, "").create_account()

    assert list(directory.iterdir()) == []


def test_unlock__no_keystore__says_so(directory: Path) -> None:
    with pytest.raises(KeyStoreError, match="no keystore"):
        light(directory).unlock()


def test_cost__default_and_scrypt__open_again(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, cost in (("argon2id", KdfCost()), ("scrypt", KdfCost.scrypt())):
        KeyStore(tmp_path / name, lambda _: "pass", cost=cost).create_institution_key(1)
        assert json.loads((tmp_path / name / "keystore.json").read_text())["kdf"]["name"] == name
        light(tmp_path / name, "pass").unlock()
        with pytest.raises(WrongPassphrase):
            light(tmp_path / name, "Pass").unlock()
    assert "light parameters" not in caplog.text

    light(tmp_path / "light").create_institution_key(1)
    assert "light parameters" in caplog.text


# --- form of the files


def test_institution_file__opened_by_hand__has_the_documented_form(directory: Path) -> None:
    """Decrypts with the primitives alone, as the module's docstring says."""
    key = light(directory).create_institution_key(1)
    header = json.loads((directory / "keystore.json").read_text())
    file = json.loads((directory / "institution-1.json").read_text())

    salt = bytes.fromhex(header["kdf"]["salt"][2:])
    master = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=8).derive(b"correct horse")
    file_salt = bytes.fromhex(file["kdf"]["salt"][2:])
    file_key = HKDF(algorithm=SHA256(), length=32, salt=file_salt, info=b"mpcredit/keyfile/2").derive(master)
    ciphertext = bytes.fromhex(file.pop("ciphertext")[2:])
    aad = json.dumps(file, sort_keys=True, separators=(",", ":")).encode()

    assert AESGCM(file_key).decrypt(bytes.fromhex(file["nonce"][2:]), ciphertext, aad) == key.private_bytes()
    assert (file["format"], file["version"], file["kind"], file["id"]) == ("mpcredit/key", 2, "institution", "1")
    assert file["public"] == "0x" + key.public.hex()


def test_account_file__is_a_standard_ethereum_keystore(directory: Path) -> None:
    account = light(directory).create_account()

    value = json.loads((directory / "ledger-account.json").read_text())

    assert value["version"] == 3
    assert Account.decrypt(value, "correct horse") == account.key


def test_secrets__are_in_no_file_and_no_repr(directory: Path) -> None:
    store, key, tag = filled(directory)
    text = " ".join(path.read_text() for path in directory.iterdir()) + repr(store) + repr(MemoryKeyStore())

    for secret in (key.private_bytes().hex(), tag.key.hex(), store.account().key.hex(), f"{int(TOY.p):x}", "horse"):
        assert secret not in text


def test_files__belong_to_the_owner_only(directory: Path) -> None:
    old = os.umask(0)
    try:
        filled(directory)
    finally:
        os.umask(old)

    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert len(list(directory.iterdir())) == 6


# --- what must be refused


@pytest.mark.parametrize("name", ["keystore.json", "ledger-account.json", "institution-1.json"])
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_load__file_readable_by_others__is_refused(directory: Path, name: str, mode: int) -> None:
    _, key, _ = filled(directory)
    (directory / name).chmod(mode)
    again = light(directory)

    with pytest.raises(KeyStoreError, match="chmod 600") as caught:
        again.account() if name == "ledger-account.json" else again.institution_key(key.public)
    assert name in str(caught.value)


def test_load__directory_open_to_others__is_refused(directory: Path) -> None:
    filled(directory)
    directory.chmod(0o750)

    with pytest.raises(KeyStoreError, match="chmod 700"):
        light(directory).account()
    with pytest.raises(KeyStoreError, match="chmod 700"):
        light(directory).create_institution_key(2)


def _change(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def _flip(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


CHANGES: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("newer version", lambda v: v.update(version=3)),
    ("older version", lambda v: v.update(version=1)),
    ("format", lambda v: v.update(format="other")),
    ("kind", lambda v: v.update(kind="tag")),
    ("id", lambda v: v.update(id="2")),
    ("ciphertext", lambda v: v.update(ciphertext=_flip(v["ciphertext"]))),
    ("nonce", lambda v: v.update(nonce=_flip(v["nonce"]))),
    ("short nonce", lambda v: v.update(nonce="0x00")),
    ("salt", lambda v: v["kdf"].update(salt=_flip(v["kdf"]["salt"]))),
    ("short salt", lambda v: v["kdf"].update(salt="0x00")),
    ("other kdf", lambda v: v["kdf"].update(name="none")),
    ("no kdf", lambda v: v.pop("kdf")),
    ("kdf is text", lambda v: v.update(kdf="argon2id")),
    ("cipher", lambda v: v.update(cipher="none")),
    ("one more", lambda v: v.update(note="hello")),
    ("no ciphertext", lambda v: v.pop("ciphertext")),
    ("ciphertext no text", lambda v: v.update(ciphertext=[1])),
    ("float", lambda v: v.update(note=0.5)),
]


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[what for what, _ in CHANGES])
def test_load__changed_file__is_refused(directory: Path, what: str, change: Callable[[dict[str, Any]], object]) -> None:
    store = light(directory)
    store.save_tag_key(TagKey.generate(1))
    store.keep_inquiry_key(TOY)
    _change(directory / f"inquiry-{TOY.public.fingerprint}.json", change)

    with pytest.raises(KeyStoreError) as caught:
        light(directory).inquiry_key(TOY.public.fingerprint)

    assert f"inquiry-{TOY.public.fingerprint}.json" in str(caught.value)
    assert caught.value.remedy
    assert not isinstance(caught.value, WrongPassphrase)


def test_load__public_key_exchanged__is_refused(directory: Path) -> None:
    """Somebody who can write files wants the institution to register a key of his."""
    light(directory).create_institution_key(1)
    evil = InstitutionKey.generate().public
    _change(directory / "institution-1.json", lambda v: v.update(public="0x" + evil.hex()))

    with pytest.raises(KeyStoreError, match="does not open"):
        light(directory).institution_key(evil)


def test_load__file_under_another_name__is_refused(directory: Path) -> None:
    store = light(directory)
    store.create_institution_key(1)
    (directory / "institution-1.json").rename(directory / "institution-2.json")

    with pytest.raises(KeyStoreError, match="its own name"):
        store.institution_versions()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{" + b" " * 70_000 + b"}"])
def test_load__no_json_object__is_refused(directory: Path, content: bytes) -> None:
    filled(directory)
    for name in ("tag-3.json", "ledger-account.json"):
        (directory / name).write_bytes(content)

    with pytest.raises(KeyStoreError, match=r"tag-3\.json"):
        light(directory).tag_key(3)
    with pytest.raises(KeyStoreError, match="ledger-account"):
        light(directory).account()


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(version=1),
        lambda v: v.update(version=3),
        lambda v: v["kdf"].update(memory_kib=2**40),
        lambda v: v["kdf"].update(iterations=0),
        lambda v: v["kdf"].update(lanes="1"),
        lambda v: v["kdf"].update(name="pbkdf2"),
        lambda v: v.update(kdf=None),
        lambda v: v.pop("check"),
        lambda v: v.update(check="0x00"),
    ],
)
def test_unlock__changed_header__is_refused(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    filled(directory)
    _change(directory / "keystore.json", change)

    with pytest.raises(KeyStoreError, match=r"keystore\.json"):
        light(directory).unlock()


def test_create__header_lost__does_not_start_a_second_keystore(directory: Path) -> None:
    filled(directory)
    (directory / "keystore.json").unlink()

    with pytest.raises(KeyStoreError, match="missing although there are keys"):
        light(directory, "another").create_institution_key(2)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(version=4),
        lambda v: v.pop("crypto"),
        lambda v: v["crypto"].update(ciphertext="zz"),
        lambda v: v["crypto"].update(kdf="none"),
        lambda v: v.update(address="00" * 20),
    ],
)
def test_account__changed_file__is_refused(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    filled(directory)
    _change(directory / "ledger-account.json", change)

    with pytest.raises(KeyStoreError, match=r"ledger-account\.json"):
        light(directory).account()


def test_account__file_of_another_passphrase__says_wrong_passphrase(directory: Path) -> None:
    filled(directory)
    other = Account.encrypt(b"\x01" * 32, "other", kdf="scrypt", iterations=2)
    (directory / "ledger-account.json").write_text(json.dumps(other))

    with pytest.raises(WrongPassphrase):
        light(directory).account()


@pytest.mark.parametrize("name", ["../x", "", "a/b", "A" * 100])
def test_inquiry_key__name_that_is_none__is_refused(directory: Path, name: str) -> None:
    filled(directory)

    with pytest.raises(KeyStoreError):
        light(directory).inquiry_key(name)


# --- crashes


def test_create__crash_before_the_rename__leaves_no_key_and_is_cleared_away(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = light(directory)
    store.create_institution_key(1)
    (directory / ".institution-2.json.0000.tmp").write_text("half")

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(KeyStoreError, match="No space left"):
            store.create_institution_key(2)

    assert sorted(path.name for path in directory.iterdir()) == ["institution-1.json", "keystore.json"]
    assert list(store.institution_versions()) == [1]


# --- passing the tag keys on

CHAIN = tuple(TagKey.generate(version) for version in (1, 2, 3))


def with_tag_keys(directory: Path, *keys: TagKey, asked: list[str] | None = None) -> KeyStore:
    store = light(directory, asked=[] if asked is None else asked)
    for key in keys:
        store.save_tag_key(key)
    return store


def test_export_tag_keys__newcomer__gets_all_versions(directory: Path, tmp_path: Path) -> None:
    asked: list[str] = []
    store = with_tag_keys(directory, *CHAIN, asked=asked)

    assert store.export_tag_keys(tmp_path / "tags.json") == CHAIN
    other = light(tmp_path / "other")

    assert other.import_tag_keys(tmp_path / "tags.json") == CHAIN
    assert tuple(other.tag_key(version) for version in other.tag_versions()) == CHAIN
    assert asked[-1] == f"choose a passphrase for the exported tag keys {tmp_path / 'tags.json'}"
    assert (tmp_path / "tags.json").stat().st_mode & 0o777 == 0o600
    assert not any(key.key.hex() in (tmp_path / "tags.json").read_text() for key in CHAIN)


def test_import_tag_keys__some_are_here__keeps_the_others(directory: Path, tmp_path: Path) -> None:
    # So does a second import after one that was cut off.
    with_tag_keys(directory, *CHAIN).export_tag_keys(tmp_path / "tags.json")
    other = with_tag_keys(tmp_path / "other", CHAIN[0])

    assert [other.import_tag_keys(tmp_path / "tags.json") for _ in range(2)] == [CHAIN, CHAIN]
    assert other.tag_versions() == (1, 2, 3)


def test_import_tag_keys__another_key_of_a_version_is_here__keeps_nothing(directory: Path, tmp_path: Path) -> None:
    with_tag_keys(directory, *CHAIN).export_tag_keys(tmp_path / "tags.json")
    own = TagKey.generate(2)
    other = with_tag_keys(tmp_path / "other", own)

    with pytest.raises(KeyStoreError, match="tag key 2 is another one"):
        other.import_tag_keys(tmp_path / "tags.json")
    assert other.tag_versions() == (2,)
    assert other.tag_key(2) == own


@pytest.mark.parametrize("at_hand", [(), CHAIN[1:], (CHAIN[0], CHAIN[2])])
def test_export_tag_keys__a_version_is_missing__writes_nothing(
    directory: Path, tmp_path: Path, at_hand: tuple[TagKey, ...]
) -> None:
    store = with_tag_keys(directory, *at_hand)

    with pytest.raises(KeyStoreError, match="there is no tag key"):
        store.export_tag_keys(tmp_path / "tags.json")
    assert not (tmp_path / "tags.json").exists()


def test_import_tag_keys__wrong_passphrase_or_changed__is_refused(directory: Path, tmp_path: Path) -> None:
    store = with_tag_keys(directory, *CHAIN)
    store.create_institution_key(1)
    file = tmp_path / "tags.json"
    store.export_tag_keys(file)

    with pytest.raises(WrongPassphrase):
        light(tmp_path / "other", "something else").import_tag_keys(file)
    _change(file, lambda v: v.update(id="4"))
    with pytest.raises(WrongPassphrase):
        light(tmp_path / "other").import_tag_keys(file)
    _change(file, lambda v: v.update(kdf="x"))
    with pytest.raises(KeyStoreError, match="damaged"):
        light(tmp_path / "other").import_tag_keys(file)
    for wrong in ("institution-1.json", "tag-1.json"):
        with pytest.raises(KeyStoreError, match="not tags"):
            light(tmp_path / "other").import_tag_keys(directory / wrong)
    assert not (tmp_path / "other").exists()


def test_load__exported_file_copied_into_a_keystore__is_refused(directory: Path, tmp_path: Path) -> None:
    store = with_tag_keys(directory, CHAIN[0])
    store.export_tag_keys(tmp_path / "tags.json")
    store.destroy_tag_key(1)
    (tmp_path / "tags.json").rename(directory / "tag-1.json")

    with pytest.raises(KeyStoreError, match="imported, not copied"):
        store.tag_key(1)
