"""The rehearsal of a new member: a good candidate gets a certificate, each bad one is told what is wrong with it.

Branches: a good candidate with its own adapter, which nothing of is touched; candidates that differ in one thing each; the
certificate - verified, changed, signed by another; what is refused before anything starts; the books that ship.
"""

from __future__ import annotations

import csv
import hashlib
import json
from importlib import resources
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from mpcredit.certificate import CHECKS, Certificate, read_certificate
from mpcredit.cli import main
from mpcredit.encoding import canonical_json, parse_canonical_json
from mpcredit.errors import InvalidFile, InvalidProof, KeyStoreError, MpcreditError, WrongPassphrase
from mpcredit.keystore import KdfCost, KeyStore
from mpcredit.server.certify import FAILED, NOT_RUN, Outcome, certify

SECRET = "the candidate's passphrase"
WITHIN = 60.0
"""Seconds that a good candidate may take on a machine that does other things too."""

BANK_CORE = '''
"""A bank's own adapter, and what may be wrong with one."""
import hashlib, hmac, time
from dataclasses import replace
from pathlib import Path
from mpcredit.books import LoanBook
from mpcredit.schema import FIGURES_1

AMOUNTS = ("outstanding", "credit_limit", "overdue")

def good(tagger, path):
    return LoanBook.read_csv(path).index(tagger)

class Changed:
    def __init__(self, tagger, path, change):
        self.book = LoanBook.read_csv(path).index(tagger)
        self.as_of, self.currency, self.change = self.book.as_of, self.book.currency, change
    def record(self, schema, tag):
        return self.change(self.book.record(schema, tag))

def wrong_amount(tagger, path):
    return Changed(tagger, path, lambda r: {**r, "outstanding": r["outstanding"] + (r["loans"] == 2)})

def wrong_unit(tagger, path):
    return Changed(tagger, path, lambda r: {**r, **{name: 100 * r[name] for name in AMOUNTS}})

def missing_customer(tagger, path):
    nothing = FIGURES_1.zero
    return Changed(tagger, path, lambda r: dict(nothing) if r["loans"] == 5 else r)

class Slow(Changed):
    last = 0.0
    def record(self, schema, tag):
        if time.monotonic() - self.last > 0.5:
            time.sleep(2.5)
        self.last = time.monotonic()
        return super().record(schema, tag)

def slow(tagger, path):
    return Slow(tagger, path, lambda r: r)

def not_normalised(tagger, path):
    """Compares numbers as they are written: only what is written canonically is found."""
    book = LoanBook.read_csv(path)
    raw = {line.split(",")[2].strip() for line in Path(path).read_text().splitlines() if line.count(",") > 7}
    kept = {c: r for c, r in book.records.items() if c.decode().split("|")[3] in raw}
    return replace(book, records=kept).index(tagger)

def old(tagger, path):
    book = LoanBook.read_csv(path)
    return replace(book, as_of=book.as_of - 41 * 86_400).index(tagger)

def not_there(tagger, path):
    raise SystemExit("the core system is not there")

def looks_first(tagger, path):
    """Own code that changes the service: it looks before it decides."""
    from mpcredit.furnisher import Furnisher
    judge = Furnisher.judge
    def looking(self, inquiry):
        for entry in self.desk.subjects(inquiry).entries:
            self.book.record(inquiry.schema, entry.tag)
        return judge(self, inquiry)
    Furnisher.judge = looking
    return good(tagger, path)

def answers_all(tagger, path):
    from mpcredit.furnisher import Furnisher
    Furnisher.judge = lambda self, inquiry: None
    return good(tagger, path)
'''


class Bank:
    """A candidate's directory."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        (place / "code").mkdir()
        (place / "code" / "bank_core.py").write_text(BANK_CORE)
        monkeypatch.setenv("PYTHONPATH", str(place / "code"), prepend=":")
        keys = KeyStore(place / "keys", lambda _: SECRET, cost=KdfCost.unsafe_light())
        self.account = keys.create_account().address
        keys.create_institution_key(1)
        (place / "real.sqlite").write_bytes(b"the real store, never to be opened")

    def config(self, *, book: str = 'adapter = "bank_core:good"', server: str = "", minimum: int = 3) -> Path:
        path = self.place / "bank.toml"
        path.write_text(
            'role = "institution"\n[ledger]\nurl = "http://127.0.0.1:1"\nchain_id = 1\n[keys]\ndirectory = "keys"\n'
            f"[book]\n{book}\n[inquiry]\nbits = 2048\nminimum_cohort = {minimum}\n"
            f'[server]\ndatabase = "sqlite:///real.sqlite"\n{server}\n'
        )
        return path

    def digest(self) -> dict[str, str]:
        """Of every file."""
        return {
            str(path.relative_to(self.place)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.place.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".lock"
        }

    def rehearse(self, config: Path, **options: object) -> Outcome:
        return certify(config, ask=lambda _: SECRET, **{"block_seconds": WITHIN, **options})  # type: ignore[arg-type]


@pytest.fixture
def bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A candidate."""
    return Bank(tmp_path, monkeypatch)


