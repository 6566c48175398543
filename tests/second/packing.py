"""Figures in blocks (R5): first field lowest, first subject lowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """One figure of a schema."""

    name: str
    value_bits: int
    slot_bits: int
    kind: str = "count"
    meaning: str = "-"


FIGURES_1 = (
    Field("outstanding", 48, 64, "amount", "sum owed, in minor units"),
    Field("credit_limit", 48, 64, "amount", "granted limits, in minor units"),
    Field("overdue", 48, 64, "amount", "amount past due, in minor units"),
    Field("loans", 16, 32, "count", "active loans"),
    Field("pending", 16, 32, "count", "applications in the last 30 days"),
    Field("lenders", 1, 32, "flag", "1 if the institution has any exposure"),
)


def record_bits(fields: Sequence[Field]) -> int:
    """Bits of one subject."""
    return sum(field.slot_bits for field in fields)


def records_per_block(fields: Sequence[Field], modulus: int) -> int:
    """Subjects that fit into one block, so that no sum reaches n."""
    return (modulus.bit_length() - 1) // record_bits(fields)


def fits(fields: Sequence[Field], members: int) -> bool:
    """The capacity: no slot overflows into the next one."""
    return all(members * (2**field.value_bits - 1) < 2**field.slot_bits for field in fields)


def pack(fields: Sequence[Field], modulus: int, subjects: Sequence[Sequence[int]]) -> list[int]:
    """The plain numbers of all blocks, for the figures of the subjects in order."""
    each = records_per_block(fields, modulus)
    blocks = [0] * -(-len(subjects) // each)
    for place, figures in enumerate(subjects):
        position = place % each * record_bits(fields)
        for field, figure in zip(fields, figures, strict=True):
            if not 0 <= figure < 2**field.value_bits:
                raise ValueError(f"{field.name} of subject {place} is out of range")
            blocks[place // each] |= figure << position
            position += field.slot_bits
    return blocks


def unpack(fields: Sequence[Field], modulus: int, blocks: Sequence[int], subjects: int) -> list[list[int]]:
    """The totals of the subjects in order."""
    each = records_per_block(fields, modulus)
    totals = []
    for place in range(subjects):
        rest = blocks[place // each] >> (place % each * record_bits(fields))
        record = []
        for field in fields:
            record.append(rest % 2**field.slot_bits)
            rest >>= field.slot_bits
        totals.append(record)
    return totals
