"""Moving a history between two lakes: which branches and tags go, whether they may, and what they come to.

How commits are told apart and copied is `headwater.replication`'s; here are the rules: the lakes are copies of one
registry, a number means one thing in both, and a branch only ever moves to what descends from where it is.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from headwater import clashes, config, marker
from headwater.conflicts import MergeConflictError
from headwater.context import Context
from headwater.errors import (
    AlreadyExistsError,
    ConflictError,
    HeadwaterError,
    IntegrityError,
    InvalidInputError,
    LakeError,
    NotFoundError,
    RaceLostError,
)
from headwater.fold import KIND, TX
from headwater.lake import connect as lakes
from headwater.lake import refs
from headwater.lake.base import PIN_PREFIX, Lake
from headwater.merge import Merge, Merges
from headwater.names import check_branch, check_tag, check_text, shown
from headwater.replication import Known, Plan, Sent, Tell, plan, plan_named, send
from headwater.state import Folds

__all__ = ["Moved", "Moving"]

_FEW = 4
"""Commits that a lake has at most in which nothing has happened: its first, and those of `init`."""

_ATTEMPTS = 5
"""Times that everything is looked at from the start, where another writer was faster."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a push or a pull has brought to the lake that received it.

    Attributes:
        url: The other lake.
        branches: Branches that were made or moved, with the commits at which they are now.
        tags: Tags that were made, likewise.
        commits: How many commits were copied; those of transactions and of merges.
        objects: How many objects were sent for them.
        bytes: And of how many bytes.
        reservations: How many names and numbers were reserved there.
        merges: What came of branches that had gone on in both lakes.
    """

    url: str
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    commits: int = 0
    objects: int = 0
    bytes: int = 0
    reservations: int = 0
    merges: tuple[Merge, ...] = ()


@dataclass(frozen=True, slots=True)
class _Refs:
    """What is going to become of refs of the target.

    Attributes:
        heads: By branch that has to move or be made: the source's commit.
        before: Where those branches are in the target; those that are to be made have none.
        tags: By tag that has to be made: the source's commit.
        diverged: By branch that went on in both lakes: the source's commit.
    """

    heads: Mapping[str, str]
    before: Mapping[str, str]
    tags: Mapping[str, str]
    diverged: Mapping[str, str]


class Moving:
    """The service for moving between lakes."""

    def __init__(self, context: Context, merges: Merges) -> None:
        self._context = context
        self._merges = merges

    def push(self, url: str, branches: Collection[str] | None, *, storage_namespace: str | None, tell: Tell) -> Moved:
        """Bring what this lake has to another; see `Registry.push`."""
        self._context.check_real("push")
        here = self._context.lake
        # Before the other lake is made: it is not to be left behind where this is refused.
        marker.check(here)
        _check_names(here, *_chosen(here, branches, None))
        with _opened(url, self._context.lake, make=True, storage_namespace=storage_namespace) as there:
            fresh = _check_related(self._context.lake, there)
            chosen = _chosen(self._context.lake, branches, there if fresh else None)
            return self._move(there, self._context.lake, there, chosen, fresh=fresh, tell=tell, settle=None)

    def pull(self, url: str, branches: Collection[str] | None, *, settle: Mapping[str, Any], tell: Tell) -> Moved:
        """Bring what another lake has to this one; see `Registry.pull_from`."""
        self._context.check_real("pull-from")
        here = self._context.lake
        with _opened(url, here, make=False, storage_namespace=None) as there:
            fresh = _check_related(there, here)
            chosen = _chosen(there, branches, here if fresh else None)
            return self._move(there, there, here, chosen, fresh=fresh, tell=tell, settle=settle)

    def _move(
        self,
        there: Lake,
        source: Lake,
        target: Lake,
        chosen: tuple[dict[str, str], dict[str, str]],
        *,
        fresh: bool,
        tell: Tell,
        settle: Mapping[str, Any] | None,
    ) -> Moved:
        """Copy commits and move refs; everything that can be refused is, before anything is written."""
        sent, made = Sent(), dict[str, str]()
        for attempt in range(_ATTEMPTS):
            try:
                return self._try(there, source, target, chosen, made, sent, fresh=fresh, tell=tell, settle=settle)
            except RaceLostError:
                if attempt + 1 == _ATTEMPTS:
                    raise
                fresh = _check_related(source, target)
        raise AssertionError

    def _try(
        self,
        there: Lake,
        source: Lake,
        target: Lake,
        chosen: tuple[dict[str, str], dict[str, str]],
        made: dict[str, str],
        sent: Sent,
        *,
        fresh: bool,
        tell: Tell,
        settle: Mapping[str, Any] | None,
    ) -> Moved:
        _check_names(source, *chosen)
        branches, tags = ({name: refs.settled(source, commit) for name, commit in each.items()} for each in chosen)
        folds = Folds(there)
        try:
            here = self._context.lake
            missing_there, missing_here = clashes.check((here, self._context.folds), (there, folds))
        finally:
            folds.close()
        # From here on nothing that is known to be there may be collected.
        with target.importing() as importer:
            known = Known.of(target)
            found = plan(source, known, [*branches.values(), *tags.values()])
            new = [head for head in found.heads if head not in found.ids]
            wanted = _decide(target, found, branches, tags, fresh=fresh)
            if wanted.diverged and settle is None:
                raise _diverged(there, wanted.diverged)
            reservations = missing_there if target is there else missing_here
            _reserve(target, reservations)
            if target is there:
                # What is cut there is cut here too, or the next number here would mean another thing.
                with suppress(HeadwaterError):
                    here.reserve(missing_here)
            send(source, importer, found, tell, sent)
            # What rows name is read off the lake at hand, whichever way it goes.
            rows = [found.ids[head] if target is here else head for head in new]
            named = plan_named(source, known, found, self._named(source, rows))
            send(source, importer, named, tell, sent)
            _pin(target, [named.ids[head] for head in named.heads])
            merges = self._rehearse(there, found, wanted, settle or {})
            _move_branches(target, found, wanted, made, fresh=fresh)
            merged = tuple(merge() for merge in merges)
            made.update({merge.target: target.head(merge.target) for merge in merged})
            tagged = _make_tags(target, found, wanted)
        return Moved(there.url, made, tagged, sent.commits, sent.objects, sent.bytes, len(reservations), merged)

    def _named(self, source: Lake, heads: Collection[str]) -> set[str]:
        """Return the commits that datasets are read at by commits of this lake, by the IDs they have in the source."""
        names: set[str] = set()
        for head in heads:
            with self._context.folds.at(head) as fold:
                rows = fold.rows("SELECT DISTINCT json_extract(row, '$.data_commit') FROM datasets")
            names.update(str(name) for (name,) in rows if name is not None)
        return {refs.locate(source, name) for name in names}

    def _rehearse(
        self, there: Lake, found: Plan, wanted: _Refs, settle: Mapping[str, Any]
    ) -> list[Callable[[], Merge]]:
        """Return what merges the branches that went on in both lakes, after trying each without writing.

        Raises:
            MergeConflictError: There is something to settle that `settle` does not.
            GateFailedError: Gates here refuse what was decided there, or data.
            PermissionDeniedError: Who merges may not decide it here.
        """

        def merge(name: str, *, dry_run: bool) -> Merge:
            found_there = found.ids[wanted.diverged[name]]
            called = f"{name} of {_short(there.url)}"
            return self._merges.merge(found_there, name, **settle, dry_run=dry_run, called=called)

        for name in wanted.diverged:
            tried = merge(name, dry_run=True)
            open_ones = [each for each in tried.conflicts if each.name not in tried.settled]
            if open_ones:
                raise MergeConflictError(open_ones, tried.source, name)
            tried.check()
        return [functools.partial(merge, name, dry_run=False) for name in wanted.diverged]


def _short(url: str) -> str:
    """Return what a lake is called in a history that others will read: of a folder, not where it lies."""
    if "://" in url:
        return url
    parts = [part for part in os.path.abspath(url).split(os.sep) if part]
    return parts[-3] if parts[-2:] == [".headwater", "lake"] and len(parts) > 2 else parts[-1]


# -- the other lake ---------------------------------------------------------------------------------------------------
@contextmanager
def _opened(url: str, here: Lake, *, make: bool, storage_namespace: str | None) -> Iterator[Lake]:
    """Open the other lake; one that is to receive is made, if it can be.

    Raises:
        InvalidInputError: It is this lake.
    """
    if not check_text(url, "URL").strip():
        raise InvalidInputError("the URL of the other lake is empty", hint="give a folder, or lakefs://host/repository")
    url = config.followed(url)
    if lakes.is_same(url, here.url):
        raise InvalidInputError(f"{shown(url)} is this lake itself", hint="name another one")
    if make and (storage_namespace is not None or lakes.can_be_made(url)):
        lake = lakes.create(url, storage_namespace=storage_namespace)
    else:
        try:
            lake = lakes.connect(url)
        except NotFoundError as error:
            hint = "give a --storage-namespace, as s3://bucket/folder, and it is made" if make else "check the URL"
            raise NotFoundError(error.message, hint=hint) from error
    try:
        yield lake
    finally:
        lake.close()


def _check_related(source: Lake, target: Lake) -> bool:
    """Return whether the target is new, and so becomes a copy of the source.

    Raises:
        LakeError: The lakes are no copies of one registry, or one of them is no registry.
    """
    marker.check(source)
    ours, theirs = _id_of(source), _id_of(target)
    fresh = _is_fresh(target)
    if theirs is None and not fresh:
        raise LakeError(
            f"{target.url} holds something, and is not a Headwater registry", hint="choose an empty repository"
        )
    if theirs is not None:
        marker.check(target)
    if ours != theirs and not fresh:
        raise LakeError(
            f"{source.url} and {target.url} are not related: neither began as a copy of the other",
            hint="push to an empty lake, or pull into one that `headwater init` has just made",
        )
    return fresh


def _id_of(lake: Lake) -> str | None:
    body = marker.found(lake)
    if body is None:
        return None
    try:
        return str(json.loads(body)["lake"])
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{marker.MARKER} of {lake.url} is not what was written") from None


def _is_fresh(lake: Lake) -> bool:
    """Return whether nothing has happened in a lake but that it was made."""
    if lake.tags() or set(lake.branches()) != {lake.default_branch}:
        return False
    count = 0
    for count, commit in enumerate(lake.log(lake.head(lake.default_branch)), 1):
        if count > _FEW or (TX in commit.metadata and commit.metadata.get(KIND) != "init"):
            return False
    return count == 1 or marker.found(lake) is not None


def _chosen(
    source: Lake, branches: Collection[str] | None, fresh: Lake | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the heads of the chosen branches, and the tags: all of them, or none where branches are named.

    Args:
        source: The lake that sends.
        branches: Their names; None for all.
        fresh: The lake that receives, if it is new: its default branch has to come along.

    Raises:
        NotFoundError: There is no such branch.
        InvalidInputError: The lakes have different default branches, and one is new.
    """
    heads = source.branches()
    if fresh is not None and fresh.default_branch != source.default_branch:
        raise InvalidInputError(
            f"the default branch of {fresh.url} is {fresh.default_branch!r}, and of {source.url}"
            f" {source.default_branch!r}",
            hint=f"use a repository whose default branch is {source.default_branch!r}",
        )
    if branches is None:
        return heads, source.tags()
    for name in branches:
        if name not in heads:
            raise NotFoundError(
                f"there is no branch {shown(name)} in {source.url}", hint="`headwater branch` lists them"
            )
    named = {source.default_branch, *branches} if fresh is not None else set(branches)
    return {name: head for name, head in heads.items() if name in named}, {}


