"""mpcredit inquire: ask for the totals of one or many customers, and wait for them."""

from __future__ import annotations

import getpass
import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from mpcredit.cli._access import PAUSE, Access, access, refuse_beside_server, request_item
from mpcredit.cli._parties import own_member
from mpcredit.cli._results import decide_all, find_request, result_document, show_decision, show_result, waiting_for
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, duration, load, require_role
from mpcredit.cli._subjects import collect_subjects, grant, hash_file, match_consents, read_consents, recipient
from mpcredit.cli.consent import EvidenceOption, FileOption, SubjectOption
from mpcredit.config import Config
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage, LedgerError, MpcreditError, NotYet
from mpcredit.events import Stage
from mpcredit.inquirer import Request, RequestState


def inquire(
    subject: SubjectOption = None,
    file: FileOption = None,
    consent: Annotated[
        list[Path] | None,
        typer.Option(
            "--consent", metavar="FILE|DIR", help="Receipts of the subjects; may be repeated.", show_default=False
        ),
    ] = None,
    grant_days: Annotated[
        int | None,
        typer.Option(
            "--grant-days",
            metavar="N",
            help="Write receipts now, for N days: the customer has consented.",
            show_default=False,
        ),
    ] = None,
    purpose: Annotated[
        str, typer.Option("--purpose", metavar="CODE", help="For --grant-days: the purpose code.")
    ] = "new_credit",
    evidence_file: EvidenceOption = None,
    officer: Annotated[
        str | None,
        typer.Option(
            "--officer", metavar="NAME", help="Who asks; stays here. By default the login name.", show_default=False
        ),
    ] = None,
    group: Annotated[int, typer.Option("--group", metavar="N", help="Over which group of members; 0: all.")] = 0,
    schema: Annotated[int, typer.Option("--schema", metavar="N", help="Which figures.")] = 1,
    amount: Annotated[
        str | None,
        typer.Option(
            "--amount",
            metavar="AMOUNT",
            help="What the customer asks for: decide by the credit policy as well.",
            show_default=False,
        ),
    ] = None,
    currency: Annotated[
        str | None,
        typer.Option(
            "--currency", metavar="CODE", help="Of --amount; by default that of the totals.", show_default=False
        ),
    ] = None,
    income: Annotated[
        str | None, typer.Option("--income", metavar="AMOUNT", help="Monthly net income.", show_default=False)
    ] = None,
    months: Annotated[
        int | None, typer.Option("--months", metavar="N", help="Term of the loan.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait.")] = 600.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", metavar="", help="Leave when the request is stored.")] = False,
    provisional: Annotated[
        bool, typer.Option("--provisional", metavar="", help="Do not wait for the supervisor once the totals are open.")
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="ID|last", help="Wait for an earlier request instead.", show_default=False),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="INQUIRY",
            help="Report an inquiry of your own by hand instead: where the service could not, because its key came back later.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Ask for a customer's totals over all ready institutions, and wait for them with a display of who is missing.

    Each subject needs a consent for one purpose. While the service (`mpcredit answer`) runs it does the work, and this
    command watches; else this command does all that is due itself. Stopping it loses nothing: --resume goes on.

    Example: mpcredit inquire -s national_id:TW:A123456789 --consent consent.json --amount 200000
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    refuse_beside_server(settings, "inquire")
    if report is not None:
        if subject or file or resume is not None:
            raise InvalidMessage("a report and something else at once", remedy="give --report alone")
        _report(settings, out, report)
        return
    if resume is not None and (subject or file):
        raise InvalidMessage("an earlier request and new subjects at once", remedy="give --resume alone, or subjects")
    if resume is None:
        subjects, labels = collect_subjects(subject or [], file)
        if bool(consent) == (grant_days is not None):
            raise InvalidMessage(
                "no consent is given", remedy="give --consent FILE for each subject, or --grant-days N --purpose CODE"
            )
        receipts = read_consents(consent or [])
        document = hash_file(evidence_file)
    with access(settings, full=True) as party:
        if resume is None:
            to = recipient(party)
            now = min(int(time.time()), party.follower.now)
            if grant_days is not None:
                receipts = [
                    grant(one, to, purpose=purpose, days=grant_days, evidence=document, now=now) for one in subjects
                ]
            chosen = match_consents(subjects, labels, receipts, to, party.follower.now)
            answer = party.submit(request_item(labels, chosen, officer=officer or _login(), group=group, schema=schema))
            identifier = str(answer["request"])
        else:
            identifier = find_request(party, resume).id
        if no_wait:
            request = find_request(party, identifier)
            out.say(
                f"Request {request.id} is {request.state.value}. Wait for it: mpcredit inquire --resume {request.id}"
            )
            if party.own:
                out.say(
                    "No service is running here: start `mpcredit answer`, or wait with --resume, so that it goes on."
                )
            out.document({"request": request.id, "state": request.state.value, "note": request.note})
            return
        try:
            request = _wait(out, party, identifier, timeout, attested=not provisional)
        except KeyboardInterrupt:
            out.note(f"stopped; nothing is lost: mpcredit inquire --resume {identifier}")
            raise
        show_result(out, party, request)
        result = result_document(party, request)
        if amount is not None:
            decisions = decide_all(
                party, request, settings.policy, amount=amount, currency=currency, income=income, months=months
            )
            for exposure, decision, value in decisions:
                party.submit(
                    {"kind": "decision", "key": f"{request.id}/{time.time_ns()}-{secrets.token_hex(2)}", "value": value}
                )
                show_decision(out, exposure, decision)
            result["decisions"] = [value for _, _, value in decisions]
    out.document(result)


def _report(settings: Config, out: Output, text: str) -> None:
    """Report the inquiry whose id begins so.

    Raises:
        InvalidMessage: none or several of this institution's inquiries that are complete begin so.
    """
    with access(settings, full=True) as party:
        own = own_member(party).index
        waiting = [
            to_hex(inquiry.id)
            for inquiry in party.follower.state.inquiries.values()
            if inquiry.inquirer == own and inquiry.stage is Stage.COMPLETE
        ]
        found = [q for q in waiting if q.startswith(text.lower())]
        if len(found) != 1:
            raise InvalidMessage(
                f"{len(found) or 'no'} inquiries of yours begin with {text} and wait for their report",
                remedy=f"those that wait: {', '.join(q[:14] for q in waiting) or 'none'}",
            )
        row = party.settle(str(party.submit({"kind": "report", "inquiry": found[0]})["step"]))
    out.say(f"Reported inquiry {found[0][:14]}… in block {row.block}, {row.gas_used} gas")
    out.document({"inquiry": found[0], "block": row.block, "gas_used": row.gas_used})


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _wait(out: Output, party: Access, identifier: str, timeout: float, *, attested: bool) -> Request:
    """Work on the request, or watch the service do so, until its totals are there.

    Raises:
        NotYet: the time is over; the message says what it waits for.
        MpcreditError: it ended without totals.
    """
    started = time.monotonic()
    down = False
    with out.progress() as progress:
        while True:
            try:
                done = party.work()
                if down:
                    progress.line("the ledger is back")
                down = False
            except LedgerError as error:
                if not down:
                    progress.line(f"waiting for the ledger: {error}")
                down, done = True, []
            for line in done:
                progress.line(line)
            request = find_request(party, identifier)
            if request.state is RequestState.ATTESTED:
                return request
            if request.state.final:
                raise MpcreditError(
                    f"the inquiry ended without totals that count: {request.note}",
                    remedy=f"see `mpcredit explain {request.id}`",
                )
            open_ = request.state is RequestState.REPORTED and request.totals is not None
            if open_ and not attested:
                return request
            waited = time.monotonic() - started
            if waited >= timeout:
                if open_:
                    out.warn("the supervisor has not attested the totals yet: they are provisional")
                    return request
                raise NotYet(
                    f"no totals within {duration(int(timeout))}: {waiting_for(party, request)}",
                    remedy=f"nothing is lost: mpcredit inquire --resume {request.id}, or see mpcredit explain {request.id}",
                )
            progress.tell(waiting_for(party, request), duration(int(waited)))
            if not done:
                time.sleep(PAUSE)
