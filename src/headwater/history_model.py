"""What people hold of a model's story: frozen dataclasses for what happened, and for what was at a time; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Happening", "HistoryEntry", "ModelMoment", "Share"]


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that a transaction did to a model."""

    kind: str
    """As its event is called (`stage`, `alias`, `gate`, …), `registered` or `deployed`."""
    version: int | None
    """The version that it is about; None where it is about the model."""
    key: str
    """What of it: an alias, an environment, a gate of a stage."""
    value: Any
    """What it says now; of kinds whose values are JSON, what that holds."""
    before: tuple[Any, ...]
    """What it said before: several where that was not settled."""
    text: str
    """In words."""
    mark: str
    """`override`, `refused` (gates did not let a version in), `failed` (a gate or check did not pass), `no force` (it
    was written by somebody who may not), or empty."""
    event_id: str | None
    """None where it is a row of another table."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A transaction of a model's story."""

    commit: str | None
    """None for rows that no commit vouches for: somebody put them into a signed lake's tables past Headwater."""
    recorded_at: datetime
    """When it was written, by the clock of the machine that did."""
    landed_at: datetime
    """When it reached the branch that is read, by the branch's own time, which never goes backwards."""
    actor: str
    kind: str
    """As the log calls it: `register`, `promote`, `rollback`, …"""
    message: str
    reason: str | None
    happenings: tuple[Happening, ...]

    @property
    def overridden(self) -> bool:
        """Whether an admin let a version in though gates failed."""
        return any(each.mark == "override" for each in self.happenings)


@dataclass(frozen=True, slots=True)
class Share:
    """What served in an environment."""

    version: int
    version_id: str
    mode: str
    percent: float | None
    deployment_id: str


@dataclass(frozen=True, slots=True)
class ModelMoment:
    """What a model was at a time, as its branch had it then."""

    name: str
    """What it was called."""
    model_id: str
    time: datetime
    commit: str
    """The head that the branch had."""
    deleted: bool
    champion: int | None
    aliases: Mapping[str, int]
    stages: Mapping[int, str]
    """By version, of those that were there and not deleted; `none` for one that had entered no stage."""
    traffic: Mapping[str, tuple[Share, ...]]
    """By environment."""
    unsettled: tuple[str, ...]
    """What two branches had set differently and nobody had settled, in words."""
    entries: tuple[HistoryEntry, ...]
    """What had happened until then, newest first."""
