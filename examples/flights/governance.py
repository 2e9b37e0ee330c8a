"""Who lets a model into production: the second half of the demo, in a signed lake of its own.

Ada trains, Grace approves, and a release pipeline promotes; each signs with a key of their own. A candidate that is
better on the whole and worse at one airport is refused; what serves badly is rolled back; what somebody forges has no
force, and the audit names it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import joblib
import polars as pl
import pyarrow as pa
from deltalake import write_deltalake
from flights import FEATURES, KEY, predict, prepare, train

import headwater
from headwater import GateFailedError, ModelVersion, Registry, keys
from headwater.governance_model import Evaluation
from headwater.ids import new_id
from headwater.lake.connect import connect
from headwater.schema import arrow_schema

HERE = Path(__file__).resolve().parent
MODEL, HELD_OUT = "flight-delay", "september"
PEOPLE = ("ada", "grace", "pipeline")


class Team:
    """The people of the demo, each with a key and the registry as they see it."""

    def __init__(self, ada: Registry, grace: Registry, pipeline: Registry) -> None:
        self.ada = ada
        self.grace = grace
        self.pipeline = pipeline


@contextmanager
def team(make: Callable[[str], Registry], work: Path) -> Iterator[Team]:
    """Make a signed lake and hold what each of the team works with; their keys are in a folder of this demo's."""
    before = os.environ.get("HEADWATER_KEYS")
    os.environ["HEADWATER_KEYS"] = str(work / "keys")
    try:
        with ExitStack() as stack:
            ada = stack.enter_context(make("ada"))
            for name, role in (("grace", "reviewer"), ("pipeline", "deployer")):
                keys.make(name)
                ada.grant(role, name, on=f"{MODEL}*")
            others = [stack.enter_context(headwater.open(ada.url, actor=name)) for name in PEOPLE[1:]]
            yield Team(ada, *others)
    finally:
        if before is None:
            del os.environ["HEADWATER_KEYS"]
        else:
            os.environ["HEADWATER_KEYS"] = before


