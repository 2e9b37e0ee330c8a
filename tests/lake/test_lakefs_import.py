"""What is lakeFS's own about bringing commits in: a branch is held while it is moved, and dead holds are let go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.errors import ConflictError, RaceLostError
from headwater.ids import now_micros
from headwater.lake import lakefs_import
from headwater.lake.base import IMPORT_PREFIX
from headwater.lake.lakefs import LakeFS

HOLD = "_hw_moving"


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


def hold(lake: LakeFS, micros: int) -> None:
    lake.put("main", HOLD, str(micros).encode())


def test_a_branch_that_is_being_moved_takes_no_merge_and_no_other_move(lake: LakeFS, side: str) -> None:
    hold(lake, now_micros())
    first = lake.head("main")
    with pytest.raises(RaceLostError, match="is being moved"):
        lake.merge(side, "main", "m", {})
    with pytest.raises(RaceLostError, match="is being moved"):
        lake.move_branch("main", lake.head(side), expected=first)
    assert lake.head("main") == first


@pytest.mark.parametrize("since", ["old", "nonsense"])
def test_a_hold_that_a_dead_process_left_is_let_go(lake: LakeFS, side: str, since: str) -> None:
    first = lake.head("main")
    for attempt in ("merge", "move"):
        if since == "old":
            hold(lake, now_micros() - 60_000_000)
        else:
            lake.put("main", HOLD, b"?")
        for turn in range(2):
            try:
                if attempt == "merge":
                    lake.merge(side, "main", "m", {})
                else:
                    lake.move_branch("main", first, expected=lake.head("main"))
            except RaceLostError:
                assert turn == 0
    assert lake.head("main") == first


def test_what_somebody_else_staged_is_not_touched(lake: LakeFS, side: str) -> None:
    lake.put("main", "mine", b"1")
    with pytest.raises(ConflictError, match="has staged changes"):
        lake.merge(side, "main", "m", {})
    lake.move_branch("main", lake.head(side), expected=lake.head("main"))
    made = lake.commit("main", "mine", {})
    assert lake.get_commit(made).parents == (lake.head(side),)
    assert [each.path for each in lake.list(made)] == ["a", "mine"]


def test_a_branch_is_not_moved_where_the_server_is_too_slow(
    lake: LakeFS, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lakefs_import, "_LEASE", 0.4)
    first = lake.head("main")
    with pytest.raises(RaceLostError, match="too slow"):
        lake.move_branch("main", lake.head(side), expected=first)
    assert lake.head("main") == first
    monkeypatch.undo()
    lake.move_branch("main", lake.head(side), expected=first)


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