def _check_names(source: Lake, branches: Collection[str], tags: Collection[str]) -> None:
    """Refuse names that no branch or tag may have, before they are written anywhere.

    Raises:
        IntegrityError: A lake has such names; all are told.
    """
    bad = []
    for what, check, names in (("branch", check_branch, branches), ("tag", check_tag, tags)):
        for name in sorted(names):
            try:
                check(name)
            except InvalidInputError:
                bad.append(f"{what} {shown(name)}")
    if bad:
        raise IntegrityError(
            f"{source.url} has names that Headwater gives to nothing: {', '.join(bad)}",
            hint="somebody else made them: delete them there, or name the branches that are wanted with --branch",
        )


# -- deciding ---------------------------------------------------------------------------------------------------------
def _decide(target: Lake, found: Plan, branches: Mapping[str, str], tags: Mapping[str, str], *, fresh: bool) -> _Refs:
    """Return which refs have to be made or moved.

    Raises:
        ConflictError: A tag is elsewhere in the target, or a branch's name is a tag's there, or the other way round.
    """
    there, tagged = target.branches(), target.tags()
    both = sorted((branches.keys() & tagged.keys()) | (tags.keys() & there.keys()))
    if both:
        raise ConflictError(
            f"a branch in one lake and a tag in the other have one name: {', '.join(both)}",
            hint="delete one of the two, or push with --branch",
        )
    elsewhere = sorted(
        name for name in tags.keys() & tagged.keys() if found.ids.get(tags[name]) != refs.settled(target, tagged[name])
    )
    if elsewhere:
        raise ConflictError(
            f"tags at different commits in the two lakes: {', '.join(elsewhere)}",
            hint="delete them in one of the two: `headwater tag --delete NAME`",
        )
    heads, before, diverged = {}, {}, {}
    for name, head in branches.items():
        current = there.get(name)
        step = "forward" if current is None or fresh else _relation(target, found, head, refs.settled(target, current))
        if step == "forward":
            heads[name] = head
        elif step == "diverged":
            diverged[name] = head
        if current is not None:
            before[name] = current
    return _Refs(heads, before, {name: tags[name] for name in tags.keys() - tagged.keys()}, diverged)


