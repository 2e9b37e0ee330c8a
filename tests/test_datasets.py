"""Datasets: numbers that follow from what changed, and finding, fetching and comparing versions, on both lakes."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater
from headwater.errors import (
    AlreadyExistsError,
    HeadwaterError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from headwater.model import DatasetVersion, as_json
from headwater.registry import Registry

Save = Callable[..., Path]

ROWS: dict[str, list[Any]] = {"id": [1, 2, 3], "origin": ["JFK", "LGA", "EWR"], "delay": [5.0, None, math.nan]}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes columns to a Parquet file, and returns it."""

    def write(columns: dict[str, list[Any]], name: str = "flights.parquet", **options: Any) -> Path:
        path = tmp_path / name
        pq.write_table(pa.table(columns), path, **options)
        return path

    return write


def shown(version: DatasetVersion) -> tuple[str, bool, int | None, int | None, int | None]:
    return version.semver, version.created, version.added, version.removed, version.changed


# -- the number -------------------------------------------------------------------------------------------------------
def test_the_first_version_is_1_0_0_and_holds_what_it_was_made_of(registry: Registry, save: Save) -> None:
    path = save(ROWS)
    found = registry.add_dataset("flights", path, key=["id"], description="out of New York")
    assert shown(found) == ("1.0.0", True, None, None, None)
    assert (found.reference, found.rows, found.bytes) == ("flights@1.0.0", 3, path.stat().st_size)
    assert found.schema == {"id": "BIGINT", "origin": "VARCHAR", "delay": "DOUBLE"}
    assert (found.key, found.format, found.description) == (("id",), "parquet", "out of New York")
    assert (found.actor, found.base_dataset_id, found.changes) == ("tester", None, None)
    assert registry.dataset("flights") == registry.dataset("dataset:flights@1.0.0") == found
    then = registry.at(found.commit)
    assert then.pull_dataset("flights", path.parent / "then").joinpath(path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"id": [1, 2, 3, 4], "origin": ["JFK", "LGA", "EWR", "JFK"], "delay": [5.0, None, math.nan, 1.0]},
            ("1.1.0", 1, 0, 0),
        ),
        ({"id": [1, 2], "origin": ["JFK", "LGA"], "delay": [5.0, None]}, ("1.0.1", 0, 1, 0)),
        ({"id": [1, 2, 3], "origin": ["JFK", "LGA", "EWR"], "delay": [5.0, 0.0, math.nan]}, ("1.0.1", 0, 0, 1)),
        ({"id": [1, 2, 4], "origin": ["JFK", "LGA", "EWR"], "delay": [6.0, None, math.nan]}, ("1.0.1", 1, 1, 1)),
        ({**ROWS, "wind": [1, 2, 3]}, ("2.0.0", 0, 0, 0)),
        ({name: ROWS[name] for name in ("id", "origin")}, ("2.0.0", 0, 0, 0)),
        ({**ROWS, "id": [1.0, 2.0, 3.0]}, ("2.0.0", 0, 0, 0)),
        ({**ROWS, "origin": [1, 2, 3], "delay": [5.0, 1.0, math.nan]}, ("2.0.0", 0, 0, 1)),
    ],
    ids=["added", "removed", "changed", "all three", "new column", "lost column", "retyped key", "retyped and changed"],
)
def test_the_number_follows_from_the_difference_under_the_key(
    registry: Registry, save: Save, columns: dict[str, list[Any]], expected: tuple[str, int, int, int]
) -> None:
    first = registry.add_dataset("flights", save(ROWS), key=["id"])
    second = registry.add_dataset("flights", save(columns), key=["id"])
    assert shown(second) == (expected[0], True, *expected[1:])
    assert second.base_dataset_id == first.dataset_id
    assert second.key == ("id",)
    assert registry.verify() == 2


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([1, 1, 2, 3], ("1.1.0", 1, 0, 0)),
        ([1, 2, 2], ("1.0.1", 1, 1, 0)),
        ([1, 2], ("1.0.1", 0, 1, 0)),
        ([1, 1, 2, 2, 9], ("1.1.0", 2, 0, 0)),
    ],
)
def test_without_a_key_the_multiset_of_rows_decides(
    registry: Registry, save: Save, x: list[int], expected: tuple[str, int, int, int]
) -> None:
    registry.add_dataset("d", save({"x": [1, 1, 2]}))
    found = registry.add_dataset("d", save({"x": x}))
    assert shown(found) == (expected[0], True, *expected[1:])


def test_nothing_new_makes_no_version_and_writes_nothing(registry: Registry, save: Save, tmp_path: Path) -> None:
    first = registry.add_dataset("flights", save(ROWS), key=["id"])
    log = registry.log()
    folder = tmp_path / "parts"
    folder.mkdir()
    table = pa.table(ROWS)
    pq.write_table(table.slice(1), folder / "1.parquet", compression="none")
    pq.write_table(table.slice(0, 1).select(["delay", "id", "origin"]), folder / "2.parquet")
    (tmp_path / "f.jsonl").write_text(
        '{"id": 2, "origin": "LGA"}\n'
        '{"id": 1, "origin": "JFK", "delay": 5.0}\n'
        '{"id": 3, "origin": "EWR", "delay": NaN}\n'
    )
    for path in (save(ROWS), save(ROWS, "b.parquet", compression="zstd"), folder, tmp_path / "f.jsonl"):
        found = registry.add_dataset("flights", path, bump="major")
        assert shown(found) == ("1.0.0", False, None, None, None)
        assert found.dataset_id == first.dataset_id
    assert registry.log() == log


