"""An export needs no Headwater: the stock DuckDB client gives the same rows, and any Delta client opens the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable
from tests.command_line import CommandLine

from headwater.cli.rows import documents
from headwater.errors import AlreadyExistsError, IntegrityError, InvalidInputError, LakeError
from headwater.query import views
from headwater.registry import Registry
from headwater.schema import TABLES

VIEWS = [name.removesuffix(".sql").partition("_")[2] for name, text in views() if "REPLACE VIEW" in text]
SOURCES = [*VIEWS, *(f"lake.{name}" for name in TABLES), "lake.commits", "lake.refused", "leaderboard('m')"]

STOCK = """
import json, sys, duckdb
connection = duckdb.connect()
connection.execute(open("headwater.sql").read())
found = {}
for source in json.loads(sys.argv[1]):
    rows = connection.execute(f"SELECT to_json(t) FROM (FROM {source}) t").fetchall()
    found[source] = sorted(row[0] for row in rows)
assert not [name for name in sys.modules if name.startswith("headwater")]
print(json.dumps(found))
"""


@pytest.fixture
def filled(registry: Registry, tmp_path: Path) -> Registry:
    (tmp_path / "flights.csv").write_text("id,delay\n1,10\n2,20\n")
    registry.add_dataset("flights", tmp_path / "flights.csv", key=["id"])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"weights")
    for number in (1, 2, 3):
        registry.register(
            "m",
            tmp_path / "model",
            metrics={"auc": number / 10, "bad": float("nan")},
            data=["flights"],
            tags={"it's": "x"},
        )
    registry.set_alias("m", "champion", 2, reason="better")
    registry.delete("m/3")
    return registry


def test_the_stock_client_gives_the_same_rows(filled: Registry, tmp_path: Path) -> None:
    found = filled.export(tmp_path / "out")
    assert (found.commit, found.path) == (filled.head, str(tmp_path / "out"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", STOCK, json.dumps(SOURCES)],
        cwd=tmp_path / "out",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    stock = json.loads(ran.stdout)
    for source in SOURCES:
        ours = filled.sql(f"SELECT to_json(t) FROM (FROM {source}) t").fetchall()
        assert stock[source] == sorted(row[0] for row in ours), source
    assert stock["model_versions"]


def test_the_duckdb_command_reads_it(filled: Registry, tmp_path: Path) -> None:
    import duckdb_cli

    filled.export(tmp_path / "out")
    command = Path(duckdb_cli.__file__).parent / "duckdb"
    for source in SOURCES:
        query = f"SELECT to_json(t) AS row FROM (FROM {source}) t"
        ran = subprocess.run(
            [command, "-init", "headwater.sql", "-json", "-c", query],
            cwd=tmp_path / "out",
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, (source, ran.stderr)
        rows = json.loads(ran.stdout.strip() or "[]")
        assert len(rows) == len(filled.sql(f"FROM {source}")), source
    query = "SELECT name, version, aliases, commit FROM model_versions ORDER BY version"
    ran = subprocess.run(
        [command, "-init", "headwater.sql", "-json", "-c", f"SELECT to_json(list(t)) AS x FROM ({query}) t"],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout)[0]["x"] == documents(filled.sql(query).arrow())


def test_every_table_is_a_delta_table(filled: Registry, tmp_path: Path) -> None:
    filled.export(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "tables").iterdir()} == {*TABLES, "commits"}
    for name in (*TABLES, "commits"):
        rows = DeltaTable(str(tmp_path / "out" / "tables" / name)).to_pyarrow_table()
        assert len(rows) == len(filled.sql(f"FROM lake.{name}")), name


def test_objects_are_plain_files_where_the_rows_say(filled: Registry, tmp_path: Path) -> None:
    filled.export(tmp_path / "out")
    assert (tmp_path / "out" / filled.get("m/1").path / "weights.bin").read_bytes() == b"weights"
    assert (tmp_path / "out" / filled.dataset("flights").path / "flights.csv").read_bytes().startswith(b"id,delay")
    assert not (tmp_path / "out" / "fence").exists()


def test_an_export_of_an_earlier_commit_is_what_was_there_then(filled: Registry, tmp_path: Path) -> None:
    filled.at("main~4").export(tmp_path / "out")
    versions = DeltaTable(str(tmp_path / "out" / "tables" / "model_versions")).to_pyarrow_table()
    assert versions.column("version").to_pylist() == [1]
    registry = filled.at("main~6")
    (tmp_path / "empty").mkdir()
    assert registry.export(tmp_path / "empty").objects > 0


def test_a_folder_that_holds_something_is_left_alone(filled: Registry, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("out", "file", "link"):
        with pytest.raises(AlreadyExistsError, match="holds something"):
            filled.export(tmp_path / name)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    with pytest.raises(LakeError, match="can't be written"):
        filled.export(tmp_path / "file" / "below")


def test_nothing_is_left_of_an_export_that_fails(
    filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(tmp_path.iterdir())
    lake = filled._context.lake
    opened = lake.open

    def broken(ref: str, path: str) -> object:
        if path.startswith("artifacts/"):
            raise IntegrityError("it is not what it was")
        return opened(ref, path)

    monkeypatch.setattr(lake, "open", broken)
    with pytest.raises(IntegrityError):
        filled.export(tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.setattr(lake, "open", opened)
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(LakeError, match="No space left"):
        filled.export(tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_a_path_that_would_leave_the_folder_is_refused(
    filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = filled._context.lake
    listed = lake.list
    for path in ("artifacts/../../x", "/etc/x", "artifacts//x", "artifacts/\0"):
        from headwater.lake.base import ObjectInfo

        def strange(ref: str, prefix: str = "", path: str = path) -> object:
            return [ObjectInfo(path, 1, None)] if prefix == "artifacts/" else listed(ref, prefix)

        monkeypatch.setattr(lake, "list", strange)
        with pytest.raises(IntegrityError, match="can't be a file's"):
            filled.export(tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_the_command_exports(filled: Registry, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    cli = CommandLine()
    found = cli.json("export", "out")
    assert (found["commit"], found["tables"]) == (filled.head, len(TABLES) + 1)
    assert Path("out/headwater.sql").exists()
    assert "duckdb -init headwater.sql" in cli.out("export", "older", "--ref", "main~3")
    assert cli.error("export", "out", status=1)[0] == "AlreadyExistsError"


@pytest.mark.parametrize("name", ["my export", "é", "p%20c"])
def test_a_folder_may_have_any_name(
    filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    filled.export(Path("..") / name)
    assert (tmp_path / name / "headwater.sql").exists()
    assert list((tmp_path / name / "tables" / "commits").glob("*.parquet"))
    assert (tmp_path / name / "tables" / "commits" / "_delta_log").is_dir()


def test_an_export_does_not_go_into_the_lake(filled: Registry, is_remote: bool) -> None:
    if not is_remote:
        with pytest.raises(InvalidInputError, match="lies in the lake itself"):
            filled.export(Path(filled.url) / "out")
