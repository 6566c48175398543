"""mpcredit consent, inquire, decide, explain, evidence, verify."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_world import DOWN, URL, listing, refused
from parties import Consortium, Party

from mpcredit.identity import Subject
from mpcredit.store import SqliteStore


def parse(text: str) -> Subject:
    kind, country, number = text.split(":")
    return Subject(kind, number, country=country)


def asked(consortium: Consortium, *arguments: str) -> dict[str, object]:
    """An inquiry of Bank A from the request to the verdict, each service taking its turn."""
    bank = consortium["Bank A"]
    request = bank.ok("inquire", *arguments, "--no-wait")["request"]
    bank.ok("answer", "--once")
    consortium.turn(but=["Bank A"], supervisor=False)
    bank.ok("answer", "--once")
    consortium.supervisor.ok("watch", "--once")
    found: dict[str, object] = bank.ok("inquire", "--resume", str(request), "--timeout", "5")
    return found


@pytest.fixture(scope="module")
def done(consortium: Consortium, subjects: Iterator[str]) -> dict[str, object]:
    """A finished inquiry, with the subject's argument."""
    subject = next(subjects)
    return {"subject": subject, **asked(consortium, "-s", subject, "--grant-days", "30", "--officer", "li.wei")}


def test_inquiry__from_request_to_verdict__equals_the_plain_sums(
    consortium: Consortium, done: dict[str, object]
) -> None:
    assert done["attested"]
    assert done["officer"] == "li.wei"
    assert done["subjects"][0]["totals"] == consortium.clear_sums(parse(done["subject"]))


def test_batch_from_files__with_receipts_from_a_directory(
    consortium: Consortium, subjects: Iterator[str], tmp_path: Path
) -> None:
    chosen = [next(subjects) for _ in range(3)]
    batch, receipts = tmp_path / "batch.csv", tmp_path / "receipts"
    batch.write_text(
        "kind,country,number,label\n" + "".join(f"{s.replace(':', ',')},case {i}\n" for i, s in enumerate(chosen))
    )
    consortium["Bank A"].ok(
        *("consent", "grant", "--file", str(batch), "--purpose", "review", "--days", "5", "--out", str(receipts)),
        *("--evidence-file", str(batch)),
    )

    result = asked(consortium, "--file", str(batch), "--consent", str(receipts))

    assert [entry["label"] for entry in result["subjects"]] == ["case 0", "case 1", "case 2"]
    for entry, subject in zip(result["subjects"], chosen, strict=True):
        assert entry["totals"] == consortium.clear_sums(parse(subject))
    assert result["purpose"] == "review"


def test_inquire__human_output__shows_totals_coverage_and_verdict(bank: Party, done: dict[str, object]) -> None:
    shown = bank.run("inquire", "--resume", "last")

    assert shown.status == 0
    assert "4 of 4 institutions" in shown.out
    assert "yes, by the supervisor" in shown.out
    assert "outstanding" in shown.out


def test_report__of_an_inquiry_that_the_store_does_not_know__is_given_by_hand(
    consortium: Consortium, bank: Party, subjects: Iterator[str]
) -> None:
    request = bank.ok("inquire", "-s", next(subjects), "--grant-days", "3", "--no-wait")["request"]
    bank.ok("answer", "--once")
    consortium.turn(but=["Bank A"], supervisor=False)
    with SqliteStore(bank.home / "store.sqlite") as store:  # as restored from yesterday's backup
        inquiry = str((store.get("request", str(request)) or {})["inquiry"])
        store.delete("request", str(request))

    refused(bank.run("inquire", "--report", "0x00"), 3, "no inquiries of yours", inquiry[:14], party=bank)
    refused(bank.run("inquire", "--report", inquiry, "--resume", "last"), 3, "give --report alone", party=bank)
    reported = bank.ok("inquire", "--report", inquiry[:14])

    assert reported["inquiry"] == inquiry
    assert int(str(reported["gas_used"])) > 21_000
    refused(bank.run("inquire", "--report", inquiry), 3, "those that wait: none", party=bank)
    consortium.supervisor.ok("watch", "--once")


