"""Read and write the ledger through one Ethereum node: `ChainLedger` and `ChainSigner` implement the ports.

Any node with standard JSON-RPC will do, from Berlin rules on; blocks of proof-of-authority chains are understood.
Nothing that web3 raises leaves this module: a revert becomes what `faults` makes of it, everything else a `LedgerError`
that says whose move it is. Whether the node tells the truth is left to the callers, apart from what costs nothing to
check here: chain id, hashes of transactions, and that logs stand where they were asked for, each once.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from eth_utils.address import is_address, to_checksum_address
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.exceptions import BlockNotFound, TransactionNotFound, Web3RPCError
from web3.middleware import ExtraDataToPOAMiddleware
from web3.providers.rpc.utils import ExceptionRetryConfiguration
from web3.types import BlockIdentifier, RPCEndpoint, TxParams

from mpcredit.chain import faults
from mpcredit.chain.artifacts import Artifact, abi_type, consortium, joint_credit
from mpcredit.chain.decode import Log, decode_log
from mpcredit.chain.endpoints import Endpoints, EndpointState, Tls, shown
from mpcredit.chain.gas import gas_bound
from mpcredit.chain.transactions import parse_signed, serialise
from mpcredit.encoding import abi_decode, keccak, to_hex
from mpcredit.errors import (
    FeeTooLow,
    LedgerError,
    MpcreditError,
    NodeRefused,
    TooLarge,
    TransactionFailed,
    WrongLedger,
)
from mpcredit.events import Call, Event, JointCreditReplaced, Position
from mpcredit.limits import TRANSACTION_GAS
from mpcredit.pairkeys import Realm
from mpcredit.ports import Block, Ledger, Outcome, Signed, Signer, Taken

__all__ = ["Account", "ChainLedger", "ChainSigner", "Endpoint", "Wallet", "connect", "several"]

REQUEST_SECONDS = 30.0
"""How long one request may take: a get_logs over many blocks on a small node takes seconds."""
FIRST_RANGE = 5_000
"""Blocks of the first get_logs; the range then follows what the node takes."""
LARGEST_RANGE = 100_000
TIMESTAMPS_KEPT = 10_000
GAS_MARGIN_PERCENT = 10
GAS_MARGIN = 5_000
"""An estimate is made for the present state. The margin pays for slots that turn from used to fresh meanwhile."""
BASE_FEE_FACTOR = 4
"""Twelve full blocks make the base fee rise so far: until then nothing needs to be signed anew."""
DEFAULT_PRIORITY_FEE = 10**9
"""In wei, where the node suggests none."""
FEE_BLOCKS = 10
"""Blocks whose tips are looked at; the median of what half the gas of each paid at most."""
RAISE_DENOMINATOR = 8
"""A replacement must offer an eighth more in both fees: nodes ask for 10 percent, some for 12.5."""
MINED_SECONDS = 120.0
TIMED = frozenset({"TooEarly", "CohortTooSmall", "CohortMoved", "NotRepeatable", "NotServing"})
"""Refusals that can be over by the next block, without anybody's transaction in between."""

_T = TypeVar("_T")
Account = LocalAccount | str
"""A key that this process holds, or the address of one that an external signer holds."""


_FEE_WORDS = (
    "underpriced",  # geth, Anvil, Erigon, Nethermind's "ReplacementNotAllowed" follows
    "replacementnotallowed",
    "feetoolow",
    "fee too low",
    "price too low",
    "price below",
    "less than block base fee",
    "lower than the current base fee",
    "less than the base fee",
    "fee per gas too low",
    "max fee per gas less",
    "maxfeepergas",
    "below configured minimum",  # Besu
    "gas price less than",
    "below the minimum",
)
_SIZE_WORDS = (
    "oversized data",  # geth, Erigon, Reth
    "maxtxsizeexceeded",  # Nethermind
    "exceeds block gas limit",  # geth, Besu
    "gaslimitexceeded",  # Nethermind
    "intrinsic gas too high",  # Anvil
    "transaction gas limit too high",  # geth, EIP-7825
    "gas required exceeds allowance",  # an estimate that no block could hold
)
"""What a node says of a transaction that it will not take later either."""


class NotFound(LedgerError):
    """The node does not know the block or transaction."""


def connect(endpoint: str | Web3, *, timeout: float = REQUEST_SECONDS, tls: Tls | None = None) -> Web3:
    """Make a web3 client for a node's URL, or make an existing one fit. Asks the node nothing.

    Args:
        endpoint: `http://` or `https://` URL of a node's JSON-RPC, or a client.
        timeout: seconds for one request, for a URL.
        tls: how an https connection is made, for a URL.
    """
    if isinstance(endpoint, Web3):
        web3 = endpoint
    else:
        if urlsplit(endpoint).scheme not in ("http", "https"):
            raise LedgerError(
                "the node's address is no http:// or https:// URL",
                remedy="give the URL of the node's JSON-RPC, for example http://127.0.0.1:8545",
            )
        retries = ExceptionRetryConfiguration(errors=(ConnectionError, TimeoutError), retries=2, backoff_factor=0.1)
        options = {"timeout": timeout, **(tls or Tls()).options()}
        web3 = Web3(HTTPProvider(endpoint, request_kwargs=options, exception_retry_configuration=retries))
    if "mpcredit-poa" not in web3.middleware_onion:
        web3.middleware_onion.inject(cast(Any, ExtraDataToPOAMiddleware), name="mpcredit-poa", layer=0)
    return web3


def several(urls: Sequence[str], **options: Any) -> Web3:
    """A client of several nodes of one ledger; for the options see `Endpoints`. Asks them nothing yet."""
    return Web3(Endpoints(urls, **options))


