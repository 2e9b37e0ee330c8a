"""How sure it is that one number is worse than another: intervals of rates, and of metrics over the same rows.

Knows Arrow arrays of predictions and labels, and no lake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PAIRED", "Pair", "Rows", "least_drop_of_rates", "paired", "wilson"]

SEED = 20_261_101
"""Resamples are the same at every evaluation: what was recorded once agrees with what is found again."""

_MOST_RESAMPLES = 500
_FEWEST_RESAMPLES = 200
_MOST_DRAWN = 20_000_000

_SMALLEST = 2.220446049250313e-16
"""What a probability is kept away from 0 and 1 by, as in scikit-learn's `log_loss` of doubles."""

PAIRED = ("accuracy", "error_rate", "precision", "recall", "f1", "auc", "log_loss", "brier", "mae", "mse", "rmse", "r2")
"""Metrics that can be measured again from predictions."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The predictions of one version, and what is true: arrays of one length."""

    label: pa.Array
    prediction: pa.Array
    score: pa.Array
    positive: str | None
    """Of two classes the one that is looked for; None where there are more, or numbers."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One metric of two versions over the same rows.

    Attributes:
        before: Its value for the version that is there; NaN where it has none.
        after: Its value for the one that would take its place.
        drop: How much is lost, in the metric's unit; negative where something is won, NaN where a value is NaN.
        least: How much is lost at the least, at the confidence that was asked for; None where that can't be told.
        method: `bootstrap of 500 resamples`, or `DeLong's interval`.
    """

    before: float
    after: float
    drop: float
    least: float | None
    method: str


# -- rates ------------------------------------------------------------------------------------------------------------
def wilson(rate: float, rows: int, z: float) -> tuple[float, float]:
    """Return Wilson's interval of a rate that was seen in some rows (E. B. Wilson, JASA 22, 1927).

    Args:
        rate: From 0 to 1.
        rows: How many rows it was seen in, from 1.
        z: Standard deviations to each side.
    """
    middle = rate + z * z / (2 * rows)
    half = z * math.sqrt(rate * (1 - rate) / rows + z * z / (4 * rows * rows))
    whole = 1 + z * z / rows
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def least_drop_of_rates(before: float, after: float, rows: int, confidence: float) -> float:
    """Return by how much a rate fell at the least.

    That is Newcombe's hybrid score interval (R. G. Newcombe, Statistics in Medicine 17, 1998,
    method 10), that of independent samples: for the same rows it is wider than need be.

    Args:
        before: From 0 to 1.
        after: From 0 to 1.
        rows: How many rows each was seen in.
        confidence: One-sided.
    """
    z = NormalDist().inv_cdf(confidence)
    low, _ = wilson(before, rows, z)
    _, high = wilson(after, rows, z)
    return (before - after) - math.sqrt((before - low) ** 2 + (high - after) ** 2)


# -- the same rows ----------------------------------------------------------------------------------------------------
def paired(
    metric: str, before: Rows, after: Rows, *, lower_is_better: bool, confidence: float, tolerance: float
) -> Pair | None:
    """Compare a metric of two versions over the same rows.

    Args:
        metric: One of `PAIRED`.
        before: The version that is there.
        after: The one that would take its place; its rows are those of `before`, in the same order.
        lower_is_better: Whether less is better.
        confidence: One-sided, of the least drop.
        tolerance: A drop up to this needs no interval.

    Returns:
        What was found; None where the metric needs predictions or scores that are not there. A precision, recall or f1
        that would divide by zero is 0, as in `evaluation_metrics`; a value that is not defined at all is NaN.
    """
    columns = [_columns(metric, each) for each in (before, after)]
    if columns[0] is None or columns[1] is None:
        return None
    sign = -1.0 if lower_is_better else 1.0
    values = [_value(metric, each) for each in columns if each is not None]
    if any(math.isnan(value) for value in values):
        return Pair(values[0], values[1], math.nan, None, "")
    drop = sign * (values[0] - values[1])
    if drop <= tolerance:
        return Pair(values[0], values[1], drop, None, "")
    if metric == "auc":
        deviation = _deviation_of_aucs(*columns)
        least = drop - NormalDist().inv_cdf(confidence) * deviation
        return Pair(values[0], values[1], drop, least, "DeLong's interval")
    drops = [sign * (a - b) for a, b in _resampled(metric, *columns) if not (math.isnan(a) or math.isnan(b))]
    method = f"bootstrap of {len(drops)} resamples"
    if len(drops) < _FEWEST_RESAMPLES // 2:
        return Pair(values[0], values[1], drop, None, method)
    drops.sort()
    return Pair(values[0], values[1], drop, drops[int((1 - confidence) * (len(drops) - 1))], method)


