"""What people hold of notifications: frozen dataclasses for actions, notifications and deliveries; no rules, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["EVENTS", "Action", "Delivery", "Notification", "NotificationTarget"]

EVENTS = {
    "promoted": "a version entered staging or production",
    "refused": "gates refused a promotion",
    "rolled-back": "a rollback or a revert changed what is in production",
    "traffic": "shares of production's requests changed, and nothing else",
    "approved": "somebody approved a promotion",
}
"""What an action can be for, and when it happens."""


@dataclass(frozen=True, slots=True)
class NotificationTarget:
    """What an action does: it posts to a URL, or it runs a command; never both.

    Attributes:
        webhook: The URL.
        secret_env: The environment variable, of the machine that delivers, which holds the secret that signs.
        secret_file: The file there which holds it.
        allow_private: Whether the URL may be of this machine or of a private network.
        command: The program and its arguments; no shell reads them.
    """

    webhook: str | None = None
    secret_env: str | None = None
    secret_file: str | None = None
    allow_private: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """Something that is done when something happens to a model, or to any model whose name matches a pattern."""

    name: str
    model: str
    """The model's name, or the pattern."""
    on: tuple[str, ...]
    """Of `EVENTS`."""
    webhook: str | None
    command: tuple[str, ...]
    secret: str | None
    """Where the secret is, on the machine that delivers: `env VAR` or `file PATH`; never the secret."""
    allow_private: bool
    branch: str
    """What happens on this branch is told; on any other one the action does nothing."""
    commit: str | None
    recorded_at: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing that happened and that one action tells of.

    Attributes:
        key: The idempotency key: the same however often it is delivered, and by whomever.
        position: Where it landed in the branch's history; of one model, it only ever rises.
        commit: The transaction's commit.
        stage: The stage that the version entered, or was refused or approved for.
        previous: The number of the version that was in production before.
        traffic: Percent of production's requests that the version gets, where that changed.
        gates: Of a refusal: the gates that did not pass.
    """

    key: str
    action: str
    event: str
    model: str
    model_id: str
    version: int | None
    version_id: str | None
    stage: str | None
    previous: int | None
    traffic: float | None
    gates: tuple[str, ...]
    actor: str
    reason: str | None
    commit: str
    tx: str
    position: int
    landed_at: datetime
    branch: str
    status: str = "pending"
    """`pending` or `waiting` (a try failed; another one comes)."""
    tries: int = 0
    next_try_at: datetime | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """What happened, in a sentence for people."""
        what = self.model if self.version is None else f"{self.model}/{self.version}"
        share = "" if self.traffic is None else f" with {self.traffic:g} % of the requests"
        stage = self.stage or "production"
        said = {
            "promoted": f"{what} was promoted to {stage}{share}",
            "refused": f"{what} was refused for {stage}",
            "rolled-back": f"{self.model} was rolled back" + (f" to {what}" if self.version is not None else ""),
            "traffic": f"{what} gets other requests now" if self.traffic is None else f"{what} serves{share}",
            "approved": f"{what} was approved for {stage}",
            "test": f"this is a test of the action {self.action} for {self.model}",
        }[self.event]
        why = self.reason or ", ".join(self.gates)
        return f"{said} by {self.actor}" + (f": {why}" if why else "")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of one try to deliver a notification.

    Attributes:
        outcome: `delivered`; `waiting` (it is tried again); `failed` (given up); `blocked` (this machine may or can not
            deliver it, and has not tried: another machine might).
        detail: Why, where it was not delivered.
        output: What a command printed, or its end; never kept in the lake.
    """

    notification: Notification
    outcome: str
    detail: str | None = None
    next_try_at: datetime | None = None
    output: str = field(default="", repr=False)

    def document(self) -> dict[str, Any]:
        """Return it as one flat row."""
        it = self.notification
        return {
            "outcome": self.outcome,
            "detail": self.detail,
            "next_try_at": self.next_try_at,
            "action": it.action,
            "event": it.event,
            "model": it.model,
            "version": it.version,
            "commit": it.commit,
            "idempotency_key": it.key,
            "tries": it.tries,
        }
