"""What an embedded lake holds in memory until it lands: commits, chunks, and what a hidden branch has reserved."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from sqlite3 import Connection

from headwater.errors import IntegrityError, RaceLostError
from headwater.lake.base import Commit

__all__ = ["Hidden", "Overlay", "Record", "parse", "reached", "settle"]


@dataclass(slots=True)
class Record:
    """A commit as it is kept: `body` is the canonical JSON whose sha256 is the ID."""

    commit: Commit
    tree: str
    generation: int
    body: str


@dataclass(slots=True)
class Overlay:
    """Commits and chunks that only this process knows yet, and the large objects that it has put for them."""

    commits: dict[str, Record] = field(default_factory=dict)
    chunks: dict[str, bytes] = field(default_factory=dict)
    objects: set[str] = field(default_factory=set)

    def take(self, other: Overlay) -> None:
        """Add what another one holds."""
        self.commits |= other.commits
        self.chunks |= other.chunks
        self.objects |= other.objects


@dataclass(slots=True)
class Hidden:
    """A hidden branch: its head, what it holds, and the claims and numbers that become final when it lands."""

    head: str
    overlay: Overlay
    claims: dict[str, str] = field(default_factory=dict)
    numbers: dict[tuple[str, int], str] = field(default_factory=dict)


def settle(connection: Connection, origin: Hidden) -> None:
    """Make the claims and numbers of a hidden branch final, or say that another writer was first."""
    for key, value in origin.claims.items():
        connection.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (key, value))
        if connection.execute("SELECT value FROM claims WHERE key = ?", (key,)).fetchone()[0] != value:
            raise RaceLostError(f"another writer reserved {key!r} first", hint="try again")
    for (sequence, number), value in origin.numbers.items():
        connection.execute("INSERT OR IGNORE INTO numbers VALUES (?, ?, ?)", (sequence, number, value))
        held = connection.execute("SELECT value FROM numbers WHERE sequence = ? AND number = ?", (sequence, number))
        if held.fetchone()[0] != value:
            raise RaceLostError(f"another writer cut number {number} of {sequence!r} first", hint="try again")


def reached(record: Record, overlay: Overlay) -> list[Record]:
    """Return the records of the overlay that a record descends from, and itself; parents first."""
    wanted = {record.commit.id}
    found = []
    for each in reversed(list(overlay.commits.values())):
        if each.commit.id in wanted:
            found.append(each)
            wanted |= set(each.commit.parents)
    return found[::-1]


def parse(commit: str, body: str) -> Record:
    """Return a commit as it was kept.

    Raises:
        IntegrityError: It is not what was written.
    """
    if sha256(body.encode()).hexdigest() != commit:
        raise IntegrityError(
            f"commit {commit} is not what was written: its sha256 differs",
            hint="restore the lake's folder from a copy",
        )
    data = json.loads(body)
    return Record(
        Commit(commit, tuple(data["parents"]), data["message"], data["metadata"], data["micros"]),
        data["tree"],
        data["generation"],
        body,
    )
