"""Real flights out of New York: from data to a model in production, and from one prediction back to its data and code.

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
from functools import partial
from itertools import count
from pathlib import Path

import governance
import joblib
import polars as pl
from flights import FEATURES, KEY, WEATHER, measure, predict, prepare, read_flights, read_weather
from threadpoolctl import threadpool_limits

import headwater
from headwater import DatasetVersion, Deployment, HeadwaterError, ModelVersion, Registry, config
from headwater.conflicts import MergeConflictError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL, DATASET, HELD_OUT, ALIAS = "flight-delay", "flights", "september", "champion"
BRANCH, RIVAL = "weather", "challenger"
CORRECTED = "origin = 'JFK' AND month = 2"

VERSIONS = f"""
    SELECT v.version, m.value AS auc, d.dataset || '@' || d.semver AS trained_on, d.dataset_commit
    FROM model_versions v
    JOIN metrics m ON m.version_id = v.version_id AND m.key = 'auc'
    JOIN version_datasets d ON d.version_id = v.version_id
    WHERE v.name = '{MODEL}'
    ORDER BY v.version
"""

ACCURACY = f"""
    SELECT p.environment, p.mode, p.version, input ->> '$.origin' AS origin, count(*) AS flights,
        avg(correct::INT) AS right
    FROM predictions p
    WHERE p.name = '{MODEL}' AND p.deployment_id IN ($live, $canary)
    GROUP BY ALL
    ORDER BY p.mode DESC, origin
"""

SOURCE = """
    SELECT name, version, environment, run_id, code_commit,
        list_transform(datasets, lambda d: d.dataset || '@' || d.semver) AS trained_on
    FROM prediction_lineage
    WHERE prediction_id = $id
"""


# -- telling ----------------------------------------------------------------------------------------------------------
def say(text: str = "") -> None:
    print(text, flush=True)


def step(number: int, title: str) -> None:
    say(f"\n{number}. {title}")


def indented(text: str) -> None:
    say("\n".join(f"   {line}".rstrip() for line in text.splitlines()))


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


# -- data -------------------------------------------------------------------------------------------------------------
def correct(flights: pl.DataFrame) -> pl.DataFrame:
    """Return the flights with what an airline corrected: B6 had given February's arrivals at JFK ten minutes early."""
    wrong = (pl.col("origin") == "JFK") & (pl.col("month") == 2) & (pl.col("carrier") == "B6")
    return flights.with_columns(arr_delay=pl.when(wrong).then(pl.col("arr_delay") + 10).otherwise(pl.col("arr_delay")))


def add(reg: Registry, name: str, flights: pl.DataFrame, folder: Path, what: str) -> DatasetVersion:
    """Add flights to the lake as a dataset version whose number is computed; from an earlier run, find it."""
    there = any(dataset.name == name for dataset in reg.datasets())
    for dataset in reg.dataset_versions(name) if there else []:
        if dataset.description == what and dataset.rows == flights.height:
            say(f"   {dataset.reference} holds these {dataset.rows:,} rows already, from an earlier run.")
            return dataset
    folder.mkdir()
    for (month,), part in flights.partition_by("month", as_dict=True, maintain_order=True).items():
        part.write_parquet(folder / f"2013-{month:02}.parquet")
    dataset = reg.add_dataset(name, folder, key=KEY, description=what)
    assert dataset.created
    assert dataset.rows == flights.height
    counts = [(dataset.added, "added"), (dataset.changed, "changed"), (dataset.removed, "removed")]
    columns = list((dataset.changes or {}).get("columns_added", ()))
    news = [f"{count:,} {verb}" for count, verb in counts if count]
    news += [f"columns {', '.join(columns)}"] if columns else []
    say(f"   {dataset.reference}: {what}. {dataset.rows:,} rows" + (f" ({'; '.join(news)})." if news else "."))
    return dataset


# -- models -----------------------------------------------------------------------------------------------------------
def train(reg: Registry, data: DatasetVersion, held_out: DatasetVersion, *columns: str) -> ModelVersion:
    """Train as anybody would who knows nothing of the registry but the command: in a process that is recorded."""
    script = [sys.executable, str((HERE / "train.py").relative_to(ROOT)), data.reference, held_out.reference, *columns]
    registry = [sys.executable, "-m", "headwater", "--lake", reg.url, "--branch", reg.ref]
    recorded = [*registry, "run", "--experiment", "delays"]
    done = subprocess.run([*recorded, "--", *script], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"demo: training failed\n{done.stdout}{done.stderr}")
    version = reg.get(done.stdout.split()[-1])
    assert version.run_id is not None
    run = reg.run(version.run_id)
    assert run.status == "finished"
    assert reg.trained_on(version.reference) == [data.reference]
    say(
        f"   Run {run.run_id} learned from {data.reference} and made {version.reference}, commit {version.commit[:12]}."
    )
    say(f"   On September: AUC {version.metrics['auc']:.4f}, Brier score {version.metrics['brier']:.4f}.")
    return version


