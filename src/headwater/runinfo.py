"""Finding runs in a folded state, and making of their rows what people hold; reads only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from headwater.errors import InvalidInputError, NotFoundError
from headwater.ids import from_micros
from headwater.landing import status_of
from headwater.model import RunInfo
from headwater.names import shown
from headwater.state import Fold
from headwater.tombstones import gone, tombstone_of, visible

__all__ = ["Measured", "build", "find", "is_run"]

_ID = re.compile(r"[0-9a-f][0-9a-f-]{7,35}")
_COLUMNS = "r.run_id, r.tx, r.row, (SELECT id FROM commits c WHERE c.tx = r.tx)"
_LABELS = (
    "SELECT subject, kind, key, value FROM events WHERE standing AND kind IN ('param', 'tag', 'description', 'status')"
)
_SINGLY = 500
"""Up to so many runs are looked up one by one rather than with all others."""


def is_run(reference: str) -> bool:
    """Return whether a reference is written as a run's: `run:ID`, or 8 or more characters of an ID."""
    return reference.startswith("run:") or (_ID.fullmatch(reference.lower()) is not None)


def find(fold: Fold, reference: str) -> str:
    """Return the ID of the run that `run:ID`, an ID, or 8 or more characters of one's beginning or end mean.

    Raises:
        InvalidInputError: It is malformed, or several runs begin so.
        NotFoundError: There is no such run.
    """
    bare = reference.removeprefix("run:").lower()
    if not _ID.fullmatch(bare):
        raise InvalidInputError(f"not a run: {shown(reference)}", hint="give a run's ID, or 8 or more characters of it")
    if len(bare) == 36:
        rows = fold.rows("SELECT run_id FROM runs WHERE run_id = ?", bare)
    else:
        seen = visible("r.run_id")
        begins, ends = f"run_id >= ? AND run_id < ? AND {seen}", f"substr(run_id, ?) = ? AND {seen}"
        rows = fold.rows(f"SELECT run_id FROM runs r WHERE {begins} LIMIT 2", bare, bare + "g")
        rows = rows or fold.rows(f"SELECT run_id FROM runs r WHERE {ends} LIMIT 2", -len(bare), bare)
        rows = rows or fold.rows("SELECT run_id FROM runs WHERE run_id >= ? AND run_id < ? LIMIT 2", bare, bare + "g")
    if len(rows) == 1 and (hiding := tombstone_of(fold, rows[0][0])) is not None:
        raise gone(f"run {rows[0][0]}", hiding)
    if not rows:
        raise NotFoundError(f"there is no run {bare}", hint="`headwater runs` lists them")
    if len(rows) > 1:
        raise InvalidInputError(f"several runs are called {bare}", hint="give more of the ID, or its end")
    return str(rows[0][0])


class Measured(Mapping[str, float]):
    """The newest value of each metric of a run over all rows; read from the lake when it is first looked at."""

    def __init__(self, run_id: str, load: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        self._run_id = run_id
        self._load = load

    def __getitem__(self, key: str) -> float:
        return self._load().get(self._run_id, {})[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load().get(self._run_id, {}))

    def __len__(self) -> int:
        return len(self._load().get(self._run_id, {}))

    def __repr__(self) -> str:
        return repr(dict(self))


def build(
    fold: Fold,
    ids: Collection[str],
    *,
    owner: Any,
    dead: Mapping[str, int],
    load: Callable[[Collection[str]], Mapping[str, Mapping[str, float]]],
) -> list[RunInfo]:
    """Return runs in the order of their IDs as given.

    Args:
        fold: The state.
        ids: Run IDs that are there.
        owner: The registry that their methods call.
        dead: Runs whose process has died and whose status could not be written, with the time in microseconds.
        load: Reads the newest metrics of runs; called once, when the first is looked at.
    """
    if len(ids) > _SINGLY:
        wanted = set(ids)
        rows = [row for row in fold.rows(f"SELECT {_COLUMNS} FROM runs r") if row[0] in wanted]
        labels = fold.rows(f"{_LABELS} ORDER BY event_id")
    else:
        rows = [fold.one(f"SELECT {_COLUMNS} FROM runs r WHERE run_id = ?", each) for each in ids]
        labels = [row for each in ids for row in fold.rows(f"{_LABELS} AND subject = ? ORDER BY event_id", each)]
    by_run: dict[str, list[Any]] = {}
    for subject, kind, key, value in labels:
        by_run.setdefault(subject, []).append((kind, key, value))
    held: list[Mapping[str, Mapping[str, float]]] = []

    def loaded() -> Mapping[str, Mapping[str, float]]:
        if not held:
            held.append(load(ids))
        return held[0]

    parsed = json.loads(f"[{','.join(row[2] for row in rows)}]")
    found = {
        row[0]: _one(row, data, by_run.get(row[0], []), owner, dead.get(row[0]), loaded)
        for row, data in zip(rows, parsed, strict=True)
    }
    return [found[each] for each in ids]


def _one(row: Any, data: Any, labels: list[Any], owner: Any, died: int | None, loaded: Any) -> RunInfo:
    run_id, tx, _, commit = row
    params, tags, description, statuses = dict(data["params"]), dict(data["tags"]), data["description"], []
    for kind, key, value in labels:
        if kind == "param" and value is None:
            params.pop(key, None)
        elif kind == "param":
            params[key] = value
        elif kind == "tag" and value is None:
            tags.pop(key, None)
        elif kind == "tag":
            tags[key] = value
        elif kind == "description":
            description = value
        else:
            statuses.append(value)
    stands = status_of(statuses)
    ended = datetime.fromisoformat(stands["ended_at"]) if stands["ended_at"] else None
    if died is not None and not statuses:
        stands, ended = {**stands, "status": "killed"}, from_micros(died)
    return RunInfo(
        run_id=run_id,
        name=data["name"],
        experiment=data["experiment"],
        status=stands["status"],
        started_at=from_micros(data["started_at"]),
        ended_at=ended,
        exit_status=stands.get("exit_status"),
        params=params,
        metrics=Measured(run_id, loaded),
        tags=tags,
        description=description,
        commit=commit or tx,
        actor=data["actor"],
        parent_run_id=data["parent_run_id"],
        command=tuple(data["command"]) if data["command"] is not None else None,
        folder=data["folder"],
        code=data["code"],
        environment=data["environment"],
        host=data["host"],
        seeds=data["seeds"],
        missing=tuple(data["missing"]) if data["missing"] is not None else None,
        _owner=owner,
    )
