"""What came of some rows of a dataset: asked of the data itself, in a sandbox, on both lakes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from tests.lineage_world import FLIGHTS, World, make_world, save

import headwater
from headwater.errors import InvalidInputError, NotFoundError
from headwater.query_rows import parse_condition
from headwater.registry import Registry


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.chdir(tmp_path)
    with headwater.create(str(tmp_path / "lake"), actor="tester") as registry:
        yield registry


def matching(world: Registry, urn: str, rows: str) -> dict[str, int | None]:
    found = world.impact(urn, rows=rows)
    return {node.urn: node.facts["matching_rows"] for node in found.nodes if "matching_rows" in node.facts}


def test_it_is_told_which_versions_hold_such_rows_and_what_learned_from_them(
    registry: Registry, tmp_path: Path
) -> None:
    world = make_world(registry, tmp_path)
    found = registry.impact("dataset:flights@1.0.0", rows="origin = 'JFK' and month = 2")
    by_urn = {node.urn: node for node in found.nodes}
    assert by_urn["dataset:flights@1.0.0"].facts["matching_rows"] == 1
    assert by_urn["dataset:flights@1.1.0"].facts["matching_rows"] == 2
    lacking = by_urn["dataset:flights@2.0.0"].facts
    assert (lacking["matching_rows"], lacking["not_asked"]) == (None, "it has no column month")
    assert found.notes == ("flights@2.0.0 can't be asked: it has no column month",)
    assert found.totals["versions"] == 2
    assert found.totals["predictions"] == 50
    # such a row came with 1.1.0, so what learned from 1.0.0 did not see it
    late = registry.impact("flights@1.0.0", rows="id = 11")
    assert matching(registry, "flights@1.0.0", "id = 11") == {
        "dataset:flights@1.0.0": 0,
        "dataset:flights@1.1.0": 1,
        "dataset:flights@2.0.0": 1,
    }
    assert "model:flight-delay/2" not in {node.urn for node in late.nodes}
    assert late.totals["predictions"] == 30
    assert f"run:{world.run_id}" in {node.urn for node in late.nodes}
    none = registry.impact("flights@1.0.0", rows="origin = 'BOS'")
    assert (none.totals["predictions"], none.totals.get("versions", 0)) == (0, 0)


def test_what_was_derived_is_asked_too_wherever_the_rows_went(local: Registry, tmp_path: Path) -> None:
    make_world(local, tmp_path)
    without = {name: values[:3] for name, values in FLIGHTS.items()}
    local.add_dataset("winter", save(tmp_path / "w.parquet", without), derived_from=["flights@1.1.0"])
    with_rows = {name: values[3:6] for name, values in FLIGHTS.items()}
    local.add_dataset("again", save(tmp_path / "a.parquet", with_rows), derived_from=["winter"])
    (tmp_path / "m.bin").write_bytes(b"m")
    local.register("winter-model", tmp_path / "m.bin", data=["winter"])
    local.register("again-model", tmp_path / "m.bin", data=["again"])
    found = local.impact("flights@1.1.0", rows="month = 2")
    urns = {node.urn for node in found.nodes}
    assert "model:again-model/1" in urns
    assert "model:winter-model/1" not in urns
    assert matching(local, "flights@1.1.0", "month = 2")["dataset:winter@1.0.0"] == 0
    # the root is asked first, and those before it are not
    assert "dataset:flights@1.0.0" not in urns


def test_nothing_is_kept_that_could_go_stale(local: Registry, tmp_path: Path) -> None:
    local.add_dataset("d", save(tmp_path / "d.parquet", {"a": [1, 2]}))
    assert matching(local, "d@1.0.0", "a = 2") == {"dataset:d@1.0.0": 1}
    local.add_dataset("d", save(tmp_path / "d.parquet", {"a": [1, 2, 2]}))
    assert matching(local, "d@1.0.0", "a = 2") == {"dataset:d@1.0.0": 1, "dataset:d@1.1.0": 2}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "arrow", "delta", "folder", "quoted folder"])
def test_every_format_is_asked(local: Registry, tmp_path: Path, kind: str) -> None:
    table = pa.table({"id": [1, 2, 3], "origin": ["JFK", "LGA", "JFK"]})
    path = tmp_path / f"data.{kind}"
    if kind == "csv":
        path.write_text("id,origin\n1,JFK\n2,LGA\n3,JFK\n")
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    elif kind == "arrow":
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    elif kind == "delta":
        write_deltalake(str(path), table)
    else:
        path = tmp_path / ("parts" if kind == "folder" else "it's, [x]")
        path.mkdir()
        for place in range(3):
            save(path / f"{place}.parquet", table.slice(place, 1).to_pydict())
    local.add_dataset("d", path)
    assert matching(local, "d", "origin = 'JFK' AND id > 1") == {"dataset:d@1.0.0": 1}


def test_a_version_whose_types_do_not_suit_is_said(local: Registry, tmp_path: Path) -> None:
    local.add_dataset("d", save(tmp_path / "d.parquet", {"a": [1, 2], "b": ["x", "y"]}))
    local.add_dataset("d", save(tmp_path / "d.parquet", {"a": ["one", "two"], "b": ["x", "y"]}))
    found = local.impact("d@1.0.0", rows="a + 1 = 2")
    assert found.node("dataset:d@1.0.0").facts["matching_rows"] == 1
    assert found.node("dataset:d@2.0.0").facts["matching_rows"] is None
    assert "d@2.0.0 can't be asked: " in found.notes[0]


def test_conditions_that_are_none_are_refused(local: Registry, tmp_path: Path) -> None:
    world = World(local)
    local.add_dataset("d", save(tmp_path / "d.parquet", {"a": [1], "b c": ["x"]}))
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for condition, message in [
        ("", "not a condition on rows: ''"),
        ("a = 1; DROP TABLE data", "syntax error"),
        ("a =", "syntax error"),
        (f"a IN (SELECT a FROM read_csv('{secret}'))", "it has a query in it"),
        (f"EXISTS (FROM '{secret}')", "it has a query in it"),
        ("a = 1) UNION SELECT count(*) FROM range(5) WHERE (true", "not a condition on rows"),
        ("sum(a) OVER () > 1", "it has a window in it"),
        ("a = $1", "it has a parameter in it"),
        ("COLUMNS('a') = 1", "it has a * in it"),
        ("count(*) > 1", "can't be asked of d@1.0.0"),
        ("no_such_function(a)", "can't be asked of d@1.0.0"),
        ("month = 2", "it has no column month"),
        ("a = 'x\0'", "not a condition on rows"),
        ("x" * 20_000, "not a condition on rows"),
        ("\ud800", "not a condition on rows"),
        ("(" * 3000 + "a" + ")" * 3000, ""),
    ]:
        with pytest.raises(InvalidInputError) as caught:
            world.registry.impact("d", rows=condition)
        assert message in caught.value.message, condition
        assert "\n" not in caught.value.message
    local.register("m", secret)
    with pytest.raises(InvalidInputError, match="has no rows"):
        local.impact("m/1", rows="a = 1")
    with pytest.raises(NotFoundError):
        local.impact("dataset:nothing", rows="a = 1")
    assert matching(local, "d", "\"b c\" = 'x' -- a comment") == {"dataset:d@1.0.0": 1}
    assert matching(local, "d", "A = 1") == {"dataset:d@1.0.0": 1}


def test_a_hint_names_the_columns_where_a_text_was_taken_for_one(local: Registry, tmp_path: Path) -> None:
    local.add_dataset("d", save(tmp_path / "d.parquet", {"origin": ["JFK"]}))
    with pytest.raises(InvalidInputError) as caught:
        local.impact("d", rows='origin = "JFK"')
    assert caught.value.message == "the condition can't be asked of d@1.0.0: it has no column JFK"
    assert caught.value.hint == "its columns are origin; text stands in single quotes"


def test_a_folder_of_anything_has_no_rows(local: Registry, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"x")
    local.add_dataset("images", tmp_path / "images")
    with pytest.raises(InvalidInputError) as caught:
        local.impact("images", rows="a = 1")
    assert caught.value.message == "the condition can't be asked of images@1.0.0: it is no table"


def test_the_columns_of_a_condition_are_told_from_the_rest() -> None:
    for text, columns in [
        ("origin = 'JFK' and month = 2", ("origin", "month")),
        ("list_filter(x, lambda y: y > z) = []", ("x", "z")),
        ("s.field = 1", ("s",)),
        ("\"a b\" IS NULL AND date_part('year', t) = 2013", ("a b", "t")),
        ("true", ()),
    ]:
        assert parse_condition(text).columns == columns
    assert parse_condition("Month = 2 and x = 1").missing({"month": "INTEGER"}) == ["x"]
