"""mpcredit doctor: look at everything this party needs, and say what is wrong and what helps."""

from __future__ import annotations

import json as json_text
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from hexbytes import HexBytes

import mpcredit
from mpcredit.books import LoanBook
from mpcredit.chain import ChainLedger, Endpoints, Wallet
from mpcredit.cli._access import AnyStore, inbox_of, place_of, read_store
from mpcredit.cli._parties import account_address, member_of_account
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    ask,
    duration,
    fingerprint,
    load,
    moment,
    server_missing,
)
from mpcredit.cli.keys import tag_commitments, x25519_keys
from mpcredit.config import Config, client_of, ledger_of, open_keystore, pins_of
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage, KeyStoreError, MpcreditError
from mpcredit.events import Call
from mpcredit.follower import Follower
from mpcredit.keystore import KeyStore
from mpcredit.ledger.roster import Member
from mpcredit.pkcs11keys import Pkcs11Keys
from mpcredit.policy import CreditPolicy
from mpcredit.protocol import SPEC_VERSION
from mpcredit.state import LedgerState
from mpcredit.store import MemoryStore
from mpcredit.tags import tagger_of
from mpcredit.versions import THIS_RELEASE, agreed_version

CLOCK_SECONDS = 300
"""A head older than this on a chain that mines without transactions means that the node lags; on a devnet it means nothing."""
FORWARD_SECONDS = 60
TRANSACTIONS_LEFT = 50
"""Of balance: below so many answers a warning."""
ANSWER_GAS = 300_000

OK, LOOK, WRONG, SKIPPED = "ok", "look", "WRONG", "skipped"
STYLES = {OK: "green", LOOK: "yellow", WRONG: "bold red", SKIPPED: "dim"}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    state: str
    detail: str
    remedy: str = ""


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
    """Look at ledger, contracts, accounts, keys, pins, tag keys, clock, loan book, readiness, balance, store and sign-in.

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


class _Examination:
    """Runs checks one after the other; one that cannot be made does not keep the others from being made."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def add(self, name: str, state: str, detail: str, remedy: str = "") -> None:
        self.checks.append(Check(name, state, detail, remedy))

    def run(self, name: str, look: Callable[[], Any]) -> Any:
        """Make a check that adds its own findings; an error of ours becomes one."""
        try:
            return look()
        except MpcreditError as error:
            self.add(name, WRONG, error.message, error.remedy)
            return None


def examine(config: Config, *, open_keys: bool) -> list[Check]:
    """Look at everything of a party."""
    ex = _Examination()
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
        ex.run("clock", lambda: _clock(ex, follower))
        ex.run("balance", lambda: _balance(ex, config, ledger, keys))
        # (3) this party on the ledger.
        if config.role == "institution":
            member = ex.run("membership", lambda: _membership(ex, config, keys, follower))
            if store is not None:
                ex.run("tenure", lambda: _tenure(ex, member, store))
            ex.run("registered key", lambda: _registered(ex, config, keys, member, state))
            ex.run("tag keys", lambda: _tag_keys(ex, config, keys, follower.tag_keys, bool(opened)))
            ex.run("pins", lambda: _pins(ex, follower))
            ex.run("period key", lambda: _period_key(ex, follower))
            ex.run("own floors", lambda: _floors(ex, config, state))
            ex.run("releases", lambda: _releases(ex, member, state))
            if book is not None:
                ex.run("loan book", lambda: _book_age(ex, book, follower))
        else:
            ex.run("supervisor", lambda: _supervisor(ex, config, keys, state))
        if store is not None and not isinstance(store, MemoryStore):
            ex.run("store", lambda: _steps(ex, config, store, ledger, state))
    elif store is not None and not isinstance(store, MemoryStore):
        ex.add("store", OK, place_of(config))
    if store is not None:
        store.close()
    return ex.checks


# --------------------------------------------------------------------- here


def _provider(ex: _Examination, config: Config) -> None:
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


