"""Who holds which role now, as a folded state has it; grants nothing, and refuses nothing."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

from headwater.state import Fold

__all__ = ["ACTOR", "called", "counts"]

ACTOR = "actor:"
"""Before the name of a principal that is no key."""


def called(fold: Fold, principal: str) -> str:
    """Return the name of whoever a principal is: of a key, the one that it was enrolled for."""
    if principal.startswith(ACTOR):
        return principal.removeprefix(ACTOR)
    for _, value in fold.standing(principal, "key"):
        try:
            return str(json.loads(value or "null")["name"])
        except (ValueError, KeyError, TypeError):
            continue
    return principal


def counts(fold: Fold, principal: str, role: str, model_id: str) -> bool:
    """Return whether somebody's word counts where a role is asked for.

    In an unsigned lake everybody's does until somebody was granted that role, or `admin`, on the model.
    """
    names = fold.rows(
        "SELECT value FROM events WHERE subject = ? AND kind = 'name' ORDER BY recorded_at, event_id LIMIT 1", model_id
    )
    name = str(names[0][0]) if names else model_id
    held: dict[tuple[str, str], set[str | None]] = {}
    for who, key, value in fold.rows("SELECT subject, key, value FROM events WHERE standing AND kind = 'role'"):
        held.setdefault((who, key), set()).add(value)
    granted = {
        (who, key.partition(" ")[0])
        for (who, key), values in held.items()
        # Where two branches disagree, revoked stands.
        if values == {"granted"} and fnmatchcase(name, key.partition(" ")[2])
    }
    if not fold.signed and not any(each in (role, "admin") for _, each in granted):
        return True
    return (principal, role) in granted
