"""Several endpoints of one ledger, used as one: `Endpoints` is a web3 provider that goes over to the next.

One endpoint is asked at a time, the first of the list that is fit. It is unfit while it does not answer, answers nonsense,
belongs to another chain, has not the Consortium at its address, is behind what was seen by too many blocks, or has
another block where one was seen that is deep enough to stand. Every change is told once; a better endpoint is tried again
after a while, less and less often.

What no single endpoint can show - that its history is the ledger's - is borne out by a second one: the same block at the
same height, and the same roster. If they differ, nothing that is read may be acted on, and a person has to look: nothing
here tells which of the two is right, and no majority is taken for the truth.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from web3 import HTTPProvider
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from mpcredit.encoding import keccak, to_hex
from mpcredit.errors import EndpointsDisagree, LedgerError, WrongLedger
from mpcredit.ports import Block

__all__ = ["BEHIND_BLOCKS", "COMPARE_SECONDS", "EndpointState", "Endpoints", "Tls", "is_private", "shown"]

log = logging.getLogger("mpcredit")

REQUEST_SECONDS: Final = 15.0
"""For one request to one endpoint: another one is waiting."""
BEHIND_BLOCKS: Final = 5
"""An endpoint may be so many blocks behind the newest that was seen."""
COMPARE_SECONDS: Final = 600.0
"""Between two comparisons of the endpoint in use with the others."""
COMPARE_AGAIN_SECONDS: Final = 15.0
"""After a comparison that failed, or could not be made."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
"""Before an unfit endpoint is tried again: doubled each time."""
SWEEP_SECONDS: Final = 2.0
"""With no endpoint fit, all are tried so often."""
CATCH_UP_SECONDS: Final = 60.0
"""So long an endpoint that is a few blocks behind the one before it is waited for; more blocks are never accepted."""
FRESH_SECONDS: Final = 30
"""An endpoint whose newest block is so young, by this computer's clock, does not lag: who shows more makes blocks up."""
STEADY_SECONDS: Final = 60.0
"""An endpoint that has served so long has a clean record again."""
BLOCKS_KEPT: Final = 512

_ROSTER = to_hex(keccak(b"roster()")[:4])


def shown(url: str) -> str:
    """A node's address without credentials or path, which may hold a key: for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or '?'}" + (f":{parts.port}" if parts.port else "")


def is_private(url: str) -> bool:
    """Whether nobody on the way can read or change what goes over a connection: https, or http that stays on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    try:
        return parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Tls:
    """How https connections to nodes and signers are made; by default they rest on what the machine trusts."""

    ca: Path | None = None
    """Certificates that the other side's must rest on, PEM."""
    certificate: Path | None = None
    """Our own, for mutual TLS, PEM."""
    key: Path | None = None
    """Its private key."""

    def options(self) -> dict[str, Any]:
        """For `requests`."""
        found: dict[str, Any] = {}
        if self.ca is not None:
            found["verify"] = str(self.ca)
        if self.certificate is not None:
            found["cert"] = (str(self.certificate), str(self.key)) if self.key else str(self.certificate)
        return found


@dataclass(frozen=True)
class EndpointState:
    """How an endpoint is, for people."""

    name: str
    state: str
    """in use, fit, untried, or unfit."""
    trouble: str
    """Why it is unfit."""
    block: int | None
    """The newest block that it has shown."""


@dataclass
class _Place:
    url: str
    ask: Callable[[RPCEndpoint, Any], RPCResponse]
    fit: bool = False
    """Looked at since it was last unfit."""
    trouble: str = ""
    wrong: bool = False
    """Unfit for good, as far as one can tell: another chain."""
    differs: bool = False
    """Unfit because it shows something else than was seen before: a witness none the less."""
    failures: int = 0
    retry_at: float = 0.0
    since: float = 0.0
    block: int | None = None

    @property
    def name(self) -> str:
        return shown(self.url)


@dataclass
class _Seen:
    """What has been seen of the ledger, by whatever endpoint."""

    best: int = -1
    by: str = ""
    at: float = 0.0
    blocks: OrderedDict[int, str] = field(default_factory=OrderedDict)
    """Hashes by height."""


