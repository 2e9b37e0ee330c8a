"""Child processes with a time limit, which end with everything that they started; knows no model and no data."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from headwater.errors import HeadwaterError, NotFoundError
from headwater.names import shown

__all__ = ["Dialogue", "run", "surroundings"]

_LINGER = 1.0
"""Seconds for which output is waited for that others still hold open when the child has ended."""

_TAIL = 1 << 14
_LONGEST_LINE = 1 << 20
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02
_OURS = ("HEADWATER_", "LAKECTL_")

Echo = Callable[[bytes], None]


class _Process(Protocol):
    """A child that leads a process group of its own."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), or None while it goes on."""


def surroundings(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what names a lake, a run or its keys, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {"PYTHONUNBUFFERED": "1", **kept, **variables}


def run(
    work: Sequence[str] | Callable[[], None],
    *,
    folder: Path,
    variables: Mapping[str, str],
    timeout: float,
    watch: Callable[[], None] | None = None,
    echo: Echo | None = None,
) -> None:
    """Run a command, or a function in a fork of this process, to its end; whatever it started ends with it.

    Args:
        work: The command, program first; or the function.
        folder: Where it runs.
        variables: What is added to its environment.
        timeout: Seconds that it may take.
        watch: Called again and again meanwhile; what it raises ends the child.
        echo: Takes what the child prints.

    Raises:
        NotFoundError: There is no such program.
        HeadwaterError: It took too long, or failed; the message ends with the last line that it printed.
    """
    reader, writer = os.pipe()
    tail = _Tail(reader, echo)
    try:
        with _unwinding():
            try:
                child = _start(work, folder, variables, writer)
            finally:
                os.close(writer)
                tail.start()
            try:
                status = _wait(child, time.monotonic() + timeout, watch)
            finally:
                _end(child)
    finally:
        tail.close()
    what = "the command" if not callable(work) else "the function"
    if status is None:
        raise HeadwaterError(
            f"{what} took longer than {timeout:g} s and was ended{tail.said()}", hint="give it more time: --timeout"
        )
    if status:
        raise HeadwaterError(f"{what} {_ended(status)}{tail.said()}", hint="nothing was written")


def _ended(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"


def _start(
    work: Sequence[str] | Callable[[], None], folder: Path, variables: Mapping[str, str], writer: int
) -> _Process:
    if callable(work):
        return _Fork(work, folder, variables, writer)
    return _popen(work, folder, variables, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)


def _popen(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], *, stdin: int, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            cwd=folder,
            env=surroundings(variables),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotFoundError(
            f"{shown(command[0])} can't be run: {reason}", hint="name a program, or a path to one"
        ) from None


class _Fork:
    """A function that runs in a fork of this process, and so may be any, with all that it closes over.

    The fork never returns into our code: it leaves without running what others registered for our end.
    """

    def __init__(self, work: Callable[[], None], folder: Path, variables: Mapping[str, str], output: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # There may be threads; what the function calls has to be able to live without them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            _leave(_forked(work, folder, variables, output))
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while it goes on."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status


def _forked(work: Callable[[], None], folder: Path, variables: Mapping[str, str], output: int) -> int:
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        environment = surroundings(variables)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    with suppress(Exception):
        sys.stdout.flush()
    return code


def _leave(code: int) -> NoReturn:
    os._exit(code)


def _wait(child: _Process, deadline: float, watch: Callable[[], None] | None) -> int | None:
    """Return a child's exit status, or None where the time was over first."""
    pause = _SHORTEST_PAUSE
    while (status := child.poll()) is None:
        if time.monotonic() >= deadline:
            return None
        if watch is not None:
            watch()
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return status


def _end(child: _Process) -> None:
    """Kill a child and whatever is left in its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    while child.poll() is None:
        # A fork may not have made its group yet.
        with suppress(ProcessLookupError, PermissionError):
            os.kill(child.pid, signal.SIGKILL)
        time.sleep(_SHORTEST_PAUSE)


@contextmanager
def _unwinding() -> Iterator[None]:
    """Let signals that would end this process at once end it by an exception, so that no child outlives it."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in ours:
        signal.signal(each, leave)
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)


class _Tail:
    """The end of what a child prints, read as it comes: a full pipe would stop the child."""

    def __init__(self, reader: int, echo: Echo | None = None) -> None:
        self._reader = reader
        self._echo = echo
        self._kept = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):
            while chunk := os.read(self._reader, 1 << 16):
                self._kept += chunk
                del self._kept[:-_TAIL]
                if self._echo is not None:
                    with suppress(OSError, ValueError):
                        self._echo(chunk)

    def close(self) -> None:
        """Wait for the end of the output; not for long, where something that left the group still holds it."""
        if self._thread.ident is not None:
            self._thread.join(_LINGER)
        if not self._thread.is_alive():
            os.close(self._reader)

    def said(self) -> str:
        """Return the last line, after a colon; nothing where nothing was printed."""
        lines = [line.strip() for line in bytes(self._kept).decode("utf-8", "replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "")
        return f": {shown(last, 200)}" if last else ""


class Dialogue:
    """A command that answers lines with lines, one after another; whatever it started ends when its `with` does.

    Args:
        command: The command, program first.
        folder: Where it runs.
        variables: What is added to its environment.

    Raises:
        NotFoundError: There is no such program.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, variables: Mapping[str, str]) -> None:
        reader, writer = os.pipe()
        self._tail = _Tail(reader)
        try:
            pipe = subprocess.PIPE
            self._child = _popen(command, folder, variables, stdin=pipe, stdout=pipe, stderr=writer)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._tail.start()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._to, self._from = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._to, False)
        self._pending = bytearray()

    def __enter__(self) -> Dialogue:
        self._unwinding = _unwinding()
        self._unwinding.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            _end(self._child)
        finally:
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            self._tail.close()
            self._unwinding.__exit__(None, None, None)

    def ask(self, line: bytes, deadline: float) -> bytes:
        """Send a line and return the line that answers it.

        Args:
            line: The line, without its end.
            deadline: The moment of `time.monotonic` until which the answer has to be there.

        Raises:
            HeadwaterError: There was no answer in time, or the command ended, or its answer has no end, or was there
                before the line was sent.
        """
        self.quiet(0)
        rest = memoryview(line + b"\n")
        while True:
            end = self._pending.find(b"\n")
            if end >= 0:
                answer = bytes(self._pending[:end])
                del self._pending[: end + 1]
                return answer
            if len(self._pending) > _LONGEST_LINE:
                raise HeadwaterError(f"the command answered a line of more than {_LONGEST_LINE:,} bytes")
            left = deadline - time.monotonic()
            if left <= 0:
                raise HeadwaterError("the command did not answer in time")
            readable, writable, _ = select.select([self._from], [self._to] if rest else [], [], min(left, 0.1))
            if writable:
                try:
                    rest = rest[os.write(self._to, rest[: 1 << 16]) :]
                except BlockingIOError:
                    pass
                except OSError:
                    raise self._gone() from None
            if readable:
                chunk = os.read(self._from, 1 << 16)
                if not chunk:
                    raise self._gone()
                self._pending += chunk

    def quiet(self, seconds: float) -> None:
        """Wait, and refuse a command that says something though it was not asked: it answers no questions.

        Args:
            seconds: For how long.

        Raises:
            HeadwaterError: It said something.
        """
        if not self._pending and select.select([self._from], [], [], seconds)[0]:
            self._pending += os.read(self._from, 1 << 16)
        if self._pending:
            raise HeadwaterError("the command wrote more than a line for each line that it was sent")

    def _gone(self) -> HeadwaterError:
        deadline = time.monotonic() + _LINGER
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(_SHORTEST_PAUSE)
        status = self._child.poll()
        self._tail._thread.join(_LINGER)
        how = "closed its output" if status is None else _ended(status)
        return HeadwaterError(f"the command {how}{self._tail.said()}")
