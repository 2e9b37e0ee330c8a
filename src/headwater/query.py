"""SQL at a commit: DuckDB over the tables' files, read-only, with the views and macros of `sql/`; no nouns."""

from __future__ import annotations

import contextlib
import html
import importlib.resources
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import InvalidInputError, LakeError
from headwater.fold import FOLDED
from headwater.lake.base import Lake
from headwater.schema import TABLES
from headwater.state import Fold
from headwater.tables import folder

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

__all__ = ["COMMITS", "SQL_TYPES", "QueryResult", "Session", "views"]

SQL_TYPES = {
    "string": "VARCHAR",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "timestamp": "TIMESTAMPTZ",
    "strings": "VARCHAR[]",
    "map": "MAP(VARCHAR, VARCHAR)",
    "files": "STRUCT(path VARCHAR, size BIGINT, sha256 VARCHAR)[]",
    "code": "STRUCT(repository VARCHAR, commit VARCHAR, branch VARCHAR, tags VARCHAR[], dirty BOOLEAN, patch VARCHAR,"
    " folder VARCHAR)",
    "environment": "STRUCT(python VARCHAR, platform VARCHAR, packages VARCHAR)",
}
"""The types of columns (see `headwater.schema`) as DuckDB writes them."""

COMMITS = {
    "commit": "VARCHAR",
    "tx": "VARCHAR",
    "parents": "VARCHAR[]",
    "recorded_at": "TIMESTAMPTZ",
    "actor": "VARCHAR",
    "kind": "VARCHAR",
    "subject": "VARCHAR",
    "message": "VARCHAR",
    "landed": "VARCHAR",
    "landed_at": "TIMESTAMPTZ",
    "position": "BIGINT",
}
"""The columns of `lake.commits`, which is no table of the lake but its log."""

_NATURAL_KEYS = frozenset({"models", "lineage"})
"""Tables whose rows two branches may write with the same key: the row of the smallest `tx` stands."""

_HELD_ROWS = 200_000
"""Tables of up to so many rows are held in memory for a session; larger ones are scanned where they lie."""

_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s", re.IGNORECASE)


_inherited: list[Session] = []
"""Sessions of a parent process, kept so that nothing of theirs is closed here."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows that a query found; shows itself as a table in a notebook."""

    table: pa.Table

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
        columns = [column.to_pylist() for column in self.table.columns]
        return list(zip(*columns, strict=True)) if columns else []

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows

    def __repr__(self) -> str:
        return f"<QueryResult: {len(self)} rows of {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
            for row in zip(*(column.to_pylist() for column in self.table.slice(0, 100).columns), strict=True)
        )
        more = f"<p>{len(self):,} rows, the first 100 shown</p>" if len(self) > 100 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


@cache
def views() -> tuple[tuple[str, str], ...]:
    """Return the files of `sql/` as (name, text), in the order in which they are loaded."""
    packaged = importlib.resources.files("headwater") / "_sql"
    root = packaged if packaged.is_dir() else Path(__file__).parents[2] / "sql"
    files = [each for each in root.iterdir() if each.name.endswith(".sql")]
    return tuple((each.name, each.read_text(encoding="utf-8")) for each in sorted(files, key=lambda f: f.name))


