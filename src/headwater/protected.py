"""What governance protects, in a merge: what each side decided about production, stages and rules; writes nothing.

All that is in production of a model is one thing: its stage, `champion`, deployments and traffic are settled together,
so that they can't disagree afterwards. What the source decided about a model that is governed on the target has no
force there by being united: it is decided again (see `headwater.replaying`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from headwater import production
from headwater.conflicts import Conflict, Place, Settling, Side, Standing, Union
from headwater.ids import from_micros
from headwater.production import CHAMPION, PRODUCTION
from headwater.state import Fold

__all__ = [
    "RULES",
    "Group",
    "Production",
    "Protected",
    "Replay",
    "Rule",
    "find_protected",
    "is_face",
    "production_state",
    "touches",
]

RULES = frozenset({"policy", "role", "key", "action"})
"""Kinds of events that say who may do what: on the target they hold by its admins' word alone."""

_ALIAS, _TRAFFIC, _STAGE = "alias", "traffic", "stage"


@dataclass(frozen=True, slots=True)
class Production:
    """What is in production of a model, by all of its faces.

    Attributes:
        live: The versions that are live there; one, unless two branches disagree.
        champion: Those that `champion` names.
        staged: Those of stage `production`.
        canaries: Canaries with their percentages.
        shadows: Versions that get copies of requests.
    """

    live: frozenset[str] = frozenset()
    champion: frozenset[str] = frozenset()
    staged: frozenset[str] = frozenset()
    canaries: tuple[tuple[str, float], ...] = ()
    shadows: tuple[str, ...] = ()

    @property
    def versions(self) -> frozenset[str]:
        """Every version that is in production by one of the faces."""
        return self.live | self.champion | self.staged

    @property
    def version(self) -> str | None:
        """The one version that is live, else the champion; None where there is none, or more than one."""
        found = self.live or self.champion
        return next(iter(found)) if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Replay:
    """What the source decided about a model, to be decided again on the target.

    Attributes:
        model_id: The model.
        production: What is in production there; None where that is no matter.
        stages: Versions and the stages below production that they entered.
    """

    model_id: str
    production: Production | None = None
    stages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy, role, key or action as the source has it: the values that stand there, none where it was taken away."""

    place: Place
    name: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Group:
    """What is in production of one model that the source changed, and how that stands to the target.

    Attributes:
        model_id: The model.
        name: What `--resolve` calls it.
        places: What its faces are in events.
        ours: What is in production on the target.
        theirs: What is in production on the source.
        governed: Whether it can't be changed on the target without being decided there.
        conflict: Not None where both changed it, to different ends.
    """

    model_id: str
    name: str
    places: tuple[Place, ...]
    ours: Production
    theirs: Production
    governed: bool
    conflict: Conflict | None
    values: Mapping[str, Mapping[Place, str | None]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether both came to the same."""
        return self.ours == self.theirs

    def settled(self, union: Union, side: str) -> dict[Place, Settling]:
        """Return the events that make all faces say what one side says, by place; none where they do."""
        found = {}
        for place in self.places:
            value, stands = self.values[side][place], union.both(*place)
            # A revert says of traffic that there is none by no value at all.
            if stands and {each.value or _nothing(place) for each in stands} != {value}:
                found[place] = Settling(value, [each.event_id for each in stands])
        return found

    def replay(self) -> Replay:
        """Return what the source decided."""
        return Replay(self.model_id, self.theirs)


