"""Watching what serves: a failing canary ends, a failing champion goes, and nothing else is a reason to do anything."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.command_line import CommandLine

import headwater
from headwater import gate_live
from headwater.cli import watch as command
from headwater.errors import InvalidInputError, LakeError, NotFoundError
from headwater.registry import Registry
from headwater.watch_model import Watched

POLICY = '[[production.gate]]\nlive = "accuracy"\nmin = 0.8\nmin_predictions = 10\nat_traffic = 90\n'
ONE_LAKE = pytest.mark.parametrize("registry_url", ["local"], indirect=True)


@pytest.fixture
def served(registry: Registry) -> Registry:
    """A registry with model `m`: version 2 is live, and 1 was before; version 3 is its canary."""
    Path("artifact").write_text("weights")
    for _ in range(4):
        registry.register("m", "artifact")
    registry.deploy("m/1", "production")
    registry.deploy("m/2", "production")
    registry.deploy("m/3", "production", "canary", 10)
    set_policy(registry, POLICY)
    return registry


def set_policy(registry: Registry, text: str | None) -> None:
    model_id = registry.get("m/1").model_id
    registry._context.write("gates", lambda tx: tx.event(model_id, "policy", text))


def log(registry: Registry, version: int, right: int, wrong: int, **columns: Any) -> None:
    """Log predictions of a version for what it serves with now, some right and some wrong."""
    deployment = next(each for each in registry.serving("production") if each.version == version)
    count = right + wrong
    ids = [f"{deployment.deployment_id}-{time.monotonic_ns()}-{number}" for number in range(count)]
    when = datetime.now(UTC) - timedelta(seconds=30)
    rows = {"external_id": ids, "predicted_at": [when] * count, "output": ["1"] * count, **columns}
    registry.log_predictions(pa.table(rows), deployment)
    labels = ["1"] * right + ["0"] * wrong
    registry.log_outcomes(pa.table({"external_id": ids, "label": labels}), deployment)


def verdicts(found: Watched) -> dict[int, str]:
    return {each.version: each.verdict for each in found.looks}


def serves(registry: Registry) -> dict[int, float | None]:
    return {each.version: each.traffic for each in registry.serving("production")}


def test_a_canary_that_fails_ends_and_the_reason_has_the_numbers(served: Registry) -> None:
    log(served, 2, 9, 1)
    found = served.watch("m")
    assert verdicts(found) == {2: "ok", 3: "not yet"}
    assert (found.failed, found.rolled_back, found.note) == (False, None, None)
    assert found.commit == served.head
    log(served, 3, 5, 5)
    told = served.watch("m", rollback=False)
    assert (told.failed, told.rolled_back, told.note) == (True, None, "rolling back was not asked for")
    assert serves(served) == {2: 90, 3: 10}
    done = served.watch("m")
    assert verdicts(done) == {2: "ok", 3: "failed"}
    assert done.rolled_back is not None
    assert done.rolled_back.version == 2
    assert serves(served) == {2: 100}
    assert served.resolve("m@champion").version == 2
    entry = served.log("m", limit=1)[0]
    assert (entry.kind, entry.commit) == ("rollback", done.rolled_back.commit)
    story = served.history("m", limit=1)[0]
    assert story.reason is not None
    for part in ("live gate failed", "version 3, canary", ">= 0.8", "found 0.5", "10 predictions", done.commit[:12]):
        assert part in story.reason
    # The same evidence is not there any more: nothing happens again.
    head = served.head
    again = served.watch("m")
    assert (verdicts(again), again.failed) == ({2: "ok"}, False)
    assert served.head == head


def test_a_champion_that_fails_goes_and_what_comes_back_begins_anew(served: Registry) -> None:
    served.set_traffic("m", 0)
    log(served, 2, 1, 9)
    done = served.watch("m")
    assert done.rolled_back is not None
    assert (done.rolled_back.version, done.rolled_back.previous) == (1, 2)
    assert serves(served) == {1: 100}
    assert served.get("m/2").stage == "archived"
    assert verdicts(served.watch("m")) == {1: "not yet"}
    log(served, 1, 2, 8)
    stuck = served.watch("m")
    assert (stuck.failed, stuck.rolled_back) == (True, None)
    assert stuck.note is not None
    assert "nothing to roll m back to" in stuck.note
    assert serves(served) == {1: 100}


@ONE_LAKE
def test_where_both_fail_the_version_before_comes_back_alone(served: Registry) -> None:
    log(served, 2, 0, 10)
    log(served, 3, 0, 10)
    done = served.watch("m")
    assert done.rolled_back is not None
    assert done.rolled_back.version == 1
    assert serves(served) == {1: 100}
    assert done.rolled_back.reason is not None
    assert "version 2, live" in done.rolled_back.reason
    assert "version 3, canary" in done.rolled_back.reason


@ONE_LAKE
def test_a_canary_that_fails_ends_though_what_is_live_fails_and_has_nothing_before_it(registry: Registry) -> None:
    Path("artifact").write_text("weights")
    for _ in range(2):
        registry.register("m", "artifact")
    registry.deploy("m/1", "production")
    registry.deploy("m/2", "production", "canary", 10)
    set_policy(registry, POLICY)
    log(registry, 1, 0, 10)
    log(registry, 2, 0, 10)
    done = registry.watch("m")
    assert (done.failed, done.note) == (
        True,
        "there is nothing to roll m back to: no other version was in production before",
    )
    assert done.rolled_back is not None
    assert "version 2, canary" in (done.rolled_back.reason or "")
    assert "version 1" not in (done.rolled_back.reason or "")
    assert serves(registry) == {1: 100}
    assert registry.watch("m").rolled_back is None


@ONE_LAKE
def test_a_champion_that_fails_beside_a_good_canary_is_not_given_its_requests(served: Registry) -> None:
    log(served, 2, 0, 10)
    log(served, 3, 10, 0)
    assert served.watch("m").rolled_back is not None
    assert serves(served) == {1: 100}


@ONE_LAKE
def test_gates_are_asked_whatever_the_share_and_those_of_promotions_alone_are_not(served: Registry) -> None:
    set_policy(served, POLICY + '[[production.gate]]\ncheck = "integration"\n')
    log(served, 3, 0, 10)
    found = served.watch("m", rollback=False)
    assert verdicts(found) == {2: "not yet", 3: "failed"}
    assert [len(each.results) for each in found.looks] == [1, 1]


@ONE_LAKE
def test_latency_of_live_predictions_is_a_live_gate_and_of_a_runner_none(served: Registry) -> None:
    set_policy(
        served,
        '[[production.gate]]\nlatency = "p95"\nmax_ms = 20\nfrom = "live"\nmin_predictions = 5\n'
        '[[production.gate]]\nlatency = "p99"\nmax_ms = 1\ncallable = "a:b"\n',
    )
    log(served, 3, 10, 0, latency_ms=[30.0] * 10)
    found = served.watch("m")
    assert verdicts(found) == {2: "not yet", 3: "failed"}
    (result,) = found.looks[1].results
    assert (result.gate, result.kind, result.found) == ("latency p95", "latency", "30 ms")
    assert found.rolled_back is not None


@ONE_LAKE
def test_a_shadow_that_fails_is_told_and_harms_nobody(served: Registry) -> None:
    served.deploy("m/4", "production", "shadow")
    set_policy(served, "[[production.gate]]\nshadow = true\nmin_predictions = 10\nmin_agreement = 0.9\n")
    log(served, 4, 10, 0)
    found = served.watch("m")
    assert verdicts(found) == {2: "no gates", 3: "no gates", 4: "not yet"}
    assert not found.failed
    assert serves(served) == {2: 90, 3: 10, 4: 100}


@ONE_LAKE
def test_a_gate_that_can_not_be_asked_is_no_reason(served: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(ask: Any) -> Any:
        raise NotFoundError("there is no such thing")

    monkeypatch.setattr(gate_live, "live", ask)
    log(served, 2, 0, 10)
    found = served.watch("m")
    assert (verdicts(found), found.failed) == ({2: "not yet", 3: "not yet"}, False)
    assert found.looks[0].results[0].source == "there is no such thing"


def test_a_lake_that_is_down_is_no_reason(served: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    log(served, 2, 0, 10)
    head = served.head

    def fail(*_: object, **__: object) -> Any:
        raise LakeError("the server is down")

    with monkeypatch.context() as patched:
        patched.setattr(served._context.lake, "localize", fail)
        patched.setattr(served._context.lake, "places", fail)
        with pytest.raises(LakeError, match="the server is down"):
            served.watch("m")
    assert served.head == head


@ONE_LAKE
def test_what_somebody_else_ended_meanwhile_is_not_rolled_back_once_more(
    served: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(served, 3, 0, 10)
    rollback = served._watching._promotions.rollback

    def late(*arguments: Any, **named: Any) -> Any:
        with headwater.open(served.url, actor="colleague") as other:
            other.watch("m")
        return rollback(*arguments, **named)

    monkeypatch.setattr(served._watching._promotions, "rollback", late)
    found = served.watch("m")
    assert (found.failed, found.rolled_back) == (True, None)
    assert found.note is not None
    assert "serves no more" in found.note
    assert serves(served) == {2: 100}
    assert served.log("m", limit=1)[0].actor == "colleague"


@ONE_LAKE
def test_what_is_asked_badly(served: Registry) -> None:
    with pytest.raises(NotFoundError, match="no model"):
        served.watch("n")
    with pytest.raises(InvalidInputError, match="m/1 is a version"):
        served.watch("m/1")
    set_policy(served, '[[production.gate]]\ncheck = "integration"\n')
    with pytest.raises(NotFoundError, match="has no live gate to watch"):
        served.watch("m")


# -- the command ------------------------------------------------------------------------------------------------------
@ONE_LAKE
def test_once_exits_with_3_where_a_gate_failed(served: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", served.url)
    line = CommandLine()
    log(served, 2, 10, 0)
    out = line.out("watch", "m", "--once")
    assert "accuracy" in out
    assert "not yet" in out
    assert "0 of 10 predictions with an outcome" in out
    log(served, 3, 0, 10)
    told = line("watch", "m", "--once", "--no-rollback", status=3)
    assert told.stderr.splitlines()[0] == "error: a live gate failed of m/3"
    out = told.stdout
    assert "FAILED" in out
    assert "not rolled back: rolling back was not asked for" in out
    found = line.json("watch", "m", "--once", status=3)
    assert found["rolled_back"]["version"] == 2
    assert found["looks"][1]["verdict"] == "failed"
    assert line.json("watch", "m", "--once")["failed"] is False
    assert line.error("watch", "n", "--once", status=1)[0] == "NotFoundError"
    line("watch", "m", "--interval", "0", status=2)


@ONE_LAKE
def test_it_goes_on_looking_after_a_rollback_and_after_errors(
    served: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", served.url)
    log(served, 3, 0, 10)
    waits: list[float] = []
    lake = type(served._context.lake)
    head = lake.head

    def fail(self: Any, branch: str) -> str:
        raise LakeError("the server is down")

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            monkeypatch.setattr(lake, "head", fail)
        elif len(waits) == 4:
            monkeypatch.setattr(lake, "head", head)
        elif len(waits) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "time", type("time", (), {"sleep": staticmethod(sleep)}))
    done = CommandLine()("watch", "m", "--interval", "7", status=130)
    assert waits == [7.0] * 5
    # The first look rolls back, the second is of what that left, then nothing has changed, then nothing can be read.
    assert done.stdout.count("as of commit") == 3
    assert done.stdout.count("rolled back to version 2") == 1
    assert done.stderr.count("can't look now, and nothing is changed: the server is down") == 1
    assert serves(served) == {2: 100}
    assert threading.active_count() < 20
