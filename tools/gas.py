#!/usr/bin/env python3
"""Measure what whole transactions on JointCredit cost, under the rules of two forks.

    python tools/gas.py            measure and print
    python tools/gas.py --check    compare with tests/gas.json too; exit 1 and name each difference or broken limit
    python tools/gas.py --write    write tests/gas.json

Anvil runs each fork; keys, ciphertexts, accounts and times are the same in every run, so the numbers are exact. The cohort
is five institutions, an inquiry has one block, `open` carries a 2,048-byte key proof and 600 bytes of sealed subject.
Where nothing else is said, the lane was used before, as it is in all but the first inquiries of a consortium.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "contract"))

from governance import Council, artifact  # noqa: E402
from inquiries import Credit, key  # noqa: E402
from nodes import AnvilChain  # noqa: E402

RECORD = ROOT / "tests" / "gas.json"
FORKS = ("prague", "osaka")
BITS = (2048, 3072, 4096)
SEEDS = 4
# What a contribution, the last of a cohort too, may cost at most: docs/spec.md.
LIMITED = ("contribute", "contribute_last")
LIMITS = {
    "prague": {2048: 147_000, 3072: 200_000},
    "osaka": {2048: 167_000, 3072: 248_000},
}

Costs = dict[str, int]


def measure(fork: str) -> dict[str, Costs]:
    """The costs of each kind of transaction, by bits of n."""
    with AnvilChain(fork) as chain:
        code = bytes.fromhex(artifact("JointCredit")["bytecode"][2:])
        council = Council(chain, joint_credit=code).deploy().found(5)
        council.ready(range(5))
        credit = Credit(council)
        return {str(bits): measure_width(credit, bits) for bits in BITS}


def measure_width(credit: Credit, bits: int) -> Costs:
    """The costs under keys of one width; each the greatest that was seen."""
    costs: Costs = {}

    def note(kind: str, receipt: dict) -> None:
        costs[kind] = max(costs.get(kind, 0), receipt["gas_used"])

    credit.source = random.Random(f"gas/{bits}")

    # (1) A lane that nobody used: all others are taken.
    held = [credit.inquiry(under=key(bits)) for _ in range(credit.read("lanes")[1])]
    fresh = credit.inquiry(under=key(bits))
    note("open_fresh", fresh.receipt)
    note("refuse", fresh.refuse(1))
    for inquiry in held:
        inquiry.refuse(1)

    # (2) Inquiries to their verdict, on that lane.
    for seed in range(SEEDS):
        inquiry = credit.inquiry(under=key(bits, seed))
        note("open", inquiry.receipt)
        *others, last = inquiry.furnishers
        for bank in others:
            note("contribute", inquiry.contribute(bank))
        note("contribute_last", inquiry.contribute(last))
        note("report", inquiry.report())
        note("attest", inquiry.attest())

    # (3) One that nobody completes.
    inquiry = credit.inquiry(under=key(bits))
    inquiry.contribute(1)
    note("expire", inquiry.expire())
    credit.council.ready(range(5))
    return dict(sorted(costs.items()))


def table(found: dict[str, dict[str, Costs]]) -> Table:
    """The costs beside the limits."""
    shown = Table("fork", "bits", "transaction", "gas", "limit", title="JointCredit, whole transactions, one block")
    for column in shown.columns[3:]:
        column.justify = "right"
    for fork, widths in found.items():
        for bits, costs in widths.items():
            for kind, gas in costs.items():
                limit = LIMITS[fork].get(int(bits)) if kind in LIMITED else None
                style = "red" if limit and gas > limit else None
                shown.add_row(fork, bits, kind, f"{gas:,}", f"{limit:,}" if limit else "", style=style)
            shown.add_section()
    return shown


def broken_limits(found: dict[str, dict[str, Costs]]) -> list[str]:
    """Each contribution that costs more than it may."""
    return [
        f"{fork} {bits}: {kind} costs {found[fork][str(bits)][kind]:,}, the limit is {limit:,}"
        for fork, limits in LIMITS.items()
        for bits, limit in limits.items()
        for kind in LIMITED
        if found[fork][str(bits)][kind] > limit
    ]


def differences(found: dict[str, dict[str, Costs]]) -> list[str]:
    """Each cost that is not the recorded one."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return [
        f"{fork} {bits}: {kind} costs {gas:,}, recorded is {recorded.get(fork, {}).get(bits, {}).get(kind)}"
        for fork, widths in found.items()
        for bits, costs in widths.items()
        for kind, gas in costs.items()
        if recorded.get(fork, {}).get(bits, {}).get(kind) != gas
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what whole transactions on JointCredit cost.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with tests/gas.json")
    what.add_argument("--write", action="store_true", help="write tests/gas.json")
    given = parser.parse_args(arguments)

    found = {fork: measure(fork) for fork in FORKS}

    Console().print(table(found))
    complaints = broken_limits(found)
    if given.check:
        complaints += differences(found)
    if given.write:
        RECORD.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for line in complaints:
        print(line, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
