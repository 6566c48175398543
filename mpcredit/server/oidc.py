"""Sign-in through the bank's identity provider: OpenID Connect, authorization code flow with PKCE.

One sign-in:

1. `begin` makes a cookie for this browser and the provider's address to go to. State, nonce and the PKCE verifier are HMACs
   over the cookie under the session secret: nothing is stored, and what the address shows opens nothing without the cookie.
2. The provider sends the browser back with a code. `finish` wants the same browser's cookie, young and not used before,
   and the state made from it: an answer that somebody else began signs nobody in.
3. The code is exchanged by this server itself, over TLS, with the verifier.
4. The ID token must bear a signature of a key that the provider publishes, by an algorithm with a public key; and be of the
   issuer, for this client, in time, with the nonce. joserfc does this; a key that is not known yet is looked for once.
5. The claim of roles is turned into ours. What these roles then mean is `People.external`'s.

Outgoing calls follow no redirection, take at most 1 MiB, and rest on the configured authority. No token is kept, and none
is in a message, a log or an address; the access token is not used. docs/adr/0013 says who is trusted with what.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, InvalidKeyIdError, JoseError, MissingClaimError
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.jws import JWSRegistry

from mpcredit import __version__
from mpcredit.encoding import check_depth
from mpcredit.errors import InvalidEncoding, InvalidFile, Refused
from mpcredit.server.settings import OidcSettings, ServerSettings, is_loopback

__all__ = ["BEGUN_SECONDS", "CALLBACK", "Begun", "Provider", "ProviderDown", "SignInRefused", "Vouched", "provider_of"]

CALLBACK: Final = "/sign-in/callback"
"""Where the provider sends the browser back to; it must be registered there, exactly."""
BEGUN_SECONDS: Final = 600
"""A sign-in is finished within this time."""
LEEWAY: Final = 60
"""Seconds by which the provider's clock may differ."""
DESCRIPTION_SECONDS: Final = 3_600
KEYS_SECONDS: Final = 3_600
"""Keys are read anew so often, so that one that was withdrawn is not accepted for ever."""
UNKNOWN_KEY_SECONDS: Final = 30
"""An unknown key makes us read the keys at most so often."""
DOWN_SECONDS: Final = 5
"""A provider that did not answer is left alone for so long."""
TIMEOUT: Final = 5.0
"""Seconds for one call's connection and each of its reads."""
LARGEST: Final = 1 << 20
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519"),
)
"""Signatures that a public key verifies. Neither `none` nor HMAC, whatever the provider announces."""
_TOLD: Final = frozenset(
    {
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "invalid_client",
        "invalid_request",
        "invalid_scope",
        "login_required",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
    }
)
"""Errors that we repeat (RFC 6749 4.1.2.1 and 5.2, OpenID Connect Core 3.1.2.6); other text of an answer is shown to nobody."""
_OPERATOR: Final = "the server's operator must compare [server.oidc] with what the provider has registered"


