"""Gates over metrics: a threshold, and no regression against production; reads metric rows and stored predictions.

Of several rows for one metric, slice and dataset version, the one that landed last counts. A number that is missing,
or is not finite, never passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater import noise, points
from headwater.errors import InvalidInputError
from headwater.gates import Ask, Finding
from headwater.names import canonical_slice, quote, slice_values
from headwater.state import Fold
from headwater.stored import Stored, row_by_id, row_of

__all__ = ["Row", "dataset_called", "metric", "regression", "rows_by_slice"]

FEWEST_ROWS = 30
"""Rows that a slice needs to be judged, where it is known how many it has."""

CONFIDENCE = 0.95

_LOWER = (
    *("loss", "error", "rmse", "mae", "mse", "mape", "brier", "perplexity", "latency", "deviance", "wer", "cer"),
    *("ece", "divergence"),
)
"""Words of metrics of which less is better."""

_RATES = ("accuracy", "acc", "error_rate", "hit_rate", "misclassification_rate", "zero_one_loss")
"""Metrics that are a share of all rows: of these, and of no others, the number of rows says how sure they are."""

_NAMED = 5
"""So many slices are named in a sentence; all are in the details."""

_CLOSE = 1e-12
"""Of two doubles that people typed, differences up to this are none: 0.80 - 0.79 is a little more than 0.01."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric row that counts."""

    slice: str
    value: float
    dataset_id: str | None
    computed: bool
    tx: str


# -- rows -------------------------------------------------------------------------------------------------------------
def _rows(ask: Ask, version_id: str, key: str) -> list[Row]:
    """Return the rows of one metric of a version, the one that landed last first."""
    memo = ("metric rows", ask.fold.commit, version_id)
    if memo not in ask.memo:
        found = points.of_version(ask.context.lake, ask.fold, version_id)
        landed = {tx: _landing(ask.fold, tx) for tx in {row["tx"] for row in found}}
        step = {None: -1}
        found.sort(
            key=lambda row: (landed[row["tx"]], row["tx"], step.get(row["step"], row["step"]), row["ordinal"]),
            reverse=True,
        )
        ask.memo[memo] = found
    return [
        Row(row["slice"], row["value"], row["dataset_id"], row["source"] == "computed", row["tx"])
        for row in ask.memo[memo]
        if row["key"] == key
    ]


def _landing(fold: Fold, tx: str) -> int:
    (position,) = fold.one("SELECT max(position) FROM commits WHERE tx = ?", tx)
    return -1 if position is None else int(position)


def rows_by_slice(rows: Iterable[Row], slices: Sequence[Sequence[str]] | None) -> dict[str, Row]:
    """Return the row that counts of each slice of some columns; of all rows together where no columns are given.

    Args:
        rows: The one that landed last first.
        slices: Tuples of columns, sorted.
    """
    wanted = {tuple(columns) for columns in slices or ()}
    found: dict[str, Row] = {}
    for row in rows:
        fits = row.slice == "" if slices is None else tuple(sorted(slice_values(row.slice))) in wanted
        if fits:
            found.setdefault(row.slice, row)
    return found


def dataset_called(fold: Fold, dataset_id: str | None) -> str:
    """Return what people call a dataset version."""
    row = row_by_id(fold, dataset_id) if dataset_id is not None else None
    if row is None:
        return "no named dataset"
    name, semver = fold.one("SELECT name, semver FROM datasets WHERE dataset_id = ?", dataset_id)
    return f"{quote(name)}@{semver}"


def _source(ask: Ask, row: Row) -> str:
    commit = ask.fold.one("SELECT id, actor FROM commits WHERE tx = ?", row.tx)
    where, who = (commit[0][:12], f" by {commit[1]}") if commit is not None else (row.tx, "")
    how = "computed" if row.computed else "claimed"
    return f"metric row of commit {where}, {how}{who}, on {dataset_called(ask.fold, row.dataset_id)}"


def _found(value: float) -> str:
    return f"{value:.6g}"


