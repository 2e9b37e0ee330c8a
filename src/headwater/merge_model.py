"""What people hold of decisions that a merge took again: frozen dataclasses and their refusal; no rules, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headwater.errors import GateFailedError, PermissionDeniedError
from headwater.governance_model import GateResult

__all__ = ["MergeDeniedError", "MergeRefusedError", "Replayed", "refused"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision of a source that a merge took again on the target, or would take.

    Attributes:
        action: `stage`, `promote`, `traffic`, `rollback`, `withdraw` or `rule`.
        name: What it is about: `flight-delay/8`, a model, or a rule.
        version_id: The version; None where it is about none.
        stage: The stage that it entered; None where it is about none.
        traffic: Percent of production's requests that it gets; None where that is no matter.
        passed: Whether it holds on the target.
        refusal: Why it does not.
        denied: Whether who merges lacks a role for it.
        results: What each gate found.
        commit: The commit in which it was taken again.
    """

    action: str
    name: str
    version_id: str | None = None
    stage: str | None = None
    traffic: float | None = None
    passed: bool = True
    refusal: str | None = None
    denied: bool = False
    results: tuple[GateResult, ...] = ()
    commit: str | None = None

    def words(self) -> str:
        """Return what was decided, such as `promote flight-delay/8 to production`."""
        if self.action == "traffic":
            return f"give {self.name} {self.traffic:g} % of production's requests"
        if self.action == "promote":
            share = "" if self.traffic is None or self.traffic == 100 else f" with {self.traffic:g} %"
            return f"promote {self.name} to production{share}"
        if self.action == "stage":
            return f"stage {self.name} {self.stage}"
        if self.action == "rollback":
            return f"roll back to {self.name}"
        if self.action == "withdraw":
            return f"take {self.name} out of production"
        return f"set {self.name}"


class MergeRefusedError(GateFailedError):
    """Gates of the target refused what the source had decided; nothing was merged, and the refusal was recorded.

    Attributes:
        refused: What.
    """

    def __init__(self, found: Sequence[Replayed], source: str, target: str) -> None:
        super().__init__(_told(found, source, target), hint=_HINT)
        self.refused = tuple(found)


class MergeDeniedError(PermissionDeniedError):
    """Who merges may not decide on the target what the source had decided; nothing was merged.

    Attributes:
        refused: What.
    """

    def __init__(self, found: Sequence[Replayed], source: str, target: str) -> None:
        super().__init__(_told(found, source, target), hint=_HINT)
        self.refused = tuple(found)


_HINT = "meet what it asks for and merge again, or --ours leaves this as it is and takes the rest"


def _told(found: Sequence[Replayed], source: str, target: str) -> str:
    told = "; ".join(f"{each.words()}: {each.refusal}" for each in found[:2])
    more = f"; and {len(found) - 2} more" if len(found) > 2 else ""
    return f"what {source} decided does not hold on {target}: {told}{more}"


def refused(found: Sequence[Replayed], source: str, target: str) -> MergeRefusedError | MergeDeniedError:
    """Return the error that tells of decisions which do not hold."""
    kind = MergeDeniedError if all(each.denied for each in found) else MergeRefusedError
    return kind(found, source, target)
