"""Who may use the server, and as what: accounts, roles, passwords, one-time links, sessions and tokens of systems.

The rules kept here:

1. Nobody is administrator and officer at once: who manages accounts cannot inquire, and who inquires manages none.
2. Nobody gives a role alone. An administrator asks; a reviewer who neither asked nor is concerned confirms. The same holds
   for the token of a system, which can post applications.
3. An administrator cannot step into somebody's account: a sign-in link that he issues for a person with roles takes these
   away until a reviewer confirms them anew.
4. Who is disabled is out with the next request: sessions and links end in the transaction that disables. Who enables him
   gives him no role: a reviewer confirms them anew, or one administrator could undo what another had a reason to do. Out is
   also who is suspended by the limits against misuse (`misuse`); only a reviewer, never himself, lets him in again.
5. Who signs in through the bank's identity provider signs in no other way: no password and no link outlives what the
   provider says. A role that it newly states waits for a reviewer like any other; what it no longer states is gone.
6. Only hashes are stored, of passwords with argon2id, of random tokens with SHA-256.

`by=None` is the console: the operating-system account that owns database and keys, which no rule of this module could hold
back. Every change writes its audit entry in the same transaction. What the roles permit is left to the routes.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from mpcredit.errors import Refused
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import (
    Database,
    api_token_table,
    change_table,
    identity_table,
    role_table,
    session_table,
    sign_in_table,
    user_table,
)

__all__ = [
    "SCOPES",
    "ApiToken",
    "Change",
    "Forbidden",
    "People",
    "PeopleError",
    "Principal",
    "Role",
    "User",
    "WeakPassword",
]

SCOPES: Final = frozenset({"applications:write", "applications:read", "audit:read", "book:write", "metrics:read"})
"""What the token of a system may be good for."""
MINIMUM_PASSWORD: Final = 12
"""Characters; length is what counts (NIST SP 800-63B asks for 8 at least, and for no rules of composition)."""
MAXIMUM_PASSWORD: Final = 256
_TOKEN_PREFIX: Final = "mpc_"
_SEEN_SECONDS: Final = 60
"""A session's last use is written at most so often."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
NO_ROLE_REMEDY: Final = (
    "whoever manages groups at the identity provider must put you into one that [server.oidc.roles] names"
)
_HASHING: Final = threading.BoundedSemaphore(2)
"""argon2 takes 64 MiB each time; a crowd of attempts must not take all memory."""


class Role(StrEnum):
    """What somebody is; a person may have several."""

    OFFICER = "officer"
    """Enters applications, opens inquiries, decides."""
    REVIEWER = "reviewer"
    """Confirms what needs a second person."""
    ADMINISTRATOR = "administrator"
    """Manages accounts and settings; cannot inquire."""
    AUDITOR = "auditor"
    """Reads everything that was done, changes nothing."""
    SUPERVISOR = "supervisor"
    """Works on the supervisor's node."""


class PeopleError(Refused):
    """What was asked for does not fit the accounts as they are."""


class Forbidden(Refused):
    """Who asked may not do this."""


class WeakPassword(Refused):
    """The password is too easy to guess."""


@dataclass(frozen=True)
class User:
    """A person's account."""

    id: int
    name: str
    """To sign in with."""
    display: str
    """For people to read."""
    roles: frozenset[Role]
    disabled: bool
    """Out of use: somebody disabled it, or it is suspended."""
    has_password: bool
    language: str | None
    """Chosen language of the pages."""
    suspended: bool = False
    """By the limits against misuse, until a reviewer lifts it."""
    provided: bool = False
    """Whether the bank's identity provider signs this person in, and states the roles."""

    @property
    def actor(self) -> str:
        """Who this is in the audit log."""
        return f"user:{self.name}"

    @property
    def scopes(self) -> frozenset[str]:
        """Nothing: scopes belong to the tokens of systems."""
        return frozenset()


@dataclass(frozen=True)
class ApiToken:
    """A token with which a system of the bank calls the API. The token itself is not stored."""

    id: int
    name: str
    scopes: frozenset[str]
    state: str
    """pending, active or revoked."""
    expires_at: int
    last_used_at: int | None

    @property
    def actor(self) -> str:
        """Who this is in the audit log."""
        return f"token:{self.id}"

    @property
    def roles(self) -> frozenset[Role]:
        """Nothing: roles belong to people."""
        return frozenset()


Principal = User | ApiToken


@dataclass(frozen=True)
class Change:
    """A change that waits for a second person, or did."""

    id: int
    kind: str
    """roles or token."""
    user: str | None
    """Whose roles."""
    roles: frozenset[Role] | None
    """All roles that the person has afterwards."""
    token: int | None
    """Which token."""
    asked_by: str
    asked_at: int
    why: str
    state: str
    """pending, confirmed or refused."""
    decided_by: str | None
    decided_at: int | None


