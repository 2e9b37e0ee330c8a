"""Stages, promotion, canaries and rollback: what is in production is one truth, and every way into it is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command_line import CommandLine

import headwater
from headwater import ConflictError, GateFailedError, InvalidInputError, NotFoundError, Registry
from headwater.errors import IntegrityError
from headwater.production import faces


@pytest.fixture
def three(registry: Registry, tmp_path: Path) -> Registry:
    """A registry with three versions of model `m`."""
    for number in (1, 2, 3):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(bytes([number]))
        registry.register("m", path)
    return registry


def state(registry: Registry) -> tuple[list[str], dict[int, float], str | None]:
    """Return every version's stage, the shares of those that serve in production, and the champion."""
    stages = [each.stage for each in reversed(registry.versions("m"))]
    shares = {each.version: each.traffic or 0.0 for each in registry.serving("production", name="m")}
    champion = next((str(each.version) for each in registry.aliases("m") if each.alias == "champion"), None)
    with registry._context.reading() as fold:
        found = faces(fold, registry.model("m").model_id)
    assert len({frozenset(each) for each in found.values()}) == 1, found
    return stages, shares, champion


def test_a_version_goes_from_stage_to_stage_into_production(three: Registry) -> None:
    three.stage("m/1", "development")
    three.stage("m/1", "staging", reason="for the load test")
    assert three.get("m/1").stage == "staging"
    found = three.promote("m/1", "production", reason="ready")
    assert (found.name, found.version, found.stage, found.traffic, found.previous) == (
        "m",
        1,
        "production",
        100.0,
        None,
    )
    assert (found.actor, found.reason, found.overridden, found.results) == ("tester", "ready", False, ())
    assert found.commit == three.log(limit=1)[0].commit
    assert state(three) == (["production", "none", "none"], {1: 100.0}, "1")
    three.stage("m/2", "staging")
    three.stage("m/3", "staging")
    assert three.stage("m/2", "production").previous == 1
    assert state(three) == (["archived", "production", "staging"], {2: 100.0}, "2")
    assert three.sql("SELECT name, version FROM production_models").fetchall() == [("m", 2)]


@pytest.mark.parametrize(
    ("path", "to", "hint"),
    [
        ([], "production", "`headwater stage m/1 staging` comes first"),
        (["development"], "production", "`headwater stage m/1 staging` comes first"),
        (["staging"], "development", "from staging a version enters production or archived"),
        (["archived"], "staging", "nothing is entered from archived"),
        (["archived"], "production", "`headwater rollback m --to 1` brings back what was in production"),
        (["staging", "production"], "archived", "promote another version, or `headwater rollback m`"),
        (["staging", "production"], "staging", "promote another version, or `headwater rollback m`"),
    ],
)
def test_only_the_transitions_of_the_table_are_made(three: Registry, path: list[str], to: str, hint: str) -> None:
    for stage in path:
        three.stage("m/1", stage)
    before = three.head
    with pytest.raises(GateFailedError, match="can't enter") as caught:
        three.promote("m/1", to)
    assert caught.value.hint == hint
    assert three.head == before


def test_what_is_no_stage_and_no_share(three: Registry) -> None:
    three.stage("m/1", "staging")
    for stage in ("Production", "", "none", "../x"):
        with pytest.raises(InvalidInputError, match=r"not a stage|no version goes back"):
            three.stage("m/1", stage)
    for share in (-1, 101, float("nan"), float("inf"), True):
        with pytest.raises(InvalidInputError, match="not a percentage"):
            three.promote("m/1", "production", traffic=share)
    with pytest.raises(InvalidInputError, match="only production has traffic"):
        three.promote("m/2", "staging", traffic=5)
    with pytest.raises(InvalidInputError, match="gets no request"):
        three.promote("m/1", "production", traffic=0)
    with pytest.raises(InvalidInputError, match="an override needs a reason"):
        three.promote("m/1", "production", override=" ")
    with pytest.raises(ConflictError, match="a canary beside nothing"):
        three.promote("m/1", "production", traffic=5)
    with pytest.raises(NotFoundError, match="no canary whose traffic could be set"):
        three.set_traffic("m", 25)
    with pytest.raises(NotFoundError, match="there is no version"):
        three.promote("m/9", "staging")


