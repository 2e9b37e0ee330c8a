"""What it takes to undo some transactions: which events, and what rests on what they hide; writes none of them.

What the transactions made is hidden. What they changed gets the value again that it had: that of the nearest events
before, through `prev`, that are not theirs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from headwater.brought import Brought
from headwater.dependents import Place, dependents
from headwater.errors import ConflictError, InvalidInputError
from headwater.ids import from_micros
from headwater.lake.base import Lake
from headwater.reverts import Reverts
from headwater.state import Fold
from headwater.subjects import event_called, model_of, value_called
from headwater.tombstones import HIDDEN, RESTORED, is_hidden, visible

__all__ = ["Plan", "Reverted", "Write"]

_KEPT = frozenset({"delivered", "landed", "key"})
"""Kinds of events that stay: what was taken in, or told to others, stays true, and so does whose a key is."""

_ABOUT_A_VERSION = frozenset({"register", "log-predictions", "deploy"})
"""Kinds of transactions whose subject is the version that what they wrote is about."""

_MOST_LOOKED_AT = 100
"""Events of a plan, up to which each transaction is looked at for what it wrote: a merge of many costs no walk more."""

_ENTITIES = (
    ("version", "versions", "version_id"),
    ("dataset", "datasets", "dataset_id"),
    ("run", "runs", "run_id"),
    ("deployment", "deployments", "deployment_id"),
)


@dataclass(frozen=True, slots=True)
class Reverted:
    """One thing that a revert changes.

    Attributes:
        kind: The kind of its event: `tombstone` where something is hidden or comes back, `alias`, `tag`, ...
        name: What it is called, such as `flight-delay/3` or `flight-delay@champion`.
        before: The value that it had; None where it had none.
        after: The value that it has then; of a tombstone `hidden` or `restored`.
    """

    kind: str
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Write:
    """New events of one place: one for each value, several only where several had stood before."""

    place: Place
    values: tuple[str | None, ...]
    prev: tuple[str, ...]
    before: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class _Event:
    """A row of the folded table of events."""

    event_id: str
    value: str | None
    tx: str


@dataclass(slots=True)
class Plan:
    """What it takes to undo some transactions, found out from a state that is not changed.

    Attributes:
        writes: The events that do it.
        dependents: What would rest on something hidden, in words.
    """

    lake: Lake
    fold: Fold
    found: Brought
    writes: list[Write] = field(init=False, default_factory=list)
    dependents: list[str] = field(init=False, default_factory=list)
    _inside: frozenset[str] = field(init=False)
    _within: set[str] = field(init=False)
    _reverts: Reverts = field(init=False)
    _superseded: list[Place] = field(init=False, default_factory=list)
    _undone_by: set[str] = field(init=False, default_factory=set)
    _seen_behind: dict[tuple[str, str], list[_Event]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._inside = self.found.transactions
        # What undid a part of it, or undid that again, counts as a part of it: it is not what somebody did later.
        self._reverts = Reverts(self.fold)
        self._within = self._reverts.around(self._inside)
        made = self._made()
        created = self._created()
        models = [each for each in created if not self._is_needed(each, made)]
        hidden = [*models, *made]
        transactions = [tx for tx in sorted(self._inside) if self._has_rows(tx)]
        for each in [*hidden, *transactions]:
            self._hide(each)
        self._change(set(hidden) | set(transactions), set(hidden))
        self._bring_models_back()
        newly = {
            write.place[0]
            for write in self.writes
            if write.place[1] == "tombstone" and HIDDEN in write.values and HIDDEN not in write.before
        }
        changed = {write.place: write.values for write in self.writes if write.place[1] in ("alias", "traffic")}
        back = {write.place[0] for write in self.writes if write.place[1] == "tombstone" and HIDDEN not in write.values}
        self.dependents = dependents(self.fold, newly, back, changed, self._inside)

    # -- what it is about ---------------------------------------------------------------------------------------
    def _made(self) -> list[str]:
        """Return the IDs of the versions, dataset versions, runs and deployments that it made."""
        found = []
        for _, table, column in _ENTITIES:
            rows = self.fold.rows(f"SELECT {column} FROM {table} WHERE tx IN {_GIVEN} ORDER BY {column}", self._given)
            found += [str(each) for (each,) in rows]
        return found

    @property
    def _given(self) -> str:
        return json.dumps(sorted(self._inside))

    def _created(self) -> list[str]:
        """Return the IDs of the models that it made, and nobody else whose making of them is not undone."""
        others = json.dumps(sorted(self._inside | self._reverts.undone.keys()))
        # Two branches may have made one model: its name's first event is there twice then, and its row once.
        rows = self.fold.rows(
            "SELECT DISTINCT subject FROM events e WHERE kind = 'name' AND prev = '[]'"
            f" AND tx IN {_GIVEN} AND NOT EXISTS (SELECT 1 FROM events o WHERE o.subject = e.subject"
            f" AND o.kind = 'name' AND o.prev = '[]' AND o.tx NOT IN {_GIVEN}) ORDER BY subject",
            self._given,
            others,
        )
        return [str(model_id) for (model_id,) in rows]

    def _is_needed(self, model_id: str, made: Collection[str]) -> bool:
        """Return whether a model has versions that stay."""
        rows = self.fold.rows(
            f"SELECT version_id FROM versions v WHERE model_id = ? AND {visible('v.version_id')}", model_id
        )
        return any(version_id not in made for (version_id,) in rows)

    def _has_rows(self, tx: str) -> bool:
        """Return whether a transaction wrote rows that have no ID: edges, predictions, outcomes or metrics."""
        for table in ("lineage", "batches"):
            if self.fold.one(f"SELECT 1 FROM {table} WHERE tx = ?", tx) is not None:
                return True
        return self._measured(tx)

    def _measured(self, tx: str) -> bool:
        """Return whether a transaction wrote metrics."""
        commit = self.fold.one("SELECT id, parents, kind FROM commits WHERE tx = ?", tx)
        if commit is None or commit[2] == "merge" or not commit[1]:
            return False
        # Metrics are not folded; the commit shows whether there are any.
        before = commit[1].partition(" ")[0]
        return next(iter(self.lake.diff(before, commit[0], "tables/metrics/")), None) is not None

    # -- what has to be written ---------------------------------------------------------------------------------
    def _hide(self, subject: str) -> None:
        """Hide something, unless a revert has hidden it."""
        standing = self._standing(subject, "tombstone", "")
        hiding = [each for each in standing if each.value == HIDDEN]
        if not any(each.tx in self._within or each.tx in self._reverts for each in hiding):
            self._write((subject, "tombstone", ""), [HIDDEN], standing)

    def _change(self, subjects: Collection[str], hidden: Collection[str]) -> None:
        """Give back what its events changed, but for what is hidden as a whole.

        Args:
            subjects: Whose tombstones are dealt with already.
            hidden: The IDs that are hidden: what was said of them stays with them.
        """
        rows = self.fold.rows(
            f"SELECT DISTINCT subject, kind, key, tx FROM events WHERE tx IN {_GIVEN} ORDER BY kind, subject, key",
            self._given,
        )
        places: dict[Place, set[str]] = {}
        for subject, kind, key, tx in rows:
            places.setdefault((subject, kind, key), set()).add(tx)
        for place, wrote in places.items():
            subject, kind, key = place
            if kind in _KEPT or (kind == "tombstone" and subject in subjects):
                continue
            if kind == "name" and self._named_first(subject):
                continue
            if subject in hidden and kind not in ("alias", "traffic"):
                continue
            if wrote <= self._reverts.undone.keys():
                self._undone_by |= {self._reverts.undone[tx] for tx in wrote}
                continue
            standing = self._standing(*place)
            behind = self._behind(standing, self._within)
            ours = [each for each in behind if each.tx in self._within]
            if ours:
                others = [each.value for each in behind if each.tx not in self._within]
                values = list(dict.fromkeys(others)) or self._values_before(*place, ours)
                self._write(place, values, standing)
            elif subject not in hidden:
                self._superseded.append(place)

    def _standing(self, subject: str, kind: str, key: str) -> list[_Event]:
        rows = self.fold.rows(_STANDING, subject, kind, key)
        return [_Event(*row) for row in rows]

    def _named_first(self, model_id: str) -> bool:
        """Return whether it gave a model its first name, which stays: the model itself is hidden, or others made it."""
        sql = f"SELECT 1 FROM events WHERE subject = ? AND kind = 'name' AND prev = '[]' AND tx IN {_GIVEN}"
        return self.fold.one(sql, model_id, self._given) is not None

    def _behind(self, events: Iterable[_Event], within: Collection[str], known: str = "") -> list[_Event]:
        """Return events, and instead of those of a revert the ones whose values it gave back, where there are any.

        Args:
            events: Events of one place.
            within: Transactions whose events are returned as they are.
            known: Names `within`, so that nothing is looked up twice.
        """
        found: dict[str, _Event] = {}
        for each in events:
            if (each.event_id, known) not in self._seen_behind:
                before = [] if each.tx in within or each.tx not in self._reverts else self._source(each)
                self._seen_behind[each.event_id, known] = self._behind(before, within, known) if before else [each]
            found.update((event.event_id, event) for event in self._seen_behind[each.event_id, known])
        return list(found.values())

    def _source(self, event: _Event) -> list[_Event]:
        """Return the events whose values a revert gave back by an event of its own; none where there had been none."""
        within = self._reverts.around(self._reverts.undid[event.tx])
        (text,) = self.fold.one("SELECT prev FROM events WHERE event_id = ?", event.event_id)
        rows = (self.fold.one("SELECT event_id, value, tx FROM events WHERE event_id = ?", e) for e in json.loads(text))
        behind = self._behind([_Event(*row) for row in rows if row is not None], within, event.tx)
        others = [each for each in behind if each.tx not in within]
        return others or self._before(behind, within, event.tx)

    def _before(self, events: Iterable[_Event], within: Collection[str], known: str = "") -> list[_Event]:
        """Return the nearest events through `prev` that are not of some transactions."""
        found: dict[str, _Event] = {}
        todo = [each.event_id for each in events]
        seen = set(todo)
        while todo:
            (text,) = self.fold.one("SELECT prev FROM events WHERE event_id = ?", todo.pop())
            for event_id in json.loads(text):
                row = self.fold.one("SELECT event_id, value, tx FROM events WHERE event_id = ?", event_id)
                if row is None or event_id in seen:
                    continue
                seen.add(event_id)
                for each in self._behind([_Event(*row)], within, known):
                    if each.tx not in within:
                        found[each.event_id] = each
                    elif each.event_id == event_id or each.event_id not in seen:
                        seen.add(each.event_id)
                        todo.append(each.event_id)
        # What two branches parted from is what neither says any more where one of them went on.
        went_on = {each for each in found if self._is_replaced(each, within)}
        return [found[each] for each in sorted(found.keys() - went_on or found)]

    def _is_replaced(self, event_id: str, within: Collection[str]) -> bool:
        """Return whether an event is superseded by one that is not of some transactions."""
        rows = self.fold.rows(
            "SELECT o.tx FROM events e JOIN events o ON o.subject = e.subject AND o.kind = e.kind AND o.key = e.key,"
            " json_each(o.prev) p WHERE e.event_id = ? AND p.value = e.event_id",
            event_id,
        )
        return any(tx not in within for (tx,) in rows)

    def _values_before(self, subject: str, kind: str, key: str, events: Iterable[_Event]) -> list[str | None]:
        """Return the values that stood before it."""
        values = list(dict.fromkeys(each.value for each in self._before(events, self._within)))
        return values or [self._at_first(subject, kind, key)]

    def _bring_models_back(self) -> None:
        """Bring back the models of versions that come back; another revert may have hidden them for want of any."""
        places = {write.place for write in self.writes}
        for write in list(self.writes):
            subject, kind, _ = write.place
            model_id = model_of(self.fold, subject) if kind == "tombstone" and HIDDEN not in write.values else None
            place = (model_id or "", "tombstone", "")
            if model_id is not None and place not in places and is_hidden(self.fold, model_id):
                places.add(place)
                self._write(place, [RESTORED], self._standing(*place))

    def _at_first(self, subject: str, kind: str, key: str) -> str | None:
        """Return what was so before any event: what the row of a version, run or dataset says."""
        if kind in ("tombstone", "role"):
            return RESTORED if kind == "tombstone" else "revoked"
        column = {"tag": "tags", "param": "params", "description": "description"}.get(kind)
        if column is None:
            return None
        for _, table, name in _ENTITIES[:3]:
            row = self.fold.one(f"SELECT row FROM {table} WHERE {name} = ?", subject)
            if row is not None:
                given = json.loads(row[0]).get(column)
                value = given.get(key) if isinstance(given, dict) else given
                return None if value is None else str(value)
        return None

    def _write(self, place: Place, values: Iterable[str | None], standing: Iterable[_Event]) -> None:
        standing = list(standing)
        # What was brought back is as visible as what never was hidden.
        before = dict.fromkeys(None if each.value == RESTORED else each.value for each in standing)
        prev = tuple(each.event_id for each in standing)
        self.writes.append(Write(place, tuple(values), prev, tuple(before)))

    # -- what is said of it -------------------------------------------------------------------------------------
    def check(self) -> None:
        """Make sure that it can be undone, and is not.

        Raises:
            ConflictError: Something has changed since what it changed, or it is undone already.
            InvalidInputError: There is nothing in it that could be undone.
        """
        (kind,) = self.fold.one("SELECT kind FROM commits WHERE id = ?", self.found.commit) or (None,)
        if kind == "init":
            raise InvalidInputError(
                f"commit {self.found.commit[:12]} made the registry: there is nothing in it that could be undone",
                hint="`headwater log` lists what came after it",
            )
        if self._superseded:
            raise self._changed_later()
        if self.writes:
            return
        newest = f"SELECT id FROM commits WHERE tx IN {_GIVEN} ORDER BY position DESC"
        row = self.fold.one(newest, json.dumps(sorted(self._undone_by))) or self._hidden_by()
        if row is None:
            raise InvalidInputError(
                f"there is nothing in commit {self.found.commit[:12]} that could be undone: {self.found.message}",
                hint="`headwater key revoke` ends what a key may sign" if kind == "key" else "",
            )
        raise ConflictError(
            f"commit {self.found.commit[:12]} is undone already, by {row[0][:12]}",
            hint=f"`headwater revert {row[0][:12]}` brings it back",
        )

    def _hidden_by(self) -> tuple[str] | None:
        """Return the commit of the revert that hid what it made, as part of more."""
        for each in [*self._made(), *self._inside]:
            row = self.fold.one(
                "SELECT c.id FROM events e JOIN commits c ON c.tx = e.tx WHERE e.standing AND e.subject = ?"
                " AND e.kind = 'tombstone' AND e.value = ?",
                each,
                HIDDEN,
            )
            if row is not None:
                return (str(row[0]),)
        return None

    def _changed_later(self) -> ConflictError:
        subject, kind, key = self._superseded[0]
        value, actor, micros, commit = self.fold.one(_LATER, subject, kind, key)
        name = event_called(self.fold, subject, kind, key)
        told = value_called(self.fold, kind, value)
        when = from_micros(micros).strftime("%Y-%m-%d %H:%M UTC")
        more = len(self._superseded) - 1
        return ConflictError(
            f"{name} was changed since, to {'nothing' if told is None else told}, by {actor} on {when} in commit"
            f" {(commit or '')[:12]}" + (f", and {more:,} more" if more else ""),
            hint=f"undo that first: `headwater revert {(commit or '')[:12]}`",
        )

    def told(self) -> list[Reverted]:
        """Return what changes, in words."""
        found = []
        for write in self.writes:
            subject, kind, key = write.place
            before, after = (
                " and ".join(str(value_called(self.fold, kind, value) or "nothing") for value in values) or None
                for values in (write.before, write.values)
            )
            none = [all(value is None for value in values) for values in (write.before, write.values)]
            if kind == "tombstone" and self.fold.one("SELECT 1 FROM commits WHERE tx = ?", subject) is not None:
                name = self._rows_called(subject)
            else:
                name = event_called(self.fold, subject, kind, key)
            found.append(Reverted(kind, name, None if none[0] else before, None if none[1] else after))
        return found

    def _rows_called(self, tx: str) -> str:
        """Return what people call a transaction's rows without an ID, and what they were written with."""
        commit, kind, subject, message = self.fold.one(
            "SELECT id, kind, subject, message FROM commits WHERE tx = ?", tx
        )
        about = subject if kind in _ABOUT_A_VERSION and subject else f"commit {commit[:12]} ({message})"
        if len(self.writes) > _MOST_LOOKED_AT:
            return f"what was recorded with {about}"
        what = self._tables(tx)
        return f"{', '.join(what[:-1])}{' and ' if what[1:] else ''}{what[-1]} of {about}" if what else about

    def _tables(self, tx: str) -> list[str]:
        found = ["metrics"] if self._measured(tx) else []
        if self.fold.one("SELECT 1 FROM lineage WHERE tx = ?", tx) is not None:
            found.append("lineage")
        for what, sign in (("predictions", "<>"), ("outcomes", "=")):
            if self.fold.one(f"SELECT 1 FROM batches WHERE tx = ? AND deployment_id {sign} ''", tx) is not None:
                found.append(what)
        return found

    def models(self) -> list[str]:
        """Return the IDs of the models that it touches."""
        found = {model_of(self.fold, write.place[0]) for write in self.writes}
        return sorted(each for each in found if each is not None)


_GIVEN = "(SELECT value FROM json_each(?))"
_STANDING = """SELECT event_id, value, tx FROM events
    WHERE standing AND subject = ? AND kind = ? AND key = ? ORDER BY event_id"""
_LATER = """SELECT value, actor, recorded_at, (SELECT id FROM commits c WHERE c.tx = e.tx) FROM events e
    WHERE standing AND subject = ? AND kind = ? AND key = ? ORDER BY event_id DESC"""
