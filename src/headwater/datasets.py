"""Datasets and their versions: add, number by what changed, find, compare, fetch, verify; knows nothing of models.

The number comes from the difference to the newest version on the branch. All reading and comparing is done before the
transaction; inside of it only if another version came first.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import artifacts
from headwater.artifacts import Wanted
from headwater.comparison import Candidate, as_kept, changes_of_files, difference, kept_difference, sentence
from headwater.content import Changes, Opened, Workbench
from headwater.context import Context
from headwater.errors import IntegrityError, InvalidInputError, NotFoundError
from headwater.ids import from_micros, new_id
from headwater.model import ArtifactFile, DataPath, DatasetDiff, DatasetVersion
from headwater.names import check_name, check_text, parse_dataset, quote, shown
from headwater.state import Fold

if TYPE_CHECKING:
    from headwater.transaction import Transaction

__all__ = ["Datasets"]

_BUMPS = ("patch", "minor", "major")
_COLUMNS = "d.dataset_id, d.semver, d.tx, d.row, (SELECT id FROM commits c WHERE c.tx = d.tx)"


# -- looking things up in a fold --------------------------------------------------------------------------------------
def _parts(semver: str) -> tuple[int, ...]:
    return tuple(int(part) for part in semver.split("."))


def _rows_of(fold: Fold, name: str) -> list[Any]:
    """Return the rows of `_COLUMNS` of a dataset's versions, newest first; none where there is no such dataset."""
    rows = fold.rows(f"SELECT {_COLUMNS} FROM datasets d WHERE name = ?", name)
    return sorted(rows, key=lambda row: _parts(row[1]), reverse=True)


def _row_of(fold: Fold, reference: str) -> Any:
    """Return the row of `_COLUMNS` of one version; of the newest where the reference is a name alone.

    Raises:
        NotFoundError: There is no such dataset or version; the hint says what comes near.
    """
    ref = parse_dataset(reference)
    rows = _rows_of(fold, ref.name)
    if not rows:
        raise NotFoundError(f"there is no dataset {quote(ref.name)}", hint=_nearest(fold, ref.name))
    for row in rows:
        if ref.semver is None or row[1] == ref.semver:
            return row
    raise NotFoundError(
        f"there is no version {ref}",
        hint=f"the newest is {quote(ref.name)}@{rows[0][1]}; `headwater data versions {quote(ref.name)}` lists them",
    )


def _nearest(fold: Fold, name: str) -> str:
    import difflib

    names = [each for (each,) in fold.rows("SELECT DISTINCT name FROM datasets LIMIT 2000")]
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {quote(close[0])}?" if close else "`headwater data list` lists them"


def _files_of(fold: Fold, dataset_id: str) -> list[ArtifactFile]:
    (text,) = fold.one("SELECT files FROM datasets WHERE dataset_id = ?", dataset_id)
    return [ArtifactFile(file["path"], file["size"], file["sha256"]) for file in json.loads(text)]


def _build(row: Any, owner: Any) -> DatasetVersion:
    dataset_id, semver, tx, text, commit = row
    data = json.loads(text)
    return DatasetVersion(
        name=data["name"],
        semver=semver,
        dataset_id=dataset_id,
        commit=commit or tx,
        digest=data["digest"],
        rows=data["rows"],
        bytes=data["bytes"],
        schema=json.loads(data["schema"]) if data["schema"] is not None else None,
        key=tuple(data["key"]),
        recorded_at=from_micros(data["recorded_at"]),
        actor=data["actor"],
        path=DataPath(data["path"]),
        description=data["description"],
        base_dataset_id=data["base_dataset_id"],
        added=data["added"],
        removed=data["removed"],
        changed=data["changed"],
        content=data["content"],
        format=data["format"],
        changes=json.loads(data["changes"]) if data["changes"] is not None else None,
        _owner=owner,
    )


@dataclass(frozen=True, slots=True)
class _Stored:
    """A version in the lake, and the commit at which its files are read."""

    version: DatasetVersion
    files: list[ArtifactFile]
    commit: str

    @classmethod
    def of(cls, fold: Fold, row: Any) -> _Stored:
        return cls(_build(row, None), _files_of(fold, row[0]), fold.commit)


