"""Policies: the TOML that says which gates stand before a stage; reads and checks text, and evaluates nothing."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headwater.errors import InvalidInputError
from headwater.names import check_key, check_text, parse_dataset, shown
from headwater.policy_lines import Path, line_of, lines_of

__all__ = ["ROLES", "STAGES", "Approvals", "Gate", "Policy", "StagePolicy", "parse_policy", "seconds_of"]

STAGES = ("development", "staging", "production")
"""The stages that gates can stand before."""

ROLES = ("viewer", "author", "reviewer", "deployer", "admin")

_LONGEST = 64 << 10
_MOST_GATES = 200


@dataclass(frozen=True, slots=True)
class Approvals:
    """How many people have to agree, and the role that they hold."""

    count: int
    role: str


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate, as a policy writes it."""

    name: str
    """Unique in its stage: given, or made of its words."""
    kind: str
    """A key of `gates.EVALUATORS`; of a dataset's gates: `schema`, `min_rows`, `max_nulls`, `condition`."""
    options: Mapping[str, Any]
    """What it says by the keys of the TOML, its leading key among them, checked; what was left out is left out here.

    `slices` is a tuple of tuples of columns, sorted; a list of texts is a tuple.
    """
    line: int
    """Where it begins in the policy, from 1."""
    at_traffic: float | None = None
    """Percent: it is asked only when the share of production's requests is raised to at least this."""


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """What stands before one stage."""

    stage: str
    gates: tuple[Gate, ...]
    approvals: Approvals | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read."""

    text: str
    digest: str
    """sha256 of the text in UTF-8, in hexadecimal."""
    stages: Mapping[str, StagePolicy] = field(default_factory=dict)
    """By the stage that is entered; empty for a dataset's policy."""
    datasets: tuple[Gate, ...] = ()
    """The gates of a dataset's policy."""


def parse_policy(text: str, *, source: str = "gates.toml", dataset: bool = False) -> Policy:
    """Read a policy.

    Args:
        text: The TOML.
        source: What the text is called in errors.
        dataset: Whether it is a dataset's policy, with `[[gate]]`, and not a model's, with `[STAGE]`.

    Raises:
        InvalidInputError: It is no TOML, or says something that no gate can; the message names the line.
    """
    check_text(text, "policy")
    if len(text) > _LONGEST:
        raise InvalidInputError(f"{source} has {len(text):,} characters, and {_LONGEST:,} are allowed")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _no_toml(text, source, str(error)) from None
    except (RecursionError, ValueError):
        raise InvalidInputError(f"{source}: it is nested too deeply, or has a number too long, to be read") from None
    reader = _Reader(source, lines_of(text))
    digest = hashlib.sha256(text.encode()).hexdigest()
    if dataset:
        return Policy(text, digest, datasets=reader.dataset(document))
    return Policy(text, digest, reader.stages(document))


def _no_toml(text: str, source: str, told: str) -> InvalidInputError:
    at = re.search(r"\(at line (\d+), column \d+\)", told)
    line = int(at[1]) if at is not None else text.count("\n") + 1
    reason = re.sub(r"\s*\(at .*\)$", "", told)
    return InvalidInputError(f"{source}:{line}: this is not TOML: {reason[:1].lower()}{reason[1:]}")


# -- what an option may be --------------------------------------------------------------------------------------------
class _Wrong(Exception):
    """What an option should be, in words that go after "has to be"."""


def _number(
    least: float = -math.inf, most: float = math.inf, *, above: bool = False, below: bool = False, unit: str = ""
) -> Callable[[object], float]:
    def check(value: object) -> float:
        words = "a number"
        if least > -math.inf:
            words += f" {'above' if above else 'from'} {least:g}"
        if most < math.inf:
            words += f" {'below' if below else 'to'} {most:g}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Wrong(words + unit)
        try:
            number = float(value)
        except OverflowError:
            raise _Wrong(words + unit) from None
        if not math.isfinite(number):
            raise _Wrong(f"{words}{unit}, and finite")
        if number < least or number > most or (above and number == least) or (below and number == most):
            raise _Wrong(words + unit)
        return number

    return check


def _whole(least: int, most: int = 10**12) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _Wrong(f"a whole number from {least}" + (f" to {most}" if most < 10**12 else ""))
        return value

    return check


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _yes(value: object) -> bool:
    if value is not True:
        raise _Wrong("true: leave the gate out where it is not wanted")
    return True


