"""Table formats: which files make a table, what its columns are, and how DuckDB reads them; knows no lake, no dataset.

Columns are named and typed by what the files say, never by a sample: two files with the same rows have the same types.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import InvalidInputError
from headwater.names import shown
from headwater.sqltext import identifier

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["FILES", "LABELS", "Table", "format_of", "open_table", "reason_of"]

FILES = "files"
"""The format of a folder of anything: its rows are its files."""

LABELS = {
    "parquet": "Parquet",
    "csv": "CSV",
    "json": "JSON",
    "arrow": "Arrow",
    "delta": "a Delta table",
    FILES: "files",
}
"""Formats, as a sentence names them."""

_EXTENSIONS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json",
    ".arrow": "arrow", ".arrows": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_LONGEST_HEADER = 8 << 20
_MOST_COLUMNS = 10_000
_CHECKS_AT_ONCE = 200
_WIDE = "keep many values in a column of lists"

_CSV_TYPES = {
    "BOOLEAN": "(?i)true|false",
    "BIGINT": r"-?(0|[1-9]\d{0,18})",
    "DOUBLE": r"[+-]?(\d|[1-9]\d{1,14})?(\.0*\d{0,17})?([eE][+-]?\d{1,3})?|(?i:[+-]?inf(inity)?|nan)",
    "DATE": r"\d{4}-\d\d-\d\d",
    "TIMESTAMP": r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?",
    "TIMESTAMP WITH TIME ZONE": r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)",
}
"""A column of a CSV has the first of these types that all of its values are written as; else it is text.

So `007`, a number of more than 18 digits, or a time with nanoseconds stay text, of which nothing is lost. The zeros
after the point of a small number are none of its 17 digits.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Files that are one table.

    Attributes:
        schema: Columns and their types in DuckDB's words, in order.
        attach: Makes the rows readable, once or more often, as a view of some name.
    """

    format: str
    schema: Mapping[str, str]
    attach: Callable[[DuckDBPyConnection, str], None]


def format_of(names: Sequence[str], *, single: bool) -> str:
    """Return the format that the names of files tell of; `FILES` where they are no one table.

    Files whose name, or a folder of whose path, begins with `_` or `.` don't count, as in Spark.
    """
    if not single and any(re.fullmatch(r"_delta_log/\d{20}\.json", name) for name in names):
        return "delta"
    data = [name for name in names if single or not _is_hidden(name)]
    found = {_format_of_one(name, single=single) for name in data}
    if len(found) != 1:
        return FILES
    (format_,) = found
    if format_ != "parquet" and any(map(_partitions, data)):
        return FILES
    return format_


def _is_hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def _partitions(name: str) -> list[str]:
    return [part for part in name.split("/")[:-1] if "=" in part]


def _suffixes(name: str) -> tuple[str, str]:
    """Return what a name ends in: its extension, and the one of a compression or nothing."""
    path = Path(name.lower())
    return (Path(path.stem).suffix, path.suffix) if path.suffix in _COMPRESSIONS else (path.suffix, "")


def _format_of_one(name: str, *, single: bool) -> str:
    suffix, compression = _suffixes(name)
    format_ = "json" if suffix == ".json" and single else _EXTENSIONS.get(suffix, FILES)
    return format_ if not compression or format_ in ("csv", "json") else FILES


def open_table(
    connection: DuckDBPyConnection,
    format_: str,
    files: Mapping[str, Path],
    scratch: Path,
    *,
    single: bool,
    types: Mapping[str, str] | None = None,
) -> Table | None:
    """Return the table that files make, or None where they have nothing to do with each other.

    The files of a folder are one table if one of them has every column that any has (then the others have nulls there).

    Args:
        connection: Reads what has to be read to know the types.
        format_: What `format_of` found.
        files: Absolute local paths by the name that each has in its folder.
        scratch: An empty folder of this table's own, in which the files are linked under harmless names.
        single: Whether it is a file, not a folder.
        types: The columns and types of a table that was opened before; a CSV or JSON file is read as these again.

    Raises:
        InvalidInputError: A CSV has no header.
    """
    if format_ == "delta":
        return _open_delta(connection, files, scratch)
    data = {name: path for name, path in files.items() if single or not _is_hidden(name)}
    links = [_link(scratch, number, name, path) for number, (name, path) in enumerate(sorted(data.items()))]
    return _OPENERS[format_](connection, links, types)


def _link(scratch: Path, number: int, name: str, path: Path) -> Path:
    """Link a file under a name that has an extension, keeps `k=v` folders, and can't be taken for a pattern."""
    link = scratch.joinpath(*_partitions(name), f"{number:06}{''.join(_suffixes(name))}")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path)
    return link


