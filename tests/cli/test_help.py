"""Every command has a help page with an example, offers --json, and docs/cli.md is what the program says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from parties import here

from mpcredit.cli import app

ROOT = Path(__file__).parents[2]


def commands() -> list[tuple[str, ...]]:
    top = typer.main.get_command(app)
    found: list[tuple[str, ...]] = []
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [(name, sub) for sub in inner] if inner else [(name,)]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help__has_an_example_and_json(command: tuple[str, ...], tmp_path: Path) -> None:
    done = here([*command, "--help"], {"COLUMNS": "110"}, tmp_path)

    assert done.status == 0
    assert "Example" in done.out
    assert "--json" in done.out


def test_help__of_everything__and_version(tmp_path: Path) -> None:
    assert here(["--help"], {}, tmp_path).status == 0
    assert here(["--version"], {}, tmp_path).out.startswith("mpcredit 0.")
    assert here(["no-such-command"], {}, tmp_path).status == 2
    assert here(["inquire", "--no-such-option"], {}, tmp_path).status == 2


def test_docs_cli__is_what_the_program_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "cli_docs.py"), "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