class SignInRefused(Refused):
    """Somebody could not be signed in through the provider.

    Args:
        status: of the page that says so.
        subject: whom the provider vouched for, if it came so far.
    """

    def __init__(self, message: str, *, remedy: str, status: int = 403, subject: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.subject = subject


class ProviderDown(SignInRefused):
    """The provider cannot be reached, or does not speak as it should."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy, status=503)


@dataclass(frozen=True)
class Begun:
    """A sign-in that has begun."""

    url: str
    """Where the browser goes."""
    cookie: str
    """What it keeps until it is back."""


@dataclass(frozen=True)
class Vouched:
    """Whom the provider vouches for."""

    issuer: str
    subject: str
    """Who it is; with the issuer, for ever."""
    name: str
    """Login name that the provider states; may be none of ours."""
    display: str
    roles: frozenset[str]
    """What the claim gives here; may be none."""
    next: str
    """Where the person wanted to go."""


class Provider:
    """The bank's identity provider, as this server's client sees it.

    Args:
        settings: the table [server.oidc].
        redirect_uri: of this server, ends with `CALLBACK`.
        secret: the session secret.
        clock: unix seconds.
        ticks: seconds that only grow, for what is kept for a while.

    Raises:
        InvalidFile: `ca` cannot be read.
        KeyStoreError: the client's secret cannot be read.
    """

    def __init__(
        self,
        settings: OidcSettings,
        *,
        redirect_uri: str,
        secret: bytes,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.redirect_uri = redirect_uri
        self._secret = secret
        self._client_secret = settings.client_secret()
        self._clock = clock
        self._ticks = ticks
        try:
            self._context = ssl.create_default_context(cafile=None if settings.ca is None else str(settings.ca))
        except (OSError, ssl.SSLError) as error:
            raise InvalidFile(str(settings.ca), f"cannot be read: {error}", "correct [server.oidc] ca") from error
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._description: dict[str, Any] = {}
        self._described_at = float("-inf")
        self._keys = KeySet([])
        self._keys_at = float("-inf")
        self._used: dict[bytes, float] = {}
        self._trouble = ""
        self._down_until = float("-inf")

    # ----------------------------------------------------------------- one sign-in

    def begin(self, next: str) -> Begun:
        """Begin a sign-in.

        Args:
            next: address of this server, checked, to go to afterwards.

        Raises:
            ProviderDown: it cannot be reached.
        """
        description = self._described()
        begun = {"flow": secrets.token_urlsafe(16), "at": int(self._clock()), "next": next}
        payload = _text(json.dumps(begun, separators=(",", ":")).encode())
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self.settings.scopes),
            "state": self._derive("state", payload),
            "nonce": self._derive("nonce", payload),
            "code_challenge": _text(hashlib.sha256(self._derive("verifier", payload).encode()).digest()),
            "code_challenge_method": "S256",
        }
        return Begun(
            _with_query(description["authorization_endpoint"], asked), f"{payload}.{self._derive('cookie', payload)}"
        )

    def finish(self, cookie: str, answer: Mapping[str, str]) -> Vouched:
        """Finish a sign-in.

        Args:
            cookie: what this browser kept, empty if it has none.
            answer: the query with which the browser came back.

        Raises:
            SignInRefused: nobody is signed in; says why, and who must do what.
        """
        # (1) of this browser, young, once.
        payload, _, mac = cookie.partition(".")
        if not hmac.compare_digest(self._derive("cookie", payload).encode(), mac.encode("utf-8", "replace")):
            raise _not_begun()
        begun = json.loads(_bytes(payload))
        if not 0 <= self._clock() - begun["at"] <= BEGUN_SECONDS:
            raise _not_begun()
        state = answer.get("state", "")
        if not hmac.compare_digest(self._derive("state", payload).encode(), state.encode("utf-8", "replace")):
            raise _not_begun()
        self._once(payload)
        # (2) of this provider: RFC 9207.
        description = self._described()
        announced = description.get("authorization_response_iss_parameter_supported") is True
        if answer.get("iss", self.settings.issuer if not announced else None) != self.settings.issuer:
            raise _unacceptable("it comes from another provider")
        # (3) no error.
        if error := answer.get("error"):
            raise _ended(error)
        if not (code := answer.get("code")):
            raise _unacceptable("it holds no code")
        # (4) the token.
        token = self._exchange(code, self._derive("verifier", payload))
        claims = self._claims(token, self._derive("nonce", payload), begun["at"])
        # (5) what it says.
        subject = str(claims["sub"])
        try:
            return Vouched(
                issuer=self.settings.issuer,
                subject=subject,
                name=_line(claims.get(self.settings.name_claim)).lower(),
                display=_line(claims.get("name")) or _line(claims.get(self.settings.name_claim)) or "?",
                roles=self._roles(claims),
                next=str(begun["next"]),
            )
        except SignInRefused as refused:
            refused.subject = subject
            raise

    def sign_out_url(self, back: str) -> str | None:
        """Where somebody signs out at the provider too; None if it announces no such address, or cannot be reached.

        Args:
            back: address of this server where the provider sends the browser afterwards; must be registered there.
        """
        with contextlib.suppress(ProviderDown):
            place = self._described().get("end_session_endpoint")
            if place:
                return _with_query(place, {"client_id": self.settings.client_id, "post_logout_redirect_uri": back})
        return None

    def check(self) -> None:
        """Ask the provider for its description and its keys, now.

        Raises:
            ProviderDown: what is wrong.
        """
        with self._lock:
            self._described_at = self._down_until = float("-inf")
        self._described()
        self._read_keys()

    @property
    def trouble(self) -> str:
        """What went wrong when the provider was asked last; empty if nothing did."""
        return self._trouble

    # ----------------------------------------------------------------- this browser, once

    def _derive(self, use: str, payload: str) -> str:
        text = f"mpcredit/oidc/2\0{use}\0{payload}".encode("utf-8", "replace")
        return _text(hmac.new(self._secret, text, hashlib.sha256).digest())

    def _once(self, payload: str) -> None:
        """A sign-in is finished at most once. Kept in memory: after a restart the provider refuses a code that was used."""
        mark, now = hashlib.sha256(payload.encode()).digest(), self._ticks()
        with self._lock:
            self._used = {one: until for one, until in self._used.items() if until > now}
            if mark in self._used:
                raise SignInRefused(
                    "this sign-in was finished already", remedy="begin again on the sign-in page", status=400
                )
            self._used[mark] = now + BEGUN_SECONDS

    # ----------------------------------------------------------------- token

    def _exchange(self, code: str, verifier: str) -> str:
        description = self._described()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }
        headers = {}
        methods = description.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._client_secret is None:
            form["client_id"] = self.settings.client_id
        elif "client_secret_basic" in methods:
            # RFC 6749 2.3.1: both parts are form-encoded first.
            pair = f"{quote(self.settings.client_id, safe='')}:{quote(self._client_secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": self.settings.client_id, "client_secret": self._client_secret}
        status, found = self._ask(description["token_endpoint"], urlencode(form).encode(), headers)
        if status != 200:
            error = str(found.get("error", ""))
            if error == "invalid_grant":
                raise SignInRefused(
                    "the identity provider does not accept the answer that it gave: it was used before, or is too old",
                    remedy="begin again on the sign-in page",
                    status=400,
                )
            raise ProviderDown(
                f"the identity provider refused this server: {error if error in _TOLD else f'status {status}'}",
                remedy=_OPERATOR,
            )
        token = found.get("id_token")
        if not isinstance(token, str):
            raise _unacceptable("it holds no ID token")
        return token

    def _claims(self, token: str, nonce: str, begun_at: int) -> dict[str, Any]:
        registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        try:
            for part in token.split(".")[:2]:
                check_depth(_bytes(part))
            decoded = self._decode(token, registry)
        except InvalidKeyIdError as error:
            raise _unacceptable("it is signed with a key that the provider does not publish") from error
        except (JoseError, ValueError, InvalidEncoding) as error:
            raise _unacceptable("its signature does not hold") from error
        claims = decoded.claims
        several = isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1
        client = self.settings.client_id
        rules = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=LEEWAY,
            iss={"essential": True, "value": self.settings.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": client},
            azp={"essential": several, "value": client},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            rules.validate(claims)
        except ExpiredTokenError as error:
            raise _clocks() from error
        except MissingClaimError as error:
            raise _unacceptable("a claim that it must have is missing") from error
        except InvalidClaimError as error:
            if error.claim in ("iat", "nbf"):
                raise _clocks() from error
            raise _unacceptable(f"its {error.claim} is not the expected one") from error
        if claims["iat"] < begun_at - LEEWAY:
            raise _clocks()  # made before this sign-in began
        if len(claims["sub"]) > 255:  # OpenID Connect Core 2
            raise _unacceptable("its sub is not the expected one")
        return claims

    def _decode(self, token: str, registry: JWSRegistry) -> jwt.Token:
        self._read_keys(older_than=KEYS_SECONDS)
        try:
            return jwt.decode(token, self._keys, ALGORITHMS, registry)
        except InvalidKeyIdError:
            # The provider may have changed its keys: look once, but not for everybody who makes up a key's name.
            if not self._read_keys(older_than=UNKNOWN_KEY_SECONDS):
                raise
            return jwt.decode(token, self._keys, ALGORITHMS, registry)

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[str]:
        claim = self.settings.roles_claim
        value: Any = claims.get(claim)
        if value is None:
            value = claims
            for part in claim.split("."):
                value = value.get(part) if isinstance(value, dict) else None
        stated = [value] if isinstance(value, str) else value
        if not isinstance(stated, list) or not all(isinstance(one, str) for one in stated):
            raise SignInRefused(
                f"the identity provider does not state the claim {claim}",
                remedy="whoever runs the identity provider must put it, a list of texts, into the ID token of this "
                "application",
            )
        given: dict[str, str] = {}
        for one in stated:
            roles = self.settings.roles.get(one, ())
            given |= {str(role): one for role in ((roles,) if isinstance(roles, str) else roles)}
        if {"administrator", "officer"} <= given.keys():
            raise SignInRefused(
                "the identity provider makes you administrator and officer at once, which nobody is here",
                remedy=f"whoever manages groups there must take one away from you: {given['administrator']} or "
                f"{given['officer']}",
            )
        return frozenset(given)

    # ----------------------------------------------------------------- what the provider publishes

    def _described(self) -> dict[str, Any]:
        """The provider's description (OpenID Connect Discovery), checked."""
        if self._ticks() - self._described_at < DESCRIPTION_SECONDS:
            return self._description
        with self._asking:
            if self._ticks() - self._described_at < DESCRIPTION_SECONDS:
                return self._description  # another thread was faster
            status, found = self._ask(f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration")
            if status != 200:
                raise self._down(f"it answers with status {status}")
            if found.get("issuer") != self.settings.issuer:
                raise self._down("it names another issuer than [server.oidc]")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint"):
                if name == "end_session_endpoint" and name not in found:
                    continue
                if not _is_address(found.get(name)):
                    raise self._down(f"its {name} is no https address")
            methods = found.get("code_challenge_methods_supported")
            if isinstance(methods, list) and "S256" not in methods:
                raise self._down("it does not know PKCE with S256")
            self._description, self._described_at = found, self._ticks()
            return found

    def _read_keys(self, older_than: float = 0) -> bool:
        """Read the provider's keys; False if they are not so old yet."""
        if self._ticks() - self._keys_at < older_than:
            return False
        description = self._described()
        with self._asking:
            if self._ticks() - self._keys_at < older_than:
                return False
            status, found = self._ask(description["jwks_uri"])
            entries = found.get("keys")
            if status != 200 or not isinstance(entries, list):
                raise self._down("it does not publish its keys")
            self._keys, self._keys_at = KeySet(_public_keys(entries)), self._ticks()
            return True

    def _down(self, why: str) -> ProviderDown:
        self._trouble = why
        self._down_until = self._ticks() + DOWN_SECONDS
        return _unusable(why)

    def _ask(
        self, url: str, form: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """One call: its status, and the object that came back (empty if it was none)."""
        if self._ticks() < self._down_until:
            raise _unusable(self._trouble)
        parts = urlsplit(url)
        sent = {"Accept": "application/json", "User-Agent": f"mpcredit/{__version__}", **(headers or {})}
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        host = parts.hostname or ""
        connection = (
            http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT, context=self._context)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT)
        )
        with contextlib.closing(connection):
            try:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("GET" if form is None else "POST", path, form, sent)
                with connection.getresponse() as response:  # a redirection is not followed: it could lead anywhere
                    status, body = response.status, response.read(LARGEST + 1)
            except (OSError, http.client.HTTPException, ValueError) as error:
                # Not chained: the traceback of a failed call could show what was sent.
                raise self._down(f"it cannot be reached: {_cause(error)}") from None
        if len(body) > LARGEST:
            raise self._down("its answer is too long")
        self._trouble = ""
        try:
            check_depth(body)
            found = json.loads(body)
        except (ValueError, InvalidEncoding):
            found = None
        return status, found if isinstance(found, dict) else {}


def provider_of(settings: ServerSettings) -> Provider | None:
    """The provider that the settings name, if they name one.

    Raises:
        InvalidFile, KeyStoreError: a file that they name is not right.
    """
    if settings.oidc is None:
        return None
    return Provider(settings.oidc, redirect_uri=f"{settings.origin}{CALLBACK}", secret=settings.session_secret())


# --------------------------------------------------------------------- small things


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _line(value: object) -> str:
    """A short line of text for people, from somebody else's."""
    if not isinstance(value, str):
        return ""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())[:200]


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query)}"


