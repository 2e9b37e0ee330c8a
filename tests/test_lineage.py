"""The lineage: from any thing back to data and code, and forwards to predictions, on both lakes and in SQL."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lineage_world import CODE, REPOSITORY, World, deploy, link, make_world, predict, save

import headwater
from headwater.errors import InvalidInputError, LakeError, NotFoundError
from headwater.ids import new_id
from headwater.lineage import Lineage
from headwater.registry import Registry

CODE_URN = f"code:{REPOSITORY}@{CODE['commit']}"


@pytest.fixture
def world(registry: Registry, tmp_path: Path) -> World:
    return make_world(registry, tmp_path)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry on the embedded lake, for what does not depend on the kind of lake."""
    monkeypatch.chdir(tmp_path)
    with headwater.create(str(tmp_path / "lake"), actor="tester") as registry:
        yield registry


def edges(found: Lineage) -> set[tuple[str, str, str]]:
    return {(edge.source, edge.relation, edge.target) for edge in found.edges}


def urns(found: Lineage) -> set[str]:
    return {node.urn for node in found.nodes}


def in_sql(registry: Registry, macro: str, urn: str) -> dict[str, dict[str, Any]]:
    return {row["urn"]: row for row in registry.sql(f"FROM {macro}($urn)", {"urn": urn}).dicts()}


def check_against_sql(registry: Registry, urn: str) -> None:
    """The macros find the same nodes, as near to the root, over edges that Python knows too."""
    for macro in ("trace", "impact"):
        found = getattr(registry, macro)(urn)
        rows = in_sql(registry, macro, urn)
        assert set(rows) == urns(found), (macro, urn)
        known = edges(found)
        near, frontier = {found.root: 0}, [found.root]
        while frontier:
            here = frontier.pop(0)
            for source, _, target in known:
                start, there = (target, source) if macro == "trace" else (source, target)
                if start == here and there not in near:
                    near[there] = near[here] + 1
                    frontier.append(there)
        assert {each: row["depth"] for each, row in rows.items()} == near
        for node in found.nodes:
            row = rows[node.urn]
            assert (row["kind"], row["id"]) == (node.kind, node.id)
            for name in ("commit", "path", "digest", "rows"):
                if row[name] is not None:
                    assert row[name] == node.facts[name], (node.urn, name)
            if node.kind == "deployment":
                assert row["predictions"] == node.facts["predictions"]
            if row["depth"]:
                parent = (row["parent_urn"], row["urn"])
                source, target = parent[::-1] if macro == "trace" else parent
                assert (source, row["relation"], target) in known


# -- up ---------------------------------------------------------------------------------------------------------------
def test_a_prediction_is_traced_to_its_data_and_code(world: World) -> None:
    registry = world.registry
    found = registry.trace(f"prediction:{world.prediction}")
    deployment, run = f"deployment:{world.deployments['live']}", f"run:{world.run_id}"
    assert found.root == f"prediction:{world.prediction}"
    assert found.direction == "up"
    assert edges(found) == {
        (deployment, "predicted", found.root),
        ("model:flight-delay/1", "deployed", deployment),
        (run, "produced", "model:flight-delay/1"),
        ("dataset:flights@1.1.0", "trained", "model:flight-delay/1"),
        ("dataset:flights@1.1.0", "used", run),
        (CODE_URN, "built", run),
        ("dataset:raw@1.0.0", "derived", "dataset:flights@1.1.0"),
    }
    assert (found.files_read, found.files_total) == (1, 2)
    assert found.notes == ("1 of 2 files of predictions were read",)
    data, expected = found.node("dataset:flights@1.1.0").facts, registry.dataset("flights@1.1.0")
    assert (data["commit"], data["path"], data["digest"], data["rows"]) == (
        expected.commit,
        expected.path,
        expected.digest,
        12,
    )
    model = found.node("model:flight-delay/1").facts
    # then it was champion in production; another version is now
    assert (model["stage"], model["aliases"], model["deleted"]) == ("production", ["champion"], False)
    assert registry.get("flight-delay/1").stage == "archived"
    assert model["commit"] == registry.get("flight-delay/1").commit
    code = found.node(CODE_URN).facts
    assert (code["repository"], code["commit"], code["dirty"], code["branch"]) == (
        REPOSITORY,
        CODE["commit"],
        True,
        "main",
    )
    prediction = found.node(found.root).facts
    assert (prediction["output"], prediction["input"]) == ("late", '{"origin": "JFK", "n": 3}')
    assert found.node(run).facts["status"] == "finished"
    assert found.node(deployment).facts["percent"] == 95
    check_against_sql(registry, found.root)


