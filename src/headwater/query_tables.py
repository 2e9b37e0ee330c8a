"""The tables of one commit in a catalog of DuckDB, brought when a query needs them; knows no query but by its words.

At first every table of schema `lake` is a stand-in with the right columns, which raises when it is read. Before a query
runs, the small tables that it may name are brought whole. Of a large one, the query sees the files that its statistics
cannot exclude, and afterwards the stand-in is back.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.deltalog import DataFile
from headwater.errors import LakeError
from headwater.fold import ACTOR, FOLDED, KIND, LANDED, SUBJECT, TX
from headwater.lake.base import AT, Lake
from headwater.query_plan import NOT_HERE, stand_in
from headwater.schema import TABLES, arrow_schema
from headwater.signatures import EVENTS
from headwater.sqltext import identifier, literal
from headwater.state import Fold
from headwater.tables import folder
from headwater.tombstones import hidden_transactions, shadowed

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["COMMITS", "NO_ROWS", "REFUSED", "SQL_TYPES", "Snapshot", "commits", "refused", "select", "views", "words"]

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
    "metadata": "MAP(VARCHAR, VARCHAR)",
}
"""The columns of `lake.commits`, which is no table of the lake but its log."""

REFUSED = {
    "event_id": "VARCHAR",
    "tx": "VARCHAR",
    "reason": "VARCHAR",
    "alarm": "BOOLEAN",
    "subject": "VARCHAR",
    "kind": "VARCHAR",
    "key": "VARCHAR",
    "value": "VARCHAR",
    "prev": "VARCHAR[]",
    "actor": "VARCHAR",
    "recorded_at": "TIMESTAMPTZ",
    "signature": "VARCHAR",
}
"""The columns of `lake.refused`: the events of a signed lake that have no force, as its folded state knows them."""

NO_ROWS = "(SELECT 1 WHERE false)"
"""A source without rows and without columns of ours."""

_NATURAL_KEYS = frozenset({"models", "lineage", "batches"})
"""Tables whose rows two branches may write with the same key: the row of the smallest `tx` stands."""

_IN_BATCHES = frozenset({"predictions", "outcomes"})
"""Tables whose rows come in batches, of which two branches may have taken in the same."""

_LARGE = frozenset(name for name, table in TABLES.items() if table.prune and name not in FOLDED)
"""Tables that may have very many rows: never brought whole for a query that needs a part."""

_HELD_ROWS = 200_000
"""Small tables of up to so many rows are held in memory for a session; larger ones are scanned where they lie."""

_HELD_VIEWS = ("honoured_events", "standing_events", "hidden", "model_names", "aliases", "model_versions")
"""Views over small tables that others read several times: computed once for a session, where they are needed."""

_HIDDEN = "hidden_transactions"
"""A view that many others read, and whose rows the folded state has."""

_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_NAME = re.compile(r"\b(?:lake\.)?[a-z_][a-z0-9_]*")


@cache
def views() -> tuple[tuple[str, str], ...]:
    """Return the files of `sql/` as (name, text), in the order in which they are loaded."""
    packaged = importlib.resources.files("headwater") / "_sql"
    root = packaged if packaged.is_dir() else Path(__file__).parents[2] / "sql"
    files = [each for each in root.iterdir() if each.name.endswith(".sql")]
    return tuple((each.name, each.read_text(encoding="utf-8")) for each in sorted(files, key=lambda f: f.name))


@cache
def _reads() -> Mapping[str, frozenset[str]]:
    """Return, for each view, macro and table (`lake.NAME`), what its rows may come from, itself included."""
    found: dict[str, frozenset[str]] = {f"lake.{name}": frozenset({f"lake.{name}"}) for name in (*TABLES, "commits")}
    for file, text in views():
        name = _object(file)
        body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
        named = frozenset(_NAME.findall(body.lower())) - {name}
        # What is hidden, the folded state tells: no table has to be brought for that.
        found[name] = frozenset({name}).union(*(found[each] for each in named if each in found and name != _HIDDEN))
    return found


def words(query: str) -> frozenset[str]:
    """Return the tables (`lake.NAME`) and views whose rows a query may need: all that its words may name."""
    reads = _reads()
    named = [name for word in _WORD.findall(query.lower()) for name in (word, f"lake.{word}")]
    return frozenset().union(*(reads[name] for name in named if name in reads))


def _object(file: str) -> str:
    """Return the name of the view or macro that a file of `sql/` makes."""
    return file.removesuffix(".sql").partition("_")[2]


class Snapshot:
    """The tables and views of one commit, as a catalog of a DuckDB connection.

    Args:
        connection: Where to make it; its current catalog afterwards.
        lake: The lake.
        fold: The folded state of the commit; needed while this is made, not after.
        catalog: The catalog's name; it is attached unless it is the connection's own.
        number: Distinguishes the snapshots of a connection.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, lake: Lake, fold: Fold, catalog: str, number: int
    ) -> None:
        self.commit = fold.commit
        self.catalog = catalog
        self._connection = connection
        self._lake = lake
        self._number = number
        self._files = {name: _newest_first(fold.table(name).files.values()) for name in TABLES}
        self._commits: pa.Table | None = commits(fold)
        self._hidden = hidden_transactions(fold)
        self._shadowed = shadowed(fold)
        self._doubled = _doubled(fold)
        self._brought: set[str] = set()
        self._held: set[str] = set()
        self._made: set[str] = set()
        self._planned: set[str] = set()
        self._shown: set[str] = set()
        self._differ: set[str] = set()
        self._columns: dict[str, set[str]] = {}
        self._scanned: list[Path] = []
        if catalog != "memory":
            connection.execute(f"ATTACH ':memory:' AS {identifier(catalog)}")
        connection.execute(f"USE {identifier(catalog)}")
        connection.execute("CREATE SCHEMA lake")
        connection.execute(f"CREATE TABLE {self._at('refused')} AS {refused(fold)}")
        for name in (*TABLES, "commits"):
            self._hide(name)

    # -- what there is ------------------------------------------------------------------------------------------
    def places(self) -> Iterable[Path]:
        """Return every local file that a query may read, be it there yet or not."""
        sizes = {folder(name) + file.path: file.size for name, files in self._files.items() for file in files}
        return self._lake.places(self.commit, sizes).values()

    def count(self, table: str) -> int:
        """Return of how many files a table consists."""
        return len(self._files[table])

    def large(self, named: Iterable[str]) -> list[str]:
        """Return which tables of those named are pruned by statistics: there is something to prune."""
        tables = [name.removeprefix("lake.") for name in named if name.startswith("lake.")]
        return [name for name in tables if name in _LARGE and len(self._files[name]) > 1]

    def is_whole(self) -> bool:
        """Return whether the files of small tables that are read where they lie are still there."""
        return all(path.exists() for path in self._scanned)

    # -- bringing rows ------------------------------------------------------------------------------------------
    def bring(self, named: Collection[str]) -> dict[str, int]:
        """Bring small tables whole, make views, and return how many files were read; nothing is done twice.

        Raises:
            LakeError: A file can't be fetched.
        """
        read = {}
        large = self.large(named)
        for name in [each.removeprefix("lake.") for each in named if each.startswith("lake.")]:
            if name in self._brought or name in large:
                continue
            if name == "commits":
                self._bring_commits()
            else:
                read[name] = self._bring(name)
            self._brought.add(name)
        self.make(named)
        return read

    def make(self, named: Collection[str], *, hold: bool = True) -> bool:
        """Make views and macros, in their order, and return whether any was not there yet.

        Making a view costs as much as planning it, with all that it reads: so it is made when it is asked for, and over
        views that are held as tables.

        Raises:
            LakeError: A file of `sql/` can't be loaded.
        """
        import duckdb

        made = False
        for file, text in views():
            name = _object(file)
            if name in named and name not in self._made:
                if not made:
                    self._connection.execute(f"USE {identifier(self.catalog)}")
                made = True
                try:
                    self._connection.execute(text if name != _HIDDEN else self._hidden_transactions())
                except duckdb.Error as error:
                    line = str(error).strip().partition("\n")[0]
                    raise LakeError(f"sql/{file} can't be loaded: {line}") from error
                self._made.add(name)
            if hold and name in named and name in _HELD_VIEWS and name not in self._held:
                self._hold(name)
                self._held.add(name)
        if made:
            self._connection.execute("USE memory")
        return made

    def _hidden_transactions(self) -> str:
        """Return what makes the view of this name, whose rows are known: where it has none, DuckDB plans no join."""
        rows = [
            f"({literal(tx)}, {'NULL' if each.reason is None else literal(each.reason)},"
            f" make_timestamptz({each.recorded_at}), {literal(each.actor)})"
            for tx, each in self._hidden.items()
        ]
        if not rows:
            return (
                f"CREATE VIEW {_HIDDEN} AS SELECT CAST(NULL AS VARCHAR) AS tx, CAST(NULL AS VARCHAR) AS reason,"
                " CAST(NULL AS TIMESTAMPTZ) AS recorded_at, CAST(NULL AS VARCHAR) AS actor WHERE false"
            )
        values = f"(VALUES {', '.join(rows)}) AS t(tx, reason, recorded_at, actor)"
        return (
            f"CREATE TABLE {_HIDDEN} AS SELECT tx, CAST(reason AS VARCHAR) AS reason, recorded_at, actor FROM {values}"
        )

    def _bring_commits(self) -> None:
        # Registered names are the connection's, not the catalog's.
        self._connection.register("headwater_commits", self._commits)
        self._connection.execute(f"DROP VIEW {self._at('commits')}")
        self._connection.execute(f"CREATE TABLE {self._at('commits')} AS FROM temp.main.headwater_commits")
        self._connection.unregister("headwater_commits")
        self._commits = None

    def _bring(self, name: str) -> int:
        files = self._files[name]
        rows = self._rows(name, files)
        if files and sum(file.rows for file in files) <= _HELD_ROWS:
            # What every view reads several times is read once.
            self._connection.execute(f"DROP VIEW {self._at(name)}")
            self._connection.execute(f"CREATE TABLE {self._at(name)} AS {rows}")
        else:
            self._connection.execute(f"CREATE OR REPLACE VIEW {self._at(name)} AS {rows}")
            self._scanned += self._local(name, files)
        return len(files)

    def _hold(self, view: str) -> None:
        place, held = f"{identifier(self.catalog)}.main.{view}", f"{identifier(self.catalog)}.lake._held"
        self._connection.execute(f"CREATE TABLE {held} AS FROM {place}")
        self._connection.execute(f"DROP VIEW {place}")
        self._connection.execute(f"CREATE TABLE {place} AS FROM {held}")
        self._connection.execute(f"DROP TABLE {held}")

    # -- large tables -------------------------------------------------------------------------------------------
    def plan(self, tables: Iterable[str]) -> None:
        """Put stand-ins in the place of large tables that a query can be planned over."""
        for name in tables:
            columns = ", ".join(
                f'"{self.name(name)}.{column.name}" AS {identifier(column.name)}' for column in TABLES[name].columns
            )
            if name not in self._planned:
                self._connection.register(f"headwater_{self.name(name)}", stand_in(self.name(name), arrow_schema(name)))
                self._planned.add(name)
            source = identifier(f"headwater_{self.name(name)}")
            self._connection.execute(
                f"CREATE OR REPLACE VIEW {self._at(name)} AS SELECT {columns} FROM temp.main.{source}"
            )
            self._shown.add(name)

    def name(self, table: str) -> str:
        """Return what a large table's stand-in is called in a plan."""
        return f"{self._number}.{table}"

    def show(self, table: str, needs: Callable[[DataFile], bool]) -> int:
        """Let a large table consist of the files that a query needs, and return how many those are.

        Raises:
            LakeError: A file can't be fetched.
        """
        files = [file for file in self._files[table] if needs(file)]
        self._connection.execute(f"CREATE OR REPLACE VIEW {self._at(table)} AS {self._rows(table, files)}")
        self._shown.add(table)
        return len(files)

    def differ(self, tables: Iterable[str]) -> None:
        """Take it that the files of these tables do not all have the same columns."""
        self._differ.update(tables)

    def hide(self) -> None:
        """Put stand-ins in the place of the large tables again."""
        for name in self._shown:
            self._hide(name)
        self._shown = set()

    def _hide(self, name: str) -> None:
        kinds = COMMITS if name == "commits" else {each.name: SQL_TYPES[each.type] for each in TABLES[name].columns}
        columns = ", ".join(f"CAST(NULL AS {kind}) AS {identifier(column)}" for column, kind in kinds.items())
        self._connection.execute(
            f"CREATE OR REPLACE VIEW {self._at(name)} AS SELECT {columns} WHERE error('{NOT_HERE}') IS NULL"
        )

    def _at(self, table: str) -> str:
        return f"{identifier(self.catalog)}.lake.{identifier(table)}"

    def _rows(self, name: str, files: list[DataFile]) -> str:
        """Return a query for the rows of some files of a table, which are local then."""
        table = TABLES[name]
        local = self._local(name, files)
        there: set[str] = set()
        rows = NO_ROWS
        if local:
            there = self._there(local[0], files[0])
            differ = name in self._differ or (len(local) > 1 and not there.issuperset(table.names))
            rows = f"read_parquet([{', '.join(literal(path) for path in local)}], union_by_name = {differ})"
            if differ:
                there = {row[0] for row in self._connection.execute(f"DESCRIBE FROM {rows}").fetchall()}
        return select(name, rows, there, self._shadowed, self._hidden, doubled=name in self._doubled)

    def _local(self, name: str, files: list[DataFile]) -> list[Path]:
        return list(self._lake.localize(self.commit, [folder(name) + file.path for file in files]).values())

    def _there(self, local: Path, file: DataFile) -> set[str]:
        if file.path not in self._columns:
            described = self._connection.execute(f"DESCRIBE FROM read_parquet({literal(local)})").fetchall()
            self._columns[file.path] = {row[0] for row in described}
        return self._columns[file.path]


