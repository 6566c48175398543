"""A suspension as people meet it: real processes, real browsers. The officer is out, the reviewer's mark moves by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect, sync_playwright
from test_browser import ARGUMENTS, CHROMIUM, NAMELESS, SLOW, STRUCTURE, Desk, chinese, free_ports, keep

from mpcredit import bookmaker
from mpcredit.books import LoanBook
from mpcredit.server.up import up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
    pytest.mark.timeout(600),
]
LIMITS = '\n[server.misuse]\nper_hour = 2\nout_of_hours = 0\ntime_zone = "Asia/Taipei"\n'


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """A consortium of processes in which Bank A has small limits, and a browser."""
    with up(institutions=4, bits=2048, port=free_ports(8)) as running, sync_playwright() as playwright:
        bank = running.party("Bank A")
        running.kill(bank)
        bank.config.write_text(bank.config.read_text(encoding="utf-8") + LIMITS, encoding="utf-8")
        running.start(bank)
        running.await_ready(bank)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        books = [LoanBook.read_csv(one.directory / "book.csv") for one in running.parties if one.role == "institution"]
        yield Desk(running, browser, [pick.subject for pick in bookmaker.pick_subjects(books, 6)])
        browser.close()


def test_officer__at_the_limit__is_out_and_the_reviewer_sees_it_and_lifts_it(desk: Desk) -> None:
    reviewer = desk.go("Bank A", "reviewer", "/applications/list")
    mark = reviewer.locator("#waiting")
    expect(mark).to_have_text("")
    officer = desk.page("Bank A", "officer")
    desk.apply(officer)
    expect(officer.get_by_role("heading", name="The totals are attested: decide now")).to_be_visible(timeout=SLOW)

    # (1) the second application is the limit: the page that answers it asks to sign in.
    who = desk.subjects.pop()
    officer.goto(desk.base("Bank A") + "/applications/new")
    officer.get_by_label("Number", exact=True).fill(who.number)
    officer.get_by_label("Amount asked for").fill("1000")
    officer.get_by_label("Signed form or recording").set_input_files(
        {"name": "consent.pdf", "mimeType": "application/pdf", "buffer": b"signed"}
    )
    officer.get_by_role("button", name="Ask the institutions").click()
    expect(officer.get_by_role("heading", name="Sign in")).to_be_visible()
    officer.goto(desk.base("Bank A") + "/applications")
    expect(officer.get_by_role("heading", name="Sign in")).to_be_visible()

    # (2) the reviewer's mark moved without a reload; his page says who, why, and what happens to the rest.
    expect(mark).to_contain_text("1", timeout=SLOW)
    keep(reviewer, "50-applications-list")
    reviewer.get_by_role("link", name=re.compile("^Reviews")).click()
    expect(reviewer.get_by_text("2 applications within an hour; the limit is 2.")).to_be_visible()
    assert reviewer.evaluate(NAMELESS) == []
    keep(reviewer, "51-suspended-officer")
    reviewer.set_viewport_size({"width": 390, "height": 780})
    assert reviewer.evaluate(STRUCTURE)["wide"] <= 0
    keep(reviewer, "52-phone-suspended-officer")
    chinese(desk, "Bank A", "reviewer", "/reviews", "53-zh-phone-suspended-officer")
    reviewer.goto(desk.base("Bank A") + "/applications/list")
    assert reviewer.evaluate(STRUCTURE)["wide"] <= 0
    keep(reviewer, "54-zh-phone-applications-list")
    reviewer.set_viewport_size({"width": 1280, "height": 860})
    reviewer.goto(desk.base("Bank A") + "/reviews")
    keep(reviewer, "55-zh-suspended-officer")
    reviewer.get_by_role("button", name="English").click()

    # (3) the administrator sees it and can do nothing about it; what was asked for is held.
    people = desk.go("Bank A", "administrator", "/people?who=officer")
    expect(people.get_by_text("a reviewer lifts that on the page Reviews")).to_be_visible()
    expect(people.get_by_role("button", name="Enable")).to_have_count(0)
    keep(people, "56-people-suspended")
    reviewer.goto(desk.base("Bank A") + "/applications/list?step=waiting")
    expect(reviewer.get_by_role("rowheader")).to_have_count(1)

    # (4) lifted, it goes on by itself.
    reviewer.goto(desk.base("Bank A") + "/reviews")
    reviewer.get_by_label("What you found, and why it may go on").fill("a fair in town; both customers were here")
    reviewer.get_by_role("button", name="Lift the suspension").click()
    expect(reviewer.get_by_text("The suspension is lifted.")).to_be_visible()
    expect(reviewer.get_by_text("a fair in town")).to_be_visible()
    keep(reviewer, "57-suspension-lifted")
    expect(mark).to_have_text("")
    for _ in range(60):
        reviewer.goto(desk.base("Bank A") + "/applications/list?step=ready")
        if reviewer.get_by_role("rowheader").count() == 2:
            break
        reviewer.wait_for_timeout(1_000)
    expect(reviewer.get_by_role("rowheader")).to_have_count(2)

    # (5) as a file.
    with reviewer.expect_download() as download:
        reviewer.get_by_role("button", name="Export as CSV").click()
    assert download.value.suggested_filename == "applications.csv"
    assert len(download.value.path().read_text(encoding="utf-8").splitlines()) == 3


def test_browser__complains_about_nothing(desk: Desk) -> None:
    assert desk.hosts == {"127.0.0.1"}
    # The stream of events of an open page ends with the session; the browser calls that an error.
    assert [told for told in desk.complaints if not told.endswith("[object Event]")] == []