def test_a_bump_raises_the_number_and_never_lowers_it(registry: Registry, save: Save) -> None:
    assert registry.add_dataset("d", save({"x": [1]}), bump="patch").semver == "1.0.0"
    assert registry.add_dataset("d", save({"x": [1, 2]}), bump="patch").semver == "1.1.0"
    assert registry.add_dataset("d", save({"x": [1, 2, 3]}), bump="major").semver == "2.0.0"
    assert registry.add_dataset("d", save({"x": [1, 2]}), bump="minor").semver == "2.1.0"
    assert registry.add_dataset("d", save({"x": ["a"]}), bump="minor").semver == "3.0.0"
    with pytest.raises(InvalidInputError, match="not a part of a version: 'huge'"):
        registry.add_dataset("d", save({"x": ["b"]}), bump="huge")


def test_the_newest_is_the_highest_number_not_the_longest_text(registry: Registry, save: Save) -> None:
    for last in range(12):
        registry.add_dataset("d", save({"x": [last]}))
    assert registry.dataset("d").semver == "1.0.11"
    assert [each.semver for each in registry.dataset_versions("d")][:3] == ["1.0.11", "1.0.10", "1.0.9"]


# -- keys -------------------------------------------------------------------------------------------------------------
def test_a_key_stays_declared_until_its_columns_are_gone(registry: Registry, save: Save) -> None:
    registry.add_dataset("d", save({"id": [1, 2], "x": [1, 2]}), key=["id"])
    assert registry.add_dataset("d", save({"id": [1, 2], "x": [1, 3]})).key == ("id",)
    with pytest.raises(InvalidInputError, match=r"id is no key of flights.parquet: 2 rows have 'id=1'"):
        registry.add_dataset("d", save({"id": [1, 1], "x": [1, 3]}))
    other = registry.add_dataset("d", save({"id": [1, 1], "x": [1, 3]}), key=["id", "x"])
    assert (other.key, shown(other)) == (("id", "x"), ("1.0.2", True, 1, 1, 0))
    assert registry.add_dataset("d", save({"x": [1, 3]})).key == ()


def test_declaring_a_key_for_the_same_rows_is_a_patch(registry: Registry, save: Save) -> None:
    registry.add_dataset("d", save(ROWS))
    found = registry.add_dataset("d", save(ROWS), key="id")
    assert (found.key, shown(found)) == (("id",), ("1.0.1", True, 0, 0, 0))
    assert not registry.add_dataset("d", save(ROWS), key=["id"]).created
    assert registry.add_dataset("d", save(ROWS), key=["id", "origin"]).created
    assert not registry.add_dataset("d", save(ROWS), key=["origin", "id"]).created


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (["Id"], "there is no column 'Id', which the key names"),
        (["id", "id"], "names the column 'id' twice"),
        (["origin"], "origin is no key of flights.parquet: 2 rows have 'origin=JFK'"),
    ],
)
def test_a_key_that_is_none_is_refused(registry: Registry, save: Save, key: list[str], problem: str) -> None:
    path = save({"id": [1, 2], "origin": ["JFK", "JFK"]})
    head = registry.log()
    with pytest.raises(InvalidInputError) as caught:
        registry.add_dataset("d", path, key=key)
    assert problem in caught.value.message
    assert registry.datasets() == []
    assert registry.log() == head


# -- folders of anything ----------------------------------------------------------------------------------------------
def test_a_folder_of_anything_is_known_by_its_files(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "cats").mkdir(parents=True)
    (folder / "dogs").mkdir()
    (folder / "cats" / "1.jpg").write_bytes(b"cat")
    (folder / "dogs" / "2.jpg").write_bytes(b"dog")
    first = registry.add_dataset("images", folder)
    assert (first.rows, first.schema, first.content, first.format, first.bytes) == (None, None, None, "files", 6)
    os.utime(folder / "cats" / "1.jpg", (1, 1))
    assert not registry.add_dataset("images", folder).created
    (folder / "cats" / "3.jpg").write_bytes(b"CAT")
    assert shown(registry.add_dataset("images", folder)) == ("1.1.0", True, 1, 0, 0)
    (folder / "cats" / "3.jpg").write_bytes(b"dog")
    assert shown(registry.add_dataset("images", folder)) == ("1.1.1", True, 0, 0, 1)
    shutil.move(folder / "cats" / "3.jpg", folder / "dogs" / "3.jpg")
    moved = registry.add_dataset("images", folder)
    assert shown(moved) == ("1.1.2", True, 1, 1, 0)
    difference = registry.diff_datasets("images@1.1.0", "images@1.1.2")
    assert [each["path"] for each in difference.added_examples] == ["dogs/3.jpg"]
    with pytest.raises(InvalidInputError, match="no table have no key"):
        registry.add_dataset("images", folder, key=["path"])
    assert registry.verify() == 4


