"""What DuckDB is asked for a file of predictions or outcomes: which column is what, and SQL for each; reads nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headwater.errors import InvalidInputError
from headwater.names import shown
from headwater.sqltext import identifier, literal

__all__ = ["OUTCOME", "PREDICTION", "SAMPLE", "Columns", "Layout"]

SAMPLE = 1000
"""JSON lines that are looked at to know which keys there are."""

PREDICTION: Mapping[str, tuple[str, ...]] = {
    "external_id": ("external_id", "id"),
    "predicted_at": ("predicted_at",),
    "output": ("output", "prediction"),
    "score": ("score",),
    "latency_ms": ("latency_ms",),
    "input": ("input",),
    "dataset": ("dataset_id", "dataset"),
    "row_key": ("row_key",),
    "deployment": ("deployment_id",),
    "version": ("version_id",),
}
"""What a column of a prediction is called in a file; the first of the names that is there."""

OUTCOME: Mapping[str, tuple[str, ...]] = {
    "prediction_id": ("prediction_id",),
    "external_id": ("external_id", "id"),
    "label": ("label",),
    "observed_at": ("observed_at",),
}
"""The same for an outcome."""

_TIMES = ("predicted_at", "observed_at")
_NUMBERS = ("score", "latency_ms")
_OBJECTS = ("input", "row_key")
_ZONED = r"\d:\d\d(:\d\d(\.\d+)?)?\s*([Zz]|[+-]\d\d(:?\d\d)?)\s*$"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's columns are to be taken.

    Attributes:
        names: What columns of `PREDICTION` or `OUTCOME` are called in this file, where they are called otherwise.
        row_key: Columns that are the row's key in a dataset, and no features.
        timezone: The zone of times that say none; without it they are refused.
    """

    names: Mapping[str, str]
    row_key: Sequence[str] = ()
    timezone: str | None = None


