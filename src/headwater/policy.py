"""Policies: the TOML that says which gates stand before a stage; reads and checks text, and evaluates nothing."""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headwater.access import ROLES
from headwater.errors import InvalidInputError
from headwater.names import shown
from headwater.policy_lines import Path, line_of, lines_of
from headwater.policy_options import (
    KEYS_OF_DATA,
    KEYS_OF_KIND,
    LEADING,
    NEEDED,
    OF_DATASET,
    OPTIONS,
    WrongError,
    near,
    number,
    one_of,
    seconds_of,
    whole,
    word,
)

__all__ = ["STAGES", "Approvals", "Gate", "Policy", "StagePolicy", "parse_policy", "seconds_of"]

STAGES = ("development", "staging", "production")
"""The stages that gates can stand before."""

_LONGEST = 64 << 10
_MOST_GATES = 200

_ABOUT = ("on", "slices", "window", "label", "positive")
"""What two gates of one metric have in common if they ask for the same number."""


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
    if len(text) > _LONGEST:
        raise InvalidInputError(f"{source} has {len(text):,} characters, and {_LONGEST:,} are allowed")
    if (odd := re.search("[\0\ud800-\udfff]", text)) is not None:
        line = text.count("\n", 0, odd.start()) + 1
        raise InvalidInputError(f"{source}:{line}: this is not text that can be stored: {shown(odd[0])}")
    # Editors on Windows begin a file with a mark.
    toml = text.removeprefix("\ufeff")
    try:
        document = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        raise _no_toml(toml, source, str(error)) from None
    except (RecursionError, ValueError):
        raise InvalidInputError(f"{source}: it is nested too deeply, or has a number too long, to be read") from None
    reader = _Reader(source, lines_of(toml))
    digest = hashlib.sha256(text.encode()).hexdigest()
    if dataset:
        return Policy(text, digest, datasets=reader.dataset(document))
    return Policy(text, digest, reader.stages(document))


