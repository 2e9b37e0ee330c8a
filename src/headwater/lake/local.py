"""The embedded lake: one folder with a SQLite file and content-addressed objects, no server; knows nothing of models.

A hidden branch lives in memory, with its commits and trees, until it is merged into a lasting branch: then all of it
reaches the disk in one SQLite transaction. So a transaction costs one sync, and a process that dies leaves nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from headwater.errors import (
    AlreadyExistsError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    LakeError,
    NotFoundError,
    RaceLostError,
)
from headwater.ids import micros_of, new_id, now_micros
from headwater.lake import trees
from headwater.lake.base import (
    AT,
    HIDDEN_PREFIX,
    REHEARSAL_PREFIX,
    Change,
    Commit,
    Garbage,
    Importer,
    Mentions,
    ObjectInfo,
    Reservation,
    Retention,
    Source,
    Strategy,
    check_found,
    check_lasting,
    check_path,
)
from headwater.lake.local_db import Database
from headwater.lake.local_files import (
    NETWORK_FILE_SYSTEMS,
    cache_elsewhere,
    file_system,
    write_beside,
)
from headwater.lake.local_garbage import Collector, remember_deleted, without_collection
from headwater.lake.local_graph import Graph
from headwater.lake.local_import import LocalImport, reserve
from headwater.lake.objects import ObjectFolder, disk_errors, sync_folder
from headwater.lake.pending import Hidden, Overlay, Record, reached, settle
from headwater.lake.queue import queue
from headwater.lake.streams import read_up_to

__all__ = ["LocalLake"]

_BRANCHES = "('branch', 'hidden')"
"""Kinds of refs that move; the second is of hidden branches that last."""

_INLINE = 128 << 10
"""Objects up to this size live in SQLite: one sync for all of them, and no file each."""

_OPEN = "--lake or HEADWATER_LAKE opens it, headwater.open(URL) in Python; or choose another folder"


class LocalLake:
    """A lake in a folder of this machine. See `headwater.lake.base.Lake` for what the methods mean.

    Args:
        root: The folder.
        patience: Seconds that `exclusive` queues before it lets a writer go on.
    """

    default_branch = "main"

    def __init__(self, root: Path, database: Database, *, patience: float = 20.0) -> None:
        self.root = root
        self.url = str(root)
        self.cache = root / "cache" if os.access(root, os.W_OK) else cache_elsewhere(root)
        self.spool = root / "spool"
        self._patience = patience
        self._db = database
        self._objects = ObjectFolder(root / "objects")
        self._guard = threading.RLock()
        self._hidden: dict[str, Hidden] = {}
        self._staged: dict[str, dict[str, trees.Entry | None]] = {}
        self._loose: dict[str, Overlay] = {}
        self._parsed: dict[str, trees.Node] = {}
        self._graph = Graph(database, self._hidden)
        self._checked: set[Path] = set()

    @classmethod
    def create(cls, root: str | os.PathLike[str]) -> LocalLake:
        """Make a lake with an empty branch `main` in a folder, which is made if need be.

        Raises:
            AlreadyExistsError: There is a lake in the folder.
            LakeError: The folder can't be written, or lies on a network file system.
        """
        root = Path(root).absolute()
        if (root / "lake.db").exists():
            raise AlreadyExistsError(f"there is a lake in {root} already", hint=_OPEN)
        with disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            (root / "objects").mkdir(exist_ok=True)
        kind = file_system(root)
        if kind in NETWORK_FILE_SYSTEMS:
            raise LakeError(
                f"{root} lies on a network file system ({kind}), where SQLite's locks are not safe",
                hint="use a local disk, or a lakeFS server",
            )
        # Built under another name, so that a lake.db that can be seen is a whole one.
        building = root / f".lake-{new_id()}.db"
        try:
            database = Database(building, create=True)
            lake = cls(root, database)
            first = lake._graph.record((), trees.EMPTY, "a new lake", {AT: str(now_micros())})
            with database.writing() as connection:
                database.write(connection, [], [(first.commit.id, first.generation, first.body)])
                connection.execute("INSERT INTO refs VALUES ('main', 'branch', ?)", (first.commit.id,))
            database.close()
            with disk_errors(root):
                try:
                    os.link(building, root / "lake.db")
                except FileExistsError:
                    raise AlreadyExistsError(f"there is a lake in {root} already", hint=_OPEN) from None
                sync_folder(root)
        finally:
            for leftover in root.glob(f"{building.name}*"):
                leftover.unlink(missing_ok=True)
        return cls.connect(root)

    @classmethod
    def connect(cls, root: str | os.PathLike[str]) -> LocalLake:
        """Open the lake in a folder, and clear what dead writers left there.

        Raises:
            LakeError: There is none, or it can't be used.
        """
        root = Path(root).absolute()
        lake = cls(root, Database(root / "lake.db"))
        lake._objects.sweep()
        return lake

    def close(self) -> None:
        """Close the SQLite connections."""
        self._db.close()

    # -- refs ---------------------------------------------------------------------------------------------------
    def head(self, branch: str) -> str:
        """Return the commit ID that a branch points at."""
        hidden = self._hidden.get(branch)
        if hidden is not None:
            return hidden.head
        rows = self._db.query(f"SELECT target FROM refs WHERE name = ? AND kind IN {_BRANCHES}", branch)
        if not rows:
            raise NotFoundError(f"there is no branch {branch!r}", hint="`headwater branch` lists them")
        return str(rows[0][0])

    def _refs(self, kind: str) -> dict[str, str]:
        return dict(self._db.query("SELECT name, target FROM refs WHERE kind = ? ORDER BY name", kind))

    def branches(self, *, hidden: bool = False) -> dict[str, str]:
        """Return every branch with its head's commit ID."""
        found = self._refs("branch")
        return dict(sorted({**found, **self._refs("hidden")}.items())) if hidden else found

    def tags(self) -> dict[str, str]:
        """Return every tag with its commit ID."""
        return self._refs("tag")

    def create_branch(self, name: str, source: str, *, hidden: bool = False, lasting: bool = False) -> str:
        """Make a branch at a commit."""
        if lasting:
            check_lasting(name, hidden=hidden)
            self._create_ref(name, "hidden", source)
            return source
        if not hidden:
            self._create_ref(name, "branch", source)
            return source
        with self._guard:
            if name in self._hidden:
                raise AlreadyExistsError(f"there is a branch {name!r} already")
            overlay = next((h.overlay for h in self._hidden.values() if source in h.overlay.commits), None)
            if overlay is None:
                self._graph.load(source)
            self._hidden[name] = Hidden(source, overlay or Overlay())
        return source

    def _create_ref(self, name: str, kind: str, target: str) -> None:
        if name.startswith(HIDDEN_PREFIX) and kind != "hidden":
            raise InvalidInputError(f"names that begin with {HIDDEN_PREFIX!r} are Headwater's own: {name!r}")
        with self._db.writing() as connection:
            if not connection.execute("SELECT 1 FROM commits WHERE id = ?", (target,)).fetchone():
                raise NotFoundError(f"there is no commit {target!r}")
            taken = connection.execute("SELECT kind FROM refs WHERE name = ?", (name,)).fetchone()
            if taken:
                raise AlreadyExistsError(f"there is a {taken[0]} {name!r} already", hint="choose another name")
            connection.execute("INSERT INTO refs VALUES (?, ?, ?)", (name, kind, target))

    def _delete_ref(self, name: str, kind: str) -> None:
        with self._db.writing() as connection:
            kinds = _BRANCHES if kind == "branch" else f"('{kind}')"
            query = f"SELECT target FROM refs WHERE name = ? AND kind IN {kinds}"
            row = connection.execute(query, (name,)).fetchone()
            if row is None:
                raise NotFoundError(f"there is no {kind} {name!r}")
            connection.execute("DELETE FROM refs WHERE name = ?", (name,))
            remember_deleted(connection, name, row[0])

    def delete_branch(self, name: str) -> None:
        """Delete a branch and what is staged on it."""
        with self._guard:
            self._staged.pop(name, None)
            self._loose.pop(name, None)
            if self._hidden.pop(name, None) is not None:
                return
        self._delete_ref(name, "branch")

    def create_tag(self, name: str, commit: str) -> None:
        """Make a tag."""
        self._create_ref(name, "tag", commit)

    def delete_tag(self, name: str) -> None:
        """Delete a tag."""
        self._delete_ref(name, "tag")

    def find_commits(self, prefix: str) -> list[str]:
        """Return at most two commit IDs that begin with a prefix."""
        rows = self._db.query("SELECT id FROM commits WHERE id >= ? AND id < ? LIMIT 2", prefix, prefix + "g")
        return [str(row[0]) for row in rows]

    def find_copies(self, prefix: str) -> list[str]:
        """Return at most two commits that were copied from ones with such an ID."""
        return self._graph.find_copies(prefix)

    def _commit_of(self, ref: str) -> str:
        if len(ref) == 64:
            return ref
        if ref in self._hidden:
            return self._hidden[ref].head
        rows = self._db.query("SELECT target FROM refs WHERE name = ? AND kind IN ('branch', 'hidden', 'tag')", ref)
        if not rows:
            raise NotFoundError(
                f"there is no branch or tag {ref!r}", hint="`headwater branch` and `headwater tag` list them"
            )
        return str(rows[0][0])

    # -- history ------------------------------------------------------------------------------------------------
    def get_commit(self, commit: str) -> Commit:
        """Return one commit by its full ID."""
        return self._graph.load(commit).commit

    def find_commit(self, key: str, value: str) -> Commit | None:
        """Return the commit whose metadata has a key at a value."""
        return self._graph.find_commit(key, value)

    def commits(self) -> Iterator[Commit]:
        """Yield every commit of the lake."""
        return self._graph.commits()

    def log(self, commit: str, *, first_parent: bool = False) -> Iterator[Commit]:
        """Yield a commit and its ancestors, every commit before its parents."""
        return self._graph.log(commit, first_parent=first_parent)

    def merge_base(self, left: str, right: str) -> str:
        """Return the common ancestor with the longest history behind it."""
        return self._graph.merge_base(left, right)

    def diff(self, left: str, right: str, prefix: str = "") -> Iterator[Change]:
        """Yield what differs between two commits under a prefix."""
        nodes = self._nodes()
        return trees.diff(nodes, self._tree(left), self._tree(right), prefix)

    def _tree(self, ref: str) -> str:
        return self._graph.load(self._commit_of(ref)).tree

    def _nodes(self, overlay: Overlay | None = None) -> trees.Nodes:
        return trees.Nodes(self._chunk, self._parsed, overlay.chunks if overlay is not None else {})

    def _chunk(self, digest: str) -> bytes:
        body = self._find_chunk(digest, f"tree {digest}")
        if body is None:
            raise IntegrityError(f"tree {digest} is missing from lake.db", hint="restore the lake's folder from a copy")
        return body

    def _find_chunk(self, digest: str, what: str) -> bytes | None:
        for hidden in list(self._hidden.values()):
            if digest in hidden.overlay.chunks:
                return hidden.overlay.chunks[digest]
        return self._db.chunk(digest, what)

    # -- writing ------------------------------------------------------------------------------------------------
    def put(self, branch: str, path: str, source: Source) -> ObjectInfo:
        """Stage an object: a small one in memory (or SQLite), a large one as a durable file."""
        check_path(path)
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        head = read_up_to(stream, _INLINE + 1)
        hidden = self._hidden.get(branch)
        with self._guard:
            self._check_branch(branch)
            # In the lake's file it would be garbage until it is committed, and could be collected.
            overlay = hidden.overlay if hidden is not None else self._loose.setdefault(branch, Overlay())
        if len(head) > _INLINE:
            entry = self._objects.put(head, stream)
            overlay.objects.add(entry[0])
        else:
            entry = (sha256(head).hexdigest(), len(head))
            overlay.chunks[entry[0]] = head
        self._stage(branch, path, entry)
        return ObjectInfo(path, entry[1], entry[0])

    def put_many(self, branch: str, objects: Mapping[str, bytes]) -> None:
        """Stage several small objects."""
        for path, data in objects.items():
            self.put(branch, path, data)

    def delete(self, branch: str, path: str) -> None:
        """Stage the removal of an object."""
        self._stage(branch, path, None)

    def delete_many(self, branch: str, paths: Iterable[str]) -> None:
        """Stage the removal of several objects."""
        for path in paths:
            self.delete(branch, path)

    def restore(self, branch: str, commit: str, paths: Iterable[str]) -> None:
        """Stage objects as they are at a commit; their bytes are there."""
        for path in paths:
            self._stage(branch, path, self._entry(commit, path))

    def _stage(self, branch: str, path: str, entry: trees.Entry | None) -> None:
        with self._guard:
            self._check_branch(branch)
            self._staged.setdefault(branch, {})[path] = entry

    def _check_branch(self, branch: str) -> None:
        if branch not in self._staged and branch not in self._hidden:
            self.head(branch)

    def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> str:
        """Commit what is staged on a branch."""
        with self._guard:
            changes = self._staged.pop(branch, {})
            hidden = self._hidden.get(branch)
            overlay = hidden.overlay if hidden is not None else self._loose.pop(branch, Overlay())
        try:
            while True:
                head = self.head(branch)
                tree = trees.apply(self._nodes(overlay), self._tree(head), changes)
                if tree == self._tree(head):
                    raise ConflictError(f"nothing is staged on branch {branch!r}", hint="put or delete something first")
                record = self._graph.record((head,), tree, message, metadata)
                overlay.commits[record.commit.id] = record
                if hidden is not None:
                    hidden.head = record.commit.id
                    return record.commit.id
                if self._land(branch, head, record, overlay):
                    return record.commit.id
        except LakeError:
            with self._guard:
                self._staged[branch] = {**changes, **self._staged.get(branch, {})}
                if hidden is None:
                    self._loose.setdefault(branch, Overlay()).take(overlay)
            raise

    def merge(
        self, source: str, into: str, message: str, metadata: Mapping[str, str], *, strategy: Strategy = "none"
    ) -> str:
        """Merge commits into a branch: in memory into a hidden one, else in one durable SQLite transaction."""
        hidden = self._hidden.get(into)
        origin = self._hidden.get(source)
        theirs = self._commit_of(source)
        if origin is None:
            origin = next((h for h in list(self._hidden.values()) if theirs in h.overlay.commits), None)
        overlay = hidden.overlay if hidden is not None else origin.overlay if origin is not None else Overlay()
        while True:
            ours = self.head(into)
            base = self.merge_base(ours, theirs)
            if base == theirs:
                raise ConflictError(f"{source!r} brings nothing that {into!r} lacks", hint="there is nothing to merge")
            tree = trees.merge(self._nodes(overlay), self._tree(base), self._tree(ours), self._tree(theirs), strategy)
            record = self._graph.record((ours, theirs), tree, message, metadata)
            overlay.commits[record.commit.id] = record
            if hidden is not None:
                hidden.head = record.commit.id
                return record.commit.id
            if self._land(into, ours, record, overlay, origin):
                return record.commit.id

    def _land(self, branch: str, expected: str, record: Record, overlay: Overlay, origin: Hidden | None = None) -> bool:
        """Write what `record` reaches and move the branch, or return False if the branch has moved meanwhile."""
        commits = reached(record, overlay)
        chunks = self._reached_chunks(commits, overlay)
        with self._db.writing() as connection:
            row = connection.execute(
                f"SELECT target FROM refs WHERE name = ? AND kind IN {_BRANCHES}", (branch,)
            ).fetchone()
            if row is None:
                raise NotFoundError(f"there is no branch {branch!r}", hint="`headwater branch` lists them")
            if row[0] != expected:
                return False
            # Nothing is collected while the lock is held: what is there now is there when the branch has moved.
            self._check_there(commits, overlay)
            if origin is not None:
                settle(connection, origin)
            self._db.write(connection, chunks, [(each.commit.id, each.generation, each.body) for each in commits])
            connection.execute("UPDATE refs SET target = ? WHERE name = ?", (record.commit.id, branch))
        if origin is not None:
            origin.claims.clear()
            origin.numbers.clear()
        self._graph.remember(commits)
        return True

    def _check_there(self, commits: list[Record], overlay: Overlay) -> None:
        """Make sure that what is going to land builds on nothing that was collected since this process read it.

        All that a new tree takes over from elsewhere is in the trees of commits that it descends from, and a commit
        that is in the lake is there with its ancestors and their trees.
        """
        own = {each.commit.id for each in commits}
        for parent in {parent for each in commits for parent in each.commit.parents} - own:
            self._graph.check_there(parent)
        for digest in overlay.objects:
            if not self._objects.path(digest).exists():
                raise LakeError(f"object {digest} was collected before it landed", hint="do it again")

    def _reached_chunks(self, commits: Iterable[Record], overlay: Overlay) -> list[tuple[str, bytes]]:
        """Return the chunks of the overlay that the commits' trees reach, each once."""
        nodes = self._nodes(overlay)
        found: dict[str, bytes] = {}
        todo = [record.tree for record in commits]
        while todo:
            digest = todo.pop()
            body = overlay.chunks.get(digest)
            if body is None or digest in found:
                continue
            found[digest] = body
            for key, value in nodes.get(digest).items():
                if key.endswith("/"):
                    todo.append(value[0])
                elif value[0] in overlay.chunks:
                    found[value[0]] = overlay.chunks[value[0]]
        return list(found.items())

    def claim(self, key: str, value: str, *, on: str | None = None) -> str:
        """Reserve a key for the whole lake."""
        if (stands := self.claimed(key)) is not None:
            return stands
        hidden = self._hidden.get(on or "")
        if hidden is not None:
            return hidden.claims.setdefault(key, value)
        with self._db.writing() as connection:
            connection.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (key, value))
            return str(connection.execute("SELECT value FROM claims WHERE key = ?", (key,)).fetchone()[0])

    def cut(self, sequence: str, value: str, *, after: int = 0, on: str | None = None) -> int:
        """Reserve the lowest free number of a sequence."""
        newest = "SELECT max(number) FROM numbers WHERE sequence = ?"
        hidden = self._hidden.get(on or "")
        if hidden is not None:
            number = max([after, self.newest(sequence), *(n for (s, n) in hidden.numbers if s == sequence)]) + 1
            hidden.numbers[sequence, number] = value
            return int(number)
        with self._db.writing() as connection:
            number = max(after, connection.execute(newest, (sequence,)).fetchone()[0] or 0) + 1
            connection.execute("INSERT INTO numbers VALUES (?, ?, ?)", (sequence, number, value))
        return int(number)

    def claimed(self, key: str) -> str | None:
        """Return the value that a key is reserved with."""
        rows = self._db.query("SELECT value FROM claims WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def newest(self, sequence: str) -> int:
        """Return the highest number of a sequence that is reserved."""
        return int(self._db.query("SELECT max(number) FROM numbers WHERE sequence = ?", sequence)[0][0] or 0)

    def reservations(self) -> dict[Reservation, str]:
        """Return every claim and number that is final."""
        claims = self._db.query("SELECT key, 0, value FROM claims")
        numbers = self._db.query("SELECT sequence, number, value FROM numbers")
        return {(key, number): value for key, number, value in (*claims, *numbers)}

    def reserve(self, wanted: Mapping[Reservation, str]) -> dict[Reservation, str]:
        """Reserve what another lake has reserved, in one SQLite transaction."""
        with self._db.writing() as connection:
            return reserve(connection, wanted)

    @contextlib.contextmanager
    def importing(self) -> Iterator[Importer]:
        """Copy commits of another lake: each is on disk, whole, as soon as it is made."""
        with without_collection(self.root):
            yield LocalImport(self._db, self._objects, self._graph, self._nodes, _INLINE)

    def move_branch(self, name: str, commit: str, *, expected: str, over: bool = False) -> str:
        """Make a branch point at a commit, if it is where it was expected."""
        with self._db.writing() as connection:
            if not connection.execute("SELECT 1 FROM commits WHERE id = ?", (commit,)).fetchone():
                raise NotFoundError(f"there is no commit {commit!r}")
            moved = connection.execute(
                f"UPDATE refs SET target = ? WHERE name = ? AND kind IN {_BRANCHES} AND target = ?",
                (commit, name, expected),
            ).rowcount
        if not moved:
            self.head(name)
            raise RaceLostError(f"branch {name!r} has moved meanwhile", hint="try again")
        return commit

    def exclusive(self) -> contextlib.AbstractContextManager[object]:
        """Queue behind this machine's other writers of the lake."""
        return queue(self.root / "lock", self._patience)

    def sweep(self, before: int, *, rehearsals: int | None = None) -> int:
        """Delete old rehearsals, and temporary files of dead processes; all else of a transaction's died with it."""
        before = before if rehearsals is None else rehearsals
        hidden = [name for name in self._refs("hidden") if micros_of(name.removeprefix(REHEARSAL_PREFIX)) < before]
        for name in hidden:
            with contextlib.suppress(NotFoundError):
                self._delete_ref(name, "branch")
        return len(hidden) + self._objects.sweep()

    def collect(self, before: int, mentions: Mentions, confirm: Callable[[Garbage], bool]) -> Garbage:
        """Delete what no branch, tag or row leads to."""
        try:
            return Collector(self.root, self._db, self._objects, before, mentions).run(confirm)
        finally:
            self._parsed.clear()
            self._graph.forget()

    def retention(self) -> Retention | None:
        """Return None: whatever is reached is kept."""
        return None

    # -- reading ------------------------------------------------------------------------------------------------
    def _entry(self, ref: str, path: str) -> trees.Entry:
        entry = trees.find(self._nodes(), self._tree(ref), path)
        if entry is None:
            raise NotFoundError(f"there is no object {path!r} at {ref}")
        return entry

    def stat(self, ref: str, path: str) -> ObjectInfo:
        """Return an object's size and sha256."""
        digest, size = self._entry(ref, path)
        return ObjectInfo(path, size, digest)

    def list(self, ref: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix."""
        return trees.walk(self._nodes(), self._tree(ref), prefix)

    def open(self, ref: str, path: str) -> BinaryIO:
        """Open an object for streaming reads that check it."""
        digest, size = self._entry(ref, path)
        what = f"object {path!r}"
        body = self._find_chunk(digest, what) if size <= _INLINE else None
        return io.BytesIO(body) if body is not None else self._objects.open(digest, what)

    def read(self, ref: str, path: str) -> bytes:
        """Return the bytes of a small object, checked."""
        with self.open(ref, path) as stream:
            return stream.read()

    def read_many(self, ref: str, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of several small objects, checked."""
        return {path: self.read(ref, path) for path in paths}

    def localize(self, ref: str, paths: Iterable[str]) -> dict[str, Path]:
        """Return local files: an object's own, or a copy in the cache of one that lives in SQLite."""
        found = {}
        nodes, root = self._nodes(), self._tree(ref)
        for path in paths:
            entry = trees.find(nodes, root, path)
            if entry is None:
                raise NotFoundError(f"there is no object {path!r} at {ref}")
            found[path] = self._local_file(path, *entry)
        return found

    def places(self, ref: str, sizes: Mapping[str, int]) -> dict[str, Path]:
        """Return where `localize` puts data files of tables, which need not be there yet."""
        found = {}
        nodes, root = self._nodes(), self._tree(ref)
        for path in sizes:
            entry = trees.find(nodes, root, path)
            if entry is None:
                raise NotFoundError(f"there is no object {path!r} at {ref}")
            found[path] = self._local_place(*entry)
        return found

    def _local_place(self, digest: str, size: int) -> Path:
        return self.cache / "objects" / digest[:2] / digest[2:] if size <= _INLINE else self._objects.path(digest)

    def _local_file(self, path: str, digest: str, size: int) -> Path:
        place = self._local_place(digest, size)
        if place in self._checked and place.exists():
            return place
        if size > _INLINE:
            with self._objects.open(digest, f"object {path!r}") as stream:
                while stream.read(1 << 20):
                    pass
        elif not place.exists() or sha256(place.read_bytes()).hexdigest() != digest:
            body = self._find_chunk(digest, f"object {path!r}")
            if body is None:
                raise IntegrityError(f"object {path!r} is missing from lake.db")
            write_beside(place, body)
        self._checked.add(place)
        return place

    def delta(self, ref: str, path: str) -> tuple[str, dict[str, str]]:
        """Lay a table's files out in the cache, where any Delta client opens them."""
        root = self._tree(ref)
        for name in path.split("/"):
            child = self._nodes().get(root).get(name + "/")
            if child is None:
                raise NotFoundError(f"there is no table {path!r} at {ref}")
            root = child[0]
        place = self.cache / "delta" / root
        if not place.exists():
            building = place.with_name(f".{new_id()}")
            with disk_errors(self.cache):
                for info in trees.walk(self._nodes(), root):
                    check_found(info.path)
                    target = building / info.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self._local_file(info.path, info.sha256 or "", info.size), target)
                with contextlib.suppress(FileExistsError):
                    building.rename(place)
        return str(place), {}
