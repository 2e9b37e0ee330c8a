"""Names and numbers that are reserved once for a whole repository; knows only the server's calls.

A reservation is an object that is staged, with `If-None-Match: *`, on a hidden branch of its own, and never committed:
the server lets exactly one writer through, whatever branch he works on (tried: 8 threads, no duplicate, no gap).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from headwater.errors import AlreadyExistsError, NotFoundError
from headwater.lake.base import HIDDEN_PREFIX
from headwater.lake.lakefs_client import Client, Sdk

__all__ = ["Reservations"]

BRANCH = f"{HIDDEN_PREFIX}reservations"


class Reservations:
    """The reservations of a repository.

    Args:
        client: Calls to the server.
        start: Makes the branch that it is given the name of, empty, unless it is there.
    """

    def __init__(self, client: Client, start: Callable[[str], None]) -> None:
        self._client = client
        self._start = start
        self._locks: dict[str, threading.Lock] = {}
        self._last: dict[str, int] = {}
        self._cut: dict[tuple[str, str], int] = {}

    def claim(self, key: str, value: str) -> str:
        """Reserve a key with a value, unless it is reserved; return the value that stands."""
        path = f"claims/{key}"
        return value if self._reserve(path, value) else self._read(path)

    def cut(self, sequence: str, value: str, after: int) -> int:
        """Reserve the lowest free number above `after`, and above what this process has cut already.

        Asked again for the same value, as an operation does that runs anew, it gives the same number.

        The numbers that are reserved above `after` are contiguous, so a free one is found by doubling steps and
        bisection: a few calls, however many there are.
        """

        def path(number: int) -> str:
            return f"numbers/{sequence}/{number // 1000}/{number}"

        if (kept := self._cut.get((sequence, value))) is not None:
            return kept  # cut for an attempt that lost its race
        with self._locks.setdefault(sequence, threading.Lock()):  # threads of one process need not race
            number = max(after, self._last.get(sequence, 0)) + 1
            while not self._reserve(path(number), value):
                taken, step = number, 1
                while self._is_reserved(path(taken + step)):
                    taken, step = taken + step, step * 2
                free = taken + step
                while free - taken > 1:
                    middle = (taken + free) // 2
                    taken, free = (middle, free) if self._is_reserved(path(middle)) else (taken, middle)
                number = free
            self._last[sequence] = number
        if len(self._cut) > 1000:
            self._cut.clear()
        self._cut[sequence, value] = number
        return number

    def _reserve(self, path: str, value: str) -> bool:
        """Put a reservation where there is none, and tell whether it is ours."""

        def put(sdk: Sdk) -> bool:
            self._client.upload(sdk, BRANCH, path, value.encode(), {"If-None-Match": "*"})
            return True

        def reserve() -> bool:
            return self._client.run(
                f"reserve {path!r}",
                put,
                missing="there are no reservations yet",
                meaning={412: lambda fault: AlreadyExistsError(f"{path!r} is reserved")},
                echo=(412, lambda: True if self._read(path) == value else None),
            )

        try:
            try:
                return reserve()
            except NotFoundError:
                self._start(BRANCH)
                return reserve()
        except AlreadyExistsError:
            return False

    def _read(self, path: str) -> str:
        with self._client.stream(BRANCH, path) as stream:
            return stream.readall().decode()

    def _is_reserved(self, path: str) -> bool:
        try:
            self._client.stat(BRANCH, path)
        except NotFoundError:
            return False
        return True
