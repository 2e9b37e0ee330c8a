"""Delta tables as grow-only sets of rows on a lake: create, append, compact, checkpoint, read; no meaning of rows.

A table lies under `tables/NAME/`: `_delta_log/` and data files `<x>/<tier>-<uuid>.parquet`, where x is the last hex
digit of the UUID (a UUIDv7 begins with the time, so its end spreads). Appends make files of a low tier; when one tier
has `FAN_IN` files they become one file of the next, so the number of live files stays logarithmic in the appends.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.deltalog import (
    CHECKPOINT_EVERY,
    DataFile,
    TableFiles,
    added,
    data_file,
    entry,
    log_path,
    log_version,
    removed,
    replay,
)
from headwater.errors import IntegrityError
from headwater.ids import from_micros, new_id
from headwater.lake.base import Lake
from headwater.lake.objects import disk_errors
from headwater.schema import TABLES, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FAN_IN",
    "Append",
    "DataBody",
    "adds",
    "bulk_rows",
    "encode",
    "folder",
    "load",
    "prepare",
    "read",
    "rows",
    "scratch",
    "sweep",
]

FAN_IN = 32
"""Files of one tier that become one file of the next."""

_TOP_TIER = 4
_COMPACT_UP_TO = 64 << 20
_FULL = 16 << 20
"""Bytes of a file that is large enough, whatever its rows."""

_LONGEST_STATISTIC = 64
_FEW = 64
"""Up to so many rows are looked through in Python: calling Arrow's functions, or importing them, takes longer."""

_FORSAKEN = 24 * 3600
"""Seconds after which a scratch folder is taken for one that a killed process has left."""

_SCRATCH = "scratch"

Row = Mapping[str, Any]


def folder(table: str) -> str:
    """Return the folder of a table in the lake, with a `/` at its end."""
    return f"tables/{table}/"


def prepare() -> None:
    """Import what reading and writing rows takes, which is more work than most of what is then done with it."""
    import pyarrow as pa
    import pyarrow.parquet

    # Arrow imports pandas, where it is installed, when it is given the first list.
    pa.array([""])


# -- reading ----------------------------------------------------------------------------------------------------------
def load(lake: Lake, commit: str, table: str, known: TableFiles | None = None) -> TableFiles:
    """Return what a table consists of at a commit.

    Args:
        lake: Where it is.
        commit: A commit ID.
        table: A name of `schema.TABLES`.
        known: The table at an ancestor of the commit whose log this one extends, if there is one.

    Raises:
        IntegrityError: The log has a hole, or an entry that cannot be read.
    """
    base = folder(table)
    entries: dict[int, str] = {}
    checkpoint = -1
    for info in lake.list(commit, f"{base}_delta_log/"):
        version = log_version(info.path)
        if version is not None:
            entries[version] = info.path
        elif info.path.endswith(".checkpoint.parquet"):
            checkpoint = max(checkpoint, int(info.path.rpartition("/")[2].partition(".")[0]))
    if not entries and checkpoint < 0:
        return TableFiles()
    if known is not None and known.version >= checkpoint:
        found = TableFiles(known.version, checkpoint, dict(known.files))
    elif checkpoint >= 0:
        found = TableFiles(checkpoint, checkpoint, _checkpoint_files(lake, commit, table, checkpoint))
    else:
        found = TableFiles()
    wanted = {version: path for version, path in sorted(entries.items()) if version > found.version}
    bodies = lake.read_many(commit, wanted.values())
    for version, path in wanted.items():
        replay(found, version, bodies[path], f"table {table!r}", TABLES[table].prune)
    return found


def _checkpoint_files(lake: Lake, commit: str, table: str, version: int) -> dict[str, DataFile]:
    path = folder(table) + log_path(version, "checkpoint.parquet")
    try:
        return {name: data_file(add, TABLES[table].prune) for name, add in _checkpoint_adds(lake, commit, path).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"checkpoint {path!r} is not what was written", hint="restore it from a copy") from error


