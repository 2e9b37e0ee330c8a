"""Reading files of predictions and of outcomes with DuckDB, in batches of one shape; knows no lake and no deployment.

Columns are known by their names; what is no column of a prediction is a feature, and the features of a row become one
JSON object. A JSON line is cut up as text, so that its features stay as they were written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.calm import calm
from headwater.canonical import identifier
from headwater.errors import InvalidInputError, LakeError, NotFoundError
from headwater.formats import LABELS, format_of, open_table, reason_of
from headwater.lake.objects import disk_errors
from headwater.model import as_json
from headwater.names import shown

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

__all__ = ["OUTCOME", "PREDICTION", "Layout", "RowFile"]

_MEMORY = "1GiB"
_BATCH = 1 << 17
_SAMPLE = 1000

PREDICTION: Mapping[str, tuple[str, ...]] = {
    "external_id": ("external_id", "id"),
    "predicted_at": ("predicted_at",),
    "output": ("output", "prediction"),
    "score": ("score",),
    "latency_ms": ("latency_ms",),
    "input": ("input",),
    "dataset": ("dataset_id", "dataset"),
    "row_key": ("row_key",),
    "deployment": ("deployment_id",),
    "version": ("version_id",),
}
"""What a column of a prediction is called in a file; the first of the names that is there."""

OUTCOME: Mapping[str, tuple[str, ...]] = {
    "prediction_id": ("prediction_id",),
    "external_id": ("external_id", "id"),
    "label": ("label",),
    "observed_at": ("observed_at",),
}
"""The same for an outcome."""

_TIMES = ("predicted_at", "observed_at")
_NUMBERS = ("score", "latency_ms")
_OBJECTS = ("input", "row_key")
_ZONED = r"\d:\d\d(:\d\d(\.\d+)?)?\s*([Zz]|[+-]\d\d(:?\d\d)?)\s*$"
_NOT_JSON = r"\b(NaN|Infinity)\b"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's columns are to be taken.

    Attributes:
        names: What columns of `PREDICTION` or `OUTCOME` are called in this file, where they are called otherwise.
        row_key: Columns that are the row's key in a dataset, and no features.
        timezone: The zone of times that say none; without it they are refused.
    """

    names: Mapping[str, str]
    row_key: Sequence[str] = ()
    timezone: str | None = None