def select(
    name: str,
    source: str,
    there: Collection[str],
    twice: Collection[str] = (),
    hidden: Collection[str] = (),
    *,
    doubled: bool = False,
) -> str:
    """Return a query for a table's rows with today's columns: those that a source lacks are null.

    Args:
        name: A name of `schema.TABLES`.
        source: What stands after FROM.
        there: The columns that it has.
        twice: Transactions whose predictions and outcomes are those of earlier ones.
        hidden: Transactions that are hidden: of two rows of one key, another's stands.
        doubled: Whether it has rows of one key several times.
    """
    table = TABLES[name]
    columns = ", ".join(
        f"CAST({identifier(column.name) if column.name in there else 'NULL'} AS {SQL_TYPES[column.type]})"
        f" AS {identifier(column.name)}"
        for column in table.columns
    )
    only = ""
    if name in _NATURAL_KEYS or doubled:
        key = ", ".join(identifier(column) for column in table.key)
        last = f"tx IN ({', '.join(literal(tx) for tx in hidden)}), " if hidden else ""
        only = f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {last}tx) = 1"
    elif name in _IN_BATCHES and twice:
        only = f" WHERE tx NOT IN ({', '.join(map(literal, twice))})"
    return f"SELECT {columns} FROM {source}{only}"


def _doubled(fold: Fold) -> set[str]:
    """Return the tables that have rows of one key several times, though Headwater writes none so."""
    names = {"model_versions": "versions", "datasets": "datasets", "runs": "runs", "deployments": "deployments"}
    return {
        table
        for table, folded in names.items()
        if sum(file.rows for file in fold.table(table).files.values()) > fold.one(f"SELECT count(*) FROM {folded}")[0]
    }


