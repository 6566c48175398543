"""What every page needs: templates, the reader's language, words for amounts and times, the parts behind the routes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mpcredit.amounts import Money
from mpcredit.server.applications import Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.casefile import Step
from mpcredit.server.node import Node
from mpcredit.server.oidc import Provider
from mpcredit.server.people import People, Role, User
from mpcredit.server.security import signed_in
from mpcredit.server.settings import ServerSettings

__all__ = ["LANGUAGES", "Parts", "Words", "back", "go", "language_of", "page", "parts", "wants_json"]

HERE: Final = Path(__file__).parent
LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "zh-CN": "简体中文"}
LANGUAGE_COOKIE: Final = "mpcredit_language"

SAID: Final[Mapping[str, str]] = {
    "again": "The inquiry is asked again.",
    "confirmed": "The decision is confirmed.",
    "created": "The application is entered, and the other institutions are being asked.",
    "decided": "The decision is recorded.",
    "revoked": "The consent is revoked; nobody answers on it any more.",
    "returned": "The decision went back to its officer.",
    "review": "The decision is recorded. Another person must confirm it, because it departs from the policy.",
    "importing": "The import has begun; below is how it goes.",
    "saved": "Saved.",
    "lifted": "The suspension is lifted. What was held goes on by itself.",
    "asked": "Saved. A reviewer must confirm it before it holds.",
    "attested": "The verdict is ordered; it is sent until it is on the ledger.",
    "rebuilt": "The code was rebuilt from its sources, and is the same.",
    "order_confirmed": "The order is confirmed. It is carried out at the command line, where the owner key is.",
    "order_refused": "The order is refused.",
    "order_cancelled": "The order is taken back.",
    "look_asked": "Another supervisor must confirm that you may see the figures.",
    "look_confirmed": "The figures are open to who asked.",
    "look_refused": "The request is refused.",
    "verified": "Every entry of the audit log was checked; none is missing or changed.",
    "told": "The batch is sent.",
    "signed_out": "You are signed out.",
}
"""What a page says after something was done; the key is in its address."""


@dataclass(frozen=True)
class Parts:
    """What the routes work with."""

    settings: ServerSettings
    node: Node
    people: People
    audit: AuditLog
    applications: Applications | None
    """None at the supervisor."""
    provider: Provider | None = None
    """The bank's identity provider, if one is named."""

    @property
    def desk(self) -> Applications:
        """The institution's applications."""
        assert self.applications is not None
        return self.applications


def parts(request: Request) -> Parts:
    """The parts of the application that serves a request; a dependency."""
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found


# --------------------------------------------------------------------- words


@cache
def _catalogue(language: str) -> tuple[Mapping[str, str], tuple[tuple[re.Pattern[str], str], ...]]:
    path = HERE / "locales" / f"{language}.json"
    if not path.is_file():
        return {}, ()
    value = json.loads(path.read_text(encoding="utf-8"))
    patterns = tuple((re.compile(pattern), text) for pattern, text in value["patterns"].items())
    return value["messages"], patterns


def _fill(text: str, values: list[str]) -> str:
    return re.sub(r"\\(\d)", lambda place: values[int(place[1]) - 1], text)


class Words:
    """Translates into one language. English is the key of every message."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.messages, self.patterns = _catalogue(language)

    def __call__(self, message: str, **values: object) -> str:
        """Translate a message and put values into its braces."""
        text = self.messages.get(message, message)
        return text.format(**values) if values else text

    def sentence(self, text: str) -> str:
        """Translate a sentence that the library wrote, values included; as it is where no rule fits."""
        if text in self.messages:
            return self.messages[text]
        for pattern, replacement in self.patterns:
            match = pattern.fullmatch(text)
            if match:
                # A part may itself be a sentence: "Bank B refused (code 6): …".
                return _fill(replacement, [self.messages.get(part, part) for part in match.groups()])
        # A sentence with its remedy in brackets, as errors print.
        message, bracket, remedy = text.partition(" (")
        if bracket and remedy.endswith(")") and (translated := self.sentence(message)) != message:
            return f"{translated}（{self.messages.get(remedy[:-1], remedy[:-1])}）"
        return text


def language_of(request: Request, user: User | None, default: str = "en") -> str:
    """The reader's choice, else the browser's, else the server's."""
    chosen = (user.language if user else None) or request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return str(chosen)
    for part in request.headers.get("accept-language", "").split(","):
        code = part.split(";")[0].strip().lower()
        if code.startswith("zh"):
            return "zh-CN"
        if code.startswith("en"):
            return "en"
    return default if default in LANGUAGES else "en"


