"""The grammar of refs: branches, tags, commits, `main~3` and `main@{time}`, on any lake; knows nothing of models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from headwater.errors import InvalidInputError, NotFoundError
from headwater.ids import timestamp
from headwater.lake.base import HIDDEN_PREFIX, MOVE, ORIGIN, REHEARSAL_PREFIX, Commit, Lake
from headwater.names import check_type, shown

__all__ = [
    "Ref",
    "beneath",
    "head",
    "is_branch",
    "landings",
    "locate",
    "mistaken",
    "origin_of",
    "parse_time",
    "resolve",
    "settled",
]

_REF = re.compile(r"(?P<base>[^~@{}\s]+)(?:@\{(?P<time>[^{}]*)\})?(?P<steps>(?:~[0-9]*)*)")
_BRANCH = re.compile(r"\w[-\w]*", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{8,64}")
_WHOLE = re.compile(r"[0-9a-f]{64}")
_LONGEST = 1000
_LIST_BRANCHES = "`headwater branch` lists them"


@dataclass(frozen=True, slots=True)
class Ref:
    """What a ref came to: a commit ID, and the branch if the ref is one's plain name."""

    commit: str
    branch: str | None


def resolve(lake: Lake, text: str, *, landed_by: Callable[[str, int], str | None] | None = None) -> Ref:
    """Resolve a ref, tried in the order branch, tag, commit.

    Args:
        lake: The lake.
        text: The ref.
        landed_by: Returns the head that a branch had at a time, or None, where that is known without reading its log.

    Raises:
        InvalidInputError: It is malformed, or short for several commits.
        NotFoundError: Nothing has that name, or the history does not go back that far.
    """
    found = _REF.fullmatch(check_type(text, "ref"))
    if found is None or len(text) > _LONGEST:
        raise InvalidInputError(f"not a ref: {shown(text)}", hint=_meant(text))
    commit, branch = _base(lake, found["base"])
    if found["time"] is not None:
        if branch is None:
            raise InvalidInputError(f"{shown(text)}: only a branch can be asked for a time", hint="write main@{...}")
        micros = parse_time(found["time"])
        then = landed_by(branch, micros) if landed_by is not None else None
        commit = then or _at_time(lake, branch, commit, micros)
    for step in found["steps"].split("~")[1:]:
        commit = _back(lake, commit, int(step[:10]) if step else 1, text)
    if found["time"] is not None or found["steps"]:
        branch = None
    return Ref(commit, branch)


def _meant(text: str) -> str:
    """Return what a user of git may have meant."""
    if ".." in text:
        return "give two refs apart from each other, such as main exp-42"
    if "^" in text:
        return "write main~1 for the commit before"
    return "write a branch, a tag, a commit, main~3 or main@{2026-11-01T00:00:00Z}"


def head(lake: Lake, branch: str) -> str:
    """Return the head of a branch by a name that somebody wrote; no lake is asked for what can't be one's.

    Raises:
        NotFoundError: There is no such branch.
    """
    if not _may_be_branch(check_type(branch, "branch")):
        raise NotFoundError(f"there is no branch {shown(branch)}", hint=_LIST_BRANCHES)
    try:
        return lake.head(branch)
    except NotFoundError:
        raise NotFoundError(f"there is no branch {shown(branch)}", hint=_nearest(lake, branch)) from None


def mistaken(resolve: Callable[[str], Ref], text: str) -> tuple[str, str] | None:
    """Return what a text is that was given where a model is wanted, and which command takes it; None: nothing we know.

    Args:
        resolve: Resolves a ref in the lake.
        text: What was given.
    """
    left, dots, right = text.partition("..")
    if dots:
        two = f" {left} {right.lstrip('.')}" if left and right.strip(".") else ""
        return "a range, as git writes it", f"`headwater diff{two or ' REF REF'}` compares two refs"
    if text == "HEAD":
        return "git's word", "name the branch instead, such as main: `headwater log --ref main`"
    with suppress(NotFoundError, InvalidInputError):
        found = resolve(text)
        if found.branch is not None:
            return "a branch", f"`headwater log --ref {text}` shows what happened up to it"
        if _HEX.fullmatch(text) is None and "~" not in text:
            return "a tag", f"`headwater log --ref {text}` shows what happened up to it"
        return (
            "a commit",
            f"`headwater log --ref {text}` shows what led to it, `headwater diff {text}~1 {text}` its own",
        )
    return None


def is_branch(lake: Lake, name: str) -> bool:
    """Return whether there is a branch of a name that somebody wrote."""
    return _may_be_branch(name) and name in lake.branches()


def _may_be_branch(name: str) -> bool:
    """Return whether a name that somebody wrote can be a branch's. That of a rehearsal is handed to its processes."""
    hidden = name.startswith(HIDDEN_PREFIX) and not name.startswith(REHEARSAL_PREFIX)
    return not hidden and len(name) <= _LONGEST and _BRANCH.fullmatch(name) is not None


