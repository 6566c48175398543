"""Pages: who may see which, what they say, in both languages; what a stranger, a wrong role or a hostile text meets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from web_world import INSTITUTION_ROLES, SUPERVISOR_ROLES, Site, World, world

from mpcredit.server import oversight
from mpcredit.server.casefile import Step
from mpcredit.server.web import HERE, LANGUAGES, SAID, Words, back

ANYBODY = {
    *("/", "/sign-in", "/sign-in/provider", "/sign-in/callback", "/sign-out"),
    *("/language", "/healthz", "/readyz"),
}
CUSTOMERS = {"/footprint", "/footprint/document"}
"""Whoever has a link."""
SIGNED_IN = {"/account", "/account/active", "/account/password", "/events"}
READERS = {"officer", "reviewer", "auditor"}
LINKS = {"officer", "supervisor", "reviewer", "auditor"}
"""Customers' footprints; there are officers at an institution alone, and people of the supervisor at its own server."""
SHARED = {
    "/health": {"administrator"},
    "/metrics": {"administrator", "auditor"},
    "/audit": {"auditor"},
    "/audit/verify": {"auditor"},
    "/api/audit": {"auditor"},
    "/retention": {"administrator", "auditor"},
    "/people": {"administrator"},
    "/people/{name}/roles": {"administrator"},
    "/people/{name}/disable": {"administrator"},
    "/people/{name}/enable": {"administrator"},
    "/people/{name}/link": {"administrator"},
    "/tokens": {"administrator"},
    "/tokens/{token}/revoke": {"administrator"},
    "/reviews": {"reviewer"},
    "/reviews/waiting": {"reviewer"},
    "/suspensions/{suspension}/lift": {"reviewer"},
    "/footprints": LINKS,
    "/changes/{change}": {"reviewer"},
    "/applications/{application_id}/review": {"reviewer"},
}
BANK = {
    **SHARED,
    "/applications": {"officer"},
    "/applications/new": {"officer"},
    "/amount": {"officer"},
    "/applications/batch": {"officer"},
    "/applications/list": READERS,
    "/applications/export.csv": READERS,
    "/applications/{application_id}": READERS,
    "/applications/{application_id}/letter": READERS,
    "/applications/{application_id}/decide": {"officer"},
    "/applications/{application_id}/ask-again": {"officer"},
    "/consents": READERS,
    "/consents/{consent}/document": READERS,
    "/consents/{consent}/revoke": {"officer", "reviewer"},
    "/applications/{application_id}/corrected": {"officer"},
    "/corrections": READERS,
    "/corrections/{correction}/decide": {"reviewer"},
    "/inquiries": READERS,
    "/inquiries/{inquiry}": READERS,
    "/furnishing": {"auditor", "reviewer", "administrator"},
    "/proposals": {"auditor", "reviewer", "administrator"},
    "/proposals/{number}": {"auditor", "reviewer", "administrator"},
    "/proposals/{number}/order": {"administrator"},
    "/proposals/{number}/build": {"reviewer", "administrator"},
    "/proposals/orders/{order}": {"reviewer"},
    "/proposals/orders/{order}/cancel": {"reviewer", "administrator"},
    "/book": {"administrator", "auditor"},
    "/book/upload": {"administrator"},
    "/book/query": {"administrator"},
    "/book/rejects.csv": {"administrator", "auditor"},
    "/api/book": {"administrator"},
    "/api/book/query": {"administrator"},
    "/api/book/rejects": {"administrator"},
    "/api/applications": READERS,
    "/api/applications.csv": READERS,
    "/api/applications/{application_id}": READERS,
}
SUPERVISION = {
    **SHARED,
    "/supervision": {"supervisor"},
    "/supervision/export.{kind}": {"supervisor"},
    "/supervision/institutions": {"supervisor"},
    "/supervision/institutions.{kind}": {"supervisor"},
    "/supervision/alarms": {"supervisor"},
    "/supervision/corrections": {"supervisor"},
    "/supervision/corrections/send": {"supervisor"},
    "/proposals": {"supervisor", "reviewer", "auditor"},
    "/proposals/{number}": {"supervisor", "reviewer", "auditor"},
    "/proposals/{number}/order": {"supervisor"},
    "/proposals/{number}/build": {"supervisor", "reviewer"},
    "/proposals/orders/{order}": {"reviewer"},
    "/proposals/orders/{order}/cancel": {"supervisor", "reviewer"},
    "/supervision/looks": {"supervisor"},
    "/supervision/looks/{look}": {"supervisor"},
    "/supervision/inquiries/{inquiry}": {"supervisor"},
    "/supervision/inquiries/{inquiry}/figures": {"supervisor"},
    "/supervision/inquiries/{inquiry}/figures/export": {"supervisor"},
    "/supervision/inquiries/{inquiry}/looks": {"supervisor"},
    "/supervision/inquiries/{inquiry}/attest": {"supervisor"},
    "/api/supervision/inquiries": {"supervisor"},
    "/api/supervision/alarms": {"supervisor"},
}
WRITES_OF_OFFICERS = {"/api/applications", "/corrections", "/footprints"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A consortium with one attested and one decided application."""
    with world(tmp_path_factory.mktemp("pages")) as found:
        found.enter()
        decided = found.enter(amount="1")
        found.settle()
        answer = found.bank.sign_in("officer").post(
            f"/applications/{decided}/decide", data={"outcome": "decline", "reason": "withdrawn"}
        )
        assert answer.status_code == 303
        yield found


def routes(site: Site) -> list[tuple[str, str]]:
    """(method, path) of every route of a party."""
    found = []

    def walk(entries: object) -> None:
        for route in entries:  # type: ignore[attr-defined]
            if isinstance(route, APIRoute):
                found.extend((method, route.path) for method in sorted(route.methods or ()))
            elif hasattr(route, "original_router"):
                walk(route.original_router.routes)

    walk(site.app.routes)
    return found


def fill(path: str) -> str:
    """An address of the form of a route."""
    path = path.replace("{application_id}", "0" * 16).replace("{correction}", "0" * 16).replace("{name}", "nobody")
    path = re.sub(r"\{(consent|inquiry)\}", "0x" + "0" * 64, path)
    return re.sub(r"\{\w+\}", "1", path)


# --------------------------------------------------------------------- who may


@pytest.mark.parametrize(("which", "table"), [("bank", BANK), ("supervisor", SUPERVISION)])
def test_route__every_one__is_in_the_table_of_roles(there: World, which: str, table: dict[str, set[str]]) -> None:
    paths = {path for _, path in routes(getattr(there, which))}

    assert paths == set(table) | ANYBODY | SIGNED_IN | CUSTOMERS


@pytest.mark.parametrize(("which", "table"), [("bank", BANK), ("supervisor", SUPERVISION)])
def test_route__nobody_signed_in__is_sent_to_sign_in(there: World, which: str, table: dict[str, set[str]]) -> None:
    site = getattr(there, which)
    stranger = site.anonymous()

    for method, path in routes(site):
        if path in ANYBODY | CUSTOMERS:
            continue
        answer = stranger.request(method, fill(path))
        if path.startswith("/api/") or path == "/metrics":
            assert answer.status_code == 401, (method, path)
            assert answer.json()["error"]
        else:
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path


@pytest.mark.parametrize(
    ("which", "table", "role"),
    [("bank", BANK, role) for role in INSTITUTION_ROLES] + [("supervisor", SUPERVISION, r) for r in SUPERVISOR_ROLES],
)
def test_route__role_it_does_not_name__is_refused(
    there: World, which: str, table: dict[str, set[str]], role: str
) -> None:
    site = getattr(there, which)
    client = site.sign_in(role)

    for method, path in routes(site):
        allowed = table.get(path)
        if allowed is None:
            continue
        if method == "POST" and path in WRITES_OF_OFFICERS:
            allowed = {"officer", "supervisor"}
        answer = client.request(method, fill(path), **({"json": {}} if path.startswith("/api/") else {}))
        if role in allowed:
            assert answer.status_code not in (401, 403), (method, path, answer.status_code)
        else:
            assert answer.status_code == 403, (method, path, answer.status_code)


def test_form__from_another_site__is_refused(there: World) -> None:
    client = there.bank.sign_in("officer")

    answer = client.post("/applications", data={}, headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403


def test_answers__have_headers_that_keep_everything_here(there: World) -> None:
    answer = there.bank.sign_in("officer").get("/applications")

    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*\bsrc=\"/static/)|\bstyle=\"|\bon\w+=\"", answer.text)
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", answer.text)


# --------------------------------------------------------------------- what they say


INSTITUTION_PAGES = [
    ("officer", "/applications"),
    ("officer", "/applications/new"),
    ("officer", "/applications/batch"),
    ("officer", "/inquiries"),
    ("officer", "/consents"),
    ("officer", "/corrections"),
    ("reviewer", "/corrections"),
    ("officer", "/footprints"),
    ("auditor", "/footprints"),
    ("auditor", "/retention"),
    ("officer", "/account"),
    ("reviewer", "/reviews"),
    ("auditor", "/applications/list"),
    ("officer", "/applications/list?step=ready&first=2026-01-01&last=2026-12-31"),
    ("auditor", "/furnishing"),
    ("administrator", "/proposals"),
    ("auditor", "/audit"),
    ("administrator", "/people"),
    ("administrator", "/people?who=officer"),
    ("administrator", "/health"),
]
SUPERVISOR_PAGES = ["/supervision", "/proposals"] + [
    f"/supervision/{name}" for name in ("institutions", "alarms", "corrections", "looks")
]


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_page__every_one_in_every_language__renders(there: World, language: str) -> None:
    bank = there.bank
    for role, path in INSTITUTION_PAGES:
        client = bank.sign_in(role)
        client.post("/language", data={"language": language})
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert f'<html lang="{language}">' in answer.text
    for application in bank.applications.newest():
        answer = bank.sign_in("officer").get(f"/applications/{application.id}")
        assert answer.status_code == 200
        inquiry = application.seen["inquiry"]
        assert bank.sign_in("officer").get(f"/inquiries/{inquiry}").status_code == 200
        supervised = there.supervisor.sign_in("supervisor")
        supervised.post("/language", data={"language": language})
        assert supervised.get(f"/supervision/inquiries/{inquiry}").status_code == 200
    for path in SUPERVISOR_PAGES:
        assert there.supervisor.sign_in("supervisor").get(path).status_code == 200, path
    assert there.supervisor.sign_in("auditor").get("/retention").status_code == 200
    for role in INSTITUTION_ROLES:
        bank.sign_in(role).post("/language", data={"language": "en"})
    there.supervisor.sign_in("supervisor").post("/language", data={"language": "en"})


def test_catalogue__every_message_of_the_templates__is_translated() -> None:
    messages = json.loads((HERE / "locales" / "zh-CN.json").read_text(encoding="utf-8"))["messages"]
    asked = set(SAID.values())
    for template in (HERE / "templates").glob("*.html"):
        text = template.read_text(encoding="utf-8")
        for found in re.finditer(r"_\(\s*(?:\"([^\"]*)\"|'([^']*)')", text):
            asked.add(found[1] or found[2])

    assert asked - set(messages) == set()
    for message, translation in messages.items():
        assert sorted(re.findall(r"\{\w+\}", message)) == sorted(re.findall(r"\{\w+\}", translation)), message


def test_sentence__of_the_library__is_translated_with_its_values() -> None:
    words = Words("zh-CN")

    assert words.sentence("7 of 8 institutions; not ready: Bank C") == "8 家机构中的 7 家；未就绪：Bank C"
    assert words.sentence(
        "Bank B refused (code 8): " + "the same inquirer asked about the subject a short while ago; wait"
    )
    assert words.sentence("no rule fits this") == "no rule fits this"
    assert words.sentence("an amount in KWD is written without separators (write 200000.500, with a point)") == (
        "KWD 金额不带分隔符（请写作 200000.500（用小数点））"
    )


def test_amount__is_repeated_as_the_server_reads_it(there: World) -> None:
    officer = there.bank.sign_in("officer")

    assert "= 200,000.50 TWD" in officer.get("/amount?amount=200000.5").text
    assert "= 60,000.00 TWD" in officer.get("/amount?income=60 000").text
    said = officer.get("/amount?amount=200000,50").text
    assert "200000.50" in said
    assert "TWD" not in said
    assert officer.get("/amount?amount=").text.strip() == ""


def test_application__says_totals_sum_coverage_and_reasons(there: World) -> None:
    application = next(a for a in there.bank.applications.newest() if a.step is Step.READY)

    text = there.bank.sign_in("officer").get(f"/applications/{application.id}").text

    totals = application.totals
    assert totals is not None
    for name in ("outstanding", "credit_limit", "overdue"):
        assert f"{totals[name] // 100:,}.{totals[name] % 100:02}" in text
    assert str(application.with_requested).removesuffix(" TWD") in text
    assert "4 of 4 institutions" in text
    assert "attested" in text
    assert application.answer is not None
    for reason in application.answer["reasons"]:
        assert reason["text"] in text


def test_application__of_another_officer__is_not_shown(there: World) -> None:
    application = there.bank.applications.newest()[0]

    answer = there.bank.sign_in("officer2").get(f"/applications/{application.id}")

    assert answer.status_code == 409
    assert application.label not in answer.text


def test_application__every_look_of_a_person__is_in_the_audit_log(there: World) -> None:
    application = next(a for a in there.bank.applications.newest() if a.step is Step.READY)
    audit, about = there.bank.audit, f"application/{application.id}"
    before = len(audit.search(action="subject.looked", about=about))

    there.bank.sign_in("auditor").get(f"/applications/{application.id}")
    there.bank.sign_in("auditor").get(f"/applications/{application.id}", headers={"HX-Request": "true"})

    looks = audit.search(action="subject.looked", about=about)
    assert len(looks) == before + 1
    assert (looks[0].actor, looks[0].why) == ("user:auditor", "auditor")
    # The header alone is no permission to look unseen: whoever sends it without an open page is written down.
    there.bank.sign_in("reviewer").get(f"/applications/{application.id}", headers={"HX-Request": "true"})
    assert audit.search(action="subject.looked", about=about)[0].actor == "user:reviewer"


def test_application__hostile_reference__is_shown_as_text(there: World) -> None:
    made = there.enter(reference="<script>alert(1)</script>{{7*7}}")

    text = there.bank.sign_in("officer").get(f"/applications/{made}").text

    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{7*7}}" in text


def test_form__wrong__keeps_what_was_written_and_names_the_fields(there: World) -> None:
    answer = there.bank.sign_in("officer").post(
        "/applications", data={"number": "A123456788", "amount": "x", "kind": "?"}
    )

    assert answer.status_code == 422
    assert 'value="A123456788"' in answer.text
    assert answer.text.count('aria-invalid="true"') >= 3


def test_nobody_confirms_his_own__even_with_both_roles(there: World) -> None:
    made = there.enter("both")
    there.settle()
    client = there.bank.sign_in("both")
    desk = there.bank.applications
    current = desk.get(made)
    with there.bank.database.transaction():
        desk._save(current, Step.READY, answer={**(current.answer or {}), "outcome": "approve", "reasons": []})
    client.post(f"/applications/{made}/decide", data={"outcome": "decline", "reason": "my own view of it"})

    answer = client.post(f"/applications/{made}/review", data={"agree": "yes"})

    assert answer.status_code == 409
    assert there.bank.applications.get(made).step is Step.REVIEW
    there.bank.sign_in("reviewer").post(f"/applications/{made}/review", data={"agree": "yes"})
    assert there.bank.applications.get(made).step is Step.DECIDED


def test_stranger__next_address_elsewhere__is_not_followed() -> None:
    assert back("//evil.example") == "/"
    assert back("/\\evil.example") == "/"
    assert back("https://evil.example") == "/"
    assert back("/\r\nX: y") == "/"
    assert back(None) == "/"
    assert back("/applications/1?said=created") == "/applications/1?said=created"


def test_sign_in__link__works_once(there: World) -> None:
    token = there.bank.people.issue_sign_in("officer2", by=None)
    client = there.bank.anonymous()

    assert "Sign in as" in client.get(f"/sign-in?token={token}").text
    assert "Sign in as" in client.get(f"/sign-in?token={token}").text
    assert client.post("/sign-in", data={"token": token}).status_code == 303
    again = there.bank.anonymous().post("/sign-in", data={"token": token})

    assert again.status_code == 401
    assert "does not hold any more" in again.text


def test_sign_in__wrong_password__does_not_tell_whether_the_name_exists(there: World) -> None:
    there.bank.people.set_password("officer2", "correct horse battery staple", by=None)
    client = there.bank.anonymous()

    known = client.post("/sign-in", data={"name": "officer2", "password": "wrong"})
    unknown = client.post("/sign-in", data={"name": "nobody99", "password": "wrong"})
    right = client.post("/sign-in", data={"name": "officer2", "password": "correct horse battery staple"})

    assert known.status_code == unknown.status_code == 401
    assert known.text.replace("officer2", "") == unknown.text.replace("nobody99", "")
    assert right.status_code == 303


# --------------------------------------------------------------------- the supervisor


def inquiry_of(there: World) -> str:
    """An attested inquiry."""
    return str(next(a for a in there.bank.applications.newest() if a.attested).seen["inquiry"])


def test_supervisor__figures_without_a_reason__are_not_shown(there: World) -> None:
    client = there.supervisor.sign_in("supervisor")

    answer = client.post(f"/supervision/inquiries/{inquiry_of(there)}/figures", data={"reason": "  a "})

    assert answer.status_code == 422
    assert "Outstanding debt" not in answer.text


def test_supervisor__figures_with_a_reason__are_those_of_the_books_and_logged(there: World) -> None:
    client, inquiry = there.supervisor.sign_in("supervisor"), inquiry_of(there)

    answer = client.post(f"/supervision/inquiries/{inquiry}/figures", data={"reason": "complaint 7"})

    assert answer.status_code == 200
    assert "the reported totals are these sums" in answer.text
    entry = there.supervisor.audit.search(action="subject.looked", about=f"inquiry/{inquiry}")[0]
    assert (entry.actor, entry.why) == ("user:supervisor", "complaint 7")
    with there.supervisor.node.locked() as node:
        (subject,) = oversight.figures(node, node.supervisor.state.inquiries[bytes.fromhex(inquiry[2:])])
    assert set(subject["records"]) == set(there.consortium.books)
    assert subject["sums"] == subject["reported"]


def test_supervisor__lists_and_exports__hold_no_figure(there: World) -> None:
    client, inquiry = there.supervisor.sign_in("supervisor"), inquiry_of(there)

    text = client.get(f"/supervision/inquiries/{inquiry}").text
    export = client.get("/supervision/export.csv")

    assert "Outstanding debt" not in text
    assert "recomputed, right" in text
    assert export.headers["content-type"].startswith("text/csv")
    assert inquiry in export.text
    assert "outstanding" not in export.text


def test_templates__use_no_inline_script_or_style() -> None:
    for template in Path(HERE / "templates").glob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|\|safe", text), template.name
