"""R5: schemas, packing, and the capacity inequality at its edge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcredit.encoding import canonical_json, keccak, parse_canonical_json
from mpcredit.errors import InvalidEncoding, ValueOutOfRange
from mpcredit.schema import FIGURES_1, GUARANTEES_2, Field, Schema

RECORDS = st.fixed_dictionaries({field.name: st.integers(0, field.maximum) for field in FIGURES_1.fields})
FULL = {field.name: field.maximum for field in FIGURES_1.fields}


def test_figures_1__is_the_table_of_the_specification() -> None:
    table = [(f.name, f.value_bits, f.slot_bits) for f in FIGURES_1.fields]

    assert table == [
        ("outstanding", 48, 64),
        ("credit_limit", 48, 64),
        ("overdue", 48, 64),
        ("loans", 16, 32),
        ("pending", 16, 32),
        ("lenders", 1, 32),
    ]
    assert FIGURES_1.record_bits == 288
    assert [FIGURES_1.records_per_block(bits) for bits in (2048, 3072, 4096)] == [7, 10, 14]


@given(st.lists(RECORDS, min_size=1, max_size=16))
def test_unpack__of_pack__is_the_identity(records: list[dict[str, int]]) -> None:
    blocks = FIGURES_1.pack(records, 2048)

    assert len(blocks) == FIGURES_1.blocks(len(records), 2048) == (len(records) + 6) // 7
    assert FIGURES_1.unpack(blocks, len(records), 2048, 1) == records


@given(st.lists(st.lists(RECORDS, min_size=9, max_size=9), min_size=2, max_size=8))
def test_unpack__of_the_sum__is_the_sum_of_the_records(books: list[list[dict[str, int]]]) -> None:
    packed = [FIGURES_1.pack(records, 2048) for records in books]

    total = [sum(column) for column in zip(*packed, strict=True)]

    expected = [{name: sum(book[i][name] for book in books) for name in FIGURES_1.zero} for i in range(len(books[0]))]
    assert FIGURES_1.unpack(total, 9, 2048, len(books)) == expected


def test_pack__one_record__lies_at_the_bits_of_the_specification() -> None:
    record = {"outstanding": 1, "credit_limit": 2, "overdue": 3, "loans": 4, "pending": 5, "lenders": 1}

    [block] = FIGURES_1.pack([FIGURES_1.zero, record], 2048)

    assert block == (1 + 2 * 2**64 + 3 * 2**128 + 4 * 2**192 + 5 * 2**224 + 2**256) * 2**288


@pytest.mark.parametrize("bits", [2048, 2304, 3072, 4096])
def test_pack__full_block_of_216_members__stays_below_the_smallest_modulus(bits: int) -> None:
    count = FIGURES_1.records_per_block(bits)
    [block] = FIGURES_1.pack([FULL] * count, bits)

    assert 216 * block < 2 ** (bits - 1)
    assert (count + 1) * FIGURES_1.record_bits > bits - 1
    assert FIGURES_1.unpack([216 * block], count, bits, 216)[-1] == {name: 216 * v for name, v in FULL.items()}


def test_records_per_block__at_the_edge__is_exact() -> None:
    # records * record_bits <= |n| - 1: 7 * 288 = 2016.
    assert [FIGURES_1.records_per_block(bits) for bits in (289, 576, 577, 2016, 2017)] == [1, 1, 2, 6, 7]
    with pytest.raises(ValueOutOfRange):
        FIGURES_1.records_per_block(288)


def test_check_capacity__at_the_edge__is_exact() -> None:
    FIGURES_1.check_capacity(2**16)
    with pytest.raises(ValueOutOfRange, match="outstanding"):
        FIGURES_1.check_capacity(2**16 + 1)
    tight = Schema(9, "tight", (Field("a", "count", 8, 16, "x"), Field("b", "count", 8, 10, "y")))
    tight.check_capacity(4)
    with pytest.raises(ValueOutOfRange, match="of b"):
        tight.check_capacity(5)


def test_check_capacity__at_the_limit__no_slot_carries() -> None:
    tight = Schema(9, "tight", (Field("a", "count", 8, 10, "x"), Field("b", "count", 8, 10, "y")))
    [block] = tight.pack([{"a": 255, "b": 255}], 2048)

    assert tight.unpack([4 * block], 1, 2048, 4) == [{"a": 1020, "b": 1020}]


def test_unpack__bit_outside_the_slots__is_refused() -> None:
    with pytest.raises(ValueOutOfRange, match="outside"):
        FIGURES_1.unpack([2 ** (7 * 288)], 7, 2048, 4)
    with pytest.raises(ValueOutOfRange, match="outside"):
        FIGURES_1.unpack([2**288], 1, 2048, 4)
    with pytest.raises(ValueOutOfRange, match="outside"):
        FIGURES_1.unpack([0, 2**288], 8, 2048, 4)
    with pytest.raises(ValueOutOfRange, match="outside"):
        FIGURES_1.unpack([-1], 1, 2048, 4)


@pytest.mark.parametrize("members", [1, 4, 216])
@pytest.mark.parametrize("name", list(FULL))
def test_unpack__slot_just_above_what_the_cohort_can_give__is_refused(members: int, name: str) -> None:
    shift = 0
    for field in FIGURES_1.fields:
        if field.name == name:
            break
        shift += field.slot_bits
    limit = members * FULL[name]

    assert FIGURES_1.unpack([limit << shift], 1, 2048, members)[0][name] == limit
    with pytest.raises(ValueOutOfRange, match=name):
        FIGURES_1.unpack([(limit + 1) << shift], 1, 2048, members)


@pytest.mark.parametrize("blocks", [[], [0], [0, 0, 0]])
def test_unpack__other_number_of_blocks__is_refused(blocks: list[int]) -> None:
    with pytest.raises(ValueOutOfRange, match="number of blocks"):
        FIGURES_1.unpack(blocks, 8, 2048, 4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"outstanding": 2**48}, "outstanding"),
        ({"overdue": -1}, "overdue"),
        ({"loans": 1.0}, "loans"),
        ({"loans": "1"}, "loans"),
        ({"lenders": True}, "lenders"),
        ({"lenders": 2}, "lenders"),
        ({"extra": 0}, "exactly"),
    ],
)
def test_check_record__wrong_figure__is_refused_by_name(change: dict[str, int], match: str) -> None:
    with pytest.raises(ValueOutOfRange, match=match):
        FIGURES_1.check_record(FIGURES_1.zero | change)


def test_check_record__missing_field__is_refused() -> None:
    record = FIGURES_1.zero
    del record["pending"]

    with pytest.raises(ValueOutOfRange):
        FIGURES_1.check_record(record)


def test_check_record__value_out_of_range__is_not_repeated() -> None:
    with pytest.raises(ValueOutOfRange) as caught:
        FIGURES_1.check_record(FIGURES_1.zero | {"outstanding": 987654321987654321})

    assert "987654321" not in str(caught.value)


@pytest.mark.parametrize("schema", [FIGURES_1, GUARANTEES_2])
def test_parse__of_a_definition__is_the_schema(schema: Schema) -> None:
    assert Schema.parse(schema.definition) == schema
    assert schema.hash == keccak(schema.definition)


def _changed(**changes: object) -> bytes:
    return canonical_json(parse_canonical_json(FIGURES_1.definition) | changes)


@pytest.mark.parametrize(
    "definition",
    [
        FIGURES_1.definition + b" ",
        b"[]",
        b"{}",
        _changed(version=1),
        _changed(version=3),
        _changed(version=True),
        _changed(format="other"),
        _changed(fields={}),
        _changed(fields=[{}]),
        _changed(fields=[]),
        _changed(extra=1),
        _changed(id=0),
        _changed(id=65536),
        _changed(id="1"),
        _changed(name="Upper"),
        _changed(fields=[{"kind": "amount", "meaning": "m", "name": "a", "slot_bits": 8, "value_bits": 9}]),
        _changed(fields=[{"kind": "flag", "meaning": "m", "name": "a", "slot_bits": 8, "value_bits": 2}]),
        _changed(fields=[{"kind": "sum", "meaning": "m", "name": "a", "slot_bits": 8, "value_bits": 8}]),
        _changed(fields=[{"kind": "count", "meaning": "m", "name": "A", "slot_bits": 8, "value_bits": 8}]),
        _changed(fields=[{"kind": "count", "meaning": "", "name": "a", "slot_bits": 8, "value_bits": 8}]),
        _changed(fields=[{"kind": "count", "meaning": "m", "name": "a", "slot_bits": "8", "value_bits": 8}]),
        _changed(fields=[{"kind": "count", "meaning": "m", "name": "a", "slot_bits": 8, "value_bits": 8}] * 2),
    ],
)
def test_parse__definition_that_is_not_well_formed__is_refused(definition: bytes) -> None:
    with pytest.raises((InvalidEncoding, ValueOutOfRange)):
        Schema.parse(definition)


def test_second_schema__without_code_of_its_own__packs_and_sums() -> None:
    record = {"guarantees": 500, "guarantors": 2, "aml_flag": 1}
    [block] = GUARANTEES_2.pack([record], 2048)

    assert GUARANTEES_2.records_per_block(2048) == 15
    assert GUARANTEES_2.unpack([4 * block], 1, 2048, 4) == [{"guarantees": 2000, "guarantors": 8, "aml_flag": 4}]
