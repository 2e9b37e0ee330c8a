"""What people hold in their hands: frozen dataclasses for models, versions, datasets and log rows; no rules, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import duckdb  # noqa: TID251 - a name for mypy
    import polars as pl
    import pyarrow as pa

__all__ = [
    "Alias",
    "ArtifactFile",
    "DatasetDiff",
    "DatasetVersion",
    "LogEntry",
    "Metric",
    "Model",
    "ModelVersion",
    "RunInfo",
    "as_json",
]


class _Owner(Protocol):
    """What a ModelVersion or DatasetVersion needs of the registry that it came from."""

    def pull(self, reference: str, dest: str | Path, *, force: bool = False) -> Path: ...
    def verify(self, *references: str) -> int: ...
    def files(self, reference: str) -> list[ArtifactFile]: ...
    def metrics(self, reference: str) -> list[Metric]: ...
    def pull_dataset(self, reference: str, dest: str | Path, *, force: bool = False) -> Path: ...
    def dataset_path(self, reference: str) -> Path: ...
    def read_dataset(self, reference: str, kind: str) -> Any: ...
    def run_metrics(self, reference: str) -> list[Metric]: ...
    def run_inputs(self, reference: str) -> list[str]: ...
    def run_files(self, reference: str) -> list[ArtifactFile]: ...
    def pull_run(self, reference: str, dest: str | Path, *, force: bool = False) -> Path: ...
    def curve(self, reference: str, key: str, *, slice: Mapping[str, object] | None = None) -> Any: ...


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file of an artifact: path under its folder (with `/`), size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model."""

    name: str
    model_id: str
    commit: str
    recorded_at: datetime
    actor: str
    versions: int
    """How many versions can be seen."""
    latest_version: int | None
    aliases: Mapping[str, int]
    description: str | None
    tags: Mapping[str, str]

    def _repr_html_(self) -> str:
        return _card("model", self.name, self)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a registered model, as of the commit that it was read at."""

    name: str
    version: int
    version_id: str
    commit: str
    """The commit that it was written in: its metadata, bytes and data can be read together there."""
    model_id: str
    recorded_at: datetime
    actor: str
    digest: str
    """sha256 of the file, or of the folder's listing as `sha256sum` writes it, sorted by path."""
    size: int | None
    aliases: tuple[str, ...]
    stage: str
    description: str | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    run_id: str | None
    external_url: str | None
    flavors: tuple[str, ...]
    signature: str | None
    code: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    base_version_id: str | None
    path: str | None
    deleted: bool = False
    reproducible: bool = False
    """Whether all was recorded that `reproduce` needs."""
    missing: tuple[str, ...] = ()
    """What it can't be reproduced without, a sentence each."""
    registered: bool | None = None
    """In a signed lake: whether a signature of its registration has force. None in others."""
    _owner: _Owner | None = field(default=None, repr=False, compare=False)

    def _repr_html_(self) -> str:
        return _card("model version", self.reference, self)

    @property
    def reference(self) -> str:
        """How it is named on any branch, such as `flight-delay/7`."""
        from headwater.names import quote

        return f"{quote(self.name)}/{self.version}"

    def pull(self, dest: str | Path, *, force: bool = False) -> Path:
        """Write the artifact's files into a folder, every digest checked. See `Registry.pull`."""
        return self._registry.pull(self.reference, dest, force=force)

    def verify(self) -> None:
        """Check every byte of the artifact in the lake. See `Registry.verify`."""
        self._registry.verify(self.reference)

    @property
    def files(self) -> list[ArtifactFile]:
        """The artifact's files."""
        return self._registry.files(self.reference)

    @property
    def metrics(self) -> dict[str, float]:
        """The newest value of every metric over all rows."""
        return {metric.key: metric.value for metric in self._registry.metrics(self.reference) if not metric.slice}

    @property
    def _registry(self) -> _Owner:
        if self._owner is None:
            raise RuntimeError("this ModelVersion was not made by a registry")
        return self._owner


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias of a model and the version behind it."""

    alias: str
    version: int
    version_id: str
    recorded_at: datetime
    actor: str
    reason: str | None
    name: str
    """The model's."""
    model_id: str
    commit: str
    """Of the transaction that pointed it there."""


