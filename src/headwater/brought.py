"""Which transactions a commit stands for: one, or all that it brought where it is a merge or a landing; no writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headwater.errors import InvalidInputError, NotFoundError
from headwater.state import Fold

__all__ = ["Brought", "brought_by"]

_COLUMNS = "id, tx, kind, message, parents, landed, brought"
_MERGE = "merge"

_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Brought:
    """What a commit stands for.

    Attributes:
        commit: The commit that holds its rows; of a merge, the merge's own.
        tx: The transaction of that commit.
        message: What the log says of it.
        transactions: Every transaction that it brought, its own among them.
    """

    commit: str
    tx: str
    message: str
    transactions: frozenset[str]


def brought_by(fold: Fold, commit: str, branch: str) -> Brought:
    """Return what a commit brought to the branch that has it: as transaction, landing, upload or merge.

    Args:
        fold: The state of the branch's head.
        commit: A whole commit ID.
        branch: What messages call the branch.

    Raises:
        NotFoundError: The branch does not descend from the commit.
        InvalidInputError: It holds no transaction.
    """
    row = fold.one(f"SELECT {_COLUMNS} FROM commits WHERE id = ?", commit)
    if row is None:
        raise NotFoundError(
            f"commit {commit[:12]} is not in the history of branch {branch!r}",
            hint="`headwater log` lists what is; what another branch did is undone there, or once it is merged",
        )
    if row[1] is None and row[6] is not None:
        row = fold.one(f"SELECT {_COLUMNS} FROM commits WHERE tx = ?", row[6]) or row
    elif row[1] is None:
        row = _made_for(fold, row)
    if row[1] is None:
        raise InvalidInputError(
            f"commit {commit[:12]} holds no transaction that could be undone",
            hint="`headwater log` lists those that do",
        )
    found, tx, kind, message, *_ = row
    return Brought(found, tx, message, _merged(fold, row) if kind == _MERGE else frozenset({tx}))


def _made_for(fold: Fold, row: _Row) -> _Row:
    """Return the commit of the transaction that a commit without rows, such as an upload, was made for; else itself."""
    rows = fold.rows(f"SELECT {_COLUMNS} FROM commits WHERE landed = ?", row[5])
    near: dict[str, _Row] = {each[0]: each for each in rows}
    for each in near.values():
        if each[1] is None:
            continue
        before = near.get(each[4].partition(" ")[0])
        while before is not None and before[1] is None:
            if before[0] == row[0]:
                return each
            before = near.get(before[4].partition(" ")[0])
    return row


def _merged(fold: Fold, row: _Row) -> frozenset[str]:
    """Return the transactions that a merge brought, from the commit of its own transaction."""
    commit, tx, _, _, _, landed, _ = row
    landing = fold.one("SELECT id, parents FROM commits WHERE id = ? AND brought = ?", landed, tx)
    if landing is not None:
        return frozenset(each for (each,) in fold.rows(_LANDED, landed))
    # It was merged elsewhere, and came along in a larger merge.
    landing = fold.one("SELECT id, parents FROM commits WHERE brought = ?", tx)
    parents = {each: text.split() for each, text in fold.rows("SELECT id, parents FROM commits")}
    before = _reach(parents, landing[1].partition(" ")[0]) if landing is not None else set()
    new = _reach(parents, commit) - before if landing is not None else {commit}
    return frozenset(each for id_, each in fold.rows("SELECT id, tx FROM commits WHERE tx IS NOT NULL") if id_ in new)


_LANDED = "SELECT tx FROM commits WHERE landed = ? AND tx IS NOT NULL"


def _reach(parents: dict[str, list[str]], commit: str) -> set[str]:
    seen = {commit}
    todo = [commit]
    while todo:
        new = [each for each in parents.get(todo.pop(), ()) if each not in seen]
        seen.update(new)
        todo += new
    return seen