def _digest(token: str) -> bytes:
    return hashlib.sha256(b"mpcredit/token/2" + token.encode("utf-8", "replace")).digest()


def _roles(roles: Iterable[Role | str]) -> frozenset[Role]:
    try:
        found = frozenset(Role(role) for role in roles)
    except ValueError as error:
        raise PeopleError(f"there is no such role: {error}", remedy=f"use {', '.join(Role)}") from error
    if {Role.ADMINISTRATOR, Role.OFFICER} <= found:
        raise PeopleError("nobody is administrator and officer at once", remedy="give one of the two to somebody else")
    return found


def _names(roles: Iterable[Role]) -> list[str]:
    return sorted(role.value for role in roles)


def _actor(by: User | None) -> str:
    return "console" if by is None else by.actor


class People:
    """The accounts in the server's database.

    Args:
        database: opened and upgraded.
        audit: in the same database.
        clock: the time in Unix seconds.
        hasher: argon2id with what it may cost; tests hand in a cheap one.
        session_hours: after this a person signs in again.
        session_idle_minutes: after this without a request a person signs in again.
        sign_in_minutes: how long a one-time link lives.
    """

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        *,
        clock: Callable[[], float] = time.time,
        hasher: PasswordHasher | None = None,
        session_hours: int = 8,
        session_idle_minutes: int = 30,
        sign_in_minutes: int = 60,
    ) -> None:
        if audit.database is not database:
            raise ValueError("accounts and audit log share one database")
        self.database = database
        self.audit = audit
        self._clock = clock
        self._hasher = hasher or PasswordHasher()  # argon2id; RFC 9106, second recommended option
        self._session_seconds = 3600 * session_hours
        self._idle_seconds = 60 * session_idle_minutes
        self._link_seconds = 60 * sign_in_minutes
        self._nobody = self._hash(secrets.token_urlsafe(32))

    def _now(self) -> int:
        return int(self._clock())

    # --- accounts

    def install(self, users: Iterable[tuple[str, str, Iterable[Role | str]]], *, why: str = "founding") -> list[User]:
        """Make the first accounts: login name, name to display, roles. They hold at once.

        Raises:
            PeopleError: there are accounts already.
        """
        with self.database.transaction() as connection:
            if connection.scalar(select(func.count()).select_from(user_table)):
                raise PeopleError("there are accounts already", remedy="an administrator makes further ones")
            return [self.create(name, display, roles, by=None, why=why) for name, display, roles in users]

    def create(self, name: str, display: str, roles: Iterable[Role | str] = (), *, by: User | None, why: str) -> User:
        """Make an account. Its roles wait for a reviewer, unless the console makes it.

        Raises:
            PeopleError: the name is taken or is none, or the roles exclude each other.
            Forbidden: `by` is no administrator.
        """
        wanted = _roles(roles)
        if _NAME.fullmatch(name) is None:
            raise PeopleError(
                "a login name has 1 to 64 of a-z 0-9 . _ @ + -, and begins with a letter or digit",
                remedy="choose another one",
            )
        display = " ".join(display.split())
        if not display or len(display) > 200:
            raise PeopleError("a name to display has 1 to 200 characters", remedy="write the person's name")
        with self.database.transaction() as connection:
            self._demand(connection, by, Role.ADMINISTRATOR)
            if self._find(connection, name) is not None:
                raise PeopleError(f"there is an account {name} already", remedy="choose another login name")
            row = insert(user_table).values(name=name, display=display, created_at=self._now())
            connection.execute(row)
            self.audit.append(_actor(by), "account.created", f"account/{name}", why, display=display)
            if wanted:
                self.ask_roles(name, wanted, by=by, why=why)
            return self._need(connection, name)

    def get(self, name: str) -> User | None:
        """The account of a login name."""
        with self.database.read() as connection:
            return self._find(connection, name)

    def by_id(self, id: int) -> User | None:
        """The account with this number."""
        with self.database.read() as connection:
            return self._user(connection, connection.execute(select(user_table).where(user_table.c.id == id)).first())

    def users(self) -> list[User]:
        """All accounts, by name."""
        with self.database.read() as connection:
            rows = connection.execute(select(user_table).order_by(user_table.c.name)).all()
            return [user for row in rows if (user := self._user(connection, row)) is not None]

    def set_language(self, name: str, language: str) -> None:
        """Note the language that a person chose for the pages."""
        with self.database.transaction() as connection:
            connection.execute(update(user_table).where(user_table.c.name == name).values(language=language))

    def disable(self, name: str, *, by: User | None, why: str) -> None:
        """Put an account out of use at once.

        Raises:
            Forbidden: `by` is no administrator and no reviewer, or it is the own account.
        """
        with self.database.transaction() as connection:
            self._demand(connection, by, Role.ADMINISTRATOR, Role.REVIEWER)
            user = self._need(connection, name)
            if by is not None and by.id == user.id:
                raise Forbidden("nobody disables himself", remedy="somebody else must")
            c = user_table.c
            changed = connection.execute(
                update(user_table).where(c.id == user.id, c.disabled_at.is_(None)).values(disabled_at=self._now())
            )
            if not changed.rowcount:
                return
            ended = self._end(connection, user)
            self.audit.append(_actor(by), "account.disabled", f"account/{name}", why, sessions=ended)

    def enable(self, name: str, *, by: User | None, why: str) -> None:
        """Put an account into use again. Its roles wait for a reviewer, unless the console does it. A suspension stays.

        Raises:
            Forbidden: `by` is no administrator and no reviewer, it is the own account, or it is suspended and not disabled.
        """
        with self.database.transaction() as connection:
            self._demand(connection, by, Role.ADMINISTRATOR, Role.REVIEWER)
            user = self._need(connection, name)
            if by is not None and by.id == user.id:
                raise Forbidden("nobody enables himself", remedy="somebody else must")
            c = user_table.c
            changed = connection.execute(
                update(user_table).where(c.id == user.id, c.disabled_at.is_not(None)).values(disabled_at=None)
            )
            if changed.rowcount:
                self.audit.append(_actor(by), "account.enabled", f"account/{name}", why)
                if by is not None and user.roles:
                    self._suspend_roles(connection, user, by, why)
            elif user.suspended:
                raise Forbidden("the account is suspended", remedy="a reviewer lifts that on the page Reviews")

    def suspend(self, name: str, *, why: str, **facts: Any) -> bool:
        """Put an account out of use because of a limit against misuse, with the audit entry; sessions end at once.

        Returns:
            Whether it was in use; otherwise nothing is done.
        """
        with self.database.transaction() as connection:
            user = self._find(connection, name)
            if user is None or user.disabled:
                return False
            connection.execute(update(user_table).where(user_table.c.id == user.id).values(suspended_at=self._now()))
            ended = self._end(connection, user)
            self.audit.append("node", "account.suspended", f"account/{name}", why, sessions=ended, **facts)
            return True

    def check_lift(self, actor: str, *, by: User | None, why: str) -> None:
        """Check that somebody may lift a suspension of a person or a system.

        Raises:
            PeopleError: no reason is given.
            Forbidden: `by` is no reviewer, or it is about himself.
        """
        with self.database.read() as connection:
            self._demand(connection, by, Role.REVIEWER)
        if by is not None and by.actor == actor:
            raise Forbidden("nobody lifts his own suspension", remedy="another reviewer must")
        if not why.strip():
            raise PeopleError("no reason is given", remedy="write what you found and why it may go on")

    def resume(self, name: str, *, by: User | None, why: str, **facts: Any) -> None:
        """Lift a suspension, with the audit entry. Whoever was disabled besides stays so.

        Raises:
            PeopleError, Forbidden: as with `check_lift`.
        """
        with self.database.transaction() as connection:
            self.check_lift(f"user:{name}", by=by, why=why)
            user = self._need(connection, name)
            connection.execute(update(user_table).where(user_table.c.id == user.id).values(suspended_at=None))
            self.audit.append(_actor(by), "account.resumed", f"account/{name}", why.strip(), **facts)

    # --- roles

    def ask_roles(self, name: str, roles: Iterable[Role | str], *, by: User | None, why: str) -> Change:
        """Ask that a person has exactly these roles. What is taken away is so at once; what is given waits.

        Raises:
            PeopleError: there is no such account, or the roles exclude each other.
            Forbidden: `by` is no administrator.
        """
        wanted = _roles(roles)
        with self.database.transaction() as connection:
            self._demand(connection, by, Role.ADMINISTRATOR)
            user = self._need(connection, name)
            if user.provided:
                raise PeopleError(
                    f"the identity provider states the roles of {name}",
                    remedy="have them changed there, or disable the account",
                )
            self._set_roles(connection, user, user.roles & wanted)
            self._withdraw(connection, user, _actor(by))
            change = self._ask(connection, "roles", _actor(by), why, person=user.id, roles=",".join(_names(wanted)))
            self.audit.append(
                _actor(by),
                "roles.asked",
                f"account/{name}",
                why,
                before=_names(user.roles),
                after=_names(wanted),
                change=change.id,
            )
            if by is None or wanted <= user.roles:
                return self._decide(connection, change, "confirmed", by, why)
            return change

    def changes(self, state: str | None = "pending") -> list[Change]:
        """Changes that wait for a second person; of another state, or all (None)."""
        statement = select(change_table, user_table.c.name.label("login")).outerjoin(
            user_table, user_table.c.id == change_table.c.person
        )
        if state is not None:
            statement = statement.where(change_table.c.state == state)
        with self.database.read() as connection:
            return [_change(row) for row in connection.execute(statement.order_by(change_table.c.id))]

    def confirm(self, change_id: int, *, by: User | None) -> Change:
        """Confirm a change; it holds from now on.

        Raises:
            PeopleError: there is no such change that waits, or it is no longer possible.
            Forbidden: `by` is no reviewer, asked for it, or it is about him.
        """
        return self._second(change_id, "confirmed", by, "")

    def refuse(self, change_id: int, *, by: User | None, why: str) -> Change:
        """Refuse a change.

        Raises:
            PeopleError, Forbidden: as with `confirm`.
        """
        return self._second(change_id, "refused", by, why)

    def _second(self, change_id: int, state: str, by: User | None, why: str) -> Change:
        with self.database.transaction() as connection:
            self._demand(connection, by, Role.REVIEWER)
            change = self._get_change(connection, change_id)
            if change is None or change.state != "pending":
                raise PeopleError(f"no change {change_id} waits for a decision", remedy="look at the list again")
            if by is not None and change.asked_by == by.actor:
                raise Forbidden("nobody confirms what he asked for himself", remedy="another reviewer must")
            if by is not None and change.user == by.name:
                raise Forbidden("nobody confirms a change of his own roles", remedy="another reviewer must")
            return self._decide(connection, change, state, by, why)

    def _decide(self, connection: Connection, change: Change, state: str, by: User | None, why: str) -> Change:
        if state == "confirmed" and change.roles is not None and change.user is not None:
            user = self._need(connection, change.user)
            self._set_roles(connection, user, _roles(change.roles))
        if change.token is not None:
            token = api_token_table.c
            connection.execute(
                update(api_token_table)
                .where(token.id == change.token, token.state == "pending")
                .values(state="active" if state == "confirmed" else "revoked")
            )
        connection.execute(
            update(change_table)
            .where(change_table.c.id == change.id)
            .values(state=state, decided_by=_actor(by), decided_at=self._now())
        )
        about = f"account/{change.user}" if change.user is not None else f"token/{change.token}"
        after = {} if change.roles is None else {"roles": _names(change.roles)}
        self.audit.append(_actor(by), f"{change.kind}.{state}", about, why, change=change.id, **after)
        found = self._get_change(connection, change.id)
        assert found is not None
        return found

    def _ask(self, connection: Connection, kind: str, by: str, why: str, **values: Any) -> Change:
        statement = insert(change_table).values(
            kind=kind, asked_by=by, asked_at=self._now(), why=why, state="pending", **values
        )
        id = connection.scalar(statement.returning(change_table.c.id))
        assert id is not None
        change = self._get_change(connection, id)
        assert change is not None
        return change

    def _suspend_roles(self, connection: Connection, user: User, by: User, why: str) -> None:
        """Take all roles, and ask for them again: a reviewer confirms."""
        self._set_roles(connection, user, frozenset())
        self._end(connection, user)
        self._withdraw(connection, user, by.actor)
        change = self._ask(connection, "roles", by.actor, why, person=user.id, roles=",".join(_names(user.roles)))
        self.audit.append(
            by.actor, "roles.suspended", f"account/{user.name}", why, roles=_names(user.roles), change=change.id
        )

    def _withdraw(self, connection: Connection, user: User, by: str) -> None:
        """Of several changes of one person's roles only the newest waits."""
        columns = change_table.c
        connection.execute(
            update(change_table)
            .where(columns.person == user.id, columns.state == "pending")
            .values(state="refused", decided_by=by, decided_at=self._now())
        )

    def _get_change(self, connection: Connection, id: int) -> Change | None:
        statement = select(change_table, user_table.c.name.label("login")).outerjoin(
            user_table, user_table.c.id == change_table.c.person
        )
        row = connection.execute(statement.where(change_table.c.id == id)).first()
        return None if row is None else _change(row)

    def _set_roles(self, connection: Connection, user: User, roles: frozenset[Role]) -> None:
        connection.execute(delete(role_table).where(role_table.c.person == user.id))
        if roles:
            connection.execute(insert(role_table), [{"person": user.id, "role": role} for role in _names(roles)])

    # --- passwords

    def _hash(self, password: str) -> str:
        with _HASHING:
            return self._hasher.hash(unicodedata.normalize("NFKC", password))

    def _fits(self, stored: str, password: str) -> bool:
        with _HASHING:
            try:
                return self._hasher.verify(stored, unicodedata.normalize("NFKC", password))
            except (VerificationError, InvalidHashError):
                return False

    def set_password(self, name: str, password: str, *, by: User | None) -> None:
        """Set the own password; the console may set anybody's. All sessions of the account end: start a new one.

        Raises:
            WeakPassword: it is too easy to guess.
            Forbidden: it is somebody else's account.
        """
        if by is not None and by.name != name:
            raise Forbidden("a password is set by its owner", remedy="issue a sign-in link instead")
        lowered = password.casefold()
        if not MINIMUM_PASSWORD <= len(password) <= MAXIMUM_PASSWORD:
            raise WeakPassword(
                f"a password has {MINIMUM_PASSWORD} to {MAXIMUM_PASSWORD} characters", remedy="take several words"
            )
        if (name.casefold() in lowered and len(name) > 2) or len(set(lowered)) < 6 or "mpcredit" in lowered:
            raise WeakPassword("this password is easy to guess", remedy="take several words that have no connection")
        hashed = self._hash(password)
        with self.database.transaction() as connection:
            user = self._need(connection, name)
            if user.provided:
                raise Forbidden(f"{name} signs in through the identity provider", remedy="change the password there")
            connection.execute(update(user_table).where(user_table.c.id == user.id).values(password=hashed))
            ended = self._end(connection, user)
            self.audit.append(_actor(by), "password.set", f"account/{name}", sessions=ended)

    def check_password(self, name: str, password: str) -> User | None:
        """The account if the password is right; None if it is wrong, unknown or disabled, which takes as long.

        Success and failure are in the audit log. How often one may try is left to `security`.
        """
        with self.database.read() as connection:
            row = connection.execute(select(user_table).where(user_table.c.name == name)).first()
        stored = row.password if row is not None and row.password is not None else self._nobody
        fits = len(password) <= MAXIMUM_PASSWORD and self._fits(stored, password)
        if row is None or row.password is None or _out(row) or not fits:
            # An unknown name is not written down: people type passwords into the wrong field.
            self.audit.append(
                "node",
                "sign-in.failed",
                f"account/{row.name}" if row is not None else "account",
                "wrong name or password",
            )
            return None
        if self._hasher.check_needs_rehash(stored):
            hashed = self._hash(password)
            with self.database.transaction() as connection:
                connection.execute(
                    update(user_table)
                    .where(user_table.c.id == row.id, user_table.c.password == stored)
                    .values(password=hashed)
                )
        found = self.by_id(row.id)
        return None if found is None or found.disabled else found

    # --- one-time links

    def issue_sign_in(self, name: str, *, by: User | None, why: str = "") -> str:
        """Make a token for a one-time sign-in link; earlier ones of the account end.

        A link that somebody else issues for a person with roles suspends these until a reviewer confirms them: otherwise
        who manages accounts could step into an officer's.

        Raises:
            PeopleError: there is no such account, or it is disabled.
            Forbidden: `by` is no administrator.
        """
        token = secrets.token_urlsafe(32)
        with self.database.transaction() as connection:
            self._demand(connection, by, Role.ADMINISTRATOR)
            user = self._need(connection, name)
            if user.disabled:
                how = (
                    ("suspended", "a reviewer lifts that first") if user.suspended else ("disabled", "enable it first")
                )
                raise PeopleError(f"the account {name} is {how[0]}", remedy=how[1])
            if by is not None and user.provided:
                raise Forbidden(
                    f"{name} signs in through the identity provider",
                    remedy="help at the provider; in an emergency the console issues a link",
                )
            if by is not None and by.id != user.id and user.roles:
                self._suspend_roles(connection, user, by, why or "a sign-in link was issued")
            connection.execute(delete(sign_in_table).where(sign_in_table.c.person == user.id))
            connection.execute(
                insert(sign_in_table).values(
                    hash=_digest(token), person=user.id, expires_at=self._now() + self._link_seconds
                )
            )
            self.audit.append(_actor(by), "sign-in.issued", f"account/{name}", why)
        return token

    def peek_sign_in(self, token: str) -> User | None:
        """Whose link this is, None if it does not hold; uses nothing up."""
        statement = (
            select(user_table)
            .join(sign_in_table, sign_in_table.c.person == user_table.c.id)
            .where(
                sign_in_table.c.hash == _digest(token),
                sign_in_table.c.expires_at > self._now(),
                user_table.c.disabled_at.is_(None),
                user_table.c.suspended_at.is_(None),
            )
        )
        with self.database.read() as connection:
            return self._user(connection, connection.execute(statement).first())

    def redeem_sign_in(self, token: str) -> User | None:
        """Use a link up: whose it is, None if it does not hold or was used."""
        with self.database.transaction() as connection:
            user = self.peek_sign_in(token)
            used = connection.execute(delete(sign_in_table).where(sign_in_table.c.hash == _digest(token)))
            if user is None or used.rowcount != 1:
                self.audit.append("node", "sign-in.failed", "account", "the link does not hold")
                return None
            return user

    # --- sessions

    def start_session(self, user: User, *, method: str, minutes: int | None = None) -> str:
        """Let somebody in who has shown who he is.

        Args:
            user: as `check_password`, `redeem_sign_in` or `external` gave it.
            method: password, link or oidc.
            minutes: the session ends after so long, if that is sooner than others do.

        Returns:
            The value of the session cookie; only its hash is kept.

        Raises:
            Forbidden: the account was disabled meanwhile.
        """
        token = secrets.token_urlsafe(32)
        now = self._now()
        seconds = self._session_seconds if minutes is None else min(self._session_seconds, 60 * minutes)
        with self.database.transaction() as connection:
            present = self._need(connection, user.name)
            if present.disabled:
                raise Forbidden("the account is disabled", remedy="ask an administrator")
            connection.execute(
                insert(session_table).values(
                    hash=_digest(token),
                    person=present.id,
                    method=method,
                    started_at=now,
                    seen_at=now,
                    expires_at=now + seconds,
                )
            )
            self.audit.append(present.actor, "session.started", f"account/{user.name}", method)
        return token

    def session(self, token: str, *, attended: bool = True) -> User | None:
        """Who is signed in with this cookie; None if nobody, no longer, too long idle, or disabled.

        Args:
            attended: a person did something; False for what an open page asks by itself, which keeps nobody signed in.
        """
        digest, now = _digest(token), self._now()
        columns = session_table.c
        statement = (
            select(user_table, columns.seen_at)
            .join(session_table, columns.person == user_table.c.id)
            .where(
                columns.hash == digest,
                columns.expires_at > now,
                columns.seen_at > now - self._idle_seconds,
                user_table.c.disabled_at.is_(None),
                user_table.c.suspended_at.is_(None),
            )
        )
        with self.database.read() as connection:
            row = connection.execute(statement).first()
            user = self._user(connection, row)
        if attended and row is not None and row.seen_at <= now - _SEEN_SECONDS:
            with self.database.transaction() as connection:
                connection.execute(update(session_table).where(columns.hash == digest).values(seen_at=now))
        return user

    def end_session(self, token: str) -> str | None:
        """Sign out; a session that there is not is no error. Returns by which method it was started."""
        with self.database.transaction() as connection:
            user = self.session(token)
            method = connection.scalar(select(session_table.c.method).where(session_table.c.hash == _digest(token)))
            connection.execute(delete(session_table).where(session_table.c.hash == _digest(token)))
            if user is not None:
                self.audit.append(user.actor, "session.ended", f"account/{user.name}")
        return method

    def end_sessions(self, name: str, *, by: User | None) -> int:
        """Sign somebody out everywhere; returns from how many sessions.

        Raises:
            Forbidden: `by` is neither the person nor an administrator.
        """
        with self.database.transaction() as connection:
            user = self._need(connection, name)
            if by is None or by.id != user.id:
                self._demand(connection, by, Role.ADMINISTRATOR)
            ended = self._end(connection, user)
            self.audit.append(_actor(by), "session.ended", f"account/{name}", "everywhere", sessions=ended)
            return ended

    def _end(self, connection: Connection, user: User) -> int:
        connection.execute(delete(sign_in_table).where(sign_in_table.c.person == user.id))
        return connection.execute(delete(session_table).where(session_table.c.person == user.id)).rowcount

    # --- the bank's own sign-in

    def external(
        self,
        issuer: str,
        subject: str,
        *,
        name: str,
        display: str,
        roles: Iterable[Role | str],
        confirm: bool = True,
    ) -> User | None:
        """The account of somebody whom the bank's identity provider vouches for.

        The first sign-in makes the account, if the provider states a role for it; later ones replace its roles. An account
        that was made here is never taken over by a provider that states its name: who it is, issuer and subject say.

        Args:
            issuer: the provider.
            subject: whom it vouches for.
            name: login name for a new account.
            display: name to display for a new account.
            roles: all roles that the provider states.
            confirm: what is newly given waits for a reviewer; False: it holds at once, since two persons gave it there.

        Returns:
            The account, None if it is disabled.

        Raises:
            PeopleError: the roles exclude each other or are none, or the name belongs to another account or is none.
        """
        wanted = _roles(roles)
        actor = f"provider:{issuer}"
        with self.database.transaction() as connection:
            user = self._identified(connection, issuer, subject)
            if user is None:
                user = self._first(connection, issuer, subject, name, display, wanted)
            if user.disabled:
                self.audit.append("node", "sign-in.failed", f"account/{user.name}", "the account is disabled")
                return None
            # (1) what is no longer stated is gone; what is new holds now, or waits.
            held = user.roles & wanted if confirm else wanted
            if user.roles != held:
                self._set_roles(connection, user, held)
                self.audit.append(
                    actor,
                    "roles.provided",
                    f"account/{user.name}",
                    "as the identity provider states",
                    before=_names(user.roles),
                    after=_names(held),
                )
            # (2) one question to the reviewers, not one for each sign-in.
            text = ",".join(_names(wanted))
            columns = change_table.c
            waiting = connection.execute(
                select(columns.asked_by, columns.roles).where(columns.person == user.id, columns.state == "pending")
            ).all()
            if held == wanted:
                self._withdraw(connection, user, actor)
            elif [(row.asked_by, row.roles) for row in waiting] != [(actor, text)]:
                self._withdraw(connection, user, actor)
                why = "as the identity provider states"
                change = self._ask(connection, "roles", actor, why, person=user.id, roles=text)
                self.audit.append(
                    actor,
                    "roles.asked",
                    f"account/{user.name}",
                    why,
                    before=_names(held),
                    after=_names(wanted),
                    change=change.id,
                )
            return self._need(connection, user.name)

    def bind(self, name: str, issuer: str, subject: str, *, why: str) -> User:
        """Hand an account that was made here over to the identity provider: from now on only it signs this person in.

        Password, links and sessions end; the roles stay until the provider states others. For the console alone: who could
        do this on a page could give an account to somebody else.

        Raises:
            PeopleError: there is no such account, or account or identity are bound already.
        """
        with self.database.transaction() as connection:
            user = self._need(connection, name)
            other = self._identified(connection, issuer, subject)
            if user.provided or other is not None:
                raise PeopleError(
                    f"the account {name} is bound to an identity already"
                    if other is None
                    else f"this identity is the account {other.name} already",
                    remedy="look into the audit log; a wrong account can be disabled",
                )
            connection.execute(insert(identity_table).values(issuer=issuer, subject=subject, person=user.id))
            connection.execute(update(user_table).where(user_table.c.id == user.id).values(password=None))
            self._withdraw(connection, user, _actor(None))
            ended = self._end(connection, user)
            self.audit.append(
                _actor(None), "account.bound", f"account/{name}", why, issuer=issuer, subject=subject, sessions=ended
            )
            return self._need(connection, name)

    def _identified(self, connection: Connection, issuer: str, subject: str) -> User | None:
        columns = identity_table.c
        statement = select(user_table).join(identity_table, columns.person == user_table.c.id)
        return self._user(
            connection,
            connection.execute(statement.where(columns.issuer == issuer, columns.subject == subject)).first(),
        )

    def _first(
        self, connection: Connection, issuer: str, subject: str, name: str, display: str, wanted: frozenset[Role]
    ) -> User:
        if not wanted:
            raise PeopleError(
                "nothing that the identity provider states about you gives a role here", remedy=NO_ROLE_REMEDY
            )
        if _NAME.fullmatch(name) is None:
            raise PeopleError(
                "the identity provider states no login name that can be used here",
                remedy="whoever runs it must state one of 1 to 64 letters, digits and . _ @ + -, or the server's operator "
                "names another claim as name_claim in [server.oidc]",
            )
        if self._find(connection, name) is not None:
            raise PeopleError(
                f"the name {name} belongs to another account here",
                remedy="if it is yours, the server's operator binds it with `mpcredit people bind`; else the identity "
                "provider must state another name",
            )
        self.create(name, display, by=None, why=f"first sign-in through {issuer}")
        connection.execute(
            insert(identity_table).values(issuer=issuer, subject=subject, person=self._need(connection, name).id)
        )
        return self._need(connection, name)

    # --- systems

    def create_token(
        self, name: str, scopes: Iterable[str], *, by: User | None, why: str, days: int = 365
    ) -> tuple[ApiToken, str]:
        """Make the token of a system. It is shown once, and holds when a reviewer has confirmed it (console: at once).

        Raises:
            PeopleError: a scope that there is not, or a time that is none.
            Forbidden: `by` is no administrator.
        """
        wanted = frozenset(scopes)
        if not wanted or not wanted <= SCOPES:
            raise PeopleError("these scopes do not exist", remedy=f"use {', '.join(sorted(SCOPES))}")
        name = " ".join(name.split())
        if not name or len(name) > 200 or not 1 <= days <= 3660:
            raise PeopleError("a token has a name and lives 1 to 3660 days", remedy="name the system that uses it")
        secret = _TOKEN_PREFIX + secrets.token_urlsafe(32)
        with self.database.transaction() as connection:
            self._demand(connection, by, Role.ADMINISTRATOR)
            now = self._now()
            statement = insert(api_token_table).values(
                name=name,
                hash=_digest(secret),
                scopes=" ".join(sorted(wanted)),
                state="pending",
                created_at=now,
                expires_at=now + 86_400 * days,
            )
            id = connection.scalar(statement.returning(api_token_table.c.id))
            change = self._ask(connection, "token", _actor(by), why, token=id)
            self.audit.append(
                _actor(by), "token.asked", f"token/{id}", why, name=name, scopes=sorted(wanted), change=change.id
            )
            if by is None:
                self._decide(connection, change, "confirmed", by, why)
            row = connection.execute(select(api_token_table).where(api_token_table.c.id == id)).one()
            return _token(row), secret

    def token(self, secret: str) -> ApiToken | None:
        """Which system calls; None if the token is unknown, not confirmed, revoked or has run out."""
        now = self._now()
        columns = api_token_table.c
        with self.database.read() as connection:
            row = connection.execute(
                select(api_token_table).where(
                    columns.hash == _digest(secret), columns.state == "active", columns.expires_at > now
                )
            ).first()
        if row is None:
            return None
        if row.used_at is None or row.used_at <= now - _SEEN_SECONDS:
            with self.database.transaction() as connection:
                connection.execute(update(api_token_table).where(columns.id == row.id).values(used_at=now))
        return _token(row)

    def tokens(self) -> list[ApiToken]:
        """The tokens of all systems, also those that hold no longer."""
        with self.database.read() as connection:
            rows = connection.execute(select(api_token_table).order_by(api_token_table.c.id)).all()
        return [_token(row) for row in rows]

    def revoke_token(self, id: int, *, by: User | None, why: str) -> None:
        """End a token at once.

        Raises:
            PeopleError: there is none.
            Forbidden: `by` is no administrator and no reviewer.
        """
        with self.database.transaction() as connection:
            self._demand(connection, by, Role.ADMINISTRATOR, Role.REVIEWER)
            changed = connection.execute(
                update(api_token_table).where(api_token_table.c.id == id).values(state="revoked")
            )
            if changed.rowcount != 1:
                raise PeopleError(f"there is no token {id}", remedy="look at the list again")
            connection.execute(
                update(change_table)
                .where(change_table.c.token == id, change_table.c.state == "pending")
                .values(state="refused", decided_by=_actor(by), decided_at=self._now())
            )
            self.audit.append(_actor(by), "token.revoked", f"token/{id}", why)

    def prune(self) -> int:
        """Forget sessions and links that hold no longer; returns how many."""
        now = self._now()
        columns = session_table.c
        with self.database.transaction() as connection:
            old = or_(columns.expires_at <= now, columns.seen_at <= now - self._idle_seconds)
            sessions = connection.execute(delete(session_table).where(old)).rowcount
            links = connection.execute(delete(sign_in_table).where(sign_in_table.c.expires_at <= now)).rowcount
        return sessions + links

    # --- rows

    def _demand(self, connection: Connection, by: User | None, *roles: Role) -> None:
        """Look at who asks as he is now, not as he was when his page was made."""
        if by is None:
            return
        present = self._user(connection, connection.execute(select(user_table).where(user_table.c.id == by.id)).first())
        if present is None or present.disabled or not present.roles & set(roles):
            raise Forbidden(
                f"this needs the role {' or '.join(roles)}", remedy="ask somebody who has it", code="Forbidden"
            )

    def _find(self, connection: Connection, name: str) -> User | None:
        return self._user(connection, connection.execute(select(user_table).where(user_table.c.name == name)).first())

    def _need(self, connection: Connection, name: str) -> User:
        user = self._find(connection, name)
        if user is None:
            raise PeopleError(f"there is no account {name}", remedy="look at the list again")
        return user

    def _user(self, connection: Connection, row: Row[Any] | None) -> User | None:
        if row is None:
            return None
        roles = connection.scalars(select(role_table.c.role).where(role_table.c.person == row.id)).all()
        identity = connection.scalar(select(identity_table.c.issuer).where(identity_table.c.person == row.id).limit(1))
        return User(
            id=row.id,
            name=row.name,
            display=row.display,
            roles=frozenset(Role(role) for role in roles),
            disabled=_out(row),
            has_password=row.password is not None,
            language=row.language,
            suspended=row.suspended_at is not None,
            provided=identity is not None,
        )


def _out(row: Row[Any]) -> bool:
    return row.disabled_at is not None or row.suspended_at is not None


def _change(row: Row[Any]) -> Change:
    return Change(
        id=row.id,
        kind=row.kind,
        user=row.login,
        roles=None if row.roles is None else frozenset(Role(role) for role in row.roles.split(",") if role),
        token=row.token,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        why=row.why,
        state=row.state,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
    )


def _token(row: Row[Any]) -> ApiToken:
    return ApiToken(
        id=row.id,
        name=row.name,
        scopes=frozenset(row.scopes.split()),
        state=row.state,
        expires_at=row.expires_at,
        last_used_at=row.used_at,
    )
