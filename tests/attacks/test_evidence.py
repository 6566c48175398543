"""A file of evidence is altered, made up, or tells an inquirer's lie (R40; protocol.md section 6).

Each part is changed in turn. Where a signed transaction shows who lied, that member is named; where only unsigned parts
(openings, salt) do not fit, nobody is: else whoever passes a file on could blame its inquirer. A history of members is
signed by nobody, so a file can be made up under any consortium's address. A reader that knows a roster refuses it, and so does
a reader with the founding file, because owners sign keys and service accounts. The variant knows nothing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from attackers import craft, inquiry_key, open_crafted, send
from eth_account.signers.local import LocalAccount
from fakes import JOINT_CREDIT, REALM, FakeTown, deterministic, figures, found_town, sign_naming, subject, two_keys

from mpcredit import events as ev
from mpcredit import evidence as evidence_module
from mpcredit import paillier, protocol
from mpcredit.chain import artifacts
from mpcredit.cli.verify import _look_up
from mpcredit.encoding import abi_encode, hex_bytes, keccak, to_hex
from mpcredit.errors import InvalidFile, InvalidMessage, InvalidProof, MpcreditError, ProtocolViolation
from mpcredit.events import Change
from mpcredit.evidence import Evidence, verify_evidence
from mpcredit.ledger.roster import CHANGE_TYPES, Pins, roster_link
from mpcredit.paillier import Opening
from mpcredit.schema import FIGURES_1, GUARANTEES_2, Schema
from mpcredit.sealing import report_commitment
from mpcredit.state import Inquiry, LedgerState

MEMBERS = 5


def signed(account: LocalAccount, function: str, arguments: tuple[Any, ...], nonce: int = 1) -> bytes:
    """A real signed transaction of a call of JointCredit."""
    fields = {
        "chainId": REALM.chain_id,
        "nonce": nonce,
        "gas": 10**6,
        "gasPrice": 1,
        "value": 0,
        "to": JOINT_CREDIT,
        "data": artifacts.joint_credit().call_data(function, arguments),
    }
    return bytes(account.sign_transaction(fields).raw_transaction)


def collected(town: FakeTown, request: str, *, openings: list[Opening] | None = None) -> Evidence:
    """The evidence of a request, with real transactions of those that made the fake ones."""
    bank = town[0]
    inquiry = town.inquiry(request)
    accounts = {a.address: a for a in (*town.accounts, town.supervisor_account)}
    sent = {t.hash: t for t in town.chain.seen}
    stored = bank.desk.store.get("report", to_hex(inquiry.id))
    assert stored is not None
    return evidence_module.collect(
        bank.desk.state,
        bank.follower.events,
        inquiry,
        lambda h: signed(accounts[sent[h].sender], sent[h].call.function, sent[h].call.arguments),
        openings=[(o.m, o.r) for o in openings]
        if openings
        else [(int(m, 16), int(r, 16)) for m, r in stored["openings"]],
        salt=hex_bytes(stored["salt"], 32),
    )


@pytest.fixture(scope="module")
def honest() -> tuple[FakeTown, str, Evidence]:
    """An attested inquiry and its evidence."""
    with pytest.MonkeyPatch.context() as patch, two_keys(patch):
        town = found_town(MEMBERS)
        request = town.ask(1)
        town.settle()
    return town, request, collected(town, request)


def changed(evidence: Evidence, change: Callable[[dict[str, Any]], Any]) -> Evidence:
    value = copy.deepcopy(dict(evidence.value))
    change(value)
    return Evidence(value)


def test_evidence__as_it_is__proves_the_totals(honest: tuple[FakeTown, str, Evidence]) -> None:
    town, _, evidence = honest

    verified = verify_evidence(
        evidence, consortium=REALM.consortium, roster=town[0].desk.state.roster, schema_hash=FIGURES_1.hash
    )

    assert verified.totals == [figures(31) | {"lenders": 5}]
    assert verified.attested
    assert verified.institutions == ("Bank A", "Bank B", "Bank C", "Bank D", "Bank E")


def flip(text: str) -> str:
    """Another hexadecimal text of the same length: one digit in the middle differs."""
    place = max(2, len(text) // 2)
    return text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for name, part in value.items() for leaf in leaves(part, (*path, name))]
    if isinstance(value, list):
        return [leaf for place, part in enumerate(value) for leaf in leaves(part, (*path, place))]
    return [path]


def test_evidence__any_one_part_changed__is_refused(honest: tuple[FakeTown, str, Evidence]) -> None:
    _, _, evidence = honest
    places = [
        path for path in leaves(dict(evidence.value)) if path not in (("format",), ("version",), ("verdict_block",))
    ]
    assert len(places) > 40

    for path in places:

        def change(value: Any, path: tuple[Any, ...] = path) -> None:
            for name in path[:-1]:
                value = value[name]
            old = value[path[-1]]
            value[path[-1]] = (
                flip(old)
                if isinstance(old, str) and path != ("schema",)
                else (old.replace("outstanding", "outstandin_") if isinstance(old, str) else old + 1)
            )

        with pytest.raises(MpcreditError):
            verify_evidence(changed(evidence, change), schema_hash=FIGURES_1.hash)


def test_evidence__any_part_of_another_type__is_malformed_and_never_crashes(
    honest: tuple[FakeTown, str, Evidence],
) -> None:
    _, _, evidence = honest
    places = {path[:depth] for path in leaves(dict(evidence.value)) for depth in range(1, len(path) + 1)}

    for path in sorted(places, key=str):
        for other in (None, 5, -1, 1.5, "", "0x", "\ud800", [], {}, [[]], True):

            def change(value: Any, path: tuple[Any, ...] = path, other: Any = other) -> None:
                for name in path[:-1]:
                    value = value[name]
                value[path[-1]] = other

            if path in (("format",), ("version",)) or (path[-1] == "attest" and not other):
                continue
            if path == ("verdict_block",) and other in (None, 5):
                continue  # a file made before the verdict, or another block, which only a node can contradict
            if path[0] == "roster" and other in (0, 1, 5, True) and path[-1] == "kind":
                continue  # may be the kind that stands there
            with pytest.raises((InvalidMessage, ProtocolViolation)):
                verify_evidence(changed(evidence, change))


MISSING: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no contribution of one member": lambda v: v["transactions"]["contribute"].pop(),
    "one contribution twice": lambda v: v["transactions"]["contribute"].append(v["transactions"]["contribute"][0]),
    "a contribution for another": lambda v: v["transactions"]["contribute"].__setitem__(
        0, v["transactions"]["contribute"][1]
    ),
    "no report": lambda v: v["transactions"].__setitem__("report", None),
    "the opening as the report": lambda v: v["transactions"].__setitem__("report", v["transactions"]["open"]),
    "no openings": lambda v: v.__setitem__("openings", []),
    "an opening too many": lambda v: v["openings"].append(v["openings"][0]),
    "a negative opening": lambda v: v["openings"][0].__setitem__(1, "-" + v["openings"][0][1]),
    "another contract": lambda v: v.__setitem__("joint_credit", REALM.consortium),
    "a history without its beginning": lambda v: v["roster"].pop(0),
    "no history": lambda v: v.__setitem__("roster", []),
    "two members swapped": lambda v: v["roster"].insert(1, v["roster"].pop(2)),
    "no transactions": lambda v: v.pop("transactions"),
    "a number for a text": lambda v: v.__setitem__("inquiry", 5),
}


@pytest.mark.parametrize("change", MISSING.values(), ids=MISSING.keys())
def test_evidence__parts_missing_or_moved__is_refused(
    honest: tuple[FakeTown, str, Evidence], change: Callable[[dict[str, Any]], Any]
) -> None:
    with pytest.raises(InvalidMessage):
        verify_evidence(changed(honest[2], change))


def test_evidence__without_the_verdict__proves_totals_but_not_that_they_were_attested(
    honest: tuple[FakeTown, str, Evidence],
) -> None:
    assert not verify_evidence(changed(honest[2], lambda v: v["transactions"].__setitem__("attest", None))).attested


def test_evidence__of_another_consortium_roster_or_schema_than_the_reader_knows__is_refused(
    honest: tuple[FakeTown, str, Evidence],
) -> None:
    for known in ({"consortium": JOINT_CREDIT}, {"roster": bytes(32)}, {"schema_hash": GUARANTEES_2.hash}):
        with pytest.raises(InvalidMessage):
            verify_evidence(honest[2], **known)  # type: ignore[arg-type]  # one of three names


def test_schema__names_of_two_figures_swapped__is_not_the_one_that_the_roster_names(
    honest: tuple[FakeTown, str, Evidence],
) -> None:
    # No transaction names the definition: debt and limit could change names, if the roster did not.
    one, two, *rest = FIGURES_1.fields
    swapped = Schema(1, "figures", (two, one, *rest))
    forged = changed(honest[2], lambda v: v.__setitem__("schema", swapped.definition.decode()))

    with pytest.raises(InvalidMessage, match="schema"):
        verify_evidence(forged)


def test_contract__that_the_roster_does_not_name__is_refused(honest: tuple[FakeTown, str, Evidence]) -> None:
    # Anybody can put a contract beside the consortium's that takes every call.
    kind, other = int(Change.JOINT_CREDIT_SET), to_hex(bytes(12) + b"\x11" * 20)
    town = honest[0]
    elsewhere = changed(
        honest[2], lambda v: next(c for c in v["roster"] if c["kind"] == kind).__setitem__("data", other)
    )
    history = rechained(elsewhere, town)

    with pytest.raises(InvalidMessage, match="contract that the roster does not name"):
        verify_evidence(history)


def rechained(evidence: Evidence, town: FakeTown) -> Evidence:
    """Let the opening name the roster of the file's changed history; its service account signs it again."""
    state = LedgerState(REALM)
    rosters = []
    for entry in evidence.value["roster"]:
        place, data = Change(entry["kind"]), hex_bytes(entry["data"], None)
        at = ev.Position(0, bytes(32), 0, 0, bytes(32), REALM.consortium)
        state.apply(ev.RosterChanged(at, roster_link(state.roster, place, data), place, data))
        rosters.append(state.roster)
    (inquiry,) = town[0].desk.state.inquiries.values()
    true = [change.roster for change in town[0].desk.state.roster_history]
    opening = replace(inquiry.opening, roster=rosters[true.index(inquiry.opening.roster)])
    again = to_hex(signed(town.accounts[0], "open", (0, opening.arguments())))
    return changed(evidence, lambda v: v["transactions"].__setitem__("open", again))


