"""Files of predictions and outcomes: read alike from every format, taken in once and whole, found again, judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.command_line import CommandLine

from headwater.errors import HeadwaterError, InvalidInputError, NotFoundError
from headwater.ids import is_id, micros_of
from headwater.registry import Registry
from headwater.serving_model import Deployment

TIMES = ["2026-11-01T10:00:00.123456Z", "2026-11-01T09:00:00Z", "2026-11-02T12:30:00+02:00"]
ROWS: list[dict[str, Any]] = [
    {"id": "a", "predicted_at": TIMES[0], "origin": "JFK", "hour": 7, "output": "late", "score": 0.75, "latency_ms": 2},
    {"id": "b", "predicted_at": TIMES[1], "origin": "LGA", "hour": 8, "output": "late", "score": 0.5, "latency_ms": 3},
    {"id": "c", "predicted_at": TIMES[2], "origin": None, "hour": 9, "output": "on", "score": 0.25, "latency_ms": None},
]


@pytest.fixture
def deployment(registry: Registry) -> Deployment:
    Path("artifact").write_text("weights")
    registry.register("m", "artifact")
    return registry.deploy("m/1", "production")


def as_csv(rows: list[dict[str, Any]], path: str) -> str:
    lines = [",".join(rows[0])]
    lines += [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
    Path(path).write_text("\n".join(lines) + "\n")
    return path


def as_lines(rows: list[dict[str, Any]], path: str) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_arrow(rows: list[dict[str, Any]]) -> pa.Table:
    times = [datetime.fromisoformat(row["predicted_at"]).astimezone(UTC) for row in rows]
    rest = {name: [row[name] for row in rows] for name in rows[0] if name != "predicted_at"}
    return pa.table({"predicted_at": pa.array(times, pa.timestamp("us", "UTC")), **rest})


def as_parquet(rows: list[dict[str, Any]], path: str) -> str:
    pq.write_table(as_arrow(rows), path)
    return path


FORMATS: dict[str, Callable[[], Any]] = {
    "csv": lambda: as_csv(ROWS, "rows.csv"),
    "lines": lambda: as_lines(ROWS, "rows.jsonl"),
    "json": lambda: str(Path("rows.json").write_text(json.dumps(ROWS)) and "rows.json"),
    "parquet": lambda: as_parquet(ROWS, "rows.parquet"),
    "arrow": lambda: as_arrow(ROWS),
    "polars": lambda: pl.from_arrow(as_arrow(ROWS)),
}


# -- taking in --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_of_any_format_makes_the_same_rows(registry: Registry, deployment: Deployment, format_: str) -> None:
    logged = registry.log_predictions(FORMATS[format_](), deployment)
    assert (logged.rows, logged.created, logged.deployment_id) == (3, True, deployment.deployment_id)
    assert logged.first_at == datetime(2026, 11, 1, 9, tzinfo=UTC)
    assert logged.last_at == datetime(2026, 11, 2, 10, 30, tzinfo=UTC)
    found = registry.sql(
        "SELECT external_id, predicted_at, output, score, latency_ms, input, name, version, environment, mode,"
        " version_id, label, correct FROM predictions ORDER BY prediction_id"
    ).dicts()
    assert [row["external_id"] for row in found] == ["b", "a", "c"]
    first = found[1]
    assert first["predicted_at"] == datetime(2026, 11, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert (first["output"], first["score"], first["latency_ms"]) == ("late", 0.75, 2.0)
    assert [json.loads(row["input"]) for row in found] == [
        {"origin": "LGA", "hour": 8},
        {"origin": "JFK", "hour": 7},
        {"origin": None, "hour": 9},
    ]
    assert (first["name"], first["version"], first["environment"], first["mode"]) == ("m", 1, "production", "live")
    assert first["version_id"] == deployment.version_id
    assert found[2]["latency_ms"] is None
    assert (first["label"], first["correct"]) == (None, None)
    ids = [row[0] for row in registry.sql("SELECT prediction_id FROM predictions ORDER BY predicted_at").fetchall()]
    assert ids == sorted(ids)
    assert all(is_id(each) for each in ids)
    assert micros_of(ids[1]) == int(datetime(2026, 11, 1, 10, 0, 0, 123000, tzinfo=UTC).timestamp() * 1_000_000)
    landed = registry.sql("SELECT count(*) FROM lake.predictions p JOIN lake.commits c USING (tx) WHERE c.commit = ?",
                          [logged.commit]).fetchall()  # fmt: skip
    assert landed == [(3,)]


def test_the_same_file_twice_is_nothing_new(registry: Registry, deployment: Deployment) -> None:
    first = registry.log_predictions(as_csv(ROWS, "rows.csv"), deployment)
    head = registry.head
    again = registry.log_predictions(as_csv(ROWS, "other-name.csv"), deployment.deployment_id)
    assert (again.created, again.commit, again.rows, again.digest) == (False, first.commit, 3, first.digest)
    assert again.source == "rows.csv"
    assert registry.head == head
    other = registry.deploy("m/1", "staging")
    assert registry.log_predictions("rows.csv", other).created
    assert registry.sql("SELECT count(*), count(DISTINCT prediction_id) FROM predictions").fetchall() == [(6, 6)]


def test_the_same_table_twice_is_nothing_new_however_it_is_chunked(registry: Registry, deployment: Deployment) -> None:
    table = as_arrow(ROWS)
    assert registry.log_predictions(table, deployment).created
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert not registry.log_predictions(chunked, deployment).created


def test_the_same_file_on_two_branches_makes_the_same_rows(registry: Registry, deployment: Deployment) -> None:
    exp = registry.create_branch("exp")
    as_csv(ROWS, "rows.csv")
    registry.log_predictions("rows.csv", deployment)
    exp.log_predictions("rows.csv", deployment)
    asked = "SELECT * EXCLUDE (tx, recorded_at) FROM lake.predictions ORDER BY prediction_id"
    assert registry.sql(asked).fetchall() == exp.sql(asked).fetchall()


def test_many_rows_become_files_in_the_order_of_time(
    registry: Registry, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.prediction_rows._PIECE_ROWS", 20_000)
    monkeypatch.setattr("headwater.prediction_files._BATCH", 10_240)
    count = 70_000
    times = pa.array([1_760_000_000_000_000 + (i * 7919 % count) * 1000 for i in range(count)], pa.int64())
    table = pa.table({"id": [f"x{i}" for i in range(count)], "predicted_at": times.cast(pa.timestamp("us", "UTC"))})
    logged = registry.log_predictions(table, deployment)
    assert logged.rows == count
    found = registry.sql("SELECT count(*), count(DISTINCT prediction_id), count(DISTINCT external_id) FROM predictions")
    assert found.fetchall() == [(count, count, count)]
    with registry._context.reading() as fold:
        files = fold.table("predictions").files
        assert len(files) > 1
        for path, local in zip(files, registry._context.lake.localize(
            fold.commit, [f"tables/predictions/{path}" for path in files]).values(), strict=True):  # fmt: skip
            ids = pq.read_table(local, columns=["prediction_id"]).column(0).to_pylist()
            assert ids == sorted(ids), path
            assert list(files[path].ranges["prediction_id"]) == [ids[0], ids[-1]]  # type: ignore[index]
    one = registry.find_prediction(deployment, "x69999")
    assert registry.prediction(one.prediction_id) == one


def test_very_many_small_files_become_few(
    registry: Registry, deployment: Deployment, is_remote: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.tables.FAN_IN", 4 if is_remote else 8)
    count = 10 if is_remote else 40
    for number in range(count):
        registry.log_predictions(pa.table({"id": [f"x{number}"]}), deployment)
    assert registry.sql("SELECT count(DISTINCT prediction_id) FROM predictions").fetchall() == [(count,)]
    with registry._context.reading() as fold:
        assert len(fold.table("predictions").files) < count / 2
    assert registry.find_prediction(deployment, "x3").external_id == "x3"


@pytest.fixture
def is_remote(registry_url: str) -> bool:
    return registry_url.startswith("lakefs")


def test_missing_times_are_now_and_other_names_can_be_given(registry: Registry, deployment: Deployment) -> None:
    before = datetime.now(UTC)
    as_csv([{"key": 5, "said": "0.1", "p": "nan", "ms": 2.5, "x": "é"}], "rows.csv")
    registry.log_predictions(
        "rows.csv", deployment, external_id="key", output="said", score="p", latency_ms="ms"
    )  # fmt: skip
    (row,) = registry.sql("SELECT * FROM lake.predictions").dicts()
    assert (row["external_id"], row["output"], row["latency_ms"]) == ("5", "0.1", 2.5)
    assert row["score"] != row["score"]
    assert json.loads(row["input"]) == {"x": "é"}
    assert before <= row["predicted_at"] <= datetime.now(UTC)


@pytest.mark.parametrize("as_file", [as_lines, as_parquet])
def test_nan_in_features_is_text_that_json_can_hold(
    registry: Registry, deployment: Deployment, as_file: Callable[..., str]
) -> None:
    numbers = [float("nan"), float("inf"), 1.5]
    rows = [{**row, "x": number, "n": {"y": number}} for row, number in zip(ROWS, numbers, strict=True)]
    registry.log_predictions(as_file(rows, "rows.jsonl" if as_file is as_lines else "rows.parquet"), deployment)
    found = dict(registry.sql("SELECT external_id, input FROM predictions").fetchall())
    strict = {key: json.loads(text, parse_constant=pytest.fail) for key, text in found.items()}
    assert [strict[key]["x"] for key in "abc"] == ["NaN", "Infinity", 1.5]
    assert [strict[key]["n"]["y"] for key in "abc"] == ["NaN", "Infinity", 1.5]


@pytest.mark.parametrize("as_file", [as_lines, as_arrow])
def test_an_input_of_its_own_takes_the_other_columns_in(
    registry: Registry, deployment: Deployment, as_file: Callable[..., Any]
) -> None:
    rows = [{**row, "input": {"hour": 1, "new": [1, 2]}} for row in ROWS]
    registry.log_predictions(as_file(rows, "rows.jsonl") if as_file is as_lines else as_file(rows), deployment)
    (text,) = registry.sql("SELECT input FROM predictions WHERE external_id = 'a'").fetchall()[0]
    assert json.loads(text) == {"hour": 7, "new": [1, 2], "origin": "JFK"}


@pytest.mark.parametrize("as_file", [as_lines, as_csv])
def test_features_can_lie_in_a_dataset(registry: Registry, deployment: Deployment, as_file: Callable[..., str]) -> None:
    Path("d.csv").write_text("flight,day\n1,2\n")
    version = registry.add_dataset("flights", "d.csv")
    rows = [{"id": row["id"], "flight": number, "day": 3, "output": "x"} for number, row in enumerate(ROWS)]
    place = as_file(rows, "rows.jsonl" if as_file is as_lines else "rows.csv")
    registry.log_predictions(place, deployment, dataset="flights@1.0.0", row_key=["flight", "day"])
    found = registry.find_prediction(deployment, "b")
    assert (found.dataset_id, found.row_key, found.input) == (version.dataset_id, {"flight": 1, "day": 3}, None) or (
        found.dataset_id, found.row_key, found.input) == (version.dataset_id, {"flight": 1, "day": 3}, {})  # fmt: skip
    named = [{"id": f"n{number}", "dataset": "flights@1.0.0", "row_key": '{"flight": 1}'} for number in range(2)]
    registry.log_predictions(pa.Table.from_pylist(named), deployment)
    assert registry.find_prediction(deployment, "n1").dataset_id == version.dataset_id
    with pytest.raises(NotFoundError, match="there is no version flights@9"):
        registry.log_predictions(pa.table({"dataset": ["flights@9.0.0"]}), deployment)
    with pytest.raises(InvalidInputError, match="a version is needed"):
        registry.log_predictions(place, deployment, dataset="flights")


# -- what is refused --------------------------------------------------------------------------------------------------
def write(path: str, content: str | bytes) -> str:
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "external ID twice": (lambda: write("x.csv", "id,output\n1,a\n2,b\n1,c\n"), "has external ID '1' twice"),
    "twice in lines": (lambda: write("x.jsonl", '{"id": "q"}\n{"id": "q"}\n'), "has external ID 'q' twice"),
    "no rows": (lambda: write("x.csv", "id,output\n"), "has no rows"),
    "empty": (lambda: write("x.csv", ""), "it is empty"),
    "ragged": (lambda: write("x.csv", "id,output\n1,a\n2\n3,c,d\n"), "line"),
    "encoding": (lambda: write("x.csv", b"id,output\n1,ol\xe9\n"), "UTF-8"),
    "columns": (lambda: write("x.csv", ",".join(f"c{i}" for i in range(10_001)) + "\n"), "10,001 columns"),
    "no table": (lambda: write("x.txt", "hello"), "no table by its name"),
    "not parquet": (lambda: write("x.parquet", "hello"), "can't be read"),
    "not JSON": (lambda: write("x.jsonl", '{"id": 1}\n{"id": \n'), "JSON"),
    "no objects": (lambda: write("x.jsonl", '[1]\n"a"\n'), "not JSON objects"),
    "no zone": (lambda: write("x.csv", "id,predicted_at\n1,2026-11-01 10:00:00\n"), "does not say its time zone"),
    "no zone in a line": (lambda: write("x.jsonl", '{"predicted_at": "2026-11-01T10:00:00"}\n'), "time zone"),
    "a date": (lambda: write("x.csv", "id,predicted_at\n1,2026-11-01\n"), "does not say its time zone"),
    "a number for a time": (lambda: write("x.csv", "id,predicted_at\n1,12\n"), "is BIGINT, and no time"),
    "before 1970": (lambda: write("x.csv", "id,predicted_at\n1,1969-11-01T10:00:00Z\n"), "before 1970"),
    "a word for a score": (lambda: write("x.jsonl", '{"score": "high"}\n'), "'high' is not a number"),
    "own IDs": (lambda: write("x.csv", "prediction_id,output\n1,2\n"), "Headwater gives those"),
    "another deployment": (lambda: write("x.csv", "deployment_id,output\nzzz,2\n"), "of deployment 'zzz', not of"),
    "another version": (lambda: write("x.csv", "version_id,output\nzzz,2\n"), "of version 'zzz', not of"),
    "input is no object": (lambda: pa.table({"input": ["[1]"]}), "column input holds what is no JSON object"),
    "nothing there": (lambda: "nowhere.csv", "can't be read"),
    "a folder": (lambda: Path(), "is not a file"),
    "a number": (lambda: 5, "not a file or table"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_files_are_one_sentence_and_nothing_is_written(
    registry: Registry, deployment: Deployment, case: str
) -> None:
    make, said = REFUSED[case]
    head = registry.head
    with pytest.raises(HeadwaterError, match=said) as caught:
        registry.log_predictions(make(), deployment)
    assert "\n" not in caught.value.message
    assert registry.head == head
    assert registry.sql("SELECT count(*) FROM lake.predictions").fetchall() == [(0,)]


def test_what_is_not_there_is_refused(registry: Registry, deployment: Deployment) -> None:
    as_csv(ROWS, "rows.csv")
    with pytest.raises(NotFoundError, match="no deployment 'none'"):
        registry.log_predictions("rows.csv", "none")
    with pytest.raises(InvalidInputError, match="no column 'nope'"):
        registry.log_predictions("rows.csv", deployment, output="nope")
    with pytest.raises(InvalidInputError, match="no column 'nope'"):
        registry.log_predictions("rows.csv", deployment, row_key=["nope"])
    with pytest.raises(InvalidInputError, match="not a time zone"):
        registry.log_predictions("rows.csv", deployment, timezone="Mars' OR 1=1")
    with pytest.raises(InvalidInputError, match="can be read, not written"):
        registry.at("main").log_predictions("rows.csv", deployment)


@pytest.mark.parametrize("place", ["x.csv", "x.jsonl"])
def test_a_zone_can_be_said(registry: Registry, deployment: Deployment, place: str) -> None:
    text = "2026-07-01 10:00:00"
    write(place, f"id,predicted_at\n1,{text}\n" if place == "x.csv" else f'{{"id": 1, "predicted_at": "{text}"}}\n')
    registry.log_predictions(place, deployment, timezone="Europe/Berlin")
    assert registry.find_prediction(deployment, "1").predicted_at == datetime(2026, 7, 1, 8, tzinfo=UTC)


# -- outcomes ---------------------------------------------------------------------------------------------------------
def ids_of(registry: Registry) -> dict[str, str]:
    return dict(registry.sql("SELECT external_id, prediction_id FROM predictions").fetchall())


def judged(registry: Registry) -> dict[str, tuple[str | None, bool | None]]:
    rows = registry.sql("SELECT external_id, label, correct FROM predictions").fetchall()
    return {name: (label, correct) for name, label, correct in rows}


def test_outcomes_join_and_the_last_observed_stands(registry: Registry, deployment: Deployment) -> None:
    registry.log_predictions(as_csv(ROWS, "rows.csv"), deployment)
    ids = ids_of(registry)
    lines = [f"{ids['a']},late,2026-11-05T00:00:00Z", f"{ids['b']},on,2026-11-05T00:00:00Z"]
    logged = registry.log_outcomes(write("o.csv", "prediction_id,label,observed_at\n" + "\n".join(lines) + "\n"))
    assert (logged.rows, logged.created, logged.deployment_id, logged.unknown) == (2, True, None, None)
    assert judged(registry) == {"a": ("late", True), "b": ("on", False), "c": (None, None)}
    earlier = f"prediction_id,label,observed_at\n{ids['a']},on,2026-11-04T00:00:00Z\n"
    registry.log_outcomes(write("p.csv", earlier))
    assert judged(registry)["a"] == ("late", True)
    registry.log_outcomes(write("q.csv", earlier.replace("11-04", "11-06")))
    assert judged(registry)["a"] == ("on", False)
    assert registry.prediction(ids["a"]).label == "on"
    assert registry.prediction(ids["a"]).observed_at == datetime(2026, 11, 6, tzinfo=UTC)
    assert registry.prediction(ids["c"]).label is None
    assert not registry.log_outcomes("q.csv").created


def test_outcomes_by_external_id(registry: Registry, deployment: Deployment) -> None:
    registry.log_predictions(as_csv(ROWS, "rows.csv"), deployment)
    other = registry.deploy("m/1", "staging")
    registry.log_predictions(as_csv(ROWS[:1], "one.csv"), other)
    write("o.csv", "id,label\na,late\nb,1\nzzz,0\n")
    with pytest.raises(InvalidInputError, match="names predictions by external ID"):
        registry.log_outcomes("o.csv")
    logged = registry.log_outcomes("o.csv", deployment)
    assert (logged.rows, logged.unknown) == (2, 1)
    assert registry.find_prediction(deployment, "a").label == "late"
    assert registry.find_prediction(other, "a").label is None
    head = registry.head
    with pytest.raises(NotFoundError, match="no row of"):
        registry.log_outcomes(write("z.csv", "id,label\nzzz,0\n"), deployment)
    assert registry.head == head
    registry.log_outcomes(pl.DataFrame({"external_id": ["c"], "label": ["on"]}), deployment)
    assert judged(registry.at("main"))["c"] == ("on", True)


def test_an_outcome_may_come_before_its_prediction_lands(registry: Registry, deployment: Deployment) -> None:
    exp = registry.create_branch("exp")
    exp.log_predictions(as_csv(ROWS, "rows.csv"), deployment)
    registry.log_outcomes(pa.table({"prediction_id": [ids_of(exp)["a"]], "label": ["late"]}))
    registry.log_predictions("rows.csv", deployment)
    assert judged(registry)["a"] == ("late", True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("prediction_id,label\nx,1\n", "not a prediction's ID: 'x'"),
        ("prediction_id,label\n{a},1\n{a},2\n", "twice"),
        ("prediction_id,label\n{a},\n", "without label"),
        ("prediction_id,label\n,1\n{a},1\n", "without prediction_id"),
        ("label\n1\n", "without prediction_id"),
        ("prediction_id\n{a}\n", "without label"),
        ("prediction_id,label,observed_at\n{a},1,2026-11-01 10:00:00\n", "time zone"),
    ],
)
def test_bad_outcomes_are_refused(registry: Registry, deployment: Deployment, content: str, said: str) -> None:
    registry.log_predictions(as_csv(ROWS, "rows.csv"), deployment)
    head = registry.head
    with pytest.raises(InvalidInputError, match=said):
        registry.log_outcomes(write("o.csv", content.replace("{a}", ids_of(registry)["a"])))
    assert registry.head == head


def test_numbers_are_compared_as_numbers(registry: Registry, deployment: Deployment) -> None:
    registry.log_predictions(pa.table({"id": ["1", "2", "3"], "output": ["1.0", "1.0", "x"]}), deployment)
    registry.log_outcomes(pa.table({"id": ["1", "2", "3"], "label": ["1", "2", "1"]}), deployment)
    assert {name: correct for name, (_, correct) in judged(registry).items()} == {"1": True, "2": False, "3": False}


# -- finding and judging ----------------------------------------------------------------------------------------------
def test_one_prediction_is_found(registry: Registry, deployment: Deployment) -> None:
    logged = registry.log_predictions(as_csv(ROWS, "rows.csv"), deployment)
    wanted = ids_of(registry)["a"]
    found = registry.prediction(f"prediction:{wanted}")
    assert (found.prediction_id, found.external_id, found.name, found.version) == (wanted, "a", "m", 1)
    assert found.predicted_at == datetime(2026, 11, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert found.input == {"origin": "JFK", "hour": 7}
    assert (found.output, found.score, found.commit) == ("late", 0.75, logged.commit)
    with pytest.raises(NotFoundError, match="no prediction"):
        registry.prediction(deployment.deployment_id)
    with pytest.raises(InvalidInputError, match="not a prediction's ID"):
        registry.prediction("a")
    with pytest.raises(NotFoundError, match="external ID 'zzz'"):
        registry.find_prediction(deployment, "zzz")
    with pytest.raises(NotFoundError, match="no deployment"):
        registry.find_prediction("zzz", "a")


def test_the_newest_prediction_of_an_external_id_is_found(registry: Registry, deployment: Deployment) -> None:
    registry.log_predictions(as_csv(ROWS, "rows.csv"), deployment)
    later = [{**ROWS[0], "predicted_at": "2026-12-01T00:00:00Z", "output": "new"}]
    registry.log_predictions(as_csv(later, "later.csv"), deployment)
    assert registry.find_prediction(deployment, "a").output == "new"


def test_live_metrics_by_day_and_slice(registry: Registry, deployment: Deployment) -> None:
    registry.log_predictions(as_csv(ROWS, "rows.csv"), deployment)
    registry.log_outcomes(pa.table({"id": ["a", "b"], "label": ["late", "on"]}), deployment)
    registry.log_outcomes(pa.table({"id": ["b"], "label": ["late"]}), deployment)
    days = registry.sql(
        "SELECT CAST(day AS VARCHAR), name, version, predictions, labelled, accuracy, mean_score, mean_latency_ms"
        " FROM live_metrics ORDER BY day"
    ).fetchall()
    assert days == [("2026-11-01", "m", 1, 2, 2, 1.0, 0.625, 2.5), ("2026-11-02", "m", 1, 1, 0, None, 0.25, None)]
    asked = "SELECT slice, predictions, accuracy FROM live_metrics_by('origin', since := '2026-11-01', until := ?)"
    assert registry.sql(f"{asked} ORDER BY slice", ["2026-11-02"]).fetchall() == [("JFK", 1, 1.0), ("LGA", 1, 1.0)]
    assert len(registry.sql(asked, ["2026-11-03"])) == 3


def test_commands(
    registry: Registry, deployment: Deployment, registry_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    cli, by = CommandLine(), deployment.deployment_id
    as_csv([{**row, "predicted_at": row["predicted_at"][:19].replace("T", " ")} for row in ROWS], "rows.csv")
    assert cli.error("predictions", "log", "rows.csv", "--deployment", by, status=2)[0] == "InvalidInputError"
    logged = cli.json("predictions", "log", "rows.csv", "--deployment", by, "--timezone", "UTC")
    assert (logged["rows"], logged["created"], logged["first_at"]) == (3, True, "2026-11-01T09:00:00.000000Z")
    assert "nothing is new" in cli.out("predictions", "log", "rows.csv", "--deployment", by)
    write("o.csv", "id,label\na,late\nq,late\n")
    text = cli.out("predictions", "outcomes", "o.csv", "--deployment", by)
    assert "1 outcome logged" in text
    assert "1 row left out" in text
    found = cli.json("predictions", "show", "a", "--deployment", by)
    assert (found["external_id"], found["label"], found["input"]) == ("a", "late", {"origin": "JFK", "hour": 7})
    text = cli.out("predictions", "show", found["prediction_id"])
    assert "m/1, live in production" in text
    assert cli.out("show", f"prediction:{found['prediction_id']}") == text
    assert cli.error("predictions", "show", by, status=1)[0] == "NotFoundError"


def test_outcomes_that_came_before_their_prediction_are_taken_in_when_the_file_comes_again(
    registry: Registry, deployment: Deployment
) -> None:
    registry.log_predictions(pa.table({"id": ["a"], "output": ["1"]}), deployment)
    outcomes = pa.table({"external_id": ["a", "b"], "label": ["1", "0"]})
    assert registry.log_outcomes(outcomes, deployment).unknown == 1
    assert not registry.log_outcomes(outcomes, deployment).created
    registry.log_predictions(pa.table({"id": ["b"], "output": ["1"]}), deployment)
    again = registry.log_outcomes(outcomes, deployment)
    assert (again.created, again.unknown) == (True, 0)
    assert not registry.log_outcomes(outcomes, deployment).created
    found = registry.sql("SELECT external_id, label, correct FROM predictions ORDER BY external_id").fetchall()
    assert found == [("a", "1", True), ("b", "0", False)]
