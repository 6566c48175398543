"""Four institutions and a supervisor, each in a process of its own with a home of its own, over Anvil.

They share the ledger's URL and nothing else: the founding file and the exported tag key are carried by the test, as
people would carry them. Everything is done by `mpcredit`, started as a program.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parties import Consortium, found, process

from mpcredit import bookmaker
from mpcredit.chain import tester
from mpcredit.chain.anvil import Anvil
from mpcredit.identity import Subject

pytestmark = [pytest.mark.anvil, pytest.mark.slow]

CHAIN_ID = 31337


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not (found_ := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.3)
    return found_


def given(subject: Subject) -> str:
    return f"{subject.kind}:{subject.country}:{subject.number}"


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    with Anvil(chain_id=CHAIN_ID) as running:
        yield running


@pytest.fixture(scope="module")
def consortium(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Founded, audited and ready, with the services of all but Bank A running."""
    deployer = tester.deterministic_account(77)
    anvil.fund(deployer.address)
    made = found(
        tmp_path_factory.mktemp("processes"),
        runner=process,
        url=anvil.url,
        chain_id=CHAIN_ID,
        fund=anvil.fund,
        now=int(time.time()),
        deployer_key=deployer.key.hex(),
    )
    with made.stack:
        for name in ("Supervisor", "Bank B", "Microfinance C", "Bank D", "Bank A"):
            made.start(name)
        until(lambda: all(m["ready"] for m in made["Bank B"].ok("member", "list")["members"]))
        yield made


@pytest.fixture(scope="module")
def subjects(consortium: Consortium) -> Iterator[Subject]:
    """Customers, each asked about once."""
    return iter([pick.subject for pick in bookmaker.pick_subjects(list(consortium.books.values()), 12)])


def test_inquiry_over_processes__equals_the_plain_sums(consortium: Consortium, subjects: Iterator[Subject]) -> None:
    bank, subject = consortium["Bank A"], next(subjects)
    bank.ok(
        "consent", "grant", "-s", given(subject), "--purpose", "new_credit", "--days", "30", "--out", "consent.json"
    )

    result = bank.ok(
        "inquire", "-s", given(subject), "--consent", "consent.json", "--officer", "li.wei", "--amount", "200000"
    )

    assert result["subjects"][0]["totals"] == consortium.clear_sums(subject)
    assert result["attested"]
    assert result["coverage"] == "4 of 4 institutions"
    assert result["decisions"][0]["outcome"] in ("approve", "refer", "decline")
    assert subject.number not in json.dumps(result)


def test_evidence__verifies_elsewhere_without_a_ledger__and_names_who_changed_it(
    consortium: Consortium, tmp_path: Path
) -> None:
    bank, place = consortium["Bank A"], consortium.deployed["consortium"]
    bank.ok("evidence", "last", "--out", "evidence.json")
    carried = tmp_path / "evidence.json"
    carried.write_bytes((bank.home / "evidence.json").read_bytes())

    alone = process(["verify", str(carried), "--consortium", place, "--json"], {"HOME": str(tmp_path)}, tmp_path)
    on_ledger = bank.ok("verify", "evidence.json", "--ledger")

    assert alone.status == 0, alone.err
    assert alone.value["attested"]
    assert alone.value["totals"] == on_ledger["totals"]
    assert len(on_ledger["blocks"]) == 6

    value = json.loads(carried.read_text())
    value["openings"][0][0] = hex(int(value["openings"][0][0], 16) + 1)
    carried.write_text(json.dumps(value))
    changed = process(["verify", str(carried)], {"HOME": str(tmp_path)}, tmp_path)
    assert changed.status != 0
    assert "error:" in changed.err
    assert "Traceback" not in changed.err


def test_explain_and_doctor__run_beside_the_service(consortium: Consortium) -> None:
    told = consortium["Bank A"].ok("explain", "last")["inquiries"][0]
    health = consortium["Bank A"].ok("doctor")
    supervisor = consortium.supervisor.ok("doctor")

    assert told["state"] == "valid"
    assert told["entries"][0]["who"] == "Bank A"
    assert health["ok"], health
    assert supervisor["ok"], supervisor


