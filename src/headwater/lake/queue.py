"""A queue of this machine's writers on a lock file; knows nothing of lakes. A courtesy, not a guarantee."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["queue"]


@contextmanager
def queue(path: Path, patience: float) -> Iterator[bool]:
    """Hold the lock on `path` while the block runs, or go on without it after `patience` seconds.

    The file is opened anew each time, so threads of one process queue behind one another as processes do. The lock
    dies with the process, and the kernel hands it on nearly in the order of asking. Where the file cannot be opened or
    locked (read-only folder, no `flock`), the block runs at once.

    Args:
        path: The lock file; made if missing, never deleted.
        patience: Seconds to wait before going on without the lock.

    Yields:
        Whether the lock is held.
    """
    descriptor = _open(path)
    if descriptor is None:
        yield False
        return
    turn = _Turn(descriptor)
    try:
        yield turn.take(patience)
    finally:
        turn.end()


def _open(path: Path) -> int | None:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return None


class _Turn:
    """One wait for the lock. Waiting blocks in the kernel, in a thread, for polling would serve the luckiest first."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._guard = threading.Lock()
        self._came = threading.Event()
        self._waiting = False
        self._over = False

    def take(self, patience: float) -> bool:
        """Return whether the lock was had in time."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            self._waiting = True
            threading.Thread(target=self._wait, daemon=True, name="headwater-queue").start()
            return self._came.wait(patience)
        except OSError:
            return False

    def _wait(self) -> None:
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        with self._guard:
            self._waiting = False
            self._came.set()
            if self._over:  # nobody waits any more: pass it on
                os.close(self._descriptor)

    def end(self) -> None:
        """Let go of the lock, now or as soon as it comes."""
        with self._guard:
            self._over = True
            if not self._waiting:
                os.close(self._descriptor)
