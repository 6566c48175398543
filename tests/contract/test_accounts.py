"""Service accounts: one a party, named and taken away by its owner alone, with the tenure of the store behind it.

nameAccount (and the naming in `confirm`)
├── not the owner of a confirmed member, not a supervisor's owner: NotOwner, UnknownMember, NotSupervisor
├── no account, no tenure, or a tenure for a supervisor: ZeroAccount, ZeroTenure
├── account and tenure as they are: NothingChanges
├── within 24 hours of the last naming, `confirm` included: TooEarly; the first one is free
├── a tenure that was named before the last one: TenureUsed
├── signature for another party, owner, account, number, tenure or contract: BadSignature
└── else the account acts and the one before no more; `since` moves with another tenure only
takeAccount
├── not the owner, no account there: NotOwner, NotSupervisor, NothingChanges
└── else nothing acts for the party, at once; `since` stays
replaceOwner leaves the account; the removal of the party sets it to zero
a call of a service account
├── from another account: NotAccount
├── from an account with code (EIP-7702), or through a contract, even one that has no code yet: NotPlainAccount
└── one account may act for several parties, so nobody can reserve one
"""

from __future__ import annotations

from copy import copy

import pytest
import rlp
from eth_tester.exceptions import TransactionFailed
from eth_utils import keccak, to_canonical_address, to_checksum_address
from governance import DAY, SUPERVISOR, ZERO, ZERO_32, Council, bitmap, founded_council, invited_council
from onchain import GAS, revert_data


@pytest.fixture
def council():
    """A day after the founding, so that every account can be named again."""
    with founded_council() as council:
        council.chain.travel(DAY)
        yield council


@pytest.fixture
def invited():
    with invited_council() as council:
        yield council


def to_name(council: Council, party=0, *, sender=None, account=None, tenure=None, number=2, signer=None, **signed):
    """The refusal of a naming by Bank A, with whatever was changed in the call; `signed`: only in what was signed."""
    bank = council.banks[0]
    sender = sender or bank.owner
    account = council.spare[0] if account is None else account
    tenure = bank.tenure(2) if tenure is None else tenure
    said = {"party": party, "owner": sender, "account": account, "number": number, "tenure": tenure}
    said.update({word.removeprefix("signed_"): value for word, value in signed.items()})
    signature = council.chain.sign(signer or sender, council.account_statement(**said))
    return council.refusal(sender, "nameAccount", party, account, tenure, signature)


def acts_for(council: Council, account, index=0):
    """Whether an account acts for a member."""
    return council.refusal(account, "sealMaskKeys", index, 1, 1, b"") is None


# ---------------------------------------------------------------- nameAccount


def test_name_account__another_tenure__the_new_account_acts_and_the_old_one_no_more(council):
    bank, account = council.banks[0], council.spare[0]
    signature = council.signed_account(bank.owner, 0, account, 2, bank.tenure(2))

    receipt = council.send(bank.owner, "nameAccount", 0, account, bank.tenure(2), signature)

    assert council.changes(receipt) == [("AccountNamed", 0, bank.owner, account, 2, bank.tenure(2), signature)]
    assert council.read("accountOf", 0) == (account, council.chain.now())
    assert council.read("member", 0)["namings"] == 2
    assert acts_for(council, account)
    assert not acts_for(council, bank.account)


def test_name_account__same_tenure__leaves_since(council):
    bank, account = council.banks[0], council.spare[0]
    since = council.read("member", 0)["since"]

    council.name_account(bank, account, 2, bank.tenure())

    assert since < council.chain.now() - DAY
    assert council.read("accountOf", 0) == (account, since)


def test_name_account__same_account__a_new_store_behind_it_moves_since(council):
    bank = council.banks[0]

    council.name_account(bank, bank.account, 2, bank.tenure(2))

    assert council.read("accountOf", 0) == (bank.account, council.chain.now())


def test_name_account__readiness__stays_as_it_is(council):
    council.ready(range(5))

    council.name_account(council.banks[0], council.spare[0], 2, council.banks[0].tenure(2))

    assert council.read("cohortOf", 0) == bitmap(0, 1, 2, 3, 4)


def test_name_account__account_and_tenure_as_they_are__reverts(council):
    bank = council.banks[0]

    assert to_name(council, account=bank.account, tenure=bank.tenure()) == ("NothingChanges",)
    assert to_name(council, account=bank.account, tenure=bank.tenure(2)) is None
    assert to_name(council, tenure=bank.tenure()) is None


