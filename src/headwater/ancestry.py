"""How two commits of one lake stand to each other, told from one folded state and the log; reads no tables."""

from __future__ import annotations

from headwater.lake.base import Commit, Lake
from headwater.lake.walk import commits_until
from headwater.state import Fold

__all__ = ["commits_beyond"]


def commits_beyond(lake: Lake, fold: Fold, right: str) -> list[Commit]:
    """Return the commits that `right` reaches and the folded commit does not, parents first.

    Args:
        lake: The lake.
        fold: The state of the left commit.
        right: A commit ID.
    """
    return commits_until(lake, right, lambda commit: fold.one("SELECT 1 FROM commits WHERE id = ?", commit) is not None)
