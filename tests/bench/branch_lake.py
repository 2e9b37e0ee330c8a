"""Registries of 1,000 and of 100,000 versions, whose branches are measured; built once and kept.

python tests/bench/branch_lake.py VERSIONS builds one on the embedded lake, or finds it, and prints where it is.
"""

from __future__ import annotations

import shutil
import sys
from hashlib import sha256
from pathlib import Path

import mlflow_env

import headwater
from headwater.ids import new_id
from headwater.registry import Registry
from headwater.transaction import Transaction

LAYOUT = 1
"""Of what is built; a lake of another layout is built anew."""

FEW, MANY = 1_000, 100_000
MODELS = 100
DATASETS = 100
VERSIONS_A_RUN = 10
REPOSITORY = "https://example.org/flights.git"
BODY = b"a small artifact, which all versions share"
DIGEST = sha256(BODY).hexdigest()


def place(versions: int) -> Path:
    """Return where the lake with so many versions is kept: beside MLflow's environment, outside of the tree."""
    return mlflow_env.folder().parent / f"branch-lake-{LAYOUT}-{versions}"


def build(versions: int) -> Path:
    """Return the folder of the lake with so many versions, which is built if it is not there."""
    finished = place(versions)
    if finished.exists():
        return finished
    building = finished.with_name(f"{finished.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.parent.mkdir(parents=True, exist_ok=True)
    with headwater.create(str(building), actor="builder") as registry:
        fill(registry, versions)
    building.rename(finished)
    return finished


def fill(registry: Registry, versions: int, *, at_once: int = 100, bare: bool = False) -> None:
    """Write models with their versions, runs, metrics and lineage, as `register` does, many in a transaction.

    Args:
        registry: An empty registry.
        versions: How many, over all models.
        at_once: Versions of a transaction: the fewer, the longer the history.
        bare: Leave out what takes a request for each version on a server, and makes no difference here: artifacts, and
            the reservation of numbers.
    """
    models = [new_id() for _ in range(MODELS)]
    datasets = [new_id() for _ in range(DATASETS)]

    def add_models(tx: Transaction) -> None:
        for number, model in enumerate(models):
            tx.claim(f"name/model/model-{number:03}", model)
            tx.append("models", model_id=model)
            tx.event(model, "name", f"model-{number:03}")
        for number, dataset in enumerate(datasets):
            path = f"datasets/{dataset[-2:]}/{dataset}/"
            tx.put(path + "data.csv", BODY)
            tx.append(
                "datasets", dataset_id=dataset, name=f"data-{number:03}", semver="1.0.0", path=path, digest=DIGEST,
                rows=1, bytes=len(BODY), format="csv", key=["id"],
                files=[{"path": "data.csv", "size": len(BODY), "sha256": DIGEST}],
            )  # fmt: skip

    registry._context.write("bench", add_models)
    made = 0
    while made < versions:
        batch = range(made, min(versions, made + at_once))

        def add(tx: Transaction, batch: range = batch) -> None:
            tx.message = f"register {len(batch)} versions"
            _versions(tx, batch, models, datasets, bare=bare)

        registry._context.write("bench", add)
        made += len(batch)


def _versions(tx: Transaction, batch: range, models: list[str], datasets: list[str], *, bare: bool) -> None:
    run = ""
    for number in batch:
        dataset = datasets[number % DATASETS]
        commit = f"{number // VERSIONS_A_RUN:040x}"
        code = {"repository": REPOSITORY, "commit": commit, "branch": "main", "tags": [], "dirty": False}
        environment = {"python": "3.12.0", "platform": "linux", "packages": "0" * 64}
        if not run or not number % VERSIONS_A_RUN:
            run = new_id()
            tx.append(
                "runs", run_id=run, experiment=f"experiment-{number % 200}", command=["python", "train.py"],
                folder=".", code=code, host="trainer", seeds={}, started_at=tx.micros, environment=environment,
                params={"depth": str(number % 10)}, tags={}, missing=[],
            )  # fmt: skip
            _edge(tx, f"dataset:{dataset}", "used", f"run:{run}")
            _edge(tx, f"code:{REPOSITORY}@{commit}", "built", f"run:{run}")
        version = new_id()
        path = f"artifacts/{version[-2:]}/{version}/"
        if not bare:
            tx.put(path + "model.bin", BODY)
        model = models[number % MODELS]
        counted = number // MODELS + 1 if bare else tx.cut(f"version/{model}", after=0)
        tx.append(
            "model_versions", version_id=version, model_id=model, version=counted,
            run_id=run, digest=DIGEST, size=len(BODY), path=path, flavors=[], code=code, environment=environment,
            files=[{"path": "model.bin", "size": len(BODY), "sha256": DIGEST}], tags={"team": "ops"}, missing=[],
            params={"depth": "6", "learning_rate": "0.1"},
        )  # fmt: skip
        for ordinal, key in enumerate(("auc", "loss")):
            value = number % 997 / 997
            tx.append(
                "metrics", ordinal=2 * (number - batch.start) + ordinal, run_id=run, version_id=version, key=key,
                value=value, slice="", source="claimed",
            )  # fmt: skip
        _edge(tx, f"run:{run}", "produced", f"model:{version}")
        _edge(tx, f"dataset:{dataset}", "trained", f"model:{version}")
        _edge(tx, f"code:{REPOSITORY}@{commit}", "built", f"model:{version}")


def _edge(tx: Transaction, source: str, relation: str, target: str) -> None:
    tx.append("lineage", source=source, relation=relation, target=target)


if __name__ == "__main__":
    print(build(int(sys.argv[1]) if len(sys.argv) > 1 else FEW))
