"""The gate that wants no regression: a metric against that of the version in production, on the same dataset version.

Where both versions' predictions are stored they are compared row by row; else metric rows are, by slice. Noise is no
regression: where it can be told how sure a drop is, only what is left of it at the least counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headwater import evaluation_store, noise, production
from headwater.errors import InvalidInputError
from headwater.evaluation_model import Evaluated
from headwater.gate_metrics import (
    FEWEST_ROWS,
    Row,
    counts_of_slices,
    dataset_called,
    fewest_rows,
    listed,
    none_judged,
    noted,
    order,
    plain,
    rows_by_slice,
    rows_of,
    shortly,
    slice_called,
)
from headwater.gate_scoring import Scored, class_of, of_evaluation
from headwater.gates import Ask, Finding
from headwater.names import quote, shown
from headwater.stored import row_of
from headwater.tombstones import is_hidden

__all__ = ["regression"]

CONFIDENCE = 0.95

_LOWER = (
    *("loss", "losses", "error", "errors", "rmse", "mae", "mse", "mape", "smape", "wape", "mase", "medae"),
    *("msle", "rmsle", "rmspe", "rmsd", "crps", "pinball", "hinge", "brier", "perplexity", "ppl", "nll", "entropy"),
    *("deviance", "divergence", "kl", "kld", "jsd", "wasserstein", "fid", "distance", "ece", "mce"),
    *("eer", "wer", "cer", "ter", "der", "misclassification", "mistakes", "fpr", "fnr", "fdr"),
    *("regret", "cost", "costs", "latency", "duration", "seconds", "ms", "p50", "p90", "p95", "p99"),
)
"""Words of metrics of which less is better."""

_LOWER_PHRASES = (
    *("false_positive", "false_negative", "false_discovery", "false_alarm", "miss_rate"),
    *("negative_log_likelihood", "neg_log_likelihood"),
)

_HIGHER = ("accuracy", "acc", "auc", "recall", "precision", "f1", "reduction", "improvement", "gain", "free", "skill")
"""Words of metrics of which more is better."""

_RATES = ("accuracy", "acc", "error_rate", "hit_rate", "misclassification_rate", "zero_one_loss")
"""Metrics that are a share of all rows: of these, and of no others, the number of rows says how sure they are."""

_CLOSE = 1e-12
"""Of two doubles that people typed, differences up to this are none: 0.80 - 0.79 is a little more than 0.01."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One slice of the candidate against production."""

    before: float | None
    after: float | None
    drop: float
    least: float | None
    """The least drop at the gate's confidence, where that could be told."""
    rows: int | None

    @property
    def undefined(self) -> bool:
        """Whether the metric has no value here for either version: an area under the curve of one class, say."""
        return self.before is None and self.after is None

    def told(self, name: str) -> str:
        """Return it in words."""
        before, after = ("nothing" if each is None else shortly(each) for each in (self.before, self.after))
        named = f"{name} " if name else ""
        return f"{named}{before} → {after}"


