"""Branches, tags and commit IDs: the same on every lake."""

from __future__ import annotations

import re

import pytest

from headwater.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from headwater.ids import new_id, now_micros
from headwater.lake.base import HIDDEN_PREFIX, REHEARSAL_PREFIX, TRANSACTION_PREFIX, Lake
from headwater.lake.connect import connect

NOWHERE = "0" * 64


def committed(lake: Lake, path: str = "a", content: bytes = b"1", branch: str = "main") -> str:
    lake.put(branch, path, content)
    return lake.commit(branch, f"put {path}", {})


def test_a_new_lake_has_one_branch_with_one_empty_commit(lake: Lake) -> None:
    assert lake.default_branch == "main"
    assert lake.branches() == {"main": lake.head("main")}
    assert lake.tags() == {}
    first = lake.get_commit(lake.head("main"))
    assert first.parents == ()
    assert list(lake.list("main")) == []


def test_a_commit_id_is_64_hex_digits(lake: Lake) -> None:
    assert re.fullmatch("[0-9a-f]{64}", committed(lake))


def test_a_branch_starts_at_the_commit_it_is_made_from(lake: Lake) -> None:
    first = committed(lake)
    second = committed(lake, "b")
    assert lake.create_branch("old", first) == first
    assert lake.create_branch("new", second) == second
    assert lake.branches() == {"main": second, "new": second, "old": first}
    assert list(lake.branches()) == ["main", "new", "old"]


def test_commits_on_one_branch_leave_the_others_alone(lake: Lake) -> None:
    first = committed(lake)
    lake.create_branch("b", first)
    second = committed(lake, "x", branch="b")
    assert lake.branches() == {"b": second, "main": first}
    with pytest.raises(NotFoundError):
        lake.read("main", "x")
    assert lake.read("b", "x") == b"1"


def test_hidden_branches_work_and_are_never_listed(lake: Lake) -> None:
    name = f"{HIDDEN_PREFIX}x"
    head = lake.head("main")
    assert lake.create_branch(name, head, hidden=True) == head
    second = committed(lake, branch=name)
    assert lake.head(name) == second
    assert lake.branches() == {"main": head}
    with pytest.raises(AlreadyExistsError):
        lake.create_branch(name, head, hidden=True)
    lake.delete_branch(name)
    with pytest.raises(NotFoundError):
        lake.head(name)


def test_a_deleted_branch_is_gone_but_its_commits_stay_readable(lake: Lake) -> None:
    lake.create_branch("b", lake.head("main"))
    commit = committed(lake, "x", b"kept", branch="b")
    lake.put("b", "y", b"only staged")
    lake.delete_branch("b")
    assert list(lake.branches()) == ["main"]
    with pytest.raises(NotFoundError):
        lake.head("b")
    assert lake.read(commit, "x") == b"kept"
    assert lake.get_commit(commit).message == "put x"
    lake.create_branch("b", commit)
    assert [info.path for info in lake.list("b")] == ["x"]


def test_a_tag_stays_where_it_was_put(lake: Lake) -> None:
    first = committed(lake, content=b"1")
    lake.create_tag("v-one", first)
    second = committed(lake, content=b"2")
    lake.create_tag("a-two", second)
    assert list(lake.tags().items()) == [("a-two", second), ("v-one", first)]
    assert lake.read("v-one", "a") == b"1"
    assert lake.stat("v-one", "a").size == 1
    lake.delete_tag("v-one")
    assert lake.tags() == {"a-two": second}
    with pytest.raises(NotFoundError):
        lake.read("v-one", "a")


def test_names_are_taken_once_among_branches_and_tags(lake: Lake) -> None:
    head = lake.head("main")
    lake.create_branch("branch", head)
    lake.create_tag("tag", head)
    for call in (
        lambda: lake.create_branch("branch", head),
        lambda: lake.create_branch("tag", head),
        lambda: lake.create_tag("tag", head),
        lambda: lake.create_tag("branch", head),
    ):
        with pytest.raises(AlreadyExistsError, match=r"there is a (branch|tag) '(branch|tag)' already") as caught:
            call()
        assert (kind := caught.value.message.split()[3]) == caught.value.message.split("'")[1], kind


