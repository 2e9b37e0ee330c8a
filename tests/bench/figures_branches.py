"""The figures of branches: made, read, compared and merged, in registries of 1,000 and of 100,000 versions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import branch_lake
from figures_lakefs import Server
from report import Figure, median, percentile, shown

import headwater

HERE = Path(__file__).resolve().parent
SIZES = (branch_lake.FEW, branch_lake.MANY)


def measure(folder: Path) -> Iterator[Figure]:
    """Measure the embedded lake at both sizes, then a server's."""
    folder.mkdir(parents=True, exist_ok=True)
    few = _embedded(folder, branch_lake.FEW)
    many = _embedded(folder, branch_lake.MANY)
    yield from _figures(few, many, branch_lake.MANY, "", created=0.010, merged=0.5)
    with Server(folder / "server") as server:
        environment = {**server.environment, "XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder)}
        os.environ.update(environment)
        found = []
        for versions in SIZES:
            url = server.lake(f"branches-{versions}")
            with headwater.create(url, storage_namespace=f"local://branches-{versions}", actor="builder") as registry:
                branch_lake.fill(registry, versions, at_once=2000, bare=True)
            found.append(_work(folder, url, environment))
        yield from _figures(*found, branch_lake.MANY, "lakeFS: ", created=0.050, merged=3.0)


def _embedded(folder: Path, versions: int) -> dict[str, Any]:
    lake = branch_lake.build(versions)
    copy = folder / f"lake-{versions}"
    shutil.copytree(lake, copy)
    try:
        return _work(folder, str(copy), {})
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _work(folder: Path, lake: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Measure one lake in a process of its own."""
    command = [sys.executable, str(HERE / "work_branches.py"), lake]
    env = {**os.environ, **environment}
    ran = subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _figures(
    few: Mapping[str, Any], many: Mapping[str, Any], size: int, where: str, *, created: float, merged: float
) -> Iterator[Figure]:
    at = f"{where}{size:,} versions"

    def ratio(name: str) -> float:
        return median(many[name]) / median(few[name])

    def figure(name: str, label: str, limit: float | None = None, most: float | None = None) -> Figure:
        took, compared = median(many[name]), ratio(name)
        target = "" if limit is None else f"< {shown(limit)}"
        target += "" if most is None else f"; ≤ {most:g}× that of 1,000"
        passed = None if limit is None else took < limit and (most is None or compared <= most)
        return Figure(f"{at}: {label}", target, shown(took), "", f"{compared:.2f}×", passed)

    yield figure("create", "make a branch: p50", created)
    yield figure("list", f"list {many['branches']} branches, with what is in them")
    yield figure("read", "the first read of a new branch: p50", None if where else 0.150)
    yield figure("moved", "the first read of a branch from which main has moved on: p50")
    yield figure("write", "the first registration on a new branch, which nobody has read: p50")
    yield figure("next", "the next one: p50")
    yield figure("past", "the first read at `main~5`, `main~6`, …: p50")
    yield figure("diff", "`diff` of a branch with 20 changes: p50", 0.2 if not where else None)
    yield figure("merge", "merge a branch of 100 changes: p50", merged, 1.5)
    crowd = many["crowd"]
    whole = crowd["landed"] == crowd["expected"]
    yield Figure(
        f"{at}: 8 writers register on main while 4 branches merge into it",
        "everything lands",
        f"{crowd['landed']} of {crowd['expected']} in {shown(crowd['seconds'])}",
        passed=whole,
    )
    yield Figure(
        f"{at}: the same: a registration p50, p95; the longest merge",
        "",
        f"{shown(median(crowd['registered']))}, {shown(percentile(crowd['registered'], 95))};"
        f" {shown(max(crowd['merged']))}",
    )
    if "collected" in many:
        yield Figure(f"{at}: `gc --dry-run`, every tree of the history read", "", shown(many["collected"]))
