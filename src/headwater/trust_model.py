"""What people hold of roles and keys: frozen, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["Grant", "Key"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A role that somebody holds.

    Attributes:
        role: `viewer`, `author`, `reviewer`, `deployer` or `admin`.
        name: Who holds it.
        pattern: On which models: a name, or a pattern with `*`, of the names that models were made with.
        principal: Whom it is bound to: a key's ID, or `actor:NAME` in a lake that is not signed.
        recorded_at: Since when.
        granted_by: By whom.
        reason: Why.
        enrolled: Whether his key was enrolled with it.
    """

    role: str
    name: str
    pattern: str
    principal: str
    recorded_at: datetime | None
    granted_by: str | None
    reason: str | None = None
    enrolled: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """A public key.

    Attributes:
        key_id: The first 32 hex digits of the sha256 of its bytes.
        name: The actor that it stands for.
        public: Its bytes, in Base64.
        enrolled: Whether the lake knows it.
        revoked: Whether the lake does not take its signatures any more.
        local: Whether its private key is on this machine.
        recorded_at: Since when the lake knows it so.
        actor: Who enrolled or revoked it.
    """

    key_id: str
    name: str
    public: str
    enrolled: bool
    revoked: bool
    local: bool
    recorded_at: datetime | None = None
    actor: str | None = None

    @property
    def line(self) -> str:
        """What `headwater key add NAME` takes, as the file of a public key has it."""
        return f"ed25519 {self.public} {self.name}"