def _newest_first(files: Iterable[DataFile]) -> list[DataFile]:
    """Return files by their names' time, newest first: that one has every column that there is."""
    return sorted(files, key=lambda file: file.path.rpartition("/")[2].partition("-")[2], reverse=True)


def refused(fold: Fold) -> str:
    """Return a query for `lake.refused`."""
    columns = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in REFUSED.items())
    values = []
    for event_id, tx, reason, alarm, subject, kind, key, text in fold.rows(
        "SELECT event_id, tx, reason, alarm, subject, kind, key, row FROM refused ORDER BY event_id, seal"
    ):
        row = json.loads(text)
        prev = f"[{', '.join(map(literal, row['prev'] or ()))}]"
        cells = [*map(_cell, (event_id, tx, reason)), str(bool(alarm)), *map(_cell, (subject, kind, key, row["value"]))]
        cells += [prev, _cell(row["actor"]), f"make_timestamptz({row['recorded_at']})", _cell(row["signature"])]
        values.append(f"({', '.join(cells)})")
    nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in REFUSED.items())
    if not values:
        return f"SELECT {nothing} WHERE false"
    return f"SELECT {columns} FROM (VALUES {', '.join(values)}) AS t({', '.join(REFUSED)})"


def _cell(text: str | None) -> str:
    return "NULL" if text is None else literal(text)


