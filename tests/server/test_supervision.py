"""What the supervisor's people do, through the pages of its server.

Branches: proposed code (shipped, rebuilt from sources); looks by two people (asked, confirmed, over; one's own, another
inquiry, another person); figures as files; verdicts by hand; a store that was deleted; accounts, readiness and period keys.
Approvals are in test_orders.py.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
import solcx
from argon2 import PasswordHasher
from clock import Clock
from web_world import SUPERVISOR_ROLES, Site, World, call, propose, vote, world

from mpcredit.chain import ChainSigner, joint_credit_init_code_hash
from mpcredit.chain.artifacts import compiler, sources
from mpcredit.encoding import keccak, to_hex
from mpcredit.errors import LedgerError
from mpcredit.events import Attested, Call, Stage
from mpcredit.institution import SupervisorNode
from mpcredit.ledger.roster import SUPERVISOR
from mpcredit.local import sign_key
from mpcredit.server import contractcode, oversight, tables
from mpcredit.server.anchoring import DailyAnchor, own_anchors
from mpcredit.server.app import create_app
from mpcredit.server.applications import Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.contractcode import MOST_BYTES, CompilerMissing, Shelf, build, compare, read_upload
from mpcredit.server.database import Database
from mpcredit.server.looks import LookRefused, Looks
from mpcredit.server.node import Node
from mpcredit.server.people import People
from mpcredit.server.store import SqlStore
from mpcredit.server.tables import FIGURE, TEXT, TIME, Table

ROOT = Path(__file__).parents[2]
SOLC = ROOT / "tools" / "solc"
CONTRACT = "contracts/JointCredit.sol"
VERSION = re.findall(r'return "[^"]+";', (ROOT / CONTRACT).read_text(encoding="utf-8"))[0]
"""Where the contract says its version."""
needs_solc = pytest.mark.skipif(
    not (ROOT / "node_modules" / "solc").exists() or shutil.which("node") is None, reason="no compiler: run npm ci"
)
UTC = "TIMESTAMP WITH TIME ZONE"
DAY = 86_400


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Four institutions, a supervisor with two people, one attested inquiry."""
    with world(tmp_path_factory.mktemp("supervision")) as found:
        found.supervisor.people.create("second", "The second supervisor", ["supervisor"], by=None, why="test")
        found.enter()
        found.settle()
        yield found


def inquiry_of(there: World) -> str:
    return str(next(a for a in there.bank.applications.newest() if a.attested).seen["inquiry"])


def agreed(there: World, *calls: bytes) -> tuple[int, str]:
    """A proposal that has its votes."""
    number, calls_hash = propose(there, *calls)
    vote(there, number, calls_hash, "Bank A", "Bank B", "Bank C")
    return number, calls_hash


def order(client: Any, number: int, calls_hash: str) -> Any:
    data = {"calls_hash": calls_hash, "kind": "give", "reason": "read every call"}
    return client.post(f"/proposals/{number}/order", data=data)


# --------------------------------------------------------------------- the proposed code


def changed_sources() -> dict[str, str]:
    """A next version: another version number, one error more."""
    found = dict(sources("JointCredit"))
    found[CONTRACT] = found[CONTRACT].replace(VERSION, 'return "next"; // changed')
    assert found != sources("JointCredit")
    return found


