"""Segments of a prediction spool: append-only local files of checksummed frames; knows no lake and no transaction.

A segment is a file `<UUIDv7>.seg` that one process writes and holds an exclusive `flock` of; whoever gets the lock may
take what a dead process left. A frame is its length and CRC-32 (four bytes each, little-endian), a byte that says what
it is, and its body. The first frame says what the segment belongs to. A frame that is not whole ends the segment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from zlib import crc32

from headwater.errors import InvalidInputError, LakeError
from headwater.ids import new_id

__all__ = ["Contents", "Segment", "leftovers", "outcome_frame", "prediction_frame"]

_SUFFIX = ".seg"
_UNFINISHED = ".new"
_HEAD = struct.Struct("<IIB")
_ABOUT, _PREDICTION, _OUTCOME = 0, 1, 2
_LONGEST = 64 << 20

_FIXED = struct.Struct("<16sqddB5i")
"""Of a prediction: ID, micros, score, latency, which of these two there are, and the lengths of five texts."""

_OUTCOME_FIXED = struct.Struct("<16sqi")


def prediction_frame(
    octets: bytes,
    micros: int,
    score: float | None,
    latency_ms: float | None,
    texts: tuple[bytes | None, bytes | None, bytes | None, bytes | None, bytes | None],
) -> bytes:
    """Return the frame of a prediction.

    Args:
        octets: The ID, 16 bytes.
        micros: When it was made.
        score: As in the table.
        latency_ms: As in the table.
        texts: External ID, output, input, dataset ID and row key, in UTF-8.

    Raises:
        InvalidInputError: It is longer than what is read back.
    """
    a, b, c, d, e = texts
    _check_length("prediction", _FIXED.size + sum(len(each) for each in texts if each))
    body = _FIXED.pack(
        octets,
        micros,
        0.0 if score is None else score,
        0.0 if latency_ms is None else latency_ms,
        (score is not None) | ((latency_ms is not None) << 1),
        -1 if a is None else len(a),
        -1 if b is None else len(b),
        -1 if c is None else len(c),
        -1 if d is None else len(d),
        -1 if e is None else len(e),
    ) + b"".join([each for each in texts if each])
    return _HEAD.pack(len(body), crc32(body, _PREDICTION), _PREDICTION) + body


def outcome_frame(octets: bytes, micros: int, label: bytes) -> bytes:
    """Return the frame of an outcome: the prediction's ID, when it was observed, and what was true.

    Raises:
        InvalidInputError: It is longer than what is read back.
    """
    _check_length("outcome", _OUTCOME_FIXED.size + len(label))
    body = _OUTCOME_FIXED.pack(octets, micros, len(label)) + label
    return _HEAD.pack(len(body), crc32(body, _OUTCOME), _OUTCOME) + body


def _check_length(what: str, length: int) -> None:
    if length > _LONGEST:
        raise InvalidInputError(
            f"the {what} can't be kept: it takes {length:,} bytes, and the most is {_LONGEST:,}",
            hint="log a dataset and a row key, or the place where the value is kept",
        )


@dataclass(slots=True)
class Contents:
    """What a segment holds, column by column, and the digest of the part of the file that is whole."""

    about: Mapping[str, str]
    digest: str = ""
    damaged: bool = False
    """Whether it holds what no crash leaves: a frame that is there in full and can't be read, or that none wrote."""
    octets: list[bytes] = field(default_factory=list)
    micros: list[int] = field(default_factory=list)
    score: list[float | None] = field(default_factory=list)
    latency_ms: list[float | None] = field(default_factory=list)
    texts: tuple[list[bytes | None], ...] = field(default_factory=lambda: ([], [], [], [], []))
    outcomes: list[tuple[bytes, int, bytes]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.octets) + len(self.outcomes)


