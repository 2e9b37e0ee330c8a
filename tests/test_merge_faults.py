"""What is left when merges die, race, or lose the lake's answers: all that they bring, or nothing of it."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3
from tests.merge_faults import WAYS, SteppedLake, fail, stepped
from tests.test_faults import result
from tests.test_merge_properties import Rows, of, rows_at

import headwater
from headwater.errors import (
    GateFailedError,
    HeadwaterError,
    IntegrityError,
    LakeError,
    NotFoundError,
    PermissionDeniedError,
)
from headwater.lake.lakefs import Patience
from headwater.registry import Registry

SCRIPT = Path(__file__).parent / "merge_faults.py"


def start(*arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def parted(registry: Registry, tmp_path: Path) -> Registry:
    """A registry whose branch `exp` has a version, a run, tags, and has compacted files that `main` has still."""
    model = tmp_path / "model.bin"
    model.write_bytes(os.urandom(200_000))
    registry.register("m", model, metrics={"auc": 0.5})
    for number in range(20):
        registry.tag("m", {f"base{number}": number})
    exp = registry.create_branch("exp")
    exp.register("m", model, metrics={"auc": 0.6})
    for number in range(12):
        exp.tag("m", {f"exp{number}": number})
    exp.add_dataset("flights", write(tmp_path / "flights.csv", "id,delay\n1,2\n"), key=["id"])
    exp.register("other", model)
    registry.register("m", model, metrics={"auc": 0.7})
    registry.set_alias("m", "champion", 1)
    return registry


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def union_of(registry: Registry) -> Rows:
    return rows_at(registry, registry.head) | rows_at(registry, registry.branch("exp").head)


def check_target(registry: Registry, target: str, before: str, union: Rows) -> None:
    """Check that the target has nothing of the merge, or all of it; and that merging again brings all of it."""
    lake = registry._context.lake
    head = lake.head(target)
    assert head == before or rows_at(registry, head) == union
    at = registry.branch(target)
    merge = at.merge("exp")
    assert merge.up_to_date == (head != before)
    assert rows_at(registry, lake.head(target)) == union
    assert sorted(version.version for version in at.versions("m")) == [1, 2, 3]
    assert at.verify() == 5


# -- at every step ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_fails_at_any_step_leaves_all_or_nothing(parted: Registry, way: str, is_remote: bool) -> None:
    """Before: the lake can't be reached. After: it did as it was asked, and its answer was lost."""
    lake, before, union = parted._context.lake, parted.head, union_of(parted)
    reached, number, landed = True, 0, 0
    while reached:
        target = f"t{number}"
        lake.create_branch(target, before)
        faulty = SteppedLake(lake, number, fail, way)
        with stepped(parted, faulty) as merge:
            try:
                assert merge("exp", target).commit
                landed += 1
            except LakeError as error:
                if not error.message.endswith("failed"):
                    raise
                landed += lake.head(target) != before
        reached = faulty.reached
        head = lake.head(target)
        assert head == before or rows_at(parted, head) == union
        if number % (9 if is_remote else 5) == 0 or not reached or head != before:
            check_target(parted, target, before, union)
        number += 1
    assert number > 10
    assert landed >= (2 if way == "after" else 1)
    parted._context.writer.close()
    assert set(lake.branches()) == {"main", "exp", *(f"t{each}" for each in range(number))}


@pytest.mark.timeout(900)
def test_a_merge_killed_at_any_step_leaves_all_or_nothing(parted: Registry, registry_url: str, is_remote: bool) -> None:
    lake, before, union = parted._context.lake, parted.head, union_of(parted)
    targets = [f"t{each}" for each in range(120)]
    for target in targets:
        lake.create_branch(target, before)
    reached = result(start("kill_while_merging", registry_url, "exp", len(targets)))["reached"]
    assert 10 < reached < len(targets)
    moved = 0
    for number, target in enumerate(targets[: reached + 1]):
        head = lake.head(target)
        moved += head != before
        assert head == before or rows_at(parted, head) == union
        if number % (9 if is_remote else 5) == 0 or head != before:
            check_target(parted, target, before, union)
    assert moved >= 1


