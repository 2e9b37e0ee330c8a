"""A lake that fails, dies, or lets others go first at a step of one's choice, for tests of merges."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import headwater
from headwater.errors import HeadwaterError, LakeError
from headwater.ids import new_id
from headwater.merge import Merge, Merges
from headwater.registry import Registry
from headwater.state import Folds
from headwater.transaction import Writer

WAYS = ("before", "after")


class SteppedLake:
    """A lake that calls `act` before, or after, the call of a number; all other calls are the lake's own.

    Args:
        lake: The lake.
        number: Which call, from 0.
        act: What happens then.
        way: "before" the call, or "after" it, when it has been done.
        alone: Whether writers of this machine do not queue, as those of other machines do not.
    """

    def __init__(
        self, lake: Any, number: int, act: Callable[[str], None], way: str = "before", *, alone: bool = False
    ) -> None:
        self._lake = lake
        self._left = number
        self._act = act
        self._way = way
        self._alone = alone
        self.calls: list[str] = []

    def exclusive(self) -> AbstractContextManager[object]:
        return nullcontext() if self._alone else self._lake.exclusive()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._lake, name)
        if not callable(found) or name.startswith("_"):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            due = self._left == 0
            self._left -= 1
            if due and self._way == "before":
                self._act(name)
            result = found(*args, **kwargs)
            if due and self._way == "after":
                self._act(name)
            return result

        return call

    @property
    def reached(self) -> bool:
        """Whether the call of that number was made."""
        return self._left < 0


@contextmanager
def stepped(registry: Registry, lake: SteppedLake) -> Iterator[Callable[..., Merge]]:
    """Give the merge of a registry that works on such a lake, with folds of its own that it shares with nobody."""
    folds = Folds(lake)  # type: ignore[arg-type]
    # As on a machine of its own: in one thread, two would wait for each other's lock on one file.
    folds._folder = folds._folder / new_id()
    context = replace(registry._context, lake=lake, folds=folds, writer=Writer(lake, folds))  # type: ignore[arg-type]
    try:
        yield Merges(context).merge
    finally:
        context.writer.close()
        folds.close()


def fail(name: str) -> None:
    raise LakeError(f"{name} failed", hint="try again")


def die(name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def merge_and_die(url: str, source: str, target: str, number: str, way: str) -> bool:
    """Merge in a process that is killed at a call; return whether it got so far."""
    child = os.fork()
    if child == 0:
        try:
            with headwater.open(url) as registry:
                lake = SteppedLake(registry._context.lake, int(number), die, way)
                with stepped(registry, lake) as merge:
                    merge(source, target)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the merge failed")
    return os.WIFSIGNALED(status)


# -- processes --------------------------------------------------------------------------------------------------------
def kill_while_merging(url: str, source: str, most: str) -> object:
    """Merge into branches `t0`, `t1`, ..., each time killed one call later, until a merge ends; return how far it was.

    Every process is forked from this one, which has imported everything and opened nothing.
    """
    import pyarrow.compute
    import pyarrow.parquet

    import headwater.registry

    assert pyarrow.compute
    assert pyarrow.parquet
    assert headwater.registry
    pyarrow.array([1])  # imports pandas where it is installed
    if url.startswith("lakefs://"):
        import headwater.lake.lakefs
    for number in range(int(most)):
        if not merge_and_die(url, source, f"t{number}", str(number), WAYS[number % 2]):
            return {"reached": number}
    return {"reached": int(most)}


def write_alone(url: str, branch: str, count: str, artifact: str, alone: str) -> object:
    """Register `count` versions on a branch, and merge it into main after each where it is another one.

    With `alone` writers don't queue behind one another, as those of several machines don't. Return the numbers, and how
    often the slowest operation had to begin again.
    """
    from headwater.transaction import Writer

    attempts: list[int] = []
    first = Writer._attempt

    def counted(self: Writer, *args: Any) -> Any:
        attempts[-1] += 1
        return first(self, *args)

    Writer._attempt = counted  # type: ignore[method-assign]
    numbers = []
    with headwater.open(url, branch=branch, actor=branch) as registry:
        if alone == "alone":
            registry._context.lake.exclusive = nullcontext  # type: ignore[method-assign]
        main = registry.branch("main")
        for _ in range(int(count)):
            attempts.append(0)
            numbers.append(registry.register("m", artifact, metrics={"auc": 0.5}).version)
            if branch != "main":
                attempts.append(0)
                assert main.merge(branch).commit
    return {"numbers": numbers, "attempts": max(attempts)}


def fill_the_disk(folder: str) -> object:
    """Merge while the disk has ever more room, until there is enough; return what was said, and what is there then."""
    room = Path(folder)
    child = os.fork()
    if child == 0:
        model = room.parent / "model.bin"
        model.write_bytes(os.urandom(50_000))
        with headwater.create(str(room / "lake")) as registry:
            registry.register("m", model)
            exp = registry.create_branch("exp")
            for number in range(40):
                exp.tag("m", {f"k{number}": "x" * 2000})
                exp.register("m", model)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with contextlib.closing(sqlite3.connect(room / "lake" / "lake.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else SQLite's log has room already
    said: list[list[str]] = []
    heads = set()
    ballast = room / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 4096)
        except OSError:
            pass
    while True:
        try:
            with headwater.open(str(room / "lake")) as opened:
                heads.add(opened.head)
                opened.merge("exp")
                break
        except HeadwaterError as error:
            said.append([type(error).__name__, error.message])
            os.truncate(ballast, max(0, ballast.stat().st_size - 4096))
    ballast.unlink()
    with headwater.open(str(room / "lake")) as opened:
        return {
            "said": said,
            "heads": len(heads),
            "versions": len(opened.versions("m")),
            "verified": opened.verify(),
            "tags": len(opened.models()[0].tags),
            "up_to_date": opened.merge("exp").up_to_date,
        }


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    known: dict[str, Callable[..., object]] = {
        each.__name__: each for each in (kill_while_merging, write_alone, fill_the_disk)
    }
    print(json.dumps(known[what](*arguments)))
