"""Counting the rows of tables that meet a condition somebody wrote: DuckDB in a sandbox; knows no lake, no dataset.

A condition is one expression over the columns of one row. It is parsed first, and refused where it is more than that;
what then runs can read the files of that one table, and can set, load and write nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headwater.calm import aside, connect
from headwater.errors import InvalidInputError, LakeError
from headwater.names import shown
from headwater.sqltext import literal

__all__ = ["Condition", "count_rows", "parse_condition"]

_LONGEST = 10_000
_MEMORY = "1GB"
_HINT = "write what a WHERE holds, such as origin = 'JFK' and month = 2"
_REFUSED = {
    "SUBQUERY": "it has a query in it",
    "WINDOW": "it has a window in it",
    "STAR": "it has a * in it",
    "PARAMETER": "it has a parameter in it",
    "DEFAULT": "it has DEFAULT in it",
}

Attach = Callable[[Any, str], None]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one row, and the columns that it names, as they are written in it."""

    text: str
    columns: tuple[str, ...]

    def missing(self, schema: Mapping[str, str]) -> list[str]:
        """Return the columns that a table lacks; case makes no difference, as in SQL."""
        there = {name.lower() for name in schema}
        return [name for name in self.columns if name.lower() not in there]


def parse_condition(text: str) -> Condition:
    """Return a condition that was parsed and found to be one expression over columns.

    Raises:
        InvalidInputError: It is none: not SQL, several statements, or with a query in it.
    """
    import duckdb

    if not text.strip() or len(text) > _LONGEST or "\0" in text or any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise InvalidInputError(f"not a condition on rows: {shown(text)}", hint=_HINT)
    with contextlib.closing(connect(memory_limit=_MEMORY)) as connection:
        try:
            # On a line of its own, so that a comment at its end does not hide the parenthesis; then without the two,
            # so that those which close and open what is not theirs are found.
            trees = [_tree(connection, f"SELECT {wrapped}") for wrapped in (f"(\n{text}\n)", f"\n{text}\n")]
        except (duckdb.Error, ValueError) as error:
            raise InvalidInputError(f"not a condition on rows: {_reason(error)}", hint=_HINT) from error
    for tree in trees:
        if tree.get("error"):
            raise InvalidInputError(f"not a condition on rows: {_line(str(tree.get('error_message')))}", hint=_HINT)
    statements = tree.get("statements", [])
    node = statements[0].get("node", {}) if len(statements) == 1 else {}
    plain = (
        node.get("type") == "SELECT_NODE"
        and len(node.get("select_list", [])) == 1
        and node.get("from_table", {}).get("type") == "EMPTY"
        and not any(node.get(part) for part in ("where_clause", "modifiers", "group_expressions", "having", "qualify"))
        and not node.get("sample")
        and not node.get("cte_map", {}).get("map")
    )
    if not plain:
        raise InvalidInputError(f"not a condition on rows: {shown(text)}", hint=_HINT)
    columns: dict[str, None] = {}
    for name in _columns(node["select_list"][0], frozenset()):
        columns[name] = None
    return Condition(text, tuple(columns))


def _columns(tree: Any, bound: frozenset[str]) -> Iterator[str]:
    """Yield the columns that an expression names, apart from the arguments of its lambdas.

    Raises:
        InvalidInputError: It is more than an expression over columns.
    """
    if isinstance(tree, list):
        for each in tree:
            yield from _columns(each, bound)
    if not isinstance(tree, dict):
        return
    kind = tree.get("class")
    if kind in _REFUSED:
        raise InvalidInputError(f"not a condition on rows: {_REFUSED[kind]}", hint=_HINT)
    if kind == "COLUMN_REF":
        name = tree["column_names"][0]
        if name.lower() not in bound:
            yield name
        return
    if kind == "LAMBDA":
        names = frozenset(name.lower() for name in _columns(tree.get("lhs"), frozenset()))
        yield from _columns(tree.get("expr"), bound | names)
        return
    for each in tree.values():
        yield from _columns(each, bound)


def _tree(connection: Any, query: str) -> dict[str, Any]:
    row = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {}
    return tree


def count_rows(attach: Attach, folder: str, condition: Condition, *, what: str) -> int:
    """Return how many rows of a table meet a condition.

    Args:
        attach: Makes the rows readable on a connection, as a view of some name.
        folder: Holds a link to each file that may be read, and to no other.
        condition: What `parse_condition` returned.
        what: How messages call the table.

    Raises:
        InvalidInputError: The condition does not suit the table's types.
        LakeError: It takes more memory than it may.
    """
    import duckdb

    threads = min(8, os.cpu_count() or 1)
    with contextlib.closing(
        connect(memory_limit=_MEMORY, threads=threads, temp_directory=f"{folder}/spill")
    ) as connection:
        attach(connection, "data")
        connection.execute(f"SET allowed_paths = [{', '.join(literal(path) for path in _files(folder))}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            query = f"SELECT count(*) FROM data WHERE (\n{condition.text}\n)"
            rows = aside(connection, lambda: connection.execute(query).fetchall())
        except duckdb.OutOfMemoryException:
            raise LakeError(f"the condition needs more memory than it may use on {what}", hint="ask for less") from None
        except (duckdb.Error, ValueError, RuntimeError) as error:
            raise InvalidInputError(f"the condition can't be asked of {what}: {_reason(error)}", hint=_HINT) from error
    return int(rows[0][0])


def _files(folder: str) -> Iterator[str]:
    """Yield the files that a folder has names for, and where they really lie: DuckDB may ask about either."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            yield from {path, os.path.realpath(path)}


def _reason(error: Exception) -> str:
    return _line(str(error))


def _line(text: str) -> str:
    """Return the first line of DuckDB's many, without what kind of error it is."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "it can't be read")
    kind, colon, rest = first.partition(" Error: ")
    return (rest if colon and len(kind) < 30 else first)[:200]
