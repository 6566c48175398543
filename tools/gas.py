#!/usr/bin/env python3
"""Measure what whole transactions on JointCredit cost, under the rules of two forks.

    python tools/gas.py            measure and print
    python tools/gas.py --check    compare with tests/gas.json too; exit 1 and name each difference or broken limit
    python tools/gas.py --write    write tests/gas.json

Anvil runs each fork. Keys, ciphertexts, accounts and times are the same in every run, so the numbers are exact. The cohort
has five institutions. Where nothing else is said, an inquiry has one block and the lane was used before, as it is in all
but the first inquiries of a consortium; `open_fresh` takes a lane that nobody used.

`open` and `report` are measured for 1, 10 and 100 subjects, with bodies as long as mpcredit makes them: the proof of a real
key, one signed consent for each subject, and sealed subjects. `calldata` records their lengths, from which
`mpcredit.chain.gas.opening_gas` computes a bound; no measured opening may cost more.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "contract"))

from governance import DAY, period_key  # noqa: E402
from inquiries import Credit, Inquiry, credit_on, key  # noqa: E402
from nodes import GENESIS_TIME, AnvilChain  # noqa: E402

from mpcredit import keyproof, paillier, sealing  # noqa: E402
from mpcredit.chain.gas import opening_gas  # noqa: E402
from mpcredit.consent import NO_EVIDENCE, SCOPE_TOTALS, Consent, Purpose  # noqa: E402
from mpcredit.schema import FIGURES_1  # noqa: E402

RECORD = ROOT / "tests" / "gas.json"
FORKS = ("prague", "osaka")
BITS = (2048, 3072, 4096)
SUBJECTS = (1, 10, 100)
SEEDS = 4
# What a contribution, the last of a cohort too, may cost at most: docs/spec.md, section 9.
LIMITED = ("contribute", "contribute_last")
LIMITS = {
    "prague": {2048: 148_000, 3072: 201_000},
    "osaka": {2048: 168_000, 3072: 249_000},
}

Costs = dict[str, int]


# ---------------------------------------------------------------- bodies


@dataclass(frozen=True)
class Body:
    """What an inquiry about some subjects carries.

    Its parts have the lengths that mpcredit gives them, and random bytes that are the same in every run: mpcredit seals
    with randomness of its own, and zero bytes cost less than others.
    """

    blocks: int
    opening: dict[str, Any]
    """Those values of an opening that depend on key and subjects."""
    report: bytes

    @classmethod
    def about(cls, credit: Credit, bits: int, subjects: int) -> Body:
        """As `mpcredit.inquirer` makes it for so many subjects."""
        blocks = FIGURES_1.blocks(subjects, bits)
        consents = [signed_consent(credit, i) for i in range(subjects)]
        sealed, commitment = sealing.seal_subjects(
            sealing.SubjectList(
                FIGURES_1.id, "TWD", Purpose.NEW_CREDIT, tuple(sealing.SubjectEntry(c.tag, c) for c in consents)
            ),
            q0=bytes(32),
            inquirer=0,
            wraps={member: bytes(32) for member in range(1, 5)},
            supervisor_public=period_key(1),
        )
        report, _ = sealing.seal_report(
            [paillier.Opening(0, 1)] * blocks,
            inquiry=bytes(32),
            ctx=bytes(32),
            modulus_bytes=bits // 8,
            supervisor_public=period_key(1),
            salt=bytes(32),
        )
        source = random.Random(f"gas/body/{bits}/{subjects}")
        opening = {
            "keyProof": source.randbytes(len(key_proof(bits))),
            "consents": [source.randbytes(len(consent.hash)) for consent in consents],
            "sealedSubject": source.randbytes(len(sealed)),
            "subjectCommitment": source.randbytes(len(commitment)),
        }
        return cls(blocks, opening, source.randbytes(len(report)))


@cache
def key_proof(bits: int) -> bytes:
    """The proof of some key."""
    return keyproof.prove(paillier.generate(bits))


def signed_consent(credit: Credit, number: int) -> Consent:
    """A receipt that its customer signed, the longest kind."""
    return Consent(
        chain_id=credit.chain.backend.chain.chain_id,
        consortium=credit.council.address,
        inquirer=0,
        tag=number.to_bytes(32, "big"),
        tag_key_version=1,
        purpose=Purpose.NEW_CREDIT,
        scope=SCOPE_TOTALS,
        valid_from=GENESIS_TIME,
        valid_until=GENESIS_TIME + 90 * DAY,
        evidence=NO_EVIDENCE,
        salt=bytes(32),
    ).sign(Ed25519PrivateKey.from_private_bytes(bytes(32)))


# ---------------------------------------------------------------- measuring


class Measured:
    """The costs under keys of one width, each the greatest that was seen, and the calldata of the openings."""

    def __init__(self, credit: Credit, bits: int) -> None:
        self.credit = credit
        self.bits = bits
        self.costs: Costs = {}
        self.calldata: dict[str, dict[str, int]] = {}
        credit.source = random.Random(f"gas/{bits}")
        for subjects in SUBJECTS:
            self.real(subjects)
        self.synthetic()

    def note(self, kind: str, receipt: dict[str, Any]) -> None:
        """Keep the greatest cost of a kind."""
        self.costs[kind] = max(self.costs.get(kind, 0), receipt["gas_used"])

    def real(self, subjects: int) -> None:
        """Inquiries with bodies as long as mpcredit makes them."""
        credit = self.credit
        body = Body.about(credit, self.bits, subjects)
        # (1) All lanes that were used are taken: by another member, so that no due time of bank 0 stands.
        held = [credit.inquiry(1) for _ in range(credit.read("lanes")[1])]
        fresh = self.open(f"open_fresh_{subjects}", body)
        fresh.refuse(1)
        # (2) The same lane again, and to the report.
        again = self.open(f"open_{subjects}", body).complete()
        self.note(f"report_{subjects}", again.report(body=body.report))
        for inquiry in held:
            inquiry.refuse(2)

    def open(self, kind: str, body: Body) -> Inquiry:
        """Open an inquiry."""
        inquiry = self.credit.inquiry(0, key(self.bits), body.blocks, **body.opening)
        data = self.credit.encoded("open", 0, tuple(inquiry.opening.values()))
        self.note(kind, inquiry.receipt)
        self.calldata[kind] = {"blocks": body.blocks, "bytes": len(data), "zeros": data.count(0)}
        return inquiry

    def synthetic(self) -> None:
        """Inquiries of one block over random bytes, each to one of its ends."""
        credit, bits = self.credit, self.bits
        for seed in range(SEEDS):
            inquiry = credit.inquiry(under=key(bits, seed))
            *others, last = inquiry.furnishers
            for bank in others:
                self.note("contribute", inquiry.contribute(bank))
            self.note("contribute_last", inquiry.contribute(last))
            inquiry.report()
            self.note("attest", inquiry.attest(True))
        self.note("refuse", credit.inquiry(under=key(bits)).refuse(1))
        inquiry = credit.inquiry(under=key(bits))
        inquiry.contribute(1)
        self.note("lapse", inquiry.lapse())
        credit.council.ready([2, 3, 4])
        self.note("expire", inquiry.expire())
        credit.council.ready([2, 3, 4])


def measure() -> dict[str, Any]:
    """What tests/gas.json holds: by fork and bits of n the costs, and by bits the calldata of the openings."""
    found: dict[str, Any] = {"calldata": {}}
    for fork in FORKS:
        with AnvilChain(fork) as chain:
            credit = credit_on(chain, 5)
            measured = {str(bits): Measured(credit, bits) for bits in BITS}
        found[fork] = {bits: dict(sorted(m.costs.items())) for bits, m in measured.items()}
        found["calldata"] = {bits: m.calldata for bits, m in measured.items()}
    return found


def bound(calldata: dict[str, int], bits: str, kind: str) -> int:
    """What the library computes for an opening with such calldata."""
    zeros = calldata["zeros"]
    return opening_gas(
        bytes(zeros) + b"\1" * (calldata["bytes"] - zeros),
        blocks=calldata["blocks"],
        modulus_bytes=int(bits) // 8,
        fresh_lane="fresh" in kind,
    )


# ---------------------------------------------------------------- judging


def limit(found: dict[str, Any], fork: str, bits: str, kind: str) -> int | None:
    """What a transaction of this kind may cost at most, if there is a limit."""
    if kind in LIMITED:
        return LIMITS[fork].get(int(bits))
    calldata = found["calldata"][bits].get(kind)
    return bound(calldata, bits, kind) if calldata else None


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str, int]]:
    """Fork, bits, kind and cost of everything measured."""
    for fork in FORKS:
        for bits, costs in found[fork].items():
            for kind, gas in costs.items():
                yield fork, bits, kind, gas


def table(found: dict[str, Any]) -> Table:
    """The costs beside the limits."""
    shown = Table("fork", "bits", "transaction", "gas", "limit", title="JointCredit, whole transactions")
    for column in shown.columns[3:]:
        column.justify = "right"
    for fork, bits, kind, gas in rows(found):
        most = limit(found, fork, bits, kind)
        style = "red" if most and gas > most else None
        shown.add_row(fork, bits, kind, f"{gas:,}", f"{most:,}" if most else "", style=style)
    return shown


def broken_limits(found: dict[str, Any]) -> list[str]:
    """Each transaction that costs more than it may."""
    return [
        f"{fork} {bits}: {kind} costs {gas:,}, the limit is {most:,}"
        for fork, bits, kind, gas in rows(found)
        if (most := limit(found, fork, bits, kind)) and gas > most
    ]


def differences(found: dict[str, Any]) -> list[str]:
    """Each number that is not the recorded one, on either side."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    measured, before = flat(found), flat(recorded)
    return [
        f"{' '.join(place)}: measured {measured.get(place)}, recorded {before.get(place)}"
        for place in sorted({*measured, *before})
        if measured.get(place) != before.get(place)
    ]


def flat(found: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """The values of nested objects by their path of names."""
    values: dict[tuple[str, ...], Any] = {}
    for name, value in found.items():
        below = {(): value} if not isinstance(value, dict) else flat(value)
        values.update({(name, *path): each for path, each in below.items()})
    return values


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what whole transactions on JointCredit cost.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with tests/gas.json")
    what.add_argument("--write", action="store_true", help="write tests/gas.json")
    given = parser.parse_args(arguments)

    found = measure()

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