def test_name_account__within_a_day_of_the_last_naming__reverts():
    with founded_council() as council:
        permitted = council.read("member", 0)["since"] + DAY

        # `confirm` named the first one.
        assert to_name(council) == ("TooEarly", permitted)
        council.chain.travel(permitted - 1 - council.chain.now())
        assert to_name(council) == ("TooEarly", permitted)
        council.chain.travel(1)
        assert to_name(council) is None
        council.name_account(council.banks[0], council.spare[0], 2, council.banks[0].tenure())
        permitted = council.chain.now() + DAY
        assert to_name(council, account=council.spare[1], number=3) == ("TooEarly", permitted)
        # Taking it away does not shorten the time.
        council.send(council.banks[0].owner, "takeAccount", 0)
        assert to_name(council, account=council.spare[1], number=3) == ("TooEarly", permitted)
        council.chain.travel(permitted - council.chain.now())
        assert to_name(council, account=council.spare[1], number=3) is None


def test_name_account__by_another_account__reverts(council):
    bank = council.banks[0]

    for sender in (bank.account, council.banks[1].owner, council.supervisor, council.outsider):
        assert to_name(council, sender=sender) == ("NotOwner", sender, 0)
    assert to_name(council, 6) == ("UnknownMember", 6)
    assert to_name(council) is None


def test_name_account__before_confirmation__reverts(council):
    sender = council.banks[5].owner

    assert to_name(council, 5, sender=sender, number=1) == ("UnknownMember", 5)
    assert council.refusal(sender, "takeAccount", 5) == ("UnknownMember", 5)


def test_name_account__no_account_or_no_tenure__reverts(council):
    assert to_name(council, account=ZERO) == ("ZeroAccount",)
    assert to_name(council, tenure=ZERO_32) == ("ZeroTenure",)


def test_name_account__tenure_of_earlier__reverts_for_ever(council):
    bank = council.banks[0]
    council.name_account(bank, bank.account, 2, bank.tenure(2))
    council.chain.travel(DAY)
    council.send(bank.owner, "takeAccount", 0)

    assert to_name(council, number=3, tenure=bank.tenure(1)) == ("TenureUsed", bank.tenure(1))
    # The last one goes on, on another host perhaps; a third one begins.
    assert to_name(council, number=3, tenure=bank.tenure(2)) is None
    assert to_name(council, number=3, tenure=bank.tenure(3)) is None
    # What another member named is no earlier tenure of this one.
    assert to_name(council, number=3, tenure=council.banks[1].tenure()) is None


@pytest.mark.parametrize("word", ["party", "owner", "account", "number", "tenure"])
def test_name_account__signature_for_something_else__reverts_with_bad_signature(council, word):
    others = {
        "party": [1, SUPERVISOR],
        "owner": [council.banks[1].owner],
        "account": [council.spare[1], council.banks[0].account],
        "number": [1, 3],
        "tenure": [council.banks[0].tenure(1), council.banks[0].tenure(3)],
    }

    for value in others[word]:
        refusal = to_name(council, **{f"signed_{word}": value})
        assert (refusal[0], refusal[2]) == ("BadSignature", council.banks[0].owner)
    assert to_name(council) is None


def test_name_account__signature_of_another_account_or_for_another_consortium__reverts(council):
    bank = council.banks[0]
    elsewhere = copy(council)
    elsewhere.address = council.outsider
    signature = elsewhere.signed_account(bank.owner, 0, council.spare[0], 2, bank.tenure(2))

    refusal = council.refusal(bank.owner, "nameAccount", 0, council.spare[0], bank.tenure(2), signature)
    assert refusal[0] == "BadSignature"
    for signer in (bank.account, council.spare[0], council.banks[1].owner):
        assert to_name(council, signer=signer) == ("BadSignature", signer, bank.owner)
    assert to_name(council) is None


def test_account_statement__any__is_what_the_specification_says(council):
    arguments = (3, council.banks[3].owner, council.spare[0], 7, keccak(b"tenure"))

    assert council.read("accountStatement", *arguments) == council.account_statement(*arguments)


