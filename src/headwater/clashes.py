"""Numbers and names that mean one thing in one lake and another in another: found, and told in words; writes nothing.

A number that was cut and never used (its process died) stands in nobody's way once it is a day old.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from headwater.errors import ConflictError
from headwater.ids import from_micros, is_id, micros_of, now_micros
from headwater.lake import refs
from headwater.lake.base import Lake, Reservation
from headwater.lookup import name_of
from headwater.names import quote
from headwater.state import Fold, Folds

__all__ = ["check"]

_MODEL, _DATASET, _VERSION = "name/model/", "semver/", "version/"
_ABANDONED = 24 * 3600 * 1_000_000


def check(here: tuple[Lake, Folds], there: tuple[Lake, Folds]) -> tuple[dict[Reservation, str], dict[Reservation, str]]:
    """Return what each of two lakes has reserved that the other lacks.

    Args:
        here: A lake and its folds.
        there: Another.

    Raises:
        ConflictError: Some numbers or names mean two things; all are named.
    """
    ours, theirs = here[0].reservations(), there[0].reservations()
    differing = sorted(key for key, value in ours.items() if theirs.get(key, value) != value)
    if differing:
        _tell(here, there, differing, ours, theirs)
    return (
        {key: value for key, value in ours.items() if key not in theirs},
        {key: value for key, value in theirs.items() if key not in ours},
    )


def _tell(
    here: tuple[Lake, Folds],
    there: tuple[Lake, Folds],
    differing: list[Reservation],
    ours: Mapping[Reservation, str],
    theirs: Mapping[Reservation, str],
) -> None:
    """Raise an error that names what clashes, if anything of it is in use, or may be soon, on both sides."""
    lines = []
    with ExitStack() as stack:
        mine, yours = (_folds(stack, *side) for side in (here, there))
        for key in differing:
            one, other = _use(mine, key, ours[key]), _use(yours, key, theirs[key])
            if one is not None and other is not None:
                lines.append(f"{_called([*mine, *yours], key)}: here {one}, there {other}")
    if lines:
        some = "a number or name means" if len(lines) == 1 else f"{len(lines)} numbers or names mean"
        raise ConflictError(
            f"{some} one thing here and another in {there[0].url}: {'; '.join(lines)}",
            hint="in a new folder, `headwater init` and `headwater pull-from` that lake, and register there what is"
            " named here: it gets numbers of its own",
        )


def _folds(stack: ExitStack, lake: Lake, folds: Folds) -> list[Fold]:
    """Return states that have all that a lake sends between them: its branches', and what only tags or rows lead to."""
    tips = dict.fromkeys(lake.branches().values())
    found = {tip: stack.enter_context(folds.at(tip)) for tip in tips}

    def add(commits: Iterable[str]) -> None:
        for commit in dict.fromkeys(commits):
            if not any(commit == tip or lake.merge_base(tip, commit) == commit for tip in found):
                found[commit] = stack.enter_context(folds.at(commit))

    add(lake.tags().values())
    sql = "SELECT DISTINCT json_extract(row, '$.data_commit') FROM datasets"
    named = {str(name) for fold in list(found.values()) for (name,) in fold.rows(sql) if name is not None}
    there = (refs.locate(lake, name) for name in sorted(named))
    add(commit for commit in there if lake.find_commits(commit))
    return list(found.values())


def _called(folds: list[Fold], key: Reservation) -> str:
    """Return what people call what a reservation is of."""
    name, number = key
    if name.startswith(_VERSION):
        model_id = name.removeprefix(_VERSION)
        names = [name_of(fold, model_id) for fold in folds if fold.standing(model_id, "name")]
        return f"{quote(names[0] if names else model_id)}/{number}"
    if name.startswith(_DATASET):
        dataset, _, semver = name.removeprefix(_DATASET).rpartition("/")
        return f"{quote(dataset)}@{semver}"
    return quote(name.removeprefix(_MODEL)) if name.startswith(_MODEL) else f"{name} {number or ''}".rstrip()


def _use(folds: list[Fold], key: Reservation, value: str) -> str | None:
    """Return who uses what was reserved; None where nobody does, nor is going to."""
    name, number = key
    for fold in folds:
        if name.startswith(_VERSION):
            model_id = name.removeprefix(_VERSION)
            sql = "SELECT version_id, row FROM versions WHERE model_id = ? AND version = ? AND tx = ?"
            row = fold.one(sql, model_id, number, value)
            found = (row[0], json.loads(row[1])) if row else None
        elif name.startswith(_DATASET):
            row = fold.one("SELECT dataset_id, row FROM datasets WHERE dataset_id = ?", value)
            found = (row[0], json.loads(row[1])) if row else None
        else:
            row = fold.one("SELECT model_id, recorded_at, actor FROM models WHERE model_id = ?", value)
            found = (row[0], {"recorded_at": row[1], "actor": row[2]}) if row else None
        if found is not None:
            when = from_micros(found[1]["recorded_at"])
            return f"{found[0]} registered by {found[1]['actor']} at {when:%Y-%m-%dT%H:%M:%SZ}"
    cut = micros_of(value) if is_id(value) else 0
    return f"reserved by a transaction that has not landed, {value}" if cut > now_micros() - _ABANDONED else None
