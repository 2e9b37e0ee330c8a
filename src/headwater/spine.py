"""Which way a branch's history goes through the commits that it consists of; reads no lake.

A commit of kind `MOVE` says that it only brought the branch to its second parent. It is believed where nothing is lost
by that: where it would leave out what had landed before it, it is a merge like others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headwater.lake.base import MOVE, Commit

__all__ = ["KIND", "TX", "before", "landings_of", "line_of"]

TX = "headwater.tx"
"""Commit metadata: the transaction whose rows the commit holds."""

KIND = "headwater.kind"


def before(commit: Commit) -> str | None:
    """Return what a branch was before a commit, by its own word: one that only moved it there is left out."""
    moved = commit.metadata.get(KIND) == MOVE and len(commit.parents) == 2
    return commit.parents[1 if moved else 0] if commit.parents else None


def line_of(connection: sqlite3.Connection, new: Iterable[Commit]) -> dict[str, str | None]:
    """Return what the branch was before each of some commits, which are not folded yet.

    Args:
        connection: What is folded.
        new: The commits, parents first.
    """
    history = _History(connection)
    found: dict[str, str | None] = {}
    for commit in new:
        kind, tx = commit.metadata.get(KIND), commit.metadata.get(TX)
        each = history.known[commit.id] = _Commit(list(commit.parents), kind, tx)
        found[commit.id] = commit.parents[0] if commit.parents else None
        if each.moves:
            each.is_followed = not history.loses(*each.parents)
            found[commit.id] = commit.parents[1 if each.is_followed else 0]
    return found


def landings_of(connection: sqlite3.Connection, new: Sequence[Commit], head: str) -> list[Commit]:
    """Return those of some commits by which a branch came to its head, the earliest first.

    Args:
        connection: What is folded.
        new: Commits that are not folded yet, parents first.
        head: The last of them.
    """
    by_id = {commit.id: commit for commit in new}
    line = line_of(connection, new)
    found: list[Commit] = []
    at: str | None = head
    while at in by_id:
        found.append(by_id[at])
        at = line[at]
    return found[::-1]


@dataclass(slots=True)
class _Commit:
    parents: list[str]
    kind: str | None
    tx: str | None
    is_followed: bool | None = None

    @property
    def moves(self) -> bool:
        return self.kind == MOVE and len(self.parents) == 2


class _History:
    """The commits that are known, folded or not."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.known: dict[str, _Commit] = {}

    def loses(self, first: str, second: str) -> bool:
        """Return whether something landed in what one commit descends from, and is not in what another one does."""
        settled = first
        while (found := self._get(settled)) is not None and found.moves and self._is_followed(settled, found):
            settled = found.parents[1]
        # Nearly always it is found soon, along the line.
        at: str | None = second
        while at is not None and (found := self._get(at)) is not None:
            if at == settled:
                return False
            at = found.parents[1 if found.moves else 0] if found.parents else None
        theirs = self._ancestors(second, set())
        return any(self._has_landed(each) for each in self._ancestors(settled, theirs) - theirs)

    def _is_followed(self, name: str, commit: _Commit) -> bool:
        if commit.is_followed is None:
            row = self._connection.execute(
                "SELECT p.id FROM commits m JOIN commits p ON p.position = m.position - 1 AND p.landed = p.id"
                " WHERE m.id = ? AND m.landed = m.id",
                (name,),
            ).fetchone()
            commit.is_followed = row[0] == commit.parents[1] if row is not None else not self.loses(*commit.parents)
        return commit.is_followed

    def _has_landed(self, name: str) -> bool:
        found = self._get(name)
        # A lake that was only made, and becomes a copy of another, has nothing to lose.
        return found is not None and found.tx is not None and found.kind != "init"

    def _ancestors(self, commit: str, known: set[str]) -> set[str]:
        """Return a commit and what it descends from, except what is known and what that descends from."""
        found, todo = set[str](), [commit]
        while todo:
            each = todo.pop()
            if each in found or each in known:
                continue
            found.add(each)
            row = self._get(each)
            todo += row.parents if row is not None else []
        return found

    def _get(self, name: str) -> _Commit | None:
        if name not in self.known:
            row = self._connection.execute("SELECT parents, kind, tx FROM commits WHERE id = ?", (name,)).fetchone()
            if row is None:
                return None
            self.known[name] = _Commit(row[0].split(), row[1], row[2])
        return self.known[name]