def test_a_canary_gets_more_and_more_until_it_is_in_production(three: Registry) -> None:
    three.set_alias("m", "champion", 1)
    three.stage("m/2", "staging")
    begun = three.promote("m/2", "production", traffic=5)
    assert (begun.stage, begun.traffic) == ("staging", 5.0)
    assert state(three) == (["production", "staging", "none"], {2: 5.0, 1: 95.0}, "1")
    (canary,) = [each for each in three.serving("production") if each.mode == "canary"]
    three.set_traffic("m", 25)
    assert state(three)[1] == {2: 25.0, 1: 75.0}
    assert three.deployment(canary.deployment_id).traffic == 25.0
    three.set_traffic("m", 100)
    assert state(three) == (["archived", "production", "none"], {2: 100.0}, "2")


def test_a_canary_is_ended_by_no_traffic_and_by_a_rollback(three: Registry) -> None:
    three.set_alias("m", "champion", 1)
    three.stage("m/2", "staging")
    three.promote("m/2", "production", traffic=5)
    assert three.set_traffic("m", 0).traffic == 0.0
    assert state(three) == (["production", "staging", "none"], {1: 100.0}, "1")
    three.promote("m/2", "production", traffic=5)
    back = three.rollback("m", reason="worse")
    assert (back.version, back.previous, back.traffic, back.reason) == (1, 2, 100.0, "worse")
    assert state(three) == (["production", "staging", "none"], {1: 100.0}, "1")


def test_the_challenger_becomes_the_canary(three: Registry) -> None:
    three.set_alias("m", "champion", 1)
    three.stage("m/3", "staging")
    three.set_alias("m", "challenger", 3)
    three.set_traffic("m", 50)
    assert state(three)[1] == {3: 50.0, 1: 50.0}


def test_a_beginners_challenger_becomes_the_canary_whatever_stage_it_is_in(three: Registry) -> None:
    three.set_alias("m", "challenger", 2)
    with pytest.raises(ConflictError, match="a canary beside nothing"):
        three.set_traffic("m", 30)
    three.set_alias("m", "champion", 1)
    with pytest.raises(NotFoundError, match="m has no canary to end"):
        three.set_traffic("m", 0)
    assert three.set_traffic("m", 30).stage == "staging"
    assert state(three) == (["production", "staging", "none"], {2: 30.0, 1: 70.0}, "1")
    three.set_traffic("m", 0)
    three.stage("m/2", "archived")
    assert three.set_traffic("m", 10).stage == "staging"
    assert state(three)[0] == ["production", "staging", "none"]
    three.set_traffic("m", 100)
    assert state(three) == (["archived", "production", "none"], {2: 100.0}, "2")


def test_with_gates_a_challenger_is_staged_before_it_gets_traffic(three: Registry) -> None:
    three.set_alias("m", "champion", 1)
    three.set_alias("m", "challenger", 2)
    three.set_gates("m", '[production]\n[[production.gate]]\ncheck = "load"')
    with pytest.raises(GateFailedError, match="m/2 is in no stage"):
        three.set_traffic("m", 30)


def test_what_serves_in_production_is_not_archived_by_hand(three: Registry) -> None:
    three.set_alias("m", "champion", 1)
    three.deploy("m/2", "production", "canary", 10)
    before = three.head
    with pytest.raises(
        GateFailedError, match="m/2 gets 10 % of production's requests, and can't be archived"
    ) as caught:
        three.stage("m/2", "archived")
    assert caught.value.hint == "`headwater traffic m 0` ends it as a canary"
    assert three.head == before
    three.deploy("m/3", "production", "canary", 10)
    with pytest.raises(GateFailedError) as caught:
        three.promote("m/2", "archived", override="because")
    assert caught.value.hint == "`headwater traffic m 0 --version 2` ends it as a canary"
    three.set_traffic("m", 0, version=2)
    three.stage("m/2", "archived")
    assert state(three) == (["production", "archived", "staging"], {3: 10.0, 1: 90.0}, "1")


