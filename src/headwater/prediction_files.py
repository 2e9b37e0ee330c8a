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
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.calm import connect
from headwater.errors import InvalidInputError, LakeError, NotFoundError
from headwater.formats import LABELS, format_of, open_table, reason_of
from headwater.lake.objects import disk_errors
from headwater.model import as_json
from headwater.names import shown
from headwater.prediction_columns import PREDICTION, SAMPLE, Columns, Layout
from headwater.sqltext import literal

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

__all__ = ["RowFile", "strict"]

_MEMORY = "1GiB"
_BATCH = 1 << 17
_NOT_JSON = r"\b(NaN|Infinity)\b"


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
        if isinstance(source, str | os.PathLike):
            self._path = Path(source).absolute()
            self.name = self._path.name
            self._stamp = self._status()
        else:
            self._arrow = _as_arrow(source)
            self.name = "rows in memory"
        self.digest = self._digest()
        self._columns = Columns(self.name, known, layout)

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

        with disk_errors(self._scratch):
            self._scratch.mkdir(parents=True, exist_ok=True)
            place = tempfile.TemporaryDirectory(prefix="rows-", dir=self._scratch)
        with place as name:
            folder = Path(name).resolve()
            connection = connect(memory_limit=_MEMORY, temp_directory=str(folder / "spill"))
            try:
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

    @property
    def may_lack_strictness(self) -> bool:
        """Whether JSON objects of `batches` may hold NaN or infinities, which JSON lacks; `strict` makes them text."""
        return self._columns.may_lack_strictness

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
            self._query = self._columns.typed({c: str(t) for c, t, *_ in connection.sql("DESCRIBE source").fetchall()})
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
        self._query = self._columns.typed(table.schema)

    def _check_zone(self, connection: DuckDBPyConnection, zone: str) -> None:
        import duckdb

        try:
            connection.execute("SELECT timezone(?, TIMESTAMP '2000-01-01')", [zone]).fetchall()
        except duckdb.Error:
            raise InvalidInputError(
                f"not a time zone: {shown(zone)}", hint="write UTC, or Europe/Berlin, say"
            ) from None

    def _json(self, connection: DuckDBPyConnection, place: Path) -> str:
        assert self._path is not None
        suffix = "".join(self._path.suffixes[-2:] if self._path.suffix in (".gz", ".zst") else self._path.suffixes[-1:])
        link = place / f"rows{suffix}"
        link.symlink_to(self._path)
        layout = "auto" if suffix.startswith(".json") and not suffix.startswith(".jsonl") else "newline_delimited"
        connection.execute(
            f"CREATE TEMP VIEW source AS SELECT json FROM read_json_objects({literal(link)}, format = '{layout}')"
        )
        ((found,),) = connection.execute(
            "SELECT list(DISTINCT k) FROM (SELECT unnest(json_keys(CASE WHEN json_type(json) = 'OBJECT' THEN json"
            f" ELSE error('its lines are not JSON objects') END)) AS k FROM (FROM source LIMIT {SAMPLE}))"
        ).fetchall()
        there = sorted(found or [])
        if len(there) > 10_000:
            raise InvalidInputError(f"it has {len(there):,} columns, and 10,000 are allowed")
        return self._columns.lines(there)


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


def _reason(error: Exception) -> str:
    text = reason_of(error)
    number = re.search(r"Could not convert string '([^']*)' to (DOUBLE|TIMESTAMP)", str(error))
    if number:
        return f"{shown(number[1])} is not a {'number' if number[2] == 'DOUBLE' else 'time'}"
    if "Malformed JSON" in text:
        return "it holds what is not JSON"
    return text
