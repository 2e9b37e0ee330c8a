"""The figure on a large file: registering it beside copying it and taking its sha256 by hand, on the same disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from report import Figure, median, shown
from worker import Worker

_CHUNK = 1 << 24


def write_file(path: Path, size: int) -> None:
    """Write a file of bytes that neither compress nor repeat within it, and wait until they are on the disk."""
    with path.open("wb") as stream:
        written = 0
        while written < size:
            written += stream.write(os.urandom(min(_CHUNK, size - written)))
        os.fsync(stream.fileno())


def change(path: Path, turn: int) -> None:
    """Make the file another one, so that it is stored anew."""
    with path.open("r+b") as stream:
        stream.write(turn.to_bytes(8, "big") + os.urandom(24))
        os.fsync(stream.fileno())


def by_hand(source: Path, copy: Path, *, tool: bool) -> float:
    """Copy a file with `cp`, then take the copy's sha256, and return the seconds; nothing waits for the disk.

    Args:
        source: The file.
        copy: Where the copy goes; it is deleted again.
        tool: Take the digest with `sha256sum`, rather than with OpenSSL's routine, which uses the processor's own.
    """
    began = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", source, copy], check=True)
    if tool:
        subprocess.run(["sha256sum", copy], check=True, stdout=subprocess.DEVNULL)
    else:
        with copy.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")
    took = time.perf_counter() - began
    copy.unlink()
    os.sync()
    return took


def registering(folder: Path, size: int, rounds: int) -> Iterator[Figure]:
    """Register a large file by turns with copying it by hand; the caches of the disk start alike, empty of writes."""
    folder.mkdir(parents=True, exist_ok=True)
    need = 3.5 * size
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < need:
        raise SystemExit(f"bench: {folder} has no room for {need / 2**30:.0f} GiB; set HEADWATER_BENCH_LARGE (bytes)")
    source, copy = folder / "large.bin", folder / "copy.bin"
    write_file(source, size)
    ours, fast, usual = [], [], []
    try:
        with Worker(sys.executable, "work_headwater.py", folder / "worker") as worker:
            for turn in range(rounds):
                change(source, turn)
                os.sync()
                lake = str(folder / f"lake-{turn}")
                worker.call("create", lake=lake)
                ours += worker.call("register", lake=lake, model="large", path=str(source), times=1, seed=turn)
                worker.call("close", lake=lake)
                shutil.rmtree(lake)
                os.sync()
                fast.append(by_hand(source, copy, tool=False))
                usual.append(by_hand(source, copy, tool=True))
    finally:
        source.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)
    mine, other, slower = median(ours), median(fast), median(usual)
    gb = size / 1e9
    yield Figure(
        f"register a file of {gb:.3g} GB, durably; by hand `cp` and OpenSSL's sha256",
        "≥ 0.7× the speed by hand",
        f"{shown(mine)} ({gb / mine:.2f} GB/s)",
        f"by hand: {shown(other)} ({gb / other:.2f} GB/s)",
        f"{other / mine:.2f}×",
        other >= 0.7 * mine,
    )
    yield Figure(
        "the same; by hand `cp` and `sha256sum`", "", shown(mine), f"by hand: {shown(slower)}", f"{slower / mine:.2f}×"
    )
