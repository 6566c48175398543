"""The inquirer's part: open an inquiry, wait for the cohort, open the totals, report them (R14 to R17, R29, R30).

A request is what the officer wants; it lives in the store and moves by `step`, so that a crash at any point loses
nothing. Each attempt to open has its own nonce, masks and seed; a request has at most one attempt that the ledger accepted.
It keeps one Paillier key until an opening under it is signed (docs/adr/0021). Only a verdict ends it for good: after a
reorganisation an inquiry that had ended may go on, and its request goes on with it. What the ledger shows of this
institution's inquiries without a request, for example after a restore, is reported or expired too (R30.1).

    wanted -> opening -> open -> complete -> reported -> attested | void
       ^---------'          `--> refused | expired                      (held back by the window rule: wanted, with a reason)
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from mpcredit import keyproof, limits, paillier, protocol
from mpcredit.consent import Consent, Purpose
from mpcredit.desk import Desk
from mpcredit.disclosure import ADVICE, RefusalCode, Seen, window_conflict
from mpcredit.encoding import canonical_json, hex_bytes, int_to_bytes, parse_canonical_json, to_hex
from mpcredit.errors import (
    InvalidCiphertext,
    InvalidConsent,
    InvalidMessage,
    KeyStoreError,
    LedgerError,
    MpcreditError,
    NodeRefused,
    NotYet,
    ProtocolViolation,
    Refused,
    ValueOutOfRange,
)
from mpcredit.events import Call, Opening, Stage, members_of
from mpcredit.outbox import ATTEMPTS
from mpcredit.paillier import PrivateKey
from mpcredit.ports import Book, OutboxRow
from mpcredit.sealing import (
    SubjectEntry,
    SubjectList,
    entry_length,
    open_repeat,
    report_commitment,
    report_salt,
    seal_report,
    seal_subjects,
)
from mpcredit.state import Inquiry
from mpcredit.versions import agreed_version

__all__ = ["Inquirer", "Request", "RequestState"]

log = logging.getLogger("mpcredit")

ZERO = bytes(32)
MINING_SECONDS: Final = 15
"""An opening that is sent now is mined within so long, on ledgers with blocks of up to 12 seconds."""
FIRST_WAIT: Final = 30
"""Seconds until an opening is tried again that the node or the ledger refused; twice as long each further time."""
LONGEST_WAIT: Final = 3_600
ASIDE_SECONDS: Final = 60
"""Until an own inquiry that could not be reported or expired is tried again."""
_MOVED: Final = frozenset({"RosterMoved", "CohortMoved"})
"""The opening was made for a moment that is over: it is made anew in the next round."""


def _utc(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


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
        """Whether nothing is expected to happen any more; only a verdict is beyond any reorganisation."""
        return self in (
            RequestState.ATTESTED,
            RequestState.VOID,
            RequestState.REFUSED,
            RequestState.EXPIRED,
            RequestState.FAILED,
        )


_ENDS: Final = {RequestState.REFUSED: Stage.REFUSED, RequestState.EXPIRED: Stage.EXPIRED}
"""The stage of an inquiry that ended its request; another one means that a reorganisation has changed it."""


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
    def attested(self) -> bool:
        """Whether a verdict that this institution believes says that the totals are right (R31)."""
        return self.state is RequestState.ATTESTED

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
    def keys(self) -> list[str]:
        """Fingerprints of its Paillier keys: one for each opening that was signed, and the one that waits for its opening."""
        waiting = self.value.get("key")
        return [attempt["key"] for attempt in self.value["attempts"]] + ([waiting] if waiting else [])

    @property
    def consents(self) -> list[Consent]:
        """One for each subject; they name the subjects."""
        return [Consent.from_json_object(parse_canonical_json(s["consent"].encode())) for s in self.value["subjects"]]


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
        resumed: how many requests went on after their end since this process began.
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
        self.resumed = 0
        self._aside: dict[bytes, tuple[str, int]] = {}
        """By inquiry that no request moves: why it was not closed, as the log has it, and when that is tried again."""
        self._compared: set[bytes] = set()
        """Commitments on the ledger that are not the stored ones, for which the totals were opened again."""

    # ----------------------------------------------------------------- requesting

    def request(
        self,
        labels: Sequence[str],
        consents: Sequence[Consent],
        *,
        officer: str,
        group: int = 0,
        schema: int = 1,
    ) -> Request:
        """Store a request for the totals of one or many subjects.

        Args:
            labels: how the institution calls the subjects; never an identity number in full.
            consents: one receipt for each subject, in the same order, for one purpose; each names its subject.
            officer: who asks; stays in this institution.

        Raises:
            InvalidConsent: a receipt does not permit this; nothing was stored.
            InvalidMessage: subjects missing, doubled, or too many for one inquiry.
        """
        if len(consents) != len(labels):
            raise InvalidConsent(
                f"{len(labels)} subjects need {len(labels)} consents, not {len(consents)}",
                remedy="give one consent receipt for each subject, in the same order",
            )
        purpose = self._check_request(consents)
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
                    {"label": label, "consent": canonical_json(consent.to_json_object()).decode()}
                    for label, consent in zip(labels, consents, strict=True)
                ],
            },
        )
        self.desk.store.insert("request", request.id, request.value)
        return request

    def _check_request(self, consents: Sequence[Consent]) -> Purpose:
        if not consents or len({self.desk.newest_tag(consent) for consent in consents}) != len(consents):
            raise InvalidMessage("an inquiry needs at least one subject, each once")
        purpose = consents[0].purpose
        # By the ledger's head, not by this machine's clock: a clock that is ahead would date consents in the future (R17).
        now, state = self.desk.follower.now, self.desk.state
        terms = state.parameters
        deadline = self.desk.follower.next_time + (terms.answer_seconds if terms else 0)
        for consent in consents:
            consent.check(
                realm=self.desk.realm,
                inquirer=self.desk.index,
                tag=consent.tag,
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
            began = state.first_named.get((self.desk.index, consent.hash))
            if (
                began is not None
                and terms is not None
                and began + terms.repeat_seconds <= deadline - terms.answer_seconds
            ):
                raise InvalidConsent(
                    "the time of the consent is over: an inquiry named it before",
                    remedy="ask the customer for a new one",
                )
            if consent.valid_until < deadline:
                raise InvalidConsent(
                    "the consent ends before the others must have answered", remedy="ask the customer for a longer one"
                )
        return purpose

    def capacity(self, consents: Sequence[Consent], *, schema: int = 1, most: int = limits.OPENING_BYTES) -> int:
        """How many subjects with these consents, from the first on, one inquiry takes today."""
        entries = [entry_length(SubjectEntry(consent.tag, consent)) for consent in consents]
        state = self.desk.state
        return limits.capacity(state.schemas[schema], self.bits, entries, len(state.active()), most=most)

    def earlier_cohorts(self, consents: Sequence[Consent]) -> list[int]:
        """The cohorts over which the consents' subjects were answered about within the window; 0 for none.

        Subjects of different ones cannot stand in one inquiry, since each is answered about over its own cohort (R27).
        """
        desk, state = self.desk, self.desk.state
        memory = [self._as_answered(seen) for seen in desk.remember()]
        window = state.parameters.window_seconds if state.parameters else 0
        since = desk.follower.next_time - max(window, desk.minimum_window)
        recent = [seen for seen in memory if seen.answered and seen.opened_at > since]
        cohorts = {tag: seen.cohort | 1 << desk.index for seen in recent for tag in seen.tags}
        return [cohorts.get(desk.newest_tag(consent), 0) for consent in consents]

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
        moved: set[bytes | None] = set()
        for request in self.requests():
            if request.state.final and not self._goes_on(request):
                continue
            before = request.state
            try:
                done.extend(self._move(request))
            except NodeRefused as error:  # of this one call: the others may pass
                self._update(request, note=str(error))
            except LedgerError:
                raise
            except MpcreditError as error:  # one request must not hold up the others
                self._update(request, note=str(error))
            after = self.get(request.id)
            moved.add(after.inquiry)
            if after.state is not before:
                log.info("request %s: %s -> %s", request.id, before, after.state)
        return done + self._close_others(moved)

    def _goes_on(self, request: Request) -> bool:
        """Whether the ledger shows otherwise what ended a request: a reorganisation has changed it, and it goes on."""
        attempts = request.value["attempts"]
        if request.state in (RequestState.ATTESTED, RequestState.VOID) or not attempts:
            return False
        last = attempts[-1]["inquiry"]
        inquiry = self.desk.state.inquiries.get(hex_bytes(last, 32))
        if inquiry is None:  # off the ledger; if it was on it, the outbox sends it again
            return request.state in _ENDS and self._resume(request, last)
        if inquiry.stage is _ENDS.get(request.state) or (request.state is RequestState.FAILED and inquiry.stage.failed):
            return False
        self.desk.note_seen(
            inquiry.id,
            inquirer=inquiry.inquirer,
            tags=[(consent.tag, consent.tag_key_version) for consent in request.consents],
            consents=list(inquiry.opening.consents),
            cohort=inquiry.opening.cohort,
            opened_at=inquiry.opened.at.timestamp,
            order=(inquiry.opened.at.block, inquiry.opened.at.log_index),
            repeats=inquiry.opening.repeats,
        )
        return self._resume(request, last)

    def _resume(self, request: Request, inquiry: str) -> bool:
        log.warning("request %s goes on: its end was taken off the ledger", request.id)
        self._update(request, state=RequestState.OPEN, inquiry=inquiry, note="")
        self.resumed += 1
        return True

    def _close_others(self, moved: Collection[bytes | None]) -> list[str]:
        """Report and expire own inquiries that no request moves: R30.1. Left alone, one would stop every later opening.

        Args:
            moved: inquiries of the requests that are under way.
        """
        try:
            own = self.desk.index
        except NotYet:  # no member has named this account, or not any more
            return []
        done: list[str] = []
        for inquiry in list(self.desk.state.inquiries.values()):
            if inquiry.inquirer != own or inquiry.id in moved:
                continue
            if inquiry.opened.at.block > self.desk.follower.final_block:
                continue
            if self.desk.follower.next_time < self._aside.get(inquiry.id, ("", 0))[1]:
                continue
            try:
                done += self._close(inquiry)
                self._aside.pop(inquiry.id, None)
            except NodeRefused as error:
                self._set_aside(inquiry, str(error))
            except LedgerError:
                raise
            except MpcreditError as error:  # for example its key is not here
                self._set_aside(inquiry, str(error))
        return done

    def _close(self, inquiry: Inquiry) -> list[str]:
        if inquiry.stage is Stage.OPEN and self.desk.follower.next_time >= inquiry.opened.deadline:
            return self._expire(inquiry)
        if inquiry.stage is not Stage.COMPLETE:
            return []
        step = f"report/{to_hex(inquiry.id)}"
        rows = [self.desk.store.outbox_by_key(f"{step}/{attempt}") for attempt in range(1, ATTEMPTS + 1)]
        if any(row is not None and row.state != "failed" for row in rows):
            return []  # under way
        if rows[-1] is not None:
            raise MpcreditError(
                f"{ATTEMPTS} reports of it failed", remedy="mend that, then `mpcredit inquire --report`"
            )
        return self._report(inquiry)

    def _set_aside(self, inquiry: Inquiry, text: str) -> None:
        if self._aside.get(inquiry.id, ("", 0))[0] != text:
            log.warning("own inquiry %s is not closed: %s", to_hex(inquiry.id)[:12], text)
        self._aside[inquiry.id] = (text, self.desk.follower.next_time + ASIDE_SECONDS)

    def report(self, inquiry_id: bytes) -> OutboxRow:
        """Report an own inquiry by hand: where its key came back later, or the reports sent by themselves failed.

        Returns:
            The step on its way to the ledger.

        Raises:
            InvalidMessage: it is no complete inquiry of this institution.
            KeyStoreError: its key is not here.
            Refused: the ledger does not take the report.
        """
        inquiry = self.desk.state.inquiries.get(inquiry_id)
        if inquiry is None or inquiry.inquirer != self.desk.index or inquiry.stage is not Stage.COMPLETE:
            state = "on this ledger" if inquiry is None else f"complete: it is {inquiry.stage.name.lower()}"
            if inquiry is not None and inquiry.inquirer != self.desk.index:
                state = "this institution's own"
            raise InvalidMessage(
                f"inquiry {to_hex(inquiry_id)[:14]} is not {state}",
                remedy="the inquirer reports an inquiry that every institution of its cohort has answered",
            )
        own = (r for r in self.requests() if to_hex(inquiry_id) in [a["inquiry"] for a in r.value["attempts"]])
        call = self._report_call(inquiry, self._open_totals(inquiry, next(own, None)))
        row = self.desk.post(f"report/{to_hex(inquiry_id)}", call)
        if row.state != "failed":
            return row
        return self.desk.post(f"report/{to_hex(inquiry_id)}/by-hand/{self.desk.follower.now}", call)

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
            return self._report(inquiry, request)
        end = inquiry.verdict or inquiry.expired or inquiry.refusal
        if end is not None and end.at.block > self.desk.follower.final_block:
            return []
        return self._conclude(request, inquiry)

    def _update(self, request: Request, **changes: Any) -> None:
        request.value.update(changes)
        self.desk.store.put("request", request.id, request.value)

    def _open(self, request: Request) -> list[str]:
        """Make an attempt: key, masks, sealed subjects and own contribution for the roster and cohort of now."""
        desk = self.desk
        # (0) does the house hold it back, or was it refused a moment ago?
        held = self.hold(request)
        if held:
            if held != request.note:
                self._update(request, note=held)
            return []
        if desk.follower.next_time < (request.value.get("wait") or {"until": 0})["until"]:
            return []

        state, value = desk.state, request.value
        schema = state.schemas[value["schema"]]
        now = desk.follower.next_time
        bitmap = state.cohort(value["group"], now)
        minimum = max(3, desk.minimum_cohort, state.parameters.minimum_cohort if state.parameters else 0)

        if now < state.opens_from:
            self._update(request, note=f"the consortium opens nothing before {_utc(state.opens_from)}")
            return []

        # (0b) can it see what was asked before, and can the others? R4.
        if desk.missing_tag_key:
            self._update(request, note=desk.tag_key_hindrance)
            return []

        # (1) is there a cohort, with me in it, that stands until the opening is mined? R14, R28.
        moving = self._moving(bitmap, value["group"], now, minimum)
        if moving:
            self._update(request, note=moving)
            return []
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
        consents = request.consents
        try:
            self._check_request(consents)
            self._check_size(schema.id, consents, limits.TRANSACTION_BYTES)  # [inquiry] bits may have grown since
        except InvalidMessage as error:
            self._update(request, state=RequestState.FAILED, note=str(error))
            return [f"request {request.id} ended: {error.message}"]

        # (4) would the others refuse by the window rule? Then it waits, and opens by itself: R27.
        tags = [desk.newest_tag(consent) for consent in consents]
        chosen = self._cohort(request, tags, bitmap, now, minimum)
        if isinstance(chosen, str):
            self._update(request, note=chosen)
            return []
        repeats, bitmap = chosen != bitmap, chosen

        # (5) key, ids, sealed subjects.
        private = self._key(request)
        public = private.public
        n = int_to_bytes(public.n, public.modulus_bytes)
        joint_credit = state.joint_credit
        if joint_credit is None or state.period_key is None:
            raise NotYet("the consortium is not founded yet", remedy="see `mpcredit doctor`")
        nonce = int.from_bytes(self.random_bytes(8), "big")
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
                repeats=repeats,
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
            [self.book.record(schema, tag) for tag in tags],
            desk.mask_keys(cohort, period),
            seed=self.random_bytes(32),
            supervisor_public=state.period_key.public,
        )
        opening = opening_with(payload)

        # (7) into the store, then to the ledger: R24. The tags count as asked from now on, whatever comes of it: R27.
        key = f"open/{request.id}/{nonce}"
        with desk.store.transaction():
            value["attempts"].append({"nonce": nonce, "inquiry": to_hex(frame.inquiry), "key": public.fingerprint})
            self._update(request, state=RequestState.OPENING, step=key, note="", key=None)
            desk.note_seen(
                frame.inquiry,
                inquirer=desk.index,
                tags=[(consent.tag, consent.tag_key_version) for consent in consents],
                consents=list(opening.consents),
                cohort=bitmap,
                opened_at=now,
                order=(2**62, 0),
                repeats=repeats,
            )
        try:
            row = desk.outbox.post(key, Call(joint_credit, "open", (desk.index, opening.arguments()), now))
        except (Refused, NodeRefused) as error:
            if desk.store.outbox_by_key(key) is None:  # at the estimate: nothing was signed
                self._take_back(request)
                self._put_off(request, error)
                return []
            raise
        self._update(request, wait=None)
        if row.state == "mined":
            self._update(request, state=RequestState.OPEN, inquiry=to_hex(frame.inquiry))
        return [f"opened {to_hex(frame.inquiry)[:12]} over {len(cohort)} institutions, {row.gas_used or '?'} gas"]

    def _key(self, request: Request) -> PrivateKey:
        """The Paillier key that waits for an opening of this request; made where there is none (docs/adr/0021)."""
        keys, known = self.desk.keys, request.value.get("key")
        if known:
            try:
                private = keys.inquiry_key(known)
                if private.public.bits == self.bits:
                    return private
                keys.destroy_inquiry_key(known)  # nothing was ever signed under it
            except KeyStoreError:  # a crash before it was kept, or a key store from a backup
                pass
        private = paillier.generate(self.bits)
        self._update(request, key=private.public.fingerprint)
        keys.keep_inquiry_key(private)
        return private

    def _take_back(self, request: Request) -> None:
        """Undo an attempt of which nothing was signed: its tags do not count as asked, its key waits for the next one."""
        attempt = request.value["attempts"].pop()
        with self.desk.store.transaction():
            self.desk.store.delete("seen", attempt["inquiry"])
            self._update(request, state=RequestState.WANTED, key=attempt["key"])

    def _put_off(self, request: Request, error: Refused | NodeRefused) -> None:
        """Say why an opening was refused, and wait longer each time, so that it does not keep others from their turn."""
        note = f"{error.message} ({error.remedy})" if error.remedy else error.message
        if isinstance(error, Refused) and error.code in _MOVED:
            self._update(request, note=note)
            return
        times = (request.value.get("wait") or {"times": 0})["times"] + 1
        until = self.desk.follower.next_time + min(FIRST_WAIT << min(times - 1, 16), LONGEST_WAIT)
        self._update(request, wait={"times": times, "until": until}, note=f"{note}; it is tried again at {_utc(until)}")

    def _moving(self, bitmap: int, group: int, now: int, minimum: int) -> str:
        """Why to wait for the next period of readiness, whose cohort is another one; empty: not to wait.

        Args:
            bitmap: the cohort of this period.
            now: the least time at which an opening would be judged.
        """
        state = self.desk.state
        period = state.period_seconds
        following = now - now % period + period
        if state.cohort(group, following) == bitmap:
            return ""
        late = following - now <= min(MINING_SECONDS, period // 2)
        possible = bitmap >> self.desk.index & 1 and bitmap.bit_count() >= minimum
        if possible and not late:
            return ""
        return f"other institutions are ready from the next period on; it waits for that, which begins at {_utc(following)}"

    def _as_answered(self, seen: Seen) -> Seen:
        """What was seen, as those remember it that will be asked: the ledger shows that others have answered."""
        inquiry = self.desk.state.inquiries.get(seen.inquiry)
        others = inquiry is not None and len(inquiry.contributions) > 1
        return replace(seen, answered=seen.answered or others)

    def _cohort(self, request: Request, tags: Sequence[bytes], ready: int, now: int, minimum: int) -> int | str:
        """The cohort to open over: all ready members, or the one that was answered about a subject before (R14, R27).

        Returns:
            A bitmap, or a sentence that says why nothing can be opened now.
        """
        desk, state = self.desk, self.desk.state
        memory = [self._as_answered(seen) for seen in desk.remember()]
        window = state.parameters.window_seconds if state.parameters else 0
        told = request.value.get("repeat")
        conflict = window_conflict(tags, ready, desk.index, now, memory, window, desk.minimum_window)
        if told is None and conflict is None:
            return ready
        cohort = (int(told, 16) if told is not None else conflict[0].cohort if conflict else 0) | 1 << desk.index
        if cohort == ready:
            return ready
        away = members_of(cohort & ~ready)
        if away:
            return self._waits_for(
                away, "they took part when this customer was asked about before, and are not ready now"
            )
        size = cohort.bit_count()
        if size < minimum or 3 * size < 2 * ready.bit_count():
            return (
                "this customer was asked about before, over fewer than two thirds of the institutions that are ready now; "
                "asked again by itself when the window is over"
            )
        again = window_conflict(tags, cohort, desk.index, now, memory, window, desk.minimum_window)
        if again is not None:
            return self._waits_for(again[1], "answers over different institutions would give away their figures")
        return cohort

    def _waits_for(self, members: Sequence[int], why: str) -> str:
        names = ", ".join(self.desk.state.members[i].name for i in members)
        return f"waits for {names}: {why}. Asked again by itself when that changes, or when the window is over"

    def _repeat(self, request: Request, inquiry: Inquiry) -> bool:
        """Take the cohort to repeat from a refusal WINDOW; the request opens again by itself, under the same consent."""
        refusal, desk = inquiry.refusal, self.desk
        if refusal is None or refusal.code != RefusalCode.WINDOW or len(request.consents) != 1:
            return False
        keys = inquiry.keys
        pair = desk.pair_keys(keys[desk.index], keys[refusal.member], inquiry.period_key.ref)
        try:
            cohort = open_repeat(pair.wrap, inquiry.id, refusal.member, refusal.sealed_cohort)
        except InvalidMessage:
            return False
        if request.value.get("repeat") == hex(cohort):
            return False  # it was repeated, and refused again
        name = inquiry.names[refusal.member]
        note = f"{name} answered about this customer before, over another cohort: asked again over that one by itself"
        self._update(request, state=RequestState.WANTED, repeat=hex(cohort), note=note)
        return True

    def _await_opening(self, request: Request) -> list[str]:
        """An attempt is under way, or was cut off by a crash: settle it by its outbox row."""
        attempt = request.value["attempts"][-1]
        row = self.desk.store.outbox_by_key(request.value["step"])
        inquiry = hex_bytes(attempt["inquiry"], 32)
        if inquiry in self.desk.state.inquiries or (row is not None and row.state == "mined"):
            self._update(request, state=RequestState.OPEN, inquiry=attempt["inquiry"])
            return [f"opened {attempt['inquiry'][:12]}"]
        if row is None:
            # Nothing was signed, though the node may have seen it for its estimate: R24.
            self._take_back(request)
            return [f"request {request.id} was cut off before its opening was sent; it is made anew"]
        if row.state != "failed":
            return []
        filled = self.desk.outbox.filled_at(row.key)
        if filled is not None and filled > self.desk.follower.final_block:
            self._update(request, note="no node took the opening; it ends when what took its place is final")
            return []
        # It was public, but nobody could answer it: it never was on this ledger.
        self.desk.store.delete("seen", attempt["inquiry"])
        if filled is not None:
            note = "no node took the opening, it is too large; ask about fewer customers at once"
            self._update(request, state=RequestState.FAILED, note=note)
            return [f"request {request.id} ended: {note}"]
        self._update(request, state=RequestState.WANTED, note="the ledger refused the opening; trying again")
        return [f"the ledger refused the opening of request {request.id}; it is made anew"]

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
        now, deadline = self.desk.follower.next_time, inquiry.opened.deadline
        if now >= deadline:
            return self._expire(inquiry)
        waiting = ", ".join(inquiry.names[i] for i in inquiry.awaited)
        self._update(request, note=f"waiting for {waiting}, until {_utc(deadline)}")
        return self._lapse(inquiry, now)

    def _expire(self, inquiry: Inquiry) -> list[str]:
        call = Call(inquiry.joint_credit, "expire", (inquiry.id,), inquiry.opened.deadline)
        row = self.desk.post(f"expire/{to_hex(inquiry.id)}", call)
        return [f"deadline of {to_hex(inquiry.id)[:12]} has passed"] if row.state == "mined" else []

    def _lapse(self, inquiry: Inquiry, now: int) -> list[str]:
        """Switch off members that stay silent, once an inquiry: the next inquiries go on without them (R23.2)."""
        silent_from = self._silent_from(inquiry)
        step = f"lapse/{to_hex(inquiry.id)}"
        silent = [i for i in inquiry.awaited if self.desk.state.ready_next() >> i & 1]
        final = inquiry.opened.at.block <= self.desk.follower.final_block
        if not final or now < silent_from or not silent or self.desk.store.outbox_by_key(f"{step}/1") is not None:
            return []
        try:
            row = self.desk.post(step, Call(inquiry.joint_credit, "lapse", (inquiry.id,), silent_from))
        except Refused as error:  # another one was faster, or the members have answered meanwhile
            log.info("the ledger did not take the lapse of %s: %s", to_hex(inquiry.id)[:12], error)
            return []
        who = ", ".join(inquiry.names[i] for i in silent)
        return [f"switched off {who}, silent in {to_hex(inquiry.id)[:12]}"] if row.state == "mined" else []

    def _silent_from(self, inquiry: Inquiry) -> int:
        """From when a member is silent, for this service: furnishers begin when the opening is final to them.

        The contract counts from the opening. Without the time that confirmations take, an institution would switch off
        everybody wherever finality takes longer than `silence_seconds`.
        """
        follower, opened = self.desk.follower, inquiry.opened.at
        blocks = follower.final_block + follower.confirmations - opened.block
        passed = follower.now - opened.timestamp
        final = passed * follower.confirmations // blocks if blocks > 0 else 0
        return opened.timestamp + inquiry.parameters.silence_seconds + final

    # ----------------------------------------------------------------- totals

    def _report(self, inquiry: Inquiry, request: Request | None = None) -> list[str]:
        """Open the totals and report them (R29, R30)."""
        # A contribution that a reorganisation replaces by another would make this report a false one.
        if inquiry.completed_at is not None and inquiry.completed_at.block > self.desk.follower.final_block:
            return []
        key = to_hex(inquiry.id)
        row = self.desk.post(f"report/{key}", self._report_call(inquiry, self._open_totals(inquiry, request)))
        return [f"opened the totals of {key[:12]} and reported them, {row.gas_used or '?'} gas"]

    def _report_call(self, inquiry: Inquiry, stored: Mapping[str, Any]) -> Call:
        commitment, sealed = hex_bytes(stored["commitment"], 32), hex_bytes(stored["sealed"], None)
        return Call(inquiry.joint_credit, "report", (inquiry.id, commitment, sealed, self.anchor()))

    def _compare_report(self, request: Request, inquiry: Inquiry) -> None:
        """Open the totals again if the commitment on the ledger is not the stored one (R30): after a restore, say."""
        if inquiry.report is None or inquiry.report.commitment in self._compared:
            return
        stored = self.desk.store.get("report", to_hex(inquiry.id))
        same = stored is not None and stored["commitment"] == to_hex(inquiry.report.commitment)
        if same and request.totals is not None:
            return
        self._open_totals(inquiry, request)
        self._compared.add(inquiry.report.commitment)
        if not same:
            log.warning("the report of %s on the ledger was not the stored one", to_hex(inquiry.id)[:12])

    def _open_totals(self, inquiry: Inquiry, request: Request | None) -> dict[str, Any]:
        """Open the aggregate, check the totals, store them.

        Args:
            request: takes the totals; None where no request is known, as after a restore.

        Returns:
            The stored report: that of this aggregate.
        """
        desk = self.desk
        frame = protocol.frame_of(inquiry, desk.realm)
        private = desk.keys.inquiry_key(frame.public.fingerprint)

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

        # (3) the report of this aggregate, sealed to the supervisor: R30. One of another aggregate is replaced.
        key, width = to_hex(inquiry.id), frame.public.modulus_bytes
        salt = report_salt(private, inquiry.id, protocol.aggregate_bytes(frame, aggregate))
        commitment = report_commitment(inquiry.id, salt, openings, width)
        stored = desk.store.get("report", key)
        if stored is None or stored["commitment"] != to_hex(commitment):
            sealed, _ = seal_report(
                openings,
                inquiry=inquiry.id,
                ctx=frame.ctx,
                modulus_bytes=width,
                supervisor_public=inquiry.period_key.public,
                salt=salt,
            )
            stored = {
                "salt": to_hex(salt),
                "sealed": to_hex(sealed),
                "commitment": to_hex(commitment),
                "openings": [[hex(opening.m), hex(opening.r)] for opening in openings],
            }
            desk.store.put("report", key, stored)
        if request is not None:
            self._update(
                request,
                state=RequestState.COMPLETE,
                note=note,
                totals=[{name: str(v) for name, v in record.items()} for record in totals] if totals else None,
            )
        return stored

    def _conclude(self, request: Request, inquiry: Inquiry) -> list[str]:
        names = inquiry.names
        if inquiry.stage in (Stage.REPORTED, Stage.VALID):
            self._compare_report(request, inquiry)
        match inquiry.stage:
            case Stage.REPORTED:
                if request.state is RequestState.REPORTED:
                    return []
                self._update(request, state=RequestState.REPORTED)
                return [f"report of {to_hex(inquiry.id)[:12]} is on the ledger"]
            case Stage.VALID:
                return self._believe(request, inquiry)
            case Stage.VOID:
                if not self._is_signed(inquiry):
                    return self._doubt(request)
                who = ", ".join(names[i] for i in inquiry.culprits)
                note = "the supervisor voided it and named nobody; it can say why, then ask again"
                note = f"the supervisor voided it; named: {who}" if who else note
                self._update(request, state=RequestState.VOID, note=note)
            case Stage.REFUSED:
                assert inquiry.refusal is not None
                if self._repeat(request, inquiry):
                    return [f"{to_hex(inquiry.id)[:12]} is asked again over the cohort that was answered before"]
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

    def _believe(self, request: Request, inquiry: Inquiry) -> list[str]:
        """Take a verdict for one on the own report only with the signature of a pinned supervisor's account (R31).

        The fold has compared the account of the event with the one that the supervisor's owner named.
        """
        verdict = inquiry.verdict
        assert verdict is not None
        stored = self.desk.store.get("report", to_hex(inquiry.id))
        own = stored is not None and stored["commitment"] == to_hex(verdict.commitment)
        if own and self._is_signed(inquiry):
            self._update(request, state=RequestState.ATTESTED, note="")
            return [f"the supervisor attested {to_hex(inquiry.id)[:12]}"]
        if request.state is not RequestState.REPORTED:
            self._update(request, state=RequestState.REPORTED)
        return self._doubt(request)

    def _is_signed(self, inquiry: Inquiry) -> bool:
        """Whether the account of a pinned supervisor signed the verdict that the ledger shows."""
        desk, verdict = self.desk, inquiry.verdict
        assert verdict is not None
        on = (inquiry.id, verdict.supervisor, verdict.valid)
        arguments = (*on, verdict.culprits, verdict.commitment, verdict.anchor)
        call = Call(inquiry.joint_credit, "attest", arguments)
        return (
            desk.state.pins.accepts_supervisor(verdict.supervisor)
            and desk.follower.ledger.signed_by(verdict.at.transaction, call) == verdict.account
        )

    def _doubt(self, request: Request) -> list[str]:
        """A verdict that an endpoint may have made up ends nothing: behind another endpoint the request goes on."""
        self._update(
            request,
            note="the ledger shows a verdict that is not on this institution's own report, or not signed by a "
            "supervisor that it has accepted; compare the supervisor's owner account, then `mpcredit member pin`",
        )
        return []

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
