"""A correction names nobody: not to an outsider, not to who is told; and nobody can have others told at will (R41, R42).

Each attack against this system, where it fails, and where one is at hand against a variant without the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from fakes import DAY, FakeSigner, FakeTown, figures, subject

from mpcredit import correcting, notices
from mpcredit.correcting import Listener, Sender, Teller
from mpcredit.errors import InvalidMessage, KeyStoreError, Refused
from mpcredit.events import Call, Noticed
from mpcredit.notices import Affected, Corrected
from mpcredit.pairkeys import AgreementKey
from mpcredit.state import Inquiry


@dataclass
class Party:
    """What a member has to say, once, and what it hears."""

    sender: Sender
    listener: Listener
    waits: list[tuple[str, list[Corrected]]] = field(default_factory=list)

    def pending(self) -> Sequence[tuple[str, list[Corrected]]]:
        return self.waits

    def said(self, names: list[str], _day: int) -> None:
        self.waits = [entry for entry in self.waits if entry[0] not in names]


class Place:
    """A town whose members and supervisor handle corrections."""

    def __init__(self, town: FakeTown) -> None:
        self.town = town
        self.parties = []
        for bank in town.banks:
            party = Party(Sender(bank.desk), Listener(bank.desk))
            party.sender.pending, party.sender.said = party.pending, party.said
            self.parties.append(party)
        self.teller = Teller(town.supervisor.supervisor)
        self.silent: set[int] = set()

    def asked(self, number: int = 1, *, by: int = 0) -> Inquiry:
        """An attested inquiry."""
        request = self.town.ask(number, by=by)
        self.town.settle()
        return self.town.inquiry(request, by=by)

    def correct(self, member: int, number: int = 1, *, since: int = 0, until: int | None = None) -> None:
        """A member corrects what it answered about a subject until now."""
        end = self.town.chain.time + 1 if until is None else until
        self.parties[member].waits.append((f"{number}", [Corrected(self.town.tagger.tag(subject(number)), since, end)]))

    def day(self, days: int = 1) -> list[str]:
        """Let days pass, everybody at work in each."""
        lines: list[str] = []
        for _ in range(days):
            self.town.chain.advance(DAY)
            for _ in range(3):
                lines += self.round()
        return lines

    def round(self) -> list[str]:
        lines: list[str] = []
        self.town.settle()
        for index, party in enumerate(self.parties):
            self.town.banks[index].sync()
            if index not in self.silent:
                lines += party.sender.step()
            lines += [f"{index}: {line}" for line in party.listener.step()]
        self.town.supervisor.follower.sync()
        lines += self.teller.step()
        return lines

    def told(self, member: int) -> dict[str, int]:
        store = self.town.banks[member].desk.store
        return {key: int(value["day"]) for key, value in store.items("corrected")}

    def messages(self) -> list[Noticed]:
        return [event for block in self.town.chain.blocks for event in block.events if isinstance(event, Noticed)]


@pytest.fixture
def place(town: FakeTown) -> Place:
    # in the second half of a day, after everybody's moment
    town.chain.advance(DAY - town.chain.time % DAY + DAY * 3 // 4)
    found = Place(town)
    found.day()
    return found


def test_correction__of_an_answer__reaches_its_inquirer_and_nobody_else(place: Place) -> None:
    inquiry = place.asked(1, by=0)
    place.asked(2, by=1)

    place.correct(3)
    place.day(3)

    key = f"0x{inquiry.id.hex()}/0"
    assert set(place.told(0)) == {key}
    assert [place.told(i) for i in range(1, 5)] == [{}, {}, {}, {}]
    place.day(2)
    assert place.told(0)[key] == max(m.at.timestamp for m in place.messages() if m.message[0] == 2) // DAY  # told once


def test_correction__packed_inquiry__names_the_subject(place: Place, town: FakeTown) -> None:
    bank = town[0]
    request = bank.inquirer.request(
        ["x", "y", "z"],
        [town.consent(n) for n in (1, 2, 3)],
        officer="o",
    )
    town.settle()

    place.correct(2, number=3)
    place.day(3)

    assert set(place.told(0)) == {f"0x{town.inquiry(request.id).id.hex()}/2"}


@pytest.mark.parametrize("how", ["the tags as named", "the newest tag alone"])
def test_correction__over_a_new_tag_key__reaches_both_inquirers_by_the_tags_that_they_named(
    place: Place, town: FakeTown, how: str
) -> None:
    # The supervisor has no tag keys: to it the newest tag is another subject than the one of the first inquiry.
    first = place.asked(1, by=0)
    town.succeed_tag_key()
    second = place.asked(1, by=1)
    newest = town.tagger.tag(subject(1))
    named = correcting.named_tags(town[3].desk, newest)
    assert named == set(town.tagger.tags(subject(1)))

    chosen = named if how == "the tags as named" else {newest}
    end = town.chain.time + 1
    place.parties[3].waits.append(("1", [Corrected(tag, 0, end) for tag in chosen]))
    place.day(3)

    assert set(place.told(1)) == {f"0x{second.id.hex()}/0"}
    assert set(place.told(0)) == ({f"0x{first.id.hex()}/0"} if how == "the tags as named" else set())


def test_named_tags__of_what_this_member_did_not_answer_or_long_ago__are_none(place: Place, town: FakeTown) -> None:
    place.asked(1, by=0)
    tag, other = town.tagger.tag(subject(1)), town.tagger.tag(subject(2))

    assert correcting.named_tags(town[3].desk, tag) == {tag}
    assert correcting.named_tags(town[3].desk, other) == set()
    assert correcting.named_tags(town[0].desk, tag) == set()  # it asked
    town.chain.advance(correcting.LOOK_BACK_SECONDS + 2 * DAY)
    town[3].sync()
    assert correcting.named_tags(town[3].desk, tag) == set()


# --------------------------------------------------------------------- who corrected something


def public(messages: Sequence[Noticed]) -> list[tuple[str, int, int, int]]:
    """What a ledger reader has of each message beside sealed bytes: sender, kind, length, day."""
    return sorted((m.owner, m.message[0], len(m.message), int.from_bytes(m.message[6:10], "big")) for m in messages)


def test_outsider__day_with_and_without_a_correction__sees_the_same(place: Place) -> None:
    place.asked(1, by=0)
    start = len(place.messages())
    place.day()
    quiet = public(place.messages()[start:])
    moments = [m.at.timestamp % DAY for m in place.messages()[start:]]

    place.correct(3)
    start = len(place.messages())
    place.town.chain.advance(DAY)
    place.town.settle()
    for index, party in enumerate(place.parties):
        place.town.banks[index].sync()
        party.sender.step()
    news = public(place.messages()[start:])

    assert [(by, kind, length) for by, kind, length, _ in news] == [(by, kind, length) for by, kind, length, _ in quiet]
    assert {length for _, _, length, _ in news} == {notices.DAILY_BYTES}
    assert len(news) == 5
    assert len(moments) == 5


def test_told_inquirer__every_member_of_its_cohort_has_sent__cannot_tell_which(place: Place) -> None:
    """Variant without the rule: only who has news sends, and the sender is the furnisher."""
    place.asked(1, by=0)
    place.correct(3)
    place.silent = {1, 2, 4}
    start = len(place.messages())

    place.day(3)

    senders = {m.owner for m in place.messages()[start:]} - {place.town.owners[0].address}
    assert senders == {place.town.owners[3].address}  # told now, Bank A would know who it was ...
    assert place.told(0) == {}
    (held,) = place.teller.pending()
    assert "1 institutions of its cohort" in held.held  # ... so it is held back until others have sent

    place.silent = set()
    place.day(3)
    assert len(place.told(0)) == 1
    slots = [notices.parse_batch(m.message).slots for m in place.messages() if m.message[0] == notices.BATCH]
    assert [sorted(slot) for slot in slots] == [[0, 1, 2, 3, 4]]
    assert len({len(sealed) for slot in slots for _, sealed in slot.values()}) == 1


def test_batch__two_corrections_on_one_day__are_one(place: Place) -> None:
    place.asked(1, by=0)
    place.asked(2, by=1)
    place.correct(3)
    place.correct(4, number=2)

    place.day(3)

    assert [m.message[0] for m in place.messages()].count(notices.BATCH) == 1
    assert (len(place.told(0)), len(place.told(1))) == (1, 1)


def test_slot__what_is_in_it__is_inquiry_and_place_alone(place: Place, town: FakeTown) -> None:
    inquiry = place.asked(1, by=0)
    place.correct(3)
    place.day(3)

    (batch,) = [m.message for m in place.messages() if m.message[0] == notices.BATCH]
    own = town[0].desk.member.key
    part = notices.parse_batch(batch)
    opened = notices.open_slot(part, realm=town.chain.realm, own=own, private=town.keys[0].institution_key(own.public))

    assert opened == (Affected(inquiry.id, 0),)
    assert figures(8)["outstanding"].to_bytes(2, "big") not in Affected(inquiry.id, 0).encoded[32:]


def test_slot__read_by_another_member__stays_closed(place: Place, town: FakeTown) -> None:
    place.asked(1, by=0)
    place.correct(3)
    place.day(3)
    (batch,) = [m.message for m in place.messages() if m.message[0] == notices.BATCH]
    part, own = notices.parse_batch(batch), town[0].desk.member.key

    for other in range(1, 5):
        key = town[other].desk.member.key
        private = town.keys[other].institution_key(key.public)
        assert notices.open_slot(part, realm=town.chain.realm, own=key, private=private) == ()
        with pytest.raises(InvalidMessage):
            notices.open_slot(part, realm=town.chain.realm, own=own, private=private)


def test_told_inquirer__asks_again__learns_the_difference_over_one_cohort_and_over_no_other(
    place: Place, town: FakeTown
) -> None:
    """What stays open (threats.md), and the bound of it: the window rule (R27)."""
    first = town.ask(1)
    town.settle()
    tag = town.tagger.tag(subject(1))
    town.books[3].figures[tag] = {**town.books[3].figures[tag], "outstanding": 8_500}
    place.correct(3)
    place.day(3)
    assert len(place.told(0)) == 1

    town.sleep(2)  # over another cohort the difference would hold Bank C's whole figure
    second = town.ask(1)
    town.settle()
    waiting = town[0].inquirer.get(second)
    assert (waiting.state, waiting.inquiry) == ("wanted", None)
    assert "within the window" in waiting.note or "Bank C" in waiting.note
    town.wake(2)
    town.settle()

    before, after = (town[0].inquirer.get(request).totals for request in (first, second))
    assert before is not None
    assert after is not None
    assert {name: after[0][name] - before[0][name] for name in after[0]} == {
        **dict.fromkeys(after[0], 0),
        "outstanding": 500,  # 8,000 was wrong, 8,500 is right; nothing says that it was Bank D's
    }


# --------------------------------------------------------------------- having others told


def test_member__that_did_not_answer__has_nobody_told(place: Place, town: FakeTown) -> None:
    town.sleep(4)
    place.asked(1, by=0)
    town.wake(4)

    place.correct(4)  # Bank E was not in the cohort
    place.correct(3, number=5)  # nobody asked about this subject
    place.correct(2, since=town.chain.time)  # from after its answer
    place.correct(1, until=2)  # until before its answer
    place.day(3)

    assert list(place.teller._found()) == []
    assert place.told(0) == {}


def test_member__its_own_inquiry_and_failed_ones__are_not_told(place: Place) -> None:
    place.asked(1, by=3)

    place.correct(3)
    place.day(3)

    assert place.told(3) == {}


def test_inquiry__older_than_30_days__is_not_told(place: Place) -> None:
    place.asked(1, by=0)
    place.town.chain.advance(31 * DAY)
    for book in place.town.books:
        book.as_of = place.town.chain.time

    place.correct(3)
    place.day(3)

    assert place.told(0) == {}


def forge(place: Place, by: int, message: bytes) -> None:
    place.town.rogue(by, Call("consortium", "notify", (place.town.owners[by].address, message)))


def test_message__copied_replayed_or_for_another_day__is_not_accepted(place: Place, town: FakeTown) -> None:
    place.asked(1, by=0)
    place.correct(3)
    town.chain.advance(DAY)
    place.round()
    said = [m for m in place.messages() if m.owner == town.owners[3].address][-1].message
    key = town.supervisor.follower.state.period_key
    assert key is not None
    future = notices.seal_daily(
        [],
        realm=town.chain.realm,
        member=2,
        day=town.chain.time // DAY + 9,
        supervisor_public=key.public,
        supervisor_key_version=1,
    )
    before = len(place.teller._said)

    forge(place, 4, said)  # Bank E sends Bank D's as its own
    forge(place, 3, said)  # Bank D sends it again
    forge(place, 2, future)
    forge(place, 1, b"\1\2" + bytes(20))
    forge(place, 1, b"\7")
    town.supervisor.follower.sync()
    place.teller.read()

    assert len(place.teller._said) == before
    assert [member for member, _ in place.teller.refused] == [4, 3, 2, 1, 1]
    assert "day" in place.teller.refused[0][1]


def test_message__of_a_newer_day_under_anothers_name__does_not_open(place: Place, town: FakeTown) -> None:
    """Only the binding to the sender stands here: the day is new for Bank E."""
    place.silent = {4}
    place.correct(3)
    town.chain.advance(DAY)
    place.round()
    said = [m for m in place.messages() if m.owner == town.owners[3].address][-1].message

    forge(place, 4, said)
    town.supervisor.follower.sync()
    place.teller.read()

    assert [(member, "does not open" in why) for member, why in place.teller.refused] == [(4, True)]


def test_batch__of_a_member__is_not_believed(place: Place, town: FakeTown) -> None:
    inquiry = place.asked(1, by=0)
    keys = {i: bank.desk.member.key for i, bank in enumerate(town.banks)}
    (forged,) = notices.seal_batch(
        {0: [Affected(inquiry.id, 0)]}, realm=town.chain.realm, keys=keys, day=town.chain.time // DAY
    )

    forge(place, 3, forged)
    place.day()

    assert place.told(0) == {}
    assert (3, "only the supervisor sends batches") in place.teller.refused
    # the twin: the same bytes from the supervisor are believed
    FakeSigner(town.chain, town.supervisor_account.address).transact(
        Call("consortium", "notify", (town.supervisor_owner.address, forged))
    )
    place.round()
    assert len(place.told(0)) == 1


def test_batch__names_a_foreign_inquiry__is_left_alone(place: Place, town: FakeTown) -> None:
    inquiry = place.asked(1, by=0)
    keys = {i: bank.desk.member.key for i, bank in enumerate(town.banks)}
    (wrong,) = notices.seal_batch(
        {1: [Affected(inquiry.id, 0), Affected(bytes(32), 0)], 0: [Affected(inquiry.id, 1)]},
        realm=town.chain.realm,
        keys=keys,
        day=1,
    )

    FakeSigner(town.chain, town.supervisor_account.address).transact(
        Call("consortium", "notify", (town.supervisor_owner.address, wrong))
    )
    place.round()

    assert place.told(0) == place.told(1) == {}


def test_batch__of_a_day_that_has_not_come__does_not_stop_later_ones(place: Place, town: FakeTown) -> None:
    place.asked(1, by=0)
    keys = {i: bank.desk.member.key for i, bank in enumerate(town.banks)}
    (ahead,) = notices.seal_batch({}, realm=town.chain.realm, keys=keys, day=2**32 - 1)

    town.supervisor.outbox.post("ahead", Call("consortium", "notify", (town.supervisor_owner.address, ahead)))
    place.correct(3)
    place.day(3)

    assert len(place.told(0)) == 1


# --------------------------------------------------------------------- crash, loss, too much


def test_sender__killed_between_store_and_ledger__sends_the_same_once(place: Place, town: FakeTown) -> None:
    place.asked(1, by=0)
    place.correct(3)
    town.chain.advance(DAY)
    bank = town[3]
    bank.sync()
    real = bank.desk.post
    bank.desk.post = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        place.parties[3].sender.step()
    bank.desk.post = real  # type: ignore[method-assign]
    stored = bank.desk.store.get("daily-notice", "last")

    anew = Sender(bank.desk)  # knows nothing but the store
    lines = anew.step() + anew.step()
    bank.sync()

    assert len(lines) == 1
    assert stored is not None
    mine = [m for m in place.messages() if m.owner == town.owners[3].address]
    assert "0x" + mine[-1].message.hex() == stored["message"]
    assert Sender(bank.desk).step() == []


def test_sender__restored_store__sends_no_second_message_for_a_day(place: Place, town: FakeTown) -> None:
    town.chain.advance(DAY)
    place.round()
    town[3].desk.store.delete("daily-notice", "last")
    town[3].sync()

    assert Sender(town[3].desk).step() == []


def test_teller__killed_between_store_and_ledger__sends_the_batch_once(place: Place, town: FakeTown) -> None:
    place.asked(1, by=0)
    place.correct(3)
    place.teller.sends = False
    place.day(2)
    outbox = town.supervisor.outbox
    real = outbox.post
    outbox.post = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    place.teller.sends = True
    with pytest.raises(KeyboardInterrupt):
        place.teller.step()
    outbox.post = real  # type: ignore[method-assign]

    place.teller = Teller(town.supervisor.supervisor)
    place.round()
    place.round()

    assert [m.message[0] for m in place.messages()].count(notices.BATCH) == 1
    assert len(place.told(0)) == 1


def test_teller__store_lost_after_a_batch__does_not_tell_it_again(place: Place, town: FakeTown) -> None:
    place.asked(1, by=0)
    place.correct(3)
    place.day(3)
    store = town.supervisor.supervisor.store
    for kind in ("told", "batch", "teller"):
        for key, _ in list(store.items(kind)):
            store.delete(kind, key)

    place.teller = Teller(town.supervisor.supervisor)
    place.day(2)

    assert [m.message[0] for m in place.messages()].count(notices.BATCH) == 1


def test_teller__more_than_a_slot_holds__the_rest_goes_out_the_next_day(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correcting, "TOLD", 2)
    for number in (1, 2, 3):
        place.asked(number, by=0)
        place.correct(3, number=number)

    place.day(2)
    assert len(place.told(0)) == 2
    place.day(2)
    assert len(place.told(0)) == 3


def test_teller__by_hand__sends_what_is_held_and_one_batch_a_day(place: Place) -> None:
    place.asked(1, by=0)
    place.silent = {1, 2, 4}
    place.correct(3)
    place.day(2)
    assert place.told(0) == {}

    assert place.teller.send_now()
    place.round()

    assert len(place.told(0)) == 1
    with pytest.raises(Refused, match="nothing to tell today"):
        place.teller.send_now()


def test_batch__sealed_to_a_key_that_was_destroyed__does_not_stop_who_starts_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.asked(1, by=0)
    place.correct(3)
    place.day(3)
    desk = place.town.banks[0].desk

    def destroyed(public: bytes) -> AgreementKey:
        raise KeyStoreError("there is no such key any more")

    monkeypatch.setattr(desk.keys, "institution_key", destroyed)
    again = Listener(desk)

    assert again.step() == []
    assert again._read == len(desk.state.notices)
