"""mpcredit book: import the loan book into the server's database, and show which one is in use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    ask,
    duration,
    load,
    moment,
    plural,
    require_role,
    server_missing,
)
from mpcredit.config import Config, ledger_of, open_keystore, pins_of
from mpcredit.errors import InvalidFile, InvalidMessage
from mpcredit.follower import Follower
from mpcredit.tags import HmacTagger, tagger_of

URL_VARIABLE = "MPCREDIT_BOOK_SQL_URL"

app = typer.Typer(help="The loan book in the server's database.", no_args_is_help=True, rich_markup_mode="markdown")


@app.command("import")
def import_(
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="A file of the form of docs/loan-book.md.", show_default=False),
    ] = None,
    sql_url: Annotated[
        str | None,
        typer.Option(
            "--sql-url",
            metavar="URL",
            help="SQLAlchemy URL of the bank's own database. Better in MPCREDIT_BOOK_SQL_URL: others see arguments.",
            show_default=False,
        ),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            "--query",
            metavar="SQL",
            help="A SELECT that gives the columns of docs/loan-book.md; @FILE reads it from a file.",
            show_default=False,
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME",
            help="When the figures of the query held, ISO 8601, UTC unless it has an offset; by default now.",
            show_default=False,
        ),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="FILE",
            help="Leave wrong rows out and write row, field and reason of each to this file; by default one wrong row "
            "and nothing is imported.",
            show_default=False,
        ),
    ] = None,
    currency: Annotated[
        str | None,
        typer.Option("--currency", metavar="CODE", help="The only currency to accept (ISO 4217).", show_default=False),
    ] = None,
    older: Annotated[
        bool, typer.Option("--older", metavar="", help="Accept figures that are older than those in use.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a file or a query the loan book that the server answers from.

    The server may run meanwhile: it uses the old book until the new one is whole, then the new one. Rows that are the same
    as before stay, customers that are missing are gone. Only tags and figures are kept, no identity numbers. Needs the
    passphrase of the keys, and the ledger, which names the tag key in force.

    Example: mpcredit book import --csv book.csv; mpcredit book import --query @book.sql --rejects rejects.csv
    """
    settings, out = load(config), Output(json)
    with _database(settings) as (database, bookimport, audit):
        source: Any
        url = sql_url or os.environ.get(URL_VARIABLE)
        if (csv is None) == (query is None) or (csv is not None and (sql_url is not None or as_of is not None)):
            raise InvalidMessage("say what to import", remedy="give --csv FILE, or --sql-url URL and --query SQL")
        if csv is not None:
            source = bookimport.CsvFile(csv)
        else:
            assert query is not None
            if not url:
                raise InvalidMessage("the database's URL is missing", remedy=f"set {URL_VARIABLE}, or give --sql-url")
            source = bookimport.SqlQuery(url, _query(query), _time(as_of))
        with out.progress() as progress:

            def tell(now: Any) -> None:
                word = {"read": "reading", "sort": "sorting", "write": "writing"}[now.stage]
                share = "" if now.share is None else f", {100 * now.share:.0f} %"
                progress.tell(f"{word} the loan book", f"{now.rows:,} rows{share}, {now.rejected:,} rejected")

            done = bookimport.import_book(
                database,
                audit,
                source,
                _tagger(settings),
                currency=currency,
                rejects=rejects,
                older=older,
                progress=tell,
            )
    found = done.snapshot
    out.facts(
        f"Loan book {found.number} is in use",
        [
            ("as of", moment(found.as_of)),
            ("customers", f"{found.customers:,}"),
            ("new", f"{found.added:,}"),
            ("changed", f"{found.changed:,}"),
            ("unchanged", f"{found.kept:,}"),
            ("gone", f"{found.removed:,}"),
            ("rejected rows", f"{found.rejected:,}" + (f", listed in {rejects}" if found.rejected else "")),
            ("took", f"{done.seconds:.1f} s"),
        ],
    )
    if found.rejected:
        out.warn(f"{plural(found.rejected, 'row')} rejected: until mended, these customers count as having no figures")
    out.document({**_facts(found), "seconds": round(done.seconds, 3), "rejects": rejects})


