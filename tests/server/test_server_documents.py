"""docs/server.md and deploy/ against the program: pages and roles, API, settings, example configurations, the unit."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import test_pages
import typer
from fastapi import FastAPI

from mpcredit.cli import app as program
from mpcredit.config import read_config
from mpcredit.errors import InvalidFile, KeyStoreError
from mpcredit.server.app import create_app
from mpcredit.server.people import SCOPES, Role
from mpcredit.server.settings import OidcSettings, ServerSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCUMENT = (ROOT / "docs/server.md").read_text(encoding="utf-8")
ROLES = {role.value for role in Role}


def table(heading: str) -> list[list[str]]:
    """All rows of the tables below a heading, cells as text."""
    (part,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines() if line[:3] == "| `"]
    assert rows
    return rows


def application(role: str) -> FastAPI:
    """A party's application, without a party."""
    node: Any = SimpleNamespace(role=role, each_round=lambda _task: None)
    none: Any = SimpleNamespace(follow=None, misuse=None, database=SimpleNamespace(url_safe="", path=None))
    return create_app(ServerSettings(), node, none, none, none)


def test_pages__with_their_roles__are_those_of_the_application() -> None:
    said = {row[0].strip("`"): set(row[1].split(", ")) for row in table("Pages")}
    assert set().union(*said.values()) <= ROLES
    bank, supervision = test_pages.BANK, test_pages.SUPERVISION
    known = {path: bank.get(path, set()) | supervision.get(path, set()) for path in bank | supervision}
    gets = set()
    for role in ("institution", "supervisor"):
        site: Any = SimpleNamespace(app=application(role))
        gets |= {path for method, path in test_pages.routes(site) if method == "GET" and path in known}

    pages = {path for path in gets if not path.startswith("/api/")} - {"/metrics"}
    assert said == {path: known[path] for path in pages}


def test_api__is_that_of_the_openapi_documents() -> None:
    there = set()
    for role in ("institution", "supervisor"):
        for path, methods in application(role).openapi()["paths"].items():
            there |= {f"{method.upper()} {path}" for method in methods}

    said = {row[0].strip("`"): row[1] for row in table("API")}

    assert set(said) == there
    for request, who in said.items():
        words = {word.strip("`") for word in who.split(", ")}
        assert words <= ROLES | SCOPES | {"anybody"}, request
        path = request.split()[1]
        expected = (
            {"officer"} if request == "POST /api/applications" else (test_pages.BANK | test_pages.SUPERVISION).get(path)
        )
        if expected is not None:
            assert words & ROLES == expected, request


def test_settings__are_all_told_with_their_defaults() -> None:
    said: dict[str, str] = {}
    for row in table("Each line of [server]"):
        names = [name.strip("`") for name in row[0].split(", ")]
        values = row[1].split(", ") if len(names) > 1 and row[1] != "none" else [row[1]] * len(names)
        said |= dict(zip(names, values, strict=True))

    assert set(said) == set(ServerSettings.model_fields)
    for name, text in said.items():
        default = ServerSettings.model_fields[name].default
        if text not in ("none", "`[]`", "of host and port"):
            assert text.strip('`"') == str(default), name
        else:
            assert not default, name


@pytest.mark.parametrize("role", ["institution", "supervisor"])
def test_example_configuration__is_read(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ServerSettings.model_fields:
        monkeypatch.delenv(f"MPCREDIT_SERVER_{name.upper()}", raising=False)
    path = DEPLOY / ("bank.toml" if role == "institution" else "supervisor.toml")

    config, settings = read_config(path), ServerSettings.load(path)

    assert (config.role, config.served) == (role, True)
    assert config.keys == Path("/var/lib/mpcredit/keys")
    assert settings.database.startswith("postgresql+psycopg://")
    assert "sslmode=verify-full" in settings.database
    assert ":" not in settings.database.split("://")[1].split("@")[0], "no password in the URL"
    assert settings.tls
    assert settings.secure
    assert settings.origin.startswith("https://credit.")


def test_settings_of_the_provider__are_all_told_with_their_defaults() -> None:
    said = {row[0].strip("`"): row[1] for row in table("Identity provider")}

    assert set(said) == set(OidcSettings.model_fields)
    for name, text in said.items():
        found = OidcSettings.model_fields[name]
        if text == "required":
            assert found.is_required(), name
        elif text == "none":
            assert not found.default, name
        else:
            shown = " ".join(found.default) if isinstance(found.default, tuple) else str(found.default)
            assert text.strip('`"').lower() == shown.lower(), name


def test_example_configuration__what_is_commented_out__is_read_as_well(tmp_path: Path) -> None:
    text = (DEPLOY / "bank.toml").read_text(encoding="utf-8")
    text = re.sub(r"^(database|database_password_file|host|tls_\w+) = .*\n", "", text, flags=re.MULTILINE)
    text, count = re.subn(r"^# (\w+ = |\"[\w-]+\" = |\[server\.oidc)", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"^tls_client_ca = .*\n", "", text, flags=re.MULTILINE)
    (tmp_path / "bank.toml").write_text(text)

    settings = ServerSettings.load(tmp_path / "bank.toml")

    assert count == 23
    assert settings.oidc is not None
    assert set(settings.oidc.roles.values()) == {"officer", "administrator", "auditor"}
    assert settings.database == "sqlite:////var/lib/mpcredit/server.sqlite"
    assert settings.trusted_proxies
    assert settings.secure


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "mpcredit.service").read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def command(words: list[str]) -> click.Command:
    """The command that the words name, with all its options known."""
    found: Any = typer.main.get_command(program)
    assert words[0].endswith("/mpcredit")
    rest = words[1:]
    while rest and rest[0] in getattr(found, "commands", {}):
        found = found.commands[rest.pop(0)]
    options = {option for parameter in found.params for option in parameter.opts}
    assert not getattr(found, "commands", {}), words
    for word in rest:
        if word.startswith("--"):
            assert word in options, words
    return found  # type: ignore[no-any-return]


def test_unit__starts_the_program_with_the_example_configuration() -> None:
    lines = unit()
    (start,) = lines["ExecStart"]
    words = shlex.split(start)

    assert command(words).name == "serve"
    config = Path(words[words.index("--config") + 1])
    assert (config.parent, (DEPLOY / config.name).exists()) == (Path("/etc/mpcredit"), True)
    assert "MPCREDIT_PASSPHRASE_FILE=%d/passphrase" in lines["Environment"]
    assert lines["LoadCredential"] == ["passphrase:/etc/mpcredit/passphrase"]
    prevented = {int(code) for code in lines["RestartPreventExitStatus"][0].split()}
    assert prevented == {InvalidFile.exit_code, KeyStoreError.exit_code}


def test_unit__systemd_knows_every_line() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        [analyze, "verify", str(DEPLOY / "mpcredit.service")], capture_output=True, text=True, timeout=60, check=False
    )

    problems = [line for line in (done.stdout + done.stderr).splitlines() if "mpcredit.service" in line]
    assert [line for line in problems if "is not executable" not in line] == []


def test_deploy__commands_in_its_text__are_the_programs() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    as_service = re.findall(r"^as-mpcredit (.*)$|`as-mpcredit ([^`]*)`", text, re.MULTILINE)
    in_text = re.findall(r"`mpcredit ([a-z][^`]*)`", text)

    words = [(a or b) for a, b in as_service] + in_text
    assert len(words) > 6
    for line in words:
        command(["/mpcredit", *shlex.split(line)])
