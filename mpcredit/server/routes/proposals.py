"""Changes of the consortium: what each would do, whether its code is what its sources give, and the supervisor's approval."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Path, Request, UploadFile
from fastapi.responses import Response

from mpcredit.chain.artifacts import compiler
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidMessage, MpcreditError
from mpcredit.institution import SupervisorNode
from mpcredit.server import oversight
from mpcredit.server.applications import NotAllowed, NotFound
from mpcredit.server.contractcode import Shelf, compare, read_upload
from mpcredit.server.looks import SHORTEST_REASON
from mpcredit.server.people import User
from mpcredit.server.routes.supervision import Supervisor, locked_node
from mpcredit.server.web import go, page, parts

router = APIRouter(include_in_schema=False)

Number = Annotated[int, Path(ge=1, lt=2**63)]
CallsHash = Annotated[str, Form(pattern="^0x[0-9a-f]{64}$")]
Reason = Annotated[str, Form(max_length=1000)]


NO_SOURCE_REMEDY = (
    "get the sources from who proposed it and upload them on its page, or install that release; the members should not vote "
    "for code that nobody can rebuild"
)


def shelf_of(request: Request) -> Shelf:
    """The sources whose code is known here."""
    found = request.app.state.shelf
    assert isinstance(found, Shelf)
    return found


def _find(node: SupervisorNode, number: int) -> dict[str, Any]:
    if number not in node.supervisor.state.proposals:
        raise NotFound(f"there is no proposal {number}", remedy="look for it in the list")
    return oversight.proposal(node, number)


def code_facts(shelf: Shelf, code_hash: bytes, in_force: bytes | None) -> dict[str, Any]:
    """What is known of a code that is proposed, beside the code in force."""
    kept = shelf.get(code_hash)
    old = shelf.get(in_force) if in_force is not None else None
    diff = compare(old.bundle.sources, kept.bundle.sources) if kept is not None and old is not None else None
    return {
        "hash": to_hex(code_hash),
        "packaged": code_hash == shelf.packaged_hash,
        "kept": kept,
        "rebuilt": kept is not None and kept.state == "rebuilt",
        "known": kept is not None or code_hash == shelf.packaged_hash,
        "same": code_hash == in_force,
        "old": old,
        "diff": diff,
        "settings_differ": kept is not None and old is not None and kept.bundle.settings != old.bundle.settings,
    }


def proposal_page(
    request: Request, template: str, facts: dict[str, Any], in_force: bytes | None, *, problem: str, **more: Any
) -> Response:
    """A proposal with its code compared; `in_force` is the hash of the code on which inquiries open now."""
    shelf = shelf_of(request)
    return page(
        request,
        template,
        status_code=422 if problem else 200,
        facts=facts,
        codes=[code_facts(shelf, code_hash, in_force) for code_hash in facts["codes"]],
        in_force=to_hex(in_force) if in_force is not None else "",
        packaged=to_hex(shelf.packaged_hash),
        version=compiler("JointCredit")[0],
        has_compiler=shelf.solc is not None,
        problem=problem,
        **more,
    )


def _show(request: Request, number: int, *, problem: str = "", remedy: str = "", reason: str = "") -> Response:
    with locked_node(request) as node:
        facts = _find(node, number)
        in_force = node.supervisor.state.joint_credit_code
        now = node.follower.next_time
    return proposal_page(
        request, "proposal.html", facts, in_force, ledger_now=now, problem=problem, remedy=remedy, reason=reason
    )


@router.get("/supervision/proposals")
def proposals(request: Request, user: Supervisor) -> Response:
    """Changes of the consortium, the supervisor's approval awaited or given."""
    with locked_node(request) as node:
        rows = oversight.proposals(node)
    return page(request, "proposals.html", proposals=rows)


@router.get("/supervision/proposals/{number}")
def proposal(request: Request, user: Supervisor, number: Number) -> Response:
    """One proposal: its calls in words, votes, delay, and the proposed code compared with its sources."""
    return _show(request, number)


