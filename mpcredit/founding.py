"""The founding file: what a consortium begins with, read and checked before anything is sent (R37).

Every founder gets the same file, reads it, and keeps it: the accounts in it are those that its software accepts from
the start. `scripts/founding.example.toml` shows each line. Times are in seconds.

    name = "River valley"
    supervisors = ["0x…"]
    tag_key_commitment = "0x…"            # commitment to the key of the subject tags
    opens_from = 2027-01-31T00:00:00Z     # nothing opens before: W after the last inquiry of an earlier consortium; 0: none
    period_seconds = 60                   # length of the periods of readiness
    [parameters]                          # all of them, by the names of `events.Parameters`
    minimum_cohort = 4
    [[schema]]
    id = 1                                # one that ships; any other with definition or definition_file
    [[founder]]                           # in the order of their indices
    name = "Bank A"
    owner = "0x…"                         # governs; kept offline

The contract checks again; what it would refuse is named here by file and entry instead of by a revert. Creating
the contracts is left to `chain.deploy`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from eth_utils.address import is_address, is_checksum_address, to_checksum_address

from mpcredit.encoding import canonical_json, hex_bytes, keccak
from mpcredit.errors import InvalidEncoding, InvalidFile, ValueOutOfRange
from mpcredit.events import Parameters
from mpcredit.schema import FIGURES_1, GUARANTEES_2, Schema

__all__ = ["Founder", "Founding", "read_founding"]

# The limits of contracts/Consortium.sol; tests/unit/test_founding_file.py holds both against each other.
MAXIMUM_MEMBERS = 216
LEAST_COHORT = 3
LONGEST_NAME = 64
"""Bytes of a member's name in UTF-8."""
SHORTEST_TERM = 60
MINIMUM_DELAY = 3_600
LONGEST_TERM = 30 * 86_400
_UINT32 = 2**32 - 1

_RANGES: Mapping[str, tuple[int, int]] = {
    "minimum_cohort": (LEAST_COHORT, MAXIMUM_MEMBERS),
    "minimum_modulus_bits": (2048, 4096),
    "answer_seconds": (SHORTEST_TERM, LONGEST_TERM),
    "report_seconds": (SHORTEST_TERM, LONGEST_TERM),
    "silence_seconds": (1, LONGEST_TERM),
    "window_seconds": (0, _UINT32),
    "cooldown_seconds": (SHORTEST_TERM, _UINT32),
    "repeat_seconds": (SHORTEST_TERM, _UINT32),
    "delay_seconds": (MINIMUM_DELAY, LONGEST_TERM),
    "subjects_per_day": (1, _UINT32),
    "book_age_seconds": (1, _UINT32),
}
_MODULUS_STEP = 256
_SHIPPED = {schema.id: schema for schema in (FIGURES_1, GUARANTEES_2)}
_TOP = {
    "name",
    "supervisors",
    "tag_key_commitment",
    "joint_credit_init_code_hash",
    "opens_from",
    "period_seconds",
    "parameters",
    "schema",
    "founder",
}


@dataclass(frozen=True)
class Founder:
    """One of the institutions that found the consortium; its index is its place in the file."""

    name: str
    """As the others will read it."""
    owner: str
    """Checksum address of the account that governs the member, and names its service account."""


@dataclass(frozen=True)
class Founding:
    """What a consortium begins with, checked."""

    name: str
    """Of the consortium."""
    founders: tuple[Founder, ...]
    """By index."""
    supervisors: tuple[str, ...]
    """Checksum addresses."""
    schemas: tuple[Schema, ...]
    """Registered from the start."""
    parameters: Parameters
    """Terms of every inquiry."""
    opens_from: int
    """Unix seconds before which nothing opens: W after the last inquiry of an earlier consortium; 0: there is none."""
    period_seconds: int
    """Length of the periods of readiness."""
    tag_key_commitment: bytes
    """32 bytes."""
    joint_credit_init_code_hash: bytes
    """Keccak-256 of the init code of the first JointCredit, 32 bytes."""
    names_joint_credit: bool
    """Whether the file gives that hash itself; otherwise it means the JointCredit of the release that deploys."""

    def constructor_argument(self, joint_credit: bytes | None = None) -> tuple[Any, ...]:
        """The struct `IConsortium.Founding`, in the order of the contract.

        Args:
            joint_credit: hash for a file that gives none, 32 bytes; by default that of this package.
        """
        code = self.joint_credit_init_code_hash
        if joint_credit is not None and not self.names_joint_credit:
            code = joint_credit
        return (
            self.name,
            [(founder.owner, founder.name) for founder in self.founders],
            list(self.supervisors),
            [(schema.id, schema.definition) for schema in self.schemas],
            tuple(getattr(self.parameters, field.name) for field in fields(Parameters)),
            self.opens_from,
            self.period_seconds,
            code,
            self.tag_key_commitment,
        )


