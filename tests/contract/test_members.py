"""What belongs to a member alone: record, keys, operators, sealed mask keys; and how members come and go.

confirm
├── another account than the owner, an unknown index, a second time: NotOwner, UnknownMember, AlreadyConfirmed
├── key of low order, or in a second form: BadKey
├── key that anybody ever registered: KeyInUse
├── signature by another account, for another member, version, key, contract, or malformed: BadKeySignature
└── else a member, with its first key, not audited
rotateKey: as above; else the next version, the audit is gone until given again
setOperator
├── not the owner, account plays another part, too many: NotOwner, AccountInUse, TooManyOperators
└── else the account acts for the member, or does no longer
sealMaskKeys
├── not an operator, not confirmed, no supervisor key: NotMember, UnknownMember, NoSupervisorKey
└── else published with both key versions
anchor, notify
├── neither operator of a confirmed member nor supervisor: NotMember, UnknownMember
├── a notice that is empty or longer than 4,096 bytes: NoticeLength
└── else published under the account
inviteMember, removeMember, replaceOwner: only by proposal
├── a removed member keeps no account, no operator and no way back; its index is never used again
└── 216 members are the most
"""

from __future__ import annotations

from copy import copy

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from eth_utils import keccak
from governance import SUPERVISOR, ZERO, ZERO_32, bitmap, founded_council, invited_council, x25519_public

P = 2**255 - 19
# Order 8 on the curve, the only two; from the table of RFC 7748's errata and https://cr.yp.to/ecdh.html#validate.
ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
LOW_ORDER = [0, 1, P - 1, *ORDER_8]
SECOND_FORMS = [P, P + 1, P + 2, P + 18, 2**255, 2**255 + 9, 2**255 + ORDER_8[0], 2**255 + P - 1, 2**256 - 1]
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def little_endian(u: int) -> bytes:
    return u.to_bytes(32, "little")


@pytest.fixture
def council():
    with founded_council() as council:
        yield council


@pytest.fixture
def invited():
    with invited_council() as council:
        yield council


def confirming(council, index, key, *, version=1, previous=ZERO_32, signer=None, account=None):
    """The refusal of a confirmation, with whatever was changed in it."""
    bank = council.banks[index]
    signature = council.signed_key(signer or bank.owner, index, version, key, previous)
    return council.refusal(account or bank.owner, "confirm", index, key, signature)


# ---------------------------------------------------------------- confirm


def test_confirm__by_the_owner__makes_a_member_that_is_not_audited(invited):
    bank = invited.banks[2]

    receipt = invited.confirm(bank)

    signature = invited.signed_key(bank.owner, 2, 1, bank.key())
    assert invited.changes(receipt) == [("MemberConfirmed", 2), ("KeySet", 2, 1, bank.key(), signature)]
    shown = invited.read("member", 2)
    assert (shown["key"], shown["keyVersion"], shown["auditedVersion"], shown["confirmed"]) == (bank.key(), 1, 0, True)
    assert invited.read("memberSets") == (bitmap(2), 0, 0)


def test_confirm__by_another_account__reverts_with_not_owner(invited):
    bank, other = invited.banks[0], invited.banks[1]

    assert confirming(invited, 0, bank.key(), account=other.owner) == ("NotOwner", other.owner, 0)
    assert confirming(invited, 0, bank.key(), account=bank.operator) == ("NotOwner", bank.operator, 0)
    assert confirming(invited, 0, bank.key(), account=invited.deployer) == ("NotOwner", invited.deployer, 0)
    assert confirming(invited, 0, bank.key()) is None


def test_confirm__unknown_index__reverts(invited):
    assert confirming(invited, 6, invited.banks[6].key()) == ("UnknownMember", 6)


def test_confirm__second_time__reverts(council):
    assert confirming(council, 0, x25519_public("another")) == ("AlreadyConfirmed", 0)
    assert confirming(council, 5, x25519_public("another")) is None


