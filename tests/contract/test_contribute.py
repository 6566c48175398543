"""contribute: a member of the cohort adds its ciphertexts, once.

contribute
├── sender
│   ├── operates for nobody, is an owner, or its member was removed: NotMember
│   ├── its member was invited later, or was not ready when the inquiry opened: NotInCohort
│   ├── is the inquirer: NotAwaited
│   └── suspended since, or with its readiness withdrawn: accepted
├── stage None, Complete, Reported, Valid, Void, Refused, Expired: WrongStage
├── Open, the deadline long past: accepted until `expire` is mined
├── a second time, same or other bytes, or from another operator of the same member: NotAwaited
├── payload one byte off, empty, of another width or number of blocks: PayloadLength
├── 0, n^2, n^2 + 1, all bits set: CiphertextRange
├── n, kn, n^2 - n: CiphertextMultipleOfModulus
└── else: product of the block times the ciphertext modulo n^2; event; the last one completes
a payload made for another inquiry, under another key: fits by chance of its width only (what it means, the chain cannot see)
"""

from __future__ import annotations

import random

import pytest
from governance import PARAMETERS, bitmap
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


def test_contribute__by_an_outsider_or_an_owner__reverts_with_not_member(credit, open_inquiry, outsider):
    for account in (outsider, credit.bank(1).owner, credit.council.supervisor):
        refused = credit.refusal(account, "contribute", open_inquiry.id, open_inquiry.payload())
        assert refused == ("NotMember", account)
    assert open_inquiry.refusal_to_contribute(1) is None


def test_contribute__by_the_inquirer__reverts_with_not_awaited(open_inquiry):
    assert open_inquiry.refusal_to_contribute(0) == ("NotAwaited", 0)


def test_contribute__by_a_member_that_was_not_ready__reverts_with_not_in_cohort(credit):
    credit.council.ready([4], until=0)
    inquiry = credit.inquiry()
    credit.council.ready([4])

    assert inquiry.refusal_to_contribute(4) == ("NotInCohort", 4)
    assert inquiry.refusal_to_contribute(3) is None


def test_contribute__by_a_founder_that_has_not_confirmed__reverts_with_not_in_cohort(open_inquiry):
    assert open_inquiry.refusal_to_contribute(5) == ("NotInCohort", 5)


def test_contribute__by_the_operator_of_a_removed_member__reverts_with_not_member(credit, open_inquiry):
    council = credit.council
    council.decide(council.encoded("removeMember", 4))

    assert open_inquiry.refusal_to_contribute(4) == ("NotMember", credit.bank(4).operator)
    assert open_inquiry.refusal_to_contribute(3) is None


def test_contribute__by_a_removed_operator__reverts_with_not_member(credit, open_inquiry):
    bank = credit.bank(1)
    second = credit.chain.accounts[38]
    credit.council.send(bank.owner, "setOperator", 1, second, True)
    credit.council.send(bank.owner, "setOperator", 1, bank.operator, False)

    assert open_inquiry.refusal_to_contribute(1) == ("NotMember", bank.operator)
    assert credit.refusal(second, "contribute", open_inquiry.id, open_inquiry.payload()) is None


def test_contribute__by_a_member_suspended_since__is_accepted(credit, open_inquiry, regulator):
    # It was in the cohort when the inquirer made its masks: without it nobody gets a total.
    credit.council.send(regulator, "suspend", 4)

    open_inquiry.contribute(4)

    assert credit.read("aggregate", open_inquiry.id) == open_inquiry.encoded_product


def test_contribute__by_a_member_that_withdrew_its_readiness__is_accepted(credit, open_inquiry):
    credit.council.ready([4], until=0)

    assert open_inquiry.refusal_to_contribute(4) is None


# ---------------------------------------------------------------- stage


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.OPEN)])
def test_contribute__in_another_stage__reverts_with_wrong_stage(open_inquiry, stage):
    open_inquiry.brought_to(stage)

    for bank in (0, 1, 4):
        assert open_inquiry.refusal_to_contribute(bank) == ("WrongStage", stage)


def test_contribute__to_an_unknown_inquiry__reverts_with_wrong_stage(credit, open_inquiry):
    account = credit.bank(1).operator
    for unknown in (bytes(32), b"\1" * 32):
        assert credit.refusal(account, "contribute", unknown, open_inquiry.payload()) == ("WrongStage", Stage.NONE)


def test_contribute__long_after_the_deadline__is_accepted_until_expire_is_mined(open_inquiry):
    open_inquiry.credit.chain.travel(10 * PARAMETERS["answerSeconds"])
    assert open_inquiry.refusal_to_contribute(1) is None

    open_inquiry.expire()

    assert open_inquiry.refusal_to_contribute(1) == ("WrongStage", Stage.EXPIRED)


# ---------------------------------------------------------------- once


def test_contribute__a_second_time__reverts_with_not_awaited(credit, open_inquiry):
    body = open_inquiry.payload()
    open_inquiry.contribute(1, body)
    second = credit.chain.accounts[38]
    credit.council.send(credit.bank(1).owner, "setOperator", 1, second, True)

    assert open_inquiry.refusal_to_contribute(1, body) == ("NotAwaited", 1)
    assert open_inquiry.refusal_to_contribute(1) == ("NotAwaited", 1)
    assert credit.refusal(second, "contribute", open_inquiry.id, open_inquiry.payload()) == ("NotAwaited", 1)
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