def test_what_is_not_there_is_not_found(lake: Lake) -> None:
    head = lake.head("main")
    for call in (
        lambda: lake.head("nowhere"),
        lambda: lake.create_branch("b", NOWHERE),
        lambda: lake.create_tag("t", NOWHERE),
        lambda: lake.delete_branch("nowhere"),
        lambda: lake.delete_tag("nowhere"),
        lambda: lake.get_commit(NOWHERE),
        lambda: list(lake.log(NOWHERE)),
        lambda: lake.merge_base(head, NOWHERE),
        lambda: list(lake.diff(head, NOWHERE)),
        lambda: list(lake.diff(NOWHERE, head)),
        lambda: lake.put("nowhere", "a", b""),
        lambda: lake.put_many("nowhere", {"a": b"", "b": b""}),
        lambda: lake.delete("nowhere", "a"),
        lambda: lake.commit("nowhere", "m", {}),
        lambda: lake.merge("nowhere", "main", "m", {}),
        lambda: lake.merge(NOWHERE, "main", "m", {}),
        lambda: lake.merge(head, "nowhere", "m", {}),
        lambda: lake.read("nowhere", "a"),
        lambda: lake.read(NOWHERE, "a"),
        lambda: lake.read("main", "a"),
        lambda: lake.open("main", "a"),
        lambda: lake.stat("main", "a"),
        lambda: list(lake.list("nowhere")),
        lambda: list(lake.list(NOWHERE)),
        lambda: lake.read_many("main", ["a"]),
        lambda: lake.localize("main", ["a", "b"]),
        lambda: lake.delta("nowhere", "tables/x"),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert lake.branches() == {"main": head}
    assert lake.tags() == {}


def test_a_commit_is_found_by_the_beginning_of_its_id(lake: Lake) -> None:
    commit = committed(lake)
    for length in (8, 12, 63, 64):
        assert lake.find_commits(commit[:length]) == [commit]
    other = "0" if commit[11] != "0" else "1"
    assert lake.find_commits(commit[:11] + other) == []


def test_the_name_of_a_branch_or_tag_is_not_the_beginning_of_an_id(lake: Lake) -> None:
    commit = committed(lake)
    lake.create_tag("deadbeef", commit)
    lake.create_branch("facade00", commit)
    assert lake.find_commits("deadbeef") == []
    assert lake.find_commits("facade00") == []
    assert lake.find_commits("main") == []


def test_a_lasting_hidden_branch_is_seen_by_others_and_listed_by_nobody(lake: Lake) -> None:
    name = f"{REHEARSAL_PREFIX}{new_id()}"
    head = lake.head("main")
    assert lake.create_branch(name, head, hidden=True, lasting=True) == head
    other = connect(lake.url)
    try:
        other.put(name, "x", b"tried")
        second = other.commit(name, "try", {})
        hidden = f"{TRANSACTION_PREFIX}{new_id()}_0"
        other.create_branch(hidden, second, hidden=True)
        other.put(hidden, "y", b"tried too")
        other.commit(hidden, "try", {})
        third = other.merge(hidden, name, "land", {})
        other.delete_branch(hidden)
    finally:
        other.close()
    assert lake.head(name) == third
    assert lake.read(name, "x") == b"tried"
    assert lake.branches() == {"main": head}
    with pytest.raises(AlreadyExistsError):
        lake.create_branch(name, head, hidden=True, lasting=True)
    lake.delete_branch(name)
    for call in (lambda: lake.head(name), lambda: lake.delete_branch(name)):
        with pytest.raises(NotFoundError):
            call()
    assert lake.read(third, "y") == b"tried too"


@pytest.mark.parametrize(
    "name", ["exp", "_hw_x", f"{REHEARSAL_PREFIX}x", f"{TRANSACTION_PREFIX}01a1ff30-608d-78a6-9076-20033604297d", ""]
)
def test_only_a_name_that_says_since_when_is_a_lasting_hidden_branch_s(lake: Lake, name: str) -> None:
    with pytest.raises(InvalidInputError, match="hidden and lasts"):
        lake.create_branch(name, lake.head("main"), hidden=True, lasting=True)
    with pytest.raises(InvalidInputError, match="hidden and lasts"):
        lake.create_branch(f"{REHEARSAL_PREFIX}{new_id()}", lake.head("main"), lasting=True)


def test_a_rehearsal_whose_process_died_is_swept_when_it_is_old(lake: Lake) -> None:
    names = [f"{REHEARSAL_PREFIX}{new_id()}" for _ in range(2)]
    for name in names:
        lake.create_branch(name, lake.head("main"), hidden=True, lasting=True)
    lake.create_branch("exp", lake.head("main"))
    assert lake.sweep(now_micros() - 3_600_000_000) == 0
    assert lake.sweep(now_micros() + 3_600_000_000, rehearsals=now_micros() - 3_600_000_000) == 0
    assert lake.head(names[0]) == lake.head(names[1])
    assert lake.sweep(now_micros() + 3_600_000_000) == 2
    for name in names:
        with pytest.raises(NotFoundError):
            lake.head(name)
    assert list(lake.branches()) == ["exp", "main"]