class Session:
    """A DuckDB connection over one commit that can read that commit's files and nothing else.

    Args:
        lake: The lake.
        fold: The folded state of the commit; needed while the session is made, not after.
        memory: DuckDB's memory limit.

    Raises:
        LakeError: A file of the tables can't be fetched.
    """

    def __init__(self, lake: Lake, fold: Fold, *, memory: str = "2GB") -> None:
        import duckdb

        self.commit = fold.commit
        self._pid = os.getpid()
        self._guard = threading.Lock()
        spill = lake.cache / "spill"
        with contextlib.suppress(OSError):
            spill.mkdir(parents=True, exist_ok=True)
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "memory_limit": memory,
                "temp_directory": str(spill),
            },
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("CREATE SCHEMA lake")
        allowed: list[Path] = []
        for name in TABLES:
            allowed += self._add_table(lake, fold, name)
        self._connection.register("headwater_commits", _commits(fold))
        self._connection.execute("CREATE TABLE lake.commits AS FROM headwater_commits")
        self._connection.unregister("headwater_commits")
        for name, text in views():
            try:
                self._connection.execute(text)
            except duckdb.Error as error:
                raise LakeError(f"sql/{name} can't be loaded: {_first_line(error)}") from error
        self._files = allowed
        self._connection.execute(f"SET allowed_paths = [{', '.join(_literal(path) for path in allowed)}]")
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def _add_table(self, lake: Lake, fold: Fold, name: str) -> list[Path]:
        table = TABLES[name]
        base = folder(name)
        paths = [base + path for path in fold.table(name).files]
        files = list(lake.localize(fold.commit, paths).values())
        if files:
            listed = ", ".join(_literal(path) for path in files)
            rows = f"read_parquet([{listed}], union_by_name = true)"
            there = {row[0] for row in self._connection.execute(f"DESCRIBE FROM {rows}").fetchall()}
        else:
            rows, there = "(SELECT 1 WHERE false)", set()
        columns = ", ".join(
            f"CAST({_quoted(column.name) if column.name in there else 'NULL'} AS {SQL_TYPES[column.type]})"
            f" AS {_quoted(column.name)}"
            for column in table.columns
        )
        only = ""
        if name in _NATURAL_KEYS:
            key = ", ".join(_quoted(column) for column in table.key)
            only = f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY tx) = 1"
        # What every view reads several times is read once.
        kind = "TABLE" if name in FOLDED and len(files) and _rows(fold, name) <= _HELD_ROWS else "VIEW"
        self._connection.execute(f"CREATE {kind} lake.{_quoted(name)} AS SELECT {columns} FROM {rows}{only}")
        return files

    def sql(
        self, query: str, parameters: Mapping[str, object] | Sequence[object] | None = None, *, timeout: float = 300
    ) -> QueryResult:
        """Run one query and return all its rows.

        Args:
            query: One statement that reads: SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN of one.
            parameters: Values for `$name` (a mapping) or `?` (a sequence).
            timeout: Seconds until it is interrupted.

        Raises:
            InvalidInputError: It is not one statement that reads, or DuckDB refuses it.
            LakeError: It took too long, or more memory than it may.
        """
        import duckdb

        with self._guard:
            self._check(query)
            try:
                return QueryResult(self._run(query, parameters, timeout))
            except duckdb.InterruptException:
                raise LakeError(
                    f"the query took longer than {timeout:g} seconds", hint="ask for less, or allow more"
                ) from None
            except duckdb.OutOfMemoryException:
                raise LakeError(
                    "the query needs more memory than it may use", hint="ask for fewer rows or columns"
                ) from None
            except duckdb.PermissionException as error:
                raise InvalidInputError(
                    f"the query was refused: {_first_line(error)}",
                    hint="a query reads the lake's tables alone",
                ) from error
            except (duckdb.Error, ValueError, RuntimeError) as error:
                raise InvalidInputError(f"the query can't be run: {_first_line(error)}", hint=_hint(error)) from error

    def _run(self, query: str, parameters: Mapping[str, object] | Sequence[object] | None, timeout: float) -> pa.Table:
        """Run a query in a thread of its own: in the main thread, DuckDB would hear of Ctrl-C late or never."""
        import duckdb

        found: list[pa.Table] = []
        failed: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                # DuckDB's WITH may hold an INSERT; in this transaction it may not write.
                self._connection.execute("BEGIN TRANSACTION READ ONLY")
                given = dict(parameters) if isinstance(parameters, Mapping) else list(parameters or ())
                rows = self._connection.sql(query, params=given) if given else self._connection.sql(query)
                found.append(rows.to_arrow_table())
            except BaseException as error:
                failed.append(error)
            finally:
                with contextlib.suppress(duckdb.Error):
                    self._connection.execute("ROLLBACK")
                done.set()

        threading.Thread(target=work, daemon=True).start()
        try:
            # Not `join`: interrupted, it takes a thread that runs for one that has ended.
            done.wait(timeout)
        finally:
            # An interrupt that comes between two statements is lost, so it is sent again.
            while not done.is_set():
                self._connection.interrupt()
                done.wait(0.05)
        if failed:
            raise failed[0]
        return found[0]

    def _check(self, query: str) -> None:
        import duckdb

        if any(0xD800 <= ord(character) < 0xE000 for character in query):
            raise InvalidInputError("the query can't be read: it is not Unicode text", hint="write one SELECT")
        try:
            statements = self._connection.extract_statements(query)
            kinds = [statement.type for statement in statements]
            if kinds == [duckdb.StatementType.EXPLAIN] and (explained := _EXPLAIN.match(query)):
                kinds = [each.type for each in self._connection.extract_statements(query[explained.end() :])]
        except (duckdb.Error, ValueError) as error:
            raise InvalidInputError(
                f"the query can't be read: {_first_line(error)}", hint=_second_line(error) or "write one SELECT"
            ) from error
        if kinds != [duckdb.StatementType.SELECT]:
            what = "nothing" if not kinds else f"{len(kinds)} statements" if len(kinds) > 1 else kinds[0].name
            raise InvalidInputError(f"a query is one statement that reads, and this is {what}", hint="write one SELECT")

    def is_ours(self) -> bool:
        """Return whether this process made the session: after a fork its connection must not be touched."""
        if self._pid != os.getpid():
            _inherited.append(self)
            return False
        return True

    def serves(self, commit: str) -> bool:
        """Return whether the session answers for a commit: it is of this process, and its files are still there."""
        return self.commit == commit and self.is_ours() and all(path.exists() for path in self._files)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _rows(fold: Fold, name: str) -> int:
    return sum(file.rows for file in fold.table(name).files.values())


def _commits(fold: Fold) -> pa.Table:
    """Return `lake.commits`: every commit that the queried one descends from, with its metadata and its landing."""
    import pyarrow as pa

    rows = fold.rows(
        "SELECT id, tx, parents, micros, actor, kind, subject, message, landed, landed_micros, position FROM commits"
        " ORDER BY position, micros"
    )
    columns = list(zip(*rows, strict=True)) or [()] * 11
    moment = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "commit": pa.array(columns[0], pa.string()),
            "tx": pa.array(columns[1], pa.string()),
            "parents": pa.array([text.split() for text in columns[2]], pa.list_(pa.string())),
            "recorded_at": pa.array(columns[3], pa.int64()).cast(moment),
            "actor": pa.array(columns[4], pa.string()),
            "kind": pa.array(columns[5], pa.string()),
            "subject": pa.array(columns[6], pa.string()),
            "message": pa.array(columns[7], pa.string()),
            "landed": pa.array(columns[8], pa.string()),
            "landed_at": pa.array(columns[9], pa.int64()).cast(moment),
            "position": pa.array(columns[10], pa.int64()),
        }
    )


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()]


def _first_line(error: Exception) -> str:
    lines = _lines(error)
    return lines[0] if lines else type(error).__name__


def _second_line(error: Exception) -> str:
    lines = _lines(error)
    return lines[1] if len(lines) > 1 and not lines[1].startswith("LINE") else ""


def _hint(error: Exception) -> str:
    if "parameter" in str(error):
        return "give the value with --param NAME=VALUE"
    return _second_line(error) or "see docs/tables.md"
