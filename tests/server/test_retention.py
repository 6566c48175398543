"""Retention: what is over is destroyed once a day and said in the audit log; what is not, or is shared, stays.

Branches: inquiry keys - over, not over, under way, kept for ever; applications - over, not decided, packed with one that
stays; the supervisor's keys - in force, announced, due; the day - once, after trouble; a clock that is wrong; the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from web_world import EVIDENCE, World, world

from mpcredit.chain import ChainSigner
from mpcredit.consent import Consent, Purpose
from mpcredit.errors import InvalidFile, KeyStoreError, Refused, TooLarge
from mpcredit.events import Call, Stage
from mpcredit.ledger.roster import SUPERVISOR
from mpcredit.local import sign_key
from mpcredit.policy import Outcome
from mpcredit.server.casefile import Step
from mpcredit.server.drafts import Draft
from mpcredit.server.footprint import Footprints
from mpcredit.server.refusals import NotFound
from mpcredit.server.retention import DAY, Retention
from mpcredit.server.settings import RetentionSettings, ServerSettings


@pytest.fixture
def there(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        yield found


@pytest.fixture
def later(there: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let days pass, on the ledger and here, without anything happening."""
    parties = [there.consortium["Bank A"].follower, there.consortium.supervisor.follower]
    heads = [follower.head for follower in parties]

    def pass_days(days: float) -> None:
        for follower, head in zip(parties, heads, strict=True):
            assert head is not None
            assert follower.head is not None
            follower.head = replace(follower.head, timestamp=follower.head.timestamp + int(days * DAY))

    return pass_days


def retention(there: World, at: float | None = None, **days: int) -> Retention:
    bank = there.bank
    given = {"inquiry_keys": 0, **days}
    clock = (lambda: 2e9) if at is None else lambda: at
    return Retention(RetentionSettings(**given), bank.node, bank.audit, bank.applications, clock=clock)


def keys(there: World) -> tuple[str, ...]:
    found: Any = there.consortium["Bank A"].desk.keys
    return tuple(found.inquiry_keys())


def decide(there: World, application: str) -> None:
    found = there.bank.applications.get(application)
    assert found.answer is not None
    outcome = Outcome.DECLINE if found.answer["outcome"] == "decline" else Outcome.APPROVE
    there.bank.applications.decide(application, officer="user:officer", outcome=outcome, reason="as usual")
    there.bank.applications.get(application)


def test_inquiry_keys__over__are_destroyed_and_told_and_totals_stay(
    there: World, later: Callable[[float], None]
) -> None:
    bank, party = there.bank, there.consortium["Bank A"]
    application = there.enter()
    there.settle()
    assert len(keys(there)) == 1
    (key,) = keys(there)
    later(29)
    job = retention(there, inquiry_keys=30)
    assert job.run(party) == []
    later(2)

    assert retention(there, inquiry_keys=0).run(party) == []  # 0: for ever
    assert retention(there, at=1.0, inquiry_keys=30).run(party) == []  # a clock that went back
    assert job.run(party) == ["destroyed 1 inquiry keys after 30 days"]

    assert keys(there) == ()
    (entry,) = bank.audit.search(action="retention.")
    assert (entry.actor, entry.action) == ("node", "retention.inquiry_key_destroyed")
    assert entry.about == f"inquiry/{bank.applications.get(application).seen['inquiry']}"
    assert entry.facts["key"] == key
    assert job.run(party) == []
    assert bank.applications.get(application).totals
    page = bank.sign_in("auditor").get("/retention").text
    assert "retention.inquiry_key_destroyed" in page
    assert "inquiry keys: 0, openings: 0" in page


