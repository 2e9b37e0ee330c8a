"""Collecting what nothing reaches in an embedded lake: commits, chunks and files; knows no tables and no caches.

Nothing is deleted but under SQLite's write lock, and after a look at the refs as they are under that lock. A writer
holds the same lock when it lands, and looks there whether all that it builds on is still in the lake (see
`LocalLake._land`). So no age of anything has to be believed; ages are for people alone. Commits go first, all of them
that go in one SQLite transaction, then what they alone reached: whoever dies in between leaves a whole lake, with some
chunks and files in it that the next collection finds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from headwater.errors import ConflictError, IntegrityError, LakeError
from headwater.ids import micros_of, new_id, now_micros
from headwater.lake.base import ABANDONED, HIDDEN_PREFIX, ORIGIN, Garbage, Mentions
from headwater.lake.local_db import PATIENCE, Database, unpack
from headwater.lake.objects import ObjectFolder
from headwater.lake.pending import parse
from headwater.lake.trees import EMPTY

__all__ = ["Collector", "remember_deleted", "without_collection"]

_DELETED = "deleted"
_AT_ONCE = 1000
"""Things that are deleted under one hold of the lock, so that writers need not wait for long."""

_WORTH = 10
"""The file of the database is made smaller where at least one part in so many of it is free."""

_FOLDER = re.compile(rb'\["([0-9a-f]{64})"\]')
_OBJECT = re.compile(rb'\["([0-9a-f]{64}",[0-9]+)\]')
"""The entries of a tree's JSON; a name can't look like one, because the quotes in names are escaped. A tree of 400
entries is read so in a tenth of the time that parsing it takes, and there are as many as there were commits."""

_COPY = "restore the lake's folder from a copy; nothing was deleted"


def remember_deleted(connection: sqlite3.Connection, name: str, target: str) -> None:
    """Note that a branch or tag was deleted: the grace period of its commits begins now."""
    # Neither branches nor tags have a space in their names. A hidden branch is nobody's to look for.
    name = "" if name.startswith(HIDDEN_PREFIX) else name
    connection.execute("INSERT INTO refs VALUES (?, ?, ?)", (f"{new_id()} {name}", _DELETED, target))


@contextlib.contextmanager
def without_collection(root: Path) -> Iterator[None]:
    """Keep collections away while commits are written that no branch shows yet.

    Raises:
        ConflictError: A collection is at work.
        LakeError: The lake's folder can't be written.
    """
    with _locked(root, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def _locked(root: Path, kind: int) -> Iterator[None]:
    """Hold a lock on the lake that dies with the process, or say at once that somebody else has it."""
    try:
        descriptor = os.open(root / "collect.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LakeError(f"{root} can't be written: {error.strerror}", hint="check its owner and mode") from error
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        other = "a collection, or something that may not run beside one, is" if kind == fcntl.LOCK_EX else "`gc` is"
        raise ConflictError(f"{other} at work on {root}", hint="wait for it to finish, and try again") from None
    try:
        yield
    finally:
        os.close(descriptor)


T = TypeVar("T")


def _batches(items: Iterable[T], count: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, count)):
        yield batch


class _Commit(NamedTuple):
    """What is kept at hand of a commit."""

    parents: tuple[str, ...]
    tree: bytes
    micros: int

    @classmethod
    def of(cls, name: str, body: str) -> _Commit:
        record = parse(name, body)
        return cls(record.commit.parents, bytes.fromhex(record.tree), record.commit.micros)


@dataclass(frozen=True, slots=True)
class _Deleted:
    """A deleted branch or tag: how it is noted, what it was called, where it was, and when it was deleted."""

    key: str
    name: str
    target: str
    micros: int


@dataclass(slots=True)
class _Found:
    """What is not reached: chunks by their digests, and files with the time of the last commit that had them."""

    commits: set[str] = field(default_factory=set)
    chunks: dict[bytes, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    had: dict[bytes, int] = field(default_factory=dict)


class Collector:
    """One collection.

    Args:
        root: The lake's folder.
        database: Its commits, chunks and refs.
        objects: Its files.
        before: Microseconds since 1970-01-01 UTC: what was deleted later is kept.
        mentions: Says which commits are mentioned at given ones.
    """

    def __init__(self, root: Path, database: Database, objects: ObjectFolder, before: int, mentions: Mentions) -> None:
        self._root = root
        self._db = database
        self._objects = objects
        self._before = before
        self._mentions = mentions
        self._commits: dict[str, _Commit] = {}
        self._copies: dict[str, str] = {}
        self._live: set[str] = set()
        self._trees: set[bytes] = {bytes.fromhex(EMPTY)}
        self._blobs: dict[bytes, int] = {}
        self._asked: set[str] = set()
        self._unnoted: set[str] = set()

    def run(self, confirm: Callable[[Garbage], bool]) -> Garbage:
        """Find what is not reached, tell `confirm`, and delete it if that returns True. See `Lake.collect`."""
        with _locked(self._root, fcntl.LOCK_EX):
            lasting, deleted = self._refs()
            self._load_commits()
            found, waiting = self._find(lasting, deleted)
            going = {each.name for each in deleted if each.name and each.target in found.commits}
            names = {each.name for each in deleted if each.name and each.target in waiting} - going
            garbage = Garbage(
                commits=len(found.commits),
                chunks=len(found.chunks),
                objects=len(found.files),
                bytes=sum(found.chunks.values()) + sum(found.files.values()),
                branches=tuple(sorted(going)),
                waiting=len(waiting),
                waiting_branches=tuple(sorted(names)),
            )
            if not confirm(garbage):
                return garbage
            return self._delete(found, garbage)

    # -- what is reached --------------------------------------------------------------------------------------------
    def _refs(self) -> tuple[set[str], list[_Deleted]]:
        """Return where branches (hidden ones too) and tags are, and which ones were deleted."""
        lasting, deleted = set(), []
        for name, kind, target in self._db.query("SELECT name, kind, target FROM refs"):
            if kind == _DELETED:
                key, _, was = name.partition(" ")
                deleted.append(_Deleted(name, was, target, micros_of(key)))
            else:
                lasting.add(target)
        return lasting, deleted

    def _load_commits(self) -> None:
        rows = self._db.query("SELECT id, body FROM commits")
        self._commits = {name: _Commit.of(name, body) for name, body in rows}
        # Rows of a lake that is a copy may say what a commit was called in the lake that made it.
        origins = self._db.query("SELECT id, body FROM commits WHERE instr(body, ?)", json.dumps(ORIGIN) + ":")
        self._copies = {
            origin: name for name, body in origins if (origin := json.loads(body)["metadata"].get(ORIGIN)) is not None
        }

    def _find(self, lasting: set[str], deleted: list[_Deleted]) -> tuple[_Found, set[str]]:
        """Return what is not reached, and the commits that the grace period alone keeps.

        Raises:
            IntegrityError: Something that is reached is missing or damaged.
        """
        self._reach(lasting)
        unreached = self._commits.keys() - self._live
        recent = {each.target for each in deleted if each.micros >= self._before and each.target in self._commits}
        # What no branch ever showed, or one that nobody noted, may be on its way to one: it is noted from now on.
        self._unnoted = self._heads(unreached - self._ancestors(each.target for each in deleted))
        recent |= self._unnoted
        if unreached:
            self._reach(self._mentioned(lasting))
        held = set(self._live)
        self._reach(recent)
        if self._commits.keys() - self._live:
            self._reach(self._mentioned(recent))
        found = _Found(self._commits.keys() - self._live)
        self._look_into(found)
        self._check_live()
        stored = self._db.query("SELECT hash, length(body) FROM chunks")
        for digest, size in stored:
            if digest not in self._trees and digest not in self._blobs:
                found.chunks[digest] = size
        for path, size in self._files():
            if self._is_garbage(path, found):
                found.files[str(path)] = size
        return found, self._live - held

    def _ancestors(self, heads: Iterable[str]) -> set[str]:
        """Return commits with their ancestors, but for those that are reached anyway, or missing."""
        found: set[str] = set()
        todo = list(heads)
        while todo:
            name = todo.pop()
            if name in self._commits and name not in self._live and name not in found:
                found.add(name)
                todo += self._commits[name].parents
        return found

    def _heads(self, names: set[str]) -> set[str]:
        return names - {parent for name in names for parent in self._commits[name].parents}

    def _mentioned(self, heads: Iterable[str]) -> set[str]:
        """Return the commits that rows mention which are read at some heads, and at what those mention."""
        found: set[str] = set()
        new = set(heads) - self._asked
        while new:
            self._asked |= new
            new = {commit for text in self._mentions(sorted(new)) for commit in self._named(text)} - self._live - found
            found |= new
        return found

    def _named(self, text: str) -> list[str]:
        if len(text) == 64:
            return [text] if text in self._commits else [self._copies[text]] if text in self._copies else []
        copies = [copy for origin, copy in self._copies.items() if origin.startswith(text)]
        return [*copies, *(each for each in self._commits if each.startswith(text))]

    def _reach(self, heads: Iterable[str]) -> None:
        """Add commits, their ancestors and all that is in them to what is reached."""
        todo = [each for each in heads if each not in self._live]
        trees = []
        while todo:
            name = todo.pop()
            if name in self._live:
                continue
            commit = self._commit(name)
            self._live.add(name)
            trees.append(commit.tree)
            todo += commit.parents
        self._walk(trees, self._trees, self._blobs)

    def _commit(self, name: str) -> _Commit:
        commit = self._commits.get(name)
        if commit is None:
            rows = self._db.query("SELECT body FROM commits WHERE id = ?", name)
            if not rows:
                raise IntegrityError(f"commit {name} is missing from lake.db", hint=_COPY)
            commit = self._commits[name] = _Commit.of(name, rows[0][0])
        return commit

    def _walk(self, todo: list[bytes], trees: set[bytes], blobs: dict[bytes, int]) -> None:
        """Add the trees of some roots to `trees`, and their objects, with sizes, to `blobs`.

        Raises:
            IntegrityError: A tree is missing or damaged.
        """
        while todo:
            # What is reached from a ref is known already, also where a commit is looked into that is to go.
            wanted = {each for each in todo if each not in trees and each not in self._trees}
            below: set[bytes] = set()
            objects: set[bytes] = set()
            for batch in _batches(wanted, 500):
                marks = ",".join("?" * len(batch))
                bodies = dict(self._db.query(f"SELECT hash, body FROM chunks WHERE hash IN ({marks})", *batch))
                for digest in batch:
                    body = self._tree(digest, bodies.get(digest))
                    below.update(_FOLDER.findall(body))
                    objects.update(_OBJECT.findall(body))
            trees |= wanted
            todo = [bytes.fromhex(each.decode()) for each in below]
            for each in objects:
                name, _, size = each.partition(b'",')
                blobs[bytes.fromhex(name.decode())] = int(size)

    def _tree(self, digest: bytes, kept: bytes | None) -> bytes:
        if kept is None:
            raise IntegrityError(f"tree {digest.hex()} is missing from lake.db", hint=_COPY)
        body: bytes | None = None
        with contextlib.suppress(Exception):
            body = unpack(kept)
        if body is None or sha256(body).digest() != digest:
            raise IntegrityError(f"tree {digest.hex()} is not what was written: its sha256 differs", hint=_COPY)
        return body

    def _look_into(self, found: _Found) -> None:
        """Note when the objects of commits that go were last committed; what is damaged there is no matter."""
        known: set[bytes] = set()
        for micros, tree in self._newest_first(found.commits):
            blobs: dict[bytes, int] = {}
            with contextlib.suppress(IntegrityError):
                self._walk([tree], known, blobs)
            for digest in blobs:
                found.had.setdefault(digest, micros)

    def _newest_first(self, names: Iterable[str]) -> list[tuple[int, bytes]]:
        return sorted(((self._commits[each].micros, self._commits[each].tree) for each in names), reverse=True)

    def _check_live(self) -> None:
        """Make sure that every object that is reached is there.

        Raises:
            IntegrityError: One is missing: whoever loses things should not delete any.
        """
        chunks = {digest for (digest,) in self._db.query("SELECT hash FROM chunks")}
        for digest in self._blobs.keys() - chunks:
            if not self._objects.path(digest.hex()).exists():
                raise IntegrityError(f"object {digest.hex()} is missing from the lake", hint=_COPY)

    def _files(self) -> Iterator[tuple[Path, int]]:
        for folder in sorted(self._objects.root.glob("[0-9a-f][0-9a-f]")):
            with contextlib.suppress(FileNotFoundError):
                for each in os.scandir(folder):
                    if len(each.name) == 62:
                        yield folder / each.name, each.stat().st_size

    def _is_garbage(self, path: Path, found: _Found) -> bool:
        """Return whether a file is reached by nothing, and is not one of a writer that may still land."""
        digest = bytes.fromhex(path.parent.name + path.name)
        if digest in self._blobs:
            return False
        try:
            written = path.stat().st_mtime_ns // 1000
        except FileNotFoundError:
            return False
        # A file is older than the commit that has it, unless it was put once more, by a writer that goes on.
        return written <= found.had.get(digest, 0) or written < min(self._before, now_micros() - ABANDONED)

    # -- deleting ---------------------------------------------------------------------------------------------------
    def _look_again(self, found: _Found) -> None:
        """Add what has come to be reached since the refs were read; the lock is held from here on."""
        lasting, deleted = self._refs()
        # A branch that was deleted meanwhile may have moved before that.
        heads = lasting | {each.target for each in deleted if each.micros >= self._before}
        self._reach(heads)
        if found.commits:
            self._reach(self._mentioned(heads))

    def _delete(self, found: _Found, garbage: Garbage) -> Garbage:
        commits = chunks = files = freed = 0
        with self._db.writing() as connection:
            self._look_again(found)
            going = found.commits - self._live
            for batch in _batches(going, 500):
                connection.execute(f"DELETE FROM commits WHERE id IN ({','.join('?' * len(batch))})", batch)
            commits = len(going)
            for name in self._unnoted:
                remember_deleted(connection, "", name)
            for each in self._refs()[1]:
                if each.micros < self._before:
                    connection.execute("DELETE FROM refs WHERE name = ?", (each.key,))
        for digests in _batches(found.chunks, _AT_ONCE):
            with self._db.writing() as connection:
                self._look_again(found)
                dead = [each for each in digests if each not in self._trees and each not in self._blobs]
                connection.executemany("DELETE FROM chunks WHERE hash = ?", [(each,) for each in dead])
            chunks += len(dead)
            freed += sum(found.chunks[each] for each in dead)
        for paths in _batches(found.files, _AT_ONCE):
            with self._db.writing() as connection:
                self._look_again(found)
                for path in map(Path, paths):
                    if self._is_garbage(path, found):
                        with contextlib.suppress(FileNotFoundError):
                            path.unlink()
                            files += 1
                            freed += found.files[str(path)]
        self._objects.sweep()
        return Garbage(
            commits,
            chunks,
            files,
            freed,
            garbage.branches,
            garbage.waiting,
            garbage.waiting_branches,
            shrunk=self._shrink(),
        )

    def _shrink(self) -> int | None:
        """Give the room that is free in the database back to the disk; return how much, None where others work."""
        free, pages, size = (
            self._db.query(f"PRAGMA {name}")[0][0] for name in ("freelist_count", "page_count", "page_size")
        )
        if free * _WORTH < pages:
            return 0
        # At once or not at all: nobody should have to wait for it.
        connection = self._db.connection()
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError:
            return None
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")
        return int((pages - self._db.query("PRAGMA page_count")[0][0]) * size)