def forgery(monkeypatch: pytest.MonkeyPatch, *labels: str) -> Evidence:
    """Evidence of an inquiry that never was: the forger has accounts of his own in the place of those with these labels."""
    monkeypatch.setattr(
        "fakes.deterministic",
        lambda label: deterministic(f"forger's {label}" if label.startswith(labels) else label),
    )
    with two_keys(monkeypatch):
        forgers = found_town(MEMBERS)
        request = forgers.ask(3)
        forgers.settle()
    return collected(forgers, request)


def founding_pins(town: FakeTown) -> Pins:
    """Those of `config.pins_of`."""
    return town.pins


def test_history__made_up_under_the_true_address__is_believed_without_a_roster_and_refused_with_one(
    honest: tuple[FakeTown, str, Evidence], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Anybody can write a history with members of his own, whose names are those of the true ones.
    true_roster = honest[0][0].desk.state.roster
    forged = forgery(monkeypatch, "")

    believed = verify_evidence(forged, consortium=REALM.consortium)
    assert believed.attested
    assert believed.institutions[0] == "Bank A"
    assert not believed.authentic
    with pytest.raises(InvalidMessage, match="history of members"):
        verify_evidence(forged, consortium=REALM.consortium, roster=true_roster)


def test_history__with_service_accounts_that_no_owner_named__is_the_wrong_ledger(
    honest: tuple[FakeTown, str, Evidence], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The forger copies the owners' signatures of the ledger, and puts an account of its own into a naming.
    mine = deterministic("forger").address
    kind, town = int(Change.ACCOUNT_NAMED), honest[0]

    def change(value: dict[str, Any]) -> None:
        entry = next(c for c in value["roster"] if c["kind"] == kind and int(c["data"][2:66], 16) == 2)
        entry["data"] = entry["data"].lower().replace(town.accounts[2].address[2:].lower(), mine[2:].lower())

    with pytest.raises(InvalidMessage, match="has not signed"):
        verify_evidence(changed(honest[2], change))


@pytest.mark.parametrize(("label", "whose"), [("owner 2", "Bank C"), ("supervisor owner", "the supervisor")])
def test_history__with_another_owner_or_supervisor__is_refused_by_pins(
    honest: tuple[FakeTown, str, Evidence], monkeypatch: pytest.MonkeyPatch, label: str, whose: str
) -> None:
    pins = founding_pins(honest[0])
    forged = forgery(monkeypatch, label)

    with pytest.raises(InvalidMessage, match=f"not accepted: {whose}"):
        verify_evidence(forged, pins=pins)


def test_founding__of_the_true_consortium__is_enough_without_a_ledger(honest: tuple[FakeTown, str, Evidence]) -> None:
    town, _, evidence = honest

    verified = verify_evidence(evidence, pins=founding_pins(town))

    assert verified.authentic
    assert verified.compared == ("founding",)
    with pytest.raises(InvalidMessage, match="not accepted: Bank B"):
        verify_evidence(evidence, pins=replace(founding_pins(town), owners={**town.pins.owners, 1: frozenset()}))


def test_founding__of_a_member_outside_the_cohort__is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with two_keys(monkeypatch):
        town = found_town(MEMBERS)
        town.sleep(4)
        request = town.ask(1)
        town.settle()
    pins = founding_pins(town)

    verified = verify_evidence(
        collected(town, request), pins=replace(pins, owners={**(pins.owners or {}), 4: frozenset()})
    )

    assert verified.institutions == ("Bank A", "Bank B", "Bank C", "Bank D")


def test_verdict__of_a_supervisor_added_in_the_file__is_refused_by_pins(
    honest: tuple[FakeTown, str, Evidence],
) -> None:
    town, request, evidence = honest
    mallory = deterministic("mallory")
    verdict = to_hex(signed(mallory, "attest", attestation(town, request, supervisor=mallory.address)))

    def change(value: dict[str, Any]) -> None:
        add(value, Change.SUPERVISOR_ADDED, mallory.address)
        naming = (255, mallory.address, mallory.address, 1, bytes(32), sign_naming(mallory, 255, mallory.address))
        add(value, Change.ACCOUNT_NAMED, *naming)
        value["transactions"]["attest"] = verdict

    forged = changed(evidence, change)
    assert verify_evidence(forged).attested
    with pytest.raises(InvalidMessage, match="supervisor that you have not accepted"):
        verify_evidence(forged, pins=founding_pins(town))


def add(value: dict[str, Any], kind: Change, *values: Any) -> None:
    """One more change at the end of a file's history."""
    value["roster"].append({"kind": int(kind), "data": to_hex(abi_encode(CHANGE_TYPES[kind], list(values)))})


def attestation(
    town: FakeTown, request: str, *, supervisor: str | None = None, valid: bool = True, culprits: int = 0
) -> tuple[Any, ...]:
    """The arguments of a verdict on the report of an inquiry."""
    inquiry = town.inquiry(request)
    assert inquiry.report is not None
    owner = supervisor or town.supervisor_owner.address
    return (inquiry.id, owner, valid, culprits, inquiry.report.commitment, bytes(32))


def test_history__made_up_after_the_roster_that_the_reader_knows__does_not_count(
    honest: tuple[FakeTown, str, Evidence],
) -> None:
    # The opening's roster is true; later in the file Bank C has Mallory for its owner, who names its service account.
    town, request, evidence = honest
    inquiry, mallory = town.inquiry(request), deterministic("mallory")
    answer = to_hex(signed(mallory, "contribute", (inquiry.id, 2, inquiry.payload(2))))

    def change(value: dict[str, Any]) -> None:
        add(value, Change.OWNER_REPLACED, 2, mallory.address)
        signature = sign_naming(mallory, 2, mallory.address, 2, b"t" * 32)
        add(value, Change.ACCOUNT_NAMED, 2, mallory.address, mallory.address, 2, b"t" * 32, signature)
        value["transactions"]["contribute"][1] = answer

    forged = changed(evidence, change)
    true = {c.roster for c in town[0].desk.state.roster_history}
    assert verify_evidence(forged).institutions[2] == "Bank C"
    for known in (inquiry.opening.roster, true):
        with pytest.raises(InvalidMessage, match="never named"):
            verify_evidence(forged, roster=known)
        assert verify_evidence(evidence, roster=known).authentic


def test_accounts__moved_after_the_inquiry__evidence_still_names_the_right_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with two_keys(monkeypatch):
        town = found_town(MEMBERS)
        request = town.ask(1)
        town.settle()
    owner, next_owner = town.owners[3], deterministic("next")
    new = deterministic("new account").address
    tenure = town.chain.fold().members[3].tenure
    naming = (3, owner.address, new, 2, tenure, sign_naming(owner, 3, new, 2, tenure))
    state, block = town.chain.fold(), town.chain.blocks[-1]
    at = block.events[-1].at
    moves = [
        town.chain.change(state, Change.ACCOUNT_NAMED, *naming),
        town.chain.change(state, Change.SUPERVISOR_ADDED, next_owner.address),
        town.chain.change(state, Change.PERIOD_KEY_ENDED, 1),
        town.chain.change(state, Change.SUPERVISOR_REMOVED, town.supervisor_owner.address),
        town.chain.change(state, Change.MEMBER_REMOVED, 1),
    ]
    town.chain.mine([])
    for contract, kind, values in moves:
        made = town.chain.blocks[-1]
        place = ev.Position(
            made.block.number, made.block.hash, len(made.events), made.block.timestamp, at.transaction, contract
        )
        made.events.append(kind(at=place, **values))
    town[0].sync()

    verified = verify_evidence(collected(town, request), roster=town[0].desk.state.roster)

    assert verified.totals == [figures(31) | {"lenders": 5}]
    assert verified.institutions[1] == "Bank B"
    # The account that gave the verdict stood from its naming until its supervisor was removed.
    removed = next(c.roster for c in town[0].desk.state.roster_history if c.kind is Change.SUPERVISOR_REMOVED)
    assert verified.verdict_stood is not None
    assert verified.verdict_stood[1] == removed


def test_second_opening_of_one_q__other_total_with_the_genuine_verdict__is_refused(
    honest: tuple[FakeTown, str, Evidence],
) -> None:
    # q does not cover the inquirer's own payload: it signs another opening and another report of one inquiry (E1).
    town, request, evidence = honest
    inquiry = town.inquiry(request)
    private, frame = inquiry_key(town[0], inquiry), protocol.frame_of(inquiry, REALM)
    n = frame.public.n
    less = FIGURES_1.pack([figures(1) | {"lenders": 0}], frame.public.bits)[0]
    _, (own,) = protocol.split_payload(frame, inquiry.opening.payload)
    lower = own * (1 - less * n) % frame.public.n_squared
    payload = inquiry.opening.payload[:80] + paillier.ciphertext_bytes(frame.public, lower)
    opening = replace(inquiry.opening, payload=payload)
    others = [inquiry.payload(i) for i in inquiry.cohort if i != 0]
    openings = protocol.open_aggregate(frame, private, protocol.product(frame, [payload, *others]))
    salt = b"s" * 32
    commitment = report_commitment(inquiry.id, salt, openings, frame.public.modulus_bytes)

    def change(value: dict[str, Any]) -> None:
        value["transactions"]["open"] = to_hex(signed(town.accounts[0], "open", (0, opening.arguments())))
        report = signed(town.accounts[0], "report", (inquiry.id, commitment, b"sealed", bytes(32)))
        value["transactions"]["report"] = to_hex(report)
        value["openings"] = [[hex(o.m), hex(o.r)] for o in openings]
        value["salt"] = to_hex(salt)

    forged = changed(evidence, change)
    with pytest.raises(InvalidMessage, match="another report"):
        verify_evidence(forged, pins=founding_pins(town))
    # The variant without the rule: without its verdict the file holds, and shows a total that is lower.
    alone = changed(forged, lambda v: v["transactions"].__setitem__("attest", None))
    assert verify_evidence(alone).totals == [figures(30) | {"lenders": 5}]
    assert not verify_evidence(alone).attested


# --------------------------------------------------------------------- signed transactions


def signed_as(account: LocalAccount, evidence: Evidence, name: str, **changes: Any) -> Evidence:
    """The evidence with one of its transactions signed anew by its sender, with other fields."""
    raw = hex_bytes(evidence.value["transactions"][name], None)
    fields: dict[str, Any] = {
        "chainId": REALM.chain_id,
        "nonce": 1,
        "gas": 10**6,
        "gasPrice": 1,
        "value": 0,
        "to": JOINT_CREDIT,
        "data": rlp.decode(raw)[5],
        **changes,
    }
    made = bytes(account.sign_transaction({k: v for k, v in fields.items() if v is not None}).raw_transaction)
    return changed(evidence, lambda v: v["transactions"].__setitem__(name, to_hex(made)))


FORMS: dict[str, dict[str, Any]] = {
    "legacy": {},
    "access list": {"type": 1, "accessList": []},
    "dynamic fee": {"type": 2, "gasPrice": None, "maxFeePerGas": 2, "maxPriorityFeePerGas": 1},
}
PARTIES = ["open", "report", "attest"]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("name", PARTIES)
def test_transaction__of_any_form__counts_on_its_own_chain_and_contract_alone(
    honest: tuple[FakeTown, str, Evidence], name: str, form: dict[str, Any]
) -> None:
    # What a party signed for another chain, or for another contract that takes such calls, is no statement here.
    town, _, evidence = honest
    account = town.supervisor_account if name == "attest" else town.accounts[0]

    assert verify_evidence(signed_as(account, evidence, name, **form)).attested
    for elsewhere in ({"chainId": 1}, {"chainId": REALM.chain_id + 1}, {"to": REALM.consortium}):
        with pytest.raises(InvalidMessage, match=f"the {name} transaction in the file is not a call of this contract"):
            verify_evidence(signed_as(account, evidence, name, **form, **elsewhere))


@pytest.mark.parametrize("name", PARTIES)
def test_transaction__of_before_chains_were_named__counts(honest: tuple[FakeTown, str, Evidence], name: str) -> None:
    town, _, evidence = honest
    account = town.supervisor_account if name == "attest" else town.accounts[0]

    assert verify_evidence(signed_as(account, evidence, name, chainId=None)).attested


@pytest.mark.parametrize("place", [0, 3], ids=["first byte", "last byte"])
def test_transaction__a_call_of_another_function_with_the_same_arguments__is_refused(
    honest: tuple[FakeTown, str, Evidence], place: int
) -> None:
    town, _, evidence = honest
    data = bytearray(rlp.decode(hex_bytes(evidence.value["transactions"]["report"], None))[5])
    data[place] ^= 1

    with pytest.raises(InvalidMessage, match="the report transaction in the file is not a call"):
        verify_evidence(signed_as(town.accounts[0], evidence, "report", data=bytes(data)))


@pytest.mark.parametrize(
    "changes",
    [{"schema": 2}, {"cohort": 0b111111}, {"cohort": 0b11110}],
    ids=["another schema", "a member that is none", "without the inquirer"],
)
def test_opening__signed_and_never_mined__does_not_fit_the_history(
    honest: tuple[FakeTown, str, Evidence], changes: dict[str, int]
) -> None:
    # The ledger refuses such an opening; a file can hold it all the same, with the inquirer's signature.
    town, request, evidence = honest
    opening = replace(town.inquiry(request).opening, **changes)  # type: ignore[arg-type]  # one of several fields
    raw = to_hex(signed(town.accounts[0], "open", (0, opening.arguments())))

    with pytest.raises(InvalidMessage, match="do not fit the history given"):
        verify_evidence(changed(evidence, lambda v: v["transactions"].__setitem__("open", raw)))


# --------------------------------------------------------------------- who lied


def test_openings__changed_by_whoever_passes_the_file_on__name_nobody(honest: tuple[FakeTown, str, Evidence]) -> None:
    for change in (
        lambda v: v["openings"][0].__setitem__(0, hex(int(v["openings"][0][0], 16) - 1000)),
        lambda v: v["openings"][0].__setitem__(1, hex(int(v["openings"][0][1], 16) + 1)),
        lambda v: v.__setitem__("salt", "0x" + "00" * 32),
    ):
        with pytest.raises(InvalidProof):
            verify_evidence(changed(honest[2], change))


def test_openings__reported_falsely_by_the_inquirer__do_not_pass(honest: tuple[FakeTown, str, Evidence]) -> None:
    # The inquirer signed a commitment to a total that is 1,000 too low, and shows that total.
    town, request, evidence = honest
    inquiry = town.inquiry(request)
    m, r = (int(part, 16) for part in evidence.value["openings"][0])
    lie = [Opening(m - 1000, r)]
    salt = hex_bytes(evidence.value["salt"], 32)
    commitment = report_commitment(inquiry.id, salt, lie, 256)
    report = signed(town.accounts[0], "report", (inquiry.id, commitment, b"sealed", bytes(32)))

    def change(value: dict[str, Any]) -> None:
        value["openings"] = [[hex(lie[0].m), hex(lie[0].r)]]
        value["transactions"]["report"] = to_hex(report)

    with pytest.raises(InvalidProof, match="Bank A"):
        verify_evidence(changed(evidence, change))


def test_second_contribution_off_the_ledger__swapped_in__does_not_frame_the_inquirer(
    honest: tuple[FakeTown, str, Evidence],
) -> None:
    # A member of the cohort has the file, and signs a second contribution of its own that was never mined.
    town, request, evidence = honest
    inquiry = town.inquiry(request)
    other = craft(town[2], inquiry, blocks=lambda b: [b[0] + 1])
    second = to_hex(signed(town.accounts[2], "contribute", (inquiry.id, 2, other)))

    def change(value: dict[str, Any]) -> None:
        place = [m for m in inquiry.cohort if m != inquiry.inquirer].index(2)
        value["transactions"]["contribute"][place] = second

    with pytest.raises(InvalidProof, match="do not give the totals"):
        verify_evidence(changed(evidence, change))


def test_report__signed_by_another_member__is_refused(honest: tuple[FakeTown, str, Evidence]) -> None:
    town, request, evidence = honest
    inquiry = town.inquiry(request)
    assert inquiry.report is not None
    arguments = (inquiry.id, inquiry.report.commitment, inquiry.report.sealed_report, bytes(32))
    foreign = to_hex(signed(town.accounts[1], "report", arguments))

    with pytest.raises(InvalidMessage):
        verify_evidence(changed(evidence, lambda v: v["transactions"].__setitem__("report", foreign)))


def test_contribution__signed_but_malformed__names_its_sender(honest: tuple[FakeTown, str, Evidence]) -> None:
    town, request, evidence = honest
    inquiry = town.inquiry(request)
    bad = to_hex(signed(town.accounts[2], "contribute", (inquiry.id, 2, bytes(80 + 512))))

    with pytest.raises(ProtocolViolation, match="Bank C") as caught:
        verify_evidence(changed(evidence, lambda v: v["transactions"]["contribute"].__setitem__(1, bad)))
    assert caught.value.culprits == (2,)


def test_contribution__signed_by_an_outsider__is_refused(honest: tuple[FakeTown, str, Evidence]) -> None:
    town, request, evidence = honest
    inquiry = town.inquiry(request)
    foreign = to_hex(signed(deterministic("outsider"), "contribute", (inquiry.id, 2, inquiry.payload(2))))

    with pytest.raises(InvalidMessage, match="never named"):
        verify_evidence(changed(evidence, lambda v: v["transactions"]["contribute"].__setitem__(1, foreign)))


def test_verdict__void__names_the_culprits_it_names(honest: tuple[FakeTown, str, Evidence]) -> None:
    town, request, evidence = honest
    void = to_hex(signed(town.supervisor_account, "attest", attestation(town, request, valid=False, culprits=0b1010)))

    with pytest.raises(ProtocolViolation) as caught:
        verify_evidence(changed(evidence, lambda v: v["transactions"].__setitem__("attest", void)))
    assert caught.value.culprits == (1, 3)


@pytest.mark.parametrize(
    "who", ["a member", "a stranger", "on another inquiry", "on another report", "the owner account"]
)
def test_verdict__not_a_supervisors_on_this_inquiry__is_refused(
    honest: tuple[FakeTown, str, Evidence], who: str
) -> None:
    town, request, evidence = honest
    account = {
        "a member": town.accounts[0],
        "a stranger": deterministic("stranger"),
        "the owner account": town.supervisor_owner,
    }.get(who, town.supervisor_account)
    q, owner, valid, culprits, commitment, anchor = attestation(town, request)
    q = bytes(32) if who == "on another inquiry" else q
    commitment = bytes(32) if who == "on another report" else commitment
    verdict = to_hex(signed(account, "attest", (q, owner, valid, culprits, commitment, anchor)))

    with pytest.raises(InvalidMessage):
        verify_evidence(changed(evidence, lambda v: v["transactions"].__setitem__("attest", verdict)))


def test_malformed_key__in_a_signed_opening__names_the_inquirer(monkeypatch: pytest.MonkeyPatch) -> None:
    with two_keys(monkeypatch):
        town = found_town(MEMBERS)
    proofless = b"\2" * 2048
    opening, q = open_crafted(
        town[0], [(town.tagger.tag(subject(1)), town.consent(1))], key_proof=proofless, post=False
    )
    state = town[0].desk.state
    value = {
        "format": "mpcredit/evidence",
        "version": 2,
        "chain_id": REALM.chain_id,
        "consortium": REALM.consortium,
        "joint_credit": JOINT_CREDIT,
        "inquiry": to_hex(q),
        "schema": FIGURES_1.definition.decode(),
        "roster": [{"kind": int(c.kind), "data": to_hex(c.data)} for c in state.roster_history],
        "transactions": {
            "open": to_hex(signed(town.accounts[0], "open", (0, opening.arguments()))),
            "contribute": [],
            "report": None,
            "attest": None,
        },
        "verdict_block": None,
        "openings": [],
        "salt": "0x" + "00" * 32,
    }

    with pytest.raises(ProtocolViolation, match="malformed key") as caught:
        verify_evidence(Evidence(value))
    assert caught.value.culprits == (0,)


def test_totals__set_by_a_furnisher_and_not_yet_judged__are_no_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    with two_keys(monkeypatch):
        town = found_town(MEMBERS)
        request = town.ask(1)
        town.asleep, town.supervised = {3}, False
        town[0].work()
        town[3].sync()
        send(town[3], town.inquiry(request), craft(town[3], town.inquiry(request), blocks=lambda b: [b[0] + (1 << 60)]))
        town.settle()

    with pytest.raises(ProtocolViolation, match="not sums"):
        verify_evidence(collected(town, request))


# --------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "5", "\0", '{"format":"mpcredit/evidence","version":1}', '{"format":"x","version":2}']
)
def test_file__no_evidence_of_this_version__is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "inquiry.json"
    path.write_text(text)

    with pytest.raises(InvalidFile):
        Evidence.load(path)


def test_file__there_and_back__is_readable_by_its_owner_alone(
    tmp_path: Path, honest: tuple[FakeTown, str, Evidence]
) -> None:
    path = honest[2].save(tmp_path / "inquiry.json")

    assert path.stat().st_mode & 0o777 == 0o600
    assert Evidence.load(path).value == json.loads(json.dumps(honest[2].value))
    assert verify_evidence(Evidence.load(path)).attested


def mined(evidence: Evidence, inquiry: Inquiry) -> Inquiry:
    """The inquiry as a ledger shows it on which the file's transactions are."""
    signed_ones = evidence.value["transactions"]

    def at(event: Any, raw: str) -> Any:
        return replace(event, at=replace(event.at, transaction=keccak(hex_bytes(raw, None))))

    others = [m for m in inquiry.cohort if m != inquiry.inquirer]
    given = {m: at(inquiry.contributions[m], raw) for m, raw in zip(others, signed_ones["contribute"], strict=True)}
    return replace(
        inquiry,
        opened=at(inquiry.opened, signed_ones["open"]),
        contributions=given,
        report=at(inquiry.report, signed_ones["report"]),
        verdict=at(inquiry.verdict, signed_ones["attest"]),
    )


def test_look_up__transactions_of_the_events__tell_their_blocks__one_signed_again_is_refused(
    honest: tuple[FakeTown, str, Evidence],
) -> None:
    # `mpcredit verify --ledger` compares with the events, so it needs no index of a node, which forgets old transactions.
    town, request, evidence = honest
    inquiry = mined(evidence, town.inquiry(request))
    report = inquiry.report
    assert report is not None

    assert len(_look_up(evidence, inquiry)) == len(inquiry.cohort) + 2

    arguments = (inquiry.id, report.commitment, report.sealed_report, report.anchor)
    again = to_hex(signed(town.accounts[0], "report", arguments, nonce=77))
    never_mined = changed(evidence, lambda value: value["transactions"].__setitem__("report", again))
    assert verify_evidence(never_mined).inquiry == inquiry.id
    with pytest.raises(ProtocolViolation, match="not on the ledger"):
        _look_up(never_mined, inquiry)
    with pytest.raises(ProtocolViolation, match="not on the ledger"):
        _look_up(evidence, None)
