"""Whose word counts now where a role is asked for, as a folded state has it; grants nothing, and refuses nothing."""

from __future__ import annotations

from headwater.access import matches
from headwater.state import Fold

__all__ = ["counts", "person"]


def person(fold: Fold, principal: str) -> str:
    """Return the name of whoever a principal is: of a key, the one that it was enrolled for."""
    return fold.judge().called(principal)


def counts(fold: Fold, principal: str, role: str, model_id: str) -> bool:
    """Return whether somebody's word counts where a role is asked for, on a model.

    In an unsigned lake everybody's does until somebody was granted that role, or `admin`, on the model. In a signed one
    only that of a key which is enrolled now.
    """
    judge = fold.judge()
    name = judge.name_of(model_id) or model_id
    if fold.root is None:
        granted = {each for _, each, pattern in judge.grants() if matches(pattern, name)}
        if not granted & {role, "admin"}:
            return True
    else:
        key = judge.key(principal)
        if key is None or key["revoked"]:
            return False
    return any(each == role and matches(pattern, name) for each, pattern in judge.roles(principal))