class Endpoint:
    """One node, asked in such a way that only our exceptions come back."""

    def __init__(self, web3: Web3 | str) -> None:
        self.web3 = connect(web3)

    @property
    def name(self) -> str:
        """The node's address without credentials, for messages."""
        url = str(getattr(self.web3.provider, "endpoint_uri", "") or "")
        parts = urlsplit(url)
        if not parts.hostname:
            return "the ledger's node"
        return f"the node at {parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    def ask(self, doing: str, question: Callable[[], _T]) -> _T:
        """Put one question to the node.

        Args:
            doing: what the answer is needed for, for messages ("read the newest block").

        Raises:
            ContractRefused, TransactionFailed: the contract reverted.
            LedgerError: anything else went wrong between the question and the answer.
        """
        try:
            return question()
        except MpcreditError:
            raise
        except (BlockNotFound, TransactionNotFound) as error:
            raise NotFound(
                f"{self.name} does not have what was asked for ({doing})", remedy="wait until it has caught up"
            ) from error
        except Exception as error:
            # Transport, web3, its formatters and eth-tester raise dozens of types; all mean that no good answer came.
            raise self._translate(doing, error) from error

    def _translate(self, doing: str, error: Exception) -> MpcreditError:
        data = faults.revert_data(error)
        if data is not None:
            return faults.fault(data)
        names = {kind.__name__ for kind in type(error).__mro__}
        if isinstance(error, Web3RPCError) or "eth_tester" in type(error).__module__ or "ValidationError" in names:
            return self._refusal(doing, _node_message(error))
        if names & {"Timeout", "TimeoutError", "ReadTimeout"}:
            return LedgerError(
                f"{self.name} did not answer in time ({doing})",
                remedy="try again; if it persists, its operator must look at the node's load and log",
            )
        if "SSLError" in names:
            return LedgerError(
                f"{self.name} is not trusted, or wants a client certificate ({doing})",
                remedy="name its authority as [ledger] ca, and your certificate as client_certificate and client_key",
            )
        if isinstance(error, OSError):  # requests' exceptions are OSErrors too
            return LedgerError(
                f"{self.name} cannot be reached ({doing}: {type(error).__name__})",
                remedy="start the node, or correct its URL in the configuration",
            )
        return LedgerError(
            f"{self.name} gave an answer that makes no sense ({doing}: {type(error).__name__})",
            remedy="check that the URL is that of an Ethereum node's JSON-RPC and which version the node runs",
        )

    def _refusal(self, doing: str, message: str) -> LedgerError:
        lower = message.lower()
        if "already known" in lower or "known transaction" in lower or "already imported" in lower:
            remedy = "nothing: the node has it"
        elif any(words in lower for words in _FEE_WORDS):
            return FeeTooLow(
                f"{self.name} refused ({doing}): {message}",
                remedy="the fee is raised by itself up to the ceiling ([ledger] max_fee_gwei)",
            )
        elif any(words in lower for words in _SIZE_WORDS):
            return TooLarge(
                f"{self.name} refused ({doing}): {message}",
                remedy="it takes no transaction of this size: send less at once, for example ask about fewer subjects",
            )
        elif "insufficient funds" in lower or "insufficient balance" in lower or "cannot afford" in lower:
            remedy = "fund the account: it must be able to pay the transaction's full gas limit at its maximum fee"
        elif "nonce" in lower:
            remedy = "another transaction of this account took the nonce: one program at a time may use an account"
        elif "gas limit" in lower or "exceeds" in lower:
            remedy = "the call needs more gas than the node or a block permits: raise the limit, or send less at once"
        else:
            remedy = "look at the node's log; perhaps try again"
        return NodeRefused(f"{self.name} refused ({doing}): {message}", remedy=remedy)

    def raw(self, doing: str, method: str, parameters: list[Any]) -> Any:
        """Call a JSON-RPC method that web3 has no function for."""
        return self.ask(doing, lambda: self.web3.manager.request_blocking(RPCEndpoint(method), parameters))

    def chain_id(self, expected: int | None) -> int:
        """Ask for the chain id.

        Raises:
            WrongLedger: it is not the expected one.
        """
        actual = self.ask("read the chain id", lambda: self.web3.eth.chain_id)
        if not isinstance(actual, int) or not 0 < actual < 2**53:
            raise WrongLedger(f"{self.name} has no usable chain id", remedy="correct the node's URL")
        if expected is not None and actual != expected:
            raise WrongLedger(
                f"{self.name} belongs to chain {actual}, the consortium to chain {expected}",
                remedy="correct the node's URL or the chain id in the configuration",
            )
        return actual

    def block(self, place: int | str) -> Block | None:
        """A block by number or as "latest"; None if the node does not have it."""
        try:
            found = self.ask("read a block", lambda: self.web3.eth.get_block(cast(Any, place)))
        except NotFound:
            return None
        return Block(number=int(found["number"]), hash=bytes(found["hash"]), timestamp=int(found["timestamp"]))


def _node_message(error: Exception) -> str:
    response = getattr(error, "rpc_response", None)
    inner = response.get("error") if isinstance(response, dict) else None
    if isinstance(inner, dict) and inner.get("message"):
        return str(inner["message"])[:300]
    return str(error)[:300]


def _checksum(address: str) -> ChecksumAddress:
    if not is_address(address):
        raise WrongLedger(f"{address!r} is not an Ethereum address", remedy="give 0x and 40 hexadecimal digits")
    return to_checksum_address(address)


# --------------------------------------------------------------------- reading