def _checkpoint_adds(lake: Lake, commit: str, path: str) -> dict[str, Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        adds = pq.ParquetFile(pa.BufferReader(lake.read(commit, path))).read(["add"]).column("add").to_pylist()
        return {add["path"]: add for add in adds if add is not None}
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"checkpoint {path!r} is not what was written", hint="restore it from a copy") from error


def adds(
    lake: Lake, commit: str, table: str, entries: Iterable[str], wanted: Iterable[str]
) -> dict[str, Mapping[str, Any]]:
    """Return what a table's log says of data files: the `add` actions that name them, by path.

    Args:
        lake: Where it is.
        commit: A commit ID.
        table: A name of `schema.TABLES`.
        entries: Paths of log files under the table's folder that are looked at first: all that a base of it lacks.
        wanted: The data files, as paths under the table's folder, that are there and that the base lacks; those that
            the log does not name are left out.

    Raises:
        IntegrityError: The log cannot be read, has a hole, or names a data file that is not there.
    """
    base, entries, wanted = folder(table), list(entries), set(wanted)
    first = [base + path for path in entries if log_version(path) is not None]
    found, gone = _adds(lake, commit, first)
    if len(first) == len(entries) and found.keys() - gone == wanted:
        return found
    # Files that the entries don't name, or names of files that are no news: the log is looked at as a whole.
    there = {info.path for info in lake.list(commit, base)}
    newest = max((path for path in there if path.endswith(".checkpoint.parquet")), default=None)
    versions = {path: version for path in there if (version := log_version(path)) is not None}
    after = -1
    if newest is not None:
        found |= _checkpoint_adds(lake, commit, newest)
        after = int(newest.rpartition("/")[2].partition(".")[0])
    last = max((*versions.values(), after))
    if holes := set(range(after + 1, last + 1)) - set(versions.values()):
        raise IntegrityError(
            f"the log of table {table!r} has no version {min(holes)}", hint="restore the lake from a copy"
        )
    if not found.keys() >= wanted:
        rest = [path for path, version in versions.items() if path not in first and version > after]
        more, less = _adds(lake, commit, rest)
        found, gone = found | more, gone | less
    if missing := [path for path in found.keys() - gone if base + path not in there]:
        raise IntegrityError(
            f"table {table!r} names {min(missing)!r}, which is not there", hint="restore the lake from a copy"
        )
    return found


def _adds(lake: Lake, commit: str, entries: list[str]) -> tuple[dict[str, Mapping[str, Any]], set[str]]:
    """Return the files that log entries add, by path, and the paths of those that they take out."""
    found: dict[str, Mapping[str, Any]] = {}
    gone: set[str] = set()
    for path, body in lake.read_many(commit, entries).items():
        found |= added(body, path)
        if b'"remove"' in body:
            gone |= removed(body, path)
    return found, gone


