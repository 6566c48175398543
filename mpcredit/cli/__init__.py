"""The command line: one file for each subcommand, each of which reads arguments, calls one use case and prints.

Errors that this package means to raise become two lines on standard error, "error: …" and "remedy: …", and an exit
status; docs/cli.md lists both. A programming mistake is allowed to crash.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

import mpcredit
from mpcredit.cli import (
    answer,
    approve,
    consent,
    decide,
    deploy,
    doctor,
    evidence,
    execute,
    explain,
    inquire,
    keys,
    member,
    propose,
    ready,
    verify,
    vote,
    watch,
)
from mpcredit.cli._shared import clean
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

app.add_typer(keys.app, name="keys")
app.command("deploy")(deploy.deploy)
app.add_typer(member.app, name="member")
app.add_typer(propose.app, name="propose")
app.command("vote")(vote.vote)
app.command("approve")(approve.approve)
app.command("execute")(execute.execute)
app.command("ready")(ready.ready)
app.add_typer(consent.app, name="consent")
app.command("inquire")(inquire.inquire)
app.command("answer")(answer.answer)
app.command("watch")(watch.watch)
app.command("decide")(decide.decide)
app.command("explain")(explain.explain)
app.command("evidence")(evidence.evidence)
app.command("verify")(verify.verify)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mpcredit {mpcredit.__version__}, specification {SPEC_VERSION}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the versions and leave.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, the `exit_code` of the error, 1 where `doctor` found something, 2 for wrong arguments.
    """
    given = sys.argv[1:] if arguments is None else arguments
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