def test_every_kind_of_thing_is_traced_and_has_an_impact(world: World) -> None:
    registry = world.registry
    file = registry.files("flight-delay/1")[0].path
    head = registry.head
    path = f"{registry.trace('flight-delay/1').nodes[0].facts['path']}{file}"
    data = registry.dataset("flights@1.1.0")
    for urn, root in [
        ("flight-delay/1", "model:flight-delay/1"),
        ("model:flight-delay@champion", "model:flight-delay/2"),
        ("models:/flight-delay/1", "model:flight-delay/1"),
        (f"model:{world.versions[0]}", "model:flight-delay/1"),
        ("model:flight-delay", "model:flight-delay"),
        ("flights@1.1.0", "dataset:flights@1.1.0"),
        ("flights", "dataset:flights@2.0.0"),
        (f"dataset:{data.dataset_id}", "dataset:flights@1.1.0"),
        (f"run:{world.run_id}", f"run:{world.run_id}"),
        (f"run:{world.run_id[:28]}", f"run:{world.run_id}"),
        (f"deployment:{world.deployments['live']}", f"deployment:{world.deployments['live']}"),
        (CODE_URN[:-30], CODE_URN),
        (f"object:{path}@{head}", f"object:{path}@{head}"),
        (f"object:{data.path}f.parquet@{head}", f"object:{data.path}f.parquet@{head}"),
    ]:
        assert registry.trace(urn).root == root
        check_against_sql(registry, urn)
    assert edges(registry.trace(f"object:{path}@main")) >= {
        ("model:flight-delay/1", "holds", f"object:{path}@{head}"),
        ("dataset:raw@1.0.0", "derived", "dataset:flights@1.1.0"),
    }
    versions = {"model:flight-delay/1", "model:flight-delay/2"}
    assert {node.urn for node in registry.trace("model:flight-delay").nodes} >= versions
    now = registry.trace("flight-delay/1").node("model:flight-delay/1").facts
    assert (now["stage"], now["aliases"]) == ("archived", [])


def test_what_is_not_there_or_not_clear_is_said(world: World, tmp_path: Path) -> None:
    registry = world.registry
    registry.add_dataset("flight-delay", save(tmp_path / "x.parquet", {"a": [1]}))
    for urn, message, hint in [
        (f"prediction:{new_id()}", "there is no prediction", "landed"),
        (f"run:{new_id()}", "there is no run", "headwater runs"),
        (f"deployment:{new_id()}", "there is no deployment", "headwater deployments"),
        (f"model:{new_id()}", "there is no model", "headwater models"),
        ("flight-delay/9", "there is no version flight-delay/9", "versions"),
        ("flight-delay@nobody", "has no alias 'nobody'", "alias list"),
        ("nothing", "there is no model nothing", ""),
        ("flights@9.0.0", "there is no version flights@9.0.0", "newest"),
        ("code:elsewhere@abcd", "nothing was made with code:elsewhere@abcd", "headwater show"),
        (f"code:{REPOSITORY}@ffff", "nothing was made with", CODE_URN),
        ("object:nothing/here@main", "nothing/here", ""),
        ("object:artifacts/x@no-such-ref", "no-such-ref", ""),
        ("object:tables/models/_delta_log/00000000000000000000.json@main", "is no part of a model", "file"),
    ]:
        for ask in (registry.trace, registry.impact):
            with pytest.raises(NotFoundError) as caught:
                ask(urn)
            assert message in caught.value.message
            assert hint in caught.value.hint
    for urn, message, hint in [
        ("flight-delay", "is both a model and a dataset", "model:flight-delay or dataset:flight-delay"),
        ("folder:x", "there is no kind of URN 'folder'", "model, dataset, run"),
        (f"prediction:{world.prediction[:8]}", "not the ID of a prediction", "the whole ID"),
    ]:
        with pytest.raises(InvalidInputError) as refused:
            registry.trace(urn)
        assert message in refused.value.message
        assert hint in refused.value.hint


def test_parts_of_ids_that_several_have_are_refused(local: Registry, tmp_path: Path) -> None:
    world = make_world(local, tmp_path)
    link(local, (f"code:{REPOSITORY}@{'3f2a' + 'b' * 36}", "built", f"model:{world.versions[1]}"))
    with pytest.raises(InvalidInputError, match="several commits"):
        local.trace(f"code:{REPOSITORY}@3f2a")
    with pytest.raises(InvalidInputError, match="several deployments have an ID"):
        local.trace(f"deployment:{world.deployments['live'][:8]}")


