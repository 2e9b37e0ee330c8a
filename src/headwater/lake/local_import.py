"""Commits and reservations of another lake on their way into an embedded one; decides nothing about branches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from sqlite3 import Connection

from headwater.lake import trees
from headwater.lake.base import Commit, Incoming, Reservation, check_found
from headwater.lake.local_db import Database
from headwater.lake.local_graph import Graph
from headwater.lake.objects import ObjectFolder
from headwater.lake.pending import Overlay
from headwater.lake.streams import read_up_to

__all__ = ["LocalImport", "reserve"]

_HELD = 16 << 20
"""Bytes of small objects that are held before they are written: a commit may bring any number of them."""


def reserve(connection: Connection, wanted: Mapping[Reservation, str]) -> dict[Reservation, str]:
    """Reserve what is free, and return what stands at another value."""
    other = {}
    for (name, number), value in wanted.items():
        if number:
            connection.execute("INSERT OR IGNORE INTO numbers VALUES (?, ?, ?)", (name, number, value))
            row = connection.execute("SELECT value FROM numbers WHERE sequence = ? AND number = ?", (name, number))
        else:
            connection.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (name, value))
            row = connection.execute("SELECT value FROM claims WHERE key = ?", (name,))
        (stands,) = row.fetchone()
        if stands != value:
            other[name, number] = str(stands)
    return other


class LocalImport:
    """Writes commits straight to disk: what no branch reaches yet is no more than unused.

    Args:
        database: The lake's.
        objects: The lake's large objects.
        graph: The lake's commits.
        nodes: Makes the lake's trees readable, with new nodes going to an overlay.
        inline: Objects up to this many bytes live in SQLite.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectFolder,
        graph: Graph,
        nodes: Callable[[Overlay], trees.Nodes],
        inline: int,
    ) -> None:
        self._db = database
        self._objects = objects
        self._graph = graph
        self._nodes = nodes
        self._inline = inline

    def commit(self, commit: Commit, changes: Mapping[str, Incoming | None], taken: Collection[str]) -> str:
        """Make a commit: large objects first, the rest in one SQLite transaction."""
        overlay = Overlay()
        nodes = self._nodes(overlay)
        entries: dict[str, trees.Entry | None] = {}
        held = 0
        for path, incoming in changes.items():
            check_found(path)
            entries[path] = entry = self._keep(incoming, overlay) if incoming is not None else None
            held += entry[1] if entry is not None and entry[1] <= self._inline else 0
            if held > _HELD:
                with self._db.writing() as connection:
                    self._db.write(connection, overlay.chunks.items(), [])
                overlay.chunks.clear()
                held = 0
        for path in taken:
            check_found(path)
        if taken:
            theirs = self._graph.load(commit.parents[1]).tree
            entries.update((path, trees.find(nodes, theirs, path)) for path in taken)
        tree = trees.apply(nodes, self._graph.load(commit.parents[0]).tree, entries)
        record = self._graph.record(commit.parents, tree, commit.message, commit.metadata, micros=commit.micros)
        with self._db.writing() as connection:
            self._db.write(connection, overlay.chunks.items(), [(record.commit.id, record.generation, record.body)])
        return record.commit.id

    def _keep(self, incoming: Incoming, overlay: Overlay) -> trees.Entry:
        with incoming.open() as stream:
            head = read_up_to(stream, self._inline + 1)
            if len(head) > self._inline:
                return self._objects.put(head, stream)
        digest = sha256(head).hexdigest()
        overlay.chunks[digest] = head
        return digest, len(head)
