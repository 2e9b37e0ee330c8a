"""Train the demo's model on one dataset version, measure it on another, register it.

    headwater run -- python examples/flights/train.py flights@1.1.0 september@1.0.0 [COLUMN...]

What is read, measured and registered here belongs to that run; `headwater reproduce` runs it again from the record.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import joblib
from flights import ORIGINS, PARAMS, measure, prepare, train
from threadpoolctl import threadpool_limits

import headwater


def main(data: str, held_out: str, *columns: str) -> None:
    """Do it; `columns` are learned from besides the usual ones."""
    with (
        headwater.open() as reg,
        reg.start_run("train", experiment="delays", params=PARAMS) as run,
        threadpool_limits(1),  # scikit-learn's threads wait for one another, long, where cores are busy
    ):
        learned_from = prepare(run.use(data).polars())
        unseen = prepare(run.use(held_out, role="evaluation").polars())
        model = train(learned_from, columns)
        run.log_param("rows", learned_from.height)
        run.log_param("columns", " ".join(columns) or "the usual ones")
        for key, value in measure(model, unseen).items():
            run.log_metric(key, value, dataset=held_out)
        for origin in ORIGINS:
            for key, value in measure(model, unseen.filter(origin=origin)).items():
                run.log_metric(key, value, slice={"origin": origin}, dataset=held_out)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.joblib"
            joblib.dump(model, path)
            version = run.register(
                "flight-delay",
                path,
                tags={"team": "operations", "framework": "scikit-learn"},
                description="Will a flight arrive more than 15 minutes late? From what is known before it departs.",
            )
        print(version.reference)


if __name__ == "__main__":
    main(*sys.argv[1:])
