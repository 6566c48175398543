"""The ledger over an Ethereum node: the adapter behind the ports `Ledger` and `Signer`.

    ChainLedger, ChainSigner    read and write through a node
    several                     several nodes of one ledger, used as one
    deploy                      found a consortium on a chain
    ContractRefused             a rule of the contracts said no
    tester, anvil               chains for demos and tests: in this process, or Anvil (import the module)

web3 lives here and nowhere else.
"""

from web3 import Web3

from mpcredit.chain.client import ChainLedger, ChainSigner, Wallet, connect, several
from mpcredit.chain.deploy import Deployed, deploy, joint_credit_init_code, joint_credit_init_code_hash
from mpcredit.chain.endpoints import BEHIND_BLOCKS, COMPARE_SECONDS, Endpoints, EndpointState, Tls, is_private, shown
from mpcredit.chain.faults import ContractRefused

__all__ = [
    "BEHIND_BLOCKS",
    "COMPARE_SECONDS",
    "ChainLedger",
    "ChainSigner",
    "ContractRefused",
    "Deployed",
    "EndpointState",
    "Endpoints",
    "Tls",
    "Wallet",
    "Web3",
    "connect",
    "deploy",
    "is_private",
    "joint_credit_init_code",
    "joint_credit_init_code_hash",
    "several",
    "shown",
]
