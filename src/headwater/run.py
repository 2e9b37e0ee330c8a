"""The run that people hold while it goes on: what they log goes to its spool, and from there into the lake.

A call that logs appends to memory or to the spool and never waits for the lake. A thread makes what was logged durable
every second, and another lands it once a minute.
"""

from __future__ import annotations

import atexit
import operator
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from headwater import active, frames, landing
from headwater.columns import as_mapping, doubles, is_column, steps
from headwater.context import Context
from headwater.errors import HeadwaterError, InvalidInputError, LakeError
from headwater.frames import NO_STEP, Series
from headwater.model import ArtifactFile, DatasetVersion, ModelVersion, RunInfo
from headwater.names import as_number, as_texts, canonical_slice, check_key, check_text, counted, shown
from headwater.spool import Spool

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Run"]

_SYNC_EVERY = 1.0
_LAND_EVERY = 60.0
_MOST_POINTS = 50_000
"""Points that are held in memory; then the call that logs the next one writes them to the spool."""

_LARGEST_STEP = (1 << 63) - 1


class Home(Protocol):
    """What a run needs of the registry that it belongs to."""

    def dataset(self, reference: str) -> DatasetVersion: ...
    def register(self, *given: Any, **attributes: Any) -> ModelVersion: ...
    def add_dataset(self, *given: Any, **attributes: Any) -> DatasetVersion: ...
    def start_run(self, *given: Any, **attributes: Any) -> Run: ...
    def run(self, reference: str) -> RunInfo: ...
    def curve(self, reference: str, key: str, *, slice: Mapping[str, object] | None = None) -> pa.Table: ...
    def log_artifact(self, reference: str, path: Any, name: str | None = None) -> list[ArtifactFile]: ...
    def run_files(self, reference: str) -> list[ArtifactFile]: ...
    def pull_run(self, reference: str, dest: str | Path, *, force: bool = False) -> Path: ...


@dataclass(frozen=True, slots=True)
class Part:
    """How a process takes part in a run: as the one that began it, or as one that joined it."""

    owner: bool
    host: str | None