def _keys(ex: _Examination, config: Config, keys: KeyStore, open_keys: bool) -> bool:
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


def _token(ex: _Examination, config: Config, keys: KeyStore, open_keys: bool) -> None:
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


def _book(ex: _Examination, config: Config) -> LoanBook | _Imported | None:
    if config.book_adapter is not None:
        ex.add("loan book", SKIPPED, f"given by {config.book_adapter}; `mpcredit certify` tries it")
        return None
    imported = _imported(config)
    if imported is not None:
        return imported
    if config.book is None:
        raise KeyStoreError("[book] path is missing in the configuration", remedy="name the loan book")
    return LoanBook.read_csv(config.book, collect=True)


def _policy(ex: _Examination, config: Config, book: LoanBook | _Imported | None) -> None:
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


def _endpoints(ex: _Examination, config: Config) -> None:
    provider = client_of(config).provider
    assert isinstance(provider, Endpoints)
    for one in provider.examine():
        if one.trouble:
            remedy = "start that node or see to it; if it is another ledger's, take it out of [ledger] endpoints"
            ex.add("endpoint", WRONG, f"{one.name} {one.trouble}", remedy)
        else:
            ex.add("endpoint", OK, f"{one.name}: chain, first block and Consortium are right, block {one.block}")


def _follow(ex: _Examination, config: Config, ledger: ChainLedger, store: AnyStore | None) -> Follower:
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


def _contracts(ex: _Examination, ledger: ChainLedger, state: LedgerState) -> None:
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


def _clock(ex: _Examination, follower: Follower) -> None:
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


def _balance(ex: _Examination, config: Config, ledger: ChainLedger, keys: KeyStore) -> None:
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


# --------------------------------------------------------------------- this party


def _membership(ex: _Examination, config: Config, keys: KeyStore, follower: Follower) -> Member | None:
    address = account_address(config)
    member = member_of_account(follower.state, address, keys.institution_versions().values())
    if member is None:
        ex.add(
            "membership",
            WRONG,
            f"the ledger account {address} is no member's service account",
            "the owner names it (`mpcredit member confirm`, later `mpcredit member appoint`); a new institution is invited by "
            "the members first",
        )
        return None
    who = f"{member.name}, member {member.index}; service account {address} is named"
    state = follower.state
    if member.suspended:
        ex.add("membership", WRONG, f"{who}; suspended by the supervisor", "ask the supervisor; its owner reinstates")
    elif not state.is_serving(member.index):
        ex.add(
            "membership",
            WRONG,
            f"{who}; the mask keys of key {member.key.version} are not audited yet",
            "keep the service running; every serving member's and the supervisor's must have run as well",
        )
    elif not state.ready_next() >> member.index & 1:
        ex.add(
            "membership",
            LOOK,
            f"{who}; serving, but readiness is off",
            "start the service (`mpcredit answer` or `serve`), or run `mpcredit ready --on`",
        )
    elif not state.ready(follower.next_time) >> member.index & 1:
        ex.add("membership", OK, f"{who}; serving, ready from the next period of {state.period_seconds} s on")
    else:
        ex.add("membership", OK, f"{who}; serving, readiness is on")
    return member


def _tenure(ex: _Examination, member: Member | None, store: AnyStore) -> None:
    """Whether the owner has named this store: another one of the same member may answer otherwise (R25)."""
    known = store.get("meta", "tenure")
    if member is None or not member.namings:
        return
    if known is None or known["tenure"] != to_hex(member.namings[-1].tenure):
        ex.add(
            "tenure",
            WRONG,
            f"the store has {known['tenure'][:14] + '…' if known else 'no tenure'}, the owner named "
            f"{to_hex(member.namings[-1].tenure)[:14]}…: another store of this institution is to answer",
            "use the store that was named; if it is lost, the owner names this one (`mpcredit member appoint`)",
        )
    else:
        naming = member.namings[-1]
        ex.add("tenure", OK, f"that of this store is named, since {moment(member.since)} (naming {naming.number})")


