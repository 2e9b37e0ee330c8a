"""Dataset versions in the lake: found in a folded state, opened as tables, read as files; writes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from headwater import artifacts
from headwater.artifacts import Wanted
from headwater.content import Opened, Workbench
from headwater.errors import IntegrityError, NotFoundError
from headwater.ids import from_micros
from headwater.lake import refs
from headwater.lake.base import Lake
from headwater.model import ArtifactFile, DataPath, DatasetVersion
from headwater.names import parse_dataset, quote
from headwater.state import Fold
from headwater.tombstones import gone, tombstone_of, visible

__all__ = ["Stored", "build", "files_of", "inputs_of", "newest", "parts", "row_by_id", "row_of", "rows_of"]

_COLUMNS = "d.dataset_id, d.semver, d.tx, d.row, (SELECT id FROM commits c WHERE c.tx = d.tx)"


def parts(semver: str) -> tuple[int, ...]:
    """Return the three numbers of a semantic version."""
    return tuple(int(part) for part in semver.split("."))


def rows_of(fold: Fold, name: str, *, hidden: bool = False) -> list[Any]:
    """Return the rows, which `build` takes, of a dataset's versions, newest first; none where there is none.

    Args:
        fold: The state.
        name: The dataset's name.
        hidden: Whether versions that a tombstone hides are among them.
    """
    only = "" if hidden else f" AND {visible('d.dataset_id')}"
    rows = fold.rows(f"SELECT {_COLUMNS} FROM datasets d WHERE name = ?{only}", name)
    return sorted(rows, key=lambda row: parts(row[1]), reverse=True)


def row_of(fold: Fold, reference: str, *, hidden: bool = False) -> Any:
    """Return the row, which `build` takes, of one version; of the newest where the reference is a name alone.

    Args:
        fold: The state.
        reference: `NAME@1.1.0` or `NAME`.
        hidden: Whether it may be one that a tombstone hides, where there is no other.

    Raises:
        NotFoundError: There is no such dataset or version; the hint says what comes near, or the message who hid it.
    """
    ref = parse_dataset(reference)
    rows = rows_of(fold, ref.name)
    for row in rows:
        if ref.semver is None or row[1] == ref.semver:
            return row
    for row in rows_of(fold, ref.name, hidden=True):
        if ref.semver is None or row[1] == ref.semver:
            hiding = tombstone_of(fold, row[0])
            if hidden or hiding is None:
                return row
            raise gone(f"{quote(ref.name)}@{row[1]}", hiding)
    if not rows:
        raise NotFoundError(f"there is no dataset {quote(ref.name)}", hint=_nearest(fold, ref.name))
    raise NotFoundError(
        f"there is no version {ref}",
        hint=f"the newest is {quote(ref.name)}@{rows[0][1]}; `headwater data versions {quote(ref.name)}` lists them",
    )


def row_by_id(fold: Fold, dataset_id: str) -> Any:
    """Return the row, which `build` takes, of the version of an ID that is there."""
    return fold.one(f"SELECT {_COLUMNS} FROM datasets d WHERE dataset_id = ?", dataset_id)


def _nearest(fold: Fold, name: str) -> str:
    import difflib

    names = [
        each
        for (each,) in fold.rows(f"SELECT DISTINCT name FROM datasets d WHERE {visible('d.dataset_id')} LIMIT 2000")
    ]
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {quote(close[0])}?" if close else "`headwater data list` lists them"


def files_of(fold: Fold, dataset_id: str) -> list[ArtifactFile]:
    """Return the files of a version."""
    (text,) = fold.one("SELECT files FROM datasets WHERE dataset_id = ?", dataset_id)
    return [ArtifactFile(file["path"], file["size"], file["sha256"]) for file in json.loads(text)]


def build(fold: Fold, row: Any, owner: Any) -> DatasetVersion:
    """Return what people hold of a row of `rows_of` or `row_of`."""
    dataset_id, semver, tx, text, commit = row
    data = json.loads(text)
    told = fold.standing(dataset_id, "description")
    return DatasetVersion(
        name=data["name"],
        semver=semver,
        dataset_id=dataset_id,
        commit=commit or tx,
        digest=data["digest"],
        rows=data["rows"],
        bytes=data["bytes"],
        schema=_json(data, "schema"),
        key=tuple(data["key"]),
        recorded_at=from_micros(data["recorded_at"]),
        actor=data["actor"],
        path=DataPath(data["path"]),
        description=told[-1][1] if told else data["description"],
        base_dataset_id=data["base_dataset_id"],
        added=data["added"],
        removed=data["removed"],
        changed=data["changed"],
        content=data["content"],
        format=data["format"],
        changes=_json(data, "changes"),
        profile=_json(data, "profile"),
        origin=_json(data, "origin"),
        data_commit=data.get("data_commit"),
        derived_from=tuple(_sources_of(fold, dataset_id)),
        _owner=owner,
    )


def _json(data: dict[str, Any], column: str) -> Any:
    # a row that was written before there was such a column has none
    text = data.get(column)
    return json.loads(text) if text is not None else None


def _sources_of(fold: Fold, dataset_id: str) -> list[str]:
    found = fold.rows(
        "SELECT DISTINCT d.name, d.semver FROM lineage l JOIN datasets d ON d.dataset_id = substr(l.source, 9)"
        " WHERE l.source LIKE 'dataset:%' AND l.target = 'dataset:' || ? AND l.relation = 'derived'"
        f" AND {visible('l.tx')}",
        dataset_id,
    )
    return [f"{quote(name)}@{semver}" for name, semver in sorted(found, key=lambda row: (row[0], parts(row[1])))]


@dataclass(frozen=True, slots=True)
class Stored:
    """A version in the lake, and the commit at which its files are read: by the ID that `at` finds in a lake."""

    version: DatasetVersion
    files: list[ArtifactFile]
    commit: str

    @classmethod
    def of(cls, fold: Fold, row: Any) -> Stored:
        """Return the version of a row of `rows_of` or `row_of`."""
        version = build(fold, row, None)
        return cls(version, files_of(fold, row[0]), version.data_commit or fold.commit)

    def at(self, lake: Lake) -> str:
        """Return the commit at which its files are read, as a lake calls it."""
        return self.commit if self.version.data_commit is None else refs.locate(lake, self.commit)

    def opened(self, lake: Lake, bench: Workbench) -> Opened | None:
        """Return the version's table on a workbench; None for a folder of anything."""
        version = self.version
        if version.schema is None:
            return None
        found = lake.localize(self.at(lake), [version.path + file.path for file in self.files])
        paths = {path.removeprefix(version.path): local.absolute() for path, local in found.items()}
        return bench.open(version.reference, version.format, paths, single=len(paths) == 1, types=version.schema)

    def wanted(self, lake: Lake) -> Wanted:
        """Return what the version's files have to be, names and sizes checked already.

        Raises:
            IntegrityError: One is missing, or too many, or of another size.
        """
        version, commit = self.version, self.at(lake)
        if version.data_commit is not None and len(self.files) == 1:
            self._check_alone(lake, commit, self.files[0])
        else:
            artifacts.check_in_lake(lake, commit, version.path, version.reference, self.files)
        return Wanted(version.reference, self.files, lambda path: lake.open(commit, version.path + path))

    def _check_alone(self, lake: Lake, commit: str, file: ArtifactFile) -> None:
        """Check a file that lies in a folder of others, which are none of the dataset's."""
        hint = f"it is read at commit {commit}, which the lake may have collected"
        try:
            size = lake.stat(commit, self.version.path + file.path).size
        except NotFoundError:
            raise IntegrityError(f"{self.version.reference}: {file.path!r} is missing", hint=hint) from None
        if size != file.size:
            raise IntegrityError(
                f"{self.version.reference}: {file.path!r} has {size} bytes, not {file.size}", hint=hint
            )


def newest(fold: Fold, name: str) -> Stored | None:
    """Return the newest version of a dataset; None where there is no such dataset."""
    rows = rows_of(fold, name)
    return Stored.of(fold, rows[0]) if rows else None


def inputs_of(fold: Fold, run_id: str) -> list[str]:
    """Return the IDs of the dataset versions that a run used."""
    rows = fold.rows(
        f"SELECT DISTINCT source FROM lineage l WHERE target = ? AND relation = 'used' AND {visible('l.tx')}",
        f"run:{run_id}",
    )
    return sorted(source.removeprefix("dataset:") for (source,) in rows)