class RowFile:
    """A file (Parquet, CSV, JSON lines, Arrow) or a table in memory, of which each row is a prediction or an outcome.

    Args:
        source: A path, an Arrow table, or a data frame that gives itself as one, as polars' does.
        known: `PREDICTION` or `OUTCOME`.
        layout: How its columns are to be taken.
        scratch: A folder to work in.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: It is a folder, or no table.
    """

    def __init__(self, source: Any, known: Mapping[str, tuple[str, ...]], layout: Layout, scratch: Path) -> None:
        self._known = known
        self._layout = layout
        self._scratch = scratch
        self._path: Path | None = None
        self._arrow: pa.Table | None = None
        self.may_lack_strictness = True
        """Whether JSON objects of `batches` may hold NaN or infinities, which JSON lacks; `strict` makes them text."""
        if isinstance(source, str | os.PathLike):
            self._path = Path(source).absolute()
            self.name = self._path.name
            self._stamp = self._status()
        else:
            self._arrow = _as_arrow(source)
            self.name = "rows in memory"
        self.digest = self._digest()

    def _status(self) -> tuple[int, ...]:
        assert self._path is not None
        try:
            status = self._path.stat()
        except OSError as error:
            raise NotFoundError(f"{shown(str(self._path))} can't be read: {error.strerror}") from None
        if not self._path.is_file():
            raise InvalidInputError(f"{shown(self.name)} is not a file", hint="log the files of a folder one by one")
        return status.st_size, status.st_mtime_ns, status.st_ino

    def _digest(self) -> str:
        if self._path is not None:
            try:
                with self._path.open("rb") as stream:
                    return hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise NotFoundError(f"{shown(str(self._path))} can't be read: {error.strerror}") from None
        import pyarrow as pa

        assert self._arrow is not None
        hashing = hashlib.sha256()
        hashing.update(self._arrow.schema.remove_metadata().to_string().encode())
        for batch in self._arrow.combine_chunks().to_batches(1 << 16):
            # A slice is written without what lies outside of it, and in one way however the table was chunked.
            hashing.update(pa.concat_batches([batch]).serialize())
        return hashing.hexdigest()

    @contextmanager
    def _connected(self) -> Iterator[tuple[DuckDBPyConnection, Path]]:
        import duckdb

        with disk_errors(self._scratch):
            self._scratch.mkdir(parents=True, exist_ok=True)
            place = tempfile.TemporaryDirectory(prefix="rows-", dir=self._scratch)
        with place as name:
            folder = Path(name).resolve()
            connection = duckdb.connect(
                config={
                    "memory_limit": _MEMORY,
                    "temp_directory": str(folder / "spill"),
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "python_enable_replacements": False,
                }
            )
            try:
                calm(connection)
                yield connection, folder
            finally:
                connection.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Make one sentence of what a reader complains about."""
        import duckdb
        import pyarrow as pa

        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise LakeError(f"{shown(self.name)} needs more memory than it may use: {reason_of(error)}") from error
        except (duckdb.Error, pa.ArrowException, UnicodeDecodeError, OSError, ValueError, RuntimeError) as error:
            if isinstance(error, InvalidInputError):
                raise
            reason = _reason(error)
            raise InvalidInputError(f"{shown(self.name)} can't be read: {reason}", hint="nothing was logged") from error

    # -- rows ---------------------------------------------------------------------------------------------------
    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows in their order, with a column for each name that is known.

        They are text, but for times, in microseconds, and `score` and `latency_ms`. Also `hash`, which two rows share
        if they have one ID.

        Raises:
            InvalidInputError: The file is not what its name says, has no rows, lacks a column, or changes meanwhile.
        """
        count = 0
        with self._connected() as (connection, place), self._reading():
            self._attach(connection, place)
            for batch in connection.sql(self._query).to_arrow_reader(_BATCH):
                count += len(batch)
                if len(batch):
                    yield batch
        if not count:
            raise InvalidInputError(f"{shown(self.name)} has no rows", hint="nothing was logged")
        if self._path is not None and self._status() != self._stamp:
            raise InvalidInputError(
                f"{shown(self.name)} changed while it was read", hint="nothing was logged: try again"
            )

    def twice(self, hashes: Sequence[int]) -> str | None:
        """Return an ID that several of the rows have whose hash is one of these, if there is one."""
        with self._connected() as (connection, place), self._reading():
            self._attach(connection, place)
            which = "external_id" if self._known is PREDICTION else "coalesce(prediction_id, external_id)"
            found = connection.sql(
                f"SELECT {which} AS id FROM ({self._query}) WHERE list_contains($hashes, hash)"
                " GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 1",
                params={"hashes": list(hashes)},
            ).fetchall()
        return str(found[0][0]) if found else None

    def _attach(self, connection: DuckDBPyConnection, place: Path) -> None:
        """Make the rows readable as `source`, and the query that reads them."""
        if self._layout.timezone is not None:
            self._check_zone(connection, self._layout.timezone)
        if self._arrow is not None:
            connection.register("source", self._arrow)
            self._query = self._typed({c: str(t) for c, t, *_ in connection.sql("DESCRIBE source").fetchall()})
            return
        assert self._path is not None
        format_ = format_of([self.name], single=True)
        if format_ not in ("parquet", "csv", "json", "arrow"):
            raise InvalidInputError(
                f"{shown(self.name)} is no table by its name", hint="Parquet, CSV or JSON lines, with such an extension"
            )
        if format_ == "json":
            self._query = self._json(connection, place)
            return
        (place / "links").mkdir()
        table = open_table(connection, format_, {self.name: self._path}, place / "links", single=True)
        if table is None:
            raise InvalidInputError(f"{shown(self.name)} is not {LABELS[format_]}")
        table.attach(connection, "source")
        self._query = self._typed(table.schema)

    def _check_zone(self, connection: DuckDBPyConnection, zone: str) -> None:
        import duckdb

        try:
            connection.execute("SELECT timezone(?, TIMESTAMP '2000-01-01')", [zone])
        except duckdb.Error:
            raise InvalidInputError(
                f"not a time zone: {shown(zone)}", hint="write UTC, or Europe/Berlin, say"
            ) from None

    def _called(self, there: Sequence[str]) -> dict[str, str]:
        """Return the columns that are there by what they are known as.

        Raises:
            InvalidInputError: One that was named is not there, or one is there that only Headwater gives.
        """
        found: dict[str, str] = {}
        for what, names in self._known.items():
            given = self._layout.names.get(what)
            if given is not None and given not in there:
                raise InvalidInputError(
                    f"{shown(self.name)} has no column {shown(given)}", hint=f"it has {_listed(there)}"
                )
            name = given if given is not None else next((each for each in names if each in there), None)
            if name is not None:
                found[what] = name
        missing = [each for each in self._layout.row_key if each not in there]
        if missing:
            raise InvalidInputError(
                f"{shown(self.name)} has no column {shown(missing[0])}", hint=f"it has {_listed(there)}"
            )
        if self._known is PREDICTION and "prediction_id" in there:
            raise InvalidInputError(
                f"{shown(self.name)} has a column prediction_id, and Headwater gives those",
                hint="call the caller's own ID external_id",
            )
        return found

    # -- columns that have types --------------------------------------------------------------------------------
    def _typed(self, types: Mapping[str, str]) -> str:
        called = self._called(list(types))
        nested = any(
            type_.endswith(("]", ")")) and not type_.startswith(("DECIMAL", "ENUM")) for type_ in types.values()
        )
        self.may_lack_strictness = nested or any(what in called for what in _OBJECTS)
        parts = {what: self._value(what, identifier(name), types[name]) for what, name in called.items()}
        if self._known is PREDICTION:
            key = [name for name in types if name in self._layout.row_key]
            if key:
                parts["row_key"] = _object({name: types[name] for name in key})
            used = {*called.values(), *key}
            features = {name: type_ for name, type_ in types.items() if name not in used}
            if features and "input" in parts:
                parts["input"] = f"CAST(json_merge_patch({parts['input']}, {_object(features)}) AS VARCHAR)"
            elif features:
                parts["input"] = _object(features)
        return f"SELECT {self._columns(parts)} FROM source"

    def _columns(self, parts: Mapping[str, str]) -> str:
        wanted = [f"{parts.get(what) or _nothing(what)} AS {what}" for what in self._known]
        named = [parts[what] for what in ("prediction_id", "external_id") if what in parts]
        external = f"coalesce({', '.join(named)})" if len(named) > 1 else named[0] if named else None
        if external is not None:
            wanted.append(f"CASE WHEN {external} IS NOT NULL THEN hash({external}) END AS hash")
        else:
            wanted.append("CAST(NULL AS UBIGINT) AS hash")
        return ", ".join(wanted)

    def _value(self, what: str, column: str, type_: str) -> str:
        if what in _TIMES:
            return self._time(what, column, type_)
        if what in _NUMBERS:
            return f"CAST({column} AS DOUBLE)"
        if what in _OBJECTS and type_ in ("VARCHAR", "JSON"):
            said = f"column {what} holds what is no JSON object".replace("'", "''")
            return f"CASE WHEN {column} IS NULL OR json_type({column}) = 'OBJECT' THEN CAST({column} AS VARCHAR) ELSE error('{said}') END"  # noqa: E501
        if what in _OBJECTS or type_.endswith("]") or type_.startswith(("STRUCT", "MAP", "UNION")):
            return f"CAST(to_json({column}) AS VARCHAR)"
        return f"CAST({column} AS VARCHAR)"

    def _time(self, what: str, column: str, type_: str) -> str:
        zone = self._layout.timezone
        local = f"timezone('{zone}', CAST({column} AS TIMESTAMP))" if zone is not None else None
        if type_ == "TIMESTAMP WITH TIME ZONE":
            return f"epoch_us({column})"
        if type_.startswith("TIMESTAMP") or type_ == "DATE":
            if local is None:
                raise InvalidInputError(
                    f"column {what} of {shown(self.name)} does not say its time zone",
                    hint="write times as 2026-11-01T12:00:00Z, or say which it is (--timezone UTC)",
                )
            return f"epoch_us({local})"
        if type_ in ("VARCHAR", "NULL"):
            said = f"column {what} does not say its time zone (--timezone UTC says that it is UTC): "
            other = local or f"CAST(error('{said}' || {column}) AS TIMESTAMPTZ)"
            return (
                f"epoch_us(CASE WHEN {column} IS NULL THEN NULL"
                f" WHEN regexp_matches({column}, '{_ZONED}') THEN CAST({column} AS TIMESTAMPTZ) ELSE {other} END)"
            )
        raise InvalidInputError(
            f"column {what} of {shown(self.name)} is {type_}, and no time", hint="write times as 2026-11-01T12:00:00Z"
        )

    # -- JSON lines ---------------------------------------------------------------------------------------------
    def _json(self, connection: DuckDBPyConnection, place: Path) -> str:
        assert self._path is not None
        suffix = "".join(self._path.suffixes[-2:] if self._path.suffix in (".gz", ".zst") else self._path.suffixes[-1:])
        link = place / f"rows{suffix}"
        link.symlink_to(self._path)
        layout = "auto" if suffix.startswith(".json") and not suffix.startswith(".jsonl") else "newline_delimited"
        connection.execute(
            "CREATE TEMP VIEW source AS SELECT json FROM"
            f" read_json_objects('{str(link).replace(chr(39), chr(39) * 2)}', format = '{layout}')"
        )
        ((found,),) = connection.execute(
            "SELECT list(DISTINCT k) FROM (SELECT unnest(json_keys(CASE WHEN json_type(json) = 'OBJECT' THEN json"
            f" ELSE error('its lines are not JSON objects') END)) AS k FROM (FROM source LIMIT {_SAMPLE}))"
        ).fetchall()
        there = sorted(found or [])
        if len(there) > 10_000:
            raise InvalidInputError(f"it has {len(there):,} columns, and 10,000 are allowed")
        called = self._called(there)
        # A column that the first rows lack may come later.
        late = {what: names[0] for what, names in self._known.items() if what not in _OBJECTS and what not in called}
        texts = {**called, **{what: name for what, name in late.items() if name not in called.values()}}
        objects = [texts.pop(what) for what in _OBJECTS if what in texts]
        key = [name for name in self._layout.row_key if name in there]
        names = list(texts)
        parts = {what: self._value(what, f"x[{number}]", "VARCHAR") for number, what in enumerate(names, 1)}
        if self._known is PREDICTION:
            gone = {name: None for name in (*texts.values(), *objects, *key)}
            rest = f"json_merge_patch(json, {_quoted(json.dumps(gone))})"
            whole = f"CASE WHEN json_type(json) = 'OBJECT' THEN {rest} ELSE error('its lines are not JSON objects') END"
            if "input" in called:
                own = f"json_extract(json, {_quoted(_pointer(called['input']))})"
                whole = f"CASE WHEN json_type({own}) = 'OBJECT' THEN json_merge_patch({own}, {rest}) WHEN {own} IS NULL OR json_type({own}) = 'NULL' THEN {whole} ELSE error('column input holds what is no JSON object') END"  # noqa: E501
            parts["input"] = f"CAST({whole} AS VARCHAR)"
            if key:
                pairs = ", ".join(f"{_quoted(name)}, json_extract(json, {_quoted(_pointer(name))})" for name in key)
                parts["row_key"] = f"CAST(json_object({pairs}) AS VARCHAR)"
            elif "row_key" in called:
                own = f"json_extract(json, {_quoted(_pointer(called['row_key']))})"
                parts["row_key"] = (
                    f"CASE WHEN json_type({own}) = 'OBJECT' THEN CAST({own} AS VARCHAR) WHEN json_type({own}) = 'NULL' THEN NULL ELSE error('column row_key holds what is no JSON object') END"  # noqa: E501
                )
        pointers = ", ".join(_quoted(_pointer(name)) for name in texts.values())
        cut = f"(SELECT json, json_extract_string(json, [{pointers}]) AS x FROM source)"
        return f"SELECT {self._columns(parts)} FROM {cut}"


