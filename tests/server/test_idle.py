"""What keeps a session from being idle: a person's requests, and not what an open page asks by itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from asgi import LocalClient
from clock import Clock
from fastapi import Depends, FastAPI

from mpcredit.server.people import People, User
from mpcredit.server.routes.events import _changes
from mpcredit.server.security import EVENTS, UNATTENDED_HEADER, current_user, install
from mpcredit.server.settings import ServerSettings

SETTINGS = ServerSettings()


@pytest.fixture
def client(people: People) -> LocalClient:
    """Anna's browser."""
    app = FastAPI()
    install(app, SETTINGS, people)

    @app.get("/applications")
    @app.get(EVENTS)
    def page(user: Annotated[User, Depends(current_user)]) -> str:
        return user.name

    anna = people.create("anna", "Anna", ["officer"], by=None, why="test")
    made = LocalClient(app, base_url=SETTINGS.origin)
    made.cookies.set(SETTINGS.cookie_name, people.start_session(anna, method="password"))
    return made


@pytest.mark.parametrize(
    ("path", "headers", "stays"),
    [
        ("/applications", {}, True),  # a click
        ("/applications", {"HX-Request": "true"}, True),  # a click that htmx sends
        ("/applications", {UNATTENDED_HEADER: "1"}, False),  # what mpcredit.js marks
        (EVENTS, {}, False),  # the stream, which cannot be marked
    ],
)
def test_session__idle_limit__only_a_person_moves_it(
    client: LocalClient, clock: Clock, path: str, headers: dict[str, str], stays: bool
) -> None:
    for _ in range(2):  # 20 minutes: within the limit of 30
        clock.now += 10 * 60
        assert client.get(path, headers=headers).status_code == 200
    clock.now += 15 * 60

    assert client.get(path, headers=headers).status_code == (200 if stays else 401)


def test_session__unattended__still_ends_a_click_in_time(client: LocalClient, clock: Clock) -> None:
    clock.now += 29 * 60
    assert client.get("/applications", headers={UNATTENDED_HEADER: "1"}).status_code == 200
    assert client.get("/applications").status_code == 200  # the person is back
    clock.now += 29 * 60
    assert client.get("/applications", headers={UNATTENDED_HEADER: "1"}).status_code == 200


class Quiet:
    """Changes of a node where nothing happens."""

    async def __aenter__(self) -> Quiet:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def __aiter__(self) -> Quiet:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(3600)


def test_events__session_is_over__stream_says_so_and_ends(
    people: People, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcredit.server.routes.events.CHECK_SECONDS", 0.01)
    anna = people.create("anna", "Anna", ["officer"], by=None, why="test")
    token = people.start_session(anna, method="password")
    the: Any = SimpleNamespace(settings=SETTINGS, people=people, node=SimpleNamespace(subscribe=lambda _kinds: Quiet()))
    request: Any = SimpleNamespace(cookies={SETTINGS.cookie_name: token})

    async def read() -> list[str | None]:
        told = []
        async for event in _changes(request, the, anna):
            told.append(event.event)
            clock.now += 31 * 60
        return told

    assert asyncio.run(asyncio.wait_for(read(), 20)) == ["hello", "ended"]
