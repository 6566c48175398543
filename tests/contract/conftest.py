"""People, places and the chain for the tests of the contracts.

Test harnesses are compiled when their sources are newer than what `.build` holds; the contracts that ship are taken from
the package as they are, and `python tools/compile.py --check` says whether those are stale.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
from eth_utils import to_checksum_address
from inquiries import Credit, Inquiry, Stage, credit_of_five
from onchain import Chain, Deployed, artifact

ROOT = Path(__file__).resolve().parents[2]
HARNESSES = ("BitmapHarness", "JointCreditStandIn", "ModMathHarness")


def _is_fresh(name: str) -> bool:
    """Whether the artifact of a harness was made from the sources as they are."""
    place = ROOT / ".build" / "artifacts" / f"{name}.json"
    if not place.exists():
        return False
    sources = json.loads(place.read_text(encoding="utf-8"))["sources"]
    return all(
        (ROOT / path).exists() and hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == digest
        for path, digest in sources.items()
    )


def _provide_harnesses() -> None:
    """Compile what is missing or stale."""
    stale = [name for name in HARNESSES if not _is_fresh(name)]
    if not stale:
        return
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import compile as compiler
    finally:
        sys.path.pop(0)
    artifacts, _ = compiler.compile_contracts(stale)
    compiler.write({source: made for source, made in artifacts.items() if source.startswith("test/")})


_provide_harnesses()


class Evm(Chain):
    """An in-process chain under Prague's rules with nothing on it."""

    def deploy(self, name: str) -> Deployed:
        """Create a contract whose constructor takes no arguments."""
        made = artifact(name)
        receipt = self.transact(self.accounts[0], "", bytes.fromhex(made["bytecode"][2:]))
        return Deployed(self, made["abi"], to_checksum_address(receipt["contract_address"]))


@pytest.fixture(scope="session")
def evm():
    return Evm()


@pytest.fixture
def credit():
    """The JointCredit of five institutions, Banks A to E, all ready."""
    with credit_of_five() as credit:
        yield credit


@pytest.fixture
def outsider(credit: Credit) -> str:
    return credit.council.outsider


@pytest.fixture
def regulator(credit: Credit) -> str:
    return credit.council.supervisor


@pytest.fixture
def open_inquiry(credit: Credit) -> Inquiry:
    """Bank A inquires; B, C, D and E are awaited."""
    return credit.inquiry()


@pytest.fixture
def complete_inquiry(open_inquiry: Inquiry) -> Inquiry:
    return open_inquiry.brought_to(Stage.COMPLETE)


@pytest.fixture
def reported_inquiry(open_inquiry: Inquiry) -> Inquiry:
    return open_inquiry.brought_to(Stage.REPORTED)
