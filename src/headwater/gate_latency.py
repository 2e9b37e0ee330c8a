"""The gate `latency`: percentiles of how long answers take, measured here in a child process, or read from the log.

A percentile is the nearest rank: p99 is the smallest time that at least 99 % of the answers did not exceed.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater import artifacts
from headwater.artifacts import Wanted
from headwater.children import Dialogue
from headwater.dataset_rows import Rows
from headwater.errors import HeadwaterError, IntegrityError, InvalidInputError, LakeError
from headwater.gate_data import training_data
from headwater.gates import Ask, Finding
from headwater.ids import from_micros
from headwater.lookup import VERSION_COLUMNS, build_version, files_of, labelled, labels_of
from headwater.names import counted, quote
from headwater.policy_options import seconds_of
from headwater.predicting import MODEL, filled, words_of
from headwater.sqltext import literal
from headwater.stored import Stored, row_of
from headwater.tables import folder
from headwater.tombstones import hidden_transactions, shadowed

__all__ = ["SERVE", "latency", "percentile"]

SERVE = "serve"
"""The tag of a version whose value is the command that answers lines with lines, where a gate names none."""

_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_ENOUGH = {"p50": 10, "p95": 20, "p99": 100}
"""Logged predictions that a percentile needs, unless the gate says how many."""

_OBJECTS = 'SELECT to_json("headwater row")::VARCHAR FROM data AS "headwater row" LIMIT {limit}'
"""The name of a row is one that no column is likely to have: a column comes first."""

_RUNS, _WARMUP, _TIMEOUT, _SAMPLE = 200, 20, 60.0, 1000
_QUIET = 0.05
"""Seconds without a further line after the last answer; longer where answers take longer."""

_MODES = {"shadow": ("shadow",), "live": ("live", "canary"), "": ("shadow", "live", "canary")}

# What a callable prints must not come between its answers.
_RUNNER = """
import importlib, json, os, sys
sys.path.insert(0, os.environ["HEADWATER_MODEL"])
answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)
module, _, name = sys.argv[1].partition(":")
function = importlib.import_module(module)
for part in name.split("."):
    function = getattr(function, part)
for line in sys.stdin.buffer:
    answers.write(json.dumps(function(json.loads(line)), default=str) + "\\n")
    answers.flush()
"""


@dataclass(frozen=True, slots=True)
class _Times:
    """How long answers took, in milliseconds, and where that is known from; or why it is not known."""

    milliseconds: tuple[float, ...]
    source: str
    facts: Mapping[str, Any]


def latency(ask: Ask) -> Finding:
    """Judge a percentile of how long the version takes to answer; too slow, too few or no answers fail."""
    options = ask.gate.options
    which = str(options["latency"])
    required = f"{which} of at most {float(options['max_ms']):g} ms"
    command = _command(ask)
    try:
        if command is not None:
            times = _measured(ask, command)
            least = 1
        else:
            times = _logged(ask, str(options.get("from", "")))
            least = int(options.get("min_predictions", _ENOUGH[which]))
    except (IntegrityError, LakeError):
        raise
    except HeadwaterError as error:
        return Finding(required, "nothing", False, error.message)
    count = len(times.milliseconds)
    if count < least:
        said = f"{counted(count, 'time')}, and {least:,} are needed" if count else "nothing"
        return Finding(required, said, False, times.source, dict(times.facts))
    numbers = {name: round(percentile(times.milliseconds, part), 6) for name, part in _PERCENTILES.items()}
    passed = numbers[which] <= float(options["max_ms"])
    details = {"count": count, **numbers, **times.facts}
    return Finding(required, f"{numbers[which]:.4g} ms", passed, times.source, details)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the smallest value that at least a part of all values does not exceed.

    Args:
        values: One value or more; NaN among them is more than any other.
        part: From more than 0 to 1.
    """
    ordered = sorted(values, key=lambda each: (math.isnan(each), each))
    # `part * n` may lie a rounding error above a whole number.
    return ordered[max(math.ceil(part * len(ordered) - 1e-9), 1) - 1]


