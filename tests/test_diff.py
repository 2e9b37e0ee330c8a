"""Differences between refs, in the words of a registry: what one has that the other lacks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tests.command_line import CommandLine
from tests.test_html import ALLOWED, Tags

import headwater
from headwater.diffs import Diff
from headwater.errors import InvalidInputError, NotFoundError
from headwater.registry import Registry
from headwater.transaction import Transaction

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "flights.csv"
    path.write_text("id,v\n1,2\n2,3\n3,4\n")
    return path


@pytest.fixture
def exp(registry: Registry, artifact: Path, data: Path) -> Registry:
    """A branch on which much happened, while main moved on by two transactions."""
    registry.add_dataset("flights", data, key=["id"])
    registry.register("delay", artifact, metrics={"auc": 0.8, "rmse": 12}, tags={"team": "ops"}, description="first")
    registry.set_alias("delay", "champion", 1)
    registry.set_alias("delay", "old", 1)
    registry.register("other", artifact)
    registry.register("other", artifact)
    exp = registry.create_branch("exp-42")

    data.write_text("id,v\n1,2\n2,9\n4,4\n5,5\n")
    exp.add_dataset("flights", data, key=["id"])
    exp.register("delay", artifact, metrics={"auc": 0.83, "new": 1}, description="deeper", params={"depth": 8})
    exp.register("late", artifact, metrics={"auc": 0.5})
    exp.set_alias("delay", "champion", 2, reason="better")
    exp.delete_alias("delay", "old")
    exp.tag("delay/1", {"team": "research", "seen": "yes"})
    exp.describe("delay/1", "the first of all")
    exp.tag("delay/2", {"team": "ops"})
    exp.rename("other", "another")
    exp.delete("another/1", reason="broken")
    exp.deploy("delay/2", "test")
    with exp.start_run("fit", experiment="trees", params={"depth": 3}, code=artifact.parent) as run:
        run.log_metric("auc", 0.1, step=1)
        run.log_metric("auc", 0.7, step=2)
        run.log_param("seed", 1)

    registry.register("delay", artifact)
    registry.describe("delay/1", "first on main")
    return exp


def sentences(diff: Diff) -> list[str]:
    """Return what changed, a line each."""
    return [f"{each.mark} {each.sentence}" for each in diff.events]


def test_a_difference_names_what_was_added(registry: Registry, exp: Registry) -> None:
    diff = registry.diff("main", "exp-42")
    assert (diff.left, diff.right, diff.left_commit, diff.right_commit) == ("main", "exp-42", registry.head, exp.head)
    assert diff
    assert [(each.name, each.deleted) for each in diff.models] == [("late", False)]
    assert [each.reference for each in diff.model_versions] == ["delay/2", "late/1"]
    two = diff.model_versions[0]
    assert two.commit == exp.get("delay/2").commit
    assert (two.description, two.tags, two.params, two.aliases) == (
        "deeper",
        {"team": "ops"},
        {"depth": "8"},
        ("champion",),
    )
    (dataset,) = diff.datasets
    assert (dataset.reference, dataset.base, dataset.rows) == ("flights@1.0.1", "flights@1.0.0", 4)
    assert (dataset.added, dataset.removed, dataset.changed) == (2, 1, 1)
    (run,) = diff.runs
    assert (run.name, run.experiment, run.status) == ("fit", "trees", "finished")
    assert run.metrics == {"auc": 0.7}
    assert run.params == {"depth": "3", "seed": "1"}
    (deployment,) = [each for each in diff.deployments if each.environment != "production"]
    assert (deployment.reference, deployment.environment, deployment.mode) == ("delay/2", "test", "live")
    assert [each.message for each in diff.commits] == [each.message for each in exp.log(limit=len(diff.commits))]
    assert diff.counts["model_versions"] == 2
    assert diff.counts["metrics"] == 5


def test_a_new_version_stands_beside_the_champion_of_the_left_side(registry: Registry, exp: Registry) -> None:
    two, late = registry.diff("main", "exp-42").model_versions
    assert two.champion == 1
    assert two.champion_metrics == {"auc": 0.8, "rmse": 12}
    assert [(key, value, other) for key, value, other, _ in two.compared()] == [("auc", 0.83, 0.8), ("new", 1, None)]
    assert two.compared()[0][3] == pytest.approx(0.03)
    assert (late.champion, late.champion_metrics) == (None, {})
    assert registry.diff("exp-42", "main").model_versions[0].champion == 2


def test_a_version_in_production_stands_in_for_a_champion_and_a_deleted_one_does_not(
    registry: Registry, artifact: Path
) -> None:
    registry.register("m", artifact, metrics={"auc": 1})
    exp = registry.create_branch("exp")
    exp.register("m", artifact)
    assert registry.diff("main", "exp").model_versions[0].champion is None
    (version_id,) = (each.version_id for each in registry.versions("m"))
    registry._context.write("stage", lambda tx: tx.event(version_id, "stage", "production"))
    found = registry.diff("main", "exp").model_versions[0]
    assert (found.champion, found.champion_metrics) == (1, {"auc": 1})
    registry.delete("m/1")
    assert registry.diff("main", "exp").model_versions[0].champion is None


def test_what_was_set_anew_is_said_from_what_to_what(registry: Registry, exp: Registry) -> None:
    diff = registry.diff("main", "exp-42")
    assert sentences(diff) == [
        "~ alias delay@champion: 1 -> 2",
        "- alias delay@old: 1 -> none",
        "~ stage of delay/1: production -> archived",
        "+ stage of delay/2: production",
        "~ traffic of delay in production: delay/1 live 100 % -> delay/2 live 100 %",
        "+ traffic of delay in test: delay/2 live 100 %",
        "~ name of other: other -> another",
        "- another/1 is deleted",
        "~ description of delay/1: first on main -> the first of all",
        "+ tag seen of delay/1: yes",
        "~ tag team of delay/1: ops -> research",
    ]
    (champion, _) = diff.changed("alias")
    assert (champion.actor, champion.reason, champion.conflict) == ("tester", "better", None)
    assert champion.commit == exp.log("delay@champion", limit=1)[0].commit
    # Set on both sides since they parted: said with the name that the merge gives it.
    assert [each.conflict for each in diff.events if each.conflict] == ["description:delay/1"]


def test_what_was_set_to_one_value_on_both_sides_does_not_differ(registry: Registry, artifact: Path) -> None:
    registry.register("m", artifact)
    exp = registry.create_branch("exp")
    for each in (registry, exp):
        each.set_alias("m", "champion", 1)
        each.tag("m/1", {"team": "ops"})
        each.describe("m", "a model")
    diff = registry.diff("main", "exp")
    assert diff
    assert diff.events == ()
    assert (diff.transactions, diff.lacking) == (3, 3)


def test_a_branch_that_set_a_thing_twice_differs_by_the_last(registry: Registry, artifact: Path) -> None:
    for _ in range(3):
        registry.register("m", artifact)
    registry.set_alias("m", "champion", 1)
    exp = registry.create_branch("exp")
    exp.set_alias("m", "champion", 2)
    exp.set_alias("m", "champion", 3)
    exp.tag("m/1", {"a": "1"})
    exp.tag("m/1", {"a": None})
    assert "~ alias m@champion: 1 -> 3" in sentences(registry.diff("main", "exp"))
    exp.set_alias("m", "champion", 1)
    # What was in production meanwhile has been, and the rest is as it was.
    assert sentences(registry.diff("main", "exp")) == ["+ stage of m/2: archived", "+ stage of m/3: archived"]


def test_deletions_and_what_was_brought_back(registry: Registry, artifact: Path) -> None:
    registry.register("m", artifact)
    registry.register("gone", artifact)
    registry.delete("gone")
    exp = registry.create_branch("exp")
    exp.delete("m/1")
    exp.undelete("gone")
    exp.register("new", artifact)
    exp.delete("new")
    diff = registry.diff("main", "exp")
    assert sentences(diff) == ["+ gone is brought back", "+ gone/1 is brought back", "- m/1 is deleted"]
    assert [(each.name, each.deleted) for each in diff.models] == [("new", True)]
    assert [(each.reference, each.deleted) for each in diff.model_versions] == [("new/1", True)]


def test_what_a_hidden_transaction_measured_is_not_shown(registry: Registry, artifact: Path) -> None:
    registry.register("m", artifact)
    exp = registry.create_branch("exp")
    with exp.start_run("r", experiment="e", code=artifact.parent) as run:
        run.log_metric("auc", 0.5)
    landed = exp.diff("main").commits[:1]
    assert exp.diff("main").runs[0].metrics == {"auc": 0.5}
    txs = exp.diff_tables("main")["metrics"].column("tx").to_pylist()

    def hide(tx: Transaction) -> None:
        for subject in (*txs, run.run_id):
            tx.event(subject, "tombstone", "hidden")

    exp._context.write("revert", hide)
    (found,) = exp.diff("main").runs
    assert (found.metrics, found.deleted) == ({}, True)
    assert sentences(exp.diff("main")) == []
    assert "(deleted)" in exp.diff("main")._repr_html_()
    before = exp.log()[1].commit
    gone = exp.diff(before)
    assert [each.sentence for each in gone.events] == [
        f"commit {landed[0].commit[:12]} ({landed[0].message}) is reverted",
        f"run:{run.run_id} is reverted",
    ]


def test_what_was_reverted_on_the_branch_is_said_to_be_deleted_or_is_as_it_was(
    registry: Registry, artifact: Path
) -> None:
    registry.register("m", artifact)
    registry.register("m", artifact)
    registry.set_alias("m", "champion", 1)
    exp = registry.create_branch("exp")
    registered = exp.register("m", artifact)
    exp.set_alias("m", "champion", 2)
    exp.revert(exp.log(limit=1)[0].commit)
    exp.revert(registered.commit)
    diff = exp.diff("main")
    assert [(each.reference, each.deleted) for each in diff.model_versions] == [("m/3", True)]
    assert sentences(diff) == []
    first = registry.get("m/1").commit
    exp.set_alias("m", "champion", 2)
    exp.revert(first, force=True)
    assert "- m/1 is reverted" in sentences(exp.diff("main"))


def test_predictions_and_outcomes_are_counted(registry: Registry, artifact: Path, tmp_path: Path) -> None:
    registry.register("m", artifact)
    exp = registry.create_branch("exp")
    deployment = exp.deploy("m/1", "test")
    file = tmp_path / "today.csv"
    file.write_text("id,x,score\na,1,0.5\nb,2,0.25\n")
    exp.log_predictions(file, deployment=deployment.deployment_id)
    diff = registry.diff("main", "exp")
    assert diff.counts["predictions"] == 2
    assert [each.traffic for each in diff.deployments] == [100.0]


def test_a_run_that_ends_on_the_branch_is_a_change_of_its_status(registry: Registry) -> None:
    run = registry.start_run("long", experiment="e")
    exp = registry.create_branch("exp")
    run.finish()
    (change,) = exp.diff("exp", "main").events
    assert (change.kind, change.reference, change.before, change.after) == (
        "status",
        f"run:{run.run_id}",
        None,
        "finished",
    )


# -- refs -------------------------------------------------------------------------------------------------------------
def test_both_sides_take_any_ref_and_the_right_one_is_where_one_is(registry: Registry, exp: Registry) -> None:
    whole = exp.diff("main")
    assert (whole.right, whole.right_commit) == ("exp-42", exp.head)
    assert whole.transactions == registry.diff("main", "exp-42").transactions
    registry._context.lake.create_tag("parted", registry.at("main~2").head)
    before = exp.log()[0]
    moment = registry.log(limit=2)[1].recorded_at
    for left in ("parted", "main~2", registry.at("main~2").head, registry.at("main~2").head[:12]):
        diff = registry.diff(left, "main")
        assert [each.reference for each in diff.model_versions] == ["delay/3"]
        assert diff.transactions == 2
    assert registry.diff(f"main@{{{moment.isoformat()}}}").transactions == 1
    pinned = exp.at("exp-42~1")
    assert pinned.diff("main").right == "exp-42~1"
    assert pinned.diff("main").transactions == whole.transactions - 1
    assert registry.diff(before.commit, "exp-42").transactions == 0
    first = next(each for each in registry.log() if each.message.startswith("register delay/1"))
    assert [each.reference for each in registry.diff(first.parents[0], first.commit).model_versions] == ["delay/1"]


def test_one_way_lacks_what_the_other_has(registry: Registry, exp: Registry) -> None:
    there, back = registry.diff("main", "exp-42"), registry.diff("exp-42", "main")
    assert (there.lacking, back.lacking) == (back.transactions, there.transactions)
    assert back.transactions == 2
    assert [each.reference for each in back.model_versions] == ["delay/3"]
    assert sentences(back) == ["~ description of delay/1: the first of all -> first on main"]
    assert registry.diff("main", "main~1").transactions == 0
    assert registry.diff("main", "main~1").lacking == 1


def test_after_a_merge_nothing_is_lacking(registry: Registry, exp: Registry) -> None:
    registry.merge("exp-42", theirs=True)
    diff = registry.diff("main", "exp-42")
    assert not diff
    assert diff.counts == {}
    assert diff.lacking == 3  # what main did, and the merge that settled a conflict
    exp.merge("main")
    assert (registry.diff("main", "exp-42").lacking, exp.diff("exp-42", "main").lacking) == (0, 0)
    assert not exp.diff("exp-42", "main").events


@pytest.mark.parametrize("seed", range(3))
def test_what_is_lacking_is_what_the_other_way_has_in_any_history(
    registry: Registry, artifact: Path, seed: int
) -> None:
    chance = random.Random(seed)
    registry.register("m", artifact)
    branches = [registry, *(registry.create_branch(name) for name in ("a", "b"))]
    for _ in range(14):
        one, other = chance.sample(branches, 2)
        if chance.random() < 0.5:
            one.tag("m/1", {f"k{chance.randrange(10**9)}": "v"})
        else:
            one.merge(other.ref)
    refs = [*(each.ref for each in branches), "main~1", "a~2"]
    for left in refs:
        for right in refs:
            one, other = registry.diff(left, right), registry.diff(right, left)
            assert one.lacking == other.transactions, (left, right)
            known = {each.commit for each in registry.at(left).log() if each.kind != "merge"}
            there = {each.commit for each in registry.at(right).log() if each.kind != "merge"}
            assert one.transactions == len(there - known)
            assert {each.commit for each in one.commits if each.kind != "merge"} == there - known


def test_raw_rows_of_each_table(registry: Registry, exp: Registry) -> None:
    tables = registry.diff_tables("main", "exp-42")
    assert {name: len(table) for name, table in tables.items()} == registry.diff("main", "exp-42").counts
    assert sorted(tables["model_versions"].column("version").to_pylist()) == [1, 2]
    assert registry.diff_tables("main", "main") == {}


def test_a_service_compares_two_commits(registry: Registry, exp: Registry) -> None:
    diff = registry._diffs.between(registry.head, exp.head)
    assert (diff.left, diff.right) == (registry.head[:12], exp.head[:12])
    assert diff.transactions == registry.diff("main", "exp-42").transactions
    assert registry._diffs.between(registry.head, exp.head, names=("before", "after")).right == "after"


# -- bad input --------------------------------------------------------------------------------------------------------
def test_what_is_no_ref_is_refused_with_what_to_do(registry: Registry, exp: Registry, capsys: object) -> None:
    for text, what, hint in (
        ("delay", "a model", "headwater versions delay"),
        ("delay/1", "a model version", "headwater compare delay/1"),
        ("delay@champion", "a model version", "headwater compare"),
        ("flights@1.0.0", "a dataset version", "headwater data diff"),
        ("flights", "a dataset", "headwater data diff"),
    ):
        for sides in ((text, "main"), ("main", text)):
            with pytest.raises(InvalidInputError, match=rf"'{text}' is {what}, and a ref is needed") as caught:
                registry.diff(*sides)
            assert hint in caught.value.hint
    with pytest.raises(NotFoundError, match="there is no branch, tag or commit 'nowhere'"):
        registry.diff("nowhere")
    with pytest.raises(InvalidInputError, match="not a ref"):
        registry.diff("main@{")
    with pytest.raises(NotFoundError, match="had no commit yet at 2001-01-01"):
        registry.diff("main@{2001-01-01}")


# -- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture
def hw(registry: Registry, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    return CommandLine()


def test_the_command_shows_a_difference(hw: CommandLine, exp: Registry) -> None:
    lines = hw.out("diff", "main", "exp-42").splitlines()
    assert lines[0] == "exp-42 has 13 transactions that main lacks"
    assert lines[-1] == "main has 2 transactions that exp-42 lacks: `headwater diff exp-42 main`"
    text = "\n".join(lines)
    for expected in (
        "Models\n  + late  tester",
        "  + delay/2  @champion  tester\n      deeper\n             /2  champion /1\n"
        "      auc  0.83          0.8  +0.03\n      new     1\n",
        "  + late/1  tester\n      auc 0.5",
        "  ~ alias delay@champion: 1 -> 2: better  tester",
        "  - another/1 is deleted: broken  tester",
        "      main has changed it too: a merge asks about description:delay/1",
        "  + flights@1.0.1  4 rows, +2 -1 ~1 since flights@1.0.0  tester",
        "  + fit of trees  finished  auc 0.7  tester",
        "  + delay/2  to production, live with 100 %  tester",
        "and 5 metrics",
    ):
        assert expected in text, text
    assert "\x1b" not in text
    assert hw.out("diff", "main..exp-42").splitlines() == lines
    assert hw.out("diff", "main...exp-42").splitlines() == lines
    assert hw.out("--branch", "exp-42", "diff", "main").splitlines() == lines
    assert hw.out("--branch", "exp-42", "diff", "main..").splitlines() == lines
    assert hw.out("diff", "..exp-42").splitlines() == lines


def test_the_command_counts(hw: CommandLine, exp: Registry) -> None:
    assert hw.out("diff", "main", "exp-42", "--stat").splitlines() == [
        "exp-42 has 13 transactions that main lacks",
        "  + 1 model",
        "  + 2 model versions",
        "  + 1 run",
        "  + 1 dataset version",
        "  + 2 deployments",
        "  ~ 2 aliases",
        "  ~ 2 stages",
        "  ~ 2 traffic",
        "  ~ 1 name",
        "  ~ 1 deleted or brought back",
        "  ~ 1 description",
        "  ~ 2 tags",
        "  + 5 metrics",
        "    in datasets 2 rows added, 1 removed, 1 changed",
        "main has 2 transactions that exp-42 lacks: `headwater diff exp-42 main`",
    ]
    counted = hw.json("diff", "main", "exp-42", "--stat")
    assert (counted["model_versions"], counted["events"]["alias"], counted["predictions"]) == (2, 2, 0)


def test_the_command_prints_json_whose_keys_are_those_of_the_tables(hw: CommandLine, exp: Registry) -> None:
    found = hw.json("diff", "main", "exp-42")
    assert (found["left"], found["right"], found["transactions"], found["lacking"]) == ("main", "exp-42", 13, 2)
    assert [(each["name"], each["version"]) for each in found["model_versions"]] == [("delay", 2), ("late", 1)]
    assert found["model_versions"][0]["champion_metrics"] == {"auc": 0.8, "rmse": 12}
    assert found["datasets"][0]["semver"] == "1.0.1"
    assert {each["kind"] for each in found["events"]} >= {"alias", "tag", "tombstone", "name", "traffic", "description"}
    assert found["counts"]["metrics"] == 5
    assert len(found["commits"]) == 13
    rows = hw.json("diff", "main", "exp-42", "--tables")
    assert {name: len(each) for name, each in rows.items()} == found["counts"]
    assert {each["version"] for each in rows["model_versions"]} == {1, 2}


def test_the_command_prints_raw_rows(hw: CommandLine, exp: Registry) -> None:
    text = hw.out("diff", "main", "exp-42", "--tables")
    assert "model_versions  2 rows\n" in text
    assert "events  " in text
    assert exp.get("delay/2").version_id in text
    assert hw.out("diff", "main", "main", "--tables") == "no table has rows that differ\n"


def test_nothing_differs_is_said_and_is_no_failure(hw: CommandLine, registry: Registry, artifact: Path) -> None:
    registry.register("m", artifact)
    registry.create_branch("exp")
    assert hw.out("diff", "main", "main") == "nothing differs: main is compared with itself\n"
    assert hw.out("diff", "main") == "nothing differs: main is compared with itself\n"
    assert hw.out("diff", "main", "exp") == "nothing differs: main and exp are one commit\n"
    assert hw.json("diff", "main", "exp")["transactions"] == 0
    assert hw.out("diff", "main", "main~1") == (
        "main~1 has nothing that main lacks\nmain has 1 transaction that main~1 lacks: `headwater diff main~1 main`\n"
    )
    for each in (registry, registry.branch("exp")):
        each.describe("m", "one text")
    assert hw.out("diff", "main", "exp").splitlines()[:2] == [
        "exp has 1 transaction that main lacks",
        "which change nothing that main has otherwise",
    ]


def test_the_command_used_wrongly(hw: CommandLine, exp: Registry) -> None:
    assert hw.error("diff", "delay", status=2)[1:] == (
        "'delay' is a model, and a ref is needed",
        "`headwater versions delay` lists its versions",
    )
    assert hw.error("diff", "main", "nope", status=1)[0] == "NotFoundError"
    assert "unexpected extra argument" in hw.error("diff", "main", "exp-42", "main~1", status=2)[1]
    assert "missing" in hw.error("diff", status=2)[1]
    assert "no ref is named" in hw.error("diff", "..", status=2)[1]
    assert "give one" in hw.error("diff", "main", "exp-42", "--stat", "--tables", status=2)[1]


def test_hostile_text_does_not_reach_the_terminal(hw: CommandLine, registry: Registry, artifact: Path) -> None:
    exp = registry.create_branch("exp")
    exp.register("m", artifact, description="a\x1b[31mb\nc", metrics={"auc": float("nan")})
    exp.describe("m", "x\x1b[2Jy")
    text = hw.out("diff", "main", "exp")
    assert "\x1b" not in text
    assert "a\\x1b[31mb\\nc" in text
    assert hw.json("diff", "main", "exp")["model_versions"][0]["metrics"] == {"auc": "NaN"}


# -- notebooks --------------------------------------------------------------------------------------------------------
DRAWN = {"svg", "path", "circle", "text", "title"}


def test_a_notebook_shows_a_picture_and_tables_with_everything_escaped(
    registry: Registry, exp: Registry, artifact: Path
) -> None:
    exp.register("delay", artifact, description=HOSTILE, metrics={HOSTILE: 1.0, "auc": 0.9}, tags={"t": HOSTILE})
    exp.set_alias("delay", "champion", 4, reason=HOSTILE)
    with exp.start_run(HOSTILE, experiment=HOSTILE, code=artifact.parent) as run:
        run.log_metric(HOSTILE, 1)
    diff = registry.diff("main", "exp-42")
    page = diff._repr_html_()
    found = Tags(page)
    assert found.tags <= ALLOWED | DRAWN
    assert found.text.count("<script>") >= 4
    for expected in ("main → exp-42", "exp-42  +17", "main  +2", "delay/2", "auc 0.83 (+0.03)", "delay auc", "/4 0.9"):
        assert expected in found.text, expected
    assert "main has changed it too" in found.text
    assert "flights@1.0.1" in found.text


def test_a_notebook_shows_many_changes_cut_with_a_count(registry: Registry, artifact: Path) -> None:
    registry.register("m", artifact)
    exp = registry.create_branch("exp")
    exp.tag("m/1", {f"k{number:03}": "v" for number in range(150)})
    for number in range(30):
        exp.describe("m", str(number))
    page = registry.diff("main", "exp")._repr_html_()
    assert "151 rows, the first 100 shown" in page
    assert page.count("<circle") == 25
    nothing = registry.diff("main", "main")._repr_html_()
    assert "main has nothing that main lacks" in nothing
    assert "<svg" not in nothing


def test_a_difference_is_for_everybody(registry: Registry) -> None:
    assert headwater.Diff is Diff
    assert json.dumps(headwater.model.as_json(registry.diff("main")))
