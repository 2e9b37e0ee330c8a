"""Headwater's side of the comparison: the operations that the bench times, through the Python API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker import serve, timed

import headwater

_open: dict[str, headwater.Registry] = {}


def _registry(lake: str) -> headwater.Registry:
    if lake not in _open:
        _open[lake] = headwater.open(lake)
    return _open[lake]


def create(lake: str, storage_namespace: str | None = None) -> None:
    """Make a lake."""
    _open[lake] = headwater.create(lake, storage_namespace=storage_namespace)


def register(lake: str, model: str, path: str, times: int, seed: int, code: str | None = None) -> list[float]:
    """Register a file with 5 params, 5 metrics and 3 tags; its numbers follow from the seed."""
    reg = _registry(lake)

    def work(i: int) -> object:
        return reg.register(
            model,
            path,
            params={f"param_{k}": (seed + i) * k for k in range(5)},
            metrics={f"metric_{k}": (seed + i) / (k + 1) for k in range(5)},
            tags={"team": "ops", "colour": ("red", "green", "blue", "grey")[(seed + i) % 4], "round": seed + i},
            code=code,
        )

    return timed(times, work)


def move_alias(lake: str, model: str, alias: str, times: int, seed: int) -> list[float]:
    """Move an alias, each time to another version."""
    reg = _registry(lake)
    return timed(times, lambda i: reg.set_alias(model, alias, 1 + (seed + i) % 10))


def resolve(lake: str, model: str, alias: str, times: int) -> list[float]:
    """Find the version behind an alias; the branch's head is read each time."""
    reg = _registry(lake)
    return timed(times, lambda _: reg.resolve(f"{model}@{alias}").version)


def resolved(lake: str, model: str, alias: str) -> int:
    """Return the version behind an alias: that what is timed is also right."""
    return _registry(lake).resolve(f"{model}@{alias}").version


def numbers(lake: str, model: str) -> list[int]:
    """Return the numbers of all versions of a model, oldest first."""
    return [version.version for version in _registry(lake).versions(model)][::-1]


def list_all(lake: str, model: str, times: int) -> dict[str, Any]:
    """List every version of a model."""
    reg = _registry(lake)
    return _found(times, lambda: reg.versions(model))


def filter_by_tag(lake: str, model: str, key: str, value: str, times: int) -> dict[str, Any]:
    """Find the versions of a model with a tag, in Python."""
    reg = _registry(lake)
    return _found(times, lambda: [version for version in reg.versions(model) if version.tags.get(key) == value])


def query_by_tag(lake: str, model: str, key: str, value: str, times: int) -> dict[str, Any]:
    """Find the versions of a model with a tag, by SQL: what MLflow's ModelVersion has too, as Python dictionaries."""
    reg = _registry(lake)
    query = (
        "SELECT name, version, recorded_at, actor, description, stage, path, run_id, aliases, tags"
        " FROM model_versions WHERE name = $model AND tags[$key] = $value ORDER BY version DESC"
    )
    return _found(times, lambda: reg.sql(query, {"model": model, "key": key, "value": value}).dicts())


def _found(times: int, work: Callable[[], list[Any]]) -> dict[str, Any]:
    return {"seconds": timed(times, lambda _: work()), "found": len(work())}


def after_a_write(lake: str, model: str, what: str, times: int, **arguments: str) -> list[float]:
    """Time one of the above, each time the first after a write."""
    reg = _registry(lake)
    operations = {"list_all": list_all, "query_by_tag": query_by_tag}
    took = []
    for i in range(times):
        reg.tag(model, {"touched": str(i)})
        took += operations[what](lake=lake, model=model, times=1, **arguments)["seconds"]
    return took


def log_columns(lake: str, points: int, batch: int) -> dict[str, Any]:
    """Log points of one metric in columns and land them; return how long that took, and the run."""
    import time

    import numpy as np

    random = np.random.default_rng(0)
    columns = [
        {"step": np.arange(first, first + batch), "loss": random.random(batch)} for first in range(0, points, batch)
    ]
    run = _registry(lake).start_run("columns")
    began = time.perf_counter()
    for each in columns:
        run.log_metrics(each)
    run.flush(wait=True)
    seconds = time.perf_counter() - began
    run.finish()
    return {"seconds": seconds, "points": points, "run": run.run_id}


def log_singly(lake: str, times: int) -> float:
    """Log points one call each; return the mean seconds of a call."""
    import time

    with _registry(lake).start_run("singly") as run:
        began = time.perf_counter()
        for step in range(times):
            run.log_metric("loss", 0.5, step)
        return (time.perf_counter() - began) / times


def read_curve(lake: str, run: str, points: int, times: int) -> list[float]:
    """Read one curve, whole."""
    reg = _registry(lake)
    assert len(reg.curve(run, "loss")) == points
    return timed(times, lambda _: reg.curve(run, "loss"))


def close(lake: str) -> None:
    """Close a lake."""
    _open.pop(lake).close()


if __name__ == "__main__":
    operations = (
        create, register, move_alias, resolve, resolved, numbers, list_all, filter_by_tag, query_by_tag, after_a_write,
        log_columns, log_singly, read_curve, close,
    )  # fmt: skip
    serve({each.__name__: each for each in operations})
