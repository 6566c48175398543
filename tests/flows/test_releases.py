"""Two neighbouring releases in one consortium, and two that are too far apart (R1, docs/adr/0019).

The next release is this code with another `versions.Release`: it writes version 3 of the sealed subject, whose content is the
same. This release reads version 2 alone. Branches: all of one release; neighbours, either asking; after everybody's
upgrade; a gap - the inquirer says so before anything is sent, a furnisher refuses before it looks; the announcement -
once, restart, malformed; a supervisor that is behind; on the real contracts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import FakeTown, found_town, subject

import mpcredit
from mpcredit import versions
from mpcredit.disclosure import RefusalCode
from mpcredit.encoding import canonical_json
from mpcredit.errors import InvalidEncoding, InvalidMessage
from mpcredit.events import MaskKeysSealed
from mpcredit.inquirer import RequestState
from mpcredit.local import local_consortium
from mpcredit.sealing import sealed_version
from mpcredit.versions import FIRST, THIS_RELEASE, Release, agreed_version, is_announcement, read_announcement

NEXT = Release("0.2.0", 2, 3)
"""The next release that changes a message: reads its own version and the one before."""
AFTER = Release("0.3.0", 3, 4)


def upgrade(party: Any, release: Release) -> None:
    """Start an institution in another release."""
    party.desk.release = release


def upgrade_supervisor(town: Any, release: Release) -> None:
    """Start the supervisor in another release."""
    town.supervisor.supervisor.release = release


@pytest.fixture
def town() -> FakeTown:
    """Five institutions of this release, and a supervisor that was upgraded first, as the rule says."""
    found = found_town()
    upgrade_supervisor(found, AFTER)
    return found


def state_of(town: FakeTown, request: str, by: int = 0) -> RequestState:
    return town[by].inquirer.get(request).state


def announcements(town: FakeTown) -> list[MaskKeysSealed]:
    return [
        event
        for event in town.chain.events(0, town.chain.head().number)
        if isinstance(event, MaskKeysSealed) and is_announcement(event.sealed_keys)
    ]


def test_release__the_first__says_nothing_and_writes_version_2(town: FakeTown) -> None:
    request = town.ask(1)
    town.settle()

    assert announcements(town) == []
    assert state_of(town, request) is RequestState.ATTESTED
    assert sealed_version(town.inquiry(request).opening.sealed_subject) == 2


@pytest.mark.parametrize("by", [0, 1])
def test_releases__neighbours_in_one_consortium__complete_whoever_asks(town: FakeTown, by: int) -> None:
    for bank in (1, 3):
        upgrade(town[bank], NEXT)
    town.settle()

    request = town.ask(1, by=by)
    town.settle()

    assert [event.member for event in announcements(town)] == [1, 3]
    assert state_of(town, request, by) is RequestState.ATTESTED
    assert sealed_version(town.inquiry(request, by=by).opening.sealed_subject) == 2
    totals = town[by].inquirer.get(request).totals
    assert totals is not None
    expected = sum(
        book.record(mpcredit.schema.FIGURES_1, town.tagger.tag(subject(1)))["outstanding"] for book in town.books
    )
    assert totals[0]["outstanding"] == expected


def test_releases__everybody_upgraded__use_the_next_version(town: FakeTown) -> None:
    for bank in town.banks:
        upgrade(bank, NEXT)
    town.settle()

    request = town.ask(1)
    town.settle()

    assert state_of(town, request) is RequestState.ATTESTED
    assert sealed_version(town.inquiry(request).opening.sealed_subject) == 3


def test_releases__neighbours_of_the_second_and_third__complete_too(town: FakeTown) -> None:
    for place, bank in enumerate(town.banks):
        upgrade(bank, NEXT if place % 2 else AFTER)
    town.settle()

    request = town.ask(1)
    town.settle()

    assert state_of(town, request) is RequestState.ATTESTED
    assert sealed_version(town.inquiry(request).opening.sealed_subject) == 3


@pytest.mark.parametrize(("by", "who"), [(0, "Bank A"), (1, "this institution")])
def test_releases__two_apart__a_clear_error_before_anything_is_sent(town: FakeTown, by: int, who: str) -> None:
    for bank in (0, 2, 3, 4) if by else (1, 2, 3, 4):
        upgrade(town[bank], AFTER)
    if not by:
        upgrade(town[0], AFTER)
        upgrade(town[1], THIS_RELEASE)
        who = "Bank B"
    town.settle()
    sent = town[by].desk.outbox.next_nonce()

    request = town.ask(1, by=by)
    town.settle()

    told = town[by].inquirer.get(request)
    assert told.state is RequestState.WANTED
    assert f"{who} reads 2" in told.note
    assert f"{who} must install a release that reads version 3; nothing was sent" in told.note
    assert town[by].desk.outbox.next_nonce() == sent
    assert told.value["attempts"] == []
    # It opens by itself as soon as the one that was behind has upgraded.
    upgrade(town[1], NEXT)
    town.settle()
    assert state_of(town, request, by) is RequestState.ATTESTED


def test_furnisher__version_that_it_does_not_read__refuses_with_code_4_and_the_book_unread(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inquirer whose endpoint hid the announcements, or that jumped two releases."""
    monkeypatch.setattr("mpcredit.inquirer.agreed_version", lambda own, others: own.highest)
    upgrade(town[0], AFTER)
    town.settle()
    looks: list[bytes] = []
    for bank in town.banks[1:]:
        book: Any = bank.furnisher.book
        real = book.record
        monkeypatch.setattr(
            book,
            "record",
            lambda schema, tag, real=real: looks.append(tag) or real(schema, tag),  # type: ignore[func-returns-value]
        )

    request = town.ask(1)
    town.settle()

    refusal = town.inquiry(request).refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.ENCODING
    assert looks == []
    assert "compare versions" in town[0].inquirer.get(request).note
    stored = town[refusal.member].desk.store.get("answer", next(key for key, _ in town[1].desk.store.items("answer")))
    assert stored is not None
    assert "are of version 4, this release reads 2" in stored["text"]


