"""A folder of read-only files named by the sha256 of their bytes; knows nothing of paths, branches or commits."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import queue
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from headwater.errors import IntegrityError, LakeError
from headwater.ids import new_id
from headwater.lake.base import CHUNK

__all__ = ["ObjectFolder", "VerifiedReader", "disk_errors", "sync_folder"]

_PIPELINE_FROM = 8 * CHUNK


@contextlib.contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn what the operating system says of a disk into a `LakeError` that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LakeError(f"the disk that holds {where} is full", hint="free some space and try again") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise LakeError(f"{where} can't be written: {error.strerror}", hint="check its owner and mode") from error
        raise LakeError(f"{where}: {error.strerror or error}", hint="check the disk") from error


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class VerifiedReader(io.RawIOBase):
    """Reads a file and raises `IntegrityError` at its end if the bytes were not those of the digest."""

    def __init__(self, raw: io.FileIO, digest: str, what: str) -> None:
        self._raw = raw
        self._digest = digest
        self._hash = sha256()
        self._what = what

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer and return how many bytes were read; 0 at the end, if the whole was right."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        count = self._raw.readinto(view) or 0
        if count:
            self._hash.update(view[:count])
        elif len(view) and self._hash.hexdigest() != self._digest:
            raise damaged(self._what)
        return count

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
        super().close()


def damaged(what: str) -> IntegrityError:
    """Return the error for bytes that are not those of their digest."""
    return IntegrityError(
        f"{what} is not what was written: its sha256 differs", hint="restore the lake's folder from a copy"
    )


class ObjectFolder:
    """Objects under `root`, sharded by the first two hex digits of their digests.

    Args:
        root: The folder, made on first use. Temporary files live in `root/tmp` and begin with their writer's pid.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tmp = root / "tmp"

    def path(self, digest: str) -> Path:
        """Return where the object of that digest is, or would be."""
        return self.root / digest[:2] / digest[2:]

    def put(self, head: bytes, rest: BinaryIO) -> tuple[str, int]:
        """Store the bytes `head` followed by a stream, durably, and return their sha256 and size.

        The file is written beside its place, synced, renamed, and its folder synced. An object that is there already
        is replaced by the same bytes, which heals one that was damaged.
        """
        with disk_errors(self.root):
            self._tmp.mkdir(parents=True, exist_ok=True)
            temporary = self._tmp / f"{os.getpid()}-{new_id()}"
            try:
                with open(temporary, "wb", buffering=0) as out:
                    digest, size = _copy(head, rest, out)
                    os.fchmod(out.fileno(), 0o444)
                    os.fsync(out.fileno())
                place = self.path(digest)
                if not place.parent.exists():
                    place.parent.mkdir(exist_ok=True)
                    sync_folder(self.root)
                temporary.rename(place)
                sync_folder(place.parent)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return digest, size

    def open(self, digest: str, what: str) -> BinaryIO:
        """Open an object for reads that check it.

        Raises:
            IntegrityError: The file is missing, or (at the end of reading) altered.
        """
        try:
            raw = io.FileIO(self.path(digest))
        except FileNotFoundError:
            raise IntegrityError(
                f"{what} is missing from the lake's object folder", hint="restore the lake's folder from a copy"
            ) from None
        except OSError as error:
            raise LakeError(f"{what} can't be read: {error.strerror}", hint="check the lake's folder") from error
        return io.BufferedReader(VerifiedReader(raw, digest, what), CHUNK)

    def sweep(self) -> int:
        """Delete temporary files whose writers are dead and return how many there were."""
        swept = 0
        with contextlib.suppress(OSError):
            for leftover in os.scandir(self._tmp):
                pid = leftover.name.partition("-")[0]
                if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
                    with contextlib.suppress(OSError):
                        os.unlink(leftover.path)
                        swept += 1
        return swept


def _copy(head: bytes, rest: BinaryIO, out: io.FileIO) -> tuple[str, int]:
    """Copy to `out` and return sha256 and size; large copies hash in a second thread, which hashlib allows."""
    digest = sha256(head)
    _write(out, head)
    size = len(head)
    chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=4)

    def drain() -> None:
        while (chunk := chunks.get()) is not None:
            digest.update(chunk)

    hasher = threading.Thread(target=drain, daemon=True)
    try:
        while chunk := rest.read(CHUNK):
            size += len(chunk)
            if size < _PIPELINE_FROM:
                digest.update(chunk)
            else:
                if not hasher.ident:
                    hasher.start()
                chunks.put(chunk)
            _write(out, chunk)
    finally:
        if hasher.ident:
            chunks.put(None)
            hasher.join()
    return digest.hexdigest(), size


def _write(out: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]
