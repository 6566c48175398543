"""A party has one store (R24, R25): beside `mpcredit serve` every command uses the server's database, or refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import listing, refused
from parties import Consortium, Party

import mpcredit
from mpcredit import paillier
from mpcredit.config import open_keystore, read_config
from mpcredit.errors import InvalidFile, StoreError
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import open_database
from mpcredit.server.serve import serve_party
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import OwnSqlStore, ReadSqlStore
from mpcredit.store import SqliteStore


def give_server(party: Party) -> Path:
    """Turn a party's configuration into one of a server; its old store lies elsewhere."""
    party.config.write_text(party.config.read_text() + '[server]\ndatabase = "sqlite:///server.sqlite"\n')
    return party.home / "server.sqlite"


def owner(party: Party, name: str) -> str:
    """A member's owner account, as the ledger has it."""
    return next(str(member["owner"]) for member in party.ok("member", "list")["members"] if member["name"] == name)


@pytest.fixture
def served(consortium: Consortium) -> Iterator[Party]:
    """Bank D with a server that has worked once; its configuration and store are put back afterwards."""
    party = consortium["Bank D"]
    text = party.config.read_text()
    old = party.home / "store.sqlite"
    away = party.home / "before.sqlite"
    rows = {}
    with SqliteStore(old) as store:
        rows = {kind: list(store.items(kind)) for kind in ("meta", "pin", "sealed", "answer")}
        nonce = store.next_nonce()
    old.rename(away)
    database = give_server(party)
    with OwnSqlStore(ServerSettings.load(party.config)) as made:
        for kind, values in rows.items():
            for key, value in values:
                made.insert(kind, key, value)
        made.put("meta", "nonce_floor", {"nonce": nonce})
    yield party
    party.config.write_text(text)
    for path in party.home.glob("server.sqlite*"):
        path.unlink()
    assert not old.exists(), "a command made a second store"
    away.rename(old)
    assert database.name == "server.sqlite"


PEOPLES = [
    (("answer", "--once"), "mpcredit serve"),
    (("inquire", "--resume", "last"), "/applications/new"),
    (("decide", "last", "--amount", "1"), "/applications"),
    (("ready", "--on"), "by itself"),
    (("consent", "revoke", "0x" + "11" * 32), "/consents"),
]


@pytest.mark.parametrize(("command", "word"), PEOPLES, ids=lambda value: value[0] if isinstance(value, tuple) else "")
def test_command_of_a_role__beside_a_server__names_its_page_and_writes_nothing(
    served: Party, command: tuple[str, ...], word: str
) -> None:
    before = listing(served.home)

    refused(served.run(*command), StoreError.exit_code, "[server]", "server.sqlite", word, party=served)

    assert listing(served.home) == before


def test_watch__beside_the_supervisors_server__names_its_page(consortium: Consortium) -> None:
    party = consortium.supervisor
    text = party.config.read_text()
    try:
        give_server(party)
        refused(party.run("watch", "--once"), StoreError.exit_code, "[server]", "/supervision", party=party)
    finally:
        party.config.write_text(text)
    assert not (party.home / "server.sqlite").exists()


def test_institution_from_config__beside_a_server__is_refused(served: Party) -> None:
    with pytest.raises(StoreError, match=r"\[server\] database"):
        mpcredit.Institution.from_config(served.config, ask=lambda _purpose: served.passphrase)

    assert not (served.home / "store.sqlite").exists()


@pytest.mark.parametrize("running", [False, True])
def test_reading_commands__read_the_servers_database(served: Party, running: bool) -> None:
    settings = ServerSettings.load(served.config)
    database = open_database(settings)
    try:
        if running:
            database.claim()
        checks = {check["name"]: check for check in served.run("doctor", "--json").value["checks"]}
        assert "server.sqlite" in checks["store"]["detail"]
        assert "0 under way" in checks["store"]["detail"]
        assert served.ok("explain", "--all") is not None
        assert served.ok("member", "list")["members"]
        assert served.ok("keys", "destroy", "inquiry", "--older-than", "1", "--yes")["names"] == []
    finally:
        database.close()
    assert not (served.home / "store.sqlite.inbox").exists() or not list((served.home / "store.sqlite.inbox").iterdir())


def test_keys_destroy__keys_of_the_servers_requests__are_found_there(served: Party) -> None:
    keys = open_keystore(read_config(served.config), lambda _purpose: served.passphrase)
    keys.keep_inquiry_key(paillier.unsafe_generate_toy(512))
    (fingerprint,) = keys.inquiry_keys()
    value = {"id": "r1", "attempts": [{"key": fingerprint}], "state": "opening", "requested_at": 0}
    with OwnSqlStore(ServerSettings.load(served.config)) as store:
        store.insert("request", "r1", value)

    refused(served.run("keys", "destroy", "inquiry", fingerprint, "--yes"), 7, "request r1 still needs it")
    assert list(keys.inquiry_keys()) == [fingerprint]


def test_step_of_the_command_line__while_the_server_runs__is_refused(served: Party) -> None:
    database = open_database(ServerSettings.load(served.config))
    try:
        database.claim()
        done = served.run("member", "pin", "Bank A", owner(served, "Bank A"))
        refused(done, StoreError.exit_code, "server.sqlite", "stop `mpcredit serve`", "nothing was done")
    finally:
        database.close()


