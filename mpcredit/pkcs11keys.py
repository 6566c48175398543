"""Institution and supervisor keys in a token, by PKCS#11: made there, used there, destroyed there (R13).

    kind and version   CKA_LABEL and CKA_ID of both halves: "<prefix>-institution-<v>", "<prefix>-supervisor-<v>"
    making             CKM_EC_MONTGOMERY_KEY_PAIR_GEN where the token has it, else CKM_EC_EDWARDS_KEY_PAIR_GEN, on
                       Curve25519; CKA_SENSITIVE, not CKA_EXTRACTABLE, for CKA_DERIVE alone
    using              CKM_ECDH1_DERIVE with CKD_NULL: the 32 bytes of X25519, read and destroyed at once
    proving            X25519 with the base point is the public half: done before a key is handed out

The private key never leaves the token; what it agrees on with another key does, and is in this process's memory, like
all that is derived from it. Ledger account, inquiry keys and tag keys stay in files or in an external signer: no token
does Paillier. A wrong PIN is tried once in a process, since tokens lock themselves after a few. The library is called
from one thread at a time (it is told of no other), and not let go of meanwhile: a token that hangs holds up the process.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from mpcredit.encoding import to_hex
from mpcredit.errors import KeyStoreError, KeyUnavailable, WrongPassphrase
from mpcredit.pairkeys import BASE_POINT, AgreementKey, check_public
from mpcredit.ports import AgreementKeys

__all__ = ["Pkcs11Keys", "TokenKey", "TokenPlace"]

_log = logging.getLogger("mpcredit")
_T = TypeVar("_T")

_KEY_BYTES: Final = 32
_CURVES: Final = (
    bytes.fromhex("06032b656e"),  # OBJECT IDENTIFIER 1.3.101.110, id-X25519 (RFC 8410)
    bytes.fromhex("130a") + b"curve25519",  # PrintableString (PKCS#11 3.0); SoftHSM 2 reads back this one
)
_OCTET_STRING: Final = bytes((4, _KEY_BYTES))
"""DER in front of a CKA_EC_POINT; PKCS#11 3.0 has the bytes alone for Curve25519, and tokens differ."""
_WRONG_PIN: Final = frozenset({"CKR_PIN_INCORRECT", "CKR_PIN_INVALID", "CKR_PIN_LEN_RANGE"})
_LOCKED_PIN: Final = frozenset({"CKR_PIN_LOCKED", "CKR_PIN_EXPIRED", "CKR_USER_PIN_NOT_INITIALIZED"})
_UNABLE: Final = frozenset(
    {
        "CKR_MECHANISM_INVALID",
        "CKR_MECHANISM_PARAM_INVALID",
        "CKR_CURVE_NOT_SUPPORTED",
        "CKR_DOMAIN_PARAMS_INVALID",
        "CKR_TEMPLATE_INCONSISTENT",
        "CKR_TEMPLATE_INCOMPLETE",
        "CKR_ATTRIBUTE_VALUE_INVALID",
        "CKR_ATTRIBUTE_TYPE_INVALID",
        "CKR_KEY_TYPE_INCONSISTENT",
        "CKR_KEY_FUNCTION_NOT_PERMITTED",
        "CKR_FUNCTION_NOT_SUPPORTED",
        "CKR_ACTION_PROHIBITED",
        "CKR_TOKEN_WRITE_PROTECTED",
    }
)
"""What trying again does not mend."""


@dataclass(frozen=True)
class TokenPlace:
    """Which token, by which library."""

    module: Path
    """The PKCS#11 library of the token's maker."""
    token: str
    """Label of the token."""
    serial: str | None = None
    """Its serial number, where two tokens have one label."""
    prefix: str = "mpcredit"
    """Begins the labels of the keys; another for each party that shares the token."""

    def __str__(self) -> str:
        return f"token {self.token!r}" + (f" ({self.serial})" if self.serial else "")


class _AbsentError(KeyStoreError):
    """A key is not in an open session: gone, or the token was pulled out, which some libraries show as an empty token."""


