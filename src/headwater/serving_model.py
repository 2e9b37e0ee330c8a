"""What people hold of serving: frozen dataclasses of deployments, routes, predictions and batches; no rules, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Deployment", "LoggedBatch", "LoggerStatus", "Prediction", "Route", "RouterStatus"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model version that was deployed to an environment, as of the commit that it was read at."""

    deployment_id: str
    name: str
    version: int
    version_id: str
    model_id: str
    environment: str
    mode: str
    """`live`, `canary` or `shadow`."""
    traffic: float | None
    """Percent of the environment's requests that it gets now; a shadow gets copies. None where it serves no more."""
    live: bool
    """Whether it serves now, in whatever mode."""
    commit: str
    recorded_at: datetime
    actor: str
    ended_at: datetime | None = None
    ended_by: str | None = None
    reason: str | None = None
    gone: str | None = None
    """`deleted` or `reverted` where its version is, though it may serve still."""

    @property
    def reference(self) -> str:
        """The model version, as it is named on any branch."""
        from headwater.names import quote

        return f"{quote(self.name)}/{self.version}"


@dataclass(frozen=True, slots=True)
class Route:
    """Which version answers a request, as serving code needs it."""

    name: str
    version: int
    version_id: str
    environment: str
    mode: str
    """`live` or `canary`; of one among `shadows`, `shadow`."""
    traffic: float
    """Percent of the environment's requests that it gets."""
    deployment_id: str | None
    """What its predictions are logged for; None where the version is champion and nothing was deployed."""
    commit: str
    """The head of the branch that this was read at."""
    shadows: tuple[Route, ...] = ()
    """What gets a copy of this request."""
    stale_since: datetime | None = None
    """Since when the lake has not answered, so that this is the last that is known; None while it answers."""

    @property
    def reference(self) -> str:
        """The model version, as it is named on any branch."""
        from headwater.names import quote

        return f"{quote(self.name)}/{self.version}"


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """How fresh the answers of a router are."""

    commit: str | None
    """The head that they are from; None where nothing was asked yet, or where they are from several."""
    checked_at: datetime | None
    """When the lake last said that this is its head."""
    stale_since: datetime | None
    """The same, where it has not answered since, or could not be understood; None while all is well."""
    error: str | None
    """Why it was not."""


@dataclass(frozen=True, slots=True)
class LoggedBatch:
    """A file of predictions or of outcomes that was taken in."""

    digest: str
    """sha256 of the file; of a table in memory, of its rows."""
    rows: int
    """Rows in it."""
    created: bool
    """False where it had been logged before, and nothing is new."""
    commit: str
    """The commit that its rows were written in."""
    source: str
    deployment_id: str | None
    version_id: str | None
    first_at: datetime | None
    """The earliest `predicted_at` (or `observed_at`) in it."""
    last_at: datetime | None
    unknown: int | None = None
    """Of outcomes by external ID: how many external IDs the deployment has no prediction of; these are left out."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction, with the outcome that stands."""

    prediction_id: str
    predicted_at: datetime
    name: str
    version: int
    version_id: str
    deployment_id: str
    environment: str
    mode: str
    external_id: str | None
    input: Mapping[str, Any] | None
    dataset_id: str | None
    row_key: Mapping[str, Any] | None
    output: str | None
    score: float | None
    latency_ms: float | None
    label: str | None
    observed_at: datetime | None
    commit: str
    recorded_at: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class LoggerStatus:
    """How far a logger's predictions have come."""

    deployment_id: str
    logged: int
    """Predictions and outcomes that this logger was given."""
    landed: int
    """Of these, how many are in the lake."""
    waiting: int
    """How many are in the spool only."""
    segments: int
    """Files of the spool that are closed and not in the lake yet."""
    error: str | None
    """Why the last attempt to reach the lake failed; None where it did not."""
    spool: str
    """The folder of the spool."""