def candidates(flights: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return what each version learns from, by what is to be said of it."""
    until_march = prepare(flights.filter(pl.col("month") <= 3))
    until_august = prepare(flights.filter(pl.col("month") <= 8))
    at_jfk = pl.col("origin") == "JFK"
    wrong = pl.concat(
        [until_august.filter(~at_jfk), until_august.filter(at_jfk).with_columns(pl.col("late").shuffle(seed=1))]
    )
    return {
        "January to March": until_march,
        "five months more, JFK's arrivals joined to the wrong flights": wrong,
        "five months more, joined as they should be": until_august,
    }


def register(people: Team, flights: pl.DataFrame, what: str, work: Path) -> ModelVersion:
    """Train and register a version, and have it evaluated: its numbers are computed, not claimed."""
    folder = work / f"model-{len(list(work.glob('model-*'))) + 1}"
    folder.mkdir()
    joblib.dump(train(flights), folder / "model.joblib")
    version = people.ada.register(MODEL, folder, description=what, tags={"owner": "ada"})
    people.ada.evaluate(
        version.reference,
        on=HELD_OUT,
        command=[sys.executable, str(HERE / "predict.py")],
        slices=["origin"],
        label="late",
    )
    people.ada.stage(version.reference, "staging")
    return version


def both_answer(
    people: Team, live: ModelVersion, canary: ModelVersion, flights: pl.DataFrame, *, wrongly: bool = False
) -> None:
    """Log what the version in production and its canary answer in the same hours, then what became of the flights."""
    for part in flights.with_row_index("request").iter_slices(1 + flights.height // 3):
        answer(people, live, part)
        answer(people, canary, part, wrongly=wrongly)


def answer(people: Team, version: ModelVersion, flights: pl.DataFrame, *, wrongly: bool = False) -> None:
    """Log what a version that serves answers, and what proves true."""
    (serving,) = [each for each in people.pipeline.serving("production", name=MODEL) if each.version == version.version]
    model = joblib.load(people.pipeline.pull(version.reference, served_from(version)) / "model.joblib")
    risk = predict(model, flights)
    # A server that hands the model its columns in another order answers at random, or worse.
    late = (risk < 0.5) if wrongly else (risk > 0.5)
    asked = flights.select(*FEATURES).with_columns(
        external_id=pl.Series([f"{serving.deployment_id}-{row}" for row in flights["request"]]),
        score=risk,
        output=late.cast(pl.String),
    )
    people.pipeline.log_predictions(asked, serving.deployment_id)
    known = asked.select("external_id").with_columns(label=flights["late"].cast(pl.String))
    people.pipeline.log_outcomes(known, serving.deployment_id)


def served_from(version: ModelVersion) -> Path:
    """Return where the demo keeps a version that it serves."""
    return Path(os.environ["HEADWATER_KEYS"]).parent / f"serving-{version.version}"


def refused(people: Team, version: ModelVersion) -> GateFailedError:
    """Ask for production, and be refused."""
    try:
        people.pipeline.promote(version.reference, "production", traffic=5)
    except GateFailedError as error:
        return error
    raise AssertionError(f"{version.reference} was let into production")


def forge(url: str, model_id: str, version_id: str, superseded: str, work: Path) -> None:
    """Move the champion as somebody would who can write the lake's storage, and has no key: a row in a Delta table."""
    row = {
        "tx": new_id(),
        "recorded_at": datetime.now(UTC),
        "actor": "pipeline",
        "event_id": new_id(),
        "subject": model_id,
        "kind": "alias",
        "key": "champion",
        "value": version_id,
        "prev": [superseded],
        "reason": "trust me",
        "signature": None,
    }
    table = pa.Table.from_pylist([row], schema=arrow_schema("events"))
    lake = connect(url)
    try:
        place, options = lake.delta("main", "tables/events")
        if options:
            # A lakeFS server's S3 gateway: any Delta client writes there.
            bucket = place.removeprefix("s3://").partition("/")[0]
            write_deltalake(f"s3://{bucket}/main/tables/events", table, mode="append", storage_options=options)
        else:
            copy = work / "events"
            shutil.copytree(place, copy)
            there = {path for path in copy.rglob("*") if path.is_file()}
            write_deltalake(copy, table, mode="append")
            new = {path for path in copy.rglob("*") if path.is_file()} - there
            lake.put_many("main", {f"tables/events/{p.relative_to(copy)}": p.read_bytes() for p in new})
        lake.commit("main", "housekeeping", {})
    finally:
        lake.close()


# -- the story --------------------------------------------------------------------------------------------------------
def run(
    make: Callable[[str], Registry],
    flights: pl.DataFrame,
    work: Path,
    say: Callable[[str], None],
    step: Callable[[str], None],
) -> str:
    """Tell the story, assert what it says, and return the URL of the lake, whose audit fails at the end.

    Args:
        make: Makes the signed lake, given who acts.
        flights: Flights of January to September.
        work: A folder for what it needs.
        say: Prints a line.
        step: Prints the title of the next step.
    """
    september = prepare(flights.filter(month=9)).select(*KEY, *FEATURES[2:], "late").unique(KEY, maintain_order=True)
    learned = candidates(flights)
    with team(make, work) as people:
        ada, grace, pipeline = people.ada, people.grace, people.pipeline

        step(
            "A lake in which every event is signed. Ada trains, Grace approves, the pipeline promotes; each has a key."
        )
        september.write_parquet(work / "september.parquet")
        ada.add_dataset(HELD_OUT, work / "september.parquet", key=KEY)
        (first_data, *others) = learned.items()
        first = register(people, first_data[1], first_data[0], work)
        ada.set_gates(MODEL, HERE / "gates.toml")
        for line in table(pipeline.check_gates(first.reference)):
            say(f"   {line}")
        assert not pipeline.check_gates(first.reference).passed
        grace.approve(first.reference, "production", reason="the first, and better than none")
        pipeline.promote(first.reference, "production")
        say(f"   Once Grace has approved, {first.reference} is in production.")

        step("A candidate that is better on the whole, and worse at JFK. It is refused, and JFK is named.")
        wrong = register(people, others[0][1], others[0][0], work)
        grace.approve(wrong.reference, "production", reason="AUC is up")
        before, after = (metric(ada, each, "") for each in (first, wrong))
        assert after > before
        say(f"   AUC on all of September: {before:.4f} before, {after:.4f} now.")
        error = refused(people, wrong)
        say(f"   refused: {error.message}")
        assert "origin=JFK" in error.message
        assert "LGA" not in error.message
        assert pipeline.resolve(f"{MODEL}@champion").version == first.version

        step("The mended one passes, and gets 5 %, then 25 %, then all of the requests.")
        mended = register(people, others[1][1], others[1][0], work)
        grace.approve(mended.reference, "production", reason="JFK is as good as it was")
        promoted = pipeline.promote(mended.reference, "production", traffic=5)
        assert all(result.passed for result in promoted.results)
        asked = september.sample(2000, seed=1)
        both_answer(people, first, mended, asked)
        for percent in (25, 100):
            moved = pipeline.set_traffic(MODEL, percent)
            live = next(result for result in moved.results if result.kind == "live")
            say(f"   {percent:>3} %: {live.gate}, required {live.required}, found {live.found}")
        assert pipeline.resolve(f"{MODEL}@champion").version == mended.version
        routes = [pipeline.route(MODEL, key=str(customer)).version for customer in range(100)]
        assert set(routes) == {mended.version}

        step("Another one passes every gate, and then its server gets the columns wrong. `watch` rolls it back.")
        ada.set_alias(MODEL, "challenger", wrong.version)
        worse = register(people, others[1][1].sample(fraction=0.9, seed=2), "trained again", work)
        grace.approve(worse.reference, "production", reason="the same, nearly")
        pipeline.promote(worse.reference, "production", traffic=5)
        both_answer(people, mended, worse, asked, wrongly=True)
        watched = pipeline.watch(MODEL)
        assert watched.failed, watched
        assert watched.rolled_back is not None
        say(f"   rolled back: {watched.rolled_back.reason}")
        serving = pipeline.serving("production", name=MODEL)
        assert [(each.version, each.traffic) for each in serving] == [(mended.version, 100.0)]

        step("Who let what in, why, and who was refused; and the audit of every event's signature.")
        for entry in pipeline.history(MODEL, limit=6):
            say(f"   {entry.commit[:12]}  {entry.actor:<8}  {entry.message}")
        audit = ada.audit()
        say(f"   {audit}")
        assert audit.clean

        step("Somebody without a key writes a row into the Delta table: the refused version is champion, it says.")
        standing = ada.sql("SELECT event_id FROM standing_events WHERE kind = 'alias' AND key = 'champion'").fetchall()
        forge(ada.url, wrong.model_id, wrong.version_id, standing[0][0], work)
        assert pipeline.resolve(f"{MODEL}@champion").version == mended.version
        say(f"   {MODEL}@champion is version {mended.version} all the same.")
        audit = ada.audit()
        assert not audit.clean
        (finding,) = audit.findings
        say(f"   The audit: {finding}")
        return ada.url


def metric(reg: Registry, version: ModelVersion, part: str) -> float:
    """Return the AUC of a version on a slice, or on all rows."""
    return next(each.value for each in reg.metrics(version.reference) if (each.key, each.slice) == ("auc", part))


def table(evaluation: Evaluation) -> list[str]:
    """Return what gates found, a line each."""
    return [
        f"{'passed' if each.passed else 'FAILED'}  {each.gate}: required {each.required}, found {each.found}"
        for each in evaluation.results
    ]
