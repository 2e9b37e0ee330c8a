"""In a signed lake, what nobody who may has signed serves nobody, and the story says so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.forging import event, put_rows

import headwater
from headwater.registry import Registry


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A signed registry in which `m/1` was put into production by `root`."""
    for name in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("LAKE", "BRANCH", "ACTOR", "RUN_ID", "KEYS", "KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    registry = headwater.create(str(tmp_path / "lake"), actor="root", signed=True)
    Path("artifact").write_text("weights")
    for _ in range(2):
        registry.register("m", "artifact")
    registry.stage("m/1", "staging")
    registry.promote("m/1", "production")
    return registry


def test_forged_traffic_has_no_force_on_routes_and_is_told_in_the_story(lake: Registry, tmp_path: Path) -> None:
    with lake, lake.router(interval=0.05) as router:
        model_id, evil = lake.get("m/2").model_id, lake.get("m/2").version_id
        served = lake.serving("production")[0]
        assert router.route("m", "a").version == 1
        before = lake.history("m")
        assert not any(each.mark == "no force" for entry in before for each in entry.happenings)
        entries = [{"deployment_id": served.deployment_id, "version_id": evil, "mode": "live", "percent": 100.0}]
        with lake._context.reading() as fold:
            prev = [each for each, _ in fold.standing(model_id, "traffic", "production")]
        forged = event(model_id, "traffic", json.dumps(entries), key="production", prev=prev)
        archived = event(served.version_id, "stage", "archived", tx=forged["tx"])
        put_rows(lake._context.lake, tmp_path, [forged, archived])
        assert lake.route("m", "a").version == 1
        with headwater.open(lake.url, actor="root") as cold:
            assert cold.route("m", "a").version == 1
        staged = lake.sql("SELECT version, stage FROM stage_at('m', ?)", [datetime.now(UTC)]).fetchall()
        assert staged == [(1, "production"), (2, "none")]
        (traffic, stage, *rest) = lake.history("m")
        assert rest == before
        assert (traffic.commit, traffic.kind, traffic.actor) == (None, "forged", "mallory")
        assert [each.happenings[0].mark for each in (traffic, stage)] == ["no force", "no force"]
        assert traffic.happenings[0].text.startswith("NO FORCE: production is served by 2 live 100 %: ")
        assert stage.happenings[0].text.startswith("NO FORCE: version 1: none -> archived: ")
        then = lake.history("m", at=before[0].landed_at)
        assert then.champion == 1
        assert [each.version for each in then.traffic["production"]] == [1]
        assert then.entries == tuple(before)
