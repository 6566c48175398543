"""contribute: a member of the cohort adds its ciphertexts, once.

contribute
├── sender
│   ├── is not the service account of the member that the call names, or that one was taken or removed: NotAccount
│   ├── is a contract, or an account with code: NotPlainAccount                     (test_plain_accounts.py)
│   ├── its member was not ready when the inquiry opened: NotInCohort
│   ├── is the inquirer: NotAwaited
│   └── suspended since, or switched off: accepted
├── tenure
│   ├── another one was named after the opening, or in its block: OpenedBeforeTenure
│   └── another one was named before the opening, or the same one again at any time: accepted
├── stage None, Complete, Reported, Valid, Void, Refused, Expired: WrongStage
├── Open, the deadline long past: accepted until `expire` is mined
├── a second time, same or other bytes, or from an account named since: NotAwaited
├── payload one byte off, empty, of another width or number of blocks: PayloadLength
├── 0, n^2, n^2 + 1, all bits set: CiphertextRange
├── n, kn, n^2 - n: CiphertextMultipleOfModulus
└── else: product of the block times the ciphertext modulo n^2; event; the last one completes
a payload made for another inquiry, under another key: fits by chance of its width only (what it means, the chain cannot see)
"""

from __future__ import annotations

import random

import pytest
from governance import DAY, PARAMETERS, ZERO, bitmap
from inquiries import STAGES, Stage, key, payload


def test_contribute__by_each_furnisher__multiplies_and_completes_with_the_last(credit, open_inquiry):
    for bank in (3, 1, 4):
        body = open_inquiry.payload()

        receipt = open_inquiry.contribute(bank, body)

        assert credit.events(receipt) == [("Contributed", open_inquiry.id, bank, body)]
        assert credit.read("aggregate", open_inquiry.id) == open_inquiry.encoded_product
        assert open_inquiry.stage == Stage.OPEN
    assert open_inquiry.status["awaited"] == bitmap(2)

    body = open_inquiry.payload()
    receipt = open_inquiry.contribute(2, body)

    assert credit.events(receipt) == [("Contributed", open_inquiry.id, 2, body)]
    assert credit.read("aggregate", open_inquiry.id) == open_inquiry.encoded_product
    assert open_inquiry.stage == Stage.COMPLETE
    assert credit.read("cohort", open_inquiry.id) == (bitmap(0, 1, 2, 3, 4), 0)


@pytest.mark.parametrize("bits", [2048, 2304, 3072, 4096])
def test_contribute__of_several_blocks__keeps_each_block_apart(credit, bits):
    inquiry = credit.inquiry(under=key(bits), blocks=3).complete()

    assert credit.read("aggregate", inquiry.id) == inquiry.encoded_product


def test_contribute__of_sixteen_blocks_of_the_widest_key__fits_into_a_transaction(credit):
    inquiry = credit.inquiry(under=key(4096), blocks=16)

    receipt = inquiry.contribute(1)

    assert receipt["gas_used"] < 16_777_216
    assert inquiry.receipt["gas_used"] < 16_777_216
    assert credit.read("aggregate", inquiry.id) == inquiry.encoded_product


def test_contribute__to_two_inquiries_by_turns__keeps_them_apart(credit):
    first, second = credit.inquiry(), credit.inquiry(1, under=key(2048, 2))

    for bank in (2, 3, 4):
        first.contribute(bank)
        second.contribute(bank)

    assert credit.read("aggregate", first.id) == first.encoded_product
    assert credit.read("aggregate", second.id) == second.encoded_product
    assert first.status["awaited"] == bitmap(1)
    assert second.status["awaited"] == bitmap(0)


@pytest.mark.parametrize("values", [[1, 1, 1, 1], [-1, -1, -1, -1], [1, -1, 2, -2]])
def test_contribute__of_extreme_ciphertexts__multiplies(credit, values):
    under = key()
    inquiry = credit.inquiry(payload=payload(credit.source, under, [under.square - 1]))

    for bank, value in zip(inquiry.furnishers, values, strict=True):
        inquiry.contribute(bank, inquiry.payload(value % under.square))

    assert credit.read("aggregate", inquiry.id) == inquiry.encoded_product


