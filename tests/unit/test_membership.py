"""A member's standing duties: sealing its pair mask keys, and readiness (R11, R28)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import PERIOD, FakeSigner, FakeTown, found_town, sign_naming, sign_statement

from mpcredit.cli._parties import member_of_account
from mpcredit.errors import MpcreditError, NodeRefused, Refused
from mpcredit.events import Call, Change
from mpcredit.membership import Membership
from mpcredit.tenure import member_index


@pytest.fixture
def town() -> FakeTown:
    """Four members, sealed, audited, ready."""
    return found_town(4)


def steps(town: FakeTown, index: int, beginning: str) -> list[str]:
    """Keys of outbox rows."""
    store: Any = town[index].desk.store
    return [row.key for row in store.outbox_rows() if row.key.startswith(beginning)]


def rotate(town: FakeTown, index: int, compromised: bool = False) -> None:
    """A member registers its next key."""
    old = town[index].desk.member.key
    new = town.keys[index].create_institution_key(old.version + 1)
    signature = sign_statement(town.owners[index], index, old.version + 1, new.public, old.public)
    add_change(town, Change.KEY_SET, index, old.version + 1, new.public, compromised, signature)


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
    serving = town[0].desk.state.serving_key(2)
    assert serving is not None
    assert serving.version == 2


def test_owner_not_pinned__its_pair_is_not_sealed(town: FakeTown) -> None:
    stranger = town[0]
    owners = {index: frozenset({town.owners[index].address}) for index in (0, 1, 3)}
    stranger.follower.use_pins(replace(town.pins, owners=owners))
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
    bank.follower.use_pins(replace(town.pins, supervisors=frozenset()))
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

    again = Membership(bank.desk)
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


def test_tag_key__the_newest_is_missing__readiness_is_off_until_it_is_here(town: FakeTown) -> None:
    town.succeed_tag_key(2)
    town.settle()
    bank = town[2]

    assert not bank.membership.is_ready
    assert "tag key of version 2 is not at hand" in bank.membership.why_not
    assert [town[i].membership.why_not for i in (0, 1, 3)] == [""] * 3
    town.chain.advance(PERIOD)
    assert town.chain.fold().cohort(0, town.chain.time) == 0b1011

    bank.use_tagger(town.tagger, town.books[2])
    town.settle()
    town.chain.advance(PERIOD)
    assert town.chain.fold().cohort(0, town.chain.time) == 0b1111


def ready(town: FakeTown, index: int) -> bool:
    """Whether a member would be in a cohort that opens now."""
    return bool(town.chain.fold().cohort(0, town.chain.time + 1) >> index & 1)


def test_serving__is_switched_on_once_and_from_the_next_period_on() -> None:
    town = found_town(4, settle=False)
    town.settle()
    at = max(event.at.timestamp for block in town.chain.blocks for event in block.events)
    state = town.chain.fold()

    assert state.ready(at) != 0b1111
    assert state.ready(at + PERIOD) == 0b1111
    assert [len(steps(town, i, "ready/")) for i in range(4)] == [1, 1, 1, 1]


def test_nothing_changed__nothing_is_sent_for_days(town: FakeTown) -> None:
    town.chain.advance(9 * 86_400)
    town[0].sync()

    assert town[0].membership.step() == []
    assert ready(town, 0)


def test_hindrance__switches_off_and_its_end_on_again(town: FakeTown) -> None:
    bank = town[0]
    bank.membership.hindrance = "the loan book is too old"
    assert bank.membership.step() == ["switched readiness off"]
    bank.sync()
    town.chain.advance(PERIOD)
    assert not ready(town, 0)
    assert bank.membership.step() == []

    bank.membership.hindrance = ""
    assert bank.membership.step() == ["switched readiness on"]
    town.chain.advance(PERIOD)
    assert ready(town, 0)


def test_book_older_than_the_terms_permit__switches_off_and_a_newer_one_on_again(town: FakeTown) -> None:
    town.chain.advance(41 * 86_400)
    town[0].sync()
    assert town[0].membership.step() == ["switched readiness off"]
    assert "older than the terms permit" in town[0].membership.why_not

    town.books[0].as_of = town.chain.time
    town[0].sync()
    assert town[0].membership.step() == ["switched readiness on"]


def test_switched_off_for_its_silence__answers_before_it_is_ready_again(town: FakeTown) -> None:
    request = town.ask(1, by=1)
    town[1].work()
    inquiry = town.inquiry(request, by=1)
    town.chain.advance(inquiry.parameters.silence_seconds)
    FakeSigner(town.chain, town.accounts[1].address).transact(town.call("lapse", inquiry.id))
    town[0].sync()
    assert not town[0].membership.is_ready

    assert town[0].membership.step() == []  # not before the answer
    town[0].furnisher.step()
    town[0].sync()

    assert 0 in town[0].desk.state.inquiries[inquiry.id].contributions
    assert town[0].membership.step() == ["switched readiness on"]


def test_key_rotated__the_old_one_serves_until_the_new_one_is_audited(town: FakeTown) -> None:
    rotate(town, 0)
    town[0].sync()

    serving = town[0].desk.state.serving_key(0)
    assert serving is not None
    assert serving.version == 1
    assert "switched readiness off" not in town[0].membership.step()


def test_key_compromised__is_switched_off_at_once_and_on_when_the_new_one_is_audited(town: FakeTown) -> None:
    rotate(town, 0, compromised=True)
    town[0].sync()
    assert town[0].desk.state.serving_key(0) is None
    assert "switched readiness off" in town[0].membership.step()

    town.settle()
    town.chain.advance(PERIOD)
    assert ready(town, 0)


def test_left_to_people__is_not_switched(town: FakeTown) -> None:
    town[0].membership.switch(False)
    town[0].sync()

    assert Membership(town[0].desk, ready=False).step() == []


def test_switched_off_by_a_person__stays_off_until_a_person_switches_on(town: FakeTown) -> None:
    bank = town[0]
    bank.desk.store.put("meta", "readiness", {"held": True})
    assert bank.membership.switch(False) == ["switched readiness off"]
    bank.sync()
    assert bank.membership.step() == []

    bank.desk.store.put("meta", "readiness", {"held": False})
    assert bank.membership.step() == ["switched readiness on"]


def test_switched_twice__nothing_would_change_and_the_second_is_refused(town: FakeTown) -> None:
    town[0].membership.switch(False)

    with pytest.raises(Refused, match="NothingChanges"):
        town[0].membership.switch(False)


def test_change_under_way__is_not_sent_a_second_time(town: FakeTown) -> None:
    bank = town[0]
    bank.membership.hindrance = "away"
    town.chain.held = True

    assert bank.membership.step() == []
    town.chain.time += 1
    assert bank.membership.step() == []

    assert len(bank.desk.store.outbox_pending()) == 1


def test_ledger_refuses__people_are_told_and_the_service_goes_on(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bank = town[0]
    bank.membership.hindrance = "away"
    monkeypatch.setattr(town.chain, "_setReady", refusing("NotAccount"))

    assert bank.membership.step() == []
    assert "did not take the readiness" in caplog.text
    with pytest.raises(Refused, match="NotAccount"):
        bank.membership.switch(False)


def test_node_refuses_a_seal_or_a_switch__the_round_goes_on_to_the_answers(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bank = town[0]
    bank.membership.hindrance = "away"

    def too_large(*_arguments: Any) -> Any:
        raise NodeRefused("the node does not take it")

    monkeypatch.setattr(bank.desk, "post", too_large)

    assert bank.membership.step() == []
    assert "did not take the readiness" in caplog.text


def test_account_taken_away__says_what_must_happen(town: FakeTown) -> None:
    bank = town[0]
    add_change(town, Change.ACCOUNT_TAKEN, 0, town.owners[0].address)
    bank.sync()

    with pytest.raises(MpcreditError, match="is not the service account of the member whose store this is"):
        bank.membership.step()


def test_account_that_two_members_named__is_that_of_the_member_whose_key_is_here(town: FakeTown) -> None:
    state = town.chain.fold()
    theirs, tenure = town.accounts[0].address, state.members[0].tenure
    signature = sign_naming(town.owners[3], 3, theirs, 2, tenure)
    add_change(town, Change.ACCOUNT_NAMED, 3, town.owners[3].address, theirs, 2, tenure, signature)
    town[0].sync()

    assert len(town[0].desk.state.by_account(theirs)) == 2
    assert town[0].index == 0


def test_invited_but_not_confirmed__does_nothing(town: FakeTown) -> None:
    bank = town[0]
    bank.desk.member.confirmed = False

    assert bank.membership.step() == []


def refusing(code: str) -> Any:
    """A rule of the contract that always refuses."""

    def rule(*_arguments: Any) -> Any:
        raise Refused(f"the contract refuses: {code}", code=code)

    return rule


def test_account_named_by_another_member_that_registers_the_next_key__the_store_keeps_to_its_member(
    town: FakeTown,
) -> None:
    # Bank A sees Bank B's rotation on its way, registers Bank B's new key first, and names Bank B's account and tenure.
    bank = town[1]
    bank.sync()
    assert bank.desk.index == 1
    taken = town.keys[1].create_institution_key(2).public
    signature = sign_statement(town.owners[0], 0, 2, taken, town.chain.fold().members[0].key.public)
    add_change(town, Change.KEY_SET, 0, 2, taken, False, signature)
    theirs, tenure = town.accounts[1].address, bank.desk.tenure.value
    naming = sign_naming(town.owners[0], 0, theirs, 2, tenure)
    add_change(town, Change.ACCOUNT_NAMED, 0, town.owners[0].address, theirs, 2, tenure, naming)
    bank.sync()

    state, publics = bank.desk.state, bank.desk.keys.institution_versions().values()
    assert [member.index for member in state.by_account(theirs)] == [0, 1]
    assert bank.desk.index == 1
    # Commands ask by the same rule; without the store's memory they would take Bank A for their member.
    at_a_command = member_of_account(state, theirs, publics, member_index(bank.desk.store))
    assert at_a_command is not None
    assert at_a_command.index == 1
    naive = member_of_account(state, theirs, publics)
    assert naive is not None
    assert naive.index == 0
