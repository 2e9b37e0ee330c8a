"""Finding what was evaluated of a version, and reading the predictions that were kept of it; writes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from headwater import points
from headwater.context import Context
from headwater.errors import IntegrityError, InvalidInputError, NotFoundError
from headwater.evaluation_metrics import METRICS, by_group
from headwater.evaluation_model import Evaluated
from headwater.evaluation_rows import columns_of
from headwater.ids import from_micros
from headwater.lookup import VERSION_COLUMNS, name_of
from headwater.names import canonical_slice, slice_values
from headwater.state import Fold
from headwater.stored import Stored, row_by_id
from headwater.tombstones import visible

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FIXED", "behind", "confirms", "earlier", "predictions", "stored"]

FIXED = ("label", "prediction", "score")
"""The columns that stored predictions always have."""


def stored(context: Context, fold: Fold, version_id: str, dataset_id: str) -> Evaluated | None:
    """Return the last evaluation of a version on a dataset version; None where there is none.

    `Evaluated.table()` then has the key, `label`, `prediction`, `score` and the slices' columns of every row of the
    dataset version, in its order, whose digest is checked; `table(["carrier"])` adds columns of the data.

    Args:
        context: What to work with.
        fold: The commit.
        version_id: The version.
        dataset_id: The dataset version.

    Raises:
        IntegrityError: What is recorded of it is not what Headwater writes.
    """
    # Where two branches evaluated the same, both stand, and the later one counts.
    standing = [each for each in fold.standing(version_id, "evaluation", dataset_id) if each[1] is not None]
    if not standing:
        return None
    event_id, text = max(standing)
    value = _value(text or "", event_id)
    row = fold.one(f"SELECT {VERSION_COLUMNS} FROM versions v WHERE version_id = ?", version_id)
    data = Stored.of(fold, row_by_id(fold, dataset_id))
    micros, actor, commit = fold.one(
        "SELECT e.recorded_at, e.actor, coalesce((SELECT id FROM commits c WHERE c.tx = e.tx), e.tx)"
        " FROM events e WHERE event_id = ?",
        event_id,
    )
    trained = fold.one(
        f"SELECT 1 FROM lineage l WHERE source = ? AND relation = 'trained' AND target = ? AND {visible('l.tx')}",
        f"dataset:{dataset_id}",
        f"model:{version_id}",
    )
    wanted = {"version_id": (version_id, version_id), "dataset_id": (dataset_id, dataset_id)}
    order = METRICS[value["task"]]
    computed = [each for each in points.newest(context.lake, fold, wanted) if each.source == "computed"]
    computed.sort(key=lambda each: (each.slice, order.index(each.key) if each.key in order else len(order)))
    return Evaluated(
        name=name_of(fold, row[1]),
        version=row[2],
        version_id=version_id,
        dataset=data.version.reference,
        dataset_id=dataset_id,
        task=value["task"],
        label=value["label"],
        positive=value["positive"],
        rows=value["rows"],
        slices=tuple(value["slices"]),
        metrics=tuple(computed),
        command=tuple(value["command"]),
        path=value["path"],
        digest=value["digest"],
        trained_on=trained is not None,
        commit=commit,
        recorded_at=from_micros(micros),
        actor=actor,
        _read=partial(_table, context, fold.commit, value, data),
    )


def confirms(
    context: Context,
    fold: Fold,
    version_id: str,
    dataset_id: str | None,
    key: str,
    part: str,
    value: float,
    memo: dict[Any, Any],
) -> bool:
    """Return whether the predictions that are stored come to the value that a row of the table `metrics` says.

    A row is not signed, and whoever can write to the storage can add one. The evaluation is, in a signed lake, and says
    the digest of the predictions.

    Args:
        context: What to work with.
        fold: The commit.
        version_id: The version.
        dataset_id: The dataset version that it was measured on.
        key: The metric.
        part: The slice, as canonical text.
        value: The value.
        memo: Keeps what was computed.

    Raises:
        IntegrityError: The predictions, or the data, are not what was written.
    """
    if dataset_id is None:
        return False
    which = ("evaluation", fold.commit, version_id, dataset_id)
    if which not in memo:
        memo[which] = stored(context, fold, version_id, dataset_id)
    found: Evaluated | None = memo[which]
    if found is None:
        return False
    columns = tuple(sorted(slice_values(part)))
    again = ("computed", found.digest, found.dataset_id, found.scoring, columns)
    if again not in memo:
        try:
            groups = by_group(context.lake.cache, found.table(columns), found.scoring, columns)
        except InvalidInputError:  # a slice of columns that the dataset lacks
            groups = []
        memo[again] = {canonical_slice(dict(each.values)) if columns else "": each.metrics for each in groups}
    metrics = memo[again].get(part, {})
    return key in metrics and math.isclose(value, metrics[key], rel_tol=1e-9, abs_tol=1e-12)


def earlier(context: Context, fold: Fold, last: Evaluated) -> list[Evaluated]:
    """Return earlier evaluations of the same version on the same dataset version that came to other predictions.

    Those that were taken back, and those of another label, task or positive class, are not among them.

    Raises:
        IntegrityError: What is recorded of one is not what Headwater writes.
    """
    rows = fold.rows(
        "SELECT event_id, value, recorded_at, actor, coalesce((SELECT id FROM commits c WHERE c.tx = e.tx), e.tx),"
        f" {visible('e.tx')} FROM events e"
        " WHERE subject = ? AND kind = 'evaluation' AND key = ? AND value IS NOT NULL ORDER BY event_id",
        *(last.version_id, last.dataset_id),
    )
    data = Stored.of(fold, row_by_id(fold, last.dataset_id))
    found = {last.digest: last}
    seen = set()
    for event_id, text, micros, actor, commit, stands in rows:
        value = _value(text, event_id)
        # A revert says again what was there before; the first event is that of the evaluation.
        is_first = value["path"] not in seen
        seen.add(value["path"])
        same = (value["label"], value["task"], value["positive"]) == (last.label, last.task, last.positive)
        if is_first and stands and same:
            found.setdefault(
                value["digest"],
                replace(
                    last,
                    rows=value["rows"],
                    slices=tuple(value["slices"]),
                    metrics=(),
                    command=tuple(value["command"]),
                    path=value["path"],
                    digest=value["digest"],
                    commit=commit,
                    recorded_at=from_micros(micros),
                    actor=actor,
                    _read=partial(_table, context, fold.commit, value, data),
                ),
            )
    return [each for each in found.values() if each is not last]


def behind(fold: Fold, version_id: str, dataset_id: str, tx: str | None) -> Mapping[str, Any] | None:
    """Return what an evaluation says of itself: of one transaction, or the one that counts; None where there is none.

    Args:
        fold: The commit.
        version_id: The version.
        dataset_id: The dataset version.
        tx: The transaction, if a certain one is meant.

    Raises:
        IntegrityError: What is recorded of it is not what Headwater writes.
    """
    which, values = ("standing", ()) if tx is None else ("tx = ?", (tx,))
    row = fold.one(
        "SELECT event_id, value FROM events WHERE subject = ? AND kind = 'evaluation' AND key = ? AND value IS NOT NULL"
        f" AND {which} ORDER BY event_id DESC LIMIT 1",
        *(version_id, dataset_id, *values),
    )
    return None if row is None else _value(row[1], row[0])


def predictions(context: Context, fold: Fold, value: Mapping[str, Any], data: Stored) -> pa.Table:
    """Return the predictions of what `behind` returned, checked.

    Raises:
        IntegrityError: They are not what was written.
    """
    return _table(context, fold.commit, value, data, ())


def _value(text: str, event_id: str) -> dict[str, Any]:
    kinds = {"path": str, "digest": str, "rows": int, "task": str, "label": str, "slices": list, "command": list}
    try:
        value = json.loads(text)
        known = isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in kinds.items())
    except ValueError:
        known = False
    if not known or value["task"] not in METRICS or not isinstance(value.get("positive"), str | None):
        raise IntegrityError(f"the evaluation of event {event_id} is not what Headwater writes")
    found: dict[str, Any] = value
    return found


def _table(context: Context, commit: str, value: Mapping[str, Any], data: Stored, columns: Sequence[str]) -> pa.Table:
    """Return the stored predictions, checked, and further columns of the dataset version beside them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    what = f"the predictions for {data.version.reference}"
    for each in columns:
        if each in FIXED:
            raise InvalidInputError(f"rows can't be grouped by a column called {each}", hint="call it otherwise")
    try:
        body = context.lake.read(commit, value["path"])
    except NotFoundError:
        raise IntegrityError(f"{what} are missing from the lake", hint="evaluate it again") from None
    if sha256(body).hexdigest() != value["digest"]:
        raise IntegrityError(f"{what} are not what was written", hint="evaluate it again")
    table = pq.read_table(pa.BufferReader(body))
    further = [each for each in dict.fromkeys(columns) if each not in table.column_names]
    if further:
        found = columns_of(context.lake, data, further)
        if len(found) != len(table):
            raise IntegrityError(f"{what} are not as many as its rows", hint="evaluate it again")
        for each in further:
            table = table.append_column(each, found.column(each))
    return table
