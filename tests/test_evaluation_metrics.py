"""Metrics of predictions: the same as scikit-learn's, over all rows and by group; what can't be compared is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from headwater.errors import InvalidInputError
from headwater.evaluation_metrics import METRICS, by_group, scored
from headwater.evaluation_model import Scoring

FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def measured(folder: Path, label: list[Any], prediction: Any, score: Any, **named: Any) -> dict[str, float]:
    columns = [None if each is None else pa.array(each) for each in (prediction, score)]
    scoring, table = scored(pa.array(label), *columns, **named)
    (group,) = by_group(folder, table, scoring)
    assert group.rows == len(label)
    return {key: group.metrics[key] for key in METRICS[scoring.task] if key in group.metrics}


@FEW
@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])),
        min_size=1,
        max_size=40,
    )
)
def test_two_classes_are_measured_as_scikit_learn_does(tmp_path: Path, rows: list[tuple[bool, bool, float]]) -> None:
    label, prediction, score = ([each[at] for each in rows] for at in range(3))
    found = measured(tmp_path, label, prediction, score)
    expected = {
        "accuracy": sk.accuracy_score(label, prediction),
        "precision": sk.precision_score(label, prediction, zero_division=0),
        "recall": sk.recall_score(label, prediction, zero_division=0),
        "f1": sk.f1_score(label, prediction, zero_division=0),
        "log_loss": sk.log_loss(label, score, labels=[False, True]),
        "brier": sk.brier_score_loss(label, score, labels=[False, True], pos_label=True),
    }
    if len(set(label)) == 2:
        expected["auc"] = sk.roc_auc_score(label, score)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


@FEW
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=3, max_size=40))
def test_several_classes_are_measured_as_scikit_learn_does(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    label, prediction = ["a", "b", "c", *(each[0] for each in rows)], ["a", "b", "b", *(each[1] for each in rows)]
    named: Any = {"average": "macro", "zero_division": 0}
    assert measured(tmp_path, label, prediction, None) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(label, prediction),
            "precision_macro": sk.precision_score(label, prediction, **named),
            "recall_macro": sk.recall_score(label, prediction, **named),
            "f1_macro": sk.f1_score(label, prediction, **named),
        }
    )


NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@FEW
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=40))
def test_a_regression_is_measured_as_scikit_learn_does(tmp_path: Path, rows: list[tuple[float, float]]) -> None:
    label, prediction = [0.5, *(each[0] for each in rows)], [0.25, *(each[1] for each in rows)]
    expected = {
        "rmse": sk.root_mean_squared_error(label, prediction),
        "mae": sk.mean_absolute_error(label, prediction),
        "r2": sk.r2_score(label, prediction),
    }
    assert measured(tmp_path, label, prediction, None) == pytest.approx(expected, rel=1e-6)


def test_an_r2_of_one_row_is_left_out_and_of_equal_labels_is_as_scikit_learn_has_it(tmp_path: Path) -> None:
    assert measured(tmp_path, [2.5], [2.0], None) == {"rmse": 0.5, "mae": 0.5}
    assert measured(tmp_path, [2.5, 2.5], [2.5, 2.5], None)["r2"] == sk.r2_score([2.5, 2.5], [2.5, 2.5]) == 1
    assert measured(tmp_path, [2.5, 2.5], [2.5, 2.0], None)["r2"] == sk.r2_score([2.5, 2.5], [2.5, 2.0]) == 0


def test_groups_are_measured_by_themselves_and_a_null_is_an_empty_text(tmp_path: Path) -> None:
    label, score = [True, False, True, False, True], [0.9, 0.1, 0.2, 0.4, 0.7]
    scoring, table = scored(pa.array(label), None, pa.array(score))
    groups = {"origin": ["JFK", "JFK", "LGA", "LGA", None], "carrier": ["AA", "AA", "AA", "B6", "B6"]}
    for name, values in groups.items():
        table = table.append_column(name, pa.array(values))
    found = by_group(tmp_path, table, scoring, ["origin", "carrier"])
    assert [(dict(each.values), each.rows) for each in found] == [
        ({"origin": "", "carrier": "B6"}, 1),
        ({"origin": "JFK", "carrier": "AA"}, 2),
        ({"origin": "LGA", "carrier": "AA"}, 1),
        ({"origin": "LGA", "carrier": "B6"}, 1),
    ]
    assert "auc" not in found[0].metrics
    assert found[1].metrics["auc"] == 1
    assert {
        each.values["origin"]: each.metrics.get("auc") for each in by_group(tmp_path, table, scoring, ["origin"])
    } == {
        "": None,
        "JFK": 1.0,
        "LGA": 0.0,
    }


def test_scores_that_are_no_probabilities_rank_and_nothing_else(tmp_path: Path) -> None:
    label, score = [1, 0, 1, 0], [3.5, -1.0, 2.0, 2.0]
    assert measured(tmp_path, label, None, score) == {"auc": sk.roc_auc_score(label, score)}


@pytest.mark.parametrize(
    ("label", "prediction", "same"),
    [
        ([True, False], [1, 0], ["true", "false"]),
        ([True, False], [1.0, 0.0], ["true", "false"]),
        ([True, False], ["True", "FALSE"], ["true", "false"]),
        ([1, 0], [True, False], ["1", "0"]),
        ([1, 0], ["1", "0.0"], ["1", "0"]),
        ([1.0, 0.0], [1, 0], ["1", "0"]),
        (["1", "0"], [1, 0], ["1", "0"]),
        ([1, -1], [1.0, -1.0], ["1", "-1"]),
    ],
    ids=["bool-int", "bool-real", "bool-text", "int-bool", "int-text", "real-int", "text-int", "signs"],
)
def test_a_class_is_itself_in_whatever_type_it_is_written(label: Any, prediction: Any, same: list[str]) -> None:
    scoring, table = scored(pa.array(label), pa.array(prediction), None)
    assert table.column("label").to_pylist() == table.column("prediction").to_pylist() == same
    assert scoring == Scoring("binary", same[0])


def test_the_positive_class_is_the_greater_unless_it_is_named() -> None:
    assert scored(pa.array(["late", "on"]), None, pa.array([0.1, 0.2]))[0].positive == "on"
    assert scored(pa.array(["late", "on"]), None, pa.array([0.1, 0.2]), positive="late")[0].positive == "late"
    assert scored(pa.array([2, 10]), pa.array([2, 10]), None, task="classification")[0].positive == "10"
    assert scored(pa.array([False]), None, pa.array([0.2]))[0] == Scoring("binary", "true")
    assert scored(pa.array([0, 0]), None, pa.array([0.2, 0.3]))[0] == Scoring("binary", "1")


def test_the_task_follows_from_the_values() -> None:
    assert scored(pa.array([1.5, 2.0]), pa.array([1, 2]), None)[0].task == "regression"
    assert scored(pa.array([10, 20, 35]), pa.array([1.5, 2.5, 3.0]), None)[0].task == "regression"
    assert scored(pa.array([10, 20, 35]), None, pa.array([1.0, 2.0, 3.0]))[0].task == "regression"
    assert scored(pa.array([0, 1, 1]), pa.array([0, 1, 1]), None, task="regression")[0].task == "regression"
    assert scored(pa.array(["a", "b", "c"]), pa.array(["a", "b", "c"]), None)[0].task == "multiclass"


@pytest.mark.parametrize(
    ("label", "prediction", "score", "named", "message"),
    [
        ([3, 4, 5], [3, 4, 5], None, {}, "classes, or amounts"),
        ([0, 1], [0.25, 0.75], None, {}, "the prediction 0.25 is no class"),
        ([True, False], ["late", "false"], None, {}, "the prediction 'late' is neither true nor false"),
        ([0, 1], ["late", "1"], None, {}, "the labels are numbers, and the predictions are text"),
        ([1.5, 2.5], ["x", "y"], None, {}, "the predictions are not numbers"),
        (["a", "b"], [1.0, 2.0], None, {"task": "regression"}, "the labels are not numbers"),
        ([1.5, 2.5], [1.0, float("inf")], None, {}, "some of the predictions are infinite"),
        ([1.5, 2.5], [1.0, 2.0], None, {"positive": "2"}, "a regression has no positive class"),
        (["a", "b"], ["a", "b"], None, {"positive": "c"}, "not a class: 'c'"),
        (["a", "b", "c"], ["a", "b", "c"], None, {"positive": "c"}, "there are 3 classes"),
        ([0, 1], [0, 1], None, {"task": "clustering"}, "not a task: 'clustering'"),
    ],
    ids=["whole", "probability", "odd", "text", "words", "labels", "infinite", "regression", "class", "three", "task"],
)
def test_what_does_not_fit_is_said(label: Any, prediction: Any, score: Any, named: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        scored(pa.array(label), pa.array(prediction), score, **named)


def test_a_column_with_a_value_for_each_row_is_no_slice(tmp_path: Path) -> None:
    scoring, table = scored(pa.array([0.5] * 10_001), pa.array([0.5] * 10_001), None)
    table = table.append_column("id", pa.array([str(each) for each in range(10_001)]))
    with pytest.raises(InvalidInputError, match=r"'id' has 10,001 values, and 10,000 are allowed"):
        by_group(tmp_path, table, scoring, ["id"])


def test_numbers_come_out_the_same_each_time(tmp_path: Path) -> None:
    values = [0.1 * each for each in range(5000)]
    scoring, table = scored(pa.array(values), pa.array([each * 1.1 for each in values]), None)
    found = {repr(by_group(tmp_path, table, scoring)[0].metrics) for _ in range(3)}
    assert len(found) == 1
