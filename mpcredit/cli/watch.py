"""mpcredit watch: the supervisor's watcher. It follows the ledger's events, checks every step, names liars, attests.

Where it stands is kept in the store as two positions: `seen`, the newest block whose events were read, and `processed`,
the newest block whose events were checked, printed and exported. After a restart it goes on behind `processed`. When
blocks were replaced it goes back to the newest processed block that is still there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mpcredit import events as ev
from mpcredit.cli._access import Station, refuse_beside_server, serve_inbox, station
from mpcredit.cli._events import event_document, event_id, inquiry_of, tell
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load, moment, require_role
from mpcredit.cli.answer import Rhythm, stoppable
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidFile, LedgerError, MpcreditError, StoreError
from mpcredit.events import Event
from mpcredit.supervisor import Finding

TRAIL = 256
"""Processed blocks that are remembered with their hashes; a deeper reorganisation prints everything again."""


class Cursor:
    """The two positions, in the store."""

    def __init__(self, at: Station) -> None:
        self._at = at

    @property
    def printed(self) -> int:
        """Number of the newest block whose events were printed, -1 if none were; it may have been replaced."""
        trail = self._at.store.get("cursor", "trail")
        return int(trail["blocks"][-1][0]) if trail and trail["blocks"] else -1

    def go_back(self) -> tuple[int, int]:
        """Find the newest processed block that is still on the ledger.

        Returns:
            Its number (-1: none), and the number up to which events had been printed before.
        """
        trail = self._at.store.get("cursor", "trail")
        blocks: list[list[Any]] = trail["blocks"] if trail else []
        printed = int(blocks[-1][0]) if blocks else -1
        while blocks:
            number, block_hash = int(blocks[-1][0]), blocks[-1][1]
            there = self._at.ledger.block(number)
            if there is not None and to_hex(there.hash) == block_hash:
                break
            blocks.pop()
        reached = int(blocks[-1][0]) if blocks else -1
        if reached != printed:
            self._at.store.put("cursor", "trail", {"blocks": blocks})
        return reached, printed

    def saw(self) -> tuple[int, bytes]:
        """Note how far events were read."""
        head = self._at.follower.head
        assert head is not None
        self._at.store.put("cursor", "seen", {"block": head.number, "hash": to_hex(head.hash)})
        return head.number, head.hash

    def processed(self, number: int, block_hash: bytes) -> None:
        """Note how far events were checked and printed."""
        trail = self._at.store.get("cursor", "trail")
        blocks = (trail["blocks"] if trail else [])[-TRAIL:]
        if not blocks or blocks[-1][0] != number:
            blocks.append([number, to_hex(block_hash)])
        with self._at.store.transaction():
            self._at.store.put("cursor", "trail", {"blocks": blocks})
            self._at.store.put("cursor", "processed", {"block": number, "hash": to_hex(block_hash)})


class Export:
    """A file of JSON lines, one for each event and finding; each is there once, whatever happens in between."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: set[str] = set()
        if path is not None and path.exists():
            try:
                for line in path.read_text(encoding="utf-8").splitlines():
                    try:
                        self._known.add(str(json.loads(line)["id"]))
                    except (ValueError, KeyError, TypeError):
                        continue  # the last line, if a crash cut it off; it is written again below it
            except OSError as error:
                raise self._unwritable(error) from error

    def write(self, values: list[dict[str, Any]]) -> None:
        """Append what is not there yet, and sync.

        Raises:
            InvalidFile: the file cannot be written.
        """
        new = [value for value in values if value["id"] not in self._known]
        if self._path is None or not new:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "r+", encoding="utf-8") as stream:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    stream.write("\n")
                stream.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in new)
                stream.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise self._unwritable(error) from error
        self._known.update(value["id"] for value in new)

    def _unwritable(self, error: OSError) -> InvalidFile:
        return InvalidFile(str(self._path), f"cannot be written: {error.strerror}", "see to path and permissions")