def test_a_deleted_version_is_traced_and_said_to_be_deleted(world: World) -> None:
    registry = world.registry
    registry.delete_alias("flight-delay", "champion")
    for deployment in registry.deployments("flight-delay"):
        if deployment.live:
            registry.undeploy(deployment.deployment_id)
    registry.delete("flight-delay/1")
    found = registry.trace(f"prediction:{world.prediction}")
    assert found.node("model:flight-delay/1").facts["deleted"] is True
    assert "deleted" in str(found)
    assert registry.trace("flight-delay/1").root == "model:flight-delay/1"
    registry.delete("flight-delay")
    found = registry.trace(f"prediction:{world.prediction}")
    assert found.node("model:flight-delay/1").facts["deleted"] is True
    check_against_sql(registry, found.root)
    rows = registry.sql(
        "SELECT name, version, deleted FROM prediction_lineage WHERE prediction_id = $id", {"id": world.prediction}
    )
    assert rows.fetchall() == [("flight-delay", 1, True)]


def test_the_past_is_traced_as_it_was(world: World) -> None:
    registry = world.registry
    before = registry.at(registry.get("flight-delay/1").commit)
    with pytest.raises(NotFoundError):
        before.trace(f"prediction:{world.prediction}")
    assert before.impact("flights@1.1.0").totals["predictions"] == 0


def test_a_prediction_whose_deployment_is_unknown_leads_to_its_version(local: Registry, tmp_path: Path) -> None:
    world = make_world(local, tmp_path)
    (made,) = predict(local, new_id(), world.versions[0], 1)
    assert (f"model:{'flight-delay/1'}", "predicted", f"prediction:{made}") in edges(local.trace(f"prediction:{made}"))
    check_against_sql(local, f"prediction:{made}")


def test_a_prediction_on_a_datasets_row_leads_to_the_dataset(local: Registry, tmp_path: Path) -> None:
    world = make_world(local, tmp_path)
    made, data = new_id(), local.dataset("flights@2.0.0")
    local._context.write(
        "predictions",
        lambda tx: tx.append(
            "predictions",
            prediction_id=made,
            predicted_at=tx.micros,
            deployment_id=world.deployments["live"],
            version_id=world.versions[0],
            dataset_id=data.dataset_id,
            row_key='{"id": 3}',
        ),
    )
    found = local.trace(f"prediction:{made}")
    assert ("dataset:flights@2.0.0", "described", f"prediction:{made}") in edges(found)
    assert 'row {"id": 3}' in str(found)
    check_against_sql(local, f"prediction:{made}")


def test_stages_and_aliases_are_those_of_the_moment(local: Registry, tmp_path: Path) -> None:
    world = make_world(local, tmp_path)
    champion = "SELECT version FROM alias_at('flight-delay', 'champion', $t::TIMESTAMPTZ)"
    for place, _ in enumerate(local.log()):
        moment = local.log()[place].recorded_at
        (made,) = predict(
            local, world.deployments["live"], world.versions[0], 1, micros=int(moment.timestamp() * 1_000_000)
        )
        node = local.trace(f"prediction:{made}").node("model:flight-delay/1")
        pointed = local.sql(champion, {"t": moment.isoformat()}).fetchall()
        assert node.facts["aliases"] == (["champion"] if pointed == [(1,)] else []), moment


# -- down -------------------------------------------------------------------------------------------------------------
def test_what_came_of_a_dataset_is_counted(world: World) -> None:
    registry = world.registry
    found = registry.impact("dataset:raw@1.0.0")
    assert found.totals == {
        "datasets": 2,
        "runs": 1,
        "versions": 2,
        "deployments": 3,
        "live_deployments": 2,
        "predictions": 50,
    }
    ended = found.node(f"deployment:{world.deployments['ended']}").facts
    live = found.node(f"deployment:{world.deployments['live']}").facts
    assert (ended["live"], ended["percent"], ended["predictions"]) == (False, None, 20)
    assert (live["live"], live["percent"], live["predictions"], live["mode"]) == (True, 95, 30, "live")
    predict(registry, world.deployments["live"], world.versions[0], 5)
    assert registry.impact("flights@1.1.0").totals["predictions"] == 35
    assert registry.impact(CODE_URN).totals["predictions"] == 35
    assert registry.impact("flights@2.0.0").totals == {"live_deployments": 0, "predictions": 0}
    assert registry.impact(f"prediction:{world.prediction}").edges == ()
    assert registry.impact(f"deployment:{world.deployments['ended']}").totals["predictions"] == 20


