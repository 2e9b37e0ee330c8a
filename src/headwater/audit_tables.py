"""Checking that tables only grew: at other programs' commits, and from some earlier landings to now; knows no rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from headwater import tables
from headwater.audit_model import Finding, Note
from headwater.deltalog import TableFiles
from headwater.fold import FOLDED
from headwater.lake.base import Lake
from headwater.schema import TABLES
from headwater.spine import before
from headwater.state import Fold

__all__ = ["Growth"]

_STRANGERS = (
    "SELECT id, parents, message, actor FROM commits WHERE tx IS NULL AND brought IS NULL AND kind IS NULL"
    " AND parents <> '' ORDER BY position"
)


class Growth:
    """What tables had earlier, held against what they have.

    Args:
        lake: The lake.
        fold: The state of the commit that is audited.
    """

    def __init__(self, lake: Lake, fold: Fold) -> None:
        self._lake = lake
        self._fold = fold
        self._counted: dict[tuple[str, str], Counter[str]] = {}
        self.brought: dict[str, str] = {}
        """By transaction: the commit of another program that brought rows of it."""

    def check(self) -> Iterator[Finding | Note]:
        """Yield rows that were taken out of a table, and what other programs changed in tables."""
        found: set[tuple[str, str]] = set()
        for commit, _, message, actor in self._fold.rows(_STRANGERS):
            earlier = before(self._lake.get_commit(commit))
            if earlier is None:
                continue
            changed = {change.path.split("/")[1] for change in self._lake.diff(earlier, commit, "tables/")}
            if not changed & TABLES.keys():
                continue
            names = [name for name in TABLES if name in changed]
            what = ", ".join(names)
            yield Note(
                "stranger",
                what,
                f"commit {commit[:12]} ({message}) changed {what}, and is not Headwater's",
                None,
                commit,
            )
            for name in names:
                lost, new = self._changes(name, earlier, commit)
                self.brought |= {tx: commit for tx in new if tx not in self.brought}
                if lost:
                    found.add((name, commit))
                    yield self._finding(name, lost, commit, f"commit {commit[:12]} took them out", actor)
        if not found:
            yield from self._since()

    def _since(self) -> Iterator[Finding]:
        """Compare what some earlier landings had: the last ones, and ever fewer of those further back."""
        (newest,) = self._fold.one("SELECT coalesce(max(position), 0) FROM commits")
        places = {newest - (1 << power) for power in range(newest.bit_length())}
        missing: set[str] = set()
        for place in sorted(places, reverse=True):
            row = self._fold.one("SELECT id FROM commits WHERE landed = id AND position = ?", place)
            if row is None:
                continue
            for name in TABLES:
                lost = None if name in missing else self._changes(name, row[0], self._fold.commit, by_whom=False)[0]
                if lost:
                    missing.add(name)
                    yield self._finding(name, lost, None, f"commit {row[0][:12]} had them", None)

    def _finding(self, name: str, lost: int, commit: str | None, why: str, actor: str | None) -> Finding:
        rows = "a row is" if lost == 1 else f"{lost:,} rows are"
        return Finding("table", name, f"{rows} gone from the table {name}: {why}", None, None, commit, actor)

    def _changes(self, name: str, earlier: str, later: str, *, by_whom: bool = True) -> tuple[int, set[str]]:
        """Return how many rows a table lost between two commits, and of which transactions it got rows."""
        left, right = self._files(name, earlier), self._files(name, later)
        gone = left.files.keys() - right.files.keys()
        new = right.files.keys() - left.files.keys()
        if name not in FOLDED:
            # Such tables are large, and their files say how many rows they have.
            fewer = sum(left.files[each].rows for each in gone) - sum(right.files[each].rows for each in new)
            return max(0, fewer), set()
        if not gone and not by_whom:
            return 0, set()
        had, has = Counter[str](), Counter[str]()
        for path in gone:
            had += self._transactions(name, path, earlier)
        for path in new:
            has += self._transactions(name, path, later)
        return (had - has).total(), has.keys() - had.keys()

    def _files(self, name: str, commit: str) -> TableFiles:
        return self._fold.table(name) if commit == self._fold.commit else tables.load(self._lake, commit, name)

    def _transactions(self, name: str, path: str, commit: str) -> Counter[str]:
        """Return how many rows of each transaction a data file has; a file never changes."""
        if (name, path) not in self._counted:
            column = tables.read(self._lake, commit, name, [path], ["tx"]).column("tx")
            self._counted[name, path] = Counter(column.to_pylist())
        return self._counted[name, path]
