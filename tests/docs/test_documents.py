"""What the documents say is compared with the program: versions, rules, links, names, commands, the library example."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mpcredit
from mpcredit import protocol
from mpcredit.chain.artifacts import init_codes, joint_credit
from mpcredit.disclosure import ADVICE, RefusalCode
from mpcredit.schema import FIGURES_1

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPEC = (ROOT / "docs/spec.md").read_text(encoding="utf-8")
DOCUMENTS = [path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if path.name != "LICENSE"]
SOURCES = [*ROOT.glob("mpcredit/**/*.py"), *ROOT.glob("contracts/**/*.sol"), *ROOT.glob("tests/**/*.py")]
RULES = set(re.findall(r"^- \*\*(R\d+)", SPEC, re.MULTILINE))
UNUSED = set(re.findall(r"^- \*\*(R\d+)\*\* Not used", SPEC, re.MULTILINE))
INVARIANTS = set(re.findall(r"^- \*\*(I\d+)\*\*", SPEC, re.MULTILINE))


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_versions__package_changelog_and_spec__are_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert project["version"] == mpcredit.__version__
    assert newest is not None
    assert newest.group(1) == mpcredit.__version__
    assert SPEC.startswith(f"# mpcredit specification, version {protocol.SPEC_VERSION}\n")
    source = (ROOT / "contracts/JointCredit.sol").read_text(encoding="utf-8")
    assert f'return "{protocol.SPEC_VERSION}";' in source
    assert any(entry.get("name") == "version" for entry in joint_credit().abi)


def test_release_list__of_a_published_version__names_it() -> None:
    if "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        return

    assert "unreleased" not in {code.release for code in init_codes()}, "write the version into releases.json"


def test_rules__are_numbered_without_gaps() -> None:
    assert {f"R{number}" for number in range(1, 43)} == RULES
    assert {f"I{number}" for number in range(1, 15)} == INVARIANTS


def test_rules_cited_in_code__exist() -> None:
    cited = {
        (name, rule)
        for path in SOURCES
        for name, rule in [(path.name, found) for found in re.findall(r"\b(R\d+)\b", path.read_text(encoding="utf-8"))]
    }

    assert {(name, rule) for name, rule in cited if rule not in RULES - UNUSED} == set()


def test_every_rule__is_cited_by_code_and_by_a_test() -> None:
    def cited(paths: list[Path]) -> set[str]:
        return {rule for path in paths for rule in re.findall(r"\b(R\d+)\b", path.read_text(encoding="utf-8"))}

    code = cited([path for path in SOURCES if "tests" not in path.relative_to(ROOT).parts])
    tests = cited([path for path in SOURCES if "tests" in path.relative_to(ROOT).parts])

    assert RULES - UNUSED - code == set()
    assert RULES - UNUSED - tests == set()


def test_refusal_codes__are_those_of_the_spec() -> None:
    table = dict(re.findall(r"^\| (\d+) \| ([A-Z]+) \|", SPEC, re.MULTILINE))

    assert {int(code): name for code, name in table.items()} == {code.value: code.name for code in RefusalCode}
    assert set(ADVICE) == set(RefusalCode)


def test_schema_1__is_the_one_of_the_spec() -> None:
    assert f"{FIGURES_1.record_bits} bits, {FIGURES_1.records_per_block(3072)} subjects a block at 3072 bits" in SPEC


def test_public_names__are_sorted_and_there() -> None:
    assert list(mpcredit.__all__) == sorted(mpcredit.__all__)
    for name in mpcredit.__all__:
        assert hasattr(mpcredit, name)


@pytest.mark.parametrize("path", sorted(ROOT.glob("mpcredit/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_module__says_its_rule_first_and_exports_what_exists(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert ast.get_docstring(tree), "the first lines say what the file is for and what it leaves to others"
    if path.name.startswith("__main__") or "migrations" in path.parts:
        return  # run by themselves, not imported
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    for exported in getattr(module, "__all__", []):
        assert hasattr(module, exported), exported


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links__lead_to_something(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (path.parent / target).exists(), target


def test_tests_named_in_threats__exist() -> None:
    threats = (ROOT / "docs/threats.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"\btest_[a-z_]+\b", threats)):
        assert list(ROOT.glob(f"tests/**/{name}.py")), name


def test_tests_named_in_mutants__exist() -> None:
    written = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/*/test_*.py"))
    for name in set(re.findall(r"\btest_\w+__\w+", (ROOT / "docs/mutants.md").read_text(encoding="utf-8"))):
        assert f"def {name}(" in written, name


def test_make_targets_in_documents__exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for path in DOCUMENTS:
        for target in re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8")):
            assert target in targets, (path.name, target)


def test_library_example__of_the_readme_runs_as_written(tmp_path: Path) -> None:
    (example,) = [block for block in blocks(README, "python") if "local_consortium" in block]

    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "8 of 8 institutions" in done.stdout
    assert (tmp_path / "inquiry.json").exists()


def test_no_host_or_machine_path__is_in_the_project() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in {".md", ".py", ".toml", ".json", ".sol", ".txt", ".yaml", ".sh"} or path.name == "Makefile":
            text = path.read_text(encoding="utf-8")
            machine_root = "/" + "work" + "/"
            assert machine_root not in text, name


def test_names_of_test_files__are_unique() -> None:
    """pytest imports them by name."""
    names = [path.name for path in ROOT.glob("tests/**/*.py") if path.name != "conftest.py"]

    assert sorted(names) == sorted(set(names))
