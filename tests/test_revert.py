"""Undoing what a commit brought, and undoing that: every kind of transaction, merges, refusals; on both lakes."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from tests.command_line import CommandLine

import headwater
from headwater.errors import ConflictError, HeadwaterError, IntegrityError, InvalidInputError, NotFoundError
from headwater.registry import Registry
from headwater.undoing import Revert

Act = Callable[[Registry], object]

FLIGHTS = "id,origin\n1,JFK\n2,LGA\n"
PREDICTIONS = "predicted_at,external_id,origin,output\n" + "".join(
    f"2026-11-01T00:00:{n:02}Z,f{n},JFK,late\n" for n in range(4)
)
QUERIES = (
    "SELECT name, versions, latest_version, description, tags FROM models ORDER BY ALL",
    "SELECT name, version, aliases, description, tags, params FROM model_versions ORDER BY ALL",
    "SELECT name, semver, description FROM datasets ORDER BY ALL",
    "SELECT name, status, params, metrics, tags, description FROM runs ORDER BY ALL",
    "SELECT name, version, run_id, key, value, step FROM metrics ORDER BY ALL",
    "SELECT name, version, key, slice, value FROM slice_metrics ORDER BY ALL",
    "SELECT deployment_id, name, version, environment, mode, traffic, live FROM deployments ORDER BY ALL",
    "SELECT prediction_id, external_id, version, output, label, correct FROM predictions ORDER BY ALL",
    "SELECT urn, predictions FROM lineage_nodes WHERE deleted IS NOT true ORDER BY ALL",
)


def seen(registry: Registry) -> dict[str, Any]:
    """Return all that a registry shows, by its methods and by SQL, but for who did what and when."""
    found: dict[str, Any] = {query: registry.sql(query).fetchall() for query in QUERIES}
    for model in registry.models():
        found[model.name] = (model.versions, model.latest_version, dict(model.aliases), model.description, model.tags)
        found[f"{model.name} aliases"] = [(each.alias, each.version) for each in registry.aliases(model.name)]
        for version in registry.versions(model.name):
            made_of = registry.trained_on(version.reference)
            labels = (version.aliases, version.description, dict(version.tags), dict(version.params), made_of)
            metrics = [(each.key, each.slice, each.value) for each in registry.metrics(version.reference)]
            up = sorted(node.urn for node in registry.trace(f"model:{version.reference}").nodes)
            found[version.reference] = (labels, metrics, up)
    for newest in registry.datasets():
        every = registry.dataset_versions(newest.name)
        found[newest.name] = [(each.semver, each.description, each.derived_from) for each in every]
        down = sorted(node.urn for node in registry.impact(f"dataset:{newest.reference}").nodes)
        found[f"{newest.name} impact"] = down
    for run in registry.runs():
        labels = (run.status, dict(run.params), dict(run.tags), run.description)
        found[run.run_id] = (labels, dict(run.metrics), run.inputs, run.curve("loss").to_pylist())
    for each in registry.deployments():
        found[each.deployment_id] = (each.version, each.environment, each.mode, each.traffic, each.live)
        found[f"{each.deployment_id} predictions"] = registry.predictions_of(each.deployment_id)
    return found


# -- one of everything ------------------------------------------------------------------------------------------------
def register(registry: Registry) -> object:
    slices = [("auc", {"origin": "JFK"}, 0.7)]
    return registry.register(
        "delay", "weights.bin", data=["flights@1.0.0"], metrics={"auc": 0.9}, slices=slices, params={"c": 1}
    )


def deployed(registry: Registry) -> str:
    return registry.deployments("flight-delay")[-1].deployment_id


def log_run(registry: Registry) -> object:
    run = registry.start_run("again", experiment="delays")
    run.log_metric("loss", 0.5, step=1)
    run.finish()
    return run


def import_dvc(registry: Registry) -> object:
    body = b"id,origin\n1,EWR\n"
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("")
    Path("tracked.csv").write_bytes(body)
    Path("tracked.csv.dvc").write_text(
        f"outs:\n- md5: {md5(body).hexdigest()}\n  size: {len(body)}\n  hash: md5\n  path: tracked.csv\n"
    )
    return registry.import_dvc("tracked.csv.dvc")


def more_flights(registry: Registry) -> object:
    Path("more.csv").write_text(FLIGHTS + "3,EWR\n")
    return registry.add_dataset("flights", "more.csv", description="with Newark")


ACTS: dict[str, Act] = {
    "a first version": register,
    "a further version": lambda r: r.register("flight-delay", "weights.bin", metrics={"auc": 0.95}),
    "a new alias": lambda r: r.set_alias("flight-delay", "challenger", 2),
    "an alias that is moved": lambda r: r.set_alias("flight-delay", "chosen", 2, reason="better"),
    "an alias that is deleted": lambda r: r.delete_alias("flight-delay", "chosen"),
    "a tag": lambda r: r.tag("flight-delay", {"stage": "trial"}),
    "a tag instead of one given at registration": lambda r: r.tag("flight-delay/1", {"team": "research", "x": "y"}),
    "a tag taken away": lambda r: r.tag("flight-delay/1", {"team": None}),
    "a description": lambda r: r.describe("flight-delay", "new words"),
    "a description instead of the one given at registration": lambda r: r.describe("flight-delay/1", "new words"),
    "a name": lambda r: r.rename("flight-delay", "late-flights"),
    "a version that is deleted": lambda r: r.delete("flight-delay/2", reason="leaks"),
    "a model that is deleted": lambda r: r.delete("spare"),
    "a version that is brought back": lambda r: r.undelete("spare/2"),
    "a dataset's first version": lambda r: r.add_dataset("weather", "weights.bin"),
    "a dataset's further version": more_flights,
    "a description and a source of a dataset": lambda r: r.add_dataset(
        "rough", "rough.csv", description="rough", derived_from=["flights"]
    ),
    "a run's beginning": lambda r: r.start_run("third", experiment="delays").flush(),
    "a deployment": lambda r: r.deploy("flight-delay/2", "staging"),
    "a deployment that replaces one": lambda r: r.deploy("flight-delay/2", "production"),
    "a canary": lambda r: r.deploy("flight-delay/2", "production", "canary", 5),
    "a deployment that is ended": lambda r: r.undeploy(deployed(r)),
    "predictions": lambda r: r.log_predictions("more-predictions.csv", deployed(r)),
    "outcomes": lambda r: r.log_outcomes("outcomes.csv", deployed(r)),
    "a DVC file": import_dvc,
}


@pytest.fixture
def peopled(registry: Registry) -> Registry:
    """A registry with some of everything in it."""
    Path("weights.bin").write_text("weights")
    Path("flights.csv").write_text(FLIGHTS)
    Path("rough.csv").write_text("id\n1\n")
    Path("predictions.csv").write_text(PREDICTIONS)
    Path("more-predictions.csv").write_text(PREDICTIONS.replace(",f", ",g"))
    Path("outcomes.csv").write_text("external_id,label\nf0,late\nf1,on time\n")
    registry.add_dataset("flights", "flights.csv")
    registry.add_dataset("rough", "rough.csv")
    with registry.start_run("first", experiment="delays", params={"depth": 6}) as run:
        run.use("flights@1.0.0")
        run.log_metric("loss", 0.9, step=0)
        run.register("flight-delay", "weights.bin", tags={"team": "ops"}, description="as it began")
    registry.register("flight-delay", "weights.bin", data=["flights"], metrics={"auc": 0.8})
    registry.register("spare", "weights.bin")
    registry.register("spare", "weights.bin")
    registry.delete("spare/2")
    registry.describe("flight-delay", "words")
    registry.set_alias("flight-delay", "chosen", 1)
    deployment = registry.deploy("flight-delay/1", "production")
    registry.log_predictions("predictions.csv", deployment)
    return registry


def newest(registry: Registry) -> str:
    return registry.log(limit=1)[0].commit


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_everything_that_can_be_done_can_be_undone_and_done_again(peopled: Registry, act: Act) -> None:
    before = seen(peopled)
    act(peopled)
    entry = peopled.log(limit=1)[0]

    undone = peopled.revert(entry.commit, reason="not so")

    assert seen(peopled) == before
    assert (undone.undone, undone.message, undone.transactions) == (entry.commit, entry.message, 1)
    assert undone.changes
    found = peopled.log(limit=1)[0]
    assert (found.kind, found.subject, found.commit) == ("revert", entry.commit[:12], undone.commit)
    assert found.message == f"revert {entry.commit[:8]}: {entry.message}: not so"
    after = seen(peopled.at("main~1"))
    assert after != before, "the past is what it was"
    with pytest.raises(ConflictError, match=f"{entry.commit[:12]} is undone already, by {found.commit[:12]}"):
        peopled.revert(entry.commit)

    again = peopled.revert(found.commit)

    assert seen(peopled) == after
    assert again.commit is not None
    assert set(peopled.revert(again.commit).changes) == set(undone.changes)
    peopled.revert("main")


# -- what stays -------------------------------------------------------------------------------------------------------
@pytest.fixture
def small(registry: Registry) -> Registry:
    """A registry with one model of one version, an alias at it, and a dataset that it was trained on."""
    Path("weights.bin").write_text("weights")
    Path("flights.csv").write_text(FLIGHTS)
    registry.add_dataset("flights", "flights.csv")
    registry.register("m", "weights.bin", data=["flights"], metrics={"auc": 0.8}, tags={"team": "ops"})
    registry.set_alias("m", "chosen", 1)
    return registry


def test_history_keeps_what_was_reverted_and_its_number_stays_taken(small: Registry) -> None:
    second = small.register("m", "weights.bin", metrics={"auc": 0.9})
    data = small.add_dataset("rough", "weights.bin")
    small.revert(second.commit)
    small.revert(data.commit)

    assert small.register("m", "weights.bin").version == 3
    assert small.add_dataset("rough", "weights.bin").semver == "2.0.0"
    assert small.at(second.commit).get("m/2").metrics == {"auc": 0.9}
    rows = small.sql("SELECT version FROM lake.model_versions ORDER BY version").fetchall()
    assert rows == [(1,), (2,), (3,)]
    assert small.sql("SELECT value FROM lake.metrics ORDER BY value").fetchall() == [(0.8,), (0.9,)]
    assert small.sql("SELECT version, value FROM metrics").fetchall() == [(1, 0.8)]
    assert [each[0] for each in small.sql("SELECT key FROM history WHERE kind = 'tombstone'").fetchall()] == [""] * 3


def test_a_model_that_was_reverted_comes_back_when_it_is_registered_again(registry: Registry) -> None:
    Path("weights.bin").write_text("weights")
    first = registry.register("m", "weights.bin")
    done = registry.revert("main")

    assert [(each.name, each.after) for each in done.changes] == [
        ("m", "hidden"),
        ("m/1", "hidden"),
    ]
    assert registry.models() == []
    second = registry.register("m", "weights.bin")
    assert (second.version, second.model_id) == (2, first.model_id)
    assert [version.version for version in registry.versions("m")] == [2]
    again = registry.revert("main")
    assert [each.name for each in again.changes] == ["m/2", "m"]
    assert registry.models() == []


def test_a_model_with_versions_that_others_made_stays(small: Registry) -> None:
    first = small.get("m/1").commit
    small.register("m", "weights.bin")
    small.set_alias("m", "chosen", 2)

    small.revert(first)

    assert [version.version for version in small.versions("m")] == [2]
    assert small.model("m").versions == 1


def test_a_run_that_goes_on_can_have_a_part_of_it_undone(registry: Registry) -> None:
    with registry.start_run("long", experiment="e") as run:
        run.log_metrics({"step": list(range(100)), "loss": [1.0] * 100})
        run.log_param("depth", 3)
        run.flush(wait=True)
        run.log_metrics({"step": list(range(100, 200)), "loss": [2.0] * 100})
        run.log_metric("auc", 0.5)
        run.log_param("width", 4)
        run.flush(wait=True)
        wrong = registry.log(limit=1)[0].commit
        registry.revert(wrong)
        assert registry.curve(run.run_id, "loss").to_pylist() == [{"step": n, "value": 1.0} for n in range(100)]
        assert dict(registry.run(run.run_id).metrics) == {"loss": 1.0}
        assert registry.run(run.run_id).params == {"depth": "3"}
        assert registry.sql("SELECT params FROM runs").fetchall() == [({"depth": "3"},)]
        run.log_metric("loss", 3.0, step=100)
    assert registry.run(run.run_id).status == "finished"
    assert dict(registry.run(run.run_id).metrics) == {"loss": 3.0}
    assert registry.curve(run.run_id, "loss").num_rows == 101


def test_a_query_of_few_predictions_reads_few_files_with_a_batch_reverted(small: Registry) -> None:
    deployment = small.deploy("m/1", "production")
    for day in range(1, 6):
        Path(f"{day}.csv").write_text(PREDICTIONS.replace("11-01", f"11-0{day}").replace(",f", f",{day}f"))
        small.log_predictions(f"{day}.csv", deployment)
    gone = small.log(limit=2)[1]
    small.revert(gone.commit)

    found = small.sql("SELECT external_id FROM predictions WHERE predicted_at >= '2026-11-05' ORDER BY ALL")
    assert [row[0] for row in found.fetchall()] == ["5f0", "5f1", "5f2", "5f3"]
    assert found.files_read["predictions"] == (1, 5)
    assert small.sql("SELECT count(*) FROM predictions").fetchall() == [(16,)]
    assert small.sql("SELECT count(*) FROM lake.predictions").fetchall() == [(20,)]
    assert small.predictions_of(deployment.deployment_id) == 16
    assert small.sql("SELECT tx, actor FROM hidden_transactions").fetchall() == [
        (small.sql(f"SELECT tx FROM lake.commits WHERE commit = '{gone.commit}'").fetchall()[0][0], "tester")
    ]
    few = (
        "SELECT count(*) FROM predictions WHERE predicted_at BETWEEN '2026-11-03 12:00:00Z' AND '2026-11-04 12:00:00Z'"
    )
    assert small.sql(few).fetchall() == [(0,)]
    past = f"SELECT count(*) FROM lake_at('{gone.commit}', 'predictions')"
    assert small.sql(past).fetchall() == [(16,)]


def test_predictions_that_were_reverted_are_told_of_and_not_taken_in_again(small: Registry) -> None:
    deployment = small.deploy("m/1", "production")
    Path("p.csv").write_text(PREDICTIONS)
    batch = small.log_predictions("p.csv", deployment)
    prediction = small.find_prediction(deployment, "f1").prediction_id
    undone = small.revert(batch.commit).commit
    assert undone is not None
    told = f"was reverted by tester in commit {undone[:12]}"

    for ask in (small.prediction, lambda urn: small.trace(f"prediction:{urn}")):
        with pytest.raises(NotFoundError, match=f"prediction {prediction} {told}") as caught:
            ask(prediction)
        assert caught.value.hint == f"`headwater revert {undone[:12]}` brings it back"
    with pytest.raises(NotFoundError, match="has no prediction with external ID 'f1'"):
        small.find_prediction(deployment, "f1")
    with pytest.raises(ConflictError, match=f"'p.csv' was logged before, and that {told}") as refused:
        small.log_predictions("p.csv", deployment)
    assert refused.value.hint == f"`headwater revert {undone[:12]}` brings its rows back"
    small.revert(undone)
    assert not small.log_predictions("p.csv", deployment).created
    assert small.find_prediction(deployment, "f1").prediction_id == prediction


def test_an_export_shows_no_more_than_the_registry(
    small: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    small.revert(small.register("m", "weights.bin", metrics={"auc": 0.1}).commit)
    small.export(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    with duckdb.connect() as stock:
        stock.execute(Path("headwater.sql").read_text())
        assert stock.execute("SELECT version, value FROM metrics").fetchall() == [(1, 0.8)]
        assert stock.execute("SELECT count(*) FROM lake.metrics").fetchall() == [(2,)]


def test_the_same_edge_written_again_is_there_again(small: Registry) -> None:
    Path("rough.csv").write_text("id\n1\n")
    small.add_dataset("rough", "rough.csv")
    for _ in range(2):
        small.add_dataset("rough", "rough.csv", derived_from=["flights"])
        assert small.dataset("rough").derived_from == ("flights@1.0.0",)
        assert small.sql("SELECT count(*) FROM trace('rough')").fetchall() == [(2,)]
        assert len(small.trace("rough").nodes) == 2
        undone = small.revert("main")
        assert small.dataset("rough").derived_from == ()
        assert small.sql("SELECT count(*) FROM trace('rough')").fetchall() == [(1,)]
    assert undone.commit is not None
    small.revert(undone.commit)
    assert small.dataset("rough").derived_from == ("flights@1.0.0",)


# -- with delete ------------------------------------------------------------------------------------------------------
def test_what_was_reverted_comes_back_by_undelete_too(small: Registry) -> None:
    second = small.register("m", "weights.bin", metrics={"auc": 0.9})
    small.revert(second.commit)

    small.undelete("m/2")

    assert small.get("m/2").metrics == {"auc": 0.9}
    assert small.sql("SELECT value FROM metrics WHERE version = 2").fetchall() == [(0.9,)]
    with pytest.raises(ConflictError, match="m/2 was changed since, to restored, by tester"):
        small.revert(small.log(limit=2)[1].commit)
    small.revert(second.commit)
    with pytest.raises(NotFoundError, match="m/2 was reverted by tester"):
        small.get("m/2")


def test_undelete_of_a_reverted_model_brings_back_its_versions_and_nothing_else(registry: Registry) -> None:
    Path("weights.bin").write_text("weights")
    exp = registry.create_branch("exp")
    for name in ("a", "b"):
        exp.register(name, "weights.bin", metrics={"auc": 0.5})
    registry.merge("exp")
    registry.revert("main")
    assert registry.models() == []

    registry.undelete("a")

    assert [model.name for model in registry.models()] == ["a"]
    assert registry.sql("SELECT name, value FROM metrics").fetchall() == [("a", 0.5)]


def test_a_deletion_that_is_reverted_is_none(small: Registry) -> None:
    small.register("m", "weights.bin")
    small.delete("m/2")
    deleted = newest(small)
    small.revert(deleted)
    assert small.get("m/2").deleted is False
    with pytest.raises(NotFoundError, match="m/2 is not deleted"):
        small.undelete("m/2")

    small.delete("m/2", reason="leaks")
    with pytest.raises(NotFoundError, match=r"^m/2 was deleted by tester in commit [0-9a-f]{12}: leaks$") as caught:
        small.get("m/2")
    assert caught.value.hint == "`headwater delete m/2 --undo` brings it back"


def test_what_was_deleted_is_reverted_all_the_same(small: Registry) -> None:
    second = small.register("m", "weights.bin")
    small.delete("m/2")
    undone = small.revert(second.commit)
    assert undone.commit is not None
    small.revert(undone.commit)
    with pytest.raises(NotFoundError, match=r"m/2 was (reverted|deleted)"):
        small.get("m/2")
    small.undelete("m/2")
    assert small.get("m/2").version == 2


# -- what was changed since -------------------------------------------------------------------------------------------
def test_what_was_changed_again_can_not_be_undone_before_that(small: Registry) -> None:
    small.register("m", "weights.bin")
    small.register("m", "weights.bin")
    small.set_alias("m", "chosen", 2)
    moved = newest(small)
    small.set_alias("m", "chosen", 3)
    later = newest(small)
    for force in (False, True):
        with pytest.raises(ConflictError) as caught:
            small.revert(moved, force=force)
        assert caught.value.message.startswith("m@chosen was changed since, to m/3, by tester on 20")
        assert caught.value.message.endswith(f"in commit {later[:12]}")
        assert caught.value.hint == f"undo that first: `headwater revert {later[:12]}`"
    assert small.get("m@chosen").version == 3

    small.revert(later)
    small.revert(moved)
    assert small.get("m@chosen").version == 1


def test_a_deployment_that_was_replaced_since_is_not_undone(small: Registry) -> None:
    small.register("m", "weights.bin")
    first = small.deploy("m/1", "production")
    small.deploy("m/2", "production", "canary", 10)
    with pytest.raises(
        ConflictError, match=r"what serves production of m was changed since, to m/1 live 90 %, m/2 can"
    ):
        small.revert(first.commit)


def test_an_alias_does_not_silently_come_to_point_at_what_is_deleted(small: Registry) -> None:
    small.register("m", "weights.bin")
    small.set_alias("m", "chosen", 2)
    moved = newest(small)
    small.delete("m/1")
    with pytest.raises(ConflictError, match=r"rests on it: m@chosen \(m/1\)"):
        small.revert(moved)


# -- what rests on it -------------------------------------------------------------------------------------------------
def test_what_rests_on_it_is_named_and_keeps_it_unless_forced(small: Registry) -> None:
    version = small.get("m/1")
    small.register("m", "weights.bin", base="m/1")
    deployment = small.deploy("m/1", "production")
    Path("p.csv").write_text(PREDICTIONS)
    small.log_predictions("p.csv", deployment)
    before = newest(small)

    with pytest.raises(ConflictError) as caught:
        small.revert(version.commit)
    assert caught.value.message == (
        "'register m/1' can't be undone while something rests on it: m@chosen (m/1), m@champion (m/1),"
        f" what serves production of m (m/1), deployment {deployment.deployment_id} of m/1 in production,"
        " m/2 (derived from m/1)"
    )
    assert (
        caught.value.hint
        == "undo or move that first, or --force undoes it all the same; these then point at something hidden"
    )
    assert newest(small) == before

    done = small.revert(version.commit, force=True)

    assert len(done.dependents) == 5
    assert [each.version for each in small.versions("m")] == [2]
    assert [(each.version, each.live) for each in small.deployments()] == [(1, True)]
    assert small.prediction(small.find_prediction(deployment, "f1").prediction_id).version == 1
    with pytest.raises(NotFoundError, match="m/1 was reverted"):
        small.get("m@chosen")
    with pytest.raises(ConflictError, match="4 predictions of deployment"):
        small.revert(deployment.commit)
    assert small.revert(deployment.commit, force=True).dependents == (
        f"4 predictions of deployment {deployment.deployment_id}",
    )
    assert small.deployments() == []
    assert small.sql("SELECT count(*), any_value(environment) FROM predictions").fetchall() == [(4, "production")]
    prediction = small.sql("SELECT prediction_id FROM predictions LIMIT 1").fetchall()[0][0]
    assert small.prediction(prediction).environment == "production"
    up = {node.kind: node.facts["deleted"] for node in small.trace(f"prediction:{prediction}").nodes[1:]}
    assert up == {"deployment": True, "model": True}


def test_data_and_runs_that_others_were_made_from_are_kept(small: Registry) -> None:
    flights = small.dataset("flights")
    with small.start_run("outer", experiment="e") as outer:
        outer.use("flights")
        made = outer.register("m", "weights.bin")
        with small.start_run("inner", experiment="e", nested=True) as inner:
            pass
    small.add_dataset("late", "weights.bin", derived_from=["flights"])
    with pytest.raises(ConflictError) as caught:
        small.revert(flights.commit)
    for told in (
        "late@1.0.0 (derived from flights@1.0.0)",
        "m/1 (trained on flights@1.0.0)",
        f"run {outer.run_id} (which used flights@1.0.0)",
    ):
        assert told in caught.value.message
    with pytest.raises(ConflictError) as caught:
        small.revert(outer.commit)
    assert f"{made.reference} (made by run {outer.run_id})" in caught.value.message
    assert f"run {inner.run_id} (a part of run {outer.run_id})" in caught.value.message

    done = small.revert(flights.commit, force=True)

    assert len(done.dependents) == 4
    assert small.trained_on("m/1") == ["flights@1.0.0"]
    assert [each.name for each in small.datasets()] == ["late"]
    assert [node.facts["deleted"] for node in small.trace("m/1").nodes if node.kind == "dataset"] == [True]
    with pytest.raises(NotFoundError, match=r"flights@1\.0\.0 was reverted by tester"):
        small.register("m", "weights.bin", data=["flights"])


def test_a_revert_is_not_undone_under_what_came_to_rest_on_it(small: Registry) -> None:
    second = small.register("m", "weights.bin")
    undone = small.revert(second.commit).commit
    assert undone is not None
    again = small.revert(undone).commit
    assert again is not None
    small.set_alias("m", "challenger", 2)
    with pytest.raises(ConflictError, match=r"rests on it: m@challenger \(m/2\)"):
        small.revert(again)
    small.delete_alias("m", "challenger")
    small.revert(again)
    assert [each.version for each in small.versions("m")] == [1]


# -- merges -----------------------------------------------------------------------------------------------------------
def test_a_merge_is_undone_with_all_that_it_brought(small: Registry) -> None:
    exp = small.create_branch("exp")
    exp.register("m", "weights.bin", metrics={"auc": 0.9})
    exp.register("other", "weights.bin")
    exp.set_alias("m", "chosen", 2)
    exp.describe("m", "of the branch")
    with exp.start_run("r", experiment="e") as run:
        run.log_metric("loss", 0.1)
    small.describe("m/1", "of main")
    before = seen(small)
    merge = small.merge("exp")
    assert merge.commit is not None
    after = seen(small)

    undone = small.revert(merge.commit)

    assert seen(small) == before
    assert undone.transactions == 7
    assert undone.message.startswith("merge exp into main")
    assert undone.commit is not None
    small.revert(undone.commit)
    assert seen(small) == after
    with pytest.raises(ConflictError, match="is undone already") as caught:
        small.revert(undone.commit)
    assert caught.value.exit_status == 4


def test_a_merge_is_named_by_its_landing_as_well(small: Registry) -> None:
    exp = small.create_branch("exp")
    exp.tag("m", {"a": "b"})
    merge = small.merge("exp")
    landing = small.head
    assert landing != merge.commit
    assert small.revert(landing, dry_run=True).undone == merge.commit
    assert small.revert("main").undone == merge.commit
    assert small.model("m").tags == {}


def test_a_part_of_a_merge_can_be_undone_before_the_whole(small: Registry) -> None:
    exp = small.create_branch("exp")
    exp.set_alias("m", "a", 1)
    part = newest(exp)
    exp.set_alias("m", "b", 1)
    small.merge("exp")
    merged = newest(small)
    first = small.revert(part)
    assert [each.alias for each in small.aliases("m")] == ["b", "chosen"]

    whole = small.revert(merged)

    assert [each.alias for each in small.aliases("m")] == ["chosen"]
    with pytest.raises(ConflictError, match=f"{part[:12]} is undone already, by {str(first.commit)[:12]}"):
        small.revert(part)
    assert whole.commit is not None
    small.revert(whole.commit)
    assert [each.alias for each in small.aliases("m")] == ["b", "chosen"]


def test_what_another_branch_said_as_well_stands(small: Registry) -> None:
    exp = small.create_branch("exp")
    exp.describe("m", "the same words")
    small.describe("m", "the same words")
    merge = small.merge("exp")
    assert merge.commit is not None
    done = small.revert(merge.commit)
    assert small.model("m").description == "the same words"
    assert [(each.kind, each.before, each.after) for each in done.changes] == [
        ("description", "the same words", "the same words")
    ]


def test_a_conflict_that_a_merge_settled_is_as_it_was_on_the_branch_that_was_merged_into(small: Registry) -> None:
    exp = small.create_branch("exp")
    exp.describe("m", "theirs")
    small.describe("m", "ours")
    merge = small.merge("exp", theirs=True)
    assert merge.commit is not None
    assert small.model("m").description == "theirs"
    small.revert(merge.commit)
    assert small.model("m").description == "ours"


def test_a_settled_merge_undone_gives_back_one_value_where_both_had_moved_on(small: Registry) -> None:
    small.tag("m", {"team": "before"})
    exp = small.create_branch("exp")
    exp.tag("m", {"team": "theirs"})
    small.tag("m", {"team": "ours"})
    merge = small.merge("exp", theirs=True)
    assert merge.commit is not None
    for expected in ("ours", "theirs", "ours"):
        small.revert("main")
        assert small.model("m").tags["team"] == expected
        standing = small.sql("SELECT value FROM standing_events WHERE kind = 'tag' AND key = 'team'").fetchall()
        assert standing == [(expected,)]


def test_a_merge_on_another_branch_that_came_along_is_undone_alone(small: Registry) -> None:
    inner, outer = small.create_branch("inner"), small.create_branch("outer")
    inner.tag("m", {"inner": "1"})
    outer.tag("m", {"outer": "1"})
    merge = outer.merge("inner")
    outer.tag("m", {"later": "1"})
    small.merge("outer")
    assert merge.commit is not None
    assert set(small.model("m").tags) == {"inner", "outer", "later"}

    assert small.revert(merge.commit).transactions == 2

    assert set(small.model("m").tags) == {"outer", "later"}
    small.revert("main")
    assert set(small.model("m").tags) == {"inner", "outer", "later"}


def test_a_revert_is_merged_like_anything_else(small: Registry) -> None:
    second = small.register("m", "weights.bin", metrics={"auc": 0.9})
    exp = small.create_branch("exp")
    exp.revert(second.commit)
    assert [each.version for each in small.versions("m")] == [2, 1]
    small.merge("exp")
    assert [each.version for each in small.versions("m")] == [1]
    assert small.sql("SELECT version FROM metrics").fetchall() == [(1,)]
    small.revert(small.log(limit=1)[0].commit)
    assert [each.version for each in small.versions("m")] == [2, 1]
    assert small.sql("SELECT version FROM metrics ORDER BY ALL").fetchall() == [(1,), (2,)]


def test_one_model_made_on_two_branches_stays_where_one_of_them_is_undone(registry: Registry) -> None:
    Path("weights.bin").write_text("weights")
    exp = registry.create_branch("exp")
    exp.register("m", "weights.bin")
    registry.register("m", "weights.bin")
    merge = registry.merge("exp")
    assert merge.commit is not None
    registry.revert(merge.commit)
    assert [each.version for each in registry.versions("m")] == [2]
    undone = newest(registry)
    registry.revert(registry.get("m/2").commit)
    assert registry.models() == []
    registry.revert(undone)
    assert [each.version for each in registry.versions("m")] == [1]
    registry.revert("main")
    assert registry.models() == []


def test_predictions_that_two_branches_took_in_stay_where_one_of_them_is_undone(small: Registry) -> None:
    deployment = small.deploy("m/1", "production")
    Path("p.csv").write_text(PREDICTIONS)
    exp = small.create_branch("exp")
    first = small.log_predictions("p.csv", deployment)
    exp.log_predictions("p.csv", deployment)
    small.merge("exp")
    small.revert(first.commit)
    assert small.sql("SELECT count(*), count(DISTINCT prediction_id) FROM predictions").fetchall() == [(4, 4)]
    assert small.predictions_of(deployment.deployment_id) == 4
    assert small.find_prediction(deployment, "f1").output == "late"
    small.revert("main")
    assert small.sql("SELECT count(*), count(DISTINCT prediction_id) FROM predictions").fetchall() == [(4, 4)]
    assert small.predictions_of(deployment.deployment_id) == 4
    small.revert(first.commit)
    small.revert(exp.log(limit=1)[0].commit)
    for table, count in (("predictions", 0), ("lake.predictions", 4)):
        assert small.sql(f"SELECT count(*) FROM {table}").fetchall() == [(count,)], table


# -- refusals ---------------------------------------------------------------------------------------------------------
def test_commits_that_can_not_be_undone_are_told_apart(small: Registry) -> None:
    exp = small.create_branch("exp")
    exp.describe("m", "words")
    other = newest(exp)
    first = [commit.id for commit in small._context.lake.log(small.head)][-1]
    cases: list[tuple[str, type[HeadwaterError], str]] = [
        (other, NotFoundError, f"commit {other[:12]} is not in the history of branch 'main'"),
        (first, InvalidInputError, f"commit {first[:12]} holds no transaction that could be undone"),
        ("0" * 64, NotFoundError, "there is no branch, tag or commit"),
        ("00000000", NotFoundError, "there is no branch, tag or commit"),
        (other[:7], NotFoundError, "there is no branch, tag or commit"),
        ("", InvalidInputError, "not a ref"),
        ("../../etc/passwd", NotFoundError, "there is no branch, tag or commit"),
    ]
    before = small.head
    for ref, error, message in cases:
        with pytest.raises(error, match=message):
            small.revert(ref)
    with pytest.raises(InvalidInputError, match="can be read, not written"):
        small.at("main~1").revert("main")
    with pytest.raises(InvalidInputError, match="the reason has 10001 characters"):
        small.revert("main", reason="x" * 10_001)
    assert small.head == before


def test_every_commit_of_a_transaction_names_it(small: Registry) -> None:
    version = small.register("m", "weights.bin")
    lake = small._context.lake
    landing = lake.get_commit(small.head)
    upload = lake.get_commit(lake.get_commit(landing.parents[1]).parents[0])
    assert upload.metadata["headwater.kind"] == "upload"
    for ref in (landing.id, landing.parents[1], upload.id, version.commit[:8], "main"):
        assert small.revert(ref, dry_run=True).undone == version.commit


def test_a_dry_run_says_everything_and_writes_nothing(small: Registry) -> None:
    version = small.get("m/1")
    before = small.head
    would = small.revert(version.commit, dry_run=True)
    assert small.head == before
    assert (would.commit, would.dry_run, would.dependents) == (None, True, ("m@chosen (m/1)",))
    done = small.revert(version.commit, force=True)
    assert done.changes == would.changes
    assert done.dependents == would.dependents


def test_of_two_who_undo_the_same_one_comes_too_late(small: Registry) -> None:
    commit = newest(small)
    found: list[Revert | HeadwaterError] = []

    def undo() -> None:
        with headwater.open(small.url, actor="other") as another:
            try:
                found.append(another.revert(commit))
            except HeadwaterError as error:
                found.append(error)

    threads = [threading.Thread(target=undo) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(isinstance(each, Revert) for each in found) == 1
    late = [each for each in found if not isinstance(each, Revert)]
    assert len(late) == 3
    assert all("is undone already" in str(each) for each in late), late
    assert small.aliases("m") == []


def test_of_two_tombstones_that_disagree_the_one_that_hides_stands(small: Registry) -> None:
    small.register("m", "weights.bin")
    small.delete("m/2")
    exp = small.create_branch("exp")
    exp.undelete("m/2")
    small.revert(newest(small))
    small.delete("m/2")
    small.merge("exp")
    assert [each.version for each in small.versions("m")] == [1]
    with pytest.raises(NotFoundError, match="m/2 was deleted"):
        small.get("m/2")


# -- on the command line ----------------------------------------------------------------------------------------------
def test_the_command_says_what_it_did(small: Registry, registry_url: str) -> None:
    cli = CommandLine()
    small.register("m", "weights.bin", metrics={"auc": 0.9})
    small.set_alias("m", "chosen", 2)
    moved, registered = (entry.commit for entry in small.log(limit=2))
    at = ("--lake", registry_url, "--actor", "ann")

    dry = cli.out(*at, "revert", moved[:12], "--dry-run")
    assert dry.splitlines() == [
        f"{moved[:12]} would be undone: alias m@chosen is version 2, was 1",
        "  m@chosen: m/1, was m/2",
    ]
    kind, message, hint = cli.error(*at, "revert", registered, status=4)
    assert (kind, message) == (
        "ConflictError",
        "'register m/2' can't be undone while something rests on it: m@chosen (m/2)",
    )
    assert hint == "undo or move that first, or --force undoes it all the same; these then point at something hidden"
    done = cli.json(*at, "revert", moved[:12], "--reason", "worse on JFK")
    assert done["undone"] == moved
    assert done["reason"] == "worse on JFK"
    assert done["changes"] == [{"kind": "alias", "name": "m@chosen", "before": "m/2", "after": "m/1"}]
    assert cli.json(*at, "log", "--limit", 1)[0]["commit"] == done["commit"]
    cli(*at, "alias", "set", "m", "challenger", 2)
    forced = cli(*at, "revert", registered, "--force")
    assert forced.stdout.splitlines()[1] == "  m/2: reverted"
    assert forced.stderr.splitlines() == ["something rests on what is reverted:", "  m@challenger (m/2)"]
    assert cli.error(*at, "revert", registered, status=4)[1].startswith(f"commit {registered[:12]} is undone already")
    assert cli.error(*at, "revert", "nothing", status=1)[0] == "NotFoundError"
    assert cli.error(*at, "revert", status=2)[0] == "UsageError"


def test_what_was_reverted_says_so_when_it_is_shown(small: Registry, registry_url: str) -> None:
    cli = CommandLine()
    at = ("--lake", registry_url)
    made: dict[str, str] = {}
    for reference, act in {
        "m/2": lambda: small.register("m", "weights.bin"),
        "late@1.0.0": lambda: small.add_dataset("late", "weights.bin"),
        "rough@1.0.0": lambda: small.add_dataset("rough", "flights.csv"),
        "deployment": lambda: small.deploy("m/1", "production"),
        "run": lambda: small.start_run("r", experiment="e"),
        "other": lambda: small.register("other", "weights.bin"),
    }.items():
        thing: Any = act()
        commit = newest(small)
        name = (
            reference if reference not in ("deployment", "run") else f"{reference} {getattr(thing, reference + '_id')}"
        )
        if isinstance(thing, headwater.Run):
            thing.finish()
        undone = small.revert(commit).commit
        assert undone is not None
        made[name] = undone
    for name, undone in made.items():
        asked = name.replace(" ", ":") if name != "rough@1.0.0" else "rough"
        _, message, hint = cli.error(*at, "show", asked, status=1)
        said = message if name != "other" else hint.replace("it was", "other was").replace("; ", ": ")
        assert f"{name} was reverted by tester in commit {undone[:12]}" in said
        assert f"`headwater revert {undone[:12]}` brings it back" in hint
    assert json.loads(cli.out(*at, "sql", "--format", "json", "SELECT count(*) AS n FROM hidden"))[0]["n"] >= 6
    assert cli.out(*at, "runs") == cli.out(*at, "deployments") == ""


# -- whatever is undone -----------------------------------------------------------------------------------------------
def undone_now(done: list[tuple[str, Any]]) -> set[int]:
    """Return the positions of what is undone, by a revert that is not undone itself."""
    found: set[int] = set()
    for position in range(len(done) - 1, -1, -1):
        if done[position][0] == "revert" and position not in found:
            found.add(done[position][1])
    return found


@pytest.mark.parametrize("seed", [3, 12])
def test_what_stands_is_the_last_that_is_not_undone_whatever_is_reverted(
    registry: Registry, seed: int, is_remote: bool
) -> None:
    chance = random.Random(seed)
    Path("weights.bin").write_text("weights")
    registry.register("m", "weights.bin")
    done: list[tuple[str, Any]] = []
    commits: list[str] = []
    refused = 0
    for step in range(30 if is_remote else 80):
        if not done or chance.random() < 0.4:
            done.append((chance.choice("ab"), str(step)))
            registry.tag("m", dict([done[-1]]))
        else:
            target = chance.randrange(max(0, len(done) - 8), len(done))
            before = undone_now(done)
            said = ""
            try:
                registry.revert(commits[target])
            except ConflictError as error:
                said = error.message
            assert ("is undone already" in said) is (target in before), (done, target)
            if said:
                refused += 1
                continue
            done.append(("revert", target))
        commits.append(newest(registry))
        gone = undone_now(done)
        stands = dict(each for at, each in enumerate(done) if each[0] != "revert" and at not in gone)
        assert registry.model("m").tags == stands, done
    assert refused


def test_traffic_that_something_else_wrote_is_told_of_and_not_undone(small: Registry) -> None:
    deployment = small.deploy("m/1", "production")

    def forge(tx: Any) -> None:
        tx.event(small.get("m/1").model_id, "traffic", "not json", key="production")

    small._context.write("forged", forge)
    before = small.head
    with pytest.raises(IntegrityError, match="an event of traffic says nothing that can be read"):
        small.revert(small.get("m/1").commit)
    assert small.head == before
    assert deployment.version == 1
