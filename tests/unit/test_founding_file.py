"""mpcredit.founding: the file is read, its every entry is checked, and the contract would agree (R37)."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from eth_utils import keccak

from mpcredit import founding as module
from mpcredit.errors import InvalidFile
from mpcredit.founding import read_founding
from mpcredit.schema import FIGURES_1, GUARANTEES_2

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "scripts" / "founding.example.toml"


@pytest.fixture
def changed(tmp_path):
    """The example with some text replaced; reading it is left to the test."""

    def write(old: str = "", new: str = "") -> Path:
        text = EXAMPLE.read_text(encoding="utf-8")
        assert not old or text.count(old) == 1
        place = tmp_path / "founding.toml"
        place.write_text(text.replace(old, new) if old else text, encoding="utf-8")
        return place

    return write


def test_read_founding__example__holds_what_the_file_says():
    founding = read_founding(EXAMPLE)

    assert founding.name == "River valley consortium"
    assert [f.name for f in founding.founders] == ["Bank A", "Bank B", "Microfinance C", "Bank D"]
    assert founding.founders[1].owner == "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
    assert founding.supervisors == ("0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f",)
    assert founding.schemas == (FIGURES_1,)
    assert founding.parameters.minimum_cohort == 4
    assert founding.parameters.delay_seconds == 86_400
    assert (founding.opens_from, founding.period_seconds) == (0, 60)


def test_constructor_argument__example__is_the_struct_in_order():
    founding = read_founding(EXAMPLE)

    (name, founders, supervisors, schemas, parameters, opens_from, period_seconds, init_code_hash, commitment) = (
        founding.constructor_argument()
    )

    assert name == "River valley consortium"
    assert founders[2] == ("0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65", "Microfinance C")
    assert supervisors == ["0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"]
    assert schemas == [(1, FIGURES_1.definition)]
    assert parameters == (4, 2048, 3600, 86400, 60, 2592000, 86400, 14400, 86400, 1000, 3456000)
    assert (opens_from, period_seconds) == (0, 60)
    assert init_code_hash == founding.joint_credit_init_code_hash
    assert commitment.hex().startswith("3b1d2f1e")


def test_init_code_hash__left_out__is_that_of_the_artifact_that_ships():
    text = (ROOT / "mpcredit" / "artifacts" / "JointCredit.json").read_text(encoding="utf-8")
    bytecode = re.search(r'"bytecode": "0x([0-9a-f]+)"', text)

    assert read_founding(EXAMPLE).joint_credit_init_code_hash == keccak(bytes.fromhex(bytecode[1]))


def test_init_code_hash__given__is_taken(changed):
    line = f'joint_credit_init_code_hash = "0x{"ab" * 32}"\n[parameters]\n'

    assert read_founding(changed("[parameters]\n", line)).joint_credit_init_code_hash == b"\xab" * 32


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("opens_from = 1801353600", 1_801_353_600),
        ("opens_from = 2027-01-31T00:00:00Z", 1_801_353_600),
        ("opens_from = 2027-01-31T08:00:00+08:00", 1_801_353_600),
    ],
)
def test_opens_from__a_moment_or_seconds__is_unix_seconds(changed, line, seconds):
    assert read_founding(changed("opens_from = 0", line)).opens_from == seconds


def test_period_seconds__left_out__is_a_minute(changed):
    assert read_founding(changed("period_seconds = 60\n", "")).period_seconds == 60


def test_schema__definition_in_any_layout__is_made_canonical(changed, tmp_path):
    laid_out = json.dumps(json.loads(GUARANTEES_2.definition), indent=2)
    (tmp_path / "guarantees.json").write_text(laid_out, encoding="utf-8")

    inline = read_founding(changed("id = 1\n", f"id = 2\ndefinition = '''{laid_out}'''\n"))
    from_file = read_founding(changed("id = 1\n", 'id = 2\ndefinition_file = "guarantees.json"\n'))
    shipped = read_founding(changed("id = 1\n", "id = 2\n"))

    assert inline.schemas == from_file.schemas == shipped.schemas == (GUARANTEES_2,)


BANK_B = '"0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"'
BANK_A = '"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"'


@pytest.mark.parametrize(
    ("old", "new", "place", "problem"),
    [
        ('name = "River valley consortium"', "", "name", "missing"),
        ('name = "River valley consortium"', 'nome = "x"', "top level", "unknown entry 'nome'"),
        ('supervisors = ["0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"]', "", "supervisors", "no account"),
        ('["0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"]', "[]", "supervisors", "no account"),
        ('["0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"]', f"[{BANK_A}]", "[[founder]] 1, owner", "supervisor 1"),
        ('"0x3b1d2f', '"3b1d2f', "tag_key_commitment", "malformed"),
        ("3b1d2f1e0f6d4c8e9a7b5c3d1e2f4a6b8c0d9e7f5a3b1c2d4e6f8a0b9c7d5e3f", "00" * 32, "tag_key_commitment", "zero"),
        ("minimum_cohort = 4 ", "minimum_cohort = 2 ", "[parameters] minimum_cohort", "is 2"),
        ("minimum_cohort = 4 ", "minimum_cohort = 5 ", "[[founder]]", "4 founders"),
        ("minimum_cohort = 4 ", "minimum_cohort = 4.0 ", "[parameters] minimum_cohort", "is 4.0"),
        ("minimum_cohort = 4 ", "minimum_cohort = true ", "[parameters] minimum_cohort", "is True"),
        ("minimum_modulus_bits = 2048", "minimum_modulus_bits = 1024", "[parameters] minimum_modulus_bits", "1024"),
        ("minimum_modulus_bits = 2048", "minimum_modulus_bits = 2100", "[parameters] minimum_modulus_bits", "2100"),
        ("answer_seconds = 3600 ", "answer_seconds = 59 ", "[parameters] answer_seconds", "is 59"),
        ("delay_seconds = 86400", "delay_seconds = 3599", "[parameters] delay_seconds", "3599"),
        ("delay_seconds = 86400", "", "[parameters] delay_seconds", "missing"),
        ("silence_seconds = 60 ", "silence_seconds = 0 ", "[parameters] silence_seconds", "is 0"),
        ("silence_seconds = 60 ", "silence_seconds = 3601 ", "[parameters] silence_seconds", "above answer_seconds"),
        ("repeat_seconds = 14400", "repeat_seconds = 3599", "[parameters] answer_seconds", "above repeat_seconds"),
        ("repeat_seconds = 14400", "repeat_seconds = 86401", "[parameters] repeat_seconds", "above cooldown_seconds"),
        ("opens_from = 0", "", "opens_from", "missing"),
        ("opens_from = 0", "opens_from = -1", "opens_from", "is -1"),
        ("opens_from = 0", "opens_from = 2027-01-31T00:00:00", "opens_from", "no time zone"),
        ("opens_from = 0", "opens_from = 2027-01-31", "opens_from", "no time zone"),
        ("opens_from = 0", "opens_from = 4294967296", "opens_from", "4294967296"),
        ("period_seconds = 60", "period_seconds = 0", "period_seconds", "is 0"),
        ("period_seconds = 60", "period_seconds = 256", "period_seconds", "is 256"),
        ("subjects_per_day = 1000", "subjects_per_day = 0", "[parameters] subjects_per_day", "is 0"),
        ("[parameters]", "[parameter]", "top level", "unknown entry 'parameter'"),
        ("[[schema]]\nid = 1", "", "[[schema]]", "missing"),
        ("id = 1\n", "id = 3\n", "[[schema]] 1", "no schema 3 ships"),
        ("id = 1\n", "id = 1\n[[schema]]\nid = 1\n", "[[schema]] 2, id", "twice"),
        ("id = 1\n", 'id = 1\ndefinition = "{}"\n', "[[schema]] 1", "missing or unknown members"),
        ("id = 1\n", 'id = 1\ndefinition = "{"\n', "[[schema]] 1", "not JSON"),
        ("id = 1\n", """id = 1\ndefinition = '{"id":1,"id":1}'\n""", "[[schema]] 1", "repeats a key"),
        ("id = 1\n", 'id = 1\ndefinition_file = "none.json"\n', "[[schema]] 1, definition_file", "cannot be read"),
        ("id = 1\n", f"id = 1\ndefinition = '''{GUARANTEES_2.definition.decode()}'''\n", "[[schema]] 1, id", "says 2"),
        ('name = "Bank B"', 'name = "Bank A"', "[[founder]] 2, name", "twice"),
        ('name = "Bank B"', 'name = ""', "[[founder]] 2, name", "empty"),
        ('name = "Bank B"', f'name = "{"é" * 33}"', "[[founder]] 2, name", "66 bytes"),
        ('name = "Bank B"', 'name = "Bank\\u0000B"', "[[founder]] 2, name", "do not print"),
        (BANK_B, BANK_A, "[[founder]] 2, owner", "belongs to founder 1"),
        (BANK_B, '"0x3c44"', "[[founder]] 2, owner", "no account"),
        (BANK_B, f'"0x{"0" * 40}"', "[[founder]] 2, owner", "no account"),
        (BANK_B, '"0x3C44CdDdB6a900fa2b585dd299e03d12FA4293Bc"', "[[founder]] 2, owner", "checksum"),
        ('name = "Bank D"', 'name = "Bank D"\nkey = "0x00"', "[[founder]] 4", "unknown entry 'key'"),
        ('name = "Bank D"', f'name = "Bank D"\noperator = {BANK_B}', "[[founder]] 4", "as version 1 did"),
    ],
)  # fmt: skip
def test_read_founding__entry_wrong__names_place_and_problem(changed, old, new, place, problem):
    path = changed(old, new)

    with pytest.raises(InvalidFile) as caught:
        read_founding(path)

    assert caught.value.place == f"{path}, {place}"
    assert problem in caught.value.problem
    assert caught.value.remedy


def test_read_founding__no_file_or_no_toml__says_so(tmp_path):
    (tmp_path / "bad.toml").write_text("name = ", encoding="utf-8")

    with pytest.raises(InvalidFile, match="no such file"):
        read_founding(tmp_path / "none.toml")
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_founding(tmp_path / "bad.toml")


def test_limits__here__are_those_of_the_contract():
    source = (ROOT / "contracts" / "Consortium.sol").read_text(encoding="utf-8")
    units = {"": 1, "hours": 3600, "days": 86_400}
    found = {
        name: int(number) * units[unit or ""]
        for name, number, unit in re.findall(r"constant ([A-Z_0-9]+) = (\d+)(?: (hours|days))?;", source)
    }

    assert found["MAXIMUM_MEMBERS"] == module.MAXIMUM_MEMBERS
    assert found["LEAST_COHORT"] == module.LEAST_COHORT
    assert found["LONGEST_NAME"] == module.LONGEST_NAME
    assert found["SHORTEST_TERM"] == module.SHORTEST_TERM
    assert found["MINIMUM_DELAY"] == module.MINIMUM_DELAY
    assert found["LONGEST_TERM"] == module.LONGEST_TERM


def test_ape_config__compiler_settings__are_those_of_tools_compile():
    compiler = (ROOT / "tools" / "compile.py").read_text(encoding="utf-8")
    ape = (ROOT / "ape-config.yaml").read_text(encoding="utf-8")

    for here, there in [
        (r'SOLC_VERSION = "([\d.]+)"', r"\n  version: ([\d.]+)\n"),
        (r'"evmVersion": "(\w+)"', r"\n  evm_version: (\w+)\n"),
        (r'"runs": (\d+)', r"\n  optimization_runs: (\d+)\n"),
    ]:
        assert re.search(here, compiler)[1] == re.search(there, ape)[1]


def test_example__every_entry__is_toml_that_any_reader_reads():
    assert set(tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))) <= module._TOP
