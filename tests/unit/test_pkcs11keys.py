"""Keys in a token (R13), on SoftHSM: what only a token has. The port tests that it shares are in test_keystore."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pure_support import vectors
from softhsm import SO_PIN, SoftHsm, Token

from mpcredit.errors import KeyStoreError, KeyUnavailable, WrongPassphrase
from mpcredit.keystore import KdfCost, KeyStore
from mpcredit.pairkeys import BASE_POINT, InstitutionKey
from mpcredit.pkcs11keys import Pkcs11Keys, TokenPlace, _Library

api = pytest.importorskip("PyKCS11", reason="PyKCS11 is not installed: pip install 'mpcredit[pkcs11]'")
PEER = InstitutionKey.from_bytes(b"p" * 32)


@pytest.fixture
def token(softhsm: SoftHsm) -> Token:
    return softhsm.token()


def outside(token: Token) -> Any:
    """A writing session beside the adapter's, as another program would have one: with PyKCS11 alone."""
    token.keys().unlock()
    library = _Library.of(token.home.module)
    slot = next(s for s in library.lib.getSlotList(True) if library.lib.getTokenInfo(s).label.strip() == token.label)
    return library.lib.openSession(slot, library.api.CKF_RW_SESSION)


@pytest.fixture
def raw(token: Token) -> Any:
    """What `outside` gives, on a token without keys."""
    return outside(token)


def put(raw: Any, kind: str, *, private: bytes, public: bytes, **changed: object) -> None:
    """Put a key pair into the token from outside, its two halves made elsewhere."""
    both = [(api.CKA_KEY_TYPE, api.CKK_EC_EDWARDS), (api.CKA_TOKEN, True), (api.CKA_ID, kind.encode())]
    both += [(api.CKA_LABEL, kind), (api.CKA_EC_PARAMS, bytes.fromhex("06032b656e"))]
    raw.createObject([(api.CKA_CLASS, api.CKO_PUBLIC_KEY), *both, (api.CKA_EC_POINT, b"\x04\x20" + public)])
    raw.createObject(
        [
            *((api.CKA_CLASS, api.CKO_PRIVATE_KEY), *both, (api.CKA_VALUE, private), (api.CKA_DERIVE, True)),
            *((api.CKA_PRIVATE, True), (api.CKA_SENSITIVE, changed.get("sensitive", True))),
            (api.CKA_EXTRACTABLE, changed.get("extractable", False)),
        ]
    )


def store(token: Token, directory: Path, *, pin: Callable[[str], str] | None = None) -> KeyStore:
    return KeyStore(directory, lambda _: "pass", cost=KdfCost.unsafe_light(), token=token.keys(pin))


# --- making, finding, destroying


def test_create__key__cannot_leave_the_token_and_no_file_has_it(token: Token, tmp_path: Path) -> None:
    keys = store(token, tmp_path / "keys")
    public = keys.create_institution_key(3).public
    raw = outside(token)

    (private,) = raw.findObjects([(api.CKA_CLASS, api.CKO_PRIVATE_KEY)])
    wanted = [api.CKA_SENSITIVE, api.CKA_ALWAYS_SENSITIVE, api.CKA_EXTRACTABLE, api.CKA_NEVER_EXTRACTABLE]
    assert raw.getAttributeValue(private, [*wanted, api.CKA_LOCAL]) == [True, True, False, True, True]
    assert raw.getAttributeValue(private, [api.CKA_DERIVE, api.CKA_SIGN, api.CKA_DECRYPT]) == [True, False, False]
    assert raw.getAttributeValue(private, [api.CKA_VALUE]) == [None]
    assert raw.getAttributeValue(private, [api.CKA_LABEL]) == ["mpcredit-institution-3"]
    assert keys.in_token(public)
    assert not list((tmp_path / "keys").glob("institution-*"))


def test_find__published_private_key_put_into_the_token__gives_the_published_secret(token: Token, raw: Any) -> None:
    for version, case in enumerate(vectors("x25519_rfc7748.json"), start=1):
        private = bytes.fromhex(case["private"])
        public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
        put(raw, f"mpcredit-supervisor-{version}", private=private, public=public)

        key = token.keys().find(public)

        assert key is not None
        assert key.exchange(bytes.fromhex(case["public"]) if version > 1 else BASE_POINT) == (
            bytes.fromhex(case["shared"]) if version > 1 else public
        )


