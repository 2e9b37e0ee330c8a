"""Finding predictions by the caller's own IDs, in the files of one deployment; knows DuckDB and no model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headwater.calm import connect
from headwater.lake.base import Lake
from headwater.sqltext import literal
from headwater.state import Fold
from headwater.tables import folder
from headwater.tombstones import hidden_transactions

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["external_ids"]

_MEMORY = "1GiB"


def external_ids(lake: Lake, fold: Fold, deployment_id: str, names: Sequence[str] | pa.Array) -> pa.Array:
    """Return the ID of the newest prediction of a deployment by each external ID; null where there is none.

    Files of other deployments are not read; of the others only what their statistics and Bloom filters don't exclude.
    """
    import pyarrow as pa

    wanted = pa.table({"external_id": names, "row": pa.array(range(len(names)), pa.int64())})
    held = [
        f for f in fold.table("predictions").files.values() if f.may_hold("deployment_id", deployment_id, deployment_id)
    ]
    paths = list(lake.localize(fold.commit, [folder("predictions") + file.path for file in held]).values())
    if not paths:
        return pa.nulls(len(names), pa.string())
    with contextlib.closing(connect(memory_limit=_MEMORY)) as connection:
        listed = ", ".join(literal(path) for path in paths)
        stored = f"read_parquet([{listed}])"
        if hidden := hidden_transactions(fold):
            stored = f"(FROM {stored} WHERE tx NOT IN ({', '.join(map(literal, hidden))}))"
        if len(names) == 1:
            found = connection.sql(
                f"SELECT max(prediction_id) FROM {stored} WHERE deployment_id = ? AND external_id = ?",
                params=[deployment_id, names[0].as_py() if isinstance(names, pa.Array) else names[0]],
            ).fetchall()
            return pa.array([found[0][0]], pa.string())
        connection.register("wanted", wanted)
        ids = connection.sql(
            f"SELECT w.row, max(p.prediction_id) AS id FROM wanted w LEFT JOIN (SELECT external_id, prediction_id"
            f" FROM {stored} WHERE deployment_id = ?) p ON p.external_id = w.external_id GROUP BY w.row ORDER BY w.row",
            params=[deployment_id],
        ).to_arrow_table()
    return ids.column("id").combine_chunks().cast(pa.string())
