"""The inquirer's part: open an inquiry, wait for the cohort, open the totals, report them (R14 to R17, R29, R30).

A request is what the officer wants; it lives in the store and moves by `step`, so that a crash at any point loses
nothing. Each attempt to open has its own Paillier key, nonce, masks and seed; a request has at most one attempt that the
ledger accepted.

    wanted -> opening -> open -> complete -> reported -> attested | void
       ^---------'          `--> refused | expired                      (held back by the window rule: wanted, with a reason)
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mpcredit import keyproof, limits, paillier, protocol
from mpcredit.consent import Consent, Purpose
from mpcredit.desk import Desk
from mpcredit.disclosure import ADVICE, window_conflict
from mpcredit.encoding import canonical_json, hex_bytes, int_to_bytes, parse_canonical_json, to_hex
from mpcredit.errors import (
    InvalidCiphertext,
    InvalidConsent,
    InvalidMessage,
    LedgerError,
    MpcreditError,
    NotYet,
    ProtocolViolation,
    Refused,
    ValueOutOfRange,
)
from mpcredit.events import Call, Opening, Stage, members_of
from mpcredit.ports import Book
from mpcredit.sealing import SubjectEntry, SubjectList, entry_length, seal_report, seal_subjects
from mpcredit.state import Inquiry
from mpcredit.versions import agreed_version

__all__ = ["Inquirer", "Request", "RequestState"]

log = logging.getLogger("mpcredit")

ZERO = bytes(32)


class RequestState(StrEnum):
    """Where a request stands."""

    WANTED = "wanted"
    OPENING = "opening"
    OPEN = "open"
    COMPLETE = "complete"
    REPORTED = "reported"
    ATTESTED = "attested"
    VOID = "void"
    REFUSED = "refused"
    EXPIRED = "expired"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing will happen any more."""
        return self in (
            RequestState.ATTESTED,
            RequestState.VOID,
            RequestState.REFUSED,
            RequestState.EXPIRED,
            RequestState.FAILED,
        )


@dataclass(frozen=True)
class Request:
    """An officer's request, as stored."""

    id: str
    value: dict[str, Any]

    @property
    def state(self) -> RequestState:
        """Where it stands."""
        return RequestState(self.value["state"])

    @property
    def note(self) -> str:
        """Why it stands there and what would help; empty when all is as usual."""
        return str(self.value.get("note", ""))

    @property
    def inquiry(self) -> bytes | None:
        """q, once the ledger has accepted it."""
        return hex_bytes(self.value["inquiry"], 32) if self.value.get("inquiry") else None

    @property
    def totals(self) -> list[dict[str, int]] | None:
        """One record of sums per subject, in minor units, in the order of the request; None until opened."""
        found = self.value.get("totals")
        return [{name: int(amount) for name, amount in record.items()} for record in found] if found else None

    @property
    def tags(self) -> list[bytes]:
        """Tags of the subjects."""
        return [hex_bytes(entry["tag"], 32) for entry in self.value["subjects"]]


