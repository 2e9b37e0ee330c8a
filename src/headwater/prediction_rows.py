"""The rows of one file on their way into a table: cut into pieces, given their IDs and order, and written to the lake.

Knows the columns of predictions and outcomes; knows no transaction's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from headwater.errors import InvalidInputError, NotFoundError
from headwater.ids import ids_of_rows, now_micros
from headwater.names import shown
from headwater.prediction_files import RowFile, strict
from headwater.serving_model import Deployment
from headwater.tables import DataBody, bulk_rows, encode, folder
from headwater.transaction import Upload

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OutcomeRows", "PredictionRows", "Rows", "constant"]

_PIECE_ROWS = 1 << 20
_PIECE_BYTES = 256 << 20
_MOST_MICROS = (1 << 48) * 1000
_MOST_DATASETS = 10_000
_ID_PATTERN = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@dataclass(slots=True)
class Rows:
    """Rows of a file on their way into a table: written piece by piece, by a thread beside the one that reads."""

    table: str = ""
    bodies: list[DataBody] = field(default_factory=list)
    count: int = 0
    """Rows read."""
    added: int = 0
    """Rows written."""
    span: tuple[int, int] = (_MOST_MICROS, 0)

    def write(self, put: Upload, file: RowFile) -> None:
        """Read a file to its end and put its rows into the lake, where nothing names them yet."""
        with ThreadPoolExecutor(1, thread_name_prefix="headwater-rows") as pool:
            waiting: list[Future[DataBody]] = []
            with closing(file.batches()) as batches:
                for piece in _pieces(batches):
                    columns = self.columns(piece, file)
                    self.count += len(piece)
                    if len(next(iter(columns.values()))):
                        waiting.append(pool.submit(_put, put, self.table, columns))
                    # One is written while one is being read: memory stays bounded.
                    while len(waiting) > 1:
                        self.bodies.append(waiting.pop(0).result())
            self.bodies += [each.result() for each in waiting]
        self.check(file)
        if not self.bodies:
            raise NotFoundError(
                f"no row of {shown(file.name)} is of a prediction of that deployment", hint="nothing was logged"
            )

    def columns(self, piece: pa.Table, file: RowFile) -> dict[str, pa.Array]:
        """Return the columns of the table for rows of the file."""
        raise NotImplementedError

    def check(self, file: RowFile) -> None:
        """Refuse the file for what only all of it shows."""

    def note_times(self, low: int, high: int, what: str, file: RowFile) -> None:
        """Note the times of rows, and refuse those that an ID can't hold."""
        if low < 0 or high >= _MOST_MICROS:
            raise InvalidInputError(f"{shown(file.name)} has a {what} before 1970, or after 10000")
        self.span = min(self.span[0], low), max(self.span[1], high)


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows += len(batch)
        size += batch.nbytes
        if rows >= _PIECE_ROWS or size >= _PIECE_BYTES:
            yield pa.Table.from_batches(held).combine_chunks()
            held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _put(put: Upload, table: str, columns: Mapping[str, pa.Array]) -> DataBody:
    body = encode(table, bulk_rows(table, columns, put.tx, put.micros, put.actor))
    put(folder(table) + body.path, body.body)
    return replace(body, body=b"")


