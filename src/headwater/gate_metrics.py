"""Metric rows as gates read them, and the gate that wants a metric at least or at most something.

Of several rows for one metric, slice and dataset version, the one that landed last counts. A number that is missing,
or is not finite, never passes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headwater import evaluation_store, gate_scoring, points
from headwater.gate_scoring import Scored
from headwater.gates import Ask, Finding
from headwater.names import canonical_slice, quote, slice_values
from headwater.state import Fold
from headwater.stored import Stored, row_by_id, row_of

__all__ = [
    "FEWEST_ROWS",
    "Row",
    "counts_of_slices",
    "dataset_called",
    "fewest_rows",
    "listed",
    "metric",
    "none_judged",
    "noted",
    "order",
    "plain",
    "rows_by_slice",
    "rows_of",
    "shortly",
    "slice_called",
    "source_of",
]

FEWEST_ROWS = 30
"""Rows that a slice needs to be judged, where it is known how many it has."""

_NAMED = 5
"""So many slices are named in a sentence; all are in the details."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric row that counts."""

    slice: str
    value: float
    dataset_id: str | None
    computed: bool
    tx: str
    scored: Scored | None = None
    """Of a computed number: against what; None where no evaluation says so."""
    objection: str = ""
    """Why the gate does not take it; empty where it does."""


# -- rows -------------------------------------------------------------------------------------------------------------
def rows_of(ask: Ask, version_id: str, key: str) -> list[Row]:
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
    return [_row(ask, version_id, row) for row in ask.memo[memo] if row["key"] == key]


def _row(ask: Ask, version_id: str, row: Mapping[str, Any]) -> Row:
    found = Row(row["slice"], row["value"], row["dataset_id"], _is_computed(ask, version_id, row), row["tx"])
    if not found.computed:
        demanded = "computed" in ask.gate.options and ask.gate.options["computed"]
        return replace(found, objection="it is claimed") if demanded else found
    scored = gate_scoring.scored_as(ask, version_id, found.dataset_id, found.tx)
    objection = gate_scoring.objection(ask, version_id, row["key"], found.dataset_id, found.tx, scored)
    return replace(found, scored=scored, objection=objection)


def _is_computed(ask: Ask, version_id: str, row: Mapping[str, Any]) -> bool:
    """Return whether a row says what Headwater computed; in a signed lake it is computed again: rows are not signed."""
    if row["source"] != "computed" or not ask.fold.signed:
        return bool(row["source"] == "computed")
    where = (row["key"], row["slice"], row["value"])
    return evaluation_store.confirms(ask.context, ask.fold, version_id, row["dataset_id"], *where, ask.memo)


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


def source_of(ask: Ask, row: Row) -> str:
    """Return where a number comes from, in words."""
    commit = ask.fold.one("SELECT id, actor FROM commits WHERE tx = ?", row.tx)
    where, who = (commit[0][:12], f" by {commit[1]}") if commit is not None else (row.tx, "")
    how = "computed" if row.computed else "claimed"
    return f"metric row of commit {where}, {how}{who}, on {dataset_called(ask.fold, row.dataset_id)}"


def shortly(value: float) -> str:
    """Return a number as people read it."""
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
    every = rows_of(ask, ask.version_id, key)
    rows = [row for row in every if dataset_id is None or row.dataset_id == dataset_id]
    if dataset_id is None and slices is not None and rows:
        # Slices are those of one dataset version: the one that was measured last.
        newest = next(iter(rows_by_slice(rows, slices).values()), rows[0])
        rows = [row for row in rows if row.dataset_id == newest.dataset_id]
    counted = [row for row in rows if not row.objection]
    found = rows_by_slice(counted, slices)
    if not found:
        return Finding(required, *_missing(ask, key, rows_by_slice(rows, slices), every, dataset_id))
    if slices is None:
        (row,) = found.values()
        details = {"value": plain(row.value), "computed": row.computed, "dataset_id": row.dataset_id}
        return Finding(required, shortly(row.value), _within(row.value, options), source_of(ask, row), details)
    return _thresholds(ask, required, found)


def _within(value: float, options: Mapping[str, Any]) -> bool:
    # An infinite number was not measured, it came of a division by nothing.
    return math.isfinite(value) and value >= options.get("min", -math.inf) and value <= options.get("max", math.inf)


