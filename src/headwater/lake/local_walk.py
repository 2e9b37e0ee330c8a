"""Walking the commits of an embedded lake back through its history, reading little but the commits that are met."""

from __future__ import annotations

from heapq import heappop, heappush

from headwater.errors import IntegrityError
from headwater.lake.local_db import Database
from headwater.lake.pending import Record, parse

__all__ = ["Walk"]

_PAGE = 500
_NEAR = 64
"""Rows between a commit and its parent up to which they count as neighbours."""

_RUN = 8
"""Neighbours in a row after which the next are read by the page: so goes the history of a branch that moves alone."""


class Walk:
    """Hands out commits that were added to it, each once and before its parents, if those are added when it is met.

    Rows are written parents first, so the reverse of the order of writing has every commit before its parents. A
    page of rows takes less time than a few single ones, but all of it is in vain where a branch that parted long ago
    shares the table with one that is busy.

    Args:
        database: Where commits are kept.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._seen: set[str] = set()
        self._heap: list[tuple[int, str, str]] = []
        self._page: dict[str, tuple[int, str]] = {}
        self._at = 0
        self._run = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, name: str) -> None:
        """Have a commit handed out.

        Raises:
            IntegrityError: It is missing.
        """
        if name in self._seen:
            return
        self._seen.add(name)
        found = self._page.get(name)
        if found is None:
            rows = self._db.query("SELECT seq, body FROM commits WHERE id = ?", name)
            if not rows:
                raise IntegrityError(
                    f"the history is not whole: commit {name} is missing from lake.db",
                    hint="restore the lake's folder from a copy",
                )
            found = rows[0]
            self._note(found[0])
        heappush(self._heap, (-found[0], name, found[1]))

    def take(self) -> Record:
        """Return the commit that was written last of those that were added and not taken yet."""
        seq, name, body = heappop(self._heap)
        self._at = -seq
        return parse(name, body)

    def _note(self, seq: int) -> None:
        """Read a page where single rows have kept being neighbours."""
        self._run = self._run + 1 if 0 <= self._at - seq <= _NEAR else 0
        if self._run >= _RUN:
            self._run = 0
            rows = self._db.query(
                f"SELECT id, seq, body FROM commits WHERE seq < ? ORDER BY seq DESC LIMIT {_PAGE}", seq
            )
            self._page = {name: (at, body) for name, at, body in rows}
