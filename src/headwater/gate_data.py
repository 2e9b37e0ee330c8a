"""The gate `data`: columns, age and size of what a version learned from, and rows that it shares with a test set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from headwater.calm import connect
from headwater.canonical import common_type
from headwater.dataset_rows import Rows
from headwater.gates import Ask, Finding
from headwater.ids import from_micros
from headwater.lake.base import Lake
from headwater.names import counted, parse_dataset, quote
from headwater.sqltext import identifier
from headwater.state import Fold
from headwater.stored import Stored, row_by_id, row_of
from headwater.tombstones import visible

__all__ = ["data", "training_data"]

_EXAMPLES = 3
_SECONDS = 86_400
_TYPE = re.compile(r"[A-Za-z][\w ]*(\([\w\s,]*\))?(\[\])*")


def data(ask: Ask) -> Finding:
    """Judge the training data by what the lineage says that it is; where it says nothing, that fails."""
    what = str(ask.gate.options["data"])
    trained = training_data(ask.fold, ask.version_id)
    if (on := ask.gate.options.get("on")) is not None:
        name = parse_dataset(str(on))
        trained = [
            each for each in trained
            if each.version.name == name.name and name.semver in (None, each.version.semver)
        ]  # fmt: skip
    required = {
        "schema": f"columns {_listed(ask.gate.options.get('schema', {}))}",
        "age": f"at most {float(ask.gate.options.get('max_days', 0)):g} days old",
        "rows": f"at least {counted(int(ask.gate.options.get('min_rows', 0)), 'row')}",
        "leakage": f"no row in common with {ask.gate.options.get('against')}",
    }[what]
    if not trained:
        which = f" of {on}" if on is not None else ""
        return Finding(required, "nothing", False, f"no training data{which} is recorded in the lineage")
    asked = {"schema": _schema, "age": _age, "rows": _rows, "leakage": _leakage}[what]
    return asked(ask, required, trained)


def training_data(fold: Fold, version_id: str) -> list[Stored]:
    """Return the dataset versions that a version, or the run that made it, learned from, by name and number."""
    rows = fold.rows(
        "SELECT DISTINCT l.source FROM lineage l WHERE l.source LIKE 'dataset:%' AND (l.target = ?1 AND"
        " l.relation = 'trained' OR l.relation = 'used' AND l.target IN (SELECT p.source FROM lineage p WHERE"
        f" p.target = ?1 AND p.relation = 'produced' AND {visible('p.tx')})) AND {visible('l.tx')}",
        f"model:{version_id}",
    )
    found = [row_by_id(fold, source.removeprefix("dataset:")) for (source,) in rows]
    known = [Stored.of(fold, row) for row in found if row is not None]
    return sorted(known, key=lambda each: (each.version.name, each.version.recorded_at))


def _source(trained: Sequence[Stored]) -> str:
    return f"trained on {', '.join(each.version.reference for each in trained)}"


def _listed(schema: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {type_}" for name, type_ in schema.items())


# -- schema, age, rows ------------------------------------------------------------------------------------------------
def _schema(ask: Ask, required: str, trained: Sequence[Stored]) -> Finding:
    wanted: Mapping[str, str] = ask.gate.options["schema"]
    types = _types(sorted({*wanted.values(), *(t for s in trained for t in (s.version.schema or {}).values())}))
    problems = []
    for each in trained:
        there = each.version.schema
        if there is None:
            problems.append(f"{each.version.reference} is a folder of files, not a table")
            continue
        for name, type_ in wanted.items():
            if name not in there:
                problems.append(f"{each.version.reference} has no column {quote(name)}")
            elif types[there[name]] != types[type_]:
                problems.append(f"{quote(name)} of {each.version.reference} is {there[name]}, not {type_}")
    said = "; ".join(problems) or "all of them"
    return Finding(required, said, not problems, _source(trained), {"problems": problems})


def _types(texts: Sequence[str]) -> dict[str, str]:
    """Return types as DuckDB calls them, whatever people do: `int` is INTEGER; one that it does not know is itself."""
    import contextlib

    found = {}
    connection = connect()
    try:
        for text in texts:
            found[text] = text.upper()
            if _TYPE.fullmatch(text):
                # A type that is none is no error of this gate's: it is one that no column has.
                with contextlib.suppress(Exception):
                    found[text] = connection.execute(f"SELECT typeof(NULL::{text})").fetchall()[0][0]
    finally:
        connection.close()
    return found


def _age(ask: Ask, required: str, trained: Sequence[Stored]) -> Finding:
    """Judge the oldest by the time of the evaluated commit, so that to evaluate it again agrees."""
    micros = ask.fold.micros()
    if not micros:
        return Finding(required, "nothing", False, f"the time of commit {ask.fold.commit[:12]} is not known")
    moment = from_micros(micros)
    ages = {each.version.reference: (moment - each.version.recorded_at).total_seconds() / _SECONDS for each in trained}
    oldest = max(ages, key=lambda each: ages[each])
    passed = ages[oldest] <= float(ask.gate.options["max_days"])
    found = f"{max(ages[oldest], 0.0):.1f} days ({oldest})"
    source = f"when it was recorded, at {moment:%Y-%m-%d %H:%M} UTC, the time of commit {ask.fold.commit[:12]}"
    return Finding(required, found, passed, source, {"days": ages})


def _rows(ask: Ask, required: str, trained: Sequence[Stored]) -> Finding:
    counts = {each.version.reference: each.version.rows for each in trained}
    if any(count is None for count in counts.values()):
        which = next(name for name, count in counts.items() if count is None)
        return Finding(required, "nothing", False, f"{which} is a folder of files, which has no rows")
    total = sum(count or 0 for count in counts.values())
    passed = total >= int(ask.gate.options["min_rows"])
    return Finding(required, counted(total, "row"), passed, _source(trained), {"rows": counts})


# -- leakage ----------------------------------------------------------------------------------------------------------
def _leakage(ask: Ask, required: str, trained: Sequence[Stored]) -> Finding:
    options = ask.gate.options
    against = Stored.of(ask.fold, row_of(ask.fold, str(options["against"])))
    given = options.get("key")
    key = (given,) if isinstance(given, str) else tuple(given or ())
    found: dict[str, Any] = {}
    problems = []
    ways = []
    for each in trained:
        columns, problem = _compared(each, against, key)
        if problem is not None:
            problems.append(problem)
            continue
        whole = not (key or columns == each.version.key)
        ways.append("whole rows" if whole else f"key {', '.join(map(quote, columns))}")
        memo = ("leakage", each.version.dataset_id, against.version.dataset_id, columns, whole)
        if memo not in ask.memo:
            ask.memo[memo] = _shared(ask.context.lake, each, against, columns, nulls=whole)
        count, examples = ask.memo[memo]
        if count:
            found[each.version.reference] = {"rows": count, "examples": examples}
    said = [
        f"{counted(each['rows'], 'row')} of {against.version.reference} in {reference}, such as {each['examples'][0]}"
        for reference, each in found.items()
    ]
    passed = not said and not problems
    by = f", by {' and '.join(dict.fromkeys(ways))}" if ways else ""
    details = {"shared": found, "problems": problems}
    return Finding(required, "; ".join([*said, *problems]) or "none", passed, f"{_source(trained)}{by}", details)


def _compared(train: Stored, against: Stored, key: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """Return the columns by which rows are the same, or why they can't be compared."""
    left, right = train.version, against.version
    for each in (left, right):
        if each.schema is None:
            return (), f"{each.reference} is a folder of files, not a table"
    for each in (left, right):
        for name in key:
            if name not in (each.schema or {}):
                return (), f"{each.reference} has no column {quote(name)}"
    if key:
        return key, None
    if left.key and left.key == right.key:
        return left.key, None
    both = tuple(name for name in left.schema or {} if name in (right.schema or {}))
    return both, None if both else f"{left.reference} and {right.reference} have no column in common"


