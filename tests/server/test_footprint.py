"""The customer's footprint: complete as far as its server can see, shown once, only by a link, and in the audit log.

Branches: what it says - own inquiries, others', past ones under an older tag key, revoked consents, ones that went past
this bank, lost keys; a link - wrong form, too many, used, over, of another kind; who may; at the supervisor - every
inquiry, without a tag key, with another's, a destroyed period key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from web_world import World, second_tag_key, world

from mpcredit.consent import Consent, Purpose
from mpcredit.encoding import to_hex
from mpcredit.errors import KeyStoreError
from mpcredit.follower import Follower
from mpcredit.identity import Subject
from mpcredit.server import footprint
from mpcredit.server.footprint import Footprints
from mpcredit.server.refusals import InvalidForm, NotAllowed
from mpcredit.tags import TagKey


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("footprint")) as found:
        yield found


@pytest.fixture
def footprints(there: World) -> Footprints:
    bank = there.bank
    return Footprints(bank.database, bank.node, bank.audit)


def issue(footprints: Footprints, subject: Subject, officer: str = "user:officer", **changes: str) -> str:
    fields = {"kind": subject.kind, "country": subject.country, "number": subject.number}
    return footprints.issue(**{**fields, "identified": "passport seen at the desk", **changes}, officer=officer)


def ask(there: World, name: str, subject: Subject) -> str:
    """Another bank asks, and it is finished; the inquiry."""
    bank = there.consortium[name]
    bank.sync()
    now = bank.follower.now
    consent = Consent.grant(subject, to=bank, purpose=Purpose.REVIEW, days=3, now=now)
    handle = bank.inquire([subject], consents=[consent], officer="o")
    for _ in range(40):
        moved = there.consortium.work(but="Bank A")
        there.bank.node.round()
        there.supervisor.node.round()
        if not moved and handle.request.state.final:
            break
    assert handle.request.inquiry is not None
    return to_hex(handle.request.inquiry)


def test_page__link_of_an_officer__shows_once_who_asked_when_why_and_by_which_consent(there: World) -> None:
    subject, stranger = there.take(), there.bank.anonymous()
    there.enter(subject=subject, purpose="new_credit")
    there.settle()
    theirs = ask(there, "Bank B", subject)
    ask(there, "Bank B", there.take())  # somebody else's
    fields = {"kind": subject.kind, "country": subject.country, "number": subject.number}
    answer = there.bank.sign_in("officer").post("/footprints", data={**fields, "identified": "passport seen"})
    address = re.search(r"http://127\.0\.0\.1:18440(/footprint\?token=[\w-]+)", answer.text)
    assert address is not None
    token = address[1].split("=")[1]

    assert "Show who asked about me" in stranger.get(address[1]).text
    assert "Show who asked about me" in stranger.get(address[1]).text  # a preview uses nothing up
    shown = stranger.post("/footprint", data={"token": token})

    assert shown.status_code == 200
    assert shown.headers["cache-control"] == "no-store"
    rows = re.findall(r"<tr>(.*?)</tr>", shown.text.split("<tbody>")[1], re.DOTALL)
    assert len(rows) == 2
    assert "Bank B" in rows[0] or "Bank B" in rows[1]
    assert subject.number not in shown.text
    following = re.search(r'name="token" value="([\w-]+)"', shown.text)
    assert following is not None
    document = stranger.post("/footprint/document", data={"token": following[1]})
    assert document.headers["content-disposition"].startswith("attachment")
    value = document.json()
    assert (value["format"], value["version"], value["served_by"]) == ("mpcredit/footprint", 1, "Bank A")
    found = {entry["asked_by"]: entry for entry in value["inquiries"]}
    assert set(found) == {"Bank A", "Bank B"}
    assert found["Bank B"]["inquiry"] == theirs
    assert (found["Bank A"]["purpose"], found["Bank B"]["purpose"]) == ("new_credit", "review")
    state = there.consortium["Bank A"].desk.state
    for entry in found.values():
        inquiry = state.inquiries[bytes.fromhex(entry["inquiry"][2:])]
        assert entry["asked_at"] == inquiry.opened.at.timestamp
        assert [entry["consent"]["hash"]] == [to_hex(h) for h in inquiry.opening.consents]
        assert entry["outcome"] == "answered"
    assert value["not_readable_here"] == 0
    for again in ("/footprint", "/footprint/document"):
        for used in (token, following[1]):
            assert stranger.post(again, data={"token": used}).status_code == 404
    assert "does not hold any more" in stranger.get(address[1]).text
    seen = [(entry.actor, entry.action) for entry in there.bank.audit.search(action="footprint.", limit=3)]
    assert seen == [
        ("customer", "footprint.shown"),
        ("customer", "footprint.shown"),
        ("user:officer", "footprint.link_issued"),
    ]
    entry = there.bank.audit.search(action="footprint.link_issued", limit=1)[0]
    assert entry.why == "passport seen"
    assert subject.number not in entry.line.decode()


def test_document__never_asked_about__is_empty_and_page_says_so(there: World, footprints: Footprints) -> None:
    subject = there.take()

    assert footprints.redeem(issue(footprints, subject))[0].document["inquiries"] == []  # type: ignore[index]
    answer = there.bank.anonymous().post("/footprint", data={"token": issue(footprints, subject)})
    assert "Nobody has asked about you" in answer.text


def test_document__inquiry_that_went_past_this_bank__is_counted(there: World, footprints: Footprints) -> None:
    subject, bank = there.take(), there.consortium["Bank A"]
    ask(there, "Bank C", subject)
    inquiry = next(i for i in reversed(bank.desk.state.inquiries.values()) if i.names[i.inquirer] == "Bank C")

    def shown() -> dict[str, Any]:
        found = footprints.redeem(issue(footprints, subject))
        assert found is not None
        return found[0].document

    assert [entry["asked_by"] for entry in shown()["inquiries"]] == ["Bank C"]
    cohort = inquiry.opened.opening.cohort
    try:
        object.__setattr__(inquiry.opened.opening, "cohort", cohort & ~(1 << bank.index))
        assert shown()["not_readable_here"] == 1
    finally:
        object.__setattr__(inquiry.opened.opening, "cohort", cohort)


def test_document__key_destroyed_since__still_says_who_and_when(
    there: World, footprints: Footprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, bank = there.take(), there.consortium["Bank A"]
    ask(there, "Bank D", subject)

    def gone(*_: Any) -> None:
        raise KeyStoreError("destroyed")

    monkeypatch.setattr(bank.desk, "subjects", gone)
    found = footprints.redeem(issue(footprints, subject))

    assert found is not None
    (entry,) = found[0].document["inquiries"]
    assert (entry["asked_by"], entry["purpose"], entry["consent"]) == ("Bank D", None, None)
    assert entry["asked_at"]


def test_document__consent_revoked_since__says_so(there: World, footprints: Footprints) -> None:
    subject = there.take()
    application = there.bank.applications.get(there.enter(subject=subject))
    there.settle()
    there.bank.applications.consents.revoke(application.consent, by="user:officer", why="by letter")
    there.bank.node.round()

    found = footprints.redeem(issue(footprints, subject))

    assert found is not None
    (entry,) = found[0].document["inquiries"]
    assert entry["consent"]["revoked"] is True


@pytest.mark.parametrize("issued", ["before the new key", "after it"])
def test_link__over_a_new_tag_key__shows_what_was_asked_under_both(
    there: World, footprints: Footprints, issued: str
) -> None:
    subject, mine = there.take(), there.take()
    asked = [ask(there, "Bank B", subject)]
    there.enter(subject=mine)
    there.settle()
    token = issue(footprints, subject) if issued == "before the new key" else ""
    with second_tag_key(there):
        asked.append(ask(there, "Bank C", subject))
        found = footprints.redeem(token or issue(footprints, subject))
        own = footprints.redeem(issue(footprints, mine))

    assert found is not None
    assert own is not None
    assert sorted(entry["inquiry"] for entry in found[0].document["inquiries"]) == sorted(asked)
    assert all(entry["consent"] for entry in found[0].document["inquiries"])
    assert [entry["asked_by"] for entry in own[0].document["inquiries"]] == ["Bank A"]


def test_link__over_or_of_the_other_kind_or_unknown__shows_nothing(there: World) -> None:
    bank, times = there.bank, [1_000_000]
    footprints = Footprints(bank.database, bank.node, bank.audit, clock=lambda: times[0])
    token = issue(footprints, there.take())
    times[0] += footprint.LINK_SECONDS

    assert footprints.redeem(token) is None
    assert not footprints.holds(token)
    times[0] -= 1
    assert footprints.redeem(token, kind="document") is None
    found = footprints.redeem(token)
    assert found is not None
    times[0] += footprint.DOCUMENT_SECONDS
    assert footprints.redeem(found[1], kind="document") is None
    assert footprints.redeem("") is None
    assert footprints.prune(times[0] - footprint.DOCUMENT_SECONDS) == 0
    assert footprints.prune(times[0] + 1) == 2


def test_link__two_at_once__one_is_shown(there: World, footprints: Footprints, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issue(footprints, there.take())
    assert footprints.redeem(token) is not None

    monkeypatch.setattr(footprints, "holds", lambda *_: True)  # the other one looked before

    assert footprints.redeem(token) is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"identified": "  x "}, "identified"),
        ({"number": "A123456788"}, "number"),
        ({"country": "XX"}, "country"),
    ],
)
def test_link__wrong_form__is_refused_by_field(
    there: World, footprints: Footprints, changes: dict[str, str], field: str
) -> None:
    given = {"kind": "national_id", "country": "TW", "number": "A123456789", "identified": "passport seen", **changes}

    with pytest.raises(InvalidForm) as error:
        footprints.issue(**given, officer="user:officer")
    assert set(error.value.problems) == {field}
    answer = there.bank.sign_in("officer").post("/footprints", data=given)
    assert answer.status_code == 422
    assert f'href="#{field}"' in answer.text


def test_link__too_many_by_one_officer__are_refused(
    there: World, footprints: Footprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "LINKS_PER_DAY", 2)
    subject = there.take()
    for _ in range(2):
        issue(footprints, subject, officer="user:eager")

    with pytest.raises(NotAllowed, match="2 links"):
        issue(footprints, subject, officer="user:eager")
    issue(footprints, subject, officer="user:other")


def test_form__roles__officers_make_auditors_read(there: World) -> None:
    assert "Make a link" in there.bank.sign_in("officer").get("/footprints").text
    text = there.bank.sign_in("auditor").get("/footprints").text
    assert "Make a link" not in text
    assert "/footprint?token=" not in text
    answer = there.bank.anonymous().post("/footprint", data={"token": "x"}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


# --------------------------------------------------------------------- at the supervisor


@pytest.fixture
def supervised(there: World) -> Iterator[Footprints]:
    """The supervisor's, with the tag key that a member handed over (R4)."""
    keys = there.consortium.supervisor_keys
    keys.save_tag_key(there.consortium.tagger._keys[0])
    there.supervisor.node.round()
    yield Footprints(there.supervisor.database, there.supervisor.node, there.supervisor.audit)
    if 1 in keys.tag_versions():
        keys.destroy_tag_key(1)


