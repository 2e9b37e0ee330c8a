"""What each role may do, which right an event needs, and what a pattern of names matches; knows no lake.

The one table of roles and rights. `headwater.trust` asks it when an event is written, and again when it is read.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping

from headwater.errors import InvalidInputError
from headwater.names import shown

__all__ = [
    "APPROVE",
    "GOVERN",
    "LABEL",
    "PROMOTE",
    "PROTECTED",
    "RIGHTS",
    "ROLES",
    "SERVE",
    "TELEMETRY",
    "WRITE",
    "check_pattern",
    "check_role",
    "covers",
    "is_pattern",
    "matches",
    "protected",
    "right_for",
    "says_nothing",
]

ROLES = ("viewer", "author", "reviewer", "deployer", "admin")

WRITE, LABEL, APPROVE, PROMOTE, SERVE, GOVERN = "write", "label", "approve", "promote", "serve", "govern"

RIGHTS: Mapping[str, frozenset[str]] = {
    WRITE: frozenset({"author", "reviewer", "deployer", "admin"}),
    LABEL: frozenset({"author", "deployer", "admin"}),
    # Which approvals count, a policy says: it may name any role.
    APPROVE: frozenset({"author", "reviewer", "deployer", "admin"}),
    PROMOTE: frozenset({"reviewer", "deployer", "admin"}),
    SERVE: frozenset({"reviewer", "deployer", "admin"}),
    GOVERN: frozenset({"admin"}),
}
"""By right, the roles that have it: to write anything at all, to register and label, to approve, to promote, to serve
outside of production, to govern (policies, roles, keys, overrides, actions)."""

WORDS: Mapping[str, str] = {
    WRITE: "write",
    LABEL: "register or change",
    APPROVE: "approve",
    PROMOTE: "promote",
    SERVE: "deploy",
    GOVERN: "govern",
}
"""By right, the verb of a refusal."""

PROTECTED = frozenset({"champion"})
"""Aliases that a promotion moves."""

TELEMETRY = frozenset({"param", "status", "landed"})
"""Kinds of events that only tell how a run goes: signed where the lake is, and not judged."""

_ALWAYS = frozenset({"stage", "policy", "role", "key", "approval", "override", "action", "gate", "refusal"})
_PATTERN = re.compile(r"[a-z0-9._*-]{1,128}")


def protected(kind: str, key: str) -> bool:
    """Return whether an event has force only on the branch that it was made for, and never by a merge's union."""
    return (
        kind in _ALWAYS
        or kind == "endorsement"
        or (kind == "alias" and key in PROTECTED)
        or (kind == "traffic" and key == "production")
    )


def says_nothing(kind: str, value: str | None) -> bool:
    """Return whether an event says what is so where no event is: a merge settles by such ones what it does not take."""
    if kind == "key":
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            return json.loads(value or "null").get("revoked") is True
        return False
    return value is None or (kind, value) in (("role", "revoked"), ("traffic", "[]"))


def right_for(kind: str, key: str, value: str | None, standing: str | None) -> str:
    """Return the right that an event needs.

    Args:
        kind: The event's.
        key: The event's.
        value: The event's.
        standing: What stands in its place now.
    """
    if kind in ("policy", "role", "key", "override", "action"):
        return GOVERN
    if kind == "approval":
        return APPROVE
    if kind == "stage":
        return PROMOTE if "production" in (value, standing) else LABEL
    if kind in ("gate", "refusal"):
        return PROMOTE if key.partition(" ")[0] == "production" else LABEL
    if kind == "alias":
        return PROMOTE if key in PROTECTED else LABEL
    if kind == "traffic":
        return PROMOTE if key == "production" else SERVE
    if kind in ("endorsement", "delivered"):
        return WRITE
    return LABEL


def check_role(role: str) -> str:
    """Return a role.

    Raises:
        InvalidInputError: There is none of that name.
    """
    if role not in ROLES:
        raise InvalidInputError(f"not a role: {shown(role)}", hint=f"choose {', '.join(ROLES)}")
    return role


def check_pattern(pattern: str) -> str:
    """Return a pattern of model names, in which `*` alone means something: any run of characters.

    Raises:
        InvalidInputError: It is empty, has characters that no name has, or can match no name for another reason.
    """
    # Names begin with a letter or a digit, and have no `..`.
    if not is_pattern(pattern) or pattern[0] in "._-" or ".." in pattern:
        raise InvalidInputError(
            f"not a pattern of model names: {shown(pattern)}",
            hint="write a name, or one with `*` for any run of characters, such as flight-*; * alone is every model",
        )
    return pattern


def is_pattern(pattern: str) -> bool:
    """Return whether a text is a pattern of model names."""
    return _PATTERN.fullmatch(pattern) is not None and "**" not in pattern


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern matches the whole of a name; one that is malformed matches nothing."""
    if not is_pattern(pattern):
        return False
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


def covers(pattern: str, other: str) -> bool:
    """Return whether a pattern matches all that another one matches."""
    # No literal of a pattern is `*`, so a `*` of the other one is matched by one alone.
    return matches(pattern, other)
