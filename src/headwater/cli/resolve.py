"""The command `resolve`, on its own because scripts call it often: it imports as little as can be."""

from __future__ import annotations

from headwater.cli.base import Session, argument, command
from headwater.cli.output import strong

__all__ = ["resolve"]


@command("resolve", ref=True, example="headwater resolve flight-delay@champion")
@argument("reference", "NAME@ALIAS", complete="version")
def resolve(session: Session, reference: str) -> None:
    """Print the version that an alias stands for.

    With --json, all about it.
    """
    with session.open() as registry:
        found = registry.resolve(reference)
    session.emit(found, lambda: [strong(found.reference)])
