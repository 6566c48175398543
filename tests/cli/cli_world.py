"""Names and checks that the tests of the commands share."""

from __future__ import annotations

from pathlib import Path

from parties import Done, Party

from mpcredit.chain import tester
from mpcredit.encoding import hex_bytes
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.orders import Kind, Orders
from mpcredit.server.people import People, User

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


class OrderDesk:
    """A party's server database, and the two people who order its votes or approvals."""

    def __init__(self, path: Path, kind: Kind) -> None:
        self.database = Database(f"sqlite:///{path}")
        self.database.upgrade()
        self.audit = AuditLog(self.database)
        people = People(self.database, self.audit)
        self.one: User = people.create("wang.jun", "Wang Jun", [kind.asks.value], by=None, why="test")
        self.two: User = people.create("li.na", "Li Na", ["reviewer"], by=None, why="test")
        self.orders = Orders(self.audit, kind)

    def ask(self, proposal: int, calls_hash: str, given: bool = True) -> int:
        """Wang Jun asks; the number of the order."""
        hash_ = hex_bytes(calls_hash, 32)
        return self.orders.ask(proposal, hash_, given, "read it", stands=not given, by=self.one).id

    def order(self, proposal: int, calls_hash: str, given: bool = True) -> int:
        """Wang Jun asks, Li Na confirms; the number of the order."""
        id = self.ask(proposal, calls_hash, given)
        self.orders.confirm(id, hex_bytes(calls_hash, 32), by=self.two)
        return id

    def told(self, proposal: int) -> list[tuple[str, str]]:
        """Who did what about a proposal, by the audit log."""
        return [(e.actor, e.action) for e in reversed(self.audit.search(about=f"proposal/{proposal}"))]
