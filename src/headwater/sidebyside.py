"""Runs and model versions side by side: what was given, measured and used, and where they differ; reads only."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headwater.errors import InvalidInputError, NotFoundError
from headwater.model import Metric, ModelVersion, RunInfo
from headwater.runinfo import is_run

__all__ = ["Compared", "Comparison", "Row", "compare"]


class _Registry(Protocol):
    def run(self, reference: str) -> RunInfo: ...
    def get(self, reference: str) -> ModelVersion: ...
    def run_metrics(self, reference: str) -> list[Metric]: ...
    def metrics(self, reference: str) -> list[Metric]: ...
    def run_inputs(self, reference: str) -> list[str]: ...
    def trained_on(self, reference: str) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Compared:
    """A run or version that is compared."""

    reference: str
    name: str | None
    run_id: str | None
    status: str | None
    commit: str


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is known of some of those that are compared: a value for each, None where there is none."""

    kind: str
    """`run`, `param`, `metric`, `slice`, `tag`, `input` or `code`."""
    key: str
    values: tuple[Any, ...]
    differs: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs and versions side by side."""

    items: tuple[Compared, ...]
    rows: tuple[Row, ...]


def compare(registry: _Registry, references: Sequence[str]) -> Comparison:
    """Put runs and model versions side by side. See `Registry.compare`."""
    if not references:
        raise InvalidInputError("nothing to compare was named", hint="name runs or versions, such as m/1 m/2")
    items: list[Compared] = []
    known: list[dict[tuple[str, str], Any]] = []
    for each in references:
        item, values = _run(registry, each) if is_run(each) else _version(registry, each)
        items.append(item)
        known.append(values)
    keys = dict.fromkeys(key for values in known for key in values)
    ordered = sorted(keys, key=lambda key: (_KINDS.index(key[0]), key[1] if key[0] not in ("run", "code") else ""))
    rows = []
    for kind, key in ordered:
        found = tuple(values.get((kind, key)) for values in known)
        rows.append(Row(kind, key, found, len({repr(value) for value in found}) > 1))
    return Comparison(tuple(items), tuple(rows))


_KINDS = ("run", "param", "metric", "slice", "tag", "input", "code")


def _run(registry: _Registry, reference: str) -> tuple[Compared, dict[tuple[str, str], Any]]:
    run = registry.run(reference)
    values = _of_run(registry, run)
    values |= _measured(registry.run_metrics(run.reference))
    return Compared(run.reference, run.name, run.run_id, run.status, run.commit), values


def _version(registry: _Registry, reference: str) -> tuple[Compared, dict[tuple[str, str], Any]]:
    version = registry.get(reference)
    values: dict[tuple[str, str], Any] = {}
    status = None
    if version.run_id is not None:
        with contextlib.suppress(NotFoundError):  # a run that was reverted
            run = registry.run(version.run_id)
            values, status = _of_run(registry, run), run.status
    values |= {("param", key): value for key, value in version.params.items()}
    values |= {("tag", key): value for key, value in version.tags.items()}
    values |= _measured(registry.metrics(version.reference))
    values |= {("input", each.partition("@")[0]): each for each in registry.trained_on(version.reference)}
    values |= _code(version.code)
    return Compared(version.reference, version.name, version.run_id, status, version.commit), values


def _of_run(registry: _Registry, run: RunInfo) -> dict[tuple[str, str], Any]:
    values: dict[tuple[str, str], Any] = {("run", "experiment"): run.experiment, ("run", "status"): run.status}
    if run.ended_at is not None:
        values["run", "seconds"] = round((run.ended_at - run.started_at).total_seconds(), 1)
    values |= {("param", key): value for key, value in run.params.items()}
    values |= {("tag", key): value for key, value in run.tags.items()}
    inputs: dict[tuple[str, str], Any] = {}
    for each in registry.run_inputs(run.reference):
        key = ("input", each.partition("@")[0])
        inputs[key] = f"{inputs[key]}, {each}" if key in inputs else each
    return values | inputs | _code(run.code)


def _measured(metrics: Sequence[Metric]) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for each in metrics:
        found["slice" if each.slice else "metric", f"{each.key}[{each.slice}]" if each.slice else each.key] = each.value
    return found


def _code(code: Mapping[str, Any] | None) -> dict[tuple[str, str], Any]:
    if code is None:
        return {}
    changed = f" with changes {code['patch'][:12]}" if code["patch"] else " with changes" if code["dirty"] else ""
    return {("code", "commit"): f"{code['commit'] or 'none'}{changed}"}
