"""What holds for all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from softhsm import SoftHsm, why_missing


def _reset_package_log() -> None:
    logger = logging.getLogger("mpcredit")
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    for handler in [handler for handler in logger.handlers if handler.get_name() == "mpcredit-cli"]:
        logger.removeHandler(handler)


SLOW_FILES = (
    "server/test_up.py",
    "server/test_certify.py",
    "server/test_browser.py",
    "server/test_oidc.py",
    "model/test_model.py",
    "flows/test_processes.py",
    "flows/test_restart.py",
    "flows/test_window.py",
    "cli/test_governance.py",
    "cli/test_kept_elsewhere.py",
    "cli/test_newcomer.py",
    "cli/test_services.py",
)
"""Files are shared out among the workers in this order: one long file at the end would leave the other workers idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    rank = {name: number for number, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: rank.get("/".join(item.path.parts[-2:]), len(rank)))


@pytest.fixture(autouse=True)
def package_log() -> Iterator[None]:
    """Commands that run in this process send the package's log to standard error; every test starts without that."""
    _reset_package_log()
    yield
    _reset_package_log()


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """Tokens in software; tests that need one say so where there is none."""
    missing = why_missing()
    if missing:
        pytest.skip(missing)
    made = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(made.config))
        yield made