@pytest.mark.slow
def test_certify__a_good_candidate__is_certified_and_nothing_of_it_is_touched(
    bank: Bank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = bank.config()
    before = bank.digest()
    monkeypatch.setenv("MPCREDIT_PASSPHRASE", SECRET)
    out = bank.place.parent / "certificate.json"

    status = main(["certify", "--config", str(config), "--within", str(WITHIN), "--out", str(out), "--json"])

    told = json.loads(capsys.readouterr().out)
    assert status == 0, told["checks"]
    assert {check["outcome"] for check in told["checks"]} == {"passed"}
    assert [check["name"] for check in told["checks"]] == list(CHECKS)
    assert bank.digest() == before
    # What counts is told, and in no more than the limit.
    assert 0 < told["times"]["one"]["median"] <= told["times"]["one"]["worst"] <= 1000 * WITHIN
    assert (told["times"]["one"]["runs"], told["times"]["pack"]["runs"]) == (3, 1)
    # The certificate is bound to the account that the members will vote on.
    found = read_certificate(out)
    assert found.account == bank.account
    assert found.body["book"] == {"adapter": "own adapter", "currency": "TWD", "known": "shipped", "known_subjects": 14}
    message = encode_defunct(primitive=canonical_json(dict(found.body)))
    assert Account.recover_message(message, signature=found.signature) == bank.account

    assert main(["certify", "--verify", str(out), "--account", bank.account]) == 0
    shown = capsys.readouterr().out
    assert "It does not prove:" in shown
    assert "the candidate's own machine" in shown
    # Its rejected twins: another account, one letter changed.
    assert main(["certify", "--verify", str(out), "--account", "0x" + "11" * 20]) == 3
    out.chmod(0o600)
    out.write_bytes(out.read_bytes().replace(b'"known_subjects":14', b'"known_subjects":15'))
    assert main(["certify", "--verify", str(out)]) == 3
    assert "signed by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("adapter", "check", "says"),
    [
        ("wrong_amount", "figures", "outstanding is 18250051, known is 18250050"),
        ("wrong_unit", "unit", "about 100"),
        ("missing_customer", "customers", "1 known customers have no figures"),
        ("not_normalised", "customers", "tag is made of the canonical number"),
        ("old", "book_age", "41.0 days old, 40.0 are permitted"),
        ("not_there", "start", "the core system is not there"),
    ],
)
def test_certify__a_bad_candidate__is_told_what_is_wrong(bank: Bank, adapter: str, check: str, says: str) -> None:
    outcome = bank.rehearse(bank.config(book=f'adapter = "bank_core:{adapter}"'), fail_fast=True)

    assert outcome.certificate is None
    (failed,) = outcome.failed
    assert failed.name == check
    assert says in f"{failed.detail} {failed.remedy}"
    assert failed.remedy
    behind = outcome.checks[list(CHECKS).index(check) + 1 :]
    assert {other.outcome for other in behind} == {NOT_RUN}


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        ("looks_first", "looked into its book 1 times before it refused"),
        ("answers_all", "answered where it had to refuse with code 6"),
    ],
)
def test_certify__a_candidate_that_looks_or_answers__fails_the_refusal(bank: Bank, adapter: str, says: str) -> None:
    config = bank.config(book=f'adapter = "bank_core:{adapter}"')

    outcome = bank.rehearse(config, only=["refuses_foreign_consent"])

    (failed,) = outcome.failed
    assert failed.name == "refuses_foreign_consent"
    assert says in failed.detail
    assert "R26" in failed.remedy
    assert outcome.certificate is None


def test_certify__only_some_checks__gives_no_certificate(bank: Bank) -> None:
    outcome = bank.rehearse(bank.config(), only=["identities"])

    assert outcome.failed == []
    assert not outcome.passed
    assert outcome.certificate is None
    with pytest.raises(MpcreditError, match="no check nonsense"):
        bank.rehearse(bank.config(), only=["nonsense"])


def test_certify__a_slow_book__is_told_median_worst_and_limit(bank: Bank) -> None:
    outcome = bank.rehearse(bank.config(book='adapter = "bank_core:slow"'), fail_fast=True, block_seconds=2.0)

    (failed,) = outcome.failed
    assert failed.name == "time_one"
    assert "limit 2 s" in failed.detail
    assert outcome.times["one"]["median"] > 2_000
    assert [c.outcome for c in outcome.checks if c.name in ("customers", "unit", "figures")] == ["passed"] * 3


