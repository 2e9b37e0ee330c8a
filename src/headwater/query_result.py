"""The rows that a query found, in every form that people hold rows in; knows no lake and no SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

__all__ = ["QueryResult"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows that a query found; shows itself as a table in a notebook."""

    table: pa.Table
    files_read: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of how many files the query read rows, and how many there are, for each large table that it names."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.table.column_names)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())

    def arrow(self) -> pa.Table:
        """Return the rows as an Arrow table."""
        return self.table

    def pl(self) -> pl.DataFrame:
        """Return the rows as a polars data frame."""
        import polars

        frame = polars.from_arrow(self.table)
        assert isinstance(frame, polars.DataFrame)
        return frame

    def df(self) -> Any:
        """Return the rows as a pandas data frame; pandas must be installed."""
        return self.table.to_pandas()

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows as tuples."""
        columns = [_values(column) for column in self.table.columns]
        return list(zip(*columns, strict=True)) if columns else []

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries."""
        names = self.columns
        return [dict(zip(names, row, strict=True)) for row in self.fetchall()]

    def __repr__(self) -> str:
        return f"<QueryResult: {len(self)} rows of {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        from headwater.hypertext import MOST_ROWS, frame, table

        shown = QueryResult(self.table.slice(0, MOST_ROWS))
        return frame(table(self.columns, shown.fetchall(), total=len(self)))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values in Python; times as Arrow's `to_pylist` has them, several times faster."""
    import pyarrow as pa

    if pa.types.is_map(column.type):
        return [None if each is None else dict(each) for each in column.to_pylist()]
    if column.type != pa.timestamp("us", tz="UTC"):
        return list(column.to_pylist())
    micros = pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64()).to_pylist()
    try:
        return [None if each is None else _EPOCH + timedelta(microseconds=each) for each in micros]
    except OverflowError:
        return list(column.to_pylist())
