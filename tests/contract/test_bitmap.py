"""Bitmap.count against Python's own count of bits; the rest of the library is one operator each."""

from __future__ import annotations

import random

import pytest
from eth_utils import to_checksum_address
from onchain import Chain, Deployed, artifact


@pytest.fixture(scope="module")
def harness():
    chain = Chain()
    made = artifact("BitmapHarness")
    receipt = chain.transact(chain.accounts[0], "", bytes.fromhex(made["bytecode"][2:]))
    return Deployed(chain, made["abi"], to_checksum_address(receipt["contract_address"]))


def test_count__edges__is_the_number_of_members(harness):
    for set_ in (0, 1, 2**215, 2**216 - 1, 2**255 - 1, 0x55 << 8, 0xFF << 208):
        assert harness.read("count", set_) == set_.bit_count()


def test_count__random_sets__is_the_number_of_members(harness):
    source = random.Random("bitmap")
    for _ in range(200):
        set_ = source.getrandbits(216) & source.getrandbits(216) | source.getrandbits(source.randrange(1, 216))
        assert harness.read("count", set_) == set_.bit_count()