def _shared(
    lake: Lake, train: Stored, against: Stored, columns: tuple[str, ...], *, nulls: bool
) -> tuple[int, list[str]]:
    """Return how many rows of the second dataset version the first has too, and a few of them in words.

    Args:
        lake: The lake.
        train: What was learned from.
        against: What is measured on.
        columns: The columns by which they are the same.
        nulls: Whether a null is the same as a null, as it is in whole rows and is not in keys.
    """
    old, new = train.version.schema or {}, against.version.schema or {}
    same = " IS NOT DISTINCT FROM " if nulls else " = "
    tests = []
    for name in columns:
        column = identifier(name)
        cast = "" if old[name] == new[name] else f"::{common_type(old[name], new[name])}"
        tests.append(f"a.{column}{cast}{same}t.{column}{cast}")
    what = f"{against.version.reference} and {train.version.reference}"
    with Rows(lake.cache) as rows:
        rows.attach_version("against", lake, against)
        rows.attach_version("train", lake, train)
        text = ", ".join(f"a.{identifier(name)}::VARCHAR" for name in columns)
        rows.execute(
            f"CREATE TEMP TABLE shared AS SELECT {text} FROM against a SEMI JOIN train t ON {' AND '.join(tests)}", what
        )
        ((count,),) = rows.all("SELECT count(*) FROM shared", what)
        some = rows.all(f"SELECT * FROM shared ORDER BY ALL LIMIT {_EXAMPLES}", what)
    named = [
        ", ".join(f"{name}={'' if value is None else value[:80]}" for name, value in zip(columns, row, strict=True))
        for row in some
    ]
    return count, [each[:200] for each in named]
