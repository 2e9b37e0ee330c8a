"""Commits of another lake on their way into a lakeFS repository, and moving a branch to them; decides nothing.

lakeFS makes a commit only on a branch and a merge only by merging, so commits are made again one by one on hidden
branches. There is one for each commit that no other made here descends from, so whatever was made is found again
after a crash. A merge is lakeFS's own where that comes to the same tree; where not, a commit on top of it does.

A branch is moved by merging into it, because merging is the one thing of lakeFS that looks where a branch is: a reset
does not, and would lose what lands at that moment. The merge has the tree of what was merged, and says so by its kind.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, cast

from headwater.errors import ConflictError, IntegrityError, NotFoundError, RaceLostError
from headwater.ids import new_id, now_micros
from headwater.lake.base import AT, IMPORT_PREFIX, MOVE, Commit, Incoming, Strategy, check_found
from headwater.lake.lakefs_client import Client

if TYPE_CHECKING:
    from headwater.lake.lakefs import LakeFS

__all__ = ["LakeFSImport", "move_branch"]

_SMALL = 1 << 20


class LakeFSImport:
    """Makes commits of another lake in a repository.

    Args:
        lake: The repository.
        client: Calls to its server.
    """

    def __init__(self, lake: LakeFS, client: Client) -> None:
        self._lake = lake
        self._client = client
        self._name = client.address.repository
        self._prefix = f"{IMPORT_PREFIX}{new_id()}"
        self._made = 0
        self._tips: dict[str, str] = {}
        self._free: list[str] = []

    def finish(self) -> None:
        """Delete the hidden branches: what was made is reached from elsewhere now, or is not wanted."""
        for name in [*self._free, *self._tips.values()]:
            with suppress(NotFoundError):
                self._lake.delete_branch(name)

    def commit(self, commit: Commit, changes: Mapping[str, Incoming | None], taken: Collection[str]) -> str:
        """Make a commit; see `headwater.lake.base.Importer`."""
        for path in (*changes, *taken):
            check_found(path)
        branch = self._branch_at(commit.parents[0])
        if len(commit.parents) == 1:
            self._stage(branch, changes)
            made = self._commit(branch, commit)
        else:
            made = self._merge(branch, commit, changes, taken)
        self._tips[made] = branch
        covered = self._tips.pop(commit.parents[1], None) if len(commit.parents) == 2 else None
        if covered is not None:
            self._free.append(covered)
        return made

    def _branch_at(self, commit: str) -> str:
        """Return a hidden branch at a commit, which is going to move on."""
        branch = self._tips.pop(commit, None)
        if branch is not None:
            return branch
        if self._free:
            branch = self._free.pop()
            _reset(self._client, branch, commit)
            return branch
        branch = f"{self._prefix}_{self._made}"
        self._made += 1
        self._lake.create_branch(branch, commit, hidden=True)
        return branch

    def _stage(self, branch: str, changes: Mapping[str, Incoming | None]) -> None:
        small: dict[str, bytes] = {}
        held = 0
        for path, incoming in changes.items():
            if incoming is None:
                continue
            with incoming.open() as stream:
                if incoming.size > _SMALL:
                    self._lake.put(branch, path, cast(BinaryIO, _Once(stream)))
                    continue
                small[path] = stream.read()
            held += incoming.size
            if held > 16 * _SMALL:
                self._lake.put_many(branch, small)
                small, held = {}, 0
        self._lake.put_many(branch, small)
        gone = [path for path, incoming in changes.items() if incoming is None]
        self._client.each(lambda path: self._lake.delete(branch, path), gone)

    def _commit(self, branch: str, commit: Commit) -> str:
        # No date of its own: the log of lakeFS goes by dates, and would have parents before their children (tried).
        wanted = {"message": commit.message, "metadata": dict(commit.metadata), "allow_empty": True}
        return self._client.run(
            f"commit on branch {branch!r}",
            lambda sdk: str(sdk.commits.commit(self._name, branch, wanted)["id"]),
            lands=True,
            missing=f"there is no branch {branch!r}",
        )

    def _merge(
        self, branch: str, commit: Commit, changes: Mapping[str, Incoming | None], taken: Collection[str]
    ) -> str:
        """Merge the second parent as lakeFS does; where that comes to another tree, set it right with a commit."""
        first, second = commit.parents
        strategies: tuple[Strategy, ...] = ("none", "ours")
        for strategy in strategies:
            try:
                made = self._lake.merge(second, branch, commit.message, commit.metadata, strategy=strategy)
                break
            except RaceLostError:  # both sides changed one path
                if strategy == "ours":
                    raise
        theirs = {each.path for each in self._lake.diff(second, made)}
        if not changes and not theirs:
            return made
        ours = {each.path for each in self._lake.diff(first, made)}
        as_first = ours - set(taken) - set(changes)
        as_second = theirs & set(taken)
        if not (as_first or as_second or changes):
            return made
        # the merge as lakeFS has it must not be taken for the one that is meant
        _reset(self._client, branch, first)
        kept = {key: value for key, value in commit.metadata.items() if key in (AT, "headwater.actor")}
        self._lake.merge(second, branch, "refresh", {**kept, "headwater.kind": "refresh"}, strategy=strategy)
        self._stage(branch, {**self._as_at(first, as_first), **self._as_at(second, as_second), **changes})
        return self._commit(branch, commit)

    def _as_at(self, commit: str, paths: Collection[str]) -> dict[str, Incoming | None]:
        found: dict[str, Incoming | None] = {}
        for path in paths:
            try:
                size = self._lake.stat(commit, path).size
            except NotFoundError:
                found[path] = None
                continue
            found[path] = Incoming(size, lambda path=path: self._lake.open(commit, path))  # type: ignore[misc]
        return found


class _Once(io.RawIOBase):
    """A stream that says that it can't go back, so that it is sent as it is read and not measured first."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._stream.read(size)


