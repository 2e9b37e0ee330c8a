"""What one commit has that another lacks: transactions and their rows, read from the files that only it has.

The rows of a transaction reach a branch together, so a difference is a set of transactions, and its cost follows what
they wrote. Knows rows and files; knows no models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headwater import tables
from headwater.ancestry import commits_beyond
from headwater.errors import IntegrityError
from headwater.fold import FOLDED, TX
from headwater.lake.base import Commit, Lake
from headwater.schema import TABLES
from headwater.state import Fold

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Difference", "Part", "check_keys", "difference"]


@dataclass(frozen=True, slots=True)
class Part:
    """A data file of a table that the other commit does not have, and how many of its rows are new.

    Attributes:
        path: Under the table's folder.
        size: Bytes.
        rows: How many rows of it are new.
        whole: Whether all of them are.
        statistics: What the table's log says of it.
    """

    path: str
    size: int
    rows: int
    whole: bool
    statistics: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """What commit `right` has that another lacks.

    Attributes:
        base: Where they parted: a common ancestor.
        right: The commit.
        commits: The commits that only it has, parents first.
        transactions: The IDs of the transactions that only it has.
        parts: The files that hold their rows, by table.
    """

    base: str
    right: str
    commits: tuple[Commit, ...]
    transactions: frozenset[str]
    parts: Mapping[str, Sequence[Part]]
    _lake: Lake = field(repr=False, compare=False)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many rows are new, by table."""
        return {name: sum(part.rows for part in parts) for name, parts in self.parts.items()}

    @cached_property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """The new rows of the tables that are folded, with all columns, times in microseconds."""
        return {name: list(tables.rows(self.arrow(name))) for name in self.parts if name in FOLDED}

    def arrow(self, table: str, parts: Iterable[Part] | None = None) -> pa.Table:
        """Return the new rows of a table, or those of some of its parts.

        Raises:
            IntegrityError: A file is missing or cannot be read.
        """
        chosen = self.parts.get(table, ()) if parts is None else parts
        return _new_rows(tables.read(self._lake, self.right, table, [part.path for part in chosen]), self.transactions)

    def standing(self) -> list[dict[str, Any]]:
        """Return the new events that no other new event supersedes, oldest first.

        What supersedes a new event is new itself: who has it has all that it descends from.
        """
        return self._standing

    @cached_property
    def _standing(self) -> list[dict[str, Any]]:
        events = self.rows.get("events", [])
        return sorted(
            (e for e in events if e["event_id"] not in self._superseded), key=lambda event: str(event["event_id"])
        )

    def superseded(self) -> set[str]:
        """Return the IDs of the events that new ones supersede, new ones among them."""
        return self._superseded

    @cached_property
    def _superseded(self) -> set[str]:
        return {prev for event in self.rows.get("events", []) for prev in event["prev"]}


def difference(lake: Lake, fold: Fold, right: str) -> Difference:
    """Return what a commit has that a folded one lacks.

    Args:
        lake: The lake.
        fold: The state of the commit that is compared with.
        right: A commit ID.

    Raises:
        ConflictError: The two have no common history.
        IntegrityError: A table of `right` is damaged.
    """
    commits = tuple(commits_beyond(lake, fold, right))
    wrote = {commit.metadata[TX] for commit in commits if TX in commit.metadata}
    # A history that went through another lake may bring a transaction again, in a commit of another ID.
    transactions = frozenset(tx for tx in wrote if fold.one("SELECT 1 FROM commits WHERE tx = ?", tx) is None)
    if not transactions:
        return Difference(right if not commits else fold.commit, right, commits, transactions, {}, lake)
    base = lake.merge_base(fold.commit, right)
    parts = {}
    for table, changed in _changed(lake, base, right).items():
        here = fold.table(table).files
        found = _parts(lake, right, table, [path for path in changed.data if path not in here], changed, transactions)
        if found:
            parts[table] = found
    return Difference(base, right, commits, transactions, parts, lake)


@dataclass(slots=True)
class _Changed:
    """Paths that one commit has and another lacks, under a table's folder."""

    data: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def _changed(lake: Lake, base: str, right: str) -> dict[str, _Changed]:
    found: dict[str, _Changed] = {}
    for change in lake.diff(base, right, "tables/"):
        _, table, path = change.path.split("/", 2)
        if change.kind == "removed" or table not in TABLES:
            continue
        paths = found.setdefault(table, _Changed())
        (paths.log if path.startswith("_delta_log/") else paths.data).append(path)
    return found


def _parts(
    lake: Lake, right: str, table: str, paths: list[str], changed: _Changed, transactions: frozenset[str]
) -> list[Part]:
    found = []
    adds = tables.adds(lake, right, table, changed.log, changed.data)
    for path in paths:
        add = adds.get(path)
        if add is None:
            # Uploaded for a transaction that then wrote nothing: no version of the table names it.
            continue
        statistics = json.loads(add["stats"]) if add.get("stats") else {}
        least = statistics.get("minValues", {}).get("tx")
        if least is not None and least == statistics.get("maxValues", {}).get("tx"):
            new = statistics["numRecords"] if least in transactions else 0
            total = statistics["numRecords"]
        else:
            column = tables.read(lake, right, table, [path], ["tx"])
            new, total = len(_new_rows(column, transactions)), len(column)
        if new:
            found.append(Part(path, add["size"], new, new == total, statistics))
    return found


def _new_rows(rows: pa.Table, transactions: frozenset[str]) -> pa.Table:
    """Return the rows that the transactions wrote."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(rows):
        return rows
    return rows.filter(pc.is_in(rows.column("tx"), value_set=pa.array(sorted(transactions), pa.string())))


def check_keys(fold: Fold, new: Difference) -> None:
    """Make sure that no new row has a key, or a number, that a row of another transaction has already.

    Raises:
        IntegrityError: One has.
    """
    for table, name, *key in _UNIQUE:
        seen: dict[tuple[Any, ...], str] = {}
        condition = " AND ".join(f"{column} = ?" for column in key)
        for row in new.rows.get(table, ()):
            values = tuple(row[column] for column in key)
            there = fold.one(f"SELECT tx FROM {name} WHERE {condition}", *values)
            other = there[0] if there is not None else seen.setdefault(values, row["tx"])
            if other != row["tx"]:
                raise IntegrityError(
                    f"two rows of {table} have {' '.join(map(str, values))} as {' and '.join(key)}:"
                    f" of transactions {other} and {row['tx']}",
                    hint="something else than Headwater wrote to one of the branches: merge up to a commit before it",
                )


_UNIQUE = (
    ("model_versions", "versions", "version_id"),
    ("model_versions", "versions", "model_id", "version"),
    ("datasets", "datasets", "dataset_id"),
    ("datasets", "datasets", "name", "semver"),
    ("events", "events", "event_id"),
    ("runs", "runs", "run_id"),
    ("deployments", "deployments", "deployment_id"),
)
"""Columns of a table that no two transactions give the same values; the second is its name in the folded state."""
