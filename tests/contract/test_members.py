"""What belongs to a member alone: record, keys, sealed mask keys, anchors; and how members come and go.

confirm
├── another account than the owner, an unknown index, a second time: NotOwner, UnknownMember, AlreadyConfirmed
├── key of low order, or in a second form: BadKey
├── key that anybody ever registered: KeyInUse
├── signature by another account, for another member, version, key, contract, or malformed: BadSignature
├── its service account: test_accounts.py
└── else a member, with its first key and its account, not audited
rotateKey
├── as above; within 24 hours of the last one: TooEarly (the first key does not count)
├── the old key is good: it stays in the cohorts until the new one is audited
└── the old key is compromised: out of the cohorts at once, for the announced period key too, until audited again
sealMaskKeys
├── not the service account: NotAccount
└── else published with the key version and the period that the member states
anchor, notify
├── not the service account of the party with this owner: NotAccount
├── a notice that is empty or longer than 4,096 bytes: NoticeLength
└── else published under the owner account
inviteMember, removeMember, replaceOwner: only by proposal
├── a removed member keeps no account and no way back; its index is never used again
└── 216 members are the most
"""

from __future__ import annotations

from copy import copy

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from eth_utils import keccak
from governance import (
    DAY,
    SUPERVISOR,
    ZERO,
    ZERO_32,
    Bank,
    bitmap,
    founded_council,
    invited_council,
    period_key,
    x25519_public,
)

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
    return refusal_to_confirm(council, index, key, signature, account=account)


def refusal_to_confirm(council, index, key, signature, *, account=None):
    """The refusal of a confirmation with this key and this signature for it, and a naming that is right."""
    _, _, _, *naming = council.confirmation(council.banks[index])
    return council.refusal(account or council.banks[index].owner, "confirm", index, key, signature, *naming)


# ---------------------------------------------------------------- confirm


def test_confirm__by_the_owner__makes_a_member_that_is_not_audited(invited):
    bank = invited.banks[2]
    _, key, key_signature, account, tenure, account_signature = invited.confirmation(bank)

    receipt = invited.confirm(bank)

    assert invited.changes(receipt) == [
        ("MemberConfirmed", 2),
        ("KeySet", 2, 1, key, False, key_signature),
        ("AccountNamed", 2, bank.owner, account, 1, tenure, account_signature),
    ]
    assert invited.read("member", 2) == {
        "owner": bank.owner,
        "account": bank.account,
        "since": invited.chain.now(),
        "namings": 1,
        "name": "Bank C",
        "key": bank.key(),
        "keyVersion": 1,
        "auditedVersion": 0,
        "ready": False,
        "confirmed": True,
        "suspended": False,
        "removed": False,
    }
    assert invited.read("memberSets") == (bitmap(2), 0, 0)


def test_confirm__by_another_account__reverts_with_not_owner(invited):
    bank, other = invited.banks[0], invited.banks[1]

    assert confirming(invited, 0, bank.key(), account=other.owner) == ("NotOwner", other.owner, 0)
    assert confirming(invited, 0, bank.key(), account=bank.account) == ("NotOwner", bank.account, 0)
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

    assert confirming(council, 5, council.banks[0].key(2)) == ("KeyInUse", council.banks[0].key(2))
    assert confirming(council, 5, council.banks[0].key(1)) == ("KeyInUse", council.banks[0].key(1))


def test_confirm__period_key_of_the_supervisor__reverts_with_key_in_use(council):
    assert confirming(council, 5, period_key(1)) == ("KeyInUse", period_key(1))


def test_confirm__signature_for_something_else__reverts_with_bad_signature(council):
    bank = council.banks[5]
    key = bank.key()
    elsewhere = copy(council)
    elsewhere.address = council.outsider

    def refused(signature):
        refusal = refusal_to_confirm(council, 5, key, signature)
        return refusal is not None and refusal[0] == "BadSignature" and refusal[2] == bank.owner

    assert refused(council.signed_key(bank.account, 5, 1, key))
    assert refused(council.signed_key(bank.owner, 4, 1, key))
    assert refused(council.signed_key(bank.owner, SUPERVISOR, 1, key))
    assert refused(council.signed_key(bank.owner, 5, 2, key))
    assert refused(council.signed_key(bank.owner, 5, 1, bank.key(2)))
    assert refused(council.signed_key(bank.owner, 5, 1, key, keccak(b"")))
    assert refused(elsewhere.signed_key(bank.owner, 5, 1, key))
    assert not refused(council.signed_key(bank.owner, 5, 1, key))


