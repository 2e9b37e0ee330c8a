"""A long-lived child process that does work when told and says how long it took; knows neither Headwater nor MLflow.

The parent writes `{"op": NAME, ...arguments}` a line, the child answers `{"result": ...}` or `{"error": ...}` a line.
What is timed is timed in the child, so that neither pipes nor JSON count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent


class Worker:
    """A child process of the bench, as the parent sees it.

    Args:
        python: The interpreter to run it with.
        script: A file beside this one, which calls `serve`.
        folder: Where it runs, and where its standard error goes.
        environment: Variables to add to this process's.
    """

    def __init__(
        self, python: Path | str, script: str, folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{script}.{os.getpid()}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(python), str(HERE / script)],
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def start(self, op: str, **arguments: object) -> None:
        """Tell it to do something, and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
        self._process.stdin.flush()

    def finish(self) -> Any:
        """Wait for the answer.

        Raises:
            RuntimeError: It failed, or ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended: {self._log.read_text('utf-8', errors='replace')[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def call(self, op: str, **arguments: object) -> Any:
        """Have it do something and return the result."""
        self.start(op, **arguments)
        return self.finish()

    def close(self) -> None:
        """Let it end, and wait until it has."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def serve(operations: Mapping[str, Callable[..., Any]]) -> None:
    """Do what the parent says until it closes the pipe; what the operations print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        try:
            answer = {"result": operations[asked.pop("op")](**asked)}
        except Exception:  # everything that goes wrong here is the parent's to show
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def timed(times: int, work: Callable[[int], object]) -> list[float]:
    """Do something so many times and return the seconds that each took."""
    took = []
    for i in range(times):
        began = time.perf_counter()
        work(i)
        took.append(time.perf_counter() - began)
    return took
