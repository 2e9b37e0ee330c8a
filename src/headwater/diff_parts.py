"""What a difference of two commits consists of, in the words of a registry: frozen dataclasses; no rules, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from headwater.names import quote

__all__ = [
    "AddedDataset",
    "AddedDeployment",
    "AddedModel",
    "AddedRun",
    "AddedVersion",
    "ChangedLabel",
    "number_text",
]


@dataclass(frozen=True, slots=True)
class AddedModel:
    """A registered model that the left side lacks."""

    name: str
    model_id: str
    commit: str
    recorded_at: datetime
    actor: str
    deleted: bool = False

    @property
    def reference(self) -> str:
        """How it is named."""
        return quote(self.name)


@dataclass(frozen=True, slots=True)
class AddedVersion:
    """A model version that the left side lacks, beside the version that is the champion there."""

    name: str
    version: int
    version_id: str
    model_id: str
    commit: str
    recorded_at: datetime
    actor: str
    description: str | None
    aliases: tuple[str, ...]
    """Those that the right side has moved to it."""
    params: Mapping[str, str]
    tags: Mapping[str, str]
    run_id: str | None
    metrics: Mapping[str, float]
    """The newest value of every metric over all rows that the left side lacks."""
    champion: int | None
    """The version behind `champion` on the left side; where there is none, the one in production there."""
    champion_metrics: Mapping[str, float]
    deleted: bool = False

    @property
    def reference(self) -> str:
        """How it is named, such as `flight-delay/8`."""
        return f"{quote(self.name)}/{self.version}"

    def compared(self) -> list[tuple[str, float, float | None, float | None]]:
        """Return key, value, the champion's value, and the difference of the two, for each metric."""
        found = []
        for key, value in sorted(self.metrics.items()):
            other = self.champion_metrics.get(key)
            found.append((key, value, other, None if other is None else value - other))
        return found


@dataclass(frozen=True, slots=True)
class AddedRun:
    """A run that the left side lacks."""

    run_id: str
    name: str | None
    experiment: str
    status: str
    commit: str
    recorded_at: datetime
    actor: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    deleted: bool = False

    @property
    def reference(self) -> str:
        """How it is named, `run:ID`."""
        return f"run:{self.run_id}"


@dataclass(frozen=True, slots=True)
class AddedDataset:
    """A dataset version that the left side lacks."""

    name: str
    semver: str
    dataset_id: str
    commit: str
    recorded_at: datetime
    actor: str
    description: str | None
    rows: int | None
    bytes: int
    base: str | None
    """The dataset version that its counts compare it with."""
    added: int | None
    removed: int | None
    changed: int | None
    deleted: bool = False

    @property
    def reference(self) -> str:
        """How it is named, such as `flights@1.1.0`."""
        return f"{quote(self.name)}@{self.semver}"


@dataclass(frozen=True, slots=True)
class AddedDeployment:
    """A deployment that the left side lacks."""

    deployment_id: str
    name: str
    version: int | None
    version_id: str
    environment: str
    mode: str
    traffic: float | None
    commit: str
    recorded_at: datetime
    actor: str
    deleted: bool = False

    @property
    def reference(self) -> str:
        """The model version."""
        return f"{quote(self.name)}/{self.version if self.version is not None else '?'}"


@dataclass(frozen=True, slots=True)
class ChangedLabel:
    """Something that can change (an alias, a stage, a tag, a policy, ...) and that the right side has set anew."""

    kind: str
    """As in the table `events`."""
    reference: str
    """What it is of, as people name it."""
    key: str
    before: str | None
    """What it is on the left side, as people write it: the number of a version, a stage, a text. None where unset."""
    after: str | None
    """What it is on the right side; several values where that has not settled them."""
    actor: str
    recorded_at: datetime
    reason: str | None
    commit: str
    subject: str
    conflict: str | None = None
    """What a merge calls it where the left side has set it too since they parted, to something else."""
    reverted: bool = False
    """Whether it was the undoing of something that set it."""

    @property
    def mark(self) -> str:
        """`+` where there was nothing before, `-` where there is nothing now, `~` otherwise."""
        if self.kind == "tombstone":
            return "-" if self.after == "hidden" else "+"
        return "-" if self.after is None else "+" if self.before is None else "~"

    @property
    def sentence(self) -> str:
        """What changed, in one line."""
        if self.kind == "tombstone":
            gone = "reverted" if self.reverted or self.reference.startswith("commit ") else "deleted"
            return f"{self.reference} is {gone if self.after == 'hidden' else 'brought back'}"
        what = f"{self.kind} {self.key} of {self.reference}" if self.key else f"{self.kind} of {self.reference}"
        if self.kind == "alias":
            what = f"alias {self.reference}@{self.key}"
        elif self.kind == "traffic":
            what = f"traffic of {self.reference} in {self.key}"
        elif self.kind == "evaluation":
            what = f"evaluation of {self.reference}"
        if self.before is None:
            return f"{what}: {_line(self.after)}"
        return f"{what}: {_line(self.before)} -> {_line(self.after) if self.after is not None else 'none'}"


def _line(text: str | None) -> str:
    """Return the beginning of a text, on one line."""
    words = " ".join((text or "").split())
    return words if len(words) <= 120 else f"{words[:119]}…"


def number_text(value: float | None, *, sign: bool = False) -> str:
    """Return a metric's value as it is shown."""
    return "" if value is None else f"{value:+.6g}" if sign else f"{value:.6g}"
