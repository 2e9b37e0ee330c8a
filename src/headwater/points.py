"""Reading the table `metrics` without reading all of it: one curve, or the newest values of some runs or a version.

Rows lie sorted by run and key in files whose ranges are known, so most files, and most row groups of the others, are
left out. Knows no nouns but IDs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from headwater.deltalog import DataFile
from headwater.errors import IntegrityError
from headwater.lake.base import Lake
from headwater.model import Metric
from headwater.state import Fold
from headwater.tables import folder
from headwater.tombstones import hidden_transactions

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["curve", "newest", "newest_in", "newest_of_runs", "newest_of_versions", "of_version"]

_TEXTS = ("tx", "run_id", "version_id", "key", "slice", "dataset_id", "source")
_ORDER = 1 << 31
"""More than any `ordinal`."""

Wanted = Mapping[str, tuple[Any, Any] | None]
"""By column: the least and the greatest value that are wanted; None where the column has to be null."""


def curve(lake: Lake, fold: Fold, wanted: Wanted) -> pa.Table:
    """Return `step` and `value` of the rows that are wanted, by step, then in the order in which they were logged.

    Args:
        lake: The lake.
        fold: The commit.
        wanted: For each column one value, as a pair of itself.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = list(_read(lake, fold, wanted, ("step", "value")))
    if not parts:
        return pa.table({"step": pa.array([], pa.int64()), "value": pa.array([], pa.float64())})
    table = pa.concat_tables(parts)
    if not _ascends(table.column("step").combine_chunks()):
        table = pa.concat_tables(list(_read(lake, fold, wanted, ("step", "value", "tx", "ordinal"))))
        table = table.set_column(table.column_names.index("tx"), "tx", table.column("tx").cast(pa.string()))
        table = table.append_column("at", pc.fill_null(table.column("step"), -1))
        table = table.sort_by([("at", "ascending"), ("tx", "ascending"), ("ordinal", "ascending")])
    return table.select(["step", "value"]).combine_chunks()


def _ascends(steps: pa.Array) -> bool:
    import pyarrow.compute as pc

    if steps.null_count:
        return False
    return len(steps) < 2 or bool(pc.all(pc.less(steps.slice(0, len(steps) - 1), steps.slice(1))).as_py())


def newest(lake: Lake, fold: Fold, wanted: Wanted) -> list[Metric]:
    """Return the newest value of each metric, slice and dataset of the rows that are wanted, in that order."""
    table = _newest(lake, fold, wanted, ())
    rows = [] if table is None else table.to_pylist()
    rows.sort(key=lambda row: (row["key"], row["slice"], row["dataset_id"] or "", row["run_id"] or ""))
    return [
        Metric(row["key"], row["value"], row["slice"], row["step"], row["dataset_id"], row["source"]) for row in rows
    ]


def of_version(lake: Lake, fold: Fold, version_id: str) -> list[dict[str, Any]]:
    """Return the rows that stand of one version, each with its transaction, in no order.

    Columns: those of `Metric`, and `tx` and `ordinal`.
    """
    columns = ("tx", "key", "slice", "dataset_id", "source", "step", "value", "ordinal")
    return [
        row for part in _read(lake, fold, {"version_id": (version_id, version_id)}, columns) for row in part.to_pylist()
    ]


def newest_of_runs(lake: Lake, fold: Fold, run_ids: Collection[str]) -> dict[str, dict[str, float]]:
    """Return the newest value of each metric over all rows, by run and key; of several datasets the last measured."""
    if not run_ids:
        return {}
    wanted: Wanted = {"run_id": (min(run_ids), max(run_ids)), "version_id": None, "slice": ("", "")}
    found: dict[str, dict[str, float]] = {}
    table = _newest(lake, fold, wanted, ("dataset_id",))
    if table is None:
        return found
    chosen = set(run_ids)
    columns = [table.column(name).to_pylist() for name in ("run_id", "key", "value")]
    for run_id, key, value in sorted(zip(*columns, strict=True), key=lambda row: row[:2]):
        if run_id in chosen:
            found.setdefault(run_id, {})[key] = value
    return found


