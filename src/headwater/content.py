"""The rows of tables, compared: their digest, what was added, removed and changed; knows DuckDB, no lake, no dataset.

Two rows are the same where every column has the same value: NULL is the same as NULL, NaN as NaN, -0.0 as 0.0, and an
instant as itself in whatever zone. The order of rows and columns, compression and files make no difference.

A row's hash is the MD5 of its text (see `headwater.canonical`), columns sorted by name. Rows are compared by their
hashes. A table's digest is the sum of its rows' hashes modulo 2^128 (with xor, a row that is there twice would not
count). Where a later DuckDB prints a value otherwise, that costs a comparison and never gives a wrong answer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headwater.calm import aside, connect
from headwater.canonical import common_type, hashes, printable, row_text, summaries
from headwater.errors import InvalidInputError, LakeError
from headwater.formats import LABELS, Table, open_table, reason_of
from headwater.lake.objects import disk_errors
from headwater.model import as_json
from headwater.names import shown
from headwater.sqltext import identifier

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from duckdb.sqltypes import DuckDBPyType

__all__ = ["EXAMPLES", "Changes", "Measure", "Workbench"]

EXAMPLES = 3
"""Rows of each kind of change that are kept as examples."""

_MEMORY = 2 << 30
_MOST_THREADS = 8
_LONGEST_VALUE = 200
_MOST_VALUES = 30
_PROFILED_AT_ONCE = 500
_STALE = 86_400
_PREFIX = "compare-"
_DIGEST = "md5sum-1"

Row = Mapping[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Measure:
    """How many rows a table has, and the digest of their multiset."""

    rows: int
    content: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What it takes to come from one table to another, in the columns that both have with the same type.

    With a key, a row is changed where both tables have its key. Values in examples are numbers, truth values or text.
    """

    added: int = 0
    removed: int = 0
    changed: int = 0
    added_examples: tuple[Row, ...] = ()
    removed_examples: tuple[Row, ...] = ()
    changed_examples: tuple[tuple[Row, Row], ...] = ()
    """Before and after: the key and the columns that differ."""


