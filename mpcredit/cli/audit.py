"""mpcredit audit verify and export: the audit log of a party's server, checked against the ledger and copied."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpcredit.cli._parties import member_of_account, parse_account
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    ask,
    find_member,
    load,
    moment,
    plural,
    server_missing,
    write_private,
)
from mpcredit.config import Config, ledger_of, open_keystore, pins_of
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidFile, InvalidMessage
from mpcredit.follower import Follower
from mpcredit.ledger.roster import Member
from mpcredit.state import LedgerState

if TYPE_CHECKING:  # the server's libraries, which may not be installed
    from mpcredit.server.audit import Anchor, AuditLog

app = typer.Typer(no_args_is_help=True, help="The audit log of the server: check it, or copy it.")


@app.command("verify")
def verify(
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="Check this exported log instead of the database; it must begin with the first entry.",
            show_default=False,
        ),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option(
            "--of",
            metavar="WHOM",
            help="Whose heads to look for on the ledger: a member's index or name, or a supervisor's owner account; by "
            "default those of the configuration's own service account, for which its passphrase is asked.",
            show_default=False,
        ),
    ] = None,
    no_ledger: Annotated[
        bool,
        typer.Option("--no-ledger", metavar="", help="Check the chain of hashes alone; a log written anew passes."),
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Check that no entry of the audit log was changed, removed, added or moved.

    Each report of an institution, each verdict of the supervisor, and else a daily transaction puts the head of its log on the
    ledger. So also an end
    that was written anew or cut off is found, up to the last such head. The server may be running.

    Example: mpcredit audit verify --config /etc/mpcredit/bank.toml
    """
    try:
        from mpcredit.server.audit import check_lines
    except ModuleNotFoundError as error:
        raise server_missing(error) from error

    settings, out = load(config), Output(json)
    anchors = [] if no_ledger else _anchors(settings, of)  # before the log, which goes on growing
    if file is not None:
        with _lines(file) as lines:
            checked = check_lines(lines, anchors)
    else:
        with _log(settings) as log:
            checked = log.check(anchors)
    out.say(f"The audit log is whole: {_entries(checked.entries)}.", "bold green")
    last = anchors[-1] if anchors else None
    out.facts(
        "",
        [
            ("head", to_hex(checked.head)),
            (
                "on the ledger",
                "not looked up (--no-ledger)"
                if no_ledger
                else "no head yet: the next report, verdict or daily anchor puts one there"
                if last is None
                else f"{plural(len(anchors), 'head')}, the last in block {last.block} at {moment(last.at)}",
            ),
            ("bound by it", f"entries up to {checked.anchored}" if checked.anchored else "none"),
        ],
    )
    out.document(
        {
            "entries": checked.entries,
            "head": to_hex(checked.head),
            "ledger": not no_ledger,
            "anchors": [
                {
                    "head": to_hex(a.hash),
                    "inquiry": to_hex(a.inquiry) if a.inquiry else None,
                    "block": a.block,
                    "at": a.at,
                }
                for a in anchors
            ],
            "anchored": checked.anchored,
        }
    )


@app.command("export")
def export(
    since: Annotated[int, typer.Option("--since", metavar="N", help="Only entries after number N.", min=0)] = 0,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FILE", help="Write a new file instead of standard output (mode 600).", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Write the audit log as JSON lines: one entry each, in order, with its format, version and hash.

    The lines are what the server streams at /api/audit. `mpcredit audit verify --file` reads them from the first on. With
    --to, --json tells how many there were. The server may be running.

    Example: mpcredit audit export --since 1200 --to audit-1200.jsonl
    """
    try:
        import mpcredit.server.audit  # noqa: F401
    except ModuleNotFoundError as error:
        raise server_missing(error) from error

    out = Output(json)
    with _log(load(config)) as log:
        if to is None:
            for entry in log.stream(since):
                sys.stdout.write(entry.line.decode() + "\n")
            return
        entries = list(log.stream(since))
        write_private(to, b"".join(entry.line + b"\n" for entry in entries))
    out.say(f"Wrote {_entries(len(entries))} to {to}.")
    out.document(
        {"file": str(to), "entries": len(entries), "since": since, "last": entries[-1].seq if entries else since}
    )


def _entries(count: int) -> str:
    return f"{count} entry" if count == 1 else f"{count} entries"


@contextlib.contextmanager
def _log(settings: Config) -> Iterator[AuditLog]:
    """The log in the server's database, beside the server."""
    from mpcredit.server.audit import AuditLog
    from mpcredit.server.database import Database
    from mpcredit.server.settings import ServerSettings

    server = ServerSettings.load(settings.path)
    database = Database(server.database, create=False, password=server.database_password())
    try:
        yield AuditLog(database)
    finally:
        database.close()


def _anchors(settings: Config, whom: str | None) -> list[Anchor]:
    from mpcredit.server.audit import ledger_anchors

    follower = Follower(ledger_of(settings), pins_of(settings), settings.confirmations)
    follower.sync()
    state = follower.state
    if settings.role == "supervisor":
        owner = _supervisor(settings, state) if whom is None else parse_account(whom)
        return ledger_anchors(state, follower.events, supervisor=owner)
    member = _member(settings, state) if whom is None else find_member(state, whom)
    return ledger_anchors(state, follower.events, member=member.index)


def _own_account(settings: Config) -> str:
    return settings.account or str(open_keystore(settings, ask).account().address)


def _member(settings: Config, state: LedgerState) -> Member:
    account = _own_account(settings)
    keys = open_keystore(settings, ask).institution_versions().values()
    found = member_of_account(state, account, keys)
    if found is None:
        raise InvalidMessage(f"account {account} is no member's service account", remedy="name the member with --of")
    return found


def _supervisor(settings: Config, state: LedgerState) -> str:
    account = _own_account(settings)
    found = next((one.owner for one in state.supervisors.values() if one.account == account), None)
    if found is None:
        raise InvalidMessage(
            f"account {account} is no supervisor's service account", remedy="give the owner account with --of"
        )
    return found


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        with path.open("rb") as stream:
            yield iter(stream)
    except OSError as error:
        raise InvalidFile(str(path), f"cannot be read: {error.strerror}", "name a file that was exported") from error