# -- a threshold ------------------------------------------------------------------------------------------------------
def metric(ask: Ask) -> Finding:
    """Judge a metric by `min` and `max`, over all rows or on every value of some columns."""
    options = ask.gate.options
    key, slices = options["metric"], options.get("slices")
    required = " and ".join(
        f"{sign} {options[name]:g}" for name, sign in (("min", ">="), ("max", "<=")) if name in options
    )
    dataset_id = row_of(ask.fold, options["on"])[0] if "on" in options else None
    every = _rows(ask, ask.version_id, key)
    rows = [row for row in every if dataset_id is None or row.dataset_id == dataset_id]
    if dataset_id is None and slices is not None and rows:
        # Slices are those of one dataset version: the one that was measured last.
        newest = next(iter(rows_by_slice(rows, slices).values()), rows[0])
        rows = [row for row in rows if row.dataset_id == newest.dataset_id]
    counted = [row for row in rows if row.computed or not options.get("computed")]
    found = rows_by_slice(counted, slices)
    if not found:
        return Finding(required, *_missing(ask, key, rows_by_slice(rows, slices), every, dataset_id))
    if slices is None:
        (row,) = found.values()
        details = {"value": _plain(row.value), "computed": row.computed, "dataset_id": row.dataset_id}
        return Finding(required, _found(row.value), _within(row.value, options), _source(ask, row), details)
    return _thresholds(ask, required, found)


def _within(value: float, options: Mapping[str, Any]) -> bool:
    # An infinite number was not measured, it came of a division by nothing.
    return (
        math.isfinite(value)
        and value >= options.get("min", -math.inf)
        and value <= options.get("max", math.inf)
    )


def _missing(
    ask: Ask, key: str, refused: Mapping[str, Row], every: list[Row], dataset_id: str | None
) -> tuple[str, bool, str]:
    """Return what was found, that it does not pass, and why, where no row counts."""
    by = " by " + ", ".join("+".join(each) for each in ask.gate.options["slices"]) if "slices" in ask.gate.options else ""
    if refused:
        row = next(iter(refused.values()))
        return f"{_found(row.value)}, claimed", False, f"a computed {key} is demanded: {_source(ask, row)}"
    where = f" on {dataset_called(ask.fold, dataset_id)}" if dataset_id is not None else ""
    why = f"no {key}{by} of {quote(ask.name)}/{ask.number} was measured{where}"
    other = next((row for row in every if row.slice == ""), None)
    if other is not None and not by:
        why += f"; it is {_found(other.value)} on {dataset_called(ask.fold, other.dataset_id)}"
    return "nothing", False, why


def _thresholds(ask: Ask, required: str, found: Mapping[str, Row]) -> Finding:
    options = ask.gate.options
    few, judged = [], {}
    rows = _rows_of_slices(ask, next(iter(found.values())).dataset_id, options["slices"])
    for name, row in found.items():
        if rows.get(name, math.inf) < options.get("min_rows", FEWEST_ROWS):
            few.append(name)
        else:
            judged[name] = row
    failing = {name: row for name, row in judged.items() if not _within(row.value, options)}
    details = {
        "failing": {name: _plain(row.value) for name, row in sorted(failing.items())},
        "passing": {name: _plain(row.value) for name, row in sorted(judged.items()) if name not in failing},
        "too_few_rows": sorted(few),
    }
    source = _source(ask, next(iter(found.values())))
    if not judged:
        return Finding(required, _none_judged(options, few), False, source, details)
    worst = min(judged.items(), key=lambda each: _order(each[1].value, lowest="min" in options))
    text = _listed(f"{name} {_found(row.value)}" for name, row in sorted(failing.items()))
    text = text or f"worst: {worst[0]} {_found(worst[1].value)}"
    return Finding(required, text + _noted(few), not failing, source, details)


def _order(value: float, *, lowest: bool) -> float:
    return -math.inf if math.isnan(value) else value if lowest else -value


def _none_judged(options: Mapping[str, Any], few: Sequence[str]) -> str:
    least = options.get("min_rows", FEWEST_ROWS)
    return f"nothing: no slice has {least} rows ({_listed(sorted(few))})"


