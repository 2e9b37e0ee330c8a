"""The figures at a size: predictions by the million, on lakes that are built once (see size_lake.py)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import size_lake
from report import Figure, median, percentile, shown

HERE = Path(__file__).resolve().parent


def copied(lake: Path, copy: Path) -> None:
    """Copy a lake, its large objects by hard links: they are never written to."""

    def link(source: str, target: str) -> str:
        if "/objects/" in source:
            os.link(source, target)
        else:
            shutil.copyfile(source, target)
        return target

    shutil.copytree(lake, copy, copy_function=link, ignore=shutil.ignore_patterns("spill", "rows"))


def measured(folder: Path, rows: int) -> dict[str, Any]:
    """Measure one lake in a process of its own."""
    lake = size_lake.build(rows)
    copy = lake.with_name(f"{lake.name}.copy")
    shutil.rmtree(copy, ignore_errors=True)
    try:
        copied(lake, copy)
        command = [sys.executable, str(HERE / "work_size.py"), str(lake), str(copy), str(rows)]
        ran = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def measure(folder: Path, sizes: tuple[int, ...] = size_lake.SIZES) -> Iterator[Figure]:
    """Measure lakes of these sizes; the first is what the others are compared with."""
    folder.mkdir(parents=True, exist_ok=True)
    first: dict[str, Any] = {}
    for rows in sizes:
        found = measured(folder, rows)
        first = first or found
        at = f"{rows:,} predictions"
        rate = size_lake.DAY_ROWS / median(found["logged"])
        yield Figure(
            f"{at}: log a million more, rows a second", "≥ 500,000/s", f"{rate:,.0f}/s", passed=rate >= 500_000
        )
        lookup = median(found["lookups"])
        ratio = lookup / median(first["lookups"])
        yield Figure(
            f"{at}: look one up by ID, warm: p50", "< 20 ms", shown(lookup), "", f"{ratio:.2f}×", lookup < 0.02
        )
        traced = median(found["traces"])
        ratio = traced / median(first["traces"])
        yield Figure(
            f"{at}: `trace` of one by ID, warm: p50",
            "< 50 ms; ≤ 1.5× that at 1 million",
            shown(traced),
            "",
            f"{ratio:.2f}×",
            traced < 0.05 and ratio <= 1.5,
        )
        cold = median(found["cold"])
        yield Figure(f"{at}: `headwater trace` as a command", "< 700 ms", shown(cold), passed=cold < 0.7)
        yield Figure(f"{at}: one by ID from `prediction_lineage`, warm", "", shown(median(found["asked"])))
        impact = median(found["impacts"])
        yield Figure(f"{at}: `impact` of a dataset, with counts", "< 2 s", shown(impact), passed=impact < 2)
        yield Figure(f"{at}: by the caller's own ID", "", shown(median(found["external"])))
        sliced = median(found["sliced"])
        yield Figure(f"{at}: one day's live accuracy by slice (a million)", "< 1 s", shown(sliced), passed=sliced < 1)
        yield Figure(f"{at}: the same from the view `predictions`", "", shown(median(found["plain"])))
        yield Figure(f"{at}: one day of `live_metrics`", "", shown(median(found["day"])))
        yield Figure(f"{at}: count them through the view", "", shown(median(found["count"])))
        calls = found["calls"]
        mean = sum(calls) / len(calls)
        yield Figure(f"{at}: a call of the logger, 10 features: mean", "< 20 µs", shown(mean), passed=mean < 20e-6)
        yield Figure(f"{at}: the same: p50, p99", "", f"{shown(median(calls))}, {shown(percentile(calls, 99))}")
        memory = found["memory"]
        yield Figure(f"{at}: most memory of all that", "< 2 GB", f"{memory / 1e9:.2f} GB", passed=memory < 2e9)
