"""Many writers at once: every change lands exactly once, on every lake."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headwater.errors import ConflictError
from headwater.ids import new_id
from headwater.lake.base import TRANSACTION_PREFIX, Lake
from headwater.lake.queue import queue

PROCESSES = 10


def test_ten_processes_on_one_branch_land_each_change_exactly_once(lake: Lake, is_remote: bool) -> None:
    each = 2 if is_remote else 10
    script = str(Path(__file__).with_name("race_one_writer.py"))
    writers = [
        subprocess.Popen(
            [sys.executable, script, lake.url, f"w{i}", str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(PROCESSES)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n", writer.communicate()[1]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.wait() == 0, writer.communicate()[1]
        for pipe in (writer.stdin, writer.stdout, writer.stderr):
            assert pipe is not None
            pipe.close()

    expected = {f"own/w{i}/{n}" for i in range(PROCESSES) for n in range(each)}
    assert {info.path for info in lake.list("main", "own/")} == expected
    landings = [commit for commit in lake.log(lake.head("main"), first_parent=True) if commit.parents]
    told = [commit.metadata["change"] for commit in landings]
    assert sorted(told) == sorted(f"w{i}/{n}" for i in range(PROCESSES) for n in range(each))
    # the contended object is a chain: each writer saw what the one before it had written
    assert lake.read("main", "contended").decode().split() == told[::-1]
    assert list(lake.branches()) == ["main"]


def test_threads_committing_disjoint_changes_to_one_branch_lose_nothing(lake: Lake) -> None:
    threads = 8

    def work(me: int) -> None:
        for i in range(5):
            branch = f"_hw_{me}_{i}"
            lake.create_branch(branch, lake.head("main"), hidden=True)
            lake.put(branch, f"{me}/{i}", b"%d" % i)
            lake.commit(branch, "m", {"change": f"{me}/{i}"})
            lake.merge(branch, "main", "m", {"change": f"{me}/{i}"})
            lake.delete_branch(branch)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    expected = {f"{me}/{i}" for me in range(threads) for i in range(5)}
    assert {info.path for info in lake.list("main")} == expected
    landed = [commit.metadata.get("change") for commit in lake.log(lake.head("main"), first_parent=True)]
    assert sorted(filter(None, landed)) == sorted(expected)


def test_of_two_with_the_same_name_one_makes_the_branch(lake: Lake) -> None:
    head = lake.head("main")
    made: list[str] = []

    def work(me: int) -> None:
        for i in range(5):
            try:
                lake.create_branch(f"b{i}", head)
                made.append(f"b{i}")
            except Exception as error:
                assert type(error).__name__ == "AlreadyExistsError"  # noqa: PT017

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert sorted(made) == [f"b{i}" for i in range(5)]


def test_exclusive_lets_one_in_at_a_time(lake: Lake) -> None:
    inside = 0
    most = 0
    guard = threading.Lock()

    def work(_: int) -> None:
        nonlocal inside, most
        with lake.exclusive():
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.002)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert most == 1


def test_the_queue_lets_a_writer_go_on_after_its_patience(tmp_path: Path) -> None:
    place = tmp_path / "folder" / "queue"
    with queue(place, 5.0):
        began = time.monotonic()
        with queue(place, 0.1) as held:
            assert not held
        assert 0.1 <= time.monotonic() - began < 60


def test_the_queue_is_a_courtesy_where_it_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with queue(tmp_path / "file" / "queue", 5.0):
        pass


def test_the_queue_is_left_by_an_error_and_by_the_end_of_a_process(tmp_path: Path) -> None:
    place = tmp_path / "queue"
    try:
        with queue(place, 5.0):
            raise ConflictError("x")
    except ConflictError:
        pass
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, pathlib, sys; from headwater.lake.queue import queue\n"
            "with queue(pathlib.Path(sys.argv[1]), 1): print('held', flush=True); sys.stdin.read()",
            str(place),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
        with queue(place, 60.0) as held:
            assert held


def test_a_merge_rests_on_the_newest_common_commit_whoever_made_it(lake: Lake) -> None:
    def hidden(name: str, source: str, path: str, body: bytes) -> str:
        """Make a hidden branch with a commit on it, and leave it there as a background clean-up would for a while."""
        branch = f"{TRANSACTION_PREFIX}{new_id()}_{name}"
        lake.create_branch(branch, source, hidden=True)
        lake.put(branch, path, body)
        lake.commit(branch, name, {})
        return branch

    first = lake.head("main")
    slow = hidden("slow", first, "slow", b"1")
    beside = hidden("beside", first, "fence", b"1")
    held = lake.merge(slow, "main", "land", {})
    own = hidden("own", held, "upload", b"2")
    head = lake.merge(beside, "main", "land", {})
    taken = lake.merge(head, own, "refresh", {})
    lake.put(own, "fence", b"2")
    ready = lake.commit(own, "own", {})

    assert lake.merge_base(head, ready) == head
    assert lake.merge_base(ready, head) == head
    assert len({each.id for each in lake.log(ready)}) == len(list(lake.log(ready)))
    landed = lake.merge(own, "main", "land", {})
    assert lake.read(landed, "fence") == b"2"
    assert lake.get_commit(ready).parents == (taken,)
