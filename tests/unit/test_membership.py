"""A member's standing duties: sealing its pair mask keys, and readiness (R11, R28)."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import DAY, FakeTown, found_town, sign_statement

from mpcredit.errors import MpcreditError, Refused
from mpcredit.events import Call, Change
from mpcredit.membership import Membership
from mpcredit.state import Pins

READY = 5 * DAY


@pytest.fixture
def town() -> FakeTown:
    """Four members, sealed, audited, ready."""
    return found_town(4)


def steps(town: FakeTown, index: int, beginning: str) -> list[str]:
    """Keys of outbox rows."""
    store: Any = town[index].desk.store
    return [row.key for row in store.outbox_rows() if row.key.startswith(beginning)]


def rotate(town: FakeTown, index: int) -> None:
    """A member registers its next key."""
    old = town[index].desk.member.key
    new = town.keys[index].create_institution_key(old.version + 1)
    signature = sign_statement(town.owners[index], index, old.version + 1, new.public, old.public)
    add_change(town, Change.KEY_SET, index, old.version + 1, new.public, signature)


def add_change(town: FakeTown, kind: Change, *values: Any) -> None:
    """A roster change in a block of its own."""
    from fakes import Transaction

    town.chain.advance(1)
    effect = town.chain.change(town.chain.fold(), kind, *values)
    town.chain.emit(town.chain.blocks[-1], [effect], Transaction("owner", Call("consortium", "change"), 0))


# --------------------------------------------------------------------- sealing


def test_founding__each_seals_all_its_pairs_in_one_transaction(town: FakeTown) -> None:
    for index in range(4):
        others = [i for i in range(4) if i != index]
        expected = "seal/" + ",".join(f"1/{other}/1/1" for other in others) + "/1"
        assert steps(town, index, "seal/") == [expected]
    assert len(town[0].desk.state.mask_keys) == 4


def test_nothing_new__nothing_is_sealed_again(town: FakeTown) -> None:
    assert [town[0].membership.step() for _ in range(3)] == [[], [], []]


def test_key_rotated__all_its_pairs_are_sealed_anew_by_both_ends(town: FakeTown) -> None:
    rotate(town, 2)
    town.settle()

    assert steps(town, 2, "seal/")[1:] == ["seal/2/0/1/1,2/1/1/1,2/3/1/1/1"]
    for index in (0, 1, 3):
        assert steps(town, index, "seal/")[1:] == ["seal/1/2/2/1/1"]
    assert town[0].desk.state.members[2].serving


def test_owner_not_pinned__its_pair_is_not_sealed(town: FakeTown) -> None:
    stranger = town[0]
    owners = {index: frozenset({town.owners[index].address}) for index in (0, 1, 3)}
    stranger.follower.use_pins(Pins(owners, town.pins.supervisors))
    rotate(town, 2)
    stranger.sync()

    assert stranger.membership.step() == []
    assert stranger.desk.state.members[2].key.version == 2

    stranger.follower.use_pins(town.pins)
    stranger.sync()
    assert stranger.membership.step() == ["sealed 1 mask keys to the supervisor"]


def test_supervisor_not_pinned__nothing_is_sealed() -> None:
    town = found_town(4, settle=False)
    bank = town[0]
    bank.follower.use_pins(Pins(town.pins.owners, frozenset()))
    bank.sync()

    assert bank.membership.step() == []
    assert steps(town, 0, "seal/") == []


def test_restart_between_sending_and_noting__is_not_sealed_a_second_time() -> None:
    town = found_town(4, settle=False)
    bank = town[0]
    town.chain.held = True
    bank.work()
    assert [row.state for row in bank.desk.store.outbox_pending()] == ["sent"]
    assert list(bank.desk.store.items("sealed")) == []

    again = Membership(bank.desk, ready_seconds=READY)
    assert again.step() == []
    town.chain.mine()
    bank.desk.outbox.drive()
    bank.sync()

    assert again.step() == ["sealed 3 mask keys to the supervisor"]
    assert len(steps(town, 0, "seal/")) == 1
    assert again.step() == []


def test_ledger_refuses_the_seals__the_rest_of_the_service_goes_on(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rotate(town, 1)
    town[0].sync()
    monkeypatch.setattr(town.chain, "_sealMaskKeys", refusing("NotMember"))

    assert town[0].membership.step() == []
    assert "did not take the mask keys" in caplog.text


# --------------------------------------------------------------------- readiness


def test_tag_key__the_newest_is_missing__readiness_is_withdrawn_until_it_is_here(town: FakeTown) -> None:
    town.succeed_tag_key(2)
    town.settle()
    bank = town[2]

    assert not bank.desk.member.ready_until
    assert "tag key of version 2 is not at hand" in bank.membership.why_not
    assert [town[i].membership.why_not for i in (0, 1, 3)] == [""] * 3
    assert bank.desk.state.cohort(0, bank.follower.now) == 0b1011

    bank.use_tagger(town.tagger, town.books[2])
    town.settle()
    assert bank.desk.member.ready_until > bank.follower.now
    assert bank.desk.state.cohort(0, bank.follower.now) == 0b1111


def test_ready__is_renewed_at_half_of_its_time(town: FakeTown) -> None:
    bank = town[0]
    first = bank.desk.member.ready_until
    assert first > bank.follower.now + READY // 2

    town.chain.advance(READY // 2 - DAY)
    bank.sync()
    assert bank.membership.step() == []

    town.chain.advance(2 * DAY)
    bank.sync()
    assert bank.membership.step() == ["declared ready"]
    bank.sync()
    assert bank.desk.member.ready_until == bank.follower.now - 1 + READY


def test_chain_that_stands_still__is_renewed_by_the_clock(town: FakeTown) -> None:
    bank = town[0]
    bank.follower.clock = lambda: bank.follower.now + 4 * DAY

    assert bank.membership.step() == ["declared ready"]


def test_not_serving__is_not_declared(town: FakeTown) -> None:
    rotate(town, 0)
    town.chain.advance(READY)
    town[0].sync()

    assert not town[0].desk.member.serving
    assert town[0].membership._ready() == []


def test_left_to_the_operator__is_not_declared(town: FakeTown) -> None:
    by_hand = Membership(town[0].desk, ready_seconds=0)
    town.chain.advance(READY)
    town[0].sync()

    assert by_hand.step() == []


def test_withdrawn_by_the_operator__is_not_renewed_until_declared_again(town: FakeTown) -> None:
    bank = town[0]
    bank.desk.store.put("meta", "readiness", {"held": True})
    assert bank.membership.declare(0) == ["withdrew readiness"]
    bank.sync()
    assert bank.desk.member.ready_until == 0
    assert bank.membership.step() == []

    bank.desk.store.put("meta", "readiness", {"held": False})
    assert bank.membership.step() == ["declared ready"]


def test_withdrawn_twice_within_one_second__both_are_sent(town: FakeTown) -> None:
    """The step is named by its nonce: named by the second, the later one would be taken for the earlier."""
    bank, clock = town[0], town.chain.time
    for until in (0, clock + DAY, 0):
        town.chain.time = clock  # blocks of one second
        bank.membership.declare(until)
        bank.sync()

    assert bank.desk.member.ready_until == 0
    assert len(steps(town, 0, "ready/0/")) == 2


def test_declaration_under_way__is_not_sent_a_second_time(town: FakeTown) -> None:
    bank = town[0]
    town.chain.advance(READY)
    bank.sync()
    town.chain.held = True

    assert bank.membership.step() == []
    town.chain.time += 1
    assert bank.membership.step() == []

    assert len(bank.desk.store.outbox_pending()) == 1


def test_ledger_refuses_the_declaration__the_operator_is_told_and_the_service_goes_on(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bank = town[0]
    town.chain.advance(READY)
    bank.sync()
    monkeypatch.setattr(town.chain, "_declareReady", refusing("ReadyTooLong"))

    assert bank.membership.step() == []
    assert "did not take the readiness" in caplog.text
    with pytest.raises(Refused, match="ReadyTooLong"):
        bank.membership.declare(2**31)


def test_account_of_no_member__says_who_must_act(town: FakeTown) -> None:
    bank = town[0]
    add_change(town, Change.OPERATOR_SET, 0, town.operators[0].address, False)
    bank.sync()

    with pytest.raises(MpcreditError, match="is no operator of a member"):
        bank.membership.step()


def test_invited_but_not_confirmed__does_nothing(town: FakeTown) -> None:
    bank = town[0]
    bank.desk.member.confirmed = False

    assert bank.membership.step() == []


def refusing(code: str) -> Any:
    """A rule of the contract that always refuses."""

    def rule(*_arguments: Any) -> Any:
        raise Refused(f"the contract refuses: {code}", code=code)

    return rule
