"""mpcredit audit verify and export: the audit log of a party's server, checked against the ledger and copied."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from eth_utils.address import is_address, to_checksum_address

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
            help="Whose heads to look for on the ledger: a member's index or name, or a supervisor's account; by default "
            "those of the configuration's own ledger account, for which its passphrase is asked.",
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

    account = None
    if whom is None:
        account = settings.account or open_keystore(settings, ask).account().address
    follower = Follower(ledger_of(settings), pins_of(settings), settings.confirmations)
    follower.sync()
    state = follower.state
    if settings.role == "supervisor":
        if whom is not None and not is_address(whom):
            raise InvalidMessage(f"{whom!r} is no account", remedy="give the supervisor's account: 0x and 40 digits")
        return ledger_anchors(state, follower.events, supervisor=to_checksum_address(whom or str(account)))
    member = find_member(state, whom) if whom is not None else state.by_operator(str(account))
    if member is None:
        raise InvalidMessage(
            f"account {account} is no operator of a member of the consortium", remedy="name the member with --of"
        )
    return ledger_anchors(state, follower.events, member=member.index)


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        with path.open("rb") as stream:
            yield iter(stream)
    except OSError as error:
        raise InvalidFile(str(path), f"cannot be read: {error.strerror}", "name a file that was exported") from error