def zipped(files: dict[str, str], top: str = "mpcredit-0.2/", *, pack: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", pack) as archive:
        for path, text in files.items():
            archive.writestr(top + path, text)
        archive.writestr(top + "README.md", "not a source")
        archive.writestr(top + "contracts/test/Harness.sol", "does not even compile")
    return out.getvalue()


def damaged(archive: bytes) -> bytes:
    """With the first file's packed bytes overwritten."""
    start = 30 + int.from_bytes(archive[26:28], "little") + int.from_bytes(archive[28:30], "little") + 4
    return archive[:start] + b"\xff" * 16 + archive[start + 16 :]


def compiled_hash(files: dict[str, str]) -> bytes:
    """The hash of a JointCredit, by the tool that makes the package's artifacts: py-solc-x around the same compiler."""
    request = {
        "language": "Solidity",
        "sources": {path: {"content": text} for path, text in files.items()},
        "settings": {
            **compiler("JointCredit")[1],
            "outputSelection": {"*": {"*": ["evm.bytecode.object"]}},
        },
    }
    os.environ["SOLCX_BINARY_PATH"] = str(ROOT / ".build" / "solcx")
    answer = solcx.compile_standard(request, solc_binary=SOLC)
    return keccak(bytes.fromhex(answer["contracts"][CONTRACT]["JointCredit"]["evm"]["bytecode"]["object"]))


def test_packaged_code__its_sources_travel_with_it() -> None:
    found = sources("JointCredit")

    assert CONTRACT in found
    assert found[CONTRACT] == (ROOT / CONTRACT).read_text(encoding="utf-8")
    rules = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("force-include]")[2].partition("\n\n")[0]
    for path in found:
        assert any(f'"{path[:end]}" = "mpcredit/{path[:end]}"' in rules for end in (len(path), path.rfind("/"))), path


def test_packaged_code__proposed__can_be_approved_without_a_compiler(there: World) -> None:
    client = there.supervisor.sign_in("supervisor")
    number, calls_hash = agreed(there, call("approveJointCredit", joint_credit_init_code_hash()))

    text = client.get(f"/proposals/{number}").text
    assert "This server has no compiler" in text
    assert compiler("JointCredit")[0] in text
    assert "The sources are the same, line for line." in text
    refused = client.post(f"/proposals/{number}/build")
    assert (refused.status_code, "[server] solc" in refused.text) == (422, True)

    assert order(client, number, calls_hash).status_code == 303


@needs_solc
def test_next_version__rebuilt_from_uploaded_sources__shows_the_difference_and_can_be_approved(there: World) -> None:
    client, shelf = there.supervisor.sign_in("supervisor"), there.supervisor.app.state.shelf
    files = changed_sources()
    code = compiled_hash(files)
    number, calls_hash = agreed(there, call("approveJointCredit", code))
    path = f"/proposals/{number}"
    shelf.solc = SOLC
    try:
        # (1) what compiles to something else, does not compile, or is no source.
        other = {**files, CONTRACT: files[CONTRACT].replace('return "next"', 'return "other"')}
        wrong = client.post(f"{path}/build", files={"sources": ("next.zip", zipped(other))})
        assert (wrong.status_code, "which is not the proposed code" in wrong.text) == (422, True)
        broken = client.post(f"{path}/build", files={"sources": ("x.zip", zipped({CONTRACT: "contract {"}))})
        assert (broken.status_code, "do not compile" in broken.text) == (422, True)
        assert order(client, number, calls_hash).status_code == 409

        # (2) the right ones, as standard-JSON; the sources decide, not their names for people.
        request = {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in files.items()},
            "settings": {**compiler("JointCredit")[1], "outputSelection": {"*": {"*": ["abi"]}}},
        }
        done = client.post(f"{path}/build", files={"sources": ("package mpcredit 9.zip", json.dumps(request).encode())})
        assert done.status_code == 303, done.text
    finally:
        shelf.solc = None
    text = client.get(path).text
    assert f"""<div class="del">-        {VERSION.replace('"', "&#34;")}</div>""" in text
    assert '<div class="add">+        return &#34;next&#34;; // changed</div>' in text
    assert text.count('<details class="source"') == 1
    assert "upload package mpcredit 9.zip" in text
    assert order(client, number, calls_hash).status_code == 303
    (entry,) = there.supervisor.audit.search(about=f"proposal/{number}")
    assert (entry.action, entry.facts["calls_hash"]) == ("approval.asked", calls_hash)


@needs_solc
def test_package__rebuilt__is_the_same(there: World) -> None:
    shelf: Shelf = there.supervisor.app.state.shelf
    shelf.solc = SOLC
    try:
        made = shelf.rebuild(shelf.packaged(), [shelf.packaged_hash], by="user:supervisor")
    finally:
        shelf.solc = None

    assert made.code_hash == joint_credit_init_code_hash()
    kept = shelf.get(made.code_hash)
    assert kept is not None
    assert (kept.state, kept.compiler) == ("rebuilt", compiler("JointCredit")[0])


@needs_solc
def test_upload__that_imports_a_file_of_the_server__does_not_compile(there: World, tmp_path: Path) -> None:
    secret = tmp_path / "secret.sol"
    secret.write_text("contract Secret {}")
    shelf = Shelf(there.supervisor.audit, SOLC)
    bundle = read_upload("x.zip", zipped({CONTRACT: f'import "{secret}"; contract JointCredit {{}}'}, ""))

    with pytest.raises(Exception, match="do not compile"):
        shelf.rebuild(bundle, [], by="test")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", b"{}", "neither a zip nor"),
        ("a.json", b'{"language": "Vyper", "sources": {}}', "neither a zip nor"),
        ("a.json", b'{"language": "Solidity", "sources": {"a.sol": {"urls": ["/etc/passwd"]}}}', "neither a zip nor"),
        ("a.json", b'{"language": "Solidity", "sources": {"../a.sol": {"content": ""}}}', "names the path"),
        ("a.json", b'{"language": "Solidity", "sources": {}}', "holds no Solidity"),
        ("a.json", b"[" * 50_000, "neither a zip nor"),
        ("a.json", b'{"language": "Solidity", "sources": {"a.sol": {"content": "\\ud800"}}}', "neither a zip nor"),
        ("a.zip", b"PK nonsense", "not a zip"),
        ("a.zip", damaged(zipped({CONTRACT: "contract JointCredit {}" * 99}, pack=zipfile.ZIP_DEFLATED)), "not a zip"),
        ("a.zip", damaged(zipped({CONTRACT: "contract JointCredit {}" * 99}, pack=zipfile.ZIP_LZMA)), "not a zip"),
        ("a.zip", zipped({CONTRACT: " " * (MOST_BYTES + 1)}), "too large"),
        ("a.zip", zipped({f"contracts/{i}.sol": "" for i in range(101)}), "too large"),
    ],
    ids=[
        *(
            "empty",
            "vyper",
            "urls",
            "path",
            "none",
            "deep",
            "half",
            "no-zip",
            "damaged",
            "damaged-lzma",
            "bomb",
            "many",
        ),
    ],
)
def test_upload__that_is_not_taken__says_why(name: str, content: bytes, problem: str) -> None:
    with pytest.raises(Exception, match=problem):
        read_upload(name, content)