def load(version: ModelVersion, work: Path) -> object:
    """Do what a serving process does first: fetch the version, every digest checked, and load it."""
    folder = version.pull(work / f"serving-{version.version}")
    (file,) = version.files
    return joblib.load(folder / file.path)  # a pickle: safe here, because this program wrote it


def serve(reg: Registry, live: Deployment, canary: Deployment, flights: pl.DataFrame, work: Path) -> str:
    """Predict September's flights, one in ten by the canary; log predictions, then what became of the flights."""
    flights = flights.with_row_index("row").with_columns(
        external_id=pl.format("{}-{}-{}", "carrier", "flight", "row"), to_canary=pl.col("row") % 10 == 0
    )
    began = time.perf_counter()
    for deployment, chosen in ((live, ~pl.col("to_canary")), (canary, pl.col("to_canary"))):
        model = load(reg.get(f"{MODEL}/{deployment.version}"), work)
        asked = flights.filter(chosen)
        predicted = asked.select("external_id", *FEATURES).with_columns(predict(model, asked).alias("score"))
        predicted = predicted.with_columns(output=(pl.col("score") > 0.5).cast(pl.String))
        if deployment is live:
            # a nightly job hands over a file
            predicted.write_parquet(work / "predictions.parquet")
            logged = reg.log_predictions(work / "predictions.parquet", live.deployment_id)
            assert logged.rows == predicted.height
            again = reg.log_predictions(work / "predictions.parquet", live.deployment_id)
            assert (again.created, again.rows) == (False, predicted.height)
        else:
            # a server logs each request; it waits for nothing but its own disk
            with reg.predictions(canary.deployment_id) as log:
                for row in predicted.iter_rows(named=True):
                    log.log(
                        input={name: row[name] for name in FEATURES},
                        output=row["output"],
                        score=row["score"],
                        external_id=row["external_id"],
                    )
        late = asked.select("external_id", label=pl.col("late").cast(pl.String))
        late.write_parquet(work / f"outcomes-{deployment.mode}.parquet")
        reg.log_outcomes(work / f"outcomes-{deployment.mode}.parquet", deployment=deployment.deployment_id)
    took = time.perf_counter() - began
    say(f"   {flights.height:,} predictions and outcomes logged in {took:.1f} s. Right, by origin:")
    show(reg.sql(ACCURACY, {"live": live.deployment_id, "canary": canary.deployment_id}).pl())
    (one,) = reg.sql(
        "SELECT prediction_id FROM predictions WHERE deployment_id = $id AND input ->> '$.origin' = 'JFK'"
        " ORDER BY score DESC, prediction_id LIMIT 1",
        {"id": live.deployment_id},
    ).fetchall()[0]
    return str(one)


