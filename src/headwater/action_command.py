"""Running the command of an action: what this machine allows, a time limit, and the end of the whole process group.

Commands come from the lake, so whoever writes there could run code wherever actions are delivered. A machine runs only
what its own user has allowed on it. Knows nothing of lakes.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from headwater.errors import InvalidInputError
from headwater.names import check_text, shown
from headwater.webhook import Answer

__all__ = ["allowed_commands", "allowed_file", "as_line", "check_command", "run"]

_KEPT = 8 << 10
"""Bytes that are kept of the end of what a command prints."""

_LONGEST = 4000
_LINGER = 1.0


def as_line(command: Sequence[str]) -> str:
    """Return a command as one line, as a shell would be told it."""
    return shlex.join(command)


def check_command(text: str) -> tuple[str, ...]:
    """Return the words of a command line; no shell will read it.

    Raises:
        InvalidInputError: It is not well quoted, or its program is a path that depends on the current folder.
    """
    check_text(text, "command")
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidInputError(f"not a command: {shown(text)}", hint=f"quote it well: {error}") from None
    if not words or not words[0] or len(text) > _LONGEST or not text.isprintable():
        raise InvalidInputError(f"not a command: {shown(text)}", hint="write a program and its arguments on one line")
    if "/" in words[0] and not words[0].startswith("/"):
        raise InvalidInputError(
            f"{shown(words[0])} depends on the folder that it is run in",
            hint="write the whole path, or the name of a program that is in PATH",
        )
    return words


def allowed_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file in which this machine's user lists the commands that actions may run, one a line."""
    base = environ.get("XDG_CONFIG_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".config"
    return root / "headwater" / "allowed-commands"


def allowed_commands(path: Path | None = None) -> frozenset[tuple[str, ...]]:
    """Return the commands that the file lists; none where there is no file.

    Raises:
        InvalidInputError: Others than its owner can write it, or a line of it is no command.
    """
    path = allowed_file() if path is None else path
    try:
        with path.open(encoding="utf-8") as lines:
            about = os.fstat(lines.fileno())
            if about.st_uid not in (os.geteuid(), 0) or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise InvalidInputError(f"others can write {path}, so it allows nothing", hint=f"chmod 600 {path}")
            return frozenset(
                check_command(line.strip()) for line in lines if line.strip() and not line.lstrip().startswith("#")
            )
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} can't be read: {error}", hint="mend it, or delete it") from error


class _Tail:
    """The end of what a command prints, read as it comes so that it never waits for us."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True, name="headwater-command-output")
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._source:
            while chunk := os.read(self._source.fileno(), 1 << 16):
                self._kept = (self._kept + chunk)[-_KEPT:]

    def text(self) -> str:
        # What the command started may hold its output open for as long as it likes.
        self._thread.join(_LINGER)
        return self._kept.decode("utf-8", "replace")


def run(command: Sequence[str], body: bytes, variables: Mapping[str, str], *, seconds: float) -> tuple[Answer, str]:
    """Run a command; return what came of it, and the end of what it printed.

    Args:
        command: The program and its arguments.
        body: What it gets on standard input.
        variables: What its environment has beside ours.
        seconds: Until it is killed, with its process group.
    """
    if shutil.which(command[0]) is None:
        return Answer("blocked", f"this machine has no program {shown(command[0])}"), ""
    try:
        child = subprocess.Popen(
            list(command),
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return Answer("blocked", f"{shown(command[0])} can't be started: {why}"), ""
    assert child.stdin is not None
    assert child.stdout is not None
    tail = _Tail(child.stdout)
    feeder = threading.Thread(target=_feed, args=(child.stdin, body), daemon=True, name="headwater-command-input")
    feeder.start()
    try:
        status = child.wait(seconds)
    except subprocess.TimeoutExpired:
        _kill(child)
        return Answer("waiting", f"the command took longer than {seconds:g} seconds, and was killed"), tail.text()
    except BaseException:
        if child.returncode is None:
            _kill(child)
        raise
    if status == 0:
        return Answer("delivered"), tail.text()
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return Answer("waiting", f"the command ended with {how}"), tail.text()


def _feed(into: IO[bytes], body: bytes) -> None:
    with contextlib.suppress(OSError), into:
        into.write(body)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a command that has not been waited for, so that its ID is still its own, and all that it started."""
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