def test_difference__hidden_characters__are_spelled_out() -> None:
    (found,) = compare({"a.sol": "x = 1;"}, {"a.sol": "x = 1; // \u202e2 = x"})

    assert (found.state, found.added, found.removed) == ("changed", 1, 1)
    assert ("add", "+x = 1; // ⟨U+202E⟩2 = x") in found.lines


@pytest.mark.parametrize("separator", [*"\x1c\x1d\x1e\x0b\x0c\x85\r", "\u2028", "\u2029"], ids=ascii)
def test_difference__code_that_became_a_comment__is_seen(separator: str) -> None:
    """`str.splitlines` ends a line where the compiler goes on with the comment: the difference seemed to be empty."""
    text = f"// only the owner{separator}    require(msg.sender == owner);\n"

    (found,) = compare({"a.sol": text.replace(separator, "\n")}, {"a.sol": text})

    assert (found.state, found.added, found.removed) == ("changed", 1, 2)
    spelled = f"+// only the owner⟨U+{ord(separator):04X}⟩    require(msg.sender == owner);"
    assert ("add", spelled) in found.lines


@pytest.mark.parametrize(
    "hidden", ["\u00ad", "\u061c", "\u180e", "\u3164", "\ufe0f", "\U000e0041", "\ue000"], ids=ascii
)
def test_difference__letters_that_show_nothing__are_spelled_out(hidden: str) -> None:
    (found,) = compare({"a.sol": '"pay"'}, {"a.sol": f'"pay{hidden}"'})

    assert ("add", f'+"pay⟨U+{ord(hidden):04X}⟩"') in found.lines


def test_difference__made_to_take_minutes__is_shown_whole() -> None:
    old = sources("JointCredit")[CONTRACT]
    kinds = list(dict.fromkeys(old.split("\n")))
    new = "\n".join(kinds[i * 7 % len(kinds)] for i in range(50_000))

    begun = time.monotonic()
    (found,) = compare({"a.sol": old}, {"a.sol": new})

    assert time.monotonic() - begun < 10
    assert (found.state, found.added, found.removed) == ("changed", 50_000, len(old.split("\n")))


@needs_solc
def test_upload__linked_to_a_deployed_library__is_not_the_code_of_its_sources(there: World) -> None:
    """What stands at the library's address may do anything; its sources in the upload would only look like it."""
    text = "library L { function f() external {} } contract JointCredit { function g() external { L.f(); } }"
    linked = {"a.sol": {"L": "0x" + "66" * 20}}
    request = {"language": "Solidity", "sources": {"a.sol": {"content": text}}, "settings": {"libraries": linked}}
    bundle = read_upload("x.json", json.dumps(request).encode())

    with pytest.raises(Exception, match="hold no contract JointCredit"):
        build(bundle, SOLC)


@needs_solc
def test_compiler__at_work_for_somebody_else__says_wait(there: World) -> None:
    shelf = Shelf(there.supervisor.audit, SOLC)
    with contractcode._COMPILING, pytest.raises(Exception, match="works for somebody else"):
        shelf.rebuild(shelf.packaged(), [], by="test")
    assert shelf.rebuild(shelf.packaged(), [], by="test").code_hash == shelf.packaged_hash


# --------------------------------------------------------------------- two people