class ChainLedger:
    """The ledger port over one node (`ports.Ledger`). Threads may share it.

    Args:
        web3: client or URL of the node.
        consortium_address: of the Consortium contract.
        chain_id: the chain it must be; None accepts the node's.
        first_block: the block in which the Consortium was created, if known; else it is searched for.

    Raises:
        WrongLedger: another chain, or no Consortium at the address.
        LedgerError: the node cannot be asked.
    """

    def __init__(
        self, web3: Web3 | str, consortium_address: str, *, chain_id: int | None = None, first_block: int | None = None
    ) -> None:
        self.endpoint = Endpoint(web3)
        self.web3 = self.endpoint.web3
        address = _checksum(consortium_address)
        self._realm = Realm(chain_id=self.endpoint.chain_id(chain_id), consortium=address)
        self._lock = threading.RLock()
        self._several = self.web3.provider if isinstance(self.web3.provider, Endpoints) else None
        self._mine = threading.local()
        self._first_block = first_block
        self._joint_credits: set[str] = set()
        self._learned: Block | None = None
        """Up to which block the creations of JointCredits are known."""
        self._range = FIRST_RANGE
        self._timestamps: dict[bytes, int] = {}
        self.name = self._check_consortium()

    def _check_consortium(self) -> str:
        address = cast(ChecksumAddress, self._realm.consortium)
        remedy = "ask the consortium for the address and the chain id, and correct the configuration"
        if not self.endpoint.ask("read the consortium's code", lambda: self.web3.eth.get_code(address)):
            raise WrongLedger(f"there is no contract at {address} on chain {self._realm.chain_id}", remedy=remedy)
        try:
            answer = self.call(Call("consortium", "name"))
            self.call(Call("consortium", "roster"))  # a token has a name too
        except MpcreditError as error:
            if isinstance(error, LedgerError) and not isinstance(error, (NodeRefused, TransactionFailed)):
                raise
            raise WrongLedger(f"the contract at {address} is not a Consortium", remedy=remedy) from error
        return str(answer)

    @classmethod
    def connect(cls, endpoint: str | Web3, consortium_address: str, *, chain_id: int | None = None) -> ChainLedger:
        """The constructor under the name that reads well at the edges."""
        return cls(endpoint, consortium_address, chain_id=chain_id)

    @property
    def realm(self) -> Realm:
        """Chain id and Consortium address."""
        return self._realm

    def call(self, call: Call, *, at: int | str = "latest", sender: str | None = None) -> Any:
        """Call a view of a contract and decode what it returns (several values as a tuple).

        Raises:
            ContractRefused: it reverted.
        """
        artifact, target = _target(call, self._realm.consortium)
        request = cast(TxParams, {"to": target, "data": HexBytes(artifact.call_data(call.function, call.arguments))})
        if sender is not None:
            request["from"] = _checksum(sender)
        answer = self.endpoint.ask(
            f"read {artifact.name}.{call.function}", lambda: self.web3.eth.call(request, cast(Any, at))
        )
        return self.endpoint.ask(
            f"read {artifact.name}.{call.function}", lambda: _answer(artifact, call.function, bytes(answer))
        )

    def head(self) -> Block:
        """The newest block."""
        if self._several is None:
            found = self.endpoint.block("latest")
        else:
            self._several.tend()
            generation = -1
            while generation != self._several.generation:  # what is told next must come from whoever told this
                generation = self._several.generation
                found = self.endpoint.block("latest")
            self._mine.generation = generation
        if found is None:
            raise LedgerError(f"{self.endpoint.name} has no blocks yet", remedy="wait until it has caught up")
        return found

    def block(self, number: int) -> Block | None:
        """The block at a height, None above the head."""
        return self.endpoint.block(number)

    def first_block(self) -> int:
        """The block in which the Consortium was created, or an earlier one (a node without old state cannot tell)."""
        with self._lock:
            if self._first_block is None:
                self._first_block = self._search_first_block()
            return self._first_block

    def _search_first_block(self) -> int:
        address = cast(ChecksumAddress, self._realm.consortium)
        low, high = 0, self.head().number
        while low < high:
            middle = (low + high) // 2
            try:
                code = self.endpoint.ask(
                    "look for the consortium's first block", partial(self.web3.eth.get_code, address, middle)
                )
            except (NodeRefused, NotFound):
                return 0
            low, high = (low, middle) if code else (middle + 1, high)
        return low

    # ----------------------------------------------------------------- events

    def events(self, first: int, last: int) -> Sequence[Event]:
        """All events of the Consortium and of every JointCredit it has created, in ledger order, both ends included.

        Raises:
            LedgerError: also when the chain was reorganised while it was read, or a log cannot be right; ask again.
        """
        before = getattr(self._mine, "generation", None)
        with self._lock:
            last = min(last, self.head().number)
            self._check_generation(before)
            first = max(first, 0)
            if last < first:
                return ()
            # (1) Which contracts are ours, up to `last`.
            self._learn(last)
            # (2) Their logs; (3) in order, each once, with the time of its block.
            addresses = [self._realm.consortium, *sorted(self._joint_credits)]
            found = self._decode(self._logs(first, last, addresses, None))
            self._check_generation(before)
            return found

    def _check_generation(self, before: int | None) -> None:
        """Head and events must come from one endpoint: the next one may know fewer blocks, and would leave events out."""
        if self._several is not None and before is not None and self._several.generation != before:
            raise LedgerError("another endpoint answers since the head was read", remedy="it is tried again by itself")

    def joint_credits(self) -> frozenset[str]:
        """Addresses of all JointCredits that the Consortium has created up to the newest block."""
        with self._lock:
            self._learn(self.head().number)
            return frozenset(self._joint_credits)

    def _learn(self, last: int) -> None:
        """Learn of the JointCredits created up to a block; that counts while the block is on the chain."""
        if self._learned is not None:
            there = self.block(self._learned.number)
            if there is None or there.hash != self._learned.hash:
                self._learned, self._joint_credits = None, set()
        start = self.first_block() if self._learned is None else self._learned.number + 1
        if start > last:
            return
        # The block is read before the logs: if it is replaced in between, the next call notices and learns anew.
        end = self.block(last)
        topic = next(topic for topic, entry in consortium().topics().items() if entry["name"] == "JointCreditReplaced")
        for event in self._decode(self._logs(start, last, [self._realm.consortium], [to_hex(topic)])):
            if isinstance(event, JointCreditReplaced) and int(event.current, 16):
                self._joint_credits.add(event.current)
        self._learned = end

    def _logs(self, first: int, last: int, addresses: Sequence[str], topics: list[str] | None) -> list[Log]:
        """Ask for logs in ranges of blocks; a range that the node refuses is halved. Their times are not known yet."""
        found: list[Log] = []
        start = first
        while start <= last:
            end = min(start + self._range - 1, last)
            wanted: dict[str, Any] = {"fromBlock": start, "toBlock": end, "address": list(addresses)}
            if topics is not None:
                wanted["topics"] = topics
            try:
                logs = self.endpoint.ask(f"read the events of blocks {start} to {end}", partial(self._ask_logs, wanted))
            except NodeRefused:
                if end == start:
                    raise
                self._range = max(1, (end - start + 1) // 2)
                continue
            for log in logs:
                if not start <= log.at.block <= end or log.at.contract not in addresses:
                    raise self._nonsense(f"a log of block {log.at.block} that was not asked for")
            found += logs
            if end - start + 1 == self._range:
                self._range = min(self._range * 2, LARGEST_RANGE)
            start = end + 1
        return found

    def _ask_logs(self, wanted: dict[str, Any]) -> list[Log]:
        return [
            Log(
                at=Position(
                    block=int(log["blockNumber"]),
                    block_hash=bytes(log["blockHash"]),
                    log_index=int(log["logIndex"]),
                    timestamp=0,
                    transaction=bytes(log["transactionHash"]),
                    contract=to_checksum_address(log["address"]),
                ),
                topics=tuple(bytes(topic) for topic in log["topics"]),
                data=bytes(log["data"]),
            )
            for log in self.web3.eth.get_logs(cast(Any, wanted))
            if not log.get("removed")
        ]

    def _decode(self, logs: Iterable[Log]) -> tuple[Event, ...]:
        """Put logs in ledger order, each once, with the time of its block, and decode them."""
        placed: dict[tuple[int, int], Log] = {}
        hashes: dict[int, bytes] = {}
        for log in logs:
            if hashes.setdefault(log.at.block, log.at.block_hash) != log.at.block_hash:
                raise LedgerError(f"block {log.at.block} was replaced while it was read", remedy="read it again")
            if placed.setdefault((log.at.block, log.at.log_index), log) != log:
                raise self._nonsense(f"two different logs at index {log.at.log_index} of block {log.at.block}")
        times = {number: self._timestamp(number, block_hash) for number, block_hash in hashes.items()}
        ours = self._realm.consortium
        return tuple(
            decode_log(
                consortium() if log.at.contract == ours else joint_credit(),
                replace(log, at=replace(log.at, timestamp=times[log.at.block])),
            )
            for _place, log in sorted(placed.items(), key=lambda item: item[0])
        )

    def _nonsense(self, what: str) -> LedgerError:
        return LedgerError(
            f"{self.endpoint.name} returned {what}", remedy="compare it with another node; trust neither yet"
        )

    def _timestamp(self, number: int, block_hash: bytes) -> int:
        known = self._timestamps.get(block_hash)
        if known is not None:
            return known
        try:
            block = self.endpoint.ask("read a block", lambda: self.web3.eth.get_block(HexBytes(block_hash)))
        except NotFound:
            raise LedgerError(f"block {number} was replaced while it was read", remedy="read it again") from None
        if int(block["number"]) != number or bytes(block["hash"]) != block_hash:
            raise self._nonsense(f"another block for the hash {to_hex(block_hash)}")
        if len(self._timestamps) >= TIMESTAMPS_KEPT:
            del self._timestamps[next(iter(self._timestamps))]
        self._timestamps[block_hash] = int(block["timestamp"])
        return self._timestamps[block_hash]

    # ----------------------------------------------------------------- several endpoints

    def endpoints(self) -> list[EndpointState]:
        """How each endpoint is, as far as is known; asks nothing."""
        if self._several is not None:
            return self._several.states()
        return [EndpointState(shown(str(getattr(self.web3.provider, "endpoint_uri", ""))), "in use", "", None)]

    def witness(self, head: Block, roster: bytes, *, at_once: bool = False) -> None:
        """Have another endpoint, where there is one, bear out what was read of this one up to a head; now and then.

        Args:
            at_once: whether or not it is time.

        Raises:
            EndpointsDisagree: they show different ledgers; nothing that is read may be acted on.
        """
        if self._several is not None:
            self._several.witness(head, roster, at_once=at_once)

    def doubt(self, why: str) -> None:
        """The endpoint contradicts itself: read from another one, where there is one."""
        if self._several is not None:
            self._several.doubt(why)

    # ----------------------------------------------------------------- transactions

    def outcome(self, transaction: bytes) -> Outcome | None:
        """What became of a transaction, None while it is not mined."""
        return _outcome(self.endpoint, transaction)

    def failure(self, transaction: bytes) -> MpcreditError | None:
        """Why a mined transaction failed, as the exception to raise; None if it succeeded or is not mined.

        The call is repeated on the state after its block and, if it passes there, before it: a good guess.
        """
        return _failure(self.endpoint, transaction)

    def transaction(self, transaction: bytes) -> bytes:
        """The signed transaction, as sent, whose keccak is its hash (for evidence).

        Raises:
            LedgerError: the node does not know it, or what it returned is not that transaction.
        """
        found = self.endpoint.ask("read a transaction", lambda: self.web3.eth.get_transaction(HexBytes(transaction)))
        raw = self.endpoint.ask("read a transaction", lambda: serialise(found))
        if keccak(raw) != transaction:
            raise self._nonsense(f"another transaction for the hash {to_hex(transaction)}")
        return raw

    def signed_by(self, transaction: bytes, call: Call) -> str | None:
        """See `ports.Ledger`."""
        artifact, target = _target(call, self._realm.consortium)
        try:
            found = self.endpoint.ask(
                "read a transaction", lambda: self.web3.eth.get_transaction(HexBytes(transaction))
            )
            raw = serialise(found)
            said = parse_signed(raw)
        except (NotFound, KeyError, TypeError, ValueError):
            return None
        if keccak(raw) != transaction:
            return None
        wanted = (target, artifact.call_data(call.function, call.arguments), self._realm.chain_id)
        return said.sender if (said.to, said.data, said.chain_id) == wanted else None


def _target(call: Call, consortium_address: str) -> tuple[Artifact, ChecksumAddress]:
    if call.contract == "consortium":
        return consortium(), cast(ChecksumAddress, consortium_address)
    return joint_credit(), _checksum(call.contract)


def _answer(artifact: Artifact, function: str, data: bytes) -> Any:
    types = [abi_type(given) for given in artifact.entries("function")[function]["outputs"]]
    values = abi_decode(types, data)
    return values[0] if len(values) == 1 else values


def _outcome(endpoint: Endpoint, transaction: bytes) -> Outcome | None:
    try:
        receipt = endpoint.ask(
            "read a receipt", lambda: endpoint.web3.eth.get_transaction_receipt(HexBytes(transaction))
        )
    except NotFound:
        return None
    if receipt.get("blockNumber") is None:
        return None
    return Outcome(
        succeeded=receipt["status"] == 1, block=int(receipt["blockNumber"]), gas_used=int(receipt["gasUsed"])
    )


def _failure(endpoint: Endpoint, transaction: bytes) -> MpcreditError | None:
    outcome = _outcome(endpoint, transaction)
    if outcome is None or outcome.succeeded:
        return None
    sent = endpoint.ask("read a transaction", lambda: endpoint.web3.eth.get_transaction(HexBytes(transaction)))
    again = cast(TxParams, {"from": sent["from"], "data": sent["input"], "gas": sent["gas"], "value": sent["value"]})
    if sent.get("to"):
        again["to"] = sent["to"]
    for number in (outcome.block, outcome.block - 1):
        try:
            endpoint.ask("repeat a failed call", partial(endpoint.web3.eth.call, again, number))
        except (faults.ContractRefused, TransactionFailed) as error:
            return error
        except LedgerError:
            continue
    used_up = outcome.gas_used >= int(sent["gas"])
    return TransactionFailed(
        f"transaction {to_hex(transaction)} failed in block {outcome.block}"
        + (": it used up its gas" if used_up else ", and the call does not fail when it is repeated"),
        remedy="send it again" if used_up else "look at the ledger: what it was meant to do may have been done already",
    )


# --------------------------------------------------------------------- writing


@dataclass(frozen=True)
class _Market:
    """What the ledger asks for a unit of gas, in wei."""

    base: int
    """Base fee of the next block; 0 where there is none."""
    tip: int
    """On top of it; the gas price where there is no base fee."""


def _quantity(value: Any) -> int:
    return int(value, 16) if isinstance(value, str) else int(value)


def _eighth_more(fee: int) -> int:
    return fee + -(-fee // RAISE_DENOMINATOR)


def _dynamic(max_fee: int, tip: int) -> dict[str, int]:
    return {"type": 2, "maxFeePerGas": max_fee, "maxPriorityFeePerGas": min(tip, max_fee)}


def _gwei(wei: int) -> str:
    return f"{wei / 10**9:g}"


class Wallet:
    """One account at one node: makes, signs and sends its transactions. Threads may share it.

    Args:
        web3: client or URL of the node.
        account: a key of this process, or the address of one that an external signer holds.
        chain_id: the chain it must be; None accepts the node's.
        signing: client or URL of the external signer (`eth_signTransaction`), by default the node.
        priority_fee: in wei; None asks the node.
        max_fee: ceiling of what is offered for a unit of gas, in wei; None: there is none.
    """

    def __init__(
        self,
        web3: Web3 | str,
        account: Account,
        *,
        chain_id: int | None = None,
        signing: Web3 | str | None = None,
        priority_fee: int | None = None,
        max_fee: int | None = None,
    ) -> None:
        self.endpoint = Endpoint(web3)
        self.web3 = self.endpoint.web3
        self.chain_id = self.endpoint.chain_id(chain_id)
        self._account = account
        self._address = _checksum(account if isinstance(account, str) else account.address)
        self._signing = self.endpoint if signing is None else Endpoint(signing)
        self._priority_fee = priority_fee
        self._max_fee = max_fee
        self._sending = threading.Lock()

    @property
    def address(self) -> str:
        """Checksum address of the account."""
        return self._address

    def balance(self) -> int:
        """What the account owns, in wei."""
        return int(self.endpoint.ask("read the balance", lambda: self.web3.eth.get_balance(self._address)))

    def nonce(self, *, pending: bool = False) -> int:
        """Number of transactions the account has on the ledger, mined (or, if asked for, waiting as well)."""
        place: Any = "pending" if pending else "latest"
        return self.endpoint.ask(
            "read the account's nonce", lambda: self.web3.eth.get_transaction_count(self._address, place)
        )

    def prepare(
        self, to: str | None, data: bytes, nonce: int, *, judged_at: int = 0, bound: int | None = None
    ) -> Signed:
        """Make and sign a transaction: estimate its gas, choose its fee, sign.

        Args:
            judged_at: least time of the block for which it was made, unix seconds; 0: any.
            bound: gas that suffices for it, for a node that cannot judge it at that time; None: not known.

        Raises:
            ContractRefused, TransactionFailed: it would revert now.
            LedgerError: the node or the signer does not answer, or the signer signed something else.
        """
        # (1) Gas, with a margin, below what a block takes.
        call = cast(TxParams, {"from": self._address, "data": HexBytes(data), "value": 0})
        if to is not None:
            call["to"] = _checksum(to)
        latest = self.endpoint.ask("read the newest block", lambda: self.web3.eth.get_block("latest"))
        ahead = judged_at > int(latest["timestamp"])
        estimate = self._estimate_ahead(call, judged_at, bound) if ahead else self._estimate(call)
        gas = min(estimate * (100 + GAS_MARGIN_PERCENT) // 100 + GAS_MARGIN, int(latest["gasLimit"]))
        if estimate <= TRANSACTION_GAS:
            gas = min(gas, TRANSACTION_GAS)  # the margin alone must not take it above the cap of EIP-7825
        # (2) Everything is explicit, so that a signer has nothing to fill in.
        fields: dict[str, Any] = {
            "chainId": self.chain_id,
            "nonce": nonce,
            "gas": max(gas, estimate),
            "value": 0,
            "data": HexBytes(data),
            **self._fees(latest.get("baseFeePerGas")),
        }
        if to is not None:
            fields["to"] = _checksum(to)
        # (3) Sign.
        raw = self._sign(fields)
        return Signed(raw=raw, hash=keccak(raw), nonce=nonce)

    def _estimate(self, call: TxParams, place: BlockIdentifier | None = None) -> int:
        return self.endpoint.ask("estimate gas", lambda: self.web3.eth.estimate_gas(call, place))

    def _estimate_ahead(self, call: TxParams, judged_at: int, bound: int | None) -> int:
        """Gas of a call in the block that comes next.

        On the newest block, a call can be refused that the next block takes: for example an opening, where no block was
        made since the period of readiness began. Some nodes take the newest block for the pending one, or know none.
        """
        try:
            return self._estimate(call, "pending")
        except (faults.ContractRefused, NodeRefused) as error:
            lasting = (
                error.code not in TIMED if isinstance(error, faults.ContractRefused) else isinstance(error, TooLarge)
            )
            if bound is None or lasting or self._pending_time() >= judged_at:
                raise
            return bound

    def _pending_time(self) -> int:
        """At which time the node judges a call in the pending block; 0 where it has none."""
        try:
            return int(
                self.endpoint.ask("read the pending block", lambda: self.web3.eth.get_block("pending")["timestamp"])
            )
        except LedgerError:
            return 0

    def _fees(self, base_fee: int | None) -> dict[str, int]:
        """What to offer now, below the ceiling: a ledger that asks for more than that makes it wait.

        Args:
            base_fee: of the newest block, in wei; None where the ledger has none.
        """
        market = self._market(base_fee)
        if base_fee is None:
            return {"gasPrice": self._capped(market.tip)}  # no "type": what is not typed is a legacy transaction
        return _dynamic(self._capped(BASE_FEE_FACTOR * market.base + market.tip), market.tip)

    def _capped(self, fee: int) -> int:
        return fee if self._max_fee is None else min(fee, self._max_fee)

    def _market(self, base_fee: int | None) -> _Market:
        """What the ledger asks for now. Zero is an answer: chains of a consortium often have no fees."""
        if base_fee is None:
            return _Market(0, int(self.endpoint.ask("read the gas price", lambda: self.web3.eth.gas_price)))
        base, tips = self._fee_history(int(base_fee))
        if self._priority_fee is not None:
            return _Market(base, self._priority_fee)
        if tips and (base == 0 or statistics.median_low(tips)):
            return _Market(base, statistics.median_low(tips))
        # Without a base fee and without others who paid, nothing is asked for: what a node suggests then is a habit.
        return _Market(base, 0 if base == 0 else self._suggested_tip())

    def _suggested_tip(self) -> int:
        try:
            return self.raw_int("eth_maxPriorityFeePerGas")
        except LedgerError:
            return DEFAULT_PRIORITY_FEE

    def _fee_history(self, base_fee: int) -> tuple[int, list[int]]:
        """The next block's base fee, and what was paid on top in the blocks that had transactions (eth_feeHistory)."""
        try:
            told = self.endpoint.raw("read past fees", "eth_feeHistory", [hex(FEE_BLOCKS), "latest", [50]])
            base = max(base_fee, _quantity(told["baseFeePerGas"][-1]))
            used = told["gasUsedRatio"]
            rewards = told.get("reward") or []
            return base, [_quantity(one[0]) for one, ratio in zip(rewards, used, strict=False) if ratio > 0]
        except (LedgerError, KeyError, IndexError, TypeError, ValueError):  # not every node has it
            return base_fee, []

    def raw_int(self, method: str) -> int:
        """A JSON-RPC method without parameters that answers with a number."""
        answer = self.endpoint.raw(f"call {method}", method, [])
        return int(answer, 16) if isinstance(answer, str) else int(answer)

    def raised(self, signed: bytes) -> Signed | None:
        """The same transaction with fees an eighth higher, or as high as is asked for now; None where none are paid.

        Raises:
            FeeTooLow: the ceiling does not permit it.
            LedgerError: the account could not pay it; a version that no node takes must not replace one that was taken.
        """
        said = parse_signed(signed)
        latest = self.endpoint.ask("read the newest block", lambda: self.web3.eth.get_block("latest"))
        market, balance = self._market(latest.get("baseFeePerGas")), self.balance()
        if not said.max_fee and market == _Market(0, 0) and balance:
            market = _Market(0, self._suggested_tip())
        least = _eighth_more(said.max_fee)
        tip = max(_eighth_more(said.tip), market.tip)
        offer = max(least, BASE_FEE_FACTOR * market.base + market.tip, tip)
        if (offer, tip) == (said.max_fee, said.tip):
            return None
        if self._capped(least) < least:
            raise FeeTooLow(
                f"the ledger asks for {_gwei(market.base + market.tip)} gwei, {_gwei(said.max_fee)} are offered, and the "
                f"ceiling is {_gwei(self._max_fee or 0)}",
                remedy="wait until fees fall, or raise [ledger] max_fee_gwei and restart",
            )
        offer = self._capped(offer)
        if balance < offer * said.gas + said.value:
            raise LedgerError(
                f"the account {self._address} has not the {offer * said.gas / 10**18:.6f} ether that the fee may come to",
                remedy="fund the account",
            )
        fields: dict[str, Any] = {
            "chainId": self.chain_id,
            "nonce": said.nonce,
            "gas": said.gas,
            "value": said.value,
            "data": HexBytes(said.data),
            **({"gasPrice": offer} if said.kind == 0 else _dynamic(offer, tip)),
        }
        if said.to is not None:
            fields["to"] = _checksum(said.to)
        raw = self._sign(fields)
        return Signed(raw=raw, hash=keccak(raw), nonce=said.nonce)

    def taker(self, nonce: int) -> Taken | None:
        """The mined transaction of this account with a nonce; None if the node does not show it.

        Found by the account's count at earlier blocks, of which most nodes keep the newest 128.
        """
        try:
            # (1) Backwards in growing steps to a block before it, (2) then by halves to the first block with it.
            high = self.endpoint.ask("read the newest block's number", lambda: int(self.web3.eth.block_number))
            if self._count_at(high) <= nonce:
                return None
            low, step = high, 1
            while low >= 0 and self._count_at(low) > nonce:
                high, low, step = low, low - step, step * 2
            low = max(low, -1)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if self._count_at(middle) > nonce else (middle, high)
            block = self.endpoint.ask("read a block", lambda: self.web3.eth.get_block(high, full_transactions=True))
        except (NodeRefused, NotFound):
            return None
        # (3) Only this account's signature proves it.
        for found in cast(Sequence[Any], block["transactions"]):
            if (str(found["from"]).lower(), int(found["nonce"])) != (self._address.lower(), nonce):
                continue
            try:
                raw = serialise(self.endpoint.ask("read a transaction", partial(self._transaction, found["hash"])))
                said = parse_signed(raw)
            except (LedgerError, KeyError, ValueError):  # of a type that we do not make, for example
                return None
            # A transaction of the account on another chain is signed by it too, and says nothing about this one.
            ours = (said.sender, said.nonce) == (self._address, nonce) and said.chain_id in (None, self.chain_id)
            return Taken(keccak(raw), high) if ours else None
        return None

    def _transaction(self, hash_: HexBytes) -> Any:
        return self.web3.eth.get_transaction(hash_)

    def _count_at(self, block: int) -> int:
        return self.endpoint.ask(
            "read the account's nonce", lambda: self.web3.eth.get_transaction_count(self._address, cast(Any, block))
        )

    def _sign(self, fields: dict[str, Any]) -> bytes:
        if not isinstance(self._account, str):
            return bytes(self._account.sign_transaction(fields).raw_transaction)
        request = {
            key: hex(value) if isinstance(value, int) else to_hex(value) if isinstance(value, bytes) else value
            for key, value in fields.items()
        }
        try:
            answer = self._signing.raw(
                "sign a transaction", "eth_signTransaction", [{"from": self._address, **request}]
            )
        except LedgerError as error:
            raise LedgerError(
                f"the external signer of {self._address} did not sign: {error.message}",
                remedy="start it, or correct [ledger] signer and account; see in its log whether it holds that account",
            ) from error
        # geth and Clef answer with {"raw": …, "tx": …}, Anvil and Web3Signer with the bytes.
        text = answer["raw"] if hasattr(answer, "keys") else answer
        remedy = "check the external signer: which key it holds for the account and which transactions it permits"
        try:
            raw = bytes(HexBytes(text))
            signed = parse_signed(raw)
        except (ValueError, TypeError) as error:
            raise LedgerError("the external signer returned no signed transaction", remedy=remedy) from error
        wanted = (self._address, self.chain_id, fields["nonce"], fields.get("to"), 0, bytes(fields["data"]))
        offered = int(
            fields["maxFeePerGas"] if "maxFeePerGas" in fields else fields["gasPrice"]
        )  # the operator's ceiling holds for a signer too
        same = (signed.sender, signed.chain_id, signed.nonce, signed.to, signed.value, signed.data) == wanted
        if not same or signed.max_fee > offered or signed.gas > fields["gas"]:
            raise LedgerError("the external signer signed something else than it was asked to", remedy=remedy)
        return raw

    def broadcast(self, signed: bytes) -> None:
        """Hand a signed transaction to the node. Sending one that the node knows already is no error.

        Raises:
            LedgerError: the node does not take it, or cannot be asked.
        """
        expected = keccak(signed)
        try:
            told = self.endpoint.ask(
                "send a transaction", lambda: bytes(self.web3.eth.send_raw_transaction(HexBytes(signed)))
            )
        except MpcreditError as error:
            # "already known", "nonce too low", …: the words differ by client. What counts is whether the node has it.
            try:
                self.endpoint.ask("read a transaction", lambda: self.web3.eth.get_transaction(HexBytes(expected)))
            except LedgerError:
                raise error from None
            return
        if told != expected:
            raise LedgerError(
                f"{self.endpoint.name} returned another hash for a transaction than its own",
                remedy="compare with another node; trust neither yet",
            )

    def wait(self, transaction: bytes, *, timeout: float = MINED_SECONDS) -> Outcome:
        """Wait until a transaction is mined.

        Raises:
            ContractRefused, TransactionFailed: it reverted.
            LedgerError: it was not mined in time.
        """
        end, pause = time.monotonic() + timeout, 0.05
        while (outcome := _outcome(self.endpoint, transaction)) is None:
            if time.monotonic() > end:
                raise LedgerError(
                    f"transaction {to_hex(transaction)} was not mined within {timeout:.0f} seconds",
                    remedy="it may still be: look it up before you repeat anything; if blocks stand still, the chain's "
                    "operators must look",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)
        if not outcome.succeeded and (error := _failure(self.endpoint, transaction)) is not None:
            raise error
        return outcome

    def send(self, to: str | None, data: bytes, *, timeout: float = MINED_SECONDS) -> tuple[Signed, Outcome]:
        """Sign with the next nonce, send, and wait until it is mined; one at a time."""
        with self._sending:
            signed = self.prepare(to, data, self.nonce(pending=True))
            self.broadcast(signed.raw)
            return signed, self.wait(signed.hash, timeout=timeout)


class ChainSigner:
    """The signer port for one account and one consortium (`ports.Signer`).

    Args:
        web3: client or URL of the node.
        account: a key of this process, or the address of one that an external signer holds.
        consortium_address: of the Consortium contract.
        chain_id: the chain it must be; None accepts the node's.
        signing: client or URL of the external signer (`eth_signTransaction`), by default the node.
        priority_fee: in wei; None asks the node.
        max_fee: ceiling of what is offered for a unit of gas, in wei; None: there is none.
    """

    def __init__(
        self,
        web3: Web3 | str,
        account: Account,
        consortium_address: str,
        *,
        chain_id: int | None = None,
        signing: Web3 | str | None = None,
        priority_fee: int | None = None,
        max_fee: int | None = None,
    ) -> None:
        self.wallet = Wallet(
            web3, account, chain_id=chain_id, signing=signing, priority_fee=priority_fee, max_fee=max_fee
        )
        self._consortium = _checksum(consortium_address)

    @property
    def address(self) -> str:
        """Checksum address of the account."""
        return self.wallet.address

    def nonce(self) -> int:
        """Number of transactions the account has sent, mined or known to the node to be under way."""
        return max(self.wallet.nonce(), self.wallet.nonce(pending=True))

    def sign(self, call: Call, nonce: int) -> Signed:
        """Make a transaction. Estimates gas, so it raises the mapped contract error if the call would revert now.

        Raises:
            Refused: the contract would refuse it; `code` is the name of its error.
        """
        artifact, target = _target(call, self._consortium)
        data = artifact.call_data(call.function, call.arguments)
        return self.wallet.prepare(target, data, nonce, judged_at=call.judged_at, bound=gas_bound(call, data))

    def mined(self) -> int:
        """Number of transactions of the account that are on the ledger."""
        return self.wallet.nonce()

    def filler(self, nonce: int) -> Signed:
        """Make a transaction that does nothing but use a nonce: of nothing, to the account itself."""
        return self.wallet.prepare(self.address, b"", nonce)

    def raised(self, signed: bytes) -> Signed | None:
        """The same transaction with fees raised so far that nodes take it in place of the first; None: that helps nothing.

        Raises:
            FeeTooLow: the operator's ceiling does not permit it.
        """
        return self.wallet.raised(signed)

    def broadcast(self, signed: bytes) -> None:
        """Hand a signed transaction to the node. Sending one that the node knows already is no error.

        Raises:
            FeeTooLow: the node asks for a higher fee.
        """
        self.wallet.broadcast(signed)

    def taker(self, nonce: int) -> Taken | None:
        """The mined transaction of the account with this nonce, proven by its signature; None if it cannot be found."""
        return self.wallet.taker(nonce)

    def transact(self, call: Call, *, timeout: float = MINED_SECONDS) -> Outcome:
        """Sign a call with the next nonce, send it and wait until it is mined.

        Raises:
            Refused: the contract refuses it, now or when it was mined.
            LedgerError: it was not mined in time, or the node does not answer.
        """
        artifact, target = _target(call, self._consortium)
        _signed, outcome = self.wallet.send(target, artifact.call_data(call.function, call.arguments), timeout=timeout)
        return outcome


if TYPE_CHECKING:  # mypy holds the adapters to their ports
    _ledger: type[Ledger] = ChainLedger
    _signer: type[Signer] = ChainSigner
