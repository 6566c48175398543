"""Ways to a party's ledger, store and keys, whether its service is running or not.

One process at a time has the store. While the service (`mpcredit answer`, `mpcredit watch`) has it, other commands read
the store beside it and hand over what is to be done as files in an inbox, a directory beside the store that only its
owner can enter. What is handed over goes through the same checks and the same outbox as without a service.

Where the configuration has a table [server], the one store is the database of `mpcredit serve`. Reading commands read
that; what people do there by their roles, and into the audit log, is refused here; and what only the command line does
(governance, keys) takes the database while the server is stopped. Nothing is handed over to a server.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from mpcredit.chain import ChainLedger
from mpcredit.cli._shared import ask, server_missing
from mpcredit.config import (
    Config,
    institution_from_config,
    ledger_of,
    open_keystore,
    pins_of,
    signer_of,
    supervisor_from_config,
)
from mpcredit.consent import Consent
from mpcredit.encoding import canonical_json, hex_bytes, parse_canonical_json, to_hex
from mpcredit.errors import InvalidMessage, LedgerError, MpcreditError, StoreError, TransactionFailed
from mpcredit.events import Call
from mpcredit.follower import Follower
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.keystore import KeyStore
from mpcredit.outbox import Outbox
from mpcredit.ports import OutboxRow, Store
from mpcredit.storage.mark import FileMark
from mpcredit.store import MemoryStore, SqliteStore, StoreInUse
from mpcredit.tenure import Tenure, tenure_of

HAND_OVER_SECONDS = 60.0
"""How long the service may take to pick up what was handed over: it may be answering a large inquiry."""
MINED_SECONDS = 180.0
PAUSE = 0.2

PAGES = {
    "answer": "run `mpcredit serve`, which answers by itself; what it answered is on its page /furnishing",
    "consent": "revoke it on the server's page /consents",
    "decide": "decide on the application's page, below /applications",
    "inquire": "enter an application on the server's page /applications/new, or POST it to /api/applications",
    "ready": "the server switches readiness on and off by itself; to be off, stop it",
    "watch": "run `mpcredit serve`, which checks and attests by itself; what it finds is on its page /supervision",
}
"""Commands whose work a server does for people with a role, and where."""


class AnyStore(Store, Protocol):
    """A store of any kind, opened."""

    def outbox_rows(self) -> list[OutboxRow]:
        """All steps in the order in which they were added."""

    def close(self) -> None:
        """Let the next process in."""


class ReadOnlyStore(SqliteStore):
    """A store that another process writes: reading takes no lock, and writing is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, create=False)

    def _take_lock(self, create: bool) -> int:
        if not self.path.exists():
            raise StoreError(f"{self.path}: there is no store", remedy="start the service once: `mpcredit answer`")
        return -1

    def _connect(self, create: bool) -> sqlite3.Connection:
        place = f"file:{quote(str(self.path.resolve()))}?mode=ro"
        connection = None
        try:
            connection = sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False)
            self._check_version(connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone())
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise self._translate(error) from error
        except StoreError:
            if connection is not None:
                connection.close()
            raise
        return connection


def place_of(config: Config) -> str:
    """Where the party's one store is, without a password."""
    if not config.served:
        return str(config.store)
    from sqlalchemy import make_url  # a server's libraries, which no other party needs

    return make_url(_settings(config).database).render_as_string(hide_password=True)


def read_store(config: Config) -> AnyStore:
    """The party's one store, to be read beside whoever has it; an empty one before it is made.

    Raises:
        StoreError, InvalidFile: it is not to be had.
    """
    if not config.served:
        return ReadOnlyStore(config.store) if config.store.exists() else MemoryStore()
    settings = _settings(config)
    from mpcredit.server.store import ReadSqlStore

    if settings.database.startswith("sqlite:///") and not Path(settings.database.removeprefix("sqlite:///")).exists():
        return MemoryStore()
    return ReadSqlStore(settings)


def refuse_beside_server(config: Config, command: str) -> None:
    """Refuse a command whose work this party's server does.

    Raises:
        StoreError: the party has a server, running or not.
    """
    if config.served:
        raise StoreError(
            f"`mpcredit {command}` is not for a party with a server ({config.path} has a table [server]): its one store "
            f"is {place_of(config)}",
            remedy=PAGES[command],
        )


def _settings(config: Config) -> Any:
    try:
        from mpcredit.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise server_missing(error) from error
    return ServerSettings.load(config.path)


# --------------------------------------------------------------------- reading


@dataclass
class View:
    """The ledger and the store, to be read."""

    config: Config
    ledger: ChainLedger
    follower: Follower
    store: AnyStore