def test_inquire__nobody_answers__says_who_is_missing_and_loses_nothing(
    consortium: Consortium, bank: Party, subjects: Iterator[str]
) -> None:
    subject = next(subjects)

    waiting = bank.run("inquire", "-s", subject, "--grant-days", "3", "--timeout", "0.5")

    refused(waiting, 9, "missing: Bank B, Microfinance C, Bank D", "--resume", party=bank)
    told = bank.ok("explain")["inquiries"]
    assert [entry["turn"] for entry in told] == ["Bank B, Microfinance C, Bank D"]
    decided = bank.run("decide", told[0]["request"], "--amount", "1")
    refused(decided, 9, "not open", "missing: Bank B")
    refused(bank.run("evidence", told[0]["request"]), 9, "not been reported")
    consortium.turn()
    consortium.turn()
    assert bank.ok("inquire", "--resume", told[0]["request"], "--timeout", "5")["attested"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 3, ("no subject",)),
        (("-s", "A123456789"), 3, ("kind:country:number",)),
        (("-s", "national_id:TW:A123456780", "--grant-days", "3"), 3, ("check digit",)),
        (("-s", "national_id:TW:A123456789"), 3, ("no consent", "--grant-days")),
        (("-s", "national_id:TW:A123456789", "--consent", "none.json"), 2, ("none.json", "cannot be read")),
        (("-s", "national_id:TW:A123456789", "--grant-days", "3", "--purpose", "gossip"), 3, ("gossip", "new_credit")),
        (("-s", "national_id:TW:A123456789", "--grant-days", "0"), 3, ("0 days",)),
        (("-s", "national_id:TW:A123456789", "--grant-days", "3", "--schema", "7"), 3, ("schema 7",)),
        (("--resume", "nothing"), 3, ("there is no request",)),
        (("--file", "none.csv", "--grant-days", "3"), 2, ("none.csv",)),
    ],
)
def test_inquire__refused__stores_no_request(
    bank: Party, arguments: tuple[str, ...], status: int, words: tuple[str, ...]
) -> None:
    before = len(bank.ok("explain", "--all")["inquiries"])

    refusal = bank.run("inquire", *arguments, "--timeout", "0")

    refused(refusal, status, *words, party=bank)
    assert "A123456780" not in refusal.err
    assert len(bank.ok("explain", "--all")["inquiries"]) == before


def test_inquire__bad_row_of_a_batch__is_named(bank: Party, tmp_path: Path) -> None:
    batch = tmp_path / "batch.csv"
    batch.write_text("kind,country,number\nnational_id,TW,A123456789\nnational_id,TW,A123456780\n")

    refused(bank.run("inquire", "--file", str(batch), "--grant-days", "3"), 2, "batch.csv, row 3")


def test_consent__expired__is_refused_with_its_times(
    consortium: Consortium, bank: Party, subjects: Iterator[str], advance: Callable[[int], None]
) -> None:
    subject = next(subjects)
    bank.ok("consent", "grant", "-s", subject, "--purpose", "new_credit", "--days", "1", "--out", "short.json")
    advance(86_400 + 60)

    refused(
        bank.run("inquire", "-s", subject, "--consent", "short.json"), 3, "holds from", "ask the customer for a new one"
    )


def test_consent__of_somebody_else__is_refused(bank: Party, subjects: Iterator[str]) -> None:
    bank.ok("consent", "grant", "-s", next(subjects), "--purpose", "new_credit", "--days", "9", "--out", "other.json")

    refused(bank.run("inquire", "-s", next(subjects), "--consent", "other.json"), 3, "there is no consent of")


def test_consent__revoked__is_refused_once_it_is_on_the_ledger(bank: Party, subjects: Iterator[str]) -> None:
    subject = next(subjects)
    bank.ok("consent", "grant", "-s", subject, "--purpose", "new_credit", "--days", "9", "--out", "gone.json")
    bank.ok("consent", "revoke", "gone.json")

    refused(bank.run("inquire", "-s", subject, "--consent", "gone.json"), 3, "revoked")
    refused(bank.run("consent", "revoke", "gone.json"), 3, "revoked already")
    refused(bank.run("consent", "revoke", "0x12"), 3, "malformed")


def test_consent__grant_over_an_existing_file__is_refused_and_leaves_it(bank: Party, subjects: Iterator[str]) -> None:
    arguments = ("consent", "grant", "-s", next(subjects), "--purpose", "review", "--days", "9", "--out", "kept.json")
    bank.ok(*arguments)
    before = (bank.home / "kept.json").read_bytes()

    refused(bank.run(*arguments), 2, "kept.json", "there already")

    assert (bank.home / "kept.json").read_bytes() == before
    shown = bank.ok("consent", "show", "kept.json")
    assert shown["purpose"] == "review"
    (bank.home / "kept.json").write_bytes(before.replace(b"review", b"reviev"))
    refused(bank.run("consent", "show", "kept.json"), 2, "kept.json", "purpose")


