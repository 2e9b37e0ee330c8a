"""What people hold of watching a model: frozen dataclasses for one look at what serves; no rules, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headwater.governance_model import GateResult, Promotion

__all__ = ["Look", "Watched"]


@dataclass(frozen=True, slots=True)
class Look:
    """How one version that serves does by the live gates."""

    version: int
    version_id: str
    mode: str
    """`live`, `canary` or `shadow`."""
    traffic: float | None
    deployment_id: str
    verdict: str
    """`ok`, `failed`, `not yet` (too few predictions, and no gate failed on enough), or `no gates`."""
    results: tuple[GateResult, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """One look at what serves of a model, and what came of it."""

    name: str
    commit: str
    """The commit whose predictions were judged."""
    looked_at: datetime
    looks: tuple[Look, ...]
    failed: bool
    """Whether a gate failed on what answers requests: a shadow that fails harms nobody."""
    rolled_back: Promotion | None
    note: str | None
    """Why nothing was rolled back though a gate failed."""
