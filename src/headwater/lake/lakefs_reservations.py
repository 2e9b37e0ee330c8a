"""Names and numbers that are reserved once for a whole repository; knows only the server's calls.

A reservation is an object that is staged, with `If-None-Match: *`, on a hidden branch of its own, and never committed:
the server lets exactly one writer through, whatever branch he works on (tried: 8 threads, no duplicate, no gap).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping

from headwater.errors import AlreadyExistsError, NotFoundError
from headwater.lake.base import HIDDEN_PREFIX, Reservation
from headwater.lake.lakefs_client import Answer, Client, Sdk

__all__ = ["Reservations"]

BRANCH = f"{HIDDEN_PREFIX}reservations"

_VALUE = "headwater-value"
"""User metadata of a reservation: its value, so that a list of them tells it, where a header can hold it."""

_TELLABLE = re.compile(r"[!-~]+")


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
        path = _path(key, 0)
        return value if self._reserve(path, value) else self._read(path)

    def cut(self, sequence: str, value: str, after: int) -> int:
        """Reserve the lowest free number above `after`, and above what this process has cut already.

        Asked again for the same value, as an operation does that runs anew, it gives the same number.

        The numbers that are reserved above `after` are contiguous, so a free one is found by doubling steps and
        bisection: a few calls, however many there are.
        """

        def path(number: int) -> str:
            return _path(sequence, number)

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

    def claimed(self, key: str) -> str | None:
        """Return the value that a key is reserved with; None where it is free."""
        try:
            return self._read(_path(key, 0))
        except NotFoundError:
            return None

    def newest(self, sequence: str, page_size: int) -> int:
        """Return the highest number of a sequence, 0 where there is none: it is in the last of the folders of 1,000."""
        prefix = _path(sequence, 1).removesuffix("0/1")
        folders = [int(name) for name in self._names(prefix, page_size) if name.isdecimal()]
        if not folders:
            return 0
        numbers = self._names(f"{prefix}{max(folders)}/", page_size)
        return max((int(name) for name in numbers if name.isdecimal()), default=0)

    def _names(self, folder: str, page_size: int) -> list[str]:
        """Return the names of what is in a folder, of folders and of reservations."""
        listed = self._client.pages(
            "list the reservations",
            lambda sdk, after: sdk.objects.list_objects(
                self._client.address.repository, BRANCH, after=after, amount=page_size, prefix=folder, delimiter="/"
            ),
            lambda answer: str(answer["path"]).removeprefix(folder).rstrip("/"),
            missing="there are no reservations yet",
        )
        try:
            return list(listed)
        except NotFoundError:
            return []

    def all(self, page_size: int) -> dict[Reservation, str]:
        """Return every reservation with its value."""
        found: dict[Reservation, str] = {}
        untold: list[tuple[Reservation, str]] = []
        listed = self._client.pages(
            "list the reservations",
            lambda sdk, after: sdk.objects.list_objects(
                self._client.address.repository, BRANCH, after=after, amount=page_size
            ),
            _read_entry,
            missing="there are no reservations yet",
        )
        try:
            for path, value in listed:
                reservation = _reservation_of(path)
                if reservation is not None and value is not None:
                    found[reservation] = value
                elif reservation is not None:
                    untold.append((reservation, path))
        except NotFoundError:
            return {}

        def look(item: tuple[Reservation, str]) -> None:
            found[item[0]] = self._read(item[1])

        self._client.each(look, untold)
        return found

    def adopt(self, wanted: Mapping[Reservation, str]) -> dict[Reservation, str]:
        """Reserve what another lake has reserved, side by side, and return what stands at another value."""
        other: dict[Reservation, str] = {}

        def adopt(reservation: Reservation) -> None:
            path = _path(*reservation)
            if not self._reserve(path, wanted[reservation]) and (stands := self._read(path)) != wanted[reservation]:
                other[reservation] = stands

        first = next(iter(wanted), None)
        if first is not None:
            adopt(first)  # alone, because it may have to make the branch
        self._client.each(adopt, [each for each in wanted if each != first])
        return other

    def _reserve(self, path: str, value: str) -> bool:
        """Put a reservation where there is none, and tell whether it is ours."""
        headers = {"If-None-Match": "*"}
        if _TELLABLE.fullmatch(value):
            headers[f"X-Lakefs-Meta-{_VALUE}"] = value

        def put(sdk: Sdk) -> bool:
            self._client.upload(sdk, BRANCH, path, value.encode(), headers)
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


def _path(name: str, number: int) -> str:
    """Return where a number of a sequence is reserved, or (0) a claim."""
    return f"numbers/{name}/{number // 1000}/{number}" if number else f"claims/{name}"


def _reservation_of(path: str) -> Reservation | None:
    """Return what a path reserves; None for what a stranger put there."""
    kind, _, rest = path.partition("/")
    if kind == "claims":
        return rest, 0
    name, _, number = rest.rpartition("/")
    name = name.rpartition("/")[0]
    return (name, int(number)) if kind == "numbers" and number.isdecimal() and name else None


def _read_entry(answer: Answer) -> tuple[str, str | None]:
    return str(answer["path"]), (answer.get("metadata") or {}).get(_VALUE)
