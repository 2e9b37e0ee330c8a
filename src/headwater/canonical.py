"""A row as text that is the same for the same values and for no others, as SQL of DuckDB; knows no files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwater.sqltext import identifier

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

__all__ = ["common_type", "hashes", "printable", "row_text", "summaries"]

_LONGEST_VALUE = 200
_NUMBERS = {"tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"}
_PLAIN = _NUMBERS | {
    "hugeint", "uhugeint", "decimal", "boolean", "uuid", "interval", "date", "time", "time_ns", "time with time zone",
    "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone", "timestamptz_ns",
}  # fmt: skip
_AS_THEY_ARE = _NUMBERS | {"float", "double", "boolean"}
_WHOLE = _NUMBERS | {"hugeint", "uhugeint"}
_TIMES = {"date", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"}


def row_text(columns: Sequence[str], types: Mapping[str, DuckDBPyType]) -> str:
    """Return the SQL of a row's canonical text: that of each of the columns, in this order."""
    parts = [part for name in columns for part in _canonical(identifier(name), types[name])]
    return f"concat({', '.join(parts)})"


def _canonical(value: str, type_: DuckDBPyType, depth: int = 0) -> list[str]:
    """Return the SQL of texts that, one after another, tell a value from any other of its type, and where it ends.

    Numbers and times are as DuckDB prints them (times with a zone in UTC), text has its length and `:` before it, and
    `;` ends each; a null has nothing before the `;` (to `concat` it is an empty text). Lists and structs are in
    brackets; maps are sorted by key.
    """
    kind, children = type_.id.lower(), _children(type_)
    if kind in ("float", "double"):
        # a sum has no negative zero; a NaN may have a sign, which means nothing
        return [f"CASE WHEN isnan({value}) THEN 'nan' ELSE ({value} + 0::{type_})::VARCHAR END", "';'"]
    if kind in _PLAIN:
        return [value, "';'"]
    if kind == "blob":
        return [f"md5({value})", "';'"]
    if kind in ("list", "array", "map"):
        element = f"v{depth}"
        if kind == "map":
            (_, key_type), (_, value_type) = children
            items = f"list_sort(map_entries({value}))"
            parts = _canonical(f"{element}.key", key_type, depth + 1)
            parts += _canonical(f"{element}.value", value_type, depth + 1)
        else:
            child = children[0][1]
            items = f"{value}::{child}[]" if kind == "array" else value
            parts = _canonical(element, child, depth + 1)
        texts = f"list_transform({items}, lambda {element}: concat({', '.join(parts)}))"
        return [f"CASE WHEN {value} IS NULL THEN ';' ELSE concat('[', array_to_string({texts}, ''), ']') END"]
    if kind == "struct":
        parts = [part for n, t in children for part in _canonical(f"{value}.{identifier(n)}", t, depth)]
        return [f"CASE WHEN {value} IS NULL THEN ';' ELSE concat('{{', {', '.join(parts)}, '}}') END"]
    return [f"strlen({value}::VARCHAR)", "':'", f"{value}::VARCHAR", "';'"]


def _children(type_: DuckDBPyType) -> Any:
    return type_.children if type_.id.lower() in ("list", "array", "map", "struct") else ()


def printable(value: str, type_: DuckDBPyType) -> str:
    """Return the SQL of a value as a number, a truth value or a text that is not long."""
    if type_.id.lower() in _AS_THEY_ARE:
        return value
    return f"left({value}::VARCHAR, {_LONGEST_VALUE})"


def summaries(value: str, type_: DuckDBPyType) -> list[tuple[str, str]]:
    """Return what a profile tells of a column and the SQL of each; `values` is how many there are that are not null."""
    kind = type_.id.lower()
    found = [("values", f"count({value})")]
    if kind in ("list", "array", "map", "struct", "union", "variant", "blob", "bit", "null", '"null"'):
        return found
    some = ""
    if kind in ("float", "double"):
        some = f" FILTER (NOT isnan({value}))"
        found.append(("nans", f"count(*) FILTER (isnan({value}))"))
    found += [(name, printable(f"({name}({value}){some})", type_)) for name in ("min", "max")]
    return [*found, ("approx_distinct", f"approx_count_distinct({value})")]


def common_type(left: str, right: str) -> str:
    """Return the type as which the values of two types can be compared: numbers, times, or else text."""
    kinds = {re.sub(r"\(.*\)", "", each).lower() for each in (left, right)}
    if kinds <= _WHOLE:
        return "VARCHAR"
    if kinds <= _WHOLE | {"decimal", "float", "double"}:
        return "DOUBLE"
    return "TIMESTAMP" if kinds <= _TIMES else "VARCHAR"


def hashes(values: Sequence[int]) -> str:
    """Return hashes as a list in SQL; a bind parameter can't hold one without loss."""
    return ", ".join(f"'{value}'::UHUGEINT" for value in values)
