"""Evaluating a version: its predictions for a dataset version, made in a child process, kept in the lake and measured.

`stored` finds what was evaluated last, for gates that ask for more than a metric: `stored(...).table()` has the rows.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from headwater import artifacts, children
from headwater.context import Context
from headwater.datasets import Datasets
from headwater.errors import InvalidInputError, NotFoundError, PermissionDeniedError
from headwater.evaluation_metrics import METRICS, by_group, scored
from headwater.evaluation_model import Evaluated, Scoring
from headwater.evaluation_rows import aligned, check_columns, most_bytes, pick_label, taken
from headwater.evaluation_store import FIXED, stored
from headwater.ids import new_id
from headwater.lake.objects import disk_errors
from headwater.lookup import build_version, labelled, labels_of, name_of, version_row
from headwater.model import DatasetVersion, Metric
from headwater.names import canonical_slice, parse_model, quote, shown
from headwater.predicting import DATA, MODEL, OUTPUT, Predict, call, filled, words_of
from headwater.sealing import principal_of
from headwater.state import Fold
from headwater.stored import Stored, row_of
from headwater.tombstones import gone, tombstone_of, visible
from headwater.transaction import Transaction, Upload
from headwater.versions import Versions

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PREDICT", "Evaluations", "stored"]

PREDICT = "predict"
"""The tag of a version whose value is the command that predicts with it."""

_FOLDER = "evaluations"
_FILE = "predictions.parquet"
_TIMEOUT = 3600.0


@dataclass(frozen=True, slots=True)
class _Request:
    """A version, the dataset version to evaluate it on, and how: all that a person said, checked."""

    name: str
    number: int
    version_id: str
    model_id: str
    data: Stored
    label: str
    slices: tuple[str, ...]
    command: tuple[str, ...]
    predict: Predict | None
    here: bool
    """Whether the command runs in the current folder, because a person gave it here."""

    @property
    def reference(self) -> str:
        return f"{quote(self.name)}/{self.number}"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that slices are made of, each once."""
        return tuple(dict.fromkeys(column for each in self.slices for column in each.split("+")))


