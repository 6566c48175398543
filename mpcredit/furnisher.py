"""The furnisher's part: answer every inquiry of whose cohort this institution is, once, or refuse it (R23 to R27).

One answer per inquiry, made once, stored before anything of it leaves the process (even for a gas estimate), sent again
unchanged. The policy is decided before the loan book is looked at; a customer and a stranger cost the same work.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mpcredit import protocol
from mpcredit.consent import Consent
from mpcredit.desk import Desk
from mpcredit.disclosure import Refusal, RefusalCode, Seen, UsedConsent, decide
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import (
    InvalidKey,
    InvalidMessage,
    InvalidProof,
    InvalidSubject,
    KeyUnavailable,
    LedgerError,
    MpcreditError,
    Refused,
    StoreError,
)
from mpcredit.events import Call, Stage
from mpcredit.ports import Book
from mpcredit.sealing import seal_repeat, sealed_version
from mpcredit.state import Inquiry

__all__ = ["Furnisher"]

log = logging.getLogger("mpcredit")


class Furnisher:
    """Answers others' inquiries.

    Args:
        desk: the institution's working place.
        book: its figures; read as a snapshot for each answer.
        random_bytes: source of the 32-byte seeds.
    """

    def __init__(self, desk: Desk, book: Book, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self.desk = desk
        self.book = book
        self.random_bytes = random_bytes

    def step(self) -> list[str]:
        """Do what is due; safe to call at any time and after any crash.

        Returns:
            One line for each thing done, for the log and the terminal.
        """
        done: list[str] = []
        index = self.desk.index
        self._notice_forgotten(index)
        self._forget_figures()
        for inquiry in list(self.desk.state.inquiries.values()):
            if index not in inquiry.cohort or inquiry.inquirer == index or index not in inquiry.awaited:
                continue
            if inquiry.opened.at.block > self.desk.follower.final_block:
                continue
            try:
                if inquiry.stage is Stage.OPEN:
                    done.extend(self._answer(inquiry))
            except (LedgerError, StoreError, KeyUnavailable):
                raise
            except MpcreditError as error:  # one inquiry must not hold up the others
                log.warning("inquiry %s cannot be answered: %s", to_hex(inquiry.id)[:12], error)
        return done

    def _notice_forgotten(self, index: int) -> None:
        """An answer on the ledger of this store's tenure that the store does not know: it was set back (R25).

        The account's nonce says nothing if the owner has named another account with the same tenure in between.
        """
        desk = self.desk
        for inquiry in desk.state.inquiries.values():
            if inquiry.inquirer == index or inquiry.tenures.get(index) != desk.tenure.value:
                continue
            refused = inquiry.refusal is not None and inquiry.refusal.member == index
            key = to_hex(inquiry.id)
            if (index in inquiry.contributions or refused) and desk.store.get("answer", key) is None:
                desk.outbox.note_foreign(f"this institution has answered inquiry {key}, and this store has not")

    # ----------------------------------------------------------------- answering

    def _answer(self, inquiry: Inquiry) -> list[str]:
        key = to_hex(inquiry.id)
        answer = self.desk.store.get("answer", key)

        # (1) one answer for ever: what is stored is sent, whatever the book says now: R24.
        if answer is None:
            if self.desk.missing_tag_key or self.desk.displaced:
                return []  # it is judged as soon as the key is here, and by the store whose tenure is named: R4, R25
            self.desk.follower.bear_out()
            self.desk.outbox.compare()  # a machine set back to a snapshot goes on without a start: R25
            if self.desk.stopped:
                return []
            refusal = self.judge(inquiry)
            answer = self._refusal(inquiry, refusal) if refusal else self._figures(inquiry)
            with self.desk.store.transaction():
                used = answer.pop("consents", {})
                self.desk.store.insert("answer", key, answer)
                for consent, value in used.items():
                    self.desk.store.put("consent", consent, value)
                if "payload" in answer:
                    self.desk.tenure.note(inquiry.id, hex_bytes(answer["payload"], None))

        # (2) the stored answer goes through the outbox.
        try:
            if "refused" in answer:
                code = int(answer["refused"])
                call = Call(
                    inquiry.joint_credit,
                    "refuse",
                    (inquiry.id, self.desk.index, code, hex_bytes(answer["repeat"], None)),
                )
                row = self.desk.post(f"refuse/{key}", call)
                return [f"refused {key[:12]}: {answer['text']}"] if row.state == "mined" else []
            payload = hex_bytes(answer["payload"], None)
            known = self.desk.store.outbox_by_key(f"answer/{key}/1")
            if known is None:  # also after a crash right behind the store
                self.desk.tenure.seal()  # on the disk before anything leaves, a gas estimate too: R25
            call = Call(inquiry.joint_credit, "contribute", (inquiry.id, self.desk.index, payload))
            row = self.desk.post(f"answer/{key}", call)
        except Refused as error:
            log.warning("the ledger did not take the answer to %s: %s", key[:12], error)
            return []
        return [f"answered {key[:12]} in block {row.block}, {row.gas_used} gas"] if known is None and row.block else []

    def judge(self, inquiry: Inquiry) -> Refusal | None:
        """Decide whether to answer, from the inquiry and what was seen before; the loan book is not looked at (R26).

        Returns:
            A refusal with its code and reason, or None.
        """
        desk = self.desk
        if inquiry.tenures.get(desk.index) != desk.tenure.value or inquiry.opened.at.timestamp <= desk.member.since:
            return Refusal(RefusalCode.RESTORED, "the inquiry opened before this store began its tenure")
        if self._is_ended(inquiry):
            return Refusal(RefusalCode.COHORT, "the supervisor has ended the period key of the inquiry")
        own = inquiry.keys[desk.index]
        if own.version in desk.member.compromised:
            return Refusal(RefusalCode.COHORT, "the inquiry uses a key that this institution has called compromised")
        try:
            protocol.check_cohort(inquiry, desk.minimum_cohort)
        except InvalidMessage as error:
            return Refusal(RefusalCode.COHORT, str(error))
        try:
            protocol.check_key(inquiry)
        except (InvalidKey, InvalidProof) as error:
            return Refusal(RefusalCode.KEY, error.message)
        try:
            protocol.frame_of(inquiry, desk.realm)
        except InvalidMessage as error:
            return Refusal(RefusalCode.ENCODING, error.message)
        version = sealed_version(inquiry.opening.sealed_subject)
        if version not in desk.release.versions:
            return Refusal(
                RefusalCode.ENCODING,
                f"the messages of the inquiry are of version {version}, this release reads {desk.release.reads}; "
                "the one that is behind must upgrade",
            )
        try:
            subjects = desk.subjects(inquiry)
        except InvalidSubject as error:
            return Refusal(RefusalCode.SUBJECT, error.message)
        except InvalidMessage as error:
            return Refusal(RefusalCode.ENCODING, error.message)
        tags, memory = desk.newest_tags(subjects), desk.remember()
        if len(set(tags)) != len(tags):
            return Refusal(RefusalCode.SUBJECT, "a subject is on the list twice, under two versions of the tag key")
        return decide(
            inquiry,
            subjects,
            state=desk.state,
            memory=memory,
            tags=tags,
            tag_key_version=desk.tagger.version,
            currency=self.book.currency,
            book_as_of=self.book.as_of,
            now=desk.follower.now,
            consents=self._used_consents(memory),
            minimum_window=desk.minimum_window,
            clock=int(desk.follower.clock()),
        )

    def _is_ended(self, inquiry: Inquiry) -> bool:
        return inquiry.period_key.version in self.desk.state.ended_keys

    def _figures(self, inquiry: Inquiry) -> dict[str, Any]:
        frame = protocol.frame_of(inquiry, self.desk.realm)
        subjects = self.desk.subjects(inquiry)
        used = dict(self.desk.store.items("consent"))
        try:
            records = [
                self._record(inquiry, tag, used.get(to_hex(entry.consent.hash)))
                for entry, tag in zip(subjects.entries, self.desk.newest_tags(subjects), strict=True)
            ]
        except Refused as error:  # no figures of this schema, whoever is asked about
            return self._refusal(inquiry, Refusal(RefusalCode.ENCODING, error.message))
        payload = protocol.contribution(
            frame,
            self.desk.index,
            records,
            self.desk.mask_keys(inquiry.keys, inquiry.period_key.ref),
            seed=self.random_bytes(32),
            supervisor_public=inquiry.period_key.public,
        )
        made_at = int(self.desk.follower.clock())
        consents = {
            to_hex(entry.consent.hash): self._given(inquiry, entry.consent, record)
            for entry, record in zip(subjects.entries, records, strict=True)
            if to_hex(entry.consent.hash) not in used
        }
        cohort = hex(inquiry.opening.cohort)
        return {"payload": to_hex(payload), "cohort": cohort, "made_at": made_at, "consents": consents}

    # ----------------------------------------------------------------- one consent, one set of figures (R17)

    def _record(self, inquiry: Inquiry, tag: bytes, used: Mapping[str, Any] | None) -> Mapping[str, int]:
        """Figures of a subject: those that its consent gave before, or the book's. A correction changes no used consent."""
        if used is None:
            return self.book.record(inquiry.schema, tag)
        return {name: int(amount) for name, amount in used["figures"].items()}

    def _given(self, inquiry: Inquiry, consent: Consent, record: Mapping[str, int]) -> dict[str, Any]:
        began = self.desk.state.first_named.get((inquiry.inquirer, consent.hash), inquiry.opened.at.timestamp)
        return {
            "cohort": hex(inquiry.opening.cohort),
            "schema": inquiry.opening.schema,
            "currency": inquiry.opening.currency,
            "figures": {name: str(amount) for name, amount in record.items()},
            "until": began + inquiry.parameters.repeat_seconds,
            "ends": consent.valid_until,
        }

    def _used_consents(self, memory: Iterable[Seen]) -> dict[bytes, UsedConsent]:
        used = {
            hex_bytes(key, 32): UsedConsent(
                int(value["cohort"], 16), value["schema"], value["currency"], "figures" in value
            )
            for key, value in self.desk.store.items("consent")
        }
        # What an earlier tenure gave is not known here for sure, so it is not repeated: R25.7.
        lost = {consent: seen.cohort for seen in memory if seen.earlier for consent in seen.consents}
        return used | {consent: UsedConsent(cohort, 0, "", False) for consent, cohort in lost.items()}

    def _forget_figures(self) -> None:
        """Erase figures when the time of their consent is over, and the consent when it has ended."""
        store, now = self.desk.store, self.desk.follower.now
        for key, value in list(store.items("consent")):
            if value["ends"] <= now:
                store.delete("consent", key)
            elif "figures" in value and value["until"] <= now:
                store.put("consent", key, {name: part for name, part in value.items() if name != "figures"})

    def _refusal(self, inquiry: Inquiry, refusal: Refusal) -> dict[str, Any]:
        """A refusal as it is stored; with WINDOW it carries the cohort to repeat, sealed to the inquirer (R27)."""
        sealed = b""
        if refusal.repeat:
            desk, keys = self.desk, inquiry.keys
            pair = desk.pair_keys(keys[desk.index], keys[inquiry.inquirer], inquiry.period_key.ref)
            sealed = seal_repeat(pair.wrap, inquiry.id, desk.index, refusal.repeat)
        return {"refused": int(refusal.code), "text": refusal.text, "repeat": to_hex(sealed)}
