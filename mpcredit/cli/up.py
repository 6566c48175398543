"""mpcredit up: a local consortium of separate processes, with pages to look at."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpcredit.cli._shared import JsonOption, Output, server_missing
from mpcredit.errors import LedgerError

if TYPE_CHECKING:
    from mpcredit.server.up import Running

LOOK_SECONDS = 0.5


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """SIGTERM ends it as Ctrl-C does, at any point; once it is stopping, neither breaks that off."""
    stop = threading.Event()

    def told(_signal: int, _frame: object) -> None:
        if not stop.is_set():
            stop.set()
            raise KeyboardInterrupt

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def up(
    institutions: Annotated[
        int | None, typer.Option("--institutions", "-n", help="How many, 3 to 26; by default 5.", show_default=False)
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option("--bits", help="Size of n for inquiries; by default 3072. 2048 is quicker.", show_default=False),
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option(
            "--chain",
            help="embedded (default), anvil, or the URL of a node; there MPCREDIT_FUNDING_KEY pays.",
            show_default=False,
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            help="sqlite (default), or postgresql://USER@HOST/postgres of an account that may create databases.",
            show_default=False,
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-d",
            metavar="DIR",
            help="Keep everything there, and start it again from there; by default it is gone at the end.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", help="Of the first institution; the others follow. By default 8600.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start a consortium on this machine: institutions, a supervisor and a chain, each a process of its own.

    Keys are fresh, loan books come from the shipped real accounts. When all are ready it prints a page and a one-time
    sign-in link for each role. Ctrl-C stops everything; one that is killed leaves the others working.

    Example: mpcredit up --directory demo --bits 2048
    """
    try:
        from mpcredit.server.up import up as start  # the web framework, which no other command needs
    except ModuleNotFoundError as error:
        raise server_missing(error) from error

    out = Output(json)
    begun = time.monotonic()
    with _interruptible() as stop, contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        with out.progress() as progress:
            running = stack.enter_context(
                start(
                    institutions=institutions,
                    bits=bits,
                    chain=chain,
                    database=database,
                    directory=directory,
                    port=port,
                    say=progress.tell,
                )
            )
        if json:
            out.document(_document(running))
        else:
            _show(out, running, time.monotonic() - begun)
        stack.callback(out.note, "stopping")
        _watch(out, running, stop)
    out.note("stopped")


def _watch(out: Output, running: Running, stop: threading.Event) -> None:
    """Say which process has ended; without a chain nothing goes on.

    Raises:
        LedgerError: the chain has ended.
    """
    while not stop.wait(LOOK_SECONDS):
        for party, how in running.ended():
            if party is None:
                raise LedgerError(f"the chain {how}", remedy=f"see chain.log in {running.directory}")
            out.warn(f"{party.name} {how}; the others go on. Start it again in another terminal:")
            print(f"  {party.command}", file=sys.stderr, flush=True)


def _document(running: Running) -> dict[str, Any]:
    return {
        "directory": str(running.directory),
        "kept": running.keep,
        "chain": running.chain_url,
        "chain_id": running.plan.chain_id,
        "consortium": running.plan.consortium,
        "bits": running.plan.bits,
        "parties": [
            {
                "name": party.name,
                "role": party.role,
                "page": party.url,
                "config": str(party.config),
                "pid": running.pid(party),
                "sign_in": {link.role: link.url for link in running.links if link.party == party},
            }
            for party in running.parties
        ],
    }


def _show(out: Output, running: Running, seconds: float) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold cyan")
    # A link that is broken over two lines cannot be clicked, so nothing is folded here.
    for column in ("Institution", "Page", "Role", "Person", "Sign in, once"):
        table.add_column(column, no_wrap=True, overflow="ignore")
    last = None
    for link in running.links:
        first = link.party != last
        if first and last is not None:
            table.add_section()
        table.add_row(
            Text(link.party.name if first else "", style="bold"),
            Text(link.party.url if first else ""),
            link.role,
            link.person,
            Text(link.url, style=f"link {link.url}"),
        )
        last = link.party
    plan = running.plan
    out.say(
        f"{plan.institutions} institutions and a supervisor are ready after {seconds:.0f} seconds "
        f"({plan.bits}-bit keys, chain {plan.chain_id} at {running.chain_url})",
        "bold",
    )
    console = Console(file=sys.stdout, markup=False, emoji=False, highlight=False)
    needed = Console(width=500).measure(table).maximum
    console.width = max(console.width, needed)
    console.print(table, soft_wrap=True)
    out.say(
        f"Files: {running.directory}" + ("" if running.keep else " (deleted at the end; keep them with --directory)")
    )
    out.say("Ctrl-C stops everything.")