@pytest.fixture
def two(there: World) -> Iterator[Clock]:
    """The same server, told that it takes two people; with a clock."""
    app, clock = there.supervisor.app, Clock()
    before = app.state.parts
    app.state.parts = replace(before, settings=before.settings.model_copy(update={"drill_down": "two"}))
    looks, app.state.looks = app.state.looks, Looks(there.supervisor.audit, minutes=15, clock=clock)
    yield clock
    app.state.parts, app.state.looks = before, looks


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_two_people__asked_confirmed_seen_and_over(there: World, two: Clock) -> None:
    one, other = there.supervisor.sign_in("supervisor"), there.supervisor.sign_in("second")
    inquiry = inquiry_of(there)
    path = f"/supervision/inquiries/{inquiry}"

    # (1) alone, and with a reason that is none, there is nothing to see.
    alone = one.post(f"{path}/figures", data={"reason": "complaint 7"})
    assert (alone.status_code, "two people are needed" in alone.text.lower()) == (422, True)
    assert one.post(f"{path}/looks", data={"reason": "  a "}).status_code == 422

    # (2) asked; not confirmed by himself, nor by who is no supervisor.
    assert one.post(f"{path}/looks", data={"reason": "complaint 8"}).status_code == 303
    assert one.post(f"{path}/looks", data={"reason": "complaint 8"}).status_code == 422
    (look,) = there.supervisor.app.state.looks.waiting()
    own = one.post(f"/supervision/looks/{look.id}", data={"agree": "yes"})
    assert (own.status_code, "nobody confirms his own" in own.text.lower()) == (409, True)
    assert (
        there.supervisor.sign_in("reviewer").post(f"/supervision/looks/{look.id}", data={"agree": "yes"}).status_code
        == 403
    )
    assert one.post(f"{path}/figures").status_code == 422
    assert one.post(f"{path}/figures/export", data={"kind": "csv"}).status_code == 422

    # (3) the other one reads the reason, not the figures.
    page = other.get("/supervision/looks").text
    assert "complaint 8" in page
    assert '<a class="button primary" href="/supervision/looks">' in other.get("/supervision").text
    assert '<a class="button primary" href="/supervision/looks">' not in one.get("/supervision").text
    assert other.post(f"/supervision/looks/{look.id}", data={"agree": "yes"}).status_code == 303
    assert "Outstanding debt" not in page + other.get(path).text
    assert other.post(f"/supervision/looks/{look.id}", data={"agree": "no"}).status_code == 409

    # (4) open to who asked, for that inquiry, for its minutes.
    shown = one.post(f"{path}/figures")
    assert (shown.status_code, "Outstanding debt" in shown.text) == (200, True)
    assert other.post(f"{path}/figures").status_code == 422
    another = there.enter()
    there.settle()
    elsewhere = there.bank.applications.get(another).seen["inquiry"]
    assert one.post(f"/supervision/inquiries/{elsewhere}/figures").status_code == 422
    assert one.post(f"{path}/figures/export", data={"kind": "csv"}).status_code == 200
    two.now += 15 * 60
    for what, form in (("figures", {}), ("figures/export", {"kind": "csv"})):
        late = one.post(f"{path}/{what}", data=form)
        assert (late.status_code, "is over" in late.text) == (422, True)

    # (5) every step is in the audit log.
    entries = there.supervisor.audit.search(about=f"inquiry/{inquiry}")[::-1]
    mine = [(e.actor, e.action) for e in entries if e.action.startswith(("look.", "subject."))]
    assert mine == [
        ("user:supervisor", "look.asked"),
        ("user:second", "look.confirmed"),
        ("user:supervisor", "subject.looked"),
        ("user:supervisor", "subject.exported"),
    ]


@pytest.mark.parametrize(("what", "day"), [("figures", 10), ("figures/export", 20)])
def test_two_people__time_over_while_the_node_is_busy__shows_nothing(
    there: World, two: Clock, what: str, day: int
) -> None:
    two.now += day * 86_400
    one, other = there.supervisor.sign_in("supervisor"), there.supervisor.sign_in("second")
    path = f"/supervision/inquiries/{inquiry_of(there)}"
    assert one.post(f"{path}/looks", data={"reason": "complaint 8"}).status_code == 303
    (look,) = there.supervisor.app.state.looks.waiting()
    assert other.post(f"/supervision/looks/{look.id}", data={"agree": "yes"}).status_code == 303

    with ThreadPoolExecutor(1) as pool:
        with there.supervisor.node.locked():
            asked = pool.submit(one.post, f"{path}/{what}", data={"kind": "csv"})
            wait_for(lambda: there.supervisor.node._waiting > 0)
            two.now += 15 * 60
        late = asked.result(30)

    assert (late.status_code, "is over" in late.text) == (422, True)


def test_two_people__refused_or_lapsed__is_not_open(there: World, two: Clock) -> None:
    one, other = there.supervisor.sign_in("second"), there.supervisor.sign_in("supervisor")
    path = f"/supervision/inquiries/{inquiry_of(there)}"
    looks: Looks = there.supervisor.app.state.looks
    one.post(f"{path}/looks", data={"reason": "curious"})
    other.post(f"/supervision/looks/{looks.waiting()[0].id}", data={"agree": "no", "reason": "no case"})

    refused = one.post(f"{path}/figures")
    assert (refused.status_code, "no case" in one.get(path).text) == (422, True)
    one.post(f"{path}/looks", data={"reason": "case 9 now"})
    two.now += 86_400
    stale = looks.recent()[0]

    assert stale.state == "lapsed"
    assert other.post(f"/supervision/looks/{stale.id}", data={"agree": "yes"}).status_code == 409
    assert one.post(f"{path}/figures").status_code == 422


def test_two_people__on_either_database(audit: AuditLog, people: People, clock: Clock) -> None:
    looks = Looks(audit, minutes=15, clock=clock)
    one, other = (people.create(name, name, ["supervisor"], by=None, why="test") for name in ("one", "other"))
    look = looks.ask("0x01", "complaint 7", by=one)

    with pytest.raises(LookRefused, match="nobody confirms his own"):
        looks.confirm(look.id, by=one)
    with pytest.raises(LookRefused, match="already"):
        looks.ask("0x01", "complaint 7", by=one)
    looks.confirm(look.id, by=other)
    assert looks.need_open("0x01", one).id == look.id
    for inquiry, person in (("0x02", one), ("0x01", other)):
        with pytest.raises(LookRefused):
            looks.need_open(inquiry, person)
    clock.now += 15 * 60
    with pytest.raises(LookRefused, match="is over"):
        looks.need_open("0x01", one)
    assert [entry.action for entry in audit.search()][:2] == ["look.confirmed", "look.asked"]