def regression(ask: Ask) -> Finding:
    """Judge a metric against that of the version in production, on the same dataset version."""
    options = ask.gate.options
    key, slices, tolerance = options["metric"], options.get("slices"), options["max_regression"]
    by = " by " + ", ".join("+".join(each) for each in slices) if slices else ""
    lower = options.get("lower_is_better", _is_lower_better(key))
    required = f"no more than {tolerance:g} {'above' if lower else 'below'} production{by}"
    place = "is in production"
    if ask.production is None:
        # Whoever takes production away first has lowered no bar.
        last = [each for each in production.entered(ask.fold, ask.model_id) if not is_hidden(ask.fold, each)]
        ask, place = replace(ask, production=last[-1] if last else None), "was in production last"
    if ask.production is None:
        return Finding(required, "nothing to compare", True, "nothing is in production to compare with")
    if ask.production == ask.version_id:
        return Finding(required, "nothing to compare", True, f"this version {place} itself")
    number = ask.fold.one("SELECT version FROM versions WHERE version_id = ?", ask.production)
    against = f"{quote(ask.name)}/{number[0]}" if number is not None else ask.production
    to_now = "" if place == "is in production" else f", which {place}"
    every = rows_of(ask, ask.version_id, key)
    own = [row for row in every if not row.objection]
    of_production = rows_of(ask, ask.production, key)
    theirs = [row for row in of_production if not row.objection]
    if "on" in options:
        dataset_id = row_of(ask.fold, options["on"])[0]
    else:
        # Stored predictions can be compared on slices that no row is about.
        newest = next(iter([*rows_by_slice(own, slices).values(), *rows_by_slice(own, None).values()]), None)
        if newest is None:
            what = "computed " if options.get("computed") else ""
            refused = next((row for row in every if row.computed), None)
            why = f"no {what}{key}{by} of {quote(ask.name)}/{ask.number} was measured"
            if refused is not None:
                why = f"no {what}{key}{by} of {quote(ask.name)}/{ask.number} counts: {refused.objection}"
            return Finding(required, "nothing", False, why)
        dataset_id = newest.dataset_id
    on = dataset_called(ask.fold, dataset_id)
    other = _scored_otherwise(ask, key, dataset_id, against)
    if other:
        return Finding(required, "nothing to compare with", False, other)
    compared = _from_predictions(ask, key, dataset_id, slices, lower=lower)
    if compared:
        several = f", whose predictions are stored {len(compared)} times" if len(compared) > 1 else ""
        judged = [
            _judged(ask, required, f"{method} on {on}, against {against}{to_now}{several}", slices_compared, ())
            for method, slices_compared in compared
        ]
        return next((each for each in judged if not each.passed), judged[0])
    after = rows_by_slice([row for row in own if row.dataset_id == dataset_id], slices)
    there = [row for row in theirs if row.dataset_id == dataset_id]
    before = rows_by_slice(there, slices)
    # Whoever may evaluate could lower the bar by evaluating production once more: what was computed best counts.
    for row in there:
        if row.slice in before and row.computed and before[row.slice].computed and math.isfinite(row.value):
            best = before[row.slice]
            is_better = row.value < best.value if lower else row.value > best.value
            if row.scored == best.scored and (is_better or not math.isfinite(best.value)):
                before[row.slice] = row
    if not before:
        why = f"no {key}{by} of {against}, which {place}, was measured on {on}"
        refused = next((row for row in of_production if row.computed and row.dataset_id == dataset_id), None)
        if refused is not None:
            why = f"no {key}{by} of {against}, which {place}, counts: {refused.objection}"
        return Finding(required, "nothing to compare with", False, f"{why}: `headwater evaluate {against}`")
    for name, row in before.items():
        mine = after.get(name, row)
        if row.scored is not None and mine.scored is not None and row.scored != mine.scored:
            why = _otherwise(ask, mine.scored, against, row.scored)
            return Finding(required, "nothing to compare with", False, f"{why}, on {on}")
    slices_compared, method = _from_rows(ask, key, dataset_id, before, after, lower=lower)
    only_new = sorted(after.keys() - before.keys())
    claimed = "" if all(row.computed for row in (*before.values(), *after.values())) else ", some of them claimed"
    source = f"metric rows on {on}{claimed}, against {against}{to_now}; {method}"
    return _judged(ask, required, source, slices_compared, only_new)


def _otherwise(ask: Ask, own: Scored, against: str, theirs: Scored) -> str:
    version = f"{quote(ask.name)}/{ask.number}"
    return f"{version} was evaluated for {own}, and {against} in production for {theirs}"


def _scored_otherwise(ask: Ask, key: str, dataset_id: str | None, against: str) -> str:
    """Return what stored predictions of both versions were compared with, if that is not the same."""
    if dataset_id is None or ask.production is None or key not in noise.PAIRED:
        return ""
    before, after = _both(ask, ask.production, dataset_id)
    if before is None or after is None:
        return ""
    theirs, own = of_evaluation(before), of_evaluation(after)
    if theirs != own:
        return f"{_otherwise(ask, own, against, theirs)}, on {before.dataset}"
    options = ask.gate.options
    for name, said in (("label", own.label), ("positive", own.positive)):
        wanted = class_of(options.get(name, said))
        if name in options and wanted != said:
            return f"both versions were evaluated for {own}, and the policy says {name} {shown(wanted)}"
    return ""


