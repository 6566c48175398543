"""mpcredit answer and watch: what the services do between rounds, and where the watcher stands."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cli_world import refused
from parties import Consortium, Party
from web3 import Web3

from mpcredit.chain import ChainSigner
from mpcredit.config import ledger_of, open_keystore, read_config
from mpcredit.errors import StoreError
from mpcredit.events import Call
from mpcredit.store import SqliteStore


def test_answer__once__leaves_when_nothing_is_due(consortium: Consortium) -> None:
    first = consortium["Bank B"].ok("answer", "--once")["done"]
    second = consortium["Bank B"].ok("answer", "--once")["done"]

    assert first[0].startswith("service of Bank B (member 1)")
    assert len(second) == 1


def test_answer__until_idle__leaves_by_itself(consortium: Consortium) -> None:
    assert consortium["Bank B"].ok("answer", "--until-idle", "0.1")["done"]


def test_answer__with_a_store_that_was_lost__names_the_reason_until_a_new_tenure(
    consortium: Consortium, chain: Web3
) -> None:
    clerk = consortium["Bank D"]
    store = clerk.home / "store.sqlite"
    mark = clerk.home / "mark" / "store.json"
    kept, marked = store.rename(clerk.home / "kept.sqlite"), mark.read_bytes()
    try:
        refused(clerk.run("answer", "--once"), StoreError.exit_code, "which this store lacks", "--new-tenure")
        checks = {check["name"]: check for check in clerk.run("doctor", "--json").value["checks"]}
        begun = clerk.run("answer", "--once", "--new-tenure", "the disk was lost")
        unnamed = clerk.run("doctor", "--json").value["checks"]
    finally:
        store.unlink()
        kept.rename(store)
        mark.write_bytes(marked)
        goes_on(clerk, chain)
    clerk.ok("ready", "--on")
    clerk.ok("answer", "--once")

    assert (checks["store"]["state"], "which this store lacks" in checks["store"]["detail"]) == ("WRONG", True)
    assert begun.status == 0
    assert "a new tenure has begun" in begun.out
    assert [check["state"] for check in unnamed if check["name"] == "tenure"] == ["WRONG"]


def test_watch__goes_on_behind_its_cursor(consortium: Consortium) -> None:
    consortium.supervisor.ok("watch", "--once")
    again = consortium.supervisor.ok("watch", "--once")

    assert again["lines"] == []


def test_watch__without_attesting__sends_nothing_and_a_later_run_attests(
    consortium: Consortium, subjects: Iterator[str]
) -> None:
    bank = consortium["Bank A"]
    request = bank.ok("inquire", "-s", next(subjects), "--grant-days", "3", "--no-wait")["request"]
    for _ in range(2):
        consortium.turn(supervisor=False)

    consortium.supervisor.ok("watch", "--once", "--no-attest")
    unattested = bank.ok("explain", request)["inquiries"][0]["state"]
    consortium.supervisor.ok("watch", "--once")

    assert unattested == "reported"
    assert bank.ok("explain", request)["inquiries"][0]["state"] == "valid"


def test_watch__a_member_that_contributes_rubbish__is_named_and_exported_once(
    consortium: Consortium, subjects: Iterator[str], chain: Web3
) -> None:
    bank, liar = consortium["Bank A"], consortium["Microfinance C"]
    bank.ok("inquire", "-s", next(subjects), "--grant-days", "3", "--no-wait")
    bank.ok("answer", "--once")
    inquiry = bank.ok("explain", "last")["inquiries"][0]["inquiry"]
    signer, joint_credit, blocks = _signer(liar, chain)
    payload = bytes(80) + (12345).to_bytes(512, "big") * blocks
    signer.transact(Call(joint_credit, "contribute", (bytes.fromhex(inquiry[2:]), 2, payload)))
    goes_on(liar, chain)

    told = consortium.supervisor.run("watch", "--once", "--export", "liars.jsonl", "--json")
    again = consortium.supervisor.ok("watch", "--once", "--export", "liars.jsonl")

    assert told.status == 0, told.err
    findings = [line for line in told.value["lines"] if line["kind"] == "finding"]
    assert [line for line in again["lines"] if line["kind"] == "finding"] == []
    assert findings[0]["names"] == ["Microfinance C"]
    assert "Microfinance C" in told.err
    exported = [json.loads(line) for line in (consortium.supervisor.home / "liars.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in exported}) == len(exported)
    listed = bank.ok("member", "list")["members"][2]
    assert listed["suspended"]
    assert bank.ok("explain", "last")["inquiries"][0]["state"] == "void"


def goes_on(party: Party, chain: Web3) -> None:
    """The store goes on above what the account has sent without it."""
    with SqliteStore(party.home / "store.sqlite") as store:
        store.put("meta", "nonce_floor", {"nonce": _signer(party, chain)[0].nonce()})


def _signer(party: Party, chain: Web3) -> tuple[ChainSigner, str, int]:
    settings = read_config(party.config)
    keys = open_keystore(settings, lambda purpose: party.passphrase)
    ledger = ledger_of(settings)
    signer = ChainSigner(chain, keys.account(), ledger.realm.consortium)
    return signer, str(ledger.call(Call("consortium", "jointCredit"))), 1
