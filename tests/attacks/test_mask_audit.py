"""False mask keys for the supervisor, and none at all (R11).

A member whose ends of a pair differ could later blame the other for masks that do not cancel, or hide its own deviation.
The supervisor compares both ends before it lets a member serve. Nothing shows which end lies, so each lie takes one honest
member out for as long as a rotation takes; the second lie takes out the liar alone. A member that seals nothing holds up
nobody, and is named for it. The first sealing counts, else one member could make every later inquiry uncheckable.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import TERMS, FakeTown, Transaction, found_town, sign_statement

from mpcredit.errors import KeyStoreError
from mpcredit.events import Call, Change, Stage
from mpcredit.inquirer import RequestState
from mpcredit.pairkeys import derive
from mpcredit.roles.mask_audit import AUDIT_SECONDS
from mpcredit.sealing import MaskKeyEntry, seal_mask_keys
from mpcredit.supervisor import PERIOD_KEY_WAIT, Finding, Supervisor

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


def liars(town: FakeTown) -> list[Finding]:
    """What was found of differing mask keys."""
    return [f for f in town.supervisor.supervisor.findings if "not sealed" not in f.text]


def founded_with_a_false_end(liar: int, victim: int) -> FakeTown:
    town = found_town(5, settle=False, terms=replace(TERMS, minimum_cohort=3))
    lie(town, liar, victim)
    town.settle()
    wait_for_the_period_key(town)
    return town


@pytest.mark.parametrize(("liar", "victim"), [(3, 1), (1, 3)])
def test_false_end_of_a_pair__is_found_and_both_are_left_out(liar: int, victim: int) -> None:
    town = founded_with_a_false_end(liar, victim)

    state = town[0].desk.state
    (finding,) = liars(town)
    assert finding.culprits == (1, 3)
    assert "both must rotate" in finding.text
    assert [i for i in range(5) if state.is_serving(i)] == [0, 2, 4]


def test_false_end_of_a_pair__both_rotate_and_agree__both_serve() -> None:
    town = founded_with_a_false_end(3, 1)

    rotate(town, 1, 3)
    town.settle()

    assert serving(town) == [0, 1, 2, 3, 4]


def test_false_ends_with_all_others__the_liar_is_left_out_alone() -> None:
    town = found_town(5, settle=False)
    lie(town, 3, 0, 1, 2, 4)
    town.settle()
    wait_for_the_period_key(town)

    (finding,) = town.supervisor.supervisor.findings
    assert finding.culprits == (3,)
    assert "than all its partners" in finding.text
    assert serving(town) == [0, 1, 2, 4]


def test_false_end_of_a_pair__never_compared__an_honest_member_cannot_be_told_from_the_liar() -> None:
    # The variant lets everybody serve. The liar masks with the false key: the supervisor has two ends to choose from, and
    # by the victim's end the liar deviates, by the liar's end the victim does.
    town = founded_with_a_false_end(3, 1)
    audit = town.supervisor.supervisor.audit
    keys = {i: member.key for i, member in town.supervisor.supervisor.state.members.items()}

    ends = audit._ends[(keys[3], keys[1], 1)], audit._ends[(keys[1], keys[3], 1)]
    assert ends[0] == FALSE != ends[1]
    assert audit.mask(keys[3], keys[1], 1) is None


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


def supervisor_owner(town: FakeTown) -> str:
    return town.supervisor.supervisor.owner


def suspend(town: FakeTown, member: int) -> None:
    """As a person orders it (`mpcredit member suspend`)."""
    town.supervisor.outbox.post(f"by hand/{member}", Call("consortium", "suspend", (supervisor_owner(town), member)))
    town.settle()


def restart(town: FakeTown, *, attest: bool = True) -> None:
    """The supervisor's process starts again, over the same store."""
    node = town.supervisor
    old = node.supervisor
    node.supervisor = Supervisor(node.follower, node.outbox, old.store, old.keys, attest=attest)


def liar_and_newcomers() -> FakeTown:
    """Bank B serves and lies to all who come later: Bank E seals now, Bank D only later."""
    town = found_town(5, settle=False, terms=replace(TERMS, minimum_cohort=3))
    town.asleep = {3, 4}
    lie(town, 1, 3, 4)
    town.settle()
    wait_for_the_period_key(town)
    assert serving(town) == [0, 1, 2]
    town.asleep = {3}
    town.settle()
    assert serving(town) == [0, 1, 2]
    return town


def forget_names(town: FakeTown) -> None:
    """The variant: each lie is the first one."""
    store = town.supervisor.supervisor.store
    for key, _ in list(store.items("mask-audit")):
        store.delete("mask-audit", key)


def lie_again(town: FakeTown, *rotating: int) -> None:
    """Both members of the pair have rotated, and Bank B lies to all who are not served yet."""
    rotate(town, *rotating)
    lie(town, 1, 3, 4)
    town.settle()


