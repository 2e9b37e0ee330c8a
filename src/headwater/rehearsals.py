"""Rehearsals: what can't be rehearsed, and how a process learns that it is part of one; opens no lake."""

from __future__ import annotations

import os
from collections.abc import Mapping

from headwater.errors import InvalidInputError

__all__ = ["REFUSED", "VARIABLE", "branch", "refusal"]

VARIABLE = "HEADWATER_REHEARSAL"
"""Names the hidden branch of a rehearsal to the programs that it starts, which then write to no other one."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("branch", "tag", "switch"), "it makes and deletes names, and changes nothing of what is on a branch"
    ),
    **dict.fromkeys(("push", "pull-from"), "what has reached another lake can't be thrown away"),
    "init": "it makes a lake",
    "gc": "`headwater gc --dry-run` says what it would delete",
    "rehearse": "name the command itself",
}
"""Commands that are about more than what is on one branch, and what to say of each."""


def branch(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the hidden branch of the rehearsal that this process is part of, or None."""
    return environ.get(VARIABLE) or None


def refusal(command: str) -> InvalidInputError:
    """Return what to raise where a command is not to be rehearsed."""
    return InvalidInputError(f"`headwater {command}` can't be rehearsed", hint=REFUSED[command])