@app.command()
def customers(
    csv: Annotated[
        Path,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Columns kind,country,number,reference; one row for each customer.",
            show_default=False,
        ),
    ],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Give the list of customers to whom notices go, with the bank's own reference for each.

    It replaces the list from before. Only tags and references are kept, no identity numbers; the server raises them to a new
    tag key by itself. Needs the passphrase of the keys, and the ledger.

    Example: mpcredit book customers --csv customers.csv
    """
    settings, out = load(config), Output(json)
    with _database(settings) as (database, _bookimport, audit):
        from mpcredit.server.notices import import_customers

        count = import_customers(database, audit, csv, _tagger(settings))
    out.facts("The list of customers for notices is in use", [("customers", f"{count:,}")])
    out.document({"customers": count})


@app.command()
def show(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show which loan book is in the database, how old it is and what the last import did.

    Example: mpcredit book show --json
    """
    settings, out = load(config), Output(json)
    with _database(settings, create=False) as (database, bookimport, _audit):
        found = bookimport.current_snapshots(database)
    if not found:
        out.say("No loan book was imported. Until the first import the server uses the file of [book] path, if any.")
    for one in found:
        out.facts(
            f"Loan book {one.number}, schema {one.schema.id}",
            [
                ("as of", f"{moment(one.as_of)}, {duration(int(time.time()) - one.as_of)} ago"),
                ("customers", f"{one.customers:,}"),
                ("currency", one.currency),
                ("tag key", one.tag_key_version),
                ("from", one.source),
                ("imported", moment(one.finished_at)),
                (
                    "last import",
                    f"{one.added:,} new, {one.changed:,} changed, {one.kept:,} unchanged, {one.removed:,} gone, "
                    f"{one.rejected:,} rejected",
                ),
            ],
        )
    out.document({"books": [_facts(one) for one in found]})


@contextmanager
def _database(settings: Config, *, create: bool = True) -> Iterator[tuple[Any, Any, Any]]:
    """The server's database, the module that imports, and the audit log; the server may have it open too."""
    require_role(settings, "institution")
    if not settings.served:
        raise InvalidFile(
            f"{settings.path}, [server]",
            "is missing",
            "add the table; without a server the loan book is the file of [book] path",
        )
    try:
        from mpcredit.server import bookimport
        from mpcredit.server.audit import AuditLog
        from mpcredit.server.database import open_database
        from mpcredit.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise server_missing(error) from error
    database = open_database(ServerSettings.load(settings.path), create=create)
    try:
        yield database, bookimport, AuditLog(database)
    finally:
        database.close()


def _tagger(settings: Config) -> HmacTagger:
    keys = open_keystore(settings, ask)
    follower = Follower(ledger_of(settings), pins_of(settings), settings.confirmations)
    follower.sync()
    return tagger_of(keys, follower.tag_keys)


def _query(given: str) -> str:
    if not given.startswith("@"):
        return given
    path = Path(given[1:])
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(str(path), f"cannot be read: {error}", "name a file with the query") from error


def _time(given: str | None) -> int | None:
    if given is None:
        return None
    try:
        found = datetime.fromisoformat(given)
        seconds = int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError) as error:
        raise InvalidMessage(f"--as-of {given!r} is no time", remedy="write 2026-11-01T18:00:00Z") from error
    if seconds < 0:
        raise InvalidMessage("--as-of lies before 1970", remedy="write 2026-11-01T18:00:00Z")
    return seconds


def _facts(one: Any) -> dict[str, Any]:
    names = (
        *("number", "as_of", "currency", "institution", "tag_key_version", "source", "started_at", "finished_at"),
        *("customers", "added", "changed", "kept", "removed", "rejected"),
    )
    return {"schema": one.schema.id, **{name: getattr(one, name) for name in names}}
