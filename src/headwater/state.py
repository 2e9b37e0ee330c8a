"""The folded state of a commit: models, versions, datasets and what no event supersedes, kept warm in SQLite.

A fold is a throw-away cache beside the lake, one small SQLite file a branch, that says which commit it describes. It is
brought forward by what the new commits added, and made anew when anything about it is in doubt.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from headwater import marking, tables
from headwater.deltalog import DataFile, TableFiles
from headwater.errors import ConflictError, InvalidInputError, LakeError, NotFoundError
from headwater.fold import (
    FOLDED,
    FORMAT,
    KIND,
    LANDED,
    SCHEMA,
    clashes,
    fold_commits,
    fold_files,
    fold_rows,
    unfold_commits,
    unfold_events,
    unfold_rows,
    unfolded_columns,
    wipe,
)
from headwater.foldcopy import copied
from headwater.keys import Verifier, verifies
from headwater.lake import refs
from headwater.lake.base import REHEARSAL_PREFIX, Commit, Lake
from headwater.lake.walk import commits_until
from headwater.schema import TABLES
from headwater.spine import landings_of, line_of
from headwater.trust import Judge, Root
from headwater.verdicts import Landings, RefoldError, fold_judged, has_strays

__all__ = ["Fold", "Folds"]

_KEPT_COMMITS = 8
_LOG_KEPT = 4 << 20
"""Bytes of a file's log that are kept when it is begun anew."""

_SOURCES = 16
"""Files that are looked at, those used last first, for one to begin another one from."""

_OVERTAKEN = 5
"""How often a reader that is overtaken reads the head again before it folds what it has read."""


