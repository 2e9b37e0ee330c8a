"""Merging branches: what comes along, what stays, what is a conflict, and how it is settled; on both kinds of lake."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

import headwater
from headwater.conflicts import Conflict, MergeConflictError
from headwater.errors import IntegrityError, InvalidInputError, NotFoundError
from headwater.registry import Registry
from headwater.schema import TABLES


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a small artifact."""
    place = tmp_path / "model"
    place.mkdir()
    (place / "weights.bin").write_bytes(b"weights")
    return place


def rows_of(registry: Registry) -> dict[str, list[Any]]:
    """Return every row of every table as a base table has it, sorted."""
    return {name: sorted(map(repr, registry.sql(f"SELECT * FROM lake.{name}").arrow().to_pylist())) for name in TABLES}


def test_both_sides_register_and_both_versions_stay(registry: Registry, model: Path) -> None:
    registry.register("flight-delay", model, metrics={"auc": 0.7})
    exp = registry.create_branch("exp-42")
    on_exp = exp.register("flight-delay", model, metrics={"auc": 0.8}, params={"depth": 6})
    on_main = registry.register("flight-delay", model, metrics={"auc": 0.75})
    assert (on_exp.version, on_main.version) == (2, 3)

    merge = registry.merge("exp-42")

    assert merge.transactions == 1
    assert merge.words() == "1 version, 1 metric"
    assert [(v.version, v.version_id) for v in registry.versions("flight-delay")] == [
        (3, on_main.version_id),
        (2, on_exp.version_id),
        (1, registry.get("flight-delay/1").version_id),
    ]
    merged = registry.get("flight-delay/2")
    assert merged.commit == on_exp.commit
    assert merged.params["depth"] == "6"
    assert registry.sql("SELECT value FROM metrics WHERE version = 2").arrow().to_pylist() == [{"value": 0.8}]
    assert registry.verify() == 3
    # what was merged stays merged, and the branch did not move
    assert registry.merge("exp-42").up_to_date
    assert [v.version for v in registry.branch("exp-42").versions("flight-delay")] == [2, 1]


def test_a_merge_is_one_landing_with_both_in_its_ancestry(registry: Registry, model: Path) -> None:
    registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    for _ in range(3):
        exp.register("flight-delay", model)
    before = registry.head
    merge = registry.merge("exp-42")
    assert registry.at("main~1").head == before
    newest = registry.log(limit=1)[0]
    assert (newest.commit, newest.kind, newest.subject) == (merge.commit, "merge", "exp-42")
    assert newest.message == "merge exp-42 into main: 3 versions"
    commits = registry.sql("SELECT commit FROM lake.commits").arrow().column("commit").to_pylist()
    assert {before, exp.head, merge.commit} <= set(commits)


def test_branches_merged_into_each_other_come_to_the_same_rows(registry: Registry, model: Path) -> None:
    registry.register("flight-delay", model)
    left, right = registry.create_branch("left"), registry.create_branch("right")
    for number in range(3):
        left.register("flight-delay", model, tags={"side": f"left {number}"})
        right.register("carrier-rank", model, tags={"side": f"right {number}"})
        left.set_alias("flight-delay", f"l{number}", 1)
        right.set_alias("flight-delay", f"r{number}", 1)
    left_head = left.head
    left.merge("right")
    right.merge(left_head)
    assert rows_of(left) == rows_of(right)
    assert left.merge("right").up_to_date
    assert right.merge("left").up_to_date
    registry.merge("left")
    assert rows_of(registry) == rows_of(left)
    assert registry.merge("right").up_to_date


def test_a_branch_that_goes_on_is_merged_again(registry: Registry, model: Path) -> None:
    registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    for round_ in range(3):
        exp.register("flight-delay", model)
        registry.register("flight-delay", model)
        assert registry.merge("exp-42").transactions == 1
        assert len(registry.versions("flight-delay")) == 3 + 2 * round_
        exp.merge("main")
    assert rows_of(exp) == rows_of(registry)


def test_many_appends_on_both_sides_survive_compaction(registry: Registry, model: Path) -> None:
    registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    # more than the files that make one of the next tier, and more than log entries between two checkpoints
    for number in range(60):
        exp.tag("flight-delay", {f"e{number}": number})
        registry.tag("flight-delay", {f"m{number}": number})
    registry.merge("exp-42")
    tags = registry.models()[0].tags
    assert len(tags) == 120
    assert headwater.open(registry.url).models()[0].tags == tags
    assert registry.sql("SELECT count(*) AS n, count(DISTINCT event_id) AS d FROM lake.events").arrow().to_pylist() == [
        {"n": 121, "d": 121}
    ]
    exp.merge("main")
    assert rows_of(exp) == rows_of(registry)


