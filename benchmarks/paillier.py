"""Paillier beside phe, on this machine: `python benchmarks/paillier.py --bits 2048 3072`.

Times are medians of CPU time, in milliseconds; every result is checked before its time counts. phe neither checks nor
blinds what it decrypts; ours does. The column "reported" is not measured here: earlier figures of the project's
prototypes on a 2-core machine (November 2026), those of other libraries there, and FISCO-BCOS's own publication, for
orientation only. Libraries that keep a key for many encryptions reach 0.7 ms at 2048 bits with tables of powers (HEU,
pypaillier). A key of ours serves one inquiry of at most 16 blocks: too few for such a table.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gmpy2
from rich.console import Console
from rich.table import Table

from mpcredit import keyproof, paillier, sealing

try:
    import phe
except ImportError:
    phe = None

# Reported, not measured here: (bits, row) -> text.
REPORTED = {
    (2048, "encrypt"): "phe 8.59; FISCO-BCOS 30.07",
    (2048, "add"): "0.0045; phe 0.0081, FISCO-BCOS 0.251",
    (2048, "decrypt"): "2.43; phe 2.37, FISCO-BCOS 29.73",
    (2048, "key proof, prove"): "5.9",
    (2048, "key proof, verify"): "21.8",
    (2048, "opening, root only"): "0.7",
    (2048, "opening, verify"): "8.6",
    (3072, "encrypt"): "phe 26.5",
    (3072, "decrypt"): "7.5; phe 7.6",
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    """What is measured."""
    ours: float
    """Milliseconds."""
    theirs: float | None
    """Milliseconds of phe, where it has the same operation."""


def median_ms(work: Callable[[], Any], check: Callable[[Any], bool], seconds: float) -> float:
    """Time a call until `seconds` have passed, at least 3 times; every result is checked, outside the clock."""
    times: list[float] = []
    spent = 0.0
    while len(times) < 3 or spent < seconds:
        start = time.process_time()
        result = work()
        took = time.process_time() - start
        if not check(result):
            sys.exit("a result was wrong: nothing is reported")
        times.append(took)
        spent += took
    return 1000 * statistics.median(times)


def median_ms_of_many(work: Callable[[], Any], check: Callable[[Any], bool], seconds: float) -> float:
    """The same for calls of microseconds: batches of 200."""

    def batch() -> list[Any]:
        return [work() for _ in range(200)]

    return median_ms(batch, lambda results: all(map(check, results)), seconds) / 200


def measure(bits: int, seconds: float) -> list[Row]:
    """Measure everything at one size."""
    private = paillier.generate(bits)
    public = private.public
    n, n_squared = public.n, public.n_squared
    theirs = phe and phe.PaillierPublicKey(n)
    their_private = phe and phe.PaillierPrivateKey(theirs, private.p, private.q)
    m = secrets.randbelow(2**200)
    r = paillier.random_root(public)
    c = (1 + m * n) * pow(r, n, n_squared) % n_squared
    seed, ctx = secrets.token_bytes(32), secrets.token_bytes(32)

    def good_key(key: Any) -> bool:
        return bool(key.public.bits == bits and gmpy2.is_prime(key.p) and gmpy2.is_prime(key.q))

    def decrypts(c: int) -> bool:
        return paillier.decrypt(private, c) == m

    def row(name: str, ours: Any, check: Any, their: Any = None, their_check: Any = None, many: bool = False) -> Row:
        timer = median_ms_of_many if many else median_ms
        other = None
        if phe is not None and their is not None:
            other = timer(their, their_check or check, seconds)
        return Row(name, timer(ours, check, seconds), other)

    d = paillier.encrypt(public, 1, r=paillier.random_root(public))
    total = c * d % n_squared
    opening = paillier.open_ciphertext(private, c)
    proof = keyproof.prove(private)

    def proof_verifies(_: Any) -> bool:
        return all(
            pow(int.from_bytes(proof[i * bits // 8 : (i + 1) * bits // 8], "big"), n, n) == keyproof.challenge(n, i)
            for i in range(keyproof.ROOTS)
        )

    return [
        row(
            "generate a key",
            lambda: paillier.generate(bits),
            good_key,
            lambda: phe.generate_paillier_keypair(n_length=bits),
            lambda pair: pair[0].n.bit_length() == bits,
        ),
        row(
            "encrypt",
            lambda: paillier.encrypt(public, m, r=r),
            lambda x: x == c,
            lambda: theirs.raw_encrypt(m),
            decrypts,
        ),
        row(
            "r of a block, from the seed",
            lambda: sealing.derived_roots(seed, ctx, 0, 1, public),
            lambda roots: len(roots) == 1 and gmpy2.gcd(roots[0], n) == 1,
            many=True,
        ),
        row(
            "add",
            lambda: paillier.add(public, c, d),
            lambda x: x == total,
            lambda: phe.EncryptedNumber(theirs, c, 0)._raw_add(c, d),
            many=True,
        ),
        row(
            "decrypt",
            lambda: paillier.decrypt(private, c),
            lambda x: x == m,
            lambda: their_private.raw_decrypt(c),
        ),
        row(
            "check a ciphertext",
            lambda: paillier.check_ciphertext(public, c),
            lambda x: x is None,
            many=True,
        ),
        row("check a modulus", lambda: paillier.check_modulus(n), lambda x: x is None),
        row("key proof, prove", lambda: keyproof.prove(private), lambda x: x == proof and proof_verifies(x)),
        row("key proof, verify", lambda: keyproof.verify(n, proof), lambda x: x is None and proof_verifies(x)),
        row("opening, root only", lambda: private.root(c % n), lambda r: r == opening.r),
        row("opening, decrypt, root and check", lambda: paillier.open_ciphertext(private, c), lambda o: o == opening),
        row(
            "opening, verify",
            lambda: paillier.verify_opening(public, c, opening),
            lambda x: x is None and (1 + opening.m * n) * pow(opening.r, n, n_squared) % n_squared == c,
        ),
        row(
            "take r^n off (supervisor)",
            lambda: paillier.open_with_root(public, c, r),
            lambda x: x.m == m,
        ),
    ]


def show(console: Console, bits: int, rows: list[Row]) -> None:
    """Print one table."""
    table = Table(title=f"Paillier, n of {bits} bits: CPU milliseconds, median, one core")
    table.add_column("operation")
    table.add_column("mpcredit", justify="right")
    table.add_column("phe here", justify="right")
    table.add_column("phe / mpcredit", justify="right")
    table.add_column("reported (not measured here)")
    for row in rows:
        ratio = f"{row.theirs / row.ours:.1f}x" if row.theirs else ""
        table.add_row(
            row.name,
            f"{row.ours:.4g}",
            "" if row.theirs is None else f"{row.theirs:.4g}",
            ratio,
            REPORTED.get((bits, row.name), ""),
        )
    console.print(table)


def main() -> None:
    """Read arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=int, nargs="+", default=[2048], help="sizes of n, multiples of 256")
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds for each line and library")
    arguments = parser.parse_args()
    console = Console(width=120)
    if phe is None:
        console.print("phe is not installed: pip install 'mpcredit[phe]' to compare")
    for bits in arguments.bits:
        show(console, bits, measure(bits, arguments.seconds))


if __name__ == "__main__":
    main()
