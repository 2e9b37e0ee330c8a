"""SQL conditions over the rows of one table, in a DuckDB that can read nothing else; knows no lake and no policy.

A condition is one expression that is true or not. Without aggregates it is asked of every row; with aggregates, such as
`max(delay) < 2000`, once of all rows. In a subquery the rows are called `data`. NULL is not true.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from headwater.calm import aside, connect
from headwater.content import Opened, Workbench
from headwater.errors import InvalidInputError
from headwater.formats import reason_of
from headwater.names import shown
from headwater.sqltext import identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Answer", "Rows", "check_condition", "reading"]

TIMEOUT = 60.0
"""Seconds that one question may take."""

_MEMORY = "1GiB"
_MOST_THREADS = 4

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a condition came to.

    Attributes:
        asked: How often it was asked: once for each row, or once of all.
        failed: How often it was not true.
        example: The first row that failed, as JSON can hold it; None where it was asked of all rows at once.
    """

    asked: int
    failed: int
    example: dict[str, Any] | None = None


def check_condition(text: str) -> None:
    """Make sure that a text is one expression of SQL; nothing is run, and no table looked at.

    Raises:
        InvalidInputError: It is something else.
    """
    with connect() as connection:
        _check(connection, text)


def _check(connection: DuckDBPyConnection, text: str) -> None:
    import duckdb

    hint = "write one expression that is true or not, such as delay BETWEEN -60 AND 2000"
    try:
        # A comment at its end must not swallow the bracket.
        row = connection.execute("SELECT json_serialize_sql(?)", [f"SELECT ({text}\n)"]).fetchone()
    except (duckdb.Error, ValueError) as error:
        raise InvalidInputError(f"the condition can't be read: {reason_of(error)}", hint=hint) from error
    found: dict[str, Any] = json.loads(row[0]) if row is not None else {"error": True}
    if found["error"]:
        raise InvalidInputError(f"the condition can't be read: {_line(found.get('error_message'))}", hint=hint)
    nodes = [each["node"] for each in found["statements"]]
    plain = len(nodes) == 1 and nodes[0]["type"] == "SELECT_NODE" and nodes[0]["from_table"]["type"] == "EMPTY"
    clauses = ("where_clause", "having", "qualify", "sample", "modifiers", "group_expressions")
    if not plain or len(nodes[0]["select_list"]) != 1 or any(nodes[0].get(each) for each in clauses):
        raise InvalidInputError(f"the condition {shown(text)} is more than an expression", hint=hint)


def _line(message: str | None) -> str:
    return (message or "it is no SQL").split("\n")[0]


class Rows:
    """The rows of one table, of which questions are asked; made by `reading`."""

    def __init__(self, connection: DuckDBPyConnection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    def count(self) -> int:
        """Return how many there are."""
        return int(self._asked(lambda: self._one("SELECT count(*) FROM data"))[0])

    def nulls(self, columns: Iterable[str]) -> dict[str, int]:
        """Return how many values of some columns are null; in one pass."""
        names = list(columns)
        counts = ", ".join(f"count(*) - count({identifier(name)})" for name in names)
        return dict(zip(names, self._asked(lambda: self._one(f"SELECT {counts} FROM data")), strict=True))

    def holds(self, condition: str) -> Answer:
        """Ask a condition.

        Raises:
            InvalidInputError: It is no condition over these columns, wants what it may not have, or takes too long.
        """

        def ask() -> Answer:
            _check(self._connection, condition)
            relation = self._connection.sql(f"SELECT ({condition}\n) FROM data")
            if [str(each) for each in relation.types] != ["BOOLEAN"]:
                what = ", ".join(str(each).strip('"') for each in relation.types)
                raise InvalidInputError(f"the condition is {what}, not true or false", hint="compare it with something")
            asked, failed = self._one(
                f"SELECT count(*), count(*) FILTER (c IS NOT TRUE) FROM (SELECT ({condition}\n) AS c FROM data)"
            )
            return Answer(asked, failed, self._example(condition) if failed else None)

        return self._asked(ask)

    def _example(self, condition: str) -> dict[str, Any] | None:
        import duckdb

        try:
            row = self._one(f"SELECT to_json(data) FROM data WHERE ({condition}\n) IS NOT TRUE LIMIT 1")
        except (duckdb.Error, ValueError):
            return None  # an aggregate is about no row, and some values have no JSON
        return json.loads(row[0]) if row is not None else None

    def _one(self, sql: str) -> Any:
        return self._connection.execute(sql).fetchone()

    def _asked(self, work: Callable[[], Result]) -> Result:
        import duckdb

        # DuckDB's WITH may hold an INSERT; in this transaction it may not write.
        self._connection.execute("BEGIN TRANSACTION READ ONLY")
        try:
            return aside(self._connection, work, timeout=self._timeout)
        except InvalidInputError:
            raise
        except TimeoutError:
            raise InvalidInputError(f"it takes longer than {self._timeout:g} seconds", hint="ask less") from None
        except duckdb.OutOfMemoryException as error:
            raise InvalidInputError(f"it needs more memory than {_MEMORY}", hint="ask less") from error
        except (duckdb.Error, ValueError, RuntimeError) as error:
            raise InvalidInputError(reason_of(error), hint="see what `headwater data show` says of it") from error
        finally:
            self._connection.execute("ROLLBACK")


@contextmanager
def reading(opened: Opened, bench: Workbench, *, timeout: float = TIMEOUT) -> Iterator[Rows]:
    """Hold the rows of a table for questions, in a connection that may read its files alone, and write nothing.

    Args:
        opened: The table, on `bench`.
        bench: Its scratch folder takes what does not fit into memory.
        timeout: Seconds that one question may take.
    """
    connection = connect(
        memory_limit=_MEMORY,
        threads=min(_MOST_THREADS, os.cpu_count() or 1),
        temp_directory=str(bench.folder / "conditions"),
    )
    try:
        opened.table.attach(connection, "rows_of_data")
        if opened.table.format == "parquet":
            connection.execute("CREATE TEMP VIEW data AS FROM rows_of_data")
        else:
            # Batches of Arrow can be read once, and text is slow to read again.
            aside(connection, lambda: connection.execute("CREATE TEMP TABLE data AS FROM rows_of_data"))
        files = sorted({*map(str, bench.folder.rglob("*")), *(os.path.realpath(p) for p in bench.folder.rglob("*"))})
        connection.execute(f"SET allowed_paths = [{', '.join(literal(path) for path in files)}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield Rows(connection, timeout)
    finally:
        connection.close()
