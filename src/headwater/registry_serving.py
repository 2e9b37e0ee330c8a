"""Deployments, predictions and outcomes, as people ask a registry for them; no rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headwater.registry_services import Services

if TYPE_CHECKING:
    from headwater.prediction_log import PredictionLogger
    from headwater.routing import Key, Router
    from headwater.serving_model import Deployment, LoggedBatch, Prediction, Route

__all__ = ["Serving"]


class Serving(Services):
    """The part of a registry that is about what serves, and what it predicted."""

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

    # -- routing ------------------------------------------------------------------------------------------------
    def route(self, name: str, key: Key, environment: str = "production") -> Route:
        """Return which version answers a request: for a key always the same one, until the shares are changed.

        The first call for a model reads the lake. After that a call costs microseconds; a thread asks the lake once a
        second whether it has moved (`router` sets another interval), and while that fails the answers stay those that
        were known last. Where the share of a canary is raised, those that it had stay its own.

        Args:
            name: The model.
            key: What is to be treated alike: a customer's ID, say. A whole number is the same as its digits.
            environment: Where the request came in.

        Raises:
            NotFoundError: There is no such model, or nothing of it serves there.
            InvalidInputError: The key is no text, bytes or whole number; or the name is none.
        """
        return self._router.route(name, key, environment)

    def router(self, *, interval: float = 1.0) -> Router:
        """Return what answers as `route` does, but asks the lake as often as is said, and tells how fresh it is.

        Args:
            interval: Seconds from one question to the next.

        Raises:
            InvalidInputError: That is no interval.
        """
        from headwater.routing import Router

        router = Router(self._context, interval)
        self._routers.add(router)
        return router

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

    def predictions_of(self, deployment_id: str) -> int:
        """Return how many predictions of a deployment have landed."""
        return self._deployments.predictions_of(deployment_id)

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