def test_appoint__while_the_server_runs__reads_its_tenure_and_hands_nothing_over(served: Party) -> None:
    database = open_database(ServerSettings.load(served.config))
    try:
        database.claim()
        refused(served.run("member", "appoint", "--yes"), 3, "is named already, with the tenure of this store")
    finally:
        database.close()


def test_step_of_the_command_line__while_the_server_is_stopped__is_in_its_database_and_audit_log(
    served: Party,
) -> None:
    account = owner(served, "Bank A")
    done = served.run("member", "pin", "Bank A", account)
    assert done.status == 0, done.out + done.err

    settings = ServerSettings.load(served.config)
    with ReadSqlStore(settings) as store:
        assert [key.lower() for key, _ in store.items("pin")][-1] == account.lower()
        (entry,) = AuditLog(store.database).search(action="console.pin")
    assert entry.actor == "console"
    assert entry.facts["pinned"] == account


def test_store_to_be_read__cannot_be_written_and_is_never_upgraded(tmp_path: Path) -> None:
    (tmp_path / "bank.toml").write_text("[server]\n")
    settings = ServerSettings.load(tmp_path / "bank.toml")
    with pytest.raises(StoreError, match="there is no store"):
        ReadSqlStore(settings)
    OwnSqlStore(settings).close()
    with ReadSqlStore(settings) as store:
        for write in (
            lambda: store.put("a", "b", {}),
            lambda: store.outbox_add("k", 0, {}, b"", b""),
            lambda: store.transaction().__enter__(),
        ):
            with pytest.raises(StoreError, match="reading only"):
                write()
        assert store.get("a", "b") is None

    database = open_database(settings)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE mpcredit_version SET version_num = '0000'")
    database.close()
    with pytest.raises(StoreError, match="version 1 of mpcredit"):
        ReadSqlStore(settings)


def test_two_stores_in_one_configuration__are_refused(served: Party) -> None:
    served.config.write_text(served.config.read_text() + '[store]\npath = "store.sqlite"\n')

    refused(served.run("doctor"), InvalidFile.exit_code, "[store] path", "second store")


def test_serve__without_the_table_or_with_the_old_store__is_refused(served: Party) -> None:
    text = served.config.read_text()
    served.config.write_text(text.replace("[server]\n", "").replace('database = "sqlite:///server.sqlite"\n', ""))
    with pytest.raises(InvalidFile, match=r"\[server\]"):
        serve_party(served.config)

    served.config.write_text(text)
    old = served.home / "store.sqlite"
    SqliteStore(old).close()
    try:
        with pytest.raises(StoreError, match="from before there was a server"):
            serve_party(served.config)
    finally:
        for path in served.home.glob("store.sqlite*"):
            if path.is_file():
                path.unlink()


def test_people__added_at_the_console__have_roles_a_link_and_an_entry(served: Party) -> None:
    done = served.ok(
        "people", "add", "wang.jun", "--display", "Wang Jun", "--role", "administrator", "--why", "founding"
    )

    assert done["roles"] == ["administrator"]
    assert done["link"].startswith("http://127.0.0.1:8440/sign-in?token=")
    again = served.ok("people", "link", "wang.jun", "--why", "forgot it")
    assert again["link"] != done["link"]
    refused(
        served.run(
            "people", "add", "x", "--display", "X", "--role", "officer", "--role", "administrator", "--why", "y"
        ),
        5,
    )
    database = open_database(ServerSettings.load(served.config))
    entries = AuditLog(database).search(about="account/wang.jun")
    database.close()
    assert {entry.actor for entry in entries} == {"console"}
    assert {"account.created", "sign-in.issued"} <= {entry.action for entry in entries}


OIDC = """
[server.oidc]
issuer = "http://127.0.0.1:9"
client_id = "mpcredit"
[server.oidc.roles]
"Credit" = "officer"
"""


def test_people__bound_to_the_identity_provider__with_an_entry(served: Party) -> None:
    served.ok("people", "add", "chen.yu", "--display", "Chen Yu", "--role", "officer", "--why", "founding")
    command = ("people", "bind", "chen.yu", "--subject", "9b2f", "--why", "single sign-on")
    refused(served.run(*command), InvalidFile.exit_code, "[server.oidc]", "is missing")
    served.config.write_text(served.config.read_text() + OIDC)

    done = served.ok(*command)

    assert done == {"name": "chen.yu", "issuer": "http://127.0.0.1:9", "subject": "9b2f"}
    refused(served.run(*command), 5, "already")
    database = open_database(ServerSettings.load(served.config))
    [entry] = AuditLog(database).search(action="account.bound")
    database.close()
    assert (entry.actor, entry.about, entry.why) == ("console", "account/chen.yu", "single sign-on")


def test_doctor__identity_provider_that_does_not_answer__is_wrong(served: Party) -> None:
    before = {check["name"] for check in served.run("doctor", "--json").value["checks"]}
    served.config.write_text(served.config.read_text() + OIDC)

    checks = {check["name"]: check for check in served.run("doctor", "--json").value["checks"]}

    assert "identity provider" not in before
    assert checks["identity provider"]["state"] == "WRONG"
    assert "cannot be reached" in checks["identity provider"]["detail"]
    assert checks["identity provider"]["remedy"]
    assert not (served.home / "session.secret").exists()


def test_people__without_a_server__is_refused(bank: Party) -> None:
    refused(bank.run("people", "link", "li", "--why", "no server"), InvalidFile.exit_code, "[server]", "is missing")
