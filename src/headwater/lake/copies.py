"""An index of commits that were copied from another lake, by the IDs that they had there; a cache beside the lake."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from headwater.lake.base import ORIGIN, Commit
from headwater.lake.walk import commits_until

__all__ = ["Copies"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS copies (origin TEXT, id TEXT, PRIMARY KEY (origin, id)) WITHOUT ROWID;
"""


class _Logged(Protocol):
    def log(self, commit: str, *, first_parent: bool = False) -> Iterator[Commit]: ...


class Copies:
    """Finds copies; reads no more of the log than is new since it was asked last.

    Args:
        lake: The lake whose commits they are.
        path: The file of the index; where it can't be written, it is made in memory each time.
    """

    def __init__(self, lake: _Logged, path: Path) -> None:
        self._lake = lake
        self._path = path

    def find(self, prefix: str, heads: Callable[[], list[str]]) -> list[str]:
        """Return at most two copies of commits whose first ID begins with a prefix of hex digits.

        Args:
            prefix: The digits.
            heads: Returns the commits from which all are reached; asked only if the index does not know.
        """
        for where in (str(self._path), ":memory:"):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.closing(sqlite3.connect(where, timeout=10)) as connection:
                    connection.executescript(_SCHEMA)
                    found = _find(connection, prefix)
                    if not found:
                        self._extend(connection, heads())
                        found = _find(connection, prefix)
                    return found
            except (sqlite3.DatabaseError, OSError) as error:
                if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                    with contextlib.suppress(OSError):  # it is damaged
                        self._path.unlink()
        return []

    def _extend(self, connection: sqlite3.Connection, heads: list[str]) -> None:
        def known(commit: str) -> bool:
            return connection.execute("SELECT 1 FROM seen WHERE id = ?", (commit,)).fetchone() is not None

        for head in heads:
            new = commits_until(self._lake, head, known)
            with connection:
                copies = [(each.metadata[ORIGIN], each.id) for each in new if ORIGIN in each.metadata]
                connection.executemany("INSERT OR IGNORE INTO copies VALUES (?, ?)", copies)
                connection.executemany("INSERT OR IGNORE INTO seen VALUES (?)", [(each.id,) for each in new])


def _find(connection: sqlite3.Connection, prefix: str) -> list[str]:
    rows = connection.execute(
        "SELECT max(id) FROM copies WHERE origin >= ? AND origin < ? GROUP BY origin LIMIT 2", (prefix, prefix + "g")
    )
    return [str(row[0]) for row in rows]
