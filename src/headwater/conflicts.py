"""What two branches disagree about: one thing that both changed since they parted, to different values.

State is the event that nothing supersedes, so a disagreement is two events that both stand after the union; no clock
decides. Knows events; writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headwater.difference import Difference
from headwater.errors import ConflictError, InvalidInputError
from headwater.ids import from_micros
from headwater.lookup import name_of
from headwater.names import quote
from headwater.state import Fold

__all__ = ["Conflict", "MergeConflictError", "Side", "find_conflicts", "side_for"]

_SETTLED_BY_RULE = frozenset({"tombstone", "status", "gate", "check", "approval", "override", "role", "key"})
"""Kinds of which two may stand: what stands then is a rule of those who read them, such as `hidden stands`."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one of the two says: a value for people, who set it, when, in which commit, and the events themselves."""

    value: str | None
    actor: str
    recorded_at: datetime
    commit: str | None
    raw: str | None
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """One thing that both sides changed: `ours` is the branch that is merged into, `theirs` what is merged.

    Attributes:
        name: What `--resolve` calls it, such as `alias:flight-delay@champion`.
        kind: The kind of its events.
        subject: The ID of what it is about.
        key: Which of the subject's: the alias, the tag's key.
        ours: What the target says.
        theirs: What the source says.
    """

    name: str
    kind: str
    subject: str
    key: str
    ours: Side
    theirs: Side


class MergeConflictError(ConflictError):
    """Two branches disagree; nothing was written.

    Attributes:
        conflicts: What about.
    """

    def __init__(self, conflicts: Sequence[Conflict], source: str, target: str) -> None:
        names = [each.name for each in conflicts]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        super().__init__(
            f"{target} and {source} disagree about {shown}",
            hint=f"take --ours ({target}) or --theirs ({source}), or settle one: --resolve {names[0]}=theirs",
        )
        self.conflicts = tuple(conflicts)


def find_conflicts(fold: Fold, new: Difference) -> list[Conflict]:
    """Return what would stand at two values if a difference were added to a state, in order of name."""
    superseded = new.superseded()
    theirs: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for event in new.standing():
        if event["kind"] not in _SETTLED_BY_RULE:
            theirs.setdefault((event["subject"], event["kind"], event["key"]), []).append(event)
    words = _Words(fold, new)
    found = []
    for (subject, kind, key), events in theirs.items():
        ours = [row for row in fold.rows(_STANDING, subject, kind, key) if row[0] not in superseded]
        values = {row[1] for row in ours} | {event["value"] for event in events}
        if not ours or len(values) < 2:
            continue
        mine, yours = ours[-1], events[-1]
        found.append(
            Conflict(
                words.name(subject, kind, key),
                kind,
                subject,
                key,
                Side(
                    words.value(kind, mine[1]),
                    mine[3],
                    from_micros(mine[2]),
                    mine[4],
                    mine[1],
                    tuple(row[0] for row in ours),
                ),
                Side(
                    words.value(kind, yours["value"]),
                    yours["actor"],
                    from_micros(yours["recorded_at"]),
                    words.commit(yours["tx"]),
                    yours["value"],
                    tuple(event["event_id"] for event in events),
                ),
            )
        )
    return sorted(found, key=lambda conflict: conflict.name)


_STANDING = """SELECT event_id, value, recorded_at, actor, (SELECT id FROM commits c WHERE c.tx = e.tx) FROM events e
    WHERE standing AND subject = ? AND kind = ? AND key = ? ORDER BY event_id"""


def side_for(conflict: Conflict, *, ours: bool, theirs: bool, resolve: Mapping[str, str]) -> Side | None:
    """Return the side that somebody chose for a conflict; None where nobody did.

    Raises:
        InvalidInputError: A choice is neither `ours` nor `theirs`.
    """
    choice = resolve.get(conflict.name, "ours" if ours else "theirs" if theirs else None)
    if choice is None:
        return None
    if choice not in ("ours", "theirs"):
        raise InvalidInputError(f"{conflict.name} can't be {choice!r}", hint="write ours or theirs after the =")
    return conflict.ours if choice == "ours" else conflict.theirs


class _Words:
    """The registry's words for the subjects and values of events, of both sides."""

    def __init__(self, fold: Fold, new: Difference) -> None:
        self._fold = fold
        self._versions = {
            row["version_id"]: (row["model_id"], row["version"]) for row in new.rows.get("model_versions", ())
        }
        self._datasets = {row["dataset_id"]: (row["name"], row["semver"]) for row in new.rows.get("datasets", ())}
        self._names = {event["subject"]: event["value"] for event in new.standing() if event["kind"] == "name"}
        self._commits = {commit.metadata.get("headwater.tx"): commit.id for commit in new.commits}

    def commit(self, tx: str) -> str | None:
        return self._commits.get(tx)

    def name(self, subject: str, kind: str, key: str) -> str:
        """Return what a conflict is called."""
        return f"{kind}:{self._subject(subject)}" + (f"@{quote(key)}" if key else "")

    def value(self, kind: str, value: str | None) -> str | None:
        """Return a value as people write it."""
        if value is not None and kind == "alias":
            return self._version(value) or value
        if value is not None and kind == "traffic":
            return (
                ", ".join(
                    f"{self._version(each['version_id']) or each['version_id']} {each['mode']}"
                    + (f" {each['percent']:g} %" if each.get("percent") is not None else "")
                    for each in json.loads(value)
                )
                or "nothing"
            )
        return value

    def _subject(self, subject: str) -> str:
        version = self._version(subject)
        if version is not None:
            return version
        if self._fold.one("SELECT 1 FROM models WHERE model_id = ?", subject) is not None:
            return quote(name_of(self._fold, subject))
        dataset = self._datasets.get(subject) or self._fold.one(
            "SELECT name, semver FROM datasets WHERE dataset_id = ?", subject
        )
        return (
            f"{quote(dataset[0])}@{dataset[1]}" if dataset is not None else quote(self._names.get(subject) or subject)
        )

    def _version(self, version_id: str) -> str | None:
        found = self._versions.get(version_id) or self._fold.one(
            "SELECT model_id, version FROM versions WHERE version_id = ?", version_id
        )
        if found is None:
            return None
        model_id, number = found
        known = self._fold.one("SELECT 1 FROM models WHERE model_id = ?", model_id) is not None
        name = name_of(self._fold, model_id) if known else self._names.get(model_id) or model_id
        return f"{quote(name)}/{number}"
