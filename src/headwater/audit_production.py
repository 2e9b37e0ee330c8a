"""Checking what is in production: that its faces agree, and that whatever entered had passed the gates that stood.

Gates are not asked again here: what each found is in the events of the transaction that let a version in, and the
policy that stood is told by the events before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater import production
from headwater.access import matches
from headwater.audit_model import Finding
from headwater.errors import HeadwaterError
from headwater.fold import entries_of
from headwater.gates import gates_among, stored_policy
from headwater.policy import Policy
from headwater.production import PRODUCTION
from headwater.state import Fold
from headwater.subjects import called

__all__ = ["check_faces", "check_promotions"]

_BACK = frozenset({"rollback", "revert"})
"""Kinds of transactions that may bring a version back without asking gates, if it served before."""

_TRAFFIC = """SELECT e.event_id, e.subject, e.value, e.prev, e.tx, e.actor, c.id, c.kind, c.position,
    l.brought IS c.tx OR c.landed = c.id
    FROM events e JOIN commits c ON c.tx = e.tx LEFT JOIN commits l ON l.id = c.landed
    WHERE e.kind = 'traffic' AND e.key = 'production' GROUP BY e.event_id ORDER BY c.position, e.event_id"""

_MODEL = """SELECT coalesce(v.model_id, e.subject) FROM events e LEFT JOIN versions v ON v.version_id = e.subject
    WHERE e.event_id = ?"""


def check_faces(fold: Fold, known: set[str]) -> Iterator[Finding]:
    """Yield the models whose stage, `champion`, traffic and deployments name different versions.

    Args:
        fold: The state of the commit that is audited.
        known: Events that were found to be wrong already: what else they make look wrong is not told again.
    """
    wrong = {model for event in known for (model,) in fold.rows(_MODEL, event)}
    for (model_id,) in fold.rows(
        "SELECT DISTINCT subject FROM events WHERE standing AND (kind, key) IN (VALUES ('traffic', ?), ('alias', ?))",
        *(PRODUCTION, production.CHAMPION),
    ):
        if model_id in wrong:
            continue
        name = called(fold, model_id)
        try:
            found = production.faces(fold, model_id)
        except HeadwaterError as error:
            yield Finding("production", name, f"what serves {name} can't be read: {error.message}")
            continue
        before_traffic = not (found["traffic"] or found["stage"] or found["deployments"])
        if len({frozenset(each) for each in found.values()}) > 1 and not before_traffic:
            said = ", ".join(
                f"{face} says {' and '.join(sorted(called(fold, each) for each in versions)) or 'none'}"
                for face, versions in found.items()
            )
            yield Finding("production", name, f"what is in production of {name} is not told the same: {said}")


def check_promotions(fold: Fold, known: set[str]) -> Iterator[Finding]:
    """Yield what got requests in production without having passed the gates that stood, and without an override.

    Args:
        fold: The state of the commit that is audited.
        known: Events that were found to be wrong already.
    """
    policies = _Policies.read(fold, known)
    served: dict[str, set[str]] = {}
    values: dict[str, str | None] = {}
    for event, model_id, value, prev, tx, actor, commit, kind, position, direct in fold.rows(_TRAFFIC):
        values[event] = value
        if event in known:
            continue
        try:
            before = _shares(values.get(each) for each in json.loads(prev))
            now = _shares([value])
        except HeadwaterError:
            continue  # its faces can't be read either
        earlier = served.setdefault(model_id, set())
        for version_id, share in now.items() if direct else ():
            if share <= before.get(version_id, 0.0):
                continue
            wrong = None
            if kind in _BACK:
                wrong = None if version_id in earlier else "was brought back, and never served before"
            else:
                wrong = _missing(fold, policies.held(fold, model_id, position), tx, version_id, share, known)
            if wrong is not None:
                name = called(fold, version_id)
                yield Finding(
                    "promotion", name, f"{name} {wrong}: commit {commit[:12]} by {actor}", event, tx, commit, actor
                )
        earlier.update(now)


def _shares(values: Iterable[str | None]) -> dict[str, float]:
    """Return what each version was let in for: 100 where it is live, whatever canaries leave it."""
    found: dict[str, float] = {}
    for value in values:
        for each in entries_of(value):
            if each["mode"] in ("live", "canary"):
                share = 100.0 if each["mode"] == "live" else float(each["percent"] or 0.0)
                found[each["version_id"]] = max(share, found.get(each["version_id"], 0.0))
    return found


def _missing(
    fold: Fold, held: list[tuple[str, Policy]], tx: str, version_id: str, share: float, known: set[str]
) -> str | None:
    """Return which gate a version did not pass in a transaction; None where it passed all, or an admin overrode."""
    digest, gates = gates_among(held, PRODUCTION)
    wanted = [gate.name for gate in gates if gate.at_traffic is None or share >= gate.at_traffic]
    if not wanted:
        return None
    rows = fold.rows(
        "SELECT event_id, kind, key, value FROM events WHERE tx = ? AND subject = ? AND kind IN ('gate', 'override')",
        *(tx, version_id),
    )
    results: dict[str, Mapping[str, Any]] = {}
    for event, kind, key, value in rows:
        stage, _, gate = key.partition(" ")
        if stage != PRODUCTION or event in known:
            continue
        if kind == "override":
            return None
        try:
            results[gate] = dict(json.loads(value))
        except (ValueError, TypeError, RecursionError):
            results[gate] = {}
    for name in wanted:
        if name not in results:
            return f"entered production without gate {name} having been asked"
        if results[name].get("passed") is not True:
            return f"entered production though gate {name} did not pass"
        if results[name].get("policy") != digest:
            return f"entered production by gate {name} of another policy than the one that stood"
    return None


@dataclass
class _Policies:
    """The policies of models and patterns, and since when each held."""

    rows: list[tuple[int, str, str, str | None, tuple[str, ...]]]
    kept: dict[tuple[str, int], list[tuple[str, Policy]]] = field(default_factory=dict)

    @classmethod
    def read(cls, fold: Fold, known: set[str]) -> _Policies:
        found = fold.rows(
            "SELECT min(c.position), e.event_id, e.subject, e.value, e.prev FROM events e JOIN commits c ON c.tx = e.tx"
            " WHERE e.kind = 'policy' GROUP BY e.event_id ORDER BY 1, 2"
        )
        return cls(
            [
                (position, event, subject, value, tuple(json.loads(prev)))
                for position, event, subject, value, prev in found
                if event not in known
            ]
        )

    def held(self, fold: Fold, model_id: str, position: int) -> list[tuple[str, Policy]]:
        """Return the policies that held for a model just before a position, with their subjects."""
        count = sum(row[0] < position for row in self.rows)
        if not count:
            return []
        found = self.kept.get((model_id, count))
        if found is None:
            found = self.kept[model_id, count] = self._held(fold, model_id, position)
        return found

    def _held(self, fold: Fold, model_id: str, position: int) -> list[tuple[str, Policy]]:
        standing: dict[str, tuple[str, str | None]] = {}
        for when, event, subject, value, prev in self.rows:
            if when < position:
                standing[event] = (subject, value)
                for each in prev:
                    standing.pop(each, None)
        names = [
            str(name)
            for (name,) in fold.rows(
                "SELECT e.value FROM events e JOIN commits c ON c.tx = e.tx"
                " WHERE e.subject = ? AND e.kind = 'name' AND e.value IS NOT NULL AND c.position < ?",
                *(model_id, position),
            )
        ]
        held: dict[tuple[str, str], Policy] = {}
        for subject, value in sorted(standing.values(), key=lambda each: (each[0] != model_id, each[0])):
            pattern = subject.removeprefix("pattern:") if subject.startswith("pattern:") else None
            own = subject == model_id or (pattern is not None and any(matches(pattern, name) for name in names))
            if value is not None and own:
                held.setdefault((subject, value), stored_policy(value))
        return [(subject, policy) for (subject, _), policy in held.items()]