# -- measured here ----------------------------------------------------------------------------------------------------
def _command(ask: Ask) -> tuple[str, ...] | None:
    """Return the command that answers; None where times are read from the log."""
    options = ask.gate.options
    if "from" in options:
        return None
    if "callable" in options:
        return sys.executable, "-c", _RUNNER, str(options["callable"])
    given = options.get("command")
    if given is None:
        row = ask.fold.one(f"SELECT {VERSION_COLUMNS} FROM versions v WHERE version_id = ?", ask.version_id)
        version = labelled(build_version(row, ask.name, None), labels_of(ask.fold, ask.model_id, ask.version_id))
        given = version.tags.get(SERVE)
        if given is None:
            return None
    return tuple(words_of(given, "the command") if isinstance(given, str) else given)


def _measured(ask: Ask, command: tuple[str, ...]) -> _Times:
    """Measure once for all gates that ask the same command the same rows."""
    options = ask.gate.options
    data, limit = _sample(ask)
    runs, warmup = int(options.get("runs", _RUNS)), int(options.get("warmup", _WARMUP))
    timeout = float(options.get("timeout", _TIMEOUT))
    memo = ("latency", ask.version_id, command, data.version.dataset_id, limit, runs, warmup, timeout)
    if memo not in ask.memo:
        try:
            ask.memo[memo] = _measure(ask, command, data, limit, runs, warmup, timeout)
        except HeadwaterError as error:
            ask.memo[memo] = error
    found = ask.memo[memo]
    if isinstance(found, HeadwaterError):
        raise found
    times: _Times = found
    return times


def _sample(ask: Ask) -> tuple[Stored, int]:
    """Return the dataset version whose rows are asked, and how many of them."""
    sample, on = ask.gate.options.get("sample"), ask.gate.options.get("on")
    limit = sample if isinstance(sample, int) else _SAMPLE
    name = on if on is not None else sample if isinstance(sample, str) else None
    if name is not None:
        return Stored.of(ask.fold, row_of(ask.fold, str(name))), limit
    trained = [each for each in training_data(ask.fold, ask.version_id) if each.version.schema is not None]
    if not trained:
        raise InvalidInputError("no rows to ask with: the gate names no dataset, and no training data is recorded")
    return trained[-1], limit


def _measure(
    ask: Ask, command: Sequence[str], data: Stored, limit: int, runs: int, warmup: int, timeout: float
) -> _Times:
    with Rows(ask.context.lake.cache) as rows:
        rows.attach_version("data", ask.context.lake, data)
        lines = [text.encode() for (text,) in rows.all(_OBJECTS.format(limit=limit), data.version.reference)]
    if not lines:
        raise InvalidInputError(f"no rows to ask with: {data.version.reference} is empty")
    times = []
    with tempfile.TemporaryDirectory(prefix="headwater-", ignore_cleanup_errors=True) as name:
        place = Path(name).resolve()
        model = _fetch(ask, place / "model")
        work = place / "work"
        work.mkdir()
        deadline = time.monotonic() + timeout
        words = filled(command, {"model": str(model)})
        with Dialogue(words, folder=work, variables={MODEL: str(model)}) as child:
            for number in range(warmup + runs):
                line = lines[number % len(lines)]
                began = time.perf_counter()
                try:
                    child.ask(line, deadline)
                except HeadwaterError as error:
                    raise HeadwaterError(
                        f"{error.message}, after {counted(number, 'answer')} in {timeout:g} s at most"
                    ) from None
                if number >= warmup:
                    times.append((time.perf_counter() - began) * 1000)
            # Whoever began with a line of its own has answered each question with the answer to the one before.
            child.quiet(max(_QUIET, min(2 * max(times) / 1000, deadline - time.monotonic())))
    machine = f"{platform.node() or 'a machine'} ({platform.machine()}, {os.cpu_count()} processors)"
    facts = {"machine": machine, "warmup": warmup, "rows": len(lines), "dataset": data.version.reference}
    source = f"{counted(runs, 'answer')} to rows of {data.version.reference}, measured on {machine}"
    return _Times(tuple(times), source, facts)


