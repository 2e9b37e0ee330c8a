"""What is left of a run whose process dies, forks, forgets to end it or runs out of disk: all that was flushed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import headwater
from headwater.registry import Registry

SCRIPT = Path(__file__).parent / "processes.py"


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out)


def left(registry: Registry) -> list[str]:
    return [path.name for path in (registry._context.lake.spool / "runs").glob("*")]


def die(registry: Registry, url: str, batches: int = 10) -> str:
    """Let a process log and flush, kill it, and return the ID of its run."""
    pl.DataFrame({"id": [1]}).write_parquet("f.parquet")
    registry.add_dataset("flights", "f.parquet")
    process = start("die_while_logging", url, batches)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return str(json.loads(line)["run_id"])


def check_whole(registry: Registry, run_id: str, batches: int = 10) -> None:
    info = registry.run(run_id)
    assert info.status == "killed"
    assert info.ended_at is not None
    assert info.ended_at >= info.started_at
    assert info.inputs == ["flights@1.0.0"]
    curve = info.curve("loss").column("step").to_pylist()
    assert curve == list(range(batches * 1000))
    assert info.curve("auc").column("value").to_pylist() == [0.7]
    assert info.params == {"depth": "6"}


def test_after_kill_9_all_that_was_flushed_is_there_once(registry: Registry, registry_url: str) -> None:
    run_id = die(registry, registry_url)
    assert len(left(registry)) == 1
    assert registry.at("main").run(run_id).status == "running"  # a view of a ref writes nothing
    assert [run.status for run in registry.runs()] == ["killed"]
    check_whole(registry, run_id)
    assert left(registry) == []
    before = registry.head
    assert registry.runs()[0].status == "killed"
    assert registry.head == before


def test_a_torn_frame_at_the_end_is_left_out(registry: Registry, registry_url: str) -> None:
    run_id = die(registry, registry_url)
    (path,) = (registry._context.lake.spool / "runs").glob("*")
    with open(path, "ab") as stream:
        stream.write(os.urandom(1000))
    check_whole(registry, run_id)


def test_what_a_crash_left_is_taken_in_once_by_any_number_of_takers(registry: Registry, registry_url: str) -> None:
    run_id = die(registry, registry_url)
    takers = [start("take_in", registry_url) for _ in range(4)]
    for each in takers:
        result(each)
    check_whole(registry, run_id)
    assert left(registry) == []


def test_a_taker_that_is_killed_at_any_moment_doubles_nothing(registry: Registry, registry_url: str) -> None:
    run_id = die(registry, registry_url)
    (path,) = (registry._context.lake.spool / "runs").glob("*")
    for seed in range(8):
        result(start("take_in_and_die", registry_url, 0.3, seed))
    # A copy of the spool, as if the taker had died after landing and before it was removed.
    body = path.read_bytes() if path.exists() else b""
    check_whole(registry, run_id)
    if body:
        path.write_bytes(body)
        check_whole(registry, run_id)
    assert left(registry) == []


def test_a_spool_that_landed_but_was_not_removed_lands_nothing_again(
    registry: Registry, registry_url: str, tmp_path: Path
) -> None:
    run_id = die(registry, registry_url)
    (path,) = (registry._context.lake.spool / "runs").glob("*")
    body = path.read_bytes()
    check_whole(registry, run_id)
    path.write_bytes(body)
    check_whole(registry, run_id)
    assert left(registry) == []


def test_a_spool_of_a_run_that_never_landed_is_removed_and_a_strange_file_kept(registry: Registry) -> None:
    from headwater import landing

    spool = landing.make_spool(registry._context, "00000000-0000-7000-8000-000000000000", owner=True, host=None)
    spool.append(b"x")
    spool.close()
    strange = spool.path.with_name("00000000-0000-7000-8000-000000000001.strange.spool")
    strange.write_bytes(b"something else")
    assert registry.runs() == []
    assert left(registry) == ["00000000-0000-7000-8000-000000000001.strange.damaged"]


@pytest.mark.parametrize(("how", "status"), [("ends", "finished"), ("raises", "failed"), ("closes", "finished")])
def test_a_process_that_ends_without_ending_its_run(
    registry: Registry, registry_url: str, how: str, status: str
) -> None:
    process = start("leave_runs_open", registry_url, how)
    process.communicate()
    (info,) = registry.runs()
    assert (info.name, info.status, info.metrics) == (how, status, {"auc": 0.5})
    assert left(registry) == []


def test_a_forked_process_takes_part_with_a_spool_of_its_own(registry: Registry, registry_url: str) -> None:
    found = result(start("fork_while_running", registry_url))
    assert found == {"rows": [["child", 2.0], ["parent", 1.0], ["parent", 3.0]], "status": "finished"}
    assert left(registry) == []


def test_a_full_disk_is_said_with_what_is_lost(tmp_path: Path) -> None:
    """The spool's disk is full, the lake's is not: what memory holds lands, and the rest is counted."""
    room, url = tmp_path / "room", str(tmp_path / "lake")
    room.mkdir()
    headwater.create(url).close()
    os.symlink(room, tmp_path / "lake" / "spool")
    namespaces = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    script = (
        f"mount -t tmpfs -o size=4m tmpfs {room} && "
        f"exec {sys.executable} {SCRIPT} fill_the_disk_of_the_spool {url} {room}"
    )
    ran = subprocess.run([*namespaces, "sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert [kind for kind, _ in told["said"]] == ["LakeError", "LakeError"]
    assert "in memory only" in told["said"][0][1]
    assert "full" in told["said"][0][1]
    assert "points lost" in told["said"][1][1]
    lost = int(told["said"][1][1].split(": ")[1].split(" points")[0].replace(",", ""))
    assert told["points"] + lost == 61 * 200_000
    assert told["points"] > 0
    assert told["status"] == "finished"
