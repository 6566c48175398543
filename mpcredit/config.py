"""One party's configuration file, and the real adapters built from it.

A file for an institution; paths are relative to the file. docs/configuration.md explains each line.

    role = "institution"                  # or "supervisor"
    founding = "founding.toml"            # owner accounts that are accepted from the start
    [ledger]
    url = "http://127.0.0.1:8545"         # or several: endpoints = ["https://...", "https://..."]
    chain_id = 31337
    consortium = "0x…"
    confirmations = 0
    first_block = 0                       # where the consortium's events begin; by default searched for
    signer = "http://127.0.0.1:8550"      # external signer of the ledger account; by default the key file signs
    account = "0x…"                       # which account the external signer holds
    [keys]
    directory = "keys"                    # passphrase: MPCREDIT_PASSPHRASE, a file in MPCREDIT_PASSPHRASE_FILE, or asked
    [keys.pkcs11]                         # institution or supervisor keys in a token; by default in key files
    module = "/usr/lib/softhsm/libsofthsm2.so"
    token = "bank-a"                      # its label; PIN: MPCREDIT_TOKEN_PIN, a file in MPCREDIT_TOKEN_PIN_FILE, or asked
    [store]
    path = "store.sqlite"
    mark = "mark/store.json"              # names the newest answer; in no backup, on a disk that keeps files (R25)
    [book]                                # institutions only
    path = "book.csv"
    adapter = "bank_core.credit:book"     # instead of a file: own code that gives the book (docs/loan-book.md)
    [policy]
    path = "policy.toml"                  # by default the one that ships
    [inquiry]
    bits = 3072
    minimum_cohort = 3
    minimum_window_days = 0
    ready = true                          # false leaves readiness to people: `mpcredit ready`
    [server]                              # mpcredit/server/settings.py; the store is then its database, and [store] is left out
"""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from eth_utils.address import is_address, to_checksum_address

from mpcredit import institution
from mpcredit.books import LoanBook, TaggedBook
from mpcredit.chain import (
    BEHIND_BLOCKS,
    COMPARE_SECONDS,
    ChainLedger,
    ChainSigner,
    Tls,
    Web3,
    connect,
    is_private,
    several,
    shown,
)
from mpcredit.encoding import hex_bytes
from mpcredit.errors import InvalidFile, KeyStoreError, StoreError
from mpcredit.follower import Follower
from mpcredit.founding import read_founding
from mpcredit.institution import SupervisorNode
from mpcredit.keystore import KdfCost, KeyStore
from mpcredit.ledger.roster import Pins
from mpcredit.outbox import Patience
from mpcredit.pkcs11keys import Pkcs11Keys, TokenPlace
from mpcredit.policy import CreditPolicy
from mpcredit.ports import Book, Store
from mpcredit.storage.mark import FileMark
from mpcredit.store import SqliteStore
from mpcredit.tags import Tagger, tagger_of

__all__ = [
    "Config",
    "Institution",
    "book_adapter",
    "book_under",
    "client_of",
    "institution_from_config",
    "kdf_cost",
    "ledger_of",
    "open_keystore",
    "passphrase",
    "pins_of",
    "read_config",
    "signer_of",
    "supervisor_from_config",
    "token_pin",
]

MAX_FEE_GWEI: Final = 500
"""Ceiling of what is offered for a unit of gas."""

_KNOWN: Mapping[str, frozenset[str]] = {
    "": frozenset({"role", "founding", "ledger", "keys", "store", "book", "policy", "inquiry", "server"}),
    "ledger": frozenset(
        {
            *(
                "url",
                "endpoints",
                "chain_id",
                "genesis",
                "consortium",
                "confirmations",
                "first_block",
                "signer",
                "account",
            ),
            *("ca", "client_certificate", "client_key"),
            *("behind_blocks", "compare_minutes", "max_fee_gwei", "raise_after_seconds", "raise_after_blocks"),
        }
    ),
    "keys": frozenset({"directory", "pkcs11"}),
    "store": frozenset({"path", "mark"}),
    "book": frozenset({"path", "adapter"}),
    "policy": frozenset({"path"}),
    "inquiry": frozenset({"bits", "minimum_cohort", "minimum_window_days", "ready"}),
}

_VERSION_1: Mapping[tuple[str, str], str] = {
    ("inquiry", "ready_seconds"): "write ready = true; or ready = false where it was 0",
}
"""Lines of version 1, by table and name, and the line to write instead."""