def _missing(
    ask: Ask, key: str, refused: Mapping[str, Row], every: list[Row], dataset_id: str | None
) -> tuple[str, bool, str]:
    """Return what was found, that it does not pass, and why, where no row counts."""
    by = (
        " by " + ", ".join("+".join(each) for each in ask.gate.options["slices"])
        if "slices" in ask.gate.options
        else ""
    )
    if refused:
        row = next((each for each in refused.values() if each.computed), next(iter(refused.values())))
        if row.computed:
            return f"{shortly(row.value)}, not counted", False, f"{row.objection}; {source_of(ask, row)}"
        return f"{shortly(row.value)}, claimed", False, f"a computed {key} is demanded: {source_of(ask, row)}"
    where = f" on {dataset_called(ask.fold, dataset_id)}" if dataset_id is not None else ""
    why = f"no {key}{by} of {quote(ask.name)}/{ask.number} was measured{where}"
    other = next((row for row in every if row.slice == ""), None)
    if other is not None and not by:
        why += f"; it is {shortly(other.value)} on {dataset_called(ask.fold, other.dataset_id)}"
    return "nothing", False, why


def _thresholds(ask: Ask, required: str, found: Mapping[str, Row]) -> Finding:
    options = ask.gate.options
    few: list[str] = []
    judged: dict[str, Row] = {}
    rows = counts_of_slices(ask, next(iter(found.values())).dataset_id, options["slices"])
    least = fewest_rows(options, [rows.get(name) for name in found])
    for name, row in found.items():
        if rows.get(name, math.inf) < least:
            few.append(name)
        else:
            judged[name] = row
    failing: dict[str, float | None] = {
        name: row.value for name, row in judged.items() if not _within(row.value, options)
    }
    # Whoever leaves out the slices that would fail has not measured them.
    failing |= {name: None for name, count in rows.items() if name not in found and count >= least}
    details = {
        "failing": {name: None if value is None else plain(value) for name, value in sorted(failing.items())},
        "passing": {name: plain(row.value) for name, row in sorted(judged.items()) if name not in failing},
        "too_few_rows": sorted(few),
    }
    source = source_of(ask, next(iter(found.values())))
    if not judged:
        return Finding(required, none_judged(options, few), False, source, details)
    worst = min(judged.items(), key=lambda each: order(each[1].value, lowest="min" in options))
    text = listed(f"{name} {'nothing' if value is None else shortly(value)}" for name, value in sorted(failing.items()))
    text = text or f"worst: {worst[0]} {shortly(worst[1].value)}"
    return Finding(required, text + noted(few), not failing, source, details)


def fewest_rows(options: Mapping[str, Any], sizes: Iterable[int | None]) -> int:
    """Return how many rows a slice needs to be judged: where the gate does not say, any will do if all are small."""
    if "min_rows" in options:
        return int(options["min_rows"])
    return FEWEST_ROWS if any(size is None or size >= FEWEST_ROWS for size in sizes) else 1


def order(value: float, *, lowest: bool) -> float:
    """Return what sorts the worst value first: the lowest or the highest, and NaN before both."""
    return -math.inf if math.isnan(value) else value if lowest else -value


def none_judged(options: Mapping[str, Any], few: Sequence[str]) -> str:
    """Return what was found where every slice has too few rows."""
    least = options.get("min_rows", FEWEST_ROWS)
    return f"nothing: no slice has {least} rows ({listed(sorted(few))})"


def noted(few: Sequence[str], only_new: Sequence[str] = (), undefined: Sequence[str] = ()) -> str:
    """Return in brackets which slices were not judged, and why; empty where all were."""
    notes = []
    if few:
        notes.append(f"too few rows to judge: {listed(sorted(few))}")
    if only_new:
        notes.append(f"not in production: {listed(sorted(only_new))}")
    if undefined:
        notes.append(f"no value for either: {listed(sorted(undefined))}")
    return f" ({'; '.join(notes)})" if notes else ""


def listed(parts: Iterable[str]) -> str:
    """Return the first few of many."""
    every = list(parts)
    rest = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return "; ".join(every[:_NAMED]) + rest


def plain(value: float) -> float | str:
    """Return a number as JSON can hold it."""
    return value if math.isfinite(value) else str(value)


def counts_of_slices(ask: Ask, dataset_id: str | None, slices: Sequence[Sequence[str]] | None) -> dict[str, int]:
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
    found: Counter[str] = Counter()
    with Workbench(ask.context.lake.cache / "scratch") as bench:
        opened = stored.opened(ask.context.lake, bench)
        for columns in slices if opened is not None else ():
            if opened is not None and all(name in opened.table.schema for name in columns):
                for values, count in bench.counts(opened, columns).items():
                    found[slice_called(columns, values)] += count
    return dict(found)


def slice_called(columns: Sequence[str], values: Sequence[str | None]) -> str:
    """Return a slice's name by its values as text; a null is the empty text, as `evaluate` has it."""
    return canonical_slice({name: value or "" for name, value in zip(columns, values, strict=True)})
