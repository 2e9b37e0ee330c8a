"""What a transaction made happen to models on a branch, by the events that took force there; reads only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headwater.errors import IntegrityError
from headwater.fold import entries_of
from headwater.state import Fold

__all__ = ["DECIDED", "Happening", "Happenings"]

DECIDED = "('approval', 'refusal', 'stage', 'traffic')"
"""Kinds of events that say something happened; a folded state has an index of these."""

_BACK = frozenset({"rollback", "revert"})
_ENTERED = ("staging", "production")

_EVENTS = f"""
SELECT e.event_id, e.subject, e.kind, e.key, e.value, e.prev, e.reason, v.model_id, v.version
FROM events e LEFT JOIN versions v ON v.version_id = e.subject
WHERE e.kind IN {DECIDED} AND e.tx = ? ORDER BY e.event_id"""


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to a model; its attributes are those of a `Notification`."""

    event: str
    model_id: str
    version: int | None = None
    version_id: str | None = None
    stage: str | None = None
    previous: int | None = None
    traffic: float | None = None
    gates: tuple[str, ...] = ()
    reason: str | None = None


class Happenings:
    """What happened on a branch.

    Args:
        fold: The state.
        branch: The branch.
    """

    def __init__(self, fold: Fold, branch: str) -> None:
        self._fold = fold
        self._branch = branch

    def of(self, tx: str, position: int, kind: str | None, landed_itself: bool) -> Iterator[Happening]:
        """Yield what a transaction made happen on this branch.

        What a merge brought took force unless something that landed with it supersedes it; a refusal or an approval on
        another branch says nothing of this one.
        """
        events = [_Event(*row) for row in self._fold.rows(_EVENTS, tx)]
        live = [each for each in events if not self._overruled(each, position)]
        stages = [each for each in live if each.kind == "stage" and each.model_id is not None]
        left = {each.model_id: each for each in stages if each.value != "production" and self._was(each, "production")}
        in_production = {each.model_id for each in stages if each.value == "production"} | left.keys()
        traffic = [each for each in live if each.kind == "traffic" and each.key == "production"]
        shares = {each.subject: _shares(each.value) for each in traffic}
        if kind in _BACK:
            models = [each.model_id for each in stages if each.model_id in in_production] + list(shares)
            for model_id in dict.fromkeys(models):
                assert model_id is not None
                into = next((e for e in stages if e.model_id == model_id and e.value == "production"), None)
                out = left.get(model_id)
                yield Happening(
                    "rolled-back",
                    model_id,
                    version=into.version if into else None,
                    version_id=into.subject if into else None,
                    stage="production",
                    previous=out.version if out else None,
                    traffic=shares.get(model_id, {}).get(into.subject) if into else None,
                    reason=_reason(model_id, live),
                )
            return
        for each in stages:
            if each.value in _ENTERED:
                assert each.model_id is not None
                out = left.get(each.model_id) if each.value == "production" else None
                yield Happening(
                    "promoted",
                    each.model_id,
                    each.version,
                    each.subject,
                    each.value,
                    previous=out.version if out else None,
                    traffic=shares.get(each.model_id, {}).get(each.subject) if each.value == "production" else None,
                    reason=_reason(each.model_id, live),
                )
        promoted = {each.model_id for each in stages if each.value == "production"}
        for each in traffic:
            if each.subject not in promoted:
                yield self._shared(each, shares[each.subject])
        for each in live if landed_itself else ():
            if each.model_id is None:
                continue
            facts = _facts(each.value)
            what = each.model_id, each.version, each.subject
            if each.kind == "refusal":
                gates = facts.get("gates")
                failed = tuple(str(gate) for gate in gates) if isinstance(gates, list) else ()
                yield Happening("refused", *what, each.key, gates=failed, reason=each.reason)
            elif each.kind == "approval" and facts.get("given") is True and facts.get("branch") == self._branch:
                yield Happening("approved", *what, each.key.partition(" ")[0], reason=each.reason)

    def _shared(self, event: _Event, shares: dict[str, float]) -> Happening:
        """Return that shares changed: of the version that got more or less, a newer one first."""
        before: dict[str, float] = {}
        for prev in json.loads(event.prev):
            row = self._fold.one("SELECT value FROM events WHERE event_id = ?", prev)
            before |= _shares(row[0]) if row is not None else {}
        changed = [each for each in {**before, **shares} if before.get(each) != shares.get(each)]
        found = [
            (row[0], each)
            for each in changed
            if (row := self._fold.one("SELECT version FROM versions WHERE version_id = ?", each)) is not None
        ]
        number, version_id = max(found, default=(None, None))
        share = shares.get(version_id, 0.0) if version_id is not None else None
        return Happening("traffic", event.subject, number, version_id, traffic=share, reason=event.reason)

    def _overruled(self, event: _Event, position: int) -> bool:
        """Return whether what landed together with an event supersedes it, so that it never stood here."""
        if self._fold.one("SELECT 1 FROM superseded WHERE event_id = ?", event.event_id) is None:
            return False
        others = self._fold.rows(
            "SELECT e.prev FROM events e JOIN commits c ON c.tx = e.tx"
            " WHERE e.subject = ? AND e.kind = ? AND e.key = ? AND c.position = ?",
            *(event.subject, event.kind, event.key, position),
        )
        return any(event.event_id in json.loads(prev) for (prev,) in others)

    def _was(self, event: _Event, value: str) -> bool:
        """Return whether an event supersedes one of a value."""
        for prev in json.loads(event.prev):
            row = self._fold.one("SELECT value FROM events WHERE event_id = ?", prev)
            if row is not None and row[0] == value:
                return True
        return False


@dataclass(frozen=True, slots=True)
class _Event:
    event_id: str
    subject: str
    kind: str
    key: str
    value: str | None
    prev: str
    reason: str | None
    model_id: str | None
    version: int | None


def _reason(model_id: str, events: list[_Event]) -> str | None:
    return next((each.reason for each in events if model_id in (each.model_id, each.subject) and each.reason), None)


def _facts(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _shares(value: str | None) -> dict[str, float]:
    """Return the percent that each version answers, shadows left out; nothing of what can't be read."""
    try:
        entries = entries_of(value)
    except IntegrityError:
        return {}
    found: dict[str, float] = {}
    for each in entries:
        if each["mode"] != "shadow":
            found[each["version_id"]] = found.get(each["version_id"], 0.0) + (each["percent"] or 0.0)
    return found
