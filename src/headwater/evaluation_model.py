"""What evaluating a version on a dataset came to, as people hold it; no I/O and no rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headwater.model import Metric

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Evaluated", "Scoring", "evaluation_called"]


@dataclass(frozen=True, slots=True)
class Scoring:
    """How predictions are compared with labels.

    Attributes:
        task: `binary`, `multiclass` or `regression`.
        positive: Of a binary task, the class that is looked for, as text.
    """

    task: str
    positive: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A version's predictions for every row of a dataset version, kept in the lake, and what they measure.

    Attributes:
        dataset: The dataset version, `NAME@1.0.0`.
        task: `binary`, `multiclass` or `regression`.
        label: The column of the dataset that says what is true.
        positive: Of a binary task, the class that precision, recall, f1 and auc look for, as text.
        rows: Rows of the dataset version.
        slices: Columns, or columns joined by `+`, by whose values it was measured too.
        metrics: What was computed, over all rows and on slices.
        command: The command that predicted; empty where it was a function.
        path: Where the predictions lie in the lake.
        digest: Their sha256.
        trained_on: Whether the version was trained on this dataset version.
    """

    name: str
    version: int
    version_id: str
    dataset: str
    dataset_id: str
    task: str
    label: str
    positive: str | None
    rows: int
    slices: tuple[str, ...]
    metrics: tuple[Metric, ...]
    command: tuple[str, ...]
    path: str
    digest: str
    trained_on: bool
    commit: str
    recorded_at: datetime
    actor: str
    _read: Callable[[Sequence[str]], Any] = field(repr=False, compare=False)

    @property
    def scoring(self) -> Scoring:
        """How its predictions are compared with the labels."""
        return Scoring(self.task, self.positive)

    def table(self, columns: Sequence[str] = ()) -> pa.Table:
        """Return the predictions, a row for each row of the dataset version, in its order; digests checked.

        Columns: those of the dataset's key, `label`, `prediction`, `score` (null where the command gave none) and those
        of the slices. Classes are text, of a regression label and prediction are numbers.

        Args:
            columns: Further columns of the dataset version, as text.

        Raises:
            IntegrityError: The predictions, or the data, are not what was written.
            InvalidInputError: The dataset has no such column.
        """
        return self._read(columns)


def evaluation_called(value: str) -> str:
    """Return the value of an event of kind `evaluation` in words."""
    try:
        found = json.loads(value)
        return f"{int(found['rows']):,} predictions for {found['dataset']} ({str(found['digest'])[:8]})"
    except (ValueError, KeyError, TypeError):
        return value
