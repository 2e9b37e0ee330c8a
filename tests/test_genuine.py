"""A version whose row is not what was registered: nobody loads, promotes or verifies it, be the state warm or cold."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater
from headwater import keys, tables
from headwater.errors import IntegrityError, NotFoundError
from headwater.ids import new_id
from headwater.registry import Registry
from headwater.schema import arrow_schema
from headwater.state import Folds

Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]

EVIL = b"evil!"


def version_rows(registry: Registry) -> list[dict[str, Any]]:
    """Return the rows of the table of versions, the oldest first."""
    lake, head = registry._context.lake, registry.head
    found = tables.load(lake, head, "model_versions")
    rows = [dict(row) for row in tables.rows(tables.read(lake, head, "model_versions", found.files))]
    return sorted(rows, key=lambda row: (row["model_id"], row["version"]))


def put_versions(registry: Registry, rows: list[dict[str, Any]], *, replacing: bool = False) -> None:
    """Write rows of versions into the storage, as somebody can who does not ask Headwater."""
    lake, place = registry._context.lake, "tables/model_versions/"
    head = lake.head("main")
    found = tables.load(lake, head, "model_versions")
    schema = arrow_schema("model_versions")
    body, name = io.BytesIO(), f"forged-{new_id()}.parquet"
    columns = {each: pa.array([row[each] for row in rows], schema.field(each).type) for each in schema.names}
    pq.write_table(pa.table(columns, schema=schema), body)
    lake.put("main", place + name, body.getvalue())
    entries: list[dict[str, Any]] = [
        {"remove": {"path": path, "dataChange": False, "deletionTimestamp": 1}} for path in found.files if replacing
    ]
    size, stats = len(body.getvalue()), json.dumps({"numRecords": len(rows)})
    added = {"path": name, "partitionValues": {}, "size": size, "modificationTime": 1, "stats": stats}
    entries.append({"add": added | {"dataChange": False}})
    log = "\n".join(map(json.dumps, entries)).encode()
    lake.put("main", f"{place}_delta_log/{found.version + 1:020d}.json", log)
    lake.commit("main", "nothing to see here", {})


def evil(registry: Registry, row: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a row with other files, whose bytes are in the lake."""
    registry._context.lake.put("main", "artifacts/forged/model.bin", EVIL)
    files = [{**row["files"][0], "path": "model.bin", "size": len(EVIL), "sha256": sha256(EVIL).hexdigest()}]
    return {**copy.deepcopy(row), "path": "artifacts/forged/", "files": files, **more}


@pytest.fixture
def warm_and_cold(tmp_path: Path) -> Iterator[Callable[[Registry], list[Registry]]]:
    """A function that returns a registry, and the same one with a state that begins with nothing."""
    opened: list[Registry] = []

    def both(registry: Registry) -> list[Registry]:
        other = headwater.open(registry._context.lake.url, actor="root")
        object.__setattr__(other._context.folds, "_folder", tmp_path / new_id())
        opened.append(other)
        return [registry, other]

    yield both
    for each in opened:
        each.close()


@pytest.fixture
def flight(signed_url: str) -> Iterator[Registry]:
    """A signed lake's registry, with two versions of `flight-delay` in staging."""
    if keys.local_key("root") is None:
        keys.make("root")
    Path("model.bin").write_bytes(b"model")
    with headwater.open(signed_url, actor="root") as registry:
        for _ in range(2):
            registry.register("flight-delay", "model.bin")
        registry.stage("flight-delay/1", "staging")
        registry.promote("flight-delay/1", "production")
        yield registry


Both = Callable[[Registry], list[Registry]]


def test_other_files_under_the_same_digest_are_found(flight: Registry, warm_and_cold: Both, tmp_path: Path) -> None:
    first, second = version_rows(flight)
    put_versions(flight, [evil(flight, first), second], replacing=True)
    for registry in warm_and_cold(flight):
        for attempt in (
            lambda: registry.pull("flight-delay@champion", tmp_path / "out"),  # noqa: B023
            lambda: registry.verify("flight-delay/1"),  # noqa: B023
        ):
            with pytest.raises(IntegrityError, match="its digest is not that of its files"):
                attempt()
        assert not (tmp_path / "out").exists()
    found = [(each.kind, each.subject) for each in flight.audit().findings]
    assert ("artifact", "flight-delay/1") in found


