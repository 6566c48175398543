"""Logs of the two contracts as the typed events of `mpcredit.events`. Reading them from a node is `client`'s work.

Whatever a member can put into an event must come out of here as a value: one bad log that raised would stop every
reader. Text that is not UTF-8 is therefore read with replacement characters, and a currency that is not ASCII with
question marks (its inquiry then fails the check of its id). A log that the ABI does not describe is the node's or the
version's fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from mpcredit import events
from mpcredit.chain.artifacts import Artifact, abi_type, load
from mpcredit.encoding import abi_decode, to_hex
from mpcredit.errors import InvalidEncoding, LedgerError
from mpcredit.events import Change, Event, Opening, Parameters, Position

__all__ = ["EVENT_CLASSES", "Log", "decode_log"]

EVENT_CLASSES: dict[str, type[Event]] = {
    **{
        name: getattr(events, name)
        for name in events.__all__
        if isinstance(getattr(events, name), type) and issubclass(getattr(events, name), Event)
    },
    "Refused": events.Refusal,  # `errors.Refused` has the name already
}
del EVENT_CLASSES["Event"], EVENT_CLASSES["Refusal"]


@dataclass(frozen=True)
class Log:
    """A log as the node gave it, and where it stands."""

    at: Position
    topics: tuple[bytes, ...]
    data: bytes


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _opening(values: tuple[Any, ...]) -> Opening:
    fields = dict(zip(Opening.__dataclass_fields__, values, strict=True))
    letters = bytes(byte if byte < 0x80 else ord("?") for byte in fields["currency"])
    return Opening(**{**fields, "currency": letters.decode("ascii"), "consents": tuple(fields["consents"])})


def _field(name: str, value: Any) -> Any:
    """Turn a decoded value into what the event's dataclass holds."""
    if name == "kind":
        return Change(value)
    if name == "parameters":
        return Parameters(*value)
    if name == "opening":
        return _opening(value)
    if name == "calls":
        return tuple(value)
    return value


@cache
def _topics(artifact_name: str) -> dict[bytes, Mapping[str, Any]]:
    return load(artifact_name).topics()


def decode_log(artifact: Artifact, log: Log) -> Event:
    """Decode a log of a contract.

    Raises:
        LedgerError: the contract has no such event.
    """
    try:
        entry = _topics(artifact.name)[log.topics[0]]
        topics = iter(log.topics[1:])
        plain = [given for given in entry["inputs"] if not given["indexed"]]
        data = iter(abi_decode([abi_type(given) for given in plain], log.data))
        values = [
            abi_decode([abi_type(given)], next(topics))[0] if given["indexed"] else next(data)
            for given in entry["inputs"]
        ]
        names = [_snake(given["name"]) for given in entry["inputs"]]
        fields = {name: _field(name, value) for name, value in zip(names, values, strict=True)}
        return EVENT_CLASSES[entry["name"]](at=log.at, **fields)
    except (InvalidEncoding, LookupError, ValueError, StopIteration) as error:
        raise LedgerError(
            f"log {log.at.log_index} of block {log.at.block} ({artifact.name} {log.at.contract}, "
            f"transaction {to_hex(log.at.transaction)}) is not an event that this version of mpcredit knows",
            remedy="ask the consortium which version its contracts need and install that; if it is this one, "
            "compare the log with that of another node",
        ) from error
