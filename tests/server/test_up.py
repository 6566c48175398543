"""A consortium of processes: it starts, survives what is killed, goes on where it was, and leaves nothing behind.

Branches: the plan - what cannot be run is told before anything starts; the whole - pages, links, an inquiry; a kill -
of a furnisher, of the inquirer between any two steps, of `up` itself; a stop by signal; a start from the directory; the
serving process - what it refuses, a ledger that is down; Anvil; PostgreSQL.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from postgres import PASSWORD, Cluster

from mpcredit.books import LoanBook
from mpcredit.chain import ChainLedger, anvil
from mpcredit.chain.client import Endpoint
from mpcredit.config import institution_from_config, read_config
from mpcredit.consent import Consent, Purpose
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidFile, LedgerError, MpcreditError, StoreError
from mpcredit.events import Attested, Contributed, Event, Opened, ReadinessLapsed, ReadinessSet, Reported
from mpcredit.identity import Subject
from mpcredit.inquirer import Request, RequestState
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database
from mpcredit.server.people import People
from mpcredit.server.plan import PERIOD_SECONDS, RECORD, TERMS, VERSION
from mpcredit.server.rpc import ChainServer
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import SqlStore
from mpcredit.server.up import Party, Plan, Running, up

UP = "import sys\nfrom mpcredit.cli.up import up\nimport typer\ntyper.run(up)\n"
"""`mpcredit up` as a process."""

CRASH = """
import os, signal, sys
from mpcredit.chain.client import ChainSigner
from mpcredit.server import serve
from mpcredit.server.store import SqlStore

left = int(sys.argv.pop(1))