def test_sources__kept_on_either_database(audit: AuditLog, clock: Clock) -> None:
    shelf = Shelf(audit, None, clock=clock)
    shelf.keep_own()
    Shelf(audit, None, clock=clock).keep_own()

    kept = shelf.get(joint_credit_init_code_hash())
    assert kept is not None
    assert (kept.state, kept.bundle.sources) == ("shipped", sources("JointCredit"))
    assert len(audit.search(action="contract.shipped")) == 1
    with pytest.raises(CompilerMissing, match="no Solidity compiler"):
        shelf.rebuild(shelf.packaged(), [], by="test")


def test_one_person__cannot_ask_another(there: World) -> None:
    answer = there.supervisor.sign_in("supervisor").post(
        f"/supervision/inquiries/{inquiry_of(there)}/looks", data={"reason": "complaint 7"}
    )

    assert answer.status_code == 409


# --------------------------------------------------------------------- exports


def read(content: bytes, path: Path) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    """Columns with types, and rows, of a Parquet file, by another implementation than the one that wrote it."""
    path.write_bytes(content)
    with duckdb.connect() as database:
        table = database.sql(f"SELECT * FROM '{path}'")
        types = dict(zip(table.columns, map(str, table.types), strict=True))
        # Unix seconds, so that nobody's time zone has a say.
        columns = [f'epoch("{name}")' if kind == UTC else f'"{name}"' for name, kind in types.items()]
        return types, database.sql(f"SELECT {', '.join(columns)} FROM '{path}'").fetchall()


@pytest.mark.parametrize("name", ["export", "institutions"])
def test_lists__as_parquet__are_those_of_the_csv(there: World, name: str, tmp_path: Path) -> None:
    client = there.supervisor.sign_in("supervisor")

    types, rows = read(client.get(f"/supervision/{name}.parquet").content, tmp_path / "x.parquet")
    lines = list(csv.DictReader(io.StringIO(client.get(f"/supervision/{name}.csv").text)))

    assert list(types) == list(lines[0])
    assert len(rows) == len(lines) > 0
    for row, line in zip(rows, lines, strict=True):
        for (column, kind), value in zip(types.items(), row, strict=True):
            expected = line[column]
            if kind == UTC:
                assert int(value) == int(expected or 0)
            else:
                assert ("" if value is None else str(value)) == expected
    assert "outstanding" not in types


def test_figures__as_files__behind_a_reason_and_those_of_the_page(there: World, tmp_path: Path) -> None:
    client, inquiry = there.supervisor.sign_in("supervisor"), inquiry_of(there)
    path = f"/supervision/inquiries/{inquiry}/figures/export"
    before = len(there.supervisor.audit.search(action="subject.exported"))
    assert client.post(path, data={"kind": "parquet"}).status_code == 422
    assert len(there.supervisor.audit.search(action="subject.exported")) == before

    types, rows = read(client.post(path, data={"kind": "parquet", "reason": "case 12"}).content, tmp_path / "f.parquet")
    text = client.post(path, data={"kind": "csv", "reason": "case 12"}).text

    with there.supervisor.node.locked() as node:
        (subject,) = oversight.figures(node, node.supervisor.state.inquiries[bytes.fromhex(inquiry[2:])])
    place = list(types).index("outstanding")
    found = {row[list(types).index("institution")] or row[4]: int(row[place]) for row in rows}
    expected = {name: record["outstanding"] for name, record in subject["records"].items()}
    assert found == {**expected, "sum": sum(expected.values()), "reported": sum(expected.values())}
    assert types["outstanding"] == "DECIMAL(38,0)"
    assert types["opened_at"] == UTC
    assert [int(line["outstanding"]) for line in csv.DictReader(io.StringIO(text))] == list(found.values())
    entries = there.supervisor.audit.search(action="subject.exported")
    assert [(e.why, e.facts["kind"]) for e in entries[:2]] == [("case 12", "csv"), ("case 12", "parquet")]


def test_parquet__integers_beyond_what_a_double_or_int64_holds__are_exact(tmp_path: Path) -> None:
    values = [2**53 + 1, 2**64 + 1, 10**38 - 1, None]
    table = Table("x", {"a": FIGURE, "t": TIME}, [{"a": value, "t": 1_800_000_001} for value in values])

    types, rows = read(tables.parquet_bytes(table), tmp_path / "x.parquet")

    assert [row[0] if row[0] is None else int(row[0]) for row in rows] == values
    assert (types["t"], rows[0][1]) == (UTC, 1_800_000_001)
    assert tables.csv_bytes(table).decode().splitlines()[1] == f"{2**53 + 1},1800000001"
    with pytest.raises(tables.NoParquet, match="38 digits"):
        tables.parquet_bytes(Table("x", {"a": FIGURE}, [{"a": 10**38}]))


