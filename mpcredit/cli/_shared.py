"""What all subcommands share: their common options, what they print, and words for times, keys and amounts.

Without --json, results go to standard output and progress to standard error. With it, standard output is one JSON
document and everything for people goes to standard error.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from mpcredit import config as configuration
from mpcredit.config import Config, passphrase, read_config
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidFile, InvalidMessage, MpcreditError
from mpcredit.ledger.roster import Member
from mpcredit.state import LedgerState

DEFAULT_CONFIG = "mpcredit.toml"
WIDTH_WITHOUT_TERMINAL = 120

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help=f"Configuration of your party (docs/configuration.md); by default $MPCREDIT_CONFIG, else ./{DEFAULT_CONFIG}.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", metavar="", help="Print one JSON document on standard output; words for people go to standard error."
    ),
]
OwnerOption = Annotated[
    Path | None,
    typer.Option(
        "--owner-account",
        metavar="FILE",
        help="Ethereum JSON keystore of your owner account; by default owner-account.json beside the configuration. Its "
        "passphrase: MPCREDIT_OWNER_PASSPHRASE, a file in MPCREDIT_OWNER_PASSPHRASE_FILE, or asked.",
        show_default=False,
    ),
]


def load(path: Path | None) -> Config:
    """Read the configuration of this party.

    Raises:
        InvalidFile: there is none, or a line of it is wrong.
    """
    return read_config(path or Path(os.environ.get("MPCREDIT_CONFIG", DEFAULT_CONFIG)))


def require_role(config: Config, role: str) -> None:
    """Refuse a command that is for the other role.

    Raises:
        InvalidFile: the configuration is of the other role.
    """
    if config.role != role:
        raise InvalidFile(f"{config.path}, role", f"is {config.role!r}", f"this command is for the role {role!r}")


def ask(purpose: str) -> str:
    """The passphrase of a key file, by what it is for."""
    if "exported tag key" in purpose:
        return passphrase(purpose, variable="MPCREDIT_EXPORT_PASSPHRASE")
    return passphrase(purpose)


def agree(question: str, yes: bool) -> None:
    """Ask the person at the terminal, unless --yes was given.

    Raises:
        InvalidMessage: the answer is no, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidMessage("this needs your word, and there is no terminal to ask at", remedy="add --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if input().strip().lower() not in ("y", "yes"):
        raise InvalidMessage("nothing was sent")


# --------------------------------------------------------------------- output


def clean(text: str) -> str:
    """Text that cannot move the cursor or hide other text: names come from the ledger."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, markup=False, emoji=False, highlight=False, soft_wrap=False, width=width)


class Output:
    """Prints what one command has to say.

    Args:
        as_json: the command was called with --json.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._people = _console(stderr=as_json)
        self._errors = _console(stderr=True)

    def say(self, text: str = "", style: str = "") -> None:
        """A result, for people."""
        self._people.print(Text(clean(text), style=style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Progress: always on standard error."""
        self._errors.print(Text(clean(text), style="dim"), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Something to look at: always on standard error."""
        self._errors.print(Text(clean(f"warning: {text}"), style="yellow"), soft_wrap=True)

    def facts(self, title: str, rows: Sequence[tuple[str, object]]) -> None:
        """Names and values under a title."""
        if title:
            self.say(title, "bold")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(f"  {name}", Text(clean(str(value))))
        self._people.print(table)

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        right: Sequence[str] = (),
        styles: Mapping[str, str] | None = None,
    ) -> None:
        """A table; columns named in `right` are numbers.

        Args:
            styles: of cells, by their text.
        """
        if title:
            self.say(title, "bold")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold cyan")
        for column in columns:
            table.add_column(column, justify="right" if column in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(clean(str(cell)), style=(styles or {}).get(str(cell), "")) for cell in row))
        self._people.print(table)

    def steps(self, title: str, steps: Sequence[str]) -> None:
        """What to do next, numbered."""
        self.say(title, "bold")
        for number, step in enumerate(steps, start=1):
            self.say(f"  {number}. {step}")

    def document(self, value: Mapping[str, Any]) -> None:
        """The result, for programs."""
        if self.as_json:
            print(json.dumps(value, indent=2, ensure_ascii=False, default=_jsonable), flush=True)

    def progress(self) -> Progress:
        """A line that tells what is being waited for."""
        return Progress(self._errors)


def _jsonable(value: object) -> Any:
    if isinstance(value, bytes):
        return to_hex(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset | tuple):
        return sorted(value)
    raise TypeError(f"a {type(value).__name__} in a JSON document")


class Progress:
    """At a terminal a spinner with a text; elsewhere each new text is a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._last = ""

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status = self._console.status("", spinner="dots")
            self._status.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def tell(self, text: str, detail: str = "") -> None:
        """Say what is being waited for.

        Args:
            detail: what changes all the time, such as seconds; shown at a terminal only.
        """
        text = clean(text)
        if self._status is not None:
            self._status.update(Text(f"{text}  {detail}".rstrip()))
        elif text != self._last:
            self._console.print(Text(text, style="dim"), soft_wrap=True)
        self._last = text

    def line(self, text: str) -> None:
        """Say that something happened."""
        self._console.print(Text(clean(text), style="dim"), soft_wrap=True)


# --------------------------------------------------------------------- words


def moment(seconds: int) -> str:
    """A time for people: 2026-11-20 14:05:09 UTC."""
    if seconds <= 0:
        return "never"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} seconds after 1970"


def duration(seconds: int) -> str:
    """A length of time for people, by its two largest units: 2 d 4 h."""
    parts = []
    rest = max(0, seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def fingerprint(public: bytes) -> str:
    """A public key in 8 groups of 4 digits, to be compared over the telephone (128 bits of its SHA-256)."""
    digits = hashlib.sha256(public).hexdigest()[:32]
    return " ".join(digits[i : i + 4] for i in range(0, 32, 4))


def find_member(state: LedgerState, text: str) -> Member:
    """The member of an index or name.

    Raises:
        InvalidMessage: there is none.
    """
    found = state.members.get(int(text)) if text.isdecimal() else state.by_name(text)
    if found is None:
        known = ", ".join(f"{member.index} ({member.name})" for member in state.members.values())
        raise InvalidMessage(f"there is no member {text!r}", remedy=f"use an index or a name of: {known}")
    return found


def parse_bytes(text: str, length: int, what: str) -> bytes:
    """Hexadecimal text of a fixed length.

    Raises:
        InvalidMessage: it is not that.
    """
    try:
        return hex_bytes(text.lower(), length)
    except MpcreditError as error:
        raise InvalidMessage(
            f"{what} {text!r} is malformed", remedy=f"give 0x and {2 * length} hexadecimal digits"
        ) from error


def plural(count: int, word: str, words: str = "") -> str:
    """A count with its word: 1 vote, 2 votes; 1 inquiry, 2 inquiries."""
    return f"{count} {word if count == 1 else words or f'{word}s'}"


def write_private(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Write a file that only its owner can read: whole or not at all.

    Raises:
        InvalidFile: it is there already, or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not replace:
            raise InvalidFile(str(path), "is there already", "give another name, or move it away first")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
    except OSError as error:
        raise InvalidFile(str(path), f"cannot be written: {error.strerror}", "see to path and permissions") from error
    finally:
        temporary.unlink(missing_ok=True)


def kdf_account_n() -> int:
    """Factor n of scrypt for an Ethereum JSON keystore."""
    cost = configuration.kdf_cost()
    return cost.account_n if cost else 262_144


def server_missing(error: ModuleNotFoundError) -> MpcreditError:
    """What to say where the package was installed without its server."""
    return MpcreditError(
        f"the server's libraries are not installed ({error.name})",
        remedy="install them: pip install 'mpcredit[server]'",
    )