def deadly(kind, name):
    original = getattr(kind, name)

    def step(self, *arguments, **named):
        global left
        result = original(self, *arguments, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(kind, name, step)

for name in ("put", "insert", "delete", "outbox_add", "outbox_update"):
    deadly(SqlStore, name)
deadly(ChainSigner, "broadcast")
sys.exit(serve.main())
"""
"""`mpcredit serve` that is killed, as by kill -9, right after its n-th step: a write to the store, or a transaction sent."""

_ports = itertools.count(21_000 + 40 * (os.getpid() % 500), 40)


def free_port() -> int:
    """A range of ports that no other test uses."""
    for port in _ports:
        with contextlib.ExitStack() as stack:
            try:
                for offset in range(8):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except OSError:
                continue
        return port
    raise AssertionError


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Four institutions and a supervisor; tests leave all of them running."""
    with up(institutions=4, bits=2048, port=free_port(), directory=tmp_path_factory.mktemp("up")) as made:
        yield made


@pytest.fixture
def whole(running: Running) -> Iterator[Running]:
    """Whatever a test kills runs again after it."""
    yield running
    for party in running.parties:
        if not running.alive(party):
            running.start(party)
    await_ready(running)


def await_ready(running: Running, *parties: Party) -> None:
    """Wait until parties are ready. The embedded chain's time stands still, and a switch counts from the next period on."""
    end = time.monotonic() + 90
    while True:
        try:
            return running.await_ready(*parties, timeout=5)
        except MpcreditError:
            assert time.monotonic() < end
            Endpoint(running.chain_url).raw("advance", "mpcredit_advance", [2 * PERIOD_SECONDS])


@contextlib.contextmanager
def store_of(party: Party, *, claim: bool = False) -> Iterator[SqlStore]:
    """A party's store, also beside its process."""
    settings = ServerSettings.load(party.config)
    database = Database(settings.database, create=False, password=settings.database_password())
    store = SqlStore(database, claim=claim)
    try:
        yield store
    finally:
        store.close()
        database.close()


_used: set[bytes] = set()


def customer(party: Party) -> Subject:
    """A customer whom no test has asked about."""
    book = LoanBook.read_csv(party.directory / "book.csv")
    canonical = next(canonical for canonical in book.records if canonical not in _used)
    _used.add(canonical)
    return next(subject for subject in book.subjects() if subject.canonical == canonical)


def place_request(running: Running, party: Party, subject: Subject) -> str:
    """Put a request into the store of a party whose process does not run."""
    secret = party.passphrase.read_text(encoding="utf-8").strip()
    with store_of(party, claim=True) as store:
        bank = institution_from_config(party.config, ask=lambda _purpose: secret, store=store)
        bank.sync()
        consent = Consent.grant(subject, to=bank, purpose=Purpose.NEW_CREDIT, days=30)
        return bank.inquire([subject], consents=[consent], officer="officer").id


def request_of(party: Party, number: str) -> Request:
    """Where a request stands, read beside the process."""
    with store_of(party) as store:
        value = store.get("request", number)
    assert value is not None
    return Request(number, value)


def await_final(party: Party, number: str, seconds: float = 120.0) -> Request:
    """Wait for the end of a request."""
    end = time.monotonic() + seconds
    while not (found := request_of(party, number)).state.final:
        assert time.monotonic() < end, f"{found.state}: {found.note}"
        time.sleep(0.2)
    return found


def await_note(party: Party, number: str, words: str, seconds: float = 60.0) -> None:
    """Wait until a request says something."""
    end = time.monotonic() + seconds
    while words not in (found := request_of(party, number)).note:
        assert time.monotonic() < end, f"{found.state}: {found.note}"
        time.sleep(0.2)


def await_event(running: Running, wanted: Callable[[Event], bool], seconds: float = 60.0) -> None:
    """Wait until something is on the ledger."""
    ledger, end = ledger_of(running), time.monotonic() + seconds
    while not any(map(wanted, ledger.events(running.plan.first_block, ledger.head().number))):
        assert time.monotonic() < end
        time.sleep(0.2)


def ledger_of(running: Running) -> ChainLedger:
    """The ledger, read by nobody's account."""
    return ChainLedger(running.chain_url, running.plan.consortium, first_block=running.plan.first_block)


def assert_once(running: Running, request: Request, members: int) -> None:
    """One inquiry came of a request, each step of which is on the ledger once; no account sent anything in vain."""
    assert request.state is RequestState.ATTESTED
    assert len(request.value["attempts"]) == 1
    ledger = ledger_of(running)
    events = ledger.events(running.plan.first_block, ledger.head().number)
    own = [event for event in events if getattr(event, "inquiry", None) == request.inquiry]
    found = [
        kind.__name__ for event in own for kind in (Opened, Contributed, Reported, Attested) if type(event) is kind
    ]
    assert sorted(found) == sorted(["Opened", *["Contributed"] * (members - 1), "Reported", "Attested"])
    # Both put the head of their audit log on the ledger.
    assert all(any(event.anchor) for event in own if isinstance(event, Reported | Attested))
    for party in running.parties:
        with store_of(party) as store:
            rows = store.outbox_rows()
        assert [row.nonce for row in sorted(rows, key=lambda row: row.nonce)] == list(range(len(rows)))
        mined = [row for row in rows if row.state != "prepared"]
        assert all(ledger.outcome(row.tx_hash) is not None for row in mined if row.state == "mined")
        assert not [row for row in rows if row.state == "failed"]


def get(party: Party, path: str) -> tuple[int, str]:
    """A page."""
    connection = http.client.HTTPConnection("127.0.0.1", party.port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def crash_until(running: Running, party: Party, done: Any, most: int = 60) -> int:
    """Run a party's server so that it dies after 1, 2, 3, 4, 1, … steps, again and again, until `done()`.

    Returns:
        How often it was killed.
    """
    if running.alive(party):
        running.kill(party)  # its readiness stays on the ledger
    running.ended()
    environment = {**os.environ, "MPCREDIT_PASSPHRASE_FILE": str(party.passphrase)}
    killed = 0
    with party.log.open("ab") as log:
        for steps in itertools.islice(itertools.cycle((1, 2, 3, 4)), most):
            command = [sys.executable, "-c", CRASH, str(steps), "--config", str(party.config)]
            with subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            ) as process:
                while process.poll() is None:
                    if done():
                        process.kill()
                        process.wait()
                        return killed
                    time.sleep(0.1)
            assert process.returncode == -signal.SIGKILL, party.log.read_text()[-2000:]
            killed += 1
            if done():
                return killed
    raise AssertionError(f"not done after {killed} kills")


# --------------------------------------------------------------------- the plan


@pytest.mark.parametrize(
    ("wishes", "problem"),
    [
        ({"institutions": 2}, "2 institutions"),
        ({"institutions": 27}, "27 institutions"),
        ({"bits": 1024}, "--bits"),
        ({"bits": 2050}, "--bits"),
        ({"port": 80}, "--port"),
        ({"database": "mysql://x"}, "--database"),
        ({"chain": "ganache"}, "--chain"),
    ],
)
def test_plan__what_cannot_be_run__is_told(wishes: dict[str, Any], problem: str) -> None:
    with pytest.raises(MpcreditError, match=problem), up(**wishes):
        pass


def test_plan__directory_with_something_else__is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")

    with pytest.raises(InvalidFile, match="is not empty"), up(directory=tmp_path):
        pass

    assert (tmp_path / "diary.txt").read_text() == "mine"


def test_plan__other_wishes_than_the_directory_says__are_refused(tmp_path: Path) -> None:
    record = {"format": "mpcredit/up", "version": VERSION, **vars(Plan(institutions=4))}
    (tmp_path / RECORD).write_text(json.dumps(record))

    with pytest.raises(InvalidFile, match="says institutions 4, not 6"), up(directory=tmp_path, institutions=6):
        pass


def test_plan__damaged_record__is_told(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"format": "something else"}')

    with pytest.raises(InvalidFile, match="is not what this version wrote"), up(directory=tmp_path):
        pass


def test_plan__port_in_use__is_told(tmp_path: Path) -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 2))
        taken.listen()
        with pytest.raises(MpcreditError, match=f"port {port + 2} is in use"), up(directory=tmp_path, port=port):
            pass