def test_agree__secrets__leave_nothing_behind_in_the_token(token: Token) -> None:
    key = token.keys().create("institution", 1)
    for _ in range(3):
        key.exchange(PEER.public)

    assert outside(token).findObjects([(api.CKA_CLASS, api.CKO_SECRET_KEY)]) == []


def test_key__made_by_one_process__is_used_by_the_next_and_by_its_version(token: Token) -> None:
    made = token.keys().create("institution", 1)
    token.home.restart()

    found = token.keys().find(made.public)

    assert found is not None
    assert found.exchange(PEER.public) == PEER.exchange(made.public)
    assert token.keys().versions("institution") == {1: made.public}
    assert token.keys().versions("supervisor") == {}
    assert token.keys().find(PEER.public) is None


def test_versions__need_no_pin_once_there_is_a_key(token: Token) -> None:
    made = token.keys().create("institution", 1)
    token.home.restart()

    def never(purpose: str) -> str:
        raise AssertionError(purpose)

    assert token.keys(never).versions("institution") == {1: made.public}


def test_destroy__both_halves_go__and_what_a_crash_left_is_finished(token: Token) -> None:
    keys = token.keys()
    gone, stays = keys.create("supervisor", 1), keys.create("supervisor", 2)
    raw = outside(token)
    (half,) = raw.findObjects([(api.CKA_CLASS, api.CKO_PRIVATE_KEY), (api.CKA_ID, b"mpcredit-supervisor-1")])
    raw.destroyObject(half)  # as if cut off between the two
    with pytest.raises(KeyStoreError, match="no private key mpcredit-supervisor-1"):
        gone.exchange(PEER.public)
    with pytest.raises(KeyStoreError, match="no private key mpcredit-supervisor-1"):
        keys.find(gone.public)

    assert keys.destroy(gone.public)

    assert not keys.destroy(gone.public)
    assert keys.versions("supervisor") == {2: stays.public}
    assert outside(token).findObjects([(api.CKA_ID, b"mpcredit-supervisor-1")]) == []
    with pytest.raises(KeyStoreError, match="no private key"):
        gone.exchange(PEER.public)


def test_two_parties__in_one_token__see_their_own_keys(token: Token) -> None:
    mine, theirs = token.keys(), token.keys(prefix="other-bank")

    one, other = mine.create("institution", 1), theirs.create("institution", 1)

    assert mine.versions("institution") == {1: one.public}
    assert theirs.versions("institution") == {1: other.public}


# --- files and token together


def test_keys_in_files__are_still_found_beside_the_token__and_no_version_is_made_twice(
    token: Token, tmp_path: Path
) -> None:
    before = KeyStore(tmp_path / "keys", lambda _: "pass", cost=KdfCost.unsafe_light())
    old = before.create_institution_key(1)
    keys = store(token, tmp_path / "keys")

    with pytest.raises(KeyStoreError, match="exists already"):
        keys.create_institution_key(1)
    new = keys.create_institution_key(2)

    assert keys.institution_versions() == {1: old.public, 2: new.public}
    assert [keys.in_token(public) for public in (old.public, new.public)] == [False, True]
    assert keys.institution_key(old.public).exchange(PEER.public) == PEER.exchange(old.public)
    keys.destroy_institution_key(old.public)
    assert keys.institution_versions() == {2: new.public}
    assert before.institution_versions() == {}
    with pytest.raises(KeyStoreError, match="in its files or in <token"):
        keys.institution_key(old.public)


def test_key_in_a_file__is_used_while_the_token_is_away(token: Token, tmp_path: Path) -> None:
    before = KeyStore(tmp_path / "keys", lambda _: "pass", cost=KdfCost.unsafe_light())
    old = before.create_institution_key(1)
    away = Pkcs11Keys(TokenPlace(token.home.module, "no such token"), lambda _: "0000")

    keys = KeyStore(tmp_path / "keys", lambda _: "pass", token=away)

    assert keys.institution_key(old.public).public == old.public
    with pytest.raises(KeyUnavailable):
        keys.institution_key(PEER.public)


