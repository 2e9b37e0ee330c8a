"""Time-ordered identifiers and the clock they are cut from; knows nothing of what they name."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime

__all__ = ["from_micros", "micros_of", "new_id", "now_micros", "timestamp"]

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
