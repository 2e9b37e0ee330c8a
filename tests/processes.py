"""Processes that tests start: writers that race, a writer that is killed at random moments, a writer on a full disk.

Run as `python tests/processes.py WHAT ARGUMENTS...`; prints one JSON document.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import headwater
from headwater.errors import HeadwaterError
from headwater.lake.connect import connect


def register_many(url: str, name: str, count: str, size: str) -> object:
    """Register `count` versions of a model and return the numbers that were cut and the seconds each took."""
    numbers, seconds = [], []
    artifact = Path(f"artifact-{os.getpid()}.bin")
    artifact.write_bytes(os.urandom(int(size)))
    with headwater.open(url) as registry:
        for _ in range(int(count)):
            start = time.perf_counter()
            numbers.append(registry.register(name, artifact, metrics={"auc": 0.5}).version)
            seconds.append(time.perf_counter() - start)
    return {"numbers": numbers, "seconds": seconds}


def kill_while_registering(url: str, name: str, times: str, longest: str, seed: str) -> object:
    """Kill `times` registering processes, each after a random time of at most `longest` seconds of registering.

    Every process is forked from this one, which has imported everything and opened nothing, and says when it begins.
    """
    import duckdb
    import pyarrow.compute
    import pyarrow.parquet
    import pygit2

    import headwater.environment
    import headwater.registry

    assert duckdb
    assert pyarrow.compute
    assert pyarrow.parquet
    assert pygit2
    headwater.environment.capture()
    pyarrow.array([1])  # imports pandas where it is installed
    if url.startswith("lakefs://"):
        import headwater.lake.lakefs
    else:
        import headwater.lake.local
    random.seed(seed)
    artifact = Path("artifact.bin")
    artifact.write_bytes(os.urandom(300_000))
    killed, finished = 0, 0
    for _ in range(int(times)):
        ready, begin = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                with headwater.open(url) as registry:
                    os.write(begin, b".")
                    while True:
                        registry.register(name, artifact, metrics={"auc": 0.5}, tags={"pid": os.getpid()})
            finally:
                os._exit(1)
        os.close(begin)
        os.read(ready, 1)
        os.close(ready)
        time.sleep(random.uniform(0, float(longest)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        finished += os.WIFEXITED(status)
    return {"killed": killed, "finished": finished}


def kill_while_predicting(url: str, deployment: str, times: str, longest: str, seed: str) -> object:
    """Kill `times` processes that log predictions; each writes the IDs that it was given into a file, `;` after each.

    Every other one lands its predictions all the time, so that some die while they land.
    """
    import pyarrow.parquet

    import headwater.prediction_log
    import headwater.query

    assert pyarrow.parquet
    random.seed(seed)
    killed, files = 0, []
    for number in range(int(times)):
        ready, begin = os.pipe()
        told = Path(f"told-{number}.txt").absolute()
        files.append(str(told))
        child = os.fork()
        if child == 0:
            try:
                with headwater.open(url) as registry, told.open("ab", buffering=0) as stream:
                    log = registry.predictions(deployment, flush_rows=20 if number % 2 else 50_000)
                    os.write(begin, b".")
                    while True:
                        stream.write(log.log(input={"x": 1.5, "y": "z"}, output="a", score=0.5).encode() + b";\n")
                        time.sleep(0.001)
            finally:
                os._exit(1)
        os.close(begin)
        os.read(ready, 1)
        os.close(ready)
        time.sleep(random.uniform(0, float(longest)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    return {"killed": killed, "files": files}


def kill_while_pushing(source: str, url: str, namespace: str, times: str) -> object:
    """Kill `times` pushes, each after a few more commits than the one before, then push; return what was left to do."""
    seen, killed = [], 0
    for number in range(int(times)):
        child = os.fork()
        if child == 0:
            try:
                with headwater.open(source) as registry:

                    def die(sent: Any, after: int = number + 1) -> None:
                        if sent.commits == after:
                            os.kill(os.getpid(), signal.SIGKILL)

                    registry.push(url, storage_namespace=namespace or None, tell=die)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        lake = connect(url)
        seen.append(len(list(lake.log(lake.head("main")))) - 1)
        lake.close()
    lake = connect(url)
    before = len(list(lake.commits())) - 1
    lake.close()
    with headwater.open(source) as registry:
        moved = registry.push(url, storage_namespace=namespace or None)
    return {"killed": killed, "seen": seen, "before": before, "rest": moved.commits}


def fill_the_disk(folder: str) -> object:
    """Register until the disk that holds `folder` is full, then free some and go on; return what happened."""
    room = Path(folder)
    work = room.parent / "work"
    work.mkdir(exist_ok=True)
    small, large = work / "small.bin", work / "large.bin"
    ballast = room / "ballast"
    ballast.write_bytes(b"0" * 4_000_000)
    registry = headwater.create(str(room / "lake"))
    errors, landed = [], 0
    for _ in range(200):
        small.write_bytes(os.urandom(50_000))
        large.write_bytes(os.urandom(3_000_000))
        try:
            registry.register("m", large if len(errors) % 2 else small)
            landed += 1
        except HeadwaterError as error:
            errors.append([type(error).__name__, error.message])
            if len(errors) == 4:
                break
    whole = registry.verify()
    listed = len(registry.versions("m"))
    left = [path.name for path in (room / "lake" / "objects" / "tmp").glob("*")]
    ballast.unlink()
    again = registry.register("m", small).version
    registry.close()
    with headwater.open(str(room / "lake")) as opened:
        return {
            "errors": errors,
            "landed": landed,
            "verified": whole,
            "listed": listed,
            "left": left,
            "again": again,
            "after": opened.verify(),
        }


def die_while_logging(url: str, batches: str) -> object:
    """Log and flush batches of 1,000 points, land some, say how many are flushed, and log on until killed."""
    registry = headwater.open(url)
    run = registry.start_run("dies", params={"depth": 6})
    run.use("flights@1.0.0")
    for batch in range(int(batches)):
        first = batch * 1000
        run.log_metrics({"step": list(range(first, first + 1000)), "loss": [0.5] * 1000})
        if batch == int(batches) // 2:
            run.flush(wait=True)
    run.log_metric("auc", 0.7)
    run.flush()
    print(json.dumps({"run_id": run.run_id}), flush=True)
    while True:
        run.log_metric("noise", 0.1)
        time.sleep(0.001)


def take_in(url: str) -> object:
    """List the runs, which takes in what others left."""
    with headwater.open(url) as registry:
        return [[run.run_id, run.status] for run in registry.runs()]


def take_in_and_die(url: str, longest: str, seed: str) -> object:
    """Take in what others left, killed after a random time."""
    random.seed(seed)
    ready, begin = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with headwater.open(url) as registry:
                os.write(begin, b".")
                registry.runs()
        finally:
            os._exit(0)
    os.close(begin)
    os.read(ready, 1)
    time.sleep(random.uniform(0, float(longest)))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return {"killed": os.WIFSIGNALED(status)}


def leave_runs_open(url: str, how: str) -> object:
    """Start a run and let the process end without ending it: by its end, by an exception, or by closing the lake."""
    registry = headwater.open(url)
    run = registry.start_run(how)
    run.log_metric("auc", 0.5)
    if how == "raises":
        raise ValueError("a bug")
    if how == "closes":
        registry.close()
    return {"run_id": run.run_id}


def fork_while_running(url: str) -> object:
    """Log in a run from this process and from one that it forked."""
    with headwater.open(url) as registry, registry.start_run("forks") as run:
        run.log_metric("parent", 1)
        child = os.fork()
        if child == 0:
            try:
                headwater.current_run().log_metric("child", 2)
                headwater.current_run().flush()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        run.log_metric("parent", 3)
    with headwater.open(url) as registry:
        rows = registry.sql("SELECT key, value FROM lake.metrics ORDER BY key, value").fetchall()
        return {"rows": rows, "status": registry.runs()[0].status}


def fill_the_disk_of_the_spool(url: str, folder: str) -> object:
    """Log on a full disk: the spool's. Return what was said."""
    registry = headwater.open(url)
    run = registry.start_run("full")
    (Path(folder) / "ballast").write_bytes(b"")
    try:
        with open(Path(folder) / "ballast", "wb") as ballast:
            while True:
                ballast.write(b"0" * 65536)
                ballast.flush()
    except OSError:
        pass
    run.log_metrics({"loss": [0.5] * 200_000})
    said = []
    try:
        run.flush()
    except HeadwaterError as error:
        said.append([type(error).__name__, error.message])
    for _ in range(60):
        run.log_metrics({"loss": [0.5] * 200_000})
    try:
        run.flush()
    except HeadwaterError as error:
        said.append([type(error).__name__, error.message])
    try:
        run.finish()
    except HeadwaterError as error:
        said.append([type(error).__name__, error.message])
    (Path(folder) / "ballast").unlink()
    registry.close()
    with headwater.open(url) as registry:
        (count,) = registry.sql("SELECT count(*) FROM lake.metrics").fetchall()[0]
        return {"said": said, "points": count, "status": registry.runs()[0].status}


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    functions = (
        register_many, kill_while_registering, fill_the_disk, die_while_logging, take_in, take_in_and_die,
        kill_while_predicting, kill_while_pushing, leave_runs_open, fork_while_running, fill_the_disk_of_the_spool,
    )  # fmt: skip
    known = {each.__name__: each for each in functions}
    print(json.dumps(known[what](*arguments)))
