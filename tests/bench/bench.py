"""Measure Headwater beside MLflow, on this machine, in one run, by turns; print the table. `make bench` runs it.

python tests/bench/bench.py [--only PART]... [--work FOLDER] [--write]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import figures_audit as audit
import figures_branches as branches
import figures_datasets as datasets
import figures_embedded as embedded
import figures_governance as governance
import figures_lakefs as lakefs
import figures_large as large
import figures_processes as processes
import figures_runs as runs
import figures_size as size
import mlflow_env
import report
from report import Figure
from worker import Worker

HERE = Path(__file__).resolve().parent
PARTS = ("help", "embedded", "many", "runs", "large", "datasets", "size", "branches", "governance", "lakefs")


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """A folder to work in, deleted at the end unless it was given."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    base = mlflow_env.folder().parent
    base.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def measure(parts: list[str], folder: Path, many: int) -> Iterator[Figure]:
    """Measure what is asked for; each figure comes as soon as it is known."""
    mlflow = mlflow_env.ensure()
    if "help" in parts:
        yield from processes.helping(folder, mlflow, 5)
    if {"embedded", "many"} & set(parts):
        with (
            Worker(sys.executable, "work_headwater.py", folder / "ours") as ours,
            Worker(mlflow, "work_mlflow.py", folder / "theirs") as theirs,
        ):
            few = embedded.prepare(folder / "few", ours, theirs, embedded.FEW)
            if "embedded" in parts:
                yield from embedded.moving(few, 20)
                yield from embedded.resolving(few, 20)
                yield from embedded.registering(few, 20)
            if "many" in parts:
                pair = embedded.prepare(folder / "many", ours, theirs, many)
                _say(f"registering {many:,} versions")
                embedded.fill(pair)
                few = embedded.prepare(folder / "again", ours, theirs, embedded.FEW)
                yield from embedded.moving_many(few, pair, 20)
                yield from embedded.resolving(pair, 10)
                yield from embedded.listing(pair, 5)
                yield from processes.resolving(folder, pair.our_lake, many, 10)
                yield from embedded.registering_many(pair, 5)
    if "runs" in parts:
        with (
            Worker(sys.executable, "work_headwater.py", folder / "ours") as ours,
            Worker(mlflow, "work_mlflow.py", folder / "theirs") as theirs,
        ):
            yield from runs.measure(folder / "runs", ours, theirs, 5)
    if "large" in parts:
        large_bytes = int(os.environ.get("HEADWATER_BENCH_LARGE", 5_000_000_000))
        yield from large.registering(folder / "large", large_bytes, 3)
    if "datasets" in parts:
        yield from datasets.adding(folder / "datasets")
    if "size" in parts:
        yield from size.measure(folder / "size")
    if "branches" in parts:
        yield from branches.measure(folder / "branches")
    if "governance" in parts:
        yield from governance.measure(folder / "governance")
        yield from audit.measure(folder / "audit")
    if "lakefs" in parts:
        yield from lakefs.measure(folder / "lakefs", rounds=100, each=20)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Measure Headwater beside MLflow, on this machine, in one run.")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part of it; may be repeated")
    parser.add_argument("--many", type=int, default=10_000, help="how many versions are many (default: 10000)")
    parser.add_argument("--work", type=Path, help="a folder to work in, which is kept")
    parser.add_argument("--write", action="store_true", help="put the table into tests/bench/README.md")
    arguments = parser.parse_args()
    facts = report.machine(mlflow_env.wanted())
    figures = []
    with _folder(arguments.work) as folder:
        for figure in measure(arguments.only or list(PARTS), folder, arguments.many):
            figures.append(figure)
            _say(" | ".join(cell for cell in figure.cells if cell))
    print(f"\n{facts}\n\n{report.terminal(figures)}")
    if arguments.write:
        report.write(HERE / "README.md", figures, facts)
    return 0 if all(figure.passed is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