@dataclass(frozen=True, slots=True)
class Metric:
    """The newest value of a metric of a version: over all rows (`slice` is empty) or over one slice."""

    key: str
    value: float
    slice: str
    step: int | None
    dataset_id: str | None
    source: str


class DataPath(str):
    """Where a dataset version lies in the lake; called, it returns where its files are on this machine.

    `path` is a column of the table `datasets`, and `path()` one of the readers: this is both.
    """

    _version: DatasetVersion | None = None

    def __call__(self) -> Path:
        """Return a local folder with the data's files, or its one file: read-only, digests checked, kept in the cache.

        An active run records the dataset as an input, as it does for the other readers.
        """
        if self._version is None:
            raise RuntimeError("this path is not of a DatasetVersion")
        return self._version._registry.dataset_path(self._version.reference)


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """A version of a dataset, as of the commit that it was read at."""

    name: str
    semver: str
    dataset_id: str
    commit: str
    digest: str
    rows: int | None
    bytes: int
    schema: Mapping[str, str] | None
    """Column names and types, in order; None for a folder of anything."""
    key: tuple[str, ...]
    recorded_at: datetime
    actor: str
    path: DataPath
    """Folder in the lake; called, as `path()`, it returns a local one with the files."""
    description: str | None
    base_dataset_id: str | None
    added: int | None
    removed: int | None
    changed: int | None
    content: str | None
    format: str = "files"
    """`parquet`, `csv`, `json`, `arrow`, `delta`; `files` for a folder of anything."""
    changes: Mapping[str, Any] | None = None
    """What changed from its base: columns, and examples of rows. None for the first version."""
    profile: Mapping[str, Any] | None = None
    """By column: its type, how many nulls, about how many distinct values, least and greatest. None without columns."""
    origin: Mapping[str, Any] | None = None
    """Where it came from: `kind` is `dvc` (its file, path, MD5, Git commit) or `lake` (the ref and path named)."""
    data_commit: str | None = None
    """The commit at which `path` is read, where the data lay in the lake already; None where it was added with it."""
    derived_from: tuple[str, ...] = ()
    """Dataset versions that it was made from, as references."""
    created: bool = True
    """False where adding it found that nothing was new."""
    _owner: _Owner | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        path = DataPath(self.path)
        path._version = self
        object.__setattr__(self, "path", path)

    def _repr_html_(self) -> str:
        return _card("dataset version", self.reference, self)

    @property
    def reference(self) -> str:
        """How it is named on any branch, such as `flights@1.1.0`."""
        from headwater.names import quote

        return f"{quote(self.name)}@{self.semver}"

    def pull(self, dest: str | Path, *, force: bool = False) -> Path:
        """Write the data's files into a folder, every digest checked. An active run records the dataset as an input."""
        return self._registry.pull_dataset(self.reference, dest, force=force)

    def arrow(self) -> pa.Table:
        """Return all rows as an Arrow table.

        Raises:
            InvalidInputError: It is a folder of anything.
            IntegrityError: The lake's files are not those that were added.
        """
        return self._registry.read_dataset(self.reference, "arrow")

    def polars(self) -> pl.DataFrame:
        """Return all rows as a polars data frame. Raises as `arrow` does."""
        frame: pl.DataFrame = self._registry.read_dataset(self.reference, "polars")
        return frame

    def duckdb(self) -> duckdb.DuckDBPyRelation:
        """Return the rows as a DuckDB relation on a connection of its own, read as they are asked for.

        Raises as `arrow` does.
        """
        relation: duckdb.DuckDBPyRelation = self._registry.read_dataset(self.reference, "duckdb")
        return relation

    @property
    def _registry(self) -> _Owner:
        if self._owner is None:
            raise RuntimeError("this DatasetVersion was not made by a registry")
        return self._owner