class Columns:
    """The columns of one file.

    Args:
        name: What the file is called.
        known: `PREDICTION` or `OUTCOME`.
        layout: How its columns are to be taken.
    """

    def __init__(self, name: str, known: Mapping[str, tuple[str, ...]], layout: Layout) -> None:
        self._name = name
        self._known = known
        self._layout = layout
        self.may_lack_strictness = True
        """Whether JSON objects may hold NaN or infinities, which JSON lacks."""

    def _called(self, there: Sequence[str]) -> dict[str, str]:
        """Return the columns that are there by what they are known as.

        Raises:
            InvalidInputError: One that was named is not there, or one is there that only Headwater gives.
        """
        found: dict[str, str] = {}
        for what, names in self._known.items():
            given = self._layout.names.get(what)
            if given is not None and given not in there:
                raise InvalidInputError(
                    f"{shown(self._name)} has no column {shown(given)}", hint=f"it has {_listed(there)}"
                )
            name = given if given is not None else next((each for each in names if each in there), None)
            if name is not None:
                found[what] = name
        missing = [each for each in self._layout.row_key if each not in there]
        if missing:
            raise InvalidInputError(
                f"{shown(self._name)} has no column {shown(missing[0])}", hint=f"it has {_listed(there)}"
            )
        if self._known is PREDICTION and "prediction_id" in there:
            raise InvalidInputError(
                f"{shown(self._name)} has a column prediction_id, and Headwater gives those",
                hint="call the caller's own ID external_id",
            )
        return found

    # -- columns that have types --------------------------------------------------------------------------------
    def typed(self, types: Mapping[str, str]) -> str:
        """Return the query over `source`, whose columns have these types.

        Raises:
            InvalidInputError: A column that is needed is missing, or can't be what it is called.
        """
        called = self._called(list(types))
        nested = any(
            type_.endswith(("]", ")")) and not type_.startswith(("DECIMAL", "ENUM")) for type_ in types.values()
        )
        self.may_lack_strictness = nested or any(what in called for what in _OBJECTS)
        parts = {what: self._value(what, identifier(name), types[name]) for what, name in called.items()}
        if self._known is PREDICTION:
            key = [name for name in types if name in self._layout.row_key]
            if key:
                parts["row_key"] = _object({name: types[name] for name in key})
            used = {*called.values(), *key}
            features = {name: type_ for name, type_ in types.items() if name not in used}
            if features and "input" in parts:
                parts["input"] = f"CAST(json_merge_patch({parts['input']}, {_object(features)}) AS VARCHAR)"
            elif features:
                parts["input"] = _object(features)
        return f"SELECT {self._columns(parts)} FROM source"

    def _columns(self, parts: Mapping[str, str]) -> str:
        wanted = [f"{parts.get(what) or _nothing(what)} AS {what}" for what in self._known]
        named = [parts[what] for what in ("prediction_id", "external_id") if what in parts]
        external = f"coalesce({', '.join(named)})" if len(named) > 1 else named[0] if named else None
        if external is not None:
            wanted.append(f"CASE WHEN {external} IS NOT NULL THEN hash({external}) END AS hash")
        else:
            wanted.append("CAST(NULL AS UBIGINT) AS hash")
        return ", ".join(wanted)

    def _value(self, what: str, column: str, type_: str) -> str:
        if what in _TIMES:
            return self._time(what, column, type_)
        if what in _NUMBERS:
            return f"CAST({column} AS DOUBLE)"
        if what in _OBJECTS and type_ in ("VARCHAR", "JSON"):
            said = f"column {what} holds what is no JSON object".replace("'", "''")
            return f"CASE WHEN {column} IS NULL OR json_type({column}) = 'OBJECT' THEN CAST({column} AS VARCHAR) ELSE error('{said}') END"  # noqa: E501
        if what in _OBJECTS or type_.endswith("]") or type_.startswith(("STRUCT", "MAP", "UNION")):
            return f"CAST(to_json({column}) AS VARCHAR)"
        return f"CAST({column} AS VARCHAR)"

    def _time(self, what: str, column: str, type_: str) -> str:
        zone = self._layout.timezone
        local = f"timezone('{zone}', CAST({column} AS TIMESTAMP))" if zone is not None else None
        if type_ == "TIMESTAMP WITH TIME ZONE":
            return f"epoch_us({column})"
        if type_.startswith("TIMESTAMP") or type_ == "DATE":
            if local is None:
                raise InvalidInputError(
                    f"column {what} of {shown(self._name)} does not say its time zone",
                    hint="write times as 2026-11-01T12:00:00Z, or say which it is (--timezone UTC)",
                )
            return f"epoch_us({local})"
        if type_ in ("VARCHAR", "NULL"):
            said = f"column {what} does not say its time zone (--timezone UTC says that it is UTC): "
            other = local or f"CAST(error('{said}' || {column}) AS TIMESTAMPTZ)"
            return (
                f"epoch_us(CASE WHEN {column} IS NULL THEN NULL"
                f" WHEN regexp_matches({column}, '{_ZONED}') THEN CAST({column} AS TIMESTAMPTZ) ELSE {other} END)"
            )
        raise InvalidInputError(
            f"column {what} of {shown(self._name)} is {type_}, and no time", hint="write times as 2026-11-01T12:00:00Z"
        )

    # -- JSON lines ---------------------------------------------------------------------------------------------
    def lines(self, there: Sequence[str]) -> str:
        """Return the query over `source`, whose column `json` holds objects that have these keys, or more.

        Raises:
            InvalidInputError: A key that is needed is missing.
        """
        called = self._called(there)
        # A column that the first rows lack may come later.
        late = {what: names[0] for what, names in self._known.items() if what not in _OBJECTS and what not in called}
        texts = {**called, **{what: name for what, name in late.items() if name not in called.values()}}
        objects = [texts.pop(what) for what in _OBJECTS if what in texts]
        key = [name for name in self._layout.row_key if name in there]
        names = list(texts)
        parts = {what: self._value(what, f"x[{number}]", "VARCHAR") for number, what in enumerate(names, 1)}
        if self._known is PREDICTION:
            gone = {name: None for name in (*texts.values(), *objects, *key)}
            rest = f"json_merge_patch(json, {literal(json.dumps(gone))})"
            whole = f"CASE WHEN json_type(json) = 'OBJECT' THEN {rest} ELSE error('its lines are not JSON objects') END"
            if "input" in called:
                own = f"json_extract(json, {literal(_pointer(called['input']))})"
                whole = f"CASE WHEN json_type({own}) = 'OBJECT' THEN json_merge_patch({own}, {rest}) WHEN {own} IS NULL OR json_type({own}) = 'NULL' THEN {whole} ELSE error('column input holds what is no JSON object') END"  # noqa: E501
            parts["input"] = f"CAST({whole} AS VARCHAR)"
            if key:
                pairs = ", ".join(f"{literal(name)}, json_extract(json, {literal(_pointer(name))})" for name in key)
                parts["row_key"] = f"CAST(json_object({pairs}) AS VARCHAR)"
            elif "row_key" in called:
                own = f"json_extract(json, {literal(_pointer(called['row_key']))})"
                parts["row_key"] = (
                    f"CASE WHEN json_type({own}) = 'OBJECT' THEN CAST({own} AS VARCHAR) WHEN json_type({own}) = 'NULL' THEN NULL ELSE error('column row_key holds what is no JSON object') END"  # noqa: E501
                )
        pointers = ", ".join(literal(_pointer(name)) for name in texts.values())
        cut = f"(SELECT json, json_extract_string(json, [{pointers}]) AS x FROM source)"
        return f"SELECT {self._columns(parts)} FROM {cut}"


def _nothing(what: str) -> str:
    return f"CAST(NULL AS {'BIGINT' if what in _TIMES else 'DOUBLE' if what in _NUMBERS else 'VARCHAR'})"


def _object(columns: Mapping[str, str]) -> str:
    """Return what makes a JSON object of columns; NaN and infinities become text, row by row where there are any."""

    def pack(value: Callable[[str, str], str]) -> str:
        fields = ", ".join(f"{identifier(name)} := {value(identifier(name), type_)}" for name, type_ in columns.items())
        return f"CAST(to_json(struct_pack({fields})) AS VARCHAR)"

    quick = pack(lambda column, _: column)
    floats = {name for name, type_ in columns.items() if type_ in ("DOUBLE", "FLOAT")}
    if not floats:
        return quick

    def careful(column: str, type_: str) -> str:
        if type_ not in ("DOUBLE", "FLOAT"):
            return column
        return (
            f"CASE WHEN {column} IS NULL OR isfinite({column}) THEN to_json({column}) WHEN isnan({column})"
            f" THEN to_json('NaN') WHEN {column} > 0 THEN to_json('Infinity') ELSE to_json('-Infinity') END"
        )

    odd = " OR ".join(f"NOT isfinite({identifier(name)})" for name in floats)
    return f"CASE WHEN {odd} THEN {pack(careful)} ELSE {quick} END"


def _pointer(name: str) -> str:
    """Return a key as DuckDB's path of JSON.

    Raises:
        InvalidInputError: It can't be one.
    """
    if '"' in name or "\\" in name:
        raise InvalidInputError(f"not a column that can be named: {shown(name)}", hint="it has a quote or a backslash")
    return f'$."{name}"'


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
