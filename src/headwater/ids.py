"""Time-ordered identifiers and the clock they are cut from; knows nothing of what they name."""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["from_micros", "ids_of_rows", "is_id", "micros_of", "new_id", "now_micros", "texts_of_ids", "timestamp"]

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7) as 36 characters.

    The 12 bits after the milliseconds hold the fraction of the millisecond (method 3 of section 6.2), kept
    increasing within a process, so IDs that one process cuts sort in the order in which they were cut.
    """
    global _last
    with _lock:
        nanos = time.time_ns()
        stamp = (nanos // 1_000_000 << 12) | ((nanos % 1_000_000) * 4096 // 1_000_000)
        stamp = max(stamp, _last + 1)
        _last = stamp
    noise = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    text = f"{(stamp >> 12) & 0xFFFF_FFFF_FFFF:012x}7{stamp & 0xFFF:03x}{0x8000_0000_0000_0000 | noise:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def is_id(text: str) -> bool:
    """Return whether a text is a UUIDv7 as `new_id` writes it."""
    return _ID.fullmatch(text) is not None


def ids_of_rows(
    millis: np.ndarray[Any, np.dtype[np.int64]], rows: np.ndarray[Any, np.dtype[np.int64]], seed: str
) -> Any:
    """Return UUIDv7s for many rows as Arrow text: the same for the same arguments, whoever asks.

    After the milliseconds comes a counter of 36 bits (method 1 of section 6.2 of RFC 9562) that begins anywhere, as the
    seed has it, and goes up with the row; the other 38 bits are noise of seed and row. So IDs are in the order of time
    and row, and IDs of two seeds hardly ever meet, also where all their rows have the same time.

    Args:
        millis: Milliseconds since 1970-01-01 UTC, from 0.
        rows: A number for each row, from 0, below 2^35, no two the same.
        seed: Any text.
    """
    import numpy as np

    digest = sha256(seed.encode()).digest()
    counter = rows.astype(np.uint64) + np.uint64(int.from_bytes(digest[:5], "big") >> 5)
    # splitmix64 of the row: https://prng.di.unimi.it/splitmix64.c
    noise = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    noise += np.uint64(int.from_bytes(digest[8:16], "big"))
    noise = (noise ^ (noise >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    noise = (noise ^ (noise >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    noise ^= noise >> np.uint64(31)
    parts = np.empty((len(rows), 2), ">u8")
    parts[:, 0] = (millis.astype(np.uint64) << np.uint64(16)) | np.uint64(0x7000) | (counter >> np.uint64(24))
    parts[:, 1] = np.uint64(1 << 63) | ((counter & np.uint64(0xFFFFFF)) << np.uint64(38)) | (noise >> np.uint64(26))
    return texts_of_ids(parts.view(np.uint8).reshape(-1, 16))


def texts_of_ids(octets: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
    """Return UUIDs of 16 bytes each, one a row, as an Arrow array of text."""
    import numpy as np
    import pyarrow as pa

    count = len(octets)
    pairs = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)
    digits = pairs[octets].view(np.uint8)
    text = np.full((count, 36), ord("-"), np.uint8)
    for start, end, shift in ((0, 8, 0), (8, 12, 1), (12, 16, 2), (16, 20, 3), (20, 32, 4)):
        text[:, start + shift : end + shift] = digits[:, start:end]
    offsets = np.arange(0, 36 * (count + 1), 36, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(text)])


def micros_of(uuid: str) -> int:
    """Return when a UUIDv7 was cut, in microseconds since 1970-01-01 UTC, to the millisecond."""
    return int(uuid[:8] + uuid[9:13], 16) * 1000


def now_micros() -> int:
    """Return the current time in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


def from_micros(micros: int) -> datetime:
    """Return an aware UTC datetime for microseconds since 1970-01-01 UTC, exactly."""
    seconds, rest = divmod(micros, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def timestamp(micros: int) -> str:
    """Return microseconds since 1970-01-01 UTC as ISO 8601 with six decimals and a Z."""
    return from_micros(micros).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
