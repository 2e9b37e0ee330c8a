"""The tables as Delta tables: other people's readers see, at every commit, exactly the rows that we see."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

import headwater
from headwater import tables
from headwater.deltalog import CHECKPOINT_EVERY, DataFile, TableFiles, entry, log_path, replay
from headwater.errors import IntegrityError, LakeError, RaceLostError
from headwater.ids import new_id, now_micros
from headwater.lake.base import Lake
from headwater.schema import TABLES, arrow_schema

Rows = list[dict[str, Any]]


def metric(number: int, **values: Any) -> dict[str, Any]:
    row = dict.fromkeys(TABLES["metrics"].names)
    row.update(
        tx=new_id(),
        recorded_at=now_micros(),
        actor="t",
        ordinal=number,
        key="auc",
        value=number / 7,
        slice="",
        source="claimed",
    )
    return row | values


def append(lake: Lake, table: str, data: Rows, before: TableFiles | None = None) -> tables.Append:
    head = lake.head("main")
    known = before if before is not None else tables.load(lake, head, table)
    done = tables.Append(lake, head, table, known, data, now_micros())
    lake.put_many("main", done.puts)
    for path in done.deletes:
        lake.delete("main", path)
    lake.commit("main", "append", {})
    return done


def ours(lake: Lake, commit: str, table: str) -> Rows:
    return list(tables.rows(tables.read(lake, commit, table, tables.load(lake, commit, table).files)))


def plain(arrow: Any) -> Rows:
    """Return any reader's rows as ours are: in the table's schema, times in microseconds."""
    schema = arrow_schema("metrics")
    return list(tables.rows(pa.table(arrow).select(schema.names).cast(schema)))


def by_deltalake(uri: str, options: dict[str, str]) -> Rows:
    return plain(DeltaTable(uri, storage_options=options).to_pyarrow_table())


def by_polars(uri: str, options: dict[str, str]) -> Rows:
    return plain(pl.scan_delta(uri, storage_options=options or None).collect().to_arrow())


def by_duckdb(uri: str, options: dict[str, str]) -> Rows:
    """Read with DuckDB the files that deltalake names; its own delta extension can't be installed without a network."""
    dataset = DeltaTable(uri, storage_options=options).to_pyarrow_dataset()
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(dataset.files):
            Path(folder, f"{number}.parquet").write_bytes(dataset.filesystem.open_input_file(path).read())
        return plain(connection.sql(f"FROM read_parquet('{folder}/*.parquet')").to_arrow_table())


def order(rows: Rows) -> list[str]:
    return sorted(json.dumps(row, default=str) for row in rows)


READERS: list[Callable[[str, dict[str, str]], Rows]] = [by_deltalake, by_polars, by_duckdb]


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_sees_the_same_rows_at_every_commit(
    lake: Lake, is_remote: bool, reader: Callable[[str, dict[str, str]], Rows]
) -> None:
    count = 2 * tables.FAN_IN + 3 if is_remote else CHECKPOINT_EVERY + tables.FAN_IN
    written: Rows = []
    commits: list[tuple[str, int]] = []
    known = TableFiles()
    for number in range(count):
        new = [metric(number), metric(number + 1, version_id=new_id(), value=float("inf"), step=number)]
        known = append(lake, "metrics", new, known).files
        written += new
        commits.append((lake.head("main"), len(written)))
    for commit, many in [commits[0], commits[tables.FAN_IN - 2], commits[tables.FAN_IN], commits[-1]]:
        uri, options = lake.delta(commit, "tables/metrics")
        assert order(reader(uri, options)) == order(written[:many])
        assert order(ours(lake, commit, "metrics")) == order(written[:many])


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_table_can_be_made_and_opened_by_deltalake(lake: Lake, table: str) -> None:
    append(lake, table, [])
    uri, options = lake.delta(lake.head("main"), f"tables/{table}")
    opened = DeltaTable(uri, storage_options=options)
    assert [field.name for field in opened.schema().fields] == TABLES[table].names
    assert opened.protocol().min_reader_version == 1
    assert opened.protocol().min_writer_version == 2
    assert opened.metadata().configuration["delta.appendOnly"] == "true"
    assert opened.to_pyarrow_table().num_rows == 0


def test_appends_leave_few_files_and_few_log_entries(tmp_path: Path) -> None:
    from headwater.lake.local import LocalLake

    lake = LocalLake.create(tmp_path / "lake")
    known = TableFiles()
    for number in range(1100):
        known = append(lake, "events", [event(number)], known).files
    assert len(known.files) < 3 * tables.FAN_IN
    assert sum(file.rows for file in known.files.values()) == 1100
    log = [info.path for info in lake.list("main", "tables/events/_delta_log/")]
    assert len(log) <= CHECKPOINT_EVERY + 4
    assert tables.load(lake, lake.head("main"), "events") == known
    data = [info.path for info in lake.list("main", "tables/events/") if info.path.endswith(".parquet")]
    assert {path.removeprefix("tables/events/") for path in data if "_delta_log" not in path} == set(known.files)
    uri, _ = lake.delta(lake.head("main"), "tables/events")
    assert DeltaTable(uri).to_pyarrow_table().num_rows == 1100
    lake.close()


