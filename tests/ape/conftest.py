"""A consortium of four, deployed and founded through ape. Run with `ape test tests/ape`; plain pytest passes by."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from eth_account.messages import encode_defunct
from eth_utils import keccak

_place = Path(__file__).resolve().parents[2] / "tools" / "compile.py"
_specification = importlib.util.spec_from_file_location("compile_tool", _place)
assert _specification is not None
assert _specification.loader is not None
_compile_tool = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(_compile_tool)

SUPERVISOR = 255
DAY = 86_400


def pytest_ignore_collect(collection_path: Any, config: pytest.Config) -> bool | None:
    """Without ape's plugin there is no chain to run these tests on; with it, ape is shown its compiler."""
    if not config.pluginmanager.has_plugin("ape_test"):
        return True
    _compile_tool.provide_solc()
    return None


@dataclass
class Council:
    """The contract and the accounts of its parties."""

    contract: Any
    deployer: Any
    supervisor: Any
    owners: list[Any]
    operators: list[Any]

    def sign(self, account: Any, member: int, key: bytes) -> bytes:
        """A first key's signature by its owner (R9)."""
        statement = self.contract.keyStatement(member, 1, key, bytes(32))
        return bytes(account.sign_message(encode_defunct(primitive=bytes(statement))).encode_rsv())


def public_key(name: str) -> bytes:
    """An X25519 key whose private key is the hash of a name: for tests only."""
    return X25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()).public_key().public_bytes_raw()


@pytest.fixture
def init_code(project: Any) -> bytes:
    """Of JointCredit as ape compiled it."""
    return bytes(project.JointCredit.contract_type.deployment_bytecode.to_bytes())


@pytest.fixture
def council(accounts: Any, project: Any, init_code: bytes) -> Council:
    """Deployed; nobody has confirmed."""
    deployer, supervisor, *others = accounts[:10]
    owners, operators = others[0::2], others[1::2]
    founding = (
        "River valley",
        [(owner, operator, f"Bank {i}") for i, (owner, operator) in enumerate(zip(owners, operators, strict=True))],
        [supervisor],
        [(1, b'{"id":1}')],
        (4, 2048, 600, 3600, 30 * DAY, DAY, 1000, 7 * DAY, 3600),
        keccak(init_code),
        keccak(b"tag key 1"),
    )
    contract = deployer.deploy(project.Consortium, founding)
    return Council(contract, deployer, supervisor, owners, operators)


@pytest.fixture
def founded(council: Council, init_code: bytes, chain: Any) -> Council:
    """All four have confirmed, were audited and are ready; the JointCredit is created."""
    key = public_key("supervisor")
    council.contract.rotateSupervisorKey(
        key, council.sign(council.supervisor, SUPERVISOR, key), sender=council.supervisor
    )
    council.contract.createJointCredit(init_code, sender=council.deployer)
    for index, (owner, operator) in enumerate(zip(council.owners, council.operators, strict=True)):
        key = public_key(f"bank {index}")
        council.contract.confirm(index, key, council.sign(owner, index, key), sender=owner)
        council.contract.auditOk(index, 1, sender=council.supervisor)
        council.contract.declareReady(chain.pending_timestamp + DAY, sender=operator)
    return council
