"""The contracts through ape's compiler, accounts and providers; tests/contract has what they do in each case."""

from __future__ import annotations

import json
from pathlib import Path

import ape
from eth_utils import keccak

from mpcredit.chain import artifacts
from mpcredit.chain.transactions import creation_address
from mpcredit.founding import read_founding

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "mpcredit" / "artifacts"
EXAMPLE = ROOT / "scripts" / "founding.example.toml"
CBOR_BYTES = 2
"""At the end of the code, the length of the metadata before it."""


def bare(code: bytes) -> bytes:
    """Runtime code without the compiler's metadata, which ape hashes and `tools/compile.py` does not."""
    return code[: -int.from_bytes(code[-CBOR_BYTES:], "big") - CBOR_BYTES]


def test_compile__with_ape__makes_the_code_that_ships(project):
    for name in ("Consortium", "JointCredit"):
        shipped = json.loads((ARTIFACTS / f"{name}.json").read_text(encoding="utf-8"))
        compiled = project.get_contract(name).contract_type.runtime_bytecode.to_bytes()

        assert bare(bytes(compiled)) == bare(bytes.fromhex(shipped["deployedBytecode"][2:]))


def test_found__four_institutions__serve_and_are_ready(founded):
    assert tuple(founded.contract.memberSets()) == (0b1111,) * 3
    assert founded.contract.cohortOf(0) == 0b1111
    assert founded.contract.isJointCredit(founded.contract.jointCredit())


def test_joint_credit__created__knows_its_consortium(founded, project):
    credit = project.JointCredit.at(founded.contract.jointCredit())

    assert credit.consortium() == founded.contract.address
    assert credit.version() == "2"


def test_confirm__by_the_deployer__reverts(council):
    with ape.reverts(council.contract.NotOwner):
        council.contract.confirm(*council.confirmation(0, council.deployer), sender=council.deployer)
    council.contract.confirm(*council.confirmation(0, council.owners[0]), sender=council.owners[0])


def test_set_ready__by_the_owner__reverts_and_by_the_service_account_does_not(founded):
    with ape.reverts(founded.contract.NotAccount):
        founded.contract.setReady(0, False, sender=founded.owners[0])
    founded.contract.setReady(0, False, sender=founded.accounts[0])


def test_upgrade__votes_approval_delay__and_not_before(founded, chain, init_code):
    contract, owner = founded.contract, founded.owners[0]
    code = init_code + b"second"
    call = bytes(contract.approveJointCredit.encode_input(keccak(code)))
    contract.propose([call], "second version", sender=owner)
    digest = contract.proposalAt(1).callsHash
    for voter in founded.owners[:3]:
        contract.vote(1, digest, sender=voter)
    contract.approve(1, digest, sender=founded.supervisor)

    with ape.reverts(contract.TooEarly):
        contract.execute(1, [call], founded.supervisor, sender=owner)
    chain.pending_timestamp += 3600
    contract.execute(1, [call], founded.supervisor, sender=owner)
    before = contract.jointCredit()
    contract.createJointCredit(code, sender=owner)

    assert contract.jointCredit() != before


def test_deploy_script__creates_directly_with_the_code_that_ships_and_the_file(accounts, deploy_script):
    founding = read_founding(EXAMPLE)

    consortium = deploy_script.deploy(accounts[0], founding)

    creation = consortium.creation_metadata.receipt.transaction
    assert creation_address(creation.sender, creation.nonce) == consortium.address
    assert bytes(creation.data) == artifacts.consortium().init_code(founding.constructor_argument())