class _Unfit(Exception):
    def __init__(self, why: str, *, wrong: bool = False, differs: bool = False) -> None:
        super().__init__(why)
        self.wrong = wrong
        self.differs = differs


class Endpoints(JSONBaseProvider):
    """A provider over several nodes. Threads may share it.

    Args:
        urls: of the nodes' JSON-RPC, the preferred one first; at least two.
        chain_id: what each must belong to.
        consortium: address at which each must have a contract; None before the deployment.
        genesis: hash of block 0; by default that of the first endpoint that answers.
        confirmations: blocks on top of a block before it stands.
        behind_blocks: how far an endpoint may be behind the newest block seen.
        compare_seconds: between two comparisons with another endpoint.
        timeout: seconds for one request to one endpoint.
        tls: how https connections are made.
        clock: seconds.
        wall: unix seconds of this computer, with which the age of a block is told.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        chain_id: int,
        consortium: str | None = None,
        genesis: str | None = None,
        confirmations: int = 0,
        behind_blocks: int = BEHIND_BLOCKS,
        compare_seconds: float = COMPARE_SECONDS,
        timeout: float = REQUEST_SECONDS,
        tls: Tls | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        for url in urls:
            if urlsplit(url).scheme not in ("http", "https"):
                raise LedgerError(
                    f"{shown(url)} is no http:// or https:// URL",
                    remedy="give the URLs of the nodes' JSON-RPC, for example http://127.0.0.1:8545",
                )
        if len(set(urls)) != len(urls) or not urls:
            raise LedgerError("an endpoint is named twice, or there is none", remedy="correct [ledger] endpoints")
        options = {"timeout": timeout, **(tls or Tls()).options()}
        self._places = [
            _Place(url, HTTPProvider(url, request_kwargs=options, exception_retry_configuration=None).make_request)
            for url in urls
        ]
        self._chain_id = chain_id
        self._consortium = consortium
        self._genesis = genesis.lower() if genesis else None
        self._depth = max(confirmations, behind_blocks)
        self._behind = behind_blocks
        self._compare_seconds = compare_seconds
        self._clock = clock
        self._wall = wall
        self._lock = threading.RLock()
        self._seen = _Seen()
        self._current = 0
        self._swept = -SWEEP_SECONDS
        self._compare_at = 0.0
        self._disagreement = ""
        self._alone = False
        self.generation = 0
        """Counts changes of endpoint: what was read under two generations does not belong together."""

    @property
    def endpoint_uri(self) -> str:
        """URL of the endpoint in use."""
        return self._places[self._current].url

    @property
    def disagreement(self) -> str:
        """What endpoints disagree about, empty if nothing is known of that."""
        return self._disagreement

    def states(self) -> list[EndpointState]:
        """How each endpoint is, in the order of the configuration; asks nothing."""
        with self._lock:
            return [
                EndpointState(
                    place.name,
                    ("in use" if index == self._current else "fit")
                    if place.fit
                    else "unfit"
                    if place.trouble
                    else "untried",
                    place.trouble,
                    place.block,
                )
                for index, place in enumerate(self._places)
            ]

    def examine(self) -> list[EndpointState]:
        """Look at every endpoint now, also at those that are unfit."""
        for place in self._places:
            self._look(place)
        return self.states()

    # ----------------------------------------------------------------- asking

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask the endpoint in use, and the next ones if it fails.

        Raises:
            WrongLedger: every endpoint belongs to another ledger.
            LedgerError: none is fit.
        """
        for _attempt in range(2 * len(self._places)):
            place = self._fit_place()
            try:
                answer = self._answer(place, method, params)
                self._judge(place, method, params, answer)
            except _Unfit as error:
                self._unfit(place, error)
                continue
            return answer
        raise self._none_fit()

    def tend(self) -> None:
        """Go back to a better endpoint that is fit again, if it is time to look."""
        now = self._clock()
        with self._lock:
            place = self._places[self._current]
            if place.fit and place.failures and now - place.since > STEADY_SECONDS:
                place.failures = 0
            better = [other for other in self._places[: self._current] if now >= other.retry_at]
        for other in better:
            if self._look(other):
                self._use(other, "is fit again")
                return

    def doubt(self, why: str) -> None:
        """The endpoint in use contradicts itself: take another one."""
        with self._lock:
            self._unfit(self._places[self._current], _Unfit(why))

    def _answer(self, place: _Place, method: str, params: Any) -> RPCResponse:
        try:
            answer = place.ask(RPCEndpoint(method), params)
        except Exception as error:
            # requests, urllib3, json and web3 raise dozens of types: none of them is a node's answer.
            names = {kind.__name__ for kind in type(error).__mro__}
            slow = names & {"Timeout", "TimeoutError", "ReadTimeout"}
            status = getattr(getattr(error, "response", None), "status_code", None)
            why = "does not answer in time" if slow else f"fails ({type(error).__name__})"
            if "SSLError" in names:
                why = "is not trusted, or wants a client certificate ([ledger] ca, client_certificate)"
            raise _Unfit(f"answers with HTTP status {status}" if status else why) from error
        if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
            raise _Unfit("gives answers that make no sense")
        return answer

    def _result(self, place: _Place, method: str, *params: Any) -> Any:
        answer = self._answer(place, method, list(params))
        if answer.get("error") is not None:
            error: Any = answer["error"]
            said = error.get("message") if isinstance(error, dict) else error
            raise _Unfit(f"refuses {method}: {str(said)[:100]}")
        return answer["result"]

    def _block(self, place: _Place, number: int | str) -> Block | None:
        found = self._result(place, "eth_getBlockByNumber", hex(number) if isinstance(number, int) else number, False)
        if found is None:
            return None
        try:
            return Block(int(found["number"], 16), bytes.fromhex(found["hash"][2:]), int(found["timestamp"], 16))
        except (KeyError, TypeError, ValueError) as error:
            raise _Unfit("shows a block that is none") from error

    # ----------------------------------------------------------------- which endpoint

    def _fit_place(self) -> _Place:
        with self._lock:
            place = self._places[self._current]
            if place.fit:
                return place
            now = self._clock()
            sweep = now - self._swept >= SWEEP_SECONDS
            if sweep:
                self._swept = now
            tried = [other for other in self._places if other.fit or sweep or now >= other.retry_at]
            for other in tried:
                if other.fit or self._look(other):
                    self._use(other, place.trouble or "is not fit")
                    return other
            raise self._none_fit()

    def _none_fit(self) -> LedgerError:
        said = "; ".join(f"{place.name} {place.trouble or 'is unfit'}" for place in self._places)
        if all(place.wrong for place in self._places):
            return WrongLedger(
                f"no endpoint belongs to the consortium's ledger: {said}",
                remedy="correct [ledger] endpoints, chain_id and consortium in the configuration",
            )
        return LedgerError(
            f"no endpoint of the ledger is fit: {said}",
            remedy="start a node, or add one that works to [ledger] endpoints; it is tried again by itself",
        )

    def _use(self, place: _Place, why: str) -> None:
        with self._lock:
            index = self._places.index(place)
            if index == self._current and self.generation:
                return
            before = self._places[self._current]
            self._current = index
            self.generation += 1
            place.since = self._clock()
            if place is not before:
                reason = f"it {why}" if index < self._places.index(before) else f"{before.name} {why}"
                log.warning("the ledger is read from %s now: %s", place.name, reason)
                self._compare_at = 0.0  # a stranger's word is borne out first

    def _unfit(self, place: _Place, error: _Unfit) -> None:
        with self._lock:
            now = self._clock()
            pause = LONGEST_PAUSE if error.wrong else min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(place.failures, 10))
            place.retry_at = now + pause
            place.failures += 1
            if place.trouble != str(error):
                log.log(logging.ERROR if error.wrong else logging.WARNING, "endpoint %s %s", place.name, error)
            place.fit, place.trouble, place.wrong, place.differs = False, str(error), error.wrong, error.differs

    def _look(self, place: _Place) -> bool:
        """Whether an endpoint belongs to this ledger and is up with it."""
        try:
            self._check_identity(place)
            head = self._block(place, "latest")
            if head is None:
                raise _Unfit("has no blocks yet")
            self._check_height(place, head.number)
            self._check_history(place, head)
        except _Unfit as error:
            self._unfit(place, error)
            return False
        with self._lock:
            place.fit, place.trouble, place.wrong, place.block = True, "", False, head.number
        return True

    def _check_identity(self, place: _Place) -> None:
        try:
            chain_id = int(self._result(place, "eth_chainId"), 16)
        except (TypeError, ValueError) as error:
            raise _Unfit("has no chain id") from error
        if chain_id != self._chain_id:
            raise _Unfit(f"belongs to chain {chain_id}, not {self._chain_id}", wrong=True)
        first = self._block(place, 0)
        genesis = None if first is None else to_hex(first.hash)
        with self._lock:
            self._genesis = self._genesis or genesis
        if genesis != self._genesis:
            raise _Unfit(f"has another first block ({genesis}) than {self._genesis}", wrong=True)
        if self._consortium is not None:
            code = self._result(place, "eth_getCode", self._consortium, "latest")
            if not isinstance(code, str) or len(code) <= 2:
                raise _Unfit(f"has no contract at the Consortium's address {self._consortium}", wrong=True)

    def _check_height(self, place: _Place, number: int, *, wait: bool = False) -> None:
        """A head far below what was seen is an endpoint that lags, or shows a history that is cut off."""
        with self._lock:
            place.block = number
            seen, now = self._seen, self._clock()
            if number >= seen.best or (place.url == seen.by and seen.best - number <= self._behind):
                seen.best, seen.by, seen.at = number, place.url, now
            elif seen.best - number > self._behind:
                why = f"is at block {number}, {seen.best - number} behind the newest that was seen"
                raise _Unfit(why, differs=True)
            elif wait and now - seen.at <= CATCH_UP_SECONDS:
                raise LedgerError(
                    f"{place.name} is at block {number}, block {seen.best} was seen before",
                    remedy="it is waited for until it has caught up",
                )

    def _check_history(self, place: _Place, head: Block) -> None:
        """A block that was seen, deep enough to stand, must be there."""
        with self._lock:
            top = min(head.number, self._seen.best) - self._depth
            number = max((height for height in self._seen.blocks if height <= top), default=None)
            known = self._seen.blocks.get(number) if number is not None else None
        if number is None:
            return
        found = self._block(place, number)
        if found is None or to_hex(found.hash) != known:
            raise _Unfit(f"has another block {number} than was seen before", differs=True)

    def _judge(self, place: _Place, method: str, params: Any, answer: RPCResponse) -> None:
        """Learn from the blocks that pass through."""
        found: Any = answer.get("result")
        if method != "eth_getBlockByNumber" or not isinstance(found, dict):
            return
        try:
            number, block_hash = int(found["number"], 16), str(found["hash"])
        except (KeyError, TypeError, ValueError) as error:
            raise _Unfit("shows a block that is none") from error
        if params and params[0] == "latest":
            self._check_height(place, number, wait=True)
        with self._lock:
            blocks = self._seen.blocks
            blocks[number] = block_hash
            blocks.move_to_end(number)
            while len(blocks) > BLOCKS_KEPT:
                blocks.popitem(last=False)

    # ----------------------------------------------------------------- bearing out

    def witness(self, head: Block, roster: bytes, *, at_once: bool = False) -> None:
        """Have the other endpoints bear out a head and the roster at it; the first time, and then now and then.

        Args:
            at_once: whether or not it is time.

        Raises:
            EndpointsDisagree: one shows another ledger; said at every call until they agree.
            LedgerError: the endpoint in use is behind another; the next one is used.
        """
        now = self._clock()
        if now < self._compare_at and not at_once:
            if self._disagreement:
                raise self._refusal()
            return
        compared, disagreement = 0, ""
        here = self._places[self._current]
        for place in self._places:
            if place is here or (not place.fit and not place.differs and now < place.retry_at):
                continue
            try:
                self._check_identity(place)
                compared += self._compare(here, place, head, roster)
                with self._lock:
                    place.fit, place.trouble, place.wrong = True, "", False
            except _Unfit as error:
                self._unfit(place, error)
            except EndpointsDisagree as error:
                disagreement = error.message
        with self._lock:
            if disagreement and disagreement != self._disagreement:
                log.error("%s", disagreement)
            elif self._disagreement and not disagreement and compared:
                log.warning("the endpoints of the ledger agree again")
            if compared or disagreement:
                self._disagreement = disagreement
            if not compared and not disagreement and not self._alone:
                log.warning("only %s answers: nothing bears out the history that it shows", here.name)
            self._alone = not compared and not disagreement
            done = bool(compared) and not self._disagreement
            self._compare_at = now + (self._compare_seconds if done else COMPARE_AGAIN_SECONDS)
        if self._disagreement:
            raise self._refusal()

    def _refusal(self) -> EndpointsDisagree:
        return EndpointsDisagree(
            self._disagreement,
            remedy="nothing is answered until they agree. Ask the chain's operators, or compare with a block explorer or "
            "another member, which of the two is right; then take the other one out of [ledger] endpoints and restart",
        )

    def _compare(self, here: _Place, there: _Place, head: Block, roster: bytes) -> bool:
        """Whether another endpoint bore it out; False if that cannot be told now, for example at a fork of the tip."""
        newest = self._block(there, "latest")
        if newest is None:
            raise _Unfit("has no blocks yet")
        there.block = newest.number
        # (0) Who is far behind lags, or the other one makes blocks up: whose newest block is young does not lag.
        mine = head
        if newest.number - head.number > self._behind:
            mine = self._block(here, "latest") or head  # the work since it was read took time
        apart = newest.number - mine.number
        first, last = sorted((mine, newest), key=lambda block: block.number)
        if abs(apart) > self._behind and self._wall() - first.timestamp <= FRESH_SECONDS:
            short, long = (here, there) if apart > 0 else (there, here)
            raise EndpointsDisagree(
                f"the endpoints {here.name} and {there.name} show different ledgers: {short.name} ends with block "
                f"{first.number}, which is new, and {long.name} shows {last.number - first.number} blocks more"
            )
        if apart > self._behind:
            with self._lock:
                seen = self._seen
                seen.best, seen.by, seen.at = max(seen.best, newest.number), there.url, self._clock()
                self._unfit(here, _Unfit(f"is at block {mine.number}, {apart} behind {there.name}", differs=True))
            raise LedgerError(f"{here.name} shows {apart} blocks less than {there.name}", remedy="the next one is used")
        # (1) The same height. The tips may differ for a moment; what is deep may not.
        height = min(head.number, newest.number)
        ours = head if height == head.number else self._block(here, height)
        theirs = self._block(there, height)
        if ours is None or theirs is None:
            return False
        if ours.hash != theirs.hash:
            deep = max(0, height - self._depth)
            one, other = self._block(here, deep), self._block(there, deep)
            if one is None or other is None or one.hash == other.hash:
                return False
            raise EndpointsDisagree(
                f"the endpoints {here.name} and {there.name} show different ledgers: block {deep} is "
                f"{to_hex(one.hash)} at the first and {to_hex(other.hash)} at the second"
            )
        if -apart > self._behind:
            raise _Unfit(f"is at block {newest.number}, {-apart} behind {here.name}", differs=True)
        # (2) The roster, which names all terms, members and keys: what the events of the one add up to, as the other has it.
        if self._consortium is None:
            return True
        request = {"to": self._consortium, "data": _ROSTER}
        said = self._result(there, "eth_call", request, hex(height))
        if said == to_hex(roster):
            return True
        if height != head.number and self._result(here, "eth_call", request, hex(height)) == said:
            return False  # it has changed since
        raise EndpointsDisagree(
            f"the endpoints {here.name} and {there.name} show different rosters or terms at block {height}: "
            f"{to_hex(roster)} and {str(said)[:66]}"
        )
