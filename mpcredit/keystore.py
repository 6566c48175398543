"""Private keys at rest: encrypted files that only their owner can read (R13).

One directory holds all keys of one institution or supervisor. The passphrase is stretched once, when the keystore is
unlocked (Argon2id by default), into a master key; each file is encrypted under a key of its own:

    keystore.json            how the passphrase is stretched, and a value to recognise the right passphrase by
    ledger-account.json      secp256k1, the standard Ethereum JSON keystore V3, under the same passphrase
    institution-<v>.json     X25519 key of the institution, version v
    supervisor-<v>.json      X25519 key of the supervisor, period v
    inquiry-<print>.json     Paillier key of an inquiry, by the fingerprint of its public key
    tag-<v>.json             the consortium's tag key, version v; all are kept, since a tag is computed with all (R4)

    master   = Argon2id(passphrase, salt of keystore.json)
    file key = HKDF-SHA256(ikm = master, salt = kdf.salt of the file, info = "mpcredit/keyfile/2")
    aad      = canonical JSON of everything in the file but the ciphertext

so that a file which was renamed, relabelled or had its public key exchanged does not open. Institution and supervisor
keys may be in a token instead (`pkcs11keys`): new ones are made there, those in files still found. A file is written to a
temporary name, synced and renamed into place; a key that exists is never overwritten. `destroy_…` overwrites and
unlinks: copies in backups, snapshots and on worn flash cells are beyond its reach, and Python cannot wipe memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from eth_account import Account
from eth_account.signers.local import LocalAccount

from mpcredit.encoding import canonical_json, hex_bytes, to_hex
from mpcredit.errors import InvalidEncoding, KeyStoreError, MpcreditError, WrongPassphrase
from mpcredit.paillier import PrivateKey
from mpcredit.pairkeys import AgreementKey, InstitutionKey
from mpcredit.ports import AgreementKeys
from mpcredit.tags import TagKey

__all__ = ["KdfCost", "KeyStore", "KeyStorePort", "MemoryKeyStore"]

Kind = Literal["institution", "supervisor", "inquiry", "tag", "tags"]

_log = logging.getLogger("mpcredit")

_FORMAT = "mpcredit/key"
_STORE_FORMAT = "mpcredit/keystore"
_VERSION = 2
_FILE_LABEL = b"mpcredit/keyfile/2"
_CHECK_LABEL = b"mpcredit/keystore-check/2"
_HEADER = "keystore.json"
_ACCOUNT = "ledger-account.json"
_MAX_FILE_BYTES = 64 * 1024  # ours; a 4096-bit Paillier key file has less than 4 KiB
_MAX_MEMORY_KIB = 4 * 1024 * 1024  # ours; a header that asks for more than 4 GiB is taken for damaged
_MAX_ITERATIONS = 1000
_KEEP_BACKUP = "restore the file from a backup; mpcredit has not changed it"


class KeyStorePort(Protocol):
    """Create, load and destroy the keys of one institution or supervisor.

    Every method may raise `KeyStoreError`, and `WrongPassphrase` where the keystore was not unlocked before. A
    `create_…` refuses when there is a key under that name already; given an account's key it keeps that, else it makes one.
    Versions are this keystore's labels: a key is found by its public half, which is what the ledger knows.
    """

    def unlock(self) -> None:
        """Ask for the passphrase now, so that later calls need no one."""

    def create_account(self, private_key: bytes | None = None) -> LocalAccount:
        """Make the ledger account, or keep the given 32-byte private key."""

    def account(self) -> LocalAccount:
        """The ledger account."""

    def create_institution_key(self, version: int) -> AgreementKey:
        """Make the institution key of a version."""

    def create_supervisor_key(self, version: int) -> AgreementKey:
        """Make the supervisor key of a period."""

    def institution_key(self, public: bytes) -> AgreementKey:
        """The X25519 key with this public key: an institution's, or the supervisor's."""

    def institution_versions(self) -> dict[int, bytes]:
        """Public keys of the institution keys at hand by version, ascending."""

    def supervisor_versions(self) -> dict[int, bytes]:
        """Public keys of the supervisor keys at hand by period, ascending."""

    def destroy_institution_key(self, public: bytes) -> None:
        """Destroy an institution or supervisor key after its retention."""

    def keep_inquiry_key(self, key: PrivateKey) -> None:
        """Keep a Paillier key, to be found by the fingerprint of its public key; keeping it twice is no error."""

    def inquiry_key(self, fingerprint: str) -> PrivateKey:
        """A kept Paillier key."""

    def inquiry_keys(self) -> tuple[str, ...]:
        """Fingerprints of the Paillier keys at hand, sorted."""

    def destroy_inquiry_key(self, fingerprint: str) -> None:
        """Destroy a kept Paillier key after its retention."""

    def save_tag_key(self, key: TagKey) -> None:
        """Keep a tag key under its version."""

    def tag_key(self, version: int) -> TagKey:
        """The tag key of a version."""

    def tag_versions(self) -> tuple[int, ...]:
        """Versions of the tag key at hand, ascending."""

    def destroy_tag_key(self, version: int) -> None:
        """Destroy a tag key."""


@dataclass(frozen=True)
class KdfCost:
    """What it costs to try one passphrase. The default is the second recommendation of RFC 9106 (64 MiB, 3 passes)."""

    name: Literal["argon2id", "scrypt"] = "argon2id"
    """Function that stretches the passphrase."""
    iterations: int = 3
    """Passes over the memory (argon2id), or the factor n (scrypt, a power of two)."""
    lanes: int = 4
    """Parallel lanes (argon2id), or p (scrypt)."""
    memory_kib: int = 65536
    """Memory in KiB (argon2id); scrypt takes what n and its block size of 8 ask for, and this is 0."""
    account_n: int = 262144
    """Factor n of scrypt for the ledger account's file, the usual one of Ethereum tools."""

    @classmethod
    def scrypt(cls) -> KdfCost:
        """Return the cost for sites that may not use Argon2id: scrypt with n = 2^17, r = 8, p = 1 (128 MiB)."""
        return cls("scrypt", 1 << 17, 1, 0)

    @classmethod
    def unsafe_light(cls) -> KdfCost:
        """Return a cost that protects nothing, for tests and for the local demo consortium."""
        return cls("argon2id", 1, 1, 8, 2)

    def parameters(self, salt: bytes) -> dict[str, Any]:
        """Return the `kdf` member of a header."""
        if self.name == "scrypt":
            return {"name": "scrypt", "salt": to_hex(salt), "n": self.iterations, "r": 8, "p": self.lanes}
        return {
            "name": "argon2id",
            "salt": to_hex(salt),
            "iterations": self.iterations,
            "lanes": self.lanes,
            "memory_kib": self.memory_kib,
        }