def amount(minor: int | str, currency: str) -> str:
    """An amount for people, without its currency."""
    return str(Money.of_minor(int(minor), currency)).rsplit(" ", 1)[0]


def money(value: Money | None) -> str:
    """An amount with its currency, a dash for none."""
    return "–" if value is None else str(value)


def moment(at: float | None) -> Markup:
    """A time of day for people and for machines, in the server's time zone."""
    if not at:
        return Markup("–")
    local = time.localtime(at)
    machine = time.strftime("%Y-%m-%dT%H:%M:%S%z", local)
    return Markup('<time datetime="{}">{}</time>').format(machine, time.strftime("%Y-%m-%d %H:%M", local))


def moment_seconds(at: float | None) -> Markup:
    """The same, to the second."""
    if not at:
        return Markup("–")
    local = time.localtime(at)
    machine = time.strftime("%Y-%m-%dT%H:%M:%S%z", local)
    return Markup('<time datetime="{}">{}</time>').format(machine, time.strftime("%Y-%m-%d %H:%M:%S", local))


def span(seconds: float, words: Words) -> str:
    """A length of time in its largest fitting unit."""
    for size, message in ((86_400, "{n} days"), (3_600, "{n} h"), (60, "{n} min")):
        if abs(seconds) >= 2 * size:
            return words(message, n=round(seconds / size))
    return words("{n} s", n=round(seconds))


def short(text: str | bytes) -> str:
    """The beginning of an id."""
    if isinstance(text, bytes):
        text = "0x" + text.hex()
    return text[:12]


_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def capitalize_first(text: str) -> str:
    """A sentence with a capital at its beginning; the rest stays as it is."""
    return text[:1].upper() + text[1:]


_environment.filters |= {
    "capitalize_first": capitalize_first,
    "amount": amount,
    "money": money,
    "moment": moment,
    "seconds": moment_seconds,
    "short": short,
}
_environment.globals |= {"Role": Role, "LANGUAGES": LANGUAGES}


def _with_times(text: str) -> str:
    """The library writes unix seconds; people read a time of day."""
    return re.sub(
        r"(?<![\w.,])1[5-9]\d{8}(?![\w.,]\d)",
        lambda found: time.strftime("%Y-%m-%d %H:%M", time.localtime(int(found[0]))),
        text,
    )


def _person(people: People, words: Words) -> Any:
    def name(actor: str | None) -> str:
        kind, _, rest = (actor or "").partition(":")
        if kind == "user":
            user = people.get(rest)
            return user.display if user else rest
        if kind == "token":
            return words("system {n}", n=rest)
        named = {
            "node": words("the server"),
            "console": words("the console"),
            "customer": words("the customer"),
            "provider": words("the identity provider"),
        }
        return named.get(kind, actor or "–")

    return name


