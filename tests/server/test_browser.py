"""People's paths through the pages, in Debian's Chromium against a consortium of real processes. Screenshots are kept.

One consortium for the file; the tests follow one another like a day at the bank, each with what the ones before left.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from mpcredit import bookmaker
from mpcredit.books import LoanBook
from mpcredit.identity import Subject
from mpcredit.server.up import Running, up

CHROMIUM = os.environ.get("MPCREDIT_CHROMIUM") or shutil.which("chromium") or ""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = Path(__file__).parents[2] / ".build" / "screenshots"
EVIDENCE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SLOW = 60_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(600),
]


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    for first in range(18_700, 28_000, 50):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise OSError("no free ports")


@dataclass
class Desk:
    """The browser, and everybody's window."""

    running: Running
    browser: Browser
    subjects: list[Subject]
    pages: dict[tuple[str, str], Page] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Note what a page asks for and what the browser complains about."""
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda told: (
                self.complaints.append(f"{page.url}: {told.text}")
                if told.type in ("error", "warning") and "status of 4" not in told.text
                else None
            ),
        )

    def base(self, party: str) -> str:
        """Address of a party's pages."""
        return self.running.party(party).url

    def page(self, party: str, role: str) -> Page:
        """The window of a person, signed in by the one-time link of `mpcredit up`."""
        if (party, role) not in self.pages:
            context = self.browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 860})
            page = context.new_page()
            page.set_default_timeout(20_000)
            self.watch(page)
            link = next(link for link in self.running.links if link.party.name == party and link.role == role)
            page.goto(link.url)
            page.get_by_role("button", name=re.compile("^Sign in as")).click()
            expect(page.get_by_role("button", name="Sign out")).to_be_visible()
            self.pages[party, role] = page
        return self.pages[party, role]

    def go(self, party: str, role: str, path: str) -> Page:
        """Show a page to somebody."""
        page = self.page(party, role)
        page.goto(self.base(party) + path)
        return page

    def apply(self, page: Page, *, subject: Subject | None = None, amount: str = "200000") -> str:
        """Fill in and send the form; the new application's address."""
        who = subject or self.subjects.pop()
        page.goto(self.base("Bank A") + "/applications/new")
        page.get_by_label("Kind of document").select_option(who.kind)
        page.get_by_label("Country").fill(who.country)
        page.get_by_label("Number", exact=True).fill(who.number)
        page.get_by_label("Amount asked for").fill(amount)
        page.get_by_label("Months").fill("24")
        page.get_by_label("Monthly net income").fill("60000")
        page.get_by_label("Your reference").fill("case 17")
        page.get_by_label("Signed form or recording").set_input_files(
            {"name": "consent.pdf", "mimeType": "application/pdf", "buffer": os.urandom(64)}
        )
        page.get_by_role("button", name="Ask the institutions").click()
        page.wait_for_url(re.compile("/applications/[0-9a-f]{16}"))
        return page.url.partition("?")[0]


