"""Keys and ciphertexts of phe, both ways."""

from __future__ import annotations

import sys

import phe
import pytest

from mpcredit import interchange, paillier
from mpcredit.errors import InvalidCiphertext, InvalidEncoding, InvalidKey, MpcreditError
from mpcredit.paillier import PrivateKey


def test_keys__there_and_back__are_the_same(key: PrivateKey) -> None:
    assert interchange.from_phe_public(interchange.to_phe_public(key.public)) == key.public
    assert interchange.from_phe_private(interchange.to_phe_private(key)) == key


def test_ciphertexts__there_and_back__keep_their_value(key: PrivateKey) -> None:
    c = paillier.encrypt(key.public, 1234, r=99)

    number = interchange.to_phe_ciphertext(key.public, c)

    assert interchange.to_phe_private(key).decrypt(number) == 1234
    assert paillier.decrypt(key, interchange.from_phe_ciphertext(number + 6)) == 1240


def test_negative_number_of_phe__is_n_minus_it(key: PrivateKey) -> None:
    number = interchange.to_phe_public(key.public).encrypt(-5)

    assert paillier.decrypt(key, interchange.from_phe_ciphertext(number)) == key.public.n - 5


def test_sum_made_with_phe__of_our_ciphertexts__is_ours(key: PrivateKey) -> None:
    numbers = [interchange.to_phe_ciphertext(key.public, paillier.encrypt(key.public, m, r=m + 1)) for m in (3, 4, 5)]

    assert paillier.decrypt(key, interchange.from_phe_ciphertext(sum(numbers[1:], numbers[0]))) == 12


def test_float_of_phe__is_refused(key: PrivateKey) -> None:
    with pytest.raises(InvalidEncoding):
        interchange.from_phe_ciphertext(interchange.to_phe_public(key.public).encrypt(0.5))


def test_ciphertext_that_is_none__is_refused(key: PrivateKey) -> None:
    theirs = interchange.to_phe_public(key.public)

    with pytest.raises(InvalidCiphertext):
        interchange.to_phe_ciphertext(key.public, key.public.n)
    bare = phe.EncryptedNumber(theirs, key.public.n, 0)
    with pytest.raises(InvalidCiphertext):
        interchange.from_phe_ciphertext(bare)


def test_key_that_is_none__is_refused() -> None:
    with pytest.raises(InvalidKey):
        interchange.from_phe_public(phe.PaillierPublicKey(16))
    changed = phe.PaillierPublicKey(15)
    changed.g = 4
    with pytest.raises(InvalidEncoding):
        interchange.from_phe_public(changed)


def test_without_phe__the_error_says_what_to_install(key: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phe", None)

    with pytest.raises(MpcreditError, match=r"mpcredit\[phe\]"):
        interchange.to_phe_public(key.public)
