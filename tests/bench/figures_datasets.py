"""The figures on datasets: adding a table, then a corrected copy of it, each as a process, and the memory it takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from report import Figure, shown

_FLIGHTS = 336_776
_MANY = 10_000_000
_MEMORY = 4 << 30


def write_table(path: Path, rows: int, corrected: str) -> None:
    """Write a table of 19 columns, as wide as the flights are; those rows whose number `corrected` says are others."""
    import duckdb

    numbers = ", ".join(f"(hash(i + {n}) % {1000 + n})::INTEGER AS n{n}" for n in range(10))
    texts = ", ".join(f"'N' || (hash(i + {n}) % 4000) AS s{n}" for n in range(5))
    times = "make_timestamp((1357000000000000 + i * 60000000)::BIGINT) AS hour"
    with duckdb.connect(config={"memory_limit": "2GiB", "threads": 2}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(
            f"COPY (SELECT i AS id, {numbers}, {texts}, {times}, (hash(i) % 1000) / 10.0 AS share,"
            f" CASE WHEN {corrected} THEN 'corrected' ELSE 'AB' || (hash(i) % 30) END AS carrier"
            f" FROM range({rows}) t(i)) TO '{path}' (FORMAT parquet)"
        )


def add(lake: Path, table: Path, *options: str) -> tuple[float, int]:
    """Run `headwater data add` and return the seconds that it took and the most memory that it held, in bytes."""
    command = [sys.executable, "-m", "headwater", "--lake", str(lake), "data", "add", "table", str(table), *options]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"bench: {' '.join(command)} failed")
    return took, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def adding(folder: Path) -> Iterator[Figure]:
    """Add a table under a key, then a copy in which one row of a thousand is corrected."""
    for rows, most, what in ((_FLIGHTS, 3, "a table as large as the flights"), (_MANY, 60, "10 million rows")):
        place = folder / str(rows)
        place.mkdir(parents=True)
        lake, before, after = (place / name for name in ("lake", "before.parquet", "after.parquet"))
        write_table(before, rows, "false")
        write_table(after, rows, "i % 1000 = 0")
        command = [sys.executable, "-m", "headwater", "init", str(lake)]
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
        first, held = add(lake, before, "--key", "id")
        second, held_then = add(lake, after)
        peak = max(held, held_then)
        target = f"≤ {most} s, in 4 GiB"
        memory = f"{peak / 2**30:.2f} GiB at most"
        yield Figure(f"data add: {what}, profiled", "", f"{shown(first)}, {memory}")
        yield Figure(
            "the same: a corrected copy against it",
            target,
            f"{shown(second)}, {memory}",
            passed=second <= most and peak <= _MEMORY,
        )
        shutil.rmtree(place)