class Fold:
    """Reads of one folded commit, inside one SQLite read transaction.

    Attributes:
        commit: The commit that it describes.
    """

    def __init__(self, connection: sqlite3.Connection, commit: str, damaged: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._damaged = damaged
        self.commit = commit

    def rows(self, sql: str, *parameters: object) -> list[Any]:
        """Return all rows of a query over the tables of `headwater.fold`'s schema.

        Raises:
            LakeError: The fold is damaged; it is deleted, and made anew when it is asked for again.
            InvalidInputError: A number is larger than any that is kept.
        """
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except OverflowError:
            raise InvalidInputError("a number is too large") from None
        except sqlite3.DatabaseError as error:
            if self._damaged is None:
                raise
            self._damaged()
            raise LakeError(f"the lake's cache was damaged and is deleted: {error}", hint="try again") from error

    def one(self, sql: str, *parameters: object) -> Any:
        """Return the first row of a query, or None. Raises as `rows` does."""
        return next(iter(self.rows(sql, *parameters)), None)

    def table(self, name: str) -> TableFiles:
        """Return what a table consists of; with version -1 where it is not there yet."""
        log = self.one("SELECT version, checkpoint FROM logs WHERE name = ?", name)
        if log is None:
            return TableFiles()
        files = self.rows("SELECT path, size, rows, ranges FROM files WHERE name = ?", name)
        return TableFiles(
            log[0],
            log[1],
            {path: DataFile(path, size, rows, json.loads(text) if text else None) for path, size, rows, text in files},
        )

    def standing(self, subject: str, kind: str, key: str = "") -> list[tuple[str, str | None]]:
        """Return (event_id, value) of the events that nothing supersedes; several where people disagree."""
        return self.rows(
            "SELECT event_id, value FROM events WHERE standing AND subject = ? AND kind = ? AND key = ?"
            " ORDER BY event_id",
            subject,
            kind,
            key,
        )

    def value(self, subject: str, kind: str, key: str = "") -> str | None:
        """Return the one standing value, or None.

        Raises:
            ConflictError: Two events stand with different values.
        """
        values = {value for _, value in self.standing(subject, kind, key)}
        if len(values) > 1:
            raise ConflictError(
                f"{kind} {key!r} of {subject} stands at {len(values)} values",
                hint="set it again to settle it",
            )
        return values.pop() if values else None

    @cached_property
    def root(self) -> Root | None:
        """What the lake's trust begins with; None where it is not signed."""
        return _root_of(self._connection)

    @property
    def signed(self) -> bool:
        """Whether events have force in this lake only if somebody who may do it signed them."""
        return self.root is not None

    def judge(self, **known: Any) -> Judge:
        """Return what judges events by this state.

        Args:
            known: What the state lacks; see `Judge`.
        """
        return Judge(self.rows, known.pop("root", self.root), **known)

    def micros(self) -> int:
        """Return when the commit was made."""
        row = self.one("SELECT micros FROM commits WHERE id = ?", self.commit)
        return int(row[0]) if row else 0


class Folds:
    """The folds of one lake, shared by all processes of this machine through files in the lake's cache.

    Args:
        lake: The lake; its `cache` folder holds the files.
        folder: Holds them instead: whoever trusts no cache begins with an empty one.
        verifies: Tells whether a signature is one of a message.
    """

    def __init__(self, lake: Lake, folder: Path | None = None, verifies: Verifier = verifies) -> None:
        self._lake = lake
        self._verifies = verifies
        self._folder = lake.cache / "state" if folder is None else folder
        self._local = threading.local()
        self._damaged: set[str] = set()
        self._hurried = False
        self._known: dict[str, set[str]] = {}
        self._names: dict[str, str] = {}
        self._aside: Folds | None = None

    # -- reading ------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def at_head(self, branch: str) -> Iterator[Fold]:
        """Hold the fold of a branch's head, brought up to date first.

        Raises:
            NotFoundError: There is no such branch.
            IntegrityError: The tables at the head are damaged.
        """
        self._names[_branch_file(branch)] = branch
        for attempt in range(100):
            head = self._lake.head(branch)
            with self._reading(_branch_file(branch), head) as fold:
                if fold is not None:
                    yield fold
                    return
            self._update(_branch_file(branch), head, patient=attempt < _OVERTAKEN)
        raise LakeError(f"branch {branch!r} moves faster than it can be read", hint="try again")

    @contextlib.contextmanager
    def at(self, commit: str) -> Iterator[Fold]:
        """Hold the fold of any commit."""
        for name in [each.name for each in self._files("branch-*.db")]:
            with self._reading(name, commit) as fold:
                if fold is not None:
                    yield fold
                    return
        name = f"commit-{commit}.db"
        with self._reading(name, commit) as fold:
            if fold is not None:
                yield fold
                return
        self._update(name, commit)
        with self._reading(name, commit) as fold:
            if fold is None:
                raise LakeError(f"the fold of {commit} vanished from {self._folder}", hint="try again")
            yield fold
        for old in self._files("commit-*.db")[_KEPT_COMMITS:]:
            self._drop(old.name)

    def _files(self, pattern: str) -> list[Path]:
        with contextlib.suppress(OSError):
            return sorted(self._folder.glob(pattern), key=lambda path: -path.stat().st_mtime)
        return []

    @contextlib.contextmanager
    def _reading(self, name: str, commit: str) -> Iterator[Fold | None]:
        """Hold the fold in a file if it describes the commit, else None."""
        if name not in self._held and not (self._folder / name).exists():
            yield None
            return
        try:
            connection = self._connection(name)
            nested = connection.in_transaction
            if not nested:
                connection.execute("BEGIN")
            row = connection.execute("SELECT value FROM info WHERE key = 'commit'").fetchone()
        except sqlite3.OperationalError:
            row, nested, connection = None, True, None
        except sqlite3.DatabaseError:
            self._drop(name)
            row, nested, connection = None, True, None
        try:
            here = connection is not None and row is not None and row[0] == commit
            yield Fold(connection, commit, lambda: self._drop(name)) if connection is not None and here else None
        finally:
            if connection and not nested:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("COMMIT")

    @property
    def _held(self) -> dict[str, sqlite3.Connection]:
        """This thread's connections by file, anew after a fork."""
        held: dict[str, sqlite3.Connection] = self._local.__dict__.setdefault(f"held{os.getpid()}", {})
        return held

    def _connection(self, name: str) -> sqlite3.Connection:
        connection = self._held.get(name)
        if connection is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            connection = self._open(str(self._folder / name))
            # Not synced on purpose: after a power cut the fold is made anew, or is an older one that is caught up.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA journal_size_limit={_LOG_KEPT}")
            made = connection.execute("SELECT value FROM info WHERE key = 'format'").fetchone()
            if made is None or made[0] != FORMAT:
                connection.close()
                self._drop(name)
                return self._connection(name)
            self._held[name] = connection
        return connection

    def _open(self, where: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            where, isolation_level=None, check_same_thread=False, timeout=20, cached_statements=256
        )
        has_tables = "SELECT 1 FROM sqlite_master WHERE name = 'info'"
        if not connection.execute(has_tables).fetchone():
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute(has_tables).fetchone():
                for statement in SCHEMA.split(";"):
                    connection.execute(statement)
            connection.execute("COMMIT")
        return connection

    def _drop(self, name: str) -> None:
        """Forget a file of the cache; its log first, which SQLite would else replay into a new file of the name."""
        connection = self._held.pop(name, None)
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(OSError):
                (self._folder / (name + suffix)).unlink()

    def is_cold(self, branch: str) -> bool:
        """Return whether a first question about a branch is better answered without folding all of it.

        It is so once for a branch: whoever asks a second time is going to ask a third time, and then a fold pays.
        """
        place = self._folder / _branch_file(branch)
        asked = place.with_suffix(".asked")
        if self._hurried or place.exists() or asked.exists():
            return False
        self._hurried = True
        with contextlib.suppress(OSError):
            asked.parent.mkdir(parents=True, exist_ok=True)
            asked.touch()
        return True

    def resolve(self, text: str) -> refs.Ref:
        """Return what a ref means, as `headwater.lake.refs` does; a branch at a time without reading all of its log."""
        return refs.resolve(self._lake, text, landed_by=self._landed_by)

    def _landed_by(self, branch: str, micros: int) -> str | None:
        """Return the head that a branch had at a time, by its own clock."""
        with self.at_head(branch) as fold:
            row = fold.one("SELECT landed FROM commits WHERE landed_micros <= ? ORDER BY position DESC LIMIT 1", micros)
            return str(row[0]) if row is not None else None

    def trim(
        self, branches: Iterable[str], commits: Callable[[str], bool], *, dry_run: bool = False
    ) -> tuple[int, int]:
        """Delete the folds of branches and commits that are gone; return how many there were, and their bytes.

        Args:
            branches: Every branch that there is, hidden ones too.
            commits: Whether a commit is still there.
            dry_run: Only count.
        """
        kept = {Path(_branch_file(each)).stem for each in branches}
        count = freed = 0
        for path in self._files("*.db"):
            kind, _, what = path.stem.partition("-")
            if path.stem in kept or (kind == "commit" and commits(what)):
                continue
            with contextlib.suppress(OSError):
                count, freed = count + 1, freed + path.stat().st_size
            if not dry_run:
                self._drop(path.name)
                path.with_suffix(".asked").unlink(missing_ok=True)
        return count, freed

    def forget(self, branch: str) -> None:
        """Delete the fold of a branch that is gone."""
        self._drop(_branch_file(branch))
        with contextlib.suppress(OSError):
            (self._folder / _branch_file(branch)).with_suffix(".asked").unlink()

    def known_objects(self, branch: str) -> set[str]:
        """Return the set of shared objects that this process has seen on a branch, to be added to."""
        return self._known.setdefault(branch, set())

    def close(self) -> None:
        """Close this thread's connections, and let go of the others', which close when their users are done."""
        for connection in self._held.values():
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self._local = threading.local()
        if self._aside is not None:
            self._aside.close()

    # -- bringing forward ---------------------------------------------------------------------------------------
    def landed(
        self,
        branch: str,
        before: str,
        commits: Iterable[Commit],
        rows: Mapping[str, Iterable[Mapping[str, Any]]],
        after: Mapping[str, TableFiles],
    ) -> None:
        """Bring a branch's fold forward by a transaction of this process, whose rows need not be read again.

        Does nothing where the fold does not describe `before`; the next reader brings it forward then.

        Args:
            branch: The branch that the transaction landed on.
            before: The head that it landed on.
            commits: The new commits, parents first; the last is the new head.
            rows: The new rows by table, times in microseconds.
            after: What each changed table consists of now.
        """
        commits = list(commits)
        # What can't be judged so (`RefoldError`), the next reader folds.
        with contextlib.suppress(sqlite3.Error, RefoldError), self._writing(_branch_file(branch)) as connection:
            if _commit_of(connection) != before:
                return
            judged, root = _newest(connection), self._root(connection, commits, commits[-1].id)
            for name, new in rows.items():
                if name != "events" or root is None:
                    fold_rows(connection, name, new)
            fold_commits(connection, commits, commits[-1].id)
            if root is not None:
                self._judge(connection, _branch_file(branch), rows.get("events", ()), root, judged)
            for name, found in after.items():
                fold_files(connection, name, found)
            connection.execute("INSERT OR REPLACE INTO info VALUES ('commit', ?)", (commits[-1].id,))

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[sqlite3.Connection]:
        connection = self._connection(name)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _update(self, name: str, commit: str, *, patient: bool = False) -> None:
        """Make a file describe a commit, from what it describes now or from nothing."""
        try:
            self._seed(name, commit)
            self._catch_up(name, commit, patient=patient)
        except (sqlite3.DatabaseError, OSError) as error:
            if "locked" in str(error):
                raise LakeError(f"{self._folder / name} is locked", hint="try again") from error
            if not isinstance(error, sqlite3.OperationalError | OSError):
                self._drop(name)
                return self._update_in_memory(name, commit) if name in self._damaged else self._retry(name, commit)
            self._update_in_memory(name, commit)

    def _retry(self, name: str, commit: str) -> None:
        self._damaged.add(name)
        self._update(name, commit)

    def _update_in_memory(self, name: str, commit: str) -> None:
        """Fold in memory, for this thread: the cache's disk is full or read-only, and reading must go on."""
        self._drop(name)
        self._held[name] = self._open(":memory:")
        self._catch_up(name, commit)

    def _catch_up(self, name: str, commit: str, *, patient: bool = False) -> None:
        try:
            self._fold(name, commit, patient=patient)
        except RefoldError:
            with self._writing(name) as connection:
                wipe(connection)
            self._fold(name, commit, patient=patient)

    def _fold(self, name: str, commit: str, *, patient: bool) -> None:
        with self._writing(name) as connection:
            known = _commit_of(connection)
            if patient and known != commit and _has_commit(connection, commit):
                # Another process has brought the fold further than the head that was read: read the head again.
                return
            new = self._new_commits(connection, commit, known) if known is not None else None
            if known is not None and new is None:
                try:
                    known = self._roll_back(connection, known, commit)
                except NotFoundError:
                    known = None  # what the file describes was collected
                new = self._new_commits(connection, commit, known) if known is not None else None
            if known is None or new is None:
                wipe(connection)
                known = None
                new = list(self._lake.log(commit))[::-1]
            judged = _newest(connection) if known is not None else -1
            root = self._root(connection, new, commit)
            events: list[Mapping[str, Any]] = []
            for table in self._changed_tables(known, commit):
                earlier = Fold(connection, "").table(table) if known is not None else TableFiles()
                after = tables.load(self._lake, commit, table, self._extended(known, commit, table, earlier))
                fresh = [path for path in after.files if path not in earlier.files]
                if table in FOLDED and fresh:
                    rows = tables.rows(tables.read(self._lake, commit, table, fresh))
                    if table == "events" and root is not None:
                        events += rows
                    else:
                        known_clashes = clashes(connection)
                        fold_rows(connection, table, rows)
                        if known is not None and clashes(connection) > known_clashes:
                            # One of the two may be gone from the table: what is there now counts, for everybody.
                            raise RefoldError
                fold_files(connection, table, after)
            fold_commits(connection, new, commit)
            if root is not None:
                marking.check_unchanged(self._lake, commit, root)
                self._judge(connection, name, events, root, judged)
            connection.execute("INSERT OR REPLACE INTO info VALUES ('commit', ?)", (commit,))

    # -- a signed lake ------------------------------------------------------------------------------------------
    def _root(self, connection: sqlite3.Connection, new: Iterable[Commit], head: str) -> Root | None:
        """Return what the lake's trust begins with: what the first landing that has a marker says, and no later one."""
        if connection.execute("SELECT 1 FROM info WHERE key = 'root'").fetchone():
            return _root_of(connection)
        for commit in landings_of(connection, list(new), head):
            if (LANDED in commit.metadata or KIND in commit.metadata) and (
                body := marking.found(self._lake, commit.id)
            ) is not None:
                root = marking.root_of(body)
                text = None if root is None else root.text
                connection.execute("INSERT OR REPLACE INTO info VALUES ('root', ?)", (text,))
                return root
        return None

    def _judge(
        self, connection: sqlite3.Connection, name: str, events: Iterable[Mapping[str, Any]], root: Root, after: int
    ) -> None:
        """Add the events of a signed lake; the commits that brought them are there already."""
        newest = _newest(connection)
        default = name == _branch_file(root.branch)
        row = connection.execute("SELECT value FROM info WHERE key = 'trunk'").fetchone() if default else None
        if row is not None and int(row[0]) < after:
            raise RefoldError  # the file began as a copy of another branch's, which this one was moved to
        trunk = newest if default else self._trunk(connection, root)
        connection.execute("INSERT OR REPLACE INTO info VALUES ('trunk', ?)", (trunk,))
        rehearsed = self._is_rehearsed(name, connection, newest)
        fold_judged(connection, events, Landings(root, after, trunk, rehearsed, self._events_at, self._verifies))

    def _trunk(self, connection: sqlite3.Connection, root: Root) -> int:
        """Return the position up to which a line of first parents is the default branch's."""
        row = connection.execute("SELECT value FROM info WHERE key = 'trunk'").fetchone()
        trunk = int(row[0]) if row is not None else -1
        spine = connection.execute(
            "SELECT position, id FROM commits WHERE landed = id AND position > ? ORDER BY position", (trunk,)
        ).fetchall()
        if not spine or spine[0][0] > trunk + 1:
            return trunk
        if self._aside is None:
            # Connections of its own: whoever reads the default branch's fold here goes on reading what he read.
            self._aside = Folds(self._lake, self._folder, self._verifies)
        with contextlib.suppress(NotFoundError), self._aside.at_head(root.branch) as fold:
            for position, commit in spine:
                if _position(fold._connection, commit) is None:
                    break
                trunk = position
        return trunk

    def _is_rehearsed(self, name: str, connection: sqlite3.Connection, newest: int) -> bool:
        """Return whether a file's line is a rehearsal's, whose own events are not signed."""
        if name.startswith("branch-"):
            return self._names.get(name, "").startswith(REHEARSAL_PREFIX)
        (head,) = connection.execute("SELECT id FROM commits WHERE landed = id AND position = ?", (newest,)).fetchone()
        for other, branch in list(self._names.items()):
            if branch.startswith(REHEARSAL_PREFIX) and (self._folder / other).exists():
                with contextlib.suppress(sqlite3.Error):
                    if _position(self._connection(other), head) is not None:
                        return True
        return False

    def _events_at(self, commit: str) -> Iterator[Mapping[str, Any]]:
        found = tables.load(self._lake, commit, "events")
        yield from tables.rows(tables.read(self._lake, commit, "events", found.files))

    def _seed(self, name: str, commit: str) -> None:
        """Begin a file that is not there with a copy of the one that has least to be changed.

        A branch's first read would else read all rows, however little it has that another branch has not.
        """
        if (self._folder / name).exists():
            return
        known: dict[str, sqlite3.Connection] = {}
        for other in [each.name for each in [*self._files("branch-*.db"), *self._files("commit-*.db")]][:_SOURCES]:
            with contextlib.suppress(sqlite3.Error):
                connection = self._connection(other)
                if _commit_of(connection) is not None:
                    known[other] = connection
        if not known:
            return
        for each in refs.landings(self._lake, commit):
            costs = {
                other: _newest(connection) - place
                for other, connection in known.items()
                if (place := _position(connection, each.id)) is not None
            }
            if costs:
                copied(self._folder / min(costs, key=costs.__getitem__), self._folder / name)
                return

    def _roll_back(self, connection: sqlite3.Connection, known: str, commit: str) -> str | None:
        """Forget what landed after the last commit that a given one goes on from along first parents; return that.

        None where there is no such commit, or where it is so far back that reading everything is no more work.
        """
        newest = _newest(connection)
        for each in refs.landings(self._lake, commit):
            place = _position(connection, each.id)
            if place is None:
                continue
            if newest - place > newest // 2 + 100 or has_strays(connection) or clashes(connection):
                return None
            if _root_of(connection) is not None and marking.found(self._lake, each.id) is None:
                return None  # the lake was not made yet
            connection.execute("UPDATE info SET value = min(value, ?) WHERE key = 'trunk'", (place,))
            gone = unfold_commits(connection, place)
            for table in self._changed_tables(known, each.id):
                here, found = Fold(connection, "").table(table), tables.load(self._lake, each.id, table)
                # What the transactions wrote is in files that were not there before them.
                later = [path for path in here.files if path not in found.files]
                if table in FOLDED and table != "events" and gone and later:
                    arrow = tables.read(self._lake, known, table, later, unfolded_columns(table))
                    rows = [row for row in tables.rows(arrow) if row["tx"] in gone]
                    if unfold_rows(connection, table, rows):
                        arrow = tables.read(self._lake, each.id, table, found.files)
                        fold_rows(connection, table, tables.rows(arrow))
                fold_files(connection, table, found)
            unfold_events(connection, gone)
            connection.execute("INSERT OR REPLACE INTO info VALUES ('commit', ?)", (each.id,))
            return each.id
        return None

    def _new_commits(self, connection: sqlite3.Connection, commit: str, known: str) -> list[Commit] | None:
        """Return the commits between a known one and one that goes on from it along first parents, parents first.

        None where it does not: then it was not the known one on which the others landed.
        """
        if _has_commit(connection, commit):
            return [] if commit == known else None
        new = commits_until(self._lake, commit, lambda each: _has_commit(connection, each))
        line = line_of(connection, new)
        at: str | None = commit
        while at in line:
            at = line[at]
        return new if at == known else None

    def _changed_tables(self, known: str | None, commit: str) -> list[str]:
        if known is None:
            return list(TABLES)
        changed = {change.path.split("/")[1] for change in self._lake.diff(known, commit, "tables/")}
        return [name for name in TABLES if name in changed]

    def _extended(self, known: str | None, commit: str, table: str, earlier: TableFiles) -> TableFiles | None:
        """Return `earlier` if the table's log at the commit goes on from it; a merge may have put another in place."""
        if known is None or earlier.version < 0:
            return None
        rewritten = any(
            change.kind == "changed" and change.path.endswith((".json", ".parquet"))
            for change in self._lake.diff(known, commit, f"tables/{table}/_delta_log/")
        )
        return None if rewritten else earlier


def _root_of(connection: sqlite3.Connection) -> Root | None:
    row = connection.execute("SELECT value FROM info WHERE key = 'root'").fetchone()
    return Root.parse(row[0]) if row is not None else None


def _branch_file(branch: str) -> str:
    # Branch names may differ in case alone, which some file systems do not tell apart.
    return f"branch-{sha256(branch.encode()).hexdigest()[:16]}.db"


def _position(connection: sqlite3.Connection, commit: str) -> int | None:
    """Return how many first parents a commit has behind it, if it is on the folded branch's own line."""
    row = connection.execute("SELECT position FROM commits WHERE id = ? AND landed = id", (commit,)).fetchone()
    return int(row[0]) if row else None


def _newest(connection: sqlite3.Connection) -> int:
    """Return the position of the folded commit."""
    return int(connection.execute("SELECT coalesce(max(position), 0) FROM commits").fetchone()[0])


def _commit_of(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT value FROM info WHERE key = 'commit'").fetchone()
    return str(row[0]) if row else None


def _has_commit(connection: sqlite3.Connection, commit: str) -> bool:
    return connection.execute("SELECT 1 FROM commits WHERE id = ?", (commit,)).fetchone() is not None
