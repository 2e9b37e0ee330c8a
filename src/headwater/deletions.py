"""What one branch deleted while the other went on using it: found in the union of their events, and settled by them.

On one branch an alias points at what is deleted only where somebody forced it, and so it is with what serves and with
the versions of a deleted model; the union of two adds no such thing unasked. Knows events; writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from headwater.conflicts import Conflict, Place, Settling, Side, Standing, Union
from headwater.fold import entries_of
from headwater.ids import from_micros
from headwater.names import quote
from headwater.production import shared, traffic_value
from headwater.tombstones import HIDDEN, RESTORED

__all__ = ["Deletion", "find_deletions", "settle"]


@dataclass(frozen=True, slots=True)
class _Use:
    """That something which is deleted is used: in an event of a place, or as a version of a deleted model."""

    place: Place | None
    version_id: str
    words: str
    by: Standing
    sides: frozenset[str]


@dataclass(slots=True)
class _Found:
    """Everything that uses one deleted model, or one deleted version of a model that is there."""

    by: Standing
    ours: bool
    uses: list[_Use] = field(default_factory=list)


@dataclass(frozen=True)
class Deletion(Conflict):
    """A conflict about something that one side deleted, named `tombstone:flight-delay/7`.

    Attributes:
        hidden: What a tombstone hides, and has to be brought back where the other side is right.
        places: Aliases and traffic that use it.
        versions: Versions that the other side registered of a deleted model.
    """

    hidden: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    versions: tuple[str, ...] = ()


def find_deletions(union: Union, decided: Mapping[Place, Settling | None]) -> list[Deletion]:
    """Return what one side alone deleted and the other alone uses, in order of name.

    What a side both deleted and uses is its own affair: somebody forced it there. The same things are found when the
    two sides change places.

    Args:
        union: What stands.
        decided: What the other conflicts come to, by place; None where nobody has said: they come first.
    """
    found: dict[str, _Found] = {}
    for use in dict.fromkeys(_uses(union, decided)):
        subjects = (_model_of(union, use.version_id), use.version_id)
        hiders = {subject: _hiders(union, subject) for subject in subjects}
        if len(use.sides) > 1 or use.sides & frozenset().union(*hiders.values()):
            continue
        for subject in subjects:
            tombstone = _hiding(union, subject)
            if tombstone is not None:
                ours = hiders[subject] == {"ours"}
                found.setdefault(subject, _Found(tombstone, ours)).uses.append(use)
                break
    return sorted((_deletion(union, subject, each) for subject, each in found.items()), key=lambda each: each.name)


def settle(
    union: Union, deletion: Deletion, side: Side, decided: Mapping[Place, Settling | None]
) -> dict[Place, Settling]:
    """Return the events that make one side right, by place: what was deleted comes back, or is used no more."""
    if side.raw == RESTORED:
        return {
            (subject, "tombstone", ""): Settling(RESTORED, [each.event_id for each in union.both(subject, "tombstone")])
            for subject in deletion.hidden
        }
    events = {
        (each, "tombstone", ""): Settling(HIDDEN, [other.event_id for other in union.both(each, "tombstone")])
        for each in deletion.versions
    }
    gone = {deletion.subject, *deletion.hidden}
    for place in deletion.places:
        prev = [each.event_id for each in union.both(*place)]
        if place[1] == "alias":
            events[place] = Settling(None, prev)
            continue
        chosen = decided.get(place)
        value = chosen.value if chosen is not None else union.both(*place)[-1].value
        entries = [each for each in entries_of(value) if each["version_id"] not in gone]
        entries = [each for each in entries if _model_of(union, each["version_id"]) not in gone]
        events[place] = Settling(traffic_value(shared(entries)), prev)
    return events


# -- finding ----------------------------------------------------------------------------------------------------------
def _uses(union: Union, decided: Mapping[Place, Settling | None]) -> Iterator[_Use]:
    """Yield every use that may be one of something that the other side deleted."""
    for place in list(union.added):
        subject, kind, _ = place
        if kind in ("alias", "traffic"):
            yield from _of_place(union, place, decided)
        elif kind == "tombstone" and any(each.value == HIDDEN for each in union.theirs(*place)):
            for mine in _places_of(union, subject):
                if mine not in union.added:
                    yield from _of_place(union, mine, decided)
            yield from _versions_of(union, subject)
        elif kind == "tombstone":
            yield from _versions_of(union, _model_of(union, subject), subject)
    for row in union.new.rows.get("model_versions", ()):
        if _hiding(union, row["version_id"]) is None:
            by = Standing("", None, row["recorded_at"], row["actor"], union.words.commit(row["tx"]), row["tx"])
            yield _Use(None, row["version_id"], f"version {row['version']}", by, union.sides(row["tx"]))


def _of_place(union: Union, place: Place, decided: Mapping[Place, Settling | None]) -> Iterator[_Use]:
    stands = union.both(*place)
    if not stands or (place in decided and decided[place] is None):
        return
    chosen = decided.get(place)
    value = chosen.value if chosen is not None else stands[-1].value
    saying = [each for each in stands if each.value == value]
    if not saying:
        return  # it is settled as neither has it now: as something that the target never had
    by, sides = saying[0], frozenset[str]().union(*(union.sides(each.tx) for each in saying))
    if place[1] == "alias":
        if value is not None:
            yield _Use(place, value, f"@{quote(place[2])}", by, sides)
        return
    for each in entries_of(value):
        yield _Use(place, each["version_id"], f"serving {place[2]}", by, sides)


def _places_of(union: Union, subject: str) -> list[Place]:
    """Return the aliases and traffic of the state that are about a model, or about a version's model."""
    rows = union.fold.rows(
        "SELECT DISTINCT subject, kind, key FROM events WHERE standing AND kind IN ('alias', 'traffic')"
        " AND subject IN (?, (SELECT model_id FROM versions WHERE version_id = ?)) ORDER BY kind, key",
        subject,
        subject,
    )
    return [tuple(row) for row in rows]


