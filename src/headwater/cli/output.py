"""The way out: JSON and text on standard output, notes and progress on standard error; knows nothing of models.

Text that comes from elsewhere (a description, a tag, a name that an import brought) goes through `clean`, so that it
can neither command the terminal nor break a line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from headwater.errors import LakeError

__all__ = [
    "PipeClosedError",
    "busy",
    "clean",
    "dim",
    "emit",
    "flush",
    "is_terminal",
    "json_text",
    "note",
    "paint",
    "strong",
    "write",
]

_CONTROLS = "\x7f-\x9f"  # ESC and its like begin what terminals obey; those below space are added where they matter
_UNSEEN = "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff"
_HALVES = "\ud800-\udfff"  # of characters, which can't be written
_HOSTILE = re.compile(f"[\x00-\x1f{_CONTROLS}{_UNSEEN}{_HALVES}]")
_HOSTILE_IN_JSON = re.compile(f"[{_CONTROLS}{_UNSEEN}{_HALVES}]")
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_SPINNER = "|/-\\"


class PipeClosedError(Exception):
    """Whoever reads standard output has gone: stop, and say nothing."""


# -- making text safe -------------------------------------------------------------------------------------------------
def clean(text: object) -> str:
    """Return text with what a terminal would obey, hide or break a line at written as an escape."""
    return _HOSTILE.sub(lambda found: _NAMED.get(found[0]) or _escaped(found[0]), str(text))


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def json_text(value: object, stream: Any = None) -> str:
    """Return a JSON document in which what `clean` would change is escaped, and what the stream can't encode."""
    import json

    stream = sys.stdout if stream is None else stream
    unicode = (stream.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not unicode, allow_nan=False, indent=2 if is_terminal(stream) else None)
    return _HOSTILE_IN_JSON.sub(_utf16, text)


def _utf16(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))


# -- writing ----------------------------------------------------------------------------------------------------------
def emit(*lines: str) -> None:
    """Write lines to standard output. Raises as `write` does."""
    for line in lines:
        write(line + "\n")


def write(text: str) -> None:
    """Write text to standard output.

    Raises:
        LakeError: It can't be written.
        PipeClosedError: Nobody reads it.
    """
    with _guarded():
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:
            sys.stdout.write(_encodable(text, sys.stdout))


def flush() -> None:
    """Make sure that what was written has arrived. Raises as `write` does."""
    with _guarded():
        sys.stdout.flush()


@contextmanager
def _guarded() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _abandon()
        raise PipeClosedError from None
    except OSError as error:
        _abandon()
        raise LakeError(f"standard output can't be written: {error.strerror}") from error


def _abandon() -> None:
    """Let what is still held for standard output go nowhere, or the interpreter would complain at its end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass


def note(*lines: str) -> None:
    """Write lines for eyes to standard error; where that can't be written, they are left out."""
    try:
        for line in lines:
            sys.stderr.write(_encodable(line, sys.stderr) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def _encodable(line: str, stream: Any) -> str:
    encoding = stream.encoding or "ascii"
    return str(line.encode(encoding, "backslashreplace").decode(encoding))


# -- terminals --------------------------------------------------------------------------------------------------------
def is_terminal(stream: Any) -> bool:
    """Return whether a person sees what is written to a stream."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def paint(text: object, code: str, stream: Any = None) -> str:
    """Return cleaned text in a style (an SGR code), where the stream is a terminal and the user likes colour."""
    stream = sys.stdout if stream is None else stream
    plain = not is_terminal(stream) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return clean(text) if plain else f"\x1b[{code}m{clean(text)}\x1b[0m"


def strong(text: object) -> str:
    """Return cleaned text, bold where there is colour."""
    return paint(text, "1")


def dim(text: object) -> str:
    """Return cleaned text, faint where there is colour."""
    return paint(text, "2")


@contextmanager
def busy(what: str | Callable[[], str]) -> Iterator[None]:
    """Show on a terminal that something takes its time, what it is, and how long it has taken so far."""
    if not is_terminal(sys.stderr):
        yield
        return
    import threading
    import time

    done = threading.Event()
    began = time.monotonic()

    def turn() -> None:
        step = 0
        while not done.wait(0.1 if step else 0.5):
            seconds = time.monotonic() - began
            text = _encodable(clean(what if isinstance(what, str) else what()), sys.stderr)
            sys.stderr.write(f"\r\x1b[K{_SPINNER[step % 4]} {text}  {seconds:.0f} s")
            sys.stderr.flush()
            step += 1
        if step:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