def _no_toml(text: str, source: str, told: str) -> InvalidInputError:
    at = re.search(r"\(at line (\d+), column \d+\)", told)
    line = int(at[1]) if at is not None else text.count("\n") + 1
    reason = re.sub(r"\s*\(at .*\)$", "", told)
    return InvalidInputError(f"{source}:{line}: this is not TOML: {reason[:1].lower()}{reason[1:]}")


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
                    f"gates stand before no stage {shown(stage)}{near(stage, STAGES)}",
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
                    f"[{stage}] has no key {shown(key)}{near(key, ('approvals', 'gate'))}",
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
                    (*path, key), f"approvals have no key {shown(key)}{near(key, ('count', 'role'))}", hint=hint
                )
        count = self._checked((*path, "count"), "count", value.get("count", 1), whole(1, 100))
        role = self._checked((*path, "role"), "role", value.get("role", "reviewer"), one_of(*ROLES))
        return Approvals(count, role)

    def _gate(self, stage: str, path: Path, table: Mapping[str, Any]) -> Gate:
        leading = [key for key in LEADING if key in table]
        if len(leading) != 1:
            what = f"it is told by {' and '.join(leading)}" if leading else "nothing tells its kind"
            close = next((near(key, LEADING) for key in table if near(key, LEADING)), "")
            raise self._error(
                path,
                f"a gate is of one kind, and {what}{'' if leading else close}",
                hint=f"give it one of {', '.join(LEADING)}",
            )
        (lead,) = leading
        kind = "regression" if lead == "metric" and "max_regression" in table else lead
        options = {lead: self._checked((*path, lead), lead, table[lead], LEADING[lead])}
        allowed = KEYS_OF_DATA[options["data"]] if kind == "data" else KEYS_OF_KIND[kind]
        for key, value in table.items():
            if key in (lead, "name", "at_traffic"):
                continue
            if key not in allowed:
                raise self._error((*path, key), self._unknown(key, lead, kind, options, allowed))
            options[key] = self._checked((*path, key), key, value, OPTIONS[key])
        name = self._checked((*path, "name"), "name", table["name"], word("gate")) if "name" in table else ""
        gate = Gate(name, kind, options, line_of(self._lines, path))
        if "at_traffic" in table:
            if stage != "production":
                raise self._error((*path, "at_traffic"), f"only production has traffic, and this stands before {stage}")
            share = self._checked((*path, "at_traffic"), "at_traffic", table["at_traffic"], number(0, 100, above=True))
            gate = replace(gate, at_traffic=share)
        self._together(path, gate)
        return gate

    def _unknown(self, key: str, lead: str, kind: str, options: Mapping[str, Any], allowed: Iterable[str]) -> str:
        known = [lead, *allowed, "name", "at_traffic"]
        what = f"data = {options['data']!r}" if kind == "data" else kind
        return f"a gate of kind {what} has no key {shown(key)}{near(key, known) or '; it has ' + ', '.join(known)}"

    def _together(self, path: Path, gate: Gate) -> None:
        """Make sure that a gate says enough, and nothing that can't both be."""
        options = gate.options
        which = f"data {options['data']}" if gate.kind == "data" else gate.kind
        for group in NEEDED.get(which, ()):
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
        elif sources:
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
            kinds = [key for key in OF_DATASET if key in table]
            for key in table:
                if key not in OF_DATASET and key != "name":
                    known = [*OF_DATASET, "name"]
                    close = near(key, known) or "; it has " + ", ".join(known)
                    raise self._error((*path, key), f"a dataset's gate has no key {shown(key)}{close}")
            if len(kinds) != 1:
                what = f"it says {' and '.join(kinds)}" if kinds else "nothing tells its kind"
                raise self._error(
                    path,
                    f"a dataset's gate is of one kind, and {what}",
                    hint=f"give it one of {', '.join(OF_DATASET)}",
                )
            (kind,) = kinds
            options = {kind: self._checked((*path, kind), kind, table[kind], OF_DATASET[kind])}
            name = self._checked((*path, "name"), "name", table["name"], word("gate")) if "name" in table else ""
            gates.append(Gate(name, kind, options, line_of(self._lines, path)))
        if not gates:
            raise InvalidInputError(f"{self._source}:1: it has no gate", hint="write [[gate]]")
        return self._named("a dataset", gates)

    # -- all gates of a stage -----------------------------------------------------------------------------------
    def _checked(self, path: Path, key: str, value: object, check: Callable[[object], Any]) -> Any:
        try:
            return check(value)
        except WrongError as wrong:
            said = _said(value) if wrong.value is None else wrong.value
            raise self._error(path, f"{key} is {said}, and has to be {wrong}") from None

    def _named(self, stage: str, gates: list[Gate]) -> tuple[Gate, ...]:
        """Give each gate a name, and make sure that no two of them contradict or repeat each other."""
        named: list[Gate] = []
        taken = {"approvals": 0} | {gate.name: 0 for gate in gates if gate.name}
        bounds: dict[Any, tuple[float, float]] = {}
        for gate in gates:
            at = f"{self._source}:{gate.line}"
            for other in named:
                if (other.kind, _asked(other), other.at_traffic) == (gate.kind, _asked(gate), gate.at_traffic):
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
                same = (gate.kind, *(gate.options.get(key) for key in (gate.kind, *_ABOUT)))
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


def _asked(gate: Gate) -> dict[str, Any]:
    """Return what a gate asks; in which order it names slices makes no difference."""
    slices = gate.options.get("slices")
    return {**gate.options, "slices": None if slices is None else sorted(slices)}


def _said(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    try:
        return shown(value) if isinstance(value, str) else str(value)[:80]
    except ValueError:
        # Python refuses to write thousands of digits.
        return "a number of many digits" if isinstance(value, int) else "a list"


def _free(name: str, at_traffic: float | None, taken: Mapping[str, int]) -> str:
    if name in taken and at_traffic is not None:
        name = f"{name} at {at_traffic:g} %"
    count, free = 2, name
    while free in taken:
        free = f"{name} ({count})"
        count += 1
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