def test_inquiry_keys__of_a_request_that_ended_before_an_opening_was_signed__are_destroyed_too(
    there: World, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    party = there.consortium["Bank A"]
    with monkeypatch.context() as refusing:
        refusing.setattr(party.desk.outbox.signer, "sign", _refused)
        application = there.enter()
        there.bank.node.round()
    request = party.inquirer.get(str(there.bank.applications.get(application).request_id))
    assert request.value["attempts"] == []
    assert list(keys(there)) == request.keys
    party.desk.store.put("request", request.id, {**request.value, "state": "failed"})  # its consent has ended
    later(31)

    assert retention(there, inquiry_keys=30).run(party) == ["destroyed 1 inquiry keys after 30 days"]

    assert keys(there) == ()
    (entry,) = there.bank.audit.search(action="retention.")
    assert entry.about == f"request/{request.id}"


def test_inquiry_keys__of_an_inquiry_that_no_request_names__go_with_its_openings_when_it_is_over(
    there: World, later: Callable[[float], None]
) -> None:
    party, days = there.consortium["Bank A"], 30
    application = there.enter()
    there.settle()
    found = there.bank.applications.get(application)
    party.desk.store.delete("request", str(found.request_id))  # as in a store that was restored
    later(days - 1)
    assert retention(there, inquiry_keys=days).run(party) == []
    later(2)

    assert retention(there, inquiry_keys=days).run(party) == ["destroyed 1 inquiry keys after 30 days"]

    assert keys(there) == ()
    assert "openings" not in (party.desk.store.get("report", found.seen["inquiry"]) or {"openings": 0})
    (entry,) = there.bank.audit.search(action="retention.")
    assert entry.about == f"inquiry/{found.seen['inquiry']}"


def _refused(*_: Any) -> Any:
    raise TooLarge("the node refused (estimate gas)")


def test_inquiry_keys__over__go_with_the_openings_and_nothing_here_opens_the_totals_again(
    there: World, later: Callable[[float], None]
) -> None:
    party, days = there.consortium["Bank A"], 30
    application = there.enter()
    there.settle()
    found = there.bank.applications.get(application)
    inquiry = found.seen["inquiry"]
    report = party.desk.store.get("report", inquiry)
    assert report is not None
    secret = [part for opening in report["openings"] for part in opening] + [report["salt"]]
    assert party.result(str(found.request_id)).evidence()
    page = there.bank.sign_in("auditor").get("/retention").text
    assert "inquiry keys: 1, openings: 1" in page
    later(days + 1)
    job = retention(there, inquiry_keys=days)

    # Cut off between the openings, which go with the entry, and the key, which is a file.
    keystore: Any = party.desk.keys
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keystore, "destroy_inquiry_key", _cut_off)
        with pytest.raises(KeyStoreError):
            job.run(party)
    assert len(keys(there)) == 1
    assert job.run(party) == ["destroyed 1 inquiry keys after 30 days"]
    assert job.run(party) == []

    everything = "".join(str(value) for kind in ("report", "request") for _, value in party.desk.store.items(kind))
    assert not [part for part in secret if part in everything]
    assert keys(there) == ()
    assert there.bank.applications.get(application).totals == found.totals
    assert party.inquirer.get(str(found.request_id)).totals
    with pytest.raises(Refused, match="destroyed after their retention"):
        party.result(str(found.request_id)).evidence()
    last, first = there.bank.audit.search(action="retention.")
    assert (first.facts["openings"], last.facts["openings"]) == (True, False)
    assert there.bank.audit.verify() > 0


def _cut_off(_: str) -> None:
    raise KeyStoreError("killed here")


def test_requests__of_no_application__are_erased_with_the_applications_period(
    there: World, later: Callable[[float], None]
) -> None:
    party = there.consortium["Bank A"]
    application = there.enter()
    there.settle()
    named = there.bank.applications.get(application).request_id
    who = there.take()
    consent = Consent.grant(who, to=party, purpose=Purpose.REVIEW, days=5, now=party.follower.now)
    loose = party.inquirer.request(["TW"], [consent], officer="console")
    for _ in range(8):
        there.consortium.work(but="Bank A")
        there.bank.node.round()
        there.supervisor.node.round()
    loose = party.inquirer.get(loose.id)
    assert loose.state.final
    later(101)

    assert retention(there, applications=0).run(party) == []
    assert retention(there, applications=102).run(party) == []
    assert retention(there, applications=100).run(party) == ["erased 1 requests of no application after 100 days"]

    assert [request.id for request in party.inquirer.requests()] == [named]
    assert party.desk.store.get("report", str(loose.value["inquiry"])) is None
    assert len(keys(there)) == 1
    assert there.bank.audit.search(action="retention.request_erased")[0].about == f"request/{loose.id}"


def test_inquiry_keys__of_a_request_under_way__stay(there: World, later: Callable[[float], None]) -> None:
    there.consortium.asleep.add("Bank B")
    there.enter()
    for _ in range(3):
        there.bank.node.round()
    assert len(keys(there)) == 1
    later(1_000)

    assert retention(there, inquiry_keys=1).run(there.consortium["Bank A"]) == []
    assert len(keys(there)) == 1


