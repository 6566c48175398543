"""The order of two people without which the console of a party with a server neither votes nor approves (`server.orders`).

A party without a table [server] has nobody who could order: there the owner account alone decides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mpcredit.cli._access import View
from mpcredit.cli._shared import server_missing
from mpcredit.config import Config
from mpcredit.errors import InvalidMessage, Refused

if TYPE_CHECKING:  # the server's libraries, which may not be installed
    from mpcredit.server.orders import Order, Orders


class Review:
    """What the people of the server ordered about one proposal.

    Args:
        orders: None: this party has no server, and nothing is asked.
        without: the reason to send it without a second person; None: not without.

    Raises:
        Refused: nobody ordered it, or nobody confirmed; who must do what.
    """

    def __init__(self, orders: Orders | None, read: View, proposal: int, given: bool, without: str | None) -> None:
        self._orders = orders
        self._read = read
        self._proposal = proposal
        self._given = given
        self._without = without
        self._hash = read.follower.state.proposals[proposal].proposed.calls_hash
        self._order: Order | None = None
        if orders is not None and without is None:
            self._order = orders.permitted(proposal, self._hash, given)

    def by(self) -> str:
        """Who ordered it, for the person at the terminal; empty without an order."""
        order = self._order
        if order is None:
            return ""
        second = f"{order.decided_by} confirmed" if order.reviewed else "without a second person"
        return f"{order.asked_by} asked ({order.reason}), {second}"

    def done(self, owner: str) -> int | None:
        """Note what the ledger shows already; the block of this order if it was sent and that was not noted.

        Args:
            owner: this party's owner account.
        """
        if self._orders is None:
            return None
        from mpcredit.server.orders import own_steps

        follower = self._read.follower
        member = follower.state.by_owner(owner)
        steps = own_steps(follower, owner if member is None else member.index, self._proposal).get(self._proposal, [])
        self._orders.catch_up(self._proposal, self._hash, steps, by="console")
        if self._order is None:
            return None
        self._order = self._orders.get(self._order.id)
        return self._order.block if self._order.state == "done" else None

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Note that it is sent, before it is; and if the contract says no, that it was not.

        Raises:
            Refused: the order was cancelled meanwhile, or the reason is missing.
        """
        if self._orders is None:
            yield
            return
        if self._without is not None:
            order = self._orders.start_without_review(self._proposal, self._hash, self._given, self._without)
        else:
            assert self._order is not None
            order = self._orders.start(self._order)
        self._order = order
        try:
            yield
        except Refused as error:
            self._orders.not_sent(order, error.message)
            raise


@contextlib.contextmanager
def review(config: Config, read: View, proposal: int, given: bool, without: str | None) -> Iterator[Review]:
    """What was ordered, of the server's database.

    Raises:
        Refused: see `Review`. StoreError: the database is not to be had. InvalidMessage: there is no server to review.
    """
    if not config.served:
        if without is not None:
            raise InvalidMessage("this party has no server, and so no review", remedy="leave out --without-review")
        yield Review(None, read, proposal, given, None)
        return
    try:
        from mpcredit.server.audit import AuditLog
        from mpcredit.server.database import open_database
        from mpcredit.server.orders import APPROVAL, VOTE, Orders
        from mpcredit.server.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise server_missing(error) from error
    database = open_database(ServerSettings.load(config.path), create=False)
    try:
        orders = Orders(AuditLog(database), VOTE if config.role == "institution" else APPROVAL)
        yield Review(orders, read, proposal, given, without)
    finally:
        database.close()