def _nearest(lake: Lake, branch: str) -> str:
    """Return a hint for who named a branch that is not there."""
    if branch in lake.tags():
        return (
            f"it is a tag: it can be read with --ref {branch}, and `headwater branch NAME --from {branch}` begins there"
        )
    import difflib

    close = difflib.get_close_matches(branch, lake.branches(), 1)
    return f"did you mean {close[0]}?" if close else _LIST_BRANCHES


def origin_of(commit: Commit) -> str:
    """Return the ID that a commit had in the lake that made it first: what rows say, because all its copies know it."""
    return commit.metadata.get(ORIGIN, commit.id)


def settled(lake: Lake, commit: str) -> str:
    """Return the commit that a branch was moved to, where a commit only moved one; else the commit itself."""
    while (found := beneath(lake, lake.get_commit(commit))) is not None:
        commit = found
    return commit


def beneath(lake: Lake, commit: Commit) -> str | None:
    """Return what a branch was moved to by a merge that did no more than that: its tree tells, whatever it says."""
    if commit.metadata.get("headwater.kind") != MOVE or len(commit.parents) != 2:
        return None
    second = commit.parents[1]
    return second if next(iter(lake.diff(second, commit.id)), None) is None else None


def landings(lake: Lake, commit: str) -> Iterator[Commit]:
    """Yield what a branch was, newest first; that it was moved in this lake makes no difference to its history."""
    following: str | None = commit
    while following is not None:
        start, following = following, None
        for each in lake.log(start, first_parent=True):
            following = beneath(lake, each)
            if following is not None:
                break
            yield each


def locate(lake: Lake, commit: str) -> str:
    """Return the ID that a commit which a row names has in this lake, which may be a copy's."""
    if not lake.find_commits(commit):
        return next(iter(lake.find_copies(commit)), commit)
    return commit


def _base(lake: Lake, name: str) -> tuple[str, str | None]:
    if _WHOLE.fullmatch(name) and lake.find_commits(name):
        return name, None
    if _may_be_branch(name):
        with suppress(NotFoundError):
            return lake.head(name), name
    tags = lake.tags()
    if name in tags and not name.startswith(HIDDEN_PREFIX):
        return tags[name], None
    if _HEX.fullmatch(name):
        commits = lake.find_commits(name) or lake.find_copies(name)
        if len(commits) == 1:
            return commits[0], None
        if commits:
            raise InvalidInputError(f"{name!r} is short for several commits", hint="give more digits")
    raise NotFoundError(f"there is no branch, tag or commit {shown(name)}", hint=_likely(lake, name, tags))


def _likely(lake: Lake, name: str, tags: Iterable[str]) -> str:
    """Return a hint for who wrote a ref that is nothing's."""
    if name == "HEAD":
        return "name the branch instead, such as main or main~1"
    if re.fullmatch(r"[0-9a-f]{4,7}", name):
        return "a commit's ID needs 8 digits or more"
    if _HEX.fullmatch(name.lower()):
        return "`headwater log` lists commits" if name == name.lower() else "commit IDs are in small letters"
    if ".." in name or "^" in name:
        return _meant(name)
    last = name.rpartition("/")[2]
    if last != name and last in lake.branches():
        return f"did you mean {last}? Branches of a lake have no remotes and no folders"
    import difflib

    close = difflib.get_close_matches(name, [*lake.branches(), *tags], 1)
    return f"did you mean {close[0]}?" if close else "`headwater branch` and `headwater tag` list what there is"


def _back(lake: Lake, commit: str, steps: int, text: str) -> str:
    count, first = -1, ""
    for count, each in enumerate(landings(lake, commit)):
        first = each.id
        if count == steps:
            return first
    raise NotFoundError(
        f"the history does not go back as far as {shown(text)}",
        hint=f"its first commit is {count} {'step' if count == 1 else 'steps'} back: {first[:12]}",
    )


def _at_time(lake: Lake, branch: str, commit: str, micros: int) -> str:
    """Return the last first-parent commit that was made by a time, as the branch's own clock has it.

    Clocks of machines differ, and time must not go backwards: a commit is as late as the latest before it.
    """
    found, first = None, 0
    for each in landings(lake, commit):
        if each.micros > micros:
            found = None
        elif found is None:
            found = each.id
        first = each.micros
    if found is None:
        raise NotFoundError(
            f"branch {branch!r} had no commit yet at {timestamp(micros)}", hint=f"its first is of {timestamp(first)}"
        )
    return found


def parse_time(text: str) -> int:
    """Return an ISO 8601 date or time as microseconds since 1970-01-01 UTC; without a zone it is UTC.

    Raises:
        InvalidInputError: It is not one.
    """
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        steps = f", or main~{text} to step back" if re.fullmatch("[0-9]{1,6}", text) else ""
        raise InvalidInputError(f"not a time: {shown(text)}", hint=f"write 2026-11-01T00:00:00Z{steps}") from None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
