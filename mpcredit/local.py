"""A whole consortium in one process: real contracts on a real EVM, real keys, every institution with its own store.

For the demo, for trying the library, for tests. In production each institution is a process of its own (`config`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from web3 import Web3

from mpcredit import bookmaker
from mpcredit.books import LoanBook
from mpcredit.chain import ChainLedger, ChainSigner, Deployed, deploy, joint_credit_init_code_hash
from mpcredit.chain import anvil as anvil_chain
from mpcredit.chain import tester as tester_chain
from mpcredit.chain.client import Endpoint
from mpcredit.errors import LedgerError, MpcreditError
from mpcredit.events import Call, Parameters
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.keystore import MemoryKeyStore
from mpcredit.ledger.roster import SUPERVISOR, Pins, account_statement, key_statement
from mpcredit.pairkeys import Realm
from mpcredit.policy import CreditPolicy
from mpcredit.ports import Store
from mpcredit.schema import FIGURES_1, Schema
from mpcredit.storage.mark import FileMark
from mpcredit.store import SqliteStore
from mpcredit.tags import HmacTagger, TagKey
from mpcredit.tenure import tenure_of

__all__ = [
    "DEFAULT_PARAMETERS",
    "LocalConsortium",
    "bank_names",
    "founding_argument",
    "fund_from_key",
    "local_consortium",
    "sign_account",
    "sign_key",
]

DAY = 86_400
FUNDS = 10**18
"""Wei that each account of a run on a chain with fees is given; what is left over stays there."""
DEFAULT_PARAMETERS = Parameters(
    minimum_cohort=4,
    minimum_modulus_bits=2048,
    answer_seconds=3_600,
    report_seconds=DAY,
    silence_seconds=60,
    window_seconds=30 * DAY,
    cooldown_seconds=DAY,
    repeat_seconds=4 * 3_600,
    delay_seconds=3_600,
    subjects_per_day=1_000,
    book_age_seconds=40 * DAY,
)
"""Terms of a local consortium, and a sensible start for a real one."""


def bank_names(count: int) -> list[str]:
    """ "Bank A", "Bank B", … as the book maker names them."""
    alphabet = [chr(ord("A") + place) for place in range(26)]
    return [f"Bank {alphabet[i // 26 - 1] if i >= 26 else ''}{alphabet[i % 26]}" for i in range(count)]


def founding_argument(
    name: str,
    founders: Sequence[tuple[str, str]],
    supervisors: Sequence[str],
    schemas: Sequence[Schema],
    parameters: Parameters,
    tag_key_commitment: bytes,
    *,
    opens_from: int = 0,
    period_seconds: int = 60,
) -> tuple[object, ...]:
    """The constructor argument of a Consortium with the JointCredit that ships.

    Args:
        founders: (owner account, name) of each.
        supervisors: owner accounts.
        opens_from: unix seconds before which nothing opens.
        period_seconds: length of the periods of readiness.
    """
    return (
        name,
        list(founders),
        list(supervisors),
        [(schema.id, schema.definition) for schema in schemas],
        tuple(vars(parameters).values()),
        opens_from,
        period_seconds,
        joint_credit_init_code_hash(),
        tag_key_commitment,
    )


def sign_account(
    owner: LocalAccount, realm: Realm, party: int, account: str, number: int = 1, tenure: bytes = bytes(32)
) -> bytes:
    """The owner's signature of a naming of its service account (R9); without a tenure: of a supervisor."""
    statement = account_statement(realm, party, owner.address, account, number, tenure)
    return bytes(owner.sign_message(encode_defunct(primitive=statement)).signature)


def sign_key(
    account: LocalAccount, realm: Realm, member: int, version: int, public: bytes, previous: bytes = bytes(32)
) -> bytes:
    """The owner's signature of an institution key (R9)."""
    statement = key_statement(realm, member, version, public, previous)
    return bytes(account.sign_message(encode_defunct(primitive=statement)).signature)