class Segment:
    """A segment that this process holds the lock of.

    Attributes:
        path: Where it is.
        rows: How many predictions and outcomes this process has written to it.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.rows = 0
        self._descriptor = descriptor
        self._size = self._durable = os.fstat(descriptor).st_size

    @classmethod
    def create(cls, folder: Path, about: Mapping[str, str]) -> Segment:
        """Make a segment in a folder that is there; it can be seen once it is locked and says what it belongs to.

        Raises:
            LakeError: The folder can't be written.
        """
        body = json.dumps(about).encode()
        first = _HEAD.pack(len(body), crc32(body, _ABOUT), _ABOUT) + body
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while True:
                path = folder / f"{new_id()}{_SUFFIX}"
                # Until it has its name nobody takes it for a segment; whoever clears away may take it before the lock.
                with contextlib.suppress(BlockingIOError, FileNotFoundError):
                    return cls(path, _create(path, first))
        except OSError as error:
            raise LakeError(f"the spool {folder} can't be written: {error.strerror}", hint=_hint(error)) from error

    def append(self, frame: bytes) -> None:
        """Write a frame; from then on it survives the death of this process, and after `sync` that of the machine.

        Raises:
            LakeError: It can't be written, and then nothing of it is.
        """
        try:
            written = os.write(self._descriptor, frame)
            if written != len(frame):
                os.ftruncate(self._descriptor, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise LakeError(
                f"the spool {self.path.parent} can't be written: {error.strerror}", hint=_hint(error)
            ) from error
        self._size += written
        self.rows += 1

    def sync(self) -> None:
        """Wait until the disk has all of it."""
        size = self._size  # what another thread appends from here on is for the next time
        if self._durable < size:
            os.fsync(self._descriptor)
            self._durable = max(self._durable, size)

    def read(self) -> Contents:
        """Return what it holds."""
        body = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        return _parse(body)

    def delete(self) -> None:
        """Delete it: all that it holds is in the lake."""
        self.path.unlink(missing_ok=True)
        self.release()

    def keep_damaged(self) -> Path:
        """Lay it aside under another name, for a person to see, and return where it is."""
        aside = self.path.with_suffix(".damaged")
        try:
            self.path.rename(aside)
        except OSError:
            aside = self.path
        self.release()
        return aside

    def release(self) -> None:
        """Let go of it, and leave it to whoever comes next."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def leftovers(folder: Path) -> Iterator[Segment]:
    """Yield the segments in a folder that no process holds, oldest first; now this one does."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return
    for name in names:
        path = folder / name
        if path.suffix not in (_SUFFIX, _UNFINISHED):
            continue
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have taken it in between the two calls.
            there = os.stat(path).st_ino == os.fstat(descriptor).st_ino
        except OSError:
            there = False
        if there and path.suffix == _SUFFIX:
            yield Segment(path, descriptor)
        else:
            if there:
                path.unlink(missing_ok=True)
            os.close(descriptor)


def _create(path: Path, first: bytes) -> int:
    """Make a locked file that holds its first frame, and return its descriptor."""
    hidden = path.with_suffix(_UNFINISHED)
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.write(descriptor, first) != len(first):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
        hidden.rename(path)
        _sync(path.parent)
    except BaseException:
        os.close(descriptor)
        hidden.unlink(missing_ok=True)
        raise
    return descriptor


def _parse(body: bytes) -> Contents:
    found = Contents({})
    at, end = 0, len(body)
    while at + _HEAD.size <= end:
        length, checksum, kind = _HEAD.unpack_from(body, at)
        start = at + _HEAD.size
        if length > _LONGEST:
            found.damaged = True
            break
        if start + length > end:
            break
        part = body[start : start + length]
        if crc32(part, kind) != checksum:
            # Zeros are what some file systems leave after a power cut.
            found.damaged = any(body[at:])
            break
        if kind == _PREDICTION:
            _add_prediction(found, part)
        elif kind == _OUTCOME:
            octets, micros, _ = _OUTCOME_FIXED.unpack_from(part)
            found.outcomes.append((octets, micros, part[_OUTCOME_FIXED.size :]))
        elif kind == _ABOUT and at == 0:
            found.about = json.loads(part)
        elif part or kind != _ABOUT:
            found.damaged = True
        at = start + length
    found.digest = sha256(memoryview(body)[:at]).hexdigest()
    return found


def _add_prediction(found: Contents, part: bytes) -> None:
    octets, micros, score, latency, there, *lengths = _FIXED.unpack_from(part)
    found.octets.append(octets)
    found.micros.append(micros)
    found.score.append(score if there & 1 else None)
    found.latency_ms.append(latency if there & 2 else None)
    at = _FIXED.size
    for column, length in zip(found.texts, lengths, strict=True):
        if length < 0:
            column.append(None)
        else:
            column.append(part[at : at + length])
            at += length


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hint(error: OSError) -> str:
    return "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the folder's permissions"