@pytest.mark.parametrize("u", LOW_ORDER)
def test_confirm__key_of_low_order__reverts_with_bad_key(council, u):
    key = little_endian(u)

    # The reason, from a second source: with such a key every shared secret is zero.
    with pytest.raises(ValueError, match="shared key"):
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    assert confirming(council, 5, key) == ("BadKey",)


@pytest.mark.parametrize("u", SECOND_FORMS)
def test_confirm__key_in_a_second_form__reverts_with_bad_key(council, u):
    assert confirming(council, 5, little_endian(u)) == ("BadKey",)


@pytest.mark.parametrize("u", [2, 9, P - 2, 2**254, ORDER_8[0] + 1, ORDER_8[1] - 1, *[256**i * 5 for i in (1, 30)]])
def test_confirm__key_next_to_a_refused_one__is_accepted(council, u):
    assert confirming(council, 5, little_endian(u)) is None


def test_confirm__key_of_another_member__reverts_with_key_in_use(council):
    stolen = council.banks[0].key()

    assert confirming(council, 5, stolen) == ("KeyInUse", stolen)


def test_confirm__key_that_another_member_has_replaced__reverts_with_key_in_use(council):
    council.rotate(council.banks[0], 2)

    assert confirming(council, 5, council.banks[0].key(1)) == ("KeyInUse", council.banks[0].key(1))


def test_confirm__key_of_the_supervisor__reverts_with_key_in_use(council):
    key = x25519_public("supervisor/1")

    assert confirming(council, 5, key) == ("KeyInUse", key)


def test_confirm__signature_for_something_else__reverts_with_bad_key_signature(council):
    bank = council.banks[5]
    key = bank.key()
    good = council.signed_key(bank.owner, 5, 1, key)

    def refused(signature):
        refusal = council.refusal(bank.owner, "confirm", 5, key, signature)
        return refusal is not None and refusal[0] == "BadKeySignature" and refusal[2] == bank.owner

    assert refused(council.signed_key(bank.operator, 5, 1, key))
    assert refused(council.signed_key(bank.owner, 4, 1, key))
    assert refused(council.signed_key(bank.owner, 5, 2, key))
    assert refused(council.signed_key(bank.owner, 5, 1, bank.key(2)))
    assert refused(council.signed_key(bank.owner, 5, 1, key, keccak(b"")))
    elsewhere = copy(council)
    elsewhere.address = council.outsider
    assert refused(elsewhere.signed_key(bank.owner, 5, 1, key))
    assert not refused(good)


def test_confirm__malformed_signature__reverts_with_bad_key_signature(council):
    bank = council.banks[5]
    key = bank.key()
    good = council.signed_key(bank.owner, 5, 1, key)
    r, s, v = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    mirrored = r + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])

    def refusal(signature):
        return council.refusal(bank.owner, "confirm", 5, key, signature)

    assert s <= HALF_ORDER
    for bad in (b"", good[:64], good + b"\0", good[:64] + b"\0", good[:64] + b"\x1d", bytes(65), mirrored):
        assert refusal(bad) == ("BadKeySignature", ZERO, bank.owner)
    assert refusal(good) is None


def test_key_statement__any__is_what_the_specification_says(council):
    arguments = (3, 7, keccak(b"key"), keccak(b"previous"))

    assert council.read("keyStatement", *arguments) == council.statement(*arguments)


# ---------------------------------------------------------------- rotateKey


def test_rotate_key__by_the_owner__counts_up_and_clears_the_audit(council):
    bank = council.banks[1]

    receipt = council.rotate(bank, 2)

    [(kind, index, version, key, _)] = council.changes(receipt)
    assert (kind, index, version, key) == ("KeySet", 1, 2, bank.key(2))
    assert council.read("memberSets")[:2] == (bitmap(0, 1, 2, 3, 4), bitmap(0, 2, 3, 4))
    shown = council.read("member", 1)
    assert (shown["keyVersion"], shown["auditedVersion"]) == (2, 1)


