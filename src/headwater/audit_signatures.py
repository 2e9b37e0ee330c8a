"""Verifying a lake's signatures beside the audit: a second process begins at the newest, the audit at the oldest.

The child prints the digest of each signature that is right. Whatever it has not come to, or can't, the audit verifies
itself: a child that dies costs time and nothing else. Judges nothing.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from headwater import keys, marking, tables
from headwater.access import TELEMETRY
from headwater.errors import HeadwaterError
from headwater.lake.base import Lake
from headwater.lake.connect import connect
from headwater.signatures import message, named_versions, parse

__all__ = ["beside"]

_MANY = 5_000
"""Events from which on a second process is worth its start."""

_SIZE = 32


class _Verified:
    """The signatures that the child found to be right, so far."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._right: set[bytes] = set()
        self._child = child
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while len(found := self._child.stdout.read(_SIZE)) == _SIZE:
                self._right.add(found)

    def verifies(self, raw: bytes, signature: bytes, text: bytes) -> bool:
        """Return whether a signature is right, as `keys.verifies` does."""
        return _digest(raw, signature, text) in self._right or keys.verifies(raw, signature, text)

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()
        self._reader.join()
        assert self._child.stdout is not None
        self._child.stdout.close()


@contextlib.contextmanager
def beside(lake: Lake, commit: str) -> Iterator[keys.Verifier]:
    """Have signatures verified by a second process too, where there are many.

    Args:
        lake: The lake.
        commit: The commit that is audited.

    Yields:
        What is asked instead of `keys.verifies`.
    """
    there = marking.found(lake, commit)
    many = there is not None and marking.root_of(there) is not None
    many = many and sum(file.rows for file in tables.load(lake, commit, "events").files.values()) >= _MANY
    child = None
    with contextlib.suppress(OSError):
        command = [sys.executable, "-P", "-m", "headwater.audit_signatures", lake.url, commit]
        null = subprocess.DEVNULL
        child = subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=null) if many else None
    if child is None:
        yield keys.verifies
        return
    verified = _Verified(child)
    try:
        yield verified.verifies
    finally:
        verified.close()


def _digest(raw: bytes, signature: bytes, text: bytes) -> bytes:
    return sha256(raw + signature + text).digest()


# -- the child --------------------------------------------------------------------------------------------------------
def right(lake: Lake, commit: str) -> Iterator[bytes]:
    """Yield the digests of the signatures at a commit that are right, the newest events' first."""
    there = marking.found(lake, commit)
    root = None if there is None else marking.root_of(there)
    if root is None:
        return

    def rows(table: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        files = tables.load(lake, commit, table).files
        yield from tables.rows(tables.read(lake, commit, table, files, columns))

    digests = {row["version_id"]: row["digest"] for row in rows("model_versions", ["version_id", "digest"])}
    events = sorted(
        (row for row in rows("events") if row["kind"] not in TELEMETRY), key=lambda row: str(row["tx"]), reverse=True
    )
    known = {root.key_id: keys.raw_of(root.public)}
    for row in events:
        if row["kind"] == "key":
            with contextlib.suppress(ValueError, KeyError, TypeError, HeadwaterError):
                raw = keys.raw_of(str(json.loads(row["value"])["public"]))
                known[keys.key_id(raw)] = raw
    for row in events:
        signature = parse(row["signature"])
        raw = b"" if signature is None else known.get(signature.key_id, b"")
        if signature is None or not raw:
            continue
        about = {each: digests[each] for each in named_versions(row) if each in digests}
        text = message(row, root.lake, signature.branch, about)
        if keys.verifies(raw, signature.raw, text):
            yield _digest(raw, signature.raw, text)


def _main() -> None:
    lake = connect(sys.argv[1])
    out = sys.stdout.buffer
    for each in right(lake, sys.argv[2]):
        out.write(each)
    out.flush()


if __name__ == "__main__":
    _main()