def newest_of_versions(lake: Lake, fold: Fold, version_ids: Collection[str]) -> dict[str, dict[str, float]]:
    """Return the newest value of each metric over all rows, by version and key; of several datasets the last."""
    parts: list[pa.Table] = []
    for each in version_ids:
        # One by one: versions far apart have nothing between them that is wanted.
        wanted = {"version_id": (each, each), "slice": ("", "")}
        parts += _read(lake, fold, wanted, (*_TEXTS, "step", "value", "ordinal"), newest=True)
    found: dict[str, dict[str, float]] = {each: {} for each in version_ids}
    if parts:
        import pyarrow as pa

        table = _newest_by(pa.concat_tables(parts).unify_dictionaries().combine_chunks(), ("version_id", "key"))
        for row in table.select(["version_id", "key", "value"]).to_pylist():
            found[row["version_id"]][row["key"]] = row["value"]
    return found


def _newest(lake: Lake, fold: Fold, wanted: Wanted, together: Collection[str]) -> pa.Table | None:
    """Return the newest row of each run, key, slice and dataset; columns in `together` do not tell rows apart."""
    import pyarrow as pa

    parts = list(_read(lake, fold, wanted, (*_TEXTS, "step", "value", "ordinal"), newest=True))
    if not parts:
        return None
    apart = [name for name in ("run_id", "key", "slice", "dataset_id") if name not in together]
    return _newest_by(pa.concat_tables(parts).unify_dictionaries().combine_chunks(), apart)


def newest_in(table: pa.Table, apart: Collection[str]) -> pa.Table:
    """Return the newest row of each combination of some text columns, of rows of the table that are at hand."""
    for name in _TEXTS:
        encoded = table.column(name).combine_chunks().dictionary_encode()
        table = table.set_column(table.column_names.index(name), name, encoded)
    return _newest_by(table.combine_chunks(), apart) if len(table) else table


def _newest_by(table: pa.Table, apart: Collection[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    group = pa.repeat(pa.scalar(0, pa.int64()), len(table))
    for name in apart:
        column = table.column(name).chunk(0)
        codes = pc.add(pc.fill_null(column.indices.cast(pa.int64()), -1), 1)
        group = pc.add(pc.multiply(group, len(column.dictionary) + 1), codes)
    txs = table.column("tx").chunk(0)
    ranks = {tx: at for at, tx in enumerate(sorted(txs.dictionary.to_pylist()))}
    rank = pa.array([ranks[tx] for tx in txs.dictionary.to_pylist()], pa.int64()).take(txs.indices)
    age = pc.add(pc.multiply(rank, _ORDER), table.column("ordinal").chunk(0).cast(pa.int64()))
    step = pc.fill_null(table.column("step").chunk(0), -1)
    rows = pa.table({"group": group, "step": step, "age": age, "at": _positions(len(table))})
    for column in ("step", "age"):
        rows = _with_greatest(rows, column)
    return table.take(rows.column("at"))


def _positions(count: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), count), start=-1)


def _with_greatest(rows: pa.Table, column: str) -> pa.Table:
    """Return the rows that have the greatest value of a column in their group."""
    import pyarrow.compute as pc

    groups = pc.dictionary_encode(rows.column("group").combine_chunks())
    codes = groups.indices if not hasattr(groups, "chunks") else groups.combine_chunks().indices
    best = rows.group_by("group").aggregate([(column, "max")])
    order = pc.index_in(groups.dictionary, best.column("group"))
    greatest = best.column(f"{column}_max").take(order).take(codes)
    return rows.filter(pc.equal(rows.column(column), greatest))


# -- files and row groups ---------------------------------------------------------------------------------------------
def _read(
    lake: Lake, fold: Fold, wanted: Wanted, columns: Collection[str], *, newest: bool = False
) -> Iterator[pa.Table]:
    """Yield the rows that are wanted, file by file, the oldest first; texts are dictionary-encoded.

    Args:
        lake: The lake.
        fold: The commit.
        wanted: Which rows.
        columns: Which of their columns.
        newest: Whether rows may be left out that are in one row group with a newer one of their series.
    """
    import pyarrow as pa

    base = folder("metrics")
    hidden = frozenset(hidden_transactions(fold))
    files = [file for file in fold.table("metrics").files.values() if _may_hold(file, wanted)]
    # files are named by time, after a digit for their tier
    paths = sorted((base + file.path for file in files), key=lambda path: path.rpartition("/")[2].partition("-")[2])
    for path, local in lake.localize(fold.commit, paths).items():
        try:
            yield from _read_file(str(local), wanted, columns, newest, hidden)
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(f"{path!r} is not what was written", hint="restore the lake from a copy") from error