class Inquirer:
    """Runs this institution's own inquiries.

    Args:
        desk: the institution's working place.
        book: its own figures, which it contributes like everyone else.
        bits: size of n for new inquiries.
        random_bytes: source of seeds, content keys and ids.
        anchor: head of the audit log at this moment, 32 bytes that each report puts on the ledger; zeros without a log.

    Attributes:
        hold: gives a sentence that says why a request must not be opened now, or nothing; what is on the ledger goes on.
    """

    def __init__(
        self,
        desk: Desk,
        book: Book,
        *,
        bits: int = 3072,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        anchor: Callable[[], bytes] = lambda: ZERO,
    ) -> None:
        self.desk = desk
        self.book = book
        self.bits = bits
        self.random_bytes = random_bytes
        self.anchor = anchor
        self.hold: Callable[[Request], str] = lambda _request: ""

    # ----------------------------------------------------------------- requesting

    def request(
        self,
        tags: Sequence[bytes],
        labels: Sequence[str],
        consents: Sequence[Consent],
        *,
        officer: str,
        group: int = 0,
        schema: int = 1,
    ) -> Request:
        """Store a request for the totals of one or many subjects.

        Args:
            tags: of the subjects, distinct.
            labels: how the institution calls them; never an identity number in full.
            consents: one receipt for each subject, in the same order, for one purpose.
            officer: who asks; stays in this institution.

        Raises:
            InvalidConsent: a receipt does not permit this; nothing was stored.
            InvalidMessage: subjects missing, doubled, or too many for one inquiry.
        """
        purpose = self._check_request(tags, consents)
        if schema not in self.desk.state.schemas:
            raise InvalidMessage(
                f"the consortium has no schema {schema}", remedy=f"use one of {sorted(self.desk.state.schemas)}"
            )
        self._check_size(schema, consents, limits.OPENING_BYTES)
        request = Request(
            id=self.random_bytes(8).hex(),
            value={
                "state": RequestState.WANTED,
                "officer": officer,
                "purpose": str(purpose),
                "group": group,
                "schema": schema,
                "currency": self.book.currency,
                "requested_at": self.desk.follower.now,
                "attempts": [],
                "subjects": [
                    {"tag": to_hex(tag), "label": label, "consent": canonical_json(consent.to_json_object()).decode()}
                    for tag, label, consent in zip(tags, labels, consents, strict=True)
                ],
            },
        )
        self.desk.store.insert("request", request.id, request.value)
        return request

    def _check_request(self, tags: Sequence[bytes], consents: Sequence[Consent]) -> Purpose:
        if not tags or len(set(tags)) != len(tags):
            raise InvalidMessage("an inquiry needs at least one subject, each once")
        if len(consents) != len(tags):
            raise InvalidConsent(
                f"{len(tags)} subjects need {len(tags)} consents, not {len(consents)}",
                remedy="give one consent receipt for each subject, in the same order",
            )
        purpose = consents[0].purpose
        now = self.desk.follower.next_time
        for tag, consent in zip(tags, consents, strict=True):
            consent.check(
                realm=self.desk.realm,
                inquirer=self.desk.index,
                tag=tag,
                tag_key_version=self.desk.tagger.version,
                purpose=purpose,
                at=now,
            )
            if self.desk.index in self.desk.state.revoked.get(consent.hash, set()):
                raise InvalidConsent("the consent was revoked", remedy="ask the customer for a new one")
            for other in self.desk.state.inquiries.values():
                own = other.inquirer == self.desk.index
                if own and consent.hash in other.opening.consents and not other.stage.failed:
                    raise InvalidConsent(
                        "the consent was used for an earlier inquiry", remedy="ask the customer for a new one"
                    )
        return purpose

    def capacity(self, consents: Sequence[Consent], *, schema: int = 1, most: int = limits.OPENING_BYTES) -> int:
        """How many subjects with these consents, from the first on, one inquiry takes today."""
        entries = [entry_length(SubjectEntry(consent.tag, consent)) for consent in consents]
        state = self.desk.state
        return limits.capacity(state.schemas[schema], self.bits, entries, len(state.active()), most=most)

    def _check_size(self, schema: int, consents: Sequence[Consent], most: int) -> None:
        """An opening that no node takes would hold up all later steps of this institution.

        Raises:
            InvalidMessage: the opening would be too large in bytes, gas or ciphertext blocks.
        """
        fit = self.capacity(consents, schema=schema, most=most)
        if fit < len(consents):
            raise InvalidMessage(
                f"{len(consents)} subjects are too many for one inquiry: no node would take the transaction",
                remedy=f"ask for at most {fit}",
            )

    def get(self, request_id: str) -> Request:
        """Read a request.

        Raises:
            InvalidMessage: there is none of that id.
        """
        value = self.desk.store.get("request", request_id)
        if value is None:
            raise InvalidMessage(f"there is no request {request_id}", remedy="list them with `mpcredit explain`")
        return Request(request_id, value)

    def requests(self) -> list[Request]:
        """All requests, oldest first."""
        return [Request(key, value) for key, value in self.desk.store.items("request")]

    # ----------------------------------------------------------------- moving

    def step(self) -> list[str]:
        """Move every request as far as it goes now; safe to call at any time and after any crash.

        Returns:
            One line for each thing done.
        """
        done: list[str] = []
        for request in self.requests():
            if request.state.final:
                continue
            before = request.state
            try:
                done.extend(self._move(request))
            except LedgerError:
                raise
            except MpcreditError as error:  # one request must not hold up the others
                self._update(request, note=str(error))
            after = self.get(request.id)
            if after.state is not before:
                log.info("request %s: %s -> %s", request.id, before, after.state)
        return done

    def _move(self, request: Request) -> list[str]:
        if request.state is RequestState.WANTED:
            return self._open(request)
        if request.state is RequestState.OPENING:
            return self._await_opening(request)
        assert request.inquiry is not None
        inquiry = self.desk.state.inquiries.get(request.inquiry)
        if inquiry is None:
            return self._lost(request)
        if inquiry.opened.at.block > self.desk.follower.final_block:
            return []
        if inquiry.stage is Stage.OPEN:
            return self._await_answers(request, inquiry)
        if inquiry.stage is Stage.COMPLETE:
            return self._report(request, inquiry)
        end = inquiry.verdict or inquiry.expired or inquiry.refusal
        if end is not None and end.at.block > self.desk.follower.final_block:
            return []
        return self._conclude(request, inquiry)

    def _update(self, request: Request, **changes: Any) -> None:
        request.value.update(changes)
        self.desk.store.put("request", request.id, request.value)

    def _open(self, request: Request) -> list[str]:
        """Make an attempt: key, masks, sealed subjects and own contribution for the roster and cohort of now."""
        # (0) does the house hold it back?
        held = self.hold(request)
        if held:
            if held != request.note:
                self._update(request, note=held)
            return []

        desk, state, value = self.desk, self.desk.state, request.value
        schema = state.schemas[value["schema"]]
        now = desk.follower.next_time
        bitmap = state.cohort(value["group"], now)
        minimum = max(3, desk.minimum_cohort, state.parameters.minimum_cohort if state.parameters else 0)

        # (1) is there a cohort, with me in it? R14.
        if not bitmap >> desk.index & 1:
            self._update(request, note="this institution is not ready itself; switch it on (`mpcredit ready --on`)")
            return []
        if bitmap.bit_count() < minimum:
            self._update(
                request, note=f"only {bitmap.bit_count()} institutions are ready; at least {minimum} are needed"
            )
            return []

        # (2) are these the members and the supervisor that this institution knows? Nothing is sealed to others: R9.
        strangers = state.unpinned(bitmap)
        if strangers:
            who = ", ".join(state.members[i].name if i in state.members else "the supervisor" for i in strangers)
            self._update(
                request,
                note=f"the owner account behind the key of {who} is not one that this institution has accepted; compare "
                "it with them by another channel, then `mpcredit member pin`",
            )
            return []

        # (2b) is there a version of messages that all of them read? docs/adr/0019.
        releases = {
            state.members[i].name: state.release_of(i)
            for i in range(bitmap.bit_length())
            if bitmap >> i & 1 and i != desk.index
        }
        try:
            version = agreed_version(desk.release, releases)
        except InvalidMessage as error:
            self._update(request, note=str(error))
            return []

        # (3) do the consents still hold, after whatever it waited for? R17.
        consents = [Consent.from_json_object(parse_canonical_json(s["consent"].encode())) for s in value["subjects"]]
        try:
            self._check_request(request.tags, consents)
            self._check_size(schema.id, consents, limits.TRANSACTION_BYTES)  # [inquiry] bits may have grown since
        except InvalidMessage as error:
            self._update(request, state=RequestState.FAILED, note=str(error))
            return [f"request {request.id} ended: {error.message}"]

        # (4) would the others refuse by the window rule? Then it waits, and opens by itself: R27.
        memory = desk.remember()
        window = state.parameters.window_seconds if state.parameters else 0
        conflict = window_conflict(request.tags, bitmap, desk.index, now, memory, window, desk.minimum_window)
        if conflict:
            self._update(request, note=self._window_note(*conflict))
            return []

        # (5) key, ids, sealed subjects.
        private = paillier.generate(self.bits)
        public = private.public
        n = int_to_bytes(public.n, public.modulus_bytes)
        joint_credit = state.joint_credit
        if joint_credit is None or state.period_key is None:
            raise NotYet("the consortium is not founded yet", remedy="see `mpcredit doctor`")
        used = max(
            [
                *(i.opening.nonce for i in state.inquiries.values() if i.inquirer == desk.index),
                *(attempt["nonce"] for attempt in value["attempts"]),
                0,
            ]
        )
        counter = desk.store.get("meta", "inquiry_nonce")
        nonce = max(used, int(counter["nonce"]) if counter else 0) + 1
        q0 = protocol.inquiry_q0(desk.realm, joint_credit, desk.index, n, state.roster, nonce)
        subjects = SubjectList(
            schema=schema.id,
            currency=value["currency"],
            purpose=Purpose(value["purpose"]),
            entries=tuple(SubjectEntry(c.tag, c) for c in consents),
        )
        cohort = {i: serving for i in members_of(bitmap) if (serving := state.serving_key(i)) is not None}
        own, period = cohort[desk.index], state.period_key.ref
        wraps = {i: desk.pair_keys(own, other, period).wrap for i, other in cohort.items() if i != desk.index}
        sealed, commitment = seal_subjects(
            subjects,
            q0=q0,
            inquirer=desk.index,
            wraps=wraps,
            supervisor_public=state.period_key.public,
            content_key=self.random_bytes(32),
            version=version,
        )

        # (6) the own contribution, like everyone else's: R18 to R20.
        def opening_with(payload: bytes) -> Opening:
            return Opening(
                nonce=nonce,
                group=value["group"],
                repeats=False,
                schema=schema.id,
                blocks=schema.blocks(len(consents), public.bits),
                currency=value["currency"],
                roster=state.roster,
                cohort=bitmap,
                n=n,
                key_proof=keyproof.prove(private),
                consents=tuple(c.hash for c in consents),
                sealed_subject=sealed,
                subject_commitment=commitment,
                payload=payload,
            )

        frame = protocol.make_frame(
            desk.realm, joint_credit, desk.index, opening_with(b""), schema, tuple(sorted(cohort))
        )
        payload = protocol.contribution(
            frame,
            desk.index,
            [self.book.record(schema, tag) for tag in request.tags],
            desk.mask_keys(cohort, period),
            seed=self.random_bytes(32),
            supervisor_public=state.period_key.public,
        )
        opening = opening_with(payload)

        # (7) into the store, then to the ledger: R24. The tags count as asked from now on, whatever comes of it: R27.
        key = f"open/{request.id}/{nonce}"
        desk.keys.keep_inquiry_key(private)
        with desk.store.transaction():
            value["attempts"].append({"nonce": nonce, "inquiry": to_hex(frame.inquiry), "key": public.fingerprint})
            self._update(request, state=RequestState.OPENING, step=key, note="")
            desk.store.put("meta", "inquiry_nonce", {"nonce": nonce})
            desk.note_seen(
                frame.inquiry,
                inquirer=desk.index,
                tags=request.tags,
                consents=list(opening.consents),
                cohort=bitmap,
                opened_at=now,
                order=(2**62, 0),
            )
        try:
            row = desk.outbox.post(key, Call(joint_credit, "open", (desk.index, opening.arguments())))
        except Refused as error:
            # The roster or the cohort moved, or the ledger holds this institution back: a new attempt at the next step.
            desk.store.delete("seen", to_hex(frame.inquiry))
            self._update(request, state=RequestState.WANTED, note=f"{error.message}. {error.remedy}")
            return []
        if row.state == "mined":
            self._update(request, state=RequestState.OPEN, inquiry=to_hex(frame.inquiry))
        return [f"opened {to_hex(frame.inquiry)[:12]} over {len(cohort)} institutions, {row.gas_used or '?'} gas"]

    def _window_note(self, seen: Any, members: tuple[int, ...]) -> str:
        names = ", ".join(self.desk.state.members[i].name for i in members)
        window = self.desk.state.parameters.window_seconds if self.desk.state.parameters else 0
        return (
            f"this customer was asked about at {seen.opened_at} over a cohort that differs from today's by {names}; an "
            f"answer now would give away a single institution's figure. Asked again by itself when the cohorts are the "
            f"same, or after {seen.opened_at + window}"
        )

    def _await_opening(self, request: Request) -> list[str]:
        """An attempt is under way, or was cut off by a crash: settle it by its outbox row."""
        attempt = request.value["attempts"][-1]
        row = self.desk.store.outbox_by_key(request.value["step"])
        inquiry = hex_bytes(attempt["inquiry"], 32)
        if inquiry in self.desk.state.inquiries or (row is not None and row.state == "mined"):
            self._update(request, state=RequestState.OPEN, inquiry=attempt["inquiry"])
            return [f"opened {attempt['inquiry'][:12]}"]
        if row is None:
            # The attempt was stored and never signed: nothing left the process.
            self.desk.store.delete("seen", attempt["inquiry"])
            self._update(request, state=RequestState.WANTED)
            return [f"request {request.id} was cut off before its opening was sent; it is made anew"]
        if row.state == "failed":
            # It was public, but nobody could answer it: it never was on this ledger.
            self.desk.store.delete("seen", attempt["inquiry"])
            self._update(request, state=RequestState.WANTED, note="the ledger refused the opening; trying again")
            return [f"the ledger refused the opening of request {request.id}; it is made anew"]
        return []

    def _lost(self, request: Request) -> list[str]:
        """A reorganisation took the opening off the ledger. It was public, so it is sent again unchanged, by the outbox."""
        row = self.desk.store.outbox_by_key(request.value["step"])
        if row is None or row.state != "failed":
            self._update(
                request, note="the opening was taken off the ledger with its block; it is sent again unchanged"
            )
            return []
        self._update(
            request,
            state=RequestState.FAILED,
            note="the opening was taken off the ledger with its block, and the ledger does not take it again; others "
            "have seen it: ask the customer for a new consent, then ask anew",
        )
        return [f"request {request.id} ended: its opening was lost in a reorganisation"]

    def _await_answers(self, request: Request, inquiry: Inquiry) -> list[str]:
        if self.desk.follower.next_time < inquiry.opened.deadline:
            waiting = ", ".join(inquiry.names[i] for i in inquiry.awaited)
            self._update(request, note=f"waiting for {waiting}")
            return []
        row = self.desk.post(f"expire/{to_hex(inquiry.id)}", Call(inquiry.joint_credit, "expire", (inquiry.id,)))
        return [f"deadline of {to_hex(inquiry.id)[:12]} has passed"] if row.state == "mined" else []

    # ----------------------------------------------------------------- totals

    def _report(self, request: Request, inquiry: Inquiry) -> list[str]:
        """Open the aggregate, check the totals, report them (R29, R30)."""
        desk = self.desk
        frame = protocol.frame_of(inquiry, desk.realm)
        attempt = next(a for a in request.value["attempts"] if a["inquiry"] == to_hex(inquiry.id))
        private = desk.keys.inquiry_key(attempt["key"])

        # (1) the aggregate, recomputed from what everyone sees.
        aggregate = protocol.product(frame, [inquiry.payload(member) for member in inquiry.cohort])

        # (2) open it, and distrust it: whoever contributes last can set the total: R29.
        try:
            openings = protocol.open_aggregate(frame, private, aggregate)
        except InvalidCiphertext as error:
            raise ProtocolViolation(
                "the aggregate is not a ciphertext; somebody sent a factor of the modulus"
            ) from error
        try:
            totals = protocol.totals(frame, [opening.m for opening in openings])
            note = ""
        except ValueOutOfRange as error:
            totals = None
            note = f"the totals are not sums of figures ({error.message}); the supervisor will name who did it"

        # (3) report, sealed to the supervisor: R30.
        key = to_hex(inquiry.id)
        stored = desk.store.get("report", key)
        if stored is None:
            salt = self.random_bytes(32)
            sealed, commitment = seal_report(
                openings,
                inquiry=inquiry.id,
                ctx=frame.ctx,
                modulus_bytes=frame.public.modulus_bytes,
                supervisor_public=inquiry.period_key.public,
                salt=salt,
            )
            stored = {
                "salt": to_hex(salt),
                "sealed": to_hex(sealed),
                "commitment": to_hex(commitment),
                "openings": [[hex(opening.m), hex(opening.r)] for opening in openings],
            }
            desk.store.insert("report", key, stored)
        self._update(
            request,
            state=RequestState.COMPLETE,
            note=note,
            totals=[{name: str(v) for name, v in record.items()} for record in totals] if totals else None,
        )
        row = desk.post(
            f"report/{key}",
            Call(
                inquiry.joint_credit,
                "report",
                (inquiry.id, hex_bytes(stored["commitment"], 32), hex_bytes(stored["sealed"], None), self.anchor()),
            ),
        )
        return [f"opened the totals of {key[:12]} and reported them, {row.gas_used or '?'} gas"]

    def _conclude(self, request: Request, inquiry: Inquiry) -> list[str]:
        names = inquiry.names
        match inquiry.stage:
            case Stage.REPORTED:
                if request.state is RequestState.REPORTED:
                    return []
                self._update(request, state=RequestState.REPORTED)
                return [f"report of {to_hex(inquiry.id)[:12]} is on the ledger"]
            case Stage.VALID:
                self._update(request, state=RequestState.ATTESTED, note="")
                return [f"the supervisor attested {to_hex(inquiry.id)[:12]}"]
            case Stage.VOID:
                who = ", ".join(names[i] for i in inquiry.culprits)
                self._update(request, state=RequestState.VOID, note=f"the supervisor voided it; named: {who}")
            case Stage.REFUSED:
                assert inquiry.refusal is not None
                advice = ADVICE.get(inquiry.refusal.code, "ask the institution")
                self._update(
                    request,
                    state=RequestState.REFUSED,
                    note=f"{names[inquiry.refusal.member]} refused (code {inquiry.refusal.code}): {advice}",
                )
            case Stage.EXPIRED:
                who = ", ".join(names[i] for i in inquiry.awaited)
                self._update(request, state=RequestState.EXPIRED, note=f"no answer from {who} before the deadline")
            case _:
                pass
        return [f"{to_hex(inquiry.id)[:12]} ended: {self.get(request.id).note}"]

    def await_final(self, request_id: str) -> Request:
        """Read a request whose totals are open.

        Raises:
            NotYet: they are not, with what it waits for.
            MpcreditError: they never will be, with the reason.
        """
        request = self.get(request_id)
        if request.state.final and request.state is not RequestState.ATTESTED:
            raise MpcreditError(f"the inquiry ended without totals that count: {request.note}")
        if request.totals is None:
            raise NotYet(request.note or f"the request is {request.state}")
        return request
