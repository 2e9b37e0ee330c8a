"""What people hold of governance: frozen dataclasses for gates, evaluations, promotions; no rules, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["Approval", "CardCheck", "CardField", "Check", "Evaluation", "GateResult", "PolicyText", "Promotion"]


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate found of one version."""

    gate: str
    """Its name, unique in the policy: given, or made of its words, such as `accuracy on fraud-test`."""
    kind: str
    """A key of `gates.EVALUATORS`."""
    required: str
    """Such as `>= 0.92`."""
    found: str
    """Such as `0.95`; `nothing` where there is no number."""
    passed: bool
    source: str
    """Where the number comes from: the metric's row, the dataset version, the commit."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What can be written as JSON: slices that failed, intervals, counts."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What every gate of a stage found of one version, at one commit."""

    name: str
    version: int
    version_id: str
    stage: str
    commit: str
    """The commit whose numbers were read."""
    policy: str | None
    """sha256 of the policies that hold, in hexadecimal; None where there are none."""
    results: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate passed; also where there are none."""
        return all(each.passed for each in self.results)

    @property
    def failed(self) -> tuple[GateResult, ...]:
        """The gates that did not pass."""
        return tuple(each for each in self.results if not each.passed)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version that entered a stage."""

    name: str
    version: int
    version_id: str
    stage: str
    traffic: float | None
    """Percent of production's requests that it gets; None for another stage."""
    previous: int | None
    """The version that it took the place of."""
    commit: str
    recorded_at: datetime
    actor: str
    reason: str | None
    overridden: bool
    """Whether an admin let it in though gates failed."""
    results: tuple[GateResult, ...]


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy as it is stored: the gates of a model, of the models that a pattern matches, or of a dataset."""

    subject: str
    """The model's name, `pattern:GLOB`, or `dataset:NAME`."""
    name: str | None
    """The model's name; None for patterns and datasets."""
    model_id: str | None
    text: str
    """The TOML."""
    digest: str
    """sha256 of the text, in hexadecimal."""
    gates: int
    """How many gates it has, approvals included."""
    commit: str
    recorded_at: datetime
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Check:
    """A named result that somebody recorded for a version, such as that of integration tests."""

    name: str
    """The model's."""
    version: int
    version_id: str
    model_id: str
    check: str
    check_name: str
    """The same as `check`, by the name that the view `checks` gives it."""
    passed: bool
    """Where two branches disagree, a failure stands."""
    url: str | None
    detail: str | None
    commit: str
    recorded_at: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody's word that a version may enter a stage."""

    name: str
    version: int
    version_id: str
    model_id: str
    stage: str
    principal: str
    """`actor:NAME`; in a signed lake the ID of the key."""
    given: bool
    """False where it was withdrawn; where two branches disagree, withdrawn stands."""
    branch: str
    """The one branch on which it counts."""
    commit: str
    recorded_at: datetime
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class CardField:
    """One thing that a complete model card says."""

    field: str
    present: bool
    found: str
    """What it says; what to do where it says nothing."""


@dataclass(frozen=True, slots=True)
class CardCheck:
    """What a version's card says, and what it lacks."""

    name: str
    version: int
    version_id: str
    commit: str
    """The commit that was read."""
    fields: tuple[CardField, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return all(each.present for each in self.fields)

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the fields that say nothing."""
        return tuple(each.field for each in self.fields if not each.present)
