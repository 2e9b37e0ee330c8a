"""The commands `trace`, `impact` and `show` of URNs, on both lakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command_line import CommandLine, run
from tests.lineage_world import World, make_world

from headwater.registry import Registry


@pytest.fixture
def world(registry: Registry, registry_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    return make_world(registry, tmp_path)


def test_trace_and_impact_print_every_form(world: World, tmp_path: Path) -> None:
    cli = CommandLine()
    urn = f"prediction:{world.prediction}"
    text = cli.out("trace", urn)
    assert text.startswith(f"{urn}\n")
    assert "read dataset:flights@1.1.0" in text
    assert "1 of 2 files of predictions were read" in text
    document = cli.json("trace", urn)
    assert document == json.loads(cli.out("trace", urn, "--format", "json"))
    assert document["files_read"] == 1
    assert {node["kind"] for node in document["nodes"]} == {
        "prediction",
        "deployment",
        "model",
        "run",
        "code",
        "dataset",
    }
    assert cli.out("trace", urn, "--format", "mermaid").startswith("flowchart LR\n")
    assert cli.out("trace", urn, "--format", "svg").startswith("<svg ")
    lines = cli.out("trace", urn, "--format", "openlineage").splitlines()
    assert [json.loads(line) for line in lines] == cli.json("trace", urn, "--format", "openlineage")
    assert "in all: 2 dataset versions" in cli.out("impact", "raw@1.0.0")
    rows = cli.json("impact", "--rows", "origin = 'JFK' and month = 2", "dataset:flights@1.0.0")
    assert rows["totals"]["predictions"] == 50
    assert cli.json("trace", "flights@1.1.0", "--ref", "main~1")["root"] == "dataset:flights@1.1.0"


def test_a_file_is_written_as_a_whole(world: World, tmp_path: Path) -> None:
    cli = CommandLine()
    place = tmp_path / "lineage.svg"
    place.write_text("old")
    said = cli.json("trace", f"prediction:{world.prediction}", "--format", "svg", "--output", place)
    assert said == {"output": str(place), "nodes": 7, "edges": 7}
    assert place.read_text().startswith("<svg ")
    assert "7 nodes in " in cli.out("trace", f"prediction:{world.prediction}", "--output", place)
    assert place.read_text().startswith("prediction:")
    cli.json("impact", "raw", "--output", place)
    assert json.loads(place.read_text())["root"] == "dataset:raw@1.0.0"
    kind, message, _ = cli.error("trace", "raw", "--output", tmp_path / "no" / "folder.svg", status=1)
    assert (kind, "can't be written" in message) == ("LakeError", True)
    assert [each.name for each in tmp_path.glob("*.part")] == []


def test_wrong_urns_and_usage_are_one_line(world: World) -> None:
    cli = CommandLine()
    for command in ("trace", "impact", "show"):
        kind, message, hint = cli.error(command, "artifact:x", status=2)
        assert (kind, message) == ("InvalidInputError", "there is no kind of URN 'artifact'")
        assert hint == "the kinds are model, dataset, run, code, deployment, prediction, object"
        assert cli.error(command, "run:0192f3a1-6c1e", status=1)[0] == "NotFoundError"
    assert cli.error("impact", "raw", "--rows", "1; DROP TABLE x", status=2)[0] == "InvalidInputError"
    cli("--json", "trace", "raw", "--format", "svg", status=2)


def test_show_takes_any_urn(world: World, registry: Registry) -> None:
    cli = CommandLine()
    assert cli.json("show", f"run:{world.run_id}")["run_id"] == world.run_id
    deployment = cli.json("show", f"deployment:{world.deployments['live']}")
    assert deployment["predictions"] == 30
    prediction = cli.json("show", f"prediction:{world.prediction}")
    assert prediction["output"] == "late"
    text = cli.out("show", f"prediction:{world.prediction}")
    assert "output" in text
    assert "late" in text
    data = registry.dataset("raw")
    assert cli.json("show", f"object:{data.path}raw.parquet@main")["size"] == data.bytes
    assert cli.json("show", "dataset:raw@1.0.0")["semver"] == "1.0.0"
    assert cli.json("show", "model:flight-delay/1")["version"] == 1


def test_it_runs_as_a_process_and_loads_nothing_heavy(world: World) -> None:
    done = run("trace", f"prediction:{world.prediction}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("prediction:")
