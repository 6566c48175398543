"""The supervisor's mask audit (R11): whether both ends of each pair sealed the same mask key.

`judge` is the procedure, a pure function. `MaskAudit` reads the sealed keys, remembers the members that were named, and
says which members may serve. Nothing shows which end of a pair lies, so the procedure bounds what a liar can do: each lie
takes one honest member out for as long as a rotation takes, and the second lie takes out the liar alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from mpcredit.errors import KeyStoreError, KeyUnavailable, MpcreditError
from mpcredit.events import MaskKeysSealed
from mpcredit.ledger.roster import PeriodKey
from mpcredit.pairkeys import KeyRef
from mpcredit.ports import Keys, Store
from mpcredit.sealing import open_mask_keys
from mpcredit.state import LedgerState

__all__ = ["AUDIT_SECONDS", "Candidate", "Judgement", "MaskAudit", "Named", "judge"]

log = logging.getLogger("mpcredit")

AUDIT_SECONDS: Final = 7 * 86_400
"""Time in which a member seals what it owes, and in which a member that was named rotates its key (R11.3, R11.7)."""

FORGOTTEN_SECONDS: Final = 90 * 86_400
"""A member that was named once is named for the first time again after this long (R11.6)."""


@dataclass(frozen=True)
class Candidate:
    """A member that is not suspended."""

    member: int
    newest: KeyRef
    serving: KeyRef | None
    """Its key that is audited under the period."""
    established: bool = True
    """Whether it is audited under any period, or nobody is yet: every other one must have sealed to it."""

    @property
    def keys(self) -> tuple[KeyRef, ...]:
        """The keys that serve now or may serve next."""
        return (self.newest,) if self.serving in (None, self.newest) else (self.newest, self.serving)


@dataclass(frozen=True)
class Named:
    """A member that the audit named before."""

    keys: frozenset[tuple[int, int]]
    """Version of the member's key and of the period key, for each naming. Such a key counts no more."""
    out: bool = False
    """It was named a second time: a person decides whether it serves again."""


@dataclass(frozen=True)
class Judgement:
    """What follows from the sealed keys of one period."""

    admitted: tuple[int, ...] = ()
    """Members whose newest key may serve from now on, in this order."""
    alone: tuple[int, ...] = ()
    """They differ from all others."""
    both: tuple[tuple[int, int], ...] = ()
    """Pairs that differ: both members are left out."""
    second: tuple[tuple[int, int], ...] = ()
    """Named a second time, with the partner that stays in."""
    undecided: tuple[tuple[int, int], ...] = ()
    """Pairs of which both members are named a second time."""
    owing: tuple[int, ...] = ()
    """Members that have not sealed everything."""


Ends = Callable[[KeyRef, KeyRef], bytes | None]
"""The mask key of a pair as the first of the two keys' members sealed it; None while it has not."""


