"""A durable local file of frames with one owner, for what has not landed in the lake; knows nothing of what they hold.

A frame is the length and the CRC-32 of what follows the two (both 32 bits, little-endian), a sequence number (64 bits)
and a payload. The first frame, number 0, says in JSON what the file is about. The owner holds a lock (`flock`) on the
file, which dies with it: whoever gets the lock afterwards takes the file over. A frame that a crash tore is the last
one, and is left out. Sequence numbers never repeat in a file, so that what has landed is known by one number.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import threading
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headwater.errors import LakeError
from headwater.lake.objects import disk_errors, sync_folder

__all__ = ["SUFFIX", "Spool", "is_owned"]

SUFFIX = ".spool"

_HEAD = struct.Struct("<IIQ")
_NUMBER = struct.Struct("<Q")
_MOST_HELD = 64 << 20
"""Bytes of frames that are held in memory while the disk does not take them."""

_SMALL = 64 << 10
"""Frames up to this size are held in any case: what something is called, and how it ended."""

_open: weakref.WeakSet[Spool] = weakref.WeakSet()


class Spool:
    """A file of frames that this process owns. Use `create` or `take`.

    Attributes:
        path: The file.
        about: What its first frame says; empty where that can't be read.
        last: The number of the last frame.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.about: Mapping[str, Any] = {}
        self.last = 0
        self._descriptor = descriptor
        self._guard = threading.Lock()
        self._start = 0
        self._end = 0
        self._writes = 0
        self._durable = 0
        self._held: list[tuple[int, bytes]] = []
        self._held_bytes = 0
        self._trouble: LakeError | None = None
        _open.add(self)

    @classmethod
    def create(cls, path: Path, about: Mapping[str, Any]) -> Spool:
        """Make a file that says what it is about, durably, and own it.

        Raises:
            LakeError: The disk is full, or does not allow it.
        """
        # Under another name until it is locked and whole: nobody may take it for one that was left behind.
        building = path.with_suffix(".new")
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(building, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            spool = cls(path, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                spool._write(_framed(0, json.dumps(about).encode()))
                os.fsync(descriptor)
                os.rename(building, path)
                sync_folder(path.parent)
            except BaseException:
                spool.close()
                with suppress(OSError):
                    building.unlink()
                raise
        spool.about = about
        spool._start = spool._end
        return spool

    @classmethod
    def take(cls, path: Path) -> Spool | None:
        """Own a file whose owner has died; None where it has not, or where the file is gone."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino != os.stat(path).st_ino:
                raise BlockingIOError
        except OSError:
            os.close(descriptor)
            return None
        spool = cls(path, descriptor)
        for number, where, size in spool._scan(0):
            if number == 0:
                with suppress(ValueError):
                    spool.about = json.loads(os.pread(descriptor, size, where))
                spool._start = where + size
            spool.last, spool._end = number, where + size
        return spool

    # -- writing ------------------------------------------------------------------------------------------------
    def append(self, payload: bytes) -> int:
        """Write a frame and return its number; it is durable after `sync`.

        While the disk takes nothing, frames are held in memory, up to 64 MiB of them.

        Raises:
            LakeError: The disk takes nothing, and memory is full of what it has not taken.
        """
        with self._guard:
            if self._held_bytes > _MOST_HELD and len(payload) > _SMALL and self._trouble is not None:
                raise self._trouble
            self.last += 1
            frame = _framed(self.last, payload)
            if self._held or not self._try(frame):
                self._held.append((self.last, payload))
                self._held_bytes += len(payload)
            return self.last

    def sync(self) -> None:
        """Make every frame durable.

        Raises:
            LakeError: Some are in memory only, because the disk does not take them; they are tried again next time.
        """
        with self._guard:
            while self._held and self._try(_framed(*self._held[0])):
                self._held_bytes -= len(self._held.pop(0)[1])
            trouble = self._trouble if self._held else None
            writes = self._writes
            descriptor = -1 if self._durable == writes or self._descriptor < 0 else os.dup(self._descriptor)
        if descriptor >= 0:
            try:
                with disk_errors(self.path):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with self._guard:
                self._durable = max(self._durable, writes)
        if trouble is not None:
            raise trouble

    def _try(self, frame: bytes) -> bool:
        try:
            with disk_errors(self.path):
                self._write(frame)
        except LakeError as error:
            self._trouble = error
            return False
        return True

    def _write(self, frame: bytes) -> None:
        view = memoryview(frame)
        at = self._end
        try:
            while view:
                written = os.pwrite(self._descriptor, view, at)
                at += written
                view = view[written:]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise
        self._end = at
        self._writes += 1

    # -- reading ------------------------------------------------------------------------------------------------
    def frames(self, after: int, most: int) -> list[tuple[int, bytes]]:
        """Return frames as (number, payload), in order.

        Args:
            after: Only those with a higher number.
            most: Bytes after which no further frame is returned; one is, in any case.
        """
        found: list[tuple[int, bytes]] = []
        size = 0
        with self._guard:
            for number, where, length in self._scan(self._start):
                if number > max(after, 0):
                    found.append((number, os.pread(self._descriptor, length, where)))
                    size += length
                    if size >= most:
                        return found
            for number, payload in self._held:
                if number > after and size < most:
                    found.append((number, payload))
                    size += len(payload)
        return found

    def _scan(self, start: int) -> Iterator[tuple[int, int, int]]:
        """Yield number, place and length of each payload in the file, up to the first frame that is not whole."""
        end = os.fstat(self._descriptor).st_size
        while start + _HEAD.size <= end:
            length, check, number = _HEAD.unpack(os.pread(self._descriptor, _HEAD.size, start))
            if length < _NUMBER.size or start + 8 + length > end:
                return
            where = start + _HEAD.size
            if self._end < where + length - 8:
                # written by another process: see that it is whole
                body = os.pread(self._descriptor, length, start + 8)
                if zlib.crc32(body) != check:
                    return
            yield number, where, length - 8
            start += 8 + length

    def drop(self, upto: int) -> None:
        """Forget the frames up to a number, which are safe elsewhere."""
        with self._guard:
            self._held = [(number, payload) for number, payload in self._held if number > upto]
            self._held_bytes = sum(len(payload) for _, payload in self._held)
            in_file = self._held[0][0] - 1 if self._held else self.last
            if in_file <= upto:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self._start)
                    self._end = self._start

    def remove(self) -> None:
        """Delete the file and let go of it."""
        with suppress(OSError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the file: whoever takes it next owns it."""
        with self._guard:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1
        _open.discard(self)

    def _forked(self) -> None:
        """Let the parent alone own the file: its lock lasts until the last copy of the descriptor is closed."""
        self._guard = threading.Lock()
        self._held = []
        self.close()


def is_owned(path: Path) -> bool:
    """Return whether a living process owns a spool."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _framed(number: int, payload: bytes) -> bytes:
    body = _NUMBER.pack(number) + payload
    return struct.pack("<II", len(body), zlib.crc32(body)) + body


def _after_fork() -> None:
    for spool in list(_open):
        spool._forked()


os.register_at_fork(after_in_child=_after_fork)
