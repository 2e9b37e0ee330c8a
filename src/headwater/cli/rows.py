"""What a query found, as JSON, CSV or a table, batch by batch: Arrow's values become plain ones; knows no models.

Times are ISO 8601 (with `Z` where they are instants), NaN and infinities the strings `NaN`, `Infinity` and
`-Infinity`, decimals numbers where a number holds them exactly and else text, binary values hexadecimal,
maps objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from headwater.errors import InvalidInputError
from headwater.model import as_json

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["csv_lines", "documents", "table_lines"]


def documents(rows: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as objects for JSON; of columns with one name the later get `_1`, `_2`."""
    names = _distinct(rows.schema.names)
    return [dict(zip(names, row, strict=True)) for row in _rows(rows)]


def csv_lines(names: Iterable[str], batches: Iterable[pa.Table | pa.RecordBatch]) -> Iterator[str]:
    """Yield the records of a CSV file as RFC 4180 has it but for the ends of lines, a header first; NULL is empty."""
    import csv
    import io

    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")

    def line(row: Iterable[str]) -> str:
        writer.writerow(row)
        text = held.getvalue()
        held.seek(0)
        held.truncate()
        return text

    yield line(names)
    for batch in batches:
        for row in _rows(batch):
            yield line(map(_text, row))


def table_lines(arrow: pa.Table) -> list[str]:
    """Return the lines of a table of all rows."""
    from headwater.cli.layout import table
    from headwater.cli.output import clean

    rows, names = _rows(arrow), arrow.schema.names
    if names == ["explain_key", "explain_value"]:
        return [clean(line) for row in rows for line in str(row[1]).splitlines()]
    numbers = [i for i, kind in enumerate(arrow.schema.types) if _is_number(kind)]
    return table(names, ([_text(value) for value in row] for row in rows), right=numbers, first=False)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind))


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _distinct(names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        chosen, number = name, 0
        while chosen in found:
            number += 1
            chosen = f"{name}_{number}"
        found.append(chosen)
    return found


def _rows(arrow: pa.Table | pa.RecordBatch) -> list[tuple[Any, ...]]:
    columns = [_values(column, name) for column, name in zip(arrow.columns, arrow.schema.names, strict=True)]
    return list(zip(*columns, strict=True))


def _values(column: pa.ChunkedArray | pa.Array, name: str) -> list[Any]:
    """Return a column's values as JSON has them."""
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = column.type
    try:
        if kinds.is_timestamp(kind):
            # Arrow's text has every digit, and years that Python's datetime lacks.
            return [None if text is None else text.replace(" ", "T") for text in column.cast(pa.string()).to_pylist()]
        if kinds.is_date(kind) or kinds.is_time(kind):
            return list(column.cast(pa.string()).to_pylist())
        return [_plain(value, kind) for value in column.to_pylist()]
    except (OverflowError, ValueError, pa.ArrowException) as error:
        raise InvalidInputError(
            f"column {name!r} has values that can't be written: {str(error).partition('. ')[0]}",
            hint="cast it to VARCHAR in the query",
        ) from error


def _plain(value: Any, kind: pa.DataType) -> Any:
    import pyarrow.types as kinds

    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return as_json(value) if value.tzinfo is not None else value.isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if kinds.is_map(kind):
        return {str(_plain(key, kind.key_type)): _plain(each, kind.item_type) for key, each in value}
    if kinds.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return [_plain(each, kind.value_type) for each in value]
    if kinds.is_interval(kind):
        months, days, nanoseconds = value
        return f"P{months}M{days}DT{nanoseconds / 1_000_000_000:.9f}".rstrip("0").rstrip(".") + "S"
    return as_json(value) if isinstance(value, float) else str(value)


def _number(value: Decimal) -> int | float | str:
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)
