"""Branches and tags of a lake: made, listed with what is on them, deleted; knows commits and no rows of any table."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from headwater.ancestry import Standing, standing
from headwater.context import Context
from headwater.errors import ConflictError, HeadwaterError, InvalidInputError, NotFoundError
from headwater.fold import ACTOR, KIND, SUBJECT, TX
from headwater.ids import from_micros, new_id
from headwater.lake import refs
from headwater.lake.base import HIDDEN_PREFIX, REHEARSAL_PREFIX, Commit, Lake
from headwater.names import check_branch, check_tag, shown
from headwater.state import Fold
from headwater.withdrawn import told, withdrawn

__all__ = ["Branch", "Branches", "Tag", "contents", "words"]

_NOUNS = {
    "register": ("version", "versions"),
    "run": ("run", "runs"),
    "data": ("dataset version", "dataset versions"),
    "deploy": ("deployment", "deployments"),
    "alias": ("alias", "aliases"),
    "stage": ("stage", "stages"),
    "log-predictions": ("batch of predictions", "batches of predictions"),
    "log-outcomes": ("batch of outcomes", "batches of outcomes"),
}
_BATCHES = frozenset({"log-predictions", "log-outcomes"})
_OTHER = "change"


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch, as it stands to the lake's default branch.

    Attributes:
        name: Its name.
        commit: The commit that it points at.
        current: Whether it is the one that is worked on.
        recorded_at: When that commit was made.
        actor: Who made it.
        ahead: How many transactions it has that the default branch lacks. Merges are not counted.
        behind: How many the default branch has that it lacks.
        contents: What those are that only it has: how many of each kind, such as `{"version": 2, "run": 1}`.
        reverted_by: Commits of the default branch that undid what merges of it had brought; undoing them brings it
            back.
    """

    name: str
    commit: str
    current: bool
    recorded_at: datetime
    actor: str
    ahead: int
    behind: int
    contents: Mapping[str, int]
    reverted_by: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What one has to know of it, in words."""
        return tuple(told(self.name, self.reverted_by))


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag: its name, the commit that it names, when that was made and by whom, and what happened in it."""

    name: str
    commit: str
    recorded_at: datetime
    actor: str
    message: str


