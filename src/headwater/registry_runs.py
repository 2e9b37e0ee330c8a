"""Runs, and the reading of data that they record, as people ask a registry for them; no rules."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import active
from headwater.model import ArtifactFile, DatasetVersion, Metric, ModelVersion, RunInfo
from headwater.registry_data import Data
from headwater.registry_models import Models

if TYPE_CHECKING:
    import pyarrow as pa

    from headwater.run import Run
    from headwater.sidebyside import Comparison

__all__ = ["RunsPart"]


class RunsPart(Models, Data):
    """The part of a registry that is about runs, which make models and datasets."""

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
            self, experiment=experiment, where=where, limit=limit, query=lambda text: self._queries.sql(text).fetchall()
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

    # -- reading data, which an active run records -----------------------------------------------------------------
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

    def _active_run(self) -> str | None:
        run = self.current_run()
        if run is None or run.ended or not run.is_on(self._context):
            return None
        run.flush(wait=True)  # what it used and measured goes with what it makes
        return run.run_id

    def _note_input(self, version: DatasetVersion) -> None:
        run = self.current_run()
        if run is not None and run.knows(self._context.lake):
            run.note_input(version.dataset_id)
