"""The registry: the one object that people hold; composes the services and has no rules of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from headwater import active
from headwater.context import Context
from headwater.errors import InvalidInputError
from headwater.lake import refs
from headwater.model import (
    Alias,
    ArtifactFile,
    DatasetDiff,
    DatasetVersion,
    LogEntry,
    Metric,
    Model,
    ModelVersion,
    RunInfo,
)
from headwater.names import check_branch, parse_model
from headwater.versions import Versions

if TYPE_CHECKING:
    import pyarrow as pa

    from headwater.datasets import Datasets
    from headwater.history import History
    from headwater.labels import Labels
    from headwater.query import QueryResult, Session
    from headwater.readers import Readers
    from headwater.registration import Registration, Slices
    from headwater.run import Run
    from headwater.runfiles import RunFiles
    from headwater.sidebyside import Comparison
    from headwater.tracking import Runs

__all__ = ["Registry"]


class Registry:
    """A registry of models and datasets on one branch of a lake, or as it was at one commit.

    Safe to share between threads. Use it in a `with`, or call `close`; nothing is lost either way, since every method
    that writes has landed its change before it returns.
    """

    def __init__(self, context: Context, *, owner: bool = True) -> None:
        self._context = context
        self._owner = owner
        self._versions = Versions(context)
        self._resolved: tuple[str, dict[str, ModelVersion]] = ("", {})
        self._session: Session | None = None

    # What reading a model does not need is imported when it is used: a command has to feel instant.
    @cached_property
    def _datasets(self) -> Datasets:
        from headwater.datasets import Datasets

        return Datasets(self._context)

    @cached_property
    def _registration(self) -> Registration:
        from headwater.registration import Registration

        return Registration(self._context, self._datasets)

    @cached_property
    def _labels(self) -> Labels:
        from headwater.labels import Labels

        return Labels(self._context)

    @cached_property
    def _history(self) -> History:
        from headwater.history import History

        return History(self._context)

    @cached_property
    def _runs(self) -> Runs:
        from headwater.tracking import Runs

        return Runs(self._context)

    @cached_property
    def _run_files(self) -> RunFiles:
        from headwater.runfiles import RunFiles

        return RunFiles(self._context)

    @cached_property
    def _readers(self) -> Readers:
        from headwater.readers import Readers

        return Readers(self._context, self._datasets)

    def __repr__(self) -> str:
        return f"<Registry {self._context.lake.url} at {self._context.ref}>"

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._owner:
            active.end_all(self._context.lake, error)
        self.close()

    def close(self) -> None:
        """Let go of connections and files, unless another registry lent them (`branch` and `at` do).

        Runs that go on in this lake are ended first.
        """
        if self._owner:
            active.end_all(self._context.lake, None)
        if self._session is not None and self._session.is_ours():
            self._session.close()
        self._session = None
        if self._owner:
            self._context.writer.close()
            self._context.folds.close()
            self._context.lake.close()

    # -- views --------------------------------------------------------------------------------------------------
    @property
    def url(self) -> str:
        """Where the lake is."""
        return self._context.lake.url

    @property
    def ref(self) -> str:
        """The branch or ref that is read."""
        return self._context.ref

    @property
    def actor(self) -> str:
        """Who acts."""
        return self._context.actor

    @property
    def head(self) -> str:
        """The commit ID that is read now: the branch's head, or the pinned commit."""
        return self._context.commit or self._context.lake.head(self._context.branch)

    def at(self, ref: str) -> Registry:
        """Return a read-only view of any ref: a branch, tag, commit, `main~3`, `main@{2026-11-01T00:00:00Z}`.

        Raises:
            NotFoundError: There is no such ref.
        """
        found = refs.resolve(self._context.lake, ref)
        return self._view(found.branch or self._context.branch, found.commit, ref)

    def branch(self, name: str) -> Registry:
        """Return the registry on another branch that exists.

        Raises:
            NotFoundError: There is no such branch.
        """
        refs.head(self._context.lake, name)
        return self._view(name, None, name)

    def create_branch(self, name: str, source: str | None = None) -> Registry:
        """Make a branch of everything at a ref (by default what this registry reads), and return the registry on it.

        Raises:
            AlreadyExistsError: There is a branch or tag of that name.
        """
        check_branch(name)
        commit = self.head if source is None else refs.resolve(self._context.lake, source).commit
        self._context.lake.create_branch(name, commit)
        return self.branch(name)

    def branches(self) -> dict[str, str]:
        """Return every branch with its head's commit ID."""
        return self._context.lake.branches()

    def _view(self, branch: str, commit: str | None, ref: str) -> Registry:
        it = self._context
        return Registry(Context(it.lake, it.folds, it.writer, branch, commit, ref, it.actor), owner=False)

    # -- models and versions ------------------------------------------------------------------------------------
    def register(
        self,
        name: str,
        path: str | os.PathLike[str] | None = None,
        *,
        external: tuple[str, str] | None = None,
        data: Iterable[str] = (),
        metrics: Mapping[str, float] | None = None,
        slices: Slices = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
        description: str | None = None,
        code: str | os.PathLike[str] | None = None,
        base: str | None = None,
        run: str | None = None,
    ) -> ModelVersion:
        """Register a version of a model; the model is registered with its first version.

        All of it becomes visible at once, or none of it. Registering the same bytes again makes a new version.

        Args:
            name: The model's name.
            path: A file, or a folder of files, of any size.
            external: Instead of a path: a URL (`file:`, `s3:`, `https:`, `oci:`) and the sha256 of the file there.
            data: Dataset versions that it was trained on, such as `flights@1.1.0`.
            metrics: Values over all rows, by key.
            slices: Values on slices: `(key, {column: value}, number)`.
            params: Parameters; kept as text.
            tags: Tags; kept as text, and may change later.
            description: What it is.
            code: A folder of the Git repository that made it; the current folder by default.
            base: The version that this one was made from.
            run: The ID of the run that made it: what it used, its code, and the newest of its metrics are recorded.

        Returns:
            The version, with the commit that it was written in.

        Raises:
            InvalidInputError: A name, key or file can't be kept, or a file changed while it was read.
            NotFoundError: There is no such path, dataset or base.
            LakeError: The lake can't be reached or written.
        """
        name, version_id = self._registration.register(
            name,
            path,
            external=external,
            data=[data] if isinstance(data, str) else list(data),
            metrics=metrics,
            slices=slices,
            params=params,
            tags=tags,
            description=description,
            code=code,
            base=base,
            run=run,
        )
        return self._versions.registered(name, version_id, self)

    def models(self) -> list[Model]:
        """Return the models that are not deleted, by name."""
        return self._versions.models()

    def model(self, name: str) -> Model:
        """Return one model.

        Raises:
            NotFoundError: There is no such model.
        """
        return self._versions.model(name)

    def versions(
        self, name: str, *, tags: Mapping[str, str] | None = None, limit: int | None = None
    ) -> list[ModelVersion]:
        """Return a model's versions that are not deleted, newest first.

        Args:
            name: The model.
            tags: Only those that have all these tags, with these values.
            limit: At most so many.

        Raises:
            NotFoundError: There is no such model.
        """
        return self._versions.list(name, self, tags=tags or {}, limit=limit)

    def get(self, reference: str) -> ModelVersion:
        """Return the version that `NAME/7` or `NAME@alias` means.

        Raises:
            NotFoundError: There is no such model, version or alias.
            InvalidInputError: It is malformed, or names no version.
            ConflictError: Two branches moved the alias, and nobody settled it yet.
        """
        # What a commit says never changes, so a version found at the head that still is the head is the answer.
        head = self.head
        at, found = self._resolved
        if at == head and reference in found:
            return found[reference]
        version = self._versions.get(reference, self)
        if at != head:
            found = {}
            self._resolved = (head, found)
        if self.head == head:
            found[reference] = version
        return version

    def resolve(self, reference: str) -> ModelVersion:
        """Return the version behind an alias. The same as `get`."""
        return self.get(reference)

    def files(self, reference: str) -> list[ArtifactFile]:
        """Return the files of a version."""
        return self._versions.files(reference)

    def metrics(self, reference: str) -> list[Metric]:
        """Return the newest values of a version's metrics, over all rows and on slices."""
        return self._versions.metrics(reference)

    def trained_on(self, reference: str) -> list[str]:
        """Return the dataset versions that a version was trained on, as references such as `flights@1.1.0`."""
        return self._versions.trained_on(reference)

    def pull(self, reference: str, dest: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a version's files into the folder `dest`, every digest checked, and return the folder.

        The files are written beside `dest` and renamed into place when all are right. What an earlier pull of the model
        left there is replaced; files that Headwater does not know are left alone.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            dest: The folder, made if need be.
            force: Overwrite files of others that stand in the way.

        Raises:
            IntegrityError: A file in the lake is missing, altered or too many; `dest` is as it was.
            AlreadyExistsError: A file of somebody else's stands in the way.
        """
        return self._versions.pull(reference, dest, force=force)

    def verify(self, *references: str) -> int:
        """Check every byte of model and dataset versions (by default of all) and return how many were checked.

        Raises:
            IntegrityError: A file is missing, altered or too many; the message names it.
        """
        if references:
            chosen = list(references)
        else:
            chosen = [
                *self._versions.all_references(),
                *(f"dataset:{each}" for each in self._datasets.all_references()),
            ]
        for reference in chosen:
            if self.is_dataset(reference):
                self._datasets.verify(reference)
            else:
                self._versions.verify(reference)
        return len(chosen)

    def is_dataset(self, reference: str) -> bool:
        """Tell a dataset from a model: by how it is written, or else by which of the two there is.

        Raises:
            InvalidInputError: There are both a model and a dataset of that name.
        """
        if reference.startswith("dataset:"):
            return True
        if reference.startswith(("model:", "models:")) or "/" in reference:
            return False
        if "@" in reference:
            return reference.rpartition("@")[2][:1].isdigit()
        name = parse_model(reference).name
        found = any(version.name == name for version in self._datasets.list())
        if found and any(model.name == name for model in self.models()):
            raise InvalidInputError(
                f"{reference} is both a model and a dataset", hint=f"write model:{reference} or dataset:{reference}"
            )
        return found

    # -- aliases, tags, names -----------------------------------------------------------------------------------
    def aliases(self, name: str) -> list[Alias]:
        """Return a model's aliases, by name."""
        return self._labels.aliases(name)

    def set_alias(self, name: str, alias: str, version: int, *, reason: str | None = None) -> None:
        """Point an alias at a version.

        Raises:
            NotFoundError: There is no such model or version.
            InvalidInputError: The alias is malformed or could be taken for a version.
        """
        if isinstance(version, bool) or not isinstance(version, int):
            raise InvalidInputError(f"not a version: {version!r}", hint="a version is a whole number from 1")
        self._labels.set_alias(name, alias, version, reason=reason)

    def delete_alias(self, name: str, alias: str, *, reason: str | None = None) -> None:
        """Take an alias away.

        Raises:
            NotFoundError: The model has no such alias.
        """
        self._labels.delete_alias(name, alias, reason=reason)

    def tag(self, reference: str, tags: Mapping[str, object | None]) -> None:
        """Set tags of a model or a version; a value of None takes the tag away."""
        self._labels.tag(reference, tags)

    def describe(self, reference: str, text: str) -> None:
        """Set the description of a model or a version."""
        self._labels.describe(reference, text)

    def rename(self, name: str, new: str) -> None:
        """Give a model another name.

        Raises:
            AlreadyExistsError: The name belongs, or once belonged, to another model.
        """
        self._labels.rename(name, new)

    def delete(self, reference: str, *, reason: str | None = None) -> None:
        """Hide a version, or a model and its versions. History keeps them; their numbers stay taken.

        Raises:
            ConflictError: An alias points there.
        """
        self._labels.delete(reference, reason=reason)

    def undelete(self, reference: str) -> None:
        """Bring back what `delete` hid.

        Raises:
            NotFoundError: It is not deleted.
        """
        self._labels.undelete(reference)

    # -- datasets -----------------------------------------------------------------------------------------------
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
        return self._datasets.add(
            name, path, key=key, bump=bump, derived_from=derived_from, description=description, run=run, owner=self
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

    def pull_dataset(self, reference: str, dest: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a dataset version's files into a folder, every digest checked. See `pull`.

        An active run records it as an input, as it does for `dataset_path` and `read_dataset`.
        """
        place = self._datasets.pull(reference, dest, force=force)
        self._note_input(self._datasets.get(reference))
        return place

    def dataset_path(self, reference: str) -> Path:
        """Return a local, read-only folder with a dataset's files, or its one file. See `DatasetVersion.path`."""
        version, files = self._datasets.local_files(reference)
        place = self._readers.path(version, files)
        self._note_input(version)
        return place

    def read_dataset(self, reference: str, kind: str) -> Any:
        """Return a dataset version's rows as `arrow`, `polars` or `duckdb`. See `DatasetVersion.arrow`."""
        version, files = self._datasets.local_files(reference)
        rows = self._readers.read(version, files, kind)
        self._note_input(version)
        return rows

    def _note_input(self, version: DatasetVersion) -> None:
        run = self.current_run()
        if run is not None and run.knows(self._context.lake):
            run.note_input(version.dataset_id)

    def diff_datasets(self, left: str, right: str) -> DatasetDiff:
        """Return what changed from one dataset version to another: counts, columns, and a few rows.

        Raises:
            NotFoundError: There is no such dataset or version.
        """
        return self._datasets.diff(left, right)

    # -- runs ---------------------------------------------------------------------------------------------------
    def start_run(
        self,
        name: str | None = None,
        *,
        experiment: str = "default",
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
        description: str | None = None,
        code: str | os.PathLike[str] | None = None,
        parent: Run | RunInfo | str | None = None,
        nested: bool | None = None,
    ) -> Run:
        """Start a run, which records code, command line, environment and seeds; use it in a `with`.

        In a process that `headwater run` started, the first run that is started is the one that is there: it is joined,
        and goes on when its `with` ends.

        Args:
            name: What it is called; need not be unique.
            experiment: The group of runs that it belongs to.
            params: Parameters; kept as text.
            tags: Tags; kept as text, and may change later.
            description: What it is.
            code: A folder of the Git repository whose code runs; the current folder by default.
            parent: The run that it is a part of.
            nested: Whether it is a part of the active run; by default where that one's `with` is around.

        Raises:
            InvalidInputError: Something can't be kept, or this is a read-only view.
            NotFoundError: There is no such parent or folder.
        """
        return self._runs.start(
            self,
            name,
            experiment=experiment,
            params=params,
            tags=tags,
            description=description,
            code=code,
            parent=parent,
            nested=nested,
        )

    def start_command(self, name: str | None, command: Sequence[str], **attributes: Any) -> Run:
        """Start a run of a command that is going to be started, which joins it. See `start_run`."""
        unsaid = dict.fromkeys(("params", "tags", "description", "code", "parent", "nested"))
        return self._runs.start(self, name, command=command, **{**unsaid, **attributes})

    def current_run(self) -> Run | None:
        """Return the active run of this process, or join the one of this lake that started it; None: there is none."""
        run: Run | None = active.current()
        return run if run is not None or active.outer() is None else self._runs.join(self)

    def runs(
        self, experiment: str | None = None, *, where: str | None = None, limit: int | None = None
    ) -> list[RunInfo]:
        """Return runs, newest first. Those of this machine whose process died are taken in first, and are `killed`.

        Args:
            experiment: Only those of this experiment.
            where: A condition on the view `runs`, such as `metrics.auc > 0.7 and params.depth = '6'`.
            limit: At most so many.

        Raises:
            InvalidInputError: The condition is not one.
        """
        return self._runs.list(
            self, experiment=experiment, where=where, limit=limit, query=lambda text: self.sql(text).fetchall()
        )

    def run(self, reference: str) -> RunInfo:
        """Return the run that an ID, 8 or more characters of one, or `run:ID` means.

        Raises:
            NotFoundError: There is no such run.
        """
        return self._runs.get(reference, self)

    def run_metrics(self, reference: str) -> list[Metric]:
        """Return the newest values of a run's metrics, over all rows and on slices."""
        return self._runs.metrics(reference)

    def run_inputs(self, reference: str) -> list[str]:
        """Return the dataset versions that a run used, as references such as `flights@1.1.0`."""
        return self._runs.inputs(reference)

    def run_versions(self, reference: str) -> list[ModelVersion]:
        """Return the model versions that a run made, the oldest first."""
        return self._versions.by_ids(self._runs.versions(reference), self)

    def curve(self, reference: str, key: str, *, slice: Mapping[str, object] | None = None) -> pa.Table:
        """Return every point of a metric of a run, as Arrow columns `step` and `value`, by step.

        Args:
            reference: The run.
            key: The metric.
            slice: The rows that it was measured on, as `{column: value}`; all of them by default.
        """
        return self._runs.curve(reference, key, slice)

    def log_artifact(self, reference: str, path: str | os.PathLike[str], name: str | None = None) -> list[ArtifactFile]:
        """Keep a file or folder with a run. See `Run.log_artifact`."""
        return self._run_files.log(reference, path, name)

    def run_files(self, reference: str) -> list[ArtifactFile]:
        """Return the files that are kept with a run, by path."""
        return self._run_files.list(reference)

    def pull_run(self, reference: str, dest: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a run's files into a folder, every digest checked. See `pull`."""
        return self._run_files.pull(reference, dest, force=force)

    def compare(self, *references: str) -> Comparison:
        """Put runs and model versions side by side: params, metrics, tags, inputs, code, and where they differ.

        Raises:
            NotFoundError: There is no such run or version.
        """
        from headwater.sidebyside import compare

        return compare(self, references)

    # -- history and SQL ----------------------------------------------------------------------------------------
    def log(self, reference: str | None = None, *, limit: int | None = None) -> list[LogEntry]:
        """Return what happened, newest first: in the whole lake, or to a model, version, alias or dataset."""
        return self._history.log(reference, limit=limit)

    def sql(
        self,
        query: str,
        parameters: Mapping[str, object] | Sequence[object] | None = None,
        *,
        timeout: float = 300,
    ) -> QueryResult:
        """Run one query that reads, at the branch's head or the pinned commit.

        Args:
            query: DuckDB's SQL over the views of `sql/` and the tables of schema `lake`.
            parameters: Values for `$name` (a mapping) or `?` (a sequence).
            timeout: Seconds until it is interrupted.

        Raises:
            InvalidInputError: It is not one statement that reads, or DuckDB refuses it.
        """
        from headwater.query import Session

        with self._context.reading() as fold:
            if self._session is None or not self._session.serves(fold.commit):
                self._session = Session(self._context.lake, fold)
            session = self._session
        return session.sql(query, parameters, timeout=timeout)

    def status(self) -> dict[str, Any]:
        """Return where this is: lake, branch or ref, head, and how much there is."""
        with self._context.reading() as fold:
            (models,) = fold.one("SELECT count(*) FROM models")
            (versions,) = fold.one("SELECT count(*) FROM versions")
            (datasets,) = fold.one("SELECT count(DISTINCT name) FROM datasets")
            (runs,) = fold.one("SELECT count(*) FROM runs")
            commit = fold.commit
        return {
            "lake": self.url,
            "ref": self.ref,
            "commit": commit,
            "actor": self.actor,
            "models": models,
            "versions": versions,
            "datasets": datasets,
            "runs": runs,
        }