def _period_key(ex: _Examination, follower: Follower) -> None:
    """Whether a period key is in force, and accepted here (R12)."""
    state, pins = follower.state, follower.pins
    for version in (state.in_force, state.announced_key):
        if version is None or pins.accepts_period_key(state.period_keys[version]):
            continue
        key = state.period_keys[version]
        now = version == state.in_force
        remedy = (
            f"compare {fingerprint(key.public)} with the supervisor, then `mpcredit member accept-period-key {version}`"
        )
        if not pins.accepts_supervisor(key.supervisor):
            remedy = f"compare the supervisor's owner account first: `mpcredit member pin supervisor {key.supervisor}`"
        ex.add(
            "period key",
            WRONG if now else LOOK,
            f"key {version} of supervisor {key.supervisor} is {'in force' if now else 'announced'} and not accepted here",
            remedy,
        )
        return
    if state.period_key is None:
        ex.add(
            "period key", LOOK, "none is in force: nothing opens", "the supervisor announces one and its service audits"
        )
    else:
        more = "" if state.announced_key is None else f"; key {state.announced_key} is announced, and accepted"
        ex.add("period key", OK, f"key {state.period_key.version} is in force, and accepted here{more}")


def _registered(ex: _Examination, config: Config, keys: KeyStore, member: Member | None, state: LedgerState) -> None:
    if member is None or not member.keys:
        return
    if member.key.public not in keys.institution_versions().values():
        ex.add(
            "registered key",
            WRONG,
            f"the private key of institution key {member.key.version} ({fingerprint(member.key.public)}) is not here",
            "restore it from a backup; if it is lost, or was never yours, run `mpcredit keys rotate` and tell the supervisor",
        )
        return
    open_ = {
        inquiry.keys[member.index].version: inquiry.keys[member.index].public
        for inquiry in state.inquiries.values()
        if member.index in inquiry.keys and not inquiry.stage.ended
    }
    lost = [version for version, public in open_.items() if public not in keys.institution_versions().values()]
    if lost:
        ex.add(
            "registered key",
            WRONG,
            f"open inquiries need institution key {lost[0]}, which is not here",
            "restore it from a backup",
        )
        return
    ex.add(
        "registered key",
        OK,
        f"institution key {member.key.version} is the one on the ledger: {fingerprint(member.key.public)}",
    )


def _supervisor(ex: _Examination, config: Config, keys: KeyStore, state: LedgerState) -> None:
    address = account_address(config)
    own = next((one for one in state.supervisors.values() if one.account == address), None)
    if own is None:
        ex.add(
            "supervisor",
            WRONG,
            f"the ledger account {address} is no supervisor's service account",
            "the owner names it (`mpcredit member appoint`); a new supervisor is added by proposal before",
        )
        return
    ex.add("supervisor", OK, f"owner account {own.owner}; service account {address} is named")
    periods = [version for version in (state.in_force, state.announced_key) if version is not None]
    for version in periods:
        key = state.period_keys[version]
        if key.supervisor == own.owner and key.public not in keys.supervisor_versions().values():
            ex.add(
                "registered key",
                WRONG,
                f"the private half of period key {version} is not here",
                "restore it from a backup, or announce the next one (`mpcredit member period-key`)",
            )
            return
    if not periods:
        ex.add("registered key", WRONG, "no period key is announced", "run `mpcredit member period-key`")
    elif state.period_key is None:
        ex.add(
            "registered key",
            LOOK,
            f"period key {periods[0]} is announced, and none is in force: nothing opens",
            "keep the service running; it puts the key in force when the members are audited for it",
        )
    else:
        key = state.period_key
        ex.add("registered key", OK, f"period key {key.version} is in force: {fingerprint(key.public)}")