def event(number: int) -> dict[str, Any]:
    row = dict.fromkeys(TABLES["events"].names)
    row.update(
        tx=new_id(), recorded_at=now_micros(), actor="t", event_id=new_id(), subject="s", kind="tag", key=str(number)
    )
    return row | {"value": "x" * (number % 100), "prev": []}


def test_statistics_prune_without_losing_a_row(tmp_path: Path) -> None:
    from headwater.lake.local import LocalLake

    lake = LocalLake.create(tmp_path / "lake")
    micros = 1_700_000_000_123_456
    for number in range(5):
        row = metric(number, recorded_at=micros + number, key=f"k{number}", value=float("nan") if number == 3 else 1.0)
        append(lake, "metrics", [row])
    uri, _ = lake.delta(lake.head("main"), "tables/metrics")
    table = DeltaTable(uri)
    adds = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert {add["num_records"] for add in adds} == {1}
    assert {add["min.key"] for add in adds} == {f"k{number}" for number in range(5)}
    assert [add["max.value"] for add in adds if add["min.key"] == "k3"] == [None]
    for number in range(5):
        when = pa.scalar(micros + number, pa.timestamp("us", tz="UTC"))
        found = table.to_pyarrow_table(filters=[("recorded_at", "=", when)])
        assert found.column("key").to_pylist() == [f"k{number}"]
    lake.close()


def test_two_writers_of_one_table_cannot_both_land(lake: Lake) -> None:
    append(lake, "metrics", [metric(0)])
    head = lake.head("main")
    before = tables.load(lake, head, "metrics")
    for name in ("_hw_a", "_hw_b"):
        lake.create_branch(name, head, hidden=True)
        lake.put_many(name, tables.Append(lake, head, "metrics", before, [metric(1)], now_micros()).puts)
        lake.commit(name, name, {})
    lake.merge("_hw_a", "main", "first", {})
    with pytest.raises(RaceLostError):
        lake.merge("_hw_b", "main", "second", {})
    assert len(ours(lake, lake.head("main"), "metrics")) == 2


def test_a_damaged_log_entry_or_data_file_is_named(lake: Lake) -> None:
    append(lake, "metrics", [metric(0)])
    sound = lake.head("main")
    lake.put("main", "tables/metrics/" + log_path(1), b"{not json")
    lake.commit("main", "damage", {})
    with pytest.raises(IntegrityError, match="log entry 1 of table 'metrics'"):
        tables.load(lake, lake.head("main"), "metrics")
    (path,) = tables.load(lake, sound, "metrics").files
    lake.put("main", f"tables/metrics/{path}", b"PAR1 not parquet")
    lake.commit("main", "damage", {})
    with pytest.raises(IntegrityError, match="parquet"):
        tables.read(lake, lake.head("main"), "metrics", [path])
    lake.put("main", "tables/metrics/" + log_path(5), b"{}")
    lake.commit("main", "a hole", {})
    with pytest.raises(IntegrityError):
        tables.load(lake, lake.head("main"), "metrics")


def test_replay_refuses_a_log_with_a_hole() -> None:
    files = TableFiles()
    body = entry("WRITE", 0, add=[(DataFile("0/0-a.parquet", 1, 2), {"numRecords": 2})])
    replay(files, 0, body, "table 't'")
    assert files.files["0/0-a.parquet"].rows == 2
    with pytest.raises(IntegrityError, match="jumps from version 0 to 2"):
        replay(files, 2, body, "table 't'")


def test_a_column_that_an_older_headwater_did_not_write_is_null(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from headwater.lake.local import LocalLake

    lake = LocalLake.create(tmp_path / "lake")
    done = append(lake, "metrics", [metric(0)])
    (path,) = done.files.files
    old = pq.read_table(pa.BufferReader(lake.read("main", f"tables/metrics/{path}"))).drop_columns(["dataset_id"])
    out = pa.BufferOutputStream()
    pq.write_table(old, out)
    lake.put("main", f"tables/metrics/{path}", out.getvalue().to_pybytes())
    lake.commit("main", "an older writer", {})
    assert [row["dataset_id"] for row in ours(lake, lake.head("main"), "metrics")] == [None]
    lake.close()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("value", [0.5, -2.0, 7.25]),
        ("value", [0.5, float("nan"), 7.25]),
        ("value", [float("-inf"), 0.5]),
        ("value", [1, 2.5]),
        ("step", [None, 3, -1]),
        ("step", [None, None]),
        ("key", ["b", "a\u00e9", "\U0001f600", "\uffff"]),
        ("key", ["x" * 65, "a"]),
        ("recorded_at", [1_700_000_000_000_001, 1_699_999_999_999_999]),
        ("recorded_at", [-1, 5]),
    ],
)
def test_statistics_of_few_rows_are_those_of_many(column: str, values: list[Any]) -> None:
    data = [metric(number, **{column: value}) for number, value in enumerate(values)]
    arrow = tables._to_arrow("metrics", data)
    assert tables._statistics(arrow, data) == tables._statistics(arrow)
    many = data * 40
    assert len(many) > tables._FEW
    assert tables._statistics(tables._to_arrow("metrics", many), many)["minValues"].get(column) == (
        tables._statistics(arrow, data)["minValues"].get(column)
    )