class Branches:
    """The service for branches and tags.

    Args:
        context: What to work with; its branch is the current one.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- branches -----------------------------------------------------------------------------------------------
    def list(self) -> builtins.list[Branch]:
        """Return every branch, by name."""
        lake = self._context.lake
        with self._context.folds.at_head(lake.default_branch) as fold:
            return [self._branch(fold, name, head) for name, head in lake.branches().items()]

    def _branch(self, fold: Fold, name: str, head: str) -> Branch:
        stands = standing(self._context.lake, fold, head)
        micros, actor, _ = _told(self._context.lake, fold, head)
        return Branch(
            name=name,
            commit=head,
            current=self._context.commit is None and name == self._context.branch,
            recorded_at=from_micros(micros),
            actor=actor,
            ahead=len(stands.ahead),
            behind=stands.behind,
            contents=contents(stands.ahead),
            reverted_by=withdrawn(fold, stands),
        )

    def create(self, name: str, source: str | None) -> None:
        """Make a branch of everything at a ref, by default at what is read."""
        check_branch(name)
        self._context.check_real("branch")
        self._context.lake.create_branch(name, self._commit(source))

    def _commit(self, ref: str | None) -> str:
        """Return the commit of a ref, by default that which is read."""
        it = self._context
        if ref is not None:
            return it.folds.resolve(ref).commit
        return it.commit or it.lake.head(it.branch)

    def delete(self, name: str, *, force: bool) -> Branch:
        """Delete a branch. See `Registry.delete_branch`."""
        it = self._context
        it.check_real("branch")
        lake = it.lake
        head = refs.head(lake, name)
        if name.startswith(HIDDEN_PREFIX):
            raise NotFoundError(f"there is no branch {shown(name)}", hint="`headwater branch` lists them")
        if name == lake.default_branch:
            raise InvalidInputError(f"{name!r} is the lake's default branch, which stays", hint="delete another one")
        if name == it.branch and it.commit is None:
            raise ConflictError(
                f"branch {name!r} is the current one", hint=f"`headwater switch {lake.default_branch}` first"
            )
        with lake.exclusive():
            head = lake.head(name)
            with it.folds.at_head(lake.default_branch) as fold:
                found = self._branch(fold, name, head)
            if found.ahead and not force and self._lacks(head):
                raise ConflictError(
                    f"branch {name!r} has what {lake.default_branch!r} lacks: {words(found.contents)}",
                    hint=f"`headwater merge {name}` brings it over; --force deletes it all the same",
                )
            if found.reverted_by and not force and self._lacks(head):
                raise ConflictError(
                    f"branch {name!r} has what {lake.default_branch!r} shows no more: {found.notes[0].split(';')[0]}",
                    hint=f"{found.notes[0].split('; ')[1]}; --force deletes the branch all the same",
                )
            lake.delete_branch(name)
        it.folds.forget(name)
        return found

    def _lacks(self, head: str) -> bool:
        """Return whether what is worked on lacks something of a commit, as it may be where a branch was merged."""
        if self._context.branch == self._context.lake.default_branch or self._context.commit is not None:
            return True
        with self._context.reading() as fold:
            stands = standing(self._context.lake, fold, head)
            return bool(stands.ahead or withdrawn(fold, stands))

    def begin_rehearsal(self) -> str:
        """Make a hidden branch of what is read, which other processes can work on too, and return its name."""
        name = f"{REHEARSAL_PREFIX}{new_id()}"
        self._context.lake.create_branch(name, self._commit(None), hidden=True, lasting=True)
        return name

    def end_rehearsal(self, name: str) -> None:
        """Throw a rehearsal's branch away; one that can't be now is swept when it is a week old."""
        with suppress(HeadwaterError):
            self._context.lake.delete_branch(name)
        self._context.folds.forget(name)

    def standing(self) -> Standing | None:
        """Return how what is read stands to the default branch; None if that is what is read."""
        it = self._context
        default = it.lake.default_branch
        if it.commit is None and it.branch == default:
            return None
        commit = it.commit or it.lake.head(it.branch)
        with it.folds.at_head(default) as fold:
            return standing(it.lake, fold, commit)

    # -- tags ---------------------------------------------------------------------------------------------------
    def tags(self) -> builtins.list[Tag]:
        """Return every tag, by name."""
        lake = self._context.lake
        with self._context.folds.at_head(lake.default_branch) as fold:
            return [self._tag(fold, name, commit) for name, commit in lake.tags().items()]

    def _tag(self, fold: Fold, name: str, commit: str) -> Tag:
        micros, actor, message = _told(self._context.lake, fold, commit)
        return Tag(name, commit, from_micros(micros), actor, message)

    def create_tag(self, name: str, ref: str | None) -> Tag:
        """Make a tag of a ref, by default of what is read."""
        check_tag(name)
        self._context.check_real("tag")
        lake, commit = self._context.lake, self._commit(ref)
        lake.create_tag(name, commit)
        made = lake.get_commit(commit)
        return Tag(name, commit, from_micros(made.micros), made.metadata.get(ACTOR, ""), made.message)

    def delete_tag(self, name: str) -> str:
        """Delete a tag and return the commit that it named."""
        self._context.check_real("tag")
        lake = self._context.lake
        tags = lake.tags()
        if name not in tags:
            hint = "`headwater tag` lists them"
            if refs.is_branch(lake, name):
                hint = f"it is a branch: `headwater branch --delete {name}`"
            raise NotFoundError(f"there is no tag {shown(name)}", hint=hint)
        lake.delete_tag(name)
        return tags[name]


def _told(lake: Lake, fold: Fold, commit: str) -> tuple[int, str, str]:
    """Return when a commit was made, by whom, and what its message says."""
    row = fold.one("SELECT micros, actor, message FROM commits WHERE id = ?", commit)
    if row is not None:
        return row[0], row[1] or "", row[2]
    found = lake.get_commit(commit)
    return found.micros, found.metadata.get(ACTOR, ""), found.message


def contents(commits: Sequence[Commit]) -> dict[str, int]:
    """Return how many things of each kind some transactions are about; one that several are about is one."""
    found: dict[str, set[str]] = {}
    for commit in commits:
        kind = commit.metadata.get(KIND, "")
        about = commit.metadata.get(SUBJECT) or commit.metadata.get(TX, commit.id)
        if kind in _BATCHES:
            about = commit.id
        if kind in _NOUNS:
            found.setdefault(_NOUNS[kind][0], set()).add(about)
        else:
            found.setdefault(_OTHER, set()).add(commit.id)
    order = [one for one, _ in _NOUNS.values()]
    return {noun: len(found[noun]) for noun in [*order, _OTHER] if noun in found}


def words(counts: Mapping[str, int]) -> str:
    """Return what `contents` gave as people say it, such as `2 versions, 1 run`."""
    plurals = dict(_NOUNS.values())
    return ", ".join(f"{n:,} {noun if n == 1 else plurals.get(noun, noun + 's')}" for noun, n in counts.items())