def test_supervisor__link_of_a_person__shows_every_inquiry_of_the_consortium(
    there: World, supervised: Footprints
) -> None:
    subject, site = there.take(), there.supervisor
    asked = {ask(there, name, subject) for name in ("Bank B", "Bank C")}
    there.enter(subject=subject)
    there.settle()
    fields = {"kind": subject.kind, "country": subject.country, "number": subject.number}
    answer = site.sign_in("supervisor").post("/footprints", data={**fields, "identified": "came with his passport"})
    token = re.findall(r"/footprint\?token=([\w-]+)", answer.text)[0]
    stranger = site.anonymous()

    shown = stranger.post("/footprint", data={"token": token})

    following = re.search(r'name="token" value="([\w-]+)"', shown.text)
    assert following is not None
    value = stranger.post("/footprint/document", data={"token": following[1]}).json()
    assert value["served_by"] == "Supervisor"
    assert {entry["asked_by"] for entry in value["inquiries"]} == {"Bank A", "Bank B", "Bank C"}
    assert asked < {entry["inquiry"] for entry in value["inquiries"]}
    assert {entry["purpose"] for entry in value["inquiries"]} == {"review", "new_credit"}
    assert all(entry["consent"]["hash"] for entry in value["inquiries"])
    assert value["not_readable_here"] == 0
    assert subject.number not in shown.text
    assert stranger.post("/footprint", data={"token": token}).status_code == 404
    assert [(entry.actor, entry.action) for entry in site.audit.search(action="footprint.", limit=3)] == [
        ("customer", "footprint.shown"),
        ("customer", "footprint.shown"),
        ("user:supervisor", "footprint.link_issued"),
    ]


