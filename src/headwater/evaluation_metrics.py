"""What predictions measure against labels, by scikit-learn's definitions; knows no version, dataset or gate.

`accuracy`, `precision`, `recall`, `f1`, `auc`, `log_loss`, `brier`, `rmse`, `mae` and `r2` are what `accuracy_score`,
`precision_score`, `recall_score`, `f1_score`, `roc_auc_score`, `log_loss`, `brier_score_loss`,
`root_mean_squared_error`, `mean_absolute_error` and `r2_score` of scikit-learn return
(https://scikit-learn.org/stable/modules/model_evaluation.html): a precision, recall or f1 that would divide by zero is
0. With more than two classes they are `precision_macro`, `recall_macro` and `f1_macro`. What scikit-learn leaves
undefined (an auc of one class, an r2 of one row) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.dataset_rows import Rows
from headwater.errors import InvalidInputError
from headwater.evaluation_model import Scoring
from headwater.names import shown

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["METRICS", "TASKS", "Group", "by_group", "scored", "usual_positive"]

TASKS = ("classification", "regression")

METRICS = {
    "binary": ("accuracy", "precision", "recall", "f1", "auc", "log_loss", "brier"),
    "multiclass": ("accuracy", "precision_macro", "recall_macro", "f1_macro"),
    "regression": ("rmse", "mae", "r2"),
}
"""What is computed, by task."""

_MOST_GROUPS = 10_000
_EPSILON = 2.0**-52
"""By how much a probability is kept from 0 and 1 in a log loss: the machine epsilon, as scikit-learn has it."""

_WHAT = "the predictions"
_SAY_TASK = "--task classification or --task regression says it"


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that have the same values in some columns.

    Attributes:
        values: The values by column, as text, a null as an empty one; no column: all rows.
        rows: How many.
        metrics: What they measure: those of `METRICS`, and of a binary task that has predictions `positives` and
            `negatives` (labels), `selection_rate`, `true_positive_rate` and `false_positive_rate`.
    """

    values: Mapping[str, str]
    rows: int
    metrics: Mapping[str, float]


