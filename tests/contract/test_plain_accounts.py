"""Service accounts act for themselves: each of their calls comes from a transaction of an account without code.

open, contribute, report, refuse, revokeConsent, attest
├── through a contract that the party named as its service account: NotPlainAccount
├── by a contract that is being created and has no code yet: NotPlainAccount
├── by an account that EIP-7702 delegated, in its own transaction or through its code: NotPlainAccount
└── by an account without code, also one that withdrew its delegation: accepted

A delegated account could send a payload that the signature of its transaction does not cover: its code could take it from
anywhere, and nobody could hold the member to it. The calls on Consortium have the same rule.
"""

from __future__ import annotations

import pytest
import rlp
from eth_account import Account
from eth_tester.exceptions import TransactionFailed
from eth_utils import keccak, to_checksum_address
from governance import DAY, ZERO
from inquiries import Stage, credit_on
from nodes import AnvilChain
from onchain import GAS, revert_data


def forwarding_code(target):
    """Runtime code that passes its calldata on to `target`, and the answer or the error back."""
    # copy the calldata to 0; call(gas, target, 0, all of it); copy what came back; revert with it, or return it
    return bytes.fromhex(f"365f5f37 5f5f365f5f73{target[2:]}5af1 3d5f5f3e 602a57 3d5ffd 5b3d5ff3")


def creation_code(runtime):
    """Init code that returns the runtime code."""
    return bytes.fromhex(f"60{len(runtime):02x}8060095f395ff3") + runtime


def calling_init_code(target, data):
    """Init code that calls `target` while there is no contract yet, and reverts with what came back."""
    length = f"61{len(data):04x}"
    # copy the data behind this code to 0; call(gas, target, 0, all of it); copy what came back; revert with it
    return bytes.fromhex(f"{length}602c5f39 5f5f{length}5f5f73{target[2:]}5af1 3d5f5f3e 3d5ffd") + data


class Calls:
    """What Bank B's service account can do now, and for `attest` the supervisor's, which may be one account."""

    def __init__(self, credit):
        self.credit = credit
        # Accounts can be named again a day after the first time.
        credit.chain.travel(DAY)
        self.asked = credit.inquiry()
        self.own = credit.inquiry(1).complete()
        self.reported = credit.inquiry().brought_to(Stage.REPORTED)

    def name(self, account):
        """Bank B, with the tenure that it has, and the supervisor name this account as their service account."""
        council = self.credit.council
        bank = council.banks[1]
        council.name_account(bank, account, 2, bank.tenure())
        council.name_supervisor_account(council.supervisor, account, 2)

    @property
    def all(self):
        """The calldata of each call, by name."""
        credit = self.credit
        arguments = {
            "open": (1, tuple(credit.opening(1).values())),
            "contribute": (self.asked.id, 1, self.asked.payload()),
            "report": (self.own.id, keccak(b"report"), b"sealed report", bytes(32)),
            "refuse": (self.asked.id, 1, 3, b""),
            "revokeConsent": (1, bytes(32)),
            "attest": self.reported.verdict(True)[1:],
        }
        return {name: credit.encoded(name, *given) for name, given in arguments.items()}


@pytest.fixture
def calls(credit):
    return Calls(credit)


def test_every_service_call__by_a_plain_account__is_accepted(credit, calls):
    account = credit.council.spare[0]
    calls.name(account)

    assert {name: credit.refusal_of(account, data) for name, data in calls.all.items()} == dict.fromkeys(calls.all)


def test_every_service_call__through_a_contract__reverts_with_not_plain_account(credit, calls, outsider):
    made = credit.chain.transact(outsider, "", creation_code(forwarding_code(credit.address)))
    contract = to_checksum_address(made["contract_address"])
    calls.name(contract)

    for name, data in calls.all.items():
        assert credit.refusal_of(outsider, data, through=contract) == ("NotPlainAccount", contract), name


def test_every_service_call__by_a_contract_that_is_being_created__reverts_with_not_plain_account(
    credit, calls, outsider
):
    # It has no code yet, but it did not start the transaction.
    nonce = credit.chain.backend.get_nonce(bytes.fromhex(outsider[2:]))
    contract = to_checksum_address(keccak(rlp.encode([bytes.fromhex(outsider[2:]), nonce]))[12:])
    calls.name(contract)

    for name, data in calls.all.items():
        code = calling_init_code(credit.address, data)
        request = {"from": outsider, "to": "", "data": "0x" + code.hex(), "gas": GAS, "gas_price": 10**9}
        with pytest.raises(TransactionFailed) as failure:
            credit.chain.tester.call(request)
        assert credit.error(revert_data(failure.value)) == ("NotPlainAccount", contract), name


# ---------------------------------------------------------------- EIP-7702


def delegate(chain, account, target, to=ZERO, data=b""):
    """Send a transaction of type 4 with the account's own authorization; returns its receipt."""
    key = chain.keys[account].to_bytes()
    nonce = int(chain.rpc("eth_getTransactionCount", account, "latest"), 16)
    chain_id = chain.backend.chain.chain_id
    # The sender's nonce is raised before its authorization is looked at.
    authorization = Account.sign_authorization({"chainId": chain_id, "address": target, "nonce": nonce + 1}, key)
    signed = Account.sign_transaction(
        {
            "type": 4,
            "chainId": chain_id,
            "nonce": nonce,
            "to": to,
            "value": 0,
            "data": data,
            "gas": 1_000_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 0,
            "authorizationList": [authorization],
        },
        key,
    )
    digest = chain.rpc("eth_sendRawTransaction", "0x" + signed.raw_transaction.hex())
    return chain.receipt(digest)


def test_contribute__by_a_delegated_account__reverts_with_not_plain_account():
    with AnvilChain("prague") as chain:
        credit = credit_on(chain, 5)
        inquiry = credit.inquiry()
        account, outsider = credit.bank(1).account, credit.council.outsider
        data = credit.encoded("contribute", inquiry.id, 1, inquiry.payload())
        made = chain.transact(outsider, "", creation_code(forwarding_code(credit.address)))
        assert credit.refusal_of(account, data) is None

        delegate(chain, account, to_checksum_address(made["contract_address"]))

        assert chain.rpc("eth_getCode", account, "latest") == "0xef0100" + made["contract_address"][2:].lower()
        # By itself; by itself through its code; by anybody through its code.
        assert credit.refusal_of(account, data) == ("NotPlainAccount", account)
        assert credit.refusal_of(account, data, through=account) == ("NotPlainAccount", account)
        assert credit.refusal_of(outsider, data, through=account) == ("NotPlainAccount", account)
        for sender, to in ((account, credit.address), (account, account), (outsider, account)):
            with pytest.raises(AssertionError):
                chain.transact(sender, to, data)
        assert inquiry.status["awaited"] == 0b11110


def test_contribute__in_the_transaction_that_delegates_or_withdraws__goes_by_the_code_after_it():
    with AnvilChain("prague") as chain:
        credit = credit_on(chain, 5)
        inquiry = credit.inquiry()
        account = credit.bank(1).account
        data = credit.encoded("contribute", inquiry.id, 1, inquiry.payload())

        delegating = delegate(chain, account, credit.council.address, credit.address, data)
        assert int(delegating["status"], 16) == 0
        assert credit.refusal_of(account, data) == ("NotPlainAccount", account)

        withdrawing = delegate(chain, account, ZERO, credit.address, data)
        assert int(withdrawing["status"], 16) == 1
        assert inquiry.status["awaited"] == 0b11100
