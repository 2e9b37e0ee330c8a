"""Copying a SQLite file that others are using, as fast as the file system can; knows nothing of what is in it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path

from headwater.ids import new_id

__all__ = ["copied"]

_PATIENCE = 20.0


def copied(source: Path, target: Path) -> bool:
    """Copy a SQLite file in WAL mode to a name that is not taken; return whether that worked.

    SQLite's own backup goes through the target's log page by page: 3.4 s where this takes 0.1 s (268 MB, measured),
    and next to nothing where the file system shares blocks.
    """
    beside = target.with_name(f".{new_id()}.db")
    try:
        uri = f"{source.absolute().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE)) as held:
            held.execute("PRAGMA busy_timeout = 0")
            held.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            held.execute(f"PRAGMA busy_timeout = {int(_PATIENCE * 1000)}")
            # Nobody begins the log anew while the lock is held; that some of it gets into the file is no matter.
            held.execute("BEGIN IMMEDIATE")
            for suffix in ("", "-wal"):
                place = source.with_name(source.name + suffix)
                if suffix and not (place.exists() and place.stat().st_size):
                    continue
                # By a process of its own: closing the file here would let go of this process's locks on it.
                _run("cp", "--reflink=auto", str(place), str(beside) + suffix)
            held.execute("ROLLBACK")
        with contextlib.closing(sqlite3.connect(beside, isolation_level=None)) as made:
            made.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        os.link(beside, target)
    except (OSError, sqlite3.Error, subprocess.SubprocessError):
        return False
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(str(beside) + suffix)
    return True


def _run(program: str, option: str, *arguments: str) -> None:
    """Run a command, without the option where it is not known."""
    try:
        subprocess.run([program, option, *arguments], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        subprocess.run([program, *arguments], check=True, capture_output=True)