def _check_width(columns: int) -> None:
    if columns > _MOST_COLUMNS:
        raise InvalidInputError(
            f"it has {columns:,} columns, and {_MOST_COLUMNS:,} are allowed",
            hint=_WIDE,
        )


def _types_of(connection: DuckDBPyConnection, view: str) -> dict[str, str]:
    relation = connection.view(view)
    _check_width(len(relation.columns))
    found = zip(relation.columns, relation.types, strict=True)
    return {name: "NULL" if str(type_) == '"NULL"' else str(type_) for name, type_ in found}


def _described(
    connection: DuckDBPyConnection, format_: str, attach: Callable[[DuckDBPyConnection, str], None]
) -> Table:
    view = _fresh()
    attach(connection, view)
    return Table(format_, _types_of(connection, view), attach)


_numbers = itertools.count()


def _fresh() -> str:
    """Return the name of a view that no other table has: a temporary one would hide another's of the same name."""
    return f"described_{next(_numbers)}"


def _one_has_all(columns: Sequence[Sequence[str]]) -> bool:
    everything = {name for names in columns for name in names}
    return any(len(set(names)) == len(everything) for names in columns)


# -- Parquet, JSON, Arrow, Delta --------------------------------------------------------------------------------------
def _open_parquet(
    connection: DuckDBPyConnection, links: Sequence[Path], _types: Mapping[str, str] | None
) -> Table | None:
    import pyarrow.parquet as pq

    columns = [pq.read_schema(link).names for link in links]
    _check_width(max(map(len, columns)))
    if not _one_has_all(columns):
        return None
    partitioned = any("=" in link.parent.name for link in links)

    def attach(on: DuckDBPyConnection, view: str) -> None:
        found = on.read_parquet([str(link) for link in links], union_by_name=True, hive_partitioning=partitioned)
        found.create_view(view, replace=True)

    return _described(connection, "parquet", attach)


def _open_json(connection: DuckDBPyConnection, links: Sequence[Path], types: Mapping[str, str] | None) -> Table:
    if not any(link.stat().st_size for link in links):
        raise InvalidInputError("it is empty", hint="a JSON object on each line is needed")
    import duckdb

    layout: Any = "auto" if links[0].suffixes[:1] == [".json"] else "newline_delimited"

    def attach(on: DuckDBPyConnection, view: str, types: Mapping[str, str] | None, **options: Any) -> None:
        if types:
            options["columns"] = {n: _readable(t) for n, t in types.items()}
        # sample_size -1: the types of all rows, not of the first ones
        paths: Any = [str(link) for link in links]
        found = on.read_json(paths, format=layout, records="true", sample_size=-1, **options)
        found.create_view(view, replace=True)

    if types is None:
        view = _fresh()
        try:
            attach(connection, view, None)
        except duckdb.BinderException as error:
            if "expected records" not in str(error) or not _begins(links[0], b"{"):
                raise
            # Objects of many fields are maps to DuckDB, unless it is told how many a table may have.
            _attach_wide(lambda: attach(connection, view, None, map_inference_threshold=_MOST_COLUMNS + 1))
        types = _types_of(connection, view)
    kept = types
    return Table("json", kept, lambda on, view: attach(on, view, kept))


def _attach_wide(attach: Callable[[], None]) -> None:
    import duckdb

    try:
        attach()
    except duckdb.BinderException as error:
        if "expected records" not in str(error):
            raise
        raise InvalidInputError(f"it has more than {_MOST_COLUMNS:,} columns", hint=_WIDE) from error


