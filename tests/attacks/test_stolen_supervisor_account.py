"""A thief has the accounts of the supervisor, and none of its period keys (R9, R10, R12).

With the service account alone it announces a period key of its own: a key counts only under the owner's signature. With the
owner account too, the contract takes the key, and the thief audits every member and puts it in force. The variant is
version 1, where each member sealed to every key of an account that it had accepted: the thief reads every figure from then
on. Here a person at each member compares the key first, so nothing is sealed, opened or answered under it.
"""

from __future__ import annotations

import pytest
from attackers import inquiry_key, open_crafted, plaintexts, reads_as_figures
from eth_account.signers.local import LocalAccount
from fakes import FakeSigner, FakeTown, Transaction, figures, sign_statement, subject

from mpcredit import protocol
from mpcredit.disclosure import RefusalCode
from mpcredit.errors import WrongLedger
from mpcredit.events import Call, Change, Stage
from mpcredit.inquirer import RequestState
from mpcredit.ledger.roster import SUPERVISOR, Pins
from mpcredit.pairkeys import InstitutionKey, mask_sum
from mpcredit.sealing import open_mask_keys
from mpcredit.state import Inquiry

THIEF = InstitutionKey.from_bytes(b"\5" * 32)


def announce(town: FakeTown, signer: LocalAccount) -> None:
    """A period key of the thief stands on the ledger, with the signature of a stolen account."""
    owner, state = town.supervisor_owner.address, town.chain.fold()
    signature = sign_statement(signer, SUPERVISOR, 2, THIEF.public, state.period_keys[1].public)
    town.chain.mine([])
    effect = town.chain.change(state, Change.PERIOD_KEY_ANNOUNCED, 2, THIEF.public, owner, signature)
    by = Transaction("thief", Call("consortium", "announcePeriodKey"), 0)
    town.chain.emit(town.chain.blocks[-1], [effect], by)


def take_over(town: FakeTown) -> None:
    """The thief audits every member, whatever it has sealed, and puts its key in force."""
    announce(town, town.supervisor_owner)
    town.supervised = False
    town.settle()  # the members seal, if they do
    account = FakeSigner(town.chain, town.supervisor_account.address)
    owner = town.supervisor_owner.address
    for member in range(5):
        account.transact(Call("consortium", "auditOk", (owner, member, 1, 2)))
    account.transact(Call("consortium", "putPeriodKeyInForce", (owner, 2)))
    town.settle()


def masks_of(town: FakeTown, member: int) -> dict[int, bytes]:
    """The mask keys of a member that the thief's key opens."""
    state = town.chain.fold()
    sealed = [e for e in state.mask_keys if e.period == 2 and e.member == member]
    return {
        entry.other: entry.key
        for event in sealed
        for entry in open_mask_keys(
            event.sealed_keys,
            realm=state.realm,
            sender=state.members[member].keys[event.key_version],
            supervisor=THIEF,
            supervisor_key_version=2,
        )
    }


def with_the_inquirer(town: FakeTown, inquiry: Inquiry, member: int) -> list[dict[str, int]] | None:
    """What the thief and the inquirer of an inquiry read of a member together."""
    frame = protocol.frame_of(inquiry, town.chain.realm)
    (m,) = plaintexts(inquiry_key(town[0], inquiry), frame, inquiry.payload(member))
    return reads_as_figures(
        frame, [(m - mask_sum(member, masks_of(town, member), frame.ctx, 0, frame.public.n)) % frame.public.n]
    )


def test_hot_account__announces_a_key__is_the_wrong_ledger(town: FakeTown) -> None:
    # The contract takes the call of the owner account alone: tests/contract/test_period_keys.py.
    announce(town, town.supervisor_account)

    for bank in town.banks:
        with pytest.raises(WrongLedger, match="has not signed"):
            bank.sync()


def test_both_accounts__any_key_of_an_accepted_owner_is_sealed_to__the_thief_reads_every_figure(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pins, "accepts_period_key", lambda self, key: self.accepts_supervisor(key.supervisor))
    earlier = town.inquiry(ask_and_settle(town, 1))

    take_over(town)
    inquiry = town.inquiry(ask_and_settle(town, 2))

    frame = protocol.frame_of(inquiry, town.chain.realm)
    for member in inquiry.cohort:
        payload, masks = inquiry.payload(member), masks_of(town, member)
        read = protocol.read_contribution(frame, member, payload, masks, supervisor_private=THIEF)
        assert read == [figures(2**member)]
    # An earlier period stays closed, even to the thief and the inquirer together: its mask keys are others (R10).
    assert with_the_inquirer(town, inquiry, 3) == [figures(2**3)]
    assert with_the_inquirer(town, earlier, 3) is None


def ask_and_settle(town: FakeTown, number: int) -> str:
    request = town.ask(number)
    town.settle()
    return request


def test_both_accounts__nobody_has_accepted_the_key__nothing_is_sealed_or_opened(town: FakeTown) -> None:
    take_over(town)
    assert town.chain.fold().in_force == 2

    request = ask_and_settle(town, 2)

    assert all(masks_of(town, member) == {} for member in range(5))
    found = town[0].inquirer.get(request)
    assert (found.state, found.inquiry) == (RequestState.WANTED, None)
    assert "the supervisor" in found.note


def test_both_accounts_and_an_inquirer__nobody_has_accepted_the_key__nothing_is_answered(town: FakeTown) -> None:
    take_over(town)
    for book in town.books:
        book.reads.clear()

    _, q = open_crafted(town[0], [(town.tagger.tag(subject(2)), town.consent(2))])
    town.settle()

    inquiry = town.chain.fold().inquiries[q]
    assert inquiry.stage is Stage.REFUSED
    assert inquiry.refusal is not None
    assert inquiry.refusal.code == RefusalCode.COHORT
    assert sorted(inquiry.contributions) == [0]
    assert [book.reads for book in town.books[1:]] == [[], [], [], []]
