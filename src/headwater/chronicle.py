"""The story of a model: who did what to it, when and why, with what its gates found; and what it was at any time.

Everything is told in the order in which it reached the branch, so that it agrees with `main@{time}`. Reads only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from headwater.access import matches
from headwater.context import Context
from headwater.errors import InvalidInputError, NotFoundError
from headwater.fold import entries_of
from headwater.history_model import Happening, HistoryEntry, ModelMoment, Share
from headwater.history_words import told
from headwater.ids import from_micros
from headwater.lake.refs import parse_time
from headwater.lookup import model_id_of, name_of
from headwater.names import check_limit, parse_model, quote
from headwater.production import CHAMPION
from headwater.state import Fold
from headwater.tombstones import HIDDEN

__all__ = ["Chronicle"]

_LEFT_OUT = ("delivered", "landed", "endorsement")
"""Kinds of events that are bookkeeping, and no part of a story."""


class _Event(NamedTuple):
    """An event that is part of a model's story, with where it landed."""

    event_id: str
    subject: str
    kind: str
    key: str
    value: str | None
    prev: tuple[str, ...]
    reason: str | None
    tx: str
    recorded_at: int
    actor: str
    position: int | None


class Chronicle:
    """The service that tells the story of a model.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def tell(self, name: str, *, limit: int | None = None) -> list[HistoryEntry]:
        """Return what happened to a model, newest first. See `Registry.history`."""
        check_limit(limit)
        bare = _bare(name)
        with self._context.reading() as fold:
            model_id = model_id_of(fold, bare, deleted=True)
            return _Story(fold, model_id).entries(limit=limit)

    def moment(self, name: str, time: datetime | str, *, limit: int | None = None) -> ModelMoment:
        """Return what a model was at a time. See `Registry.history`."""
        check_limit(limit)
        bare = _bare(name)
        micros = _micros(time)
        with self._context.reading() as fold:
            row = fold.one(
                "SELECT position, landed FROM commits WHERE landed_micros <= ? ORDER BY position DESC LIMIT 1", micros
            )
            if row is None:
                (first,) = fold.one("SELECT min(landed_micros) FROM commits")
                raise NotFoundError(
                    f"the history begins at {from_micros(first):%Y-%m-%dT%H:%M:%SZ}", hint="ask for a later time"
                )
            position, head = row
            story = _Story(fold, _model_then(fold, bare, position), position)
            return story.moment(from_micros(micros), str(head), limit)


def _model_then(fold: Fold, name: str, position: int) -> str:
    """Return the model that has a name, or that had it at a time.

    Raises:
        NotFoundError: There is, or was, none.
    """
    try:
        model_id = model_id_of(fold, name, deleted=True)
    except NotFoundError:
        row = fold.one(
            "SELECT e.subject FROM events e JOIN commits c ON c.tx = e.tx WHERE e.kind = 'name' AND e.value = ?"
            " AND c.position <= ? ORDER BY c.position DESC",
            *(name, position),
        )
        if row is None:
            raise
        model_id = str(row[0])
    made = fold.one("SELECT c.position FROM models m JOIN commits c ON c.tx = m.tx WHERE m.model_id = ?", model_id)
    if made is None or made[0] > position:
        raise NotFoundError(f"there was no model {quote(name)} yet", hint="ask for a later time")
    return model_id


class _Story:
    """What is known of one model, up to a position of the branch.

    Args:
        fold: The state.
        model_id: The model.
        position: Only what had landed by then; None: everything.
    """

    def __init__(self, fold: Fold, model_id: str, position: int | None = None) -> None:
        self._fold = fold
        self._model_id = model_id
        self._last = (1 << 62) if position is None else position
        self._is_past = position is not None
        rows = fold.rows(
            "SELECT v.version_id, v.version, v.tx, c.position FROM versions v LEFT JOIN commits c ON c.tx = v.tx"
            " WHERE v.model_id = ? ORDER BY v.version",
            model_id,
        )
        self._versions = [row for row in rows if self._landed(row[3])]
        self._numbers: dict[str, int] = {version_id: number for version_id, number, _, _ in rows}
        self._events = sorted(self._read(), key=lambda each: (each.position or 0, each.event_id))
        self._by_id = {each.event_id: each for each in self._events}

    def _landed(self, position: int | None) -> bool:
        return position is not None and position <= self._last

    def _read(self) -> Iterable[_Event]:
        columns = (
            "SELECT e.event_id, e.subject, e.kind, e.key, e.value, e.prev, e.reason, e.tx, e.recorded_at, e.actor,"
            " c.position FROM events e LEFT JOIN commits c ON c.tx = e.tx"
        )
        rows = self._fold.rows(f"{columns} WHERE e.subject = ?", self._model_id)
        rows += self._fold.rows(
            f"{columns} WHERE e.subject IN (SELECT version_id FROM versions WHERE model_id = ?)", self._model_id
        )
        names = {value for _, subject, kind, _, value, *_ in rows if kind == "name" and value is not None}
        patterns = self._fold.rows(
            f"{columns} WHERE e.kind IN ('policy', 'action') AND e.subject >= 'pattern:' AND e.subject < 'pattern;'"
        )
        rows += [row for row in patterns if _matches(names, row[1].removeprefix("pattern:"))]
        roles = self._fold.rows(f"{columns} WHERE e.kind = 'role'")
        rows += [row for row in roles if _matches(names, row[3].partition(" ")[2])]
        for row in rows:
            if row[2] not in _LEFT_OUT and self._landed(row[10]):
                yield _Event._make([*row[:5], tuple(json.loads(row[5])), *row[6:]])

    # -- what happened ------------------------------------------------------------------------------------------
    def entries(self, *, limit: int | None = None) -> list[HistoryEntry]:
        """Return what happened, newest first."""
        found: dict[str, list[Happening]] = {}
        reasons: dict[str, str] = {}
        for version_id, number, tx, _ in self._versions:
            found.setdefault(tx, []).append(
                Happening("registered", number, "", version_id, (), f"version {number} is registered", "", None)
            )
        for deployment_id, version_id, environment, mode, tx in self._deployments():
            number = self._numbers.get(version_id)
            text = f"version {number} is deployed to {environment}, {mode}"
            found.setdefault(tx, []).append(
                Happening("deployed", number, environment, deployment_id, (), text, "", None)
            )
        for event in self._events:
            before = tuple(self._by_id[each].value for each in event.prev if each in self._by_id)
            found.setdefault(event.tx, []).append(self._happening(event, before))
            if event.reason is not None:
                reasons.setdefault(event.tx, event.reason)
        strays = self._add_refused(found)
        rows = []
        for tx, happenings in found.items():
            row = self._fold.one(
                "SELECT id, micros, landed_micros, actor, kind, message, position FROM commits WHERE tx = ?", tx
            )
            if row is not None:
                rows.append((row, reasons.get(tx), happenings))
        rows.sort(key=lambda each: (-each[0][6], -each[0][1], each[0][0]))
        genuine = [
            HistoryEntry(
                commit=commit,
                recorded_at=from_micros(micros),
                landed_at=from_micros(landed),
                actor=actor or "",
                kind=kind or "",
                message=message,
                reason=reason,
                happenings=tuple(happenings),
            )
            for (commit, micros, landed, actor, kind, message, _), reason, happenings in rows[:limit]
        ]
        return [*strays, *genuine][:limit]

    def _add_refused(self, found: dict[str, list[Happening]]) -> list[HistoryEntry]:
        """Add what landed and has no force, and return what never landed: nobody knows since when it is there."""
        rows = self._fold.rows(
            "SELECT event_id, subject, kind, key, row, tx, reason, stray, alarm FROM refused WHERE subject = ?1"
            " OR subject IN (SELECT version_id FROM versions WHERE model_id = ?1) ORDER BY event_id",
            self._model_id,
        )
        strays = []
        for event_id, subject, kind, key, text, tx, why, stray, alarm in rows:
            row = json.loads(text)
            number = self._numbers.get(subject)
            said, _ = told(kind, subject, key, row["value"], (), self._called)
            about = f"version {number}: " if number is not None else ""
            # What was decided on another branch has none here either, and nobody did anything that he may not.
            words = f"NO FORCE: {about}{said}: {why}" if alarm else f"{about}{said}, without force here: {why}"
            mark = "no force" if alarm else ""
            happening = Happening(kind, number, key, _decoded(kind, row["value"]), (), words, mark, event_id)
            if not stray:
                position = self._fold.one("SELECT position FROM commits WHERE tx = ?", tx)
                if position is not None and self._landed(position[0]):
                    found.setdefault(tx, []).append(happening)
            elif not self._is_past:
                when = from_micros(row["recorded_at"])
                message = "put into the tables by nobody who may"
                entry = HistoryEntry(None, when, when, row["actor"] or "", "forged", message, None, (happening,))
                strays.append(entry)
        return strays

    def _deployments(self) -> list[tuple[str, str, str, str, str]]:
        rows = self._fold.rows(
            "SELECT d.deployment_id, d.version_id, d.environment, d.mode, d.tx, c.position FROM deployments d"
            " LEFT JOIN commits c ON c.tx = d.tx WHERE d.model_id = ? ORDER BY d.deployment_id",
            self._model_id,
        )
        return [row[:5] for row in rows if self._landed(row[5])]

    def _happening(self, event: _Event, before: tuple[str | None, ...]) -> Happening:
        number = self._numbers.get(event.subject)
        text, mark = told(event.kind, event.subject, event.key, event.value, before, self._called)
        return Happening(
            kind=event.kind,
            version=number,
            key=event.key,
            value=_decoded(event.kind, event.value),
            before=tuple(_decoded(event.kind, each) for each in before),
            text=f"version {number}: {text}" if number is not None else text,
            mark=mark,
            event_id=event.event_id,
        )

    def _called(self, version_id: str | None) -> str:
        return "nothing" if version_id is None else str(self._numbers.get(version_id, version_id))

    # -- what was -----------------------------------------------------------------------------------------------
    def moment(self, time: datetime, head: str, limit: int | None) -> ModelMoment:
        """Return what stood."""
        replaced = {each for event in self._events for each in event.prev}
        stood: dict[tuple[str, str, str], list[str | None]] = {}
        for event in sorted(self._events, key=lambda each: each.event_id):
            if event.event_id not in replaced:
                stood.setdefault((event.subject, event.kind, event.key), []).append(event.value)
        unsettled: list[str] = []

        def hidden(subject: str) -> bool:
            return HIDDEN in stood.get((subject, "tombstone", ""), ())

        aliases: dict[str, int] = {}
        traffic: dict[str, tuple[Share, ...]] = {}
        stages = {
            number: (stood.get((version_id, "stage", ""), [None])[-1] or "none")
            for version_id, number, _, _ in self._versions
            if not hidden(version_id)
        }
        for (subject, kind, key), values in stood.items():
            if len(set(values)) > 1 and kind in ("alias", "stage", "traffic", "name"):
                unsettled.append(f"{kind} {key or self._called(subject)} stood at {len(set(values))} values")
            if kind == "alias" and subject == self._model_id and values[-1] is not None:
                if len(set(values)) == 1 and not hidden(values[-1]) and values[-1] in self._numbers:
                    aliases[key] = self._numbers[values[-1]]
            elif kind == "traffic":
                shares = self._shares(values)
                if shares:
                    traffic[key] = shares
        names = stood.get((self._model_id, "name", ""), [None])
        return ModelMoment(
            name=names[0] or name_of(self._fold, self._model_id),
            model_id=self._model_id,
            time=time,
            commit=head,
            deleted=hidden(self._model_id),
            champion=aliases.get(CHAMPION),
            aliases=dict(sorted(aliases.items())),
            stages=stages,
            traffic=dict(sorted(traffic.items())),
            unsettled=tuple(unsettled),
            entries=tuple(self.entries(limit=limit)),
        )

    def _shares(self, values: Sequence[str | None]) -> tuple[Share, ...]:
        known: dict[str, Mapping[str, Any]] = {}
        for value in values:
            known.update((each["deployment_id"], each) for each in entries_of(value))
        return tuple(
            Share(
                version=self._numbers.get(each["version_id"], 0),
                version_id=each["version_id"],
                mode=each["mode"],
                percent=each["percent"],
                deployment_id=each["deployment_id"],
            )
            for each in sorted(known.values(), key=lambda each: (-(each["percent"] or 0), each["deployment_id"]))
        )


def _matches(names: Iterable[str], pattern: str) -> bool:
    return any(matches(pattern, name) for name in names)


_JSON = frozenset({"traffic", "gate", "check", "approval", "refusal", "evaluation", "action"})
"""Kinds of events whose values are JSON."""


def _decoded(kind: str, value: str | None) -> Any:
    if kind not in _JSON or value is None:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _bare(name: str) -> str:
    ref = parse_model(name)
    if ref.version is not None or ref.alias is not None:
        raise InvalidInputError(
            f"{ref} is a version, and a story is a model's",
            hint=f"`headwater history {quote(ref.name)}`; `headwater log {ref}` has what concerns it alone",
        )
    return ref.name


def _micros(time: datetime | str) -> int:
    if isinstance(time, str):
        return parse_time(time)
    if time.tzinfo is None:
        raise InvalidInputError(f"{time} does not say its time zone", hint="use datetime(..., tzinfo=UTC)")
    whole = time.astimezone(UTC)
    return int(whole.replace(microsecond=0).timestamp()) * 1_000_000 + whole.microsecond
