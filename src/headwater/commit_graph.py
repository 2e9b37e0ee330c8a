"""The commits of a log as a graph of some of them: order, and which stands on which; knows no lake and no words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

__all__ = ["contracted", "newest_first"]

Parents = Mapping[str, Sequence[str]]


def newest_first(parents: Parents, micros: Mapping[str, int]) -> list[str]:
    """Return commits by time, newest first, yet every one before its parents, whatever the clocks said.

    Args:
        parents: Of each commit, those of its parents that matter; others may be among them.
        micros: When each was made.
    """
    children = dict.fromkeys(parents, 0)
    for above in parents.values():
        for parent in above:
            if parent in children:
                children[parent] += 1
    ready = [(-micros[commit], commit) for commit, count in children.items() if not count]
    heapify(ready)
    found = []
    while ready:
        _, commit = heappop(ready)
        found.append(commit)
        for parent in parents[commit]:
            if parent in children:
                children[parent] -= 1
                if not children[parent]:
                    heappush(ready, (-micros[parent], parent))
    return found


def contracted(parents: Parents, order: Sequence[str], shown: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return, for every commit, the shown ones that it stands on directly, the own line's first.

    A shown commit that another one of them stands on, or is reached through, is left out.

    Args:
        parents: Of each commit; those that are not among the commits are taken to be shown, and to have no parents.
        order: The commits, every one before its parents.
        shown: The commits that are to be seen.
    """
    rank = {commit: len(order) - place for place, commit in enumerate(order)}
    found: dict[str, tuple[str, ...]] = {}
    for commit in reversed(order):
        below: dict[str, None] = {}
        for parent in parents[commit]:
            below.update(dict.fromkeys([parent] if parent in shown or parent not in rank else found[parent]))
        found[commit] = tuple(below) if len(below) < 2 else _reduced(below, found, rank)
    return found


def _reduced(commits: Iterable[str], found: Mapping[str, tuple[str, ...]], rank: Mapping[str, int]) -> tuple[str, ...]:
    """Return commits without those that others of them descend from."""
    wanted = list(commits)
    for one, other in (wanted, wanted[::-1]) if len(wanted) == 2 else ():
        # So it is of nearly every landing: what it brought stands on what was there.
        if other in found.get(one, ()):
            return (one,)
    left = set(wanted)
    lowest = min(rank.get(commit, 0) for commit in wanted)
    todo = [(-rank.get(commit, 0), commit) for commit in wanted]
    heapify(todo)
    seen = set(wanted)
    while todo and len(left) > 1:
        _, commit = heappop(todo)
        for parent in found.get(commit, ()):
            left.discard(parent)
            if parent not in seen and rank.get(parent, 0) >= lowest:
                seen.add(parent)
                heappush(todo, (-rank.get(parent, 0), parent))
    return tuple(commit for commit in wanted if commit in left)
