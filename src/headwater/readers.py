"""Reading a dataset version: as Arrow, polars or DuckDB, or as files; every digest checked; knows no runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import artifacts
from headwater.artifacts import Wanted
from headwater.calm import connect
from headwater.context import Context
from headwater.datasets import Datasets
from headwater.errors import InvalidInputError
from headwater.formats import FILES, LABELS, open_table, reason_of
from headwater.model import ArtifactFile, DatasetVersion

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

__all__ = ["Readers"]

_held: list[tuple[DuckDBPyConnection, tempfile.TemporaryDirectory[str]]] = []
"""Connections that were given away, and the folders of links that they read; let go when the process ends."""


class Readers:
    """The service that reads datasets.

    Args:
        context: What to work with.
        datasets: The service that finds their files.
    """

    def __init__(self, context: Context, datasets: Datasets) -> None:
        self._context = context
        self._datasets = datasets
        self._whole: set[str] = set()

    def path(self, version: DatasetVersion, files: Mapping[str, Path]) -> Path:
        """Return a read-only folder in the cache with a version's files, or its one file. See `DatasetVersion.path`."""
        listed = self._datasets.files(version.reference)
        place = self._context.lake.cache / "datasets" / version.dataset_id
        # It is of the cache, so it may be gone.
        if version.dataset_id not in self._whole or not place.exists():
            if not _is_whole(place, listed):
                artifacts.remove(place)
                wanted = Wanted(version.reference, listed, lambda name: files[name].open("rb"))
                artifacts.write(wanted, place, force=False, known=list)
                for each in listed:
                    (place / each.path).chmod(0o444)
            self._whole.add(version.dataset_id)
        single = len(listed) == 1 and listed[0].sha256 == version.digest
        return place / listed[0].path if single else place

    def read(self, version: DatasetVersion, files: Mapping[str, Path], kind: str) -> Any:
        """Return a version's rows as `arrow`, `polars` or `duckdb`. See `DatasetVersion.arrow`.

        Raises:
            InvalidInputError: It is a folder of anything, or can't be read.
        """
        import duckdb
        import pyarrow as pa

        try:
            if kind == "duckdb":
                return self._relation(version, files)
            table = self._with_rows(version, files, lambda relation: relation.to_arrow_table())
        except (duckdb.Error, pa.ArrowException) as error:
            what = f"{version.reference} can't be read as {LABELS[version.format]}: {reason_of(error)}"
            raise InvalidInputError(what, hint="pull it, and look at its files") from error
        if kind == "arrow":
            return table
        import polars

        return polars.from_arrow(table)

    def _with_rows(
        self, version: DatasetVersion, files: Mapping[str, Path], use: Callable[[DuckDBPyRelation], Any]
    ) -> Any:
        """Call a function with the rows as a relation, which is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="headwater-") as scratch:
            connection = _connect()
            try:
                return use(_attached(connection, version, files, Path(scratch)))
            finally:
                connection.close()

    def _relation(self, version: DatasetVersion, files: Mapping[str, Path]) -> DuckDBPyRelation:
        connection = _connect()
        if version.format in ("arrow", "delta"):
            # What reads these can be read once only, and a relation is asked again and again.
            table = self._with_rows(version, files, lambda relation: relation.to_arrow_table())
            connection.register("dataset", table)
            return _keep(connection, None)
        scratch = tempfile.TemporaryDirectory(prefix="headwater-")
        _attached(connection, version, files, Path(scratch.name))
        return _keep(connection, scratch)


def _keep(connection: DuckDBPyConnection, scratch: tempfile.TemporaryDirectory[str] | None) -> DuckDBPyRelation:
    _held.append((connection, scratch or tempfile.TemporaryDirectory(prefix="headwater-")))
    return connection.sql("FROM dataset")


def _connect() -> DuckDBPyConnection:
    """Return a connection that people go on with, as they would with one of their own."""
    return connect(python_enable_replacements=True)


def _attached(
    connection: DuckDBPyConnection, version: DatasetVersion, files: Mapping[str, Path], scratch: Path
) -> DuckDBPyRelation:
    if version.format == FILES or version.schema is None:
        raise InvalidInputError(f"{version.reference} is a folder of files, not a table", hint="use its path()")
    table = open_table(connection, version.format, files, scratch, single=len(files) == 1, types=version.schema)
    if table is None:
        raise InvalidInputError(f"{version.reference} is no one table", hint="use its path()")
    table.attach(connection, "dataset")
    return connection.sql("FROM dataset")


def _is_whole(place: Path, files: list[ArtifactFile]) -> bool:
    """Return whether a folder holds these files with these digests, and no others."""
    try:
        there = {each.relative_to(place).as_posix() for each in place.rglob("*") if not each.is_dir()}
        if there != {file.path for file in files}:
            return False
        for file in files:
            with open(place / file.path, "rb") as stream:
                if file_digest(stream, "sha256").hexdigest() != file.sha256:
                    return False
    except OSError:
        return False
    return True