def test_confirm__naming_refused_twins(invited):
    bank = invited.banks[0]
    index, key, key_signature, account, tenure, signature = invited.confirmation(bank)

    def refusal(account=account, tenure=tenure, signature=signature):
        return invited.refusal(bank.owner, "confirm", index, key, key_signature, account, tenure, signature)

    assert refusal(account=ZERO) == ("ZeroAccount",)
    assert refusal(tenure=ZERO_32) == ("ZeroTenure",)
    assert refusal(account=invited.spare[0])[0] == "BadSignature"
    assert refusal(tenure=bank.tenure(2))[0] == "BadSignature"
    assert refusal(signature=invited.signed_account(bank.owner, 0, account, 2, tenure))[0] == "BadSignature"
    assert refusal(signature=b"") == ("BadSignature", ZERO, bank.owner)
    assert refusal(signature=key_signature)[0] == "BadSignature"
    assert refusal() is None


# ---------------------------------------------------------------- a supervisor's


def test_name_account__of_a_supervisor__the_first_is_free_and_has_no_tenure(invited):
    owner, account = invited.supervisor, invited.supervisor_account

    receipt = invited.name_supervisor_account(owner, account)

    signature = invited.signed_account(owner, SUPERVISOR, account, 1)
    assert invited.changes(receipt) == [("AccountNamed", SUPERVISOR, owner, account, 1, ZERO_32, signature)]
    assert invited.read("supervisorAccount", owner) == account
    assert invited.refusal(account, "anchor", owner, ZERO_32) is None


def test_name_account__of_a_supervisor__refused_twins(council):
    owner, account = council.supervisor, council.spare[0]

    def refusal(**changes):
        return to_name(council, SUPERVISOR, **{"sender": owner, "tenure": ZERO_32, **changes})

    assert refusal() is None
    assert refusal(account=council.supervisor_account) == ("NothingChanges",)
    assert refusal(account=ZERO) == ("ZeroAccount",)
    assert refusal(tenure=keccak(b"tenure")) == ("ZeroTenure",)
    assert refusal(number=1)[0] == "BadSignature"
    assert refusal(signer=council.supervisor_account)[0] == "BadSignature"
    for sender in (council.supervisor_account, council.banks[0].owner, council.second_supervisor, council.outsider):
        assert refusal(sender=sender) == ("NotSupervisor", sender)
        assert council.refusal(sender, "takeAccount", SUPERVISOR) == ("NotSupervisor", sender)
    council.name_supervisor_account(owner, account, 2)
    permitted = council.chain.now() + DAY
    assert refusal(account=council.spare[1], number=3) == ("TooEarly", permitted)
    council.chain.travel(DAY)
    assert refusal(account=council.spare[1], number=3) is None


def test_name_account__of_two_supervisors__do_not_touch_each_other_or_a_member(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))

    council.name_supervisor_account(council.second_supervisor, council.spare[0])

    assert council.read("supervisorAccount", council.supervisor) == council.supervisor_account
    assert council.read("supervisorAccount", council.second_supervisor) == council.spare[0]
    assert [council.read("accountOf", b.index)[0] for b in council.banks[:5]] == [b.account for b in council.banks[:5]]


# ---------------------------------------------------------------- takeAccount


def test_take_account__of_a_member__nothing_acts_for_it_and_it_is_not_ready_at_once(council):
    bank = council.banks[0]
    council.ready(range(5))
    since = council.read("member", 0)["since"]

    receipt = council.send(bank.owner, "takeAccount", 0)

    assert council.changes(receipt) == [("AccountTaken", 0, bank.owner)]
    assert council.read("accountOf", 0) == (ZERO, since)
    assert council.read("cohortOf", 0) == bitmap(1, 2, 3, 4)
    assert council.refusal(bank.account, "setReady", 0, True) == ("NotAccount", bank.account, ZERO)
    assert council.terms(0) == ("NotAccount", bank.account, ZERO)
    # Not in the next period either, and not by naming an account again.
    council.chain.next_period()
    council.name_account(bank, bank.account, 2, bank.tenure())
    assert council.read("cohortOf", 0) == bitmap(1, 2, 3, 4)
    council.ready([0])
    assert council.read("cohortOf", 0) == bitmap(0, 1, 2, 3, 4)


def test_take_account__same_tenure_named_again__since_stays(council):
    bank = council.banks[0]
    since = council.read("member", 0)["since"]
    council.send(bank.owner, "takeAccount", 0)

    council.name_account(bank, bank.account, 2, bank.tenure())

    assert council.read("accountOf", 0) == (bank.account, since)