def test_contribute__of_inverses__brings_the_product_to_one(credit):
    # The last contributor can set the product to what it likes: why totals are provisional.
    under = key()
    inquiry = credit.inquiry()
    for bank in (1, 2, 3):
        inquiry.contribute(bank)

    inquiry.contribute(4, inquiry.payload(pow(inquiry.product[0], -1, under.square)))

    assert credit.read("aggregate", inquiry.id) == under.encoded([1])


# ---------------------------------------------------------------- sender


def test_contribute__by_another_account_than_that_of_the_member__reverts_with_not_account(
    credit, open_inquiry, outsider
):
    service, body = credit.bank(1).account, open_inquiry.payload()

    for sender in (outsider, credit.bank(1).owner, credit.bank(2).account, credit.council.supervisor_account):
        refused = credit.refusal(sender, "contribute", open_inquiry.id, 1, body)
        assert refused == ("NotAccount", sender, service)
    assert credit.refusal(service, "contribute", open_inquiry.id, 2, body) == (
        "NotAccount",
        service,
        credit.bank(2).account,
    )
    assert credit.refusal(service, "contribute", open_inquiry.id, 1, body) is None


def test_contribute__by_the_inquirer__reverts_with_not_awaited(open_inquiry):
    assert open_inquiry.refusal_to_contribute(0) == ("NotAwaited", 0)


def test_contribute__by_a_member_that_was_not_ready__reverts_with_not_in_cohort(credit):
    credit.council.ready([4], False)
    inquiry = credit.inquiry()
    credit.council.ready([4])

    assert inquiry.refusal_to_contribute(4) == ("NotInCohort", 4)
    assert inquiry.refusal_to_contribute(3) is None


def test_contribute__for_a_founder_that_has_not_confirmed__reverts_with_not_account(credit, open_inquiry):
    assert open_inquiry.refusal_to_contribute(5) == ("NotAccount", credit.bank(5).account, ZERO)


def test_contribute__by_the_account_of_a_removed_member__reverts_with_not_account(credit, open_inquiry):
    council = credit.council
    council.decide(council.encoded("removeMember", 4))

    assert open_inquiry.refusal_to_contribute(4) == ("NotAccount", credit.bank(4).account, ZERO)
    assert open_inquiry.refusal_to_contribute(3) is None


def test_contribute__by_an_account_that_was_taken__reverts_with_not_account(credit, open_inquiry):
    credit.council.send(credit.bank(1).owner, "takeAccount", 1)

    assert open_inquiry.refusal_to_contribute(1) == ("NotAccount", credit.bank(1).account, ZERO)
    assert open_inquiry.refusal_to_contribute(2) is None


def test_contribute__by_an_account_that_serves_two_members__adds_to_the_one_that_the_call_names(credit):
    # Accounts are not unique: nobody can keep another party from naming one.
    council, shared = credit.council, credit.bank(1).account
    credit.chain.travel(DAY)
    council.name_account(credit.bank(2), shared, 2, credit.bank(2).tenure())
    inquiry = credit.inquiry()

    receipt = credit.send(shared, "contribute", inquiry.id, 2, inquiry.payload())

    assert credit.event(receipt, "Contributed")[1] == 2
    assert inquiry.status["awaited"] == bitmap(1, 3, 4)


def test_contribute__by_a_member_suspended_since__is_accepted(credit, open_inquiry, regulator):
    # It was in the cohort when the inquirer made its masks: without it nobody gets a total.
    credit.council.send(regulator, "suspend", regulator, 4)

    open_inquiry.contribute(4)

    assert credit.read("aggregate", open_inquiry.id) == open_inquiry.encoded_product


def test_contribute__by_a_member_that_switched_off__is_accepted(credit, open_inquiry):
    credit.council.ready([4], False)

    assert open_inquiry.refusal_to_contribute(4) is None


# ---------------------------------------------------------------- tenure


