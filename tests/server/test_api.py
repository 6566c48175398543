"""The JSON API: tokens, scopes, idempotency, and what its OpenAPI document promises."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from web_world import EVIDENCE, LOOPBACK, TestClient, World, world

ALL = ["applications:write", "applications:read", "audit:read", "book:write", "metrics:read"]


EXCLUDED = [
    ignored_auth,  # it takes away the token that this test gives, not one of the document
    positive_data_acceptance,  # no document can say what a check digit is
]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A consortium for all tests of this file."""
    with world(tmp_path_factory.mktemp("api")) as found:
        yield found


def token(there: World, *scopes: str, confirmed: bool = True) -> str:
    """A system's secret, confirmed by the reviewer."""
    people = there.bank.people
    administrator, reviewer = people.get("administrator"), people.get("reviewer")
    made, secret = people.create_token("loan system", list(scopes), by=administrator, why="test")
    if confirmed:
        change = next(change for change in people.changes() if change.token == made.id)
        people.confirm(change.id, by=reviewer)
    return secret


def system(there: World, secret: str) -> TestClient:
    """A system's client: no cookie, no origin."""
    client = TestClient(there.bank.app, base_url=there.bank.settings.origin, client=LOOPBACK)
    client.headers["Authorization"] = f"Bearer {secret}"
    return client


def body(there: World, **changes: Any) -> dict[str, Any]:
    """A right application."""
    subject = there.take()
    return {
        "customer": {"kind": subject.kind, "country": subject.country, "number": subject.number},
        "amount": "200000.00",
        "currency": "TWD",
        "months": 24,
        "income": "60000",
        "purpose": "new_credit",
        "consent_evidence": EVIDENCE,
        "reference": "LOS-1",
        **changes,
    }


def test_application__posted__is_asked_and_answered(there: World) -> None:
    client = system(there, token(there, *ALL))

    made = client.post("/api/applications", json=body(there), headers={"Idempotency-Key": "los-00000001"})
    there.settle()
    read = client.get(made.headers["location"])

    assert made.status_code == 201, made.text
    assert made.json()["step"] == "waiting"
    answer = read.json()
    assert answer["step"] == "ready"
    assert answer["attested"] is True
    assert answer["coverage"] == "4 of 4 institutions"
    assert int(answer["with_requested"]) == int(answer["totals"]["outstanding"]) + 20_000_000
    assert answer["policy"]["outcome"] in ("approve", "refer", "decline")
    assert there.bank.audit.search(action="subject.looked")[0].actor.startswith("token:")


def test_application__repeated_key__is_the_same_and_asks_once(there: World) -> None:
    client, given = system(there, token(there, *ALL)), body(there)

    first = client.post("/api/applications", json=given, headers={"Idempotency-Key": "los-00000002"})
    again = client.post("/api/applications", json=given, headers={"Idempotency-Key": "los-00000002"})
    other = client.post("/api/applications", json=body(there), headers={"Idempotency-Key": "los-00000002"})

    assert first.json()["id"] == again.json()["id"]
    assert other.status_code == 422
    assert "idempotency_key" in other.json()["problems"]


def test_application__two_systems_with_one_key__are_two(there: World) -> None:
    one, two = system(there, token(there, *ALL)), system(there, token(there, *ALL))

    first = one.post("/api/applications", json=body(there), headers={"Idempotency-Key": "los-00000003"})
    second = two.post("/api/applications", json=body(there), headers={"Idempotency-Key": "los-00000003"})

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    assert two.get(f"/api/applications/{first.json()['id']}").status_code == 409


