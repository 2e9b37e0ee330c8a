"""One version, found in the tables themselves: for a cold process that has no folded state and asks one question.

Folding a registry of 10,000 versions for the first time takes a second or two; the answer to one resolve is in a few
events and one row. They are put into a fold of their own, in memory, where the ordinary rules find them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from headwater import tables
from headwater.errors import HeadwaterError, IntegrityError
from headwater.fold import SCHEMA, TX, fold_commits, fold_rows
from headwater.lake.base import Lake
from headwater.lookup import model_id_of
from headwater.names import ModelRef
from headwater.state import Fold

__all__ = ["small_fold"]


def small_fold(lake: Lake, commit: str, ref: ModelRef) -> Fold | None:
    """Return a fold that knows all standing events and the version that a reference means, or None if that won't do.

    Args:
        lake: The lake.
        commit: A commit ID.
        ref: A version by number or alias.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    fold = Fold(connection, commit)
    try:
        fold_rows(connection, "events", _standing(lake, commit))
        model_id = model_id_of(fold, ref.name)
        if ref.alias is not None:
            version_id = fold.value(model_id, "alias", ref.alias)
            found = None if version_id is None else _row(lake, commit, {"version_id": version_id})
        else:
            found = _row(lake, commit, {"model_id": model_id, "version": ref.version})
    except HeadwaterError:
        # Whatever is wrong is said better by those who look at everything.
        return None
    if found is None:
        return None
    fold_rows(connection, "model_versions", [found])
    written = lake.find_commit(TX, found["tx"])
    if written is None:
        return None
    fold_commits(connection, [written], written.id)
    return fold


def _standing(lake: Lake, commit: str) -> Iterator[dict[str, Any]]:
    """Yield the events that nothing supersedes; what they supersede is gone, so `prev` is left empty."""
    events = tables.read(lake, commit, "events", tables.load(lake, commit, "events").files)
    if any(events.column("signature").to_pylist()):
        raise IntegrityError("events are signed, and the marker says that they are not")
    superseded = {event for prev in events.column("prev").to_pylist() for event in prev}
    for position, event in enumerate(events.column("event_id").to_pylist()):
        if event not in superseded:
            yield from (row | {"prev": []} for row in tables.rows(events.slice(position, 1)))


def _row(lake: Lake, commit: str, wanted: dict[str, object]) -> dict[str, Any] | None:
    """Return the one version that has these values, looked for without `pyarrow.compute`, whose import takes longer."""
    files = tables.load(lake, commit, "model_versions").files
    for path, file in sorted(files.items(), key=lambda item: item[1].rows):
        if not all(file.may_hold(name, value, value) for name, value in wanted.items()):
            continue
        table = tables.read(lake, commit, "model_versions", [path])
        columns = [table.column(name).to_pylist() for name in wanted]
        for position, values in enumerate(zip(*columns, strict=True)):
            if values == tuple(wanted.values()):
                return next(tables.rows(table.slice(position, 1)))
    return None
