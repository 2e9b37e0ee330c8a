"""The log: of the lake, of one thing, of all branches, and as a graph."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.command_line import CommandLine

from headwater.cli.lanes import lanes
from headwater.commit_graph import contracted, newest_first
from headwater.errors import InvalidInputError, NotFoundError
from headwater.registry import Registry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.csv"
    path.write_text("id,x\n1,2\n")
    return path


def _messages(registry: Registry, reference: str | None = None, *, every_branch: bool = False) -> list[str]:
    return [each.message for each in registry.log(reference, every_branch=every_branch)]


# -- of one thing -----------------------------------------------------------------------------------------------------
def test_the_log_of_one_thing_has_what_concerns_it(registry: Registry, model: Path) -> None:
    data = registry.add_dataset("flights", model, key=["id"])
    with registry.start_run("train", experiment="e") as run:
        run.use("flights")
        run.log_metric("auc", 0.5)
        run.register("m", model)
    registry.set_alias("m", "chosen", 1)
    deployment = registry.deploy("m/1", to="production")
    registry.register("other", model)
    registry.undeploy(deployment.deployment_id)
    started = f"run {run.run_id} of e: train"
    assert _messages(registry, "flights") == _messages(registry, "dataset:flights@1.0.0")
    assert _messages(registry, f"dataset:{data.name}") == ["data add flights@1.0.0"]
    of_run = _messages(registry, f"run:{run.run_id}")
    assert of_run[0].endswith("finished")
    assert of_run[-1] == started
    assert "register m/1" in of_run
    assert _messages(registry, f"run:{run.run_id[:18]}") == _messages(registry, run.run_id) == of_run
    of_deployment = _messages(registry, f"deployment:{deployment.deployment_id}")
    assert len(of_deployment) == 2
    assert all("production" in each for each in of_deployment)
    assert _messages(registry, "model:m/1") == _messages(registry, "m/1")
    assert "alias m@chosen is version 1" in _messages(registry, "m/1")
    assert _messages(registry, "models:/m@chosen") == ["alias m@chosen is version 1"]
    path = registry.get("m/1").path
    assert "register m/1" in _messages(registry, f"object:{path}{registry.files('m/1')[0].path}@main")
    for reference in ("m", "flights", f"run:{run.run_id}", "m@chosen"):
        commits = {each.commit for each in registry.log(reference)}
        assert commits < {each.commit for each in registry.log()}
        assert [each.entry.commit for each in registry.log_graph(reference)] == [
            each.commit for each in registry.log(reference)
        ]


def test_the_log_of_code_has_the_runs_that_used_it(registry: Registry, model: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing was made with"):
        registry.log("code:git@example.org:team/repository@deadbeef")


def test_a_log_of_what_is_not_there_is_refused(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    registry.create_tag("release-1")
    for reference in ("nope", "m/2", "m@nope", "nope@1.0.0", "run:deadbeef", "deployment:deadbeef", "dataset:nope"):
        with pytest.raises(NotFoundError):
            registry.log(reference)
        with pytest.raises(NotFoundError):
            registry.log(reference, every_branch=True)
    for reference in ("m/x", "run:x", "colour:red", "", "a\0b", "object:a"):
        with pytest.raises(InvalidInputError):
            registry.log(reference)
    for ref in ("main", "release-1", registry.head, registry.head[:12], "main~1"):
        with pytest.raises(InvalidInputError, match=r"is a (branch|tag|commit)") as caught:
            registry.log(ref)
        assert f"headwater log --ref {ref}" in caught.value.hint


def test_a_name_that_is_a_model_s_and_a_dataset_s_is_not_guessed_at(registry: Registry, model: Path) -> None:
    registry.register("flights", model)
    registry.add_dataset("flights", model)
    with pytest.raises(InvalidInputError, match="both a model and a dataset") as caught:
        registry.log("flights")
    assert "model:flights or dataset:flights" in caught.value.hint
    assert _messages(registry, "model:flights") == ["register flights/1"]
    assert _messages(registry, "dataset:flights") == ["data add flights@1.0.0"]


# -- branches and merges ----------------------------------------------------------------------------------------------
@pytest.fixture
def merged(registry: Registry, model: Path) -> Registry:
    """`main` with `exp` merged into it, both gone on since."""
    registry.register("m", model)  # m/1
    exp = registry.create_branch("exp")
    exp.register("m", model)  # m/2
    registry.register("m", model)  # m/3
    exp.register("m", model)  # m/4
    registry.merge("exp")
    exp.register("m", model)  # m/5
    registry.set_alias("m", "chosen", 1)
    return registry


def _edges(registry: Registry, reference: str | None = None, **named: bool) -> dict[str, list[str]]:
    """Return by message the messages of what each transaction stands on."""
    rows = registry.log_graph(reference, **named)
    said = {row.entry.commit: row.entry.message for row in rows}
    return {row.entry.message: [said[commit] for commit in row.onto] for row in rows}


def test_the_graph_shows_where_branches_parted_and_met(merged: Registry) -> None:
    merge = "merge exp into main: 2 versions"
    on_main = {
        "alias m@chosen is version 1": [merge],
        merge: ["register m/3", "register m/4"],
        "register m/4": ["register m/2"],
        "register m/3": ["register m/1"],
        "register m/2": ["register m/1"],
        "register m/1": ["make a registry"],
        "make a registry": [],
    }
    assert _edges(merged) == on_main
    assert _edges(merged, every_branch=True) == {**on_main, "register m/5": ["register m/4"]}
    assert _edges(merged.branch("exp"), every_branch=True) == _edges(merged, every_branch=True)
    # What is left out is seen through.
    assert _edges(merged, "m@chosen") == {"alias m@chosen is version 1": []}
    assert _edges(merged, "m")["alias m@chosen is version 1"] == ["register m/3", "register m/4"]
    assert _edges(merged, "m/5", every_branch=True) == {"register m/5": []}
    with pytest.raises(NotFoundError):
        merged.log_graph("m/5")


def test_rows_come_newest_first_and_before_what_they_stand_on(merged: Registry) -> None:
    for limit in (None, 1, 3, 100):
        rows = merged.log_graph(every_branch=True, limit=limit)
        whole = merged.log_graph(every_branch=True)
        assert [row.entry.commit for row in rows] == [row.entry.commit for row in whole][:limit]
        assert [row.onto for row in rows] == [row.onto for row in whole][:limit]
        places = {row.entry.commit: place for place, row in enumerate(rows)}
        for row in rows:
            assert all(places.get(commit, 100) > places[row.entry.commit] for commit in row.onto)
    assert [each.entry for each in merged.log_graph()] == sorted(
        merged.log(), key=lambda entry: entry.recorded_at, reverse=True
    )
    assert merged.log(every_branch=True) == [row.entry for row in whole]


def test_branches_and_tags_are_named_at_what_they_show_last(merged: Registry) -> None:
    merged.create_tag("release-1", "main~1")
    merged.create_tag("same")
    merged.create_branch("same-as-main")
    named = {row.entry.message: row.refs for row in merged.log_graph(every_branch=True) if row.refs}
    assert named == {
        "alias m@chosen is version 1": ("main", "same-as-main", "tag: same"),
        "register m/5": ("exp",),
        "merge exp into main: 2 versions": ("tag: release-1",),
    }
    assert not any(row.refs for row in merged.log_graph("m"))


def test_the_log_of_a_criss_cross_has_everything_once(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    exp = registry.create_branch("exp")
    for _ in range(3):
        exp.register("m", model)
        registry.register("m", model)
        heads = exp.head, registry.head
        registry.merge(heads[0])
        exp.merge(heads[1])
    both = [registry.log(every_branch=True), exp.log(every_branch=True)]
    assert both[0] == both[1]
    assert len({each.commit for each in both[0]}) == len(both[0]) == 2 + 6 + 6
    for view in (registry, exp):
        own = [each.commit for each in view.log()]
        assert len(own) == len(set(own))
        assert {each for each in own} == {row.entry.commit for row in view.log_graph()}


# -- the drawing ------------------------------------------------------------------------------------------------------
def _drawn(*rows: str, ascii: bool = False) -> list[str]:
    split = [(row[0], row[1:]) for row in rows]
    return [f"{text} {commit}" if commit else text for text, commit in lanes(split, ascii=ascii)]


def test_a_line_is_drawn_as_one_lane() -> None:
    assert _drawn("cb", "ba", "a") == ["● c", "● b", "● a"]


def test_a_merge_is_drawn_as_two_lanes_that_meet() -> None:
    assert _drawn("mcy", "cb", "yx", "xa", "ba", "a") == [
        "● m",
        "├─╮",
        "● │ c",
        "│ ● y",
        "│ ● x",
        "● │ b",
        "├─╯",
        "● a",
    ]


def test_lanes_that_cross_are_joined_on_both_sides() -> None:
    assert _drawn("mcy", "zxc", "yx", "cb", "xb", "b") == [
        "● m",
        "├─╮",
        "│ │ ● z",
        "├─┼─┤",
        "│ ● │ y",
        "● │ │ c",
        "│ ├─╯",
        "│ ● x",
        "├─╯",
        "● b",
    ]
    assert _drawn("mcy", "zxc", "yx", "cb", "xb", "b", ascii=True) == [
        "* m",
        "|-\\",
        "| | * z",
        "|-+-|",
        "| * | y",
        "* | | c",
        "| |-/",
        "| * x",
        "|-/",
        "* b",
    ]


def test_a_lane_whose_end_is_cut_off_goes_on_to_the_bottom() -> None:
    assert _drawn("ba", "dc") == ["● b", "│ ● d"]


def test_a_lane_that_ended_is_used_again() -> None:
    assert _drawn("b", "a", "mcd", "c", "d") == ["● b", "● a", "● m", "├─╮", "● │ c", "  ● d"]


@pytest.mark.parametrize("seed", range(30))
def test_what_is_left_out_of_any_graph_is_seen_through(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"c{number}" for number in range(25)]
    parents = {
        name: chance.sample(names[:number], min(number, chance.choice((1, 1, 1, 2, 2, 3))))
        for number, name in enumerate(names)
    }
    micros = {name: chance.randrange(10) for name in names}
    order = newest_first(parents, micros)
    assert sorted(order) == sorted(names)
    assert all(order.index(name) < order.index(parent) for name in names for parent in parents[name])
    shown = {name for name in names if chance.random() < 0.6}

    def below(name: str) -> set[str]:
        found: set[str] = set()
        for parent in parents[name]:
            found |= {parent} | below(parent)
        return found

    for name, onto in contracted(parents, order, shown).items():
        ancestors = below(name) & shown
        # What no other shown ancestor descends from.
        direct = {each for each in ancestors if not any(each in below(other) for other in ancestors)}
        assert set(onto) == direct
        assert len(set(onto)) == len(onto)
        drawn = [(each, contracted(parents, order, shown)[each]) for each in order if each in shown]
    texts = list(lanes(drawn))
    assert [commit for _, commit in texts if commit is not None] == [each for each in order if each in shown]
    assert all(text.count("●") == (commit is not None) for text, commit in texts)
    assert list(lanes(drawn, ascii=True))[-1][0].isascii()


def test_the_parents_of_a_row_are_rows(merged: Registry) -> None:
    for every in (False, True):
        rows = merged.log(every_branch=every)
        graph = merged.log_graph(every_branch=every)
        known = {each.commit for each in rows}
        assert {each.commit: each.parents for each in rows} == {each.entry.commit: each.onto for each in graph}
        assert [each.entry.parents for each in graph] == [each.onto for each in graph]
        assert all(set(each.parents) <= known for each in rows)
        assert [each.parents for each in rows if not each.parents] == [()]
    rows = merged.log()
    known = {each.commit for each in rows}
    merge = next(each for each in rows if each.kind == "merge")
    assert len(merge.parents) == 2
    by_commit = {each.commit: each for each in rows}
    assert merge.message.startswith("merge exp into main")
    assert [by_commit[each].message for each in merge.parents] == ["register m/3", "register m/4"]
    # What a limit or a subject cut off is said all the same, by the commits of transactions.
    for limit in range(1, len(rows) + 1):
        cut = merged.log(limit=limit)
        assert cut == rows[:limit]
        assert all(set(each.entry.parents) <= known for each in merged.log_graph(limit=limit))
        everywhere = {each.commit for each in merged.log(every_branch=True)}
        assert all(set(each.parents) <= everywhere for each in merged.log(limit=limit, every_branch=True))
    assert merged.log("m@chosen") == [each for each in rows if each.message.startswith("alias m@chosen")]


def test_the_parents_in_a_difference_are_transactions(merged: Registry) -> None:
    known = {each.commit: each.parents for each in merged.log(every_branch=True)}
    for left in ("main~3", "main~5"):
        found = merged.diff(left, "main")
        assert {each.commit: each.parents for each in found.commits} == {
            each.commit: known[each.commit] for each in found.commits
        }


# -- as a command -----------------------------------------------------------------------------------------------------
def test_the_graph_is_printed(merged: Registry, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    cli = CommandLine()
    lines = cli.out("log", "--graph", "--all").splitlines()
    graph = [line.split(" 0")[0] if "●" not in line else line[: line.index("●") + 1] for line in lines[1:]]
    assert graph[0] == "●"
    assert any("(main) alias m@chosen is version 1" in line for line in lines)
    assert any("(exp) register m/5" in line for line in lines)
    assert sum("●" in line for line in lines) == 8
    assert any("├─╯" in line for line in lines)
    rows = cli.json("log", "--graph", "--all")
    assert rows == cli.json("log", "--all")
    assert set(rows[0]) == {"commit", "parents", "recorded_at", "actor", "kind", "subject", "message"}
    assert len(cli.json("log", "--graph", "--limit", "2")) == 2
    assert sum("●" in line for line in cli.out("log", "--graph", "--limit", "2").splitlines()) == 2
    assert [each["message"] for each in cli.json("log", "m@chosen")] == ["alias m@chosen is version 1"]
    assert len(cli.json("log", "--graph", "--ref", "main~2")) == 3
    assert cli.error("log", "main", status=2)[0] == "InvalidInputError"
    assert cli.error("log", "--graph", "nope", status=1)[0] == "NotFoundError"