def judge(
    candidates: Sequence[Candidate], end: Ends, named: Mapping[int, Named], period: int, minimum: int
) -> Judgement:
    """Apply R11.3 to R11.6.

    Args:
        candidates: ascending by member.
        end: what was sealed to the period key.
        named: members that were named before.
        period: version of the period key.
        minimum: the minimum cohort; nobody is left out alone by fewer.
    """
    counted = {c.member: c for c in candidates if _counted(c, end, candidates, named.get(c.member), period)}
    keys = {m: [k for k in c.keys if not _is_named(k, named.get(m), period)] for m, c in counted.items()}

    def differ(one: int, other: int) -> bool:
        serving = {counted[one].serving, counted[other].serving}
        pairs = [(k, o) for k in keys[one] for o in keys[other] if not {k, o} <= serving]
        ends = [(end(k, o), end(o, k)) for k, o in pairs]
        return any(a is not None and b is not None and a != b for a, b in ends)

    left, alone = set(counted), list[int]()
    enough = max(minimum, (2 * len(candidates) + 2) // 3)
    while len(left) >= enough:
        odd = {m for m in left if all(differ(m, other) for other in left if other != m)}
        if not odd:
            break
        alone += sorted(odd)
        left -= odd

    both, second, undecided = list[tuple[int, int]](), list[tuple[int, int]](), list[tuple[int, int]]()
    before = set(named)
    for one, other in combinations(sorted(left), 2):
        if not {one, other} <= left or not differ(one, other):
            continue
        again = [m for m in (one, other) if m in before]
        if len(again) == 1:
            second.append((again[0], other if again[0] == one else one))
            left.discard(again[0])
            before |= {one, other}  # the partner is named too, and serves: its next lie is its second
        else:
            (undecided if again else both).append((one, other))
            left -= {one, other}
    admitted = _admitted(candidates, left, end, named, period)
    owing = tuple(c.member for c in candidates if _owes(c, end, candidates))
    return Judgement(admitted, tuple(alone), tuple(both), tuple(second), tuple(undecided), owing)


def _is_named(key: KeyRef, named: Named | None, period: int) -> bool:
    return named is not None and (key.version, period) in named.keys


def _has_sealed(key: KeyRef, end: Ends, candidates: Sequence[Candidate]) -> bool:
    return any(end(key, other) is not None for c in candidates if c.member != key.member for other in c.keys)


def _counted(
    candidate: Candidate, end: Ends, candidates: Sequence[Candidate], named: Named | None, period: int
) -> bool:
    """Whether what the member sealed counts: it sealed, and is not left out already."""
    if named is not None and named.out:
        return False
    return any(not _is_named(k, named, period) and _has_sealed(k, end, candidates) for k in candidate.keys)


def _admitted(
    candidates: Sequence[Candidate], left: set[int], end: Ends, named: Mapping[int, Named], period: int
) -> tuple[int, ...]:
    """Members whose newest key agrees with the keys of all that serve, those admitted before them included."""
    serving = {c.member: c.serving for c in candidates if c.serving is not None}
    admitted = []
    for candidate in candidates:
        key, member = candidate.newest, candidate.member
        if member not in left or serving.get(member) == key or _is_named(key, named.get(member), period):
            continue
        others = [other for m, other in serving.items() if m != member]
        owed = [c for c in candidates if c.member != member and c.established]
        # Else a few could serve first, seal to each other alone, and so keep everybody else out.
        paid = all(end(key, o) is not None for c in owed for o in c.keys)
        if paid and _has_sealed(key, end, candidates) and all(_agree(key, other, end) for other in others):
            serving[member] = key
            admitted.append(member)
    return tuple(admitted)


def _agree(one: KeyRef, other: KeyRef, end: Ends) -> bool:
    first = end(one, other)
    return first is not None and first == end(other, one)


def _owes(candidate: Candidate, end: Ends, candidates: Sequence[Candidate]) -> bool:
    """Whether a member has not sealed its end for the newest or the serving key of another member that has."""
    for key in candidate.keys:
        for other in candidates:
            if other.member == candidate.member:
                continue
            if any(end(key, o) is None and end(o, key) is not None for o in other.keys):
                return True
    return False


class MaskAudit:
    """Reads what the members sealed to this supervisor's period keys.

    Args:
        store: remembers the members that were named, and since when a member owes.
        keys: hold the supervisor's period keys.
        find: is told each finding: the members that it names, and a sentence.
    """

    def __init__(self, store: Store, keys: Keys, find: Callable[[Sequence[int], str], None]) -> None:
        self._store = store
        self._keys = keys
        self._find = find
        self._read = 0
        self._ends: dict[tuple[KeyRef, KeyRef, int], bytes] = {}
        """By own key, other key and period version; in memory only, read anew from the ledger at each start."""
        self._told: set[str] = set()
        self._judged: dict[int, tuple[object, list[KeyRef]]] = {}
        """By period version: on what the last judgement rests, and the keys that may serve by it."""

    def forget(self) -> None:
        """Read everything anew: a reorganisation has replaced what was read."""
        self._read = 0
        self._ends.clear()
        self._told.clear()
        self._judged.clear()

    def read(self, state: LedgerState) -> None:
        """Open the mask keys that were sealed since.

        Raises:
            KeyUnavailable: the token does not answer; the next call goes on from there.
        """
        for event in state.mask_keys[self._read :]:
            self._open(state, event)
            self._read += 1

    def mask(self, one: KeyRef, other: KeyRef, period: int) -> bytes | None:
        """The mask key of a pair in a period, if both ends sealed the same."""
        first = self._ends.get((one, other, period))
        return first if first is not None and first == self._ends.get((other, one, period)) else None

    def judge(self, state: LedgerState, period: PeriodKey, now: int) -> list[KeyRef]:
        """Compare all pairs of a period, name the members that R11 names, and tell which keys may serve.

        Args:
            now: block time, unix seconds.
        """
        if state.parameters is None:
            return []
        basis = (self._read, state.roster, now // 3600)
        if period.version in self._judged and self._judged[period.version][0] == basis:
            return self._judged[period.version][1]
        members = [m for i in state.active() if not (m := state.members[i]).suspended]
        first = not any(m.audited for m in members)
        candidates = [Candidate(m.index, m.key, m.key_under(period.version), first or bool(m.audited)) for m in members]
        self._settle(candidates, period.version)

        def end(one: KeyRef, other: KeyRef) -> bytes | None:
            return self._ends.get((one, other, period.version))

        named = {c.member: record for c in candidates if (record := self._named(c.member, now)) is not None}
        found = judge(candidates, end, named, period.version, state.parameters.minimum_cohort)
        self._remember(candidates, found, period.version, now)
        self._tell(state, candidates, period.version, now)
        self._tell_debts(state, candidates, found.owing, period.version, now)
        newest = {c.member: c.newest for c in candidates}
        keys = [newest[member] for member in found.admitted]
        self._judged[period.version] = (basis, keys)
        return keys

    # ----------------------------------------------------------------- what was sealed

    def _open(self, state: LedgerState, event: MaskKeysSealed) -> None:
        member = state.members[event.member]
        period, sender = state.period_keys.get(event.period), member.keys.get(event.key_version)
        if period is None or sender is None:
            return
        try:
            entries = open_mask_keys(
                event.sealed_keys,
                realm=state.realm,
                sender=sender,
                supervisor=self._keys.institution_key(period.public),
                supervisor_key_version=event.period,
            )
        except KeyUnavailable:
            raise
        except KeyStoreError as error:
            log.warning("the mask keys that %s sealed cannot be read any more: %s", member.name, error)
            return
        except MpcreditError as error:
            self._find((event.member,), f"the mask keys that {member.name} sealed do not open: {error.message}")
            return
        for entry in entries:
            other = state.members[entry.other].keys.get(entry.other_version) if entry.other in state.members else None
            if other is None:
                continue
            # The first one counts: else a member could make every later inquiry of the pair uncheckable.
            first = self._ends.setdefault((sender, other, period.version), entry.key)
            if first != entry.key:
                self._find(
                    (event.member,), f"{member.name} sealed a second mask key for one pair: the first one counts"
                )

    # ----------------------------------------------------------------- what is remembered

    def _named(self, member: int, now: int) -> Named | None:
        value = self._store.get("mask-audit", str(member))
        if value is not None and not value["out"] and now >= value["at"] + FORGOTTEN_SECONDS:
            self._store.delete("mask-audit", str(member))
            value = None
        if value is None:
            return None
        return Named(frozenset((version, period) for version, period in value["keys"]), bool(value["out"]))

    def _settle(self, candidates: Sequence[Candidate], period: int) -> None:
        """Forget the namings of a member that a person let serve: its audit is not one of this service's own steps."""
        for candidate in candidates:
            value = self._store.get("mask-audit", str(candidate.member))
            if candidate.serving != candidate.newest or value is None:
                continue
            served = value["served"] and [candidate.newest.version, period] in value["keys"]
            if not served and self._store.outbox_by_key(step_of(candidate.newest, period)) is None:
                self._store.delete("mask-audit", str(candidate.member))

    def _remember(self, candidates: Sequence[Candidate], found: Judgement, period: int, now: int) -> None:
        by_member = {candidate.member: candidate for candidate in candidates}
        cases: list[tuple[int, tuple[int, ...], str]] = [(member, (), "alone") for member in found.alone]
        cases += [(m, pair, "both") for pair in found.both for m in pair]
        cases += [(pair[0], pair, "second") for pair in found.second]
        cases += [(pair[1], pair, "partner") for pair in found.second]
        cases += [(m, pair, "undecided") for pair in found.undecided for m in pair]
        with self._store.transaction():
            for member, pair, how in cases:
                old, candidate = self._store.get("mask-audit", str(member)), by_member[member]
                fresh = [] if how == "partner" else [[k.version, period] for k in self._sealed_keys(candidate, period)]
                value = {
                    "keys": [*(old["keys"] if old else []), *fresh],
                    "out": old is not None,
                    "at": now,
                    "how": "second" if old is not None and how == "alone" else how,
                    "pair": list(pair),
                    "served": candidate.serving == candidate.newest,
                }
                self._store.put("mask-audit", str(member), value)

    def _sealed_keys(self, candidate: Candidate, period: int) -> list[KeyRef]:
        sealed = {own for own, _other, version in self._ends if version == period}
        return [key for key in candidate.keys if key in sealed]

    # ----------------------------------------------------------------- what is told

    def _tell(self, state: LedgerState, candidates: Sequence[Candidate], period: int, now: int) -> None:
        """Tell each naming that stands, once in the life of this process."""
        for candidate in candidates:
            value = self._store.get("mask-audit", str(candidate.member))
            if value is None or not (value["out"] or [candidate.newest.version, period] in value["keys"]):
                continue
            members = tuple(value["pair"]) or (candidate.member,)
            if value["how"] == "second":
                members = (candidate.member,)
            self._say(members, _sentence(state, candidate.member, value))
            name = state.members[candidate.member].name
            if candidate.serving is not None and value["out"]:
                text = f"{name} still serves with its key {candidate.serving.version}: suspend it (`mpcredit member suspend`)"
                self._say((candidate.member,), text)
            elif candidate.serving is not None and now >= value["at"] + AUDIT_SECONDS:
                text = (
                    f"{name} was named in the mask audit, and has not registered another key for "
                    f"{AUDIT_SECONDS // 86_400} days: suspend it (`mpcredit member suspend`)"
                )
                self._say((candidate.member,), text)

    def _tell_debts(
        self, state: LedgerState, candidates: Sequence[Candidate], owing: Sequence[int], period: int, now: int
    ) -> None:
        for candidate in candidates:
            place, name = f"{candidate.member}/{period}", state.members[candidate.member].name
            since = self._store.get("mask-debt", place)
            if candidate.member not in owing:
                if since is not None:
                    self._store.delete("mask-debt", place)
            elif since is None:
                self._store.put("mask-debt", place, {"at": now})
            elif now >= since["at"] + AUDIT_SECONDS:
                rest = "it is left out"
                if candidate.serving is not None:
                    rest = "suspend it (`mpcredit member suspend`), it holds up the others"
                self._say(
                    (candidate.member,),
                    f"{name} has not sealed all its mask keys to period key {period} for {AUDIT_SECONDS // 86_400} days: "
                    + rest,
                )

    def _say(self, members: Sequence[int], text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._find(members, text)


def step_of(key: KeyRef, period: int) -> str:
    """The outbox step of a member's audit."""
    return f"audit/{key.member}/{key.version}/{period}"


def _sentence(state: LedgerState, member: int, value: Mapping[str, Any]) -> str:
    name = state.members[member].name
    names = " and ".join(state.members[m].name for m in value["pair"] if m in state.members)
    partner = "".join(state.members[m].name for m in value["pair"] if m != member and m in state.members)
    if value["how"] == "alone":
        return f"{name} sealed other mask keys than all its partners: it must rotate its key"
    if value["how"] == "both":
        return f"{names} sealed different mask keys for their pair: both must rotate their keys"
    if value["how"] == "undecided":
        return (
            f"{names} sealed different mask keys for their pair, each for the second time: a person decides which of them "
            "serves (`mpcredit member audit`)"
        )
    whom = f" from {partner}'s" if partner else ""
    return (
        f"{name} sealed mask keys that differ{whom}, for the second time: it is left out until a person lets it serve "
        "(`mpcredit member audit`)"
    )