# -- conflicts --------------------------------------------------------------------------------------------------------
@pytest.fixture
def parted(registry: Registry, model: Path) -> Registry:
    """A registry whose branches `main` and `exp-42` have moved one alias to different versions."""
    for _ in range(3):
        registry.register("flight-delay", model)
    registry.set_alias("flight-delay", "champion", 1)
    exp = registry.create_branch("exp-42")
    headwater.open(registry.url, branch="exp-42", actor="ada").set_alias("flight-delay", "champion", 2)
    registry.set_alias("flight-delay", "champion", 3)
    exp.tag("flight-delay", {"team": "ops"})
    return registry


def test_a_conflict_is_listed_with_both_sides_and_nothing_is_written(parted: Registry) -> None:
    before = parted.head
    with pytest.raises(
        MergeConflictError, match="main and exp-42 disagree about alias:flight-delay@champion"
    ) as caught:
        parted.merge("exp-42")
    assert caught.value.exit_status == 4
    assert "--resolve alias:flight-delay@champion=theirs" in caught.value.hint
    (conflict,) = caught.value.conflicts
    assert (conflict.ours.value, conflict.ours.actor) == ("flight-delay/3", "tester")
    assert (conflict.theirs.value, conflict.theirs.actor) == ("flight-delay/2", "ada")
    assert conflict.ours.commit == parted.log("flight-delay@champion")[0].commit
    assert parted.head == before


@pytest.mark.parametrize(
    ("choice", "version"),
    [
        ({"ours": True}, 3),
        ({"theirs": True}, 2),
        ({"resolve": {"alias:flight-delay@champion": "theirs"}}, 2),
        ({"theirs": True, "resolve": {"alias:flight-delay@champion": "ours"}}, 3),
    ],
)
def test_a_conflict_is_settled_for_good(parted: Registry, choice: dict[str, Any], version: int) -> None:
    exp = parted.branch("exp-42")
    merge = parted.merge("exp-42", **choice)
    assert list(merge.settled) == ["alias:flight-delay@champion"]
    assert parted.resolve("flight-delay@champion").version == version
    assert parted.models()[0].tags == {"team": "ops"}
    # settled stays settled, also when the other branch takes it in, and goes on
    exp.tag("flight-delay", {"more": "work"})
    exp.merge("main")
    assert exp.resolve("flight-delay@champion").version == version
    assert parted.merge("exp-42").conflicts == ()
    assert rows_of(exp) == rows_of(parted)


def test_the_same_change_on_both_sides_is_no_conflict(registry: Registry, model: Path) -> None:
    registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    for each in (registry, exp):
        each.set_alias("flight-delay", "champion", 1)
        each.describe("flight-delay", "same words")
    assert registry.merge("exp-42").conflicts == ()
    assert registry.resolve("flight-delay@champion").version == 1
    assert registry.models()[0].description == "same words"
    registry.set_alias("flight-delay", "champion", 1, reason="again")
    assert registry.resolve("flight-delay@champion").version == 1


def test_a_dry_run_says_what_would_happen_and_writes_nothing(parted: Registry) -> None:
    before = parted.head
    merge = parted.merge("exp-42", dry_run=True)
    assert merge.commit is None
    assert [each.name for each in merge.conflicts] == ["alias:flight-delay@champion"]
    assert merge.transactions == 2
    assert parted.head == before


def test_one_model_registered_first_on_two_branches_is_one_model(registry: Registry, model: Path) -> None:
    exp = registry.create_branch("exp-42")
    there = exp.register("flight-delay", model)
    here = registry.register("flight-delay", model)
    registry.merge("exp-42")
    assert here.model_id == there.model_id
    assert [m.name for m in registry.models()] == ["flight-delay"]
    assert [v.version for v in registry.versions("flight-delay")] == [2, 1]
    assert registry.sql("SELECT name, versions FROM models").arrow().to_pylist() == [
        {"name": "flight-delay", "versions": 2}
    ]
    assert registry.sql("SELECT count(*) AS n FROM model_versions").arrow().to_pylist() == [{"n": 2}]