def test_scratch_folders_lie_in_the_lake_s_cache_and_are_swept_when_they_are_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headwater.lake.local import LocalLake

    monkeypatch.setattr(tables, "_created", {})
    lake = LocalLake.create(tmp_path / "lake")
    seen: list[Path] = []
    made = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **named: seen.append(Path(named["dir"])) or made(**named))
    append(lake, "metrics", [metric(0)])
    for number in range(CHECKPOINT_EVERY):
        append(lake, "metrics", [metric(number)])
    assert len(seen) == 2, "once to make the table, once for a checkpoint"
    assert set(seen) == {lake.cache / "scratch"}
    assert list((lake.cache / "scratch").iterdir()) == []

    old, young, other = (lake.cache / "scratch" / name for name in ("delta-old", "delta-young", "other"))
    for folder in (old, young, other):
        folder.mkdir()
    (old / "_delta_log").mkdir()
    day = 24 * 3600
    assert tables.sweep(lake.cache, old.stat().st_mtime + day - 10) == 0
    os.utime(old, (0, 0))
    assert tables.sweep(lake.cache, young.stat().st_mtime + 10) == 1
    assert (old.exists(), young.exists(), other.exists()) == (False, True, True)
    assert tables.sweep(tmp_path / "nowhere", 1e12) == 0
    lake.close()


def test_a_writer_sweeps_what_a_killed_one_has_left(tmp_path: Path) -> None:
    with headwater.create(str(tmp_path / "lake")) as registry:
        cache = registry._context.lake.cache
    left = cache / "scratch" / "delta-left"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    (tmp_path / "model").write_text("1")
    with headwater.open(str(tmp_path / "lake")) as registry:
        registry.register("m", tmp_path / "model")
    assert not left.exists()


def test_a_full_or_closed_cache_is_an_error_of_the_lake(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("in the way")
    with pytest.raises(LakeError, match="scratch"), tables.scratch(tmp_path):
        pass


def test_the_tier_of_a_file_is_in_its_name() -> None:
    tiers = {"a/0-x.parquet": 0, "a/3-x.parquet": 3, "x.parquet": 9, "0-a/x.parquet": 9, "part-00000.parquet": 9, "": 9}
    assert {path: DataFile(path, 1, 1).tier for path in tiers} == tiers


def test_large_files_are_left_alone_and_small_ones_beside_them_still_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.tables._FULL", 6_000)
    monkeypatch.setattr("headwater.tables._COMPACT_UP_TO", 40_000)
    from headwater.lake.local import LocalLake

    lake = LocalLake.create(tmp_path / "lake")
    known = None
    for number in range(tables.FAN_IN + 4):
        rows = 60 if number < 4 else 1
        known = append(lake, "events", [event(number * 100 + each) for each in range(rows)], known).files
    assert known is not None
    large = [file for file in known.files.values() if file.size >= 6_000]
    assert len(large) >= 4
    assert len(known.files) < tables.FAN_IN
    assert len(ours(lake, lake.head("main"), "events")) == 4 * 60 + tables.FAN_IN
    lake.close()


def test_data_files_that_are_in_the_lake_already_are_named_by_the_log(lake: Lake) -> None:
    schema = tables.arrow_schema("outcomes")
    columns = {
        "prediction_id": pa.array([f"019a0000-0000-7000-8000-{number:012}" for number in range(2000)]),
        "label": pa.array(["x"] * 2000),
        "observed_at": pa.array([1_760_000_000_000_000] * 2000, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
    }
    rows = tables.bulk_rows("outcomes", columns, "tx", 1_760_000_000_000_000, "me")
    bodies = [tables.encode("outcomes", rows.slice(0, 1500)), tables.encode("outcomes", rows.slice(1500))]
    lake.create_branch("_hw_x", lake.head("main"), hidden=True)
    for body in bodies:
        lake.put("_hw_x", f"tables/outcomes/{body.path}", body.body)
    made = tables.Append(lake, lake.head("main"), "outcomes", TableFiles(), [], now_micros(), bodies)
    lake.put_many("_hw_x", made.puts)
    lake.commit("_hw_x", "x", {})
    lake.merge("_hw_x", "main", "x", {})
    uri, options = lake.delta(lake.head("main"), "tables/outcomes")
    found = DeltaTable(uri, storage_options=options).to_pyarrow_table()
    assert len(found) == 2000
    assert found.column("prediction_id").null_count == 0
    assert found.schema.names == schema.names
    first, second = sorted(made.files.files.values(), key=lambda file: -file.rows)
    assert (first.rows, second.rows) == (1500, 500)
    assert not second.may_hold(
        "prediction_id", "019a0000-0000-7000-8000-000000000007", "019a0000-0000-7000-8000-000000000007"
    )
    assert first.may_hold(
        "prediction_id", "019a0000-0000-7000-8000-000000000007", "019a0000-0000-7000-8000-000000000007"
    )