# --- PIN


def test_wrong_pin__is_tried_once_and_never_shown(
    token: Token, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    real = api.Session.login
    monkeypatch.setattr(api.Session, "login", lambda *a, **k: (tries.append(1), real(*a, **k))[1])
    caplog.set_level(logging.DEBUG)
    wrong = "wrong~71~pin"

    for _ in range(4):
        with pytest.raises(WrongPassphrase, match="the PIN is wrong") as caught:
            token.keys(lambda _: wrong).unlock()
    assert len(tries) == 1
    assert "not tried again" in str(caught.value)
    keys = token.keys()
    keys.create("institution", 1)

    text = f"{caplog.text} {caught.value} {caught.value!r} {keys!r} {keys._token!r} {vars(caught.value)}"
    assert "logged in to token" in text
    assert wrong not in text
    assert token.pin not in text


def test_wrong_pin__after_somebody_else_in_the_process_logged_in__is_still_wrong(token: Token) -> None:
    token.keys().create("institution", 1)

    with pytest.raises(WrongPassphrase):
        token.keys(lambda _: "another").unlock()


def test_pin__empty_or_none_to_be_had__is_said(token: Token) -> None:
    with pytest.raises(KeyStoreError, match="PIN is empty"):
        token.keys(lambda _: "").unlock()


def test_pin__changed_while_in_use__ends_with_the_session_and_is_not_tried_again(token: Token) -> None:
    keys = token.keys()
    key = keys.create("institution", 1)
    outside(token).setPin(token.pin, "a-new-pin-71")
    assert key.exchange(PEER.public) == PEER.exchange(key.public)

    token.home.restart()

    for _ in range(2):
        with pytest.raises(KeyUnavailable, match="PIN has changed") as caught:
            key.exchange(PEER.public)
    assert "start again" in caught.value.remedy
    with pytest.raises(WrongPassphrase, match="not tried again"):
        token.keys().unlock()
    assert token.keys(lambda _: "a-new-pin-71").find(key.public) is not None


# --- library and token


def test_library__missing_or_none__says_which_line(token: Token, tmp_path: Path) -> None:
    for module in (tmp_path / "none.so", Path(sys.executable)):
        with pytest.raises(KeyStoreError, match=str(module)) as caught:
            Pkcs11Keys(TokenPlace(module, "x"), lambda _: "1").unlock()
        assert "[keys.pkcs11] module" in caught.value.remedy


def test_package__missing__says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "PyKCS11", None)

    with pytest.raises(KeyStoreError, match="PyKCS11") as caught:
        Pkcs11Keys(TokenPlace(tmp_path / "any.so", "x"), lambda _: "1").unlock()

    assert "mpcredit[pkcs11]" in caught.value.remedy


def test_token__not_there__names_those_that_are_and_asks_nobody(token: Token) -> None:
    asked: list[str] = []
    keys = token.keys(lambda purpose: asked.append(purpose) or "", token="no such token")  # type: ignore[func-returns-value]

    with pytest.raises(KeyUnavailable, match=f"'no such token' is not there; there are: .*{token.label}"):
        keys.unlock()

    assert asked == []


def test_token__two_with_one_label__asks_for_the_serial_number(softhsm: SoftHsm) -> None:
    softhsm.token("twins")
    second = softhsm.token("twins")

    with pytest.raises(KeyStoreError, match="2 tokens are labelled 'twins'") as caught:
        second.keys().unlock()
    assert "serial" in caught.value.remedy

    serials = str(caught.value.message).split(": ")[1].split(", ")
    opened = [serial for serial in serials if _opens(second, serial)]
    assert len(opened) == 1


def _opens(token: Token, serial: str) -> bool:
    try:
        token.keys(serial=serial).unlock()
    except WrongPassphrase:
        return False
    return True


def test_restart__sessions_lost__is_noticed_and_logged_in_again_without_asking(token: Token) -> None:
    asked: list[str] = []

    def pin(purpose: str) -> str:
        asked.append(purpose)
        return token.pin

    keys = token.keys(pin)
    key = keys.create("institution", 1)

    for _ in range(3):
        token.home.restart()
        assert key.exchange(PEER.public) == PEER.exchange(key.public)
    token.home.restart()
    assert keys.create("institution", 2).public in keys.versions("institution").values()
    token.home.restart()
    assert keys.destroy(key.public)
    assert len(asked) == 1