class _Library:
    """A PKCS#11 library, loaded once in a process; one thread at a time is in it."""

    _loaded: Final[dict[Path, _Library]] = {}
    _loading: Final = threading.Lock()

    def __init__(self, path: Path) -> None:
        try:
            import PyKCS11
        except ModuleNotFoundError as error:
            raise KeyStoreError(
                "keys in a token need the Python package PyKCS11, which is not installed",
                remedy="install it: pip install 'mpcredit[pkcs11]'",
            ) from error
        self.path = path
        self.api: Any = PyKCS11
        self.lock = threading.RLock()
        self.generation = 0
        """Grows when the library is loaded anew: all session and object numbers before that mean nothing, or others."""
        self._lib: Any = None

    @classmethod
    def of(cls, path: Path) -> _Library:
        """The library of a path."""
        with cls._loading:
            if path not in cls._loaded:
                cls._loaded[path] = cls(path)
            return cls._loaded[path]

    @property
    def lib(self) -> Any:
        """The library, loaded and initialised. The lock is held."""
        if self._lib is None:
            remedy = "install the PKCS#11 library of your token, and write its path as [keys.pkcs11] module"
            if not self.path.is_file():
                raise KeyStoreError(f"{self.path}: there is no such PKCS#11 library", remedy=remedy)
            lib = self.api.PyKCS11Lib()
            try:
                lib.load(str(self.path))
            except self.api.PyKCS11Error as error:
                raise KeyStoreError(
                    f"{self.path}: is no PKCS#11 library that starts: {error}", remedy=remedy
                ) from error
            self._lib = lib
        return self._lib

    def reload(self) -> None:
        """End and begin anew: what reaches a token that was restarted or plugged in again. The lock is held.

        The library stays in memory: the code of one that was unloaded must not be called again by whoever has an old session.
        """
        self.generation += 1
        if self._lib is not None:
            self._lib.lib.C_Finalize()  # whatever it says: it may have been ended already
            code = self._lib.lib.C_Initialize()
            if code not in (self.api.CKR_OK, self.api.CKR_CRYPTOKI_ALREADY_INITIALIZED):
                _log.warning("%s: does not start again: %s", self.path, self.api.CKR.get(code, code))


