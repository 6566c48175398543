"""How many blocks one furnisher needs for many inquiries at once, on Anvil with one block each second.

    python benchmarks/in_flight.py [--inquiries 50]

Inquiries are opened while the furnisher is asleep; then the chain goes over to one block a second and it wakes up.
"""

from __future__ import annotations

import argparse
import time

from mpcredit.consent import Consent, Purpose
from mpcredit.events import Parameters
from mpcredit.inquirer import RequestState
from mpcredit.local import DEFAULT_PARAMETERS, local_consortium

LANES = 30
"""Inquiries that one inquirer may have open (the contract permits 32)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inquiries", type=int, default=50)
    wanted = parser.parse_args().inquiries
    terms = Parameters(**{**vars(DEFAULT_PARAMETERS), "minimum_cohort": 3, "answer_seconds": 7_200})
    with local_consortium(4, bits=2048, chain="anvil", parameters=terms) as town:
        names = list(town.institutions)
        furnisher = town[names[-1]]
        town.asleep.update(names)
        subjects = list({s.canonical: s for book in town.books.values() for s in book.subjects()}.values())[:wanted]
        for place, subject in enumerate(subjects):
            bank = town[names[place // LANES]]
            bank.sync()
            consent = Consent.grant(subject, to=bank, purpose=Purpose.NEW_CREDIT, days=90, now=bank.follower.now)
            handle = bank.inquire([subject], consents=[consent], officer="li.wei")
            while handle.request.state is not RequestState.OPEN:
                bank.sync()
                bank.desk.outbox.drive(bank.follower.replays)
                bank.inquirer.step()
        anvil = town.chain.anvil
        assert anvil is not None
        anvil.do("evm_setAutomine", False)
        anvil.do("evm_setIntervalMining", 1)
        furnisher.sync()
        before, began = town.ledger.head().number, time.monotonic()

        def awaited() -> int:
            index = furnisher.index
            return sum(index in q.awaited and q.inquirer != index for q in furnisher.desk.state.inquiries.values())

        most = first = 0
        while awaited():
            furnisher.work()
            most = max(most, len(furnisher.desk.store.outbox_pending()))
            first = first or town.ledger.head().number
            furnisher.idle = lambda: time.sleep(0.2)
            furnisher.idle()
        rows = [row for row in town.stores[names[-1]].outbox_rows() if row.key.startswith("answer/")]
        blocks = sorted({row.block for row in rows if row.block is not None})
        print(
            f"{len(rows)} contributions in {len(blocks)} blocks ({blocks[0] - before} to {blocks[-1] - before} after the"
        )
        print(f"start), {time.monotonic() - began:.1f} s with making them; at most {most} seen under way after a round")


if __name__ == "__main__":
    main()
