"""The folded state of any commit is what a fold from nothing would be, whatever it was made from."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from headwater.fold import SCHEMA
from headwater.registry import Registry
from headwater.state import Folds

TABLES = ("logs", "files", "commits", "models", "versions", "datasets", "events", "superseded", "runs", "lineage",
          "deployments", "batches", "twice", "clashing", "refused", "lines")  # fmt: skip


def dump(folds: Folds, commit: str) -> dict[str, Any]:
    with folds.at(commit) as fold:
        assert fold.commit == commit
        return {name: sorted(fold.rows(f"SELECT * FROM {name}"), key=repr) for name in TABLES}


@pytest.fixture
def branched(registry: Registry, tmp_path: Path) -> Registry:
    """A registry whose branches moved apart, were merged into each other, and moved on."""
    artifact = tmp_path / "model.bin"
    artifact.write_bytes(b"model")
    rows = tmp_path / "rows.csv"
    rows.write_text("id,x\n1,2\n")
    predictions = tmp_path / "predictions.csv"
    predictions.write_text("id,x,output\na,1,yes\n")
    registry.register("m", artifact)
    registry.set_alias("m", "champion", 1)
    deployment = registry.deploy("m/1", "production")
    exp = registry.create_branch("exp")
    registry.log_predictions(predictions, deployment)
    exp.log_predictions(predictions, deployment)
    exp.register("m", artifact, metrics={"auc": 0.5})
    exp.set_alias("m", "champion", 2)
    exp.register("made-on-both", artifact)
    registry.register("made-on-both", artifact)
    registry.add_dataset("rows", rows)
    registry.merge("exp")
    registry.set_alias("m", "champion", 1)
    other = registry.create_branch("other", "main~2")
    other.set_alias("m", "challenger", 1)
    exp.merge("main")
    exp.describe("m", "described on exp")
    other.merge("exp")
    with registry.start_run("train", experiment="e"):
        pass
    return registry


def test_any_commit_folds_the_same_from_whatever_there_is(branched: Registry, tmp_path: Path) -> None:
    lake = branched._context.lake
    commits = {each.id for head in lake.branches().values() for each in lake.log(head)}
    assert len(commits) > 20
    assert {*TABLES, "info"} == set(re.findall(r"CREATE TABLE (\w+)", SCHEMA))
    fresh, seeded = Folds(lake), Folds(lake)
    fresh._folder, seeded._folder = tmp_path / "fresh", tmp_path / "seeded"
    with seeded.at_head("main"):
        pass
    for number, commit in enumerate(sorted(commits)):
        expected = dump(fresh, commit)
        fresh.close()
        for path in fresh._folder.iterdir():
            path.unlink()
        got = dump(seeded, commit)
        for name in TABLES:
            assert set(got[name]) ^ set(expected[name]) == set(), name
        if number % 3 == 0:
            # From the head alone, too, and not only from what lies near.
            for path in seeded._folder.glob("commit-*"):
                seeded._drop(path.name)
    seeded.close()


def test_a_branch_that_is_made_anew_elsewhere_is_folded_anew(branched: Registry, tmp_path: Path) -> None:
    lake = branched._context.lake
    exp = branched.branch("exp")
    assert exp.status()["versions"] == 4
    lake.delete_branch("exp")
    lake.create_branch("exp", branched.at("main~5").head)
    assert branched.branch("exp").status()["versions"] == len(
        branched.at("main~5").sql("from lake.model_versions").fetchall()
    )


def test_the_first_read_of_a_branch_reads_no_rows(branched: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater import tables

    branched.status()
    new = branched.create_branch("new")

    def refused(*arguments: object, **named: object) -> None:
        raise AssertionError("rows are read")

    monkeypatch.setattr(tables, "read", refused)
    assert new.status()["versions"] == branched.status()["versions"]


def test_a_fold_is_copied_whole_while_others_write_to_it(tmp_path: Path) -> None:
    from headwater.foldcopy import copied

    source = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (x)")
        with contextlib.closing(sqlite3.connect(source, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM t").fetchone()  # so that the log can't be begun anew
            writer.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(500)])
            assert copied(source, tmp_path / "b.db")
            writer.execute("INSERT INTO t VALUES (500)")
            assert not copied(source, tmp_path / "b.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "b.db")) as made:
        assert made.execute("SELECT count(*), max(x) FROM t").fetchone() == (500, 499)
        assert made.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "broken.db").write_bytes(b"x" * 8192)
    assert not copied(tmp_path / "broken.db", tmp_path / "c.db")