def _versions_of(union: Union, model_id: str, only: str | None = None) -> Iterator[_Use]:
    """Yield the versions of the state, of a model that may be deleted, that are seen; who brought one back uses it."""
    rows = union.fold.rows(
        "SELECT version_id, version, row, (SELECT id FROM commits c WHERE c.tx = v.tx), tx FROM versions v"
        " WHERE model_id = ?1 AND (?2 IS NULL OR version_id = ?2) ORDER BY version",
        model_id,
        only,
    )
    for version_id, number, text, commit, tx in rows:
        if _hiding(union, version_id) is None:
            row = json.loads(text)
            by, sides = Standing("", None, row["recorded_at"], row["actor"], commit, tx), union.sides(tx)
            back = union.both(version_id, "tombstone")
            if back and len(sides) > 1:
                by, sides = back[0], frozenset[str]().union(*(union.sides(each.tx) for each in back))
            yield _Use(None, version_id, f"version {number}", by, sides)


def _hiding(union: Union, subject: str) -> Standing | None:
    return next((each for each in union.both(subject, "tombstone") if each.value == HIDDEN), None)


def _hiders(union: Union, subject: str) -> frozenset[str]:
    """Return the sides on which something is hidden, by what stands."""
    hidden = [each for each in union.both(subject, "tombstone") if each.value == HIDDEN]
    return frozenset[str]().union(*(union.sides(each.tx) for each in hidden))


def _model_of(union: Union, version_id: str) -> str:
    row = union.fold.one("SELECT model_id FROM versions WHERE version_id = ?", version_id)
    return str(row[0]) if row is not None else union.words.model_of(version_id) or version_id


def _deletion(union: Union, subject: str, found: _Found) -> Deletion:
    # In an order that is the same whichever side is ours.
    uses = sorted(found.uses, key=lambda use: (use.by.recorded_at, use.by.event_id, use.words))
    newest = uses[-1].by
    words = list(dict.fromkeys(use.words for use in uses))
    together = [
        each
        for each in sorted(_hidden_with(union, found.by))
        # What the other side deleted too stays deleted, whoever is right.
        if _model_of(union, each) == subject and len(_hiders(union, each)) == 1
    ]
    used = [use.version_id for use in uses if _hiding(union, use.version_id) is not None]
    deleted = _side("deleted", found.by, HIDDEN, (found.by.event_id,))
    kept = _side(
        f"in use: {', '.join(words)}", newest, RESTORED, tuple(use.by.event_id for use in uses if use.by.event_id)
    )
    return Deletion(
        name=union.words.name(subject, "tombstone", ""),
        kind="tombstone",
        subject=subject,
        key="",
        ours=deleted if found.ours else kept,
        theirs=kept if found.ours else deleted,
        hidden=tuple(dict.fromkeys([subject, *together, *used])),
        places=tuple(dict.fromkeys(use.place for use in uses if use.place is not None)),
        versions=tuple(use.version_id for use in uses if use.place is None),
    )


def _side(value: str, by: Standing, raw: str, events: tuple[str, ...]) -> Side:
    return Side(value, by.actor, from_micros(by.recorded_at), by.commit, raw, events)


def _hidden_with(union: Union, tombstone: Standing) -> list[str]:
    """Return what one transaction hid, and what is hidden by it still."""
    rows = union.fold.rows(
        "SELECT event_id, subject FROM events WHERE standing AND kind = 'tombstone' AND value = ? AND tx = ?",
        HIDDEN,
        tombstone.tx,
    )
    mine = [subject for event_id, subject in rows if not union.superseded(event_id)]
    theirs = [
        subject
        for (subject, kind, _), events in union.added.items()
        if kind == "tombstone"
        for each in events
        if each["value"] == HIDDEN and each["tx"] == tombstone.tx
    ]
    return [*mine, *theirs]