def _begins(path: Path, start: bytes) -> bool:
    import pyarrow as pa

    with pa.input_stream(str(path), compression=_COMPRESSIONS.get(path.suffix)) as raw:
        return bool(raw.read(1000).lstrip().startswith(start))


def _readable(type_: str) -> str:
    # a column that is null in every row
    return "JSON" if type_ == "NULL" else type_


def _open_arrow(
    connection: DuckDBPyConnection, links: Sequence[Path], _types: Mapping[str, str] | None
) -> Table | None:
    schemas = [_arrow_batches(link)[0] for link in links]
    _check_width(len(schemas[0].names))
    if any(not schema.equals(schemas[0]) for schema in schemas):
        return None

    def attach(on: DuckDBPyConnection, view: str) -> None:
        import pyarrow as pa

        batches = (batch for link in links for batch in _arrow_batches(link)[1])
        on.register(view, pa.RecordBatchReader.from_batches(schemas[0], batches))

    return _described(connection, "arrow", attach)


def _arrow_batches(path: Path) -> tuple[Any, Iterator[Any]]:
    """Return the schema and the batches of a file in the IPC file format, or in the stream format."""
    import pyarrow as pa

    with open(path, "rb") as stream:
        magic = stream.read(6)
    if magic == b"ARROW1":
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))
    reader = pa.ipc.open_stream(pa.memory_map(str(path)))
    return reader.schema, iter(reader)


def _open_delta(connection: DuckDBPyConnection, files: Mapping[str, Path], scratch: Path) -> Table:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    for name, path in files.items():
        link = scratch / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    try:
        dataset = DeltaTable(scratch).to_pyarrow_dataset()
    except DeltaError as error:
        raise InvalidInputError(reason_of(error), hint="a version that deltalake can read is needed") from error
    _check_width(len(dataset.schema.names))

    def attach(on: DuckDBPyConnection, view: str) -> None:
        on.register(view, dataset.scanner(batch_readahead=4, fragment_readahead=1).to_reader())

    return _described(connection, "delta", attach)


# -- CSV --------------------------------------------------------------------------------------------------------------
def _open_csv(connection: DuckDBPyConnection, links: Sequence[Path], types: Mapping[str, str] | None) -> Table | None:
    headers = {link: _csv_header(link) for link in links}
    if not _one_has_all([names for _, names in headers.values()]):
        return None
    groups: dict[tuple[str, tuple[str, ...]], list[Path]] = {}
    for link, header in headers.items():
        groups.setdefault(header, []).append(link)

    def attach(on: DuckDBPyConnection, view: str, types: Mapping[str, str] = types or {}) -> None:
        parts = []
        for number, ((delimiter, names), members) in enumerate(groups.items()):
            parts.append(f"{view}_{number}")
            paths: Any = [str(link) for link in members]
            on.read_csv(
                paths,
                columns={name: types.get(name, "VARCHAR") for name in names},
                auto_detect=False, header=True, sep=delimiter, quotechar='"', escapechar='"', comment="",
                strict_mode=True, null_padding=False,
            ).create_view(parts[-1], replace=True)  # fmt: skip
        union = " UNION ALL BY NAME ".join(f"SELECT * FROM {part}" for part in parts)
        on.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {union}")

    if types is None:
        described = _fresh()
        attach(connection, described)
        types = _csv_types(connection, described, max((names for _, names in headers.values()), key=len))
    kept = types
    return Table("csv", kept, lambda on, view: attach(on, view, kept))