def test_a_base_model_and_a_dataset_that_a_run_made_are_on_the_way(local: Registry, tmp_path: Path) -> None:
    world = make_world(local, tmp_path)
    derived = local.add_dataset("clean", save(tmp_path / "c.parquet", {"a": [1]}))
    child = local.register("tuned", tmp_path / "model.bin", base="flight-delay/1", data=["clean"], code=tmp_path)
    link(local, (f"run:{world.run_id}", "produced", f"dataset:{derived.dataset_id}"))
    found = local.impact("flights@1.1.0")
    assert edges(found) >= {
        ("model:flight-delay/1", "derived", "model:tuned/1"),
        (f"run:{world.run_id}", "produced", "dataset:clean@1.0.0"),
        ("dataset:clean@1.0.0", "trained", "model:tuned/1"),
    }
    assert child.base_version_id == world.versions[0]
    check_against_sql(local, "tuned/1")
    check_against_sql(local, "flights@1.1.0")


def test_a_cycle_ends(local: Registry, tmp_path: Path) -> None:
    ids = [local.add_dataset(name, save(tmp_path / "x.parquet", {name: [1]})).dataset_id for name in "abc"]
    pairs = zip(ids, [*ids[1:], ids[0]], strict=True)
    link(local, *((f"dataset:{a}", "derived", f"dataset:{b}") for a, b in pairs))
    link(local, (f"dataset:{ids[0]}", "derived", f"dataset:{ids[0]}"))
    for name in "abc":
        found = local.trace(f"dataset:{name}")
        assert len(found.nodes) == 3
        assert len(found.edges) == 4
        for form in ("tree", "mermaid", "svg", "json", "openlineage"):
            assert found.render(form)
        check_against_sql(local, f"dataset:{name}")


def test_a_chain_of_ten_thousand_is_walked_to_its_end(local: Registry, tmp_path: Path) -> None:
    first = local.add_dataset("a", save(tmp_path / "x.parquet", {"a": [1]}))
    chain = [f"dataset:{first.dataset_id}", *(f"dataset:{new_id()}" for _ in range(10_000))]
    link(local, *((a, "derived", b) for a, b in itertools.pairwise(chain)))
    found = local.impact("a@1.0.0")
    assert len(found.nodes) == 10_001
    assert len(str(found).splitlines()) > 10_000
    assert found.render("mermaid").count("-->") == 10_000
    with pytest.raises(InvalidInputError, match=r"a picture of 10,001 nodes"):
        found.render("svg")
    assert found._repr_svg_() is None
    assert found._repr_html_() is None


def test_an_edge_to_what_no_row_tells_of_is_kept(local: Registry, tmp_path: Path) -> None:
    world = make_world(local, tmp_path)
    strangers = [f"run:{new_id()}", f"dataset:{new_id()}", f"model:{new_id()}"]
    link(local, *((each, "used", f"run:{world.run_id}") for each in strangers))
    found = local.trace("flight-delay/1")
    for each in strangers:
        assert found.node(each).facts == {"unknown": True}
    assert "nothing is known of it here" in str(found)
    for form in ("mermaid", "svg", "json", "openlineage"):
        assert found.render(form)


def test_names_of_other_registries_are_quoted_and_escaped(local: Registry, tmp_path: Path) -> None:
    name, hostile = 'A "b"/c', "<script>&'\x1b]8;;"
    world = make_world(local, tmp_path)

    def work(tx: Any) -> None:
        model = tx.fold.one("SELECT model_id FROM models")[0]
        tx.event(model, "name", hostile)
        row = dict.fromkeys(("changes", "content"), None)
        dataset_id = "0192f3a1-6c1e-7cc1-8f6e-3a5d1c2b4e5f"
        tx.append(
            "datasets", dataset_id=dataset_id, name="x/y z", semver="1.0.0", path="p/", digest="d", bytes=1, files=[],
            format="files", key=[], **row,
        )  # fmt: skip
        tx.append("lineage", source=f"dataset:{dataset_id}", relation="trained", target=f"model:{world.versions[0]}")

    local._context.write("import", work)
    found = local.trace(f"model:{world.versions[0]}")
    assert 'dataset:"x/y z"@1.0.0' in urns(found)
    assert local.trace('dataset:"x/y z"').root == 'dataset:"x/y z"@1.0.0'
    for form in ("svg", "mermaid"):
        text = found.render(form)
        assert "<script" not in text
        assert "\x1b" not in text
    assert "\x1b" not in str(found)
    assert in_sql(local, "trace", 'dataset:"x/y z"@1.0.0')
    assert name  # the name with quotes can't be written in a reference, and its ID can: see above


