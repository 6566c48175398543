"""Whether the Consortium is the one of the founding file: what `doctor` shows, and what comes before anything is accepted.

`member confirm`, `member pin` and `member accept-period-key` go on only if it is (R37.1, docs/adr/0024).
"""

from __future__ import annotations

from mpcredit.chain import ChainLedger
from mpcredit.chain.creation import compare_creation
from mpcredit.cli._access import View
from mpcredit.cli._examination import LOOK, OK, Examination
from mpcredit.config import Config
from mpcredit.errors import HistoryMissing, InvalidFile, WrongLedger
from mpcredit.events import Position
from mpcredit.founding import Founding, read_founding
from mpcredit.state import LedgerState

_GET_IT = 'get the founding file from a member, compare its SHA-256 with another one, and write founding = "FILE"'


def require_founding(config: Config, command: str) -> Founding:
    """Refuse what rests on the founding file where there is none: whose consortium it is, only that file says.

    Raises:
        InvalidFile: the configuration names no founding file, or the file is wrong.
    """
    if config.founding is None:
        raise InvalidFile(f"{config.path}, founding", f"is missing, and `mpcredit {command}` needs it", _GET_IT)
    return read_founding(config.founding)


def require_creation(founding: Founding, read: View) -> None:
    """Refuse a Consortium that was created otherwise than the founding file says, or of which that cannot be seen.

    Raises:
        WrongLedger: it was founded otherwise. HistoryMissing: the ledger does not show it.
    """
    compare_creation(read.ledger, founding, _first(read.follower.state))


def _first(state: LedgerState) -> Position:
    """Where the Consortium's first event stands."""
    if not state.roster_history:
        raise WrongLedger(
            f"the Consortium at {state.realm.consortium} shows no event of its founding",
            remedy="correct [ledger] first_block; if that is right, do not take part in this consortium",
        )
    return state.roster_history[0].at


def examine(ex: Examination, config: Config, ledger: ChainLedger, state: LedgerState) -> None:
    """The check "founding" of `mpcredit doctor`."""
    if config.founding is None:
        ex.add(
            "founding", LOOK, "without the founding file nobody can tell who founded this consortium, and how", _GET_IT
        )
        return
    first = _first(state)
    try:
        code = compare_creation(ledger, read_founding(config.founding), first)
    except HistoryMissing as error:
        ex.add("founding", LOOK, f"not compared: {error.message}", error.remedy)
        return
    release = "this version" if code.release == "unreleased" else f"mpcredit {code.release}"
    ex.add(
        "founding",
        OK,
        f"created in block {first.block} by one transaction with the code of {release} and what the founding file says",
    )
