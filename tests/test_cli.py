"""Every command of `headwater`, as people and scripts use it, on both lakes."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from tests.command_line import CommandLine

import headwater

COMMIT = re.compile(r"[0-9a-f]{64}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def cli(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    monkeypatch.setenv("HEADWATER_ACTOR", "tester")
    return CommandLine()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"\x00\x01" * 1000)
    (folder / "é and space.txt").write_text("text")
    return folder


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    path = tmp_path / "flights.csv"
    path.write_text("flight_id,delay\n1,10\n2,20\n3,30\n")
    return path


# -- models -----------------------------------------------------------------------------------------------------------
def test_register_prints_the_reference_and_the_commit(cli: CommandLine, model: Path) -> None:
    lines = cli.out("register", "flight-delay", model).splitlines()
    assert lines[0] == "flight-delay/1"
    assert COMMIT.search(lines[1])
    found = cli.json("register", "flight-delay", model)
    assert (found["name"], found["version"], found["actor"]) == ("flight-delay", 2, "tester")
    assert COMMIT.fullmatch(found["commit"])
    assert MOMENT.fullmatch(found["recorded_at"])


def test_register_keeps_everything_that_was_said(cli: CommandLine, model: Path, flights: Path) -> None:
    cli("data", "add", "flights", flights)
    cli(
        "register", "flight-delay", model, "--data", "flights@1.0.0", "--metric", "auc=0.81", "--metric", "loss=nan",
        "--slice", "auc[origin=JFK]=0.78", "--slice", "auc[origin=JFK,carrier=B6]=-1e-3", "--param", "depth=6",
        "--param", "rate=-0.5", "--tag", "team=ops", "--tag", "empty=", "--description", "--ähem: new\nline",
    )  # fmt: skip
    found = cli.json("show", "flight-delay/1")
    assert found["metrics"] == {"auc": 0.81, "loss": "NaN"}
    assert found["slice_metrics"] == [
        {"key": "auc", "slice": "carrier=B6,origin=JFK", "value": -0.001},
        {"key": "auc", "slice": "origin=JFK", "value": 0.78},
    ]
    assert found["params"] == {"depth": "6", "rate": "-0.5"}
    assert found["tags"] == {"team": "ops", "empty": ""}
    assert found["description"] == "--ähem: new\nline"
    assert found["datasets"] == ["flights@1.0.0"]
    assert [each["path"] for each in found["files"]] == ["weights.bin", "é and space.txt"]
    text = cli.out("show", "flight-delay/1")
    for part in ("flight-delay/1", "--ähem: new", "flights@1.0.0", "depth=6", "carrier=B6,origin=JFK", "weights.bin"):
        assert part in text


def test_register_refers_to_a_file_elsewhere(cli: CommandLine, tmp_path: Path) -> None:
    from hashlib import sha256

    path = tmp_path / "elsewhere.onnx"
    path.write_bytes(b"model")
    digest = sha256(b"model").hexdigest()
    found = cli.json("register", "m", "--external", path.as_uri(), "--sha256", digest)
    assert found["external_url"] == path.as_uri()
    assert "1 version verified" in cli.out("verify")
    cli("pull", "m/1", "out")
    assert Path("out/elsewhere.onnx").read_bytes() == b"model"
    path.write_bytes(b"other")
    assert "m/1" in cli("verify", status=5).stdout
    path.unlink()
    cli("verify", "m/1", status=1)


def test_models_and_versions_are_listed_newest_first(cli: CommandLine, model: Path) -> None:
    assert cli.out("models") == ""
    assert cli.json("models") == []
    for name in ("b", "a", "b"):
        cli("register", name, model)
    assert [each["name"] for each in cli.json("models")] == ["a", "b"]
    assert [each["name"] for each in cli.json("models", "--limit", 1)] == ["a"]
    assert [each["version"] for each in cli.json("versions", "b")] == [2, 1]
    assert [each["version"] for each in cli.json("versions", "b", "--limit", "1")] == [2]
    lines = cli.out("models").splitlines()
    assert lines[0].split()[:3] == ["name", "versions", "newest"]
    assert lines[2].split()[:3] == ["b", "2", "2"]
    assert cli.out("versions", "b").splitlines()[1].split()[0] == "2"


def test_an_alias_is_set_listed_resolved_and_deleted(cli: CommandLine, model: Path) -> None:
    cli("register", "m", model)
    cli("register", "m", model)
    assert cli.out("alias", "set", "m", "champion", "1") == "m@champion is version 1\n"
    moved = cli.json("alias", "set", "m", "champion", 2, "--reason", "-better")
    assert (moved["name"], moved["alias"], moved["version"], moved["reason"]) == ("m", "champion", 2, "-better")
    assert cli.out("resolve", "m@champion") == "m/2\n"
    assert cli.out("resolve", "models:/m@champion") == "m/2\n"
    resolved = cli.json("resolve", "m@champion")
    assert (resolved["version"], resolved["aliases"]) == (2, ["champion"])
    assert [(each["alias"], each["version"]) for each in cli.json("alias", "list", "m")] == [("champion", 2)]
    assert cli.out("alias", "list", "m").splitlines()[1].split()[:2] == ["champion", "2"]
    deleted = {"name": "m", "alias": "champion", "deleted": True, "archived": [2]}
    assert cli.json("alias", "delete", "m", "champion") == deleted
    cli("resolve", "m@champion", status=1)
    assert cli.out("alias", "list", "m") == ""


def test_the_log_tells_what_happened_to_what(cli: CommandLine, model: Path, flights: Path) -> None:
    cli("register", "m", model)
    cli("register", "other", model)
    cli("alias", "set", "m", "champion", "1", "--reason", "why not")
    cli("data", "add", "flights", flights)
    entries = cli.json("log")
    assert set(entries[0]) == {"commit", "parents", "recorded_at", "actor", "kind", "subject", "message"}
    assert [each["subject"] for each in entries[:4]] == ["flights@1.0.0", "m@champion", "other/1", "m/1"]
    assert all(MOMENT.fullmatch(each["recorded_at"]) for each in entries)
    assert [each["subject"] for each in cli.json("log", "m")] == ["m@champion", "m/1"]
    assert [each["subject"] for each in cli.json("log", "m@champion")] == ["m@champion"]
    assert [each["subject"] for each in cli.json("log", "flights")] == ["flights@1.0.0"]
    assert [each["subject"] for each in cli.json("log", "--limit", 1)] == ["flights@1.0.0"]
    assert "register m/1" in cli.out("log", "m/1")
    assert "why not" in cli.out("log", "m")


def test_tags_descriptions_and_names_change(cli: CommandLine, model: Path) -> None:
    cli("register", "m", model, "--tag", "team=ops")
    assert cli.json("tag-model", "m/1", "team=ml", "note=a=b")["tags"] == {"team": "ml", "note": "a=b"}
    assert cli.json("tag-model", "m", "area=planes")["tags"] == {"area": "planes"}
    assert cli.json("describe", "m/1", "good")["description"] == "good"
    assert cli.json("describe", "m", "--", "-all")["description"] == "-all"
    assert "-all" in cli.out("models")
    assert cli.json("rename", "m", "late-flights")["name"] == "late-flights"
    assert cli.out("resolve", "late-flights/1") == "late-flights/1\n"
    kind, _, hint = cli.error("resolve", "m/1", status=1)
    assert kind == "NotFoundError"
    assert "late-flights" in hint


def test_what_is_deleted_is_hidden_and_comes_back(cli: CommandLine, model: Path) -> None:
    cli("register", "m", model)
    cli("register", "m", model)
    cli("alias", "set", "m", "champion", "2")
    assert cli.error("delete", "m/2", status=4)[0] == "ConflictError"
    assert "--undo" in cli.out("delete", "m/1", "--reason", "bad month")
    assert [each["version"] for each in cli.json("versions", "m")] == [2]
    cli("resolve", "m/1", status=1)
    assert "bad month" in cli.out("log", "m")
    assert cli.json("delete", "m/1", "--undo")["version"] == 1
    assert cli.out("resolve", "m/1") == "m/1\n"
    cli("delete", "m/1", "--undo", status=1)
    assert cli.json("delete", "m/1") == {"reference": "m/1", "deleted": True, "reason": None}
    assert cli.json("register", "m", model)["version"] == 3


def test_pull_fetches_what_was_registered(cli: CommandLine, model: Path) -> None:
    cli("register", "m", model)
    assert "m/1" in cli.out("pull", "m/1", "out")
    assert (Path("out") / "weights.bin").read_bytes() == (model / "weights.bin").read_bytes()
    document = cli.json("pull", "m/1", "again")
    assert (document["version"], Path(document["dest"]).name) == (1, "again")
    (Path("theirs")).mkdir()
    (Path("theirs") / "weights.bin").write_text("mine")
    assert cli.error("pull", "m/1", "theirs", status=1)[0] == "AlreadyExistsError"
    assert (Path("theirs") / "weights.bin").read_text() == "mine"
    cli("pull", "m/1", "theirs", "--force")
    assert (Path("theirs") / "weights.bin").read_bytes() == (model / "weights.bin").read_bytes()


def test_verify_says_what_was_verified(cli: CommandLine, model: Path, flights: Path) -> None:
    assert cli.out("verify") == "there is nothing to verify\n"
    cli("register", "m", model)
    cli("register", "m", model)
    cli("data", "add", "flights", flights)
    assert cli.out("verify").splitlines() == [
        "ok     m/2",
        "ok     m/1",
        "ok     flights@1.0.0",
        "3 versions verified",
    ]
    assert cli.json("verify", "m", "flights") == [
        {"reference": "m/2", "verified": True, "message": None},
        {"reference": "m/1", "verified": True, "message": None},
        {"reference": "flights@1.0.0", "verified": True, "message": None},
    ]
    assert cli.out("verify", "m/1").splitlines()[-1] == "1 version verified"
    cli("verify", "m/3", status=1)


# -- show -------------------------------------------------------------------------------------------------------------
def test_show_takes_models_versions_aliases_datasets_and_urns(cli: CommandLine, model: Path, flights: Path) -> None:
    cli("register", "m", model)
    cli("alias", "set", "m", "champion", "1")
    cli("data", "add", "flights", flights, "--key", "flight_id")
    for reference in ("m", "model:m"):
        assert cli.json("show", reference)["latest_version"] == 1
    for reference in ("m/1", "m@champion", "model:m/1", "models:/m/1", "models:/m@champion"):
        assert cli.json("show", reference)["version"] == 1
    for reference in ("flights", "flights@1.0.0", "dataset:flights", "dataset:flights@1.0.0"):
        assert cli.json("show", reference)["semver"] == "1.0.0"
    assert "champion=1" in cli.out("show", "m")
    assert "champion" in cli.out("show", "m/1").splitlines()[0]
    assert "flight_id" in cli.out("show", "flights")


def test_a_name_that_is_a_model_and_a_dataset_is_asked_about(cli: CommandLine, model: Path, flights: Path) -> None:
    cli("register", "flights", model)
    cli("data", "add", "flights", flights)
    for command in ("show", "verify"):
        kind, _, hint = cli.error(command, "flights", status=2)
        assert kind == "InvalidInputError"
        assert "model:flights" in hint
        assert "dataset:flights" in hint
    assert cli.json("show", "model:flights")["versions"] == 1
    assert cli.json("show", "dataset:flights")["semver"] == "1.0.0"


# -- datasets ---------------------------------------------------------------------------------------------------------
def test_data_add_says_what_changed_and_why_it_got_its_number(cli: CommandLine, flights: Path) -> None:
    first = cli.out("data", "add", "flights", flights, "--key", "flight_id").splitlines()
    assert first[0] == "flights@1.0.0"
    assert COMMIT.search(first[1])
    assert first[2] == "the first version: 3 rows, 31 B"
    assert cli.out("data", "add", "flights", flights).splitlines() == [
        "flights@1.0.0",
        "nothing is new, so there is no new version",
    ]
    assert cli.json("data", "add", "flights", flights)["created"] is False
    flights.write_text(flights.read_text() + "4,40\n")
    assert cli.out("data", "add", "flights", flights).splitlines()[::2] == ["flights@1.1.0", "minor: 1 row added"]
    flights.write_text(flights.read_text().replace("3,30", "3,31"))
    assert cli.out("data", "add", "flights", flights).splitlines()[::2] == ["flights@1.1.1", "patch: 1 row changed"]
    flights.write_text("flight_id,delay,wind\n1,10,5\n")
    text = cli.out("data", "add", "flights", flights).splitlines()[2]
    assert text.startswith("major: ")
    assert "wind" in text
    found = cli.json("data", "add", "late", flights, "--bump", "major", "--from", "flights@1.1.0", "--description", "x")
    assert (found["name"], found["semver"], found["created"], found["rows"]) == ("late", "1.0.0", True, 1)


def test_datasets_are_listed_shown_and_pulled(cli: CommandLine, flights: Path) -> None:
    assert cli.out("data", "list") == ""
    cli("data", "add", "flights", flights)
    original = flights.read_bytes()
    flights.write_text(flights.read_text() + "4,40\n")
    cli("data", "add", "flights", flights)
    assert [each["semver"] for each in cli.json("data", "versions", "flights")] == ["1.1.0", "1.0.0"]
    assert [each["semver"] for each in cli.json("data", "versions", "flights", "--limit", "1")] == ["1.1.0"]
    assert [(each["name"], each["semver"]) for each in cli.json("data", "list")] == [("flights", "1.1.0")]
    assert cli.out("data", "list").splitlines()[1].split()[:3] == ["flights", "1.1.0", "4"]
    assert cli.out("data", "versions", "flights").splitlines()[2].split()[:2] == ["1.0.0", "3"]
    assert cli.json("data", "show", "flights@1.0.0")["rows"] == 3
    assert cli.json("data", "pull", "flights@1.0.0", "old")["semver"] == "1.0.0"
    assert Path("old/flights.csv").read_bytes() == original
    assert "flights@1.1.0" in cli.out("data", "pull", "flights", "new")


def test_a_dataset_is_shown_with_its_profile_and_what_it_was_made_from(cli: CommandLine, flights: Path) -> None:
    cli("data", "add", "raw", flights)
    cli("data", "add", "flights", flights, "--from", "raw", "--description", "out of New York")
    lines = [line.split() for line in cli.out("data", "show", "flights").splitlines()]
    assert ["derived", "from", "raw@1.0.0"] in lines
    assert ["column", "type", "min", "max", "nulls", "≈", "distinct"] in lines
    found = cli.json("data", "show", "flights")
    for name, told in found["profile"].items():
        (line,) = [line for line in lines if line[:2] == [name, told["type"]]]
        assert line[-2:] == [str(told["nulls"]), str(told["approx_distinct"])]
    assert (found["derived_from"], found["origin"], found["data_commit"]) == (["raw@1.0.0"], None, None)
    assert cli.json("data", "add", "flights", flights, "--description", "of 2013")["created"] is False
    assert "of 2013" in cli.out("data", "show", "flights")
    assert "can't be made from" in cli.error("data", "add", "raw", flights, "--from", "flights", status=2)[1]


def test_data_that_is_in_the_lake_is_shown_with_its_commit(cli: CommandLine, registry_url: str) -> None:
    with headwater.open(registry_url) as registry:
        registry._context.lake.put("main", "raw/a.csv", b"a\n1\n")
        commit = registry._context.lake.commit("main", "raw data", {})
    assert cli.json("data", "add", "a", "lake://main/raw/a.csv")["data_commit"] == commit
    lines = [line.split() for line in cli.out("data", "show", "a").splitlines()]
    assert ["origin", "raw/a.csv", "of", "main", "in", "this", "lake"] in lines
    assert ["read", "at", commit] in lines
    assert "names no path" in cli.error("data", "add", "a", "lake://main", status=2)[1]


def test_data_diff_shows_columns_counts_and_examples(cli: CommandLine, flights: Path) -> None:
    cli("data", "add", "flights", flights, "--key", "flight_id")
    flights.write_text("flight_id,delay\n1,10\n2,21\n4,40\n")
    cli("data", "add", "flights", flights)
    found = cli.json("data", "diff", "flights@1.0.0", "flights")
    assert (found["added"], found["removed"], found["changed"]) == (1, 1, 1)
    text = cli.out("data", "diff", "flights@1.0.0", "flights@1.0.1")
    assert "1 row added; 1 row removed; 1 row changed" in text
    assert any(line.startswith("+") and "40" in line for line in text.splitlines())
    assert "same rows" in cli.out("data", "diff", "flights", "flights")


# -- the lake ---------------------------------------------------------------------------------------------------------
def test_status_says_where_this_is(cli: CommandLine, registry_url: str, model: Path) -> None:
    cli("register", "m", model)
    found = cli.json("status")
    assert found["lake"].endswith(registry_url.rpartition("//")[2])
    assert (found["ref"], found["actor"], found["models"], found["versions"]) == ("main", "tester", 1, 1)
    assert COMMIT.fullmatch(found["commit"])
    lines = dict(line.split(None, 1) for line in cli.out("status").splitlines())
    assert (lines["branch"], lines["models"]) == ("main", "1")


def test_global_options_go_before_or_after_the_command(cli: CommandLine, registry_url: str, model: Path) -> None:
    cli("--actor", "before", "register", "m", model)
    cli("register", "m", model, "--actor", "after")
    assert [each["actor"] for each in cli.json("versions", "m")] == ["after", "before"]
    assert json.loads(cli.out("versions", "m", "--json"))
    assert json.loads(cli.out("alias", "--json", "list", "m")) == []
    assert json.loads(cli.out("--lake", registry_url, "data", "list", "--json")) == []
    kind, message, _ = cli.error("models", "--branch", "nope", status=1)
    assert kind == "NotFoundError"
    assert "nope" in message


def test_ref_reads_at_any_ref(cli: CommandLine, registry_url: str, model: Path, flights: Path) -> None:
    first = cli.json("register", "m", model)["commit"]
    cli("register", "m", model)
    cli("alias", "set", "m", "champion", "2")
    cli("data", "add", "flights", flights)
    with headwater.open(registry_url) as registry:
        registry.create_branch("exp-42", first)
    for ref in (first, first[:8], "main~3", "exp-42"):
        assert [each["version"] for each in cli.json("versions", "m", "--ref", ref)] == [1]
        assert cli.json("status", "--ref", ref)["versions"] == 1
        assert cli.json("alias", "list", "m", "--ref", ref) == []
        assert cli.json("data", "list", "--ref", ref) == []
        assert cli.json("sql", "SELECT version FROM model_versions", "--ref", ref) == [{"version": 1}]
        assert cli.json("log", "m", "--ref", ref)[0]["subject"] == "m/1"
        assert cli.out("verify", "--ref", ref).splitlines() == ["ok     m/1", "1 version verified"]
        cli("show", "m/2", "--ref", ref, status=1)
        cli("resolve", "m@champion", "--ref", ref, status=1)
    cli("pull", "m/1", "out", "--ref", first)
    cli("--branch", "exp-42", "register", "m", model)
    assert [each["version"] for each in cli.json("versions", "m", "--branch", "exp-42")] == [3, 1]
    assert cli.error("models", "--ref", "nope", status=1)[0] == "NotFoundError"
    assert cli.error("models", "--ref", "main~999", status=1)[0] == "NotFoundError"
    assert cli.error("models", "--ref", "a b", status=2)[0] == "InvalidInputError"


# -- sql --------------------------------------------------------------------------------------------------------------
def test_sql_prints_tables_json_and_csv(cli: CommandLine, model: Path) -> None:
    cli("register", "m", model, "--param", "depth=6", "--description", 'a "b",\nc')
    query = "SELECT name, version, params, description, NULL AS nothing FROM model_versions"
    row = {"name": "m", "version": 1, "params": {"depth": "6"}, "description": 'a "b",\nc', "nothing": None}
    assert cli.json("sql", query) == [row]
    assert json.loads(cli.out("sql", query, "--format", "json")) == [row]
    raw = cli("sql", query, "--format", "csv").stdout_bytes.decode()
    assert raw.startswith("name,version,params,description,nothing\n")
    assert list(csv.reader(io.StringIO(raw, newline="")))[1] == ["m", "1", '{"depth": "6"}', 'a "b",\nc', ""]
    table = cli.out("sql", query)
    assert table.splitlines()[0].split() == ["name", "version", "params", "description", "nothing"]
    assert '{"depth": "6"}' in table
    assert "\\n" in table
    assert len(table.splitlines()) == 2


def test_sql_writes_values_as_other_tools_read_them(cli: CommandLine) -> None:
    found = cli.json(
        "sql",
        """SELECT 'nan'::DOUBLE AS nan, '-inf'::DOUBLE AS inf, 1.10::DECIMAL(5, 2) AS number, 2::HUGEINT AS huge,
            TIMESTAMPTZ '2026-11-01 01:00:00+01' AS instant, TIMESTAMP '2026-11-01 00:00:00' AS local,
            DATE '2026-11-01' AS day, TIME '10:00:00' AS clock, '\\xAB'::BLOB AS bytes, true AS yes,
            {'a': [1, NULL], 'b': MAP {1: 'x'}} AS nested, INTERVAL '1 month 2 days' AS lasting,
            1 AS twice, 2 AS twice""",
    )
    assert found == [
        {
            "nan": "NaN",
            "inf": "-Infinity",
            "number": 1.1,
            "huge": 2,
            "instant": "2026-11-01T00:00:00.000000Z",
            "local": "2026-11-01T00:00:00.000000",
            "day": "2026-11-01",
            "clock": "10:00:00.000000",
            "bytes": "ab",
            "yes": True,
            "nested": {"a": [1, None], "b": {"1": "x"}},
            "lasting": "P1M2DT0S",
            "twice": 1,
            "twice_1": 2,
        }
    ]
    assert cli.out("sql", "SELECT NULL AS a, '' AS b, true AS c", "--format", "csv") == "a,b,c\n,,true\n"
    assert cli.json("sql", "SELECT DATE '290000-12-31' AS far")[0]["far"]
    assert "physical_plan" not in cli.out("sql", "EXPLAIN SELECT 1")


def test_sql_takes_parameters_files_and_standard_input(cli: CommandLine, model: Path) -> None:
    cli("register", "m", model)
    cli("register", "m", model)
    query = "SELECT version FROM model_versions WHERE version = $v AND name = $name"
    assert cli.json("sql", query, "--param", "v=2", "--param", "name=m") == [{"version": 2}]
    Path("q.sql").write_text("SELECT 'ü' AS x")
    assert cli.json("sql", "--file", "q.sql") == [{"x": "ü"}]
    assert cli.json("sql", stdin="SELECT 3 AS x") == [{"x": 3}]
    assert cli.error("sql", "--file", "none.sql", status=1)[0] == "NotFoundError"
    assert cli.error("sql", "SELECT 1", "--file", "q.sql", status=2)[0] == "UsageError"
    assert cli.error("sql", query, status=2)[0] == "InvalidInputError"


def test_sql_output_replaces_the_file_as_a_whole(cli: CommandLine, model: Path) -> None:
    Path("rows.csv").write_text("before")
    assert cli.error("sql", "SELECT broken", "--output", "rows.csv", status=2)[0] == "InvalidInputError"
    assert Path("rows.csv").read_text() == "before"
    assert cli.out("sql", "SELECT 1 AS a", "--format", "csv", "--output", "rows.csv") == "1 row in rows.csv\n"
    assert Path("rows.csv").read_bytes() == b"a\n1\n"
    assert cli.json("sql", "SELECT 1 AS a", "--output", "rows.json") == {
        "output": "rows.json",
        "rows": 1,
        "columns": ["a"],
    }
    assert json.loads(Path("rows.json").read_text()) == [{"a": 1}]
    cli("sql", "SELECT 1 AS a", "--output", "rows.txt")
    assert Path("rows.txt").read_text().split() == ["a", "1"]
    assert sorted(path.name for path in Path().iterdir()) == ["rows.csv", "rows.json", "rows.txt"]
    assert cli.error("sql", "SELECT 1", "--output", "no/such/folder.csv", status=1)[0] == "LakeError"
    assert cli.error("sql", "SELECT 1", "--output", ".", status=1)[0] == "LakeError"


# -- text from elsewhere ----------------------------------------------------------------------------------------------
HOSTILE = "a\x1b[31mred\x1b]0;title\x07 \x9b2J \u202egnp.exe\u202c\r\nnext\tcell\u2028end\x7f"


def test_nothing_that_was_written_can_command_the_terminal(cli: CommandLine, model: Path) -> None:
    cli("register", "m", model, "--description", HOSTILE, "--param", f"p={HOSTILE}", "--tag", f"t={HOSTILE}")
    cli("describe", "m", HOSTILE)
    cli("alias", "set", "m", "champion", "1", "--reason", HOSTILE)
    commands = [
        ["models"], ["versions", "m"], ["show", "m"], ["show", "m/1"], ["log"], ["alias", "list", "m"],
        ["tag-model", "m/1", f"u={HOSTILE}"], ["describe", "m/1", HOSTILE], ["sql", "SELECT * FROM model_versions"],
        ["sql", "FROM history"],
    ]  # fmt: skip
    for words in commands:
        for line in cli.out(*words).split("\n"):
            assert line.isprintable(), (words, line)
        text = cli.out("--json", *words)
        assert text.rstrip("\n").isprintable(), words
        assert json.loads(text)
    assert cli.json("show", "m/1")["description"] == HOSTILE
    rows = list(csv.reader(io.StringIO(cli.out("versions", "m"))))
    assert len(rows) == 2
    for words in (
        ["resolve", HOSTILE],
        ["show", "m", HOSTILE],
        ["sql", HOSTILE],
        [HOSTILE],
        ["models", f"--{HOSTILE}"],
    ):
        cli.error(*words, status=2)
