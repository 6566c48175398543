"""The time line: what happened in order, whose move it is, since when, what would help; at each stage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import DAY, FakeTown, found_town, two_keys

from mpcredit.disclosure import ADVICE, RefusalCode
from mpcredit.events import Call, Stage
from mpcredit.state import Inquiry
from mpcredit.timeline import Timeline, timeline


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    """Five banks; the supervisor works only when a test says so."""
    with two_keys(monkeypatch):
        made = found_town(5)
        made.supervised = False
        yield made


def opened(town: FakeTown, *silent: int) -> str:
    """An inquiry of Bank A that all but the silent have answered."""
    town.asleep.update(silent)
    request = town.ask(1)
    town.settle()
    return request


def told(town: FakeTown, request: str) -> tuple[Inquiry, Timeline]:
    """The inquiry and its time line, as Bank A sees them now."""
    inquiry = town.inquiry(request)
    return inquiry, timeline(inquiry, now=town[0].follower.now)


def steps(line: Timeline) -> list[tuple[str, str]]:
    """Who did what."""
    return [(entry.who, entry.what) for entry in line.entries]


def test_open__the_silent_are_to_move_and_the_time_left_is_told(town: FakeTown) -> None:
    inquiry, line = told(town, opened(town, 2, 4))

    assert line.stage is Stage.OPEN
    assert line.turn == "Bank C, Bank E"
    left = inquiry.opened.deadline - town[0].follower.now
    assert f"{left} s are left" in line.advice
    assert steps(line) == [
        ("Bank A", "opened the inquiry over 5 institutions"),
        ("Bank B", "answered, 1 s later"),
        ("Bank D", "answered, 2 s later"),
    ]
    assert line.since == line.entries[-1].timestamp == inquiry.opened.at.timestamp + 2
    assert [entry.block for entry in line.entries] == sorted(entry.block for entry in line.entries)


def test_opened_without_a_member__says_who_was_not_ready(town: FakeTown) -> None:
    town.sleep(3)

    _inquiry, line = told(town, opened(town))

    assert line.entries[0].what == "opened the inquiry over 4 institutions; not ready: Bank D"


def test_deadline_passed__the_inquirer_may_end_it_or_they_still_answer(town: FakeTown) -> None:
    request = opened(town, 2)
    town.asleep.add(0)
    town.chain.advance(3_600)

    _inquiry, line = told(town, request)

    assert line.turn == "Bank A"
    assert line.advice == "the deadline has passed without Bank C: Bank A may expire it, or they still answer"


def test_complete__the_inquirer_reports(town: FakeTown) -> None:
    request = opened(town, 2)
    town.asleep = {0}
    town.settle()

    _inquiry, line = told(town, request)

    assert line.stage is Stage.COMPLETE
    assert line.turn == "Bank A"
    assert "reports" in line.advice


def test_reported__the_supervisor_is_to_move(town: FakeTown) -> None:
    _inquiry, line = told(town, opened(town))

    assert line.stage is Stage.REPORTED
    assert line.turn == "the supervisor"
    assert steps(line)[-1] == ("Bank A", "opened the totals and reported them to the supervisor")


def test_valid__nothing_is_to_be_done(town: FakeTown) -> None:
    request = opened(town)
    town.supervised = True
    town.settle()

    _inquiry, line = told(town, request)

    assert (line.stage, line.turn) == (Stage.VALID, "")
    assert line.advice == "nothing: it is complete and verified"
    assert steps(line)[-1] == ("the supervisor", "found it valid")


def test_void__the_culprits_are_named(town: FakeTown) -> None:
    request = opened(town, 2)
    inquiry = town.inquiry(request)
    arguments = (inquiry.id, town.supervisor_owner.address, False, 0b01010, bytes(32), bytes(32))
    town.supervisor.outbox.post("attest", Call(inquiry.joint_credit, "attest", arguments))

    _inquiry, line = told(town, request)

    assert (line.stage, line.turn) == (Stage.VOID, "")
    assert steps(line)[-1] == ("the supervisor", "found it void; named: Bank B, Bank D")
    assert line.advice == "Bank B, Bank D are suspended; ask again over the remaining institutions"


def test_void__that_names_nobody__says_so(town: FakeTown) -> None:
    request = opened(town, 2)
    inquiry = town.inquiry(request)
    arguments = (inquiry.id, town.supervisor_owner.address, False, 0, bytes(32), bytes(32))
    town.supervisor.outbox.post("attest", Call(inquiry.joint_credit, "attest", arguments))

    _inquiry, line = told(town, request)

    assert steps(line)[-1] == ("the supervisor", "found it void; named: nobody")
    assert line.advice == "it names nobody: the supervisor can say why; then ask again"


@pytest.mark.parametrize("code", list(RefusalCode))
def test_refused__each_code_has_its_advice(town: FakeTown, code: RefusalCode) -> None:
    request = opened(town, 2)
    town.signer(2).transact(town.call("refuse", town.inquiry(request).id, 2, int(code), b""))

    _inquiry, line = told(town, request)

    assert (line.stage, line.turn) == (Stage.REFUSED, "")
    assert steps(line)[-1] == ("Bank C", f"refused with code {int(code)}")
    assert line.advice == ADVICE[code]


def test_refused_with_a_code_of_a_newer_version__says_so(town: FakeTown) -> None:
    request = opened(town, 2)
    town.signer(2).transact(town.call("refuse", town.inquiry(request).id, 2, 200, b""))

    _inquiry, line = told(town, request)

    assert "may run a newer version" in line.advice


def test_expired__the_silent_must_start_their_service(town: FakeTown) -> None:
    request = opened(town, 2, 3)
    town.chain.advance(DAY)
    town.settle()

    _inquiry, line = told(town, request)

    assert (line.stage, line.turn) == (Stage.EXPIRED, "")
    assert steps(line)[-1] == ("the ledger", "ended it at its deadline; silent: Bank C, Bank D")
    assert line.advice == (
        "Bank C, Bank D must start its service, which switches itself on; ask again then: those that answered do so again "
        "only over a cohort with it"
    )


def test_expired__nobody_had_answered__no_cohort_is_owed(town: FakeTown) -> None:
    request = opened(town, 1, 2, 3, 4)
    town.chain.advance(DAY)
    town.settle()

    _inquiry, line = told(town, request)

    assert line.advice.endswith("must start its service, which switches itself on; ask again")
    assert line.advice.startswith("Bank B, Bank C, Bank D, Bank E must start its service")


def test_every_refusal_code__has_advice() -> None:
    assert set(ADVICE) == set(RefusalCode)
