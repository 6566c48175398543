"""opening_gas: what the library computes is enough for each opening that the contract accepts, and not much more.

Measured openings, with bodies as mpcredit makes them, are in tests/gas.json; `tools/gas.py` measures them. Here are the
extremes: the first inquiry of a contract, the most and the widest blocks, long bodies that pay the floor of EIP-7623.
"""

from __future__ import annotations

import json

import pytest
from governance import bitmap
from inquiries import credit_on, key
from nodes import CAP, AnvilChain
from onchain import ROOT, Chain

from mpcredit.chain.gas import gas_bound, opening_gas
from mpcredit.events import Call

RECORD = json.loads((ROOT / "tests" / "gas.json").read_text(encoding="utf-8"))
MOST_ABOVE = {"prague": 1.12, "osaka": 1.06}
"""How much more than an opening costs the bound may be."""
EXTREMES = {
    "one block": {},
    "all blocks": {"blocks": 16},
    "all blocks, widest": {"blocks": 16, "bits": 4096},
    "widest": {"bits": 4096},
    "long subjects": {"sealedSubject": b"\1" * 64_000},
    "long subjects, widest": {"sealedSubject": b"\1" * 64_000, "bits": 4096},
    "many consents": {"consents": [b"\1" * 32] * 1_000},
    "empty parts": {"sealedSubject": b"", "keyProof": b""},
    "parts of zeros": {"sealedSubject": bytes(64_000), "keyProof": bytes(4_096)},
    "repetition": {"repeats": True, "cohort": bitmap(0, 1, 2, 3)},
}


def opening(credit, bits=2048, blocks=1, **changes):
    """Calldata of an opening by Bank A, and the bound for it."""
    data = credit.encoded("open", 0, tuple(credit.opening(0, key(bits), blocks, **changes).values()))
    return data, opening_gas(data, blocks=blocks, modulus_bytes=bits // 8)


@pytest.mark.parametrize("fork", ["prague", "osaka"])
def test_opening_gas__of_each_recorded_opening__is_a_little_more_than_its_cost(fork):
    compared = 0
    for bits, kinds in RECORD["calldata"].items():
        for kind, sizes in kinds.items():
            data = bytes(sizes["zeros"]) + b"\1" * (sizes["bytes"] - sizes["zeros"])
            fresh_lane = kind.startswith("open_fresh")

            bound = opening_gas(data, blocks=sizes["blocks"], modulus_bytes=int(bits) // 8, fresh_lane=fresh_lane)

            assert RECORD[fork][bits][kind] < bound < MOST_ABOVE[fork] * RECORD[fork][bits][kind], (bits, kind)
            compared += 1
    # 1, 10 and 100 subjects, on a fresh and a used lane, at three widths.
    assert compared == 18


@pytest.mark.parametrize("extreme", EXTREMES)
def test_opening_gas__as_the_limit_of_an_extreme_opening__suffices(credit, extreme):
    data, bound = opening(credit, **EXTREMES[extreme])

    receipt = send(credit, data, bound)

    assert receipt["status"] == 1
    assert receipt["gas_used"] <= bound


def test_opening_gas__for_the_first_inquiry_of_a_contract__suffices():
    credit = credit_on(Chain(), 5)
    data, bound = opening(credit)

    receipt = send(credit, data, bound)

    assert receipt["status"] == 1
    assert receipt["gas_used"] <= bound


def test_opening_gas__in_a_group__suffices(credit):
    council = credit.council
    council.decide(council.encoded("setGroup", 1, bitmap(*range(5))))
    data, bound = opening(credit, group=1)

    assert send(credit, data, bound)["status"] == 1


def test_opening_gas__of_a_long_body__is_the_floor_of_its_calldata(credit):
    # EIP-7623 by hand: 21,000, 10 for each zero byte and 40 for each other.
    data, bound = opening(credit, sealedSubject=b"\1" * 100_000)

    assert bound == 21_000 + sum(40 if byte else 10 for byte in data)
    assert send(credit, data, bound)["gas_used"] == bound


def test_opening_gas__of_the_largest_opening_that_nodes_take__is_below_the_cap_of_a_transaction():
    # 131,072 bytes of a transaction; 2^24 of gas since Osaka (EIP-7825).
    assert 12_000_000 < opening_gas(b"\1" * 131_072, blocks=16, modulus_bytes=512) < CAP == 2**24


def test_open__with_less_gas_than_it_uses__fails(credit):
    data, bound = opening(credit)
    with credit.chain.undone():
        used = send(credit, data, bound)["gas_used"]

    assert send(credit, data, used - 1)["status"] == 0


def send(credit, data, gas):
    """Send an opening with this limit of gas."""
    tester = credit.chain.tester
    request = {
        "from": credit.bank(0).account,
        "to": credit.address,
        "data": "0x" + data.hex(),
        "gas": gas,
        "gas_price": 10**9,
    }
    return tester.get_transaction_receipt(tester.send_transaction(request))


@pytest.mark.parametrize("fork", ["london", "osaka"])
def test_opening_gas__under_other_rules__suffices_for_each_extreme(fork):
    with AnvilChain(fork) as chain:
        credit = credit_on(chain, 5)
        for name, extreme in EXTREMES.items():
            data, bound = opening(credit, **extreme)
            request = {
                "from": credit.bank(0).account,
                "to": credit.address,
                "data": "0x" + data.hex(),
                "gas": hex(bound),
            }

            used = int(chain.rpc("eth_estimateGas", request), 16)
            chain.rpc("eth_call", request, "latest")

            assert used <= bound, name


def test_open__with_less_gas_than_the_floor_of_its_calldata__is_not_mined():
    with AnvilChain("prague") as chain:
        credit = credit_on(chain, 5)
        data, bound = opening(credit, sealedSubject=b"\1" * 100_000)
        request = {"from": credit.bank(0).account, "to": credit.address, "data": "0x" + data.hex()}

        for gas, lanes in ((bound - 1, 0), (bound, 1)):
            chain.rpc("eth_sendTransaction", {**request, "gas": hex(gas)})
            chain.rpc("evm_mine")

            assert credit.read("lanes") == (lanes, 0)


@pytest.mark.parametrize("function", ["lapse", "expire"])
def test_gas_bound__of_what_is_sent_when_members_are_silent__suffices_for_the_largest_inquiry(credit, function):
    inquiry = credit.inquiry(0, key(4096), 16)
    inquiry.contribute(1)
    call = Call(credit.address, function, (inquiry.id,))

    used = (inquiry.lapse() if function == "lapse" else inquiry.expire())["gas_used"]

    assert used < gas_bound(call, b"") < 3 * used


def test_gas_bound__of_an_opening__is_that_of_its_calldata(credit):
    arguments = (0, tuple(credit.opening(0, key(3072), 2).values()))
    data = credit.encoded("open", *arguments)

    assert gas_bound(Call(credit.address, "open", arguments), data) == opening_gas(data, blocks=2, modulus_bytes=384)


def test_gas_bound__of_a_call_that_any_block_takes__is_not_known():
    assert gas_bound(Call("consortium", "setReady", (0, True)), b"") is None