def test_take_account__of_a_supervisor__its_owner_can_act_on(council):
    owner = council.supervisor

    receipt = council.send(owner, "takeAccount", SUPERVISOR)

    account = council.supervisor_account
    assert council.changes(receipt) == [("AccountTaken", SUPERVISOR, owner)]
    assert council.refusal(account, "suspend", owner, 0) == ("NotAccount", account, ZERO)
    assert council.refusal(owner, "suspend", owner, 0) is None


def test_take_account__refused_twins(council):
    bank = council.banks[0]

    for account in (bank.account, council.banks[1].owner, council.supervisor, council.outsider):
        assert council.refusal(account, "takeAccount", 0) == ("NotOwner", account, 0)
    assert council.refusal(bank.owner, "takeAccount", 6) == ("UnknownMember", 6)
    for owner, party in ((bank.owner, 0), (council.supervisor, SUPERVISOR)):
        council.send(owner, "takeAccount", party)
        assert council.refusal(owner, "takeAccount", party) == ("NothingChanges",)


def test_replace_owner__service_account__stays_until_the_new_owner_names_another(council):
    bank, owner = council.banks[0], council.outsider
    council.ready(range(5))

    council.decide(council.encoded("replaceOwner", 0, owner))

    assert acts_for(council, bank.account)
    assert council.read("cohortOf", 0) == bitmap(0, 1, 2, 3, 4)
    assert to_name(council) == ("NotOwner", bank.owner, 0)
    # A naming that the old owner signed is none of the new one's.
    assert to_name(council, sender=owner, signed_owner=bank.owner, signer=bank.owner)[0] == "BadSignature"
    assert to_name(council, sender=owner) is None
    assert council.refusal(owner, "takeAccount", 0) is None


