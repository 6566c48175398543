"""open: an inquirer opens an inquiry over the ready members and contributes its own figures.

open
├── sender
│   ├── is not the service account of the member that the call names, or that one was removed: NotAccount
│   ├── its member is suspended or not ready: NotServing
│   └── this is not the consortium's current JointCredit any more: NotCurrentJointCredit
├── before the date that the founding names: TooEarly                                                at it: accepted
├── roster moved since the masks were made: RosterMoved            (cohorts and repetitions: test_open_cohort.py)
├── unknown schema, unknown group, cohort below the minimum: the Consortium's error
├── the same inquiry a second time, in whatever stage the first is: InquiryExists                    any other nonce: accepted
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
import rlp
from eth_utils import keccak
from governance import DAY, PARAMETERS, ZERO, bitmap
from inquiries import STAGES, Stage, credit_on, key, payload
from onchain import Chain


def test_open__by_a_ready_member__opens_and_awaits_all_others(credit):
    before = credit.chain.now()

    inquiry = credit.inquiry()

    q0, q = credit.ids(0, inquiry.opening)
    event = credit.event(inquiry.receipt, "Opened")
    deadline = credit.chain.now() + PARAMETERS["answerSeconds"]
    assert credit.chain.now() > before
    opening = {**inquiry.opening, "consents": tuple(inquiry.opening["consents"])}
    assert event == (q, 0, q0, credit.bank(0).account, deadline, tuple(opening.values()))
    assert inquiry.status == {
        "stage": Stage.OPEN,
        "inquirer": 0,
        "blocks": 1,
        "opened": credit.chain.now(),
        "deadline": deadline,
        "silentFrom": credit.chain.now() + PARAMETERS["silenceSeconds"],
        "cohort": bitmap(0, 1, 2, 3, 4),
        "awaited": bitmap(1, 2, 3, 4),
        "width": 512,
        "aggregateHash": bytes(32),
        "reportCommitment": bytes(32),
    }
    assert credit.read("cohort", q) == (bitmap(0, 1, 2, 3, 4), bitmap(1, 2, 3, 4))
    assert credit.read("aggregate", q) == inquiry.encoded_product
    assert credit.read("lanes") == (1, 0)
    assert credit.read("version") == "2"


# ---------------------------------------------------------------- sender


def test_open__by_another_account_than_that_of_the_member__reverts_with_not_account(credit, outsider):
    opening = tuple(credit.opening().values())
    service = credit.bank(0).account

    for sender in (outsider, credit.bank(0).owner, credit.bank(1).account, credit.council.supervisor_account):
        assert credit.refusal(sender, "open", 0, opening) == ("NotAccount", sender, service)
    assert credit.refusal(service, "open", 1, opening) == ("NotAccount", service, credit.bank(1).account)
    assert credit.refusal(service, "open", 0, opening) is None


def test_open__by_the_account_named_later__opens_and_by_the_one_before_reverts(credit):
    bank, later = credit.bank(2), credit.council.spare[0]
    credit.council.chain.travel(DAY)
    credit.council.name_account(bank, later, 2, bank.tenure())
    opening = tuple(credit.opening(2).values())

    assert credit.refusal(bank.account, "open", 2, opening) == ("NotAccount", bank.account, later)
    receipt = credit.send(later, "open", 2, opening)

    assert credit.event(receipt, "Opened")[1:4:2] == (2, later)


def test_open__for_a_member_whose_account_was_taken__reverts_with_not_account(credit):
    credit.council.send(credit.bank(4).owner, "takeAccount", 4)

    assert credit.refusal_to_open(4) == ("NotAccount", credit.bank(4).account, ZERO)
    assert credit.refusal_to_open(0) is None


def test_open__by_the_account_of_a_removed_member__reverts_with_not_account(credit):
    council = credit.council
    council.decide(council.encoded("removeMember", 4))

    assert credit.refusal_to_open(4) == ("NotAccount", credit.bank(4).account, ZERO)
    assert credit.refusal_to_open(0) is None


def test_open__by_a_suspended_member__reverts_with_not_serving(credit, regulator):
    credit.council.send(regulator, "suspend", regulator, 4)

    assert credit.refusal_to_open(4) == ("NotServing", 4)
    assert credit.refusal_to_open(0) is None


def test_open__by_a_member_that_is_not_ready__reverts_with_not_serving(credit):
    credit.council.ready([4], False)

    assert credit.refusal_to_open(4) == ("NotServing", 4)
    assert credit.refusal_to_open(0) is None


def test_open__on_a_replaced_contract__reverts_with_not_current_joint_credit(credit, outsider):
    council = credit.council
    code = council.joint_credit_code
    inquiry = credit.inquiry()
    council.decide(council.encoded("approveJointCredit", keccak(code)))
    council.send(outsider, "createJointCredit", code)

    refused = credit.refusal_to_open()

    assert refused == ("NotCurrentJointCredit", credit.address, council.read("jointCredit"))
    # Running inquiries end where they are.
    assert inquiry.refusal_to_contribute(1) is None


# ---------------------------------------------------------------- what the masks were made for


def test_open__after_the_roster_moved__reverts_with_roster_moved(credit):
    opening = credit.opening()
    council = credit.council
    council.rotate(credit.bank(1), 2)

    refused = credit.refusal(credit.bank(0).account, "open", 0, tuple(opening.values()))

    assert refused == ("RosterMoved", council.read("roster"))
    assert credit.refusal_to_open() is None


def test_open__after_readiness_was_switched__does_not_find_the_roster_moved(credit):
    roster = credit.council.read("roster")
    credit.council.ready([4], False)

    assert credit.council.read("roster") == roster
    assert credit.refusal_to_open(roster=roster) is None


def test_open__over_too_few_ready_members__reverts_with_cohort_too_small(credit):
    credit.council.ready([3, 4], False)

    assert credit.refusal_to_open() == ("CohortTooSmall", 3, 4)


def test_open__of_an_unknown_schema_or_group__reverts(credit):
    assert credit.refusal_to_open(schema=2) == ("UnknownSchema", 2)
    assert credit.refusal_to_open(group=1) == ("UnknownGroup", 1)


def test_open__before_the_date_of_the_founding__reverts_with_too_early():
    chain = Chain()
    date = chain.now() + 7 * DAY
    credit = credit_on(chain, 5, opensFrom=date)
    opening = tuple(credit.opening().values())

    # Calls run at the time of the newest block, which is a second before the one that is travelled to.
    chain.tester.time_travel(date)
    assert credit.refusal(credit.bank(0).account, "open", 0, opening) == ("TooEarly", date)
    chain.tester.time_travel(date + 1)
    assert credit.refusal(credit.bank(0).account, "open", 0, opening) is None


# ---------------------------------------------------------------- id and nonce


def test_open__of_two_equal_openings_but_for_the_nonce__have_different_ids(credit):
    first = credit.inquiry(nonce=1)

    second = credit.inquiry(**{**first.opening, "nonce": 2})

    assert first.id != second.id
    assert second.stage == Stage.OPEN


# What q covers, each with another value: the contract's id changes with it, and so does the one computed in Python.
@pytest.mark.parametrize(
    "change",
    [
        {"nonce": 8},
        {"schema": 2},
        {"currency": b"EUR"},
        {"consents": [b"\1" * 32, b"\2" * 32]},
        {"consents": [b"\2" * 32]},
        {"sealedSubject": b"another"},
        {"subjectCommitment": b"\3" * 32},
        {"group": 1},
        {"repeats": True},
    ],
    ids=str,
)
def test_open__with_another_value_under_the_id__has_another_id(credit, change):
    council = credit.council
    council.decide(council.encoded("registerSchema", 2, b'{"id":2}'), council.encoded("setGroup", 1, bitmap(*range(5))))
    first = credit.inquiry(nonce=7, consents=[b"\1" * 32])

    other = credit.inquiry(**{**first.opening, **change})

    assert other.id != first.id
    assert credit.event(other.receipt, "Opened")[0] == other.id
    assert credit.event(other.receipt, "Opened")[2] == credit.ids(0, other.opening)[0]
    assert other.stage == Stage.OPEN


@pytest.mark.parametrize("nonce", [0, 1, 2**64 - 1])
def test_open__with_any_nonce__leaves_all_others_free(credit, nonce):
    # N1: one opening with the highest nonce once ended an institution's inquiries for ever.
    credit.inquiry(nonce=2**64 - 1)
    credit.inquiry(nonce=0)

    assert credit.inquiry(nonce=nonce).stage == Stage.OPEN


@pytest.mark.parametrize("stage", [s for s in STAGES if s != Stage.NONE])
def test_open__of_the_same_inquiry_again__reverts_with_inquiry_exists(credit, open_inquiry, stage):
    # E1: a second opening of one q, with an own payload of the inquirer's choice, made evidence of any totals.
    open_inquiry.brought_to(stage)
    if stage == Stage.EXPIRED:
        credit.council.ready(open_inquiry.furnishers)
    again = {**open_inquiry.opening, "payload": open_inquiry.payload()}

    assert credit.refusal_to_open(**again) == ("InquiryExists", open_inquiry.id)
    assert credit.refusal_to_open(**{**again, "nonce": again["nonce"] ^ 1}) is None


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
    values = tuple({**dict.fromkeys(PARAMETERS, 0), "minimumModulusBits": 3072}.values())
    council.decide(council.encoded("setTerms", 1 << list(PARAMETERS).index("minimumModulusBits"), values))

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
    account = credit.bank(0).account

    # Calls run at the time of the newest block, which is a second before the one that is travelled to.
    credit.chain.tester.time_travel(due)
    assert credit.refusal(account, "open", 0, opening) is None
    credit.chain.tester.time_travel(due + 1)
    assert credit.refusal(account, "open", 0, opening) == ("ReportOverdue", due)
    assert credit.refusal_to_open(1) is None
    late.report()
    credit.chain.travel(60)
    other_due = other.status["deadline"] + PARAMETERS["reportSeconds"]
    assert credit.refusal_to_open() == ("ReportOverdue", other_due)
    other.expire()
    credit.council.ready(other.furnishers)
    assert credit.refusal_to_open() is None


@pytest.mark.parametrize("stage", [Stage.REPORTED, Stage.VALID, Stage.VOID, Stage.REFUSED, Stage.EXPIRED])
def test_open__after_the_last_inquiry_ended__never_finds_it_overdue(credit, stage):
    inquiry = credit.inquiry().brought_to(stage)
    credit.chain.travel(DAY // 2)
    if stage == Stage.EXPIRED:
        credit.council.ready(inquiry.furnishers)

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


def test_open__whose_data_contract_would_stand_elsewhere__reverts_with_data_not_stored(credit):
    # No transaction brings the count and the nonce apart. If one could, every contribution would be lost.
    address = bytes.fromhex(credit.address[2:])
    credit.inquiry()

    nonce = credit.chain.backend.get_nonce(address)
    _change_state(credit, lambda state: state.set_nonce(address, nonce + 1))

    assert credit.refusal_to_open() == ("DataNotStored",)


def test_open__whose_data_contract_cannot_be_created__reverts_with_data_not_stored(credit):
    # CREATE fails where an account has code already (EIP-684).
    address = bytes.fromhex(credit.address[2:])
    nonce = credit.chain.backend.get_nonce(address)
    taken = keccak(rlp.encode([address, nonce]))[12:]
    assert credit.refusal_to_open() is None

    _change_state(credit, lambda state: state.set_code(taken, b"\0"))

    assert credit.refusal_to_open() == ("DataNotStored",)


def _skip_to(credit, number):
    """Let the contract have created that many data contracts."""
    address = bytes.fromhex(credit.address[2:])
    chain = credit.chain.tester.backend.chain
    state = chain.get_vm().state
    slots = {slot: state.get_storage(address, slot) for slot in range(8)}
    credit.inquiry().refuse(1)
    state = chain.get_vm().state
    [counts] = [slot for slot in slots if state.get_storage(address, slot) != slots[slot]]
    word = state.get_storage(address, counts)

    def skip(state):
        state.set_nonce(address, number + 1)
        state.set_storage(address, counts, word - (word & 0xFFFFFFFF) + number)

    _change_state(credit, skip)


def _change_state(credit, change):
    """Change what the chain stores, as no transaction could."""
    chain = credit.chain.tester.backend.chain
    vm = chain.get_vm(chain.get_block().header)
    change(vm.state)
    vm.state.lock_changes()
    vm.state.persist()
    chain.header = chain.header.copy(state_root=vm.state.state_root)
    # Calls are answered on the newest block.
    credit.chain.tester.mine_block()