def test_a_single_file_of_another_kind_may_change_its_name(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"1")
    (tmp_path / "b.bin").write_bytes(b"1")
    registry.add_dataset("d", tmp_path / "a.bin")
    assert not registry.add_dataset("d", tmp_path / "b.bin").created
    (tmp_path / "b.bin").write_bytes(b"2")
    assert shown(registry.add_dataset("d", tmp_path / "b.bin")) == ("1.0.1", True, 0, 0, 1)


def test_between_a_table_and_anything_else_all_is_new(registry: Registry, save: Save, tmp_path: Path) -> None:
    registry.add_dataset("d", save(ROWS))
    (tmp_path / "notes.txt").write_text("text")
    found = registry.add_dataset("d", tmp_path / "notes.txt")
    assert shown(found) == ("2.0.0", True, None, None, None)
    assert registry.add_dataset("d", save(ROWS)).semver == "3.0.0"
    assert list(registry.diff_datasets("d@1.0.0", "d@2.0.0").columns_removed) == list(ROWS)
    assert registry.diff_datasets("d@1.0.0", "d@3.0.0").bump is None


# -- branches and races -----------------------------------------------------------------------------------------------
def test_a_number_that_another_branch_has_is_passed_over(registry: Registry, save: Save) -> None:
    registry.add_dataset("d", save({"x": [1]}))
    other = registry.create_branch("other")
    assert other.add_dataset("d", save({"x": [1, 2]})).semver == "1.1.0"
    assert registry.add_dataset("d", save({"x": [1, 3]})).semver == "1.2.0"
    assert registry.add_dataset("d", save({"x": [1]})).semver == "1.2.1"
    assert other.add_dataset("d", save({"x": ["a"]})).semver == "2.0.0"
    assert registry.add_dataset("d", save({"x": ["b"]})).semver == "3.0.0"
    assert [each.semver for each in registry.dataset_versions("d")] == ["3.0.0", "1.2.1", "1.2.0", "1.0.0"]
    assert other.add_dataset("new", save({"x": [1]})).semver == "1.0.0"
    assert registry.add_dataset("new", save({"x": [2]})).semver == "2.0.0"


