"""Copying commits from one lake to another through the port alone: which are missing, and sending them; moves no refs.

A commit is known by the ID that it had in the lake that made it first. A lake that gives a copy another ID keeps that
one in the copy's metadata (`headwater.origin`), so what is here and what is missing can be told from commits alone,
in both directions and over any number of lakes. A lake's first commit is empty, and stands for that of any other.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from headwater.errors import IntegrityError
from headwater.lake.base import ORIGIN, Change, Commit, Importer, Incoming, Lake
from headwater.lake.refs import beneath, origin_of

__all__ = ["Known", "Plan", "Sent", "Tell", "plan", "plan_named", "send"]

_SMALL = 256 << 10
"""Objects up to this many bytes are fetched side by side, ahead of the commit that brings them."""

_AHEAD = 8
_AHEAD_BYTES = 8 << 20


@dataclass(slots=True)
class Known:
    """The commits of a lake by their first IDs, and the lake's first commit."""

    ids: dict[str, str] = field(default_factory=dict)
    first: str = ""

    @classmethod
    def of(cls, lake: Lake) -> Known:
        """Read the commits of a lake.

        Where two processes copied one commit at the same time, the copy counts that a branch has; and what one of them
        built on a copy that does not count, does not count either.
        """
        known = cls()
        read = [(origin_of(commit), commit.id, commit.parents) for commit in lake.commits()]
        known.ids = {origin: name for origin, name, _ in read}
        idle: set[str] = set()
        for origin, name, parents in read:
            if known.ids.get(origin) != name:
                idle.add(name)
            elif not idle.isdisjoint(parents):
                idle.add(name)
                del known.ids[origin]
        for commit in lake.log(lake.head(lake.default_branch), first_parent=True):
            known.first = commit.id
        return known

    def here(self, commit: Commit) -> str | None:
        """Return the ID that a commit of another lake has here; None where it is missing."""
        return self.ids.get(origin_of(commit)) if commit.parents else self.first


@dataclass(slots=True)
class Plan:
    """What has to be sent so that a lake has some commits of another.

    Attributes:
        missing: Commits of the source that the target lacks, parents first.
        ids: By ID in the source: the ID in the target, of those that are there and that the walk met.
        heads: The commits of the source that are wanted.
        met: By head: commits of the target that are there already, behind which the walk did not look.
        moves: By commit that only moved a branch, and so is not sent: the one that it moved it to.
    """

    missing: list[Commit] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    met: dict[str, set[str]] = field(default_factory=dict)
    moves: dict[str, str] = field(default_factory=dict)

    def image(self, commit: str) -> str:
        """Return the ID in the target of a commit that is there."""
        while commit not in self.ids and commit in self.moves:
            commit = self.moves[commit]
        return self.ids[commit]


def plan(source: Lake, known: Known, heads: Iterable[str], *, whole: bool = False) -> Plan:
    """Return what a lake that knows some commits lacks of those that the source's heads reach.

    Args:
        source: The lake that has them.
        known: What the target has.
        heads: Commit IDs in the source.
        whole: Whether commits that only moved a branch are sent too.
    """
    found = Plan(heads=tuple(dict.fromkeys(heads)))
    chosen: set[str] = set()
    passed: dict[str, set[str]] = {}
    for head in found.heads:
        met: set[str] = set()
        new: list[Commit] = []
        wanted = {head}
        for commit in source.log(head):
            if commit.id not in wanted:
                continue
            wanted.discard(commit.id)
            here = known.here(commit)
            if here is not None:
                found.ids[commit.id] = here
                met.add(here)
            elif commit.id in chosen:
                met |= passed[commit.id]
            elif not whole and (moved_to := beneath(source, commit)) is not None:
                found.moves[commit.id] = moved_to
                wanted.add(moved_to)
            else:
                new.append(commit)
                wanted.update(commit.parents)
            if not wanted:
                break
        for commit in reversed(new):
            chosen.add(commit.id)
            # what lies behind a commit that another head reaches too is not walked again
            passed[commit.id] = met
        found.missing += reversed(new)
        found.met[head] = met
    return found


