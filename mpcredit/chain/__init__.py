"""The ledger over an Ethereum node: the adapter behind the ports `Ledger` and `Signer`.

    ChainLedger, ChainSigner    read and write through a node
    deploy                      found a consortium on a chain
    ContractRefused             a rule of the contracts said no
    tester, anvil               chains for demos and tests: in this process, or Anvil (import the module)

web3 lives here and nowhere else.
"""

from mpcredit.chain.client import ChainLedger, ChainSigner, Wallet, connect
from mpcredit.chain.deploy import Deployed, deploy, joint_credit_init_code, joint_credit_init_code_hash
from mpcredit.chain.faults import ContractRefused

__all__ = [
    "ChainLedger",
    "ChainSigner",
    "ContractRefused",
    "Deployed",
    "Wallet",
    "connect",
    "deploy",
    "joint_credit_init_code",
    "joint_credit_init_code_hash",
]
