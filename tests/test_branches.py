"""Branches and tags of the whole registry: made, compared, listed, deleted; on both lakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import headwater
from headwater.ancestry import standing
from headwater.branching import Branch, words
from headwater.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError
from headwater.registry import Registry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def exp(registry: Registry, model: Path) -> Registry:
    """Branch `exp` of a registry with `m/1`."""
    registry.register("m", model)
    return registry.create_branch("exp")


def _listed(registry: Registry) -> dict[str, Branch]:
    return {each.name: each for each in registry.branch_list()}


def _numbers(registry: Registry) -> dict[str, tuple[int, int]]:
    return {name: (each.ahead, each.behind) for name, each in _listed(registry).items()}


def _counted(registry: Registry, name: str) -> tuple[int, int]:
    """Return how a branch stands to main, counted the long way: from the whole log of both."""
    lake = registry._context.lake

    def transactions(branch: str) -> set[str]:
        return {
            commit.id
            for commit in lake.log(lake.head(branch))
            if "headwater.tx" in commit.metadata
            and (commit.metadata["headwater.kind"] != "merge" or "headwater.settled" in commit.metadata)
        }

    ours, theirs = transactions(name), transactions("main")
    return len(ours - theirs), len(theirs - ours)


# -- branches ---------------------------------------------------------------------------------------------------------
def test_a_branch_is_a_frozen_picture_until_it_is_changed(exp: Registry, registry: Registry, model: Path) -> None:
    registry.register("m", model)
    exp.set_alias("m", "champion", 1)
    assert [each.version for each in exp.versions("m")] == [1]
    assert exp.register("m", model).version == 3
    assert [each.version for each in registry.versions("m")] == [2, 1]
    assert registry.aliases("m") == []
    assert registry.branch("exp").resolve("m@champion").version == 1


def test_the_list_says_what_only_a_branch_has(exp: Registry, registry: Registry, model: Path) -> None:
    with exp.start_run("train", experiment="delays") as run:
        run.log_metric("auc", 0.8)
        run.register("m", model)
    version = exp.register("m", model)
    exp.set_alias("m", "champion", version.version)
    exp.set_alias("m", "champion", 1)
    exp.describe("m", "a model")
    exp.tag("m", {"team": "ops"})
    registry.register("m", model)
    found = _listed(registry)
    assert list(found) == ["exp", "main"]
    main, branch = found["main"], found["exp"]
    assert (main.current, main.ahead, main.behind, main.contents) == (True, 0, 0, {})
    assert main.commit == registry.head
    assert main.recorded_at == registry.log(limit=1)[0].recorded_at
    assert (branch.current, branch.behind, branch.actor) == (False, 1, "tester")
    assert branch.ahead == len(exp.log()) - len(registry.at("main~1").log())
    assert branch.contents == {"version": 2, "run": 1, "alias": 1, "change": 2}
    assert words(branch.contents) == "2 versions, 1 run, 1 alias, 2 changes"
    assert [each.current for each in exp.branch_list()] == [True, False]


def test_a_view_of_a_ref_has_no_current_branch(exp: Registry) -> None:
    assert not any(each.current for each in exp.at("exp~0").branch_list())


def test_ahead_and_behind_are_right_after_merges(exp: Registry, registry: Registry, model: Path) -> None:
    exp.register("m", model)
    exp.register("m", model)
    registry.register("m", model)
    assert _numbers(registry) == {"exp": (2, 1), "main": (0, 0)}
    registry.merge("exp")
    assert _numbers(registry) == {"exp": (0, 1), "main": (0, 0)}
    exp.register("m", model)
    registry.register("m", model)
    assert _numbers(registry)["exp"] == _counted(registry, "exp") == (1, 2)
    exp.merge("main")
    assert _numbers(registry)["exp"] == _counted(registry, "exp") == (1, 0)
    registry.merge("exp")
    assert _numbers(registry)["exp"] == _counted(registry, "exp") == (0, 0)
    assert registry.merge("exp").up_to_date


def test_ahead_and_behind_are_right_after_a_criss_cross_that_settled_something(
    exp: Registry, registry: Registry, model: Path
) -> None:
    registry.register("m", model)
    exp.set_alias("m", "champion", 1)
    registry.set_alias("m", "champion", 2)
    before_exp, before_main = exp.head, registry.head
    # Each side merges what the other had before it merged.
    registry.merge(before_exp, theirs=True)
    exp.merge(before_main, ours=True)
    assert _numbers(registry)["exp"] == _counted(registry, "exp") == (1, 1)
    registry.register("m", model)
    exp.register("m", model)
    assert _numbers(registry)["exp"] == _counted(registry, "exp") == (2, 2)
    registry.merge("exp")
    exp.merge("main")
    assert _numbers(registry)["exp"] == _counted(registry, "exp") == (0, 0)
    other = registry.create_branch("other", "main~2")
    other.merge(before_exp, theirs=True)
    other.register("m", model)
    for name in ("exp", "other"):
        assert _numbers(registry)[name] == _counted(registry, name)


def test_any_two_commits_are_compared_without_a_state_of_the_second(
    exp: Registry, registry: Registry, model: Path
) -> None:
    for each in (exp, registry, exp):
        each.register("m", model)
    registry.merge("exp")
    registry.register("m", model)
    context = registry._context
    commits = [commit.id for commit in context.lake.log(registry.head)]
    with context.reading() as fold:
        for commit in commits:
            stands = standing(context.lake, fold, commit)
            known = {each.id for each in context.lake.log(commit)}
            missing = [each for each in registry.log() if each.commit not in known and each.kind != "merge"]
            assert (len(stands.ahead), stands.behind) == (0, len(missing))


def test_commits_of_other_programs_count(exp: Registry, registry: Registry) -> None:
    lake = registry._context.lake
    lake.put("exp", "by-hand", b"x")
    lake.commit("exp", "put there by hand", {})
    lake.put("main", "by-hand-too", b"x")
    lake.commit("main", "put there by hand", {})
    assert _numbers(registry)["exp"] == (1, 1)
    with pytest.raises(ConflictError, match="1 change"):
        registry.delete_branch("exp")


def test_status_says_how_a_branch_stands(exp: Registry, registry: Registry, model: Path) -> None:
    exp.register("m", model)
    registry.register("m", model)
    registry.register("m", model)
    for view, expected in ((registry, (0, 0)), (exp, (1, 2)), (registry.at("main~2"), (0, 2))):
        found = view.status()
        assert (found["ahead"], found["behind"]) == expected


def test_a_branch_begins_at_any_ref(registry: Registry, model: Path) -> None:
    first = registry.register("m", model).commit
    registry.register("m", model)
    registry.create_tag("before", "main~1")
    for name, source in {"a": first, "b": "main~1", "c": "before", "d": first[:12]}.items():
        assert [each.version for each in registry.create_branch(name, source).versions("m")] == [1], source
    assert registry.at("before").create_branch("e").head == registry.at("before").head
    assert registry.branch("a").create_branch("f").head == registry.branch("a").head


def test_a_branch_that_can_not_be_made_is_refused(exp: Registry, registry: Registry) -> None:
    registry.create_tag("release-1")
    for name in ("exp", "main", "release-1"):
        with pytest.raises(AlreadyExistsError, match=f"{name}' already"):
            registry.create_branch(name)
    for name in ("a/b", "", "-x", "deadbeef", "HEAD", "_hw_rehearsal_x"):
        with pytest.raises(InvalidInputError, match="not a name for a branch"):
            registry.create_branch(name)
    with pytest.raises(NotFoundError, match="nothing"):
        registry.create_branch("new", "nothing")
    assert list(registry.branches()) == ["exp", "main"]


def test_what_is_no_text_is_refused_as_bad_input(registry: Registry) -> None:
    nothing: Any = None
    calls: list[Callable[[], object]] = [
        lambda: registry.at(nothing),
        lambda: registry.branch(nothing),
        lambda: registry.create_branch(nothing),
        lambda: registry.create_branch("exp", 7),  # type: ignore[arg-type]
        lambda: registry.delete_branch(nothing),
        lambda: registry.create_tag(nothing),
        lambda: registry.merge(nothing),
        lambda: registry.merge("exp", 7),  # type: ignore[arg-type]
        lambda: registry.diff(nothing),
        lambda: registry.revert(nothing),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match=r"^not a .*(None|7)") as caught:
            call()
        assert caught.value.hint == "give its name as text"
    with pytest.raises(InvalidInputError, match=r"not choices: .*both"):
        registry.merge("exp", resolve="both")  # type: ignore[arg-type]


def test_a_registry_whose_branch_is_gone_says_where_others_are(registry: Registry) -> None:
    exp = registry.create_branch("exp")
    registry.delete_branch("exp")
    for call in (exp.models, exp.log, exp.status):
        with pytest.raises(NotFoundError, match="there is no branch 'exp'") as caught:
            call()
        assert caught.value.hint == "`headwater branch` lists them"


# -- deleting ---------------------------------------------------------------------------------------------------------
def test_a_branch_with_unmerged_work_is_deleted_by_force_alone(
    exp: Registry, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = exp.register("m", model)
    head = exp.head
    with pytest.raises(ConflictError, match="branch 'exp' has what 'main' lacks: 1 version") as caught:
        registry.delete_branch("exp")
    assert "headwater merge exp" in caught.value.hint
    assert "--force" in caught.value.hint
    assert "exp" in registry.branches()
    gone = registry.delete_branch("exp", force=True)
    assert (gone.name, gone.commit, gone.ahead) == ("exp", head, 1)
    assert list(registry.branches()) == ["main"]
    # What it had is readable by its commits, and the branch can be had again.
    registry.at(version.commit).get("m/2").pull(tmp_path / "out")
    assert registry.create_branch("exp", gone.commit).resolve("m/2").digest == version.digest


def test_a_merged_branch_is_deleted_and_what_it_brought_stays(
    exp: Registry, registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = exp.register("m", model)
    registry.merge("exp")
    assert registry.delete_branch("exp").ahead == 0
    registry.at(version.commit).get("m/2").pull(tmp_path / "out")
    assert registry.resolve("m/2").commit == version.commit


def test_a_branch_is_merged_as_well_where_the_current_branch_has_it(
    exp: Registry, registry: Registry, model: Path
) -> None:
    side = exp.create_branch("side")
    side.register("m", model)
    exp.merge("side")
    with pytest.raises(ConflictError):
        registry.delete_branch("side")
    assert exp.delete_branch("side").ahead == 1
    assert list(registry.branches()) == ["exp", "main"]


def test_branches_that_must_stay_stay(exp: Registry, registry: Registry) -> None:
    with pytest.raises(InvalidInputError, match="'main' is the lake's default branch"):
        exp.delete_branch("main", force=True)
    with pytest.raises(ConflictError, match="'exp' is the current one") as caught:
        exp.delete_branch("exp", force=True)
    assert "headwater switch main" in caught.value.hint
    registry.create_tag("release-1")
    for name, hint in {"nothing": "`headwater branch`", "release-1": "it is a tag", "exq": "did you mean exp"}.items():
        with pytest.raises(NotFoundError, match=f"there is no branch '{name}'") as missing:
            registry.delete_branch(name)
        assert hint in missing.value.hint
    for name in ("_hw_tx_1", "_hw_rehearsal_x", "../main", "a b", ""):
        with pytest.raises(NotFoundError):
            registry.delete_branch(name)
    assert list(registry.branches()) == ["exp", "main"]


# -- tags -------------------------------------------------------------------------------------------------------------
def test_a_tag_names_a_commit_and_is_a_ref_everywhere(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    made = registry.create_tag("release-2026-11")
    registry.register("m", model)
    older = registry.create_tag("older", "main~2")
    assert (made.name, made.commit, made.actor, made.message) == (
        "release-2026-11",
        registry.at("main~1").head,
        "tester",
        "register m/1",
    )
    assert registry.tags() == [older, made]
    assert len(registry.at("release-2026-11").versions("m")) == 1
    query = "SELECT count(*) FROM lake_at('release-2026-11', 'model_versions')"
    assert registry.sql(query).fetchall() == [(1,)]
    assert registry.create_branch("fix", "release-2026-11").head == made.commit
    with headwater.open(registry.url, ref="release-2026-11") as then:
        assert then.resolve("m/1").version == 1
        with pytest.raises(InvalidInputError, match="can be read, not written"):
            then.set_alias("m", "champion", 1)
    assert registry.delete_tag("older") == older.commit
    assert registry.tags() == [made]
    with pytest.raises(NotFoundError):
        registry.at("older")


def test_a_tag_that_can_not_be_made_or_deleted_is_refused(exp: Registry, registry: Registry) -> None:
    registry.create_tag("release-1")
    for name in ("exp", "release-1"):
        with pytest.raises(AlreadyExistsError, match=f"{name}' already"):
            registry.create_tag(name)
    for name in ("v1", "1.0.0", "latest", "a..b", "a.lock", "../../etc/passwd", "deadbeef", "Release", "", "a\0"):
        with pytest.raises(InvalidInputError, match="not a name for a tag"):
            registry.create_tag(name)
    with pytest.raises(NotFoundError, match="nothing"):
        registry.create_tag("new", "nothing")
    for name, hint in {"nothing": "`headwater tag`", "exp": "it is a branch", "a/b": "`headwater tag`"}.items():
        with pytest.raises(NotFoundError) as caught:
            registry.delete_tag(name)
        assert hint in caught.value.hint
    assert [each.name for each in registry.tags()] == ["release-1"]


def test_what_a_merge_brought_landed_with_it(exp: Registry, registry: Registry, model: Path) -> None:
    version = exp.register("m", model)
    registry.register("m", model)
    done = registry.merge("exp")
    registry.register("m", model)
    query = "SELECT landed, landed_at, position, metadata FROM lake.commits WHERE commit = $commit"
    (brought,) = registry.sql(query, {"commit": version.commit}).fetchall()
    (merge,) = registry.sql(query, {"commit": done.commit}).fetchall()
    assert brought[:3] == merge[:3]
    assert merge[0] == registry.at("main~1").head
    assert merge[3]["headwater.source"] == "exp"
    on_exp = exp.sql(query, {"commit": version.commit}).fetchall()
    assert on_exp[0][0] == exp.head
    # And so it has been at the merge's time, not before.
    moments = [registry.at(f"main@{{{each[1].isoformat()}}}") for each in (on_exp[0], merge)]
    assert [len(view.versions("m")) for view in moments] == [1, 3]
