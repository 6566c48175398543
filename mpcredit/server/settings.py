"""What the server of one party is told: the [server] table of its configuration file, then MPCREDIT_SERVER_… variables.

Paths are relative to the configuration file. Every mistake is told with file and line name before anything is opened.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import ssl
import tomllib
import zoneinfo
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from limits import parse as parse_limit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from mpcredit.errors import InvalidFile, KeyStoreError

__all__ = ["MisuseSettings", "OidcSettings", "RetentionSettings", "ServerSettings", "is_loopback"]

_PREFIX: Final = "MPCREDIT_SERVER_"
_PATHS: Final = (
    "database_password_file",
    "book_sql_password_file",
    "book_sql_query",
    "tls_certificate",
    "tls_key",
    "tls_client_ca",
    "session_secret_file",
    "webhook_secret_file",
    "webhook_ca",
    "solc",
)
_SECRET_BYTES: Final = 32


def is_loopback(host: str) -> bool:
    """Whether a host name or address never leaves the machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_private(url: str) -> None:
    """Refuse a database that is reached over a network without a certificate that is verified."""
    try:
        parts = make_url(url)
    except ArgumentError:
        raise ValueError("is no database URL") from None
    more = parts.query.get("host", ())
    hosts = [parts.host or "", *([more] if isinstance(more, str) else more)]
    remote = [host for host in hosts if host and not host.startswith("/") and not is_loopback(host)]
    if remote and parts.query.get("sslmode") not in ("verify-ca", "verify-full"):
        raise ValueError(f"{remote[0]} is off this machine: add ?sslmode=verify-full (and sslrootcert=FILE)")


def _write_secret(path: Path) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(_SECRET_BYTES) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # unlike a rename it leaves a secret alone that another process just made
    finally:
        temporary.unlink()


def _secret(path: Path, name: str) -> bytes:
    try:
        if not path.exists():
            _write_secret(path)
        if path.stat().st_mode & 0o077:
            raise KeyStoreError(f"{path}: others can read it", remedy=f"run: chmod 600 {path}")
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise KeyStoreError(f"{path}: {name} cannot be read", remedy="delete the file; a new one is made") from error
    if len(secret) != _SECRET_BYTES:
        raise KeyStoreError(f"{path}: {name} is damaged", remedy="delete the file; a new one is made")
    return secret


class RetentionSettings(BaseModel):
    """The table [server.retention]: after how many days; 0 keeps for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inquiry_keys: int = Field(default=365, ge=0, le=36_500)
    """Paillier keys of own inquiries that have ended."""
    applications: int = Field(default=0, ge=0, le=36_500)
    """Decided applications, with consent, document and totals."""
    disclosures: int = Field(default=0, ge=0, le=36_500)
    """The supervisor's period keys, so long after the last inquiry under them; what they sealed cannot be checked again."""
    institution_keys: int = Field(default=0, ge=0, le=36_500)
    """An institution's keys of before a rotation, so long after the last inquiry under them."""


