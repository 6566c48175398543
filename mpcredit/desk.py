"""What every use case of one institution works with: its view of the ledger, its store, its keys, its outbox.

Also what several of them need: the pair keys with another member, the newest tags of subjects (R4), and what this member
has seen so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mpcredit.consent import Consent
from mpcredit.disclosure import Seen
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidMessage, KeyStoreError, KeyUnavailable, MpcreditError, NotYet
from mpcredit.events import Call
from mpcredit.follower import Follower
from mpcredit.ledger.roster import Member
from mpcredit.outbox import ATTEMPTS, Outbox
from mpcredit.pairkeys import KeyRef, PairKeys, PeriodRef, Realm, derive
from mpcredit.ports import Keys, OutboxRow, Store
from mpcredit.sealing import SubjectList, open_subjects_member
from mpcredit.state import Inquiry, LedgerState
from mpcredit.tags import HmacTagger, Tagger, tagger_of
from mpcredit.tenure import Marks, Tenure, member_index, note_member
from mpcredit.versions import THIS_RELEASE, Release

__all__ = ["Desk"]


@dataclass
class Desk:
    """One institution's working place. One process at a time uses it."""

    follower: Follower
    outbox: Outbox
    store: Store
    keys: Keys
    tagger: Tagger
    minimum_cohort: int = 3
    """This institution's own least cohort, whatever the ledger says."""
    minimum_window: int = 0
    """Its own least window, seconds."""
    marks: Marks | None = None
    """Where the mark of the store is kept; None keeps none."""
    release: Release = THIS_RELEASE
    """What this institution's release reads and writes."""
    _pairs: dict[tuple[KeyRef, KeyRef, PeriodRef], PairKeys] = field(default_factory=dict, repr=False)
    _subjects: dict[bytes, SubjectList] = field(default_factory=dict, repr=False)
    _unreadable: set[bytes] = field(default_factory=set, repr=False)
    _blind_until: int = field(default=0, repr=False)
    """Until when an inquiry of an earlier tenure whose key is lost may count, unix seconds."""
    _looked_back: int | None = field(default=None, repr=False)
    """Since when the tenure was named that earlier ones were looked for."""

    @property
    def state(self) -> LedgerState:
        """The fold, as of the last sync."""
        return self.follower.state

    @property
    def realm(self) -> Realm:
        """Chain id and Consortium."""
        return self.state.realm

    @property
    def member(self) -> Member:
        """This institution in the roster.

        Raises:
            NotYet: no member has named its ledger account, or the member that this store has worked for does not name it any
                more. The store keeps the member's index: another one could name this account, and register this
                institution's next key before it does.
        """
        address, index = self.outbox.signer.address, member_index(self.store)
        found = self.state.member_of(address, self._has_key_of, index)
        if found is not None and index is None:
            if self._has_key_of(found):
                note_member(self.store, found.index)
            else:
                found = None
        if found is None:
            raise NotYet(
                f"account {address} is not the service account of the member whose store this is",
                remedy="the member's owner names it (`mpcredit member confirm`, later `mpcredit member appoint`)",
            )
        return found

    def _has_key_of(self, member: Member) -> bool:
        try:
            self.keys.institution_key(member.key.public)
        except MpcreditError:
            return False
        return True

    @cached_property
    def tenure(self) -> Tenure:
        """Of the store."""
        return Tenure(self.store, self.marks)

    @property
    def displaced(self) -> str:
        """Why this store must answer and open nothing (R25); empty if it may."""
        return self.outbox.foreign or self.tenure.trouble(self.member) or self._blind

    @property
    def _blind(self) -> str:
        if self._blind_until <= self.follower.now:
            return ""
        return (
            "the institution key of inquiries that an earlier store may have answered is lost: "
            f"it serves again {self._blind_until - self.follower.now} seconds from now"
        )

    def look_back(self) -> None:
        """Read the inquiries of earlier tenures, once after each naming, before anything is answered (R25.7).

        Raises:
            KeyUnavailable: the token does not answer now.
        """
        if self._looked_back != self.member.since:
            self.remember()
            self._looked_back = self.member.since

    @property
    def stopped(self) -> str:
        """Why this store must not even take a new nonce (R25); empty if it may. A person must act."""
        try:
            member = self.member
        except NotYet:
            member = None
        return self.outbox.foreign or self.tenure.stopped(member)

    @property
    def index(self) -> int:
        """This institution's member index."""
        return self.member.index

    @property
    def missing_tag_key(self) -> int:
        """Newest version of the consortium's tag key, if this institution does not use it yet; else 0.

        Meanwhile it judges and opens nothing: it could not see that an inquiry under the newest key is about a subject
        that it has answered about.
        """
        newest = max(self.follower.tag_keys, default=0)
        return newest if newest > self.tagger.version else 0

    @property
    def tag_key_hindrance(self) -> str:
        """Why nothing can be judged or opened for want of the newest tag key; empty if it is in use."""
        try:
            next_one = self.next_tagger()
        except KeyStoreError as error:
            return str(error)
        return f"the loan book is not raised to tag key {next_one.version} yet" if next_one is not None else ""

    def next_tagger(self) -> HmacTagger | None:
        """The tagger of the newest tag key; None if it is in use. With it goes a book under its tags (`use_tagger`).

        Raises:
            KeyStoreError: one of the keys is not at hand, or is another one than the consortium's.
        """
        return tagger_of(self.keys, self.follower.tag_keys) if self.missing_tag_key else None

    def newest_tag(self, consent: Consent) -> bytes:
        """The tag under the newest tag key of a consent's subject, whatever version the consent names.

        A tag under a key that is not here is left as it is: it equals nobody's, and `Consent.check` refuses it.
        """
        return self._raised(consent.tag, consent.tag_key_version)

    def newest_tags(self, subjects: SubjectList) -> tuple[bytes, ...]:
        """The tags of an inquiry's subjects under the newest tag key, in their order.

        An inquiry names each tag under the version that the consent of its entry names (R16).
        """
        return tuple(self._raised(entry.tag, entry.consent.tag_key_version) for entry in subjects.entries)

    def _raised(self, tag: bytes, version: int) -> bytes:
        return self.tagger.raised(tag, version) if version <= self.tagger.version else tag

    def pair_keys(self, own: KeyRef, other: KeyRef, period: PeriodRef) -> PairKeys:
        """The pair keys of this institution's key with another member's key in a period, cached."""
        # By member and version too: a copied key under another member must not give the keys of the member it was copied from.
        known = self._pairs.get((own, other, period))
        if known is None:
            known = derive(self.keys.institution_key(own.public), own, other, self.realm, period)
            self._pairs[(own, other, period)] = known
        return known

    def mask_keys(self, keys: Mapping[int, KeyRef], period: PeriodRef) -> dict[int, bytes]:
        """The pair mask key with every other member of a cohort, given the cohort's keys."""
        own = keys[self.index]
        return {i: self.pair_keys(own, other, period).mask for i, other in keys.items() if i != self.index}

    def subjects(self, inquiry: Inquiry) -> SubjectList:
        """Open the sealed subjects of an inquiry in whose cohort this member is.

        Raises:
            InvalidSubject: the wrap, the seal or the commitment does not fit.
        """
        known = self._subjects.get(inquiry.id)
        if known is None:
            own, sender = inquiry.keys[self.index], inquiry.keys[inquiry.inquirer]
            known = open_subjects_member(
                inquiry.opening.sealed_subject,
                inquiry.opening.subject_commitment,
                inquiry.opened.q0,
                inquiry.inquirer,
                self.index,
                self.pair_keys(own, sender, inquiry.period_key.ref).wrap,
                versions=self.release.versions,
            )
            self._subjects[inquiry.id] = known
        return known

    def remember(self) -> list[Seen]:
        """What this member has seen: every inquiry whose subjects it could read, also those a reorganisation took away.

        Kept in the store, so that neither a lost key nor a reorganisation makes it forget.

        Raises:
            KeyUnavailable: the token does not answer now. What is decided without an inquiry that it could read a moment
                later could permit a second total over another cohort (R27).
        """
        stored, blind = {hex_bytes(key, 32) for key, _ in self.store.items("seen")}, 0
        for inquiry in self.state.inquiries.values():
            if inquiry.id in stored or inquiry.id in self._unreadable or self.index not in inquiry.cohort:
                continue
            if inquiry.inquirer == self.index:
                continue  # the inquirer notes its own when it opens
            try:
                subjects = self.subjects(inquiry)
            except InvalidMessage:
                self._unreadable.add(inquiry.id)
                continue
            except KeyUnavailable:
                raise
            except MpcreditError:  # for example a key that was lost: tried again next time
                if inquiry.tenures[self.index] != self.tenure.value:
                    window = max(inquiry.parameters.window_seconds, self.minimum_window)
                    blind = max(blind, inquiry.opened.at.timestamp + window)
                continue
            self.note_seen(
                inquiry.id,
                inquirer=inquiry.inquirer,
                tags=[(entry.tag, entry.consent.tag_key_version) for entry in subjects.entries],
                consents=list(inquiry.opening.consents),
                cohort=inquiry.opening.cohort,
                opened_at=inquiry.opened.at.timestamp,
                order=(inquiry.opened.at.block, inquiry.opened.at.log_index),
                repeats=inquiry.opening.repeats,
                tenure=inquiry.tenures[self.index],
            )
        self._blind_until = blind
        return [self._seen(hex_bytes(key, 32), value) for key, value in self.store.items("seen")]

    def note_seen(
        self,
        inquiry: bytes,
        *,
        inquirer: int,
        tags: Iterable[tuple[bytes, int]],
        consents: list[bytes],
        cohort: int,
        opened_at: int,
        order: tuple[int, int],
        repeats: bool,
        tenure: bytes | None = None,
    ) -> None:
        """Remember the subjects of an inquiry.

        Args:
            tags: as the inquiry names them, each with its version: so they are kept, and raised when they are read.
            tenure: of this member as the inquiry has it; None for an inquiry of its own.
        """
        self.store.put(
            "seen",
            to_hex(inquiry),
            {
                "inquirer": inquirer,
                "tags": [[to_hex(tag), version] for tag, version in tags],
                "consents": [to_hex(consent) for consent in consents],
                "cohort": hex(cohort),
                "opened_at": opened_at,
                "order": list(order),
                "repeats": repeats,
                "tenure": to_hex(tenure or self.tenure.value),
            },
        )

    def _seen(self, inquiry: bytes, value: dict[str, object]) -> Seen:
        known = self.state.inquiries.get(inquiry)
        answer = self.store.get("answer", to_hex(inquiry)) or {}
        order, tags = value["order"], value["tags"]
        inquirer = int(str(value["inquirer"]))
        tenure = known.tenures.get(self.index) if known else hex_bytes(str(value["tenure"]), 32)
        earlier = inquirer != self.index and tenure != self.tenure.value
        assert isinstance(order, list)
        assert isinstance(tags, list)
        named = [(hex_bytes(tag, 32), int(version)) for tag, version in tags]
        return Seen(
            inquiry=inquiry,
            inquirer=inquirer,
            tags=tuple(self._raised(tag, version) for tag, version in named),
            consents=tuple(hex_bytes(consent, 32) for consent in _list(value["consents"])),
            cohort=int(str(value["cohort"]), 16),
            opened_at=known.opened.at.timestamp if known else int(str(value["opened_at"])),
            order=(known.opened.at.block, known.opened.at.log_index) if known else (int(order[0]), int(order[1])),
            answered="payload" in answer or earlier,
            answered_at=int(str(answer.get("made_at", 0))),
            named=tuple(tag for tag, _ in named),
            repeats=bool(value["repeats"]),
            earlier=earlier,
        )

    def post(self, step: str, call: Call) -> OutboxRow:
        """Post a step, anew under the next attempt if it was mined but failed (at most ATTEMPTS times).

        Raises:
            Refused: the contract would refuse it now.
            LedgerError: the node is not to be had.
        """
        for attempt in range(1, ATTEMPTS + 1):
            row = self.outbox.store.outbox_by_key(f"{step}/{attempt}")
            if row is None or row.state != "failed":
                return self.outbox.post(f"{step}/{attempt}", call)
        assert row is not None
        return row


def _list(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]
