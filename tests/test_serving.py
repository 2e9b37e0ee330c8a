"""Deployments: what serves where with what share, now and at any time; who replaces whom; what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.command_line import CommandLine

import headwater
from headwater.errors import ConflictError, HeadwaterError, InvalidInputError, NotFoundError
from headwater.registry import Registry


@pytest.fixture
def three(registry: Registry) -> Registry:
    """A registry with model `m` of three versions."""
    Path("artifact").write_text("weights")
    for _ in range(3):
        registry.register("m", "artifact")
    return registry


def shares(registry: Registry, environment: str = "production") -> dict[str, tuple[str, float]]:
    """What serves, by version and mode, with its percent; the views say the same as the library."""
    found = registry.serving(environment)
    rows = registry.sql(
        "SELECT name || '/' || version, mode, traffic, deployment_id FROM serving WHERE environment = ?", [environment]
    ).fetchall()
    assert sorted(rows) == sorted((each.reference, each.mode, each.traffic, each.deployment_id) for each in found)
    for each in found:
        assert each.traffic is not None
    return {f"{each.reference} {each.mode}": float(each.traffic or 0) for each in found}  # type: ignore[misc]


def test_a_live_version_replaces_the_live_one_and_its_own_canary(three: Registry) -> None:
    first = three.deploy("m/1", "production")
    assert (first.name, first.version, first.environment, first.mode) == ("m", 1, "production", "live")
    assert (first.traffic, first.live, first.actor, first.ended_at) == (100.0, True, "tester", None)
    assert three._context.lake.get_commit(first.commit).metadata["headwater.kind"] == "deploy"
    assert shares(three) == {"m/1 live": 100}
    canary = three.deploy("m/2", "production", "canary", 5)
    assert shares(three) == {"m/1 live": 95, "m/2 canary": 5}
    other = three.deploy("m/3", "production", mode="canary")
    assert other.traffic == 10
    assert shares(three) == {"m/1 live": 85, "m/2 canary": 5, "m/3 canary": 10}
    three.deploy("m/2", "production", reason="better")
    assert shares(three) == {"m/2 live": 90, "m/3 canary": 10}
    for ended in (first, canary):
        now = three.deployment(ended.deployment_id)
        assert (now.live, now.traffic, now.ended_by) == (False, None, "tester")
        assert now.ended_at is not None
    assert three.deployments()[0].reason == "better"
    assert len(three.deployments()) == 4
    assert len(three.deployments(ended=False)) == 2


def test_the_same_version_in_the_same_mode_is_a_new_deployment(three: Registry) -> None:
    first = three.deploy("m/1", "production", "canary", 5)
    again = three.deploy("m/1", "production", "canary", 50)
    assert again.deployment_id != first.deployment_id
    assert shares(three) == {"m/1 canary": 50}


def test_a_shadow_gets_copies_and_takes_nothing_from_the_live_one(three: Registry) -> None:
    three.deploy("m/1", "production")
    assert three.deploy("m/2", "production", "shadow").traffic == 100
    three.deploy("m/3", "production", "shadow", 20)
    assert shares(three) == {"m/1 live": 100, "m/2 shadow": 100, "m/3 shadow": 20}
    three.deploy("m/2", "production")
    assert shares(three) == {"m/2 live": 100, "m/2 shadow": 100, "m/3 shadow": 20}


def test_environments_and_models_do_not_touch_each_other(three: Registry) -> None:
    three.register("n", "artifact")
    three.deploy("m/1", "production")
    three.deploy("m/2", "staging")
    three.deploy("n/1", "production")
    assert shares(three, "staging") == {"m/2 live": 100}
    assert shares(three) == {"m/1 live": 100, "n/1 live": 100}
    assert [each.reference for each in three.serving(name="m", environment="production")] == ["m/1"]
    assert [each.reference for each in three.deployments("n")] == ["n/1"]


def test_what_served_at_a_time(three: Registry) -> None:
    before = datetime.now(UTC)
    three.deploy("m/1", "production")
    three.deploy("m/2", "production", "canary", 25)
    between = three.serving()[0].recorded_at
    three.deploy("m/2", "production")
    assert [(each.version, each.traffic) for each in three.serving(time=between)] == [(2, 25), (1, 75)]
    assert three.serving(time=before - timedelta(days=1)) == []
    asked = "SELECT version, mode, traffic FROM serving_at(?) ORDER BY version"
    assert three.sql(asked, [between]).fetchall() == [(1, "live", 75.0), (2, "canary", 25.0)]
    assert three.sql(asked, [before - timedelta(days=1)]).fetchall() == []
    assert three.sql(asked, [datetime.now(UTC)]).fetchall() == [(2, "live", 100.0)]
    with pytest.raises(InvalidInputError, match="time zone"):
        three.serving(time=datetime(2026, 1, 1))


def test_a_deployment_is_ended_once(three: Registry) -> None:
    live = three.deploy("m/1", "production")
    canary = three.deploy("m/2", "production", "canary", 40)
    ended = three.undeploy(f"deployment:{canary.deployment_id}", reason="too slow")
    assert (ended.live, ended.ended_by) == (False, "tester")
    assert shares(three) == {"m/1 live": 100}
    with pytest.raises(ConflictError, match="serves no more"):
        three.undeploy(canary.deployment_id)
    three.undeploy(live.deployment_id)
    assert three.serving() == []
    asked = "SELECT live, traffic, ended_by, ended_at = ?, name, version FROM deployments WHERE mode = 'canary'"
    row = three.sql(asked, [ended.ended_at]).fetchall()
    assert row == [(False, None, "tester", True, "m", 2)]


def test_the_lineage_and_the_log_know_of_it(three: Registry) -> None:
    found = three.deploy("m/3", "production", reason="why not")
    edges = three.sql("SELECT source, relation, target FROM lake.lineage WHERE relation = 'deployed'").fetchall()
    assert edges == [(f"model:{found.version_id}", "deployed", f"deployment:{found.deployment_id}")]
    entry = three.log("m", limit=1)[0]
    assert (entry.kind, entry.message) == ("deploy", "deploy m/3 to production, live: why not")
    assert three.at(found.commit).deployments()[0].deployment_id == found.deployment_id


@pytest.mark.parametrize(
    ("reference", "to", "mode", "traffic", "kind", "said"),
    [
        ("m/9", "production", "live", None, NotFoundError, "no version m/9"),
        ("m", "production", "live", None, InvalidInputError, "a version is needed"),
        ("m/2", "production", "live", None, NotFoundError, "was deleted"),
        ("m/1", "../etc", "live", None, InvalidInputError, "not an environment"),
        ("m/1", "v3", "live", None, InvalidInputError, "not an environment"),
        ("m/1", "production", "blue", None, InvalidInputError, "not a mode"),
        ("m/1", "production", "canary", 101, InvalidInputError, "not a percentage"),
        ("m/1", "production", "canary", -1, InvalidInputError, "not a percentage"),
        ("m/1", "production", "canary", float("nan"), InvalidInputError, "not a percentage"),
        ("m/1", "production", "live", 5, InvalidInputError, "gets what canaries leave"),
        ("m/1", "production", "canary", 95, InvalidInputError, "would get 105 %"),
    ],
)
def test_what_can_not_be_deployed_is_one_sentence_and_writes_nothing(
    three: Registry, reference: str, to: str, mode: str, traffic: float | None, kind: type[HeadwaterError], said: str
) -> None:
    three.deploy("m/3", "production", "canary", 10)
    three.delete("m/2")
    head = three.head
    with pytest.raises(kind, match=said):
        three.deploy(reference, to, mode, traffic)
    assert three.head == head


def test_a_version_that_serves_can_not_be_deleted(three: Registry) -> None:
    found = three.deploy("m/1", "production")
    trial = three.deploy("m/1", "test")
    for reference in ("m/1", "m"):
        with pytest.raises(ConflictError, match="while alias 'champion' points at it"):
            three.delete(reference)
    three.delete("m/2")
    three.undeploy(found.deployment_id)
    for reference in ("m/1", "m"):
        with pytest.raises(ConflictError, match="while it serves test"):
            three.delete(reference)
    three.undeploy(trial.deployment_id)
    three.delete("m")
    assert three.sql("SELECT DISTINCT name, version, live FROM deployments").fetchall() == [("m", 1, False)]


def test_commands(three: Registry, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    cli = CommandLine()
    live = cli.json("deploy", "m/1", "--to", "production")
    assert (live["name"], live["version"], live["mode"], live["traffic"]) == ("m", 1, "live", 100.0)
    text = cli.out("deploy", "m/2", "--to", "production", "--mode", "canary", "--traffic", "5", "--reason", "try")
    assert "m/2 is canary in production with 5 %" in text
    assert [(row["version"], row["traffic"]) for row in cli.json("deployments", "m")] == [(2, 5.0), (1, 95.0)]
    assert "95 %" in cli.out("deployments", "--environment", "production")
    assert cli.json("show", f"deployment:{live['deployment_id']}")["deployment_id"] == live["deployment_id"]
    assert "live" in cli.out("show", f"deployment:{live['deployment_id']}")
    assert "is live in production no more" in cli.out("undeploy", live["deployment_id"])
    assert [row["version"] for row in cli.json("deployments")] == [2]
    assert [row["live"] for row in cli.json("deployments", "--all")] == [True, False]
    assert "ended" in cli.out("deployments", "--all")
    assert cli.error("undeploy", "nothing", status=1)[0] == "NotFoundError"
    assert cli.error("show", "deployment:nothing", status=1)[0] == "NotFoundError"
    assert "nothing is deployed" in cli("deployments", "--environment", "mars").stderr
    with headwater.open(registry_url) as opened:
        assert len(opened.serving()) == 1
