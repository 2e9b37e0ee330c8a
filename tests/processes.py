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

import headwater
from headwater.errors import HeadwaterError


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


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    known = {
        each.__name__: each for each in (register_many, kill_while_registering, kill_while_predicting, fill_the_disk)
    }
    print(json.dumps(known[what](*arguments)))