@dataclass
class _Chain:
    """A chain, however it is run."""

    name: str
    web3: Web3
    fund: Callable[[str], None]
    advance: Callable[[int], None]
    close: Callable[[], None] = lambda: None
    anvil: anvil_chain.Anvil | None = None
    """If it is one: its blocks can be replaced."""


def _open_chain(chain: str) -> _Chain:
    if chain == "tester":
        web3 = tester_chain.embedded_chain()
        return _Chain(
            chain, web3, lambda a: tester_chain.fund(web3, a), lambda seconds: tester_chain.advance(web3, seconds)
        )
    kind, _, hardfork = chain.partition(":")
    if kind == "anvil":
        node = anvil_chain.Anvil(hardfork=hardfork) if hardfork else anvil_chain.Anvil()
        node.start()
        return _Chain(chain, node.web3, node.fund, node.advance, node.stop, node)
    endpoint = Endpoint(chain)
    endpoint.chain_id(None)  # a node that is down is noticed before anything is made
    return _Chain(chain, endpoint.web3, lambda a: fund_from_key(endpoint, a), _cannot_advance)


def _cannot_advance(_seconds: int) -> None:
    raise LedgerError("the time of this chain cannot be moved", remedy="use --chain tester or --chain anvil")


def fund_from_key(endpoint: Endpoint, address: str) -> None:
    """Send funds from the account of MPCREDIT_FUNDING_KEY (a private key); on a chain without fees none is needed."""
    secret = os.environ.get("MPCREDIT_FUNDING_KEY")
    remedy = "put the private key of a funded account into MPCREDIT_FUNDING_KEY"
    price = endpoint.ask("read the gas price", lambda: endpoint.web3.eth.gas_price)
    if not secret:
        if price == 0:
            return
        raise LedgerError("the accounts of this run need funds on that chain", remedy=remedy)
    try:
        payer: LocalAccount = Account.from_key(secret)
    except Exception as error:  # eth_keys and eth_utils raise several kinds; none of them may show the key
        raise LedgerError("MPCREDIT_FUNDING_KEY is no private key", remedy=remedy) from error
    transaction: dict[str, Any] = {
        "to": address,
        "value": FUNDS,
        "gas": 21_000,
        "gasPrice": price,
        "nonce": endpoint.ask(
            "read the account's nonce", lambda: endpoint.web3.eth.get_transaction_count(payer.address, "pending")
        ),
        "chainId": endpoint.chain_id(None),
    }
    raw = payer.sign_transaction(transaction).raw_transaction
    sent = endpoint.ask("send funds", lambda: endpoint.web3.eth.send_raw_transaction(raw))
    endpoint.ask("wait for the funds", lambda: endpoint.web3.eth.wait_for_transaction_receipt(sent))


@dataclass
class LocalConsortium:
    """Institutions and supervisor of one process. `consortium["Bank A"]` is an institution."""

    institutions: dict[str, Institution]
    supervisor: SupervisorNode
    supervised: bool
    """Whether the supervisor works; set it to False to stop it."""
    ledger: ChainLedger
    deployed: Deployed
    books: dict[str, LoanBook] = field(repr=False)
    tagger: HmacTagger = field(repr=False)
    owners: Mapping[str, LocalAccount] = field(repr=False)
    accounts: Mapping[str, LocalAccount] = field(repr=False)
    """Service accounts."""
    supervisor_owner: LocalAccount = field(repr=False)
    supervisor_account: LocalAccount = field(repr=False)
    keys: Mapping[str, MemoryKeyStore] = field(repr=False)
    supervisor_keys: MemoryKeyStore = field(repr=False)
    stores: Mapping[str, SqliteStore] = field(repr=False)
    pins: Pins = field(repr=False)
    chain: _Chain = field(repr=False)
    asleep: set[str] = field(default_factory=set)
    """Names of institutions whose service is stopped."""
    listener: Callable[[str, str], None] = lambda who, what: None
    """Told who did what."""

    def __getitem__(self, name: str) -> Institution:
        return self.institutions[name]

    def work(self, *, but: str | None = None) -> bool:
        """One round of every party that is awake.

        Returns:
            Whether anybody did anything.
        """
        progress = False
        for name, institution in self.institutions.items():
            if name == but or name in self.asleep:
                continue
            for line in institution.work():
                progress = True
                self.listener(name, line)
        if self.supervised:
            for line in self.supervisor.work():
                progress = True
                self.listener("supervisor", line)
        return progress

    def settle(self, rounds: int = 50) -> None:
        """Work until nobody has anything left to do."""
        for _ in range(rounds):
            before = self.ledger.head()
            if self.work():
                continue
            if self._under_way():
                time.sleep(0.05)  # a node mines a moment after it has taken a transaction
            elif self.ledger.head() == before:
                return
        raise MpcreditError("the consortium does not come to rest")

    def _under_way(self) -> bool:
        """Whether anybody who is awake waits for a transaction to be mined."""
        stores: list[Store] = [store for name, store in self.stores.items() if name not in self.asleep]
        if self.supervised:
            stores.append(self.supervisor.outbox.store)
        return any(store.outbox_pending() for store in stores)

    def advance(self, seconds: int) -> None:
        """Let time pass on the ledger.

        Raises:
            LedgerError: the chain does not permit it.
        """
        self.chain.advance(seconds)


