"""open: an inquirer opens an inquiry over the ready members and contributes its own figures.

open
├── sender
│   ├── operates for nobody, or its member was removed: NotMember
│   ├── its member is suspended or not ready: NotServing
│   └── this is not the consortium's current JointCredit any more: NotCurrentJointCredit
├── roster or cohort moved since the masks were made: RosterMoved, CohortMoved
├── unknown schema, unknown group, cohort below the minimum: the Consortium's error
├── nonce not greater than the last: NonceUsed
├── blocks 0 or 17: BlocksOutOfRange                                                                 1 and 16: accepted
├── n of a width outside 256 to 512 in steps of 32, or below the parameter: ModulusWidth             every other: accepted
├── n even, or with a leading zero bit: ModulusForm
├── no consent: ConsentsMissing
├── payload one byte off, or of other blocks: PayloadLength
├── own ciphertext 0, n^2, n^2 + 1: CiphertextRange; n, kn: CiphertextMultipleOfModulus              n^2 - 1: accepted
├── 32 unfinished inquiries: TooManyOpen                                                             31: accepted
├── a report overdue: ReportOverdue                                                              a second earlier: accepted
└── else: id, event, stage Open, all others awaited, product = own ciphertexts, n^2 in a data contract, a lane taken
lanes: last freed first; a new one only if none is free
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import DAY, PARAMETERS, bitmap
from inquiries import Stage, key, payload


def test_open__by_a_ready_member__opens_and_awaits_all_others(credit):
    before = credit.chain.now()

    inquiry = credit.inquiry()

    q0, q = credit.ids(0, inquiry.opening)
    event = credit.event(inquiry.receipt, "Opened")
    deadline = credit.chain.now() + PARAMETERS["answerSeconds"]
    assert credit.chain.now() > before
    opening = {**inquiry.opening, "consents": tuple(inquiry.opening["consents"])}
    assert event == (q, 0, q0, credit.bank(0).operator, deadline, tuple(opening.values()))
    assert inquiry.status == {
        "stage": Stage.OPEN,
        "inquirer": 0,
        "blocks": 1,
        "deadline": deadline,
        "cohort": bitmap(0, 1, 2, 3, 4),
        "awaited": bitmap(1, 2, 3, 4),
        "width": 512,
        "aggregateHash": bytes(32),
        "reportCommitment": bytes(32),
    }
    assert credit.read("cohort", q) == (bitmap(0, 1, 2, 3, 4), bitmap(1, 2, 3, 4))
    assert credit.read("aggregate", q) == inquiry.encoded_product
    assert credit.read("lastNonce", 0) == inquiry.opening["nonce"]
    assert credit.read("lanes") == (1, 0)
    assert credit.read("version") == "2"


def test_open__by_a_second_operator__opens_for_its_member(credit):
    second = credit.chain.accounts[38]
    credit.council.send(credit.bank(2).owner, "setOperator", 2, second, True)
    opening = credit.opening(2)

    receipt = credit.send(second, "open", tuple(opening.values()))

    assert credit.event(receipt, "Opened")[1] == 2


def test_open__of_two_equal_openings_but_for_the_nonce__have_different_ids(credit):
    first = credit.inquiry()

    second = credit.inquiry(**{**first.opening, "nonce": 2})

    assert first.id != second.id
    assert second.stage == Stage.OPEN


# ---------------------------------------------------------------- sender


def test_open__by_an_outsider__reverts_with_not_member(credit, outsider):
    opening = tuple(credit.opening().values())

    assert credit.refusal(outsider, "open", opening) == ("NotMember", outsider)
    assert credit.refusal(credit.bank(0).owner, "open", opening) == ("NotMember", credit.bank(0).owner)
    assert credit.refusal(credit.bank(0).operator, "open", opening) is None


def test_open__by_the_operator_of_a_removed_member__reverts_with_not_member(credit):
    council = credit.council
    council.decide(council.encoded("removeMember", 4))

    assert credit.refusal_to_open(4) == ("NotMember", credit.bank(4).operator)
    assert credit.refusal_to_open(0) is None


def test_open__by_a_suspended_member__reverts_with_not_serving(credit, regulator):
    credit.council.send(regulator, "suspend", 4)

    assert credit.refusal_to_open(4) == ("NotServing", 4)
    assert credit.refusal_to_open(0) is None


def test_open__by_a_member_that_is_not_ready__reverts_with_not_serving(credit):
    credit.council.ready([4], until=0)

    assert credit.refusal_to_open(4) == ("NotServing", 4)
    assert credit.refusal_to_open(0) is None


def test_open__on_a_replaced_contract__reverts_with_not_current_joint_credit(credit, outsider):
    council = credit.council
    code = council.joint_credit_code
    inquiry = credit.inquiry()
    council.decide(council.encoded("approveJointCredit", keccak(code)))
    council.send(outsider, "createJointCredit", code)
    council.ready(range(5))

    refused = credit.refusal_to_open()

    assert refused == ("NotCurrentJointCredit", credit.address, council.read("jointCredit"))
    # Running inquiries end where they are.
    assert inquiry.refusal_to_contribute(1) is None


# ---------------------------------------------------------------- what the masks were made for


def test_open__after_the_roster_moved__reverts_with_roster_moved(credit):
    opening = credit.opening()
    credit.council.send(credit.bank(1).owner, "setOperator", 1, credit.chain.accounts[38], True)

    refused = credit.refusal(credit.bank(0).operator, "open", tuple(opening.values()))

    assert refused == ("RosterMoved", credit.council.read("roster"))
    assert credit.refusal_to_open() is None


def test_open__after_the_cohort_moved__reverts_with_cohort_moved(credit):
    opening = credit.opening()
    credit.council.ready([4], until=0)

    refused = credit.refusal(credit.bank(0).operator, "open", tuple(opening.values()))

    assert refused == ("CohortMoved", bitmap(0, 1, 2, 3))
    assert credit.refusal_to_open() is None


def test_open__over_a_cohort_of_its_choice__reverts_with_cohort_moved(credit):
    for chosen in (bitmap(0, 1, 2, 3), bitmap(0, 1, 2, 3, 4, 5), bitmap(0, 1, 2, 3, 4) | 1 << 230):
        assert credit.refusal_to_open(cohort=chosen) == ("CohortMoved", bitmap(0, 1, 2, 3, 4))


def test_open__over_too_few_ready_members__reverts_with_cohort_too_small(credit):
    credit.council.ready([3, 4], until=0)

    assert credit.refusal_to_open() == ("CohortTooSmall", 3, 4)


def test_open__of_an_unknown_schema_or_group__reverts(credit):
    assert credit.refusal_to_open(schema=2) == ("UnknownSchema", 2)
    assert credit.refusal_to_open(group=1) == ("UnknownGroup", 1)


# ---------------------------------------------------------------- nonce, blocks, modulus


def test_open__with_a_nonce_that_is_not_greater__reverts_with_nonce_used(credit):
    credit.inquiry(nonce=7)

    assert credit.refusal_to_open(nonce=7) == ("NonceUsed", 7, 7)
    assert credit.refusal_to_open(nonce=6) == ("NonceUsed", 6, 7)
    assert credit.refusal_to_open(nonce=0) == ("NonceUsed", 0, 7)
    assert credit.refusal_to_open(nonce=8) is None
    assert credit.refusal_to_open(nonce=2**64 - 1) is None
    assert credit.refusal_to_open(1, nonce=1) is None


def test_open__with_the_first_nonce_zero__reverts_with_nonce_used(credit):
    assert credit.refusal_to_open(nonce=0) == ("NonceUsed", 0, 0)


@pytest.mark.parametrize("blocks", [0, 17, 255])
def test_open__of_too_few_or_many_blocks__reverts_with_blocks_out_of_range(credit, blocks):
    assert credit.refusal_to_open(blocks=blocks) == ("BlocksOutOfRange", blocks)


@pytest.mark.parametrize("blocks", [1, 2, 16])
def test_open__of_a_few_blocks__keeps_each_of_them(credit, blocks):
    inquiry = credit.inquiry(blocks=blocks)

    assert credit.read("aggregate", inquiry.id) == inquiry.encoded_product
    assert inquiry.status["blocks"] == blocks


@pytest.mark.parametrize("length", [256, 288, 384, 480, 512])
def test_open__with_a_modulus_of_an_accepted_width__opens(credit, length):
    inquiry = credit.inquiry(under=key(8 * length))

    assert inquiry.status["width"] == 2 * length
    assert credit.read("aggregate", inquiry.id) == inquiry.encoded_product


@pytest.mark.parametrize("length", [0, 1, 224, 255, 257, 272, 511, 513, 544, 1024])
def test_open__with_a_modulus_of_another_width__reverts_with_modulus_width(credit, length):
    n = bytes([255]) * length

    assert credit.refusal_to_open(n=n, payload=bytes(80 + 2 * length)) == ("ModulusWidth", length, 2048)


def test_open__with_a_modulus_below_the_parameter__reverts_with_modulus_width(credit):
    council = credit.council
    parameters = tuple({**PARAMETERS, "minimumModulusBits": 3072}.values())
    council.decide(council.encoded("setParameters", parameters))
    council.ready(range(5))

    assert credit.refusal_to_open() == ("ModulusWidth", 256, 3072)
    assert credit.refusal_to_open(under=key(2816)) == ("ModulusWidth", 352, 3072)
    assert credit.refusal_to_open(under=key(3072)) is None


def test_open__with_a_modulus_of_wrong_form__reverts_with_modulus_form(credit):
    n = key().n
    for wrong in (n - 1, n - (1 << 2047), 1, 0):
        assert credit.refusal_to_open(n=wrong.to_bytes(256, "big")) == ("ModulusForm",)


def test_open__without_a_consent__reverts_with_consents_missing(credit):
    assert credit.refusal_to_open(consents=[]) == ("ConsentsMissing",)
    assert credit.refusal_to_open(consents=[bytes(32)] * 3) is None


# ---------------------------------------------------------------- own contribution


@pytest.mark.parametrize("length", [0, 79, 80, 591, 593, 80 + 1024])
def test_open__with_a_payload_of_another_length__reverts_with_payload_length(credit, length):
    assert credit.refusal_to_open(payload=bytes(length)) == ("PayloadLength", length, 592)


def test_open__with_an_own_ciphertext_of_no_form__reverts(credit):
    under = key()
    n, square = under.n, under.square
    for c in (0, square, square + 1, 2**4096 - 1):
        assert credit.refusal_to_open(payload=payload(credit.source, under, [c])) == ("CiphertextRange", 0)
    for c in (n, 2 * n, square - n):
        assert credit.refusal_to_open(payload=payload(credit.source, under, [c])) == ("CiphertextMultipleOfModulus", 0)
    for c in (1, square - 1, n + 1):
        assert credit.refusal_to_open(payload=payload(credit.source, under, [c])) is None


def test_open__with_one_wrong_block_among_others__names_it(credit):
    under = key()
    body = payload(credit.source, under, [5, 6, under.n])

    assert credit.refusal_to_open(blocks=3, payload=body) == ("CiphertextMultipleOfModulus", 2)


# ---------------------------------------------------------------- unfinished inquiries


def test_open__of_a_33rd_unfinished_inquiry__reverts_with_too_many_open(credit):
    inquiries = [credit.inquiry() for _ in range(32)]

    assert credit.refusal_to_open() == ("TooManyOpen",)
    assert credit.refusal_to_open(1) is None
    # A complete one still counts; one that ended does not.
    inquiries[7].complete()
    assert credit.refusal_to_open() == ("TooManyOpen",)
    inquiries[7].report()
    credit.inquiry()
    assert credit.refusal_to_open() == ("TooManyOpen",)
    inquiries[31].refuse(1)
    assert credit.refusal_to_open() is None


def test_open__while_a_report_is_overdue__reverts_with_report_overdue(credit):
    late = credit.inquiry().complete()
    due = late.status["deadline"] + PARAMETERS["reportSeconds"]
    other = credit.inquiry()
    opening = tuple(credit.opening().values())
    account = credit.bank(0).operator

    # Calls run at the time of the newest block, which is a second before the one that is travelled to.
    credit.chain.tester.time_travel(due)
    assert credit.refusal(account, "open", opening) is None
    credit.chain.tester.time_travel(due + 1)
    assert credit.refusal(account, "open", opening) == ("ReportOverdue", due)
    assert credit.refusal_to_open(1) is None
    late.report()
    credit.chain.travel(60)
    other_due = other.status["deadline"] + PARAMETERS["reportSeconds"]
    assert credit.refusal_to_open() == ("ReportOverdue", other_due)
    other.expire()
    credit.council.ready(range(5))
    assert credit.refusal_to_open() is None


@pytest.mark.parametrize("stage", [Stage.REPORTED, Stage.VALID, Stage.VOID, Stage.REFUSED, Stage.EXPIRED])
def test_open__after_the_last_inquiry_ended__never_finds_it_overdue(credit, stage):
    credit.inquiry().brought_to(stage)
    credit.chain.travel(DAY // 2)
    credit.council.send(credit.council.supervisor, "reinstate", 4)
    credit.council.ready(range(5))

    assert credit.refusal_to_open() is None


# ---------------------------------------------------------------- lanes and data contracts


def test_open__after_others_ended__takes_the_lane_freed_last(credit):
    first, second, third = (credit.inquiry() for _ in range(3))
    assert credit.read("lanes") == (3, 0)
    second.refuse(1)
    third.refuse(1)
    assert credit.read("lanes") == (3, 2)

    fourth, fifth = credit.inquiry(), credit.inquiry()

    assert credit.read("lanes") == (3, 0)
    for inquiry in (first, fourth, fifth):
        inquiry.contribute(1)
        assert credit.read("aggregate", inquiry.id) == inquiry.encoded_product


def test_open__on_a_reused_lane__costs_less_than_on_a_new_one(credit):
    fresh = credit.inquiry()
    fresh.refuse(1)

    reused = credit.inquiry()

    assert fresh.receipt["gas_used"] - reused.receipt["gas_used"] > 16 * 15_000


def test_open__wider_on_a_lane_that_was_narrow__keeps_every_word(credit):
    credit.inquiry(blocks=2).refuse(1)

    wide = credit.inquiry(under=key(4096), blocks=3)
    wide.contribute(2)

    assert credit.read("aggregate", wide.id) == wide.encoded_product


@pytest.mark.parametrize("last", [0x7E, 0xFE, 0xFFFE])
def test_open__at_the_edges_of_a_data_contracts_number__finds_its_address(credit, last):
    # Numbers are nonces: their encoding grows at 0x80, 0x100 and 0x10000. Nonce and counter are set, not counted to.
    _skip_to(credit, last)

    for _ in range(3):
        inquiry = credit.inquiry()
        inquiry.contribute(1)

        assert credit.read("aggregate", inquiry.id) == inquiry.encoded_product
        assert inquiry.status["inquirer"] == 0


def _skip_to(credit, number):
    """Let the contract have created that many data contracts."""
    chain = credit.chain.tester.backend.chain
    address = bytes.fromhex(credit.address[2:])
    state = chain.get_vm().state
    slots = {slot: state.get_storage(address, slot) for slot in range(8)}
    credit.inquiry().refuse(1)
    state = chain.get_vm().state
    [counts] = [slot for slot in slots if state.get_storage(address, slot) != slots[slot]]
    word = state.get_storage(address, counts)

    block = chain.get_block()
    vm = chain.get_vm(block.header)
    vm.state.set_nonce(address, number + 1)
    vm.state.set_storage(address, counts, word - (word & 0xFFFFFFFF) + number)
    vm.state.lock_changes()
    vm.state.persist()
    chain.header = chain.header.copy(state_root=vm.state.state_root)
