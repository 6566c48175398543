"""One hostile message must not stop the others' work (R1; I14): malformed contents, unreadable events, keys that are gone.

Everything that one member can put before all others' readers is fuzzed here: what comes out is a refusal, a finding or a
skipped item, never an exception that ends a reader's round. The variants show what one such exception does.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from attackers import open_crafted
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from fakes import REALM, FakeTown, found_town, subject
from hypothesis import given
from hypothesis import strategies as st

from mpcredit import events as ev
from mpcredit import sealing
from mpcredit.disclosure import RefusalCode
from mpcredit.encoding import keccak
from mpcredit.errors import InvalidMessage, InvalidSubject, KeyStoreError, ProtocolViolation
from mpcredit.events import Change, Position, Stage
from mpcredit.inquirer import RequestState
from mpcredit.pairkeys import InstitutionKey
from mpcredit.schema import FIGURES_1
from mpcredit.sealing import SubjectList

Q0 = b"q" * 32
WRAP = b"w" * 32


def seal_document(document: bytes, *, pad: bool = True) -> Callable[..., tuple[bytes, bytes]]:
    """`seal_subjects` of an attacker who seals any document, with a commitment that fits."""

    def seal(
        _: Any, *, q0: bytes, inquirer: int, wraps: dict[int, bytes], supervisor_public: bytes
    ) -> tuple[bytes, bytes]:
        content = len(document).to_bytes(4, "big") + document
        if pad:
            content += bytes(-len(content) % 512)
        key = b"K" * 32
        commitment = hashlib.sha256(b"mpcredit/subject/2" + key + content).digest()
        sealed = bytes([2, len(wraps)])
        for member, wrap in sorted(wraps.items()):
            cipher = ChaCha20Poly1305(sealing._wrap_key(wrap, q0, inquirer, member, commitment))
            sealed += bytes([member]) + cipher.encrypt(bytes(12), key, commitment)
        sealed += sealing.hpke_seal(supervisor_public, key, b"mpcredit/wrap-supervisor/2" + q0 + commitment)
        return sealed + ChaCha20Poly1305(key).encrypt(bytes(12), content, q0), commitment

    return seal


def opened(document: bytes) -> SubjectList:
    seal = seal_document(document)
    supervisor = InstitutionKey.from_bytes(b"s" * 32)
    sealed, commitment = seal(None, q0=Q0, inquirer=0, wraps={1: WRAP}, supervisor_public=supervisor.public)
    return sealing.open_subjects_member(sealed, commitment, Q0, 0, 1, WRAP)


def proper(town: FakeTown) -> dict[str, Any]:
    consent = town.consent(1)
    listed = SubjectList(1, "TWD", consent.purpose, (sealing.SubjectEntry(consent.tag, consent),))
    length = int.from_bytes(listed.plaintext[:4], "big")
    value: dict[str, Any] = json.loads(listed.plaintext[4 : 4 + length])
    return value


STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**53, 10**400, 1.5, "", "x", "\u0000", "0x", "0X00", "\U0001f600"),
    *([], {}, [[]], {"a": 1}, ["0x00"], "\ud800"),
)


def dump(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def quiet_town() -> FakeTown:
    return found_town(5)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [p for name, part in parts for p in paths(part, (*path, name))]


def test_subject_list__any_member_replaced_or_gone__is_an_invalid_subject_or_a_valid_list(quiet_town: FakeTown) -> None:
    value = proper(quiet_town)
    assert opened(dump(value))

    for path in paths(value):
        for strange in (*STRANGE, "gone"):
            changed = copy.deepcopy(value)
            place = changed
            for name in path[:-1]:
                place = place[name]
            if strange == "gone":
                del place[path[-1]]
            else:
                place[path[-1]] = strange
            try:
                document = dump(changed)
                opened(document)
            except InvalidSubject:
                continue
            # What parses must be another well-formed list, in its one canonical form.
            assert path[-1] in ("customer_key", "inquirer", "valid_from", "signature", "chain_id", "schema"), (
                path,
                strange,
            )


@given(document=st.binary(max_size=600))
def test_subject_list__any_bytes__is_an_invalid_subject(document: bytes) -> None:
    with pytest.raises(InvalidSubject):
        opened(document)


@given(depth=st.sampled_from([10, 100, 1000, 20000]), bracket=st.sampled_from(["[", '{"a":']))
def test_subject_list__deeply_nested__is_an_invalid_subject(depth: int, bracket: str) -> None:
    with pytest.raises(InvalidSubject):
        opened((bracket * depth).encode())


@given(data=st.binary(max_size=800), count=st.integers(0, 255))
def test_sealed_subject__any_bytes__is_an_invalid_subject(data: bytes, count: int) -> None:
    for sealed in (data, bytes([2, count]) + data):
        with pytest.raises(InvalidSubject):
            sealing.open_subjects_member(sealed, bytes(32), Q0, 0, 1, WRAP)
        with pytest.raises(InvalidSubject):
            sealing.open_subjects_supervisor(sealed, bytes(32), Q0, InstitutionKey.from_bytes(b"s" * 32))


DOCUMENTS = {
    "nothing": b"",
    "not JSON": b"\xff\xfe",
    "another thing": b"[]",
    "nested": b"[" * 30000,
    "a huge number": b'{"schema":' + b"9" * 10000 + b"}",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_hostile_subject__on_the_ledger__is_refused_named_and_stops_nobody(town: FakeTown, document: bytes) -> None:
    _, q = open_crafted(town[1], [(town.tagger.tag(subject(2)), town.consent(2, to=1))], seal=seal_document(document))
    request = town.ask(1)
    town.settle()

    refusal = town[0].desk.state.inquiries[q].refusal
    assert refusal is not None
    assert refusal.code == RefusalCode.SUBJECT
    assert town.supervisor.supervisor.verified[q].culprits == (1,)
    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


OPENINGS: dict[str, dict[str, Any]] = {
    "a currency that is none": {"currency": "\0\0\0", "listed_currency": "TWD"},
    "a currency of another book": {"currency": "USD"},
    "too many blocks": {"blocks": 7},
    "more consents than subjects": {"consents": [b"\1" * 32, b"\2" * 32]},
    "thousands of consents": {"consents": [bytes([i % 256, i // 256]) * 16 for i in range(5000)]},
    "another schema inside": {"listed_schema": 2},
    "another currency inside": {"listed_currency": "USD"},
}


@pytest.mark.parametrize("how", OPENINGS.values(), ids=OPENINGS.keys())
def test_hostile_opening__is_refused_and_stops_nobody(town: FakeTown, how: dict[str, Any]) -> None:
    _, q = open_crafted(town[1], [(town.tagger.tag(subject(2)), town.consent(2, to=1))], **how)
    request = town.ask(1)
    town.settle()

    inquiry = town[0].desk.state.inquiries[q]
    assert inquiry.refusal is not None
    assert inquiry.refusal.code in (RefusalCode.ENCODING, RefusalCode.CONSENT)
    assert town[0].inquirer.get(request).state is RequestState.ATTESTED


# --------------------------------------------------------------------- events


def emit(town: FakeTown, *effects: tuple[type[ev.Event], dict[str, Any]], contract: str = REALM.consortium) -> None:
    town.chain.mine([])
    made = town.chain.blocks[-1]
    for kind, values in effects:
        at = Position(made.block.number, made.block.hash, len(made.events), made.block.timestamp, bytes(32), contract)
        made.events.append(kind(at=at, **values))


DEFINITIONS = [b"{}", b"\xff", b"", b"[" * 20000, FIGURES_1.definition]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=["empty", "no text", "nothing", "nested", "of another number"])
def test_schema__registered_but_unreadable__readers_go_on_and_inquiries_under_it_get_no_figures(
    town: FakeTown, definition: bytes
) -> None:
    # The contract cannot read definitions: a proposal that was approved in haste must not stop everybody for ever.
    named = town.chain.change(town.chain.fold(), Change.SCHEMA_SET, 7, keccak(definition))
    emit(town, named[1:], (ev.SchemaRegistered, {"schema": 7, "definition": definition}))
    opening, _ = open_crafted(town[1], [(town.tagger.tag(subject(2)), town.consent(2, to=1))], post=False)
    under_it = replace(opening, schema=7)
    town[1].desk.outbox.post("open 7", town.call("open", 1, under_it.arguments()))
    request = town.ask(1)
    town.settle()

    assert town[0].inquirer.get(request).state is RequestState.ATTESTED
    for inquiry in town[0].desk.state.inquiries.values():
        if inquiry.opening.schema == 7:
            assert set(inquiry.contributions) == {1}


def test_name__no_text__readers_go_on(town: FakeTown) -> None:
    from mpcredit.encoding import abi_encode
    from mpcredit.ledger.roster import roster_link

    data = abi_encode(["uint8", "address", "bytes"], [5, "0x" + "11" * 20, b"\xff\xfe"])
    roster = roster_link(town.chain.fold().roster, Change.MEMBER_INVITED, data)
    emit(town, (ev.RosterChanged, {"roster": roster, "kind": Change.MEMBER_INVITED, "data": data}))

    town.work()

    assert 5 in town[0].desk.state.members


def test_supervisor_removed__no_key_in_force__members_go_on_answering(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The contract then refuses sealMaskKeys; the service must not end over it.
    from mpcredit.errors import Refused

    request = town.ask(1)
    town[0].work()

    def refuse(*_: Any) -> Any:
        raise Refused("the contract refuses: NoSupervisorKey", code="NoSupervisorKey")

    monkeypatch.setattr(town.chain, "_sealMaskKeys", refuse)
    for bank in town.banks:
        for key, _ in list(bank.desk.store.items("sealed")):
            bank.desk.store.delete("sealed", key)
        for row in list(bank.desk.store._outbox):  # type: ignore[attr-defined]  # a MemoryStore
            if row.startswith("seal/"):
                bank.desk.store._outbox[row] = (row + "x", *bank.desk.store._outbox.pop(row)[1:])  # type: ignore[attr-defined]

    town.settle()

    assert town.inquiry(request).stage is Stage.VALID


# --------------------------------------------------------------------- keys that are gone


def test_institution_key__gone__one_inquiry_waits_and_the_memory_is_not_poisoned(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A key that is not at hand (a smart card pulled out) is not "unreadable": once it is back, the inquiry counts.
    desk = town[2].desk
    request = town.ask(1)
    town[0].work()
    desk._pairs.clear()
    real = town.keys[2].institution_key

    def gone(public: bytes) -> InstitutionKey:
        raise KeyStoreError("not at hand")

    monkeypatch.setattr(town.keys[2], "institution_key", gone)
    town[2].work()
    assert desk.remember() == []
    monkeypatch.setattr(town.keys[2], "institution_key", real)

    assert len(desk.remember()) == 1
    town.settle()
    assert town.inquiry(request).stage is Stage.VALID


def test_aggregate__not_a_ciphertext__the_inquirers_service_goes_on(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = town.ask(1)
    town[0].work()
    town.asleep = {0}
    town.settle()
    town.asleep = set()

    def violated(*_: Any) -> Any:
        raise ProtocolViolation("the aggregate is not a ciphertext")

    with monkeypatch.context() as patch:
        patch.setattr("mpcredit.inquirer.protocol.open_aggregate", violated)
        for _ in range(3):
            town[0].work()
    assert "not a ciphertext" in town[0].inquirer.get(request).note

    other = town.ask(2)
    town.settle()
    assert town[0].inquirer.get(other).state is RequestState.ATTESTED


def test_inquiry__one_that_the_supervisor_cannot_check__does_not_hold_up_the_others(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = town.ask(1)
    town.supervised = False
    town.settle()
    bad = town.inquiry(first).id
    supervisor = town.supervisor.supervisor
    real = supervisor.check

    def check(inquiry: Any) -> Any:
        if inquiry.id == bad:
            raise InvalidMessage("something nobody thought of")
        return real(inquiry)

    monkeypatch.setattr(supervisor, "check", check)
    town.supervised = True
    second = town.ask(2)
    town.settle()

    assert town.inquiry(second).stage is Stage.VALID
    assert town.inquiry(first).stage is Stage.REPORTED