def test_furnisher_killed_in_the_middle__answers_once_after_its_restart(
    consortium: Consortium, subjects: Iterator[Subject]
) -> None:
    bank, subject = consortium["Bank A"], next(subjects)
    running = consortium.services["Microfinance C"]
    running.send_signal(signal.SIGSTOP)
    request = bank.ok("inquire", "-s", given(subject), "--grant-days", "30", "--no-wait")["request"]

    def only_the_clerk_is_missing() -> bool:
        told = bank.ok("explain", request)["inquiries"][0]
        return told["turn"] == "Microfinance C"

    until(only_the_clerk_is_missing)
    running.send_signal(signal.SIGCONT)
    time.sleep(0.25)
    running.send_signal(signal.SIGKILL)
    running.wait()
    consortium.start("Microfinance C")
    result = bank.ok("inquire", "--resume", request, "--timeout", "60")

    assert result["subjects"][0]["totals"] == consortium.clear_sums(subject)
    assert result["attested"]
    answers = [e for e in bank.ok("explain", request)["inquiries"][0]["entries"] if e["who"] == "Microfinance C"]
    assert len(answers) == 1


def test_second_service__beside_the_first__is_refused(consortium: Consortium) -> None:
    done = consortium["Bank A"].run("answer", "--once")

    assert done.status == 8
    assert f"process {consortium.services['Bank A'].pid}" in done.err
    assert "remedy: stop it first" in done.err


def is_ready(consortium: Consortium, member: int) -> bool:
    """Whether a member is in the cohort of an inquiry that opens now."""
    return bool(consortium["Bank B"].ok("member", "list")["members"][member]["ready"])


def test_readiness__switched_off_beside_the_service__stays_off_until_switched_on(consortium: Consortium) -> None:
    bank = consortium["Bank A"]

    bank.ok("ready", "--off")
    time.sleep(3)  # a period is over, and the service has had its rounds
    off = is_ready(consortium, 0)
    bank.ok("ready", "--on")

    assert not off
    until(lambda: is_ready(consortium, 0))


def test_service_stopped_by_sigterm__switches_off_first_leaves_with_status_0_and_frees_the_store(
    consortium: Consortium,
) -> None:
    running, log = consortium.services["Bank D"], consortium["Bank D"].home / "answer.log"
    before = len(log.read_text())

    running.terminate()

    assert running.wait(30) == 0
    assert not is_ready(consortium, 3)
    said = log.read_text()[before:]
    assert "stopping: switched off first" in said
    assert "switched readiness off" in said
    assert "still waits" not in said
    assert consortium["Bank D"].run("answer", "--once").status == 0
    consortium.start("Bank D")
    until(lambda: is_ready(consortium, 3))


def test_service_stopped_while_others_ask__answers_first(consortium: Consortium, subjects: Iterator[Subject]) -> None:
    bank, subject, running = consortium["Bank A"], next(subjects), consortium.services["Bank D"]
    running.send_signal(signal.SIGSTOP)
    request = bank.ok("inquire", "-s", given(subject), "--grant-days", "30", "--no-wait")["request"]
    until(lambda: bank.ok("explain", request)["inquiries"][0]["turn"] == "Bank D")

    running.terminate()
    running.send_signal(signal.SIGCONT)

    assert running.wait(30) == 0
    result = bank.ok("inquire", "--resume", request, "--timeout", "60")
    assert result["subjects"][0]["totals"] == consortium.clear_sums(subject)
    consortium.start("Bank D")
    until(lambda: is_ready(consortium, 3))


def test_service_stopped_twice__leaves_at_once_and_names_what_waits_for_it(
    consortium: Consortium, subjects: Iterator[Subject]
) -> None:
    bank, running = consortium["Bank A"], consortium.services["Bank D"]
    log = consortium["Bank D"].home / "answer.log"
    others = [consortium.services[name] for name in ("Supervisor", "Microfinance C")]
    running.send_signal(signal.SIGSTOP)
    bank.ok("inquire", "-s", given(next(subjects)), "--grant-days", "30", "--no-wait")
    until(lambda: "Bank D" in bank.ok("explain", "last")["inquiries"][0]["turn"])
    began, before = time.monotonic(), len(log.read_text())

    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGCONT)
    until(lambda: "stopping" in log.read_text()[before:])
    running.send_signal(signal.SIGTERM)

    assert running.wait(30) == 0
    assert time.monotonic() - began < 20
    assert all(other.poll() is None for other in others)
    consortium.start("Bank D")
    until(lambda: is_ready(consortium, 3))


