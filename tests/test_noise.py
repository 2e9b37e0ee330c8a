"""How sure a drop is: intervals against their published examples, and metrics against scikit-learn's."""

from __future__ import annotations

import math
import random

import pyarrow as pa
import pytest
from sklearn import metrics as sk

from headwater.noise import PAIRED, Pair, Rows, least_drop_of_rates, paired, wilson


def classes(count: int, right: float, seed: int) -> Rows:
    """Return predictions of two classes, of which a share is right, with scores on the right side of a half."""
    draw = random.Random(seed)
    label = [draw.choice(["no", "yes"]) for _ in range(count)]
    prediction = [each if draw.random() < right else {"no": "yes", "yes": "no"}[each] for each in label]
    score = [draw.uniform(0.5, 1) if each == "yes" else draw.uniform(0, 0.5) for each in prediction]
    return Rows(pa.array(label), pa.array(prediction), pa.array(score), "yes")


def compared(
    metric: str, before: Rows, after: Rows, *, tolerance: float = 0.0, confidence: float = 0.95
) -> Pair | None:
    lower = metric in ("log_loss", "brier", "error_rate", "mae", "mse", "rmse")
    return paired(metric, before, after, lower_is_better=lower, confidence=confidence, tolerance=tolerance)


def test_intervals_of_rates_are_the_published_ones() -> None:
    # Newcombe 1998 (Statistics in Medicine 17, pages 857-872 and 873-890): Wilson of 81 of 263, and method 10 of
    # 56 of 70 against 48 of 80, both at 95 %, two-sided.
    z = 1.959963984540054
    assert wilson(81 / 263, 263, z) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 10, z)[0] == 0.0
    assert wilson(1.0, 10, z)[1] == pytest.approx(1.0)
    low, high = wilson(56 / 70, 70, z), wilson(48 / 80, 80, z)
    least = (56 / 70 - 48 / 80) - math.hypot(56 / 70 - low[0], high[1] - 48 / 80)
    assert least == pytest.approx(0.0524, abs=5e-5)


def test_a_drop_of_rates_is_surer_the_more_rows_there_are() -> None:
    drops = [least_drop_of_rates(0.8, 0.75, rows, 0.95) for rows in (50, 500, 5000)]
    assert drops == sorted(drops)
    assert drops[0] < 0 < drops[-1] < 0.05
    assert least_drop_of_rates(0.8, 0.75, 500, 0.99) < least_drop_of_rates(0.8, 0.75, 500, 0.9)


def measured(metric: str, rows: Rows) -> float:
    """Return what scikit-learn says of a metric."""
    truth, said, score = rows.label.to_pylist(), rows.prediction.to_pylist(), rows.score.to_pylist()
    binary = [each == "yes" for each in truth]
    return float(
        {
            "accuracy": lambda: sk.accuracy_score(truth, said),
            "error_rate": lambda: sk.zero_one_loss(truth, said),
            "precision": lambda: sk.precision_score(truth, said, pos_label="yes"),
            "recall": lambda: sk.recall_score(truth, said, pos_label="yes"),
            "f1": lambda: sk.f1_score(truth, said, pos_label="yes"),
            "auc": lambda: sk.roc_auc_score(binary, score),
            "log_loss": lambda: sk.log_loss(binary, score),
            "brier": lambda: sk.brier_score_loss(binary, score),
            "mae": lambda: sk.mean_absolute_error(truth, said),
            "mse": lambda: sk.mean_squared_error(truth, said),
            "rmse": lambda: math.sqrt(sk.mean_squared_error(truth, said)),
            "r2": lambda: sk.r2_score(truth, said),
        }[metric]()
    )


@pytest.mark.parametrize("metric", PAIRED)
def test_metrics_are_those_of_scikit_learn(metric: str) -> None:
    if metric in ("mae", "mse", "rmse", "r2"):
        draw = random.Random(3)
        label = [draw.gauss(10, 3) for _ in range(80)]
        sides = [
            Rows(pa.array(label), pa.array([v + draw.gauss(0, s) for v in label]), pa.nulls(80, pa.float64()), None)
            for s in (0.5, 2.5)
        ]
    else:
        sides = [classes(80, right, 5) for right in (0.9, 0.6)]
    found = compared(metric, *sides)
    assert found is not None
    assert (found.before, found.after) == pytest.approx([measured(metric, each) for each in sides])
    assert found.drop > 0
    assert found.least is not None
    assert found.least < found.drop


def test_equal_scores_count_a_half() -> None:
    rows = Rows(pa.array(["no", "yes", "yes", "no"]), pa.array(["no"] * 4), pa.array([0.5, 0.5, 0.7, 0.7]), "yes")
    other = Rows(rows.label, rows.prediction, pa.array([0.1, 0.9, 0.8, 0.2]), "yes")
    found = compared("auc", other, rows)
    assert found is not None
    assert (found.before, found.after) == (1.0, 0.5)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "auc", "log_loss"])
def test_noise_is_no_regression_and_a_regression_is_no_noise(metric: str) -> None:
    worse = 0
    for seed in range(10):
        # Two models of the same quality: each has errors of its own.
        before, after = classes(300, 0.85, seed), classes(300, 0.85, seed + 1000)
        label = before.label
        flipped = [
            (p, s) if a == b else ({"no": "yes", "yes": "no"}[p], 1 - s)
            for a, b, p, s in zip(
                label.to_pylist(),
                after.label.to_pylist(),
                after.prediction.to_pylist(),
                after.score.to_pylist(),
                strict=True,
            )
        ]
        after = Rows(label, pa.array([p for p, _ in flipped]), pa.array([s for _, s in flipped]), "yes")
        found = compared(metric, before, after, tolerance=0.01)
        least = found.least if found is not None else None
        worse += least is not None and least > 0.01
    assert worse <= 2
    found = compared(metric, classes(2000, 0.9, 1), classes(2000, 0.7, 1), tolerance=0.01)
    assert found is not None
    assert found.least > 0.01


def test_the_same_rows_give_the_same_interval_again() -> None:
    sides = classes(200, 0.9, 1), classes(200, 0.8, 1)
    assert compared("f1", *sides) == compared("f1", *sides)


def test_what_is_not_worse_needs_no_interval() -> None:
    found = compared("accuracy", classes(100, 0.7, 1), classes(100, 0.9, 1))
    assert found is not None
    assert (found.drop < 0, found.least, found.method) == (True, None, "")


def test_what_is_not_defined_is_not_compared() -> None:
    one = Rows(pa.array(["no", "no"]), pa.array(["no", "no"]), pa.array([0.1, 0.2]), "yes")
    area = compared("auc", one, one)
    assert area is not None
    assert [math.isnan(each) for each in (area.before, area.after, area.drop)] == [True, True, True]
    recall = compared("recall", one, one)
    assert recall is not None
    assert (recall.before, recall.after, recall.drop) == (0, 0, 0)
    unsaid = Rows(one.label, pa.nulls(2, pa.string()), one.score, "yes")
    assert compared("accuracy", unsaid, one) is compared("f1", one, unsaid) is None
    assert compared("mae", one, one) is None
    unscored = Rows(one.label, one.prediction, pa.nulls(2, pa.float64()), "yes")
    assert compared("log_loss", unscored, unscored) is None
    several = Rows(pa.array(["a", "b"]), pa.array(["a", "c"]), pa.nulls(2, pa.float64()), None)
    assert compared("f1", several, several) is None
    assert compared("accuracy", several, several) is not None
