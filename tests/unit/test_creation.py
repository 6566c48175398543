"""mpcredit.ledger.creation: which creation of a Consortium fits a release and a founding file (R37.1)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mpcredit.encoding import abi_encode, keccak
from mpcredit.errors import HistoryMissing, WrongLedger
from mpcredit.ledger.creation import BlockTransaction, InitCodes, check_creation

CONSORTIUM = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
OTHER = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
FIELDS = (("name", "string"), ("opensFrom", "uint64"), ("jointCreditInitCodeHash", "bytes32"))
CODE = b"\x60\x80shipped"
NEWER = b"\x60\x80of the release after"
FIRST = b"\x01" * 32


def release(name: str, code: bytes, joint_credit: bytes) -> InitCodes:
    return InitCodes(name, len(code), keccak(code), joint_credit)


RELEASES = (
    release("2.0.0", CODE, b"\x0a" * 32),
    release("2.1.0", CODE, b"\x0b" * 32),
    release("3.0.0", NEWER, b"\x0c" * 32),
)


def argument(code: InitCodes) -> tuple[object, ...]:
    """What the founding file says, which gives no hash of a JointCredit itself."""
    return ("River valley", 5, code.joint_credit)


def created(code: bytes = CODE, *values: object, behind: bytes = b"") -> BlockTransaction:
    given = values or argument(RELEASES[0])
    data = code + abi_encode([f"({','.join(kind for _, kind in FIELDS)})"], [given]) + behind
    return BlockTransaction(FIRST, CONSORTIUM, data)


def check(*block: BlockTransaction) -> InitCodes:
    return check_creation(CONSORTIUM, FIRST, block, RELEASES, argument, FIELDS)


def test_creation__by_a_release_with_the_file__passes_among_other_transactions() -> None:
    others = (BlockTransaction(b"\x02" * 32, None, b""), BlockTransaction(b"\x03" * 32, OTHER, CODE))

    assert check(*others, created()) == RELEASES[0]


@pytest.mark.parametrize("number", range(3))
def test_creation__by_another_release__means_the_joint_credit_of_that_release(number: int) -> None:
    code = CODE if number < 2 else NEWER

    assert check(created(code, *argument(RELEASES[number]))) == RELEASES[number]


def test_creation__another_constructor__is_refused() -> None:
    for code in (b"\x60\x80evil..", CODE[:-1] + b"!", NEWER[:-1]):
        with pytest.raises(WrongLedger, match="no release of mpcredit has") as caught:
            check(created(code))
        assert "do not take part" in caught.value.remedy


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("River valley", 0, b"\x0a" * 32), "opensFrom"),
        (("Hill", 6, b"\x0a" * 32), "name, opensFrom"),
        (("River valley", 5, b"\x0c" * 32), "jointCreditInitCodeHash"),
    ],
)
def test_creation__other_arguments__are_refused_by_name(given: tuple[object, ...], named: str) -> None:
    with pytest.raises(WrongLedger, match=re.escape(f"these differ: {named}")) as caught:
        check(created(CODE, *given))
    assert "SHA-256" in caught.value.remedy


def test_creation__bytes_behind_the_arguments_or_none_at_all__are_refused() -> None:
    with pytest.raises(WrongLedger, match="encoded otherwise"):
        check(created(behind=b"\0"))
    with pytest.raises(WrongLedger, match="do not decode"):
        check(BlockTransaction(FIRST, CONSORTIUM, CODE))


def test_creation__through_another_contract__is_refused() -> None:
    honest = created()

    for through in (replace(honest, creates=None), replace(honest, creates=OTHER)):
        with pytest.raises(WrongLedger, match="factory, or CREATE2"):
            check(through)


def test_creation__block_without_the_transaction_of_its_own_event__is_not_the_whole_block() -> None:
    for block in ((), (replace(created(), hash=b"\x07" * 32),)):
        with pytest.raises(HistoryMissing, match="does not show the transaction") as caught:
            check(*block)
        assert "endpoint" in caught.value.remedy
