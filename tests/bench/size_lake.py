"""Lakes of a size: 10,000 versions, 1,000 datasets, 100,000 runs, and predictions by the million; built once and kept.

python tests/bench/size_lake.py ROWS builds one, or finds it, and prints where it is.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow_env
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import headwater
from headwater.ids import new_id
from headwater.registry import Registry
from headwater.tables import folder
from headwater.transaction import Transaction

LAYOUT = 1
"""Of what is built; a lake of another layout is built anew."""

SIZES = (1_000_000, 100_000_000)
DAY_ROWS = 1_000_000
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
MODELS, VERSIONS = 100, 100
DATASETS, DATASET_VERSIONS = 100, 10
RUNS = 100_000
RUNS_AT_ONCE = 10_000
DEPLOYED_DAYS = 5
"""Days that one version serves before the next one does; its canary gets a twentieth of the predictions."""


def place(rows: int) -> Path:
    """Return where the lake with so many predictions is kept: beside MLflow's environment, outside of the tree."""
    return mlflow_env.folder().parent / f"size-lake-{LAYOUT}-{rows}"


def build(rows: int) -> Path:
    """Return the folder of the lake with so many predictions, which is built if it is not there."""
    finished = place(rows)
    if finished.exists():
        return finished
    building = finished.with_name(f"{finished.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with headwater.create(str(building), actor="builder") as registry:
        versions = _versions(registry)
        rates = _predictions(registry, versions, rows)
    facts = {"rows": rows, "seconds": time.perf_counter() - began, "rates": rates}
    (building / "facts.json").write_text(json.dumps(facts))
    building.rename(finished)
    return finished


def facts(rows: int) -> dict[str, Any]:
    """Return what was measured while the lake was built: seconds, and rows a second of each file of predictions."""
    found: dict[str, Any] = json.loads((place(rows) / "facts.json").read_text())
    return found


def opened(rows: int) -> Registry:
    """Open the lake with so many predictions; it is built if need be. Nothing should be written to it."""
    return headwater.open(str(build(rows)), actor="bench")


# -- what is not predictions ------------------------------------------------------------------------------------------
def _versions(registry: Registry) -> list[str]:
    """Write models, versions, datasets and runs in a few large transactions; return the references of versions."""
    context = registry._context
    datasets = [new_id() for _ in range(DATASETS * DATASET_VERSIONS)]
    models = [new_id() for _ in range(MODELS)]
    runs = [new_id() for _ in range(RUNS)]
    versions = [(new_id(), model, number + 1) for model in models for number in range(VERSIONS)]
    code = {"repository": "https://example.org/flights.git", "commit": "", "branch": "main", "tags": [], "dirty": False}
    commits = [f"{number:040x}" for number in range(1, 1001)]

    def add_datasets(tx: Transaction) -> None:
        for number, dataset in enumerate(datasets):
            name, version = divmod(number, DATASET_VERSIONS)
            body = b"a dataset"
            path = f"datasets/{dataset[-2:]}/{dataset}/"
            tx.put(path + "data.csv", body)
            tx.append(
                "datasets", dataset_id=dataset, name=f"data-{name:03}", semver=f"1.{version}.0", path=path,
                digest="0" * 64, rows=1, bytes=len(body), format="csv", key=["id"],
                files=[{"path": "data.csv", "size": len(body), "sha256": "0" * 64}],
                base_dataset_id=datasets[number - 1] if version else None,
            )  # fmt: skip
            if version:
                _edge(tx, f"dataset:{datasets[number - 1]}", "derived", f"dataset:{dataset}")

    def add_models(tx: Transaction) -> None:
        for number, model in enumerate(models):
            tx.claim(f"name/model/model-{number:03}", model)
            tx.append("models", model_id=model)
            tx.event(model, "name", f"model-{number:03}")

    def add_runs(first: int) -> Any:
        def add(tx: Transaction) -> None:
            for number in range(first, first + RUNS_AT_ONCE):
                run, commit = runs[number], commits[number % len(commits)]
                tx.append(
                    "runs", run_id=run, experiment=f"experiment-{number % 200}", command=["python", "train.py"],
                    folder=".", code={**code, "commit": commit}, host="trainer", seeds={}, started_at=tx.micros,
                    environment={"python": "3.12.0", "platform": "linux", "packages": "0" * 64},
                    params={"depth": str(number % 10)}, tags={}, missing=[],
                )  # fmt: skip
                ended = {"status": "finished", "ended_at": "2026-01-01T00:00:00Z", "exit_status": 0}
                tx.append(
                    "events", event_id=new_id(), subject=run, kind="status", key="", value=json.dumps(ended), prev=[]
                )
                _edge(tx, f"dataset:{datasets[number % len(datasets)]}", "used", f"run:{run}")
                _edge(tx, f"code:{code['repository']}@{commit}", "built", f"run:{run}")

        return add

    def add_versions(tx: Transaction) -> None:
        for number, (version, model, counted) in enumerate(versions):
            run = runs[number * (RUNS // len(versions))]
            tx.append(
                "model_versions", version_id=version, model_id=model, version=counted, run_id=run,
                digest="0" * 64, size=9, files=[{"path": "model.bin", "size": 9, "sha256": "0" * 64}],
                path=f"artifacts/{version[-2:]}/{version}/", flavors=[], params={"depth": "6"}, tags={"team": "ops"},
                missing=[],
            )  # fmt: skip
            _edge(tx, f"run:{run}", "produced", f"model:{version}")
            _edge(tx, f"dataset:{datasets[number % len(datasets)]}", "trained", f"model:{version}")
            _edge(tx, f"code:{code['repository']}@{commits[number % len(commits)]}", "built", f"model:{version}")

    context.write("bench", add_datasets)
    context.write("bench", add_models)
    for first in range(0, RUNS, RUNS_AT_ONCE):
        context.write("bench", add_runs(first))
    context.write("bench", add_versions)
    return [f"model-{number // VERSIONS:03}/{number % VERSIONS + 1}" for number in range(len(versions))]


def _edge(tx: Transaction, source: str, relation: str, target: str) -> None:
    tx.append("lineage", source=source, relation=relation, target=target)


# -- predictions ------------------------------------------------------------------------------------------------------
def day_of_rows(day: int, rows: int, seed: int = 0) -> pa.Table:
    """Return a day of predictions, as a service would have logged them, in the order of time."""
    random = np.random.default_rng([day, seed])
    start = int(FIRST_DAY.timestamp() * 1_000_000) + day * 86_400_000_000
    times = start + np.sort(random.integers(0, 86_400_000_000, rows))

    def one_of(*names: str) -> pa.Array:
        indices = pa.array(random.integers(0, len(names), rows).astype(np.int32))
        return pa.DictionaryArray.from_arrays(indices, pa.array(names)).cast(pa.string())

    return pa.table(
        {
            "external_id": pa.array(np.arange(rows) + (day * 10 + seed) * 10_000_000).cast(pa.string()),
            "predicted_at": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
            "origin": one_of("JFK", "EWR", "LGA"),
            "carrier": one_of("AA", "B6", "DL", "UA", "WN", "EV", "MQ", "US"),
            "distance": pa.array(random.integers(100, 3000, rows)),
            "hour": pa.array(random.integers(5, 24, rows)),
            "temp": pa.array(np.round(random.normal(60, 20, rows), 1)),
            "output": one_of("late", "on time"),
            "score": pa.array(np.round(random.random(rows), 3)),
            "latency_ms": pa.array(np.round(random.gamma(2, 2, rows), 1)),
        }
    )


def _predictions(registry: Registry, versions: list[str], rows: int) -> list[float]:
    """Log days of predictions and, of each, the outcomes; return how many predictions a second each day took."""
    rates = []
    for day, count in _days(rows):
        if day % DEPLOYED_DAYS == 0:
            turn = day // DEPLOYED_DAYS
            live = registry.deploy(versions[turn * 2], "production")
            canary = registry.deploy(versions[turn * 2 + 1], "production", mode="canary", traffic=5)
        tables = [(live, day_of_rows(day, count - count // 20)), (canary, day_of_rows(day, count // 20, 1))]
        known = set(_files(registry))
        began = time.perf_counter()
        for deployment, table in tables:
            registry.log_predictions(table, deployment)
        rates.append(count / (time.perf_counter() - began))
        # Where small files have just been put together, what they hold is told of again, as happens.
        for path in set(_files(registry)) - known:
            made = pq.read_table(path, columns=["prediction_id", "output"])
            random = np.random.default_rng(day)
            right = random.random(len(made)) < 0.8
            label = np.where(right, made.column("output").to_numpy(), "neither")
            registry.log_outcomes(pa.table({"prediction_id": made.column("prediction_id"), "label": pa.array(label)}))
    return rates


def _days(rows: int) -> Iterator[tuple[int, int]]:
    for day in range((rows + DAY_ROWS - 1) // DAY_ROWS):
        yield day, min(DAY_ROWS, rows - day * DAY_ROWS)


def _files(registry: Registry) -> list[Path]:
    context = registry._context
    with context.reading() as fold:
        paths = [folder("predictions") + path for path in fold.table("predictions").files]
        return list(context.lake.localize(fold.commit, paths).values())


if __name__ == "__main__":
    print(build(int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[0]))
