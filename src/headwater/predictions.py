"""Predictions and their outcomes: take files of them in, once each and whole; find one; knows no serving code's logger.

A file of any size is one transaction. Its rows are written as data files of about a million rows, each in the order of
time, while the file is being read; only when all is well does the table's log come to name them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from headwater.context import Context
from headwater.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError
from headwater.ids import from_micros, is_id
from headwater.names import counted, parse_dataset, quote, shown
from headwater.prediction_columns import OUTCOME, PREDICTION, Layout
from headwater.prediction_files import RowFile
from headwater.prediction_rows import OutcomeRows, PredictionRows, Rows
from headwater.serving import deployment_of
from headwater.serving_model import Deployment, LoggedBatch, Prediction
from headwater.state import Fold
from headwater.stored import row_of
from headwater.tombstones import gone, tombstone_of, visible
from headwater.transaction import Transaction, Upload

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Predictions", "batch_of", "note_batch"]


class Predictions:
    """The service for predictions.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def deployment(self, given: str | Deployment) -> Deployment:
        """Return the deployment that a prediction is logged for.

        Raises:
            NotFoundError: There is no such deployment.
            IntegrityError: There is one of a version that is not there.
        """
        with self._context.reading() as fold:
            found = deployment_of(fold, _id_of(given))
            if fold.one("SELECT 1 FROM versions WHERE version_id = ?", found.version_id) is None:
                raise IntegrityError(f"deployment {found.deployment_id} is of a version that is not there")
            return found

    # -- files of predictions -----------------------------------------------------------------------------------
    def log(
        self,
        source: Any,
        deployment: str | Deployment,
        *,
        columns: Mapping[str, str],
        dataset: str | None = None,
        row_key: Sequence[str] = (),
        timezone: str | None = None,
    ) -> LoggedBatch:
        """Take a file of predictions in. See `Registry.log_predictions`."""
        self._context.check_writable()
        made_by = self.deployment(deployment)
        dataset_id = self.dataset_id(dataset) if dataset is not None else None
        file = RowFile(source, PREDICTION, Layout(columns, row_key, timezone), self._scratch)
        return self._take_in(
            file,
            made_by,
            lambda: PredictionRows(made_by, file.digest, dataset_id, self.dataset_id),
        )

    @property
    def _scratch(self) -> Any:
        return self._context.lake.cache / "rows"

    def dataset_id(self, reference: str) -> str:
        """Return the ID of the dataset version that an ID or a reference names."""
        with self._context.reading() as fold:
            if is_id(reference):
                found = fold.one("SELECT dataset_id FROM datasets WHERE dataset_id = ?", reference)
            else:
                ref = parse_dataset(reference)
                if ref.semver is None:
                    raise InvalidInputError(
                        f"{ref} is a dataset, and a version is needed", hint=f"write {quote(ref.name)}@1.0.0, say"
                    )
                found = row_of(fold, reference)
        if found is None:
            raise NotFoundError(f"there is no dataset version {shown(reference)}", hint="`headwater data list`")
        return str(found[0])

    # -- outcomes -----------------------------------------------------------------------------------------------
    def log_outcomes(
        self,
        source: Any,
        deployment: str | Deployment | None = None,
        *,
        columns: Mapping[str, str],
        timezone: str | None = None,
    ) -> LoggedBatch:
        """Take a file of outcomes in. See `Registry.log_outcomes`."""
        self._context.check_writable()
        made_by = self.deployment(deployment) if deployment is not None else None
        file = RowFile(source, OUTCOME, Layout(columns, (), timezone), self._scratch)
        rows = OutcomeRows(self._find_ids(made_by) if made_by is not None else None)
        logged = self._take_in(file, None, lambda: rows)
        return replace(
            logged,
            deployment_id=made_by.deployment_id if made_by is not None else None,
            unknown=rows.unknown if made_by is not None and logged.created else None,
        )

    def _find_ids(self, made_by: Deployment) -> Callable[[pa.Array], pa.Array]:
        from headwater.prediction_names import external_ids

        def find(names: pa.Array) -> pa.Array:
            with self._context.reading() as fold:
                return external_ids(self._context.lake, fold, made_by.deployment_id, names)

        return find

    # -- finding one --------------------------------------------------------------------------------------------
    def get(self, prediction_id: str) -> Prediction:
        """Return one prediction with its outcome. See `Registry.prediction`."""
        from headwater.prediction_lookup import find_outcome, look_up

        bare = prediction_id.removeprefix("prediction:").lower()
        if not is_id(bare):
            raise InvalidInputError(f"not a prediction's ID: {shown(prediction_id)}", hint="it is a UUIDv7")
        lake = self._context.lake
        with self._context.reading() as fold:
            found = look_up(lake, fold, "predictions", bare)
            row = next(iter(found.rows), None)
            if row is None and found.hidden is not None:
                raise gone(f"prediction {bare}", found.hidden)
            if row is None:
                raise NotFoundError(
                    f"there is no prediction {bare}", hint="what a logger was given lands after a while, or on `flush`"
                )
            return _build(fold, row, find_outcome(lake, fold, bare))

    def find(self, deployment: str | Deployment, external_id: str) -> Prediction:
        """Return the newest prediction of a deployment by the caller's own ID. See `Registry.find_prediction`."""
        from headwater.prediction_names import external_ids

        made_by = self.deployment(deployment)
        with self._context.reading() as fold:
            (found,) = external_ids(self._context.lake, fold, made_by.deployment_id, [external_id]).to_pylist()
        if found is None:
            raise NotFoundError(
                f"deployment {made_by.deployment_id} has no prediction with external ID {shown(external_id)}"
            )
        return self.get(found)

    def _take_in(self, file: RowFile, made_by: Deployment | None, rows: Callable[[], Rows]) -> LoggedBatch:
        """Write a file's rows and land them, or find that they have landed."""
        deployment_id = made_by.deployment_id if made_by is not None else ""
        with self._context.reading() as fold:
            if (before := batch_of(fold, deployment_id, file.digest)) is not None:
                _check_stands(fold, file, before)
                return before
        pieces = rows()

        def uploads(put: Upload) -> None:
            pieces.write(put, file)

        def work(tx: Transaction) -> LoggedBatch | None:
            before = batch_of(tx.fold, deployment_id, _digest(file, pieces))
            if before is not None:
                _check_stands(tx.fold, file, before)
                return before
            if made_by is not None:
                deployment_of(tx.fold, deployment_id)
            tx.append_files(pieces.table, pieces.bodies)
            note_batch(
                tx,
                deployment_id,
                _digest(file, pieces),
                pieces.added,
                source=file.name,
                version_id=made_by.version_id if made_by is not None else None,
                span=pieces.span,
            )
            what = "prediction" if made_by is not None else "outcome"
            about = f" of {made_by.reference} in {made_by.environment}" if made_by is not None else ""
            tx.subject = made_by.reference if made_by is not None else ""
            tx.message = f"log {counted(pieces.added, what)}{about}"
            return None

        landing = self._context.write(f"log-{pieces.table}", work, uploads)
        if landing.result is not None:
            return landing.result
        assert landing.commit is not None
        first, last = pieces.span
        return LoggedBatch(
            digest=_digest(file, pieces),
            rows=pieces.added,
            created=True,
            commit=landing.commit,
            source=file.name,
            deployment_id=deployment_id or None,
            version_id=made_by.version_id if made_by is not None else None,
            first_at=from_micros(first),
            last_at=from_micros(last),
        )