def _navigation(user: User | None, institution: bool) -> list[tuple[str, str]]:
    """Address and label of the pages that this person works with."""
    if user is None:
        return []
    roles = user.roles
    everything: list[tuple[str, str, set[Role], bool]] = [
        ("/applications", "Applications", {Role.OFFICER}, True),
        ("/applications/new", "New application", {Role.OFFICER}, True),
        ("/reviews", "Reviews", {Role.REVIEWER}, True),
        ("/applications/list", "All applications", {Role.REVIEWER, Role.AUDITOR}, True),
        ("/inquiries", "Inquiries", {Role.OFFICER, Role.REVIEWER, Role.AUDITOR}, True),
        ("/consents", "Consents", {Role.OFFICER, Role.REVIEWER, Role.AUDITOR}, True),
        ("/footprints", "Footprints", {Role.OFFICER, Role.REVIEWER, Role.AUDITOR}, True),
        ("/corrections", "Corrections", {Role.OFFICER, Role.REVIEWER, Role.AUDITOR}, True),
        ("/furnishing", "Furnishing", {Role.REVIEWER, Role.AUDITOR, Role.ADMINISTRATOR}, True),
        ("/proposals", "Proposals", {Role.REVIEWER, Role.AUDITOR, Role.ADMINISTRATOR}, True),
        ("/supervision", "Inquiries", {Role.SUPERVISOR}, False),
        ("/supervision/institutions", "Institutions", {Role.SUPERVISOR}, False),
        ("/supervision/alarms", "Alarms", {Role.SUPERVISOR}, False),
        ("/proposals", "Proposals", {Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR}, False),
        ("/supervision/looks", "Looks", {Role.SUPERVISOR}, False),
        ("/supervision/corrections", "Corrections", {Role.SUPERVISOR}, False),
        ("/footprints", "Footprints", {Role.SUPERVISOR, Role.REVIEWER, Role.AUDITOR}, False),
        ("/reviews", "Reviews", {Role.REVIEWER}, False),
        ("/people", "People", {Role.ADMINISTRATOR}, True),
        ("/people", "People", {Role.ADMINISTRATOR}, False),
        ("/book", "Loan book", {Role.ADMINISTRATOR, Role.AUDITOR}, True),
        ("/health", "Health", {Role.ADMINISTRATOR}, True),
        ("/health", "Health", {Role.ADMINISTRATOR}, False),
        ("/audit", "Audit log", {Role.AUDITOR}, True),
        ("/audit", "Audit log", {Role.AUDITOR}, False),
        ("/retention", "Retention", {Role.AUDITOR, Role.ADMINISTRATOR}, True),
        ("/retention", "Retention", {Role.AUDITOR, Role.ADMINISTRATOR}, False),
    ]
    return [(path, label) for path, label, who, where in everything if where == institution and who & roles]


def _waiting(request: Request, the: Parts) -> int:
    """How many matters wait for a reviewer."""
    found = len(the.people.changes("pending")) + len(request.app.state.orders.waiting())
    if the.applications is not None:
        found += the.applications.counts()[Step.REVIEW.value]
        found += len(request.app.state.corrections.todo())
        found += len(the.applications.misuse.open()) if the.applications.misuse is not None else 0
    return found


def page(request: Request, template: str, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """Render a page for whoever asks."""
    the = parts(request)
    principal = signed_in(request)
    user = principal if isinstance(principal, User) else None
    words = Words(language_of(request, user, the.settings.language))
    status = the.node.status()
    said = SAID.get(request.query_params.get("said", ""))
    navigation = _navigation(user, the.applications is not None)
    here = max((path for path, _ in navigation if request.url.path.startswith(path)), key=len, default="")
    values: dict[str, Any] = {
        "request": request,
        "user": user,
        "node": status,
        "_": words,
        "sentence": lambda text: _with_times(words.sentence(text)),
        "span": lambda seconds: span(seconds, words),
        "person": _person(the.people, words),
        "language": words.language,
        "navigation": navigation,
        "here": here,
        "waiting": _waiting(request, the) if user and Role.REVIEWER in user.roles else None,
        "said": words(said) if said else "",
        "now": time.time(),
        "path": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "zone": time.strftime("%Z"),
        "words_for_script": json.dumps(
            {
                text: words(text)
                for text in (
                    "existing debt",
                    "amount asked for",
                    "a person decides above",
                    "declined above",
                    "median",
                    "slowest",
                    "seconds",
                    "usual",
                )
            },
            ensure_ascii=False,
        ),
    }
    html = _environment.get_template(template).render({**values, **context})
    return HTMLResponse(html, status_code=status_code)


def wants_json(request: Request) -> bool:
    """Whether a system asks, not a person."""
    return request.url.path.startswith(("/api/", "/metrics", "/healthz", "/readyz"))


def go(path: str, said: str = "") -> Response:
    """Send the browser on after something was done."""
    mark = "&" if "?" in path else "?"
    return RedirectResponse(f"{path}{mark}said={said}" if said else path, status_code=303)


def back(path: str | None) -> str:
    """An address of this server that a form may name as the next one; the first page for anything else."""
    if path and re.fullmatch(r"/(?![/\\])[\w\-./?=&%~+,:]*", path, re.ASCII):
        return path
    return "/"
