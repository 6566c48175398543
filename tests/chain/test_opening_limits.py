"""docs/spec.md section 9 on a real chain: an opening at the bound is mined, and is no larger than the bound says."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from chain_world import World, everybody, make_world

from mpcredit import limits
from mpcredit.chain.anvil import Anvil
from mpcredit.chain.transactions import parse_signed
from mpcredit.events import Call
from mpcredit.schema import FIGURES_1
from mpcredit.sealing import sealed_length

pytestmark = pytest.mark.anvil

UNSIGNED, SIGNED = 594, 795
"""Bytes of a subject in the sealed list."""


@pytest.fixture(scope="module", params=["prague", "osaka"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    cap = ("--enable-tx-gas-limit",) if request.param == "osaka" else ()
    with Anvil(hardfork=request.param, arguments=cap) as running:
        for address in everybody():
            running.fund(address)
        yield make_world(running.web3, running.advance, running)


@pytest.mark.parametrize(
    ("bits", "entry"),
    [(2048, 0), (2048, UNSIGNED), (3072, 0), (3072, UNSIGNED), (3072, SIGNED), (4096, 0), (4096, UNSIGNED)],
)
def test_open__largest_request__is_mined_and_stays_within_the_bounds(world: World, bits: int, entry: int) -> None:
    source = random.Random(f"{bits}/{entry}")  # random bytes cost the most
    subjects = limits.capacity(FIGURES_1, bits, [entry] * 300, 50) if entry else 1
    blocks = FIGURES_1.blocks(subjects, bits)
    sealed = source.randbytes(sealed_length((entry or UNSIGNED) * subjects, 49))
    opening = world.opening(
        n=(2 ** (bits - 1) + 12345).to_bytes(bits // 8, "big"),
        key_proof=source.randbytes(bits),
        blocks=blocks,
        consents=tuple(source.randbytes(32) for _ in range(subjects)),
        sealed_subject=sealed,
        payload=source.randbytes(80)
        + b"".join(source.randrange(2 ** (2 * bits - 3)).to_bytes(bits // 4, "big") for _ in range(blocks)),
    )
    signer = world.service(0)

    signed = signer.sign(Call(world.deployed.joint_credit, "open", (0, opening.arguments())), signer.nonce())
    signer.broadcast(signed.raw)
    outcome = signer.wallet.wait(signed.hash)

    size = limits.opening_bytes(bits, blocks, subjects, len(sealed))
    assert size - 200 < len(signed.raw) <= size <= limits.OPENING_BYTES
    assert outcome.gas_used <= limits.opening_gas(bits, blocks, size) <= limits.OPENING_GAS
    assert parse_signed(signed.raw).gas <= limits.TRANSACTION_GAS
    # Nothing is closed, so that each opening makes a lane of its own, which costs the most.
    assert outcome.gas_used > limits.opening_gas(bits, blocks, size) * 2 // 3
