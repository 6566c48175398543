"""Names and checks that the tests of the commands share."""

from __future__ import annotations

from pathlib import Path

from parties import Done, Party

from mpcredit.chain import tester

URL = "https://embedded.test:8545"
DOWN = "http://127.0.0.1:9"
DEPLOYER = tester.deterministic_account(77)
POOR = tester.deterministic_account(78)


def refused(done: Done, status: int, *words: str, party: Party | None = None) -> None:
    """The command failed as it should: status, place and remedy named, nothing on standard output, no secret."""
    text = done.out + done.err
    assert done.status == status, text
    assert "Traceback" not in text
    lines = done.err.splitlines()
    assert any(line.startswith("error: ") for line in lines), text
    assert any(line.startswith("remedy: ") for line in lines), text
    for word in words:
        assert word in done.err, f"{word!r} is not in {done.err!r}"
    if party is not None:
        assert party.passphrase not in text
        assert party.owner_passphrase not in text


def listing(place: Path) -> dict[str, int]:
    """All files below a directory with their sizes: to see that nothing half was written."""
    return {
        str(path.relative_to(place)): path.stat().st_size
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", "-wal", "-shm"))
    }
