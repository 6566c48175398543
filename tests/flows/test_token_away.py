"""A token that fails in the middle of work (R13, R27, R31): the round ends, nobody is accused, and the next one goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from fakes import FakeTown, found_town, two_keys

from mpcredit.errors import KeyUnavailable
from mpcredit.events import Stage
from mpcredit.keystore import MemoryKeyStore
from mpcredit.pairkeys import AgreementKey
from mpcredit.server.node import SWITCH_OFF_AFTER, Node


class WeakToken:
    """A keystore whose X25519 works so many times and then not any more (`ports.Keys`, as far as it differs)."""

    def __init__(self, keys: MemoryKeyStore) -> None:
        self._keys = keys
        self.left = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._keys, name)

    def institution_key(self, public: bytes) -> AgreementKey:
        return WeakKey(self, self._keys.institution_key(public))


class WeakKey:
    """A key of a `WeakToken`."""

    def __init__(self, token: WeakToken, key: AgreementKey) -> None:
        self._token, self._key = token, key

    @property
    def public(self) -> bytes:
        return self._key.public

    def exchange(self, public: bytes) -> bytes:
        if self._token.left <= 0:
            raise KeyUnavailable("the token does not answer")
        self._token.left -= 1
        return self._key.exchange(public)


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    with two_keys(monkeypatch):
        yield found_town(4)


def test_supervisors_token__fails_at_every_place_in_turn__no_finding_no_gap_and_the_sums_hold(town: FakeTown) -> None:
    request = town.ask(1)
    token = WeakToken(town.supervisor_keys)
    town.supervisor.supervisor.keys = token  # type: ignore[assignment]
    town.supervisor.supervisor.audit._keys = token  # type: ignore[assignment]
    town.supervisor.supervisor._generation = -1  # as after a start: mask keys are read anew
    failures = 0

    for _ in range(60):
        # One exchange more is possible in each round than the last one used: it fails at the next place each time.
        for bank in town.banks:
            bank.work()
        token.left = 1
        try:
            town.supervisor.work()
        except KeyUnavailable:
            failures += 1
        if town.inquiry(request).stage is Stage.VALID:
            break

    assert town.inquiry(request).stage is Stage.VALID
    assert failures >= 8  # four mask key messages, the subjects, four contributions and the report
    assert town.supervisor.supervisor.findings == []
    verified = town.supervisor.supervisor.verified[town.inquiry(request).id]
    assert sorted(verified.records) == [0, 1, 2, 3]
    assert verified.totals is not None


def test_furnishers_token__away__holds_up_its_round_and_nothing_is_refused(town: FakeTown) -> None:
    request = town.ask(1)
    town[0].work()
    token = WeakToken(town.keys[2])
    desk = town[2].desk
    desk.keys = token  # type: ignore[assignment]
    desk._pairs.clear()

    with pytest.raises(KeyUnavailable):
        town[2].work()
    with pytest.raises(KeyUnavailable):  # whoever decides by what was seen must not decide without it: R27
        desk.remember()
    inquiry = town.inquiry(request)
    assert (inquiry.stage, inquiry.refusal) == (Stage.OPEN, None)

    token.left = 1000
    town.settle()
    assert town.inquiry(request).stage is Stage.VALID
    assert len(desk.remember()) == 1


def test_inquirers_token__away__the_request_waits_and_says_why(town: FakeTown) -> None:
    token = WeakToken(town.keys[0])
    town[0].desk.keys = token  # type: ignore[assignment]
    town[0].desk._pairs.clear()
    request = town.ask(1)

    with contextlib.suppress(KeyUnavailable):
        town[0].work()
    assert "does not answer" in town[0].inquirer.get(request).note

    token.left = 1000
    town.settle()
    assert town.inquiry(request).stage is Stage.VALID


def test_server__whose_token_is_away__says_so_switches_off_when_it_lasts_and_goes_on(town: FakeTown) -> None:
    now = [1_800_000_000.0]
    request = town.ask(1)
    town[0].work()
    token = WeakToken(town.keys[2])
    town[2].desk.keys = token  # type: ignore[assignment]
    town[2].desk._pairs.clear()
    node = Node(town[2], clock=lambda: now[0])

    node.round()
    assert (node.status().state, node.status().trouble) == ("held up", "the token does not answer")
    node.round()
    town[2].sync()
    assert town[2].membership.is_ready  # a hiccup is no reason
    now[0] += SWITCH_OFF_AFTER + 1
    node.round()
    town[2].sync()
    assert not town[2].membership.is_ready

    token.left = 1000
    for _ in range(3):
        node.round()
    assert node.status().state == "working"
    town.settle()
    assert town.inquiry(request).stage is Stage.VALID
