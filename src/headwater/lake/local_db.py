"""The SQLite file of an embedded lake: chunks by digest, commits, refs and reservations; no rules of merging."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from headwater.errors import IntegrityError, LakeError
from headwater.lake.objects import damaged

__all__ = ["FORMAT", "Database"]

FORMAT = 1
"""The newest layout of `lake.db` that this code reads and writes (SQLite's `user_version`)."""

PATIENCE = 10.0
"""Seconds that a write waits for another program's lock on the file."""

_APPLICATION_ID = 0x48445752  # "HDWR"

_SCHEMA = """
CREATE TABLE chunks (hash BLOB PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE commits (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, generation INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE refs (name TEXT PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE claims (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE numbers (sequence TEXT, number INTEGER, value TEXT NOT NULL, PRIMARY KEY (sequence, number)) WITHOUT ROWID;
"""

_PLAIN, _ZLIB = b"\0", b"\1"


def pack(body: bytes) -> bytes:
    """Return bytes as they are kept in a chunk: a flag, then the bytes, deflated where that helps."""
    # What is long is tried on its beginning first: weights do not get smaller, and trying costs most of the time.
    if len(body) > 256 and (len(body) <= 2048 or len(zlib.compress(body[:2048], 1)) < 2048 * 9 // 10):
        small = zlib.compress(body, 1)
        if len(small) < len(body) * 9 // 10:
            return _ZLIB + small
    return _PLAIN + body


def unpack(kept: bytes) -> bytes:
    """Return what was packed."""
    return zlib.decompress(kept[1:]) if kept[:1] == _ZLIB else kept[1:]


_inherited: list[object] = []
"""Connections of a parent process, kept so that nothing of theirs is closed here."""


class Database:
    """Connections to one `lake.db`, one a thread, in WAL mode with every commit synced to disk.

    Args:
        path: The file.
        create: Make it; it must not be there yet.

    Raises:
        LakeError: The file is missing, not ours, locked, damaged, or of a newer format.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self._local = threading.local()
        self.read_only = False
        if create:
            self._create()
        elif not path.exists():
            raise LakeError(f"there is no lake in {path.parent}", hint="make one with `headwater init`")
        self.connection()

    def _create(self) -> None:
        with self.errors():
            connection = sqlite3.connect(self.path, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={FORMAT}")
                for statement in _SCHEMA.strip().splitlines():
                    connection.execute(statement)
                connection.execute("COMMIT")
            finally:
                connection.close()

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection, opened anew after a fork."""
        held: tuple[int, sqlite3.Connection] | None = getattr(self._local, "held", None)
        if held is not None and held[0] == os.getpid():
            return held[1]
        if held is not None:
            _inherited.append(held)
        with self.errors():
            connection = self._open()
        self._local.held = (os.getpid(), connection)
        return connection

    def _open(self) -> sqlite3.Connection:
        try:
            connection = self._connect("rw")
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error) and "unable to open" not in str(error):
                raise
            # A read-only disk has no room for the -shm file that WAL readers share; nobody can be writing there either.
            connection = self._connect("ro&immutable=1")
            self.read_only = True
        application, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != _APPLICATION_ID:
            connection.close()
            raise LakeError(f"{self.path} is not a Headwater lake", hint="choose another folder")
        if version > FORMAT:
            connection.close()
            raise LakeError(
                f"{self.path} was made by a newer Headwater (format {version}; this one reads up to {FORMAT})",
                hint="upgrade Headwater",
            )
        return connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
        try:
            if mode == "rw":
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
            connection.execute("SELECT 1 FROM refs LIMIT 1")
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                connection.close()
                raise LakeError(f"{self.path} is not a Headwater lake", hint="choose another folder") from error
            connection.close()
            raise
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close this thread's connection, and let go of the others', which close when their users are done."""
        held: tuple[int, sqlite3.Connection] | None = getattr(self._local, "held", None)
        if held is not None and held[0] == os.getpid():
            with contextlib.suppress(sqlite3.Error):
                held[1].close()
        self._local = threading.local()

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what SQLite says into a `LakeError` or `IntegrityError` with one sentence."""
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                raise LakeError(
                    f"{self.path} is locked by another program", hint="wait for it to finish and try again"
                ) from error
            if "full" in text:
                raise LakeError(f"the disk that holds {self.path} is full", hint="free some space") from error
            if "readonly" in text:
                raise LakeError(f"{self.path} is read-only", hint="check its owner and mode") from error
            raise LakeError(f"{self.path} can't be used: {text}", hint="check the file and its folder") from error
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error):
                raise LakeError(f"{self.path} is not a Headwater lake", hint="choose another folder") from error
            raise IntegrityError(
                f"{self.path} is damaged: {error}", hint="restore the lake's folder from a copy"
            ) from error

    def query(self, sql: str, *parameters: object) -> list[Any]:
        """Return all rows of a read."""
        with self.errors():
            return self.connection().execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock; commit at the end, durably, or roll back if anything is raised."""
        connection = self.connection()
        with self.errors():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    # -- chunks and commits -------------------------------------------------------------------------------------
    def chunk(self, digest: str, what: str) -> bytes | None:
        """Return the bytes of that sha256, or None.

        Raises:
            IntegrityError: They are not what was written.
        """
        rows = self.query("SELECT body FROM chunks WHERE hash = ?", bytes.fromhex(digest))
        if not rows:
            return None
        try:
            body = unpack(rows[0][0])
        except (zlib.error, TypeError):
            raise damaged(what) from None
        if not isinstance(body, bytes):
            raise damaged(what)
        if sha256(body).hexdigest() != digest:
            raise damaged(what)
        return body

    def write(
        self,
        connection: sqlite3.Connection,
        chunks: Iterable[tuple[str, bytes]],
        commits: Iterable[tuple[str, int, str]],
    ) -> None:
        """Write chunks (sha256, bytes) and commits (ID, generation, body), parents first; the same again is nothing."""
        connection.executemany(
            "INSERT OR IGNORE INTO chunks VALUES (?, ?)",
            [(bytes.fromhex(digest), pack(body)) for digest, body in chunks],
        )
        connection.executemany("INSERT OR IGNORE INTO commits (id, generation, body) VALUES (?, ?, ?)", commits)