def test_several_canaries_have_to_be_told_apart(three: Registry) -> None:
    three.set_alias("m", "champion", 1)
    three.deploy("m/2", "production", "canary", 10)
    three.deploy("m/3", "production", "canary", 10)
    with pytest.raises(InvalidInputError, match="versions 2 and 3 of m are canaries"):
        three.set_traffic("m", 20)
    three.set_traffic("m", 20, version=3)
    assert state(three)[1] == {3: 20.0, 2: 10.0, 1: 70.0}
    with pytest.raises(InvalidInputError, match="would get 105 %"):
        three.set_traffic("m", 95, version=3)
    with pytest.raises(NotFoundError, match="m/1 is no canary"):
        three.set_traffic("m", 5, version=1)


def test_rolling_back_goes_back_and_not_forth(three: Registry) -> None:
    for number in (1, 2, 3):
        three.set_alias("m", "champion", number)
    assert three.rollback("m").version == 2
    assert three.rollback("m").version == 1
    with pytest.raises(NotFoundError, match="there is nothing to roll m back to"):
        three.rollback("m")
    assert state(three) == (["production", "archived", "archived"], {1: 100.0}, "1")
    assert three.rollback("m", 3).previous == 1
    assert state(three) == (["archived", "archived", "production"], {3: 100.0}, "3")


def test_there_is_no_rolling_back_to_what_was_never_in_production(three: Registry) -> None:
    with pytest.raises(NotFoundError, match="there is nothing to roll m back to"):
        three.rollback("m")
    three.set_alias("m", "champion", 1)
    with pytest.raises(GateFailedError, match="m/2 was never in production, and only what was can be rolled back to"):
        three.rollback("m", 2)
    with pytest.raises(NotFoundError, match="there is no version m/9"):
        three.rollback("m", 9)
    with pytest.raises(ConflictError, match="is in production already"):
        three.rollback("m", 1)


def test_a_beginner_is_never_refused(three: Registry) -> None:
    three.set_alias("m", "champion", 2)
    assert state(three) == (["none", "production", "none"], {2: 100.0}, "2")
    stages = three.sql("SELECT value FROM history WHERE kind = 'stage' AND version = 2 ORDER BY event_id").fetchall()
    assert stages == [("staging",), ("production",)]
    three.deploy("m/3", "production")
    assert state(three) == (["none", "archived", "production"], {3: 100.0}, "3")
    three.set_alias("m", "champion", 2)
    assert state(three) == (["none", "production", "archived"], {2: 100.0}, "2")
    three.deploy("m/1", "production", "canary", 10)
    assert state(three) == (["staging", "production", "archived"], {1: 10.0, 2: 90.0}, "2")
    three.delete_alias("m", "champion")
    assert state(three) == (["staging", "archived", "archived"], {1: 10.0}, None)
    assert three.rollback("m").version == 2


def test_to_end_the_deployment_in_production_is_to_take_it_out(three: Registry) -> None:
    found = three.deploy("m/1", "production")
    three.undeploy(found.deployment_id, reason="broken")
    assert state(three) == (["archived", "none", "none"], {}, None)


def test_other_environments_touch_neither_stage_nor_champion(three: Registry) -> None:
    three.deploy("m/1", "test")
    three.deploy("m/2", "production", "shadow")
    assert [each.stage for each in three.versions("m")] == ["none"] * 3
    assert three.aliases("m") == []


