"""The package and the second implementation of docs/spec.md (tests/second) make the same bytes.

The vectors are those of the second implementation. HPKE draws a fresh key for each message: there each side opens what the
other one sealed.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from second import commitments, hpke, make_vectors, secp256k1
from second import keyproof as second_keyproof
from second import notices as second_notices
from second import sealed as second_sealed
from second.encodings import Realm as SecondRealm
from second.encodings import canonical_json
from second.ids import eip191_digest
from second.pairs import MemberKey, PeriodKey
from vector_support import MADE, Input, agreement_key, big, key_ref, modulus, openings, private_key, raw, realm, split

from mpcredit import keyproof, notices, sealing
from mpcredit.events import members_of
from mpcredit.paillier import PublicKey

FILE = json.loads(make_vectors.FILE.read_text(encoding="utf-8"))
SECOND = Path(make_vectors.__file__).parent


def resolved(value: Any) -> Any:
    """A part of the file with its shared strings in place."""
    if isinstance(value, str):
        return FILE["shared"].get(value, value)
    if isinstance(value, dict):
        return {name: resolved(item) for name, item in value.items()}
    return [resolved(item) for item in value] if isinstance(value, list) else value


CASES = [resolved(case) for case in FILE["cases"]]


def of(item: str) -> Iterator[Any]:
    """The cases of one item, as parameters."""
    return (pytest.param(case, id=f"{case['rule']}: {item}, {case['name']}") for case in CASES if case["item"] == item)


def one(item: str) -> Any:
    """The first case of an item."""
    return next(case for case in CASES if case["item"] == item)


def plain(value: object) -> object:
    """Bytes as the file writes them."""
    return value.hex() if isinstance(value, bytes) else value


def second_realm(given: Input) -> SecondRealm:
    """The consortium of a case, for the second implementation."""
    return SecondRealm(given["chain_id"], raw(given["consortium"]))


def second_key(given: Input) -> MemberKey:
    """A member's key of a case, for the second implementation."""
    return MemberKey(given["member"], given["version"], raw(given["key"]))


def test_vectors__made_anew__are_the_file() -> None:
    assert make_vectors.text() == make_vectors.FILE.read_text(encoding="utf-8")


def test_second_implementation__its_imports__leave_the_package_out() -> None:
    for path in SECOND.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "mpcredit" for name in names), path


def test_vectors__every_item__is_compared() -> None:
    assert {case["item"] for case in CASES} == {*MADE, *SEALED}


@pytest.mark.parametrize("case", [case for item in MADE for case in of(item)])
def test_package__inputs_of_a_vector__makes_its_output(case: Any) -> None:
    made = MADE[case["item"]](case["input"])

    assert plain(made) == case["output"]


def test_second_implementation__an_hpke_case_of_the_rfc__derives_its_key() -> None:
    file = json.loads((make_vectors.FILE.parent / "hpke_rfc9180.json").read_text(encoding="utf-8"))
    case = next(case for case in file["cases"] if case["aead"] == "ChaCha20Poly1305")
    enc, recipient = raw(case["enc"]), raw(case["pkRm"])

    shared = hpke._shared_secret(hpke.agree(raw(case["skRm"]), enc), enc, recipient)

    assert shared.hex() == case["shared_secret"]
    assert hpke._key_and_nonce(shared, raw(case["info"]))[0].hex() == case["key"]


def test_key_proof__of_the_one__is_accepted_by_the_other() -> None:
    case = one("key proof")
    n, proof = modulus(case["input"]["modulus"]), raw(case["output"])

    keyproof.check_key(n, proof)

    assert second_keyproof.accepts(n, keyproof.prove(private_key(case["input"]["modulus"])))
    assert not second_keyproof.accepts(n, proof[:-1] + bytes([proof[-1] ^ 1]))


