"""Which reverts a branch has seen, what each undid, and what is undone now; reads the log of a folded state alone."""

from __future__ import annotations

import json
from collections.abc import Collection

from headwater.brought import brought_by
from headwater.state import Fold

__all__ = ["REVERTED", "Reverts"]

REVERTED = "headwater.reverted"
"""Commit metadata of a revert: the transaction that it undid; of a merge, the merge's own."""


class Reverts:
    """The reverts of a state.

    Attributes:
        undid: By the transaction of a revert, those that it undid; the newest first.
        undone: Transactions that are undone now: by a revert that is not undone itself.

    Args:
        fold: The state.
    """

    def __init__(self, fold: Fold) -> None:
        self.undid: dict[str, frozenset[str]] = {}
        self.undone: set[str] = set()
        rows = fold.rows(
            "SELECT tx, metadata FROM commits WHERE kind = 'revert' AND tx IS NOT NULL"
            " ORDER BY position DESC, micros DESC"
        )
        for tx, text in rows:
            row = fold.one("SELECT id FROM commits WHERE tx = ?", json.loads(text or "{}").get(REVERTED))
            if row is not None:
                self.undid[tx] = brought_by(fold, row[0], "").transactions
                if tx not in self.undone:
                    self.undone |= self.undid[tx]

    def __contains__(self, tx: str) -> bool:
        return tx in self.undid

    def around(self, transactions: Collection[str]) -> set[str]:
        """Return some transactions, with the reverts that undid nothing but parts of them, and the reverts of those."""
        found = set(transactions)
        while new := {tx for tx, undid in self.undid.items() if tx not in found and undid <= found}:
            found |= new
        return found