class Datasets:
    """The service for datasets.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._checked: set[tuple[str, int, str]] = set()

    # -- reading ------------------------------------------------------------------------------------------------
    def get(self, reference: str, owner: Any = None) -> DatasetVersion:
        """Return the version that `NAME@1.1.0` means, or the newest of `NAME`."""
        with self._context.reading() as fold:
            return _build(_row_of(fold, reference), owner)

    def list(self, owner: Any = None) -> builtins.list[DatasetVersion]:
        """Return the newest version of every dataset, by name."""
        with self._context.reading() as fold:
            names = fold.rows("SELECT DISTINCT name FROM datasets ORDER BY name")
            return [_build(_rows_of(fold, name)[0], owner) for (name,) in names]

    def versions(self, name: str, owner: Any = None) -> builtins.list[DatasetVersion]:
        """Return a dataset's versions, newest first."""
        ref = parse_dataset(name)
        if ref.semver is not None:
            raise InvalidInputError(f"{ref} is one version", hint=f"name the dataset: {quote(ref.name)}")
        with self._context.reading() as fold:
            _row_of(fold, name)
            return [_build(row, owner) for row in _rows_of(fold, ref.name)]

    def files(self, reference: str) -> builtins.list[ArtifactFile]:
        """Return a version's files."""
        with self._context.reading() as fold:
            return _files_of(fold, _row_of(fold, reference)[0])

    def id_of(self, fold: Fold, reference: str) -> str:
        """Return the ID of the version that a reference means; of the newest where it is a name alone.

        Raises:
            NotFoundError: There is no such dataset or version.
        """
        return str(_row_of(fold, reference)[0])

    def all_references(self) -> builtins.list[str]:
        """Return every version, as references."""
        with self._context.reading() as fold:
            rows = fold.rows("SELECT name, semver FROM datasets")
        return [f"{quote(n)}@{s}" for n, s in sorted(rows, key=lambda row: (row[0], _parts(row[1])))]

    # -- adding -------------------------------------------------------------------------------------------------
    def add(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        key: Sequence[str] = (),
        bump: str | None = None,
        derived_from: Iterable[str] = (),
        description: str | None = None,
        run: str | None = None,
        owner: Any = None,
    ) -> DatasetVersion:
        """Add a version of a dataset, or return the newest, with `created` False, where nothing is new.

        The first version is 1.0.0. A column added, removed or retyped makes a major version, rows that are only added a
        minor one, anything else that differs a patch; the same rows in whatever order, compression or files make none.

        Args:
            name: The dataset's name.
            path: A Parquet, CSV, JSON lines or Arrow file, a folder of these, a Delta table, or a folder of anything.
            key: Columns that identify a row; the newest version's unless given.
            bump: `major`, `minor` or `patch`: at least this, where there is a difference.
            derived_from: Dataset versions that it was made from.
            description: What it is.
            run: The ID of the run that made it.
            owner: The registry that the returned version belongs to.

        Raises:
            InvalidInputError: A name, key or path is malformed, the data can't be read, or the key is not unique.
            NotFoundError: There is nothing at the path, or no such dataset to derive from.
        """
        if parse_dataset(name).semver is not None:
            raise InvalidInputError(f"{shown(name)} names a version", hint="give the name; numbers are computed here")
        check_name(name, "dataset")
        self._context.check_writable()
        if bump is not None and bump not in _BUMPS:
            raise InvalidInputError(f"not a part of a version: {shown(bump)}", hint="use major, minor or patch")
        if description is not None:
            check_text(description, "description")
        sources = [derived_from] if isinstance(derived_from, str) else list(derived_from)
        found, single = artifacts.scan(path)
        with self._context.reading() as fold:
            for source in sources:
                _row_of(fold, source)
            base = self._newest(fold, name)
        with Workbench(self._context.lake.cache) as bench:
            new = Candidate(bench, found, single=single, key=(key,) if isinstance(key, str) else tuple(key))
            change = self._difference(bench, base, new)
            if base is not None and change is None:
                return replace(base.version, created=False, _owner=owner)
            semver, created = self._land(name, base, change, new, bench, bump, sources, description, run)
        return replace(self.get(f"{quote(name)}@{semver}", owner), created=created)

    def _newest(self, fold: Fold, name: str) -> _Stored | None:
        rows = _rows_of(fold, name)
        return _Stored.of(fold, rows[0]) if rows else None

    def _land(
        self,
        name: str,
        base: _Stored | None,
        found: DatasetDiff | None,
        new: Candidate,
        bench: Workbench,
        bump: str | None,
        sources: builtins.list[str],
        description: str | None,
        run: str | None,
    ) -> tuple[str, bool]:
        """Write the version in one transaction; return its number, and whether it is new."""
        dataset_id = new_id()
        folder = artifacts.fold_path("datasets", dataset_id)

        def work(tx: Transaction) -> tuple[str, bool]:
            newest, change = self._newest(tx.fold, name), found
            if (newest and newest.version.dataset_id) != (base and base.version.dataset_id):
                change = self._difference(bench, newest, new)
            if newest is not None and change is None:
                return newest.version.semver, False
            semver = self._number(tx, name, newest, change, bump, dataset_id)
            inherited = newest.version.key if newest else ()
            measure = new.measure(inherited)
            tx.append(
                "datasets",
                dataset_id=dataset_id,
                name=name,
                semver=semver,
                path=folder,
                digest=artifacts.digest_of(new.files, single=new.single),
                rows=measure.rows if measure else None,
                bytes=sum(file.size for file in new.files),
                files=[{"path": f.path, "size": f.size, "sha256": f.sha256} for f in new.files],
                format=new.format,
                schema=json.dumps(new.schema, ensure_ascii=False) if new.schema is not None else None,
                key=list(new.key_after(inherited)),
                content=measure.content if measure else None,
                base_dataset_id=newest.version.dataset_id if newest else None,
                added=change.added if change else None,
                removed=change.removed if change else None,
                changed=change.changed if change else None,
                changes=as_kept(change) if change else None,
                description=description,
            )
            for source in dict.fromkeys(self.id_of(tx.fold, each) for each in sources):
                tx.append("lineage", source=f"dataset:{source}", relation="derived", target=f"dataset:{dataset_id}")
            if run is not None:
                tx.append("lineage", source=f"run:{run}", relation="produced", target=f"dataset:{dataset_id}")
            tx.subject = f"{quote(name)}@{semver}"
            tx.message = f"data add {quote(name)}@{semver}" + (f": {sentence(change)}" if change else "")
            return semver, True

        return self._context.write("data", work, partial(new.upload, folder)).result

    def _number(
        self,
        tx: Transaction,
        name: str,
        newest: _Stored | None,
        change: DatasetDiff | None,
        bump: str | None,
        dataset_id: str,
    ) -> str:
        """Reserve the next number that the difference calls for; one that another branch has is passed over."""
        major, minor, patch = _parts(newest.version.semver) if newest else (0, 0, 0)
        kind = max(change.bump or "patch", bump or "patch", key=_BUMPS.index) if change else "major"
        while True:
            if kind == "major":
                major, minor, patch = major + 1, 0, 0
            elif kind == "minor":
                minor, patch = minor + 1, 0
            else:
                patch += 1
            semver = f"{major}.{minor}.{patch}"
            if tx.claim(f"semver/{name}/{semver}", dataset_id) == dataset_id:
                return semver

    # -- comparing ----------------------------------------------------------------------------------------------
    def diff(self, left: str, right: str) -> DatasetDiff:
        """Return what changed from one version to another: counts, columns, and a few rows.

        Between a version and the one that it was compared with when it was added, this is what was kept then.

        Args:
            left: The version before, such as `flights@1.0.0`.
            right: The version after.

        Raises:
            NotFoundError: There is no such dataset or version.
        """
        with self._context.reading() as fold:
            old, new = (_Stored.of(fold, _row_of(fold, each)) for each in (left, right))
        if new.version.base_dataset_id == old.version.dataset_id and new.version.changes is not None:
            return kept_difference(old.version, new.version)
        if old.version.schema == new.version.schema and old.version.content == new.version.content is not None:
            return difference(old.version, new.version.schema, new.version.key, Changes(), new.version.reference)
        with Workbench(self._context.lake.cache) as bench:
            before, after = self._open(bench, old), self._open(bench, new)
            if before is not None and after is not None:
                changes: Changes | None = bench.compare(before, after, new.version.key)
            elif before is None and after is None:
                changes = changes_of_files(old.files, new.files)
            else:
                changes = None
        return difference(old.version, new.version.schema, new.version.key, changes, new.version.reference)

    def _difference(self, bench: Workbench, base: _Stored | None, new: Candidate) -> DatasetDiff | None:
        """Return what is new, or None where nothing is or where there is no base; nothing is read that need not be."""
        if base is None:
            new.measure()
            return None
        version = base.version
        if not new.declares(version.key) and new.has_bytes_of(base.files):
            return None
        measure, key = new.measure(version.key), new.key_after(version.key)
        changes: Changes | None = None
        if measure is None and version.schema is None:
            changes = changes_of_files(base.files, new.files)
        elif measure is not None and new.schema == version.schema and measure.content == version.content:
            changes = Changes()
        elif new.table is not None and (opened := self._open(bench, base)) is not None:
            changes = bench.compare(opened, new.table, key)
        found = difference(version, new.schema, key, changes, "")
        return found if found.bump is not None else None

    def _open(self, bench: Workbench, stored: _Stored) -> Opened | None:
        version = stored.version
        if version.schema is None:
            return None
        found = self._context.lake.localize(stored.commit, [version.path + file.path for file in stored.files])
        paths = {path.removeprefix(version.path): local.absolute() for path, local in found.items()}
        return bench.open(version.reference, version.format, paths, single=len(paths) == 1, types=version.schema)

    # -- fetching -----------------------------------------------------------------------------------------------
    def pull(self, reference: str, dest: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a version's files into a folder, every digest checked. See `Registry.pull_dataset`."""
        with self._context.reading() as fold:
            stored = _Stored.of(fold, _row_of(fold, reference))
        artifacts.check_destination(self._context.lake, dest)

        def known() -> builtins.list[dict[str, str]]:
            with self._context.reading() as fold:
                texts = fold.rows("SELECT files FROM datasets WHERE name = ?", stored.version.name)
            return [{file["path"]: file["sha256"] for file in json.loads(text)} for (text,) in texts]

        return artifacts.write(self._wanted(stored), dest, force=force, known=known)

    def verify(self, reference: str) -> None:
        """Check every byte of one version.

        Raises:
            IntegrityError: Something is missing, altered or too many.
        """
        with self._context.reading() as fold:
            stored = _Stored.of(fold, _row_of(fold, reference))
        wanted = self._wanted(stored)
        for file in stored.files:
            artifacts.copy(wanted, file, None)
        digests = {artifacts.digest_of(stored.files, single=single) for single in (len(stored.files) == 1, False)}
        if stored.version.digest not in digests:
            raise IntegrityError(f"{stored.version.reference}: its digest is not that of its files")

    def _wanted(self, stored: _Stored) -> Wanted:
        version, lake = stored.version, self._context.lake
        artifacts.check_in_lake(lake, stored.commit, version.path, version.reference, stored.files)
        return Wanted(version.reference, stored.files, lambda path: lake.open(stored.commit, version.path + path))

    def local_files(self, reference: str) -> tuple[DatasetVersion, dict[str, Path]]:
        """Return a version, and local files of it by the name that each has in its folder; never to be written to.

        Raises:
            IntegrityError: One is missing, or is not what was added.
        """
        with self._context.reading() as fold:
            stored = _Stored.of(fold, _row_of(fold, reference))
        version, lake = stored.version, self._context.lake
        artifacts.check_in_lake(lake, stored.commit, version.path, version.reference, stored.files)
        found = lake.localize(stored.commit, [version.path + file.path for file in stored.files])
        local = {file.path: found[version.path + file.path].absolute() for file in stored.files}
        for file in stored.files:
            seen = (str(local[file.path]), local[file.path].stat().st_mtime_ns, file.sha256)
            if seen not in self._checked:
                artifacts.copy(Wanted(version.reference, [file], lambda name: local[name].open("rb")), file, None)
                self._checked.add(seen)
        return version, local
