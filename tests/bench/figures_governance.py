"""The figures of governance: promotion, rollback and routing, in registries of 1,000 and of 100,000 versions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import branch_lake
from report import Figure, median, percentile, shown

HERE = Path(__file__).resolve().parent


def measure(folder: Path) -> Iterator[Figure]:
    """Measure the embedded lake at both sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    few, many = (_work(folder, versions) for versions in (branch_lake.FEW, branch_lake.MANY))
    at = f"{branch_lake.MANY:,} versions"

    def figure(name: str, label: str, limit: float | None = None) -> Figure:
        took = median(many[name])
        target = "" if limit is None else f"< {shown(limit)}"
        passed = None if limit is None else took < limit
        return Figure(f"{at}: {label}", target, shown(took), "", f"{took / median(few[name]):.2f}×", passed)

    yield figure("rollback", "roll back: p50", 0.020)
    yield Figure(f"{at}: the same: p95", "", shown(percentile(many["rollback"], 95)))
    yield figure("promote", "promote to production, where no gates are: p50")
    yield figure("canary", "begin with a canary: p50")
    yield figure("route", "route a request: p50", 10e-6)
    yield Figure(f"{at}: the same: p99", "", shown(percentile(many["route"], 99)))
    yield figure("resolve", "resolve `@champion`, warm: p50", 100e-6)
    yield figure("history", "the last 20 entries of a model's history: p50")


def _work(folder: Path, versions: int) -> dict[str, Any]:
    """Measure a copy of one lake in a process of its own."""
    copy = folder / f"governed-{versions}"
    shutil.copytree(branch_lake.build(versions), copy)
    try:
        command = [sys.executable, str(HERE / "work_governance.py"), str(copy)]
        ran = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, Any] = json.loads(ran.stdout)
        return found
    finally:
        shutil.rmtree(copy, ignore_errors=True)