def _csv_header(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the delimiter and the names of the columns, which the first line of a CSV holds.

    Raises:
        InvalidInputError: There is no first line.
    """
    import pyarrow as pa

    with pa.input_stream(str(path), compression=_COMPRESSIONS.get(path.suffix)) as raw:
        first = _first_record(raw.read(_LONGEST_HEADER)).decode("utf-8-sig")
    if not first.strip():
        raise InvalidInputError("it is empty", hint="its first line has to name the columns")
    bare = re.sub(r'"(?:[^"]|"")*"', "", first)
    delimiter = "\t" if path.suffixes[0] == ".tsv" else max(",\t;|", key=bare.count)
    names = next(csv.reader(io.StringIO(first, newline=""), delimiter=delimiter))
    _check_width(len(names))
    return delimiter, tuple(_distinct(names))


def _first_record(body: bytes) -> bytes:
    lines, quotes = [], 0
    for line in body.splitlines(keepends=True):
        lines.append(line)
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            break
    return b"".join(lines)


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """Yield names that differ, also when case is ignored, as DuckDB makes them of any other format's."""
    seen: set[str] = set()
    for number, given in enumerate(names):
        name, again = given or f"column{number}", 0
        while name.lower() in seen:
            again += 1
            name = f"{given or f'column{number}'}_{again}"
        seen.add(name.lower())
        yield name


def _csv_types(connection: DuckDBPyConnection, source: str, names: Sequence[str]) -> dict[str, str]:
    """Return the type of each column of the view `source`, all text: of all of its values, not of a sample."""
    some = min(1000, 1 + 200_000 // len(names))
    sample = connection.execute(f"SELECT {', '.join(map(identifier, names))} FROM {source} LIMIT {some}").fetchall()
    # What a few rows rule out need not be asked of all. A column's first guess is asked first, all of them at once only
    # where the few rows were null.
    guesses: dict[str, list[list[str]]] = {}
    for name, values in zip(names, zip(*sample, strict=True), strict=False):
        known = [value for value in values if value is not None]
        types = [t for t, pattern in _CSV_TYPES.items() if all(re.fullmatch(pattern, v, re.ASCII) for v in known)]
        guesses[name] = [[each] for each in types] if known else [types]
    if len(names) > _CHECKS_AT_ONCE:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE texts AS FROM {source}")
        source = "texts"
    found: dict[str, str] = {}
    while asked := [(name, t) for name, rest in guesses.items() if rest and name not in found for t in rest.pop(0)]:
        for start in range(0, len(asked), _CHECKS_AT_ONCE):
            part = asked[start : start + _CHECKS_AT_ONCE]
            conditions = ", ".join(_csv_check(name, type_) for name, type_ in part)
            (answers,) = connection.execute(f"SELECT {conditions} FROM {source}").fetchall()
            for (name, type_), matches in zip(part, answers, strict=True):
                if matches:
                    found.setdefault(name, type_)
    connection.execute("DROP TABLE IF EXISTS texts")
    return {name: found.get(name, "VARCHAR") for name in names}


def _csv_check(name: str, type_: str) -> str:
    column = identifier(name)
    matches = f"regexp_full_match({column}, '{_CSV_TYPES[type_]}') AND TRY_CAST({column} AS {type_}) IS NOT NULL"
    return f"count({column}) > 0 AND count({column}) FILTER ({matches}) = count({column})"


_OPENERS: dict[str, Callable[[DuckDBPyConnection, Sequence[Path], Mapping[str, str] | None], Table | None]] = {
    "parquet": _open_parquet,
    "json": _open_json,
    "arrow": _open_arrow,
    "csv": _open_csv,
}


def reason_of(error: Exception) -> str:
    """Return a reader's many lines of complaint as one."""
    text = str(error)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    counts = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
    if line and counts:
        return f"line {line[1]} has {counts[2]} column{'s' if counts[2] != '1' else ''}, not {counts[1]}"
    if "state machine reached an invalid state" in text:
        return "its line ends are of two kinds, or a quote stands where none may"
    if "expected records" in text:
        return "its lines are not JSON objects"
    if "not utf-8" in text or isinstance(error, UnicodeDecodeError):
        return f"line {line[1]} is not UTF-8" if line else "it is not UTF-8"
    if line:
        rest = [each for each in text.splitlines()[1:] if each and not each.startswith("Original Line")]
        return f"line {line[1]}: {shown(rest[0])}" if rest else f"line {line[1]}"
    first = re.sub(r"^[A-Z]\w+( \w+)? Error: ", "", text.strip().split("\n")[0])
    first = re.sub(r"""(in |at end of |reading )?[Ff]ile ['"][^'"]*['"],? ?""", "", first)
    return re.sub(r"(?<![\w/])/[^\s'\"]*/", "", first).strip()[:200]