# -- the form of it ---------------------------------------------------------------------------------------------------
def test_a_lineage_shows_itself(world: World) -> None:
    found = world.registry.trace(f"prediction:{world.prediction}")
    text = str(found)
    assert text.splitlines()[0] == f"prediction:{world.prediction}"
    assert "of model:flight-delay/1" in text
    assert "production @champion on " in text
    assert "with changes that were not committed" in text
    assert text.count("dataset:flights@1.1.0") == 2
    assert text.count("dataset:raw@1.0.0") == 1
    assert "dataset:flights@1.1.0 (above)" in text
    assert found._repr_svg_() is not None
    assert "<svg" in str(found._repr_html_())
    document = json.loads(found.render("json"))
    assert document["root"] == found.root
    assert {"urn", "kind", "id", "label", "commit", "path", "digest", "rows"} <= set(
        next(node for node in document["nodes"] if node["kind"] == "dataset")
    )
    assert {"source", "relation", "target"} == set(document["edges"][0])
    down = str(world.registry.impact("raw@1.0.0"))
    assert "in all: 2 dataset versions, 1 run, 2 model versions, 3 deployments, 2 of them live, 50 predictions" in down
    with pytest.raises(InvalidInputError, match="there is no form 'dot'") as caught:
        found.render("dot")
    assert "mermaid" in caught.value.hint
    with pytest.raises(KeyError):
        found.node("model:other/1")


def test_without_openlineage_it_says_what_to_install(
    local: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    world = make_world(local, tmp_path)
    monkeypatch.setitem(sys.modules, "openlineage.client.serde", None)
    with pytest.raises(LakeError) as caught:
        local.trace(f"prediction:{world.prediction}").render("openlineage")
    assert "headwater[openlineage]" in caught.value.hint


# -- SQL --------------------------------------------------------------------------------------------------------------
def test_one_row_tells_where_a_prediction_comes_from(world: World) -> None:
    registry = world.registry
    (row,) = registry.sql("FROM prediction_lineage WHERE prediction_id = $id", {"id": world.prediction}).dicts()
    version, data = registry.get("flight-delay/1"), registry.dataset("flights@1.1.0")
    assert (row["name"], row["version"], row["version_id"], row["commit"]) == (
        "flight-delay",
        1,
        version.version_id,
        version.commit,
    )
    assert (row["deployment_id"], row["environment"], row["mode"]) == (world.deployments["live"], "production", "live")
    assert row["run_id"] == world.run_id
    assert row["datasets"] == [
        {
            "dataset": "flights",
            "semver": "1.1.0",
            "dataset_id": data.dataset_id,
            "commit": data.commit,
            "path": data.path,
            "digest": data.digest,
            "rows": 12,
        }
    ]
    assert (row["output"], row["deleted"]) == ("late", False)
    total = registry.sql("SELECT deployment_id, count(*) FROM prediction_lineage GROUP BY ALL").fetchall()
    assert dict(total) == {world.deployments["live"]: 30, world.deployments["ended"]: 20}
    lineage = registry.sql("SELECT version, [d.semver FOR d IN datasets], run_id FROM version_lineage ORDER BY version")
    assert lineage.fetchall() == [(1, ["1.1.0"], world.run_id), (2, ["1.0.0"], None)]


def test_what_is_not_there_has_no_rows_in_sql(world: World) -> None:
    for urn in ("nothing", f"prediction:{new_id()}", "flight-delay/9", "flights@9.9.9", "'; DROP"):
        for macro in ("trace", "impact"):
            assert in_sql(world.registry, macro, urn) == {}


def test_a_shadow_deployment_made_later_is_seen(world: World) -> None:
    deployment = deploy(world.registry, "flight-delay/1", "canary", mode="canary", percent=5)
    found = world.registry.impact("flight-delay/1")
    assert found.node(f"deployment:{deployment}").facts["percent"] == 5
