"""Put a consortium on a chain: create the Consortium from its founding, then let it create its first JointCredit.

The deployer pays and has no right afterwards (R36). What the founding says is `founding`'s work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address
from web3 import Web3

from mpcredit.chain.artifacts import consortium, joint_credit
from mpcredit.chain.client import Account, ChainLedger, Wallet
from mpcredit.chain.faults import ContractRefused
from mpcredit.chain.transactions import creation_address
from mpcredit.encoding import keccak
from mpcredit.errors import LedgerError
from mpcredit.events import Call
from mpcredit.ports import Outcome

__all__ = ["Deployed", "deploy", "joint_credit_init_code", "joint_credit_init_code_hash"]


@dataclass(frozen=True)
class Deployed:
    """A new consortium."""

    chain_id: int
    consortium: str
    """Checksum address."""
    joint_credit: str
    """Checksum address of its first JointCredit."""
    first_block: int
    """In which the Consortium was created."""
    creation: Outcome
    """Of the transaction that created the Consortium."""
    first_joint_credit: Outcome
    """Of the transaction that created the JointCredit."""

    @property
    def gas_used(self) -> int:
        """Of both transactions."""
        return self.creation.gas_used + self.first_joint_credit.gas_used


def joint_credit_init_code() -> bytes:
    """The init code of the JointCredit that ships with this package; it takes no arguments."""
    return joint_credit().init_code()


def joint_credit_init_code_hash() -> bytes:
    """What a founding or a proposal must approve for the JointCredit of this package, 32 bytes."""
    return keccak(joint_credit_init_code())


def deploy(
    web3: Web3 | str,
    account: Account,
    founding: Sequence[Any],
    *,
    init_code: bytes | None = None,
    chain_id: int | None = None,
    signing: Web3 | str | None = None,
) -> Deployed:
    """Create a consortium and its first JointCredit.

    Args:
        web3: client or URL of a node.
        account: pays for it; a key, or the address of one that an external signer holds.
        founding: the `Founding` struct of the constructor (`Founding.constructor_argument()`).
        init_code: of the JointCredit, by default the one that ships; the founding must have approved it.
        chain_id, signing: as for `ChainSigner`.

    Raises:
        Refused: the founding breaks a rule of the contract, or approves another init code.
        LedgerError: the node or the signer.
    """
    # (1) Nothing is sent if the second step could not succeed.
    code = joint_credit_init_code() if init_code is None else init_code
    approved = bytes(founding[7])
    if keccak(code) != approved:
        raise ContractRefused(
            "the founding approves another JointCredit than this version of mpcredit has",
            code="InitCodeDiffers",
            arguments={"given": keccak(code), "approved": approved},
            remedy="make the founding with this version, or deploy with the version it was made with",
        )
    wallet = Wallet(web3, account, chain_id=chain_id, signing=signing)
    # (2) The Consortium. Its address follows from sender and nonce, whatever the node says.
    signed, creation = wallet.send(None, consortium().init_code(tuple(founding)))
    address = creation_address(wallet.address, signed.nonce)
    ledger = ChainLedger(wallet.web3, address, chain_id=wallet.chain_id, first_block=creation.block)
    # (3) Its first JointCredit.
    _signed, first = wallet.send(address, consortium().call_data("createJointCredit", [code]))
    created = to_checksum_address(ledger.call(Call("consortium", "jointCredit")))
    if int(created, 16) == 0:
        raise LedgerError(
            "the consortium was created but has no JointCredit",
            remedy=f"call createJointCredit of the Consortium at {address} with the approved init code; anyone may",
        )
    return Deployed(
        chain_id=wallet.chain_id,
        consortium=address,
        joint_credit=created,
        first_block=creation.block,
        creation=creation,
        first_joint_credit=first,
    )
