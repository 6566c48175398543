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
NONE = bytes(32)
PERIOD_SECONDS = 60
TERMS = {
    "minimumCohort": 4,
    "minimumModulusBits": 2048,
    "answerSeconds": 600,
    "reportSeconds": 3600,
    "silenceSeconds": 60,
    "windowSeconds": 30 * DAY,
    "cooldownSeconds": DAY,
    "repeatSeconds": 3600,
    "delaySeconds": 3600,
    "subjectsPerDay": 1000,
    "bookAgeSeconds": 7 * DAY,
}


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
    """Its owner account."""
    service: Any
    """The supervisor's service account."""
    owners: list[Any]
    accounts: list[Any]
    """The members' service accounts."""

    def signed_key(self, owner: Any, party: int, key: bytes) -> bytes:
        """A first key's signature by its owner (R9)."""
        return _signature(owner, self.contract.keyStatement(party, 1, key, NONE))

    def signed_account(self, owner: Any, party: int, account: Any, tenure: bytes) -> bytes:
        """The signature of the first naming of a service account by its owner (R9)."""
        return _signature(owner, self.contract.accountStatement(party, owner, account, 1, tenure))

    def confirmation(self, index: int, owner: Any) -> tuple[Any, ...]:
        """The arguments with which an owner confirms a member."""
        key, tenure, account = public_key(f"bank {index}"), keccak(text=f"tenure {index}"), self.accounts[index]
        signed = self.signed_account(owner, index, account, tenure)
        return index, key, self.signed_key(owner, index, key), account, tenure, signed


def _signature(owner: Any, statement: Any) -> bytes:
    return bytes(owner.sign_message(encode_defunct(primitive=bytes(statement))).encode_rsv())


def public_key(name: str) -> bytes:
    """An X25519 key whose private key is the hash of a name: for tests only."""
    return X25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()).public_key().public_bytes_raw()


@pytest.fixture
def deploy_script() -> Any:
    """scripts/deploy.py, as a module."""
    place = Path(__file__).resolve().parents[2] / "scripts" / "deploy.py"
    specification = importlib.util.spec_from_file_location("deploy_script", place)
    assert specification is not None
    assert specification.loader is not None
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    return made


@pytest.fixture
def init_code(project: Any) -> bytes:
    """Of JointCredit as ape compiled it."""
    return bytes(project.JointCredit.contract_type.deployment_bytecode.to_bytes())


@pytest.fixture
def council(accounts: Any, project: Any, init_code: bytes) -> Council:
    """Deployed; nobody has confirmed."""
    deployer, supervisor, service, *others = accounts[:11]
    owners, own_accounts = others[0::2], others[1::2]
    founding = (
        "River valley",
        [(owner, f"Bank {i}") for i, owner in enumerate(owners)],
        [supervisor],
        [(1, b'{"id":1}')],
        tuple(TERMS.values()),
        0,
        PERIOD_SECONDS,
        keccak(init_code),
        keccak(b"tag key 1"),
    )
    contract = deployer.deploy(project.Consortium, founding)
    return Council(contract, deployer, supervisor, service, owners, own_accounts)


@pytest.fixture
def founded(council: Council, init_code: bytes, chain: Any) -> Council:
    """All four have confirmed, are audited and ready; the JointCredit is created."""
    contract, supervisor, service = council.contract, council.supervisor, council.service
    naming = council.signed_account(supervisor, SUPERVISOR, service, NONE)
    contract.nameAccount(SUPERVISOR, service, NONE, naming, sender=supervisor)
    key = public_key("supervisor")
    contract.announcePeriodKey(key, council.signed_key(supervisor, SUPERVISOR, key), sender=supervisor)
    contract.createJointCredit(init_code, sender=council.deployer)
    for index, owner in enumerate(council.owners):
        contract.confirm(*council.confirmation(index, owner), sender=owner)
        contract.auditOk(supervisor, index, 1, 1, sender=service)
    contract.putPeriodKeyInForce(supervisor, 1, sender=service)
    for index, account in enumerate(council.accounts):
        contract.setReady(index, True, sender=account)
    chain.pending_timestamp += PERIOD_SECONDS
    chain.mine()
    return council