def test_plan__node_that_is_down__is_told_before_anything_is_made(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(LedgerError, match="cannot be reached"), up(directory=tmp_path, chain=url, port=free_port()):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_plan__password_of_the_database__is_not_written_into_the_record(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError) as caught,
        up(directory=tmp_path, port=free_port(), database="postgresql://me:geheim@127.0.0.1:1/postgres"),
    ):
        pass

    assert "geheim" not in str(caught.value)
    assert all("geheim" not in path.read_text(errors="replace") for path in tmp_path.iterdir() if path.is_file())


# --------------------------------------------------------------------- the whole


@pytest.mark.slow
def test_up__every_party_is_a_process_that_is_given_its_own_files_only(running: Running) -> None:
    pids = {running.pid(party) for party in running.parties}

    assert len(pids) == 5
    for party in running.parties:
        arguments = Path(f"/proc/{running.pid(party)}/cmdline").read_text().split("\0")
        environment = Path(f"/proc/{running.pid(party)}/environ").read_text().split("\0")
        assert str(party.config) in arguments
        ours = [line for line in environment if line.startswith("MPCREDIT_") and "SERVER" not in line]
        assert [line for line in ours if "ANVIL" not in line] == [f"MPCREDIT_PASSPHRASE_FILE={party.passphrase}"]
        text = party.config.read_text()
        assert not [other for other in running.parties if other != party and str(other.directory) in text]
        assert read_config(party.config).url == running.chain_url
        assert party.directory.stat().st_mode & 0o077 == 0
        assert party.passphrase.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_up__every_role_has_a_link_that_opens(running: Running) -> None:
    links = {(link.party.name, link.role) for link in running.links}

    assert len(links) == len(running.links) == 4 * 4 + 4
    for link in running.links:
        assert link.url.startswith(link.party.url + "/")
        status, page = get(link.party, link.url.removeprefix(link.party.url))
        assert status == 200
        assert "<form" in page


@pytest.mark.slow
def test_killed_furnisher__others_go_on_without_it_and_with_it_again(whole: Running) -> None:
    bank, victim = whole.party("Bank A"), whole.party("Bank C")

    whole.kill(victim)

    assert whole.ended() == [(victim, "ended by SIGKILL")]
    assert all(get(party, "/readyz")[0] == 200 for party in whole.parties if party != victim)
    # It stays ready on the ledger until it has been silent: the first inquiry waits for it, the next goes on without it.
    whole.kill(bank)
    waits = place_request(whole, bank, customer(bank))
    whole.start(bank)
    await_note(bank, waits, "waiting for Bank C, until")
    Endpoint(whole.chain_url).raw("advance", "mpcredit_advance", [TERMS.silence_seconds + 1])
    await_event(whole, lambda event: isinstance(event, ReadinessLapsed) and event.members == 0b0100)
    whole.kill(bank)
    goes_on = place_request(whole, bank, customer(bank))
    whole.start(bank)
    assert_once(whole, await_final(bank, goes_on), 3)

    whole.start(victim)
    await_ready(whole, victim)
    assert_once(whole, await_final(bank, waits), 4)