@contextlib.contextmanager
def view(config: Config) -> Iterator[View]:
    """Read the ledger up to its head, and the store beside whoever has it.

    Raises:
        LedgerError, StoreError, InvalidFile: one of them is not to be had.
    """
    pins_of(config)
    ledger = ledger_of(config)
    store = read_store(config)
    try:
        follower = Follower(ledger, pins_of(config, store), config.confirmations, clock=time.time)
        follower.sync()
        yield View(config, ledger, follower, store)
    finally:
        store.close()


# --------------------------------------------------------------------- acting


@dataclass
class Access(View):
    """Ledger, store and keys, to act with; `submit` and `settle` are the two ways to do so."""

    keys: KeyStore

    @property
    def own(self) -> bool:
        """Whether this process has the store."""
        return False

    def submit(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Have something done now. `dispatch` says what there is.

        Raises:
            MpcreditError: as whoever does it raises it.
        """
        raise NotImplementedError

    def drive(self) -> None:
        """Look after ledger steps that are under way, if that is this process's task."""

    def work(self) -> list[str]:
        """One round of what is due, if that is this process's task; one line for each thing done."""
        self.follower.sync()
        return []

    def post(self, function: str, *arguments: Any, contract: str = "consortium") -> OutboxRow:
        """Call a contract from the party's ledger account, and wait until that is mined.

        Raises:
            Refused: a rule of the contract said no.
            LedgerError: it was not mined in time; the service goes on with it.
        """
        step = f"cli/{function}/{secrets.token_hex(6)}"
        self.submit(
            {
                "kind": "post",
                "step": step,
                "contract": contract,
                "function": function,
                "arguments": [_encode(argument) for argument in arguments],
            }
        )
        return self.settle(step)

    def settle(self, step: str) -> OutboxRow:
        """Wait until a ledger step is mined.

        Raises:
            Refused, TransactionFailed: it reverted.
            LedgerError: it was not mined in time.
        """
        end = time.monotonic() + MINED_SECONDS
        while True:
            row = self.store.outbox_by_key(step)
            if row is not None and row.state == "mined":
                self.follower.sync()
                return row
            if row is not None and row.state == "failed":
                raise self.ledger.failure(row.tx_hash) or TransactionFailed(
                    f"transaction {to_hex(row.tx_hash)} failed", remedy="look it up on the ledger"
                )
            if time.monotonic() > end:
                raise LedgerError(
                    f"the ledger has not mined the step within {MINED_SECONDS:.0f} seconds",
                    remedy="it stays in the store, and the service sends it again; see `mpcredit doctor`",
                )
            self.drive()
            time.sleep(PAUSE)


@dataclass
class Station(Access):
    """This process has the store."""

    outbox: Outbox
    institution: Institution | None = None
    supervisor: SupervisorNode | None = None

    @property
    def own(self) -> bool:
        """Whether this process has the store."""
        return True

    def submit(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Do it here; at a server's database it is in the audit log before."""
        if self.config.served:
            self._log(item)
        return dispatch(self, item)

    def _log(self, item: Mapping[str, Any]) -> None:
        from mpcredit.server.audit import AuditLog
        from mpcredit.server.store import SqlStore

        assert isinstance(self.store, SqlStore)
        facts = {
            name: item[name] for name in ("contract", "function", "pinned", "role", "member", "on") if name in item
        }
        AuditLog(self.store.database).append("console", f"console.{item['kind']}", item.get("step", ""), **facts)

    def drive(self) -> None:
        """Look after ledger steps that are under way."""
        self.outbox.drive()

    def work(self) -> list[str]:
        """One round of everything that is due, also of what other commands handed over."""
        done = serve_inbox(self)
        if self.institution is not None:
            return done + self.institution.work()
        if self.supervisor is not None:
            return done + self.supervisor.work()
        self.follower.sync()
        self.outbox.drive()
        return done


@dataclass
class Beside(Access):
    """The service has the store."""

    process: str
    """Its process id."""
    handed: list[str] = field(default_factory=list)

    def submit(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Hand it over to the service and wait for its answer."""
        inbox = inbox_of(self.config)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        path = inbox / f"{name}.json"
        temporary = inbox / f".{name}.tmp"
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as stream:
            json.dump(dict(item), stream)
        temporary.rename(path)
        end = time.monotonic() + HAND_OVER_SECONDS
        while (answer := self.store.get("inbox", name)) is None:
            if time.monotonic() > end:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    raise StoreError(
                        f"process {self.process} has the store {self.config.store} open and takes nothing from its inbox",
                        remedy="see whether it is stuck, or stop it; nothing was done",
                    )
                end += HAND_OVER_SECONDS  # it was taken a moment ago
            time.sleep(PAUSE)
        if answer["ok"]:
            result: dict[str, Any] = answer["result"]
            return result
        raised = MpcreditError(answer["message"], remedy=answer["remedy"])
        raised.exit_code = int(answer["exit_code"])
        raise raised


@dataclass
class BesideServer(Access):
    """The party's server has the store: it is read, and nothing is done."""

    process: str
    """Its process id, or where it runs."""

    def submit(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Refused."""
        raise StoreError(
            f"{place_of(self.config)}: the server of this party has it (process {self.process}), and takes nothing from "
            "the command line",
            remedy="stop `mpcredit serve`, give the command again, start it again; nothing was done",
        )


@contextlib.contextmanager
def access(config: Config, *, full: bool = False, attest: bool = True) -> Iterator[Access]:
    """Ledger, store and keys of this party: its own where it is free, else beside the service that has it.

    Args:
        full: build the whole party (loan book, policy), so that `work` does everything that is due.
        attest: a supervisor puts its verdicts on the ledger.

    Raises:
        LedgerError, StoreError, KeyStoreError, InvalidFile: something is not to be had.
    """
    beside: type[Beside | BesideServer] = Beside
    try:
        opened = station(config, full=full, attest=attest)
    except StoreError as error:
        process = _process(config, error)
        if process is None:
            raise
        beside = BesideServer if config.served else Beside
        with view(config) as read:
            yield beside(
                config=config,
                ledger=read.ledger,
                follower=read.follower,
                store=read.store,
                keys=open_keystore(config, ask),
                process=process,
            )
        return
    try:
        yield opened
    finally:
        opened.store.close()


def _process(config: Config, error: StoreError) -> str | None:
    """Who has the store, if that is what is wrong."""
    if isinstance(error, StoreInUse):
        return error.process
    if config.served:
        from mpcredit.server.database import DatabaseInUse

        if isinstance(error, DatabaseInUse):
            return error.process
    return None


def station(config: Config, *, full: bool, attest: bool = True) -> Station:
    """Take the store.

    Raises:
        StoreInUse, DatabaseInUse: another process has it.
        LedgerError, StoreError, KeyStoreError, InvalidFile: something is not to be had.
    """
    if full and config.role == "institution":
        institution = institution_from_config(config.path, ask=ask)
        return _started(
            Station(
                config=config,
                ledger=_chain(institution.follower),
                follower=institution.follower,
                store=_sqlite(institution.desk.store),  # `institution_from_config` refuses a server's
                keys=_files(institution.desk.keys),
                outbox=institution.desk.outbox,
                institution=institution,
            )
        )
    if full:
        node = supervisor_from_config(config.path, attest=attest, ask=ask)
        return _started(
            Station(
                config=config,
                ledger=_chain(node.follower),
                follower=node.follower,
                store=_sqlite(node.supervisor.store),
                keys=_files(node.supervisor.keys),
                outbox=node.outbox,
                supervisor=node,
            )
        )
    pins_of(config)
    keys = open_keystore(config, ask)
    ledger = ledger_of(config)
    signer = signer_of(config, ledger, keys)
    store = _own_store(config)
    try:
        follower = Follower(ledger, pins_of(config, store), config.confirmations, clock=time.time)
        outbox = Outbox(store, signer, ledger, adopts=config.role == "supervisor")
        if config.role == "institution":
            tenure = Tenure(store, FileMark(config.mark))
            outbox.hindrance = lambda: outbox.foreign or tenure.stopped(None)
        return _started(Station(config=config, ledger=ledger, follower=follower, store=store, keys=keys, outbox=outbox))
    except BaseException:
        store.close()
        raise


def _own_store(config: Config) -> AnyStore:
    if not config.served:
        return SqliteStore(config.store)
    settings = _settings(config)
    from mpcredit.server.store import OwnSqlStore

    return OwnSqlStore(settings)


def _started(made: Station) -> Station:
    """Compare store and ledger before anything is done (R25), and read the ledger."""
    try:
        made.outbox.compare()
        made.follower.sync()
    except BaseException:
        made.store.close()
        raise
    return made


def _chain(follower: Follower) -> ChainLedger:
    assert isinstance(follower.ledger, ChainLedger)
    return follower.ledger


def _sqlite(store: object) -> SqliteStore:
    assert isinstance(store, SqliteStore)
    return store


def _files(keys: object) -> KeyStore:
    assert isinstance(keys, KeyStore)
    return keys


# --------------------------------------------------------------------- what can be done


def _encode(argument: Any) -> Any:
    return {"hex": to_hex(argument)} if isinstance(argument, bytes) else argument


def _decode(argument: Any) -> Any:
    return hex_bytes(argument["hex"], None) if isinstance(argument, dict) else argument


def dispatch(at: Station, item: Mapping[str, Any]) -> dict[str, Any]:
    """Do one thing: "post", "ready", "tenure", "request", "report", "decision" or "pin".

    Raises:
        InvalidMessage: it is none of these, or not for this party.
        MpcreditError: as the use case raises it.
    """
    match item["kind"]:
        case "post":
            call = Call(item["contract"], item["function"], tuple(_decode(a) for a in item["arguments"]))
            at.outbox.post(item["step"], call)
            return {"step": item["step"]}
        case "ready":
            at.follower.sync()
            row = None
            if bool(at.follower.state.ready_next() >> item["member"] & 1) != item["on"]:
                row = at.outbox.post(item["step"], Call("consortium", "setReady", (item["member"], item["on"])))
            # Off holds until a person switches it on again: the service must not do so by itself. A server has no such
            # command, so nothing is held there.
            at.store.put("meta", "readiness", {"held": not item["on"] and not at.config.served})
            return {"step": row.key if row is not None else None}
        case "tenure":
            return {"tenure": to_hex(tenure_of(at.store, FileMark(at.config.mark)))}
        case "request":
            if at.institution is None:
                raise InvalidMessage("only an institution's service takes inquiries")
            at.follower.sync()
            request = at.institution.inquirer.request(
                item["labels"],
                [Consent.from_json_object(parse_canonical_json(text.encode())) for text in item["consents"]],
                officer=item["officer"],
                group=item["group"],
                schema=item["schema"],
            )
            return {"request": request.id}
        case "report":
            if at.institution is None:
                raise InvalidMessage("only an institution's service reports inquiries")
            at.follower.sync()
            return {"step": at.institution.inquirer.report(hex_bytes(item["inquiry"], 32)).key}
        case "decision":
            at.store.insert("decision", item["key"], item["value"])
            return {}
        case "pin":
            at.store.put("pin", item["pinned"], {"role": item["role"], "member": item["member"]})
            at.follower.use_pins(pins_of(at.config, at.store))
            at.follower.sync()
            return {}
        case kind:
            raise InvalidMessage(f"there is nothing called {kind!r} to do", remedy="use one version of mpcredit")


def request_item(
    labels: list[str], consents: list[Consent], *, officer: str, group: int, schema: int
) -> dict[str, Any]:
    """The item that asks for an inquiry."""
    return {
        "kind": "request",
        "labels": labels,
        "consents": [canonical_json(consent.to_json_object()).decode() for consent in consents],
        "officer": officer,
        "group": group,
        "schema": schema,
    }


# --------------------------------------------------------------------- the inbox


def inbox_of(config: Config) -> Path:
    """The directory of what is handed over to the service; made if it is not there.

    Raises:
        StoreError: others can enter it.
    """
    path = config.store.with_name(config.store.name + ".inbox")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise StoreError(f"{path}: cannot be used: {error.strerror}", remedy="see to path and permissions") from error
    if mode & 0o077:
        raise StoreError(
            f"{path}: other accounts of this machine can enter it (mode {mode & 0o777:o})",
            remedy=f"run: chmod 700 {path}",
        )
    return path


_STEPS: Final = ("post", "ready", "report")
"""What makes a step of the ledger."""


def serve_inbox(at: Station) -> list[str]:
    """Do what other commands handed over, each once; the answer goes into the store.

    Returns:
        One line for each.
    """
    done = []
    for path in sorted(inbox_of(at.config).glob("*.json")):
        name = path.stem
        if at.store.get("inbox", name) is None:
            try:
                item = json.loads(path.read_text(encoding="utf-8"))
                # A step is stored before it is sent, so it cannot be part of a transaction; its key makes it happen once.
                alone = contextlib.nullcontext() if item.get("kind") in _STEPS else at.store.transaction()
                with alone:
                    result = dispatch(at, item)
                    at.store.put("inbox", name, {"ok": True, "result": result})
                done.append(f"took over from another command: {item['kind']} {item.get('function', '')}".rstrip())
            except (MpcreditError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                at.store.put("inbox", name, _failure(error))
        path.unlink(missing_ok=True)
    return done


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, MpcreditError):
        return {"ok": False, "message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
    return {"ok": False, "message": "what was handed over is malformed", "remedy": "use one version", "exit_code": 3}