def test_csv__text_that_a_spreadsheet_would_run__is_quoted() -> None:
    body = tables.csv_bytes(Table("x", {"name": TEXT}, [{"name": "=HYPERLINK(1)"}]))

    assert body == b"name\r\n'=HYPERLINK(1)\r\n"


def test_parquet__not_installed__says_what_to_install(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "has_parquet", lambda: False)

    answer = there.supervisor.sign_in("supervisor").get("/supervision/export.parquet")

    assert (answer.status_code, "mpcredit[parquet]" in answer.text) == (422, True)


# --------------------------------------------------------------------- verdicts by hand, and a deleted store


class Flaky:
    """The supervisor's signer; sends are lost until it is told otherwise."""

    def __init__(self, signer: Any) -> None:
        self._signer = signer
        self.down = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signer, name)

    def broadcast(self, signed: bytes) -> None:
        if self.down:
            raise LedgerError("the node is away")
        self._signer.broadcast(signed)


def site(there: World, path: Path) -> tuple[Site, SqlStore]:
    """The supervisor's server as `mpcredit serve` puts it together: one database for store, people and log."""
    settings = there.supervisor.settings.model_copy(update={"database": f"sqlite:///{path}"})
    database = Database(settings.database)
    database.upgrade()
    store, audit = SqlStore(database), AuditLog(database)
    people = People(database, audit, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    people.install([(role, f"The {role}", [role]) for role in SUPERVISOR_ROLES])
    signer = ChainSigner(
        there.consortium.chain.web3, there.consortium.supervisor_account, there.consortium.deployed.consortium
    )
    party = SupervisorNode(
        ledger=there.consortium.ledger,
        signer=signer,
        store=store,
        keys=there.consortium.supervisor_keys,
        pins=there.consortium.pins,
        anchor=lambda: audit.head()[1],
    )
    node = Node(party)
    app = create_app(settings, node, people, audit, None)
    return Site(settings, database, audit, people, node, Applications(database, node, audit), app), store


def shut(found: Site, store: SqlStore) -> None:
    store.close()
    found.database.close()


@pytest.fixture
def served(there: World, tmp_path: Path) -> Iterator[Site]:
    """The supervisor's server over one SQLite file; verdicts by hand. The other one rests meanwhile."""
    found, store = site(there, tmp_path / "supervisor.sqlite")
    found.node.party.supervisor.by_hand = True
    found.node.round()
    yield found
    shut(found, store)


def ask(there: World, *, lie: bool = False) -> bytes:
    """An inquiry of Bank A that ends reported, or with a contribution of Bank D whose disclosure is false; its id."""
    made = there.enter()
    if lie:
        there.consortium.asleep.add("Bank D")
    for _ in range(6):
        there.consortium.work(but="Bank A")
        there.bank.node.round()
    inquiry = bytes.fromhex(there.bank.applications.get(made).seen["inquiry"][2:])
    if lie:
        opened = there.consortium["Bank A"].desk.state.inquiries[inquiry]
        payload = bytearray(opened.payload(0))
        payload[-1] ^= 1  # somebody else's ciphertext, changed: its seed cannot fit
        signer = ChainSigner(
            there.consortium.chain.web3, there.consortium.accounts["Bank D"], there.consortium.deployed.consortium
        )
        signer.transact(Call(opened.joint_credit, "contribute", (inquiry, 3, bytes(payload))))
        there.consortium["Bank D"].desk.outbox.adopt()  # the liar's own program may
        there.consortium.asleep.discard("Bank D")
        for _ in range(3):
            there.bank.node.round()
    return inquiry


def verdicts(found: Site, inquiry: bytes) -> list[tuple[bool, int]]:
    found.node.round()
    found.node.round()
    return [
        (e.valid, e.culprits)
        for e in found.node.party.follower.events
        if isinstance(e, Attested) and e.inquiry == inquiry
    ]


def test_verdict_by_hand__valid__waits_for_a_person_and_is_given_once(there: World, served: Site) -> None:
    inquiry = ask(there)
    client, path = served.sign_in("supervisor"), f"/supervision/inquiries/{to_hex(inquiry)}"
    assert verdicts(served, inquiry) == []
    assert ">Attest</button>" in client.get(path).text
    assert "1 inquiry awaits your verdict" in client.get("/supervision").text

    void = client.post(f"{path}/attest", data={"verdict": "void", "culprits": "3", "reason": "I dislike it"})
    assert (void.status_code, "say something else" in void.text) == (409, True)
    flaky = served.node.party.outbox.signer = Flaky(served.node.party.outbox.signer)
    assert client.post(f"{path}/attest", data={"verdict": "valid"}).status_code == 303
    served.node.round()
    assert served.node.status().state == "waiting"
    flaky.down = False

    assert verdicts(served, inquiry) == [(True, 0)]
    assert served.node.party.supervisor.state.inquiries[inquiry].stage is Stage.VALID
    assert client.post(f"{path}/attest", data={"verdict": "valid"}).status_code == 409
    there.settle()


def test_void_without_names__with_a_reason__ends_the_inquiry_and_suspends_nobody(there: World, served: Site) -> None:
    inquiry = ask(there)
    client, path = served.sign_in("supervisor"), f"/supervision/inquiries/{to_hex(inquiry)}"
    assert verdicts(served, inquiry) == []
    assert "Void, naming nobody" in client.get(path).text
    suspended = [m.suspended for m in served.node.party.supervisor.state.members.values()]

    assert client.post(f"{path}/attest", data={"verdict": "unnamed", "reason": " no "}).status_code == 422
    assert verdicts(served, inquiry) == []
    given = {"verdict": "unnamed", "reason": "the customer never asked for credit"}
    assert client.post(f"{path}/attest", data=given).status_code == 303

    assert verdicts(served, inquiry) == [(False, 0)]
    state = served.node.party.supervisor.state
    assert [m.suspended for m in state.members.values()] == suspended
    assert "Void; nobody is named" in client.get(path).text
    entry = served.audit.search(action="inquiry.attested")[0]
    assert (entry.why, entry.facts["valid"], entry.facts["culprits"]) == (given["reason"], False, [])
    assert client.post(f"{path}/attest", data=given).status_code == 409
    there.consortium.supervisor.outbox.compare()


def test_verdict_by_hand__void__names_only_whom_the_checks_name(there: World, served: Site) -> None:
    inquiry = ask(there, lie=True)
    client, path = served.sign_in("supervisor"), f"/supervision/inquiries/{to_hex(inquiry)}"
    assert verdicts(served, inquiry) == []
    text = client.get(path).text
    assert "Void, naming Bank D" in text
    assert "not judged: a contribution is wrong" in text  # nobody calls the honest inquirer's report false
    assert ">Attest</button>" not in text

    for form, status in (
        ({"verdict": "valid"}, 409),
        ({"verdict": "void", "culprits": "2", "reason": "it was Bank C"}, 409),
        ({"verdict": "void", "culprits": "2,3", "reason": "both of them"}, 409),
        ({"verdict": "void", "culprits": "3", "reason": " no "}, 422),
    ):
        assert client.post(f"{path}/attest", data=form).status_code == status, form
    assert verdicts(served, inquiry) == []
    given = {"verdict": "void", "culprits": "3", "reason": "its disclosure is false"}
    assert client.post(f"{path}/attest", data=given).status_code == 303

    assert verdicts(served, inquiry) == [(False, 1 << 3)]
    state = served.node.party.supervisor.state
    assert state.inquiries[inquiry].stage is Stage.VOID
    assert state.members[3].suspended
    entry = served.audit.search(action="inquiry.attested")[0]
    assert (entry.why, entry.facts["valid"], entry.facts["culprits"]) == ("its disclosure is false", False, ["Bank D"])
    there.consortium.supervisor.outbox.compare()


def test_verdict_by_hand__where_the_server_gives_them_itself__is_refused(there: World) -> None:
    answer = there.supervisor.sign_in("supervisor").post(f"/supervision/inquiries/{inquiry_of(there)}/attest")

    assert (answer.status_code, "by itself" in answer.text) == (409, True)


def story(found: Site) -> dict[str, Any]:
    """All that the pages tell: inquiries, checks, findings, figures, proposals."""
    client = found.sign_in("supervisor")
    told: dict[str, Any] = {"list": client.get("/api/supervision/inquiries").json()}
    told["alarms"] = [a["text"] for a in client.get("/api/supervision/alarms").json() if a["kind"] == "invalid"]
    for row in told["list"]:
        path = f"/supervision/inquiries/{row['id']}"
        kept = {"kind": "csv", "reason": "compare before and after"}
        told[row["id"]] = client.post(f"{path}/figures/export", data=kept).text
        with found.node.locked() as node:
            inquiry = node.supervisor.state.inquiries[bytes.fromhex(row["id"][2:])]
            told[row["id"], "findings"] = oversight.detail(node, inquiry)["findings"]
    for page in ("/supervision/institutions.csv", "/proposals"):
        told[page] = client.get(page).text
    return told


def test_store_deleted__the_server_rebuilds_everything_from_the_ledger(there: World, tmp_path: Path) -> None:
    path = tmp_path / "supervisor.sqlite"
    found, store = site(there, path)
    found.node.round()
    before = story(found)
    shut(found, store)
    for file in tmp_path.glob("supervisor.sqlite*"):
        file.unlink()

    found, store = site(there, path)
    try:
        found.node.round()
        after = story(found)

        # (1) the same inquiries, checks, findings and figures, a liar's among them.
        assert len(before["list"]) >= 4
        assert {row["stage"] for row in before["list"]} == {"valid", "void"}
        assert any("Bank D" in text for text in before["alarms"])
        assert {line["row"] for line in csv.DictReader(io.StringIO(before[before["list"][-1]["id"]]))} == {
            "institution",
            "sum",
            "reported",
        }
        assert after == before

        # (2) it noticed that its store is younger than its account, and works on.
        assert found.node.party.outbox.foreign == ""
        found.audit.append("console", "thing.done")
        anchor = DailyAnchor(found.audit, clock=lambda: time.time() + 2 * DAY)
        assert len(anchor(found.node.party)) == 1
        found.node.round()
        with found.node.locked() as node:
            assert own_anchors(node)[-1].hash == found.audit.head()[1]
    finally:
        shut(found, store)


# --------------------------------------------------------------------- accounts, readiness and period keys


def cells(page: str, caption: str) -> list[list[str]]:
    """The body of a table of a page, as text."""
    table = page[page.index(f'<caption class="unseen">{caption}</caption>') :].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def supervisor_sends(there: World, function: str, *arguments: Any) -> None:
    """What the supervisor's owner account does, somewhere else."""
    consortium = there.consortium
    signer = ChainSigner(consortium.chain.web3, consortium.supervisor_owner, consortium.deployed.consortium)
    signer.transact(Call("consortium", function, arguments))
    there.supervisor.node.round()


def test_institutions__page_and_file__show_accounts_and_readiness(there: World) -> None:
    consortium, client = there.consortium, there.supervisor.sign_in("supervisor")
    consortium["Bank C"].sync()
    consortium["Bank C"].desk.store.put("meta", "readiness", {"held": True})
    consortium["Bank C"].membership.switch(False)
    consortium.advance(2)
    there.supervisor.node.round()

    page = client.get("/supervision/institutions").text
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(client.get("/supervision/institutions.csv").text))}

    accounts = {row[0]: row[1:] for row in cells(page, "Accounts")}
    assert accounts["Bank A"] == [consortium.owners["Bank A"].address, consortium.accounts["Bank A"].address]
    assert accounts["this supervisor"] == [
        consortium.supervisor_owner.address,
        consortium.supervisor_account.address,
    ]
    readiness = {row[0]: row[1] for row in cells(page, "Institutions")}
    assert (readiness["Bank A"], readiness["Bank C"], readiness["Bank D"]) == ("on", "off", "suspended")
    assert (rows["Bank A"]["ready"], rows["Bank A"]["ready_next"]) == ("True", "True")
    assert (rows["Bank C"]["ready"], rows["Bank C"]["ready_next"]) == ("False", "False")
    assert rows["Bank B"]["account"] == consortium.accounts["Bank B"].address
    assert "perator" not in page


