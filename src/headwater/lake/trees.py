"""Merkle trees of paths: change, list, diff and merge them; knows nothing of where nodes are kept.

A node is one folder: a JSON object, sorted by key, of `name -> [sha256, size]` for objects and `name/ -> [sha256]`
for sub-folders (so a plain sort of the keys is the order of the full paths, and `a` and `a/b` may both be objects).
Its hash is the sha256 of that JSON. The same idea as Git's trees, with sha256 and without modes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from headwater.errors import RaceLostError
from headwater.lake.base import Change, ObjectInfo, Strategy

__all__ = ["EMPTY", "Entry", "Nodes", "apply", "diff", "encode", "find", "merge", "walk"]

Entry = tuple[str, int]
"""An object: sha256 in hex, and size in bytes."""

Node = dict[str, list[Any]]
Load = Callable[[str], bytes]


def encode(node: Node) -> tuple[str, bytes]:
    """Return a node's hash and its canonical bytes."""
    body = json.dumps(dict(sorted(node.items(), key=_order)), ensure_ascii=False, separators=(",", ":")).encode()
    return sha256(body).hexdigest(), body


def _order(item: tuple[str, object]) -> bytes:
    return item[0].encode()


EMPTY, _EMPTY_BODY = encode({})


class Nodes:
    """Parsed nodes over a way to load their bytes; new nodes are kept in `fresh` until somebody stores them.

    Args:
        load: Returns the bytes of a node by its hash, verified.
        cache: Parsed nodes by hash, shared between instances. Never changed once they are in.
        fresh: Where the bytes of new nodes go.
    """

    def __init__(self, load: Load, cache: dict[str, Node], fresh: dict[str, bytes]) -> None:
        self._load = load
        self._cache = cache
        self.fresh = fresh

    def get(self, digest: str) -> Node:
        """Return the node of that hash. Not to be changed."""
        node = self._cache.get(digest)
        if node is None:
            body = _EMPTY_BODY if digest == EMPTY else self._load(digest)
            node = json.loads(body)
            if len(self._cache) > 4096:
                self._cache.clear()
            self._cache[digest] = node
        return node

    def put(self, node: Node) -> str:
        """Keep a new node and return its hash."""
        digest, body = encode(node)
        if digest != EMPTY:
            self._cache[digest] = node
            self.fresh[digest] = body
        return digest


def _split(
    changes: Iterable[tuple[str, Entry | None]],
) -> tuple[dict[str, Entry | None], dict[str, dict[str, Entry | None]]]:
    here: dict[str, Entry | None] = {}
    below: dict[str, dict[str, Entry | None]] = {}
    for path, entry in changes:
        name, slash, rest = path.partition("/")
        if slash:
            below.setdefault(name + "/", {})[rest] = entry
        else:
            here[name] = entry
    return here, below


def apply(nodes: Nodes, root: str, changes: Mapping[str, Entry | None]) -> str:
    """Return the root of the tree in which each path has its new entry, or none."""
    node = dict(nodes.get(root))
    here, below = _split(changes.items())
    for name, entry in here.items():
        if entry is None:
            node.pop(name, None)
        else:
            node[name] = list(entry)
    for name, inner in below.items():
        child = apply(nodes, node[name][0] if name in node else EMPTY, inner)
        if child == EMPTY:
            node.pop(name, None)
        else:
            node[name] = [child]
    return nodes.put(node)


def find(nodes: Nodes, root: str, path: str) -> Entry | None:
    """Return the entry at a path, or None."""
    *folders, name = path.split("/")
    for folder in folders:
        child = nodes.get(root).get(folder + "/")
        if child is None:
            return None
        root = child[0]
    entry = nodes.get(root).get(name)
    return (entry[0], entry[1]) if entry is not None else None


def walk(nodes: Nodes, root: str, prefix: str = "") -> Iterator[ObjectInfo]:
    """Yield every object whose path begins with a prefix, in order of the path's bytes."""
    yield from _walk(nodes, root, "", prefix)


def _walk(nodes: Nodes, root: str, at: str, prefix: str) -> Iterator[ObjectInfo]:
    for key, value in sorted(nodes.get(root).items(), key=_order):
        path = at + key
        if key.endswith("/"):
            if path.startswith(prefix) or prefix.startswith(path):
                yield from _walk(nodes, value[0], path, prefix)
        elif path.startswith(prefix):
            yield ObjectInfo(path, value[1], value[0])


def diff(nodes: Nodes, left: str, right: str, prefix: str = "", at: str = "") -> Iterator[Change]:
    """Yield what differs from one tree to another, reading only the folders that differ."""
    if left == right:
        return
    old, new = nodes.get(left), nodes.get(right)
    for key in sorted({*old, *new}, key=str.encode):
        before, after = old.get(key), new.get(key)
        path = at + key
        if before == after:
            continue
        if key.endswith("/"):
            if path.startswith(prefix) or prefix.startswith(path):
                yield from diff(nodes, before[0] if before else EMPTY, after[0] if after else EMPTY, prefix, path)
        elif path.startswith(prefix):
            size = after[1] if after is not None else 0
            yield Change(path, "added" if before is None else "removed" if after is None else "changed", size)


def _root(child: list[Any] | None) -> str:
    return str(child[0]) if child is not None else EMPTY


def merge(nodes: Nodes, base: str, ours: str, theirs: str, strategy: Strategy, at: str = "") -> str:
    """Return the three-way merge of two trees.

    Raises:
        RaceLostError: Both sides changed one path, differently, and no strategy says which to take.
    """
    if ours == theirs or base == theirs:
        return ours
    if base == ours:
        return theirs
    b, o, t = nodes.get(base), nodes.get(ours), nodes.get(theirs)
    merged = dict(o)
    for key in {*b, *t}:
        was, mine, yours = b.get(key), o.get(key), t.get(key)
        if mine == yours or was == yours:
            continue
        if key.endswith("/"):
            child = merge(nodes, _root(was), _root(mine), _root(yours), strategy, at + key)
            taken = [child] if child != EMPTY else None
        elif was == mine or strategy == "theirs":
            taken = yours
        elif strategy == "ours":
            taken = mine
        else:
            raise RaceLostError(f"both sides changed {at + key!r}", hint="merge again on the new head")
        if taken is None:
            merged.pop(key, None)
        else:
            merged[key] = taken
    return nodes.put(merged)
