"""Gates over logged predictions: how a version does live or as a canary, and how its shadow agrees with the champion.

Predictions go on landing while a promotion is decided, and fence nothing; so a gate reads them as of one commit, and
says of which. What is measured once in a decision is not measured again when that looks at a newer head.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headwater.errors import InvalidInputError
from headwater.gates import Ask, Finding
from headwater.ids import from_micros
from headwater.names import quote, shown
from headwater.policy import seconds_of
from headwater.production import PRODUCTION, serving_in
from headwater.query import Session
from headwater.state import Fold
from headwater.tombstones import hidden_transactions, visible

__all__ = ["LIVE_METRICS", "live", "shadow"]

LIVE_METRICS: Mapping[str, tuple[str, bool]] = {
    "accuracy": ("labelled", True),
    "error_rate": ("labelled", False),
    "mae": ("measured", False),
    "rmse": ("measured", False),
    "mean_score": ("scored", True),
    "latency_mean": ("timed", False),
    "latency_p50": ("timed", False),
    "latency_p95": ("timed", False),
    "latency_p99": ("timed", False),
}
"""By name: which predictions it is made of (a column of `_STATISTICS`), and whether more is better."""

_DAY = 86_400_000_000
_HOUR = 3_600_000_000

_STATISTICS = """
WITH made AS (
    SELECT prediction_id, predicted_at, output, score, latency_ms
    FROM lake.predictions
    WHERE version_id = $version AND predicted_at >= $since AND predicted_at < $until
        AND list_contains($deployments, deployment_id)
        AND NOT list_contains($hidden, tx)
), proved AS (
    -- An ID begins with the time of its prediction, so a range of times is a range of IDs.
    SELECT prediction_id, label, {'observed_at': observed_at, 'tx': tx} AS known
    FROM lake.outcomes
    WHERE prediction_id >= $least AND prediction_id < $greatest
        AND NOT list_contains($hidden, tx)
), joined AS (
    -- Joined before they are grouped: there may be outcomes of very many other predictions of that time.
    SELECT m.prediction_id, any_value(m.predicted_at) AS predicted_at, any_value(m.output) AS output,
        any_value(m.score) AS score, any_value(m.latency_ms) AS latency_ms, arg_max(p.label, p.known) AS label
    FROM made m LEFT JOIN proved p USING (prediction_id) GROUP BY m.prediction_id
), judged AS (
    SELECT predicted_at, score, latency_ms, label,
        CASE WHEN label IS NULL THEN NULL WHEN output = label THEN 1.0
            WHEN TRY_CAST(output AS DOUBLE) = TRY_CAST(label AS DOUBLE) THEN 1.0 ELSE 0.0 END AS correct,
        TRY_CAST(output AS DOUBLE) - TRY_CAST(label AS DOUBLE) AS error
    FROM joined
)
SELECT count(*) AS predictions, count(label) AS labelled, count(error) AS measured, count(score) AS scored,
    count(latency_ms) AS timed, epoch_us(min(predicted_at)) AS first, epoch_us(max(predicted_at)) AS last,
    avg(correct) AS accuracy, avg(1 - correct) AS error_rate, avg(abs(error)) AS mae, sqrt(avg(error * error)) AS rmse,
    avg(score) AS mean_score, avg(latency_ms) AS latency_mean, quantile_cont(latency_ms, 0.5) AS latency_p50,
    quantile_cont(latency_ms, 0.95) AS latency_p95, quantile_cont(latency_ms, 0.99) AS latency_p99