def _noted(few: Sequence[str], only_new: Sequence[str] = ()) -> str:
    notes = []
    if few:
        notes.append(f"too few rows to judge: {_listed(sorted(few))}")
    if only_new:
        notes.append(f"not in production: {_listed(sorted(only_new))}")
    return f" ({'; '.join(notes)})" if notes else ""


def _listed(parts: Iterable[str]) -> str:
    every = list(parts)
    rest = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return "; ".join(every[:_NAMED]) + rest


def _plain(value: float) -> float | str:
    """Return a number as JSON can hold it."""
    return value if math.isfinite(value) else str(value)


def _rows_of_slices(ask: Ask, dataset_id: str | None, slices: Sequence[Sequence[str]] | None) -> dict[str, int]:
    """Return how many rows of a dataset version each slice has; nothing where that can't be told."""
    if dataset_id is None:
        return {}
    memo = ("rows of slices", dataset_id, tuple(map(tuple, slices or ())))
    if memo not in ask.memo:
        ask.memo[memo] = _count(ask, dataset_id, slices)
    counts: dict[str, int] = ask.memo[memo]
    return counts


def _count(ask: Ask, dataset_id: str, slices: Sequence[Sequence[str]] | None) -> dict[str, int]:
    from headwater.content import Workbench

    row = row_by_id(ask.fold, dataset_id)
    if row is None:
        return {}
    stored = Stored.of(ask.fold, row)
    if slices is None:
        return {"": stored.version.rows} if stored.version.rows is not None else {}
    found: dict[str, int] = {}
    with Workbench(ask.context.lake.cache / "scratch") as bench:
        opened = stored.opened(ask.context.lake, bench)
        for columns in slices if opened is not None else ():
            if opened is not None and all(name in opened.table.schema for name in columns):
                for values, count in bench.counts(opened, columns).items():
                    found[canonical_slice(dict(zip(columns, values, strict=True)))] = count
    return found


# -- no regression ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Compared:
    """One slice of the candidate against production."""

    before: float | None
    after: float | None
    drop: float
    least: float | None
    """The least drop at the gate's confidence, where that could be told."""
    rows: int | None

    def told(self, name: str) -> str:
        """Return it in words."""
        before, after = ("nothing" if each is None else _found(each) for each in (self.before, self.after))
        named = f"{name} " if name else ""
        return f"{named}{before} → {after}"


def regression(ask: Ask) -> Finding:
    """Judge a metric against that of the version in production, on the same dataset version."""
    options = ask.gate.options
    key, slices, tolerance = options["metric"], options.get("slices"), options["max_regression"]
    by = " by " + ", ".join("+".join(each) for each in slices) if slices else ""
    lower = options.get("lower_is_better", _is_lower_better(key))
    required = f"no more than {tolerance:g} {'above' if lower else 'below'} production{by}"
    if ask.production is None:
        return Finding(required, "nothing to compare", True, "nothing is in production to compare with")
    if ask.production == ask.version_id:
        return Finding(required, "nothing to compare", True, "this version is in production itself")
    number = ask.fold.one("SELECT version FROM versions WHERE version_id = ?", ask.production)
    against = f"{quote(ask.name)}/{number[0]}" if number is not None else ask.production
    own = [row for row in _rows(ask, ask.version_id, key) if row.computed or not options.get("computed")]
    theirs = [row for row in _rows(ask, ask.production, key) if row.computed or not options.get("computed")]
    if "on" in options:
        dataset_id = row_of(ask.fold, options["on"])[0]
    else:
        newest = next(iter(rows_by_slice(own, slices).values()), None)
        if newest is None:
            what = "computed " if options.get("computed") else ""
            why = f"no {what}{key}{by} of {quote(ask.name)}/{ask.number} was measured"
            return Finding(required, "nothing", False, why)
        dataset_id = newest.dataset_id
    on = dataset_called(ask.fold, dataset_id)
    compared = _from_predictions(ask, key, dataset_id, slices, lower=lower)
    if compared is not None:
        method, slices_compared, only_new = compared
        source = f"{method} on {on}, against {against}"
        return _judged(ask, required, source, slices_compared, only_new, exact=True)
    after = rows_by_slice([row for row in own if row.dataset_id == dataset_id], slices)
    before = rows_by_slice([row for row in theirs if row.dataset_id == dataset_id], slices)
    if not before:
        why = f"no {key}{by} of {against}, which is in production, was measured on {on}"
        return Finding(required, "nothing to compare with", False, f"{why}: `headwater evaluate {against}`")
    slices_compared, method = _from_rows(ask, key, dataset_id, before, after, lower=lower)
    only_new = sorted(after.keys() - before.keys())
    claimed = "" if all(row.computed for row in (*before.values(), *after.values())) else ", some of them claimed"
    source = f"metric rows on {on}{claimed}, against {against}; {method}"
    return _judged(ask, required, source, slices_compared, only_new, exact=False)


