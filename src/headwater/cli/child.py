"""Running a command as a run: its output goes on and is kept, signals reach it, its exit status is ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from headwater import rehearsals
from headwater.active import RUN_ID
from headwater.errors import HeadwaterError, NotFoundError
from headwater.lake.base import REHEARSAL_PREFIX
from headwater.names import shown

if TYPE_CHECKING:
    from headwater.model import RunInfo
    from headwater.registry import Registry

__all__ = ["OUTPUT", "run_command"]

OUTPUT = "output.txt"
"""The artifact of a run that holds what its command printed."""

_KEPT = 4 << 20
"""Bytes that are kept of the beginning of the output, and as many of its end."""

_LINGER = 2.0
"""Seconds for which output is waited for that others still hold open when the command has ended."""


class _Output:
    """What a command printed on both of its streams, in the order in which it came; of much, the beginning and end."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    def add(self, chunk: bytes) -> None:
        with self._guard:
            room = _KEPT - len(self._head)
            if room > 0:
                self._head += chunk[:room]
                chunk = chunk[room:]
            self._tail += chunk
            over = len(self._tail) - _KEPT
            if over > _KEPT:  # now and then, not for each chunk
                self._left_out += over
                del self._tail[:over]

    def body(self) -> bytes:
        with self._guard:
            over = max(0, len(self._tail) - _KEPT)
            left_out, tail = self._left_out + over, bytes(self._tail[over:])
            between = f"\n... {left_out:,} bytes are left out ...\n".encode() if left_out else b""
            return bytes(self._head) + between + tail


def run_command(
    registry: Registry, words: Sequence[str], name: str | None, attributes: Mapping[str, Any], *, to_stderr: bool
) -> tuple[RunInfo, int]:
    """Run a command as a run; return the run and the exit status.

    Args:
        registry: The lake.
        words: The command, program first.
        name: What the run is called.
        attributes: What else `Runs.start` takes.
        to_stderr: Whether its standard output goes to standard error, because ours is for a document.

    Raises:
        NotFoundError: There is no such program; nothing is written.
    """
    import shutil

    if shutil.which(words[0]) is None:
        raise NotFoundError(f"there is no program {shown(words[0])}", hint="name one, or a path to one, after --")
    run = registry.start_command(name, words, **attributes)
    environment = {
        **os.environ,
        RUN_ID: run.run_id,
        "HEADWATER_LAKE": os.path.abspath(registry.url) if os.path.isdir(registry.url) else registry.url,
        "HEADWATER_BRANCH": registry.working_branch,
        "HEADWATER_ACTOR": registry.actor,
    }
    if registry.working_branch.startswith(REHEARSAL_PREFIX):
        environment[rehearsals.VARIABLE] = registry.working_branch
    environment.setdefault("PYTHONUNBUFFERED", "1")  # or Python would show its output late: ours is no terminal
    output = _Output()
    try:
        try:
            child = subprocess.Popen(list(words), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            raise NotFoundError(f"{shown(words[0])} can't be run: {error.strerror}", hint="name a program") from error
        with _signals_for(child):
            status = _wait(child, output, to_stderr)
        code = 128 - status if status < 0 else status
        with suppress(HeadwaterError):  # the run is worth more than its output
            _keep(registry, run.run_id, output.body())
        run.finish("killed" if status < 0 else "failed" if status else "finished", exit_status=code)
    except BaseException:
        run.finish("failed")
        raise
    return registry.run(run.run_id), code


def _keep(registry: Registry, run_id: str, body: bytes) -> None:
    if body:
        with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
            place = Path(folder) / OUTPUT
            place.write_bytes(body)
            registry.log_artifact(run_id, place)


def _wait(child: subprocess.Popen[bytes], output: _Output, to_stderr: bool) -> int:
    """Pass on what a command prints until it ends; return its status, negative where a signal ended it."""
    assert child.stdout is not None
    assert child.stderr is not None
    copies = [
        threading.Thread(target=_copy, args=(child.stdout, 2 if to_stderr else 1, output), daemon=True),
        threading.Thread(target=_copy, args=(child.stderr, 2, output), daemon=True),
    ]
    for each in copies:
        each.start()
    status = child.wait()
    for each in copies:
        each.join(_LINGER)
    return status


def _copy(source: BinaryIO, to: int, output: _Output) -> None:
    """Copy a stream as it comes; that nobody reads it any more does not stop the command."""
    reader = source.fileno()
    heard = True
    stream = sys.stdout if to == 1 else sys.stderr
    line = b""
    while chunk := os.read(reader, 1 << 16):
        # Kept in whole lines, so that those of the two streams do not mix.
        whole, newline, line = (line + chunk).rpartition(b"\n")
        output.add(whole + newline)
        if len(line) > 1 << 16:
            output.add(line)
            line = b""
        if heard:
            try:
                raw = getattr(stream, "buffer", None)
                if raw is not None:
                    raw.write(chunk)
                else:
                    stream.write(chunk.decode("utf-8", "replace"))
                stream.flush()
            except (OSError, ValueError):
                heard = False
    output.add(line)


@contextmanager
def _signals_for(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave signals to the command: those that a terminal sends it has had, the others are passed on."""

    def pass_on(number: int, _frame: object) -> None:
        if number == signal.SIGINT and _from_terminal():
            return
        with suppress(OSError):
            child.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _from_terminal() -> bool:
    """Return whether this process is in the foreground of a terminal, whose Ctrl-C goes to the command as well."""
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
    return False