@pytest.mark.parametrize("case", of("signature"))
def test_signature__of_a_statement__names_its_owner(case: Any) -> None:
    digest = eip191_digest(raw(case["input"]["statement"]))

    assert secp256k1.signer(digest, raw(case["output"])).hex() == case["input"]["owner"]


def test_sealed_cohort__of_the_second_implementation__opens() -> None:
    case = one("sealed cohort")
    given = case["input"]

    opened = sealing.open_repeat(raw(given["wrap_key"]), raw(given["inquiry"]), given["furnisher"], raw(case["output"]))

    assert members_of(opened) == (2, 5, 7, 200)


# --------------------------------------------------------------------- what is sealed


def disclosure(given: Input, output: bytes) -> None:
    """R20."""
    seed, context, ciphertexts = raw(given["seed"]), raw(given["context"]), raw(given["ciphertexts"])
    rest = context, given["member"], ciphertexts

    assert sealing.open_disclosure(agreement_key(given["private"]), output, *rest) == seed

    sent = sealing.seal_disclosure(seed, raw(given["supervisor"]), *rest)
    assert hpke.unseal(raw(given["private"]), commitments.disclosure_info(*rest), sent) == seed


def subject(given: Input, output: bytes) -> None:
    """R16: the file's sealed subject opens for each member and the supervisor; all but the HPKE wrap has the same bytes."""
    q0, commitment, inquirer = raw(given["q0"]), raw(given["commitment"]), given["inquirer"]
    wraps = {int(member): raw(key) for member, key in given["pair_wrap_keys"].items()}
    padded, content_key = raw(given["padded_list"]), raw(given["content_key"])
    subjects = sealing.SubjectList.parse(padded)

    for member, key in wraps.items():
        assert sealing.open_subjects_member(output, commitment, q0, inquirer, member, key) == subjects
    supervisor = agreement_key(given["private"])
    assert sealing.open_subjects_supervisor(output, commitment, q0, supervisor) == subjects

    sent, committed = sealing.seal_subjects(
        subjects, q0=q0, inquirer=inquirer, wraps=wraps, supervisor_public=supervisor.public, content_key=content_key
    )
    begin = 2 + len(wraps) * 49
    assert committed == commitment
    assert (sent[:begin], sent[begin + 80 :]) == (output[:begin], output[begin + 80 :])
    info = second_sealed.supervisors_wrap_info(q0, commitment)
    assert hpke.unseal(raw(given["private"]), info, sent[begin : begin + 80]) == content_key


def mask_keys(given: Input, output: bytes) -> None:
    """R11."""
    supervisor, sender = agreement_key(given["private"]), key_ref(given["sender"])
    entries = [sealing.MaskKeyEntry(e["other"], e["other_version"], raw(e["key"])) for e in given["entries"]]
    entries.sort(key=lambda entry: entry.other)

    opened = sealing.open_mask_keys(
        output, realm=realm(given), sender=sender, supervisor=supervisor, supervisor_key_version=given["version"]
    )
    assert list(opened) == entries

    sent = sealing.seal_mask_keys(
        entries,
        realm=realm(given),
        sender=sender,
        supervisor_public=supervisor.public,
        supervisor_key_version=given["version"],
    )
    info = second_sealed.mask_keys_info(second_realm(given), second_key(given["sender"]), given["version"])
    body = second_sealed.mask_keys_body([second_sealed.MaskKey(e.other, e.other_version, e.key) for e in entries])
    assert hpke.unseal(raw(given["private"]), info, sent) == body


