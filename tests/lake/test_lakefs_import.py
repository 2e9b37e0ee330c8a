"""What is lakeFS's own about bringing commits in: a branch is moved by a merge, which nothing is lost to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.errors import ConflictError, RaceLostError
from headwater.lake.base import IMPORT_PREFIX, MOVE
from headwater.lake.lakefs import LakeFS
from headwater.lake.refs import settled


@pytest.fixture
def lake(lakefs_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LakeFS]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = LakeFS.create(lakefs_url, storage_namespace="local://" + lakefs_url.rpartition("/")[2])
    yield made
    made.close()


@pytest.fixture
def side(lake: LakeFS) -> str:
    """A branch with something to merge."""
    lake.create_branch("side", lake.head("main"))
    lake.put("side", "a", b"1")
    lake.commit("side", "m", {})
    return "side"


def test_a_branch_is_moved_by_a_merge_that_says_so(lake: LakeFS, side: str) -> None:
    first, to = lake.head("main"), lake.head(side)
    moved = lake.get_commit(lake.move_branch("main", to, expected=first))
    assert moved.parents == (first, to)
    assert moved.metadata.keys() == {"headwater.kind", "headwater.at"}
    assert moved.metadata["headwater.kind"] == MOVE


def test_what_lands_between_the_look_and_the_merge_is_in_it_or_stops_it(
    lake: LakeFS, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = lake.merge
    for path in ("else", "a"):
        first, to = lake.head("main"), lake.head(side)

        def late(*args: Any, path: str = path, **options: Any) -> str:
            lake.put("main", path, b"theirs")
            lake.commit("main", "m", {})
            return merge(*args, **options)

        monkeypatch.setattr(lake, "merge", late)
        if path == "else":
            moved = lake.move_branch("main", to, expected=first)
            assert settled(lake, moved) == moved
            assert [each.path for each in lake.list("main")] == ["a", "else"]
            lake.put(side, "a", b"2")
            lake.commit(side, "m", {})
            lake.put("main", "else", b"more")
            lake.commit("main", "m", {})
            monkeypatch.setattr(lake, "merge", merge)
            merge(lake.head("main"), side, "m", {})
        else:
            with pytest.raises(RaceLostError):
                lake.move_branch("main", to, expected=first)
            assert lake.read("main", "a") == b"theirs"


def test_what_a_branch_has_besides_is_not_merged_unasked(lake: LakeFS, side: str) -> None:
    lake.put("main", "b", b"1")
    made = lake.commit("main", "m", {})
    with pytest.raises(ConflictError, match="has what"):
        lake.move_branch("main", lake.head(side), expected=made)
    assert lake.head("main") == made


def test_what_somebody_else_staged_is_not_touched(lake: LakeFS, side: str) -> None:
    first = lake.head("main")
    lake.put("main", "mine", b"1")
    with pytest.raises(ConflictError, match="has staged changes"):
        lake.move_branch("main", lake.head(side), expected=first)
    made = lake.commit("main", "mine", {})
    assert lake.get_commit(made).parents == (first,)


def test_hidden_branches_are_gone_at_the_end(lake: LakeFS) -> None:
    def hidden() -> list[str]:
        listed = lake._client.run("list", lambda sdk: sdk.branches.list_branches(lake._name, show_hidden=True))
        return [str(each["id"]) for each in listed["results"] if str(each["id"]).startswith(IMPORT_PREFIX)]

    with lake.importing() as importer:
        importer.commit(lake.get_commit(_second(lake)), {}, ())
        assert len(hidden()) == 1
    assert hidden() == []


def _second(lake: LakeFS) -> str:
    lake.put("main", "x", b"1")
    return lake.commit("main", "m", {})