class PredictionRows(Rows):
    """Rows of predictions, which get their IDs here: the same for the same file and deployment, wherever it is logged.

    Args:
        made_by: What made them.
        digest: The file's digest.
        dataset_id: The dataset version that holds the features of all of them, if one does.
        find_dataset: Returns the ID that a reference in the file means.
    """

    def __init__(
        self, made_by: Deployment, digest: str, dataset_id: str | None, find_dataset: Callable[[str], str]
    ) -> None:
        super().__init__("predictions")
        self._made_by = made_by
        self._seed = f"{made_by.deployment_id} {digest}"
        self._dataset_id = dataset_id
        self._find_dataset = find_dataset
        self._datasets: dict[str, str] = {}
        self._hashes: list[Any] = []
        self._now = now_micros()

    def columns(self, piece: pa.Table, file: RowFile) -> dict[str, pa.Array]:
        """Return the columns of the table for rows of the file."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        taken = {name: _whole(piece.column(name)) for name in piece.column_names}
        for what, own in (("deployment", self._made_by.deployment_id), ("version", self._made_by.version_id)):
            others = pc.drop_null(taken[what].unique()).to_pylist()
            if others not in ([], [own]):
                other = next(each for each in others if each != own)
                raise InvalidInputError(
                    f"{shown(file.name)} has predictions of {what} {shown(other)}, not of {own}",
                    hint="log the predictions of one deployment at a time",
                )
        micros = taken["predicted_at"].fill_null(self._now).to_numpy(zero_copy_only=False).astype(np.int64)
        self.note_times(int(micros.min()), int(micros.max()), "predicted_at", file)
        if taken["hash"].null_count < len(piece):
            self._hashes.append(taken["hash"].drop_null().to_numpy())
        millis = micros // 1000
        rows = np.arange(self.count, self.count + len(piece), dtype=np.int64)
        order = None
        if len(millis) > 1 and bool((millis[1:] < millis[:-1]).any()):
            order = np.argsort(millis, kind="stable")
            millis, rows, micros = millis[order], rows[order], micros[order]
            chosen = pa.array(order)
            taken = {name: column.take(chosen) for name, column in taken.items()}
        found = {
            "prediction_id": ids_of_rows(millis, rows, self._seed),
            "predicted_at": pa.array(micros).cast(pa.timestamp("us", tz="UTC")),
            "deployment_id": constant(self._made_by.deployment_id, len(piece)),
            "version_id": constant(self._made_by.version_id, len(piece)),
        }
        for name in ("external_id", "output", "score", "latency_ms"):
            found[name] = taken[name]
        for name in ("input", "row_key"):
            found[name] = strict(taken[name]) if file.may_lack_strictness else taken[name]
        if self._dataset_id is not None:
            found["dataset_id"] = constant(self._dataset_id, len(piece))
        elif taken["dataset"].null_count < len(piece):
            found["dataset_id"] = self._dataset_ids(taken["dataset"], file)
        self.added += len(piece)
        return {name: column for name, column in found.items() if column.null_count < len(piece)}

    def _dataset_ids(self, given: pa.Array, file: RowFile) -> pa.Array:
        import pyarrow as pa

        named = given.dictionary_encode()
        if len(named.dictionary) > _MOST_DATASETS:
            raise InvalidInputError(f"{shown(file.name)} names more than {_MOST_DATASETS:,} dataset versions")
        for name in named.dictionary.to_pylist():
            if name is not None and name not in self._datasets:
                self._datasets[name] = self._find_dataset(name)
        ids = pa.array([self._datasets.get(name) for name in named.dictionary.to_pylist()], pa.string())
        return pa.DictionaryArray.from_arrays(named.indices, ids)

    def check(self, file: RowFile) -> None:
        """Refuse a file that has an external ID twice."""
        _refuse_twice(self._hashes, file, "external ID")


class OutcomeRows(Rows):
    """Rows of outcomes, in the order of their predictions.

    Args:
        find: Returns the IDs of predictions by external ID, null where there is none; None where it isn't known of what
            deployment they would be.
    """

    def __init__(self, find: Callable[[pa.Array], pa.Array] | None) -> None:
        super().__init__("outcomes")
        self.unknown = 0
        self._find = find
        self._hashes: list[Any] = []
        self._now = now_micros()

    def columns(self, piece: pa.Table, file: RowFile) -> dict[str, pa.Array]:
        """Return the columns of the table for rows of the file."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        ids, names = _whole(piece.column("prediction_id")), _whole(piece.column("external_id"))
        if ids.null_count == len(piece) and names.null_count < len(piece):
            if self._find is None:
                raise InvalidInputError(
                    f"{shown(file.name)} names predictions by external ID", hint="say of which deployment: --deployment"
                )
            ids = self._find(names)
        elif ids.null_count:
            raise InvalidInputError(
                f"{shown(file.name)} has a row without prediction_id", hint="give each row one, or an external_id"
            )
        elif not pc.all(pc.match_substring_regex(ids, f"^{_ID_PATTERN}$")).as_py():
            wrong = ids.filter(pc.invert(pc.match_substring_regex(ids, f"^{_ID_PATTERN}$")))[0].as_py()
            raise InvalidInputError(f"{shown(file.name)}: not a prediction's ID: {shown(wrong)}", hint="it is a UUIDv7")
        if piece.column("label").null_count:
            raise InvalidInputError(f"{shown(file.name)} has a row without label", hint="leave such rows out")
        self._hashes.append(piece.column("hash").combine_chunks().drop_null().to_numpy())
        micros = piece.column("observed_at").combine_chunks().fill_null(self._now).to_numpy(zero_copy_only=False)
        self.note_times(int(micros.min()), int(micros.max()), "observed_at", file)
        found = pa.table(
            {
                "prediction_id": ids,
                "label": piece.column("label"),
                "observed_at": pa.array(micros.astype(np.int64)).cast(pa.timestamp("us", tz="UTC")),
            }
        )
        if ids.null_count:
            self.unknown += ids.null_count
            found = found.filter(pc.is_valid(ids))
        found = found.take(pc.sort_indices(found, sort_keys=[("prediction_id", "ascending")]))
        self.added += len(found)
        return {name: found.column(name).combine_chunks() for name in found.column_names}

    def check(self, file: RowFile) -> None:
        """Refuse a file that has a prediction twice."""
        _refuse_twice(self._hashes, file, "prediction")


def _refuse_twice(hashes: list[Any], file: RowFile, what: str) -> None:
    import numpy as np

    if not hashes:
        return
    sorted_hashes = np.concatenate(hashes)
    hashes.clear()
    sorted_hashes.sort()
    same = sorted_hashes[1:][sorted_hashes[1:] == sorted_hashes[:-1]]
    if len(same) and (name := file.twice([int(each) for each in np.unique(same)[:1000]])) is not None:
        raise InvalidInputError(
            f"{shown(file.name)} has {what} {shown(name)} twice", hint="nothing was logged: give each ID once"
        )


def constant(value: str, count: int) -> pa.Array:
    """Return one value many times, held once."""
    import pyarrow as pa

    indices = pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(bytes(4 * count))])
    return pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))
