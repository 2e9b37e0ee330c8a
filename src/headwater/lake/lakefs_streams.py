"""Bytes on their way to and from a server: hashed as they pass, and fetched on after a break; knows no SDK."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO

from urllib3 import BaseHTTPResponse

from headwater.errors import IntegrityError
from headwater.lake.base import CHUNK
from headwater.lake.lakefs_http import Fault
from headwater.lake.streams import read_up_to

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Download", "Upload", "md5_of"]

_MD5 = re.compile(r"[0-9a-f]{32}")


def md5_of(etag: str) -> str | None:
    """Return the MD5 that an entity tag states, or None where it is not one (as for multipart uploads)."""
    bare = etag.removeprefix("W/").strip('"')
    return bare if _MD5.fullmatch(bare) else None


class Upload:
    """The bytes of a stream as a request's body, hashed and counted as they are sent. Iterable again if seekable.

    Args:
        source: The stream.

    Attributes:
        whole: All the bytes, if there are few; else None.
        length: The bytes to come, or None where the stream does not tell.
        size: The bytes that were sent.
        error: What the stream raised: HTTP clients pass it off as a broken connection.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._start: int | None = source.tell() if source.seekable() else None
        self._begun = read_up_to(source, CHUNK)
        self.whole = self._begun if len(self._begun) < CHUNK else None
        self.length: int | None = None
        if self._start is not None:
            self.length = source.seek(0, io.SEEK_END) - self._start
            self._begun = b""
        self._reset()

    def _reset(self) -> None:
        if self._start is not None:
            self._source.seek(self._start)
        self.size = 0
        self.error: Exception | None = None
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def __iter__(self) -> Iterator[bytes]:
        self._reset()
        while True:
            try:
                chunk, self._begun = self._begun or self._source.read(CHUNK), b""
                self.size += len(chunk)
                # a length that was declared and is not kept would cut the object short, or leave the server waiting
                if self.length is not None and (self.size > self.length or (not chunk and self.size < self.length)):
                    raise IntegrityError("a file changed while it was read", hint="try again when nothing writes to it")
            except Exception as error:
                self.error = error
                raise
            if not chunk:
                return
            self._sha256.update(chunk)
            self._md5.update(chunk)
            yield chunk

    @property
    def is_spent(self) -> bool:
        """Whether some bytes have been sent that cannot be sent again."""
        return self._start is None and self.size > 0

    @property
    def sha256(self) -> str:
        """The sha256 of what was sent."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """The MD5 of what was sent: what lakeFS states of what it received."""
        return self._md5.hexdigest()


class Download(io.RawIOBase):
    """An object's bytes as a raw stream, compared with the MD5 in its entity tag (and a sha256) at the end.

    Args:
        name: What it is, for messages.
        fetch: Requests the bytes from an offset on; raises what a caller should see.
        faults: Turns what a broken connection raises into a `Fault`.
        attempts: How often a transfer may break without a byte in between before its fault is raised by `give_up`.
        pause: Seconds before it is taken up again.
        give_up: Turns the last fault into the error to raise.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[int], BaseHTTPResponse],
        *,
        faults: Callable[[], AbstractContextManager[None]],
        attempts: int,
        pause: float,
        give_up: Callable[[Fault], Exception],
    ) -> None:
        super().__init__()
        self._name = name
        self._fetch = fetch
        self._faults = faults
        self._attempts = attempts
        self._breaks = 0
        self._pause = pause
        self._give_up = give_up
        self._response: BaseHTTPResponse | None = fetch(0)
        self.etag = self._response.headers["ETag"]
        length = self._response.headers.get("Content-Length")
        self.size = int(length) if length is not None else None
        self.sha256: str | None = None
        self._done = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read what comes next; at the end, check all that was read."""
        view = memoryview(buffer).cast("B")
        chunk = self._next(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def readall(self) -> bytes:
        """Read all that is left."""
        chunks = []
        while chunk := self._next(CHUNK):
            chunks.append(chunk)
        return b"".join(chunks)

    def close(self) -> None:
        """Let go of the connection: kept for the next call if all was read, else closed."""
        if self._response is not None:
            self._response.close()
            self._response = None
        super().close()

    def _next(self, wanted: int) -> bytes:
        while True:
            if wanted == 0 or self._response is None:
                return b""
            try:
                with self._faults():
                    chunk = self._response.read(wanted, decode_content=False)
            except Fault as fault:
                self._resume(fault)
                continue
            if not chunk:
                self._finish()
                return b""
            self._breaks = 0
            self._done += len(chunk)
            self._md5.update(chunk)
            if self.sha256 is not None:
                self._sha256.update(chunk)
            return chunk

    def _resume(self, fault: Fault) -> None:
        self._breaks += 1
        if self._breaks >= self._attempts:
            if fault.short:  # each time at one place: it is not the network
                text = f"{self._name} is not what was put: the lake gives only {self._done} of its {self.size} bytes"
                raise IntegrityError(text, hint=_RESTORE) from fault
            raise self._give_up(fault) from fault
        time.sleep(self._pause)
        if self._response is not None:
            self._response.close()
        self._response = self._fetch(self._done)
        if self._response.headers["ETag"] != self.etag:
            raise IntegrityError(f"{self._name} changed while it was read", hint="try again")

    def _finish(self) -> None:
        if self._response is not None:
            self._response.release_conn()
            self._response = None
        stated = md5_of(self.etag)
        if stated is not None and stated != self._md5.hexdigest():
            raise IntegrityError(f"{self._name} is not what was put: its MD5 differs", hint=_RESTORE)
        if self.sha256 is not None and self.sha256 != self._sha256.hexdigest():
            raise IntegrityError(f"{self._name} is not what was put: its sha256 differs", hint=_RESTORE)


_RESTORE = "the lake's storage is damaged: restore it from a copy"
