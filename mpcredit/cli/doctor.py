"""mpcredit doctor: look at everything this party needs, and say what is wrong and what helps."""

from __future__ import annotations

import json as json_text
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from hexbytes import HexBytes

import mpcredit
from mpcredit.books import LoanBook
from mpcredit.chain import ChainLedger, Endpoints, Wallet
from mpcredit.cli import _examine_party as _party
from mpcredit.cli import _founding
from mpcredit.cli._access import AnyStore, inbox_of, place_of, read_store
from mpcredit.cli._examination import LOOK, OK, SKIPPED, STYLES, WRONG, Check, Examination
from mpcredit.cli._parties import account_address
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    ask,
    duration,
    load,
    moment,
    server_missing,
)
from mpcredit.cli.keys import x25519_keys
from mpcredit.config import Config, client_of, ledger_of, open_keystore, pins_of
from mpcredit.errors import KeyStoreError
from mpcredit.events import Call
from mpcredit.follower import Follower
from mpcredit.keystore import KeyStore
from mpcredit.pkcs11keys import Pkcs11Keys
from mpcredit.policy import CreditPolicy
from mpcredit.protocol import SPEC_VERSION
from mpcredit.state import LedgerState
from mpcredit.store import MemoryStore

CLOCK_SECONDS = 300
"""A head older than this on a chain that mines without transactions means that the node lags; on a devnet it means nothing."""
FORWARD_SECONDS = 60
TRANSACTIONS_LEFT = 50
"""Of balance: below so many answers a warning."""
ANSWER_GAS = 300_000


