"""Whether the code that a proposal approves is what its sources give, and how these sources differ from those in force.

A proposal names the next JointCredit by the hash of its init code (R36). Its sources are

- those of the installed package, whose compiled contract gives that hash, or
- an upload, a zip of contracts/ or the compiler's standard-JSON input, which the compiler of [server] solc turns into it.

What gave a hash once is kept in the database under it, so that the code in force can still be compared with after an
upgrade of the package. Who may approve what is left to the routes. The compiler reads what it is handed and no file.
"""

from __future__ import annotations

import difflib
import io
import json
import lzma
import os
import re
import subprocess
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sqlalchemy import insert, select, update

from mpcredit import __version__
from mpcredit.chain import joint_credit_init_code_hash
from mpcredit.chain.artifacts import compiler, sources
from mpcredit.encoding import canonical_json, keccak, to_hex
from mpcredit.errors import InvalidFile, InvalidMessage
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import contract_source_table

__all__ = ["Build", "Bundle", "CompilerMissing", "FileDiff", "Kept", "NotCompiled", "Shelf", "compare", "read_upload"]

CONTRACT: Final = "JointCredit"
MOST_FILES: Final = 100
MOST_BYTES: Final = 2_000_000
"""Of all sources together; those of this version are a tenth of it."""
MOST_COMPARED: Final = 4_000_000
"""Lines times lines of one file. More are shown as removed and added whole: 500 times 50,000 can take minutes, at each look."""
SECONDS: Final = 120
"""Within which the compiler must be through."""
SETTINGS: Final = frozenset({"optimizer", "evmVersion", "viaIR", "metadata", "remappings"})
"""What of a standard-JSON input's settings bears on the code. Not `libraries`: code that calls a deployed library is more
than its sources say, since what is deployed there may be anything."""
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
_PATH: Final = re.compile(r"[\w@][\w@.\-+ ]*(?:/[\w@][\w@.\-+ ]*)*", re.ASCII)
_VERSION: Final = re.compile(r"\b\d+\.\d+\.\d+\+commit\.[0-9a-f]+")
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that show nothing, which Python calls printable all the same."""
_COMPILING: Final = threading.Lock()
"""One compiler at a time: it takes a core and much memory."""


class CompilerMissing(InvalidMessage):
    """There is no compiler at hand now."""


class NotCompiled(InvalidMessage):
    """The sources do not compile, or hold no JointCredit."""


@dataclass(frozen=True)
class Bundle:
    """Sources of a JointCredit and how they are compiled."""

    origin: str
    """For people: "package mpcredit 0.1.0", or "upload" and the name of the file."""
    sources: Mapping[str, str]
    """By path."""
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Build:
    """What a bundle compiled to."""

    bundle: Bundle
    """With the sources that the contract needs, and no others."""
    code_hash: bytes
    """Of the init code."""
    compiler: str
    """Version."""


@dataclass(frozen=True)
class Kept:
    """Sources whose code is known."""

    code_hash: bytes
    state: str
    """shipped: a package's compiled contract has this hash; rebuilt: the compiler gave it here."""
    bundle: Bundle
    compiler: str
    added_by: str
    added_at: int


@dataclass(frozen=True)
class FileDiff:
    """How one source differs."""

    path: str
    state: str
    """same, changed, new or gone."""
    added: int
    removed: int
    lines: tuple[tuple[str, str], ...]
    """Kind (place, add, del, same) and text, of a unified diff."""


# --------------------------------------------------------------------- reading what was uploaded


def read_upload(name: str, content: bytes) -> Bundle:
    """Read a zip of contracts/ or a standard-JSON input.

    Raises:
        InvalidFile: it is neither, too large, or names paths or settings that are not taken.
    """
    shown = re.sub(r"[^\w.\-+ ]", "_", PurePosixPath(name.replace("\\", "/")).name)[:100] or "upload"
    if content[:2] == b"PK":
        found, settings = _read_zip(shown, content), compiler(CONTRACT)[1]
    else:
        found, settings = _read_json(shown, content)
    if not found:
        raise InvalidFile(shown, "holds no Solidity source", "upload a zip of contracts/, or standard-JSON input")
    if len(found) > MOST_FILES or sum(len(text.encode()) for text in found.values()) > MOST_BYTES:
        raise InvalidFile(
            shown, "is too large", f"at most {MOST_FILES} sources of {MOST_BYTES // 1_000_000} MB together"
        )
    for path in found:
        if _PATH.fullmatch(path) is None:
            raise InvalidFile(shown, f"names the path {path[:80]!r}", "paths are relative, without .. and backslash")
    return Bundle(f"upload {shown}", found, settings)


