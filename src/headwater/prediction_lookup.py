"""Finding one prediction, and what proved true of it, among very many: reads the files that may hold it, no others.

Files are ruled out by the ranges that the log keeps of them, and within a file row groups by their statistics; of what
is left the column of IDs is read first. Knows nothing of models or deployments.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater import tables
from headwater.errors import IntegrityError
from headwater.lake.base import Lake
from headwater.schema import TABLES
from headwater.state import Fold
from headwater.tombstones import Tombstone, hidden_transactions

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Found", "find_outcome", "find_prediction", "look_up"]

_ID = "prediction_id"


@dataclass(frozen=True, slots=True)
class Found:
    """The rows with an ID that are not hidden, times in microseconds, and how many of the table's files were read."""

    rows: tuple[dict[str, Any], ...]
    files_read: int
    files_total: int
    hidden: Tombstone | None = None
    """What hides the rows with that ID, where there are such and all of them are hidden."""


def find_prediction(lake: Lake, fold: Fold, prediction_id: str) -> dict[str, Any] | None:
    """Return the row of a prediction with every column of the table, times in microseconds; None if there is none.

    Args:
        lake: The lake.
        fold: The folded state of the commit that is read.
        prediction_id: The whole ID.

    Raises:
        IntegrityError: A file that may hold it is missing or can't be read.
    """
    return next(iter(look_up(lake, fold, "predictions", prediction_id).rows), None)


def find_outcome(lake: Lake, fold: Fold, prediction_id: str) -> dict[str, Any] | None:
    """Return the row of the outcome that stands for a prediction: the last observed. Else as `find_prediction`."""
    rows = look_up(lake, fold, "outcomes", prediction_id).rows
    return max(rows, key=lambda row: (row["observed_at"], row["tx"]), default=None)


def look_up(lake: Lake, fold: Fold, table: str, prediction_id: str) -> Found:
    """Return the rows of `predictions` or `outcomes` that have an ID, but for those of reverted transactions.

    Raises:
        IntegrityError: A file that may hold it is missing or can't be read.
    """
    base = tables.folder(table)
    files = fold.table(table).files
    wanted = [base + path for path, file in files.items() if file.may_hold(_ID, prediction_id, prediction_id)]
    hidden = hidden_transactions(fold) if wanted else {}
    found: list[dict[str, Any]] = []
    gone: list[Tombstone] = []
    for path, local in lake.localize(fold.commit, wanted).items():
        for row in _rows_in(path, str(local), table, prediction_id):
            if row["tx"] in hidden:
                gone.append(hidden[row["tx"]])
            else:
                found.append(row)
        if found and TABLES[table].key == (_ID,):
            # A row with a given key says the same in every file.
            return Found((found[0],), len(wanted), len(files))
    return Found(tuple(found), len(wanted), len(files), gone[0] if gone and not found else None)


def _rows_in(path: str, local: str, table: str, prediction_id: str) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(local, memory_map=True) as file:
            groups = _groups(file.metadata, prediction_id)
            found = []
            for group in groups:
                ids = file.read_row_group(group, columns=[_ID], use_threads=False).column(_ID)
                if positions := _positions(ids, prediction_id):
                    # Not the whole row group at once: its text may be large, and one row is wanted.
                    rows = _some_rows(file, group, positions)
                    found += [dict.fromkeys(TABLES[table].names) | row for row in tables.rows(rows)]
            return found
    except (pa.ArrowException, OSError, KeyError) as error:
        raise IntegrityError(f"{path!r} is not what was written", hint="restore the lake from a copy") from error


def _groups(metadata: Any, prediction_id: str) -> list[int]:
    """Return the row groups whose statistics don't rule an ID out."""
    column = metadata.schema.names.index(_ID)
    found = []
    for number in range(metadata.num_row_groups):
        known = metadata.row_group(number).column(column).statistics
        if known is None or not known.has_min_max or known.min <= prediction_id <= known.max:
            found.append(number)
    return found


def _positions(ids: pa.ChunkedArray, prediction_id: str) -> list[int]:
    """Return where an ID stands, without `pyarrow.compute`, whose import takes longer than all the rest."""
    needle = prediction_id.encode()
    found: list[int] = []
    start = 0
    for chunk in ids.chunks:
        _, offsets, values = chunk.buffers()
        if len(chunk) and values is not None:
            body = memoryview(values).tobytes()
            begins = memoryview(offsets).cast("i")[chunk.offset : chunk.offset + len(chunk) + 1]
            at = body.find(needle, begins[0], begins[-1])
            while at >= 0:
                row = bisect_right(begins, at) - 1
                # A value may have the ID within it, and two values may make it together.
                if begins[row] == at and begins[row + 1] == at + len(needle):
                    found.append(start + row)
                at = body.find(needle, at + 1, begins[-1])
        start += len(chunk)
    return found


def _some_rows(file: Any, group: int, positions: Sequence[int]) -> pa.Table:
    import pyarrow as pa

    rows = file.read_row_group(group, use_threads=False)
    return pa.concat_tables([rows.slice(position, 1) for position in positions])