def test_another_digest_than_the_signed_one_is_found(flight: Registry, warm_and_cold: Both, tmp_path: Path) -> None:
    first, second = version_rows(flight)
    row = evil(flight, first, digest=sha256(EVIL).hexdigest())
    put_versions(flight, [row, second], replacing=True)
    for registry in warm_and_cold(flight):
        for reference in ("flight-delay/1", "flight-delay@champion"):
            with pytest.raises(IntegrityError, match="flight-delay/1 was registered with another digest"):
                registry.pull(reference, tmp_path / "out")
    put_versions(flight, [first, second], replacing=True)
    for registry in warm_and_cold(flight):
        assert registry.pull("flight-delay@champion", tmp_path / new_id()).exists()


def test_a_second_row_of_a_version_is_found(registry: Registry, tmp_path: Path) -> None:
    Path("model.bin").write_bytes(b"model")
    registry.register("flight-delay", "model.bin")
    (row,) = version_rows(registry)
    put_versions(registry, [row])
    registry.verify("flight-delay/1")
    assert registry.audit().clean
    put_versions(registry, [evil(registry, row, digest=sha256(EVIL).hexdigest())])
    folds = Folds(registry._context.lake, tmp_path / "state")
    with folds.at_head("main") as cold, registry._context.reading() as warm:
        assert cold.rows("SELECT * FROM clashing") == warm.rows("SELECT * FROM clashing") == [(row["version_id"],)]
    folds.close()
    for attempt in (
        lambda: registry.pull("flight-delay/1", tmp_path / "out"),
        lambda: registry.verify("flight-delay/1"),
        lambda: registry.promote("flight-delay/1", "staging"),
    ):
        with pytest.raises(IntegrityError, match="flight-delay/1 is in the table of versions twice"):
            attempt()
    assert [(each.kind, each.subject) for each in registry.audit().findings] == [("artifact", "flight-delay/1")]


def test_views_have_a_version_once_though_its_row_is_there_twice(registry: Registry) -> None:
    Path("model.bin").write_bytes(b"model")
    registry.register("flight-delay", "model.bin", tags={"a": "b"})
    registry.stage("flight-delay/1", "staging")
    registry.promote("flight-delay/1", "production")
    put_versions(registry, version_rows(registry))
    for view in ("model_versions", "stages", "production_models", "serving", "deployments", "version_lineage"):
        found = registry.sql(f"SELECT * FROM {view}").fetchall()
        assert len(found) == len(set(map(repr, found))), view
    for view in ("model_versions", "stages", "production_models", "serving"):
        assert registry.sql(f"SELECT count(*) FROM {view}").fetchall() == [(1,)], view


def test_a_version_that_nobody_signed_goes_nowhere(flight: Registry, warm_and_cold: Both) -> None:
    row = evil(flight, version_rows(flight)[1], version_id=new_id(), version=3, tx=new_id(), actor="root")
    put_versions(flight, [row | {"digest": sha256(EVIL).hexdigest()}])
    for registry in warm_and_cold(flight):
        for attempt in (
            lambda: registry.stage("flight-delay/3", "staging"),  # noqa: B023
            lambda: registry.set_alias("flight-delay", "best", 3),  # noqa: B023
            lambda: registry.set_alias("flight-delay", "champion", 3),  # noqa: B023
            lambda: registry.deploy("flight-delay/3", "test"),  # noqa: B023
            lambda: registry.deploy("flight-delay/3", "production", mode="shadow"),  # noqa: B023
        ):
            with pytest.raises(IntegrityError, match="flight-delay/3 was never registered by anybody who may"):
                attempt()
        with pytest.raises(NotFoundError, match="no alias"):
            registry.resolve("flight-delay@best")
    said = dict(flight.sql("SELECT version, registered FROM model_versions").fetchall())
    assert said == {1: True, 2: True, 3: False}
    assert [each.registered for each in flight.versions("flight-delay")] == [False, True, True]
    assert flight.resolve("flight-delay/3").registered is False
    findings = [(each.kind, each.subject) for each in flight.audit().findings]
    assert findings == [("forged", "flight-delay/3")]


def test_a_lake_that_is_not_signed_says_nothing_of_registrations(registry: Registry) -> None:
    Path("model.bin").write_bytes(b"model")
    assert registry.register("flight-delay", "model.bin").registered is None
    assert registry.sql("SELECT registered FROM model_versions").fetchall() == [(None,)]