def test_confirm__malformed_signature__reverts_with_bad_signature(council):
    bank = council.banks[5]
    key = bank.key()
    good = council.signed_key(bank.owner, 5, 1, key)
    r, s, v = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    mirrored = r + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])

    assert s <= HALF_ORDER
    for bad in (b"", good[:64], good + b"\0", good[:64] + b"\0", good[:64] + b"\x1d", bytes(65), mirrored):
        assert refusal_to_confirm(council, 5, key, bad) == ("BadSignature", ZERO, bank.owner)
    assert refusal_to_confirm(council, 5, key, good) is None


def test_key_statement__any__is_what_the_specification_says(council):
    arguments = (3, 7, keccak(b"key"), keccak(b"previous"))

    assert council.read("keyStatement", *arguments) == council.statement(*arguments)


# ---------------------------------------------------------------- rotateKey


def test_rotate_key__old_key_is_good__it_stays_in_cohorts_until_the_new_one_is_audited(council):
    bank = council.banks[1]
    council.ready(range(5))

    receipt = council.rotate(bank, 2)
    rotated, cohort = council.read("member", 1), council.read("cohortOf", 0)
    council.audit([1], version=2)

    [(kind, index, version, key, compromised, _)] = council.changes(receipt)
    assert (kind, index, version, key, compromised) == ("KeySet", 1, 2, bank.key(2), False)
    assert (rotated["key"], rotated["keyVersion"], rotated["auditedVersion"]) == (bank.key(2), 2, 1)
    assert cohort == bitmap(0, 1, 2, 3, 4)
    assert council.read("member", 1)["auditedVersion"] == 2
    assert council.read("cohortOf", 0) == cohort


def test_rotate_key__old_key_is_compromised__the_member_is_out_at_once_until_audited_again(council):
    bank = council.banks[1]
    council.ready(range(5))

    receipt = council.rotate(bank, 2, compromised=True)
    rotated, sets = council.read("member", 1), council.read("memberSets")
    council.audit([1], version=2)

    assert council.changes(receipt)[0][4] is True
    assert (rotated["keyVersion"], rotated["auditedVersion"]) == (2, 0)
    assert sets == (bitmap(0, 1, 2, 3, 4), bitmap(0, 2, 3, 4), bitmap(0, 2, 3, 4))
    # Readiness was never lost.
    assert council.read("memberSets") == (bitmap(0, 1, 2, 3, 4),) * 3


@pytest.mark.parametrize("compromised", [False, True])
def test_rotate_key__audited_for_the_announced_period_key__keeps_that_unless_compromised(council, compromised):
    council.chain.travel(DAY)
    council.announce(2)
    council.audit(range(5), period=2)

    council.rotate(council.banks[1], 2, compromised)

    attempt = (council.supervisor_account, "putPeriodKeyInForce", council.supervisor, 2)
    if compromised:
        assert council.refusal(*attempt) == ("PeriodKeyNotAccepted", bitmap(1), bitmap(0, 2, 3, 4))
        council.audit([1], version=2, period=2)
    council.send(*attempt)
    assert council.read("memberSets")[1] == bitmap(0, 1, 2, 3, 4)
    assert council.read("member", 1)["auditedVersion"] == (2 if compromised else 1)


def test_rotate_key__within_a_day_of_the_last__reverts_and_the_first_key_does_not_count(council):
    bank = council.banks[1]
    # The first key is minutes old here.
    assert council.chain.now() - council.read("member", 1)["since"] < DAY
    council.rotate(bank, 2)
    permitted = council.chain.now() + DAY
    key, signature = bank.key(3), council.signed_key(bank.owner, 1, 3, bank.key(3), bank.key(2))

    def refusal():
        return council.refusal(bank.owner, "rotateKey", 1, key, True, signature)

    assert refusal() == ("TooEarly", permitted)
    council.chain.travel(DAY - 1)
    assert refusal() == ("TooEarly", permitted)
    council.chain.travel(1)
    assert refusal() is None


def test_rotate_key__refused_twins(council):
    bank = council.banks[1]

    def refusal(key, *, version=2, previous=None, signer=None, account=None):
        signature = council.signed_key(signer or bank.owner, 1, version, key, previous or bank.key(1))
        return council.refusal(account or bank.owner, "rotateKey", 1, key, False, signature)

    assert refusal(bank.key(2)) is None
    assert refusal(bank.key(2), account=bank.account) == ("NotOwner", bank.account, 1)
    assert refusal(bank.key(2), account=council.supervisor) == ("NotOwner", council.supervisor, 1)
    assert refusal(bank.key(1)) == ("KeyInUse", bank.key(1))
    assert refusal(council.banks[0].key()) == ("KeyInUse", council.banks[0].key())
    assert refusal(period_key(1)) == ("KeyInUse", period_key(1))
    assert refusal(little_endian(1)) == ("BadKey",)
    assert refusal(bank.key(2), version=3)[0] == "BadSignature"
    assert refusal(bank.key(2), previous=ZERO_32)[0] == "BadSignature"
    assert refusal(bank.key(2), signer=bank.account)[0] == "BadSignature"


