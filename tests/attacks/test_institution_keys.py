"""A member registers another's institution key, or one shifted by a point of low order (R9, R10; protocol.md section 4).

If pair keys followed from the shared secret alone, a third member W would have one mask with the owner V and the same with
the copier X. With V < W < X the two cancel in W's own contribution, and what is left of W's masks the inquirer can know.
X needs no private key for that. Here ids, versions and public keys are in the derivation, so nothing cancels; and the
contract refuses a key that was ever registered.
"""

from __future__ import annotations

import pytest
from fakes import FakeTown
from hypothesis import given
from hypothesis import strategies as st

from mpcredit.chain import ChainSigner
from mpcredit.errors import InvalidKey, Refused
from mpcredit.events import Call
from mpcredit.local import LocalConsortium, sign_key
from mpcredit.pairkeys import InstitutionKey, KeyRef, PeriodRef, Realm, check_public, derive, mask, mask_sum
from mpcredit.schema import FIGURES_1

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
CTX = b"c" * 32
ORDER_8 = 39382357235489614581723060781553021112529911719440698176882885853963445705823
N = (1 << 2047) + 2**13 + 1
REALM = Realm(31337, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
PERIOD = PeriodRef(1, b"p" * 32)
A, V, W, X = range(4)
FIGURE = FIGURES_1.pack(
    [{"outstanding": 123456, "credit_limit": 0, "overdue": 0, "loans": 1, "pending": 0, "lenders": 1}], 2048
)[0]


# --------------------------------------------------------------------- shifting a key, on the Edwards form of the curve


def sqrt(square: int) -> int:
    root = pow(square, (P + 3) // 8, P)
    if (root * root - square) % P:
        root = root * pow(2, (P - 1) // 4, P) % P
    if (root * root - square) % P:
        raise ValueError("no square")
    return root


def add(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    """-x^2 + y^2 = 1 + d x^2 y^2 (RFC 8032)."""
    (x1, y1), (x2, y2) = one, two
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def on_edwards(u: int) -> tuple[int, int]:
    y = (u - 1) * pow(u + 1, -1, P) % P
    return sqrt((y * y - 1) * pow(D * y * y + 1, -1, P) % P), y


def shifted(public: bytes) -> bytes:
    """The key plus a point of order 4 (x = sqrt(-1), y = 0): another u-coordinate, the same shared secrets."""
    _, y = add(on_edwards(int.from_bytes(public, "little")), (sqrt(P - 1), 0))
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")


def naive_mask_key(private: InstitutionKey, public: bytes) -> bytes:
    """The variant: the pair's mask key is the shared secret."""
    return private.exchange(public)


@pytest.fixture(scope="module")
def keys() -> list[InstitutionKey]:
    return [InstitutionKey.from_bytes(bytes([i + 1]) * 32) for i in range(4)]


def copies(keys: list[InstitutionKey]) -> dict[str, bytes]:
    return {"copied": keys[V].public, "shifted": shifted(keys[V].public)}


def what_is_left_of_w(mask_keys: dict[int, bytes], known_to_inquirer: bytes) -> int:
    """W's plaintext after the inquirer takes off the one mask that it shares with W."""
    m = (FIGURE + mask_sum(W, mask_keys, CTX, 0, N)) % N
    return (m + mask(known_to_inquirer, CTX, 0, N)) % N  # A < W: W subtracted it


@pytest.mark.parametrize("how", ["copied", "shifted"])
def test_copied_key__masks_from_the_shared_secret__gives_the_third_member_away(
    keys: list[InstitutionKey], how: str
) -> None:
    public_of_x = copies(keys)[how]
    mask_keys = {
        A: naive_mask_key(keys[W], keys[A].public),
        V: naive_mask_key(keys[W], keys[V].public),
        X: naive_mask_key(keys[W], public_of_x),
    }

    assert what_is_left_of_w(mask_keys, naive_mask_key(keys[A], keys[W].public)) == FIGURE


@pytest.mark.parametrize("how", ["copied", "shifted"])
def test_copied_key__masks_of_r10__cancel_nobodys(keys: list[InstitutionKey], how: str) -> None:
    refs = [KeyRef(i, 1, k.public) for i, k in enumerate(keys[:3])] + [KeyRef(X, 1, copies(keys)[how])]
    mask_keys = {other: derive(keys[W], refs[W], refs[other], REALM, PERIOD).mask for other in (A, V, X)}

    assert mask_keys[V] != mask_keys[X]
    assert what_is_left_of_w(mask_keys, derive(keys[A], refs[A], refs[W], REALM, PERIOD).mask) != FIGURE


def test_copied_key__through_the_desk_and_its_cache__has_keys_of_its_own(town: FakeTown) -> None:
    # A cache by public key alone would hand out the keys of the member that was copied from.
    desk = town[2].desk
    own, victim = desk.member.key, desk.state.members[1].key
    copier = KeyRef(3, 1, victim.public)

    assert desk.pair_keys(own, victim, PERIOD).mask != desk.pair_keys(own, copier, PERIOD).mask
    assert desk.pair_keys(own, victim, PERIOD).wrap != desk.pair_keys(own, KeyRef(1, 2, victim.public), PERIOD).wrap


def test_shifted_key__is_another_key_with_the_same_secrets(keys: list[InstitutionKey]) -> None:
    other = shifted(keys[V].public)

    check_public(other)  # neither reader nor contract can tell
    assert other != keys[V].public
    assert keys[W].exchange(other) == keys[W].exchange(keys[V].public)


@given(
    st.sampled_from(
        [
            0,
            1,
            P - 1,
            P,
            P + 1,
            2**255 - 1,
            ORDER_8,
        ]
    )
)
def test_key_of_low_order_or_second_form__is_refused(u: int) -> None:
    with pytest.raises(InvalidKey):
        check_public(u.to_bytes(32, "little"))


def test_register__a_key_that_was_ever_registered__is_refused_by_the_contract(evm: LocalConsortium) -> None:
    bank = evm["Bank A"]
    bank.sync()
    members = bank.desk.state.members
    owner = evm.owners["Bank D"]

    for stolen in (members[1].key.public, members[3].key.public, evm.supervisor.supervisor.state.period_key.public):  # type: ignore[union-attr]
        signature = sign_key(owner, bank.realm, 3, 2, stolen, members[3].key.public)
        with pytest.raises(Refused) as caught:
            ChainSigner(evm.chain.web3, owner, evm.deployed.consortium).sign(
                Call("consortium", "rotateKey", (3, stolen, False, signature)), 99
            )
        assert caught.value.code == "KeyInUse"


def test_register__low_order__is_refused_by_the_contract(evm: LocalConsortium) -> None:
    bank = evm["Bank A"]
    bank.sync()
    owner = evm.owners["Bank D"]
    previous = bank.desk.state.members[3].key.public

    for u in (0, 1, P - 1, P + 1):
        bad = u.to_bytes(32, "little")
        signature = sign_key(owner, bank.realm, 3, 2, bad, previous)
        with pytest.raises(Refused) as caught:
            ChainSigner(evm.chain.web3, owner, evm.deployed.consortium).sign(
                Call("consortium", "rotateKey", (3, bad, False, signature)), 99
            )
        assert caught.value.code == "BadKey"