def test_token__removed_and_put_back__is_unavailable_meanwhile(token: Token, tmp_path: Path) -> None:
    key = token.keys().create("institution", 1)
    place = token.home.place_of(token.label)
    shutil.move(place, tmp_path / "pulled out")

    for _ in range(2):
        with pytest.raises(KeyUnavailable, match=r"did not agree|is not there") as caught:
            key.exchange(PEER.public)
    assert "by itself" in caught.value.remedy

    shutil.move(tmp_path / "pulled out", place)
    assert key.exchange(PEER.public) == PEER.exchange(key.public)


def test_restart__with_two_tokens__never_mixes_them(softhsm: SoftHsm) -> None:
    # After a restart session and object numbers begin anew: an old number of one token is a new one of the other.
    one, other = softhsm.token().keys(), softhsm.token().keys()
    mine, theirs = one.create("institution", 1), other.create("institution", 1)

    for _ in range(3):
        softhsm.restart()
        assert theirs.exchange(PEER.public) == PEER.exchange(theirs.public)
        assert mine.exchange(PEER.public) == PEER.exchange(mine.public)
        assert one.versions("institution") == {1: mine.public}
        assert other.versions("institution") == {1: theirs.public}


def test_threads__sharing_a_token_that_restarts__all_get_the_right_secret(token: Token) -> None:
    keys = token.keys()
    made = [keys.create("institution", version) for version in range(1, 4)]
    peers = [InstitutionKey.from_bytes(bytes([i]) * 32) for i in range(1, 5)]
    wrong: list[object] = []

    def work(peer: InstitutionKey) -> None:
        try:
            for turn in range(25):
                key = made[turn % 3]
                if key.exchange(peer.public) != peer.exchange(key.public):
                    wrong.append(peer)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(peer,)) for peer in peers]
    for thread in threads:
        thread.start()
    for _ in range(5):
        token.home.restart()
    for thread in threads:
        thread.join()

    assert wrong == []


# --- keys that are not what they are called


def test_key__of_another_kind_under_its_label__is_refused(token: Token, raw: Any) -> None:
    label = "mpcredit-institution-1"
    p256 = bytes.fromhex("06082a8648ce3d030107")
    both = [(api.CKA_TOKEN, True), (api.CKA_ID, label.encode()), (api.CKA_LABEL, label)]
    raw.generateKeyPair([*both, (api.CKA_EC_PARAMS, p256)], both, api.Mechanism(api.CKM_EC_KEY_PAIR_GEN, None))

    with pytest.raises(KeyStoreError, match=f"{label} is a key of another kind") as caught:
        token.keys().versions("institution")
    assert "prefix" in caught.value.remedy


@pytest.mark.parametrize(("sensitive", "extractable"), [(True, True), (False, False)])
def test_key__that_could_leave_the_token__is_refused(
    token: Token, raw: Any, sensitive: bool, extractable: bool
) -> None:
    private = b"x" * 32
    public = InstitutionKey.from_bytes(private).public
    put(raw, "mpcredit-institution-1", private=private, public=public, sensitive=sensitive, extractable=extractable)

    with pytest.raises(KeyStoreError, match="could be taken out of the token"):
        token.keys().find(public)


def test_key__whose_halves_do_not_belong_together__is_refused(token: Token, raw: Any) -> None:
    put(raw, "mpcredit-institution-1", private=b"x" * 32, public=PEER.public)

    with pytest.raises(KeyStoreError, match="not the one of its public half"):
        token.keys().find(PEER.public)


def test_key__two_of_one_name__are_refused(token: Token, raw: Any) -> None:
    for private in (b"x" * 32, b"y" * 32):
        put(raw, "mpcredit-supervisor-1", private=private, public=InstitutionKey.from_bytes(private).public)

    with pytest.raises(KeyStoreError, match="two keys are called mpcredit-supervisor-1"):
        token.keys().versions("supervisor")


def test_security_officer_pin__is_not_the_users(token: Token) -> None:
    with pytest.raises(WrongPassphrase):
        token.keys(lambda _: SO_PIN).unlock()
