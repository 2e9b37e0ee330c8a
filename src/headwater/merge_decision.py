"""What a merge comes to: which conflicts there are, which side is taken, what is decided again; writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headwater.access import protected as is_protected
from headwater.conflicts import Conflict, Place, Settling, Union, find_conflicts, side_for
from headwater.deletions import Deletion, find_deletions, settle
from headwater.errors import InvalidInputError
from headwater.protected import Group, Protected, Replay, Rule, is_face
from headwater.tombstones import HIDDEN

__all__ = ["Choice", "Decision", "decide"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which side somebody takes: all of one, or that of single conflicts by name."""

    ours: bool = False
    theirs: bool = False
    resolve: Mapping[str, str] = field(default_factory=dict)

    def of(self, conflict: Conflict) -> str | None:
        """Return the side that is taken of a conflict; None where nobody said.

        Raises:
            InvalidInputError: A choice is neither `ours` nor `theirs`.
        """
        side = side_for(conflict, ours=self.ours, theirs=self.theirs, resolve=self.resolve)
        return None if side is None else "ours" if side is conflict.ours else "theirs"

    def leaves(self, name: str) -> bool:
        """Return whether what the source alone changed is left as the target has it.

        Raises:
            InvalidInputError: The choice is neither `ours` nor `theirs`.
        """
        side = self.resolve.get(name, "ours" if self.ours else "theirs")
        if side not in ("ours", "theirs"):
            raise InvalidInputError(f"{name} can't be {side!r}", hint="write ours or theirs after the =")
        return side == "ours"


