"""What merge, diff, branch and revert tell somebody who has not read how they work: notes, words and counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command_line import CommandLine

from headwater.errors import ConflictError, InvalidInputError
from headwater.names import counted
from headwater.registry import Registry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small artifact."""
    place = tmp_path / "weights.bin"
    place.write_bytes(b"weights")
    return place


@pytest.fixture
def rows(tmp_path: Path) -> list[Path]:
    """Three versions of a table: as it was, with a row corrected, and with a row added."""
    found = []
    for number, text in enumerate(("id,x\n1,1\n2,2\n", "id,x\n1,1\n2,9\n", "id,x\n1,1\n2,2\n3,3\n")):
        place = tmp_path / f"rows{number}.csv"
        place.write_text(text)
        found.append(place)
    return found


def test_a_number_comes_with_its_noun() -> None:
    assert [counted(n, "row") for n in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]
    assert counted(2, "batch", "batches") == "2 batches"


# -- what was merged and reverted -------------------------------------------------------------------------------------
def test_what_was_merged_and_reverted_is_said_wherever_it_seems_to_be_there(
    registry: Registry, model: Path, registry_url: str
) -> None:
    registry.register("m", model)
    z = registry.create_branch("z")
    z.register("m", model)
    registry.create_branch("idle")
    registry.merge("z")
    assert registry.merge("z").notes == ()
    undone = registry.revert("main").commit
    assert undone is not None
    told = f"what z brought was reverted in {undone[:12]}; `headwater revert {undone[:12]}` brings it back"
    again = registry.merge("z")
    assert (again.up_to_date, again.reverted_by, again.notes) == (True, (undone,), (told,))
    diff = registry.diff("main", "z")
    assert (bool(diff), diff.reverted_by, diff.notes) == (False, (undone,), (told,))
    assert {each.name: each.reverted_by for each in registry.branch_list()} == {"idle": (), "main": (), "z": (undone,)}
    with pytest.raises(ConflictError, match=f"what z brought was reverted in {undone[:12]}") as caught:
        registry.delete_branch("z")
    assert f"headwater revert {undone[:12]}" in caught.value.hint

    cli = CommandLine()
    at = ("--lake", registry_url, "--actor", "ann")
    assert told in cli(*at, "merge", "z").stderr
    assert told in cli.out(*at, "diff", "main", "z")
    assert told in cli(*at, "branch").stderr
    assert cli.json(*at, "branch")[-1]["reverted_by"] == [undone]

    registry.delete_branch("idle")
    registry.revert(undone)
    assert registry.merge("z").notes == ()
    third = registry.revert("main").commit
    assert registry.merge("z").reverted_by == (third,)
    registry.revert(str(third))
    assert [each.version for each in registry.versions("m")] == [2, 1]
    assert registry.merge("z").notes == ()
    registry.delete_branch("z")


def test_a_branch_with_what_was_reverted_goes_with_force_and_one_without_goes_freely(
    registry: Registry, model: Path
) -> None:
    registry.register("m", model)
    for name in ("z", "y"):
        registry.create_branch(name).register("m", model)
        registry.merge(name)
    registry.revert("main")
    assert registry.merge("z").notes == ()
    registry.delete_branch("z")
    assert registry.delete_branch("y", force=True).reverted_by


# -- datasets that parted ---------------------------------------------------------------------------------------------
def test_datasets_that_parted_are_named(registry: Registry, rows: list[Path]) -> None:
    registry.add_dataset("d", rows[0], key=["id"])
    exp = registry.create_branch("exp")
    corrected = registry.add_dataset("d", rows[1], key=["id"])
    added = exp.add_dataset("d", rows[2], key=["id"])
    assert (corrected.semver, added.semver) == ("1.0.1", "1.1.0")
    told = "d@1.1.0 does not have what d@1.0.1 changed: both were made from d@1.0.0"
    assert registry.merge("exp", dry_run=True).notes == (told,)
    assert registry.diff("main", "exp").notes == (told,)
    assert registry.diff("exp", "main").notes == (told,)
    assert registry.merge("exp").notes == (told,)
    assert registry.merge("exp").notes == ()


def test_datasets_of_one_line_and_deleted_ones_are_not_named(registry: Registry, rows: list[Path]) -> None:
    registry.add_dataset("d", rows[0], key=["id"])
    registry.add_dataset("d", rows[1], key=["id"])
    exp = registry.create_branch("exp")
    exp.add_dataset("d", rows[2], key=["id"])
    assert registry.merge("exp", dry_run=True).notes == ()