def _may_hold(file: DataFile, wanted: Wanted) -> bool:
    return all(each is None or file.may_hold(name, *each) for name, each in wanted.items())


def _read_file(
    path: str, wanted: Wanted, columns: Collection[str], newest: bool, hidden: frozenset[str]
) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=True, read_dictionary=list(_TEXTS)) as file:
        position = {file.schema_arrow.field(at).name: at for at in range(len(file.schema_arrow))}
        together: dict[tuple[str, ...], list[int]] = {}
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            doubtful = _doubtful({name: group.column(position[name]) for name in wanted}, wanted)
            if doubtful is None:
                continue
            if hidden and _may_be_in(group.column(position["tx"]), hidden):
                doubtful = [*doubtful, "tx"]
            if newest and not doubtful and all(_is_constant(group.column(position[name])) for name in _TEXTS):
                yield file.read_row_group(number, columns=list(columns)).slice(_newest_of(file, number), 1)
            else:
                together.setdefault(tuple(doubtful), []).append(number)
        for names, numbers in together.items():
            table = file.read_row_groups(numbers, columns=list(dict.fromkeys([*columns, *names])))
            if names:
                table = table.filter(_mask(table, {name: wanted[name] for name in names if name != "tx"}, hidden))
            if len(table):
                yield table.select(list(columns))


def _is_constant(chunk: Any) -> bool:
    """Return whether a column has one value, or none, in all rows of a row group."""
    known = chunk.statistics
    if known is None or not known.has_null_count:
        return False
    if known.null_count == chunk.num_values:
        return True
    return bool(known.null_count == 0 and known.has_min_max and known.min == known.max)


def _newest_of(file: pq.ParquetFile, number: int) -> int:
    """Return the position of the newest row in a row group of one series and one transaction: the last largest step."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = file.read_row_group(number, columns=["step", "ordinal"])
    step = pc.fill_null(table.column("step"), -1)
    tied = pc.filter(table.column("ordinal"), pc.equal(step, pc.max(step)))
    at = pc.index(table.column("ordinal"), pc.max(tied))
    assert isinstance(at, pa.Int64Scalar)
    return int(at.as_py())


def _doubtful(chunks: Mapping[str, Any], wanted: Wanted) -> list[str] | None:
    """Return the columns that have to be looked at, by what is known of a row group; None: no row of it is wanted."""
    names = []
    for name, limits in wanted.items():
        known = chunks[name].statistics
        rows = chunks[name].num_values
        nulls = known.null_count if known is not None and known.has_null_count else None
        if nulls == rows:
            if limits is not None:
                return None
            continue
        if limits is None:
            if nulls == 0:
                return None
            names.append(name)
        elif known is None or not known.has_min_max:
            names.append(name)
        elif known.max < limits[0] or limits[1] < known.min:
            return None
        elif nulls != 0 or known.min < limits[0] or limits[1] < known.max:
            names.append(name)
    return names


def _may_be_in(chunk: Any, texts: frozenset[str]) -> bool:
    """Return whether the statistics of a row group's column leave open that it has one of some texts."""
    known = chunk.statistics
    return known is None or not known.has_min_max or any(known.min <= each <= known.max for each in texts)


def _mask(table: pa.Table, wanted: Wanted, hidden: frozenset[str]) -> Any:
    """Return which rows are wanted; `hidden` are transactions of which none is, where the table says which it is of."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mask: Any = None
    if hidden and "tx" in table.column_names:
        texts = table.column("tx").cast(pa.string())
        mask = pc.invert(pc.is_in(texts, value_set=pa.array(sorted(hidden), pa.string())))
    for name, limits in wanted.items():
        column = table.column(name)
        if limits is None:
            each = pc.is_null(column)
        else:
            texts = column.unify_dictionaries().combine_chunks()
            texts = texts.chunk(0) if isinstance(texts, pa.ChunkedArray) else texts
            values = texts.dictionary
            fits = pc.and_(pc.greater_equal(values, limits[0]), pc.less_equal(values, limits[1]))
            each = pc.fill_null(fits.take(texts.indices), False)
        mask = each if mask is None else pc.and_(mask, each)
    return mask
