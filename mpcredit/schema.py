"""Schemas: which figures one subject has, and how they lie in the plaintexts (R5).

Every field has a slot of `slot_bits` for a value of `value_bits`. The difference is the headroom for the sum over the
cohort. As many records as fit go into one plaintext:

    records_per_block * record_bits <= |n| - 1, so that packed records are always below n.

A slot of the sum stays below 2^slot_bits because members * (2^value_bits - 1) < 2^slot_bits (`check_capacity`), so no
field ever carries into the next one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from mpcredit.encoding import canonical_json, keccak, parse_canonical_json
from mpcredit.errors import InvalidEncoding, ValueOutOfRange

__all__ = ["FIGURES_1", "GUARANTEES_2", "Field", "Record", "Schema"]

Record = Mapping[str, int]
"""The figures of one subject: field name to value."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_FORMAT: Final = "mpcredit/schema"
_VERSION: Final = 2
_MAX_SLOT_BITS: Final = 256
_MAX_FIELDS: Final = 64


@dataclass(frozen=True)
class Field:
    """One figure of a record."""

    name: str
    """Lower-case letters, digits and underscores; the same word in JSON, CSV and documents."""
    kind: Literal["amount", "count", "flag"]
    """An amount in minor units, a count, or 0/1."""
    value_bits: int
    """One institution's value is below 2^value_bits."""
    slot_bits: int
    """Bits that the sum over the cohort may use."""
    meaning: str
    """One line for people."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or _NAME.fullmatch(self.name) is None:
            raise ValueOutOfRange("a field name is a lower-case word of up to 32 letters, digits and underscores")
        if self.kind not in ("amount", "count", "flag"):
            raise ValueOutOfRange(f"field {self.name}: the kind must be amount, count or flag")
        for bits in (self.value_bits, self.slot_bits):
            if isinstance(bits, bool) or not isinstance(bits, int):
                raise ValueOutOfRange(f"field {self.name}: bits must be integers")
        if not 1 <= self.value_bits <= self.slot_bits <= _MAX_SLOT_BITS:
            raise ValueOutOfRange(f"field {self.name}: 1 <= value_bits <= slot_bits <= {_MAX_SLOT_BITS} must hold")
        if self.kind == "flag" and self.value_bits != 1:
            raise ValueOutOfRange(f"field {self.name}: a flag has one bit")
        if not isinstance(self.meaning, str) or not 1 <= len(self.meaning) <= 256:
            raise ValueOutOfRange(f"field {self.name}: the meaning is one line of up to 256 characters")

    @property
    def maximum(self) -> int:
        """The largest value that one institution may give."""
        return int(2**self.value_bits - 1)


@dataclass(frozen=True)
class Schema:
    """A versioned list of fields that the consortium registers on the ledger."""

    id: int
    """The number under which the ledger knows it."""
    name: str
    """A word for people."""
    fields: tuple[Field, ...]
    """In the order of their slots, lowest bits first."""

    def __post_init__(self) -> None:
        if isinstance(self.id, bool) or not isinstance(self.id, int) or not 0 < self.id < 2**16:
            raise ValueOutOfRange("the id of a schema is an integer from 1 to 65535")
        if not isinstance(self.name, str) or _NAME.fullmatch(self.name) is None:
            raise ValueOutOfRange("the name of a schema is a lower-case word")
        if not 1 <= len(self.fields) <= _MAX_FIELDS:
            raise ValueOutOfRange(f"a schema has 1 to {_MAX_FIELDS} fields")
        if len({field.name for field in self.fields}) != len(self.fields):
            raise ValueOutOfRange("two fields of the schema have the same name")

    @cached_property
    def definition(self) -> bytes:
        """The canonical JSON that the ledger hashes."""
        return canonical_json(
            {
                "fields": [
                    {
                        "kind": field.kind,
                        "meaning": field.meaning,
                        "name": field.name,
                        "slot_bits": field.slot_bits,
                        "value_bits": field.value_bits,
                    }
                    for field in self.fields
                ],
                "format": _FORMAT,
                "id": self.id,
                "name": self.name,
                "version": _VERSION,
            }
        )

    @classmethod
    def parse(cls, definition: bytes) -> Schema:
        """Read a definition.

        Raises:
            InvalidEncoding: not canonical, an unknown version, a missing or unknown member.
            ValueOutOfRange: a field that is not well formed.
        """
        outer = _members(parse_canonical_json(definition), {"fields", "format", "id", "name", "version"})
        if outer["format"] != _FORMAT or type(outer["version"]) is not int or outer["version"] != _VERSION:
            raise InvalidEncoding("not a schema definition of version 2")
        if not isinstance(outer["fields"], list):
            raise InvalidEncoding("the fields of a schema must be a list")
        keys = {"kind", "meaning", "name", "slot_bits", "value_bits"}
        return cls(outer["id"], outer["name"], tuple(Field(**_members(item, keys)) for item in outer["fields"]))

    @cached_property
    def hash(self) -> bytes:
        """Keccak-256 of the definition, as registered."""
        return keccak(self.definition)

    @cached_property
    def record_bits(self) -> int:
        """Bits of one record: the sum of the slots."""
        return sum(field.slot_bits for field in self.fields)

    @property
    def zero(self) -> dict[str, int]:
        """The record of a subject that is not known: every figure 0."""
        return {field.name: 0 for field in self.fields}

    def records_per_block(self, modulus_bits: int) -> int:
        """How many records one plaintext holds.

        Raises:
            ValueOutOfRange: not even one fits.
        """
        records = (modulus_bits - 1) // self.record_bits
        if records < 1:
            raise ValueOutOfRange(
                f"a record of {self.record_bits} bits does not fit below a {modulus_bits}-bit modulus"
            )
        return records

    def blocks(self, subjects: int, modulus_bits: int) -> int:
        """How many ciphertext blocks an inquiry about `subjects` subjects has."""
        if subjects < 1:
            raise ValueOutOfRange("an inquiry has at least one subject")
        return -(-subjects // self.records_per_block(modulus_bits))

    def check_capacity(self, members: int) -> None:
        """Check that sums over `members` institutions fit their slots.

        Raises:
            ValueOutOfRange: names the first field that could overflow.
        """
        for field in self.fields:
            if members > 2 ** (field.slot_bits - field.value_bits):
                raise ValueOutOfRange(f"{members} institutions could overflow the slot of {field.name}")

    def check_record(self, record: Record) -> None:
        """Check one institution's figures for one subject.

        Raises:
            ValueOutOfRange: names the field; the value is not repeated.
        """
        if set(record) != {field.name for field in self.fields}:
            names = ", ".join(field.name for field in self.fields)
            raise ValueOutOfRange("a record must have exactly the fields of its schema", remedy=f"give {names}")
        for field in self.fields:
            value = record[field.name]
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueOutOfRange(f"{field.name} must be an integer", remedy="amounts are in minor units")
            if not 0 <= value <= field.maximum:
                raise ValueOutOfRange(f"{field.name} must be from 0 to 2^{field.value_bits} - 1")

    def pack(self, records: Sequence[Record], modulus_bits: int) -> list[int]:
        """Lay records into plaintexts, the first record in the lowest bits of the first block.

        Raises:
            ValueOutOfRange: a record that is not well formed, or none.
        """
        per_block = self.records_per_block(modulus_bits)
        blocks = [0] * self.blocks(len(records), modulus_bits)
        for index, record in enumerate(records):
            self.check_record(record)
            shift = (index % per_block) * self.record_bits
            for field in self.fields:
                blocks[index // per_block] |= record[field.name] << shift
                shift += field.slot_bits
        return blocks

    def unpack(self, blocks: Sequence[int], subjects: int, modulus_bits: int, members: int) -> list[dict[str, int]]:
        """Read sums over `members` institutions back out of plaintexts; 1 member gives the check of one contribution.

        Raises:
            ValueOutOfRange: another number of blocks, a bit outside the slots, or a slot above
                members * (2^value_bits - 1). Values are not repeated.
        """
        self.check_capacity(members)
        per_block = self.records_per_block(modulus_bits)
        if len(blocks) != self.blocks(subjects, modulus_bits):
            raise ValueOutOfRange("another number of blocks than this many subjects have")
        for index, block in enumerate(blocks):
            used = min(per_block, subjects - index * per_block) * self.record_bits
            if block < 0 or block.bit_length() > used:
                raise ValueOutOfRange(f"block {index} has a bit outside its slots")
        records = []
        for index in range(subjects):
            rest = blocks[index // per_block] >> (index % per_block) * self.record_bits
            record = {}
            for field in self.fields:
                value = rest & ((1 << field.slot_bits) - 1)
                if value > members * field.maximum:
                    raise ValueOutOfRange(
                        f"{field.name} of subject {index} exceeds what {members} institutions can give"
                    )
                record[field.name] = value
                rest >>= field.slot_bits
            records.append(record)
        return records


def _members(value: Any, names: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise InvalidEncoding("a schema definition with missing or unknown members")
    return value


FIGURES_1: Final = Schema(
    1,
    "figures",
    (
        Field("outstanding", "amount", 48, 64, "sum owed, in minor units"),
        Field("credit_limit", "amount", 48, 64, "granted limits, in minor units"),
        Field("overdue", "amount", 48, 64, "amount past due, in minor units"),
        Field("loans", "count", 16, 32, "active loans"),
        Field("pending", "count", 16, 32, "applications in the last 30 days"),
        Field("lenders", "flag", 1, 32, "1 if the institution has any exposure"),
    ),
)
"""The figures of a joint credit inquiry."""

GUARANTEES_2: Final = Schema(
    2,
    "guarantees",
    (
        Field("guarantees", "amount", 48, 64, "sum guaranteed for others, in minor units"),
        Field("guarantors", "count", 16, 32, "persons who guarantee for the subject"),
        Field("aml_flag", "flag", 1, 32, "1 if the institution has an open money-laundering flag"),
    ),
)
"""An example of a second schema: nothing but its registration is new."""