def test_watcher_killed_and_restarted__exports_each_event_once(
    consortium: Consortium, subjects: Iterator[Subject]
) -> None:
    bank, subject = consortium["Bank A"], next(subjects)
    running, export = consortium.services["Supervisor"], consortium.supervisor.home / "watch.jsonl"
    running.send_signal(signal.SIGKILL)
    running.wait()
    provisional = bank.ok(
        "inquire", "-s", given(subject), "--grant-days", "30", "--provisional", "--amount", "1000000000"
    )
    consortium.start("Supervisor")
    result = bank.ok("inquire", "--resume", "last", "--amount", "1000000000")
    until(lambda: '"Attested"' in export.read_text().splitlines()[-1])

    lines = [json.loads(line) for line in export.read_text().splitlines()]
    assert not provisional["attested"]
    assert provisional["decisions"][0]["outcome"] == "refer"
    assert result["attested"]
    assert result["decisions"][0]["outcome"] == "decline"
    assert len({line["id"] for line in lines}) == len(lines)
    assert [line["block"] for line in lines] == sorted(line["block"] for line in lines)
    verdicts = [line["inquiry"] for line in lines if line["event"] == "Attested"]
    assert len(set(verdicts)) == len(verdicts) >= 3
    assert all(line["check"] == "recomputed from its disclosure" for line in lines if line["event"] == "Contributed")
    assert not [line for line in lines if line["kind"] == "finding"]


def test_watcher__after_a_reorganisation__goes_back_and_repeats_nothing(consortium: Consortium, anvil: Anvil) -> None:
    export = consortium.supervisor.home / "watch.jsonl"
    consortium.services["Supervisor"].terminate()
    consortium.services["Supervisor"].wait(30)
    anvil.mine(3)
    first = consortium.supervisor.ok("watch", "--once", "--export", "watch.jsonl")
    before = export.read_text()

    anvil.reorganise(2)
    done = consortium.supervisor.run("watch", "--once", "--export", "watch.jsonl", "--json")

    assert done.status == 0, done.err
    assert f"to {first['processed']} and does not come again is void" in done.err
    assert done.value["lines"] == []
    assert export.read_text() == before
    consortium.start("Supervisor")


def test_loan_book__exchanged_beside_the_service__is_read_and_a_bad_one_is_not(consortium: Consortium) -> None:
    bank = consortium["Bank B"]
    book, log = bank.home / "book.csv", bank.home / "answer.log"
    text = book.read_text()

    book.write_text(text + "national_id,TW,A123456780,TWD,1,1,0,1,0\n")
    until(lambda: "held up: book.csv, row" in log.read_text())
    book.write_text(text)
    until(lambda: "read the loan book anew" in log.read_text())

    assert "the book from before is used" in log.read_text()
    assert "A123456780" not in log.read_text()


def test_tag_key__rotated_beside_the_services__is_used_by_all(
    consortium: Consortium, anvil: Anvil, subjects: Iterator[Subject]
) -> None:
    bank, others = consortium["Bank A"], [consortium[name] for name in ("Bank B", "Microfinance C", "Bank D")]
    commitment = bank.ok("keys", "tag", "--new")["commitment"]
    bank.ok("keys", "tag", "--export", "tag-2.json")
    for party in others:
        party.ok("keys", "tag", "--import", str(bank.home / "tag-2.json"))
    number = str(bank.ok("propose", "tag-key", commitment)["proposal"])
    for party in (bank, *others[:2]):
        party.ok("vote", number, "--yes")
    consortium.supervisor.ok("approve", number, "--yes")
    anvil.advance(3_700)
    bank.ok("execute", number)
    for party in others:
        until(lambda log=party.home / "answer.log": "tag key 2 is in force" in log.read_text())
    subject = next(subjects)
    result = bank.ok("inquire", "-s", given(subject), "--grant-days", "30", "--timeout", "60")

    assert result["subjects"][0]["totals"] == consortium.clear_sums(subject)
    assert result["attested"]


def test_no_secret__in_any_output_of_the_services(consortium: Consortium) -> None:
    for party in consortium.parties:
        for log in party.home.glob("*.log"):
            text = log.read_text()
            assert "Traceback" not in text, text
            assert party.passphrase not in text
            assert party.owner_passphrase not in text