@dataclass(frozen=True)
class Config:
    """A party's configuration, checked."""

    path: Path
    role: str
    founding: Path | None
    url: str
    """The first of the endpoints."""
    endpoints: tuple[str, ...]
    """URLs of nodes of one ledger, the preferred one first."""
    genesis: str | None
    """Hash of the chain's first block; None: that of the endpoint that answers first."""
    behind_blocks: int
    compare_minutes: int
    max_fee_gwei: int
    patience: Patience
    tls: Tls
    """How https connections to nodes and the signer are made."""
    chain_id: int
    consortium: str | None
    """None before the consortium is deployed."""
    first_block: int | None
    confirmations: int
    signer: str | None
    """URL of an external signer for `account`; None: the key file signs."""
    account: str | None
    keys: Path
    store: Path
    mark: Path
    """File that names the newest answer of the store, outside the store and its backups (R25)."""
    book: Path | None
    book_adapter: str | None
    """MODULE:FUNCTION of the institution's own code that gives the loan book, see `book_adapter`."""
    policy: Path | None
    bits: int
    minimum_cohort: int
    minimum_window_days: int
    ready: bool
    """Whether the service switches readiness on and off by itself."""
    token: TokenPlace | None
    """The token in which institution or supervisor keys are made; None: key files."""
    served: bool
    """Whether there is a table [server]: the party's one store is then the database of `mpcredit serve`, not `store`."""


def read_config(path: str | Path) -> Config:
    """Read and check a configuration file.

    Raises:
        InvalidFile: it cannot be read, or a line of it is wrong.
    """
    place = Path(path)
    try:
        value = tomllib.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidFile(str(place), "there is no such file", "give the configuration with --config FILE") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidFile(str(place), f"cannot be read: {error}", "correct the file; it is TOML") from error
    return _Reader(place, value).read()


