"""The orders without which the console of a party with a server neither votes (`server.votes`) nor approves.

An institution's vote takes the order of two people, a supervisor's approval that of a person with the role supervisor. A
party without a table [server] has nobody to order: there the owner account alone decides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mpcredit.cli._access import View
from mpcredit.cli._shared import server_missing
from mpcredit.config import Config
from mpcredit.encoding import to_hex
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


def approval_review(config: Config, read: View, proposal: int, given: bool, without: str | None) -> Callable[[], None]:
    """Look for the order of a supervisor's approval, or of taking it back.

    Args:
        without: the reason to do without an order; None: not without.

    Returns:
        To be called before it is sent; notes a missing order in the audit log.

    Raises:
        Refused: nobody ordered it, or it was ordered for other calls. InvalidMessage: there is no server to review.
    """
    calls_hash = read.follower.state.proposals[proposal].proposed.calls_hash
    if not config.served:
        if without is not None:
            raise InvalidMessage("this party has no server, and so no review", remedy="leave out --without-review")
        return lambda: None
    if without is not None:
        return lambda: _note_without_order(config, proposal, calls_hash, given, without)
    _check_order(read, proposal, calls_hash, given)
    return lambda: None


def _check_order(read: View, proposal: int, calls_hash: bytes, given: bool) -> None:
    orders = [value for _, value in read.store.items("approval-order") if value["proposal"] == proposal]
    page = f"the server's page /supervision/proposals/{proposal}"
    if not orders or orders[-1]["state"] != "ordered" or bool(orders[-1]["given"]) != given:
        word = "the approval" if given else "taking back the approval"
        raise Refused(
            f"nobody has ordered {word} of proposal {proposal}",
            remedy=f"a person with the role supervisor orders it on {page}; or give --without-review REASON, which the audit "
            "log tells",
        )
    if orders[-1]["calls_hash"] != to_hex(calls_hash):
        raise Refused(
            f"the calls of proposal {proposal} are not those that were approved on its page",
            remedy=f"read them on {page}, and order it anew",
        )


def _note_without_order(config: Config, proposal: int, calls_hash: bytes, given: bool, reason: str) -> None:
    try:
        from mpcredit.server.audit import AuditLog
        from mpcredit.server.database import open_database
        from mpcredit.server.settings import ServerSettings
        from mpcredit.server.votes import SHORTEST_REASON
    except ModuleNotFoundError as error:
        raise server_missing(error) from error
    if len(reason.strip()) < SHORTEST_REASON:
        raise Refused("an approval without review needs a reason", remedy="write it after --without-review")
    database = open_database(ServerSettings.load(config.path), create=False)
    try:
        word = "proposal.approved" if given else "proposal.approval_withdrawn"
        AuditLog(database).append(
            "console", word, f"proposal/{proposal}", reason.strip(), calls_hash=to_hex(calls_hash), reviewed=False
        )
    finally:
        database.close()