@contextlib.contextmanager
def local_consortium(
    institutions: int = 8,
    *,
    bits: int = 3072,
    chain: str = "tester",
    books: Sequence[LoanBook] | None = None,
    parameters: Parameters | None = None,
    schemas: Sequence[Schema] = (FIGURES_1,),
    directory: Path | None = None,
    listener: Callable[[str, str], None] = lambda who, what: None,
    idle_seconds: float = 0.05,
    period_seconds: int = 1,
) -> Iterator[LocalConsortium]:
    """Found a consortium with fresh keys and bring it to where every institution is ready.

    Args:
        institutions: how many, at least 3.
        bits: size of n for inquiries.
        chain: "tester" (in this process), "anvil", "anvil:london" or another hard fork, or the URL of a node.
        books: one for each institution; by default made from the shipped real accounts.
        parameters: terms; by default DEFAULT_PARAMETERS with a minimum cohort that fits.
        directory: for the stores; by default a temporary one.
        listener: told who did what.
        period_seconds: of readiness; with more than one, the chain's time is moved into the first period that counts.

    Raises:
        LedgerError: the chain is not to be had, or its time cannot be moved.
    """
    names = (
        [book.institution or name for book, name in zip(books, bank_names(len(books)), strict=True)]
        if books
        else (bank_names(institutions))
    )
    if len(names) < 3 or len(set(names)) != len(names):
        raise MpcreditError(
            f"a consortium needs at least 3 institutions with different names, not {names}",
            remedy="raise --institutions, or rename the books",
        )
    terms = parameters or Parameters(
        **{**vars(DEFAULT_PARAMETERS), "minimum_cohort": min(DEFAULT_PARAMETERS.minimum_cohort, len(names))}
    )
    with contextlib.ExitStack() as stack:
        open_chain = _open_chain(chain)
        stack.callback(open_chain.close)
        place = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpcredit-")))
        made = books or bookmaker.make_books(
            bookmaker.read_accounts(), institutions=len(names), names=names, as_of=int(time.time())
        )
        consortium = _found(names, list(made), bits, open_chain, terms, schemas, place, stack, period_seconds)
        for name, institution in consortium.institutions.items():
            institution.idle = _idle(consortium, name, idle_seconds)
        consortium.listener = listener
        consortium.settle()
        if period_seconds > 1:
            consortium.advance(period_seconds)
        yield consortium


def _idle(consortium: LocalConsortium, name: str, seconds: float) -> Callable[[], None]:
    def idle() -> None:
        if not consortium.work(but=name):
            time.sleep(seconds)

    return idle