@router.post("/supervision/proposals/{number}/approve")
def approve(request: Request, user: Supervisor, number: Number, calls_hash: CallsHash, reason: Reason = "") -> Response:
    """Approve what was read. Code that nothing at hand gives is not approved here."""
    return _order(request, user, number, calls_hash, reason.strip(), given=True)


@router.post("/supervision/proposals/{number}/withdraw")
def withdraw(
    request: Request, user: Supervisor, number: Number, calls_hash: CallsHash, reason: Reason = ""
) -> Response:
    """Take the approval back."""
    return _order(request, user, number, calls_hash, reason.strip(), given=False)


def _order(request: Request, user: Supervisor, number: int, calls_hash: str, reason: str, *, given: bool) -> Response:
    if len(reason) < SHORTEST_REASON:
        return _show(request, number, problem="Write what you have checked, and why.", reason=reason)
    the, shelf = parts(request), shelf_of(request)
    with locked_node(request) as node:
        facts = _find(node, number)
        # (1) what was read is what is on the ledger now.
        if facts["calls_hash"] != calls_hash or not facts["honest"]:
            raise NotAllowed(
                f"proposal {number} is not the one that was shown", remedy="open its page again and read its calls"
            )
        if facts["state"] != "open":
            raise NotAllowed(f"proposal {number} is over", remedy="it has to be proposed again")
        # (2) its code is known here.
        unknown = [to_hex(code) for code in facts["codes"] if code != shelf.packaged_hash and shelf.get(code) is None]
        if given and unknown:
            raise NotAllowed(
                f"no source at hand compiles to the code {unknown[0]} that this proposal approves",
                remedy=NO_SOURCE_REMEDY,
            )
        # (3) the audit entry and the order together; the node sends it until it is on the ledger.
        with the.audit.database.transaction():
            the.audit.append(
                user.actor,
                "proposal.approved" if given else "proposal.approval_withdrawn",
                f"proposal/{number}",
                reason,
                calls_hash=calls_hash,
                codes=[to_hex(code) for code in facts["codes"]],
            )
            node.supervisor.order_approval(number, hex_bytes(calls_hash, 32), given=given)
    the.node.wake()
    return go(f"/supervision/proposals/{number}", "approval_ordered" if given else "withdrawal_ordered")


@router.post("/supervision/proposals/{number}/build")
def build(
    request: Request, user: Supervisor, number: Number, sources: Annotated[UploadFile | None, File()] = None
) -> Response:
    """Rebuild the proposed code from uploaded sources, or from those of the installed package, and compare."""
    with locked_node(request) as node:
        facts = _find(node, number)
        in_force = node.supervisor.state.joint_credit_code
    wanted = [*facts["codes"], *([in_force] if in_force is not None else [])]
    try:
        rebuilt(request, user, wanted, sources)
    except MpcreditError as error:
        return _show(request, number, problem=error.message, remedy=error.remedy or "")
    return go(f"/supervision/proposals/{number}", "rebuilt")


def rebuilt(request: Request, user: User, wanted: list[bytes], sources: UploadFile | None) -> None:
    """Rebuild one of the wanted codes, and keep its sources.

    Raises:
        InvalidFile, CompilerMissing, NotCompiled, InvalidMessage: the sources are no such, or give another code.
    """
    shelf = shelf_of(request)
    content = sources.file.read() if sources is not None else b""
    bundle = read_upload(sources.filename or "", content) if sources is not None and content else shelf.packaged()
    made = shelf.rebuild(bundle, wanted, by=user.actor)
    if made.code_hash not in wanted:
        raise InvalidMessage(
            f"these sources compile to {to_hex(made.code_hash)}, which is not the proposed code",
            remedy=f"ask who proposed for the right sources, and which compiler; this one is {made.compiler}",
        )