@dataclass(frozen=True)
class Protected:
    """What governance protects of what a source changed.

    Attributes:
        groups: What is in production, by model.
        stages: Of versions of governed models: their stage below production on the source, by place.
        rules: Policies, roles, keys and actions that are not taken by union.
    """

    groups: tuple[Group, ...] = ()
    stages: Mapping[Place, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def places(self) -> set[Place]:
        """Return every place that is settled with the rest of its group."""
        return {place for group in self.groups for place in group.places}


def production_state(fold: Fold, model_id: str) -> Production:
    """Return what a state has in production of a model."""
    faces = production.faces(fold, model_id)
    entries = production.serving_in(fold, model_id)
    return Production(
        live=frozenset(faces["traffic"]),
        champion=frozenset(faces[CHAMPION]),
        staged=frozenset(faces["stage"]),
        canaries=tuple(sorted((e["version_id"], float(e["percent"])) for e in entries if e["mode"] == "canary")),
        shadows=tuple(sorted(each["version_id"] for each in entries if each["mode"] == "shadow")),
    )


def touches(union: Union) -> bool:
    """Return whether what is added may be about anything that governance protects."""
    return any(kind in RULES or is_face(kind, key) for _, kind, key in union.added)


def is_face(kind: str, key: str) -> bool:
    """Return whether events of a kind and key are about what is in production, or may be."""
    return kind == _STAGE or (kind == _ALIAS and key == CHAMPION) or (kind == _TRAFFIC and key == PRODUCTION)


def find_protected(union: Union, there: Fold, *, authority: bool) -> Protected:
    """Return what governance protects of what the source changed.

    Args:
        union: What stands on either side.
        there: The state of the source.
        authority: Whether the source's decisions hold wherever they are merged: it is the lake's default branch.
    """
    groups, stages = [], {}
    fold = union.fold
    for model_id, changed in _by_model(union).items():
        governed = (fold.signed or not authority) and production.governed(fold, model_id)
        group = _group(union, there, model_id, changed, governed)
        if group is not None:
            groups.append(group)
        for place in sorted(changed - set(group.places if group is not None else ())):
            stage = production.stage_of(there, place[0])
            if governed and place[1] == _STAGE and stage != production.stage_of(fold, place[0]):
                stages[place] = stage
    # What is decided again has to be judged by the rules from before the merge, even where everybody may change them.
    held = fold.signed or (not authority and (_has_admins(fold) or bool(stages) or any(g.governed for g in groups)))
    rules = tuple(_rules(union, there)) if held else ()
    return Protected(tuple(sorted(groups, key=lambda each: each.name)), stages, rules)


def _by_model(union: Union) -> dict[str, set[Place]]:
    """Return the faces that the source changed, by model."""
    found: dict[str, set[Place]] = {}
    for subject, kind, key in union.added:
        if is_face(kind, key):
            model_id = subject
            if kind == _STAGE:
                row = union.fold.one("SELECT model_id FROM versions WHERE version_id = ?", subject)
                model_id = str(row[0]) if row is not None else union.words.model_of(subject) or subject
            found.setdefault(model_id, set()).add((subject, kind, key))
    return found


def _group(union: Union, there: Fold, model_id: str, changed: set[Place], governed: bool) -> Group | None:
    """Return what is in production of a model, where the source changed any of that."""
    fold = union.fold
    ours, theirs = production_state(fold, model_id), production_state(there, model_id)
    versions = sorted(ours.versions | theirs.versions)
    places: tuple[Place, ...] = (
        (model_id, _ALIAS, CHAMPION),
        (model_id, _TRAFFIC, PRODUCTION),
        *((version_id, _STAGE, "") for version_id in versions),
    )
    if not changed & set(places):
        return None
    core = [(each.live, each.champion, each.staged) for each in (ours, theirs)]
    named = places[0] if core[0] != core[1] else places[1]
    name = union.words.name(*named)
    values = {
        side: {place: _value(state, place) for place in places} for side, state in (("ours", fold), ("theirs", there))
    }
    conflict = None
    if ours == theirs and not governed:
        # Two deployments of one version: which one stays is the same whichever side is ours.
        values = {"ours": _elder(union, places, values), "theirs": values["theirs"]}
    elif ours != theirs and _changed_here(union, places):
        sides = (_side(union, named, places, values[side][named], side) for side in ("ours", "theirs"))
        conflict = Conflict(name, named[1], named[0], named[2], *sides)
    return Group(model_id, name, places, ours, theirs, governed, conflict, values)


def _value(fold: Fold, place: Place) -> str | None:
    standing = fold.standing(*place)
    value = standing[-1][1] if standing else None
    if place[1] != _TRAFFIC:
        return value
    if len(standing) > 1:
        # What two branches deployed, as everybody reads it.
        value = production.traffic_value(production.serving_in(fold, place[0]))
    return value or _nothing(place)


def _nothing(place: Place) -> str | None:
    return "[]" if place[1] == _TRAFFIC else None


def _elder(
    union: Union, places: Iterable[Place], values: Mapping[str, Mapping[Place, str | None]]
) -> dict[Place, str | None]:
    chosen = {}
    for place in places:
        ours, theirs = union.ours(*place), union.theirs(*place)
        first = min([*ours, *theirs], key=lambda each: each.event_id, default=None)
        chosen[place] = values["theirs" if first is not None and first in theirs else "ours"][place]
    return chosen


def _changed_here(union: Union, places: Iterable[Place]) -> bool:
    """Return whether the target changed a face since the two parted."""
    return any(_of_side(union, place, "ours") for place in places)


def _of_side(union: Union, place: Place, side: str) -> list[Standing]:
    """Return the events that stand on one side, and that the other has not."""
    if side == "theirs":
        return union.theirs(*place)
    return [each for each in union.ours(*place) if union.sides(each.tx) == {"ours"}]


def _side(union: Union, named: Place, places: Iterable[Place], value: str | None, side: str) -> Side:
    """Return what a side says of what is in production: by its newest event, be that about another face."""
    stands = {place: _of_side(union, place, side) for place in places}
    newest = max((each for found in stands.values() for each in found), key=lambda each: each.event_id)
    own = stands[named]
    by = own[-1] if own else newest
    return Side(
        union.words.value(named[1], value),
        by.actor,
        from_micros(by.recorded_at),
        by.commit,
        value,
        tuple(each.event_id for each in own),
    )


# -- who may do what --------------------------------------------------------------------------------------------------
def _rules(union: Union, there: Fold) -> Iterator[Rule]:
    """Yield the rules that the source changed."""
    fold = union.fold
    for place in sorted(union.added):
        kind = place[1]
        if kind not in RULES:
            continue
        ours, theirs = ({value for _, value in each.standing(*place)} for each in (fold, there))
        if kind == "role" and "revoked" in ours:
            continue  # where two stand, revoked stands
        if ours != theirs and not (kind == "role" and theirs == {"revoked"} and not ours):
            yield Rule(place, union.words.name(*place), tuple(sorted(theirs, key=lambda each: each or "")))


def _has_admins(fold: Fold) -> bool:
    sql = "SELECT 1 FROM events WHERE standing AND kind = 'role' AND value = 'granted' AND substr(key, 1, 6) = 'admin '"
    return fold.one(sql) is not None