def test_rotate_key__before_confirmation__reverts(council):
    bank = council.banks[5]
    signature = council.signed_key(bank.owner, 5, 1, bank.key())

    assert council.refusal(bank.owner, "rotateKey", 5, bank.key(), False, signature) == ("UnknownMember", 5)


# ---------------------------------------------------------------- sealed mask keys


def test_seal_mask_keys__by_the_service_account__is_published_as_stated_and_is_no_link(council):
    council.rotate(council.banks[2], 2)
    roster = council.read("roster")

    # For the key before, and for one that is to come: readers compare with what the seal is bound to.
    for version in (1, 2, 3):
        receipt = council.send(council.banks[2].account, "sealMaskKeys", 2, version, 7, b"sealed")
        assert council.events(receipt) == [("MaskKeysSealed", 2, version, 7, b"sealed")]

    assert council.read("roster") == roster


def test_seal_mask_keys__refused_twins(council):
    first, second, unconfirmed = council.banks[0], council.banks[1], council.banks[5]

    assert council.refusal(first.account, "sealMaskKeys", 0, 1, 1, b"") is None
    for account in (first.owner, second.account, council.supervisor, council.supervisor_account):
        assert council.refusal(account, "sealMaskKeys", 0, 1, 1, b"") == ("NotAccount", account, first.account)
    assert council.refusal(unconfirmed.account, "sealMaskKeys", 5, 1, 1, b"") == (
        "NotAccount",
        unconfirmed.account,
        ZERO,
    )


# ---------------------------------------------------------------- anchors and notices


def test_anchor_and_notify__by_member_and_supervisor__are_published_under_the_owner_and_are_no_links(council):
    roster = council.read("roster")

    for owner, account in (
        (council.banks[1].owner, council.banks[1].account),
        (council.supervisor, council.supervisor_account),
    ):
        anchored = council.send(account, "anchor", owner, b"\x07" * 32)
        assert council.events(anchored) == [("Anchored", owner, b"\x07" * 32)]
        for message in (b"\x01", bytes(range(256)) * 16):
            assert council.events(council.send(account, "notify", owner, message)) == [("Noticed", owner, message)]

    assert council.read("roster") == roster


def test_anchor_and_notify__refused_twins(council):
    bank, other, unconfirmed = council.banks[0], council.banks[1], council.banks[5]
    for function, value in (("anchor", bytes(32)), ("notify", b"x")):

        def refusal(account, owner, function=function, value=value):
            return council.refusal(account, function, owner, value)

        assert refusal(bank.account, bank.owner) is None
        for account in (bank.owner, other.account, council.supervisor_account, council.outsider):
            assert refusal(account, bank.owner) == ("NotAccount", account, bank.account)
        for account in (council.supervisor, bank.account):
            assert refusal(account, council.supervisor) == ("NotAccount", account, council.supervisor_account)
        # Neither a party that has no account nor an account that owns no party.
        for owner in (unconfirmed.owner, council.second_supervisor, council.outsider):
            assert refusal(unconfirmed.account, owner) == ("NotAccount", unconfirmed.account, ZERO)
    for length in (0, 4_097):
        refused = council.refusal(bank.account, "notify", bank.owner, bytes(length))
        assert refused == ("NoticeLength", length, 4_096)


def test_anchor_and_notify__after_a_removal__revert(council):
    bank = council.banks[4]
    assert council.refusal(bank.account, "notify", bank.owner, b"x") is None

    council.decide(council.encoded("removeMember", 4))

    assert council.refusal(bank.account, "notify", bank.owner, b"x") == ("NotAccount", bank.account, ZERO)
    assert council.refusal(bank.account, "anchor", bank.owner, bytes(32)) == ("NotAccount", bank.account, ZERO)


# ---------------------------------------------------------------- members come and go


def test_invite_member__by_proposal__gets_the_next_index_and_confirms_itself(council):
    bank = council.banks[6]

    receipt = council.decide(council.encoded("inviteMember", bank.owner, bank.name))

    assert council.changes(receipt) == [("MemberInvited", 6, bank.owner, "Bank G")]
    assert council.read("memberSets")[0] == bitmap(0, 1, 2, 3, 4)
    council.confirm(bank)
    assert council.read("memberSets")[0] == bitmap(0, 1, 2, 3, 4, 6)