class _Token:
    """A token and the one session with it; a process has one login for all that use the token."""

    _known: Final[dict[tuple[Path, str, str | None], _Token]] = {}

    def __init__(self, place: TokenPlace) -> None:
        self.place = place
        self.library = _Library.of(place.module)
        self._session: Any = None
        self._generation = -1
        self._logged_in = False
        self._pin: str | None = None
        self._refused: set[str] = set()

    def __repr__(self) -> str:
        return f"<{self.place}>"

    @classmethod
    def of(cls, place: TokenPlace) -> _Token:
        """The token of a place."""
        name = (place.module, place.token, place.serial)
        with _Library._loading:
            known = cls._known.get(name)
        if known is None:
            made = cls(place)
            with _Library._loading:
                known = cls._known.setdefault(name, made)
        return known

    # --- session and login

    @property
    def logged_in(self) -> bool:
        """Whether there is a session with a PIN, as far as is known here."""
        return self._logged_in and self._generation == self.library.generation

    def login(self, pin: str) -> None:
        """Log in, or compare the PIN with the one that has logged in.

        Raises:
            WrongPassphrase: another PIN. The token is not asked a second time for one that it refused.
        """
        with self.library.lock:
            if self._pin is not None:
                if not hmac.compare_digest(self._pin.encode(), pin.encode()):
                    raise self._wrong_pin()
                return
            if pin in self._refused:
                raise self._wrong_pin(" It is not tried again, so that the token does not lock itself.")

            def act(session: Any) -> None:
                self._log_in(session, pin)

            self.run("log in", act, login=False)
            self._pin = pin

    def _log_in(self, session: Any, pin: str) -> None:
        try:
            session.login(pin)
        except self.library.api.PyKCS11Error as error:
            code = _code(self.library.api, error)
            if code in _WRONG_PIN:
                self._refused.add(pin)
                self._pin = None
                raise self._wrong_pin() from error
            if code != "CKR_USER_ALREADY_LOGGED_IN":
                raise
        self._logged_in = True
        _log.debug("logged in to %s", self.place)

    def _wrong_pin(self, more: str = "") -> WrongPassphrase:
        return WrongPassphrase(
            f"{self.place}: the PIN is wrong.{more}",
            remedy="correct it where it comes from (MPCREDIT_TOKEN_PIN_FILE) and start again; tokens lock themselves after "
            "a few wrong ones",
        )

    def _opened(self, login: bool) -> Any:
        """The session, opened and logged in where that is wanted. The lock is held."""
        if self._session is None or self._generation != self.library.generation:
            self._session, self._logged_in = self.library.lib.openSession(self.slot()), False
            self._generation = self.library.generation
        # The PIN is known again after a restart of the token; before the first login nothing here needs one.
        # That it is refused now says nothing about the keys: who works by rounds must not take them for lost.
        changed = f"{self.place}: not logged in, its PIN has changed or is locked"
        remedy = "start again with the PIN that it has now"
        if self._pin is not None and not self._logged_in:
            try:
                self._log_in(self._session, self._pin)
            except WrongPassphrase as error:
                raise KeyUnavailable(changed, remedy=remedy) from error
            except self.library.api.PyKCS11Error as error:
                if _code(self.library.api, error) not in _LOCKED_PIN:
                    raise
                self._pin = None
                raise KeyUnavailable(changed, remedy=remedy) from error
        if login and not self._logged_in:
            raise KeyUnavailable(changed, remedy=remedy)
        return self._session

    def slot(self) -> int:
        """The slot in which the token is. The lock is held."""
        lib, api = self.library.lib, self.library.api
        found: dict[int, str] = {}
        others: set[str] = set()
        for slot in lib.getSlotList(tokenPresent=True):
            info = lib.getTokenInfo(slot)
            if not info.flags & api.CKF_TOKEN_INITIALIZED:
                continue
            label, serial = str(info.label).rstrip(), str(info.serialNumber).rstrip()
            if label == self.place.token and self.place.serial in (None, serial):
                found[int(slot)] = serial
            else:
                others.add(f"{label} ({serial})")
        if not found:
            there = f"there are: {', '.join(sorted(others))}" if others else "there is none at all"
            raise KeyUnavailable(
                f"{self.place} is not there; {there}",
                remedy="plug it in or start it, or correct [keys.pkcs11] token; it is looked for again by itself",
            )
        if len(found) > 1:
            raise KeyStoreError(
                f"{len(found)} tokens are labelled {self.place.token!r}: {', '.join(sorted(found.values()))}",
                remedy="write the serial number of yours as [keys.pkcs11] serial",
            )
        return next(iter(found))

    def run(self, what: str, act: Callable[[Any], _T], *, login: bool = True, again: bool = True) -> _T:
        """Do something in the session; open it again, once, if it is lost.

        Args:
            what: for people, with a verb: "make a key".
            act: is given the session, and finds its objects in it by itself: numbers change. It must not call `run`,
                which may end the session that it has.
            login: whether it needs the PIN.
            again: whether it may be done a second time; False for what makes something.

        Raises:
            KeyUnavailable: the token does not answer.
            KeyStoreError: it cannot do this.
        """
        api = self.library.api
        with self.library.lock:
            for attempt in (1, 2):
                try:
                    return act(self._opened(login))
                except _AbsentError as error:
                    self.forget()
                    if attempt == 2:
                        raise KeyStoreError(error.message, remedy=error.remedy) from error
                except KeyUnavailable:
                    self.forget()  # a list of tokens can be as old as the library's start
                    if attempt == 2:
                        raise
                except api.PyKCS11Error as error:
                    code = _code(api, error)
                    if code not in _UNABLE | _LOCKED_PIN:
                        self.forget()
                        if attempt == 1 and again:
                            _log.info("%s: %s; opening it again", self.place, code)
                            continue
                    raise self._translated(what, code) from error
            raise AssertionError("unreachable")

    def forget(self) -> None:
        """Drop the session; the next use opens one. The lock is held."""
        self._session = None
        self.library.reload()

    def renew(self) -> None:
        """Drop a session, so that what it no longer shows is looked for in a new one."""
        with self.library.lock:
            if self._session is not None:
                self.forget()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """A second session, which may write; the login holds for all sessions. The lock is held."""
        self._opened(login=True)
        session = self.library.lib.openSession(self.slot(), self.library.api.CKF_RW_SESSION)
        try:
            yield session
        finally:
            with contextlib.suppress(self.library.api.PyKCS11Error):
                session.closeSession()

    def _translated(self, what: str, code: str) -> KeyStoreError:
        if code in _LOCKED_PIN:
            return KeyStoreError(
                f"{self.place}: its PIN is locked, expired or not set ({code})",
                remedy="its security officer must set the PIN anew",
            )
        if code in _UNABLE:
            return KeyStoreError(
                f"{self.place} cannot {what} ({code})",
                remedy="use a token with X25519 (CKM_EC_MONTGOMERY_KEY_PAIR_GEN or CKM_EC_EDWARDS_KEY_PAIR_GEN, and "
                "CKM_ECDH1_DERIVE), which the account may write to, or keep the keys in files",
            )
        return KeyUnavailable(
            f"{self.place} did not {what} ({code})",
            remedy="see whether it is there and running; it is tried again by itself",
        )

    def describe(self) -> str:
        """Maker's name, model and serial number, for people."""
        with self.library.lock:
            info = self.run(
                "tell about itself", lambda _session: self.library.lib.getTokenInfo(self.slot()), login=False
            )
            parts = (str(info.manufacturerID).strip(), str(info.model).strip(), str(info.serialNumber).strip())
            return ", ".join(part for part in parts if part)