def test_differ_again__every_lie_counts_as_the_first__the_liar_keeps_the_newcomer_out() -> None:
    town = liar_and_newcomers()
    for _ in range(3):
        forget_names(town)
        lie_again(town, 1, 4)

    assert 4 not in serving(town)


def test_differ_with_another_newcomer__the_liar_alone_is_left_out_and_the_newcomer_enters() -> None:
    town = liar_and_newcomers()
    (first,) = liars(town)
    assert first.culprits == (1, 4)
    restart(town)  # the store remembers
    town.asleep = set()
    rotate(town, 1, 4)
    lie(town, 1, 3)
    town.settle()

    second, still = liars(town)[-2:]
    assert second.culprits == still.culprits == (1,)
    assert "for the second time" in second.text
    assert "Bank D" in second.text
    assert "Bank B still serves with its key 1: suspend it" in still.text
    # Bank B still serves with its old key, so Bank D waits for a person who suspends it.
    assert 3 not in serving(town)
    suspend(town, 1)
    assert serving(town) == [0, 2, 3, 4]


def test_both_differ_again__a_person_decides_and_that_one_enters() -> None:
    town = liar_and_newcomers()
    lie_again(town, 1, 4)

    finding = next(f for f in liars(town) if "second time" in f.text)
    assert finding.culprits == (1, 4)
    assert "a person decides" in finding.text
    assert serving(town) == [0, 1, 2]  # Bank B with its old key
    suspend(town, 1)
    town.supervisor.outbox.post("by hand", Call("consortium", "auditOk", (supervisor_owner(town), 4, 2, 1)))
    town.settle()
    assert serving(town) == [0, 2, 4]


def test_named_and_serving__does_not_rotate__is_told_to_be_suspended_after_a_week() -> None:
    town = liar_and_newcomers()
    town.chain.advance(AUDIT_SECONDS)
    town.settle()

    assert any(
        f.culprits == (1,) and "has not registered another key for 7 days: suspend it" in f.text
        for f in town.supervisor.supervisor.findings
    )


def test_differ__one_has_not_rotated__nobody_is_named_again() -> None:
    town = liar_and_newcomers()
    rotate(town, 4)
    lie(town, 1, 3, 4)
    town.settle()

    assert [f.culprits for f in liars(town)] == [(1, 4)]
    assert serving(town) == [0, 1, 2]


def test_supervisor_that_only_watches__names_both_and_does_nothing() -> None:
    town = liar_and_newcomers()
    restart(town, attest=False)
    town.settle()

    assert [f.culprits for f in liars(town)] == [(1, 4)]
    assert serving(town) == [0, 1, 2]


def test_differ_once__both_rotate_and_agree__both_serve() -> None:
    town = liar_and_newcomers()
    rotate(town, 1, 4)
    town.settle()

    assert serving(town) == [0, 1, 2, 4]


# --------------------------------------------------------------------- no seal at all


def test_member_that_seals_nothing__holds_up_nobody_and_is_named_after_a_week() -> None:
    town = found_town(5, settle=False)
    town[4].membership._seal = list  # type: ignore[method-assign]
    town.settle()
    wait_for_the_period_key(town)
    town.chain.advance(1)
    town.settle()

    assert serving(town) == [0, 1, 2, 3]
    (finding,) = town.supervisor.supervisor.findings
    assert finding.culprits == (4,)
    assert "has not sealed all its mask keys" in finding.text
    assert "it is left out" in finding.text


def test_member_that_seals_nothing__and_serves__is_told_to_be_suspended() -> None:
    town = found_town(5, settle=False, terms=replace(TERMS, minimum_cohort=3))
    town.asleep = {4}
    town.settle()
    wait_for_the_period_key(town)
    town[1].membership._seal = list  # type: ignore[method-assign]
    rotate(town, 4)  # a key for which Bank B has sealed nothing yet
    town.asleep = set()
    town.settle()
    assert serving(town) == [0, 1, 2, 3]

    town.chain.advance(AUDIT_SECONDS + 1)
    town.settle()
    assert any(f.culprits == (1,) and "it holds up the others" in f.text for f in town.supervisor.supervisor.findings)
    suspend(town, 1)
    assert serving(town) == [0, 2, 3, 4]


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


class Forgetful(dict[Any, bytes]):
    """The variant: the last sealing counts."""

    def setdefault(self, place: Any, key: bytes) -> bytes:  # type: ignore[override]
        self[place] = key
        return key


def test_resealed_after_agreement__last_one_counts__no_inquiry_can_be_checked_any_more(town: FakeTown) -> None:
    audit = town.supervisor.supervisor.audit
    audit._ends = Forgetful(audit._ends)
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
    supervisor.audit._read = len(supervisor.state.mask_keys)
    supervisor.audit._ends.clear()

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