class MisuseSettings(BaseModel):
    """The table [server.misuse]: at which number an officer is suspended, and a system held back; 0 switches a limit off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_hour: int = Field(default=100, ge=0, le=100_000)
    """Applications that one officer entered within an hour."""
    per_day: int = Field(default=200, ge=0, le=100_000)
    """Within 24 hours."""
    system_per_hour: int = Field(default=1_000, ge=0, le=10_000_000)
    """Applications that one system posted within an hour; past that it is held back until the hour is over."""
    system_per_day: int = Field(default=10_000, ge=0, le=10_000_000)
    """Within 24 hours."""
    undecided: int = Field(default=20, ge=0, le=100_000)
    """One officer's applications that nobody decided within `undecided_hours` of their attested totals."""
    system_undecided: int = Field(default=500, ge=0, le=10_000_000)
    """The same of one system's."""
    undecided_hours: int = Field(default=72, ge=1, le=8_760)
    """When a decision is overdue."""
    out_of_hours: int = Field(default=20, ge=0, le=100_000)
    """Applications that one officer entered outside of the working hours, within `out_of_hours_minutes`."""
    out_of_hours_minutes: int = Field(default=60, ge=1, le=1_440)
    """Length of a burst."""
    opens: str = Field(default="06:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    """Working hours begin."""
    closes: str = Field(default="22:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    """Working hours end."""
    closed_days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    """Days without working hours."""
    time_zone: str = ""
    """Of these, as in "Asia/Taipei"; empty: the machine's."""
    settled: int = Field(default=5, ge=0, le=100_000)
    """One officer's, or one system's, inquiries on settled customers within `settled_days`."""
    settled_days: int = Field(default=30, ge=1, le=366)
    """How long they count."""
    ended_days: int = Field(default=90, ge=1, le=3_660)
    """A customer counts as settled for so long after his last application was decided."""

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value:
            try:
                zoneinfo.ZoneInfo(value)
            except (OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
                raise ValueError("is no time zone") from error
            except KeyError:
                raise ValueError("is no time zone that this machine knows, such as Asia/Taipei") from None
        return value

    @model_validator(mode="after")
    def _day(self) -> MisuseSettings:
        if self.opens >= self.closes:
            raise ValueError("opens must be before closes")
        return self


RoleName = Literal["officer", "reviewer", "administrator", "auditor", "supervisor"]


class OidcSettings(BaseModel):
    """The table [server.oidc]: the bank's identity provider, which signs people in (OpenID Connect)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: str
    """The provider's issuer, exactly as it writes it; its discovery document is below it."""
    client_id: str = Field(min_length=1)
    """What this server is called at the provider."""
    client_secret_file: Path | None = None
    """File with the client's secret, mode 600; none: a public client, with PKCE alone."""
    name: str = ""
    """What people call the provider, on the button; by default its host name."""
    name_claim: str = "preferred_username"
    """Claim of the ID token that gives the login name at the first sign-in."""
    roles_claim: str = "roles"
    """Claim of the ID token that lists groups or roles; dots lead into objects, as in realm_access.roles."""
    roles: dict[str, RoleName | tuple[RoleName, ...]] = Field(min_length=1)
    """Which value of the claim gives which role here; other values count for nothing."""
    confirm_roles: bool = True
    """Whether roles that the provider newly gives wait for a reviewer here; false only where the provider's own process
    takes two persons (docs/adr/0013)."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """What is asked of the provider."""
    session_minutes: int = Field(default=120, ge=5, le=1440)
    """After this time the provider is asked again: who has vanished there is out then. Never longer than session_hours."""
    ca: Path | None = None
    """Certificates that the provider's must rest on, PEM; by default those that this machine trusts."""

    @property
    def label(self) -> str:
        """What the button says."""
        return self.name or urlsplit(self.issuer).hostname or self.issuer

    def client_secret(self) -> str | None:
        """The client's secret, if it has one.

        Raises:
            KeyStoreError: the file cannot be read, is empty, or others can read it.
        """
        path = self.client_secret_file
        if path is None:
            return None
        try:
            if path.stat().st_mode & 0o077:
                raise KeyStoreError(f"{path}: others can read it", remedy=f"run: chmod 600 {path}")
            secret = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyStoreError(
                f"{path}: the provider's client secret cannot be read",
                remedy="correct [server.oidc] client_secret_file",
            ) from error
        if not secret:
            raise KeyStoreError(f"{path}: is empty", remedy="write the client secret that the provider issued into it")
        return secret

    @field_validator("issuer")
    @classmethod
    def _issuer(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be https://HOST[:PORT][/PATH], as the provider writes it")
        if parts.username is not None or not value.isascii() or any(c.isspace() or not c.isprintable() for c in value):
            raise ValueError("must not hold a name, a password or spaces")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("plain HTTP is refused off this machine: write https")
        _ = parts.port  # raises where it is no number
        return value

    @field_validator("roles")
    @classmethod
    def _roles(cls, value: dict[str, RoleName | tuple[RoleName, ...]]) -> dict[str, RoleName | tuple[RoleName, ...]]:
        for given in value.values():
            if {"administrator", "officer"} <= set((given,) if isinstance(given, str) else given):
                raise ValueError("nobody is administrator and officer at once: give the two to different groups")
        return value

    @field_validator("scopes")
    @classmethod
    def _scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value or any(
            not scope.isascii() or not scope.isprintable() or " " in scope for scope in value
        ):
            raise ValueError('must hold "openid"; each is one word')
        return value


class ServerSettings(BaseSettings):
    """The server's settings, checked."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    database: str = Field(default="sqlite:///server.sqlite", repr=False)
    """SQLAlchemy URL: sqlite:///FILE, or postgresql+psycopg://USER@HOST/NAME. May hold a password, so it is never shown."""
    database_password_file: Path | None = None
    """File with the database's password, instead of writing it into the URL."""
    book: Literal["auto", "file", "database"] = "auto"
    """Where an institution's figures come from: the file of [book] path, or what `mpcredit book import` put into the
    database; auto: the file until the first import."""
    book_sql_url: str = Field(default="", repr=False)
    """SQLAlchemy URL of the bank's own database, from which the page and the API import the loan book."""
    book_sql_password_file: Path | None = None
    """File with the password of that database, instead of writing it into the URL."""
    book_sql_query: Path | None = None
    """File with the one SELECT that gives the columns of docs/loan-book.md."""
    book_upload_bytes: int = Field(default=1 << 30, ge=1024)
    """Larger loan books are refused as an upload; `max_body_bytes` is for all other requests."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8440, ge=0, le=65535)
    """Port to listen on; 0 lets the system choose, and `public_url` must be given then."""
    public_url: str = ""
    """How people reach the server, without a path; by default made of host and port."""
    hosts: tuple[str, ...] = ()
    """Host names that are accepted in addition to that of `public_url`. Others are refused: a foreign name that
    resolves to this machine must not make a browser talk to it (DNS rebinding)."""
    tls_certificate: Path | None = None
    """Certificate chain, PEM."""
    tls_key: Path | None = None
    """Private key of the certificate, PEM."""
    tls_client_ca: Path | None = None
    """If given, clients must show a certificate of this authority (mutual TLS)."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of the proxies that end TLS before this server; their X-Forwarded headers are believed."""
    session_hours: int = Field(default=8, ge=1, le=24)
    """After this time a person signs in again."""
    session_idle_minutes: int = Field(default=30, ge=1)
    """After this time without a request a person signs in again."""
    sign_in_minutes: int = Field(default=60, ge=1)
    """How long a one-time sign-in link lives."""
    session_secret_file: Path = Path("session.secret")
    """Secret that signs short-lived state, such as that of a sign-in in progress; made at first use."""
    webhook_url: str = ""
    """Where answers to applications that a system posted go (docs/api.md): https, or http on this machine; empty: nowhere."""
    notice_url: str = ""
    """Where notices go that somebody asked about a customer (docs/api.md), like `webhook_url`, and it may be the same; empty:
    no notices."""
    webhook_secret_file: Path = Path("webhook.secret")
    """Secret that signs these answers and notices, 64 hexadecimal digits; made at first use. The receiver needs it too."""
    webhook_ca: Path | None = None
    """Certificates that the receiver's must rest on, PEM; by default those that this machine trusts."""
    corrections: bool = True
    """Send by itself what corrections need (R41, R42): an institution's daily notice, the supervisor's batches."""
    oidc: OidcSettings | None = None
    """The bank's identity provider, beside local accounts."""
    verdicts: Literal["itself", "by_hand"] = "itself"
    """Of a supervisor: whether its verdicts go onto the ledger by themselves, or one of its people gives each."""
    drill_down: Literal["one", "two"] = "one"
    """Of a supervisor: how many of its people it takes to see the figures of an inquiry."""
    drill_down_minutes: int = Field(default=15, ge=1, le=240)
    """How long figures are open to who asked, after the second person has confirmed."""
    solc: Path | None = None
    """Of a supervisor: the Solidity compiler that rebuilds a proposed contract from its sources."""
    retention: RetentionSettings = RetentionSettings()
    """What is destroyed after how many days."""
    misuse: MisuseSettings = MisuseSettings()
    """At which numbers an officer is suspended, and a system held back."""
    limit_requests: str = "600/minute"
    """Requests from one address."""
    limit_writes: str = "120/minute"
    """Of these, requests that change something."""
    limit_sign_in: str = "10/minute"
    """Attempts to sign in, from one address and for one account."""
    max_body_bytes: int = Field(default=64 << 20, ge=1024)
    """Larger requests are refused unread."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What goes to the log."""
    language: str = "en"
    """Language of pages for who has not chosen one."""

    @classmethod
    def load(cls, path: str | Path, **overrides: Any) -> ServerSettings:
        """Read the settings: defaults, then the file, then the environment, then `overrides`.

        Raises:
            InvalidFile: the file cannot be read, or a line of the table is wrong.
        """
        place = Path(path)
        try:
            whole = tomllib.loads(place.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InvalidFile(
                str(place), "there is no such file", "give the configuration with --config FILE"
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidFile(str(place), f"cannot be read: {error}", "correct the file; it is TOML") from error
        table = whole.get("server", {})
        if not isinstance(table, dict):
            raise InvalidFile(f"{place}, server", "must be a table", "write it as [server]")
        # (1) the environment is stronger than the file: a name that it sets is left out of what the file gives.
        named = {name.upper() for name in os.environ}
        given = {name: value for name, value in table.items() if f"{_PREFIX}{name}".upper() not in named}
        try:
            settings = cls(**(given | overrides))
        except ValidationError as error:
            # Not chained: the error may hold the database's URL and so its password.
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "(several lines)"
            problem = first["msg"].removeprefix("Value error, ")
            raise InvalidFile(
                f"{place}, [server] {where}", problem, "correct the line or the variable; deploy/ has an example"
            ) from None
        return settings._below(place.parent)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment; no .env file is looked for."""
        return init_settings, env_settings

    def _below(self, directory: Path) -> ServerSettings:
        moved: dict[str, Any] = {
            name: directory / value for name in _PATHS if (value := getattr(self, name)) is not None
        }
        if self.oidc is not None:
            files = {"client_secret_file": self.oidc.client_secret_file, "ca": self.oidc.ca}
            below = {name: directory / value for name, value in files.items() if value is not None}
            moved["oidc"] = self.oidc.model_copy(update=below)
        scheme, found, rest = self.database.partition(":///")
        if found and scheme.startswith("sqlite") and not rest.startswith("/"):
            moved["database"] = f"sqlite:///{directory.absolute() / rest}"
        return self.model_copy(update=moved)

    # --- checks

    @field_validator("database")
    @classmethod
    def _database(cls, value: str) -> str:
        scheme = value.partition(":")[0]
        if scheme == "postgresql":
            return value.replace("postgresql:", "postgresql+psycopg:", 1)
        if scheme not in ("sqlite", "postgresql+psycopg"):
            raise ValueError("must begin with sqlite:/// or postgresql+psycopg://")
        if scheme == "sqlite" and (not value.startswith("sqlite:///") or value[10:].strip() in ("", ":memory:")):
            raise ValueError("must name a file, as in sqlite:///server.sqlite")
        if scheme != "sqlite":
            _check_private(value)
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError("must be http(s)://HOST[:PORT] without a path")
        if parts.username is not None:
            raise ValueError("must not hold a name or password")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @field_validator("webhook_url", "notice_url")
    @classmethod
    def _webhook_url(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or not value.isascii():
            raise ValueError("must be http(s)://HOST[:PORT]/PATH")
        if any(letter.isspace() or not letter.isprintable() for letter in value):
            raise ValueError("must not hold spaces")
        if parts.username is not None:
            raise ValueError("must not hold a name or password: answers are signed")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("plain HTTP is refused off this machine: write https")
        _ = parts.port  # raises where it is no number
        return value

    @field_validator("limit_requests", "limit_writes", "limit_sign_in")
    @classmethod
    def _limit(cls, value: str) -> str:
        try:
            parse_limit(value)
        except ValueError as error:
            raise ValueError('must be a rate such as "10/minute"') from error
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value

    @model_validator(mode="after")
    def _together(self) -> ServerSettings:
        if bool(self.book_sql_url) != (self.book_sql_query is not None):
            raise ValueError("book_sql_url and book_sql_query come together")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key come together")
        if self.tls_client_ca is not None and not self.tls:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        if self.tls and self.public_url.startswith("http:"):
            raise ValueError("public_url is http, but the server speaks TLS")
        if self.trusted_proxies and not self.public_url.startswith("https:"):
            raise ValueError("trusted_proxies needs a public_url that begins with https")
        if not self.tls and not self.trusted_proxies:
            if not is_loopback(self.host):
                raise ValueError(
                    f"plain HTTP is refused on {self.host}: give tls_certificate and tls_key, or listen on 127.0.0.1"
                )
            if self.public_url and not is_loopback(urlsplit(self.public_url).hostname or ""):
                raise ValueError("public_url leaves this machine: give tls_certificate and tls_key, or trusted_proxies")
        if self.port == 0 and not self.public_url:
            raise ValueError("port 0 needs a public_url")
        return self

    # --- what follows

    @property
    def tls(self) -> bool:
        """Whether this server itself speaks TLS."""
        return self.tls_certificate is not None

    @property
    def secure(self) -> bool:
        """Whether people reach it by https, so that cookies are marked Secure."""
        return self.origin.startswith("https:")

    @property
    def origin(self) -> str:
        """Scheme, host and port as browsers write them in Origin."""
        scheme = "https" if self.tls else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        parts = urlsplit(self.public_url or f"{scheme}://{host}:{self.port}")
        usual = {"http": 80, "https": 443}[parts.scheme]
        name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{name}" + ("" if parts.port in (None, usual) else f":{parts.port}")

    @property
    def cookie_name(self) -> str:
        """Name of the session cookie. It holds the port: browsers send a cookie to every port of a host."""
        port = urlsplit(self.origin).port or (443 if self.secure else 80)
        return f"__Host-mpcredit-{port}" if self.secure else f"mpcredit-{port}"

    def database_password(self) -> str | None:
        """The database's password, if it is kept in a file.

        Raises:
            InvalidFile: it cannot be read.
        """
        if self.database_password_file is None:
            return None
        try:
            return self.database_password_file.read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidFile(
                str(self.database_password_file), f"cannot be read: {error}", "correct database_password_file"
            ) from error

    def book_query(self) -> tuple[str, str] | None:
        """URL, password in it, and query of the configured import; None where none is configured.

        Raises:
            InvalidFile: the query or the password cannot be read, or the URL is none.
        """
        if not self.book_sql_url or self.book_sql_query is None:
            return None
        try:
            query = self.book_sql_query.read_text(encoding="utf-8")
            password = (
                None
                if self.book_sql_password_file is None
                else self.book_sql_password_file.read_text(encoding="utf-8").rstrip("\n")
            )
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidFile(
                str(self.book_sql_query), f"or its password file cannot be read: {error}", "correct [server] book_sql_…"
            ) from error
        try:
            url = make_url(self.book_sql_url)
        except ArgumentError:  # not chained: its text has the URL
            raise InvalidFile("[server] book_sql_url", "is no URL", "write DIALECT+DRIVER://USER@HOST/NAME") from None
        if password is not None:
            url = url.set(password=password)
        return url.render_as_string(hide_password=False), query

    def session_secret(self) -> bytes:
        """The secret that signs short-lived state; the file is made, readable by its owner only, at first use.

        Raises:
            KeyStoreError: the file cannot be had, is damaged, or others can read it.
        """
        return _secret(self.session_secret_file, "the session secret")

    def webhook_secret(self) -> bytes:
        """The secret that signs answers to the bank's loan system; made like the session secret.

        Raises:
            KeyStoreError: the file cannot be had, is damaged, or others can read it.
        """
        return _secret(self.webhook_secret_file, "the webhook's secret")

    def uvicorn(self) -> dict[str, Any]:
        """Arguments for `uvicorn.run`.

        Forwarded headers are left to `security`, which believes only `trusted_proxies`; uvicorn would believe everybody
        on this machine.
        """
        found: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "proxy_headers": False,
            "server_header": False,
            "log_config": None,
            "access_log": False,
        }
        if self.tls:
            found |= {"ssl_certfile": str(self.tls_certificate), "ssl_keyfile": str(self.tls_key)}
        if self.tls_client_ca is not None:
            found |= {"ssl_ca_certs": str(self.tls_client_ca), "ssl_cert_reqs": cast("int", ssl.CERT_REQUIRED)}
        return found