def _resampled(metric: str, before: Any, after: Any) -> list[tuple[float, float]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = len(before[0])
    count = max(_FEWEST_RESAMPLES, min(_MOST_RESAMPLES, _MOST_DRAWN // rows))
    found = []
    for number in range(count):
        drawn = pc.floor(pc.multiply(pc.random(rows, initializer=SEED + number), float(rows))).cast(pa.int64())
        taken = [[column.take(drawn) for column in columns] for columns in (before, after)]
        # A resample that leaves out every row that a ratio is of says nothing of either version.
        values = [_value(metric, columns, undefined=math.nan) for columns in taken]
        if all(map(math.isnan, values)):
            continue
        found.append(tuple(_value(metric, columns) for columns in taken))
    return [(a, b) for a, b in found]


def _columns(metric: str, rows: Rows) -> list[Any] | None:
    """Return the columns of doubles, one value a row, of whose means a metric is a function."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def number(mask: Any) -> Any:
        return pc.fill_null(mask, False).cast(pa.float64())

    if metric in ("accuracy", "error_rate"):
        return None if rows.prediction.null_count else [number(pc.equal(rows.label, rows.prediction))]
    if metric in ("mae", "mse", "rmse", "r2"):
        if not (pa.types.is_floating(rows.label.type) or pa.types.is_integer(rows.label.type)):
            return None
        label, prediction = rows.label.cast(pa.float64()), rows.prediction.cast(pa.float64())
        error = pc.subtract(label, prediction)
        square = pc.multiply(error, error)
        if metric == "r2":
            # Moved by one of the labels, so that labels which are all the same have no spread to the last bit.
            moved = pc.subtract(label, label[0])
            return [square, moved, pc.multiply(moved, moved)]
        return [pc.abs(error) if metric == "mae" else square]
    if rows.positive is None:
        return None
    truth = number(pc.equal(rows.label, rows.positive))
    if metric in ("precision", "recall", "f1"):
        if rows.prediction.null_count:
            return None
        said = number(pc.equal(rows.prediction, rows.positive))
        return [pc.multiply(truth, said), said, truth]
    if rows.score.null_count:
        return None
    score = rows.score.cast(pa.float64())
    if metric == "auc":
        return [truth, score]
    if metric == "brier":
        away = pc.subtract(score, truth)
        return [pc.multiply(away, away)]
    clipped = pc.min_element_wise(pc.max_element_wise(score, _SMALLEST), 1 - _SMALLEST)
    of_truth = pc.if_else(pc.equal(truth, 1.0), clipped, pc.subtract(1.0, clipped))
    return [pc.negate(pc.ln(of_truth))]


def _value(metric: str, columns: Sequence[Any], undefined: float = 0.0) -> float:
    """Return a metric from its columns; NaN where it is not defined, `undefined` for a ratio to nothing."""
    import pyarrow.compute as pc

    if metric == "auc":
        return _auc(*columns)
    means = [float(pc.mean(column).as_py()) for column in columns]
    of_means = _OF_MEANS.get(metric)
    if metric == "r2" and len(columns[0]) < 2:
        return math.nan
    value = means[0] if of_means is None else of_means(*means)
    if not math.isnan(value):
        return value
    # Of labels that are all the same, a perfect prediction explains everything: so scikit-learn has it.
    return 1.0 if metric == "r2" and means[0] == 0 and undefined == 0 else undefined


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _r2(square: float, label: float, label_square: float) -> float:
    spread = label_square - label * label
    return 1 - square / spread if spread > 0 else math.nan


_OF_MEANS: dict[str, Callable[..., float]] = {
    "error_rate": lambda right: 1 - right,
    "precision": lambda both, said, truth: _share(both, said),
    "recall": lambda both, said, truth: _share(both, truth),
    "f1": lambda both, said, truth: _share(2 * both, said + truth),
    "rmse": math.sqrt,
    "r2": _r2,
}


# -- the area under the curve -----------------------------------------------------------------------------------------
def _auc(truth: Any, score: Any) -> float:
    placed, negatives = _placements(truth, score)
    return sum(placed) / len(placed) if placed and negatives else math.nan


def _deviation_of_aucs(before: Any, after: Any) -> float:
    """Return the standard deviation of the difference of two areas over the same rows.

    E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44, 1988: from the share of the negatives that each
    positive is placed above, and of the positives that each negative is placed below.
    """
    variance = 0.0
    (positives, negatives), (other_positives, other_negatives) = _placements(*before), _placements(*after)
    for one, other in ((positives, other_positives), (negatives, other_negatives)):
        differences = [a - b for a, b in zip(one, other, strict=True)]
        mean = sum(differences) / len(differences)
        spread = sum((each - mean) ** 2 for each in differences)
        variance += spread / max(1, len(differences) - 1) / len(differences)
    return math.sqrt(variance)


def _placements(truth: Any, score: Any) -> tuple[list[float], list[float]]:
    """Return for each positive the share of negatives below it, and for each negative that of positives above it.

    An equal score counts a half.
    """
    import pyarrow.compute as pc

    is_positive = pc.equal(truth, 1.0)
    positives = score.filter(is_positive).to_pylist()
    negatives = score.filter(pc.invert(is_positive)).to_pylist()
    if not positives or not negatives:
        return [], []
    low, high = sorted(positives), sorted(negatives)
    return (
        [_below(high, each) / len(high) for each in positives],
        [1 - _below(low, each) / len(low) for each in negatives],
    )


def _below(ordered: list[float], value: float) -> float:
    from bisect import bisect_left, bisect_right

    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / 2