def test_another_writer_may_land_first_at_any_step(parted: Registry, registry_url: str, is_remote: bool) -> None:
    """Once another writer tags, once another merge of the same branch lands, once the source goes on."""
    lake, before, union = parted._context.lake, parted.head, union_of(parted)
    numbers, reached, number = [], True, 0
    other = headwater.open(registry_url, actor="other")
    free = SteppedLake(other._context.lake, -1, fail, alone=True)
    with stepped(other, free) as rival:
        while reached:
            target, what = f"t{number}", ("tag", "merge", "nothing to see")[number % (2 if is_remote else 3)]
            lake.create_branch(target, before)

            def intrude(name: str, target: str = target, what: str = what) -> None:
                if what == "merge":
                    rival("exp", target)
                elif what == "tag":
                    other.branch(target).tag("m", {"other": "writer"})

            stepping = SteppedLake(lake, number, intrude, alone=True)
            with stepped(parted, stepping) as merge:
                merge("exp", target)
            reached = stepping.reached
            now = rows_at(parted, lake.head(target))
            extra = now - union
            assert now >= union
            assert len(of(extra, "events")) == len(extra) == (what == "tag" and reached)
            assert parted.branch(target).merge("exp").up_to_date
            numbers.append(sorted(version.version for version in parted.branch(target).versions("m")))
            number += 2 if not is_remote else 3
    other.close()
    assert numbers == [[1, 2, 3]] * len(numbers)
    assert len(numbers) > 10


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["queueing", "alone"])
def test_eight_writers_and_four_merging_branches_all_land(
    registry: Registry, registry_url: str, tmp_path: Path, is_remote: bool, how: str
) -> None:
    model = write(tmp_path / "model.bin", "weights" * 1000)
    registry.register("m", model, metrics={"auc": 0.5})
    branches = [f"b{number}" for number in range(4)]
    for branch in branches:
        registry.create_branch(branch)
    count = 3 if is_remote else 6
    racing = [start("write_alone", registry_url, each, count, model, how) for each in ["main"] * 8 + branches]
    done = [result(each) for each in racing]
    numbers = [1, *(number for each in done for number in each["numbers"])]
    assert sorted(numbers) == list(range(1, 12 * count + 2))
    assert sorted(version.version for version in registry.versions("m")) == sorted(numbers)
    assert registry.verify() == len(numbers)
    assert registry.sql("SELECT count(*), count(DISTINCT version_id) FROM metrics").fetchall() == [(len(numbers),) * 2]
    rows_at(registry, registry.head)
    for branch in branches:
        assert registry.merge(branch).up_to_date
    assert max(each["attempts"] for each in done) <= (40 if how == "alone" else 12)


