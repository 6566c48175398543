"""The mark of a store: a small file outside the database, in a folder that backups leave out (R25).

A database that was set back to a copy has forgotten answers that others may have. The mark was written after them, so it does
not fit the copy, and the service answers nothing. A backup of the mark would hide that.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import MpcreditError, StoreError
from mpcredit.tenure import Mark

__all__ = ["FileMark"]


class FileMark:
    """Implements `tenure.Marks` in one file, readable by its owner only.

    Args:
        path: of the file; its folder must be on a disk that keeps files over a restart, and in no backup.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Mark | None:
        """The mark that was written last; None if there is none.

        Raises:
            StoreError: the file cannot be read, or is no mark.
        """
        try:
            value = json.loads(self.path.read_text(encoding="utf-8"))
            answer = value["answer"]
            named = (hex_bytes(answer[0], 32), hex_bytes(answer[1], 32)) if answer is not None else None
            return Mark(hex_bytes(value["tenure"], 32), named)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be read: {error.strerror}", remedy="see to its permissions"
            ) from error
        except (ValueError, KeyError, TypeError, IndexError, MpcreditError) as error:
            raise StoreError(
                f"{self.path}: is no mark of a store", remedy="begin a new tenure: `--new-tenure REASON`"
            ) from error

    def write(self, mark: Mark) -> None:
        """Replace the mark, and return when it has reached the disk.

        Raises:
            StoreError: it cannot be written.
        """
        answer = [to_hex(part) for part in mark.answer] if mark.answer is not None else None
        text = json.dumps({"tenure": to_hex(mark.tenure), "answer": answer}) + "\n"
        temporary = self.path.with_name(self.path.name + ".tmp")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be written: {error.strerror}", remedy="see to disk space and permissions"
            ) from error


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot; the rename itself is there
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