def _word(what: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            raise _Wrong(f"the name of a {what}")
        try:
            return check_key(value, what)
        except InvalidInputError as error:
            raise _Wrong(f"the name of a {what}: {error.hint}") from None

    return check


def _one_of(*words: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise _Wrong(f"one of {', '.join(words)}{_near(value, words)}")
        return value

    return check


def _texts(what: str) -> Callable[[object], tuple[str, ...]]:
    """A text, or a list of one or more of them, none twice."""

    def check(value: object) -> tuple[str, ...]:
        several = value if isinstance(value, list) else [value]
        found = tuple(_word(what)(each) for each in several)
        if not found or len(set(found)) < len(found):
            raise _Wrong(f"a {what}, or a list of {what}s, each once")
        return found

    return check


def _slices(value: object) -> tuple[tuple[str, ...], ...]:
    found = []
    for each in _texts("column")(value):
        columns = tuple(sorted(part.strip() for part in each.split("+")))
        if not all(columns) or len(set(columns)) < len(columns):
            raise _Wrong('a column, a list of columns, or columns joined as "origin+carrier"')
        found.append(columns)
    if len(set(found)) < len(found):
        raise _Wrong("columns, each once")
    return tuple(found)


def _dataset(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("a dataset: NAME or NAME@1.0.0")
    try:
        return str(parse_dataset(value))
    except InvalidInputError as error:
        raise _Wrong(f"a dataset: {error.hint}") from None


def _command(value: object) -> tuple[str, ...] | str:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise _Wrong("a command: a text, or a list of its words")


def _callable(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value):
        raise _Wrong("a Python callable: module:function")
    return value


def _sample(value: object) -> str | int:
    return _dataset(value) if isinstance(value, str) else _whole(1)(value)


def _positive(value: object) -> str | int | float | bool:
    if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise _Wrong("a label")
    return value


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(window: str) -> int:
    """Return the seconds of a window such as `90s`, `30m`, `24h` or `7d`.

    Raises:
        InvalidInputError: It is none.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", window)
    if found is None:
        raise InvalidInputError(f"not a length of time: {shown(window)}", hint="write 30m, 24h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def _window(value: object) -> str:
    try:
        if isinstance(value, str):
            seconds_of(value)
            return value
    except InvalidInputError:
        pass
    raise _Wrong('a length of time, such as "30m", "24h" or "7d"')


def _schema(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not value or not all(isinstance(v, str) and v for v in value.values()):
        raise _Wrong('a table of columns and their types: { origin = "VARCHAR" }')
    return {_word("column")(key): str(kind) for key, kind in value.items()}


def _nulls(value: object) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise _Wrong("a table of columns and the greatest share of nulls: { origin = 0.01 }")
    return {_word("column")(key): _number(0, 1)(share) for key, share in value.items()}


def _condition(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 10_000:
        raise _Wrong('a condition in SQL of up to 10000 characters, such as "delay >= -60"')
    return value


_OPTIONS: Mapping[str, Callable[[object], Any]] = {
    "against": _dataset,
    "callable": _callable,
    "command": _command,
    "computed": _flag,
    "confidence": _number(0.5, 1, above=True, below=True),
    "from": _one_of("shadow", "live"),
    "groups": _word("column"),
    "key": _texts("column"),
    "lower_is_better": _flag,
    "max": _number(),
    "max_days": _number(0, above=True),
    "max_drop": _number(0),
    "max_gap": _number(0),
    "max_ms": _number(0, above=True),
    "max_regression": _number(0),
    "min": _number(),
    "min_agreement": _number(0, 1),
    "min_hours": _number(0),
    "min_predictions": _whole(1),
    "min_rows": _whole(1),
    "on": _dataset,
    "positive": _positive,
    "runs": _whole(1, 1_000_000),
    "sample": _sample,
    "schema": _schema,
    "slices": _slices,
    "timeout": _number(0, above=True),
    "warmup": _whole(0, 1_000_000),
    "window": _window,
}

_LEADING: Mapping[str, Callable[[object], Any]] = {
    "metric": _word("metric"),
    "latency": _one_of("p50", "p95", "p99"),
    "bias": _word("metric"),
    "data": _one_of("schema", "age", "leakage", "rows"),
    "shadow": _yes,
    "live": _word("metric"),
    "check": _word("check"),
    "card": _yes,
    "signature": _yes,
}

_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "metric": ("on", "min", "max", "slices", "min_rows", "computed"),
    "regression": (*("on", "max_regression", "slices", "min_rows", "confidence", "computed", "lower_is_better"),),
    "latency": (
        *("max_ms", "command", "callable", "sample", "on", "runs", "warmup", "timeout"),
        *("from", "window", "min_predictions"),
    ),
    "bias": ("groups", "max_gap", "on", "min_rows", "positive", "computed"),
    "data": ("schema", "max_days", "against", "key", "min_rows", "on"),
    "shadow": ("min_predictions", "min_hours", "min_agreement", "max_drop", "window"),
    "live": ("min", "max", "max_drop", "min_predictions", "window"),
    "check": (),
    "card": (),
    "signature": (),
}

_NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "metric": (("min", "max"),),
    "latency": (("max_ms",),),
    "bias": (("groups",), ("max_gap",)),
    "shadow": (("min_predictions", "min_hours", "min_agreement", "max_drop"),),
    "live": (("min", "max", "max_drop"),),
    "data schema": (("schema",),),
    "data age": (("max_days",),),
    "data leakage": (("against",),),
    "data rows": (("min_rows",),),
}
"""By kind: of each group at least one has to be given."""

_OF_DATA: Mapping[str, tuple[str, ...]] = {
    "schema": ("schema", "on"),
    "age": ("max_days", "on"),
    "leakage": ("against", "key", "on"),
    "rows": ("min_rows", "on"),
}

_OF_DATASET: Mapping[str, Callable[[object], Any]] = {
    "schema": _schema,
    "min_rows": _whole(1),
    "max_nulls": _nulls,
    "condition": _condition,
}


def _near(value: object, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(value, list(words), 1) if isinstance(value, str) else []
    return f"; did you mean {close[0]}?" if close else ""


# -- reading ----------------------------------------------------------------------------------------------------------
class _Reader:
    """Makes gates of what `tomllib` read, and knows where in the text everything stands."""

    def __init__(self, source: str, lines: Mapping[Path, int]) -> None:
        self._source = source
        self._lines = lines

    def _error(self, path: Path, message: str, hint: str = "") -> InvalidInputError:
        return InvalidInputError(f"{self._source}:{line_of(self._lines, path)}: {message}", hint=hint)

    # -- a model's policy ---------------------------------------------------------------------------------------
    def stages(self, document: Mapping[str, Any]) -> dict[str, StagePolicy]:
        if "gate" in document:
            raise self._error(
                ("gate",),
                "[[gate]] is a dataset's, and this is the policy of models",
                hint="write [[production.gate]]; or set it for `dataset:NAME`",
            )
        found = {}
        for stage, value in document.items():
            if stage not in STAGES:
                raise self._error(
                    (stage,),
                    f"gates stand before no stage {shown(stage)}{_near(stage, STAGES)}",
                    hint=f"the stages are {', '.join(STAGES)}",
                )
            if not isinstance(value, dict):
                raise self._error((stage,), f"{stage} has to be a table", hint=f"write [{stage}]")
            found[stage] = self._stage(stage, value)
        if not found:
            raise InvalidInputError(f"{self._source}:1: it names no stage", hint="write [production], say")
        return found

    def _stage(self, stage: str, table: Mapping[str, Any]) -> StagePolicy:
        for key in table:
            if key not in ("approvals", "gate"):
                raise self._error(
                    (stage, key),
                    f"[{stage}] has no key {shown(key)}{_near(key, ('approvals', 'gate'))}",
                    hint=f'write approvals = {{ count = 1, role = "reviewer" }}, or [[{stage}.gate]]',
                )
        approvals = self._approvals((stage, "approvals"), table["approvals"]) if "approvals" in table else None
        gates = [self._gate(stage, path, each) for path, each in self._tables((stage, "gate"), table.get("gate", []))]
        if approvals is None and not gates:
            raise self._error((stage,), f"[{stage}] asks for nothing", hint=f"add [[{stage}.gate]]")
        return StagePolicy(stage, self._named(stage, gates), approvals)

    def _tables(self, path: Path, value: object) -> list[tuple[Path, dict[str, Any]]]:
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self._error(path, "a gate has to be a table of its own", hint=f"write [[{'.'.join(map(str, path))}]]")
        if len(value) > _MOST_GATES:
            raise self._error(path, f"there are {len(value)} gates, and {_MOST_GATES} are allowed")
        return [((*path, at), each) for at, each in enumerate(value)]

    def _approvals(self, path: Path, value: object) -> Approvals:
        hint = 'write { count = 1, role = "reviewer" }'
        if not isinstance(value, dict):
            raise self._error(path, "approvals have to be a table", hint=hint)
        for key in value:
            if key not in ("count", "role"):
                raise self._error(
                    (*path, key), f"approvals have no key {shown(key)}{_near(key, ('count', 'role'))}", hint=hint
                )
        count = self._checked((*path, "count"), "count", value.get("count", 1), _whole(1, 100))
        role = self._checked((*path, "role"), "role", value.get("role", "reviewer"), _one_of(*ROLES))
        return Approvals(count, role)

    def _gate(self, stage: str, path: Path, table: Mapping[str, Any]) -> Gate:
        leading = [key for key in _LEADING if key in table]
        if len(leading) != 1:
            what = f"it is told by {' and '.join(leading)}" if leading else "nothing tells its kind"
            near = next((_near(key, _LEADING) for key in table if _near(key, _LEADING)), "")
            raise self._error(
                path,
                f"a gate is of one kind, and {what}{'' if leading else near}",
                hint=f"give it one of {', '.join(_LEADING)}",
            )
        (lead,) = leading
        kind = "regression" if lead == "metric" and "max_regression" in table else lead
        options = {lead: self._checked((*path, lead), lead, table[lead], _LEADING[lead])}
        allowed = _OF_DATA[options["data"]] if kind == "data" else _OF_KIND[kind]
        for key, value in table.items():
            if key in (lead, "name", "at_traffic"):
                continue
            if key not in allowed:
                raise self._error((*path, key), self._unknown(key, lead, kind, options, allowed))
            options[key] = self._checked((*path, key), key, value, _OPTIONS[key])
        name = self._checked((*path, "name"), "name", table["name"], _word("gate")) if "name" in table else ""
        gate = Gate(name, kind, options, line_of(self._lines, path))
        if "at_traffic" in table:
            if stage != "production":
                raise self._error((*path, "at_traffic"), f"only production has traffic, and this stands before {stage}")
            share = self._checked((*path, "at_traffic"), "at_traffic", table["at_traffic"], _number(0, 100, above=True))
            gate = replace(gate, at_traffic=share)
        self._together(path, gate)
        return gate

    def _unknown(self, key: str, lead: str, kind: str, options: Mapping[str, Any], allowed: Iterable[str]) -> str:
        known = [lead, *allowed, "name", "at_traffic"]
        what = f"data = {options['data']!r}" if kind == "data" else kind
        return f"a gate of kind {what} has no key {shown(key)}{_near(key, known) or '; it has ' + ', '.join(known)}"

    def _together(self, path: Path, gate: Gate) -> None:
        """Make sure that a gate says enough, and nothing that can't both be."""
        options = gate.options
        which = f"data {options['data']}" if gate.kind == "data" else gate.kind
        for group in _NEEDED.get(which, ()):
            if not any(key in options for key in group):
                raise self._error(path, f"a gate of kind {which} needs {' or '.join(group)}")
        if "min" in options and "max" in options and options["min"] > options["max"]:
            raise self._error((*path, "max"), f"nothing is at least {options['min']:g} and at most {options['max']:g}")
        sources = [key for key in ("command", "callable", "from") if key in options]
        if gate.kind == "latency" and len(sources) > 1:
            said = " and ".join(sources)
            raise self._error(
                path,
                f"a latency is measured in one way, and {said} is given",
                hint='give one of command, callable and from = "shadow"',
            )
        if "from" in options:
            for key in ("sample", "on", "runs", "warmup", "timeout"):
                if key in options:
                    raise self._error((*path, key), f"{key} has no meaning for what is read from logged predictions")
        elif gate.kind == "latency":
            for key in ("window", "min_predictions"):
                if key in options:
                    raise self._error(
                        (*path, key),
                        f"{key} has no meaning for what is measured",
                        hint='give from = "shadow" or "live"',
                    )
            if isinstance(options.get("sample"), str) and "on" in options:
                raise self._error((*path, "sample"), "sample and on both name a dataset")

    # -- a dataset's policy -------------------------------------------------------------------------------------
    def dataset(self, document: Mapping[str, Any]) -> tuple[Gate, ...]:
        for key in document:
            if key != "gate":
                raise self._error((key,), f"a dataset's policy has no {shown(key)}", hint="write [[gate]]")
        gates = []
        for path, table in self._tables(("gate",), document.get("gate", [])):
            kinds = [key for key in _OF_DATASET if key in table]
            for key in table:
                if key not in _OF_DATASET and key != "name":
                    known = [*_OF_DATASET, "name"]
                    near = _near(key, known) or "; it has " + ", ".join(known)
                    raise self._error((*path, key), f"a dataset's gate has no key {shown(key)}{near}")
            if len(kinds) != 1:
                what = f"it says {' and '.join(kinds)}" if kinds else "nothing tells its kind"
                raise self._error(
                    path,
                    f"a dataset's gate is of one kind, and {what}",
                    hint=f"give it one of {', '.join(_OF_DATASET)}",
                )
            (kind,) = kinds
            options = {kind: self._checked((*path, kind), kind, table[kind], _OF_DATASET[kind])}
            name = self._checked((*path, "name"), "name", table["name"], _word("gate")) if "name" in table else ""
            gates.append(Gate(name, kind, options, line_of(self._lines, path)))
        if not gates:
            raise InvalidInputError(f"{self._source}:1: it has no gate", hint="write [[gate]]")
        return self._named("a dataset", gates)

    # -- all gates of a stage -----------------------------------------------------------------------------------
    def _checked(self, path: Path, key: str, value: object, check: Callable[[object], Any]) -> Any:
        try:
            return check(value)
        except _Wrong as wrong:
            raise self._error(path, f"{key} is {_said(value)}, and has to be {wrong}") from None

    def _named(self, stage: str, gates: list[Gate]) -> tuple[Gate, ...]:
        """Give each gate a name, and make sure that no two of them contradict or repeat each other."""
        named: list[Gate] = []
        taken = {"approvals": 0} | {gate.name: 0 for gate in gates if gate.name}
        bounds: dict[Any, tuple[float, float]] = {}
        for gate in gates:
            at = f"{self._source}:{gate.line}"
            for other in named:
                if (other.kind, other.options, other.at_traffic) == (gate.kind, gate.options, gate.at_traffic):
                    raise InvalidInputError(f"{at}: this gate is on line {other.line} already")
                if gate.name and other.name == gate.name:
                    raise InvalidInputError(
                        f"{at}: a gate on line {other.line} is called {shown(gate.name)} too", hint="name it otherwise"
                    )
            if gate.name == "approvals":
                raise InvalidInputError(
                    f"{at}: 'approvals' is what {stage}'s approvals are called", hint="name it otherwise"
                )
            if gate.kind in ("metric", "live"):
                same = (gate.kind, *(gate.options.get(key) for key in (gate.kind, "on", "slices", "window")))
                low, high = bounds.get(same, (-math.inf, math.inf))
                low, high = max(low, gate.options.get("min", low)), min(high, gate.options.get("max", high))
                if low > high:
                    raise InvalidInputError(
                        f"{at}: no {gate.options[gate.kind]} is at least {low:g} and at most {high:g},"
                        " as this gate and another ask together"
                    )
                bounds[same] = low, high
            name = gate.name or _free(_called(gate), gate.at_traffic, taken)
            taken.setdefault(name, gate.line)
            named.append(replace(gate, name=name))
        return tuple(named)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "a table" if isinstance(value, dict) else shown(value) if isinstance(value, str) else str(value)[:80]


def _free(name: str, at_traffic: float | None, taken: Mapping[str, int]) -> str:
    if name in taken and at_traffic is not None:
        name = f"{name} at {at_traffic:g} %"
    number, free = 2, name
    while free in taken:
        free = f"{name} ({number})"
        number += 1
    return free


def _called(gate: Gate) -> str:
    """Return the name of a gate that was given none."""
    said = gate.options
    on = f" on {said['on']}" if "on" in said else ""
    by = f" by {', '.join('+'.join(columns) for columns in said['slices'])}" if "slices" in said else ""
    if gate.kind == "metric":
        return f"{said['metric']}{on}{by}"
    if gate.kind == "regression":
        return f"{said['metric']}{on}{by or ' against production'}"
    if gate.kind == "latency":
        return f"latency {said['latency']}"
    if gate.kind == "bias":
        return f"{said['bias']} by {said['groups']}{on}"
    if gate.kind == "data":
        return f"data {said['data']}" + (f" against {said['against']}" if "against" in said else on)
    if gate.kind in ("live", "check"):
        return f"{gate.kind} {said[gate.kind]}"
    return gate.kind
