"""No secret shows in repr, str, format, a traceback, a pickle or a copy."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Callable

import pytest

from mpcredit import keyproof, paillier, pairkeys, sealing
from mpcredit.errors import MpcreditError
from mpcredit.paillier import Opening, PrivateKey
from mpcredit.pairkeys import InstitutionKey, KeyRef, PairKeys, PeriodRef, Realm
from mpcredit.sealing import MaskKeyEntry, ReportBody
from mpcredit.tags import HmacTagger, TagKey

SECRET = b"topsecret-topsecret-topsecret-32"
SECRET_INT = int.from_bytes(SECRET, "big")


def spellings(*secrets: bytes | int) -> list[str]:
    """Every way in which a secret could be printed."""
    found = []
    for secret in secrets:
        if isinstance(secret, bytes):
            found += [repr(secret)[2:-1], secret.hex(), str(int.from_bytes(secret, "big"))]
        else:
            found += [str(secret), f"{secret:x}"]
    return found


def assert_hidden(text: str, *secrets: bytes | int) -> None:
    for spelling in spellings(*secrets):
        assert spelling not in text


@pytest.mark.parametrize(
    "thing",
    [
        TagKey(1, SECRET),
        HmacTagger(TagKey(1, SECRET)),
        InstitutionKey.from_bytes(SECRET),
        PairKeys(SECRET, SECRET, SECRET, SECRET),
        MaskKeyEntry(1, 1, SECRET),
        ReportBody(SECRET, (SECRET_INT,)),
        Opening(SECRET_INT, SECRET_INT),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_secret__printed_in_any_way__does_not_show(thing: object) -> None:
    assert_hidden(f"{thing} {thing!r} {thing!s} {[thing]} {(thing,)} { {1: thing} }", SECRET, SECRET_INT)


def test_private_key__printed_in_any_way__shows_its_fingerprint_only(key: PrivateKey) -> None:
    text = f"{key} {key!r} {[key]}"

    assert key.public.fingerprint in text
    assert_hidden(text, key.p, key.q)


@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_private_keys__pickled_or_copied__refuse(act: Callable[[object], object], key: PrivateKey) -> None:
    for private in (key, InstitutionKey.from_bytes(SECRET)):
        with pytest.raises(TypeError, match="keystore"):
            act(private)


def test_private_keys__changed__refuse(key: PrivateKey) -> None:
    for private in (key, InstitutionKey.from_bytes(SECRET)):
        with pytest.raises(AttributeError):
            private.public = b""  # type: ignore[assignment]


def test_errors__that_secrets_lead_to__do_not_show_them(key: PrivateKey, realm: Realm) -> None:
    public = key.public
    own = InstitutionKey.from_bytes(SECRET)
    other = InstitutionKey.generate()
    c = paillier.encrypt(public, SECRET_INT, r=SECRET_INT)
    hostile = paillier.encrypt(public, 5, r=9)

    attempts: list[Callable[[], object]] = [
        lambda: PrivateKey.from_primes(key.p, key.q + 2),
        lambda: PrivateKey.from_primes(key.p, key.p),
        lambda: paillier.decrypt(key, public.n),
        lambda: paillier.decrypt(key, key.p),
        lambda: paillier.encrypt(public, SECRET_INT + public.n, r=5),
        lambda: paillier.encrypt(public, 1, r=SECRET_INT << 2048),
        lambda: paillier.open_with_root(public, c, SECRET_INT + 1),
        lambda: paillier.verify_opening(public, hostile, Opening(SECRET_INT, SECRET_INT)),
        lambda: keyproof.verify(public.n, SECRET * 64),
        lambda: TagKey(1, SECRET + SECRET),
        lambda: InstitutionKey.from_bytes(SECRET + SECRET),
        lambda: pairkeys.derive(
            own, KeyRef(0, 1, other.public), KeyRef(1, 1, own.public), realm, PeriodRef(1, b"p" * 32)
        ),
        lambda: own.exchange(bytes(32)),
        lambda: sealing.hpke_open(own, SECRET * 3, b""),
        lambda: sealing.SubjectList.parse(SECRET * 16),
    ]

    for attempt in attempts:
        with pytest.raises(MpcreditError) as caught:
            attempt()
        # Tracebacks without locals, as Python prints them; the source lines hold no literals of the secret.
        text = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
        assert_hidden(text, SECRET, SECRET_INT, key.p, key.q, SECRET_INT + 1)