def test_what_is_so_already_is_not_written_again(three: Registry) -> None:
    three.stage("m/1", "staging")
    three.promote("m/1", "production")
    before = three.head
    again = three.promote("m/1", "production")
    assert (again.version, again.stage) == (1, "production")
    three.set_alias("m", "champion", 1)
    assert three.head == before


def test_an_altered_artifact_is_not_promoted(three: Registry) -> None:
    three.stage("m/1", "staging")
    path = three.get("m/1").path
    with three._context.reading() as fold:
        (file,) = three.files("m/1")
        assert fold.commit
    three._context.write("tamper", lambda tx: tx.put(f"{path}{file.path}", b"another"))
    with pytest.raises(IntegrityError):
        three.promote("m/1", "production")
    assert three.get("m/1").stage == "staging"


def test_the_commands(three: Registry, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    cli = CommandLine()
    three.set_alias("m", "champion", 1)
    assert "m/2 is in staging" in cli.out("stage", "m/2", "staging")
    assert "m/2 gets 5 % of production's requests" in cli.out("promote", "m/2", "--to", "production", "--traffic", "5")
    assert cli.json("traffic", "m", "25")["traffic"] == 25.0
    assert "m/2 is in production, with 100 % of the requests" in cli.out("traffic", "m", "100")
    text = cli.out("rollback", "m", "--reason", "worse")
    assert "m/1 is back in production, with all requests" in text
    assert "m/2" in text
    assert cli.json("rollback", "m", "--to", "2")["previous"] == 1
    assert (
        cli.out("alias", "delete", "m", "champion")
        == "m@champion is gone\nm/2 is in production no more, and archived\n"
    )
    deployed = cli.json("deploy", "m/3", "--to", "production")["deployment_id"]
    assert cli.out("undeploy", deployed) == "m/3 is live in production no more; it is archived, and no champion\n"
    cli("alias", "set", "m", "champion", "1")
    assert cli.json("alias", "delete", "m", "champion")["archived"] == [1]


def test_reverting_a_merge_that_brought_a_promoted_version_leaves_one_truth(three: Registry, tmp_path: Path) -> None:
    three.set_alias("m", "champion", 1)
    exp = three.create_branch("exp")
    exp.register("m", tmp_path / "1.bin")
    exp.set_alias("m", "champion", 4)
    merge = three.merge("exp")
    assert merge.commit is not None
    assert state(three)[2] == "4"
    undone = three.revert(merge.commit)
    assert state(three) == (["production", "none", "none"], {1: 100.0}, "1")
    assert three.audit().clean
    assert undone.commit is not None
    again = three.revert(undone.commit)
    assert state(three) == (["archived", "none", "none", "production"], {4: 100.0}, "4")
    assert again.commit is not None
    three.revert(again.commit)
    three.undelete("m/4")
    assert state(three) == (["production", "none", "none", "archived"], {1: 100.0}, "1")


def test_an_altered_artifact_becomes_no_champion_and_is_not_deployed(three: Registry) -> None:
    path = three.get("m/1").path
    (file,) = three.files("m/1")
    three._context.write("tamper", lambda tx: tx.put(f"{path}{file.path}", b"another"))
    for move in (
        lambda: three.set_alias("m", "champion", 1),
        lambda: three.deploy("m/1", "production"),
        lambda: three.deploy("m/1", "production", "canary", 5),
    ):
        with pytest.raises(IntegrityError):
            move()
    assert state(three) == (["none", "none", "none"], {}, None)


def test_who_made_a_signed_lake_and_is_alone_in_it_is_a_beginner_too(signed_url: str, tmp_path: Path) -> None:
    (tmp_path / "artifact").write_text("weights")
    with headwater.open(signed_url, actor="root") as root:
        root.register("m", tmp_path / "artifact")
        root.register("m", tmp_path / "artifact")
        root.set_alias("m", "champion", 1)
        assert root.deploy("m/2", "production").traffic == 100.0
        assert [each.stage for each in reversed(root.versions("m"))] == ["archived", "production"]
        assert root.audit().clean
