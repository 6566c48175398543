"""Every error of the contracts becomes an exception that says what is wrong and who must do what."""

from __future__ import annotations

import re
from typing import Any

import pytest
from eth_tester.exceptions import TransactionFailed as EthTesterFailed
from web3.exceptions import ContractCustomError, ContractLogicError, Web3RPCError

from mpcredit.chain import artifacts
from mpcredit.chain.artifacts import abi_type
from mpcredit.chain.faults import FAULTS, ContractRefused, decode_revert, fault, revert_data
from mpcredit.encoding import abi_encode, keccak
from mpcredit.errors import LedgerError, TransactionFailed

ERRORS = {**artifacts.consortium().entries("error"), **artifacts.joint_credit().entries("error")}
SAMPLES: dict[str, Any] = {
    "address": "0x" + "11" * 20,
    "bytes32": b"\x22" * 32,
    "bytes": b"",
    "string": "minimumCohort",
}


def encode(name: str, *values: Any) -> bytes:
    types = [abi_type(given) for given in ERRORS[name]["inputs"]]
    return keccak(f"{name}({','.join(types)})".encode())[:4] + abi_encode(types, list(values))


def sample(name: str) -> bytes:
    return encode(name, *[SAMPLES.get(given["type"], 5) for given in ERRORS[name]["inputs"]])


def test_faults__has_an_entry_for_each_error_and_no_other() -> None:
    assert ERRORS.keys() == FAULTS.keys()


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_fault__of_each_error__keeps_name_and_arguments_and_gives_advice(name: str) -> None:
    made = fault(sample(name))

    assert made.message
    assert made.remedy
    assert "{" not in str(made)
    assert not made.message.endswith(".")
    if isinstance(made, ContractRefused):
        assert made.code == name
    else:
        assert isinstance(made, TransactionFailed)
        assert made.error == name
    assert list(made.arguments) == [given["name"] for given in ERRORS[name]["inputs"]]


def test_fault__placeholders__are_arguments_of_the_error() -> None:
    for name, entry in FAULTS.items():
        used = set(re.findall(r"\{(\w+)\}", entry.problem + entry.remedy))
        assert used <= {given["name"] for given in ERRORS[name]["inputs"]}, name


def test_fault__times_bitmaps_and_stages__are_written_for_people() -> None:
    assert "2027-01-15 08:00:00 UTC" in fault(encode("TooEarly", 1_800_000_000)).message
    assert "second" in fault(encode("TooEarly", 2**255)).message
    assert "members 1, 3" in fault(encode("CulpritsOutsideCohort", 0b1010)).message
    assert "members 0, 2" in fault(encode("CohortMoved", 0b101)).message
    assert "(members 1, 2)" in fault(encode("NotRepeatable", 0b110, 0b111)).message
    assert "of members 3; audited: none" in fault(encode("PeriodKeyNotAccepted", 0b1000, 0)).message
    assert "2027-01-15 08:00:00 UTC" in fault(encode("OpenedBeforeTenure", 1_800_000_000, 1)).message
    assert "refused" in fault(encode("WrongStage", 6)).message


def test_fault__failed_call_of_a_proposal__says_why() -> None:
    made = fault(encode("CallFailed", 2, encode("UnknownGroup", 17)))

    assert isinstance(made, ContractRefused)
    assert made.code == "CallFailed"
    assert made.message == "call 2 of the proposal fails: there is no group 17"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "without a reason"),
        (keccak(b"Error(string)")[:4] + abi_encode(["string"], ["out of luck"]), "out of luck"),
        (keccak(b"Panic(uint256)")[:4] + abi_encode(["uint256"], [0x11]), "an overflow"),
        (keccak(b"Panic(uint256)")[:4] + abi_encode(["uint256"], [0x99]), "panic 0x99"),
        (b"\xde\xad\xbe\xef", "0xdeadbeef"),
        (keccak(b"Error(string)")[:4] + b"\x01", "does not know"),
        (encode("NotMember", "0x" + "11" * 20)[:10], "does not know"),
    ],
)
def test_fault__data_that_no_error_explains__is_a_failed_transaction(data: bytes, words: str) -> None:
    made = fault(data)

    assert isinstance(made, TransactionFailed)
    assert words in made.message
    assert decode_revert(data).error == ""


DATA = encode("WrongStage", 5)
HEX = "0x" + DATA.hex()


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ContractCustomError(HEX, data=HEX), id="web3: geth, Anvil, Besu"),
        pytest.param(ContractLogicError("execution reverted", data=f"Reverted {HEX}"), id="Nethermind"),
        pytest.param(ContractLogicError("execution reverted: x", data={"data": HEX}), id="data in a mapping"),
        pytest.param(
            ContractLogicError("reverted", data={"0xab": {"error": "revert", "return": HEX}}), id="by transaction"
        ),
        pytest.param(
            Web3RPCError("reverted", rpc_response={"error": {"code": 3, "message": "reverted", "data": HEX}}),
            id="plain JSON-RPC error",
        ),
        pytest.param(EthTesterFailed(f"execution reverted: {DATA!r}"), id="eth-tester through web3"),
        pytest.param(EthTesterFailed(repr(DATA)), id="eth-tester"),
        pytest.param(EthTesterFailed(DATA), id="eth-tester, bytes"),
        pytest.param(EthTesterFailed(ArithmeticError(DATA)), id="eth-tester around py-evm"),
    ],
)
def test_revert_data__in_the_forms_of_the_nodes__is_found(error: Exception) -> None:
    assert revert_data(error) == DATA


@pytest.mark.parametrize(
    "error",
    [
        ContractLogicError("execution reverted", data="no data"),
        ContractLogicError("execution reverted", data="0x"),
        ContractLogicError("execution reverted"),
        Web3RPCError("VM Exception while processing transaction: revert"),
        EthTesterFailed("b''"),
        EthTesterFailed("b'unclosed"),
    ],
)
def test_revert_data__revert_without_data__is_empty(error: Exception) -> None:
    assert revert_data(error) == b""


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("refused"),
        Web3RPCError("nonce too low", rpc_response={"error": {"code": -32000, "message": "nonce too low"}}),
        Web3RPCError("x", rpc_response={"error": {"code": -32000, "message": "x", "data": "0x"}}),
        LedgerError("the contract reverted"),
        ValueError(),
    ],
)
def test_revert_data__other_errors__are_no_reverts(error: Exception) -> None:
    assert revert_data(error) is None