def _is_lower_better(key: str) -> bool:
    words = key.lower().replace("-", "_").replace(".", "_").replace("/", "_").replace(" ", "_").split("_")
    return any(word in _LOWER or word.endswith(("loss", "rmse")) for word in words)


def _from_rows(
    ask: Ask,
    key: str,
    dataset_id: str | None,
    before: Mapping[str, Row],
    after: Mapping[str, Row],
    *,
    lower: bool,
) -> tuple[dict[str, Compared], str]:
    """Compare metric rows slice by slice; where the number of rows says how sure they are, with intervals."""
    confidence = ask.gate.options.get("confidence", CONFIDENCE)
    counts = _rows_of_slices(ask, dataset_id, ask.gate.options.get("slices"))
    is_rate = key.lower() in _RATES
    found = {}
    sure = False
    for name, row in before.items():
        value = after[name].value if name in after else None
        rows = counts.get(name)
        if value is None or not math.isfinite(value) or not math.isfinite(row.value):
            found[name] = Compared(row.value, value, math.nan, None, rows)
            continue
        drop = (value - row.value) if lower else (row.value - value)
        least = None
        if is_rate and rows and 0 <= value <= 1 and 0 <= row.value <= 1:
            better, worse = (1 - row.value, 1 - value) if lower else (row.value, value)
            least = noise.least_drop_of_rates(better, worse, rows, confidence)
            sure = True
        found[name] = Compared(row.value, value, drop, least, rows)
    interval = f"Newcombe's interval of rates over the dataset's rows, one-sided at {confidence:g}"
    return found, interval if sure else "the values as they are, since how sure they are is not known"


def _from_predictions(
    ask: Ask, key: str, dataset_id: str | None, slices: Sequence[Sequence[str]] | None, *, lower: bool
) -> tuple[str, dict[str, Compared], list[str]] | None:
    """Compare what both versions predicted for every row of the dataset version; None where that is not stored."""
    from headwater import evaluations

    if dataset_id is None or key not in noise.PAIRED or ask.production is None:
        return None
    kept = [evaluations.stored(ask.context, ask.fold, each, dataset_id) for each in (ask.production, ask.version_id)]
    before, after = kept
    if before is None or after is None or before.scoring != after.scoring or before.label != after.label:
        return None
    options = ask.gate.options
    confidence = options.get("confidence", CONFIDENCE)
    memo = (
        *("paired", key, before.digest, after.digest, tuple(map(tuple, slices or ())), lower, confidence),
        *(options["max_regression"], options.get("min_rows", FEWEST_ROWS)),
    )
    if memo not in ask.memo:
        try:
            ask.memo[memo] = _paired(ask, key, before, after, slices, lower=lower, confidence=confidence)
        except InvalidInputError:
            # The dataset lacks a column of the slices: then metric rows are all there is.
            ask.memo[memo] = None
    found: tuple[str, dict[str, Compared], list[str]] | None = ask.memo[memo]
    return found


