"""What holds for all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


def _reset_package_log() -> None:
    logger = logging.getLogger("mpcredit")
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    for handler in [handler for handler in logger.handlers if handler.get_name() == "mpcredit-cli"]:
        logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def package_log() -> Iterator[None]:
    """Commands that run in this process send the package's log to standard error; every test starts without that."""
    _reset_package_log()
    yield
    _reset_package_log()
