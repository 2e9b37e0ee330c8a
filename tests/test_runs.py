"""Runs: start, log, use, register, list and look at them, as a person does it, on both lakes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import headwater
from headwater.errors import HeadwaterError, InvalidInputError, LakeError, NotFoundError
from headwater.registry import Registry
from headwater.run import Run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(1000))
    return path


@pytest.fixture
def flights(registry: Registry, tmp_path: Path) -> str:
    """A dataset of three rows, version 1.0.0."""
    frame = pl.DataFrame({"id": [1, 2, 3], "origin": ["JFK", "LGA", "JFK"], "delay": [1.5, None, 3.0]})
    frame.write_parquet(tmp_path / "flights.parquet")
    return registry.add_dataset("flights", tmp_path / "flights.parquet", key=["id"]).reference


def edges(registry: Registry) -> set[tuple[str, str, str]]:
    return set(registry.sql("SELECT source, relation, target FROM lake.lineage").fetchall())


# -- beginning and end ------------------------------------------------------------------------------------------------
def test_a_run_records_what_it_is_and_how_it_ended(registry: Registry) -> None:
    with registry.start_run(
        "train", experiment="delays", params={"depth": 6}, tags={"team": "ops"}, description="first"
    ) as run:
        assert headwater.current_run() is run
        assert registry.run(run.run_id).status == "running"
        assert registry.run(run.run_id).ended_at is None
    assert headwater.current_run() is None
    (info,) = registry.runs()
    assert (info.run_id, info.name, info.experiment, info.status) == (run.run_id, "train", "delays", "finished")
    assert (info.params, info.tags, info.description, info.actor) == (
        {"depth": "6"},
        {"team": "ops"},
        "first",
        "tester",
    )
    assert info.ended_at is not None
    assert info.ended_at > info.started_at
    assert info.environment is not None
    assert info.host
    assert registry.at(info.commit).run(info.run_id).status == "running"
    assert registry.sql("SELECT status, ended_at IS NOT NULL, params['depth'], tags['team'] FROM runs").fetchall() == [
        ("finished", True, "6", "ops")
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), "failed"),
        (KeyboardInterrupt(), "killed"),
        (SystemExit(2), "failed"),
        (SystemExit(0), "finished"),
    ],
)
def test_what_leaves_the_block_says_how_the_run_ended(registry: Registry, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), registry.start_run() as run:
        raise error
    assert registry.run(run.run_id).status == status


def test_a_run_may_be_ended_by_hand_and_only_once(registry: Registry) -> None:
    run = registry.start_run()
    with pytest.raises(InvalidInputError, match="'done'"):
        run.finish("done")
    run.finish("failed", exit_status=3)
    run.finish("finished")
    assert (registry.run(run.run_id).status, registry.run(run.run_id).exit_status) == ("failed", 3)


def test_code_command_and_seeds_are_recorded(registry_url: str, tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "sub").mkdir(parents=True)
    script = "import headwater\nwith headwater.open() as reg:\n    with reg.start_run(): pass\n"
    (code / "sub" / "train.py").write_text(script)
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"],
    ):
        subprocess.run(["git", *words], cwd=code, check=True)
    (code / "sub" / "train.py").write_text(script + "# changed\n")
    environment = {
        **os.environ,
        "HEADWATER_LAKE": registry_url,
        "PYTHONHASHSEED": "7",
        "MY_SEED": "42",
        "SEED_PHRASE": "a b",
    }
    subprocess.run([sys.executable, "train.py", "--x", "1"], cwd=code / "sub", env=environment, check=True)
    with headwater.open(registry_url) as registry:
        (info,) = registry.runs()
        assert info.command == ("python", "train.py", "--x", "1")
        assert info.folder == "sub"
        assert info.seeds == {"MY_SEED": "42", "PYTHONHASHSEED": "7"}
        assert info.code is not None
        assert info.code["dirty"]
        digest = info.code["patch"]
        patch = registry._context.lake.read(registry.head, f"patches/{digest[-2:]}/{digest}.patch")
        assert b"+# changed" in patch
        assert (f"code:{info.code['repository']}@{info.code['commit']}", "built", f"run:{info.run_id}") in edges(
            registry
        )


def test_nested_runs_know_their_parent(registry: Registry) -> None:
    with registry.start_run("outer", experiment="e") as outer:
        with outer.start_run("inner") as inner:
            assert headwater.current_run() is inner
        with registry.start_run("also inner") as also:
            pass
        with registry.start_run("apart", nested=False) as apart:
            pass
    found = {run.name: run for run in registry.runs()}
    assert found["inner"].parent_run_id == found["also inner"].parent_run_id == outer.run_id
    assert found["inner"].experiment == "e"
    assert found["apart"].parent_run_id is None
    with registry.start_run(parent=also) as child:
        pass
    assert registry.run(child.run_id).parent_run_id == also.run_id
    assert apart.ended
    with pytest.raises(InvalidInputError, match="no active run"):
        registry.start_run(nested=True)


def test_threads_have_runs_of_their_own_and_else_the_last_one(registry: Registry) -> None:
    seen: dict[str, Any] = {}

    def trial(name: str, ready: threading.Barrier) -> None:
        with registry.start_run(name) as run:
            ready.wait(60)
            seen[name] = headwater.current_run() is run
            ready.wait(60)

    ready = threading.Barrier(2)
    threads = [threading.Thread(target=trial, args=(name, ready)) for name in "ab"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert seen == {"a": True, "b": True}
    with registry.start_run() as run:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(headwater.current_run()))
        thread.start()
        thread.join()
        assert found == [run]


# -- metrics ----------------------------------------------------------------------------------------------------------
COLUMNS: list[Callable[[list[float]], Any]] = [
    list,
    tuple,
    lambda values: array("d", values),
    np.array,
    lambda values: np.array(values, "float32"),
    lambda values: np.array([values, values]).T[:, 0],
    pa.array,
    lambda values: pa.chunked_array([values[:1], values[1:]]),
    lambda values: pa.array([0.0, *values]).slice(1),
    pl.Series,
]


@pytest.mark.parametrize("make", COLUMNS)
def test_columns_of_any_kind_become_a_curve(registry: Registry, make: Callable[[list[float]], Any]) -> None:
    with registry.start_run() as run:
        run.log_metrics({"step": [0, 1, 5], "loss": make([3.0, 2.5, 0.5]), "lr": make([1.0, 1.0, 0.5])})
        run.log_metrics({"step": np.array([6]), "loss": make([0.25])})
    assert run.curve("loss").to_pydict() == {"step": [0, 1, 5, 6], "value": [3.0, 2.5, 0.5, 0.25]}
    assert registry.runs()[0].metrics == {"loss": 0.25, "lr": 0.5}


def test_tables_are_columns_as_well(registry: Registry) -> None:
    with registry.start_run() as run:
        run.log_metrics(pa.table({"step": [0, 1], "a": [1, 2]}))
        run.log_metrics(pl.DataFrame({"step": [2], "a": [3.5]}))
        run.log_metrics({"b": 1, "c": np.float32(2)}, step=4)
        run.log_metrics({"without": [1.0, 2.0]})
        run.log_metrics({"step": [], "nothing": []})
    assert run.curve("a").to_pydict() == {"step": [0, 1, 2], "value": [1.0, 2.0, 3.5]}
    assert run.curve("without").to_pydict() == {"step": [None, None], "value": [1.0, 2.0]}
    assert run.curve("c").to_pydict() == {"step": [4], "value": [2.0]}
    assert len(run.curve("unknown")) == 0
    assert registry.runs()[0].metrics == {"a": 3.5, "b": 1, "c": 2, "without": 2.0}


def test_the_newest_value_is_that_of_the_last_step_and_then_the_last_logged(registry: Registry, flights: str) -> None:
    with registry.start_run() as run:
        run.log_metric("auc", 0.9, step=5)
        run.log_metric("auc", 0.1, step=2)
        run.log_metric("auc", 0.8, step=5)
        run.log_metric("loss", 1)
        run.flush(wait=True)
        run.log_metric("auc", 0.2, step=3)
        run.log_metric("loss", 2)
        run.log_metric("auc", 0.7, slice={"origin": "JFK", "carrier": "B6"}, dataset=flights)
    assert registry.runs()[0].metrics == {"auc": 0.8, "loss": 2}
    dataset_id = registry.dataset(flights).dataset_id
    assert [(m.key, m.value, m.slice, m.step, m.dataset_id) for m in registry.run_metrics(run.run_id)] == [
        ("auc", 0.8, "", 5, None),
        ("auc", 0.7, "carrier=B6,origin=JFK", None, dataset_id),
        ("loss", 2.0, "", None, None),
    ]
    assert run.curve("auc").to_pydict() == {"step": [2, 3, 5, 5], "value": [0.1, 0.2, 0.9, 0.8]}
    assert len(run.curve("auc", slice={"carrier": "B6", "origin": "JFK"})) == 1
    by_sql = registry.sql("SELECT key, value FROM metrics WHERE version IS NULL ORDER BY key").fetchall()
    assert by_sql == [("auc", 0.8), ("loss", 2.0)]
    assert registry.sql("SELECT slice, run_id FROM slice_metrics").fetchall() == [("carrier=B6,origin=JFK", run.run_id)]


def test_nan_and_infinities_are_kept(registry: Registry) -> None:
    with registry.start_run() as run:
        run.log_metric("nan", math.nan)
        run.log_metrics({"step": [0, 1, 2], "x": [math.inf, -math.inf, math.nan]})
    assert math.isnan(registry.runs()[0].metrics["nan"])
    values = run.curve("x").column("value").to_pylist()
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])


def test_a_hundred_thousand_keys(registry: Registry) -> None:
    with registry.start_run() as run:
        for number in range(100_000):
            run.log_metric(f"key/{number}", number)
    metrics = registry.runs()[0].metrics
    assert len(metrics) == 100_000
    assert metrics["key/77777"] == 77777
    assert run.curve("key/5").to_pydict() == {"step": [None], "value": [5.0]}


def test_a_long_curve_is_whole_and_in_order(registry: Registry) -> None:
    values = np.random.default_rng(1).random(300_000)
    with registry.start_run() as run:
        for start in range(0, 300_000, 100_000):
            steps = np.arange(start, start + 100_000)
            run.log_metrics({"step": steps, "a": values[start : start + 100_000], "b": np.zeros(100_000)})
            run.flush(wait=start == 100_000)
    with registry.start_run() as other:
        other.log_metric("a", 1, step=0)
    curve = run.curve("a")
    assert curve.column("step").to_pylist() == list(range(300_000))
    assert np.array_equal(curve.column("value").to_numpy(), values)
    assert registry.run(run.run_id).metrics == {"a": values[-1], "b": 0.0}
    ordinals = registry.sql("SELECT tx, count(*), count(DISTINCT ordinal), max(ordinal) FROM lake.metrics GROUP BY tx")
    assert all(count == distinct == most + 1 for _, count, distinct, most in ordinals.fetchall())


def test_many_landings_and_compaction_keep_every_point(registry: Registry, is_fast: bool) -> None:
    count = 70 if is_fast else 34
    with registry.start_run() as run:
        for step in range(count):
            run.log_metric("x", step, step)
            run.flush(wait=True)
    assert run.curve("x").to_pydict() == {"step": list(range(count)), "value": [float(step) for step in range(count)]}


@pytest.fixture
def is_fast(registry_url: str) -> bool:
    return not registry_url.startswith("lakefs")


def test_the_sink_takes_what_frameworks_hand_around(registry: Registry) -> None:
    with registry.start_run() as run:
        sink = run.sink()
        sink({"loss": np.float32(0.5), "lr": 1}, 0)
        sink({"train": {"auc": [0.1, 0.2]}, "note": "text", "none": None, "empty": []}, 1)
        sink(None)
    assert registry.runs()[0].metrics == {"loss": 0.5, "lr": 1, "train/auc": 0.2}


# -- params, tags, artifacts ------------------------------------------------------------------------------------------
def test_a_param_has_one_value(registry: Registry) -> None:
    with registry.start_run(params={"depth": 6}) as run:
        run.log_param("depth", "6")
        run.log_params({"lr": 0.1, "seed": None})
        with pytest.raises(InvalidInputError, match=r"'depth' is '6' already, not '7'"):
            run.log_params({"new": 1, "depth": 7})
        assert run.params == {"depth": "6", "lr": "0.1", "seed": "None"}
    assert registry.runs()[0].params == {"depth": "6", "lr": "0.1", "seed": "None"}
    assert registry.sql("SELECT params['lr'] FROM runs").fetchall() == [("0.1",)]


def test_tags_and_descriptions_change(registry: Registry) -> None:
    with registry.start_run(tags={"a": 1, "b": 2}) as run:
        run.set_tags({"a": "x", "b": None})
        run.describe("what it is")
    (info,) = registry.runs()
    assert (info.tags, info.description) == ({"a": "x"}, "what it is")
    assert registry.sql("SELECT tags['a'], tags['b'], description FROM runs").fetchall() == [("x", None, "what it is")]


def test_artifacts_are_kept_with_the_run(registry: Registry, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plots"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    with registry.start_run() as run:
        assert [file.path for file in run.log_artifact(model)] == ["model.bin"]
        run.log_artifact(folder)
        run.log_artifact(folder / "a.txt", "notes/b.txt")
        (folder / "a.txt").write_text("other")
        run.log_artifact(folder)
    info = registry.run(run.run_id)
    assert [file.path for file in info.artifacts()] == ["model.bin", "notes/b.txt", "plots/a.txt"]
    place = info.pull(tmp_path / "out")
    assert (place / "plots" / "a.txt").read_text() == "other"
    assert (place / "notes" / "b.txt").read_text() == "a"
    assert (place / "model.bin").read_bytes() == model.read_bytes()
    with registry.start_run() as empty, pytest.raises(NotFoundError, match="no artifacts"):
        empty.pull(tmp_path / "none")
    for name in ("../up", "/etc/passwd", "a//b", "", "a/./b"):
        with pytest.raises(InvalidInputError):
            registry.log_artifact(run.run_id, model, name)


# -- lineage ----------------------------------------------------------------------------------------------------------
def test_a_version_knows_its_run_inputs_metrics_and_code(registry: Registry, model: Path, flights: str) -> None:
    with registry.start_run(params={"depth": 6}) as run:
        assert run.use(flights).reference == flights
        run.log_metric("auc", 0.7, step=1)
        run.log_metric("auc", 0.8, step=2)
        run.log_metric("auc", 0.6, slice={"origin": "JFK"}, dataset=flights)
        run.log_metric("loss", 0.5)
        version = run.register("flight-delay", model, metrics={"loss": 0.4})
        run.log_metric("auc", 0.1, step=3)
    dataset_id = registry.dataset(flights).dataset_id
    assert version.run_id == run.run_id
    assert version.metrics == {"auc": 0.8, "loss": 0.4}
    assert registry.trained_on("flight-delay/1") == [flights]
    assert registry.run_inputs(run.run_id) == [flights]
    assert [each.reference for each in registry.run_versions(run.run_id)] == ["flight-delay/1"]
    assert {
        (f"dataset:{dataset_id}", "used", f"run:{run.run_id}"),
        (f"dataset:{dataset_id}", "trained", f"model:{version.version_id}"),
        (f"run:{run.run_id}", "produced", f"model:{version.version_id}"),
    } <= edges(registry)
    rows = registry.sql("SELECT key, value, step FROM metrics WHERE version = 1 ORDER BY key").fetchall()
    assert rows == [("auc", 0.8, 2), ("loss", 0.4, None)]
    assert registry.sql("SELECT value FROM slice_metrics WHERE version = 1").fetchall() == [(0.6,)]
    assert registry.run(run.run_id).metrics == {"auc": 0.1, "loss": 0.5}


def test_a_version_can_name_its_run_afterwards(registry: Registry, model: Path, flights: str) -> None:
    with registry.start_run() as run:
        run.use(flights)
        run.log_metric("auc", 0.7)
    version = registry.register("m", model, run=run.run_id[-12:])
    assert (version.run_id, version.metrics, registry.trained_on("m/1")) == (run.run_id, {"auc": 0.7}, [flights])
    with pytest.raises(NotFoundError, match="no run"):
        registry.register("m", model, run="00000000")


def test_a_dataset_made_in_a_run_derives_from_what_the_run_used(
    registry: Registry, flights: str, tmp_path: Path
) -> None:
    with registry.start_run() as run:
        run.use(flights).polars().filter(pl.col("origin") == "JFK").write_parquet(tmp_path / "jfk.parquet")
        made = run.add_dataset("jfk", tmp_path / "jfk.parquet")
    used = registry.dataset(flights).dataset_id
    assert {
        (f"run:{run.run_id}", "produced", f"dataset:{made.dataset_id}"),
        (f"dataset:{used}", "derived", f"dataset:{made.dataset_id}"),
    } <= edges(registry)


FORMATS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "data.parquet": lambda frame, path: frame.write_parquet(path),
    "data.csv": lambda frame, path: frame.write_csv(path),
    "data.jsonl": lambda frame, path: frame.write_ndjson(path),
    "data.arrow": lambda frame, path: frame.write_ipc(path, compression="uncompressed"),
    "data.arrows": lambda frame, path: frame.write_ipc_stream(path),
    "delta": lambda frame, path: frame.write_delta(path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_readers_read_every_format_and_record_the_input(registry: Registry, tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame({"id": [1, 2, 3], "origin": ["JFK", "LGA", "JFK"], "delay": [1.5, None, 3.0]})
    FORMATS[name](frame, tmp_path / name)
    data = registry.add_dataset("data", tmp_path / name)
    for read in (
        lambda: data.arrow().sort_by("id").to_pylist(),
        lambda: data.polars().sort("id").to_dicts(),
        lambda: data.duckdb().order("id").to_arrow_table().to_pylist(),
    ):
        with registry.start_run() as run:
            assert read() == frame.to_dicts()
        assert registry.run_inputs(run.run_id) == ["data@1.0.0"]
    relation = data.duckdb()
    assert [relation.filter("id > 1").aggregate("count(*)").fetchall() for _ in range(2)] == [[(2,)], [(2,)]]
    assert pl.read_ipc(_ipc(data.arrow())).shape == (3, 3)


def _ipc(table: pa.Table) -> pa.BufferReader:
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return pa.BufferReader(out.getvalue())


def test_path_is_a_read_only_copy_that_is_checked(registry: Registry, tmp_path: Path, registry_url: str) -> None:
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.png").write_bytes(b"png")
    data = registry.add_dataset("images", folder)
    with registry.start_run() as run:
        place = data.path()
    assert registry.run_inputs(run.run_id) == ["images@1.0.0"]
    file = place / "deep" / "a.png"
    assert file.read_bytes() == b"png"
    assert file.stat().st_mode & 0o222 == 0
    assert str(data.path).startswith("datasets/")
    with pytest.raises(InvalidInputError, match=r"folder of files.*"):
        data.arrow()
    file.chmod(0o644)
    file.write_bytes(b"gnp")
    with headwater.open(registry_url) as again:
        assert again.dataset("images").path() == place
        assert file.read_bytes() == b"png"
    single = registry.add_dataset("one", folder / "deep" / "a.png")
    assert single.path().read_bytes() == b"png"
    assert single.path().is_file()


def test_pull_in_a_run_records_the_input_and_outside_of_one_nothing(
    registry: Registry, flights: str, tmp_path: Path
) -> None:
    registry.dataset(flights).pull(tmp_path / "a")
    assert not [each for each in edges(registry) if each[1] == "used"]
    with registry.start_run() as run:
        registry.dataset(flights).pull(tmp_path / "b")
        registry.dataset(flights).arrow()
    assert registry.run_inputs(run.run_id) == [flights]


# -- finding ----------------------------------------------------------------------------------------------------------
def test_runs_are_found_newest_first_by_experiment_and_condition(registry: Registry) -> None:
    for number, (experiment, auc) in enumerate([("a", 0.6), ("a", 0.8), ("b", math.nan), ("b", 0.9)]):
        with registry.start_run(
            str(number), experiment=experiment, params={"depth": number}, tags={"x y": "o'k"}
        ) as run:
            run.log_metric("auc", auc)
            run.log_metric("val/auc", auc)

    def names(*given: Any, **named: Any) -> list[str | None]:
        return [each.name for each in registry.runs(*given, **named)]

    assert names() == ["3", "2", "1", "0"]
    assert names("a") == ["1", "0"]
    assert names(limit=1) == ["3"]
    assert names("a", where="metrics.auc > 0.7", limit=5) == ["1"]
    assert names(where="metrics.auc > 0.7") == ["3", "1"]
    assert names(where="not (metrics.auc <= 0.7)") == ["3", "1"]
    assert names(where="""metrics."val/auc" > 0.7 and params.depth = '3'""") == ["3"]
    assert names(where="""tags."x y" = 'o''k' and name in ('0', '2')""") == ["2", "0"]
    assert names(where="metrics['auc'] = 0.6 or (status = 'finished' and experiment = 'b' and name = '2')") == [
        "2",
        "0",
    ]
    assert names(where="name = 'metrics.auc; -- drop'") == []
    assert names(where="started_at > now() - interval '1 hour'", limit=2) == ["3", "2"]


@pytest.mark.parametrize(
    "condition",
    [
        "true; drop table runs",
        "true) or (true",
        "(true",
        "true -- comment",
        "true /* comment */",
        "name in (select name from runs)",
        "exists (from runs)",
        "name = 'open",
        "",
        "metrics. > 1",
        "metrics.auc >",
        "nonesuch = 1",
        "true\0",
        "$$x$$ = 'x'",
        "true order by 1",
        'name = "',
        "name = '\\'; drop table runs --'",
    ],
)
def test_what_is_no_condition_is_refused(registry: Registry, condition: str) -> None:
    with registry.start_run("r"):
        pass
    with pytest.raises(InvalidInputError) as caught:
        registry.runs(where=condition)
    assert "\n" not in caught.value.message


def test_a_run_is_found_by_a_part_of_its_id(registry: Registry) -> None:
    runs = [registry.start_run(str(number)) for number in range(2)]
    for run in runs:
        run.finish()
    first = runs[0].run_id
    for reference in (first, f"run:{first}", first.upper(), first[-12:], first[:30]):
        assert registry.run(reference).name == "0"
    with pytest.raises(InvalidInputError, match="several runs"):
        registry.run(first[:8])
    with pytest.raises(NotFoundError, match="no run"):
        registry.run("deadbeef")
    for reference in ("x", "abc", "", "../../etc/passwd", "zzzzzzzz"):
        with pytest.raises(InvalidInputError, match="not a run"):
            registry.run(reference)


def test_runs_and_versions_side_by_side(registry: Registry, model: Path, flights: str) -> None:
    with registry.start_run("a", params={"depth": 6, "same": 1}) as run:
        run.use(flights)
        run.log_metric("auc", 0.7)
        run.register("m", model, tags={"team": "ops"})
    with registry.start_run("b", params={"depth": 7, "same": 1}) as other:
        other.log_metric("auc", 0.8)
    found = registry.compare(run.run_id, "m/1", f"run:{other.run_id}")
    assert [item.reference for item in found.items] == [f"run:{run.run_id}", "m/1", f"run:{other.run_id}"]
    rows = {(row.kind, row.key): (row.values, row.differs) for row in found.rows}
    assert rows["param", "depth"] == (("6", "6", "7"), True)
    assert rows["param", "same"] == (("1", "1", "1"), False)
    assert rows["metric", "auc"] == ((0.7, 0.7, 0.8), True)
    assert rows["tag", "team"] == ((None, "ops", None), True)
    assert rows["input", "flights"] == ((flights, flights, None), True)
    with pytest.raises(InvalidInputError, match="nothing to compare"):
        registry.compare()


def test_runs_on_a_branch_stay_there(registry: Registry) -> None:
    branch = registry.create_branch("exp")
    with branch.start_run("there") as run:
        run.log_metric("x", 1)
    assert [each.name for each in branch.runs()] == ["there"]
    assert registry.runs() == []
    assert branch.run(run.run_id).metrics == {"x": 1}


# -- bad input --------------------------------------------------------------------------------------------------------
def test_what_a_run_refuses(registry: Registry) -> None:
    def refused(kind: type[HeadwaterError], match: str, call: Callable[[], object]) -> None:
        with pytest.raises(kind, match=match) as caught:
            call()
        assert "\n" not in caught.value.message
        assert caught.value.message.isprintable()

    run = registry.start_run()
    for step in (-1, 1.0, "1", True, 1 << 63):
        refused(InvalidInputError, "not a step", lambda step=step: run.log_metric("x", 1, step))
    for value in ("0.5", None, True, [1], 10**400):
        refused(InvalidInputError, "not a number", lambda value=value: run.log_metric("x", value))
    for key in ("", "a\nb", "a\x1bb", "k" * 251, " x", 3):
        refused(InvalidInputError, "not a key", lambda key=key: run.log_metric(key, 1))
    refused(InvalidInputError, "not a key", lambda: run.log_metrics({"a\nb": [1.0]}))
    refused(NotFoundError, "no dataset", lambda: run.log_metric("x", 1, dataset="nope@1.0.0"))
    refused(NotFoundError, "no dataset", lambda: run.use("nope"))
    refused(InvalidInputError, "differ in length", lambda: run.log_metrics({"a": [1, 2], "b": [1]}))
    refused(InvalidInputError, "differ in length", lambda: run.log_metrics({"a": [1, 2], "step": [1]}))
    refused(InvalidInputError, "nulls", lambda: run.log_metrics({"a": [1.0, None]}))
    refused(InvalidInputError, "nulls", lambda: run.log_metrics({"a": pa.array([1.0, None])}))
    refused(InvalidInputError, "nulls", lambda: run.log_metrics({"a": pl.Series([1.0, None])}))
    refused(InvalidInputError, "not one of numbers", lambda: run.log_metrics({"a": ["x"]}))
    refused(InvalidInputError, "not one of numbers", lambda: run.log_metrics({"a": np.array(["x"])}))
    refused(InvalidInputError, "not one of numbers", lambda: run.log_metrics({"a": np.array([True])}))
    refused(InvalidInputError, "dimensions", lambda: run.log_metrics({"a": np.zeros((2, 2))}))
    refused(InvalidInputError, "negative", lambda: run.log_metrics({"a": [1.0], "step": [-1]}))
    refused(InvalidInputError, "whole numbers", lambda: run.log_metrics({"a": [1.0], "step": [0.5]}))
    refused(InvalidInputError, "whole numbers", lambda: run.log_metrics({"a": [1.0], "step": np.array([0.5])}))
    refused(InvalidInputError, "no metric", lambda: run.log_metrics({"step": [1]}))
    refused(InvalidInputError, "one number", lambda: run.log_metrics({"a": [1.0], "b": 2.0}))
    refused(InvalidInputError, "a step and columns", lambda: run.log_metrics({"a": [1.0]}, step=2))
    refused(InvalidInputError, "not columns", lambda: run.log_metrics(3))
    refused(InvalidInputError, "not a key", lambda: run.log_param("a\0", 1))
    refused(InvalidInputError, "not text", lambda: run.log_param("a", "\0"))
    refused(InvalidInputError, "not a key", lambda: run.set_tag("", 1))
    run.finish()
    assert registry.run(run.run_id).metrics == {}
    for call in (
        lambda: run.log_metric("x", 1),
        lambda: run.log_metrics({"x": [1.0]}),
        lambda: run.log_param("x", 1),
        lambda: run.set_tag("x", 1),
        lambda: run.use("x"),
        lambda: run.register("m", "x"),
        lambda: run.add_dataset("m", "x"),
        lambda: run.log_artifact("x"),
    ):
        refused(InvalidInputError, "has ended", call)
    refused(InvalidInputError, "can be read, not written", lambda: registry.at("main").start_run())
    refused(InvalidInputError, "not a key for a run's name", lambda: registry.start_run("a\nb"))
    refused(InvalidInputError, "not a key for a run's experiment", lambda: registry.start_run(experiment=""))
    refused(NotFoundError, "no folder", lambda: registry.start_run(code="/nowhere"))
    refused(NotFoundError, "no run", lambda: registry.start_run(parent="00000000-0000-7000-8000-000000000000"))
    assert len(registry.runs()) == 1
    assert not list((registry._context.lake.spool / "runs").glob("*"))


def test_a_lake_that_can_not_be_written_at_the_end_gets_it_later(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headwater.transaction import Writer

    run = registry.start_run()
    run.log_metric("auc", 0.5)

    def down(*_: object, **__: object) -> object:
        raise LakeError("the server is away")

    with monkeypatch.context() as broken:
        broken.setattr(Writer, "run", down)
        with pytest.raises(LakeError, match=r"could not be landed: the server is away"):
            run.finish("failed")
        assert registry.runs()[0].status in ("running", "killed")
    (info,) = registry.runs()
    assert (info.status, info.metrics) == ("failed", {"auc": 0.5})
    assert isinstance(run, Run)


def test_stock_clients_read_the_points(registry: Registry) -> None:
    from deltalake import DeltaTable

    with registry.start_run() as run:
        run.log_metrics({"step": list(range(5000)), "loss": [step / 2 for step in range(5000)]})
        run.log_metrics({"loss": [1.0] * 10})
    uri, options = registry._context.lake.delta(registry.head, "tables/metrics")
    if registry.url.startswith("lakefs"):
        uri, options = registry._context.lake.delta("main", "tables/metrics")
    table = DeltaTable(uri, storage_options=options).to_pyarrow_table()
    assert sorted(row["step"] for row in table.to_pylist() if row["step"] is not None) == list(range(5000))
    frame = pl.scan_delta(uri, storage_options=options).select(pl.col("value").sum(), pl.len()).collect()
    assert frame.rows() == [(sum(step / 2 for step in range(5000)) + 10, 5010)]


def test_files_that_hold_runs_only_are_not_read_for_a_version(
    registry: Registry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry.start_run() as run:
        run.log_metric("auc", 0.5)
        run.flush(wait=True)
        version = registry.register("m", model, metrics={"auc": 0.7})
    lake = registry._context.lake
    read: list[str] = []
    localize = lake.localize

    def noted(ref: str, paths: Any) -> Any:
        paths = list(paths)
        read.extend(paths)
        return localize(ref, paths)

    monkeypatch.setattr(lake, "localize", noted)
    assert version.metrics == {"auc": 0.7}
    assert len(read) == 1


def test_adding_the_same_data_again_in_a_run_that_used_it_derives_nothing(
    registry: Registry, flights: str, tmp_path: Path
) -> None:
    with registry.start_run() as run:
        run.use(flights)
        again = run.add_dataset("flights", tmp_path / "flights.parquet")
    assert not again.created
    assert not [each for each in edges(registry) if each[1] == "derived"]


def test_what_a_registry_makes_while_a_run_is_active_belongs_to_the_run(registry: Registry, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text(f"a\n{number}\n")
    registry.add_dataset("raw", tmp_path / "0.csv")
    with registry.start_run("train", params={"depth": 6}) as run:
        run.use("raw")
        clean = registry.add_dataset("clean", tmp_path / "1.csv")
        version = registry.register("m", tmp_path / "0.csv", params={"rows": 1})
    assert clean.derived_from == ("raw@1.0.0",)
    assert version.run_id == run.run_id
    assert version.params == {"depth": "6", "rows": "1"}
    assert registry.register("m", tmp_path / "0.csv").run_id is None
