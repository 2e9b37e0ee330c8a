"""Commits and reservations of another lake, and branches that are moved to them: on every lake."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping

import pytest

from headwater.errors import IntegrityError, InvalidInputError, NotFoundError, RaceLostError
from headwater.lake.base import ORIGIN, Commit, Importer, Incoming, Lake
from headwater.lake.copies import Copies
from headwater.lake.refs import locate, resolve, settled

OLD = {name: name * 64 for name in "abcdef"}


def incoming(body: bytes) -> Incoming:
    return Incoming(len(body), lambda: io.BytesIO(body))


def bring(
    importer: Importer,
    parents: tuple[str, ...],
    changes: Mapping[str, bytes | None],
    taken: tuple[str, ...] = (),
    *,
    old: str = "",
    message: str = "brought",
) -> str:
    metadata = {"k": "é", "headwater.at": "1700000000000000", **({ORIGIN: old} if old else {})}
    objects = {path: incoming(body) if body is not None else None for path, body in changes.items()}
    return importer.commit(Commit("", parents, message, metadata, 1_700_000_000_000_000), objects, taken)


def tree(lake: Lake, commit: str) -> dict[str, bytes]:
    return {info.path: lake.read(commit, info.path) for info in lake.list(commit)}


# -- commits ----------------------------------------------------------------------------------------------------------
def test_a_commit_is_brought_with_all_that_it_is(lake: Lake) -> None:
    first = lake.head("main")
    with lake.importing() as importer:
        made = bring(importer, (first,), {"a": b"1", "folder/b": b"", "é": b"x" * 200_000}, message="said\nso")
        after = bring(importer, (made,), {"a": None, "folder/b": b"2"})
        assert lake.branches() == {"main": first}
        moved = lake.move_branch("main", after, expected=first)
    found = lake.get_commit(made)
    assert (found.parents, found.message, found.micros) == ((first,), "said\nso", 1_700_000_000_000_000)
    assert found.metadata == {"k": "é", "headwater.at": "1700000000000000"}
    assert tree(lake, made) == {"a": b"1", "folder/b": b"", "é": b"x" * 200_000}
    assert tree(lake, "main") == {"folder/b": b"2", "é": b"x" * 200_000}
    assert [each.id for each in lake.log(after)] == [after, made, first]
    assert lake.head("main") == moved
    assert settled(lake, moved) == after
    assert settled(lake, after) == after


def test_a_commit_that_changes_nothing_is_a_commit(lake: Lake) -> None:
    first = lake.head("main")
    with lake.importing() as importer:
        made = bring(importer, (first,), {}, message="one")
        again = bring(importer, (made,), {}, message="two")
    assert lake.get_commit(again).parents == (made,)
    assert tree(lake, again) == {}


def test_a_large_object_is_streamed(lake: Lake) -> None:
    body = os.urandom(3 << 20)
    with lake.importing() as importer:
        made = bring(importer, (lake.head("main"),), {"big": body})
    assert lake.read(made, "big") == body
    assert lake.stat(made, "big").size == len(body)


def test_a_merge_is_brought_as_a_merge(lake: Lake) -> None:
    first = lake.head("main")
    with lake.importing() as importer:
        left = bring(importer, (first,), {"a": b"1", "both": b"0"}, message="left")
        right = bring(importer, (first,), {"b": b"2"}, message="right")
        merged = bring(importer, (left, right), {}, ("b",), message="merged")
        after = bring(importer, (merged,), {"c": b"3"})
    assert lake.get_commit(merged).parents == (left, right)
    assert lake.get_commit(merged).message == "merged"
    assert tree(lake, merged) == {"a": b"1", "both": b"0", "b": b"2"}
    assert tree(lake, after) == {"a": b"1", "both": b"0", "b": b"2", "c": b"3"}
    assert lake.merge_base(after, right) == right


@pytest.mark.parametrize(
    ("left", "right", "changes", "taken", "wanted"),
    [
        ({"x": b"l"}, {"x": b"r"}, {}, (), {"x": b"l"}),
        ({"x": b"l"}, {"x": b"r"}, {}, ("x",), {"x": b"r"}),
        ({"x": b"l"}, {"x": b"r"}, {"x": b"m"}, (), {"x": b"m"}),
        ({"x": b"l"}, {"x": b"r", "y": b"r"}, {"x": None}, (), {}),
        ({"x": b"l"}, {"y": b"r"}, {"z": b"m"}, (), {"x": b"l", "z": b"m"}),
        ({"x": b"l", "w": b"l"}, {"y": b"r"}, {}, ("w", "y"), {"x": b"l", "y": b"r"}),
    ],
)
def test_a_merge_has_the_tree_that_it_had(
    lake: Lake,
    left: Mapping[str, bytes],
    right: Mapping[str, bytes],
    changes: Mapping[str, bytes | None],
    taken: tuple[str, ...],
    wanted: Mapping[str, bytes],
) -> None:
    first = lake.head("main")
    with lake.importing() as importer:
        one = bring(importer, (first,), left, message="left")
        two = bring(importer, (first,), right, message="right")
        merged = bring(importer, (one, two), changes, taken, old=OLD["a"])
        after = bring(importer, (merged,), {"after": b"1"})
    assert tree(lake, merged) == wanted
    assert tree(lake, after) == {**wanted, "after": b"1"}
    found = [each for each in lake.log(after) if each.metadata.get(ORIGIN) == OLD["a"]]
    assert [each.id for each in found] == [merged]
    assert {lake.merge_base(after, side) for side in (one, two)} == {one, two}


def test_what_was_brought_is_found_again_after_a_failure(lake: Lake) -> None:
    first = lake.head("main")
    made: list[str] = []

    def fail() -> None:
        with lake.importing() as importer:
            made.append(bring(importer, (first,), {"a": b"1"}, old=OLD["a"]))
            made.append(bring(importer, (made[0],), {"a": b"2"}, old=OLD["b"]))
            made.append(bring(importer, (first,), {"b": b"1"}, old=OLD["c"]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert {each.metadata.get(ORIGIN): each.id for each in lake.commits()} == {
        None: first,
        **dict(zip((OLD["a"], OLD["b"], OLD["c"]), made, strict=True)),
    }
    assert lake.branches() == {"main": first}
    with lake.importing() as importer:
        after = bring(importer, (made[1],), {"c": b"1"})
    assert tree(lake, after) == {"a": b"2", "c": b"1"}


# -- finding copies ---------------------------------------------------------------------------------------------------
def test_a_copy_is_found_by_the_id_of_what_it_is_a_copy_of(lake: Lake) -> None:
    first = lake.head("main")
    assert lake.find_copies(OLD["a"]) == []
    with lake.importing() as importer:
        made = bring(importer, (first,), {"a": b"1"}, old=OLD["a"])
        twin = bring(importer, (made,), {"a": b"2"}, old="a" * 8 + "b" * 56)
        lake.move_branch("main", twin, expected=first)
    assert lake.find_copies(OLD["a"]) == [made]
    assert sorted(lake.find_copies("a" * 8)) == sorted([made, twin])
    assert lake.find_copies("a" * 9) == [made]
    assert lake.find_copies("b" * 8) == lake.find_copies("not hex!") == lake.find_copies('":"') == []
    assert locate(lake, OLD["a"]) == made
    assert locate(lake, made) == made
    assert locate(lake, OLD["f"]) == OLD["f"]
    assert resolve(lake, "a" * 12).commit == made
    assert resolve(lake, f"{OLD['a']}~1").commit == first


def test_the_index_of_copies_is_a_cache(lake: Lake) -> None:
    first = lake.head("main")
    with lake.importing() as importer:
        made = bring(importer, (first,), {"a": b"1"}, old=OLD["a"])
        lake.move_branch("main", made, expected=first)
    place = lake.cache / "copies.db"
    place.parent.mkdir(parents=True, exist_ok=True)
    for body in (None, b"no database" * 1000, None, b"SQLite format 3\0" + b"\xff" * 5000):
        if body is not None:
            place.write_bytes(body)
        assert Copies(lake, place).find(OLD["a"], lambda: [lake.head("main")]) == [made]
    place.unlink(missing_ok=True)
    place.mkdir()
    assert Copies(lake, place).find(OLD["a"], lambda: [lake.head("main")]) == [made]


# -- moving a branch --------------------------------------------------------------------------------------------------
def test_a_branch_moves_only_from_where_it_was_expected(lake: Lake) -> None:
    first = lake.head("main")
    lake.put("main", "a", b"1")
    second = lake.commit("main", "m", {})
    lake.create_branch("b", first)
    with pytest.raises(RaceLostError, match="has moved"):
        lake.move_branch("b", first, expected=second)
    moved = lake.move_branch("b", second, expected=first)
    assert lake.head("b") == moved
    assert lake.merge_base(moved, second) == second
    assert tree(lake, "b") == tree(lake, second)
    lake.put("main", "c", b"1")
    third = lake.commit("main", "m", {})
    again = lake.move_branch("b", third, expected=moved)
    assert lake.move_branch("b", again, expected=again) == again
    assert tree(lake, "b") == tree(lake, third)
    with pytest.raises(NotFoundError):
        lake.move_branch("missing", second, expected=first)
    with pytest.raises(NotFoundError):
        lake.move_branch("b", "0" * 64, expected=again)
    assert lake.head("b") == again
    lake.put("b", "b", b"1")
    assert lake.commit("b", "m", {})


def test_a_merge_at_the_moment_of_a_move_is_not_lost(lake: Lake) -> None:
    """Whatever comes first, the other one sees it: a merge lands on where the branch is moved to, or stops the move."""
    for turn in range(8):
        first = lake.head("main")
        lake.create_branch(f"to{turn}", first)
        lake.put(f"to{turn}", f"moved/{turn}", b"1")
        to = lake.commit(f"to{turn}", "m", {})
        lake.create_branch(f"side{turn}", first)
        lake.put(f"side{turn}", f"merged/{turn}", b"1")
        lake.commit(f"side{turn}", "m", {})
        begin = threading.Barrier(2)
        merged: list[str] = []

        def merge(turn: int = turn, begin: threading.Barrier = begin, merged: list[str] = merged) -> None:
            begin.wait()
            while not merged:
                try:
                    merged.append(lake.merge(f"side{turn}", "main", "m", {}))
                except RaceLostError:
                    continue

        other = threading.Thread(target=merge)
        other.start()
        begin.wait()
        moved = True
        try:
            lake.move_branch("main", to, expected=first)
        except RaceLostError:
            moved = False
        other.join()
        found = tree(lake, "main")
        assert f"merged/{turn}" in found
        assert (f"moved/{turn}" in found) == moved


def test_a_branch_in_which_nothing_has_happened_is_covered_up(lake: Lake) -> None:
    first = lake.head("main")
    lake.put_many("main", {"both": b"old", "lone": b"old"})
    made = lake.commit("main", "m", {})
    with lake.importing() as importer:
        brought = bring(importer, (first,), {"both": b"new", "more": b"new"})
        moved = lake.move_branch("main", brought, expected=made, over=True)
    assert lake.head("main") == moved
    assert settled(lake, moved) == brought
    assert tree(lake, "main") == {"both": b"new", "more": b"new"}


# -- reservations -----------------------------------------------------------------------------------------------------
def test_reservations_are_told_with_their_values(lake: Lake) -> None:
    assert lake.reservations() == {}
    lake.claim("name/model/é", "an id")
    lake.claim("a/b", "x y é")
    for value in ("tx-1", "tx-2"):
        lake.cut("version/m", value)
    lake.cut("other", "tx-3", after=1233)
    assert lake.reservations() == {
        ("name/model/é", 0): "an id",
        ("a/b", 0): "x y é",
        ("version/m", 1): "tx-1",
        ("version/m", 2): "tx-2",
        ("other", 1234): "tx-3",
    }


def test_reservations_are_taken_over(lake: Lake) -> None:
    wanted = {("name/model/m", 0): "id", ("version/m", 1): "tx-1", ("version/m", 2): "tx-2", ("d", 0): "é"}
    assert lake.reserve({}) == {}
    assert lake.reserve(wanted) == {}
    assert lake.reserve(wanted) == {}
    assert lake.reservations() == wanted
    assert lake.claim("name/model/m", "other") == "id"
    assert lake.cut("version/m", "tx-3") == 3


def test_what_stands_otherwise_is_told_and_stays(lake: Lake) -> None:
    lake.claim("k", "mine")
    lake.cut("s", "mine")
    wanted = {("k", 0): "yours", ("s", 1): "yours", ("s", 2): "yours"}
    assert lake.reserve(wanted) == {("k", 0): "mine", ("s", 1): "mine"}
    assert lake.reservations() == {("k", 0): "mine", ("s", 1): "mine", ("s", 2): "yours"}


# -- paths ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "a/../b", "..", "./a", "a\0b"])
def test_paths_lead_down_and_nowhere_else(lake: Lake, path: str) -> None:
    first = lake.head("main")
    with pytest.raises(InvalidInputError, match="not a path of an object"):
        lake.put("main", path, b"1")
    with lake.importing() as importer:
        with pytest.raises(IntegrityError, match="could lead out of the lake"):
            bring(importer, (first,), {path: b"1"})
        with pytest.raises(IntegrityError, match="could lead out of the lake"):
            bring(importer, (first, first), {}, (path,))
        made = bring(importer, (first,), {"..a/b\\c/.d": b"1"})
    assert tree(lake, made) == {"..a/b\\c/.d": b"1"}