FROM judged
"""

_AGREEMENT = """
WITH proved AS (
    SELECT prediction_id, label, observed_at, tx AS proved_in
    FROM lake.outcomes
    WHERE prediction_id >= $least AND prediction_id < $greatest
        AND NOT list_contains($hidden, tx)
), shadow AS (
    SELECT external_id, coalesce(input, dataset_id || ' ' || row_key) AS input, output, label, {'predicted_at':
        predicted_at, 'prediction_id': prediction_id, 'observed_at': observed_at, 'proved_in': proved_in} AS made
    FROM lake.predictions LEFT JOIN proved USING (prediction_id)
    WHERE version_id = $version AND predicted_at >= $since AND predicted_at < $until
        AND list_contains($deployments, deployment_id)
        AND NOT list_contains($hidden, tx)
), champion AS (
    SELECT external_id, coalesce(input, dataset_id || ' ' || row_key) AS input, output, label, {'predicted_at':
        predicted_at, 'prediction_id': prediction_id, 'observed_at': observed_at, 'proved_in': proved_in} AS made
    FROM lake.predictions LEFT JOIN proved USING (prediction_id)
    WHERE version_id = $other AND predicted_at >= $since_other AND predicted_at < $until_other
        AND list_contains($others, deployment_id)
        AND NOT list_contains($hidden, tx)
), one AS (
    SELECT arg_max(external_id, made) AS external_id, arg_max(input, made) AS input, arg_max(output, made) AS output,
        arg_max(label, made) AS label
    FROM shadow GROUP BY coalesce('e' || external_id, 'i' || input, 'p' || made.prediction_id)
), named AS (
    SELECT external_id, arg_max(output, made) AS output, arg_max(label, made) AS label
    FROM champion WHERE external_id IS NOT NULL GROUP BY external_id
), given AS (
    SELECT input, arg_max(output, made) AS output, arg_max(label, made) AS label
    FROM champion WHERE input IS NOT NULL GROUP BY input
), judged AS (
    -- What is true of one input is true of it whoever was asked.
    SELECT o.output, CASE WHEN n.external_id IS NOT NULL THEN n.output ELSE g.output END AS other,
        coalesce(o.label, n.label, g.label) AS label
    FROM one o LEFT JOIN named n USING (external_id) LEFT JOIN given g ON g.input = o.input
    WHERE n.external_id IS NOT NULL OR g.input IS NOT NULL
)
SELECT count(*) AS pairs, count(label) AS labelled,
    avg(CASE WHEN output = other OR TRY_CAST(output AS DOUBLE) = TRY_CAST(other AS DOUBLE) THEN 1.0 ELSE 0.0 END)
        AS agreement,
    avg(CASE WHEN output = label OR TRY_CAST(output AS DOUBLE) = TRY_CAST(label AS DOUBLE) THEN 1.0 ELSE 0.0 END)
        FILTER (WHERE label IS NOT NULL) AS accuracy,
    avg(CASE WHEN other = label OR TRY_CAST(other AS DOUBLE) = TRY_CAST(label AS DOUBLE) THEN 1.0 ELSE 0.0 END)
        FILTER (WHERE label IS NOT NULL) AS accuracy_of_other
