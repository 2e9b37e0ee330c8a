"""Predict a dataset with a model: what `headwater evaluate` runs.

    headwater evaluate flight-delay/7 --on september --slices origin --label late -- python examples/flights/predict.py

It finds the model's folder, the data and the file to write in its environment; it knows nothing of the registry.
"""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import polars as pl
from flights import KEY, predict
from threadpoolctl import threadpool_limits


def main() -> None:
    flights = pl.read_parquet(os.environ["HEADWATER_DATA"])
    with threadpool_limits(1):
        risk = predict(joblib.load(Path(os.environ["HEADWATER_MODEL"]) / "model.joblib"), flights)
    found = flights.select(KEY).with_columns(score=risk, prediction=risk > 0.5)
    found.write_csv(os.environ["HEADWATER_OUTPUT"])


if __name__ == "__main__":
    main()
