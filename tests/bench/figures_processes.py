"""Figures on whole processes: how long the command line takes from start to end, on an embedded lake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures_embedded import ALIAS, MODEL
from report import Figure, median, shown, times

HEADWATER = Path(sys.executable).with_name("headwater")


def environment(folder: Path) -> dict[str, str]:
    """What the processes see: nothing of Headwater's, and Python may keep what it compiled, as it does by default."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWATER_", "PYTHON"))}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder / "pycache")}


def seconds(command: Sequence[Path | str], env: Mapping[str, str], folder: Path, expected: str) -> float:
    """Run a process and return how long it took, from before it is started until it has ended."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True)
    took = time.perf_counter() - began
    assert done.returncode == 0, done.stderr.decode()
    assert expected in done.stdout.decode(), done.stdout
    return took


def helping(folder: Path, mlflow: Path, rounds: int) -> list[Figure]:
    """`--help` of either, by turns."""
    env = environment(folder)
    ours, theirs = [], []
    for turn in range(rounds + 1):
        mine = [seconds([HEADWATER, "--help"], env, folder, "register") for _ in range(3)]
        other = seconds([mlflow.with_name("mlflow"), "--help"], env, folder, "models")
        if turn > 0:  # at the first, Python compiles
            ours += mine
            theirs.append(other)
    mine, other = median(ours), median(theirs)
    passed = mine < 0.150 and other >= 10 * mine
    return [
        Figure("`--help`, a process", "< 150 ms, MLflow ≥ 10×", shown(mine), shown(other), times(other / mine), passed)
    ]


def resolving(folder: Path, lake: str, versions: int, rounds: int) -> list[Figure]:
    """`headwater resolve`, with the lake's cache as its last writer left it, and with its folder deleted."""
    env = environment(folder)
    command = [HEADWATER, "--lake", lake, "resolve", f"{MODEL}@{ALIAS}"]
    cache = Path(lake) / "cache"
    assert cache.is_dir()
    warm = [seconds(command, env, folder, f"{MODEL}/") for _ in range(2 * rounds)]
    cold, second = [], []
    for _ in range(rounds):
        shutil.rmtree(cache, ignore_errors=True)
        cold.append(seconds(command, env, folder, f"{MODEL}/"))
        second.append(seconds(command, env, folder, f"{MODEL}/"))
    label = f"`headwater resolve`, a process, {versions:,} versions"
    return [
        Figure(f"{label}: p50", "≤ 150 ms", shown(median(warm)), passed=median(warm) <= 0.150),
        Figure(f"{label}, cache deleted: p50", "≤ 400 ms", shown(median(cold)), passed=median(cold) <= 0.400),
        Figure(f"{label}, the next one, which makes the cache anew: p50", "", shown(median(second))),
    ]