def _number(value: object, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError("parameter out of range")
    return value


def _stretch(passphrase: str, kdf: Mapping[str, Any]) -> bytes:
    """Derive 32 bytes as a header's `kdf` says. Raises ValueError when it is not one of the two forms."""
    salt = hex_bytes(kdf["salt"], 32)
    secret = passphrase.encode("utf-8")
    if kdf["name"] == "argon2id" and set(kdf) == {"name", "salt", "iterations", "lanes", "memory_kib"}:
        return Argon2id(
            salt=salt,
            length=32,
            iterations=_number(kdf["iterations"], _MAX_ITERATIONS),
            lanes=_number(kdf["lanes"], 64),
            memory_cost=_number(kdf["memory_kib"], _MAX_MEMORY_KIB),
        ).derive(secret)
    if kdf["name"] == "scrypt" and set(kdf) == {"name", "salt", "n", "r", "p"}:
        n, r = _number(kdf["n"], 1 << 22), _number(kdf["r"], 32)
        return Scrypt(salt=salt, length=32, n=n, r=r, p=_number(kdf["p"], 64)).derive(secret)
    raise ValueError("unknown key derivation")


def _file_key(master: bytes, salt: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=_FILE_LABEL).derive(master)


def _check_value(master: bytes, header: Mapping[str, Any]) -> bytes:
    info = _CHECK_LABEL + canonical_json({name: header[name] for name in ("format", "kdf", "version")})
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(master)


def _damaged(path: Path, what: str) -> KeyStoreError:
    return KeyStoreError(f"{path}: {what}", remedy=_KEEP_BACKUP)


def _other_version(path: Path, version: object) -> KeyStoreError:
    # True is an int in Python, and no version.
    older = type(version) is int and version < _VERSION
    return KeyStoreError(
        f"{path}: has version {version}, this program knows {_VERSION}",
        remedy="make new keys in an empty directory, and keep this one" if older else "upgrade mpcredit",
    )


# --- files ------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object from an owner-only file."""
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_mode & 0o077:
                raise KeyStoreError(
                    f"{path}: other accounts of this machine can read it (mode {status.st_mode & 0o777:o})",
                    remedy=f"run: chmod 600 {path} , and think about who has read it",
                )
            data = stream.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise KeyStoreError(
            f"{path}: there is no such key", remedy="create it, or name the right keystore directory"
        ) from error
    except OSError as error:
        raise KeyStoreError(
            f"{path}: cannot be read: {error.strerror}", remedy="run as the account that owns the keystore"
        ) from error
    if len(data) > _MAX_FILE_BYTES:
        raise _damaged(path, "is too long for a key file")
    try:
        value = json.loads(data)
    except ValueError as error:
        raise _damaged(path, "is damaged: not JSON") from error
    if not isinstance(value, dict):
        raise _damaged(path, "is damaged: not a JSON object")
    return value


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file that must not exist yet: temporary name, sync, rename. The caller holds the directory."""
    if path.exists():
        raise KeyStoreError(f"{path}: exists already", remedy="keys are never overwritten; use the next version")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(json.dumps(value, indent=2).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise KeyStoreError(
            f"{path}: cannot be written: {error.strerror}", remedy="see to space and permissions; nothing was changed"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


# --- one key file -----------------------------------------------------------------------------------------------------


def _seal(kind: Kind, name: str, public: bytes, kdf: dict[str, Any], key: bytes, secret: bytes) -> dict[str, Any]:
    nonce = secrets.token_bytes(12)
    header: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "kind": kind,
        "id": name,
        "public": to_hex(public),
        "kdf": kdf,
        "cipher": "aes-256-gcm",
        "nonce": to_hex(nonce),
    }
    return {**header, "ciphertext": to_hex(AESGCM(key).encrypt(nonce, secret, canonical_json(header)))}


def _check_header(path: Path, value: Mapping[str, Any], kind: Kind, name: str | None) -> None:
    if value.get("format") != _FORMAT:
        raise _damaged(path, "is not a key file of mpcredit")
    if value.get("version") != _VERSION:
        raise _other_version(path, value.get("version"))
    if value.get("kind") != kind:
        raise KeyStoreError(
            f"{path}: holds a key of kind {value.get('kind')}, not {kind}",
            remedy="name the file of the right kind; what was exported is imported, not copied here",
        )
    if name is not None and value.get("id") != name:
        raise KeyStoreError(
            f"{path}: holds the key {value.get('id')}, not {name}", remedy="give the file its own name back"
        )


def _open(path: Path, value: Mapping[str, Any], key: bytes) -> tuple[bytes, bytes]:
    """Return public part and secret of a key file whose header has been checked."""
    header = {name: part for name, part in value.items() if name != "ciphertext"}
    try:
        if value["cipher"] != "aes-256-gcm":
            raise ValueError("unknown cipher")
        public = hex_bytes(value["public"], None)
        nonce, ciphertext = hex_bytes(value["nonce"], 12), hex_bytes(value["ciphertext"], None)
        return public, AESGCM(key).decrypt(nonce, ciphertext, canonical_json(header))
    except (KeyError, TypeError, ValueError, AttributeError, MpcreditError) as error:
        raise _damaged(path, "is damaged: a part of its header is missing or malformed") from error
    except InvalidTag as error:
        raise _damaged(path, "is damaged, or comes from another keystore: it does not open") from error


class KeyStore:
    """Keys in encrypted files of one directory.

    Args:
        directory: where the files are; made with owner-only mode when the first key is created.
        passphrase: asked once, when first needed, with a text that says what for.
        cost: what stretching the passphrase costs; counts when the keystore is created, later its header does.
        token: where institution and supervisor keys are made instead of in files; those in files are still found.
    """

    def __init__(
        self,
        directory: Path,
        passphrase: Callable[[str], str],
        *,
        cost: KdfCost | None = None,
        token: AgreementKeys | None = None,
    ) -> None:
        self.directory = directory
        self._ask = passphrase
        self._cost = cost or KdfCost()
        self._master: bytes | None = None
        self._passphrase = ""
        self._account: LocalAccount | None = None
        self._x25519_cache: dict[bytes, AgreementKey] = {}
        self._inquiry_cache: dict[str, PrivateKey] = {}
        self.token = token
        # Files first: a key in a file needs no token to be there.
        self._places: tuple[AgreementKeys, ...] = (FileKeys(self),) if token is None else (FileKeys(self), token)

    def __repr__(self) -> str:
        return f"<KeyStore {self.directory} {'unlocked' if self._master else 'locked'}>"

    # --- unlocking

    def unlock(self) -> None:
        """Ask for the passphrase (and a token's PIN) and check it; do nothing when unlocked.

        Raises:
            KeyStoreError: there is no keystore in the directory, others can read it, or its header is damaged.
            WrongPassphrase: the passphrase or the PIN is another one.
            KeyUnavailable: the token does not answer.
        """
        # A party whose account is in a signer and whose keys are in a token needs no file, until it inquires.
        if self.token is None or (self.directory / _HEADER).exists():
            self.unlock_files()
        if self.token is not None:
            self.token.unlock()

    def unlock_files(self) -> None:
        """`unlock` for the key files alone."""
        if self._master is not None:
            return
        self._check_directory()
        path = self.directory / _HEADER
        header = _read(path)
        if header.get("format") != _STORE_FORMAT:
            raise _damaged(path, "is not the header of a keystore of mpcredit")
        if header.get("version") != _VERSION:
            raise _other_version(path, header.get("version"))
        passphrase = self._ask(f"open the keystore {self.directory}")
        try:
            master = _stretch(passphrase, header["kdf"])
            expected = hex_bytes(header["check"], 32)
        except (KeyError, TypeError, ValueError, AttributeError, MpcreditError, MemoryError) as error:
            raise _damaged(path, "is damaged: its kdf or check member is malformed") from error
        if not hmac.compare_digest(_check_value(master, header), expected):
            raise WrongPassphrase(
                f"{self.directory}: the passphrase does not open this keystore",
                remedy=f"try again; if you are certain of it, {_HEADER} was changed: restore it from a backup",
            )
        self._remember(passphrase, master, header["kdf"])

    def lock(self) -> None:
        """Forget the passphrase and all keys that were loaded (as far as Python can)."""
        self._master, self._passphrase, self._account = None, "", None
        self._x25519_cache.clear()
        self._inquiry_cache.clear()

    def _remember(self, passphrase: str, master: bytes, kdf: Mapping[str, Any]) -> None:
        # Below the least work that the OWASP Password Storage Cheat Sheet names (7 MiB times 5 passes).
        work = kdf["n"] * kdf["p"] if kdf["name"] == "scrypt" else kdf["memory_kib"] * kdf["iterations"]
        if work < 1 << 15:
            _log.warning("keystore %s has light parameters, fit only for tests and demos", self.directory)
        self._master, self._passphrase = master, passphrase

    def _check_directory(self) -> None:
        try:
            mode = self.directory.stat().st_mode
        except OSError as error:
            raise KeyStoreError(
                f"{self.directory}: there is no keystore", remedy="create the keys, or name the right directory"
            ) from error
        if mode & 0o077:
            raise KeyStoreError(
                f"{self.directory}: other accounts of this machine can enter it (mode {mode & 0o777:o})",
                remedy=f"run: chmod 700 {self.directory}",
            )

    def _unlock_if_there(self) -> None:
        """Ask before the lock is taken, so that a prompt does not keep other processes waiting."""
        if (self.directory / _HEADER).exists():
            self.unlock_files()

    def _unlock_or_create(self) -> bytes:
        """Return the master key; make the keystore when the directory has none. The lock is held."""
        path = self.directory / _HEADER
        if self._master is None and not path.exists():
            if any(self.directory.glob("*.json")):
                raise _damaged(path, "is missing although there are keys beside it")
            passphrase = self._ask(f"choose a passphrase for the new keystore {self.directory}")
            if not passphrase:
                raise KeyStoreError(f"{self.directory}: the passphrase is empty", remedy="choose one")
            header: dict[str, Any] = {
                "format": _STORE_FORMAT,
                "version": _VERSION,
                "kdf": self._cost.parameters(secrets.token_bytes(32)),
            }
            master = _stretch(passphrase, header["kdf"])
            _write_new(path, {**header, "check": to_hex(_check_value(master, header))})
            self._remember(passphrase, master, header["kdf"])
        self.unlock_files()
        assert self._master is not None
        return self._master

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the directory for one writer, and clear away what a crash has left half written."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_directory()
            descriptor = os.open(self.directory, os.O_RDONLY)
        except OSError as error:
            raise KeyStoreError(
                f"{self.directory}: cannot be opened: {error.strerror}", remedy="see to space and permissions"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for leftover in self.directory.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)

    # --- files by kind and name

    def _path(self, kind: Kind, name: str) -> Path:
        if not re.fullmatch(r"[0-9a-z]{1,64}", name):
            raise KeyStoreError(
                f"{self.directory}: no key of kind {kind} can be called {name!r}",
                remedy="name a version or fingerprint",
            )
        return self.directory / f"{kind}-{name}.json"

    def _names(self, kind: Kind) -> list[str]:
        prefix = f"{kind}-"
        return [path.stem.removeprefix(prefix) for path in self.directory.glob(f"{prefix}*.json")]

    def _versions(self, kind: Kind) -> tuple[int, ...]:
        return tuple(sorted(int(name) for name in self._names(kind) if name.isdecimal()))

    def _save(self, kind: Kind, name: str, public: bytes, secret: bytes) -> None:
        self._unlock_if_there()
        with self._writing():
            master = self._unlock_or_create()
            salt = secrets.token_bytes(32)
            kdf = {"name": "keystore", "salt": to_hex(salt)}
            _write_new(self._path(kind, name), _seal(kind, name, public, kdf, _file_key(master, salt), secret))

    def _load(self, kind: Kind, name: str) -> tuple[bytes, bytes]:
        self.unlock_files()
        assert self._master is not None
        path = self._path(kind, name)
        value = _read(path)
        _check_header(path, value, kind, name)
        try:
            salt = hex_bytes(value["kdf"]["salt"], 32)
        except (KeyError, TypeError, InvalidEncoding) as error:
            raise _damaged(path, "is damaged: its kdf member is malformed") from error
        return _open(path, value, _file_key(self._master, salt))

    def _destroy(self, kind: Kind, name: str) -> None:
        path = self._path(kind, name)
        with self._writing():
            _check_header(path, _read(path), kind, name)
            try:
                with path.open("r+b") as stream:
                    stream.write(b"\0" * os.fstat(stream.fileno()).st_size)
                    stream.flush()
                    os.fsync(stream.fileno())
                path.unlink()
                _sync_directory(self.directory)
            except OSError as error:
                raise KeyStoreError(
                    f"{path}: cannot be destroyed: {error.strerror}", remedy="see to the permissions and repeat"
                ) from error

    # --- ledger account

    def create_account(self, private_key: bytes | None = None) -> LocalAccount:
        """Make the ledger account, or keep the given private key of 32 bytes."""
        account: LocalAccount = Account.from_key(private_key or secrets.token_bytes(32))
        self._unlock_if_there()
        with self._writing():
            self._unlock_or_create()
            # The account's file costs what the keystore's passphrase does: a lighter one would be the easier target.
            encrypted = Account.encrypt(account.key, self._passphrase, kdf="scrypt", iterations=self._cost.account_n)
            _write_new(self.directory / _ACCOUNT, encrypted)
        self._account = account
        return account

    def account(self) -> LocalAccount:
        """The ledger account.

        Raises:
            WrongPassphrase: its file has another passphrase than the keystore.
        """
        if self._account is None:
            self.unlock_files()
            path = self.directory / _ACCOUNT
            value = _read(path)
            if value.get("version") != 3:
                raise KeyStoreError(
                    f"{path}: is not an Ethereum JSON keystore of version 3", remedy="export the account in that form"
                )
            try:
                key = Account.decrypt(value, self._passphrase)
            except ValueError as error:
                if "MAC mismatch" in str(error):
                    raise WrongPassphrase(
                        f"{path}: the keystore's passphrase does not open the ledger account, or the file is damaged",
                        remedy="give the account's file the passphrase of the keystore, or restore it from a backup",
                    ) from error
                raise _damaged(path, "is damaged") from error
            except (KeyError, TypeError, AttributeError, NotImplementedError, MemoryError) as error:
                raise _damaged(path, "is damaged") from error
            account: LocalAccount = Account.from_key(key)
            # The V3 form does not authenticate the address that it names.
            named = str(value.get("address", account.address)).lower().removeprefix("0x")
            if named != account.address.lower().removeprefix("0x"):
                raise _damaged(path, f"names address 0x{named}, but holds the key of {account.address}")
            self._account = account
        return self._account

    # --- institution and supervisor keys

    def _create_x25519(self, kind: Kind, version: int) -> AgreementKey:
        """Make a key in the token if there is one, else in a file. A version is in one place only."""
        for place in self._places:
            if version in place.versions(kind):
                raise _exists(f"{self.directory}: {kind} key {version}")
        if self.token is None:
            return self._places[0].create(kind, version)
        self.token.unlock()
        with self._writing():  # two processes must not make one version twice; a token does not see to that
            return self.token.create(kind, version)

    def _publics(self, kind: Kind) -> dict[int, bytes]:
        """Public keys by version, of all places."""
        found: dict[int, bytes] = {}
        for place in self._places:
            for version, public in place.versions(kind).items():
                if found.setdefault(version, public) != public:
                    raise KeyStoreError(
                        f"{self.directory}: there is one {kind} key {version} in a file and another in the token",
                        remedy="move the one that is not registered on the ledger away",
                    )
        return dict(sorted(found.items()))

    def _nowhere(self, public: bytes) -> KeyStoreError:
        where = "in its files" if self.token is None else f"in its files or in {self.token!r}"
        return KeyStoreError(
            f"{self.directory}: there is no key with the public key {to_hex(public)} {where}",
            remedy="restore it from a backup; if it was destroyed after its retention, what it sealed is gone",
        )

    def create_institution_key(self, version: int) -> AgreementKey:
        """Make the institution key of a version."""
        return self._create_x25519("institution", version)

    def create_supervisor_key(self, version: int) -> AgreementKey:
        """Make the supervisor key of a period."""
        return self._create_x25519("supervisor", version)

    def institution_key(self, public: bytes) -> AgreementKey:
        """The X25519 key with this public key: an institution's, or the supervisor's; loaded once in a session."""
        if public not in self._x25519_cache:
            key = next((key for place in self._places if (key := place.find(public)) is not None), None)
            if key is None:
                raise self._nowhere(public)
            self._x25519_cache[public] = key
        return self._x25519_cache[public]

    def institution_versions(self) -> dict[int, bytes]:
        """Public keys of the institution keys at hand by version, ascending."""
        return self._publics("institution")

    def supervisor_versions(self) -> dict[int, bytes]:
        """Public keys of the supervisor keys at hand by period, ascending."""
        return self._publics("supervisor")

    def in_token(self, public: bytes) -> bool:
        """Whether the key with this public half is in the token."""
        return self.token is not None and any(
            public in self.token.versions(kind).values() for kind in ("institution", "supervisor")
        )

    def destroy_institution_key(self, public: bytes) -> None:
        """Destroy an institution or supervisor key after its retention, wherever it is."""
        if not any(place.destroy(public) for place in self._places):
            raise self._nowhere(public)
        self._x25519_cache.pop(public, None)

    # --- inquiry keys

    def keep_inquiry_key(self, key: PrivateKey) -> None:
        """Keep a Paillier key, to be found by the fingerprint of its public key; keeping it twice is no error."""
        fingerprint = key.public.fingerprint
        if fingerprint not in self._names("inquiry"):
            secret = canonical_json({"p": hex(key.p), "q": hex(key.q)})
            self._save("inquiry", fingerprint, _modulus(key), secret)

    def inquiry_key(self, fingerprint: str) -> PrivateKey:
        """The Paillier key with this fingerprint; loaded once in a session."""
        if fingerprint not in self._inquiry_cache:
            public, secret = self._load("inquiry", fingerprint)
            path = self._path("inquiry", fingerprint)
            try:
                primes = json.loads(secret)
                key = PrivateKey.from_primes(int(primes["p"], 16), int(primes["q"], 16))
            except (KeyError, TypeError, ValueError, MpcreditError) as error:
                raise _damaged(path, "is damaged: it holds no Paillier key") from error
            if _modulus(key) != public or key.public.fingerprint != fingerprint:
                raise _damaged(path, "is damaged: its two keys do not belong together")
            self._inquiry_cache[fingerprint] = key
        return self._inquiry_cache[fingerprint]

    def inquiry_keys(self) -> tuple[str, ...]:
        """Fingerprints of the Paillier keys at hand, sorted."""
        return tuple(sorted(self._names("inquiry")))

    def destroy_inquiry_key(self, fingerprint: str) -> None:
        """Destroy a Paillier key after its inquiry's retention."""
        self._destroy("inquiry", fingerprint)
        self._inquiry_cache.pop(fingerprint, None)

    # --- tag keys

    def save_tag_key(self, key: TagKey) -> None:
        """Keep a tag key under its version."""
        self._save("tag", _version_name(key.version), key.commitment, key.key)

    def tag_key(self, version: int) -> TagKey:
        """The tag key of a version."""
        public, secret = self._load("tag", _version_name(version))
        return _tag_key(self._path("tag", _version_name(version)), version, public, secret)

    def tag_versions(self) -> tuple[int, ...]:
        """Versions of the tag key at hand, ascending."""
        return self._versions("tag")

    def destroy_tag_key(self, version: int) -> None:
        """Destroy a tag key."""
        self._destroy("tag", _version_name(version))

    def export_tag_keys(self, path: Path) -> tuple[TagKey, ...]:
        """Write the tag keys of all versions to one file under a passphrase of its own, for another member.

        Raises:
            KeyStoreError: a version is missing; without it no later tag can be computed.
        """
        versions = self.tag_versions()
        missing = sorted(set(range(1, max(versions, default=1) + 1)) - set(versions))
        if missing:
            raise KeyStoreError(
                f"{self.directory}: there is no tag key {missing[0]}",
                remedy="import it from another member; each tag key needs all before it",
            )
        keys = tuple(self.tag_key(version) for version in versions)
        passphrase = self._ask(f"choose a passphrase for the exported tag keys {path}")
        if not passphrase:
            raise KeyStoreError(f"{path}: the passphrase is empty", remedy="choose one")
        kdf = self._cost.parameters(secrets.token_bytes(32))
        publics, secret = b"".join(key.commitment for key in keys), b"".join(key.key for key in keys)
        _write_new(path, _seal("tags", str(len(keys)), publics, kdf, _stretch(passphrase, kdf), secret))
        return keys

    def import_tag_keys(self, path: Path) -> tuple[TagKey, ...]:
        """Read the tag keys that another member exported, and keep those that are not here yet.

        Returns:
            All keys of the file, from version 1 on.

        Raises:
            WrongPassphrase: the passphrase is another one, or the file was changed on its way.
            KeyStoreError: another key of one of the versions is here; nothing was kept.
        """
        value = _read(path)
        _check_header(path, value, "tags", None)
        passphrase = self._ask(f"open the exported tag keys {path}")
        try:
            key = _stretch(passphrase, value["kdf"])
        except (KeyError, TypeError, ValueError, AttributeError, MpcreditError, MemoryError) as error:
            raise _damaged(path, "is damaged: its header is malformed") from error
        try:
            publics, secret = _open(path, value, key)
        except KeyStoreError as error:
            if isinstance(error.__cause__, InvalidTag):
                raise WrongPassphrase(
                    f"{path}: the passphrase does not open it, or the file was changed", remedy="ask who exported it"
                ) from error
            raise
        found = _tag_keys(path, publics, secret)
        here = set(self.tag_versions())
        for one in found:
            if one.version in here and self.tag_key(one.version) != one:
                raise KeyStoreError(
                    f"{path}: tag key {one.version} is another one than that in {self.directory}; nothing was kept",
                    remedy="compare commitments with the ledger's (`mpcredit keys show`), destroy the key that is not the "
                    f"consortium's (`mpcredit keys destroy tag {one.version}`), import again",
                )
        for one in found:
            if one.version not in here:
                self.save_tag_key(one)
        return found


def _version_name(version: int) -> str:
    if version < 0:
        raise ValueError("a key version is not negative")
    return str(version)


def _modulus(key: PrivateKey) -> bytes:
    return key.public.n.to_bytes((key.public.n.bit_length() + 7) // 8, "big")


def _tag_key(path: Path, version: int, public: bytes, secret: bytes) -> TagKey:
    try:
        key = TagKey(version, secret)
    except (ValueError, MpcreditError) as error:
        raise _damaged(path, "is damaged: it holds no tag key") from error
    if not hmac.compare_digest(key.commitment, public):
        raise _damaged(path, "is damaged: the key does not fit its commitment")
    return key


def _tag_keys(path: Path, publics: bytes, secret: bytes) -> tuple[TagKey, ...]:
    """Take an export apart: 32 bytes of commitment and of key for each version, from 1 on."""
    count = len(secret) // 32
    if not count or (len(secret), len(publics)) != (32 * count, 32 * count):
        raise _damaged(path, "is damaged: it does not hold whole tag keys")
    parts = ((publics[32 * i : 32 * i + 32], secret[32 * i : 32 * i + 32]) for i in range(count))
    return tuple(_tag_key(path, version, public, key) for version, (public, key) in enumerate(parts, 1))


class FileKeys:
    """Institution and supervisor keys in the files of a keystore (`ports.AgreementKeys`)."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    def unlock(self) -> None:
        """Ask for the passphrase now."""
        self._store.unlock_files()

    def create(self, kind: str, version: int) -> InstitutionKey:
        """Make the key of a version and write its file."""
        key = InstitutionKey.generate()
        self._store._save(_x25519_kind(kind), _version_name(version), key.public, key.private_bytes())
        return key

    def versions(self, kind: str) -> dict[int, bytes]:
        """Public keys by version, from the headers. Loading a key authenticates its header; this does not."""
        named = _x25519_kind(kind)
        found = {}
        for version in self._store._versions(named):
            path = self._store._path(named, str(version))
            value = _read(path)
            _check_header(path, value, named, str(version))
            try:
                found[version] = hex_bytes(value["public"], 32)
            except (KeyError, TypeError, MpcreditError) as error:
                raise _damaged(path, "is damaged: its public member is malformed") from error
        return found

    def find(self, public: bytes) -> InstitutionKey | None:
        """Open the file of a key."""
        place = self._place(public)
        if place is None:
            return None
        kind, version = place
        named, secret = self._store._load(kind, str(version))
        key = InstitutionKey.from_bytes(secret)
        if not key.public == named == public:
            raise _damaged(self._store._path(kind, str(version)), "is damaged: its two keys do not belong together")
        return key

    def destroy(self, public: bytes) -> bool:
        """Overwrite and unlink the file of a key."""
        place = self._place(public)
        if place is None:
            return False
        kind, version = place
        self._store._destroy(kind, str(version))
        return True

    def _place(self, public: bytes) -> tuple[Kind, int] | None:
        kinds: tuple[Kind, ...] = ("institution", "supervisor")
        for kind in kinds:
            for version, other in self.versions(kind).items():
                if other == public:
                    return kind, version
        return None


def _x25519_kind(kind: str) -> Kind:
    if kind == "institution":
        return "institution"
    if kind == "supervisor":
        return "supervisor"
    raise ValueError(f"an X25519 key is an institution's or a supervisor's, not {kind!r}")


class MemoryKeyStore:
    """The same interface without files, for tests: keys live as long as the object."""

    def __init__(self) -> None:
        self._account: LocalAccount | None = None
        self._x25519: dict[tuple[str, int], InstitutionKey] = {}
        self._inquiry: dict[str, PrivateKey] = {}
        self._tag: dict[int, TagKey] = {}

    def __repr__(self) -> str:
        return "<MemoryKeyStore>"

    def unlock(self) -> None:
        """Do nothing: there is no passphrase."""

    def create_account(self, private_key: bytes | None = None) -> LocalAccount:
        """Make the ledger account, or keep the given private key of 32 bytes."""
        if self._account is not None:
            raise _exists("the ledger account")
        account: LocalAccount = Account.from_key(private_key or secrets.token_bytes(32))
        self._account = account
        return account

    def account(self) -> LocalAccount:
        """The ledger account."""
        if self._account is None:
            raise _missing("the ledger account")
        return self._account

    def _create_x25519(self, kind: str, version: int) -> InstitutionKey:
        if (kind, version) in self._x25519:
            raise _exists(f"{kind} {version}")
        return self._x25519.setdefault((kind, version), InstitutionKey.generate())

    def _publics(self, kind: str) -> dict[int, bytes]:
        return {
            version: key.public for (other, version), key in sorted(self._x25519.items(), key=_label) if other == kind
        }

    def create_institution_key(self, version: int) -> InstitutionKey:
        """Make the institution key of a version."""
        return self._create_x25519("institution", version)

    def create_supervisor_key(self, version: int) -> InstitutionKey:
        """Make the supervisor key of a period."""
        return self._create_x25519("supervisor", version)

    def institution_key(self, public: bytes) -> InstitutionKey:
        """The X25519 key with this public key: an institution's, or the supervisor's."""
        for key in self._x25519.values():
            if key.public == public:
                return key
        raise _missing(to_hex(public))

    def institution_versions(self) -> dict[int, bytes]:
        """Public keys of the institution keys at hand by version, ascending."""
        return self._publics("institution")

    def supervisor_versions(self) -> dict[int, bytes]:
        """Public keys of the supervisor keys at hand by period, ascending."""
        return self._publics("supervisor")

    def destroy_institution_key(self, public: bytes) -> None:
        """Destroy an institution or supervisor key."""
        gone = self.institution_key(public)
        self._x25519 = {label: key for label, key in self._x25519.items() if key is not gone}

    def keep_inquiry_key(self, key: PrivateKey) -> None:
        """Keep a Paillier key, to be found by the fingerprint of its public key."""
        self._inquiry[key.public.fingerprint] = key

    def inquiry_key(self, fingerprint: str) -> PrivateKey:
        """The Paillier key with this fingerprint."""
        if fingerprint not in self._inquiry:
            raise _missing(f"inquiry {fingerprint}")
        return self._inquiry[fingerprint]

    def inquiry_keys(self) -> tuple[str, ...]:
        """Fingerprints of the Paillier keys at hand, sorted."""
        return tuple(sorted(self._inquiry))

    def destroy_inquiry_key(self, fingerprint: str) -> None:
        """Destroy a Paillier key."""
        self.inquiry_key(fingerprint)
        del self._inquiry[fingerprint]

    def save_tag_key(self, key: TagKey) -> None:
        """Keep a tag key under its version."""
        if key.version in self._tag:
            raise _exists(f"tag {key.version}")
        self._tag[key.version] = key

    def tag_key(self, version: int) -> TagKey:
        """The tag key of a version."""
        if version not in self._tag:
            raise _missing(f"tag {version}")
        return self._tag[version]

    def tag_versions(self) -> tuple[int, ...]:
        """Versions of the tag key at hand, ascending."""
        return tuple(sorted(self._tag))

    def destroy_tag_key(self, version: int) -> None:
        """Destroy a tag key."""
        self.tag_key(version)
        del self._tag[version]


def _label(item: tuple[tuple[str, int], object]) -> tuple[str, int]:
    return item[0]


def _exists(what: str) -> KeyStoreError:
    return KeyStoreError(f"{what}: exists already", remedy="keys are never overwritten; use the next version")


def _missing(what: str) -> KeyStoreError:
    return KeyStoreError(f"{what}: there is no such key", remedy="create it")
