"""What somebody with access to a lake's storage can do to its events, without asking Headwater."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake

from headwater import keys, tables
from headwater.fold import ACTOR, KIND, LANDED, TX
from headwater.ids import new_id, now_micros
from headwater.lake.base import AT, Lake
from headwater.registry import Registry
from headwater.schema import arrow_schema
from headwater.signatures import EVENTS, digest_of, sign, summary


def events_of(registry: Registry) -> list[dict[str, Any]]:
    """Return every row of the events, as it lies in the table."""
    lake, head = registry._context.lake, registry.head
    found = tables.load(lake, head, "events")
    return [dict(row) for row in tables.rows(tables.read(lake, head, "events", found.files))]


def event(subject: str, kind: str, value: str | None, **more: Any) -> dict[str, Any]:
    """Return a row."""
    row = {
        "event_id": new_id(), "subject": subject, "kind": kind, "key": "", "value": value, "prev": [], "reason": None,
        "signature": None, "tx": new_id(), "recorded_at": now_micros(), "actor": "mallory",
    }  # fmt: skip
    return row | more


def signed(registry: Registry, row: Mapping[str, Any], who: str, branch: str = "main", **more: Any) -> dict[str, Any]:
    """Return a row that a key of this machine signed, with the row's own actor unless another is given."""
    row = {"actor": who, **row, **more} if "actor" in more else {**row, "actor": who}
    with registry._context.reading() as fold:
        assert fold.root is not None
        judge = fold.judge()
        from headwater.signatures import named_versions

        digests = judge.digests(named_versions(row))
        row["signature"] = sign(row, keys.signer(who), lake=fold.root.lake, branch=branch, digests=digests)
    return dict(row)


def commit_of(rows: list[dict[str, Any]], **more: str) -> dict[str, str]:
    """Return the metadata that a commit of one transaction's rows has."""
    tx = rows[0]["tx"]
    return {
        TX: tx, KIND: "alias", LANDED: tx, ACTOR: rows[0]["actor"], AT: str(now_micros()),
        EVENTS: summary(digest_of(row) for row in rows), **more,
    }  # fmt: skip


def put_rows(
    lake: Lake,
    folder: Path,
    rows: list[dict[str, Any]],
    metadata: Mapping[str, str] | None = None,
    *,
    branch: str = "main",
) -> str:
    """Append rows to the events with `deltalake`, commit them straight to a branch, and return the commit."""
    here = folder / new_id()
    head = lake.head(branch)
    known = set()
    for info in lake.list(head, "tables/events/"):
        place = here / info.path
        place.parent.mkdir(parents=True, exist_ok=True)
        with lake.open(head, info.path) as source:
            place.write_bytes(source.read())
        known.add(info.path)
    schema = arrow_schema("events")
    columns = {name: pa.array([row[name] for row in rows], schema.field(name).type) for name in schema.names}
    write_deltalake(str(here / "tables/events"), pa.table(columns, schema=schema), mode="append")
    for place in sorted(here.rglob("*")):
        path = str(place.relative_to(here))
        if place.is_file() and path not in known and not path.endswith(".tmp"):
            lake.put(branch, path, place.read_bytes())
    return lake.commit(branch, "nothing to see here", dict(metadata or {}))


def drop_rows(lake: Lake, folder: Path, drops: Callable[[Mapping[str, Any]], bool], *, branch: str = "main") -> int:
    """Take events out of the table, by an entry of its log that puts one file in place of all; return how many."""
    head, folder = lake.head(branch), folder / new_id()
    found = tables.load(lake, head, "events")
    rows = [dict(row) for row in tables.rows(tables.read(lake, head, "events", found.files))]
    kept = [row for row in rows if not drops(row)]
    logs = sorted(info.path for info in lake.list(head, "tables/events/_delta_log/") if info.path.endswith(".json"))
    number = int(Path(logs[-1]).stem) + 1
    schema = arrow_schema("events")
    columns = {name: pa.array([row[name] for row in kept], schema.field(name).type) for name in schema.names}
    folder.mkdir()
    name = f"kept-{number}.parquet"
    pq.write_table(pa.table(columns, schema=schema), folder / name)
    body = (folder / name).read_bytes()
    entries: list[dict[str, Any]] = [
        {"remove": {"path": path, "dataChange": False, "deletionTimestamp": 1}} for path in found.files
    ]
    add = {"path": name, "partitionValues": {}, "size": len(body), "modificationTime": 1, "dataChange": False}
    entries.append({"add": {**add, "stats": json.dumps({"numRecords": len(kept)})}})
    lake.put(branch, f"tables/events/{name}", body)
    text = "\n".join(json.dumps(entry) for entry in entries)
    lake.put(branch, f"tables/events/_delta_log/{number:020d}.json", text.encode())
    lake.commit(branch, "nothing to see here", {})
    return len(rows) - len(kept)


Forge = Callable[..., str]
