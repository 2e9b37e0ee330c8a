"""Routes: the split is stable, uniform, monotonic and the one of the document; its answers outlive the lake's."""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.command_line import CommandLine

import headwater
from headwater.errors import InvalidInputError, LakeError, NotFoundError
from headwater.registry import Registry
from headwater.routing import Router, place_of
from headwater.serving_model import Route

DOCUMENT = Path(__file__).parents[1] / "docs" / "routing.md"
KEYS = [f"customer-{number}" for number in range(2000)]


@pytest.fixture
def four(registry: Registry) -> Registry:
    """A registry with model `m` of four versions."""
    Path("artifact").write_text("weights")
    for _ in range(4):
        registry.register("m", "artifact")
    return registry


@pytest.fixture
def quick(four: Registry) -> Iterator[Router]:
    """A router that asks often."""
    router = four.router(interval=0.05)
    yield router
    router.close()


def who(router: Router | Registry, environment: str = "production") -> dict[str, int]:
    """Which version answers each key."""
    return {key: router.route("m", key, environment).version for key in KEYS}


def until(condition: Callable[[], object]) -> None:
    """Wait for something that a thread does."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def deploy(registry: Registry, version: int, mode: str, percent: float | None = None, to: str = "production") -> Any:
    return registry.deploy(f"m/{version}", to, mode, percent)


ONE_LAKE = pytest.mark.parametrize("registry_url", ["local"], indirect=True)
"""The split is made of what was read, and where that came from is all the same to it."""


# -- the split --------------------------------------------------------------------------------------------------------
def test_the_places_are_those_of_the_document() -> None:
    rows = re.findall(r"\| `([0-9a-f-]{36})` \| (?:`(.*)`|\(empty\)) \| ([0-9.]+) \|", DOCUMENT.read_text("utf-8"))
    assert len(rows) == 5
    for model_id, key, place in rows:
        assert place_of(f"{model_id}\0".encode(), key) == float(place)
        assert place_of(f"{model_id}\0".encode(), key.encode()) == float(place)
    assert place_of(b"m\0", 42) == place_of(b"m\0", "42") == place_of(b"m\0", bytearray(b"42"))
    assert 0 <= min(place_of(b"m\0", key) for key in KEYS) < 1 < 99 < max(place_of(b"m\0", key) for key in KEYS) < 100


@pytest.mark.parametrize(
    "key",
    [None, 1.5, True, ["a"], "\ud800", 10**5000],
    ids=lambda key: str(key)[:9] if type(key) is not int else "huge",
)
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(InvalidInputError, match="not a key"):
        place_of(b"m\0", key)


def test_two_models_split_independently() -> None:
    both = Counter((place_of(b"a\0", key) < 50, place_of(b"b\0", key) < 50) for key in KEYS)
    assert all(abs(count - 500) < 100 for count in both.values())
    assert len(both) == 4


@ONE_LAKE
def test_a_canary_that_grows_keeps_what_it_has_and_one_that_shrinks_loses_the_last(four: Registry) -> None:
    deploy(four, 1, "live")
    had: set[str] = set()
    for percent in (5, 25, 60, 100):
        deploy(four, 2, "canary", percent)
        with four.router() as router:
            found = who(router)
        gets = {key for key, version in found.items() if version == 2}
        assert had <= gets
        assert abs(len(gets) - 20 * percent) < 100
        assert set(found.values()) <= {1, 2}
        had = gets
    deploy(four, 2, "canary", 25)
    with four.router() as router:
        fewer = {key for key in KEYS if router.route("m", key).version == 2}
        routes = {router.route("m", key) for key in KEYS}
    assert fewer < had
    assert {(each.mode, each.traffic) for each in routes} == {("live", 75.0), ("canary", 25.0)}


@ONE_LAKE
def test_two_canaries_do_not_take_requests_of_each_other(four: Registry) -> None:
    deploy(four, 1, "live")
    deploy(four, 2, "canary", 10)
    deploy(four, 3, "canary", 20)
    with four.router() as router:
        before = who(router)
    deploy(four, 2, "canary", 30)
    with four.router() as router:
        after = who(router)
    assert {key for key in KEYS if before[key] == 2} < {key for key in KEYS if after[key] == 2}
    assert {key for key in KEYS if before[key] == 3} == {key for key in KEYS if after[key] == 3}
    deploy(four, 4, "canary", 50)
    with four.router() as router:
        counted = Counter(who(router).values())
    assert counted.keys() == {2, 3, 4}
    assert abs(counted[4] - 1000) < 120


@ONE_LAKE
def test_a_route_has_what_serving_code_needs(four: Registry) -> None:
    live = deploy(four, 1, "live")
    every, some = deploy(four, 2, "shadow"), deploy(four, 3, "shadow", 20)
    found = [four.route("m", key) for key in KEYS]
    first = found[0]
    assert (first.name, first.version, first.version_id, first.environment) == ("m", 1, live.version_id, "production")
    assert (first.mode, first.traffic, first.deployment_id) == ("live", 100.0, live.deployment_id)
    assert (first.reference, first.commit, first.stale_since) == ("m/1", four.head, None)
    assert all(each.shadows[0].deployment_id == every.deployment_id for each in found)
    copied = [each for each in found if some.deployment_id in {shadow.deployment_id for shadow in each.shadows}]
    assert abs(len(copied) - 400) < 80
    assert {shadow.mode for shadow in copied[0].shadows} == {"shadow"}
    assert four.route("m", KEYS[0]) is found[0]  # made once


@ONE_LAKE
def test_each_environment_has_its_own_split(four: Registry) -> None:
    deploy(four, 1, "live")
    deploy(four, 2, "live", to="staging")
    assert four.route("m", "a").version == 1
    assert four.route("m", "a", "staging").version == 2


@ONE_LAKE
def test_nothing_serves(four: Registry) -> None:
    with pytest.raises(NotFoundError, match="nothing of m serves production"):
        four.route("m", "a")
    with pytest.raises(NotFoundError, match="no model"):
        four.route("n", "a")
    with pytest.raises(InvalidInputError, match="m/1 is a version"):
        four.route("m/1", "a")
    with pytest.raises(InvalidInputError, match="not an environment"):
        four.route("m", "a", "Prod uction")
    with pytest.raises(InvalidInputError, match="not an interval"):
        four.router(interval=0)
    deploy(four, 2, "canary", 50, to="staging")
    found: Counter[bool] = Counter()
    said: set[str] = set()
    for key in KEYS:
        try:
            found[four.route("m", key, "staging").version == 2] += 1
        except NotFoundError as error:
            said.add(error.message)
            found[False] += 1
    assert [each for each in said if "its canaries answer 50 % of the requests" in each] == list(said)
    assert abs(found[True] - 1000) < 120


@ONE_LAKE
def test_a_champion_that_nobody_deployed_answers_in_production(four: Registry) -> None:
    four.set_alias("m", "champion", 3)
    assert four.route("m", "a").version == 3
    with pytest.raises(NotFoundError):
        four.route("m", "a", "staging")


# -- freshness --------------------------------------------------------------------------------------------------------
def test_a_router_follows_the_head_and_asks_one_call_while_it_stays(
    four: Registry, quick: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(four, 1, "live")
    assert quick.route("m", "a").version == 1
    with headwater.open(four.url, actor="colleague") as other:
        other.deploy("m/2", "production")
    until(lambda: quick.route("m", "a").version == 2)
    until(lambda: quick.status().commit == four.head)
    calls: list[str] = []
    head = four._context.lake.head
    monkeypatch.setattr(four._context.lake, "head", lambda branch: calls.append(branch) or head(branch))
    monkeypatch.setattr(type(four._context), "reading", lambda self: pytest.fail("the head has not moved"))
    until(lambda: len(calls) >= 3)
    assert quick.status().error is None
    assert set(calls) == {"main"}


def test_a_model_that_is_gone_is_gone_and_comes_back(four: Registry, quick: Router) -> None:
    found = deploy(four, 1, "live")
    assert quick.route("m", "a").version == 1
    four.undeploy(found.deployment_id)

    def gone() -> bool:
        try:
            return quick.route("m", "a") is None
        except NotFoundError as error:
            return "serves production" in error.message

    until(gone)
    four.deploy("m/2", "production")
    until(lambda: not gone())
    assert quick.route("m", "a").version == 2


def test_a_rename_stops_no_router(four: Registry, quick: Router) -> None:
    """It follows the model; one that is new asks for the new name."""
    deploy(four, 1, "live")
    assert quick.route("m", "a").reference == "m/1"
    four.rename("m", "free")
    until(lambda: quick.route("m", "a").name == "free")
    assert (quick.route("m", "a").reference, quick.route("m", "a").stale_since) == ("free/1", None)
    assert quick.route("free", "a").version == 1
    four.deploy("free/2", "production")
    until(lambda: quick.route("m", "a").reference == "free/2")
    with pytest.raises(NotFoundError, match="there is no model m"):
        four.route("m", "a")


@pytest.mark.parametrize("where", ["head", "fold"])
@pytest.mark.parametrize("what", [LakeError("the server is down"), RuntimeError("a bug")], ids=["lake", "bug"])
def test_answers_outlive_the_lake(
    four: Registry, quick: Router, monkeypatch: pytest.MonkeyPatch, where: str, what: Exception
) -> None:
    deploy(four, 1, "live")
    deploy(four, 2, "shadow", 50)
    assert quick.route("m", "a").stale_since is None

    def fail(*_: object) -> Any:
        raise what

    with monkeypatch.context() as patched:
        broken = (four._context.lake, "head") if where == "head" else (four._context.folds, "at_head")
        patched.setattr(*broken, fail)
        if where == "fold":
            quick._commit = None  # as if it had moved
        until(lambda: quick.status().error is not None)
        status = quick.status()
        assert status.error in ("the server is down", "RuntimeError: a bug")
        assert status.stale_since is not None
        found = quick.route("m", "a")
        assert (found.version, found.stale_since) == (1, status.stale_since)
        # What was never known is not made up.
        with pytest.raises(type(what)):
            quick.route("m", "a", "staging")
    until(lambda: quick.status().error is None)
    assert quick.status().stale_since is None
    until(lambda: quick.route("m", "a").stale_since is None)


def test_one_model_that_is_not_understood_leaves_the_others_fresh(four: Registry, quick: Router) -> None:
    Path("artifact").write_text("weights")
    four.register("n", "artifact")
    deploy(four, 1, "live")
    four.deploy("n/1", "production")
    assert quick.route("m", "a").version == quick.route("n", "a").version == 1
    found = four.deployments("n")[0]
    four._context.write("foreign", lambda tx: tx.event(found.model_id, "traffic", "nonsense", key="production"))
    four.deploy("m/2", "production")
    until(lambda: quick.route("m", "a").version == 2)
    assert quick.route("n", "a").version == 1
    until(lambda: quick.status().error is not None)
    until(lambda: quick.route("n", "a").stale_since is not None)


def test_a_view_of_a_commit_asks_nothing(four: Registry) -> None:
    deploy(four, 1, "live")
    with four.at(four.head) as view:
        deploy(four, 2, "live")
        assert view.route("m", "a").version == 1
        assert view._router._thread is None


# -- its life ---------------------------------------------------------------------------------------------------------
def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "headwater-route"]


def test_the_thread_ends_with_the_registry(registry_url: str) -> None:
    Path("artifact").write_text("weights")
    with headwater.open(registry_url) as registry:
        registry.register("m", "artifact")
        deploy(registry, 1, "live")
        registry.route("m", "a")
        other = registry.router(interval=0.05)
        other.route("m", "a")
        assert len(threads()) == 2
        assert all(each.daemon for each in threads())
    assert threads() == []
    with pytest.raises(InvalidInputError, match="closed"):
        other.route("m", "a")


def test_the_thread_ends_with_a_router_that_nobody_holds(four: Registry) -> None:
    deploy(four, 1, "live")
    router: Router | None = four.router(interval=0.05)
    assert router is not None
    router.route("m", "a")
    router = None
    gc.collect()
    until(lambda: not threads())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_process_goes_on_with_what_was_known_and_follows_by_itself(four: Registry, quick: Router) -> None:
    deploy(four, 1, "live")
    assert quick.route("m", "a").version == 1
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            first = quick.route("m", "a").version
            end = time.monotonic() + 20
            os.write(write, b"%d" % first)
            while quick.route("m", "a").version != 2 and time.monotonic() < end:
                time.sleep(0.01)
            os.write(write, b"%d" % quick.route("m", "a").version)
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"1"
    deploy(four, 2, "live")
    assert os.read(read, 1) == b"2"
    os.waitpid(child, 0)
    os.close(read)


# -- the command ------------------------------------------------------------------------------------------------------
def test_the_command_says_what_the_library_does(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    Path("artifact").write_text("weights")
    line = CommandLine()
    with headwater.open(registry_url) as registry:
        for _ in range(3):
            registry.register("m", "artifact")
        deploy(registry, 1, "live")
        deploy(registry, 2, "canary", 40)
        deploy(registry, 3, "shadow")
        for key in KEYS[:4]:
            found: Route = registry.route("m", key)
            said = line.json("route", "m", key)
            assert (said["version"], said["deployment_id"]) == (found.version, found.deployment_id)
            assert said["shadows"][0]["version"] == 3
            text = line.out("route", "m", key)
            assert f"m/{found.version} answers in production, {found.mode} with {found.traffic:g} %" in text
            assert "copied to" in text
    assert line.error("route", "m", "a", "--environment", "nowhere", status=1)[0] == "NotFoundError"