class Run:
    """A run that goes on. Use it in a `with`: an exception makes it `failed`, Ctrl-C `killed`; else it is `finished`.

    What is logged is durable on this machine after `flush()` and every second, and lands in the lake once a minute, at
    `flush(wait=True)` and at the end. Where this process dies, the next one that starts or lists runs on this machine
    brings what is left into the lake, once.

    Attributes:
        run_id: UUIDv7.
        name: What its author calls it.
        experiment: The group of runs that it belongs to.
        commit: The commit that its beginning was written in.
        ended: Whether it has ended for this process.
    """

    def __init__(self, home: Home, context: Context, info: RunInfo, spool: Spool, part: Part) -> None:
        self.run_id = info.run_id
        self.name = info.name
        self.experiment = info.experiment
        self.commit = info.commit
        self.ended = False
        self._home = home
        self._context = context
        self._part = part
        self._params = dict(info.params)
        self._inputs: set[str] = set()
        self._measured_on: set[str] = set()
        self._datasets: dict[str, str] = {}
        self._series: list[Series] = []
        self._plain: dict[str, int] = {}
        self._known: dict[Series, int] = {}
        self._points: list[tuple[int, int, float]] = []
        self._most = _MOST_POINTS
        self._lost = 0
        self._trouble: str | None = None
        self._spool: Spool | None = spool
        self._guard = threading.RLock()
        self._landing = threading.Lock()
        self._landed_at = time.monotonic()
        self._unlanded = False
        active.push(self)
        _Ticker.wake()

    def __repr__(self) -> str:
        return f"<Run {self.run_id} of {self.experiment}{' (ended)' if self.ended else ''}>"

    def _repr_html_(self) -> str:
        from headwater.hypertext import fields, frame, heading

        rows = (("name", self.name), ("experiment", self.experiment), ("ended", "yes" if self.ended else "not yet"))
        return frame(heading("run", f"run:{self.run_id}"), fields((*rows, ("commit", self.commit))))

    def __enter__(self) -> Run:
        active.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ended:
            active.leave(self)
            return
        try:
            self.finish(_status_after(error))
        except HeadwaterError as trouble:
            if error is None:
                raise
            # What went wrong in the run is what people have to see.
            warnings.warn(f"run {self.run_id}: {trouble.message}", RuntimeWarning, stacklevel=2)

    def is_on(self, context: Context) -> bool:
        """Return whether the run is of a branch of a lake."""
        return self.knows(context.lake) and context.commit is None and self._context.branch == context.branch

    def knows(self, lake: object) -> bool:
        """Return whether the run is of a lake."""
        return self._context.lake is lake or self._context.lake.url == getattr(lake, "url", None)

    def end(self, error: BaseException | None) -> None:
        """End it because its process, or its registry, ends; what can't be landed now lands later, with a warning."""
        try:
            self.finish(_status_after(error))
        except (HeadwaterError, RuntimeError) as trouble:
            warnings.warn(f"run {self.run_id}: {trouble}", RuntimeWarning, stacklevel=2)

    @property
    def params(self) -> dict[str, str]:
        """The params that this process knows of."""
        return dict(self._params)

    # -- metrics ------------------------------------------------------------------------------------------------
    def log_metric(
        self,
        key: str,
        value: float,
        step: int | None = None,
        *,
        slice: Mapping[str, object] | None = None,
        dataset: str | DatasetVersion | None = None,
    ) -> None:
        """Log one value of a metric; a few microseconds.

        Args:
            key: The metric's name.
            value: A number; NaN and infinities are kept.
            step: The training step, from 0.
            slice: The rows that it was measured on, as `{column: value}`; all of them by default.
            dataset: The dataset version that it was measured on, such as `flights@1.1.0`.

        Raises:
            InvalidInputError: The run has ended, or a key, value or step can't be kept.
            NotFoundError: There is no such dataset.
        """
        number = self._plain.get(key) if slice is None and dataset is None else None
        if number is None:
            number = self._number_of(key, slice, dataset)
        if type(value) is not float:
            value = as_number(key, value)
        if step is None:
            step = NO_STEP
        elif type(step) is not int or not 0 <= step <= _LARGEST_STEP:
            step = _step(step)
        if self.ended:
            raise self._over()
        self._points.append((number, step, value))
        if len(self._points) >= self._most:
            self._drain()

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log many values at once: single numbers at one step, or whole columns.

        Args:
            metrics: `{"auc": 0.81, "loss": 0.4}`; or columns of one length, as a mapping of lists, NumPy or Arrow
                arrays or Series, an Arrow table or a data frame: `step` holds the steps, every other is a metric.
            step: The step of single numbers.

        Raises:
            InvalidInputError: Columns differ in length, or something in them is no number.
        """
        given = as_mapping(metrics)
        lists = [key for key, value in given.items() if is_column(value)]
        if not lists:
            for key, value in given.items():
                self.log_metric(key, value, step)
            return
        if len(lists) < len(given):
            single = next(key for key in given if key not in lists)
            raise InvalidInputError(f"{shown(str(single))} is one number, and others are columns", hint="log it apart")
        if step is not None:
            raise InvalidInputError("a step and columns were given", hint="give the steps as a column 'step'")
        self._log_columns(given)

    def _log_columns(self, given: Mapping[str, Any]) -> None:
        packed = {key: doubles(key, values) for key, values in given.items() if key != "step"}
        counted = steps(given["step"]) if "step" in given else None
        lengths = {key: len(each) // 8 for key, each in packed.items()}
        lengths |= {} if counted is None else {"step": len(counted) // 8}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} {length:,}" for key, length in list(lengths.items())[:5])
            raise InvalidInputError(f"columns differ in length: {told}", hint="give columns of one length")
        if not packed:
            raise InvalidInputError("there is no metric beside the column 'step'", hint='add one, such as "loss"')
        series = [self._series[self._number_of(key, None, None)] for key in packed]
        count = next(iter(lengths.values()))
        if self.ended:
            raise self._over()
        if count:
            self._drain()
            self._append(frames.columns(series, count, counted, list(packed.values())), count * len(series))

    def sink(self) -> Callable[..., None]:
        """Return a function `(metrics, step=None)` for the callbacks of frameworks.

        It takes what they hand around: nested mappings become keys with `/`, of a list the last value is taken, numbers
        of any kind are understood, and what is no number is left out.

        ```python
        sink = run.sink()
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: sink(logs, epoch))

        class ToRun(xgboost.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                sink(evals_log, epoch)                                  # {"train": {"auc": [...]}} is train/auc

        def to_run(env):                                                # a LightGBM callback
            sink({f"{data}/{metric}": value for data, metric, value, *_ in env.evaluation_result_list}, env.iteration)

        class ToRun(lightning.Callback):
            def on_train_epoch_end(self, trainer, module):
                sink(trainer.callback_metrics, trainer.current_epoch)
        ```
        """

        def log(metrics: Mapping[str, Any] | None, step: int | None = None) -> None:
            for key, value in _flat("", metrics or {}):
                self.log_metric(key, value, step)

        return log

    # -- params, tags, inputs -----------------------------------------------------------------------------------
    def log_param(self, key: str, value: object) -> None:
        """Log a param, kept as text. The same value again changes nothing.

        Raises:
            InvalidInputError: It has another value already.
        """
        self.log_params({key: value})

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log params, all or none of them. See `log_param`."""
        given = as_texts(params, "param")
        with self._guard:
            for key, value in given.items():
                if self._params.get(key, value) != value:
                    raise InvalidInputError(
                        f"param {key!r} is {shown(self._params[key])} already, not {shown(value)}",
                        hint="a run's param has one value; log another key, or start another run",
                    )
            fresh = {key: value for key, value in given.items() if key not in self._params}
            if fresh:
                self._change(params=fresh)
                self._params |= fresh

    def set_tag(self, key: str, value: object | None) -> None:
        """Set a tag, kept as text; None takes it away."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, object | None]) -> None:
        """Set tags, kept as text; None takes one away."""
        checked = {
            check_key(key, "tag"): None if value is None else check_text(str(value), "tag")
            for key, value in tags.items()
        }
        if checked:
            self._change(tags=checked)

    def describe(self, text: str) -> None:
        """Say what the run is."""
        self._change(description=check_text(text, "description"))

    def use(self, dataset: str, *, role: str = "training") -> DatasetVersion:
        """Return a dataset version, recorded as an input of this run and of what it makes.

        Args:
            dataset: `flights@1.1.0`, or `flights` for the newest.
            role: `training`; or `evaluation` for what the run only measures on: no version learned from that.

        Raises:
            NotFoundError: There is no such dataset.
            InvalidInputError: There is no such role.
        """
        if role not in ("training", "evaluation"):
            raise InvalidInputError(f"not a role of a dataset: {shown(role)}", hint="use training or evaluation")
        if self.ended:
            raise self._over()
        found = self._home.dataset(dataset)
        with self._guard:
            if role == "training":
                self.note_input(found.dataset_id, again=True)
            elif found.dataset_id not in self._measured_on:
                self._change(evaluated=[found.dataset_id])
                self._measured_on.add(found.dataset_id)
        return found

    def note_input(self, dataset_id: str, *, again: bool = False) -> None:
        """Record a dataset version, by its ID, as an input; `again` where it is known as one to measure on too."""
        with self._guard:
            known = dataset_id in self._inputs or (dataset_id in self._measured_on and not again)
            if not known and not self.ended:
                self._change(inputs=[dataset_id])
                self._inputs.add(dataset_id)

    # -- what it makes ------------------------------------------------------------------------------------------
    def register(self, name: str, path: str | os.PathLike[str] | None = None, **attributes: Any) -> ModelVersion:
        """Register a version of a model that this run made, from what it used, with the newest of its metrics.

        Takes what `Registry.register` takes. Metrics that are given here stand before the run's own.
        """
        if self.ended:
            raise self._over()
        self.flush(wait=True)
        return self._home.register(name, path, run=self.run_id, **attributes)

    def add_dataset(self, name: str, path: str | os.PathLike[str], **attributes: Any) -> DatasetVersion:
        """Add a version of a dataset that this run made from what it used. Takes what `Registry.add_dataset` takes."""
        if self.ended:
            raise self._over()
        self.flush(wait=True)
        return self._home.add_dataset(name, path, run=self.run_id, **attributes)

    def log_artifact(self, path: str | os.PathLike[str], name: str | None = None) -> list[ArtifactFile]:
        """Keep a file or folder with the run, in the lake when this returns.

        Args:
            path: The file or folder.
            name: What it is called there, by default as it is here; what had the name before gives way.
        """
        if self.ended:
            raise self._over()
        return self._home.log_artifact(self.run_id, path, name)

    def artifacts(self) -> list[ArtifactFile]:
        """Return the files that were logged with `log_artifact`."""
        return self._home.run_files(self.run_id)

    def pull(self, dest: str | Path, *, force: bool = False) -> Path:
        """Write the run's artifacts into a folder, every digest checked."""
        return self._home.pull_run(self.run_id, dest, force=force)

    def start_run(self, name: str | None = None, **attributes: Any) -> Run:
        """Start a run that is a part of this one. Takes what `Registry.start_run` takes."""
        attributes.setdefault("experiment", self.experiment)
        return self._home.start_run(name, parent=self.run_id, **attributes)

    def curve(self, key: str, *, slice: Mapping[str, object] | None = None) -> pa.Table:
        """Return every point of a metric so far, as Arrow columns `step` and `value`, by step."""
        if not self.ended:
            self.flush(wait=True)
        return self._home.curve(self.run_id, key, slice=slice)

    @property
    def info(self) -> RunInfo:
        """The run as the lake has it now."""
        return self._home.run(self.run_id)

    # -- durability ---------------------------------------------------------------------------------------------
    def flush(self, wait: bool = False) -> None:
        """Make what was logged durable on this machine.

        Args:
            wait: Also bring it into the lake, where everybody sees it.

        Raises:
            LakeError: The disk, or the lake, does not take it; the message says how many points were lost, if any.
        """
        if self.ended:
            return
        trouble = None
        try:
            self._sync()
        except LakeError as error:
            trouble = error  # perhaps the lake takes what the disk does not
        if wait:
            self._land()
        self._check_lost()
        if trouble is not None and not wait:
            raise LakeError(
                f"run {self.run_id}: what was logged is in memory only: {trouble.message}", hint=trouble.hint
            ) from trouble

    def finish(self, status: str = "finished", *, exit_status: int | None = None) -> None:
        """End the run: all that was logged lands in the lake. A process that joined the run ends only its own part.

        Args:
            status: `finished`, `failed` or `killed`.
            exit_status: The exit status of a command that ran.

        Raises:
            LakeError: It could not be landed now; what is in the spool lands with the next start on this machine.
        """
        if status not in landing.STATUSES[1:]:
            raise InvalidInputError(f"not how a run ends: {shown(status)}", hint="finished, failed or killed")
        with self._guard:
            if self.ended:
                return
            self._drain()
            if self._part.owner:
                self._change(end=landing.ending(status, exit_status=exit_status))
            self.ended = True
        active.leave(self)
        try:
            try:
                self._sync()
            except LakeError as error:
                self._trouble = error.message  # perhaps the lake takes what the disk does not
            self._land(last=True)
        except HeadwaterError as error:
            if self._spool is not None:
                self._spool.close()
            lost = f"; {counted(self._lost, 'point')} lost" if self._lost else ""
            raise type(error)(
                f"run {self.run_id} has ended, but could not be landed: {error.message}{lost}",
                hint=f"it lands with the next run on this machine, from {self._context.lake.spool}",
            ) from error
        if self._spool is not None:
            self._spool.remove()
        self._check_lost()

    def _check_lost(self) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            raise LakeError(
                f"run {self.run_id}: {counted(lost, 'point')} lost: {self._trouble}",
                hint="free some space and log them again",
            )

    def _over(self) -> InvalidInputError:
        return InvalidInputError(f"run {self.run_id} has ended", hint="start another run")

    def _number_of(self, key: str, part: Mapping[str, object] | None, dataset: str | DatasetVersion | None) -> int:
        """Return the number of a series, which is checked when it is new."""
        if not isinstance(key, str):
            raise InvalidInputError(f"not a key for a metric: {shown(repr(key))}", hint="give text")
        text = canonical_slice(dict(part)) if part else ""
        dataset_id = None
        if isinstance(dataset, DatasetVersion):
            dataset_id = dataset.dataset_id
        elif dataset is not None:
            dataset_id = self._datasets.get(dataset) or self._home.dataset(dataset).dataset_id
            if "@" in dataset:  # a version's number means the same for ever
                self._datasets[dataset] = dataset_id
        series = (key, text, dataset_id)
        number = self._known.get(series)
        if number is None:
            check_key(key, "metric")
            with self._guard:
                number = self._known.setdefault(series, len(self._series))
                if number == len(self._series):
                    self._series.append(series)
            if not text and dataset_id is None:
                self._plain[key] = number
        return number

    def _change(self, **values: object) -> None:
        if self.ended:
            raise self._over()
        self._append(frames.changes(**values), 0)

    def _append(self, payload: bytes, count: int) -> None:
        with self._guard:
            self._unlanded = True
            try:
                self._own_spool().append(payload)
            except LakeError as error:
                if not count:
                    raise
                self._lost += count
                self._trouble = error.message

    def _own_spool(self) -> Spool:
        if self._spool is None:  # this process was forked: it takes part with a spool of its own
            self._spool = landing.make_spool(self._context, self.run_id, owner=False, host=self._part.host)
            self._most = _MOST_POINTS
            _Ticker.wake()
        return self._spool

    def _drain(self) -> None:
        """Write the points in memory to the spool."""
        with self._guard:
            count = len(self._points)
            rows = self._points[:count]
            del self._points[:count]  # what another thread has appended meanwhile stays
            if rows:
                self._append(frames.points(rows, self._series), count)

    def _sync(self) -> None:
        self._drain()
        if self._spool is not None:
            self._spool.sync()

    def _land(self, *, last: bool = False) -> None:
        with self._landing:
            self._drain()
            self._landed_at = time.monotonic()
            if last:
                landing.take_in(self._context, self.run_id)  # what processes left that it had forked
            spool = self._spool
            if spool is None:
                return
            # A process that joined, and is the last: whoever began the run has died, and nobody could say so then.
            left = last and not self._part.owner and self._is_left_alone(spool)
            otherwise = landing.ending("killed") if left else None
            landed = landing.land(self._context, self.run_id, spool, otherwise=otherwise)
            self._unlanded = False
        for key, value in landed.refused.items():
            warnings.warn(
                f"run {self.run_id}: param {key!r} has another value already; {shown(value)} is not kept",
                RuntimeWarning,
                stacklevel=3,
            )

    def _is_left_alone(self, spool: Spool) -> bool:
        import platform

        return self._part.host == platform.node() and not landing.someone_lives(self._context, self.run_id, spool.path)

    def tick(self) -> None:
        """Do what is due every second: make what was logged durable, and once a minute land it."""
        if self.ended:
            return
        try:
            self._sync()
        except (LakeError, OSError) as error:
            self._warn_once(str(error))
        due = time.monotonic() - self._landed_at >= _LAND_EVERY
        if due and self._unlanded and not self._landing.locked():
            threading.Thread(target=self._land_quietly, name="headwater-landing", daemon=True).start()

    def _land_quietly(self) -> None:
        try:
            if not self.ended:
                self._land()
        except HeadwaterError as error:
            self._warn_once(error.message)

    def _warn_once(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            sys.stderr.write(f"headwater: run {self.run_id}: {trouble}; trying again\n")

    def forked(self) -> None:
        """Begin anew in a process that was forked: what the parent has in memory is the parent's to write."""
        self._guard, self._landing = threading.RLock(), threading.Lock()
        self._points.clear()
        self._spool, self._most, self._lost, self._unlanded = None, 0, 0, False
        self._part = Part(False, self._part.host)


class _Ticker:
    """The thread of a process that lets its runs tick; it ends when there are none."""

    _guard = threading.Lock()
    _thread: threading.Thread | None = None

    @classmethod
    def wake(cls) -> None:
        with cls._guard:
            if cls._thread is None or not cls._thread.is_alive():
                cls._thread = threading.Thread(target=cls._tick, name="headwater-runs", daemon=True)
                cls._thread.start()

    @classmethod
    def _tick(cls) -> None:
        while True:
            time.sleep(_SYNC_EVERY)
            runs = active.opened()
            with cls._guard:
                if not runs and not active.opened():
                    cls._thread = None
                    return
            for run in runs:
                run.tick()


def _status_after(error: BaseException | None) -> str:
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished"
    return "killed" if isinstance(error, KeyboardInterrupt) else "failed"


def _step(step: Any) -> int:
    hint = "a step is a whole number from 0"
    try:
        if isinstance(step, bool):
            raise TypeError
        number = operator.index(step)
    except TypeError:
        raise InvalidInputError(f"not a step: {shown(repr(step))}", hint=hint) from None
    if not 0 <= number <= _LARGEST_STEP:
        raise InvalidInputError(f"not a step: {number}", hint=hint)
    return number


def _flat(prefix: str, metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found += _flat(f"{name}/", value)
            continue
        if isinstance(value, list | tuple):
            value = value[-1] if value else None
        try:
            found.append((name, as_number(name, value)))
        except InvalidInputError:
            continue
    return found


def _at_exit() -> None:
    error = getattr(sys, "last_value", None) if not hasattr(sys, "ps1") and "ipykernel" not in sys.modules else None
    active.end_all(None, error)


def _after_fork() -> None:
    _Ticker._guard = threading.Lock()
    _Ticker._thread = None
    for run in active.opened():
        run.forked()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
