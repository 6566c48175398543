"""The compiled contracts that ship with the package: their ABI and bytecode, as `tools/compile.py` wrote them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from mpcredit.encoding import abi_encode, hex_bytes, keccak
from mpcredit.errors import MpcreditError
from mpcredit.ledger.creation import InitCodes

__all__ = ["Artifact", "abi_type", "compiler", "consortium", "init_codes", "joint_credit", "load", "sources"]


def abi_type(parameter: Mapping[str, Any]) -> str:
    """The type of an ABI parameter as `eth_abi` spells it: a struct becomes the tuple of its fields."""
    kind = str(parameter["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(abi_type(field) for field in parameter['components'])}){kind.removeprefix('tuple')}"


def _signature(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']}({','.join(abi_type(given) for given in entry['inputs'])})"


@dataclass(frozen=True)
class Artifact:
    """One compiled contract."""

    name: str
    abi: tuple[Mapping[str, Any], ...]
    bytecode: bytes
    """Init code without constructor arguments."""

    def entries(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """ABI entries of a kind ("function", "event", "error") by name; the contracts overload none."""
        return {str(entry["name"]): entry for entry in self.abi if entry["type"] == kind}

    def topics(self) -> dict[bytes, Mapping[str, Any]]:
        """Events by the first topic of their logs."""
        return {keccak(_signature(entry).encode()): entry for entry in self.entries("event").values()}

    def error_selectors(self) -> dict[bytes, Mapping[str, Any]]:
        """Custom errors by the four bytes with which their revert data starts."""
        return {keccak(_signature(entry).encode())[:4]: entry for entry in self.entries("error").values()}

    def call_data(self, function: str, arguments: Sequence[Any]) -> bytes:
        """Encode a call.

        Raises:
            KeyError: the contract has no such function (a programming mistake).
        """
        entry = self.entries("function")[function]
        types = [abi_type(given) for given in entry["inputs"]]
        return keccak(_signature(entry).encode())[:4] + abi_encode(types, list(arguments))

    def init_code(self, *arguments: Any) -> bytes:
        """The bytecode with the constructor's arguments behind it, as a creation carries it."""
        given: list[dict[str, Any]] = next(
            (entry["inputs"] for entry in self.abi if entry["type"] == "constructor"), []
        )
        return self.bytecode + abi_encode([abi_type(parameter) for parameter in given], list(arguments))


def _content(name: str) -> Any:
    return json.loads((resources.files("mpcredit") / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def load(name: str) -> Artifact:
    """Load a shipped contract by name.

    Raises:
        MpcreditError: the package was built without it.
    """
    try:
        content = _content(name)
        return Artifact(
            name=name, abi=tuple(content["abi"]), bytecode=bytes.fromhex(content["bytecode"].removeprefix("0x"))
        )
    except (OSError, ValueError, KeyError) as error:
        raise MpcreditError(
            f"this installation of mpcredit lacks the compiled contract {name}",
            remedy="install the package again; in a checkout run: python tools/compile.py",
        ) from error


def consortium() -> Artifact:
    """The contract `Consortium`."""
    return load("Consortium")


def joint_credit() -> Artifact:
    """The contract `JointCredit`."""
    return load("JointCredit")


@cache
def init_codes() -> tuple[InitCodes, ...]:
    """Hashes of the init codes of every release since version 2, this one included; oldest first.

    Raises:
        MpcreditError: the package was built without the list.
    """
    try:
        return tuple(
            InitCodes(
                release=str(entry["release"]),
                consortium_bytes=int(entry["Consortium"]["bytes"]),
                consortium=hex_bytes(entry["Consortium"]["keccak256"], 32),
                joint_credit=hex_bytes(entry["JointCredit"]["keccak256"], 32),
            )
            for entry in _content("releases")
        )
    except (OSError, ValueError, KeyError, TypeError, MpcreditError) as error:
        raise MpcreditError(
            "this installation of mpcredit lacks the list of the releases' contracts",
            remedy="install the package again; in a checkout run: python tools/compile.py",
        ) from error


def compiler(name: str) -> tuple[str, dict[str, Any]]:
    """Version and settings of the compiler that made a shipped contract."""
    content = _content(name)["compiler"]
    return str(content["version"]), dict(content["settings"])


@cache
def sources(name: str) -> Mapping[str, str]:
    """The sources that a shipped contract was made from, by path: of the package, or of the checkout around it.

    Raises:
        MpcreditError: a source is missing, or is not the one that the contract was made from.
    """
    package = resources.files("mpcredit")
    found = {}
    for path, digest in _content(name)["sources"].items():
        # A wheel has them inside of the package, a checkout beside it.
        for place in (package.joinpath(path), package.joinpath("..", path)):
            try:
                content = place.read_bytes()
            except OSError:
                continue
            if hashlib.sha256(content).hexdigest() == digest:
                found[path] = content.decode("utf-8")
                break
        else:
            raise MpcreditError(
                f"this installation of mpcredit lacks {path}, from which its {name} was made",
                remedy="install the package again; in a checkout run: python tools/compile.py",
            )
    return found
