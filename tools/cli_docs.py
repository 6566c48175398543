"""Write docs/cli.md from the program, or check that it is what the program says.

python tools/cli_docs.py --write | --check
"""

from __future__ import annotations

import difflib
import inspect
import sys
from pathlib import Path
from typing import Any

import typer

from mpcredit import errors
from mpcredit.cli import app

TARGET = Path(__file__).parents[1] / "docs" / "cli.md"

COMMON = ("help", "config", "json", "json_", "owner_account")
"""Options of many commands, described once."""

COMMON_TEXT = """## Commands

Every command that needs it takes `--config FILE` (`-c`): the configuration of your party, by default
`$MPCREDIT_CONFIG`, else `./mpcredit.toml`.

Commands that govern (`keys rotate`, `member confirm`, `member appoint`, `member period-key`, `member reinstate`,
`propose …`, `vote`, `approve`, `execute`) take `--owner-account FILE`: the Ethereum JSON keystore of your owner account, by
default `owner-account.json` beside the configuration. Its passphrase comes from `MPCREDIT_OWNER_PASSPHRASE`, from a file in
`MPCREDIT_OWNER_PASSPHRASE_FILE`, or is asked for. `member suspend` and `member end-period-key` are sent by the service
account; with `--owner-account FILE` the owner account sends them."""

HEAD = """# The command line

Written by `tools/cli_docs.py` from the program; a test compares the two. Every command has `--help`, and `--json` for
one JSON document on standard output (words for people then go to standard error). Errors are two lines on standard
error, `error: …` and `remedy: …`; with `--json` also a document `{"error": {"kind", "message", "remedy", "exit_code"}}`.

## Exit status

| status | meaning |
|---|---|
| 0 | done |
| 1 | `doctor` found something wrong; an inquiry ended without totals |
"""


def text(value: str) -> str:
    """Help text on one line of a table."""
    return " ".join(value.split()).replace("|", "\\|")


def exit_codes() -> str:
    """The table of exit statuses, from the exception tree."""
    rows: dict[int, list[str]] = {2: ["wrong arguments"]}
    for name, kind in sorted(vars(errors).items()):
        if inspect.isclass(kind) and issubclass(kind, errors.MpcreditError) and "exit_code" in vars(kind):
            rows.setdefault(kind.exit_code, []).append(
                f"`{name}`: {text(inspect.getdoc(kind) or '').split('. ')[0].rstrip('.')}"
            )
    rows.pop(1, None)
    lines = [f"| {code} | {'; '.join(meanings)} |" for code, meanings in sorted(rows.items())]
    return "\n".join([*lines, "| 130 | stopped by Ctrl-C |"])


def option(parameter: Any) -> str:
    """One row for an option or argument."""
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts] if name.startswith("-"))
    if not names:
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    elif parameter.metavar:
        names += f" `{parameter.metavar}`"
    help_ = text(parameter.help or "")
    default = parameter.default
    shown = not callable(default) and default not in (None, False, True, "", [], ()) and default is not ...
    needed = " Required." if parameter.required else ""
    return f"| {names} | {help_}{needed}{f' Default: {default}.' if shown else ''} |"


def page(path: str, command: Any) -> str:
    """The section of one command."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    examples = [text(p).removeprefix("Example: ") for p in paragraphs if p.startswith("Example:")]
    prose = [" ".join(p.split()) for p in paragraphs if not p.startswith("Example:")]
    rows = [option(p) for p in command.params if p.name not in COMMON]
    example = "\n".join(part.strip() for one in examples for part in one.split(";"))
    parts = [f"### {path}", "\n\n".join(prose), f"```\n{example}\n```"]
    if rows:
        parts.append("\n".join(["| | |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def document() -> str:
    """The whole file."""
    top: Any = typer.main.get_command(app)
    sections = []
    for name, command in top.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            sections.append(page(f"mpcredit {name}", command))
            continue
        sections.append(f"## mpcredit {name}\n\n{text(command.help or '')}")
        sections += [page(f"mpcredit {name} {sub}", found) for sub, found in inner.items() if not found.hidden]
    # Single commands first, so that each stands under the right heading.
    single = [section for section in sections if section.startswith("### ") and section.split("\n")[0].count(" ") == 2]
    grouped = [section for section in sections if section not in single]
    return "\n\n".join([HEAD + exit_codes(), COMMON_TEXT, *single, *grouped]) + "\n"


def main() -> int:
    """Write or compare."""
    made = document()
    if sys.argv[1:] == ["--write"]:
        TARGET.write_text(made, encoding="utf-8")
        return 0
    if sys.argv[1:] != ["--check"]:
        print(__doc__)
        return 2
    there = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
    if there == made:
        return 0
    print("".join(difflib.unified_diff(there.splitlines(True), made.splitlines(True), "docs/cli.md", "the program")))
    print("docs/cli.md is not what the program says: make docs")
    return 1


if __name__ == "__main__":
    sys.exit(main())
