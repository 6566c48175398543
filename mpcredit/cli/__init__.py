"""The command line: one file for each subcommand, each of which reads arguments, calls one use case and prints.

Errors that this package means to raise become two lines on standard error, "error: …" and "remedy: …", and an exit
status; docs/cli.md lists both. A programming mistake is allowed to crash.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Annotated

import typer

import mpcredit
from mpcredit.cli._shared import clean
from mpcredit.cli.answer import answer
from mpcredit.cli.approve import approve
from mpcredit.cli.audit import app as audit_app
from mpcredit.cli.book import app as book_app
from mpcredit.cli.certify import certify
from mpcredit.cli.consent import app as consent_app
from mpcredit.cli.decide import decide
from mpcredit.cli.demo import demo
from mpcredit.cli.deploy import deploy
from mpcredit.cli.doctor import doctor
from mpcredit.cli.evidence import evidence
from mpcredit.cli.execute import execute
from mpcredit.cli.explain import explain
from mpcredit.cli.inquire import inquire
from mpcredit.cli.keys import app as keys_app
from mpcredit.cli.member import app as member_app
from mpcredit.cli.people import app as people_app
from mpcredit.cli.propose import app as propose_app
from mpcredit.cli.ready import ready
from mpcredit.cli.serve import serve
from mpcredit.cli.up import up
from mpcredit.cli.verify import verify
from mpcredit.cli.vote import vote
from mpcredit.cli.watch import watch
from mpcredit.errors import MpcreditError
from mpcredit.protocol import SPEC_VERSION

__all__ = ["app", "main"]

app = typer.Typer(
    name="mpcredit",
    help="Joint credit inquiries: institutions compute a customer's total exposure together, and none gives a figure away.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)

app.command("demo")(demo)
app.add_typer(keys_app, name="keys")
app.command("up")(up)
app.command("serve")(serve)
app.command("certify")(certify)
app.add_typer(people_app, name="people")
app.command("deploy")(deploy)
app.add_typer(member_app, name="member")
app.add_typer(propose_app, name="propose")
app.command("vote")(vote)
app.command("approve")(approve)
app.command("execute")(execute)
app.command("ready")(ready)
app.add_typer(book_app, name="book")
app.add_typer(consent_app, name="consent")
app.command("inquire")(inquire)
app.command("answer")(answer)
app.command("watch")(watch)
app.command("decide")(decide)
app.command("explain")(explain)
app.command("evidence")(evidence)
app.command("verify")(verify)
app.add_typer(audit_app, name="audit")
app.command("doctor")(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mpcredit {mpcredit.__version__}, specification {SPEC_VERSION}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the versions and leave."),
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, the `exit_code` of the error, 1 where `doctor` found something, 2 for wrong arguments.
    """
    given = sys.argv[1:] if arguments is None else arguments
    _log_to_stderr()
    try:
        app(args=given, prog_name="mpcredit", standalone_mode=True)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    except MpcreditError as error:
        _tell(error, as_json="--json" in given)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _log_to_stderr() -> None:
    """Warnings of the package on standard error; MPCREDIT_LOG=info or debug shows more. They hold no secrets."""
    logger = logging.getLogger("mpcredit")
    for handler in [handler for handler in logger.handlers if handler.get_name() == "mpcredit-cli"]:
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name("mpcredit-cli")
    handler.setFormatter(logging.Formatter("warning: %(message)s" if "MPCREDIT_LOG" not in os.environ else None))
    logger.addHandler(handler)
    level = os.environ.get("MPCREDIT_LOG", "warning").upper()
    logger.setLevel(level if level in ("DEBUG", "INFO", "WARNING", "ERROR") else "WARNING")
    logger.propagate = False


def _tell(error: MpcreditError, *, as_json: bool) -> None:
    print(f"error: {clean(error.message)}", file=sys.stderr)
    if error.remedy:
        print(f"remedy: {clean(error.remedy)}", file=sys.stderr)
    if as_json:
        told = {
            "error": {
                "kind": type(error).__name__,
                "message": error.message,
                "remedy": error.remedy,
                "exit_code": error.exit_code,
            }
        }
        print(json.dumps(told, indent=2, ensure_ascii=False))
