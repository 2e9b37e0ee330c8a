"""MLflow's side of the comparison: the same operations, through its client, on SQLite; runs in MLflow's environment."""

from __future__ import annotations

import sqlite3
import time
import uuid
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from worker import serve, timed

_client: dict[str, MlflowClient] = {}

EXPERIMENT = "bench"
COLOURS = ("red", "green", "blue", "grey")


def create(lake: str) -> None:
    """Make a tracking store and registry in SQLite, and an artifact folder beside it."""
    client = _client[lake] = MlflowClient(f"sqlite:///{lake}/mlflow.db")
    client.create_experiment(EXPERIMENT, artifact_location=f"file://{lake}/artifacts")


def _experiment(lake: str) -> str:
    return str(_client[lake].get_experiment_by_name(EXPERIMENT).experiment_id)


def create_model(lake: str, model: str) -> None:
    """Make a registered model; with Headwater the first version does."""
    _client[lake].create_registered_model(model)


def register(lake: str, model: str, path: str, times: int, seed: int) -> list[float]:
    """Register a file with 5 params, 5 metrics and 3 tags, in the fewest calls of the client that do it."""
    client, experiment = _client[lake], _experiment(lake)

    def work(i: int) -> None:
        run = client.create_run(experiment).info
        now = int(time.time() * 1000)
        client.log_batch(
            run.run_id,
            params=[Param(f"param_{k}", str((seed + i) * k)) for k in range(5)],
            metrics=[Metric(f"metric_{k}", (seed + i) / (k + 1), now, 0) for k in range(5)],
        )
        client.log_artifact(run.run_id, path, "model")
        client.create_model_version(
            model,
            source=f"{run.artifact_uri}/model",
            run_id=run.run_id,
            tags={"team": "ops", "colour": COLOURS[(seed + i) % 4], "round": str(seed + i)},
            await_creation_for=None,
        )

    return timed(times, work)


def register_fluently(lake: str, model: str, path: str, times: int, seed: int) -> list[float]:
    """The same as people write it: `mlflow.start_run`, which also ends the run and records code, user and program."""
    client = _client[lake]
    mlflow.set_tracking_uri(f"sqlite:///{lake}/mlflow.db")
    mlflow.set_experiment(EXPERIMENT)

    def work(i: int) -> None:
        with mlflow.start_run() as run:
            mlflow.log_params({f"param_{k}": (seed + i) * k for k in range(5)})
            mlflow.log_metrics({f"metric_{k}": (seed + i) / (k + 1) for k in range(5)})
            mlflow.log_artifact(path, "model")
            client.create_model_version(
                model,
                source=f"{run.info.artifact_uri}/model",
                run_id=run.info.run_id,
                tags={"team": "ops", "colour": COLOURS[(seed + i) % 4], "round": str(seed + i)},
            )

    return timed(times, work)


def fill(lake: str, model: str, count: int) -> int:
    """Make many versions by SQL: rows as `register` writes them, with the number as seed; its own way takes an hour.

    The columns of MLflow 3.17's schema are named one by one, so that another one fails here.
    """
    connection = sqlite3.connect(f"{lake}/mlflow.db")
    pattern = connection.execute("SELECT * FROM runs LIMIT 1")
    run_columns = [column[0] for column in pattern.description]
    run_row = dict(zip(run_columns, pattern.fetchone(), strict=True))
    (first,) = connection.execute("SELECT max(version) FROM model_versions WHERE name = ?", (model,)).fetchone()
    now = int(time.time() * 1000)
    with connection:
        for number in range(first + 1, count + 1):
            run = uuid.uuid4().hex
            uri = f"file://{lake}/artifacts/{run}/artifacts"
            row = {**run_row, "run_uuid": run, "start_time": now, "artifact_uri": uri}
            connection.execute(
                f"INSERT INTO runs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
            )
            connection.executemany(
                "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)",
                [(f"param_{k}", str(number * k), run) for k in range(5)],
            )
            for table in ("metrics", "latest_metrics"):
                connection.executemany(
                    f"INSERT INTO {table} (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, 0, 0)",
                    [(f"metric_{k}", number / (k + 1), now, run) for k in range(5)],
                )
            connection.execute(
                "INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage, source,"
                " run_id, status, storage_location, workspace)"
                " VALUES (?, ?, ?, ?, 'None', ?, ?, 'READY', ?, 'default')",
                (model, number, now, now, f"{uri}/model", run, f"{uri}/model"),
            )
            tags = {"team": "ops", "colour": COLOURS[number % 4], "round": str(number)}
            connection.executemany(
                "INSERT INTO model_version_tags (key, value, name, version, workspace) VALUES (?, ?, ?, ?, 'default')",
                [(key, value, model, number) for key, value in tags.items()],
            )
    connection.close()
    return len(_search(lake, f"name='{model}'"))


def move_alias(lake: str, model: str, alias: str, times: int, seed: int) -> list[float]:
    """Move an alias, each time to another version."""
    client = _client[lake]
    return timed(times, lambda i: client.set_registered_model_alias(model, alias, str(1 + (seed + i) % 10)))


def resolve(lake: str, model: str, alias: str, times: int) -> list[float]:
    """Find the version behind an alias."""
    client = _client[lake]
    return timed(times, lambda _: client.get_model_version_by_alias(model, alias).version)


def resolved(lake: str, model: str, alias: str) -> int:
    """Return the version behind an alias."""
    return int(_client[lake].get_model_version_by_alias(model, alias).version)


def _search(lake: str, condition: str) -> list[Any]:
    client = _client[lake]
    found: list[Any] = []
    token = None
    while True:  # pages of its default size, 10,000
        page = client.search_model_versions(condition, order_by=["version_number DESC"], page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def list_all(lake: str, model: str, times: int) -> dict[str, Any]:
    """List every version of a model."""
    condition = f"name='{model}'"
    return {"seconds": timed(times, lambda _: _search(lake, condition)), "found": len(_search(lake, condition))}


def filter_by_tag(lake: str, model: str, key: str, value: str, times: int) -> dict[str, Any]:
    """Find the versions of a model with a tag."""
    condition = f"name='{model}' and tags.{key}='{value}'"
    return {"seconds": timed(times, lambda _: _search(lake, condition)), "found": len(_search(lake, condition))}


def log_batches(lake: str, points: int) -> float:
    """Log points of one metric, as many in a call as it takes; return the seconds."""
    client = _client[lake]
    run = client.create_run(_experiment(lake)).info.run_id
    now = int(time.time() * 1000)
    batches = [
        [Metric("loss", step * 0.5, now, step) for step in range(first, first + 1000)]
        for first in range(0, points, 1000)
    ]
    began = time.perf_counter()
    for each in batches:
        client.log_batch(run, metrics=each)
    return time.perf_counter() - began


if __name__ == "__main__":
    operations = (
        create, create_model, register, register_fluently, fill, move_alias, resolve, resolved, list_all, filter_by_tag,
        log_batches,
    )  # fmt: skip
    serve({each.__name__: each for each in operations})
