"""Slices and numbers as both gates of metrics see them: nulls, what is not defined, and what was evaluated how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import headwater
from headwater.governance_model import GateResult
from headwater.registry import Registry

METRIC = '[[production.gate]]\nmetric = "{}"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An embedded registry with two versions of model `m`: what is judged here is the same on every lake."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("a.bin").write_bytes(b"x")
    with headwater.create(str(tmp_path / "lake"), actor="tester") as registry:
        for _ in range(2):
            registry.register("m", "a.bin")
        yield registry


def add(registry: Registry, **columns: Sequence[Any]) -> None:
    rows = {"id": list(range(len(next(iter(columns.values()))))), **columns}
    pl.DataFrame(rows).write_parquet("rows.parquet")
    registry.add_dataset("test", "rows.parquet", key=["id"])


def predict(registry: Registry, number: int, values: Sequence[Any], **given: Any) -> None:
    registry.evaluate(f"m/{number}", on="test", predict=lambda table: list(values), **given)


def asked(registry: Registry, metric: str, reference: str = "m/2", **options: Any) -> GateResult:
    """Ask one gate, with what is in production as it is."""
    import json

    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    registry.set_gates("m", METRIC.format(metric) + "\n".join(lines))
    (found,) = registry.check_gates(reference).results
    json.dumps(dict(found.details), allow_nan=False)
    return found


# -- slices -----------------------------------------------------------------------------------------------------------
def test_a_null_and_the_text_none_are_two_slices(here: Registry) -> None:
    """Whoever is wrong on every row of one of them is found, whichever it is."""
    truth = [number // 2 % 2 for number in range(200)]
    add(here, o=["None" if number % 2 else None for number in range(200)], y=truth)
    predict(here, 1, truth)
    here.set_alias("m", "champion", 1)
    for odd, name in ((1, "o=None"), (0, "o=")):
        predict(here, 2, [1 - each if at % 2 == odd else each for at, each in enumerate(truth)])
        found = asked(here, "accuracy", slices="o", max_regression=0.01)
        assert (found.passed, list(found.details["failing"])) == (False, [name])
        assert len(found.details["passing"]) == 1


def test_a_null_is_the_empty_text_to_both_gates(here: Registry) -> None:
    """What `evaluate` joins is one slice to the gates, with the rows of both."""
    truth = [number % 2 for number in range(90)]
    add(here, o=[(None, "", "x")[number % 3] for number in range(90)], y=truth)
    for number in (1, 2):
        predict(here, number, truth, slices=["o"])
    here.set_alias("m", "champion", 1)
    found = asked(here, "accuracy", slices="o", min=0.9, min_rows=31)
    assert (found.passed, found.found) == (True, "worst: o= 1 (too few rows to judge: o=x)")
    compared = asked(here, "accuracy", slices="o", max_regression=0.01, min_rows=31)
    assert (compared.passed, compared.details["passing"]["o="]["rows"]) == (True, 60)
    assert compared.details["too_few_rows"] == ["o=x"]


def test_a_precision_of_no_positive_prediction_is_zero_to_both_gates(here: Registry) -> None:
    origins = ["JFK" if number % 2 else "LGA" for number in range(200)]
    truth = [number // 2 % 2 for number in range(200)]
    add(here, origin=origins, y=truth)
    predict(here, 1, truth, slices=["origin"])
    predict(here, 2, [0 if o == "JFK" else y for o, y in zip(origins, truth, strict=True)], slices=["origin"])
    here.set_alias("m", "champion", 1)
    assert asked(here, "precision", slices="origin", min=0.5).found == "origin=JFK 0"
    for metric in ("precision", "recall", "f1"):
        found = asked(here, metric, slices="origin", max_regression=0.01)
        assert (found.passed, list(found.details["failing"])) == (False, ["origin=JFK"]), metric
        assert found.details["failing"]["origin=JFK"]["candidate"] == 0
    predict(here, 2, [0] * 200)
    assert asked(here, "precision", max_regression=0.01).found.startswith("1 → 0 (worse by")


def test_a_slice_of_one_class_has_no_area_for_either_version_and_is_named(here: Registry) -> None:
    truth = [number // 2 % 2 if number % 2 else 0 for number in range(200)]
    add(here, origin=["JFK" if number % 2 else "LGA" for number in range(200)], y=truth)
    for number in (1, 2):
        here.evaluate(f"m/{number}", on="test", predict=lambda table: {"id": table.column("id"), "score": truth})
    here.set_alias("m", "champion", 1)
    found = asked(here, "auc", slices="origin", max_regression=0.01)
    assert (found.passed, found.found) == (True, "worst: origin=JFK 1 → 1 (no value for either: origin=LGA)")
    assert found.details["undefined"] == ["origin=LGA"]
    # Scores say nothing of classes: of these nothing was measured.
    assert asked(here, "accuracy", max_regression=0.01).found == "nothing"


def test_amounts_that_are_all_the_same_are_explained_by_a_perfect_prediction(here: Registry) -> None:
    truth = [0.1 if number % 2 else number / 3 for number in range(80)]
    add(here, o=["same" if number % 2 else "other" for number in range(80)], y=truth)
    predict(here, 1, truth, slices=["o"])
    here.set_alias("m", "champion", 1)
    predict(here, 2, [each + (0.01 if at % 2 else 0) for at, each in enumerate(truth)], slices=["o"])
    found = asked(here, "r2", slices="o", max_regression=0.01)
    detail = found.details["failing"]["o=same"]
    assert (found.passed, detail["production"], detail["candidate"]) == (False, 1, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_production_did_not_measure_is_nothing_to_compare_with(here: Registry, value: float) -> None:
    add(here, y=[0, 1])
    for each in (value, 0.1):
        with here.start_run("x") as run:
            run.log_metric("gini", each, dataset="test@1.0.0")
            run.register("m", "a.bin")
    here.set_alias("m", "champion", 3)
    for lower in (False, True):
        found = asked(here, "gini", "m/4", max_regression=0.01, lower_is_better=lower)
        assert (found.passed, found.found) == (False, f"{value} → 0.1")


# -- labels and classes -----------------------------------------------------------------------------------------------
def other_labels(registry: Registry) -> list[int]:
    """Add a dataset with a label `y`, and one that is easier to predict; version 1 says `y`, with errors."""
    truth = [number // 2 % 2 for number in range(200)]
    add(registry, origin=["JFK" if number % 2 else "LGA" for number in range(200)], y=truth, y2=[1] * 200)
    said = [1 - each if at < 20 else each for at, each in enumerate(truth)]
    predict(registry, 1, said, slices=["origin"])
    return said


@pytest.mark.parametrize("computed", [False, True])
def test_numbers_of_another_label_than_productions_are_not_compared(here: Registry, computed: bool) -> None:
    said = other_labels(here)
    here.set_alias("m", "champion", 1)
    predict(here, 2, [1] * 200, slices=["origin"], label="y2")
    for options in ({}, {"slices": "origin"}, {"on": "test"}):
        found = asked(here, "accuracy", max_regression=0.01, computed=computed, **options)
        assert not found.passed
        wanted = "neither the dataset's default label nor production's" if computed and not options.get("on") else ""
        told = "m/2 was evaluated for label 'y2' (binary, positive '1'), and m/1 in production for label 'y'"
        assert (wanted or told) in found.source, found.source
    predict(here, 2, said, slices=["origin"])
    assert asked(here, "accuracy", max_regression=0.01, computed=computed).passed
    assert asked(here, "recall", max_regression=0.01, computed=computed, label="y", positive=1).passed
    wrong = asked(here, "recall", max_regression=0.01, computed=computed, label="y2", on="test")
    assert (wrong.passed, wrong.source) == (
        False,
        "both versions were evaluated for label 'y' (binary, positive '1'), and the policy says label 'y2'",
    )


def test_numbers_of_another_class_than_productions_are_not_compared(here: Registry) -> None:
    said = other_labels(here)
    here.set_alias("m", "champion", 1)
    predict(here, 2, said, slices=["origin"], positive="0")
    for slices in ({}, {"slices": "origin"}):
        found = asked(here, "recall", max_regression=0.5, **slices)
        assert (found.passed, found.found) == (False, "nothing to compare with")
        assert "m/2 was evaluated for label 'y' (binary, positive '0')" in found.source


def test_rows_of_another_task_than_productions_are_not_compared(here: Registry) -> None:
    """Of metrics that are not measured again from predictions, the rows say of which evaluation they are."""
    add(here, y=["a", "b", "c"] * 20, y2=["a", "b", "d"] * 20)
    predict(here, 1, ["a", "b", "c"] * 20)
    here.set_alias("m", "champion", 1)
    predict(here, 2, ["a", "b", "d"] * 20, label="y2")
    found = asked(here, "f1_macro", max_regression=0.01)
    assert (found.passed, found.found) == (False, "nothing to compare with")
    assert "m/2 was evaluated for label 'y2' (multiclass)" in found.source
    predict(here, 2, ["a", "b", "c"] * 20)
    assert asked(here, "f1_macro", max_regression=0.01).passed


def test_a_computed_number_is_of_the_label_that_the_policy_says_or_the_default_one(here: Registry) -> None:
    other_labels(here)
    predict(here, 2, [1] * 200, slices=["origin"], label="y2")
    demanded: dict[str, Any] = {"on": "test", "min": 0.95, "computed": True}
    found = asked(here, "accuracy", **demanded)
    assert (found.passed, found.found) == (False, "1, not counted")
    assert found.source.startswith(
        "it was computed for label 'y2' (binary, positive '1'), which is neither the dataset's default label nor"
        " production's: the policy may say label = 'y2'; metric row of commit"
    )
    assert not asked(here, "accuracy", slices="origin", **demanded).passed
    assert asked(here, "accuracy", label="y2", **demanded).passed
    assert not asked(here, "accuracy", label="y", **demanded).passed
    # Where claims count, nothing is said of labels unless the policy does.
    assert asked(here, "accuracy", on="test", min=0.95).passed
    assert not asked(here, "accuracy", on="test", min=0.95, label="y").passed
    # An earlier number for the right label still counts.
    predict(here, 2, [1] * 200)
    predict(here, 2, [1] * 200, label="y2")
    assert asked(here, "accuracy", **demanded).found == "0.5"


def test_a_computed_number_is_for_the_class_that_the_policy_says_or_the_default_one(here: Registry) -> None:
    said = other_labels(here)
    predict(here, 2, [0] * 200, positive="0")
    demanded: dict[str, Any] = {"on": "test", "min": 0.8, "computed": True}
    found = asked(here, "recall", **demanded)
    assert (found.passed, found.found) == (False, "1, not counted")
    assert "positive is '1' unless somebody says so: the policy may say positive = '0'" in found.source
    assert asked(here, "recall", positive=0, **demanded).passed
    assert not asked(here, "recall", positive=1, **demanded).passed
    assert asked(here, "accuracy", **{**demanded, "min": 0.5}).passed
    predict(here, 2, said)
    assert asked(here, "recall", **demanded).passed


def test_a_label_that_production_was_measured_by_counts(here: Registry) -> None:
    add(here, late=[number % 2 == 0 for number in range(60)])
    for number in (1, 2):
        predict(here, number, [number % 2 == 0 for number in range(60)], label="late")
    assert not asked(here, "accuracy", "m/1", min=0.9, computed=True).passed
    assert asked(here, "accuracy", "m/1", min=0.9, computed=True, label="late").passed
    here.delete_gates("m")
    here.set_alias("m", "champion", 1)
    assert asked(here, "accuracy", min=0.9, computed=True).passed


# -- production's own numbers -----------------------------------------------------------------------------------------
def test_whoever_evaluates_production_anew_lowers_no_bar(here: Registry) -> None:
    truth = [number // 2 % 2 for number in range(200)]
    add(here, origin=["JFK" if number % 2 else "LGA" for number in range(200)], y=truth)
    predict(here, 1, truth, slices=["origin"])
    here.set_alias("m", "champion", 1)
    bad = [1 - each if at < 80 else each for at, each in enumerate(truth)]
    predict(here, 2, bad, slices=["origin"])
    for slices in ({}, {"slices": "origin"}):
        assert not asked(here, "accuracy", max_regression=0.01, computed=True, **slices).passed
    worse = predict_again(here, bad)
    for slices in ({}, {"slices": "origin"}):
        found = asked(here, "accuracy", max_regression=0.01, computed=True, **slices)
        assert not found.passed
        assert found.source.endswith("against m/1, whose predictions are stored 2 times")
    # An evaluation that was a mistake is taken back, and then it is no bar.
    here.delete_gates("m")
    (_, first) = [each.commit for each in here.log() if each.message == "evaluate m/1 on test@1.0.0"]
    here.revert(worse, force=True)
    here.revert(first, force=True)
    predict_again(here, bad)
    assert asked(here, "accuracy", max_regression=0.01, computed=True).passed


def predict_again(registry: Registry, values: Sequence[Any]) -> str:
    return registry.evaluate("m/1", on="test", predict=lambda table: list(values), slices=["origin"]).commit


def test_the_best_row_of_production_counts_where_predictions_are_not_compared(here: Registry) -> None:
    add(here, y=["a", "b", "c"] * 20)
    predict(here, 1, ["a", "b", "c"] * 20)
    here.set_alias("m", "champion", 1)
    for number in (1, 2):
        predict(here, number, ["a"] * 60)
    found = asked(here, "f1_macro", max_regression=0.01)
    assert (found.passed, found.found) == (False, "1 → 0.166667")


def test_whoever_takes_production_away_first_lowers_no_bar(here: Registry) -> None:
    truth = [number // 2 % 2 for number in range(60)]
    add(here, y=truth)
    predict(here, 1, truth)
    predict(here, 2, [1 - each for each in truth])
    assert asked(here, "accuracy", max_regression=0.01).found == "nothing to compare"
    here.delete_gates("m")
    here.set_alias("m", "champion", 1)
    (live,) = here.serving("production")
    here.undeploy(str(live.deployment_id))
    found = asked(here, "accuracy", max_regression=0.01)
    assert not found.passed
    assert found.source.endswith("against m/1, which was in production last")
    again = asked(here, "accuracy", "m/1", max_regression=0.01)
    assert (again.passed, again.source) == (True, "this version was in production last itself")
