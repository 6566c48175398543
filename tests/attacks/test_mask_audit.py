"""False mask keys for the supervisor (R11; protocol.md section 4).

A member whose ends of a pair differ could later blame the other for masks that do not cancel, or hide its own deviation.
The supervisor compares both ends before it lets a member serve: two whose ends differ never serve together. What has
agreed once cannot be replaced afterwards, else one member could make every later inquiry uncheckable. Two that differ
again after both have rotated are suspended, else one member could keep newcomers out for ever.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import TERMS, FakeTown, Transaction, found_town, sign_statement

from mpcredit.errors import KeyStoreError
from mpcredit.events import Call, Change, MaskKeysSealed, Stage
from mpcredit.inquirer import RequestState
from mpcredit.ledger.roster import PeriodKey
from mpcredit.pairkeys import derive
from mpcredit.sealing import MaskKeyEntry, open_mask_keys, seal_mask_keys
from mpcredit.supervisor import PERIOD_KEY_WAIT, Supervisor, _pair_place

FALSE = b"\7" * 32


def lie(town: FakeTown, liar: int, *victims: int) -> None:
    """From now on this bank seals false ends of its present pairs with these."""
    town[liar].sync()
    desk = town[liar].desk
    period = desk.state.period_keys[1].ref
    for victim in victims:
        for own in desk.member.keys.values():
            for other in desk.state.members[victim].keys.values():
                true = derive(desk.keys.institution_key(own.public), own, other, desk.realm, period)
                desk._pairs[(own, other, period)] = replace(true, mask=FALSE)


def wait_for_the_period_key(town: FakeTown) -> None:
    """A week after its announcement the period key is put in force without those that are not audited."""
    town.chain.advance(PERIOD_KEY_WAIT)
    town.settle()


def founded_with_a_false_end(liar: int, victim: int) -> FakeTown:
    town = found_town(5, settle=False)
    lie(town, liar, victim)
    town.settle()
    wait_for_the_period_key(town)
    return town


@pytest.mark.parametrize(("liar", "victim"), [(3, 1), (1, 3)])
def test_false_end_of_a_pair__is_found_and_the_two_never_serve_together(liar: int, victim: int) -> None:
    town = founded_with_a_false_end(liar, victim)

    state = town[0].desk.state
    (finding,) = town.supervisor.supervisor.findings
    assert set(finding.culprits) == {liar, victim}
    assert sum(state.is_serving(i) for i in (liar, victim)) == 1
    assert [i for i in range(5) if state.is_serving(i)] == [0, 1, 2, 4]


def test_false_end_of_a_pair__never_compared__an_honest_member_cannot_be_told_from_the_liar() -> None:
    # The variant lets everybody serve. The liar masks with the false key: the supervisor has two ends to choose from, and
    # by the victim's end the liar deviates, by the liar's end the victim does.
    town = founded_with_a_false_end(3, 1)
    supervisor = town.supervisor.supervisor
    keys = {i: member.key for i, member in supervisor.state.members.items()}

    period = supervisor.state.period_keys[1]
    ends = supervisor._pair_ends(keys[3], keys[1], period)
    assert ends[0] == FALSE
    assert ends[1] not in (None, FALSE)
    assert supervisor._pair_mask(keys[3], keys[1], period) is None


# --------------------------------------------------------------------- a second time


def rotate(town: FakeTown, *members: int) -> None:
    """These banks register new institution keys."""
    for member in members:
        state = town.chain.fold()
        old = state.members[member].key
        version = old.version + 1
        public = town.keys[member].create_institution_key(version).public
        signature = sign_statement(town.owners[member], member, version, public, old.public)
        changed = town.chain.change(state, Change.KEY_SET, member, version, public, False, signature)
        town.chain.mine([])
        town.chain.emit(town.chain.blocks[-1], [changed], Transaction("owner", Call("consortium", "rotateKey"), 0))


def serving(town: FakeTown) -> list[int]:
    state = town.chain.fold()
    return [i for i in sorted(state.members) if state.is_serving(i)]


def suspended(town: FakeTown) -> list[int]:
    return [i for i, member in sorted(town.chain.fold().members.items()) if member.suspended]


def restart(town: FakeTown, kind: type[Supervisor] = Supervisor, *, attest: bool = True) -> None:
    """The supervisor's process starts again, over the same store."""
    node = town.supervisor
    old = node.supervisor
    node.supervisor = kind(node.follower, node.outbox, old.store, old.keys, attest=attest)


