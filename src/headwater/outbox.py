"""What is to be told: notifications, as they follow from a branch's history, and how far each came; reads only.

Nothing is written when something happens but the thing itself: what an action has to tell follows from the transactions
that landed after it was added, in the order of landing. So a crash forgets nothing, and nothing is to be kept in step.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from headwater.access import matches
from headwater.happenings import DECIDED, Happening, Happenings
from headwater.ids import from_micros
from headwater.lookup import name_of
from headwater.notification_model import Action, Notification, NotificationTarget
from headwater.state import Fold

__all__ = ["PATTERN", "Kept", "Outbox", "Progress", "Queue", "Step", "cursor_subject", "described"]

PATTERN = "pattern:"
"""Begins the subject of an action for all models whose names match."""

_CANDIDATES = f"""
SELECT c.tx, min(c.position), c.micros, c.id, c.kind, c.actor, c.landed_micros,
    (SELECT l.brought FROM commits l WHERE l.id = c.landed) = c.tx,
    group_concat(DISTINCT coalesce(v.model_id, e.subject))
FROM commits c JOIN events e ON e.tx = c.tx AND e.kind IN {DECIDED} LEFT JOIN versions v ON v.version_id = e.subject
WHERE c.position > ? GROUP BY c.tx ORDER BY min(c.position), c.micros, c.tx"""

_ACTIONS = """
SELECT e.subject, e.key, max(e.event_id), count(*), sum(e.value IS NULL) FROM events e
WHERE e.standing AND e.kind = 'action' GROUP BY e.subject, e.key ORDER BY e.subject, e.key"""

_HISTORY = """
SELECT e.value, coalesce(c.position, 0) FROM events e LEFT JOIN commits c ON c.tx = e.tx
WHERE e.subject = ? AND e.kind = 'action' AND e.key = ? ORDER BY coalesce(c.position, 0), e.event_id"""


@dataclass(frozen=True, slots=True)
class Kept:
    """An action as the lake keeps it: where it stands, what it does, and from which position on it tells."""

    subject: str
    name: str
    target: NotificationTarget
    on: tuple[str, ...]
    branch: str
    start: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an action was delivered for one model: the transaction, and what came of it.

    Attributes:
        outcome: `delivered`, `failed` (given up) or `waiting` (it is tried again).
        since: When it was tried first, in microseconds.
        next: When it is tried again.
    """

    tx: str
    outcome: str
    tries: int
    since: int
    next: int | None = None
    error: str | None = None

    def text(self) -> str:
        """Return it as an event's value."""
        kept = {"tx": self.tx, "outcome": self.outcome, "tries": self.tries, "since": self.since}
        more = {"next": self.next, "error": self.error}
        return json.dumps({**kept, **{key: value for key, value in more.items() if value is not None}})

    @classmethod
    def parse(cls, text: str | None) -> Progress | None:
        """Return what an event says; None where something other than Headwater wrote it."""
        try:
            kept = json.loads(text or "null")
            found = cls(kept["tx"], kept["outcome"], kept["tries"], kept["since"], kept.get("next"), kept.get("error"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        texts = isinstance(found.tx, str) and found.outcome in ("delivered", "failed", "waiting")
        numbers = all(isinstance(each, int) for each in (found.tries, found.since, found.next or 0))
        return found if texts and numbers and isinstance(found.error, str | None) else None


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction has an action tell of one model: mostly one thing."""

    tx: str
    notifications: tuple[Notification, ...]


@dataclass(slots=True)
class Queue:
    """What an action has still to tell of one model, in the order of landing; the first step may be waiting."""

    kept: Kept
    model_id: str
    model: str
    progress: Progress | None
    steps: list[Step] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """The subject of the events that say how far it was delivered; their key is the model's ID."""
        return cursor_subject(self.kept.subject, self.kept.name)

    @property
    def waits_until(self) -> int | None:
        """When the first step is tried again, in microseconds; None where it was not tried."""
        it = self.progress
        return it.next if it is not None and it.outcome == "waiting" and self.steps[0].tx == it.tx else None


def cursor_subject(subject: str, name: str) -> str:
    """Return the subject of the events that say how far an action was delivered."""
    return f"{subject} {name}"


def described(fold: Fold, kept: Kept) -> Action:
    """Return an action as people hold it."""
    row = fold.one(
        "SELECT e.recorded_at, e.actor, c.id FROM events e LEFT JOIN commits c ON c.tx = e.tx WHERE e.standing"
        " AND e.subject = ? AND e.kind = 'action' AND e.key = ? ORDER BY e.event_id DESC",
        kept.subject,
        kept.name,
    )
    target = kept.target
    secret = f"env {target.secret_env}" if target.secret_env else f"file {target.secret_file}"
    is_pattern = kept.subject.startswith(PATTERN)
    return Action(
        name=kept.name,
        model=kept.subject.removeprefix(PATTERN) if is_pattern else name_of(fold, kept.subject),
        on=kept.on,
        webhook=target.webhook,
        command=target.command,
        secret=secret if target.secret_env or target.secret_file else None,
        allow_private=target.allow_private,
        branch=kept.branch,
        commit=row[2],
        recorded_at=from_micros(row[0]),
        actor=row[1],
    )


class Outbox:
    """The outbox of a branch, as a state has it.

    Args:
        fold: The state.
        branch: The branch that it is of.
        lake_id: The lake's own UUID.
    """

    def __init__(self, fold: Fold, branch: str, lake_id: str) -> None:
        self._fold = fold
        self._branch = branch
        self._lake_id = lake_id
        self._happened = Happenings(fold, branch)

    def actions(self, *, everywhere: bool = False) -> list[Kept]:
        """Return the actions that stand and are for this branch, or for any.

        Where two branches kept different ones under a name, the newer counts; where one took it away, it is gone.
        """
        found = []
        for subject, name, event_id, _, gone in self._fold.rows(_ACTIONS):
            (text,) = self._fold.one("SELECT value FROM events WHERE event_id = ?", event_id)
            if gone or (kept := self._parsed(subject, name, text)) is None:
                continue
            if everywhere or kept.branch == self._branch:
                found.append(kept)
        return found

    def _parsed(self, subject: str, name: str, text: str) -> Kept | None:
        try:
            kept = json.loads(text)
            target = NotificationTarget(
                webhook=kept.get("webhook"),
                secret_env=kept.get("secret_env"),
                secret_file=kept.get("secret_file"),
                allow_private=kept.get("allow_private") is True,
                command=tuple(str(word) for word in kept.get("command") or ()),
            )
            on, branch = tuple(str(each) for each in kept["on"]), str(kept["branch"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        start = 0
        told = False
        for value, position in self._fold.rows(_HISTORY, subject, name):
            if value is not None and not told:
                start = position
            told = value is not None
        return Kept(subject, name, target, on, branch, start)

    def queues(self, *, first: bool = False) -> list[Queue]:
        """Return what is still to be told, for each action and model that have something.

        Args:
            first: Only the first step of each.
        """
        actions = self.actions()
        if not actions:
            return []
        queues: dict[tuple[str, str, str], Queue | None] = {}
        places: dict[tuple[str, str, str], tuple[int, int, str] | None] = {}
        for row in self._fold.rows(_CANDIDATES, min(each.start for each in actions)):
            tx, position, micros = row[:3]
            happenings: list[Happening] | None = None
            for kept in actions:
                for model_id in row[8].split(",") if position > kept.start else ():
                    which = (kept.subject, kept.name, model_id)
                    if which not in queues:
                        queues[which] = self._queue(kept, model_id)
                        places[which] = self._settled(queues[which])
                    queue, settled = queues[which], places[which]
                    if queue is None or (settled is not None and (position, micros, tx) <= settled):
                        continue
                    if first and queue.steps:
                        continue
                    # Most of a long history is settled, and what happened in it is not asked.
                    if happenings is None:
                        happenings = list(self._happened.of(tx, position, row[4], bool(row[7])))
                    told = [each for each in happenings if each.model_id == model_id and each.event in kept.on]
                    if told:
                        queue.steps.append(Step(tx, tuple(self._notification(queue, each, row) for each in told)))
        return [each for each in queues.values() if each is not None and each.steps]

    def _queue(self, kept: Kept, model_id: str) -> Queue | None:
        """Return an empty queue; None where the action is not for the model."""
        if not self._concerns(kept, model_id):
            return None
        progress = self.progress(cursor_subject(kept.subject, kept.name), model_id)
        return Queue(kept, model_id, name_of(self._fold, model_id), progress)

    # -- how far --------------------------------------------------------------------------------------------------
    def progress(self, subject: str, model_id: str) -> Progress | None:
        """Return how far an action was delivered for a model: where several stand, the furthest counts."""
        found = [Progress.parse(value) for _, value in self._fold.standing(subject, "delivered", model_id)]
        known = [each for each in found if each is not None]
        return max(known, key=lambda each: (self.place(each.tx), each.outcome != "waiting", each.tries), default=None)

    def place(self, tx: str) -> tuple[int, int, str]:
        """Return where a transaction stands in the order of landing."""
        row = self._fold.one("SELECT position, micros FROM commits WHERE tx = ? ORDER BY position LIMIT 1", tx)
        return (row[0] or 0, row[1], tx) if row is not None else (-1, 0, tx)

    def _settled(self, queue: Queue | None) -> tuple[int, int, str] | None:
        """Return the place up to which everything is settled."""
        progress = queue.progress if queue is not None else None
        if progress is None:
            return None
        position, micros, tx = self.place(progress.tx)
        return (position, micros, tx if progress.outcome != "waiting" else "")

    def _concerns(self, kept: Kept, model_id: str) -> bool:
        """Return whether an action is for a model: its own, or one that has or had a name which matches."""
        if not kept.subject.startswith(PATTERN):
            return kept.subject == model_id
        names = self._fold.rows("SELECT value FROM events WHERE subject = ? AND kind = 'name'", model_id)
        return any(matches(kept.subject.removeprefix(PATTERN), name) for (name,) in names)

    def _notification(self, queue: Queue, what: Happening, row: Any) -> Notification:
        tx, position, _, commit, _, actor, landed = row[:7]
        it = queue.kept
        parts = [self._lake_id, self._branch, it.subject, it.name, tx, what.model_id, what.event, what.version_id]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        tried = queue.progress if queue.progress is not None and queue.progress.tx == tx else None
        return Notification(
            key=key,
            action=it.name,
            event=what.event,
            model=queue.model,
            model_id=what.model_id,
            version=what.version,
            version_id=what.version_id,
            stage=what.stage,
            previous=what.previous,
            traffic=what.traffic,
            gates=what.gates,
            actor=actor or "",
            reason=what.reason,
            commit=commit,
            tx=tx,
            position=position,
            landed_at=from_micros(landed),
            branch=self._branch,
            status="pending" if tried is None else "waiting",
            tries=tried.tries if tried is not None else 0,
            next_try_at=from_micros(tried.next) if tried is not None and tried.next is not None else None,
            error=tried.error if tried is not None else None,
        )