def _paired(
    ask: Ask, key: str, before: Any, after: Any, slices: Sequence[Sequence[str]] | None, *, lower: bool, confidence: float
) -> tuple[str, dict[str, Compared], list[str]] | None:
    columns = sorted({name for each in slices or () for name in each})
    old, new = before.table(columns), after.table(columns)
    options = ask.gate.options
    found: dict[str, Compared] = {}
    methods = set()
    for name, at in _positions(old, slices).items():
        sides = [
            noise.Rows(
                *(_taken(table.column(column), at) for column in ("label", "prediction", "score")), before.positive
            )
            for table in (old, new)
        ]
        rows = len(sides[0].label)
        if rows < options.get("min_rows", FEWEST_ROWS):
            found[name] = Compared(None, None, 0.0, None, rows)
            continue
        pair = noise.paired(
            key,
            *sides,
            lower_is_better=lower,
            confidence=confidence,
            tolerance=options["max_regression"] + _CLOSE,
        )
        if pair is None:
            if not slices:
                return None
            # One class alone, say: the metric has no value there for either version.
            continue
        methods.add(pair.method)
        found[name] = Compared(pair.before, pair.after, pair.drop, pair.least, rows)
    how = " and ".join(sorted(methods - {""})) or "no interval needed"
    return f"stored predictions for the same rows, {how}, one-sided at {confidence:g}", found, []


def _taken(column: Any, at: Any) -> Any:
    chosen = column.combine_chunks() if at is None else column.take(at).combine_chunks()
    return chosen.chunk(0) if hasattr(chosen, "chunks") else chosen


def _positions(table: Any, slices: Sequence[Sequence[str]] | None) -> dict[str, Any]:
    """Return the rows of each slice, by its name, as indices; None for all rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if slices is None:
        return {"": None}
    found = {}
    for columns in slices:
        keyed = table.select(list(columns)).append_column("at", pa.array(range(len(table)), pa.int64()))
        grouped = keyed.group_by(list(columns)).aggregate([("at", "list")])
        for row in range(len(grouped)):
            values = {name: grouped.column(name)[row].as_py() for name in columns}
            found[canonical_slice(values)] = grouped.column("at_list")[row].values
    return {name: found[name].take(pc.sort_indices(found[name])) for name in sorted(found)}


def _judged(
    ask: Ask, required: str, source: str, compared: Mapping[str, Compared], only_new: Sequence[str], *, exact: bool
) -> Finding:
    """Return what a comparison of slices comes to."""
    options = ask.gate.options
    tolerance, least_rows = options["max_regression"], options.get("min_rows", FEWEST_ROWS)
    few = [name for name, each in compared.items() if each.rows is not None and each.rows < least_rows]
    judged = {name: each for name, each in compared.items() if name not in few}
    failing = {name: each for name, each in judged.items() if _is_regression(each, tolerance)}
    noisy = {
        name: each for name, each in judged.items() if name not in failing and each.drop > tolerance + _CLOSE
    }
    details = {
        "failing": {name: _detail(each) for name, each in sorted(failing.items())},
        "within_noise": {name: _detail(each) for name, each in sorted(noisy.items())},
        "passing": {
            name: _detail(each) for name, each in sorted(judged.items()) if name not in failing and name not in noisy
        },
        "too_few_rows": sorted(few),
        "only_in_candidate": list(only_new),
    }
    if not judged:
        return Finding(required, _none_judged(options, few) if few else "nothing", False, source, details)
    if failing:
        text = _listed(_failure(name, each) for name, each in sorted(failing.items()))
    else:
        name, worst = max(judged.items(), key=lambda each: each[1].drop)
        within = ", which may be noise" if name in noisy else ""
        text = f"{'worst: ' if name else ''}{worst.told(name)}{within}"
    return Finding(required, text + _noted(few, only_new), not failing, source, details)


def _is_regression(each: Compared, tolerance: float) -> bool:
    if math.isnan(each.drop):
        # What production lacks can't be lost; what the candidate lacks can't be judged.
        return each.after is None or not math.isfinite(each.after)
    return (each.drop if each.least is None else each.least) > tolerance + _CLOSE


def _failure(name: str, each: Compared) -> str:
    if each.least is None:
        return each.told(name)
    return f"{each.told(name)} (worse by {_found(each.least)} or more)"


def _detail(each: Compared) -> dict[str, Any]:
    values = {"production": each.before, "candidate": each.after, "drop": each.drop, "least_drop": each.least}
    plain = {key: None if value is None else _plain(value) for key, value in values.items()}
    return {**plain, "rows": each.rows}
