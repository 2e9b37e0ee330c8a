"""Putting the rows that a commit has and another lacks into the words of a registry; reads the left side's fold alone.

What stands on the right side is the left side's state and the new events that nothing new supersedes.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from headwater import points
from headwater.conflicts import Union, find_conflicts
from headwater.diff_parts import (
    AddedDataset,
    AddedDeployment,
    AddedModel,
    AddedRun,
    AddedVersion,
    ChangedLabel,
)
from headwater.difference import Difference
from headwater.evaluation_model import evaluation_called
from headwater.fold import KIND, TX
from headwater.ids import from_micros
from headwater.lake.base import Lake
from headwater.landing import status_of
from headwater.lookup import name_of
from headwater.names import counted, quote
from headwater.state import Fold
from headwater.subjects import action_called, traffic_called
from headwater.tombstones import HIDDEN, is_hidden

__all__ = ["Words"]

_UNSAID = {"delivered", "landed"}
"""Kinds of events that are the machinery's own."""

_TOLD_WITH = {
    "models": {"name", "tombstone"},
    "model_versions": {"description", "tag", "tombstone"},
    "runs": {"param", "status", "tombstone", "artifact", "tag", "description"},
    "datasets": {"description", "tombstone"},
    "deployments": {"tombstone"},
}
"""Kinds of events that are told with a new thing, by its table."""

_IDS = {
    "models": "model_id",
    "model_versions": "version_id",
    "runs": "run_id",
    "datasets": "dataset_id",
    "deployments": "deployment_id",
}

Row = Mapping[str, Any]
Event = Mapping[str, Any]