def test_rotate_key__audited_again__serves_again(council):
    council.rotate(council.banks[1], 2)

    council.send(council.supervisor, "auditOk", 1, 2)

    assert council.read("memberSets")[1] == bitmap(0, 1, 2, 3, 4)


def test_rotate_key__refused_twins(council):
    bank = council.banks[1]

    def refusal(key, *, version=2, previous=None, signer=None, account=None):
        signature = council.signed_key(signer or bank.owner, 1, version, key, previous or bank.key(1))
        return council.refusal(account or bank.owner, "rotateKey", 1, key, signature)

    assert refusal(bank.key(2)) is None
    assert refusal(bank.key(2), account=bank.operator) == ("NotOwner", bank.operator, 1)
    assert refusal(bank.key(2), account=council.supervisor) == ("NotOwner", council.supervisor, 1)
    assert refusal(bank.key(1)) == ("KeyInUse", bank.key(1))
    assert refusal(council.banks[0].key()) == ("KeyInUse", council.banks[0].key())
    assert refusal(little_endian(1)) == ("BadKey",)
    assert refusal(bank.key(2), version=3)[0] == "BadKeySignature"
    assert refusal(bank.key(2), previous=ZERO_32)[0] == "BadKeySignature"
    assert refusal(bank.key(2), signer=bank.operator)[0] == "BadKeySignature"


def test_rotate_key__before_confirmation__reverts(council):
    bank = council.banks[5]
    signature = council.signed_key(bank.owner, 5, 1, bank.key())

    assert council.refusal(bank.owner, "rotateKey", 5, bank.key(), signature) == ("UnknownMember", 5)


# ---------------------------------------------------------------- operators


def test_set_operator__allowed__acts_for_the_member_and_no_longer_when_forbidden(council):
    bank, account = council.banks[0], council.outsider

    allowed = council.send(bank.owner, "setOperator", 0, account, True)
    acting = council.read("memberOf", account)
    forbidden = council.send(bank.owner, "setOperator", 0, account, False)

    assert acting == 0
    assert council.changes(allowed) == [("OperatorSet", 0, account, True)]
    assert council.changes(forbidden) == [("OperatorSet", 0, account, False)]
    assert council.refusal(account, "memberOf", account) == ("NotMember", account)
    assert council.read("memberOf", bank.operator) == 0


def test_set_operator__by_another_account__reverts_with_not_owner(council):
    bank = council.banks[0]

    for account in (bank.operator, council.banks[1].owner, council.supervisor, council.outsider):
        assert council.refusal(account, "setOperator", 0, council.outsider, True) == ("NotOwner", account, 0)
    assert council.refusal(bank.owner, "setOperator", 0, council.outsider, True) is None


def test_set_operator__account_in_another_part__reverts(council):
    first, second = council.banks[:2]

    def refusal(account, allowed=True):
        return council.refusal(first.owner, "setOperator", 0, account, allowed)

    assert refusal(second.operator) == ("AccountInUse", second.operator)
    assert refusal(second.owner) == ("AccountInUse", second.owner)
    assert refusal(first.operator) == ("AccountInUse", first.operator)
    assert refusal(council.supervisor) == ("AccountInUse", council.supervisor)
    assert refusal(council.address) == ("AccountInUse", council.address)
    assert refusal(ZERO) == ("ZeroAccount",)
    assert refusal(first.owner) is None
    # Forbidding somebody else's operator, or nobody's.
    assert refusal(second.operator, allowed=False) == ("NotMember", second.operator)
    assert refusal(council.outsider, allowed=False) == ("NotMember", council.outsider)
    assert refusal(first.operator, allowed=False) is None


def test_set_operator__ninth_account__reverts_with_too_many_operators(council):
    owner = council.banks[0].owner
    spare = council.chain.accounts[20:28]
    for account in spare[:7]:
        council.send(owner, "setOperator", 0, account, True)

    assert council.refusal(owner, "setOperator", 0, spare[7], True) == ("TooManyOperators", 0)
    council.send(owner, "setOperator", 0, spare[3], False)
    assert council.refusal(owner, "setOperator", 0, spare[7], True) is None
    assert [council.read("memberOf", a) for a in (*spare[:3], *spare[4:7])] == [0] * 6