def test_inquiry_keys__not_to_be_destroyed__are_tried_again_in_an_hour(
    there: World, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    there.enter()
    there.settle()
    later(31)
    party, now = there.consortium["Bank A"], [2e9]
    bank = there.bank
    job = Retention(RetentionSettings(inquiry_keys=30), bank.node, bank.audit, bank.applications, clock=lambda: now[0])

    def fail(_: str) -> None:
        raise KeyStoreError("a disk that only reads")

    with monkeypatch.context() as patch:
        patch.setattr(party.desk.keys, "destroy_inquiry_key", fail)
        with pytest.raises(KeyStoreError):
            job.daily(party)
    now[0] += 3_599
    assert job.daily(party) == []
    assert len(keys(there)) == 1
    now[0] += 1
    assert job.daily(party) == ["destroyed 1 inquiry keys after 30 days"]
    now[0] += DAY - 1
    later(100)
    assert job.daily(party) == []


def test_applications__decided_long_ago__are_erased_with_all_that_tells_of_them(
    there: World, later: Callable[[float], None]
) -> None:
    bank, party, subject = there.bank, there.consortium["Bank A"], there.take()
    gone, undecided = there.enter(subject=subject), there.enter()
    there.settle()
    decide(there, gone)
    if bank.applications.get(gone).step is not Step.DECIDED:
        bank.applications.review(gone, reviewer="user:reviewer", agree=True, reason="")
    found = bank.applications.get(gone)
    later(101)

    assert retention(there, applications=200).run(party) == []
    assert retention(there, applications=100).run(party) == ["erased 1 decided applications after 100 days"]

    with pytest.raises(NotFound):
        bank.applications.get(gone)
    with pytest.raises(NotFound):
        bank.applications.consents.receipt(found.consent)
    assert bank.applications.get(undecided).totals
    store = party.desk.store
    assert found.request_id not in [request.id for request in party.inquirer.requests()]
    assert store.get("report", found.seen["inquiry"]) is None
    assert len(keys(there)) == 1
    assert [entry.action for entry in bank.audit.search(about=f"application/{gone}", limit=1)] == [
        "retention.application_erased"
    ]
    for _ in range(3):
        bank.node.round()  # nothing stumbles over the gap
    assert bank.node.status().state == "working"
    # The customer still learns that he was asked about, though not by which consent.
    footprints = Footprints(bank.database, bank.node, bank.audit)
    token = footprints.issue(
        kind=subject.kind,
        country=subject.country,
        number=subject.number,
        identified="passport seen",
        officer="user:officer",
    )
    shown = footprints.redeem(token)
    assert shown is not None
    (entry,) = shown[0].document["inquiries"]
    assert (entry["asked_by"], entry["inquiry"], entry["consent"]) == ("Bank A", found.seen["inquiry"], None)


def test_applications__packed_together__keep_the_inquiry_until_the_last(
    there: World, later: Callable[[float], None]
) -> None:
    bank, party = there.bank, there.consortium["Bank A"]
    drafts = []
    for subject in (there.take(), there.take()):
        fields = {"kind": subject.kind, "country": subject.country, "number": subject.number, "amount": "1"}
        drafts.append(Draft.parse({**fields, "purpose": "review", "evidence": EVIDENCE}, currency="TWD"))
    first, second = bank.applications.create_many(drafts, officer="user:officer")
    there.settle()
    assert bank.applications.get(first.id).request_id == bank.applications.get(second.id).request_id

    def finish(application: str) -> None:
        decide(there, application)
        if bank.applications.get(application).step is not Step.DECIDED:
            bank.applications.review(application, reviewer="user:reviewer", agree=True, reason="")

    finish(first.id)
    later(101)
    assert retention(there, applications=100).run(party) == ["erased 1 decided applications after 100 days"]
    assert len(party.inquirer.requests()) == len(keys(there)) == 1
    assert bank.applications.get(second.id).totals

    finish(second.id)
    assert retention(there, applications=100).run(party) == ["erased 1 decided applications after 100 days"]
    assert len(party.inquirer.requests()) == len(keys(there)) == 0


def test_supervisor__period_key__is_destroyed_when_another_has_taken_its_place_and_it_is_old(
    there: World, later: Callable[[float], None]
) -> None:
    there.enter()
    there.settle()
    site, node, consortium = there.supervisor, there.consortium.supervisor, there.consortium
    keys_of: Any = node.supervisor.keys
    job = Retention(RetentionSettings(disclosures=50), site.node, site.audit, None, clock=lambda: 2e9)
    later(51)
    assert job.run(node) == []  # in force
    assert "it is announced or in force" in site.sign_in("auditor").get("/retention").text
    later(-51)

    old, new = keys_of.supervisor_versions()[1], keys_of.create_supervisor_key(2)
    consortium.advance(DAY)
    signature = sign_key(consortium.supervisor_owner, consortium.ledger.realm, SUPERVISOR, 2, new.public, old)
    owner = ChainSigner(consortium.ledger.web3, consortium.supervisor_owner, consortium.ledger.realm.consortium)
    owner.transact(Call("consortium", "announcePeriodKey", (new.public, signature)))
    there.settle()
    kept = job.overview(node).period_keys
    assert [(key.version, key.in_use) for key in kept] == [(1, True), (2, True)]  # nobody has accepted the new one yet
    later(51)
    assert job.run(node) == []
    later(-51)
    for institution in consortium.institutions.values():
        institution.follower.use_pins(replace(consortium.pins, period_keys=frozenset({new.public})))
    there.settle()
    later(48)
    assert job.run(node) == []
    later(2)
    assert Retention(RetentionSettings(), site.node, site.audit, None, clock=lambda: 2e9).run(node) == []  # for ever
    assert job.run(node) == ["destroyed period key 1 after 50 days"]

    assert list(keys_of.supervisor_versions()) == [2]
    assert job.run(node) == []
    (entry,) = site.audit.search(action="retention.")
    assert (entry.action, entry.about, entry.facts["inquiries"]) == (
        "retention.period_key_destroyed",
        "period_key/1",
        1,
    )
    # The next inquiry is checked and attested under the new key.
    later(-50)
    there.enter()
    there.settle()
    assert [inquiry.stage for inquiry in node.follower.state.inquiries.values()] == [Stage.VALID, Stage.VALID]


def test_institution__key_of_before_a_rotation__is_destroyed_when_its_last_inquiry_is_old(
    there: World, later: Callable[[float], None]
) -> None:
    there.enter()
    there.settle()
    consortium, party = there.consortium, there.consortium["Bank A"]
    keys_of: Any = party.desk.keys
    job = retention(there, institution_keys=40)
    later(41)
    assert job.run(party) == []  # in force
    old = party.desk.member.key
    new = keys_of.create_institution_key(2)
    assert job.run(party) == []  # made, not registered
    signature = sign_key(consortium.owners["Bank A"], consortium.ledger.realm, old.member, 2, new.public, old.public)
    ChainSigner(consortium.ledger.web3, consortium.owners["Bank A"], consortium.ledger.realm.consortium).transact(
        Call("consortium", "rotateKey", (old.member, new.public, False, signature))
    )
    there.settle()
    later(39)
    assert job.run(party) == []
    later(2)

    assert retention(there).run(party) == []  # 0: for ever
    assert job.overview(party).next_institution_key is not None
    assert job.run(party) == ["destroyed institution key 1 after 40 days"]

    assert list(keys_of.institution_versions()) == [2]
    (entry,) = there.bank.audit.search(action="retention.")
    assert (entry.about, entry.facts["inquiries"]) == ("institution_key/1", 1)
    assert job.run(party) == []


def test_overview__says_when_the_next_is_due(there: World) -> None:
    there.enter()
    there.settle()
    party = there.consortium["Bank A"]
    has = retention(there, inquiry_keys=10, applications=20).overview(party)

    assert (has.inquiry_keys, has.orphans, has.decided, has.next_application) == (1, 0, 0, None)
    (inquiry,) = party.desk.state.inquiries.values()
    assert inquiry.verdict is not None
    assert has.next_key == inquiry.verdict.at.timestamp + 10 * DAY
    assert has.institution_keys[0].in_use
    assert has.institution_keys[0].inquiries == 1
    party.desk.store.delete("request", party.inquirer.requests()[0].id)
    assert retention(there).overview(party).orphans == 1


def test_settings__table__is_read_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bank.toml"
    path.write_text("[server]\n[server.retention]\ninquiry_keys = 90\napplications = 3650\n")

    found = ServerSettings.load(path).retention

    assert (found.inquiry_keys, found.applications, found.disclosures) == (90, 3650, 0)
    for wrong in ("inquiry_keys = -1", 'inquiry_keys = "soon"', "forever = 1"):
        path.write_text(f"[server.retention]\n{wrong}\n")
        with pytest.raises(InvalidFile, match="retention"):
            ServerSettings.load(path)
    path.write_text("[server]\n")
    monkeypatch.setenv("MPCREDIT_SERVER_RETENTION", '{"inquiry_keys": 7}')
    assert ServerSettings.load(path).retention.inquiry_keys == 7