def read_founding(path: Path) -> Founding:
    """Read and check a founding file.

    Raises:
        InvalidFile: it cannot be read, or a line of it breaks a rule of the contract.
    """
    path = Path(path)
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidFile(str(path), "there is no such file", "name the founding file of your consortium") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidFile(str(path), f"cannot be read: {error}", "correct the file; it is TOML in UTF-8") from error
    return _Reader(path).founding(value)


@cache
def _shipped_init_code_hash() -> bytes:
    place = resources.files("mpcredit") / "artifacts" / "JointCredit.json"
    artifact = json.loads(place.read_text(encoding="utf-8"))
    return keccak(hex_bytes(artifact["bytecode"]))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise InvalidEncoding("the definition repeats a key")
    return dict(pairs)


class _Reader:
    """Checks one file from the top; every refusal names the file and the entry."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, str] = {}
        """Which part each account plays."""

    def _wrong(self, where: str, problem: str, remedy: str) -> InvalidFile:
        return InvalidFile(f"{self._path}, {where}", problem, remedy)

    def founding(self, value: Mapping[str, Any]) -> Founding:
        self._only(value, _TOP, "top level")
        parameters = self._parameters(value.get("parameters"))
        supervisors = self._supervisors(value.get("supervisors"))
        founders = self._founders(value.get("founder"), parameters.minimum_cohort)
        return Founding(
            name=self._name(value.get("name"), "name", None),
            founders=founders,
            supervisors=supervisors,
            schemas=self._schemas(value.get("schema"), len(founders)),
            parameters=parameters,
            opens_from=self._moment(value.get("opens_from"), "opens_from"),
            period_seconds=self._number(value.get("period_seconds", 60), "period_seconds", 1, 255),
            tag_key_commitment=self._hash(value.get("tag_key_commitment"), "tag_key_commitment"),
            joint_credit_init_code_hash=(
                self._hash(value["joint_credit_init_code_hash"], "joint_credit_init_code_hash")
                if "joint_credit_init_code_hash" in value
                else _shipped_init_code_hash()
            ),
            names_joint_credit="joint_credit_init_code_hash" in value,
        )

    def _parameters(self, value: Any) -> Parameters:
        if not isinstance(value, dict):
            raise self._wrong("[parameters]", "is missing", "add the table; scripts/founding.example.toml shows it")
        self._only(value, set(_RANGES), "[parameters]")
        numbers = {
            name: self._number(value.get(name), f"[parameters] {name}", least, most)
            for name, (least, most) in _RANGES.items()
        }
        self._order(numbers, "silence_seconds", "answer_seconds")
        self._order(numbers, "answer_seconds", "repeat_seconds")
        self._order(numbers, "repeat_seconds", "cooldown_seconds")
        if numbers["minimum_modulus_bits"] % _MODULUS_STEP:
            where = "[parameters] minimum_modulus_bits"
            raise self._wrong(where, f"is {numbers['minimum_modulus_bits']}", f"give a multiple of {_MODULUS_STEP}")
        return Parameters(**numbers)

    def _order(self, numbers: Mapping[str, int], lesser: str, greater: str) -> None:
        if numbers[lesser] > numbers[greater]:
            where = f"[parameters] {lesser}"
            raise self._wrong(where, f"is above {greater}", f"give at most {numbers[greater]}, or raise {greater}")

    def _number(self, number: Any, where: str, least: int, most: int) -> int:
        if number is None:
            raise self._wrong(where, "is missing", f"add the line, with an integer from {least} to {most}")
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise self._wrong(where, f"is {number!r}", f"give an integer from {least} to {most}")
        return number

    def _moment(self, value: Any, where: str) -> int:
        """Unix seconds, from an offset date-time of TOML or an integer."""
        if value is None:
            raise self._wrong(
                where,
                "is missing",
                "write the end of the window of an earlier consortium of these institutions, or 0: there was none",
            )
        if isinstance(value, date):
            if not isinstance(value, datetime) or value.tzinfo is None:
                raise self._wrong(where, "has no time zone", "write it as 2027-01-31T00:00:00Z")
            return self._number(int(value.timestamp()), where, 0, _UINT32)
        return self._number(value, where, 0, _UINT32)

    def _supervisors(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise self._wrong("supervisors", "names no account", 'write supervisors = ["0x…"], above the first table')
        return tuple(
            self._account(entry, f"supervisors, entry {number}", f"supervisor {number}")
            for number, entry in enumerate(value, start=1)
        )

    def _founders(self, value: Any, minimum: int) -> tuple[Founder, ...]:
        entries = self._tables(value, "founder")
        if not minimum <= len(entries) <= MAXIMUM_MEMBERS:
            raise self._wrong(
                "[[founder]]",
                f"there are {len(entries)} founders",
                f"name {minimum} (minimum_cohort) to {MAXIMUM_MEMBERS} of them",
            )
        founders: list[Founder] = []
        for number, entry in enumerate(entries, start=1):
            where = f"[[founder]] {number}"
            self._only(entry, {"name", "owner"}, where)
            name = self._name(entry.get("name"), f"{where}, name", LONGEST_NAME)
            if any(name == other.name for other in founders):
                raise self._wrong(f"{where}, name", f"{name!r} is there twice", "give each founder its own name")
            part = f"founder {number}"
            owner = self._account(entry.get("owner"), f"{where}, owner", part)
            founders.append(Founder(name, owner))
        return tuple(founders)

    def _schemas(self, value: Any, members: int) -> tuple[Schema, ...]:
        schemas: list[Schema] = []
        for number, entry in enumerate(self._tables(value, "schema"), start=1):
            where = f"[[schema]] {number}"
            self._only(entry, {"id", "definition", "definition_file"}, where)
            schema = self._schema(entry, where)
            if any(schema.id == other.id for other in schemas):
                raise self._wrong(f"{where}, id", f"{schema.id} is there twice", "give each schema its own id")
            try:
                schema.check_capacity(members)
            except ValueOutOfRange as error:
                raise self._wrong(where, error.message, "give its fields wider slots") from error
            schemas.append(schema)
        if not schemas:
            raise self._wrong("[[schema]]", "is missing", "add [[schema]] with id = 1")
        return tuple(schemas)

    def _schema(self, entry: Mapping[str, Any], where: str) -> Schema:
        number = entry.get("id")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 2**16:
            raise self._wrong(f"{where}, id", f"is {number!r}", "give an integer from 1 to 65535")
        text = entry.get("definition")
        if "definition_file" in entry:
            place = self._path.parent / str(entry["definition_file"])
            try:
                text = place.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                remedy = "name a JSON file, from the folder of this file on"
                raise self._wrong(f"{where}, definition_file", f"cannot be read: {error}", remedy) from error
        if text is None:
            if number not in _SHIPPED:
                known = ", ".join(str(i) for i in _SHIPPED)
                raise self._wrong(
                    where, f"no schema {number} ships (only {known})", "give definition or definition_file"
                )
            return _SHIPPED[number]
        try:
            schema = Schema.parse(self._canonical(text))
        except (InvalidEncoding, ValueOutOfRange) as error:
            raise self._wrong(where, error.message, "correct the definition; docs/spec.md, R5, describes it") from error
        if schema.id != number:
            raise self._wrong(f"{where}, id", f"is {number}, the definition says {schema.id}", "make them equal")
        return schema

    @staticmethod
    def _canonical(text: Any) -> bytes:
        """The one form of a definition; people may lay the text out as they like."""
        if not isinstance(text, str):
            raise InvalidEncoding("the definition is not text")
        try:
            return canonical_json(json.loads(text, object_pairs_hook=_unique))
        except ValueError as error:
            raise InvalidEncoding(f"the definition is not JSON: {error}") from error

    def _tables(self, value: Any, name: str) -> Sequence[Mapping[str, Any]]:
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise self._wrong(f"[[{name}]]", "is not a list of tables", f"write [[{name}]] in double brackets")
        return value

    def _name(self, value: Any, where: str, most: int | None) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(where, "is missing or empty", 'write name = "…"')
        if value != value.strip() or not value.isprintable():
            raise self._wrong(where, "has spaces around it or characters that do not print", "write the bare name")
        if most is not None and len(value.encode()) > most:
            raise self._wrong(where, f"has {len(value.encode())} bytes", f"give a name of at most {most} bytes")
        return value

    def _account(self, value: Any, where: str, part: str) -> str:
        if not isinstance(value, str) or not value.startswith("0x") or not is_address(value) or int(value, 16) == 0:
            raise self._wrong(where, f"{value!r} is no account", "give an address: 0x and 40 hexadecimal digits")
        digits = value[2:]
        if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(value):
            raise self._wrong(where, f"{value} has a wrong checksum (EIP-55)", "copy the address again")
        account = to_checksum_address(value)
        owner = self._parts.setdefault(account, part)
        if owner != part:
            raise self._wrong(where, f"{account} belongs to {owner} already", "give every party accounts of its own")
        return account

    def _hash(self, value: Any, where: str) -> bytes:
        try:
            data = hex_bytes(value, 32)
        except InvalidEncoding as error:
            raise self._wrong(
                where, "is missing or malformed", "give 0x and 64 lower-case hexadecimal digits"
            ) from error
        if not any(data):
            raise self._wrong(where, "is zero", "give the real one")
        return data

    def _only(self, value: Mapping[str, Any], known: set[str], where: str) -> None:
        for name in value:
            if name == "operator":
                raise self._wrong(
                    where,
                    "names an operator, as version 1 did",
                    "take the line out: the founding names owner accounts only, and `mpcredit member confirm` names the "
                    "service account",
                )
            if name not in known:
                raise self._wrong(where, f"has an unknown entry {name!r}", f"use only: {', '.join(sorted(known))}")