# ---------------------------------------------------------------- sealed mask keys


def test_seal_mask_keys__by_an_operator__is_published_with_both_versions(council):
    council.rotate(council.banks[2], 2)

    receipt = council.send(council.banks[2].operator, "sealMaskKeys", b"sealed")

    assert council.events(receipt) == [("MaskKeysSealed", 2, 2, 1, b"sealed")]


def test_seal_mask_keys__refused_twins(council, invited):
    assert council.refusal(council.banks[0].operator, "sealMaskKeys", b"") is None
    assert council.refusal(council.banks[0].owner, "sealMaskKeys", b"") == ("NotMember", council.banks[0].owner)
    assert council.refusal(council.banks[5].operator, "sealMaskKeys", b"") == ("UnknownMember", 5)
    invited.confirm(invited.banks[0])
    assert invited.refusal(invited.banks[0].operator, "sealMaskKeys", b"") == ("NoSupervisorKey",)


# ---------------------------------------------------------------- anchors and notices


def test_anchor_and_notify__by_operator_and_supervisor__are_published_under_the_account(council):
    for account in (council.banks[1].operator, council.supervisor):
        assert council.events(council.send(account, "anchor", b"\x07" * 32)) == [("Anchored", account, b"\x07" * 32)]
        for message in (b"\x01", bytes(range(256)) * 16):
            assert council.events(council.send(account, "notify", message)) == [("Noticed", account, message)]


def test_anchor_and_notify__refused_twins(council):
    for function, value in (("anchor", bytes(32)), ("notify", b"x")):
        assert council.refusal(council.outsider, function, value) == ("NotMember", council.outsider)
        owner = council.banks[0].owner
        assert council.refusal(owner, function, value) == ("NotMember", owner)
        assert council.refusal(council.banks[5].operator, function, value) == ("UnknownMember", 5)
    for length in (0, 4_097):
        assert council.refusal(council.banks[0].operator, "notify", bytes(length)) == ("NoticeLength", length, 4_096)
    council.decide(council.encoded("removeMember", 4))
    gone = council.banks[4].operator
    assert council.refusal(gone, "notify", b"x") == ("NotMember", gone)


# ---------------------------------------------------------------- members come and go


def test_invite_member__by_proposal__gets_the_next_index_and_confirms_itself(council):
    bank = council.banks[6]

    receipt = council.decide(council.encoded("inviteMember", bank.owner, bank.operator, bank.name))

    assert council.changes(receipt) == [("MemberInvited", 6, bank.owner, bank.operator, "Bank G")]
    assert council.read("memberSets")[0] == bitmap(0, 1, 2, 3, 4)
    council.confirm(bank)
    assert council.read("memberSets")[0] == bitmap(0, 1, 2, 3, 4, 6)


def test_remove_member__by_proposal__leaves_nothing_to_act_with(council):
    bank = council.banks[4]
    council.send(bank.owner, "setOperator", 4, council.outsider, True)
    council.ready(range(5))

    receipt = council.decide(council.encoded("removeMember", 4))

    assert council.changes(receipt) == [("MemberRemoved", 4)]
    assert council.read("member", 4)["removed"]
    assert council.read("memberSets") == (bitmap(0, 1, 2, 3),) * 3
    for operator in (bank.operator, council.outsider):
        assert council.refusal(operator, "memberOf", operator) == ("NotMember", operator)
        assert council.refusal(operator, "declareReady", 0) == ("NotMember", operator)
    assert council.refusal(bank.owner, "propose", [], "") == ("NotMember", bank.owner)
    assert council.refusal(bank.owner, "setOperator", 4, council.outsider, True) == ("UnknownMember", 4)
    assert council.refusal(bank.owner, "rotateKey", 4, bank.key(2), b"") == ("UnknownMember", 4)
    assert council.refusal(bank.owner, "confirm", 4, bank.key(2), b"") == ("UnknownMember", 4)
    assert council.refusal(council.supervisor, "auditOk", 4, 1) == ("UnknownMember", 4)


