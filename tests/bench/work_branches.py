"""What is measured of branches on one lake, in a process of its own; prints JSON.

python tests/bench/work_branches.py LAKE
python tests/bench/work_branches.py LAKE register|merge NAME COUNT: one of many, which waits for a line on its input
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import headwater
from headwater.registry import Registry

ROUNDS = 7
WRITERS, REGISTRATIONS = 8, 5
MERGERS = 4


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def changed(branch: Registry, artifact: Path, count: int, seed: int) -> None:
    """Make so many changes on a branch: every fifth a new version, the others aliases, tags and descriptions."""
    for number in range(count):
        model = f"model-{(seed * 31 + number) % 100:03}"
        if number % 5 == 0:
            branch.register(model, artifact, metrics={"auc": 0.5})
        elif number % 5 == 1:
            branch.set_alias(model, f"candidate-{seed}", 1)
        elif number % 5 == 2:
            branch.describe(f"{model}/1", f"seen by {seed} at {number}")
        else:
            branch.set_alias(model, f"candidate-{seed}-{number}", 2)


def measured(registry: Registry, artifact: Path) -> dict[str, Any]:
    """Measure everything, alone but for the last."""
    registry.status()
    registry.register("model-000", artifact)
    registry.create_branch("warm").register("model-000", artifact)
    found: dict[str, Any] = {}
    found["create"] = [timed(lambda n=n: registry.create_branch(f"made-{n}")) for n in range(20)]  # type: ignore[misc]
    found["read"] = [timed(registry.branch(f"made-{n}").status) for n in range(ROUNDS)]
    for number in range(ROUNDS):
        registry.create_branch(f"old-{number}")
        registry.set_alias(f"model-{number:03}", "moved-on", 1)
    found["moved"] = [timed(registry.branch(f"old-{n}").status) for n in range(ROUNDS)]
    found["past"] = [timed(registry.at(f"main~{n + 5}").status) for n in range(ROUNDS)]
    fresh = [registry.create_branch(f"fresh-{n}") for n in range(ROUNDS)]
    found["write"] = [timed(lambda each=each: each.register("model-001", artifact)) for each in fresh]  # type: ignore[misc]
    found["next"] = [timed(lambda each=each: each.register("model-001", artifact)) for each in fresh]  # type: ignore[misc]
    changed(fresh[0], artifact, 18, 1000)
    found["diff"] = [timed(lambda: str(registry.diff("main", fresh[0].ref))) for _ in range(ROUNDS)]
    merges = []
    for number in range(ROUNDS):
        branch = registry.create_branch(f"merged-{number}")
        changed(branch, artifact, 100, number)
        registry.set_alias("model-099", f"meanwhile-{number}", 1)
        merges.append(timed(lambda name=branch.ref: registry.merge(name)))  # type: ignore[misc]
    found["merge"] = merges[1:]  # at the first, things are imported
    found["branches"] = len(registry.branches())
    found["list"] = [timed(registry.branch_list) for _ in range(3)]
    found["crowd"] = crowd(registry, artifact)
    if "://" not in registry.url:
        found["collected"] = timed(lambda: registry.gc(dry_run=True))
    return found


def crowd(registry: Registry, artifact: Path) -> dict[str, Any]:
    """Let eight processes register on main, and four merge a branch of twenty changes each into it."""
    for number in range(MERGERS):
        changed(registry.create_branch(f"crowd-{number}"), artifact, 20, 2000 + number)
    jobs = [("register", f"model-{n:03}", REGISTRATIONS) for n in range(WRITERS)]
    jobs += [("merge", f"crowd-{n}", 1) for n in range(MERGERS)]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, registry.url, kind, name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind, name, count in jobs
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    before = registry.status()["versions"]
    began = time.perf_counter()
    answers = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate()
        answers.append(json.loads(out))
    seconds = time.perf_counter() - began
    expected = WRITERS * REGISTRATIONS + MERGERS * 20 // 5
    return {
        "seconds": seconds,
        "expected": expected,
        "landed": registry.status()["versions"] - before,
        "registered": [each for answer in answers[:WRITERS] for each in answer],
        "merged": [each for answer in answers[WRITERS:] for each in answer],
    }


def one_of_many(registry: Registry, kind: str, name: str, count: int, artifact: Path) -> list[float]:
    """Register so many versions of a model, or merge a branch; return the seconds that each took."""
    # What a process does first is import: that is measured elsewhere.
    if kind == "merge":
        registry.merge(name, dry_run=True)
    else:
        registry.register(name, artifact)
    print("ready", flush=True)
    sys.stdin.readline()
    if kind == "merge":
        return [timed(lambda: registry.merge(name))]
    return [timed(lambda: registry.register(name, artifact)) for _ in range(count)]


def main() -> None:
    """Do what the command line says."""
    lake, *job = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, headwater.open(lake, actor="bench") as registry:
        artifact = Path(folder) / "model.bin"
        artifact.write_bytes(b"a new artifact")
        if job:
            print(json.dumps(one_of_many(registry, job[0], job[1], int(job[2]), artifact)))
        else:
            print(json.dumps(measured(registry, artifact)))


if __name__ == "__main__":
    main()