# -- an experiment ----------------------------------------------------------------------------------------------------
def experiment(
    reg: Registry, champion: ModelVersion, flights: pl.DataFrame, september: pl.DataFrame, work: Path
) -> DatasetVersion:
    """Try an idea on a branch, throw away what is no good, and merge the rest, while main goes on."""
    step(8, f"Would the weather help? On branch {BRANCH}, nobody is disturbed by finding out.")
    if BRANCH in reg.branches():
        reg.delete_branch(BRANCH, force=True)  # an earlier run died here
    branch = reg.create_branch(BRANCH)
    before = reg.head

    def joined(data: pl.DataFrame) -> pl.DataFrame:
        return data.join(read_weather(), on=["origin", "time_hour"], how="left")

    data = add(branch, DATASET, joined(flights), work / "weather", "with the weather at departure")
    held_out = add(branch, HELD_OUT, joined(september), work / "september-weather", "with the weather, to measure on")
    candidates = [train(branch, data, held_out, *columns) for columns in (WEATHER, WEATHER[1:])]
    kept, other = sorted(candidates, key=lambda each: -each.metrics["auc"])
    branch.delete(other.reference, reason=f"{kept.reference} is better without it")
    branch.set_alias(MODEL, RIVAL, kept.version, reason="the best with weather")
    assert reg.head == before
    assert kept.version not in {version.version for version in reg.versions(MODEL)}
    say(f"   {kept.reference} is kept, {other.reference} is deleted. On main there is none of it:")
    difference = [sys.executable, "-m", "headwater", "--lake", reg.url, "diff", "main", BRANCH]
    indented(subprocess.run(difference, capture_output=True, text=True, check=True).stdout)

    step(9, f"Meanwhile a colleague makes version {champion.version - 1} the {RIVAL} on main. The merge asks.")
    with headwater.open(reg.url, actor="grace") as colleague:
        colleague.set_alias(MODEL, RIVAL, champion.version - 1, reason="to compare with what we had")
    try:
        reg.merge(BRANCH)
    except MergeConflictError as error:
        (conflict,) = error.conflicts
        say(f"   {error.message}:")
        for branch_name, side in (("main", conflict.ours), (BRANCH, conflict.theirs)):
            say(f"   {branch_name:>9}: {side.value}, said {side.actor}")
    else:
        raise AssertionError("both branches moved one alias, and nobody was asked")
    assert reg.resolve(f"{MODEL}@{RIVAL}").version == champion.version - 1

    step(10, "It is settled, and all of the branch lands on main in one commit. The numbers stay what they were.")
    merge = reg.merge(BRANCH, resolve={conflict.name: "theirs"})
    assert merge.commit is not None
    say(f"   {merge.words()}, commit {merge.commit[:12]}; {conflict.name} is {conflict.theirs.value}.")
    assert reg.resolve(f"{MODEL}@{RIVAL}").version_id == kept.version_id
    assert reg.get(kept.reference).commit == kept.commit
    assert reg.trained_on(kept.reference) == [data.reference]
    reg.delete_branch(BRANCH)
    assert reg.at(kept.commit).get(kept.reference).digest == kept.digest
    return data


# -- the demo ---------------------------------------------------------------------------------------------------------
def run(reg: Registry, work: Path, picture: Path, rows: int | None) -> tuple[str, str]:
    """Run the demo on a registry; return the commit before the second version, and a prediction."""
    flights = read_flights(rows)
    until = {month: flights.filter(pl.col("month") <= month) for month in (6, 8)}
    september = flights.filter(month=9)

    step(1, f"{flights.height:,} flights left New York City in 2013. January to June go into the lake.")
    half_year = add(reg, DATASET, until[6], work / "june", "January to June")
    held_out = add(reg, HELD_OUT, september, work / "september", "September, to measure on")

    step(2, "A model that predicts an arrival delay of over 15 minutes is trained, registered, and deployed.")
    first = train(reg, half_year, held_out)
    live = reg.deploy(first.reference, "production", reason="the first of this run")
    assert reg.resolve(f"{MODEL}@{ALIAS}").version == first.version
    say(f"   Version {first.version} serves production, and is {MODEL}@{ALIAS}: one truth, told twice.")

    step(3, "July and August come in, and the model is trained again, with them.")
    summer = add(reg, DATASET, until[8], work / "august", "July and August too")
    head = reg.head
    second = train(reg, summer, held_out)
    old, new = first.metrics["auc"], second.metrics["auc"]
    assert new > old, f"two months more did not help: {new} against {old}"

    step(4, f"Version {second.version} gets a tenth of the traffic. All of September is predicted, and then known.")
    canary = reg.deploy(second.reference, "production", mode="canary", traffic=10)
    prediction = serve(reg, live, canary, prepare(september), work)

    step(5, "The canary has done well: it goes live, and is the champion.")
    reason = f"AUC on September {new:.4f}, was {old:.4f}"
    reg.deploy(second.reference, "production", reason=reason)
    (moved,) = (alias for alias in reg.aliases(MODEL) if alias.alias == ALIAS)
    assert (moved.version, moved.reason) == (second.version, reason)
    champion = reg.resolve(f"{MODEL}@{ALIAS}")
    with threadpool_limits(1):
        found = measure(load(champion, work), prepare(september))
    assert abs(found["auc"] - champion.metrics["auc"]) < 1e-9
    say(f"   {MODEL}@{ALIAS} moves from version {first.version} to version {second.version}, because: {reason}.")

    step(6, "One prediction, from production back to its data and its code, in one command:")
    lineage = reg.trace(f"prediction:{prediction}")
    indented(str(lineage))
    urns = {node.urn for node in lineage.nodes}
    assert {f"model:{first.reference}", f"dataset:{half_year.reference}", f"run:{first.run_id}"} <= urns
    say("   and in one query:")
    (row,) = reg.sql(SOURCE, {"id": prediction}).dicts()
    assert (row["version"], row["run_id"], row["trained_on"]) == (first.version, first.run_id, [half_year.reference])
    indented("\n".join(f"{name:<12}  {value}" for name, value in row.items()))

    step(7, "February's arrivals at JFK are corrected. Who learned from the wrong rows, and predicted what?")
    corrected = add(reg, DATASET, correct(until[8]), work / "corrected", "JFK's February corrected")
    assert corrected.semver.split(".")[:2] == summer.semver.split(".")[:2]
    touched = reg.impact(f"dataset:{half_year.reference}", rows=CORRECTED)
    indented(str(touched))
    assert {f"model:{first.reference}", f"model:{second.reference}"} <= {node.urn for node in touched.nodes}

    weather = experiment(reg, second, correct(until[8]), september, work)
    assert [half_year.semver, summer.semver, corrected.semver, weather.semver] == ["1.0.0", "1.1.0", "1.1.1", "2.0.0"]

    step(11, "A picture of where that prediction came from.")
    picture.write_text(lineage.render("svg"), encoding="utf-8")
    say(f"   {picture}: {len(lineage.nodes)} things, {len(lineage.edges)} edges.")

    step(12, f"SQL as of now, and at commit {head[:12]}, the one before version {second.version}.")
    now = reg.sql(VERSIONS)
    show(now.pl().with_columns(pl.col("dataset_commit").str.head(12)))
    known = {row["version"]: row for row in now.dicts()}
    for version, data in ((first, half_year), (second, summer)):
        assert known[version.version]["auc"] == version.metrics["auc"]
        assert known[version.version]["trained_on"] == data.reference
        assert known[version.version]["dataset_commit"] == data.commit
    then = {row["version"] for row in reg.at(head).sql(VERSIONS).dicts()}
    assert then == {version for version in known if version < second.version}
    say(f"   At {head[:12]}: versions {', '.join(map(str, sorted(then)))}.")
    return head, prediction


