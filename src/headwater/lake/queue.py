"""A queue of this machine's writers on a lock file; knows nothing of lakes. A courtesy, not a guarantee."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if os.name == "posix":
    import fcntl

__all__ = ["queue"]

_SHORTEST = 0.001
_LONGEST = 0.02


@contextmanager
def queue(path: Path, patience: float) -> Iterator[None]:
    """Hold the lock on `path` while the block runs, or go on without it after `patience` seconds.

    The file is opened anew each time, so threads of one process queue behind one another as processes do. The lock
    dies with the process. Where the file cannot be opened or locked (read-only folder, no `flock`), the block runs
    at once.

    Args:
        path: The lock file; made if missing, never deleted.
        patience: Seconds to wait before going on without the lock.
    """
    descriptor = _open(path)
    try:
        if descriptor is not None:
            _lock(descriptor, patience)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)  # also unlocks


def _open(path: Path) -> int | None:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return None


def _lock(descriptor: int, patience: float) -> None:
    if os.name != "posix":
        return
    deadline = time.monotonic() + patience
    pause = _SHORTEST
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, random.uniform(_SHORTEST, pause)))
            pause = min(_LONGEST, pause * 1.5)
        except OSError:
            return
