"""How commits stand to each other: what one side has that the other lacks, on both lakes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from headwater.ancestry import commits_beyond
from headwater.fold import SCHEMA, TX, fold_commits
from headwater.lake.base import Commit
from headwater.registry import Registry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def _beyond(left: Registry, right: Registry) -> list[str]:
    """Return the transactions' commits that `right` has and `left` lacks."""
    context = left._context
    with context.reading() as fold:
        found = commits_beyond(context.lake, fold, right.head)
    ids = [commit.id for commit in found]
    for at, commit in enumerate(found):
        assert not set(commit.parents) & set(ids[at:])
    return [commit.id for commit in found if TX in commit.metadata]


def test_what_a_branch_has_beyond_another_is_its_own_transactions(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    exp = registry.create_branch("exp")
    assert _beyond(registry, exp) == []
    mine = [exp.register("m", model).commit, exp.register("m", model).commit]
    theirs = [registry.register("m", model).commit]
    assert _beyond(registry, exp) == mine
    assert _beyond(exp, registry) == theirs
    assert _beyond(exp, registry.at("main~1")) == []


def test_the_log_in_sql_has_all_of_the_metadata_of_every_commit(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    lake = registry._context.lake
    # A commit of another program's, which knows nothing of our keys, and one that was made at odd keys.
    lake.put("main", "odd", b"1")
    lake.commit("main", "by hand", {"colour": "red", "empty": ""})
    lake.put("main", "odd", b"2")
    bare = lake.commit("main", "with none", {})
    registry.set_alias("m", "champion", 1)
    rows = registry.sql("SELECT commit, metadata FROM lake.commits").fetchall()
    expected = {commit.id: dict(commit.metadata) for commit in lake.log(registry.head)}
    assert {commit: dict(metadata) for commit, metadata in rows} == expected
    assert expected[bare] == {}
    query = "SELECT count(*) FROM lake.commits WHERE metadata['headwater.kind'] = 'register'"
    assert registry.sql(query).fetchall() == [(1,)]


def test_what_a_merge_brings_lands_with_the_merge(tmp_path: Path) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)

    def made(name: str, *parents: str) -> Commit:
        return Commit(name, parents, name, {}, 1)

    fold_commits(connection, [made("a"), made("b", "a")], "b")
    fold_commits(connection, [made("x", "a"), made("y", "x"), made("c", "b"), made("m", "c", "y")], "m")
    fold_commits(connection, [made("z", "y", "b"), made("n", "m", "z"), made("d", "n")], "d")
    rows = connection.execute("SELECT id, landed, position FROM commits ORDER BY id").fetchall()
    assert rows == [
        ("a", "a", 0), ("b", "b", 1), ("c", "c", 2), ("d", "d", 5), ("m", "m", 3), ("n", "n", 4),
        ("x", "m", 3), ("y", "m", 3), ("z", "n", 4),
    ]  # fmt: skip