class TokenKey:
    """An X25519 private key in a token (`pairkeys.AgreementKey`). Prints as the start of its public key."""

    __slots__ = ("_keys", "public")

    public: bytes
    """The public key, 32 bytes."""
    _keys: Pkcs11Keys

    def __init__(self, keys: Pkcs11Keys, public: bytes) -> None:
        super().__setattr__("_keys", keys)
        super().__setattr__("public", public)

    def exchange(self, public: bytes) -> bytes:
        """Compute X25519 with a checked public key, in the token.

        Raises:
            InvalidKey: see `pairkeys.check_public`; the token is not asked.
            KeyUnavailable: the token does not answer.
            KeyStoreError: the key is not there any more.
        """
        check_public(public)
        return self._keys.agree(self.public, public)

    def __repr__(self) -> str:
        return f"<TokenKey {self.public.hex()[:16]}>"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError("a private key cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled: use the keystore")


class Pkcs11Keys:
    """Institution and supervisor keys of one party in one token (`ports.AgreementKeys`). Threads may share it.

    Args:
        place: which token.
        pin: asked once, when first needed, with a text that says what for.
    """

    def __init__(self, place: TokenPlace, pin: Callable[[str], str]) -> None:
        self.place = place
        self._ask = pin
        self._known: _Token | None = None
        self._unlocked = False

    def __repr__(self) -> str:
        return f"<{self.place}>"

    @property
    def _token(self) -> _Token:
        if self._known is None:
            self._known = _Token.of(self.place)
        return self._known

    def unlock(self) -> None:
        """Ask for the PIN and log in; do nothing when that was done.

        Raises:
            WrongPassphrase: the PIN is another one.
            KeyUnavailable: the token is not there.
            KeyStoreError: there is no such library, or the PIN is locked.
        """
        if self._unlocked:
            return
        token = self._token
        # The person is not asked for a token that is not there.
        token.run("open a session", lambda _session: None, login=False)
        pin = self._ask(f"open the {self.place}")
        if not pin:
            raise KeyStoreError(f"{self.place}: the PIN is empty", remedy="give its user PIN")
        token.login(pin)
        self._unlocked = True

    def describe(self) -> str:
        """Maker's name, model and serial number of the token."""
        return self._token.describe()

    # --- the port

    def create(self, kind: str, version: int) -> TokenKey:
        """Make the key of a version in the token.

        Raises:
            KeyStoreError: there is one, or the token cannot make such keys.
        """
        label = self._label(kind, version)
        self.unlock()
        token = self._token
        if version in self.versions(kind):
            raise KeyStoreError(
                f"{self.place}: {label} exists already", remedy="keys are never overwritten; use the next version"
            )
        public = token.run("make an X25519 key", lambda _session: self._make(label), again=False)
        _log.info("made %s in %s: %s", label, self.place, to_hex(public))
        try:
            key = self.find(public)
        except KeyUnavailable:
            raise
        except KeyStoreError:
            self.destroy(public)  # a key that cannot be used, or that could be taken out, must not be registered
            raise
        if key is None:
            raise KeyUnavailable(f"{self.place} does not show the key that it has just made", remedy="try again")
        return key

    def versions(self, kind: str) -> dict[int, bytes]:
        """Public keys by version, ascending. They are read without the PIN where the token shows them so."""
        found = self._publics()
        if not found:
            self._token.renew()  # or it was pulled out
            found = self._publics()
        if not found and not self._token.logged_in:
            self.unlock()  # or it shows nothing to strangers
            found = self._publics()
        return {version: public for (other, version), public in sorted(found.items()) if other == kind}

    def find(self, public: bytes) -> TokenKey | None:
        """The key with this public half, proven to have it.

        Raises:
            KeyStoreError: the token has the public half alone, or a private key that could leave it or is another's.
        """
        self.unlock()
        if self._name(public) is None:
            return None
        self._token.run("read a key's attributes", lambda session: self._check(session, public))
        if not hmac.compare_digest(self.agree(public, BASE_POINT), public):
            raise KeyStoreError(
                f"{self.place}: the private key of {to_hex(public)} is not the one of its public half",
                remedy="rotate; something other than mpcredit has put it there",
            )
        return TokenKey(self, public)

    def destroy(self, public: bytes) -> bool:
        """Destroy both halves; a second time finishes what a crash left."""
        name = self._name(public)
        if name is None:
            return False
        self.unlock()
        label, api = self._label(*name), self._token.library.api

        def act(session: Any) -> None:
            with self._token.writing() as writer:
                # The private half first: a public half alone does no harm and is found again.
                for half in (api.CKO_PRIVATE_KEY, api.CKO_PUBLIC_KEY):
                    for handle in writer.findObjects([(api.CKA_CLASS, half), (api.CKA_ID, label.encode())]):
                        writer.destroyObject(handle)

        self._token.run("destroy a key", act)
        if public in self._publics().values():
            raise KeyStoreError(
                f"{self.place}: {label} is still there", remedy="destroy it with the tools of the token's maker"
            )
        _log.info("destroyed %s in %s", label, self.place)
        return True

    # --- in the token

    def agree(self, public: bytes, other: bytes) -> bytes:
        """X25519 of the private key of `public` with `other`, which has been checked.

        Raises:
            KeyUnavailable: the token does not answer, or answers with something that X25519 is not.
            KeyStoreError: the key is not there any more.
        """
        self.unlock()
        token = self._token
        api = token.library.api
        template = [
            (api.CKA_CLASS, api.CKO_SECRET_KEY),
            (api.CKA_KEY_TYPE, api.CKK_GENERIC_SECRET),
            (api.CKA_TOKEN, False),
            (api.CKA_PRIVATE, False),
            (api.CKA_SENSITIVE, False),
            (api.CKA_EXTRACTABLE, True),
            (api.CKA_VALUE_LEN, _KEY_BYTES),
        ]

        def act(session: Any) -> bytes:
            _label, private = self._private(session, public)
            handle = session.deriveKey(private, template, api.ECDH1_DERIVE_Mechanism(other))
            try:
                return _bytes(session.getAttributeValue(handle, [api.CKA_VALUE], allAsBinary=True)[0])
            finally:
                session.destroyObject(handle)

        shared = token.run("agree on a secret", act)
        if len(shared) != _KEY_BYTES or not any(shared):
            raise KeyUnavailable(
                f"{self.place} answered with no X25519 secret", remedy="see whether the token's X25519 works"
            )
        return shared

    def _label(self, kind: str, version: int) -> str:
        if kind not in ("institution", "supervisor") or version < 0:
            raise ValueError(f"no key of kind {kind!r} and version {version}")
        return f"{self.place.prefix}-{kind}-{version}"

    def _name(self, public: bytes) -> tuple[str, int] | None:
        """Kind and version of the key with this public half, None if it is not here."""
        for name, other in self._publics().items():
            if other == public:
                return name
        self._token.renew()  # gone, or the token was pulled out, which is another matter
        return next((name for name, other in self._publics().items() if other == public), None)

    def _publics(self) -> dict[tuple[str, int], bytes]:
        """Public keys of this party by kind and version."""
        return self._token.run("list its keys", self._listed, login=False)

    def _listed(self, session: Any) -> dict[tuple[str, int], bytes]:
        api = self._token.library.api
        pattern = re.compile(re.escape(self.place.prefix) + r"-(institution|supervisor)-(0|[1-9][0-9]{0,9})")
        found: dict[tuple[str, int], bytes] = {}
        for handle in session.findObjects([(api.CKA_CLASS, api.CKO_PUBLIC_KEY), (api.CKA_TOKEN, True)]):
            identity = session.getAttributeValue(handle, [api.CKA_ID], allAsBinary=True)[0]
            match = pattern.fullmatch(_bytes(identity).decode("utf-8", "replace"))
            if match is None:
                continue
            label = match.group(0)
            kind, curve, point = session.getAttributeValue(
                handle, [api.CKA_KEY_TYPE, api.CKA_EC_PARAMS, api.CKA_EC_POINT], allAsBinary=True
            )
            key_type = int.from_bytes(_bytes(kind), sys.byteorder)
            if key_type not in (api.CKK_EC_MONTGOMERY, api.CKK_EC_EDWARDS) or _bytes(curve) not in _CURVES:
                raise KeyStoreError(
                    f"{self.place}: {label} is a key of another kind, not X25519",
                    remedy="give it another label and id with the tools of the token's maker, or write another "
                    "[keys.pkcs11] prefix",
                )
            name = (match.group(1), int(match.group(2)))
            if name in found:
                raise KeyStoreError(
                    f"{self.place}: two keys are called {label}",
                    remedy="destroy the one that is not registered on the ledger with the tools of the token's maker",
                )
            found[name] = self._point(label, _bytes(point))
        return found

    def _point(self, label: str, point: bytes) -> bytes:
        if len(point) == _KEY_BYTES + len(_OCTET_STRING) and point.startswith(_OCTET_STRING):
            point = point[len(_OCTET_STRING) :]
        if len(point) != _KEY_BYTES:
            raise KeyStoreError(
                f"{self.place}: the public half of {label} is malformed", remedy="rotate, or use another token"
            )
        return point

    def _private(self, session: Any, public: bytes) -> tuple[str, Any]:
        """The label of a private key, and its number in this session."""
        api = self._token.library.api
        label = next((self._label(*name) for name, other in self._listed(session).items() if other == public), None)
        handles = []
        if label is not None:
            handles = session.findObjects([(api.CKA_CLASS, api.CKO_PRIVATE_KEY), (api.CKA_ID, label.encode())])
        if label is None or len(handles) != 1:
            what = "there is no private key" if not handles else f"there are {len(handles)} private keys"
            raise _AbsentError(
                f"{self.place}: {what} {label or to_hex(public)}",
                remedy="restore it from the token's backup; if it was destroyed after its retention, what it sealed is gone",
            )
        return label, handles[0]

    def _check(self, session: Any, public: bytes) -> None:
        """A private key that could leave the token, or that the token shows, is not used."""
        api = self._token.library.api
        label, handle = self._private(session, public)
        sensitive, extractable = session.getAttributeValue(handle, [api.CKA_SENSITIVE, api.CKA_EXTRACTABLE])
        if not sensitive or extractable:
            raise KeyStoreError(
                f"{self.place}: the private key {label} could be taken out of the token",
                remedy="rotate: keys that mpcredit makes cannot",
            )

    def _make(self, label: str) -> bytes:
        """Make both halves; returns the public key."""
        token = self._token
        api = token.library.api
        mechanisms = token.library.lib.getMechanismList(token.slot())
        montgomery = "CKM_EC_MONTGOMERY_KEY_PAIR_GEN" in mechanisms
        key_type = api.CKK_EC_MONTGOMERY if montgomery else api.CKK_EC_EDWARDS
        mechanism = api.CKM_EC_MONTGOMERY_KEY_PAIR_GEN if montgomery else api.CKM_EC_EDWARDS_KEY_PAIR_GEN
        both = [(api.CKA_KEY_TYPE, key_type), (api.CKA_TOKEN, True), (api.CKA_LABEL, label)]
        both.append((api.CKA_ID, label.encode()))
        public = [
            (api.CKA_CLASS, api.CKO_PUBLIC_KEY),
            *both,
            (api.CKA_PRIVATE, False),
            (api.CKA_EC_PARAMS, _CURVES[0]),
        ]
        private = [
            (api.CKA_CLASS, api.CKO_PRIVATE_KEY),
            *both,
            (api.CKA_PRIVATE, True),
            (api.CKA_SENSITIVE, True),
            (api.CKA_EXTRACTABLE, False),
            (api.CKA_DERIVE, True),
            (api.CKA_SIGN, False),
            (api.CKA_DECRYPT, False),
            (api.CKA_UNWRAP, False),
        ]
        with token.writing() as writer:
            half, _private = writer.generateKeyPair(public, private, api.Mechanism(mechanism, None))
            point = writer.getAttributeValue(half, [api.CKA_EC_POINT], allAsBinary=True)[0]
            return self._point(label, _bytes(point))


def _bytes(value: Any) -> bytes:
    """An attribute as bytes; one that is absent, or that the token does not show, as none."""
    return b"" if value is None else bytes(value)


def _code(api: Any, error: Any) -> str:
    """The name of a return value, such as "CKR_DEVICE_REMOVED"."""
    return str(api.CKR.get(error.value, hex(error.value & 0xFFFFFFFF)))


if TYPE_CHECKING:  # mypy holds the adapter to its ports
    _keys: type[AgreementKeys] = Pkcs11Keys
    _key: type[AgreementKey] = TokenKey