def liar_and_newcomers(kind: type[Supervisor] = Supervisor) -> FakeTown:
    """Bank B serves and lies to all who come later: Bank E seals now, Bank D only later."""
    town = found_town(5, settle=False, terms=replace(TERMS, minimum_cohort=3))
    restart(town, kind)
    town.asleep = {3, 4}
    lie(town, 1, 3, 4)
    town.settle()
    wait_for_the_period_key(town)
    assert serving(town) == [0, 1, 2]
    town.asleep = {3}
    town.settle()
    assert serving(town) == [0, 1, 2]
    return town


class Patient(Supervisor):
    """The variant: waits for the two to come to terms."""

    def _judge_differences(self, period: PeriodKey) -> list[str]:
        return []


def test_differ_again__nobody_is_suspended__the_liar_keeps_every_newcomer_out() -> None:
    town = liar_and_newcomers(Patient)
    for _ in range(3):
        rotate(town, 1, 4)
        lie(town, 1, 3, 4)
        town.settle()
    town.asleep = set()
    town.settle()

    assert serving(town) == [0, 1, 2]


def test_differ_again__after_both_have_rotated__both_are_suspended_and_hold_up_nobody() -> None:
    town = liar_and_newcomers()
    (first,) = town.supervisor.supervisor.findings
    restart(town)  # the store remembers
    rotate(town, 1, 4)
    lie(town, 1, 3, 4)
    town.settle()

    assert first.culprits == (1, 4)
    assert "Bank B and Bank E" in first.text
    (second,) = town.supervisor.supervisor.findings
    assert second.culprits == (1, 4)
    assert "second time" in second.text
    assert suspended(town) == [1, 4]
    town.asleep = set()
    town.settle()
    assert serving(town) == [0, 2, 3]


def test_differ_again__one_has_not_rotated__both_are_named_again_and_nobody_is_suspended() -> None:
    town = liar_and_newcomers()
    rotate(town, 4)
    lie(town, 1, 3, 4)
    town.settle()

    assert [f.culprits for f in town.supervisor.supervisor.findings] == [(1, 4), (1, 4)]
    assert suspended(town) == []
    assert serving(town) == [0, 1, 2]


def test_differ_again__supervisor_that_only_watches__names_both_and_does_nothing() -> None:
    town = liar_and_newcomers()
    rotate(town, 1, 4)
    lie(town, 1, 3, 4)
    restart(town, attest=False)
    town.settle()

    assert [f.culprits for f in town.supervisor.supervisor.findings] == [(1, 4)]
    assert suspended(town) == []


def test_differ_once__both_rotate_and_agree__both_serve() -> None:
    town = liar_and_newcomers()
    rotate(town, 1, 4)
    town.settle()

    assert serving(town) == [0, 1, 2, 4]
    assert suspended(town) == []


def seal(town: FakeTown, sender: int, entries: list[MaskKeyEntry], as_member: int | None = None) -> bytes:
    state = town[sender].desk.state
    return seal_mask_keys(
        entries,
        realm=town.chain.realm,
        sender=state.members[sender if as_member is None else as_member].key,
        supervisor_public=state.period_keys[1].public,
        supervisor_key_version=1,
    )


