"""The server's log: one JSON object a line on standard error, for people and for the bank's log collector.

Secrets never reach it: fields whose names promise a secret are hidden, and so are tokens and passwords inside of text.
What identifies a customer is not logged at all; that is left to the callers, which log ids and stages.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

__all__ = ["HIDDEN", "configure_logging", "get_logger", "hide"]

HIDDEN: Final = "[hidden]"
_NAMES: Final = re.compile(
    r"pass(word|phrase|wd)?$|secret|token|cookie|authori[sz]ation|credential|private|api_?key|(^|_)(seed|salt|key|pin)$",
    re.IGNORECASE,
)
_TEXT: Final = (
    (re.compile(r"\bmpc_[A-Za-z0-9_-]{8,}"), HIDDEN),  # API tokens
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),  # URLs with a password
    (re.compile(r"(?i)(/sign-in/|[?&](?:token|code|state)=)[A-Za-z0-9._~%-]{6,}"), rf"\1{HIDDEN}"),
)
_DEPTH: Final = 8


def hide(value: Any, depth: int = 0) -> Any:
    """Replace what looks like a secret, at any depth."""
    if depth > _DEPTH:
        return "…"
    if isinstance(value, str):
        for pattern, replacement in _TEXT:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if isinstance(name, str) and _NAMES.search(name) else hide(part, depth + 1)
            for name, part in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [hide(part, depth + 1) for part in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return value


def _hide(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return cast("EventDict", hide(dict(event)))


def configure_logging(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logging to `stream` (default: standard error) as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,  # before hiding, so that the text of errors is looked at too
                _hide,
                structlog.processors.JSONRenderer(sort_keys=True, ensure_ascii=False, default=repr),
            ],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        if getattr(old, "_mpcredit", False):
            root.removeHandler(old)
    handler._mpcredit = True  # type: ignore[attr-defined]  # marks our own, so that configuring twice does not log twice
    root.addHandler(handler)
    root.setLevel(level.upper())
    for noisy in ("urllib3", "web3", "asyncio", "httpx", "httpcore", "alembic"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def get_logger(name: str = "mpcredit.server") -> structlog.stdlib.BoundLogger:
    """A logger that takes facts as named arguments."""
    found: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return found
