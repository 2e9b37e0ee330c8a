"""A small world of lineage: datasets, a run, versions, deployments and predictions, as others will write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.ids import new_id, now_micros
from headwater.registry import Registry
from headwater.transaction import Transaction

REPOSITORY = "git@example.org:team/flights.git"
CODE = {"repository": REPOSITORY, "commit": "3f2a9c1b" * 5, "branch": "main", "tags": [], "dirty": True}
FLIGHTS = {
    "id": list(range(12)),
    "origin": ["JFK", "LGA", "EWR"] * 4,
    "month": [1, 1, 1, 2, 2, 2] * 2,
    "delay": [float(n) for n in range(12)],
}


@dataclass
class World:
    """A registry and the IDs of what lies in it."""

    registry: Registry
    run_id: str = ""
    versions: list[str] = field(default_factory=list)
    deployments: dict[str, str] = field(default_factory=dict)
    predictions: dict[str, list[str]] = field(default_factory=dict)

    @property
    def prediction(self) -> str:
        return self.predictions["live"][3]


def add_run(registry: Registry, used: Sequence[str], *, name: str = "train") -> str:
    run_id = new_id()

    def work(tx: Transaction) -> None:
        tx.append(
            "runs",
            run_id=run_id,
            name=name,
            experiment="delays",
            command=["python", "train.py"],
            folder=".",
            code={**CODE, "patch": "a" * 64, "folder": "."},
            seeds={},
            started_at=now_micros(),
            params={},
            tags={},
        )
        ended = {"status": "finished", "ended_at": "2026-11-01T10:00:00.000000Z", "exit_status": 0}
        tx.event(run_id, "status", json.dumps(ended))
        for dataset_id in used:
            tx.append("lineage", source=f"dataset:{dataset_id}", relation="used", target=f"run:{run_id}")
        tx.append("lineage", source=f"code:{REPOSITORY}@{CODE['commit']}", relation="built", target=f"run:{run_id}")

    registry._context.write("run", work)
    return run_id


def link(registry: Registry, *edges: tuple[str, str, str]) -> None:
    def work(tx: Transaction) -> None:
        for source, relation, target in edges:
            tx.append("lineage", source=source, relation=relation, target=target)

    registry._context.write("lineage", work)


def deploy(registry: Registry, reference: str, environment: str, *, mode: str = "live", percent: float = 100) -> str:
    version = registry.get(reference)
    deployment_id = new_id()

    def work(tx: Transaction) -> None:
        tx.append(
            "deployments",
            deployment_id=deployment_id,
            model_id=version.model_id,
            version_id=version.version_id,
            environment=environment,
            mode=mode,
            traffic=percent,
        )
        tx.append(
            "lineage",
            source=f"model:{version.version_id}",
            relation="deployed",
            target=f"deployment:{deployment_id}",
        )
        serves = {"deployment_id": deployment_id, "version_id": version.version_id, "mode": mode, "percent": percent}
        tx.event(version.model_id, "traffic", json.dumps([serves]), key=environment)

    registry._context.write("deploy", work)
    return deployment_id


def predict(registry: Registry, deployment_id: str, version_id: str, count: int, *, micros: int = 0) -> list[str]:
    ids = [new_id() for _ in range(count)]
    micros = micros or now_micros()

    def work(tx: Transaction) -> None:
        columns = {
            "prediction_id": pa.array(ids),
            "predicted_at": pa.array([micros + n for n in range(count)]).cast(pa.timestamp("us", tz="UTC")),
            "deployment_id": pa.array([deployment_id] * count).dictionary_encode(),
            "version_id": pa.array([version_id] * count).dictionary_encode(),
            "input": pa.array([json.dumps({"origin": "JFK", "n": n}) for n in range(count)]),
            "output": pa.array(["late"] * count),
            "score": pa.array([n / count for n in range(count)]),
        }
        tx.append_arrow("predictions", columns)
        times = {"first_at": micros, "last_at": micros + count - 1}
        tx.append(
            "batches", deployment_id=deployment_id, digest=new_id(), rows=count, source="spool", version_id=version_id,
            **times,
        )  # fmt: skip

    registry._context.write("predictions", work)
    return ids


def save(path: Path, columns: dict[str, list[Any]]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def make_world(registry: Registry, folder: Path) -> World:
    """Raw data becomes flights 1.0.0, 1.1.0, 2.0.0; a run on 1.1.0 made version 1; version 2 learned from 1.0.0."""
    world = World(registry)
    raw = registry.add_dataset("raw", save(folder / "raw.parquet", {"line": ["a", "b"]}))
    half = {name: values[:9] for name, values in FLIGHTS.items()}
    first = registry.add_dataset("flights", save(folder / "f.parquet", half), key=["id"], derived_from=["raw"])
    second = registry.add_dataset("flights", save(folder / "f.parquet", FLIGHTS), derived_from=["raw"])
    lacking = {name: values for name, values in FLIGHTS.items() if name != "month"}
    registry.add_dataset("flights", save(folder / "f.parquet", lacking))
    assert [first.semver, second.semver, registry.dataset("flights").semver] == ["1.0.0", "1.1.0", "2.0.0"]
    assert raw.semver == "1.0.0"
    (folder / "model.bin").write_bytes(b"model")
    world.run_id = add_run(registry, [second.dataset_id])
    one = registry.register("flight-delay", folder / "model.bin", code=folder, data=["flights@1.1.0"])
    link(registry, (f"run:{world.run_id}", "produced", f"model:{one.version_id}"))
    two = registry.register("flight-delay", folder / "model.bin", code=folder, data=["flights@1.0.0"])
    world.versions = [one.version_id, two.version_id]
    registry._context.write("alias", lambda tx: tx.event(one.model_id, "alias", one.version_id, key="champion"))
    registry._context.write("stage", lambda tx: tx.event(one.version_id, "stage", "production"))
    world.deployments["ended"] = deploy(registry, "flight-delay/2", "production")
    world.deployments["live"] = deploy(registry, "flight-delay/1", "production", percent=95)
    world.deployments["staging"] = deploy(registry, "flight-delay/2", "staging", mode="shadow")
    world.predictions["ended"] = predict(registry, world.deployments["ended"], two.version_id, 20)
    world.predictions["live"] = predict(registry, world.deployments["live"], one.version_id, 30)
    registry._context.write("alias", lambda tx: tx.event(one.model_id, "alias", two.version_id, key="champion"))
    registry._context.write("stage", lambda tx: tx.event(one.version_id, "stage", "archived"))
    return world