class Evaluations:
    """The service that evaluates versions.

    Args:
        context: What to work with.
        versions: The service that fetches versions.
        datasets: The service that fetches datasets.
    """

    def __init__(self, context: Context, versions: Versions, datasets: Datasets) -> None:
        self._context = context
        self._versions = versions
        self._datasets = datasets

    def evaluate(
        self,
        reference: str,
        *,
        on: str,
        command: Sequence[str] | None = None,
        predict: Predict | None = None,
        slices: Sequence[str] = (),
        label: str | None = None,
        task: str | None = None,
        positive: str | None = None,
        timeout: float | None = None,
        echo: Callable[[bytes], None] | None = None,
    ) -> Evaluated:
        """Predict a dataset version with a version, and keep and measure that. See `Registry.evaluate`."""
        self._context.check_writable()
        limit = _checked_timeout(timeout)
        request = self._request(reference, on, command, predict, slices, label)
        with tempfile.TemporaryDirectory(prefix="headwater-", ignore_cleanup_errors=True) as name:
            place = Path(name).resolve()
            with disk_errors(place):
                output = self._predicted(request, place, limit, echo)
                # The child is gone; nothing that it may have put beside its output is in the way.
                private = Path(tempfile.mkdtemp(dir=place))
                copy = private / "taken"
                rows = request.data.version.rows or 0
                format_ = taken(output, copy, most_bytes(rows))
                scoring, table = self._scored(request, copy, format_, task, positive)
                measured = self._measured(request, scoring, table)
                kept = private / _FILE
                _write(table, kept)
            return self._keep(request, scoring, table, measured, kept)

    def evaluation(self, reference: str, *, on: str) -> Evaluated:
        """Return the last evaluation of a version on a dataset version. See `Registry.evaluation`."""
        with self._context.reading() as fold:
            version_id, model_id, number, *_ = version_row(fold, parse_model(reference))
            data = Stored.of(fold, row_of(fold, on)).version
            found = stored(self._context, fold, version_id, data.dataset_id)
            name = f"{quote(name_of(fold, model_id))}/{number}"
        if found is None:
            raise NotFoundError(
                f"{name} was not evaluated on {data.reference}",
                hint=f"`headwater evaluate {name} --on {data.reference}` does it",
            )
        return found

    # -- what was asked -----------------------------------------------------------------------------------------
    def _request(
        self,
        reference: str,
        on: str,
        command: Sequence[str] | None,
        predict: Predict | None,
        slices: Sequence[str],
        label: str | None,
    ) -> _Request:
        if command is not None and predict is not None:
            raise InvalidInputError("give a command or a function, not both", hint="one of them predicts")
        with self._context.reading() as fold:
            row = version_row(fold, parse_model(reference))
            version_id, model_id, number, *_ = row
            name = name_of(fold, model_id)
            version = labelled(build_version(row, name, None), labels_of(fold, model_id, version_id))
            data = Stored.of(fold, row_of(fold, on))
            self._check_may(fold, version_id, data.version.dataset_id)
        if data.version.schema is None:
            raise InvalidInputError(
                f"{data.version.reference} is a folder of files, not a table", hint="evaluate on a table"
            )
        chosen = pick_label(data.version, label)
        _check_slices(data.version, slices)
        here = command is not None
        if command is None and predict is None:
            text = version.tags.get(PREDICT)
            if text is None:
                raise InvalidInputError(
                    f"nothing says how {quote(name)}/{number} predicts",
                    hint=f"give a command after --, or keep one: headwater tag-model {quote(name)}/{number}"
                    f" {PREDICT}='python {{model}}/predict.py'",
                )
            command = words_of(text, f"the tag {PREDICT} of {quote(name)}/{number}")
        if command is not None and not (command and all(isinstance(each, str) and each for each in command[:1])):
            raise InvalidInputError("the command is empty", hint="name a program")
        if any("\0" in each for each in command or ()):
            raise InvalidInputError("the command has a NUL in it", hint="leave it out")
        return _Request(
            name, number, version_id, model_id, data, chosen, tuple(slices), tuple(command or ()), predict, here
        )

    def _check_may(self, fold: Fold, version_id: str, dataset_id: str) -> None:
        """Refuse who may not keep an evaluation before an hour of work is done for it.

        Raises:
            PermissionDeniedError: Who acts lacks a role.
        """
        row = {"subject": version_id, "kind": "evaluation", "key": dataset_id, "value": "{}", "prev": []}
        refusal = fold.judge().refusal(row, principal_of(fold, self._context.actor))
        if refusal is not None:
            raise PermissionDeniedError(refusal.message, hint=refusal.hint)

    # -- predicting ---------------------------------------------------------------------------------------------
    def _predicted(self, request: _Request, place: Path, timeout: float, echo: Callable[[bytes], None] | None) -> Path:
        """Let the command, or the function, write predictions; return where."""
        version = request.data.version
        output = place / "output" / "predictions"
        output.parent.mkdir()
        work = place / "work"
        work.mkdir()
        most = most_bytes(version.rows or 0)

        def watch() -> None:
            try:
                size = output.lstat().st_size
            except OSError:
                return
            if size > most:
                raise InvalidInputError(
                    f"the output of the command has more than {most:,} bytes, for {version.rows or 0:,} rows",
                    hint="write the key, prediction and score of each row, and nothing else",
                )

        if request.predict is not None:
            table = self._arrow(request)
            children.run(
                partial(call, request.predict, table, version.key, output),
                folder=work,
                variables={OUTPUT: str(output)},
                timeout=timeout,
                watch=watch,
                echo=echo,
            )
            return output
        model = self._versions.pull(request.reference, place / "model")
        folder = self._datasets.pull(version.reference, place / "data")
        for each in folder.rglob("*"):
            if each.is_file():
                each.chmod(0o444)
        files = request.data.files
        single = len(files) == 1 and files[0].sha256 == version.digest
        values = {"model": str(model), "data": str(folder / files[0].path if single else folder), "output": str(output)}
        children.run(
            filled(request.command, values),
            folder=Path.cwd() if request.here else work,
            variables={MODEL: values["model"], DATA: values["data"], OUTPUT: values["output"]},
            timeout=timeout,
            watch=watch,
            echo=echo,
        )
        return output

    def _arrow(self, request: _Request) -> pa.Table:
        from headwater.dataset_rows import Rows

        with Rows(self._context.lake.cache) as rows:
            rows.attach_version("data", self._context.lake, request.data)
            return rows.arrow("SELECT * FROM data", request.data.version.reference)

    # -- measuring ----------------------------------------------------------------------------------------------
    def _scored(
        self, request: _Request, output: Path, format_: str, task: str | None, positive: str | None
    ) -> tuple[Scoring, pa.Table]:
        import pyarrow as pa

        version = request.data.version
        data, found = aligned(
            self._context.lake, request.data, output, format_, label=request.label, columns=request.columns
        )
        given = dict(zip(found.column_names, found.columns, strict=True))
        scoring, table = scored(
            data.column(0), given.get("prediction"), given.get("score"), task=task, positive=positive
        )
        columns = {_key_name(each): data.column(data.column_names.index(each, 1)) for each in version.key}
        columns |= {each: table.column(each) for each in FIXED}
        columns |= {each: data.column(data.column_names.index(each, 1)) for each in request.columns}
        return scoring, pa.table(columns)

    def _measured(self, request: _Request, scoring: Scoring, table: pa.Table) -> list[Metric]:
        cache, dataset_id = self._context.lake.cache, request.data.version.dataset_id
        found = []
        for part in ("", *request.slices):
            for group in by_group(cache, table, scoring, part.split("+") if part else ()):
                text = canonical_slice(dict(group.values)) if part else ""
                for key in METRICS[scoring.task]:
                    if key in group.metrics:
                        found.append(Metric(key, group.metrics[key], text, None, dataset_id, "computed"))
        return found

    # -- keeping ------------------------------------------------------------------------------------------------
    def _keep(
        self, request: _Request, scoring: Scoring, table: pa.Table, measured: list[Metric], file: Path
    ) -> Evaluated:
        version = request.data.version
        path = artifacts.fold_path(_FOLDER, new_id()) + _FILE
        with disk_errors(file.parent), file.open("rb") as stream:
            digest = file_digest(stream, "sha256").hexdigest()
        value = {
            "dataset": version.reference,
            "path": path,
            "digest": digest,
            "size": file.stat().st_size,
            "rows": len(table),
            "task": scoring.task,
            "positive": scoring.positive,
            "label": request.label,
            "key": [_key_name(each) for each in version.key],
            "slices": list(request.slices),
            "command": list(request.command),
        }

        def uploads(put: Upload) -> None:
            with file.open("rb") as stream:
                put(path, stream)

        def work(tx: Transaction) -> None:
            fold = tx.fold
            for subject, what in (
                (request.model_id, quote(request.name)),
                (request.version_id, request.reference),
                (version.dataset_id, version.reference),
            ):
                if (hiding := tombstone_of(fold, subject)) is not None:
                    raise gone(what, hiding)
            for ordinal, each in enumerate(measured):
                tx.append(
                    "metrics",
                    ordinal=ordinal,
                    version_id=request.version_id,
                    key=each.key,
                    value=each.value,
                    slice=each.slice,
                    dataset_id=each.dataset_id,
                    source=each.source,
                )
            edge = (f"dataset:{version.dataset_id}", "evaluated", f"model:{request.version_id}")
            there = "SELECT 1 FROM lineage l WHERE source = ? AND relation = ? AND target = ?"
            if fold.one(f"{there} AND {visible('l.tx')}", *edge) is None:
                tx.append("lineage", source=edge[0], relation=edge[1], target=edge[2])
            tx.event(request.version_id, "evaluation", json.dumps(value), key=version.dataset_id)
            tx.fence(request.model_id)
            name = f"{quote(name_of(fold, request.model_id))}/{request.number}"
            tx.subject = name
            tx.message = f"evaluate {name} on {version.reference}"

        self._context.write("evaluate", work, uploads)
        with self._context.reading() as fold:
            found = stored(self._context, fold, request.version_id, version.dataset_id)
        if found is None:
            raise NotFoundError(f"the evaluation of {request.reference} was taken back by somebody else")
        return found


def _checked_timeout(timeout: float | None) -> float:
    if timeout is None:
        return _TIMEOUT
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e9:
        raise InvalidInputError(f"not a time limit: {timeout}", hint="give seconds, more than 0")
    return float(timeout)


def _check_slices(version: DatasetVersion, slices: Sequence[str]) -> None:
    for each in slices:
        columns = each.split("+")
        if len(set(columns)) < len(columns):
            raise InvalidInputError(f"the slice {shown(each)} names a column twice", hint="name it once")
        check_columns(version, columns)
        for column in columns:
            canonical_slice({column: ""})
            if column in FIXED:
                raise InvalidInputError(
                    f"a slice can't be made of a column called {column}", hint="call it otherwise in the dataset"
                )
    if len(set(slices)) < len(slices):
        raise InvalidInputError("a slice is named twice", hint="name each once")


def _key_name(column: str) -> str:
    """Return what a key's column is called beside the columns that predictions always have."""
    return f"key_{column}" if column in FIXED else column


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")