def test_application__system_without_key__is_refused(there: World) -> None:
    answer = system(there, token(there, *ALL)).post("/api/applications", json=body(there))

    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["problems"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": 200000.5}, "amount"),
        ({"amount": "1e5"}, "amount"),
        ({"currency": "USD"}, "currency"),
        ({"months": 0}, "months"),
        ({"purpose": "curiosity"}, "purpose"),
        ({"consent_evidence": ""}, "consent_evidence"),
        ({"consent_evidence": "00" * 32}, "evidence"),
        ({"surprise": 1}, "surprise"),
        ({"customer": {"kind": "national_id", "country": "TW", "number": "A123456788"}}, "number"),
    ],
)
def test_application__wrong_field__is_named(there: World, changes: dict[str, Any], field: str) -> None:
    client = system(there, token(there, *ALL))

    answer = client.post("/api/applications", json=body(there, **changes), headers={"Idempotency-Key": "los-00000004"})

    assert answer.status_code == 422
    assert field in " ".join(answer.json()["problems"])
    assert "A123456788" not in answer.text


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("applications:read", "POST", "/api/applications"),
        ("applications:write", "GET", "/api/applications"),
        ("applications:write", "GET", "/api/audit"),
        ("audit:read", "GET", "/metrics"),
        ("metrics:read", "GET", "/api/applications"),
    ],
)
def test_token__without_the_scope__is_refused(there: World, scope: str, method: str, path: str) -> None:
    answer = system(there, token(there, scope)).request(method, path, json={} if method == "POST" else None)

    assert answer.status_code == 403


def test_token__unconfirmed_unknown_or_on_a_page__is_nobody(there: World) -> None:
    pending = system(there, token(there, *ALL, confirmed=False))
    confirmed = system(there, token(there, *ALL))

    assert pending.get("/api/applications").status_code == 401
    assert system(there, "mpc_nonsense").get("/api/applications").status_code == 401
    assert confirmed.get("/applications", follow_redirects=False).status_code == 303


def test_audit_and_metrics__with_their_scopes(there: World) -> None:
    client = system(there, token(there, *ALL))

    lines = client.get("/api/audit?since=0").text.splitlines()
    metrics = client.get("/metrics").text

    assert [json.loads(line)["seq"] for line in lines[:3]] == [1, 2, 3]
    assert 'mpcredit_ready{party="Bank A"} 1.0' in metrics
    assert "mpcredit_applications{" in metrics


def test_health__needs_nobody_and_says_little(there: World) -> None:
    client = there.bank.anonymous()

    assert client.get("/healthz").text == "ok\n"
    assert set(client.get("/readyz").json()) == {"ready", "state"}


def test_readyz__store_that_is_stopped__names_the_reason(there: World) -> None:
    desk = there.bank.node.party.desk
    desk.outbox.note_foreign("the ledger account sent transaction 0x12 under nonce 7, which this store lacks")
    try:
        there.bank.node.round()
        stopped = there.bank.anonymous().get("/readyz")
        metrics = system(there, token(there, *ALL)).get("/metrics").text
    finally:
        desk.store.delete("meta", "foreign")
        there.bank.node.round()

    assert (stopped.status_code, stopped.json()["state"]) == (503, "held up")
    assert "0x12 under nonce 7" in stopped.json()["stopped"]
    assert "--new-tenure" in stopped.json()["stopped"]
    assert 'mpcredit_ready{party="Bank A"} 0.0' in metrics


@pytest.fixture(scope="module")
def address(there: World) -> Iterator[str]:
    """The bank's server on a real port."""
    config = uvicorn.Config(there.bank.app, **there.bank.settings.uvicorn())
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "cannot listen"
        time.sleep(0.05)
    yield there.bank.settings.origin
    server.should_exit = True
    thread.join(20)


@pytest.mark.slow
def test_openapi__what_it_promises__holds(there: World, address: str) -> None:
    secret = token(there, *ALL)
    schema = schemathesis.openapi.from_url(f"{address}/api/openapi.json")
    checked = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def check(case: Any) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {secret}"}, excluded_checks=EXCLUDED)

        check()
        checked.append(f"{operation.method.upper()} {operation.path}")

    assert {"POST /api/applications", "GET /api/applications/{application_id}", "GET /api/audit"} <= set(checked)