class _Reader:
    def __init__(self, path: Path, value: dict[str, Any]) -> None:
        self.path = path
        self.value = value

    def fail(self, where: str, problem: str, remedy: str) -> InvalidFile:
        return InvalidFile(f"{self.path}, {where}", problem, remedy)

    def get(self, table: str, name: str, kind: type, default: Any = ...) -> Any:
        part = self.value.get(table, {}) if table else self.value
        where = f"[{table}] {name}" if table else name
        found = part.get(name, default)
        if found is ...:
            raise self.fail(where, "is missing", "add the line; docs/configuration.md has an example")
        if found is not default and (not isinstance(found, kind) or isinstance(found, bool)):
            raise self.fail(where, f"must be a {kind.__name__}", "correct the line")
        return found

    def place(self, table: str, name: str, default: Any = ...) -> Path | None:
        found = self.get(table, name, str, default)
        return None if found is None else self.path.parent / found

    def number(self, table: str, name: str, default: Any, least: int) -> int:
        found = self.get(table, name, int, default)
        if found is not None and found < least:
            raise self.fail(f"[{table}] {name}", f"must be at least {least}", "correct the line")
        return found  # type: ignore[no-any-return]

    def flag(self, table: str, name: str, default: bool) -> bool:
        found = self.value.get(table, {}).get(name, default)
        if not isinstance(found, bool):
            raise self.fail(f"[{table}] {name}", "must be true or false", "correct the line")
        return found

    def bits(self) -> int:
        found = self.number("inquiry", "bits", 3072, 2048)
        if found % 256 or found > 4096:
            raise self.fail("[inquiry] bits", f"is {found}", "write 2048 to 4096 in steps of 256, such as 3072")
        return found

    def token(self) -> TokenPlace | None:
        part = self.get("keys", "pkcs11", dict, None)
        if part is None:
            return None
        names = ("module", "prefix", "serial", "token")
        for name, found in part.items():
            where = f"[keys.pkcs11] {name}"
            if name in ("pin", "pin_file"):
                raise self.fail(
                    where, "does not belong here", "set MPCREDIT_TOKEN_PIN_FILE to the path of a file with the PIN"
                )
            if name not in names:
                raise self.fail(where, "is unknown", f"use one of {', '.join(names)}")
            if not isinstance(found, str) or not found:
                raise self.fail(where, "must be a str that is not empty", "correct the line")
        for name in ("module", "token"):
            if name not in part:
                raise self.fail(f"[keys.pkcs11] {name}", "is missing", "add the line; docs/keys.md has an example")
        prefix = part.get("prefix", "mpcredit")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,31}", prefix):
            raise self.fail(
                "[keys.pkcs11] prefix", f"is {prefix!r}", "write 1 to 32 of the letters a-z, digits, . and -"
            )
        return TokenPlace(self.path.parent / part["module"], part["token"], part.get("serial"), prefix)

    def endpoints(self) -> tuple[str, ...]:
        several = self.get("ledger", "endpoints", list, None)
        if several is None:
            return (self.get("ledger", "url", str),)
        if "url" in self.value["ledger"]:
            raise self.fail(
                "[ledger] url", "stands beside endpoints", "remove url; the first of endpoints is preferred"
            )
        good = [url for url in several if isinstance(url, str) and urlsplit(url).scheme in ("http", "https")]
        if len(good) != len(several) or len(set(good)) != len(good) or not good:
            raise self.fail(
                "[ledger] endpoints",
                "is no list of different http:// or https:// URLs",
                'write endpoints = ["https://one:8545", "https://two:8545"], the preferred one first',
            )
        return tuple(good)

    def private(self, url: str, name: str) -> str:
        if not is_private(url):
            raise self.fail(
                f"[ledger] {name}",
                f"{shown(url)} is plain HTTP off this machine, which anybody on the way can read and change",
                "write https, or put a proxy that speaks TLS to the node on this machine",
            )
        return url

    def tls(self) -> Tls:
        found = Tls(*(self.place("ledger", name, None) for name in ("ca", "client_certificate", "client_key")))
        if found.key is not None and found.certificate is None:
            raise self.fail("[ledger] client_key", "stands alone", "name client_certificate too")
        for name, path in (("ca", found.ca), ("client_certificate", found.certificate), ("client_key", found.key)):
            if path is not None and not os.access(path, os.R_OK):
                raise self.fail(
                    f"[ledger] {name}", f"{path} cannot be read", "name a PEM file that this account can read"
                )
        return found

    def adapter(self) -> str | None:
        found: str | None = self.get("book", "adapter", str, None)
        if (found is not None and not all(part.isidentifier() for part in re.split(r"[.:]", found))) or (
            found is not None and found.count(":") != 1
        ):
            raise self.fail("[book] adapter", f"is {found!r}", "write MODULE:FUNCTION, such as bank_core.credit:book")
        return found

    def read(self) -> Config:
        for table, names in _KNOWN.items():
            part = self.value.get(table, {}) if table else self.value
            if not isinstance(part, dict):
                raise self.fail(table, "must be a table", f"write it as [{table}]")
            for name in part:
                where = f"[{table}] {name}" if table else name
                if (table, name) in _VERSION_1:
                    raise self.fail(where, "is a line of version 1", _VERSION_1[table, name])
                if name not in names:
                    raise self.fail(where, "is unknown", f"use one of {', '.join(sorted(names))}")
        role = self.get("", "role", str)
        if role not in ("institution", "supervisor"):
            raise self.fail("role", f"is {role!r}", 'write "institution" or "supervisor"')
        consortium = self.get("ledger", "consortium", str, None)
        if consortium is not None and not is_address(consortium):
            raise self.fail("[ledger] consortium", "is no address", "write the address that `mpcredit deploy` printed")
        account, signer = self.get("ledger", "account", str, None), self.get("ledger", "signer", str, None)
        if account is not None and not is_address(account):
            raise self.fail("[ledger] account", "is no address", "write 0x and 40 hexadecimal digits")
        if (account is None) != (signer is None):
            missing = "account" if account is None else "signer"
            raise self.fail(f"[ledger] {missing}", "is missing", "an external signer needs both signer and account")
        if signer is not None:
            self.private(signer, "signer")
        # A second store on one ledger account could answer an inquiry twice (R24, R25).
        if "server" in self.value and "path" in self.value.get("store", {}):
            raise self.fail(
                "[store] path",
                "names a second store: with a table [server] the store is [server] database",
                "remove one of the two (docs/server.md says how to move from `mpcredit answer` to `mpcredit serve`)",
            )
        several = "endpoints" in self.value.get("ledger", {})
        endpoints = tuple(self.private(url, "endpoints" if several else "url") for url in self.endpoints())
        genesis = self.get("ledger", "genesis", str, None)
        if genesis is not None and not re.fullmatch("0x[0-9a-fA-F]{64}", genesis):
            raise self.fail("[ledger] genesis", "is no block hash", "write 0x and the 64 digits of block 0's hash")
        keys = self.place("keys", "directory", "keys")
        store = self.place("store", "path", "store.sqlite")
        assert keys is not None
        mark = self.place("store", "mark", "mark/store.json")
        assert store is not None
        assert mark is not None
        return Config(
            path=self.path,
            role=role,
            founding=self.place("", "founding", None),
            url=endpoints[0],
            endpoints=endpoints,
            genesis=genesis,
            behind_blocks=self.number("ledger", "behind_blocks", BEHIND_BLOCKS, 1),
            compare_minutes=self.number("ledger", "compare_minutes", int(COMPARE_SECONDS) // 60, 1),
            max_fee_gwei=self.number("ledger", "max_fee_gwei", MAX_FEE_GWEI, 0),
            patience=Patience(
                self.number("ledger", "raise_after_seconds", Patience.seconds, 1),
                self.number("ledger", "raise_after_blocks", Patience.blocks, 1),
            ),
            tls=self.tls(),
            chain_id=self.number("ledger", "chain_id", ..., 1),
            consortium=to_checksum_address(consortium) if consortium else None,
            first_block=self.number("ledger", "first_block", None, 0),
            confirmations=self.number("ledger", "confirmations", 0, 0),
            signer=signer,
            account=to_checksum_address(account) if account else None,
            keys=keys,
            store=store,
            mark=mark,
            book=self.place("book", "path", None),
            book_adapter=self.adapter(),
            policy=self.place("policy", "path", None),
            bits=self.bits(),
            minimum_cohort=self.number("inquiry", "minimum_cohort", 3, 3),
            minimum_window_days=self.number("inquiry", "minimum_window_days", 0, 0),
            ready=self.flag("inquiry", "ready", True),
            token=self.token(),
            served="server" in self.value,
        )


def passphrase(purpose: str, *, variable: str = "MPCREDIT_PASSPHRASE", word: str = "passphrase") -> str:
    """A passphrase: from the environment, from the file that the environment names, or from the person at the terminal.

    Args:
        purpose: what it is for; one that starts with "choose" is asked twice.
        variable: of the environment; with _FILE behind it, of the file.
        word: what it is called.

    Raises:
        KeyStoreError: there is none to be had.
    """
    if variable in os.environ:
        return os.environ[variable]
    if f"{variable}_FILE" in os.environ:
        try:
            return Path(os.environ[f"{variable}_FILE"]).read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise KeyStoreError(
                f"the {word} file cannot be read: {error}", remedy=f"correct {variable}_FILE"
            ) from error
    if not sys.stdin.isatty():
        needed = purpose if purpose.startswith("choose") else f"a {word} is needed to {purpose}"
        raise KeyStoreError(
            f"{needed}, and there is no terminal to ask at", remedy=f"set {variable}_FILE to the path of a file with it"
        )
    given = getpass.getpass(
        f"{word[0].upper()}{word[1:]} to {purpose}: " if not purpose.startswith("choose") else f"{purpose}: "
    )
    if purpose.startswith("choose") and getpass.getpass("the same again: ") != given:
        raise KeyStoreError("the two passphrases differ", remedy="try again")
    return given


def token_pin(purpose: str) -> str:
    """The PIN of a token: as `passphrase`, from MPCREDIT_TOKEN_PIN or MPCREDIT_TOKEN_PIN_FILE, or from the terminal."""
    return passphrase(purpose, variable="MPCREDIT_TOKEN_PIN", word="PIN")


def kdf_cost() -> KdfCost | None:
    """What stretching a new passphrase costs. MPCREDIT_UNSAFE_LIGHT_KDF=1 makes it cheap, for tests and demos only."""
    return KdfCost.unsafe_light() if os.environ.get("MPCREDIT_UNSAFE_LIGHT_KDF") == "1" else None


def open_keystore(
    config: Config, ask: Callable[[str], str] = passphrase, pin: Callable[[str], str] = token_pin
) -> KeyStore:
    """The party's key files and token; neither is opened before it is needed."""
    token = Pkcs11Keys(config.token, pin) if config.token else None
    return KeyStore(config.keys, ask, cost=kdf_cost(), token=token)


def book_adapter(config: Config) -> Callable[[Tagger], Book] | None:
    """The institution's own code that gives its loan book, None where the configuration names none.

    The function that [book] adapter names is called with a tagger and the path of [book] path (or None), and returns
    something with `as_of`, `currency` and `record` as `ports.Book` says: for who is not a customer all zero, and as much
    work as for who is. It is called again when another tag key comes into force. `mpcredit certify` tries it.

    Raises:
        InvalidFile: there is no such function, or what it gave is no book.
    """
    if config.book_adapter is None:
        return None
    name = config.book_adapter
    where = f"{config.path}, [book] adapter"
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InvalidFile(where, f"{name} cannot be had: {error}", "install its package beside mpcredit") from error

    def book(tagger: Tagger) -> Book:
        made = found(tagger, config.book)
        missing = [part for part in ("as_of", "currency", "record") if not hasattr(made, part)]
        if missing:
            raise InvalidFile(where, f"{name} gave no book: it lacks {', '.join(missing)}", "implement ports.Book")
        return made  # type: ignore[no-any-return]

    return book


def pins_of(config: Config, store: Store | None = None) -> Pins:
    """What this party accepts: the accounts of the founding file, and what its people have compared and accepted."""
    owners: dict[int, set[str]] = {}
    supervisors: set[str] = set()
    period_keys: set[bytes] = set()
    founding = read_founding(config.founding) if config.founding is not None else None
    if founding is not None:
        owners = {index: {founder.owner} for index, founder in enumerate(founding.founders)}
        supervisors.update(founding.supervisors)
    for key, value in store.items("pin") if store is not None else ():
        match value["role"]:
            case "owner":
                owners.setdefault(int(value["member"]), set()).add(key)
            case "supervisor":
                supervisors.add(key)
            case "period key":
                period_keys.add(hex_bytes(key, 32))
    return Pins(
        owners={index: frozenset(accounts) for index, accounts in owners.items()},
        supervisors=frozenset(supervisors),
        founding_supervisors=frozenset(founding.supervisors) if founding is not None else frozenset(),
        period_keys=frozenset(period_keys),
    )


def ledger_of(config: Config) -> ChainLedger:
    """Connect to the ledger.

    Raises:
        WrongLedger, LedgerError: another chain, no consortium there, or the endpoint is down.
        InvalidFile: the configuration names no consortium yet.
    """
    if config.consortium is None:
        raise InvalidFile(
            f"{config.path}, [ledger] consortium", "is missing", "write the address that `mpcredit deploy` printed"
        )
    return ChainLedger(client_of(config), config.consortium, chain_id=config.chain_id, first_block=config.first_block)


def client_of(config: Config) -> Web3:
    """A client of the party's node, or of several as one. Asks nothing yet."""
    if len(config.endpoints) == 1 and config.genesis is None:
        return connect(config.url, tls=config.tls)
    return connect(
        several(
            config.endpoints,
            chain_id=config.chain_id,
            consortium=config.consortium,
            genesis=config.genesis,
            confirmations=config.confirmations,
            behind_blocks=config.behind_blocks,
            compare_seconds=config.compare_minutes * 60,
            tls=config.tls,
        )
    )


def signer_of(config: Config, ledger: ChainLedger, keys: KeyStore) -> ChainSigner:
    """The party's ledger account: in its key files, or in an external signer."""
    return ChainSigner(
        ledger.web3,
        config.account or keys.account(),
        ledger.realm.consortium,
        chain_id=config.chain_id,
        signing=connect(config.signer, tls=config.tls) if config.signer else None,
        max_fee=config.max_fee_gwei * 10**9,
    )


def book_under(tagger: Tagger, book: Book, config: Config) -> Book:
    """The institution's book under the tags of a newer tag key: an own adapter is asked again, a file's book is raised."""
    adapter = book_adapter(config)
    if adapter is not None:
        return adapter(tagger)
    assert isinstance(book, TaggedBook)
    return book.raised(tagger)


class Institution(institution.Institution):
    """A member of the consortium, as its configuration file describes it: `Institution.from_config("bank.toml")`."""

    @classmethod
    def from_config(cls, path: str | Path, *, ask: Callable[[str], str] = passphrase) -> Institution:
        """Build an institution. See `institution_from_config` for what is raised."""
        return institution_from_config(path, ask=ask)


def institution_from_config(
    path: str | Path,
    *,
    ask: Callable[[str], str] = passphrase,
    store: Store | None = None,
    anchor: Callable[[], bytes] = lambda: bytes(32),
    book: Callable[[Tagger], Book] | None = None,
) -> Institution:
    """An institution as its configuration says. Closing its store lets the next process in.

    Args:
        store: used instead of the one that the configuration names, and closed by the caller.
        anchor: head of the audit log, which each report puts on the ledger.
        book: gives the loan book for a tag key, instead of the file that the configuration names.

    Raises:
        InvalidFile, KeyStoreError, StoreError, LedgerError: what is wrong, where, and the remedy.
    """
    # (1) what takes no lock, cheapest first, so that a mistake is told before anything is opened.
    config = read_config(path)
    if config.role != "institution":
        raise InvalidFile(f"{config.path}, role", f"is {config.role!r}", "use an institution's configuration here")
    if book is None:
        book = book_adapter(config)
    if book is None:
        if config.book is None:
            raise InvalidFile(f"{config.path}, [book] path", "is missing", "name the loan book (docs/loan-book.md)")
        book = LoanBook.read_csv(config.book, collect=True).index
    pins_of(config)
    policy = CreditPolicy.from_toml(config.policy) if config.policy else CreditPolicy.from_toml()
    keys = open_keystore(config, ask)
    if keys.token is not None:
        keys.unlock()  # a wrong PIN is told now, to the person who starts it
    ledger = ledger_of(config)
    signer = signer_of(config, ledger, keys)
    # (2) the store, which one process has at a time.
    with _opened(config, store) as store:
        # (3) the ledger names the tag key in force.
        follower = Follower(ledger, pins_of(config, store), config.confirmations)
        follower.sync()
        tagger = tagger_of(keys, follower.tag_keys)
        made = Institution(
            ledger=ledger,
            signer=signer,
            store=store,
            keys=keys,
            tagger=tagger,
            book=book(tagger),
            policy=policy,
            follower=follower,
            bits=config.bits,
            minimum_cohort=config.minimum_cohort,
            minimum_window=config.minimum_window_days * 86_400,
            ready=config.ready,
            anchor=anchor,
            marks=FileMark(config.mark),
        )
        made.desk.outbox.patience = config.patience
        return made


@contextlib.contextmanager
def _opened(config: Config, given: Store | None) -> Iterator[Store]:
    """The given store, or the configuration's own, which is closed again only if what follows fails.

    Raises:
        StoreError: the configuration's own is a server's database, which only the server gives.
    """
    if given is not None:
        yield given
        return
    if config.served:
        raise StoreError(
            f"{config.path}: this party's one store is the database of its server ([server] database)",
            remedy="run `mpcredit serve`, and use its pages or its API; a second store could answer an inquiry twice",
        )
    store = SqliteStore(config.store)
    try:
        yield store
    except BaseException:
        store.close()
        raise


def supervisor_from_config(
    path: str | Path,
    *,
    attest: bool = True,
    ask: Callable[[str], str] = passphrase,
    store: Store | None = None,
    anchor: Callable[[], bytes] = lambda: bytes(32),
) -> SupervisorNode:
    """The supervisor's node as its configuration says. Closing its store lets the next process in.

    Args:
        attest: put verdicts on the ledger.
        store: used instead of the one that the configuration names, and closed by the caller.
        anchor: head of the audit log, which each verdict puts on the ledger.

    Raises:
        InvalidFile, KeyStoreError, StoreError, LedgerError: what is wrong, where, and the remedy.
    """
    config = read_config(path)
    if config.role != "supervisor":
        raise InvalidFile(f"{config.path}, role", f"is {config.role!r}", "use the supervisor's configuration here")
    pins_of(config)
    keys = open_keystore(config, ask)
    if keys.token is not None:
        keys.unlock()  # a wrong PIN is told now, to the person who starts it
    ledger = ledger_of(config)
    signer = signer_of(config, ledger, keys)
    with _opened(config, store) as store:
        made = SupervisorNode(
            ledger=ledger,
            signer=signer,
            store=store,
            keys=keys,
            pins=pins_of(config, store),
            confirmations=config.confirmations,
            attest=attest,
            anchor=anchor,
        )
        made.outbox.patience = config.patience
        return made