def test_remove_supervisor__service_account__is_gone_and_stays_so_when_it_comes_back(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    owner, account = council.second_supervisor, council.spare[0]
    council.name_supervisor_account(owner, account)

    removed = council.encoded("removeSupervisor", owner)
    council.decide(removed)
    gone = council.read("supervisorAccount", owner)
    council.decide(council.encoded("addSupervisor", owner))

    assert gone == ZERO
    assert council.read("supervisorAccount", owner) == ZERO
    assert council.refusal(account, "suspend", owner, 0) == ("NotAccount", account, ZERO)
    council.chain.travel(DAY)
    # Numbers go on, so an old naming cannot be sent again.
    assert to_name(council, SUPERVISOR, sender=owner, tenure=ZERO_32, number=1)[0] == "BadSignature"
    assert to_name(council, SUPERVISOR, sender=owner, tenure=ZERO_32, number=2) is None


# ---------------------------------------------------------------- a plain account


def calls_of_service_accounts(council):
    """Every call that a service account sends to the Consortium, by the account."""
    bank, supervisor = council.banks[0], council.supervisor
    council.rotate(bank, 2)
    council.announce(2)
    council.audit(range(1, 5), period=2)
    council.audit([0], version=2, period=2)
    return {
        bank.account: [
            ("setReady", 0, True),
            ("sealMaskKeys", 0, 1, 1, b""),
            ("anchor", bank.owner, ZERO_32),
            ("notify", bank.owner, b"x"),
        ],
        council.supervisor_account: [
            ("anchor", supervisor, ZERO_32),
            ("notify", supervisor, b"x"),
            ("auditOk", supervisor, 0, 2, 1),
            ("putPeriodKeyInForce", supervisor, 2),
            ("suspend", supervisor, 0),
            ("endPeriodKey", supervisor, 1),
        ],
    }


def test_service_call__account_with_delegated_code__reverts_until_it_has_none(council):
    calls = calls_of_service_accounts(council)
    for account, sent in calls.items():
        assert [council.refusal(account, *call) for call in sent] == [None] * len(sent)

        council.chain.delegate(account, council.read("jointCredit"))
        assert council.chain.tester.get_code(account).startswith("0xef0100")
        assert {council.refusal(account, *call) for call in sent} == {("NotPlainAccount", account)}

        council.chain.delegate(account, ZERO)
        assert [council.refusal(account, *call) for call in sent] == [None] * len(sent)


def test_owner_call__account_with_delegated_code__is_accepted(council):
    owner = council.banks[0].owner

    council.chain.delegate(owner, council.read("jointCredit"))

    assert council.refusal(owner, "takeAccount", 0) is None


def test_service_call__through_a_contract_that_was_named__reverts(council):
    calls = calls_of_service_accounts(council)
    contract = council.read("jointCredit")
    council.name_account(council.banks[0], contract, 2, council.banks[0].tenure(2))
    council.name_supervisor_account(council.supervisor, contract, 2)

    for sent in calls.values():
        for call in sent:
            refusal = council.refusal_of(council.outsider, council.encoded(*call), through=contract)
            assert refusal == ("NotPlainAccount", contract)


def test_service_call__from_a_constructor__reverts_although_there_is_no_code_yet(council):
    deployer = council.outsider
    nonce = council.chain.tester.get_nonce(deployer)
    contract = to_checksum_address(keccak(rlp.encode([to_canonical_address(deployer), nonce]))[12:])
    council.name_account(council.banks[0], contract, 2, council.banks[0].tenure(2))
    data = council.encoded("setReady", 0, True)
    size = len(data).to_bytes(2, "big").hex()

    # Copy the calldata that follows the code to memory, call the Consortium, and revert with what came back.
    code = (
        f"61{size} 6035 6000 39  6000 6000 61{size} 6000 6000 73{council.address[2:]} 5a f1 50"
        "  3d 6000 6000 3e  3d 6000 fd"
    )
    request = {"from": deployer, "to": "", "gas": GAS, "gas_price": 10**9}
    with pytest.raises(TransactionFailed) as failure:
        council.chain.tester.call({**request, "data": "0x" + bytes.fromhex(code).hex() + data.hex()})

    assert len(bytes.fromhex(code)) == 0x35
    assert council.error(revert_data(failure.value)) == ("NotPlainAccount", contract)


# ---------------------------------------------------------------- nobody can reserve one


def test_service_account__of_several_parties__acts_for_each(council):
    shared = council.spare[0]
    council.name_account(council.banks[0], shared, 2, council.banks[0].tenure(2))
    council.name_account(council.banks[1], shared, 2, council.banks[1].tenure(2))
    council.name_supervisor_account(council.supervisor, shared, 2)

    assert acts_for(council, shared, 0)
    assert acts_for(council, shared, 1)
    assert council.refusal(shared, "suspend", council.supervisor, 2) is None
    # Taking it from one leaves it to the others.
    council.send(council.banks[0].owner, "takeAccount", 0)
    assert not acts_for(council, shared, 0)
    assert acts_for(council, shared, 1)


@pytest.mark.parametrize("claimed", ["owner", "account"])
def test_service_account__claimed_by_a_member__blocks_no_invitation(council, claimed):
    """G1: in version 1 any member vetoed an invitation by naming the newcomer's address as its operator."""
    newcomer, hostile = council.banks[6], council.banks[4]
    call = council.encoded("inviteMember", newcomer.owner, newcomer.name)
    proposal = council.settled(call)

    council.name_account(hostile, getattr(newcomer, claimed), 2, hostile.tenure(2))

    council.send(council.outsider, "execute", proposal, [call], council.supervisor)
    council.confirm(newcomer)
    assert council.read("member", 6)["confirmed"]
    assert acts_for(council, newcomer.account, 6)


def test_service_account__claimed_by_a_member__blocks_no_new_supervisor_and_no_new_owner(council):
    """G1, at its worst: the supervisor is lost, and one member holds up the only way to replace it."""
    hostile = council.banks[4]
    calls = [
        council.encoded("addSupervisor", council.second_supervisor),
        council.encoded("removeSupervisor", council.supervisor),
        council.encoded("replaceOwner", 0, council.outsider),
    ]
    proposal, digest = council.propose(*calls[:2])
    council.agree(proposal, digest, range(4))
    council.chain.travel(30 * DAY)

    council.name_account(hostile, council.second_supervisor, 2, hostile.tenure(2))

    council.send(council.outsider, "execute", proposal, calls[:2], ZERO)
    assert council.read("isSupervisor", council.second_supervisor)
    council.chain.travel(DAY)
    council.name_account(hostile, council.outsider, 3, hostile.tenure(3))
    proposal = council.settled(calls[2], supervisor=council.second_supervisor)
    council.send(council.outsider, "execute", proposal, calls[2:], council.second_supervisor)
    assert council.read("member", 0)["owner"] == council.outsider
