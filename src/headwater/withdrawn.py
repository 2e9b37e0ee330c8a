"""What a merge brought to a branch and a revert there took away again; reads the log of a folded state alone.

A merge brings nothing twice, so whoever merges, compares or deletes such a branch has to be told where its work went.
"""

from __future__ import annotations

from collections.abc import Iterable

from headwater.ancestry import Standing
from headwater.reverts import Reverts
from headwater.state import Fold

__all__ = ["told", "withdrawn"]


def withdrawn(fold: Fold, stands: Standing) -> tuple[str, ...]:
    """Return the commits of the reverts whose undoing would bring back what merges had brought.

    Args:
        fold: The state of the branch that was merged into.
        stands: How what was merged stands to it.
    """
    if not stands.merged or fold.one("SELECT 1 FROM commits WHERE kind = 'revert'") is None:
        return ()
    reverts = Reverts(fold)
    found = set()
    for tx, by in reverts.undone.items():
        if tx in reverts:
            continue
        # A revert that was itself undone and then brought back is undone where that was.
        for newer in reversed(reverts.undid):
            if any(by in reverts.undid.get(each, ()) for each in reverts.undid[newer]):
                by = newer
        commit, revert = (fold.one("SELECT id FROM commits WHERE tx = ?", each)[0] for each in (tx, by))
        if commit in stands.merged and revert not in stands.merged:
            found.add(str(revert))
    return tuple(sorted(found))


def told(source: str, commits: Iterable[str]) -> list[str]:
    """Return, in words, what `withdrawn` found of a branch."""
    return [
        f"what {source} brought was reverted in {each[:12]}; `headwater revert {each[:12]}` brings it back"
        for each in commits
    ]