def report(given: Input, output: bytes) -> None:
    """R30."""
    public, inquiry, context = PublicKey(modulus(given["modulus"])), raw(given["inquiry"]), raw(given["context"])
    supervisor, salt = agreement_key(given["private"]), raw(given["salt"])
    aggregate = split(raw(one("aggregate hash")["input"]["aggregate"]), public.width)
    commitment = raw(one("report commitment")["output"])

    opened = sealing.open_report(
        output,
        commitment,
        inquiry=inquiry,
        ctx=context,
        public=public,
        aggregate=aggregate,
        supervisor=supervisor,
    )
    assert list(opened) == openings(given)

    sent, committed = sealing.seal_report(
        opened,
        inquiry=inquiry,
        ctx=context,
        modulus_bytes=public.modulus_bytes,
        supervisor_public=supervisor.public,
        salt=salt,
    )
    body = commitments.report_body(public.n, salt, [(big(m), big(r)) for m, r in given["openings"]])
    assert committed == commitment
    assert hpke.unseal(raw(given["private"]), commitments.report_info(inquiry, context), sent) == body


def notice(given: Input, output: bytes) -> None:
    """R41."""
    supervisor = agreement_key(given["private"])
    entries = [notices.Corrected(raw(tag), since, until) for tag, since, until in given["entries"]]
    head = 10

    opened = notices.open_daily(
        notices.parse_daily(output), realm=realm(given), member=given["member"], supervisor=supervisor
    )
    assert list(opened) == sorted(entries)

    sent = notices.seal_daily(
        entries,
        realm=realm(given),
        member=given["member"],
        day=given["day"],
        supervisor_public=supervisor.public,
        supervisor_key_version=given["version"],
    )
    period = PeriodKey(given["version"], supervisor.public)
    info = second_notices.notice_info(second_realm(given), given["member"], period, given["day"])
    body = second_notices.notice_body([second_notices.Corrected(e.tag, e.since, e.until) for e in entries])
    assert sent[:head] == output[:head]
    assert hpke.unseal(raw(given["private"]), info, sent[head:]) == body


def batch(given: Input, output: bytes) -> None:
    """R42. The package begins with part 0, the vector is part 1 of 2."""
    part = notices.parse_batch(output)
    assert (part.day, part.part, part.parts) == (given["day"], given["part"], given["parts"])
    keys = {slot["recipient"]["member"]: key_ref(slot["recipient"]) for slot in given["slots"]}
    told = {
        slot["recipient"]["member"]: [notices.Affected(raw(inquiry), place) for inquiry, place in slot["entries"]]
        for slot in given["slots"]
    }
    for slot, private in zip(given["slots"], given["privates"], strict=True):
        own = key_ref(slot["recipient"])
        opened = notices.open_slot(part, realm=realm(given), own=own, private=agreement_key(private))
        assert list(opened) == sorted(told[own.member])

    (sent,) = notices.seal_batch(told, realm=realm(given), keys=keys, day=given["day"])
    assert (sent[:6], sent[6:9], len(sent)) == (output[:6], bytes([0, 1, 2]), len(output))
    for place, (slot, private) in enumerate(zip(given["slots"], given["privates"], strict=True)):
        one_slot = sent[9 + 326 * place : 9 + 326 * (place + 1)]
        info = second_notices.told_info(second_realm(given), second_key(slot["recipient"]), given["day"], 0)
        body = second_notices.told_body([(raw(inquiry), number) for inquiry, number in slot["entries"]])
        assert hpke.unseal(raw(private), info, one_slot[5:]) == body


SEALED: Mapping[str, Callable[[Input, bytes], None]] = {
    "disclosure": disclosure,
    "sealed subject": subject,
    "sealed mask keys": mask_keys,
    "sealed report": report,
    "notice": notice,
    "batch message": batch,
}
"""Items that hold something sealed by HPKE."""


@pytest.mark.parametrize("case", [case for item in SEALED for case in of(item)])
def test_sealed__by_the_one__is_opened_by_the_other(case: Any) -> None:
    SEALED[case["item"]](case["input"], raw(case["output"]))


def test_second_implementation__json__has_the_order_of_rfc_8785() -> None:
    assert canonical_json({"\U0001f600": 1, "\ufb33": 2, "a": [True, None, '\x01"\\/é']}) == (
        '{"a":[true,null,"\\u0001\\"\\\\/é"],"\U0001f600":1,"\ufb33":2}'.encode()
    )