def test_remove_member__by_proposal__leaves_nothing_to_act_with(council):
    bank = council.banks[4]
    council.ready(range(5))
    before = council.read("memberSets")

    receipt = council.decide(council.encoded("removeMember", 4))

    gone = ("UnknownMember", 4)
    assert before == (bitmap(0, 1, 2, 3, 4),) * 3
    assert council.changes(receipt) == [("MemberRemoved", 4)]
    assert council.read("member", 4)["removed"]
    assert council.read("memberSets") == (bitmap(0, 1, 2, 3),) * 3
    assert council.read("accountOf", 4)[0] == ZERO
    assert council.refusal(bank.account, "setReady", 4, True) == ("NotAccount", bank.account, ZERO)
    assert council.refusal(bank.owner, "propose", [], "") == ("NotMember", bank.owner)
    assert council.refusal(bank.owner, "nameAccount", *council.naming(bank, bank.account, 2, bank.tenure(2))) == gone
    assert council.refusal(bank.owner, "takeAccount", 4) == gone
    assert council.refusal(bank.owner, "rotateKey", 4, bank.key(2), False, b"") == gone
    assert council.refusal(bank.owner, "confirm", *council.confirmation(bank)) == gone
    assert council.refusal(council.supervisor_account, "auditOk", council.supervisor, 4, 1, 1) == gone


def test_remove_member__invited_again__gets_a_new_index_and_needs_a_new_key(council):
    bank = council.banks[4]
    council.decide(council.encoded("removeMember", 4))

    council.decide(council.encoded("inviteMember", bank.owner, bank.name))

    again = Bank(6, bank.name, bank.owner, bank.account)
    _, old_key, old_signature, *naming = council.confirmation(again)
    new_signature = council.signed_key(bank.owner, 6, 1, bank.key(2))
    refused = council.refusal(bank.owner, "confirm", 6, old_key, old_signature, *naming)
    council.send(bank.owner, "confirm", 6, bank.key(2), new_signature, *naming)
    assert refused == ("KeyInUse", bank.key(1))
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
    assert council.refusal(bank.owner, "takeAccount", 0) == ("NotOwner", bank.owner, 0)
    assert council.refusal(owner, "propose", [], "") is None
    signature = council.signed_key(owner, 0, 2, bank.key(2), bank.key(1))
    assert council.refusal(owner, "rotateKey", 0, bank.key(2), False, signature) is None


def test_replace_owner__of_an_invited_member__the_new_owner_confirms(council):
    bank = Bank(5, council.banks[5].name, council.outsider, council.banks[5].account)

    council.decide(council.encoded("replaceOwner", 5, council.outsider))

    assert council.refusal(council.banks[5].owner, "confirm", *council.confirmation(council.banks[5]))[0] == "NotOwner"
    council.confirm(bank)
    assert council.read("memberSets")[0] == bitmap(0, 1, 2, 3, 4, 5)


def test_replace_owner__owner_of_another_part__reverts(council):
    for account in (council.banks[0].owner, council.banks[1].owner, council.supervisor, council.address):
        assert council.refusal_to_decide(council.encoded("replaceOwner", 0, account)) == ("AccountInUse", account)
    assert council.refusal_to_decide(council.encoded("replaceOwner", 0, ZERO)) == ("ZeroAccount",)
    assert council.refusal_to_decide(council.encoded("replaceOwner", 6, council.outsider)) == ("UnknownMember", 6)
    # Service accounts are nobody's: whichever bank named one, it can still own a member.
    for account in (council.banks[0].account, council.banks[1].account):
        assert council.refusal_to_decide(council.encoded("replaceOwner", 0, account)) is None


@pytest.mark.slow
def test_invite_member__the_217th__reverts_with_too_many_members(council):
    def invitation(index):
        return council.encoded("inviteMember", f"0xa{index:039x}", f"Bank {index}")

    for start in range(6, 216, 30):
        council.decide(*[invitation(index) for index in range(start, start + 30)])

    assert council.read("memberCount") == 216
    assert council.refusal_to_decide(invitation(216)) == ("TooManyMembers",)


def test_member__unknown_index__reverts(council):
    assert council.refusal(council.outsider, "member", 6) == ("UnknownMember", 6)
    assert council.refusal(council.outsider, "member", SUPERVISOR) == ("UnknownMember", SUPERVISOR)
