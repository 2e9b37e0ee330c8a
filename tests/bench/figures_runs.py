"""Figures on metrics of runs beside MLflow's `log_batch`: points a second, one call, reading one curve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from report import Figure, median, shown, times
from worker import Worker

BATCH = 100_000
MANY = 1_000_000
FEW = 20_000
"""Points that MLflow logs in one round: it takes a thousand in a call, and a million would take minutes."""


def measure(folder: Path, ours: Worker, theirs: Worker, rounds: int) -> Iterator[Figure]:
    """Log points by turns, then read them."""
    folder.mkdir(parents=True)
    our_lake, their_lake = str(folder / "lake"), str(folder / "mlflow")
    Path(their_lake).mkdir()
    ours.call("create", lake=our_lake)
    theirs.call("create", lake=their_lake)
    mine, other, reading, calls = [], [], [], []
    ours.call("log_columns", lake=our_lake, points=BATCH, batch=BATCH)  # what is imported once is imported
    theirs.call("log_batches", lake=their_lake, points=1000)
    for _ in range(rounds):
        logged = ours.call("log_columns", lake=our_lake, points=MANY, batch=BATCH)
        mine.append(logged["points"] / logged["seconds"])
        reading += ours.call("read_curve", lake=our_lake, run=logged["run"], points=MANY, times=3)
        other.append(FEW / theirs.call("log_batches", lake=their_lake, points=FEW))
        calls.append(ours.call("log_singly", lake=our_lake, times=100_000))
    us, them = median(mine), median(other)
    yield Figure(
        f"log {MANY:,} points in columns of {BATCH:,}, landing included, MLflow by `log_batch` ({FEW:,} points): p50",
        "≥ 1,000,000/s, MLflow ≥ 100×",
        f"{us:,.0f}/s",
        f"{them:,.0f}/s",
        times(us / them),
        us >= 1_000_000 and us >= 100 * them,
    )
    call = median(calls)
    yield Figure("`log_metric`, a call: mean of 100,000", "≤ 5 µs", shown(call), "", "", call <= 5e-6)
    curve = median(reading)
    yield Figure(f"read one curve of {MANY:,} points: p50", "< 50 ms", shown(curve), "", "", curve < 0.050)
