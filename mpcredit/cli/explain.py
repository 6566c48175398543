"""mpcredit explain: what happened in an inquiry, whose move it is, since when, and what would help."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mpcredit.cli._access import View, view
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, duration, load, moment
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage
from mpcredit.events import Stage
from mpcredit.inquirer import Request
from mpcredit.state import Inquiry
from mpcredit.timeline import timeline

ADVICE = {
    "wanted": "it opens by itself as soon as that is over, while `mpcredit serve`, `answer` or `inquire --resume` runs",
    "opening": "the opening is on its way to the ledger; `mpcredit doctor` shows whether it is stuck",
}


def explain(
    inquiry: Annotated[
        str | None,
        typer.Argument(metavar="INQUIRY", help="Start of its id or of a request's, or last.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Also those that have ended.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Tell an inquiry from the ledger, or all that are open: what happened, whose move it is, and what would help.

    Example: mpcredit explain 0x3f9a
    """
    settings, out = load(config), Output(json)
    with view(settings) as read:
        requests = [Request(key, value) for key, value in read.store.items("request")]
        inquiries = list(read.follower.state.inquiries.values())
        told = _chosen(inquiry, requests, inquiries, everything)
        documents = [_tell(out, read, request, found) for request, found in told]
    if not told:
        out.say("No inquiry is open." if not everything else "There has been no inquiry yet.")
    out.document({"at": read.follower.now, "inquiries": documents})


Told = list[tuple[Request | None, Inquiry | None]]


def _chosen(text: str | None, requests: list[Request], inquiries: list[Inquiry], everything: bool) -> Told:
    mine = {request.inquiry: request for request in requests if request.inquiry is not None}
    known = {inquiry.id: inquiry for inquiry in inquiries}
    pairs: Told = [(mine.get(inquiry.id), inquiry) for inquiry in inquiries]
    pairs += [(request, None) for request in requests if request.inquiry is None or request.inquiry not in known]
    if text is None:
        return [pair for pair in pairs if everything or _is_open(*pair)]
    if text == "last":
        last = requests[-1:] if requests else []
        found: Told = [(r, known.get(r.inquiry) if r.inquiry else None) for r in last] or pairs[-1:]
    else:
        start = text.lower()
        found = [
            (request, inquiry)
            for request, inquiry in pairs
            if (request is not None and request.id.startswith(start))
            or (
                inquiry is not None and to_hex(inquiry.id).startswith(start if start.startswith("0x") else f"0x{start}")
            )
        ]
    if not found:
        raise InvalidMessage(f"there is no inquiry or request {text}", remedy="list them with `mpcredit explain --all`")
    return found


def _is_open(request: Request | None, inquiry: Inquiry | None) -> bool:
    if inquiry is not None:
        return inquiry.stage in (Stage.OPEN, Stage.COMPLETE, Stage.REPORTED)
    return request is not None and not request.state.final


def _tell(out: Output, read: View, request: Request | None, inquiry: Inquiry | None) -> dict[str, Any]:
    now = read.follower.now
    if inquiry is None:
        assert request is not None
        note = request.note or f"it is {request.state.value}"
        out.facts(
            f"Request {request.id}: {request.state.value}",
            [
                ("asked by", f"{request.value['officer']} at {moment(int(request.value['requested_at']))}"),
                ("not open, because", note),
                ("what helps", ADVICE.get(request.state.value, "")),
            ],
        )
        return {"request": request.id, "inquiry": None, "state": request.state.value, "note": note, "entries": []}
    story = timeline(inquiry, now=now)
    title = f"Inquiry {to_hex(inquiry.id)[:14]}…: {story.stage.name.lower()}"
    if request is not None:
        title += f"   (request {request.id} of {request.value['officer']})"
    out.table(
        title,
        ["time", "block", "who", "what"],
        [(moment(entry.timestamp), entry.block, entry.who, entry.what) for entry in story.entries],
        right=["block"],
    )
    rows: list[tuple[str, object]] = []
    if story.turn:
        rows.append(("whose move", f"{story.turn}, since {duration(now - story.since)}"))
    rows.append(("what helps", story.advice))
    if request is not None and request.note:
        rows.append(("note", request.note))
    out.facts("", rows)
    out.say()
    return {
        "request": request.id if request else None,
        "inquiry": to_hex(inquiry.id),
        "state": story.stage.name.lower(),
        "entries": [vars(entry) for entry in story.entries],
        "turn": story.turn,
        "since": story.since,
        "advice": story.advice,
        "note": request.note if request else "",
    }