@dataclass(slots=True)
class Sent:
    """What has been sent, of how many commits in all."""

    total: int = 0
    commits: int = 0
    objects: int = 0
    bytes: int = 0


Tell = Callable[[Sent], None]


def plan_named(source: Lake, known: Known, found: Plan, names: Iterable[str]) -> Plan:
    """Return what has to be sent of commits that rows name, which branches need not reach.

    Args:
        source: The lake that has them; what it has no more is left out.
        known: What the target had.
        found: A plan that was carried out; what it brought is there.
        names: The IDs that they have in the source.
    """
    lone = [
        name
        for name in sorted(set(names))
        if name not in found.ids and source.find_commits(name) and known.here(source.get_commit(name)) is None
    ]
    more = plan(source, known, lone, whole=True)
    more.ids = found.ids | more.ids
    more.moves = found.moves
    more.missing = [commit for commit in more.missing if commit.id not in found.ids]
    return more


def send(source: Lake, importer: Importer, found: Plan, tell: Tell, sent: Sent) -> None:
    """Make the commits that a plan found missing in the target, and complete the plan's `ids`; count them in `sent`.

    Interrupted anywhere, what was made is found by the next plan.

    Raises:
        IntegrityError: The source's bytes or trees are not what was written.
    """
    if not found.missing:
        return
    sent.total += len(found.missing)
    tell(sent)
    with ThreadPoolExecutor(4, "headwater-fetch") as threads:
        for commit, changes, taken in _fetched(source, found.missing, threads):
            parents = tuple(found.image(parent) for parent in commit.parents)
            metadata = {**commit.metadata, ORIGIN: origin_of(commit)}
            copy = replace(commit, parents=parents, metadata=metadata)
            found.ids[commit.id] = importer.commit(copy, changes, taken)
            sent.commits += 1
            sent.objects += sum(1 for each in changes.values() if each is not None)
            sent.bytes += sum(each.size for each in changes.values() if each is not None)
            tell(sent)


_Fetched = tuple[Commit, Mapping[str, Incoming | None], set[str]]


def _fetched(source: Lake, commits: list[Commit], threads: ThreadPoolExecutor) -> Iterator[_Fetched]:
    """Yield commits with what they change, a few of them fetched ahead."""
    ahead: deque[Future[_Fetched]] = deque()
    todo = iter(commits)
    try:
        while True:
            while len(ahead) < _AHEAD and (commit := next(todo, None)) is not None:
                ahead.append(threads.submit(_fetch, source, commit))
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        for each in ahead:
            each.cancel()


def _fetch(source: Lake, commit: Commit) -> _Fetched:
    if not commit.parents:
        raise IntegrityError(
            f"commit {commit.id} has no parents, and is not the lake's first", hint="restore the lake from a copy"
        )
    changed = list(source.diff(commit.parents[0], commit.id))
    taken: set[str] = set()
    if len(commit.parents) > 1:
        not_theirs = {each.path for each in source.diff(commit.parents[1], commit.id)}
        taken = {each.path for each in changed if each.path not in not_theirs}
        changed = [each for each in changed if each.path in not_theirs]
    return commit, _incoming(source, commit.id, changed), taken


def _incoming(source: Lake, commit: str, changed: list[Change]) -> dict[str, Incoming | None]:
    near: list[str] = []
    held = 0
    for each in changed:
        if each.kind != "removed" and each.size <= _SMALL and held + each.size <= _AHEAD_BYTES:
            near.append(each.path)
            held += each.size
    bodies = source.read_many(commit, near)
    found: dict[str, Incoming | None] = {}
    for each in changed:
        body = bodies.get(each.path)
        if each.kind == "removed":
            found[each.path] = None
        elif body is not None:
            found[each.path] = Incoming(len(body), _holding(body))
        else:
            found[each.path] = Incoming(each.size, _opening(source, commit, each.path))
    return found


def _holding(body: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(body)


def _opening(source: Lake, commit: str, path: str) -> Callable[[], BinaryIO]:
    return lambda: source.open(commit, path)