def test_a_full_disk_leaves_nothing_of_a_merge(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    namespaces = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    script = f"mount -t tmpfs -o size=24m tmpfs {room} && exec {sys.executable} {SCRIPT} fill_the_disk {room}"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    ran = subprocess.run(
        [*namespaces, "sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert len(told["said"]) > 1
    assert told["heads"] == 1
    assert {kind for kind, _ in told["said"]} == {"LakeError"}
    assert all(("full" in message or "I/O" in message) and "\n" not in message for _, message in told["said"])
    assert (told["versions"], told["verified"], told["tags"], told["up_to_date"]) == (41, 41, 40, True)


def test_a_merge_asks_the_lake_as_often_for_many_changes_as_for_few(registry: Registry, tmp_path: Path) -> None:
    model = write(tmp_path / "model.bin", "weights")
    registry.register("m", model)
    lake, asked = registry._context.lake, []
    for count in (2, 9):
        source = registry.create_branch(f"source{count}")
        for number in range(count):
            source.register("m", model, metrics={"auc": 0.5})
            source.tag("m", {f"k{number}": number})
        registry.create_branch(f"target{count}").set_alias("m", "champion", 1)
        counting = SteppedLake(lake, -1, fail)
        with stepped(registry, counting) as merge:
            assert merge(source.ref, f"target{count}").transactions == 2 * count
        asked.append(sorted(counting.calls))
    assert asked[0] == asked[1]
    assert len(asked[0]) < 60


# -- branches that go away --------------------------------------------------------------------------------------------
def test_a_source_that_is_deleted_meanwhile_is_merged_all_the_same(parted: Registry) -> None:
    lake, union = parted._context.lake, union_of(parted)
    stepping = SteppedLake(lake, 8, lambda name: lake.delete_branch("exp"))
    with stepped(parted, stepping) as merge:
        assert merge("exp").commit
    assert rows_at(parted, parted.head) >= union
    with pytest.raises(NotFoundError, match="there is no branch, tag or commit 'exp'"):
        parted.merge("exp")


def test_a_target_that_is_deleted_meanwhile_is_not_made_again(parted: Registry, is_remote: bool) -> None:
    lake, before = parted._context.lake, parted.head
    reached, number = True, 0
    while reached:
        lake.create_branch("target", before)
        stepping = SteppedLake(lake, number, lambda name: lake.delete_branch("target"))
        with stepped(parted, stepping) as merge:
            try:
                merge("exp", "target")
            except NotFoundError as error:
                if "there is no branch" not in error.message:
                    raise
        reached = stepping.reached
        if "target" in lake.branches():
            lake.delete_branch("target")
        assert set(lake.branches()) == {"main", "exp"}
        number += 4 if is_remote else 1


# -- who may not, and what is damaged ---------------------------------------------------------------------------------
def on_lakefs(registry: Registry) -> Any:
    lake: Any = registry._context.lake
    assert lake.url.startswith("lakefs")
    return lake


@pytest.mark.parametrize("registry_url", ["lakefs"], indirect=True)  # only a server has rules of its own
def test_a_protected_branch_of_a_server_takes_merges_and_one_that_refuses_is_told(parted: Registry) -> None:
    """A rule of a server keeps people from committing to a branch; Headwater merges into it, and commits to others."""
    lake, union = on_lakefs(parted), union_of(parted)
    lake.create_branch("other", parted.head)
    protect(lake, "*", refused=["main", "other"], free=[])
    before = parted.head
    with pytest.raises(PermissionDeniedError, match="these keys may not do that") as caught:
        parted.merge("exp")
    assert caught.value.exit_status == 3
    assert "\n" not in caught.value.message
    assert parted.head == before
    protect(lake, "main", refused=["main"], free=["other"])
    assert parted.merge("exp").commit
    assert rows_at(parted, parted.head) == union


def protect(lake: Any, pattern: str, *, refused: list[str], free: list[str]) -> None:
    """Protect branches, and wait until the server, which keeps rules at hand for some seconds, follows."""
    lake._client.sdk.repositories.set_branch_protection_rules(lake._name, [{"pattern": pattern}])
    for branch in [*refused, *free]:
        for _ in range(300):
            try:
                lake.delete(branch, "nothing")
                may = True
            except PermissionDeniedError:
                may = False
            if may == (branch in free):
                break
            time.sleep(0.1)


STEPS = {"join": r"/merge/_hw_tx_", "commit": r"/branches/_hw_tx_[^/]*/commits$", "landing": r"/refs/_hw_tx_.*/merge/t"}

ANSWERS: dict[str, tuple[int, bool, type[HeadwaterError] | None]] = {
    "403": (403, True, PermissionDeniedError),
    "412": (412, True, GateFailedError),
    "500": (500, True, LakeError),
    "429 once": (429, False, None),
    "lost": (0, False, LakeError),
}
"""By name: the status, whether it is that each time, and what the merge raises."""


@pytest.mark.parametrize("registry_url", ["lakefs"], indirect=True)  # only a server has rules of its own
def test_what_a_server_answers_to_a_merge(parted: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, before, union = on_lakefs(parted), parted.head, union_of(parted)
    lake._client.patience = Patience(attempts=3, pause=0.001, longest_pause=0.002)
    pool = lake._client.sdk.pool
    ask = pool.request
    for number, (step, what) in enumerate(itertools.product(STEPS, ANSWERS)):
        target = f"t{number}"
        lake.create_branch(target, before)
        status, always, error = ANSWERS[what]
        if (step, what) == ("landing", "lost"):
            error = None  # it is looked for, and found
        seen: list[str] = []

        def request(method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            due = method == "POST" and re.search(STEPS[step], url.partition("?")[0])  # noqa: B023
            if not due or (seen and not always):  # noqa: B023
                return ask(method, url, *args, **kwargs)
            seen.append(url)  # noqa: B023
            if not status:  # noqa: B023
                ask(method, url, *args, **kwargs)
                raise urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "reset"))
            body = io.BytesIO(json.dumps({"message": "it said no"}).encode())
            return urllib3.HTTPResponse(body, {"Content-Type": "application/json"}, status, preload_content=False)  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(pool, "request", request)
            if error is None:
                assert parted.merge("exp", target).commit, (step, what)
            else:
                with pytest.raises(error) as caught:
                    parted.merge("exp", target)
                assert caught.value.exit_status == {403: 3, 412: 3}.get(status, 1)
                assert "\n" not in caught.value.message
        assert seen, (step, what)
        head = lake.head(target)
        assert head == before or rows_at(parted, head) == union
        assert (head == before) == (error is not None)
        if error is not None:
            assert parted.merge("exp", target).commit
            assert rows_at(parted, lake.head(target)) == union


@pytest.mark.parametrize("registry_url", ["lakefs"], indirect=True)  # only a server has rules of its own
def test_a_hook_of_a_server_may_refuse_a_merge(parted: Registry) -> None:
    lake = on_lakefs(parted)
    action = b"""
name: no merges
on:
  pre-merge:
    branches: [main]
hooks:
  - id: refuse
    type: lua
    properties:
      script: error("not on a Friday")
"""
    lake.put("main", "_lakefs_actions/refuse.yaml", action)
    before = lake.commit("main", "a hook", {})
    with pytest.raises(GateFailedError, match="hook of the repository refuses it") as caught:
        parted.merge("exp")
    assert caught.value.exit_status == 3
    assert parted.head == before


def test_a_commit_of_another_lake_is_not_found(parted: Registry, tmp_path: Path) -> None:
    with headwater.create(str(tmp_path / "other"), actor="other") as other:
        other.register("x", write(tmp_path / "x", "x"))
        with pytest.raises(NotFoundError, match="there is no"):
            parted.merge(other.head)


@pytest.mark.parametrize("with_checkpoint", [False, True], ids=["short", "long"])
@pytest.mark.parametrize("what", ["data file", "log entry", "missing entry", "missing data file"])
def test_a_damaged_table_of_the_source_is_found_and_nothing_is_written(
    parted: Registry, what: str, with_checkpoint: bool, is_remote: bool
) -> None:
    lake, exp = parted._context.lake, parted.branch("exp")
    for number in range(0 if not with_checkpoint else 60 if not is_remote else 18):
        exp.tag("m", {f"more{number}": number})
    table = "tables/events/"
    ours = {info.path for info in lake.list(parted.head, table)}
    new = [info.path for info in lake.list(exp.head, table) if info.path not in ours]
    data = max(path for path in new if path.endswith(".parquet") and "_delta_log" not in path)
    entries = sorted(path for path in new if path.endswith(".json"))
    if what == "data file":
        lake.put("exp", data, b"not a Parquet file")
    elif what == "log entry":
        lake.put("exp", entries[-1], b"not JSON")
    else:
        lake.delete("exp", entries[-2] if what == "missing entry" else data)
    lake.commit("exp", "damage", {})
    before = parted.head
    with headwater.open(parted.url) as opened:
        with pytest.raises(IntegrityError) as caught:
            opened.merge("exp")
        assert caught.value.exit_status == 5
        assert "events" in caught.value.message
        assert "\n" not in caught.value.message
        assert opened.head == before