def test_one_file_of_predictions_taken_in_on_two_branches_counts_once(
    registry: Registry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register("flight-delay", model)
    deployment = registry.deploy("flight-delay/1", "production")
    registry.create_branch("left")
    exp = registry.create_branch("exp-42")
    file = tmp_path / "predictions.csv"
    lines = [f"2026-11-01T00:00:{second:02}Z,{second},0.5\n" for second in range(50)]
    file.write_text("predicted_at,external_id,score\n" + "".join(lines))
    exp.log_predictions(file, deployment)
    registry.log_predictions(file, deployment)
    labels = tmp_path / "labels.csv"
    labels.write_text("external_id,label\n" + "".join(f"{each},late\n" for each in range(50)))
    exp.log_outcomes(labels, deployment)
    registry.log_outcomes(labels, deployment)

    registry.merge("exp-42")
    exp.merge("main")

    for each in (registry, exp, headwater.open(registry.url)):
        for table in ("lake.predictions", "predictions", "lake.outcomes"):
            counted = each.sql(f"SELECT count(*) AS n, count(DISTINCT prediction_id) AS d FROM {table}")
            assert counted.arrow().to_pylist() == [{"n": 50, "d": 50}], table
        assert each.find_prediction(deployment, "7").label == "late"
        assert not each.log_predictions(file, deployment).created
    assert rows_of(registry) == rows_of(exp)
    registry.export(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    with duckdb.connect() as stock:
        stock.execute(Path("headwater.sql").read_text())
        assert stock.execute("SELECT count(*) FROM lake.predictions").fetchall() == [(50,)]
    # before either was merged, each branch has its own
    assert registry.branch("left").merge("main~1").rows["predictions"] == 50


# -- deleted on one side, used on the other ---------------------------------------------------------------------------
def use_alias(registry: Registry, model: Path) -> None:
    registry.set_alias("flight-delay", "candidate", 2)


def use_champion(registry: Registry, model: Path) -> None:
    registry.set_alias("flight-delay", "champion", 2)


def use_deployment(registry: Registry, model: Path) -> None:
    registry.deploy("flight-delay/2", "staging")
    registry.deploy("flight-delay/1", "staging", mode="canary", traffic=20)


def use_by_registering(registry: Registry, model: Path) -> None:
    registry.register("flight-delay", model)


USES = {
    "alias": (use_alias, "flight-delay/2", "tombstone:flight-delay/2", "in use: @candidate"),
    "champion": (use_champion, "flight-delay/2", "tombstone:flight-delay/2", "in use: serving production, @champion"),
    "deployment": (use_deployment, "flight-delay/2", "tombstone:flight-delay/2", "in use: serving staging"),
    "version": (use_by_registering, "flight-delay", "tombstone:flight-delay", "in use: version 3"),
    "alias of a deleted model": (use_alias, "flight-delay", "tombstone:flight-delay", "in use: @candidate"),
}


@pytest.mark.parametrize("deleted_here", [True, False], ids=["ours deleted", "theirs deleted"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "deleted"])
@pytest.mark.parametrize("what", USES)
def test_deleted_on_one_side_and_used_on_the_other(
    registry: Registry, model: Path, what: str, kept: bool, deleted_here: bool
) -> None:
    use, deleted, name, words = USES[what]
    for _ in range(2):
        registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    deleting, using = (registry, exp) if deleted_here else (exp, registry)
    deleting.delete(deleted)
    use(using, model)
    before = registry.head
    with pytest.raises(MergeConflictError, match=f"main and exp-42 disagree about {name}") as caught:
        registry.merge("exp-42")
    assert registry.head == before
    (conflict,) = caught.value.conflicts
    values = (conflict.ours.value, conflict.theirs.value)
    assert values == (("deleted", words) if deleted_here else (words, "deleted"))

    side = "ours" if deleted_here != kept else "theirs"
    merge = registry.merge("exp-42", resolve={name: side})
    assert merge.settled == {name: side}
    numbers = sorted(version.version for each in registry.models() for version in registry.versions(each.name))
    serving = {each.reference: each.traffic for each in registry.serving()}
    aliases = {each.alias: each.version for model in registry.models() for each in registry.aliases(model.name)}
    if kept:
        assert numbers == ([1, 2, 3] if what == "version" else [1, 2])
        shares = {"deployment": {"flight-delay/2": 80.0, "flight-delay/1": 20.0}, "champion": {"flight-delay/2": 100.0}}
        assert serving == shares.get(what, {})
        assert aliases == ({"candidate": 2} if "alias" in what else {"champion": 2} if what == "champion" else {})
    else:
        assert numbers == ([] if deleted == "flight-delay" else [1])
        assert serving == ({"flight-delay/1": 20.0} if what == "deployment" else {})
        assert aliases == {}
    # and it stays so when the other branch takes it in
    exp.merge("main")
    assert rows_of(exp) == rows_of(registry)
    assert registry.merge("exp-42").up_to_date


def test_an_alias_is_settled_before_what_it_would_point_at(registry: Registry, model: Path) -> None:
    for _ in range(3):
        registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    registry.delete("flight-delay/2")
    registry.set_alias("flight-delay", "champion", 1)
    exp.set_alias("flight-delay", "champion", 2)
    (alias,) = registry.merge("exp-42", dry_run=True).conflicts
    assert alias.name == "alias:flight-delay@champion"
    with pytest.raises(MergeConflictError, match=r"about tombstone:flight-delay/2$"):
        registry.merge("exp-42", resolve={"alias:flight-delay@champion": "theirs"})
    merge = registry.merge(
        "exp-42", resolve={"alias:flight-delay@champion": "theirs", "tombstone:flight-delay/2": "ours"}
    )
    assert len(merge.settled) == 2
    assert registry.aliases("flight-delay") == []
    exp.merge("main")
    assert rows_of(exp) == rows_of(registry)


def test_what_both_deleted_or_only_labelled_is_no_conflict(registry: Registry, model: Path) -> None:
    for _ in range(3):
        registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    for each in (registry, exp):
        each.delete("flight-delay/3")
    registry.delete("flight-delay/2")
    exp.tag("flight-delay/2", {"team": "ops"})
    assert registry.merge("exp-42").conflicts == ()
    assert [version.version for version in registry.versions("flight-delay")] == [1]


# -- deleted and used by force: one side's own state ------------------------------------------------------------------
def swapped(conflict: Conflict) -> Conflict:
    return replace(conflict, ours=conflict.theirs, theirs=conflict.ours)


def forced(registry: Registry, model: Path) -> str:
    """Register version 2, point an alias at it and undo the registering all the same; return that commit."""
    commit = registry.register("flight-delay", model).commit
    registry.set_alias("flight-delay", "champion", 2)
    registry.revert(commit, force=True)
    return commit


def told(registry: Registry) -> tuple[list[int], dict[str, int]]:
    versions = [version.version for version in registry.versions("flight-delay")]
    return versions, {each.alias: each.version for each in registry.aliases("flight-delay")}


@pytest.mark.parametrize("choice", [{}, {"ours": True}, {"theirs": True}], ids=["unasked", "ours", "theirs"])
@pytest.mark.parametrize("registered", ["before", "after"])
def test_a_branch_that_changed_nothing_takes_over_what_was_forced(
    registry: Registry, model: Path, choice: dict[str, Any], registered: str
) -> None:
    registry.register("flight-delay", model)
    if registered == "after":
        exp = registry.create_branch("exp-42")
        forced(registry, model)
    else:
        commit = registry.register("flight-delay", model).commit
        exp = registry.create_branch("exp-42")
        registry.set_alias("flight-delay", "champion", 2)
        registry.revert(commit, force=True)
    assert registry.merge("exp-42", dry_run=True).conflicts == ()
    assert exp.merge("main", **choice).conflicts == ()
    assert told(exp) == told(registry) == ([1], {"champion": 2})
    assert rows_of(exp) == rows_of(registry)


@pytest.mark.parametrize("choice", [{}, {"ours": True}, {"theirs": True}], ids=["unasked", "ours", "theirs"])
@pytest.mark.parametrize("into", ["main", "exp-42"])
def test_no_merge_brings_back_what_both_deleted(
    registry: Registry, model: Path, choice: dict[str, Any], into: str
) -> None:
    registry.register("flight-delay", model)
    commit = registry.register("flight-delay", model).commit
    exp = registry.create_branch("exp-42")
    exp.delete("flight-delay/2")
    registry.set_alias("flight-delay", "champion", 2)
    registry.revert(commit, force=True)
    source = "main" if into == "exp-42" else "exp-42"
    assert registry.merge(source, into, **choice).conflicts == ()
    assert told(registry.branch(into)) == ([1], {"champion": 2})


def test_a_version_that_both_deleted_stays_deleted_when_its_model_comes_back(registry: Registry, model: Path) -> None:
    for _ in range(2):
        registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    registry.delete("flight-delay")
    exp.delete("flight-delay/2")
    exp.set_alias("flight-delay", "champion", 1)
    registry.merge("exp-42", theirs=True)
    assert told(registry) == ([1], {"champion": 1})


def test_a_version_brought_back_on_one_side_uses_the_model_that_the_other_deleted(
    registry: Registry, model: Path
) -> None:
    for _ in range(2):
        registry.register("flight-delay", model)
    registry.delete("flight-delay/2")
    exp = registry.create_branch("exp-42")
    registry.delete("flight-delay")
    exp.undelete("flight-delay/2")
    (here,) = registry.merge("exp-42", dry_run=True).conflicts
    (there,) = exp.merge("main", dry_run=True).conflicts
    assert (here.name, here.ours.value, here.theirs.value) == ("tombstone:flight-delay", "deleted", "in use: version 2")
    assert there == swapped(here)
    registry.create_branch("main-2")
    registry.branch("main-2").merge("exp-42", ours=True)
    assert registry.branch("main-2").models() == []
    exp.merge("main", ours=True)
    assert told(exp) == ([2, 1], {})


@pytest.mark.parametrize("what", USES)
def test_the_other_way_round_the_sides_of_a_conflict_change_places(registry: Registry, model: Path, what: str) -> None:
    use, deleted, name, _ = USES[what]
    for _ in range(2):
        registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    # What one side has of the other already is neither's alone.
    registry.tag("flight-delay", {"team": "ops"})
    exp.merge("main")
    registry.delete(deleted)
    use(exp, model)
    here, there = registry.merge("exp-42", dry_run=True).conflicts, exp.merge("main", dry_run=True).conflicts
    assert [each.name for each in here] == [name]
    assert there == tuple(map(swapped, here))


# -- the rules of single kinds ----------------------------------------------------------------------------------------
def test_a_model_renamed_on_both_sides_is_a_conflict(registry: Registry, model: Path) -> None:
    registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    registry.rename("flight-delay", "delays")
    exp.rename("flight-delay", "lateness")
    with pytest.raises(MergeConflictError, match="disagree about name:delays"):
        registry.merge("exp-42")
    registry.merge("exp-42", theirs=True)
    assert [each.name for each in registry.models()] == ["lateness"]
    assert registry.versions("lateness")[0].version == 1


@pytest.mark.parametrize(("here", "there"), [("running", "killed"), ("killed", "finished"), ("finished", "failed")])
def test_of_two_ends_of_a_run_the_later_in_order_stands(registry: Registry, here: str, there: str) -> None:
    order = ["running", "killed", "failed", "finished"]
    run_id = begun(registry)
    exp = registry.create_branch("exp-42")
    for each, status in ((registry, here), (exp, there)):
        change_run(each, run_id, "status", "", json.dumps({"status": status, "ended_at": None}))
    assert registry.merge("exp-42").conflicts == ()
    stands = max(here, there, key=order.index)
    assert registry.run(run_id).status == stands
    assert registry.sql("SELECT status FROM runs").fetchall() == [(stands,)]


def test_params_of_a_run_are_equal_or_a_conflict(registry: Registry) -> None:
    run_id = begun(registry)
    exp = registry.create_branch("exp-42")
    for each, depth in ((registry, "6"), (exp, "7")):
        change_run(each, run_id, "param", "same", "1")
        change_run(each, run_id, "param", "depth", depth)
    with pytest.raises(MergeConflictError) as caught:
        registry.merge("exp-42")
    (conflict,) = caught.value.conflicts
    assert (conflict.kind, conflict.key, conflict.ours.value, conflict.theirs.value) == ("param", "depth", "6", "7")
    registry.merge("exp-42", theirs=True)
    assert dict(registry.run(run_id).params) == {"same": "1", "depth": "7"}


def begun(registry: Registry) -> str:
    with registry.start_run("r", experiment="e", nested=False) as run:
        pass
    return run.run_id


def change_run(registry: Registry, run_id: str, kind: str, key: str, value: str) -> None:
    """Write what a process that is in the run, on a branch of its own, would write."""

    def work(tx: Any) -> None:
        # begun and ended by its own process: what is tested is what comes after that
        tx.event(run_id, kind, value, key=key)

    registry._context.write("run", work)


def test_traffic_that_both_sides_moved_is_a_conflict(registry: Registry, model: Path) -> None:
    for _ in range(2):
        registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    registry.deploy("flight-delay/1", "production")
    exp.deploy("flight-delay/2", "production")
    for each, environment in ((registry, "staging"), (exp, "staging")):
        each.deploy(f"flight-delay/{1 if each is registry else 2}", environment)
    with pytest.raises(
        MergeConflictError, match="about alias:flight-delay@champion, traffic:flight-delay@staging"
    ) as c:
        registry.merge("exp-42")
    conflicts = [(each.ours.value, each.theirs.value) for each in c.value.conflicts]
    assert conflicts == [
        ("flight-delay/1", "flight-delay/2"),
        ("flight-delay/1 live 100 %", "flight-delay/2 live 100 %"),
    ]
    registry.merge("exp-42", theirs=True)
    assert [each.reference for each in registry.serving("production")] == ["flight-delay/2"]
    assert [each.reference for each in registry.serving("staging")] == ["flight-delay/2"]
    assert registry.resolve("flight-delay@champion").version == 2


def test_the_same_data_added_on_both_sides_has_two_numbers(registry: Registry, tmp_path: Path) -> None:
    data = tmp_path / "flights.csv"
    data.write_text("id,delay\n1,5\n")
    exp = registry.create_branch("exp-42")
    added = {each.add_dataset("flights", data, key=["id"]).reference for each in (registry, exp)}
    registry.merge("exp-42")
    assert {each.reference for each in registry.dataset_versions("flights")} == added
    assert len(added) == 2
    assert {each.digest for each in registry.dataset_versions("flights")} == {registry.dataset("flights").digest}


def test_a_file_of_predictions_that_both_sides_took_in_counts_once(registry: Registry, model: Path) -> None:
    registry.register("flight-delay", model)
    deployment = registry.deploy("flight-delay/1", "production").deployment_id
    exp = registry.create_branch("exp-42")
    file = model.parent / "predictions.csv"
    file.write_text("id,score\na,0.5\nb,0.25\n")
    for each in (registry, exp):
        each.log_predictions(file, deployment)
    registry.merge("exp-42")
    assert registry.predictions_of(deployment) == 2
    assert registry.sql("SELECT count(*) FROM predictions").fetchall() == [(2,)]
    assert registry.find_prediction(deployment, "a").external_id == "a"


# -- wrong use --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("source", "into", "error", "message"),
    [
        ("main", None, InvalidInputError, "can't be merged into itself"),
        ("nope", None, NotFoundError, "there is no branch, tag or commit 'nope'"),
        ("exp-42", "nope", NotFoundError, "there is no branch 'nope'"),
        ("exp-42", "v-one", InvalidInputError, "is a tag, which never moves"),
        ("../other", None, InvalidInputError, "is another lake"),
        ("lakefs://127.0.0.1:1/models", None, InvalidInputError, "is another lake"),
    ],
)
def test_wrong_merges(registry: Registry, source: str, into: str | None, error: type[Exception], message: str) -> None:
    registry.create_branch("exp-42")
    registry._context.lake.create_tag("v-one", registry.head)
    with pytest.raises(error, match=message):
        registry.merge(source, into)


def test_wrong_choices(parted: Registry) -> None:
    with pytest.raises(InvalidInputError, match="ours or theirs, not both"):
        parted.merge("exp-42", ours=True, theirs=True)
    with pytest.raises(InvalidInputError, match="there is no conflict 'alias:x@y'") as caught:
        parted.merge("exp-42", resolve={"alias:x@y": "ours"})
    assert caught.value.hint == "there are alias:flight-delay@champion"
    with pytest.raises(InvalidInputError, match="can't be 'mine'"):
        parted.merge("exp-42", resolve={"alias:flight-delay@champion": "mine"})
    with pytest.raises(InvalidInputError, match="can be read, not written"):
        parted.at("main~1").merge("exp-42")


def test_a_row_that_differs_under_the_same_key_is_refused(registry: Registry, model: Path) -> None:
    version = registry.register("flight-delay", model)
    exp = registry.create_branch("exp-42")
    row = {**registry.sql("SELECT * FROM lake.model_versions").arrow().to_pylist()[0], "version": 99}

    def forge(tx: Any) -> None:
        keep = {key: row[key] for key in ("version_id", "model_id", "version", "digest", "files", "flavors")}
        tx.append("model_versions", **keep, params={}, tags={}, size=1)

    exp._context.write("forged", forge)
    before = registry.head
    with pytest.raises(IntegrityError, match=f"two rows of model_versions have {version.version_id} as version_id"):
        registry.merge("exp-42")
    assert registry.head == before