def _both(ask: Ask, current: str, dataset_id: str) -> tuple[Evaluated | None, Evaluated | None]:
    """Return what was evaluated of the version in production, and of the candidate."""
    found = []
    for version_id in (current, ask.version_id):
        memo = ("evaluation", ask.fold.commit, version_id, dataset_id)
        if memo not in ask.memo:
            ask.memo[memo] = evaluation_store.stored(ask.context, ask.fold, version_id, dataset_id)
        found.append(ask.memo[memo])
    return found[0], found[1]


def _is_lower_better(key: str) -> bool:
    plain_key = re.sub(r"[^a-z0-9]+", "_", key.lower())
    if any(phrase in plain_key for phrase in _LOWER_PHRASES):
        return True
    words = plain_key.split("_")
    # scikit-learn's scorers are turned around so that more is better: neg_log_loss.
    if words[0] == "neg":
        return False
    # What a name says last is what it is about: the error of the recall, the reduction of the loss.
    for word in reversed(words):
        if word in _HIGHER:
            return False
        if word in _LOWER or word.endswith(("loss", "rmse")):
            return True
    return False


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
    counts = counts_of_slices(ask, dataset_id, ask.gate.options.get("slices"))
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
        if is_rate and rows and rows >= FEWEST_ROWS and 0 <= value <= 1 and 0 <= row.value <= 1:
            better, worse = (1 - row.value, 1 - value) if lower else (row.value, value)
            least = noise.least_drop_of_rates(better, worse, rows, confidence)
            sure = True
        found[name] = Compared(row.value, value, drop, least, rows)
    interval = f"Newcombe's interval of rates over the dataset's rows, one-sided at {confidence:g}"
    return found, interval if sure else "the values as they are, since how sure they are is not known"


def _from_predictions(
    ask: Ask, key: str, dataset_id: str | None, slices: Sequence[Sequence[str]] | None, *, lower: bool
) -> list[tuple[str, dict[str, Compared]]]:
    """Compare what both versions predicted for every row of the dataset version; nothing where that is not stored.

    Of production, everything that was ever predicted and not taken back counts: whoever evaluates it anew, and worse,
    lowers no bar.
    """
    if dataset_id is None or key not in noise.PAIRED or ask.production is None:
        return []
    last, after = _both(ask, ask.production, dataset_id)
    if last is None or after is None:
        return []
    earlier = evaluation_store.earlier(ask.context, ask.fold, last)
    found = [_against(ask, key, each, after, slices, lower=lower) for each in (last, *earlier)]
    return [each for each in found if each is not None]


def _against(
    ask: Ask, key: str, before: Evaluated, after: Evaluated, slices: Sequence[Sequence[str]] | None, *, lower: bool
) -> tuple[str, dict[str, Compared]] | None:
    options = ask.gate.options
    confidence = options.get("confidence", CONFIDENCE)
    memo = (
        *("paired", key, before.digest, after.digest, before.positive, tuple(map(tuple, slices or ()))),
        *(lower, confidence),
        *(options["max_regression"], options.get("min_rows", FEWEST_ROWS)),
    )
    if memo not in ask.memo:
        try:
            ask.memo[memo] = _paired(ask, key, before, after, slices, lower=lower, confidence=confidence)
        except InvalidInputError:
            # The dataset lacks a column of the slices: then metric rows are all there is.
            ask.memo[memo] = None
    found: tuple[str, dict[str, Compared]] | None = ask.memo[memo]
    return found


