"""The grammar of refs: branches, tags, commits, `main~3` and `main@{time}`, on any lake; knows nothing of models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from headwater.errors import InvalidInputError, NotFoundError
from headwater.lake.base import HIDDEN_PREFIX, ORIGIN, Commit, Lake

__all__ = ["Ref", "head", "locate", "origin_of", "parse_time", "resolve"]

_REF = re.compile(r"(?P<base>[^~@{}\s]+)(?:@\{(?P<time>[^{}]*)\})?(?P<steps>(?:~[0-9]*)*)")
_BRANCH = re.compile(r"\w[-\w]*", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{8,64}")
_FURTHEST = 10**9


@dataclass(frozen=True, slots=True)
class Ref:
    """What a ref came to: a commit ID, and the branch if the ref is one's plain name."""

    commit: str
    branch: str | None


def resolve(lake: Lake, text: str) -> Ref:
    """Resolve a ref, tried in the order branch, tag, commit.

    Raises:
        InvalidInputError: It is malformed, or short for several commits.
        NotFoundError: Nothing has that name, or the history does not go back that far.
    """
    found = _REF.fullmatch(text)
    if found is None or len(text) > 1000:
        raise InvalidInputError(
            f"not a ref: {text[:80]!r}", hint="write a branch, a tag, a commit, main~3 or main@{2026-11-01T00:00:00Z}"
        )
    commit, branch = _base(lake, found["base"])
    if found["time"] is not None:
        if branch is None:
            raise InvalidInputError(f"{text!r}: only a branch can be asked for a time", hint="write main@{...}")
        commit = _at_time(lake, commit, parse_time(found["time"]), text)
    for step in found["steps"].split("~")[1:]:
        commit = _back(lake, commit, int(step[:10]) if step else 1, text)
    if found["time"] is not None or found["steps"]:
        branch = None
    return Ref(commit, branch)


def head(lake: Lake, branch: str) -> str:
    """Return the head of a branch by a name that somebody wrote; no lake is asked for what can't be one's.

    Raises:
        NotFoundError: There is no such branch.
    """
    if branch.startswith(HIDDEN_PREFIX) or not _BRANCH.fullmatch(branch):
        raise NotFoundError(f"there is no branch {branch[:80]!r}", hint="`headwater log` lists commits")
    return lake.head(branch)


def origin_of(commit: Commit) -> str:
    """Return the ID that a commit had in the lake that made it first: what rows say, because all its copies know it."""
    return commit.metadata.get(ORIGIN, commit.id)


def locate(lake: Lake, commit: str) -> str:
    """Return the ID that a commit which a row names has in this lake, which may be a copy's."""
    if not lake.find_commits(commit):
        return next(iter(lake.find_copies(commit)), commit)
    return commit


def _base(lake: Lake, name: str) -> tuple[str, str | None]:
    if not name.startswith(HIDDEN_PREFIX):
        if _BRANCH.fullmatch(name):
            try:
                return lake.head(name), name
            except NotFoundError:
                pass
        tagged = lake.tags().get(name)
        if tagged is not None:
            return tagged, None
    if _HEX.fullmatch(name):
        commits = lake.find_commits(name) or lake.find_copies(name)
        if len(commits) == 1:
            return commits[0], None
        if commits:
            raise InvalidInputError(f"{name!r} is short for several commits", hint="give more digits")
    short = re.fullmatch(r"[0-9a-f]{4,7}", name)
    hint = "a commit's ID needs 8 digits or more" if short else "`headwater log` lists commits"
    raise NotFoundError(f"there is no branch, tag or commit {name!r}", hint=hint)


def _back(lake: Lake, commit: str, steps: int, text: str) -> str:
    if steps < _FURTHEST:
        for count, each in enumerate(lake.log(commit, first_parent=True)):
            if count == steps:
                return each.id
    raise NotFoundError(f"the history does not go back as far as {text!r}", hint="`headwater log` lists commits")


def _at_time(lake: Lake, commit: str, micros: int, text: str) -> str:
    for each in lake.log(commit, first_parent=True):
        if each.micros <= micros:
            return each.id
    raise NotFoundError(f"{text!r} is before the first commit", hint="`headwater log` lists commits with their times")


def parse_time(text: str) -> int:
    """Return an ISO 8601 date or time as microseconds since 1970-01-01 UTC; without a zone it is UTC.

    Raises:
        InvalidInputError: It is not one.
    """
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInputError(f"not a time: {text!r}", hint="write 2026-11-01T00:00:00Z") from None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
