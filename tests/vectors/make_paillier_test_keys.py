"""Make tests/vectors/paillier_test_keys.json anew: PUBLIC keys for tests (they differ with each run).

Independent check: `python tests/vectors/make_paillier_test_keys.py --check` factors nothing, it tests primality with a
plain Miller-Rabin loop that shares no code with the package.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from mpcredit.paillier import generate, unsafe_generate_toy

FILE = Path(__file__).with_name("paillier_test_keys.json")
SIZES = (
    ("public-test-2048-a", 2048),
    ("public-test-2048-b", 2048),
    ("public-test-3072-a", 3072),
    ("toy-256", 256),
    ("toy-512", 512),
)


def probably_prime(n: int) -> bool:
    """Miller-Rabin with 30 random bases."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(30):
        x = pow(random.randrange(2, n - 1), odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def main() -> None:
    """Write or check the file."""
    if "--check" in sys.argv:
        for case in json.loads(FILE.read_text())["cases"]:
            p, q = int(case["p"], 16), int(case["q"], 16)
            assert all(probably_prime(factor) for factor in (p, q)), case["name"]
            assert (p * q).bit_length() == case["bits"], case["name"]
        return
    cases = []
    for name, bits in SIZES:
        key = generate(bits) if bits >= 2048 else unsafe_generate_toy(bits)
        cases.append({"name": name, "bits": bits, "p": hex(key.p), "q": hex(key.q)})
    document = {
        "version": 1,
        "warning": "PUBLIC TEST KEYS: the factors are published here, never use them for anything but tests",
        "origin": "made once by tests/vectors/make_paillier_test_keys.py",
        "cases": cases,
    }
    FILE.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
