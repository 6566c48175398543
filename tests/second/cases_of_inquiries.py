"""Cases of section 4 and 5: ids, masks, randomness, ciphertexts, contributions, aggregate, report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from . import commitments, documents, hpke, ids, packing, paillier, pairs, sealed, story
from .case import Case, big, case
from .encodings import canonical_json, keccak256

NAME = story.MODULUS_NAME


def cases() -> list[Case]:
    """All of them, in the order of the rules."""
    return [*_ids(), *_subject(), *_masks(), *_randomness(), *_contributions(), *_window(), *_report()]


def _ids() -> Iterator[Case]:
    opening = story.opening()
    fields = {**asdict(opening), "modulus": NAME, "nonce": big(opening.nonce), "cohort": big(opening.cohort)}
    place = {"chain_id": story.REALM.chain_id, "joint_credit": story.JOINT_CREDIT}
    made = ids.q0(story.REALM.chain_id, story.JOINT_CREDIT, opening)
    yield case("q0", "R15", "the opening", made, **place, opening=fields)
    yield case("q", "R15", "the opening", story.INQUIRY, **place, opening=fields)
    yield case(
        "ctx", "R15", "the opening", story.CONTEXT, **place, opening=fields, definition=story.DEFINITION.decode()
    )


def _subject() -> Iterator[Case]:
    for signed in (False, True):
        receipt = story.receipt(signed=signed)
        name = "with the customer's signature" if signed else "without a signature"
        text = canonical_json(receipt.document()).decode()
        yield case("consent hash", "R17", name, receipt.hash(), receipt=text)
    yield case("signed consent", "R17", "what the customer signed", receipt.signed_bytes(), receipt=text)
    text = canonical_json(story.receipt(signed=False).document()).decode()
    padded = documents.padded_list(1, "TWD", "new_credit", [story.receipt(signed=False)])
    yield case(
        "padded list", "R16", "one subject", padded, schema=1, currency="TWD", purpose="new_credit", receipts=[text]
    )
    key = story.seed("content key")
    commitment = commitments.subject_commitment(key, padded)
    yield case("subject commitment", "R16", "one subject", commitment, content_key=key, padded_list=padded)
    made = ids.q0(story.REALM.chain_id, story.JOINT_CREDIT, story.opening())
    wraps = {member: story.pair("wrap", story.INQUIRER, member) for member in story.MEMBERS if member != story.INQUIRER}
    ephemeral = story.seed("ephemeral of the wrap")
    sealed_subject = sealed.sealed_subject(made, story.INQUIRER, wraps, story.PERIOD.key, key, padded, ephemeral)
    yield case(
        "sealed subject", "R16", "one subject, three wraps", sealed_subject,
        q0=made, inquirer=story.INQUIRER, pair_wrap_keys={str(member): wrap for member, wrap in wraps.items()},
        supervisor=story.PERIOD.key, private=story.PERIOD_PRIVATE, content_key=key, padded_list=padded,
        commitment=commitment, ephemeral=ephemeral,
    )  # fmt: skip


def _masks() -> Iterator[Case]:
    for name, block in (("public-test-3072-a", 1),):
        key = story.pair("mask", 2, 5)
        made = paillier.mask(key, story.CONTEXT, block, story.modulus(name))
        yield case(
            "mask",
            "R18",
            f"block {block} of {name}",
            big(made),
            pair_key=key,
            context=story.CONTEXT,
            block=block,
            modulus=name,
        )
    for member in (2, 5):
        answer = story.answer(member, story.CONTEXT)
        keys = {str(other): story.pair("mask", member, other) for other in story.MEMBERS if other != member}
        packed = packing.pack(packing.FIGURES_1, story.modulus(NAME), story.figures(member))
        yield case(
            "masked figures", "R18", f"block 0 of member {member}", big(answer.masked[0]),
            member=member, pair_keys=keys, context=story.CONTEXT, block=0, modulus=NAME, packed=big(packed[0]),
        )  # fmt: skip


def _randomness() -> Iterator[Case]:
    seed = story.seed("seed")
    for member, block, name in ((200, 15, "public-test-3072-a"),):
        made = paillier.randomness(seed, story.CONTEXT, member, block, story.modulus(name))
        assert made is not None
        yield case(
            "randomness", "R19", f"block {block} of member {member}, {name}", big(made),
            seed=seed, context=story.CONTEXT, member=member, block=block, modulus=name,
        )  # fmt: skip
    n = story.small_modulus()
    for block in range(3):
        made = paillier.randomness(seed, story.CONTEXT, 7, block, n)
        assert made is not None
        tries = [paillier.candidate(seed, story.CONTEXT, 7, block, t, n) for t in range(256)].index(made) + 1
        yield case(
            "randomness", "R19", f"a modulus with small factors, found at try {tries}", big(made),
            seed=seed, context=story.CONTEXT, member=7, block=block, modulus=big(n),
        )  # fmt: skip


def _contributions() -> Iterator[Case]:
    n = story.modulus(NAME)
    answer = story.answer(2, story.CONTEXT)
    made = paillier.ciphertext_bytes(n, answer.ciphertexts[0])
    yield case(
        "ciphertext",
        "R19, R21",
        "block 0 of member 2",
        made,
        modulus=NAME,
        m=big(answer.masked[0]),
        r=big(answer.randomness[0]),
    )
    ciphertexts = paillier.payload(n, b"", answer.ciphertexts[:1])
    info = commitments.disclosure_info(story.CONTEXT, 2, ciphertexts)
    ephemeral = story.seed("ephemeral of the disclosure")
    yield case(
        "disclosure", "R20", "of member 2", hpke.seal(story.PERIOD.key, info, answer.seed, ephemeral),
        seed=answer.seed, supervisor=story.PERIOD.key, private=story.PERIOD_PRIVATE, ephemeral=ephemeral,
        context=story.CONTEXT, member=2, ciphertexts=ciphertexts,
    )  # fmt: skip
    aggregate = paillier.payload(n, b"", story.aggregate())
    members = story.MEMBERS[:2]
    each = [paillier.payload(n, b"", story.answer(member, story.CONTEXT).ciphertexts[:1]) for member in members]
    two = paillier.aggregate(n, [story.answer(member, story.CONTEXT).ciphertexts[:1] for member in members])
    yield case(
        "aggregate", "R22", "block 0 of two members", paillier.payload(n, b"", two), modulus=NAME, contributions=each
    )
    yield case("aggregate hash", "R22", "both blocks", keccak256(aggregate), aggregate=aggregate)


def _window() -> Iterator[Case]:
    key = story.pair("wrap", 200, 5)
    made = pairs.sealed_cohort(key, story.INQUIRY, 200, story.COHORT)
    yield case(
        "sealed cohort", "R27.4", "of member 200 to the inquirer", made,
        wrap_key=key, inquiry=story.INQUIRY, furnisher=200, cohort=big(story.COHORT),
    )  # fmt: skip


def _report() -> Iterator[Case]:
    n, factors = story.modulus(NAME), story.factors(NAME)
    salt = commitments.report_salt(*factors, story.INQUIRY, story.aggregate())
    openings = story.openings()
    listed = [[big(m), big(r)] for m, r in openings]
    aggregate = paillier.payload(n, b"", story.aggregate())
    yield case("opening", "R29", "both blocks", listed, modulus=NAME, aggregate=aggregate)
    totals = packing.unpack(packing.FIGURES_1, n, [m for m, _ in openings], story.SUBJECTS)
    yield case(
        "totals", "R29", "all subjects", totals, modulus=NAME, blocks=[m for m, _ in listed], subjects=story.SUBJECTS
    )
    yield case("report salt", "R30", "both blocks", salt, modulus=NAME, inquiry=story.INQUIRY, aggregate=aggregate)
    made = commitments.report_commitment(n, story.INQUIRY, salt, openings)
    yield case(
        "report commitment", "R30", "both blocks", made, modulus=NAME, inquiry=story.INQUIRY, salt=salt, openings=listed
    )
    body = commitments.report_body(n, salt, openings)
    ephemeral = story.seed("ephemeral of the report")
    report = hpke.seal(story.PERIOD.key, commitments.report_info(story.INQUIRY, story.CONTEXT), body, ephemeral)
    yield case(
        "sealed report", "R30", "both blocks", report,
        modulus=NAME, inquiry=story.INQUIRY, context=story.CONTEXT, salt=salt, ephemeral=ephemeral,
        openings=listed, supervisor=story.PERIOD.key, private=story.PERIOD_PRIVATE,
    )  # fmt: skip