def strict(texts: pa.Array) -> pa.Array:
    """Return JSON objects in which NaN and infinities, which JSON lacks, are text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    hits = pc.match_substring_regex(texts, _NOT_JSON)
    if not pc.any(hits).as_py():
        return texts
    values = texts.to_pylist()
    for number in pc.indices_nonzero(hits).to_pylist():
        values[number] = json.dumps(as_json(json.loads(values[number])), ensure_ascii=False, separators=(",", ":"))
    return pa.array(values, pa.string())


def _as_arrow(source: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    raise InvalidInputError(
        f"not a file or table: {shown(repr(source))}", hint="give a path, an Arrow table or a data frame"
    )


def _nothing(what: str) -> str:
    return f"CAST(NULL AS {'BIGINT' if what in _TIMES else 'DOUBLE' if what in _NUMBERS else 'VARCHAR'})"


def _object(columns: Mapping[str, str]) -> str:
    """Return what makes a JSON object of columns; NaN and infinities become text, row by row where there are any."""

    def pack(value: Callable[[str, str], str]) -> str:
        fields = ", ".join(f"{identifier(name)} := {value(identifier(name), type_)}" for name, type_ in columns.items())
        return f"CAST(to_json(struct_pack({fields})) AS VARCHAR)"

    quick = pack(lambda column, _: column)
    floats = {name for name, type_ in columns.items() if type_ in ("DOUBLE", "FLOAT")}
    if not floats:
        return quick

    def careful(column: str, type_: str) -> str:
        if type_ not in ("DOUBLE", "FLOAT"):
            return column
        return (
            f"CASE WHEN {column} IS NULL OR isfinite({column}) THEN to_json({column}) WHEN isnan({column})"
            f" THEN to_json('NaN') WHEN {column} > 0 THEN to_json('Infinity') ELSE to_json('-Infinity') END"
        )

    odd = " OR ".join(f"NOT isfinite({identifier(name)})" for name in floats)
    return f"CASE WHEN {odd} THEN {pack(careful)} ELSE {quick} END"


def _pointer(name: str) -> str:
    """Return a key as DuckDB's path of JSON.

    Raises:
        InvalidInputError: It can't be one.
    """
    if '"' in name or "\\" in name:
        raise InvalidInputError(f"not a column that can be named: {shown(name)}", hint="it has a quote or a backslash")
    return f'$."{name}"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _reason(error: Exception) -> str:
    text = reason_of(error)
    number = re.search(r"Could not convert string '([^']*)' to (DOUBLE|TIMESTAMP)", str(error))
    if number:
        return f"{shown(number[1])} is not a {'number' if number[2] == 'DOUBLE' else 'time'}"
    if "Malformed JSON" in text:
        return "it holds what is not JSON"
    return text