def commits(fold: Fold) -> pa.Table:
    """Return `lake.commits`: every commit that the queried one descends from, with its metadata and its landing."""
    import pyarrow as pa

    rows = fold.rows(
        "SELECT id, tx, parents, micros, actor, kind, subject, message, landed, landed_micros, position, brought,"
        " metadata, events FROM commits ORDER BY position, micros"
    )
    columns = list(zip(*rows, strict=True)) or [()] * 14
    moment = pa.timestamp("us", tz="UTC")
    micros = pa.array(columns[3], pa.int64())
    texts = {index: pa.array(columns[index], pa.string()) for index in (1, 4, 5, 6, 11, 13)}
    return pa.table(
        {
            "commit": pa.array(columns[0], pa.string()),
            "tx": texts[1],
            "parents": pa.array([text.split() for text in columns[2]], pa.list_(pa.string())),
            "recorded_at": micros.cast(moment),
            "actor": texts[4],
            "kind": texts[5],
            "subject": texts[6],
            "message": pa.array(columns[7], pa.string()),
            "landed": pa.array(columns[8], pa.string()),
            "landed_at": pa.array(columns[9], pa.int64()).cast(moment),
            "position": pa.array(columns[10], pa.int64()),
            "metadata": _metadata(
                {ACTOR: texts[4], AT: micros.cast(pa.string()), KIND: texts[5], LANDED: texts[11], SUBJECT: texts[6]}
                | {TX: texts[1], EVENTS: texts[13]},
                columns[12],
            ),
        }
    )


