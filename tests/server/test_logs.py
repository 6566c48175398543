"""The server's log: one JSON object a line, and no secret in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from mpcredit.server.logs import configure_logging, get_logger


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    level, found = root.level, io.StringIO()
    configure_logging("debug", stream=found)
    yield found
    for handler in list(root.handlers):
        if getattr(handler, "_mpcredit", False):
            root.removeHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_log__both_kinds__are_json_lines(stream: io.StringIO) -> None:
    configure_logging("info", stream=stream)  # twice: nothing is logged twice
    get_logger().info("inquiry opened", inquiry="0x01", line="two\nlines")
    logging.getLogger("mpcredit").warning("step %s was not taken", "open/1", extra={"attempt": 2})
    get_logger().debug("not at this level")

    first, second = _lines(stream)
    assert (first["event"], first["inquiry"], first["level"]) == ("inquiry opened", "0x01", "info")
    assert (second["event"], second["attempt"], second["logger"]) == ("step open/1 was not taken", 2, "mpcredit")
    assert first["at"].endswith("Z")


def test_log__secrets__are_hidden(stream: io.StringIO) -> None:
    get_logger().info(
        "x hunter2-is-not-known-as-a-secret",
        password="S3CRET",
        details={"Authorization": "Bearer S3CRET", "nested": [{"api_key": "S3CRET"}]},
        cookie="S3CRET",
        text="Bearer S3CRETS3CRET, mpc_S3CRETS3CRET and postgresql://bank:S3CRET@db/x",
        path="/sign-in/S3CRETS3CRET?token=S3CRETS3CRET",
        raw=b"S3CRET",
        user="anna",
    )
    try:
        raise ValueError("cannot connect to postgresql+psycopg://bank:S3CRET@db/x")
    except ValueError:
        logging.getLogger("x").exception("it failed")

    assert "S3CRET" not in stream.getvalue()
    first, second = _lines(stream)
    assert first["user"] == "anna"
    assert first["text"].endswith("postgresql://bank:[hidden]@db/x")
    assert "ValueError" in second["exception"]
