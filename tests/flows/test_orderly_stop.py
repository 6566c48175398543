"""A service that is told to stop switches itself off and answers what was opened over it until then (R28.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fakes
import pytest
from fakes import FakeTown, found_town, two_keys

from mpcredit.encoding import to_hex
from mpcredit.errors import KeyUnavailable
from mpcredit.events import Stage
from mpcredit.inquirer import RequestState
from mpcredit.institution import Institution, run, wind_down
from mpcredit.keystore import MemoryKeyStore
from mpcredit.roles.leaving import LONGEST_SECONDS

PERIOD = 60
BANK = 4


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    """Five institutions, ready; a period of readiness has just begun."""
    monkeypatch.setattr(fakes, "PERIOD", PERIOD)
    with two_keys(monkeypatch):
        made = found_town(5)
        made.chain.advance(PERIOD - made.chain.time % PERIOD - 1)
        assert made.chain.time % PERIOD == 0
        yield made


class Service:
    """A service that is stopping: each round takes five seconds, and the chain makes a block in each."""

    def __init__(self, town: FakeTown, index: int = BANK) -> None:
        self.town = town
        self.bank = town[index]
        self.lines: list[str] = []
        self.rounds = 0
        self.began = town.chain.time
        self.meanwhile: Callable[[int], None] = lambda _seconds: None

    def work(self) -> None:
        self.lines += self.bank.work()
        self.rounds += 1
        self.town.chain.advance(4)
        self.bank.sync()
        self.meanwhile(self.seconds)

    def stop(self, end: Callable[[], bool] = lambda: False) -> None:
        wind_down(self.bank, end=end, say=self.lines.append, work=self.work, clock=lambda: float(self.town.chain.time))

    @property
    def seconds(self) -> int:
        """How long it took so far."""
        return self.town.chain.time - self.began


def test_nothing_is_open__is_switched_off_and_ends_with_the_period(town: FakeTown) -> None:
    service = Service(town)

    service.stop()

    assert not town[BANK].desk.state.ready_next() >> BANK & 1
    assert not town[BANK].desk.state.ready(town.chain.time) >> BANK & 1
    assert PERIOD <= service.seconds < PERIOD + 10
    assert service.lines == [
        f"stopping: switched off first, answering for at most {LONGEST_SECONDS} s more",
        "switched readiness off",
    ]


def test_inquiry_opened_over_it_before_the_period_is_over__is_answered(town: FakeTown) -> None:
    service, requests = Service(town), list[str]()

    def meanwhile(seconds: int) -> None:
        if seconds >= 30 and not requests:
            requests.append(town.ask(1))
            town[0].work()

    service.meanwhile = meanwhile
    service.stop()

    inquiry = town.inquiry(requests[0])
    assert BANK in inquiry.cohort
    assert BANK in inquiry.contributions
    assert service.seconds < PERIOD + 10
    assert not [line for line in service.lines if "still waits" in line]


def test_inquiry_opened_in_the_next_period__is_over_the_others(town: FakeTown) -> None:
    service = Service(town)
    service.stop()
    request = town.ask(1)
    town.asleep.add(BANK)

    town.settle()

    assert town[0].inquirer.get(request).state is RequestState.ATTESTED
    assert town.inquiry(request).cohort == (0, 1, 2, 3)


class LostKeys:
    """A token that is away."""

    def __init__(self, keys: MemoryKeyStore) -> None:
        self._keys = keys

    def __getattr__(self, name: str) -> object:
        return getattr(self._keys, name)

    def institution_key(self, public: bytes) -> object:
        raise KeyUnavailable("the token does not answer")


def test_inquiry_that_it_cannot_answer__ends_after_150_seconds_and_names_it(town: FakeTown) -> None:
    request = town.ask(1)
    town[0].work()
    service = Service(town)
    town[BANK].desk.keys = LostKeys(town.keys[BANK])  # type: ignore[assignment]
    town[BANK].desk._pairs.clear()
    answering = service.work

    def work() -> None:
        try:
            answering()
        except KeyUnavailable:
            town.chain.advance(4)

    service.work = work  # type: ignore[method-assign]
    service.stop()

    inquiry = town.inquiry(request)
    assert inquiry.stage is Stage.OPEN
    assert LONGEST_SECONDS <= service.seconds < LONGEST_SECONDS + 10
    assert service.lines[-1] == f"inquiry {to_hex(inquiry.id)[:12]} still waits for this institution"
    assert not town[0].desk.state.ready_next() >> BANK & 1


def test_second_signal__ends_it_at_once_and_names_what_is_left(town: FakeTown) -> None:
    request = town.ask(1)
    town[0].work()
    service = Service(town)
    service.work = town[BANK].sync  # type: ignore[method-assign]

    service.stop(end=lambda: len(service.lines) > 0)

    assert service.seconds <= 5
    assert service.lines[-1] == f"inquiry {to_hex(town.inquiry(request).id)[:12]} still waits for this institution"


def test_told_to_end_at_once__does_nothing(town: FakeTown) -> None:
    service = Service(town)

    service.stop(end=lambda: True)

    assert (service.rounds, service.lines) == (0, [])
    assert town[BANK].desk.state.ready_next() >> BANK & 1


def test_supervisor__has_nothing_to_wind_down(town: FakeTown) -> None:
    def work() -> None:
        raise AssertionError("a round")

    wind_down(town.supervisor, end=lambda: False, say=lambda _line: None, work=work)


def test_own_requests__are_not_opened_any_more_and_say_so(town: FakeTown) -> None:
    request = town.ask(1, by=BANK)
    service = Service(town)

    service.stop()

    found = town[BANK].inquirer.get(request)
    assert (found.state, found.note) == (
        RequestState.WANTED,
        "the service is stopping; it is opened after the next start",
    )


def test_switched_by_hand__is_switched_off_all_the_same(town: FakeTown) -> None:
    town[BANK].membership.ready = False
    service = Service(town)

    service.stop()

    assert not town[BANK].desk.state.ready_next() >> BANK & 1


def test_started_again__switches_itself_on(town: FakeTown) -> None:
    Service(town).stop()
    old = town[BANK]
    town.banks[BANK] = Institution(
        ledger=town.chain,
        signer=old.desk.outbox.signer,
        store=old.desk.store,
        keys=old.desk.keys,
        tagger=town.tagger,
        book=town.books[BANK],
        policy=old.policy,
        pins=town.pins,
        clock=lambda: 0,
    )

    town.settle()

    assert town[0].desk.state.ready_next() >> BANK & 1


def test_run__told_to_stop__winds_down_by_itself(town: FakeTown) -> None:
    bank, lines, rounds = town[BANK], list[str](), list[int]()
    bank.idle = lambda: town.chain.advance(20)

    def stop() -> bool:
        rounds.append(1)
        return len(rounds) > 3

    run(bank, stop=stop, say=lines.append)

    bank.sync()
    assert lines[-1] == "switched readiness off"
    assert not bank.desk.state.ready(town.chain.time) >> BANK & 1