def _found(
    names: Sequence[str],
    books: list[LoanBook],
    bits: int,
    chain: _Chain,
    terms: Parameters,
    schemas: Sequence[Schema],
    directory: Path,
    stack: contextlib.ExitStack,
    period_seconds: int,
) -> LocalConsortium:
    # (1) accounts and keys of each party, made by itself in production.
    tag_key = TagKey.generate()
    tagger = HmacTagger(tag_key)
    owners: dict[str, LocalAccount] = {name: Account.create() for name in names}
    accounts: dict[str, LocalAccount] = {name: Account.create() for name in names}
    supervisor_owner: LocalAccount = Account.create()
    supervisor_account: LocalAccount = Account.create()
    deployer: LocalAccount = Account.create()
    for account in (*owners.values(), *accounts.values(), supervisor_owner, supervisor_account, deployer):
        chain.fund(account.address)

    # (2) the contracts; the deployer has no right afterwards: R37.
    deployed = deploy(
        chain.web3,
        deployer,
        founding_argument(
            "Local consortium",
            [(owners[name].address, name) for name in names],
            [supervisor_owner.address],
            schemas,
            terms,
            tag_key.commitment,
            period_seconds=period_seconds,
        ),
    )
    ledger = ChainLedger(chain.web3, deployed.consortium, first_block=deployed.first_block)
    pins = Pins(
        owners={index: frozenset({owners[name].address}) for index, name in enumerate(names)},
        supervisors=frozenset({supervisor_owner.address}),
        founding_supervisors=frozenset({supervisor_owner.address}),
        period_keys=frozenset(),
    )

    # (3) the supervisor's account and period key, and each founder's confirmation with its own: R9, R12, R37.
    supervisor_keys = MemoryKeyStore()
    supervisor_key = supervisor_keys.create_supervisor_key(1)
    supervisor_store = stack.enter_context(SqliteStore(directory / "supervisor.sqlite"))
    signer = ChainSigner(chain.web3, supervisor_account, deployed.consortium)
    supervisor = SupervisorNode(ledger=ledger, signer=signer, store=supervisor_store, keys=supervisor_keys, pins=pins)
    named = supervisor_account.address
    signature = sign_account(supervisor_owner, ledger.realm, SUPERVISOR, named)
    owner = ChainSigner(chain.web3, supervisor_owner, deployed.consortium)
    owner.transact(Call("consortium", "nameAccount", (SUPERVISOR, named, bytes(32), signature)))
    signature = sign_key(supervisor_owner, ledger.realm, SUPERVISOR, 1, supervisor_key.public)
    owner.transact(Call("consortium", "announcePeriodKey", (supervisor_key.public, signature)))
    keys: dict[str, MemoryKeyStore] = {}
    stores: dict[str, SqliteStore] = {}
    members: dict[str, Institution] = {}
    for index, name in enumerate(names):
        keys[name] = MemoryKeyStore()
        keys[name].save_tag_key(tag_key)
        own, service = keys[name].create_institution_key(1), accounts[name].address
        stores[name] = stack.enter_context(SqliteStore(directory / f"{index}.sqlite"))
        marks = FileMark(directory / "marks" / f"{index}.json")
        tenure = tenure_of(stores[name], marks)
        signature = sign_key(owners[name], ledger.realm, index, 1, own.public)
        naming = sign_account(owners[name], ledger.realm, index, service, 1, tenure)
        ChainSigner(chain.web3, owners[name], deployed.consortium).transact(
            Call("consortium", "confirm", (index, own.public, signature, service, tenure, naming))
        )
        members[name] = Institution(
            ledger=ledger,
            signer=ChainSigner(chain.web3, accounts[name], deployed.consortium),
            store=stores[name],
            keys=keys[name],
            tagger=tagger,
            book=books[index].index(tagger),
            policy=CreditPolicy.from_toml(),
            pins=pins,
            bits=bits,
            marks=marks,
        )
    return LocalConsortium(
        institutions=members,
        supervisor=supervisor,
        supervised=True,
        ledger=ledger,
        deployed=deployed,
        books=dict(zip(names, books, strict=True)),
        tagger=tagger,
        owners=owners,
        accounts=accounts,
        supervisor_owner=supervisor_owner,
        supervisor_account=supervisor_account,
        keys=keys,
        supervisor_keys=supervisor_keys,
        stores=stores,
        pins=pins,
        chain=chain,
    )