def _relation(target: Lake, found: Plan, head: str, current: str) -> str:
    """Return how a branch of the target would have to move: `forward`, or not at all (`there`), or it can't."""
    image = found.ids.get(head)
    if image == current:
        return "there"
    for met in [image] if image is not None else sorted(found.met[head], key=lambda each: each != current):
        base = current if met == current else target.merge_base(current, met)
        if base == current:
            return "forward"
        if base == image:
            return "there"
    return "diverged"


def _diverged(there: Lake, names: Collection[str]) -> ConflictError:
    several = f"branches {', '.join(names)} have" if len(names) > 1 else f"branch {next(iter(names))} has"
    return ConflictError(
        f"{several} gone on both here and in {there.url}",
        hint=f"`headwater pull-from {there.url}` first, and push then",
    )


# -- doing ------------------------------------------------------------------------------------------------------------
def _reserve(target: Lake, wanted: Mapping[tuple[str, int], str]) -> None:
    taken = target.reserve(wanted) if wanted else {}
    if taken:
        names = ", ".join(f"{name} {number}" if number else name for name, number in sorted(taken))
        raise ConflictError(f"{names} was reserved in {target.url} at this moment", hint="try again")


def _pin(target: Lake, commits: Collection[str]) -> None:
    """Keep commits that rows name and no branch reaches."""
    for commit in commits:
        with suppress(AlreadyExistsError):
            target.create_branch(f"{PIN_PREFIX}{commit[:32]}", commit, hidden=True)


def _move_branches(target: Lake, found: Plan, wanted: _Refs, made: dict[str, str], *, fresh: bool) -> None:
    """Move and make branches: the default one first, because it says whose copy a new lake is."""
    for name in sorted(wanted.heads, key=lambda name: (name != target.default_branch, name)):
        commit = found.ids[wanted.heads[name]]
        before = wanted.before.get(name)
        if before is None:
            try:
                target.create_branch(name, commit)
            except AlreadyExistsError as error:
                raise RaceLostError(f"branch {name} was made in {target.url} meanwhile", hint="try again") from error
            made[name] = commit
        else:
            made[name] = target.move_branch(name, commit, expected=before, over=fresh)


def _make_tags(target: Lake, found: Plan, wanted: _Refs) -> dict[str, str]:
    made = {}
    for name, head in sorted(wanted.tags.items()):
        made[name] = found.ids[head]
        try:
            target.create_tag(name, made[name])
        except AlreadyExistsError as error:
            raise RaceLostError(f"tag {name} was made in {target.url} meanwhile", hint="try again") from error
    return made
