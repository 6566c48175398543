#!/usr/bin/env python3
"""Static analysis of the contracts that ship; exit 1 at any finding.

    .build/venv-slither/bin/python tools/slither.py [CONTRACT...]

What is left out for all contracts stands below with its reason; what is left out at one place says so at that place.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ("Consortium", "JointCredit")
SETTINGS = "--evm-version london --optimize"
LEFT_OUT = {
    "assembly": "each block states why it is safe; the detector only counts them",
    "timestamp": "terms are minutes to days, the time of a block is off by seconds",
    "too-many-digits": "bitmaps, points and masks are what they are; the name of the constant is what is read",
}


def main(names: list[str]) -> int:
    # The folder of this file would hide the package of the same name.
    command = [sys.executable, "-P", "-m", "slither", "--compile-force-framework", "solc", "--solc", "tools/solc"]
    command += ["--solc-args", SETTINGS, "--exclude", ",".join(LEFT_OUT)]
    failed = []
    for name in names or CONTRACTS:
        done = subprocess.run(
            [*command, f"contracts/{name}.sol"], cwd=ROOT, check=False, capture_output=True, text=True
        )
        if done.returncode:
            failed.append(name)
            print(done.stdout + done.stderr, file=sys.stderr)
        else:
            print(done.stderr.strip().splitlines()[-1])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
