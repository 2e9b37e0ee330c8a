"""Checking the chain of commits: every parent is there, and what a landing says that it brought is what it brought."""

from __future__ import annotations

from collections.abc import Iterator

from headwater.audit_model import Finding
from headwater.lake.base import MOVE
from headwater.state import Fold

__all__ = ["check_history"]


_COVERS_UP = """SELECT m.id, m.actor FROM commits m WHERE m.landed = m.id AND m.kind = ? AND m.parents LIKE '% %'
    AND NOT EXISTS (SELECT 1 FROM commits p WHERE p.position = m.position - 1 AND p.landed = p.id
        AND m.parents LIKE '% ' || p.id) ORDER BY m.position"""
"""Landings that say that they only moved the branch, and are not taken at their word."""


def check_history(fold: Fold) -> Iterator[Finding]:
    """Yield what is wrong with the commits that a commit descends from.

    Args:
        fold: The state of the commit.
    """
    rows = fold.rows("SELECT id, tx, brought, parents, actor FROM commits")
    transactions = {commit: tx for commit, tx, *_ in rows}
    roots = []
    for commit, _, brought, text, actor in rows:
        parents = text.split()
        for parent in parents:
            if parent not in transactions:
                yield _finding(f"commit {commit[:12]} goes on from {parent[:12]}, which is not there", commit, actor)
        if not parents:
            roots.append(commit)
        if brought is not None and (len(parents) != 2 or transactions.get(parents[1]) != brought):
            yield _finding(
                f"commit {commit[:12]} says that it landed transaction {brought}, and it did not", commit, actor
            )
    for commit, actor in fold.rows(_COVERS_UP, MOVE) if fold.signed else ():
        yield _finding(
            f"commit {commit[:12]} says that it only moved the branch, and leaves out what had landed there: it is read"
            " as a merge, and what it would hide stands",
            commit,
            actor,
        )
    if len(roots) > 1:
        yield _finding(f"the history has {len(roots)} beginnings: {', '.join(each[:12] for each in roots)}", roots[-1])


def _finding(message: str, commit: str, actor: str | None = None) -> Finding:
    return Finding("history", f"commit {commit[:12]}", message, None, None, commit, actor)
