"""What is known of the nodes of a lineage graph, read from a folded state many at a time; walks nothing.

Nodes go by the URNs that are stored, which hold IDs. A registered model itself is `models:MODEL_ID` here, since
`model:ID` is a version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from headwater.ids import from_micros
from headwater.lineage_nodes import Node
from headwater.names import quote
from headwater.state import Fold
from headwater.tombstones import HIDDEN, visible
from headwater.urns import dataset_urn, model_urn

__all__ = ["Facts", "chunks", "position_at", "prediction_node", "stood_at"]

_CHUNK = 500
_COMMIT = "(SELECT id FROM commits c WHERE c.tx = t.tx)"

Row = Mapping[str, Any]


def chunks(ids: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield question marks for `IN (...)` and the values for them, as many as one query takes."""
    every = list(ids)
    for start in range(0, len(every), _CHUNK):
        part = every[start : start + _CHUNK]
        yield ",".join("?" * len(part)), part


def position_at(fold: Fold, micros: int) -> int:
    """Return the last landing that was made by a time; -1 where there was none."""
    low, high = -1, fold.one("SELECT max(position) FROM commits")[0] or 0
    while low < high:
        middle = (low + high + 1) // 2
        row = fold.one("SELECT landed_micros FROM commits WHERE position = ? LIMIT 1", middle)
        if row is not None and row[0] <= micros:
            low = middle
        else:
            high = middle - 1
    return low


def stood_at(fold: Fold, position: int, subject: str, kind: str, value: str | None = None) -> list[tuple[str, str]]:
    """Return (key, value) of the events that stood when a landing was the last, as `alias_at` has it.

    Args:
        fold: The folded state.
        position: What `position_at` returned.
        subject: A model or version.
        kind: The kind of events.
        value: Only keys that ever had this value are looked at.
    """
    asked = "" if value is None else " AND key IN (SELECT key FROM events WHERE subject = ? AND kind = ? AND value = ?)"
    rows = fold.rows(
        "SELECT e.event_id, e.key, e.value, e.prev FROM events e JOIN commits c ON c.tx = e.tx"
        f" WHERE e.subject = ? AND e.kind = ? AND c.position <= ?{asked} ORDER BY e.event_id",
        *(subject, kind, position),
        *(() if value is None else (subject, kind, value)),
    )
    gone = {event for row in rows for event in json.loads(row[3])}
    return [(key, found) for event, key, found, _ in rows if event not in gone and found is not None]


