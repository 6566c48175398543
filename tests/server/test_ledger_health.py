"""What the administrator and the monitoring see of the ledger's endpoints and of steps that wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from web_world import World, world

ALARM = "step answer/0x12/1 waits: the ceiling is reached (wait until fees fall)"
ENDPOINTS = (
    {"name": "http://one:8545", "state": "unfit", "trouble": "does not answer in time", "block": None},
    {"name": "https://two.example", "state": "in use", "trouble": "", "block": 7},
)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Its bank's ledger is in bad weather."""
    place: Path = tmp_path_factory.mktemp("health")
    with world(place) as made:
        node = made.bank.node
        node._status = replace(node.status(), endpoints=ENDPOINTS, alarms=(ALARM,), pending_steps=3)
        yield made


def test_page__shows_each_endpoint_and_what_a_person_must_look_at(there: World) -> None:
    page = there.bank.sign_in("administrator").get("/health").text

    for text in ("http://one:8545", "unfit", "does not answer in time", "https://two.example", "in use", ALARM):
        assert text in page


def test_page__in_chinese__is_translated(there: World) -> None:
    client = there.bank.sign_in("administrator")
    client.post("/language", data={"language": "zh-CN"})
    page = client.get("/health").text
    client.post("/language", data={"language": "en"})

    for text in ("账本端点", "不可用", "未及时应答", "使用中", "步骤 answer/0x12/1 在等待"):
        assert text in page


def test_metrics__count_alarms_and_name_states(there: World) -> None:
    metrics = there.bank.sign_in("administrator").get("/metrics").text

    assert 'mpcredit_step_alarms{party="Bank A"} 1.0' in metrics
    assert 'mpcredit_endpoint{endpoint="1 http://one:8545",party="Bank A",state="unfit"} 1.0' in metrics
    assert 'mpcredit_endpoint{endpoint="2 https://two.example",party="Bank A",state="in use"} 1.0' in metrics


def test_one_endpoint__the_page_does_not_list_it(there: World) -> None:
    node = there.supervisor.node
    node.round()

    assert len(node.status().endpoints) == 1
    assert "Endpoints of the ledger" not in there.supervisor.sign_in("administrator").get("/health").text
