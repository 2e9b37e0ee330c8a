"""What the gates of a dataset's policy found of one version: frozen dataclasses and their refusal; no rules, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headwater.errors import GateFailedError
from headwater.governance_model import GateResult
from headwater.names import counted

__all__ = ["DatasetEvaluation", "DatasetRefusedError"]


@dataclass(frozen=True, slots=True)
class DatasetEvaluation:
    """What every gate of a dataset's policy found of one version.

    Attributes:
        name: The dataset.
        reference: The version, such as `flights@1.2.0`; of one that has no number yet, the dataset's name.
        dataset_id: Its ID; None while it has none.
        commit: The commit whose policy was asked.
        policy: sha256 of the policy, in hexadecimal; None where there is none.
        results: What each gate found.
    """

    name: str
    reference: str
    dataset_id: str | None
    commit: str
    policy: str | None
    results: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate passed; also where there are none."""
        return all(each.passed for each in self.results)

    @property
    def failed(self) -> tuple[GateResult, ...]:
        """The gates that did not pass."""
        return tuple(each for each in self.results if not each.passed)


class DatasetRefusedError(GateFailedError):
    """Gates of a dataset's policy did not pass; nothing was written, and the refusal was recorded.

    Attributes:
        evaluations: What the gates found, of every version that was refused.
    """

    def __init__(self, evaluations: Sequence[DatasetEvaluation], *, hint: str) -> None:
        failed = [(each, result) for each in evaluations for result in each.failed]
        first, rest = failed[:3], len(failed) - 3
        told = "; ".join(
            f"{each.reference}, {result.gate}: required {result.required}, found {result.found}"
            for each, result in first
        )
        super().__init__(
            f"{counted(len(failed), 'gate')} refused the data: {told}" + (f"; and {rest} more" if rest > 0 else ""),
            hint=hint,
        )
        self.evaluations = tuple(evaluations)
