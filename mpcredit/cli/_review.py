"""The order of two people without which the console of a party with a server does not vote (`server.votes`).

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
    from mpcredit.server.votes import VoteOrder, VoteOrders


class Review:
    """What the people of the server ordered about one proposal.

    Args:
        orders: None: this party has no server, and nothing is asked.
        without: the reason to vote without a second person; None: not without.

    Raises:
        Refused: nobody ordered it, or nobody confirmed; who must do what.
    """

    def __init__(
        self, orders: VoteOrders | None, read: View, proposal: int, in_favour: bool, without: str | None
    ) -> None:
        self._orders = orders
        self._read = read
        self._proposal = proposal
        self._in_favour = in_favour
        self._without = without
        self._hash = read.follower.state.proposals[proposal].proposed.calls_hash
        self._order: VoteOrder | None = None
        if orders is not None and without is None:
            self._order = orders.permitted(proposal, self._hash, in_favour)

    def by(self) -> str:
        """Whose order it is, for who is at the terminal; empty without one."""
        order = self._order
        if order is None:
            return ""
        second = f"{order.decided_by} confirmed" if order.reviewed else "without a second person"
        return f"{order.asked_by} asked ({order.reason}), {second}"

    def done(self, owner: str) -> int | None:
        """Note what the ledger shows already; the block of this order if it was sent and that was not noted.

        Args:
            owner: this institution's owner account.
        """
        if self._orders is None:
            return None
        from mpcredit.server.votes import own_votes

        follower = self._read.follower
        own = next((member.index for member in follower.state.members.values() if member.owner == owner), None)
        if own is None:  # the contract says so
            return None
        votes = own_votes(follower, own, self._proposal).get(self._proposal, [])
        self._orders.catch_up(self._proposal, self._hash, votes, by="console")
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
            order = self._orders.start_without_review(self._proposal, self._hash, self._in_favour, self._without)
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
def review(config: Config, read: View, proposal: int, in_favour: bool, without: str | None) -> Iterator[Review]:
    """What was ordered, of the server's database.

    Raises:
        Refused: see `Review`. StoreError: the database is not to be had. InvalidMessage: there is no server to review.
    """
    if not config.served:
        if without is not None:
            raise InvalidMessage("this party has no server, and so no review", remedy="leave out --without-review")
        yield Review(None, read, proposal, in_favour, None)
        return
    try:
        from mpcredit.server.audit import AuditLog
        from mpcredit.server.database import open_database
        from mpcredit.server.settings import ServerSettings
        from mpcredit.server.votes import VoteOrders
    except ModuleNotFoundError as error:
        raise server_missing(error) from error
    database = open_database(ServerSettings.load(config.path), create=False)
    try:
        yield Review(VoteOrders(AuditLog(database)), read, proposal, in_favour, without)
    finally:
        database.close()