@pytest.mark.slow
def test_inquirer_killed_between_any_two_steps__inquiry_is_finished_once(whole: Running) -> None:
    bank = whole.party("Bank A")
    whole.kill(bank)
    request = place_request(whole, bank, customer(bank))

    killed = crash_until(whole, bank, lambda: request_of(bank, request).state.final)

    assert killed >= 4
    assert_once(whole, request_of(bank, request), 4)


@pytest.mark.slow
def test_furnisher_killed_between_any_two_steps__answers_once(whole: Running) -> None:
    bank, furnisher = whole.party("Bank A"), whole.party("Bank B")
    whole.kill(bank)
    request = place_request(whole, bank, customer(bank))
    whole.kill(furnisher)
    whole.start(bank)
    while request_of(bank, request).state in (RequestState.WANTED, RequestState.OPENING):
        time.sleep(0.2)

    killed = crash_until(whole, furnisher, lambda: request_of(bank, request).state.final)

    assert killed >= 1
    assert_once(whole, request_of(bank, request), 4)


@pytest.mark.slow
def test_supervisor_killed_between_any_two_steps__attests_once(whole: Running) -> None:
    bank, supervisor = whole.party("Bank A"), whole.party("Supervisor")
    whole.kill(bank)
    request = place_request(whole, bank, customer(bank))
    whole.start(bank)

    crash_until(whole, supervisor, lambda: request_of(bank, request).state.final)

    assert_once(whole, request_of(bank, request), 4)


@pytest.mark.slow
def test_supervisors_database_deleted__is_rebuilt_from_the_ledger__and_verdicts_by_hand_wait(whole: Running) -> None:
    bank, supervisor = whole.party("Bank A"), whole.party("Supervisor")
    whole.kill(bank)
    first = place_request(whole, bank, customer(bank))
    whole.start(bank)
    assert await_final(bank, first).state is RequestState.ATTESTED
    text = supervisor.config.read_text()
    with person(supervisor) as before:
        stages = {row["id"]: row["stage"] for row in before.get("/api/supervision/inquiries").json()}
        figures = {q: before.post(f"/supervision/inquiries/{q}/figures/export", data=REASON).text for q in stages}
    assert any("institution" in lines for lines in figures.values())

    # (1) the process dies, its database is lost; from now on its people give the verdicts.
    whole.kill(supervisor)
    path = Path(ServerSettings.load(supervisor.config).database.removeprefix("sqlite:///"))
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    supervisor.config.write_text(text.replace("[server]\n", '[server]\nverdicts = "by_hand"\n', 1))
    whole.start(supervisor)
    whole.await_ready(supervisor)
    try:
        with person(supervisor) as now:
            assert {row["id"]: row["stage"] for row in now.get("/api/supervision/inquiries").json()} == stages
            for inquiry, lines in figures.items():
                assert now.post(f"/supervision/inquiries/{inquiry}/figures/export", data=REASON).text == lines

            # (2) an inquiry waits at its report until a person attests it.
            whole.kill(bank)
            second = place_request(whole, bank, customer(bank))
            whole.start(bank)
            end = time.monotonic() + 60
            while not (due := [q for q, stage in _stages(now).items() if stage == "reported"]):
                assert time.monotonic() < end
                time.sleep(0.2)
            time.sleep(1.5)  # rounds in which it could have attested by itself
            assert _stages(now)[due[0]] == "reported"
            end = time.monotonic() + 30
            while now.post(f"/supervision/inquiries/{due[0]}/attest", data={"verdict": "valid"}).status_code != 303:
                assert time.monotonic() < end
                time.sleep(0.2)
            assert await_final(bank, second).state is RequestState.ATTESTED
    finally:
        whole.kill(supervisor)
        supervisor.config.write_text(text)


REASON = {"kind": "csv", "reason": "compared before and after"}


def _stages(client: httpx.Client) -> dict[str, str]:
    return {row["id"]: row["stage"] for row in client.get("/api/supervision/inquiries").json()}


@contextlib.contextmanager
def person(party: Party) -> Iterator[httpx.Client]:
    """A browser of a supervisor, made beside the process as at its console."""
    settings = ServerSettings.load(party.config)
    database = Database(settings.database, create=False)
    people = People(database, AuditLog(database))
    if people.get("inspector") is None:
        people.create("inspector", "Inspector", ["supervisor"], by=None, why="test")
    token = people.issue_sign_in("inspector", by=None)
    database.close()
    with httpx.Client(base_url=party.url, headers={"Origin": party.url}, timeout=60) as client:
        assert client.post("/sign-in", data={"token": token}).status_code == 303
        yield client


