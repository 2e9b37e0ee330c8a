"""What it takes to make a model version again, as the lineage has it: code, command, data, packages; runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from headwater import tables
from headwater.context import Context
from headwater.errors import IntegrityError, NotFoundError
from headwater.lookup import build_version, name_of, version_row
from headwater.model import ModelVersion
from headwater.names import parse_model, quote
from headwater.source import NO_COMMAND, NO_RUN
from headwater.state import Fold
from headwater.tombstones import hidden_transactions, visible

__all__ = ["Input", "Measured", "Recipe", "kept", "measured", "read"]

Measured = Mapping[tuple[str, str], float]
"""Values of metrics by key and slice; the slice is empty for all rows together."""


@dataclass(frozen=True, slots=True)
class Input:
    """A dataset version or a model version that went in: its reference and ID, and its row with its files."""

    reference: str
    id: str
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was recorded of how a version was made.

    Attributes:
        version: The version.
        position: Which of the versions of its model its run made it was, from 0.
        command: The command line, program first.
        folder: The folder it ran in, from the root of the repository, or absolute.
        code: The repository, commit and patch, as in the tables.
        environment: Python, platform, and the digest of the list of packages, as in the tables.
        seeds: Variables that seed random numbers.
        params: Parameters that the run was given.
        datasets: Dataset versions that it was trained on or that the run used.
        base: The model version that it was made from.
        metrics: Its metrics, and those of its run.
        missing: What it can't be reproduced without, in sentences.
    """

    version: ModelVersion
    position: int
    command: tuple[str, ...]
    folder: str
    code: Mapping[str, Any]
    environment: Mapping[str, Any] | None
    seeds: Mapping[str, str]
    params: Mapping[str, str]
    datasets: tuple[Input, ...]
    base: Input | None
    metrics: Measured
    missing: tuple[str, ...]


def read(context: Context, reference: str, owner: Any = None) -> Recipe:
    """Return the recipe of a version.

    Args:
        context: What to work with.
        reference: `NAME/7` or `NAME@alias`.
        owner: The registry that the version belongs to.

    Raises:
        NotFoundError: There is no such version, or no command or code was recorded of it; the message says what.
    """
    with context.reading() as fold:
        row = version_row(fold, parse_model(reference))
        version = build_version(row, name_of(fold, row[1]), owner)
        what = version.reference
        run = _run(fold, version.run_id)
        if run is None:
            raise NotFoundError(f"{what} can't be reproduced: {NO_RUN}", hint=_EARLIER)
        if not run["command"]:
            raise NotFoundError(f"{what} can't be reproduced: {NO_COMMAND}", hint=_EARLIER)
        code = run["code"] or version.code
        if code is None or code["commit"] is None:
            said = [each for each in (*(run["missing"] or ()), *version.missing) if each != NO_RUN]
            reason = said[0] if said else "no commit was recorded"
            raise NotFoundError(f"{what} can't be reproduced: {reason}", hint=_EARLIER)
        urns = (f"model:{version.version_id}", f"run:{version.run_id}")
        made = fold.rows("SELECT version_id, row FROM versions WHERE model_id = ? ORDER BY version", version.model_id)
        siblings = [each for each, text in made if json.loads(text)["run_id"] == version.run_id]
        return Recipe(
            version=version,
            position=siblings.index(version.version_id),
            command=tuple(run["command"]),
            folder=run["folder"] or code.get("folder") or ".",
            code=code,
            environment=run["environment"] or version.environment,
            seeds=run["seeds"] or {},
            params=run["params"] or {},
            datasets=tuple(_datasets(fold, urns)),
            base=_base(fold, version.base_version_id),
            metrics=measured(context, fold, [version.version_id], [str(version.run_id)]),
            missing=tuple(dict.fromkeys((*version.missing, *(run["missing"] or ())))),
        )


_EARLIER = "`headwater show` says what was recorded; a version that a run registers has all of it"


def _run(fold: Fold, run_id: str | None) -> dict[str, Any] | None:
    found = fold.one("SELECT row FROM runs WHERE run_id = ?", run_id) if run_id is not None else None
    return json.loads(found[0]) if found is not None else None


def _datasets(fold: Fold, urns: Iterable[str]) -> list[Input]:
    found: dict[str, Input] = {}
    for urn in urns:
        # What a version was measured on after it was made went into nothing.
        relations = "('trained')" if urn.startswith("model:") else "('trained', 'used', 'evaluated')"
        for (source,) in fold.rows(
            f"SELECT DISTINCT source FROM lineage l WHERE target = ? AND relation IN {relations}"
            f" AND {visible('l.tx')} ORDER BY source",
            urn,
        ):
            kind, _, dataset_id = source.partition(":")
            if kind != "dataset" or dataset_id in found:
                continue
            row = fold.one("SELECT row, files FROM datasets WHERE dataset_id = ?", dataset_id)
            if row is None:
                raise IntegrityError(f"the lineage names a dataset {dataset_id} that is not there")
            values = {**json.loads(row[0]), "files": json.loads(row[1])}
            found[dataset_id] = Input(f"{quote(values['name'])}@{values['semver']}", dataset_id, values)
    return sorted(found.values(), key=lambda each: each.reference)


def _base(fold: Fold, version_id: str | None) -> Input | None:
    if version_id is None:
        return None
    row = fold.one("SELECT row, files, model_id, version FROM versions WHERE version_id = ?", version_id)
    if row is None:
        raise IntegrityError(f"the lineage names a version {version_id} that is not there")
    name = name_of(fold, row[2])
    return Input(f"{quote(name)}/{row[3]}", version_id, {**json.loads(row[0]), "files": json.loads(row[1])})


def measured(context: Context, fold: Fold, versions: Iterable[str], runs: Iterable[str]) -> Measured:
    """Return the last values of the metrics of versions, and of those of runs that the versions lack."""
    found: dict[tuple[str, str], float] = {}
    hidden = hidden_transactions(fold)
    for column, ids in (("run_id", list(runs)), ("version_id", list(versions))):
        files = fold.table("metrics").files.values()
        chosen = [file.path for file in files if any(file.may_hold(column, each, each) for each in ids)]
        newest: dict[tuple[str, str], tuple[tuple[int, str, int], float]] = {}
        for path in chosen:
            for row in tables.rows(_only(tables.read(context.lake, fold.commit, "metrics", [path]), column, ids)):
                if row["tx"] in hidden or row["source"] == "computed":  # by `evaluate`, not by what made it
                    continue
                age = (row["step"] if row["step"] is not None else -1, row["tx"], row["ordinal"])
                place = (row["key"], row["slice"])
                if place not in newest or newest[place][0] <= age:
                    newest[place] = (age, row["value"])
        found.update({place: value for place, (_, value) in newest.items()})
    return found


def _only(table: Any, column: str, ids: list[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.filter(pc.is_in(table.column(column), value_set=pa.array(ids, pa.string())))


def kept(context: Context, path: str, digest: str, what: str) -> bytes:
    """Return a shared object of the lake, such as a patch, checked against the digest that it is named by.

    Raises:
        IntegrityError: It is not there, or is not what was written.
    """
    with context.reading() as fold:
        commit = fold.commit
    try:
        body = context.lake.read(commit, path)
    except NotFoundError:
        raise IntegrityError(f"{what} is missing from the lake", hint="restore the lake from a copy") from None
    if sha256(body).hexdigest() != digest:
        raise IntegrityError(f"{what} is not what was recorded", hint="restore the lake from a copy")
    return body