def test_contribute__after_another_tenure_was_named__reverts_with_opened_before_tenure(credit, open_inquiry):
    # A store that was set back, or a second one, cannot know whether the one before it answered (M1, M2).
    council, bank = credit.council, credit.bank(1)
    opened = open_inquiry.status["opened"]
    credit.chain.travel(DAY)
    council.name_account(bank, council.spare[0], 2, bank.tenure(2))
    since = credit.chain.now()
    later = credit.inquiry(3)

    for account, inquiry, expected in (
        (bank.account, open_inquiry, ("NotAccount", bank.account, council.spare[0])),
        (council.spare[0], open_inquiry, ("OpenedBeforeTenure", opened, since)),
        (council.spare[0], later, None),
    ):
        assert credit.refusal(account, "contribute", inquiry.id, 1, inquiry.payload()) == expected
    assert open_inquiry.refusal_to_contribute(2) is None


def test_contribute__after_the_same_tenure_was_named_again__is_accepted(credit, open_inquiry):
    # The store is the same one: only its account changed.
    council, bank = credit.council, credit.bank(1)
    credit.chain.travel(DAY)
    council.name_account(bank, council.spare[0], 2, bank.tenure())

    refused = credit.refusal(council.spare[0], "contribute", open_inquiry.id, 1, open_inquiry.payload())

    assert refused is None


def test_contribute__after_the_account_was_taken_and_named_again__keeps_the_line(credit, open_inquiry):
    council, bank = credit.council, credit.bank(1)
    credit.chain.travel(DAY)
    council.name_account(bank, bank.account, 2, bank.tenure(2))
    since = credit.chain.now()
    council.send(bank.owner, "takeAccount", 1)
    credit.chain.travel(DAY)
    council.name_account(bank, bank.account, 3, bank.tenure(2))

    opened = open_inquiry.status["opened"]
    assert open_inquiry.refusal_to_contribute(1) == ("OpenedBeforeTenure", opened, since)


def test_contribute__to_an_inquiry_opened_in_the_block_of_the_naming__reverts_with_opened_before_tenure(credit):
    # Both have the time of their block, whatever their order in it.
    council, bank, chain = credit.council, credit.bank(1), credit.chain
    chain.travel(DAY)
    opening = credit.opening()
    naming = council.encoded("nameAccount", *council.naming(bank, bank.account, 2, bank.tenure(2)))

    opened, _ = in_one_block(
        chain,
        (credit.bank(0).account, credit.address, credit.encoded("open", 0, tuple(opening.values()))),
        (bank.owner, council.address, naming),
    )
    inquiry = credit.opened(0, key(), opening, opened)
    later = credit.inquiry()

    since = council.read("member", 1)["since"]
    assert inquiry.status["opened"] == since
    assert inquiry.refusal_to_contribute(1) == ("OpenedBeforeTenure", since, since)
    assert inquiry.refusal_to_contribute(2) is None
    assert later.status["opened"] > since
    assert later.refusal_to_contribute(1) is None


def in_one_block(chain, *transactions):
    """Mine (account, address, calldata) in this order, in one block; returns the receipts."""
    chain.tester.disable_auto_mine_transactions()
    hashes = [
        chain.tester.send_transaction(
            {"from": sender, "to": to, "data": "0x" + data.hex(), "gas": 10_000_000, "gas_price": 10**9}
        )
        for sender, to, data in transactions
    ]
    chain.tester.mine_block()
    chain.tester.enable_auto_mine_transactions()
    receipts = [chain.tester.get_transaction_receipt(each) for each in hashes]
    assert len({receipt["block_number"] for receipt in receipts}) == 1
    assert all(receipt["status"] == 1 for receipt in receipts)
    return receipts


# ---------------------------------------------------------------- stage


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.OPEN)])
def test_contribute__in_another_stage__reverts_with_wrong_stage(open_inquiry, stage):
    open_inquiry.brought_to(stage)

    for bank in (0, 1, 4):
        assert open_inquiry.refusal_to_contribute(bank) == ("WrongStage", stage)


def test_contribute__to_an_unknown_inquiry__reverts_with_wrong_stage(credit, open_inquiry):
    account = credit.bank(1).account
    for unknown in (bytes(32), b"\1" * 32):
        assert credit.refusal(account, "contribute", unknown, 1, open_inquiry.payload()) == ("WrongStage", Stage.NONE)