def _metadata(known: Mapping[str, pa.Array], rest: Sequence[str | None]) -> pa.Array:
    """Return maps of metadata: by key what is in columns, and row by row, as JSON, what is in none or differs."""
    import numpy as np
    import pyarrow as pa

    others = {row: json.loads(text) for row, text in enumerate(rest) if text is not None}
    replaced = np.array([row for row, found in others.items() if AT in found], np.int64)
    rows: list[np.ndarray[Any, Any]] = []
    keys: list[np.ndarray[Any, Any]] = []
    values: list[pa.Array] = []
    for key, column in known.items():
        there = np.asarray(column.is_valid())
        if key == AT:
            there[replaced] = False
        rows.append(np.flatnonzero(there))
        keys.append(np.full(len(rows[-1]), len(keys)))
        values.append(column.take(pa.array(rows[-1])))
    # Metadata that no column has is rare: a merge's, or a commit's that another program made.
    further = [(row, *pair) for row, found in others.items() for pair in found.items() if pair[1] is not None]
    names = [*known, *(key for _, key, _ in further)]
    rows.append(np.array([row for row, _, _ in further], np.int64))
    keys.append(np.arange(len(known), len(names)))
    values.append(pa.array([value for _, _, value in further], pa.string()))
    every = np.concatenate(rows)
    order = np.argsort(every, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(every, minlength=len(rest)))]).astype(np.int32)
    return pa.MapArray.from_arrays(
        pa.array(offsets),
        pa.array(names, pa.string()).take(pa.array(np.concatenate(keys)[order])),
        pa.concat_arrays(values).take(pa.array(order)),
    )
