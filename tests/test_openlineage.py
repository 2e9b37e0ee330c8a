"""OpenLineage events: what the specification demands of them, and that they tell what ran, what it read and made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.lineage_world import CODE, World, link, make_world, save

from headwater.openlineage import MODEL_FACET
from headwater.registry import Registry

HERE = Path(__file__).parent
ROOT = HERE.parent


def check(event: dict[str, Any]) -> None:
    """Check an event against the specification, as `tests/openlineage` has it, and our facet against its own schema."""
    formats = jsonschema.FormatChecker()
    schema = json.loads((HERE / "openlineage" / "RunEvent.json").read_text())
    jsonschema.Draft202012Validator(schema, format_checker=formats).validate(event)
    ours = json.loads((ROOT / "docs" / "openlineage" / "HeadwaterModelDatasetFacet.json").read_text())
    assert ours["$id"] == MODEL_FACET
    for data in [*event.get("inputs", []), *event.get("outputs", [])]:
        if "headwater_model" in data["facets"]:
            facets = {"headwater_model": data["facets"]["headwater_model"]}
            jsonschema.Draft202012Validator(ours, format_checker=formats).validate(facets)
            assert facets["headwater_model"]["_schemaURL"].startswith(MODEL_FACET)


def events(registry: Registry, urn: str, ask: str = "trace") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in getattr(registry, ask)(urn).render("openlineage").splitlines()]
    for event in found:
        check(event)
    return found


@pytest.fixture
def world(registry: Registry, tmp_path: Path) -> World:
    return make_world(registry, tmp_path)


def test_a_prediction_is_told_as_what_ran_for_it(world: World) -> None:
    found = events(world.registry, f"prediction:{world.prediction}")
    by_run: dict[str, list[dict[str, Any]]] = {}
    for event in found:
        by_run.setdefault(event["run"]["runId"], []).append(event)
    kinds = [event["eventType"] for event in by_run[world.run_id]]
    assert kinds == ["START", "COMPLETE"]
    end = by_run[world.run_id][-1]
    assert end["job"]["name"] == "run/delays/train"
    assert [each["name"] for each in end["inputs"]] == ["datasets/flights"]
    assert [each["name"] for each in end["outputs"]] == ["models/flight-delay"]
    code = end["job"]["facets"]["sourceCodeLocation"]
    assert (code["type"], code["version"], code["url"]) == (
        "git",
        CODE["commit"],
        "ssh://git@example.org/team/flights.git",
    )
    data = end["inputs"][0]["facets"]
    assert data["version"]["datasetVersion"] == "1.1.0"
    assert [(field["name"], field["type"]) for field in data["schema"]["fields"]][:2] == [
        ("id", "BIGINT"),
        ("origin", "VARCHAR"),
    ]
    assert world.registry.dataset("flights@1.1.0").commit in data["dataSource"]["uri"]
    model = end["outputs"][0]["facets"]["headwater_model"]
    assert (model["name"], model["version"], model["aliases"]) == ("flight-delay", 1, ["champion"])
    serving = by_run[world.deployments["live"]]
    assert [event["eventType"] for event in serving] == ["START", "RUNNING"]
    assert serving[-1]["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 30
    # flights came from raw
    assert any(event["job"]["name"] == "data/flights" and event["inputs"] for event in found)


def test_what_came_of_data_is_told_too_and_a_version_without_a_run_is_registered(world: World) -> None:
    found = events(world.registry, "raw@1.0.0", "impact")
    registered = [event for event in found if event["run"]["runId"] == world.versions[1]]
    assert [event["eventType"] for event in registered] == ["START", "COMPLETE"]
    assert registered[0]["job"]["name"] == "register/flight-delay"
    assert [each["name"] for each in registered[1]["inputs"]] == ["datasets/flights"]
    ended = [event["eventType"] for event in found if event["run"]["runId"] == world.deployments["ended"]]
    assert ended == ["START", "COMPLETE"]
    assert found == sorted(found, key=lambda event: (event["eventTime"], event["run"]["runId"]))


def test_hostile_names_make_events_that_can_be_read(world: World, tmp_path: Path) -> None:
    registry = world.registry
    odd = {'a "b"\n': [1], "é": [2]}
    registry.add_dataset("odd", save(tmp_path / "odd.parquet", odd), derived_from=["raw"])
    link(registry, (f"code:/home/a b/it's@{'a' * 40}", "built", f"run:{world.run_id}"))
    assert events(registry, "odd")
    assert events(registry, f"run:{world.run_id}")


def test_the_check_refuses_what_the_specification_does() -> None:
    with pytest.raises(jsonschema.ValidationError):
        check({"eventType": "DONE"})