def read(lake: Lake, commit: str, table: str, paths: Iterable[str], columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of some data files of a table as Arrow, in the table's schema.

    Args:
        lake: Where it is.
        commit: A commit ID.
        table: A name of `schema.TABLES`.
        paths: The data files, as paths under the table's folder.
        columns: The columns that are wanted, in the table's order; by default all of them.

    Raises:
        IntegrityError: A file is missing or cannot be read.
    """
    import pyarrow as pa

    schema = arrow_schema(table)
    if columns is not None:
        schema = pa.schema([each for each in schema if each.name in columns])
    base = folder(table)
    bodies = lake.read_many(commit, [base + path for path in paths])
    parts = []
    for path, body in bodies.items():
        try:
            part = _parquet(body, columns)
        except pa.ArrowException as error:
            raise IntegrityError(f"{path!r} is not what was written", hint="restore the lake from a copy") from error
        parts.append(_conform(part, schema))
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _parquet(body: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file; `read_table` would do it too, and import `pyarrow.dataset` and pandas first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(body)).read(columns, use_threads=False)


def _conform(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table in today's schema: columns that an older Headwater did not write are null."""
    import pyarrow as pa

    columns = []
    for each in schema:
        column = part.column(each.name) if each.name in part.column_names else pa.nulls(len(part), each.type)
        # A cast imports `pyarrow.compute`, which takes longer than all the rest of a cold resolve.
        columns.append(column if column.type == each.type else column.cast(each.type))
    return pa.Table.from_arrays(columns, schema=schema)


def rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield Arrow rows as plain dictionaries: times in microseconds, maps as dictionaries."""
    import pyarrow as pa

    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_timestamp(column.type):
            column = pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())
        values = column.to_pylist()
        if pa.types.is_map(column.type):
            values = [dict(value) if value is not None else None for value in values]
        columns[name] = values
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


# -- scratch folders --------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """Make a folder of a lake's cache for a moment, so that what a killed process leaves is found and swept.

    Args:
        beside: The lake's cache.

    Raises:
        LakeError: The disk can't be written.
    """
    import tempfile

    home = beside / _SCRATCH
    with disk_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="delta-", dir=home))
    try:
        with disk_errors(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(beside: Path, now: float) -> int:
    """Delete the scratch folders that killed processes left in a cache, and return how many there were.

    Args:
        beside: The lake's cache.
        now: Seconds since 1970-01-01 UTC; what was made in the day before is left alone.
    """
    swept = 0
    for folder in (beside / _SCRATCH).glob("delta-*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_mtime < now - _FORSAKEN:
                shutil.rmtree(folder)
                swept += 1
    return swept


# -- writing ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class DataBody:
    """A new data file of a table: its path under the table's folder, its bytes, and the log's statistics of it.

    The bytes are empty once they are in the lake.
    """

    path: str
    body: bytes
    size: int
    statistics: Mapping[str, Any]


def encode(table: str, arrow: pa.Table, tier: int | None = None, *, data: list[Row] | None = None) -> DataBody:
    """Return rows of a table (of one or more) as a new data file.

    Args:
        table: A name of `schema.TABLES`.
        arrow: Rows with every column; a column may be dictionary-encoded.
        tier: The file's compaction tier; by default as the number of rows has it.
        data: The same rows as they were given, where they were not Arrow's; a few are faster to look through so.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if tier is None:
        tier = min(_TOP_TIER, int(math.log(max(1, len(arrow)), FAN_IN)))
    name = new_id()
    out = pa.BufferOutputStream()
    large = len(arrow) > 1000
    options: dict[str, Any] = {}
    counters = {each: "DELTA_BINARY_PACKED" for each in _COUNTERS if each in arrow.column_names}
    sought = [each for each in _SOUGHT if each in arrow.column_names and arrow.column(each).null_count < len(arrow)]
    if large and sought:
        # What a row group lacks is known without reading it, also where values have no order.
        options["bloom_filter_options"] = {each: {"ndv": TABLES[table].row_group} for each in sought}
    pq.write_table(
        arrow,
        out,
        compression=_compression(arrow) if large else "none",
        use_dictionary=_repetitive(arrow) if large else False,
        column_encoding=counters if large else None,
        row_group_size=TABLES[table].row_group,
        store_schema=False,
        **options,
    )
    body = out.getvalue().to_pybytes()
    return DataBody(f"{name[-1]}/{tier}-{name}.parquet", body, len(body), _statistics(arrow, data))


class Append:
    """Everything that appending rows to one table puts into and takes out of the lake.

    Attributes:
        table: The table's name.
        puts: Bytes by path.
        deletes: Paths.
        files: What the table consists of afterwards.
        added: Paths of data files that it did not have before.

    Args:
        lake: Where the table is.
        commit: The commit that `before` describes.
        table: A name of `schema.TABLES`.
        before: What the table consists of; empty if it is not there yet, and then it is made.
        data: Rows with every column of the table, times in microseconds; none where the table is only to be made. Or
            an Arrow table of its columns, where a column may be dictionary-encoded.
        micros: When, for the log.
        stored: Data files that are in the lake already, made by `encode`; the log only has to name them.
    """

    def __init__(
        self,
        lake: Lake,
        commit: str,
        table: str,
        before: TableFiles,
        data: list[Row] | pa.Table,
        micros: int,
        stored: Sequence[DataBody] = (),
    ) -> None:
        self.table = table
        self.puts: dict[str, bytes] = {}
        self.deletes: list[str] = []
        self.files = TableFiles(before.version, before.checkpoint, dict(before.files))
        self.added: list[str] = []
        self._lake = lake
        self._commit = commit
        self._base = folder(table)
        self._micros = micros
        self._bodies: dict[str, bytes] = {}
        self._statistics: dict[str, Mapping[str, Any]] = {}
        if before.version < 0:
            self._log("CREATE TABLE", extra=_create_actions(table, lake.cache))
        arrow = _to_arrow(table, data) if isinstance(data, list) else data
        if not len(arrow) and not stored:
            return
        self._uploaded = {each.path for each in stored}
        added = [self._note(each) for each in stored]
        if len(arrow):
            body = encode(table, arrow, data=data if isinstance(data, list) else None)
            added.append(self._note(body))
            self._bodies[body.path] = self.puts[self._base + body.path] = body.body
        self._log("WRITE", add=added)
        self._compact()
        # At most one checkpoint in one transaction, at its last version: that one is enough for readers.
        if self.files.version - max(self.files.checkpoint, 0) >= CHECKPOINT_EVERY:
            self._checkpoint()

    def _note(self, body: DataBody) -> DataFile:
        """Note a data file that becomes a part of the table."""
        self._statistics[body.path] = body.statistics
        self.added.append(body.path)
        stats = json.dumps(body.statistics)
        return data_file({"path": body.path, "size": body.size, "stats": stats}, TABLES[self.table].prune)

    def _log(
        self,
        operation: str,
        *,
        add: Iterable[DataFile] = (),
        remove: Iterable[DataFile] = (),
        data_change: bool = True,
        extra: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        body = entry(
            operation,
            self._micros,
            add=[(file, self._statistics[file.path]) for file in add],
            remove=remove,
            data_change=data_change,
            extra=extra,
        )
        version = self.files.version + 1
        self.puts[self._base + log_path(version)] = body
        replay(self.files, version, body, f"table {self.table!r}", TABLES[self.table].prune)

    def _compact(self) -> None:
        import pyarrow as pa

        for tier in range(_TOP_TIER):
            # What was uploaded for this transaction is not at the commit that the others are read at.
            small = [
                file
                for file in self.files.files.values()
                if file.tier == tier and file.size < _FULL and file.path not in self._uploaded
            ]
            if len(small) < FAN_IN:
                continue
            # In the order of what is looked up, so that ranges of row groups go on telling where it is.
            small.sort(key=self._least)
            total = 0
            for count, file in enumerate(small):
                total += file.size
                if total > _COMPACT_UP_TO:
                    small = small[:count]
                    break
            stored = [file.path for file in small if file.path not in self._bodies]
            own = [self._bodies[file.path] for file in small if file.path in self._bodies]
            schema = arrow_schema(self.table)
            parts = [
                read(self._lake, self._commit, self.table, stored),
                *(_conform(_parquet(each), schema) for each in own),
            ]
            body = encode(self.table, pa.concat_tables(parts), tier + 1)
            self._bodies[body.path] = self.puts[self._base + body.path] = body.body
            self._log("OPTIMIZE", add=[self._note(body)], remove=small, data_change=False)
            for file in small:
                if self._bodies.pop(file.path, None) is None:
                    self.deletes.append(self._base + file.path)
                else:
                    # Written and compacted in one transaction: nobody will ever look for it.
                    del self.puts[self._base + file.path]
                    self.added.remove(file.path)

    def _least(self, file: DataFile) -> str:
        prune = TABLES[self.table].prune
        known = (file.ranges or {}).get(prune[0]) if prune else None
        return str(known[0]) if known else ""

    def _checkpoint(self) -> None:
        """Let `deltalake` write a checkpoint in a scratch folder that holds the log alone, and take its files."""
        from deltalake import DeltaTable

        prefix = f"{self._base}_delta_log/"
        stored = [info.path for info in self._lake.list(self._commit, prefix)]
        bodies = self._lake.read_many(self._commit, stored) | {
            path: body for path, body in self.puts.items() if path.startswith(prefix)
        }
        with scratch(self._lake.cache) as beside:
            log = beside / "_delta_log"
            log.mkdir()
            for path, body in bodies.items():
                (log / path.removeprefix(prefix)).write_bytes(body)
            try:
                DeltaTable(str(beside)).create_checkpoint()
            except BaseException as error:
                # After a fork deltalake panics. A checkpoint only saves readers time; the next append tries again.
                if type(error).__name__ != "PanicException":
                    raise
                return
            for made in log.iterdir():
                if made.name == "_last_checkpoint" or ("checkpoint" in made.name and prefix + made.name not in bodies):
                    self.puts[prefix + made.name] = made.read_bytes()
        self.files.checkpoint = self.files.version
        newest = log_path(self.files.version)
        for path in stored:
            if not path.endswith(("_last_checkpoint", newest)):
                self.deletes.append(path)
        for path in [each for each in self.puts if each.startswith(prefix) and each.endswith(".json")]:
            if not path.endswith(newest):
                del self.puts[path]


_created: dict[str, tuple[Mapping[str, Any], ...]] = {}


def _create_actions(table: str, beside: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the `protocol` and `metaData` actions that `deltalake` writes for a new table; asked for them once."""
    if table not in _created:
        _created[table] = _made_actions(table, beside)
    return _created[table]


def _made_actions(table: str, beside: Path) -> tuple[Mapping[str, Any], ...]:
    from deltalake import DeltaTable

    with scratch(beside) as place:
        DeltaTable.create(
            str(place),
            schema=arrow_schema(table),
            name=table,
            description=TABLES[table].meaning,
            configuration={"delta.appendOnly": "true"},
        )
        lines = (place / log_path(0)).read_text().splitlines()
    actions = [json.loads(line) for line in lines]
    return tuple(action for action in actions if "commitInfo" not in action)


def bulk_rows(table: str, columns: Mapping[str, pa.Array], tx: str, micros: int, actor: str) -> pa.Table:
    """Return rows of a table with the columns that all tables have, whose one value is written once.

    Args:
        table: A name of `schema.TABLES`.
        columns: Arrays of one length by name; columns of the table that are not given are null.
        tx: The transaction.
        micros: When, in microseconds since 1970-01-01 UTC.
        actor: Who acts.
    """
    import pyarrow as pa

    schema = arrow_schema(table)
    count = len(next(iter(columns.values())))
    indices = pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(bytes(4 * count))])

    def constant(value: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))

    same = {"tx": constant(tx), "actor": constant(actor)}
    same["recorded_at"] = pa.repeat(pa.scalar(micros, pa.int64()), count).cast(pa.timestamp("us", tz="UTC"))
    arrays = []
    fields = []
    for each in schema:
        array = same[each.name] if each.name in same else columns.get(each.name)
        arrays.append(pa.nulls(count, each.type) if array is None else array)
        # Parquet takes from here what may be null; a dictionary is only how values are held on the way.
        fields.append(pa.field(each.name, arrays[-1].type, each.nullable))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _to_arrow(table: str, data: list[Row]) -> pa.Table:
    import pyarrow as pa

    schema = arrow_schema(table)
    columns = []
    for each in schema:
        values: list[Any] = [row[each.name] for row in data]
        if all(value is None for value in values):
            columns.append(pa.nulls(len(values), each.type))
        elif pa.types.is_timestamp(each.type):
            columns.append(pa.array(values, pa.int64()).view(each.type))
        elif pa.types.is_map(each.type):
            columns.append(pa.array([list(value.items()) for value in values], each.type))
        else:
            columns.append(pa.array(values, each.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _statistics(arrow: pa.Table, data: list[Row] | None = None) -> dict[str, Any]:
    """Return Delta statistics: rows, nulls, and the range of each column whose range JSON can write.

    Args:
        arrow: The rows.
        data: The same rows as they were given, if they were; few are looked through in less time than Arrow needs.
    """
    import pyarrow as pa

    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    count = len(arrow)
    for each, column in zip(arrow.schema, arrow.columns, strict=True):
        if pa.types.is_nested(each.type):
            continue
        is_time = pa.types.is_timestamp(each.type)
        if data is not None and count <= _FEW:
            values = [value for row in data if (value := row[each.name]) is not None]
        elif column.null_count == count:
            values = []
        else:
            if is_time:
                column = pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())
            elif pa.types.is_dictionary(each.type):
                column = pa.chunked_array([chunk.dictionary for chunk in column.chunks], each.type.value_type)
            values = _bounds(column)
        nulls[each.name] = count - len(values) if data is not None and count <= _FEW else column.null_count
        if not values:
            continue
        if pa.types.is_floating(each.type) and not all(map(math.isfinite, values)):
            continue
        least, most = min(values), max(values)
        if is_time:
            # To the millisecond, as the format says, and outwards, so that no row falls out of the range.
            least = _iso(least - least % 1000)
            most = _iso(most + -most % 1000)
        elif isinstance(least, str) and (len(least) > _LONGEST_STATISTIC or len(most) > _LONGEST_STATISTIC):
            continue
        low[each.name], high[each.name] = least, most
    return {"numRecords": count, "minValues": low, "maxValues": high, "nullCount": nulls}


def _bounds(column: pa.ChunkedArray) -> list[Any]:
    """Return the least and the greatest value of a column that has one; NaN where NaN is among them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
        return [math.nan]
    bounds = pc.min_max(column)
    return [bounds["min"].as_py(), bounds["max"].as_py()]


_DISTINCT = frozenset({"prediction_id", "external_id", "input", "row_key", "value", "step", "ordinal"})
_SOUGHT = ("external_id",)
"""Columns whose values are looked up one by one and come in no order: large files have Bloom filters of them."""

"""Columns whose values hardly repeat: a dictionary of them would only cost time."""

_COUNTERS = frozenset({"step", "ordinal"})
"""Columns that mostly count up: their differences take next to no room, and no time."""

_NOISE = frozenset({"value"})
"""Columns that hardly compress, where they are floating-point numbers."""


def _compression(arrow: pa.Table) -> str | dict[str, str]:
    """Return how the columns of a large table are compressed."""
    import pyarrow as pa

    noise = {each.name for each in arrow.schema if each.name in _NOISE and pa.types.is_floating(each.type)}
    return {name: "none" if name in noise else "zstd" for name in arrow.column_names} if noise else "zstd"


def _repetitive(arrow: pa.Table) -> list[str]:
    """Return the leaves of the columns that are worth a dictionary; Parquet calls the items of lists by other names."""
    import pyarrow as pa

    return [each.name for each in arrow.schema if each.name not in _DISTINCT and not pa.types.is_nested(each.type)]


def _iso(micros: int) -> str:
    return from_micros(micros).strftime("%Y-%m-%dT%H:%M:%S.") + f"{micros // 1000 % 1000:03}Z"
