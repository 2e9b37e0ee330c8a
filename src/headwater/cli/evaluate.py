"""The command `evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import count, fields, table
from headwater.cli.output import dim, note, strong

if TYPE_CHECKING:
    from headwater.evaluation_model import Evaluated

__all__ = ["evaluate"]


@command(
    "evaluate",
    example="""\
headwater evaluate flight-delay/7 --on flights-test@1.0.0 --slices origin,carrier -- python predict.py
headwater tag-model flight-delay/7 predict='python {model}/predict.py {data} {output}'
headwater evaluate flight-delay/7 --on flights-test --label late""",
)
@argument("reference", "MODELREF", complete="version")
@argument("words", "[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@option("--on", metavar="DATASET", required=True, help="The dataset version; of a name alone the newest.")
@option("--slices", metavar="COL[,COL]", help="Measure by the values of these columns too; a+b: of two together.")
@option("--label", metavar="COL", help="The column that says what is true. By default label, target or y.")
@option("--task", metavar="TASK", help="classification or regression, where the values leave it open.")
@option("--positive", metavar="CLASS", help="Of two classes the one that is looked for. By default the greater.")
@option("--timeout", metavar="SECONDS", type=float, help="How long the command may take. By default an hour.")
def evaluate(
    session: Session,
    reference: str,
    words: tuple[str, ...],
    on: str,
    slices: str | None,
    label: str | None,
    task: str | None,
    positive: str | None,
    timeout: float | None,
) -> None:
    """Predict a dataset with a version, and compute its metrics.

    COMMAND finds the artifact's folder in HEADWATER_MODEL ({model}), the data in HEADWATER_DATA ({data}), and writes
    the key of each row with its prediction, its score, or both, to the file HEADWATER_OUTPUT ({output}), as CSV,
    Parquet or JSON lines. By default it is the version's tag predict.
    """
    with session.open() as registry:
        found = registry.evaluate(
            reference,
            on=on,
            command=list(words) or None,
            slices=slices.split(",") if slices else (),
            label=label,
            task=task,
            positive=positive,
            timeout=timeout,
            echo=_echo,
        )
    if found.trained_on:
        from headwater.names import quote

        note(f"{quote(found.name)}/{found.version} was trained on {found.dataset}: this is no test of it")
    session.emit(found, lambda: _lines(found))


def _echo(chunk: bytes) -> None:
    """Show what the command prints, on standard error: standard output is for what was found."""
    stream = getattr(sys.stderr, "buffer", None)
    if stream is not None:
        stream.write(chunk)
        stream.flush()


def _lines(found: Evaluated) -> Iterator[str]:
    from headwater.names import quote

    yield f"{strong(f'{quote(found.name)}/{found.version}')} on {found.dataset}, {count(found.rows, 'row')}"
    keys = list(dict.fromkeys(each.key for each in found.metrics))
    by_slice: dict[str, dict[str, float]] = {}
    for each in found.metrics:
        by_slice.setdefault(each.slice, {})[each.key] = each.value
    rows = [
        (part or "all rows", *(f"{values[key]:.4g}" if key in values else None for key in keys))
        for part, values in by_slice.items()
    ]
    yield from table(["", *keys], rows, right=range(1, len(keys) + 1), first=False)
    positive = [("positive", found.positive)] if found.positive is not None else []
    yield from fields([("label", found.label), *positive])
    yield f"{dim('commit')} {found.commit}"
