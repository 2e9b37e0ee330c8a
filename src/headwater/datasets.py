"""Datasets and their versions: add, find, compare, fetch, verify; knows no models, nor how numbers come about."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headwater import artifacts, dvc, pinned
from headwater.additions import Additions, Incoming, Request
from headwater.artifacts import Wanted
from headwater.comparison import changes_of_files, difference, kept_difference
from headwater.content import Changes, Workbench
from headwater.context import Context
from headwater.errors import IntegrityError, InvalidInputError
from headwater.lake import refs
from headwater.model import ArtifactFile, DatasetDiff, DatasetVersion
from headwater.names import parse_dataset, quote
from headwater.state import Fold
from headwater.stored import Stored, build, files_of, parts, row_of, rows_of
from headwater.tombstones import visible

__all__ = ["Datasets"]


class Datasets:
    """The service for datasets.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._additions = Additions(context)
        self._checked: set[tuple[str, int, str]] = set()

    # -- reading ------------------------------------------------------------------------------------------------
    def get(self, reference: str, owner: Any = None) -> DatasetVersion:
        """Return the version that `NAME@1.1.0` means, or the newest of `NAME`."""
        with self._context.reading() as fold:
            return build(fold, row_of(fold, reference), owner)

    def list(self, owner: Any = None) -> builtins.list[DatasetVersion]:
        """Return the newest version of every dataset, by name."""
        with self._context.reading() as fold:
            names = fold.rows(f"SELECT DISTINCT name FROM datasets d WHERE {visible('d.dataset_id')} ORDER BY name")
            return [build(fold, rows_of(fold, name)[0], owner) for (name,) in names]

    def versions(self, name: str, owner: Any = None) -> builtins.list[DatasetVersion]:
        """Return a dataset's versions, newest first."""
        ref = parse_dataset(name)
        if ref.semver is not None:
            raise InvalidInputError(f"{ref} is one version", hint=f"name the dataset: {quote(ref.name)}")
        with self._context.reading() as fold:
            row_of(fold, name)
            return [build(fold, row, owner) for row in rows_of(fold, ref.name)]

    def files(self, reference: str) -> builtins.list[ArtifactFile]:
        """Return a version's files."""
        with self._context.reading() as fold:
            return files_of(fold, row_of(fold, reference)[0])

    def id_of(self, fold: Fold, reference: str) -> str:
        """Return the ID of the version that a reference means; of the newest where it is a name alone.

        Raises:
            NotFoundError: There is no such dataset or version.
        """
        return str(row_of(fold, reference)[0])

    def was_there(self, name: str) -> bool:
        """Return whether there are versions of a dataset, be they hidden or not."""
        with self._context.reading() as fold:
            return bool(rows_of(fold, name, hidden=True))

    def all_references(self) -> builtins.list[str]:
        """Return every version that is not hidden, as references."""
        with self._context.reading() as fold:
            rows = fold.rows(f"SELECT name, semver FROM datasets d WHERE {visible('d.dataset_id')}")
        return [f"{quote(n)}@{s}" for n, s in sorted(rows, key=lambda row: (row[0], parts(row[1])))]

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
        Where the data is there already, a description or a derivation that is new is kept all the same.

        Args:
            name: The dataset's name.
            path: A Parquet, CSV, JSON lines or Arrow file, a folder of these, a Delta table, or a folder of anything;
                or `lakefs://REPOSITORY/REF/PATH`, `lake://REF/PATH`: what lies in this lake already, which is not
                copied but read at the commit that REF is now.
            key: Columns that identify a row; the newest version's unless given.
            bump: `major`, `minor` or `patch`: at least this, where there is a difference.
            derived_from: Dataset versions that it was made from.
            description: What it is.
            run: The ID of the run that made it, from what that used.
            owner: The registry that the returned version belongs to.

        Raises:
            InvalidInputError: A name, key or path is malformed, the data can't be read, the key is not unique, or the
                version would derive from itself.
            NotFoundError: There is nothing at the path, or no such dataset to derive from.
        """
        request = Request.checked(name, key=key, bump=bump, sources=derived_from, description=description, run=run)
        self._additions.check(request)
        if pinned.is_in_lake(path):
            found = pinned.find(self._context.lake, str(path))
            origin = {"kind": "lake", "ref": found.ref, "path": found.path}
            # What a row says of a commit is what it is called in every copy of this lake.
            commit = refs.origin_of(self._context.lake.get_commit(found.commit))
            data = Incoming(found.files, found.single, found.digests, found.folder, commit, origin)
        else:
            artifacts.check_outside(self._context.lake, path)
            data = Incoming(*artifacts.scan(path))
        return self._add(request, data, owner)

    def import_dvc(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        *,
        out: str | None = None,
        key: Sequence[str] = (),
        bump: str | None = None,
        derived_from: Iterable[str] = (),
        description: str | None = None,
        owner: Any = None,
    ) -> DatasetVersion:
        """Add what a `.dvc` file tracks as a version of a dataset. See `Registry.import_dvc`."""
        arguments: dict[str, Any] = {"key": key, "bump": bump, "sources": derived_from}
        # before bytes are read, what can be told without them
        self._additions.check(Request.checked("x" if name is None else name, description=description, **arguments))
        found = dvc.read(path, out=out, name=name)
        said = description if description is not None else found.description
        request = Request.checked(found.name, description=said, **arguments)
        return self._add(request, Incoming(found.files, found.single, origin=found.origin), owner)

    def _add(self, request: Request, data: Incoming, owner: Any) -> DatasetVersion:
        semver, created = self._additions.add(request, data)
        return replace(self.get(f"{quote(request.name)}@{semver}", owner), created=created)

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
            old, new = (Stored.of(fold, row_of(fold, each)) for each in (left, right))
        if new.version.base_dataset_id == old.version.dataset_id and new.version.changes is not None:
            return kept_difference(old.version, new.version)
        if old.version.schema == new.version.schema and old.version.content == new.version.content is not None:
            return difference(old.version, new.version.schema, new.version.key, Changes(), new.version.reference)
        with Workbench(self._context.lake.cache) as bench:
            before, after = (each.opened(self._context.lake, bench) for each in (old, new))
            if before is not None and after is not None:
                changes: Changes | None = bench.compare(before, after, new.version.key)
            elif before is None and after is None:
                changes = changes_of_files(old.files, new.files)
            else:
                changes = None
        return difference(old.version, new.version.schema, new.version.key, changes, new.version.reference)

    # -- fetching -----------------------------------------------------------------------------------------------
    def pull(self, reference: str, dest: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a version's files into a folder, every digest checked. See `Registry.pull_dataset`."""
        with self._context.reading() as fold:
            stored = Stored.of(fold, row_of(fold, reference))
        artifacts.check_destination(self._context.lake, dest)

        def known() -> builtins.list[dict[str, str]]:
            with self._context.reading() as fold:
                texts = fold.rows("SELECT files FROM datasets WHERE name = ?", stored.version.name)
            return [{file["path"]: file["sha256"] for file in json.loads(text)} for (text,) in texts]

        return artifacts.write(stored.wanted(self._context.lake), dest, force=force, known=known)

    def verify(self, reference: str) -> None:
        """Check every byte of one version.

        Raises:
            IntegrityError: Something is missing, altered or too many.
        """
        with self._context.reading() as fold:
            stored = Stored.of(fold, row_of(fold, reference))
        wanted = stored.wanted(self._context.lake)
        for file in stored.files:
            artifacts.copy(wanted, file, None)
        digests = {artifacts.digest_of(stored.files, single=single) for single in (len(stored.files) == 1, False)}
        if stored.version.digest not in digests:
            raise IntegrityError(f"{stored.version.reference}: its digest is not that of its files")

    def local_files(self, reference: str) -> tuple[DatasetVersion, dict[str, Path]]:
        """Return a version, and local files of it by the name that each has in its folder; never to be written to.

        Raises:
            IntegrityError: One is missing, or is not what was added.
        """
        lake = self._context.lake
        with self._context.reading() as fold:
            stored = Stored.of(fold, row_of(fold, reference))
        version = stored.version
        stored.wanted(lake)  # names and sizes first
        found = lake.localize(stored.at(lake), [version.path + file.path for file in stored.files])
        local = {file.path: found[version.path + file.path].absolute() for file in stored.files}
        for file in stored.files:
            seen = (str(local[file.path]), local[file.path].stat().st_mtime_ns, file.sha256)
            if seen not in self._checked:
                artifacts.copy(Wanted(version.reference, [file], lambda name: local[name].open("rb")), file, None)
                self._checked.add(seen)
        return version, local
