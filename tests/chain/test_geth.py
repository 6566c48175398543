"""The main job on go-ethereum itself, whose EVM owes nothing to those of the other tests; its gas is that of the reviewed file.

Geth is not part of the set-up: `make test-geth` builds it where there is Go, and `$MPCREDIT_GETH` names one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from web3 import Web3

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".build" / "geth" / "geth"
GETH = os.environ.get("MPCREDIT_GETH") or shutil.which("geth") or (str(BUILT) if BUILT.exists() else "")
GAS_LIMIT = 30_000_000
# PUBLIC: a key that go-ethereum's own tests use, and its account.
DEVELOPER = "0x71562b71999873db5b286df957af199ec94617f7"
DEVELOPER_KEY = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"
GAS_SPREAD = 150
"""Zero bytes are cheaper and ciphertexts are random: so far a contribution may be from the record."""

pytestmark = pytest.mark.skipif(
    not GETH, reason="no geth here: `make test-geth` builds one with Go, MPCREDIT_GETH names one"
)


def _genesis(directory: Path, fork: str) -> Path:
    """Geth's own developer genesis, without the forks after this one (it switches on drafts too)."""
    told = subprocess.run([GETH, "--dev", "dumpgenesis"], capture_output=True, text=True, check=True, timeout=60)
    genesis = json.loads(told.stdout)
    config = genesis["config"]
    later = {"osakaTime", "bpo1Time", "bpo2Time", "amsterdamTime", "bogotaTime"} - (
        {"osakaTime"} if fork == "osaka" else set()
    )
    genesis["config"] = {name: value for name, value in config.items() if name not in later}
    genesis["config"]["blobSchedule"]["osaka"] = config["blobSchedule"]["prague"]
    genesis["gasLimit"] = hex(GAS_LIMIT)
    genesis["alloc"][DEVELOPER.removeprefix("0x")] = {"balance": hex(10**27)}
    place = directory / "genesis.json"
    place.write_text(json.dumps(genesis))
    return place


@pytest.fixture(params=["prague", "osaka"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A network of one geth under the rules of a fork, a block a second: fork and URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, said = tmp_path / "data", tmp_path / "geth.log"
    init = [GETH, "init", "--datadir", str(data), str(_genesis(tmp_path, request.param))]
    subprocess.run(init, check=True, capture_output=True, timeout=60)
    with said.open("wb") as log:
        process = subprocess.Popen(
            [
                *(GETH, "--dev", "--datadir", str(data), "--dev.period", "1", "--miner.gaslimit", str(GAS_LIMIT)),
                *("--http", "--http.addr", "127.0.0.1", "--http.port", str(port), "--ipcdisable", "--port", "0"),
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 30
        while not Web3(Web3.HTTPProvider(url)).is_connected():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.1)
        yield request.param, url
    finally:
        process.terminate()
        process.wait(30)


def test_demo__on_geth__totals_are_the_clear_sums_and_gas_is_that_of_the_record(node: tuple[str, str]) -> None:
    fork, url = node
    command = [
        sys.executable,
        "-m",
        "mpcredit",
        "demo",
        "--chain",
        url,
        "--institutions",
        "5",
        "--subjects",
        "1",
        "--json",
    ]
    environment = {**os.environ, "MPCREDIT_FUNDING_KEY": DEVELOPER_KEY}

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for subject in found["subjects"]:
        assert subject["totals"] == subject["expected"]
    assert found["supervisor"] == {"verdict": "valid", "culprits": []}
    assert "geth" in Web3(Web3.HTTPProvider(url)).client_version.lower()
    record = json.loads((ROOT / "tests" / "gas.json").read_text())[fork]["3072"]
    *others, last = sorted(found["gas"]["contribute"])
    for gas in others:
        assert gas == pytest.approx(record["contribute"], abs=GAS_SPREAD)
    assert last == pytest.approx(record["contribute_last"], abs=GAS_SPREAD)