def watch(
    once: Annotated[bool, typer.Option("--once", metavar="", help="Do what is due now, then leave.")] = False,
    until_idle: Annotated[
        float | None,
        typer.Option("--until-idle", metavar="SECONDS", help="Leave after so long without work.", show_default=False),
    ] = None,
    no_attest: Annotated[
        bool, typer.Option("--no-attest", metavar="", help="Only watch: no audit, no verdict goes onto the ledger.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Append events and findings as JSON lines.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Watch the ledger as the supervisor: check every contribution and report, name who deviates, attest.

    Everything is rebuilt from events alone. No figure and no total is printed. It goes on where it was after a restart,
    and goes back when blocks were replaced.

    Example: mpcredit watch --config supervisor/mpcredit.toml --export watch.jsonl
    """
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    refuse_beside_server(settings, "watch")
    documents: list[dict[str, Any]] = []
    with stoppable() as stop:
        at = station(settings, full=True, attest=not no_attest)
        try:
            file = Export(export)
            rhythm = Rhythm(once, until_idle, stop)
            watcher = Watcher(at, out, file, documents.append)
            out.note(
                f"watching {at.ledger.name!r} on chain {at.ledger.realm.chain_id}, from block {watcher.reached + 1} on"
            )
            trouble = ""
            while True:
                progress = False
                try:
                    progress = watcher.round()
                    trouble = ""
                except (LedgerError, StoreError, MpcreditError) as error:
                    if once:
                        raise
                    if str(error) != trouble:
                        out.warn(f"held up: {error}")
                        trouble = str(error)
                if rhythm.over(progress):
                    break
        finally:
            at.store.close()
    out.document({"processed": watcher.reached, "lines": documents})


class Watcher:
    """One run of the watcher.

    Args:
        at: the supervisor's station.
        out: where lines are printed.
        export: where they are kept.
        keep: takes each line's document.
    """

    def __init__(self, at: Station, out: Output, export: Export, keep: Callable[[dict[str, Any]], None]) -> None:
        self._at = at
        self._out = out
        self._export = export
        self._keep = keep
        self._cursor = Cursor(at)
        self.reached = self._cursor.printed
        """Number of the newest processed block."""

    def round(self) -> bool:
        """Read, check, print, attest.

        Returns:
            Whether there was anything.
        """
        at = self._at
        assert at.supervisor is not None
        done = serve_inbox(at)
        # (1) how far the ledger goes now: seen.
        at.follower.sync()
        number, block_hash = self._cursor.saw()
        back, printed = self._cursor.go_back()
        if back != printed and printed >= 0:
            self._out.warn(
                f"blocks after {back} were replaced: what was printed of {back + 1} to {printed} and does not come again "
                "is void"
            )
        self.reached = back
        # (2) every inquiry, rebuilt from the events: checked, and attested where that is due.
        at.outbox.drive()
        before = len(at.supervisor.supervisor.findings)
        verdicts = at.supervisor.supervisor.step()
        findings = at.supervisor.supervisor.findings[before:]
        texts = {finding.text for finding in findings}
        # (3) what is new, in words; then it is processed.
        new = [event for event in at.follower.events if self.reached < event.at.block <= number]
        values = [self._event(event) for event in new]
        values += [value for finding in findings if (value := self._finding(finding, number))]
        done += [line for line in verdicts if line not in texts]
        for line in done:
            self._line(number, "", line, "done")
        self._export.write(values)
        with at.store.transaction():
            for value in values:
                if value["kind"] == "finding":
                    at.store.put("finding", value["id"], value)
            self._cursor.processed(number, block_hash)
        self.reached = number
        return bool(values or done)

    def _event(self, event: Event) -> dict[str, Any]:
        state = self._at.follower.state
        note = self._check(event)
        value = event_document(event, state, note)
        inquiry = inquiry_of(event)
        label = to_hex(inquiry)[:10] if inquiry is not None else ""
        style = "bold red" if note.startswith("FALSE") else ""
        self._line(
            event.at.block, label, tell(event, state) + (f"  [{note}]" if note else ""), style, event.at.timestamp
        )
        self._keep(value)
        return value

    def _check(self, event: Event) -> str:
        """What the check of an event said."""
        assert self._at.supervisor is not None
        inquiry = inquiry_of(event)
        known = self._at.supervisor.supervisor.verified.get(inquiry) if inquiry is not None else None
        if known is None:
            return ""
        member = (
            event.inquirer
            if isinstance(event, ev.Opened)
            else event.member
            if isinstance(event, ev.Contributed)
            else None
        )
        if member is not None:
            if member in known.records:
                return "recomputed from its disclosure"
            return "FALSE" if member in known.culprits else "could not be checked"
        if isinstance(event, ev.Reported):
            return "the totals are the sums" if known.totals is not None else "FALSE, or not checked"
        return ""

    def _finding(self, finding: Finding, number: int) -> dict[str, Any] | None:
        """A finding in words; None if an earlier run has told it: checks are made anew after each start."""
        state = self._at.follower.state
        names = [state.members[i].name if i in state.members else str(i) for i in finding.culprits]
        value = {
            "kind": "finding",
            "id": f"finding/{to_hex(finding.inquiry) if finding.inquiry else '-'}/{finding.text}",
            "block": number,
            "inquiry": to_hex(finding.inquiry) if finding.inquiry else None,
            "culprits": list(finding.culprits),
            "names": names,
            "text": finding.text,
        }
        if self._at.store.get("finding", str(value["id"])) is not None:
            return None
        label = to_hex(finding.inquiry)[:10] if finding.inquiry else ""
        self._line(
            number, label, f"FINDING: {finding.text}" + (f"; named: {', '.join(names)}" if names else ""), "bold red"
        )
        self._keep(value)
        return value

    def _line(self, block: int, label: str, text: str, style: str, timestamp: int | None = None) -> None:
        when = moment(timestamp)[:19] if timestamp else " " * 19
        self._out.say(f"{block:>8}  {when}  {label:<10}  {text}", {"done": "green"}.get(style, style))


__all__ = ["Cursor", "Export", "Watcher", "event_id", "watch"]