def test_contribute__long_after_the_deadline__is_accepted_until_expire_is_mined(open_inquiry):
    open_inquiry.credit.chain.travel(10 * PARAMETERS["answerSeconds"])
    assert open_inquiry.refusal_to_contribute(1) is None

    open_inquiry.expire()

    assert open_inquiry.refusal_to_contribute(1) == ("WrongStage", Stage.EXPIRED)


# ---------------------------------------------------------------- once


def test_contribute__a_second_time__reverts_with_not_awaited(credit, open_inquiry):
    body = open_inquiry.payload()
    open_inquiry.contribute(1, body)
    council, bank = credit.council, credit.bank(1)

    assert open_inquiry.refusal_to_contribute(1, body) == ("NotAwaited", 1)
    assert open_inquiry.refusal_to_contribute(1) == ("NotAwaited", 1)
    credit.chain.travel(DAY)
    council.name_account(bank, council.spare[0], 2, bank.tenure())
    refused = credit.refusal(council.spare[0], "contribute", open_inquiry.id, 1, open_inquiry.payload())
    assert refused == ("NotAwaited", 1)
    # Another member may send the same bytes: copies are for the institutions and the supervisor to see.
    assert open_inquiry.refusal_to_contribute(2, body) is None


# ---------------------------------------------------------------- form


@pytest.mark.parametrize("length", [0, 1, 79, 80, 591, 593, 592 + 512, 80 + 768])
def test_contribute__of_another_length__reverts_with_payload_length(open_inquiry, length):
    assert open_inquiry.refusal_to_contribute(1, b"\1" * length) == ("PayloadLength", length, 592)


def test_contribute__under_a_key_of_another_width__reverts_with_payload_length(credit, open_inquiry):
    wide = credit.inquiry(1, under=key(3072))

    assert open_inquiry.refusal_to_contribute(2, wide.payload()) == ("PayloadLength", 848, 592)
    assert wide.refusal_to_contribute(2, open_inquiry.payload()) == ("PayloadLength", 592, 848)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_contribute__out_of_range__reverts_with_ciphertext_range(credit, bits):
    under = key(bits)
    inquiry = credit.inquiry(under=under)

    for c in (0, under.square, under.square + 1, under.square + under.n, 2 ** (2 * bits) - 1):
        assert inquiry.refusal_to_contribute(1, inquiry.payload(c)) == ("CiphertextRange", 0)
    for c in (1, under.square - 1):
        assert inquiry.refusal_to_contribute(1, inquiry.payload(c)) is None


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_contribute__of_a_multiple_of_n__reverts_with_ciphertext_multiple_of_modulus(credit, bits):
    under = key(bits)
    inquiry = credit.inquiry(under=under)
    source = random.Random(bits)

    for k in (1, 2, under.n - 1, source.randrange(under.n), source.randrange(under.n)):
        assert inquiry.refusal_to_contribute(1, inquiry.payload(k * under.n)) == ("CiphertextMultipleOfModulus", 0)
        assert inquiry.refusal_to_contribute(1, inquiry.payload(k * under.n + 1)) is None


def test_contribute__c_plus_n_squared__reverts_with_ciphertext_range(credit):
    # The same number modulo n^2 has only one form.
    under = key(2048, 3)
    inquiry = credit.inquiry(under=under)
    c = 2 ** (2 * under.bits) - 1 - under.square

    assert inquiry.refusal_to_contribute(1, inquiry.payload(c)) is None
    assert inquiry.refusal_to_contribute(1, inquiry.payload(c + under.square)) == ("CiphertextRange", 0)


def test_contribute__with_the_last_block_wrong__takes_none(credit):
    under = key()
    inquiry = credit.inquiry(blocks=2)

    refused = inquiry.refusal_to_contribute(1, inquiry.payload(5, under.n))

    assert refused == ("CiphertextMultipleOfModulus", 1)
    assert inquiry.status["awaited"] == bitmap(1, 2, 3, 4)
    assert credit.read("aggregate", inquiry.id) == inquiry.encoded_product
