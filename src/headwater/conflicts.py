"""What two branches disagree about: one thing that both changed since they parted, to different values.

State is the event that nothing supersedes, so a disagreement is two events that both stand after the union; no clock
decides. Knows events; writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from headwater.ancestry import shared
from headwater.difference import Difference
from headwater.errors import ConflictError, InvalidInputError
from headwater.ids import from_micros
from headwater.lookup import name_of
from headwater.names import quote
from headwater.state import Fold
from headwater.subjects import traffic_called

__all__ = [
    "Conflict",
    "MergeConflictError",
    "Place",
    "Settling",
    "Side",
    "Standing",
    "Union",
    "Words",
    "find_conflicts",
    "side_for",
]

_SETTLED_BY_RULE = frozenset(
    {"tombstone", "status", "gate", "check", "approval", "override", "role", "key", "evaluation", "delivered"}
)
"""Kinds of which two may stand: what stands then is a rule of those who read them, such as `hidden stands`."""

Place = tuple[str, str, str]
"""What an event is about: subject, kind and key."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An event that stands: when (microseconds), by whom, and the commit that holds its transaction."""

    event_id: str
    value: str | None
    recorded_at: int
    actor: str
    commit: str | None
    tx: str


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


@dataclass(frozen=True, slots=True)
class Settling:
    """An event that settles a conflict: its value, and the events that it supersedes."""

    value: str | None
    prev: Sequence[str]


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


class Union:
    """The events that stand once a difference is added to a state, and the registry's words for what they are about.

    Args:
        fold: The state: `ours`.
        new: What is added: `theirs`.
    """

    def __init__(self, fold: Fold, new: Difference) -> None:
        self.fold = fold
        self.new = new
        self.words = Words(fold, new)
        self.added: dict[Place, list[dict[str, Any]]] = {}
        for event in new.standing():
            self.added.setdefault((event["subject"], event["kind"], event["key"]), []).append(event)
        self._superseded = new.superseded()

    def ours(self, subject: str, kind: str, key: str = "") -> list[Standing]:
        """Return what stands of the state's own events, the oldest first."""
        rows = self.fold.rows(_STANDING, subject, kind, key)
        return [Standing(*row) for row in rows if row[0] not in self._superseded]

    def theirs(self, subject: str, kind: str, key: str = "") -> list[Standing]:
        """Return what stands of the added events, the oldest first."""
        return [
            Standing(e["event_id"], e["value"], e["recorded_at"], e["actor"], self.words.commit(e["tx"]), e["tx"])
            for e in self.added.get((subject, kind, key), ())
        ]

    def both(self, subject: str, kind: str, key: str = "") -> list[Standing]:
        """Return everything that stands, ours first."""
        return [*self.ours(subject, kind, key), *self.theirs(subject, kind, key)]

    def sides(self, tx: str) -> frozenset[str]:
        """Return who has a transaction: `ours`, `theirs`, or both since before they parted."""
        if tx in self.new.transactions:
            return frozenset({"theirs"})
        return frozenset({"ours", "theirs"} if self._shared(tx) else {"ours"})

    @cached_property
    def _shared(self) -> Callable[[str], bool]:
        return shared(self.fold, self.new.right, self.new.commits)

    def superseded(self, event_id: str) -> bool:
        """Return whether an added event supersedes one of the state's."""
        return event_id in self._superseded


def find_conflicts(union: Union, besides: Callable[[Place], bool] = lambda place: False) -> list[Conflict]:
    """Return what would stand at two values, in order of name.

    Args:
        union: What stands.
        besides: Whether a place is none of its business.
    """
    found = []
    for subject, kind, key in union.added:
        if kind in _SETTLED_BY_RULE or besides((subject, kind, key)):
            continue
        ours, theirs = union.ours(subject, kind, key), union.theirs(subject, kind, key)
        if ours and len({each.value for each in (*ours, *theirs)}) > 1:
            name = union.words.name(subject, kind, key)
            sides = (
                Side(
                    union.words.value(kind, side[-1].value),
                    side[-1].actor,
                    from_micros(side[-1].recorded_at),
                    side[-1].commit,
                    side[-1].value,
                    tuple(each.event_id for each in side),
                )
                for side in (ours, theirs)
            )
            found.append(Conflict(name, kind, subject, key, *sides))
    return sorted(found, key=lambda conflict: conflict.name)


_STANDING = """SELECT event_id, value, recorded_at, actor, (SELECT id FROM commits c WHERE c.tx = e.tx), tx
    FROM events e WHERE standing AND subject = ? AND kind = ? AND key = ? ORDER BY event_id"""


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


class Words:
    """The registry's words for the subjects and values of events, of both sides."""

    def __init__(self, fold: Fold, new: Difference) -> None:
        self._fold = fold
        self._versions = {
            row["version_id"]: (row["model_id"], row["version"]) for row in new.rows.get("model_versions", ())
        }
        self._datasets = {row["dataset_id"]: (row["name"], row["semver"]) for row in new.rows.get("datasets", ())}
        self._names = {event["subject"]: event["value"] for event in new.standing() if event["kind"] == "name"}
        self._superseded = new.superseded()
        self._commits = {commit.metadata.get("headwater.tx"): commit.id for commit in new.commits}

    def model_of(self, version_id: str) -> str | None:
        """Return the model of an added version."""
        found = self._versions.get(version_id)
        return found[0] if found is not None else None

    def commit(self, tx: str) -> str | None:
        """Return the added commit that holds a transaction."""
        return self._commits.get(tx)

    def name(self, subject: str, kind: str, key: str) -> str:
        """Return what a conflict is called."""
        return f"{kind}:{self.subject(subject)}" + (f"@{quote(key)}" if key else "")

    def value(self, kind: str, value: str | None) -> str | None:
        """Return a value as people write it."""
        if value is not None and kind == "alias":
            return self.version(value) or value
        if value is not None and kind == "traffic":
            return traffic_called(value, lambda version_id: self.version(version_id) or version_id) or "nothing"
        return value

    def subject(self, subject: str) -> str:
        """Return what people call the subject of an event: `flight-delay/7`, `flights@1.1.0`."""
        version = self.version(subject)
        if version is not None:
            return version
        if self._fold.one("SELECT 1 FROM models WHERE model_id = ?", subject) is not None:
            return quote(self._model(subject))
        dataset = self._datasets.get(subject) or self._fold.one(
            "SELECT name, semver FROM datasets WHERE dataset_id = ?", subject
        )
        return (
            f"{quote(dataset[0])}@{dataset[1]}" if dataset is not None else quote(self._names.get(subject) or subject)
        )

    def version(self, version_id: str) -> str | None:
        """Return what people call a version; None where neither side has it."""
        found = self._versions.get(version_id) or self._fold.one(
            "SELECT model_id, version FROM versions WHERE version_id = ?", version_id
        )
        if found is None:
            return None
        model_id, number = found
        return f"{quote(self._model(model_id))}/{number}"

    def _model(self, model_id: str) -> str:
        """Return the name that a model will have: the new one where the other side alone renamed it."""
        ours = self._fold.standing(model_id, "name")
        renamed = self._names.get(model_id)
        if ours and (renamed is None or any(event_id not in self._superseded for event_id, _ in ours)):
            return name_of(self._fold, model_id)
        return renamed or model_id
