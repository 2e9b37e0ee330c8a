"""The gate `bias`: how far apart a metric, or a rate, lies between groups of people or of anything; knows no policy.

The definitions are fairlearn's (https://fairlearn.org/main/user_guide/assessment/common_fairness_metrics.html):
`demographic_parity` is `demographic_parity_difference`, the greatest difference between two groups' selection rates;
`equalized_odds` is `equalized_odds_difference`, the greater of the differences between their true positive rates and
between their false positive rates; of any metric it is `MetricFrame(...).difference()`. As there, a group that has no
row of the class which a rate is of has a rate of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headwater.evaluation_metrics import METRICS, Group, by_group
from headwater.evaluation_model import Evaluated, Scoring
from headwater.evaluation_store import stored
from headwater.gate_scoring import class_of
from headwater.gates import Ask, Finding
from headwater.names import canonical_slice, counted
from headwater.state import Fold
from headwater.stored import build, row_by_id, row_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["bias", "gaps"]

_MIN_ROWS = 30
"""Rows that a group has at least to be judged, unless the gate says otherwise."""

_RATES = {
    "demographic_parity": ("selection_rate",),
    "equalized_odds": ("true_positive_rate", "false_positive_rate"),
}
_WORDS = {
    "selection_rate": "selection rate",
    "true_positive_rate": "true positive rate",
    "false_positive_rate": "false positive rate",
}


def bias(ask: Ask) -> Finding:
    """Judge the greatest gap between groups by the predictions that `evaluate` stored; without any it fails."""
    options = ask.gate.options
    kind, column, limit = str(options["bias"]), str(options["groups"]), float(options["max_gap"])
    required = f"a gap of at most {limit:g}"
    dataset_id, missing = _dataset(ask.fold, ask.version_id, options.get("on"))
    found = stored(ask.context, ask.fold, ask.version_id, dataset_id) if dataset_id is not None else None
    if found is None:
        return Finding(required, "nothing", False, missing or "no evaluation is stored")
    source = f"predictions of commit {found.commit[:12]} on {found.dataset}"
    names = _RATES.get(kind, (kind,))
    scoring = _scoring(found, options.get("positive"))
    if names[0] not in (*METRICS[scoring.task], *(_WORDS if scoring.task == "binary" else ())):
        return Finding(required, "nothing", False, f"{kind} is not measured of a {scoring.task} task; {source}")
    table = found.table([column])
    if scoring != found.scoring and not _has(table, scoring.positive):
        said = f"no label or prediction is {scoring.positive}, which is to be the positive class; {source}"
        return Finding(required, "nothing", False, said)
    memo = ("bias", found.digest, found.dataset_id, column, scoring.positive)
    if memo not in ask.memo:
        ask.memo[memo] = by_group(ask.context.lake.cache, table, scoring, [column])
    groups: list[Group] = ask.memo[memo]
    least = int(options.get("min_rows", _MIN_ROWS))
    judged = [each for each in groups if each.rows >= least and all(name in each.metrics for name in names)]
    details = _details(column, groups, judged, names, least)
    if len(judged) < 2:
        said = f"{counted(len(judged), 'group')} of {column} to compare"
        return Finding(required, said, False, f"{source}; a group has at least {counted(least, 'row')}", details)
    gap, words = _widest(judged, names)
    passed = gap <= limit
    details["gaps"] = gaps(judged, names)
    return Finding(required, f"{gap:.4g} ({words})", passed, source, details)


def gaps(groups: Sequence[Group], names: Sequence[str]) -> dict[str, float]:
    """Return how far apart the lowest and the highest group lie, of each of some metrics that all of them have."""
    found = {}
    for name in names:
        values = [each.metrics[name] for each in groups]
        found[name] = max(values) - min(values)
    return found


def _dataset(fold: Fold, version_id: str, on: str | None) -> tuple[str | None, str]:
    """Return the dataset version whose evaluation is meant, and what is said where there is none."""
    if on is not None:
        row = row_of(fold, str(on))
        reference = build(fold, row, None).reference
        return str(row[0]), f"no evaluation on {reference} is stored: headwater evaluate makes one"
    rows = fold.rows(
        "SELECT key FROM events WHERE standing AND kind = 'evaluation' AND subject = ? AND value IS NOT NULL"
        " ORDER BY event_id DESC",
        version_id,
    )
    known = [str(key) for (key,) in rows if row_by_id(fold, key) is not None]
    return (known[0] if known else None), "no evaluation is stored: headwater evaluate makes one"


def _scoring(found: Evaluated, positive: object) -> Scoring:
    if positive is None or found.task != "binary":
        return found.scoring
    return Scoring("binary", class_of(positive))


def _has(table: pa.Table, value: str | None) -> bool:
    """Return whether a class is among the labels or the predictions: one that is nowhere has no gaps."""
    import pyarrow.compute as pc

    return any(bool(pc.any(pc.equal(table.column(name), value)).as_py()) for name in ("label", "prediction"))


def _widest(judged: Sequence[Group], names: Sequence[str]) -> tuple[float, str]:
    """Return the greatest gap, and between which groups it is."""
    widths = gaps(judged, names)
    name = max(names, key=lambda each: widths[each])
    low = min(judged, key=lambda each: each.metrics[name])
    high = max(judged, key=lambda each: each.metrics[name])
    words = " and ".join(f"{canonical_slice(dict(each.values))} {each.metrics[name]:.4g}" for each in (low, high))
    return widths[name], f"{_WORDS.get(name, name)}: {words}"


def _details(
    column: str, groups: Sequence[Group], judged: Sequence[Group], names: Sequence[str], least: int
) -> dict[str, Any]:
    """Return each group's numbers, and why some were not judged or count as 0."""
    notes = []
    for each in groups:
        value = canonical_slice(dict(each.values))
        if each.rows < least:
            notes.append(f"{value} is not judged: it has {counted(each.rows, 'row')}")
        elif each not in judged:
            notes.append(f"{value} is not judged: {' and '.join(names)} can't be told of it")
        for rate, class_ in (("true_positive_rate", "positives"), ("false_positive_rate", "negatives")):
            if each in judged and rate in names and not each.metrics[class_]:
                notes.append(f"the {_WORDS[rate]} of {value} counts as 0: it has no {class_}")
    numbers = {
        each.values[column]: {"rows": each.rows, **{n: each.metrics[n] for n in names if n in each.metrics}}
        for each in groups
    }
    return {"groups": numbers, "notes": notes}
