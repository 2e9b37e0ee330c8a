"""The gates of a dataset's policy, asked of one table: schema, rows, nulls, conditions; knows no lake and no branch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from headwater.content import Opened, Workbench
from headwater.errors import InvalidInputError
from headwater.governance_model import GateResult
from headwater.names import shown
from headwater.policy import Gate
from headwater.query_condition import Rows, reading

__all__ = ["ask", "same_type"]

_MOST_NAMED = 5

_ALIASES = {
    "bigint": ("int8", "int64", "long"),
    "boolean": ("bool", "logical"),
    "blob": ("bytea", "binary", "varbinary", "bytes"),
    "double": ("float8", "float64", "double precision"),
    "float": ("float4", "float32", "real"),
    "hugeint": ("int128",),
    "integer": ("int4", "int32", "int", "signed"),
    "smallint": ("int2", "int16", "short"),
    "timestamp": ("datetime", "timestamp without time zone"),
    "timestamp with time zone": ("timestamptz",),
    "tinyint": ("int1",),
    "ubigint": ("uint64",),
    "uinteger": ("uint32",),
    "usmallint": ("uint16",),
    "utinyint": ("uint8",),
    "varchar": ("text", "string", "char", "bpchar"),
}
_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in (name, *aliases)}


def ask(gates: Iterable[Gate], opened: Opened | None, bench: Workbench, *, source: str) -> tuple[GateResult, ...]:
    """Ask every gate of one dataset version, in order. What can't be asked fails, in words.

    Args:
        gates: The gates of its policy.
        opened: The version's table, on `bench`; None where it is a folder of anything.
        bench: Where rows are read.
        source: What the results say that they are about.
    """
    with ExitStack() as held:
        rows: Rows | None = None
        found = []
        for gate in gates:
            try:
                if opened is None:
                    raise InvalidInputError("it is no table, but a folder of files")
                if rows is None and gate.kind != "schema":
                    rows = held.enter_context(reading(opened, bench))
                found.append(_asked(gate, opened.table.schema, rows, source))
            except InvalidInputError as error:
                found.append(_result(gate, _required(gate), error.message, False, source))
        return tuple(found)


def same_type(left: str, right: str) -> bool:
    """Return whether two types of DuckDB are one, by whatever names: `INT8` is `BIGINT`."""
    return _type(left) == _type(right)


def _type(text: str) -> str:
    plain = " ".join(text.lower().split())
    plain = re.sub(r"^varchar\s*\(\d+\)$", "varchar", plain)
    return _NAMES.get(plain, plain)


def _asked(gate: Gate, schema: Mapping[str, str], rows: Rows | None, source: str) -> GateResult:
    if gate.kind == "schema":
        return _schema(gate, schema, source)
    assert rows is not None
    if gate.kind == "min_rows":
        count = rows.count()
        return _result(gate, _required(gate), f"{count:,} rows", count >= gate.options["min_rows"], source)
    if gate.kind == "max_nulls":
        return _nulls(gate, schema, rows, source)
    if gate.kind == "condition":
        return _condition(gate, rows, source)
    raise InvalidInputError(f"a dataset has no gate of kind {shown(gate.kind)}: a newer Headwater may know it")


def _schema(gate: Gate, schema: Mapping[str, str], source: str) -> GateResult:
    wanted: Mapping[str, str] = gate.options["schema"]
    missing = [name for name in wanted if name not in schema]
    other = [name for name in wanted if name in schema and not same_type(schema[name], wanted[name])]
    said = [f"no column {name}" for name in missing] + [
        f"{name} is {schema[name]}, not {wanted[name]}" for name in other
    ]
    details = {"missing": missing, "other": {name: schema[name] for name in other}} if said else {}
    found = _listed(said) if said else f"{len(wanted)} of {len(wanted)} columns"
    return _result(gate, _required(gate), found, not said, source, details)


def _nulls(gate: Gate, schema: Mapping[str, str], rows: Rows, source: str) -> GateResult:
    wanted: Mapping[str, float] = gate.options["max_nulls"]
    known = [name for name in wanted if name in schema]
    count = rows.count()
    nulls = rows.nulls(known) if known else {}
    shares = {name: nulls[name] / count if count else 0.0 for name in known}
    said = [f"no column {name}" for name in wanted if name not in schema]
    said += [f"{name} {shares[name]:.4g}" for name in known if shares[name] > wanted[name]]
    found = _listed(said) if said else _listed([f"{name} {share:.4g}" for name, share in shares.items()])
    return _result(gate, _required(gate), found, not said, source, {"nulls": nulls, "rows": count})


def _condition(gate: Gate, rows: Rows, source: str) -> GateResult:
    answer = rows.holds(gate.options["condition"])
    details: dict[str, Any] = {"asked": answer.asked, "failed": answer.failed}
    if not answer.failed:
        found = "true" if answer.asked == 1 else f"true of {answer.asked:,} rows"
    elif answer.example is None:
        found = "not true" if answer.asked == 1 else f"not true of {answer.failed:,} of {answer.asked:,} rows"
    else:
        row = ", ".join(f"{name}={value}" for name, value in list(answer.example.items())[:_MOST_NAMED])
        found = f"not true of {answer.failed:,} of {answer.asked:,} rows, such as {shown(row)}"
        details["example"] = answer.example
    return _result(gate, _required(gate), found, not answer.failed, source, details)


def _required(gate: Gate) -> str:
    wanted = gate.options[gate.kind]
    if gate.kind == "schema":
        return _listed([f"{name} {kind}" for name, kind in wanted.items()])
    if gate.kind == "min_rows":
        return f"at least {wanted:,} rows"
    if gate.kind == "max_nulls":
        return _listed([f"{name} at most {share:g}" for name, share in wanted.items()])
    return str(wanted)


def _result(
    gate: Gate, required: str, found: str, passed: bool, source: str, details: Mapping[str, Any] | None = None
) -> GateResult:
    return GateResult(gate.name, gate.kind, required, found, passed, source, dict(details or {}))


def _listed(words: list[str]) -> str:
    return ", ".join(words[:_MOST_NAMED]) + (
        f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    )