class Facts:
    """Makes nodes of stored URNs.

    Args:
        fold: The folded state.
        moment: Where given, microseconds: stages and aliases are those of then, not of now.
    """

    def __init__(self, fold: Fold, moment: int | None = None) -> None:
        self._fold = fold
        self._moment = moment
        self._position = position_at(fold, moment) if moment is not None else 0
        self._names: dict[str, str] = {}
        self._hidden: set[str] | None = None
        self._dirty: dict[str, list[Row]] = {}
        self._code_wanted = False

    def nodes(self, keys: Iterable[str], known: Mapping[str, Node]) -> dict[str, Node]:
        """Return the node of each stored URN, in order.

        Args:
            keys: Stored URNs.
            known: Nodes that were made by others: predictions and objects.
        """
        every = list(keys)
        by_kind: dict[str, list[str]] = {}
        for key in every:
            kind, _, rest = key.partition(":")
            by_kind.setdefault(kind, []).append(rest)
        made = dict(known)
        self._code_wanted = "code" in by_kind
        # Code last: whether it was dirty, the runs and versions know that were made with it.
        for kind in ("model", "run", "models", "dataset", "deployment", "code"):
            made.update(_MAKERS[kind](self, by_kind.get(kind, [])))
        return {key: made.get(key) or _unknown(key) for key in every}

    def name(self, model_id: str) -> str:
        """Return a model's name now, deleted or not."""
        if model_id not in self._names:
            standing = self._fold.standing(model_id, "name")
            self._names[model_id] = standing[0][1] or model_id if standing else model_id
        return self._names[model_id]

    def is_hidden(self, *subjects: str) -> bool:
        """Return whether one of them is deleted."""
        if self._hidden is None:
            rows = self._fold.rows(
                "SELECT subject FROM events WHERE standing AND kind = 'tombstone' AND value = ?", HIDDEN
            )
            self._hidden = {subject for (subject,) in rows}
        return not self._hidden.isdisjoint(subjects)

    def _rows(self, sql: str, ids: list[str]) -> Iterator[Any]:
        for marks, part in chunks(ids):
            yield from self._fold.rows(sql.format(marks), *part)

    def _parsed(self, sql: str, ids: list[str]) -> Iterator[Any]:
        """Yield rows whose first column is JSON, parsed: all of a query's together, which takes half the time."""
        for marks, part in chunks(ids):
            rows = self._fold.rows(sql.format(marks), *part)
            parsed = json.loads(f"[{','.join(row[0] for row in rows)}]")
            yield from ((data, *row[1:]) for data, row in zip(parsed, rows, strict=True))

    def _noticed(self, code: Any) -> dict[str, Any]:
        """Return what there is to say of the code that something was made with, and keep it for the code's own node."""
        if code and code["commit"]:
            self._dirty.setdefault(f"{code['repository']}@{code['commit']}", []).append(code)
        return _code_facts(code)

    # -- models -------------------------------------------------------------------------------------------------
    def _versions(self, ids: list[str]) -> dict[str, Node]:
        stages, aliases = self._labels(ids)
        made = {}
        sql = (
            f"SELECT t.version_id, t.model_id, t.version, t.row, {_COMMIT} FROM versions t WHERE t.version_id IN ({{}})"
        )
        for version_id, model_id, version, text, commit in self._rows(sql, ids):
            row = json.loads(text)
            name = self.name(model_id)
            if self._moment is not None:
                stages[version_id] = self._stage_then(version_id)
                aliases[version_id] = self._aliases_then(model_id, version_id)
            facts = {
                "name": name,
                "version": version,
                "version_id": version_id,
                "model_id": model_id,
                "commit": commit,
                "stage": stages.get(version_id) or "none",
                "aliases": sorted(aliases.get(version_id, [])),
                **({"as_of": from_micros(self._moment)} if self._moment is not None else {}),
                **{key: row[key] for key in ("path", "digest", "size", "external_url", "run_id", "base_version_id")},
                **self._noticed(row["code"]),
                "deleted": self.is_hidden(version_id, model_id),
                "recorded_at": from_micros(row["recorded_at"]),
                "actor": row["actor"],
            }
            label = f"{quote(name)}/{version}"
            made[f"model:{version_id}"] = Node(model_urn(name, version), "model", version_id, label, facts)
        return made

    def _labels(self, ids: list[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
        stages: dict[str, str] = {}
        aliases: dict[str, list[str]] = {}
        if self._moment is None:
            standing = "SELECT {}, {} FROM events WHERE standing AND kind = '{}' AND {} IN ({{}})"
            stages.update(self._rows(standing.format("subject", "value", "stage", "subject"), ids))
            for version_id, alias in self._rows(standing.format("value", "key", "alias", "value"), ids):
                aliases.setdefault(version_id, []).append(alias)
        return stages, {version_id: list(dict.fromkeys(names)) for version_id, names in aliases.items()}

    def _stage_then(self, version_id: str) -> str:
        stood = stood_at(self._fold, self._position, version_id, "stage")
        return stood[-1][1] if stood else "none"

    def _aliases_then(self, model_id: str, version_id: str) -> list[str]:
        stood = stood_at(self._fold, self._position, model_id, "alias", version_id)
        return list(dict.fromkeys(alias for alias, value in stood if value == version_id))

    def _models(self, ids: list[str]) -> dict[str, Node]:
        made = {}
        for model_id in ids:
            name = self.name(model_id)
            count, newest = self._fold.one("SELECT count(*), max(version) FROM versions WHERE model_id = ?", model_id)
            facts = {
                "name": name,
                "model_id": model_id,
                "versions": count,
                "latest_version": newest,
                "deleted": self.is_hidden(model_id),
            }
            made[f"models:{model_id}"] = Node(model_urn(name), "model", model_id, quote(name), facts)
        return made

    # -- datasets and runs --------------------------------------------------------------------------------------
    def _datasets(self, ids: list[str]) -> dict[str, Node]:
        made = {}
        sql = f"SELECT t.row, t.dataset_id, t.name, t.semver, {_COMMIT} FROM datasets t WHERE t.dataset_id IN ({{}})"
        for row, dataset_id, name, semver, commit in self._parsed(sql, ids):
            facts = {
                "name": name,
                "semver": semver,
                "dataset_id": dataset_id,
                "commit": row.get("data_commit") or commit,
                **{key: row[key] for key in ("path", "digest", "rows", "bytes", "format", "base_dataset_id")},
                "schema": json.loads(row["schema"]) if row["schema"] else None,
                "deleted": self.is_hidden(dataset_id),
                "recorded_at": from_micros(row["recorded_at"]),
                "actor": row["actor"],
            }
            label = f"{quote(name)}@{semver}"
            made[f"dataset:{dataset_id}"] = Node(dataset_urn(name, semver), "dataset", dataset_id, label, facts)
        return made

    def _runs(self, ids: list[str]) -> dict[str, Node]:
        made = {}
        ended: dict[str, str | None] = {}
        sql = "SELECT subject, value FROM events WHERE standing AND kind = 'status' AND key = '' AND subject IN ({})"
        ended.update(self._rows(sql, ids))
        names = "json_extract(t.row, '$.name')"
        sql = f"SELECT t.row, t.run_id, t.experiment, {names}, {_COMMIT} FROM runs t WHERE t.run_id IN ({{}})"
        for text, run_id, experiment, name, commit in self._rows(sql, ids):
            # There may be very many, of which only a few are looked at.
            deleted = self.is_hidden(run_id)
            facts: Row = _Later(partial(_run_facts, text, run_id, experiment, commit, ended.get(run_id), deleted))
            if self._code_wanted:
                facts = {**facts, **self._noticed(json.loads(text)["code"])}
            label = f"{name or experiment} {run_id[-12:]}"
            made[f"run:{run_id}"] = Node(f"run:{run_id}", "run", run_id, label, facts)
        return made

    def _code(self, ids: list[str]) -> dict[str, Node]:
        made = {}
        for each in ids:
            repository, _, commit = each.rpartition("@")
            seen = self._dirty.get(each, [])
            facts: dict[str, Any] = {"repository": repository, "commit": commit}
            if seen:
                facts["branch"] = next((code["branch"] for code in seen if code["branch"]), None)
                facts["dirty"] = any(code["dirty"] for code in seen)
                facts["patch"] = next((code.get("patch") for code in seen if code.get("patch")), None)
            name = repository.rstrip("/").rpartition("/")[2].removesuffix(".git") or repository
            made[f"code:{each}"] = Node(f"code:{each}", "code", commit, f"{name}@{commit[:10]}", facts)
        return made

    # -- deployments --------------------------------------------------------------------------------------------
    def _deployments(self, ids: list[str]) -> dict[str, Node]:
        counts: dict[str, tuple[Any, ...]] = {}
        sql = (
            "SELECT deployment_id, sum(rows), min(first_at), max(last_at) FROM (SELECT deployment_id, digest,"
            " max(rows) AS rows, min(first_at) AS first_at, max(last_at) AS last_at FROM batches b"
            f" WHERE deployment_id IN ({{}}) AND {visible('b.tx')} GROUP BY deployment_id, digest)"
            " GROUP BY deployment_id"
        )
        for deployment_id, *rest in self._rows(sql, ids):
            counts[deployment_id] = (int(rest[0]), *(None if each is None else from_micros(each) for each in rest[1:]))
        serving: dict[tuple[str, str], dict[str, Any]] = {}
        made = {}
        sql = (
            "SELECT t.deployment_id, t.model_id, t.version_id, t.environment, t.mode, t.traffic, t.recorded_at,"
            f" t.actor, v.version, {_COMMIT} FROM deployments t LEFT JOIN versions v ON v.version_id = t.version_id"
            " WHERE t.deployment_id IN ({})"
        )
        for row in self._rows(sql, ids):
            deployment_id, model_id, version_id, environment, mode, traffic, micros, actor, version, commit = row
            where = (model_id, environment)
            if where not in serving:
                serving[where] = self._serving(*where)
            now = serving[where].get(deployment_id)
            count, first, last = counts.get(deployment_id, (0, None, None))
            facts = {
                "deployment_id": deployment_id,
                "environment": environment,
                "mode": now["mode"] if now else mode,
                "traffic": traffic,
                "live": now is not None,
                "percent": now["percent"] if now else None,
                "name": self.name(model_id),
                "version": version,
                "version_id": version_id,
                "model_id": model_id,
                "commit": commit,
                "predictions": count,
                "first_at": first,
                "last_at": last,
                "deleted": self.is_hidden(deployment_id),
                "recorded_at": from_micros(micros),
                "actor": actor,
            }
            label = f"{environment} {deployment_id[-12:]}"
            urn = f"deployment:{deployment_id}"
            made[urn] = Node(urn, "deployment", deployment_id, label, facts)
        return made

    def _serving(self, model_id: str, environment: str) -> dict[str, dict[str, Any]]:
        """Return what serves somewhere now, by deployment; where two events stand, what either of them says."""
        found = {}
        for _, value in self._fold.standing(model_id, "traffic", environment):
            for each in json.loads(value) if value else []:
                found[each["deployment_id"]] = {"mode": each.get("mode"), "percent": each.get("percent")}
        return found


def prediction_node(row: Row) -> Node:
    """Return the node of a prediction, from its row."""
    prediction_id = row["prediction_id"]
    facts = {key: value for key, value in row.items() if key != "tx"}
    facts["predicted_at"] = from_micros(row["predicted_at"])
    facts["recorded_at"] = from_micros(row["recorded_at"])
    urn = f"prediction:{prediction_id}"
    return Node(urn, "prediction", prediction_id, f"prediction {prediction_id[-12:]}", facts)


def _run_facts(
    text: str, run_id: str, experiment: str, commit: str | None, status: str | None, deleted: bool
) -> dict[str, Any]:
    row = json.loads(text)
    return {
        "run_id": run_id,
        "name": row["name"],
        "experiment": experiment,
        "commit": commit,
        "status": "running",
        "started_at": from_micros(row["started_at"]),
        "ended_at": None,
        **(_status(status) if status else {}),
        **{key: row[key] for key in ("parent_run_id", "command", "folder", "host")},
        **_code_facts(row["code"]),
        "deleted": deleted,
        "recorded_at": from_micros(row["recorded_at"]),
        "actor": row["actor"],
    }


def _code_facts(code: Any) -> dict[str, Any]:
    return {"repository": code["repository"], "code_commit": code["commit"], "dirty": code["dirty"]} if code else {}


class _Later(Mapping[str, Any]):
    """Facts that are made when they are first looked at."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make
        self._made: dict[str, Any] | None = None

    def _facts(self) -> dict[str, Any]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getitem__(self, key: str) -> Any:
        return self._facts()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts())

    def __len__(self) -> int:
        return len(self._facts())

    def __repr__(self) -> str:
        return repr(self._facts())


def _status(value: str | None) -> dict[str, Any]:
    """Return the columns that a `status` event tells of."""
    found = json.loads(value) if value else {}
    ended = found.get("ended_at")
    return {
        "status": found.get("status"),
        "ended_at": datetime.fromisoformat(ended) if isinstance(ended, str) else None,
        "exit_status": found.get("exit_status"),
    }


def _unknown(key: str) -> Node:
    """Return the node of something that an edge names and no row tells of."""
    kind, _, rest = key.partition(":")
    return Node(key, kind, rest, rest[-12:], {"unknown": True})


_MAKERS: dict[str, Callable[[Facts, list[str]], dict[str, Node]]] = {
    "model": Facts._versions,
    "models": Facts._models,
    "dataset": Facts._datasets,
    "run": Facts._runs,
    "code": Facts._code,
    "deployment": Facts._deployments,
}