def test_remove_member__invited_again__gets_a_new_index_and_needs_a_new_key(council):
    bank = council.banks[4]
    council.decide(council.encoded("removeMember", 4))

    council.decide(council.encoded("inviteMember", bank.owner, bank.operator, bank.name))

    assert council.read("memberOf", bank.operator) == 6
    signature = council.signed_key(bank.owner, 6, 1, bank.key(1))
    assert council.refusal(bank.owner, "confirm", 6, bank.key(1), signature) == ("KeyInUse", bank.key(1))
    council.send(bank.owner, "confirm", 6, bank.key(2), council.signed_key(bank.owner, 6, 1, bank.key(2)))
    assert council.read("memberSets")[0] == bitmap(0, 1, 2, 3, 6)


def test_remove_member__below_the_minimum_cohort__reverts(council):
    calls = [council.encoded("removeMember", i) for i in (3, 4)]

    assert council.refusal_to_decide(*calls) == ("CohortTooSmall", 3, 4)
    assert council.refusal_to_decide(calls[0]) is None


def test_remove_member__invited_or_unknown_or_removed(council):
    council.decide(council.encoded("removeMember", 5))

    assert council.read("memberSets")[0] == bitmap(0, 1, 2, 3, 4)
    assert council.refusal_to_decide(council.encoded("removeMember", 5)) == ("UnknownMember", 5)
    assert council.refusal_to_decide(council.encoded("removeMember", 6)) == ("UnknownMember", 6)


def test_replace_owner__lost_account__the_new_one_governs_and_the_old_one_no_more(council):
    bank, owner = council.banks[0], council.outsider

    receipt = council.decide(council.encoded("replaceOwner", 0, owner))

    assert council.changes(receipt) == [("OwnerReplaced", 0, owner)]
    assert council.refusal(bank.owner, "propose", [], "") == ("NotMember", bank.owner)
    assert council.refusal(bank.owner, "setOperator", 0, bank.operator, False) == ("NotOwner", bank.owner, 0)
    assert council.refusal(owner, "propose", [], "") is None
    signature = council.signed_key(owner, 0, 2, bank.key(2), bank.key(1))
    assert council.refusal(owner, "rotateKey", 0, bank.key(2), signature) is None


def test_replace_owner__account_in_another_part__reverts(council):
    other = council.banks[1]

    for account in (other.owner, other.operator, council.supervisor, council.address):
        assert council.refusal_to_decide(council.encoded("replaceOwner", 0, account)) == ("AccountInUse", account)
    assert council.refusal_to_decide(council.encoded("replaceOwner", 0, ZERO)) == ("ZeroAccount",)
    assert council.refusal_to_decide(council.encoded("replaceOwner", 6, council.outsider)) == ("UnknownMember", 6)
    assert council.refusal_to_decide(council.encoded("replaceOwner", 0, council.banks[0].operator)) is None


@pytest.mark.slow
def test_invite_member__the_217th__reverts_with_too_many_members(council):
    def invitation(index):
        return council.encoded("inviteMember", *(f"0x{kind}{index:039x}" for kind in "ab"), f"Bank {index}")

    for start in range(6, 216, 30):
        council.decide(*[invitation(index) for index in range(start, start + 30)])

    assert council.read("memberCount") == 216
    assert council.refusal_to_decide(invitation(216)) == ("TooManyMembers",)


def test_member__unknown_index__reverts(council):
    assert council.refusal(council.outsider, "member", 6) == ("UnknownMember", 6)
    assert council.refusal(council.outsider, "member", SUPERVISOR) == ("UnknownMember", SUPERVISOR)
