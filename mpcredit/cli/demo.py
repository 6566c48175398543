"""`mpcredit demo`: the run of `mpcredit.demo`, for a terminal or as one JSON document."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.status import Status
from rich.table import Table
from rich.text import Text

from mpcredit import demo as demo_run
from mpcredit.amounts import Money, exponent
from mpcredit.demo import Applicant, Heart, Progress, Result, Settings
from mpcredit.identity import Subject
from mpcredit.policy import Decision, Outcome, Reason
from mpcredit.schema import FIGURES_1

__all__ = ["demo", "show"]

WIDTH = 100
"""Columns where the output is no terminal; a wider terminal is not used in full either."""
SHOWN = 12
"""Answers and customers shown; more are counted."""
HEX_DIGITS = 24
"""Digits of a long number shown at each end."""
_COLOURS = {Outcome.APPROVE: "green", Outcome.REFER: "yellow", Outcome.DECLINE: "red"}
_STEPS = {
    "set_up": "before: contracts, keys, audit, once",
    "open": "step 2: open",
    "contribute": "steps 3 and 4: answer, multiply",
    "report": "step 5: report",
    "attest": "step 6: attest",
}


def demo(
    institutions: Annotated[
        int | None, typer.Option(metavar="N", help="Number of institutions, 3 to 216; 8 unless told.")
    ] = None,
    subjects: Annotated[
        int | None, typer.Option(metavar="S", help="Number of customers to ask about; 4 unless told.")
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND:COUNTRY:NUMBER", help="Ask about this customer; may be repeated."),
    ] = None,
    amount: Annotated[
        str, typer.Option(metavar="AMOUNT", help="What each customer asks for, in units of the books' currency.")
    ] = demo_run.DEFAULT_AMOUNT,
    bits: Annotated[int, typer.Option(metavar="B", help="Size of the key: 2048 to 4096 in steps of 256.")] = 3072,
    chain: Annotated[
        str, typer.Option(metavar="CHAIN", help="tester (in this process), anvil, or the URL of a node.")
    ] = "tester",
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Make the books of these accounts instead of the shipped ones.")
    ] = None,
    books: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Use these loan books, one CSV file for each institution.")
    ] = None,
    write_books: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the books that were made, in a new or empty directory.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document (docs/demo.md).")] = False,
) -> None:
    """Run one joint inquiry from application to decision, on a real EVM, and check it.

    Loan books are made of real accounts for 8 institutions, Bank A to Bank H. Customers apply at Bank A; all
    institutions compute the customers' totals together on the ledger; a supervisor verifies; Bank A decides. Then the
    totals are compared with sums in the clear, and Bank A tries to open a single institution's upload.

    Exit status 0 if all is as it must be, 1 if a total is wrong or the supervisor found somebody out.

    Example: mpcredit demo --institutions 5 --subjects 12 --bits 2048
    """
    if books is not None and institutions is not None:
        raise typer.BadParameter("--books says how many institutions there are: leave --institutions out")
    if subject and subjects is not None:
        raise typer.BadParameter("--subject says whom to ask about: leave --subjects out")
    settings = Settings(
        institutions=demo_run.DEFAULT_INSTITUTIONS if institutions is None else institutions,
        subjects=demo_run.DEFAULT_SUBJECTS if subjects is None else subjects,
        named=tuple(demo_run.parse_subject(text) for text in subject or ()),
        bits=bits,
        chain=chain,
        data=data,
        books=books,
        write_books=write_books,
        amount=amount,
    )
    if json_:
        with _Teller(_console(stderr=True), None) as teller:
            result = demo_run.run(settings, teller)
        print(json.dumps(result.to_json_object(), indent=2))
    else:
        console = _console()
        with _Teller(console, _head(settings)) as teller:
            result = demo_run.run(settings, teller)
        show(result, console, _next_command(settings))
    if not result.right:
        raise typer.Exit(1)


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # a terminal without these characters shows question marks, no traceback
    console = Console(stderr=stderr, highlight=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


class _Teller:
    """Tells what is done line by line, and on a terminal what is under way.

    Args:
        head: printed before the first line; None prints no lines.
    """

    def __init__(self, console: Console, head: RenderableType | None) -> None:
        self.console = console
        self.head = head
        self.status: Status | None = None
        self.answers = 0
        self.began = False

    def __enter__(self) -> _Teller:
        if self.console.is_terminal:
            self.status = self.console.status("starting")
            self.status.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self.status is not None:
            self.status.stop()

    def __call__(self, progress: Progress) -> None:
        if not self.began and self.head is not None:
            self.console.print(self.head)
        self.began = True
        if progress.done:
            self._done(progress)
        elif self.status is not None:
            self.status.update(escape(_shortened(progress.text, self.console.width - 4)))

    def _done(self, progress: Progress) -> None:
        self.answers += progress.step == 3
        more = self.answers - SHOWN
        if self.head is None or (progress.step == 3 and more > 0):
            return
        if progress.step == 4 and more > 0:
            self.console.print(_line(Progress(3, f"… and {more} more")))
        self.console.print(_line(progress))


def _shortened(text: str, width: int) -> str:
    shown = Text(text)
    shown.truncate(width, overflow="ellipsis")
    return shown.plain


def _line(progress: Progress) -> RenderableType:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(width=6, style="bold")
    grid.add_column(ratio=1)
    grid.add_column(width=10, justify="right", style="dim")
    grid.add_column(width=14, justify="right", style="dim")
    grid.add_row(
        f"step {progress.step}" if progress.step else "before",
        Text(progress.text),
        f"block {progress.block}" if progress.block is not None else "",
        f"{progress.gas:,} gas" if progress.gas is not None else "",
    )
    return grid


def _head(settings: Settings) -> RenderableType:
    if settings.books is not None:
        source = f"Loan books: the files in {settings.books}, one for each institution."
    else:
        accounts = settings.data.name if settings.data else "2,000 real card accounts (UCI, Taiwan 2005)"
        source = (
            f"Loan books of {settings.institutions} institutions, made of {accounts}; who holds which account, and the "
            "identity numbers, are made up."
        )
    return Group(
        Rule("mpcredit demo: one joint credit inquiry", style="blue"),
        Text(
            f"{source} Nobody shows a figure to anybody: the institutions compute each customer's totals together, "
            "encrypted, on an Ethereum ledger.",
        ),
        Text(),
    )


# --------------------------------------------------------------------- the result


def show(result: Result, console: Console, next_command: str) -> None:
    """Print a result.

    Args:
        next_command: named in the last line, if all is as it must be.
    """
    shown = result.applicants[:SHOWN]
    console.print()
    console.print(_totals(result, shown))
    console.print()
    console.print(_decisions(result, shown))
    more = len(result.applicants) - len(shown)
    if more:
        console.print(f"… and {more} more: --json shows all")
    console.print()
    console.print(_heart(result.heart, result.currency, result.institutions[0]))
    console.print()
    console.print(_supervisor(result))
    console.print()
    console.print(_gas(result))
    for note in _notes(result):
        console.print(Text(f"Note: {note}", style="dim"))
    if result.right:
        console.print()
        done = f"Done in {result.seconds:.1f} s. "
        console.print(Text.assemble((done, "dim"), "Next, try: ", (next_command, "bold")))
    else:
        console.print(_alarm(result))


def _next_command(settings: Settings) -> str:
    if settings.books is not None:
        return f"mpcredit demo --books {shlex.quote(str(settings.books))} --json"
    if settings.write_books is not None:
        return f"mpcredit demo --books {shlex.quote(str(settings.write_books))}    (change a figure first)"
    return "mpcredit demo --write-books my-books"


def _name(subject: Subject) -> str:
    return f"{subject.country} …{subject.number[-4:]}"


def _figure(name: str, value: int, currency: str, *, whole: bool = False) -> str:
    if name not in _AMOUNTS:
        return f"{value:,}"
    text = str(Money.of_minor(value, currency)).removesuffix(f" {currency}")
    return text.partition(".")[0] if whole else text


_AMOUNTS = [part.name for part in FIGURES_1.fields if part.kind == "amount"]


def _table(title: str) -> Table:
    return Table(
        title=Text(title),
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _totals(result: Result, shown: tuple[Applicant, ...]) -> RenderableType:
    fields = [part.name for part in FIGURES_1.fields]
    # Zeros after the point are left out where no amount has anything else there.
    records = [record for applicant in shown for record in (applicant.totals, applicant.expected) if record]
    unit = 10 ** exponent(result.currency)
    whole = all(record[name] % unit == 0 for record in records for name in _AMOUNTS)
    table = _table(f"Totals over {result.coverage}, in {result.currency}")
    table.add_column("customer", no_wrap=True)
    table.add_column("summed", no_wrap=True)
    for name in fields:
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    table.add_column("")
    for applicant in shown:
        joint, clear = applicant.totals, applicant.expected
        label = Text(_name(applicant.subject), style="bold")
        if joint is None:
            table.add_row(label, "jointly", Text("none", style="bold red"))
        else:
            table.add_row(
                label, "jointly", *(_figure(name, joint[name], result.currency, whole=whole) for name in fields)
            )
        checked = [
            Text(
                _figure(name, clear[name], result.currency, whole=whole),
                style="dim" if joint and joint[name] == clear[name] else "bold red",
            )
            for name in fields
        ]
        mark = Text("equal", style="green") if applicant.agrees else Text("DIFFERENT", style="bold red")
        table.add_row("", Text("in clear", style="dim"), *checked, mark)
    wrong = sum(not applicant.agrees for applicant in result.applicants)
    count = len(result.applicants)
    told = "All joint totals equal the sums in the clear, which code of its own adds up from the CSV files."
    if wrong:
        told = f"{wrong} of {count} joint totals DIFFER from the sums in the clear."
    return Group(table, Text(told, style="bold red" if wrong else "green"))


def _decisions(result: Result, shown: tuple[Applicant, ...]) -> RenderableType:
    each = " each" if len(result.applicants) > 1 else ""
    table = _table(f"Decisions of {result.institutions[0]} on {result.requested}{each}, by its credit policy")
    table.add_column("customer", max_width=34)
    table.add_column("coverage", no_wrap=True)
    table.add_column("decision", no_wrap=True)
    table.add_column("reasons")
    for applicant in shown:
        label = Text(_name(applicant.subject), style="bold")
        if applicant.why:
            label.append(f"\n{applicant.why}", style="not bold dim")
        table.add_row(label, result.coverage.split(" institutions")[0], *_decision(applicant.decision))
    return table


def _decision(decision: Decision | None) -> tuple[RenderableType, RenderableType]:
    if decision is None:
        return Text("NONE", style="bold red"), "there are no totals"
    outcome = Text(decision.outcome.value.upper(), style=f"bold {_COLOURS[decision.outcome]}")
    return outcome, Text("\n".join(map(_reason, decision.reasons)) or "nothing speaks against it")


def _reason(reason: Reason) -> str:
    """For an officer, shorter than the words for the customer."""
    what = {
        "exposure": "all debt with this loan {}",
        "overdue": "{} overdue",
        "lenders": "credit with {} institutions",
        "pending": "{} applications in the last 30 days",
    }.get(reason.code)
    if what is None:
        return reason.text
    limit = reason.limit.rsplit(" ", 1)[0]
    return f"{what.format(reason.value)}: {reason.outcome.value} above {limit}"


def _heart(heart: Heart, currency: str, inquirer: str) -> RenderableType:
    def figures(values: dict[str, int], *names: str) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {_figure(name, values[name], currency)}" for name in names)

    digits = f"{heart.number:x}"
    short = f"0x{digits[:HEX_DIGITS]}…{digits[-HEX_DIGITS:]}"
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    told = "what its loan book says, to the last digit" if heart.naive == heart.figures else "NOT its figures"
    grid.add_row(
        "naive, without masks:",
        Text.assemble((figures(heart.naive, "outstanding", "credit_limit", "loans"), "bold red"), f"\n({told})"),
    )
    grid.add_row(
        "here, with masks:",
        Text.assemble(
            (short, "bold green" if heart.complaint else "bold red"),
            f"\n({heart.number.bit_length():,} random bits where figures have at most {heart.figure_bits:,};"
            f"\nas figures: {figures(heart.misread, 'outstanding', 'loans')})",
        ),
    )
    return Group(
        Text(f"{inquirer} tries to see {heart.institution} alone, customer {_name(heart.subject)}", style="bold"),
        Text(f"The upload of {heart.institution} is encrypted under the key of {inquirer}. {inquirer} decrypts it:"),
        Padding(grid, (0, 0, 0, 2)),
        Text("The masks, shared by every two institutions, cancel in the sum over all of them and nowhere else."),
    )


def _supervisor(result: Result) -> RenderableType:
    text = Text.assemble(
        ("Supervisor: VALID. ", "bold green"),
        f"It took no part in the computation, recomputed the figures behind each of the {len(result.institutions)} "
        "contributions, and found the reported totals to be their sums. ",
    )
    if result.verdict != "valid":
        who = ", ".join(result.culprits) or "nobody"
        text = Text.assemble(("Supervisor: INVALID. ", "bold red"), f"Named: {who}. {'. '.join(result.findings)}. ")
    if not result.contract_agrees:
        text.append("The contract's product is NOT that of the contributions on the ledger.", style="bold red")
    return text


def _gas(result: Result) -> RenderableType:
    table = _table(f"Gas, with keys of {result.bits} bits (chain: {result.chain})")
    table.add_column("step", no_wrap=True)
    for name in ("transactions", "least", "most", "all"):
        table.add_column(name, justify="right")
    for step, used in result.gas.items():
        if used:
            row = (f"{len(used)}", f"{min(used):,}", f"{max(used):,}", f"{sum(used):,}")
            table.add_row(_STEPS[step], *row, style="dim" if step == "set_up" else "")
    inquiry = [gas for step, used in result.gas.items() if step != "set_up" for gas in used]
    table.add_row("steps 2 to 6, one inquiry", f"{len(inquiry)}", "", "", f"{sum(inquiry):,}", style="bold")
    return table


def _notes(result: Result) -> list[str]:
    policies = [note for a in result.applicants[:1] if a.decision for note in a.decision.notes]
    return [*result.notes, *(f"{note[0].upper()}{note[1:]}." for note in policies)]


def _alarm(result: Result) -> RenderableType:
    wrong = []
    if result.verdict != "valid":
        wrong.append(f"The supervisor found the inquiry invalid and named {', '.join(result.culprits) or 'nobody'}.")
    if any(not applicant.agrees for applicant in result.applicants):
        wrong.append("Joint totals differ from the sums in the clear.")
    if not result.contract_agrees:
        wrong.append("The contract multiplied wrongly.")
    if not result.heart.holds:
        wrong.append("The upload of a single institution said more, or less, than it must.")
    return Panel(Text("\n".join(wrong)), title="THIS RUN FAILED", border_style="bold red", style="bold")
