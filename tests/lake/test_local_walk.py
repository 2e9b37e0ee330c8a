"""The history of an embedded lake is walked in order, whole, and without reading what is not met."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.lake.base import AT, TRANSACTION_PREFIX
from headwater.lake.local import LocalLake


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[LocalLake]:
    made = LocalLake.create(tmp_path / "lake")
    yield made
    made.close()


def commit(lake: LocalLake, branch: str, number: int) -> str:
    lake.put(branch, f"{branch}/{number}", b"x")
    return lake.commit(branch, str(number), {AT: str(number)})


def ancestors(lake: LocalLake, head: str) -> set[str]:
    found: set[str] = set()
    todo = [head]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += lake.get_commit(name).parents
    return found


@pytest.fixture
def tangled(lake: LocalLake) -> list[str]:
    """Commits of five branches that are worked on by turns and merged into each other, at random."""
    chance = random.Random(7)
    names = ["main", *(f"b{each}" for each in range(4))]
    for name in names[1:]:
        lake.create_branch(name, lake.head("main"))
    for number in range(100):
        name = chance.choice(names)
        if chance.random() < 0.85:
            # Runs of one branch's commits, and single ones.
            for each in range(chance.choice([1, 1, 1, 12])):
                commit(lake, name, 1000 * number + each)
        else:
            other = chance.choice([each for each in names if each != name])
            if lake.merge_base(lake.head(name), lake.head(other)) != lake.head(other):
                lake.merge(other, name, "merge", {AT: str(1000 * number)})
    return [lake.head(name) for name in names]


def test_a_log_has_every_ancestor_once_and_before_its_parents(lake: LocalLake, tangled: list[str]) -> None:
    for head in tangled:
        log = list(lake.log(head))
        place = {each.id: at for at, each in enumerate(log)}
        assert set(place) == ancestors(lake, head)
        assert len(place) == len(log)
        assert all(place[each.id] < place[parent] for each in log for parent in each.parents)


def test_a_merge_base_is_a_common_ancestor_that_no_other_descends_from(lake: LocalLake, tangled: list[str]) -> None:
    for left in tangled:
        for right in tangled:
            common = ancestors(lake, left) & ancestors(lake, right)
            lower = {parent for each in common for parent in lake.get_commit(each).parents}
            assert lake.merge_base(left, right) in common - lower


def test_what_has_not_landed_is_walked_with_what_has(lake: LocalLake, tangled: list[str]) -> None:
    hidden = f"{TRANSACTION_PREFIX}x"
    lake.create_branch(hidden, tangled[1], hidden=True)
    commit(lake, hidden, 1)
    lake.merge(tangled[2], hidden, "refresh", {AT: "1"})
    head = commit(lake, hidden, 2)
    assert {each.id for each in lake.log(head)} == ancestors(lake, head)
    assert lake.merge_base(head, tangled[2]) == lake.merge_base(tangled[2], head) == tangled[2]
    other = f"{TRANSACTION_PREFIX}y"
    lake.create_branch(other, head, hidden=True)
    assert lake.merge_base(head, commit(lake, other, 3)) == head


def test_a_branch_that_parted_long_ago_costs_its_own_commits(lake: LocalLake, monkeypatch: pytest.MonkeyPatch) -> None:
    parted = lake.head("main")
    lake.create_branch("exp", parted)
    for number in range(15):
        commit(lake, "exp", number)
        for each in range(70):
            commit(lake, "main", 100 * number + each)
    read = 0
    query = lake._db.query

    def counted(sql: str, *parameters: object) -> list[Any]:
        nonlocal read
        rows = query(sql, *parameters)
        read += len(rows)
        return rows

    monkeypatch.setattr(lake._db, "query", counted)
    head = lake.head("exp")
    lake._graph.forget()
    assert len(list(lake.log(head))) == 16
    assert read < 60
    read = 0
    assert len(list(lake.log(lake.head("main")))) == 15 * 70 + 1
    assert read < 15 * 70 * 1.5