def test_inquiry__page__says_that_consent_is_the_inquirers_word(there: World) -> None:
    text = there.supervisor.sign_in("supervisor").get(f"/supervision/inquiries/{inquiry_of(there)}").text

    assert "Consent is the inquirer&#39;s word: customers have no key yet" in text


def test_period_keys__announced_in_force_succeeded_and_ended__are_shown(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        consortium, client = there.consortium, there.supervisor.sign_in("supervisor")

        def states() -> list[list[str]]:
            there.supervisor.node.round()
            return [row[:2] for row in cells(client.get("/supervision/institutions").text, "Period keys")]

        def kinds() -> set[str]:
            return {alarm["kind"] for alarm in client.get("/api/supervision/alarms").json()}

        def announce(version: int) -> None:
            keys, realm = consortium.supervisor_keys, consortium.ledger.realm
            consortium.advance(DAY)
            previous, made = keys.supervisor_versions()[version - 1], keys.create_supervisor_key(version).public
            signature = sign_key(consortium.supervisor_owner, realm, SUPERVISOR, version, made, previous)
            supervisor_sends(there, "announcePeriodKey", made, signature)

        # (1) one in force, and one that waits for members to accept it.
        assert states() == [["1", "in force"]]
        announce(2)
        newest, oldest = states()
        assert (newest[0], oldest) == ("2", ["1", "in force"])
        assert newest[1].startswith("announced awaits: Bank A, Bank B, Bank C, Bank D; without them from")

        # (2) accepted by all, it takes the place of the first.
        public = frozenset(consortium.supervisor_keys.supervisor_versions().values())
        for institution in consortium.institutions.values():
            institution.follower.use_pins(replace(consortium.pins, period_keys=public))
        there.settle()
        assert states() == [["2", "in force"], ["1", "succeeded"]]

        # (3) an announced key is ended, then the one in force: nothing can open.
        announce(3)
        supervisor_sends(there, "endPeriodKey", consortium.supervisor_owner.address, 3)
        assert states() == [["3", "ended"], ["2", "in force"], ["1", "succeeded"]]
        assert "no_period_key" not in kinds()
        supervisor_sends(there, "endPeriodKey", consortium.supervisor_owner.address, 2)
        assert states() == [["3", "ended"], ["2", "ended"], ["1", "succeeded"]]
        assert "no_period_key" in kinds()
        assert "No period key is in force" in client.get("/supervision/alarms").text