def _reset(client: Client, branch: str, commit: str) -> None:
    name = client.address.repository
    client.run(
        f"move branch {branch!r}",
        lambda sdk: sdk.experimental.hard_reset_branch(name, branch, commit),
        missing=f"there is no branch {branch!r}, or no commit {commit!r}",
    )


# -- moving a branch --------------------------------------------------------------------------------------------------
def move_branch(lake: LakeFS, branch: str, commit: str, expected: str, *, over: bool) -> str:
    """Merge a commit into a branch that is where it was expected, so that nothing is lost that lands meanwhile.

    Raises:
        RaceLostError: It has moved, or another writer changed the same objects at this moment.
        ConflictError: The branch has what the commit lacks, or something is staged on it.
        IntegrityError: The merge is not what was merged.
    """
    if lake.head(branch) != expected:
        raise RaceLostError(f"branch {branch!r} has moved meanwhile", hint="try again")
    if commit == expected:
        return commit
    lake.get_commit(commit)
    base = lake.merge_base(expected, commit)
    source = commit
    # Where the branch has the tree of what both descend from, a merge comes to the tree of what is merged.
    if base != expected and not _is_same(lake, base, expected):
        if not over:
            raise ConflictError(f"branch {branch!r} has what {commit!r} lacks", hint="merge them")
        source = _cover(lake, commit, expected)
    try:
        made = lake.merge(source, branch, f"move {branch}", _moves())
    except ConflictError as error:
        if lake.head(branch) != expected:  # another process has brought it there
            raise RaceLostError(f"branch {branch!r} has moved meanwhile", hint="try again") from error
        raise
    # Where another writer landed between the look and the merge, there is more in it, and no loss.
    if lake.get_commit(made).parents[0] == expected and not _is_same(lake, commit, made):
        raise IntegrityError(f"merge {made!r} is not what was merged, {commit!r}", hint="check the server")
    return made


def _cover(lake: LakeFS, commit: str, old: str) -> str:
    """Return a commit that descends from both and has the tree of the first."""
    name = f"{IMPORT_PREFIX}{new_id()}_0"
    lake.create_branch(name, old, hidden=True)
    try:
        lone = [each.path for each in lake.diff(commit, old) if each.kind == "added"]
        if lone:
            lake.delete_many(name, lone)
            lake.commit(name, "make room", _moves())
        return lake.merge(commit, name, "move over", _moves(), strategy="theirs")
    finally:
        lake.delete_branch(name)


def _moves() -> dict[str, str]:
    return {"headwater.kind": MOVE, AT: str(now_micros())}


def _is_same(lake: LakeFS, left: str, right: str) -> bool:
    return next(iter(lake.diff(left, right)), None) is None
