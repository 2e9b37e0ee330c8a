"""Delta log entries: write them, read them, and know which data files a version of a table consists of.

The format is the Delta transaction log protocol, reader version 1, writer version 2. Knows no rows and no lake.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headwater.errors import IntegrityError

__all__ = [
    "CHECKPOINT_EVERY",
    "DataFile",
    "TableFiles",
    "added",
    "data_file",
    "entry",
    "log_path",
    "log_version",
    "removed",
    "replay",
]

CHECKPOINT_EVERY = 50
"""Log entries between two checkpoints."""

_ENTRY = re.compile(r"(\d{20})\.json$")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A live data file: its path under the table's folder, bytes, and rows."""

    path: str
    size: int
    rows: int
    ranges: Mapping[str, Sequence[Any]] | None = None
    """Least and greatest value of some columns, as the log has them (times in ISO 8601, to the millisecond).

    Empty for a column that is null in every row.
    """

    def may_hold(self, column: str, low: Any, high: Any) -> bool:
        """Return whether rows may be in it whose value of a column lies between two values, both included."""
        known = (self.ranges or {}).get(column)
        if known is None:
            return True
        return len(known) == 2 and bool(known[0] <= high) and bool(low <= known[1])

    @property
    def tier(self) -> int:
        """Its compaction tier, which its name begins with; a stranger's file has none and is left alone."""
        name = self.path.rpartition("/")[2]
        return int(name[0]) if name[1:2] == "-" and "0" <= name[0] <= "9" else 9


@dataclass(slots=True)
class TableFiles:
    """What a table consists of at a commit: its Delta version, last checkpoint (or -1), and live files by path."""

    version: int = -1
    checkpoint: int = -1
    files: dict[str, DataFile] = field(default_factory=dict)


def log_path(version: int, suffix: str = "json") -> str:
    """Return the path of a log entry (or a checkpoint) under its table's folder."""
    return f"_delta_log/{version:020}.{suffix}"


def log_version(path: str) -> int | None:
    """Return the version of a log entry's path, or None for any other file."""
    found = _ENTRY.search(path)
    return int(found[1]) if found else None


def entry(
    operation: str,
    micros: int,
    *,
    add: Iterable[tuple[DataFile, Mapping[str, Any]]] = (),
    remove: Iterable[DataFile] = (),
    data_change: bool = True,
    extra: Iterable[Mapping[str, Any]] = (),
) -> bytes:
    """Return the bytes of a log entry.

    Args:
        operation: What `DESCRIBE HISTORY` shows.
        micros: When, in microseconds since 1970-01-01 UTC.
        add: Files with their statistics (`numRecords`, `minValues`, `maxValues`, `nullCount`).
        remove: Files that are no longer part of the table.
        data_change: False where the rows stay as they were.
        extra: Other actions, such as `protocol` and `metaData`.
    """
    millis = micros // 1000
    actions: list[Mapping[str, Any]] = [
        {"commitInfo": {"timestamp": millis, "operation": operation, "engineInfo": "headwater"}},
        *extra,
    ]
    actions += [
        {"remove": {"path": f.path, "deletionTimestamp": millis, "dataChange": data_change, "size": f.size}}
        for f in remove
    ]
    actions += [
        {
            "add": {
                "path": f.path,
                "partitionValues": {},
                "size": f.size,
                "modificationTime": millis,
                "dataChange": data_change,
                "stats": json.dumps(stats, separators=(",", ":")),
            }
        }
        for f, stats in add
    ]
    return "\n".join(json.dumps(action, separators=(",", ":")) for action in actions).encode()


def added(body: bytes, where: str) -> dict[str, Mapping[str, Any]]:
    """Return the `add` actions of a log entry, by the path of the file.

    Raises:
        IntegrityError: The entry cannot be read.
    """
    return _actions(body, where, "add")


def removed(body: bytes, where: str) -> set[str]:
    """Return the paths of the files that a log entry takes out of its table.

    Raises:
        IntegrityError: The entry cannot be read.
    """
    return set(_actions(body, where, "remove"))


def _actions(body: bytes, where: str, kind: str) -> dict[str, Mapping[str, Any]]:
    try:
        actions = [json.loads(line) for line in body.decode().splitlines() if line.strip()]
        return {action[kind]["path"]: action[kind] for action in actions if kind in action}
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"log entry {where!r} is not what was written", hint="restore the lake from a copy"
        ) from error


def data_file(add: Mapping[str, Any], prune: Iterable[str]) -> DataFile:
    """Return the file of an `add` action, with the ranges of the columns in `prune` that its statistics have."""
    stats = json.loads(add["stats"]) if add.get("stats") else {}
    least, greatest = stats.get("minValues") or {}, stats.get("maxValues") or {}
    rows, nulls = stats.get("numRecords", -1), stats.get("nullCount") or {}
    ranges: dict[str, Sequence[Any]] = {name: [] for name in prune if rows > 0 and nulls.get(name) == rows}
    ranges |= {name: [least[name], greatest[name]] for name in prune if name in least and name in greatest}
    return DataFile(add["path"], add["size"], rows, ranges or None)


def replay(table: TableFiles, version: int, body: bytes, where: str, prune: Iterable[str] = ()) -> None:
    """Bring a table's files forward by one log entry; `prune` names the columns whose ranges are wanted.

    Raises:
        IntegrityError: The entry cannot be read, or does not follow the table's version.
    """
    if version != table.version + 1:
        raise IntegrityError(
            f"the log of {where} jumps from version {table.version} to {version}",
            hint="a log entry is missing: restore the lake from a copy",
        )
    try:
        for line in body.decode().splitlines():
            action = json.loads(line) if line.strip() else {}
            if "remove" in action:
                table.files.pop(action["remove"]["path"], None)
            elif "add" in action:
                file = data_file(action["add"], prune)
                table.files[file.path] = file
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"log entry {version} of {where} is not what was written", hint="restore the lake from a copy"
        ) from error
    table.version = version