def _fetch(ask: Ask, place: Path) -> Path:
    """Write the version's artifact into a folder, every digest checked, as the judged commit has it."""
    row = ask.fold.one(f"SELECT {VERSION_COLUMNS} FROM versions v WHERE version_id = ?", ask.version_id)
    data, lake, commit = json.loads(row[4]), ask.context.lake, ask.fold.commit
    reference = f"{quote(ask.name)}/{ask.number}"
    if data["external_url"] is not None:
        from headwater.external import External

        with External(data["external_url"], data["digest"]).fetched() as wanted:
            return artifacts.write(wanted, place, force=False, known=list)
    files = files_of(ask.fold, ask.version_id)
    artifacts.check_in_lake(lake, commit, data["path"], reference, files)
    wanted = Wanted(reference, files, lambda path: lake.open(commit, data["path"] + path))
    return artifacts.write(wanted, place, force=False, known=list)


# -- read from the log ------------------------------------------------------------------------------------------------
def _logged(ask: Ask, mode: str) -> _Times:
    """Return the logged latencies of the version, up to the judged commit, of its shadow or live deployments."""
    fold, modes = ask.fold, _MODES[mode]
    marks = ", ".join("?" * len(modes))
    deployments = [
        each
        for (each,) in fold.rows(
            f"SELECT deployment_id FROM deployments WHERE version_id = ? AND mode IN ({marks}) ORDER BY 1",
            ask.version_id,
            *modes,
        )
    ]
    window = ask.gate.options.get("window")
    until = fold.micros()
    since = until - seconds_of(str(window)) * 1_000_000 if window is not None else 0
    called = f"{mode} predictions" if mode else "logged predictions"
    within = f" of the {window} before {from_micros(until):%Y-%m-%d %H:%M} UTC" if window is not None else ""
    source = f"{called} of {quote(ask.name)}/{ask.number}{within}, at commit {fold.commit[:12]}"
    memo = ("logged", ask.version_id, modes, since, fold.commit)
    if memo not in ask.memo:
        ask.memo[memo] = _read(ask, deployments, since, until) if deployments else ()
    facts = {"deployments": deployments, "commit": fold.commit}
    if not deployments:
        source = f"{quote(ask.name)}/{ask.number} has no {mode or 'shadow or live'} deployment"
        if not mode:
            source += f", no tag {SERVE}, and the gate names no command"
    return _Times(ask.memo[memo], source, facts)


def _read(ask: Ask, deployments: Sequence[str], since: int, until: int) -> tuple[float, ...]:
    fold, lake = ask.fold, ask.context.lake
    base = folder("predictions")
    files = fold.table("predictions").files.values()
    # IDs begin with the time of their predictions.
    low, high = _id_of(since), _id_of(until + 1_000_000) + "~"
    wanted = [
        base + file.path
        for file in files
        if file.may_hold("version_id", ask.version_id, ask.version_id) and file.may_hold("prediction_id", low, high)
    ]
    if not wanted:
        return ()
    local = [str(path) for path in lake.localize(fold.commit, wanted).values()]
    hidden = sorted({*hidden_transactions(fold), *shadowed(fold)})
    times = f"predicted_at >= make_timestamptz({since}::BIGINT) AND predicted_at <= make_timestamptz({until}::BIGINT)"
    with Rows(lake.cache) as rows:
        found = rows.all(
            "SELECT any_value(latency_ms) FROM"
            f" read_parquet([{', '.join(map(literal, local))}], union_by_name = true, hive_partitioning = false)"
            f" WHERE version_id = $1 AND list_contains($2, deployment_id) AND NOT list_contains($3, tx) AND {times}"
            " AND latency_ms IS NOT NULL GROUP BY prediction_id",
            "the logged predictions",
            [ask.version_id, list(deployments), hidden],
        )
    return tuple(value for (value,) in found)


def _id_of(micros: int) -> str:
    """Return what the IDs of predictions of that time, or later ones, are no less than."""
    text = f"{max(micros, 0) // 1000:012x}"
    return f"{text[:8]}-{text[8:]}"
