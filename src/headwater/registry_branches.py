"""The part of a registry that is about branches of the whole of it; every method asks a service and has no rules."""

from __future__ import annotations

from headwater.registry_services import Services

__all__ = ["Branching"]


class Branching(Services):
    """Branches, tags, differences, merges and undo, as methods of a registry."""

    def branches(self) -> dict[str, str]:
        """Return every branch with its head's commit ID."""
        return self._context.lake.branches()