def _tag_keys(ex: _Examination, config: Config, keys: KeyStore, in_force: Mapping[int, bytes], opened: bool) -> None:
    if opened:
        newest = tagger_of(keys, in_force).version
        ex.add("tag keys", OK, f"all versions, 1 to {newest}, with the consortium's commitments")
        return
    commitments = tag_commitments(config, keys)
    for version, commitment in sorted(in_force.items()):
        if commitments.get(version) != to_hex(commitment):
            raise KeyStoreError(
                f"tag key {version} is not here, or is not the consortium's; without it this institution is not ready",
                remedy="import all versions: `mpcredit keys tag --import FILE`",
            )
    ex.add("tag keys", SKIPPED, f"all versions, 1 to {max(in_force)}, by their headers; not opened")


def _pins(ex: _Examination, follower: Follower) -> None:
    state, pins = follower.state, follower.pins
    strangers = [
        f"{member.name} ({member.signed_by[member.key.version]})"
        for index in state.active()
        if (member := state.members[index]).keys and not pins.accepts_owner(index, member.signed_by[member.key.version])
    ]
    strangers += [f"the supervisor ({owner})" for owner in state.supervisors if not pins.accepts_supervisor(owner)]
    if strangers:
        ex.add(
            "pins",
            WRONG,
            f"not accepted by you: {', '.join(strangers)}; inquiries with them are refused",
            "compare the account with the institution by another channel, then `mpcredit member pin MEMBER ADDRESS`",
        )
    else:
        ex.add("pins", OK, f"the owners of all {len(state.active())} members and of the supervisors are accepted")


def _floors(ex: _Examination, config: Config, state: LedgerState) -> None:
    """Nobody signs the terms: an institution's own floors bound what a false endpoint can make of them."""
    terms = state.parameters
    if terms is None or config.role != "institution":
        return
    days = terms.window_seconds // 86_400
    low = [
        f"{name} is {own}, the consortium's {theirs}"
        for name, own, theirs in (
            ("minimum_cohort", config.minimum_cohort, terms.minimum_cohort),
            ("minimum_window_days", config.minimum_window_days, days),
        )
        if own < theirs
    ]
    if low:
        remedy = (
            f"in [inquiry] write minimum_cohort = {terms.minimum_cohort} and minimum_window_days = {days}, as agreed"
        )
        ex.add("own floors", LOOK, "; ".join(low), remedy)
    else:
        ex.add("own floors", OK, "cohort and window are at least the consortium's, whatever an endpoint shows")


def _releases(ex: _Examination, member: Member | None, state: LedgerState) -> None:
    """What the others' releases read, and whether inquiries with them can be (docs/adr/0019)."""
    others = {state.members[i].name: state.release_of(i) for i in state.active() if member is None or i != member.index}
    told = "; ".join(
        f"{name}: {f'mpcredit {release.package}' if release.package else 'a first release'}, messages {release.reads}"
        for name, release in others.items()
    )
    text = f"this one reads messages of version {THIS_RELEASE.reads}. {told or 'There are no others'}"
    try:
        agreed_version(THIS_RELEASE, others)
    except InvalidMessage as error:
        ex.add("releases", WRONG, f"{text}. {error.message}", error.remedy)
    else:
        ex.add("releases", OK, text)


def _book_age(ex: _Examination, book: LoanBook | _Imported, follower: Follower) -> None:
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


def _steps(ex: _Examination, config: Config, store: AnyStore, ledger: ChainLedger, state: LedgerState) -> None:
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
    restored = store.get("meta", "restored")
    text = f"{place_of(config)}: {known} ledger steps, {len(pending)} under way"
    if sent > known:
        ex.add(
            "store",
            WRONG,
            f"{text}; but the account has sent {sent}: the store is older than the ledger, or the account is used elsewhere",
            "restore the newest backup; the service refuses every inquiry opened until now (R25, docs/operations.md)",
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
        mark = f"; restored in block {restored['block']}: earlier inquiries are refused" if restored else ""
        inbox = f"; {waiting} waiting in the inbox" if waiting else ""
        ex.add(
            "store",
            LOOK if waiting else OK,
            text + more + mark + inbox,
            "start the service, which takes what waits in the inbox",
        )