FROM judged
"""


@dataclass(frozen=True, slots=True)
class _Span:
    """Predictions that were logged for some deployments of one version, and from when to when."""

    version_id: str
    deployments: tuple[str, ...]
    since: int
    until: int
    """The first microsecond that is not part of it."""

    def within(self, since: int, until: int) -> _Span:
        return _Span(self.version_id, self.deployments, max(self.since, since), min(self.until, until))


@dataclass(frozen=True, slots=True)
class _Read:
    """What a query over predictions found, and as of which commit."""

    values: Mapping[str, Any]
    commit: str


def live(ask: Ask) -> Finding:
    """Ask how a version does in production: one metric over its live and canary predictions that have landed.

    Raises:
        InvalidInputError: The metric is none that can be made of predictions.
    """
    options = ask.gate.options
    metric = str(options["live"])
    if metric not in LIVE_METRICS:
        raise InvalidInputError(f"no live metric is called {shown(metric)}", hint=f"choose {', '.join(LIVE_METRICS)}")
    counted_by, more_is_better = LIVE_METRICS[metric]
    least = int(options.get("min_predictions", 1))
    required = _required(options, more_is_better, least, counted_by)
    if ask.production is None and not {"min", "max"} & options.keys():
        # The first of its model can't begin as a canary, and has nobody to fall behind.
        return Finding(required, "nothing is in production to compare with", True, f"commit {ask.fold.commit[:12]}")
    span = _span(ask, ask.version_id, ("live", "canary"))
    other = ask.production if ask.production != ask.version_id else None
    mine = _statistics(ask, span)
    n = int(mine.values[counted_by] or 0)
    value = mine.values[metric]
    details: dict[str, Any] = {"predictions": n, "enough": n >= least, "commit": mine.commit, "value": _plain(value)}
    source = _source(ask, span, mine, n, counted_by)
    if n < least or value is None:
        return Finding(required, f"{n:,} of {least:,} {_MADE_OF[counted_by]}", False, source, details)
    found, passed = _number(value, metric), math.isfinite(value)
    passed = passed and value >= options.get("min", -math.inf) and value <= options.get("max", math.inf)
    if "max_drop" in options and other is not None:
        theirs = _statistics(ask, _span(ask, other, ("live", "canary")).within(span.since, span.until))
        count, base = int(theirs.values[counted_by] or 0), theirs.values[metric]
        details |= {"other": _plain(base), "other_predictions": count}
        name = f"{quote(ask.name)}/{_version(ask.fold, other)}"
        if count < least or base is None:
            details["enough"] = False
            found += f", and {count:,} of {least:,} {_MADE_OF[counted_by]} of {name} to compare with"
            passed = False
        else:
            drop = base - value if more_is_better else value - base
            found += f", {name} {_number(base, metric)}"
            passed = passed and _within(drop, options["max_drop"])
    elif "max_drop" in options:
        found += ", and nothing else in production to compare with"
    return Finding(required, found, passed, source, details)


def shadow(ask: Ask) -> Finding:
    """Ask how a version's shadow does: how many predictions over how long, and whether it keeps up with the champion.

    Predictions are of one input where their external IDs are equal, or else their inputs, and were made within a day of
    each other's span; of several of one input the last counts.
    """
    options = ask.gate.options
    least = int(options.get("min_predictions", 1))
    hours = float(options.get("min_hours", 0))
    span = _span(ask, ask.version_id, ("shadow",))
    required = [f"{least:,} shadow predictions" + (f" over {hours:g} h" if hours else "")]
    required += [f"agreement >= {options['min_agreement']:g}"] if "min_agreement" in options else []
    required += [f"accuracy down by <= {options['max_drop']:g}"] if "max_drop" in options else []
    mine = _statistics(ask, span)
    n = int(mine.values["predictions"] or 0)
    lasted = (mine.values["last"] - mine.values["first"]) / _HOUR if n else 0.0
    source = _source(ask, span, mine, n, "predictions")
    details: dict[str, Any] = {"predictions": n, "hours": lasted, "commit": mine.commit}
    found = [f"{n:,} over {lasted:.3g} h"]
    enough = passed = n >= least and lasted >= hours
    if enough and ("min_agreement" in options or "max_drop" in options):
        if ask.production is None or ask.production == ask.version_id:
            found.append("nothing else in production to compare with")
            passed = False
        else:
            both = _agreement(ask, span, ask.production)
            pairs, labelled = int(both.values["pairs"]), int(both.values["labelled"])
            details |= {"pairs": pairs, "labelled": labelled}
            name = f"{quote(ask.name)}/{_version(ask.fold, ask.production)}"
            if pairs < least:
                enough = passed = False
                found.append(f"{pairs:,} of {least:,} on inputs that {name} had too")
            if pairs >= least and "min_agreement" in options:
                agreement = both.values["agreement"]
                details["agreement"] = agreement
                found.append(f"agreement {agreement:.4g} on {pairs:,}")
                passed = passed and agreement >= options["min_agreement"]
            if pairs >= least and "max_drop" in options:
                if labelled < least:
                    enough = passed = False
                    found.append(f"{labelled:,} of {least:,} with outcomes")
                else:
                    accuracy, base = both.values["accuracy"], both.values["accuracy_of_other"]
                    details |= {"accuracy": accuracy, "other": base}
                    found.append(f"accuracy {accuracy:.4g}, {name} {base:.4g}")
                    passed = passed and _within(base - accuracy, options["max_drop"])
    return Finding("; ".join(required), "; ".join(found), passed, source, {**details, "enough": enough})


# -- what is read -----------------------------------------------------------------------------------------------------
def _span(ask: Ask, version_id: str, modes: Collection[str]) -> _Span:
    """Return which predictions of a version a gate is about: of what serves now, or else of all that ever did.

    The batches that were taken in tell from when to when there are any; no prediction is read for that.
    """
    fold = ask.fold
    serving = [each for each in serving_in(fold, ask.model_id, PRODUCTION) if each["version_id"] == version_id]
    chosen = [str(each["deployment_id"]) for each in serving if each["mode"] in modes]
    if not chosen:
        rows = fold.rows(
            "SELECT deployment_id, mode FROM deployments d WHERE version_id = ? AND environment = ?"
            f" AND {visible('d.deployment_id')} ORDER BY deployment_id",
            version_id,
            PRODUCTION,
        )
        chosen = [deployment_id for deployment_id, mode in rows if mode in modes]
    first = last = None
    for each in chosen:
        row = fold.one(
            f"SELECT min(first_at), max(last_at) FROM batches b WHERE deployment_id = ? AND {visible('b.tx')}",
            each,
        )
        if row[0] is not None:
            first = row[0] if first is None else min(first, row[0])
            last = row[1] if last is None else max(last, row[1])
    # What claims to be made after the commit that is read is no evidence of what was before it.
    until = fold.micros() + 1
    if "window" in ask.gate.options:
        first = max(first or 0, until - seconds_of(str(ask.gate.options["window"])) * 1_000_000)
    since = first if first is not None else until
    end = min(until, last + 1 if last is not None else until)
    return _Span(version_id, tuple(chosen), since, max(since, end))


def _statistics(ask: Ask, span: _Span) -> _Read:
    if span.since >= span.until:
        return _Read({**dict.fromkeys([*_COUNTS, *LIVE_METRICS], None), "first": None, "last": None}, ask.fold.commit)
    # Not of the window's ends: those move with the head, and what was measured is to be measured once in a decision.
    key = ("live", ask.version_id, span.version_id, span.deployments, ask.gate.options.get("window"))
    values = {
        "version": span.version_id,
        "deployments": _texts(span.deployments),
        "since": from_micros(span.since),
        "until": from_micros(span.until),
        "least": _id_at(span.since),
        "greatest": _id_at(span.until + 999),
    }
    return _asked(ask, key, _STATISTICS, values)


_COUNTS = ("predictions", "labelled", "measured", "scored", "timed")


def _agreement(ask: Ask, span: _Span, other: str) -> _Read:
    theirs = _span(ask, other, ("live", "canary")).within(span.since - _DAY, span.until + _DAY)
    since, until = min(span.since, theirs.since), max(span.until, theirs.until)
    values = {
        "version": span.version_id,
        "deployments": _texts(span.deployments),
        "since": from_micros(span.since),
        "until": from_micros(span.until),
        "other": other,
        "others": _texts(theirs.deployments),
        "since_other": from_micros(theirs.since),
        "until_other": from_micros(max(theirs.since, theirs.until)),
        "least": _id_at(since),
        "greatest": _id_at(until + 999),
    }
    key = ("shadow", span.version_id, span.deployments, other, theirs.deployments, ask.gate.options.get("window"))
    return _asked(ask, key, _AGREEMENT, values)


def _asked(ask: Ask, key: tuple[Any, ...], query: str, values: Mapping[str, Any]) -> _Read:
    known: _Read | None = ask.memo.get(key)
    if known is None:
        # Told to the query, and not looked up by it: the views that know it read all events.
        hidden = _texts(hidden_transactions(ask.fold))
        with contextlib.closing(Session(ask.context.lake, ask.fold)) as session:
            found = session.sql(query, {**values, "hidden": hidden}).arrow().to_pylist()[0]
        known = ask.memo[key] = _Read(found, ask.fold.commit)
    return known


def _texts(values: Iterable[str]) -> list[str]:
    """Return a list that DuckDB takes for one of texts, also where it is empty."""
    return ["", *values]


def _id_at(micros: int) -> str:
    """Return the least ID that a prediction of a millisecond can have."""
    millis = max(0, micros) // 1000
    return f"{millis >> 16:08x}-{millis & 0xFFFF:04x}-7000-8000-000000000000"


# -- words ------------------------------------------------------------------------------------------------------------
_MADE_OF = {
    "predictions": "predictions",
    "labelled": "predictions with an outcome",
    "measured": "predictions with a number and an outcome that is one",
    "scored": "predictions with a score",
    "timed": "predictions with a latency",
}


def _required(options: Mapping[str, Any], more_is_better: bool, least: int, counted_by: str) -> str:
    parts = [f">= {options['min']:g}"] if "min" in options else []
    parts += [f"<= {options['max']:g}"] if "max" in options else []
    parts += [f"{'down' if more_is_better else 'up'} by <= {options['max_drop']:g}"] if "max_drop" in options else []
    window = f" in {options['window']}" if "window" in options else ""
    return f"{' and '.join(parts)}, on {least:,} or more {_MADE_OF[counted_by]}{window}"


def _source(ask: Ask, span: _Span, read: _Read, n: int, counted_by: str) -> str:
    what = f"{n:,} {_MADE_OF[counted_by]}"
    first, last = read.values["first"], read.values["last"]
    when = f" from {_moment(first)} to {_moment(last)}" if first is not None else ""
    return f"{what} of {quote(ask.name)}/{_version(ask.fold, span.version_id)}{when}, as of commit {read.commit[:12]}"


def _moment(micros: int) -> str:
    when: datetime = from_micros(micros)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _version(fold: Fold, version_id: str) -> int:
    return int(fold.one("SELECT version FROM versions WHERE version_id = ?", version_id)[0])


def _number(value: float, metric: str) -> str:
    return f"{value:.4g}" + (" ms" if metric.startswith("latency") else "")


def _plain(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _within(drop: float, most: float) -> bool:
    # 0.95 - 0.90 is a little more than 0.05 in binary.
    return math.isfinite(drop) and drop <= most + 1e-12
