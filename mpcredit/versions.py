"""Versions of the messages between members, what each release reads, and how members tell each other (docs/adr/0019).

Version 2 reads version 2 alone. Each later release reads the messages of its own version and of the one before, and
writes either: so two neighbouring releases work in one consortium. A member says what it reads on the ledger, in the
clear, through `sealMaskKeys`; a member without an announcement reads version 2. An inquirer writes the highest version
that every member of the cohort reads.

    mpcredit/versions/2 || canonical JSON {"format", "version", "package", "lowest", "highest"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mpcredit.encoding import canonical_json, parse_canonical_json
from mpcredit.errors import InvalidEncoding, InvalidMessage

__all__ = ["FIRST", "THIS_RELEASE", "Release", "agreed_version", "is_announcement", "read_announcement"]

_LABEL: Final = b"mpcredit/versions/2"
_FORMAT: Final = "mpcredit/announcement"
_VERSION: Final = 2
_SMALLEST: Final = 2
_LARGEST: Final = 255
"""A version is one byte where it stands before bytes."""
_LONGEST: Final = 1_024


@dataclass(frozen=True)
class Release:
    """What one release of this package reads and writes."""

    package: str
    """Its version, for people; empty where a member has not said it."""
    lowest: int
    """The oldest version of messages that it reads and writes."""
    highest: int
    """The newest."""

    def __post_init__(self) -> None:
        if not isinstance(self.package, str) or len(self.package) > 64 or not self.package.isprintable():
            raise InvalidEncoding("the package version of an announcement is up to 64 printable characters")
        for value in (self.lowest, self.highest):
            if isinstance(value, bool) or not isinstance(value, int) or not _SMALLEST <= value <= _LARGEST:
                raise InvalidEncoding(f"a version of messages is an integer from {_SMALLEST} to {_LARGEST}")
        if self.lowest > self.highest:
            raise InvalidEncoding("a release reads from its lowest version to its highest")

    @property
    def versions(self) -> range:
        """All that it reads and writes."""
        return range(self.lowest, self.highest + 1)

    @property
    def reads(self) -> str:
        """In words."""
        return f"{self.lowest}" if self.lowest == self.highest else f"{self.lowest} to {self.highest}"

    def announcement(self) -> bytes:
        """The bytes that tell it to the others."""
        return _LABEL + canonical_json(
            {
                "format": _FORMAT,
                "highest": self.highest,
                "lowest": self.lowest,
                "package": self.package,
                "version": _VERSION,
            }
        )


FIRST: Final = Release("", _SMALLEST, _SMALLEST)
"""Of a member without an announcement."""
THIS_RELEASE: Final = Release("0.1.0", 2, 2)
"""What this package reads and writes. The next release that changes a message reads 2 to 3, the one after it 3 to 4."""


def is_announcement(data: bytes) -> bool:
    """Whether these bytes, which a member put on the ledger, are an announcement and not sealed mask keys."""
    return data.startswith(_LABEL)


def read_announcement(data: bytes) -> Release:
    """Read what `Release.announcement` writes.

    Raises:
        InvalidEncoding: it is something else.
    """
    if not is_announcement(data) or len(data) > _LONGEST:
        raise InvalidEncoding("not an announcement of a release")
    value = parse_canonical_json(data[len(_LABEL) :])
    if not isinstance(value, dict) or set(value) != {"format", "highest", "lowest", "package", "version"}:
        raise InvalidEncoding("an announcement with missing or unknown members")
    if value["format"] != _FORMAT or type(value["version"]) is not int or value["version"] != _VERSION:
        raise InvalidEncoding("not an announcement of version 2")
    return Release(value["package"], value["lowest"], value["highest"])


def agreed_version(own: Release, others: Mapping[str, Release]) -> int:
    """The highest version that all of a cohort read.

    Args:
        own: of who writes.
        others: by the member's name.

    Raises:
        InvalidMessage: there is none; names who must upgrade.
    """
    common = set(own.versions).intersection(*(release.versions for release in others.values()))
    if common:
        return max(common)
    newest = max([own.highest, *(release.highest for release in others.values())])
    everybody = {"this institution": own, **others}
    behind = [name for name, release in everybody.items() if newest - 1 not in release.versions]
    told = ", ".join(f"{name} reads {release.reads}" for name, release in everybody.items() if name in behind)
    raise InvalidMessage(
        f"no version of messages is read by the whole cohort: {told}; others are at {newest}",
        remedy=f"{_names(behind)} must install a release that reads version {newest - 1}; nothing was sent",
    )


def _names(names: Iterable[str]) -> str:
    return " and ".join(names)