# -- what is compared with what ---------------------------------------------------------------------------------------
def scored(
    label: Any, prediction: Any | None, score: Any | None, *, task: str | None = None, positive: str | None = None
) -> tuple[Scoring, pa.Table]:
    """Return how predictions are to be compared with labels, and both so that they can be.

    Args:
        label: What is true, without nulls.
        prediction: What was predicted, without nulls, if it was.
        score: Numbers, without nulls: probabilities of the positive class, or any that rise with it.
        task: One of `TASKS`, where the labels leave it open.
        positive: The class that is looked for; of two the greater unless given.

    Returns:
        The scoring, and a table of `label`, `prediction` and `score`: classes as text, or numbers.

    Raises:
        InvalidInputError: The task can't be told, or the values do not fit it or each other.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    label = _plain(label)
    prediction = None if prediction is None else _plain(prediction)
    score = None if score is None else pc.cast(_plain(score), pa.float64())
    if task is not None and task not in TASKS:
        raise InvalidInputError(f"not a task: {shown(task)}", hint=f"use {' or '.join(TASKS)}")
    if (task or _task_of(label, prediction)) == "regression":
        if positive is not None:
            raise InvalidInputError("a regression has no positive class", hint="leave out --positive")
        return Scoring("regression"), _numbers(label, prediction, score)
    texts, predicted = _classes(label, prediction)
    scoring = _positive(label, texts, predicted, positive)
    nothing = pa.nulls(len(label), pa.string()) if predicted is None else predicted
    numbers = pa.nulls(len(label), pa.float64()) if score is None else score
    return scoring, pa.table({"label": texts, "prediction": nothing, "score": numbers})


def _plain(column: Any) -> Any:
    """Return a column as one array of truth values, integers, doubles or text."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of no chunks
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    type_ = array.type
    if pa.types.is_dictionary(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return array.cast(pa.string())
    if pa.types.is_decimal(type_) or pa.types.is_floating(type_) or type_ == pa.uint64():
        return array.cast(pa.float64())
    return array if pa.types.is_boolean(type_) or pa.types.is_string(type_) else array.cast(pa.int64())


def _kind(array: Any) -> str:
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        return "bool"
    return "text" if pa.types.is_string(array.type) else "real" if pa.types.is_floating(array.type) else "int"


def _whole(array: Any) -> bool:
    """Return whether numbers are whole."""
    import pyarrow.compute as pc

    return bool(pc.all(pc.equal(pc.trunc(array), array)).as_py()) if _kind(array) == "real" else _kind(array) == "int"


def _task_of(label: Any, prediction: Any | None) -> str:
    import pyarrow.compute as pc

    kind = _kind(label)
    if kind in ("bool", "text"):
        return "classification"
    some = set(pc.unique(label).to_pylist())
    if some <= {0, 1} or some <= {-1, 1}:
        return "classification"
    if kind == "int" and prediction is not None and _whole(prediction):
        raise InvalidInputError(
            "the labels and the predictions are whole numbers: classes, or amounts?", hint=_SAY_TASK
        )
    return "regression"


def _numbers(label: Any, prediction: Any | None, score: Any | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = prediction if prediction is not None else score
    for what, each in (("labels", label), ("predictions", values)):
        if _kind(each) in ("text", "bool"):
            raise InvalidInputError(f"the {what} are not numbers, as a regression needs them", hint=_SAY_TASK)
        if not pc.all(pc.is_finite(each)).as_py():
            raise InvalidInputError(f"some of the {what} are infinite", hint="write finite numbers")
    columns = {"label": label, "prediction": values}
    table = {name: pc.cast(each, pa.float64()) for name, each in columns.items()}
    table["score"] = pa.nulls(len(label), pa.float64()) if score is None else score
    return pa.table(table)


def _text(array: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if _kind(array) == "real" and _whole(array):
        array = pc.cast(array, pa.int64())
    return pc.cast(array, pa.string())


def _classes(label: Any, prediction: Any | None) -> tuple[Any, Any | None]:
    """Return labels and predictions as text that is the same for the same class."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = _text(label)
    if prediction is None:
        return texts, None
    kind, found = _kind(label), _kind(prediction)
    if found == "real" and kind != "text" and not _whole(prediction):
        value = prediction.filter(pc.not_equal(pc.trunc(prediction), prediction))[0].as_py()
        raise InvalidInputError(
            f"the prediction {value:g} is no class", hint="a probability belongs in the column score"
        )
    predicted = _text(prediction)
    if kind == "bool" and found in ("int", "real"):
        predicted = _replaced(predicted, {"0": "false", "1": "true"})
    elif kind == "bool":
        predicted = pc.utf8_lower(predicted)
    elif kind in ("int", "real") and found == "bool":
        predicted = _replaced(predicted, {"false": "0", "true": "1"})
    elif kind in ("int", "real") and found == "text":
        try:
            numbers = pc.cast(predicted, pa.float64())
        except pa.ArrowInvalid:
            raise InvalidInputError("the labels are numbers, and the predictions are text") from None
        predicted = _text(numbers)
    if kind == "bool":
        odd = pc.invert(pc.is_in(predicted, value_set=pa.array(["false", "true"])))
        if pc.any(odd).as_py():
            value = predicted.filter(odd)[0].as_py()
            raise InvalidInputError(
                f"the prediction {shown(value)} is neither true nor false, as the labels are",
                hint="write true or false, or 1 or 0",
            )
    return texts, predicted


def _replaced(texts: Any, values: Mapping[str, str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pc.index_in(texts, value_set=pa.array(list(values)))
    return pc.coalesce(pa.array(list(values.values())).take(known), texts)


def _positive(label: Any, texts: Any, predicted: Any | None, positive: str | None) -> Scoring:
    """Return whether there are two classes, and which of them is looked for."""
    kind = _kind(label)
    true, classes = _both(kind, texts, predicted)
    if positive is None:
        usual = _greatest(kind, true, classes)
        return Scoring("multiclass") if usual is None else Scoring("binary", usual)
    if not (len(true) == 2 or len(classes) == 2):
        raise InvalidInputError(f"there are {len(classes)} classes, and a positive one is of two")
    given = positive.lower() if kind == "bool" else positive
    if given not in classes:
        some = sorted(classes)[:10]
        raise InvalidInputError(
            f"not a class: {shown(positive)}", hint=f"the classes are {', '.join(map(shown, some))}"
        )
    return Scoring("binary", given)


def _both(kind: str, texts: Any, predicted: Any | None) -> tuple[set[str], set[str]]:
    """Return the classes of the labels, and those of labels and predictions."""
    import pyarrow.compute as pc

    true = set(pc.unique(texts).to_pylist())
    classes = true | (set(pc.unique(predicted).to_pylist()) - {None} if predicted is not None else set())
    if kind == "bool":
        classes |= {"false", "true"}
    elif kind != "text" and true <= {"0", "1"}:
        classes |= {"0", "1"}
    elif kind != "text" and true <= {"-1", "1"}:
        classes |= {"-1", "1"}
    return true, classes


def _greatest(kind: str, true: set[str], classes: set[str]) -> str | None:
    those = true if len(true) == 2 else classes
    if len(those) != 2:
        return None
    return max(those) if kind in ("text", "bool") else max(those, key=float)


def usual_positive(kind: str, label: Any, prediction: Any) -> str | None:
    """Return the class that is looked for where nobody names one: of two the greater; None where there are more.

    Args:
        kind: What the labels were in the data: `text`, `bool`, or anything else for numbers.
        label: The labels, as `scored` returned them.
        prediction: The predictions, as `scored` returned them.
    """
    return _greatest(kind, *_both(kind, label, prediction))


# -- measuring --------------------------------------------------------------------------------------------------------
def by_group(folder: Path, table: pa.Table, scoring: Scoring, columns: Sequence[str] = ()) -> list[Group]:
    """Return what predictions measure, for each combination of values of some columns, in their order.

    Args:
        folder: A folder to work in.
        table: `label`, `prediction` and `score`, as `scored` returns them, and the columns.
        scoring: How they are compared.
        columns: What the rows are grouped by, as text; none: all rows together.

    Raises:
        InvalidInputError: There are too many groups.
    """
    # One thread: sums of floating-point numbers have to come out the same when they are computed again.
    with Rows(folder, threads=1) as rows:
        names = {name: f"g{at}" for at, name in enumerate(columns)}
        chosen = [table.column(name) for name in ("label", "prediction", "score", *columns)]
        import pyarrow as pa

        rows.register("given", pa.table(chosen, names=["label", "prediction", "score", *names.values()]))
        groups = "".join(f", coalesce({each}, '') AS {each}" for each in names.values())
        rows.execute(f"CREATE TEMP TABLE rows AS SELECT 0 AS g, label, prediction, score{groups} FROM given", _WHAT)
        keys = ", ".join(["g", *names.values()])
        counts = {
            tuple(row[:-1]): row[-1] for row in rows.all(f"SELECT {keys}, count(*) FROM rows GROUP BY {keys}", _WHAT)
        }
        if len(counts) > _MOST_GROUPS:
            raise InvalidInputError(
                f"{'+'.join(map(shown, columns))} has {len(counts):,} values, and {_MOST_GROUPS:,} are allowed",
                hint="slice by a column that has few",
            )
        found: dict[tuple[Any, ...], dict[str, float]] = {key: {} for key in counts}
        for measure in (_regression,) if scoring.task == "regression" else (_confusion, _ranks, _losses):
            for key, metrics in measure(rows, keys, scoring, table):
                found[key] |= metrics
    return [
        Group(dict(zip(columns, key[1:], strict=True)), counts[key], found[key])
        for key in sorted(counts, key=lambda each: each[1:])
    ]


_Found = Iterator[tuple[tuple[Any, ...], dict[str, float]]]


def _confusion(rows: Rows, keys: str, scoring: Scoring, table: pa.Table) -> _Found:
    if table.column("prediction").null_count:
        return
    cells: dict[tuple[Any, ...], dict[tuple[str, str], int]] = {}
    for *key, true, predicted, count in rows.all(
        f"SELECT {keys}, label, prediction, count(*) FROM rows GROUP BY ALL ORDER BY ALL", _WHAT
    ):
        cells.setdefault(tuple(key), {})[true, predicted] = count
    for found, each in cells.items():
        yield found, _binary(each, scoring.positive) if scoring.task == "binary" else _multiclass(each)


def _binary(cells: Mapping[tuple[str, str], int], positive: str | None) -> dict[str, float]:
    hits = cells.get((positive or "", positive or ""), 0)
    positives = sum(count for (true, _), count in cells.items() if true == positive)
    selected = sum(count for (_, predicted), count in cells.items() if predicted == positive)
    total = sum(cells.values())
    right = sum(count for (true, predicted), count in cells.items() if true == predicted)
    return {
        "accuracy": right / total,
        "precision": _ratio(hits, selected),
        "recall": _ratio(hits, positives),
        "f1": _ratio(2 * hits, selected + positives),
        "positives": positives,
        "negatives": total - positives,
        "selection_rate": selected / total,
        "true_positive_rate": _ratio(hits, positives),
        "false_positive_rate": _ratio(selected - hits, total - positives),
    }


def _multiclass(cells: Mapping[tuple[str, str], int]) -> dict[str, float]:
    true: dict[str, int] = {}
    predicted: dict[str, int] = {}
    for (was, said), count in cells.items():
        true[was] = true.get(was, 0) + count
        predicted[said] = predicted.get(said, 0) + count
    classes = sorted(true.keys() | predicted.keys())
    hits = {each: cells.get((each, each), 0) for each in classes}

    def mean(values: Iterator[float]) -> float:
        return math.fsum(values) / len(classes)

    return {
        "accuracy": sum(hits.values()) / sum(true.values()),
        "precision_macro": mean(_ratio(hits[each], predicted.get(each, 0)) for each in classes),
        "recall_macro": mean(_ratio(hits[each], true.get(each, 0)) for each in classes),
        "f1_macro": mean(_ratio(2 * hits[each], predicted.get(each, 0) + true.get(each, 0)) for each in classes),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _ranks(rows: Rows, keys: str, scoring: Scoring, table: pa.Table) -> _Found:
    """The area under the ROC curve: how often a positive row has a higher score than a negative one, a tie half."""
    if scoring.task != "binary" or table.column("score").null_count:
        return
    for *key, twice, positives, negatives in rows.all(
        f"WITH counted AS (SELECT {keys}, score, count(*) FILTER (label = $1) AS p, count(*) FILTER (label <> $1) AS n"
        " FROM rows GROUP BY ALL), ranked AS (SELECT *, coalesce(sum(n) OVER"
        f" (PARTITION BY {keys} ORDER BY score ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS below"
        f" FROM counted) SELECT {keys}, sum(p::HUGEINT * (2 * below + n)), sum(p), sum(n) FROM ranked GROUP BY {keys}",
        _WHAT,
        [scoring.positive],
    ):
        if positives and negatives:
            yield tuple(key), {"auc": int(twice) / (2 * int(positives) * int(negatives))}


def _losses(rows: Rows, keys: str, scoring: Scoring, table: pa.Table) -> _Found:
    import pyarrow.compute as pc

    score = table.column("score")
    if scoring.task != "binary" or score.null_count:
        return
    limits = pc.min_max(score).as_py()
    if not 0 <= limits["min"] <= limits["max"] <= 1:
        return
    likely = "CASE WHEN label = $1 THEN score ELSE 1 - score END"
    kept = f"greatest({_EPSILON!r}::DOUBLE, least(1 - {_EPSILON!r}::DOUBLE, {likely}))"
    for *key, loss, brier in rows.all(
        f"SELECT {keys}, fsum(-ln({kept})) / count(*), fsum((score - (label = $1)::INT) ** 2) / count(*)"
        f" FROM rows GROUP BY {keys}",
        _WHAT,
        [scoring.positive],
    ):
        yield tuple(key), {"log_loss": loss, "brier": brier}


def _regression(rows: Rows, keys: str, scoring: Scoring, table: pa.Table) -> _Found:
    same = " AND ".join(f"r.{each.strip()} = m.{each.strip()}" for each in keys.split(","))
    listed = ", ".join(f"r.{each.strip()}" for each in keys.split(","))
    for *key, count, squares, amounts, spread in rows.all(
        f"WITH m AS (SELECT {keys}, fsum(label) / count(*) AS mean FROM rows GROUP BY {keys})"
        f" SELECT {listed}, count(*), fsum((prediction - label) ** 2), fsum(abs(prediction - label)),"
        f" fsum((label - m.mean) ** 2) FROM rows r JOIN m ON {same} GROUP BY {listed}",
        _WHAT,
    ):
        found = {"rmse": math.sqrt(squares / count), "mae": amounts / count}
        if count > 1:
            found["r2"] = 1 - squares / spread if spread else float(squares == 0)
        yield tuple(key), found
