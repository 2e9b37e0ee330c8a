"""The commands of `headwater predictions`: log, outcomes, show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import click

from headwater.cli.base import Session, argument, group, option
from headwater.cli.layout import count, fields, moment
from headwater.cli.output import busy, strong

if TYPE_CHECKING:
    from headwater.registry import Registry
    from headwater.serving_model import LoggedBatch, Prediction

__all__ = ["predictions", "show_prediction"]

Function = TypeVar("Function", bound=Callable[..., object])


@group(
    "predictions",
    example="headwater predictions log september.parquet --deployment 01a1fe93-cc18-72a4-96c4-289d824ebd63",
)
def predictions() -> None:
    """Take in predictions and what proved true of them, and show one."""


def _zoned(function: Function) -> Function:
    return option("--timezone", metavar="ZONE", help="The zone of times that say none, such as UTC.")(function)


@predictions.group_command(
    "log",
    example="""\
headwater predictions log september.parquet --deployment 01a1fe93-cc18-72a4-96c4-289d824ebd63
headwater predictions log late.csv --deployment 01a1fe93-cc18-72a4-96c4-289d824ebd63 --output late --timezone UTC""",
)
@argument("file", "FILE", type=click.Path())
@option("--deployment", metavar="ID", required=True, help="The deployment that made the predictions.")
@option("--external-id", metavar="COL", help="The column of your own IDs. By default external_id, or id.")
@option("--predicted-at", metavar="COL", help="The column of times. By default predicted_at; now where there is none.")
@option("--output", metavar="COL", help="The column of what was predicted. By default output, or prediction.")
@option("--score", metavar="COL", help="The column of scores. By default score.")
@option("--latency-ms", metavar="COL", help="The column of latencies in milliseconds. By default latency_ms.")
@option("--dataset", metavar="NAME@V", help="The dataset version that holds the features.")
@option("--row-key", metavar="COL[,COL]", help="Columns that are a row's key in it.")
@_zoned
def predictions_log(
    session: Session,
    file: str,
    deployment: str,
    external_id: str | None,
    predicted_at: str | None,
    output: str | None,
    score: str | None,
    latency_ms: str | None,
    dataset: str | None,
    row_key: str | None,
    timezone: str | None,
) -> None:
    """Take a file of predictions in, whole or not at all, and once.

    FILE is Parquet, CSV, JSON lines or Arrow. Columns are known by name; those that are no part of a prediction are
    features, and are kept as its input.
    """
    with session.open() as registry, busy(f"logging {file}"):
        found = registry.log_predictions(
            file,
            deployment,
            external_id=external_id,
            predicted_at=predicted_at,
            output=output,
            score=score,
            latency_ms=latency_ms,
            dataset=dataset,
            row_key=row_key.split(",") if row_key is not None else (),
            timezone=timezone,
        )
    session.emit(found, lambda: _batch_lines(found, "prediction"))


@predictions.group_command(
    "outcomes",
    example="""\
headwater predictions outcomes arrivals.parquet
headwater predictions outcomes arrivals.csv --deployment 01a1fe93-cc18-72a4-96c4-289d824ebd63 --label late""",
)
@argument("file", "FILE", type=click.Path())
@option("--deployment", metavar="ID", help="The deployment, where the file names predictions by your own IDs.")
@option("--prediction-id", metavar="COL", help="The column of prediction IDs. By default prediction_id.")
@option("--external-id", metavar="COL", help="The column of your own IDs. By default external_id, or id.")
@option("--label", metavar="COL", help="The column of what proved true. By default label.")
@option("--observed-at", metavar="COL", help="The column of times. By default observed_at; now where there is none.")
@_zoned
def predictions_outcomes(
    session: Session,
    file: str,
    deployment: str | None,
    prediction_id: str | None,
    external_id: str | None,
    label: str | None,
    observed_at: str | None,
    timezone: str | None,
) -> None:
    """Take in what proved true of predictions.

    Where a prediction has several outcomes, the last observed stands. A file is taken in whole or not at all, and once.
    """
    with session.open() as registry, busy(f"logging {file}"):
        found = registry.log_outcomes(
            file,
            deployment,
            prediction_id=prediction_id,
            external_id=external_id,
            label=label,
            observed_at=observed_at,
            timezone=timezone,
        )
    session.emit(found, lambda: _batch_lines(found, "outcome"))


def _batch_lines(found: LoggedBatch, what: str) -> Iterator[str]:
    if not found.created:
        yield f"nothing is new: this file's {count(found.rows, what)} had been logged before"
    else:
        yield f"{strong(count(found.rows, what))} logged"
    if found.unknown:
        yield f"{count(found.unknown, 'row')} left out: the deployment has no prediction of their external ID"
    yield from fields([("commit", found.commit), ("sha256", found.digest)])


@predictions.group_command(
    "show",
    ref=True,
    example="""\
headwater predictions show 01a1fe93-f8c2-7fe3-9b36-10724da2636f
headwater predictions show UA1545-2013-09-01 --deployment 01a1fe93-cc18-72a4-96c4-289d824ebd63""",
)
@argument("prediction", "ID")
@option("--deployment", metavar="ID", help="The deployment, where ID is your own ID of the prediction.")
def predictions_show(session: Session, prediction: str, deployment: str | None) -> None:
    """Show a prediction with what proved true of it."""
    with session.open() as registry:
        show_prediction(session, registry, prediction, deployment)


def show_prediction(session: Session, registry: Registry, reference: str, deployment: str | None = None) -> None:
    """Print all about a prediction."""
    if deployment is not None:
        found = registry.find_prediction(deployment, reference)
    else:
        found = registry.prediction(reference)
    session.emit(found, lambda: _lines(found))


def _lines(found: Prediction) -> Iterator[str]:
    from headwater.names import quote

    yield strong(found.prediction_id)
    known = f"{found.label}, observed {moment(found.observed_at)} UTC" if found.observed_at is not None else "not known"
    number = f"{found.score:.6g}" if found.score is not None else None
    yield from fields(
        [
            ("predicted", f"{moment(found.predicted_at)} UTC"),
            ("by", f"{quote(found.name)}/{found.version}, {found.mode} in {found.environment}"),
            ("output", found.output),
            ("score", number),
            ("outcome", known),
            ("latency", f"{found.latency_ms:g} ms" if found.latency_ms is not None else None),
            ("external ID", found.external_id),
            ("input", json.dumps(found.input, ensure_ascii=False) if found.input is not None else None),
            ("dataset", found.dataset_id),
            ("row key", json.dumps(found.row_key, ensure_ascii=False) if found.row_key is not None else None),
            ("deployment", found.deployment_id),
            ("commit", found.commit),
        ]
    )