def test_decide__stores_the_decision_and_gives_reasons(bank: Party, done: dict[str, object]) -> None:
    decided = bank.ok("decide", str(done["request"]), "--amount", "100000000", "--income", "50000", "--months", "24")

    decision = decided["decisions"][0]
    assert decision["outcome"] == "decline"
    assert {reason["code"] for reason in decision["reasons"]} >= {"exposure", "instalments"}
    assert "Bank" not in json.dumps(decision["reasons"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("DONE", "--amount", "12x"), ("amount", "at most one decimal point")),
        (("DONE", "--amount", "200000,50"), ("amount", "write 200000.50")),
        (("DONE", "--amount", "-5"), ("amount",)),
        (("DONE", "--amount", "5", "--currency", "USD"), ("USD", "TWD")),
        (("DONE", "--amount", "5", "--months", "0"), ("months",)),
        (("ffff", "--amount", "5"), ("there is no request",)),
    ],
)
def test_decide__refused(
    bank: Party, done: dict[str, object], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    given = [str(done["request"]) if argument == "DONE" else argument for argument in arguments]

    refused(bank.run("decide", *given), 3, *words)


def test_explain__all__and_by_id(bank: Party, done: dict[str, object]) -> None:
    by_inquiry = bank.ok("explain", str(done["inquiry"])[:12])["inquiries"]
    by_request = bank.ok("explain", str(done["request"])[:6])["inquiries"]

    assert by_inquiry == by_request
    assert by_inquiry[0]["state"] == "valid"
    refused(bank.run("explain", "0xdead"), 3, "there is no inquiry", "--all")


def test_evidence_and_verify__and_a_changed_file_is_found_out(
    bank: Party, done: dict[str, object], consortium: Consortium
) -> None:
    place = consortium.deployed["consortium"]
    bank.ok("evidence", str(done["request"]), "--out", "proof.json")
    proved = bank.ok("verify", "proof.json", "--consortium", place)
    on_ledger = bank.ok("verify", "proof.json", "--ledger")
    by_roster = bank.ok("verify", "proof.json", "--roster", str(on_ledger["roster"]))

    assert (bank.home / "proof.json").stat().st_mode & 0o077 == 0
    assert proved["totals"] == [done["subjects"][0]["totals"]] == on_ledger["totals"]
    assert len(on_ledger["blocks"]) == 6
    assert proved["compared"] == ["consortium", "founding"]
    assert on_ledger["compared"] == by_roster["compared"] == ["consortium", "roster", "founding"]
    for arguments in (("--roster", "0x" + "11" * 32), ("--roster", "0x" + "11" * 32, "--ledger")):
        refused(bank.run("verify", "proof.json", *arguments), 3, "roster")
    refused(bank.run("evidence", str(done["request"]), "--out", "proof.json"), 2, "there already")
    refused(bank.run("verify", "proof.json", "--consortium", "0x" + "11" * 20), 3, "not of")
    value = json.loads((bank.home / "proof.json").read_text())
    value["salt"] = "0x" + "00" * 32
    (bank.home / "forged.json").write_text(json.dumps(value))
    refused_ = bank.run("verify", "forged.json")
    assert refused_.status in (3, 4)
    assert "Bank A" in refused_.err
    (bank.home / "forged.json").write_text("{}")
    refused(bank.run("verify", "forged.json"), 2, "forged.json")
    refused(bank.run("verify", "nowhere.json"), 2, "nowhere.json")


def test_evidence__its_openings_destroyed_after_their_retention__is_refused(
    bank: Party, done: dict[str, object]
) -> None:
    with SqliteStore(bank.home / "store.sqlite") as store:
        before = dict(store.items("report"))
        for inquiry, report in before.items():
            store.put("report", inquiry, {"commitment": report["commitment"]})
    try:
        refused(bank.run("evidence", str(done["request"]), "--out", "late.json"), 5, "retention", "supervisor")
        assert not (bank.home / "late.json").exists()
    finally:
        with SqliteStore(bank.home / "store.sqlite") as store:
            for inquiry, report in before.items():
                store.put("report", inquiry, report)


def test_verify__with_no_ledger_to_ask__compares_with_the_founding_file_or_says_that_it_compared_nothing(
    bank: Party, done: dict[str, object], consortium: Consortium, tmp_path: Path
) -> None:
    bank.ok("evidence", str(done["request"]), "--out", "carried.json")
    text = bank.config.read_text()
    alone = tmp_path / "mpcredit.toml"
    alone.write_text(text.replace(URL, DOWN))
    (tmp_path / "founding.toml").write_text((bank.home / "founding.toml").read_text())
    founding = (tmp_path / "founding.toml").read_text()

    compared = bank.ok("verify", "carried.json", "--config", str(alone))
    assert compared["authentic"]
    assert compared["compared"] == ["consortium", "founding"]

    owner = bank.ok("member", "list")["members"][1]["owner"]
    (tmp_path / "founding.toml").write_text(founding.replace(owner, "0x" + "11" * 20))
    refused(
        bank.run("verify", "carried.json", "--config", str(alone)),
        3,
        "keys of the inquiry are signed by accounts that you have not accepted",
        "Bank B",
    )

    unfounded = text.replace(URL, DOWN).replace('founding = "founding.toml"', "")
    alone.write_text(unfounded)
    said = bank.run("verify", "carried.json", "--config", str(alone))
    assert said.status == 0
    assert "ONLY CONSISTENT IN ITSELF" in said.out
    assert "The evidence holds" not in said.out
    for word in (consortium.deployed["consortium"], str(compared["roster"]), "--ledger", "--roster"):
        assert word in said.err
    chain = consortium.deployed["chain_id"]
    alone.write_text(unfounded.replace(f"chain_id = {chain}", "chain_id = 5"))
    refused(bank.run("verify", "carried.json", "--config", str(alone)), 3, "of chain")


def test_rejected_commands__leave_no_files_behind(bank: Party) -> None:
    assert not [name for name in listing(bank.home) if name.endswith(".tmp")]