# -- where the lake is ------------------------------------------------------------------------------------------------
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


def signed_lake(url: str, namespace: str | None, actor: str) -> Registry:
    """Make a signed lake beside the demo's own: in a folder that is made anew, or in a new lakeFS repository."""
    if "://" not in url:
        beside = Path(url).parent
        earlier = {int(each.name.rpartition("-")[2]): each for each in beside.glob(f"{Path(url).name}-signed-*")}
        # Whoever looked at the one before remembers whose lake that was, so this one lies elsewhere.
        place = beside / f"{Path(url).name}-signed-{max(earlier, default=0) + 1}"
        for each in earlier.values():
            shutil.rmtree(each)
        return headwater.create(str(place), actor=actor, signed=True)
    for number in count(1):
        other = f"{url.rstrip('/')}-signed-{number}"
        place_of = None if namespace is None else f"{namespace.rstrip('/')}-signed-{number}"
        try:
            headwater.open(other).close()
        except HeadwaterError:
            return headwater.create(
                other, storage_namespace=place_of or f"local://{other.rpartition('/')[2]}", actor=actor, signed=True
            )
    raise AssertionError("there is no end to numbers")


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
    parser = argparse.ArgumentParser(description="From real flights to a model in production, and back.")
    parser.add_argument("--lake", metavar="URL", help="a folder, or lakefs://host:port/repository")
    parser.add_argument("--storage-namespace", metavar="NS", help="where a new lakeFS repository keeps its objects")
    parser.add_argument("--picture", metavar="FILE", type=Path, default=ROOT / ".headwater" / "prediction.svg")
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
            arguments.picture.parent.mkdir(exist_ok=True)
            head, prediction = run(reg, Path(work), arguments.picture, arguments.rows)
            steps = count(13)
            second = Path(work) / "signed"
            second.mkdir()
            governed = governance.run(
                partial(signed_lake, reg.url, arguments.storage_namespace),
                read_flights(arguments.rows),
                second,
                say,
                lambda title: step(next(steps), title),
            )
    except HeadwaterError as error:
        print(f"demo: {error.message}" + (f"\n      {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_status
    call = command(reg)
    say(f"\nDone in {time.perf_counter() - began:.0f} seconds. The lake is {reg.url}; things to try next:")
    say(f"  {call} trace prediction:{prediction}")
    say(f"  {call} reproduce {MODEL}@{ALIAS} {shlex.quote(str(Path(tempfile.gettempdir()) / 'again'))}")
    say(f"  {call} log {MODEL}")
    say(f"  {call} history {MODEL}")
    say(f"  {call.partition(' --lake ')[0]} --lake {shlex.quote(governed)} audit")
    say(f'  {call} sql "select version, key, slice, value from slice_metrics" --ref {head[:12]}')
    return 0


if __name__ == "__main__":
    sys.exit(main())