def test_supervisor__period_key_destroyed__counts_what_it_cannot_read(
    there: World, supervised: Footprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, party = there.take(), there.consortium.supervisor
    ask(there, "Bank D", subject)
    readable = party.supervisor.subjects
    party.supervisor._tags.clear()  # as after a start

    def gone(inquiry: Any) -> Any:
        if inquiry.names[inquiry.inquirer] == "Bank D":
            raise KeyStoreError("destroyed")
        return readable(inquiry)

    monkeypatch.setattr(party.supervisor, "subjects", gone)
    found = supervised.redeem(issue(supervised, subject, officer="user:supervisor"))

    assert found is not None
    assert found[0].document["inquiries"] == []
    assert found[0].document["not_readable_here"] >= 1


def test_supervisor__link_over_a_new_tag_key__shows_both_once_the_key_was_handed_over(
    there: World, supervised: Footprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, keys = there.take(), there.consortium.supervisor_keys
    asked = [ask(there, "Bank B", subject)]
    token = issue(supervised, subject, officer="user:supervisor")
    with second_tag_key(there) as tagger:
        asked.append(ask(there, "Bank C", subject))
        in_force = {key.version: key.commitment for key in tagger._keys}
        monkeypatch.setattr(Follower, "tag_keys", property(lambda _self: in_force))
        with pytest.raises(NotAllowed, match="no tag key of version 2"):
            supervised.redeem(token)
        keys.save_tag_key(tagger._keys[1])
        try:
            found = supervised.redeem(token)
        finally:
            keys.destroy_tag_key(2)

    assert found is not None
    assert sorted(entry["inquiry"] for entry in found[0].document["inquiries"]) == sorted(asked)


def test_supervisor__no_tag_key_or_anothers__says_what_to_do(there: World) -> None:
    site, keys = there.supervisor, there.consortium.supervisor_keys
    subject = there.take()
    fields = {"kind": subject.kind, "country": subject.country, "number": subject.number}
    client = site.sign_in("supervisor")

    without = client.post("/footprints", data={**fields, "identified": "passport seen"})
    keys.save_tag_key(TagKey(1, bytes(32)))
    try:
        with_anothers = client.post("/footprints", data={**fields, "identified": "passport seen"})
    finally:
        keys.destroy_tag_key(1)

    assert "has no tag key of version 1" in without.text
    assert "keys tag --import" in without.text
    assert "is not the consortium" in with_anothers.text
    for answer in (without, with_anothers):
        assert answer.status_code == 409
        assert "/footprint?token=" not in answer.text


def test_supervisor__roles__supervisors_make_auditors_read(there: World) -> None:
    assert "Make a link" in there.supervisor.sign_in("supervisor").get("/footprints").text
    text = there.supervisor.sign_in("auditor").get("/footprints").text
    assert "Make a link" not in text
