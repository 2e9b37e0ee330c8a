"""Walking the history of any lake back to what is known already; knows commits and no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from headwater.lake.base import Commit

__all__ = ["commits_until"]


class _Logged(Protocol):
    def log(self, commit: str, *, first_parent: bool = False) -> Iterator[Commit]: ...


def commits_until(lake: _Logged, commit: str, known: Callable[[str], bool]) -> list[Commit]:
    """Return a commit and its ancestors down to, and without, those that are known; parents first.

    Args:
        lake: The lake.
        commit: A commit ID.
        known: Whether a commit is known by its ID; with it, all of its ancestors are.
    """
    missing = set() if known(commit) else {commit}
    found: list[Commit] = []
    if missing:
        for each in lake.log(commit):
            if each.id not in missing:
                continue
            missing.discard(each.id)
            found.append(each)
            missing.update(parent for parent in each.parents if not known(parent))
            if not missing:
                break
    return found[::-1]