def _paired(
    ask: Ask,
    key: str,
    before: Any,
    after: Any,
    slices: Sequence[Sequence[str]] | None,
    *,
    lower: bool,
    confidence: float,
) -> tuple[str, dict[str, Compared]] | None:
    columns = sorted({name for each in slices or () for name in each})
    old, new = before.table(columns), after.table(columns)
    options = ask.gate.options
    found: dict[str, Compared] = {}
    methods = set()
    positions = _positions(old, slices)
    fewest = fewest_rows(options, [len(old) if at is None else len(at) for at in positions.values()])
    for name, at in positions.items():
        sides = []
        for table in (old, new):
            label, prediction, score = (_taken(table.column(each), at) for each in ("label", "prediction", "score"))
            sides.append(noise.Rows(label, prediction, score, before.positive))
        rows = len(sides[0].label)
        if rows < fewest:
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
            return None
        methods.add(pair.method)
        old_value, new_value = (None if math.isnan(each) else each for each in (pair.before, pair.after))
        found[name] = Compared(old_value, new_value, pair.drop, pair.least, rows)
    how = " and ".join(sorted(methods - {""})) or "no interval needed"
    return f"stored predictions for the same rows, {how}, one-sided at {confidence:g}", found


def _taken(column: Any, at: Any) -> Any:
    chosen = column.combine_chunks() if at is None else column.take(at).combine_chunks()
    return chosen.chunk(0) if hasattr(chosen, "chunks") else chosen


def _positions(table: Any, slices: Sequence[Sequence[str]] | None) -> dict[str, Any]:
    """Return the rows of each slice, by its name, as indices; None for all rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if slices is None:
        return {"": None}
    found: dict[str, list[Any]] = {}
    for columns in slices:
        keyed = table.select(list(columns)).append_column("at", pa.array(range(len(table)), pa.int64()))
        grouped = keyed.group_by(list(columns)).aggregate([("at", "list")])
        for row in range(len(grouped)):
            name = slice_called(columns, [grouped.column(each)[row].as_py() for each in columns])
            # A null and an empty text are one slice, as `evaluate` has them.
            found.setdefault(name, []).append(grouped.column("at_list")[row].values)
    rows = {name: pa.concat_arrays(parts) for name, parts in sorted(found.items())}
    return {name: each.take(pc.sort_indices(each)) for name, each in rows.items()}


def _judged(ask: Ask, required: str, source: str, compared: Mapping[str, Compared], only_new: Sequence[str]) -> Finding:
    """Return what a comparison of slices comes to."""
    options = ask.gate.options
    tolerance = options["max_regression"]
    least_rows = fewest_rows(options, [each.rows for each in compared.values()])
    few = [name for name, each in compared.items() if each.rows is not None and each.rows < least_rows]
    undefined = [name for name, each in compared.items() if name not in few and each.undefined]
    judged = {name: each for name, each in compared.items() if name not in few and not each.undefined}
    failing = {name: each for name, each in judged.items() if _is_regression(each, tolerance)}
    noisy = {name: each for name, each in judged.items() if name not in failing and each.drop > tolerance + _CLOSE}
    details = {
        "failing": {name: _detail(each) for name, each in sorted(failing.items())},
        "within_noise": {name: _detail(each) for name, each in sorted(noisy.items())},
        "passing": {
            name: _detail(each) for name, each in sorted(judged.items()) if name not in failing and name not in noisy
        },
        "too_few_rows": sorted(few),
        "undefined": sorted(undefined),
        "only_in_candidate": list(only_new),
    }
    if not judged:
        return Finding(required, none_judged(options, few) if few else "nothing", False, source, details)
    if failing:
        text = listed(_failure(name, each) for name, each in sorted(failing.items()))
    else:
        name, worst = max(judged.items(), key=lambda each: order(each[1].drop, lowest=True))
        within = ", which may be noise" if name in noisy else ""
        text = f"{'worst: ' if name else ''}{worst.told(name)}{within}"
    return Finding(required, text + noted(few, only_new, undefined), not failing, source, details)


def _is_regression(each: Compared, tolerance: float) -> bool:
    if math.isnan(each.drop):
        return True  # One of them was not measured, or came to no finite number: then nothing says that it is no worse.
    return (each.drop if each.least is None else each.least) > tolerance + _CLOSE


def _failure(name: str, each: Compared) -> str:
    if each.least is None:
        return each.told(name)
    return f"{each.told(name)} (worse by {shortly(each.least)} or more)"


def _detail(each: Compared) -> dict[str, Any]:
    values = {"production": each.before, "candidate": each.after, "drop": each.drop, "least_drop": each.least}
    said = {key: None if value is None else plain(value) for key, value in values.items()}
    return {**said, "rows": each.rows}
