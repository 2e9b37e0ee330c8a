"""Datasets, as people ask a registry for them; no rules."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from headwater.model import DatasetDiff, DatasetVersion
from headwater.registry_services import Services

if TYPE_CHECKING:
    pass

__all__ = ["Data"]


class Data(Services):
    """The part of a registry that is about datasets."""

    def add_dataset(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        key: Sequence[str] = (),
        bump: str | None = None,
        derived_from: Iterable[str] = (),
        description: str | None = None,
        run: str | None = None,
    ) -> DatasetVersion:
        """Add a version of a dataset; its semantic version is computed from the difference to the newest one.

        Args:
            name: The dataset's name.
            path: A Parquet, CSV, JSON lines or Arrow file, a Delta table, or a folder of anything; or, with no copy,
                what is in the lake already: `lakefs://REPOSITORY/REF/PATH` or `lake://REF/PATH`, as it is at REF now.
            key: Columns that identify a row.
            bump: `major`, `minor` or `patch`: at least this.
            derived_from: Dataset versions that it was made from.
            description: What it is.
            run: The ID of the run that made it; `Run.add_dataset` gives it.

        Returns:
            The version; its `created` is False where nothing was new.
        """
        made_in = run if run is not None else self._active_run()
        return self._datasets.add(
            name, path, key=key, bump=bump, derived_from=derived_from, description=description, run=made_in, owner=self
        )

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
    ) -> DatasetVersion:
        """Add what a `.dvc` file tracks as a version of a dataset, every MD5 checked; see `add_dataset`.

        The bytes are the workspace's, else those of DVC's cache, else those of a remote that is a folder. The DVC hash,
        the paths and the Git commit are kept as the version's `origin`.

        Args:
            path: The `.dvc` file, of DVC 3 or 2.
            name: The dataset's name; by default the file's without its extension, or the folder's.
            out: The path of the one that is meant, where the `.dvc` file lists several.
            key: Columns that identify a row; the newest version's unless given.
            bump: `major`, `minor` or `patch`: at least this, where there is a difference.
            derived_from: Dataset versions that it was made from.
            description: What it is; by default what the `.dvc` file says.

        Raises:
            NotFoundError: There is no such file, or its bytes are nowhere on this machine.
            InvalidInputError: It is no metafile of DVC's, or names a path outside of its repository.
            IntegrityError: Bytes have another MD5 than the `.dvc` file says.
        """
        return self._datasets.import_dvc(
            path,
            name,
            out=out,
            key=key,
            bump=bump,
            derived_from=derived_from,
            description=description,
            owner=self,
        )

    def datasets(self) -> list[DatasetVersion]:
        """Return the newest version of every dataset, by name."""
        return self._datasets.list(self)

    def dataset(self, reference: str) -> DatasetVersion:
        """Return the version that `NAME@1.1.0` means, or the newest of `NAME`."""
        return self._datasets.get(reference, self)

    def dataset_versions(self, name: str) -> list[DatasetVersion]:
        """Return a dataset's versions, newest first."""
        return self._datasets.versions(name, self)

    def diff_datasets(self, left: str, right: str) -> DatasetDiff:
        """Return what changed from one dataset version to another: counts, columns, and a few rows.

        Raises:
            NotFoundError: There is no such dataset or version.
        """
        return self._datasets.diff(left, right)