def doctor(
    no_passphrase: Annotated[
        bool,
        typer.Option(
            "--no-passphrase", metavar="", help="Leave out what needs the key files or the token to be opened."
        ),
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Check ledger, contracts, founding, accounts, keys, pins, tag keys, clock, loan book, readiness, balance, store, sign-in.

    Changes nothing, and runs beside the service. The exit status is 1 if something is wrong.

    Example: mpcredit doctor
    """
    settings, out = load(config), Output(json)
    checks = examine(settings, open_keys=not no_passphrase)
    out.table(
        f"{settings.path}: {settings.role}, mpcredit {mpcredit.__version__}, specification {SPEC_VERSION}",
        ["", "what", "how it is"],
        [(check.state, check.name, check.detail) for check in checks],
        styles=STYLES,
    )
    troubles = [check for check in checks if check.state in (LOOK, WRONG)]
    if troubles:
        out.steps("What helps", [f"{check.name}: {check.remedy or 'see above'}" for check in troubles])
    wrong = sum(check.state == WRONG for check in checks)
    out.say()
    out.say(
        f"{wrong} thing{'s are' if wrong != 1 else ' is'} wrong" if wrong else "Nothing is wrong.",
        "bold red" if wrong else "bold green",
    )
    out.document({"ok": not wrong, "checks": [vars(check) for check in checks]})
    if wrong:
        raise typer.Exit(1)


def examine(config: Config, *, open_keys: bool) -> list[Check]:
    """Look at everything of a party."""
    ex = Examination()
    # (1) what lies here.
    keys = open_keystore(config, ask)
    if keys.token is not None:
        ex.run("token", lambda: _token(ex, config, keys, open_keys))
    opened = ex.run("keys", lambda: _keys(ex, config, keys, open_keys))
    book = ex.run("loan book", lambda: _book(ex, config)) if config.role == "institution" else None
    if config.role == "institution":
        ex.run("credit policy", lambda: _policy(ex, config, book))
    store = ex.run("store", lambda: read_store(config))
    if isinstance(store, MemoryStore):
        ex.add("store", LOOK, f"{place_of(config)} is not there yet", "it is made when the service is started first")
    if config.served:
        ex.run("identity provider", lambda: _provider(ex, config))
    # (2) the ledger.
    ledger: ChainLedger | None = ex.run("ledger", lambda: ledger_of(config))
    if len(config.endpoints) > 1:
        ex.run("endpoint", lambda: _endpoints(ex, config))
    follower = ex.run("ledger", lambda: _follow(ex, config, ledger, store)) if ledger is not None else None
    if ledger is not None and follower is not None:
        state = follower.state
        ex.run("contracts", lambda: _contracts(ex, ledger, state))
        ex.run("founding", lambda: _founding.examine(ex, config, ledger, state))
        ex.run("clock", lambda: _clock(ex, follower))
        ex.run("balance", lambda: _balance(ex, config, ledger, keys))
        # (3) this party on the ledger.
        if config.role == "institution":
            member = ex.run("membership", lambda: _party.membership(ex, config, keys, follower, store))
            if store is not None:
                ex.run("tenure", lambda: _party.tenure(ex, member, store))
            ex.run("registered key", lambda: _party.registered(ex, config, keys, member, state))
            ex.run("tag keys", lambda: _party.tag_keys(ex, config, keys, follower.tag_keys, bool(opened)))
            ex.run("pins", lambda: _party.pins(ex, follower))
            ex.run("period key", lambda: _party.period_key(ex, follower))
            ex.run("own floors", lambda: _party.floors(ex, config, state))
            ex.run("releases", lambda: _party.releases(ex, member, state))
            if book is not None:
                ex.run("loan book", lambda: _book_age(ex, book, follower))
        else:
            ex.run("supervisor", lambda: _party.supervisor(ex, config, keys, state))
        if store is not None and not isinstance(store, MemoryStore):
            ex.run("store", lambda: _steps(ex, config, store, ledger, state))
    elif store is not None and not isinstance(store, MemoryStore):
        ex.add("store", OK, place_of(config))
    if store is not None:
        store.close()
    return ex.checks


# --------------------------------------------------------------------- here


def _provider(ex: Examination, config: Config) -> None:
    try:
        from mpcredit.server.oidc import Provider
        from mpcredit.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise server_missing(error) from error
    settings = ServerSettings.load(config.path).oidc
    if settings is not None:
        Provider(
            settings, redirect_uri="", secret=b""
        ).check()  # signs nobody in, so it needs no secret, and makes none
        ex.add("identity provider", OK, f"{settings.issuer} describes itself and publishes its keys")


def _keys(ex: Examination, config: Config, keys: KeyStore, open_keys: bool) -> bool:
    address = account_address(config)
    x25519 = x25519_keys(config, keys)
    if address is None or not x25519:
        missing = "the ledger account" if address is None else f"the {config.role} key"
        raise KeyStoreError(f"{config.keys}: {missing} is missing", remedy="make it with `mpcredit keys new`")
    what = f"ledger account {address}, {config.role} key{'s' if len(x25519) > 1 else ''} {', '.join(map(str, x25519))}"
    if not open_keys:
        ex.add("keys", SKIPPED, f"{what}; not opened")
        return False
    if config.account is None:
        keys.account()
    for public in x25519.values():
        keys.institution_key(public)
    ex.add("keys", OK, f"{what}; they open")
    return True


def _token(ex: Examination, config: Config, keys: KeyStore, open_keys: bool) -> None:
    token = keys.token
    assert isinstance(token, Pkcs11Keys)
    what = f"{config.token}: {token.describe()}"
    if not open_keys:
        ex.add("token", SKIPPED, f"{what}; there, not opened")
        return
    token.unlock()
    publics = x25519_keys(config, keys).values()
    inside = [public for public in publics if keys.in_token(public)]
    for public in inside:
        token.find(public)
    if len(inside) == len(publics):
        ex.add("token", OK, f"{what}; the PIN opens it, and its {len(inside)} keys cannot leave it")
    else:
        ex.add(
            "token",
            LOOK,
            f"{what}; {len(publics) - len(inside)} of {len(publics)} {config.role} keys are still in key files",
            "rotate, and destroy the old ones (`mpcredit keys destroy`) when nothing needs them any more",
        )


@dataclass(frozen=True)
class _Imported:
    """The loan book in the server's database, as far as it is looked at here."""

    as_of: int
    currency: str
    customers: int

    def __len__(self) -> int:
        return self.customers


def _imported(config: Config) -> _Imported | None:
    """What the server answers from, if that is its database and something was imported."""
    if not config.served or config.book_adapter is not None:
        return None
    try:
        from mpcredit.server.bookimport import current_snapshots
        from mpcredit.server.database import open_database
        from mpcredit.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise server_missing(error) from error
    settings = ServerSettings.load(config.path)
    if settings.book == "file":
        return None
    if settings.database.startswith("sqlite:///") and not Path(settings.database.removeprefix("sqlite:///")).exists():
        return None
    database = open_database(settings, create=False)
    try:
        found = current_snapshots(database)
    finally:
        database.close()
    if not found:
        return None
    return _Imported(
        min(one.as_of for one in found),
        found[0].currency,
        max(one.customers for one in found),
    )


def _book(ex: Examination, config: Config) -> LoanBook | _Imported | None:
    if config.book_adapter is not None:
        ex.add("loan book", SKIPPED, f"given by {config.book_adapter}; `mpcredit certify` tries it")
        return None
    imported = _imported(config)
    if imported is not None:
        return imported
    if config.book is None:
        raise KeyStoreError("[book] path is missing in the configuration", remedy="name the loan book")
    return LoanBook.read_csv(config.book, collect=True)


def _policy(ex: Examination, config: Config, book: LoanBook | _Imported | None) -> None:
    policy = CreditPolicy.from_toml(config.policy) if config.policy else CreditPolicy.from_toml()
    if book is not None and policy.currency != book.currency:
        ex.add(
            "credit policy",
            WRONG,
            f"{policy.name!r} is in {policy.currency}, the loan book in {book.currency}",
            "write a policy in the book's currency and name it as [policy] path",
        )
        return
    shipped = "" if config.policy else "; the example that ships, not a policy of yours"
    ex.add(
        "credit policy",
        OK if config.policy else LOOK,
        f"{policy.name} ({policy.fingerprint}), in {policy.currency}{shipped}",
        "write your own and name it as [policy] path (docs/credit-policy.md)",
    )


# --------------------------------------------------------------------- the ledger


def _endpoints(ex: Examination, config: Config) -> None:
    provider = client_of(config).provider
    assert isinstance(provider, Endpoints)
    for one in provider.examine():
        if one.trouble:
            remedy = "start that node or see to it; if it is another ledger's, take it out of [ledger] endpoints"
            ex.add("endpoint", WRONG, f"{one.name} {one.trouble}", remedy)
        else:
            ex.add("endpoint", OK, f"{one.name}: chain, first block and Consortium are right, block {one.block}")


def _follow(ex: Examination, config: Config, ledger: ChainLedger, store: AnyStore | None) -> Follower:
    follower = Follower(ledger, pins_of(config, store), config.confirmations, clock=time.time)
    follower.sync()
    assert follower.head is not None
    ex.add(
        "ledger",
        OK,
        f"{ledger.name!r} on chain {ledger.realm.chain_id}, block {follower.head.number}; the roster's hash chain and all "
        "key signatures hold",
    )
    return follower


def _code_of(name: str) -> bytes:
    place = resources.files("mpcredit") / "artifacts" / f"{name}.json"
    return bytes(HexBytes(json_text.loads(place.read_text(encoding="utf-8"))["deployedBytecode"]))


def same_code(on_chain: bytes, shipped: bytes, consortium: str) -> bool:
    """Whether deployed code is the shipped one. The only immutable of the contracts is the Consortium's address."""
    word = bytes(12) + bytes.fromhex(consortium[2:])
    return len(on_chain) == len(shipped) and on_chain.replace(word, bytes(32)) == shipped


def _contracts(ex: Examination, ledger: ChainLedger, state: LedgerState) -> None:
    realm = ledger.realm
    different = []
    for name, address in (("Consortium", realm.consortium), ("JointCredit", state.joint_credit)):
        if address is None:
            ex.add(
                "contracts",
                WRONG,
                "the consortium has no JointCredit",
                "run `mpcredit propose create-joint-credit`; anyone may",
            )
            return
        found = ledger.endpoint.ask(
            f"read the code of the {name}",
            lambda place=address: bytes(ledger.web3.eth.get_code(place)),  # type: ignore[misc]
        )
        if not same_code(found, _code_of(name), realm.consortium):
            different.append(f"{name} at {address}")
    version = str(ledger.call(Call(str(state.joint_credit), "version")))
    if different:
        ex.add(
            "contracts",
            WRONG,
            f"the code on the ledger is not the code that ships with this version: {', '.join(different)}",
            "install the version of mpcredit that the consortium uses, or find out whose contract that is",
        )
    elif version != SPEC_VERSION:
        ex.add(
            "contracts",
            WRONG,
            f"they follow specification {version}, this package {SPEC_VERSION}",
            "install the version that fits",
        )
    else:
        ex.add(
            "contracts",
            OK,
            f"Consortium and JointCredit are byte for byte those of this version, specification {version}",
        )


def _clock(ex: Examination, follower: Follower) -> None:
    behind = int(time.time()) - follower.now
    if behind < -FORWARD_SECONDS:
        ex.add(
            "clock",
            WRONG,
            f"the ledger's newest block is {duration(-behind)} ahead of this machine's clock",
            "set this machine's clock (NTP); if it is right, the chain's validators must look at theirs",
        )
    elif behind > CLOCK_SECONDS:
        ex.add(
            "clock",
            LOOK,
            f"the ledger's newest block is {duration(behind)} old",
            "if the chain makes blocks all the time, the node has fallen behind: look at its log",
        )
    else:
        ex.add("clock", OK, f"the newest block is {duration(max(behind, 0))} old")


def _balance(ex: Examination, config: Config, ledger: ChainLedger, keys: KeyStore) -> None:
    address = account_address(config)
    if address is None:
        return
    wallet = Wallet(ledger.web3, address, chain_id=config.chain_id)
    balance = wallet.balance()
    price = ledger.endpoint.ask("read the gas price", lambda: int(ledger.web3.eth.gas_price))
    left = balance // (ANSWER_GAS * price) if price else None
    if left is None:
        ex.add("balance", OK, f"{address}: transactions cost nothing on this chain")
    elif left < TRANSACTIONS_LEFT:
        ex.add(
            "balance",
            WRONG if left == 0 else LOOK,
            f"{address} can pay for {left} more answers ({balance / 10**18:.6f} ether)",
            "fund the account",
        )
    else:
        ex.add("balance", OK, f"{address} has {balance / 10**18:.4f} ether, enough for {left:,} answers")


def _book_age(ex: Examination, book: LoanBook | _Imported, follower: Follower) -> None:
    parameters = follower.state.parameters
    age = follower.now - book.as_of
    limit = parameters.book_age_seconds if parameters else 0
    text = f"{len(book):,} customers in {book.currency}, as of {moment(book.as_of)}"
    if age > limit:
        ex.add(
            "loan book", WRONG, f"{text}: {duration(age)} old, {duration(limit)} are permitted", "export a newer one"
        )
    elif age * 4 > limit * 3:
        ex.add("loan book", LOOK, f"{text}: too old in {duration(limit - age)}", "export a newer one")
    else:
        ex.add("loan book", OK, text)


def _steps(ex: Examination, config: Config, store: AnyStore, ledger: ChainLedger, state: LedgerState) -> None:
    address = account_address(config)
    if address is None:
        return
    pending = store.outbox_pending()
    known = store.next_nonce()
    floor = store.get("meta", "nonce_floor")
    known = max(known, int(floor["nonce"]) if floor else 0)
    sent = Wallet(ledger.web3, address, chain_id=config.chain_id).nonce()
    waiting = 0 if config.served else len(list(inbox_of(config).glob("*.json")))
    failed = sum(row.state == "failed" for row in store.outbox_rows())
    foreign = store.get("meta", "foreign")
    text = f"{place_of(config)}: {known} ledger steps, {len(pending)} under way"
    if foreign or (sent > known and config.role == "institution"):
        lacks = (
            foreign["text"]
            if foreign
            else f"the account has sent {sent}: the store is older than the ledger, or not alone"
        )
        ex.add(
            "store",
            WRONG,
            f"{text}; but {lacks}",
            "stop whatever else uses the account, then begin a new tenure and name it (R25, docs/operations.md)",
        )
    elif known > sent and not pending:
        ex.add(
            "store",
            WRONG,
            f"{text}; but the account {address} has sent only {sent}: the store is another account's, or blocks were replaced",
            "give each ledger account a store of its own (docs/operations.md); after a reorganisation start the service",
        )
    elif pending and pending[0].nonce < sent:
        ex.add(
            "store",
            LOOK,
            f"{text}, of which one was mined and not noted yet",
            f"start the service: `mpcredit {'serve' if config.served else 'answer'}`",
        )
    elif pending:
        ex.add("store", LOOK, text, "the service sends them again by itself; if they stay, look at fees and the node")
    else:
        more = f", {failed} failed" if failed else ""
        inbox = f"; {waiting} waiting in the inbox" if waiting else ""
        ex.add(
            "store",
            LOOK if waiting else OK,
            text + more + inbox,
            "start the service, which takes what waits in the inbox",
        )