def test_sealing_of_another_member__sent_as_ones_own__does_not_open() -> None:
    town = found_town(5, settle=False)
    for bank in town.banks[:3]:
        bank.work()
    copied = next(e for e in town[1].desk.state.mask_keys if e.member == 1).sealed_keys

    town[4].sync()
    town[4].desk.outbox.post("copy", Call("consortium", "sealMaskKeys", (4, 1, 1, copied)))
    town.asleep = {4}
    town.settle()

    assert any(f.culprits == (4,) and "do not open" in f.text for f in town.supervisor.supervisor.findings)
    assert town[0].desk.state.members[4].key_under(1) is None


@pytest.mark.parametrize("data", [b"", b"\0" * 48, b"\1" * 500])
def test_sealing__garbage__names_the_sender_and_stops_nobody(town: FakeTown, data: bytes) -> None:
    town[2].desk.outbox.post("garbage", Call("consortium", "sealMaskKeys", (2, 1, 1, data)))
    request = town.ask(1)
    town.settle()

    assert town.supervisor.supervisor.findings[0].culprits == (2,)
    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


def reseal_falsely(town: FakeTown, liar: int, victim: int) -> None:
    sealed = seal(town, liar, [MaskKeyEntry(victim, 1, FALSE)])
    town[liar].desk.outbox.post("again", Call("consortium", "sealMaskKeys", (liar, 1, 1, sealed)))


class Forgetful(Supervisor):
    """The variant: the last sealing counts."""

    def _read_mask_keys(self, event: MaskKeysSealed) -> None:
        sender = self.state.members[event.member].keys[event.key_version]
        period = self.state.period_keys[event.period]
        entries = open_mask_keys(
            event.sealed_keys,
            realm=self.state.realm,
            sender=sender,
            supervisor=self.keys.institution_key(period.public),
            supervisor_key_version=event.period,
        )
        self._sealed.add((sender.member, sender.version, event.period))
        for entry in entries:
            place = _pair_place(sender.member, sender.version, entry.other, entry.other_version, event.period)
            self._ends[(place, sender.member)] = entry.key


def test_resealed_after_agreement__last_one_counts__no_inquiry_can_be_checked_any_more(town: FakeTown) -> None:
    node = town.supervisor
    node.supervisor = Forgetful(node.follower, node.outbox, node.supervisor.store, node.supervisor.keys)
    reseal_falsely(town, 3, 1)

    request = town.ask(1)
    town.settle()

    assert town.inquiry(request).stage is Stage.REPORTED  # and so it stays


def test_resealed_after_agreement__first_one_counts__the_liar_is_named_and_inquiries_go_on(town: FakeTown) -> None:
    reseal_falsely(town, 3, 1)

    request = town.ask(1)
    town.settle()

    assert town.inquiry(request).stage is Stage.VALID
    assert [f.culprits for f in town.supervisor.supervisor.findings] == [(3,)]


def test_mask_key__missing_at_the_supervisor__nobody_is_named_for_it(town: FakeTown) -> None:
    # For example after the period key that opened the sealings was destroyed and the service started again.
    request = town.ask(1)
    town.supervised = False
    town.settle()
    supervisor = town.supervisor.supervisor
    town.supervisor.follower.sync()
    supervisor._mask_events = len(supervisor.state.mask_keys)
    supervisor._ends.clear()

    known = supervisor.check(supervisor.state.inquiries[town.inquiry(request).id])

    assert (known.culprits, known.totals, known.records) == ((), None, {})


def test_period_key__destroyed_after_retention__restart_names_nobody_and_new_inquiries_are_checked(
    town: FakeTown,
) -> None:
    old = town.ask(1)
    town.settle()
    inquiry = town.inquiry(old)
    keys = town.supervisor_keys
    destroyed = keys.institution_key(inquiry.period_key.public)

    class Gone:
        def institution_key(self, public: bytes) -> object:
            if public == destroyed.public:
                raise KeyStoreError("destroyed")
            return keys.institution_key(public)

    node = town.supervisor
    node.supervisor = Supervisor(node.follower, node.outbox, node.supervisor.store, Gone())  # type: ignore[arg-type]
    town.settle()

    assert node.supervisor.findings == []
