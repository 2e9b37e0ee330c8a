"""The registry: the one object that people hold; composes the services and has no rules of its own."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from headwater.context import Context
from headwater.errors import InvalidInputError
from headwater.lake import refs
from headwater.model import Alias, ArtifactFile, DatasetDiff, DatasetVersion, LogEntry, Metric, Model, ModelVersion
from headwater.names import check_branch, parse_model
from headwater.versions import Versions

if TYPE_CHECKING:
    from headwater.datasets import Datasets
    from headwater.history import History
    from headwater.labels import Labels
    from headwater.prediction_log import PredictionLogger
    from headwater.predictions import Predictions
    from headwater.query import QueryResult, Session
    from headwater.registration import Registration, Slices
    from headwater.serving import Deployments
    from headwater.serving_model import Deployment, LoggedBatch, Prediction

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
        self._loggers: weakref.WeakSet[PredictionLogger] = weakref.WeakSet()

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
    def _deployments(self) -> Deployments:
        from headwater.serving import Deployments

        return Deployments(self._context)

    @cached_property
    def _predictions(self) -> Predictions:
        from headwater.predictions import Predictions

        return Predictions(self._context)

    def __repr__(self) -> str:
        return f"<Registry {self._context.lake.url} at {self._context.ref}>"

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections and files, unless another registry lent them (`branch` and `at` do).

        Loggers of predictions that it made are closed first, so that what they were given lands.
        """
        for logger in list(self._loggers):
            logger.close()
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

        Returns:
            The version; its `created` is False where nothing was new.
        """
        return self._datasets.add(
            name, path, key=key, bump=bump, derived_from=derived_from, description=description, owner=self
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
        """Write a dataset version's files into a folder, every digest checked. See `pull`."""
        return self._datasets.pull(reference, dest, force=force)

    def diff_datasets(self, left: str, right: str) -> DatasetDiff:
        """Return what changed from one dataset version to another: counts, columns, and a few rows.

        Raises:
            NotFoundError: There is no such dataset or version.
        """
        return self._datasets.diff(left, right)

    # -- serving ------------------------------------------------------------------------------------------------
    def deploy(
        self,
        reference: str,
        to: str,
        mode: str = "live",
        traffic: float | None = None,
        *,
        reason: str | None = None,
    ) -> Deployment:
        """Deploy a version to an environment.

        A live version replaces the live one, and its own canary; the same version in the same mode replaces itself.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            to: The environment, such as `production`.
            mode: `live`, `canary` (a part of the requests) or `shadow` (copies of requests).
            traffic: Percent of the requests: of a canary 10 by default, of a shadow 100. The live version gets what
                canaries leave.
            reason: Why; kept with the change.

        Raises:
            NotFoundError: There is no such version, or it was deleted.
            InvalidInputError: The environment, mode or percentage is none, or canaries would get more than everything.
            ConflictError: Two branches deployed a live version each, and this does not say which one stays.
        """
        return self._deployments.deploy(reference, to, mode=mode, traffic=traffic, reason=reason)

    def undeploy(self, deployment: str, *, reason: str | None = None) -> Deployment:
        """End a deployment.

        Raises:
            NotFoundError: There is no such deployment.
            ConflictError: It has ended.
        """
        return self._deployments.undeploy(deployment, reason=reason)

    def deployment(self, deployment_id: str) -> Deployment:
        """Return one deployment.

        Raises:
            NotFoundError: There is none of that ID.
        """
        return self._deployments.get(deployment_id)

    def deployments(
        self, name: str | None = None, *, environment: str | None = None, ended: bool = True
    ) -> list[Deployment]:
        """Return deployments, newest first.

        Args:
            name: Of this model.
            environment: In this environment.
            ended: Those that serve no more too.

        Raises:
            NotFoundError: There is no such model.
        """
        return self._deployments.list(name, environment=environment, ended=ended)

    def serving(
        self, environment: str | None = None, *, name: str | None = None, time: datetime | None = None
    ) -> list[Deployment]:
        """Return what serves now, or what served at a time, as `main@{time}` had it.

        Args:
            environment: In this environment.
            name: Of this model.
            time: With a time zone.
        """
        return self._deployments.serving(environment, name=name, time=time)

    # -- predictions --------------------------------------------------------------------------------------------
    def predictions(
        self,
        deployment: str | Deployment,
        *,
        fsync_interval: float = 1.0,
        flush_interval: float = 60.0,
        flush_rows: int = 50_000,
    ) -> PredictionLogger:
        """Return a logger for serving code, whose calls cost microseconds and never wait for the lake.

        What it was given is in a local file at once, and lands in the background. What a process that died left there
        is taken in by the next logger.

        Args:
            deployment: What makes the predictions: its ID, or what `deploy` returned.
            fsync_interval: Seconds after which what was logged survives a power cut too (a crash of the process it
                always survives); 0 makes each call wait for the disk.
            flush_interval: Seconds after which what was logged goes to the lake.
            flush_rows: Predictions that go to the lake before that time is over.

        Raises:
            NotFoundError: There is no such deployment.
        """
        from headwater.prediction_log import PredictionLogger

        self._context.check_writable()
        logger = PredictionLogger(
            self._context,
            self._predictions,
            self._predictions.deployment(deployment),
            fsync_interval=fsync_interval,
            flush_interval=flush_interval,
            flush_rows=flush_rows,
        )
        self._loggers.add(logger)
        return logger

    def log_predictions(
        self,
        source: Any,
        deployment: str | Deployment,
        *,
        external_id: str | None = None,
        predicted_at: str | None = None,
        output: str | None = None,
        score: str | None = None,
        latency_ms: str | None = None,
        dataset: str | None = None,
        row_key: Sequence[str] = (),
        timezone: str | None = None,
    ) -> LoggedBatch:
        """Take a file of predictions in, whole or not at all, and once.

        Columns are known by name: `external_id` (or `id`), `predicted_at` (now where it is missing), `output` (or
        `prediction`), `score`, `latency_ms`, `input` (a JSON object or a struct), `dataset_id` and `row_key`. Every
        other column is a feature and becomes part of the input.

        Args:
            source: A Parquet, CSV, JSON lines or Arrow file; an Arrow table, or a data frame such as polars'.
            deployment: What made the predictions: its ID, or what `deploy` returned.
            external_id: What the column of the caller's own ID is called.
            predicted_at: What the column of times is called.
            output: What the column of predictions is called.
            score: What the column of scores is called.
            latency_ms: What the column of latencies is called.
            dataset: The dataset version that holds the features.
            row_key: Columns that are a row's key in it.
            timezone: The zone of times that say none; without it they are refused.

        Returns:
            What was taken in; its `created` is False where the same file had been logged before.

        Raises:
            NotFoundError: There is no such file, deployment or dataset version.
            InvalidInputError: The file can't be read, or has an external ID twice, or a time without a zone.
        """
        from headwater.prediction_landing import take_leftovers

        self._context.check_writable()
        take_leftovers(self._context)
        named = {
            "external_id": external_id,
            "predicted_at": predicted_at,
            "output": output,
            "score": score,
            "latency_ms": latency_ms,
        }
        columns = {what: name for what, name in named.items() if name is not None}
        return self._predictions.log(
            source, deployment, columns=columns, dataset=dataset, row_key=row_key, timezone=timezone
        )

    def log_outcomes(
        self,
        source: Any,
        deployment: str | Deployment | None = None,
        *,
        prediction_id: str | None = None,
        external_id: str | None = None,
        label: str | None = None,
        observed_at: str | None = None,
        timezone: str | None = None,
    ) -> LoggedBatch:
        """Take a file of outcomes in, whole or not at all, and once. Where a prediction has several, the last stands.

        An outcome may come before its prediction.

        Args:
            source: As for `log_predictions`.
            deployment: What made the predictions, where the file names them by external ID.
            prediction_id: What the column of prediction IDs is called.
            external_id: What the column of the caller's own IDs is called; used where there are no prediction IDs.
            label: What the column of what proved true is called.
            observed_at: What the column of times is called; now where it is missing.
            timezone: The zone of times that say none; without it they are refused.

        Raises:
            NotFoundError: There is no such file or deployment, or it has no prediction with any of the external IDs.
            InvalidInputError: The file can't be read, has a prediction twice, or a row without label.
        """
        named = {
            "prediction_id": prediction_id,
            "external_id": external_id,
            "label": label,
            "observed_at": observed_at,
        }
        columns = {what: name for what, name in named.items() if name is not None}
        return self._predictions.log_outcomes(source, deployment, columns=columns, timezone=timezone)

    def prediction(self, prediction_id: str) -> Prediction:
        """Return one prediction with the outcome that stands.

        Raises:
            NotFoundError: It is not in the lake.
            InvalidInputError: That is no prediction's ID.
        """
        return self._predictions.get(prediction_id)

    def find_prediction(self, deployment: str | Deployment, external_id: str) -> Prediction:
        """Return the newest prediction of a deployment by the caller's own ID.

        Raises:
            NotFoundError: There is none.
        """
        return self._predictions.find(deployment, external_id)

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
            commit = fold.commit
        return {
            "lake": self.url,
            "ref": self.ref,
            "commit": commit,
            "actor": self.actor,
            "models": models,
            "versions": versions,
            "datasets": datasets,
        }
