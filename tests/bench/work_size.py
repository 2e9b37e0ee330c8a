"""What is measured on one lake of predictions, in a process of its own, whose memory is measured too; prints JSON.

python tests/bench/work_size.py LAKE COPY ROWS; COPY is a copy of the lake that may be written to.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import size_lake

import headwater
from headwater.registry import Registry

LOOKUPS = 30
CALLS = 20_000
FEATURES = {"origin": "JFK", "carrier": "B6", "distance": 1089, "hour": 17, "temp": 61.5, "wind": 8.05, "gust": 11.5,
            "visib": 10.0, "month": 9, "rain": False}  # fmt: skip


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def reading(registry: Registry, rows: int) -> dict[str, Any]:
    """Look predictions up by ID, and judge one day on each value of a feature."""
    day = max(0, (rows // size_lake.DAY_ROWS) // 2)
    since = size_lake.FIRST_DAY + timedelta(days=day)
    span = [since, since + timedelta(days=1)]
    ids = registry.sql(
        "SELECT prediction_id, external_id, deployment_id FROM lake.predictions"
        " WHERE predicted_at >= ? AND predicted_at < ?",
        [since, since + timedelta(minutes=10)],
    ).fetchall()
    chosen = random.Random(1).sample(ids, LOOKUPS + 3)
    lookups = [timed(lambda each=each: registry.prediction(each[0])) for each in chosen][3:]  # type: ignore[misc]
    external = [timed(lambda each=each: registry.find_prediction(each[2], each[1])) for each in chosen[:5]]  # type: ignore[misc]
    sliced = f"SELECT * FROM live_metrics_by('origin', since := '{span[0]}', until := '{span[1]}')"
    plain = (
        "SELECT input ->> 'origin', avg(correct::INT) FROM predictions"
        " WHERE predicted_at >= ? AND predicted_at < ? GROUP BY 1"
    )
    by_day = "SELECT version, mode, accuracy FROM live_metrics WHERE day = ?"
    traces = [timed(lambda each=each: registry.trace(f"prediction:{each[0]}")) for each in chosen][3:]  # type: ignore[misc]
    trained = registry.dataset_versions("data-000")[-1].reference
    by_sql = "SELECT name, version, run_id, code_commit, datasets FROM prediction_lineage WHERE prediction_id = ?"
    return {
        "traces": traces,
        "impacts": [timed(lambda: registry.impact(f"dataset:{trained}")) for _ in range(5)],
        "asked": [timed(lambda each=each: registry.sql(by_sql, [each[0]])) for each in chosen[:8]][3:],  # type: ignore[misc]
        "cold": [timed(lambda each=each: _command(registry.url, each[0])) for each in chosen[:5]],  # type: ignore[misc]
        "lookups": lookups,
        "external": external,
        "sliced": [timed(lambda: registry.sql(sliced)) for _ in range(5)],
        "plain": [timed(lambda: registry.sql(plain, span)) for _ in range(3)],
        "day": [timed(lambda: registry.sql(by_day, [since.date()])) for _ in range(3)],
        "count": [timed(lambda: registry.sql("SELECT count(*) FROM predictions")) for _ in range(3)],
    }


def _command(lake: str, prediction_id: str) -> None:
    """Ask for a prediction's lineage in a process of its own."""
    command = [sys.executable, "-m", "headwater", "--lake", lake, "trace", f"prediction:{prediction_id}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def writing(registry: Registry) -> dict[str, Any]:
    """Log files of a million predictions, and single ones."""
    deployment = registry.deploy("model-099/1", "bench")
    tables = [size_lake.day_of_rows(1000 + turn, size_lake.DAY_ROWS) for turn in range(3)]
    logged = [timed(lambda table=table: registry.log_predictions(table, deployment)) for table in tables]  # type: ignore[misc]
    calls = []
    with registry.predictions(deployment) as log:
        for _ in range(CALLS):
            began = time.perf_counter()
            log.log(input=FEATURES, output="late", score=0.75, latency_ms=2.5, external_id="B6-1089")
            calls.append(time.perf_counter() - began)
    return {"logged": logged, "calls": calls}


def main() -> None:
    """Do what the command line says."""
    lake, copy, rows = sys.argv[1:]
    with headwater.open(lake, actor="bench") as registry:
        found = reading(registry, int(rows))
    with headwater.open(copy, actor="bench") as registry:
        found |= writing(registry)
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