@pytest.mark.slow
def test_stopped_institution__is_not_ready_on_the_ledger(whole: Running) -> None:
    bank = whole.party("Bank D")
    ledger = ledger_of(whole)

    os.kill(whole.pid(bank), signal.SIGTERM)
    await_event(whole, lambda event: isinstance(event, ReadinessSet) and event.member == 3 and not event.ready)
    # The embedded chain's time stands still between transactions; on other ledgers the period ends by itself.
    Endpoint(whole.chain_url).raw("advance", "mpcredit_advance", [3 * PERIOD_SECONDS])

    end = time.monotonic() + 30
    while whole.alive(bank):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert whole.ended() == [(bank, "ended with status 0")]
    events = ledger.events(whole.plan.first_block, ledger.head().number)
    own = [event for event in events if isinstance(event, ReadinessSet) and event.member == 3]
    assert not own[-1].ready


# --------------------------------------------------------------------- the end, and again


def children(pid: int) -> set[int]:
    """Processes that a process started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.add(int(path.parent.name))
    return found


def gone(pids: set[int], seconds: float = 20.0) -> bool:
    """Whether processes end in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_command__whatever_ends_it__leaves_no_process(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", UP, "--json", "--institutions", "3", "--bits", "2048", "--port", str(free_port())]
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    with process:
        assert process.stdout is not None
        text = "".join(iter(process.stdout.readline, "}\n")) + "}"
        told = json.loads(text)
        all_children = children(process.pid)
        assert {party["pid"] for party in told["parties"]} <= all_children
        assert len(all_children) == 5  # three institutions, the supervisor, the chain
        assert set(told["parties"][0]["sign_in"]) == {"officer", "reviewer", "administrator", "auditor"}

        process.send_signal(number)
        process.wait(60)

    assert gone(all_children)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert Path(told["directory"]).exists() == (number == signal.SIGKILL)
    assert "Traceback" not in (tmp_path / "errors").read_text()
    shutil.rmtree(told["directory"], ignore_errors=True)


@pytest.mark.slow
def test_command__interrupted_while_it_starts__leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UP, "--institutions", "3", "--bits", "2048", "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("starting the servers"):
                break
        time.sleep(0.5)
        all_children = children(process.pid)
        assert all_children

        process.send_signal(signal.SIGTERM)
        _out, errors = process.communicate(timeout=60)

    assert gone(all_children)
    assert process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.slow
def test_directory__started_again__is_the_same_consortium(tmp_path: Path) -> None:
    port = free_port()
    with up(institutions=3, bits=2048, port=port, directory=tmp_path) as first:
        consortium, head = first.plan.consortium, ledger_of(first).head()
        bank = first.party("Bank B")
        first.kill(bank)
        request = place_request(first, bank, customer(bank))
        old = {link.url for link in first.links}
        with pytest.raises(StoreError, match="runs already"), up(directory=tmp_path):
            pass

    with up(directory=tmp_path) as again:
        assert again.plan == first.plan
        assert again.plan.consortium == consortium
        known = ledger_of(again).block(head.number)
        assert known is not None
        assert known.hash == head.hash
        assert not old & {link.url for link in again.links}
        assert_once(again, await_final(again.party("Bank B"), request), 3)


# --------------------------------------------------------------------- other chains and databases


@pytest.mark.slow
@pytest.mark.anvil
def test_anvil__kept_in_the_directory__goes_on(tmp_path: Path) -> None:
    try:
        anvil.find_anvil()
    except LedgerError as error:
        pytest.skip(str(error))
    with up(institutions=3, bits=2048, port=free_port(), directory=tmp_path, chain="anvil") as first:
        bank = first.party("Bank A")
        first.kill(bank)
        request = place_request(first, bank, customer(bank))
        first.start(bank)
        assert_once(first, await_final(bank, request), 3)
        consortium = first.plan.consortium

    with up(directory=tmp_path) as again:
        assert again.plan.consortium == consortium
        assert_once(again, request_of(again.party("Bank A"), request), 3)
        second = again.party("Bank B")
        again.kill(second)
        request = place_request(again, second, customer(second))
        again.start(second)
        assert_once(again, await_final(second, request), 3)


@pytest.mark.slow
def test_node_by_url__and_postgresql__serve_as_well(tmp_path: Path, cluster: Cluster) -> None:
    def databases() -> list[str]:
        with cluster.connect() as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'mpcredit%'").fetchall()
        return sorted(str(row[0]) for row in rows)

    os.environ["MPCREDIT_FUNDING_KEY"] = to_hex(b"\x07" * 32)
    from eth_account import Account

    with ChainServer().running() as url:
        Endpoint(url).raw("fund", "mpcredit_fund", [Account.from_key(b"\x07" * 32).address])
        options = {"institutions": 3, "bits": 2048, "chain": url, "database": cluster.url("postgres")}
        with up(port=free_port(), directory=tmp_path, **options) as kept:  # type: ignore[arg-type]
            bank = kept.party("Bank A")
            kept.kill(bank)
            request = place_request(kept, bank, customer(bank))
            kept.start(bank)
            assert_once(kept, await_final(bank, request), 3)
            assert PASSWORD not in bank.config.read_text()
            assert PASSWORD not in (tmp_path / RECORD).read_text()
        assert len(databases()) == 4
        with up(directory=tmp_path) as again:
            assert_once(again, request_of(again.party("Bank A"), request), 3)
        with up(port=free_port(), **options) as passing:  # type: ignore[arg-type]
            assert len(databases()) == 8
            assert get(passing.parties[0], "/readyz")[0] == 200
        assert len(databases()) == 4
    del os.environ["MPCREDIT_FUNDING_KEY"]


# --------------------------------------------------------------------- the serving process


def serve(config: Path, **environment: str) -> subprocess.Popen[str]:
    """`mpcredit serve` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "mpcredit.server.serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def test_serve__no_configuration__is_told(tmp_path: Path) -> None:
    with serve(tmp_path / "bank.toml") as process:
        out, _ = process.communicate(timeout=60)

    assert process.returncode == InvalidFile.exit_code
    assert "there is no such file" in out
    assert "remedy: " in out


@pytest.mark.slow
def test_serve__second_process_of_a_party__is_refused(running: Running, tmp_path: Path) -> None:
    bank = running.party("Bank B")

    with serve(bank.config, MPCREDIT_PASSPHRASE_FILE=str(bank.passphrase)) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == InvalidFile.exit_code
    assert "cannot be listened on" in out

    other = bank.directory / "other.toml"
    other.write_text(bank.config.read_text().replace(f"port = {bank.port}", f"port = {free_port()}"))
    with serve(other, MPCREDIT_PASSPHRASE_FILE=str(bank.passphrase)) as process:
        out, _ = process.communicate(timeout=60)
    other.unlink()
    assert process.returncode == StoreError.exit_code
    assert "error: " in out
    assert get(bank, "/readyz")[0] == 200


@pytest.mark.slow
def test_serve__ledger_down_at_start__waits_and_stops_when_told(running: Running, tmp_path: Path) -> None:
    bank = running.party("Bank B")
    elsewhere = tmp_path / "bank"
    elsewhere.mkdir(mode=0o700)
    text = bank.config.read_text().replace(running.chain_url, f"http://127.0.0.1:{free_port()}")
    (elsewhere / "bank.toml").write_text(text.replace(f"port = {bank.port}", f"port = {free_port()}"))
    for name in ("founding.toml", "book.csv", "keys"):
        (elsewhere / name).symlink_to(bank.directory / name)
    with serve(elsewhere / "bank.toml", MPCREDIT_PASSPHRASE_FILE=str(bank.passphrase)) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "waiting for the ledger" in line)
        assert "cannot be reached" in line

        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    assert process.returncode == 0


@pytest.mark.slow
def test_serve__loan_book_exchanged__is_read_anew(whole: Running) -> None:
    bank = whole.party("Bank D")
    path = bank.directory / "book.csv"
    before = path.read_text()
    lines = before.splitlines()

    new = path.with_name("book.new")
    new.write_text("\n".join(lines[:-1]) + "\n")
    new.rename(path)

    end = time.monotonic() + 20
    while f"read the loan book anew: {len(lines) - 5} customers" not in bank.log.read_text():
        assert time.monotonic() < end, bank.log.read_text()[-1000:]
        time.sleep(0.2)
    path.write_text("nonsense")
    while "until then the book from before is used" not in bank.log.read_text():
        assert time.monotonic() < end + 20
        time.sleep(0.2)
    path.write_text(before)