def _is_address(value: object) -> bool:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def _public_keys(entries: list[Any]) -> list[Key]:
    """The keys among the entries that can verify a signature; one that we do not understand is passed over."""
    found: list[Key] = []
    for entry in entries:
        if isinstance(entry, dict) and entry.get("kty") in ("RSA", "EC", "OKP") and entry.get("use", "sig") == "sig":
            with contextlib.suppress(JoseError, ValueError, KeyError, TypeError):
                found.append(JWKRegistry.import_key(entry))
    return found


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate does not rest on a trusted authority"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _unusable(why: str) -> ProviderDown:
    return ProviderDown(
        f"the identity provider cannot be used: {why}",
        remedy="try again in a minute; if it stays so, whoever runs the provider and this server must look. Local "
        "accounts still sign in",
    )


def _not_begun() -> SignInRefused:
    return SignInRefused(
        "this sign-in was not begun in this browser, or more than 10 minutes ago",
        remedy="begin again on the sign-in page; the browser must allow cookies",
        status=400,
    )


def _ended(error: str) -> SignInRefused:
    if error == "access_denied":
        return SignInRefused(
            "the identity provider did not let you in, or you declined there",
            remedy="begin again and agree; if it still says no, whoever runs it must give you access to this application",
        )
    return SignInRefused(
        f"the identity provider ended the sign-in: {error if error in _TOLD else 'unknown error'}",
        remedy=f"begin again; if it stays so, {_OPERATOR}",
    )


def _unacceptable(why: str) -> SignInRefused:
    return SignInRefused(
        f"the identity provider's answer is not acceptable: {why}",
        remedy=f"begin again; if it stays so, tell the administrator: it may be an attack, or {_OPERATOR}",
    )


def _clocks() -> SignInRefused:
    return SignInRefused(
        "the identity provider's answer is not of this time",
        remedy="begin again; if it stays so, whoever runs this server and the provider must set their clocks",
    )
