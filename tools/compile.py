#!/usr/bin/env python3
"""Compile the contracts into the artifacts that the package ships, so that a bank needs no compiler.

    python tools/compile.py                  write mpcredit/artifacts/ and, for the test harnesses, .build/artifacts/
    python tools/compile.py Consortium       only the named contracts (while another one does not compile yet)
    python tools/compile.py --check          compile again, compare with what ships, exit 1 and name each difference
    python tools/compile.py --sizes          as the first, and print the size of each contract's code

An artifact holds name, ABI, bytecode, the compiler with its settings, and the SHA-256 of each source it was made from.
The compiler is the npm package `solc` behind `tools/solc`; nothing is read from or written to HOME. The settings are in
this file and nowhere else; `ape-config.yaml` repeats those that ape can be given, and a test compares them.

Beside the artifacts stands `releases.json`: the hashes of the init codes of every release since version 2, oldest first.
The entry "unreleased" follows the sources. Whoever publishes a release writes its version there, and from then on that
entry stays: members of consortiums that were founded with it compare with it (R37.1).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
SHIPPED = ROOT / "mpcredit" / "artifacts"
HARNESSES = ROOT / ".build" / "artifacts"
COMPILERS = ROOT / ".build" / "solcx"
RELEASES = SHIPPED / "releases.json"
UNRELEASED = "unreleased"
CREATED = ("Consortium", "JointCredit")

SOLC_VERSION = "0.8.37"
SETTINGS: dict[str, Any] = {
    # The clients that consortia run (GoQuorum, Besu) need not have more than the rules of London.
    "evmVersion": "london",
    "optimizer": {"enabled": True, "runs": 200},
    # The code then depends on what the sources say, not on their comments, and so does the hash that members approve.
    "metadata": {"bytecodeHash": "none"},
}
# EIP-170: no chain that keeps to Ethereum's rules takes more.
CODE_LIMIT = 24_576


def provide_solc() -> Path:
    """Put the shim where py-solc-x and ape look for this compiler, and tell them; return the executable."""
    if not (ROOT / "node_modules" / "solc").is_dir():
        raise SystemExit("tools/compile.py: node_modules/solc is missing (run: npm ci)")
    COMPILERS.mkdir(parents=True, exist_ok=True)
    link = COMPILERS / f"solc-v{SOLC_VERSION}"
    if not link.exists():
        # Test workers may come here at the same time, so the link is made under another name and moved.
        scratch = link.with_name(f"{link.name}.{os.getpid()}")
        scratch.symlink_to(os.path.relpath(ROOT / "tools" / "solc", COMPILERS))
        scratch.replace(link)
    os.environ["SOLCX_BINARY_PATH"] = str(COMPILERS)
    return link


def compile_contracts(names: list[str] | None = None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Compile; return the artifacts by path of their source ("Consortium.sol", "test/X.sol") and all warnings."""
    solc = provide_solc()
    import solcx
    from solcx.exceptions import SolcError

    files = sorted([*CONTRACTS.glob("*.sol"), *CONTRACTS.glob("test/*.sol")])
    files = [f for f in files if not names or f.stem in names]
    if missing := set(names or []) - {f.stem for f in files}:
        raise SystemExit(f"tools/compile.py: no such contract: {', '.join(sorted(missing))}")
    request = {
        "language": "Solidity",
        "sources": {f.relative_to(ROOT).as_posix(): {"content": f.read_text(encoding="utf-8")} for f in files},
        "settings": {
            **SETTINGS,
            "outputSelection": {"*": {"*": ["abi", "metadata", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
        },
    }
    try:
        answer = solcx.compile_standard(request, base_path=ROOT, solc_binary=solc)
    except SolcError as error:
        raise SystemExit(f"tools/compile.py: the contracts do not compile\n{error.message}") from None

    artifacts = {}
    for file in files:
        source = file.relative_to(ROOT).as_posix()
        for name, made in answer["contracts"].get(source, {}).items():
            if not made["evm"]["bytecode"]["object"]:
                continue  # an interface, or a library without code of its own
            metadata = json.loads(made["metadata"])
            place = file.relative_to(CONTRACTS).with_name(f"{name}.sol").as_posix()
            artifacts[place] = {
                "contractName": name,
                "abi": made["abi"],
                "bytecode": "0x" + made["evm"]["bytecode"]["object"],
                "deployedBytecode": "0x" + made["evm"]["deployedBytecode"]["object"],
                "compiler": {"version": metadata["compiler"]["version"], "settings": SETTINGS},
                "sources": {
                    path: hashlib.sha256((ROOT / path).read_bytes()).hexdigest() for path in sorted(metadata["sources"])
                },
            }
    warnings = [e["formattedMessage"].strip() for e in answer.get("errors", []) if e["severity"] == "warning"]
    return artifacts, warnings


def code_size(artifact: dict[str, Any]) -> int:
    """Bytes of code that stand on the chain."""
    return (len(artifact["deployedBytecode"]) - 2) // 2


def place_of(source: str) -> Path:
    """Where the artifact of a contract belongs."""
    folder = HARNESSES if source.startswith("test/") else SHIPPED
    return folder / f"{Path(source).stem}.json"


def is_fresh(artifact: dict[str, Any]) -> bool:
    """Whether the sources and settings are still those that the artifact was made from."""
    made_from = all(
        (ROOT / path).exists() and hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == digest
        for path, digest in artifact["sources"].items()
    )
    return made_from and artifact["compiler"]["settings"] == SETTINGS


def write(artifacts: dict[str, dict[str, Any]]) -> None:
    """Write each artifact, and the list of releases if all contracts of a release were compiled."""
    for source, artifact in artifacts.items():
        _put(place_of(source), artifact)
    if all(f"{name}.sol" in artifacts for name in CREATED):
        _put(RELEASES, with_present(read_releases(), artifacts))


def _put(place: Path, value: Any) -> None:
    """Write under a temporary name first: tests may read at the same time."""
    place.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    if place.exists() and place.read_text(encoding="utf-8") == text:
        return
    scratch = place.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(place)


def read_releases() -> list[dict[str, Any]]:
    """The list of releases as it stands; empty if there is none yet."""
    found: list[dict[str, Any]] = json.loads(RELEASES.read_text(encoding="utf-8")) if RELEASES.exists() else []
    return found


def with_present(releases: list[dict[str, Any]], artifacts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The list of releases with the init codes of the sources as the last ones; published entries stay as they are."""
    present: dict[str, Any] = {"release": UNRELEASED}
    for name in CREATED:
        code = bytes.fromhex(artifacts[f"{name}.sol"]["bytecode"][2:])
        present[name] = {"bytes": len(code), "keccak256": "0x" + keccak(code).hex()}
    published = [entry for entry in releases if entry["release"] != UNRELEASED]
    if published and all(published[-1][name] == present[name] for name in CREATED):
        return published
    return [*published, present]


def differences(artifacts: dict[str, dict[str, Any]]) -> list[str]:
    """Name each way in which what ships is not what the sources compile to."""
    found = []
    shipped = {source: artifact for source, artifact in artifacts.items() if not source.startswith("test/")}
    for source, artifact in shipped.items():
        place = place_of(source)
        name = place.relative_to(ROOT).as_posix()
        if not place.exists():
            found.append(f"{name}: missing")
            continue
        old = json.loads(place.read_text(encoding="utf-8"))
        for field in sorted(artifact.keys() | old.keys()):
            if field == "sources":
                before, now = old.get(field, {}), artifact[field]
                changed = sorted(p for p in before.keys() | now.keys() if before.get(p) != now.get(p))
                found += [f"{name}: {path} has changed since" for path in changed]
            elif artifact.get(field) != old.get(field):
                found.append(f"{name}: {field} differs from what the sources compile to")
    if read_releases() != with_present(read_releases(), artifacts):
        found.append(f"{RELEASES.relative_to(ROOT).as_posix()}: its last entry is not what the sources compile to")
    expected = {RELEASES, *(place_of(source) for source in shipped)}
    found += [
        f"{place.relative_to(ROOT).as_posix()}: no such contract"
        for place in sorted(SHIPPED.glob("*.json"))
        if place not in expected
    ]
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compile the contracts into the artifacts that the package ships.")
    parser.add_argument("names", nargs="*", metavar="CONTRACT", help="only these (default: all)")
    parser.add_argument("--check", action="store_true", help="compare with what ships instead of writing")
    parser.add_argument("--sizes", action="store_true", help="print the size of each contract's code")
    given = parser.parse_args(arguments)
    if given.check and given.names:
        parser.error("--check compares all contracts; name none")

    artifacts, warnings = compile_contracts(given.names)

    for warning in warnings:
        print(warning, file=sys.stderr)
    if given.sizes:
        for artifact in artifacts.values():
            print(f"{artifact['contractName']:24} {code_size(artifact):6} of {CODE_LIMIT} bytes")
    too_large = [a for s, a in artifacts.items() if not s.startswith("test/") and code_size(a) > CODE_LIMIT]
    for artifact in too_large:
        print(f"{artifact['contractName']}: {code_size(artifact)} bytes, the limit is {CODE_LIMIT}", file=sys.stderr)
    if given.check:
        found = differences(artifacts)
        for line in found:
            print(line, file=sys.stderr)
        if found:
            print("what ships is stale (run: python tools/compile.py)", file=sys.stderr)
        return 1 if found or warnings or too_large else 0
    write(artifacts)
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