@dataclass(frozen=True, slots=True)
class DatasetDiff:
    """What changed from one dataset version to another; examples are a few rows of each kind, not all."""

    left: str
    right: str
    bump: str | None
    """Which part of the semantic version the difference calls for; None where there is none."""
    key: tuple[str, ...]
    """Columns that identify a row; without them a changed row is one removed and one added."""
    added: int | None
    removed: int | None
    changed: int | None
    """Rows, compared in the columns that both have with one type. None between a table and a folder of anything."""
    columns_added: Mapping[str, str]
    columns_removed: Mapping[str, str]
    columns_retyped: Mapping[str, tuple[str, str]]
    added_examples: tuple[Mapping[str, Any], ...] = ()
    removed_examples: tuple[Mapping[str, Any], ...] = ()
    changed_examples: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...] = ()
    """Before and after: the key and the columns that differ."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One transaction of the log, newest first: what happened, who did it, and the commit that holds it.

    `parents` are the commits of the transactions that it stands on directly, its own line's first: of a merge, the one
    before on the branch, and the newest that was brought. A limit may have cut them off the log. The commits as a lake
    keeps them, with those between that land transactions, are in SQL's `lake.commits`.
    """

    commit: str
    parents: tuple[str, ...]
    recorded_at: datetime
    actor: str | None
    kind: str | None
    subject: str | None
    message: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run, as of the commit that it was read at."""

    run_id: str
    name: str | None
    experiment: str
    status: str
    """`running`, `finished`, `failed` or `killed`."""
    started_at: datetime
    ended_at: datetime | None
    exit_status: int | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """The newest value of every metric over all rows, read from the lake when it is first looked at."""
    tags: Mapping[str, str]
    description: str | None
    commit: str
    """The commit that its beginning was written in."""
    actor: str
    parent_run_id: str | None
    command: tuple[str, ...] | None
    folder: str | None
    code: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    host: str | None
    seeds: Mapping[str, str]
    missing: tuple[str, ...] | None = None
    """What it can't be reproduced without."""
    _owner: _Owner | None = field(default=None, repr=False, compare=False)

    def _repr_html_(self) -> str:
        return _card("run", self.reference, self)

    @property
    def reference(self) -> str:
        """How it is named, `run:ID`."""
        return f"run:{self.run_id}"

    @property
    def inputs(self) -> list[str]:
        """The dataset versions that it used, as references such as `flights@1.1.0`."""
        return self._registry.run_inputs(self.reference)

    def curve(self, key: str, *, slice: Mapping[str, object] | None = None) -> pa.Table:
        """Return every point of a metric, as Arrow columns `step` and `value`, by step. See `Registry.curve`."""
        return self._registry.curve(self.reference, key, slice=slice)

    def artifacts(self) -> list[ArtifactFile]:
        """Return the files that were logged with `Run.log_artifact`."""
        return self._registry.run_files(self.reference)

    def pull(self, dest: str | Path, *, force: bool = False) -> Path:
        """Write the run's artifacts into a folder, every digest checked."""
        return self._registry.pull_run(self.reference, dest, force=force)

    @property
    def _registry(self) -> _Owner:
        if self._owner is None:
            raise RuntimeError("this RunInfo was not made by a registry")
        return self._owner


_SHOWN = {
    "model": "description versions latest_version aliases tags recorded_at actor commit",
    "model version": "description stage aliases metrics params tags recorded_at actor commit run_id digest size "
    "flavors external_url deleted missing",
    "dataset version": "description format rows bytes schema key added removed changed derived_from recorded_at actor "
    "commit digest",
    "run": "name experiment status description params metrics tags inputs started_at ended_at exit_status "
    "actor commit command host missing",
}
"""What a notebook shows of a thing, in this order."""


def _card(kind: str, title: str, thing: object) -> str:
    from headwater.hypertext import card

    return card(kind, title, thing, _SHOWN[kind])


def as_json(value: Any) -> Any:
    """Return anything of this module as what `json.dumps` takes; times in ISO 8601, UTC, with a Z.

    NaN and infinities, which JSON lacks, become the strings `NaN`, `Infinity` and `-Infinity`.
    """
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: as_json(getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
