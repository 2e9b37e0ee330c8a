"""Where the rows of a query go, and in which format: standard output or a file, batch by batch; knows no SQL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from headwater.cli.layout import count
from headwater.cli.output import PipeClosedError, clean, is_terminal, json_text, note, write
from headwater.errors import InvalidInputError, LakeError

if TYPE_CHECKING:
    import pyarrow as pa

    from headwater.query import Rows

__all__ = ["BINARY", "FORMATS", "print_rows", "save_rows"]

FORMATS = ("table", "json", "csv", "parquet", "arrow")
BINARY = ("parquet", "arrow")

_MOST_IN_TABLE = 1_000_000
"""Rows of a table for eyes: its columns are as wide as the widest value, so all of them are held."""


def print_rows(rows: Rows, form: str) -> int:
    """Print rows on standard output and return how many they were.

    Raises:
        click.UsageError: A binary format would go to a terminal.
        LakeError: They are too many for a table.
    """
    seen = is_terminal(sys.stdout)
    if form in BINARY:
        if seen:
            raise click.UsageError(f"{form} is not for a terminal; give --output FILE", click.get_current_context())
        try:
            return _write_binary(rows, form, getattr(sys.stdout, "buffer", sys.stdout))
        except BrokenPipeError:
            raise PipeClosedError from None
    counted = _Counted(rows.batches)
    for text in _texts(rows, counted, form):
        # A file gets the text as it is; a terminal would obey it.
        write(clean(text.removesuffix("\n")) + "\n" if seen and form == "csv" else text)
    if form == "table" and is_terminal(sys.stderr):
        note(count(counted.rows, "row"))
    return counted.rows


def save_rows(rows: Rows, form: str, output: str) -> int:
    """Write rows to a file, which is replaced as a whole, and return how many they were.

    Raises:
        LakeError: It can't be written, or the rows are too many for a table.
    """
    counted = _Counted(rows.batches)
    with _replaced(output, binary=form in BINARY) as stream:
        if form in BINARY:
            return _write_binary(rows, form, stream)
        stream.writelines(_texts(rows, counted, form))
    return counted.rows


class _Counted:
    """Batches, counted as they pass."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch


def _texts(rows: Rows, batches: _Counted, form: str) -> Iterator[str]:
    from headwater.cli.rows import csv_lines, documents

    if form == "csv":
        yield from csv_lines(rows.schema.names, batches)
    elif form == "json":
        # As `json_text` would write the whole list.
        pretty = is_terminal(sys.stdout)
        between = "["
        for batch in batches:
            for document in documents(batch):
                text = json_text(document)
                yield between + ("\n  " + text.replace("\n", "\n  ") if pretty else text)
                between = "," if pretty else ", "
        yield "[]\n" if between == "[" else "\n]\n" if pretty else "]\n"
    else:
        yield from _table(rows.schema, batches)


def _table(schema: pa.Schema, batches: _Counted) -> Iterator[str]:
    import pyarrow as pa

    from headwater.cli.rows import table_lines

    held = []
    for batch in batches:
        held.append(batch)
        if batches.rows > _MOST_IN_TABLE:
            raise LakeError(
                f"the result has more than {_MOST_IN_TABLE:,} rows, too many for a table",
                hint="add LIMIT, or use another --format, whose rows go out as they are found",
            )
    for line in table_lines(pa.Table.from_batches(held, schema)):
        yield line + "\n"


def _write_binary(rows: Rows, form: str, stream: IO[Any]) -> int:
    """Write Parquet, or Arrow's file format; for standard output, which has no end to go back to, its stream."""
    import pyarrow as pa

    written = 0
    try:
        if form == "parquet":
            import pyarrow.parquet as pq

            writer: Any = pq.ParquetWriter(pa.PythonFile(stream, mode="w"), rows.schema, compression="zstd")
        elif stream is getattr(sys.stdout, "buffer", None):
            writer = pa.ipc.new_stream(pa.PythonFile(stream, mode="w"), rows.schema)
        else:
            writer = pa.ipc.new_file(stream, rows.schema)
        with writer:
            for batch in rows.batches:
                writer.write_batch(batch)
                written += batch.num_rows
    except pa.ArrowException as error:
        raise InvalidInputError(
            f"the rows can't be written as {form}: {str(error).partition(chr(10))[0]}",
            hint="cast the column to VARCHAR in the query",
        ) from error
    return written


@contextmanager
def _replaced(output: str, *, binary: bool) -> Iterator[IO[Any]]:
    """Hold a stream beside a file, which takes its place if nothing fails."""
    place = os.path.realpath(output)
    # What is no plain file, such as /dev/stdout or a pipe, is written to, and not replaced.
    plain = not os.path.lexists(place) or os.path.isfile(place)
    beside = f"{place}.{os.getpid()}.part" if plain else place
    mode = ("x" if plain else "w") + ("b" if binary else "")
    named = {} if binary else {"encoding": "utf-8", "newline": ""}
    try:
        with open(beside, mode, **named) as stream:  # type: ignore[call-overload]
            yield stream
        if plain:
            os.replace(beside, place)
    except OSError as error:
        raise LakeError(f"{output} can't be written: {error.strerror}", hint="choose another --output") from error
    finally:
        if plain and os.path.lexists(beside):
            os.unlink(beside)