def test_announcement__is_made_once_and_before_readiness(town: FakeTown) -> None:
    upgrade(town[1], NEXT)
    town.settle()
    for _ in range(3):
        town.work()
    assert len(announcements(town)) == 1
    # A restart with the same release says nothing more; going back is said, and forward again too.
    upgrade(town[1], THIS_RELEASE)
    town.settle()
    upgrade(town[1], NEXT)
    town.settle()
    said = [read_announcement(event.sealed_keys) for event in announcements(town)]
    assert [(one.lowest, one.highest) for one in said] == [(2, 3), (2, 2), (2, 3)]
    # The supervisor does not take it for mask keys.
    assert town.supervisor.supervisor.findings == []
    # A member that has not been able to say it does not switch itself on.
    town.sleep(2)
    town[2].sync()
    upgrade(town[2], NEXT)
    assert town[2].membership._ready() == []
    upgrade(town[2], THIS_RELEASE)
    assert town[2].membership._ready() == ["switched readiness on"]


def test_upgrade__does_not_switch_a_ready_member_off(town: FakeTown) -> None:
    before = len(town.chain.events(0, town.chain.head().number))
    upgrade(town[1], NEXT)

    town.settle()

    new = town.chain.events(0, town.chain.head().number)[before:]
    assert [type(event) for event in new] == [MaskKeysSealed]
    assert town[0].desk.state.ready_next() == 0b11111


def test_announcement__malformed__counts_as_nothing_said() -> None:
    good = NEXT.announcement()
    assert read_announcement(good) == NEXT
    for bad in (
        good + b" ",
        good.replace(b'"highest":3', b'"highest":0'),
        good.replace(b'"highest":3', b'"highest":256'),
        good.replace(b'"lowest":2', b'"lowest":4'),
        good.replace(b'"lowest":2', b'"lowest":1'),
        good.replace(b'"version":2', b'"version":1'),
        good.replace(b'"version":2', b'"version":3'),
        good.replace(b"mpcredit/versions/2", b"mpcredit/versions/3"),
        b"mpcredit/versions/2" + canonical_json({"format": "mpcredit/announcement"}),
        b"mpcredit/versions/2",
        b"",
    ):
        with pytest.raises(InvalidEncoding):
            read_announcement(bad)


def test_agreed_version__is_the_highest_that_all_read() -> None:
    assert agreed_version(THIS_RELEASE, {}) == 2
    assert agreed_version(NEXT, {"B": NEXT, "C": AFTER}) == 3
    assert agreed_version(AFTER, {"B": AFTER}) == 4
    assert agreed_version(NEXT, {"B": FIRST, "C": NEXT}) == 2
    with pytest.raises(InvalidMessage, match="B reads 2") as told:
        agreed_version(AFTER, {"B": FIRST, "C": NEXT})
    assert told.value.remedy.startswith("B must install")


def test_supervisor__that_is_behind__judges_when_it_has_upgraded_and_names_nobody(town: FakeTown) -> None:
    upgrade_supervisor(town, THIS_RELEASE)
    for bank in town.banks:
        upgrade(bank, NEXT)
    town.settle()

    request = town.ask(1)
    town.settle()

    assert state_of(town, request) is RequestState.REPORTED
    (finding,) = town.supervisor.supervisor.findings
    assert finding.culprits == ()
    assert "the supervisor must upgrade" in finding.text
    upgrade_supervisor(town, NEXT)
    town.settle()
    assert state_of(town, request) is RequestState.ATTESTED


def test_this_release__is_that_of_the_package() -> None:
    assert THIS_RELEASE.package == mpcredit.__version__
    assert THIS_RELEASE.highest - THIS_RELEASE.lowest <= 1
    assert replace(THIS_RELEASE, package="") == FIRST or THIS_RELEASE.highest > 2
    assert versions.THIS_RELEASE.versions[-1] == THIS_RELEASE.highest


def test_releases__neighbours_on_the_real_contracts__complete() -> None:
    with local_consortium(4, bits=2048) as consortium:
        upgrade_supervisor(consortium, NEXT)
        for name in ("Bank B", "Bank D"):
            upgrade(consortium[name], NEXT)
        consortium.settle()
        bank = consortium["Bank A"]
        bank.sync()
        assert {i: bank.follower.state.release_of(i).highest for i in range(4)} == {0: 2, 1: 3, 2: 2, 3: 3}
        who = next(iter(consortium.books["Bank B"].subjects()))
        consent = mpcredit.Consent.grant(
            who, to=bank, purpose=mpcredit.Purpose.NEW_CREDIT, days=1, now=bank.follower.now
        )
        result = bank.inquire([who], consents=[consent], officer="test").wait(timeout=60)
        assert result.attested
        expected = sum(book.lookup(who)["outstanding"] for book in consortium.books.values())
        assert result.totals[0]["outstanding"] == expected