def keep(page: Page, name: str) -> None:
    """Keep a picture of the whole page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SCREENSHOTS / f"{name}.png"), full_page=True)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """A consortium of processes and a browser."""
    with up(institutions=4, bits=2048, port=free_ports(8)) as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        books = [
            LoanBook.read_csv(party.directory / "book.csv") for party in running.parties if party.role == "institution"
        ]
        subjects = [pick.subject for pick in bookmaker.pick_subjects(books, 30)]
        subjects.reverse()  # the customer of most institutions comes first
        yield Desk(running, browser, subjects)
        browser.close()


# --------------------------------------------------------------------- the officer


def test_link__opened__asks_before_it_is_used_up(desk: Desk) -> None:
    link = next(link for link in desk.running.links if link.party.name == "Bank A" and link.role == "officer")
    context = desk.browser.new_context(locale="en-GB")
    page = context.new_page()
    desk.watch(page)

    page.goto(link.url)
    page.reload()

    expect(page.get_by_role("button", name=re.compile("^Sign in as"))).to_be_visible()
    keep(page, "01-sign-in-link")
    page.goto(desk.base("Bank A") + "/sign-in")
    keep(page, "02-sign-in")
    context.close()


def test_officer__first_look__says_what_to_do(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/")

    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing waits for you")
    expect(page.get_by_role("main").get_by_role("link", name="New application")).to_be_visible()
    keep(page, "03-officer-first")


def test_officer__wrong_number__is_told_at_the_field(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/applications/new")
    page.get_by_label("Number", exact=True).fill("A123456788")
    page.get_by_label("Amount asked for").fill("much")

    page.get_by_role("button", name="Ask the institutions").click()

    expect(page.get_by_role("alert")).to_contain_text("check digit")
    expect(page.get_by_label("Number", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Amount asked for")).to_have_value("much")
    keep(page, "04-new-application-problems")


def test_officer__enters_an_application__totals_arrive_by_themselves(desk: Desk) -> None:
    page = desk.page("Bank A", "officer")
    subject = desk.subjects[-1]
    books = [
        LoanBook.read_csv(party.directory / "book.csv") for party in desk.running.parties if party.role == "institution"
    ]
    expected = sum(book.lookup(subject)["outstanding"] for book in books)
    desk.apply(page)
    expect(page.get_by_role("heading", name=re.compile("institutions have answered|about to open"))).to_be_visible()
    keep(page, "05-application-under-way")

    expect(page.get_by_role("heading", name="The totals are attested: decide now")).to_be_visible(timeout=SLOW)

    row = page.get_by_role("row", name="Outstanding debt")
    expect(row.get_by_role("cell")).to_have_text(f"{expected // 100:,}.{expected % 100:02}")
    expect(page.get_by_text("4 of 4 institutions")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Bar: existing debt"))).to_be_visible()
    expect(page.get_by_role("button", name="Record the decision")).to_be_visible()
    keep(page, "06-application-attested")
    expect(desk.go("Bank A", "officer", "/").get_by_role("heading", level=1)).to_have_text(
        "1 application waits for you"
    )
    keep(page, "07-officer-to-do")


def test_officer__decides_against_the_policy__needs_reason_and_reviewer(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/")
    page.get_by_role("link", name=re.compile("^Decide")).first.click()
    advised = page.get_by_role("heading", name="What the policy says").inner_text()
    choice = "Approve" if "decline" in advised else "Decline"
    page.get_by_role("radio", name=choice).check()
    page.get_by_role("button", name="Record the decision").click()
    expect(page.get_by_text("write why")).to_be_visible()
    page.get_by_label("Reason").fill("A guarantor stands in; see file 17.")

    page.get_by_role("button", name="Record the decision").click()

    expect(page.get_by_role("heading", name="A reviewer must confirm the decision")).to_be_visible()
    keep(page, "08-application-with-reviewer")


# --------------------------------------------------------------------- the reviewer


def test_reviewer__confirms__and_the_officers_page_moves(desk: Desk) -> None:
    officer = desk.page("Bank A", "officer")
    page = desk.go("Bank A", "reviewer", "/")
    expect(page.get_by_role("heading", level=1)).to_have_text("1 matter waits for your review")
    keep(page, "09-reviewer-queue")
    page.get_by_role("link", name=re.compile("^Review [0-9]")).click()
    keep(page, "10-reviewer-application")

    page.get_by_role("button", name="Confirm the decision").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing waits for your review")
    expect(officer.get_by_role("heading", name=re.compile("^(Approved|Declined)$"))).to_be_visible()
    keep(officer, "11-application-decided")
    officer.get_by_role("link", name="Letter to the customer").first.click()
    keep(officer, "12-letter")


def test_officer__batch__is_one_inquiry(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/applications/batch")
    rows = [desk.subjects.pop() for _ in range(3)]
    lines = ["kind,country,number,amount,currency,months,income,purpose,evidence,reference"]
    lines += [f"{s.kind},{s.country},{s.number},50000,TWD,12,40000,new_credit,{EVIDENCE},row" for s in rows]
    page.get_by_label("CSV file").set_input_files(
        {"name": "wrong.csv", "mimeType": "text/csv", "buffer": b"kind,country\nnational_id,TW\n"}
    )
    page.get_by_role("button", name="Ask the institutions").click()
    expect(page.get_by_role("alert")).to_contain_text("lacks the column")
    keep(page, "13-batch-problem")
    page.get_by_label("CSV file").set_input_files(
        {"name": "batch.csv", "mimeType": "text/csv", "buffer": "\n".join(lines).encode()}
    )

    page.get_by_role("button", name="Ask the institutions").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("3 applications wait for you", timeout=SLOW)
    keep(page, "14-officer-several")


def test_officer__inquiries_and_time_line(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/inquiries")
    expect(page.get_by_role("row")).to_have_count(3)
    keep(page, "15-inquiries")

    page.get_by_role("rowheader").first.get_by_role("link").click()

    expect(page.get_by_role("heading", name="Complete and verified")).to_be_visible()
    expect(page.get_by_text("found it valid")).to_be_visible()
    keep(page, "16-inquiry")


def test_officer__revokes_a_consent(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/consents")
    row = page.get_by_role("row").nth(1)
    row.get_by_text("Revoke").first.click()
    row.get_by_label("How the customer revoked it").fill("by telephone")
    keep(page, "17-consents")

    row.get_by_role("button", name="Revoke for good").click()

    expect(page.get_by_role("row").nth(1)).to_contain_text("revoked")
    keep(page, "18-consent-revoked")


# --------------------------------------------------------------------- the customer


def test_customer__link_of_an_officer__shows_once_who_asked(desk: Desk) -> None:
    officer = desk.page("Bank A", "officer")
    subject = desk.subjects.pop()
    desk.apply(officer, subject=subject)
    expect(officer.get_by_role("heading", name="The totals are attested: decide now")).to_be_visible(timeout=SLOW)
    officer.goto(desk.base("Bank A") + "/footprints")
    officer.get_by_label("Kind of document").select_option(subject.kind)
    officer.get_by_label("Country").fill(subject.country)
    officer.get_by_label("Number", exact=True).fill(subject.number)
    officer.get_by_label("How you identified the customer").fill("passport seen at the desk")
    officer.get_by_role("button", name="Make a link").click()
    link = officer.locator("#link").inner_text()
    keep(officer, "18a-footprint-link")
    context = desk.browser.new_context(locale="en-GB", viewport={"width": 390, "height": 800})
    page = context.new_page()
    desk.watch(page)
    page.goto(link)
    keep(page, "18b-footprint-button")

    page.get_by_role("button", name="Show who asked about me").click()

    expect(page.get_by_role("rowheader")).to_have_text("Bank A")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, "18c-footprint")
    with page.expect_download() as told:
        page.get_by_role("button", name="Keep it as a file").click()
    assert told.value.suggested_filename == "credit-inquiries.json"
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("does not hold any more")
    context.close()
    keep(desk.go("Bank A", "auditor", "/retention"), "18d-retention")
    keep(desk.go("Supervisor", "auditor", "/retention"), "18e-retention-supervisor")


def test_customer__link_of_the_supervisor__shows_the_whole_consortium(desk: Desk) -> None:
    officer, subject = desk.page("Bank A", "officer"), desk.subjects.pop()
    desk.apply(officer, subject=subject)
    expect(officer.get_by_role("heading", name="The totals are attested: decide now")).to_be_visible(timeout=SLOW)
    supervisor = desk.go("Supervisor", "supervisor", "/footprints")
    supervisor.get_by_label("Kind of document").select_option(subject.kind)
    supervisor.get_by_label("Country").fill(subject.country)
    supervisor.get_by_label("Number", exact=True).fill(subject.number)
    supervisor.get_by_label("How you identified the customer").fill("came with his passport")
    supervisor.get_by_role("button", name="Make a link").click()
    link = supervisor.locator("#link").inner_text()
    keep(supervisor, "18d-supervisor-footprint-link")
    context = desk.browser.new_context(locale="en-GB", viewport={"width": 390, "height": 800})
    page = context.new_page()
    desk.watch(page)
    page.goto(link)

    page.get_by_role("button", name="Show who asked about me").click()

    expect(page.get_by_role("rowheader")).to_have_text("Bank A")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, "18e-supervisor-footprint")
    context.close()


# --------------------------------------------------------------------- corrections


def test_correction__entered_by_an_officer__is_confirmed_by_a_reviewer(desk: Desk) -> None:
    subject = Subject("national_id", "A123456789", country="TW")
    officer = desk.go("Bank A", "officer", "/corrections")
    officer.get_by_label("Number", exact=True).fill(subject.number)
    officer.get_by_label("It was").fill("1")
    officer.get_by_label("It should be").fill("250")
    officer.get_by_label("Wrong since").fill("2026-01-05")
    officer.get_by_label("Reason").fill("the account was booked under another number")
    officer.get_by_role("button", name="Enter the correction").click()
    expect(officer.get_by_role("alert")).to_contain_text("not what the loan book in use says")
    officer.get_by_label("It was").fill("0")
    officer.get_by_role("button", name="Enter the correction").click()
    expect(officer.get_by_text("A reviewer must confirm it before it holds")).to_be_visible()
    keep(officer, "18f-corrections")
    reviewer = desk.go("Bank A", "reviewer", "/reviews")
    reviewer.get_by_role("main").get_by_role("link", name="Corrections").first.click()
    keep(reviewer, "18g-correction-review")

    reviewer.get_by_role("button", name="Confirm").click()

    expect(reviewer.get_by_text("waits for the loan book")).to_be_visible()
    supervisor = desk.go("Supervisor", "supervisor", "/supervision/corrections")
    expect(supervisor.get_by_role("heading", level=1)).to_have_text("No corrected figure is to be told")
    supervisor.set_viewport_size({"width": 390, "height": 800})
    assert supervisor.evaluate("document.documentElement.scrollWidth") <= 390
    keep(supervisor, "18h-supervisor-corrections")
    supervisor.set_viewport_size({"width": 1280, "height": 860})


# --------------------------------------------------------------------- the furnisher


def test_furnisher__auditor_sees_what_was_answered_and_checks_the_log(desk: Desk) -> None:
    page = desk.go("Bank B", "auditor", "/furnishing")
    expect(page.get_by_role("heading", name="Inquiries are answered by themselves")).to_be_visible()
    expect(page.get_by_text("answered", exact=True).first).to_be_visible()
    keep(page, "19-furnishing")

    page = desk.go("Bank A", "auditor", "/audit")
    expect(page.get_by_text("application.decided").first).to_be_visible()
    expect(page.get_by_text("subject.looked").first).to_be_visible()
    keep(page, "20-audit")
    page.get_by_role("button", name="Check the log").click()

    expect(page.get_by_role("heading", name=re.compile("^All [0-9]+ entries are whole"))).to_be_visible()
    keep(page, "21-audit-checked")


# --------------------------------------------------------------------- the administrator


def test_administrator__new_person__holds_after_a_reviewer(desk: Desk) -> None:
    page = desk.go("Bank A", "administrator", "/")
    form = page.locator("form[action='/people']")
    form.get_by_label("Name", exact=True).fill("Chen Hui")
    form.get_by_label("Sign-in name").fill("chen")
    form.get_by_role("checkbox", name="credit officer").check()
    form.get_by_label("Why").fill("joins the team")
    form.get_by_role("button", name="Add").click()
    expect(page.get_by_text("1 change waits for a reviewer")).to_be_visible()
    keep(page, "22-people")
    reviewer = desk.go("Bank A", "reviewer", "/reviews")
    expect(reviewer.get_by_text("Chen Hui becomes:")).to_be_visible()
    keep(reviewer, "23-reviewer-roles")

    reviewer.get_by_role("button", name="Confirm", exact=True).click()

    page.reload()
    row = page.get_by_role("row", name=re.compile("Chen Hui"))
    expect(row).to_contain_text("credit officer")
    row.get_by_role("link", name=re.compile("^Change")).click()
    expect(page.get_by_role("heading", name="Change Chen Hui")).to_be_visible()
    keep(page, "24-people-open")


def test_administrator__disables__the_person_is_out_at_once(desk: Desk) -> None:
    desk.go("Bank B", "officer", "/")
    page = desk.go("Bank B", "administrator", "/people")
    row = page.get_by_role("row", name=re.compile("credit officer"))
    row.get_by_role("link", name=re.compile("^Change")).click()
    page.get_by_label("Why disable").fill("left the bank")
    page.get_by_role("button", name="Disable at once").click()
    expect(page.get_by_role("row", name=re.compile("disabled"))).to_be_visible()

    out = desk.go("Bank B", "officer", "/applications")

    expect(out.get_by_role("heading", name="Sign in")).to_be_visible()


def test_administrator__health_and_no_way_to_customers(desk: Desk) -> None:
    page = desk.go("Bank A", "administrator", "/health")
    expect(page.get_by_role("heading", name="The server does its work")).to_be_visible()
    keep(page, "25-health")

    page = desk.go("Bank A", "administrator", "/applications")

    expect(page.get_by_role("heading", name="Not allowed")).to_be_visible()
    keep(page, "26-not-allowed")


# --------------------------------------------------------------------- the supervisor


def test_supervisor__finds_the_inquiry_verified(desk: Desk) -> None:
    page = desk.go("Supervisor", "supervisor", "/")
    expect(page.get_by_role("heading", level=1)).to_have_text("All inquiries are checked")
    keep(page, "27-supervisor")
    page.get_by_role("rowheader").last.get_by_role("link").click()

    expect(page.get_by_role("heading", name="Valid: all 4 contributions and the report are right")).to_be_visible()

    expect(page.get_by_text("recomputed, right")).to_have_count(4)
    expect(page.get_by_text("openings and sums are right")).to_be_visible()
    assert "Outstanding debt" not in page.content()
    keep(page, "28-supervised-inquiry")


def test_supervisor__figures__only_behind_a_reason_that_is_logged(desk: Desk) -> None:
    page = desk.page("Supervisor", "supervisor")
    page.get_by_label("Why you look").fill("complaint 2026/11 of the customer")

    page.get_by_role("button", name="Show the figures").click()

    expect(page.get_by_text("the reported totals are these sums")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    assert "outstanding" in download.value.path().read_text().splitlines()[0]
    expect(page.get_by_role("button", name="Download as CSV")).to_be_enabled()
    expect(page.get_by_role("columnheader", name="Outstanding debt")).to_be_visible()
    keep(page, "29-figures")
    audit = desk.go("Supervisor", "auditor", "/audit?action=subject.looked")
    expect(audit.get_by_text("complaint 2026/11 of the customer")).to_be_visible()
    keep(audit, "30-supervisor-audit")


def test_supervisor__institutions_alarms_proposals_export(desk: Desk) -> None:
    page = desk.go("Supervisor", "supervisor", "/supervision/institutions")
    expect(page.get_by_role("img")).to_be_visible()
    keep(page, "31-institutions")
    page = desk.go("Supervisor", "supervisor", "/supervision/alarms")
    expect(page.get_by_role("heading", name="No alarm")).to_be_visible()
    keep(page, "32-alarms")
    page = desk.go("Supervisor", "supervisor", "/supervision/proposals")
    keep(page, "33-proposals")
    page = desk.go("Supervisor", "supervisor", "/supervision")

    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()

    assert download.value.path().read_text().startswith("id,opened_at,inquirer,stage")


def test_supervisor__list_moves_while_it_is_open(desk: Desk) -> None:
    page = desk.go("Supervisor", "supervisor", "/supervision")
    before = page.get_by_role("rowheader").count()

    desk.apply(desk.page("Bank A", "officer"))

    expect(page.get_by_role("rowheader")).to_have_count(before + 1, timeout=SLOW)
    expect(page.get_by_role("heading", level=1)).to_have_text("All inquiries are checked", timeout=SLOW)


# --------------------------------------------------------------------- everybody


PAGES = [
    ("Bank A", "officer", "/applications"),
    ("Bank A", "officer", "/applications/new"),
    ("Bank A", "officer", "/applications/batch"),
    ("Bank A", "officer", "/inquiries"),
    ("Bank A", "officer", "/consents"),
    ("Bank A", "officer", "/account"),
    ("Bank A", "reviewer", "/reviews"),
    ("Bank A", "auditor", "/audit"),
    ("Bank A", "auditor", "/furnishing"),
    ("Bank A", "administrator", "/people"),
    ("Bank A", "administrator", "/proposals"),
    ("Bank A", "administrator", "/health"),
    ("Supervisor", "supervisor", "/supervision"),
    ("Supervisor", "supervisor", "/supervision/institutions"),
    ("Supervisor", "supervisor", "/supervision/alarms"),
    ("Supervisor", "supervisor", "/supervision/proposals"),
    ("Supervisor", "supervisor", "/supervision/looks"),
]

NAMELESS = """() => [...document.querySelectorAll('a,button,input:not([type=hidden]),select,textarea,summary,canvas')]
  .filter(e => e.checkVisibility() && !(e.labels && e.labels.length) && !e.getAttribute('aria-label')
    && !e.textContent.trim())
  .map(e => e.outerHTML.slice(0, 120))"""
STRUCTURE = """() => ({h1: document.querySelectorAll('h1').length, main: document.querySelectorAll('main').length,
  lang: document.documentElement.lang,
  ids: [...document.querySelectorAll('[id]')].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i),
  wide: document.documentElement.scrollWidth - window.innerWidth})"""


@pytest.mark.parametrize(("party", "role", "path"), PAGES, ids=lambda value: str(value).strip("/").replace("/", "-"))
def test_page__has_names_structure_and_fits_a_phone(desk: Desk, party: str, role: str, path: str) -> None:
    page = desk.go(party, role, path)

    assert page.evaluate(NAMELESS) == []
    found = page.evaluate(STRUCTURE)
    assert (found["h1"], found["main"], found["lang"], found["ids"]) == (1, 1, "en", [])
    page.set_viewport_size({"width": 375, "height": 720})
    try:
        assert page.evaluate(STRUCTURE)["wide"] <= 0
        keep(page, f"phone-{role}-{path.strip('/').replace('/', '-')}")
    finally:
        page.set_viewport_size({"width": 1280, "height": 860})


def test_application_and_figures__fit_a_phone(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/applications")
    page.get_by_role("link", name=re.compile("^Decide")).last.click()
    page.set_viewport_size({"width": 375, "height": 720})
    page.reload()
    try:
        expect(page.get_by_role("img", name=re.compile("^Bar"))).to_be_visible()
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate(STRUCTURE)["wide"] <= 0
        keep(page, "phone-officer-application")
    finally:
        page.set_viewport_size({"width": 1280, "height": 860})
    page = desk.go("Supervisor", "supervisor", "/supervision")
    page.get_by_role("rowheader").last.get_by_role("link").click()
    page.set_viewport_size({"width": 375, "height": 720})
    try:
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate(STRUCTURE)["wide"] <= 0
        keep(page, "phone-supervised-inquiry")
    finally:
        page.set_viewport_size({"width": 1280, "height": 860})


def test_officer__by_keyboard_alone__enters_an_application(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/applications/new")
    subject = desk.subjects.pop()
    expect(page.get_by_label("Number", exact=True)).to_be_focused()
    for text in (subject.number, "120000", "12", "50000", "", "case 18"):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type(EVIDENCE)
    page.keyboard.press("Enter")

    page.wait_for_url(re.compile("/applications/[0-9a-f]{16}"))
    page.goto(page.url.partition("?")[0])
    page.keyboard.press("Tab")

    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def chinese(desk: Desk, party: str, role: str, path: str, name: str) -> Page:
    """Show a page in Chinese, keep it, and go back to English."""
    page = desk.go(party, role, path)
    page.get_by_role("button", name="简体中文").click()
    keep(page, name)
    return page


def test_pages__in_chinese(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/applications")
    page.get_by_role("link", name=re.compile("^Decide")).first.click()
    path = urlsplit(page.url).path
    page = chinese(desk, "Bank A", "officer", path, "40-zh-application")
    expect(page.get_by_role("heading", name="合计已核证：请决定")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    words = page.get_by_role("main").inner_text()
    assert not re.search(r"[a-z]{4,} [a-z]{3,} [a-z]{3,}", words), words
    page.goto(desk.base("Bank A") + "/applications")
    keep(page, "41-zh-officer")
    page.get_by_role("button", name="English").click()
    page = chinese(desk, "Supervisor", "supervisor", "/supervision", "42-zh-supervisor")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("All inquiries are checked", timeout=SLOW)


def test_officer__without_javascript__enters_and_decides(desk: Desk) -> None:
    signed_in: BrowserContext = desk.page("Bank A", "officer").context
    context = desk.browser.new_context(
        locale="en-GB", java_script_enabled=False, storage_state=signed_in.storage_state()
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    address = desk.apply(page, amount="1000")
    for _ in range(60):
        page.goto(address)
        if page.get_by_role("heading", name="decide now").count():
            break
        page.wait_for_timeout(500)
    page.get_by_role("radio", name="Decline").check()
    page.get_by_label("Reason").fill("withdrawn by the customer")

    page.get_by_role("button", name="Record the decision").click()

    expect(page.get_by_role("heading", name=re.compile("A reviewer must confirm|Declined"))).to_be_visible()
    context.close()


def test_figures__never_asked_from_another_host_and_no_complaint_of_the_browser(desk: Desk) -> None:
    assert desk.hosts == {"127.0.0.1"}
    assert desk.complaints == []


def test_sign_out__the_next_look_asks_to_sign_in(desk: Desk) -> None:
    page = desk.go("Bank A", "officer", "/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()

    page.goto(desk.base("Bank A") + "/consents")

    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
