"""How two commits of one lake stand to each other, told from one folded state and the log; reads no tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from headwater.fold import KIND, TX
from headwater.lake.base import AT, Commit, Lake
from headwater.lake.walk import commits_until
from headwater.state import Fold

__all__ = ["SETTLED", "Standing", "commits_beyond", "shared", "standing"]

SETTLED = "headwater.settled"
"""Commit metadata of a merge that settled conflicts: how many."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a commit stands to another one.

    Attributes:
        ahead: What only it has, parents first: transactions, and commits that other programs made. Merges are left
            out, since what they brought is counted, unless they settled something.
        behind: How many of these only the other has.
        merged: Commits that both have because a merge brought them to the other one.
    """

    ahead: tuple[Commit, ...]
    behind: int
    merged: frozenset[str] = frozenset()


def commits_beyond(lake: Lake, fold: Fold, right: str) -> list[Commit]:
    """Return the commits that `right` reaches and the folded commit does not, parents first.

    Args:
        lake: The lake.
        fold: The state of the left commit.
        right: A commit ID.
    """
    return commits_until(lake, right, lambda commit: _is_folded(fold, commit))


def standing(lake: Lake, fold: Fold, right: str, new: Sequence[Commit] | None = None) -> Standing:
    """Return how `right` stands to the folded commit.

    Args:
        lake: The lake.
        fold: The state of the other commit; no state of `right` is made.
        right: A commit ID.
        new: What `commits_beyond` says of the two, where it was asked already.
    """
    if new is None:
        new = commits_beyond(lake, fold, right)
    position, aside = _reached(fold, _common(fold, right, new))
    (behind,) = fold.one(f"SELECT count(*) FROM commits c WHERE c.position > ? AND {_COUNTS}", position)
    for each in aside:
        behind -= fold.one(f"SELECT 1 FROM commits c WHERE c.id = ? AND {_COUNTS}", each) is not None
    ahead = []
    for commit in new:
        if not _counts(commit):
            continue
        # A history that went through another lake may have brought a transaction in a commit of another ID.
        twin = fold.one("SELECT id, position FROM commits WHERE tx = ?", commit.metadata.get(TX))
        if twin is None:
            ahead.append(commit)
        elif twin[1] > position and twin[0] not in aside:
            behind -= 1
    return Standing(tuple(ahead), behind, frozenset(aside))


def shared(fold: Fold, right: str, new: Sequence[Commit]) -> Callable[[str], bool]:
    """Return a function that says of a folded transaction whether `right` has it too.

    Args:
        fold: The state of the other commit.
        right: A commit ID.
        new: What `commits_beyond` says of the two.
    """
    position, aside = _reached(fold, _common(fold, right, new))
    again = {commit.metadata[TX] for commit in new if TX in commit.metadata}

    def is_shared(tx: str) -> bool:
        rows = fold.rows("SELECT id, position FROM commits WHERE tx = ?", tx)
        return tx in again or any(at <= position or commit in aside for commit, at in rows)

    return is_shared


def _common(fold: Fold, right: str, new: Sequence[Commit]) -> set[str]:
    """Return the latest commits that both have."""
    return {parent for commit in new for parent in commit.parents if _is_folded(fold, parent)} if new else {right}


def _is_folded(fold: Fold, commit: str) -> bool:
    return fold.one("SELECT 1 FROM commits WHERE id = ?", commit) is not None


def _reached(fold: Fold, commits: set[str]) -> tuple[int, set[str]]:
    """Return what folded commits descend from: all up to a position, and these that landed later.

    A first-parent commit descends from everything up to its position. So the walk goes from the latest landing back
    until it meets one, and costs what branches brought since, not what there is.
    """
    todo: list[tuple[int, int, str]] = []
    seen: set[str] = set()

    def add(commit: str) -> None:
        if commit not in seen:
            seen.add(commit)
            landed, position = fold.one("SELECT landed, position FROM commits WHERE id = ?", commit)
            heappush(todo, (-position, int(landed != commit), commit))

    for each in commits:
        add(each)
    aside: set[str] = set()
    while todo:
        negative, off, commit = heappop(todo)
        if not off:
            return -negative, aside
        aside.add(commit)
        for parent in fold.one("SELECT parents FROM commits WHERE id = ?", commit)[0].split():
            add(parent)
    return -1, aside


def _counts(commit: Commit) -> bool:
    """Return whether a commit is one that people would count: see `Standing`."""
    if TX in commit.metadata:
        return commit.metadata.get(KIND) != "merge" or SETTLED in commit.metadata
    return AT not in commit.metadata and len(commit.parents) == 1


_COUNTS = f"""CASE WHEN c.tx IS NOT NULL
    THEN c.kind IS NOT 'merge' OR json_type(c.metadata, '$."{SETTLED}"') IS NOT NULL
    ELSE json_type(c.metadata, '$."{AT}"') = 'null' AND c.parents <> '' AND instr(c.parents, ' ') = 0 END"""
"""The same of a folded commit `c`."""
