"""mpcredit people: accounts of a party's server, made at the console of its machine; everything else is on the page /people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load, server_missing
from mpcredit.config import Config
from mpcredit.errors import InvalidFile

if TYPE_CHECKING:  # the server's libraries, which may not be installed
    from mpcredit.server.people import People
    from mpcredit.server.settings import ServerSettings

app = typer.Typer(no_args_is_help=True, help="Accounts of the server, made at its console.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the person signs in with.")]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the audit log.")]


@app.command()
def add(
    name: NameArgument,
    display: Annotated[str, typer.Option("--display", metavar="TEXT", help="The person's name.")],
    role: Annotated[
        list[str],
        typer.Option(
            "--role", metavar="ROLE", help="officer, reviewer, administrator, auditor or supervisor; may be repeated."
        ),
    ],
    why: WhyOption,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make an account, with its roles at once, and print a one-time sign-in link.

    For the first people of a server: at least an administrator and a reviewer, who then make and confirm all others on the
    page /people. Whoever can run this has the server's database and could not be held back by a rule; the audit log says
    "console". The server may be running.

    Example: mpcredit people add wang.jun --display "Wang Jun" --role administrator --why founding --config bank.toml
    """
    settings, out = load(config), Output(json)
    with _people(settings) as (people, server):
        people.create(name, display, role, by=None, why=why)
        link = _link(people, server.origin, name, why)
    out.facts(f"Account {name}", [("roles", ", ".join(sorted(role))), ("sign in once, at", link)])
    out.document({"name": name, "roles": sorted(role), "link": link})


@app.command()
def link(name: NameArgument, why: WhyOption, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print a new one-time sign-in link for an account, for example after its password was forgotten.

    Example: mpcredit people link wang.jun --why "forgot the password" --config bank.toml
    """
    settings, out = load(config), Output(json)
    with _people(settings) as (people, server):
        made = _link(people, server.origin, name, why)
    out.facts(f"Account {name}", [("sign in once, at", made)])
    out.document({"name": name, "link": made})


@app.command()
def bind(
    name: NameArgument,
    subject: Annotated[
        str,
        typer.Option("--subject", metavar="TEXT", help="The person's `sub` at the provider; the audit log names it."),
    ],
    why: WhyOption,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Hand an account over to the identity provider of [server.oidc]: from now on only it signs this person in.

    Password, links and sessions end; roles stay until the provider states others. A sign-in that was refused because the name
    belongs to another account left an audit entry "sign-in.failed" with the subject. The server may be running.

    Example: mpcredit people bind wang.jun --subject 9b2f4c1e --why "moves to single sign-on" --config bank.toml
    """
    settings, out = load(config), Output(json)
    with _people(settings) as (people, server):
        if server.oidc is None:
            raise InvalidFile(f"{settings.path}, [server.oidc]", "is missing", "add the table (docs/server.md)")
        people.bind(name, server.oidc.issuer, subject, why=why)
        issuer = server.oidc.issuer
    out.facts(f"Account {name}", [("signs in through", issuer), ("as", subject)])
    out.document({"name": name, "issuer": issuer, "subject": subject})


def _link(people: People, origin: str, name: str, why: str) -> str:
    return f"{origin}/sign-in?token={quote(people.issue_sign_in(name, by=None, why=why))}"


@contextlib.contextmanager
def _people(config: Config) -> Iterator[tuple[People, ServerSettings]]:
    try:
        from mpcredit.server.audit import AuditLog
        from mpcredit.server.database import open_database
        from mpcredit.server.people import People
        from mpcredit.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise server_missing(error) from error
    if not config.served:
        raise InvalidFile(f"{config.path}, [server]", "is missing", "add the table; deploy/ has examples")
    settings = ServerSettings.load(config.path)
    database = open_database(settings)
    try:
        yield People(database, AuditLog(database), sign_in_minutes=settings.sign_in_minutes), settings
    finally:
        database.close()