@dataclass(frozen=True)
class Decision:
    """What a merge comes to.

    Attributes:
        conflicts: What both sides changed.
        settled: By a conflict's name, the side that was taken.
        settling: The events that settle it, by place.
        replays: What the source decided, to be decided again.
        rules: Policies, roles, keys and actions, likewise.
        left: Names of what the source changed and the target keeps as it is.
    """

    conflicts: tuple[Conflict, ...]
    settled: Mapping[str, str]
    settling: Mapping[Place, Settling]
    replays: tuple[Replay, ...] = ()
    rules: tuple[Rule, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def again(self) -> bool:
        """Whether anything has to be decided again."""
        return bool(self.replays or self.rules)


def decide(union: Union, protected: Protected, choice: Choice) -> Decision:
    """Return what a merge comes to.

    Raises:
        InvalidInputError: A choice names no conflict, or no side.
    """
    return _Deciding(union, protected, choice).decision()


class _Deciding:
    """One decision, made step by step."""

    def __init__(self, union: Union, protected: Protected, choice: Choice) -> None:
        self._union = union
        self._protected = protected
        self._choice = choice
        self._chosen: dict[str, str] = {}
        self._decided: dict[Place, Settling | None] = {}
        self._again: list[Group] = []
        self._stages: dict[Place, str] = {}
        self._rules: list[Rule] = []
        self._left: list[str] = []

    def decision(self) -> Decision:
        protected, grouped = self._protected, self._protected.places()
        conflicts: list[Conflict] = find_conflicts(self._union, lambda place: place in grouped)
        for each in conflicts:
            side = self._choose(each)
            taken = each.ours if side == "ours" else each.theirs
            prev = [*each.ours.events, *each.theirs.events]
            self._decided[each.subject, each.kind, each.key] = None if side is None else Settling(taken.raw, prev)
        for group in protected.groups:
            self._group(group)
        for place, stage in protected.stages.items():
            if self._takes(place, self._union.words.name(*place)):
                self._stages[place] = stage
        self._rules = [rule for rule in protected.rules if self._takes(rule.place, rule.name)]
        if self._union.fold.signed:
            # What was decided elsewhere has no force there that would have to be taken from it.
            self._decided = {
                place: event
                for place, event in self._decided.items()
                if event is None or not is_protected(place[1], place[2])
            }
        deletions = self._deletions()
        conflicts += [each.conflict for each in protected.groups if each.conflict is not None]
        conflicts.sort(key=lambda each: each.name)
        self._check_names([*conflicts, *deletions])
        return Decision(
            conflicts=(*conflicts, *deletions),
            settled=self._chosen,
            settling={place: event for place, event in self._decided.items() if event is not None},
            replays=tuple(self._replays()),
            rules=tuple(self._rules),
            left=tuple(sorted(self._left)),
        )

    def _choose(self, conflict: Conflict) -> str | None:
        side = self._choice.of(conflict)
        if side is not None:
            self._chosen[conflict.name] = side
        return side

    def _group(self, group: Group) -> None:
        """Settle what is in production of one model: all faces by one side."""
        if group.conflict is not None:
            side = self._choose(group.conflict)
            if side is None:
                self._decided |= dict.fromkeys(group.places)
                return
            if side == "theirs" and group.governed:
                self._again.append(group)
                side = "ours"
            self._decided |= group.settled(self._union, side)
            return
        if group.same:
            self._decided |= group.settled(self._union, "ours")
        elif group.governed:
            (self._left.append(group.name) if self._choice.leaves(group.name) else self._again.append(group))
            self._decided |= group.settled(self._union, "ours")

    def _takes(self, place: Place, name: str) -> bool:
        """Return whether a change by the source is to be decided again; until then the target's value stands."""
        if name in self._chosen:
            taken = self._chosen[name] == "theirs"
        elif place in self._decided:
            return False  # a conflict that nobody settled
        elif self._choice.leaves(name):
            self._left.append(name)
            taken = False
        else:
            taken = True
        stands = self._union.both(*place)
        values = [value for _, value in self._union.fold.standing(*place)]
        self._decided[place] = Settling(_kept(place, values, stands[-1].value), [each.event_id for each in stands])
        return taken

    def _deletions(self) -> list[Deletion]:
        """Settle what one side deleted and the other uses, which depends on where an alias is going to point."""
        seen = dict(self._decided)
        for group in self._again:
            seen |= group.settled(self._union, "theirs")
        found = find_deletions(self._union, seen)
        for each in found:
            side = self._choose(each)
            if side is None:
                continue
            events = settle(self._union, each, each.ours if side == "ours" else each.theirs, seen)
            gone = (each.ours if side == "ours" else each.theirs).raw == HIDDEN
            for group in list(self._again):
                if gone and set(each.places) & set(group.places):
                    self._again.remove(group)
                    self._left.append(group.name)
                events = {place: event for place, event in events.items() if place not in group.places}
            self._decided |= events | (self._archived(each, events) if gone else {})
        return found

    def _archived(self, deletion: Deletion, events: Iterable[Place]) -> dict[Place, Settling]:
        """Return the events by which what is in production no more, as it is deleted, is not in that stage either."""
        union = self._union
        models = {subject for subject, kind, key in events if is_face(kind, key) and kind != "stage"}
        standing = union.fold.rows(
            "SELECT subject FROM events WHERE standing AND kind = 'stage' AND value = 'production'"
        )
        added = [subject for subject, kind, _ in union.added if kind == "stage"]
        found = {}
        for version_id in sorted({*(subject for (subject,) in standing), *added}):
            row = union.fold.one("SELECT model_id FROM versions WHERE version_id = ?", version_id)
            model_id = str(row[0]) if row is not None else union.words.model_of(version_id)
            place, stands = (version_id, "stage", ""), union.both(version_id, "stage")
            if model_id in models and {model_id, version_id} & {deletion.subject, *deletion.hidden}:
                settled = self._decided.get(place)
                values = {each.value for each in stands} if settled is None else {settled.value}
                if "production" in values:
                    found[place] = Settling("archived", [each.event_id for each in stands])
        return found

    def _check_names(self, conflicts: list[Conflict]) -> None:
        protected = self._protected
        known = {each.name for each in conflicts} | {each.name for each in protected.groups}
        known |= {each.name for each in protected.rules}
        known |= {self._union.words.name(*place) for place in protected.stages}
        unknown = self._choice.resolve.keys() - known
        if unknown:
            names = ", ".join(each.name for each in conflicts)
            raise InvalidInputError(
                f"there is no conflict {min(unknown)!r}",
                hint=f"there are {names}" if names else "there is none at all",
            )

    def _replays(self) -> list[Replay]:
        stages: dict[str, list[tuple[str, str]]] = {}
        for (version_id, _, _), stage in sorted(self._stages.items()):
            row = self._union.fold.one("SELECT model_id FROM versions WHERE version_id = ?", version_id)
            model_id = str(row[0]) if row is not None else self._union.words.model_of(version_id) or version_id
            stages.setdefault(model_id, []).append((version_id, stage))
        found = [Replay(model_id, None, tuple(each)) for model_id, each in sorted(stages.items())]
        return found + [group.replay() for group in self._again]


def _kept(place: Place, values: list[str | None], other: str | None) -> str | None:
    """Return what makes a place say what the target says, whose values these are; the source's is the other one."""
    _, kind, _ = place
    if kind == "role":
        return "granted" if set(values) == {"granted"} else "revoked"
    if kind == "key" and not values:
        return json.dumps({**json.loads(other or "{}"), "revoked": True}, sort_keys=True)
    return values[-1] if values else None
