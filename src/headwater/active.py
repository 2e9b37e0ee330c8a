"""Which run is active in this process, in this thread or task first; knows runs as things that are entered and left."""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import Any

__all__ = ["RUN_ID", "claim", "current", "end_all", "enter", "entered", "leave", "opened", "outer", "push"]

RUN_ID = "HEADWATER_RUN_ID"
"""The environment variable through which a process that a run started finds it."""

_guard = threading.Lock()
_opened: list[Any] = []
_entered: ContextVar[tuple[Any, ...]] = ContextVar("headwater_runs", default=())
_claimed: list[int] = []


def push(run: Any) -> None:
    """Note that a run goes on in this process."""
    with _guard:
        _opened.append(run)


def enter(run: Any) -> None:
    """Make a run the active one of this thread or task."""
    _entered.set((*_entered.get(), run))


def leave(run: Any) -> None:
    """Forget a run: it has ended, or was left."""
    with _guard:
        _opened[:] = [each for each in _opened if each is not run]
    _entered.set(tuple(each for each in _entered.get() if each is not run))


def opened() -> list[Any]:
    """Return the runs that go on in this process, the first first."""
    with _guard:
        return list(_opened)


def entered() -> Any:
    """Return the run whose `with` this thread or task is in, or None."""
    return next((run for run in reversed(_entered.get()) if not run.ended), None)


def current() -> Any:
    """Return the active run of this process, or None: the one whose `with` this is, else the last that was started."""
    return entered() or next((run for run in reversed(opened()) if not run.ended), None)


def outer() -> str | None:
    """Return the ID of the run that started this process, by its environment."""
    return os.environ.get(RUN_ID) or None


def claim(*, only_ask: bool = False) -> bool:
    """Let the first run that a process starts be the one that started it: return whether this is the first."""
    first = os.getpid() not in _claimed
    if not only_ask:
        _claimed[:] = [os.getpid()]
    return first


def end_all(lake: Any, error: BaseException | None) -> None:
    """End the runs that go on, the last first, of one lake or (None) of all: as an error that ends the process says."""
    for run in reversed(opened()):
        if lake is None or run.knows(lake):
            run.end(error)


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