def _read_zip(name: str, content: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [e for e in archive.infolist() if e.filename.endswith(".sol") and not e.is_dir()]
            # What the directory says of the sizes may be a lie: reading stops there all the same.
            if len(entries) > MOST_FILES or sum(e.file_size for e in entries) > MOST_BYTES:
                raise InvalidFile(name, "is too large", f"at most {MOST_FILES} sources, {MOST_BYTES // 1_000_000} MB")
            for entry in entries:
                # A release's archive has a folder around; tests are no part of what runs.
                before, mark, rest = f"/{entry.filename}".partition("/contracts/")
                path = f"contracts/{rest}" if mark else before.lstrip("/")
                if path.startswith("contracts/test/"):
                    continue
                with archive.open(entry) as stream:
                    found[path] = stream.read(MOST_BYTES + 1).decode("utf-8")
    except (*_DAMAGED, OSError, RuntimeError, UnicodeDecodeError) as error:
        raise InvalidFile(name, "is not a zip of UTF-8 sources", "pack the folder contracts/ of the release") from error
    return found


def _read_json(name: str, content: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    wrong = InvalidFile(
        name, "is neither a zip nor standard-JSON input for Solidity", "upload the release's sources in one of the two"
    )
    if len(content) > 2 * MOST_BYTES:
        raise InvalidFile(name, "is too large", f"at most {MOST_BYTES // 1_000_000} MB of sources")
    try:
        value = json.loads(content.decode("utf-8"))
        given = value["sources"]
        settings = value.get("settings", {})
        if value.get("language") != "Solidity" or not isinstance(given, dict) or not isinstance(settings, dict):
            raise wrong
        found = {str(path): source["content"] for path, source in given.items()}
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise wrong from error
    if not all(isinstance(text, str) and _is_text(text) for text in found.values()):
        raise wrong
    return found, {key: settings[key] for key in sorted(SETTINGS & settings.keys())}


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: JSON can hold half of a character."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


# --------------------------------------------------------------------- compiling


def build(bundle: Bundle, solc: Path, wanted: Collection[bytes] = ()) -> Build:
    """Compile a bundle with a compiler.

    Args:
        solc: the executable.
        wanted: hashes that are looked for; a contract that has one of them is taken, else the one named JointCredit.

    Raises:
        CompilerMissing: it cannot be run. NotCompiled: the sources are wrong.
    """
    request = {
        "language": "Solidity",
        "sources": {path: {"content": text} for path, text in bundle.sources.items()},
        "settings": {**bundle.settings, "outputSelection": {"*": {"*": ["metadata", "evm.bytecode.object"]}}},
    }
    with tempfile.TemporaryDirectory(prefix="mpcredit-solc-") as empty:
        version = _VERSION.search(_run(solc, ["--version"], "", empty))
        if version is None:
            raise CompilerMissing(f"{solc} is no Solidity compiler", remedy="correct [server] solc")
        told = _run(solc, ["--standard-json", "--base-path", empty], json.dumps(request), empty)
    try:
        answer = json.loads(told)
        errors = [e["formattedMessage"] for e in answer.get("errors", []) if e["severity"] == "error"]
        made = _contracts(answer)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompilerMissing(f"{solc} gave no answer that can be read", remedy="correct [server] solc") from error
    if errors:
        raise NotCompiled(
            f"the sources do not compile: {_visible(errors[0].strip())[:600]}",
            remedy=f"ask who proposed for the sources of compiler {version[0]}, whole and unchanged",
        )
    chosen = next((one for one in made if one[1] in wanted), None) or next((o for o in made if o[0] == CONTRACT), None)
    if chosen is None:
        raise NotCompiled(f"the sources hold no contract {CONTRACT}", remedy="upload all of contracts/")
    _, code_hash, needed = chosen
    kept = {path: text for path, text in bundle.sources.items() if path in needed}
    return Build(Bundle(bundle.origin, kept, bundle.settings), code_hash, version[0])


def _contracts(answer: Mapping[str, Any]) -> list[tuple[str, bytes, set[str]]]:
    """Name, hash of the init code and needed sources of each contract that can be created."""
    found = []
    for contracts in answer.get("contracts", {}).values():
        for name, one in contracts.items():
            code = one["evm"]["bytecode"]["object"]
            if not code or re.fullmatch(r"[0-9a-f]+", code) is None:  # an interface, or a library is not linked in
                continue
            found.append((name, keccak(bytes.fromhex(code)), set(json.loads(one["metadata"])["sources"])))
    return found


def _run(solc: Path, arguments: list[str], given: str, directory: str) -> str:
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "SystemRoot") if name in os.environ}
    try:
        done = subprocess.run(
            [str(solc.absolute()), *arguments],
            input=given.encode(),
            capture_output=True,
            cwd=directory,
            env=environment,
            timeout=SECONDS,
            check=False,
        )
    except OSError as error:
        raise CompilerMissing(
            f"the compiler {solc} cannot be run: {error.strerror}", remedy="correct [server] solc"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NotCompiled(f"the compiler was not through in {SECONDS} seconds", remedy="upload less") from error
    if done.returncode != 0:
        problem = done.stderr.decode("utf-8", "replace").strip()[:300]
        raise CompilerMissing(f"the compiler {solc} failed: {problem}", remedy="correct [server] solc")
    return done.stdout.decode("utf-8", "replace")


# --------------------------------------------------------------------- comparing


def compare(old: Mapping[str, str], new: Mapping[str, str]) -> list[FileDiff]:
    """How sources differ, file by file: what changed first, what is the same last."""
    found = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before == after:
            found.append(FileDiff(path, "same", 0, 0, ()))
            continue
        state = "new" if before is None else "gone" if after is None else "changed"
        lines: list[tuple[str, str]] = []
        for line in _unified(_lines(before), _lines(after)):
            kind = {"@": "place", "+": "add", "-": "del"}.get(line[:1], "same")
            lines.append((kind, _visible(line)))
        added, removed = (sum(kind == wanted for kind, _ in lines) for wanted in ("add", "del"))
        found.append(FileDiff(path, state, added, removed, tuple(lines)))
    return sorted(found, key=lambda one: one.state == "same")


def _unified(old: Sequence[str], new: Sequence[str]) -> Sequence[str]:
    if len(old) * len(new) > MOST_COMPARED:
        return ["@@ too long to compare: all of it @@", *(f"-{line}" for line in old), *(f"+{line}" for line in new)]
    return list(difflib.unified_diff(old, new, lineterm="", n=3))[2:]


def _lines(text: str | None) -> list[str]:
    """Lines that end with a line feed; `splitlines` ends them where a comment goes on, which would then look like code."""
    return [] if text is None else text.split("\n")


def _visible(text: str) -> str:
    """Text with its hidden characters spelled out: who reads must see what the compiler reads."""

    def shown(letter: str) -> bool:
        return letter in "\n\t" or (letter.isprintable() and _UNSEEN.match(letter) is None)

    return "".join(letter if shown(letter) else f"⟨U+{ord(letter):04X}⟩" for letter in text)


# --------------------------------------------------------------------- keeping


class Shelf:
    """Sources whose code is known, by its hash, in the database of the audit log.

    Args:
        solc: the compiler; None: there is none.
        clock: unix seconds.
    """

    def __init__(self, audit: AuditLog, solc: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._audit = audit
        self.solc = solc
        self._clock = clock
        self._kept_own = False

    @property
    def packaged_hash(self) -> bytes:
        """Hash of the init code of the installed package's JointCredit."""
        return joint_credit_init_code_hash()

    @staticmethod
    def packaged() -> Bundle:
        """The sources of the installed package's JointCredit."""
        return Bundle(f"package mpcredit {__version__}", sources(CONTRACT), compiler(CONTRACT)[1])

    def keep_own(self, _party: object = None) -> list[str]:
        """Keep the installed package's sources, once in each process; called after a round (`Node.each_round`)."""
        if not self._kept_own:
            self._kept_own = True
            if self.get(self.packaged_hash) is None:
                version, _ = compiler(CONTRACT)
                self._write(Build(self.packaged(), self.packaged_hash, version), "shipped", "node")
        return []

    def get(self, code_hash: bytes) -> Kept | None:
        """The sources that give a hash, if they are known."""
        table = contract_source_table
        with self._audit.database.read() as connection:
            row = connection.execute(select(table).where(table.c.hash == code_hash)).one_or_none()
        if row is None:
            return None
        bundle = Bundle(row.origin, json.loads(row.sources), json.loads(row.settings))
        return Kept(row.hash, row.state, bundle, row.compiler, row.added_by, row.added_at)

    def rebuild(self, bundle: Bundle, wanted: Collection[bytes], *, by: str) -> Build:
        """Compile, and keep what gives one of the wanted hashes.

        Raises:
            CompilerMissing, NotCompiled: see `build`.
        """
        if self.solc is None:
            raise CompilerMissing(
                "this server has no Solidity compiler",
                remedy=f"install solc {compiler(CONTRACT)[0].partition('+')[0]} and name it in [server] solc",
            )
        if not _COMPILING.acquire(blocking=False):
            raise CompilerMissing("the compiler works for somebody else", remedy="wait for two minutes, and try again")
        try:
            made = build(bundle, self.solc, wanted)
        finally:
            _COMPILING.release()
        if made.code_hash in wanted:
            self._write(made, "rebuilt", by)
        return made

    def _write(self, made: Build, state: str, by: str) -> None:
        table = contract_source_table
        values = {
            "state": state,
            "origin": made.bundle.origin,
            "compiler": made.compiler,
            "settings": canonical_json(dict(made.bundle.settings)).decode(),
            "sources": json.dumps(dict(made.bundle.sources), ensure_ascii=False),
            "added_by": by,
            "added_at": int(self._clock()),
        }
        with self._audit.database.transaction() as connection:
            self._audit.append(
                by, f"contract.{state}", f"code/{to_hex(made.code_hash)}", origin=made.bundle.origin, solc=made.compiler
            )
            known = self.get(made.code_hash)
            if known is None:
                connection.execute(insert(table).values(hash=made.code_hash, **values))
                return
            if known.bundle.origin.startswith("package "):
                # The same code from sources with other comments: those that came with the package stay.
                values = {key: values[key] for key in ("state", "compiler", "added_by", "added_at")}
            connection.execute(update(table).where(table.c.hash == made.code_hash).values(values))