class Words:
    """A difference, said.

    Args:
        lake: Where the metrics of champions are read.
        fold: The state of the left side.
        new: What the right side has that the left side lacks.
    """

    def __init__(self, lake: Lake, fold: Fold, new: Difference) -> None:
        self._lake = lake
        self._fold = fold
        self._new = new
        self._commits = {each.metadata[TX]: each.id for each in new.commits if TX in each.metadata}
        self._kinds = {each.metadata.get(TX): each.metadata.get(KIND) for each in new.commits}
        self._things = {table: self._by_id(table) for table in _IDS}
        self._events: dict[tuple[str, str, str], list[Event]] = {}
        for event in new.standing():
            self._events.setdefault((event["subject"], event["kind"], event["key"]), []).append(event)

    def _by_id(self, table: str) -> dict[str, Row]:
        """Return the new rows of things that the left side does not have."""
        name = {"model_versions": "versions"}.get(table, table)
        key = _IDS[table]
        exists = f"SELECT 1 FROM {name} WHERE {key} = ?"
        rows = sorted(self._new.rows.get(table, ()), key=lambda row: str(row["tx"]))
        found: dict[str, Row] = {}
        for row in rows:
            if row[key] not in found and self._fold.one(exists, row[key]) is None:
                found[row[key]] = row
        return found

    # -- names --------------------------------------------------------------------------------------------------
    def _values(self, subject: str, kind: str, key: str = "") -> list[str | None]:
        return [event["value"] for event in self._events.get((subject, kind, key), ())]

    def _name(self, model_id: str) -> str:
        return next((value for value in self._values(model_id, "name") if value), None) or name_of(self._fold, model_id)

    def _version(self, version_id: str) -> tuple[str, int] | None:
        row = self._things["model_versions"].get(version_id)
        if row is not None:
            return row["model_id"], row["version"]
        known = self._fold.one("SELECT model_id, version FROM versions WHERE version_id = ?", version_id)
        return (known[0], known[1]) if known is not None else None

    def _version_text(self, version_id: str) -> str:
        found = self._version(version_id)
        return f"{quote(self._name(found[0]))}/{found[1]}" if found is not None else version_id

    def _dataset_text(self, dataset_id: str | None) -> str | None:
        row = self._things["datasets"].get(dataset_id or "")
        pair = (row["name"], row["semver"]) if row is not None else None
        pair = pair or self._fold.one("SELECT name, semver FROM datasets WHERE dataset_id = ?", dataset_id)
        return f"{quote(pair[0])}@{pair[1]}" if pair is not None else None

    def _reference(self, subject: str, kind: str) -> str:
        """Return what people call a subject; a pattern or the like is called what it is."""
        if self._version(subject) is not None:
            return self._version_text(subject)
        if subject in self._things["models"] or self._fold.one("SELECT 1 FROM models WHERE model_id = ?", subject):
            # The old name says which model was renamed.
            return quote(name_of(self._fold, subject) if kind == "name" else self._name(subject))
        if subject in self._things["runs"] or self._fold.one("SELECT 1 FROM runs WHERE run_id = ?", subject):
            return f"run:{subject}"
        deployed = self._things["deployments"].get(subject, {}).get("version_id") or self._deployed(subject)
        if deployed is not None:
            return f"deployment of {self._version_text(deployed)}"
        return self._dataset_text(subject) or self._transaction(subject) or subject

    def _deployed(self, deployment_id: str) -> str | None:
        known = self._fold.one("SELECT version_id FROM deployments WHERE deployment_id = ?", deployment_id)
        return str(known[0]) if known is not None else None

    def _transaction(self, tx: str) -> str | None:
        for commit in self._new.commits:
            if commit.metadata.get(TX) == tx:
                return f"commit {commit.id[:12]} ({commit.message})"
        known = self._fold.one("SELECT id, message FROM commits WHERE tx = ?", tx)
        return f"commit {known[0][:12]} ({known[1]})" if known is not None else None

    def _commit(self, tx: str) -> str:
        return self._commits.get(tx, tx)

    def _hidden(self, subject: str) -> bool:
        values = self._values(subject, "tombstone")
        return HIDDEN in values if values else is_hidden(self._fold, subject)

    def _common(self, row: Row) -> dict[str, Any]:
        return {
            "commit": self._commit(row["tx"]),
            "recorded_at": from_micros(row["recorded_at"]),
            "actor": row["actor"],
        }

    # -- what was added -----------------------------------------------------------------------------------------
    def models(self) -> builtins.list[AddedModel]:
        """Return the new models, by name."""
        found = [
            AddedModel(self._name(model_id), model_id, deleted=self._hidden(model_id), **self._common(row))
            for model_id, row in self._things["models"].items()
        ]
        return sorted(found, key=lambda each: each.name)

    def versions(self) -> builtins.list[AddedVersion]:
        """Return the new versions, by name and number."""
        found = []
        for version_id, row in self._things["model_versions"].items():
            model_id = row["model_id"]
            number, measured = self._champions[model_id]
            tags = self._labels(version_id, "tag", row["tags"])
            description = self._labels(version_id, "description", {"": row["description"]}).get("")
            found.append(
                AddedVersion(
                    name=self._name(model_id),
                    version=row["version"],
                    version_id=version_id,
                    model_id=model_id,
                    description=description,
                    aliases=tuple(self._aliases.get(version_id, ())),
                    params=row["params"],
                    tags=tags,
                    run_id=row["run_id"],
                    metrics=self._measured["version_id"].get(version_id, {}),
                    champion=number,
                    champion_metrics=measured,
                    deleted=self._hidden(version_id),
                    **self._common(row),
                )
            )
        return sorted(found, key=lambda each: (each.name, each.version))

    def _labels(self, subject: str, kind: str, given: Mapping[str, str | None]) -> dict[str, str]:
        """Return texts by key: those of the row, and what events made of them."""
        found = dict(given)
        for (of, what, key), events in self._events.items():
            if of == subject and what == kind:
                found[key] = events[-1]["value"]
        return {key: value for key, value in found.items() if value is not None}

    @cached_property
    def _aliases(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for (_, kind, key), events in sorted(self._events.items()):
            if kind == "alias":
                for value in {event["value"] for event in events if event["value"] is not None}:
                    found.setdefault(value, []).append(key)
        return found

    def runs(self) -> builtins.list[AddedRun]:
        """Return the new runs, in the order in which they began."""
        found = []
        for run_id, row in sorted(self._things["runs"].items()):
            found.append(
                AddedRun(
                    run_id=run_id,
                    name=row["name"],
                    experiment=row["experiment"],
                    status=status_of(self._values(run_id, "status"))["status"],
                    params=self._labels(run_id, "param", row["params"]),
                    metrics=self._measured["run_id"].get(run_id, {}),
                    deleted=self._hidden(run_id),
                    **self._common(row),
                )
            )
        return found

    def datasets(self) -> builtins.list[AddedDataset]:
        """Return the new dataset versions, by name, the oldest first."""
        found = [
            AddedDataset(
                name=row["name"],
                semver=row["semver"],
                dataset_id=dataset_id,
                description=self._labels(dataset_id, "description", {"": row["description"]}).get(""),
                rows=row["rows"],
                bytes=row["bytes"],
                base=self._dataset_text(row["base_dataset_id"]),
                added=row["added"],
                removed=row["removed"],
                changed=row["changed"],
                deleted=self._hidden(dataset_id),
                **self._common(row),
            )
            for dataset_id, row in self._things["datasets"].items()
        ]
        return sorted(found, key=lambda each: (each.name, each.dataset_id))

    def deployments(self) -> builtins.list[AddedDeployment]:
        """Return the new deployments, in the order in which they were made."""
        found = []
        for deployment_id, row in sorted(self._things["deployments"].items()):
            version = self._version(row["version_id"])
            found.append(
                AddedDeployment(
                    deployment_id=deployment_id,
                    name=self._name(row["model_id"]),
                    version=version[1] if version is not None else None,
                    version_id=row["version_id"],
                    environment=row["environment"],
                    mode=row["mode"],
                    traffic=row["traffic"],
                    deleted=self._hidden(deployment_id),
                    **self._common(row),
                )
            )
        return found

    # -- metrics ------------------------------------------------------------------------------------------------
    @cached_property
    def _measured(self) -> dict[str, dict[str, dict[str, float]]]:
        """The newest new value of each metric over all rows, by column, ID and key."""
        found: dict[str, dict[str, dict[str, float]]] = {"version_id": {}, "run_id": {}}
        if not self._new.counts.get("metrics"):
            return found
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self._new.arrow("metrics")
        table = table.filter(pc.equal(table.column("slice"), ""))
        hidden = [tx for tx in self._new.transactions if self._hidden(tx)]
        table = table.filter(pc.invert(pc.is_in(table.column("tx"), value_set=pa.array(hidden, pa.string()))))
        of_run = pc.is_null(table.column("version_id"))
        for column, rows in (("version_id", table.filter(pc.invert(of_run))), ("run_id", table.filter(of_run))):
            for row in points.newest_in(rows, (column, "key")).select([column, "key", "value"]).to_pylist():
                found[column].setdefault(row[column], {})[row["key"]] = row["value"]
        return found

    @cached_property
    def _champions(self) -> dict[str, tuple[int | None, dict[str, float]]]:
        """By model that has new versions: the number of the left side's champion, and its metrics."""
        models = {row["model_id"]: self._champion(row["model_id"]) for row in self._things["model_versions"].values()}
        ids = [champion[0] for champion in models.values() if champion is not None]
        measured = points.newest_of_versions(self._lake, self._fold, ids)
        return {
            model_id: (None, {}) if champion is None else (champion[1], measured[champion[0]])
            for model_id, champion in models.items()
        }

    def _champion(self, model_id: str) -> tuple[str, int] | None:
        """Return ID and number of the version that the left side has as a model's champion."""
        rows = self._fold.rows(
            "SELECT v.version_id, v.version FROM events e JOIN versions v ON v.version_id = e.value"
            " WHERE e.standing AND e.subject = ? AND e.kind = 'alias' AND e.key = 'champion'"
            " UNION ALL SELECT v.version_id, v.version FROM events e JOIN versions v ON v.version_id = e.subject"
            " WHERE e.standing AND e.kind = 'stage' AND e.value = 'production' AND v.model_id = ?",
            model_id,
            model_id,
        )
        return next(((id_, number) for id_, number in rows if not is_hidden(self._fold, id_)), None)

    # -- what was changed ---------------------------------------------------------------------------------------
    def changed(self) -> builtins.list[tuple[tuple[str, str, str], str | None, str | None]]:
        """Return what was set anew, but for what is told with something new: its place, and its values as texts."""
        found = []
        for (subject, kind, key), events in self._events.items():
            told = any(kind in kinds and subject in self._things[table] for table, kinds in _TOLD_WITH.items())
            if told or kind in _UNSAID or (kind == "tombstone" and subject in self._new.transactions):
                continue
            standing = self._fold.standing(subject, kind, key)
            before = self._said(kind, [value for _, value in standing] or self._given(subject, kind, key))
            after = self._said(kind, [event["value"] for event in events])
            if before == after or (kind == "tombstone" and before is None and after != HIDDEN):
                continue
            found.append(((subject, kind, key), before, after))
        return found

    def labels(self) -> builtins.list[ChangedLabel]:
        """Return what was set anew, of one kind after the other."""
        names = {
            (each.subject, each.kind, each.key): each.name for each in find_conflicts(Union(self._fold, self._new))
        }
        found = []
        for place, before, after in self.changed():
            subject, kind, key = place
            last = self._events[place][-1]
            found.append(
                ChangedLabel(
                    kind=kind,
                    reference=self._reference(subject, kind),
                    key=key,
                    before=before,
                    after=after,
                    reason=last["reason"],
                    subject=subject,
                    conflict=names.get(place),
                    reverted=self._kinds.get(last["tx"]) == "revert",
                    **self._common(last),
                )
            )
        return sorted(found, key=lambda each: (_ORDER.get(each.kind, len(_ORDER)), each.kind, each.reference, each.key))

    def _given(self, subject: str, kind: str, key: str) -> builtins.list[str | None]:
        """Return what was given with the row of a thing that the left side has, where no event has changed it."""
        column = {"description": "description", "tag": "tags", "param": "params"}.get(kind)
        for name, id_ in (("versions", "version_id"), ("runs", "run_id"), ("datasets", "dataset_id")):
            row = self._fold.one(f"SELECT row FROM {name} WHERE {id_} = ?", subject) if column else None
            if row is not None:
                value = json.loads(row[0]).get(column)
                return [value.get(key) if isinstance(value, dict) else value]
        return []

    def _said(self, kind: str, values: Iterable[str | None]) -> str | None:
        """Return values as one text; several where they differ, None where there is none."""
        say = self._sayers.get(kind, str)
        if kind == "status":
            kept = list(values)
            return str(status_of(kept)["status"]) if kept else None
        if kind == "tombstone":
            kept = list(values)
            return HIDDEN if HIDDEN in kept else kept[-1] if kept else None
        texts = sorted({text for value in values if value is not None and (text := say(value))})
        return " and ".join(texts) or None

    @cached_property
    def _sayers(self) -> dict[str, Callable[[str], str]]:
        own = {"alias": self._alias, "traffic": self._traffic, "artifact": self._artifact}
        return {**own, "action": action_called, "evaluation": evaluation_called}

    def _alias(self, version_id: str) -> str:
        found = self._version(version_id)
        return str(found[1]) if found is not None else version_id

    def _artifact(self, value: str) -> str:
        found = json.loads(value)
        # The end of the folder's ID tells one upload from the next.
        return f"{counted(len(found['files']), 'file')} ({found['folder'].rpartition('-')[2]})"

    def _traffic(self, value: str) -> str:
        return traffic_called(value, self._version_text)


_ORDER = {
    kind: number
    for number, kind in enumerate(
        ("alias", "stage", "traffic", "policy", "name", "tombstone", "description", "tag", "status", "param")
    )
}
