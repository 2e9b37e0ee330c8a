"""Which files of a table a query may need: the filters that DuckDB's planner pushes into scans, against file ranges.

The query is planned over stand-ins without rows, whose columns are called `TABLE.COLUMN`; so each scan in the plan says
which table it is of. A filter that is not understood excludes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headwater.deltalog import DataFile

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["NOT_HERE", "scans", "stand_in"]

NOT_HERE = "headwater: these rows were not brought"
"""What a stand-in says when it is read after all."""

Predicate = Callable[[DataFile], bool]


def stand_in(name: str, schema: pa.Schema) -> Any:
    """Return a dataset that a query can be planned over and that raises when it is read.

    Args:
        name: What `scans` calls it; each column is called `name.column`.
        schema: Its columns.
    """
    import pyarrow as pa
    import pyarrow.dataset
    import pyarrow.fs

    class StandIn(pyarrow.dataset.FileSystemDataset):  # type: ignore[misc]
        def scanner(self, *_: object, **__: object) -> Any:
            raise RuntimeError(NOT_HERE)

    columns = pa.schema([pa.field(f"{name}.{each.name}", each.type) for each in schema])
    return StandIn([], columns, pyarrow.dataset.ParquetFileFormat(), pyarrow.fs.LocalFileSystem())


def scans(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object] | Sequence[object]
) -> dict[str, Predicate]:
    """Plan a query and return, for each stand-in that it reads, whether a file may hold rows that it needs.

    Args:
        connection: Where the stand-ins are.
        query: One SELECT.
        parameters: Its parameters.
    """
    explained = connection.execute(f"EXPLAIN (FORMAT json) {query}", parameters or None).fetchall()
    found: dict[str, list[Predicate]] = {}
    for info in _infos(json.loads(explained[0][1])):
        names = _texts(info.get("Projections"))
        if names and names[0].count(".") >= 2 and info.get("Function") == "PYTHON_ARROW_SCAN":
            name = names[0].rpartition(".")[0]
            filters = [_predicate(_parsed(connection, text), name) for text in _texts(info.get("Filters"))]
            found.setdefault(name, []).append(_all(filters))
    return {name: _any(each) for name, each in found.items()}


def _infos(plan: Any) -> Iterator[Mapping[str, Any]]:
    """Yield what the plan says of each of its operators."""
    todo = list(plan)
    while todo:
        node = todo.pop()
        yield node.get("extra_info") or {}
        todo += node.get("children") or []


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value] if isinstance(value, list) else []


def _parsed(connection: duckdb.DuckDBPyConnection, text: str) -> Any:
    """Return the syntax tree of an expression."""
    (answer,) = connection.execute("SELECT json_serialize_sql('SELECT ' || $1)", [text]).fetchall()[0]
    try:
        return json.loads(answer)["statements"][0]["node"]["select_list"][0]
    except (KeyError, IndexError):
        return {}


# -- what a filter says of a file -------------------------------------------------------------------------------------
def _all(parts: Sequence[Predicate]) -> Predicate:
    return lambda file: all(part(file) for part in parts)


def _any(parts: Sequence[Predicate]) -> Predicate:
    return lambda file: any(part(file) for part in parts)


def _always(file: DataFile) -> bool:
    return True


_FLIPPED = {
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_EQUAL": "COMPARE_EQUAL",
}


def _predicate(node: Any, name: str) -> Predicate:
    """Return whether a file may hold a row for which an expression is true."""
    kind = node.get("type")
    if kind in ("CONJUNCTION_AND", "CONJUNCTION_OR"):
        parts = [_predicate(child, name) for child in node["children"]]
        return _all(parts) if kind == "CONJUNCTION_AND" else _any(parts)
    if kind == "COMPARE_IN":
        column, values = _column(node["children"][0], name), [_value(child) for child in node["children"][1:]]
        if column is None or None in values:
            return _always
        return _any([_between(column, value, value) for value in values])
    if kind == "COMPARE_BETWEEN":
        column, low, high = _column(node["input"], name), _value(node["lower"]), _value(node["upper"])
        return _always if column is None or low is None or high is None else _between(column, low, high)
    if kind in _FLIPPED:
        column, value = _column(node["left"], name), _value(node["right"])
        if column is None:
            column, value, kind = _column(node["right"], name), _value(node["left"]), _FLIPPED[kind]
        if column is None or value is None:
            return _always
        low = None if kind in ("COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO") else value
        high = None if kind in ("COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO") else value
        return _between(column, low, high, open_ended=kind in ("COMPARE_LESSTHAN", "COMPARE_GREATERTHAN"))
    return _always


def _between(
    column: str, low: str | datetime | None, high: str | datetime | None, *, open_ended: bool = False
) -> Predicate:
    """Return whether a file's range of a column reaches into a range.

    Args:
        column: The column.
        low: The range's end, or None.
        high: The range's other end, or None.
        open_ended: Whether its ends are not part of it.
    """

    def check(file: DataFile) -> bool:
        known = (file.ranges or {}).get(column)
        if not known:
            return known is None  # an empty range: all of the column is null, which no comparison finds
        # Any: they are compared only where all are texts, or all are times.
        ends: list[Any] = [_moment(each) for each in known] if isinstance(low or high, datetime) else list(known)
        if any(type(each) is not type(low or high) for each in ends):
            return True
        least, greatest = ends
        if open_ended:
            return (high is None or bool(least < high)) and (low is None or bool(low < greatest))
        return (high is None or bool(least <= high)) and (low is None or bool(low <= greatest))

    return check


def _column(node: Any, name: str) -> str | None:
    names = node.get("column_names") if node.get("type") == "COLUMN_REF" else None
    if not names or not names[-1].startswith(name + "."):
        return None
    return str(names[-1].removeprefix(name + "."))


def _value(node: Any) -> str | datetime | None:
    """Return a constant text or time; None for any other expression."""
    if node.get("type") == "OPERATOR_CAST":
        kind = (node.get("type_expr") or {}).get("type_name", "")
        value = _value(node["child"])
        return _moment(value) if kind == "TIMESTAMPTZ" and isinstance(value, str) else None
    literal = node.get("literal") if node.get("type") == "VALUE_CONSTANT" else None
    return str(literal["text"]) if literal and literal.get("kind") == "STRING" else None


def _moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