# -- words ------------------------------------------------------------------------------------------------------------
def test_what_is_deleted_and_used_is_said_in_words(registry: Registry, model: Path, registry_url: str) -> None:
    registry.register("m", model)
    registry.register("m", model)
    exp = registry.create_branch("exp")
    exp.delete("m/2")
    registry.set_alias("m", "best", 2)
    cli = CommandLine()
    at = ("--lake", registry_url, "--actor", "ann")
    shown = cli(*at, "merge", "exp", status=4).stdout
    assert "in use: @best" in shown
    assert "deleted" in shown
    assert "m/2 is kept (ours)" in cli.out(*at, "merge", "exp", "--dry-run", "--ours")
    assert "m/2 stays deleted (theirs)" in cli.out(*at, "merge", "exp", "--theirs")


def test_a_merge_calls_a_model_what_it_will_be_called(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    registry.register("m", model)
    exp = registry.create_branch("exp")
    exp.rename("m", "mm")
    exp.set_alias("mm", "champion", 1)
    registry.set_alias("m", "champion", 2)
    (conflict,) = registry.merge("exp", dry_run=True).conflicts
    assert (conflict.name, conflict.ours.value, conflict.theirs.value) == ("alias:mm@champion", "mm/2", "mm/1")
    registry.rename("m", "other")
    assert {each.name for each in registry.merge("exp", dry_run=True).conflicts} == {
        "alias:other@champion",
        "name:other",
    }


def test_what_is_said_of_new_things_is_no_change(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    exp = registry.create_branch("exp")
    exp.register("fresh", model, metrics={"auc": 0.5})
    with exp.start_run("r", experiment="e", code=model.parent) as run:
        run.log_artifact(model)
        run.set_tag("team", "a")
    diff = registry.diff("main", "exp")
    assert diff.events == ()
    merge = registry.merge("exp", dry_run=True)
    assert (merge.changes, merge.words()) == (0, "1 version, 1 run, 1 metric")
    exp.set_alias("m", "champion", 1)
    assert registry.merge("exp").words() == "1 version, 1 run, 1 deployment, 3 changes, 1 metric"


def test_an_artifact_of_a_run_that_was_there_is_said_without_its_folder(registry: Registry, model: Path) -> None:
    with registry.start_run("r", experiment="e", code=model.parent) as run:
        run.log_metric("auc", 0.5)
    exp = registry.create_branch("exp")
    exp.log_artifact(run.run_id, model)
    (change,) = registry.diff("main", "exp").events
    assert change.sentence.startswith(f"artifact weights.bin of run:{run.run_id}: 1 file (")


# -- revert -----------------------------------------------------------------------------------------------------------
def test_a_revert_says_whose_rows_it_takes_and_leaves_out_what_stays(
    registry: Registry, model: Path, registry_url: str
) -> None:
    registry.register("m", model)
    made = registry.register("m", model, metrics={"auc": 0.5})
    found = registry.revert(made.commit, dry_run=True)
    assert [each.name for each in found.changes if each.kind == "tombstone"] == ["m/2", "metrics of m/2"]
    exp = registry.create_branch("exp")
    exp.register("m", model)
    exp.register("m", model)
    registry.merge("exp")
    cli = CommandLine()
    lines = cli.out("--lake", registry_url, "--actor", "ann", "revert", "main", "--dry-run").splitlines()
    assert lines[0].endswith("would be undone: merge exp into main: 2 versions (3 transactions)")
    assert lines[1:] == ["  m/3: reverted", "  m/4: reverted"]
    exp.describe("m", "same")
    registry.describe("m", "same")
    registry.merge("exp")
    assert registry.revert("main", dry_run=True).changes[0].before == "same"
    assert "same, was same" not in cli.out("--lake", registry_url, "--actor", "ann", "revert", "main", "--dry-run")


def test_what_made_the_registry_is_not_undone(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    first = registry.log()[-1]
    before = registry.head
    with pytest.raises(InvalidInputError, match="made the registry"):
        registry.revert(first.commit)
    assert registry.head == before


def test_what_serves_though_its_version_was_reverted_is_marked(
    registry: Registry, model: Path, registry_url: str
) -> None:
    made = registry.register("m", model)
    registry.deploy("m/1", "production")
    assert registry.deployments()[0].gone is None
    registry.revert(made.commit, force=True)
    (found,) = registry.deployments()
    assert (found.live, found.gone) == (True, "reverted")
    assert "m/1 (reverted)" in CommandLine().out("--lake", registry_url, "--actor", "ann", "deployments")