def _check_stands(fold: Fold, file: RowFile, batch: LoggedBatch) -> None:
    """Refuse to take for logged what was logged and reverted: its predictions have the IDs that they had.

    Raises:
        ConflictError: The batch is hidden.
    """
    (tx,) = fold.one("SELECT tx FROM commits WHERE id = ?", batch.commit) or (batch.commit,)
    hiding = tombstone_of(fold, tx)
    if hiding is not None:
        told = gone(f"{shown(file.name)} was logged before, and that", hiding)
        raise ConflictError(told.message, hint=told.hint.replace("brings it back", "brings its rows back"))


def _digest(file: RowFile, pieces: Rows) -> str:
    """Return what a file is known by once it was taken in.

    While rows of it are left out, because their predictions have not come yet, it is not done: it may come again.
    """
    if not isinstance(pieces, OutcomeRows) or not pieces.unknown:
        return file.digest
    return sha256(f"{file.digest} {pieces.added}".encode()).hexdigest()


def note_batch(
    tx: Transaction,
    deployment_id: str,
    digest: str,
    rows: int,
    *,
    source: str,
    version_id: str | None,
    span: tuple[int, int],
) -> None:
    """Note in a transaction that a file or segment is taken in."""
    tx.append(
        "batches",
        deployment_id=deployment_id,
        digest=digest,
        rows=rows,
        source=source,
        version_id=version_id,
        first_at=span[0],
        last_at=span[1],
    )


def batch_of(fold: Fold, deployment_id: str, digest: str) -> LoggedBatch | None:
    """Return a batch that has been taken in, or None."""
    row = fold.one(
        "SELECT rows, source, version_id, first_at, last_at, coalesce((SELECT id FROM commits c WHERE c.tx = b.tx), tx)"
        f" FROM batches b WHERE deployment_id = ? AND digest = ? ORDER BY NOT {visible('b.tx')}, tx",
        deployment_id,
        digest,
    )
    if row is None:
        return None
    rows, source, version_id, first, last, commit = row
    return LoggedBatch(
        digest=digest,
        rows=rows,
        created=False,
        commit=commit,
        source=source,
        deployment_id=deployment_id or None,
        version_id=version_id,
        first_at=from_micros(first) if first is not None else None,
        last_at=from_micros(last) if last is not None else None,
    )


def _id_of(given: str | Deployment) -> str:
    return given.deployment_id if isinstance(given, Deployment) else given.removeprefix("deployment:")


def _build(fold: Fold, row: Mapping[str, Any], outcome: Mapping[str, Any] | None) -> Prediction:
    made_by = deployment_of(fold, row["deployment_id"], hidden=True)
    commit = fold.one("SELECT id FROM commits WHERE tx = ?", row["tx"])
    return Prediction(
        prediction_id=row["prediction_id"],
        predicted_at=from_micros(row["predicted_at"]),
        name=made_by.name,
        version=made_by.version,
        version_id=row["version_id"],
        deployment_id=made_by.deployment_id,
        environment=made_by.environment,
        mode=made_by.mode,
        external_id=row["external_id"],
        input=json.loads(row["input"]) if row["input"] is not None else None,
        dataset_id=row["dataset_id"],
        row_key=json.loads(row["row_key"]) if row["row_key"] is not None else None,
        output=row["output"],
        score=row["score"],
        latency_ms=row["latency_ms"],
        label=outcome["label"] if outcome is not None else None,
        observed_at=from_micros(outcome["observed_at"]) if outcome is not None else None,
        commit=commit[0] if commit is not None else row["tx"],
        recorded_at=from_micros(row["recorded_at"]),
        actor=row["actor"],
    )