def test_adders_at_the_same_time_lose_nothing(registry_url: str, tmp_path: Path) -> None:
    """Each compares itself in the end with what came before it: rows 0 to 3, each added once."""
    failures: list[BaseException] = []

    def add(number: int) -> None:
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"x": [number]}), path)
        try:
            with headwater.open(registry_url, actor=f"adder-{number}") as registry:
                registry.add_dataset("d", path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with headwater.open(registry_url) as registry:
        found = registry.dataset_versions("d")[::-1]
        assert [each.semver for each in found] == ["1.0.0", "1.0.1", "1.0.2", "1.0.3"]
        assert [shown(each)[2:] for each in found] == [(None, None, None)] + [(1, 1, 0)] * 3
        assert [each.base_dataset_id for each in found] == [None, *(each.dataset_id for each in found[:-1])]


def test_adders_of_the_same_rows_make_one_version(registry_url: str, tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    created: list[bool] = []

    def add() -> None:
        with headwater.open(registry_url) as registry:
            created.append(registry.add_dataset("d", path).created)

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(created) == [False, False, True]


# -- what is said of a version ----------------------------------------------------------------------------------------
def test_a_version_has_a_profile_of_its_columns(registry: Registry, save: Save, tmp_path: Path) -> None:
    found = registry.add_dataset("flights", save(ROWS))
    assert found.profile == {
        "id": {"type": "BIGINT", "min": 1, "max": 3, "approx_distinct": 3, "nulls": 0},
        "origin": {"type": "VARCHAR", "min": "EWR", "max": "LGA", "approx_distinct": 3, "nulls": 0},
        "delay": {"type": "DOUBLE", "min": 5.0, "max": 5.0, "approx_distinct": 2, "nulls": 1, "nans": 1},
    }
    assert registry.dataset("flights").profile == found.profile
    ((text,),) = registry.sql("SELECT profile FROM datasets").fetchall()
    assert json.loads(text) == found.profile
    (tmp_path / "notes.txt").write_text("text")
    assert registry.add_dataset("notes", tmp_path / "notes.txt").profile is None


def test_the_same_data_with_another_description_keeps_the_description(registry: Registry, save: Save) -> None:
    first = registry.add_dataset("flights", save(ROWS), description="out of New York")
    for said, expected in (("2013", "2013"), ("2013", "2013"), ("", None), ("again", "again")):
        found = registry.add_dataset("flights", save(ROWS), description=said)
        assert (found.created, found.dataset_id, found.description) == (False, first.dataset_id, expected)
        assert registry.sql("SELECT description FROM datasets").fetchall() == [(expected,)]
    assert registry.add_dataset("flights", save(ROWS)).description == "again"
    assert registry.at(first.commit).dataset("flights").description == "out of New York"
    assert [(entry.kind, entry.subject) for entry in registry.log("flights")] == [("data", "flights@1.0.0")] * 4
    assert registry.log("flights")[0].message == "data add flights@1.0.0: the same data, new description"


def test_the_same_data_with_another_source_keeps_the_derivation(registry: Registry, save: Save) -> None:
    raw = registry.add_dataset("raw", save({"x": [1]}))
    registry.add_dataset("raw", save({"x": [1, 2]}))
    clean = registry.add_dataset("clean", save({"x": [5]}))
    assert clean.derived_from == ()
    found = registry.add_dataset("clean", save({"x": [5]}), derived_from=["raw@1.1.0", "raw@1.0.0", "raw"])
    assert (found.created, found.derived_from) == (False, ("raw@1.0.0", "raw@1.1.0"))
    head = registry.head
    assert registry.add_dataset("clean", save({"x": [5]}), derived_from=["raw"]).derived_from == found.derived_from
    assert registry.head == head
    assert found.dataset_id == clean.dataset_id
    assert registry.at(clean.commit).dataset("clean").derived_from == ()
    assert registry.dataset("raw@1.0.0").dataset_id == raw.dataset_id


def test_a_version_cannot_be_made_from_itself_or_from_what_was_made_of_it(registry: Registry, save: Save) -> None:
    for name, rows, sources in (("a", [1], []), ("b", [2], ["a"]), ("c", [3], ["b"])):
        registry.add_dataset(name, save({"x": rows}), derived_from=sources)
    head = registry.head
    for source, message in (
        ("a", "a@1.0.0 can't be made from itself"),
        ("b", "a@1.0.0 can't be made from b, which was made from it"),
        ("c@1.0.0", "a@1.0.0 can't be made from c@1.0.0, which was made from it"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            registry.add_dataset("a", save({"x": [1]}), derived_from=[source], description="not kept either")
        assert caught.value.message == message
    assert registry.head == head
    # a new version is new to everything, so none of them is made from it
    assert registry.add_dataset("a", save({"x": [1, 2]}), derived_from=["a", "c"]).derived_from == (
        "a@1.0.0",
        "c@1.0.0",
    )


def test_adders_of_the_same_rows_lose_no_derivation(registry_url: str, tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    with headwater.open(registry_url) as registry:
        for name in "abc":
            pq.write_table(pa.table({"x": [name]}), path)
            registry.add_dataset(name, path)
    pq.write_table(pa.table({"x": [1]}), path)
    failures: list[BaseException] = []

    def add(source: str) -> None:
        try:
            with headwater.open(registry_url) as registry:
                registry.add_dataset("d", path, derived_from=[source])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(source,)) for source in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with headwater.open(registry_url) as registry:
        assert [each.semver for each in registry.dataset_versions("d")] == ["1.0.0"]
        assert registry.dataset("d").derived_from == ("a@1.0.0", "b@1.0.0", "c@1.0.0")


def test_another_format_with_other_columns_is_compared_as_what_it_is(
    registry: Registry, save: Save, tmp_path: Path
) -> None:
    registry.add_dataset("d", save({"id": [1, 2], "x": ["a", "b"]}), key=["id"])
    (tmp_path / "d.csv").write_text("id,y\n1,5\n3,6\n")
    found = registry.add_dataset("d", tmp_path / "d.csv")
    assert shown(found) == ("2.0.0", True, 1, 1, 0)
    (tmp_path / "d.jsonl").write_text('{"id": 1, "z": 5}\n')
    assert shown(registry.add_dataset("d", tmp_path / "d.jsonl")) == ("3.0.0", True, 0, 1, 0)


def test_a_key_that_becomes_text_still_tells_rows_apart(registry: Registry, save: Save) -> None:
    registry.add_dataset("d", save({"id": [1, 2, 3], "x": [1, 2, 3]}), key=["id"])
    found = registry.add_dataset("d", save({"id": ["1", "2", "4"], "x": [1, 5, 3]}))
    assert shown(found) == ("2.0.0", True, 1, 1, 1)
    assert found.key == ("id",)
    assert registry.diff_datasets("d@1.0.0", "d").changed_examples == (({"id": "2", "x": 2}, {"id": "2", "x": 5}),)


# -- what is in the lake already --------------------------------------------------------------------------------------
def put(registry: Registry, objects: dict[str, bytes], message: str = "raw data") -> str:
    lake = registry._context.lake
    for path, body in objects.items():
        lake.put("main", path, body)
    return lake.commit("main", message, {})


def parquet(columns: dict[str, list[Any]]) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), out)
    return bytes(out.getvalue().to_pybytes())


def test_data_in_the_lake_is_named_and_not_copied(registry: Registry, save: Save, tmp_path: Path) -> None:
    body = parquet(ROWS)
    commit = put(registry, {"raw/flights.parquet": body, "raw/other.csv": b"a\n1\n"})
    found = registry.add_dataset("flights", "lake://main/raw/flights.parquet", key=["id"])
    assert shown(found) == ("1.0.0", True, None, None, None)
    assert (found.rows, found.path, found.data_commit, found.bytes) == (3, "raw/", commit, len(body))
    assert found.origin == {"kind": "lake", "ref": "main", "path": "raw/flights.parquet"}
    assert found.profile is not None
    assert [file.path for file in registry._datasets.files("flights")] == ["flights.parquet"]
    assert list(registry._context.lake.list("main", "datasets/")) == []
    assert not registry.add_dataset("flights", save(ROWS)).created
    # what becomes of the path later is another thing
    put(registry, {"raw/flights.parquet": parquet({**ROWS, "delay": [5.0, 6.0, 7.0]})})
    registry._context.lake.delete("main", "raw/other.csv")
    registry._context.lake.commit("main", "tidied", {})
    assert found.pull(tmp_path / "out").joinpath("flights.parquet").read_bytes() == body
    assert registry.verify() == 1
    second = registry.add_dataset("flights", f"lake://{registry.head}/raw/flights.parquet")
    assert shown(second) == ("1.0.1", True, 0, 0, 2)
    third = registry.add_dataset("flights", save({**ROWS, "wind": [1, 2, 3]}))
    assert (third.semver, third.data_commit) == ("2.0.0", None)
    assert registry.diff_datasets("flights@1.0.0", "flights@2.0.0").columns_added == {"wind": "BIGINT"}
    assert registry.diff_datasets("flights@1.0.1", "flights@1.0.0").changed == 2
    assert registry.verify() == 3
    assert registry.create_branch("other").dataset("flights@1.0.0").pull(tmp_path / "other").is_dir()


def test_a_folder_in_the_lake_may_be_a_dataset(registry: Registry, tmp_path: Path) -> None:
    put(registry, {f"parts/{n}.parquet": parquet({"x": [n]}) for n in range(3)})
    put(registry, {"images/a.png": b"1", "images/deep/b.png": b"2", "images.txt": b"3"})
    parts = registry.add_dataset("parts", "lake://main/parts")
    assert (parts.rows, parts.path, parts.format) == (3, "parts/", "parquet")
    images = registry.add_dataset("images", "lake://main~1/images/")
    assert (images.rows, images.format) == (None, "files")
    assert [(f.path, f.size, len(f.sha256)) for f in registry._datasets.files("images")] == [
        ("a.png", 1, 64), ("deep/b.png", 1, 64),
    ]  # fmt: skip
    pulled = images.pull(tmp_path / "out")
    assert (pulled / "deep" / "b.png").read_bytes() == b"2"
    top = registry.add_dataset("top", "lake://main/images.txt")
    assert (top.path, top.pull(tmp_path / "top").joinpath("images.txt").read_bytes()) == ("", b"3")
    assert registry.verify() == 3


def test_a_lakefs_url_names_the_lakes_own_repository(
    registry: Registry, registry_url: str, is_remote_url: bool, tmp_path: Path
) -> None:
    commit = put(registry, {"raw/a.csv": b"a\n1\n"})
    address, _, repository = registry_url.removeprefix("lakefs://").rpartition("/")
    if not is_remote_url:
        with pytest.raises(InvalidInputError, match="this lake is a folder") as caught:
            registry.add_dataset("a", "lakefs://flights/main/raw/a.csv")
        assert "lake://REF/PATH" in caught.value.hint
        return
    for number, url in enumerate(
        (f"lakefs://{repository}/main/raw/a.csv", f"lakefs://{address}/{repository}/{commit}/raw/a.csv")
    ):
        found = registry.add_dataset(f"a{number}", url)
        assert (found.rows, found.data_commit) == (1, commit)
    for url in ("lakefs://other-repo/main/raw/a.csv", f"lakefs://{address}/other-repo/main/raw/a.csv",
                f"lakefs://example.com/{repository}/main/raw/a.csv"):  # fmt: skip
        with pytest.raises(InvalidInputError, match="is not the repository of this lake") as caught:
            registry.add_dataset("b", url)
        assert "fetch the data from there and add the file" in caught.value.hint
    with pytest.raises(InvalidInputError, match="has a user or a password in it") as caught:
        registry.add_dataset("b", f"lakefs://user:secret@{address}/{repository}/main/raw/a.csv")
    assert "secret" not in caught.value.message


@pytest.fixture
def is_remote_url(registry_url: str) -> bool:
    return registry_url.startswith("lakefs://")


def test_a_strangers_object_gets_its_digest_from_its_bytes(
    registry: Registry, is_remote_url: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What others upload to a lakeFS branch has no sha256 that the lake would know."""
    from hashlib import sha256

    from headwater.lake.base import ObjectInfo

    put(registry, {"raw/a.bin": b"1", "raw/b.bin": b"22"})
    lake = type(registry._context.lake)
    known = lake.list

    def unknown(self: Any, ref: str, prefix: str = "") -> Any:
        return (ObjectInfo(info.path, info.size, None) for info in known(self, ref, prefix))

    with monkeypatch.context() as patched:
        patched.setattr(lake, "list", unknown)
        registry.add_dataset("raw", "lake://main/raw")
    assert [file.sha256 for file in registry._datasets.files("raw")] == [
        sha256(body).hexdigest() for body in (b"1", b"22")
    ]
    assert registry.verify() == 1


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("lake://main/raw/zebra.csv", NotFoundError, "there is nothing at 'raw/zebra.csv' in 'main'"),
        ("lake://main/ra", NotFoundError, "there is nothing at 'ra'"),
        ("lake://zebra/raw/a.csv", NotFoundError, "zebra"),
        ("lake://main~99/raw/a.csv", NotFoundError, "main~99"),
        ("lake://main", InvalidInputError, "names no path"),
        ("lake://main/", InvalidInputError, "names no path"),
        ("lake:///raw/a.csv", InvalidInputError, "names no path"),
        ("lake://main/raw/../a.csv", InvalidInputError, "not a path in a lake"),
        ("lake://main/raw//a.csv", InvalidInputError, "not a path in a lake"),
    ],
)
def test_a_url_that_names_nothing_is_refused(
    registry: Registry, url: str, kind: type[HeadwaterError], message: str
) -> None:
    put(registry, {"raw/a.csv": b"a\n1\n"})
    head = registry.head
    with pytest.raises(kind, match=message):
        registry.add_dataset("a", url)
    assert registry.head == head


# -- differences ------------------------------------------------------------------------------------------------------
def test_a_difference_has_counts_columns_and_examples(registry: Registry, save: Save) -> None:
    registry.add_dataset("d", save(ROWS), key=["id"])
    registry.add_dataset("d", save({"id": [1, 2, 4], "origin": ["JFK", "lga", "X"], "delay": [5.0, None, math.inf]}))
    registry.add_dataset("d", save({"id": [1, 2, 4], "origin": ["JFK", "LGA", "X"], "wind": [1, 2, 3]}))
    found = registry.diff_datasets("d@1.0.0", "d@1.0.1")
    assert (found.left, found.right, found.bump, found.key) == ("d@1.0.0", "d@1.0.1", "patch", ("id",))
    assert (found.added, found.removed, found.changed) == (1, 1, 1)
    assert found.added_examples == ({"id": 4, "origin": "X", "delay": "Infinity"},)
    assert found.removed_examples == ({"id": 3, "origin": "EWR", "delay": "NaN"},)
    assert found.changed_examples == (({"id": 2, "origin": "LGA"}, {"id": 2, "origin": "lga"}),)
    across = registry.diff_datasets("d@1.0.0", "d")
    assert (across.added, across.removed, across.changed) == (1, 1, 0)
    assert (across.columns_added, across.columns_removed) == ({"wind": "BIGINT"}, {"delay": "DOUBLE"})
    back = registry.diff_datasets("d@1.0.1", "d@1.0.0")
    assert (back.added, back.removed, back.changed, back.bump) == (1, 1, 1, "patch")
    assert registry.diff_datasets("d", "d").bump is None
    json.dumps([as_json(each) for each in (found, across, back)], allow_nan=False)


def test_a_retyped_column_is_told_with_both_types(registry: Registry, save: Save) -> None:
    registry.add_dataset("d", save({"x": [1, 2]}))
    registry.add_dataset("d", save({"x": ["1", "2"]}))
    assert registry.diff_datasets("d@1.0.0", "d@2.0.0").columns_retyped == {"x": ("BIGINT", "VARCHAR")}


def test_differences_can_be_read_where_nothing_can_be_written(registry: Registry, save: Save) -> None:
    registry.add_dataset("d", save({"x": [1, 2]}))
    second = registry.add_dataset("d", save({"x": [1, 2, 3]}))
    registry.add_dataset("d", save({"x": [1]}))
    then = registry.at(second.commit)
    assert then.diff_datasets("d@1.1.0", "d@1.0.0").removed == 1
    with pytest.raises(InvalidInputError, match="can be read, not written"):
        then.add_dataset("d", save({"x": [5]}))


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl"])
def test_text_is_read_again_with_the_types_that_were_recorded(registry: Registry, tmp_path: Path, name: str) -> None:
    """A later CSV whose column has other values must not change what the earlier one is read as."""
    path = tmp_path / name

    def write(rows: list[dict[str, Any]]) -> None:
        if path.suffix == ".csv":
            lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
        else:
            lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) + "\n")

    write([{"id": 1, "x": 1.5, "never": None}, {"id": 2, "x": 2, "never": None}])
    registry.add_dataset("d", path, key=["id"])
    write([{"id": 1, "x": 1.5, "never": None}, {"id": 2, "x": 3.5, "never": None}, {"id": 3, "x": 1, "never": None}])
    assert shown(registry.add_dataset("d", path)) == ("1.0.1", True, 1, 0, 1)
    write([{"id": 3, "x": 1, "never": None}])
    found = registry.add_dataset("d", path)
    assert found.semver == "2.0.0"
    assert list(registry.diff_datasets("d@1.0.1", "d").columns_retyped) == ["x"]


# -- finding ----------------------------------------------------------------------------------------------------------
def test_what_is_not_there_comes_with_a_hint(registry: Registry, save: Save) -> None:
    registry.add_dataset("flights", save(ROWS))
    for reference, message, hint in (
        ("flihgts", "there is no dataset flihgts", "did you mean flights?"),
        ("zebra@1.0.0", "there is no dataset zebra", "`headwater data list`"),
        ("flights@2.0.0", "there is no version flights@2.0.0", "the newest is flights@1.0.0"),
    ):
        with pytest.raises(NotFoundError) as caught:
            registry.dataset(reference)
        assert caught.value.message == message
        assert hint in caught.value.hint
    for bad in ("flights@1", "flights@latest", "flights/1", "", "flights@01.0.0"):
        with pytest.raises(InvalidInputError):
            registry.dataset(bad)
    with pytest.raises(NotFoundError):
        registry.dataset_versions("zebra")
    with pytest.raises(InvalidInputError, match="is one version"):
        registry.dataset_versions("flights@1.0.0")


def test_a_list_has_the_newest_of_each(registry: Registry, save: Save) -> None:
    registry.add_dataset("b", save({"x": [1]}))
    registry.add_dataset("b", save({"x": [2]}))
    registry.add_dataset("a", save({"x": [1]}))
    assert [each.reference for each in registry.datasets()] == ["a@1.0.0", "b@1.0.1"]


def test_a_dataset_may_have_the_name_of_a_model(registry: Registry, save: Save) -> None:
    registry.register("flights", save({"x": [1]}))
    assert registry.add_dataset("flights", save({"x": [1]})).semver == "1.0.0"
    assert registry.verify() == 2
    with pytest.raises(InvalidInputError, match="both a model and a dataset"):
        registry.verify("flights")


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", "a@1.0.0", "a/1", "é", "x" * 129])
def test_a_bad_name_is_refused(registry: Registry, save: Save, name: str) -> None:
    with pytest.raises(InvalidInputError):
        registry.add_dataset(name, save({"x": [1]}))
    assert registry.datasets() == []


def test_derivation_is_recorded_by_id(registry: Registry, save: Save) -> None:
    raw = registry.add_dataset("raw", save({"x": [1]}))
    other = registry.add_dataset("other", save({"x": [1]}))
    clean = registry.add_dataset("clean", save({"x": [2]}), derived_from=["raw@1.0.0", "other", "raw"])
    edges = registry.sql("SELECT source, relation, target FROM lake.lineage ORDER BY source").fetchall()
    assert edges == [
        (f"dataset:{each}", "derived", f"dataset:{clean.dataset_id}") for each in (raw.dataset_id, other.dataset_id)
    ]
    with pytest.raises(NotFoundError, match="there is no dataset nowhere"):
        registry.add_dataset("more", save({"x": [3]}), derived_from=["nowhere"])
    assert [each.name for each in registry.datasets()] == ["clean", "other", "raw"]


# -- fetching ---------------------------------------------------------------------------------------------------------
def test_pulling_replaces_an_earlier_version_and_nothing_else(registry: Registry, save: Save, tmp_path: Path) -> None:
    registry.add_dataset("d", save({"x": [1]}, "a.parquet"))
    second = registry.add_dataset("d", save({"x": [2]}, "b.parquet"))
    dest = tmp_path / "out"
    assert registry.pull_dataset("d@1.0.0", dest) == dest
    (dest / "mine.txt").write_text("mine")
    second.pull(dest)
    assert sorted(path.name for path in dest.iterdir()) == ["b.parquet", "mine.txt"]
    (dest / "b.parquet").write_text("edited")
    with pytest.raises(AlreadyExistsError):
        second.pull(dest)
    second.pull(dest, force=True)
    assert pq.read_table(dest / "b.parquet").column("x").to_pylist() == [2]


def test_a_delta_table_comes_back_as_one(registry: Registry, tmp_path: Path) -> None:
    from deltalake import DeltaTable, write_deltalake

    write_deltalake(tmp_path / "t", pa.table({"id": [1, 2], "part": ["x", "y/z"]}), partition_by=["part"])
    registry.add_dataset("d", tmp_path / "t", key=["id"])
    write_deltalake(tmp_path / "t", pa.table({"id": [3], "part": ["x"]}), mode="append")
    assert shown(registry.add_dataset("d", tmp_path / "t")) == ("1.1.0", True, 1, 0, 0)
    DeltaTable(tmp_path / "t").optimize.compact()
    assert not registry.add_dataset("d", tmp_path / "t").created
    pulled = registry.pull_dataset("d", tmp_path / "out")
    assert sorted(DeltaTable(pulled).to_pyarrow_table().column("id").to_pylist()) == [1, 2, 3]


def test_a_file_that_cannot_be_read_writes_nothing(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1\n")
    log = registry.log()
    with pytest.raises(InvalidInputError, match="line 2 has 1 column, not 2"):
        registry.add_dataset("d", tmp_path / "bad.csv")
    with pytest.raises(NotFoundError):
        registry.add_dataset("d", tmp_path / "absent.csv")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InvalidInputError, match="has no files in it"):
        registry.add_dataset("d", tmp_path / "nothing")
    (tmp_path / "link.csv").symlink_to(tmp_path / "bad.csv")
    with pytest.raises(InvalidInputError, match="symbolic link"):
        registry.add_dataset("d", tmp_path / "link.csv")
    assert registry.log() == log


def test_a_folder_that_holds_the_lake_is_refused(registry: Registry, is_remote_url: bool, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"1")
    if not is_remote_url:
        with pytest.raises(InvalidInputError, match="holds the lake itself"):
            registry.add_dataset("all", tmp_path)
        assert registry.datasets() == []


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 columns, not 2"),
        ("latin.csv", "a,b\n1,é\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("utf16.csv", "a,b\n1,2\n".encode("utf-16"), "it is not UTF-8"),
        ("bomb.csv", b",".join(b"c%d" % n for n in range(100_000)), "100,000 columns, and 10,000 are allowed"),
    ],
    ids=["ragged", "latin", "utf16", "bomb"],
)
def test_text_that_is_no_table_writes_nothing(
    registry: Registry, tmp_path: Path, name: str, body: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(body)
    head = registry.head
    with pytest.raises(InvalidInputError, match=message):
        registry.add_dataset("d", tmp_path / name)
    assert registry.head == head


def test_times_without_a_zone_and_nan_are_kept_as_they_are(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("id,local,utc,x\n1,2013-01-01 05:00,2013-01-01T05:00Z,nan\n2,2013-07-01 05:00,,1\n")
    found = registry.add_dataset("d", tmp_path / "d.csv", key=["id"])
    assert found.schema == {
        "id": "BIGINT", "local": "TIMESTAMP", "utc": "TIMESTAMP WITH TIME ZONE", "x": "DOUBLE",
    }  # fmt: skip
    assert found.profile is not None
    assert [found.profile[name]["max"] for name in ("local", "utc", "x")] == [
        "2013-07-01 05:00:00", "2013-01-01 05:00:00+00", 1.0,
    ]  # fmt: skip
    assert found.profile["x"]["nans"] == 1
    (tmp_path / "d.csv").write_text(
        "id,local,utc,x\n1,2013-01-01 05:00,2013-01-01T06:00+01:00,NaN\n2,2013-07-01 05:00,,1\n"
    )
    assert not registry.add_dataset("d", tmp_path / "d.csv").created


def test_data_whose_commit_the_lake_has_collected_is_told(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    put(registry, {"raw/a.csv": b"a\n1\n"})
    registry.add_dataset("a", "lake://main/raw/a.csv")

    def stat(self: Any, ref: str, path: str) -> Any:
        raise NotFoundError(f"there is no commit {ref}")

    monkeypatch.setattr(type(registry._context.lake), "stat", stat)
    with pytest.raises(IntegrityError, match=r"a@1\.0\.0: 'a.csv' is missing") as caught:
        registry.verify("a@1.0.0")
    assert "which the lake may have collected" in caught.value.hint


def test_a_file_that_changes_meanwhile_is_refused(
    registry: Registry, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headwater.content import Workbench

    path = save({"x": [1]})
    measure = Workbench.measure

    def slow(*arguments: Any) -> Any:
        found = measure(*arguments)
        save({"x": [1, 2]})
        return found

    monkeypatch.setattr(Workbench, "measure", slow)
    with pytest.raises(InvalidInputError, match="changed while it was read"):
        registry.add_dataset("d", path)
    assert registry.datasets() == []


def test_scratch_files_are_gone_when_it_is_done(registry: Registry, save: Save) -> None:
    registry.add_dataset("d", save({"x": [1]}))
    registry.add_dataset("d", save({"x": [2]}))
    with pytest.raises(HeadwaterError):
        registry.add_dataset("d", save({"x": [3, 3]}), key=["x"])
    cache = registry._context.lake.cache
    assert not list(cache.glob("compare-*"))


@pytest.mark.parametrize("damage", ["altered", "missing", "too many"])
def test_damage_in_the_lake_is_found(registry: Registry, save: Save, tmp_path: Path, damage: str) -> None:
    found = registry.add_dataset("d", save({"x": [1, 2]}))
    lake, path = registry._context.lake, found.path + registry._datasets.files("d")[0].path
    if damage == "missing":
        lake.delete("main", path)
    else:
        body = bytearray(lake.read("main", path))
        body[len(body) // 2] ^= 1
        lake.put("main", path if damage == "altered" else path + "x", bytes(body))
    lake.commit("main", "a stranger's hand", {})
    with pytest.raises(IntegrityError, match=r"d@1\.0\.0"):
        registry.verify("d@1.0.0")
    with pytest.raises(IntegrityError, match=r"d@1\.0\.0"):
        registry.pull_dataset("d", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_corrected_copy_of_a_table_as_large_as_the_flights_is_a_patch(registry: Registry, save: Save) -> None:
    count = 336_776
    columns: dict[str, list[Any]] = {
        f"c{i}": [(row * 7919 + i) % (1000 + i) for row in range(count)] for i in range(12)
    }
    columns |= {f"s{i}": [f"N{(row * 31 + i) % 4000}" for row in range(count)] for i in range(6)}
    columns = {"id": list(range(count)), **columns}
    registry.add_dataset("flights", save(columns), key=["id"])
    columns["s0"][::1000] = ["corrected"] * len(columns["s0"][::1000])
    path = save(columns)
    found = registry.add_dataset("flights", path)
    assert shown(found) == ("1.0.1", True, 0, 0, 337)
