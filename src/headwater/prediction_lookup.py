"""Finding single predictions among very many: by ID in the files and row groups that can hold it, or by external ID.

Knows DuckDB and Parquet files; knows no model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.deltalog import DataFile
from headwater.errors import IntegrityError
from headwater.lake.base import Lake
from headwater.schema import arrow_schema
from headwater.state import Fold
from headwater.tables import folder, rows

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["external_ids", "outcomes_of", "prediction_row"]

_MEMORY = "1GiB"


def prediction_row(lake: Lake, fold: Fold, prediction_id: str) -> dict[str, Any] | None:
    """Return a prediction's row, times in microseconds, or None."""
    return next(_rows_of(lake, fold, "predictions", prediction_id), None)


def outcomes_of(lake: Lake, fold: Fold, prediction_id: str) -> list[dict[str, Any]]:
    """Return the outcomes of a prediction, the last observed last."""
    found = list(_rows_of(lake, fold, "outcomes", prediction_id))
    return sorted(found, key=lambda row: (row["observed_at"], row["tx"]))


def _rows_of(lake: Lake, fold: Fold, table: str, prediction_id: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a prediction; of each file that can hold one, only row groups that can are read."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = pa.scalar(prediction_id, pa.string())
    held = [
        file
        for file in fold.table(table).files.values()
        if file.may_hold("prediction_id", prediction_id, prediction_id)
    ]
    names = arrow_schema(table).names
    for path in _localize(lake, fold, table, held):
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                there = [name for name in names if name in file.schema_arrow.names]
                for group in _groups(file, prediction_id):
                    ids = file.read_row_group(group, columns=["prediction_id"], use_threads=False)
                    hits = pc.indices_nonzero(pc.equal(ids.column(0), wanted))
                    if len(hits):
                        found = file.read_row_group(group, columns=there).take(hits)
                        for row in rows(found):
                            yield {**dict.fromkeys(names), **row}
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(
                f"a file of table {table!r} is not what was written: {path.name}", hint="restore it from a copy"
            ) from error


def _groups(file: pq.ParquetFile, prediction_id: str) -> Iterator[int]:
    metadata = file.metadata
    column = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == "prediction_id")
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        if statistics is None or not statistics.has_min_max or statistics.min <= prediction_id <= statistics.max:
            yield group


def _localize(lake: Lake, fold: Fold, table: str, files: Iterable[DataFile]) -> list[Path]:
    return list(lake.localize(fold.commit, [folder(table) + file.path for file in files]).values())


def external_ids(lake: Lake, fold: Fold, deployment_id: str, names: Sequence[str] | pa.Array) -> pa.Array:
    """Return the ID of the newest prediction of a deployment by each external ID; null where there is none.

    Files of other deployments are not read; of the others only what their statistics and Bloom filters don't exclude.
    """
    import duckdb
    import pyarrow as pa

    wanted = pa.table({"external_id": names, "row": pa.array(range(len(names)), pa.int64())})
    held = [
        f for f in fold.table("predictions").files.values() if f.may_hold("deployment_id", deployment_id, deployment_id)
    ]
    paths = _localize(lake, fold, "predictions", held)
    if not paths:
        return pa.nulls(len(names), pa.string())
    config: dict[str, Any] = {
        "memory_limit": _MEMORY,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,
    }
    with contextlib.closing(duckdb.connect(config=config)) as connection:
        connection.execute("SET enable_progress_bar = false")
        listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        stored = f"read_parquet([{listed}])"
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