def test_certify__known_answers_and_an_sql_query__ask_the_banks_own_book(bank: Bank) -> None:
    import sqlite3

    with sqlite3.connect(bank.place / "core.sqlite") as core:
        core.execute("CREATE TABLE c (number TEXT, owed TEXT)")
        core.executemany(
            "INSERT INTO c VALUES (?, ?)", [("a123 456789", "10.50"), ("A800000014", "7"), ("B123456780", "1")]
        )
    core.close()
    (bank.place / "book.sql").write_text(
        "SELECT 'national_id' AS kind, 'TW' AS country, number, 'TWD' AS currency, owed AS outstanding, "
        "0 AS credit_limit, 0 AS overdue, 1 AS loans, 0 AS pending FROM c"
    )
    config = bank.config(
        book="", server=f'book_sql_url = "sqlite:///{bank.place / "core.sqlite"}"\nbook_sql_query = "book.sql"'
    )
    header = "# as_of: 2026-01-01\nkind,country,number,currency,outstanding,credit_limit,overdue,loans,pending\n"
    known = bank.place / "known.csv"
    known.write_text(
        header + "national_id,TW,A123456789,TWD,10.50,0,0,1,0\nnational_id,TW,A800000014,TWD,8,0,0,1,0\n"
        "passport,TW,300000000,TWD,0,0,0,0,0\n"
    )

    outcome = bank.rehearse(config, known=known, fail_fast=True)

    # The bank said 8 and its own query gives 7.
    assert [check.name for check in outcome.failed] == ["figures"]
    assert "outstanding is 700, known is 800" in outcome.failed[0].detail
    assert outcome.facts["book"]["adapter"] == "SQL query, imported into the database"
    assert outcome.checks[-1].outcome == NOT_RUN


def test_certify__before_anything_starts__refuses_what_cannot_be(bank: Bank) -> None:
    with pytest.raises(WrongPassphrase):
        certify(bank.config(), ask=lambda _: "wrong")
    (bank.place / "book.sql").write_text("SELECT 1")
    sql = bank.config(book="", server='book_sql_url = "sqlite:///x"\nbook_sql_query = "book.sql"')
    with pytest.raises(InvalidFile, match="shipped known answers cannot be put into that database"):
        certify(sql, ask=lambda _: SECRET)
    with pytest.raises(InvalidFile, match="MODULE:FUNCTION"):
        certify(bank.config(book='adapter = "bank_core"'), ask=lambda _: SECRET)
    few = bank.place / "few.csv"
    few.write_text(
        "# as_of: 2026-01-01\n# currency: TWD\nkind,country,number,currency,outstanding,credit_limit,overdue,loans,pending\n"
    )
    with pytest.raises(InvalidFile, match="at least 3"):
        certify(bank.config(), known=few, ask=lambda _: SECRET)
    config = bank.config()
    for path in sorted((bank.place / "keys").iterdir()):
        path.unlink()
    (bank.place / "keys").rmdir()
    with pytest.raises(KeyStoreError, match="there are no keys"):
        certify(config, ask=lambda _: SECRET)


def _body(account: str) -> dict[str, object]:
    names = (
        "book",
        "chain",
        "contracts",
        "finished_at",
        "package",
        "schema",
        "specification",
        "started_at",
        "terms",
        "times",
    )
    return {
        "format": "mpcredit/certificate",
        "version": 1,
        "account": account,
        "checks": [{"name": name, "outcome": "passed", "detail": ""} for name in CHECKS],
        **dict.fromkeys(names, 1),
    }


def test_certificate__signed_by_another_account_or_not_passed__is_refused(tmp_path: Path) -> None:
    own, other = Account.create(), Account.create()

    def by_other(data: bytes) -> bytes:
        return bytes(other.sign_message(encode_defunct(primitive=data)).signature)

    with pytest.raises(InvalidProof, match="signed by"):
        Certificate.sign(_body(own.address), by_other)
    made = Certificate.sign(_body(other.address), by_other)
    path = tmp_path / "certificate.json"
    path.write_bytes(made.to_bytes())
    assert read_certificate(path) == made
    for change, says in (
        ({"version": 2}, "version is not 1"),
        ({"checks": _body(own.address)["checks"][:-1]}, "lacks checks"),  # type: ignore[index]
        ({"checks": [{"name": n, "outcome": FAILED, "detail": ""} for n in CHECKS]}, "not passed"),
        ({"more": 1}, "missing or unknown"),
    ):
        value = parse_canonical_json(path.read_bytes().strip())
        value["body"] |= change
        changed = tmp_path / "changed.json"
        changed.write_bytes(canonical_json(value))
        with pytest.raises(InvalidFile, match=says):
            read_certificate(changed)


def test_shipped_known_answers__agree_with_the_shipped_book__read_without_the_package() -> None:
    """Plain csv and decimals: neither file was made by the reader that the rehearsal tries."""
    from decimal import Decimal

    data = resources.files("mpcredit") / "data"
    book, answers = (
        [row for row in csv.reader((data / name).read_text(encoding="utf-8").splitlines()) if row[0][0] not in "#k"]
        for name in ("known_book.csv", "known_answers.csv")
    )
    figures = [[Decimal(cell) for cell in row[4:]] for row in answers]
    assert figures[: len(book)] == [[Decimal(cell) for cell in row[4:]] for row in book]
    assert all(not any(row) for row in figures[len(book) :])
    assert len(figures) > len(book)
    # The identities are cases of the reviewed vectors, in their form and cause.
    shipped = json.loads((data / "identities.json").read_text(encoding="utf-8"))["cases"]
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "identity.json").read_text(encoding="utf-8"))["cases"]
    assert shipped == [{name: case[name] for name in shipped[0]} for case in vectors]