@dataclass(slots=True)
class _Staged:
    """A temporary table `name` of a table's rows: `h`, the row's hash, `k`, its key's, and `q`, a quick hash."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    casts: Mapping[str, str]
    key_text: str
    quick: str


@dataclass(slots=True)
class Opened:
    """A table on the workbench, and what of it is staged."""

    what: str
    table: Table
    staged: list[_Staged] = field(default_factory=list)


class Workbench:
    """A DuckDB in bounded memory with a scratch folder on disk; both are gone when its `with` ends.

    Args:
        folder: Where the scratch folder is made; on a disk, with room for some 50 bytes a row.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection: DuckDBPyConnection | None = None
        self._scratch: Path | None = None
        self._count = 0

    def __enter__(self) -> Workbench:
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            _sweep(self._folder)
            # DuckDB takes some characters of a path for a pattern, or for a column
            plain = not set("*?[]=") & set(str(self._folder))
            self._scratch = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._folder if plain else None))
        return self

    def __exit__(self, *exception: object) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """The scratch folder, in which everything that an opened table is read from has a name."""
        if self._scratch is None:
            raise RuntimeError("the workbench is used outside of its `with`")
        return self._scratch

    @property
    def _duckdb(self) -> DuckDBPyConnection:
        if self._connection is None:
            physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            self._connection = connect(
                memory_limit=f"{min(_MEMORY, physical // 3) >> 20}MiB",
                threads=min(_MOST_THREADS, os.cpu_count() or 1),
                temp_directory=str(self._place("spill")),
                preserve_insertion_order=False,
            )
            # Statistics are of no use here, and make a statement over 5,000 columns four times as slow.
            self._connection.execute("SET disabled_optimizers = 'statistics_propagation'")
        return self._connection

    def _place(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        return place

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{what}_{self._count}"

    def open(
        self,
        what: str,
        format_: str,
        files: Mapping[str, Path],
        *,
        single: bool,
        types: Mapping[str, str] | None = None,
    ) -> Opened | None:
        """Return the table that files make, or None where they have nothing to do with each other.

        Args:
            what: How messages call it.
            format_: What `formats.format_of` found.
            files: Absolute local paths by the name that each has in its folder.
            single: Whether it is a file, not a folder.
            types: The columns and types of a table that was opened before.

        Raises:
            InvalidInputError: The files are not what their names say.
        """
        place = self._place(self._name("files"))
        with _reading(what, LABELS[format_]):
            table = aside(
                self._duckdb, lambda: open_table(self._duckdb, format_, files, place, single=single, types=types)
            )
        return None if table is None else Opened(what, table)

    def measure(self, opened: Opened, key: Sequence[str] = ()) -> Measure:
        """Return a table's number of rows and digest.

        Raises:
            InvalidInputError: It can't be read to its end, or two rows have the same key.
        """
        return aside(self._duckdb, lambda: self._measure(opened, tuple(key)))

    def _measure(self, opened: Opened, key: tuple[str, ...]) -> Measure:
        staged = self._stage(opened, tuple(opened.table.schema), key)
        with _reading(opened.what, LABELS[opened.table.format]):
            twice = self._twice(opened, staged) if key else None
            ((rows, low, high),) = self._rows(
                "SELECT count(*), coalesce(sum((h & 18446744073709551615::UHUGEINT)::UBIGINT), 0),"
                f" coalesce(sum((h >> 64)::UBIGINT), 0) FROM {staged.name}"
            )
        if twice is not None:
            raise InvalidInputError(
                f"{', '.join(key)} is no key of {opened.what}: {twice}", hint="declare more columns as the key, or none"
            )
        return Measure(rows, f"{_DIGEST}:{((high << 64) + low) % (1 << 128):032x}")

    def profile(self, opened: Opened) -> dict[str, dict[str, Any]]:
        """Return what the values of each column are like, as JSON can hold it, in one more pass over the rows.

        For each column: its `type`, how many `nulls` it has, `approx_distinct`, about how many different values, and
        its `min` and `max` (numbers, truth values or text). NaN is neither the least nor the greatest number: a column
        that has any says how many, as `nans`. Lists, maps, structs and bytes have nulls only.
        """
        return aside(self._duckdb, lambda: self._profile(opened))

    def _profile(self, opened: Opened) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        names = list(opened.table.schema)
        with _reading(opened.what, LABELS[opened.table.format]):
            for start in range(0, len(names), _PROFILED_AT_ONCE):
                view, types = self._view(opened)
                some = names[start : start + _PROFILED_AT_ONCE]
                wanted = [(name, what, sql) for name in some for what, sql in summaries(identifier(name), types[name])]
                ((rows, *values),) = self._rows(
                    f"SELECT count(*), {', '.join(sql for _, _, sql in wanted)} FROM {view}"
                )
                for name in some:
                    found[name] = {"type": opened.table.schema[name]}
                for (name, what, _), value in zip(wanted, values, strict=True):
                    found[name][what] = as_json(value)
                for name in some:
                    _settle(found[name], rows)
        return found

    def counts(self, opened: Opened, columns: Sequence[str]) -> dict[tuple[str | None, ...], int]:
        """Return how many rows have each combination of the values of some columns, which are given as text.

        Raises:
            InvalidInputError: There is no such column, or the table can't be read to its end.
        """
        missing = [name for name in columns if name not in opened.table.schema]
        if missing:
            raise InvalidInputError(f"{opened.what} has no column {missing[0]!r}")
        names = ", ".join(f"{identifier(name)}::VARCHAR" for name in columns)

        def count() -> list[Any]:
            with _reading(opened.what, LABELS[opened.table.format]):
                return self._rows(f"SELECT count(*), {names} FROM {self._view(opened)[0]} GROUP BY ALL")

        return {tuple(values): rows for rows, *values in aside(self._duckdb, count)}

    def compare(self, left: Opened, right: Opened, key: Sequence[str] = ()) -> Changes:
        """Return what was added, removed and changed from one table to another.

        Args:
            left: The table before.
            right: The table after.
            key: Columns that identify a row; where one of them is not in both tables, whole rows are compared. One that
                has another type in each is compared as numbers, times or text.
        """
        return aside(self._duckdb, lambda: self._compare(left, right, tuple(key)))

    def _compare(self, left: Opened, right: Opened, key: tuple[str, ...]) -> Changes:
        old, new = left.table.schema, right.table.schema
        key = key if all(name in old and name in new for name in key) else ()
        casts = {name: common_type(old[name], new[name]) for name in key if old[name] != new[name]}
        columns = tuple(name for name, type_ in new.items() if old.get(name) == type_ or name in casts)
        if not columns:
            return Changes(self._measure(right, ()).rows, self._measure(left, ()).rows)
        before, after = (self._stage(each, columns, key, casts) for each in (left, right))
        with _reading(f"{left.what} and {right.what}", "tables"):
            self._duckdb.execute(
                "CREATE OR REPLACE TEMP TABLE differing AS SELECT h, any_value(k) AS k, any_value(q) AS q,"
                " sum(side)::BIGINT AS d FROM (SELECT h, k, q, 1::TINYINT AS side"
                f" FROM {after.name} UNION ALL SELECT h, k, q, -1 FROM {before.name}) GROUP BY h HAVING sum(side) <> 0"
            )
            self._duckdb.execute(
                "CREATE OR REPLACE TEMP TABLE keys AS SELECT k, sum(greatest(d, 0))::BIGINT AS added,"
                " sum(greatest(-d, 0))::BIGINT AS removed FROM differing GROUP BY k"
            )
            ((added, removed, changed),) = self._rows(
                "SELECT coalesce(sum(added), 0), coalesce(sum(removed), 0), coalesce(sum(least(added, removed)), 0)"
                " FROM keys"
            )
            chosen = {
                kind: [k for (k,) in self._rows(f"SELECT k FROM keys WHERE {condition} ORDER BY k LIMIT {EXAMPLES}")]
                for kind, condition in (
                    ("added", "added > 0 AND removed = 0"),
                    ("removed", "removed > 0 AND added = 0"),
                    ("changed", "added > 0 AND removed > 0"),
                )
            }
            was = self._examples(left, before, chosen["removed"] + chosen["changed"], "d < 0")
            now = self._examples(right, after, chosen["added"] + chosen["changed"], "d > 0")
        return Changes(
            added - changed,
            removed - changed,
            changed,
            tuple(_first(now[k]) for k in chosen["added"] if k in now),
            tuple(_first(was[k]) for k in chosen["removed"] if k in was),
            tuple(_differing(was[k], now[k], key) for k in chosen["changed"] if k in was and k in now),
        )

    # -- in DuckDB ----------------------------------------------------------------------------------------------
    def _rows(self, sql: str) -> list[Any]:
        return self._duckdb.execute(sql).fetchall()

    def _stage(
        self, opened: Opened, columns: tuple[str, ...], key: tuple[str, ...], casts: Mapping[str, str] | None = None
    ) -> _Staged:
        columns, casts = tuple(sorted(columns)), casts or {}
        for each in opened.staged:
            if each.columns == columns and each.key == key and each.casts == casts:
                return each
        with _reading(opened.what, LABELS[opened.table.format]):
            view, types = self._view(opened, casts)
            text = row_text(columns, types)
            key_text = row_text(key, types) if key else text
            quick = f"hash({', '.join(identifier(name) for name in columns)})"
            staged = _Staged(self._name("staged"), columns, key, casts, key_text, quick)
            self._duckdb.execute(
                f"CREATE TEMP TABLE {staged.name} AS SELECT h, {'k' if key else 'h AS k'}, q FROM"
                f" (SELECT md5_number({text}) AS h, {f'md5_number({key_text}) AS k,' if key else ''}"
                f" {quick} AS q FROM {view})"
            )
        opened.staged.append(staged)
        return staged

    def _twice(self, opened: Opened, staged: _Staged) -> str | None:
        """Return which rows have one key, if any have, in words."""
        twice = self._rows(f"SELECT k, count(*) FROM {staged.name} GROUP BY k HAVING count(*) > 1 ORDER BY k LIMIT 1")
        if not twice:
            return None
        ((k, count),) = twice
        view = self._view(opened)[0]
        values = ", ".join(f"{identifier(name)}::VARCHAR" for name in staged.key)
        rows = self._rows(f"SELECT {values} FROM {view} WHERE md5_number({staged.key_text}) = {hashes([k])} LIMIT 1")
        found = ", ".join(f"{name}={value}" for row in rows for name, value in zip(staged.key, row, strict=True))
        return f"{count} rows have {shown(found)}"

    def _view(self, opened: Opened, casts: Mapping[str, str] | None = None) -> tuple[str, dict[str, DuckDBPyType]]:
        """Make a table readable, once, some columns as other types, and return its name and its columns' types."""
        view = self._name("rows")
        opened.table.attach(self._duckdb, view)
        if casts:
            table, view = view, self._name("rows")
            changed = ", ".join(f"{identifier(n)}::{type_} AS {identifier(n)}" for n, type_ in casts.items())
            self._duckdb.execute(f"CREATE TEMP VIEW {view} AS SELECT * REPLACE ({changed}) FROM {table}")
        relation = self._duckdb.view(view)
        return view, dict(zip(relation.columns, relation.types, strict=True))

    def _examples(self, opened: Opened, staged: _Staged, keys: Sequence[int], side: str) -> dict[int, dict[str, Any]]:
        """Return one row for each hash of a key, found again by its quick hash, as values that JSON can hold."""
        if not keys:
            return {}
        wanted = self._rows(f"SELECT DISTINCT q FROM differing WHERE k IN ({hashes(keys)}) AND {side}")
        view, types = self._view(opened, staged.casts)
        names = [name for name in opened.table.schema if name in staged.columns]
        values = ", ".join(printable(identifier(name), types[name]) for name in names)
        rows = self._rows(
            f"SELECT md5_number({staged.key_text}), {values} FROM {view}"
            f" WHERE {staged.quick} IN ({', '.join(str(q) for (q,) in wanted)})"
        )
        found = {row[0]: as_json(dict(zip(names, row[1:], strict=True))) for row in sorted(rows, key=repr)}
        return {k: found[k] for k in keys if k in found}


def _settle(found: dict[str, Any], rows: int) -> None:
    """Make of counts what a profile says: nulls instead of values, and no more values than there are."""
    values = found.pop("values")
    nans = found.pop("nans", 0)
    if "approx_distinct" in found:
        found["approx_distinct"] = min(found["approx_distinct"], values)
    found["nulls"] = rows - values
    if nans:
        found["nans"] = nans


@contextmanager
def _reading(what: str, label: str) -> Iterator[None]:
    """Say in one line what DuckDB and Arrow say in many, and whether the files or the machine are to blame."""
    import csv

    import duckdb
    import pyarrow as pa

    try:
        yield
    except (duckdb.OutOfMemoryException, pa.ArrowMemoryError) as error:
        raise LakeError(
            f"there is not enough memory or disk to compare the rows of {what}", hint="free some of the disk"
        ) from error
    except (duckdb.ParserException, duckdb.CatalogException, duckdb.InternalException):
        raise
    except InvalidInputError as error:
        raise InvalidInputError(f"{what} can't be read as {label}: {error.message}", hint=error.hint) from error
    except (duckdb.Error, pa.ArrowException, csv.Error, OSError, UnicodeError) as error:
        if "No space left" in str(error):
            raise LakeError(
                f"the disk is full: the rows of {what} can't be compared", hint="free some of it"
            ) from error
        reason = reason_of(error)
        raise InvalidInputError(f"{what} can't be read as {label}: {reason}", hint="repair the file") from error


def _sweep(folder: Path) -> None:
    """Remove what a process that died left behind."""
    for old in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if old.stat().st_mtime < time.time() - _STALE:
                shutil.rmtree(old, ignore_errors=True)


def _first(row: dict[str, Any]) -> Row:
    return dict(list(row.items())[:_MOST_VALUES])


def _differing(before: dict[str, Any], after: dict[str, Any], key: Sequence[str]) -> tuple[Row, Row]:
    names = [n for n in after if n in key or repr(before[n]) != repr(after[n])][:_MOST_VALUES]
    return {name: before[name] for name in names}, {name: after[name] for name in names}
